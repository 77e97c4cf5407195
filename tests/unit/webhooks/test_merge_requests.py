"""What a merge request means for an environment, by the rules of a Project."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from envprov.domain.deliveries import BranchEvent, Questioned, Wanted
from envprov.domain.project import Project
from webhooks.gitlab import Action, MergeRequestEvent
from webhooks.merge_requests import news_of

SHA, BEFORE = "a" * 40, "b" * 40
PREVIEW = {"branches": ["*"], "merge_request": {"labels": ["preview"], "drafts": False}}
ANY = {"branches": ["*"], "merge_request": {}}
FORKS = {"branches": ["merge-requests/*"], "merge_request": {"forks": True, "labels": ["preview"]}}
FORK = "merge-requests/12/head"


def project(*rules: dict[str, Any]) -> Project:
    spec = {"gitlab": {"project": "group/shop"}, "chart": {"local": {"path": "x"}}, "rules": list(rules)}
    return Project.model_validate({"name": "shop", "spec": spec})


def event(action: Action = Action.OPEN, **changes: Any) -> MergeRequestEvent:  # noqa: ANN401 - any field
    opened = MergeRequestEvent(
        project_id=15,
        project_path="group/shop",
        iid=12,
        branch="feature/x",
        is_fork=False,
        action=action,
        ended="",
        is_draft=False,
        labels=frozenset(),
        revision=SHA,
        oldrev="",
    )
    return replace(opened, **changes)


def fork(action: Action = Action.OPEN, **changes: Any) -> MergeRequestEvent:  # noqa: ANN401 - any field
    return event(action, **({"branch": FORK, "is_fork": True, "labels": frozenset({"preview"})} | changes))


def link(before: str, branch: str = "feature/x") -> BranchEvent:
    return BranchEvent(15, "group/shop", branch, before, SHA)


LABELLED = frozenset({"other", "preview"})
UNFIT = Questioned("!12 does not count by the rules")


@pytest.mark.parametrize(
    ("rules", "given", "expected"),
    [
        pytest.param([ANY], event(), Wanted(SHA, only_missing=True), id="opened -> wanted"),
        pytest.param([ANY], event(Action.REOPEN), Wanted(SHA, only_missing=True), id="opened again -> wanted"),
        pytest.param([ANY], event(Action.UPDATE), Wanted(SHA, only_missing=True), id="something changed -> wanted"),
        pytest.param([ANY], event(Action.UPDATE, oldrev=BEFORE), link(BEFORE), id="new commits -> what a push says"),
        pytest.param(
            [ANY], event(revision=""), Wanted("", only_missing=True), id="head unknown -> wanted all the same"
        ),
        pytest.param([ANY], event(Action.CLOSE, ended="closed"), Questioned("!12 is closed"), id="closed -> question"),
        pytest.param([ANY], event(Action.MERGE, ended="merged"), Questioned("!12 is merged"), id="merged -> question"),
        pytest.param(
            [ANY], event(Action.UPDATE, ended="merged"), Questioned("!12 is merged"), id="changed when over -> question"
        ),
        pytest.param([PREVIEW], event(labels=LABELLED), Wanted(SHA, only_missing=True), id="with its label -> wanted"),
        pytest.param([PREVIEW], event(Action.UPDATE), UNFIT, id="label taken away -> question"),
        pytest.param(
            [PREVIEW], event(Action.UPDATE, is_draft=True, labels=LABELLED), UNFIT, id="now a draft -> question"
        ),
        pytest.param([PREVIEW], event(Action.UPDATE, oldrev=BEFORE), UNFIT, id="new commits, no label -> question"),
        pytest.param([{"branches": ["*"]}], event(), None, id="rule without merge requests -> the push has done it"),
        pytest.param(
            [{"branches": ["*"]}], event(Action.CLOSE, ended="closed"), None, id="the same, closed -> the branch stays"
        ),
        pytest.param([{"branches": ["*"], "action": "ignore", "merge_request": {}}], event(), None, id="ignored -> no"),
        pytest.param([{"branches": ["main"]}], event(), None, id="no rule -> no"),
        pytest.param([ANY], fork(), None, id="fork, rule does not say so -> no"),
        pytest.param([ANY], fork(Action.CLOSE, ended="closed"), None, id="fork closed, the same -> no"),
        pytest.param([{"branches": ["*"]}], fork(), None, id="fork, rule without merge requests -> no"),
        pytest.param([FORKS], fork(), link("", FORK), id="fork that may -> its branch is new"),
        pytest.param([FORKS], fork(revision=""), Wanted("", only_missing=True), id="the same, head unknown -> wanted"),
        pytest.param([FORKS], fork(Action.REOPEN), Wanted(SHA), id="fork opened again -> not taken for a late copy"),
        pytest.param([FORKS], fork(Action.UPDATE), Wanted(SHA, only_missing=True), id="fork changed -> wanted"),
        pytest.param([FORKS], fork(Action.UPDATE, oldrev=BEFORE), link(BEFORE, FORK), id="fork pushed to -> link"),
        pytest.param([FORKS], fork(labels=frozenset()), UNFIT, id="fork without its label -> question"),
        pytest.param(
            [FORKS], fork(Action.MERGE, ended="merged"), Questioned("!12 is merged"), id="fork merged -> question"
        ),
        pytest.param([FORKS, ANY], event(), Wanted(SHA, only_missing=True), id="rule for forks -> not for branches"),
        pytest.param([{"branches": ["feature/*"], "merge_request": {"forks": True}}], fork(), None, id="source's name"),
    ],
)
def test_what_a_merge_request_means(rules: list[dict[str, Any]], given: MergeRequestEvent, expected: object) -> None:
    assert news_of(project(*rules), given) == expected
