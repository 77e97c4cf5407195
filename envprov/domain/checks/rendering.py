"""Whether a chart got what it asked of the cluster while it was rendered."""

from __future__ import annotations

from collections.abc import Iterator

from envprov.domain.checking import Given
from envprov.domain.findings import Finding, Rule, Severity

LOOKUP_FAILED = Rule(
    "LookupFailed",
    Severity.ERROR,
    "The chart asks the cluster by the template function `lookup` while Helm renders it, as the installer of the "
    "environment, and gets an error instead of an answer: usually the installer may not read what it asks for. Helm "
    "would stop there.",
    "switch this part of the chart off by its values, or let the installer read it by a ClusterRole with the label "
    "`envprov.io/aggregate-to-env-admin`, see docs/rbac.md",
)
NOT_LOOKED_UP = Rule(
    "NotLookedUp",
    Severity.NOTE,
    "The chart asks the cluster by the template function `lookup`, and was rendered as if there was nothing to be "
    "found: passwords that it generates, for example, are shown as changes although they stay.",
    "have somebody plan who may read the environment's objects; the controller looks up as the installer",
)
RULES = (LOOKUP_FAILED, NOT_LOOKED_UP)


def lookups(given: Given) -> Iterator[Finding]:
    """What the chart asked in vain."""
    blind = given.facts.blind
    if blind is None:
        return
    if blind.fails:
        yield LOOKUP_FAILED.found(None, "", f"asks the cluster in vain: {blind.why}")
    else:
        yield NOT_LOOKED_UP.found(None, "", f"was rendered without the cluster: {blind.why}")


CHECKS = (lookups,)
