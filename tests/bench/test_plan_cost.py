"""What a plan of a chart with 30 objects takes: the first time, and when its chart was rendered before."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.checking import Given
from envprov.domain.checks.catalogue import check
from envprov.domain.desired import Desired
from envprov.kube.client import Connection, KubeClient
from envprov.plan_wiring import planning
from envprov.planning import Planner
from envprov.settings import load_settings
from tests.cluster import Cluster
from tests.shipped import install
from tests.unit.facts import wanted

pytestmark = pytest.mark.bench

ROUNDS = 20
OBJECTS = 30


def test_a_plan_of_thirty_objects(cluster: Cluster, control_namespace: str, tmp_path: Path) -> None:
    install(cluster, control_namespace)
    chart = _chart(tmp_path)
    for line in asyncio.run(_measured(cluster, chart, tmp_path)):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{_command(cluster, control_namespace, chart)}\n")


async def _measured(cluster: Cluster, chart: Path, folder: Path) -> list[str]:
    settings_file = folder / "settings.yaml"
    settings_file.write_text(
        yaml.safe_dump({"helm": {"chart_root": str(chart), "binary": str(cluster.binaries / "helm")}})
    )
    settings, connection = load_settings(settings_file), Connection(cluster.kubeconfig)
    desired = wanted(chart={"local": {"path": str(chart)}})
    lines = []
    async with KubeClient.connect(connection) as client:

        async def first() -> None:
            async with planning(settings, connection, client) as planner:
                check(await _given(planner, desired))

        lines.append(_line("first: chart read and rendered, facts read, judged", await _times(first)))
        async with planning(settings, connection, client) as planner:
            given = await _given(planner, desired)

            async def again() -> None:
                check(await _given(planner, desired))

            async def facts() -> None:
                await planner.facts.read(desired, given.objects)

            async def judged() -> None:
                check(Given(desired, given.objects, given.facts))

            whole = await _times(again)
            lines.append(_line("again: facts read, judged", whole))
            asked = await _times(facts)
            lines.append(_line("of that, the API server's answers", asked))
            lines.append(_line("of that, all checks", await _times(judged)))
            lines.append(f"beside the API calls: {(statistics.median(whole) - statistics.median(asked)) * 1000:.0f} ms")
    return lines


async def _given(planner: Planner, desired: Desired) -> Given:
    draft = await planner.draft(await planner.release(desired), is_upgrade=False)
    assert len(draft.objects) == OBJECTS
    return await planner.given(desired, draft, {})


async def _times(work: Callable[[], Awaitable[None]]) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await work()
        times.append(time.perf_counter() - began)
    return times


def _command(cluster: Cluster, namespace: str, chart: Path) -> str:
    """Measure the whole command: with Python's start, and the dry run of every object in a scratch namespace."""
    command = [
        *(str(Path(sys.executable).parent / "envprov"), "plan", "feature/x", "--project", "shop"),
        *("--chart", str(chart), "--kubeconfig", str(cluster.kubeconfig), "--namespace", namespace, "-o", "json"),
    ]
    path = f"{cluster.binaries}:/usr/bin:/bin"
    times = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={"PATH": path, "HOME": str(chart.parent)})
        times.append(time.perf_counter() - began)
    return _line("envprov plan, the whole command", times)


def _line(name: str, times: list[float]) -> str:
    median, most = statistics.median(times) * 1000, max(times) * 1000
    return f"{name:<52} p50 {median:6.0f} ms   most {most:6.0f} ms"


def _chart(folder: Path) -> Path:
    chart = folder / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    documents = yaml.safe_dump_all([item for number in range(OBJECTS // 3) for item in _app(f"app-{number}")])
    (chart / "templates" / "all.yaml").write_text(documents)
    return chart


def _app(name: str) -> tuple[dict[str, Any], ...]:
    labels = {"app": name}
    resources = {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}
    container = {"name": "app", "image": "registry.example.com/app:1", "resources": resources}
    source = {"configMapRef": {"name": name}}
    pod = {"containers": [container | {"envFrom": [source]}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return (
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
        | {"spec": {"selector": labels, "ports": [{"port": 80}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}}
        | {"spec": {"selector": {"matchLabels": labels}, "template": template}},
    )
