"""The receiver's answers, its log and its metrics, without network or cluster."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from structlog.testing import capture_logs

from envprov.domain.deliveries import Absent, BranchEvent, Recorded, decide
from envprov.domain.errors import EnvprovError, Forbidden, NameTaken, Throttled, Unavailable
from envprov.domain.names import slug
from envprov.domain.project import Project
from tests import payloads
from webhooks.app import ReceiverSettings, create_app

TOKEN = "correct-horse-battery"
SHA = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
Q = {"x-gitlab-token": TOKEN, "x-gitlab-event": "Push Hook"}


@dataclass
class Shelf:
    """A recorder that remembers what it was told, and fails on demand."""

    recorded: list[tuple[str, BranchEvent]] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    stuck: bool = False

    async def record(self, project: Project, event: BranchEvent) -> Recorded:
        if self.stuck:
            await asyncio.Event().wait()
        if project.name in self.errors:
            raise self.errors[project.name]
        self.recorded.append((project.name, event))
        return Recorded(slug(project.name, event.branch), decide(Absent(), event))


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
        settings = ReceiverSettings((SecretStr("old-secret"), SecretStr(TOKEN)), **self.limits)
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
        pytest.param(
            payloads.merge_request_opened(), Q | {"x-gitlab-event": "Merge Request Hook"}, "uninteresting", id="merge"
        ),
        pytest.param(
            payloads.tag_pushed("v1", SHA), Q | {"x-gitlab-event": "Tag Push Hook"}, "uninteresting", id="tag"
        ),
        pytest.param(
            payloads.repository_updated(), Q | {"x-gitlab-event": "System Hook"}, "uninteresting", id="system"
        ),
    ],
)
def test_what_is_of_no_interest_is_a_204(payload: dict[str, Any], headers: dict[str, str], outcome: str) -> None:
    rules = [{"branches": ["main"], "action": "ignore"}, {"branches": ["*"]}]
    world = World(projects=(project(rules=rules),))
    answer = world.post(payload, headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert world.shelf.recorded == []
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
    world = World(shelf=Shelf(stuck=True), limits={"record_seconds": 0.05})
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
        st.builds(lambda name, value: CREATED | {name: value}, st.sampled_from(sorted(CREATED)), junk),
    ),
    st.sampled_from(["Push Hook", "System Hook", "Note Hook", ""]),
)
def test_whatever_is_sent_is_never_our_fault(content: object, hook: str) -> None:
    assert World().post(content, Q | {"x-gitlab-event": hook}).status_code in {202, 204, 400}
