"""The ledger on a real API server: whoever writes at the same time, nobody spends what another has spent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from envprov.budgeting import LiveBudget, Measured
from envprov.domain.actions import Admit
from envprov.domain.admission import Admitted, Room, TooLarge, Waiting
from envprov.domain.desired import Desired, desire
from envprov.domain.environment import parse_environment
from envprov.domain.errors import Conflict, Invalid
from envprov.domain.ledger import LIMIT_BYTES, NAME, Entry
from envprov.domain.names import slug
from envprov.domain.observed import NamespaceState
from envprov.domain.platform import Platform
from envprov.domain.policies import RECORD
from envprov.domain.project import Project
from envprov.domain.sizes import DEFAULT_SIZES
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.informer import Informer
from envprov.kube.ledger import Ledger
from envprov.watched import keep_node
from tests.eventually import eventually_async
from tests.integration.records import connected, install_definition, let_go

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import Cluster

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
S, M = DEFAULT_SIZES["S"], DEFAULT_SIZES["M"]
ROUNDS = 100
CONTROLLERS = 4


@pytest.fixture(scope="module", autouse=True)
def _definition(cluster: Cluster) -> None:
    install_definition(cluster)


@pytest.fixture
def namespace(cluster: Cluster, control_namespace: str) -> Iterator[str]:
    yield control_namespace
    let_go(cluster, control_namespace)


def shop(**limits: Any) -> Project:  # noqa: ANN401 - any field
    spec = {"chart": {"local": {"path": "x"}}, "limits": limits, "rules": [{"branches": ["*"]}]}
    return Project.model_validate({"name": "shop", "spec": spec})


def entry(uid: str = "u-1", size_name: str = "S") -> Entry:
    return Entry(uid, "shop", size_name, DEFAULT_SIZES[size_name], "2026-11-24T12:00:00Z")


@dataclass(frozen=True)
class Office:
    """A controller's view of one control namespace: caches, ledger and budget of its own."""

    client: KubeClient
    budget: LiveBudget
    project: Project

    async def desired(self, branch: str) -> Desired:
        name = slug("shop", branch)
        await self.budget.environments.wait_for(name, self._namespace, lambda live: live is not None)
        live = self.budget.environments.get(name, self._namespace)
        assert live is not None
        return desire(parse_environment(live), self.project, self.budget.platform)

    async def admit(self, desired: Desired) -> None:
        """Admit an environment if the caches say that there is room, as a pass does."""
        admission = self.budget.admission(desired, NamespaceState.MISSING)
        if isinstance(admission, Room):
            await self.budget.admit(Admit(desired.identity, admission.entry, admission.asks))

    async def make(self, branch: str, **metadata: Any) -> str:  # noqa: ANN401 - any metadata
        created = await self.client.create(
            {
                "apiVersion": "envprov.io/v1alpha1",
                "kind": "Environment",
                "metadata": {"name": slug("shop", branch), "namespace": self._namespace, **metadata},
                "spec": {"project": "shop", "branch": branch},
            },
            manager="tests",
        )
        return str(created["metadata"]["uid"])

    @property
    def _namespace(self) -> str:
        return self.budget.platform.control_namespace


@asynccontextmanager
async def office(
    cluster: Cluster, namespace: str, project: Project, *, sees: str | None = None
) -> AsyncIterator[Office]:
    """Open a controller's view; one whose cache lags *sees* a single Environment."""
    async with connected(cluster) as client:
        ours = "app.kubernetes.io/managed-by=envprov"
        only = f"metadata.name={sees}" if sees else None
        caches = [
            Informer(client, resources.ENVIRONMENTS, namespace=namespace, field_selector=only),
            Informer(client, resources.NAMESPACES, label_selector=ours),
            Informer(client, resources.CONFIG_MAPS, namespace=namespace, label_selector=RECORD),
        ]
        budget = LiveBudget(
            client=client,
            ledger=Ledger(client, namespace, caches[2]),
            environments=caches[0],
            namespaces=caches[1],
            project=lambda name: project if name == "shop" else None,
            platform=Platform(control_namespace=namespace),
            cluster=dict,
            patience=timedelta(minutes=10),
            now=lambda: NOW,
        )
        running = [asyncio.create_task(cache.run()) for cache in caches]
        try:
            await asyncio.gather(*(cache.synced.wait() for cache in caches))
            yield Office(client, budget, project)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)


