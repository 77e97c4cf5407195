"""What the record itself says of an environment that does not come up: nobody works on it, refused, queued, waiting."""

from __future__ import annotations

from collections.abc import Iterator

from envprov.domain import telling
from envprov.domain.causes import Cause
from envprov.domain.evidence import Evidence, Fact, Part, Symptom, condition_of, name_of
from envprov.domain.leases import CONTROLLER_LEASE
from envprov.domain.loose import Manifest, moment, text, within
from envprov.domain.plan import Phase

_AT_WORK = frozenset({"", *(phase.value for phase in (Phase.QUEUED, Phase.PREPARING, Phase.DEPLOYING, Phase.RETRYING))})
"""Phases in which nothing goes on without a controller."""
_RESTING = frozenset({Phase.FALLING_ASLEEP.value, Phase.ASLEEP.value})


def record_symptoms(evidence: Evidence) -> Iterator[Symptom]:
    """
    What the record says, in the order in which the controller goes.

    Args:
        evidence: With a record that is not being deleted.

    """
    record = evidence.one(Part.RECORD)
    if record is None:
        return
    ready = condition_of(record, "Ready")
    current = not is_behind(record)
    phase = text(ready.get("reason")) if current else ""
    if phase in _AT_WORK and evidence.is_led is False:
        yield no_controller(evidence, "nobody works on it")
    accepted = condition_of(record, "Accepted")
    if current and (accepted.get("status") == "False" or phase == Phase.STALLED):
        yield _refused(evidence, record, accepted if accepted.get("status") == "False" else ready)
    queue = within(record, "status", "queue")
    if current and phase == Phase.QUEUED:
        place = queue.get("position")
        where = f"it waits at place {place} for room" if place else "it waits for room"
        why = text(queue.get("reason")) or text(ready.get("message"))
        facts = (Fact(f"Environment {name_of(record)}", f"{phase}: {why}"),)
        advice = ("envprov queue, which shows the line", telling.status(evidence))
        yield Symptom(Cause.QUEUED, f"{where}: {why}", facts, advice)
    if current and phase in _RESTING:
        facts = (Fact(f"Environment {name_of(record)}", f"{phase}: {text(ready.get('message'))}"),)
        said = "it was put to sleep, and nothing of it runs until it is woken"
        yield Symptom(Cause.ASLEEP, said, facts, (telling.wake(evidence), telling.status(evidence)))
    deployed = condition_of(record, "Deployed")
    if current and deployed.get("status") == "False" and phase in {Phase.RETRYING, Phase.STALLED}:
        why = text(deployed.get("message")) or text(ready.get("message"))
        if text(deployed.get("reason")) not in {phase.value for phase in Phase}:
            yield _helm(evidence, record, f"{text(deployed.get('reason'))}: {why}", why)
    if current and phase in {Phase.PREPARING, Phase.RETRYING, Phase.DEPLOYING}:
        why = text(ready.get("message"))
        facts = (Fact(f"Environment {name_of(record)}", f"{phase}: {why}"),)
        said = f"the controller is at it and says: {why}"
        yield Symptom(Cause.PREPARING, said, facts, (telling.status(evidence),))


def no_controller(evidence: Evidence, effect: str) -> Symptom:
    """
    That no controller answers.

    Args:
        evidence: What was seen.
        effect: What comes of it.

    """
    lease = evidence.one(Part.CONTROLLER)
    if lease is None:
        says = "is not there: no controller has ever worked here"
    elif not within(lease, "spec").get("holderIdentity"):
        says = "is held by nobody: the last controller has ended"
    else:
        spec = within(lease, "spec")
        says = f"was last renewed at {text(spec.get('renewTime'))} by {text(spec.get('holderIdentity'))}"
    return Symptom(
        Cause.NO_CONTROLLER,
        f"{effect}, since no envprov controller answers in Namespace {evidence.control}",
        (Fact(f"Lease {evidence.control}/{CONTROLLER_LEASE}", says),),
        (
            f"kubectl get pods -n {evidence.control}, to see why the controller does not run",
            "envprov doctor, which says more",
        ),
    )


def is_behind(record: Manifest) -> bool:
    """Whether the status is about an older wish, or says nothing."""
    status = within(record, "status")
    seen, wanted = status.get("observedGeneration"), within(record, "metadata").get("generation", 1)
    if condition_of(record, "Ready").get("observedGeneration") == wanted:
        return False
    return not isinstance(seen, int) or seen < wanted


def has_been_ready(record: Manifest) -> bool:
    """Whether it was up once with what it has now."""
    return moment(within(record, "status").get("readyAt")) is not None


def _refused(evidence: Evidence, record: Manifest, said: Manifest) -> Symptom:
    reason, message = text(said.get("reason")), text(said.get("message"))
    fact = Fact(f"Environment {name_of(record)}", f"{text(said.get('type'))} is False, {reason}")
    if reason == "NotOwned":
        advice = (f"kubectl get namespace {evidence.namespace} -o yaml, to see whose it is",)
        return Symptom(Cause.NAMESPACE_FOREIGN, f"it cannot have its Namespace: {message}", (fact,), advice)
    if text(said.get("type")) != "Accepted" and condition_of(record, "Deployed").get("status") == "False":
        deployed = condition_of(record, "Deployed")
        if text(deployed.get("reason")) not in {phase.value for phase in Phase}:
            return _helm(evidence, record, f"{text(deployed.get('reason'))}: {message}", message)
    effect = "it was refused, and nothing was changed" if text(said.get("type")) == "Accepted" else "it cannot go on"
    return Symptom(
        Cause.REFUSED,
        f"{effect}: {message}",
        (fact,),
        ("mend that and push, or ask who writes the Project", telling.status(evidence)),
    )


def _helm(evidence: Evidence, record: Manifest, says: str, why: str) -> Symptom:
    fact = Fact(f"Environment {name_of(record)}", f"Deployed is False, {says}")
    return Symptom(Cause.HELM_FAILED, f"Helm could not deploy it: {why}", (fact,), (telling.status(evidence),))
