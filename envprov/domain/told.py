"""What GitLab was told of an environment, as the record has it (``status.gitlab``), and what outlives the record."""

from __future__ import annotations

from dataclasses import dataclass

from envprov.domain.environment import GitLabEnvironment, GitLabNote
from envprov.domain.environment import GitLabStatus as Told

NOTES_LIMIT = 20
"""Most merge requests of one branch that get a note."""


@dataclass(frozen=True, slots=True)
class Debt:
    """
    What is still to be taken out of GitLab when the record is gone.

    Attributes:
        environment: Name of the Environment that was there.
        project: Its Project.
        branch: Its branch.
        told: What GitLab was told last.
        why: Why it went, a value of Dismissal, or "".
        version: Of the tombstone that says so.

    """

    environment: str
    project: str
    branch: str
    told: Told
    why: str = ""
    version: str = ""


def with_note(known: Told, note: GitLabNote) -> Told:
    """The same with what is known of one note."""
    notes = {one.merge_request: one for one in known.notes} | {note.merge_request: note}
    return known.model_copy(update={"notes": tuple(notes.values())})


def without_note(known: Told, merge_request: int) -> Told:
    """The same without the note of a merge request."""
    left = tuple(note for note in known.notes if note.merge_request != merge_request)
    return known.model_copy(update={"notes": left})


def together(told: Told | None, before: Told) -> Told:
    """
    What a record knows, and what it takes over from one that had its name before.

    Args:
        told: What it knows itself.
        before: What the other one knew. Some of it may have been taken out of GitLab already, so it is only known
            what to look for.

    """
    environment = before.environment and GitLabEnvironment(name=before.environment.name)
    if told is None or told.project != before.project:
        runs = before.deployment is not None and before.deployment.status == "running"
        deployment = before.deployment if runs else None
        told = before.model_copy(update={"environment": environment, "deployment": deployment, "notes": ()})
    elif told.environment is None:
        told = told.model_copy(update={"environment": environment})
    mine = {note.merge_request for note in told.notes}
    inherited = (note.model_copy(update={"digest": ""}) for note in before.notes if note.merge_request not in mine)
    return told.model_copy(update={"notes": (*told.notes, *inherited)[:NOTES_LIMIT]})
