"""The webhook of a project: what it must deliver, and whether it does."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envprov.domain.forge import Hook, HookEvent, HookWish, Secret
from envprov.domain.hooks import (
    ALL_BRANCHES,
    BranchFilter,
    HookNeeds,
    HookReason,
    failed_in_a_row,
    find_hook,
    hint_for,
    is_as_wished,
    is_blocked,
    judge,
    lacks_of,
    needs_of,
    version_of,
)
from tests.unit.builders import project

URL = "https://envprov.example.com/webhooks/gitlab"
NEEDS = HookNeeds(merge_requests=False, notes=False, filters=(ALL_BRANCHES,))
EVENT_WILDCARD = BranchFilter("wildcard", "event/*")


def hook(**changes: Any) -> Hook:  # noqa: ANN401 - any field
    """Return a healthy hook."""
    healthy = Hook(
        id=7,
        url=URL,
        push=True,
        merge_requests=False,
        notes=False,
        branch_filter="",
        branch_filter_strategy="all_branches",
        enable_ssl=True,
        alert_status="executable",
        disabled_until=None,
        signing_token_present=True,
        token_present=False,
    )
    return replace(healthy, **changes)


def events(*statuses: str) -> tuple[HookEvent, ...]:
    """Return deliveries, the newest first."""
    return tuple(
        HookEvent(100 - number, "push_hooks", status, f"key-{number}", {}) for number, status in enumerate(statuses)
    )


def rules(*given: str | dict[str, Any]) -> list[dict[str, Any]]:
    """Return rules; a glob alone is one that creates, after a minus one that ignores."""
    found: list[dict[str, Any]] = []
    for one in given:
        if isinstance(one, dict):
            found.append(one)
        elif one.startswith("-"):
            found.append({"branches": [one[1:]], "action": "ignore"})
        else:
            found.append({"branches": [one]})
    return found


# --- What is needed


@pytest.mark.parametrize(
    ("spec", "merge_requests", "notes"),
    [
        pytest.param({"gitlab": {"project": "g/s"}}, False, False, id="nothing special -> pushes alone"),
        pytest.param(
            {"gitlab": {"project": "g/s", "report": {"note": True}}}, False, False, id="the note -> needs no more"
        ),
        pytest.param({"gitlab": {"project": "g/s", "commands": {}}}, False, True, id="commands -> comments"),
        pytest.param(
            {"gitlab": {"project": "g/s"}, "rules": rules({"branches": ["*"], "mergeRequest": {}})},
            True,
            False,
            id="a rule for merge requests -> merge requests",
        ),
        pytest.param({}, False, False, id="no GitLab -> pushes alone"),
    ],
)
def test_events_that_are_needed(spec: dict[str, Any], *, merge_requests: bool, notes: bool) -> None:
    needs = needs_of(project(**spec))
    assert (needs.merge_requests, needs.notes) == (merge_requests, notes)
    assert needs.wish(URL).push


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(["*"], ["all_branches "], id="all -> all"),
        pytest.param(["event/*"], ["wildcard event/*", "regex ^(event/.*)$"], id="one glob -> a wildcard"),
        pytest.param(["main"], ["wildcard main", "regex ^(main)$"], id="one name -> a wildcard without any"),
        pytest.param(["event/*", "fix/*"], ["regex ^(event/.*|fix/.*)$"], id="two globs -> a regular expression"),
        pytest.param(["v1.0+?"], [r"regex ^(v1\.0\+.)$"], id="one character -> a regular expression, quoted"),
        pytest.param(["event/[ab]"], ["all_branches "], id="a set -> all"),
        pytest.param(["event/*", "*"], ["all_branches "], id="all at last -> all"),
        pytest.param(["-main", "*"], ["all_branches "], id="all but one -> all"),
        pytest.param(["-event/old", "event/*"], ["wildcard event/*", "regex ^(event/.*)$"], id="ignored -> too many"),
        pytest.param(["-*"], ["all_branches "], id="nothing -> all"),
        pytest.param([" *"], ["regex ^( .*)$"], id="no name of a branch -> GitLab takes no such wildcard"),
        pytest.param(["e" * 250 + "*"], ["wildcard " + "e" * 250 + "*"], id="long -> as long as GitLab takes it"),
        pytest.param(["e" * 130, "f" * 130], ["all_branches "], id="too long -> all"),
    ],
)
def test_branch_filters(given: list[str], expected: list[str]) -> None:
    found = needs_of(project(rules=rules(*given))).filters
    assert [f"{one.strategy} {one.pattern}" for one in found] == expected


def test_an_old_gitlab_gets_no_regular_expression() -> None:
    many, one = project(rules=rules("event/*", "fix/*")), project(rules=rules("event/*"))
    assert needs_of(many, by_regex=False).filters == (ALL_BRANCHES,)
    assert needs_of(one, by_regex=False).filters == (EVENT_WILDCARD,)


GLOBS = st.lists(st.text("ab/*?.+|[]()^$\\-é", min_size=1, max_size=6), min_size=1, max_size=4)
NAMES = st.text("ab/.+|[]()^$\\-é", min_size=1, max_size=8)


@given(GLOBS, NAMES)
@example(["a?"], "aé")
@example(["a*", "b+"], "b+")
@example(["*"], "a")
def test_no_branch_that_is_wanted_is_ever_filtered_out(globs: list[str], branch: str) -> None:
    for one in needs_of(project(rules=[{"branches": globs}])).filters:
        if any(fnmatchcase(branch, glob) for glob in globs):
            assert _passes(one, branch)
        elif one.strategy != "all_branches":
            assert not _passes(one, branch)  # and not one more


def _passes(one: BranchFilter, branch: str) -> bool:
    """Return whether GitLab would deliver a push, by app/models/hooks/active_hook_filter.rb."""
    match one.strategy:
        case "wildcard":
            return re.fullmatch(re.escape(one.pattern).replace(r"\*", ".*"), branch) is not None
        case "regex":
            return re.search(one.pattern, branch) is not None
        case _:
            return True


def test_the_wish_says_what_is_needed_and_nothing_more() -> None:
    needs = HookNeeds(merge_requests=True, notes=False, filters=(EVENT_WILDCARD,))
    assert needs.wish(URL, token=Secret("s")) == HookWish(
        URL, merge_requests=True, branch_filter="event/*", branch_filter_strategy="wildcard", token=Secret("s")
    )


# --- Which one is ours


@pytest.mark.parametrize(
    ("url", "found"),
    [
        pytest.param("https://ENVPROV.example.com:443/webhooks/gitlab/", True, id="the same in other words"),
        pytest.param("http://envprov.example.com:443/webhooks/gitlab", False, id="another scheme"),
        pytest.param("https://envprov.example.com/webhooks/gitlab?a=b", False, id="another query"),
        pytest.param("https://other.example.com/webhooks/gitlab", False, id="another host"),
        pytest.param("https://envprov.example.com:x/webhooks/gitlab", False, id="no URL at all"),
    ],
)
def test_the_hook_is_found_by_its_url(url: str, *, found: bool) -> None:
    assert (find_hook([hook(url=url)], URL) is not None) == found


def test_of_several_the_one_that_works_and_then_the_oldest_is_meant() -> None:
    paused, second, third = hook(id=1, alert_status="temporarily_disabled"), hook(id=2), hook(id=3)
    assert find_hook([third, paused, second], URL) == second


# --- How it is


@pytest.mark.parametrize(
    ("hooks", "recent", "reason", "holds"),
    [
        pytest.param([hook()], (), HookReason.OK, True, id="all in order -> OK"),
        pytest.param([hook()], events("204", "500"), HookReason.OK, True, id="failed before, not now -> OK"),
        pytest.param([hook(alert_status=None)], (), HookReason.OK, True, id="GitLab too old to tell -> OK"),
        pytest.param([], (), HookReason.MISSING, False, id="none -> missing"),
        pytest.param([hook(url="https://x.example.com")], (), HookReason.MISSING, False, id="another's -> missing"),
        pytest.param(
            [hook(alert_status="temporarily_disabled")], (), HookReason.DISABLED, False, id="paused -> disabled"
        ),
        pytest.param([hook(alert_status="disabled")], (), HookReason.DISABLED, False, id="off -> disabled"),
        pytest.param(
            [hook(alert_status="disabled", push=False)],
            events("500"),
            HookReason.DISABLED,
            False,
            id="everything wrong -> disabled comes first",
        ),
        pytest.param([hook()], events("500", "204"), HookReason.FAILING, False, id="the newest failed -> failing"),
        pytest.param([hook()], events("internal error"), HookReason.FAILING, False, id="no answer -> failing"),
        pytest.param([hook()], events("302"), HookReason.OK, True, id="redirect -> GitLab counts it as well"),
        pytest.param([hook(push=False)], (), HookReason.INCOMPLETE, False, id="no pushes -> incomplete"),
        pytest.param(
            [hook(branch_filter="main", branch_filter_strategy="wildcard")],
            (),
            HookReason.INCOMPLETE,
            False,
            id="too few branches -> incomplete",
        ),
    ],
)
def test_judgement(hooks: list[Hook], recent: tuple[HookEvent, ...], reason: HookReason, *, holds: bool) -> None:
    verdict = judge(hooks, URL, NEEDS, recent)
    assert (verdict.reason, verdict.holds) == (reason, holds)
    assert verdict.message
    assert (verdict.hook is None) == (reason is HookReason.MISSING)


def test_of_what_cannot_be_seen_nothing_is_known() -> None:
    assert replace(judge([], URL, NEEDS), reason=HookReason.UNKNOWN).holds is None


def test_messages_say_what_and_what_to_do() -> None:
    paused = hook(alert_status="temporarily_disabled", disabled_until="2026-11-24T12:01:00.000Z")
    assert "until 2026-11-24T12:01:00.000Z" in judge([paused], URL, NEEDS).message
    failing = judge([hook()], URL, NEEDS, events("401", "401", "500", "202", "404")).message
    assert "the 3 newest deliveries failed: 401 (2 times), 500" in failing
    assert "rollout restart deployment envprov-receiver" in failing
    assert "envprov project add" in judge([], URL, NEEDS).message


@pytest.mark.parametrize(
    ("given", "needs", "lacks"),
    [
        pytest.param(hook(), NEEDS, 0, id="as needed"),
        pytest.param(hook(notes=True, merge_requests=True), NEEDS, 0, id="more than needed"),
        pytest.param(hook(), replace(NEEDS, merge_requests=True, notes=True), 2, id="neither of two"),
        pytest.param(hook(), replace(NEEDS, filters=(EVENT_WILDCARD,)), 0, id="all branches, and few are needed"),
        pytest.param(
            hook(branch_filter="**", branch_filter_strategy="wildcard"), NEEDS, 0, id="all branches in other words"
        ),
        pytest.param(hook(branch_filter="x", branch_filter_strategy="all_branches"), NEEDS, 0, id="a filter unused"),
        pytest.param(hook(branch_filter="x", branch_filter_strategy=None), NEEDS, 1, id="an old GitLab's wildcard"),
        pytest.param(
            hook(branch_filter="^(event/.*)$", branch_filter_strategy="regex"),
            replace(NEEDS, filters=(EVENT_WILDCARD, BranchFilter("regex", "^(event/.*)$"))),
            0,
            id="the same branches in other words",
        ),
    ],
)
def test_what_a_hook_lacks(given: Hook, needs: HookNeeds, lacks: int) -> None:
    assert len(lacks_of(given, needs)) == lacks


def test_only_what_is_exactly_as_wished_is_left_alone() -> None:
    assert is_as_wished(hook(), NEEDS)
    for other in (hook(notes=True), hook(merge_requests=True), hook(push=False), hook(enable_ssl=False)):
        assert not is_as_wished(other, NEEDS)
    assert not is_as_wished(hook(), replace(NEEDS, filters=(EVENT_WILDCARD,)))


# --- What failed


def test_only_the_failures_since_the_last_success_count() -> None:
    assert [one.status for one in failed_in_a_row(events("500", "internal error", "204", "500"))] == [
        "500",
        "internal error",
    ]


@pytest.mark.parametrize(
    ("message", "blocked"),
    [
        pytest.param("URL is blocked: Requests to the local network are not allowed", True, id="local network"),
        pytest.param("URL is blocked: Requests to localhost are not allowed", True, id="localhost"),
        pytest.param("URL is blocked: Requests to loopback addresses are not allowed", True, id="loopback"),
        pytest.param("URL is blocked: Host cannot be resolved or invalid", False, id="no such name"),
        pytest.param("Failed to open TCP connection to localhost:80", False, id="nobody there"),
        pytest.param("execution expired", False, id="too slow"),
    ],
)
def test_a_private_address_is_told_from_other_trouble(message: str, *, blocked: bool) -> None:
    assert is_blocked(message) == blocked
    assert ("outbound_local_requests_allowlist" in hint_for(message)) == blocked


@pytest.mark.parametrize("status", ["401", "403", "404", "503", "internal error", ""])
def test_for_each_failure_there_is_something_to_do(status: str) -> None:
    assert len(hint_for(status)) > 20


@pytest.mark.parametrize(
    ("text", "version"),
    [("19.1.0-ee", (19, 1)), ("18.4.1", (18, 4)), ("19.0.0-pre", (19, 0)), ("unknown", (0, 0)), ("19", (0, 0))],
)
def test_versions(text: str, version: tuple[int, int]) -> None:
    assert version_of(text) == version
