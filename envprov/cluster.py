"""The one gatherer of what is observed, and the one `match` from an action to a call; joins Kubernetes and Helm."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from envprov.budgeting import LiveBudget
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
from envprov.domain.desired import INSTALLER, Desired, Identity
from envprov.domain.drift import drifted
from envprov.domain.environment import BRANCH
from envprov.domain.errors import AccountTaken, Conflict, Forbidden, Invalid
from envprov.domain.health import Condition, Health, Workloads, health
from envprov.domain.holds import HUSK, STATE
from envprov.domain.hosts import Reservation
from envprov.domain.observed import GuardSeen, Key, NamespaceSeen, NamespaceState, Observed, Remains
from envprov.domain.ownership import is_taken, owner_of
from envprov.domain.release import Release, ReleaseState, release_of
from envprov.domain.sleep import Sleepers, remembers, wake_up
from envprov.guarding import LiveGuard
from envprov.judging import Judge
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.informer import Informer
from envprov.kube.lease import LeaderElection
from envprov.kube.reservations import Reservations
from envprov.kube.resources import Resource
from envprov.releases.engine import Helm, service_account_user
from envprov.remains import RemainsReader, live_release, workloads_of
from envprov.remains import live as live_objects
from envprov.waiting import Waiting
from envprov.watched import BASE_KINDS, BY_NAMESPACE, WORKLOAD_KINDS

Manifest = Mapping[str, Any]

MANAGER = "envprov-controller"

SLEEP_MANAGER = "envprov-sleep"
"""Field manager of what is scaled to nothing and back, apart from everything else that we write."""
SLEEPING_KINDS = (resources.DEPLOYMENTS, resources.STATEFUL_SETS, resources.JOBS)
"""Watched kinds that remember what they were."""

OURS = f"{objects.MANAGED_BY}={objects.MANAGER}"
PATIENCE_SECONDS = 5.0
HELM_LEASE = "envprov-helm"
HELM_LEASE_DURATION = timedelta(seconds=10)
"""How long a Helm of a process that was killed is given to end before another one may work in its namespace."""


@dataclass(frozen=True)
class LiveCluster:
    """
    The cluster for the controller.

    Attributes:
        client: Speaks to the API server.
        caches: One synced informer for each watched kind, with an index of the namespace.
        helm: Speaks to Helm.
        judge: Drafts releases and judges them.
        guard: Holds what others share, and says what may go.
        remnants: Reads what is left on the way down.
        reservations: Reserves hosts.
        waiting: Knows who wants a host, and what is reserved as the cache shows it.
        budget: Says for whom there is room.
        worker: Name of this process, unlike any other, for the locks under which Helm works.
        now: Clock; aware moments.

    """

    client: KubeClient
    caches: Mapping[Resource, Informer]
    helm: Helm
    judge: Judge
    guard: LiveGuard
    remnants: RemainsReader
    reservations: Reservations
    waiting: Waiting
    budget: LiveBudget
    worker: str
    now: Callable[[], datetime]
    _bound_at: dict[str, float] = field(default_factory=dict, repr=False)
    _releases: dict[str, Release] = field(default_factory=dict, repr=False)
    _landed: dict[str, int] = field(default_factory=dict, repr=False)

    async def observe(self, desired: Desired, fresh: Mapping[Key, Manifest]) -> Observed:
        """See ``envprov.controller.ports.Cluster.observe``."""
        with self._patience(desired.identity.namespace):
            return await self._observe(desired, fresh)

    async def _observe(self, desired: Desired, fresh: Mapping[Key, Manifest]) -> Observed:
        identity = desired.identity
        namespace = _newest(
            self.caches[resources.NAMESPACES].get(identity.namespace), fresh.get(_namespace_key(identity))
        )
        if namespace is None or not _bears_our_label(namespace):
            # A namespace that lost its label has left the cache; only the API server knows.
            namespace = await self.client.get(resources.NAMESPACES, identity.namespace)
        seen = _seen(identity, namespace)
        admission = self.budget.admission(desired, seen.state)
        if seen.state is NamespaceState.MISSING:
            return await self._observe_chart(desired, seen, admission)
        if seen.state is not NamespaceState.OURS:
            return Observed(seen, admission=admission)
        desired = in_force(desired, admission)
        live = self._cached_objects(identity, fresh)
        own = objects.own_access(identity, desired.platform.controller_account)
        if drifted(own, live.get(("RoleBinding", own["metadata"]["name"]), {})):
            return Observed(seen, live, admission=admission)  # without our rights nothing else can be seen
        is_new = ("LimitRange", objects.QUOTA) not in live
        originals, ghosts, copies = await asyncio.gather(
            self._originals(desired),
            self._ghosts(identity, seen) if is_new else _nothing(),
            self._copies(desired),
        )
        live |= copies
        sleepers = await self._sleepers(desired)
        if sleepers is not None and (desired.asleep or wake_up(sleepers)):
            # Nothing is deployed before it is awake, so that neither sleep nor waking ever waits for a chart.
            return Observed(seen, live, originals, ghosts, await self._release(identity), sleepers=sleepers)
        release, reserved = await self._release(identity), self.waiting.own(identity, fresh)
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
            health=await self._health(desired, release, judged.digest),
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
        seen = _seen(identity, await self.client.get(resources.NAMESPACES, identity.namespace))
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
                await (self._quiet(action) if isinstance(action, QuietObject) else self._rest(action))
            case DeployRelease(desired=desired, digest=digest):
                await self._deploy(desired, digest)
            case RollBackRelease(identity=identity, to=revision):
                back = partial(self.helm.rollback, identity.name, identity.namespace, revision, _installer(identity))
                await self._alone(identity.namespace, back)
            case UninstallRelease(identity=identity):
                end = partial(self.helm.uninstall, identity.name, identity.namespace, _installer(identity))
                await self._alone(identity.namespace, end)
            case DeleteNamespace(name=name, uid=uid, resource_version=version):
                await self.client.delete(resources.NAMESPACES, name, uid=uid, resource_version=version)
                for memory in (self._bound_at, self._releases, self._landed):
                    memory.pop(name, None)
                self.judge.forget(name)
            case Admit() | ReserveHosts() | MarkHost() | ReleaseHost():
                return await self._share(action)
            case _:
                await self._guard(action)
        return None

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
                await self.client.merge_patch(resources.NAMESPACES, namespace, None, body, manager=MANAGER)
            case ClearNamespace(namespace=namespace, uid=uid, accounts=accounts):
                await self.guard.clear(namespace, uid, accounts)
            case WithholdNamespace(namespace=namespace, uid=uid):
                await self.guard.holds.withhold(namespace, uid)

    async def _deploy(self, desired: Desired, digest: str) -> None:
        identity = desired.identity
        draft = await self.judge.draft(desired, await self._release(identity))
        if draft.digest != digest:
            raise Conflict(f"the chart of {identity.name} changed while it was being deployed")
        await self.judge.rehearse(desired, draft)
        await self._alone(identity.namespace, partial(self.helm.deploy, draft.spec))
        for name, live in (await self.judge.planner.owners(draft)).items():
            if is_taken(live, identity.namespace, identity.name):
                owner = owner_of(live)
                whose = f"Helm release {owner[0]}/{owner[1]}" if owner else "no Helm release"
                raise AccountTaken(
                    f"ServiceAccount {identity.namespace}/{name} was installed by release {identity.name} and now "
                    f"belongs to {whose}: two releases share it, and the first to go takes it along"
                )

    async def _alone(self, namespace: str, work: Callable[[], Awaitable[object]]) -> None:
        """Let Helm work in a namespace while no other process of ours does: it does not see its own kind."""

        async def led() -> None:
            await work()

        election = LeaderElection(
            self.client,
            namespace=namespace,
            name=HELM_LEASE,
            identity=f"{self.worker}-{secrets.token_hex(4)}",
            lease_duration=HELM_LEASE_DURATION,
        )
        await election.lead(led)

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
        live = await self.client.apply(manifest, manager=MANAGER)
        if drifted(manifest, live):
            # Repeating it would never end: an admission webhook or another owner of a field has the last word.
            name = f"{manifest['kind']} {manifest['metadata']['name']}"
            raise Invalid(
                f"{name} in {manifest['metadata'].get('namespace', 'the cluster')} was changed while it was "
                "applied; look for an admission policy that rewrites it"
            )
        return live

    async def _quiet(self, action: QuietObject) -> None:
        spec = {"suspend": True} if action.kind == "CronJob" else {"replicas": 0}
        body = {"metadata": {"uid": action.uid}, "spec": spec}
        resource = resources.lookup(action.api_version, action.kind)
        await self.client.merge_patch(resource, action.name, action.namespace, body, manager=MANAGER)

    async def _rest(self, action: RestWorkload) -> None:
        """As a field manager of its own, so that an object tells who scaled it."""
        marks = {"uid": action.uid, "resourceVersion": action.resource_version}
        body = {**action.patch, "metadata": {**action.patch["metadata"], **marks}}
        resource = resources.lookup(action.api_version, action.kind)
        await self.client.merge_patch(resource, action.name, action.namespace, body, manager=SLEEP_MANAGER)
        self._landed.pop(action.namespace, None)  # the caches may not show it yet

    async def _sleepers(self, desired: Desired) -> Sleepers | None:
        """What can be put to sleep and woken, read live; None if nothing is asleep or is to be."""
        namespace = desired.identity.namespace
        is_asked = desired.asleep or desired.slept
        if not is_asked and not any(
            remembers(item) for kind in SLEEPING_KINDS for item in self.caches[kind].by_index(BY_NAMESPACE, namespace)
        ):
            return None
        kinds = (
            *SLEEPING_KINDS,
            resources.DAEMON_SETS,
            resources.REPLICA_SETS,
            resources.REPLICATION_CONTROLLERS,
            resources.CRON_JOBS,
            resources.PODS,
        )
        found = await live_objects(self.client, namespace, kinds)
        return Sleepers(
            deployments=found[resources.DEPLOYMENTS],
            stateful_sets=found[resources.STATEFUL_SETS],
            replica_sets=found[resources.REPLICA_SETS],
            replication_controllers=found[resources.REPLICATION_CONTROLLERS],
            daemon_sets=found[resources.DAEMON_SETS],
            cron_jobs=found[resources.CRON_JOBS],
            jobs=found[resources.JOBS],
            pods=found[resources.PODS],
        )

    def _cached_objects(self, identity: Identity, fresh: Mapping[Key, Manifest]) -> dict[Key, Manifest]:
        cached = {
            (resource.kind, item["metadata"]["name"]): item
            for resource in BASE_KINDS
            for item in self.caches[resource].by_index(BY_NAMESPACE, identity.namespace)
        }
        for key, written in fresh.items():
            if key[0] in objects.API_VERSIONS:
                cached[key] = _newest(cached.get(key), written) or written
        return cached

    async def _originals(self, desired: Desired) -> dict[Key, Manifest]:
        found = await asyncio.gather(
            *(self.client.get(resources.SECRETS, source.name, source.namespace) for source in desired.secrets)
        )
        return {
            (source.namespace, source.name): original
            for source, original in zip(desired.secrets, found, strict=True)
            if original is not None
        }

    async def _ghosts(self, identity: Identity, seen: NamespaceSeen) -> tuple[str, ...]:
        """Objects older than their namespace: what a force-finalised one leaves behind comes back with its old UID."""
        kinds = (resources.SERVICE_ACCOUNTS, resources.SECRETS, resources.ROLE_BINDINGS)
        listings = await asyncio.gather(
            *(self.client.list(kind, identity.namespace, metadata_only=True) for kind in kinds)
        )
        secrets = listings[kinds.index(resources.SECRETS)].items
        self._releases[identity.namespace] = release_of(identity.name, (item["metadata"] for item in secrets))
        born = seen.manifest["metadata"]["creationTimestamp"]
        return tuple(
            f"{kind.kind} {item['metadata']['name']} (uid {item['metadata']['uid']})"
            for kind, listing in zip(kinds, listings, strict=True)
            for item in listing.items
            if item["metadata"]["creationTimestamp"] < born
        )

    async def _copies(self, desired: Desired) -> dict[Key, Manifest]:
        """Secrets that we copied: those that are wanted as they are, others as the server's cache has them."""
        namespace = desired.identity.namespace
        names = [source.name for source in desired.secrets]
        known, wanted = await asyncio.gather(
            self.client.list(resources.SECRETS, namespace, label_selector=OURS, may_be_stale=True),
            asyncio.gather(*(self.client.get(resources.SECRETS, name, namespace) for name in names)),
        )
        copies: dict[Key, Manifest] = {("Secret", item["metadata"]["name"]): item for item in known.items}
        for name, item in zip(names, wanted, strict=True):
            copies.pop(("Secret", name), None)
            if item is not None:
                copies["Secret", name] = item
        return copies

    async def _release(self, identity: Identity) -> Release:
        known = self._releases.get(identity.namespace)
        if known is not None and await self._stands(identity, known):
            return known
        release = await live_release(self.client, identity)
        self._releases[identity.namespace] = release
        return release

    async def _stands(self, identity: Identity, known: Release) -> bool:
        """Whether what was last read of a release still holds: its Secret says so, and there is none after it."""
        if known.state not in {ReleaseState.ABSENT, ReleaseState.DEPLOYED}:
            return False
        names = [f"sh.helm.release.v1.{identity.name}.v{known.revision + step}" for step in (0, 1)]
        current, following = await asyncio.gather(
            *(self.client.get(resources.SECRETS, name, identity.namespace, metadata_only=True) for name in names)
        )
        if following is not None:
            return False
        if known.state is ReleaseState.ABSENT:
            return True
        return current is not None and release_of(identity.name, [current["metadata"]]) == replace(
            known, last_deployed_revision=known.revision
        )

    async def _health(self, desired: Desired, release: Release, digest: str | None) -> Health | None:
        if release.state is not ReleaseState.DEPLOYED or release.digest != digest:
            return None
        namespace = desired.identity.namespace
        found = {kind: tuple(self.caches[kind].by_index(BY_NAMESPACE, namespace)) for kind in WORKLOAD_KINDS}
        if self._landed.get(namespace) != release.revision:
            # The caches may not show yet what Helm has just made, and where nothing is, nothing is unhealthy.
            live = await live_objects(self.client, namespace, WORKLOAD_KINDS)
            if all(_covers(found[kind], live[kind]) for kind in WORKLOAD_KINDS if kind is not resources.PODS):
                self._landed[namespace] = release.revision
            else:
                found = live
        workloads = workloads_of(found)
        told = health(workloads, desired.sizes)
        if told.condition is Condition.PROGRESSING:
            refusals = await self._refusals(namespace, workloads)
            return health(replace(workloads, refusals=refusals), desired.sizes)
        return told

    async def _refusals(self, namespace: str, workloads: Workloads) -> tuple[str, ...]:
        """Why StatefulSets, DaemonSets and Jobs have no pods; Deployments say it themselves."""
        present = {
            item["metadata"]["uid"]
            for items in (workloads.stateful_sets, workloads.daemon_sets, workloads.jobs)
            for item in items
        }
        if not present:
            return ()
        events = await self.client.list(
            resources.EVENTS, namespace, field_selector="reason=FailedCreate", may_be_stale=True
        )
        about = (event for event in events.items if event.get("involvedObject", {}).get("uid") in present)
        return tuple(sorted({str(event.get("message", "")) for event in about}))


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


