"""Answers, as GitLab words them, and its pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote, urlencode

from tests.gitlab.world import Json, User, World

DEFAULT_PER_PAGE = 20
MOST_PER_PAGE = 100

T = TypeVar("T")


@dataclass
class Asked:
    """A request to the API."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Json
    user: User | None = None
    parts: tuple[str, ...] = ()

    def with_query(self, **query: str) -> Asked:
        return Asked(self.method, self.path, self.query | query, self.headers, self.body, self.user, self.parts)


@dataclass
class Answer:
    """An answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def entries(self) -> list[Json]:
        given: list[Json] = json.loads(self.body)
        return given


class Refusal(Exception):
    """An answer that ends a request."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def as_json(given: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": "application/json", **(headers or {})})


def message(status: int, said: object) -> Answer:
    return as_json({"message": said}, status)


def refuse(status: int, said: object) -> Refusal:
    return Refusal(message(status, said))


def not_found(what: str = "") -> Refusal:
    return refuse(404, f"404 {what} Not Found" if what else "404 Not found")


def page(label: str) -> bytes:
    return f"<!DOCTYPE html><html><head><title>{label}</title></head><body><h1>{label}</h1></body></html>".encode()


def html(status: int, label: str) -> Answer:
    return Answer(status, page(label), {"Content-Type": "text/html; charset=utf-8"})


def with_etag(asked: Asked, answer: Answer) -> Answer:
    """Say "not modified" as Rack does: without a body, and with all headers that are not about one."""
    if asked.method != "GET" or answer.status != 200 or "Content-Disposition" in answer.headers:
        return answer
    answer.headers["ETag"] = f'W/"{hashlib.md5(answer.body).hexdigest()}"'  # noqa: S324 - as Rack does
    if asked.headers.get("if-none-match") == answer.headers["ETag"]:
        kept = {name: value for name, value in answer.headers.items() if name != "Content-Type"}
        return Answer(304, b"", kept)
    return answer


def paged(world: World, asked: Asked, found: Sequence[T], present: Callable[[T], Json]) -> Answer:
    """Offset paging: with totals, and links to all sides."""
    size, number = _size(asked), max(1, int(asked.query.get("page") or 1))
    shown = found[(number - 1) * size : number * size]
    total, pages = len(found), max(1, -(-len(found) // size))
    following = number + 1 if number < pages else None
    if world.settings.old_first_page and number == 1:
        pages, following = total // size + 1, 2
    links = [(number - 1, "prev")] if number > 1 else []
    links += [(following, "next")] if following else []
    links += [(1, "first"), (pages, "last")]
    headers = {
        "X-Per-Page": str(size),
        "X-Page": str(number),
        "X-Next-Page": str(following or ""),
        "X-Prev-Page": str(number - 1) if number > 1 else "",
        "X-Total": str(total),
        "X-Total-Pages": str(pages),
        "Link": ", ".join(f'<{_url(world, asked, page=str(to))}>; rel="{rel}"' for to, rel in links),
    }
    return as_json([present(one) for one in shown], headers=headers)


def keyset(
    world: World, asked: Asked, found: Sequence[T], name: Callable[[T], str], present: Callable[[T], Json]
) -> Answer:
    """Keyset paging: no totals, and a next page whenever this one is full and not the last."""
    size, after = _size(asked), asked.query.get("page_token")
    rest = [one for one in found if after is None or name(one).encode() > after.encode()]
    shown = rest[:size]
    headers = {}
    if len(shown) == size and (len(rest) > size or world.settings.old_first_page):
        headers["Link"] = f'<{_url(world, asked, page_token=name(shown[-1]))}>; rel="next"'
    return as_json([present(one) for one in shown], headers=headers)


def _size(asked: Asked) -> int:
    return min(MOST_PER_PAGE, max(1, int(asked.query.get("per_page") or DEFAULT_PER_PAGE)))


def _url(world: World, asked: Asked, **query: str) -> str:
    given = {"id": asked.parts[0] if asked.parts else ""} | asked.query | query
    return f"{world.external_url}{asked.path}?{urlencode(sorted(given.items()), quote_via=quote)}"
