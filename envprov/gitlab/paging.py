"""
Whole lists, or none: pages are followed to their end, counted, and remembered while GitLab says "not modified".

GitLab's own habits that must not be taken for faults: an old one announces a second page after a first that holds
everything (it says the total beside it); a keyset page announces a next one whenever it is full, also if none is left.

Source: https://docs.gitlab.com/api/rest/#pagination
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from envprov.domain.errors import ForgeUnreliable, Unavailable
from envprov.gitlab.errors import Answer
from envprov.gitlab.transport import Request, Transport, parsed

PER_PAGE = 100
ENTRIES_LIMIT = 20_000
MEMORY_ENTRIES = 100_000
"""Entries of remembered pages, some 50 MB at most."""

_NEXT = re.compile(r'<([^<>]*)>\s*;[^<]*?\brel="?next"?(?=[\s;,]|$)')
_API = "/api/v4/"
_PAGED = ("x-page", "x-per-page", "x-total")
_POSITIONS = ("page_token", "cursor", "page")

T = TypeVar("T")
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Listing(Generic[T]):
    """
    What is listed.

    Attributes:
        request: The first page, without its size.
        parse: Makes an entry from JSON; raises KeyError, TypeError or ValueError if it cannot.
        key: What no two entries share.
        keyset: Whether to ask for keyset paging. Its pages have no totals, so the total is asked for by itself.
        limit: Most entries.
        cut: Whether a longer list is cut there; otherwise it is an error.
        per_page: Entries of a full page.
        remember: Whether pages are kept for as long as they do not change; not where entries may be large.
        proven: Whether an answer without any header about pages, which GitLab always sends, is none. Keyset paging does
            without, for its total is asked for by itself.

    """

    request: Request
    parse: Callable[[Json], T]
    key: Callable[[T], Hashable]
    keyset: bool = False
    limit: int = ENTRIES_LIMIT
    cut: bool = False
    per_page: int = PER_PAGE
    remember: bool = True
    proven: bool = False


@dataclass(frozen=True)
class _Page(Generic[T]):
    entries: tuple[T, ...]
    position: tuple[str, str] | None
    total: int | None
    is_proven: bool = True


class Pager:
    """
    Reads lists.

    Args:
        transport: Sends the requests.

    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._host = urlsplit(transport.server).hostname or ""
        self._memory = _Memory()

    async def all(self, listing: Listing[T]) -> tuple[T, ...]:
        """
        Read a list to its end.

        Args:
            listing: What is listed.

        Returns:
            Everything, in GitLab's order; never a part of it, unless the listing is cut.

        Raises:
            ForgeUnreliable: Pages that do not fit together, an entry twice, or one that cannot be understood.
            Unavailable: It takes longer than the limit for listings.

        """
        doing = listing.request.doing
        try:
            async with asyncio.timeout(self._transport.listing_seconds):
                return await self._all(listing)
        except TimeoutError as error:
            seconds = self._transport.listing_seconds
            raise Unavailable(f"{doing}: the list was not read to its end in {seconds:g} s") from error

    async def _all(self, listing: Listing[T]) -> tuple[T, ...]:
        found, totals = await self._pages(listing)
        if listing.cut and len(found) >= listing.limit:
            return found[: listing.limit]
        if listing.keyset and not totals:
            return await self._counted(listing, found)
        if totals - {len(found)}:
            raise _uncounted(listing, len(found), totals)
        return found

    async def _counted(self, listing: Listing[T], found: tuple[T, ...]) -> tuple[T, ...]:
        """
        A list with as many entries as there are.

        Where branches come and go all the time, no count is of the moment of the list. A second list is good if it lies
        between the counts before and after it.
        """
        before = after = await self._count(listing)
        if len(found) != after:
            found, _ = await self._pages(listing)
            after = await self._count(listing)
        if min(before, after) <= len(found) <= max(before, after):
            return found
        raise _uncounted(listing, len(found), {before, after})

    async def _pages(self, listing: Listing[T]) -> tuple[tuple[T, ...], set[int]]:
        """Everything on all pages, and how much there is as they say."""
        doing = listing.request.doing
        query = {**listing.request.query, "per_page": str(listing.per_page)}
        request = replace(listing.request, query=query | ({"pagination": "keyset"} if listing.keyset else {}))
        found: dict[Hashable, T] = {}
        totals: set[int] = set()
        positions: set[tuple[str, str]] = set()
        position: tuple[str, str] | None = None
        while True:
            page = await self._page(listing, request if position is None else _at(request, position))
            if listing.proven and not page.is_proven:
                raise ForgeUnreliable(f"{doing}: nothing was said of pages; does a proxy answer, or drop X-Page?")
            totals |= set() if page.total is None else {page.total}
            _take(doing, listing, page, found)
            if len(found) > listing.limit and not listing.cut:
                raise ForgeUnreliable(f"{doing}: more than {listing.limit}")
            is_cut = listing.cut and len(found) >= listing.limit
            if is_cut or page.position is None or _is_all(listing, page, totals, len(found)):
                return tuple(found.values()), totals
            if page.position in positions:
                raise ForgeUnreliable(f"{doing}: its pages go in a circle")
            position = page.position
            positions.add(position)

    async def _count(self, listing: Listing[T]) -> int:
        page = await self._page(listing, replace(listing.request, query={**listing.request.query, "per_page": "1"}))
        if page.total is None:
            raise ForgeUnreliable(f"{listing.request.doing}: no total came; does a proxy before GitLab drop X-Total?")
        return page.total

    async def _page(self, listing: Listing[T], request: Request) -> _Page[T]:
        place = (request.path, tuple(sorted(request.query.items())))
        known = self._memory.get(place)
        if known is not None:
            etag, entries = known
            answer = await self._ask(replace(request, etag=etag))
            if answer.status == HTTPStatus.NOT_MODIFIED:
                page = _Page(entries, self._next(request, answer), _total(request.doing, answer))
                # The ETag is of the body alone. A full page may have got a successor, so its absence must be said.
                if page.position is not None or len(entries) < listing.per_page or "link" in answer.headers:
                    return page
                answer = await self._ask(request)
        else:
            answer = await self._ask(request)
        entries = _entries(listing, parsed(request.doing, answer))
        self._memory.put(place, answer.headers.get("etag") if listing.remember else None, entries)
        is_proven = any(name in answer.headers for name in _PAGED)
        return _Page(entries, self._next(request, answer), _total(request.doing, answer), is_proven)

    def _next(self, request: Request, answer: Answer) -> tuple[str, str] | None:
        """
        Where the next page begins.

        Only that is taken from the link; whatever it says, the token goes to the server of the settings alone.
        """
        doing, link = request.doing, _NEXT.search(answer.headers.get("link", ""))
        if link is None:
            following = answer.headers.get("x-next-page")
            return ("page", following) if following else None
        try:
            parts = urlsplit(link[1])
            host, given = parts.hostname or "", parse_qs(parts.query)
        except ValueError:
            raise ForgeUnreliable(f"{doing}: the link to the next page is no URL") from None
        if host != self._host:
            raise ForgeUnreliable(
                f"{doing}: the next page would be at {host[:100]!r}, which is not asked; gitlab.url must have the host "
                "that GitLab has in its external_url"
            )
        if not unquote(parts.path).endswith(_API + unquote(request.path).lstrip("/")):
            raise ForgeUnreliable(f"{doing}: the next page would be of something else")
        for name in _POSITIONS:
            if name in given:
                return name, given[name][-1]
        raise ForgeUnreliable(f"{doing}: the link to the next page says no position")

    async def _ask(self, request: Request) -> Answer:
        answer = await self._transport.send(request)
        if answer is None:
            raise ForgeUnreliable(f"{request.doing}: a list that is not there")
        return answer


