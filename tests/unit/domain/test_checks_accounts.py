"""A chart makes no ServiceAccount that others use or that something else has made."""

from __future__ import annotations

from typing import Any

import pytest

from envprov.domain.checks.accounts import owns_only_its_own_accounts
from envprov.domain.findings import Severity
from tests.unit.builders import NAMESPACE, SLUG
from tests.unit.facts import facts, given, wanted

SHARING = wanted(sharedServiceAccounts=[{"namespace": NAMESPACE, "name": "own"}])


def account(name: str, namespace: str = "", **annotations: str) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata | {"annotations": annotations}}


def of_release(name: str, namespace: str) -> dict[str, str]:
    return {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace}


@pytest.mark.parametrize(
    ("made", "live", "field", "reason"),
    [
        pytest.param(
            account("app", "shared"),
            None,
            "metadata.namespace",
            "shared/app, which belongs to Namespace shared, where other environments use it too",
            id="in another namespace",
        ),
        pytest.param(
            account("own"),
            None,
            "metadata.name",
            f"{NAMESPACE}/own, which is shared by other environments",
            id="shared by the Project",
        ),
        pytest.param(
            account("app"),
            of_release("shop", "prod"),
            "metadata.name",
            f"{NAMESPACE}/app, which belongs to the Helm release prod/shop",
            id="of another release",
        ),
        pytest.param(
            account("app"),
            of_release(SLUG, "prod"),
            "metadata.name",
            f"{NAMESPACE}/app, which belongs to the Helm release prod/{SLUG}",
            id="of a namesake elsewhere",
        ),
        pytest.param(
            account("app"), {}, "metadata.name", f"{NAMESPACE}/app, which was not made by Helm", id="of nobody"
        ),
    ],
)
def test_an_account_of_others_is_refused_with_the_value_to_set(
    made: dict[str, Any], live: dict[str, str] | None, field: str, reason: str
) -> None:
    name = made["metadata"]["name"]
    owners = {} if live is None else {name: account(name, NAMESPACE, **live)}
    (found,) = owns_only_its_own_accounts(given(made, desired=SHARING, seen=facts(owners=owners)))
    assert (found.reason, found.severity, found.field) == ("AccountTaken", Severity.ERROR, field)
    assert str(found.subject) == f"ServiceAccount {name}"
    assert found.message == f"the chart would own ServiceAccount {reason}"
    assert found.remedy == (
        f"refer to it instead: set serviceAccount.create=false and serviceAccount.name={name} in the values of Project "
        "shop, or whatever values the chart has for that"
    )


@pytest.mark.parametrize(
    ("made", "live"),
    [
        pytest.param(account("app"), None, id="not there yet"),
        pytest.param(account("app"), of_release(SLUG, NAMESPACE), id="of this release"),
        pytest.param(account("app", NAMESPACE), None, id="with its namespace written out"),
        pytest.param(
            account("migrate", **{"helm.sh/hook": "pre-install"}),
            {"helm.sh/hook": "pre-install"},
            id="made by a hook of the chart, on which Helm writes no owner",
        ),
    ],
)
def test_what_is_its_own_a_chart_may_make(made: dict[str, Any], live: dict[str, str] | None) -> None:
    name = made["metadata"]["name"]
    owners = {} if live is None else {name: account(name, NAMESPACE, **live)}
    assert list(owns_only_its_own_accounts(given(made, desired=SHARING, seen=facts(owners=owners)))) == []


def test_every_account_that_is_taken_is_named() -> None:
    found = owns_only_its_own_accounts(given(account("one", "shared"), account("two", "shared"), desired=SHARING))
    assert [each.subject.name for each in found if each.subject] == ["one", "two"]
