"""One leader at a time on a real API server: taken over when it falls silent, handed over when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from envprov.domain.errors import ConfigError, LeadershipLost
from envprov.kube.client import Connection, KubeClient
from envprov.kube.lease import LeaderElection
from envprov.kube.resources import LEASES
from tests.cluster import Cluster
from tests.eventually import eventually_async
from tests.faults import FaultProxy, Order

DURATION = timedelta(seconds=3)
PATIENT = timedelta(seconds=6)
"""Where the one who leads is not to lose the Lease, though the computer may stand still for seconds."""
RETRY = timedelta(seconds=0.4)
NEVER = timedelta(hours=1)
"""A Lease that nobody gets because it runs out."""


class Work:
    """What leaders do: it keeps a diary of who worked from when to when."""

    def __init__(self) -> None:
        self.diary: list[tuple[str, str]] = []
        self.moments: list[float] = []

    def of(self, identity: str, *, ending: float = 0.0) -> Callable[[], Coroutine[Any, Any, None]]:
        async def work() -> None:
            self._note(identity, "begins")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(ending)
                self._note(identity, "ends")

        return work

    def _note(self, identity: str, what: str) -> None:
        self.diary.append((identity, what))
        self.moments.append(asyncio.get_running_loop().time())

    async def reaches(self, *diary: tuple[str, str], within: float = 30.0) -> None:
        async def fact() -> bool:
            return self.diary == list(diary)

        await eventually_async(fact, within=within, every=0.01, message=f"not {diary}")


def candidate(client: KubeClient, namespace: str, identity: str, duration: timedelta = DURATION) -> LeaderElection:
    return LeaderElection(
        client,
        namespace=namespace,
        name="test",
        identity=identity,
        lease_duration=duration,
        renew_deadline=duration * 2 / 3,
        retry=RETRY,
    )


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def kill(task: asyncio.Task[None]) -> None:
    """End a leader as kill -9 would: nothing is handed back. Two cancellations do that to the task itself."""
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task})


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[KubeClient]:
    async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:
        yield client


async def spec(client: KubeClient, namespace: str) -> dict[str, Any]:
    lease = await client.get(LEASES, "test", namespace)
    assert lease is not None
    found: dict[str, Any] = lease["spec"]
    return found


def test_of_two_candidates_one_leads_and_goes_on_leading(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            work = Work()
            elections = [candidate(client, control_namespace, identity, PATIENT) for identity in "ab"]
            tasks = [asyncio.create_task(one.lead(work.of(one.identity))) for one in elections]
            await asyncio.sleep(PATIENT.total_seconds() * 1.5)
            ((leader, _),) = work.diary
            assert [one.is_leader for one in elections] == [one.identity == leader for one in elections]
            holder = await elections[0].holder()
            assert holder is not None
            assert (holder.identity, holder.transitions) == (leader, 0)
            assert holder.renewed is not None
            assert datetime.now(UTC) - holder.renewed < PATIENT
            await asyncio.gather(*(ended(task) for task in tasks))

    asyncio.run(story())


def test_a_leader_that_ends_hands_over_at_once(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            work = Work()
            first, second = (candidate(client, control_namespace, identity, NEVER) for identity in "ab")
            leading = asyncio.create_task(first.lead(work.of("a")))
            await work.reaches(("a", "begins"))
            waiting = asyncio.create_task(second.lead(work.of("b")))
            await asyncio.sleep(0.5)
            leading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leading
            await work.reaches(("a", "begins"), ("a", "ends"), ("b", "begins"))
            lease = await spec(client, control_namespace)
            assert (lease["holderIdentity"], lease["leaseTransitions"]) == ("b", 1)
            await ended(waiting)
            lease = await spec(client, control_namespace)
            assert (lease["holderIdentity"], lease["leaseDurationSeconds"], lease["leaseTransitions"]) == ("", 1, 1)

    asyncio.run(story())


def test_the_default_times_hand_over_long_before_the_lease_runs_out(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            work = Work()
            one, two = (
                LeaderElection(client, namespace=control_namespace, name="test", identity=name) for name in "ab"
            )
            first = asyncio.create_task(one.lead(work.of("a")))
            await work.reaches(("a", "begins"))
            second = asyncio.create_task(two.lead(work.of("b")))
            await asyncio.sleep(0.5)
            await ended(first)
            await work.reaches(("a", "begins"), ("a", "ends"), ("b", "begins"))
            assert work.moments[2] - work.moments[1] < 10
            await ended(second)

    asyncio.run(story())


def test_work_that_takes_long_to_end_is_protected_until_it_has(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            work = Work()
            one, two = (candidate(client, control_namespace, identity, PATIENT) for identity in "ab")
            first = asyncio.create_task(one.lead(work.of("a", ending=PATIENT.total_seconds() + 2)))
            await work.reaches(("a", "begins"))
            second = asyncio.create_task(two.lead(work.of("b")))
            await asyncio.sleep(0.5)
            first.cancel()
            await work.reaches(("a", "begins"), ("a", "ends"), ("b", "begins"))
            assert work.moments[1] - work.moments[0] > PATIENT.total_seconds()
            await ended(second)

    asyncio.run(story())


def test_a_killed_leader_is_replaced_after_the_duration(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with (
            FaultProxy(cluster.kubeconfig) as proxy,
            connected(cluster) as client,
            KubeClient.connect(proxy.connection) as doomed,
        ):
            work = Work()
            task = asyncio.create_task(candidate(doomed, control_namespace, "a").lead(work.of("a")))
            await work.reaches(("a", "begins"))
            second = asyncio.create_task(candidate(client, control_namespace, "b").lead(work.of("b")))
            await asyncio.sleep(1)
            proxy.blocked = True  # not even a last word
            await kill(task)
            await work.reaches(("a", "begins"), ("a", "ends"), ("b", "begins"))
            assert work.moments[2] - work.moments[1] > DURATION.total_seconds() - 1
            assert (await spec(client, control_namespace))["leaseTransitions"] == 1
            await ended(second)

    asyncio.run(story())


def test_a_leader_that_is_cut_off_has_stopped_before_another_starts(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with (
            FaultProxy(cluster.kubeconfig) as proxy,
            connected(cluster) as client,
            KubeClient.connect(proxy.connection) as far,
        ):
            work = Work()
            first = asyncio.create_task(candidate(far, control_namespace, "a").lead(work.of("a")))
            await work.reaches(("a", "begins"))
            second = asyncio.create_task(candidate(client, control_namespace, "b").lead(work.of("b")))
            await asyncio.sleep(1)
            proxy.blocked = True
            with pytest.raises(LeadershipLost, match=f"lease {control_namespace}/test: not renewed within 2"):
                await first
            await work.reaches(("a", "begins"), ("a", "ends"), ("b", "begins"))
            await ended(second)

    asyncio.run(story())


def test_a_short_outage_is_survived(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with FaultProxy(cluster.kubeconfig) as proxy, KubeClient.connect(proxy.connection) as client:
            work = Work()
            # An outage is short by comparison with this.
            leading = candidate(client, control_namespace, "a", timedelta(minutes=1)).lead(work.of("a"))
            task = asyncio.create_task(leading)
            await work.reaches(("a", "begins"))
            for status in (500, 429, 503):
                proxy.order(Order(status, method="PATCH"))
            proxy.cut()
            begun = len(proxy.seen)

            async def is_over() -> bool:
                return len([one for one in proxy.seen[begun:] if one.method == "PATCH"]) > 4

            await eventually_async(is_over, message="it is not renewed")
            assert work.diary == [("a", "begins")]
            assert not task.done()
            await ended(task)

    asyncio.run(story())


def test_a_lease_that_was_taken_by_force_stops_the_work(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            work = Work()
            task = asyncio.create_task(candidate(client, control_namespace, "a").lead(work.of("a")))
            await work.reaches(("a", "begins"))
            body = {"spec": {"holderIdentity": "somebody"}}
            await client.merge_patch(LEASES, "test", control_namespace, body, manager="envprov-test")
            with pytest.raises(LeadershipLost, match="somebody else took it"):
                await asyncio.wait_for(task, 30)
            assert work.diary == [("a", "begins"), ("a", "ends")]
            # What is somebody else's is not handed back.
            assert (await spec(client, control_namespace))["holderIdentity"] == "somebody"

    asyncio.run(story())


def test_a_lease_that_was_deleted_is_made_again(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            work = Work()
            leading = candidate(client, control_namespace, "a", PATIENT).lead(work.of("a"))
            task = asyncio.create_task(leading)
            await work.reaches(("a", "begins"))
            lease = await client.get(LEASES, "test", control_namespace)
            assert lease is not None
            await client.delete(LEASES, "test", control_namespace, uid=lease["metadata"]["uid"])

            async def is_back() -> bool:
                return await client.get(LEASES, "test", control_namespace) is not None

            await eventually_async(is_back)
            assert work.diary == [("a", "begins")]
            await ended(task)

    asyncio.run(story())


def test_work_that_ends_or_fails_hands_the_lease_back(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:

            async def fine() -> None:
                pass

            async def broken() -> None:
                raise RuntimeError("a bug")

            await candidate(client, control_namespace, "a").lead(fine)
            assert (await spec(client, control_namespace))["holderIdentity"] == ""
            with pytest.raises(RuntimeError, match="a bug"):
                await candidate(client, control_namespace, "b").lead(broken)
            assert (await spec(client, control_namespace))["holderIdentity"] == ""
            assert (await spec(client, control_namespace))["leaseTransitions"] == 1

    asyncio.run(story())


def test_nobody_holds_a_lease_that_is_not_there(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            assert await candidate(client, control_namespace, "a").holder() is None

    asyncio.run(story())


@pytest.mark.parametrize(("duration", "deadline", "retry"), [(3, 3, 1), (3, 2, 2), (0.5, 0.3, 0.1), (3, 2, -1)])
def test_times_that_do_not_fit_are_refused(cluster: Cluster, duration: float, deadline: float, retry: float) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            with pytest.raises(ConfigError, match="lease_duration"):
                LeaderElection(
                    client,
                    namespace="n",
                    name="test",
                    identity="a",
                    lease_duration=timedelta(seconds=duration),
                    renew_deadline=timedelta(seconds=deadline),
                    retry=timedelta(seconds=retry),
                )

    asyncio.run(story())
