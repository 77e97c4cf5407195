"""
``envprov`` without its start: a process that has loaded everything divides in two for each call.

What is called has a process of its own, with arguments, folder, variables and an exit code. Only the loading of its
modules, which is most of what a short call costs, is not repeated.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

LONGEST = 1 << 17
"""Bytes of a question: arguments and variables."""
PATIENCE_SECONDS = 120
_busy = threading.Lock()

Ended = subprocess.CompletedProcess[str]


def call(program: Path, arguments: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Ended:
    """
    Call ``envprov ARGUMENTS`` and wait for its end.

    Args:
        program: What is called if several are called at once: the real one.
        arguments: Its arguments.
        folder: The current folder.
        variables: All variables.

    """
    command = [str(program), *arguments]
    if not _busy.acquire(blocking=False):
        return subprocess.run(
            command,
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    try:
        code, out, err = _ask(command, folder, variables)
    finally:
        _busy.release()
    return subprocess.CompletedProcess(command, code, out, err)


def _ask(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> tuple[int, str, str]:
    link = _server()
    asked = {"command": command, "folder": str(folder), "variables": dict(variables)}
    with (
        Path(os.devnull).open("rb") as nothing,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        streams = (nothing, out, err)
        socket.send_fds(link, [json.dumps(asked).encode()], [stream.fileno() for stream in streams])
        try:
            code = int(link.recv(LONGEST))
        except TimeoutError:
            _end()
            raise
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


@cache
def _server() -> socket.socket:
    """Start who divides; it ends when the tests do."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parents[3])},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    ours.settimeout(PATIENCE_SECONDS)

    def end() -> None:
        ours.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        _server.cache_clear()

    _ends.append(end)
    return ours


_ends: list[Any] = []


@atexit.register
def _end() -> None:
    while _ends:
        _ends.pop()()


def _serve(link: socket.socket) -> None:
    """Load everything, and become two for each question."""
    import envprov  # noqa: PLC0415 - who asks has no need of it

    for module in pkgutil.walk_packages(envprov.__path__, "envprov."):
        import_module(module.name)
    gc.freeze()
    while True:
        asked, streams, _, _ = socket.recv_fds(link, LONGEST, 3)
        if not asked:
            return
        child = os.fork()
        if not child:
            link.close()
            _become(json.loads(asked), streams)
        for stream in streams:
            os.close(stream)
        link.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _become(asked: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be what is called, to its end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["variables"])
    tempfile.tempdir = None
    sys.argv = list(asked["command"])
    code: object = 1
    try:
        import_module("envprov.cli.main").main()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
