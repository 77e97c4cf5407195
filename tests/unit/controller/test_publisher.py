"""The publisher in a small world: whatever is lost, repeated or cut short, GitLab ends right and is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from envprov.controller.errands import AGAIN_LATER
from envprov.controller.metrics import ErrandMetrics
from envprov.controller.publisher import REQUESTS_AGE, REQUESTS_FRESH, Publisher
from envprov.domain.errors import (
    Conflict,
    EnvprovError,
    ForgeForbidden,
    Invalid,
    InvalidRecord,
    RetryableError,
    Throttled,
    Unavailable,
)
from envprov.domain.note import digest_of, marker
from envprov.domain.project import Project
from tests.unit.builders import COMMIT, NOW, SLUG, environment, project, reported
from tests.unit.fakes import Clock
from tests.unit.showcase import Desk, FakeGitLab

NAME = f"envprov/{SLUG}"
URL = "https://feature-x.dev.example.com"
OTHER = "b" * 40


class Killed(BaseException):
    """The end of the process in the middle of a call: nobody tidies up."""


def killed() -> EnvprovError:
    raise Killed


ALL = {"environment": True, "note": True, "status": True}


@dataclass
class Shop:
    """Project shop with feature/x, its GitLab, and the publisher between them."""

    report: dict[str, bool] = field(default_factory=lambda: ALL)
    gitlab: FakeGitLab = field(default_factory=FakeGitLab)
    clock: Clock = field(default_factory=lambda: Clock(NOW))
    uid: int = 0

    def __post_init__(self) -> None:
        self.desk = Desk(self.gitlab.faults)
        self.rules(self.report)
        self.restart()

    def rules(self, report: dict[str, bool]) -> None:
        self.desk.rules = project(gitlab={"project": "group/shop", "report": report})

    def restart(self) -> None:
        self.registry = CollectorRegistry()
        metrics = ErrandMetrics(self.registry)
        self.publisher = Publisher(self.gitlab, self.desk, now=self.clock, metrics=metrics)

    def up(self, revision: str = COMMIT) -> Shop:
        """Make the record."""
        self.uid += 1
        self.desk.live = environment(revision=revision).model_copy(update={"uid": f"u-{self.uid}"})
        return self

    def push(self, revision: str) -> Shop:
        assert self.desk.live is not None
        spec = self.desk.live.spec.model_copy(update={"revision": revision})
        self.desk.live = self.desk.live.model_copy(update={"spec": spec, "generation": self.desk.live.generation + 1})
        return self

    def stands(self, reason: str, message: str = "") -> Shop:
        """Let the controller report."""
        live = self.desk.live
        assert live is not None
        is_ready = reason == "Ready"
        condition = {
            "type": "Ready",
            "status": "True" if is_ready else "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": "2026-11-24T11:30:00Z",
        }
        said: dict[str, Any] = {"observedGeneration": live.generation, "url": URL, "conditions": [condition]}
        before = live.status.observed_revision
        said |= {"observedRevision": live.spec.revision} if is_ready else {"observedRevision": before} if before else {}
        status = reported(live, said).status.model_copy(update={"gitlab": live.status.gitlab})
        self.desk.live = live.model_copy(update={"status": status})
        return self

    def delete(self) -> Shop:
        assert self.desk.live is not None
        self.desk.live = self.desk.live.model_copy(update={"deleting": True})
        return self

    def leave(self, *, served: bool = False) -> Shop:
        self.desk.retire()
        if served:
            self.settle()
        return self

    def serve(self) -> timedelta | None:
        return asyncio.run(self.publisher(SLUG))

    def settle(self, *, restarts: bool = True) -> None:
        """Serve as the loop does: until it works; each failure may be the end of the process."""
        for _ in range(10):
            try:
                self.serve()
            except Killed:
                self.restart()
            except RetryableError:
                if restarts:
                    self.restart()
            else:
                return
        raise AssertionError("it never ends")

    @property
    def state(self) -> tuple[Any, ...]:
        """What GitLab shows."""
        return (
            [(one.name, one.state, one.external_url) for one in self.gitlab.environments.values()],
            [(one.sha, one.ref, one.status) for one in self.gitlab.shipped],
            {iid: [note.body for note in thread] for iid, thread in self.gitlab.threads.items()},
            self.gitlab.statuses,
        )


def quiet(**parts: bool) -> dict[str, bool]:
    return {name: parts.get(name, False) for name in ALL}


def test_a_revision_is_shown_from_its_push_until_it_is_ready() -> None:
    shop = Shop()
    shop.gitlab.open(3)
    shop.up().serve()
    shop.stands("Deploying").serve()
    shop.stands("Ready").serve()
    assert shop.gitlab.written == [
        f"create environment {NAME} None",
        "deploy a running",
        "status a running",
        "note !3",
        f"update environment {NAME} {URL}",
        "edit note !3",
        "deployment a success",
        "status a success",
        "edit note !3",
    ]
    assert "is ready.**" in shop.gitlab.ours(3)[0]
    assert shop.registry.get_sample_value("envprov_published_total", {"step": "EditNote"}) == 2


def test_a_second_pass_says_nothing_and_writes_nothing() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.serve()
    written, calls = list(shop.gitlab.written), len(shop.gitlab.faults.calls)
    shop.serve()
    assert (shop.gitlab.written, len(shop.gitlab.faults.calls)) == (written, calls)


def test_a_restart_writes_nothing() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.serve()
    asked, on_record = len(shop.gitlab.faults.calls), shop.desk.live
    shop.restart()
    shop.serve()
    assert shop.gitlab.faults.calls[asked:] == ["project", "merge_requests"]
    assert shop.desk.live == on_record


def test_the_end_takes_everything_away() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.serve()
    shop.delete().serve()
    assert shop.gitlab.environments
    shop.desk.retire("down")
    shop.serve()
    assert (shop.gitlab.environments, shop.gitlab.shipped, shop.desk.owed) == ({}, [], None)
    assert "is gone.** Somebody took it down" in shop.gitlab.ours(3)[0]
    shop.serve()
    assert shop.gitlab.written[-3:] == [
        f"stop environment {NAME}",
        f"delete environment {NAME}",
        "edit note !3",
    ]


def test_a_deployment_that_the_end_overtakes_is_canceled() -> None:
    shop = Shop().up().stands("Deploying")
    shop.serve()
    shop.delete().serve()
    assert [one.status for one in shop.gitlab.shipped] == ["canceled"]
    assert shop.gitlab.statuses == {(COMMIT, "envprov"): "canceled"}


def test_an_environment_that_comes_back_before_the_end_is_told_takes_everything_over() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.serve()
    shop.desk.retire()
    shop.up(OTHER).serve()
    assert (len(shop.gitlab.environments), len(shop.gitlab.threads[3]), shop.desk.owed) == (1, 1, None)
    assert [one.sha for one in shop.gitlab.shipped] == [COMMIT, OTHER]
    shop.desk.retire()
    shop.serve()
    assert shop.gitlab.environments == {}
    assert shop.desk.owed is None


def test_a_commit_that_was_canceled_and_comes_back_is_deployed_anew() -> None:
    shop = Shop(quiet(environment=True)).up().stands("Deploying")
    shop.serve()
    shop.delete().serve()
    shop.desk.retire()
    shop.up().stands("Ready").serve()
    assert [(one.sha, one.status) for one in shop.gitlab.shipped] == [(COMMIT, "canceled"), (COMMIT, "success")]


def test_an_environment_that_comes_back_while_the_end_is_told_is_shown_whole() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.serve()
    shop.desk.retire()
    asyncio.run(shop.gitlab.stop_environment("group/shop", next(iter(shop.gitlab.environments))))
    shop.up().stands("Ready").serve()
    assert [(one.state, one.external_url) for one in shop.gitlab.environments.values()] == [("available", URL)]
    assert [one.status for one in shop.gitlab.shipped] == ["success"]


def test_what_was_deleted_by_hand_is_made_again() -> None:
    shop = Shop().up().stands("Deploying")
    shop.gitlab.open(3)
    shop.serve()
    shop.gitlab.environments.clear()
    shop.gitlab.shipped.clear()
    shop.gitlab.threads[3].clear()
    shop.stands("Ready").serve()
    assert [one.external_url for one in shop.gitlab.environments.values()] == [URL]
    assert [one.status for one in shop.gitlab.shipped] == ["success"]
    assert len(shop.gitlab.ours(3)) == 1


def test_an_environment_that_was_deleted_by_hand_is_made_again_when_it_moves() -> None:
    shop = Shop(quiet(environment=True)).up()
    shop.serve()
    shop.gitlab.environments.clear()
    shop.gitlab.shipped.clear()
    shop.stands("Deploying").serve()
    assert [one.external_url for one in shop.gitlab.environments.values()] == [URL]
    assert [one.status for one in shop.gitlab.shipped] == ["running"]


def test_a_deployment_that_somebody_else_changes_is_tried_again() -> None:
    shop = Shop(quiet(environment=True)).up().stands("Deploying")
    shop.serve()
    shop.gitlab.refused["update_deployment"] = Conflict("409")
    with pytest.raises(Conflict):
        shop.stands("Ready").serve()
    del shop.gitlab.refused["update_deployment"]
    shop.serve()
    assert [one.status for one in shop.gitlab.shipped] == ["success"]


@pytest.mark.parametrize(("call", "left"), [("create_environment", 1), ("create_note", 1)])
def test_what_was_made_and_never_noted_is_taken_away_with_the_record(call: str, left: int) -> None:
    shop = Shop(quiet(environment=True, note=True)).up().stands("Ready")
    shop.gitlab.open(3)
    plain = undisturbed_calls(shop)
    shop = Shop(quiet(environment=True, note=True)).up().stands("Ready")
    shop.gitlab.open(3)
    faults = shop.gitlab.faults
    faults.at, faults.lost, faults.error = plain.index(call), True, killed
    with pytest.raises(Killed):
        shop.serve()
    assert len(shop.gitlab.environments) == left
    shop.restart()
    shop.desk.retire()
    shop.settle()
    assert shop.gitlab.environments == {}
    assert all("is gone" in note for note in shop.gitlab.ours(3))
    assert shop.desk.owed is None


def undisturbed_calls(shop: Shop) -> list[str]:
    shop.serve()
    return shop.gitlab.faults.calls


def test_a_note_that_was_never_written_is_not_written_at_the_end() -> None:
    shop = Shop(quiet(note=True)).up().stands("Ready")
    shop.gitlab.open(3)
    faults = shop.gitlab.faults
    faults.at, faults.error = 4, killed
    with pytest.raises(Killed):
        shop.serve()
    assert faults.calls[4] == "notes"
    shop.restart()
    shop.desk.retire()
    shop.settle()
    assert shop.gitlab.threads[3] == []
    assert shop.desk.owed is None


def test_a_note_of_somebody_else_with_our_marker_is_not_ours() -> None:
    shop = Shop(quiet(note=True)).up().stands("Ready")
    shop.gitlab.open(3)
    shop.gitlab.comment(3, f"{marker(SLUG)}\nhaha", author=5)
    shop.serve()
    assert [one.body.splitlines()[1] for one in shop.gitlab.threads[3]] == [
        "haha",
        f"**Environment `{SLUG}` is ready.**",
    ]


def test_a_token_of_another_user_writes_a_note_of_its_own_once() -> None:
    shop = Shop(quiet(note=True)).up().stands("Deploying")
    shop.gitlab.open(3)
    shop.serve()
    shop.gitlab.me_id = 200
    shop.stands("Ready").serve()
    shop.stands("Deploying").serve()
    assert [one.author_id for one in shop.gitlab.threads[3]] == [100, 200]
    assert "is being deployed" in shop.gitlab.threads[3][1].body


def test_the_same_branch_of_a_fork_hears_nothing() -> None:
    shop = Shop(quiet(note=True)).up().stands("Ready")
    shop.gitlab.open(3, source=8)
    shop.serve()
    assert shop.gitlab.threads[3] == []


def test_a_merge_request_that_is_opened_later_gets_its_note() -> None:
    shop = Shop(quiet(note=True)).up().stands("Ready")
    assert shop.serve() == REQUESTS_AGE
    shop.gitlab.open(3)
    shop.clock.advance(REQUESTS_FRESH)
    shop.serve()
    assert shop.gitlab.threads[3] == []
    shop.clock.advance(REQUESTS_AGE)
    shop.serve()
    assert len(shop.gitlab.threads[3]) == 1


def test_a_new_commit_looks_for_its_merge_request_sooner() -> None:
    shop = Shop(quiet(note=True)).up().stands("Ready")
    shop.serve()
    shop.gitlab.open(3)
    shop.clock.advance(REQUESTS_FRESH)
    shop.push(OTHER).serve()
    assert len(shop.gitlab.threads[3]) == 1


def test_merge_requests_are_listed_once_for_all_environments() -> None:
    shop = Shop(quiet(note=True)).up().stands("Ready")
    for _ in range(20):
        shop.clock.advance(timedelta(seconds=2))
        shop.serve()
    assert shop.gitlab.faults.calls.count("merge_requests") == 1


def test_a_merge_request_that_was_merged_hears_of_the_end() -> None:
    shop = Shop(quiet(note=True)).up().stands("Ready")
    shop.gitlab.open(3)
    shop.serve()
    shop.gitlab.close(3)
    shop.desk.retire()
    shop.serve()
    assert "is gone" in shop.gitlab.ours(3)[0]


def test_a_commit_that_gitlab_does_not_know_is_asked_about_once() -> None:
    shop = Shop(quiet(environment=True, status=True)).up().stands("Ready")
    shop.gitlab.commits = {OTHER}
    shop.serve()
    shop.restart()
    shop.serve()
    assert shop.gitlab.faults.calls.count("create_deployment") == 1
    assert shop.gitlab.faults.calls.count("set_status") == 1
    shop.push(OTHER).stands("Ready").serve()
    assert [one.sha for one in shop.gitlab.shipped] == [OTHER]


def test_what_the_token_may_not_do_is_said_once_and_tried_again_later() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.gitlab.refused["create_environment"] = ForgeForbidden("403: this takes role Developer")
    again = shop.serve()
    assert again is not None
    assert again <= AGAIN_LATER
    shop.stands("Deploying").serve()
    shop.stands("Ready").serve()
    assert shop.desk.told == [("GitLabForbidden", "403: this takes role Developer")]
    assert shop.gitlab.faults.calls.count("create_environment") == 1
    assert "is ready" in shop.gitlab.ours(3)[0]  # one part's trouble is not another's
    shop.clock.advance(AGAIN_LATER)
    shop.serve()
    assert shop.gitlab.faults.calls.count("create_environment") == 2
    del shop.gitlab.refused["create_environment"]
    shop.clock.advance(AGAIN_LATER)
    shop.serve()
    assert len(shop.gitlab.environments) == 1
    assert len(shop.desk.told) == 1


def test_a_refusal_of_a_note_is_an_event_too() -> None:
    shop = Shop(quiet(note=True)).up().stands("Ready")
    shop.gitlab.open(3)
    shop.gitlab.refused["create_note"] = Invalid("Note is too long")
    shop.serve()
    assert shop.desk.told == [("GitLabInvalid", "Note is too long")]
    failures = {"errand": "publish", "reason": "Invalid"}
    assert shop.registry.get_sample_value("envprov_gitlab_failures_total", failures) == 1


def test_a_gitlab_that_wants_to_be_left_alone_is_left_alone() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.gitlab.refused["find_environment"] = Throttled("429", retry_after=30)
    with pytest.raises(Throttled) as raised:
        shop.serve()
    assert raised.value.retry_after == 30
    assert shop.gitlab.written == []


def test_a_rest_of_a_debt_is_paid_later() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.serve()
    shop.desk.retire()
    shop.gitlab.refused["delete_environment"] = ForgeForbidden("403: this takes role Developer")
    assert shop.serve() == AGAIN_LATER
    assert shop.desk.owed is not None
    assert shop.desk.owed.told.commit is not None
    (note,) = shop.desk.owed.told.notes
    assert note.digest == digest_of(shop.gitlab.ours(3)[0])  # that much is done, and on record
    written = list(shop.gitlab.written)
    shop.clock.advance(AGAIN_LATER)
    shop.serve()
    assert shop.gitlab.written == written
    del shop.gitlab.refused["delete_environment"]
    shop.restart()
    shop.serve()
    assert shop.gitlab.environments == {}
    assert shop.desk.owed is None


def test_a_cache_that_lags_repeats_nothing() -> None:
    shop = Shop().up().stands("Deploying")
    shop.gitlab.open(3)
    shop.desk.environment(SLUG)
    shop.desk.lags = True
    shop.serve()
    told = len(shop.gitlab.faults.calls)
    shop.serve()
    assert shop.gitlab.faults.calls[told:] == ["note"]  # on record again, and GitLab is not even asked


def test_what_went_off_the_record_is_put_back() -> None:
    shop = Shop().up().stands("Ready")
    shop.serve()
    on_record = shop.desk.live
    assert on_record is not None
    shop.desk.live = on_record.model_copy(update={"status": on_record.status.model_copy(update={"gitlab": None})})
    shop.serve()
    assert shop.desk.live == on_record


def test_what_went_off_the_record_is_found_after_a_restart() -> None:
    shop = Shop().up().stands("Ready")
    shop.gitlab.open(3)
    shop.serve()
    on_record, written = shop.desk.live, list(shop.gitlab.written)
    assert on_record is not None
    shop.desk.live = on_record.model_copy(update={"status": on_record.status.model_copy(update={"gitlab": None})})
    shop.restart()
    shop.serve()
    assert (shop.desk.live, shop.gitlab.written) == (on_record, written)


@pytest.mark.parametrize("rules", [None, InvalidRecord("size"), project()])
def test_without_a_project_in_gitlab_nothing_is_said(rules: Project | InvalidRecord | None) -> None:
    shop = Shop().up().stands("Ready")
    shop.desk.rules = rules
    assert shop.serve() is None
    assert shop.gitlab.faults.calls == []


def test_what_is_left_of_a_project_that_is_gone_is_taken_away() -> None:
    shop = Shop().up().stands("Ready")
    shop.serve()
    shop.desk.retire()
    shop.desk.rules = None
    shop.serve()
    assert shop.gitlab.environments == {}
    assert shop.desk.owed is None


def test_nobody_there_is_nothing_to_do() -> None:
    shop = Shop()
    assert shop.serve() is None
    assert shop.gitlab.faults.calls == []


# --- Faults at every call


def story(shop: Shop, then: Callable[[], None]) -> None:
    """From the first push to the end and back, with a pass wherever something has happened."""
    shop.gitlab.open(3)
    for act in (
        shop.up,
        lambda: shop.stands("Deploying"),
        lambda: shop.stands("Ready"),
        lambda: shop.push(OTHER),
        lambda: shop.stands("Stalled", "no chart"),
        lambda: shop.gitlab.open(5),
        lambda: shop.push(COMMIT).stands("Ready"),
        shop.delete,
        shop.desk.retire,
    ):
        act()
        shop.clock.advance(REQUESTS_AGE)
        then()
    shop.up(OTHER).stands("Ready")
    then()
    shop.desk.retire("expired")
    shop.up(COMMIT).stands("Ready")
    then()


def undisturbed() -> Shop:
    shop = Shop()
    story(shop, shop.settle)
    return shop


WRITES = ("create", "update", "stop", "delete")
CALLS = len(undisturbed().gitlab.faults.calls)


def test_the_story_ends_as_it_should() -> None:
    shop = undisturbed()
    assert [(one.name, one.state) for one in shop.gitlab.environments.values()] == [(NAME, "available")]
    assert [(one.sha, one.status) for one in shop.gitlab.shipped] == [(OTHER, "success"), (COMMIT, "success")]
    assert {iid: len(thread) for iid, thread in shop.gitlab.threads.items()} == {3: 1, 5: 1}
    assert "is ready" in shop.gitlab.ours(3)[0]
    assert shop.desk.owed is None
    repeated = [call for call in shop.gitlab.faults.calls if call.startswith(WRITES) and call != "set_status"]
    assert len(repeated) == len([line for line in shop.gitlab.written if not line.startswith("status")])


EXPECTED = undisturbed()


@pytest.mark.parametrize("then", ["goes on", "starts again", "was killed"])
@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(CALLS + 1))
def test_a_fault_at_any_call_changes_nothing_in_the_end(call: int, lost: bool, then: str) -> None:  # noqa: FBT001 - rows
    shop = Shop()
    faults = shop.gitlab.faults
    faults.at, faults.lost = call, lost
    faults.error = killed if then == "was killed" else lambda: Unavailable("the connection broke")
    story(shop, lambda: shop.settle(restarts=then == "starts again"))
    assert shop.state == EXPECTED.state
    assert shop.desk.live is not None
    assert shop.desk.owed is None
    assert sorted(shop.gitlab.written) == sorted(EXPECTED.gitlab.written)


ACTS: dict[str, Callable[[Shop], object]] = {
    "push a": lambda shop: shop.push(COMMIT),
    "push b": lambda shop: shop.push(OTHER),
    "ready": lambda shop: shop.stands("Ready"),
    "stalled": lambda shop: shop.stands("Stalled", "no chart"),
    "later": lambda shop: shop.clock.advance(REQUESTS_AGE),
    "restart": lambda shop: shop.restart(),
    "serve": lambda shop: shop.settle(restarts=False),
    "back": lambda shop: shop.leave().up(),
    "gone and served": lambda shop: shop.leave(served=True).up(),
}


@given(
    acts=st.lists(st.sampled_from(sorted(ACTS)), max_size=12),
    call=st.integers(0, 60),
    lost=st.booleans(),
    error=st.sampled_from([Unavailable("down"), Conflict("again")]),
)
@settings(max_examples=300, deadline=None)
def test_whatever_happens_in_between_the_end_is_what_is_on_record(
    acts: list[str],
    call: int,
    lost: bool,  # noqa: FBT001 - drawn
    error: EnvprovError,
) -> None:
    shop = Shop()
    shop.gitlab.open(3)
    shop.up()
    faults = shop.gitlab.faults
    faults.at, faults.lost, faults.error = call, lost, lambda: error
    for act in acts:
        ACTS[act](shop)
    shop.push(COMMIT).stands("Ready")
    shop.clock.advance(REQUESTS_AGE)
    shop.settle()
    shop.settle()
    assert [(one.state, one.external_url) for one in shop.gitlab.environments.values()] == [("available", URL)]
    assert (shop.gitlab.shipped[-1].sha, shop.gitlab.shipped[-1].status) == (COMMIT, "success")
    assert all(one.status != "running" for one in shop.gitlab.shipped)
    assert len(shop.gitlab.threads[3]) == 1
    assert "is ready" in shop.gitlab.ours(3)[0]
    assert shop.gitlab.statuses[COMMIT, "envprov"] == "success"
    shop.desk.retire()
    shop.settle()
    assert shop.gitlab.environments == {}
    assert shop.desk.owed is None
