"""
The way up: what brings an environment from what is there to what ought to be.

Each step either has something to do or to wait for, which ends the pass, or has nothing to say; the order of
``STEPS`` is the order of the design. Steps of capabilities that are still to come stand in it by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from envprov.domain import objects
from envprov.domain.actions import (
    Action,
    ApplyObject,
    DeleteObject,
    DeployRelease,
    HoldAccount,
    RollBackRelease,
    UninstallRelease,
)
from envprov.domain.desired import Desired, Identity
from envprov.domain.drift import drifted
from envprov.domain.errors import AccountTaken, GhostObjects, NotOwned
from envprov.domain.guard import KEEP, Policy
from envprov.domain.health import Condition
from envprov.domain.holds import Account
from envprov.domain.observed import Manifest, NamespaceState, Observed
from envprov.domain.project import SecretCopy
from envprov.domain.quantity import same
from envprov.domain.release import Recovery, ReleaseState, recovery
from envprov.domain.sleep import going_on, put_down, still_running, wake_up

_FIXED = ("roleRef", "type")
"""Fields of a RoleBinding and of a Secret that cannot be changed once they are there."""

SOON = timedelta(seconds=2)
RESYNC = timedelta(minutes=5)


class Phase(StrEnum):
    """One word for where an environment stands: the reason of its Ready condition."""

    QUEUED = "Queued"
    PREPARING = "Preparing"
    DEPLOYING = "Deploying"
    STARTING = "Starting"
    UNHEALTHY = "Unhealthy"
    READY = "Ready"
    FALLING_ASLEEP = "FallingAsleep"
    ASLEEP = "Asleep"
    WAKING = "Waking"
    RETRYING = "Retrying"
    STALLED = "Stalled"
    TEARING_DOWN = "TearingDown"


@dataclass(frozen=True)
class Plan:
    """
    What one pass does.

    Attributes:
        phase: Where the environment stands.
        message: What it waits for or has reached, in words.
        waves: Actions; those of one wave may run at once, a wave begins when the one before has ended.
        look_again: When to look again if no watch wakes us before.

    """

    phase: Phase
    message: str
    waves: tuple[tuple[Action, ...], ...] = ()
    look_again: timedelta = RESYNC


Step = Callable[[Desired, Observed], Plan | None]


def plan(desired: Desired, observed: Observed) -> Plan:
    """
    The next thing to do for one environment.

    Args:
        desired: What ought to be.
        observed: What is there.

    Returns:
        A plan without actions when there is nothing to do; a pass right after a full one gives that.

    Raises:
        NotOwned: The namespace belongs to somebody else.
        GhostObjects: A force-finalised namespace left objects behind.
        TerminalError: The chart cannot be had.

    """
    for step in STEPS:
        decided = step(desired, observed)
        if decided is not None:
            return decided
    return Plan(Phase.READY, desired.url or f"ready in namespace {desired.identity.namespace}")


def admit_to_budget(_desired: Desired, _observed: Observed) -> Plan | None:
    """Place of the project's and the cluster's budget, which answer with Queued; nothing waits here yet."""
    return None


def ensure_namespace(desired: Desired, observed: Observed) -> Plan | None:
    """A namespace of ours, or a wait until the old one has gone."""
    name = desired.identity.namespace
    match observed.namespace.state:
        case NamespaceState.FOREIGN:
            raise NotOwned(
                f"Namespace {name} exists and does not belong to Environment {desired.identity.owner}; "
                "nothing in it was touched. Rename or delete that namespace, or delete this Environment"
            )
        case NamespaceState.TERMINATING:
            return Plan(Phase.PREPARING, f"waits until the old Namespace {name} has gone", look_again=SOON)
        case NamespaceState.MISSING:
            apply = ApplyObject(objects.namespace(desired))
            return Plan(Phase.PREPARING, f"makes Namespace {name}", ((apply,),), look_again=SOON)
        case NamespaceState.OURS:
            return None


def refuse_ghosts(desired: Desired, observed: Observed) -> Plan | None:
    """Objects older than their namespace carry live credentials of an earlier one."""
    if not observed.ghosts:
        return None
    raise GhostObjects(
        f"Namespace {desired.identity.namespace} was force-finalised once and holds objects older than itself: "
        f"{', '.join(observed.ghosts)}. Delete them by hand, after looking who used them"
    )


def put_to_sleep(desired: Desired, observed: Observed) -> Plan | None:
    """What runs is scaled to nothing, before anything that could hold that up."""
    if not desired.asleep or observed.sleepers is None:
        return None
    actions = put_down(observed.sleepers)
    if not actions:
        return None
    return Plan(Phase.FALLING_ASLEEP, "scales everything to nothing", (actions,), look_again=SOON)


def ensure_base(desired: Desired, observed: Observed) -> Plan | None:
    """Limits, quota, policies, access, secrets and the installer, in the order in which they must stand."""
    identity = desired.identity
    account = desired.platform.controller_account
    own = objects.own_access(identity, account)
    first = (objects.namespace(desired), own)
    if _repairs((own,), observed):
        # Without it nothing in the namespace can be seen, ghosts neither: they must be looked for before the rest.
        return Plan(Phase.PREPARING, "takes its rights", (tuple(_repairs(first, observed)),), look_again=SOON)
    missing = [f"{source.namespace}/{source.name}" for source in desired.secrets if _original(source, observed) is None]
    copies = [objects.secret_copy(identity, original) for original in observed.originals.values()]
    rest = (
        *objects.network_policies(desired),
        *objects.access(desired),
        *copies,
        *objects.pull_account(desired),
        *objects.installer(identity),
    )
    waves = (first, (objects.limit_range(desired),), (objects.quota(desired),), rest)
    repairs = tuple(tuple(_repairs(wave, observed)) for wave in waves)
    stray = tuple(_strays(desired, [manifest for wave in waves for manifest in wave], observed))
    pending = tuple(wave for wave in (*repairs, stray) if wave)
    if pending:
        return Plan(Phase.PREPARING, "puts limits, quota, policies and access in place", pending, look_again=SOON)
    if missing:
        return Plan(
            Phase.PREPARING,
            f"waits for the Secret {', '.join(missing)}, which copySecrets of the Project names and nobody has made",
            look_again=timedelta(seconds=30),
        )
    return None


def await_quota(desired: Desired, observed: Observed) -> Plan | None:
    """The quota counts only once its controller has filled ``status.hard``; no pod comes before that."""
    live = observed.objects.get(("ResourceQuota", objects.QUOTA), {})
    counted = live.get("status", {}).get("hard", {})
    waiting = sorted(name for name, hard in desired.size.hard().items() if not same(hard, counted.get(name)))
    if waiting:
        return Plan(Phase.PREPARING, f"waits until the quota counts {', '.join(waiting[:3])}", look_again=SOON)
    return None


def stay_asleep(desired: Desired, observed: Observed) -> Plan | None:
    """Nothing is deployed while it sleeps: a hook would wait for a database that sleeps, too."""
    if not desired.asleep:
        return None
    if observed.sleepers is None:
        return Plan(Phase.FALLING_ASLEEP, "looks at what runs", look_again=SOON)
    left = still_running(observed.sleepers)
    if left:
        message = f"waits until {len(left)} pods are gone, {left[0]} among them"
        return Plan(Phase.FALLING_ASLEEP, message, look_again=timedelta(seconds=15))
    rest = going_on(observed.sleepers)
    goes_on = f"; {rest} goes on, for nothing that envprov can scale runs it" if rest else ""
    return Plan(Phase.ASLEEP, f"scaled to nothing until somebody wakes it{goes_on}")


def wake(desired: Desired, observed: Observed) -> Plan | None:
    """Everything as it was, before anything is deployed: hooks need what they work with."""
    actions = wake_up(observed.sleepers) if observed.sleepers is not None and not desired.asleep else ()
    return Plan(Phase.WAKING, "scales everything to what it was", (actions,), look_again=SOON) if actions else None


def hold_shared_accounts(desired: Desired, observed: Observed) -> Plan | None:
    """ServiceAccounts of other namespaces that the environment uses must not go while it is there."""
    actions: list[Action] = []
    missing: list[str] = []
    for account, seen in observed.accounts.items():
        named = account in desired.shared
        if not seen.uid:
            by = "sharedServiceAccounts of the Project" if named else "the chart"
            if named or account in observed.rendered.referred:  # what was held before and is not named now may be gone
                missing.append(f"{account}, which {by} names")
        elif not seen.is_held or (named and not _is_guarded_as(seen.policy, desired.shared[account])):
            why = "named by the Project" if named else "referred to by the chart"
            actions.append(HoldAccount(desired.identity, account, desired.shared.get(account), why))
    if actions:
        return Plan(Phase.PREPARING, "holds the shared ServiceAccounts", (tuple(actions),), look_again=SOON)
    if missing:
        message = f"waits for the ServiceAccount {', '.join(missing)} and nobody has made"
        return Plan(Phase.PREPARING, message, look_again=timedelta(seconds=30))
    return None


def check_chart(desired: Desired, observed: Observed) -> Plan | None:
    """The chart must be there, and own no ServiceAccount that is shared or somebody else's."""
    if observed.chart_fault is not None:
        raise observed.chart_fault
    faults = [
        fault
        for account in observed.rendered.owned
        if (fault := _ownership_fault(desired, account, observed.present.get(account.name))) is not None
    ]
    if faults:
        raise AccountTaken("; ".join(faults))
    return None


