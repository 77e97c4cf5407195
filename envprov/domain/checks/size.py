"""Whether a chart fits into the size of its environment, now and at its worst, and into Helm's own storage."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from decimal import Decimal

from envprov.domain.charges import Use
from envprov.domain.checking import Given
from envprov.domain.desired import Desired
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.need import Need, needs_of, quantities_of, shown
from envprov.domain.pod_resources import Amounts
from envprov.domain.quantity import amount
from envprov.domain.sizes import smallest_that_fits

RELEASE_LIMIT_BYTES = 1 << 20
"""What one Secret may hold."""
RELEASE_WARNING = Decimal("0.8")
"""Share of it from which a warning is given."""
NAMED = 3
"""How many of those who need a resource are named."""

_WORDS = {
    "requests.cpu": "CPU",
    "requests.memory": "memory",
    "limits.memory": "memory limits",
    "requests.ephemeral-storage": "ephemeral storage",
    "requests.storage": "storage",
    "persistentvolumeclaims": "PersistentVolumeClaims",
    "pods": "pods",
    "services.nodeports": "node ports",
    "services.loadbalancers": "load balancers",
    "count/secrets": "Secrets",
    "count/configmaps": "ConfigMaps",
    "count/ingresses.networking.k8s.io": "Ingresses",
    "count/jobs.batch": "Jobs",
}
_AMOUNTS = {"requests.cpu", "requests.memory", "limits.memory", "requests.ephemeral-storage", "requests.storage"}
_COUNTS = _WORDS.keys() - _AMOUNTS
_FOR_ALL = "count/"
_TIMES = "\N{MULTIPLICATION SIGN}"
_SERVICES = {"services.nodeports", "services.loadbalancers"}
"""Judged by what each Service asks for, in ``escapes``."""

SIZE_EXCEEDED = Rule(
    "SizeExceeded",
    Severity.ERROR,
    "The chart needs more than the size of its environment has: the sum over all pods, claims and load balancers, with "
    "the defaults of the LimitRange filled in. The API server would refuse the last of them, and the environment would "
    "never become ready. [Sizes](sizes.md) says what is counted how.",
    "Take a larger size, or lower requests, limits or replicas.",
)
PEAK_EXCEEDS_SIZE = Rule(
    "PeakExceedsSize",
    Severity.WARNING,
    "The chart fits while nothing happens. A rolling update, an autoscaler at its maximum, a run of a CronJob or a "
    "hook needs more than is left: it waits, perhaps for ever.",
    "Take a larger size, or lower maxSurge, maxReplicas or requests.",
)
TOO_MANY_OBJECTS = Rule(
    "TooManyObjects",
    Severity.ERROR,
    "The chart makes more objects of a kind than any environment may have, counted with those that envprov, Helm and "
    "Kubernetes make there. No size has more.",
    "Make fewer of them.",
)
RELEASE_TOO_LARGE = Rule(
    "ReleaseTooLarge",
    Severity.ERROR,
    "Helm stores each revision of a release in a Secret: the chart with all its files, values and manifests, "
    "compressed. A Secret holds 1 MiB.",
    "Leave files out of the chart with .helmignore, or split it.",
)
RELEASE_NEARLY_TOO_LARGE = Rule(
    "ReleaseNearlyTooLarge",
    Severity.WARNING,
    "Helm stores each revision of a release in a Secret, which holds 1 MiB, and this one comes near.",
    "Leave files out of the chart with .helmignore.",
)


def fits(given: Given) -> Iterator[Finding]:
    """What the chart needs and the size does not have."""
    desired = given.desired
    needed = needs_of(given)
    short = _short(needed.steady.total, desired)
    many = [resource for resource in short if resource.startswith(_FOR_ALL)]
    for resource in many:
        yield TOO_MANY_OBJECTS.found(
            None, "", f"{_needed(needed.steady, resource)}, and an environment may have {desired.size.hard()[resource]}"
        )
    sized = [resource for resource in short if resource not in many and resource not in _SERVICES]
    if sized:
        yield SIZE_EXCEEDED.found(
            None, "", _shortfall(needed.steady, sized, desired), _way_out(needed.steady.total, desired)
        )
    later = [resource for resource in _short(needed.peak.total, desired) if resource not in {*short, *_SERVICES}]
    if later:
        yield PEAK_EXCEEDS_SIZE.found(
            None,
            "",
            f"{_when(needed.peak, later)}: {_shortfall(needed.peak, later, desired)}",
            _way_out(needed.peak.total, desired),
        )


def release_size(given: Given) -> Iterator[Finding]:
    """Whether Helm can store the release."""
    size = given.facts.release_bytes
    if size is None:
        return
    message = f"the release takes {_kib(size)} of the {_kib(RELEASE_LIMIT_BYTES)} KiB that a Secret holds"
    if size > RELEASE_LIMIT_BYTES:
        yield RELEASE_TOO_LARGE.found(None, "", message)
    elif size >= RELEASE_WARNING * RELEASE_LIMIT_BYTES:
        yield RELEASE_NEARLY_TOO_LARGE.found(None, "", message)


RULES: tuple[Rule, ...] = (
    SIZE_EXCEEDED,
    PEAK_EXCEEDS_SIZE,
    TOO_MANY_OBJECTS,
    RELEASE_TOO_LARGE,
    RELEASE_NEARLY_TOO_LARGE,
)
CHECKS = (fits, release_size)


def _short(needed: Amounts, desired: Desired) -> tuple[str, ...]:
    """The resources of which the size has too little, in its own order."""
    hard = desired.size.hard()
    return tuple(name for name, most in hard.items() if needed.get(name, Decimal(0)) > amount(most))


def _shortfall(need: Need, resources: list[str], desired: Desired) -> str:
    return "; ".join(f"{_needed(need, resource)}, {_had(resource, desired)}" for resource in resources)


def _needed(need: Need, resource: str) -> str:
    """Such as "needs 2500m CPU (web 3 times 500m, worker 500m)", with a sign for "times"."""
    users = need.users(resource)
    named = [_used(use, resource) for use in users[:NAMED]]
    if len(users) > NAMED:
        rest = sum((use.amounts[resource] for use in users[NAMED:]), Decimal(0))
        named.append(f"{len(users) - NAMED} more {shown(resource, rest)}")
    word, value = _WORDS.get(resource, resource), need.total[resource]
    if value == 1 and resource in _COUNTS:
        word = word.removesuffix("s")
    return f"needs {shown(resource, value)} {word} ({', '.join(named)})"


def _used(use: Use, resource: str) -> str:
    name, each = use.subject.name or use.subject.kind, use.each[resource]
    if each == 1 and resource in _COUNTS:
        return f"{name} {use.copies}"
    return f"{name} {use.copies} {_TIMES} {shown(resource, each)}"


def _had(resource: str, desired: Desired) -> str:
    """Such as "size S has 1; size M has 2, size L has 6"."""
    here = desired.size.hard()[resource]
    larger = {
        name: has
        for name, size in desired.sizes.items()
        if amount(has := size.hard()[resource]) > amount(here) and name != desired.size_name
    }
    others = ", ".join(f"size {name} has {has}" for name, has in sorted(larger.items(), key=lambda one: amount(one[1])))
    lacks = f"size {desired.size_name} has {here}" if amount(here) else f"size {desired.size_name} has none"
    return f"{lacks}; {others}" if others else f"{lacks}, and no size has more than that"


def _way_out(needed: Amounts, desired: Desired) -> str:
    """The smallest size that fits, and who may choose it."""
    # Ports and counts are the same in all sizes, and have findings of their own.
    sized = {name: value for name, value in needed.items() if name not in _SERVICES and not name.startswith(_FOR_ALL)}
    name = smallest_that_fits(quantities_of(sized), desired.sizes)
    if name is None:
        return "Lower requests, limits or replicas: no size fits. Platform people can define a larger one."
    if name == desired.size_name:
        return ""
    if name in desired.choices:
        branch = shlex.quote(desired.identity.branch)
        return f"`envprov up {branch} --size {name}`: {name} is the smallest size that fits."
    return (
        f"Lower requests, limits or replicas. {name} is the smallest size that fits, and Project "
        f"{desired.identity.project} does not let a branch choose it: its sizes.allowed or a rule must name it."
    )


def _when(need: Need, resources: list[str]) -> str:
    names = dict.fromkeys(need.when(resource).name for resource in resources)
    return " and ".join(
        f"during the {name}" if name else "when it is updated, scaled up or runs its CronJobs" for name in names
    )


def _kib(size: int) -> str:
    return str(-(-size // 1024))
