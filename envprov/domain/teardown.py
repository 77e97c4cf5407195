"""
The way down: pods first, while ServiceAccounts, RBAC and Secrets still stand; the namespace last.

Decided from a live read, one phase a pass. Nothing is forced: what hangs is named with what holds it.
The guard's own steps (plan, fence, settle, release) will stand between these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from envprov.domain import objects
from envprov.domain.actions import (
    Action,
    ApplyObject,
    DeleteNamespace,
    DeleteObject,
    QuietObject,
    UninstallRelease,
)
from envprov.domain.desired import Identity
from envprov.domain.environment import Step
from envprov.domain.observed import Manifest, NamespaceState, Remains
from envprov.domain.release import ReleaseState

LOOK_AGAIN = timedelta(seconds=2)
SLOW_AFTER = timedelta(seconds=60)


@dataclass(frozen=True)
class Descent:
    """
    What one pass of the teardown does.

    Attributes:
        step: The last step that is done.
        message: What goes on, in words.
        waves: Actions, as in a plan.
        waiting_for: Objects that it waits for, each with what holds it.

    """

    step: Step
    message: str
    waves: tuple[tuple[Action, ...], ...] = ()
    waiting_for: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing of the environment is left."""
        return self.step is Step.NAMESPACE_GONE


def descend(identity: Identity, remains: Remains, *, account: str) -> Descent:
    """
    The next thing to do to take an environment down.

    Args:
        identity: The environment; its Project may be gone.
        remains: What is left of it, read live.
        account: The controller's own ServiceAccount.

    Returns:
        A descent that is over when the namespace is gone, or was never ours.

    """
    match remains.namespace.state:
        case NamespaceState.MISSING:
            return Descent(Step.NAMESPACE_GONE, f"Namespace {identity.namespace} is gone")
        case NamespaceState.FOREIGN:
            return Descent(Step.NAMESPACE_GONE, f"Namespace {identity.namespace} is not ours and was left alone")
        case NamespaceState.TERMINATING:
            return Descent(Step.RELEASED, "waits until the namespace is gone", waiting_for=_holders(remains))
        case NamespaceState.OURS:
            return _clear(identity, remains, account)


def _clear(identity: Identity, remains: Remains, account: str) -> Descent:
    tools = _missing_tools(identity, remains, account)
    if tools:
        return Descent(Step.REQUESTED, "puts back what the teardown works with", (tools,))
    loud = tuple(_quieting(remains))
    if loud:
        return Descent(Step.PLANNED, "tells the workloads to stop", (loud,))
    if remains.workloads.pods:
        return Descent(
            Step.QUIESCED, "waits until the pods are gone", waiting_for=_described("Pod", remains.workloads.pods)
        )
    if remains.release is not None and remains.release.state is not ReleaseState.ABSENT:
        return Descent(Step.PODS_GONE, f"uninstalls release {identity.name}", ((UninstallRelease(identity),),))
    external = (
        *(("Service", item) for item in remains.balancers),
        *(("PersistentVolumeClaim", item) for item in remains.workloads.claims),
    )
    if external:
        return Descent(
            Step.RELEASE_GONE,
            "waits until volumes and load balancers are gone",
            (
                tuple(
                    _deletion("v1", kind, item)
                    for kind, item in external
                    if "deletionTimestamp" not in item["metadata"]
                ),
            ),
            tuple(text for kind, item in external for text in _described(kind, [item])),
        )
    seen = remains.namespace
    return Descent(
        Step.EXTERNAL_GONE,
        f"deletes Namespace {identity.namespace}",
        ((DeleteNamespace(identity.namespace, seen.uid, seen.resource_version),),),
    )


def _missing_tools(identity: Identity, remains: Remains, account: str) -> tuple[Action, ...]:
    """Our rights in the namespace and Helm's identity: without them nothing else can be taken down."""
    wanted = (objects.own_access(identity, account), *objects.installer(identity))
    return tuple(
        ApplyObject(manifest)
        for manifest in wanted
        if (manifest["kind"], manifest["metadata"]["name"]) not in remains.objects
    )


def _quieting(remains: Remains) -> Iterable[Action]:
    """
    What must stop, owners before what they own.

    A StatefulSet or Deployment is scaled and not deleted, so that Helm's own uninstall finds what it installed.
    A DaemonSet cannot be scaled, and Jobs and bare pods have nothing that brings them back.
    """
    scaled = (
        ("apps/v1", "Deployment", remains.workloads.deployments),
        ("apps/v1", "StatefulSet", remains.workloads.stateful_sets),
        ("apps/v1", "ReplicaSet", [item for item in remains.replica_sets if not _is_controlled(item)]),
        ("v1", "ReplicationController", remains.replication_controllers),
    )
    for api_version, kind, manifests in scaled:
        for item in manifests:
            if item["spec"].get("replicas", 1) > 0:
                yield _quiet(api_version, kind, item)
    for item in remains.cron_jobs:
        if not item["spec"].get("suspend"):
            yield _quiet("batch/v1", "CronJob", item)
    deleted = (
        ("apps/v1", "DaemonSet", remains.workloads.daemon_sets),
        ("batch/v1", "Job", remains.workloads.jobs),
        ("v1", "Pod", [item for item in remains.workloads.pods if not _is_controlled(item)]),
    )
    for api_version, kind, manifests in deleted:
        for item in manifests:
            if "deletionTimestamp" not in item["metadata"]:
                yield _deletion(api_version, kind, item)


def _holders(remains: Remains) -> tuple[str, ...]:
    """
    What a terminating namespace waits for.

    Our own list of pods comes first: while pods remain, all conditions of the namespace say that nothing does.
    """
    conditions = remains.namespace.manifest.get("status", {}).get("conditions", ())
    told = tuple(
        f"{entry['type']}: {entry.get('message', '')}"[:500] for entry in conditions if entry["status"] == "True"
    )
    own = remains.namespace.manifest["metadata"].get("finalizers", ())
    return (
        *_described("Pod", remains.workloads.pods),
        *told,
        *(f"Namespace finalizer {finalizer}" for finalizer in own),
    )


def _described(kind: str, manifests: Iterable[Manifest]) -> tuple[str, ...]:
    described = []
    for item in manifests:
        finalizers = item["metadata"].get("finalizers", ())
        held = f" (finalizers: {', '.join(finalizers)})" if finalizers else ""
        described.append(f"{kind} {item['metadata']['name']}{held}")
    return tuple(sorted(described))[:50]


def _is_controlled(item: Manifest) -> bool:
    return any(owner.get("controller") for owner in item["metadata"].get("ownerReferences", ()))


def _quiet(api_version: str, kind: str, item: Manifest) -> QuietObject:
    metadata = item["metadata"]
    return QuietObject(api_version, kind, metadata["namespace"], metadata["name"], metadata["uid"])


def _deletion(api_version: str, kind: str, item: Manifest) -> DeleteObject:
    metadata = item["metadata"]
    return DeleteObject(api_version, kind, metadata["namespace"], metadata["name"], metadata["uid"])
