"""What the controller says about an environment: its status, from what was decided and seen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from envprov.domain.admission import in_force, queue_status
from envprov.domain.desired import Desired
from envprov.domain.environment import (
    EXTENDED,
    Condition,
    Environment,
    EnvironmentStatus,
    FindingStatus,
    HeldAccount,
    ReleaseStatus,
    Step,
    TeardownStatus,
    Type,
)
from envprov.domain.errors import EnvprovError, PlanRefused, TerminalError
from envprov.domain.findings import Finding
from envprov.domain.health import Health
from envprov.domain.holds import Account
from envprov.domain.lifetime import Extension, Lived, expiry, warning_at
from envprov.domain.observed import Observed
from envprov.domain.plan import Phase, Plan
from envprov.domain.release import ReleaseState
from envprov.domain.sleep import wake_up
from envprov.domain.teardown import SLOW_AFTER, Descent

Fact = tuple[bool | None, str, str]
"""Whether it holds, the reason, the message."""

_MESSAGE_LIMIT = 2000
_WAITING_LIMIT = 50
_HOLDS_LIMIT = 200
_FINDINGS_LIMIT = 100
_STEPS = tuple(Step)


def report_progress(
    environment: Environment, desired: Desired, observed: Observed, plan: Plan, now: datetime
) -> EnvironmentStatus:
    """
    Status of an environment on its way up, or there.

    Args:
        environment: The record, with its last status.
        desired: What ought to be.
        observed: What the plan was made from.
        plan: What is being done.
        now: Aware moment of the pass.

    """
    in_sync = _in_sync(observed)
    looked = observed.findings
    findings = environment.status.findings if looked is None else findings_status(looked)
    is_ready = plan.phase is Phase.READY
    facts: dict[Type, Fact] = {
        Type.ACCEPTED: _accepted(desired, findings),
        Type.NAMESPACE_READY: (
            (False, plan.phase.value, plan.message)
            if plan.phase in {Phase.QUEUED, Phase.PREPARING}
            else (True, "InPlace", "namespace, limits, quota, policies and access are in place")
        ),
        Type.DEPLOYED: _deployed(environment, desired, plan, in_sync=in_sync),
        Type.HEALTHY: _healthy(desired, plan, observed.health if in_sync else None),
        Type.READY: (is_ready, plan.phase.value, plan.message),
    }
    conditions = _conditions(environment, facts, now)
    # A deployment counts as activity when it begins and when it ends; pods that come and go do not.
    deployed_since = next(entry.last_transition_time for entry in conditions if entry.type == Type.DEPLOYED)
    before = environment.status.ready_at
    ready_at = now if is_ready and (before is None or before < deployed_since) else before
    active_at = _active_at(environment, now)
    end = _end(environment, desired, deployed_since, ready_at, active_at)
    return EnvironmentStatus(
        observed_generation=environment.generation,
        observed_revision=desired.revision if in_sync else environment.status.observed_revision,
        namespace=desired.identity.namespace,
        slug=environment.name,
        url=desired.url,
        size=in_force(desired, observed.admission).size_name,
        expires_at=end,
        warned_for=end if is_warning_due(desired, end, now) else environment.status.warned_for,
        ready_at=ready_at,
        asleep_since=_asleep_since(environment, observed, now),
        active_at=active_at,
        branch_file=desired.file,
        release=release_status(environment, desired, observed),
        queue=queue_status(environment.status.queue, desired, observed.admission, now),
        findings=findings,
        holds=_holds(environment, observed),
        conditions=conditions,
        gitlab=environment.status.gitlab,
    )


def report_fault(
    environment: Environment, error: EnvprovError, now: datetime, *, deploying: bool, lived: Lived | None = None
) -> EnvironmentStatus:
    """
    Status of an environment whose pass ended in an error.

    Args:
        environment: The record, with its last status, which stays but for the conditions.
        error: What went wrong.
        now: Aware moment of the pass.
        deploying: Whether it went wrong while Helm was at work, rather than before.
        lived: How long it is to live, which goes on all the same; None if that is not known.

    """
    is_terminal = isinstance(error, TerminalError)
    phase = Phase.STALLED if is_terminal else Phase.RETRYING
    message = str(error)
    facts: dict[Type, Fact] = {Type.READY: (False, phase.value, message)}
    update: dict[str, object] = {"observed_generation": environment.generation}
    if isinstance(error, PlanRefused):
        facts[Type.ACCEPTED] = (False, error.reason, message)
        update["findings"] = findings_status(error.findings)
    elif deploying:
        facts[Type.DEPLOYED] = (False, error.reason, message)
    elif is_terminal:
        facts[Type.ACCEPTED] = (False, error.reason, message)
    update["queue"] = None  # whoever cannot enter must not keep others out
    update["active_at"] = _active_at(environment, now)
    update["conditions"] = _conditions(environment, facts, now)
    status = environment.status.model_copy(update=update)
    if lived is None:
        return status
    end = end_of(environment.model_copy(update={"status": status}), lived)
    warned_for = end if is_warning_due(lived, end, now) else status.warned_for
    return status.model_copy(update={"expires_at": end, "warned_for": warned_for})


def findings_status(findings: tuple[Finding, ...]) -> tuple[FindingStatus, ...]:
    """What was found, as the status tells it: the worst hundred, each text within its bounds."""
    return tuple(
        FindingStatus.model_validate(
            {
                "reason": finding.reason,
                "severity": str(finding.severity),
                "object": str(finding.subject or "")[:320],
                "field": finding.field[:512],
                "message": finding.message[:1024],
                "remedy": finding.remedy[:1024],
            }
        )
        for finding in findings[:_FINDINGS_LIMIT]
    )


def report_teardown(environment: Environment, descent: Descent, now: datetime) -> EnvironmentStatus:
    """
    Status of an environment on its way down. The step never goes back.

    Args:
        environment: The record, with its last status.
        descent: What is being done.
        now: Aware moment of the pass.

    """
    before = environment.status.teardown
    started = before.started_at if before else now
    step = max(descent.step, before.step, key=_STEPS.index) if before else descent.step
    stuck = bool(descent.waiting_for) and now - started > SLOW_AFTER
    waiting = ", ".join(descent.waiting_for)
    fenced_at = (before.fenced_at if before and before.fenced_at else now) if descent.is_fenced else None
    command = f"`envprov guard explain {environment.status.namespace or environment.name}` says more"
    facts: dict[Type, Fact] = {
        Type.READY: (False, Phase.TEARING_DOWN.value, descent.message),
        Type.TEARDOWN_BLOCKED: (
            (True, descent.blocked, f"{descent.message}: {waiting}. {command}")
            if descent.blocked
            else (True, "StillThere", f"{descent.message}: {waiting}. Nothing is forced; see what holds them")
            if stuck
            else (False, "InProgress", descent.message)
        ),
    }
    return environment.status.model_copy(
        update={
            "queue": None,
            "teardown": TeardownStatus(
                step=step,
                plan=descent.plan,
                started_at=started,
                fenced_at=fenced_at,
                waiting_for=descent.waiting_for[:_WAITING_LIMIT],
            ),
            "conditions": _conditions(environment, facts, now),
        }
    )


def end_of(environment: Environment, lived: Lived) -> datetime | None:
    """
    When an environment ends by itself, also while it cannot be deployed.

    Args:
        environment: The record, with its last status.
        lived: How long it is to live.

    Returns:
        None for never, and while something new was asked for and not yet looked at: that is activity, too.

    """
    status = environment.status
    if status.observed_generation != environment.generation:
        return None
    deployed = status.condition(Type.DEPLOYED)
    deployed_since = deployed.last_transition_time if deployed else None
    return _end(environment, lived, deployed_since, status.ready_at, status.active_at)


def is_expired(environment: Environment, desired: Desired, now: datetime) -> bool:
    """Whether an environment's lifetime has ended; pinned or not."""
    end = end_of(environment, desired)
    return end is not None and now >= end


