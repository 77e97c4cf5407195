"""One child process with limits: on its time, on its output, and on how it is ended."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

STDOUT_LIMIT_BYTES = 16 * 1024 * 1024
STDERR_LIMIT_BYTES = 256 * 1024
_CHUNK_BYTES = 64 * 1024
_LAST_OUTPUT_SECONDS = 1.0


@dataclass(frozen=True)
class Limits:
    """
    What a child may use.

    Attributes:
        time: From its start to its end.
        grace: From SIGTERM, on cancellation or when a limit is exceeded, to SIGKILL.

    """

    time: timedelta
    grace: timedelta


@dataclass(frozen=True)
class Finished:
    """A child that ended by itself."""

    code: int
    stdout: bytes
    stderr: bytes


class OutputTooLarge(Exception):
    """The child wrote more than its limit to a stream, and was ended."""

    def __init__(self, stream: str, limit_bytes: int) -> None:
        super().__init__(f"more than {limit_bytes // 1024} KiB on {stream}")


async def run(argv: Sequence[str], stdin: bytes, environment: Mapping[str, str], limits: Limits) -> Finished:
    """
    Run a program, without a shell, in a session of its own.

    However this returns or raises, the child has ended. A cancelled caller waits until it has, for the grace at most.

    Args:
        argv: Program and arguments. Everybody on the computer can read them: no values, no tokens.
        stdin: What it reads.
        environment: All of its environment.
        limits: Its limits.

    Raises:
        FileNotFoundError: There is no such program.
        PermissionError: It may not be run.
        TimeoutError: It took too long.
        OutputTooLarge: It wrote too much.

    """
    # Cancelled right here, asyncio kills the child at once; it has not got as far as to write anything then.
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True
    )
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise TypeError("a child started with pipes has none")
    streams = (
        asyncio.ensure_future(_read(process.stdout, "stdout", STDOUT_LIMIT_BYTES)),
        asyncio.ensure_future(_read(process.stderr, "stderr", STDERR_LIMIT_BYTES)),
    )
    feeding = asyncio.ensure_future(_feed(process.stdin, stdin))
    try:
        async with asyncio.timeout(limits.time.total_seconds()):
            stdout, stderr = await asyncio.gather(*streams)
            await feeding
            return Finished(await process.wait(), stdout, stderr)
    except BaseException:
        await _finish(asyncio.ensure_future(_end(process, limits.grace, (*streams, feeding))))
        raise


async def _feed(stream: asyncio.StreamWriter, content: bytes) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):  # it ended without reading; its exit code tells why
        stream.write(content)
        await stream.drain()
    stream.close()


async def _read(stream: asyncio.StreamReader, name: str, limit_bytes: int) -> bytes:
    content = bytearray()
    while chunk := await stream.read(_CHUNK_BYTES):
        content += chunk
        if len(content) > limit_bytes:
            raise OutputTooLarge(name, limit_bytes)
    return bytes(content)


async def _end(process: Process, grace: timedelta, tasks: Iterable[asyncio.Future[Any]]) -> None:
    """SIGTERM, on which Helm marks the release failed; SIGKILL only when the grace is over."""
    _signal(process, signal.SIGTERM)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    drains = [asyncio.ensure_future(_discard(stream)) for stream in (process.stdout, process.stderr) if stream]
    try:
        async with asyncio.timeout(grace.total_seconds()):
            await process.wait()
    except TimeoutError:
        _signal(process, signal.SIGKILL)
        await process.wait()
    await asyncio.wait(drains, timeout=_LAST_OUTPUT_SECONDS)
    for drain in drains:
        drain.cancel()


async def _discard(stream: asyncio.StreamReader) -> None:
    """Keep a pipe empty: a child that blocks on a full one, or writes to a closed one, cannot end in order."""
    while await stream.read(_CHUNK_BYTES):
        pass


async def _finish(ending: asyncio.Future[None]) -> None:
    """Wait for the end of a child through any number of cancellations; its own grace bounds it."""
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError as cancellation:
            cancelled = cancellation
    if cancelled is not None:
        raise cancelled


def _signal(process: Process, number: signal.Signals) -> None:
    """To the child and to whatever it has started; not after it was reaped, when its number may be another's."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
