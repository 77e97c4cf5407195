"""The recorder on the real API server, for tests."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envprov.domain.deliveries import BranchEvent
from envprov.domain.project import Project
from envprov.kube.client import Connection, KubeClient
from envprov.kube.environments import Environments
from envprov.kube.resources import ENVIRONMENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cluster import Cluster

CRDS = Path(__file__).parent.parent.parent / "k8s" / "crds"
FINALIZER = "envprov.io/teardown"


def install_definition(cluster: Cluster) -> None:
    """Apply the CustomResourceDefinition of Environments, and wait until it is served."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS / "environments.yaml"))
    cluster.kubectl("wait", "--for=condition=Established", "crd/environments.envprov.io", "--timeout=120s")


def let_go(cluster: Cluster, namespace: str) -> None:
    """Take our finalizer off whatever a test leaves behind, so that its namespace can go."""

    async def story() -> None:
        body = {"metadata": {"finalizers": None}}
        async with connected(cluster) as client:
            for item in (await client.list(ENVIRONMENTS, namespace, metadata_only=True)).items:
                await client.merge_patch(ENVIRONMENTS, item["metadata"]["name"], namespace, body, manager="tests")

    asyncio.run(story())


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[KubeClient]:
    """Open a client as the administrator."""
    async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:
        yield client


@asynccontextmanager
async def recording(cluster: Cluster, namespace: str) -> AsyncIterator[Environments]:
    """Open the Environments of one control namespace."""
    async with connected(cluster) as client:
        yield Environments(client, namespace)


def project(name: str = "shop", *, branches: str = "*", gitlab: str | int = "group/shop") -> Project:
    """Return a Project that wants the branches that match."""
    return Project.model_validate(
        {
            "name": name,
            "spec": {
                "gitlab": {"project": gitlab},
                "chart": {"local": {"path": "environment"}},
                "rules": [{"branches": [branches]}],
            },
        }
    )


def push(before: str, after: str, branch: str = "feature/x") -> BranchEvent:
    """Return a delivery from one commit, named by a letter, to another; "" is no commit."""
    return BranchEvent(7, "group/shop", branch, before * 40, after * 40)


def managers(manifest: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    """Fields of spec and annotations that each manager owns, by its name and operation."""
    owned: dict[tuple[str, str], set[str]] = {}
    for entry in manifest["metadata"]["managedFields"]:
        fields = entry["fieldsV1"]
        found = set(fields.get("f:spec", {})) | set(fields.get("f:metadata", {}).get("f:annotations", {}))
        owned.setdefault((entry["manager"], entry["operation"]), set()).update(found - {"."})
    return owned
