"""How an environment and its commit are doing, in the words that people read in GitLab."""

from __future__ import annotations

from dataclasses import dataclass

from envprov.domain.environment import SUCCESSOR, Environment
from envprov.domain.environment import Type as ConditionType
from envprov.domain.forge import DeploymentStatus
from envprov.domain.plan import Phase

FINDINGS_LIMIT = 20
"""Most findings of the check of a chart that a note shows one by one."""

_FAILURES = frozenset({"HelmFailed", "HelmTimeout"})

_MEANWHILE = "is being deployed"

_RESTING = {
    Phase.FALLING_ASLEEP: "is falling asleep",
    Phase.ASLEEP: "is asleep",
    Phase.WAKING: "is waking up",
}

_STANDINGS = {
    Phase.QUEUED: "waits for room",
    Phase.UNHEALTHY: "is not healthy",
    Phase.RETRYING: "has met a fault and is tried again",
    Phase.STALLED: "cannot be deployed",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """
    How far a commit has come.

    Attributes:
        revision: The commit.
        status: In GitLab's words.

    """

    revision: str
    status: DeploymentStatus


def standing(environment: Environment) -> str:
    """Where an environment stands, as the end of a sentence."""
    if environment.deleting:
        comes_back = SUCCESSOR in environment.annotations
        return "is being taken down, and comes back" if comes_back else "is being taken down"
    resting = _resting(environment)
    if resting is not None:
        return _RESTING[resting]
    if _is_ready(environment):
        return "is ready"
    trouble = _trouble(environment)
    return _STANDINGS[trouble] if trouble else _MEANWHILE


def findings(environment: Environment) -> tuple[str, ...]:
    """What is wrong with an environment, each once; what changes from second to second is none."""
    status = environment.status
    if environment.deleting:
        blocked = status.condition(ConditionType.TEARDOWN_BLOCKED)
        return (blocked.message,) if blocked is not None and blocked.status == "True" else ()
    if _is_ready(environment) or not _is_current(environment):
        return ()
    accepted, ready = status.condition(ConditionType.ACCEPTED), status.condition(ConditionType.READY)
    if accepted is not None and accepted.status == "False" and (errors := _errors(environment)):
        return errors
    found = [accepted.message] if accepted is not None and accepted.status == "False" else []
    found += [ready.message] if ready is not None and ready.reason in _STANDINGS else []
    return tuple(dict.fromkeys(message for message in found if message))


def progress(environment: Environment) -> Progress | None:
    """How far the newest commit has come; None if it is not known, or nothing is deployed for the time being."""
    revision = environment.spec.revision
    if not revision or environment.deleting or environment.spec.asleep:
        return None
    if _is_ready(environment):
        return Progress(revision, "success")
    deployed = environment.status.condition(ConditionType.DEPLOYED)
    has_failed = _trouble(environment) in {Phase.STALLED, Phase.UNHEALTHY} or (
        _is_current(environment) and deployed is not None and deployed.reason in _FAILURES
    )
    return Progress(revision, "failed" if has_failed else "running")


def _errors(environment: Environment) -> tuple[str, ...]:
    """What the check of the chart found, one by one, each with the way out."""
    errors = [finding for finding in environment.status.findings if finding.severity == "error"]
    shown = [
        f"{' '.join(part for part in (each.object, each.field) if part) or 'the chart'}: {each.message}; {each.remedy}"
        for each in errors[:FINDINGS_LIMIT]
    ]
    rest = len(errors) - len(shown)
    return (*shown, f"and {rest} more: envprov plan lists them all") if rest else tuple(shown)


def _is_ready(environment: Environment) -> bool:
    status, revision = environment.status, environment.spec.revision
    ready = status.condition(ConditionType.READY)
    is_same = not revision or revision == status.observed_revision
    return ready is not None and ready.status == "True" and is_same


def _is_current(environment: Environment) -> bool:
    return environment.status.observed_generation in {environment.generation, None}


def _resting(environment: Environment) -> Phase | None:
    """The phase, if it is one of sleep; while nobody has looked at what is asked for, that it falls asleep or wakes."""
    if _is_current(environment):
        ready = environment.status.condition(ConditionType.READY)
        return next((phase for phase in _RESTING if ready is not None and phase.value == ready.reason), None)
    if environment.spec.asleep:
        return Phase.FALLING_ASLEEP if environment.status.asleep_since is None else Phase.ASLEEP
    return Phase.WAKING if environment.status.asleep_since is not None else None


def _trouble(environment: Environment) -> Phase | None:
    """The phase, if it is one that a person should hear of and is about what is asked for now."""
    ready = environment.status.condition(ConditionType.READY)
    if ready is None or ready.status == "True" or not _is_current(environment):
        return None
    return next((phase for phase in _STANDINGS if phase.value == ready.reason), None)
