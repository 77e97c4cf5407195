"""
Holds on the API server: put on, taken off and found, so that no other holder's is ever touched.

A hold goes on the Namespace first and comes off it last: a Namespace that goes takes its ServiceAccounts with it, and
no admission policy asks for them one by one before it has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

import structlog

from envprov.domain.errors import Conflict, EnvprovError, Forbidden, HoldLost, Invalid, TerminalError
from envprov.domain.guard import KEEP, Policy
from envprov.domain.holds import FENCED, GUARD, POLICY, PREFIX, RELEASED, SHARED, USED, Account, Hold, read_holds
from envprov.kube.client import KubeClient, Object
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS, Resource

log = structlog.get_logger("envprov.kube")

MANAGER = "envprov-guard"
"""Field manager of everything that the guard writes on objects of others."""
CROWDED_BYTES = 64 << 10
"""From this size of all annotations on, holds are written without their reasons; the API server takes 256 KiB."""
TRIES = 3
"""How often a hold is put back on a Namespace that another release of ours has just taken it off."""
NAMED = 10
"""How many holders a message names."""


@dataclass(frozen=True)
class _Pair:
    """A ServiceAccount and its Namespace, as they were read."""

    namespace: Object
    account: Object

    @property
    def uid(self) -> str:
        return str(self.account["metadata"]["uid"])


class Holds:
    """
    The holds of one cluster.

    All methods raise what ``kube.errors`` translates, besides what they name.

    Args:
        client: Reads and patches ServiceAccounts and Namespaces; needs the verb ``manage`` on ``holds.envprov.io``.

    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def acquire(self, account: Account, hold: Hold, *, adopt: Policy | None = None) -> str | None:
        """
        Hold a ServiceAccount and the Namespace that it lives in, or see that they are held.

        A hold that is there already keeps its beginning; one that says the same otherwise is not written again. A mark
        that the object may be deleted is taken off.

        Args:
            account: What is held.
            hold: By whom, and why.
            adopt: Guard the ServiceAccount from now on even when nobody holds it, with this policy. A policy of
                ``keep`` that is there already stays: who gives one up says so by ``adopt``.

        Returns:
            UID of the ServiceAccount; None if it or its Namespace is not there, and then nothing is held.

        Raises:
            HoldLost: One of the two is being deleted, or was replaced meanwhile. What was written is undone.
            Conflict: Others kept taking the hold off the Namespace.
            Invalid: No more holds fit on the object.

        """
        async with self._turn(account.namespace):
            for _ in range(TRIES):
                seen = await self._look(account)
                if seen is None:
                    return None
                self._check(account, seen, hold)
                on_namespace = _missing(seen.namespace, hold, adopt=None, adopted=False)
                on_account = _missing(seen.account, hold, adopt=adopt, adopted=_is_adopted(seen.account))
                if not on_namespace and not on_account:
                    return seen.uid
                if await self._write(account, hold, seen, on_namespace, on_account):
                    return seen.uid
        raise Conflict(f"hold ServiceAccount {account}: others keep taking the hold off its Namespace; try again")

    async def adopt(self, account: Account, policy: Policy) -> str | None:
        """
        Guard a ServiceAccount from now on, also while nobody holds it.

        Args:
            account: What is guarded.
            policy: What becomes of it when its last user is gone; replaces one that is there.

        Returns:
            Its UID, or None if it is not there.

        Raises:
            HoldLost: It is being deleted.

        """
        found = await self._client.get(SERVICE_ACCOUNTS, account.name, account.namespace, metadata_only=True)
        if found is None:
            return None
        metadata = {"uid": found["metadata"]["uid"], "labels": {GUARD: SHARED}, "annotations": {POLICY: policy}}
        live = found if _says(found, metadata) else await self._patch(SERVICE_ACCOUNTS, account, metadata)
        if "deletionTimestamp" in live["metadata"]:
            raise HoldLost(f"ServiceAccount {account} is being deleted: it cannot be adopted; make it again afterwards")
        return str(live["metadata"]["uid"])

    async def mark_used(self, account: Account, uid: str) -> None:
        """
        Write on an adopted ServiceAccount that it has had a user: from now on the policy of the last user applies.

        Raises:
            Conflict: It is gone.
            Invalid: Another object has the name now.

        """
        await self._patch(SERVICE_ACCOUNTS, account, {"uid": uid, "annotations": {USED: "true"}})

    async def unadopt(self, account: Account) -> None:
        """
        Guard a ServiceAccount no longer when nobody holds it; its holds stay. Nothing happens if it is not there.

        Whether it is still used is for the caller to know, from a complete graph.
        """
        found = await self._client.get(SERVICE_ACCOUNTS, account.name, account.namespace, metadata_only=True)
        wanted: Object = {"labels": {GUARD: None}, "annotations": dict.fromkeys((POLICY, USED, RELEASED))}
        if found is not None and not _says(found, wanted):
            await self._patch(SERVICE_ACCOUNTS, account, wanted | {"uid": found["metadata"]["uid"]})

    async def release(self, account: Account, *keys: str) -> None:
        """
        Take holds off a ServiceAccount, then off its Namespace unless they hold another ServiceAccount there.

        Args:
            account: What is held; with an empty name only the Namespace is.
            keys: Of the holds, which go in one write of each object. Nothing happens where they are not.

        Raises:
            Conflict: An object was replaced meanwhile: call again.

        """
        async with self._turn(account.namespace):
            if account.name:
                await self._take_off(SERVICE_ACCOUNTS, account, keys)
            await self._free_namespace(account.namespace, keys)

    async def release_namespace(self, namespace: str, *keys: str) -> None:
        """
        Take holds off a Namespace, unless they hold a ServiceAccount there.

        Args:
            namespace: Its name; nothing happens if it is not there.
            keys: Of the holds.

        """
        async with self._turn(namespace):
            await self._free_namespace(namespace, keys)

    async def holding(self, key: str) -> tuple[Account, ...]:
        """
        Everything that one holder holds.

        Args:
            key: Of its hold.

        Returns:
            ServiceAccounts that carry it; and Namespaces that carry it without one that does, as accounts without
            name: what an interrupted release or acquire left behind.

        """
        held = [_account_of(found) async for found in self._every(SERVICE_ACCOUNTS) if key in _notes(found)]
        spaces = [found["metadata"]["name"] async for found in self._every(NAMESPACES) if key in _notes(found)]
        inhabited = {account.namespace for account in held}
        return tuple(sorted([*held, *(Account(name, "") for name in spaces if name not in inhabited)]))

    async def guarded(self) -> tuple[tuple[Object | None, Object], ...]:
        """
        Every ServiceAccount that is guarded, held, or in the namespace of an environment, with its Namespace.

        Returns:
            Metadata of both, without ``managedFields``; and Namespaces that are held while no ServiceAccount in them
            is, with None in place of one. A ServiceAccount without Namespace, left behind when that was forced away,
            is not among them: nothing can guard it.

        """
        # Namespaces first: an account that was made since is found in one that is not among them, and not lost.
        homes = {found["metadata"]["name"]: found async for found in self._every(NAMESPACES)}
        found = [
            account
            async for account in self._every(SERVICE_ACCOUNTS)
            if _is_guarded(account) or _is_environment(homes.get(account["metadata"]["namespace"]))
        ]
        inhabited = {account["metadata"]["namespace"] for account in found}
        for name in inhabited - homes.keys():
            late = await self._client.get(NAMESPACES, name, metadata_only=True)
            if late is not None:
                homes[name] = late
        pairs: list[tuple[Object | None, Object]] = [
            (account, homes[account["metadata"]["namespace"]])
            for account in found
            if account["metadata"]["namespace"] in homes
        ]
        empty = (home for name, home in homes.items() if name not in inhabited and _is_held(home))
        return (*pairs, *((None, home) for home in empty))

    async def fence(self, namespace: str, uid: str, names: Iterable[str]) -> None:
        """
        Give some ServiceAccounts of a Namespace no new pods and no new tokens, and all others again.

        Args:
            namespace: Its name.
            uid: Of the Namespace.
            names: Of the ServiceAccounts; none takes the fence away.

        Raises:
            Conflict: The Namespace is gone.
            Invalid: Another Namespace has the name now.

        """
        await self._patch(
            NAMESPACES,
            Account(namespace, ""),
            {"uid": uid, "annotations": {FENCED: ",".join(sorted(set(names))) or None}},
        )

    async def mark_released(self, resource: Resource, name: str, namespace: str | None, uid: str) -> None:
        """
        Say that exactly this guarded object may be deleted; its holds, if it has any, keep it all the same.

        Args:
            resource: ``NAMESPACES`` or ``SERVICE_ACCOUNTS``.
            name: Its name.
            namespace: None for a Namespace.
            uid: Its UID.

        Raises:
            Conflict: It is gone.
            Invalid: Another object has the name now.

        """
        body = {"metadata": {"uid": uid, "annotations": {RELEASED: uid}}}
        await self._client.merge_patch(resource, name, namespace, body, manager=MANAGER)

    async def withhold(self, namespace: str, uid: str) -> None:
        """
        Say that a Namespace that was released may not be deleted after all.

        Args:
            namespace: Its name.
            uid: Its UID.

        Raises:
            Conflict: It is gone.
            Invalid: Another Namespace has the name now.

        """
        await self._patch(NAMESPACES, Account(namespace, ""), {"uid": uid, "annotations": {RELEASED: None}})

    async def delete_released(self, account: Account, uid: str) -> bool:
        """
        Delete a ServiceAccount that nobody uses any more.

        Args:
            account: What is deleted.
            uid: Its UID.

        Returns:
            False if it was not there.

        Raises:
            Forbidden: Somebody holds it: it stays, and is not marked as released.
            Conflict: Another object has the name now.

        """
        found = await self._client.get(SERVICE_ACCOUNTS, account.name, account.namespace, metadata_only=True)
        if found is None:
            return False
        if found["metadata"]["uid"] != uid:
            raise Conflict(f"delete ServiceAccount {account}: another one has that name now; look again")
        await self.mark_released(SERVICE_ACCOUNTS, account.name, account.namespace, uid)
        address = (SERVICE_ACCOUNTS, account.name, account.namespace)
        try:
            await self._client.delete(*address, uid=uid, dry_run=True)
            return await self._client.delete(*address, uid=uid)
        except Forbidden:
            # With the mark anybody could delete it as soon as the last hold is off.
            await self._patch(SERVICE_ACCOUNTS, account, {"uid": uid, "annotations": {RELEASED: None}})
            raise

    async def strip_owners(self, account: Account, uid: str) -> None:
        """
        Take all owners from a ServiceAccount, so that the garbage collector leaves it alone.

        Args:
            account: What is owned.
            uid: Its UID.

        Raises:
            Conflict: It is gone.
            Invalid: Another object has the name now.

        """
        await self._patch(SERVICE_ACCOUNTS, account, {"uid": uid, "ownerReferences": None})

    def _turn(self, namespace: str) -> asyncio.Lock:
        """One writer of ours at a time: of twenty the API server refuses most, for each writes the whole object."""
        turn = self._turns.get(namespace)
        if turn is None:
            turn = self._turns[namespace] = asyncio.Lock()
        return turn

    async def _free_namespace(self, namespace: str, keys: Collection[str]) -> None:
        inside = await self._values_inside(namespace, keys)
        free = [key for key in keys if key not in inside]
        if not free:
            return
        there = Account(namespace, "")
        await self._take_off(NAMESPACES, there, free)
        # Another process may have held a ServiceAccount there with such a key since we looked. Whoever did looks at the
        # Namespace afterwards, and we look at the ServiceAccounts: one of us sees it.
        values = await self._values_inside(namespace, free)
        if values:
            await self._patch(NAMESPACES, there, {"annotations": values})

    async def _look(self, account: Account) -> _Pair | None:
        namespace, found = await asyncio.gather(
            self._client.get(NAMESPACES, account.namespace, metadata_only=True),
            self._client.get(SERVICE_ACCOUNTS, account.name, account.namespace, metadata_only=True),
        )
        return None if namespace is None or found is None else _Pair(namespace, found)

    async def _write(self, account: Account, hold: Hold, seen: _Pair, on_namespace: Object, on_account: Object) -> bool:
        """Put the hold on; False if the Namespace has lost it again meanwhile."""
        written: list[Resource] = []
        try:
            if on_namespace:
                written.append(NAMESPACES)
                namespace = await self._put_on(NAMESPACES, account, hold, seen, on_namespace)
                self._check(account, replace(seen, namespace=namespace), hold)
            if on_account:
                written.append(SERVICE_ACCOUNTS)
                found = await self._put_on(SERVICE_ACCOUNTS, account, hold, seen, on_account)
                self._check(account, replace(seen, account=found), hold)
            after = await self._client.get(NAMESPACES, account.namespace, metadata_only=True)
            if after is None or after["metadata"]["uid"] != seen.namespace["metadata"]["uid"]:
                raise _lost(account, hold, seen, f"Namespace {account.namespace} was deleted")
            self._check(account, replace(seen, namespace=after), hold)
        except HoldLost as lost:
            raise HoldLost(f"{lost}{await self._undo(account, hold.key, written)}") from lost
        except TerminalError:
            # Nobody will try again soon. After any other error somebody does, and finds what is there already.
            await self._undo(account, hold.key, written)
            raise
        return hold.key in _notes(after)

    async def _put_on(
        self, resource: Resource, account: Account, hold: Hold, seen: _Pair, metadata: Mapping[str, Any]
    ) -> Object:
        before = seen.namespace if resource is NAMESPACES else seen.account
        uid = before["metadata"]["uid"]
        try:
            return await self._patch(resource, account, {"uid": uid, **metadata})
        except (Conflict, Invalid) as refused:
            # The server says in several ways that it is another object; what there is now says it in one.
            now = await self._look(account)
            live = None if now is None else now.namespace if resource is NAMESPACES else now.account
            if live is not None and live["metadata"]["uid"] == uid:
                raise
            what = f"Namespace {account.namespace}" if resource is NAMESPACES else f"ServiceAccount {account}"
            raise _lost(account, hold, seen, f"{what} was deleted") from refused

    async def _undo(self, account: Account, key: str, written: list[Resource]) -> str:
        try:
            if SERVICE_ACCOUNTS in written:
                await self._take_off(SERVICE_ACCOUNTS, account, [key])
            if NAMESPACES in written:
                await self._free_namespace(account.namespace, [key])
        except EnvprovError as error:
            log.warning("hold not undone", account=str(account), key=key, error=str(error))
            return f"; the hold could not be taken back ({error})"
        return ""

    async def _take_off(self, resource: Resource, account: Account, keys: Collection[str]) -> None:
        name, namespace = _address(resource, account)
        found = await self._client.get(resource, name, namespace, metadata_only=True)
        off = {} if found is None else dict.fromkeys(key for key in keys if key in _notes(found))
        if found is not None and off:
            await self._patch(resource, account, {"uid": found["metadata"]["uid"], "annotations": off})

    async def _values_inside(self, namespace: str, keys: Collection[str]) -> dict[str, str]:
        """Those of some holds that some ServiceAccount of a Namespace has, as they are written."""
        return {
            key: _notes(item)[key]
            async for item in self._every(SERVICE_ACCOUNTS, namespace)
            for key in keys
            if key in _notes(item)
        }

    async def _every(self, resource: Resource, namespace: str | None = None) -> AsyncIterator[Object]:
        async with aclosing(self._client.pages(resource, namespace, metadata_only=True)) as pages:
            async for page in pages:
                for item in page.items:
                    item["metadata"].pop("managedFields", None)
                    yield item

    async def _patch(self, resource: Resource, account: Account, metadata: Mapping[str, Any]) -> Object:
        name, namespace = _address(resource, account)
        return await self._client.merge_patch(resource, name, namespace, {"metadata": metadata}, manager=MANAGER)

    @staticmethod
    def _check(account: Account, seen: _Pair, hold: Hold) -> None:
        for what, manifest in (
            (f"Namespace {account.namespace}", seen.namespace),
            (f"ServiceAccount {account}", seen.account),
        ):
            if "deletionTimestamp" in manifest["metadata"]:
                raise _lost(account, hold, seen, f"{what} is being deleted")


