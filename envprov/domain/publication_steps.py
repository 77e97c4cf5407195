"""
The steps from what GitLab was told of an environment to what it ought to show.

What was told is on record, so the same fact is told once. An answer that was lost is not: whoever carries the steps out
looks for what may be there already, by name or by marker, before making it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from envprov.domain.environment import GitLabEnvironment, GitLabNote
from envprov.domain.environment import GitLabStatus as Told
from envprov.domain.forge import DeploymentStatus
from envprov.domain.note import digest_of
from envprov.domain.publication import Publication
from envprov.domain.told import NOTES_LIMIT, with_note

_RANK = {"running": 0, "failed": 1, "success": 2}


@dataclass(frozen=True, slots=True)
class EnsureEnvironment:
    """Have an environment of this name and URL; the one with the number, if one is given."""

    name: str
    url: str | None
    id: int | None = None


@dataclass(frozen=True, slots=True)
class StartDeployment:
    """Have a new deployment of a commit."""

    environment: str
    revision: str
    ref: str
    status: DeploymentStatus


@dataclass(frozen=True, slots=True)
class EndDeployment:
    """Say how a deployment ended."""

    environment: str
    id: int
    revision: str
    status: DeploymentStatus


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Set the status of a commit."""

    revision: str
    ref: str | None
    state: DeploymentStatus
    url: str | None


@dataclass(frozen=True, slots=True)
class WriteNote:
    """Have a note on a merge request."""

    merge_request: int
    text: str


@dataclass(frozen=True, slots=True)
class EditNote:
    """Have a note say something else, if it is there; without a number, if it can be found."""

    merge_request: int
    id: int | None
    text: str


@dataclass(frozen=True, slots=True)
class StopEnvironment:
    """Stop the environment, if it is there."""

    name: str
    id: int | None


@dataclass(frozen=True, slots=True)
class DeleteEnvironment:
    """Delete the environment, which is stopped, with its deployments."""

    name: str
    id: int | None


Step = (
    EnsureEnvironment
    | StartDeployment
    | EndDeployment
    | SetStatus
    | WriteNote
    | EditNote
    | StopEnvironment
    | DeleteEnvironment
)


def part_of(step: Step) -> str:
    """What a step belongs to: after one that failed, the others of the same part are not tried."""
    match step:
        case WriteNote(merge_request=iid) | EditNote(merge_request=iid):
            return f"note !{iid}"
        case SetStatus():
            return "status"
        case _:
            return "environment"


def steps(publication: Publication, told: Told | None) -> tuple[Step, ...]:
    """
    What is to be told.

    Args:
        publication: What GitLab ought to show.
        told: What it was told last.

    Returns:
        In order; nothing when all of it was told.

    """
    known = known_of(publication, told)
    return (
        *_deployment_steps(publication, known),
        *_status_steps(publication, known),
        *_note_steps(publication, known),
    )


def known_of(publication: Publication, told: Told | None) -> Told:
    """What GitLab was told of it in the project that it is in now; nothing if that is another one than it was."""
    return told if told is not None and told.project == publication.project else Told(project=publication.project)


def intent(known: Told, decided: Iterable[Step]) -> Told:
    """
    What goes on record before anything is made, so that it is never forgotten, whatever happens next.

    Args:
        known: What GitLab was told.
        decided: What is about to be done.

    """
    for step in decided:
        match step:
            case EnsureEnvironment(name=name) if known.environment is None:
                known = known.model_copy(update={"environment": GitLabEnvironment(name=name)})
            case WriteNote(merge_request=iid) if all(note.merge_request != iid for note in known.notes):
                known = with_note(known, GitLabNote(merge_request=iid))
            case _:
                pass
    return known


def _deployment_steps(publication: Publication, known: Told) -> Iterator[Step]:
    name, last, progress = publication.environment, known.deployment, publication.progress
    goes_on = publication.is_shown and not publication.is_over
    if last is not None and last.id is not None and last.status == "running":
        is_superseded = progress is not None and progress.revision != last.revision
        if not goes_on or is_superseded or publication.is_asleep:
            yield EndDeployment(name, last.id, last.revision, "canceled")
    there = known.environment
    if goes_on:
        has_moved = publication.url is not None and there is not None and publication.url != there.url
        if there is None or there.id is None or has_moved:
            yield EnsureEnvironment(name, publication.url, there.id if there else None)
    elif not publication.is_shown and there is not None:
        yield StopEnvironment(there.name, there.id)
        yield DeleteEnvironment(there.name, there.id)
    if not goes_on or progress is None:
        return
    if last is None or last.revision != progress.revision or last.status == "canceled":
        yield StartDeployment(name, progress.revision, publication.branch or progress.revision, progress.status)
    elif last.id is not None and _moves(last.status, progress.status):
        yield EndDeployment(name, last.id, last.revision, progress.status)


def _status_steps(publication: Publication, known: Told) -> Iterator[Step]:
    last, progress = known.commit, publication.progress
    goes_on = publication.has_status and not publication.is_over
    is_superseded = last is not None and progress is not None and progress.revision != last.revision
    is_cut_short = not goes_on or is_superseded or publication.is_asleep
    if last is not None and last.state == "running" and is_cut_short:
        yield SetStatus(last.revision, publication.branch, "canceled", None)
    if not goes_on or progress is None:
        return
    if last is None or is_superseded or last.state == "canceled" or _moves(last.state, progress.status):
        yield SetStatus(progress.revision, publication.branch, progress.status, publication.url)


def _note_steps(publication: Publication, known: Told) -> Iterator[Step]:
    text = publication.note
    if text is None:
        return
    requests = () if publication.is_over else publication.requests
    for note in known.notes:
        if note.digest == digest_of(text):
            continue
        if note.id is None and note.merge_request in requests:
            yield WriteNote(note.merge_request, text)
        else:
            yield EditNote(note.merge_request, note.id, text)
    noted = {note.merge_request for note in known.notes}
    fresh = [iid for iid in requests if iid not in noted]
    for iid in fresh[: max(NOTES_LIMIT - len(noted), 0)]:
        yield WriteNote(iid, text)


def _moves(before: str, after: DeploymentStatus) -> bool:
    """
    Whether a status follows another of the same commit.

    What has failed may still succeed, as Helm is tried again; it does not run anew, and what has succeeded stays so: a
    pod that is restarted is no deployment.
    """
    return before in _RANK and after in _RANK and _RANK[after] > _RANK[before]
