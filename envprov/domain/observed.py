"""What is there, as closed states and live objects. Gathered once per pass; decided on without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from envprov.domain.admission import Admission, Admitted
from envprov.domain.errors import TerminalError
from envprov.domain.findings import Finding
from envprov.domain.guard import Policy, Verdict
from envprov.domain.health import Health, Workloads
from envprov.domain.holds import Account
from envprov.domain.hosts import HostSeen, Reservation
from envprov.domain.release import Release
from envprov.domain.sleep import Sleepers

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
class AccountSeen:
    """
    A ServiceAccount of another namespace, as it was seen.

    Attributes:
        uid: UID, empty if it is not there.
        is_held: Whether it and its Namespace carry the environment's hold, and neither is being deleted.
        policy: What becomes of it when its last user is gone; None if it is not marked as shared.

    """

    uid: str = ""
    is_held: bool = False
    policy: Policy | None = None


@dataclass(frozen=True)
class Rendered:
    """
    What the guard must know of a rendered chart.

    Attributes:
        owned: ServiceAccounts that the chart makes.
        referred: ServiceAccounts of other namespaces that it refers to.
        hosts: Hosts that it claims, as far as they can be reserved.

    """

    owned: tuple[Account, ...] = ()
    referred: tuple[Account, ...] = ()
    hosts: tuple[str, ...] = ()


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
    """Why the chart cannot be had or does not render."""
    rendered: Rendered = Rendered()
    """The chart as it would be deployed; empty while there is nothing to deploy."""
    findings: tuple[Finding, ...] | None = None
    """What is wrong with the chart as it would be deployed; None while there is nothing to deploy."""
    accounts: Mapping[Account, AccountSeen] = field(default_factory=dict)
    """ServiceAccounts of other namespaces that the environment uses."""
    hosts: Mapping[str, HostSeen] | None = None
    """Hosts that the chart and the Project want; None if nobody knows which, for the chart was not rendered again."""
    reserved: tuple[Reservation, ...] = ()
    """Hosts that the environment has reserved."""
    sleepers: Sleepers | None = None
    """What can be put to sleep and woken; None if nothing in the environment is asleep, or is to be."""
    health: Health | None = None
    admission: Admission = field(default_factory=Admitted)
    """What the budgets say."""


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
    hook_accounts: frozenset[str] = frozenset()
    """ServiceAccounts that the release's hooks before and after its deletion run as."""
    accounts: tuple[Manifest, ...] = ()
    """All ServiceAccounts of the namespace."""
    custom: tuple[Manifest, ...] = ()
    """Custom resources that nothing else in the namespace controls."""
    others: tuple[Manifest, ...] | None = None
    """Everything else that may be deleted here; None if nobody looked, for only a husk needs it."""
    held: tuple[Account, ...] = ()
    """ServiceAccounts elsewhere that still carry the environment's hold; looked for when its namespace is gone."""
    reserved: tuple[Reservation, ...] = ()
    """Hosts that the environment still has reserved; looked for then, too."""


@dataclass(frozen=True)
class GuardSeen:
    """
    What the guard says about taking a namespace down.

    Attributes:
        disarmed: Why the policies are not in force; empty if they are.
        verdict: What may go, by a complete graph.

    """

    disarmed: str
    verdict: Verdict