async def tried(work: Awaitable[None]) -> None:
    """Do something as a worker does: who was too slow tries again later."""
    try:
        await work
    except Conflict:
        return


def test_of_four_controllers_at_once_one_spends_the_last_cpu(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            project = shop(requests={"cpu": "1"})
            # None of them knows yet for whom the others ask, so that the line alone cannot settle it.
            offices = [
                await stack.enter_async_context(office(cluster, namespace, project, sees=slug("shop", f"b{number}")))
                for number in range(CONTROLLERS)
            ]
            wanted = []
            for number in range(CONTROLLERS):
                await offices[0].make(f"b{number}")
            for number, one in enumerate(offices):
                wanted.append(await one.desired(f"b{number}"))
            truth = Ledger(offices[0].client, namespace)
            wins = dict.fromkeys((desired.identity.name for desired in wanted), 0)
            for _ in range(ROUNDS):
                await asyncio.gather(*(tried(one.admit(desired)) for one, desired in zip(offices, wanted, strict=True)))
                await truth.refresh()
                (winner,) = truth.names()  # never none, never two
                wins[winner] += 1
                await truth.remove(winner)
                await eventually_async(lambda: _all_empty(offices), message="a cache does not see the removal")
            assert sum(wins.values()) == ROUNDS
            assert len([name for name, count in wins.items() if count]) > 1

    asyncio.run(story())


async def _all_empty(offices: list[Office]) -> bool:
    return not any(one.budget.ledger.names() for one in offices)


def test_of_four_writers_at_once_that_ask_nobody_one_is_first(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            ledgers = [Ledger(client, namespace) for _ in range(CONTROLLERS)]
            for turn in range(ROUNDS):
                await asyncio.gather(*(ledger.refresh() for ledger in ledgers))
                results = await asyncio.gather(
                    *(ledger.put(f"e{turn}-{number}", entry()) for number, ledger in enumerate(ledgers)),
                    return_exceptions=True,
                )
                assert sorted(type(one).__name__ for one in results) == ["Conflict"] * 3 + ["NoneType"]
            await ledgers[0].refresh()
            assert len(ledgers[0].names()) == ROUNDS

    asyncio.run(story())


def test_one_process_admits_many_at_once_without_conflicts(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace, shop(environments=20)) as there:
            for number in range(25):
                await there.make(f"b{number:02}")
            wanted = [await there.desired(f"b{number:02}") for number in range(25)]
            await asyncio.gather(*(there.admit(desired) for desired in wanted))
            assert sorted(there.budget.ledger.names()) == sorted(desired.identity.name for desired in wanted[:20])
            late = there.budget.admission(wanted[20], NamespaceState.MISSING)
            assert isinstance(late, Waiting)
            assert (late.place.position, late.held) == (1, None)

    asyncio.run(story())


def test_what_is_there_already_is_admitted_without_asking(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace, shop(environments=1)) as there:
            for branch in ("old", "older", "new"):
                await there.make(branch)
            for branch in ("old", "older"):
                desired = await there.desired(branch)
                admission = there.budget.admission(desired, NamespaceState.OURS)
                assert isinstance(admission, Room)
                assert not admission.asks
                await there.budget.admit(Admit(desired.identity, admission.entry, admission.asks))
                assert there.budget.admission(desired, NamespaceState.OURS) == Admitted()
            assert isinstance(there.budget.admission(await there.desired("new"), NamespaceState.MISSING), Waiting)
            foreign = there.budget.admission(await there.desired("new"), NamespaceState.FOREIGN)
            assert foreign == Admitted()  # it is refused for that, and spends nothing

    asyncio.run(story())


def test_what_is_refused_gives_its_room_back_unless_it_is_there(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace, shop(environments=1)) as there:
            await there.make("a")
            desired = await there.desired("a")
            await there.admit(desired)
            other = replace(desired.identity, uid="another")
            await there.budget.admit(Admit(other, None, asks=False))
            held = there.budget.admission(desired, NamespaceState.MISSING)
            assert isinstance(held, Admitted)
            assert held.held is not None
            await there.budget.admit(Admit(desired.identity, None, asks=False))
            assert there.budget.ledger.names() == frozenset()
            await there.budget.admit(Admit(desired.identity, None, asks=False))  # a second time does nothing

    asyncio.run(story())


def test_size_that_grows_waits_with_the_old_one_and_shrinks_at_once(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace, shop(requests={"cpu": "2"})) as there:
            await there.make("a")
            await there.make("b")
            for branch in ("a", "b"):
                await there.admit(await there.desired(branch))
            small = await there.desired("a")
            large = _sized(small, "M")
            waits = there.budget.admission(large, NamespaceState.OURS)
            assert isinstance(waits, Waiting)
            assert waits.held is not None
            assert (waits.held.size_name, waits.held.size) == ("S", S)
            never = there.budget.admission(_sized(small, "L"), NamespaceState.OURS)
            assert isinstance(never, TooLarge)
            assert never.held == waits.held
            await there.budget.ledger.remove(slug("shop", "b"))
            await there.admit(large)
            assert there.budget.ledger.entries()[small.identity.name].size == M
            await there.admit(small)
            assert there.budget.ledger.entries()[small.identity.name].size == S

    asyncio.run(story())


def _sized(desired: Desired, name: str) -> Desired:
    return replace(desired, size_name=name, size=DEFAULT_SIZES[name])


def test_room_comes_back_only_when_record_and_namespace_are_gone(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace, shop(environments=1)) as there:
            name = slug("shop", "a")
            await there.make("a", finalizers=["envprov.io/teardown"])
            desired = await there.desired("a")
            await there.admit(desired)
            marks = {"app.kubernetes.io/managed-by": "envprov"}
            owner = {"envprov.io/owner": f"{namespace}/{name}"}
            live = await there.client.create(
                {
                    "apiVersion": "v1",
                    "kind": "Namespace",
                    "metadata": {"name": f"env-{name}", "labels": marks, "annotations": owner},
                },
                manager="tests",
            )
            assert there.budget.gone() == ()
            assert await there.budget.reclaim(name) is False
            await there.client.delete(resources.ENVIRONMENTS, name, namespace, uid=desired.identity.uid)
            body = {"metadata": {"finalizers": None}}
            await there.client.merge_patch(resources.ENVIRONMENTS, name, namespace, body, manager="tests")
            await there.budget.environments.wait_for(name, namespace, lambda item: item is None)
            assert await there.budget.reclaim(name) is False  # its namespace is still there
            await there.client.delete(resources.NAMESPACES, f"env-{name}", uid=live["metadata"]["uid"])

            async def is_gone() -> bool:
                return there.budget.gone() == (name,)

            await eventually_async(is_gone, message="the namespace does not go")
            await there.make("a")  # the branch is back already: the old entry is another one's
            await there.budget.environments.wait_for(name, namespace, lambda item: item is not None)
            waits = there.budget.admission(await there.desired("a"), NamespaceState.MISSING)
            assert isinstance(waits, Waiting)
            assert await there.budget.reclaim(name) is True
            assert there.budget.ledger.names() == frozenset()
            assert isinstance(there.budget.admission(await there.desired("a"), NamespaceState.MISSING), Room)

    asyncio.run(story())


def test_ledger_that_was_deleted_or_spoilt_is_made_anew(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            ledger = Ledger(client, namespace)
            await ledger.put("a", entry())
            cluster.kubectl("delete", "cm", NAME, "-n", namespace)
            with pytest.raises(Conflict):
                await ledger.put("b", entry())
            await ledger.refresh()
            await ledger.put("b", entry())
            assert ledger.names() == {"b"}
            cluster.kubectl("patch", "cm", NAME, "-n", namespace, "--type=merge", "-p", '{"data":{"b":"{"}}')
            await ledger.refresh()
            assert ledger.names() == {"b"}
            assert not ledger.entries()
            body = {"data": {"b": "[" * 100_000}}
            await client.merge_patch(resources.CONFIG_MAPS, NAME, namespace, body, manager="tests")
            await ledger.refresh()
            assert not ledger.entries()
            assert ledger.cluster_budget() is None
            await ledger.say_cluster_budget({"cpu": "200"})
            assert ledger.cluster_budget() == {"cpu": "200"}
            await ledger.say_cluster_budget({})
            assert ledger.cluster_budget() is None

    asyncio.run(story())


def test_full_ledger_says_so_before_the_api_server_does(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            ledger = Ledger(client, namespace)
            await ledger.put("a", entry())
            per_entry = 40 + len(entry("11111111-1111-4111-8111-111111111111").encode())
            assert LIMIT_BYTES // per_entry > 3000  # how many environments one control namespace can have
            filling = "x" * (LIMIT_BYTES - 2 * per_entry)
            body = {"data": {"filling": filling}}
            await client.merge_patch(resources.CONFIG_MAPS, NAME, namespace, body, manager="tests")
            await ledger.refresh()
            await ledger.put("b", entry())
            with pytest.raises(Invalid, match=f"ConfigMap {NAME} in namespace {namespace} is full with 3 environments"):
                await ledger.put("c", entry())

    asyncio.run(story())


def test_full_ledger_stops_only_those_for_whom_a_budget_counts(cluster: Cluster, namespace: str) -> None:
    async def story(project: Project) -> tuple[object, object, list[str]]:
        async with office(cluster, namespace, project) as there:
            ledger = there.budget.ledger
            await ledger.put("filling", entry())
            body = {"data": {"filling": "x" * (LIMIT_BYTES - 100)}}
            await there.client.merge_patch(resources.CONFIG_MAPS, NAME, namespace, body, manager="tests")
            await ledger.refresh()
            await there.make("a")
            desired = await there.desired("a")
            seen = [there.budget.admission(desired, state) for state in (NamespaceState.OURS, NamespaceState.MISSING)]
            try:
                await there.admit(desired)
                said = []
            except Invalid as error:
                said = [str(error)]
            cluster.kubectl("delete", "cm", NAME, "-n", namespace)
            cluster.kubectl("delete", "env", desired.identity.name, "-n", namespace)
            await eventually_async(lambda: _all_empty([there]), message="the ledger stays")
            return seen[0], seen[1], said

    there, new, said = asyncio.run(story(shop()))
    assert (there, new, said) == (Admitted(), Admitted(), [])
    there, new, said = asyncio.run(story(shop(environments=9)))
    assert there == Admitted()
    assert isinstance(new, Room)
    assert "is full with 1 environments" in said[0]


def test_ledger_that_lost_its_labels_is_found_again(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with office(cluster, namespace, shop(environments=1)) as there:
            await there.make("a")
            await there.make("b")
            await there.admit(await there.desired("a"))
            cluster.kubectl("label", "cm", NAME, "-n", namespace, f"{RECORD}-")
            await eventually_async(lambda: _all_empty([there]), message="the cache still sees it")
            await there.admit(await there.desired("a"))  # who misses its entry writes it, and meets the old ledger
            assert sorted(there.budget.ledger.names()) == [slug("shop", "a")]
            waits = there.budget.admission(await there.desired("b"), NamespaceState.MISSING)
            assert isinstance(waits, Waiting)
            labels = cluster.kubectl("get", "cm", NAME, "-n", namespace, "-o", "jsonpath={.metadata.labels}")
            assert RECORD in labels

    asyncio.run(story())


def test_budget_is_measured_from_the_nodes_as_they_are(cluster: Cluster) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            nodes = Informer(client, resources.NODES, transform=keep_node)
            budget = Measured(nodes, Decimal("0.5"))
            running = asyncio.create_task(nodes.run())
            try:
                await nodes.synced.wait()
                has = [item["status"]["allocatable"] for item in nodes.items() if item["status"]["allocatable"]]
                assert has
                assert budget()["cpu"] == sum(Decimal(one["cpu"]) for one in has) / 2
                assert set(budget()) == {"cpu", "memory", "ephemeral-storage"}
            finally:
                running.cancel()
                await asyncio.wait({running})

    asyncio.run(story())
