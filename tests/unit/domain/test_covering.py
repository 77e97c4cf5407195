"""Which rights cover which others, as the API server has it."""

from __future__ import annotations

from typing import Any

import pytest

from envprov.domain.rbac import Right, TooManyRights, allows, binds, missing, read_rules


def rule(verbs: str, resources: str = "", groups: str = "core", names: str = "", urls: str = "") -> dict[str, Any]:
    """Return a rule; the core group is called core here."""
    return {
        "verbs": verbs.split(),
        "resources": resources.split(),
        "apiGroups": ["" if group == "core" else group for group in groups.split()] if resources else [],
        "resourceNames": names.split(),
        "nonResourceURLs": urls.split(),
    }


@pytest.mark.parametrize(
    ("owned", "granted", "left"),
    [
        pytest.param([rule("get", "pods")], [rule("get", "pods")], [], id="the same"),
        pytest.param([], [rule("get", "pods")], ["get pods"], id="nothing"),
        pytest.param([rule("*", "*", "*")], [rule("get", "pods", "apps")], [], id="everything"),
        pytest.param([rule("*", "*", "*")], [rule("*", "*", "*")], [], id="everything of everything"),
        pytest.param([rule("get list", "pods")], [rule("*", "pods")], ["* pods"], id="a star needs a star"),
        pytest.param([rule("get", "pods"), rule("list", "pods")], [rule("get list", "pods")], [], id="put together"),
        pytest.param([rule("get", "pods")], [rule("get", "pods", "core apps")], ["get pods.apps"], id="another group"),
        pytest.param([rule("get", "pods", "*")], [rule("get", "pods", "core apps")], [], id="any group"),
        pytest.param([rule("get", "pods")], [rule("get", "pods/log")], ["get pods/log"], id="a subresource is apart"),
        pytest.param(
            [rule("get", "*/scale", "apps")], [rule("get", "deployments/scale", "apps")], [], id="any's scale"
        ),
        pytest.param(
            [rule("get", "*/scale", "apps")], [rule("get", "deployments", "apps")], ["get deployments.apps"], id="scale"
        ),
        pytest.param([rule("get", "*/scale")], [rule("get", "*/scale")], [], id="any's scale, granted on"),
        pytest.param([rule("get", "*")], [rule("get", "pods/log")], [], id="all resources, with subresources"),
        pytest.param([rule("get", "secrets")], [rule("get", "secrets", names="a")], [], id="all cover one"),
        pytest.param(
            [rule("get", "secrets", names="a b")],
            [rule("get", "secrets", names="a c")],
            ["get secrets c"],
            id="named cover named",
        ),
        pytest.param(
            [rule("get", "secrets", names="a")], [rule("get", "secrets")], ["get secrets"], id="one covers not all"
        ),
        pytest.param([rule("get", urls="/healthz")], [rule("get", urls="/healthz")], [], id="URL"),
        pytest.param([rule("get", urls="/apis/*")], [rule("get", urls="/apis/apps")], [], id="URL by prefix"),
        pytest.param([rule("get", urls="/healthz")], [rule("get", urls="/readyz")], ["get /readyz"], id="another URL"),
        pytest.param([rule("*", "*", "*")], [rule("get", urls="/x")], ["get /x"], id="resources cover no URLs"),
        pytest.param([], [{"verbs": "get", "resources": ["pods"]}, None, 7], [], id="junk grants nothing"),
    ],
)
def test_what_is_granted_without_having_it(owned: list[Any], granted: list[Any], left: list[str]) -> None:
    assert [str(right) for right in missing(read_rules(owned), read_rules(granted))] == left


def test_a_role_may_be_too_large() -> None:
    many = " ".join(str(number) for number in range(101))
    with pytest.raises(TooManyRights):
        missing((), read_rules([rule(many, many)]))
    assert len(missing((), read_rules([rule(many.rpartition(" ")[0], many.rpartition(" ")[0])]))) == 10_000


def test_a_request_is_allowed_as_the_authorizer_does_it() -> None:
    rules = read_rules([rule("get", "secrets", names="a"), rule("create", "pods", "*"), rule("get", "*/log")])
    assert allows(rules, "get", "", "secrets", "a")
    assert not allows(rules, "get", "", "secrets")
    assert allows(rules, "create", "apps", "pods")
    assert allows(rules, "get", "", "pods/log")
    assert not allows(rules, "get", "", "pods")


@pytest.mark.parametrize(
    ("subject", "is_bound"),
    [
        ({"kind": "ServiceAccount", "namespace": "env-a", "name": "installer"}, True),
        ({"kind": "ServiceAccount", "namespace": "env-b", "name": "installer"}, False),
        ({"kind": "ServiceAccount", "namespace": "env-a", "name": "other"}, False),
        ({"kind": "User", "name": "system:serviceaccount:env-a:installer"}, True),
        ({"kind": "Group", "name": "system:serviceaccounts:env-a"}, True),
        ({"kind": "Group", "name": "system:serviceaccounts"}, True),
        ({"kind": "Group", "name": "system:authenticated"}, True),
        ({"kind": "Group", "name": "system:unauthenticated"}, False),
        ({"kind": "User", "name": "system:authenticated"}, False),
        ({}, False),
    ],
)
def test_who_is_bound(subject: dict[str, str], is_bound: bool) -> None:  # noqa: FBT001 - a row
    assert binds({"subjects": [None, subject]}, "env-a", "installer") is is_bound


def test_a_right_reads_like_an_object() -> None:
    assert str(Right("get", "apps", "deployments/scale", "web")) == "get deployments/scale.apps web"
    assert str(Right("get", url="/healthz")) == "get /healthz"
