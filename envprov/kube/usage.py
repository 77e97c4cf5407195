"""
The usage graph, read from the API server: complete listings, page by page, each fault in words.

Whatever cannot be read is a fault of the graph and never an exception: who decides sees that something is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from envprov.domain.claims import SOURCES, TOKEN_TYPE, Collector
from envprov.domain.custom import Custom
from envprov.domain.errors import EnvprovError, Expired, Forbidden, Invalid, Unavailable
from envprov.domain.release import SECRET_TYPE
from envprov.domain.usage import Usage
from envprov.kube.client import KubeClient, Object
from envprov.kube.collections import PAGE_SIZE
from envprov.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES, SECRETS, Resource, lookup
from envprov.kube.rights import can_i

AT_ONCE = 4
"""Listings at the same time."""
LARGE_PAGE = 50
"""Objects of a page of CustomResourceDefinitions and custom resources: they may be large."""
SMALL_PAGE = 5
"""The same at the second try: an answer has a limit, and one object may have 1.5 MiB."""
AGGREGATED = "envprov.io/aggregate-to-guard"
"""Label of ClusterRoles whose rights the controller gets too."""
TOKENS = f"type={TOKEN_TYPE}"
RELEASES = f"type={SECRET_TYPE}"
NAMED = 10
"""How many names a message has."""

T = TypeVar("T")


class Release(Protocol):
    """A release of Helm, as far as it is of interest here."""

    @property
    def accounts(self) -> tuple[Object, ...]:
        """The ServiceAccounts in its manifest."""


Decode = Callable[[Mapping[str, Any]], Release]
"""Reads one of Helm's Secrets; raises Invalid for one that cannot be read. Called in a thread."""


@dataclass
class _Waiting:
    """A pass that has not begun, and those who wait for it."""

    namespaces: set[str] = field(default_factory=set)
    waiters: int = 0
    task: asyncio.Task[Usage] | None = None


@dataclass(frozen=True)
class _Revision:
    """One of Helm's Secrets, by its metadata."""

    secret: str
    namespace: str
    release: str
    version: int
    status: str
    identity: tuple[str, str]
    """UID and resourceVersion."""


class UsageReader:
    """
    Reads who uses which ServiceAccount, in the whole cluster.

    Args:
        client: Lists; what it may not list becomes a fault of the graph.
        decode: Reads Helm's Secrets.
        now: Clock; aware.

    """

    def __init__(self, client: KubeClient, decode: Decode, *, now: Callable[[], datetime] | None = None) -> None:
        self._client = client
        self._decode = decode
        self._now = now or (lambda: datetime.now(UTC))
        self._running = asyncio.Lock()
        self._next: _Waiting | None = None
        self._decoded: dict[tuple[str, str], tuple[Object, ...] | str] = {}

    async def read(self, secrets_in: frozenset[str] = frozenset()) -> Usage:
        """
        Read the graph anew; never a pass that had begun before this call.

        Calls that arrive while a pass is running share the one after it.

        Args:
            secrets_in: Namespaces whose Secrets are looked at although we may not list all Secrets of the cluster:
                tokens and Helm releases are in there. Those of all others are a note then.

        Returns:
            The graph. Whatever could not be read is a fault in it, never an exception.

        """
        waiting = self._next
        if waiting is None:
            waiting = self._next = _Waiting()
            waiting.task = asyncio.create_task(self._take_turn(waiting), name="usage")
        waiting.namespaces |= secrets_in
        waiting.waiters += 1
        assert waiting.task is not None  # noqa: S101 - for mypy
        try:
            return await asyncio.shield(waiting.task)
        finally:
            waiting.waiters -= 1
            if not waiting.waiters and not waiting.task.done():
                waiting.task.cancel()
                if self._next is waiting:
                    self._next = None

    async def _take_turn(self, waiting: _Waiting) -> Usage:
        async with self._running:
            self._next = None
            reading = _Reading(self._client, Collector(self._now()), self._decode, self._decoded)
            usage = await reading.run(frozenset(waiting.namespaces))
            self._decoded = reading.decoded
            return usage


