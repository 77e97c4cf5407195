"""
The way down: pods first, while ServiceAccounts, RBAC and Secrets still stand; the namespace last.

Decided from a live read, one phase a pass. Nothing is forced: what hangs is named with what holds it. What others
still use stays, and the namespace with it: a husk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from envprov.domain import objects
from envprov.domain.actions import (
    Action,
    ApplyObject,
    ClearNamespace,
    DeleteCustom,
    DeleteNamespace,
    DeleteObject,
    FenceAccounts,
    MarkHusk,
    QuietObject,
    ReleaseAccount,
    ReleaseHost,
    UninstallRelease,
    WithholdNamespace,
)
from envprov.domain.desired import INSTALLER, Identity
from envprov.domain.environment import Step, TeardownStatus
from envprov.domain.holds import FENCED, HUSK, RELEASED, STATE
from envprov.domain.husk import leftovers
from envprov.domain.observed import GuardSeen, Manifest, NamespaceSeen, NamespaceState, Remains
from envprov.domain.release import ReleaseState

LOOK_AGAIN = timedelta(seconds=2)
LOOK_WHEN_DISARMED = timedelta(seconds=5)
LOOK_WHEN_UNKNOWN = timedelta(seconds=30)
"""Each look reads who uses what in the whole cluster, for each environment that waits."""
LOOK_AT_HUSK = timedelta(minutes=1)
"""A husk waits for others; the end of a hold on it wakes us before."""
SLOW_AFTER = timedelta(seconds=60)

PlanName = Literal["Full", "Husk", "Blocked"]


@dataclass(frozen=True)
class Descent:
    """
    What one pass of the teardown does.

    Attributes:
        step: The last step that is done.
        message: What goes on, in words.
        waves: Actions, as in a plan.
        waiting_for: Objects that it waits for, each with what holds it.
        plan: What may go.
        blocked: Reason in one word, if it waits for somebody and not for something.
        is_fenced: Whether the fence stands around all that goes.
        asks_guard: Whether nothing can be decided before the guard has looked.
        look_again: When to look again if nothing wakes us before.

    """

    step: Step
    message: str
    waves: tuple[tuple[Action, ...], ...] = ()
    waiting_for: tuple[str, ...] = ()
    plan: PlanName = "Full"
    blocked: str = ""
    is_fenced: bool = False
    asks_guard: bool = False
    look_again: timedelta = LOOK_AGAIN

    @property
    def is_over(self) -> bool:
        """Whether nothing of the environment is left."""
        return self.step is Step.NAMESPACE_GONE and not any(self.waves)


@dataclass(frozen=True)
class Course:
    """
    Where the teardown stands, and by what rules it goes on.

    Attributes:
        account: The controller's own ServiceAccount.
        progress: What was last reported, if anything was.
        now: Aware moment of the pass.
        settle: How long the fence stands before the guard looks for the last time.
        guard: What the guard says, if it was asked in this pass.

    """

    account: str
    progress: TeardownStatus | None
    now: datetime
    settle: timedelta
    guard: GuardSeen | None = None

    @property
    def plan(self) -> PlanName:
        """The plan so far."""
        return self.progress.plan if self.progress else "Full"

    @property
    def is_full(self) -> bool:
        """Whether everything was once found to be free to go."""
        return self.progress is not None and self.plan == "Full" and self.progress.step is not Step.REQUESTED

    @property
    def settles_in(self) -> timedelta:
        """How long the fence must go on standing; the whole time if nobody has written down since when it does."""
        if self.progress is None or self.progress.fenced_at is None:
            return self.settle
        # Moments are written in whole seconds: one that was cut off must not shorten the wait.
        return self.settle + timedelta(seconds=1) - (self.now - self.progress.fenced_at)


Stage = Callable[[Identity, Remains, Course], Descent | None]


def descend(identity: Identity, remains: Remains, course: Course) -> Descent:
    """
    The next thing to do to take an environment down.

    Args:
        identity: The environment; its Project may be gone.
        remains: What is left of it, read live.
        course: Where the teardown stands.

    Returns:
        A descent that is over when the namespace is gone, or was never ours, and nothing elsewhere is held any more.

    """
    name = identity.namespace
    match remains.namespace.state:
        case NamespaceState.MISSING:
            return _let_go(identity, remains, course, f"Namespace {name} is gone")
        case NamespaceState.FOREIGN:
            return _let_go(identity, remains, course, f"Namespace {name} is not ours and was left alone")
        case NamespaceState.TERMINATING:
            return Descent(Step.RELEASED, "waits until the namespace is gone", waiting_for=_holders(remains))
        case NamespaceState.OURS:
            return _withholding(remains, _decide(identity, remains, course))


def _let_go(identity: Identity, remains: Remains, course: Course, message: str) -> Descent:
    """The environment's own holds on what others want: last, since anything before could still use it."""
    hosts: tuple[Action, ...] = tuple(ReleaseHost(one) for one in remains.reserved)
    if remains.held and course.guard is not None and course.guard.disarmed:
        return replace(_disarmed(course.guard), waves=(hosts,) if hosts else ())
    wave = (*hosts, *(ReleaseAccount(identity, account) for account in remains.held))
    return Descent(Step.NAMESPACE_GONE, message, (wave,) if wave else ())


