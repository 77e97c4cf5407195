"""
The guard's own loop: who uses the guarded ServiceAccounts, and which holds follow from that.

Watches only wake it. Each pass reads everything live, decides without I/O, and then acquires and releases.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import structlog

from envprov.controller.first import first
from envprov.controller.metrics import GuardMetrics
from envprov.domain.errors import EnvprovError, HoldLost
from envprov.domain.guard import Absence, Acquire, Grace, Guarded, Release, Review, review
from envprov.domain.holds import Account, Holder
from envprov.domain.usage import Usage

log = structlog.get_logger("envprov.guard")

SPACING = timedelta(seconds=2)
"""Least time between two passes, whatever wakes them."""
AT_ONCE = 8
"""Objects that are worked on at the same time; those of one Namespace come one after the other."""
TOGETHER = 100
"""Holds that are taken off an object at once: each write of it asks the policies about all that it changes."""

T = TypeVar("T")


@dataclass(frozen=True)
class Environs:
    """
    The environments of the cluster.

    Attributes:
        by_namespace: Who holds on behalf of what is in a namespace.
        uids: UIDs of all that are there.

    """

    by_namespace: Mapping[str, Holder]
    uids: frozenset[str]


class GuardEdge(Protocol):
    """What the guard needs of the cluster."""

    async def guarded(self) -> Sequence[Guarded]:
        """All ServiceAccounts that are shared or held, read live."""

    async def usage(self) -> Usage:
        """Who uses which ServiceAccount, read live; without Secrets, which we may not list everywhere."""

    async def environs(self) -> Environs:
        """All environments, read live."""

    async def heed(self) -> None:
        """Take away the requests for a look, which the one that begins now answers."""

    async def armed(self) -> bool:
        """Whether the policies are in force right now."""

    async def acquire(self, acquire: Acquire) -> None:
        """Put a hold on a ServiceAccount and its Namespace."""

    async def release(self, releases: Sequence[Release]) -> None:
        """Take some holds off one ServiceAccount and its Namespace, or off one Namespace alone."""

    async def mark_used(self, guarded: Guarded) -> None:
        """Write on a shared ServiceAccount that it has had a user."""

    async def remove(self, guarded: Guarded) -> None:
        """
        Delete a ServiceAccount whose last user is gone, as its policy says, after one more look, at its Secrets too.

        Raises:
            EnvprovError: Somebody uses it after all, or it cannot be seen whether.

        """

    async def strip_owners(self, guarded: Guarded) -> None:
        """Take the ownerReferences off, by which the garbage collector would delete it."""

    async def tell(self, guarded: Guarded, reason: str, message: str) -> None:
        """Record a warning Event on a ServiceAccount."""


class Guardian:
    """
    Keeps the holds in step with who uses what.

    Args:
        edge: Reads and writes.
        now: Clock; aware moments.
        interval: Time between two passes that nothing wakes.
        grace: How long a holder must be seen to use it no more.
        auto_release: Names of declared holders whose holds go by themselves when they have run out.
        metrics: Where the guard's state is shown.

    """

    def __init__(  # noqa: PLR0913 - one row of plain values
        self,
        edge: GuardEdge,
        *,
        now: Callable[[], datetime],
        interval: timedelta,
        grace: Grace,
        auto_release: frozenset[str],
        metrics: GuardMetrics,
    ) -> None:
        self._edge = edge
        self._now = now
        self._interval = interval
        self._grace = grace
        self._auto_release = auto_release
        self._metrics = metrics
        self._woken = asyncio.Event()
        self._absences: Mapping[tuple[Account, str], Absence] = {}
        self._told: set[tuple[Account, str, str]] = set()

    def wake(self) -> None:
        """Something changed that may matter."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """
        Guard until told to stop.

        Args:
            stop: Set when no new pass is to be begun.

        """
        while not stop.is_set():
            self._woken.clear()
            pause = self._interval
            try:
                if await self.look():
                    pause = min(pause, max(SPACING, self._grace.time / self._grace.passes))
            except EnvprovError as error:
                log.warning("guard pass failed", reason=error.reason, error=str(error))
            except Exception:
                # A bug here must not stop the environments from being served.
                self._metrics.bugs.inc()
                log.exception("guard pass failed")
            await first(stop.wait(), asyncio.sleep(SPACING.total_seconds()))
            rest = max(pause - SPACING, timedelta(0)).total_seconds()
            await first(stop.wait(), self._woken.wait(), asyncio.sleep(rest))

    async def look(self) -> bool:
        """
        Make one pass.

        Returns:
            Whether another one soon may release something.

        Raises:
            EnvprovError: Something could not be read; nothing was released.

        """
        await self._edge.heed()  # first: what is asked for while it looks is a request again
        guarded = await self._edge.guarded()
        environs = await self._edge.environs()
        usage = await self._edge.usage()
        decided = review(
            guarded=guarded,
            usage=usage,
            environments=environs.by_namespace,
            live_environments=environs.uids,
            absences=self._absences,
            now=self._now(),
            grace=self._grace,
            auto_release_expired=self._auto_release,
        )
        self._absences = decided.absences
        for fault in usage.faults:
            log.warning("usage is incomplete, nothing is released", fault=fault)
        await self._carry_out(guarded, decided)
        self._metrics.accounts.set(len(guarded))
        self._metrics.holds.set(sum(len(one.holds) for one in guarded))
        self._metrics.complete.set(usage.is_complete)
        return bool(decided.absences)

    async def _carry_out(self, guarded: Sequence[Guarded], decided: Review) -> None:
        by_account = {one.account: one for one in guarded}
        await self._each("acquire", decided.acquire, lambda one: one.guarded, self._edge.acquire)
        for one in decided.mark_used:
            await self._try("mark as used", one, self._edge.mark_used(one))
        for one in decided.strip:
            if not await self._try("strip ownerReferences", one, self._edge.strip_owners(one)):
                continue
            message = (
                f"its owners were taken off ({', '.join(one.owners)}): it would be deleted with them, under its users"
            )
            await self._say(one, "OwnerReferencesRemoved", message)
        for lost in decided.lost:
            message = f"it is being deleted while {lost.hold.holder} uses it ({lost.hold.why}); restart that afterwards"
            await self._say(lost.guarded, HoldLost.__name__, message)
        for account, hold in decided.expired:
            message = (
                f"the hold of {hold.holder.name} has run out and still stands; "
                f"`envprov guard release {account} --by {shlex.quote(hold.holder.name)}` ends it, `envprov guard hold` "
                "renews it"
            )
            await self._say(by_account[account], "HoldExpired", message)
        if decided.release or decided.remove:
            await self._let_go(decided)

    async def _let_go(self, decided: Review) -> None:
        if not await self._edge.armed():
            log.warning("guard is disarmed, nothing is released")
            return
        released = await self._each(
            "release", _together(decided.release), lambda some: some[0].guarded, self._edge.release
        )
        self._metrics.released.inc(sum(len(some) for some in released))
        removed = await self._each("remove", decided.remove, lambda one: one, self._edge.remove)
        if removed:
            await self._look_back(removed)

    async def _look_back(self, removed: Sequence[Guarded]) -> None:
        """Nothing stops a user between the last look and the deletion: who was too late must hear of it."""
        usage = await self._edge.usage()
        for one in removed:
            for claim in usage.of(one.account):
                if claim.strength.keeps:
                    message = (
                        f"it was deleted with its last user when {claim.holder} began to use it ({claim.how}); "
                        "make it again and restart that"
                    )
                    await self._say(one, HoldLost.__name__, message)

    async def _each(
        self, what: str, jobs: Iterable[T], of: Callable[[T], Guarded], do: Callable[[T], Awaitable[None]]
    ) -> list[T]:
        """Do all of it, and return what worked."""
        homes: dict[str, list[T]] = {}
        for job in jobs:
            homes.setdefault(of(job).account.namespace, []).append(job)
        slots, worked = asyncio.Semaphore(AT_ONCE), []

        async def serve(here: Sequence[T]) -> None:
            async with slots:
                worked.extend([job for job in here if await self._try(what, of(job), do(job))])

        async with asyncio.TaskGroup() as group:
            for here in homes.values():
                group.create_task(serve(here))
        return worked

    async def _try(self, what: str, guarded: Guarded, attempt: Awaitable[None]) -> bool:
        """Whether it worked; one account's trouble is not another's."""
        account = str(guarded.account)
        try:
            await attempt
        except EnvprovError as error:
            log.warning("guard could not", what=what, account=account, reason=error.reason, error=str(error))
            return False
        log.info("guard", did=what, account=account)
        return True

    async def _say(self, guarded: Guarded, reason: str, message: str) -> None:
        if (guarded.account, reason, message) in self._told:
            return
        self._told.add((guarded.account, reason, message))
        await self._edge.tell(guarded, reason, message)


def _together(releases: Iterable[Release]) -> list[tuple[Release, ...]]:
    """Hundreds come at once, when many holders go together: one by one they would take a minute."""
    found: dict[tuple[Account, bool], list[Release]] = {}
    for release in releases:
        found.setdefault((release.guarded.account, release.from_account), []).append(release)
    return [tuple(some[begin : begin + TOGETHER]) for some in found.values() for begin in range(0, len(some), TOGETHER)]
