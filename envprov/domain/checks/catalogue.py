"""All rules and all checks. A check never raises, whatever the chart renders; all findings are told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from envprov.domain.checking import Given
from envprov.domain.checks import (
    accounts,
    backends,
    classes,
    escapes,
    hosts,
    isolation,
    limits,
    lookups,
    marks,
    pod_rules,
    pod_security,
    references,
    rendering,
    rights,
    room,
    scope,
    sealed,
    server,
    services,
    size,
    trust,
)
from envprov.domain.findings import Finding, Rule, downgrade

Check = Callable[[Given], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    *scope.RULES,
    *marks.RULES,
    *services.RULES,
    *escapes.RULES,
    *hosts.RULES,
    *isolation.RULES,
    *pod_rules.RULES,
    *accounts.RULES,
    *rights.RULES,
    *classes.RULES,
    *references.RULES,
    *backends.RULES,
    *sealed.RULES,
    *trust.RULES,
    *limits.RULES,
    *size.RULES,
    *room.RULES,
    *rendering.RULES,
    *lookups.RULES,
    *server.RULES,
)
CHECKS: tuple[Check, ...] = (
    *scope.CHECKS,
    *marks.CHECKS,
    *services.CHECKS,
    *escapes.CHECKS,
    *hosts.CHECKS,
    *isolation.CHECKS,
    *pod_security.CHECKS,
    *accounts.CHECKS,
    *rights.CHECKS,
    *classes.CHECKS,
    *references.CHECKS,
    *backends.CHECKS,
    *sealed.CHECKS,
    *trust.CHECKS,
    *limits.CHECKS,
    *size.CHECKS,
    *rendering.CHECKS,
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
