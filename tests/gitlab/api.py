"""
What answers requests: routes, tokens, scopes, roles and rate limits, in GitLab's own words.

Source: https://docs.gitlab.com/api/rest/; lib/api/*.rb of GitLab for the wording of what it refuses
"""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import unquote

from tests.gitlab.answers import Answer, Asked, Refusal, as_json, not_found, refuse, with_etag
from tests.gitlab.courier import Courier
from tests.gitlab.world import Json, MergeRequest, Project, User, World

PREFIX = "/api/v4"
REPORTER, DEVELOPER, MAINTAINER = 20, 30, 40
READS = frozenset({"api", "read_api"})
READS_CODE = READS | {"read_repository"}
TESTS_PER_MINUTE = 5
TOO_MANY = {"error": "This endpoint has been requested too many times. Try again later."}

T = TypeVar("T")
Handler = Callable[["Api", Asked], Answer]
Route = tuple[str, re.Pattern[str], Handler, frozenset[str]]

_ROUTES: list[Route] = []


def route(method: str, template: str, scopes: frozenset[str] = READS) -> Callable[[Handler], Handler]:
    """Register a handler; each ``*`` in the template is one quoted segment."""
    pattern = re.compile(re.escape(PREFIX + template).replace(r"\*", "([^/]+)"))

    def register(handler: Handler) -> Handler:
        needed = scopes if method == "GET" else frozenset({"api"})
        _ROUTES.append((method, pattern, handler, needed))
        return handler

    return register


class Api:
    """Answers requests from the world, and changes it."""

    def __init__(self, world: World, courier: Courier) -> None:
        self.world = world
        self.courier = courier
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def answer(self, asked: Asked) -> Answer:
        """Answer a request; the world does not change meanwhile, except for what is delivered at once."""
        try:
            limited = self._limited(asked)
            if limited is not None:
                return limited
            return with_etag(asked, self._dispatch(asked))
        except Refusal as refusal:
            return refusal.answer

    def _dispatch(self, asked: Asked) -> Answer:
        for method, pattern, handler, scopes in _ROUTES:
            match = pattern.fullmatch(asked.path)
            if match is not None and method == asked.method:
                asked.parts = tuple(unquote(part) for part in match.groups())
                with self.world.lock:
                    self._authenticate(asked, scopes)
                    return handler(self, asked)
        return as_json({"error": "404 Not Found"}, 404)

    def _authenticate(self, asked: Asked, scopes: frozenset[str]) -> None:
        token = self.world.tokens.get(asked.headers.get("private-token", ""))
        if token is None:
            raise refuse(401, "401 Unauthorized")
        if token.revoked:
            said = "Token was revoked. You have to re-authorize from the user."
            raise Refusal(as_json({"error": "invalid_token", "error_description": said}, 401))
        if token.expires_at is not None and token.expires_at <= datetime.now(UTC).date().isoformat():
            said = "Token is expired. You can either do re-authorization or token refresh."
            raise Refusal(as_json({"error": "invalid_token", "error_description": said}, 401))
        if scopes and not scopes & set(token.scopes):
            said = "The request requires higher privileges than provided by the access token."
            wanted = " ".join(sorted(scopes))
            given = {"error": "insufficient_scope", "error_description": said, "scope": wanted}
            raise Refusal(as_json(given, 403))
        asked.user = token.user

    def _limited(self, asked: Asked) -> Answer | None:
        settings = self.world.settings
        if settings.requests_per_period <= 0:
            return None
        seen, now_ = self._seen[asked.headers.get("private-token", "")], time.time()
        while seen and seen[0] <= now_ - settings.period_seconds:
            seen.popleft()
        if len(seen) < settings.requests_per_period:
            seen.append(now_)
            return None
        wait = max(1, round(seen[0] + settings.period_seconds - now_ + 0.5))
        headers = {
            "Content-Type": "text/plain",
            "Retry-After": str(wait),
            "RateLimit-Limit": str(settings.requests_per_period),
            "RateLimit-Name": "throttle_authenticated_api",
            "RateLimit-Observed": str(len(seen) + 1),
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": str(int(now_) + wait),
        }
        return Answer(429, b"Retry later\n", headers)

    def user(self, asked: Asked) -> User:
        assert asked.user is not None
        return asked.user

    def project(self, asked: Asked, level: int = 10) -> Project:
        """Return the project that a request is about, if its user may do what takes *level*."""
        found, moved = self.world.find(asked.parts[0])
        held = found.members.get(self.user(asked).id, 0) if found else 0
        if found is None or held == 0:
            raise not_found("Project")
        if moved:
            if asked.method != "GET":
                raise refuse(405, "Non GET methods are not allowed for moved projects")
            rest = asked.path.removeprefix(f"{PREFIX}/projects/").partition("/")[2]
            location = f"{self.world.external_url}{PREFIX}/projects/{found.id}{f'/{rest}' if rest else ''}"
            raise Refusal(Answer(301, b"", {"Location": location, "Content-Type": "text/plain"}))
        if held < level or (found.archived and asked.method != "GET"):
            raise refuse(403, "403 Forbidden")
        return found

    def often(self, what: str) -> None:
        """Refuse what is done more than five times a minute."""
        seen = self._seen[what]
        while seen and seen[0] <= time.time() - 60:
            seen.popleft()
        if len(seen) >= TESTS_PER_MINUTE:
            raise Refusal(as_json({"message": TOO_MANY}, 429, {"Retry-After": "60"}))  # which older ones leave out
        seen.append(time.time())


def shown_user(api: Api, user: User) -> Json:
    """Return a user as everything else shows it."""
    return {
        "id": user.id,
        "username": user.username,
        "name": user.username.title(),
        "state": "active",
        "locked": False,
        "avatar_url": None,
        "web_url": f"{api.world.external_url}/{user.username}",
    }


def merge_request_of(project: Project, asked: Asked) -> MergeRequest:
    """Return the merge request that a request names after its project."""
    found = project.merge_requests.get(number(asked.parts[1]))
    if found is None:
        raise not_found()
    return found


def find(known: dict[int, T], asked: Asked) -> T:
    """Return what a request names by number after its project."""
    found = known.get(number(asked.parts[1]))
    if found is None:
        raise not_found()
    return found


def number(text: str) -> int:
    """Return a number, or one that nothing has."""
    return int(text) if text.isdigit() else -1


def text(asked: Asked, name: str) -> str:
    """Return a text that must be given."""
    found = asked.body.get(name)
    if not isinstance(found, str) or not found:
        raise Refusal(as_json({"error": f"{name} is missing"}, 400))
    return found
