"""
Holds against deletions, thousands of times, with the deletions spread over two API servers on one etcd.

What must never happen: a hold was acknowledged, and the object is gone or going.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from envprov.domain.errors import Conflict, Forbidden, HoldLost
from envprov.domain.holds import Account
from envprov.kube.client import Connection, KubeClient
from envprov.kube.holds import Holds
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS
from tests.cluster import Cluster
from tests.integration.guard.worlds import MANAGER, PATIENCE, arm, held_by, make_account, manifest, put

PAIRS = 2000
TRIES = 2000
AT_ONCE = 20
HOLD = held_by("alice", uid="1")
REFUSED = "ValidatingAdmissionPolicy 'envprov-delete-guard'"


@asynccontextmanager
async def servers(lonely: Cluster, twin: Cluster) -> AsyncIterator[tuple[KubeClient, KubeClient]]:
    """Clients of both API servers, with writes going on all the time."""
    async with (
        KubeClient.connect(Connection(lonely.kubeconfig), timeout=PATIENCE) as one,
        KubeClient.connect(Connection(twin.kubeconfig), timeout=PATIENCE) as other,
    ):
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as writing:
            for index, client in enumerate((one, other)):
                writing.create_task(write_on(client, f"load-{index}", enough))
            try:
                yield one, other
            finally:
                enough.set()


async def write_on(client: KubeClient, name: str, enough: asyncio.Event) -> None:
    number = 0
    while not enough.is_set():
        number += 1
        body = manifest("ConfigMap", name, "default", data={"number": str(number)})
        await client.apply(body, manager=MANAGER)


async def at_once(work: Callable[[int], Awaitable[None]], count: int) -> None:
    """Do something many times, so many at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


class Race:
    """
    A hold against a deletion that begins up to twice as late as a hold takes: either wins about as often.

    Attributes:
        outcomes: How often each was acknowledged.

    """

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[bool, bool]] = Counter()
        self._usual = 0.02

    async def run(self, hold: Awaitable[str | None], deletion: Awaitable[bool]) -> str | None:
        """Run one; returns the UID for which the hold was acknowledged."""

        async def timed() -> str | None:
            began = time.monotonic()
            held = await hold
            if held is not None:
                self._usual = 0.9 * self._usual + 0.1 * (time.monotonic() - began)
            return held

        async def late() -> bool:
            await asyncio.sleep(random.uniform(0, 2 * self._usual))  # noqa: S311 - not a secret
            return await deletion

        held, was_deleted = await asyncio.gather(timed(), late())
        self.outcomes[held is not None, was_deleted] += 1
        return held

    def was_fair(self, count: int) -> bool:
        """Whether all ended one way or the other, never both ways, and neither way hardly ever."""
        ways = self.outcomes[True, False], self.outcomes[False, True]
        return sum(ways) == count and min(ways) > count // 20


async def is_held(client: KubeClient, account: Account) -> str | None:
    """The UID that a hold was acknowledged for, if it was."""
    with suppress(HoldLost):
        return await Holds(client).acquire(account, HOLD)
    return None


async def is_deleted(client: KubeClient, account: Account, uid: str) -> bool:
    """Whether a deletion was acknowledged."""
    return await unless_refused(client.delete(SERVICE_ACCOUNTS, account.name, account.namespace, uid=uid))


async def unless_refused(deletion: Awaitable[bool]) -> bool:
    """Whether a deletion was acknowledged; if not, then by our policy."""
    try:
        return await deletion
    except Forbidden as error:
        if REFUSED not in str(error):
            raise
        return False


@pytest.fixture
def namespace(lonely: Cluster) -> str:
    """Return the name of a new namespace in the lonely cluster, with the policies in force."""
    arm(lonely)
    name = f"races-{secrets.token_hex(4)}"
    lonely.kubectl("create", "namespace", name)
    return name


def test_an_acknowledged_hold_keeps_the_account_whatever_deletes_it_meanwhile(
    lonely: Cluster, twin: Cluster, namespace: str
) -> None:
    race = Race()
    held: dict[str, str] = {}

    async def run() -> None:
        async with servers(lonely, twin) as both:

            async def pair(number: int) -> None:
                account = await make_account(both[0], namespace, f"pair-{number:04}")
                uid = await uid_of_account(both[0], account)

                deletion = is_deleted(both[number % 2], account, uid)
                acknowledged = await race.run(is_held(both[0], account), deletion)
                if acknowledged is not None:
                    assert acknowledged == uid
                    held[account.name] = uid

            await at_once(pair, PAIRS)
            found = (await both[0].list(SERVICE_ACCOUNTS, namespace, metadata_only=True)).items
            there = {
                item["metadata"]["name"]: item["metadata"]["uid"]
                for item in found
                if "deletionTimestamp" not in item["metadata"]
                and HOLD.key in (item["metadata"].get("annotations") or {})
            }
            assert there == held

    asyncio.run(run())
    assert race.was_fair(PAIRS), race.outcomes


def test_a_deletion_right_after_the_hold_is_refused_by_either_server(
    lonely: Cluster, twin: Cluster, namespace: str
) -> None:
    refusals = Counter[int]()

    async def run() -> None:
        async with servers(lonely, twin) as both:
            anchor = await make_account(both[0], namespace, "anchor")
            await Holds(both[0]).acquire(anchor, HOLD)  # the Namespace stays held, as it is before any account in it
            accounts = [await make_account(both[0], namespace, f"again-{number:02}") for number in range(AT_ONCE)]
            free = set(accounts)

            async def attempt(number: int) -> None:
                account = free.pop()
                by, of = both[number % 2], both[number // 2 % 2]
                uid = await put(by, SERVICE_ACCOUNTS, account, {"annotations": {HOLD.key: HOLD.value()}})
                with pytest.raises(Forbidden, match=REFUSED):
                    await of.delete(SERVICE_ACCOUNTS, account.name, namespace, uid=uid)
                refusals[number % 4] += 1
                await put(by, SERVICE_ACCOUNTS, account, {"annotations": {HOLD.key: None}})
                free.add(account)

            await at_once(attempt, TRIES)
            for account in accounts:
                await uid_of_account(both[0], account)

    asyncio.run(run())
    assert dict(refusals) == dict.fromkeys(range(4), TRIES // 4)


def test_an_acknowledged_hold_keeps_the_namespace_too(lonely: Cluster, twin: Cluster, namespace: str) -> None:
    race = Race()

    async def run() -> None:
        async with servers(lonely, twin) as both:

            async def pair(number: int) -> None:
                name = f"{namespace}-{number:03}"
                home = await both[0].create(manifest("Namespace", name), manager=MANAGER)
                account = await make_account(both[0], name, "shared")

                uid = home["metadata"]["uid"]
                deletion = unless_refused(both[number % 2].delete(NAMESPACES, name, uid=uid))
                if await race.run(is_held(both[0], account), deletion) is not None:
                    live = await both[number % 2].get(NAMESPACES, name)
                    assert live is not None
                    assert "deletionTimestamp" not in live["metadata"]

            await at_once(pair, 120)

    asyncio.run(run())
    assert race.was_fair(120), race.outcomes


async def uid_of_account(client: KubeClient, account: Account) -> str:
    found = await client.get(SERVICE_ACCOUNTS, account.name, account.namespace, metadata_only=True)
    if found is None:
        raise Conflict(f"{account} is not there")
    return str(found["metadata"]["uid"])
