"""What is there, as closed states and live objects. Gathered once per pass; decided on without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from envprov.domain.errors import TerminalError
from envprov.domain.health import Health, Workloads
from envprov.domain.release import Release

Manifest = Mapping[str, Any]
Key = tuple[str, str]
"""Kind and name."""


class NamespaceState(Enum):
    """Whether the namespace of a branch is there, and whose it is."""

    MISSING = "Missing"
    OURS = "Ours"
    FOREIGN = "Foreign"
    TERMINATING = "Terminating"


@dataclass(frozen=True)
class NamespaceSeen:
    """The namespace as it was seen."""

    state: NamespaceState
    manifest: Manifest = field(default_factory=dict)

    @property
    def uid(self) -> str:
        """UID, empty while there is no namespace."""
        return str(self.manifest.get("metadata", {}).get("uid", ""))

    @property
    def resource_version(self) -> str:
        """resourceVersion, empty while there is no namespace."""
        return str(self.manifest.get("metadata", {}).get("resourceVersion", ""))


@dataclass(frozen=True)
class Observed:
    """Everything that the way up is decided from."""

    namespace: NamespaceSeen
    objects: Mapping[Key, Manifest] = field(default_factory=dict)
    """Live base objects that carry our label, and those of the names that we want."""
    originals: Mapping[Key, Manifest] = field(default_factory=dict)
    """Secrets that are to be copied, by (namespace, name)."""
    ghosts: tuple[str, ...] = ()
    """Objects older than their namespace."""
    release: Release | None = None
    digest: str | None = None
    """Digest of the chart and values that are wanted; None while the chart cannot be had."""
    chart_fault: TerminalError | None = None
    """Why the chart cannot be had."""
    health: Health | None = None


@dataclass(frozen=True)
class Remains:
    """Everything that the way down is decided from; read live, never from a cache."""

    namespace: NamespaceSeen
    objects: Mapping[Key, Manifest] = field(default_factory=dict)
    workloads: Workloads = field(default_factory=Workloads)
    replica_sets: tuple[Manifest, ...] = ()
    replication_controllers: tuple[Manifest, ...] = ()
    cron_jobs: tuple[Manifest, ...] = ()
    balancers: tuple[Manifest, ...] = ()
    """Services of type LoadBalancer."""
    release: Release | None = None
