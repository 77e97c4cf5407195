"""Holds on a real API server that enforces the policies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from envprov.domain.errors import Conflict, Forbidden, HoldLost, Invalid
from envprov.domain.holds import FENCED, GUARD, POLICY, RELEASED, USED, Account, Holder, read_holds
from envprov.kube.client import KubeClient, Object
from envprov.kube.holds import Holds
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS, Resource
from tests.cluster import Cluster
from tests.faults import FaultProxy
from tests.integration.guard.worlds import (
    MANAGER,
    Interrupted,
    held_by,
    keys_on,
    make_account,
    manifest,
    put,
    read,
    tell,
    uid_of,
)

ALICE, BOB, CAROL = held_by("alice", uid="1"), held_by("bob", uid="2"), held_by("carol", uid="3")


def behind_proxy(cluster: Cluster, story: Callable[[KubeClient, FaultProxy], Awaitable[None]]) -> None:
    async def run() -> None:
        async with FaultProxy(cluster.kubeconfig) as proxy, KubeClient.connect(proxy.connection) as client:
            await story(client, proxy)

    asyncio.run(run())


def requests(proxy: FaultProxy) -> list[str]:
    kinds = {"serviceaccounts": "ServiceAccount", "namespaces": "Namespace"}
    said = []
    for seen in proxy.seen:
        parts = seen.path.split("/")
        kind = kinds[parts[-2]] if parts[-2] in kinds and len(parts) != 6 else f"{kinds[parts[-1]]}s"
        said.append(f"{seen.method} {kind}")
    return said


class Crowded(KubeClient):
    """
    A client that notes how many patches of Namespaces and ServiceAccounts there are, and at the same time.

    Attributes:
        most: How many there were at most.
        patches: How many there were in all.

    """

    most = 0
    patches = 0
    _now = 0

    async def merge_patch(self, *args: Any, **kwargs: Any) -> Object:  # noqa: ANN401 - handed on as they are
        self._now += 1
        self.patches += 1
        self.most = max(self.most, self._now)
        try:
            return await super().merge_patch(*args, **kwargs)
        finally:
            self._now -= 1


# --- Acquire


def test_a_held_account_and_its_namespace_cannot_be_deleted(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        uid = await Holds(client).acquire(account, ALICE)
        found, home = await read(client, account)
        assert uid == found["metadata"]["uid"]
        for one in (found, home):
            assert [(hold.holder, hold.since, hold.why) for hold in read_holds(one)] == [
                (Holder("Environment", "envprov-system", "alice", "1"), ALICE.since, "a test")
            ]
        with pytest.raises(Forbidden, match=r"envprov-delete-guard.*alice"):
            await client.delete(SERVICE_ACCOUNTS, "shared", control_namespace, uid=found["metadata"]["uid"])
        with pytest.raises(Forbidden, match=r"envprov-delete-guard.*alice"):
            await client.delete(NAMESPACES, control_namespace, uid=home["metadata"]["uid"])

    tell(guarded, story)


def test_the_namespace_is_held_before_the_account_and_seen_held_afterwards(
    guarded: Cluster, control_namespace: str
) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        account = await make_account(client, control_namespace, "shared")
        proxy.seen.clear()
        await Holds(client).acquire(account, ALICE)
        assert sorted(requests(proxy)[:2]) == ["GET Namespace", "GET ServiceAccount"]
        assert requests(proxy)[2:] == ["PATCH Namespace", "PATCH ServiceAccount", "GET Namespace"]

    behind_proxy(guarded, story)


def test_what_is_held_already_costs_two_reads_and_no_write(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        account = await make_account(client, control_namespace, "shared")
        await Holds(client).acquire(account, ALICE, adopt="keep")
        proxy.seen.clear()
        uid = await Holds(client).acquire(account, ALICE, adopt="keep")
        assert sorted(requests(proxy)) == ["GET Namespace", "GET ServiceAccount"]
        assert uid == await uid_of(client, account)

    behind_proxy(guarded, story)


def test_a_hold_renewed_keeps_its_beginning(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        first = held_by("alice", why="one")
        await Holds(client).acquire(account, first)
        later = held_by("alice", why="two")
        await Holds(client).acquire(account, type(later)(later.holder, later.since.replace(year=2030), "two"))
        for one in await read(client, account):
            (hold,) = read_holds(one)
            assert (hold.since, hold.why) == (first.since, "two")

    tell(guarded, story)


def test_what_is_not_there_is_not_held_and_its_namespace_neither(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        assert await Holds(client).acquire(Account(control_namespace, "nobody"), ALICE) is None
        assert await Holds(client).acquire(Account("no-such-namespace", "nobody"), ALICE) is None
        home = await client.get(NAMESPACES, control_namespace)
        assert home is not None
        assert read_holds(home) == ()

    tell(guarded, story)


def test_forty_holders_at_once_lose_nothing(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        holds = [held_by(f"branch-{number}") for number in range(40)]
        await asyncio.gather(*(Holds(client).acquire(account, hold) for hold in holds))
        wanted = {hold.key for hold in holds}
        assert await keys_on(client, account) == (wanted, wanted)
        await asyncio.gather(*(Holds(client).release(account, hold.key) for hold in holds[1:]))
        assert await keys_on(client, account) == ({holds[0].key}, {holds[0].key})

    tell(guarded, story)


def test_holders_of_one_process_take_turns_at_a_namespace_and_not_at_two(
    guarded: Cluster, control_namespace: str
) -> None:
    async def story(client: KubeClient) -> None:
        assert isinstance(client, Crowded)
        ours = Holds(client)
        one = await make_account(client, control_namespace, "one")
        two = await make_account(client, control_namespace, "two")
        holds = [held_by(f"branch-{number}") for number in range(100)]
        await asyncio.gather(*(ours.acquire(account, hold) for hold in holds for account in (one, two)))
        wanted = {hold.key for hold in holds}
        assert (await keys_on(client, one))[0] == (await keys_on(client, two))[0] == wanted
        await asyncio.gather(*(ours.release(one, hold.key) for hold in holds))
        assert await keys_on(client, one) == (set(), wanted)
        assert client.most == 1

        client.most = 0
        elsewhere = f"{control_namespace}-b"
        await client.create(manifest("Namespace", elsewhere), manager=MANAGER)
        other = await make_account(client, elsewhere, "one")
        await asyncio.gather(*(ours.acquire(account, hold) for hold in holds[:20] for account in (one, other)))
        assert client.most == 2
        await asyncio.gather(*(ours.release(other, hold.key) for hold in holds[:20]))
        _, home = await read(client, other)
        await client.delete(NAMESPACES, elsewhere, uid=home["metadata"]["uid"])

    tell(guarded, story, kind=Crowded)


def test_a_turn_that_ends_in_an_error_is_over(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        assert isinstance(client, Interrupted)
        ours = Holds(client)
        account = await make_account(client, control_namespace, "shared")
        client.before[SERVICE_ACCOUNTS] = lambda: deleted(client, account)
        with pytest.raises(HoldLost):
            await ours.acquire(account, ALICE)
        await make_account(client, control_namespace, "shared")
        assert await ours.acquire(account, ALICE) is not None

    tell(guarded, story, kind=Interrupted)


@pytest.mark.parametrize("count", [500, 1000])
def test_so_many_holders_fit_and_still_keep(guarded: Cluster, control_namespace: str, count: int) -> None:
    reason = "spec.template.spec.serviceAccountName of Deployment shop-frontend-with-a-rather-long-name"
    holds = [
        held_by(
            f"shop-feature-{number:04}-with-a-long-name-0123456789",
            uid=f"{number:08}-0000-0000-0000-000000000000",
            why=reason,
            environment=f"shop-feature-{number:04}-with-a-long-name-0123456789",
        )
        for number in range(count)
    ]

    last = {hold.holder for hold in holds[-3:]}

    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        # One by one it takes a minute: the API server writes all of them again each time.
        brief = [replace(hold, why="", environment="") for hold in holds]
        earlier = {hold.key: hold.value() for hold in [*holds[:150], *brief[150:-3]]}
        for resource in (NAMESPACES, SERVICE_ACCOUNTS):
            await put(client, resource, account, {"annotations": earlier})
        for hold in holds[-3:]:
            await Holds(client).acquire(account, hold)
        found, home = await read(client, account)
        assert len(read_holds(found)) == len(read_holds(home)) == count
        assert {hold.holder for hold in read_holds(found)} == {hold.holder for hold in holds}
        late = {hold.why for one in (found, home) for hold in read_holds(one) if hold.holder in last}
        assert late == {""}
        for resource, name, where, uid in (
            (SERVICE_ACCOUNTS, "shared", control_namespace, found["metadata"]["uid"]),
            (NAMESPACES, control_namespace, None, home["metadata"]["uid"]),
        ):
            with pytest.raises(Forbidden, match=r"envprov-delete-guard.*shop-feature"):
                await client.delete(resource, name, where, uid=uid, dry_run=True)

        # All but the last go in one write of each object; the policies can bear that, too.
        assert isinstance(client, Crowded)
        before = client.patches
        await Holds(client).release(account, *(hold.key for hold in holds[:-1]))
        assert client.patches - before == 2
        assert await keys_on(client, account) == ({holds[-1].key}, {holds[-1].key})

    tell(guarded, story, kind=Crowded)


# --- A hold that comes too late


async def replaced(client: KubeClient, account: Account) -> None:
    await client.delete(SERVICE_ACCOUNTS, account.name, account.namespace, uid=await uid_of(client, account))
    await make_account(client, account.namespace, account.name)


async def deleted(client: KubeClient, account: Account) -> None:
    await client.delete(SERVICE_ACCOUNTS, account.name, account.namespace, uid=await uid_of(client, account))


async def ending(client: KubeClient, account: Account) -> None:
    await put(client, SERVICE_ACCOUNTS, account, {"finalizers": ["example.com/slow"]})
    await deleted(client, account)


async def namespace_ending(client: KubeClient, account: Account) -> None:
    _, home = await read(client, account)
    await client.delete(NAMESPACES, account.namespace, uid=home["metadata"]["uid"])


async def holds_left(client: KubeClient, account: Account) -> int:
    found = await client.get(SERVICE_ACCOUNTS, account.name, account.namespace)
    home = await client.get(NAMESPACES, account.namespace)
    return sum(len(read_holds(one)) for one in (found, home) if one is not None)


@pytest.mark.parametrize(
    ("accident", "kind", "message"),
    [
        pytest.param(replaced, SERVICE_ACCOUNTS, "was deleted", id="replaced before it is held"),
        pytest.param(deleted, SERVICE_ACCOUNTS, "was deleted", id="deleted before it is held"),
        pytest.param(ending, SERVICE_ACCOUNTS, "is being deleted", id="being deleted when it is held"),
        pytest.param(namespace_ending, NAMESPACES, "Namespace .* is being deleted", id="namespace being deleted"),
    ],
)
def test_a_hold_too_late_is_undone_and_says_who_must_restart(
    guarded: Cluster,
    control_namespace: str,
    accident: Callable[[KubeClient, Account], Awaitable[None]],
    kind: Resource,
    message: str,
) -> None:
    async def story(client: KubeClient) -> None:
        assert isinstance(client, Interrupted)
        account = await make_account(client, control_namespace, "shared")
        client.before[kind] = lambda: accident(client, account)
        client.after[SERVICE_ACCOUNTS] = lambda: asyncio.sleep(0)
        with pytest.raises(HoldLost, match=rf"{control_namespace}/shared.*{message}.*restart.*alice") as lost:
            await Holds(client).acquire(account, ALICE)
        assert "taken back" not in str(lost.value)
        assert await holds_left(client, account) == 0
        if kind is NAMESPACES:
            assert SERVICE_ACCOUNTS in client.after, "the account was written to"
        found = await client.get(SERVICE_ACCOUNTS, "shared", control_namespace)
        if found is not None and "finalizers" in found["metadata"]:
            await put(client, SERVICE_ACCOUNTS, account, {"finalizers": None})

    tell(guarded, story, kind=Interrupted)


def test_what_is_seen_to_be_ending_is_not_written_to(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        account = await make_account(client, control_namespace, "shared")
        await ending(client, account)
        proxy.seen.clear()
        with pytest.raises(HoldLost, match="is being deleted"):
            await Holds(client).acquire(account, ALICE)
        assert {seen.method for seen in proxy.seen} == {"GET"}
        await put(client, SERVICE_ACCOUNTS, account, {"finalizers": None})

    behind_proxy(guarded, story)


def test_a_hold_taken_off_the_namespace_meanwhile_is_put_back(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        assert isinstance(client, Interrupted)
        account = await make_account(client, control_namespace, "shared")
        # Another pass of the same holder lets go of its last account there, at the worst moment.
        client.after[NAMESPACES] = lambda: Holds(client).release_namespace(control_namespace, ALICE.key)
        await Holds(client).acquire(account, ALICE)
        assert await keys_on(client, account) == ({ALICE.key}, {ALICE.key})

    tell(guarded, story, kind=Interrupted)


def test_an_account_held_while_the_namespace_is_let_go_keeps_the_namespace(
    guarded: Cluster, control_namespace: str
) -> None:
    async def story(client: KubeClient) -> None:
        assert isinstance(client, Interrupted)
        one = await make_account(client, control_namespace, "one")
        two = await make_account(client, control_namespace, "two")
        await Holds(client).acquire(one, ALICE)

        async def hold_two() -> None:
            await put(client, SERVICE_ACCOUNTS, two, {"annotations": {ALICE.key: ALICE.value()}})

        client.before[NAMESPACES] = hold_two
        await Holds(client).release(one, ALICE.key)
        assert await keys_on(client, two) == ({ALICE.key}, {ALICE.key})
        assert (await keys_on(client, one))[0] == set()

    tell(guarded, story, kind=Interrupted)


def test_a_hold_that_the_server_refuses_leaves_none_on_the_namespace(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        await put(client, SERVICE_ACCOUNTS, account, {"annotations": {"full": "x" * 262_100}})
        with pytest.raises(Invalid, match="Too long"):
            await Holds(client).acquire(account, ALICE)
        assert await holds_left(client, account) == 0

    tell(guarded, story)


# --- Release


def test_the_account_is_let_go_before_its_namespace(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        account = await make_account(client, control_namespace, "shared")
        await Holds(client).acquire(account, ALICE)
        proxy.seen.clear()
        await Holds(client).release(account, ALICE.key)
        assert [said for said in requests(proxy) if said.startswith("PATCH")] == [
            "PATCH ServiceAccount",
            "PATCH Namespace",
        ]
        assert await keys_on(client, account) == (set(), set())

    behind_proxy(guarded, story)


def test_a_namespace_stays_held_while_another_account_in_it_is(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        one = await make_account(client, control_namespace, "one")
        two = await make_account(client, control_namespace, "two")
        for account in (one, two):
            await Holds(client).acquire(account, ALICE)
        await Holds(client).acquire(two, BOB)
        proxy.seen.clear()
        await Holds(client).release(one, ALICE.key)
        assert "PATCH Namespace" not in requests(proxy)
        assert await keys_on(client, one) == (set(), {ALICE.key, BOB.key})
        await Holds(client).acquire(one, CAROL)
        await Holds(client).release(one, ALICE.key, CAROL.key)  # one that stays on the Namespace, one that does not
        assert await keys_on(client, one) == (set(), {ALICE.key, BOB.key})
        await Holds(client).release(two, ALICE.key)
        assert await keys_on(client, two) == ({BOB.key}, {BOB.key})

    behind_proxy(guarded, story)


def test_releasing_again_or_what_is_gone_changes_nothing(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        account = await make_account(client, control_namespace, "shared")
        await Holds(client).acquire(account, ALICE)
        for _ in range(2):
            await Holds(client).release(account, ALICE.key)
        proxy.seen.clear()
        await Holds(client).release(account, ALICE.key)
        await Holds(client).release(Account(control_namespace, "nobody"), ALICE.key)
        await Holds(client).release(Account("no-such-namespace", "nobody"), ALICE.key)
        assert {seen.method for seen in proxy.seen} == {"GET"}

    behind_proxy(guarded, story)


def test_everything_that_one_holder_holds_is_found(guarded: Cluster, control_namespace: str) -> None:
    holder = held_by(f"finder-{control_namespace}")

    async def story(client: KubeClient) -> None:
        one = await make_account(client, control_namespace, "one")
        other = await make_account(client, control_namespace, "other")
        await Holds(client).acquire(one, holder)
        await Holds(client).acquire(other, BOB)
        assert await Holds(client).holding(holder.key) == (one,)
        await put(client, SERVICE_ACCOUNTS, one, {"annotations": {holder.key: None}})
        assert await Holds(client).holding(holder.key) == (Account(control_namespace, ""),)
        await Holds(client).release(Account(control_namespace, ""), holder.key)
        assert await Holds(client).holding(holder.key) == ()

    tell(guarded, story)


# --- Adopt


def test_an_adopted_account_is_guarded_without_any_holder(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        uid = await Holds(client).adopt(account, "delete-with-last-user")
        found, _ = await read(client, account)
        assert uid == found["metadata"]["uid"]
        assert found["metadata"]["labels"] == {GUARD: "shared"}
        assert found["metadata"]["annotations"] == {POLICY: "delete-with-last-user"}
        with pytest.raises(Forbidden, match="envprov-delete-guard"):
            await client.delete(SERVICE_ACCOUNTS, "shared", control_namespace, uid=uid or "")
        await Holds(client).unadopt(account)
        found, _ = await read(client, account)
        assert "labels" not in found["metadata"]
        assert "annotations" not in found["metadata"]
        assert await Holds(client).adopt(Account(control_namespace, "nobody"), "keep") is None
        await Holds(client).unadopt(Account(control_namespace, "nobody"))

    tell(guarded, story)


@pytest.mark.parametrize("way", ["with the hold", "before the hold"])
def test_an_adopted_account_that_is_held_has_had_a_user(guarded: Cluster, control_namespace: str, way: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        if way == "before the hold":
            await Holds(client).adopt(account, "keep")
        await Holds(client).acquire(account, ALICE, adopt="keep" if way == "with the hold" else None)
        found, _ = await read(client, account)
        assert found["metadata"]["labels"] == {GUARD: "shared"}
        assert found["metadata"]["annotations"] == {
            POLICY: "keep",
            USED: "true",
            ALICE.key: found["metadata"]["annotations"][ALICE.key],
        }

    tell(guarded, story)


def test_a_holder_does_not_take_away_the_policy_of_keeping(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        await Holds(client).acquire(account, ALICE, adopt="delete-with-last-user")
        await Holds(client).acquire(account, BOB, adopt="keep")
        await Holds(client).acquire(account, ALICE, adopt="delete-with-last-user")
        assert (await read(client, account))[0]["metadata"]["annotations"][POLICY] == "keep"
        await Holds(client).adopt(account, "delete-with-last-user")
        assert (await read(client, account))[0]["metadata"]["annotations"][POLICY] == "delete-with-last-user"

    tell(guarded, story)


# --- The end of an account


def test_a_released_account_goes(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        uid = await Holds(client).adopt(account, "delete-with-last-user") or ""
        assert await Holds(client).delete_released(account, uid)
        assert await client.get(SERVICE_ACCOUNTS, "shared", control_namespace) is None
        assert not await Holds(client).delete_released(account, uid)

    tell(guarded, story)


def test_a_held_account_is_not_deleted_and_not_marked_either(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        uid = await Holds(client).acquire(account, ALICE, adopt="delete-with-last-user") or ""
        with pytest.raises(Forbidden, match="alice"):
            await Holds(client).delete_released(account, uid)
        assert RELEASED not in (await read(client, account))[0]["metadata"]["annotations"]

    tell(guarded, story)


def test_another_account_of_the_name_is_not_deleted(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        old = await uid_of(client, account)
        await replaced(client, account)
        with pytest.raises(Conflict, match="another one has that name"):
            await Holds(client).delete_released(account, old)
        assert (await read(client, account))[0]["metadata"].get("annotations") is None

    tell(guarded, story)


def test_a_new_hold_takes_back_the_release(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        uid = await Holds(client).adopt(account, "keep") or ""
        _, home = await read(client, account)
        await Holds(client).mark_released(SERVICE_ACCOUNTS, "shared", control_namespace, uid)
        await Holds(client).mark_released(NAMESPACES, control_namespace, None, home["metadata"]["uid"])
        await Holds(client).acquire(account, ALICE)
        for one in await read(client, account):
            assert RELEASED not in one["metadata"]["annotations"]

    tell(guarded, story)


@pytest.mark.parametrize("kind", [SERVICE_ACCOUNTS, NAMESPACES], ids=lambda kind: kind.kind)
def test_marks_and_fences_are_for_one_uid_only(guarded: Cluster, control_namespace: str, kind: Resource) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        name, where = (control_namespace, None) if kind is NAMESPACES else ("shared", control_namespace)
        with pytest.raises((Invalid, Conflict)):
            await Holds(client).mark_released(kind, name, where, "another")
        with pytest.raises((Invalid, Conflict)):
            await Holds(client).fence(control_namespace, "another", ["shared"])
        for one in await read(client, account):
            assert not {RELEASED, FENCED} & set(one["metadata"].get("annotations") or {})

    tell(guarded, story)


def test_a_fence_names_accounts_and_goes_when_it_names_none(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        home = await client.get(NAMESPACES, control_namespace)
        assert home is not None
        uid = home["metadata"]["uid"]
        await Holds(client).fence(control_namespace, uid, ["two", "one", "two"])
        fenced = await client.get(NAMESPACES, control_namespace)
        assert fenced is not None
        assert fenced["metadata"]["annotations"][FENCED] == "one,two"
        await Holds(client).fence(control_namespace, uid, [])
        free = await client.get(NAMESPACES, control_namespace)
        assert free is not None
        assert FENCED not in free["metadata"].get("annotations", {})

    tell(guarded, story)


def test_owners_are_taken_off(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        owner = await client.create(manifest("ConfigMap", "owner", control_namespace), manager=MANAGER)
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        account = await make_account(client, control_namespace, "shared", ownerReferences=[reference])
        await Holds(client).strip_owners(account, await uid_of(client, account))
        assert "ownerReferences" not in (await read(client, account))[0]["metadata"]

    tell(guarded, story)


# --- Everything that is guarded


def test_guarded_are_the_adopted_the_held_and_those_of_environments(guarded: Cluster, control_namespace: str) -> None:
    names = {letter: f"{control_namespace}-{letter}" for letter in "abc"}

    async def story(client: KubeClient) -> None:
        for name in names.values():
            await client.create(manifest("Namespace", name), manager=MANAGER)
        adopted = await make_account(client, names["a"], "adopted")
        held = await make_account(client, names["a"], "held")
        await make_account(client, names["a"], "free")
        await Holds(client).adopt(adopted, "keep")
        await Holds(client).acquire(held, ALICE)
        await put(client, NAMESPACES, Account(names["b"], ""), {"labels": {GUARD: "env"}})
        await make_account(client, names["b"], "inside")
        await put(client, NAMESPACES, Account(names["c"], ""), {"annotations": {ALICE.key: ALICE.value()}})
        found = [
            (account["metadata"]["name"] if account else None, home["metadata"]["name"])
            for account, home in await Holds(client).guarded()
            if home["metadata"]["name"] in names.values()
        ]
        # The controllers of the cluster make "default" in each.
        assert sorted((str(name), home) for name, home in found if name != "default") == [
            ("None", names["c"]),
            ("adopted", names["a"]),
            ("held", names["a"]),
            ("inside", names["b"]),
        ]

    tell(guarded, story)
    for name in names.values():
        guarded.discard(name)


def test_a_hold_is_compact_json_that_a_person_can_read(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "shared")
        await Holds(client).acquire(account, held_by("alice", uid="1", environment="shop-main"))
        value = (await read(client, account))[0]["metadata"]["annotations"][ALICE.key]
        assert json.loads(value) == {
            "by": "envprov-system/alice",
            "kind": "Environment",
            "env": "shop-main",
            "uid": "1",
            "since": "2026-11-24T12:00:00Z",
            "why": "a test",
        }

    tell(guarded, story)
