"""
Hosts are reserved on a real API server, thousands of times at the same instant, through two servers on one etcd.

What must never happen: two environments have one host, or one and a host below its wildcard.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from envprov.domain.desired import Identity
from envprov.domain.errors import Conflict, HostTaken
from envprov.domain.hosts import HostSeen, HostState, Reservation, lease, lease_name
from envprov.domain.names import slug
from envprov.kube.client import Connection, KubeClient
from envprov.kube.informer import Informer
from envprov.kube.reservations import SELECTOR, Reservations
from envprov.kube.resources import ENVIRONMENTS, LEASES
from envprov.waiting import BY_HOLDER, Waiting, holder_index
from tests.cluster import Cluster
from tests.eventually import eventually_async
from tests.integration.guard.test_every_write import Killed, Mortal
from tests.integration.records import install_definition
from tests.unit.builders import NOW

MANAGER = "envprov-test"
FREE, OURS = HostSeen(HostState.FREE), HostSeen(HostState.OURS)
Story = Callable[["World"], Coroutine[Any, Any, None]]


class World:
    """
    A control namespace through two API servers.

    Attributes:
        clients: One of each.
        namespace: Its name.
        doors: The reservations through each.

    """

    def __init__(self, clients: tuple[KubeClient, KubeClient], namespace: str) -> None:
        self.clients, self.namespace = clients, namespace
        self.doors = tuple(Reservations(client, namespace) for client in clients)

    async def environment(self, branch: str, project: str = "shop") -> Identity:
        """Put an environment on record."""
        name = slug(project, branch)
        spec = {"project": project, "branch": branch}
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {
            "apiVersion": "envprov.io/v1alpha1",
            "kind": "Environment",
            "metadata": metadata,
            "spec": spec,
        }
        live = await self.clients[0].create(manifest, manager=MANAGER)
        return Identity(name, self.namespace, project, branch, live["metadata"]["uid"])

    async def forget(self, identity: Identity) -> None:
        """Take an environment off the record, as if it had never had a finalizer."""
        await self.clients[0].delete(ENVIRONMENTS, identity.name, self.namespace, uid=identity.uid)

    async def race(self, host: str, *runners: Identity) -> dict[str, str]:
        """Let environments reserve one host at the same instant; returns what each of them heard, "" for a success."""
        return dict(
            zip(
                (one.name for one in runners),
                await asyncio.gather(*(self.heard(number, one, host) for number, one in enumerate(runners))),
                strict=True,
            )
        )

    async def heard(self, number: int, identity: Identity, *hosts: str) -> str:
        """Reserve through one of the servers; returns what stands in the way."""
        try:
            await self.doors[number % 2].reserve(identity, hosts)
        except HostTaken as error:
            return str(error)
        return ""

    async def holders(self, host: str) -> list[str]:
        """Who has a host, by the Lease."""
        found = await self.clients[1].get(LEASES, lease_name(host), self.namespace)
        return [found["spec"]["holderIdentity"]] if found else []


@pytest.fixture
def story(lonely: Cluster, twin: Cluster) -> Callable[[Story], None]:
    """Return what runs a story in a new control namespace."""
    install_definition(lonely)
    namespace = f"hosts-{secrets.token_hex(4)}"
    lonely.kubectl("create", "namespace", namespace)

    def run(told: Story) -> None:
        async def tell() -> None:
            async with _clients(lonely, twin) as clients:
                await told(World(clients, namespace))

        asyncio.run(tell())

    return run


@asynccontextmanager
async def _clients(*clusters: Cluster) -> AsyncIterator[tuple[KubeClient, KubeClient]]:
    async with (
        KubeClient.connect(Connection(clusters[0].kubeconfig)) as one,
        KubeClient.connect(Connection(clusters[1].kubeconfig)) as other,
    ):
        yield one, other


def winner(outcome: dict[str, str]) -> str:
    """The one that heard nothing."""
    (name,) = (name for name, said in outcome.items() if not said)
    return name


def test_of_two_at_the_same_instant_exactly_one_wins_two_hundred_times(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        two = [await world.environment(branch) for branch in ("feature/x", "feature/y")]
        said = {one.name: f"branch {one.branch} of Project shop (Environment {one.name})" for one in two}
        wins = Counter[str]()
        for number in range(200):
            host = f"shop-{number}.dev.example.com"
            outcome = await world.race(host, *(two if number % 4 < 2 else reversed(two)))
            first = winner(outcome)
            (lost,) = (words for words in outcome.values() if words)
            assert lost.startswith(f"host {host} is reserved by {said[first]}; ")
            assert await world.holders(host) == [f"{first}/{next(one.uid for one in two if one.name == first)}"]
            wins[first] += 1
        assert min(wins.values()) > 10, wins

    story(told)


def test_of_five_at_the_same_instant_exactly_one_wins(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        five = [await world.environment(f"event/{number}") for number in range(5)]
        for number in range(40):
            outcome = await world.race(f"event-{number}.example.com", *five)
            first = winner(outcome)
            assert all(f"(Environment {first})" in words for words in outcome.values() if words)

    story(told)


def test_of_several_hosts_all_are_had_or_none(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        one, other = await world.environment("one"), await world.environment("other")
        for number in range(30):
            a, b, c = (f"{letter}-{number}.example.com" for letter in "abc")
            outcome = await asyncio.gather(world.heard(0, one, c, a), world.heard(1, other, b, c))
            assert outcome.count("") == 1
            lost = a if outcome[0] else b
            assert await world.holders(lost) == []

    story(told)


def test_what_an_environment_that_is_gone_has_left_is_taken_over_by_exactly_one(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        four = [await world.environment(f"taker/{number}") for number in range(4)]
        for number in range(40):
            host = f"old-{number}.example.com"
            gone = await world.environment(f"gone/{number}")
            await world.doors[0].reserve(gone, [host])
            assert (await world.doors[1].look(four[0], [host]))[host].state is HostState.TAKEN
            await world.forget(gone)
            assert await world.doors[1].look(four[0], [host]) == {host: FREE}
            first = winner(await world.race(host, *four))
            (holder,) = await world.holders(host)
            assert holder.partition("/")[0] == first

    story(told)


def test_an_environment_that_is_made_anew_takes_over_from_its_predecessor(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        before = await world.environment("feature/x")
        await world.doors[0].reserve(before, ["x.example.com"])
        await world.forget(before)
        after = await world.environment("feature/x")
        assert await world.doors[1].of(after) == ()
        await world.doors[1].reserve(after, ["x.example.com"])
        assert await world.holders("x.example.com") == [f"{after.name}/{after.uid}"]

    story(told)


def test_a_wildcard_and_a_host_below_it_never_both_win(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        thief = await world.environment("thief")
        seen = Counter[str]()
        for number in range(40):
            name = slug("shop", f"wild/{number}")
            wildcard, below = f"*.{name}.example.com", f"api.{name}.example.com"

            async def rise(number: int = number, wildcard: str = wildcard) -> tuple[Identity, str]:
                owner = await world.environment(f"wild/{number}")
                return owner, await world.heard(0, owner, wildcard)

            # It is on record, and wants its wildcard, while somebody else takes a host below it.
            (owner, own), other = await asyncio.gather(rise(), world.heard(1, thief, below))
            assert own or other, "both have won"
            if own and other:  # each saw the other; the name is the owner's
                assert await world.heard(0, owner, wildcard) == ""
                seen["both waited"] += 1
            else:
                seen["owner" if other else "thief"] += 1
            if other:
                assert f"(Environment {owner.name})" in other
            left = {one.host for one in await world.doors[0].all()} & {wildcard, below}
            assert len(left) == 1
            assert (await world.heard(1, thief, below) == "") == (below in left)
            assert (await world.heard(0, owner, wildcard) == "") == (wildcard in left)
        assert seen["owner"] + seen["both waited"] > 0, seen
        assert seen["thief"] > 0, seen

    story(told)


def test_a_name_belongs_to_who_bears_it_unless_it_was_taken_before(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        early = await world.environment("early")
        name = slug("shop", "late")
        await world.doors[0].reserve(early, [f"a.{name}.example.com"])
        late = await world.environment("late")
        said = await world.heard(1, late, f"*.{name}.example.com")
        assert f"branch early of Project shop (Environment {early.name}), as a.{name}.example.com" in said
        assert f"(Environment {name})" in await world.heard(0, early, f"b.{name}.example.com")
        assert await world.heard(0, early, f"a.{name}.example.com") == "", "what one has one keeps"
        await world.doors[1].reserve(late, [f"c.{name}.example.com"])
        seen = await world.doors[0].look(early, [f"a.{name}.example.com", f"b.{name}.example.com"])
        assert [one.state for one in seen.values()] == [HostState.OURS, HostState.TAKEN]

    story(told)


def test_whoever_was_cut_off_before_it_looked_around_looks_the_next_time(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        thief, owner = await world.environment("thief"), await world.environment("owner")
        below = f"api.{owner.name}.example.com"
        await world.clients[0].create(lease(thief, below, NOW), manager=MANAGER)
        assert f"(Environment {thief.name})" in await world.heard(0, owner, f"*.{owner.name}.example.com")
        assert await world.doors[0].look(thief, [below]) == {below: FREE}, "not settled: to be tried for again"
        assert f"(Environment {owner.name})" in await world.heard(1, thief, below)
        assert await world.heard(0, owner, f"*.{owner.name}.example.com") == ""

    story(told)


def test_only_what_is_ours_is_given_back(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        one, other = await world.environment("one"), await world.environment("other")
        door = world.doors[0]
        await door.reserve(one, ["a.example.com", "b.example.com"])
        (a, b) = await door.of(one)
        assert [found.host for found in await door.of(other)] == []
        await door.release(a)
        await door.reserve(other, ["a.example.com"])
        await door.release(a)  # another Lease has the name now
        assert await world.holders("a.example.com") == [f"{other.name}/{other.uid}"]
        with pytest.raises(Conflict):
            await door.mark(a, "d2")
        assert not await door.release_left_over(b), "its environment is there"
        await door.mark(b, "d2")
        await world.forget(one)
        assert not await door.release_left_over(b), "it has changed since it was read"
        (marked,) = (found for found in await door.all() if found.host == "b.example.com")
        assert marked == replace(b, dropped_by="d2", resource_version=marked.resource_version)
        assert await door.release_left_over(marked)
        assert {found.host for found in await door.all()} == {"a.example.com"}

    story(told)


def test_a_lease_that_envprov_did_not_make_is_left_alone(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        one, name = await world.environment("one"), lease_name("a.example.com")
        metadata = {"name": name, "namespace": world.namespace}
        stranger = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
        await world.clients[0].create(stranger, manager=MANAGER)
        said = f"Lease {name}, which envprov did not make"
        assert said in await world.heard(0, one, "a.example.com")
        assert await world.doors[0].look(one, ["a.example.com"]) == {"a.example.com": HostSeen(HostState.TAKEN, said)}

    story(told)


@asynccontextmanager
async def following(world: World) -> AsyncIterator[tuple[Waiting, list[str]]]:
    """Caches as the controller has them, and who was woken."""
    client, namespace = world.clients[1], world.namespace
    leases = Informer(client, LEASES, namespace=namespace, label_selector=SELECTOR, indexes={BY_HOLDER: holder_index})
    environments = Informer(client, ENVIRONMENTS, namespace=namespace)
    waiting, woken = Waiting(leases), list[str]()
    leases.on_change(waiting.on_lease(woken.append))
    environments.on_change(waiting.on_environment(woken.append, environments))
    running = [asyncio.create_task(cache.run()) for cache in (leases, environments)]
    try:
        await asyncio.gather(leases.synced.wait(), environments.synced.wait())
        yield waiting, woken
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def is_woken(woken: list[str], identity: Identity) -> None:
    """Wait until an environment is woken."""

    async def fact() -> bool:
        return identity.name in woken

    await eventually_async(fact, message="nobody woke it")
    woken.clear()


async def seen_of(waiting: Waiting, identity: Identity) -> Reservation:
    """Wait until the cache shows the one reservation of an environment."""

    async def fact() -> tuple[Reservation, ...]:
        return waiting.own(identity, {})

    (found,) = await eventually_async(fact, message="the cache does not show it")
    return found


def test_who_waits_for_a_host_is_woken_when_it_is_free(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        one, other = await world.environment("one"), await world.environment("other")
        async with following(world) as (waiting, woken):
            await world.doors[0].reserve(one, ["a.example.com"])
            reservation = await seen_of(waiting, one)
            assert woken == []
            waiting.expect(other.name, ["a.example.com"])
            await world.doors[0].release(reservation)
            waiting.gave_back(reservation)
            assert waiting.own(one, {}) == (), "what was given back is not ours, whatever the cache shows"
            await is_woken(woken, other)
            waiting.expect(other.name, [])
            await world.doors[0].reserve(one, ["a.example.com"])
            assert (await seen_of(waiting, one)).host == "a.example.com"
            assert woken == [], "it wants nothing any more"

    story(told)


def test_who_waits_is_woken_when_an_environment_goes_without_giving_back(story: Callable[[Story], None]) -> None:
    async def told(world: World) -> None:
        one, other = await world.environment("one"), await world.environment("other")
        async with following(world) as (waiting, woken):
            await world.doors[0].reserve(one, ["a.example.com"])
            await seen_of(waiting, one)
            waiting.expect(other.name, ["a.example.com"])
            await world.forget(one)
            await is_woken(woken, other)
            assert await world.heard(0, other, "a.example.com") == ""
            third = await world.environment("third")
            waiting.expect(other.name, [f"api.{third.name}.example.com"])
            await world.forget(third)
            await is_woken(woken, other)

    story(told)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_whoever_is_cut_off_at_any_write_leaves_what_the_next_one_can_go_on_with(
    lonely: Cluster, story: Callable[[Story], None], *, late: bool
) -> None:
    async def told(world: World) -> None:
        for number in range(8):
            one = await world.environment(f"mortal/{number}")
            hosts = [f"a-{number}.example.com", f"*.{one.name}.example.com", f"b-{number}.shop-frontend.example.com"]
            async with Mortal.connect(Connection(lonely.kubeconfig)) as client:
                client.dies_at, client.is_late = number, late
                with suppress(Killed):
                    await Reservations(client, world.namespace).reserve(one, hosts)
            await world.doors[1].reserve(one, hosts)
            assert await world.doors[0].look(one, hosts) == dict.fromkeys(sorted(hosts), OURS)
            assert all(found.is_settled for found in await world.doors[0].of(one))
        assert number > len(client.writes), "not every write was cut off"

    story(told)
