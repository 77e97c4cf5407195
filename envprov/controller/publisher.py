"""
Shows in GitLab what is on record: one pass for one environment.

What is about to be made goes on record before it is made, and what was made goes there at the end of the pass. So what
we have left in GitLab is known whatever happens to us, and is taken out again when the record is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol
from weakref import WeakValueDictionary

import structlog

from envprov.controller.errands import AGAIN_LATER
from envprov.controller.metrics import ErrandMetrics
from envprov.controller.telling import Teller, TellingForge
from envprov.domain.environment import Environment, GitLabStatus
from envprov.domain.errors import (
    EnvprovError,
    ForgeForbidden,
    InvalidRecord,
    RetryableError,
    TerminalError,
    Throttled,
    Unavailable,
)
from envprov.domain.forge import ForgeProject, MergeRequest, ProjectRef
from envprov.domain.project import Project
from envprov.domain.publication import FOLDER, Publication, farewell, fork_iid, wanted
from envprov.domain.publication_steps import intent, known_of, part_of, steps
from envprov.domain.told import Debt, together

log = structlog.get_logger("envprov.publisher")

REQUESTS_AGE = timedelta(minutes=5)
"""How old a listing of merge requests may be."""
REQUESTS_FRESH = timedelta(minutes=1)
"""The same for a commit whose merge request has not been looked for yet."""
ROUNDS = 4
"""What is on record but no longer in GitLab is noticed by one round and made by the next."""

REQUESTS = "requests"
"""The search for merge requests, as a part that may rest."""


class PublisherForge(TellingForge, Protocol):
    """What the publisher asks of GitLab, and tells it."""

    async def project(self, ref: ProjectRef) -> ForgeProject | None:
        """A project."""

    async def merge_requests(self, ref: ProjectRef) -> tuple[MergeRequest, ...]:
        """All open merge requests, oldest first."""


class PublisherRecords(Protocol):
    """What the publisher needs of the records."""

    def environment(self, name: str) -> Environment | None:
        """The Environment as last seen; of one that cannot be understood, its project and branch."""

    def project(self, name: str) -> Project | None:
        """
        The Project as last seen, or None.

        Raises:
            InvalidRecord: It cannot be understood.

        """

    def debt(self, name: str) -> Debt | None:
        """What a record that is gone has left in GitLab, as last seen."""

    async def note(self, environment: Environment, told: GitLabStatus) -> None:
        """
        Put on record what GitLab was told.

        Raises:
            Conflict: The Environment is gone.

        """

    async def settle(self, debt: Debt, told: GitLabStatus | None) -> None:
        """
        Put on record what is left of a debt; None for nothing.

        Raises:
            Conflict: The tombstone has changed.

        """

    async def tell(self, environment: Environment, reason: str, message: str) -> None:
        """Record a warning Event on the Environment."""


@dataclass
class OpenRequests:
    """
    The open merge requests of each GitLab project: one listing for all of its environments.

    Attributes:
        forge: GitLab.
        now: Clock; aware moments.

    """

    forge: PublisherForge
    now: Callable[[], datetime]
    _listed: dict[ProjectRef, tuple[datetime, dict[str, tuple[int, ...]]]] = field(default_factory=dict)
    _turns: WeakValueDictionary[ProjectRef, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def of(self, ref: ProjectRef, branch: str, *, max_age: timedelta) -> tuple[int, ...]:
        """
        Numbers of the merge requests of a branch, oldest first.

        Args:
            ref: The project.
            branch: The branch, or the name of a merge request from a fork.
            max_age: How old the answer may be.

        """
        iid = fork_iid(branch)
        if iid is not None:
            return (iid,)
        turn = self._turns.setdefault(ref, asyncio.Lock())
        async with turn:
            listed = self._listed.get(ref)
            if listed is None or self.now() - listed[0] >= max_age:
                listed = self.now(), await self._list(ref)
                self._listed[ref] = listed
        return listed[1].get(branch, ())

    async def _list(self, ref: ProjectRef) -> dict[str, tuple[int, ...]]:
        project = await self.forge.project(ref)
        if project is None:
            raise ForgeForbidden(f"GitLab knows no project {ref}, or does not show it to our token")
        found: dict[str, tuple[int, ...]] = {}
        for request in await self.forge.merge_requests(ref):
            # A branch of a fork may bear the same name; what ours runs is nobody's business there.
            if request.source_project_id == project.id:
                found[request.source_branch] = (*found.get(request.source_branch, ()), request.iid)
        return found


@dataclass
class _Trouble:
    """
    What went wrong with one environment.

    Attributes:
        rests: Parts that no retry cures, with the time until which they are left alone.
        said: Messages that a person was told.

    """

    rests: dict[str, datetime] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def resting(self, now: datetime) -> set[str]:
        """The parts that are left alone now."""
        self.rests = {part: until for part, until in self.rests.items() if until > now}
        return set(self.rests)

    def note(self, part: str, error: EnvprovError, now: datetime) -> None:
        """Leave a part alone for a while, if no retry cures it."""
        if isinstance(error, TerminalError):
            self.rests[part] = now + AGAIN_LATER


@dataclass(frozen=True)
class _Book:
    """
    Where it is noted what GitLab was told.

    Attributes:
        keep: Remembers what was told, in this process.
        promise: Puts on record what is about to be made.

    """

    keep: Callable[[GitLabStatus], None]
    promise: Callable[[GitLabStatus], Awaitable[None]]


class Publisher:
    """
    Serves one environment after the other; to be run by Errands.

    Args:
        forge: GitLab.
        records: What is on record.
        now: Clock; aware moments.
        metrics: Where steps are counted.
        folder: Of our environments in GitLab.

    """

    def __init__(
        self,
        forge: PublisherForge,
        records: PublisherRecords,
        *,
        now: Callable[[], datetime],
        metrics: ErrandMetrics,
        folder: str = FOLDER,
    ) -> None:
        self._folder = folder
        self._records = records
        self._now = now
        self._metrics = metrics
        self._teller = Teller(forge)
        self._requests = OpenRequests(forge, now)
        # With the UID of the record or the version of the tombstone. Caches lag behind our own writes, and a write may
        # fail.
        self._told: dict[str, tuple[str, GitLabStatus]] = {}
        self._looked: dict[str, str] = {}
        self._troubles: dict[str, _Trouble] = {}

    async def __call__(self, key: str) -> timedelta | None:
        """
        Bring GitLab in step with what is on record of one environment.

        Args:
            key: Name of the Environment.

        Returns:
            When to look again if nothing wakes us before.

        Raises:
            RetryableError: GitLab or the API server did not answer as they should.

        """
        environment, debt = self._records.environment(key), self._records.debt(key)
        if environment is None:
            self._looked.pop(key, None)
            if debt is not None:
                return await self._pay(debt)
            self._told.pop(key, None)
            self._troubles.pop(key, None)
            return None
        if debt is not None:
            told = together(self._known(environment), debt.told)
            await self._records.note(environment, told)
            self._told[key] = environment.uid, told
            await self._records.settle(debt, None)
        return await self._publish(environment)

    def _known(self, environment: Environment) -> GitLabStatus | None:
        owner, told = self._told.get(environment.name, ("", None))
        return told if told and owner == environment.uid else environment.status.gitlab

    async def _publish(self, environment: Environment) -> timedelta | None:
        name = environment.name
        try:
            project = self._records.project(environment.spec.project)
        except InvalidRecord:
            return None  # the Environment says so
        publication = wanted(environment, project) if project else None
        if project is None or publication is None:
            return None
        faults: list[EnvprovError] = []
        looks = publication.note is not None and not publication.is_over
        if looks:
            requests = await self._look(environment, publication, faults)
            publication = wanted(environment, project, requests) or publication
        publication = replace(publication, folder=self._folder)

        def keep(told: GitLabStatus) -> None:
            self._told[name] = environment.uid, told

        async def promise(told: GitLabStatus) -> None:
            await self._records.note(environment, told)

        await self._tell(publication, self._known(environment), _Book(keep, promise), faults)
        told = self._known(environment)
        if told is not None and told != environment.status.gitlab:
            await self._records.note(environment, told)
        for fault in self._unsaid(name, faults):
            reason = "GitLabForbidden" if isinstance(fault, ForgeForbidden) else f"GitLab{fault.reason}"
            log.warning("not published", environment=name, reason=fault.reason, error=str(fault))
            await self._records.tell(environment, reason, str(fault))
        return self._outcome(name, faults, REQUESTS_AGE if looks else None)

    async def _pay(self, debt: Debt) -> timedelta | None:
        try:
            project = self._records.project(debt.project)
        except InvalidRecord:
            project = None
        publication = replace(farewell(debt, project), folder=self._folder)
        faults: list[EnvprovError] = []
        owner, told = self._told.get(debt.environment, ("", debt.told))
        latest = [told if owner == debt.version else debt.told]

        def keep(told: GitLabStatus) -> None:
            latest.append(told)
            self._told[debt.environment] = debt.version, told

        async def promise(told: GitLabStatus) -> None:
            """Nothing is made any more that could be forgotten."""

        await self._tell(publication, latest[-1], _Book(keep, promise), faults)
        is_settled = not steps(publication, latest[-1])
        if is_settled or latest[-1] != debt.told:
            await self._records.settle(debt, None if is_settled else latest[-1])
        for fault in self._unsaid(debt.environment, faults):
            log.warning("left in GitLab", environment=debt.environment, reason=fault.reason, error=str(fault))
        return self._outcome(debt.environment, faults, None)

    async def _look(
        self, environment: Environment, publication: Publication, faults: list[EnvprovError]
    ) -> tuple[int, ...]:
        """The open merge requests of the branch, as far as they can be known."""
        name, revision = environment.name, environment.spec.revision
        trouble = self._troubles.setdefault(name, _Trouble())
        if REQUESTS in trouble.resting(self._now()):
            return ()
        age = REQUESTS_AGE if self._looked.get(name) == revision else REQUESTS_FRESH
        try:
            found = await self._requests.of(publication.project, environment.spec.branch, max_age=age)
        except (Throttled, Unavailable):
            raise
        except EnvprovError as error:
            faults.append(error)
            trouble.note(REQUESTS, error, self._now())
            return ()
        self._looked[name] = revision
        return found

    async def _tell(
        self, publication: Publication, told: GitLabStatus | None, book: _Book, faults: list[EnvprovError]
    ) -> None:
        """Carry out what is to be told. One part's trouble is not another's, unless GitLab is not there at all."""
        known = known_of(publication, told)
        trouble = self._troubles.setdefault(publication.slug, _Trouble())
        stuck = trouble.resting(self._now())
        for _ in range(ROUNDS):
            decided = [step for step in steps(publication, known) if part_of(step) not in stuck]
            if not decided:
                return
            promised = intent(known, decided)
            if promised != known:
                await book.promise(promised)
                known = promised
                book.keep(known)
            for step in decided:
                if part_of(step) in stuck:
                    continue
                try:
                    known = await self._teller.tell(publication, step, known)
                except EnvprovError as error:
                    faults.append(error)
                    trouble.note(part_of(step), error, self._now())
                    if isinstance(error, Throttled | Unavailable):
                        return
                    stuck.add(part_of(step))
                else:
                    book.keep(known)
                    self._metrics.published.labels(type(step).__name__).inc()

    def _unsaid(self, name: str, faults: list[EnvprovError]) -> list[EnvprovError]:
        """What no retry cures, and nobody was told yet."""
        trouble = self._troubles.setdefault(name, _Trouble())
        found: list[EnvprovError] = [
            fault for fault in faults if isinstance(fault, TerminalError) and str(fault) not in trouble.said
        ]
        trouble.said.update(str(fault) for fault in found)
        return found

    def _outcome(self, name: str, faults: list[EnvprovError], again: timedelta | None) -> timedelta | None:
        for fault in faults:
            if isinstance(fault, TerminalError):
                self._metrics.failures.labels("publish", fault.reason).inc()
        for fault in faults:
            if isinstance(fault, RetryableError):
                raise fault
        trouble = self._troubles[name]
        if not faults and not trouble.rests:
            trouble.said.clear()
        now = self._now()
        waits = [until - now for until in trouble.rests.values()] + ([again] if again is not None else [])
        return min(waits, default=None)