def is_warning_due(lived: Lived, end: datetime | None, now: datetime) -> bool:
    """Whether it is time to say that an environment will end."""
    moment = warning_at(lived.lifetime, end)
    return moment is not None and now >= moment


def next_expiry_check(lived: Lived, status: EnvironmentStatus, now: datetime) -> timedelta | None:
    """Time until the environment ends by itself, or until that is to be said; None if it does not."""
    end = status.expires_at
    if end is None:
        return None
    warning = warning_at(lived.lifetime, end)
    next_ = warning if warning is not None and warning > now else end
    return max(next_ - now, timedelta(0))


def replaced_accounts(before: EnvironmentStatus, after: EnvironmentStatus) -> tuple[Account, ...]:
    """Shared ServiceAccounts that were deleted and made again since the last report, in spite of the hold."""
    uids = {Account(held.namespace, held.name): held.uid for held in before.holds}
    return tuple(
        account for held in after.holds if uids.get(account := Account(held.namespace, held.name), held.uid) != held.uid
    )


def _end(environment: Environment, lived: Lived, *moments: datetime | None) -> datetime | None:
    return expiry(
        lived.lifetime,
        last_activity=max([environment.created_at, *(moment for moment in moments if moment is not None)]),
        extension=Extension.decode(environment.annotations.get(EXTENDED, "")),
        maximum=lived.longest,
    )


