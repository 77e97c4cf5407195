"""Small worlds that keep state: the cluster and the records as the controller sees them, with faults on demand."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

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
from envprov.domain.admission import Admission, Admitted
from envprov.domain.desired import Desired, Identity
from envprov.domain.environment import FINALIZER, Environment, EnvironmentStatus
from envprov.domain.errors import Conflict, EnvprovError, Forbidden, HelmFailed, HostTaken, Invalid, TerminalError
from envprov.domain.findings import Finding
from envprov.domain.guard import KEEP, Policy, Verdict
from envprov.domain.health import Condition, Health, Workloads
from envprov.domain.holds import FENCED, HUSK, RELEASED, STATE, Account
from envprov.domain.hosts import HostSeen, HostState, Reservation, taken, tenant_of
from envprov.domain.objects import HUSK_QUOTA
from envprov.domain.observed import (
    AccountSeen,
    GuardSeen,
    Key,
    NamespaceSeen,
    NamespaceState,
    Observed,
    Remains,
    Rendered,
)
from envprov.domain.project import Project
from envprov.domain.release import Release, ReleaseState
from envprov.domain.sleep import REPLICAS, Sleepers, wake_up
from tests.unit.builders import CONTROL, Manifest, reservation, stored

OWN_ACCESS = ("RoleBinding", "envprov-controller")


@dataclass
class Clock:
    """Time that passes when told to."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def advance(self, span: timedelta) -> None:
        self.now += span


@dataclass
class Faults:
    """
    Errors at chosen calls, counted over all ports.

    Attributes:
        calls: What was called, in order.
        at: Number of the first call that fails; -1 for none.
        times: How many calls fail from there on.
        error: What they raise.
        lost: Whether the call is carried out before it fails, as when an answer is lost.

    """

    calls: list[str] = field(default_factory=list)
    at: int = -1
    times: int = 1
    error: Callable[[], EnvprovError] = lambda: Conflict("the cache lags")
    lost: bool = False

    def begin(self, call: str) -> int:
        """Count a call, and fail it before it is carried out if it is to fail so."""
        number = len(self.calls)
        self.calls.append(call)
        if self._fails(number) and not self.lost:
            raise self.error()
        return number

    def end(self, number: int) -> None:
        """Fail a call that has been carried out if it is to fail so."""
        if self._fails(number) and self.lost:
            raise self.error()

    def _fails(self, number: int) -> bool:
        return self.at >= 0 and self.at <= number < self.at + self.times


@dataclass
class Elsewhere:
    """A ServiceAccount of another namespace: its UID, the keys of the holds on it, its policy if it is adopted."""

    uid: str = "u-elsewhere"
    holds: set[str] = field(default_factory=set)
    policy: Policy | None = None


