"""The guard's loop: it acts on what was decided, releases nothing while blind or disarmed, and goes on after errors."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from envprov.controller.guardian import Environs, Guardian
from envprov.controller.metrics import GuardMetrics
from envprov.domain.errors import Conflict, EnvprovError, Forbidden, HoldLost, Unavailable
from envprov.domain.guard import DELETE_WITH_LAST_USER, Acquire, Grace, Guarded, Release
from envprov.domain.holds import Account, Hold, Holder
from envprov.domain.usage import Claim, Strength, Usage
from tests.unit.builders import CONTROL, NAMESPACE, NOW, SLUG, UID
from tests.unit.fakes import Clock

ENVIRONMENT = Holder("Environment", CONTROL, SLUG, UID)
ENVIRONS = Environs({NAMESPACE: ENVIRONMENT}, frozenset({UID}))
BINDING = Holder("RoleBinding", "prod", "deployers", "uid-binding")
GRACE = Grace(timedelta(seconds=60), 2)
MINUTE = timedelta(minutes=1)


def shared(name: str = "deployer", *holders: Holder, **more: object) -> Guarded:
    holds = tuple(Hold(holder, NOW - timedelta(days=1), "spec", read_key=holder.key) for holder in holders)
    given = Guarded(
        Account("shared", name), f"u-{name}", "u-ns", shared=True, used=True, holds=holds, namespace_holds=holds
    )
    return replace(given, **more)  # type: ignore[arg-type]  # any of its fields


def using(*names: str, holder: Holder = BINDING) -> Usage:
    accounts = [Account("shared", name) for name in names]
    return Usage({account: (Claim(account, holder, Strength.GRANT, "subject"),) for account in accounts})


@dataclass
class FakeEdge:
    """
    A cluster that answers as told and notes what is done to it.

    Attributes:
        accounts: What is guarded.
        graph: Who uses what.
        is_armed: Whether the policies are in force.
        refuses: By verb and account, the error that it ends with.
        fails: What any reading ends with.
        done: What was done, in words.
        told: Account, reason and message of each Event.
        looked: How many passes have begun.
        asked: Requests for a look, and how many passes had begun when each was taken away.
        while_looking: Called in each pass.
        when_removed: Called when an account is deleted.

    """

    accounts: tuple[Guarded, ...] = ()
    graph: Usage = field(default_factory=Usage)
    is_armed: bool = True
    refuses: dict[str, EnvprovError] = field(default_factory=dict)
    fails: Exception | None = None
    done: list[str] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)
    looked: int = 0
    asked: list[int | None] = field(default_factory=list)
    while_looking: Callable[[], object] = lambda: None
    when_removed: Callable[[], object] = lambda: None

    async def guarded(self) -> tuple[Guarded, ...]:
        self.looked += 1
        self.while_looking()
        if self.fails is not None:
            raise self.fails
        return self.accounts

    async def usage(self) -> Usage:
        return self.graph

    async def environs(self) -> Environs:
        return ENVIRONS

    async def heed(self) -> None:
        self.asked = [self.looked if taken is None else taken for taken in self.asked]

    async def armed(self) -> bool:
        self.done.append("armed?")
        return self.is_armed

    async def acquire(self, acquire: Acquire) -> None:
        self._do("acquire", acquire.guarded)

    async def release(self, releases: Sequence[Release]) -> None:
        many = f" {len(releases)} times" if len(releases) > 1 else ""
        self._do("release", releases[0].guarded, many)

    async def mark_used(self, guarded: Guarded) -> None:
        self._do("mark", guarded)

    async def remove(self, guarded: Guarded) -> None:
        self.when_removed()
        self._do("remove", guarded)

    async def strip_owners(self, guarded: Guarded) -> None:
        self._do("strip", guarded)

    async def tell(self, guarded: Guarded, reason: str, message: str) -> None:
        self.told.append((guarded.account.name, reason, message))

    def _do(self, verb: str, guarded: Guarded, more: str = "") -> None:
        words = f"{verb} {guarded.account.name}{more}"
        self.done.append(words)
        if words in self.refuses:
            raise self.refuses[words]


@dataclass
class World:
    """A cluster, a clock and the guard between them."""

    edge: FakeEdge
    auto: frozenset[str] = frozenset()
    interval: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        self.clock = Clock(NOW)
        self.registry = CollectorRegistry()
        self.guardian = Guardian(
            self.edge,
            now=self.clock,
            interval=self.interval,
            grace=GRACE,
            auto_release=self.auto,
            metrics=GuardMetrics(self.registry),
        )

    def look(self, times: int = 1) -> list[str]:
        """Make passes a minute apart; what the last one did."""

        async def story() -> None:
            for _ in range(times):
                self.edge.done.clear()
                await self.guardian.look()
                self.clock.advance(MINUTE)

        asyncio.run(story())
        return self.edge.done

    def gauge(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"envprov_guard_{name}")


def forgotten(*names: str) -> tuple[Guarded, ...]:
    """Accounts with a hold that nothing speaks for any more."""
    return tuple(shared(name, BINDING) for name in names)


# --- Puts on and takes off


def test_who_uses_an_account_gets_a_hold_at_once() -> None:
    world = World(FakeEdge((shared(),), using("deployer")))
    assert world.look() == ["acquire deployer"]


def test_holds_that_stand_and_are_needed_are_left_alone() -> None:
    world = World(FakeEdge((shared("deployer", BINDING),), using("deployer")))
    assert world.look(4) == []


def test_a_first_user_is_written_down() -> None:
    world = World(FakeEdge((shared("deployer", BINDING, used=False),), using("deployer")))
    assert world.look() == ["mark deployer"]


def test_a_hold_goes_only_after_its_grace_and_with_the_policies_in_force() -> None:
    world = World(FakeEdge(forgotten("deployer")))
    assert world.look() == []
    assert world.look() == ["armed?", "release deployer"]
    assert world.gauge("releases_total") == 1


def test_a_pass_says_whether_another_one_soon_may_release_something() -> None:
    async def story() -> tuple[bool, bool]:
        used = World(FakeEdge((shared("deployer", BINDING),), using("deployer"))).guardian
        return await World(FakeEdge(forgotten("deployer"))).guardian.look(), await used.look()

    assert asyncio.run(story()) == (True, False)


def test_after_a_restart_the_grace_begins_anew() -> None:
    edge = FakeEdge((*forgotten("deployer"), shared("ci", policy=DELETE_WITH_LAST_USER)))
    assert World(edge).look() == []
    again = World(edge)
    assert again.look() == []
    assert again.look() == ["armed?", "release deployer", "remove ci"]


def test_a_hold_that_is_needed_again_begins_its_grace_anew() -> None:
    edge = FakeEdge(forgotten("deployer"))
    world = World(edge)
    world.look()
    edge.graph = using("deployer")
    world.look()
    edge.graph = Usage()
    assert world.look() == []
    assert world.look() == ["armed?", "release deployer"]


def test_an_account_goes_with_its_last_user_if_its_policy_says_so() -> None:
    world = World(FakeEdge((shared(policy=DELETE_WITH_LAST_USER),)))
    assert world.look() == []
    assert world.look() == ["armed?", "remove deployer"]


def ending(late: Usage) -> World:
    """An account that goes with its last user, and who is seen to use it once it is gone."""
    edge = FakeEdge((shared("ci", policy=DELETE_WITH_LAST_USER), shared("old", BINDING)))
    world = World(edge)

    def gone() -> None:
        edge.graph = late

    edge.when_removed = gone
    return world


def test_who_began_to_use_an_account_as_it_was_deleted_is_told() -> None:
    world = ending(using("ci", "old"))
    assert world.look(2) == ["armed?", "release old", "remove ci"]
    message = (
        "it was deleted with its last user when RoleBinding prod/deployers began to use it (subject); "
        "make it again and restart that"
    )
    assert world.edge.told == [("ci", "HoldLost", message)]


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(Usage(), id="nobody"),
        pytest.param(using("old"), id="a user of another one"),
        pytest.param(
            Usage({Account("shared", "ci"): (Claim(Account("shared", "ci"), BINDING, Strength.IDENTITY, "a cloud"),)}),
            id="a trust that keeps nothing",
        ),
    ],
)
def test_an_account_that_went_unused_is_no_news(late: Usage) -> None:
    world = ending(late)
    assert "remove ci" in world.look(2)
    assert world.edge.told == []


def test_nobody_is_looked_for_when_the_account_was_not_deleted() -> None:
    world = ending(using("ci"))
    world.edge.refuses = {"remove ci": Conflict("somebody uses it after all")}
    world.look(2)
    assert world.edge.told == []


def test_the_hold_of_an_environment_that_is_there_stays_though_nothing_is_seen_of_it() -> None:
    world = World(FakeEdge((shared("deployer", ENVIRONMENT),)))
    assert world.look(5) == []


# --- Releases nothing


def test_nothing_is_released_while_disarmed_and_it_is_tried_again() -> None:
    edge = FakeEdge((*forgotten("deployer"), shared("ci", policy=DELETE_WITH_LAST_USER)), is_armed=False)
    world = World(edge)
    assert world.look(5) == ["armed?"]
    assert world.gauge("releases_total") == 0
    edge.is_armed = True
    assert world.look() == ["armed?", "release deployer", "remove ci"]


def test_disarmed_holds_are_still_put_on() -> None:
    world = World(FakeEdge((shared(), *forgotten("old")), using("deployer"), is_armed=False))
    assert world.look(3) == ["acquire deployer", "armed?"]


def test_nothing_is_released_while_not_every_user_can_be_seen() -> None:
    edge = FakeEdge((*forgotten("deployer"), shared("ci", policy=DELETE_WITH_LAST_USER)))
    edge.graph = Usage(faults=("cannot list Pods: forbidden",))
    world = World(edge)
    assert world.look(5) == []
    assert world.gauge("usage_complete") == 0
    edge.graph = Usage()
    assert world.look() == []  # what was not seen for so long was not seen at all: the grace begins now
    assert world.look() == ["armed?", "release deployer", "remove ci"]
    assert world.gauge("usage_complete") == 1


def test_with_a_part_of_the_users_seen_their_holds_are_put_on() -> None:
    edge = FakeEdge((shared(),), replace(using("deployer"), faults=("cannot list Pods: forbidden",)))
    assert World(edge).look() == ["acquire deployer"]


def test_a_request_is_taken_away_before_the_look_that_answers_it() -> None:
    edge = FakeEdge((), asked=[None])
    edge.while_looking = lambda: edge.asked.append(None)  # what is asked for meanwhile is for the next one
    asyncio.run(World(edge).guardian.look())
    assert edge.asked == [0, None]


def test_a_reading_that_fails_ends_the_pass() -> None:
    world = World(FakeEdge(forgotten("deployer"), fails=Unavailable("no answer")))
    with pytest.raises(Unavailable):
        world.look()
    assert world.edge.done == []


# --- One account's trouble is not another's


@pytest.mark.parametrize("error", [Conflict("x"), Forbidden("x"), HoldLost("x"), Unavailable("x")], ids=str)
def test_an_error_with_one_account_does_not_stop_the_others(error: EnvprovError) -> None:
    new = shared("new", used=False, owners=("Deployment web",))
    verbs = ("acquire", "mark", "strip", "release", "remove")
    accounts = (
        *(replace(new, account=Account("shared", name)) for name in ("new-a", "new-b")),
        *forgotten("old-a", "old-b"),
        *(shared(name, policy=DELETE_WITH_LAST_USER) for name in ("end-a", "end-b")),
    )
    edge = FakeEdge(accounts, using("new-a", "new-b"))
    edge.refuses = {f"{verb} {name}-a": error for verb in verbs for name in ("new", "old", "end")}
    assert World(edge).look(2) == [
        "acquire new-a",
        "acquire new-b",
        "mark new-a",
        "mark new-b",
        "strip new-a",
        "strip new-b",
        "armed?",
        "release old-a",
        "release old-b",
        "remove end-a",
        "remove end-b",
    ]


def test_what_could_not_be_released_is_tried_again() -> None:
    edge = FakeEdge(forgotten("deployer"), refuses={"release deployer": Conflict("somebody wrote first")})
    assert World(edge).look(4) == ["armed?", "release deployer"]


def test_many_holds_of_one_account_go_together_and_each_is_counted() -> None:
    holders = tuple(replace(BINDING, uid=f"uid-{number}") for number in range(250))
    world = World(FakeEdge((shared("deployer", *holders),)))
    assert world.look(2) == [
        "armed?",
        "release deployer 100 times",
        "release deployer 100 times",
        "release deployer 50 times",
    ]
    assert world.gauge("releases_total") == 250


def test_accounts_of_several_namespaces_do_not_wait_for_each_other() -> None:
    """Those of one namespace wait for each other, and no more than eight are worked on at once."""
    accounts = tuple(
        replace(one, account=Account(f"shared-{number:02}", one.account.name))
        for number in range(20)
        for one in forgotten("one", "two")
    )
    edge, under_way, most = FakeEdge(accounts), Counter[str](), 0

    async def release(releases: Sequence[Release]) -> None:
        nonlocal most
        namespace = releases[0].guarded.account.namespace
        under_way[namespace] += 1
        assert under_way[namespace] == 1
        most = max(most, under_way.total())
        await asyncio.sleep(0)
        under_way[namespace] -= 1

    edge.release = release  # type: ignore[method-assign]
    world = World(edge)
    world.look(2)
    assert world.gauge("releases_total") == 40
    assert most == 8


# --- Events


def going(*users: Holder) -> tuple[FakeEdge, tuple[Guarded, ...]]:
    account = shared("deployer", terminating=True)
    claims = tuple(Claim(account.account, user, Strength.LIVE, "spec") for user in users)
    return FakeEdge((account,), Usage({account.account: claims})), (account,)


def test_a_user_that_came_too_late_is_told_once() -> None:
    edge, _ = going(BINDING)
    assert World(edge).look(4) == []
    assert edge.told == [
        (
            "deployer",
            "HoldLost",
            "it is being deleted while RoleBinding prod/deployers uses it (spec); restart that afterwards",
        )
    ]


def test_each_user_is_told_of_by_itself_and_after_a_restart_again() -> None:
    web = Holder("Deployment", "prod", "web", "uid-web")
    edge, _ = going(BINDING)
    world = World(edge)
    world.look()
    edge.graph = Usage(
        {account: (*claims, replace(claims[0], holder=web)) for account, claims in edge.graph.claims.items()}
    )
    world.look(2)
    assert [message.split(" uses")[0].split("while ")[1] for _, _, message in edge.told] == [str(BINDING), str(web)]
    World(edge).look()
    assert len(edge.told) == 4


def test_owners_that_were_taken_off_are_told_once() -> None:
    world = World(FakeEdge((shared("deployer", BINDING, owners=("Deployment web",)),), using("deployer")))
    assert world.look(3) == ["strip deployer"]
    message = "its owners were taken off (Deployment web): it would be deleted with them, under its users"
    assert world.edge.told == [("deployer", "OwnerReferencesRemoved", message)]


def test_owners_that_could_not_be_taken_off_are_not_said_to_be_off() -> None:
    edge = FakeEdge((shared("deployer", BINDING, owners=("Deployment web",)),), using("deployer"))
    edge.refuses = {"strip deployer": Conflict("somebody wrote first")}
    world = World(edge)
    world.look(2)
    assert edge.told == []
    edge.refuses.clear()
    world.look(2)
    assert len(edge.told) == 1


def expired() -> Guarded:
    hold = Hold(
        Holder("External", "", "ci-runner"), NOW - timedelta(days=9), "deploys", expires=NOW - timedelta(days=1)
    )
    return shared(holds=(hold,), namespace_holds=(hold,))


def test_a_declared_hold_that_ran_out_stands_and_is_told_once_with_both_ways_out() -> None:
    world = World(FakeEdge((expired(),)))
    assert world.look(5) == []
    message = (
        "the hold of ci-runner has run out and still stands; `envprov guard release shared/deployer --by ci-runner` "
        "ends it, `envprov guard hold` renews it"
    )
    assert world.edge.told == [("deployer", "HoldExpired", message)]


def test_a_declared_hold_that_ran_out_goes_by_itself_if_its_holder_is_configured_so() -> None:
    world = World(FakeEdge((expired(),)), auto=frozenset({"ci-runner"}))
    assert world.look(2) == ["armed?", "release deployer"]


# --- Metrics


def test_only_what_was_released_is_counted_as_released() -> None:
    world = World(FakeEdge(forgotten("deployer"), refuses={"release deployer": Conflict("x")}))
    world.look(3)
    assert world.gauge("releases_total") == 0


def test_what_is_guarded_is_counted() -> None:
    world = World(FakeEdge((shared("deployer", BINDING, ENVIRONMENT), shared("ci", BINDING)), using("deployer", "ci")))
    world.look()
    assert (world.gauge("accounts"), world.gauge("holds"), world.gauge("usage_complete")) == (2, 3, 1)


# --- The loop


def run(world: World, script: Callable[[asyncio.Event], object], *, within: float = 20) -> None:
    async def story() -> None:
        stop = asyncio.Event()
        loop = asyncio.create_task(world.guardian.run(stop))
        script(stop)
        await asyncio.wait_for(loop, within)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_it_stops_when_told_and_leaves_nothing_under_way() -> None:
    world = World(FakeEdge())
    run(world, lambda stop: asyncio.get_running_loop().call_later(0.05, stop.set), within=20)
    assert world.edge.looked == 1


def test_it_makes_no_pass_when_it_is_stopped_already() -> None:
    world = World(FakeEdge())
    run(world, lambda stop: stop.set())
    assert world.edge.looked == 0


@pytest.mark.parametrize(
    ("fault", "bugs"),
    [
        pytest.param(Unavailable("no answer"), 0, id="an error that was foreseen"),
        pytest.param(ValueError("nobody thought of that"), 1, id="a bug"),
    ],
)
def test_no_error_ends_the_loop(fault: Exception, bugs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envprov.controller.guardian.SPACING", timedelta(milliseconds=10))
    world = World(FakeEdge(fails=fault), interval=timedelta(milliseconds=20))

    def look_on(stop: asyncio.Event) -> None:
        if world.edge.looked:
            world.edge.fails = None
        if world.edge.looked > 2:
            stop.set()
        else:
            asyncio.get_running_loop().call_later(0.005, look_on, stop)

    run(world, look_on, within=20)
    assert world.gauge("bugs_total") == bugs


def test_what_wakes_it_during_a_pass_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envprov.controller.guardian.SPACING", timedelta(milliseconds=20))
    world = World(FakeEdge(), interval=timedelta(hours=1))
    world.edge.while_looking = lambda: world.guardian.wake() if world.edge.looked == 1 else None
    run(world, lambda stop: asyncio.get_running_loop().call_later(0.4, stop.set))
    assert world.edge.looked == 2


# --- When it looks, in a time of its own


class Jumping(asyncio.SelectorEventLoop):
    """A loop in which nobody waits: when there is nothing to do it is later at once."""

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        self._moment = 0.0
        select = selector.select

        def jump(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            found = select(0)
            if not found and timeout:
                self._moment += timeout
            return found

        selector.select = jump  # type: ignore[method-assign]  # that is what the loop waits in

    def time(self) -> float:
        return self._moment


def schedule(
    edge: FakeEdge,
    *,
    interval: float = 30,
    grace: float = 60,
    passes: int = 2,
    wake_at: tuple[float, ...] = (),
    until: float = 65,
) -> tuple[list[float], float]:
    """The seconds at which it looks, and when it has stopped, if it is told to at a moment."""
    moments: list[float] = []
    loop = Jumping()

    async def story() -> float:
        stop = asyncio.Event()
        edge.while_looking = lambda: moments.append(round(loop.time(), 3))
        guardian = Guardian(
            edge,
            now=Clock(NOW),
            interval=timedelta(seconds=interval),
            grace=Grace(timedelta(seconds=grace), passes),
            auto_release=frozenset(),
            metrics=GuardMetrics(CollectorRegistry()),
        )
        for moment in wake_at:
            loop.call_later(moment, guardian.wake)
        loop.call_later(until, stop.set)
        await guardian.run(stop)
        return round(loop.time(), 3)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        ended = runner.run(story())
    return moments, ended


def test_what_holds_is_looked_at_again_after_each_interval() -> None:
    assert schedule(FakeEdge()) == ([0, 30, 60], 65)
    assert schedule(FakeEdge(), interval=10, until=25) == ([0, 10, 20], 25)


@pytest.mark.parametrize(
    ("grace", "passes", "expected"),
    [
        pytest.param(60, 2, [0, 30, 60], id="half of the grace, which is the interval"),
        pytest.param(20, 2, [0, 10, 20, 30, 40, 50, 60], id="half of the grace"),
        pytest.param(45, 3, [0, 15, 30, 45, 60], id="a third of the grace"),
        pytest.param(600, 2, [0, 30, 60], id="never later than the interval"),
        pytest.param(10, 4, [0, 2.5, 5], id="a quarter"),
        pytest.param(0, 2, [0, 2, 4, 6], id="never sooner than two seconds"),
    ],
)
def test_what_may_soon_be_released_is_looked_at_as_often_as_the_grace_asks(
    grace: float, passes: int, expected: list[float]
) -> None:
    until = 65 if expected[-1] == 60 else expected[-1] + 1
    assert schedule(FakeEdge(forgotten("deployer")), grace=grace, passes=passes, until=until) == (expected, until)


@pytest.mark.parametrize(
    ("wake_at", "expected"),
    [
        pytest.param((10,), [0, 10, 40], id="woken -> at once, and the interval begins anew"),
        pytest.param((0.5,), [0, 2, 32, 62], id="woken right after a look -> two seconds after it"),
        pytest.param((10, 10.5, 11), [0, 10, 12, 42], id="woken again and again -> once more"),
    ],
)
def test_who_wakes_it_is_heard_two_seconds_after_the_last_look_at_the_earliest(
    wake_at: tuple[float, ...], expected: list[float]
) -> None:
    assert schedule(FakeEdge(), wake_at=wake_at) == (expected, 65)


@pytest.mark.parametrize("fault", [Unavailable("no answer"), ValueError("nobody thought of that")], ids=str)
def test_after_an_error_it_looks_when_it_would_have_looked_anyway(fault: Exception) -> None:
    assert schedule(FakeEdge(forgotten("deployer"), fails=fault), grace=4) == ([0, 30, 60], 65)


@pytest.mark.parametrize("until", [pytest.param(1, id="right after a look"), pytest.param(20, id="between two")])
def test_it_stops_at_once_whenever_it_is_told(until: float) -> None:
    assert schedule(FakeEdge(), until=until) == ([0], until)


def test_an_interval_shorter_than_the_least_distance_is_that_distance() -> None:
    assert schedule(FakeEdge(), interval=0.5, until=5) == ([0, 2, 4], 5)
