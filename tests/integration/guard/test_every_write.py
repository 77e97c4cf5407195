"""
Promise 6 at its finest: whoever works is cut off before and after every single write, and another one goes on.

The controller's own teardown and guard on a real API server; what the first one had in mind is lost with it. The
process as shipped is killed in ``tests/e2e/test_killed_at_every_write.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from envprov.domain.desired import Identity
from envprov.domain.guard import Policy
from envprov.domain.holds import GUARD, HUSK, POLICY, SHARED, STATE, USED, Account, Hold, Holder, read_holds
from envprov.kube.client import Connection, KubeClient, Object
from envprov.kube.holds import Holds
from envprov.kube.resources import NAMESPACES, ROLE_BINDINGS, SERVICE_ACCOUNTS
from envprov.kube.transport import Request
from tests.cluster import Cluster
from tests.eventually import eventually_async
from tests.integration.guard.sharers import (
    Controller,
    Namespaces,
    ask_for_the_end,
    binding,
    controller,
    is_over,
    make_environment,
    take_down,
)
from tests.integration.guard.worlds import (
    MANAGER,
    PATIENCE,
    SINCE,
    keys_on,
    make_account,
    manifest,
    put,
    read,
    tell,
    uid_of,
)
from tests.integration.records import install_definition, let_go

PASSES = 3
"""So many passes make every write of one change, also when the API server refuses one."""


class Killed(BaseException):
    """What a process does not notice that is killed."""


class Mortal(KubeClient):
    """
    The client of somebody who is killed at one of its writes; reads, attempts and questions do not count.

    Attributes:
        dies_at: Number of the write, from 0; None for never.
        is_late: Whether the write still reaches the server.
        writes: What was written, or would have been.

    """

    dies_at: int | None = None
    is_late = False
    is_dead = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on as they are
        super().__init__(*args, **kwargs)
        self.writes: list[str] = []

    async def send(self, request: Request) -> Any:  # noqa: ANN401 - as the server says
        if self.is_dead:
            raise Killed
        if not _is_write(request):
            return await super().send(request)
        self.writes.append(f"{request.method} {request.path}")
        if len(self.writes) - 1 != self.dies_at:
            return await super().send(request)
        self.is_dead = True
        if self.is_late:
            await super().send(request)
        raise Killed


def _is_write(request: Request) -> bool:
    body = request.body if isinstance(request.body, dict) else {}
    return request.method != "GET" and "dryRun" not in body and "authorization.k8s.io" not in request.path


@asynccontextmanager
async def mortal(cluster: Cluster, dies_at: int | None = None, *, is_late: bool = False) -> AsyncIterator[Mortal]:
    """Open a client of somebody who is killed."""
    async with Mortal.connect(Connection(cluster.kubeconfig), timeout=PATIENCE) as client:
        client.dies_at, client.is_late = dies_at, is_late
        yield client


async def until_killed(work: Coroutine[Any, Any, None]) -> None:
    """Let somebody work until the end of both."""
    try:
        await work
    except Killed:
        return
    except BaseExceptionGroup as several:
        if several.split(Killed)[1] is not None:
            raise


@dataclass
class Ends:
    """
    How often each hold was taken off a ServiceAccount, as everybody can see it.

    Attributes:
        counts: By the key of the hold.

    """

    counts: dict[str, int] = field(default_factory=dict)
    _last: dict[str, set[str]] = field(default_factory=dict)

    def note(self, account: Object) -> None:
        name = account["metadata"]["name"]
        now = {hold.key for hold in read_holds(account)}
        for key in self._last.get(name, set()) - now:
            self.counts[key] = self.counts.get(key, 0) + 1
        self._last[name] = now


@asynccontextmanager
async def watched(client: KubeClient, namespace: str) -> AsyncIterator[Ends]:
    """Watch the ServiceAccounts of a namespace, until everything that happened meanwhile was seen."""
    ends = Ends()
    listing = await client.list(SERVICE_ACCOUNTS, namespace)
    for item in listing.items:
        ends.note({**item})
    last = asyncio.Event()

    async def follow() -> None:
        since = listing.resource_version
        watch = client.watch(SERVICE_ACCOUNTS, namespace, resource_version=since, timeout_seconds=300)
        async with aclosing(watch):
            async for event in watch:
                if event.type == "BOOKMARK":
                    continue
                if event.object["metadata"]["name"] == "the-last":
                    last.set()
                    return
                ends.note(event.object)

    following = asyncio.create_task(follow())
    try:
        yield ends
        await make_account(client, namespace, "the-last")
        await asyncio.wait_for(last.wait(), 30)
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


@pytest.fixture
def records(guarded: Cluster, control_namespace: str) -> Iterator[str]:
    """Yield a control namespace that can hold Environments."""
    install_definition(guarded)
    yield control_namespace
    let_go(guarded, control_namespace)


def told(cluster: Cluster, control_namespace: str, story: Callable[[Namespaces], Awaitable[None]]) -> None:
    """Run a story, and leave nothing behind."""

    async def run(client: KubeClient) -> None:
        assert isinstance(client, Namespaces)
        try:
            await story(client)
        finally:
            await client.sweep(control_namespace)

    tell(cluster, run, kind=Namespaces)


# --- The teardown


@dataclass(frozen=True)
class Stage:
    """
    A shared namespace with two accounts, an environment that stays, and those that go.

    Attributes:
        cluster: Where.
        client: The administrator.
        shared: The namespace.
        accounts: In it.

    """

    cluster: Cluster
    client: Namespaces
    control: str
    shared: str
    accounts: tuple[Account, ...]

    async def environment(self, branch: str, ours: Controller) -> Identity:
        """Make an environment that holds both accounts, with all that Kubernetes puts into its namespace."""
        identity = await make_environment(self.client, self.control, branch, self.accounts)
        for account in self.accounts:
            await ours.guard.hold(identity, account, "keep", "named by the Project", SINCE)

        async def is_furnished() -> bool:
            # It would join those that are fenced whenever it comes, and with it would come one more write.
            return await self.client.get(SERVICE_ACCOUNTS, "default", identity.namespace) is not None

        await eventually_async(is_furnished, message="no default ServiceAccount appears")
        return identity

    async def lend(self, identity: Identity) -> Account:
        """Let somebody elsewhere use an account of an environment, which so becomes a husk on its way down."""
        lent = await make_account(self.client, identity.namespace, "bot")
        borrower = binding(self.shared, lent)
        borrower["metadata"]["name"] = identity.name
        await self.client.create(borrower, manager=MANAGER)
        return lent

    async def serve(self, who: KubeClient, identity: Identity) -> None:
        """Take an environment down; Kubernetes does its part, and who uses what is in a husk gives that up."""

        async def tend() -> None:
            home = await self.client.get(NAMESPACES, identity.namespace)
            if home is not None and home["metadata"]["labels"].get(STATE) == HUSK:
                found = await self.client.get(ROLE_BINDINGS, identity.name, self.shared)
                if found is not None:
                    uid = found["metadata"]["uid"]
                    await self.client.delete(ROLE_BINDINGS, identity.name, self.shared, uid=uid)
            await self.client.end(identity.namespace)

        await take_down(controller(self.cluster, who, self.control), identity, tend)

    async def assert_kept_while_it_is_lent(self, identity: Identity, lent: Account, uid: str) -> None:
        """As long as somebody elsewhere uses the account, it is there as it was, in a Namespace that is Active."""
        if await self.client.get(ROLE_BINDINGS, identity.name, self.shared) is not None:
            found, home = await read(self.client, lent)
            assert found["metadata"]["uid"] == uid
            assert "deletionTimestamp" not in {**found["metadata"], **home["metadata"]}

    async def assert_held_while_it_is_there(self, identity: Identity) -> None:
        """As long as the namespace is not on its way out, both accounts are held: what is in it may use them."""
        home = await self.client.get(NAMESPACES, identity.namespace)
        if home is None or "deletionTimestamp" in home["metadata"]:
            return
        for account in self.accounts:
            for one in await read(self.client, account):
                assert identity.holder.key in {hold.key for hold in read_holds(one)}, str(account)

    async def assert_gone(self, identity: Identity, stays: Identity) -> None:
        """Nothing is left of an environment, and everything of the one that stays."""
        assert await is_over(self.client, identity)
        assert await self.client.get(NAMESPACES, identity.namespace) is None
        for account in self.accounts:
            for one in await read(self.client, account):
                keys = {hold.key for hold in read_holds(one)}
                assert identity.holder.key not in keys
                assert stays.holder.key in keys


@asynccontextmanager
async def staged(cluster: Cluster, client: Namespaces, control: str) -> AsyncIterator[tuple[Stage, Identity, Ends]]:
    """Set the stage, and count afterwards how often each hold ended."""
    shared = f"{control}-shared"
    await client.create(manifest("Namespace", shared), manager=MANAGER)
    accounts = tuple([await make_account(client, shared, name) for name in ("deployer", "reader")])
    stage = Stage(cluster, client, control, shared, accounts)
    ours = controller(cluster, client, control)
    await ours.guard.arming.require()  # the canary is there from now on, and costs nobody a write
    stays = await stage.environment("stays", ours)
    async with watched(client, shared) as ends:
        yield stage, stays, ends


@pytest.mark.parametrize("is_late", [pytest.param(False, id="before"), pytest.param(True, id="after")])
def test_a_teardown_cut_off_at_any_write_ends_as_one_that_is_not(
    guarded: Cluster, records: str, *, is_late: bool
) -> None:
    async def story(client: Namespaces) -> None:
        async with staged(guarded, client, records) as (stage, stays, ends):
            ours = controller(guarded, client, records)

            async def survived(number: int) -> Identity:
                identity = await stage.environment(f"at-{number}", ours)
                await ask_for_the_end(client, identity)
                async with mortal(guarded, number, is_late=is_late) as first:
                    await until_killed(stage.serve(first, identity))
                assert first.is_dead, f"there was no write {number}: {first.writes}"
                await stage.assert_held_while_it_is_there(identity)
                await stage.serve(client, identity)
                await stage.assert_gone(identity, stays)
                return identity

            whole = await stage.environment("whole", ours)
            await ask_for_the_end(client, whole)
            async with mortal(guarded) as undisturbed:
                await stage.serve(undisturbed, whole)
            await stage.assert_gone(whole, stays)
            assert len(undisturbed.writes) > 10, undisturbed.writes
            gone = await asyncio.gather(*(survived(number) for number in range(len(undisturbed.writes))))
        # Exactly once on each of the two accounts, and nobody else's.
        assert ends.counts == {identity.holder.key: 2 for identity in (whole, *gone)}

    told(guarded, records, story)


def test_a_husk_cut_off_at_any_write_keeps_what_others_use_and_then_goes(guarded: Cluster, records: str) -> None:
    # What the one had in mind is lost with it, so after one write is also before the next.
    async def story(client: Namespaces) -> None:
        async with staged(guarded, client, records) as (stage, stays, ends):
            ours = controller(guarded, client, records)

            async def survived(number: int | None) -> tuple[Identity, list[str]]:
                identity = await stage.environment(f"lends-{number}", ours)
                lent = await stage.lend(identity)
                uid = await uid_of(client, lent)
                await ask_for_the_end(client, identity)
                async with mortal(guarded, number, is_late=True) as first:
                    await until_killed(stage.serve(first, identity))
                assert first.is_dead == (number is not None), first.writes
                await stage.assert_held_while_it_is_there(identity)
                await stage.assert_kept_while_it_is_lent(identity, lent, uid)
                await stage.serve(client, identity)
                await stage.assert_gone(identity, stays)
                return identity, first.writes

            whole, writes = await survived(None)
            home = f"/api/v1/namespaces/{whole.namespace}"
            assert [write for write in writes if "envprov-husk" in write] == [
                f"PATCH {home}/resourcequotas/envprov-husk",
                f"DELETE {home}/resourcequotas/envprov-husk",
            ]
            # From then on all goes, as above.
            own = writes.index(f"DELETE {home}/resourcequotas/envprov-husk") + 1
            gone = await asyncio.gather(*(survived(number) for number in range(own)))
        assert ends.counts == {identity.holder.key: 2 for identity in (whole, *(one for one, _ in gone))}

    told(guarded, records, story)


def test_two_that_take_one_environment_down_at_once_end_as_one_does(guarded: Cluster, records: str) -> None:
    async def story(client: Namespaces) -> None:
        async with staged(guarded, client, records) as (stage, stays, ends):
            ours = controller(guarded, client, records)
            going = [await stage.environment(f"twice-{number}", ours) for number in range(5)]
            for identity in going:
                await ask_for_the_end(client, identity)
            await asyncio.gather(*(stage.serve(client, identity) for identity in going for _ in range(2)))
            for identity in going:
                await stage.assert_gone(identity, stays)
        assert ends.counts == {identity.holder.key: 2 for identity in going}

    told(guarded, records, story)


# --- Changes of holds

HOLDING = Identity("shop-x", "envprov-system", "shop", "x", "uid-of-x")
SOMEBODY = Holder("RoleBinding", "elsewhere", "gone-since", "uid-of-old")


@dataclass(frozen=True)
class Change:
    """
    A ServiceAccount, in whose holds something is to change.

    Attributes:
        client: The administrator.
        account: The ServiceAccount.

    """

    client: Namespaces
    account: Account

    async def adopt(self, policy: Policy) -> None:
        """Mark the account as shared, and as one that has had a user."""
        await put(
            self.client,
            SERVICE_ACCOUNTS,
            self.account,
            {"labels": {GUARD: SHARED}, "annotations": {POLICY: policy, USED: "true"}},
        )

    async def keys(self) -> tuple[set[str], set[str]]:
        """Keys of the holds on the account and on its Namespace."""
        return await keys_on(self.client, self.account)


async def nothing(change: Change) -> None:
    """Nobody has heard of the account."""


async def used_by_others(change: Change) -> None:
    """The account is shared, and used by somebody who does not hold it yet."""
    await change.adopt("keep")
    await put(change.client, SERVICE_ACCOUNTS, change.account, {"annotations": {USED: None}})
    elsewhere = f"{change.account.namespace}-user"
    await change.client.create(manifest("Namespace", elsewhere), manager=MANAGER)
    await change.client.create(binding(elsewhere, change.account), manager=MANAGER)


async def used_no_more(change: Change) -> None:
    """The account is shared, and held by somebody who uses it no more."""
    await change.adopt("keep")
    await Holds(change.client).acquire(change.account, Hold(SOMEBODY, SINCE))


async def used_for_the_last_time(change: Change) -> None:
    """The same, and it is to go with its last user."""
    await change.adopt("delete-with-last-user")
    await Holds(change.client).acquire(change.account, Hold(SOMEBODY, SINCE))


async def hold(ours: Controller, change: Change) -> None:
    """An environment holds the account."""
    await ours.guard.hold(HOLDING, change.account, "keep", "named by the Project", SINCE)


async def look(ours: Controller, change: Change) -> None:
    """The guard looks as often as it takes to be sure of two things, one after the other."""
    del change
    for _ in range(5):
        await ours.guardian.look()


async def is_held_by_the_environment(change: Change) -> None:
    assert await change.keys() == ({HOLDING.holder.key}, {HOLDING.holder.key})
    found, _ = await read(change.client, change.account)
    assert found["metadata"]["annotations"].items() >= {POLICY: "keep", USED: "true"}.items()


async def is_held_by_its_user(change: Change) -> None:
    on_account, on_namespace = await change.keys()
    found, _ = await read(change.client, change.account)
    assert [hold.holder.kind for hold in read_holds(found)] == ["RoleBinding"]
    assert on_account == on_namespace
    assert found["metadata"]["annotations"][USED] == "true"


async def is_free(change: Change) -> None:
    assert await change.keys() == (set(), set())


async def is_gone(change: Change) -> None:
    assert await change.client.get(SERVICE_ACCOUNTS, change.account.name, change.account.namespace) is None
    home = await change.client.get(NAMESPACES, change.account.namespace)
    assert home is not None
    assert read_holds(home) == ()


@pytest.mark.parametrize(
    ("before", "work", "after"),
    [
        pytest.param(nothing, hold, is_held_by_the_environment, id="an environment takes hold"),
        pytest.param(used_by_others, look, is_held_by_its_user, id="the guard puts a hold on"),
        pytest.param(used_no_more, look, is_free, id="the guard takes a hold off"),
        pytest.param(used_for_the_last_time, look, is_gone, id="the guard deletes by policy"),
    ],
)
def test_a_change_of_holds_cut_off_at_any_write_ends_as_one_that_is_not(
    guarded: Cluster,
    records: str,
    before: Callable[[Change], Awaitable[None]],
    work: Callable[[Controller, Change], Coroutine[Any, Any, None]],
    after: Callable[[Change], Awaitable[None]],
) -> None:
    async def story(client: Namespaces) -> None:
        await controller(guarded, client, records).guard.arming.require()  # the canary costs nobody a write afterwards

        async def changed(dies_at: int | None, *, is_late: bool = False) -> list[str]:
            home = f"{records}-{'whole' if dies_at is None else dies_at}-{'after' if is_late else 'before'}"
            await client.create(manifest("Namespace", home), manager=MANAGER)
            change = Change(client, await make_account(client, home, "deployer"))
            await before(change)
            async with mortal(guarded, dies_at, is_late=is_late) as first:
                for _ in range(1 if dies_at is None else PASSES):  # a pass may leave a write to the next one
                    if not first.is_dead:
                        await until_killed(work(controller(guarded, first, records, own=home), change))
            assert first.is_dead == (dies_at is not None), first.writes
            if dies_at is not None:
                await work(controller(guarded, client, records, own=home), change)
            await after(change)
            return first.writes

        writes = await changed(None)
        assert len(writes) >= 2, writes
        for number in range(len(writes)):
            await asyncio.gather(changed(number), changed(number, is_late=True))

    told(guarded, records, story)
