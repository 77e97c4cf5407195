"""
Recording: read what is there, decide, and write once, for exactly what was read.

Somebody else's write in between is a conflict: read and decide again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from weakref import WeakValueDictionary

from envprov.domain.deliveries import (
    Absent,
    Advance,
    Create,
    Decision,
    Delete,
    Dismissal,
    Doubt,
    Ignore,
    News,
    Reason,
    Recorded,
    Remember,
    Succeed,
    decide,
    dismissed_after,
    doubt_after,
    is_told_again,
    known_trail,
)
from envprov.domain.errors import Conflict, Unavailable
from envprov.domain.names import slug
from envprov.kube.client import KubeClient
from envprov.kube.record import RECORDER, changed_record, check_name, known_of, new_record, notes_of
from envprov.kube.resources import CONFIG_MAPS, ENVIRONMENTS
from envprov.kube.tombstones import Tombstone, readable_tombstone, tombstone_name

Manifest = dict[str, Any]

TRIES = 16
"""Two processes with long queues for one branch win against each other about every other time."""
PAUSE_SECONDS = 0.001


class Recorder:
    """
    Brings news of branches on record.

    Args:
        client: Speaks to the API server.
        control_namespace: Where the records are.
        now: Clock, for tombstones.
        asks: Whether somebody looks into doubts. If so, a deletion that may be an old one once more is one.

    """

    def __init__(
        self,
        client: KubeClient,
        control_namespace: str,
        now: Callable[[], datetime] | None = None,
        *,
        asks: bool = False,
    ) -> None:
        self._client = client
        self._asks = asks
        self._namespace = control_namespace
        self._now = now or _utc_now
        # Deliveries of one branch that arrive together would only conflict with each other.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def record(self, project: str, branch: str, news: News, *, is_wanted: bool = True) -> Recorded:
        """
        Record news of one branch.

        Args:
            project: Name of the Project.
            branch: Branch name in full.
            news: A delivery, or a decision of somebody who has looked.
            is_wanted: Whether a record may be made; one that is there is changed all the same.

        Returns:
            What became of it.

        Raises:
            NameTaken: The record of that name is of another branch.
            Unavailable: The record could not be written, or others changed it each time we tried.

        """
        name = slug(project, branch)
        turn = self._turns.setdefault(name, asyncio.Lock())
        async with turn:
            for attempt in range(TRIES):
                try:
                    return Recorded(name, await self._try(project, branch, news, is_wanted=is_wanted))
                except Conflict:
                    # Another process's turn; both would meet again without a pause.
                    await asyncio.sleep(PAUSE_SECONDS * attempt)
        raise Unavailable(f"Environment {name}: others changed it each of {TRIES} times; try again")

    async def tombstone(self, environment: str) -> Tombstone | None:
        """The tombstone of an Environment, or None if there is none that can be read."""
        found = await self._client.get(CONFIG_MAPS, tombstone_name(environment), self._namespace)
        return None if found is None else readable_tombstone(found)

    async def pay(self, tombstone: Tombstone) -> None:
        """Make the successor that a tombstone owes; somebody else may have, which is as good."""
        body = new_record(
            self._namespace,
            tombstone.project,
            tombstone.branch,
            revision=tombstone.successor or "",
            trail=tombstone.trail,
        )
        with suppress(Conflict):
            await self._client.create(body, manager=RECORDER)

    async def dismiss(self, live: Manifest, why: Dismissal) -> None:
        """
        Ask for the teardown of exactly what was read, by somebody who decided without looking at the branch.

        Args:
            live: The Environment as it was read.
            why: Why.

        Raises:
            Conflict: It has changed since.

        """
        known, notes = known_of(live), replace(notes_of(live), dismissed=why.value)
        if notes != notes_of(live):
            live = await self._apply(changed_record(live, known.revision, known.trail, notes))
        await self._delete(live)

    async def _try(self, project: str, branch: str, news: News, *, is_wanted: bool) -> Decision:
        name = slug(project, branch)
        live = await self._get(name)
        if live is not None:
            check_name(live, project, branch)
            return await self._change(live, news)
        if not is_wanted:
            return Ignore(Reason.GONE)
        tombstone = await self.tombstone(name)
        if tombstone is not None and tombstone.successor is not None:
            await self.pay(tombstone)
            raise Conflict(f"Environment {name}: its successor has just been made")
        decision = decide(_absent(tombstone), news)
        match decision:
            case Create(revision, trail):
                body = new_record(self._namespace, project, branch, revision=revision, trail=trail)
                made = await self._client.create(body, manager=RECORDER)
                return await self._unless_buried(made, decision, tombstone, news)
            case Remember(trail) if tombstone is None:
                # Only ever created: the receiver may not change ConfigMaps, since the settings are one. Of a branch
                # whose deletion came before all else, the second link that comes late is left to the sweep.
                stone = Tombstone(name, project, branch, trail, None, self._now(), self._namespace)
                with suppress(Conflict):  # another process has just remembered
                    await self._client.create(stone.manifest(), manager=RECORDER)
                if await self._get(name) is not None:
                    raise Conflict(f"Environment {name}: was made while its deletion was being recorded")
            case _:
                pass
        return decision

    async def _unless_buried(
        self, made: Manifest, decision: Create, tombstone: Tombstone | None, news: News
    ) -> Decision:
        """Take back what was made while another process recorded that the branch is gone."""
        metadata = made["metadata"]
        now_there = await self.tombstone(metadata["name"])
        if now_there is None or (tombstone is not None and now_there.resource_version == tombstone.resource_version):
            return decision
        again = decide(_absent(now_there), news)
        if isinstance(again, Create):
            return decision
        await self._delete(made)
        return again

    async def _change(self, live: Manifest, news: News) -> Decision:
        known, before = known_of(live), notes_of(live)
        decision = decide(known, news)
        if self._asks and isinstance(decision, Delete) and is_told_again(known, news):
            decision = Doubt(known.revision, known_trail(known))
        notes = replace(
            before,
            doubt=doubt_after(before.doubt, decision, news),
            dismissed=dismissed_after(before.dismissed, decision, news),
        )
        match decision:
            case Create():
                pass
            case Ignore():
                if notes != before:
                    await self._apply(changed_record(live, known.revision, known.trail, notes))
            case Delete(trail):
                if notes != before or trail != known_trail(known).closed():
                    live = await self._apply(changed_record(live, known.revision, trail, notes))
                await self._delete(live)
            case Advance(revision, trail):
                await self._apply(changed_record(live, revision, trail, notes))
            case Succeed(successor, trail):
                await self._apply(changed_record(live, known.revision, trail, replace(notes, successor=successor)))
            case Remember(trail) | Doubt(trail=trail):
                await self._apply(changed_record(live, known.revision, trail, notes))
        return decision

    async def _get(self, name: str) -> Manifest | None:
        return await self._client.get(ENVIRONMENTS, name, self._namespace)

    async def _apply(self, body: Manifest) -> Manifest:
        return await self._client.apply(body, manager=RECORDER)

    async def _delete(self, live: Manifest) -> None:
        metadata = live["metadata"]
        await self._client.delete(
            ENVIRONMENTS,
            metadata["name"],
            self._namespace,
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
        )


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _absent(tombstone: Tombstone | None) -> Absent:
    return Absent() if tombstone is None else Absent(tombstone.trail)
