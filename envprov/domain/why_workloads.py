"""What keeps the workloads from being well: pods that are refused or in trouble, Jobs, controllers that are silent."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from envprov.domain import telling
from envprov.domain.causes import Cause, earliest
from envprov.domain.evidence import (
    WORKLOADS,
    Evidence,
    Fact,
    LogWanted,
    Part,
    Symptom,
    condition_of,
    is_going,
    name_of,
    owned_by,
)
from envprov.domain.loose import Manifest, mapping, mappings, moment, number, text, within
from envprov.domain.pod_faults import Fault, Told, ending, is_ready, name_in, pod_fault, short
from envprov.domain.refusals import NEEDS, explain_refusal
from envprov.domain.why_claims import claim_symptoms
from envprov.domain.why_helm import hook_of, is_hook

TAINTED_NAMED = 3
SILENCE = timedelta(seconds=15)
"""Kubernetes' own controllers look at a new object within moments."""
_LOGS = frozenset({Part.LOGS})
_OF_NODES = frozenset({Cause.NODE_LOST, Cause.NODE_SILENT, Cause.NODE_TAINTS})


def workload_symptoms(evidence: Evidence) -> Iterator[Symptom]:
    """
    What is wrong with the workloads, what must be mended first coming first.

    Args:
        evidence: What was seen.

    """
    found = [
        *_silence(evidence),
        *_refusals(evidence),
        *claim_symptoms(evidence, is_lacking=any(lacking(evidence))),
        *_pods(evidence),
        *_jobs(evidence),
    ]
    found.sort(key=lambda symptom: earliest(symptom.cause))
    yield from found


def lacking(evidence: Evidence) -> Iterator[Fact]:
    """Workloads with fewer pods than wanted."""
    for part, kind in WORKLOADS:
        for item in evidence.of(part):
            status, spec = within(item, "status"), within(item, "spec")
            match part:
                case Part.DEPLOYMENTS | Part.STATEFUL_SETS:
                    wanted = number(spec.get("replicas"), 1)
                    ready = number(status.get("availableReplicas" if part is Part.DEPLOYMENTS else "readyReplicas"))
                case Part.DAEMON_SETS:
                    wanted, ready = number(status.get("desiredNumberScheduled")), number(status.get("numberAvailable"))
                case _:
                    continue
            if ready < wanted:
                yield Fact(f"{kind} {name_of(item)}", f"{ready} of {wanted} pods ready")


def is_lagging(item: Manifest) -> bool:
    """Whether the controller of a workload has not looked at it as it is now."""
    wanted = number(within(item, "metadata").get("generation"), 1)
    return number(within(item, "status").get("observedGeneration")) < wanted


def _silence(evidence: Evidence) -> Iterator[Symptom]:
    for part, kind in WORKLOADS[:-1]:
        for item in evidence.of(part):
            born = moment(within(item, "metadata").get("creationTimestamp"))
            if not is_lagging(item) or is_going(item) or born is None or evidence.now - born < SILENCE:
                continue
            seen = within(item, "status").get("observedGeneration", 0)
            says = f"generation {within(item, 'metadata').get('generation')}, observed {seen}"
            yield Symptom(
                Cause.CLUSTER_CONTROLLERS_SILENT,
                f"Kubernetes itself does not look at {kind} {name_of(item)}: its controller manager "
                "(kube-controller-manager) does not answer, so no pods are made or replaced. Whoever runs the cluster "
                "has to mend that",
                (Fact(f"{kind} {name_of(item)}", says),),
                ("kubectl get leases -n kube-system, to see whether kube-controller-manager renews its own",),
            )
            return


# --- Refused


