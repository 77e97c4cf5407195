"""Health of what a chart brought: from the workloads' own status, with the cause in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Any

from envprov.domain.pod_faults import faulty_pods
from envprov.domain.quantity import amount, written
from envprov.domain.sizes import Size, smallest_that_fits

Manifest = Mapping[str, Any]

PODS_NAMED = 3
"""Troubles of pods that a condition names."""

_QUOTA = re.compile(r"exceeded quota: \S+, requested: (\S+), used: (\S+), limited: (\S+?)(?:: |$)")


class Condition(Enum):
    """Whether the workloads do what they should."""

    HEALTHY = "Healthy"
    PROGRESSING = "Progressing"
    QUOTA_EXCEEDED = "QuotaExceeded"
    FAILED = "Failed"


@dataclass(frozen=True)
class Health:
    """The worst of all workloads, and a sentence for each that is not well."""

    condition: Condition
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Workloads:
    """What lives in the namespace, as trimmed manifests."""

    deployments: tuple[Manifest, ...] = ()
    stateful_sets: tuple[Manifest, ...] = ()
    daemon_sets: tuple[Manifest, ...] = ()
    jobs: tuple[Manifest, ...] = ()
    claims: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()
    refusals: tuple[str, ...] = ()
    """Messages of FailedCreate Events, the only place where StatefulSets and Jobs say why they have no pods."""


def health(workloads: Workloads, sizes: Mapping[str, Size]) -> Health:
    """
    Health of an environment.

    Args:
        workloads: What lives in its namespace.
        sizes: The sizes that a refusal by the quota can be answered with.

    """
    findings = [
        *_findings("Deployment", workloads.deployments, _deployment_lacks),
        *_findings("StatefulSet", workloads.stateful_sets, _stateful_set_lacks),
        *_findings("DaemonSet", workloads.daemon_sets, _daemon_set_lacks),
        *_job_findings(workloads.jobs),
        *_claim_findings(workloads),
    ]
    if not findings:
        return Health(Condition.HEALTHY)
    refusals = {message for deployment in workloads.deployments for message in _replica_failures(deployment)}
    explained = _quota_messages({*refusals, *workloads.refusals}, sizes)
    if explained:
        return Health(Condition.QUOTA_EXCEEDED, explained)
    other = tuple(sorted({_first_sentence(message) for message in {*refusals, *workloads.refusals}}))
    failed = any(condition is Condition.FAILED for condition, _ in findings)
    troubled = tuple(islice(faulty_pods(workloads.pods), PODS_NAMED))
    messages = (*other, *(message for _, message in findings), *troubled)
    return Health(Condition.FAILED if failed else Condition.PROGRESSING, messages)


def explain_quota(message: str, sizes: Mapping[str, Size]) -> str | None:
    """
    A refusal by the quota in words: the quota, the shortfall and the size that would fit.

    Args:
        message: What the API server answered.
        sizes: The sizes to choose from.

    Returns:
        One sentence, or None if the message is about something else.

    """
    match = _QUOTA.search(message)
    if match is None:
        return None
    try:
        return _explained(_amounts(match[1]), _amounts(match[2]), _amounts(match[3]), sizes)
    except ValueError:  # a quantity that cannot be read: the API server's own words say it too
        return f"the quota of this environment is exceeded: {_first_sentence(match[0])}"


def _explained(
    requested: Mapping[str, str], used: Mapping[str, str], limited: Mapping[str, str], sizes: Mapping[str, Size]
) -> str:
    needed = {
        name: written(amount(requested[name]) + amount(used[name]), like=requested[name])
        for name in requested
        if name in used and name in limited
    }
    shortfalls = [
        f"{written(amount(needed[name]) - amount(limited[name]), like=needed[name])} {name} short "
        f"(asks {requested[name]}, {used[name]} of {limited[name]} used)"
        for name in sorted(needed)
        if amount(needed[name]) > amount(limited[name])
    ]
    fitting = smallest_that_fits(needed, sizes)
    way_out = f"size {fitting} would fit" if fitting else "no size is large enough"
    return f"the quota of this environment is exceeded: {'; '.join(shortfalls)}; {way_out}"


def _findings(
    kind: str,
    manifests: Iterable[Manifest],
    lacks: Any,  # noqa: ANN401 - one of the three functions below
) -> Iterable[tuple[Condition, str]]:
    for manifest in manifests:
        missing = lacks(manifest)
        if missing:
            yield Condition.PROGRESSING, f"{kind} {manifest['metadata']['name']}: {missing}"


def _deployment_lacks(manifest: Manifest) -> str | None:
    status, wanted = manifest.get("status", {}), manifest["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < manifest["metadata"].get("generation", 1):
        return "not yet seen by its controller"
    ready = min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0))
    if ready < wanted:
        return f"{ready} of {wanted} pods available"
    superfluous = status.get("replicas", 0) - wanted
    return f"{superfluous} pods more than wanted" if superfluous > 0 else None


def _stateful_set_lacks(manifest: Manifest) -> str | None:
    status, wanted = manifest.get("status", {}), manifest["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < manifest["metadata"].get("generation", 1):
        return "not yet seen by its controller"
    current = status.get("updateRevision") == status.get("currentRevision")
    ready = (
        status.get("readyReplicas", 0)
        if current
        else min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
    )
    return f"{ready} of {wanted} pods ready" if ready < wanted else None


def _daemon_set_lacks(manifest: Manifest) -> str | None:
    status = manifest.get("status", {})
    if status.get("observedGeneration", 0) < manifest["metadata"].get("generation", 1):
        return "not yet seen by its controller"
    wanted = status.get("desiredNumberScheduled", 0)
    ready = min(status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0))
    return f"{ready} of {wanted} pods available" if ready < wanted else None


def _job_findings(jobs: Iterable[Manifest]) -> Iterable[tuple[Condition, str]]:
    for job in jobs:
        owners = job["metadata"].get("ownerReferences", ())
        is_hook = "helm.sh/hook" in job["metadata"].get("annotations", {})  # Helm waits for its hooks itself
        if is_hook or any(owner.get("kind") == "CronJob" for owner in owners) or job["spec"].get("suspend"):
            continue
        name = job["metadata"]["name"]
        states = {
            entry["type"]: entry for entry in job.get("status", {}).get("conditions", ()) if entry["status"] == "True"
        }
        if "Failed" in states:
            yield Condition.FAILED, f"Job {name} failed: {states['Failed'].get('message', 'no message')}"
        elif "Complete" not in states:
            yield Condition.PROGRESSING, f"Job {name}: not complete"


def _claim_findings(workloads: Workloads) -> Iterable[tuple[Condition, str]]:
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in workloads.pods
        for volume in pod["spec"].get("volumes", ())
        if "persistentVolumeClaim" in volume
    }
    for claim in workloads.claims:
        name, phase = claim["metadata"]["name"], claim.get("status", {}).get("phase", "Pending")
        if phase == "Lost":
            yield Condition.FAILED, f"PersistentVolumeClaim {name}: its volume is lost"
        elif phase != "Bound" and name in mounted:
            yield Condition.PROGRESSING, f"PersistentVolumeClaim {name}: {phase}"


def _replica_failures(deployment: Manifest) -> Iterable[str]:
    for entry in deployment.get("status", {}).get("conditions", ()):
        if entry["type"] == "ReplicaFailure" and entry["status"] == "True":
            yield entry.get("message", "")


def _quota_messages(messages: Iterable[str], sizes: Mapping[str, Size]) -> tuple[str, ...]:
    return tuple(sorted({said for message in messages if (said := explain_quota(message, sizes))}))


def _amounts(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.rstrip(",").split(",") if "=" in part)


def _first_sentence(message: str) -> str:
    return message.split("\n", 1)[0][:300]
