"""
Hooks and what the controllers add by themselves, against a real Helm and real controllers.

A hook before the release is charged alone, one after it beside the release; DaemonSets run on the nodes that there are;
volumes that live with a pod are claims.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from envprov.domain import objects
from envprov.domain.checks import size
from envprov.domain.desired import Desired
from envprov.domain.findings import refusing
from envprov.domain.need import needs_of
from envprov.domain.quantity import amount
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.unit.facts import facts, given

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Story:
    """
    A chart and what becomes of it.

    Attributes:
        name: Of the chart, the release and the end of the namespace's name.
        objects: What it renders.
        fits: Whether Helm installs it with all its pods; if not, the quota refuses one of them.
    """

    name: str
    objects: tuple[Manifest, ...]
    fits: bool


def pod(cpu: str, **more: Any) -> Manifest:  # noqa: ANN401 - any field
    resources = {"requests": {"cpu": cpu, "memory": "1Mi"}, "limits": {"memory": "1Mi"}}
    return {"spec": {"containers": [{"name": "one", "image": "app", "resources": resources}]} | more}


def labelled(template: Manifest, name: str) -> Manifest:
    return {"selector": {"matchLabels": {"app": name}}, "template": template | {"metadata": {"labels": {"app": name}}}}


def release(cpu: str, replicas: int = 2) -> Manifest:
    spec = labelled(pod(cpu), "web") | {"replicas": replicas, "strategy": {"type": "Recreate"}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def hook(event: str, cpu: str, **more: str) -> Manifest:
    annotations = {"helm.sh/hook": event} | {f"helm.sh/hook-{key}": value for key, value in more.items()}
    metadata = {"name": event, "annotations": annotations}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata} | {
        "spec": {"template": pod(cpu, restartPolicy="Never")}
    }


def daemon(cpu: str) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent"},
        "spec": labelled(pod(cpu), "a"),
    }


def scratch(storage: str) -> Manifest:
    claim = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}}
    template = pod("1m", volumes=[{"name": "tmp", "ephemeral": {"volumeClaimTemplate": claim}}])
    spec = labelled(template, "web") | {"replicas": 2}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


STORIES = (
    Story("before", (hook("pre-install", "900m"), release("500m")), fits=True),
    Story("before-too-large", (hook("pre-install", "1001m"), release("1m")), fits=False),
    Story("after", (release("400m"), hook("post-install", "200m")), fits=True),
    Story("after-too-large", (release("400m"), hook("post-install", "201m")), fits=False),
    Story(
        "one-by-one",
        (release("400m"), hook("post-install", "200m", weight="1"), hook("pre-install", "1", weight="-1")),
        fits=True,
    ),
    Story("volumes", (scratch("5Gi"),), fits=True),
    Story("daemon", (daemon("100m"), release("450m")), fits=True),
)


@pytest.fixture
def run(cluster: Cluster) -> Iterator[str]:
    """Yield the beginning of the names of namespaces; they are deleted afterwards."""
    name = f"hooks-{secrets.token_hex(3)}"
    yield name
    for story in STORIES:
        cluster.kubectl("delete", "namespace", f"{name}-{story.name}", "--wait=false", "--ignore-not-found")


@pytest.fixture
def nodes(cluster: Cluster) -> int:
    """Return how many nodes there are; those that other tests play take no pods."""
    found = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    return len([node for node in found if not node["spec"].get("taints")])


def test_helm_and_the_controllers_need_what_was_computed(
    cluster: Cluster, run: str, nodes: int, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(len(STORIES)) as threads:
        told = list(threads.map(lambda story: _told(cluster, run, nodes, tmp_path, story), STORIES))
    assert [line for line in told if line] == []


def _told(cluster: Cluster, run: str, nodes: int, folder: Path, story: Story) -> str:
    """In what a chart and the plan do not agree."""
    chart = given(*story.objects, seen=facts(nodes=nodes))
    errors = refusing(finding for check in size.CHECKS for finding in check(chart))
    if bool(errors) == story.fits:
        return f"{story.name}: the plan says {errors or 'that it fits'}"
    namespace = f"{run}-{story.name}"
    _prepare(cluster, namespace, chart.desired)
    installed = _install(cluster, namespace, _written(folder / story.name, story), patient=story.fits)
    if not story.fits:
        # Which pod it is, and so whether Helm sees it, depends on whether the hook's comes before the release's.
        eventually(lambda: _failures(cluster, namespace), message=f"{story.name}: no pod was refused")
        return ""
    if not installed:
        return f"{story.name}: Helm failed"
    # The hooks have ended: the pods and claims that are left are those of the release.
    (after,) = [phase.total for phase in needs_of(chart).steady.phases if not phase.name][-1:]

    def wrong() -> dict[str, str]:
        used = {name: value for name, value in _used(cluster, namespace).items() if not name.startswith("count/")}
        return {name: value for name, value in used.items() if amount(value) != after.get(name, Decimal(0))}

    eventually(lambda: not wrong(), within=60, message=f"{story.name}: {wrong()} is not what was computed")
    return ""


def _prepare(cluster: Cluster, namespace: str, desired: Desired) -> None:
    cluster.kubectl("create", "namespace", namespace)
    eventually(lambda: cluster.kubectl("get", "sa/default", "cm/kube-root-ca.crt", "-n", namespace, "-o", "name"))
    for manifest in (objects.limit_range(desired), objects.quota(desired)):
        named = manifest | {"metadata": {"name": manifest["metadata"]["name"]}}
        cluster.kubectl("create", "-n", namespace, "-f", "-", input=json.dumps(named))
    eventually(lambda: _used(cluster, namespace).get("count/configmaps") == "1", message="the quota does not count")


def _written(folder: Path, story: Story) -> Path:
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text(json.dumps({"apiVersion": "v2", "name": story.name, "version": "1.0.0"}))
    for number, item in enumerate(story.objects):
        (folder / "templates" / f"{number}.yaml").write_text(json.dumps(item))
    return folder


def _install(cluster: Cluster, namespace: str, chart: Path, *, patient: bool) -> bool:
    command: list[str | Path] = [cluster.binaries / "helm", "install", "app", chart, "-n", namespace]
    command += ["--kubeconfig", cluster.kubeconfig, "--timeout", "60s" if patient else "3s"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _failures(cluster: Cluster, namespace: str) -> str:
    return cluster.kubectl("get", "events", "-n", namespace, "--field-selector", "reason=FailedCreate", "-o", "name")


def _used(cluster: Cluster, namespace: str) -> dict[str, str]:
    quota = json.loads(cluster.kubectl("get", "resourcequota", "envprov", "-n", namespace, "-o", "json"))
    used: dict[str, str] = quota.get("status", {}).get("used", {})
    return used
