"""What could not be looked at: never a finding against the chart, and never passed over in silence."""

from __future__ import annotations

from envprov.domain.findings import Finding, Rule, Severity

NOT_LOOKED_AT = Rule(
    "NotLookedAt",
    Severity.NOTE,
    "Something that the chart depends on could not be read from the cluster, or is too large to be looked at. What "
    "refers to it was not checked.",
    "deploy and see, or give envprov the right to read it (docs/rbac.md)",
)

RULES = (NOT_LOOKED_AT,)


def not_looked_at(what: str) -> Finding:
    """
    Say that something could not be looked at; said twice it counts once.

    Args:
        what: In the plural, such as ``StorageClasses of the cluster``.

    """
    return NOT_LOOKED_AT.found(None, "", f"{what} could not be looked at, so references to them are not checked")
