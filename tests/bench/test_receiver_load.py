"""
How many deliveries a receiver records, how fast, and what it takes of memory while strangers press in.

The process as shipped, with its own ServiceAccount, against a real API server. Beside it the floor: the same client
creating the same records without HTTP, authentication and parsing before it. Both run in turn, so that their ratio
holds although the machine's speed drifts. Absolute figures are this machine's alone; sender, receiver and API server
share its cores.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import secrets
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles

import pytest

from envprov.domain.deliveries import BranchEvent
from envprov.domain.project import Project
from envprov.kube.client import Connection, KubeClient
from envprov.kube.environments import Environments
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.records import let_go
from tests.payloads import push_created
from tests.shipped import ROOT, TOKEN, Installation, Process, installed

pytestmark = pytest.mark.bench

SHA = "a" * 40
ROUNDS = 300
AT_ONCE = 32
LARGE, LARGE_BYTES = 10, 100 << 20
SLOW = 2000
UNSIGNED = 300
OPENED_WITHIN_SECONDS = 5
VALID = 200
PRESSED_SECONDS = 12
"""Longer than the receiver waits for headers, twice: all slow connections are closed and come again."""
NUMBERS = itertools.count()
Running = tuple[Installation, Process]


@pytest.fixture(scope="module")
def running(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Yield an installation with a receiver that takes tokens and signatures; no controller works beside it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    namespace = f"envprov-b-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    folder = tmp_path_factory.mktemp("bench")
    (folder / "signing").write_text("whsec_" + b64encode(bytes(32)).decode())
    with installed(cluster, namespace, folder) as there:
        webhook = {"port": 0, "token_files": [str(folder / "token")], "signing_token_files": [str(folder / "signing")]}
        there.settings(webhook=webhook)
        there.project("bench")
        yield there, there.start_receiver().ready()
        # All at once: thousands of them one by one take longer than all that is measured.
        cluster.kubectl("delete", "env", "--all", "-n", namespace, "--wait=false")
        let_go(cluster, namespace)
    cluster.discard(namespace)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("at_once", [1, AT_ONCE], ids=["one at a time", "many at once"])
def test_recording(running: Running, capsys: pytest.CaptureFixture[str], at_once: int) -> None:
    there, receiver = running

    async def story() -> None:
        async with KubeClient.connect(Connection(there.kubeconfig("envprov-receiver"))) as client:
            store, mine = Environments(client, there.namespace), _project()

            async def floor(branch: str) -> None:
                await store.record(mine, BranchEvent(1, "group/bench", branch, "", SHA))

            async def ours(branch: str) -> None:
                await _deliver(receiver.port, branch)

            for way in (floor, ours):
                await _timed(way, 20, at_once)  # warm
            both: dict[str, list[float]] = {"floor": [], "ours": []}
            spans = {"floor": 0.0, "ours": 0.0}
            for _ in range(5):
                for name, way in (("floor", floor), ("ours", ours)):
                    began = time.monotonic()
                    both[name] += await _timed(way, ROUNDS // 5, at_once)
                    spans[name] += time.monotonic() - began
        ratio = median(both["ours"]) / median(both["floor"])
        lines = [
            f"{title:<22} {ROUNDS / spans[name]:6.0f}/s   {_spread(both[name])}"
            for name, title in (("ours", "delivered"), ("floor", "recorded directly"))
        ]
        _say(capsys, f"{ROUNDS} new branches, {at_once} at once", *lines, f"time ratio (p50) {ratio:.2f}")

    asyncio.run(story())


def test_large_bodies_of_strangers(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    _, receiver = running

    async def story() -> None:
        before = _memory(receiver, "VmRSS")
        _forget_peak(receiver)
        large = [asyncio.create_task(_send_large(receiver.port)) for _ in range(LARGE)]
        seconds = await _timed(lambda branch: _deliver(receiver.port, branch), VALID, 4)
        taken = await asyncio.gather(*large)
        _say(
            capsys,
            f"{LARGE} bodies of {LARGE_BYTES >> 20} MiB with a wrong token, {VALID} valid deliveries beside them",
            f"memory {before:.0f} MiB before, {_memory(receiver, 'VmHWM'):.0f} MiB at most; each was let send "
            f"{median(taken) / (1 << 20):.0f} MiB before it was cut off",
            f"valid ones {_spread(seconds)}",
        )

    asyncio.run(story())


def test_slow_connections(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    _, receiver = running
    quiet = asyncio.run(_timed(lambda branch: _deliver(receiver.port, branch), VALID, 4))
    before = _memory(receiver, "VmRSS")
    _forget_peak(receiver)
    with _strangers(receiver.port, SLOW, "slow"):
        seconds, refused = asyncio.run(_pressed(receiver.port))
        held = _held(receiver.port)
    _say(
        capsys,
        f"{SLOW} connections that send nothing or half of their headers",
        _memory_line(receiver, before, held),
        f"{len(seconds)} valid deliveries {_spread(seconds)}   {refused} of them refused",
        f"without the others {_spread(quiet)}; time ratio (p50) {median(seconds) / median(quiet):.2f}",
    )


def test_bodies_that_may_be_signed(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    _, receiver = running
    before = _memory(receiver, "VmRSS")
    _forget_peak(receiver)
    with _strangers(receiver.port, UNSIGNED, "unsigned"):
        seconds, refused = asyncio.run(_pressed(receiver.port))
        held = _held(receiver.port)
    _say(
        capsys,
        f"{UNSIGNED} bodies of almost 1 MiB that may be signed and do not end",
        _memory_line(receiver, before, held),
        f"{len(seconds)} valid deliveries {_spread(seconds)}   {refused} of them refused",
    )


def press(port: int, count: int, kind: str) -> None:
    """Hold so many connections for ever; one that is closed is opened again. For a process of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))

    async def hold(number: int) -> None:
        half = b"" if number % 2 else b"POST /webhooks/gitlab HTTP/1.1\r\nHost: x\r\n"
        await asyncio.sleep(OPENED_WITHIN_SECONDS * number / count)
        while True:
            with suppress(ConnectionError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(half if kind == "slow" else _unsigned())
                with suppress(ConnectionError):
                    await reader.read()
                writer.transport.abort()

    async def all_of_them() -> None:
        await asyncio.gather(*(hold(number) for number in range(count)))

    asyncio.run(all_of_them())


@contextmanager
def _strangers(port: int, count: int, kind: str) -> Iterator[None]:
    """Let strangers press in, from a process of their own: they must not hold up those who measure."""
    code = f"from tests.bench.test_receiver_load import press; press({port}, {count}, {kind!r})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        try:
            eventually(lambda: _held(port) >= count * 0.8, within=60, message="the connections are not there")
            yield
        finally:
            process.kill()


def _held(port: int) -> int:
    """Connections that are open to a port now."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in lines)


def _memory_line(process: Process, before: float, held: int) -> str:
    return f"memory {before:.0f} MiB before, {_memory(process, 'VmHWM'):.0f} MiB at most; {held} connections at the end"


def _project() -> Project:
    spec = {"gitlab": {"project": "group/bench"}, "chart": {"local": {"path": "tests/charts/app"}}}
    return Project.model_validate({"name": "bench", "spec": spec})


async def _timed(way: Callable[[str], Awaitable[object]], count: int, at_once: int) -> list[float]:
    """Go so many times, so many at once; returns how long each took from when it was its turn."""
    turns, seconds = asyncio.Semaphore(at_once), []

    async def one() -> None:
        async with turns:
            began = time.monotonic()
            await way(f"load/{next(NUMBERS)}")
            seconds.append(time.monotonic() - began)

    await asyncio.gather(*(one() for _ in range(count)))
    return seconds


async def _pressed(port: int) -> tuple[list[float], int]:
    """Deliver for as long as strangers press in; returns how long each delivery took, and how many were refused."""
    seconds: list[float] = []
    answers: list[int] = []

    async def deliver(branch: str) -> None:
        answers.append(await _deliver(port, branch))

    ends = time.monotonic() + PRESSED_SECONDS
    while time.monotonic() < ends:
        seconds += await _timed(deliver, 20, 4)
    return seconds, sum(answer != 202 for answer in answers)


async def _deliver(port: int, branch: str) -> int:
    """Deliver on a connection of its own, as GitLab does."""
    raw = json.dumps(push_created(branch, SHA, project_id=1, path="group/bench")).encode()
    given = (f"X-Gitlab-Token: {TOKEN}", "X-Gitlab-Event: Push Hook", f"Content-Length: {len(raw)}")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_head(*given) + raw)
    line = await reader.readline()
    writer.close()
    return int(line.split()[1]) if line else 0


async def _send_large(port: int) -> int:
    """Send a body that nobody wants, whatever is answered; returns how much of it was taken."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_head("X-Gitlab-Token: wrong", f"Content-Length: {LARGE_BYTES}"))
    sent, chunk = 0, b"x" * (256 << 10)
    with suppress(ConnectionError):
        while sent < LARGE_BYTES:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)
    writer.transport.abort()
    return sent


