"""
Promise 3: five environments share a ServiceAccount through RoleBindings, and their branches go in every order.

All 120 orders for both policies, with the controller's own teardown and guard on a real API server. One order of
each policy goes through the process as shipped, with Helm: ``tests/e2e/test_shared_accounts.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import pytest

from envprov.domain.desired import Identity
from envprov.domain.errors import Forbidden
from envprov.domain.guard import Policy
from envprov.domain.holds import Account, read_holds
from envprov.kube.client import KubeClient
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS
from tests.cluster import Cluster
from tests.integration.guard.sharers import (
    Controller,
    Namespaces,
    ask_for_the_end,
    controller,
    make_environment,
    take_down,
)
from tests.integration.guard.worlds import MANAGER, SINCE, make_account, manifest, read, tell, uid_of
from tests.integration.records import install_definition, let_go

BRANCHES = 5
AT_ONCE = 24
"""Environments that are made or taken down at the same time."""
POLICIES: tuple[Policy, Policy] = ("keep", "delete-with-last-user")


@dataclass(frozen=True)
class Group:
    """
    Five environments, and what they share.

    Attributes:
        order: In which their branches go, as numbers.
        home: Namespace of what they share.
        environments: In this order.
        uids: Of what they share: one account with each policy, which is its name.

    """

    order: tuple[int, ...]
    home: str
    environments: tuple[Identity, ...]
    uids: dict[Account, str]


@dataclass(frozen=True)
class World:
    """
    Groups, and the controller that serves them.

    Attributes:
        client: As whom it works.
        ours: The controller.

    """

    client: Namespaces
    ours: Controller
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def make(self, order: tuple[int, ...]) -> Group:
        """Make five environments, by their numbers, which hold what they share one after the other."""
        client, control = self.client, self.ours.control_namespace
        salt = "".join(str(number) for number in order)
        home = f"{control}-{salt}"
        async with self._slots:
            await client.create(manifest("Namespace", home), manager=MANAGER)
            accounts = [await make_account(client, home, policy) for policy in POLICIES]
            made = [await make_environment(client, control, f"{salt}/{number}", accounts) for number in range(BRANCHES)]
            for identity in made:
                for account, policy in zip(accounts, POLICIES, strict=True):
                    await self.ours.guard.hold(identity, account, policy, "named by the Project", SINCE)
            uids = [await uid_of(client, account) for account in accounts]
        return Group(order, home, tuple(made[number] for number in order), dict(zip(accounts, uids, strict=True)))

    async def end(self, identity: Identity) -> None:
        """Take one environment down."""
        async with self._slots:
            await ask_for_the_end(self.client, identity)
            await take_down(self.ours, identity, lambda: self.client.end(identity.namespace))

    async def assert_kept(self, group: Group, left: Sequence[Identity]) -> None:
        """The accounts are there as they were, held by exactly those who are left, and nobody can delete them."""
        async with self._slots:
            for account, uid in group.uids.items():
                found, home = await read(self.client, account)
                assert (found["metadata"]["uid"], "deletionTimestamp" in found["metadata"]) == (uid, False), group.order
                for one in (found, home):
                    assert {hold.holder for hold in read_holds(one)} == {own.holder for own in left}, group.order
                with pytest.raises(Forbidden, match=r"envprov-delete-guard.*is held by Environment"):
                    await self.client.delete(SERVICE_ACCOUNTS, account.name, account.namespace, uid=uid, dry_run=True)

    async def assert_left_as_its_policy_says(self, group: Group) -> None:
        """One account is there without holds, the other is gone, and the Namespace of both is held no more."""
        async with self._slots:
            home = await self.client.get(NAMESPACES, group.home)
            listing = await self.client.list(SERVICE_ACCOUNTS, group.home)
        found = {Account(group.home, one["metadata"]["name"]): one for one in listing.items}
        kept, gone = (Account(group.home, policy) for policy in POLICIES)
        assert gone not in found, f"{gone} outlived its last user"
        assert (found[kept]["metadata"]["uid"], read_holds(found[kept])) == (group.uids[kept], ())
        assert home is not None
        assert read_holds(home) == ()


@pytest.fixture
def records(guarded: Cluster, control_namespace: str) -> Iterator[str]:
    """Yield a control namespace that can hold Environments."""
    install_definition(guarded)
    yield control_namespace
    let_go(guarded, control_namespace)


@pytest.mark.parametrize("first", range(BRANCHES))
def test_an_account_lives_until_its_last_environment_is_gone_whatever_the_order(
    guarded: Cluster, records: str, first: int
) -> None:
    orders = [order for order in permutations(range(BRANCHES)) if order[0] == first]
    assert len(orders) == 24

    async def story(client: KubeClient) -> None:
        assert isinstance(client, Namespaces)
        world = World(client, controller(guarded, client, records))
        try:
            groups = await asyncio.gather(*(world.make(order) for order in orders))
            for gone in range(BRANCHES):
                # Before the guard looks, which would put back what is missing.
                await asyncio.gather(*(world.assert_kept(group, group.environments[gone:]) for group in groups))
                await world.ours.guardian.look()
                await asyncio.gather(*(world.end(group.environments[gone]) for group in groups))
            # What nobody has used in two looks follows its policy.
            for _ in range(2):
                await world.ours.guardian.look()
            await asyncio.gather(*(world.assert_left_as_its_policy_says(group) for group in groups))
        finally:
            await client.sweep(records)

    tell(guarded, story, kind=Namespaces)
