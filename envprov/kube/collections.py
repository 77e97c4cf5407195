"""Whole collections of one API server, read and followed: lists in pages, and watches."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from envprov.domain.errors import Expired, Unavailable
from envprov.kube.errors import from_status
from envprov.kube.resources import Resource
from envprov.kube.transport import JSON, Request, Transport

METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

PAGE_SIZE = 500

Object = dict[str, Any]


@dataclass(frozen=True)
class Listing:
    """
    A whole collection at one moment.

    Attributes:
        items: Its objects; each says its ``apiVersion`` and ``kind``, as watched objects do.
        resource_version: The moment, for a watch to begin at.

    """

    items: tuple[Object, ...]
    resource_version: str


@dataclass(frozen=True)
class WatchEvent:
    """
    One line of a watch.

    Attributes:
        type: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``.
        object: The object as it now is, or last was; of a bookmark only ``metadata.resourceVersion`` counts.

    """

    type: str
    object: Object


class Collections:
    """
    The collections of one API server, as one user.

    Args:
        transport: Sends the requests.
        user: As whom the requests are made; empty for ourselves.

    """

    def __init__(self, transport: Transport, *, user: str = "") -> None:
        self._transport = transport
        self._user = user

    async def list(  # noqa: PLR0913 - the selection is the API's own
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        may_be_stale: bool = False,
    ) -> Listing:
        """
        Read a whole collection, as the last write left it, in pages.

        The server answers from its watch cache, and first waits until that has caught up: up to 100 ms when nothing
        of the kind has changed lately.

        Args:
            resource: Its kind.
            namespace: None for all namespaces.
            label_selector: In the API's syntax.
            field_selector: In the API's syntax.
            metadata_only: Whether items have no more than ``metadata``.
            may_be_stale: Whether the cache will do as it is; nothing is waited for then, and nothing may be decided
                that a later look could not mend.

        Returns:
            Everything there was at one moment; never a part of it.

        Raises:
            Expired: Reading took so long, twice, that the server forgot that moment.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks

        """
        query = _selectors(label_selector, field_selector)
        if may_be_stale:
            query["resourceVersion"] = "0"
        request = _listing(resource, namespace, query, metadata_only=metadata_only)
        try:
            return await self._whole(resource, request)
        except Expired:
            return await self._whole(resource, request)

    async def pages(  # noqa: PLR0913 - the selection is the API's own
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        size: int = PAGE_SIZE,
    ) -> AsyncGenerator[Listing, None]:
        """
        Read a whole collection, as the last write left it, without ever having all of it in memory.

        To be closed (``contextlib.aclosing``) by whoever leaves it early.

        Args:
            resource: Its kind.
            namespace: None for all namespaces.
            label_selector: In the API's syntax.
            field_selector: In the API's syntax.
            metadata_only: Whether items have no more than ``metadata``.
            size: How many objects a page has; fewer where they are large.

        Yields:
            Its pages in order, all of one moment. A collection that was not read to its end ends in an error.

        Raises:
            Expired: Reading took so long that the server forgot that moment: begin again.

        """
        query = {**_selectors(label_selector, field_selector), "limit": str(size)}
        async for page in self._pages(resource, _listing(resource, namespace, query, metadata_only=metadata_only)):
            yield page

    async def watch(  # noqa: PLR0913 - the selection is the API's own
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        timeout_seconds: int,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """
        Follow what happens to a collection after a moment.

        To be closed (``contextlib.aclosing``) by whoever leaves it early: it holds a connection.

        Args:
            resource: Its kind.
            namespace: None for all namespaces.
            resource_version: The moment, from a Listing or the last event.
            timeout_seconds: When the server ends the watch.
            label_selector: In the API's syntax.
            field_selector: In the API's syntax.
            metadata_only: Whether objects have no more than ``metadata``.
            on_open: Called once the server has accepted the watch; the first event may be long in coming.

        Yields:
            Events in order, bookmarks among them; ends quietly when the server ends it.

        Raises:
            Expired: The server has forgotten that moment: list again.
            Unavailable: The connection broke: go on from the last event.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes

        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
            **_selectors(label_selector, field_selector),
        }
        doing = naming("watch", resource, None, namespace)
        accept = METADATA if metadata_only else JSON
        request = Request(doing, "GET", resource.path(namespace), query, accept=accept)
        async with self._transport.stream(replace(request, user=self._user), timeout_seconds) as lines:
            if on_open is not None:
                on_open()
            async for line in lines:
                yield _event(doing, line)

    async def send(self, request: Request) -> Any:  # noqa: ANN401 - JSON or text, as the server says
        """Send a request of any kind, and read the whole answer."""
        return await self._transport.send(replace(request, user=self._user))

    async def status(self, request: Request) -> int:
        """Send a request of any kind, and return the HTTP status of the answer, whatever it is."""
        return await self._transport.status(replace(request, user=self._user))

    async def _whole(self, resource: Resource, request: Request) -> Listing:
        items: list[Object] = []
        version = ""
        async for page in self._pages(resource, request):
            items += page.items
            version = page.resource_version
        return Listing(tuple(items), version)

    async def _pages(self, resource: Resource, request: Request) -> AsyncGenerator[Listing, None]:
        query = dict(request.query)
        whole = request.accept == JSON
        while True:
            page = await self.send(replace(request, query=query))
            try:
                items = tuple(page.get("items") or ())
                version, token = page["metadata"]["resourceVersion"], page["metadata"].get("continue")
                if whole:
                    for item in items:
                        item |= {"apiVersion": resource.api_version, "kind": resource.kind}
            except (KeyError, TypeError, AttributeError) as error:
                raise Unavailable(f"{request.doing}: the answer is no list") from error
            yield Listing(items, version)
            if not token:
                return
            query["continue"] = token


def naming(
    verb: str, resource: Resource, name: str | None, namespace: str | None, subresource: str | None = None
) -> str:
    """What a request does, for messages: verb, kind and object."""
    where = "/".join(part for part in (namespace, name, subresource) if part)
    return f"{verb} {resource.kind} {where}" if where else f"{verb} {resource.kind}"


def _event(doing: str, line: bytes) -> WatchEvent:
    try:
        event = json.loads(line)
        kind, found = event["type"], event["object"]
    except (ValueError, TypeError, KeyError) as error:
        raise Unavailable(f"{doing}: an event cannot be understood") from error
    if kind == "ERROR":
        raise from_status(doing, int(found.get("code") or 0), found)
    return WatchEvent(kind, found)


def _listing(resource: Resource, namespace: str | None, query: Mapping[str, str], *, metadata_only: bool) -> Request:
    doing, path = naming("list", resource, None, namespace), resource.path(namespace)
    accept = METADATA_LIST if metadata_only else JSON
    return Request(doing, "GET", path, {"limit": str(PAGE_SIZE), **query}, accept=accept)


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in given.items() if value}
