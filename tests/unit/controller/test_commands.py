"""Commands of merge requests in a small world: done once and answered once, whatever is lost or cut short."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from envprov.controller.commands import Commander
from envprov.controller.metrics import ErrandMetrics
from envprov.domain.commands import (
    KEPT,
    LATE,
    PATIENCE,
    Act,
    Command,
    Down,
    Extend,
    Pin,
    Redeploy,
    Rest,
    decode,
    encode,
    reply_marker,
)
from envprov.domain.environment import Environment
from envprov.domain.errors import (
    Conflict,
    EnvprovError,
    Forbidden,
    ForgeForbidden,
    InvalidRecord,
    RetryableError,
    Throttled,
    Unavailable,
)
from envprov.domain.lifetime import Extension
from envprov.domain.project import Project
from tests.unit.builders import NOW, SLUG, UID, environment, project, reported
from tests.unit.fakes import Clock, Faults
from tests.unit.showcase import FakeGitLab

ADA, EVE = 5, 6
DEVELOPER, REPORTER = 30, 20
ENDS = "2026-12-01T12:00:00Z"
A_WEEK_ON = datetime.fromisoformat(ENDS)


class Killed(BaseException):
    """The end of the process in the middle of a call: nobody tidies up."""


def killed() -> EnvprovError:
    raise Killed


@dataclass
class Book:
    """
    The records of feature/x, as commands see them.

    Attributes:
        faults: Shared with GitLab.
        live: The Environment.
        requests: Commands by name.
        unreadable: When records were made that nobody can read.
        done: What was done and had an effect, in order.
        fault: Why nothing can be done.

    """

    faults: Faults
    live: Environment | None = None
    rules: Project | InvalidRecord | None = None
    requests: dict[str, Command] = field(default_factory=dict)
    unreadable: dict[str, datetime] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    fault: EnvprovError | None = None
    versions: int = 0

    def commands(self, environment: str) -> tuple[Command, ...]:
        assert environment == SLUG
        return tuple(self.requests.values())

    def environment(self, name: str) -> Environment | None:
        assert name == SLUG
        return self.live

    def project(self, name: str) -> Project | None:
        assert name == "shop"
        if isinstance(self.rules, InvalidRecord):
            raise self.rules
        return self.rules

    async def save(self, command: Command) -> Command:
        number = self.faults.begin("save")
        if self.requests[command.name].version != command.version:
            raise Conflict("the command has changed")
        self.versions += 1
        saved = replace(command, version=str(self.versions))
        # On record, an act is text.
        self.requests[command.name] = replace(saved, act=decode(encode(command.act)) if command.act else None)
        self.faults.end(number)
        return saved

    async def forget(self, command: Command) -> None:
        number = self.faults.begin("forget")
        self.requests.pop(command.name, None)
        self.faults.end(number)

    def unreadable_since(self, name: str) -> datetime | None:
        return self.unreadable.get(name)

    async def discard(self, name: str) -> None:
        number = self.faults.begin("discard")
        del self.unreadable[name]
        self.faults.end(number)

    async def carry_out(self, environment: str, act: Act) -> bool:
        assert environment == SLUG
        number = self.faults.begin("carry out")
        if self.fault is not None:
            raise self.fault
        was_there = self.live is not None and self.live.uid == act.uid and not self.live.deleting
        if self.live is not None and was_there:
            self._do(self.live, act)
        self.faults.end(number)
        return was_there

    def _do(self, live: Environment, act: Act) -> None:
        match act:
            case Pin(pinned=pinned):
                spec = live.spec.model_copy(update={"pinned": pinned})
                self._change(live, f"pinned {pinned}", spec=spec)
            case Rest(asleep=asleep):
                spec = live.spec.model_copy(update={"asleep": asleep})
                self._change(live, f"asleep {asleep}", spec=spec)
            case Down():
                self._change(live, "down", deleting=True)
            case Extend(extension=extension):
                self._change(live, "extended", annotations={"extended": extension.encode()})
            case Redeploy(at=at):
                self._change(live, "redeployed", annotations={"redeploy": at.isoformat()})

    def _change(self, live: Environment, what: str, **update: Any) -> None:  # noqa: ANN401 - any field
        after = live.model_copy(update=update)
        if after != live:
            self.done.append(what)
        self.live = after


@dataclass
class Shop:
    """Project shop with feature/x, its merge request !3, and who serves its commands."""

    gitlab: FakeGitLab = field(default_factory=lambda: FakeGitLab(roles={ADA: DEVELOPER, EVE: REPORTER}))
    clock: Clock = field(default_factory=lambda: Clock(NOW))

    def __post_init__(self) -> None:
        self.book = Book(self.gitlab.faults)
        self.book.live = reported(
            environment(lifetime={"kind": "expire-after", "idle": "P7D"}), {"expiresAt": ENDS, "observedGeneration": 1}
        )
        self.book.rules = project(gitlab={"project": "group/shop", "commands": {}})
        self.gitlab.open(3)
        self.restart()

    def restart(self) -> None:
        self.registry = CollectorRegistry()
        self.commander = Commander(self.gitlab, self.book, self.clock, ErrandMetrics(self.registry))

    def say(self, text: str, *, author: int = ADA, thread: str = "d1") -> str:
        """Write a command, which the receiver puts on record."""
        note = self.gitlab.comment(3, text, author=author)
        self.gitlab.discussions[thread] = 3
        command = Command(
            name=f"command-{note.id}-shop",
            project="shop",
            branch="feature/x",
            iid=3,
            note_id=note.id,
            discussion_id=thread,
            author_id=author,
            text=text,
            created_at=self.clock(),
        )
        self.book.requests[command.name] = command
        return command.name

    def serve(self) -> timedelta | None:
        return asyncio.run(self.commander(SLUG))

    def settle(self, *, restarts: bool = True) -> None:
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
    def answers(self) -> list[str]:
        """What was answered, without the markers."""
        return [body.partition("\n")[2] for body in self.gitlab.ours(3)]

    def outcome(self, verb: str, outcome: str) -> float:
        return self.registry.get_sample_value("envprov_commands_total", {"verb": verb, "outcome": outcome}) or 0.0


def answered(text: str, **changes: Any) -> str:  # noqa: ANN401 - any field of an Environment
    shop = Shop()
    assert shop.book.live is not None
    shop.book.live = shop.book.live.model_copy(update=changes)
    shop.say(text)
    shop.serve()
    (answer,) = shop.answers
    return answer


def test_a_member_pins_an_environment_and_is_answered_in_the_thread() -> None:
    shop = Shop()
    name = shop.say("/envprov pin")
    shop.serve()
    assert shop.book.done == ["pinned True"]
    assert shop.answers == ["Done: it is pinned and stays when its lifetime ends. `/envprov unpin` takes that back."]
    assert shop.gitlab.written == ["reply !3 d1"]
    assert shop.gitlab.ours(3)[0].startswith(reply_marker(shop.book.requests[name]))
    assert shop.outcome("pin", "answered") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/envprov extend 3d", "Done: it stays until 2026-12-04 12:00 UTC at least."),
        ("/envprov extend", "Done: its lifetime begins anew."),
        ("/envprov extend soon", "`soon` is no time above zero such as `3d`, `12h` or `1w3d`."),
        ("/envprov extend 3d 4d", "`extend` was not done: `3d 4d` was not understood."),
        ("/envprov unpin", "Done: it is no longer pinned and ends with its lifetime."),
        ("/envprov down", "Done: it is being taken down. The next push brings it back."),
        ("/envprov down now", "`down` was not done: `now` was not understood."),
        ("/envprov sleep", "Done: it falls asleep: nothing of it runs, and its data stays. `/envprov wake` wakes it."),
        ("/envprov wake", "It is not asleep: it is being deployed."),
        ("/envprov wake up", "`wake` was not done: `up` was not understood."),
        ("/envprov redeploy", "Done: the same commit is deployed once more."),
        ("/envprov dance @all", "There is no command `dance`.\n\n- `/envprov extend 3d`"),
        ("/envprov", "Which command?"),
        ("/envprov help", "- `/envprov extend 3d` lets it live longer"),
        ("/envprov help", "These take the role developer in the project."),
    ],
)
def test_what_is_answered(text: str, said: str) -> None:
    assert said in answered(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/envprov sleep", "It is asleep already: it is falling asleep. `/envprov wake` wakes it."),
        ("/envprov wake", "Done: it wakes up, and what was pushed meanwhile is deployed."),
        ("/envprov redeploy", "Not done: the environment is asleep, and nothing is deployed in its sleep."),
        ("/envprov extend 3d", "Done: it stays until 2026-12-04 12:00 UTC at least."),
    ],
)
def test_what_is_answered_while_it_sleeps(text: str, said: str) -> None:
    assert said in answered(text, spec=environment(asleep=True).spec, generation=2)


def test_sleep_and_waking_are_done_once() -> None:
    shop = Shop()
    for text in ("/envprov sleep", "/envprov sleep", "/envprov wake", "/envprov wake"):
        shop.say(text)
    shop.serve()
    assert shop.book.done == ["asleep True", "asleep False"]


def test_an_environment_without_an_end_cannot_be_extended() -> None:
    forever = reported(environment(), {}).status
    assert "There is nothing to extend" in answered("/envprov extend 3d", status=forever)


def test_an_extension_has_its_limit() -> None:
    shop = Shop()
    shop.book.rules = project(
        gitlab={"project": "group/shop", "commands": {}}, limits={"lifetime": "P8D", "environments": 5}
    )
    shop.say("/envprov extend 3d")
    shop.serve()
    assert "Not done: `the Project lets an environment be extended to 2026-12-02T12:00:00Z at most" in shop.answers[0]
    assert shop.book.done == []


def test_why_says_a_paragraph_and_the_conditions() -> None:
    condition = {
        "type": "Ready",
        "status": "False",
        "reason": "Stalled",
        "message": "no chart\n/close",
        "lastTransitionTime": "2026-11-24T11:30:00Z",
    }
    status = reported(environment(), {"observedGeneration": 1, "conditions": [condition]}).status
    assert answered("/envprov why", status=status).splitlines() == [
        "`The environment of branch feature/x is not up yet: it cannot go on: no chart /close.`",
        "",
        "- Ready is False, Stalled: `no chart /close`",
    ]


def test_who_lacks_the_role_is_told_which_one_it_takes() -> None:
    shop = Shop()
    shop.say("/envprov down", author=EVE)
    shop.say("/envprov down", author=99)
    shop.serve()
    assert shop.book.done == []
    assert [answer.split(".")[0] for answer in shop.answers] == [
        "Not done: this takes the role developer in the project"
    ] * 2


def test_a_role_that_cannot_be_read_gives_nothing() -> None:
    shop = Shop()
    shop.gitlab.refused["access_level"] = ForgeForbidden("403: this takes scope read_api")
    shop.say("/envprov down")
    shop.serve()
    assert shop.book.done == []
    assert shop.answers == ["Not done: `nobody's role can be read: 403: this takes scope read_api`"]


@pytest.mark.parametrize(
    "rules",
    [None, InvalidRecord("x"), project(), project(gitlab={"project": "group/shop"})],
    ids=["no Project", "unreadable", "not in GitLab", "commands are off"],
)
def test_where_commands_are_off_nothing_is_done_or_said(rules: Project | InvalidRecord | None) -> None:
    shop = Shop()
    shop.book.rules = rules
    shop.say("/envprov down")
    shop.serve()
    assert (shop.book.done, shop.answers, shop.gitlab.faults.calls) == ([], [], ["save"])
    assert shop.outcome("down", "off") == 1


def test_a_record_that_cannot_be_read_goes_when_it_is_too_late_to_be_carried_out() -> None:
    shop = Shop()
    shop.book.unreadable = {"command-1-shop": NOW - timedelta(minutes=50)}
    key = "configmap/command-1-shop"
    assert asyncio.run(shop.commander(key)) == timedelta(minutes=10)
    assert shop.book.unreadable
    shop.clock.advance(timedelta(minutes=10))
    assert asyncio.run(shop.commander(key)) is None
    assert shop.book.unreadable == {}
    assert asyncio.run(shop.commander(key)) is None
    assert shop.answers == []


def test_commands_are_carried_out_in_their_order() -> None:
    shop = Shop()
    first, second = shop.say("/envprov pin"), shop.say("/envprov unpin", thread="d2")
    shop.book.requests = {name: shop.book.requests[name] for name in (second, first)}
    shop.serve()
    assert shop.book.done == ["pinned True", "pinned False"]


def test_without_an_environment_the_way_out_is_named() -> None:
    shop = Shop()
    shop.book.live = None
    shop.say("/envprov pin")
    shop.serve()
    assert shop.answers == ["This branch has no environment now. A push brings it back, and so does `envprov up`."]


def test_an_environment_on_its_way_down_is_not_changed() -> None:
    assert answered("/envprov pin", deleting=True) == "Not done: the environment is being taken down."


def test_another_environment_than_the_one_that_was_meant_stays() -> None:
    shop = Shop()
    shop.gitlab.faults.at = 2  # the act is on record
    shop.gitlab.faults.error = lambda: Unavailable("the API server is away")
    shop.say("/envprov down")
    with pytest.raises(Unavailable):
        shop.serve()
    assert shop.book.live is not None
    shop.book.live = shop.book.live.model_copy(update={"uid": "another"})
    shop.serve()
    assert (shop.book.done, shop.book.live.deleting) == ([], False)


@pytest.mark.parametrize("text", ["/envprov why", "/envprov pin"])
def test_what_is_answered_is_what_went_on_record(text: str) -> None:
    shop = Shop()
    name = shop.say(text)
    shop.gitlab.refused["reply"] = Unavailable("502")
    with pytest.raises(Unavailable):
        shop.serve()
    answer = shop.book.requests[name].answer
    calls = shop.gitlab.faults.calls.count("carry out")
    shop.book.live = None
    del shop.gitlab.refused["reply"]
    shop.serve()
    assert shop.answers == [answer]
    assert shop.gitlab.faults.calls.count("carry out") == calls


def test_what_cannot_be_done_is_answered_with_the_reason() -> None:
    shop = Shop()
    shop.book.fault = Forbidden("the Project is frozen")
    shop.say("/envprov pin")
    shop.serve()
    assert shop.answers == ["Not done: `the Project is frozen`"]


def test_a_command_that_comes_too_late_is_not_carried_out() -> None:
    shop = Shop()
    shop.say("/envprov down")
    shop.clock.advance(LATE + timedelta(seconds=1))
    shop.serve()
    assert shop.book.done == []
    assert shop.answers[0].startswith("Not done: this came more than an hour after it was written.")


def test_a_delivery_that_is_sent_again_does_nothing_however_late() -> None:
    for age in (timedelta(0), LATE, LATE + KEPT, timedelta(days=7)):
        shop = Shop()
        name = shop.say("/envprov down")
        request = shop.book.requests[name]
        shop.serve()
        done, answers = list(shop.book.done), shop.answers
        shop.clock.advance(age)
        shop.serve()
        assert shop.book.live is not None
        shop.book.live = shop.book.live.model_copy(update={"deleting": False, "uid": "back again"})
        shop.book.requests.setdefault(name, request)  # created only if it is not there
        shop.settle()
        assert (shop.book.done, shop.answers) == (done, answers)


def test_a_command_is_forgotten_when_no_delivery_of_it_counts_any_more() -> None:
    shop = Shop()
    shop.say("/envprov pin")
    again = shop.serve()
    assert again == LATE + KEPT
    shop.clock.advance(again - timedelta(seconds=1))
    shop.serve()
    assert len(shop.book.requests) == 1
    shop.clock.advance(timedelta(seconds=1))
    assert shop.serve() is None
    assert shop.book.requests == {}


def test_an_old_gitlab_names_no_thread_and_is_answered_below() -> None:
    shop = Shop()
    shop.say("/envprov pin", thread="")
    shop.serve()
    assert shop.gitlab.written == ["note !3"]


def test_an_answer_that_nobody_can_take_is_given_up() -> None:
    shop = Shop()
    name = shop.say("/envprov pin")
    shop.gitlab.discussions.clear()
    shop.serve()
    assert shop.book.requests[name].done_at is not None
    assert shop.outcome("pin", "unanswered") == 1
    assert shop.book.done == ["pinned True"]


def test_an_answer_is_tried_for_a_day() -> None:
    shop = Shop()
    name = shop.say("/envprov pin")
    shop.gitlab.refused["reply"] = Throttled("429", retry_after=30)
    for _ in range(3):
        with pytest.raises(Throttled):
            shop.serve()
        shop.clock.advance(timedelta(hours=7))
    shop.clock.advance(PATIENCE)
    shop.serve()
    assert shop.book.done == ["pinned True"]
    assert shop.book.requests[name].done_at == shop.clock()


def test_an_answer_of_somebody_else_with_our_marker_is_not_ours() -> None:
    shop = Shop()
    name = shop.say("/envprov pin")
    shop.gitlab.comment(3, f"{reply_marker(shop.book.requests[name])}\nhaha", author=EVE)
    shop.serve()
    assert len(shop.answers) == 1


# --- Faults at every call


def story(shop: Shop, *, restarts: bool) -> None:
    for text, author in (("/envprov extend 3d", ADA), ("/envprov down", EVE), ("/envprov pin", ADA), ("/envprov", ADA)):
        shop.say(text, author=author)
        shop.settle(restarts=restarts)
        shop.clock.advance(timedelta(minutes=5))
    shop.say("/envprov down")
    shop.settle(restarts=restarts)


def undisturbed() -> Shop:
    shop = Shop()
    story(shop, restarts=False)
    return shop


EXPECTED = undisturbed()


def test_the_story_ends_as_it_should() -> None:
    assert EXPECTED.book.done == ["extended", "pinned True", "down"]
    assert len(EXPECTED.answers) == 5


@pytest.mark.parametrize("then", ["goes on", "starts again", "was killed"])
@pytest.mark.parametrize("lost", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", range(len(EXPECTED.gitlab.faults.calls) + 1))
def test_a_fault_at_any_call_changes_nothing_in_the_end(call: int, lost: bool, then: str) -> None:  # noqa: FBT001 - rows
    shop = Shop()
    faults = shop.gitlab.faults
    faults.at, faults.lost = call, lost
    faults.error = killed if then == "was killed" else lambda: Unavailable("the connection broke")
    story(shop, restarts=then == "starts again")
    assert shop.book.done == EXPECTED.book.done
    assert shop.answers == EXPECTED.answers
    assert all(command.done_at for command in shop.book.requests.values())


# --- What is on record


@pytest.mark.parametrize(
    "act",
    [
        Pin(UID, pinned=True),
        Pin(UID, pinned=False),
        Down(UID),
        Extend(UID, Extension(NOW, A_WEEK_ON)),
        Redeploy(UID, NOW + timedelta(seconds=7)),
        Rest(UID, asleep=True),
        Rest(UID, asleep=False),
    ],
)
def test_an_act_is_read_as_it_was_written(act: Act) -> None:
    assert decode(encode(act)) == act


@given(
    st.one_of(st.text(max_size=20), st.sampled_from(['{"do":"dance","uid":"1"}', '{"do":"extend","uid":"1"}', "[]"]))
)
def test_what_is_no_act_is_none(text: str) -> None:
    assert decode(text) is None
