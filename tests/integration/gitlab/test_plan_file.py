"""What ``envprov plan`` takes for the branch's own file: on disk, at the commit, or as the controller saw it last."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from envprov.cli.plan_file import file_of
from envprov.domain.errors import InvalidBranchFile
from envprov.settings import Settings
from tests.gitlab.driver import GitLabStandIn
from tests.unit.builders import environment, project, reported

SHOP = "group/shop"
PROJECT = project(gitlab={"project": SHOP}, sizes={"allowed": ["S", "M"]}, branchFile={"chart": True})


@dataclass
class Person:
    """
    Somebody who plans.

    Attributes:
        folder: Of theirs.
        settings: What they have set.

    """

    folder: Path
    settings: Settings

    def asks(self, revision: str, *, seen: str = "", size: str = "S", chart: Path | None = None) -> str | None:
        """Return the size that the file asks for; the controller has *seen* one commit before."""
        known = {"branchFile": {"revision": seen, "looked": seen, "size": size}} if seen else {}
        record = reported(environment(revision=revision), known)
        found = asyncio.run(file_of(self.settings, PROJECT, record, chart))
        assert found is None or chart is None or found.chart is None
        return found.size if found else None

    def checkout(self, text: str, repository: str = SHOP) -> Path:
        """Return the chart of a checkout with a file in it."""
        chart = self.folder / repository.replace("/", "-") / "deploy"
        chart.mkdir(parents=True)
        (chart.parent / ".envprov.yaml").write_text(text)
        for command in (("init", "-q"), ("remote", "add", "origin", f"https://gitlab.example.com/{repository}.git")):
            subprocess.run(["git", "-C", str(chart.parent), *command], check=True)
        return chart


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Return somebody whose settings name no GitLab."""
    return Person(tmp_path, Settings())


def test_it_is_read_at_the_commit_that_is_planned(gitlab: GitLabStandIn, person: Person) -> None:
    gitlab.create_project(SHOP)
    first = gitlab.push(SHOP, "feature/x", {".envprov.yaml": "size: S\n"})
    second = gitlab.push(SHOP, "feature/x", {".envprov.yaml": "size: M\n"})
    wrong = gitlab.push(SHOP, "feature/x", {".envprov.yaml": "size: XXL\nvalues: {a: b}\n"})
    token = person.folder / "token"
    token.write_text(gitlab.token)
    person.settings = Settings.model_validate({"gitlab": {"url": gitlab.url, "token_file": str(token)}})
    assert person.asks(second, seen=first) == "M"
    gitlab.forget_requests()
    assert person.asks(first, seen=first) == "S"
    assert gitlab.requests() == []  # a commit does not change
    with pytest.raises(InvalidBranchFile, match=r"line 1: size is unknown .*; line 2: values\.a may not be set"):
        person.asks(wrong, seen=first)


def test_without_gitlab_it_counts_as_it_was_seen_last_and_that_is_said(
    person: Person, capsys: pytest.CaptureFixture[str]
) -> None:
    assert person.asks("b" * 40, seen="a" * 40, size="M") == "M"
    assert ".envprov.yaml of commit bbbbbbbbbbbb was not read" in capsys.readouterr().err
    assert person.asks("b" * 40) is None


def test_beside_a_chart_on_disk_the_file_on_disk_counts(person: Person) -> None:
    chart = person.checkout("size: M\nchart: {path: other}\n")
    assert person.asks("b" * 40, seen="b" * 40, chart=chart) == "M"
    other = person.checkout("size: M\n", "group/other")
    assert person.asks("b" * 40, seen="b" * 40, chart=other) == "S"


def test_known_is_only_what_the_project_still_allows(person: Person) -> None:
    with pytest.raises(InvalidBranchFile, match="size is not allowed"):
        person.asks("a" * 40, seen="a" * 40, size="L")