def _refusals(evidence: Evidence) -> Iterator[Symptom]:
    owners = {text(within(item, "metadata").get("uid")): item for item in evidence.of(Part.DEPLOYMENTS)}
    told: set[str] = set()
    for item in evidence.of(Part.REPLICA_SETS):
        failure = condition_of(item, "ReplicaFailure")
        if failure.get("status") != "True":
            continue
        owner = next(
            (
                owners[uid]
                for entry in mappings(within(item, "metadata").get("ownerReferences"))
                if (uid := text(entry.get("uid"))) in owners
            ),
            None,
        )
        kind, name = ("Deployment", name_of(owner)) if owner else ("ReplicaSet", name_of(item))
        told.add(name)
        yield _refusal(evidence, kind, name, text(failure.get("message")))
    for item in evidence.of(Part.DEPLOYMENTS):
        failure = condition_of(item, "ReplicaFailure")
        if failure.get("status") == "True" and name_of(item) not in told:
            yield _refusal(evidence, "Deployment", name_of(item), text(failure.get("message")))
    for part, kind, lacks in (
        (Part.STATEFUL_SETS, "StatefulSet", _stateful_set_lacks),
        (Part.DAEMON_SETS, "DaemonSet", _daemon_set_lacks),
        (Part.JOBS, "Job", _job_lacks),
    ):
        for item in evidence.of(part):
            message = _last_refusal(evidence, item) if lacks(item) else ""
            if message:
                yield _refusal(evidence, kind, name_of(item), message)


def _refusal(evidence: Evidence, kind: str, name: str, message: str) -> Symptom:
    fault = explain_refusal(message, evidence.sizes)
    facts = tuple(Fact(f"{kind} {name}", words) for words in fault.quoted)
    advice = (fault.advice, telling.describe(evidence, kind, name))
    needs = NEEDS.get(fault.cause, frozenset())
    return Symptom(fault.cause, f"{kind} {name} gets no pods: {fault.said}", facts, advice, needs)


def _last_refusal(evidence: Evidence, item: Manifest) -> str:
    """How a pod was refused, if none has been made since: what has gone by keeps nothing."""
    for event in evidence.about(item):
        if text(event.get("reason")) == "FailedCreate":
            return text(event.get("message"))
        if text(event.get("reason")) == "SuccessfulCreate":
            return ""
    return ""


def _stateful_set_lacks(item: Manifest) -> bool:
    return number(within(item, "status").get("replicas")) < number(within(item, "spec").get("replicas"), 1)


def _daemon_set_lacks(item: Manifest) -> bool:
    status = within(item, "status")
    return number(status.get("currentNumberScheduled")) < number(status.get("desiredNumberScheduled"))


def _job_lacks(item: Manifest) -> bool:
    status = within(item, "status")
    is_over = any(condition_of(item, kind).get("status") == "True" for kind in ("Complete", "Failed"))
    return not is_over and not status.get("active") and not within(item, "spec").get("suspend")


# --- Pods


def _pods(evidence: Evidence) -> Iterator[Symptom]:
    found: dict[Cause, list[tuple[Manifest, Fault]]] = {}
    for pod in evidence.of(Part.PODS):
        fault = _on_lost_node(evidence, pod) or pod_fault(pod, _told(evidence, pod), evidence.now)
        is_answer = fault is not None and not (_is_over(pod) and _has_other_answer(evidence, pod))
        if fault is not None and is_answer:
            found.setdefault(fault.cause, []).append((pod, fault))
    for cause, faults in found.items():
        pod, fault = max(faults, key=_tells_most)
        yield _pod_symptom(evidence, pod, fault, len(faults) - 1, cause)


def _tells_most(found: tuple[Manifest, Fault]) -> tuple[bool, str]:
    """A pod that is there before one that has ended; of those the newest, as each is a try of its own."""
    pod, _ = found
    return not _is_over(pod), text(within(pod, "metadata").get("creationTimestamp")) if _is_over(pod) else ""


def unexplained(evidence: Evidence) -> tuple[Manifest, ...]:
    """Pods with a node that are not ready, and do not say why themselves: their node may."""
    return tuple(
        pod
        for pod in evidence.of(Part.PODS)
        if within(pod, "spec").get("nodeName") and not is_ready(pod) and not _is_over(pod)
    )


