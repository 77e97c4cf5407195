"""Which permissions are needed, as data: for the command line here, for the controller in its own RBAC manifests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from envprov.cli.manifests import Manifest, manifests
from envprov.domain.leases import CONTROLLER_LEASE

CONTROLLER = "envprov-controller"
"""Name of the controller's ClusterRole and of its Role in the control namespace."""


@dataclass(frozen=True)
class Permission:
    """
    One verb on one resource.

    Attributes:
        verb: As in RBAC.
        group: API group; the core group is the empty string.
        resource: Plural, with its subresource: ``environments/status``.
        namespace: None for all namespaces, or for none.
        name: None for every name.

    """

    verb: str
    group: str
    resource: str
    namespace: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        of = f"{self.resource}.{self.group}" if self.group else self.resource
        named = f"{of} {self.name}" if self.name else of
        return f"{self.verb} {named}" + (f" in namespace {self.namespace}" if self.namespace else "")


def for_people(namespace: str) -> tuple[Permission, ...]:
    """
    What somebody needs who uses ``up``, ``down``, ``list`` and ``status``.

    Args:
        namespace: The control namespace.

    """
    group = "envprov.io"
    return (
        *(
            Permission(verb, group, "environments", namespace)
            for verb in ("get", "list", "watch", "create", "patch", "delete")
        ),
        *(Permission(verb, group, "projects", namespace) for verb in ("get", "list")),
        Permission("get", "coordination.k8s.io", "leases", namespace, CONTROLLER_LEASE),
        # Tombstones, by which a branch that comes back is told from a late delivery.
        Permission("get", "", "configmaps", namespace),
    )


def for_controller(namespace: str) -> tuple[Permission, ...]:
    """
    What the controller needs outside environments; inside them it gives itself what it needs.

    Args:
        namespace: The control namespace.

    """
    roles = [item for item in manifests(namespace=namespace) if item["metadata"]["name"] == CONTROLLER]
    found: list[Permission] = []
    for role in roles:
        if role["kind"] == "ClusterRole":
            found += _permissions(role, None)
        elif role["kind"] == "Role":
            found += _permissions(role, namespace)
    return tuple(found)


def _permissions(role: Manifest, namespace: str | None) -> Iterator[Permission]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for name in rule.get("resourceNames", [None]):
                    for verb in rule["verbs"]:
                        yield Permission(verb, group, resource, namespace, name)
