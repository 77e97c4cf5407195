"""What the checks of a chart are given: the rendered objects, what ought to be, and what the cluster has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from envprov.domain.charted import Charted, PodTemplate, charted, pod_templates
from envprov.domain.desired import Desired
from envprov.domain.findings import Subject

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Blind:
    """
    Why a chart that asks the cluster while it is rendered had to be rendered without an answer.

    Attributes:
        why: What Helm said.
        fails: Whether it will say so again when it deploys.

    """

    why: str
    fails: bool


@dataclass(frozen=True)
class ClusterFacts:
    """
    What the cluster has, as far as a chart can depend on it. Where it could not be read, None: never "there is none".

    Attributes:
        scopes: The kinds that are served, by ``apiVersion`` and kind, and whether each is one of namespaces.
        plurals: How RBAC spells the kinds that are served, by ``apiVersion`` and kind; a kind that is not in it is not
            checked against rights.
        stale: Groups with version whose own server does not answer: their kinds may be missing in *scopes*.
        storage_classes: By name.
        priority_classes: By name.
        ingress_classes: By name.
        runtime_classes: By name.
        secrets: Names in the namespace, with those that envprov copies there; empty before it is made.
        config_maps: Names in the namespace; ``kube-root-ca.crt`` is always among them.
        service_accounts: Names in the namespace; ``default`` is always among them.
        owners: ServiceAccounts of the namespace, by name, with their annotations: of those that the chart makes, too,
            the ones that are there already.
        claims: Names of the PersistentVolumeClaims in the namespace.
        cluster_roles: Rules by name: of those that the chart's RoleBindings refer to, as far as they are there.
        roles: Rules by name: of the Roles in the namespace.
        installer: Rules that the environment's installer has in its namespace.
        hosts: Who has reserved a host that the chart wants: a sentence part such as "branch x of Project shop", by
            host; those of the environment itself are not in it.
        sealed: What the controller of SealedSecrets says about each: whether it can be unsealed in this namespace.
        blind: Why the chart was rendered without the cluster; None if it was not, or if it asks for nothing.
        release_bytes: How large the release's Secret would be.
        history_max: How many such Secrets Helm keeps.
        nodes: How many nodes a DaemonSet would run on.

    """

    scopes: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    plurals: Mapping[tuple[str, str], str] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    storage_classes: Mapping[str, Manifest] | None = None
    priority_classes: Mapping[str, Manifest] | None = None
    ingress_classes: Mapping[str, Manifest] | None = None
    runtime_classes: Mapping[str, Manifest] | None = None
    secrets: frozenset[str] | None = None
    config_maps: frozenset[str] | None = None
    service_accounts: frozenset[str] | None = None
    owners: Mapping[str, Manifest] = field(default_factory=dict)
    claims: frozenset[str] | None = None
    cluster_roles: Mapping[str, tuple[Manifest, ...]] | None = None
    roles: Mapping[str, tuple[Manifest, ...]] | None = None
    installer: tuple[Manifest, ...] | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    sealed: Mapping[Subject, bool] = field(default_factory=dict)
    blind: Blind | None = None
    release_bytes: int | None = None
    history_max: int = 5
    nodes: int | None = None


@dataclass(frozen=True)
class Given:
    """
    Everything that a chart is judged by; gathered once, then looked at by a chain of pure checks.

    Attributes:
        desired: What ought to be: identity, size, platform, the Project's own rules.
        objects: What the chart renders, hooks and CRDs included.
        facts: What the cluster has.

    """

    desired: Desired
    objects: tuple[Manifest, ...]
    facts: ClusterFacts

    @cached_property
    def items(self) -> tuple[Charted, ...]:
        """What the chart renders, object by object."""
        return charted(self.objects, self.desired.identity.namespace, self.facts.scopes)

    @cached_property
    def pods(self) -> tuple[PodTemplate, ...]:
        """The pods that the chart's objects make."""
        return tuple(pod_templates(self.items))

    def made(self, group: str, kind: str) -> frozenset[str]:
        """Names of the objects of a kind that the chart makes in the environment's own namespace."""
        home = self.desired.identity.namespace
        return frozenset(
            item.subject.name for item in self.items if item.is_a(group, kind) and item.subject.namespace == home
        )
