"""What ought to be: Project, spec and platform put together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from envprov.domain.desired import Identity, desire, identity_of, name_fault
from envprov.domain.environment import parse_environment
from envprov.domain.errors import InvalidRecord
from envprov.domain.holds import Account
from envprov.domain.lifetime import ExpireAfter, Keep
from tests.unit.builders import (
    COMMIT,
    CONTROL,
    NAMESPACE,
    SLUG,
    UID,
    desired,
    environment,
    environment_manifest,
    platform,
    project,
    reported,
)

XL = {"cpu": "32", "memory": "64Gi", "memoryLimit": "64Gi", "pods": 10}


@pytest.mark.parametrize(
    ("sizes", "rule", "asked", "expected"),
    [
        pytest.param({}, {}, None, "S", id="nobody says -> S"),
        pytest.param({"default": "M"}, {}, None, "M", id="Project says -> its default"),
        pytest.param({}, {"size": "L"}, None, "L", id="rule says -> that, though not allowed"),
        pytest.param({}, {"size": "L"}, "S", "S", id="branch asks for an allowed one -> that, beats the rule"),
        pytest.param({}, {"size": "L"}, "L", "L", id="branch asks for what the rule gives -> that"),
        pytest.param({"allowed": ["S", "M"]}, {}, "M", "M", id="branch asks for an allowed one -> that"),
        pytest.param({"default": "M"}, {}, "M", "M", id="branch asks for the default -> that, though not allowed"),
        pytest.param({"allowed": ["XL"], "custom": {"XL": XL}}, {}, "XL", "XL", id="custom -> that"),
    ],
)
def test_size(sizes: dict[str, Any], rule: dict[str, Any], asked: str | None, expected: str) -> None:
    given = project(sizes=sizes, rules=[{"branches": ["*"]} | rule])
    assert desired(given, size=asked).size_name == expected


def test_a_custom_size_comes_before_one_of_the_settings() -> None:
    found = desired(project(sizes={"custom": {"S": XL}}))
    assert (found.size_name, found.size.cpu) == ("S", "32")
    assert sorted(found.sizes) == ["L", "M", "S"]


@pytest.mark.parametrize(
    ("sizes", "asked", "words"),
    [
        pytest.param({}, "M", "size M is not allowed in Project shop; a branch may choose among S", id="not allowed"),
        pytest.param({"allowed": ["M"]}, "L", "may choose among M, S", id="not allowed, but others are"),
        pytest.param({"default": "XXL"}, None, "size XXL is unknown; there are L, M, S", id="default unknown"),
        pytest.param({"allowed": ["XXL"]}, "XXL", "size XXL is unknown; there are L, M, S", id="allowed, but unknown"),
    ],
)
def test_size_refused(sizes: dict[str, Any], asked: str | None, words: str) -> None:
    with pytest.raises(InvalidRecord, match=words):
        desired(project(sizes=sizes), size=asked)


def test_placeholders() -> None:
    given = project(
        host="{slug}.dev.example.com",
        values={
            "a": "{branch} of {project} at {revision}",
            "b": ["{url}", {"c": "{host}"}],
            "n": 1,
            "t": True,
            "e": None,
        },
        rules=[{"branches": ["*"], "values": {"d": "{{slug}} {unknown} ${HOME} {}"}}],
    )
    found = desired(given, values={"own": "{slug}"})
    host = f"{SLUG}.dev.example.com"
    assert found.host == host
    assert found.url == f"https://{host}"
    assert found.values == (
        {"a": f"feature/x of shop at {COMMIT}", "b": [f"https://{host}", {"c": host}], "n": 1, "t": True, "e": None},
        {"d": f"{{{SLUG}}} {{unknown}} ${{HOME}} {{}}"},
        {"own": SLUG},
        {
            "envprov": {
                "slug": SLUG,
                "branch": "feature/x",
                "project": "shop",
                "revision": COMMIT,
                "host": host,
                "url": f"https://{host}",
            }
        },
    )


def test_a_branch_named_like_a_placeholder_is_not_filled_in_again() -> None:
    given = project(values={"a": "{branch}"}, inject=False)
    record = environment(branch="{revision}/{slug}")
    assert desire(record, given, platform()).values == ({"a": "{revision}/{slug}"}, {}, {})


def test_without_host_there_is_no_url() -> None:
    found = desired(project(values={"a": "{host}|{url}"}, inject=False))
    assert (found.host, found.url) == (None, None)
    assert found.values[0] == {"a": "|"}


@pytest.mark.parametrize(
    ("rule", "own", "expected"),
    [
        pytest.param({}, {}, None, id="nobody says -> none"),
        pytest.param(
            {"lifetime": {"kind": "expire-after", "idle": "P7D"}},
            {},
            ExpireAfter(kind="expire-after", idle=timedelta(days=7)),
            id="rule says -> that",
        ),
        pytest.param(
            {"lifetime": {"kind": "expire-after", "idle": "P7D"}},
            {"lifetime": {"kind": "keep"}},
            Keep(kind="keep"),
            id="branch says -> that",
        ),
    ],
)
def test_lifetime(rule: dict[str, Any], own: dict[str, Any], expected: object) -> None:
    assert desired(project(rules=[{"branches": ["*"]} | rule]), **own).lifetime == expected


def test_a_branch_that_no_rule_mentions_gets_the_defaults() -> None:
    found = desired(project(rules=[{"branches": ["release/*"], "size": "L"}]))
    assert (found.size_name, found.lifetime) == ("S", None)


def test_two_secrets_of_one_name_are_refused() -> None:
    copies = [{"namespace": "a", "name": "pull"}, {"namespace": "b", "name": "pull"}]
    with pytest.raises(InvalidRecord, match="two Secrets pull, of the Namespaces a and b"):
        desired(project(copySecrets=copies))
    assert len(desired(project(copySecrets=[copies[0], copies[0]])).secrets) == 2


def test_shared_accounts_and_those_that_were_held_are_wanted() -> None:
    shared = [
        {"namespace": "shared", "name": "deployer"},
        {"namespace": "tools", "name": "bot", "policy": "delete-with-last-user"},
    ]
    record = reported(environment(), {"holds": [{"namespace": "old", "name": "reader", "uid": "u-1"}]})
    found = desire(record, project(sharedServiceAccounts=shared), platform())
    assert found.shared == {Account("shared", "deployer"): "keep", Account("tools", "bot"): "delete-with-last-user"}
    assert found.held == (Account("old", "reader"),)
    assert (desired().shared, desired().held) == ({}, ())


def test_an_environment_that_is_made_again_is_another_holder() -> None:
    again = identity_of(environment().model_copy(update={"uid": "22222222-2222-4222-8222-222222222222"}))
    assert again.holder.key != identity_of(environment()).holder.key


def test_identity() -> None:
    identity = identity_of(environment())
    assert identity == Identity(name=SLUG, control_namespace=CONTROL, project="shop", branch="feature/x", uid=UID)
    assert str(identity.holder) == f"Environment {CONTROL}/{SLUG}"
    assert (identity.namespace, identity.owner) == (NAMESPACE, f"{CONTROL}/{SLUG}")


def test_the_platform_is_seen_from_the_namespace_of_the_record() -> None:
    record = environment().model_copy(update={"namespace": "team-a"})
    assert desire(record, project(), platform()).platform.control_namespace == "team-a"


def test_a_record_under_the_name_of_another_branch_is_a_fault() -> None:
    assert name_fault(environment()) is None
    other = environment().model_copy(update={"name": "feature-x-aaaaaaaa"})
    fault = name_fault(other)
    assert fault is not None
    assert "'feature/x'" in fault
    assert f"must be named {SLUG}, not feature-x-aaaaaaaa" in fault


@pytest.mark.parametrize("field", ["lifetime", "pinned", "size", "revision", "project", "branch"])
def test_what_cannot_be_read_is_named_and_not_shown(field: str) -> None:
    manifest = environment_manifest(**{field: {"token": "hunter2"}, "values": {"password": "hunter2"}})
    with pytest.raises(InvalidRecord) as caught:
        parse_environment(manifest)
    assert "hunter2" not in str(caught.value)
    assert f"Environment {SLUG}: {field}" in str(caught.value)
