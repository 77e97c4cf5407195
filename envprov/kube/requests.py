"""
Requests: what the receiver asks of the controller, beside the records of branches. It may create them, and no more.

Each is a ConfigMap beside the records. It is there as long as nobody has dealt with it, and a second one of the same
name is the same request. So whoever sweeps deletes the request before looking at GitLab: a push that comes while
somebody looks is a request again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from envprov.domain.errors import InvalidRecord
from envprov.domain.objects import MANAGED_BY, MANAGER, PROJECT
from envprov.domain.policies import RECORD

Manifest = dict[str, Any]

COMMAND = "command"
SWEEP = "sweep"
LOOK = "look"


class GivenCommand(Protocol):
    """
    A command as it was heard.

    Attributes:
        branch: Branch name in full, or the name under which a merge request from a fork has its environment.
        iid: Number of the merge request.
        note_id: Number of the comment.
        discussion_id: Thread that it is in, or "".
        author_id: Number of whom wrote it, in GitLab.
        author: Their user name.
        text: First line, at most 200 characters.
        created_at: When it was written.

    """

    @property
    def branch(self) -> str: ...  # noqa: D102 - above
    @property
    def iid(self) -> int: ...  # noqa: D102
    @property
    def note_id(self) -> int: ...  # noqa: D102
    @property
    def discussion_id(self) -> str: ...  # noqa: D102
    @property
    def author_id(self) -> int: ...  # noqa: D102
    @property
    def author(self) -> str: ...  # noqa: D102
    @property
    def text(self) -> str: ...  # noqa: D102
    @property
    def created_at(self) -> datetime: ...  # noqa: D102


@dataclass(frozen=True)
class CommandRequest:
    """
    A command that somebody gave in a comment. Nobody has asked GitLab yet whether they may.

    Attributes:
        project: Name of the Project.
        branch: See GivenCommand, as all up to ``created_at``.
        iid: Number of the merge request.
        note_id: Number of the comment.
        discussion_id: Thread that it is in, or "".
        author_id: Number of whom wrote it.
        author: Their user name; for people, since it can change.
        text: First line, at most 200 characters.
        created_at: When it was written, by GitLab's clock: an old one may be a delivery that was sent again.
        namespace: Control namespace.
        uid: UID of the ConfigMap; "" for one that is not there yet.

    """

    project: str
    branch: str
    iid: int
    note_id: int
    discussion_id: str
    author_id: int
    author: str
    text: str
    created_at: datetime
    namespace: str
    uid: str = ""

    @property
    def name(self) -> str:
        """Name of the ConfigMap. Two Projects may serve one GitLab project, and each has its own."""
        return f"command-{self.note_id}-{self.project}"

    def manifest(self) -> Manifest:
        """The ConfigMap, for a POST."""
        data = {
            "project": self.project,
            "branch": self.branch,
            "iid": str(self.iid),
            "noteId": str(self.note_id),
            "discussionId": self.discussion_id,
            "authorId": str(self.author_id),
            "author": self.author,
            "text": self.text,
            "createdAt": self.created_at.isoformat(timespec="seconds"),
        }
        return _config_map(self.name, self.namespace, self.project, COMMAND, data)


@dataclass(frozen=True)
class SweepRequest:
    """
    A push changed so many branches that not all of them may be on record: somebody should look at the project.

    Attributes:
        project: Name of the Project.
        requested_at: When it was asked for first.
        namespace: Control namespace.

    """

    project: str
    requested_at: datetime
    namespace: str

    @property
    def name(self) -> str:
        """Name of the ConfigMap: one sweep at a time is enough for a Project."""
        return f"sweep-{self.project}"

    def manifest(self) -> Manifest:
        """The ConfigMap, for a POST."""
        data = {"project": self.project, "requestedAt": self.requested_at.isoformat(timespec="seconds")}
        return _config_map(self.name, self.namespace, self.project, SWEEP, data)


@dataclass(frozen=True)
class LookRequest:
    """
    Somebody has found a hold whose holder is gone: the guard should look at once.

    Attributes:
        requested_at: When it was asked for first.
        namespace: Control namespace.

    """

    requested_at: datetime
    namespace: str

    @property
    def name(self) -> str:
        """Name of the ConfigMap: one look is for all ServiceAccounts."""
        return "guard-look"

    def manifest(self) -> Manifest:
        """The ConfigMap, for a POST."""
        labels = {MANAGED_BY: MANAGER, RECORD: LOOK}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "data": {"requestedAt": self.requested_at.isoformat(timespec="seconds")},
        }


def is_look(manifest: Mapping[str, Any]) -> bool:
    """Whether a ConfigMap asks the guard to look."""
    return bool((manifest["metadata"].get("labels") or {}).get(RECORD) == LOOK)


def command_request(project: str, namespace: str, given: GivenCommand) -> CommandRequest:
    """
    The request that a command is for one Project.

    Args:
        project: Name of the Project.
        namespace: Control namespace.
        given: The command.

    """
    return CommandRequest(
        project=project,
        branch=given.branch,
        iid=given.iid,
        note_id=given.note_id,
        discussion_id=given.discussion_id,
        author_id=given.author_id,
        author=given.author,
        text=given.text,
        created_at=given.created_at,
        namespace=namespace,
    )


def parse_command(manifest: Mapping[str, Any]) -> CommandRequest:
    """
    Read a command.

    Args:
        manifest: The ConfigMap as the API server sent it.

    Raises:
        InvalidRecord: It is none of ours, or was edited by hand beyond reading.

    """
    metadata, data = manifest["metadata"], manifest.get("data", {})
    try:
        found = CommandRequest(
            project=data["project"],
            branch=data["branch"],
            iid=int(data["iid"]),
            note_id=int(data["noteId"]),
            discussion_id=data.get("discussionId", ""),
            author_id=int(data["authorId"]),
            author=data["author"],
            text=data["text"],
            created_at=_moment(data["createdAt"]),
            namespace=metadata["namespace"],
            uid=metadata["uid"],
        )
    except (KeyError, ValueError) as error:
        raise _unreadable(manifest, error) from error
    if found.name != metadata["name"]:
        raise _unreadable(manifest, ValueError("it is named after another one"))
    return found


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time has no time zone")
    return moment


def _unreadable(manifest: Mapping[str, Any], error: Exception) -> InvalidRecord:
    return InvalidRecord(f"ConfigMap {manifest['metadata']['name']}: no command ({error}); it can be deleted")


def _config_map(name: str, namespace: str, project: str, kind: str, data: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER, RECORD: kind, PROJECT: project},
        },
        "data": data,
    }