def _lost(account: Account, hold: Hold, seen: _Pair, why: str) -> HoldLost:
    holders = {str(one.holder) for one in read_holds(seen.account) if not one.key.endswith("/canary")}
    named = sorted(holders | {str(hold.holder)})
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return HoldLost(
        f"hold ServiceAccount {account}: {why}, and its tokens with it; when it is there again, restart what used it: "
        f"{', '.join(named[:NAMED])}{more}"
    )


def _missing(manifest: Object, hold: Hold, *, adopt: Policy | None, adopted: bool) -> Object:
    """What must be patched into the metadata of an object; empty if it says it all."""
    notes = _notes(manifest)
    wanted: dict[str, str | None] = {hold.key: _value(manifest, hold), RELEASED: None}
    if adopt is not None or adopted:
        wanted[USED] = notes.get(USED, "true")
    if adopt is not None:
        wanted[POLICY] = KEEP if notes.get(POLICY) == KEEP else adopt
    metadata: Object = {"annotations": wanted} | ({"labels": {GUARD: SHARED}} if adopt is not None else {})
    return {} if _says(manifest, metadata) else metadata


def _value(manifest: Object, hold: Hold) -> str:
    notes = _notes(manifest)
    before = next((one for one in read_holds(manifest) if one.key == hold.key and one.holder == hold.holder), None)
    lasting = hold if before is None else replace(hold, since=before.since)
    brief = replace(lasting, why="", environment="")
    if notes.get(hold.key) == brief.value():
        return brief.value()
    crowded = sum(len(key) + len(value.encode()) for key, value in notes.items()) > CROWDED_BYTES
    return (brief if crowded and hold.key not in notes else lasting).value()


def _says(manifest: Object, metadata: Mapping[str, Any]) -> bool:
    """Whether labels and annotations are as a patch would make them."""
    return all(
        (manifest["metadata"].get(part) or {}).get(name) == value
        for part in ("labels", "annotations")
        for name, value in metadata.get(part, {}).items()
    )


def _notes(manifest: Object) -> dict[str, str]:
    return manifest["metadata"].get("annotations") or {}


def _is_adopted(manifest: Object) -> bool:
    return (manifest["metadata"].get("labels") or {}).get(GUARD) == SHARED


def _is_held(manifest: Object) -> bool:
    return any(name.startswith(PREFIX) for name in _notes(manifest))


def _is_guarded(manifest: Object) -> bool:
    return _is_held(manifest) or GUARD in (manifest["metadata"].get("labels") or {})


def _is_environment(namespace: Object | None) -> bool:
    return namespace is not None and (namespace["metadata"].get("labels") or {}).get(GUARD) == "env"


def _account_of(manifest: Object) -> Account:
    return Account(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _address(resource: Resource, account: Account) -> tuple[str, str | None]:
    return (account.namespace, None) if resource is NAMESPACES else (account.name, account.namespace)
