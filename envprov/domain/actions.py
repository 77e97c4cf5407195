"""What one pass may do, each a frozen value named by verb and kind; `cluster.py` has the one match on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from envprov.domain.desired import Desired, Identity
from envprov.domain.guard import Policy
from envprov.domain.holds import Account
from envprov.domain.hosts import Reservation
from envprov.domain.ledger import Entry


@dataclass(frozen=True)
class ApplyObject:
    """Server-side apply of one base object."""

    manifest: Mapping[str, Any]

    def __str__(self) -> str:
        return f"apply {self.manifest['kind']} {self.manifest['metadata']['name']}"


@dataclass(frozen=True)
class DeleteObject:
    """Deletion of one object, and of no other that bears its name later."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"delete {self.kind} {self.name}"


@dataclass(frozen=True)
class QuietObject:
    """A workload is told to have no pods: zero replicas, or suspended."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"quiet {self.kind} {self.name}"


class Rest(StrEnum):
    """Which way a workload goes."""

    SLEEP = "put to sleep"
    WAKE = "wake"


@dataclass(frozen=True)
class RestWorkload:
    """One patch of a workload as it was read: scales it to nothing and remembers what it was, or takes both back."""

    rest: Rest
    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str
    resource_version: str
    patch: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.rest} {self.kind} {self.name}"


@dataclass(frozen=True)
class DeleteCustom:
    """Deletion of an object of any kind, as the environment's installer."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"delete {self.kind} {self.name}"


@dataclass(frozen=True)
class HoldAccount:
    """A hold of the environment on a ServiceAccount of another namespace; with a policy it is adopted as shared."""

    identity: Identity
    account: Account
    policy: Policy | None
    why: str

    def __str__(self) -> str:
        return f"hold ServiceAccount {self.account}"


@dataclass(frozen=True)
class ReleaseAccount:
    """The end of the environment's hold on a ServiceAccount of another namespace."""

    identity: Identity
    account: Account

    def __str__(self) -> str:
        return f"release ServiceAccount {self.account}"


@dataclass(frozen=True)
class ReserveHosts:
    """Reservations of all of these hosts, or of none."""

    identity: Identity
    hosts: tuple[str, ...]

    def __str__(self) -> str:
        return f"reserve {', '.join(self.hosts)}"


@dataclass(frozen=True)
class MarkHost:
    """A reservation says with which digest of chart and values it is needed no more; empty for never."""

    reservation: Reservation
    dropped_by: str

    def __str__(self) -> str:
        return f"{'drop' if self.dropped_by else 'keep'} host {self.reservation.host}"


@dataclass(frozen=True)
class ReleaseHost:
    """The end of one reservation, and of no other that has its name later."""

    reservation: Reservation

    def __str__(self) -> str:
        return f"release host {self.reservation.host}"


@dataclass(frozen=True)
class FenceAccounts:
    """From now on these ServiceAccounts of the namespace get no new pods and no new tokens, and no others."""

    namespace: str
    uid: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"fence {len(self.names)} ServiceAccounts"


@dataclass(frozen=True)
class MarkHusk:
    """The namespace says that it is there for others only."""

    namespace: str
    uid: str

    def __str__(self) -> str:
        return f"mark Namespace {self.namespace} as a husk"


@dataclass(frozen=True)
class ClearNamespace:
    """Try every deletion of a ServiceAccount without carrying it out, then let the guard let go of the namespace."""

    namespace: str
    uid: str
    accounts: tuple[tuple[str, str], ...]
    """Name and UID of each ServiceAccount."""

    def __str__(self) -> str:
        return f"release Namespace {self.namespace}"


@dataclass(frozen=True)
class WithholdNamespace:
    """The guard, which had let go of the namespace, does so no more."""

    namespace: str
    uid: str

    def __str__(self) -> str:
        return f"withhold Namespace {self.namespace}"


@dataclass(frozen=True)
class Admit:
    """The environment enters the ledger of the budgets, if there is room for it then; without an entry it leaves it."""

    identity: Identity
    entry: Entry | None
    asks: bool = True
    """Whether there must be room; not for what is there already or becomes smaller."""

    def __str__(self) -> str:
        return f"admit {self.identity.name}" if self.entry else f"take {self.identity.name} out of the budget"


@dataclass(frozen=True)
class DeployRelease:
    """``helm upgrade --install`` as the environment's installer."""

    desired: Desired
    digest: str

    def __str__(self) -> str:
        return f"deploy release {self.desired.identity.name}"


@dataclass(frozen=True)
class RollBackRelease:
    """Back to the last deployed revision, to get out of a pending state."""

    identity: Identity
    to: int

    def __str__(self) -> str:
        return f"roll back release {self.identity.name} to {self.to}"


@dataclass(frozen=True)
class UninstallRelease:
    """``helm uninstall`` as the environment's installer."""

    identity: Identity

    def __str__(self) -> str:
        return f"uninstall release {self.identity.name}"


@dataclass(frozen=True)
class DeleteNamespace:
    """Deletion of the namespace as it was read, and in no other state."""

    name: str
    uid: str
    resource_version: str

    def __str__(self) -> str:
        return f"delete Namespace {self.name}"


GuardAction = (
    DeleteCustom | HoldAccount | ReleaseAccount | FenceAccounts | MarkHusk | ClearNamespace | WithholdNamespace
)
ShareAction = Admit | ReserveHosts | MarkHost | ReleaseHost
Action = (
    GuardAction
    | ShareAction
    | ApplyObject
    | DeleteObject
    | QuietObject
    | RestWorkload
    | DeployRelease
    | RollBackRelease
    | UninstallRelease
    | DeleteNamespace
)