def _withholding(remains: Remains, descent: Descent) -> Descent:
    """A teardown that was cut off between release and deletion leaves a namespace that anybody may delete."""
    seen = remains.namespace
    if not _is_released(seen) or descent.asks_guard or descent.step is Step.RELEASED:
        return descent
    return replace(descent, waves=((WithholdNamespace(seen.manifest["metadata"]["name"], seen.uid),), *descent.waves))


def _decide(identity: Identity, remains: Remains, course: Course) -> Descent:
    tools = _missing_tools(identity, remains, course.account)
    if tools:
        return Descent(Step.REQUESTED, "puts back what the teardown works with", (tools,), plan=course.plan)
    if course.guard is not None:
        return _as_allowed(identity, remains, course, course.guard)
    if course.is_full:
        return _clear(identity, remains, course)
    return Descent(Step.REQUESTED, "asks the guard what may go", plan=course.plan, asks_guard=True)


def _as_allowed(identity: Identity, remains: Remains, course: Course, guard: GuardSeen) -> Descent:
    if guard.disarmed:
        return _disarmed(guard)
    if guard.verdict.plan == "Blocked":
        why, message = guard.verdict.why, "cannot see who uses the ServiceAccounts"
        return _blocked("UsageUnknown", message, why, LOOK_WHEN_UNKNOWN)
    if guard.verdict.plan == "Husk":
        return _hollow(identity, remains, guard)
    return _clear(identity, remains, course)


def _disarmed(guard: GuardSeen) -> Descent:
    return _blocked("Disarmed", "waits until the guard is armed again", (guard.disarmed,), LOOK_WHEN_DISARMED)


def _blocked(reason: str, message: str, why: tuple[str, ...], look_again: timedelta) -> Descent:
    return Descent(Step.REQUESTED, message, waiting_for=why, plan="Blocked", blocked=reason, look_again=look_again)


def _clear(identity: Identity, remains: Remains, course: Course) -> Descent:
    """Everything goes."""
    descent = next(filter(None, (stage(identity, remains, course) for stage in STAGES)))
    names = sorted(item["metadata"]["name"] for item in remains.accounts)
    return replace(descent, is_fenced=_fenced(remains) == names)


def quieten(_identity: Identity, remains: Remains, _course: Course) -> Descent | None:
    """No new pods and tokens but for the hooks of the release; no custom resources; no pods."""
    return _quieten(remains, keep=remains.hook_accounts if _has_release(remains) else frozenset())


def let_hooks_run(_identity: Identity, remains: Remains, _course: Course) -> Descent | None:
    """A namespace that was a husk lets no pods in, and hooks need some."""
    quota = remains.objects.get(("ResourceQuota", objects.HUSK_QUOTA))
    if quota is None:
        return None
    return Descent(Step.PODS_GONE, "lets the hooks run", ((_deletion("v1", "ResourceQuota", quota),),))


def uninstall(identity: Identity, remains: Remains, course: Course) -> Descent | None:
    """What the release installed, with its hooks: ServiceAccounts among it, so the guard looks again before."""
    if not _has_release(remains):
        return None
    if course.guard is None:
        return Descent(Step.PODS_GONE, "asks the guard before Helm works", asks_guard=True)
    return Descent(Step.PODS_GONE, f"uninstalls release {identity.name}", ((UninstallRelease(identity),),))


def give_back(_identity: Identity, remains: Remains, _course: Course) -> Descent | None:
    """Volumes and load balancers, which something outside must give back."""
    return _external(remains)


def settle(_identity: Identity, _remains: Remains, course: Course) -> Descent | None:
    """A pod that was let in just before the fence must show itself; then the guard looks once more."""
    if course.settles_in > timedelta(0):
        message = "waits a moment for what began before the fence stood"
        return Descent(Step.EXTERNAL_GONE, message, look_again=course.settles_in)
    if course.guard is None:
        return Descent(Step.EXTERNAL_GONE, "asks the guard for the last time", asks_guard=True)
    return None


def release(identity: Identity, remains: Remains, _course: Course) -> Descent | None:
    """The guard lets go of exactly this namespace, after each ServiceAccount in it could be deleted."""
    seen = remains.namespace
    if _is_released(seen):
        return None
    accounts = tuple((item["metadata"]["name"], item["metadata"]["uid"]) for item in remains.accounts)
    clear = ClearNamespace(identity.namespace, seen.uid, accounts)
    return Descent(Step.SETTLED, f"releases Namespace {identity.namespace}", ((clear,),))


