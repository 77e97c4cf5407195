"""What Helm and its hooks say: a failure with Helm's own description, a hook that failed or does not end, a lock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from envprov.domain import telling
from envprov.domain.causes import Cause
from envprov.domain.evidence import (
    Evidence,
    Fact,
    LogWanted,
    Part,
    ReleaseTold,
    Symptom,
    condition_of,
    name_of,
    owned_by,
)
from envprov.domain.leases import HELM_LEASE
from envprov.domain.loose import Manifest, mappings, moment, text, within
from envprov.domain.pod_faults import ending, name_in, pod_fault, short
from envprov.domain.refusals import explain_refusal

HOOK = "helm.sh/hook"
PATIENCE = timedelta(minutes=2)
"""A hook that runs for longer is named."""
_PENDING = frozenset({"pending-install", "pending-upgrade", "pending-rollback"})
_OPEN = _PENDING | {"failed", "uninstalling"}
_WORTH_NAMING = frozenset(
    {Cause.QUOTA_EXCEEDED, Cause.ADMISSION_REFUSED, Cause.WEBHOOK_UNREACHABLE, Cause.POD_SECURITY}
)


def is_hook(item: Manifest) -> bool:
    """Whether Helm runs an object as a hook."""
    return HOOK in within(item, "metadata", "annotations")


def hook_of(evidence: Evidence, pod: Manifest) -> str:
    """Which hook a pod belongs to, in words; empty for none."""
    for job in evidence.of(Part.JOBS):
        if is_hook(job) and owned_by((pod,), job):
            return f"hook Job {name_of(job)} ({_when(job)})"
    return f"hook Pod ({_when(pod)})" if is_hook(pod) else ""


def helm_symptoms(evidence: Evidence) -> Iterator[Symptom]:
    """
    What keeps the release from being deployed or uninstalled.

    Args:
        evidence: What was seen.

    """
    release = evidence.release
    if release is not None and release.status not in _OPEN:
        return
    hooks = list(_hooks(evidence))
    yield from hooks
    if release is None or hooks:
        return
    fact = Fact(
        f"release {release.name}, revision {release.version}", f"{release.status}: {short(release.description)}"
    )
    needs = frozenset({Part.RELEASE})
    failed = [hook for hook in release.hooks if hook.phase == "Failed"]
    if failed and release.status != "uninstalling":
        which = ", ".join(f"{hook.kind} {hook.name} ({', '.join(hook.events)})" for hook in failed)
        summary = f"its hook {which} failed, and nothing else is installed then: {short(release.description)}"
        yield Symptom(Cause.HOOK_FAILED, summary, (fact,), (telling.status(evidence),), needs)
    elif release.status == "failed":
        yield _failed(evidence, release, fact)
    elif not _works(evidence):
        verb = "uninstalling" if release.status == "uninstalling" else f"the state {release.status}"
        summary = (
            f"its Helm release {release.name} is left in {verb}: a Helm was ended in the middle of its work, and none "
            "works on it now. The controller unlocks it by itself when it looks next"
        )
        lock = Fact(f"Lease {evidence.namespace}/{HELM_LEASE}", "nobody renews it")
        known = (lock,) if evidence.knows(Part.HELM_LOCK) else ()
        yield Symptom(
            Cause.HELM_STUCK,
            summary,
            (fact, *known),
            (telling.status(evidence), f"helm history {release.name} -n {evidence.namespace}"),
            needs | {Part.HELM_LOCK},
        )


def _failed(evidence: Evidence, release: ReleaseTold, fact: Fact) -> Symptom:
    fault = explain_refusal(release.description, evidence.sizes)
    needs = frozenset({Part.RELEASE})
    advice = (f"helm history {release.name} -n {evidence.namespace}", telling.status(evidence))
    if fault.cause in _WORTH_NAMING:
        more = frozenset({Part.WEBHOOKS}) if fault.cause is Cause.WEBHOOK_UNREACHABLE else frozenset()
        summary = f"Helm could not deploy release {release.name}: {fault.said}. {fault.advice.capitalize()}"
        return Symptom(fault.cause, summary, (fact,), advice, needs | more)
    summary = f"Helm could not deploy release {release.name}, and says: {short(release.description)}"
    return Symptom(Cause.HELM_FAILED, summary, (fact,), advice, needs)


def _hooks(evidence: Evidence) -> Iterator[Symptom]:
    jobs = [job for job in evidence.of(Part.JOBS) if is_hook(job)]
    for job in jobs:
        failed = condition_of(job, "Failed")
        if failed.get("status") == "True":
            yield _hook_failed(evidence, job, failed)
        elif condition_of(job, "Complete").get("status") != "True":
            began = moment(within(job, "status").get("startTime"))
            pods = owned_by(evidence.of(Part.PODS), job)
            if began is None or evidence.now - began < PATIENCE or any(pod_fault(pod) for pod in pods):
                continue  # whatever is wrong with its pod is the answer
            minutes = int((evidence.now - began).total_seconds() // 60)
            logs = tuple(LogWanted(name_of(pod), name) for pod in pods[-1:] for name in _containers(pod))
            yield Symptom(
                Cause.HOOK_HANGS,
                f"its hook Job {name_of(job)} ({_when(job)}) has been running for {minutes} min and does not end, and "
                "Helm waits for it before it goes on",
                (Fact(f"Job {name_of(job)}", f"started at {text(within(job, 'status').get('startTime'))}"),),
                (telling.describe(evidence, "job", name_of(job)), *_log_commands(evidence, logs)),
                frozenset({Part.LOGS}),
                logs,
            )
    for pod in evidence.of(Part.PODS):
        if is_hook(pod) and text(within(pod, "status").get("phase")) == "Failed":
            yield _hook_failed(evidence, pod, {"message": ""})


def _hook_failed(evidence: Evidence, item: Manifest, condition: Manifest) -> Symptom:
    kind = "Pod" if item.get("kind") == "Pod" else "Job"
    pods = (item,) if kind == "Pod" else owned_by(evidence.of(Part.PODS), item)
    last = max(pods, key=lambda pod: text(within(pod, "metadata").get("creationTimestamp")), default=None)
    ends = [] if last is None else list(_bad_ends(last))
    logs = tuple(LogWanted(name_of(last), name) for name, _ in ends) if last is not None else ()
    how = f": {' and '.join(f'container {name} {end}' for name, end in ends)}" if ends else ""
    message = text(condition.get("message"))
    facts = [Fact(f"{kind} {name_of(item)}", f"failed{f': {message}' if message else ''}")]
    return Symptom(
        Cause.HOOK_FAILED,
        f"its hook {kind} {name_of(item)} ({_when(item)}) failed, and Helm goes no further{how}",
        tuple(facts),
        (*_log_commands(evidence, logs), telling.describe(evidence, kind, name_of(item))),
        frozenset({Part.LOGS}),
        logs,
    )


def _bad_ends(pod: Manifest) -> Iterator[tuple[str, str]]:
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in mappings(within(pod, "status").get(field)):
            ended = within(container, "state", "terminated")
            if ended and ended.get("exitCode") != 0:
                yield name_in(container), ending(ended)


def _containers(pod: Manifest) -> Iterator[str]:
    for container in mappings(within(pod, "spec").get("containers")):
        yield text(container.get("name"))


def _log_commands(evidence: Evidence, logs: tuple[LogWanted, ...]) -> Iterator[str]:
    for log in logs:
        yield telling.log(evidence, log.pod, log.container, previous=log.previous)


def _when(item: Manifest) -> str:
    return text(within(item, "metadata", "annotations").get(HOOK))


def _works(evidence: Evidence) -> bool:
    """Whether a Helm of ours is at work there now, or that cannot be seen."""
    if not evidence.knows(Part.HELM_LOCK):
        return False
    for lease in evidence.of(Part.HELM_LOCK):
        spec = within(lease, "spec")
        renewed, seconds = moment(spec.get("renewTime")), spec.get("leaseDurationSeconds")
        if not spec.get("holderIdentity") or renewed is None:
            return False
        return evidence.now - renewed < timedelta(seconds=seconds if isinstance(seconds, int) else 10)
    return False
