"""The guard's edge: joins holds, usage, arming and the records of environments."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from envprov.controller.guardian import Environs
from envprov.domain.desired import Identity
from envprov.domain.errors import Conflict, Disarmed, EnvprovError, Unavailable
from envprov.domain.guard import ENVIRONMENT, Acquire, Guarded, Policy, Release, Verdict, bereft, classify, read_guarded
from envprov.domain.holds import Account, Hold, Holder
from envprov.domain.names import namespace_of
from envprov.domain.observed import AccountSeen, GuardSeen
from envprov.domain.usage import Usage
from envprov.kube import resources
from envprov.kube.arming import Arming, State
from envprov.kube.client import KubeClient
from envprov.kube.events import Events
from envprov.kube.holds import Holds
from envprov.kube.requests import is_look
from envprov.kube.usage import UsageReader

SOURCE = "envprov-guard"
_NOTHING = Verdict("Blocked")


@dataclass(frozen=True)
class LiveGuard:
    """
    The guard of one cluster.

    Attributes:
        client: Speaks to the API server.
        holds: Puts holds on and takes them off.
        reader: Reads who uses what.
        arming: Knows whether the policies are in force.
        requests: Gives the ConfigMaps among which requests for a look are.

    """

    client: KubeClient
    holds: Holds
    reader: UsageReader
    arming: Arming
    requests: Callable[[], Iterable[Mapping[str, Any]]] = tuple

    async def ask(self, identity: Identity) -> GuardSeen:
        """See ``envprov.controller.ports.Cluster.ask_guard``."""
        try:
            await self.arming.require()
        except Disarmed as error:
            return GuardSeen(str(error), _NOTHING)
        name = identity.namespace
        usage = await self.reader.read(frozenset({name}))
        accounts = await self.client.list(resources.SERVICE_ACCOUNTS, name, metadata_only=True)
        namespace = await self.client.get(resources.NAMESPACES, name, metadata_only=True)
        found = [read_guarded(item, namespace) for item in accounts.items] or [read_guarded(None, namespace)]
        return GuardSeen("", classify(found, usage, identity.holder))

    async def look_back(self, identity: Identity) -> tuple[str, ...]:
        """See ``envprov.controller.ports.Cluster.look_back``."""
        return bereft(await self.reader.read(), identity.namespace)

    def alarm(self) -> GuardSeen | None:
        """See ``envprov.controller.ports.Cluster.alarm``."""
        if self.arming.state is State.DISARMED:
            return GuardSeen(self.arming.why, _NOTHING)
        return None

    async def hold(self, identity: Identity, account: Account, policy: Policy | None, why: str, now: datetime) -> None:
        """
        Hold a ServiceAccount of another namespace for an environment.

        Args:
            identity: The environment.
            account: What is held.
            policy: What becomes of it when its last user is gone, if it is to be adopted.
            why: What for.
            now: Aware moment.

        Raises:
            HoldLost: It is being deleted.

        """
        hold = Hold(identity.holder, now, why, environment=identity.name)
        await self.holds.acquire(account, hold, adopt=policy)

    async def clear(self, namespace: str, uid: str, accounts: Iterable[tuple[str, str]]) -> None:
        """
        Let go of a namespace in which nothing is used any more.

        Args:
            namespace: Its name.
            uid: Its UID.
            accounts: Name and UID of each ServiceAccount in it.

        Raises:
            Forbidden: One of them may not be deleted; nothing was let go.

        """
        rehearsals = (
            self.client.delete(resources.SERVICE_ACCOUNTS, name, namespace, uid=one, dry_run=True)
            for name, one in accounts
        )
        await asyncio.gather(*rehearsals)
        await self.holds.mark_released(resources.NAMESPACES, namespace, None, uid)

    async def look(self, identity: Identity, accounts: Iterable[Account]) -> dict[Account, AccountSeen]:
        """
        ServiceAccounts of other namespaces, and whether the environment holds them.

        Args:
            identity: The environment.
            accounts: Which.

        """
        wanted = sorted(set(accounts))
        found = await asyncio.gather(*(self._look(account, identity.holder.key) for account in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _look(self, account: Account, key: str) -> AccountSeen:
        live, namespace = await asyncio.gather(
            self.client.get(resources.SERVICE_ACCOUNTS, account.name, account.namespace, metadata_only=True),
            self.client.get(resources.NAMESPACES, account.namespace, metadata_only=True),
        )
        if live is None or namespace is None:
            return AccountSeen()
        guarded = read_guarded(live, namespace)
        on_both = all(any(hold.key == key for hold in holds) for holds in (guarded.holds, guarded.namespace_holds))
        policy = guarded.policy if guarded.shared else None
        return AccountSeen(guarded.uid, on_both and not guarded.terminating, policy)

    async def guarded(self) -> Sequence[Guarded]:
        """See ``envprov.controller.guardian.GuardEdge``."""
        return [read_guarded(account, namespace) for account, namespace in await self.holds.guarded()]

    async def usage(self) -> Usage:
        """See ``envprov.controller.guardian.GuardEdge``."""
        return await self.reader.read()

    async def environs(self) -> Environs:
        """See ``envprov.controller.guardian.GuardEdge``."""
        listing = await self.client.list(resources.ENVIRONMENTS, metadata_only=True)
        return environs_of(listing.items)

    async def heed(self) -> None:
        """See ``envprov.controller.guardian.GuardEdge``."""
        for item in tuple(self.requests()):
            if is_look(item):
                metadata = item["metadata"]
                with suppress(EnvprovError):  # one that stays only means another look
                    await self.client.delete(
                        resources.CONFIG_MAPS, metadata["name"], metadata["namespace"], uid=metadata["uid"]
                    )

    async def armed(self) -> bool:
        """See ``envprov.controller.guardian.GuardEdge``."""
        try:
            await self.arming.require()
        except Disarmed:
            return False
        return True

    async def acquire(self, acquire: Acquire) -> None:
        """See ``envprov.controller.guardian.GuardEdge``."""
        await self.holds.acquire(acquire.guarded.account, acquire.hold)

    async def release(self, releases: Sequence[Release]) -> None:
        """See ``envprov.controller.guardian.GuardEdge``."""
        account, keys = releases[0].guarded.account, [release.key for release in releases]
        if releases[0].from_account:
            await self.holds.release(account, *keys)
        else:
            await self.holds.release_namespace(account.namespace, *keys)

    async def remove(self, guarded: Guarded) -> None:
        """See ``envprov.controller.guardian.GuardEdge``."""
        account = guarded.account
        usage = await self.reader.read(frozenset({account.namespace}))
        if not usage.is_complete:
            raise Unavailable(f"ServiceAccount {account} stays: {'; '.join(usage.faults)}")
        users = [claim for claim in usage.of(account) if claim.strength.keeps]
        if users:
            raise Conflict(f"ServiceAccount {account} stays: {users[0].holder} uses it ({users[0].how})")
        await self.holds.delete_released(account, guarded.uid)

    async def mark_used(self, guarded: Guarded) -> None:
        """See ``envprov.controller.guardian.GuardEdge``."""
        await self.holds.mark_used(guarded.account, guarded.uid)

    async def strip_owners(self, guarded: Guarded) -> None:
        """See ``envprov.controller.guardian.GuardEdge``."""
        await self.holds.strip_owners(guarded.account, guarded.uid)

    async def tell(self, guarded: Guarded, reason: str, message: str) -> None:
        """See ``envprov.controller.guardian.GuardEdge``."""
        account = guarded.account
        about = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "name": account.name,
            "namespace": account.namespace,
            "uid": guarded.uid,
        }
        await Events(self.client, SOURCE).tell(about, reason, message, warning=True)


def environs_of(environments: Sequence[Mapping[str, Any]]) -> Environs:
    """
    The environments of the cluster, as holders.

    Args:
        environments: Environment objects; their metadata is enough.

    """
    holders = [
        Holder(ENVIRONMENT, item["metadata"]["namespace"], item["metadata"]["name"], item["metadata"]["uid"])
        for item in environments
    ]
    return Environs({namespace_of(holder.name): holder for holder in holders}, frozenset(one.uid for one in holders))
