"""Our own API of the stand-in: people who push and comment, administrators, and orders for faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields

from tests.gitlab import courier, events
from tests.gitlab.answers import Answer, as_json
from tests.gitlab.api import MAINTAINER, Api
from tests.gitlab.discussions import comment
from tests.gitlab.orders import BROKEN, REPLACED, SPOILED, Order
from tests.gitlab.webhooks import tell, tell_of_push
from tests.gitlab.world import Hook, Json, MergeRequest, Project, Settings, Token, World, now

PREFIX = "/_control/"
ACTIONS = {"close": "closed", "reopen": "opened", "merge": "merged"}


class Control:
    """Answers control requests: ``POST /_control/<verb>`` with JSON, each verb a method."""

    def __init__(self, api: Api, orders: list[Order]) -> None:
        self._api = api
        self._world: World = api.world
        self._orders = orders
        self._verbs: dict[str, Callable[[Json], object]] = {
            "ready": lambda _: {},
            "settings": self._settings,
            "token": self._token,
            "member": self._member,
            "project": self._project,
            "change_project": self._change_project,
            "push": self._push,
            "open": self._open,
            "change": self._change,
            "comment": self._comment,
            "system_hook": self._system_hook,
            "hooks": self._order_hooks,
            "release": self._release,
            "settle": self._settle,
            "fault": self._fault,
            "mend": self._mend,
            "requests": self._requests,
            "deliveries": self._deliveries,
            "state": self._state,
        }

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        verb = self._verbs.get(path.removeprefix(PREFIX))
        if method != "POST" or verb is None:
            return as_json({"error": f"no such order: {method} {path}"}, 404)
        try:
            return as_json(verb(json.loads(body or b"{}")))
        except (LookupError, TypeError, ValueError) as error:
            return as_json({"error": f"{type(error).__name__}: {error}"}, 400)

    def _settings(self, given: Json) -> Json:
        known = {field.name for field in fields(Settings)}
        if not given.keys() <= known:
            raise ValueError(f"settings are {sorted(known)}")
        with self._world.lock:
            for name, value in given.items():
                setattr(self._world.settings, name, value)
            return asdict(self._world.settings)

    def _token(self, given: Json) -> Json:
        with self._world.lock:
            user = self._world.user(given["user"])
            self._world.tokens[given["token"]] = Token(
                user, given["scopes"], given.get("expires_at"), given.get("revoked", False)
            )
            if given.get("everywhere"):
                for project in self._world.projects.values():
                    project.members.setdefault(user.id, MAINTAINER)
            return {"user_id": user.id}

    def _member(self, given: Json) -> Json:
        with self._world.lock:
            user = self._world.user(given["user"])
            members = self._world.named(given["project"]).members
            if given["level"]:
                members[user.id] = given["level"]
            else:
                members.pop(user.id, None)
            return {"user_id": user.id}

    def _project(self, given: Json) -> Json:
        with self._world.lock:
            made = self._world.create_project(
                given["path"], given["default_branch"], empty=given["empty"], project_id=given.get("id")
            )
            return {"id": made.id, "head": made.branches.get(given["default_branch"])}

    def _change_project(self, given: Json) -> Json:
        with self._world.lock:
            project = self._world.named(given["project"])
            if "path" in given:
                project.old_paths.add(project.path)
                project.path = given["path"]
            if given.get("gone"):
                del self._world.projects[project.id]
            for name in ("archived", "marked_for_deletion_on", "default_branch", "repository_enabled"):
                if name in given:
                    setattr(project, name, given[name])
            return {}

    def _push(self, given: Json) -> Json:
        with self._world.lock:
            project, user = self._world.named(given["project"]), self._world.user(given["user"])
            changes = self._world.push(project, given["changes"], user)
            if not given.get("silent"):
                tell_of_push(self._api, project, changes, user)
            return {"heads": {change.branch: change.after for change in changes}}

    def _open(self, given: Json) -> Json:
        with self._world.lock:
            project, user = self._world.named(given["project"]), self._world.user(given["user"])
            source = self._world.named(given.get("source_project") or project.id)
            iid = max(project.merge_requests, default=0) + 1
            request = MergeRequest(
                self._world.next_id(),
                iid,
                given.get("title") or f"Merge {given['source_branch']}",
                source.id,
                given["source_branch"],
                given.get("target_branch") or project.default_branch or "main",
                list(given["labels"]),
                given["draft"],
                user,
                now(),
                sha=source.branches.get(given["source_branch"]),
            )
            project.merge_requests[iid] = request
            self._tell(project, events.merge_request(self._world, project, request, user, "open"))
            return {"iid": iid}

    def _change(self, given: Json) -> Json:
        with self._world.lock:
            project, user = self._world.named(given["project"]), self._world.user(given["user"])
            request = project.merge_requests[given["iid"]]
            action, changes = given.get("action") or "update", {}
            request.state = ACTIONS.get(action, request.state)
            if "labels" in given:
                changes["labels"] = {"previous": request.labels, "current": given["labels"]}
                request.labels = list(given["labels"])
            if "draft" in given:
                changes["draft"] = {"previous": request.draft, "current": given["draft"]}
                request.draft = given["draft"]
            self._tell(project, events.merge_request(self._world, project, request, user, action, None, changes))
            return {}

    def _comment(self, given: Json) -> Json:
        with self._world.lock:
            project, user = self._world.named(given["project"]), self._world.user(given["user"])
            request = project.merge_requests[given["iid"]]
            talks = [talk for talk in request.discussions if talk.id == given.get("discussion_id")]
            note = comment(self._api, project, request, user, given["body"], talks[0] if talks else None)
            return {"id": note["id"], "discussion_id": note["discussion_id"], "user_id": user.id}

    def _system_hook(self, given: Json) -> Json:
        with self._world.lock:
            hook = Hook(self._world.next_id(), given["url"], given["fields"])
            hook.token, hook.signing_token = given.get("token"), given.get("signing_token")
            self._world.system_hooks[hook.id] = hook
            return {"id": hook.id}

    def _order_hooks(self, given: Json) -> Json:
        if given["what"] not in {"drop", "duplicate", "delay", "hold", "deliver"}:
            raise ValueError("hooks are dropped, duplicated, delayed, held or delivered")
        if given["what"] == "deliver":
            self._api.courier.forget_orders()
        else:
            self._api.courier.order(courier.Order(given["what"], given["times"], given.get("seconds", 0.0)))
        return {}

    def _release(self, given: Json) -> Json:
        return {"released": self._api.courier.release(backwards=given["backwards"])}

    def _settle(self, given: Json) -> Json:
        return {"settled": self._api.courier.settle(given["seconds"])}

    def _fault(self, given: Json) -> Json:
        if given["fault"] not in REPLACED | SPOILED | BROKEN:
            raise ValueError(f"faults are {sorted(REPLACED | SPOILED | BROKEN)}")
        with self._world.lock:
            self._orders.append(Order(given["pattern"], given["fault"], given["times"], given["after"], given["given"]))
        return {}

    def _mend(self, _: Json) -> Json:
        with self._world.lock:
            self._orders.clear()
        return {}

    def _requests(self, given: Json) -> list[Json]:
        with self._world.lock:
            found = list(self._world.requests)
            if given.get("forget"):
                self._world.requests.clear()
            return found

    def _deliveries(self, given: Json) -> list[Json]:
        found = list(self._api.courier.log)
        if given.get("forget"):
            self._api.courier.log.clear()
        return found

    def _state(self, given: Json) -> Json:
        with self._world.lock:
            project = self._world.named(given["project"])
            return {
                "id": project.id,
                "path": project.path,
                "branches": dict(project.branches),
                "environments": list(project.environments.values()),
                "deployments": list(project.deployments.values()),
                "statuses": list(project.statuses),
                "notes": [
                    note | {"iid": request.iid}
                    for request in project.merge_requests.values()
                    for talk in request.discussions
                    for note in talk.notes
                ],
            }

    def _tell(self, project: Project, payload: Json) -> None:
        tell(self._api, project, "merge_requests_events", "Merge Request Hook", "merge_request_hooks", payload)
