"""
How long from the branch event to Ready, and at what cost, beside a hand-written script that makes the same.

The script is what a platform team writes first: ``kubectl apply`` of the same base objects, then
``helm upgrade --install --wait`` of the same chart. Both run in turn on one cluster, so that their ratio
holds although the machine's speed drifts. Absolute figures are this machine's alone.
"""

from __future__ import annotations

import os
import resource
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

import pytest
import yaml

from envprov.domain import objects
from envprov.domain.desired import Desired, desire
from envprov.domain.environment import Environment, EnvironmentSpec, EnvironmentStatus
from envprov.domain.names import slug
from envprov.domain.platform import Platform
from envprov.domain.project import ChartSource, LocalChart, Project, ProjectSpec
from tests.cluster import Cluster
from tests.payloads import push_created, push_deleted
from tests.shipped import ROOT, Installation, Process, installed

pytestmark = pytest.mark.bench

ROUNDS = 20
AT_ONCE = 50
PARALLEL = 8
TICKS = os.sysconf("SC_CLK_TCK")


Running = tuple[Installation, Process, Process, "ReadyWatch"]


class Contender:
    """Makes environments; says how long each took and what all of them cost."""

    def __init__(self, make: Callable[[int], float], cpu: Callable[[], float], clear: Callable[[], None]) -> None:
        self.make = make
        self.cpu = cpu
        self.clear = clear
        self.seconds: list[float] = []
        self.cpu_seconds = 0.0

    def run(self, number: int) -> None:
        """Make one environment and note its time and its CPU."""
        before = self.cpu()
        self.seconds.append(self.make(number))
        self.cpu_seconds += self.cpu() - before

    def line(self, name: str) -> str:
        """One row of the report."""
        cut = quantiles(self.seconds, n=100, method="inclusive")
        each = self.cpu_seconds / len(self.seconds)
        return (
            f"{name:<28} p50 {median(self.seconds) * 1000:7.0f} ms   p99 {cut[98] * 1000:7.0f} ms   "
            f"client CPU {each * 1000:6.0f} ms each"
        )


