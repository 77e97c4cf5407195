"""What a chart refers to by name and nobody provides, in its own namespace: pods first, then all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.checks.lookups import not_looked_at
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import numbered, text
from envprov.domain.needs import Kind, Need, pod_needs
from envprov.domain.phases import is_test, passes
from envprov.domain.supply import Maker, Supply

SECRET = Rule(
    "MissingSecret",
    Severity.ERROR,
    "A pod needs a Secret that is neither in the chart, nor copied by the Project, nor in the namespace, nor made by a "
    "controller of something in the chart; or one that Helm makes only later, while it waits for this pod. The pod "
    "never starts, and Helm reports nothing but a timeout. A warning where something in the chart might still make it.",
    "add it to the chart, to `copySecrets` of the Project, or mark the reference `optional: true`",
)
CONFIG_MAP = Rule(
    "MissingConfigMap",
    Severity.ERROR,
    "A pod needs a ConfigMap that is neither in the chart nor in the namespace, or one that Helm makes only later, "
    "while it waits for this pod. The pod never starts. A warning where something in the chart might still make it.",
    "add it to the chart, or mark the reference `optional: true`",
)
KEY = Rule(
    "MissingKey",
    Severity.ERROR,
    "A pod needs a key of a Secret or ConfigMap that is in the chart, without that key. The pod never starts. A "
    "warning where something in the chart might still add it.",
    "correct the key on one side, or mark the reference `optional: true`",
)
PULL_SECRET = Rule(
    "MissingPullSecret",
    Severity.WARNING,
    "A pod, or a ServiceAccount of the chart, names a Secret to pull images with, and nobody provides it. The node "
    "says so by the event `FailedToRetrieveImagePullSecret` and pulls without: public images come all the same, a "
    "private registry refuses (`ImagePullBackOff`).",
    "add it to `copySecrets` of the Project with `imagePull: true`, or leave `imagePullSecrets` out",
)
CLAIM = Rule(
    "MissingClaim",
    Severity.ERROR,
    "A pod mounts a PersistentVolumeClaim that is neither in the chart nor in the namespace. The pod stays Pending.",
    "add the PersistentVolumeClaim to the chart",
)
ACCOUNT = Rule(
    "MissingServiceAccount",
    Severity.ERROR,
    "A pod runs as a ServiceAccount that is neither in the chart nor in the namespace; each branch has a namespace of "
    "its own. The API server refuses such pods, so their Deployment stays without any.",
    "add the ServiceAccount to the chart, or leave `serviceAccountName` out",
)

RULES = (SECRET, CONFIG_MAP, KEY, PULL_SECRET, CLAIM, ACCOUNT)

_RULES = {Kind.SECRET: SECRET, Kind.CONFIG_MAP: CONFIG_MAP, Kind.CLAIM: CLAIM, Kind.ACCOUNT: ACCOUNT}
_PLURALS = {
    Kind.SECRET: "Secrets",
    Kind.CONFIG_MAP: "ConfigMaps",
    Kind.CLAIM: "PersistentVolumeClaims",
    Kind.ACCOUNT: "ServiceAccounts",
}


def missing_references(given: Given) -> Iterator[Finding]:
    """What pods and ServiceAccounts of the chart need and nobody provides."""
    supply = Supply(given)
    for need in needs(given):
        there = supply.there(need.kind)
        makers = supply.timely(need)
        if makers:
            yield from _missing_keys(need, makers, supply)
        elif there is None:
            yield not_looked_at(f"{_PLURALS[need.kind]} of the namespace")
        elif need.name not in there:
            yield _missing(need, supply)


def needs(given: Given) -> Iterator[Need]:
    """All that is needed by name in the environment's own namespace; not by tests, which envprov does not run."""
    home = given.desired.identity.namespace
    for pod in given.pods:
        if pod.owner.subject.namespace == home and not is_test(pod.owner):
            yield from pod_needs(pod)
    for item in given.items:
        if item.is_a("", "ServiceAccount") and item.subject.namespace == home:
            yield from _account_needs(item)


CHECKS = (missing_references,)


def _account_needs(item: Charted) -> Iterator[Need]:
    for place, reference in numbered(item.manifest.get("imagePullSecrets")):
        name = text(reference.get("name"))
        if name:
            yield Need(Kind.SECRET, name, item, f"imagePullSecrets[{place}].name", pulls=True)


def _missing(need: Need, supply: Supply) -> Finding:
    rule = PULL_SECRET if need.pulls else _RULES[need.kind]
    late = supply.makers(need)
    if late:
        return rule.found(
            need.user.subject,
            need.field,
            f"{need.kind} {need.name} is not there when it is needed: {_when(late[0])}",
            _earlier(late[0], need),
        )
    doubt = supply.doubt(need, "create")
    found = rule.found(
        need.user.subject,
        need.field,
        f"nothing provides {need.kind} {need.name}" + (f", {doubt}" if doubt else ""),
    )
    return replace(found, severity=Severity.WARNING) if doubt else found


def _missing_keys(need: Need, makers: tuple[Maker, ...], supply: Supply) -> Iterator[Finding]:
    if any(maker.keys is None for maker in makers):
        return
    have = frozenset().union(*(maker.keys or frozenset() for maker in makers))
    for key, field in need.keys:
        if key in have:
            continue
        doubt = supply.doubt(need, "patch", "update")
        known = ", ".join(sorted(have)) or "none"
        found = KEY.found(
            need.user.subject,
            field,
            f"{need.kind} {need.name} has no key {key}; it has: {known}" + (f", {doubt}" if doubt else ""),
        )
        yield replace(found, severity=Severity.WARNING) if doubt else found


def _when(maker: Maker) -> str:
    if not maker.item.is_hook:
        return f"{maker.item.subject} comes with the release, after this hook"
    if passes(maker.item):
        return f"Helm deletes the hook {maker.item.subject} when it has run"
    return f"{maker.item.subject} is a hook that runs later"


def _earlier(maker: Maker, need: Need) -> str:
    if maker.item.is_hook and passes(maker.item) and not need.user.is_hook:
        return f"leave `hook-succeeded` out of `helm.sh/hook-delete-policy` of {maker.item.subject}"
    return f"make {maker.item.subject} a hook that runs before, with a lower `helm.sh/hook-weight`"
