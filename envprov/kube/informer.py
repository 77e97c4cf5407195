"""
A cache of one collection that follows the API server: list, watch from there, and list again when that is lost.

Handlers hear that an object may have changed, never how: they compute a key, and whoever serves it looks for itself.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import structlog

from envprov.domain.errors import EnvprovError, Throttled, Unavailable
from envprov.kube.client import KubeClient
from envprov.kube.collections import WatchEvent
from envprov.kube.resources import Resource
from envprov.kube.store import Index, Key, Object, Store, key_of

log = structlog.get_logger("envprov.kube")

BASE_SECONDS = 0.1
CAP_SECONDS = 30.0
WATCH_SECONDS = 300
"""The server ends a watch after this long, and a new one goes on from there."""
STEADY_SECONDS = 5.0
"""An attempt that was answered and lived this long begins a new count of failures."""
RESUMES = 3
"""A watch that fails this often in a row is not resumed again: its moment may lie in a future the server has lost."""
SICK_SECONDS = 30.0

Handler = Callable[[Object], None]
Transform = Callable[[dict[str, Any]], Object | None]


class Informer:
    """
    The objects of one collection, as the server last showed them.

    What it returns is what it stores, not a copy: nobody may change it. All of it belongs to one event loop.

    Args:
        client: Where from.
        resource: Their kind.
        namespace: None for all namespaces.
        label_selector: In the API's syntax.
        field_selector: In the API's syntax.
        metadata_only: Whether to ask for no more than ``metadata``.
        transform: Gives what to keep of an object, with its name and namespace; None if it is not ours. A change
            outside of what is kept is no change.
        indexes: By name, for ``by_index``; they see what *transform* kept.

    """

    def __init__(  # noqa: PLR0913 - the selection is the API's own
        self,
        client: KubeClient,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        metadata_only: bool = False,
        transform: Transform | None = None,
        indexes: Mapping[str, Index] | None = None,
    ) -> None:
        self.resource = resource
        self.synced = asyncio.Event()
        """Set once the collection has been read whole; stays set."""
        self.last_contact: float | None = None
        """When the server last answered, in the event loop's time."""
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._metadata_only = metadata_only
        self._transform = transform
        self._store = Store(indexes or {})
        self._handlers: list[Handler] = []
        self._waiters: dict[Key, set[asyncio.Event]] = {}
        self._version: str | None = None
        self._failures = 0
        self._failing_since: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether the cache is whole and has not been cut off from the server for long."""
        since = self._failing_since
        return self.synced.is_set() and (since is None or _now() - since < SICK_SECONDS)

    def on_change(self, handler: Handler) -> None:
        """
        Call a handler for each object that appears, changes or vanishes, and now for each that is there.

        Args:
            handler: Gets the object, or its last known state when it has vanished. Must be quick. One that raises is
                logged; the others are called all the same.

        """
        self._handlers.append(handler)
        for found in self._store.items():
            self._call(handler, found)

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None. Before ``synced`` None means nothing."""
        return self._store.get((namespace or "", name))

    def items(self) -> list[Object]:
        """All objects."""
        return self._store.items()

    def by_index(self, index: str, value: str) -> list[Object]:
        """The objects that an index gives for a value; KeyError if there is no such index."""
        return self._store.by_index(index, value)

    async def wait_for(
        self, name: str, namespace: str | None, predicate: Callable[[Object | None], bool]
    ) -> Object | None:
        """
        Wait until an object is as somebody wants it.

        Args:
            name: Its name.
            namespace: None for a kind outside namespaces.
            predicate: Sees the object, or None when there is none. A state that lasts less than a turn of the event
                loop may pass unseen.

        Returns:
            What satisfied the predicate; at once if it does already and the cache is synced.

        """
        key = (namespace or "", name)
        changed = asyncio.Event()
        self._waiters.setdefault(key, set()).add(changed)
        try:
            await self.synced.wait()
            while not predicate(found := self._store.get(key)):
                changed.clear()
                await changed.wait()
            return found
        finally:
            self._waiters[key].discard(changed)
            if not self._waiters[key]:
                del self._waiters[key]

    async def run(self) -> None:
        """Follow the server until cancelled, whatever happens to it or to us."""
        while True:
            started = _now()
            try:
                if self._version is None:
                    await self._list()
                await self._watch(self._version or "")
                error: Exception | None = None
            except EnvprovError as fault:
                error = fault
                self._note_failure(started)
                if not isinstance(fault, Unavailable | Throttled) or self._failures > RESUMES:
                    self._version = None
                log.info("informer lost touch", kind=self.resource.kind, error=str(fault), failures=self._failures)
            except Exception as bug:
                # In a transform or an index: the cache fails closed, and aloud, but does not end.
                error = bug
                self._note_failure(started)
                self._version = None
                log.exception("informer failed", kind=self.resource.kind, failures=self._failures)
            await asyncio.sleep(self._pause(error, started))

    async def _list(self) -> None:
        listing = await self._client.list(
            self.resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
        )
        kept = [one for item in listing.items if (one := self._keep(item)) is not None]
        for key in self._store.keys() - {key_of(one) for one in kept}:
            self._drop(key)
        for one in kept:
            self._put(one)
        self._version = listing.resource_version
        self._touch()
        self.synced.set()

    async def _watch(self, version: str) -> None:
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=version,
            timeout_seconds=WATCH_SECONDS,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            metadata_only=self._metadata_only,
            on_open=self._touch,
        )
        async with aclosing(events):
            async for event in events:
                self._take(event)

    def _take(self, event: WatchEvent) -> None:
        if event.type in {"ADDED", "MODIFIED", "DELETED"}:
            one = self._keep(event.object) if event.type != "DELETED" else None
            if one is None:
                self._drop(key_of(event.object))
            else:
                self._put(one)
        self._version = event.object["metadata"]["resourceVersion"]
        self._failures = 0
        self._touch()

    def _keep(self, found: dict[str, Any]) -> Object | None:
        return found if self._transform is None else self._transform(found)

    def _put(self, one: Object) -> None:
        # Told at once: were an index to raise at a later object, nobody would ever hear of this one.
        if self._store.put(one) != one:
            self._tell(one)

    def _drop(self, key: Key) -> None:
        last = self._store.drop(key)
        if last is not None:
            self._tell(last)

    def _tell(self, one: Object) -> None:
        for handler in self._handlers:
            self._call(handler, one)
        for waiter in self._waiters.get(key_of(one), ()):
            waiter.set()

    def _call(self, handler: Handler, one: Object) -> None:
        try:
            handler(one)
        except Exception:
            log.exception("handler failed", kind=self.resource.kind, key="/".join(key_of(one)))

    def _touch(self) -> None:
        self.last_contact = _now()
        self._failing_since = None

    def _note_failure(self, started: float) -> None:
        answered = self.last_contact is not None and self.last_contact >= started
        self._failures = 1 if answered and _now() - started > STEADY_SECONDS else self._failures + 1
        if self._failing_since is None:
            self._failing_since = _now()

    def _pause(self, error: Exception | None, started: float) -> float:
        """Seconds until the next attempt. A server that ends watches at once is not asked in a tight loop either."""
        if error is None:
            if _now() - started > STEADY_SECONDS:
                self._failures = 0
                return 0.0
            self._failures += 1
        asked = getattr(error, "retry_after", None) or 0.0
        backoff = min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(self._failures, 32))
        return asked + random.uniform(backoff / 2, backoff)  # noqa: S311 - jitter, not a secret


def _now() -> float:
    return asyncio.get_running_loop().time()
