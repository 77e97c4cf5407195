"""
GitLab's payloads in their documented form.

Source: https://docs.gitlab.com/user/project/integrations/webhook_events/
Source: https://docs.gitlab.com/administration/system_hooks/
"""

from __future__ import annotations

from typing import Any

ZERO = "0" * 40
BEFORE = "95790bf891e76fee5e1747ab589903a6a1f80f22"
HEAD = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
FORK = 99
"""Number of the project that merge requests from a fork come from."""

Payload = dict[str, Any]


def push_created(branch: str, sha: str, project_id: int = 15, path: str = "group/shop") -> Payload:
    """Return the push that creates a branch."""
    return _push(branch, ZERO, sha, project_id, path)


def push_updated(
    branch: str, sha: str, project_id: int = 15, path: str = "group/shop", before: str = BEFORE
) -> Payload:
    """Return a push to a branch, from *before* to *sha*; a force push looks the same."""
    return _push(branch, before, sha, project_id, path)


def push_deleted(branch: str, sha: str, project_id: int = 15, path: str = "group/shop") -> Payload:
    """Return the push that deletes a branch whose head was *sha*."""
    return _push(branch, sha, ZERO, project_id, path)


def tag_pushed(tag: str, sha: str, project_id: int = 15, path: str = "group/shop") -> Payload:
    """Return the push of a tag."""
    payload = _push(tag, ZERO, sha, project_id, path)
    return payload | {"object_kind": "tag_push", "event_name": "tag_push", "ref": f"refs/tags/{tag}"}


def as_system_hook(payload: Payload) -> Payload:
    """Return the same push as a system hook delivers it, which never shows commits."""
    return payload | {"commits": [], "total_commits_count": 0}


def repository_updated(*changes: Payload, project_id: int = 15, path: str = "group/shop") -> Payload:
    """Return the system hook that follows each push, with all that it changed; see :func:`change`."""
    given = changes or (change("feature/x", ZERO, HEAD),)
    return {
        "event_name": "repository_update",
        "user_id": 1,
        "user_name": "John Smith",
        "user_email": "admin@example.com",
        "user_avatar": None,
        "project_id": project_id,
        "project": _project(project_id, path),
        "changes": list(given),
        "refs": [one["ref"] for one in given],
    }


def change(branch: str, before: str, after: str) -> Payload:
    """Return one change of a push."""
    return {"before": before, "after": after, "ref": f"refs/heads/{branch}"}


def merge_request(
    action: str = "open",
    *,
    labels: tuple[str, ...] = (),
    source_project_id: int | None = 15,
    project_id: int = 15,
    path: str = "group/shop",
    **attributes: Any,  # noqa: ANN401 - any field of object_attributes
) -> Payload:
    """Return what happened to merge request !12, from feature/x to main."""
    titled = [_label(title) for title in labels]
    states = {"close": "closed", "merge": "merged"}
    given = _merge_request(project_id, source_project_id) | {
        "state": states.get(action, "opened"),
        "labels": titled,
        "action": action,
    }
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": _user(),
        "project": _project(project_id, path),
        "repository": {"name": "shop", "url": "", "description": "", "homepage": ""},
        "object_attributes": given | attributes,
        "labels": titled,
        "changes": {},
    }


def note(
    text: str,
    *,
    source_project_id: int = 15,
    project_id: int = 15,
    path: str = "group/shop",
    **attributes: Any,  # noqa: ANN401 - any field of object_attributes
) -> Payload:
    """Return a comment on merge request !12."""
    given = {
        "id": 1244,
        "note": text,
        "noteable_type": "MergeRequest",
        "author_id": 4,
        "created_at": "2026-05-17 18:21:36 UTC",
        "updated_at": "2026-05-17 18:21:36 UTC",
        "project_id": project_id,
        "attachment": None,
        "line_code": None,
        "commit_id": "",
        "discussion_id": "1f6ac7c7d5d3bd3eb8f6bdd9b3b3a1a5e1a8f3b0",
        "noteable_id": 7,
        "system": False,
        "st_diff": None,
        "action": "create",
        "url": "https://gitlab.example.com/group/shop/-/merge_requests/12#note_1244",
    }
    return {
        "object_kind": "note",
        "event_type": "note",
        "user": _user(),
        "project_id": project_id,
        "project": _project(project_id, path),
        "repository": {"name": "shop", "url": "", "description": "", "homepage": ""},
        "object_attributes": given | attributes,
        "merge_request": _merge_request(project_id, source_project_id),
    }


