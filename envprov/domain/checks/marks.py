"""Names, labels and annotations of a chart's objects: which are not for a chart to set, and which are not valid."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from envprov.domain import objects
from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.environment import BRANCH, GROUP
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.leases import HELM_LEASE
from envprov.domain.loose import mapping, text, texts, within

RESERVED = Rule(
    "ReservedMetadata",
    Severity.ERROR,
    "Labels and annotations of `envprov.io` say what belongs to which environment, and what may be deleted; those of "
    "`pod-security.kubernetes.io` and `meta.helm.sh` likewise decide what is accepted and who owns it. A chart that "
    "sets them would speak for somebody else.",
    "remove it",
)
BASE_OBJECT = Rule(
    "BaseObject",
    Severity.ERROR,
    "The object has the name of one that envprov, Helm or Kubernetes itself makes in every environment. Both would "
    "take turns in changing it, or the chart would lift its own limits.",
    "give it another name",
)
OWN_BUDGET = Rule(
    "OwnBudget",
    Severity.ERROR,
    "What an environment may use is its size. A ResourceQuota or LimitRange of a chart's own would change what the "
    "size means, and its installer may not make any.",
    "leave it out, and choose a size",
)
RESOURCE_POLICY = Rule(
    "ResourcePolicy",
    Severity.ERROR,
    "Helm knows one value of `helm.sh/resource-policy`, `keep`. An object with any other is neither kept on purpose "
    "nor ever deleted by Helm.",
    "remove the annotation helm.sh/resource-policy",
)
KEPT = Rule(
    "KeptObject",
    Severity.WARNING,
    "Helm leaves an object with `helm.sh/resource-policy: keep` behind, when the chart drops it and when it is "
    "uninstalled. In an environment it then goes with the namespace, and what is in it is lost all the same.",
    "remove the annotation for environments, or set it by a value",
)
FINALIZER = Rule(
    "Finalizer",
    Severity.WARNING,
    "An object with a finalizer, and the namespace with it, stays until somebody takes the finalizer off.",
    "leave metadata.finalizers to the controllers that also remove them",
)
DUPLICATE = Rule(
    "DuplicateObject",
    Severity.ERROR,
    "The chart makes the same object twice: the second takes the place of the first, or fails.",
    "remove one of them, or give it another name",
)
NO_NAME = Rule(
    "NoName",
    Severity.ERROR,
    "Helm finds an object again by its name: one without, or with `generateName`, cannot be upgraded or uninstalled.",
    "set metadata.name",
)
INVALID_NAME = Rule(
    "InvalidName",
    Severity.ERROR,
    "Names are lower-case letters, digits, `-` and `.`; some kinds allow fewer characters, since other names are made "
    "from them. The release's name has up to 40 characters, and is part of many names.",
    'shorten or change the name, for example with `trunc 52 | trimSuffix "-"` in the template',
)
RULES: tuple[Rule, ...] = (
    RESERVED,
    BASE_OBJECT,
    OWN_BUDGET,
    RESOURCE_POLICY,
    KEPT,
    FINALIZER,
    DUPLICATE,
    NO_NAME,
    INVALID_NAME,
)

KEEP = "helm.sh/resource-policy"

_RBAC = "rbac.authorization.k8s.io"
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST: Mapping[tuple[str, str], tuple[int, str]] = {
    ("", "Service"): (63, "it is a label of DNS"),
    ("apps", "StatefulSet"): (52, "its pods bear it in a label together with a revision"),
    ("batch", "CronJob"): (52, "its Jobs are named by it and the time"),
    ("batch", "Job"): (63, "its pods bear it in a label"),
}
_FREE = frozenset({"IPAddress", "ClusterTrustBundle", "PodCertificateRequest"})
"""Kinds whose names have rules of their own."""
_TAKEN: Mapping[tuple[str, str], frozenset[str]] = {
    ("", "ConfigMap"): frozenset({"kube-root-ca.crt"}),
    ("", "ServiceAccount"): frozenset({"default"}),
    ("coordination.k8s.io", "Lease"): frozenset({HELM_LEASE}),
}
_BASE_KINDS = frozenset(
    (version.partition("/")[0] if "/" in version else "", kind) for kind, version in objects.API_VERSIONS.items()
)
_BUDGETS = frozenset({("", "ResourceQuota"), ("", "LimitRange")})
_DEEPEST = 12
"""How far below the top metadata is looked for: that of the pods of a CronJob is three levels down."""


def reserved(given: Given) -> Iterator[Finding]:
    """Labels and annotations that are not a chart's to set, wherever in an object they stand."""
    identity = given.desired.identity
    release = {"meta.helm.sh/release-name": identity.name, "meta.helm.sh/release-namespace": identity.namespace}
    for item in given.items:
        for path, metadata in _metadata(item.manifest):
            for kind in ("labels", "annotations"):
                for key, value in mapping(metadata.get(kind)).items():
                    if not _is_reserved(kind, text(key), value):
                        continue
                    is_branch = (kind, key, value) == ("annotations", BRANCH, identity.branch)
                    if release.get(key, not value) == value or (is_branch and item.kind != "ServiceAccount"):
                        continue
                    message = f"sets the {kind.removesuffix('s')} {key}, which is not for charts to set"
                    yield RESERVED.found(item.subject, f"{path}.{kind}[{key}]", message)