class _Memory:
    """Pages that were read, those longest unused forgotten first."""

    def __init__(self) -> None:
        self._pages: OrderedDict[Hashable, tuple[str, tuple[Any, ...]]] = OrderedDict()
        self._entries = 0

    def get(self, place: Hashable) -> tuple[str, tuple[Any, ...]] | None:
        found = self._pages.get(place)
        if found is not None:
            self._pages.move_to_end(place)
        return found

    def put(self, place: Hashable, etag: str | None, entries: tuple[Any, ...]) -> None:
        _, old = self._pages.pop(place, ("", ()))
        self._entries -= len(old) + bool(old)
        if not etag:
            return
        self._pages[place] = (etag, entries)
        self._entries += len(entries) + 1
        while self._entries > MEMORY_ENTRIES:
            _, (_, gone) = self._pages.popitem(last=False)
            self._entries -= len(gone) + 1


def _entries(listing: Listing[T], given: object) -> tuple[T, ...]:
    doing = listing.request.doing
    if not isinstance(given, list):
        raise ForgeUnreliable(f"{doing}: the answer is no list")
    if len(given) > listing.per_page:
        raise ForgeUnreliable(f"{doing}: a page of {len(given)}, where {listing.per_page} were asked for")
    try:
        return tuple(listing.parse(one) for one in given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ForgeUnreliable(f"{doing}: an entry that cannot be understood") from error


def _take(doing: str, listing: Listing[T], page: _Page[T], found: dict[Hashable, T]) -> None:
    for entry in page.entries:
        key = listing.key(entry)
        if key in found:
            raise ForgeUnreliable(f"{doing}: {key!r} came twice; the list changed while it was read")
        found[key] = entry


def _is_all(listing: Listing[T], page: _Page[T], totals: set[int], count: int) -> bool:
    if len(page.entries) >= listing.per_page:
        return False
    if totals == {count}:
        return True
    raise ForgeUnreliable(f"{listing.request.doing}: a page of {len(page.entries)} and yet a next one")


def _uncounted(listing: Listing[T], count: int, totals: set[int]) -> ForgeUnreliable:
    said = ", ".join(str(total) for total in sorted(totals))
    return ForgeUnreliable(
        f"{listing.request.doing}: {count} came, GitLab counts {said}; it changed meanwhile or is broken"
    )


def _at(request: Request, position: tuple[str, str]) -> Request:
    return replace(request, query={**request.query, position[0]: position[1]})


def _total(doing: str, answer: Answer) -> int | None:
    given = answer.headers.get("x-total")
    if not given:
        return None
    if not given.isascii() or not given.isdigit():
        raise ForgeUnreliable(f"{doing}: a total that is no number")
    return int(given)
