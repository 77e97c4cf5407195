"""
The way up: what brings an environment from what is there to what ought to be.

Each step either has something to do or to wait for, which ends the pass, or has nothing to say; the order of
``STEPS`` is the order of the design. Steps of capabilities that are still to come stand in it by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum

from envprov.domain import objects
from envprov.domain.actions import (
    Action,
    Admit,
    ApplyObject,
    DeleteObject,
    DeployRelease,
    HoldAccount,
    MarkHost,
    ReleaseHost,
    ReserveHosts,
    RollBackRelease,
    UninstallRelease,
)
from envprov.domain.admission import Admitted, Room, TooLarge, Waiting, in_force, reservation, standing
from envprov.domain.desired import Desired
from envprov.domain.drift import drifted
from envprov.domain.errors import GhostObjects, HostTaken, NotOwned, OverBudget, PlanRefused
from envprov.domain.findings import refusing
from envprov.domain.guard import KEEP, Policy
from envprov.domain.health import Condition
from envprov.domain.hosts import HostState, taken
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
        PlanRefused: The chart breaks rules.
        OverBudget: It could never fit.
        TerminalError: The chart cannot be had.

    """
    given = in_force(desired, observed.admission)
    done = Plan(Phase.READY, desired.url or f"ready in namespace {desired.identity.namespace}")
    decided = next((found for step in STEPS if (found := step(given, observed)) is not None), done)
    waits = reservation(desired, observed.admission)
    return replace(decided, message=f"{decided.message}; {waits}") if waits else decided


def give_back_hosts(_desired: Desired, observed: Observed) -> Plan | None:
    """Nobody keeps hosts from others for a release that is refused and was never deployed."""
    nothing_stands = observed.release is not None and observed.release.state is ReleaseState.ABSENT
    if not (_is_refused(observed) and nothing_stands and observed.reserved):
        return None
    back = tuple(ReleaseHost(one) for one in observed.reserved)
    return Plan(Phase.PREPARING, "gives back the hosts that it cannot use", (back,), look_again=SOON)


def give_back_room(desired: Desired, observed: Observed) -> Plan | None:
    """Nobody keeps room from others for what is refused and has no namespace: it was admitted, and then changed."""
    is_held = isinstance(observed.admission, Admitted) and observed.admission.held is not None
    if not (is_held and _is_refused(observed) and observed.namespace.state is NamespaceState.MISSING):
        return None
    back = Admit(desired.identity, None, asks=False)
    return Plan(Phase.PREPARING, "gives back the room that it cannot use", ((back,),), look_again=SOON)


def check_before_anything(desired: Desired, observed: Observed) -> Plan | None:
    """A chart that cannot be deployed makes nothing at all; an environment that is there keeps what it has."""
    return check_chart(desired, observed) if observed.namespace.state is NamespaceState.MISSING else None


def admit_to_budget(desired: Desired, observed: Observed) -> Plan | None:
    """Room in the budgets of project and cluster, before there is anything; what has some already goes on with it."""
    match observed.admission:
        case Room(entry=entry, asks=asks):
            admit = Admit(desired.identity, entry, asks)
            return Plan(Phase.PREPARING, "takes its share of the budget", ((admit,),), look_again=SOON)
        case Waiting(held=None, place=place):
            return Plan(Phase.QUEUED, standing(place))
        case TooLarge(held=None, reason=reason):
            raise OverBudget(reason)
        case _:
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


def check_chart(_desired: Desired, observed: Observed) -> Plan | None:
    """The chart must be there, and break no rule: all findings are told at once."""
    if observed.chart_fault is not None:
        raise observed.chart_fault
    if refusing(observed.findings or ()):
        raise PlanRefused(observed.findings or ())
    return None


