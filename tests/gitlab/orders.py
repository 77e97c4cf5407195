"""
Faults on demand: an order says which answers it is about, how many of them, and what becomes of them.

Some put another answer in the place of GitLab's, some spoil it, some break the connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from tests.gitlab.answers import Answer, Asked, as_json, html, message
from tests.gitlab.world import Json

Respond = Callable[[Asked], Answer]
FOREVER = -1


@dataclass
class Order:
    """
    What becomes of answers.

    Attributes:
        pattern: Searched for in method, path and query, such as ``GET /api/v4/projects/1``; the path is quoted.
        fault: A name in ``REPLACED``, ``SPOILED`` or ``BROKEN``.
        times: How many answers; below zero all of them.
        after: How many are left alone first.
        given: What the fault needs to know.

    """

    pattern: str
    fault: str
    times: int = 1
    after: int = 0
    given: Json = field(default_factory=dict)

    def takes(self, line: str) -> bool:
        if self.times == 0 or not re.search(self.pattern, line):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.times -= 1 if self.times > 0 else 0
        return True


def replaced(order: Order) -> Answer:
    """Return what stands in for GitLab's answer."""
    return _IN_PLACE[order.fault](order.given)


def _throttled(given: Json) -> Answer:
    headers = {"Content-Type": "text/plain"}
    if "retry_after" in given:
        headers["Retry-After"] = str(given["retry_after"])
    if "reset" in given:
        headers["RateLimit-Reset"] = str(given["reset"])
    return Answer(429, b"Retry later\n", headers)


def spoiled(order: Order, asked: Asked, answer: Answer, respond: Respond) -> Answer:
    """Return GitLab's answer after something has happened to it."""
    if order.fault == "skip_page":
        answer.headers["Link"] = _after_next(asked, answer, respond)
    elif order.fault in _HEADERS:
        answer.headers = _HEADERS[order.fault](order.given, answer)
    else:
        answer.body = _BODIES[order.fault](order.given, answer)
    return answer


def _insufficient_scope(_: Json) -> Answer:
    said = "The request requires higher privileges than provided by the access token."
    return as_json({"error": "insufficient_scope", "error_description": said, "scope": "api read_api"}, 403)


def _unavailable(given: Json) -> Answer:
    return Answer(503, b"", {"Content-Type": "text/plain", "Retry-After": str(given.get("retry_after", 7))})


def _redirect(given: Json) -> Answer:
    return Answer(302, b"", {"Content-Type": "text/html", "Location": given["location"]})


def _anything(given: Json) -> Answer:
    body: str = given.get("body", "")
    return Answer(int(given.get("status", 200)), body.encode(), dict(given.get("headers", {})))


BROKEN = frozenset({"hang", "reset", "cut", "drip"})
"""No answer for some seconds; none at all; half of the bytes that were promised; a byte at a time."""


def _without(answer: Answer, names: Iterable[str]) -> dict[str, str]:
    gone = {name.lower() for name in names}
    return {name: value for name, value in answer.headers.items() if name.lower() not in gone}


def _encoded(given: object) -> bytes:
    return json.dumps(given).encode()


def _link(answer: Answer) -> str | None:
    found = re.search(r'<([^>]*)>; rel="next"', answer.headers.get("Link", ""))
    return found[1] if found else None


def _after_next(asked: Asked, answer: Answer, respond: Respond) -> str:
    """Return the link that the next page would have had, so that nobody ever asks for that page."""
    following = _link(answer)
    if following is None:
        return answer.headers.get("Link", "")
    query = dict(parse_qsl(urlsplit(following).query))
    asked = asked.with_query(**query)
    asked.headers = {name: value for name, value in asked.headers.items() if name != "if-none-match"}
    return respond(asked).headers.get("Link", "")


_IN_PLACE: dict[str, Callable[[Json], Answer]] = {
    "401": lambda _: message(401, "401 Unauthorized"),
    "403": lambda _: message(403, "403 Forbidden"),
    "scope": _insufficient_scope,
    "404_project": lambda _: message(404, "404 Project Not Found"),
    "404_branch": lambda _: message(404, "404 Branch Not Found"),
    "404_proxy": lambda _: html(404, "404 Not Found"),
    "500": lambda _: message(500, "500 Internal Server Error"),
    "502": lambda _: html(502, "GitLab is not responding"),
    "503": _unavailable,
    "html": lambda _: html(200, "Sign in"),
    "empty": lambda _: as_json([]),
    "redirect": _redirect,
    "429": _throttled,
    "answer": _anything,
}

_HEADERS: dict[str, Callable[[Json, Answer], dict[str, str]]] = {
    "ends_early": lambda _, answer: _without(answer, ["Link", "X-Next-Page"]),
    "wrong_total": lambda given, answer: answer.headers | {"X-Total": str(given.get("total", 7777))},
    "next_elsewhere": lambda given, answer: answer.headers | {"Link": f'<{given["location"]}>; rel="next"'},
    "strip": lambda given, answer: _without(answer, given["headers"]),
}

_BODIES: dict[str, Callable[[Json, Answer], bytes]] = {
    "truncated": lambda _, answer: answer.body[: len(answer.body) // 2],
    "half": lambda _, answer: _encoded(answer.entries[: len(answer.entries) // 2]),
    "twice": lambda _, answer: _encoded([*answer.entries[:-1], answer.entries[0]]),
    "entry": lambda given, answer: _encoded([answer.entries[0] | given["entry"], *answer.entries[1:]]),
    "fields": lambda given, answer: _encoded(json.loads(answer.body) | given["fields"]),
    "huge": lambda given, answer: answer.body[:-1] + b" " * int(given["bytes"]) + answer.body[-1:],
}

REPLACED = frozenset(_IN_PLACE)
SPOILED = frozenset({"skip_page", *_HEADERS, *_BODIES})
