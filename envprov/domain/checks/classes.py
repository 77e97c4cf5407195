"""Classes that a chart names and the cluster does not have: of storage, priority, ingress and runtime."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.checks.lookups import not_looked_at
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import text, within
from envprov.domain.needs import claim_templates, ephemeral_claims

Manifest = Mapping[str, Any]

STORAGE = Rule(
    "NoStorageClass",
    Severity.ERROR,
    "A claim names a StorageClass that the cluster does not have. Nobody makes a volume for it, so the claim stays "
    "Pending, and with it every pod that mounts it.",
    "name a StorageClass of this cluster, or leave `storageClassName` out for the default one",
)
DEFAULT_STORAGE = Rule(
    "NoDefaultStorageClass",
    Severity.WARNING,
    "A claim names no StorageClass, and the cluster has no default one. It stays Pending until somebody makes a "
    "fitting volume by hand.",
    "name a StorageClass of this cluster in `storageClassName`",
)
PRIORITY = Rule(
    "NoPriorityClass",
    Severity.ERROR,
    "A pod names a PriorityClass that the cluster does not have. The API server refuses such pods, so their Deployment "
    "stays without any.",
    "name a PriorityClass of this cluster, or leave `priorityClassName` out",
)
RUNTIME = Rule(
    "NoRuntimeClass",
    Severity.ERROR,
    "A pod names a RuntimeClass that the cluster does not have. The API server refuses such pods, so their Deployment "
    "stays without any.",
    "name a RuntimeClass of this cluster, or leave `runtimeClassName` out",
)
INGRESS = Rule(
    "NoIngressClass",
    Severity.ERROR,
    "An Ingress names an IngressClass that the cluster does not have. No controller serves it, and its host leads "
    "nowhere. In the old annotation `kubernetes.io/ingress.class` it is only a warning, for some controllers know "
    "names of their own there.",
    "name an IngressClass of this cluster in `ingressClassName`",
)
OLD_INGRESS = Rule(
    "NoIngressClassAnnotated",
    Severity.WARNING,
    "An Ingress names a class in the old annotation `kubernetes.io/ingress.class`, and the cluster has no IngressClass "
    "of that name. Some controllers know names of their own there; if none does, the host leads nowhere.",
    "name an IngressClass of this cluster in `ingressClassName`",
)

RULES = (STORAGE, DEFAULT_STORAGE, PRIORITY, RUNTIME, INGRESS, OLD_INGRESS)

_OLD_STORAGE = "volume.beta.kubernetes.io/storage-class"
_OLD_INGRESS = "kubernetes.io/ingress.class"
_DEFAULT_MARKS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def storage_classes(given: Given) -> Iterator[Finding]:
    """Claims whose StorageClass is not there; those of StatefulSets and of single pods too."""
    known, own = given.facts.storage_classes, _made_by_chart(given, "storage.k8s.io", "StorageClass")
    for item, path, claim in claims(given):
        spec, annotations = within(claim, "spec"), within(claim, "metadata", "annotations")
        old = text(annotations.get(_OLD_STORAGE))
        # With a volume of its own, or an empty class, it waits for no provisioner.
        if text(spec.get("volumeName")) or (spec.get("storageClassName") == "" and not old):
            continue
        if known is None:
            yield not_looked_at("StorageClasses of the cluster")
            continue
        name = old or text(spec.get("storageClassName"))
        if not name:
            if not any(is_default(one) for one in (*known.values(), *own.values())):
                yield DEFAULT_STORAGE.found(
                    item.subject,
                    _joined(path, "spec.storageClassName"),
                    "names no StorageClass, and the cluster has no default one",
                    f"name one of {_names(known)}" if known else "",
                )
        elif name not in known and name not in own:
            field = f"metadata.annotations[{_OLD_STORAGE}]" if old else "spec.storageClassName"
            yield _absent(STORAGE, item, _joined(path, field), "StorageClass", name, known)


def priority_classes(given: Given) -> Iterator[Finding]:
    """Pods whose PriorityClass is not there."""
    yield from _of_pods(
        given, "priorityClassName", PRIORITY, ("scheduling.k8s.io", "PriorityClass"), given.facts.priority_classes
    )


def runtime_classes(given: Given) -> Iterator[Finding]:
    """Pods whose RuntimeClass is not there."""
    yield from _of_pods(
        given, "runtimeClassName", RUNTIME, ("node.k8s.io", "RuntimeClass"), given.facts.runtime_classes
    )


def ingress_classes(given: Given) -> Iterator[Finding]:
    """Ingresses whose class is not there."""
    known, own = given.facts.ingress_classes, _made_by_chart(given, "networking.k8s.io", "IngressClass")
    for item in given.items:
        if item.kind != "Ingress" or item.group not in {"networking.k8s.io", "extensions"}:
            continue
        name = text(within(item.manifest, "spec").get("ingressClassName"))
        old = text(within(item.manifest, "metadata", "annotations").get(_OLD_INGRESS))
        if not (name or old):
            continue
        if known is None:
            yield not_looked_at("IngressClasses of the cluster")
            continue
        if name and name not in known and name not in own:
            yield _absent(INGRESS, item, "spec.ingressClassName", "IngressClass", name, known)
        elif not name and old not in known and old not in own:
            yield _absent(OLD_INGRESS, item, f"metadata.annotations[{_OLD_INGRESS}]", "IngressClass", old, known)


def claims(given: Given) -> Iterator[tuple[Charted, str, Manifest]]:
    """
    Every claim for a volume that comes of the chart.

    Returns:
        The object of the chart, the path of the claim in it, and the claim.

    """
    for item in given.items:
        if item.is_a("", "PersistentVolumeClaim"):
            yield item, "", item.manifest
        for path, template in claim_templates(item):
            yield item, path, template
    for pod in given.pods:
        for path, template in ephemeral_claims(pod):
            yield pod.owner, path, template


def is_default(storage_class: object) -> bool:
    """Whether a StorageClass is one that claims without any get."""
    annotations = within(storage_class, "metadata", "annotations")
    return any(annotations.get(mark) == "true" for mark in _DEFAULT_MARKS)


CHECKS = (storage_classes, priority_classes, runtime_classes, ingress_classes)


def _of_pods(
    given: Given, key: str, rule: Rule, kind: tuple[str, str], known: Mapping[str, Manifest] | None
) -> Iterator[Finding]:
    own = _made_by_chart(given, *kind)
    for pod in given.pods:
        name = text(pod.spec.get(key))
        if not name:
            continue
        if known is None:
            plural = f"{kind[1]}es"
            yield not_looked_at(f"{plural} of the cluster")
        elif name not in known and name not in own:
            yield _absent(rule, pod.owner, f"{pod.path}.{key}", kind[1], name, known)


def _absent(  # noqa: PLR0913, PLR0917 - who names what, and where
    rule: Rule, item: Charted, field: str, kind: str, name: str, known: Collection[str]
) -> Finding:
    remedy = f"name one of {_names(known)}" if known else ""
    return rule.found(item.subject, field, f"{kind} {name} is not in the cluster", remedy)


def _made_by_chart(given: Given, group: str, kind: str) -> Mapping[str, Manifest]:
    """Classes are in no namespace; whether a chart may have them is for others to say."""
    return {item.subject.name: item.manifest for item in given.items if item.is_a(group, kind)}


def _names(known: Collection[str]) -> str:
    return ", ".join(sorted(known))


def _joined(path: str, field: str) -> str:
    return f"{path}.{field}" if path else field
