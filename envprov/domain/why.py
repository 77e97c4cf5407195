"""
Why an environment is not as it should be: from evidence to one answer.

The evidence was gathered before; here nothing is read. Diagnosers are asked in the order in which an environment comes
up or goes, and the first thing that is wrong is the answer; what else is wrong stands below it. What could not be read
and could change the answer is named beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from envprov.domain import telling
from envprov.domain.causes import Cause, State
from envprov.domain.evidence import (
    Evidence,
    Fact,
    LogWanted,
    Part,
    Symptom,
    condition_of,
    is_going,
)
from envprov.domain.loose import text, within
from envprov.domain.why_absent import absences
from envprov.domain.why_down import going_symptoms
from envprov.domain.why_helm import helm_symptoms
from envprov.domain.why_record import has_been_ready, is_behind, record_symptoms
from envprov.domain.why_workloads import is_lagging, lacking, unexplained, workload_symptoms

LOGS_LIMIT = 3
"""Logs of which the end is read."""
ALSO_LIMIT = 4
_OPENINGS = {
    State.NOT_CREATED: "Branch {branch} has no environment: ",
    State.COMING_UP: "The environment of branch {branch} is not up yet: ",
    State.UNHEALTHY: "The environment of branch {branch} is up, but not healthy: ",
    State.READY: "The environment of branch {branch} is ready: ",
    State.GOING_DOWN: "The environment of branch {branch} is not gone yet: ",
    State.UNKNOWN: "How the environment of branch {branch} is cannot be said: ",
}
_FURTHER = frozenset(
    {Part.TOMBSTONE, Part.NODES, Part.STORAGE_CLASSES, Part.WEBHOOKS, Part.API_SERVICES, Part.CONTENT, Part.LOGS}
)
"""Parts that matter only to some answers."""


@dataclass(frozen=True)
class Diagnosis:
    """
    One answer.

    Attributes:
        state: How far it is from what is wanted.
        cause: What is wrong, in one word of a closed list.
        summary: A paragraph for somebody who does not know Kubernetes.
        evidence: What was seen.
        also: What else is wrong, by cause.
        next: What to do, the first thing first.
        unread: What could not be read and could change the answer, each with why.

    """

    state: State
    cause: Cause
    summary: str
    evidence: tuple[Fact, ...] = ()
    also: tuple[tuple[Cause, str], ...] = ()
    next: tuple[str, ...] = ()
    unread: tuple[tuple[Part, str], ...] = ()

    def data(self) -> dict[str, Any]:
        """The answer as JSON; these fields stay."""
        return {
            "state": self.state.value,
            "cause": self.cause.value,
            "summary": self.summary,
            "evidence": [{"object": fact.subject, "says": fact.says} for fact in self.evidence],
            "also": [{"cause": cause.value, "summary": summary} for cause, summary in self.also],
            "next": list(self.next),
            "unread": [{"what": part.value, "why": why} for part, why in self.unread],
        }


@dataclass(frozen=True)
class Wanted:
    """
    What has to be read besides, since it could change the answer.

    Attributes:
        parts: Parts.
        logs: Ends of logs.
        again: Parts that have to be read once more, a moment later: what they say may just be on its way.

    """

    parts: frozenset[Part]
    logs: tuple[LogWanted, ...]
    again: frozenset[Part]


def diagnose(evidence: Evidence) -> Diagnosis:
    """
    Why an environment is not as it should be.

    Args:
        evidence: What was seen.

    Returns:
        Always an answer; if nothing is known, that.

    """
    symptoms = list(symptoms_of(evidence))
    found = symptoms[0] if symptoms else _otherwise(evidence)
    state = _state(evidence, found)
    also = tuple(
        {each.cause: (each.cause, each.summary) for each in symptoms[1:] if each.cause != found.cause}.values()
    )
    return Diagnosis(
        state=state,
        cause=found.cause,
        summary=_paragraph(state, evidence.branch, found.summary),
        evidence=(*dict.fromkeys(found.facts), *_logs(evidence, found)),
        also=also[:ALSO_LIMIT],
        next=tuple(dict.fromkeys(found.next)),
        unread=_unread(evidence, found),
    )


def diagnose_unplaced(symptom: Symptom, branch: str) -> Diagnosis:
    """The answer where it is not even known which Project a branch belongs to."""
    summary = _paragraph(State.NOT_CREATED, branch, symptom.summary)
    return Diagnosis(State.NOT_CREATED, symptom.cause, summary, symptom.facts, next=symptom.next)


def paragraph(evidence: Evidence, found: Symptom | None, summary: str) -> str:
    """
    An answer as a paragraph.

    Args:
        evidence: What it is about.
        found: What is wrong; None if nothing is seen to be.
        summary: In a sentence or two.

    """
    ready = condition_of(evidence.one(Part.RECORD) or {}, "Ready").get("status") == "True"
    fallback = Symptom(Cause.NOTHING_WRONG if ready else Cause.STARTING, summary)
    return _paragraph(_state(evidence, found or fallback), evidence.branch, summary)


def further(evidence: Evidence) -> Wanted:
    """
    What else has to be read.

    Args:
        evidence: What was read first: everything that is cheap, and always tells something.

    """
    symptoms = list(symptoms_of(evidence)) or [_otherwise(evidence)]
    parts = frozenset[Part]().union(*(symptom.needs for symptom in symptoms)) - frozenset(evidence.items)
    if unexplained(evidence):
        parts |= {Part.NODES}
    lagging = {
        part
        for part in (Part.DEPLOYMENTS, Part.STATEFUL_SETS, Part.DAEMON_SETS, Part.REPLICA_SETS)
        if any(is_lagging(item) for item in evidence.of(part))
    }
    logs = tuple(dict.fromkeys(log for symptom in symptoms for log in symptom.logs))[:LOGS_LIMIT]
    return Wanted(parts & _FURTHER, logs, frozenset(lagging))


def symptoms_of(evidence: Evidence) -> Iterator[Symptom]:
    """
    All that is wrong, the answer first.

    Args:
        evidence: What was seen.

    """
    record, namespace = evidence.one(Part.RECORD), evidence.one(Part.NAMESPACE)
    if (namespace is not None and is_going(namespace)) or (record is not None and is_going(record)):
        yield from going_symptoms(evidence)
        return
    if record is None and evidence.knows(Part.RECORD):
        yield from absences(evidence)
        return
    yield from _rising(evidence)


def _rising(evidence: Evidence) -> Iterator[Symptom]:
    """What the record says first, except that it is only being worked on: live evidence tells better what of."""
    told = list(record_symptoms(evidence))
    vague = {Cause.PREPARING, Cause.HELM_FAILED}
    yield from (symptom for symptom in told if symptom.cause not in vague)
    seen = [*helm_symptoms(evidence), *workload_symptoms(evidence)]
    firm = [symptom for symptom in told if symptom.cause is Cause.HELM_FAILED]
    if firm and not any(symptom.cause in _EXPLAINS_HELM for symptom in seen):
        yield from firm
    yield from seen
    yield from (symptom for symptom in told if symptom.cause is Cause.PREPARING)


_EXPLAINS_HELM = frozenset(
    {
        Cause.HOOK_FAILED,
        Cause.HOOK_HANGS,
        Cause.HELM_FAILED,
        Cause.HELM_STUCK,
        Cause.WEBHOOK_UNREACHABLE,
        Cause.ADMISSION_REFUSED,
        Cause.QUOTA_EXCEEDED,
    }
)


def _otherwise(evidence: Evidence) -> Symptom:
    """The answer where nothing is seen to be wrong."""
    record, namespace = evidence.one(Part.RECORD), evidence.one(Part.NAMESPACE)
    if (record is not None and is_going(record)) or (namespace is not None and is_going(namespace)):
        teardown = within(record, "status", "teardown")
        step = text(teardown.get("step"))
        said = text(condition_of(record or {}, "Ready").get("message"))
        more = f": {said}" if said else ""
        facts = (Fact(f"Environment {evidence.name}", f"the last step that is done: {step}"),) if step else ()
        summary = f"it is being taken down, and nothing is seen to hold it{more}"
        return Symptom(Cause.TEARING_DOWN, summary, facts, (telling.status(evidence),))
    wanting = tuple(lacking(evidence))
    ready = condition_of(record or {}, "Ready")
    if record is not None and ready.get("status") == "True" and not is_behind(record) and not wanting:
        where = text(within(record, "status").get("url")) or f"Namespace {evidence.namespace}"
        return Symptom(Cause.NOTHING_WRONG, f"{where}; nothing is seen to be wrong", (), (telling.status(evidence),))
    if wanting and not evidence.knows(Part.PODS):
        which = "; ".join(f"{fact.subject} has {fact.says}" for fact in wanting)
        summary = f"{which}, and why cannot be said, since the pods could not be read"
        return Symptom(Cause.UNKNOWN, summary, wanting, (telling.status(evidence),))
    if wanting or unexplained(evidence):
        which = "; ".join(f"{fact.subject} has {fact.says}" for fact in wanting) or "pods are not ready"
        summary = f"its pods are starting, and nothing is seen to be wrong with them: {which}"
        return Symptom(Cause.STARTING, summary, wanting, (telling.status(evidence),), frozenset({Part.NODES}))
    if record is not None and not evidence.unread:
        said = text(ready.get("message")) or "the controller has it and has said nothing yet"
        return Symptom(Cause.STARTING, f"it is on its way, and nothing is seen to be wrong: {said}", wanting, ())
    missing = ", ".join(part.value for part in evidence.unread) or "nothing"
    summary = f"what was read shows nothing wrong, and what could not be read may: {missing}"
    return Symptom(Cause.UNKNOWN, summary, (), (telling.status(evidence),))


def _state(evidence: Evidence, found: Symptom) -> State:
    record, namespace = evidence.one(Part.RECORD), evidence.one(Part.NAMESPACE)
    if record is not None:
        if is_going(record):
            return State.GOING_DOWN
        if found.cause is Cause.NOTHING_WRONG:
            return State.READY
        unhealthy = condition_of(record, "Ready").get("reason") == "Unhealthy"
        return State.UNHEALTHY if unhealthy or has_been_ready(record) else State.COMING_UP
    if namespace is not None and is_going(namespace):
        return State.GOING_DOWN
    if evidence.knows(Part.RECORD):
        return State.NOT_CREATED
    return State.UNKNOWN if found.cause is Cause.UNKNOWN else State.UNHEALTHY


def _paragraph(state: State, branch: str, summary: str) -> str:
    said = _OPENINGS[state].format(branch=branch) + summary.strip()
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _logs(evidence: Evidence, found: Symptom) -> Iterator[Fact]:
    for log in found.logs:
        lines = evidence.logs.get(log, "").strip()
        if lines:
            when = ", before its last restart" if log.previous else ""
            yield Fact(f"log of container {log.container} in Pod {log.pod}{when}", lines)


def _unread(evidence: Evidence, found: Symptom) -> tuple[tuple[Part, str], ...]:
    """What the answer would want to know; where nothing is wrong, everything."""
    vague = found.cause in {Cause.UNKNOWN, Cause.STARTING, Cause.NOTHING_WRONG, Cause.TEARING_DOWN}
    return tuple(
        (part, why) for part, why in evidence.unread.items() if vague or part not in _FURTHER or part in found.needs
    )
