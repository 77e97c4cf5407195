"""Whether an environment could ever have room in the budgets; whoever only has to wait breaks no rule."""

from __future__ import annotations

from envprov.domain.findings import Rule, Severity

OVER_BUDGET = Rule(
    "OverBudget",
    Severity.ERROR,
    "Alone, the environment needs more than its Project or the cluster may have in all: it would wait for ever. "
    "[Budgets](budget.md) says what counts.",
    "Take a smaller size. Platform people can raise `limits` of the Project, or the budget in the settings.",
)
RULES = (OVER_BUDGET,)
