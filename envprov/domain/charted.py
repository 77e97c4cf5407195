"""What a chart renders, object by object, and the pods that its objects make."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.findings import Subject
from envprov.domain.loose import mapping, text

Manifest = Mapping[str, Any]

HOOK = "helm.sh/hook"

_TEMPLATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}

_BUILT_IN = frozenset(
    {
        "",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "apps",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "extensions",
        "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
        "storagemigration.k8s.io",
    }
)
"""Kubernetes' own API groups."""


@dataclass(frozen=True)
class Charted:
    """
    One object that a chart renders.

    Attributes:
        manifest: The object as it is written; nothing in it can be trusted to be of the right type.
        subject: Which object it is. An object without a namespace of its own goes to the release's.

    """

    manifest: Manifest
    subject: Subject

    @property
    def group(self) -> str:
        """API group; empty for the core group."""
        group, slash, _ = self.subject.api_version.partition("/")
        return group if slash else ""

    @property
    def is_built_in(self) -> bool:
        """Whether its kind is of one of Kubernetes' own API groups."""
        return self.group in _BUILT_IN

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.subject.kind

    @property
    def is_hook(self) -> bool:
        """Whether Helm makes it as a hook, outside the release's own objects."""
        return HOOK in mapping(mapping(self.manifest.get("metadata")).get("annotations"))

    def is_a(self, group: str, kind: str) -> bool:
        """Whether it is of a kind, in any version."""
        return self.kind == kind and self.group == group


@dataclass(frozen=True)
class PodTemplate:
    """
    A pod that an object makes, or is.

    Attributes:
        owner: The object.
        spec: The ``spec`` of the pod; empty if it has none that is an object.
        metadata: The ``metadata`` of the pod.
        path: Path of the pod's spec in the owner: ``spec.template.spec``, or ``spec`` of a Pod.

    """

    owner: Charted
    spec: Manifest
    metadata: Manifest
    path: str


def charted(objects: Iterable[Manifest], namespace: str, scopes: Mapping[tuple[str, str], bool]) -> tuple[Charted, ...]:
    """
    Read what a chart renders.

    Args:
        objects: As Helm rendered them, hooks and CRDs included.
        namespace: Of the release: where an object goes that names none.
        scopes: Whether a kind, by ``apiVersion`` and kind, is one of namespaces; one that is not in it counts as such.

    Returns:
        Objects one by one; the items of a List stand for themselves.

    """
    return tuple(_charted(given, namespace, scopes) for given in flat(objects))


def flat(objects: Iterable[Manifest]) -> Iterator[Manifest]:
    """
    Objects one by one, as Helm installs them: whatever has ``items`` is a list to it, of whatever kind it is.

    A list in a list Helm refuses; it is looked into all the same.

    Source: https://github.com/kubernetes/cli-runtime, pkg/resource/visitor.go, FlattenListVisitor.
    """
    left = deque(objects)
    while left:
        given = left.popleft()
        items = given.get("items")
        if not isinstance(items, list):
            yield given
            continue
        # An item that says nothing about itself is what the list is a list of.
        kind, version = text(given.get("kind")).removesuffix("List"), text(given.get("apiVersion"))
        left.extendleft(
            item if item.get("kind") or item.get("apiVersion") else {**item, "kind": kind, "apiVersion": version}
            for item in reversed(items)
            if isinstance(item, Mapping)
        )


def pod_template(item: Charted) -> PodTemplate | None:
    """The pod that an object of a built-in kind makes or is; None for every other kind."""
    path = _TEMPLATES.get((item.group, item.kind))
    if path is None:
        return None
    template: Manifest = item.manifest
    for key in path:
        template = mapping(template.get(key))
    return PodTemplate(
        item, mapping(template.get("spec")), mapping(template.get("metadata")), ".".join((*path, "spec"))
    )


def pod_templates(items: Iterable[Charted]) -> Iterator[PodTemplate]:
    """The pods of all objects that make some."""
    for item in items:
        template = pod_template(item)
        if template is not None:
            yield template


def _charted(given: Manifest, namespace: str, scopes: Mapping[tuple[str, str], bool]) -> Charted:
    metadata = mapping(given.get("metadata"))
    api_version, kind = text(given.get("apiVersion")), text(given.get("kind"))
    home = (text(metadata.get("namespace")) or namespace) if scopes.get((api_version, kind), True) else ""
    return Charted(given, Subject(api_version, kind, home, text(metadata.get("name"))))
