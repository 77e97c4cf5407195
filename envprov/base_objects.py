"""The namespace of an environment and what stands in it before any release does, from the caches and live."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain import objects
from envprov.domain.desired import Desired, Identity
from envprov.domain.environment import BRANCH
from envprov.domain.observed import Key, NamespaceSeen, NamespaceState
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.informer import Informer
from envprov.kube.resources import Resource
from envprov.watched import BASE_KINDS, BY_NAMESPACE

Manifest = Mapping[str, Any]

OURS = f"{objects.MANAGED_BY}={objects.MANAGER}"


@dataclass(frozen=True)
class Ghosts:
    """
    What was found in a namespace that is new.

    Attributes:
        found: What is older than the namespace, by name.
        secrets: Metadata of all its Secrets.

    """

    found: tuple[str, ...]
    secrets: tuple[Manifest, ...]


@dataclass(frozen=True)
class BaseObjects:
    """
    Reads namespaces and base objects for the controller.

    Attributes:
        client: Speaks to the API server.
        caches: A synced informer for namespaces, and one for each base kind with an index of the namespace.

    """

    client: KubeClient
    caches: Mapping[Resource, Informer]

    async def namespace(self, identity: Identity, fresh: Mapping[Key, Manifest]) -> NamespaceSeen:
        """The namespace as the newer of cache and own writes (*fresh*) has it."""
        namespace = _newest(
            self.caches[resources.NAMESPACES].get(identity.namespace), fresh.get(("Namespace", identity.namespace))
        )
        if namespace is None or not _bears_our_label(namespace):
            # A namespace that lost its label has left the cache; only the API server knows.
            return await self.live_namespace(identity)
        return _seen(identity, namespace)

    async def live_namespace(self, identity: Identity) -> NamespaceSeen:
        """The namespace as the last write left it."""
        return _seen(identity, await self.client.get(resources.NAMESPACES, identity.namespace))

    def cached(self, identity: Identity, fresh: Mapping[Key, Manifest]) -> dict[Key, Manifest]:
        """Base objects as the newer of cache and own writes (*fresh*) has them."""
        cached = {
            (resource.kind, item["metadata"]["name"]): item
            for resource in BASE_KINDS
            for item in self.caches[resource].by_index(BY_NAMESPACE, identity.namespace)
        }
        for key, written in fresh.items():
            if key[0] in objects.API_VERSIONS:
                cached[key] = _newest(cached.get(key), written) or written
        return cached

    async def originals(self, desired: Desired) -> dict[Key, Manifest]:
        """Secrets that are to be copied, as they are at their source."""
        found = await asyncio.gather(
            *(self.client.get(resources.SECRETS, source.name, source.namespace) for source in desired.secrets)
        )
        return {
            (source.namespace, source.name): original
            for source, original in zip(desired.secrets, found, strict=True)
            if original is not None
        }

    async def ghosts(self, seen: NamespaceSeen) -> Ghosts:
        """Objects older than their namespace: what a force-finalised one leaves behind comes back with its old UID."""
        metadata = seen.manifest["metadata"]
        kinds = (resources.SERVICE_ACCOUNTS, resources.SECRETS, resources.ROLE_BINDINGS)
        listings = await asyncio.gather(
            *(self.client.list(kind, metadata["name"], metadata_only=True) for kind in kinds)
        )
        found = tuple(
            f"{kind.kind} {item['metadata']['name']} (uid {item['metadata']['uid']})"
            for kind, listing in zip(kinds, listings, strict=True)
            for item in listing.items
            if item["metadata"]["creationTimestamp"] < metadata["creationTimestamp"]
        )
        return Ghosts(found, tuple(listings[kinds.index(resources.SECRETS)].items))

    async def copies(self, desired: Desired) -> dict[Key, Manifest]:
        """Secrets that we copied: those that are wanted as they are, others as the server's cache has them."""
        namespace = desired.identity.namespace
        names = [source.name for source in desired.secrets]
        known, wanted = await asyncio.gather(
            self.client.list(resources.SECRETS, namespace, label_selector=OURS, may_be_stale=True),
            asyncio.gather(*(self.client.get(resources.SECRETS, name, namespace) for name in names)),
        )
        copies: dict[Key, Manifest] = {("Secret", item["metadata"]["name"]): item for item in known.items}
        for name, item in zip(names, wanted, strict=True):
            copies.pop(("Secret", name), None)
            if item is not None:
                copies["Secret", name] = item
        return copies


def _seen(identity: Identity, namespace: Manifest | None) -> NamespaceSeen:
    if namespace is None:
        return NamespaceSeen(NamespaceState.MISSING)
    metadata = namespace["metadata"]
    notes = metadata.get("annotations", {})
    if notes.get(objects.OWNER) != identity.owner or notes.get(BRANCH) != identity.branch:
        return NamespaceSeen(NamespaceState.FOREIGN, namespace)
    if "deletionTimestamp" in metadata:
        return NamespaceSeen(NamespaceState.TERMINATING, namespace)
    return NamespaceSeen(NamespaceState.OURS, namespace)


def _newest(one: Manifest | None, other: Manifest | None) -> Manifest | None:
    if one is None or other is None:
        return one or other
    versions = (int(item["metadata"]["resourceVersion"]) for item in (one, other))
    return one if next(versions) >= next(versions) else other


def _bears_our_label(namespace: Manifest) -> bool:
    return bool(namespace["metadata"].get("labels", {}).get(objects.MANAGED_BY) == objects.MANAGER)
