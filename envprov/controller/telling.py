"""
One step told to GitLab.

An answer may be lost, or we may end before it is on record. So nothing is made without looking first whether it is
there: the environment by its name, the note by its marker, the deployment as the newest one of its commit. What is on
record and no longer in GitLab is only taken off the record here; the next round of steps makes it anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from envprov.domain.environment import (
    GitLabCommitStatus,
    GitLabDeployment,
    GitLabEnvironment,
    GitLabNote,
    GitLabStatus,
)
from envprov.domain.errors import Conflict, ForgeForbidden, Invalid
from envprov.domain.forge import CommitState, Deployment, DeploymentStatus, ForgeEnvironment, Me, Note, ProjectRef
from envprov.domain.note import digest_of, marker
from envprov.domain.publication import STATUS, Publication
from envprov.domain.publication_steps import (
    DeleteEnvironment,
    EditNote,
    EndDeployment,
    EnsureEnvironment,
    SetStatus,
    StartDeployment,
    Step,
    StopEnvironment,
    WriteNote,
)
from envprov.domain.told import with_note, without_note


class NotesForge(Protocol):
    """What tells our own notes from others."""

    async def me(self) -> Me:
        """Who we are."""

    async def notes(self, ref: ProjectRef, iid: int) -> tuple[Note, ...]:
        """All notes on a merge request."""


class TellingForge(NotesForge, Protocol):
    """What GitLab is told, and asked before."""

    async def find_environment(self, ref: ProjectRef, name: str) -> ForgeEnvironment | None:
        """The environment of a name."""

    async def create_environment(
        self, ref: ProjectRef, name: str, *, external_url: str | None = None
    ) -> ForgeEnvironment:
        """Create one; Conflict if the name is taken."""

    async def update_environment(
        self, ref: ProjectRef, environment_id: int, *, external_url: str | None = None
    ) -> ForgeEnvironment:
        """Change one; Conflict if it is gone."""

    async def stop_environment(self, ref: ProjectRef, environment_id: int) -> ForgeEnvironment | None:
        """Stop one; None if it is gone."""

    async def delete_environment(self, ref: ProjectRef, environment_id: int) -> bool:
        """Delete a stopped one, and its deployments; False if it is gone."""

    async def deployments(self, ref: ProjectRef, environment: str) -> tuple[Deployment, ...]:
        """The newest deployments, newest first."""

    async def create_deployment(
        self, ref: ProjectRef, environment: str, sha: str, ref_name: str, status: DeploymentStatus
    ) -> Deployment:
        """Record a deployment; Invalid if GitLab does not know the commit."""

    async def update_deployment(self, ref: ProjectRef, deployment_id: int, status: DeploymentStatus) -> Deployment:
        """Change one; Conflict if it is gone, Invalid if it does not change to that."""

    async def set_status(  # noqa: PLR0913 - the fields of a status, as GitLab has them
        self,
        ref: ProjectRef,
        sha: str,
        state: CommitState,
        *,
        name: str,
        ref_name: str | None = None,
        target_url: str | None = None,
    ) -> None:
        """Set the status of a commit; Conflict with ``Commit Not Found`` if GitLab does not know it."""

    async def create_note(self, ref: ProjectRef, iid: int, body: str) -> Note:
        """Write one."""

    async def update_note(self, ref: ProjectRef, iid: int, note_id: int, body: str) -> Note:
        """Change one; Conflict if it is gone, ForgeForbidden if it is somebody else's."""


@dataclass
class OwnNotes:
    """
    Finds what we wrote ourselves. Anybody can write a marker.

    Attributes:
        forge: GitLab.

    """

    forge: NotesForge
    _me: int | None = field(default=None, init=False)

    async def find(self, ref: ProjectRef, iid: int, first_line: str) -> Note | None:
        """
        The oldest note of ours that begins with a line.

        Args:
            ref: The project.
            iid: The merge request.
            first_line: The marker.

        """
        if self._me is None:
            self._me = (await self.forge.me()).id
        notes = await self.forge.notes(ref, iid)
        return next((note for note in notes if note.author_id == self._me and note.body.startswith(first_line)), None)

    def forget(self) -> None:
        """The token may be another user's now."""
        self._me = None


