"""
The verbs of the API server, on plain JSON: the only thing in envprov that talks to Kubernetes.

Nothing here waits for anything, retries or holds back: queues do that, and the server's own priority and fairness.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, Self

from envprov.domain.errors import Expired, Unavailable
from envprov.kube.connection import Connection, find_access
from envprov.kube.errors import from_status
from envprov.kube.resources import PODS, SELF_SUBJECT_ACCESS_REVIEWS, SERVICES, Resource, lookup
from envprov.kube.transport import ANYTHING, JSON, Limits, Request, Transport

__all__ = ["Connection", "KubeClient", "Listing", "Object", "WatchEvent"]

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

PAGE_SIZE = 500
TIMEOUT = timedelta(seconds=10)
RESPONSE_LIMIT_BYTES = 64 << 20
LOG_LIMIT_BYTES = 1 << 20

Object = dict[str, Any]
Propagation = Literal["Background", "Foreground", "Orphan"]


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


class KubeClient:
    """
    One API server. Made by ``connect``; may be shared by all tasks of one event loop.

    All verbs raise what ``kube.errors`` translates: Conflict, Throttled, Unavailable, Expired, Forbidden, Invalid.

    Args:
        transport: Sends the requests.
        namespace: What the kubeconfig's context or the pod calls its own namespace.
        user: As whom the requests are made; empty for ourselves.

    """

    def __init__(self, transport: Transport, namespace: str, *, user: str = "") -> None:
        self._transport = transport
        self._user = user
        self.namespace = namespace

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        connection: Connection,
        *,
        timeout: timedelta = TIMEOUT,  # noqa: ASYNC109 - the limit of each request to come, not of this call
        response_limit_bytes: int = RESPONSE_LIMIT_BYTES,
    ) -> AsyncIterator[Self]:
        """
        Open a client, and close it afterwards. Nothing is asked of the server yet.

        Args:
            connection: Which cluster.
            timeout: For each request, from the wait for a connection to the last byte.
            response_limit_bytes: For each answer, unpacked, and each page of a list.

        Raises:
            ConfigError: What is wrong with the kubeconfig, or where one was looked for.

        """
        access = await find_access(connection)
        transport = Transport(access, Limits(timeout.total_seconds(), response_limit_bytes))
        try:
            yield cls(transport, access.namespace)
        finally:
            await transport.close()

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._transport.server

    def acting_as(self, user: str) -> KubeClient:
        """
        This client with the rights of somebody else; it ends with this one.

        Args:
            user: Name of a user, such as ``system:serviceaccount:env-a:envprov-installer``; we need the verb
                ``impersonate`` on it. A ServiceAccount also gets its groups.

        Source: https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/

        """
        return KubeClient(self._transport, self.namespace, user=user)

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, metadata_only: bool = False
    ) -> Object | None:
        """
        Read one object, as the last write left it.

        Args:
            resource: Its kind.
            name: Its name.
            namespace: None for a kind outside namespaces.
            metadata_only: Whether the object has no more than ``metadata``.

        Returns:
            The object, or None if it is not there. A kind that is not served is an error, not None.

        """
        doing = _doing("get", resource, name, namespace)
        found: Object | None = await self._send(
            Request(
                doing,
                "GET",
                resource.path(namespace, name),
                accept=METADATA if metadata_only else JSON,
                absent_ok=True,
            )
        )
        return found

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

    async def apply(self, manifest: Mapping[str, Any], *, manager: str, force: bool = True) -> Object:
        """
        Make an object say what a manifest says: server-side apply.

        Args:
            manifest: Only the fields that the manager has an opinion on; names kind and object.
            manager: Field manager. Fields that it applied before and now leaves out are removed.
            force: Whether to take fields that another manager owns.

        Returns:
            The object as it now is.

        Raises:
            Conflict: Another manager owns a field and *force* is false; or the namespace has gone.

        Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/

        """
        return await self._apply(manifest, None, {"fieldManager": manager, "force": str(force).lower()})

    async def rehearse(self, resource: Resource, manifest: Mapping[str, Any], *, manager: str) -> None:
        """
        Ask whether an object would be taken as a manifest says, without storing anything: a dry run of an apply.

        Args:
            resource: Its kind, any that the server serves.
            manifest: The object, with its name, and its namespace if it has one.
            manager: Field manager, with the rights of the one who would apply it.

        Raises:
            Forbidden: Rights, the quota or an admission policy are against it.
            Invalid: A field is wrong; or an admission webhook supports no dry run.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run

        """
        name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace")
        doing = _doing("try", resource, name, namespace)
        query = {"fieldManager": manager, "force": "true", "dryRun": "All"}
        path = resource.path(namespace, name)
        await self._send(Request(doing, "PATCH", path, query, manifest, content_type=APPLY_PATCH))

    async def apply_status(self, manifest: Mapping[str, Any], *, manager: str) -> Object:
        """
        Make the status of an object say what a manifest says.

        Args:
            manifest: Names kind and object, and holds ``status``.
            manager: Field manager; takes fields that another one owns.

        Returns:
            The object as it now is.

        Raises:
            Conflict: The object is gone, or ``metadata.uid`` or ``metadata.resourceVersion`` is given and differs.

        """
        return await self._apply(manifest, "status", {"fieldManager": manager, "force": "true"})

    async def create(self, manifest: Mapping[str, Any], *, manager: str) -> Object:
        """
        Create an object that must not be there yet.

        Args:
            manifest: Whole; names kind and object, or has ``metadata.generateName``.
            manager: Field manager.

        Returns:
            The object as it now is.

        Raises:
            Conflict: The name exists or is being deleted, or the namespace is.

        """
        resource, name, namespace = _identify(manifest)
        doing = _doing("create", resource, name, namespace)
        created: Object = await self._send(
            Request(doing, "POST", resource.path(namespace), {"fieldManager": manager}, manifest)
        )
        return created

    async def merge_patch(  # noqa: PLR0913 - the address of an object is three of them
        self,
        resource: Resource,
        name: str,
        namespace: str | None,
        body: Mapping[str, Any],
        *,
        manager: str,
        subresource: str | None = None,
    ) -> Object:
        """
        Change some fields of an object, or take them away.

        Args:
            resource: Its kind.
            name: Its name.
            namespace: None for a kind outside namespaces.
            body: JSON merge patch; ``metadata.resourceVersion`` and ``metadata.uid`` in it are preconditions.
            manager: Field manager.
            subresource: Such as ``status``.

        Returns:
            The object as it now is.

        Raises:
            Conflict: A precondition failed, or the object is gone.

        Source: https://www.rfc-editor.org/rfc/rfc7396

        """
        doing = _doing("patch", resource, name, namespace, subresource)
        path = resource.path(namespace, name, subresource)
        patched: Object = await self._send(
            Request(doing, "PATCH", path, {"fieldManager": manager}, body, content_type=MERGE_PATCH)
        )
        return patched

    async def delete(  # noqa: PLR0913 - the address of an object is three of them
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str,
        resource_version: str | None = None,
        propagation: Propagation = "Background",
        grace_period: int | None = None,
        dry_run: bool = False,
    ) -> bool:
        """
        Ask for the deletion of exactly this object, never of whatever has its name.

        Args:
            resource: Its kind.
            name: Its name.
            namespace: None for a kind outside namespaces.
            uid: Precondition.
            resource_version: Precondition: nobody has changed it since.
            propagation: What happens to what it owns.
            grace_period: Seconds; None is the kind's own.
            dry_run: Whether the server goes through all of it, admission policies too, and leaves the object alone.

        Returns:
            False if there is no object of that name. True says that the deletion has begun, not that it is over.

        Raises:
            Conflict: Another object has the name now, or the object has changed.
            ValueError: No UID is given.

        """
        if not uid:
            raise ValueError(f"{_doing('delete', resource, name, namespace)}: never without a UID")
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": preconditions,
            "propagationPolicy": propagation,
        }
        if grace_period is not None:
            body["gracePeriodSeconds"] = grace_period
        if dry_run:
            body["dryRun"] = ["All"]
        doing = _doing("try to delete" if dry_run else "delete", resource, name, namespace)
        path = resource.path(namespace, name)
        return await self._send(Request(doing, "DELETE", path, body=body, absent_ok=True)) is not None

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
        doing = _doing("watch", resource, None, namespace)
        accept = METADATA if metadata_only else JSON
        request = Request(doing, "GET", resource.path(namespace), query, accept=accept)
        async with self._transport.stream(replace(request, user=self._user), timeout_seconds) as lines:
            if on_open is not None:
                on_open()
            async for line in lines:
                yield _event(doing, line)

    async def get_raw(self, path: str, *, accept: str = f"{JSON}, {ANYTHING}") -> Any:  # noqa: ANN401 - what it serves
        """
        Read any path.

        Args:
            path: Absolute, quoted, such as ``/version`` or ``/readyz``.
            accept: Media types that are asked for.

        Returns:
            Parsed JSON, or text.

        """
        return await self._send(Request(f"get {path}", "GET", path, accept=accept))

    async def post_to_service(self, namespace: str, service: str, path: str, body: Mapping[str, Any]) -> int:
        """
        Ask a Service of the cluster something, through the API server.

        Args:
            namespace: Of the Service.
            service: Its name; ``http:NAME:PORT`` where scheme or port must be said.
            path: Of the request, without a slash at its beginning.
            body: Sent as JSON.

        Returns:
            HTTP status of the answer. The API server's own refusals are among them, such as 403, 404 and 503.

        Raises:
            Unavailable: There is no answer.

        """
        where = SERVICES.path(namespace, service, "proxy")
        request = Request(f"ask Service {namespace}/{service}", "POST", f"{where}/{path}", body=body)
        return await self._transport.status(replace(request, user=self._user))

    async def pod_log(  # noqa: PLR0913 - the selection is the API's own
        self,
        name: str,
        namespace: str,
        *,
        tail_lines: int,
        container: str | None = None,
        previous: bool = False,
        limit_bytes: int = LOG_LIMIT_BYTES,
    ) -> str:
        """
        Read the end of a container's log.

        Args:
            name: The pod.
            namespace: Its namespace.
            tail_lines: How many lines at most.
            container: None is the only one there is.
            previous: Whether the log before the last restart is meant.
            limit_bytes: How much of these lines, from their beginning.

        Raises:
            Invalid: The container has not started, or must be named.
            Conflict: The pod is gone.

        """
        query = {"tailLines": str(tail_lines), "limitBytes": str(limit_bytes)}
        if previous:
            query["previous"] = "true"
        if container is not None:
            query["container"] = container
        doing = _doing("read", PODS, name, namespace, "log")
        return str(await self._send(Request(doing, "GET", PODS.path(namespace, name, "log"), query, accept=ANYTHING)))

    async def can_i(  # noqa: PLR0913, PLR0917 - the attributes of a review, in its order
        self,
        verb: str,
        group: str,
        resource: str,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> bool:
        """
        Ask whether we may do something.

        Args:
            verb: As in RBAC.
            group: API group; the core group is the empty string.
            resource: Plural, as in RBAC.
            namespace: None for all namespaces, or for none.
            name: None for every name.
            subresource: Such as ``status``.

        """
        asked = {"verb": verb, "group": group, "resource": resource}
        asked |= {"namespace": namespace or "", "name": name or "", "subresource": subresource or ""}
        review = SELF_SUBJECT_ACCESS_REVIEWS
        body = {"apiVersion": review.api_version, "kind": review.kind, "spec": {"resourceAttributes": asked}}
        answer = await self._send(Request(f"ask whether we may {verb}", "POST", review.path(), body=body))
        return bool(answer["status"]["allowed"])

    async def _apply(self, manifest: Mapping[str, Any], subresource: str | None, query: Mapping[str, str]) -> Object:
        resource, name, namespace = _identify(manifest)
        if not name:
            raise ValueError(f"apply {resource.kind}: the manifest names no object")
        doing = _doing("apply", resource, name, namespace, subresource)
        path = resource.path(namespace, name, subresource)
        applied: Object = await self._send(Request(doing, "PATCH", path, query, manifest, content_type=APPLY_PATCH))
        return applied

    async def _send(self, request: Request) -> Any:  # noqa: ANN401 - JSON or text, as the server says
        return await self._transport.send(replace(request, user=self._user))

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
            page = await self._send(replace(request, query=query))
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
    doing, path = _doing("list", resource, None, namespace), resource.path(namespace)
    accept = METADATA_LIST if metadata_only else JSON
    return Request(doing, "GET", path, {"limit": str(PAGE_SIZE), **query}, accept=accept)


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in given.items() if value}


def _identify(manifest: Mapping[str, Any]) -> tuple[Resource, str | None, str | None]:
    metadata = manifest["metadata"]
    return lookup(manifest["apiVersion"], manifest["kind"]), metadata.get("name"), metadata.get("namespace")


def _doing(
    verb: str, resource: Resource, name: str | None, namespace: str | None, subresource: str | None = None
) -> str:
    where = "/".join(part for part in (namespace, name, subresource) if part)
    return f"{verb} {resource.kind} {where}" if where else f"{verb} {resource.kind}"
