"""What the controller watches, how much of it is kept, and which environment it wakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from envprov.domain.names import environment_of
from envprov.domain.objects import ENVIRONMENT, MANAGED_BY, MANAGER
from envprov.domain.pod_faults import trimmed_status
from envprov.kube import resources
from envprov.kube.resources import Resource

Manifest = dict[str, Any]

BASE_KINDS: tuple[Resource, ...] = (
    resources.LIMIT_RANGES,
    resources.RESOURCE_QUOTAS,
    resources.NETWORK_POLICIES,
    resources.ROLE_BINDINGS,
    resources.SERVICE_ACCOUNTS,
)
"""Kinds of base objects that are watched; Secrets are not, for we may read them inside our namespaces only."""

WORKLOAD_KINDS: tuple[Resource, ...] = (
    resources.DEPLOYMENTS,
    resources.STATEFUL_SETS,
    resources.DAEMON_SETS,
    resources.JOBS,
    resources.PERSISTENT_VOLUME_CLAIMS,
    resources.PODS,
)
"""Kinds whose health counts."""

BY_NAMESPACE = "namespace"
BY_PROJECT = "project"

_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)
_ACCOUNTS = "system:serviceaccount"
_SPEC = ("replicas", "suspend")


def keep_all(manifest: Manifest) -> Manifest | None:
    """Everything but the book-keeping of server-side apply, which is the larger half of many objects."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return {**manifest, "metadata": metadata}


def keep_ours(manifest: Manifest) -> Manifest | None:
    """The same, and nothing of namespaces that cannot be environments."""
    return keep_all(manifest) if environment_of(manifest["metadata"].get("namespace", "")) else None


def keep_health(manifest: Manifest) -> Manifest | None:
    """What tells the health of a workload, and nothing of namespaces that cannot be environments."""
    metadata = manifest["metadata"]
    if not environment_of(metadata.get("namespace", "")):
        return None
    spec, status = manifest.get("spec", {}), manifest.get("status", {})
    kept: Manifest = {
        "metadata": {key: metadata[key] for key in _METADATA if key in metadata},
        "spec": {key: spec[key] for key in _SPEC if key in spec},
        "status": status,
    }
    if "containers" in spec:
        claims = [volume for volume in spec.get("volumes", ()) if "persistentVolumeClaim" in volume]
        kept |= {
            "spec": {"volumes": claims},
            "status": trimmed_status(status),
        }
    return kept


def keep_node(manifest: Manifest) -> Manifest | None:
    """What a node has for pods, and whether it takes them."""
    spec, status = manifest.get("spec", {}), manifest.get("status", {})
    return {
        "metadata": {"name": manifest["metadata"]["name"]},
        "spec": {key: spec[key] for key in ("taints", "unschedulable") if key in spec},
        "status": {"allocatable": status.get("allocatable", {})},
    }


def keep_grant(manifest: Manifest) -> Manifest | None:
    """What a binding grants to ServiceAccounts of other namespaces; nothing of those that do not, and of our own."""
    metadata = manifest["metadata"]
    if metadata.get("labels", {}).get(MANAGED_BY) == MANAGER:
        return None
    home = metadata.get("namespace", "")
    grants = [subject for subject in manifest.get("subjects") or () if subject.get("namespace", "*") != home]
    if not any(str(subject.get("name", "")).startswith(_ACCOUNTS) or "namespace" in subject for subject in grants):
        return None
    return {"metadata": {key: metadata[key] for key in _METADATA if key in metadata}, "subjects": grants}


def namespace_index(manifest: Mapping[str, Any]) -> Iterable[str]:
    """Index of a cache by the namespace of its objects."""
    return (manifest["metadata"].get("namespace", ""),)


def project_index(manifest: Mapping[str, Any]) -> Iterable[str]:
    """Index of Environments by their Project."""
    return (str(manifest.get("spec", {}).get("project", "")),)


def wake_own(add: Callable[[str], None]) -> Callable[[Mapping[str, Any]], None]:
    """A handler that wakes the environment which is the object."""
    return lambda manifest: add(manifest["metadata"]["name"])


def wake_by_namespace(add: Callable[[str], None]) -> Callable[[Mapping[str, Any]], None]:
    """A handler that wakes the environment in whose namespace an object is, or whose namespace it is."""

    def handler(manifest: Mapping[str, Any]) -> None:
        metadata = manifest["metadata"]
        name = environment_of(metadata.get("namespace") or metadata["name"])
        if name is not None:
            add(name)

    return handler


def wake_of_project(
    environments: Callable[[str], Iterable[Mapping[str, Any]]], add: Callable[[str], None]
) -> Callable[[Mapping[str, Any]], None]:
    """A handler that wakes every environment of the Project which is the object."""

    def handler(manifest: Mapping[str, Any]) -> None:
        for environment in environments(manifest["metadata"]["name"]):
            add(environment["metadata"]["name"])

    return handler


def wake_by_label(add: Callable[[str], None]) -> Callable[[Mapping[str, Any]], None]:
    """A handler that wakes the environment which an object names by its label: of a tombstone, the one that is gone."""

    def handler(manifest: Mapping[str, Any]) -> None:
        name = manifest["metadata"].get("labels", {}).get(ENVIRONMENT)
        if name:
            add(name)

    return handler
