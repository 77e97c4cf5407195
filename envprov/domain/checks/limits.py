"""What single containers, pods and claims may ask for: what the API server refuses, or would by the LimitRange."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from envprov.domain import objects
from envprov.domain.charges import claim_templates
from envprov.domain.charted import Charted, PodTemplate
from envprov.domain.checking import Given
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import mapping, text, within
from envprov.domain.need import shown
from envprov.domain.pod_resources import (
    Limits,
    container_resources,
    limits_of,
    pod_level,
    pod_resources,
    quantities,
    quantity,
)

Manifest = Mapping[str, Any]

QUANTITY_INVALID = Rule(
    "QuantityInvalid",
    Severity.ERROR,
    "A request or limit is no quantity, or is negative. The API server refuses the object.",
    "Write it like 500m (CPU) or 256Mi (memory, storage).",
)
CONTAINER_TOO_LARGE = Rule(
    "ContainerTooLarge",
    Severity.ERROR,
    "A container asks for more than one container may have: the maximum of the LimitRange, which platform people set "
    "in `platform.containers`. The API server refuses its pods.",
    "Ask for less, or split the work over several pods.",
)
REQUEST_ABOVE_LIMIT = Rule(
    "RequestAboveLimit",
    Severity.ERROR,
    "A request is larger than the limit beside it. The API server refuses the pods.",
    "Lower the request or raise the limit.",
)
REQUEST_ABOVE_DEFAULT_LIMIT = Rule(
    "RequestAboveDefaultLimit",
    Severity.ERROR,
    "A container without a limit of its own gets the default limit of the LimitRange, and its request is larger than "
    "that. The API server refuses the pods: “must be less than or equal to memory limit”.",
    "Give the container a limit of its own.",
)
CONTAINER_ABOVE_POD = Rule(
    "ContainerAbovePod",
    Severity.ERROR,
    "A pod says what it may have as a whole (`spec.resources`), and its containers have more, perhaps by the defaults "
    "of the LimitRange. The API server refuses it.",
    "Give each container a request and a limit that fit into those of the pod.",
)
CLAIM_TOO_LARGE = Rule(
    "ClaimTooLarge",
    Severity.ERROR,
    "A claim asks for more storage than one claim may have: the maximum of the LimitRange, which platform people set "
    "as `platform.containers.claim_max`.",
    "Ask for less storage.",
)
CLAIM_WITHOUT_STORAGE = Rule(
    "ClaimWithoutStorage",
    Severity.ERROR,
    "A claim does not say how much storage it wants. The API server refuses it.",
    "Set spec.resources.requests.storage.",
)


def containers(given: Given) -> Iterator[Finding]:
    """Containers that the API server refuses for what they ask."""
    limits = limits_of(objects.limit_range(given.desired))
    for pod in given.pods:
        here = _is_here(given, pod.owner)
        for path, container in _containers(pod):
            yield from _container(pod.owner, path, container, limits if here else Limits())


def pods(given: Given) -> Iterator[Finding]:
    """Pods whose own resources are wrong, or are exceeded by those of their containers."""
    limits = limits_of(objects.limit_range(given.desired))
    for pod in given.pods:
        own = mapping(pod.spec.get("resources"))
        if own:
            yield from _invalid(pod.owner, f"{pod.path}.resources", own)
            yield from _pod(pod, limits if _is_here(given, pod.owner) else Limits())


def claims(given: Given) -> Iterator[Finding]:
    """Claims that are too large, or do not say how large they are."""
    most = limits_of(objects.limit_range(given.desired)).claim
    for item in given.items:
        found = [("", item.manifest)] if item.is_a("", "PersistentVolumeClaim") else []
        for path, claim in (*found, *claim_templates(item)):
            where = f"{path}.spec" if path else "spec"
            yield from _claim(item, where, mapping(claim.get("spec")), most if _is_here(given, item) else None)


RULES: tuple[Rule, ...] = (
    QUANTITY_INVALID,
    CONTAINER_TOO_LARGE,
    REQUEST_ABOVE_LIMIT,
    REQUEST_ABOVE_DEFAULT_LIMIT,
    CONTAINER_ABOVE_POD,
    CLAIM_TOO_LARGE,
    CLAIM_WITHOUT_STORAGE,
)
CHECKS = (containers, pods, claims)


def _container(owner: Charted, path: str, container: Manifest, limits: Limits) -> Iterator[Finding]:
    """At most one finding for each resource: what is wrong with it first."""
    given = mapping(container.get("resources"))
    path = f"{path}.resources"
    yield from _invalid(owner, path, given)
    own = {part: mapping(given.get(part)) for part in ("requests", "limits")}
    has = container_resources(container, limits)
    who = f"container {text(container.get('name')) or '(without a name)'}"
    for name in dict.fromkeys((*own["limits"], *own["requests"])):
        if any(name in said and quantity(said[name]) is None for said in own.values()):
            continue
        asked, bound, most = has.requests.get(name), has.limits.get(name), limits.most.get(name)
        part = "limits" if name in own["limits"] else "requests"
        value = quantity(own[part][name])
        if most is not None and any(each is not None and each > most for each in (value, asked)):
            part = part if value is not None and value > most else "requests"
            yield CONTAINER_TOO_LARGE.found(
                owner.subject,
                f"{path}.{part}.{name}",
                f"{who} asks for {own[part][name]} {_word(name)}, and one container may have {shown(name, most)}",
            )
        elif asked is not None and bound is not None and asked > bound:
            field = f"{path}.requests.{name}"
            if name in own["limits"]:
                message = f"{who} requests {own['requests'][name]} {_word(name)} and has a limit of "
                yield REQUEST_ABOVE_LIMIT.found(owner.subject, field, f"{message}{own['limits'][name]}")
            else:
                yield REQUEST_ABOVE_DEFAULT_LIMIT.found(
                    owner.subject,
                    field,
                    f"{who} requests {own['requests'][name]} {_word(name)} and has no limit of its own, so that it "
                    f"gets the default limit of {shown(name, bound)}",
                    f"Set {path}.limits.{name} to {own['requests'][name]} or more.",
                )


def _pod(pod: PodTemplate, limits: Limits) -> Iterator[Finding]:
    path = f"{pod.path}.resources"
    own = {part: mapping(within(pod.spec, "resources").get(part)) for part in ("requests", "limits")}
    bare = {key: value for key, value in pod.spec.items() if key != "resources"}
    together = pod_resources(bare, limits, {})
    bounds = quantities(own["limits"])
    for name in own["requests"]:
        asked, bound = quantity(own["requests"][name]), bounds.get(name)
        if asked is None or not pod_level(name):
            continue
        said = own["requests"][name]
        if bound is not None and asked > bound:
            message = f"the pod requests {said} {_word(name)} and has a limit of {own['limits'][name]}"
            yield REQUEST_ABOVE_LIMIT.found(pod.owner.subject, f"{path}.requests.{name}", message)
        elif together.requests.get(name, asked) > asked:
            sum_ = shown(name, together.requests[name])
            message = f"the pod requests {said} {_word(name)}, and its containers request {sum_} together"
            yield CONTAINER_ABOVE_POD.found(pod.owner.subject, f"{path}.requests.{name}", message)
    for name, bound in bounds.items():
        if pod_level(name):
            yield from _above_pod(pod, name, bound, limits)


def _above_pod(pod: PodTemplate, name: str, bound: Decimal, limits: Limits) -> Iterator[Finding]:
    """Only of the pod's own containers: the API server does not compare those that start it."""
    for path, container in _containers(pod, "containers"):
        has = container_resources(container, limits).limits.get(name)
        if has is not None and has > bound:
            is_own = name in within(container, "resources", "limits")
            which = "a limit" if is_own else "no limit of its own, so that it gets the default limit"
            yield CONTAINER_ABOVE_POD.found(
                pod.owner.subject,
                f"{path}.resources.limits.{name}",
                f"container {text(container.get('name')) or '(without a name)'} has {which} of {shown(name, has)} "
                f"{_word(name)}, and the pod as a whole has {shown(name, bound)}",
            )


