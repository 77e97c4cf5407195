"""Merge requests and comments."""

from __future__ import annotations

import hashlib

from tests.gitlab import events
from tests.gitlab.answers import Answer, Asked, as_json, not_found, paged
from tests.gitlab.api import REPORTER, Api, merge_request_of, number, route, shown_user, text
from tests.gitlab.webhooks import tell
from tests.gitlab.world import Discussion, Json, MergeRequest, Project, User, now


@route("GET", "/projects/*/merge_requests")
def list_merge_requests(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    state, source = asked.query.get("state", "all"), asked.query.get("source_branch")
    found = [one for one in project.merge_requests.values() if state in {"all", one.state}]
    found = [one for one in found if source in {None, one.source_branch}]
    if asked.query.get("sort", "desc") == "desc":
        found.reverse()
    return paged(api.world, asked, found, lambda one: _merge_request(api, project, one))


@route("GET", "/projects/*/merge_requests/*")
def read_merge_request(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    return as_json(_merge_request(api, project, merge_request_of(project, asked)))


@route("GET", "/projects/*/merge_requests/*/notes")
def list_notes(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    found = [note for talk in merge_request_of(project, asked).discussions for note in talk.notes]
    found.sort(key=lambda note: note["id"], reverse=asked.query.get("sort", "desc") == "desc")
    return paged(api.world, asked, found, _note)


@route("POST", "/projects/*/merge_requests/*/notes")
def create_note(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    return as_json(
        _note(comment(api, project, merge_request_of(project, asked), api.user(asked), text(asked, "body"))), 201
    )


@route("PUT", "/projects/*/merge_requests/*/notes/*")
def update_note(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    request = merge_request_of(project, asked)
    note = next(
        (
            note
            for talk in request.discussions
            for note in talk.notes
            if note["id"] == number(asked.parts[2]) and note["author"]["id"] == api.user(asked).id
        ),
        None,
    )
    if note is None:
        raise not_found()
    note |= {"body": text(asked, "body"), "updated_at": now()}
    tell(
        api, project, "note_events", "Note Hook", "note_hooks", events.note(api.world, project, request, note, "update")
    )
    return as_json(_note(note))


@route("GET", "/projects/*/merge_requests/*/discussions")
def list_discussions(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    found = merge_request_of(project, asked).discussions
    return paged(
        api.world,
        asked,
        found,
        lambda talk: {
            "id": talk.id,
            "individual_note": len(talk.notes) == 1,
            "notes": [_note(note) for note in talk.notes],
        },
    )


@route("POST", "/projects/*/merge_requests/*/discussions/*/notes")
def reply(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    request = merge_request_of(project, asked)
    talk = next((talk for talk in request.discussions if talk.id == asked.parts[2]), None)
    if talk is None:
        raise not_found("Discussion")
    return as_json(_note(comment(api, project, request, api.user(asked), text(asked, "body"), talk)), 201)


def comment(
    api: Api, project: Project, request: MergeRequest, user: User, body: str, talk: Discussion | None = None
) -> Json:
    """Write a comment, and tell the hooks."""
    number = api.world.next_id()
    if talk is None:
        talk = Discussion(hashlib.sha1(str(number).encode()).hexdigest(), [])  # noqa: S324 - a name
        request.discussions.append(talk)
    note: Json = {
        "id": number,
        "type": "DiscussionNote" if talk.notes else None,
        "body": body,
        "author": shown_user(api, user),
        "created_at": now(),
        "updated_at": now(),
        "system": False,
        "noteable_id": request.id,
        "noteable_type": "MergeRequest",
        "project_id": project.id,
        "resolvable": False,
        "confidential": False,
        "internal": False,
        "noteable_iid": request.iid,
        "discussion_id": talk.id,
    }
    talk.notes.append(note)
    tell(
        api, project, "note_events", "Note Hook", "note_hooks", events.note(api.world, project, request, note, "create")
    )
    return note


def _merge_request(api: Api, project: Project, request: MergeRequest) -> Json:
    return {
        "id": request.id,
        "iid": request.iid,
        "project_id": project.id,
        "title": request.title,
        "description": "",
        "state": request.state,
        "created_at": request.created_at,
        "updated_at": request.created_at,
        "target_branch": request.target_branch,
        "source_branch": request.source_branch,
        "author": shown_user(api, request.author),
        "assignees": [],
        "assignee": None,
        "reviewers": [],
        "source_project_id": request.source_project_id if request.source_project_id in api.world.projects else None,
        "target_project_id": project.id,
        "labels": request.labels,
        "draft": request.draft,
        "work_in_progress": request.draft,
        "milestone": None,
        "merge_status": "can_be_merged",
        "detailed_merge_status": "mergeable",
        "sha": request.sha,
        "references": {"short": f"!{request.iid}", "full": f"{project.path}!{request.iid}"},
        "web_url": f"{api.world.external_url}/{project.path}/-/merge_requests/{request.iid}",
        "has_conflicts": False,
    }


def _note(given: Json) -> Json:
    return {name: value for name, value in given.items() if name != "discussion_id"}
