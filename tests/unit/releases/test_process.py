"""A child process is bounded in time and output, and is ended in order."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from envprov.releases import process
from envprov.releases.process import Finished, Limits, OutputTooLarge, run
from tests.eventually import eventually_async

PATIENT = Limits(time=timedelta(seconds=20), grace=timedelta(seconds=20))


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-E", "-c", code]


ORDERLY = """
import os, signal, sys, time
def leave(*_):
    print("x" * 300_000, flush=True)  # more than a pipe holds: somebody must go on reading
    open(sys.argv[1], "a").write("ended in order")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open(sys.argv[1], "w").write(f"{os.getpid()} ")
while True: time.sleep(60)
"""
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: open(sys.argv[1], "a").write("told "))
open(sys.argv[1], "w").write(f"{os.getpid()} ")
while True: time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_child_gets_its_input_and_environment_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITLAB_TOKEN", "s3cret")
    code = (
        "import os, sys; print(sys.stdin.read(), sorted(os.environ.keys() - {'LC_CTYPE'}), os.getsid(0) == os.getpid())"
    )

    ended = asyncio.run(run(python(code), b"values", {"ONLY": "this"}, PATIENT))

    assert ended == Finished(0, b"values ['ONLY'] True\n", b"")


def test_a_child_that_fails_is_reported_and_not_raised() -> None:
    ended = asyncio.run(run(python("import sys; sys.exit('no')"), b"", {}, PATIENT))

    assert ended == Finished(1, b"", b"no\n")


def test_a_child_that_does_not_read_its_input_is_no_error() -> None:
    assert asyncio.run(run(python("pass"), b"x" * 1_000_000, {}, PATIENT)).code == 0


def test_a_program_that_is_missing_is_an_error_of_the_system() -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(run(["/nowhere/helm"], b"", {}, PATIENT))


def test_a_child_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    with pytest.raises(TimeoutError):
        asyncio.run(run([*python(ORDERLY), str(mark)], b"", {}, Limits(timedelta(seconds=1), timedelta(seconds=20))))

    pid, last_words = mark.read_text().split(" ", 1)
    assert last_words == "ended in order"
    assert not is_alive(int(pid))


def test_a_child_that_does_not_obey_is_killed_after_the_grace(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    with pytest.raises(TimeoutError):
        asyncio.run(
            run([*python(STUBBORN), str(mark)], b"", {}, Limits(timedelta(seconds=1), timedelta(milliseconds=200)))
        )

    assert not is_alive(int(mark.read_text().split()[0]))


@pytest.mark.parametrize("times", [1, 3])
def test_cancelled_it_waits_until_the_child_has_ended_in_order(tmp_path: Path, times: int) -> None:
    mark = tmp_path / "mark"

    async def scenario() -> None:
        task = asyncio.create_task(run([*python(ORDERLY), str(mark)], b"", {}, PATIENT))
        await eventually_async(lambda: _says(mark, " "))
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    pid, last_words = mark.read_text().split(" ", 1)
    assert last_words == "ended in order"
    assert not is_alive(int(pid))


def test_a_cancellation_while_a_late_child_ends_is_not_lost(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async def scenario() -> None:
        limits = Limits(timedelta(seconds=1), timedelta(seconds=2))
        task = asyncio.create_task(run([*python(STUBBORN), str(mark)], b"", {}, limits))
        await eventually_async(lambda: _says(mark, "told "))  # the time is over, the grace is not
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    assert not is_alive(int(mark.read_text().split()[0]))


@pytest.mark.parametrize(("stream", "limit"), [("stdout", "STDOUT_LIMIT_BYTES"), ("stderr", "STDERR_LIMIT_BYTES")])
def test_a_child_that_writes_too_much_is_ended(stream: str, limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, limit, 100 * 1024)
    code = f"import sys\nwhile True: sys.{stream}.write('x' * 10_000)"

    with pytest.raises(OutputTooLarge, match=f"more than 100 KiB on {stream}"):
        asyncio.run(run(python(code), b"", {}, PATIENT))


def test_output_up_to_the_limit_is_kept_whole() -> None:
    size = process.STDOUT_LIMIT_BYTES

    ended = asyncio.run(run(python(f"import sys; sys.stdout.write('x' * {size})"), b"", {}, PATIENT))

    assert len(ended.stdout) == size


async def _says(mark: Path, ending: str) -> bool:
    return (await asyncio.to_thread(mark.read_text)).endswith(ending)
