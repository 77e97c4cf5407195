"""The guard's policies: what they must be made of, and what must never be in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from envprov.domain.holds import VALUE_LIMIT_BYTES
from envprov.domain.policies import (
    CANARY,
    DELETE_GUARD,
    FENCE,
    HOLD_INTEGRITY,
    MARK,
    REAPPLIED,
    RECORD,
    SELF_LIMIT,
    policies,
)
from envprov.kube import tombstones

Manifest = dict[str, Any]

NAMES = [DELETE_GUARD, HOLD_INTEGRITY, FENCE, SELF_LIMIT]
ALL = policies("envprov")
POLICIES = {item["metadata"]["name"]: item for item in ALL if item["kind"] == "ValidatingAdmissionPolicy"}
BINDINGS = {item["metadata"]["name"]: item for item in ALL if item["kind"] == "ValidatingAdmissionPolicyBinding"}
EACH = pytest.mark.parametrize("name", NAMES)
IN_1_30 = {
    "all",
    "allowed",
    "check",
    "exists",
    "filter",
    "find",
    "group",
    "has",
    "indexOf",
    "join",
    "lastIndexOf",
    "map",
    "matches",
    "min",
    "replace",
    "resource",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
}
"""Functions and macros that Kubernetes 1.30 has, as far as they are used."""
FUNCTION = re.compile(r"([A-Za-z]\w*)\(")
TEXT = re.compile(r"""r'[^']*'|'(?:[^'\\]|\\.)*'|r"[^"]*"|"(?:[^"\\]|\\.)*\"""")
VARIABLE = re.compile(r"\bvariables\.(\w+)")


def expressions(name: str) -> Iterator[str]:
    """Every expression of a policy."""
    spec = POLICIES[name]["spec"]
    for part in ("matchConditions", "variables", "validations", "auditAnnotations"):
        for entry in spec.get(part, []):
            yield from (entry[key] for key in ("expression", "messageExpression", "valueExpression") if key in entry)


def written_out(expression: str, variables: Mapping[str, str]) -> str:
    """An expression with its variables, and theirs, in place of their names."""
    while found := VARIABLE.search(expression):
        expression = expression.replace(found[0], f"({variables[found[1]]})")
    return expression


def variables_of(name: str) -> dict[str, str]:
    """Expressions of variables by name."""
    return {entry["name"]: entry["expression"] for entry in POLICIES[name]["spec"]["variables"]}


def test_each_policy_is_followed_by_its_binding() -> None:
    assert [(item["kind"].removeprefix("ValidatingAdmission"), item["metadata"]["name"]) for item in ALL] == [
        pair for name in NAMES for pair in (("Policy", name), ("PolicyBinding", name))
    ]
    assert [item["spec"]["policyName"] for item in BINDINGS.values()] == NAMES


def test_a_limit_on_oneself_is_not_put_back_by_oneself() -> None:
    assert set(REAPPLIED) == set(NAMES) - {SELF_LIMIT}


@EACH
def test_it_refuses_and_fails_closed_for_everything_everywhere(name: str) -> None:
    spec, binding = POLICIES[name]["spec"], BINDINGS[name]["spec"]
    assert spec["failurePolicy"] == "Fail"
    assert "Deny" in binding["validationActions"]
    assert binding.keys() == {"policyName", "validationActions"}
    assert "paramKind" not in spec
    assert spec["matchConstraints"]["namespaceSelector"] == spec["matchConstraints"]["objectSelector"] == {}
    assert "excludeResourceRules" not in spec["matchConstraints"]
    for rule in spec["matchConstraints"]["resourceRules"]:
        assert "resourceNames" not in rule
        assert rule["scope"] == "*"


@EACH
def test_each_refusal_is_a_403_and_bears_the_mark_on_one_line(name: str) -> None:
    for validation in POLICIES[name]["spec"]["validations"]:
        assert validation["reason"] == "Forbidden"
        assert validation["message"].startswith(f"{MARK} ")
        assert "\n" not in validation["message"]
        assert validation.get("messageExpression", f"'{MARK} ").startswith(f"'{MARK} ")


def test_whether_something_is_deleted_is_decided_by_itself_alone() -> None:
    texts = " ".join(expressions(DELETE_GUARD))
    assert not re.search(r"\bobject\b|namespaceObject|params|request\.name\b|request\.object", texts)


@EACH
def test_conditions_see_no_namespace(name: str) -> None:
    # It is empty there: the policy would refuse everything.
    for condition in POLICIES[name]["spec"].get("matchConditions", []):
        assert "namespaceObject" not in condition["expression"]
        assert "variables" not in condition["expression"]


@EACH
def test_neither_messages_nor_audit_annotations_ask_for_rights(name: str) -> None:
    # They cannot: the message would be lost, and with the annotation everything would be refused.
    spec, variables = POLICIES[name]["spec"], variables_of(name)
    texts = [entry["messageExpression"] for entry in spec["validations"] if "messageExpression" in entry]
    texts += [entry["valueExpression"] for entry in spec.get("auditAnnotations", [])]
    assert not [text for text in texts if "authorizer" in written_out(text, variables)]


@EACH
def test_one_expression_asks_for_one_right_at_most(name: str) -> None:
    for validation in POLICIES[name]["spec"]["validations"]:
        assert written_out(validation["expression"], variables_of(name)).count(".check(") <= 1


@EACH
def test_variables_are_there_before_they_are_used_and_all_are_used(name: str) -> None:
    spec, known, used = POLICIES[name]["spec"], set[str](), set[str]()
    for entry in spec["variables"]:
        wanted = set(VARIABLE.findall(entry["expression"]))
        assert wanted <= known, entry["name"]
        known.add(entry["name"])
        used |= wanted
    for part in ("validations", "auditAnnotations"):
        for entry in spec.get(part, []):
            used |= {found for text in entry.values() if isinstance(text, str) for found in VARIABLE.findall(text)}
    assert known == used


@EACH
def test_nothing_is_newer_than_the_oldest_kubernetes_that_is_served(name: str) -> None:
    for expression in expressions(name):
        assert set(FUNCTION.findall(TEXT.sub("''", expression))) <= IN_1_30, expression


def test_guard_metadata_is_kept_on_every_way_in() -> None:
    rules = POLICIES[HOLD_INTEGRITY]["spec"]["matchConstraints"]["resourceRules"]
    ways = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["operations"]}
    assert ways == {
        ("serviceaccounts", "CREATE"),
        ("serviceaccounts", "UPDATE"),
        ("namespaces", "CREATE"),
        ("namespaces", "UPDATE"),
        ("namespaces/status", "UPDATE"),
        ("namespaces/finalize", "UPDATE"),
    }


def test_the_limited_account_is_the_one_that_is_given_in_any_namespace() -> None:
    *others, policy, binding = policies("robot")
    assert others == list(ALL[:-2])
    assert binding == ALL[-1]
    (condition,) = policy["spec"]["matchConditions"]
    assert condition["expression"].endswith("matches('^system:serviceaccount:[^:]+:robot$')")
    assert all("ServiceAccounts named robot " in entry["message"] for entry in policy["spec"]["validations"])
    assert f"'{CANARY}'" in policy["spec"]["validations"][1]["expression"]


def test_records_are_labelled_as_the_controller_labels_them() -> None:
    assert tombstones.SELECTOR.partition("=")[0] == RECORD


def test_the_longest_hold_of_ours_is_read() -> None:
    (limit,) = {int(found) for text in expressions(DELETE_GUARD) for found in re.findall(r"\]\) <= (\d+)", text)}
    assert limit > VALUE_LIMIT_BYTES
