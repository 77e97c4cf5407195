"""The cache and a real API server, with everything that can come between them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from envprov.kube import informer as module
from envprov.kube.client import Connection, KubeClient
from envprov.kube.informer import Informer
from envprov.kube.resources import CONFIG_MAPS, SECRETS
from tests.cluster import Cluster
from tests.eventually import eventually_async
from tests.faults import FaultProxy, Order

TEST_LABEL = "envprov.io/test=informer"
EXPIRED = json.dumps({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}).encode()


@dataclass
class World:
    """An administrator that changes things, and what is between the informer and them."""

    admin: KubeClient
    client: KubeClient
    proxy: FaultProxy
    namespace: str

    def informer(self, **options: Any) -> Informer:  # noqa: ANN401 - those of Informer
        return Informer(self.client, CONFIG_MAPS, namespace=self.namespace, label_selector=TEST_LABEL, **options)

    async def apply(self, name: str, **data: str) -> dict[str, Any]:
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": self.namespace, "labels": {"envprov.io/test": "informer"}},
            "data": data,
        }
        return await self.admin.apply(manifest, manager="envprov-test")

    async def delete(self, name: str) -> None:
        live = await self.admin.get(CONFIG_MAPS, name, self.namespace)
        assert live is not None
        await self.admin.delete(CONFIG_MAPS, name, self.namespace, uid=live["metadata"]["uid"])

    async def truth(self) -> dict[str, Any]:
        listing = await self.admin.list(CONFIG_MAPS, self.namespace, label_selector=TEST_LABEL)
        return {item["metadata"]["name"]: item for item in listing.items}

    @property
    def lists(self) -> int:
        return sum(seen.is_list for seen in self.proxy.seen)


def tell(cluster: Cluster, namespace: str, story: Callable[[World], Any]) -> None:
    async def run() -> None:
        async with (
            FaultProxy(cluster.kubeconfig) as proxy,
            KubeClient.connect(proxy.connection) as client,
            KubeClient.connect(Connection(cluster.kubeconfig)) as admin,
        ):
            await story(World(admin, client, proxy, namespace))

    asyncio.run(run())


@asynccontextmanager
async def running(informer: Informer) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), 30)
        yield
    finally:
        assert not task.done(), "an informer never ends by itself"
        task.cancel()
        await asyncio.wait({task})


def names(informer: Informer) -> set[str]:
    return {item["metadata"]["name"] for item in informer.items()}


async def holds(informer: Informer, expected: set[str]) -> None:
    async def fact() -> bool:
        return names(informer) == expected

    await eventually_async(fact, message=f"the cache does not hold {expected}")


async def watching(world: World) -> None:
    async def fact() -> bool:
        return world.proxy.watches == 1

    await eventually_async(fact, message="no watch is open")


def test_the_cache_holds_what_is_there_and_follows_it(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        await world.apply("before", a="1")
        informer = world.informer()
        heard: list[str] = []
        informer.on_change(lambda item: heard.append(f"{item['metadata']['name']} {item.get('data')}"))
        assert not informer.healthy
        async with running(informer):
            assert heard == ["before {'a': '1'}"]
            assert informer.healthy
            await world.apply("after", a="1")
            await world.apply("before", a="2")
            await world.delete("after")

            async def has_heard_all() -> bool:
                return len(heard) >= 4

            await eventually_async(has_heard_all, message="not everything was heard")
            assert names(informer) == {"before"}
            assert informer.get("before", world.namespace) == (await world.truth())["before"]
            assert informer.get("after", world.namespace) is None
            assert heard[1:] == ["after {'a': '1'}", "before {'a': '2'}", "after {'a': '1'}"]
            late: list[Mapping[str, Any]] = []
            informer.on_change(late.append)
            assert late == informer.items()

    tell(cluster, control_namespace, story)


def test_nothing_is_missed_while_connections_break_all_the_time(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        informer = world.informer()
        heard: Counter[str] = Counter()
        informer.on_change(
            lambda item: heard.update([f"{item['metadata']['name']} {item['metadata']['resourceVersion']}"])
        )
        async with running(informer):
            for number in range(120):
                await world.apply(f"m-{number % 40}", a=str(number))
                if number % 10 == 7:
                    await world.delete(f"m-{number % 40}")
                if number % 9 == 0:
                    world.proxy.cut()

            async def fact() -> bool:
                truth = await world.truth()
                return {item["metadata"]["name"]: item for item in informer.items()} == truth

            await eventually_async(fact)
            # Twelve are gone; each of the 120 states and the last state of the vanished was heard of, once.
            assert len(names(informer)) == 36
            assert len(heard) == 120
            assert sum(heard.values()) == 132
            # A broken watch goes on where it was: it does not begin again.
            assert world.lists == 1

    tell(cluster, control_namespace, story)


def test_a_forgotten_moment_lists_again_and_finds_what_vanished_meanwhile(
    cluster: Cluster, control_namespace: str
) -> None:
    async def story(world: World) -> None:
        for name in ("stays", "changes", "vanishes", "reborn"):
            await world.apply(name, a="1")
        informer = world.informer()
        async with running(informer):
            await watching(world)
            heard: list[str] = []
            informer.on_change(lambda item: heard.append(item["metadata"]["name"]))
            heard.clear()
            # Cut off, behind the wall things happen, and afterwards the server remembers nothing of it.
            world.proxy.blocked = True
            world.proxy.cut()
            await world.delete("vanishes")
            await world.delete("reborn")
            await world.apply("reborn", a="1")
            await world.apply("changes", a="2")
            await world.apply("new", a="1")
            world.proxy.order(Order(410, EXPIRED, watch=True))
            world.proxy.blocked = False
            await holds(informer, {"stays", "changes", "reborn", "new"})
            assert sorted(heard) == ["changes", "new", "reborn", "vanishes"]
            assert {item["metadata"]["name"]: item for item in informer.items()} == await world.truth()
            assert world.lists == 2

    tell(cluster, control_namespace, story)


def test_an_expired_event_in_a_watch_lists_again(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        informer = world.informer()
        async with running(informer):
            await watching(world)
            await world.proxy.say(b'{"type":"ERROR","object":' + EXPIRED + b"}\n")

            async def fact() -> bool:
                return world.lists == 2 and world.proxy.watches == 1

            await eventually_async(fact)
            await world.apply("after", a="1")
            await holds(informer, {"after"})

    tell(cluster, control_namespace, story)


def test_bookmarks_move_the_moment_to_go_on_from(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        informer = world.informer()
        async with running(informer):
            await watching(world)
            await world.proxy.say(b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12345"}}}\n')

            async def resumed() -> bool:
                world.proxy.cut()
                # A server that has gone far beyond that moment refuses it, and is listed anew: it was asked, though.
                return any(one.is_watch and one.query.get("resourceVersion") == "12345" for one in world.proxy.seen)

            await eventually_async(resumed, every=0.5)

    tell(cluster, control_namespace, story)


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_server_that_refuses_is_asked_again_with_growing_pauses(
    cluster: Cluster, control_namespace: str, status: int
) -> None:
    async def story(world: World) -> None:
        informer = world.informer()
        world.proxy.order(Order(status, times=4))
        task = asyncio.create_task(informer.run())
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.wait_for(informer.synced.wait(), 30)
        # Four pauses of at least half of 0.2, 0.4, 0.8 and 1.6 seconds.
        assert loop.time() - started > 1.5
        assert len(world.proxy.seen) in {5, 6}
        task.cancel()
        await asyncio.wait({task})

    tell(cluster, control_namespace, story)


def test_a_moment_that_the_server_never_reaches_is_given_up(cluster: Cluster, control_namespace: str) -> None:
    """After a restore of etcd from a backup, the last moment lies in the future."""

    async def story(world: World) -> None:
        informer = world.informer()
        async with running(informer):
            await watching(world)
            world.proxy.order(Order(504, watch=True, times=3))
            world.proxy.cut()

            async def fact() -> bool:
                return world.lists == 2 and world.proxy.watches == 1

            await eventually_async(fact)

    tell(cluster, control_namespace, story)


def test_health_is_lost_when_the_server_is_away_for_long(
    cluster: Cluster, control_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SICK_SECONDS", 0.5)

    async def story(world: World) -> None:
        informer = world.informer()
        async with running(informer):
            await watching(world)
            contact = informer.last_contact
            world.proxy.order(Order(503, times=5))
            world.proxy.cut()

            async def sick() -> bool:
                return not informer.healthy

            async def well() -> bool:
                return informer.healthy

            await eventually_async(sick)
            assert informer.synced.is_set()
            await eventually_async(well)
            assert informer.last_contact is not None
            assert contact is not None
            assert informer.last_contact > contact

    tell(cluster, control_namespace, story)


def test_transform_keeps_only_what_is_needed(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        def keep(item: dict[str, Any]) -> dict[str, Any] | None:
            kept = {"name": item["metadata"]["name"], "namespace": item["metadata"]["namespace"]}
            return {"metadata": kept, "a": item["data"]["a"]} if item["data"]["a"] != "foreign" else None

        await world.apply("ours", a="1")
        await world.apply("theirs", a="foreign")
        informer = world.informer(transform=keep)
        heard: list[str] = []
        informer.on_change(lambda item: heard.append(item["a"]))
        async with running(informer):
            place = {"name": "ours", "namespace": world.namespace}
            assert informer.items() == [{"metadata": place, "a": "1"}]
            await world.apply("ours", a="1", noise="x")  # outside of what is kept
            await world.apply("theirs", a="foreign", noise="x")
            await world.apply("ours", a="2")
            await world.apply("ours", a="foreign")  # no longer ours: gone
            await world.apply("theirs", a="3")  # ours now
            await holds(informer, {"theirs"})
            assert heard == ["1", "2", "2", "3"]

    tell(cluster, control_namespace, story)


def test_a_transform_that_fails_keeps_the_cache_from_being_ready(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        informer = world.informer(transform=lambda item: {"metadata": item["metadata"], "a": item["data"]["a"]})
        await world.apply("bad", b="1")
        task = asyncio.create_task(informer.run())

        async def tried_twice() -> bool:
            return world.lists >= 2

        await eventually_async(tried_twice)
        assert not informer.synced.is_set()
        await world.apply("bad", a="1")
        await asyncio.wait_for(informer.synced.wait(), 30)
        assert not task.done()
        task.cancel()
        await asyncio.wait({task})

    tell(cluster, control_namespace, story)


def test_metadata_only_asks_for_no_more(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        informer = Informer(world.client, SECRETS, namespace=world.namespace, metadata_only=True)
        async with running(informer):
            secret = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "one", "namespace": world.namespace},
                "stringData": {"password": "s3cret"},
            }
            await world.admin.create(secret, manager="envprov-test")
            await holds(informer, {"one"})
            assert informer.items()[0].keys() == {"apiVersion", "kind", "metadata"}

    tell(cluster, control_namespace, story)


def test_indexes_follow_every_change(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        def tags(item: Mapping[str, Any]) -> list[str]:
            return str(item["data"]["tags"]).split()

        def found(value: str) -> set[str]:
            return {item["metadata"]["name"] for item in informer.by_index("tag", value)}

        informer = world.informer(indexes={"tag": tags})
        await world.apply("one", tags="red blue")
        async with running(informer):
            await world.apply("two", tags="blue")
            await holds(informer, {"one", "two"})
            assert (found("red"), found("blue"), found("none")) == ({"one"}, {"one", "two"}, set())
            await world.apply("one", tags="green")
            await world.delete("two")
            await holds(informer, {"one"})
            assert (found("red"), found("blue"), found("green")) == (set(), set(), {"one"})
            with pytest.raises(KeyError):
                informer.by_index("none", "red")

    tell(cluster, control_namespace, story)


def test_a_handler_that_fails_harms_nobody_else(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        def broken(_: Mapping[str, Any]) -> None:
            raise RuntimeError("a bug")

        informer = world.informer()
        heard: list[str] = []
        informer.on_change(broken)
        informer.on_change(lambda item: heard.append(item["metadata"]["name"]))
        await world.apply("one", a="1")
        async with running(informer):
            await world.apply("two", a="1")
            await holds(informer, {"one", "two"})
            assert heard == ["one", "two"]
            assert world.lists == 1

    tell(cluster, control_namespace, story)


def test_waiting_for_an_object_to_be_as_wanted(cluster: Cluster, control_namespace: str) -> None:
    async def story(world: World) -> None:
        informer = world.informer()

        async def wanted(predicate: Callable[[Mapping[str, Any] | None], bool]) -> Mapping[str, Any] | None:
            return await asyncio.wait_for(informer.wait_for("one", world.namespace, predicate), 60)

        # Before the first list nobody knows that there is no such object.
        early = asyncio.create_task(wanted(lambda item: item is None))
        await world.apply("one", a="1")
        await asyncio.sleep(0)
        assert not early.done()
        async with running(informer):
            assert (await wanted(lambda item: item is not None) or {})["data"] == {"a": "1"}
            newer = asyncio.create_task(wanted(lambda item: item is not None and item["data"]["a"] == "3"))
            gone = early
            await world.apply("one", a="2")
            await world.apply("one", a="3")
            assert (await newer or {})["data"] == {"a": "3"}
            assert not gone.done()
            await world.delete("one")
            assert await gone is None
            ended = asyncio.create_task(wanted(lambda _: False))
            await asyncio.sleep(0)
            ended.cancel()
            await asyncio.wait({ended})
            assert informer._waiters == {}  # noqa: SLF001 - nothing leaks

    tell(cluster, control_namespace, story)


def test_a_thousand_objects_of_every_namespace(cluster: Cluster, control_namespace: str) -> None:
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"m-{number}", "namespace": control_namespace, "labels": {"envprov.io/test": "all"}},
        }
        for number in range(1100)
    ]
    cluster.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    async def story(world: World) -> None:
        informer = Informer(world.client, CONFIG_MAPS, label_selector="envprov.io/test=all")
        async with running(informer):
            assert len(informer.items()) == 1100
            assert informer.get("m-7", world.namespace) is not None

    tell(cluster, control_namespace, story)
