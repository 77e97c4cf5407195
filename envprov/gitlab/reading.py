"""
From GitLab's JSON to our values. What is missing or of another type raises KeyError, TypeError or ValueError.

Source: https://docs.gitlab.com/api/rest/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, TypeVar

from envprov.domain.forge import (
    Branch,
    Deployment,
    ForgeEnvironment,
    ForgeProject,
    Hook,
    HookEvent,
    Me,
    MergeRequest,
    Note,
    TokenInfo,
)
from envprov.domain.lifetime import noted_moment

Json = Mapping[str, Any]

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

T = TypeVar("T")


def project(given: Json) -> ForgeProject:
    """Read a project."""
    return ForgeProject(
        id=_get(given, "id", int),
        path=_text(given, "path_with_namespace"),
        default_branch=_maybe(given, "default_branch", str) or None,
        archived=_get(given, "archived", bool),
        # Not shown to those who may not read the code, for whom there is nothing in it.
        is_empty=bool(_maybe(given, "empty_repo", bool)),
        marked_for_deletion=bool(given.get("marked_for_deletion_on") or given.get("marked_for_deletion_at")),
        web_url=_text(given, "web_url"),
        access_level=_access(given.get("permissions")),
    )


def branch(given: Json) -> Branch:
    """Read a branch."""
    return Branch(_text(given, "name"), _commit(given["commit"]["id"]))


def merge_request(given: Json) -> MergeRequest:
    """Read a merge request."""
    sha = _maybe(given, "sha", str)
    return MergeRequest(
        iid=_get(given, "iid", int),
        source_branch=_text(given, "source_branch"),
        source_project_id=_maybe(given, "source_project_id", int),
        target_branch=_text(given, "target_branch"),
        sha=_commit(sha) if sha else None,
        labels=frozenset(_label(label) for label in _get(given, "labels", list)),
        draft=bool(given["draft"] if "draft" in given else given["work_in_progress"]),
        web_url=_text(given, "web_url"),
        state=_text(given, "state"),
    )


def hook(given: Json) -> Hook:
    """Read a project webhook."""
    return Hook(
        id=_get(given, "id", int),
        url=_text(given, "url"),
        push=bool(given.get("push_events")),
        merge_requests=bool(given.get("merge_requests_events")),
        notes=bool(given.get("note_events")),
        branch_filter=_maybe(given, "push_events_branch_filter", str) or "",
        branch_filter_strategy=_maybe(given, "branch_filter_strategy", str),
        enable_ssl=_get(given, "enable_ssl_verification", bool),
        alert_status=_maybe(given, "alert_status", str),
        disabled_until=_maybe(given, "disabled_until", str),
        signing_token_present=_maybe(given, "signing_token_present", bool),
        token_present=_maybe(given, "token_present", bool),
    )


def hook_event(given: Json) -> HookEvent:
    """Read a delivery that GitLab remembers."""
    headers = given.get("request_headers") or {}
    key = headers.get("Idempotency-Key")
    return HookEvent(
        id=_get(given, "id", int),
        trigger=_text(given, "trigger"),
        status=str(given["response_status"]),
        key=key if isinstance(key, str) else None,
        data=_get(given, "request_data", dict),
    )


def environment(given: Json) -> ForgeEnvironment:
    """Read an environment."""
    return ForgeEnvironment(
        id=_get(given, "id", int),
        name=_text(given, "name"),
        slug=_text(given, "slug"),
        state=_text(given, "state"),
        external_url=_maybe(given, "external_url", str) or None,
        tier=_maybe(given, "tier", str),
        changed_at=noted_moment(_maybe(given, "updated_at", str)),
    )


def deployment(given: Json) -> Deployment:
    """Read a deployment."""
    return Deployment(
        id=_get(given, "id", int),
        environment=_text(given["environment"], "name"),
        sha=_commit(given["sha"]),
        ref=_text(given, "ref"),
        status=_text(given, "status"),
    )


def note(given: Json) -> Note:
    """Read a comment."""
    author = given["author"]
    return Note(
        id=_get(given, "id", int),
        body=_get(given, "body", str),
        author_id=_get(author, "id", int),
        author=_text(author, "username"),
        is_system=_get(given, "system", bool),
    )


def me(given: Json) -> Me:
    """Read who we are."""
    return Me(_get(given, "id", int), _text(given, "username"))


def token(given: Json) -> TokenInfo:
    """Read what our token may do."""
    expires = _maybe(given, "expires_at", str)
    scopes = frozenset(str(scope) for scope in _get(given, "scopes", list))
    return TokenInfo(scopes, date.fromisoformat(expires[:10]) if expires else None)


def access_level(given: Json) -> int:
    """Read a member's role."""
    return _get(given, "access_level", int)


def _access(permissions: Json | None) -> int | None:
    given = [(permissions or {}).get(name) for name in ("project_access", "group_access")]
    levels = [_get(one, "access_level", int) for one in given if one]
    return max(levels, default=None)


def _label(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError("a label that is no text")
    return given


def _commit(given: object) -> str:
    if not isinstance(given, str) or not _COMMIT.fullmatch(given):
        raise ValueError("no commit")
    return given


def _text(given: Json, name: str) -> str:
    found = _get(given, name, str)
    if not found:
        raise ValueError(f"{name} is empty")
    return found


def _get(given: Json, name: str, kind: type[T]) -> T:
    found = given[name]
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise TypeError(f"{name} is no {kind.__name__}")
    return found


def _maybe(given: Json, name: str, kind: type[T]) -> T | None:
    return None if given.get(name) is None else _get(given, name, kind)