def deploy_release(desired: Desired, observed: Observed) -> Plan | None:
    """The release with the wanted chart and values, after getting it out of a state in which Helm refuses."""
    release, digest = observed.release, observed.digest
    if release is None or digest is None:
        return Plan(Phase.DEPLOYING, "reads the release", look_again=SOON)
    name = desired.identity.name
    match recovery(release):
        case Recovery.UNINSTALL:
            message = f"release {name} is stuck in {release.state.value}; uninstalls it to install it again"
            return Plan(Phase.DEPLOYING, message, ((UninstallRelease(desired.identity),),), look_again=SOON)
        case Recovery.ROLLBACK:
            back = RollBackRelease(desired.identity, release.last_deployed_revision or 0)
            message = f"release {name} is stuck in {release.state.value}; rolls back to revision {back.to}"
            return Plan(Phase.DEPLOYING, message, ((back,),), look_again=SOON)
        case Recovery.NONE:
            pass
    if release.state is ReleaseState.DEPLOYED and release.digest == digest:
        return None
    verb = "installs" if release.state is ReleaseState.ABSENT else "upgrades"
    return Plan(Phase.DEPLOYING, f"{verb} release {name}", ((DeployRelease(desired, digest),),), look_again=SOON)


def await_health(_desired: Desired, observed: Observed) -> Plan | None:
    """Workloads tell their own health; watches wake us."""
    if observed.health is None or observed.health.condition is Condition.HEALTHY:
        return None
    well = observed.health.condition is Condition.PROGRESSING
    message = "; ".join(observed.health.messages)
    return Plan(Phase.STARTING if well else Phase.UNHEALTHY, message, look_again=timedelta(seconds=15))


