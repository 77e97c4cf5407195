"""Environments without Helm that share ServiceAccounts; the controller's own teardown and guard in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from prometheus_client import CollectorRegistry

from envprov.base_objects import BaseObjects
from envprov.budgeting import LiveBudget
from envprov.cluster import LiveCluster
from envprov.controller.guardian import Guardian
from envprov.controller.metrics import GuardMetrics
from envprov.controller.reconcile import Reconciler
from envprov.deploying import LiveReleases
from envprov.domain import objects
from envprov.domain.desired import Identity
from envprov.domain.environment import BRANCH, FINALIZER
from envprov.domain.errors import Conflict, Invalid
from envprov.domain.guard import Grace, Guarded
from envprov.domain.holds import GUARD, Account
from envprov.domain.names import slug
from envprov.domain.platform import Platform
from envprov.domain.policies import REAPPLIED, policies
from envprov.guarding import LiveGuard
from envprov.judging import Judge
from envprov.kube.arming import Arming
from envprov.kube.client import Connection, KubeClient, Object
from envprov.kube.environments import Environments
from envprov.kube.holds import Holds
from envprov.kube.informer import Informer
from envprov.kube.records import ControllerRecords
from envprov.kube.reservations import Reservations
from envprov.kube.resources import (
    CONFIG_MAPS,
    ENVIRONMENTS,
    LEASES,
    NAMESPACES,
    ROLE_BINDINGS,
    SERVICE_ACCOUNTS,
    Resource,
)
from envprov.kube.transport import Request
from envprov.kube.usage import UsageReader
from envprov.planning import Planner
from envprov.releases.engine import Helm
from envprov.releases.stored import decode
from envprov.remains import RemainsReader
from envprov.waiting import BY_HOLDER, Waiting, holder_index
from envprov.workloads import LiveWorkloads
from tests.cluster import Cluster
from tests.integration.guard.worlds import MANAGER, manifest

RBAC = "rbac.authorization.k8s.io"
COMMIT = "a" * 40


class Absent:
    """In place of Helm and charts, of which the way down of these environments asks nothing."""


@dataclass
class Read:
    """In place of an informer's cache: what was read just before the pass."""

    live: dict[str, Object] = field(default_factory=dict)

    def get(self, name: str, namespace: str = "") -> Object | None:
        del namespace
        return self.live.get(name)


@dataclass(frozen=True)
class Narrow(LiveGuard):
    """A guard that looks after the accounts in some namespaces only: tests beside this one have others."""

    own: str = ""
    """How the names of these namespaces begin."""

    async def guarded(self) -> Sequence[Guarded]:
        return [one for one in await super().guarded() if one.account.namespace.startswith(self.own)]


@dataclass(frozen=True)
class Controller:
    """
    What takes environments down and guards what they share.

    Attributes:
        client: As whom it works.
        control_namespace: Where the records are.
        reconciler: Serves one key.
        guardian: Makes one look.
        guard: The edge of both.

    """

    client: KubeClient
    control_namespace: str
    reconciler: Reconciler
    guardian: Guardian
    guard: LiveGuard
    _read: Read

    async def serve(self, name: str) -> None:
        """Make one pass for an Environment."""
        live = await self.client.get(ENVIRONMENTS, name, self.control_namespace)
        self._read.live.pop(name, None)
        if live is not None:
            self._read.live[name] = live
            await self.reconciler(name)


def controller(cluster: Cluster, client: KubeClient, control_namespace: str, own: str = "") -> Controller:
    """
    Put a controller together as at its start, when it remembers nothing.

    Args:
        cluster: Where.
        client: As whom it works.
        control_namespace: Where the records are.
        own: How the names of the namespaces begin that it guards; by default as that of the control namespace.

    """
    arming = Arming(
        client,
        Connection(cluster.kubeconfig),
        control_namespace=control_namespace,
        policies=policies("envprov"),
        reapplied=frozenset(REAPPLIED),
        interval=timedelta(hours=1),
    )
    holds = Holds(client)
    reservations = Reservations(client, control_namespace)
    guard = Narrow(client, holds, UsageReader(client, decode), arming, own=own or control_namespace)
    read = Read()
    waiting = Waiting(Informer(client, LEASES, indexes={BY_HOLDER: holder_index}))
    judge = Judge(client, cast("Planner", Absent()), reservations, waiting)
    live = LiveCluster(
        client=client,
        base=BaseObjects(client, {}),
        releases=LiveReleases(client, cast("Helm", Absent()), judge, worker="a-test"),
        workloads=LiveWorkloads(client, {}),
        judge=judge,
        guard=guard,
        remnants=RemainsReader(client, holds, reservations),
        reservations=reservations,
        waiting=waiting,
        budget=cast("LiveBudget", Absent()),
        now=_now,
    )
    records = ControllerRecords(
        client=client,
        store=Environments(client, control_namespace),
        control_namespace=control_namespace,
        environments=cast("Informer", read),
        projects=cast("Informer", Read()),
        tombstones=cast("Informer", Read()),
    )
    guardian = Guardian(
        guard,
        now=_now,
        interval=timedelta(hours=1),
        grace=Grace(timedelta(0)),
        auto_release=frozenset(),
        metrics=GuardMetrics(CollectorRegistry()),
    )
    # Moments are written in whole seconds, for which the fence waits one more: here it need not settle.
    platform, settle = Platform(control_namespace=control_namespace), timedelta(seconds=-1)
    return Controller(
        client, control_namespace, Reconciler(records, live, platform, _now, settle), guardian, guard, read
    )


