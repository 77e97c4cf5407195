"""Sleep and waking in passes: nothing is lost whatever fails, and nothing is written twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from envprov.controller.reconcile import Reconciler
from envprov.domain.environment import parse_environment
from envprov.domain.errors import ChartNotFound, Conflict, EnvprovError, Unavailable
from tests.unit.builders import NAMESPACE, NOW, SLUG, environment_manifest, platform, project
from tests.unit.fakes import Clock, FakeCluster, FakeRecords, Faults

NEW = "b" * 40
RESYNC = timedelta(minutes=5)
WEEKLY = project(rules=[{"branches": ["*"], "lifetime": {"kind": "expire-after", "idle": "P7D"}}])


class World:
    """A cluster, a control namespace and the reconciler between them."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults, self.clock = faults or Faults(), Clock(NOW)
        self.cluster = FakeCluster(self.faults, clock=self.clock)
        self.records = FakeRecords(self.faults, live={SLUG: environment_manifest()}, projects={"shop": WEEKLY})
        self.reconcile = Reconciler(self.records, self.cluster, platform(), self.clock)

    async def until(self, phase: str) -> None:
        """Serve the key again and again until it stands somewhere."""
        for _ in range(20):
            try:
                outcome = await self.reconcile(SLUG)
            except EnvprovError:
                self.clock.advance(RESYNC)
                continue
            if outcome.phase == phase:
                return
            self.clock.advance(outcome.look_again or RESYNC)
        raise AssertionError(f"never {phase}: {self.records.facts(SLUG)}, {self.faults.calls[-20:]}")

    async def risen(self, replicas: int = 3) -> None:
        """Bring it up, and scale it by hand."""
        await self.until("Ready")
        self.cluster.deployments["web"] = replicas
        self.cluster.pods = {f"web-{number}": "web" for number in range(1, replicas + 1)}

    async def put_to_sleep(self) -> None:
        """Have it sleep."""
        self.records.edit(SLUG, asleep=True)
        await self.until("Asleep")

    async def woken(self) -> None:
        """Wake it."""
        self.records.edit(SLUG, asleep=False)
        await self.until("Ready")

    @property
    def status(self) -> dict[str, object]:
        found: dict[str, object] = self.records.live[SLUG]["status"]
        return found

    def expires_in(self) -> timedelta:
        ends = parse_environment(self.records.live[SLUG]).status.expires_at
        assert ends is not None
        return ends - self.clock.now


def test_it_is_scaled_to_nothing_and_back_to_what_it_was() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        await world.put_to_sleep()
        assert (world.cluster.deployments, world.cluster.pods) == ({"web": 0}, {})
        assert world.cluster.remembered == {"web": "3"}
        assert world.records.facts(SLUG) == {
            "Accepted": ("True", "Accepted"),
            "NamespaceReady": ("True", "InPlace"),
            "Deployed": ("True", "InSync"),
            "Healthy": ("Unknown", "Asleep"),
            "Ready": ("False", "Asleep"),
        }
        assert "asleepSince" in world.status
        await world.woken()
        assert (world.cluster.deployments, len(world.cluster.pods)) == ({"web": 3}, 3)
        assert world.cluster.remembered == {}
        assert "asleepSince" not in world.status
        assert world.records.told == ["Ready", "Asleep", "Ready"]
        assert [action for action in world.cluster.done if "web" in action] == [
            "put to sleep Deployment web",
            "wake Deployment web",
        ]

    asyncio.run(story())


@pytest.mark.parametrize("asleep", [True, False])
def test_a_second_pass_does_nothing(*, asleep: bool) -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        await world.put_to_sleep()
        if not asleep:
            await world.woken()
            await world.reconcile(SLUG)
        world.faults.calls.clear()
        for _ in range(3):
            await world.reconcile(SLUG)
        assert world.faults.calls == ["observe"] * 3

    asyncio.run(story())


def test_that_it_sleeps_is_on_record_before_anything_is_scaled() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        world.records.edit(SLUG, asleep=True)
        seen: list[object] = []
        world.cluster.afterwards = lambda _: seen.append(world.status.get("asleepSince"))
        await world.until("Asleep")
        assert seen == ["2026-11-24T12:00:00Z"]

    asyncio.run(story())


def test_what_is_pushed_while_it_sleeps_is_deployed_when_it_wakes() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        await world.put_to_sleep()
        release, before = world.cluster.release.revision, len(world.cluster.done)
        world.records.edit(SLUG, revision=NEW)
        await world.until("Asleep")
        assert world.cluster.done[before:] == []
        assert world.records.facts(SLUG)["Deployed"] == ("False", "Asleep")
        await world.woken()
        assert [action.split()[0] for action in world.cluster.done[before:]] == ["wake", "deploy"]
        assert world.cluster.release.revision == release + 1
        assert world.status["observedRevision"] == NEW

    asyncio.run(story())


