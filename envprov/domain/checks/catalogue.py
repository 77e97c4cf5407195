"""All rules and all checks. A check never raises, whatever the chart renders; all findings are told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from envprov.domain.checking import Given
from envprov.domain.checks import accounts, backends, classes, lookups, references, rights, sealed, server, trust
from envprov.domain.findings import Finding, Rule, downgrade

Check = Callable[[Given], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    *accounts.RULES,
    *backends.RULES,
    *classes.RULES,
    *lookups.RULES,
    *references.RULES,
    *rights.RULES,
    *sealed.RULES,
    *server.RULES,
    *trust.RULES,
)
CHECKS: tuple[Check, ...] = (
    *accounts.CHECKS,
    *backends.CHECKS,
    *classes.CHECKS,
    *references.CHECKS,
    *rights.CHECKS,
    *sealed.CHECKS,
    *trust.CHECKS,
)


def check(given: Given) -> tuple[Finding, ...]:
    """
    Look at a chart from every side.

    Args:
        given: The chart and what it is judged by.

    Returns:
        Everything that was found, worst first, each once; what the Project only warns of is a warning.

    """
    return downgrade((finding for one in CHECKS for finding in one(given)), given.desired.checks.warn_only)
