"""Which facts of the cluster a chart depends on, so that no others are read."""

from __future__ import annotations

from dataclasses import dataclass

from envprov.domain import rbac
from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.checks.backends import tls_names
from envprov.domain.checks.classes import claims
from envprov.domain.checks.references import needs
from envprov.domain.loose import text, within
from envprov.domain.needs import Kind


@dataclass(frozen=True)
class Wants:
    """
    What is to be read.

    Attributes:
        storage_classes: Whether a claim depends on a class, or on the default one.
        priority_classes: Whether a pod names one.
        runtime_classes: Whether a pod names one.
        ingress_classes: Whether an Ingress names one.
        kinds: Kinds of the namespace whose names matter.
        cluster_roles: Those that RoleBindings refer to and the chart does not have.
        roles: Whether a RoleBinding refers to a Role that the chart does not have.
        sealed: The SealedSecrets.

    """

    storage_classes: bool
    priority_classes: bool
    runtime_classes: bool
    ingress_classes: bool
    kinds: frozenset[Kind]
    cluster_roles: frozenset[str]
    roles: bool
    sealed: tuple[Charted, ...]


def wants(given: Given) -> Wants:
    """
    Look for what a chart depends on.

    Args:
        given: The chart; of the facts only the scopes are looked at.

    """
    home = given.desired.identity.namespace
    kinds = {need.kind for need in needs(given)}
    if any(True for item in given.items for _ in tls_names(item)):
        kinds.add(Kind.SECRET)
    refs = [
        (text(ref.get("kind")), text(ref.get("name")))
        for item in given.items
        if item.is_a(rbac.GROUP, "RoleBinding")
        for ref in (within(item.manifest, "roleRef"),)
    ]
    own = {(item.kind, item.subject.name) for item in given.items if item.group == rbac.GROUP}
    ingresses = [item.manifest for item in given.items if item.kind == "Ingress"]
    return Wants(
        storage_classes=any(True for _ in claims(given)),
        priority_classes=any(text(pod.spec.get("priorityClassName")) for pod in given.pods),
        runtime_classes=any(text(pod.spec.get("runtimeClassName")) for pod in given.pods),
        ingress_classes=any(
            within(manifest, "spec").get("ingressClassName")
            or within(manifest, "metadata", "annotations").get("kubernetes.io/ingress.class")
            for manifest in ingresses
        ),
        kinds=frozenset(kinds),
        cluster_roles=frozenset(name for kind, name in refs if kind == "ClusterRole" and (kind, name) not in own),
        roles=any(kind == "Role" and (kind, name) not in own for kind, name in refs),
        sealed=tuple(
            item for item in given.items if item.is_a("bitnami.com", "SealedSecret") and item.subject.namespace == home
        ),
    )