def _claim(item: Charted, path: str, spec: Manifest, most: Decimal | None) -> Iterator[Finding]:
    asked = within(spec, "resources", "requests").get("storage")
    value, field = quantity(asked), f"{path}.resources.requests.storage"
    if value is None:
        yield QUANTITY_INVALID.found(item.subject, field, f"{asked!r} is no quantity")
    elif not value:
        message = "the claim does not say how much storage it wants"
        yield CLAIM_WITHOUT_STORAGE.found(item.subject, field, message, f"Set {field}.")
    elif most is not None and value > most:
        message = f"the claim asks for {asked}, and one claim may have {shown('storage', most)}"
        yield CLAIM_TOO_LARGE.found(item.subject, field, message)


def _invalid(owner: Charted, path: str, given: Manifest) -> Iterator[Finding]:
    for part in ("requests", "limits"):
        for name, value in mapping(given.get(part)).items():
            if quantity(value) is None:
                yield QUANTITY_INVALID.found(owner.subject, f"{path}.{part}.{name}", f"{value!r} is no quantity")


def _containers(pod: PodTemplate, *lists: str) -> Iterator[tuple[str, Manifest]]:
    for part in lists or ("initContainers", "containers"):
        given = pod.spec.get(part)
        if isinstance(given, list | tuple):
            for number, container in enumerate(given):
                yield f"{pod.path}.{part}[{number}]", mapping(container)


def _is_here(given: Given, item: Charted) -> bool:
    return item.subject.namespace == given.desired.identity.namespace


def _word(resource: str) -> str:
    return "CPU" if resource == "cpu" else resource