@dataclass
class FakeCluster:
    """
    The namespaces of one cluster, with what lives in the environment's own.

    Attributes:
        live: Base objects and namespaces by kind and name; those of other namespaces are not kept.
        originals: Secrets of other namespaces.
        chart: Version of the chart, or why there is none.
        health: What the workloads say once the release is in force.
        deployments: Workloads of the release by name.
        remembered: How many replicas those that sleep had.
        pods: Names of the pods, with the workload that each belongs to.
        deploying: Set while Helm is at work.
        gate: What Helm waits for, if it is to take long.
        helm_fault: What Helm ends with, if it fails.
        helm_leaves: State in which a Helm that failed leaves the release.
        lingers: How often a terminating namespace is seen before it is gone.
        verdict: What the guard allows.
        disarmed: Why the guard is disarmed, if it is.
        asked: How often the guard was asked.
        elsewhere: ServiceAccounts of other namespaces, with who holds them.
        rendered: What the chart does with ServiceAccounts, and the hosts that it claims.
        leases: Hosts that the environment has reserved.
        taken: Who has hosts that others have reserved.
        findings: What is wrong with the chart.
        hooks: ServiceAccounts that the hooks of the release's end run as.
        custom: Names of custom resources.
        others: What else is in the namespace.
        owned: ServiceAccounts that go with the release.
        denied: ServiceAccounts that the policies keep.
        clock: What time it is, if anybody asks.
        settle: How long a fence must have stood when the guard is asked for the last time.
        afterwards: Called with each action that was carried out.
        ghosts: Objects older than their namespace.
        admission: What the budgets say.
        late: Who uses what was in the namespace when it is gone.

    """

    faults: Faults = field(default_factory=Faults)
    live: dict[Key, Manifest] = field(default_factory=dict)
    originals: dict[Key, Manifest] = field(default_factory=dict)
    chart: str | TerminalError = "1"
    health: Health = field(default_factory=lambda: Health(Condition.HEALTHY))
    release: Release = field(default_factory=lambda: Release(""))
    deployments: dict[str, int] = field(default_factory=dict)
    remembered: dict[str, str] = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)
    deploying: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None
    helm_fault: EnvprovError | None = None
    helm_leaves: ReleaseState = ReleaseState.FAILED
    lingers: int = 1
    verdict: Verdict = field(default_factory=lambda: Verdict("Full"))
    disarmed: str = ""
    asked: int = 0
    elsewhere: dict[Account, Elsewhere] = field(default_factory=dict)
    rendered: Rendered = field(default_factory=Rendered)
    findings: tuple[Finding, ...] = ()
    leases: dict[str, Reservation] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    hooks: frozenset[str] = frozenset()
    custom: list[str] = field(default_factory=list)
    others: tuple[Manifest, ...] = ()
    owned: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    clock: Callable[[], datetime] | None = None
    settle: timedelta = timedelta(seconds=5)
    afterwards: Callable[[str], None] = lambda _: None
    ghosts: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    admission: Admission = field(default_factory=Admitted)
    done: list[str] = field(default_factory=list)
    _said: dict[Key, Mapping[str, Any]] = field(default_factory=dict)
    _versions: int = 0
    _fenced_at: datetime | None = None
    _asked_at: datetime | None = None

    async def observe(self, desired: Desired, fresh: Mapping[Key, Mapping[str, Any]]) -> Observed:
        del fresh  # this cache never lags
        number = self.faults.begin("observe")
        namespace = self._seen(desired.identity)
        objects = {key: item for key, item in self.live.items() if key[0] != "Namespace"}
        if namespace.state is not NamespaceState.OURS:
            observed = Observed(namespace, findings=self.findings)
        elif OWN_ACCESS not in self.live:
            observed = Observed(namespace, objects)
        elif desired.asleep or wake_up(self._sleepers(desired.identity)):
            observed = Observed(namespace, objects, release=self.release, sleepers=self._sleepers(desired.identity))
        else:
            digest = None if isinstance(self.chart, TerminalError) else self.digest(desired)
            in_sync = self.release.state is ReleaseState.DEPLOYED and self.release.digest == digest
            named = {(source.namespace, source.name) for source in desired.secrets}
            observed = Observed(
                namespace,
                objects,
                originals={key: item for key, item in self.originals.items() if key in named},
                ghosts=() if ("LimitRange", "envprov") in self.live else self.ghosts,
                release=self.release,
                digest=digest,
                chart_fault=self.chart if isinstance(self.chart, TerminalError) else None,
                health=self.health if in_sync else None,
                rendered=Rendered() if in_sync else self.rendered,
                findings=None if in_sync else self.findings,
                accounts=self._accounts(desired, in_sync=in_sync),
                hosts=None if in_sync or digest is None else self._hosts(),
                reserved=tuple(self.leases.values()),
                sleepers=self._sleepers(desired.identity) if desired.slept else None,
            )
        self.faults.end(number)
        return replace(observed, admission=self.admission)

    async def ask_guard(self, identity: Identity) -> GuardSeen:
        number = self.faults.begin("ask guard")
        del identity
        self.asked += 1
        self._asked_at = self.clock() if self.clock else None
        self.faults.end(number)
        return GuardSeen(self.disarmed, self.verdict)

    async def look_back(self, identity: Identity) -> tuple[str, ...]:
        number = self.faults.begin("look back")
        assert self._seen(identity).state is NamespaceState.MISSING
        self.faults.end(number)
        return self.late

    def alarm(self) -> GuardSeen | None:
        return GuardSeen(self.disarmed, Verdict("Blocked")) if self.disarmed else None

    async def remains(self, identity: Identity, *, thorough: bool) -> Remains:
        number = self.faults.begin("remains")
        namespace = self._seen(identity)
        if namespace.state is NamespaceState.TERMINATING:
            self.lingers -= 1
            if self.lingers < 0:
                self.live.clear()
                namespace = self._seen(identity)
        if namespace.state is not NamespaceState.OURS:
            key = identity.holder.key
            held = tuple(sorted(account for account, one in self.elsewhere.items() if key in one.holds))
            is_going = namespace.state is NamespaceState.TERMINATING
            reserved = () if is_going else tuple(self.leases.values())
            found = Remains(namespace, held=() if is_going else held, reserved=reserved)
        else:
            kinds = {"RoleBinding", "ServiceAccount", "ResourceQuota"}
            tools = {key: item for key, item in self.live.items() if key[0] in kinds}
            accounts = tuple(item for key, item in sorted(tools.items()) if key[0] == "ServiceAccount")
            found = Remains(namespace, tools, accounts=accounts)
            if OWN_ACCESS in tools:
                found = replace(
                    found,
                    workloads=self._workloads(identity),
                    release=self.release,
                    hook_accounts=frozenset() if self.release.state is ReleaseState.ABSENT else self.hooks,
                    custom=tuple(self._custom(identity, name) for name in self.custom),
                    others=self.others if thorough else None,
                )
        self.faults.end(number)
        return found

    async def apply(self, action: Action) -> Manifest | None:
        number = self.faults.begin(str(action))
        for _ in range(5):
            await asyncio.sleep(0)  # as over the network: others of its wave are under way meanwhile
        written = await self._carry_out(action)
        self.done.append(str(action))
        self.afterwards(str(action))
        self.faults.end(number)
        return written

    def digest(self, desired: Desired) -> str:
        """Digest of the chart and the values that are wanted."""
        return f"{self.chart}/{desired.revision}/{desired.values!r}"

    def put(self, manifest: Mapping[str, Any], **metadata: object) -> Manifest:
        """Store an object as server-side apply does: marks of others stay, of ours only what is said."""
        key = (manifest["kind"], manifest["metadata"]["name"])
        before = self.live.get(key)
        self._versions += 1
        live = stored(manifest, uid=f"u-{self._versions}", resourceVersion=str(self._versions), **metadata)
        if before is not None:
            for marks in ("labels", "annotations"):
                ours = self._said.get(key, {}).get("metadata", {}).get(marks, {})
                theirs = {name: text for name, text in before["metadata"].get(marks, {}).items() if name not in ours}
                live["metadata"][marks] = theirs | live["metadata"].get(marks, {})
            live["metadata"]["uid"] = before["metadata"]["uid"]
        self.live[key], self._said[key] = live, manifest
        return copy.deepcopy(live)

    def _seen(self, identity: Identity) -> NamespaceSeen:
        live = self.live.get(("Namespace", identity.namespace))
        if live is None:
            return NamespaceSeen(NamespaceState.MISSING)
        if live["metadata"].get("annotations", {}).get("envprov.io/owner") != identity.owner:
            return NamespaceSeen(NamespaceState.FOREIGN, live)
        if "deletionTimestamp" in live["metadata"]:
            return NamespaceSeen(NamespaceState.TERMINATING, live)
        return NamespaceSeen(NamespaceState.OURS, live)

    def _accounts(self, desired: Desired, *, in_sync: bool) -> dict[Account, AccountSeen]:
        wanted = {*desired.shared, *desired.held, *(() if in_sync else self.rendered.referred)}
        return {
            account: AccountSeen(one.uid, desired.identity.holder.key in one.holds, one.policy)
            if (one := self.elsewhere.get(account)) is not None
            else AccountSeen()
            for account in sorted(wanted)
        }

    def _hosts(self) -> dict[str, HostSeen]:
        def seen(host: str) -> HostSeen:
            if host in self.leases:
                return HostSeen(HostState.OURS)
            return HostSeen(HostState.TAKEN, self.taken[host]) if host in self.taken else HostSeen(HostState.FREE)

        return {host: seen(host) for host in self.rendered.hosts}

    def _custom(self, identity: Identity, name: str) -> Manifest:
        metadata = {"name": name, "namespace": identity.namespace, "uid": f"u-{name}"}
        return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata}

    def _workloads(self, identity: Identity) -> Workloads:
        def item(name: str, **rest: object) -> Manifest:
            return {"metadata": {"name": name, "namespace": identity.namespace, "uid": f"u-{name}"}, **rest}

        return Workloads(
            deployments=tuple(item(name, spec={"replicas": count}) for name, count in self.deployments.items()),
            pods=tuple(item(name, spec={}) for name in self.pods),
        )

    def _sleepers(self, identity: Identity) -> Sleepers:
        def item(name: str, owner: str, **rest: object) -> Manifest:
            notes = {REPLICAS: self.remembered[name]} if name in self.remembered else {}
            owners = [{"kind": "Deployment", "uid": f"u-{owner}", "controller": True}] if owner else []
            metadata = {"name": name, "namespace": identity.namespace, "uid": f"u-{name}", "resourceVersion": "1"}
            return {"metadata": metadata | {"annotations": notes, "ownerReferences": owners}, **rest}

        return Sleepers(
            deployments=tuple(item(name, "", spec={"replicas": count}) for name, count in self.deployments.items()),
            pods=tuple(item(name, owner, spec={}) for name, owner in self.pods.items()),
        )

    def _rest(self, action: RestWorkload) -> None:
        name, said = action.name, action.patch["metadata"]["annotations"][REPLICAS]
        self.deployments[name] = action.patch["spec"].get("replicas", self.deployments[name])
        self.remembered.pop(name, None)
        if said is not None:
            self.remembered[name] = said
        self.pods = {pod: owner for pod, owner in self.pods.items() if owner != name}
        self.pods |= {f"{name}-{number}": name for number in range(1, self.deployments[name] + 1)}

    async def _carry_out(self, action: Action) -> Manifest | None:
        match action:
            case ApplyObject(manifest=manifest):
                return self._apply(manifest)
            case DeleteObject():
                self._delete(action)
            case QuietObject(name=name):
                self.deployments[name] = 0
                self.pods = {pod: owner for pod, owner in self.pods.items() if owner != name}
            case RestWorkload():
                self._rest(action)
            case DeployRelease(desired=desired, digest=digest):
                await self._deploy(desired, digest)
            case RollBackRelease(to=revision):
                self.release = replace(
                    self.release, state=ReleaseState.DEPLOYED, digest="old", last_deployed_revision=revision
                )
            case UninstallRelease(identity=identity):
                self._uninstall(identity)
            case DeleteNamespace():
                self._delete_namespace(action)
            case Admit() | ReserveHosts() | MarkHost() | ReleaseHost():
                self._share(action)
            case _:
                self._guard(action)
        return None

    def _guard(self, action: GuardAction) -> None:
        match action:
            case DeleteCustom(kind=kind, name=name):
                self.live.pop((kind, name), None)
                self.custom = [one for one in self.custom if one != name]
                self.others = tuple(one for one in self.others if one["metadata"]["name"] != name)
            case HoldAccount(identity=identity, account=account, policy=policy):
                one = self.elsewhere[account]
                one.holds.add(identity.holder.key)
                one.policy = KEEP if one.policy == KEEP else policy or one.policy
            case ReleaseAccount(identity=identity, account=account):
                assert self._seen(identity).state in {NamespaceState.MISSING, NamespaceState.FOREIGN}
                self.elsewhere[account].holds.discard(identity.holder.key)
            case FenceAccounts(namespace=namespace, uid=uid, names=names):
                self._note(namespace, uid, FENCED, ",".join(sorted(names)))
                self._fenced_at = self.clock() if self.clock else None
            case MarkHusk(namespace=namespace, uid=uid):
                self._namespace(namespace, uid)["labels"][STATE] = HUSK
            case ClearNamespace(namespace=namespace, uid=uid, accounts=accounts):
                self._rehearse(accounts)
                self._assert_asked_after_settling()
                self._note(namespace, uid, RELEASED, uid)
            case WithholdNamespace(namespace=namespace, uid=uid):
                del self._namespace(namespace, uid)["annotations"][RELEASED]

    def _share(self, action: ShareAction) -> None:
        match action:
            case Admit():
                self.admission = Admitted()
            case ReserveHosts(identity=identity, hosts=hosts):
                lost = {host: self.taken[host] for host in hosts if host in self.taken}
                if lost:
                    raise HostTaken(taken(lost))
                for host in hosts:
                    self.leases[host] = reservation(host, tenant_of(identity))
            case MarkHost(reservation=one, dropped_by=digest):
                self.leases[one.host] = replace(one, dropped_by=digest)
            case ReleaseHost(reservation=one):
                assert self.release.state in {ReleaseState.ABSENT, ReleaseState.DEPLOYED}
                self.leases.pop(one.host, None)

    def fenced(self, namespace: str) -> set[str]:
        """Names of the ServiceAccounts that get no new pods and tokens."""
        text = self.live["Namespace", namespace]["metadata"]["annotations"].get(FENCED, "")
        return set(filter(None, text.split(",")))

    def _let_hooks_run(self, identity: Identity) -> None:
        if not self.hooks:
            return
        if self.fenced(identity.namespace) & self.hooks or ("ResourceQuota", HUSK_QUOTA) in self.live:
            raise HelmFailed("pre-delete hook got no pod")
        if not all(("ServiceAccount", name) in self.live for name in self.hooks):
            raise HelmFailed("pre-delete hook found no ServiceAccount")

    def _uninstall(self, identity: Identity) -> None:
        self._let_hooks_run(identity)
        if self.denied & self.owned:
            raise HelmFailed(f"envprov guard: {', '.join(sorted(self.denied & self.owned))} is held")
        for name in self.owned:
            self.live.pop(("ServiceAccount", name), None)
        self.release = Release(identity.name)
        self.deployments.clear()

    def _delete_namespace(self, action: DeleteNamespace) -> None:
        if ("Namespace", action.name) not in self.live:
            return
        metadata = self._namespace(action.name, action.uid)
        if metadata["resourceVersion"] != action.resource_version:
            raise Conflict(f"Namespace {action.name} has changed")
        if metadata["annotations"].get(RELEASED) != action.uid:
            raise Forbidden(f"envprov guard: {action.name} has not been released for uid {action.uid}")
        self._assert_asked_after_settling()
        assert self.fenced(action.name) == {own for kind, own in self.live if kind == "ServiceAccount"}
        metadata["deletionTimestamp"] = "now"

    def _rehearse(self, accounts: tuple[tuple[str, str], ...]) -> None:
        for name, uid in accounts:
            live = self.live.get(("ServiceAccount", name))
            if live is not None and live["metadata"]["uid"] != uid:
                raise Conflict(f"ServiceAccount {name} is another one")
            if live is not None and name in self.denied:
                raise Forbidden(f"envprov guard: {name} is held by 1 holder(s)")

    def _assert_asked_after_settling(self) -> None:
        """The answer that covers release and deletion is from when the fence had stood for its whole time."""
        if self.clock is not None:
            assert self._asked_at is not None, "the guard was never asked"
            assert self._fenced_at is not None, "there is no fence"
            assert self._asked_at - self._fenced_at >= self.settle, "the answer is too old"

    def _namespace(self, name: str, uid: str) -> Manifest:
        """Metadata of exactly this namespace, as a patch with its UID finds it."""
        live = self.live.get(("Namespace", name))
        if live is None or live["metadata"]["uid"] != uid:
            raise Conflict(f"Namespace {name} is gone")
        metadata: Manifest = live["metadata"]
        return metadata

    def _note(self, namespace: str, uid: str, key: str, text: str) -> None:
        metadata = self._namespace(namespace, uid)
        metadata["annotations"][key] = text
        self._versions += 1
        metadata["resourceVersion"] = str(self._versions)

    def _delete(self, action: DeleteObject) -> None:
        if action.kind == "Pod":
            self.pods.pop(action.name, None)
            return
        live = self.live.get((action.kind, action.name))
        if live is not None and live["metadata"]["uid"] != action.uid:
            raise Conflict(f"{action.kind} {action.name} is another one")
        self.live.pop((action.kind, action.name), None)

    def _apply(self, manifest: Mapping[str, Any]) -> Manifest:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        before = self.live.get((kind, name))
        if before is not None and before.get("roleRef") != manifest.get("roleRef"):
            raise Invalid(f"{kind} {name}: a roleRef cannot be changed")
        return self.put(manifest)

    async def _deploy(self, desired: Desired, digest: str) -> None:
        for account in (*desired.shared, *self.rendered.referred):
            assert desired.identity.holder.key in self.elsewhere[account].holds, f"{account} is not held"
        assert set(self.rendered.hosts) <= self.leases.keys(), "a host is not reserved"
        name, revision = desired.identity.name, self.release.revision + 1
        if self.release.state.value.startswith("pending"):
            raise Invalid("another operation is in progress")
        last = self.release.last_deployed_revision
        self.release = Release(name, revision, self.helm_leaves, digest, desired.revision, last)
        self.deploying.set()
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.helm_fault is not None:
                raise self.helm_fault
            self.release = Release(name, revision, ReleaseState.DEPLOYED, digest, desired.revision, revision)
            self.deployments["web"], self.pods["web-1"] = 1, "web"
        finally:
            self.deploying.clear()


