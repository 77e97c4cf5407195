"""A namespace for the time of one question: as an environment's own would be, and gone afterwards."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from envprov.domain import objects
from envprov.domain.desired import Desired
from envprov.domain.environment import GROUP
from envprov.domain.loose import moment
from envprov.kube.client import KubeClient
from envprov.kube.resources import NAMESPACES

SCRATCH = f"{GROUP}/scratch"
MANAGER = "envprov-cli"
FORGOTTEN_AFTER = timedelta(minutes=15)
"""Age of a scratch namespace whose plan was killed before it could delete it."""


@asynccontextmanager
async def scratch(client: KubeClient, desired: Desired, now: Callable[[], datetime]) -> AsyncIterator[str]:
    """
    Make a namespace with the limits and the Pod Security levels of an environment, and delete it at the end.

    Args:
        client: As whom.
        desired: The environment that it stands for; nothing in the cluster takes it for that one.
        now: Clock; aware moments.

    Yields:
        Its name.

    Raises:
        Forbidden: Whoever asks may make no namespaces.

    """
    name = f"envprov-scratch-{secrets.token_hex(5)}"
    made = await client.create(_namespace(desired, name), manager=MANAGER)
    try:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
        limits = _moved(objects.limit_range(desired), name)
        await asyncio.gather(*(client.apply(item, manager=MANAGER) for item in (limits, account)))
        yield name
    finally:
        # A plan that is cancelled deletes it all the same.
        await asyncio.shield(_end(client, name, made["metadata"]["uid"], now()))


async def _end(client: KubeClient, name: str, uid: str, now: datetime) -> None:
    """Delete this one, and those that others could not delete."""
    await client.delete(NAMESPACES, name, uid=uid)
    for item in (await client.list(NAMESPACES, label_selector=SCRATCH, metadata_only=True)).items:
        metadata = item["metadata"]
        born = moment(metadata.get("creationTimestamp"))
        if born is not None and now - born > FORGOTTEN_AFTER and "deletionTimestamp" not in metadata:
            await client.delete(NAMESPACES, metadata["name"], uid=metadata["uid"])


def _namespace(desired: Desired, name: str) -> dict[str, Any]:
    levels = {
        label: value
        for label, value in objects.namespace(desired)["metadata"]["labels"].items()
        if label.startswith("pod-security.kubernetes.io/")
    }
    labels = {objects.MANAGED_BY: objects.MANAGER, SCRATCH: "true"} | levels
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _moved(manifest: objects.Manifest, namespace: str) -> dict[str, Any]:
    metadata = {"name": manifest["metadata"]["name"], "namespace": namespace}
    return {**manifest, "metadata": metadata}
