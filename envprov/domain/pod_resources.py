"""
What one pod is charged against a ResourceQuota, after the defaults that the API server fills in.

The order is the API server's (1.37): a container's limits become its requests where it has none, the LimitRange fills
in the rest, the RuntimeClass adds its overhead, and what ``spec.resources`` leaves open follows from the containers.
Before 1.37 that last step came first, so that a pod with nothing but limits of its own was charged these.

Source: kubernetes pkg/apis/core/v1/defaults.go SetDefaults_Pod, plugin/pkg/admission/limitranger/admission.go
mergePodResourceRequirements, pkg/api/pod/util.go DefaultPodLevelResources, component-helpers/resource/helpers.go
PodRequests and PodLimits, pkg/quota/v1/evaluator/core/pods.go
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, Context, Decimal
from functools import reduce
from typing import Any

from envprov.domain.loose import mapping, mappings, text, within
from envprov.domain.quantity import amount

Manifest = Mapping[str, Any]
Amounts = Mapping[str, Decimal]
"""How much of what: by the name of a container's resource, or by that of a ResourceQuota."""

_EXACT = Context(prec=200, rounding=ROUND_CEILING, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_MILLI = Decimal("0.001")
_WHOLE = 10**30
_CHARGED = {
    "requests": {
        "cpu": "requests.cpu",
        "memory": "requests.memory",
        "ephemeral-storage": "requests.ephemeral-storage",
    },
    "limits": {"memory": "limits.memory"},
}


@dataclass(frozen=True)
class Limits:
    """
    What a LimitRange says, with the defaults that the API server derives.

    Attributes:
        requests: Requests of a container that has none.
        limits: Limits of a container that has none.
        most: The most that one container may have.
        claim: The largest claim; None if there is no maximum.

    """

    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)
    most: Amounts = field(default_factory=dict)
    claim: Decimal | None = None


@dataclass(frozen=True)
class Resources:
    """What a container or a pod has, all defaults filled in."""

    requests: Amounts
    limits: Amounts


def plus(one: Amounts, other: Amounts) -> dict[str, Decimal]:
    """The sum, resource by resource."""
    return {**one, **{name: _EXACT.add(value, one.get(name, Decimal(0))) for name, value in other.items()}}


def larger(one: Amounts, other: Amounts) -> dict[str, Decimal]:
    """The larger of both, resource by resource."""
    return {**one, **{name: max(value, one.get(name, value)) for name, value in other.items()}}


def times(one: Amounts, count: int) -> dict[str, Decimal]:
    """The same several times."""
    return {name: _EXACT.multiply(value, Decimal(count)) for name, value in one.items()}


def total(many: Iterable[Amounts]) -> dict[str, Decimal]:
    """The sum of all, resource by resource."""
    return reduce(plus, many, {})


def quantity(value: object) -> Decimal | None:
    """
    A quantity as it stands in a manifest.

    Args:
        value: A string, or a number as YAML reads it; null is zero.

    Returns:
        Its value, rounded up to milli as the API server stores it; None if it is none, or is negative.

    """
    if value is None:
        return Decimal(0)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = amount(str(value).removeprefix("+"))
    except ValueError:
        return None
    # A number that large has no milli; quantizing it would need as many digits.
    return found if found >= _WHOLE else found.quantize(_MILLI, context=_EXACT)


def quantities(value: object) -> dict[str, Decimal]:
    """A list of resources; what is no quantity is left out, for a check of its own says so."""
    read = {str(name): quantity(given) for name, given in mapping(value).items()}
    return {name: given for name, given in read.items() if given is not None}


