"""What a plan shows: what would become of a branch, before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.changes import Changes
from envprov.domain.cost import Cost
from envprov.domain.desired import Desired
from envprov.domain.findings import Finding, refusing
from envprov.domain.holds import Account
from envprov.domain.need import Needs, quantities_of


@dataclass(frozen=True)
class Outlook:
    """
    What would become of a branch.

    Attributes:
        desired: What ought to be.
        is_new: Whether the environment is not there yet.
        findings: What is wrong with the chart, worst first; of what could not be looked at, notes.
        changes: What would be added, changed and removed.
        needs: What the chart needs of the namespace.
        holds: ServiceAccounts elsewhere that the environment would keep from being deleted.
        cost: What it would cost, if the settings have prices.
        waits: What it would wait for, if there is no room; empty if it would not.

    """

    desired: Desired
    is_new: bool
    findings: tuple[Finding, ...]
    changes: Changes
    needs: Needs
    holds: tuple[Account, ...]
    cost: Cost | None
    waits: str

    @property
    def verdict(self) -> str:
        """One word: Refused, Queued, Unchanged or Deployed."""
        if refusing(self.findings):
            return "Refused"
        if self.waits:
            return "Queued"
        return "Deployed" if self.is_new or self.changes else "Unchanged"

    @property
    def requests(self) -> dict[str, tuple[str, str]]:
        """What is needed and what the size has, for each resource that the quota counts and the chart needs."""
        hard = self.desired.size.hard()
        needed = quantities_of(self.needs.steady.total)
        return {name: (value, hard[name]) for name, value in needed.items() if name in hard and value != "0"}

    def as_json(self) -> dict[str, Any]:
        """Everything as a program reads it."""
        desired = self.desired
        lifetime = desired.lifetime
        return {
            "project": desired.identity.project,
            "branch": desired.identity.branch,
            "environment": desired.identity.name,
            "namespace": desired.identity.namespace,
            "new": self.is_new,
            "verdict": self.verdict,
            "url": desired.url,
            "size": desired.size_name,
            "lifetime": lifetime.model_dump(mode="json", by_alias=True, exclude_none=True) if lifetime else None,
            "requests": {name: {"needs": needs, "has": has} for name, (needs, has) in self.requests.items()},
            "cost": cost_json(self.cost) if self.cost else None,
            "holds": [str(account) for account in self.holds],
            "waits": self.waits or None,
            "findings": [finding_json(finding) for finding in self.findings],
            "changes": self.changes.as_json(),
        }


def finding_json(finding: Finding) -> Mapping[str, Any]:
    """A finding as a program reads it."""
    subject = finding.subject
    return {
        "reason": finding.reason,
        "severity": str(finding.severity),
        "object": {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
        }
        if subject
        else None,
        "field": finding.field,
        "message": finding.message,
        "remedy": finding.remedy,
    }


def cost_json(cost: Cost) -> Mapping[str, Any]:
    """What an hour costs, as a program reads it: decimal numbers as texts."""
    parts = {"cpu": cost.cpu, "memory": cost.memory, "storage": cost.storage, "perHour": cost.per_hour}
    return {name: f"{value:f}" for name, value in parts.items()} | {"currency": cost.currency}