def base_objects(given: Given) -> Iterator[Finding]:
    """Objects in the place of those that every environment has, and budgets of the chart's own."""
    copies = {secret.name for secret in given.desired.secrets}
    for item in given.items:
        kind, name = (item.group, item.kind), item.subject.name
        is_secret = kind == ("", "Secret") and (name in copies or name.startswith("sh.helm.release.v1."))
        is_ours = kind in _BASE_KINDS and (name == objects.MANAGER or name.startswith(f"{objects.MANAGER}-"))
        if is_ours or is_secret or name in _TAKEN.get(kind, ()):
            message = f"has the name {name}, which every environment already has a {item.kind} of"
            yield BASE_OBJECT.found(item.subject, "metadata.name", message, _way_out(item))
        elif kind in _BUDGETS:
            yield OWN_BUDGET.found(item.subject, "", "would change what the environment's size allows")


def resource_policies(given: Given) -> Iterator[Finding]:
    """What Helm is told to keep, and what it takes for that."""
    for item in given.items:
        annotations = within(item.manifest, "metadata", "annotations")
        if annotations.get(KEEP) is None:
            continue
        value, field = annotations[KEEP], f"metadata.annotations[{KEEP}]"
        if text(value).strip().lower() == "keep":
            yield KEPT.found(item.subject, field, "stays behind when Helm uninstalls the chart")
        else:
            message = f"sets {KEEP} to {value!r}, which Helm takes neither for keep nor for delete"
            yield RESOURCE_POLICY.found(item.subject, field, message)


def finalizers(given: Given) -> Iterator[Finding]:
    """Objects that are born with a finalizer."""
    for item in given.items:
        if names := texts(within(item.manifest, "metadata").get("finalizers")):
            message = f"cannot be deleted before somebody removes the finalizer {' and '.join(names)}"
            yield FINALIZER.found(item.subject, "metadata.finalizers", message)


def duplicates(given: Given) -> Iterator[Finding]:
    """Objects that the chart makes twice; hooks may well share a name, each is deleted before the next is made."""
    seen: set[tuple[str, str, str, str]] = set()
    for item in given.items:
        subject = item.subject
        key = (item.group, item.kind, subject.namespace, subject.name)
        if not subject.name or item.is_hook:
            continue
        if key in seen:
            yield DUPLICATE.found(subject, "metadata.name", "is in the chart twice")
        seen.add(key)


def names(given: Given) -> Iterator[Finding]:
    """Names that are missing, or that the API server does not take."""
    for item in given.items:
        name, subject, metadata = item.subject.name, item.subject, within(item.manifest, "metadata")
        numbers = [key for key in ("name", "namespace") if not isinstance(metadata.get(key), str | None)]
        for key in numbers:
            message = f"has {metadata[key]!r} as its {key}, which is no text"
            yield INVALID_NAME.found(subject, f"metadata.{key}", message, "put it in quotes, as `| quote` does")
        if "name" in numbers:
            continue
        if not name:
            if generated := text(metadata.get("generateName")):
                message = f"has no name, only the generateName {generated}"
                yield NO_NAME.found(subject, "metadata.generateName", message)
            else:
                yield NO_NAME.found(subject, "metadata.name", "has no name")
            continue
        longest, why = _LONGEST.get((item.group, item.kind), (253, "no name may be longer"))
        if len(name) > longest:
            message = f"has a name of {len(name)} characters; {longest} are allowed, for {why}"
            yield INVALID_NAME.found(subject, "metadata.name", message)
        elif not _is_valid(item, name):
            yield INVALID_NAME.found(subject, "metadata.name", f"has the name {name!r}, which is none for {item.kind}s")


CHECKS = (reserved, base_objects, resource_policies, finalizers, duplicates, names)


def _metadata(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The metadata of an object, and of all templates in it."""
    found: list[tuple[str, int, object]] = [("", 0, manifest)]
    while found:
        path, depth, value = found.pop()
        if isinstance(value, Mapping):
            children = [(f"{path}.{key}" if path else str(key), child) for key, child in value.items()]
            inner = value.get("metadata")
            if isinstance(inner, Mapping):
                yield f"{path}.metadata" if path else "metadata", inner
        elif isinstance(value, list):
            children = [(f"{path}[{number}]", child) for number, child in enumerate(value)]
        else:
            continue
        if depth < _DEEPEST:
            found.extend((name, depth + 1, child) for name, child in reversed(children))


def _is_reserved(kind: str, key: str, value: object) -> bool:
    domain, slash, _ = key.partition("/")
    if not slash:
        return False
    if domain == GROUP or domain.endswith(f".{GROUP}") or domain == "pod-security.kubernetes.io":
        return True
    return domain == "meta.helm.sh" if kind == "annotations" else (key, value) == (objects.MANAGED_BY, objects.MANAGER)


def _is_valid(item: Charted, name: str) -> bool:
    if item.group == _RBAC:
        return name not in (".", "..") and "/" not in name and "%" not in name
    if item.is_a("", "Service") and "." in name:
        return False
    return item.kind in _FREE or _DNS_NAME.fullmatch(name) is not None


def _way_out(item: Charted) -> str:
    if item.is_a("", "ServiceAccount") and item.subject.name == "default":
        return (
            "give the chart a ServiceAccount of its own, or use default without making it (serviceAccount.create=false)"
        )
    if item.is_a("", "Secret"):
        return "leave it out: the Project copies it into every environment, or give it another name"
    return ""