def _pod_symptom(evidence: Evidence, pod: Manifest, fault: Fault, others: int, cause: Cause) -> Symptom:
    name = name_of(pod)
    hook = hook_of(evidence, pod)
    times = f", {fault.times}" if fault.times else ""
    more = f" ({others} more pod{'s' if others > 1 else ''} likewise)" if others else ""
    summary = f"{f'{hook} does not end: ' if hook else ''}pod {name} {fault.said}{times}{more}"
    facts = [Fact(f"Pod {name}", words) for words in fault.quoted]
    facts += [fact for fact in lacking(evidence) if _is_of(evidence, pod, fact)]
    if cause is Cause.CONFIG_MISSING:
        facts += list(_looked_for(evidence, fault))
    if cause is Cause.NODE_TAINTS:
        facts += list(_taints(evidence))
    advice = [fault.advice] if fault.advice else []
    logs = (LogWanted(name, fault.container, fault.previous),) if fault.has_log else ()
    advice += [telling.log(evidence, log.pod, log.container, previous=log.previous) for log in logs]
    advice.append(telling.describe(evidence, "pod", name))
    needs = (_LOGS if logs else frozenset()) | (frozenset({Part.NODES}) if cause in _OF_NODES else frozenset())
    return Symptom(cause, summary, tuple(facts), tuple(advice), needs, logs)


def _on_lost_node(evidence: Evidence, pod: Manifest) -> Fault | None:
    name = text(within(pod, "spec").get("nodeName"))
    if not name or is_ready(pod) or _is_over(pod) or is_going(pod):
        return None
    says = node_trouble(evidence, name)
    if not says:
        return None
    advice = "ask who runs the nodes; Kubernetes makes the pod anew elsewhere after some minutes"
    return Fault(Cause.NODE_LOST, f"is on node {name}, which {says}", (), advice)


def node_trouble(evidence: Evidence, name: str) -> str:
    """Why a node does not do its work, as a clause; empty if it does, or if nobody looked at it."""
    if name in evidence.absent_nodes:
        return "is not there any more"
    node = next((item for item in evidence.of(Part.NODES) if name_of(item) == name), {})
    ready = condition_of(node, "Ready")
    if ready.get("status") == "True" or not ready:
        return ""
    said = text(ready.get("message"))
    return f"does not answer{f' ({short(said)})' if said else ''}"


def _taints(evidence: Evidence) -> Iterator[Fact]:
    """Which taints there are: a new scheduler only says that there are some."""
    found: dict[str, list[str]] = {}
    for node in evidence.of(Part.NODES):
        for taint in mappings(within(node, "spec").get("taints")):
            value = f"={taint.get('value')}" if taint.get("value") else ""
            found.setdefault(f"{taint.get('key')}{value}:{taint.get('effect')}", []).append(name_of(node))
    for label, names in sorted(found.items()):
        more = f" and {len(names) - TAINTED_NAMED} more" if len(names) > TAINTED_NAMED else ""
        yield Fact(f"Node {', '.join(sorted(names)[:TAINTED_NAMED])}{more}", f"has the taint {label}")


def _looked_for(evidence: Evidence, fault: Fault) -> Iterator[Fact]:
    """Whether what a pod lacks is there by now."""
    for part, kind in ((Part.SECRETS, "secret"), (Part.CONFIG_MAPS, "configmap")):
        if not evidence.knows(part):
            continue
        there = {name_of(item) for item in evidence.of(part)}
        for words in fault.quoted:
            _, found, rest = words.partition(f'{kind} "')
            name = rest.partition('"')[0]
            if found and "not found" in rest and (part not in evidence.unread or name in there):
                label = "Secret" if kind == "secret" else "ConfigMap"
                yield Fact(f"{label} {name}", "is there now" if name in there else "is not there, looked for just now")


def _told(evidence: Evidence, pod: Manifest) -> tuple[Told, ...]:
    return tuple(
        Told(text(event.get("reason")), text(event.get("message")), _container_of(event))
        for event in evidence.about(pod)
    )


