"""ServiceAccounts that a chart would own although others share them, or something else made them."""

from __future__ import annotations

from collections.abc import Iterator

from envprov.domain.checking import Given
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.holds import Account
from envprov.domain.ownership import is_taken, owner_of

ACCOUNT_TAKEN = Rule(
    "AccountTaken",
    Severity.ERROR,
    "The chart would own a ServiceAccount that other environments use, or that another release or a person made. "
    "Whoever uninstalls the first of the two would take it away from the other.",
    "Let the chart refer to the account instead of making it: most charts have the values "
    "`serviceAccount.create=false` and `serviceAccount.name`.",
)


def owns_only_its_own_accounts(given: Given) -> Iterator[Finding]:
    """A chart makes no ServiceAccount of another namespace, none that is shared, and none that is there already."""
    desired = given.desired
    for item in given.items:
        if not item.is_a("", "ServiceAccount") or not item.subject.name:
            continue
        account = Account(item.subject.namespace, item.subject.name)
        why = _whose(given, account)
        if why:
            yield ACCOUNT_TAKEN.found(
                item.subject,
                "metadata.namespace" if account.namespace != desired.identity.namespace else "metadata.name",
                f"the chart would own ServiceAccount {account}, which {why}",
                f"refer to it instead: set serviceAccount.create=false and serviceAccount.name={account.name} in the "
                f"values of Project {desired.identity.project}, or whatever values the chart has for that",
            )


def _whose(given: Given, account: Account) -> str:
    identity = given.desired.identity
    if account.namespace != identity.namespace:
        return f"belongs to Namespace {account.namespace}, where other environments use it too"
    if account in given.desired.shared:
        return "is shared by other environments"
    live = given.facts.owners.get(account.name)
    if live is None or not is_taken(live, identity.namespace, identity.name):
        return ""
    release = owner_of(live)
    return f"belongs to the Helm release {release[0]}/{release[1]}" if release else "was not made by Helm"


RULES = (ACCOUNT_TAKEN,)
CHECKS = (owns_only_its_own_accounts,)