@dataclass
class FakeRecords:
    """
    One control namespace.

    Attributes:
        live: Environments by name, as the API server sends them.
        projects: Projects by name; an error is raised where one stands.
        successors: Revisions that finished teardowns owe, by name.
        reports: How often a status was written.
        told: Reasons of the Events.
        messages: What the Events say.
        poison: What was said of records that cannot be read.
        retired: Names whose finalizer was taken off.
        expired: Names whose lifetime ended.

    """

    faults: Faults = field(default_factory=Faults)
    live: dict[str, Manifest] = field(default_factory=dict)
    projects: dict[str, Project | TerminalError] = field(default_factory=dict)
    successors: dict[str, str] = field(default_factory=dict)
    reports: int = 0
    told: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    poison: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def environment(self, name: str) -> Manifest | None:
        return copy.deepcopy(self.live.get(name))

    def project(self, name: str) -> Project | None:
        found = self.projects.get(name)
        if isinstance(found, TerminalError):
            raise found
        return found

    def pending_successor(self, name: str) -> str | None:
        return self.successors.get(name)

    async def superseded(self, environment: Environment) -> None:
        while self._is_current(environment):
            await self.changed.wait()
            self.changed.clear()

    async def hold(self, environment: Environment) -> None:
        number = self.faults.begin("hold")
        metadata = self.live[environment.name]["metadata"]
        metadata["finalizers"] = sorted({*metadata.get("finalizers", ()), FINALIZER})
        self.faults.end(number)

    async def report(self, environment: Environment, status: EnvironmentStatus) -> None:
        number = self.faults.begin("report")
        if environment.name not in self.live:
            raise Conflict(f"Environment {environment.name} is gone")
        self.reports += 1
        said = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.live[environment.name]["status"] = said
        self.faults.end(number)

    async def report_poison(self, manifest: Mapping[str, Any], message: str, now: datetime) -> None:
        number = self.faults.begin("report_poison")
        del manifest, now
        self.poison.append(message)
        self.faults.end(number)

    async def retire(self, environment: Environment, now: datetime) -> None:
        number = self.faults.begin("retire")
        del now
        self.retired.append(environment.name)
        self.live.pop(environment.name, None)
        self.faults.end(number)

    async def revive(self, name: str) -> None:
        number = self.faults.begin("revive")
        manifest: Manifest = {
            "metadata": {
                "name": name,
                "namespace": CONTROL,
                "uid": "22222222-2222-4222-8222-222222222222",
                "resourceVersion": "9",
                "generation": 1,
                "creationTimestamp": "2026-11-24T13:00:00Z",
                "finalizers": [FINALIZER],
            },
            "spec": {"project": "shop", "branch": "feature/x", "revision": self.successors.pop(name)},
        }
        self.live[name] = manifest
        self.faults.end(number)

    async def expire(self, environment: Environment) -> None:
        number = self.faults.begin("expire")
        self.expired.append(environment.name)
        self.delete(environment.name)
        self.faults.end(number)

    async def tell(self, environment: Environment, reason: str, message: str, *, warning: bool) -> None:
        del environment, warning
        self.told.append(reason)
        self.messages.append(message)

    def edit(self, name: str, **spec: Any) -> None:  # noqa: ANN401 - any field
        """Change a spec as a person or a delivery does."""
        self.live[name]["spec"] |= spec
        self.live[name]["metadata"]["generation"] += 1
        self.changed.set()

    def delete(self, name: str) -> None:
        """Ask for the teardown."""
        self.live[name]["metadata"].setdefault("deletionTimestamp", "2026-11-24T12:30:00Z")
        self.changed.set()

    def facts(self, name: str) -> dict[str, tuple[str, str]]:
        """Return status and reason of each condition."""
        conditions = self.live[name].get("status", {}).get("conditions", ())
        return {entry["type"]: (entry["status"], entry["reason"]) for entry in conditions}

    def _is_current(self, environment: Environment) -> bool:
        live = self.live.get(environment.name)
        if live is None or "deletionTimestamp" in live["metadata"]:
            return False
        return bool(live["metadata"]["generation"] == environment.generation)
