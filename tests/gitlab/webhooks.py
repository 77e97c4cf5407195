"""Webhooks: how they are made and tried, and who hears of what."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

from tests.gitlab import events
from tests.gitlab.answers import Answer, Asked, Refusal, as_json, message, not_found, paged, refuse
from tests.gitlab.api import MAINTAINER, Api, find, number, route
from tests.gitlab.courier import Delivery
from tests.gitlab.world import Change, Hook, Json, Project, User, now

EVENT_WORDS = {"successful": "2", "client_failure": "4", "server_failure": "5"}
HOOK_EVENTS = (
    "push_events",
    "issues_events",
    "confidential_issues_events",
    "merge_requests_events",
    "tag_push_events",
    "note_events",
    "confidential_note_events",
    "job_events",
    "pipeline_events",
    "wiki_page_events",
    "deployment_events",
    "feature_flag_events",
    "releases_events",
    "milestone_events",
    "emoji_events",
    "resource_access_token_events",
)


@route("GET", "/projects/*/hooks")
def list_hooks(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, MAINTAINER)
    return paged(api.world, asked, list(project.hooks.values()), lambda hook: _hook(project, hook))


@route("GET", "/projects/*/hooks/*")
def read_hook(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, MAINTAINER)
    return as_json(_hook(project, find(project.hooks, asked)))


@route("POST", "/projects/*/hooks")
def create_hook(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, MAINTAINER)
    hook = Hook(api.world.next_id(), "", {"push_events": True, "enable_ssl_verification": True, "created_at": now()})
    _write_hook(api, hook, asked.body)
    project.hooks[hook.id] = hook
    return as_json(_hook(project, hook), 201)


@route("PUT", "/projects/*/hooks/*")
def update_hook(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, MAINTAINER)
    hook = find(project.hooks, asked)
    _write_hook(api, hook, asked.body)
    return as_json(_hook(project, hook))


@route("DELETE", "/projects/*/hooks/*")
def delete_hook(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, MAINTAINER)
    find(project.hooks, asked)
    del project.hooks[number(asked.parts[1])]
    return Answer(204)


@route("POST", "/projects/*/hooks/*/test/*")
def try_hook(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, MAINTAINER)
    hook = find(project.hooks, asked)
    if asked.parts[2] not in HOOK_EVENTS:
        return as_json({"error": "trigger does not have a valid value"}, 400)
    api.often(f"test {hook.id}")
    sample = events.sample(api.world, project, asked.parts[2], api.user(asked))
    if sample is None:
        raise refuse(422, "Ensure the project has at least one commit or merge request to test with.")
    event, trigger, payload = sample
    delivery = Delivery(hook, event, trigger, _bytes(payload), f"test-{api.world.next_id()}", forced=True)
    sent = _at_once(api, delivery)
    if not sent["status"].startswith("2"):
        raise refuse(422, sent["error"] or f"Hook executed but returned HTTP {sent['status']}")
    return message(201, "201 Created")


@route("GET", "/projects/*/hooks/*/events")
def list_events(api: Api, asked: Asked) -> Answer:
    hook = find(api.project(asked, MAINTAINER).hooks, asked)
    status = asked.query.get("status", "")
    start = EVENT_WORDS.get(status, status)
    found = [event for event in hook.events if event["response_status"].startswith(start)]
    return paged(api.world, asked, found, lambda event: event)


@route("POST", "/projects/*/hooks/*/events/*/resend")
def resend(api: Api, asked: Asked) -> Answer:
    hook = find(api.project(asked, MAINTAINER).hooks, asked)
    event = next((one for one in hook.events if one["id"] == number(asked.parts[2])), None)
    if event is None:
        raise not_found()
    api.often(f"resend {hook.id}")
    sent = _unlocked(api, lambda: api.courier.again(hook, event))
    if sent["error"]:
        raise refuse(422, sent["error"])
    return as_json({"response_status": int(sent["status"])}, 201)


def tell(api: Api, project: Project, wanted: str, event: str, trigger: str, payload: Json) -> None:
    """Hand an event to every hook of a project that wants its kind."""
    for hook in list(project.hooks.values()):
        if hook.fields.get(wanted):
            api.courier.hand_over(hook, event, trigger, payload)


def tell_of_push(api: Api, project: Project, changes: list[Change], user: User) -> None:
    """Hand out what follows a push: nothing for a kind of change that it has too many of, except to system hooks."""
    for action in ("created", "pushed", "removed"):
        group = [change for change in changes if change.action == action]
        if len(group) <= api.world.settings.push_event_hooks_limit:
            for change in group:
                _tell_of_change(api, project, change, user)
    if changes:
        payload = events.repository_update(api.world, project, changes, user)
        _tell_system(api, "repository_update_events", "repository_update_hooks", payload)
    for change in changes:
        _follow(api, project, change, user)


def _tell_of_change(api: Api, project: Project, change: Change, user: User) -> None:
    payload = events.push(api.world, project, change, user)
    for hook in list(project.hooks.values()):
        if hook.fields.get("push_events") and _passes(hook, change.branch):
            api.courier.hand_over(hook, "Push Hook", "push_hooks", payload)
    payload = events.push(api.world, project, change, user, for_system=True)
    _tell_system(api, "push_events", "push_hooks", payload)


def _tell_system(api: Api, wanted: str, trigger: str, payload: Json) -> None:
    for hook in list(api.world.system_hooks.values()):
        if hook.fields.get(wanted):
            api.courier.hand_over(hook, "System Hook", trigger, payload)


def _follow(api: Api, project: Project, change: Change, user: User) -> None:
    for target in api.world.projects.values():
        for request in target.merge_requests.values():
            source = (request.source_project_id, request.source_branch)
            if request.state == "opened" and source == (project.id, change.branch) and change.action == "pushed":
                oldrev, request.sha = request.sha, change.after
                payload = events.merge_request(api.world, target, request, user, "update", oldrev)
                tell(api, target, "merge_requests_events", "Merge Request Hook", "merge_request_hooks", payload)


def _at_once(api: Api, delivery: Delivery) -> Json:
    return _unlocked(api, lambda: api.courier.send(delivery))


def _unlocked(api: Api, call: Callable[[], Json]) -> Json:
    # The far side may ask us something before it answers.
    api.world.lock.release()
    try:
        return call()
    finally:
        api.world.lock.acquire()


def _passes(hook: Hook, branch: str) -> bool:
    given = hook.fields.get("push_events_branch_filter") or ""
    match hook.fields.get("branch_filter_strategy", "wildcard"):
        case "regex":
            return re.search(given, branch) is not None
        case "wildcard" if given:
            return re.fullmatch(re.escape(given).replace(r"\*", ".*"), branch) is not None
        case _:
            return True


def _write_hook(api: Api, hook: Hook, body: Json) -> None:
    url = str(body.get("url") or hook.url)
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Refusal(as_json({"error": "Invalid url given"}, 422))
    if not api.world.settings.local_hooks and parts.hostname in {"localhost", "127.0.0.1"}:
        raise Refusal(as_json({"error": "Invalid url given"}, 422))
    if hook.url and url != hook.url:
        hook.token = None
    hook.url = url
    names = (*HOOK_EVENTS, "push_events_branch_filter", "branch_filter_strategy", "enable_ssl_verification")
    hook.fields |= {name: body[name] for name in (*names, "name", "description") if name in body}
    hook.token = body.get("token", hook.token)
    signing = body.get("signing_token")
    if signing is not None:
        if not re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", signing):
            raise refuse(422, "Signing token is invalid")
        hook.signing_token = signing


def _hook(project: Project, hook: Hook) -> Json:
    pause = hook.disabled_until if hook.disabled_until and hook.disabled_until > time.time() else None
    status = "disabled" if hook.disabled else "temporarily_disabled" if pause else "executable"
    until = datetime.fromtimestamp(pause, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z") if pause else None
    return {
        "id": hook.id,
        "url": hook.url,
        "name": hook.fields.get("name"),
        "description": hook.fields.get("description"),
        "created_at": hook.fields["created_at"],
        **{name: bool(hook.fields.get(name)) for name in HOOK_EVENTS},
        "alert_status": status,
        "disabled_until": until,
        "url_variables": [],
        "push_events_branch_filter": hook.fields.get("push_events_branch_filter"),
        "branch_filter_strategy": hook.fields.get("branch_filter_strategy", "wildcard"),
        "custom_webhook_template": "",
        "custom_headers": [],
        "signing_token_present": hook.signing_token is not None,
        "project_id": project.id,
        "repository_update_events": False,
        "enable_ssl_verification": hook.fields.get("enable_ssl_verification", True),
    }


def _bytes(payload: Json) -> bytes:
    return as_json(payload).body
