"""
Carries out the commands that people give in notes of merge requests: all of one environment, in their order.

Nothing is done before it is on record what exactly, and nothing is answered before the answer is. So we may end at any
moment: what was begun is done again to the same effect, and an answer that is there already is not given twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from envprov.controller.metrics import ErrandMetrics
from envprov.controller.telling import NotesForge, OwnNotes
from envprov.domain.commands import (
    LATE,
    PATIENCE,
    UNREADABLE,
    Act,
    Command,
    Down,
    answer_of,
    decide,
    gone_answer,
    late_answer,
    refused_answer,
    reply_marker,
    role_fault,
)
from envprov.domain.environment import Environment
from envprov.domain.errors import Conflict, EnvprovError, InvalidRecord, RetryableError, TerminalError
from envprov.domain.forge import Note, ProjectRef
from envprov.domain.project import Commands, Project

log = structlog.get_logger("envprov.commands")


class CommandForge(NotesForge, Protocol):
    """What is asked of GitLab, and told it."""

    async def access_level(self, ref: ProjectRef, user_id: int) -> int | None:
        """Role of a user in a project; None if they are no member."""

    async def create_note(self, ref: ProjectRef, iid: int, body: str) -> Note:
        """Write a note."""

    async def reply(self, ref: ProjectRef, iid: int, discussion_id: str, body: str) -> Note:
        """Answer in a thread; Conflict if it is gone."""


class CommandRecords(Protocol):
    """What is needed of the records."""

    def commands(self, environment: str) -> tuple[Command, ...]:
        """The commands that are on record for an Environment, as last seen."""

    def environment(self, name: str) -> Environment | None:
        """The Environment as last seen; of one that cannot be understood, its project and branch."""

    def project(self, name: str) -> Project | None:
        """
        The Project as last seen, or None.

        Raises:
            InvalidRecord: It cannot be understood.

        """

    async def save(self, command: Command) -> Command:
        """
        Put on record how far a command has come.

        Returns:
            It, with the version that the record has then.

        Raises:
            Conflict: The record has changed since it was read.

        """

    async def forget(self, command: Command) -> None:
        """Delete the record of a command."""

    def unreadable_since(self, name: str) -> datetime | None:
        """When a record was made that says it is a command and cannot be read; None if there is none of that name."""

    async def discard(self, name: str) -> None:
        """
        Delete a record that cannot be read.

        Raises:
            Conflict: It has changed since it was read.

        """

    async def carry_out(self, environment: str, act: Act) -> bool:
        """
        Do what was asked for; again, if it was done before, to the same effect.

        Args:
            environment: Name of the Environment.
            act: What.

        Returns:
            False if the Environment with that UID is gone or going.

        Raises:
            TerminalError: It cannot be done; says why.

        """


@dataclass
class Commander:
    """
    Serves the commands of one environment after the other; to be run by Errands.

    Attributes:
        forge: GitLab.
        records: What is on record.
        now: Clock; aware moments.
        metrics: Where commands are counted.

    """

    forge: CommandForge
    records: CommandRecords
    now: Callable[[], datetime]
    metrics: ErrandMetrics
    _own: OwnNotes = field(init=False)

    def __post_init__(self) -> None:
        self._own = OwnNotes(self.forge)

    async def __call__(self, key: str) -> timedelta | None:
        """
        Carry out, answer, and in the end forget, the commands for one environment.

        Args:
            key: Name of the Environment, or what stands for a record that cannot be read.

        Returns:
            When the next one is to be forgotten.

        Raises:
            RetryableError: GitLab or the API server did not answer as they should.

        """
        if key.startswith(UNREADABLE):
            return await self._discard(key.removeprefix(UNREADABLE))
        waits = []
        for command in sorted(self.records.commands(key), key=lambda command: command.note_id):
            served = command if command.done_at else await self._serve(command)
            left = served.forgotten_at - self.now()
            if left > timedelta(0):
                waits.append(left)
            else:
                await self.records.forget(served)
        return min(waits, default=None)

    async def _discard(self, name: str) -> timedelta | None:
        """Somebody has edited it, or another version has written it, whose controller may be about to take over."""
        since = self.records.unreadable_since(name)
        if since is None:
            return None
        left = since + LATE - self.now()
        if left > timedelta(0):
            return left
        await self.records.discard(name)
        log.warning("deleted unread", command=name, why="it cannot be read, and is too late to be carried out")
        return None

    async def _serve(self, command: Command) -> Command:
        project = self._project(command.project)
        gitlab = project.spec.gitlab if project else None
        if project is None or gitlab is None or gitlab.commands is None:
            return await self._end(command, "off")
        if not command.answer:
            if command.act is None:
                decided = await self._decide(command, project, gitlab.project, gitlab.commands)
                said = {"answer": decided} if isinstance(decided, str) else {"act": decided}
                command = await self.records.save(replace(command, **said))
            if command.act is not None:
                command = await self._carry_out(command, command.act)
        return await self._end(command, await self._reply(command, gitlab.project))

    async def _decide(self, command: Command, project: Project, ref: ProjectRef, rules: Commands) -> Act | str:
        if command.is_late(self.now()):
            return late_answer()
        try:
            level = await self.forge.access_level(ref, command.author_id)
        except TerminalError as error:
            return refused_answer(f"nobody's role can be read: {error}")
        fault = role_fault(rules, level)
        return fault or decide(command, self.records.environment(command.environment), project, self.now())

    async def _carry_out(self, command: Command, act: Act) -> Command:
        try:
            was_there = await self.records.carry_out(command.environment, act)
            answer = answer_of(act) if was_there or isinstance(act, Down) else gone_answer()
        except TerminalError as error:
            answer = refused_answer(str(error))
        log.info("carried out", command=command.name, act=str(act), answer=answer)
        return await self.records.save(replace(command, answer=answer))

    async def _reply(self, command: Command, ref: ProjectRef) -> str:
        """Answer, unless that was done before; what became of it."""
        marker = reply_marker(command)
        body = f"{marker}\n{command.answer}"
        try:
            if await self._own.find(ref, command.iid, marker) is None:
                if command.discussion_id:
                    await self.forge.reply(ref, command.iid, command.discussion_id, body)
                else:
                    await self.forge.create_note(ref, command.iid, body)
        except EnvprovError as error:
            may_pass = isinstance(error, RetryableError) and not isinstance(error, Conflict)
            if may_pass and self.now() - command.created_at < PATIENCE:
                raise
            log.warning("not answered", command=command.name, reason=error.reason, error=str(error))
            return "unanswered"
        return "answered"

    async def _end(self, command: Command, outcome: str) -> Command:
        ended = await self.records.save(replace(command, done_at=self.now()))
        self.metrics.commands.labels(command.verb, outcome).inc()
        return ended

    def _project(self, name: str) -> Project | None:
        try:
            return self.records.project(name)
        except InvalidRecord:
            return None