@pytest.fixture(scope="module")
def running(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Yield an installation with receiver and controller at work."""
    namespace = f"envprov-b-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with installed(cluster, namespace, tmp_path_factory.mktemp("bench")) as there:
        there.project("bench")
        controller, receiver = there.start_controller().ready(), there.start_receiver().ready()
        watch = ReadyWatch(there)
        yield there, receiver, controller, watch
        watch.close()


def contenders(running: Running, folder: Path) -> tuple[Contender, Contender]:
    there, receiver, controller, watch = running

    def envprov(number: int) -> float:
        branch = f"bench/{number:04}"
        began = time.monotonic()
        payload = push_created(branch, f"{number:040x}", project_id=1, path="group/bench")
        assert there.deliver(receiver, payload).status_code == 202
        return watch.wait(slug("bench", branch)) - began

    def script(number: int) -> float:
        desired = _desired(there.namespace, f"script/{number:04}")
        manifests = folder / f"{number}.yaml"
        manifests.write_text(yaml.safe_dump_all(_base(desired)))
        namespace = desired.identity.namespace
        began = time.monotonic()
        _run(there, "kubectl", "apply", "-f", str(manifests))
        _run(
            there, "helm", "upgrade", "--install", desired.identity.name, str(ROOT / "tests/charts/app"),
            "-n", namespace, "--wait", "--timeout", "120s",
        )  # fmt: skip
        return time.monotonic() - began

    def clear_envprov() -> None:
        for item in there.environments():
            branch, commit = item["spec"]["branch"], item["spec"]["revision"]
            there.deliver(receiver, push_deleted(branch, commit, project_id=1, path="group/bench"))

    return (
        Contender(envprov, lambda: _cpu_of(receiver) + _cpu_of(controller), clear_envprov),
        Contender(script, _cpu_of_children, lambda: None),
    )


def test_one_at_a_time(running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = contenders(running, tmp_path)
    for warm in (ours, theirs):
        warm.make(9000)
    for number in range(1, ROUNDS + 1):
        ours.run(number)
        theirs.run(number)
    ratio = median(one / other for one, other in zip(ours.seconds, theirs.seconds, strict=True))
    _say(
        capsys,
        f"branch event to Ready, one at a time, {ROUNDS} rounds in turn",
        ours,
        theirs,
        f"time ratio {ratio:.2f}",
    )
    ours.clear()


def test_fifty_at_once(running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = contenders(running, tmp_path)
    spans = []
    for contender, first in ((ours, 1000), (theirs, 2000)):
        before, began = contender.cpu(), time.monotonic()
        with ThreadPoolExecutor(AT_ONCE if contender is ours else PARALLEL) as pool:
            contender.seconds = list(pool.map(contender.make, range(first, first + AT_ONCE)))
        spans.append(time.monotonic() - began)
        contender.cpu_seconds = contender.cpu() - before
    theirs_said = f"the script, {PARALLEL} side by side, {spans[1]:.1f} s"
    note = f"all Ready after {spans[0]:.1f} s; {theirs_said}; ratio {spans[0] / spans[1]:.2f}"
    _say(capsys, f"branch event to Ready, {AT_ONCE} at once", ours, theirs, note)
    ours.clear()


def _say(capsys: pytest.CaptureFixture[str], title: str, ours: Contender, theirs: Contender, note: str) -> None:
    with capsys.disabled():
        print(f"\n{title}\n  {ours.line('envprov')}\n  {theirs.line('kubectl + helm --wait')}\n  {note}")  # noqa: T201


class ReadyWatch:
    """When each Environment became Ready, from one watch that was open before: a look costs nothing."""

    def __init__(self, there: Installation) -> None:
        columns = 'custom-columns=N:.metadata.name,R:.status.conditions[?(@.type=="Ready")].status'
        self._at: dict[str, float] = {}
        self._news = threading.Condition()
        self._kubectl = subprocess.Popen(
            [
                str(there.cluster.binaries / "kubectl"), "--kubeconfig", str(there.cluster.kubeconfig),
                "get", "env", "-n", there.namespace, "--watch", "--no-headers", "-o", columns,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, name: str) -> float:
        """Moment at which an Environment became Ready, by the monotonic clock."""
        with self._news:
            assert self._news.wait_for(lambda: name in self._at, timeout=180), f"{name} is not Ready"
            return self._at[name]

    def close(self) -> None:
        """End the watch."""
        self._kubectl.terminate()
        self._kubectl.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._kubectl.stdout is not None
        with self._kubectl.stdout as lines:
            for line in lines:
                name, _, ready = line.strip().partition(" ")
                if ready.strip() == "True":
                    with self._news:
                        self._at.setdefault(name, time.monotonic())
                        self._news.notify_all()


def _run(there: Installation, tool: str, *arguments: str) -> None:
    command = [str(there.cluster.binaries / tool), "--kubeconfig", str(there.cluster.kubeconfig), *arguments]
    subprocess.run(command, check=True, capture_output=True, env=there.environment())


def _cpu_of(process: Process) -> float:
    """CPU seconds of a process and of its children that have ended, Helm among them."""
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _desired(control_namespace: str, branch: str) -> Desired:
    project = Project(name="bench", spec=ProjectSpec(chart=ChartSource(local=LocalChart(path="tests/charts/app"))))
    environment = Environment(
        name=slug("bench", branch),
        namespace=control_namespace,
        uid="",
        resource_version="",
        generation=1,
        created_at=datetime.now(UTC),
        deleting=False,
        finalizers=(),
        annotations={},
        spec=EnvironmentSpec(project="bench", branch=branch),
        status=EnvironmentStatus(),
    )
    return desire(environment, project, Platform())


def _base(desired: Desired) -> list[objects.Manifest]:
    return [
        objects.namespace(desired),
        objects.limit_range(desired),
        objects.quota(desired),
        *objects.network_policies(desired),
        *objects.installer(desired.identity),
        objects.own_access(desired.identity, "envprov"),
    ]
