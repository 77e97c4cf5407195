"""
What webhooks deliver, field by field as documented.

Source: https://docs.gitlab.com/user/project/integrations/webhook_events/
"""

from __future__ import annotations

from tests.gitlab.world import ZERO, Change, Commit, Json, MergeRequest, Project, User, World

SAMPLE_COMMITS = 3
"""Of the default branch; lib/gitlab/data_builder/push.rb of GitLab."""


def push(world: World, project: Project, change: Change, user: User, *, for_system: bool = False) -> Json:
    """Return a Push Hook; a system hook never shows commits."""
    commits = [] if for_system else [_commit(world, project, commit) for commit in change.commits[-20:]]
    return {
        "object_kind": "push",
        "event_name": "push",
        "before": change.before,
        "after": change.after,
        "ref": f"refs/heads/{change.branch}",
        "ref_protected": change.branch == project.default_branch,
        "checkout_sha": None if change.after == ZERO else change.after,
        "message": None,
        "user_id": user.id,
        "user_name": user.username.title(),
        "user_username": user.username,
        "user_email": None,
        "user_avatar": None,
        "project_id": project.id,
        "project": _project(world, project),
        "commits": commits,
        "total_commits_count": 0 if for_system else len(change.commits),
        "push_options": {},
        "repository": _repository(world, project),
    }


def repository_update(world: World, project: Project, changes: list[Change], user: User) -> Json:
    """Return the system hook that follows each push, however large."""
    return {
        "event_name": "repository_update",
        "user_id": user.id,
        "user_name": user.username.title(),
        "user_email": None,
        "user_avatar": None,
        "project_id": project.id,
        "project": _project(world, project),
        "changes": [
            {"before": change.before, "after": change.after, "ref": f"refs/heads/{change.branch}"} for change in changes
        ],
        "refs": [f"refs/heads/{change.branch}" for change in changes],
    }


def merge_request(
    world: World,
    project: Project,
    request: MergeRequest,
    user: User,
    action: str,
    oldrev: str | None = None,
    changes: Json | None = None,
) -> Json:
    """Return a Merge Request Hook."""
    labels = [_label(project, label) for label in request.labels]
    attributes = _request(world, project, request) | {
        "labels": labels,
        "action": action,
        "url": _request_url(world, project, request),
        "assignee_ids": [],
        "reviewer_ids": [],
        "state_id": {"opened": 1, "closed": 2, "merged": 3}[request.state],
        "blocking_discussions_resolved": True,
        "first_contribution": False,
        "time_change": 0,
        "total_time_spent": 0,
    }
    if oldrev is not None:
        attributes["oldrev"] = oldrev
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": _user(user),
        "project": _project(world, project),
        "object_attributes": attributes,
        "labels": labels,
        "changes": changes or {},
        "repository": _hook_repository(world, project),
    }


def note(world: World, project: Project, request: MergeRequest, written: Json, action: str) -> Json:
    """Return a Note Hook about a merge request."""
    user = world.users[written["author"]["id"]]
    return {
        "object_kind": "note",
        "event_type": "note",
        "user": _user(user),
        "project_id": project.id,
        "project": _project(world, project),
        "repository": _hook_repository(world, project),
        "object_attributes": {
            "id": written["id"],
            "note": written["body"],
            "description": written["body"],
            "noteable_type": "MergeRequest",
            "author_id": user.id,
            "created_at": written["created_at"],
            "updated_at": written["updated_at"],
            "project_id": project.id,
            "attachment": None,
            "line_code": None,
            "commit_id": "",
            "noteable_id": request.id,
            "system": written["system"],
            "st_diff": None,
            "type": written["type"],
            "discussion_id": written["discussion_id"],
            "internal": False,
            "action": action,
            "url": f"{_request_url(world, project, request)}#note_{written['id']}",
        },
        "merge_request": _request(world, project, request)
        | {
            "labels": [_label(project, label) for label in request.labels],
            "url": _request_url(world, project, request),
            "position": 0,
        },
    }


