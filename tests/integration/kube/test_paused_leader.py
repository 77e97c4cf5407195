"""Race R10: who was paused while another led takes nothing away when it goes on, wherever it stood."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from envprov.domain.errors import LeadershipLost
from envprov.domain.holds import Account
from envprov.kube.client import Connection, KubeClient, Object
from envprov.kube.holds import Holds
from envprov.kube.lease import Holder, LeaderElection
from envprov.kube.mandate import Mandate, mandated
from envprov.kube.resources import LEASES, SERVICE_ACCOUNTS, Resource
from tests.cluster import Cluster
from tests.eventually import eventually_async
from tests.integration.guard.worlds import MANAGER, held_by, keys_on, make_account, uid_of

DURATION = timedelta(seconds=3)
HOLD = held_by("alice", uid="1")
Work = Callable[[LeaderElection, KubeClient, asyncio.Task[None]], Coroutine[Any, Any, None]]


class Forgetful(KubeClient):
    """A client whose process is paused after it has the next answer about a Lease."""

    pause: Callable[[], object] | None = None

    async def get(self, resource: Resource, *args: Any, **kwargs: Any) -> Object | None:  # noqa: ANN401 - handed on
        found = await super().get(resource, *args, **kwargs)
        if resource is LEASES and self.pause is not None:
            pause, self.pause = self.pause, None
            pause()
        return found


def candidate(client: KubeClient, namespace: str, identity: str) -> LeaderElection:
    return LeaderElection(client, namespace=namespace, name="test", identity=identity, lease_duration=DURATION)


@contextmanager
def rival(cluster: Cluster, namespace: str) -> Iterator[Callable[[], None]]:
    """
    Somebody who leads as soon as nobody else does.

    Yields a function that pauses this whole process, as SIGSTOP does, until the other one leads.
    """
    leads, over = threading.Event(), threading.Event()

    async def live() -> None:
        async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:

            async def work() -> None:
                leads.set()
                await asyncio.Event().wait()

            leading = asyncio.create_task(candidate(client, namespace, "rival").lead(work))
            await asyncio.to_thread(over.wait)
            leading.cancel()
            await asyncio.wait({leading})

    thread = threading.Thread(target=lambda: asyncio.run(live()))

    def pause() -> None:
        thread.start()
        assert leads.wait(60), "the other one never led"

    try:
        yield pause
    finally:
        over.set()
        if thread.ident is not None:
            thread.join()


def lead(cluster: Cluster, namespace: str, work: Work) -> None:
    """
    Lead with a client that takes things away only as leader, and then do something.

    Not as the work that is led, which is cancelled in one of the next turns of the event loop, and goes on until then.
    Others have led before.
    """

    async def story() -> None:
        mandate, leads = Mandate(), asyncio.Event()

        async def idle() -> None:
            leads.set()
            await asyncio.Event().wait()

        async with (
            mandated(Connection(cluster.kubeconfig), mandate, timeout=timedelta(seconds=10)) as client,
            Forgetful.connect(Connection(cluster.kubeconfig)) as own,
        ):
            lease = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "spec": {"leaseTransitions": 6}}
            await own.create(lease | {"metadata": {"name": "test", "namespace": namespace}}, manager=MANAGER)
            election = candidate(own, namespace, "first")
            mandate.rest_on(election.confirm)
            leading = asyncio.create_task(election.lead(idle))
            try:
                await leads.wait()
                await work(election, client, leading)
            finally:
                leading.cancel()
                await asyncio.wait({leading})

    asyncio.run(story())


async def make_held(client: KubeClient, namespace: str) -> tuple[Account, str]:
    account = await make_account(client, namespace, "deployer")
    await Holds(client).acquire(account, HOLD)
    return account, await uid_of(client, account)


def test_who_was_paused_deletes_nothing_and_lets_nothing_go(cluster: Cluster, control_namespace: str) -> None:
    async def work(_: LeaderElection, client: KubeClient, leading: asyncio.Task[None]) -> None:
        held, uid = await make_held(client, control_namespace)
        free = [await make_account(client, control_namespace, name) for name in ("one", "two")]
        one, two = [(SERVICE_ACCOUNTS, account.name, account.namespace) for account in free]
        uids = [await uid_of(client, account) for account in free]
        assert await client.delete(*one, uid=uids[0])
        with rival(cluster, control_namespace) as pause:
            pause()
            # The very next requests, before anything else in this process has had its turn.
            for attempt in (
                client.delete(*two, uid=uids[1]),
                client.acting_as("system:admin").delete(*two, uid=uids[1]),
                Holds(client).release(held, HOLD.key),
                Holds(client).mark_released(SERVICE_ACCOUNTS, held.name, held.namespace, uid),
            ):
                with pytest.raises(LeadershipLost):
                    await attempt
            assert await uid_of(client, free[1]) == uids[1]
            assert HOLD.key in (await keys_on(client, held))[0]
            with pytest.raises(LeadershipLost, match="not renewed within"):
                await leading

    lead(cluster, control_namespace, work)


def test_an_answer_from_before_the_pause_is_not_believed(cluster: Cluster, control_namespace: str) -> None:
    async def work(election: LeaderElection, _: KubeClient, __: asyncio.Task[None]) -> None:
        await election.confirm()
        own = election._client  # noqa: SLF001 - the pause is between its answer and the next step
        assert isinstance(own, Forgetful)
        with rival(cluster, control_namespace) as pause:
            own.pause = pause
            with pytest.raises(LeadershipLost, match="not renewed within"):
                await election.confirm()

    lead(cluster, control_namespace, work)


def test_a_lease_that_somebody_else_had_meanwhile_is_another_one(cluster: Cluster, control_namespace: str) -> None:
    async def work(election: LeaderElection, client: KubeClient, leading: asyncio.Task[None]) -> None:
        for spec in ({"holderIdentity": "rival", "leaseTransitions": 8}, {"holderIdentity": ""}):
            await client.merge_patch(LEASES, "test", control_namespace, {"spec": spec}, manager=MANAGER)
        with pytest.raises(LeadershipLost, match="not ours"):
            await election.confirm()
        with pytest.raises(LeadershipLost, match="somebody else"):
            await leading

    lead(cluster, control_namespace, work)


def test_a_lease_that_was_deleted_and_made_again_by_us_is_the_same(cluster: Cluster, control_namespace: str) -> None:
    async def work(election: LeaderElection, client: KubeClient, leading: asyncio.Task[None]) -> None:
        lease = await client.get(LEASES, "test", control_namespace)
        assert lease is not None
        await client.delete(LEASES, "test", control_namespace, uid=lease["metadata"]["uid"])
        with pytest.raises(LeadershipLost):
            await election.confirm()

        async def is_confirmed() -> bool:
            try:
                await election.confirm()
            except LeadershipLost:
                return False
            return True

        await eventually_async(is_confirmed, message="it is not made again")
        assert (await election.holder() or Holder("", None, 0)).transitions == 7
        assert not leading.done()

    lead(cluster, control_namespace, work)


def test_who_does_not_lead_yet_takes_nothing_away(cluster: Cluster, control_namespace: str) -> None:
    async def story() -> None:
        mandate = Mandate()
        async with mandated(Connection(cluster.kubeconfig), mandate, timeout=timedelta(seconds=10)) as client:
            account, _ = await make_held(client, control_namespace)
            free = await make_account(client, control_namespace, "free")
            uid = await uid_of(client, free)
            mandate.rest_on(candidate(client, control_namespace, "follower").confirm)
            with pytest.raises(LeadershipLost):
                await Holds(client).release(account, HOLD.key)
            with pytest.raises(LeadershipLost):
                await client.delete(SERVICE_ACCOUNTS, free.name, free.namespace, uid=uid)
            # What is tried only, and what is put on, needs no leave.
            assert await client.delete(SERVICE_ACCOUNTS, free.name, free.namespace, uid=uid, dry_run=True)
            await Holds(client).acquire(account, held_by("bob", uid="2"))

    asyncio.run(story())
