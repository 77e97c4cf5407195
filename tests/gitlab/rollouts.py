"""Environments, deployments and statuses of commits."""

from __future__ import annotations

from tests.gitlab.answers import Answer, Asked, as_json, not_found, paged, refuse
from tests.gitlab.api import DEVELOPER, REPORTER, Api, find, number, route, shown_user, text
from tests.gitlab.world import Json, Project, environment_slug, now


@route("GET", "/projects/*/environments")
def list_environments(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    name, search, state = (asked.query.get(key) for key in ("name", "search", "states"))
    if search is not None and len(search) < 3:
        raise refuse(400, "Search query is less than 3 characters")
    found = [
        one
        for one in project.environments.values()
        if name in {None, one["name"]} and (search or "") in one["name"] and state in {None, one["state"]}
    ]
    return paged(api.world, asked, found, _environment)


@route("GET", "/projects/*/environments/*")
def read_environment(api: Api, asked: Asked) -> Answer:
    return as_json(_environment(find(api.project(asked, REPORTER).environments, asked)))


@route("POST", "/projects/*/environments")
def create_environment(api: Api, asked: Asked) -> Answer:
    project, name = api.project(asked, DEVELOPER), text(asked, "name")
    if any(one["name"] == name for one in project.environments.values()):
        raise refuse(400, {"name": ["has already been taken"], "slug": ["has already been taken"]})
    return as_json(_environment(_new_environment(api, project, name, asked.body)), 201)


@route("PUT", "/projects/*/environments/*")
def update_environment(api: Api, asked: Asked) -> Answer:
    found = find(api.project(asked, DEVELOPER).environments, asked)
    names = ("external_url", "tier", "description", "auto_stop_setting", "kubernetes_namespace")
    found |= {name: asked.body[name] for name in names if name in asked.body} | {"updated_at": now()}
    return as_json(_environment(found))


@route("POST", "/projects/*/environments/*/stop")
def stop_environment(api: Api, asked: Asked) -> Answer:
    found = find(api.project(asked, DEVELOPER).environments, asked)
    found |= {"state": "stopped", "updated_at": now()}
    return as_json(_environment(found))


@route("DELETE", "/projects/*/environments/*")
def delete_environment(api: Api, asked: Asked) -> Answer:
    environments = api.project(asked, DEVELOPER).environments
    if find(environments, asked)["state"] != "stopped":
        raise refuse(403, "403 Forbidden")
    del environments[number(asked.parts[1])]
    return Answer(204)


@route("GET", "/projects/*/deployments")
def list_deployments(api: Api, asked: Asked) -> Answer:
    project, environment = api.project(asked, REPORTER), asked.query.get("environment")
    found = [one for one in project.deployments.values() if environment in {None, one["environment"]["name"]}]
    if asked.query.get("sort") == "desc":
        found.reverse()
    return paged(api.world, asked, found, lambda one: one)


@route("POST", "/projects/*/deployments")
def create_deployment(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, DEVELOPER)
    name, sha, ref, status = (text(asked, key) for key in ("environment", "sha", "ref", "status"))
    if sha not in project.commits:
        raise refuse(400, "The given commit does not exist") if len(sha) == 40 else refuse(400, "sha is invalid")
    environment = next((one for one in project.environments.values() if one["name"] == name), None)
    if environment is None:
        environment = _new_environment(api, project, name, {})
    environment |= {"ref": ref, "state": "available"}
    shown = {key: environment[key] for key in ("id", "name", "external_url")}
    made: Json = {
        "id": api.world.next_id(),
        "iid": len(project.deployments) + 1,
        "ref": ref,
        "sha": sha,
        "created_at": now(),
        "updated_at": now(),
        "status": status,
        "user": shown_user(api, api.user(asked)),
        "environment": shown,
        "deployable": None,
    }
    project.deployments[made["id"]] = made
    return as_json(made, 201)


@route("PUT", "/projects/*/deployments/*")
def update_deployment(api: Api, asked: Asked) -> Answer:
    found = find(api.project(asked, DEVELOPER).deployments, asked)
    status = text(asked, "status")
    if found["status"] == status:
        raise refuse(400, {"status": [f"Cannot transition status from {status} to {status}"]})
    found |= {"status": status, "updated_at": now()}
    return as_json(found)


@route("POST", "/projects/*/statuses/*")
def set_status(api: Api, asked: Asked) -> Answer:
    project, sha, state = api.project(asked, DEVELOPER), asked.parts[1], text(asked, "state")
    if sha not in project.commits:
        raise not_found("Commit")
    name, ref = asked.body.get("name") or asked.body.get("context") or "default", asked.body.get("ref")
    found = next((one for one in project.statuses if (one["sha"], one["name"]) == (sha, name)), None)
    if found is not None and found["status"] == state and state in {"pending", "running"}:
        event = {"pending": "enqueue", "running": "run"}[state]
        said = (
            f'Cannot transition status via :{event} from :{state} (Reason(s): Status cannot transition via "{event}")'
        )
        raise refuse(400, said)
    made: Json = {
        "id": api.world.next_id(),
        "sha": sha,
        "ref": ref or "",
        "status": state,
        "name": name,
        "target_url": asked.body.get("target_url"),
        "description": asked.body.get("description"),
        "created_at": now(),
        "author": shown_user(api, api.user(asked)),
        "allow_failure": False,
        "coverage": None,
    }
    if found is not None:
        project.statuses.remove(found)
    project.statuses.append(made)
    return as_json(made, 201)


@route("GET", "/projects/*/repository/commits/*/statuses")
def list_statuses(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    return paged(api.world, asked, [one for one in project.statuses if one["sha"] == asked.parts[1]], lambda one: one)


def _environment(given: Json) -> Json:
    return {name: value for name, value in given.items() if name != "ref"}


def _new_environment(api: Api, project: Project, name: str, body: Json) -> Json:
    made: Json = {
        "id": api.world.next_id(),
        "name": name,
        "slug": environment_slug(name),
        "description": body.get("description"),
        "external_url": body.get("external_url"),
        "state": "available",
        "tier": body.get("tier", "other"),
        "created_at": now(),
        "updated_at": now(),
        "auto_stop_at": None,
        "auto_stop_setting": body.get("auto_stop_setting", "always"),
        "kubernetes_namespace": body.get("kubernetes_namespace"),
        "flux_resource_path": None,
        "cluster_agent": None,
        "last_deployment": None,
        "ref": None,
    }
    project.environments[made["id"]] = made
    return made
