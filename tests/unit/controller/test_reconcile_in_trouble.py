"""An environment in trouble still ends when its time is over, and its release does not stay stuck."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from envprov.domain.environment import UNLOCK
from envprov.domain.errors import ChartNotFound, HelmFailed
from envprov.domain.release import ReleaseState
from tests.unit.builders import SLUG, release
from tests.unit.controller.test_reconcile import World

IDLE = {"kind": "expire-after", "idle": "PT1H", "warn": "PT10M"}
"""It was made at 11:00, and the clock begins at 12:00, when it is first looked at."""
NO_CHART = ChartNotFound("no chart at shop")


def status(world: World, field: str) -> object:
    return world.records.live[SLUG]["status"].get(field)


def test_one_that_is_refused_is_warned_of_and_ends_to_the_second() -> None:
    async def story() -> None:
        world = World()
        world.cluster.chart = NO_CHART
        world.records.live[SLUG]["spec"]["lifetime"] = IDLE | {"idle": "PT2H"}
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.look_again) == ("ChartNotFound", timedelta(minutes=5))
        assert status(world, "expiresAt") == "2026-11-24T13:00:00Z"
        world.clock.advance(timedelta(minutes=48, seconds=57))
        assert (await world.reconcile(SLUG)).look_again == timedelta(seconds=63)
        assert world.records.told == ["ChartNotFound"]
        world.clock.advance(timedelta(seconds=63))
        await world.reconcile(SLUG)
        assert world.records.told == ["ChartNotFound", "ExpiresSoon"]
        assert status(world, "warnedFor") == "2026-11-24T13:00:00Z"
        world.clock.advance(timedelta(minutes=9, seconds=59))
        assert (await world.reconcile(SLUG)).look_again == timedelta(seconds=1)
        assert world.records.expired == []
        world.clock.advance(timedelta(seconds=1))
        assert (await world.reconcile(SLUG)).phase == "Expired"

    asyncio.run(story())


def test_one_whose_deployment_rests_ends_to_the_second() -> None:
    async def story() -> None:
        world = World()
        world.records.live[SLUG]["spec"]["lifetime"] = {"kind": "until", "at": "2026-11-24T13:00:03+01:00"}
        world.cluster.helm_fault = HelmFailed("hook failed")
        assert (await world.reconcile(SLUG)).look_again == timedelta(seconds=3)  # a failed deployment would rest for 5
        world.clock.advance(timedelta(seconds=3))
        assert (await world.reconcile(SLUG)).phase == "Expired"

    asyncio.run(story())


@pytest.mark.parametrize(
    ("state", "back", "did", "then"),
    [
        pytest.param(ReleaseState.PENDING_INSTALL, None, "uninstall", None, id="never installed -> taken away"),
        pytest.param(
            ReleaseState.PENDING_UPGRADE, 1, "roll back", "deployed", id="upgrade cut off -> what stood before"
        ),
    ],
)
def test_a_stuck_release_is_unlocked_although_the_new_chart_is_refused(
    state: ReleaseState, back: int | None, did: str, then: str | None
) -> None:
    async def story() -> None:
        world = World()
        await world.drive()
        world.cluster.release = release(state, back=back)
        world.cluster.chart = NO_CHART
        outcome = await world.reconcile(SLUG)
        assert outcome.phase == "ChartNotFound"
        assert world.cluster.done[-1].startswith(did)
        told = world.records.live[SLUG]["status"].get("release")
        assert (told and told["status"]) == then
        assert world.records.facts(SLUG)["Accepted"] == ("False", "ChartNotFound")
        reports = world.records.reports
        await world.reconcile(SLUG)
        assert world.records.reports == reports  # once said is enough

    asyncio.run(story())


def test_who_asks_for_it_gets_a_try_at_once() -> None:
    async def story() -> None:
        world = World()
        await world.drive()
        world.cluster.release = release(ReleaseState.PENDING_UPGRADE)
        world.cluster.helm_fault, world.cluster.helm_leaves = HelmFailed("x"), ReleaseState.PENDING_UPGRADE
        await world.reconcile(SLUG)
        tries = len(world.cluster.done)
        assert (await world.reconcile(SLUG)).phase == "Retrying"
        assert len(world.cluster.done) == tries  # it rests
        world.cluster.helm_fault = None
        world.records.live[SLUG]["metadata"]["annotations"] = {UNLOCK: "2026-11-24T12:00:00Z"}
        assert (await world.reconcile(SLUG)).phase == "Ready"

    asyncio.run(story())
