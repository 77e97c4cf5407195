"""An environment from its first push to its end, told through our client to a GitLab with real HTTP between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from envprov.controller.commands import Commander
from envprov.controller.metrics import ErrandMetrics
from envprov.controller.publisher import Publisher
from envprov.domain.commands import Act, Command, Pin
from envprov.domain.environment import Environment
from envprov.domain.errors import RetryableError
from envprov.domain.project import Project
from envprov.gitlab.client import GitLabClient
from tests.gitlab.driver import GitLabStandIn
from tests.gitlab.stories import ask
from tests.unit.builders import NOW, SLUG, environment, project, reported
from tests.unit.fakes import Clock, Faults
from tests.unit.showcase import Desk

SHOP = "group/shop"
NAME = f"envprov/{SLUG}"
URL = "https://feature-x.dev.example.com"


@pytest.fixture(autouse=True)
def _shop(gitlab: GitLabStandIn) -> None:
    """Have one project."""
    gitlab.create_project(SHOP, project_id=15)


def rules(**gitlab: Any) -> Project:  # noqa: ANN401 - any field
    return project(gitlab={"project": SHOP, "report": {"status": True}} | gitlab)


def at(sha: str, reason: str, before: Environment | None = None) -> Environment:
    """Return the Environment of feature/x at a commit, as the controller has reported it."""
    given = environment(revision=sha)
    condition = {
        "type": "Ready",
        "status": "True" if reason == "Ready" else "False",
        "reason": reason,
        "message": "no chart",
        "lastTransitionTime": "2026-11-24T11:30:00Z",
    }
    said = {"observedGeneration": 1, "url": URL, "conditions": [condition]}
    status = reported(given, said | ({"observedRevision": sha} if reason == "Ready" else {})).status
    told = before.status.gitlab if before else None
    return given.model_copy(update={"status": status.model_copy(update={"gitlab": told})})


def told(gitlab: GitLabStandIn, story: Callable[[Publisher], Awaitable[object]], desk: Desk, clock: Clock) -> None:
    async def within(client: GitLabClient) -> None:
        await story(Publisher(client, desk, now=clock, metrics=ErrandMetrics(CollectorRegistry())))

    ask(gitlab, within)


def test_an_environment_is_shown_from_its_first_push_to_its_end(gitlab: GitLabStandIn) -> None:
    first = gitlab.push(SHOP, "feature/x", {"a": "1"})
    iid = gitlab.open_merge_request(SHOP, "feature/x")
    desk = Desk(Faults(), rules=rules())
    clock = Clock(NOW)

    def serve() -> None:
        told(gitlab, lambda publisher: publisher(SLUG), desk, clock)

    desk.live = at(first, "Deploying")
    serve()
    desk.live = at(first, "Ready", desk.live)
    serve()
    second = gitlab.push(SHOP, "feature/x", {"a": "2"})
    desk.live = at(second, "Deploying", desk.live)
    serve()
    third = gitlab.push(SHOP, "feature/x", {"a": "3"})
    desk.live = at(third, "Stalled", desk.live)
    serve()
    state = gitlab.state(SHOP)
    (shown,) = state["environments"]
    assert (shown["name"], shown["external_url"], shown["state"]) == (NAME, URL, "available")
    assert (shown["tier"], shown["auto_stop_setting"]) == ("development", "always")
    assert [(one["sha"], one["ref"], one["status"]) for one in state["deployments"]] == [
        (first, "feature/x", "success"),
        (second, "feature/x", "canceled"),
        (third, "feature/x", "failed"),
    ]
    assert {one["sha"]: one["status"] for one in state["statuses"]} == {
        first: "success",
        second: "canceled",
        third: "failed",
    }
    (note,) = ask(gitlab, lambda client: client.notes(SHOP, iid))
    assert "cannot be deployed.**" in note.body

    gitlab.forget_requests()
    serve()
    assert [one for one in gitlab.requests() if one["method"] != "GET"] == []

    desk.retire("expired")
    serve()
    assert desk.owed is None
    assert gitlab.state(SHOP)["environments"] == []
    (note,) = ask(gitlab, lambda client: client.notes(SHOP, iid))
    assert "is gone.** Its lifetime had ended" in note.body


@pytest.mark.parametrize("lost", ["environments", "deployments", "notes", "statuses"])
def test_an_answer_that_is_lost_makes_nothing_twice(gitlab: GitLabStandIn, lost: str) -> None:
    sha = gitlab.push(SHOP, "feature/x", {"a": "1"})
    iid = gitlab.open_merge_request(SHOP, "feature/x")
    desk = Desk(Faults(), rules=rules(), live=at(sha, "Ready"))
    gitlab.fault("cut", rf"^POST .*{lost}")
    with pytest.raises(RetryableError):
        told(gitlab, lambda publisher: publisher(SLUG), desk, Clock(NOW))
    told(gitlab, lambda publisher: publisher(SLUG), desk, Clock(NOW))
    state = gitlab.state(SHOP)
    assert (len(state["environments"]), len(state["deployments"])) == (1, 1)
    assert len(ask(gitlab, lambda client: client.notes(SHOP, iid))) == 1


def test_a_fork_is_shown_by_its_commit(gitlab: GitLabStandIn) -> None:
    gitlab.create_project("ada/shop", project_id=16)
    sha = gitlab.push("ada/shop", "feature/x", {"a": "1"})
    iid = gitlab.open_merge_request(SHOP, "feature/x", source_project="ada/shop")
    branch = f"merge-requests/{iid}/head"
    live = at(sha, "Ready")
    live = live.model_copy(update={"spec": live.spec.model_copy(update={"branch": branch})})
    desk = Desk(Faults(), rules=rules(), live=live)
    told(gitlab, lambda publisher: publisher(SLUG), desk, Clock(NOW))
    assert [one["name"] for one in gitlab.state(SHOP)["environments"]] == [NAME]
    (note,) = ask(gitlab, lambda client: client.notes(SHOP, iid))
    assert f"- Branch: `{branch}`" in note.body


def test_a_token_that_may_not_is_said_on_the_environment(gitlab: GitLabStandIn) -> None:
    sha = gitlab.push(SHOP, "feature/x", {"a": "1"})
    gitlab.create_token(gitlab.token, user="envprov", scopes=["read_api"])
    desk = Desk(Faults(), rules=rules(), live=at(sha, "Ready"))
    told(gitlab, lambda publisher: publisher(SLUG), desk, Clock(NOW))
    assert {reason for reason, _ in desk.told} == {"GitLabForbidden"}
    assert "scope" in desk.told[0][1]


class Book:
    """One command, for one environment."""

    def __init__(self, command: Command, live: Environment, given: Project) -> None:
        self.command, self.live, self.given = command, live, given

    def commands(self, environment: str) -> tuple[Command, ...]:
        assert environment == SLUG
        return (self.command,)

    def environment(self, name: str) -> Environment | None:
        assert name == SLUG
        return self.live

    def project(self, name: str) -> Project | None:
        assert name == "shop"
        return self.given

    async def save(self, command: Command) -> Command:
        self.command = command
        return command

    async def forget(self, command: Command) -> None:
        raise AssertionError(f"{command.name} is too young")

    def unreadable_since(self, name: str) -> datetime | None:
        raise AssertionError(f"{name} can be read")

    async def discard(self, name: str) -> None:
        raise AssertionError(f"{name} can be read")

    async def carry_out(self, environment: str, act: Act) -> bool:
        assert (environment, act) == (SLUG, Pin(self.live.uid, pinned=True))
        return True


@pytest.mark.parametrize(
    ("level", "said"), [(30, "Done: it is pinned"), (20, "this takes the role developer"), (0, "this takes the role")]
)
def test_a_command_is_answered_in_its_thread_once(gitlab: GitLabStandIn, level: int, said: str) -> None:
    gitlab.push(SHOP, "feature/x", {"a": "1"})
    iid = gitlab.open_merge_request(SHOP, "feature/x")
    ada = gitlab.member(SHOP, "ada", level)
    heard = gitlab.comment(SHOP, iid, "/envprov pin", user="ada")
    command = Command(
        name=f"command-{heard['id']}-shop",
        project="shop",
        branch="feature/x",
        iid=iid,
        note_id=heard["id"],
        discussion_id=heard["discussion_id"],
        author_id=ada,
        text="/envprov pin",
        created_at=NOW - timedelta(minutes=1),
    )
    book = Book(command, environment(), rules(commands={}))

    async def twice(client: GitLabClient) -> None:
        for _ in range(2):
            await Commander(client, book, Clock(NOW), ErrandMetrics(CollectorRegistry()))(SLUG)
            book.command = command  # delivered again after everything was forgotten

    ask(gitlab, twice)
    notes = ask(gitlab, lambda client: client.notes(SHOP, iid))
    assert [said in note.body for note in notes] == [False, True]