async def make_environment(
    client: KubeClient, control_namespace: str, branch: str, uses: Sequence[Account]
) -> Identity:
    """
    Make an environment: its record, and its namespace with a RoleBinding for each account that it uses.

    Args:
        client: As whom.
        control_namespace: Where the record is.
        branch: Its branch.
        uses: ServiceAccounts of other namespaces.

    """
    name = slug(control_namespace, branch)
    record = {
        "apiVersion": "envprov.io/v1alpha1",
        "kind": "Environment",
        "metadata": {
            "name": slug(control_namespace, branch),
            "namespace": control_namespace,
            "finalizers": [FINALIZER],
        },
        "spec": {"project": control_namespace, "branch": branch, "revision": COMMIT},
    }
    made = await client.create(record, manager=MANAGER)
    identity = Identity(name, control_namespace, control_namespace, branch, made["metadata"]["uid"])
    home = manifest("Namespace", identity.namespace)
    home["metadata"] |= {
        "labels": objects.labels(identity) | {GUARD: "env"},
        "annotations": {BRANCH: branch, objects.OWNER: identity.owner},
    }
    await client.create(home, manager=MANAGER)
    inside = (
        objects.own_access(identity, "envprov"),
        *objects.installer(identity),
        *(binding(identity.namespace, account) for account in uses),
    )
    await asyncio.gather(*(client.create(one, manager=MANAGER) for one in inside))
    return identity


def binding(namespace: str, account: Account) -> Object:
    """A RoleBinding that lets an account of another namespace look at this one."""
    return manifest("RoleBinding", f"for-{account.name}", namespace) | {
        "apiVersion": f"{RBAC}/v1",
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}],
    }


async def ask_for_the_end(client: KubeClient, identity: Identity) -> None:
    """Delete the record of an environment, which is the request to take it down."""
    await client.delete(ENVIRONMENTS, identity.name, identity.control_namespace, uid=identity.uid)


async def is_over(client: KubeClient, identity: Identity) -> bool:
    """Whether the record of an environment is gone."""
    return await client.get(ENVIRONMENTS, identity.name, identity.control_namespace, metadata_only=True) is None


async def take_down(
    ours: Controller, identity: Identity, between: Callable[[], Awaitable[None]], passes: int = 50
) -> None:
    """
    Serve an environment that is to go until nothing is left of it.

    Args:
        ours: Who serves it.
        identity: The environment.
        between: What happens after each pass.
        passes: How many there may be.

    """
    for _ in range(passes):
        with suppress(Conflict):
            await ours.serve(identity.name)
        await between()
        if await is_over(ours.client, identity):
            return
    raise AssertionError(f"{identity.name} is still there after {passes} passes")


class Namespaces(KubeClient):
    """A client that also does the work of Kubernetes' namespace controller, which waits five seconds first."""

    async def sweep(self, control_namespace: str) -> None:
        """End every other namespace whose name begins with that of a control namespace, and its environments'."""
        for home in (await self.list(NAMESPACES, metadata_only=True)).items:
            metadata = home["metadata"]
            owner = str((metadata.get("annotations") or {}).get(objects.OWNER, ""))
            if metadata["name"].startswith(f"{control_namespace}-") or owner.startswith(f"{control_namespace}/"):
                inside = (await self.list(SERVICE_ACCOUNTS, metadata["name"], metadata_only=True)).items
                await self._unguard(NAMESPACES, metadata)
                for account in inside:
                    await self._unguard(SERVICE_ACCOUNTS, account["metadata"])
                await self.delete(NAMESPACES, metadata["name"], uid=metadata["uid"])
                await self.end(metadata["name"])

    async def _unguard(self, resource: Resource, metadata: Object) -> None:
        marks = {
            part: dict.fromkeys(key for key in metadata.get(part) or {} if "envprov.io/" in key)
            for part in ("annotations", "labels")
        }
        if any(marks.values()):
            body = {"metadata": marks}
            await self.merge_patch(resource, metadata["name"], metadata.get("namespace"), body, manager=MANAGER)

    async def end(self, name: str) -> None:
        """Delete what is in a namespace that is being deleted, and let it go; nothing happens to any other."""
        live = await self.get(NAMESPACES, name)
        if live is None or "deletionTimestamp" not in live["metadata"]:
            return
        for resource in (ROLE_BINDINGS, SERVICE_ACCOUNTS, CONFIG_MAPS):
            for item in (await self.list(resource, name, metadata_only=True)).items:
                with suppress(Conflict):
                    await self.delete(resource, item["metadata"]["name"], name, uid=item["metadata"]["uid"])
        path = NAMESPACES.path(None, name, "finalize")
        body = live | {"spec": {"finalizers": []}}
        with suppress(Conflict, Invalid):
            await self.send(Request(f"finalize Namespace {name}", "PUT", path, body=body, absent_ok=True))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
