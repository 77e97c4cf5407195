"""All rules and all checks. A check never raises, whatever the chart renders; all findings are told at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from envprov.domain.checking import Given
from envprov.domain.checks import escapes, isolation, marks, pod_rules, pod_security, scope
from envprov.domain.findings import Finding, Rule, downgrade

Check = Callable[[Given], Iterable[Finding]]

RULES: tuple[Rule, ...] = (
    *scope.RULES,
    *marks.RULES,
    *escapes.RULES,
    *isolation.RULES,
    *pod_rules.RULES,
)
CHECKS: tuple[Check, ...] = (
    *scope.CHECKS,
    *marks.CHECKS,
    *escapes.CHECKS,
    *isolation.CHECKS,
    *pod_security.CHECKS,
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
