"""
The verbs of the API server, on plain JSON: the only way from envprov to Kubernetes.

Those for single objects stand here, those for whole collections in ``kube.collections``. Nothing waits for anything,
retries or holds back: queues do that, and the server's own priority and fairness.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal, Self

from envprov.kube.collections import METADATA, Collections, Object, naming
from envprov.kube.connection import Connection, find_access
from envprov.kube.resources import Resource, lookup
from envprov.kube.transport import ANYTHING, JSON, Limits, Request, Transport

__all__ = ["Connection", "KubeClient", "Object"]

APPLY_PATCH = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"

TIMEOUT = timedelta(seconds=10)
RESPONSE_LIMIT_BYTES = 64 << 20

Propagation = Literal["Background", "Foreground", "Orphan"]


class KubeClient(Collections):
    """
    One API server. Made by ``connect``; may be shared by all tasks of one event loop.

    All verbs raise what ``kube.errors`` translates: Conflict, Throttled, Unavailable, Expired, Forbidden, Invalid.

    Args:
        transport: Sends the requests.
        namespace: What the kubeconfig's context or the pod calls its own namespace.
        user: As whom the requests are made; empty for ourselves.

    """

    def __init__(self, transport: Transport, namespace: str, *, user: str = "") -> None:
        super().__init__(transport, user=user)
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
        doing = naming("get", resource, name, namespace)
        found: Object | None = await self.send(
            Request(
                doing,
                "GET",
                resource.path(namespace, name),
                accept=METADATA if metadata_only else JSON,
                absent_ok=True,
            )
        )
        return found

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
        doing = naming("try", resource, name, namespace)
        query = {"fieldManager": manager, "force": "true", "dryRun": "All"}
        path = resource.path(namespace, name)
        await self.send(Request(doing, "PATCH", path, query, manifest, content_type=APPLY_PATCH))

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
        doing = naming("create", resource, name, namespace)
        created: Object = await self.send(
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
        doing = naming("patch", resource, name, namespace, subresource)
        path = resource.path(namespace, name, subresource)
        patched: Object = await self.send(
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
            raise ValueError(f"{naming('delete', resource, name, namespace)}: never without a UID")
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
        doing = naming("try to delete" if dry_run else "delete", resource, name, namespace)
        path = resource.path(namespace, name)
        return await self.send(Request(doing, "DELETE", path, body=body, absent_ok=True)) is not None

    async def get_raw(self, path: str, *, accept: str = f"{JSON}, {ANYTHING}") -> Any:  # noqa: ANN401 - what it serves
        """
        Read any path.

        Args:
            path: Absolute, quoted, such as ``/version`` or ``/readyz``.
            accept: Media types that are asked for.

        Returns:
            Parsed JSON, or text.

        """
        return await self.send(Request(f"get {path}", "GET", path, accept=accept))

    async def _apply(self, manifest: Mapping[str, Any], subresource: str | None, query: Mapping[str, str]) -> Object:
        resource, name, namespace = _identify(manifest)
        if not name:
            raise ValueError(f"apply {resource.kind}: the manifest names no object")
        doing = naming("apply", resource, name, namespace, subresource)
        path = resource.path(namespace, name, subresource)
        applied: Object = await self.send(Request(doing, "PATCH", path, query, manifest, content_type=APPLY_PATCH))
        return applied


def _identify(manifest: Mapping[str, Any]) -> tuple[Resource, str | None, str | None]:
    metadata = manifest["metadata"]
    return lookup(manifest["apiVersion"], manifest["kind"]), metadata.get("name"), metadata.get("namespace")
