"""
GitLab's payloads in their documented form.

Source: https://docs.gitlab.com/user/project/integrations/webhook_events/#push-events
"""

from __future__ import annotations

from typing import Any

ZERO = "0" * 40
BEFORE = "95790bf891e76fee5e1747ab589903a6a1f80f22"

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


def repository_updated(project_id: int = 15, path: str = "group/shop") -> Payload:
    """Return the system hook that follows each push."""
    return {
        "event_name": "repository_update",
        "user_id": 1,
        "user_name": "John Smith",
        "user_email": "admin@example.com",
        "user_avatar": None,
        "project_id": project_id,
        "project": _project(project_id, path),
        "changes": [{"before": ZERO, "after": BEFORE, "ref": "refs/heads/feature/x"}],
        "refs": ["refs/heads/feature/x"],
    }


def merge_request_opened(project_id: int = 15, path: str = "group/shop") -> Payload:
    """Return the essentials of a merge request event."""
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": {"id": 1, "name": "Administrator", "username": "root"},
        "project": _project(project_id, path),
        "object_attributes": {"iid": 1, "source_branch": "feature/x", "target_branch": "main", "action": "open"},
        "labels": [],
        "changes": {},
    }


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
