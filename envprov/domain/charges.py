"""
What one rendered object is charged against the ResourceQuota of its namespace, itself and through the pods it makes.

Source: kubernetes pkg/quota/v1/evaluator/core (pods, services, persistent_volume_claims),
pkg/controller/deployment/util ResolveFenceposts, pkg/controller/job manageJob
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

from envprov.domain.charted import Charted, pod_template
from envprov.domain.findings import Subject
from envprov.domain.loose import mapping, text, within
from envprov.domain.pod_resources import Amounts, Limits, charge, plus, quantity, times, total

Manifest = Mapping[str, Any]

_MOST = 2**31 - 1
_ONE = Decimal(1)
_PERCENT = re.compile(r"([0-9]{1,9})%", re.ASCII)
_COUNTED = {
    ("", "Secret"): "count/secrets",
    ("", "ConfigMap"): "count/configmaps",
    ("networking.k8s.io", "Ingress"): "count/ingresses.networking.k8s.io",
}
_REPLICATED = {
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("", "ReplicationController"),
}


@dataclass(frozen=True)
class Surroundings:
    """
    What the need of a chart depends on beside the chart.

    Attributes:
        home: Namespace of the environment; nothing else is charged there.
        limits: Its LimitRange.
        secrets: Names of the Secrets that envprov copies there.
        overheads: What a pod of a RuntimeClass needs besides, by name of the class.
        nodes: On how many nodes a DaemonSet runs a pod.
        history: How many Secrets Helm keeps of the release.

    """

    home: str
    limits: Limits = field(default_factory=Limits)
    secrets: tuple[str, ...] = ()
    overheads: Mapping[str, Amounts] = field(default_factory=dict)
    nodes: int = 1
    history: int = 1


@dataclass(frozen=True)
class Use:
    """
    What one object needs.

    Attributes:
        subject: The object.
        copies: How many of the same it makes.
        each: What one of them needs, by the names of a ResourceQuota.
        ends: Whether they end by themselves, and are charged no more then.

    """

    subject: Subject
    copies: int
    each: Amounts
    ends: bool = False

    @property
    def amounts(self) -> dict[str, Decimal]:
        """What all copies need."""
        return times(self.each, self.copies)


@dataclass(frozen=True)
class Autoscaler:
    """Between how many pods a HorizontalPodAutoscaler scales."""

    least: int
    most: int


Autoscalers = Mapping[tuple[str, str], Autoscaler]
"""By kind and name of what they scale."""


def autoscalers(items: Iterable[Charted]) -> dict[tuple[str, str], Autoscaler]:
    """The HorizontalPodAutoscalers of a chart."""
    found = {}
    for item in items:
        if item.is_a("autoscaling", "HorizontalPodAutoscaler"):
            spec = mapping(item.manifest.get("spec"))
            target = within(spec, "scaleTargetRef")
            bounds = Autoscaler(_count(spec.get("minReplicas"), 1), _count(spec.get("maxReplicas"), 1))
            found[text(target.get("kind")), text(target.get("name"))] = bounds
    return found


def standing(item: Charted, around: Surroundings, scalers: Autoscalers) -> Iterator[Use]:
    """
    What an object needs when it is installed, its pods included.

    Args:
        item: The object.
        around: What the need depends on beside the chart.
        scalers: Of the chart; each raises its target to the least number of pods.

    """
    spec = mapping(item.manifest.get("spec"))
    kind = item.group, item.kind
    if kind in _COUNTED:
        yield Use(item.subject, 1, {_COUNTED[kind]: _ONE})
    elif kind == ("", "Service"):
        yield Use(item.subject, 1, _service(spec))
    elif kind == ("", "PersistentVolumeClaim"):
        yield Use(item.subject, 1, _claim(spec))
    elif kind == ("batch", "Job"):
        yield Use(item.subject, 1, {"count/jobs.batch": _ONE})
        yield from _ending(item, around, _parallel(spec))
    elif kind == ("", "Pod"):
        yield from _ending(item, around, 1)
    elif kind == ("apps", "DaemonSet"):
        yield Use(item.subject, around.nodes, _pod(item, around))
    elif kind in _REPLICATED:
        replicas, scaler = _replicas(item, scalers)
        yield Use(item.subject, max(replicas, scaler.least), _pod(item, around))


def later(item: Charted, around: Surroundings, scalers: Autoscalers) -> Iterator[Use]:
    """What an object may need beside that while it runs: up to the most of its autoscaler, or a run of a CronJob."""
    spec = mapping(item.manifest.get("spec"))
    if item.is_a("batch", "CronJob") and spec.get("suspend") is not True:
        # One run at a time: with concurrencyPolicy Allow there may be more, but nobody can say how many.
        kept = _count(spec.get("successfulJobsHistoryLimit"), 3) + _count(spec.get("failedJobsHistoryLimit"), 1)
        yield Use(item.subject, kept + 1, {"count/jobs.batch": _ONE})
        yield from _ending(item, around, _parallel(within(spec, "jobTemplate", "spec")))
    elif (item.group, item.kind) in _REPLICATED:
        replicas, scaler = _replicas(item, scalers)
        more = scaler.most - max(replicas, scaler.least)
        if more > 0:
            yield Use(item.subject, more, _pod(item, around))


def surging(item: Charted, around: Surroundings, scalers: Autoscalers) -> Iterator[Use]:
    """What a rolling update needs besides, while old and new pods stand side by side."""
    spec = mapping(item.manifest.get("spec"))
    surge = 0
    if item.is_a("apps", "DaemonSet"):
        surge = _share(within(spec, "updateStrategy", "rollingUpdate").get("maxSurge"), around.nodes, "0%")
    elif item.is_a("apps", "Deployment") and within(spec, "strategy").get("type") != "Recreate":
        replicas, scaler = _replicas(item, scalers)
        most = max(replicas, scaler.least, scaler.most)
        surge = _share(within(spec, "strategy", "rollingUpdate").get("maxSurge"), most, "25%") if most else 0
    if surge:
        yield Use(item.subject, surge, _pod(item, around))


def claim_templates(item: Charted) -> Iterator[tuple[str, Manifest]]:
    """The claims that an object makes for each of its pods: path and manifest of each template."""
    template = pod_template(item)
    if template is not None:
        for number, volume in enumerate(_listed(template.spec.get("volumes"))):
            if isinstance(volume.get("ephemeral"), Mapping):
                path = f"{template.path}.volumes[{number}].ephemeral.volumeClaimTemplate"
                yield path, within(volume, "ephemeral", "volumeClaimTemplate")
    if item.is_a("apps", "StatefulSet"):
        for number, claim in enumerate(_listed(within(item.manifest, "spec").get("volumeClaimTemplates"))):
            yield f"spec.volumeClaimTemplates[{number}]", claim


def _ending(item: Charted, around: Surroundings, copies: int) -> Iterator[Use]:
    """Pods that end, and their claims, which stay until somebody deletes the pods."""
    yield Use(item.subject, copies, _charge(item, around), ends=True)
    claims = _claims(item)
    if claims:
        yield Use(item.subject, copies, claims)


def _pod(item: Charted, around: Surroundings) -> Amounts:
    return plus(_charge(item, around), _claims(item))


def _charge(item: Charted, around: Surroundings) -> Amounts:
    template = pod_template(item)
    spec = template.spec if template is not None else {}
    return charge(spec, around.limits, around.overheads.get(text(spec.get("runtimeClassName")), {}))


def _claims(item: Charted) -> Amounts:
    return total(_claim(mapping(claim.get("spec"))) for _, claim in claim_templates(item))


def _claim(spec: Manifest) -> Amounts:
    asked = quantity(within(spec, "resources", "requests").get("storage"))
    size = {} if asked is None else {"requests.storage": asked.to_integral_value(ROUND_CEILING)}
    return {"persistentvolumeclaims": _ONE, **size}


def _service(spec: Manifest) -> Amounts:
    """A load balancer takes node ports as well, unless it is told not to."""
    ports = _listed(spec.get("ports"))
    match spec.get("type"):
        case "NodePort":
            return {"services.nodeports": Decimal(len(ports))}
        case "LoadBalancer":
            wanted = ports
            if spec.get("allocateLoadBalancerNodePorts") is False:
                wanted = [port for port in ports if port.get("nodePort")]
            return {"services.loadbalancers": _ONE, "services.nodeports": Decimal(len(wanted))}
        case _:
            return {}


def _replicas(item: Charted, scalers: Autoscalers) -> tuple[int, Autoscaler]:
    """How many pods it says, and its autoscaler, which leaves one alone that says none."""
    replicas = _count(within(item.manifest, "spec").get("replicas"), 1)
    scaler = scalers.get((item.kind, item.subject.name)) if replicas else None
    return replicas, scaler or Autoscaler(0, 0)


def _parallel(spec: Manifest) -> int:
    """How many pods of a Job run at once."""
    if spec.get("suspend") is True:
        return 0
    parallel = _count(spec.get("parallelism"), 1)
    completions = spec.get("completions")
    return parallel if completions is None else min(parallel, _count(completions, 1))


def _share(value: object, whole: int, default: str) -> int:
    """A number, or a percentage rounded up."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _count(value, 0)
    percent = _PERCENT.fullmatch(text(value)) or _PERCENT.fullmatch(default)
    return -(-int(percent[1]) * whole // 100) if percent else 0


def _count(value: object, default: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return default
    return min(max(value, 0), _MOST)


def _listed(value: object) -> list[Manifest]:
    """The items of a list at their places; what is no object is an empty one."""
    return [mapping(item) for item in value] if isinstance(value, list | tuple) else []
