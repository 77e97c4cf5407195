"""The one gatherer of what is observed, and the one `match` from an action to a call; joins Kubernetes and Helm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from envprov.base_objects import BaseObjects
from envprov.budgeting import LiveBudget
from envprov.deploying import LiveReleases
from envprov.domain import objects
from envprov.domain.actions import (
    Action,
    Admit,
    ApplyObject,
    ClearNamespace,
    DeleteCustom,
    DeleteNamespace,
    DeleteObject,
    DeployRelease,
    FenceAccounts,
    GuardAction,
    HoldAccount,
    MarkHost,
    MarkHusk,
    QuietObject,
    ReleaseAccount,
    ReleaseHost,
    ReserveHosts,
    RestWorkload,
    RollBackRelease,
    ShareAction,
    UninstallRelease,
    WithholdNamespace,
)
from envprov.domain.admission import Admission, in_force
from envprov.domain.desired import Desired, Identity
from envprov.domain.drift import drifted
from envprov.domain.errors import Conflict, Forbidden, Invalid
from envprov.domain.holds import HUSK, STATE
from envprov.domain.hosts import Reservation
from envprov.domain.observed import GuardSeen, Key, NamespaceSeen, NamespaceState, Observed, Remains
from envprov.domain.release import Release
from envprov.domain.sleep import wake_up
from envprov.guarding import LiveGuard
from envprov.judging import Judge
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.record import CONTROLLER
from envprov.kube.reservations import Reservations
from envprov.remains import RemainsReader
from envprov.waiting import Waiting
from envprov.workloads import LiveWorkloads

Manifest = Mapping[str, Any]

PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class LiveCluster:
    """
    The cluster for the controller.

    Attributes:
        client: Speaks to the API server.
        base: Reads namespaces and base objects.
        releases: Knows the releases, and has Helm work on them.
        workloads: Knows how the workloads are, and puts them to rest.
        judge: Drafts releases and judges them.
        guard: Holds what others share, and says what may go.
        remnants: Reads what is left on the way down.
        reservations: Reserves hosts.
        waiting: Knows who wants a host, and what is reserved as the cache shows it.
        budget: Says for whom there is room.
        now: Clock; aware moments.

    """

    client: KubeClient
    base: BaseObjects
    releases: LiveReleases
    workloads: LiveWorkloads
    judge: Judge
    guard: LiveGuard
    remnants: RemainsReader
    reservations: Reservations
    waiting: Waiting
    budget: LiveBudget
    now: Callable[[], datetime]
    _bound_at: dict[str, float] = field(default_factory=dict, repr=False)

    async def observe(self, desired: Desired, fresh: Mapping[Key, Manifest]) -> Observed:
        """See ``envprov.controller.ports.Cluster.observe``."""
        with self._patience(desired.identity.namespace):
            return await self._observe(desired, fresh)

    async def _observe(self, desired: Desired, fresh: Mapping[Key, Manifest]) -> Observed:
        identity = desired.identity
        seen = await self.base.namespace(identity, fresh)
        admission = self.budget.admission(desired, seen.state)
        if seen.state is NamespaceState.MISSING:
            return await self._observe_chart(desired, seen, admission)
        if seen.state is not NamespaceState.OURS:
            return Observed(seen, admission=admission)
        desired = in_force(desired, admission)
        live = self.base.cached(identity, fresh)
        own = objects.own_access(identity, desired.platform.controller_account)
        if drifted(own, live.get(("RoleBinding", own["metadata"]["name"]), {})):
            return Observed(seen, live, admission=admission)  # without our rights nothing else can be seen
        is_new = ("LimitRange", objects.QUOTA) not in live
        originals, ghosts, copies = await asyncio.gather(
            self.base.originals(desired),
            self._ghosts(identity, seen) if is_new else _nothing(),
            self.base.copies(desired),
        )
        live |= copies
        sleepers = await self.workloads.sleepers(desired)
        if sleepers is not None and (desired.asleep or wake_up(sleepers)):
            # Nothing is deployed before it is awake, so that neither sleep nor waking ever waits for a chart.
            return Observed(seen, live, originals, ghosts, await self.releases.current(identity), sleepers=sleepers)
        release, reserved = await self.releases.current(identity), self.waiting.own(identity, fresh)
        judged = await self.judge.look(desired, release, reserved)
        accounts = await self.guard.look(identity, (*desired.shared, *desired.held, *judged.rendered.referred))
        return Observed(
            namespace=seen,
            objects=live,
            originals=originals,
            ghosts=ghosts,
            release=release,
            digest=judged.digest,
            chart_fault=judged.fault,
            rendered=judged.rendered,
            findings=judged.findings,
            accounts=accounts,
            sleepers=sleepers,
            hosts=judged.hosts,
            reserved=reserved,
            health=await self.workloads.health(desired, release, judged.digest),
            admission=admission,
        )

    async def _observe_chart(self, desired: Desired, seen: NamespaceSeen, admission: Admission) -> Observed:
        """What is known before the namespace is made: the chart, and the hosts of an attempt that came to nothing."""
        reserved = self.waiting.own(desired.identity, {})
        judged = await self.judge.look(desired, Release(desired.identity.name), reserved)
        return Observed(
            seen,
            release=Release(desired.identity.name),
            digest=judged.digest,
            chart_fault=judged.fault,
            findings=judged.findings,
            reserved=reserved,
            admission=admission,
        )

    async def remains(self, identity: Identity, *, thorough: bool) -> Remains:
        """See ``envprov.controller.ports.Cluster.remains``."""
        self.waiting.expect(identity.name, ())
        seen = await self.base.live_namespace(identity)
        with self._patience(identity.namespace):
            return await self.remnants.read(identity, seen, thorough=thorough)

    async def ask_guard(self, identity: Identity) -> GuardSeen:
        """See ``envprov.controller.ports.Cluster.ask_guard``."""
        return await self.guard.ask(identity)

    async def look_back(self, identity: Identity) -> tuple[str, ...]:
        """See ``envprov.controller.ports.Cluster.look_back``."""
        return await self.guard.look_back(identity)

    def alarm(self) -> GuardSeen | None:
        """See ``envprov.controller.ports.Cluster.alarm``."""
        return self.guard.alarm()

    async def apply(self, action: Action) -> Manifest | None:
        """See ``envprov.controller.ports.Cluster.apply``."""
        with self._patience(_namespace_of(action)):
            return await self._carry_out(action)

    async def _carry_out(self, action: Action) -> Manifest | None:
        match action:
            case ApplyObject(manifest=manifest):
                return await self._apply_object(manifest)
            case DeleteObject(api_version=version, kind=kind, namespace=namespace, name=name, uid=uid):
                await self.client.delete(resources.lookup(version, kind), name, namespace, uid=uid)
            case QuietObject() | RestWorkload():
                await self._scale(action)
            case DeployRelease(desired=desired, digest=digest):
                await self.releases.deploy(desired, digest)
            case RollBackRelease(identity=identity, to=revision):
                await self.releases.roll_back(identity, revision)
            case UninstallRelease(identity=identity):
                await self.releases.uninstall(identity)
            case DeleteNamespace(name=name, uid=uid, resource_version=version):
                await self.client.delete(resources.NAMESPACES, name, uid=uid, resource_version=version)
                self._forget(name)
            case Admit() | ReserveHosts() | MarkHost() | ReleaseHost():
                return await self._share(action)
            case _:
                await self._guard(action)
        return None

    async def _scale(self, action: QuietObject | RestWorkload) -> None:
        match action:
            case QuietObject():
                await self.workloads.quiet(action)
            case RestWorkload():
                await self.workloads.rest(action)

    async def _share(self, action: ShareAction) -> Manifest | None:
        """The part of the match for what environments have together: the budgets, and names that only one can have."""
        match action:
            case Admit():
                await self.budget.admit(action)
            case ReserveHosts(identity=identity, hosts=hosts):
                await self.reservations.reserve(identity, hosts)
            case MarkHost(reservation=reservation, dropped_by=digest):
                return await self.reservations.mark(reservation, digest)
            case ReleaseHost(reservation=reservation):
                await self.reservations.release(reservation)
                self.waiting.gave_back(reservation)
        return None

    async def _guard(self, action: GuardAction) -> None:
        """The guard's part of the match."""
        match action:
            case DeleteCustom(api_version=version, kind=kind, namespace=namespace, name=name, uid=uid):
                await self.remnants.delete(version, kind, namespace, name, uid)
            case HoldAccount(identity=identity, account=account, policy=policy, why=why):
                await self.guard.hold(identity, account, policy, why, self.now())
            case ReleaseAccount(identity=identity, account=account):
                await self.guard.holds.release(account, identity.holder.key)
            case FenceAccounts(namespace=namespace, uid=uid, names=names):
                await self.guard.holds.fence(namespace, uid, names)
            case MarkHusk(namespace=namespace, uid=uid):
                body = {"metadata": {"uid": uid, "labels": {STATE: HUSK}}}
                await self.client.merge_patch(resources.NAMESPACES, namespace, None, body, manager=CONTROLLER)
            case ClearNamespace(namespace=namespace, uid=uid, accounts=accounts):
                await self.guard.clear(namespace, uid, accounts)
            case WithholdNamespace(namespace=namespace, uid=uid):
                await self.guard.holds.withhold(namespace, uid)

    async def _ghosts(self, identity: Identity, seen: NamespaceSeen) -> tuple[str, ...]:
        ghosts = await self.base.ghosts(seen)
        self.releases.learn(identity, ghosts.secrets)
        return ghosts.found

    def _forget(self, namespace: str) -> None:
        self._bound_at.pop(namespace, None)
        self.releases.forget(namespace)
        self.workloads.forget(namespace)
        self.judge.forget(namespace)

    @contextmanager
    def _patience(self, namespace: str) -> Iterator[None]:
        """
        Take a refusal right after a RoleBinding for what it is: the API server's authorizer has not seen it yet.

        Measured on one API server: of 200 first requests 29 were refused, and allowed 3 to 28 ms later.
        """
        try:
            yield
        except Forbidden as error:
            if time.monotonic() - self._bound_at.get(namespace, -PATIENCE_SECONDS) < PATIENCE_SECONDS:
                raise Conflict(f"rights in Namespace {namespace} are not in force yet: {error}") from error
            raise

    async def _apply_object(self, manifest: Manifest) -> Manifest:
        if manifest["kind"] == "RoleBinding":
            self._bound_at[manifest["metadata"]["namespace"]] = time.monotonic()
        live = await self.client.apply(manifest, manager=CONTROLLER)
        if drifted(manifest, live):
            # Repeating it would never end: an admission webhook or another owner of a field has the last word.
            name = f"{manifest['kind']} {manifest['metadata']['name']}"
            raise Invalid(
                f"{name} in {manifest['metadata'].get('namespace', 'the cluster')} was changed while it was "
                "applied; look for an admission policy that rewrites it"
            )
        return live


def _namespace_of(action: Action) -> str:
    match action:
        case ApplyObject(manifest=manifest):
            return str(manifest["metadata"].get("namespace", ""))
        case (
            DeleteObject(namespace=namespace)
            | QuietObject(namespace=namespace)
            | RestWorkload(namespace=namespace)
            | DeleteCustom(namespace=namespace)
            | FenceAccounts(namespace=namespace)
            | MarkHusk(namespace=namespace)
            | ClearNamespace(namespace=namespace)
            | WithholdNamespace(namespace=namespace)
            | ReserveHosts(identity=Identity(control_namespace=namespace))
            | MarkHost(reservation=Reservation(namespace=namespace))
            | ReleaseHost(reservation=Reservation(namespace=namespace))
        ):
            return namespace
        case HoldAccount(account=account) | ReleaseAccount(account=account):
            return account.namespace
        case DeployRelease(desired=desired):
            return desired.identity.namespace
        case RollBackRelease(identity=identity) | UninstallRelease(identity=identity) | Admit(identity=identity):
            return identity.namespace
        case DeleteNamespace(name=name):
            return name


async def _nothing() -> tuple[str, ...]:
    return ()