def _namespace_key(identity: Identity) -> Key:
    return "Namespace", identity.namespace


def _bears_our_label(namespace: Manifest) -> bool:
    return bool(namespace["metadata"].get("labels", {}).get(objects.MANAGED_BY) == objects.MANAGER)


def _newest(one: Manifest | None, other: Manifest | None) -> Manifest | None:
    if one is None or other is None:
        return one or other
    versions = (int(item["metadata"]["resourceVersion"]) for item in (one, other))
    return one if next(versions) >= next(versions) else other


def _seen(identity: Identity, namespace: Manifest | None) -> NamespaceSeen:
    if namespace is None:
        return NamespaceSeen(NamespaceState.MISSING)
    metadata = namespace["metadata"]
    notes = metadata.get("annotations", {})
    if notes.get(objects.OWNER) != identity.owner or notes.get(BRANCH) != identity.branch:
        return NamespaceSeen(NamespaceState.FOREIGN, namespace)
    if "deletionTimestamp" in metadata:
        return NamespaceSeen(NamespaceState.TERMINATING, namespace)
    return NamespaceSeen(NamespaceState.OURS, namespace)


def _covers(cached: Iterable[Manifest], live: Iterable[Manifest]) -> bool:
    """Whether a cache has all the live objects, as far as their specs go."""
    seen = {item["metadata"]["uid"]: item["metadata"].get("generation", 0) for item in cached}
    return all(seen.get(item["metadata"]["uid"], -1) >= item["metadata"].get("generation", 0) for item in live)


def _installer(identity: Identity) -> str:
    return service_account_user(identity.namespace, INSTALLER)
