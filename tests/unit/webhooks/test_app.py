"""The receiver's answers, its log and its metrics, without network or cluster."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretBytes, SecretStr
from structlog.testing import capture_logs

from envprov.domain.deliveries import Absent, BranchEvent, Present, Questioned, Recorded, Wanted, decide
from envprov.domain.errors import EnvprovError, Forbidden, NameTaken, Throttled, Unavailable
from envprov.domain.names import slug
from envprov.domain.project import Project
from tests import payloads
from webhooks.app import ReceiverSettings, create_app
from webhooks.gitlab import NoteCommand

TOKEN = "correct-horse-battery"
SHA = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
Q = {"x-gitlab-token": TOKEN, "x-gitlab-event": "Push Hook"}


MERGE = Q | {"x-gitlab-event": "Merge Request Hook"}
NOTE = Q | {"x-gitlab-event": "Note Hook"}
SYSTEM = Q | {"x-gitlab-event": "System Hook"}
KEY = b"k" * 32


@dataclass
class Shelf:
    """A recorder that remembers what it was told, and fails on demand; branches in *there* have a record."""

    recorded: list[tuple[str, BranchEvent]] = field(default_factory=list)
    news: list[tuple[str, str, object]] = field(default_factory=list)
    commands: list[tuple[str, NoteCommand]] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    sweep_errors: dict[str, Exception] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    """Branches that are never done; ``*`` is all."""

    async def record(self, project: Project, event: BranchEvent) -> Recorded:
        await self._fail(project, event.branch)
        self.recorded.append((project.name, event))
        return Recorded(slug(project.name, event.branch), decide(Absent(), event))

    async def record_merge_request(
        self, project: Project, branch: str, news: BranchEvent | Wanted | Questioned
    ) -> Recorded:
        await self._fail(project, branch)
        self.news.append((project.name, branch, news))
        known = Present(SHA) if isinstance(news, Questioned) else Absent()
        return Recorded(slug(project.name, branch), decide(known, news))

    async def request_command(self, project: Project, given: NoteCommand) -> str:
        await self._fail(project, given.branch)
        self.commands.append((project.name, given))
        return f"command-{given.note_id}-{project.name}"

    async def request_sweep(self, project: Project) -> str:
        if project.name in self.sweep_errors:
            raise self.sweep_errors[project.name]
        assert not self.recorded, "a sweep is asked for first"
        self.sweeps.append(project.name)
        return f"sweep-{project.name}"

    async def _fail(self, project: Project, branch: str) -> None:
        if self.stuck & {branch, "*"}:
            await asyncio.Event().wait()
        if project.name in self.errors:
            raise self.errors[project.name]


def project(name: str = "shop", gitlab: str | int = "group/shop", **spec: Any) -> Project:  # noqa: ANN401
    chart = {"local": {"path": "environment"}}
    return Project.model_validate({"name": name, "spec": {"gitlab": {"project": gitlab}, "chart": chart} | spec})


async def alive() -> None:
    """Give a sign of life."""


@dataclass
class World:
    """A receiver with everything around it."""

    shelf: Shelf = field(default_factory=Shelf)
    projects: Iterable[Project] | None = (project(),)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    probe: Callable[[], Awaitable[object]] = alive
    limits: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def app(self) -> FastAPI:
        settings = ReceiverSettings(tokens=(SecretStr("old-secret"), SecretStr(TOKEN)))
        settings = replace(settings, **self.limits)
        return create_app(self.shelf, lambda: self.projects, settings, self.registry, self.probe)

    def post(self, payload: object, headers: dict[str, str] | None = None) -> httpx.Response:
        (answer,) = self.post_all([payload], headers)
        return answer

    def post_all(self, given_: Iterable[object], headers: dict[str, str] | None = None) -> list[httpx.Response]:
        async def story() -> list[httpx.Response]:
            async with client(self.app) as http:
                return [
                    await http.post("/webhooks/gitlab", content=_body(one), headers=Q if headers is None else headers)
                    for one in given_
                ]

        return asyncio.run(story())

    def get(self, path: str) -> httpx.Response:
        async def story() -> httpx.Response:
            async with client(self.app) as http:
                return await http.get(path)

        return asyncio.run(story())

    def count(self, outcome: str, name: str = "envprov_deliveries_total") -> float | None:
        return self.registry.get_sample_value(name, {"outcome": outcome})


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://receiver")


def _body(payload: object) -> Any:  # noqa: ANN401 - whatever httpx takes
    return json.dumps(payload).encode() if isinstance(payload, dict) else payload


CREATED = payloads.push_created("feature/x", SHA)


def test_a_push_is_recorded_in_every_project_that_wants_it() -> None:
    world = World(projects=(project(), project("mirror", 15), project("other", "group/other")))
    answer = world.post(CREATED)
    assert answer.status_code == 202
    assert answer.json() == {"environments": [slug("shop", "feature/x"), slug("mirror", "feature/x")]}
    assert [name for name, _ in world.shelf.recorded] == ["shop", "mirror"]
    assert world.count("recorded") == 1
    assert world.count("create", "envprov_records_total") == 2
    assert world.registry.get_sample_value("envprov_delivery_seconds_count") == 1


@pytest.mark.parametrize(
    ("payload", "headers", "outcome"),
    [
        pytest.param(payloads.push_created("x", SHA, 99, "group/else"), Q, "unknown_project", id="unknown project"),
        pytest.param(payloads.push_created("main", SHA), Q, "ignored_branch", id="branch that a rule ignores"),
        pytest.param(payloads.merge_request(), MERGE, "ignored_branch", id="rule without merge requests"),
        pytest.param(payloads.merge_request("close"), MERGE, "ignored_branch", id="the same, closed"),
        pytest.param(payloads.merge_request(source_project_id=payloads.FORK), MERGE, "ignored_branch", id="fork"),
        pytest.param(payloads.merge_request("approved"), MERGE, "uninteresting", id="approval"),
        pytest.param(
            payloads.merge_request(path="group/else", project_id=99), MERGE, "unknown_project", id="elsewhere"
        ),
        pytest.param(payloads.note("/envprov up"), NOTE, "ignored_command", id="command, and nobody may give any"),
        pytest.param(payloads.note("nice"), NOTE, "uninteresting", id="comment"),
        pytest.param(
            payloads.tag_pushed("v1", SHA), Q | {"x-gitlab-event": "Tag Push Hook"}, "uninteresting", id="tag"
        ),
        pytest.param({"event_name": "user_create"}, SYSTEM, "uninteresting", id="system"),
        pytest.param(
            payloads.repository_updated(payloads.change("main", payloads.ZERO, SHA)),
            SYSTEM,
            "ignored_branch",
            id="many",
        ),
    ],
)
def test_what_is_of_no_interest_is_a_204(payload: dict[str, Any], headers: dict[str, str], outcome: str) -> None:
    rules = [{"branches": ["main"], "action": "ignore"}, {"branches": ["*"]}]
    world = World(projects=(project(rules=rules),))
    answer = world.post(payload, headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert world.shelf == Shelf()
    assert world.count(outcome) == 1


def test_what_is_ignored_is_said_once_for_each_project_and_rule() -> None:
    world = World(projects=(project(rules=[{"branches": ["main", "release/*"], "action": "ignore"}]),))
    ignored = [payloads.push_created(branch, SHA) for branch in ("main", "release/1", "unmatched", "unmatched/2")]
    unknown = [payloads.push_created("x", SHA, 99, path) for path in ("group/a", "group/a", "group/b")]
    with capture_logs() as logs:
        world.post_all([*ignored, *unknown])
    assert [entry["log_level"] for entry in logs] == ["info", "debug", "info", "debug", "info", "debug", "info"]


def test_the_deletion_of_a_branch_that_a_rule_ignores_is_recorded() -> None:
    world = World(projects=(project(rules=[{"branches": ["*"], "action": "ignore"}]),))
    assert world.post(payloads.push_deleted("feature/x", SHA)).status_code == 202
    assert [name for name, _ in world.shelf.recorded] == ["shop"]


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x-gitlab-event": "Push Hook"}, id="none"),
        pytest.param(Q | {"x-gitlab-token": "wrong"}, id="wrong"),
        pytest.param(Q | {"x-gitlab-token": "schl\xfcssel"}, id="not ASCII"),
    ],
)
def test_a_wrong_token_is_a_401_without_a_word_and_the_body_is_not_read(headers: dict[str, str]) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async def story() -> httpx.Response:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        async with client(world.app) as http:
            return await http.post("/webhooks/gitlab", content=never(), headers=raw)

    world = World()
    answer = asyncio.run(story())
    assert (answer.status_code, answer.content) == (401, b"")
    assert world.count("unauthenticated") == 1
    assert world.shelf.recorded == []


@dataclass
class Signed:
    """Headers of a delivery that is signed; by default as GitLab does it now."""

    payload: object
    key: bytes = KEY
    ago: int = 0

    def headers(self, **more: str) -> dict[str, str]:
        moment = str(int(time.time()) - self.ago)
        digest = hmac.digest(self.key, f"f5e5f430.{moment}.".encode() + _body(self.payload), "sha256")
        signature = "v1," + b64encode(digest).decode()
        mine = {"webhook-id": "f5e5f430", "webhook-timestamp": moment, "webhook-signature": signature}
        return {"x-gitlab-event": "Push Hook"} | mine | {name.replace("_", "-"): value for name, value in more.items()}


SIGNING = {"signing_keys": (SecretBytes(b"o" * 32), SecretBytes(KEY))}


@pytest.mark.parametrize(
    ("headers", "limits", "status"),
    [
        pytest.param(lambda: Signed(CREATED).headers(), SIGNING, 202, id="signed"),
        pytest.param(lambda: Signed(CREATED, b"o" * 32).headers(), SIGNING, 202, id="signed with the older key"),
        pytest.param(lambda: Signed(CREATED).headers(x_gitlab_token="gone"), SIGNING, 202, id="beside an old token"),
        pytest.param(lambda: Signed(CREATED, b"x" * 32).headers(), SIGNING, 401, id="signed by somebody else"),
        pytest.param(
            lambda: Signed(CREATED, b"x" * 32).headers(x_gitlab_token=TOKEN), SIGNING, 401, id="no falling back"
        ),
        pytest.param(lambda: Signed(CREATED, ago=400).headers(), SIGNING, 401, id="signed long ago"),
        pytest.param(lambda: Signed(CREATED).headers(x_gitlab_token=TOKEN), {}, 401, id="no key to verify it with"),
        pytest.param(lambda: Q, SIGNING, 202, id="token alone"),
        pytest.param(lambda: Q, SIGNING | {"require_signature": True}, 401, id="token alone where that is not enough"),
        pytest.param(
            lambda: Signed(CREATED).headers(), SIGNING | {"require_signature": True}, 202, id="signed, as required"
        ),
    ],
)
def test_a_signature_that_is_there_decides(
    headers: Callable[[], dict[str, str]], limits: dict[str, Any], status: int
) -> None:
    world = World(limits=limits)
    answer = world.post(CREATED, headers())  # signed now, not when the tests were collected
    assert answer.status_code == status
    assert len(world.shelf.recorded) == (status == 202)
    assert status == 202 or answer.content == b""


def test_why_a_delivery_is_not_authentic_is_logged_and_not_answered() -> None:
    with capture_logs() as logs:
        answer = World().post(CREATED, Signed(CREATED).headers(x_gitlab_token=TOKEN))
    assert answer.content == b""
    assert logs[0]["reason"] == "there is a signature, and no signing token is configured to verify it with"


def test_a_signed_body_is_verified_before_anybody_parses_it() -> None:
    world = World(limits=SIGNING)
    assert world.post(b"{", Signed(CREATED).headers()).status_code == 401
    assert world.post(b"{", Signed(b"{").headers()).status_code == 400


@pytest.mark.parametrize(
    "change",
    [{"webhook-id": ""}, {"webhook-timestamp": "1"}, {"webhook-signature": "v1,x"}, {"webhook-timestamp": "x"}],
)
def test_a_body_is_not_read_if_its_signature_cannot_be_good(change: dict[str, str]) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    assert World(limits=SIGNING).post(never(), Signed(CREATED).headers() | change).status_code == 401


def test_a_replay_changes_nothing() -> None:
    world, headers = World(limits=SIGNING), Signed(CREATED).headers()
    answers = world.post_all([CREATED, CREATED], headers)
    assert [answer.status_code for answer in answers] == [202, 202]
    assert world.shelf.recorded[0] == world.shelf.recorded[1]


def test_many_bodies_of_strangers_do_not_fill_the_memory() -> None:
    """Ten strangers send a lot and do not end; a signed delivery among them is small, and passes."""

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 180_000
        while True:
            if world.count("crowded"):
                waiting.set()
            await asyncio.sleep(0.001)
            yield b"x"

    async def story() -> list[int]:
        async with client(world.app) as http:
            headers = Signed(CREATED).headers()
            strangers = [
                asyncio.create_task(http.post("/webhooks/gitlab", content=endless(), headers=headers))
                for _ in range(10)
            ]
            await waiting.wait()
            answer = await http.post("/webhooks/gitlab", content=_body(CREATED), headers=headers)
            return [answer.status_code, *(one.status_code for one in await asyncio.gather(*strangers))]

    waiting = asyncio.Event()
    world = World(limits=SIGNING | {"strangers_limit_bytes": 500_000, "body_seconds": 0.3})
    valid, *others = asyncio.run(story())
    assert valid == 202
    assert set(others) == {503, 408}
    assert world.count("crowded") == others.count(503) > 0


# --- Merge requests

FILTERED = [{"branches": ["*"], "merge_request": {"labels": ["preview"]}}]


def test_a_merge_request_is_recorded_in_every_project_that_it_counts_for() -> None:
    world = World(projects=(project(rules=FILTERED), project("mirror", 15, rules=FILTERED), project("plain")))
    answer = world.post(payloads.merge_request(labels=("preview",)), MERGE)
    assert answer.status_code == 202
    assert answer.json() == {"environments": [slug("shop", "feature/x"), slug("mirror", "feature/x")]}
    wanted = Wanted(SHA, only_missing=True)
    assert world.shelf.news == [("shop", "feature/x", wanted), ("mirror", "feature/x", wanted)]


def test_a_merge_request_that_ends_is_a_question_and_nothing_more() -> None:
    world = World(projects=(project(rules=FILTERED),))
    assert world.post(payloads.merge_request("merge"), MERGE).status_code == 202
    assert world.shelf.news == [("shop", "feature/x", Questioned("!12 is merged"))]
    assert world.count("doubt", "envprov_records_total") == 1


def test_a_push_to_a_branch_that_waits_for_a_merge_request_reaches_the_recorder() -> None:
    world = World(projects=(project(rules=FILTERED),))
    assert world.post(payloads.push_updated("feature/x", SHA)).status_code == 202
    assert [name for name, _ in world.shelf.recorded] == ["shop"]


def test_one_line_says_what_became_of_a_merge_request() -> None:
    with capture_logs() as logs:
        World(projects=(project(rules=FILTERED),)).post(payloads.merge_request(labels=("preview",)), MERGE)
    (entry,) = logs
    del entry["seconds"]
    assert entry == {
        "event": "delivery",
        "log_level": "info",
        "outcome": "recorded",
        "status": 202,
        "records": ("create",),
        "environments": [slug("shop", "feature/x")],
        "project": "group/shop",
        "branch": "feature/x",
        "merge_request": 12,
        "action": "open",
        "revision": SHA,
    }


# --- Commands


def willing(name: str = "shop", gitlab: str | int = "group/shop", role: str = "developer") -> Project:
    given = project(name, gitlab).model_dump(mode="json", by_alias=True)
    given["spec"]["gitlab"]["commands"] = {"role": role}
    return Project.model_validate(given)


def test_a_command_is_left_for_the_controller_of_each_project_that_takes_any() -> None:
    world = World(projects=(willing(), project("plain"), willing("mirror", 15)))
    answer = world.post(payloads.note("/envprov extend 3d"), NOTE)
    assert answer.status_code == 202
    assert answer.json() == {"requests": ["command-1244-shop", "command-1244-mirror"]}
    assert [(name, command.text) for name, command in world.shelf.commands] == [
        ("shop", "/envprov extend 3d"),
        ("mirror", "/envprov extend 3d"),
    ]
    assert world.count("requested") == 1


def test_a_command_that_cannot_be_left_is_a_503() -> None:
    world = World(projects=(willing(),), shelf=Shelf(errors={"shop": Unavailable("create ConfigMap: refused")}))
    assert world.post(payloads.note("/envprov up"), NOTE).status_code == 503
    stuck = World(projects=(willing(),), shelf=Shelf(stuck={"*"}), limits={"record_seconds": 0.05})
    assert stuck.post(payloads.note("/envprov up"), NOTE).status_code == 503


def test_the_log_tells_neither_what_a_command_says_nor_whose_it_is() -> None:
    with capture_logs() as logs:
        World(projects=(willing(),)).post(payloads.note("/envprov hunter2"), NOTE)
    assert "hunter2" not in repr(logs)
    assert "jsmith" not in repr(logs)
    assert logs[0]["requests"] == ["command-1244-shop"]


# --- Many branches at once


def many(count: int) -> dict[str, Any]:
    return payloads.repository_updated(
        *(payloads.change(f"feature/{number}", payloads.ZERO, SHA) for number in range(count))
    )


def test_all_branches_of_one_push_are_recorded() -> None:
    world = World(projects=(project(), project("mirror", 15)))
    answer = world.post(many(20), SYSTEM)
    assert answer.status_code == 202
    assert len(answer.json()["environments"]) == 40
    assert {event.branch for _, event in world.shelf.recorded} == {f"feature/{number}" for number in range(20)}
    assert world.shelf.sweeps == []
    assert world.count("create", "envprov_records_total") == 40


def test_more_than_twenty_branches_leave_a_sweep_first() -> None:
    world = World(projects=(project(), project("mirror", 15), project("other", "group/other")))
    with capture_logs() as logs:
        answer = world.post(many(21), SYSTEM)
    assert answer.status_code == 202
    assert answer.json()["requests"] == ["sweep-shop", "sweep-mirror"]
    assert len(answer.json()["environments"]) == 42
    assert logs[0]["outcome"] == "recorded"
    assert logs[0]["branches"] == 21
    assert len(logs[0]["environments"]) == 20  # the log does not list them all


def test_the_sweep_makes_up_for_branches_that_could_not_be_written_in_time() -> None:
    world = World(shelf=Shelf(stuck={"feature/3", "feature/19"}), limits={"record_seconds": 0.1})
    answer = world.post(many(21), SYSTEM)
    assert answer.status_code == 202
    assert len(answer.json()["environments"]) == 19
    assert answer.json()["requests"] == ["sweep-shop"]
    assert world.count("left_to_sweep") == 1


def test_up_to_twenty_branches_in_too_long_a_time_are_a_503() -> None:
    world = World(shelf=Shelf(stuck={"feature/3"}), limits={"record_seconds": 0.1})
    assert world.post(many(20), SYSTEM).status_code == 503
    assert world.count("unavailable") == 1
    assert world.shelf.sweeps == []


def test_without_its_sweep_a_branch_that_could_not_be_written_is_a_503() -> None:
    errors: dict[str, Exception] = {"shop": Unavailable("create ConfigMap: refused")}
    broken = Shelf(stuck={"feature/3"}, sweep_errors=errors)
    assert World(shelf=broken, limits={"record_seconds": 0.1}).post(many(21), SYSTEM).status_code == 503
    whole = World(shelf=Shelf(sweep_errors=errors)).post(many(21), SYSTEM)
    assert (whole.status_code, len(whole.json()["environments"])) == (202, 21)


def test_of_many_branches_only_those_that_a_rule_wants_are_recorded() -> None:
    world = World(projects=(project(rules=[{"branches": ["feature/1*"]}, {"branches": ["*"], "action": "ignore"}]),))
    world.post(many(20), SYSTEM)
    assert sorted(event.branch for _, event in world.shelf.recorded) == [
        "feature/1",
        *(f"feature/{number}" for number in range(10, 20)),
    ]


def test_an_old_token_opens_while_tokens_are_rotated() -> None:
    assert World().post(CREATED, Q | {"x-gitlab-token": "old-secret"}).status_code == 202


def test_a_malformed_delivery_is_a_400_with_the_reason() -> None:
    world = World()
    answer = world.post(CREATED | {"after": "zzz"})
    assert answer.status_code == 400
    assert answer.json() == {"error": "after must be a commit of 40 or 64 hexadecimal digits"}
    assert world.shelf.recorded == []
    assert world.count("rejected") == 1


@pytest.mark.parametrize("length", ["1048577", "9" * 5000])
def test_a_body_that_says_it_is_too_large_is_a_413(length: str) -> None:
    world = World()
    answer = world.post(b"", Q | {"content-length": length})
    assert answer.status_code == 413
    assert world.count("too_large") == 1


@pytest.mark.parametrize("length", ["-1", "1e3", "\u0661", "10, 10"])
def test_a_length_that_is_no_number_is_a_400(length: str) -> None:
    async def story() -> httpx.Response:
        raw = [(name.encode(), value.encode()) for name, value in (Q | {"content-length": length}).items()]
        async with client(World().app) as http:
            return await http.post("/webhooks/gitlab", content=b"", headers=raw)

    assert asyncio.run(story()).status_code == 400


def test_a_body_that_is_larger_than_it_says_is_a_413() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500_000

    world = World()
    assert world.post(chunks()).status_code == 413


def test_a_body_of_exactly_the_limit_is_read() -> None:
    padded = CREATED | {"message": ""}
    room = (1 << 20) - len(json.dumps(padded))
    assert World().post(padded | {"message": "x" * room}).status_code == 202
    assert World().post(padded | {"message": "x" * (room + 1)}).status_code == 413


def test_a_body_that_does_not_come_is_a_408() -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    world = World(limits={"body_seconds": 0.05})
    assert world.post(stuck()).status_code == 408
    assert world.count("slow") == 1


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        pytest.param(Unavailable("get Environment: connection refused"), "5", id="unreachable"),
        pytest.param(Throttled("create Environment: too many requests", retry_after=1.2), "2", id="throttled"),
        pytest.param(Forbidden("create Environment: not allowed"), "5", id="not allowed"),
    ],
)
def test_a_record_that_cannot_be_written_is_a_503(error: EnvprovError, retry_after: str) -> None:
    world = World(shelf=Shelf(errors={"shop": error}))
    answer = world.post(CREATED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, retry_after)
    assert world.count("unavailable") == 1


def test_a_record_that_takes_too_long_is_a_503() -> None:
    world = World(shelf=Shelf(stuck={"*"}), limits={"record_seconds": 0.05})
    assert world.post(CREATED).status_code == 503


def test_while_the_projects_are_not_known_it_is_a_503() -> None:
    world = World(projects=None)
    answer = world.post(CREATED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert world.count("not_synced") == 1


def test_a_name_that_another_branch_has_is_no_reason_to_disable_the_hook() -> None:
    world = World(shelf=Shelf(errors={"shop": NameTaken("feature/x and feature/y")}))
    with capture_logs() as logs:
        assert world.post(CREATED).status_code == 204
    assert logs[0]["log_level"] == "error"
    assert logs[0]["reason"] == "feature/x and feature/y"
    both = World(shelf=world.shelf, projects=(project(), project("mirror", 15)))
    assert both.post(CREATED).json() == {"environments": [slug("mirror", "feature/x")]}


def test_probes() -> None:
    async def unreachable() -> None:
        raise Unavailable("get /readyz: https://user:secret@server refused")

    async def silent() -> None:
        await asyncio.Event().wait()

    assert World().get("/healthz").status_code == 200
    assert World().get("/readyz").text == "ok\n"
    assert World(projects=None).get("/healthz").status_code == 200
    for world, reason in (
        (World(projects=None), "the Projects are not known yet\n"),
        (World(probe=unreachable), "the API server cannot be reached (Unavailable)\n"),
        (World(probe=silent), "the API server does not answer in time\n"),
    ):
        answer = world.get("/readyz")
        assert (answer.status_code, answer.text) == (503, reason)


def test_metrics_are_there_before_anything_has_happened() -> None:
    text = World().get("/metrics").text
    assert 'envprov_deliveries_total{outcome="unauthenticated"} 0.0' in text
    assert 'envprov_records_total{outcome="late"} 0.0' in text
    assert 'envprov_records_total{outcome="doubt"} 0.0' in text


def test_neither_tokens_nor_bodies_are_logged_or_answered(capsys: pytest.CaptureFixture[str]) -> None:
    secret = "body-secret-5309"
    world = World()
    marked = CREATED | {"message": secret, "user_email": secret}
    with capture_logs() as logs:
        answers = [
            *world.post_all([marked, marked | {"ref": secret}, marked | {"before": secret}, f'{{"{secret}'.encode()]),
            world.post(marked, Q | {"x-gitlab-token": "wrong-" + TOKEN}),
            world.post(marked, Q | {"x-gitlab-event": secret}),
        ]
    said = repr(logs) + "".join(answer.text + str(answer.headers) for answer in answers) + "".join(capsys.readouterr())
    assert [answer.status_code for answer in answers] == [202, 204, 400, 400, 401, 204]
    assert len(logs) == 6
    assert TOKEN not in said
    assert "old-secret" not in said
    assert secret not in said


def test_one_line_for_each_delivery_says_what_became_of_it() -> None:
    with capture_logs() as logs:
        World().post(CREATED)
    (entry,) = logs
    assert entry.pop("seconds") < 1
    assert entry == {
        "event": "delivery",
        "log_level": "info",
        "outcome": "recorded",
        "status": 202,
        "records": ("create",),
        "environments": [slug("shop", "feature/x")],
        "project": "group/shop",
        "branch": "feature/x",
        "kind": "created",
        "revision": SHA,
    }


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_posts_are_deliveries(method: str) -> None:
    async def story() -> httpx.Response:
        async with client(World().app) as http:
            return await http.request(method, "/webhooks/gitlab", headers=Q)

    assert asyncio.run(story()).status_code == 405


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.one_of(
        st.binary(),
        junk.map(lambda value: json.dumps(value).encode()),
        st.builds(
            lambda sample, name, value: sample | {name: value},
            st.sampled_from(
                [CREATED, payloads.repository_updated(), payloads.merge_request(), payloads.note("/envprov x")]
            ),
            st.sampled_from(["ref", "changes", "object_attributes", "merge_request", "project", "user", "event_name"]),
            junk,
        ),
    ),
    st.sampled_from(["Push Hook", "System Hook", "Merge Request Hook", "Note Hook", ""]),
)
def test_whatever_is_sent_is_never_our_fault(content: object, hook: str) -> None:
    assert World().post(content, Q | {"x-gitlab-event": hook}).status_code in {202, 204, 400}