class _Reading:
    """One pass."""

    def __init__(
        self,
        client: KubeClient,
        collector: Collector,
        decode: Decode,
        known: Mapping[tuple[str, str], tuple[Object, ...] | str],
    ) -> None:
        self.decoded: dict[tuple[str, str], tuple[Object, ...] | str] = {}
        """What Helm's Secrets hold, or why they cannot be read; they hardly ever change."""
        self._client = client
        self._collector = collector
        self._decode = decode
        self._known = known
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._faults: list[str] = []
        self._notes: list[str] = []

    async def run(self, namespaces: frozenset[str]) -> Usage:
        built_in = [lookup(*source) for source in SOURCES]
        async with asyncio.TaskGroup() as group:
            for resource in built_in:
                group.create_task(self._read_built_in(resource))
            group.create_task(self._read_secrets(namespaces))
        async with asyncio.TaskGroup() as group:
            for custom in self._collector.customs:
                group.create_task(self._read_custom(custom))
        return self._collector.finish(sorted(self._faults), sorted(self._notes))

    async def _read_built_in(self, resource: Resource) -> None:
        def take(items: Iterable[Object]) -> None:
            self._collector.add(resource.kind, items)

        size = LARGE_PAGE if resource is CUSTOM_RESOURCE_DEFINITIONS else PAGE_SIZE
        try:
            await self._list(resource, take, size=size)
        except Forbidden as error:
            self._faults.append(f"{error}; apply the manifests of this version of envprov again")
        except EnvprovError as error:
            self._faults.append(f"{error}; it is tried again with the next look")

    async def _read_custom(self, custom: Custom) -> None:
        resource = Resource(custom.api_version, custom.kind, custom.plural, custom.namespaced)

        def take(items: Iterable[Object]) -> None:
            self._collector.add_custom(custom, items)

        try:
            await self._list(resource, take, size=LARGE_PAGE)
        except Forbidden as error:
            self._faults.append(
                f"{error}; custom resources of this kind name ServiceAccounts: make a ClusterRole with the label "
                f'{AGGREGATED}: "true" and the rule apiGroups: [{resource.group}], resources: [{resource.plural}], '
                f"verbs: [list]"
            )
        except EnvprovError as error:
            if not await self._is_gone(custom):
                self._faults.append(
                    f"{error}; custom resources of this kind name ServiceAccounts: repair what serves them, the "
                    f"conversion webhook for instance, or delete CustomResourceDefinition "
                    f"{resource.plural}.{resource.group}"
                )

    async def _is_gone(self, custom: Custom) -> bool:
        """Whether the kind went away after the definitions were listed: then there are no objects of it."""
        name = f"{custom.plural}.{custom.api_version.partition('/')[0]}"
        try:
            found = await self._client.list(
                CUSTOM_RESOURCE_DEFINITIONS, field_selector=f"metadata.name={name}", metadata_only=True
            )
        except EnvprovError:
            return False
        return not found.items

    async def _list(self, resource: Resource, take: Callable[[Iterable[Object]], None], *, size: int) -> None:
        async with self._slots:
            try:
                await self._take_pages(resource, take, size)
            except (Expired, Unavailable) as error:
                # The moment of a slow list was forgotten, or the answer was cut off, or too large.
                again = size if isinstance(error, Expired) else max(SMALL_PAGE, size // 10)
                await self._take_pages(resource, take, again)

    async def _take_pages(self, resource: Resource, take: Callable[[Iterable[Object]], None], size: int) -> None:
        async with aclosing(self._client.pages(resource, size=size)) as pages:
            async for page in pages:
                take(page.items)

    # --- Secrets

    async def _read_secrets(self, namespaces: frozenset[str]) -> None:
        try:
            everywhere = await can_i(self._client, "list", "", "secrets")
        except EnvprovError as error:
            self._faults.append(f"{error}; it is tried again with the next look")
            return
        if everywhere:
            await self._read_secrets_of(None)
            return
        where = _names(namespaces) if namespaces else "no namespace"
        self._notes.append(
            f"Secrets were looked at in {where} only: envprov may not list those of the whole cluster. Helm releases "
            "and stored tokens elsewhere that have to do with a ServiceAccount are not seen"
        )
        async with asyncio.TaskGroup() as group:
            for namespace in namespaces:
                group.create_task(self._read_secrets_of(namespace))

    async def _read_secrets_of(self, namespace: str | None) -> None:
        async with self._slots:
            try:
                await self._read_tokens(namespace)
                await self._read_releases(namespace)
            except EnvprovError as error:
                if namespace is None:
                    self._faults.append(f"{error}; it is tried again with the next look")
                elif not await self._is_ending(namespace):
                    remedy = (
                        f"grant the controller list of secrets in Namespace {namespace}"
                        if isinstance(error, Forbidden)
                        else "it is tried again with the next look"
                    )
                    self._faults.append(f"{error}; {remedy}")

    async def _is_ending(self, namespace: str) -> bool:
        """Whether a Namespace is going, and with it our rights there and the Secrets themselves."""
        try:
            found = await self._client.get(NAMESPACES, namespace, metadata_only=True)
        except EnvprovError:
            return False
        return found is None or "deletionTimestamp" in found["metadata"]

    async def _read_tokens(self, namespace: str | None) -> None:
        async def read() -> None:
            async for items in self._secrets(namespace, TOKENS):
                for home in {item["metadata"]["namespace"] for item in items}:
                    here = [item for item in items if item["metadata"]["namespace"] == home]
                    self._collector.add_secrets(home, here)

        await _twice(read)

    async def _read_releases(self, namespace: str | None) -> None:
        async def read() -> list[_Revision]:
            found = [_revision(item) async for items in self._secrets(namespace, RELEASES) for item in items]
            return [revision for revision in found if revision is not None]

        releases: dict[tuple[str, str], list[_Revision]] = {}
        for revision in await _twice(read):
            releases.setdefault((revision.namespace, revision.release), []).append(revision)
        for (home, name), revisions in releases.items():
            accounts: list[Object] = []
            for revision in _current(revisions):
                held = await self._accounts_of(revision)
                accounts += (account for account in held if account not in accounts)
            if accounts:
                self._collector.add_release(home, name, accounts)

    async def _accounts_of(self, revision: _Revision) -> tuple[Object, ...]:
        held = self._known.get(revision.identity)
        if held is None:
            # Not get: the right to list Secrets is enough, and includes to read them.
            named = f"metadata.name={revision.secret}"
            found = await self._client.list(SECRETS, revision.namespace, field_selector=named)
            if not found.items:
                return ()
            try:
                held = (await asyncio.to_thread(self._decode, found.items[0])).accounts
            except Invalid as error:
                held = str(error)
        self.decoded[revision.identity] = held
        if isinstance(held, str):
            # No fault: Helm itself can do nothing with it, least of all delete what it may have held, and everybody
            # who may write a Secret could stop the whole guard.
            self._notes.append(held)
            return ()
        return held

    async def _secrets(self, namespace: str | None, selector: str) -> AsyncIterator[tuple[Object, ...]]:
        pages = self._client.pages(SECRETS, namespace, field_selector=selector, metadata_only=True)
        async with aclosing(pages) as every:
            async for page in every:
                yield page.items


async def _twice(read: Callable[[], Awaitable[T]]) -> T:
    try:
        return await read()
    except (Expired, Unavailable):
        return await read()


def _revision(secret: Object) -> _Revision | None:
    metadata = secret["metadata"]
    labels = metadata.get("labels") or {}
    try:
        version = int(labels["version"])
    except (KeyError, ValueError):
        return None
    return _Revision(
        secret=metadata["name"],
        namespace=metadata["namespace"],
        release=labels.get("name", ""),
        version=version,
        status=labels.get("status", ""),
        identity=(metadata["uid"], metadata["resourceVersion"]),
    )


def _current(revisions: list[_Revision]) -> list[_Revision]:
    """The newest revision, and the one that is deployed if that is another; none of a release that has ended."""
    ordered = sorted(revisions, key=lambda revision: revision.version, reverse=True)
    if ordered[0].status == "uninstalled":
        return []
    deployed = [revision for revision in ordered[1:] if revision.status == "deployed"]
    return [ordered[0], *deployed[:1]]


def _names(namespaces: Iterable[str]) -> str:
    ordered = sorted(namespaces)
    more = f" and {len(ordered) - NAMED} more" if len(ordered) > NAMED else ""
    return f"{', '.join(ordered[:NAMED])}{more}"
