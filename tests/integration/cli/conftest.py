"""A person at a terminal, in a control namespace of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from envprov.domain.holds import Hold, Holder
from envprov.domain.platform import Platform
from envprov.domain.policies import CANARY, DELETE_GUARD, policies
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.cli.calling import ROOT, Cli


@pytest.fixture(scope="session")
def definitions(cluster: Cluster) -> None:
    """Install both kinds, and the roles that every environment needs."""
    for what in ("crds", "rbac-environment.yaml"):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "k8s" / what))
    for name in ("environments.envprov.io", "projects.envprov.io"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=120s")


@pytest.fixture
def cli(cluster: Cluster, control_namespace: str, definitions: None, tmp_path: Path) -> Iterator[Cli]:  # noqa: ARG001
    """Yield a person who is an administrator, where both kinds are installed."""
    person = Cli(cluster, control_namespace, tmp_path, cluster.kubeconfig)
    yield person
    person.end()
    # There is no controller that would let the records go, and with them the namespace.
    for item in person.get("env"):
        released = ("patch", "env", item["metadata"]["name"], "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        cluster.kubectl(*released, "-n", control_namespace, check=False)


@pytest.fixture(scope="session")
def enforced(cluster: Cluster) -> None:
    """Put the guard's policies in force."""
    listed = {"apiVersion": "v1", "kind": "List", "items": list(policies(Platform().controller_account))}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(listed))


@pytest.fixture
def armed(cli: Cli, enforced: None) -> Cli:  # noqa: ARG001
    """Return a person where the policies are in force, and a canary shows it."""
    key, value = "hold.envprov.io/canary", Hold(Holder("Canary", "", "envprov"), datetime.now(UTC)).value()
    metadata = {"name": CANARY, "namespace": cli.namespace, "annotations": {key: value}}
    cli.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    tried = ("delete", "serviceaccount", "--dry-run=server", CANARY, "-n", cli.namespace)
    eventually(
        lambda: DELETE_GUARD in cli.cluster.kubectl(*tried, check=False),
        within=30,
        message="the policies do not come into force",
    )
    return cli
