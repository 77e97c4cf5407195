"""A person at a terminal, in a control namespace of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.integration.cli.calling import ROOT, Cli


@pytest.fixture(scope="session")
def definitions(cluster: Cluster) -> None:
    """Install both kinds."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "k8s" / "crds"))
    for name in ("environments.envprov.io", "projects.envprov.io"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")


@pytest.fixture
def cli(cluster: Cluster, control_namespace: str, definitions: None, tmp_path: Path) -> Iterator[Cli]:  # noqa: ARG001
    """Yield a person who is an administrator, where both kinds are installed."""
    person = Cli(cluster, control_namespace, tmp_path, cluster.kubeconfig)
    yield person
    # There is no controller that would let the records go, and with them the namespace.
    for item in person.get("env"):
        released = ("patch", "env", item["metadata"]["name"], "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        cluster.kubectl(*released, "-n", control_namespace, check=False)
