"""Which Project is meant."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from envprov.cli.charts import find_chart, project_name
from envprov.cli.projects import Clues, choose, read_clues
from envprov.domain.document import SIZE_LIMIT_BYTES
from envprov.domain.errors import ConfigError


def project(name: str, gitlab: str | int | None = None) -> dict[str, Any]:
    """Return a Project, which serves a path or number in GitLab, or nothing there."""
    spec: dict[str, Any] = {"chart": {"git": {}}}
    return {"metadata": {"name": name}, "spec": spec | ({"gitlab": {"project": gitlab}} if gitlab else {})}


SHOP, GAME, NUMBER, LOCAL = (
    project("shop", "Group/Shop"),
    project("game", "group/game"),
    project("number", 42),
    project("local"),
)


@pytest.mark.parametrize(
    ("projects", "remote", "name"),
    [
        pytest.param([SHOP, GAME], "group/shop", "shop", id="the remote decides, without case"),
        pytest.param([SHOP], None, "shop", id="no remote, one Project -> that one"),
        pytest.param([NUMBER], "group/shop", "number", id="a remote, and the only Project says a number"),
        pytest.param([LOCAL], "group/shop", "local", id="a remote, and the only Project is for no GitLab"),
        pytest.param([SHOP, NUMBER], "group/shop", "shop", id="a path beats a number"),
    ],
)
def test_a_project_is_found(projects: list[dict[str, Any]], remote: str | None, name: str) -> None:
    assert choose(projects, Clues(remote=remote), namespace="envprov-system") == name


@pytest.mark.parametrize(
    ("projects", "remote", "said"),
    [
        pytest.param([], None, "namespace envprov-system has no Projects", id="no Projects"),
        pytest.param([SHOP, GAME], None, "has the Projects game (group/game), shop (Group/Shop)", id="no remote, two"),
        pytest.param(
            [GAME], "group/shop", "the Git remote group/shop belongs to none", id="the only one serves another"
        ),
        pytest.param(
            [SHOP, project("again", "group/shop")],
            "group/shop",
            "the Git remote group/shop belongs to several",
            id="two serve the same",
        ),
    ],
)
def test_without_a_project_everything_that_was_tried_is_said(
    projects: list[dict[str, Any]], remote: str | None, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(projects, Clues(remote=remote), namespace="envprov-system")
    message = str(caught.value)
    assert said in message
    assert ".envprov.yaml" in message
    assert "--project" in message


def test_the_nearest_file_names_the_project(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / ".envprov.yaml").write_text("project: outer\n")
    assert read_clues(inner).named == "outer"
    (tmp_path / "a" / ".envprov.yaml").write_text("project: inner\n")
    assert read_clues(inner) == Clues(file=tmp_path / "a" / ".envprov.yaml", named="inner")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("project: [", "line 1", id="no YAML"),
        pytest.param("- shop", "must be a mapping", id="a list"),
        pytest.param("project: Shop/X", "project is no name of a Project", id="no name"),
        pytest.param("project: shop\nsice: S", "line 2: sice", id="an unknown field"),
        pytest.param("project: !!python/object:os.system {}", "line 1", id="a Python object"),
        pytest.param("a: " + "[" * 3000, "more than 20 levels deep", id="too deep"),
        pytest.param("#" * (SIZE_LIMIT_BYTES + 1), "larger than", id="too large"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / ".envprov.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=said) as caught:
        read_clues(tmp_path)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", ["", "size: S\nlifetime: {kind: keep}\n"])
def test_a_file_that_names_no_project_leaves_it_to_those_above_and_to_the_remote(tmp_path: Path, content: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / ".envprov.yaml").write_text(content)
    assert read_clues(inner) == Clues()
    (tmp_path / ".envprov.yaml").write_text("project: outer\n")
    assert read_clues(inner).named == "outer"


def test_without_a_file_the_remote_counts(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    url = "https://gitlab.example.com/group/shop.git"
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", url], check=True)
    assert read_clues(tmp_path) == Clues(remote="group/shop")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("shop", "shop"),
        ("My Shop_2", "my-shop-2"),
        ("Ünïcode", "unicode"),
        ("日本語", "project"),
        ("-", "project"),
        ("x" * 60, "x" * 40),
        ("a" * 39 + "-b", "a" * 39),
    ],
)
def test_a_folder_names_its_project(folder: str, name: str) -> None:
    assert project_name(folder) == name


def test_a_folder_without_a_chart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no Chart\.yaml"):
        find_chart(tmp_path)
    (tmp_path / "Chart.yaml").write_text("name: shop\n")
    assert find_chart(tmp_path) == tmp_path.resolve()
