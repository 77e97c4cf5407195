"""
One sweep of one project: read what is on record, ask GitLab, compare, carry out, report.

What is on record is read first. GitLab's answer is about that and nothing newer: each piece of news says what was
seen, and the record refuses it when something else has come in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

from envprov.domain.deliveries import Absent, Dismissal, Present, Recorded, Unwanted, Wanted
from envprov.domain.errors import Conflict, EnvprovError, ForgeUnreliable
from envprov.domain.forge import Branch, ForgeProject, MergeRequest, ProjectRef
from envprov.domain.project import Project
from envprov.domain.project_status import MISSING_LIMIT, ProjectCondition, ProjectStatus, SweepStatus
from envprov.domain.sweep import (
    Brake,
    Halt,
    Listing,
    Seen,
    Tracked,
    compare,
    digest_of,
    halt_for,
    hangs_on_merge_request,
    is_empty_by_surprise,
    is_fork_branch,
    is_gone,
    needs_merge_requests,
    unserved,
    wishes,
)

log = structlog.get_logger("envprov.sweep")

AT_ONCE = 8
"""Records of one project that are written, or branches that are asked for, at the same time."""

_Thing = TypeVar("_Thing")


class Forge(Protocol):
    """What a sweep asks of GitLab. Each answer is complete, or an error."""

    async def project(self, ref: ProjectRef) -> ForgeProject | None:
        """The project, or None if GitLab itself says that there is none."""

    async def branches(self, ref: ProjectRef) -> tuple[Branch, ...]:
        """All branches."""

    async def branch(self, ref: ProjectRef, name: str) -> Branch | None:
        """One branch, or None if GitLab itself says that there is none."""

    async def merge_requests(self, ref: ProjectRef, *, source_branch: str | None = None) -> tuple[MergeRequest, ...]:
        """All open merge requests, or those of one branch."""


class SweepRecords(Protocol):
    """What a sweep needs of the records."""

    def seen(self, project: str) -> tuple[Seen, ...]:
        """What is on record of a project's branches, tombstones too."""

    async def record(self, project: Project, branch: str, news: Wanted | Unwanted) -> Recorded:
        """Bring news on record."""

    async def mark(self, seen: Seen, since: datetime | None) -> None:
        """Note since when no listing has had the branch; None takes the note off."""

    async def forget(self, seen: Seen) -> None:
        """Let a dismissal go whose branch has gone too."""

    async def report(self, tracked: Tracked, status: ProjectStatus) -> None:
        """Write the status of a Project."""


@dataclass(frozen=True)
class Gone:
    """
    An environment that a sweep ends.

    Attributes:
        seen: What was on record.
        since: When a listing first did not have its branch.

    """

    seen: Seen
    since: datetime


