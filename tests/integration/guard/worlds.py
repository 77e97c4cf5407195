"""A cluster with the guard's policies in force, and what the tests of the guard do to it."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from envprov.domain.errors import Forbidden
from envprov.domain.holds import Account, Hold, Holder
from envprov.domain.policies import policies
from envprov.kube.client import Connection, KubeClient, Object
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS, Resource
from tests.cluster import Cluster
from tests.eventually import eventually_async

MANAGER = "envprov-test"
SINCE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PATIENCE = timedelta(minutes=1)
"""For an answer: of dozens of writers of one object the last waits long, on a busy computer longer than usual."""
Story = Callable[[KubeClient], Coroutine[Any, Any, None]]


def tell(cluster: Cluster, story: Story, *, kind: type[KubeClient] = KubeClient) -> None:
    """Run a story with a client of the administrator."""

    async def run() -> None:
        async with kind.connect(Connection(cluster.kubeconfig), timeout=PATIENCE) as client:
            await story(client)

    asyncio.run(run())


def arm(cluster: Cluster) -> None:
    """Put the policies in force, however often it is called, and wait until they are."""
    manifests = {"apiVersion": "v1", "kind": "List", "items": policies("envprov")}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(manifests))

    async def story(client: KubeClient) -> None:
        namespace = f"armed-{secrets.token_hex(4)}"
        await client.create(manifest("Namespace", namespace), manager=MANAGER)
        account = await make_account(client, namespace, "held")
        uid = await put(client, SERVICE_ACCOUNTS, account, {"annotations": {held_by("someone").key: "{}"}})

        async def refuses() -> bool:
            with suppress(Forbidden):
                await client.delete(SERVICE_ACCOUNTS, "held", namespace, uid=uid, dry_run=True)
                return False
            return True

        await eventually_async(refuses, message="the policies have no effect")
        await put(client, SERVICE_ACCOUNTS, account, {"annotations": {held_by("someone").key: None}})
        home = await client.get(NAMESPACES, namespace)
        assert home is not None
        await client.delete(NAMESPACES, namespace, uid=home["metadata"]["uid"])

    tell(cluster, story)


def held_by(name: str, *, uid: str = "", why: str = "a test", environment: str = "") -> Hold:
    """A hold of an environment."""
    return Hold(Holder("Environment", "envprov-system", name, uid), SINCE, why, environment)


def manifest(kind: str, name: str, namespace: str = "", **fields: object) -> Object:
    """An object of the core group."""
    where = {"namespace": namespace} if namespace else {}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **where}, **fields}


async def make_account(client: KubeClient, namespace: str, name: str, **metadata: object) -> Account:
    """A new ServiceAccount."""
    body = manifest("ServiceAccount", name, namespace)
    body["metadata"] |= metadata
    await client.create(body, manager=MANAGER)
    return Account(namespace, name)


async def put(client: KubeClient, resource: Resource, account: Account, metadata: Mapping[str, Any]) -> str:
    """Patch the metadata of an account or of its Namespace; returns the UID."""
    name, namespace = (account.namespace, None) if resource is NAMESPACES else (account.name, account.namespace)
    live = await client.merge_patch(resource, name, namespace, {"metadata": metadata}, manager=MANAGER)
    return str(live["metadata"]["uid"])


async def read(client: KubeClient, account: Account) -> tuple[Object, Object]:
    """An account and its Namespace."""
    found = await client.get(SERVICE_ACCOUNTS, account.name, account.namespace)
    home = await client.get(NAMESPACES, account.namespace)
    assert found is not None
    assert home is not None
    return found, home


async def uid_of(client: KubeClient, account: Account) -> str:
    """UID of an account."""
    return str((await read(client, account))[0]["metadata"]["uid"])


async def keys_on(client: KubeClient, account: Account) -> tuple[set[str], set[str]]:
    """Keys of the holds on an account, and on its Namespace."""
    found, home = ((one["metadata"].get("annotations") or {}) for one in await read(client, account))
    return {key for key in found if "hold." in key}, {key for key in home if "hold." in key}


class Interrupted(KubeClient):
    """
    A client to which something happens between two requests.

    Attributes:
        before: What is done once, just before the first patch of an object of that kind.
        after: The same just after it.

    """

    before: dict[Resource, Callable[[], Awaitable[object]]]
    after: dict[Resource, Callable[[], Awaitable[object]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on as they are
        super().__init__(*args, **kwargs)
        self.before, self.after = {}, {}

    async def merge_patch(self, resource: Resource, *args: Any, **kwargs: Any) -> Object:  # noqa: ANN401 - same
        if interruption := self.before.pop(resource, None):
            await interruption()
        patched = await super().merge_patch(resource, *args, **kwargs)
        if interruption := self.after.pop(resource, None):
            await interruption()
        return patched