def _merge_request(project_id: int, source_project_id: int | None) -> Payload:
    return {
        "id": 7,
        "iid": 12,
        "title": "Better baskets",
        "source_branch": "feature/x",
        "target_branch": "main",
        "source_project_id": source_project_id,
        "target_project_id": project_id,
        "author_id": 4,
        "state": "opened",
        "work_in_progress": False,
        "draft": False,
        "merge_status": "unchecked",
        "last_commit": _commit(HEAD),
        "source": None if source_project_id is None else _project(source_project_id, "group/shop"),
        "target": _project(project_id, "group/shop"),
        "url": "https://gitlab.example.com/group/shop/-/merge_requests/12",
    }


def _user() -> Payload:
    return {"id": 4, "name": "John Smith", "username": "jsmith", "avatar_url": None, "email": "[REDACTED]"}


def _label(title: str) -> Payload:
    return {"id": 206, "title": title, "color": "#ffffff", "project_id": 15, "type": "ProjectLabel", "group_id": None}


def _push(branch: str, before: str, after: str, project_id: int, path: str) -> Payload:
    is_deletion = after == ZERO
    return {
        "object_kind": "push",
        "event_name": "push",
        "before": before,
        "after": after,
        "ref": f"refs/heads/{branch}",
        "ref_protected": False,
        "checkout_sha": None if is_deletion else after,
        "message": None,
        "user_id": 4,
        "user_name": "John Smith",
        "user_username": "jsmith",
        "user_email": "",
        "user_avatar": "https://s.gravatar.com/avatar/d4c74594d841139328695756648b6bd6?s=80",
        "project_id": project_id,
        "project": _project(project_id, path),
        "commits": [] if is_deletion or before == ZERO else [_commit(before), _commit(after)],
        "total_commits_count": 0 if is_deletion or before == ZERO else 2,
        "push_options": {"ci": {"skip": True}},
        "repository": {
            "name": path.rsplit("/", 1)[-1],
            "url": f"git@gitlab.example.com:{path}.git",
            "description": "",
            "homepage": f"https://gitlab.example.com/{path}",
            "git_http_url": f"https://gitlab.example.com/{path}.git",
            "git_ssh_url": f"git@gitlab.example.com:{path}.git",
            "visibility_level": 0,
        },
    }


def _project(project_id: int, path: str) -> Payload:
    name = path.rsplit("/", 1)[-1]
    return {
        "id": project_id,
        "name": name,
        "description": "",
        "web_url": f"https://gitlab.example.com/{path}",
        "avatar_url": None,
        "git_ssh_url": f"git@gitlab.example.com:{path}.git",
        "git_http_url": f"https://gitlab.example.com/{path}.git",
        "namespace": path.rsplit("/", 1)[0],
        "visibility_level": 0,
        "path_with_namespace": path,
        "default_branch": "main",
        "ci_config_path": None,
        "homepage": f"https://gitlab.example.com/{path}",
        "url": f"git@gitlab.example.com:{path}.git",
        "ssh_url": f"git@gitlab.example.com:{path}.git",
        "http_url": f"https://gitlab.example.com/{path}.git",
    }


def _commit(sha: str) -> Payload:
    return {
        "id": sha,
        "message": 'Update Catalan translation to e38cb41.\n\nSee [the "issue"] {1}',
        "title": "Update Catalan translation to e38cb41.",
        "timestamp": "2011-12-12T14:27:31+02:00",
        "url": f"https://gitlab.example.com/group/shop/commit/{sha}",
        "author": {"name": "Jordi Mallach", "email": "jordi@softcatala.org"},
        "added": ["CHANGELOG"],
        "modified": ["app/controller/application.rb"],
        "removed": [],
    }
