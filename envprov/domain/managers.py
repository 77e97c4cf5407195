"""
Who wrote which field of a live object: ``metadata.managedFields``, read within reason.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from envprov.domain.fields import DEPTH_LIMIT, Edit, Field
from envprov.domain.loose import mapping, mappings, moment, text, within
from envprov.domain.paths import MISSING, Key, Member, Path, Step, find

HELM = frozenset({"helm"})
"""What writes the release itself."""

_CONTROL_PLANE = frozenset(
    {
        "cloud-controller-manager",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "envprov",
        "envprov-controller",
        "envprov-guard",
    }
)
"""What they add to an object is their bookkeeping; what they change in a release is told."""
_NEVER = datetime.min.replace(tzinfo=UTC)
_NAMES: Mapping[tuple[str, str], str] = {
    ("kubectl", "scale"): "kubectl scale",
    ("kube-controller-manager", "scale"): "a HorizontalPodAutoscaler",
    ("kubectl", ""): "kubectl",
    ("kubectl-client-side-apply", ""): "kubectl apply",
    ("kubectl-last-applied", ""): "kubectl apply",
    ("horizontal-pod-autoscaler", ""): "a HorizontalPodAutoscaler",
    ("helm", ""): "Helm",
    ("helm-controller", ""): "Flux (helm-controller)",
    ("kustomize-controller", ""): "Flux (kustomize-controller)",
    ("argocd-controller", ""): "Argo CD",
    ("argocd-application-controller", ""): "Argo CD",
    ("argocd-server", ""): "Argo CD",
    ("keda", ""): "KEDA",
    ("keda-operator", ""): "KEDA",
    ("cert-manager-cainjector", ""): "cert-manager",
    ("envprov", ""): "envprov",
    ("envprov-controller", ""): "envprov",
    ("envprov-guard", ""): "envprov",
    ("envprov-sleep", ""): "envprov",
    ("before-first-apply", ""): "somebody before the first server-side apply",
    ("k9s", ""): "k9s",
    ("dashboard", ""): "the Kubernetes Dashboard",
    ("Mozilla", ""): "a browser",
    ("node-fetch", ""): "a program in JavaScript, such as Lens",
    ("OpenAPI-Generator", ""): "a program with a Kubernetes client library",
    ("Terraform", ""): "Terraform",
    ("HashiCorp", ""): "Terraform",
    ("pulumi-kubernetes", ""): "Pulumi",
    ("manager", ""): "a controller that does not say its name",
    ("unknown", ""): "somebody without a name",
}
_METADATA = frozenset({"labels", "annotations", "finalizers", "ownerReferences"})
_NOT_THEIRS = ("meta.helm.sh/", "kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/")
_OURS = "envprov.io"


@dataclass(frozen=True)
class Who:
    """
    Who wrote a field.

    Attributes:
        manager: Field manager, as the API server recorded it.
        operation: ``Apply`` or ``Update``.
        subresource: Such as ``scale``; empty for the object itself.
        time: When it last changed which fields it owns; None if that is not recorded.
        recorded: Whether the API server says that this one owns the field. If not, it is only the last one known to
            have written beside it: who takes a field away leaves no record.

    """

    manager: str
    operation: str
    subresource: str
    time: datetime | None
    recorded: bool = True

    @property
    def name(self) -> str:
        """What people call it: ``kubectl edit`` for kubectl-edit."""
        for key in ((self.manager, self.subresource), (self.manager, "")):
            if key == ("kubectl", "") and self.operation == "Apply":
                return "kubectl apply"
            if key in _NAMES:
                return _NAMES[key]
        verb = self.manager.removeprefix("kubectl-")
        return f"kubectl {verb}" if verb != self.manager else self.manager or "somebody without a name"

    @property
    def is_sleep(self) -> bool:
        """Whether envprov wrote it to put the environment to sleep, or to wake it."""
        return self.recorded and self.manager == "envprov-sleep"

    @property
    def is_autoscaler(self) -> bool:
        """Whether a HorizontalPodAutoscaler wrote it."""
        return self.subresource == "scale" and self.manager in {"kube-controller-manager", "horizontal-pod-autoscaler"}


@dataclass(frozen=True)
class _Entry:
    who: Who
    fields: Mapping[str, Any]

    @property
    def is_helm(self) -> bool:
        return self.who.manager in HELM

    @property
    def rank(self) -> tuple[bool, datetime]:
        """A later one first, and anybody before Helm: what Helm owned too, the other one agreed to."""
        return not self.is_helm, self.who.time or _NEVER


class Managers:
    """
    Who wrote what in one object.

    Args:
        live: The object as the API server sent it, with ``metadata.managedFields``.

    """

    def __init__(self, live: Mapping[str, Any]) -> None:
        self._live = live
        self._entries = tuple(
            _Entry(
                Who(
                    manager=text(entry.get("manager")),
                    operation=text(entry.get("operation")),
                    subresource=text(entry.get("subresource")),
                    time=moment(entry.get("time")),
                ),
                mapping(entry.get("fieldsV1")),
            )
            for entry in mappings(within(live, "metadata").get("managedFields"))
            if entry.get("subresource") != "status"
        )

    def of(self, path: Path) -> Who | None:
        """
        Who wrote a field.

        Args:
            path: Where it stands.

        Returns:
            Its owner; where nobody owns it, as after it was taken away, the last one besides Helm that wrote beside
            it, as not recorded; None if there is none either.

        """
        owners = [entry for entry in self._entries if _reach(entry.fields, path) is None]
        if owners:
            return max(owners, key=lambda entry: entry.rank).who
        near = [
            (depth, entry)
            for entry in self._entries
            if not entry.is_helm and (depth := _reach(entry.fields, path) or 0) >= max(1, min(2, len(path) - 1))
        ]
        if not near:
            return None
        who = max(near, key=lambda pair: (pair[0], pair[1].rank))[1].who
        return Who(who.manager, who.operation, who.subresource, who.time, recorded=False)

    def added(self, declared: Mapping[str, Any]) -> Iterator[tuple[Field, Who]]:
        """
        Fields that others added to a release.

        Args:
            declared: The object as the release declares it, in the form of ``fields.plain``.

        Yields:
            Each with who owns it. Not those of Helm and the control plane, nor of ``status``.

        """
        found: dict[Path, tuple[Field, Who]] = {}
        others = [entry for entry in self._entries if not entry.is_helm and entry.who.manager not in _CONTROL_PLANE]
        for entry in sorted(others, key=lambda entry: entry.rank):
            for name, fields in sorted(entry.fields.items()):
                if name in {"f:status", "."}:
                    continue
                for field in _added((), name, mapping(fields), declared, self._live):
                    found[field.path] = field, entry.who
        yield from (
            found[path]
            for path in sorted(found, key=str)
            if _counts(path) and not any(path[:length] in found for length in range(1, len(path)))
        )


def _reach(fields: Mapping[str, Any], path: Path) -> int | None:
    """How many steps of a path an entry goes along; None if it owns what is at its end."""
    for depth, step in enumerate(path):
        inner = _child(fields, step)
        if inner is None:
            return None if depth and not fields else depth  # an empty one owns everything below it
        fields = inner
    return None


def _child(fields: Mapping[str, Any], step: Step) -> Mapping[str, Any] | None:
    if isinstance(step, str):
        found = fields.get(f"f:{step}")
    elif isinstance(step, int):
        found = fields.get(f"i:{step}")
    else:
        found = next(
            (inner for name, inner in fields.items() if name[:2] in {"k:", "v:"} and _step(name) == step), None
        )
    return found if isinstance(found, Mapping) else None


def _step(name: str) -> Step | None:
    """A step of a path as managedFields spell it; None for what is none."""
    kind, rest = name[:2], name[2:]
    if kind == "f:":
        return rest
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if kind == "k:" and isinstance(value, dict) and all(isinstance(item, str | int) for item in value.values()):
        return Key(tuple(sorted(value.items())))
    if kind == "v:" and isinstance(value, str):
        return Member(value)
    return value if kind == "i:" and isinstance(value, int) and value >= 0 else None


def _added(path: Path, name: str, fields: Mapping[str, Any], declared: Any, live: Any) -> Iterator[Field]:  # noqa: ANN401 - any JSON
    step = _step(name)
    if step is None or len(path) > DEPTH_LIMIT:
        return
    within_list = next((part for part in reversed(path) if isinstance(part, str)), "")
    here, there = find(live, step, within_list), find(declared, step, within_list)
    if here is MISSING:
        return
    if there is MISSING and (not fields or "." in fields):
        yield Field((*path, step), Edit.ADDED, MISSING, here)
        return
    for inner, below in sorted(fields.items()):
        if inner != ".":
            yield from _added((*path, step), inner, mapping(below), there, here)


def _counts(path: Path) -> bool:
    """Whether it says something about the object, and is no bookkeeping."""
    names = [step for step in path if isinstance(step, str)]
    if names[:1] != ["metadata"]:
        return True
    if len(names) > 1 and names[1] not in _METADATA:
        return False
    last = names[-1]
    domain = last.partition("/")[0]
    return not last.startswith(_NOT_THEIRS) and domain != _OURS and not domain.endswith(f".{_OURS}")
