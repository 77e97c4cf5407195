"""
GitLab's deliveries, without I/O: what each of them says.

Source: https://docs.gitlab.com/user/project/integrations/webhook_events/
Source: https://docs.gitlab.com/administration/system_hooks/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from envprov.domain.deliveries import BranchEvent
from envprov.domain.sweep import fork_branch, is_fork_branch
from envprov.domain.trail import GONE
from webhooks.authentic import Headers
from webhooks.payload import (
    Payload,
    Unserved,
    as_branch,
    as_commit,
    as_flag,
    as_id,
    as_list,
    as_object,
    as_path,
    as_text,
    as_word,
    malformed,
    printable,
    read_payload,
)

COMMAND = "/envprov "
TEXT_LIMIT = 200
WORD_LIMIT = 255

_HEADS = "refs/heads/"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Uninteresting:
    """
    A delivery that was understood and is about nothing that envprov serves.

    Attributes:
        reason: What it is instead.

    """

    reason: str


class Action(StrEnum):
    """What happened to a merge request."""

    OPEN = "open"
    REOPEN = "reopen"
    UPDATE = "update"
    CLOSE = "close"
    MERGE = "merge"


@dataclass(frozen=True, slots=True)
class MergeRequestEvent:
    """
    One delivery about one merge request.

    Attributes:
        project_id: GitLab's numeric id of the target project.
        project_path: Its path with namespace.
        iid: Number of the merge request in it.
        branch: Source branch; for a fork, which is another project, the name that the target project has for it.
        is_fork: Whether the source branch is another project's.
        action: What happened.
        ended: ``closed`` or ``merged``, or "" for one that is open.
        is_draft: Whether it is one.
        labels: Their titles.
        revision: Head of the source branch, or "" if GitLab does not say.
        oldrev: Head before, if the delivery is about new commits, else "".
        key: GitLab's Idempotency-Key.

    """

    project_id: int
    project_path: str
    iid: int
    branch: str
    is_fork: bool
    action: Action
    ended: str
    is_draft: bool
    labels: frozenset[str]
    revision: str
    oldrev: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class NoteCommand:
    """
    A command in a comment of a merge request. Whether its author may give it is for the controller to ask GitLab.

    Attributes:
        project_id: GitLab's numeric id of the target project.
        project_path: Its path with namespace.
        branch: See MergeRequestEvent.
        iid: Number of the merge request.
        note_id: Number of the comment.
        discussion_id: Thread that it is in, or "" where GitLab is too old to say.
        author_id: Number of whom wrote it.
        author: Their user name.
        text: Its first line, at most 200 characters.
        created_at: When it was written, by GitLab's clock.

    """

    project_id: int
    project_path: str
    branch: str
    iid: int
    note_id: int
    discussion_id: str
    author_id: int
    author: str
    text: str
    created_at: datetime


Delivery = tuple[BranchEvent, ...] | MergeRequestEvent | NoteCommand | Uninteresting
"""What a delivery says; branch events are of one project, and at least one."""
Reader = Callable[[Payload, str | None], Delivery]
"""Reads a payload, with GitLab's Idempotency-Key."""


def parse(headers: Headers, body: bytes) -> Delivery:
    """
    What a delivery says.

    Args:
        headers: Of the request.
        body: Whole.

    Raises:
        RejectedDelivery: 400, with the reason; it does not quote the body.

    """
    hook = _header(headers, b"x-gitlab-event")
    if hook is None:
        raise malformed("the header X-Gitlab-Event is missing")
    if hook == "System Hook":
        payload = read_payload(body)
        read = _SYSTEM.get(_kind_of_system_hook(payload))
        return _read(read, payload, headers) if read else Uninteresting("a system hook of another kind")
    if hook not in _HOOKS:
        return Uninteresting("a hook of another kind")
    kind, read = _HOOKS[hook]
    payload = read_payload(body)
    if payload.get("object_kind") != kind:
        raise malformed(f'object_kind must be "{kind}"')
    return _read(read, payload, headers)


def _read(read: Reader, payload: Payload, headers: Headers) -> Delivery:
    try:
        return read(payload, _key(headers))
    except Unserved as reason:
        return Uninteresting(str(reason))


def _push(payload: Payload, key: str | None) -> Delivery:
    ref = as_text(payload.get("ref"), "ref")
    if not ref.startswith(_HEADS):
        return Uninteresting("not a branch")
    return (_change(payload, as_id(payload.get("project_id"), "project_id"), as_path(payload.get("project")), key),)


def _repository_update(payload: Payload, key: str | None) -> Delivery:
    """One push with all that it has changed, however much that is."""
    project_id, path = as_id(payload.get("project_id"), "project_id"), as_path(payload.get("project"))
    changes = [as_object(change, "a change") for change in as_list(payload.get("changes"), "changes")]
    branches = [change for change in changes if as_text(change.get("ref"), "ref").startswith(_HEADS)]
    found, unserved = list[BranchEvent](), "not a branch"
    for change in branches:
        try:
            found.append(_change(change, project_id, path, key))
        except Unserved as reason:  # one of them is no reason to lose the others
            unserved = str(reason)
    return tuple(found) or Uninteresting(unserved)