def delete(identity: Identity, remains: Remains, _course: Course) -> Descent | None:
    """The namespace as it was just read."""
    seen = remains.namespace
    deletion = DeleteNamespace(identity.namespace, seen.uid, seen.resource_version)
    return Descent(Step.RELEASED, f"deletes Namespace {identity.namespace}", ((deletion,),))


STAGES: tuple[Stage, ...] = (quieten, let_hooks_run, uninstall, give_back, settle, release, delete)


def _hollow(identity: Identity, remains: Remains, guard: GuardSeen) -> Descent:
    """Everything goes but the ServiceAccounts that others use, with what makes them work."""
    kept = frozenset(one.account.name for one in guard.verdict.kept)
    who = tuple(f"ServiceAccount {one.account}: {reason}" for one in guard.verdict.kept for reason in one.reasons)
    early = _quieten(remains, keep=kept)
    if early is None and ("ResourceQuota", objects.HUSK_QUOTA) not in remains.objects:
        quota = ApplyObject(objects.husk_quota(identity))
        early = Descent(Step.PODS_GONE, "lets no pods in any more", ((quota,),))
    early = early or _external(remains)
    if early is not None:
        return replace(early, plan="Husk")
    seen = remains.namespace
    waves: tuple[tuple[Action, ...], ...] = ()
    if seen.manifest["metadata"].get("labels", {}).get(STATE) != HUSK:
        if remains.others is None:
            message = "looks at what else is there"
            return Descent(Step.RELEASE_GONE, message, waiting_for=who, plan="Husk", look_again=timedelta(seconds=0.1))
        # Once only: what comes back, or comes anew, is somebody else's doing.
        hooks = remains.hook_accounts
        rest = leftovers(remains.others, kept, frozenset({INSTALLER}) | hooks, data_stays=bool(hooks))
        wave = tuple(_custom_deletion(item) for item in rest)
        waves = ((wave,) if wave else ()) + ((MarkHusk(identity.namespace, seen.uid),),)
    return Descent(
        Step.EXTERNAL_GONE,
        "stays as a husk while others use its ServiceAccounts",
        waves,
        who or guard.verdict.why,
        plan="Husk",
        blocked="HeldByOthers",
        look_again=LOOK_AT_HUSK,
    )


def _quieten(remains: Remains, *, keep: frozenset[str]) -> Descent | None:
    """No new pods, no custom resources, no pods; None when it is quiet."""
    seen = remains.namespace
    going = sorted(item["metadata"]["name"] for item in remains.accounts if item["metadata"]["name"] not in keep)
    if _fenced(remains) != going:
        fence = FenceAccounts(seen.manifest["metadata"]["name"], seen.uid, tuple(going))
        return Descent(Step.PLANNED, "lets nothing new begin", ((fence,),))
    if remains.custom:
        # Before the workloads: a custom resource with a finalizer goes only while its operator runs.
        return Descent(
            Step.PLANNED,
            "waits until the custom resources are gone",
            (tuple(_custom_deletion(item) for item in remains.custom if not _is_terminating(item)),),
            tuple(text for item in remains.custom for text in _described(item["kind"], [item]))[:50],
        )
    loud = tuple(_quieting(remains))
    if loud:
        return Descent(Step.PLANNED, "tells the workloads to stop", (loud,))
    if remains.workloads.pods:
        return Descent(
            Step.QUIESCED, "waits until the pods are gone", waiting_for=_described("Pod", remains.workloads.pods)
        )
    return None


def _is_released(seen: NamespaceSeen) -> bool:
    return bool(seen.manifest["metadata"].get("annotations", {}).get(RELEASED) == seen.uid)


def _fenced(remains: Remains) -> list[str]:
    text = remains.namespace.manifest["metadata"].get("annotations", {}).get(FENCED, "")
    return text.split(",") if text else []


def _external(remains: Remains) -> Descent | None:
    """None when there are none."""
    external = (
        *(("Service", item) for item in remains.balancers),
        *(("PersistentVolumeClaim", item) for item in remains.workloads.claims),
    )
    if not external:
        return None
    return Descent(
        Step.RELEASE_GONE,
        "waits until volumes and load balancers are gone",
        (tuple(_deletion("v1", kind, item) for kind, item in external if not _is_terminating(item)),),
        tuple(text for kind, item in external for text in _described(kind, [item])),
    )


def _has_release(remains: Remains) -> bool:
    return remains.release is not None and remains.release.state is not ReleaseState.ABSENT


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
            if not _is_terminating(item):
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


def _custom_deletion(item: Manifest) -> DeleteCustom:
    metadata = item["metadata"]
    return DeleteCustom(item["apiVersion"], item["kind"], metadata["namespace"], metadata["name"], metadata["uid"])


def _is_terminating(item: Manifest) -> bool:
    return "deletionTimestamp" in item["metadata"]
