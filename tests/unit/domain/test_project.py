"""Projects: which rule decides, and whose deliveries they serve."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from envprov.domain.project import Project, ProjectSpec, Rule
from envprov.kube.records import ProjectReader
from tests.unit.builders import project

RULES = [
    {"branches": ["main", "release/*"], "action": "ignore"},
    {"branches": ["event/[0-9]*"], "size": "M"},
    {"branches": ["event/*", "eve?t"], "size": "L"},
]


@pytest.mark.parametrize(
    ("branch", "wanted", "size"),
    [
        pytest.param("main", False, None, id="named and ignored"),
        pytest.param("release/1.0", False, None, id="glob and ignored"),
        pytest.param("release/1/hotfix", False, None, id="star goes over slashes"),
        pytest.param("event/1", True, "M", id="first match wins"),
        pytest.param("event/x", True, "L", id="second match"),
        pytest.param("event", True, "L", id="question mark is one character"),
        pytest.param("evet", False, None, id="question mark is not none"),
        pytest.param("Main", False, None, id="case matters, and nothing else mentions it"),
        pytest.param("feature/x", False, None, id="no rule -> no environment"),
    ],
)
def test_the_first_rule_that_matches_decides(branch: str, wanted: bool, size: str | None) -> None:  # noqa: FBT001
    given = project(rules=RULES)
    assert given.wants(branch) is wanted
    rule = given.rule_for(branch)
    assert (rule.size if rule else None) == size


def test_without_rules_every_branch_gets_an_environment() -> None:
    assert project().wants("anything/at all")
    assert project().rule_for("x") == Rule(branches=("*",))


@pytest.mark.parametrize(
    ("mine", "theirs", "served"),
    [
        pytest.param("group/shop", (7, "group/shop"), True, id="path"),
        pytest.param("Group/Shop", (7, "group/SHOP"), True, id="path without case"),
        pytest.param("STRASSE/x", (7, "straße/x"), True, id="path without case beyond ASCII"),
        pytest.param(7, (7, "moved/shop"), True, id="id"),
        pytest.param("7", (7, "moved/shop"), True, id="id as text"),
        pytest.param("group/shop", (7, "group/shop2"), False, id="another path"),
        pytest.param(7, (8, "group/shop"), False, id="another id"),
        pytest.param(None, (7, "group/shop"), False, id="no GitLab"),
    ],
)
def test_whose_deliveries_are_served(mine: str | int | None, theirs: tuple[int, str], served: bool) -> None:  # noqa: FBT001
    given = project(gitlab={"project": mine}) if mine is not None else project()
    assert given.serves(*theirs) is served


@pytest.mark.parametrize(
    ("status", "theirs", "served"),
    [
        pytest.param({}, (8, "group/shop"), True, id="no sweep yet"),
        pytest.param({"gitlabId": 7}, (7, "group/shop"), True, id="the one that was seen"),
        pytest.param({"gitlabId": 7}, (8, "group/shop"), False, id="another project has taken its path"),
    ],
)
def test_a_path_is_served_for_the_project_that_had_it(
    status: dict[str, Any],
    theirs: tuple[int, str],
    served: bool,  # noqa: FBT001 - a table
) -> None:
    spec = {"gitlab": {"project": "group/shop"}, "chart": {"local": {"path": "shop"}}}
    manifest = {"metadata": {"name": "shop", "resourceVersion": "1"}, "spec": spec, "status": status}
    (given,) = ProjectReader().readable([manifest])
    assert given.serves(*theirs) is served


@pytest.mark.parametrize(
    ("chart", "shown"),
    [
        ({"git": {}}, "git deploy/chart"),
        ({"git": {"path": "c"}}, "git c"),
        ({"oci": {"ref": "oci://r.example.com/c", "version": "1.2.3"}}, "oci://r.example.com/c:1.2.3"),
        (
            {"repository": {"url": "https://r.example.com", "name": "c", "version": "^1"}},
            "https://r.example.com c:^1",
        ),
        ({"local": {"path": "c"}}, "local c"),
    ],
)
def test_a_chart_source_in_words(chart: dict[str, Any], shown: str) -> None:
    assert str(ProjectSpec.model_validate({"chart": chart}).chart) == shown


def test_secrets_in_values_are_not_in_errors() -> None:
    with pytest.raises(ValidationError) as caught:
        Project.model_validate(
            {"name": "shop", "spec": {"chart": {"git": {}}, "values": {"a": "hunter2"}, "host": "no host: hunter2"}}
        )
    assert "hunter2" not in str(caught.value)