def _container_of(event: Manifest) -> str:
    """``spec.containers{web}`` is about container web."""
    _, brace, rest = text(within(event, "involvedObject").get("fieldPath")).partition("{")
    return rest.removesuffix("}") if brace else ""


def _is_over(pod: Manifest) -> bool:
    return text(within(pod, "status").get("phase")) in {"Succeeded", "Failed"}


def _has_other_answer(evidence: Evidence, pod: Manifest) -> bool:
    """Whether something else tells of a pod that has failed: its Job, or the pods that came after it."""
    owners = list(mappings(within(pod, "metadata").get("ownerReferences")))
    kinds = {text(owner.get("kind")) for owner in owners}
    uids = {text(owner.get("uid")) for owner in owners}
    if "Job" in kinds:
        jobs = [job for job in evidence.of(Part.JOBS) if text(within(job, "metadata").get("uid")) in uids]
        return not any(_is_tried_again(job) for job in jobs)
    return any(
        other is not pod
        and is_ready(other)
        and any(text(entry.get("uid")) in uids for entry in mappings(within(other, "metadata").get("ownerReferences")))
        for other in evidence.of(Part.PODS)
    )


def _is_tried_again(job: Manifest) -> bool:
    """Whether a Job makes another pod after one that has failed: it says nothing itself until it gives up."""
    is_over = any(condition_of(job, kind).get("status") == "True" for kind in ("Complete", "Failed"))
    is_timed = any(owner.get("kind") == "CronJob" for owner in mappings(within(job, "metadata").get("ownerReferences")))
    return not is_over and not is_timed


def _is_of(evidence: Evidence, pod: Manifest, fact: Fact) -> bool:
    """Whether a pod belongs to the workload that a fact is about."""
    for entry in mappings(within(pod, "metadata").get("ownerReferences")):
        if f"{entry.get('kind')} {entry.get('name')}" == fact.subject:
            return True
        for item in evidence.of(Part.REPLICA_SETS):
            above = [
                f"{o.get('kind')} {o.get('name')}" for o in mappings(within(item, "metadata").get("ownerReferences"))
            ]
            if name_of(item) == entry.get("name") and fact.subject in above:
                return True
    return False


# --- Jobs


def _jobs(evidence: Evidence) -> Iterator[Symptom]:
    for job in evidence.of(Part.JOBS):
        owners = mappings(within(job, "metadata").get("ownerReferences"))
        failed = condition_of(job, "Failed")
        if is_hook(job) or failed.get("status") != "True" or any(owner.get("kind") == "CronJob" for owner in owners):
            continue
        name, reason, message = name_of(job), text(failed.get("reason")), text(failed.get("message"))
        pods = owned_by(evidence.of(Part.PODS), job)
        last = max(pods, key=lambda pod: text(within(pod, "metadata").get("creationTimestamp")), default=None)
        ends = list(_ends(last)) if last is not None else []
        logs = tuple(LogWanted(name_of(last), container) for container, _ in ends) if last is not None else ()
        how = f": {' and '.join(f'container {container} {end}' for container, end in ends)}" if ends else ""
        late = reason == "DeadlineExceeded"
        deadline = within(job, "spec").get("activeDeadlineSeconds")
        said = (
            f"Job {name} was ended, since it took longer than its {deadline} s (activeDeadlineSeconds)"
            if late
            else f"Job {name} failed and is not tried again ({reason or 'no reason given'}){how}"
        )
        yield Symptom(
            Cause.JOB_DEADLINE if late else Cause.JOB_FAILED,
            said,
            (Fact(f"Job {name}", short(message)),),
            (
                *(telling.log(evidence, log.pod, log.container, previous=False) for log in logs),
                telling.describe(evidence, "job", name),
            ),
            _LOGS if logs else frozenset(),
            logs,
        )


def _ends(pod: Manifest) -> Iterator[tuple[str, str]]:
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in mappings(within(pod, "status").get(field)):
            ended = mapping(within(container, "state").get("terminated"))
            if ended and ended.get("exitCode") != 0:
                yield name_in(container), ending(ended)