def test_neither_sleep_nor_waking_waits_for_a_chart() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        world.cluster.chart = ChartNotFound("GitLab has no such commit")
        await world.put_to_sleep()
        world.records.edit(SLUG, asleep=False)
        await world.until("ChartNotFound")
        assert world.cluster.deployments == {"web": 3}
        assert world.records.facts(SLUG)["Ready"] == ("False", "Stalled")

    asyncio.run(story())


def test_who_scales_it_up_meanwhile_is_told_by_what_happens_and_wakes_with_that() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        await world.put_to_sleep()
        world.cluster.deployments["web"] = 1
        await world.until("Asleep")
        assert world.cluster.deployments == {"web": 0}
        await world.woken()
        assert world.cluster.deployments == {"web": 1}

    asyncio.run(story())


def test_one_that_sleeps_before_it_was_ever_deployed_is_deployed_when_it_wakes() -> None:
    async def story() -> None:
        world = World()
        await world.put_to_sleep()
        assert world.cluster.deployments == {}
        assert world.records.facts(SLUG)["Deployed"] == ("False", "Asleep")
        await world.woken()
        assert world.cluster.deployments == {"web": 1}

    asyncio.run(story())


def test_waking_is_activity_and_falling_asleep_is_not() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        world.clock.advance(timedelta(days=5))
        await world.put_to_sleep()
        assert world.expires_in() == timedelta(days=2)
        world.clock.advance(timedelta(days=1))
        await world.woken()
        assert timedelta(days=7) - world.expires_in() < timedelta(minutes=1)

    asyncio.run(story())


def test_each_push_while_it_sleeps_is_activity() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        await world.put_to_sleep()
        for commit in ("b" * 40, "c" * 40):
            world.clock.advance(timedelta(days=5))
            world.records.edit(SLUG, revision=commit)
            await world.until("Asleep")
            assert timedelta(days=7) - world.expires_in() < timedelta(minutes=1)

    asyncio.run(story())


def test_waking_is_activity_also_if_the_first_pass_fails() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        await world.put_to_sleep()
        world.clock.advance(timedelta(days=6, hours=23, minutes=58))
        world.records.edit(SLUG, asleep=False)
        world.faults.at, world.faults.error = len(world.faults.calls), lambda: Unavailable("no answer")
        await world.until("Ready")
        assert world.records.expired == []

    asyncio.run(story())


def test_its_lifetime_ends_while_it_sleeps() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        await world.put_to_sleep()
        world.clock.advance(timedelta(days=7, minutes=1))
        await world.reconcile(SLUG)
        assert world.records.expired == [SLUG]

    asyncio.run(story())


def test_it_is_taken_down_from_its_sleep() -> None:
    async def story() -> None:
        world = World()
        await world.risen()
        await world.put_to_sleep()
        world.records.delete(SLUG)
        await world.until("Gone")
        assert ("Namespace", NAMESPACE) not in world.cluster.live

    asyncio.run(story())


def nap(faults: Faults, *, pushed: bool) -> World:
    """Return the world after a sleep, perhaps with a push in it, with faults at a call on the way."""

    async def story() -> World:
        world, at, faults.at = World(faults), faults.at, -1
        await world.risen()
        faults.calls.clear()
        faults.at = at
        await world.put_to_sleep()
        if pushed:
            world.records.edit(SLUG, revision=NEW)
            await world.until("Asleep")
        await world.woken()
        return world

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("error", "times", "lost"),
    [
        pytest.param(lambda: Conflict("the cache lags"), 1, False, id="conflict"),
        pytest.param(lambda: Unavailable("no answer"), 2, False, id="no answer, twice"),
        pytest.param(lambda: Unavailable("no answer"), 1, True, id="answer lost"),
    ],
)
@pytest.mark.parametrize(("pushed", "replicas"), [(False, 3), (True, 1)])
def test_a_fault_at_any_call_ends_in_the_same_state(
    error: Callable[[], EnvprovError], times: int, replicas: int, *, lost: bool, pushed: bool
) -> None:
    undisturbed = nap(Faults(), pushed=pushed)
    for at in range(len(undisturbed.faults.calls)):
        world = nap(Faults(at=at, times=times, error=error, lost=lost), pushed=pushed)
        where = f"after {times} faults at call {at}, {undisturbed.faults.calls[at]}"
        assert world.cluster.deployments == {"web": replicas}, where
        assert world.cluster.remembered == {}, where
        assert world.records.facts(SLUG) == undisturbed.records.facts(SLUG), where
        assert "asleepSince" not in world.status, where
