"""How answers are read: within a time and a size, whole or not at all."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from envprov.domain.errors import ForgeUnreliable, Invalid, Unavailable

PAGE_LIMIT_BYTES = 8 << 20
CHUNK_BYTES = 64 << 10

_GZIP = 16 + zlib.MAX_WBITS


class Clock:
    """
    The time that one request has, and whether anybody still waits for it.

    Args:
        seconds: From now.

    Attributes:
        stopped: Set when nobody does.

    """

    def __init__(self, seconds: float) -> None:
        self.stopped = threading.Event()
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """
        Seconds that are left.

        Raises:
            TimeoutError: There are none.

        """
        left = self._end - time.monotonic()
        if left <= 0 or self.stopped.is_set():
            raise TimeoutError
        return left


def read(doing: str, response: requests.Response, clock: Clock, limit_bytes: int | None = None) -> bytes:
    """
    Read a body.

    Args:
        doing: For messages.
        response: Not read yet.
        clock: When to stop.
        limit_bytes: Greatest size of a file; None is that of any other answer.

    Raises:
        Invalid: The file is larger.
        ForgeUnreliable: The answer is.

    """
    body = bytearray()
    for chunk in _chunks(response, clock):
        body += chunk
        if len(body) > (PAGE_LIMIT_BYTES if limit_bytes is None else limit_bytes):
            raise _too_large(doing, limit_bytes)
    return bytes(body)


def store(doing: str, response: requests.Response, clock: Clock, target: Path, limit_bytes: int) -> None:
    """
    Write a body that is a gzip file to a file; a part of one is never left behind.

    Args:
        doing: For messages.
        response: Not read yet.
        clock: When to stop.
        target: The file.
        limit_bytes: Greatest size, packed.

    Raises:
        Invalid: It is larger.
        ForgeUnreliable: It is no gzip file, or breaks off.
        Unavailable: The file cannot be written.

    """
    try:
        with _written(doing, target) as write:
            _copy(doing, _chunks(response, clock), write, limit_bytes)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _chunks(response: requests.Response, clock: Clock) -> Iterator[bytes]:
    # What the socket has, not what was asked for: a drop at a time would go on for ever.
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
        yield chunk
        clock.left()


@contextmanager
def _written(doing: str, target: Path) -> Iterator[Callable[[bytes], object]]:
    """Yield what writes to a file; a full disk is no fault of the network."""

    def local(error: OSError) -> Unavailable:
        return Unavailable(f"{doing}: cannot write {target}: {error.strerror}")

    try:
        file = target.open("wb")
    except OSError as error:
        raise local(error) from error

    def write(chunk: bytes) -> None:
        try:
            file.write(chunk)
            file.flush()
        except OSError as error:
            raise local(error) from error

    try:
        yield write
    finally:
        with suppress(OSError):
            file.close()


def _copy(doing: str, chunks: Iterator[bytes], write: Callable[[bytes], object], limit_bytes: int) -> None:
    # GitLab answers 200 before it packs, and ends as if all were well when packing fails.
    unpacking, size = zlib.decompressobj(_GZIP), 0
    try:
        for chunk in chunks:
            size += len(chunk)
            if size > limit_bytes:
                raise _too_large(doing, limit_bytes)
            write(chunk)
            rest = chunk
            while rest and not unpacking.eof:
                unpacking.decompress(rest, CHUNK_BYTES)
                rest = unpacking.unconsumed_tail
    except zlib.error as error:
        raise ForgeUnreliable(f"{doing}: the answer is no gzip file") from error
    if not unpacking.eof:
        raise ForgeUnreliable(f"{doing}: the archive breaks off after {size} bytes")


def _too_large(doing: str, limit_bytes: int | None) -> Invalid | ForgeUnreliable:
    if limit_bytes is not None:
        return Invalid(f"{doing}: larger than {limit_bytes} bytes")
    return ForgeUnreliable(f"{doing}: the answer is larger than {PAGE_LIMIT_BYTES} bytes")