def limits_of(limit_range: Manifest) -> Limits:
    """
    Read a LimitRange.

    Args:
        limit_range: As it is applied. A default limit that is left out is the maximum, and a default request the
            default limit.

    Source: kubernetes pkg/apis/core/v1/defaults.go SetDefaults_LimitRangeItem

    """
    found = Limits()
    for item in mappings(within(limit_range, "spec").get("limits")):
        most = quantities(item.get("max"))
        match text(item.get("type")):
            case "Container":
                limits = most | quantities(item.get("default"))
                requests = quantities(item.get("min")) | limits | quantities(item.get("defaultRequest"))
                found = Limits(requests, limits, most, found.claim)
            case "PersistentVolumeClaim":
                found = Limits(found.requests, found.limits, found.most, most.get("storage"))
            case _:
                pass
    return found


def container_resources(container: Manifest, limits: Limits) -> Resources:
    """What a container has after defaults: its own limits are its requests, where it has none."""
    given = mapping(container.get("resources"))
    own = quantities(given.get("limits"))
    return Resources(
        requests={**limits.requests, **own, **quantities(given.get("requests"))}, limits={**limits.limits, **own}
    )


def pod_resources(spec: Manifest, limits: Limits, overhead: Amounts) -> Resources:
    """
    What a pod has after defaults.

    Args:
        spec: Of the pod.
        limits: The LimitRange.
        overhead: What its RuntimeClass adds.

    """
    containers = [container_resources(each, limits) for each in mappings(spec.get("containers"))]
    before = [
        (container_resources(each, limits), each.get("restartPolicy") == "Always")
        for each in mappings(spec.get("initContainers"))
    ]
    requests = _together([each.requests for each in containers], [(each.requests, stays) for each, stays in before])
    bounds = _together([each.limits for each in containers], [(each.limits, stays) for each, stays in before])
    own = _pod_level(spec, requests, bounds, [*containers, *(each for each, _ in before)])
    requests, bounds = {**requests, **own.requests}, {**bounds, **own.limits}
    # A container without a limit may use the overhead too: only limits that there are grow.
    grown = {name: value for name, value in overhead.items() if bounds.get(name)}
    return Resources(plus(requests, overhead), plus(bounds, grown))


def charge(spec: Manifest, limits: Limits, overhead: Amounts) -> dict[str, Decimal]:
    """
    What a pod is charged, by the resource names of a ResourceQuota.

    Args:
        spec: Of the pod.
        limits: The LimitRange of the namespace.
        overhead: What its RuntimeClass adds.

    """
    has = pod_resources(spec, limits, overhead)
    charged = {"pods": Decimal(1)}
    for amounts, names in ((has.requests, _CHARGED["requests"]), (has.limits, _CHARGED["limits"])):
        charged |= {names[name]: value for name, value in amounts.items() if name in names}
    return charged


def pod_level(name: str) -> bool:
    """Whether a pod as a whole can have a resource."""
    return name in {"cpu", "memory"} or str(name).startswith("hugepages-")


def _together(containers: list[Amounts], before: list[tuple[Amounts, bool]]) -> dict[str, Decimal]:
    """The sum of those that run side by side, or what an init container needs if that is more."""
    running = total(containers)
    staying: dict[str, Decimal] = {}
    starting: dict[str, Decimal] = {}
    for one, stays in before:
        if stays:
            running, staying = plus(running, one), plus(staying, one)
            starting = larger(starting, staying)
        else:
            starting = larger(starting, plus(one, staying))
    return larger(running, starting)


def _pod_level(spec: Manifest, requests: Amounts, limits: Amounts, containers: list[Resources]) -> Resources:
    """What the pod as a whole has; nothing if it says nothing."""
    given = mapping(spec.get("resources"))
    own = {name: value for name, value in quantities(given.get("requests")).items() if pod_level(name)}
    bounds = {name: value for name, value in quantities(given.get("limits")).items() if pod_level(name)}
    if not own and not bounds:
        return Resources({}, {})
    summed = {name: value for name, value in requests.items() if name in {"cpu", "memory"}}
    own = bounds | summed | own
    derived = {
        name: max(value, limits[name])
        for name, value in own.items()
        if name not in bounds and name in limits and all(name in each.limits for each in containers)
    }
    return Resources(own, bounds | derived)