STEPS: tuple[Step, ...] = (
    admit_to_budget,
    ensure_namespace,
    refuse_ghosts,
    put_to_sleep,
    ensure_base,
    await_quota,
    stay_asleep,
    wake,
    check_chart,
    hold_shared_accounts,
    deploy_release,
    await_health,
)


def _is_guarded_as(live: Policy | None, wanted: Policy) -> bool:
    """Whether an account is shared with a policy that is no weaker: other Projects may name it, too."""
    return live in {KEEP, wanted}


def _ownership_fault(desired: Desired, account: Account, live: Manifest | None) -> str | None:
    identity = desired.identity
    if account.namespace != identity.namespace:
        reason = f"belongs to Namespace {account.namespace}, where other environments use it too"
    elif account in desired.shared:
        reason = "is shared by other environments"
    elif live is not None and is_taken(live, identity):
        release = owner_of(live)
        reason = f"belongs to the Helm release {release[0]}/{release[1]}" if release else "was not made by Helm"
    else:
        return None
    return (
        f"the chart would own ServiceAccount {account}, which {reason}; refer to it instead: set "
        f"serviceAccount.create=false and serviceAccount.name={account.name} in the values of Project "
        f"{identity.project}, or whatever values the chart has for that"
    )


def is_taken(live: Manifest, identity: Identity) -> bool:
    """Whether a ServiceAccount of the namespace belongs to something else than the environment's release."""
    if owner_of(live) == (identity.namespace, identity.name):
        return False
    # Helm writes no owner on what its hooks make.
    return owner_of(live) is not None or "helm.sh/hook" not in (live["metadata"].get("annotations") or {})


def owner_of(live: Manifest) -> tuple[str, str] | None:
    """Namespace and name of the Helm release that an object says it belongs to, or None."""
    notes = live["metadata"].get("annotations", {})
    name = notes.get("meta.helm.sh/release-name")
    return (str(notes.get("meta.helm.sh/release-namespace", "")), str(name)) if name else None


def _original(source: SecretCopy, observed: Observed) -> Manifest | None:
    return observed.originals.get((source.namespace, source.name))


def _repairs(wave: tuple[objects.Manifest, ...], observed: Observed) -> list[Action]:
    repairs: list[Action] = []
    for wanted in wave:
        key = (wanted["kind"], wanted["metadata"]["name"])
        live = observed.namespace.manifest if wanted["kind"] == "Namespace" else observed.objects.get(key)
        if live is not None and not drifted(wanted, live):
            continue
        if live is not None and any(name in wanted and live.get(name) != wanted[name] for name in _FIXED):
            repairs.append(_deletion(live, wanted["apiVersion"], wanted["kind"]))
        else:
            repairs.append(ApplyObject(wanted))
    return repairs


def _strays(desired: Desired, wanted: list[objects.Manifest], observed: Observed) -> list[Action]:
    """
    Objects that we once made and that nothing wants any more.

    A copy stays while the Project names its Secret, though the original be gone. The default ServiceAccount is
    Kubernetes' own, and only loses what we gave it.
    """
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in wanted}
    names |= {("Secret", source.name) for source in desired.secrets}
    return [
        ApplyObject(objects.released_account(desired.identity))
        if (kind, name) == ("ServiceAccount", "default")
        else _deletion(live, objects.API_VERSIONS[kind], kind)
        for (kind, name), live in observed.objects.items()
        if (kind, name) not in names and objects.is_ours(desired.identity, live)
    ]


def _deletion(live: Manifest, api_version: str, kind: str) -> DeleteObject:
    metadata = live["metadata"]
    return DeleteObject(api_version, kind, metadata["namespace"], metadata["name"], metadata["uid"])
