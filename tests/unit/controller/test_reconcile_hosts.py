"""Hosts in a whole pass: whatever call fails, the same hosts are reserved in the end, and none when all is over."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from envprov.domain.observed import Rendered
from tests.unit.builders import SLUG
from tests.unit.controller.test_reconcile import World
from tests.unit.fakes import Faults

A, B, C = "a.example.com", "b.example.com", "c.example.com"
BY = "branch y of Project shop (Environment y-1)"


async def up_and_over(faults: Faults) -> World:
    """An environment with two hosts, whose next revision has one of them and another."""
    world = World(faults)
    world.cluster.rendered = Rendered(hosts=(A, B))
    await world.drive()
    assert set(world.cluster.leases) == {A, B}
    world.cluster.rendered = Rendered(hosts=(B, C))
    world.records.edit(SLUG, revision="b" * 40)
    await world.drive()
    return world


def test_a_new_revision_has_its_own_hosts_and_not_those_of_the_last() -> None:
    world = asyncio.run(up_and_over(Faults()))
    assert set(world.cluster.leases) == {B, C}
    assert {one.dropped_by for one in world.cluster.leases.values()} == {""}
    done = world.cluster.done
    deployed = [number for number, action in enumerate(done) if action.startswith("deploy")]
    order = [done.index(f"reserve {C}"), done.index(f"drop host {A}"), deployed[1], done.index(f"release host {A}")]
    assert order == sorted(order)
    assert done.index(f"reserve {A}, {B}") < deployed[0]


def test_a_host_of_somebody_else_stalls_before_helm_until_it_is_free() -> None:
    async def story() -> None:
        world = World()
        world.cluster.rendered, world.cluster.taken = Rendered(hosts=(A,)), {A: BY}
        outcome = await world.reconcile(SLUG)
        assert outcome.phase == "HostTaken"
        assert world.records.facts(SLUG)["Accepted"] == ("False", "HostTaken")
        assert world.records.facts(SLUG)["Ready"] == ("False", "Stalled")
        assert any(f"host {A} is reserved by {BY}" in message for message in world.records.messages)
        assert not [action for action in world.cluster.done if action.startswith("deploy")]
        world.cluster.taken = {}
        await world.drive()
        assert set(world.cluster.leases) == {A}

    asyncio.run(story())


async def down(faults: Faults) -> World:
    world = World(faults)
    world.cluster.rendered = Rendered(hosts=(A, B))
    await world.drive()
    world.records.delete(SLUG)
    await world.drive()
    return world


def test_hosts_are_given_back_last() -> None:
    done = asyncio.run(down(Faults())).cluster.done
    ends = [done.index(f"uninstall release {SLUG}"), done.index(f"delete Namespace env-{SLUG}")]
    assert max(ends) < min(done.index(f"release host {host}") for host in (A, B))


UP_AND_OVER, DOWN = asyncio.run(up_and_over(Faults())).faults.calls, asyncio.run(down(Faults())).faults.calls


@pytest.mark.parametrize("lost", [False, True], ids=["not carried out", "answer lost"])
def test_a_fault_at_any_call_ends_with_the_same_hosts(*, lost: bool) -> None:
    for at in range(len(UP_AND_OVER)):
        world = asyncio.run(up_and_over(Faults(at=at, lost=lost)))
        assert set(world.cluster.leases) == {B, C}, f"call {at}: {world.faults.calls[at]}"
        assert {one.dropped_by for one in world.cluster.leases.values()} == {""}
    for at in range(DOWN.index("remains"), len(DOWN)):
        world = asyncio.run(down(Faults(at=at, lost=lost)))
        assert world.cluster.leases == {}, f"call {at}: {world.faults.calls[at]}"


def test_a_mark_of_a_revision_that_never_came_gives_nothing_back() -> None:
    async def story() -> None:
        world = World()
        world.cluster.rendered = Rendered(hosts=(A, B))
        await world.drive()
        world.cluster.leases[A] = replace(world.cluster.leases[A], dropped_by="a revision that never came")
        await world.drive()
        assert set(world.cluster.leases) == {A, B}

    asyncio.run(story())
