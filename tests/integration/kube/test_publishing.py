"""What GitLab was told, and commands, on a real API server: field managers, tombstones and preconditions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from envprov.domain.commands import Command, Down, Extend, Pin, Redeploy, Rest
from envprov.domain.environment import (
    EXTENDED,
    REDEPLOY,
    Environment,
    EnvironmentStatus,
    GitLabStatus,
    parse_environment,
    told_of,
)
from envprov.domain.errors import Conflict
from envprov.domain.lifetime import Extension
from envprov.domain.names import slug
from envprov.domain.policies import RECORD
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.environments import Environments
from envprov.kube.informer import Informer
from envprov.kube.publishing import (
    BY_ENVIRONMENT,
    CommandBook,
    PublishingRecords,
    environment_index,
    environment_of_command,
    key_of_command,
)
from envprov.kube.records import ControllerRecords
from envprov.kube.requests import COMMAND
from envprov.kube.tombstones import SELECTOR
from tests.integration.records import connected, install_definition, let_go, project, push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cluster import Cluster

NAME = slug("shop", "feature/x")
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TOLD = GitLabStatus.model_validate(
    {
        "project": "group/shop",
        "environment": {"id": 1, "name": f"envprov/{NAME}", "url": "https://x.example.com"},
        "deployment": {"id": 2, "revision": "a" * 40, "status": "success"},
        "notes": [{"mergeRequest": 3, "id": 4, "digest": "0123456789abcdef"}],
        "commit": {"revision": "a" * 40, "state": "success"},
    }
)


@pytest.fixture(scope="module", autouse=True)
def _definition(cluster: Cluster) -> None:
    install_definition(cluster)


@pytest.fixture
def namespace(cluster: Cluster, control_namespace: str) -> Iterator[str]:
    yield control_namespace
    let_go(cluster, control_namespace)


@dataclass(frozen=True)
class Given:
    """A command as the receiver hears it."""

    branch: str = "feature/x"
    iid: int = 3
    note_id: int = 77
    discussion_id: str = "d1"
    author_id: int = 5
    author: str = "ada"
    text: str = "/envprov pin"
    created_at: datetime = NOW


@dataclass(frozen=True)
class Office:
    """One control namespace, with its caches."""

    client: KubeClient
    namespace: str
    store: Environments
    publishing: PublishingRecords
    book: CommandBook

    async def record(self) -> Environment:
        await self.store.record(project(), push("", "a"))
        return await self.seen()

    async def live(self) -> dict[str, Any]:
        live = await self.store.get(NAME)
        assert live is not None
        return live

    async def seen(self) -> Environment:
        return parse_environment(await self.live())

    async def end(self) -> None:
        await self.store.down("shop", "feature/x")
        await self.store.retire(await self.seen(), NOW)

    async def command(self) -> Command:
        await self.store.request_command(project(), Given())
        await until(lambda: len(self.book.commands(NAME)) == 1)
        (command,) = self.book.commands(NAME)
        return command


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not fact():  # noqa: ASYNC110 - caches tell nobody
            await asyncio.sleep(0.02)


@asynccontextmanager
async def office(cluster: Cluster, namespace: str) -> AsyncIterator[Office]:
    async with connected(cluster) as client:
        caches = [
            Informer(client, resources.ENVIRONMENTS, namespace=namespace),
            Informer(client, resources.CONFIG_MAPS, namespace=namespace, label_selector=SELECTOR),
            Informer(
                client,
                resources.CONFIG_MAPS,
                namespace=namespace,
                label_selector=f"{RECORD}={COMMAND}",
                indexes={BY_ENVIRONMENT: environment_index},
            ),
        ]
        store = Environments(client, namespace)
        records = ControllerRecords(client, store, namespace, caches[0], caches[0], caches[1])
        running = [asyncio.create_task(cache.run()) for cache in caches]
        try:
            await asyncio.gather(*(cache.synced.wait() for cache in caches))
            publishing = PublishingRecords(client, store, records)
            yield Office(client, namespace, store, publishing, CommandBook(client, store, records, caches[2]))
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


def test_neither_the_controller_nor_the_publisher_takes_what_the_other_says(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            environment = await here.record()
            await here.publishing.note(environment, TOLD)
            old = await here.seen()
            await here.publishing.note(environment, TOLD.model_copy(update={"notes": ()}))
            # The controller knows an older one, and reports twice.
            for url in ("https://a.example.com", "https://b.example.com"):
                await here.store.report(old, old.status.model_copy(update={"url": url}))
            live = await here.live()
            assert told_of(live) == TOLD.model_copy(update={"notes": ()})
            assert live["status"]["url"] == "https://b.example.com"
            await here.publishing.note(environment, TOLD)
            await here.store.report(old, EnvironmentStatus(slug=NAME))
            live = await here.live()
            assert (told_of(live), live["status"]["slug"]) == (TOLD, NAME)
            assert "url" not in live["status"]

    asyncio.run(story())


def test_a_numeric_project_is_kept_as_a_number(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            told = TOLD.model_copy(update={"project": 7})
            await here.publishing.note(await here.record(), told)
            assert told_of(await here.live()) == told

    asyncio.run(story())


def test_what_is_left_in_gitlab_outlives_the_record_until_it_is_settled(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            await here.publishing.note(await here.record(), TOLD)
            await here.end()
            await until(lambda: here.publishing.debt(NAME) is not None)
            debt = here.publishing.debt(NAME)
            assert debt is not None
            assert (debt.told, debt.why, debt.branch, debt.project) == (TOLD, "down", "feature/x", "shop")
            (stone,) = await here.store.tombstones()
            assert not stone.is_over(NOW + timedelta(days=6, hours=23), is_swept=False)
            assert stone.is_over(NOW + timedelta(days=7), is_swept=False)

            rest = TOLD.model_copy(update={"environment": None})
            await here.publishing.settle(debt, rest)
            with pytest.raises(Conflict):
                await here.publishing.settle(replace(debt, version="1"), None)
            await until(lambda: (now := here.publishing.debt(NAME)) is not None and now.told == rest)
            left = here.publishing.debt(NAME)
            assert left is not None
            await here.publishing.settle(left, None)
            (stone,) = await here.store.tombstones()
            assert (stone.told, stone.dismissed) == (None, "down")
            assert stone.is_over(NOW + timedelta(minutes=10), is_swept=False)

    asyncio.run(story())


def test_what_nobody_took_over_is_not_forgotten(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            await here.publishing.note(await here.record(), TOLD)
            await here.end()
            await here.store.up("shop", "feature/x", revision="b" * 40)
            await here.end()
            (stone,) = await here.store.tombstones()
            assert stone.told is not None
            assert stone.told.environment is not None
            assert [note.merge_request for note in stone.told.notes] == [3]

    asyncio.run(story())


def test_an_intention_that_comes_in_between_stops_the_record_from_going(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            await here.record()
            await here.store.down("shop", "feature/x")
            environment = await here.seen()
            apply = here.client.apply

            async def slow(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
                written = await apply(*args, **kwargs)
                await here.publishing.note(environment, TOLD)
                return written

            here.client.apply = slow  # type: ignore[method-assign]
            with pytest.raises(Conflict):
                await here.store.retire(environment, NOW)
            here.client.apply = apply  # type: ignore[method-assign]
            await here.store.retire(await here.seen(), NOW)
            (stone,) = await here.store.tombstones()
            assert stone.told == TOLD
            with pytest.raises(Conflict, match="not found"):
                await here.publishing.note(environment, TOLD)

    asyncio.run(story())


def test_a_command_goes_its_way_on_record(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            environment = await here.record()
            command = await here.command()
            assert (command.note_id, command.environment, command.act, command.done_at) == (77, NAME, None, None)
            act = Extend(environment.uid, Extension(NOW, NOW + timedelta(days=3)))
            begun = await here.book.save(replace(command, act=act))
            with pytest.raises(Conflict):
                await here.book.save(replace(command, answer="late"))
            await here.book.save(replace(begun, answer="Done\nall of it", done_at=NOW))
            await until(lambda: here.book.commands(NAME)[0].done_at is not None)
            (done,) = here.book.commands(NAME)
            assert (done.act, done.answer, done.done_at, done.text) == (act, "Done\nall of it", NOW, "/envprov pin")
            await here.store.request_command(project(), Given())  # delivered again: it is there
            await here.book.forget(done)
            await until(lambda: here.book.commands(NAME) == ())
            await here.book.forget(done)

    asyncio.run(story())


def test_what_is_carried_out_twice_is_carried_out_once(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            uid = (await here.record()).uid
            assert await here.book.carry_out(NAME, Pin(uid, pinned=True))
            assert await here.book.carry_out(NAME, Pin(uid, pinned=True))
            assert (await here.seen()).spec.pinned
            assert await here.book.carry_out(NAME, Pin(uid, pinned=False))
            assert "pinned" not in (await here.live())["spec"] or not (await here.seen()).spec.pinned

            first = Extension(NOW, NOW + timedelta(days=3))
            newer = Extension(NOW + timedelta(hours=1), NOW + timedelta(days=9))
            for extension in (first, newer, first):
                assert await here.book.carry_out(NAME, Extend(uid, extension))
            assert (await here.live())["metadata"]["annotations"][EXTENDED] == newer.encode()

            for at, expected in ((NOW, NOW), (NOW - timedelta(minutes=1), NOW), (NOW + timedelta(minutes=1), None)):
                assert await here.book.carry_out(NAME, Redeploy(uid, at))
                live = await here.store.get(NAME)
                assert live is not None
                said = datetime.fromisoformat(live["metadata"]["annotations"][REDEPLOY])
                assert said == (expected or at)  # an older wish than the last changes nothing
            assert not await here.book.carry_out(NAME, Down("another"))
            assert not (await here.seen()).deleting
            assert await here.book.carry_out(NAME, Down(uid))
            assert (await here.seen()).deleting
            assert not await here.book.carry_out(NAME, Down(uid))

    asyncio.run(story())


def test_sleep_is_written_as_a_choice_of_a_person(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            uid = (await here.record()).uid
            for asleep in (True, True, False, False):
                assert await here.book.carry_out(NAME, Rest(uid, asleep))
                assert (await here.seen()).spec.asleep is asleep
            managers = {entry["manager"] for entry in (await here.live())["metadata"]["managedFields"]}
            assert "envprov-options" in managers

    asyncio.run(story())


def test_a_command_that_nobody_can_read_has_a_key_of_its_own_and_can_be_discarded(
    cluster: Cluster, namespace: str
) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            await here.command()
            broken = await here.client.get(resources.CONFIG_MAPS, "command-77-shop", namespace)
            assert broken is not None
            assert key_of_command(broken) == NAME
            assert here.book.unreadable_since("command-77-shop") is None
            body = {"data": {"iid": "three"}}
            await here.client.merge_patch(resources.CONFIG_MAPS, "command-77-shop", namespace, body, manager="somebody")
            await until(lambda: here.book.commands(NAME) == ())
            since = here.book.unreadable_since("command-77-shop")
            assert since is not None
            assert since.tzinfo is not None
            await here.book.discard("command-77-shop")
            assert await here.client.get(resources.CONFIG_MAPS, "command-77-shop", namespace) is None
            await until(lambda: here.book.unreadable_since("command-77-shop") is None)
            await here.book.discard("command-77-shop")

    asyncio.run(story())


def test_a_record_that_cannot_be_understood_still_says_its_branch(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace) as here:
            await here.record()
            await until(lambda: here.publishing.environment(NAME) is not None)
            found = here.publishing.environment(NAME)
            assert found is not None
            assert found.spec.revision == "a" * 40
            manifest = await here.live()
            manifest["spec"]["size"] = {"not": "a size"}
            here.publishing.records.environments.get = lambda *_: manifest  # type: ignore[method-assign]
            found = here.publishing.environment(NAME)
            assert found is not None
            assert (found.spec.branch, found.spec.revision) == ("feature/x", "")

    asyncio.run(story())


def test_other_config_maps_are_no_commands() -> None:
    metadata = {"name": "settings", "namespace": "x", "uid": "1", "resourceVersion": "1"}
    assert environment_of_command({"metadata": metadata}) is None
    assert key_of_command({"metadata": metadata}) is None
    assert key_of_command({"metadata": metadata | {"labels": {"envprov.io/record": "command"}}}) == "configmap/settings"