def _change(change: Payload, project_id: int, path: str, key: str | None) -> BranchEvent:
    branch = _own_branch(as_text(change.get("ref"), "ref").removeprefix(_HEADS), "ref")
    if change.get("before") is None and change.get("after") is None:
        raise Unserved("a test of a default branch that is not there")
    before, after = as_commit(change.get("before"), "before"), as_commit(change.get("after"), "after")
    if before == after:  # GitLab's test says so of a branch that has one commit
        raise Unserved("a push that changes nothing")
    return BranchEvent(project_id, path, branch, before, after, key)


def _merge_request(payload: Payload, key: str | None) -> Delivery:
    given = as_object(payload.get("object_attributes"), "object_attributes")
    action = next((action for action in Action if action == given.get("action")), None)
    if action is None:
        return Uninteresting("a merge request that was not opened, changed or closed")
    project = as_object(payload.get("project"), "project")
    iid, branch, is_fork = _source(given)
    labels = given.get("labels") if "labels" in given else payload.get("labels", [])
    head = _head(given.get("last_commit"))
    before = as_commit(given["oldrev"], "oldrev") if given.get("oldrev") is not None else GONE
    return MergeRequestEvent(
        project_id=as_id(project.get("id"), "project.id"),
        project_path=as_path(project),
        iid=iid,
        branch=branch,
        is_fork=is_fork,
        action=action,
        ended=_ended(action, as_text(given.get("state", "opened"), "state")),
        is_draft=as_flag(given.get("draft", given.get("work_in_progress", False)), "draft"),
        labels=frozenset(
            as_text(as_object(label, "a label").get("title"), "a label's title") for label in as_list(labels, "labels")
        ),
        revision=head,
        oldrev=before if head not in {before, GONE} else GONE,
        key=key,
    )


def _note(payload: Payload, key: str | None) -> Delivery:
    del key  # the number of the note is one
    note = as_object(payload.get("object_attributes"), "object_attributes")
    if note.get("noteable_type") != "MergeRequest":
        return Uninteresting("a comment that is not on a merge request")
    # An edited comment has its number still: it would be carried out again, or not, by accident.
    if note.get("action", "create") != "create" or note.get("system") is True:
        return Uninteresting("a comment that nobody has just written")
    text = as_text(note.get("note"), "note")
    if not text.startswith(COMMAND):
        return Uninteresting("a comment that is no command")
    iid, branch, _ = _source(as_object(payload.get("merge_request"), "merge_request"))
    thread = note.get("discussion_id")
    return NoteCommand(
        project_id=as_id(payload.get("project_id"), "project_id"),
        project_path=as_path(payload.get("project")),
        branch=branch,
        iid=iid,
        note_id=as_id(note.get("id"), "object_attributes.id"),
        discussion_id="" if thread is None else as_word(thread, "discussion_id", WORD_LIMIT),
        author_id=as_id(note.get("author_id"), "author_id"),
        author=as_word(as_object(payload.get("user"), "user").get("username"), "user.username", WORD_LIMIT),
        text=printable(text.splitlines()[0].rstrip(), TEXT_LIMIT),
        created_at=_moment(note.get("created_at")),
    )


_HOOKS: dict[str, tuple[str, Reader]] = {
    "Push Hook": ("push", _push),
    "Merge Request Hook": ("merge_request", _merge_request),
    "Note Hook": ("note", _note),
    "Confidential Note Hook": ("note", _note),
}
_SYSTEM: dict[str, Reader] = {
    "push": _push,
    "repository_update": _repository_update,
    "merge_request": _merge_request,
    "note": _note,
}


def _kind_of_system_hook(payload: Payload) -> str:
    """System hooks say it in one of two fields, some in both."""
    given = payload.get("event_name", payload.get("object_kind"))
    return given if isinstance(given, str) else ""


def _source(merge_request: Payload) -> tuple[int, str, bool]:
    """Number, branch and whether it is another project's; a fork that is gone has no number."""
    iid = as_id(merge_request.get("iid"), "iid")
    target = as_id(merge_request.get("target_project_id"), "target_project_id")
    source = merge_request.get("source_project_id")
    if source is None or as_id(source, "source_project_id") != target:
        return iid, fork_branch(iid), True
    return iid, _own_branch(merge_request.get("source_branch"), "source_branch"), False


def _own_branch(given: object, name: str) -> str:
    """Name of a branch, which must not be that of a merge request from a fork."""
    branch = as_branch(given, name)
    if is_fork_branch(branch):
        raise Unserved("a branch that is called as a merge request from a fork is")
    return branch


def _ended(action: Action, state: str) -> str:
    ends = {Action.CLOSE: "closed", Action.MERGE: "merged"}
    return ends.get(action, state if state in ends.values() else "")


def _head(commit: object) -> str:
    return GONE if commit is None else as_commit(as_object(commit, "last_commit").get("id"), "last_commit.id")


def _moment(given: object) -> datetime:
    """A time in one of GitLab's three forms: ISO 8601, or with a space and ``UTC`` or ``+0000`` behind it."""
    text = as_word(given, "created_at", 64).replace(" UTC", "+00:00").replace(" +", "+")
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise malformed("created_at must be a time") from None


def _header(headers: Headers, wanted: bytes) -> str | None:
    found = [value for name, value in headers if name == wanted]
    return found[0].decode("latin-1") if len(found) == 1 else None


def _key(headers: Headers) -> str | None:
    given = _header(headers, b"idempotency-key")
    return given if given is not None and _KEY.fullmatch(given) else None
