"""What the state of an Environment means to somebody who waits for it: it goes on, or it has ended."""

from __future__ import annotations

from dataclasses import dataclass

from envprov.cli.exits import ExitCode
from envprov.domain.environment import Condition, Environment, Type, parse_environment
from envprov.domain.errors import Forbidden, NameTaken
from envprov.domain.plan import Phase
from envprov.kube.client import Object

_REFUSALS = frozenset({Forbidden.__name__, NameTaken.__name__})


@dataclass(frozen=True)
class Outcome:
    """
    How it ended.

    Attributes:
        code: The exit code.
        message: In words.

    """

    code: ExitCode
    message: str


def judge_coming(item: Object | None, *, generation: int, leaving: str = "") -> Outcome | None:
    """
    Whether the way up has ended, and how.

    Args:
        item: The Environment, or None while there is none.
        generation: The generation that was asked for.
        leaving: UID of an earlier Environment that has to go first; "" if there is none.

    Returns:
        None while it goes on.

    """
    if item is None or item["metadata"]["uid"] == leaving:
        return None if leaving else Outcome(ExitCode.FAILED, "the Environment was deleted meanwhile")
    environment = parse_environment(item)
    if environment.deleting:
        return Outcome(ExitCode.FAILED, "the Environment is being deleted")
    ready = environment.status.condition(Type.READY)
    if ready is None or (ready.observed_generation or 0) < generation:
        return None
    return Outcome(ExitCode.DONE, ready.message) if ready.status == "True" else _failure(environment, ready)


def judge_sleep(item: Object | None, *, generation: int) -> Outcome | None:
    """
    Whether the way to sleep has ended, and how.

    Args:
        item: The Environment, or None while there is none.
        generation: The generation that was asked for.

    Returns:
        None while it goes on.

    """
    if item is None:
        return Outcome(ExitCode.FAILED, "the Environment was deleted meanwhile")
    environment = parse_environment(item)
    if environment.deleting:
        return Outcome(ExitCode.FAILED, "the Environment is being deleted")
    if not environment.spec.asleep:
        return Outcome(ExitCode.FAILED, "somebody woke it meanwhile")
    ready = environment.status.condition(Type.READY)
    if ready is None or (ready.observed_generation or 0) < generation:
        return None
    ends = {Phase.ASLEEP.value: ExitCode.DONE, Phase.STALLED.value: ExitCode.FAILED}
    return Outcome(ends[ready.reason], ready.message) if ready.reason in ends else None


def judge_going(item: Object | None, *, uid: str) -> Outcome | None:
    """
    Whether the way down has ended.

    Args:
        item: The Environment, or None when it is gone.
        uid: UID of the object whose deletion was asked for.

    Returns:
        None while it goes on.

    """
    if item is None:
        return Outcome(ExitCode.DONE, "gone")
    if item["metadata"]["uid"] != uid:
        return Outcome(ExitCode.DONE, "gone; a new Environment of this branch has been made since")
    return None


def last_word(item: Object | None) -> str:
    """What an Environment said last about being ready, or about its teardown."""
    if item is None:
        return "there is no Environment"
    conditions = {entry["type"]: entry for entry in item.get("status", {}).get("conditions", ())}
    blocked = conditions.get(Type.TEARDOWN_BLOCKED)
    said = blocked if blocked and blocked["status"] == "True" else conditions.get(Type.READY)
    return f"{said['reason']}: {said.get('message', '')}" if said else "no controller has worked on it yet"


def _failure(environment: Environment, ready: Condition) -> Outcome | None:
    if ready.reason == Phase.STALLED:
        return Outcome(ExitCode.REFUSED if _is_refused(environment) else ExitCode.FAILED, ready.message)
    if ready.reason == Phase.ASLEEP:
        return Outcome(ExitCode.FAILED, "somebody put it to sleep meanwhile; `envprov wake` wakes it")
    return None


def _is_refused(environment: Environment) -> bool:
    accepted, deployed = (_said_of_this(environment, kind) for kind in (Type.ACCEPTED, Type.DEPLOYED))
    if accepted is not None and accepted.status == "False":
        return True
    return deployed is not None and deployed.status == "False" and deployed.reason in _REFUSALS


def _said_of_this(environment: Environment, kind: Type) -> Condition | None:
    """A condition, if it is about the spec as it is now."""
    condition = environment.status.condition(kind)
    return condition if condition and condition.observed_generation == environment.generation else None
