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
    ApplyObject,
    DeleteNamespace,
    DeleteObject,
    DeployRelease,
    QuietObject,
    RollBackRelease,
    UninstallRelease,
)
from envprov.domain.desired import Desired, Identity
from envprov.domain.environment import FINALIZER, Environment, EnvironmentStatus
from envprov.domain.errors import Conflict, EnvprovError, Invalid, TerminalError
from envprov.domain.health import Condition, Health, Workloads
from envprov.domain.observed import Key, NamespaceSeen, NamespaceState, Observed, Remains
from envprov.domain.project import Project
from envprov.domain.release import Release, ReleaseState
from tests.unit.builders import CONTROL, Manifest, stored

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
class FakeCluster:
    """
    The namespaces of one cluster, with what lives in the environment's own.

    Attributes:
        live: Base objects and namespaces by kind and name; those of other namespaces are not kept.
        originals: Secrets of other namespaces.
        chart: Version of the chart, or why there is none.
        health: What the workloads say once the release is in force.
        deployments: Workloads of the release by name.
        pods: Names of the pods, with the workload that each belongs to.
        deploying: Set while Helm is at work.
        gate: What Helm waits for, if it is to take long.
        helm_fault: What Helm ends with, if it fails.
        helm_leaves: State in which a Helm that failed leaves the release.
        lingers: How often a terminating namespace is seen before it is gone.

    """

    faults: Faults = field(default_factory=Faults)
    live: dict[Key, Manifest] = field(default_factory=dict)
    originals: dict[Key, Manifest] = field(default_factory=dict)
    chart: str | TerminalError = "1"
    health: Health = field(default_factory=lambda: Health(Condition.HEALTHY))
    release: Release = field(default_factory=lambda: Release(""))
    deployments: dict[str, int] = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=dict)
    deploying: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event | None = None
    helm_fault: EnvprovError | None = None
    helm_leaves: ReleaseState = ReleaseState.FAILED
    lingers: int = 1
    ghosts: tuple[str, ...] = ()
    done: list[str] = field(default_factory=list)
    _said: dict[Key, Mapping[str, Any]] = field(default_factory=dict)
    _versions: int = 0

    async def observe(self, desired: Desired, fresh: Mapping[Key, Mapping[str, Any]]) -> Observed:
        del fresh  # this cache never lags
        number = self.faults.begin("observe")
        namespace = self._seen(desired.identity)
        objects = {key: item for key, item in self.live.items() if key[0] != "Namespace"}
        if namespace.state is not NamespaceState.OURS:
            observed = Observed(namespace)
        elif OWN_ACCESS not in self.live:
            observed = Observed(namespace, objects)
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
            )
        self.faults.end(number)
        return observed

    async def remains(self, identity: Identity) -> Remains:
        number = self.faults.begin("remains")
        namespace = self._seen(identity)
        if namespace.state is NamespaceState.TERMINATING:
            self.lingers -= 1
            if self.lingers < 0:
                self.live.clear()
                namespace = self._seen(identity)
        if namespace.state is not NamespaceState.OURS:
            found = Remains(namespace)
        else:
            tools = {key: item for key, item in self.live.items() if key[0] in {"RoleBinding", "ServiceAccount"}}
            found = Remains(namespace, tools)
            if OWN_ACCESS in tools:
                found = replace(found, workloads=self._workloads(identity), release=self.release)
        self.faults.end(number)
        return found

    async def apply(self, action: Action) -> Manifest | None:
        number = self.faults.begin(str(action))
        for _ in range(5):
            await asyncio.sleep(0)  # as over the network: others of its wave are under way meanwhile
        written = await self._carry_out(action)
        self.done.append(str(action))
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

    def _workloads(self, identity: Identity) -> Workloads:
        def item(name: str, **rest: object) -> Manifest:
            return {"metadata": {"name": name, "namespace": identity.namespace, "uid": f"u-{name}"}, **rest}

        return Workloads(
            deployments=tuple(item(name, spec={"replicas": count}) for name, count in self.deployments.items()),
            pods=tuple(item(name, spec={}) for name in self.pods),
        )

    async def _carry_out(self, action: Action) -> Manifest | None:
        match action:
            case ApplyObject(manifest=manifest):
                return self._apply(manifest)
            case DeleteObject():
                self._delete(action)
            case QuietObject(name=name):
                self.deployments[name] = 0
                self.pods = {pod: owner for pod, owner in self.pods.items() if owner != name}
            case DeployRelease(desired=desired, digest=digest):
                await self._deploy(desired, digest)
            case RollBackRelease(to=revision):
                self.release = replace(
                    self.release, state=ReleaseState.DEPLOYED, digest="old", last_deployed_revision=revision
                )
            case UninstallRelease(identity=identity):
                self.release = Release(identity.name)
                self.deployments.clear()
            case DeleteNamespace(name=name, uid=uid, resource_version=version):
                metadata = self.live["Namespace", name]["metadata"]
                if (metadata["uid"], metadata["resourceVersion"]) != (uid, version):
                    raise Conflict(f"Namespace {name} has changed")
                metadata["deletionTimestamp"] = "now"
        return None

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
        del environment, message, warning
        self.told.append(reason)

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