def _asleep_since(environment: Environment, observed: Observed, now: datetime) -> datetime | None:
    since = environment.status.asleep_since
    if environment.spec.asleep:
        return since or now
    is_awake = observed.sleepers is not None and not wake_up(observed.sleepers)
    return None if is_awake else since


def _active_at(environment: Environment, now: datetime) -> datetime | None:
    """Somebody woke it, or pushed while it was asleep: of both, nothing else tells the moment."""
    spec, status = environment.spec, environment.status
    if status.observed_generation == environment.generation:
        return status.active_at
    is_waking = status.asleep_since is not None and not spec.asleep
    is_pushed = spec.asleep and spec.revision not in {"", status.observed_revision}
    return now if is_waking or is_pushed else status.active_at


def _deployed(environment: Environment, desired: Desired, plan: Plan, *, in_sync: bool) -> Fact:
    before, observed = environment.status.condition(Type.DEPLOYED), environment.status.observed_revision
    if _is_resting(desired, plan):
        # Nobody looks at the chart meanwhile: what was deployed stays so, unless another commit is wanted since.
        if before is not None and before.status == "True" and desired.revision in {"", observed}:
            return (True, before.reason, before.message)
        what = f"commit {desired.revision[:12]}" if desired.revision else "what is wanted"
        return (False, Phase.ASLEEP.value, f"{what} is deployed when it wakes up")
    if in_sync:
        return (True, "InSync", f"release {desired.identity.name} has the wanted chart and values")
    return (False, plan.phase.value, plan.message)


def _healthy(desired: Desired, plan: Plan, health: Health | None) -> Fact:
    if _is_resting(desired, plan):
        return (None, plan.phase.value, "nothing runs while it is asleep")
    if health is None:
        return (None, plan.phase.value, "nothing is deployed yet")
    message = "; ".join(health.messages) or "all workloads are available"
    return (plan.phase is Phase.READY, health.condition.value, message)


def _is_resting(desired: Desired, plan: Plan) -> bool:
    return desired.asleep or plan.phase is Phase.WAKING


def _accepted(desired: Desired, findings: tuple[FindingStatus, ...]) -> Fact:
    if desired.file is not None and desired.file.fault:
        in_force = f"what commit {desired.file.revision[:12]} says stays in force"
        return (
            True,
            "BranchFileIgnored",
            f"commit {desired.file.looked[:12]}: {desired.file.fault}; {in_force}",
        )
    warnings = [finding for finding in findings if finding.severity == "warning"]
    if warnings:
        said = "; ".join(f"{' '.join(filter(None, (each.object, each.field)))}: {each.message}" for each in warnings)
        return (True, "AcceptedWithWarnings", said)
    return (True, "Accepted", "the branch, its Project and its chart are in order")


def _in_sync(observed: Observed) -> bool:
    release = observed.release
    if release is None or observed.digest is None:
        return False
    return release.state is ReleaseState.DEPLOYED and release.digest == observed.digest


def release_status(environment: Environment, desired: Desired, observed: Observed) -> ReleaseStatus | None:
    """The release as it was seen; as it was last reported if nobody has looked, and None where there is none."""
    release = observed.release
    if release is None:
        return environment.status.release
    if release.state is ReleaseState.ABSENT:
        return None
    return ReleaseStatus(
        name=desired.identity.name,
        revision=release.revision,
        chart=str(desired.chart),
        status=release.state.value,
    )


def _holds(environment: Environment, observed: Observed) -> tuple[HeldAccount, ...]:
    """What is held now, and what was and could not be seen in this pass."""
    seen = {
        account: HeldAccount(namespace=account.namespace, name=account.name, uid=found.uid)
        for account, found in observed.accounts.items()
        if found.is_held
    }
    before = {Account(held.namespace, held.name): held for held in environment.status.holds}
    return tuple(held for _, held in sorted((before | seen).items()))[:_HOLDS_LIMIT]


def _conditions(environment: Environment, facts: Mapping[Type, Fact], now: datetime) -> tuple[Condition, ...]:
    """All conditions: the new facts over the old ones; the time of transition moves only with the status."""
    before = {condition.type: condition for condition in environment.status.conditions}
    merged = dict(before)
    for kind, (holds, reason, message) in facts.items():
        status = {True: "True", False: "False", None: "Unknown"}[holds]
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == status else now
        merged[kind] = Condition.model_validate(
            {
                "type": kind.value,
                "status": status,
                "reason": reason,
                "message": message[:_MESSAGE_LIMIT],
                "observedGeneration": environment.generation,
                "lastTransitionTime": since.replace(microsecond=0),
            }
        )
    return tuple(merged[kind] for kind in Type if kind in merged)
