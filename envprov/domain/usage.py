"""
The usage graph: who uses which ServiceAccount, and by what evidence.

Nodes are ServiceAccounts; an edge is a claim of a holder. Built from complete listings of the API server, page by page;
what could not be read is part of it, and an incomplete graph releases nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from envprov.domain.holds import Account, Holder

EVERY = "*"
"""
In an account: as its name, all ServiceAccounts of a namespace, as a Group subject has it; as its namespace, the one of
that name in any namespace, as a ClusterRole with resourceNames has it.
"""


class Strength(StrEnum):
    """How much a claim weighs."""

    LIVE = "live"
    """A pod runs as it, or a template or custom resource would start one."""
    LATENT = "latent"
    """It could be used again without anybody asking: a template at 0 replicas, a token Secret."""
    GRANT = "grant"
    """Rights are bound to it, or somebody may act as it."""
    OWNER = "owner"
    """A Helm release has it in its manifest."""
    IDENTITY = "identity"
    """A cloud or Vault trusts its name. Only information: whether it is used cannot be seen from here."""
    PATH = "path"
    """Its deletion would follow from that of another object, by an ownerReference. Only a warning."""

    @property
    def keeps(self) -> bool:
        """Whether such a claim keeps the ServiceAccount."""
        return self not in {Strength.IDENTITY, Strength.PATH}


@dataclass(frozen=True)
class Claim:
    """
    One edge of the graph.

    Attributes:
        account: What is used; its name or its namespace may be ``EVERY``.
        holder: Who uses it: the outermost owner that can be seen, a Deployment rather than its pods.
        strength: How much it weighs.
        how: The evidence, in words: ``spec.template.spec.serviceAccountName``, ``subject of RoleBinding``.
        since: When the holder was made.

    """

    account: Account
    holder: Holder
    strength: Strength
    how: str
    since: datetime | None = None

    @property
    def is_foreign(self) -> bool:
        """
        Whether the holder lives outside the namespace of the account, and would not go with it.

        A claim on a name in any namespace is nobody's in particular: it keeps an account that is shared, and does not
        keep the environment of a branch from going.
        """
        return self.account.namespace not in {self.holder.namespace, EVERY}


@dataclass(frozen=True)
class Usage:
    """
    The graph as one pass of quorum reads found it.

    Attributes:
        claims: By account.
        faults: Required listings that failed, each with what to do. With any, the graph is incomplete.
        notes: What was looked at only in part, by design.

    """

    claims: Mapping[Account, tuple[Claim, ...]] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything that had to be read was read."""
        return not self.faults

    def of(self, account: Account) -> tuple[Claim, ...]:
        """All claims on one account, those on all of its namespace and on its name anywhere among them."""
        wider = (Account(account.namespace, EVERY), Account(EVERY, account.name))
        return tuple(claim for node in (account, *wider) for claim in self.claims.get(node, ()))

    def foreign(self, account: Account) -> tuple[Claim, ...]:
        """Claims that keep an account although its whole namespace goes."""
        return tuple(claim for claim in self.of(account) if claim.is_foreign and claim.strength.keeps)