def sample(world: World, project: Project, trigger: str, user: User) -> tuple[str, str, Json] | None:
    """Return event, trigger and payload of a test; None if there is nothing to make one from."""
    head = project.branches.get(project.default_branch or "")
    if trigger == "push_events" and head is not None:
        # Never a creation: the older end is the third newest commit, or the only one.
        newest = [head]
        while len(newest) < SAMPLE_COMMITS and (parent := project.commits[newest[-1]].parent) is not None:
            newest.append(parent)
        change = Change(project.default_branch or "", newest[-1], head, [])
        return "Push Hook", "push_hooks", push(world, project, change, user)
    request = next(reversed(project.merge_requests.values()), None)
    if trigger == "merge_requests_events" and request is not None:
        return (
            "Merge Request Hook",
            "merge_request_hooks",
            merge_request(world, project, request, request.author, "open"),
        )
    written = [note for one in project.merge_requests.values() for talk in one.discussions for note in talk.notes]
    if trigger == "note_events" and request is not None and written:
        return "Note Hook", "note_hooks", note(world, project, request, written[-1], "create")
    return None


def _project(world: World, project: Project) -> Json:
    web = f"{world.external_url}/{project.path}"
    ssh = f"git@gitlab.example.com:{project.path}.git"
    return {
        "id": project.id,
        "name": project.name,
        "description": "",
        "web_url": web,
        "avatar_url": None,
        "git_ssh_url": ssh,
        "git_http_url": f"{web}.git",
        "namespace": project.path.rpartition("/")[0].title(),
        "visibility_level": 0,
        "path_with_namespace": project.path,
        "default_branch": project.default_branch,
        "ci_config_path": None,
        "homepage": web,
        "url": ssh,
        "ssh_url": ssh,
        "http_url": f"{web}.git",
    }


def _repository(world: World, project: Project) -> Json:
    given = _project(world, project)
    names = ("name", "url", "description", "homepage", "git_http_url", "git_ssh_url", "visibility_level")
    return {name: given[name] for name in names}


def _hook_repository(world: World, project: Project) -> Json:
    given = _project(world, project)
    return {name: given[name] for name in ("name", "url", "description", "homepage")}


def _request(world: World, project: Project, request: MergeRequest) -> Json:
    source = world.projects.get(request.source_project_id)
    head = source.commits.get(request.sha or "") if source else None
    return {
        "id": request.id,
        "iid": request.iid,
        "target_branch": request.target_branch,
        "source_branch": request.source_branch,
        "source_project_id": request.source_project_id,
        "target_project_id": project.id,
        "author_id": request.author.id,
        "assignee_id": None,
        "title": request.title,
        "created_at": request.created_at,
        "updated_at": request.created_at,
        "milestone_id": None,
        "state": request.state,
        "merge_status": "can_be_merged",
        "detailed_merge_status": "mergeable",
        "description": "",
        "work_in_progress": request.draft,
        "draft": request.draft,
        "source": _project(world, source) if source else None,
        "target": _project(world, project),
        "last_commit": _commit(world, source, head) if source and head else None,
    }


def _request_url(world: World, project: Project, request: MergeRequest) -> str:
    return f"{world.external_url}/{project.path}/-/merge_requests/{request.iid}"


def _commit(world: World, project: Project, commit: Commit) -> Json:
    parent = project.commits.get(commit.parent or "")
    old, new = (parent.files if parent else {}), commit.files
    return {
        "id": commit.sha,
        "message": f"{commit.title}\n",
        "title": commit.title,
        "timestamp": commit.at,
        "url": f"{world.external_url}/{project.path}/-/commit/{commit.sha}",
        "author": {"name": commit.author.username.title(), "email": "[REDACTED]"},
        "added": sorted(new.keys() - old.keys()),
        "modified": sorted(path for path in new.keys() & old.keys() if new[path] != old[path]),
        "removed": sorted(old.keys() - new.keys()),
    }


def _label(project: Project, title: str) -> Json:
    return {
        "id": sum(title.encode()),
        "title": title,
        "color": "#ffffff",
        "project_id": project.id,
        "created_at": "2013-12-03T17:15:43Z",
        "updated_at": "2013-12-03T17:15:43Z",
        "template": False,
        "description": None,
        "type": "ProjectLabel",
        "group_id": None,
    }


def _user(user: User) -> Json:
    return {
        "id": user.id,
        "name": user.username.title(),
        "username": user.username,
        "avatar_url": None,
        "email": "[REDACTED]",
    }