@dataclass
class Swept:
    """
    What one sweep did, or would do.

    Attributes:
        halt: Why it did nothing, if it did not.
        asked: Environments that were made or updated.
        gone: Environments that were ended.
        waiting: Environments that the brake keeps.
        faults: What went wrong with single branches.
        status: Of the Project, as it was reported.

    """

    status: ProjectStatus
    halt: Halt | None = None
    asked: list[Seen] = field(default_factory=list)
    gone: list[Gone] = field(default_factory=list)
    waiting: list[Gone] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BranchSweep:
    """
    Sweeps one project after the other.

    Attributes:
        forge: GitLab.
        records: What is on record.
        now: Clock; aware moments.
        brake: How much may go at once, and when.

    """

    forge: Forge
    records: SweepRecords
    now: Callable[[], datetime]
    brake: Brake

    async def __call__(self, tracked: Tracked, *, dry_run: bool = False) -> Swept:
        """
        Sweep one project, and say on the Project how it went.

        Args:
            tracked: The Project.
            dry_run: Whether to find out only; nothing at all is written.

        Returns:
            What was done.

        Raises:
            EnvprovError: GitLab or the API server did not answer as they should. Nothing was ended because of that.

        """
        swept = Swept(tracked.status)
        try:
            status = await self._sweep(tracked, swept, dry_run=dry_run)
        except EnvprovError as error:
            if not dry_run:
                await self._report(tracked, self._tell(tracked, tracked.status, error.reason, str(error)))
            raise
        if not dry_run:
            await self._report(tracked, status)
            swept.status = status
        return swept

    async def _sweep(self, tracked: Tracked, swept: Swept, *, dry_run: bool) -> ProjectStatus:
        seen = self.records.seen(tracked.project.name)
        gitlab = await self._project(tracked)
        halt = halt_for(tracked.project, gitlab, tracked.status.gitlab_id)
        if halt is not None or gitlab is None:
            swept.halt = halt
            return self._halted(tracked, tracked.status, halt)
        status = tracked.status.model_copy(update={"gitlab_id": gitlab.id})
        if not dry_run:
            doubted = [one for one in seen if one.doubt and isinstance(one.known, Present)]
            await _each(doubted, lambda one: self._resolve(tracked, gitlab, one), swept)
        listing = await self._list(tracked, gitlab)
        if is_empty_by_surprise(seen, listing):
            swept.halt = Halt(
                "EmptyListing",
                f"GitLab listed no branch of {gitlab.path} although there are environments; nothing is deleted. If all "
                "branches are really gone, `envprov down` ends each environment",
            )
            return self._halted(tracked, status, swept.halt)
        return await self._carry_out(tracked, gitlab, seen, listing, swept, status, dry_run=dry_run)

    async def _project(self, tracked: Tracked) -> ForgeProject | None:
        """The project; one that has moved, whose old path leads elsewhere, by the number that it was known by."""
        known = tracked.status.gitlab_id
        try:
            return await self.forge.project(tracked.ref)
        except ForgeUnreliable:
            found = await self.forge.project(known) if known is not None and known != tracked.ref else None
            if found is None or found.path.casefold() == str(tracked.ref).casefold():
                raise
            return found

    async def _list(self, tracked: Tracked, gitlab: ForgeProject) -> Listing:
        began = self.now()
        branches = await self.forge.branches(tracked.ref)
        requests = await self.forge.merge_requests(tracked.ref) if needs_merge_requests(tracked.project) else ()
        heads = {branch.name: branch.commit for branch in branches}
        return Listing(began, heads, wishes(tracked.project, gitlab, branches, requests))

    async def _carry_out(  # noqa: PLR0913, PLR0917 - what one sweep knows
        self,
        tracked: Tracked,
        gitlab: ForgeProject,
        seen: Sequence[Seen],
        listing: Listing,
        swept: Swept,
        status: ProjectStatus,
        *,
        dry_run: bool,
    ) -> ProjectStatus:
        decided = compare(tracked.project, seen, listing, self.brake)
        away = [Gone(one, one.absent_since or listing.began_at) for one in decided.vanished]
        stops = self.brake.stops(decided, seen, tracked.confirmed)
        if dry_run:
            swept.asked += [one for one, _ in decided.ask]
            (swept.waiting if stops else swept.gone).extend(away)
            return status
        now = self.now()
        await _each(decided.ask, lambda asked: self._ask(tracked, gitlab, *asked, swept), swept)
        await _each(decided.clear, lambda one: self.records.mark(one, None), swept)
        await _each(decided.mark, lambda one: self.records.mark(one, now), swept)
        await _each(decided.forget, self.records.forget, swept)
        if stops:
            swept.waiting += away
        else:
            await _each(away, lambda one: self._end(tracked, gitlab, one, swept), swept)
        names = sorted(one.seen.environment for one in swept.waiting)
        report = SweepStatus(
            completed_at=now,
            branches=len(listing.branches),
            wanted=len(listing.wishes),
            braked=len(names),
            missing=tuple(names[:MISSING_LIMIT]),
            confirmation=digest_of(one.seen for one in swept.waiting) if names else "",
        )
        status = status.model_copy(update={"sweep": report})
        if stops:
            swept.halt = self._braked(tracked, swept.waiting, seen)
            return self._halted(tracked, status, swept.halt)
        if swept.faults:
            return self._tell(tracked, status, "Incomplete", "; ".join(swept.faults[:10]))
        return self._tell(tracked, status, "InSync", _in_sync(tracked.project, listing), holds=True)

    async def _resolve(self, tracked: Tracked, gitlab: ForgeProject, one: Seen) -> None:
        """Look at the one branch that somebody has doubts about."""
        news = await self._look(tracked, gitlab, one)
        if news is not None:
            await self.records.record(tracked.project, one.branch, news)

    async def _end(self, tracked: Tracked, gitlab: ForgeProject, gone: Gone, swept: Swept) -> None:
        """End an environment, if GitLab says for that one branch, too, that it is not there."""
        news = await self._look(tracked, gitlab, gone.seen)
        if not isinstance(news, Unwanted):
            await self.records.mark(gone.seen, None)
            return
        await self.records.record(tracked.project, gone.seen.branch, news)
        log.info(
            "ended", environment=gone.seen.environment, branch=gone.seen.branch, absent_since=gone.since.isoformat()
        )
        swept.gone.append(gone)

    async def _look(self, tracked: Tracked, gitlab: ForgeProject, one: Seen) -> Wanted | Unwanted | None:
        """What GitLab says of one branch; None if it is there and no rule is for it."""
        branch, project = one.branch, tracked.project
        began = self.now()
        found = None if is_fork_branch(branch) else await self.forge.branch(tracked.ref, branch)
        branches = () if found is None else (found,)
        requests: tuple[MergeRequest, ...] = ()
        if hangs_on_merge_request(project, branch):
            source = None if is_fork_branch(branch) else branch
            requests = await self.forge.merge_requests(tracked.ref, source_branch=source)
        heads = {name.name: name.commit for name in branches}
        listing = Listing(began, heads, wishes(project, gitlab, branches, requests))
        if branch in listing.wishes:
            return Wanted(listing.wishes[branch], seen=one.known)
        return Unwanted(Dismissal.UNWANTED, seen=one.known) if is_gone(project, branch, listing) else None

    async def _ask(self, tracked: Tracked, gitlab: ForgeProject, one: Seen, listed: Wanted, swept: Swept) -> None:
        """Bring on record what was listed; where something is on record already, GitLab is asked for that branch."""
        # GitLab keeps a list for half a minute, and a delivery may have been faster than that.
        news = listed if one.known == Absent() else await self._look(tracked, gitlab, one)
        if isinstance(news, Wanted):
            await self.records.record(tracked.project, one.branch, news)
            swept.asked.append(one)

    def _braked(self, tracked: Tracked, waiting: Sequence[Gone], seen: Iterable[Seen]) -> Halt:
        there = sum(isinstance(one.known, Present) for one in seen)
        names = ", ".join(one.seen.branch for one in waiting[:5])
        more = ", …" if len(waiting) > 5 else ""  # noqa: PLR2004 - the five above
        return Halt(
            "MassDeletion",
            f"{len(waiting)} of {there} branches with an environment are gone from GitLab at once ({names}{more}); "
            f"that is more than {int(self.brake.share * 100)} %, so nothing is deleted before somebody agrees: "
            f"`envprov cleanup --confirm-mass-delete {tracked.project.name}`",
        )

    def _halted(self, tracked: Tracked, status: ProjectStatus, halt: Halt | None) -> ProjectStatus:
        return self._tell(tracked, status, halt.reason, halt.message) if halt else status

    def _tell(
        self, tracked: Tracked, status: ProjectStatus, reason: str, message: str, *, holds: bool = False
    ) -> ProjectStatus:
        return status.telling(
            ProjectCondition.SYNCED,
            holds=holds,
            reason=reason,
            message=message,
            generation=tracked.generation,
            now=self.now(),
        )

    async def _report(self, tracked: Tracked, status: ProjectStatus) -> None:
        if status != tracked.status:
            await self.records.report(tracked, status)


def _in_sync(project: Project, listing: Listing) -> str:
    odd = unserved(project, listing.branches)
    more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""  # noqa: PLR2004 - enough to read
    without = f"; without one: {'; '.join(odd[:3])}{more}" if odd else ""
    return f"the environments are those of the branches{without}"


async def _each(things: Iterable[_Thing], do: Callable[[_Thing], Awaitable[None]], swept: Swept) -> None:
    """Do something for each, a few at a time; one's trouble is not another's."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(thing: _Thing) -> None:
        async with turn:
            try:
                await do(thing)
            except Conflict:
                pass  # it has changed meanwhile: the next sweep looks again
            except EnvprovError as error:
                swept.faults.append(f"{error.reason}: {error}")

    async with asyncio.TaskGroup() as group:
        for thing in things:
            group.create_task(one(thing))