def _unsigned() -> bytes:
    return _head(
        "X-Gitlab-Event: Push Hook",
        "webhook-id: a",
        f"webhook-timestamp: {int(time.time())}",
        "webhook-signature: v1," + b64encode(b"x" * 32).decode(),
        f"Content-Length: {1 << 20}",
    ) + b"x" * ((1 << 20) - 1)


def _head(*headers: str) -> bytes:
    return "\r\n".join(["POST /webhooks/gitlab HTTP/1.1", "Host: receiver", *headers, "", ""]).encode()


def _memory(process: Process, name: str) -> float:
    """MiB of a process: ``VmRSS`` now, or ``VmHWM`` at most."""
    lines = Path(f"/proc/{process.popen.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def _forget_peak(process: Process) -> None:
    Path(f"/proc/{process.popen.pid}/clear_refs").write_text("5")


def _spread(seconds: list[float]) -> str:
    cut = quantiles(seconds, n=100, method="inclusive")
    return f"p50 {median(seconds) * 1000:5.1f} ms   p99 {cut[98] * 1000:6.1f} ms"


def _say(capsys: pytest.CaptureFixture[str], title: str, *lines: str) -> None:
    with capsys.disabled():
        print("\n".join(["", title, *(f"  {line}" for line in lines)]))  # noqa: T201 - what it is for