@dataclass
class Teller:
    """
    Carries steps out.

    Attributes:
        forge: GitLab.

    """

    forge: TellingForge
    _own: OwnNotes = field(init=False)

    def __post_init__(self) -> None:
        self._own = OwnNotes(self.forge)

    async def tell(self, publication: Publication, step: Step, known: GitLabStatus) -> GitLabStatus:
        """
        Carry a step out.

        Args:
            publication: What it is a step to.
            step: The step.
            known: What GitLab was told before.

        Returns:
            What GitLab was told then.

        Raises:
            EnvprovError: It could not be told. It may have been all the same.

        """
        ref = publication.project
        match step:
            case EnsureEnvironment():
                return await self._ensure(ref, step, known)
            case StartDeployment():
                return known.model_copy(update={"deployment": await self._start(ref, step)})
            case EndDeployment():
                return await self._end(ref, step, known)
            case SetStatus():
                return known.model_copy(update={"commit": await self._set_status(ref, step)})
            case StopEnvironment() | DeleteEnvironment():
                return await self._remove(ref, step, known)
            case WriteNote() | EditNote():
                return await self._tell_note(publication, step, known)

    async def _ensure(self, ref: ProjectRef, step: EnsureEnvironment, known: GitLabStatus) -> GitLabStatus:
        lost = known.model_copy(update={"environment": GitLabEnvironment(name=step.name), "deployment": None})
        if step.id is not None:
            try:
                found = await self.forge.update_environment(ref, step.id, external_url=step.url)
            except Conflict:
                return lost
            return known.model_copy(update={"environment": _shown(found, step)})
        there = await self.forge.find_environment(ref, step.name)
        if there is not None and there.state != "available":
            # Left over from before. Nothing but a new deployment would make it available again.
            await self.forge.stop_environment(ref, there.id)
            await self.forge.delete_environment(ref, there.id)
            known, there = lost, None
        if there is None:
            there = await self.forge.create_environment(ref, step.name, external_url=step.url)
        elif step.url is not None and there.external_url != step.url:
            there = await self.forge.update_environment(ref, there.id, external_url=step.url)
        return known.model_copy(update={"environment": _shown(there, step)})

    async def _start(self, ref: ProjectRef, step: StartDeployment) -> GitLabDeployment:
        newest = next(iter(await self.forge.deployments(ref, step.environment)), None)
        if newest is not None and newest.sha == step.revision:
            known = _as_told(newest.status)
            if known is not None:
                return GitLabDeployment(id=newest.id, revision=step.revision, status=known)
        try:
            made = await self.forge.create_deployment(ref, step.environment, step.revision, step.ref, step.status)
        except Invalid:
            return GitLabDeployment(revision=step.revision, status="refused")
        return GitLabDeployment(id=made.id, revision=step.revision, status=step.status)

    async def _end(self, ref: ProjectRef, step: EndDeployment, known: GitLabStatus) -> GitLabStatus:
        ended = GitLabDeployment(id=step.id, revision=step.revision, status=step.status)
        try:
            await self.forge.update_deployment(ref, step.id, step.status)
        except (Conflict, Invalid) as error:
            listed = await self.forge.deployments(ref, step.environment)
            found = next((one for one in listed if one.id == step.id), None)
            if found is None:
                environment = known.environment and known.environment.model_copy(update={"id": None})
                return known.model_copy(update={"environment": environment, "deployment": None})
            if found.status != step.status:
                if isinstance(error, Conflict):
                    raise
                ended = GitLabDeployment(revision=step.revision, status="refused")
        return known.model_copy(update={"deployment": ended})

    async def _set_status(self, ref: ProjectRef, step: SetStatus) -> GitLabCommitStatus:
        try:
            await self.forge.set_status(
                ref, step.revision, step.state, name=STATUS, ref_name=step.ref, target_url=step.url
            )
        except (Conflict, Invalid) as error:
            # Of a write, GitLab's 404 is a Conflict; this one says that it has no such commit.
            if isinstance(error, Conflict) and "Commit Not Found" not in str(error):
                raise
            return GitLabCommitStatus(revision=step.revision, state="refused")
        return GitLabCommitStatus(revision=step.revision, state=step.state)

    async def _remove(
        self, ref: ProjectRef, step: StopEnvironment | DeleteEnvironment, known: GitLabStatus
    ) -> GitLabStatus:
        environment_id = step.id
        if environment_id is None:
            found = await self.forge.find_environment(ref, step.name)
            environment_id = found.id if found else None
        if isinstance(step, StopEnvironment):
            if environment_id is not None:
                await self.forge.stop_environment(ref, environment_id)
            return known
        if environment_id is not None:
            await self.forge.delete_environment(ref, environment_id)
        return known.model_copy(update={"environment": None, "deployment": None})

    async def _tell_note(
        self, publication: Publication, step: WriteNote | EditNote, known: GitLabStatus
    ) -> GitLabStatus:
        ref, iid, text = publication.project, step.merge_request, step.text
        if isinstance(step, EditNote) and step.id is not None:
            try:
                await self.forge.update_note(ref, iid, step.id, text)
            except Conflict:
                return without_note(known, iid)
            except ForgeForbidden:
                # The token may be another user's now. A note that is ours is not written a second time.
                self._own.forget()
                found = await self._own.find(ref, iid, marker(publication.slug))
                if found is not None and found.id == step.id:
                    raise
            else:
                return _with(known, iid, step.id, text)
        else:
            found = await self._own.find(ref, iid, marker(publication.slug))
            if found is None and isinstance(step, EditNote):
                return without_note(known, iid)
        if found is None:
            return _with(known, iid, (await self.forge.create_note(ref, iid, text)).id, text)
        if found.body != text:
            await self.forge.update_note(ref, iid, found.id, text)
        return _with(known, iid, found.id, text)


def _shown(found: ForgeEnvironment, step: EnsureEnvironment) -> GitLabEnvironment:
    return GitLabEnvironment(id=found.id, name=step.name, url=step.url)


def _with(known: GitLabStatus, iid: int, note_id: int, text: str) -> GitLabStatus:
    return with_note(known, GitLabNote(merge_request=iid, id=note_id, digest=digest_of(text)))


def _as_told(status: str) -> DeploymentStatus | None:
    """A status from which a deployment goes on or has ended well or badly; one that was canceled is over."""
    match status:
        case "running" | "success" | "failed":
            return status
        case _:
            return None