def reserve_hosts(desired: Desired, observed: Observed) -> Plan | None:
    """Every host that the chart claims belongs to this environment before Helm runs, or Helm does not run."""
    if observed.hosts is None:
        return None
    others = {host: seen.by for host, seen in observed.hosts.items() if seen.state is HostState.TAKEN}
    if others:
        raise HostTaken(taken(others))
    free = tuple(sorted(host for host, seen in observed.hosts.items() if seen.state is HostState.FREE))
    reservation: tuple[Action, ...] = (ReserveHosts(desired.identity, free),) if free else ()
    # What is not wanted any more is ours until Helm has taken it away: whoever ends in between must still know.
    wanted = {one.host: "" if one.host in observed.hosts else observed.digest or "" for one in observed.reserved}
    marks = tuple(MarkHost(one, wanted[one.host]) for one in observed.reserved if one.dropped_by != wanted[one.host])
    waves = tuple(wave for wave in (reservation, marks) if wave)
    return Plan(Phase.PREPARING, "reserves its hosts", waves, look_again=SOON) if waves else None


def recover_release(desired: Desired, observed: Observed) -> Plan | None:
    """Out of a state in which Helm refuses, before anything new may be refused: what stands must not stay stuck."""
    release, name = observed.release, desired.identity.name
    if release is None:
        return None
    match recovery(release):
        case Recovery.UNINSTALL:
            message = f"release {name} is stuck in {release.state.value}; uninstalls it to install it again"
            return Plan(Phase.DEPLOYING, message, ((UninstallRelease(desired.identity),),), look_again=SOON)
        case Recovery.ROLLBACK:
            back = RollBackRelease(desired.identity, release.last_deployed_revision or 0)
            message = f"release {name} is stuck in {release.state.value}; rolls back to revision {back.to}"
            return Plan(Phase.DEPLOYING, message, ((back,),), look_again=SOON)
        case Recovery.NONE:
            return None


def deploy_release(desired: Desired, observed: Observed) -> Plan | None:
    """The release with the wanted chart and values."""
    release, digest = observed.release, observed.digest
    if release is None or digest is None:
        return Plan(Phase.DEPLOYING, "reads the release", look_again=SOON)
    name = desired.identity.name
    if release.state is ReleaseState.DEPLOYED and release.digest == digest:
        return None
    verb = "installs" if release.state is ReleaseState.ABSENT else "upgrades"
    return Plan(Phase.DEPLOYING, f"{verb} release {name}", ((DeployRelease(desired, digest),),), look_again=SOON)


def release_hosts(_desired: Desired, observed: Observed) -> Plan | None:
    """Hosts that the release which is now in force does not claim any more."""
    over = tuple(ReleaseHost(one) for one in observed.reserved if one.dropped_by and one.dropped_by == observed.digest)
    return Plan(Phase.STARTING, "gives back hosts", (over,), look_again=SOON) if over else None


def await_health(_desired: Desired, observed: Observed) -> Plan | None:
    """Workloads tell their own health; watches wake us."""
    if observed.health is None or observed.health.condition is Condition.HEALTHY:
        return None
    well = observed.health.condition is Condition.PROGRESSING
    message = "; ".join(observed.health.messages)
    return Plan(Phase.STARTING if well else Phase.UNHEALTHY, message, look_again=timedelta(seconds=15))


STEPS: tuple[Step, ...] = (
    give_back_hosts,
    give_back_room,
    check_before_anything,
    admit_to_budget,
    ensure_namespace,
    refuse_ghosts,
    put_to_sleep,
    ensure_base,
    await_quota,
    stay_asleep,
    wake,
    recover_release,
    check_chart,
    reserve_hosts,
    hold_shared_accounts,
    deploy_release,
    release_hosts,
    await_health,
)


def _is_refused(observed: Observed) -> bool:
    return observed.chart_fault is not None or bool(refusing(observed.findings or ()))


def _is_guarded_as(live: Policy | None, wanted: Policy) -> bool:
    """Whether an account is shared with a policy that is no weaker: other Projects may name it, too."""
    return live in {KEEP, wanted}


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
