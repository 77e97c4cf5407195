"""
The ledger of the budgets in the API server: one ConfigMap, of which each change names the version it was decided on.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from envprov.domain.errors import Conflict, Invalid
from envprov.domain.ledger import CLUSTER_BUDGET, ENTRY_BYTES, LIMIT_BYTES, NAME, RECORD_KIND, Entry, decode, fullness
from envprov.domain.objects import MANAGED_BY, MANAGER
from envprov.domain.policies import RECORD
from envprov.kube.client import KubeClient
from envprov.kube.informer import Informer
from envprov.kube.record import CONTROLLER
from envprov.kube.resources import CONFIG_MAPS

Manifest = Mapping[str, Any]

LABELS: Mapping[str, str] = {MANAGED_BY: MANAGER, RECORD: RECORD_KIND}


class Ledger:
    """
    The ledger of one control namespace. Of one process: its own writes are seen before the cache shows them.

    Args:
        client: Speaks to the API server.
        namespace: The control namespace.
        cache: Follows the ConfigMaps that are records; None for somebody who only looks once, after ``refresh``.

    """

    def __init__(self, client: KubeClient, namespace: str, cache: Informer | None = None) -> None:
        self._client = client
        self._namespace = namespace
        self._cache = cache
        self._written: Manifest | None = None
        self._decoded: dict[str, Entry | None] = {}
        if cache is not None:
            cache.on_change(self._saw)

    def entries(self) -> dict[str, Entry]:
        """What each environment has been given, by its name."""
        data = _data(self._newest())
        known = self._decoded
        self._decoded = {text: known[text] if text in known else decode(text) for text in data.values()}
        return {name: entry for name, text in data.items() if (entry := self._decoded[text]) is not None}

    def names(self) -> frozenset[str]:
        """The environments that are in it, though nobody can read what they were given."""
        return frozenset(_data(self._newest()))

    def cluster_budget(self) -> dict[str, str] | None:
        """The budget of the cluster that it says the controller goes by; None if it says none."""
        live = self._newest()
        said = (live["metadata"].get("annotations") or {}).get(CLUSTER_BUDGET) if live else None
        try:
            return {str(name): str(value) for name, value in json.loads(said).items()} if said else None
        except (ValueError, AttributeError):
            return None

    async def refresh(self) -> None:
        """Read it live."""
        self._written = await self._client.get(CONFIG_MAPS, NAME, self._namespace)

    @property
    def is_full(self) -> bool:
        """Whether it may be that no further entry fits into it."""
        return fullness(_data(self._newest())) > LIMIT_BYTES - ENTRY_BYTES

    async def put(self, name: str, entry: Entry) -> None:
        """
        Give an environment something, if the ledger is as it was last seen.

        Args:
            name: Of the Environment.
            entry: What it is given, instead of what it had.

        Raises:
            Conflict: Somebody wrote in between: refresh, and decide again.
            Invalid: No more environments fit into one ledger.

        """
        text = entry.encode()
        if fullness({**_data(self._newest()), name: text}) > LIMIT_BYTES:
            raise Invalid(
                f"ConfigMap {NAME} in namespace {self._namespace} is full with {len(self.names())} environments; take "
                "some down, or give projects a control namespace of their own with another installation"
            )
        await self._write({"data": {name: text}})

    async def remove(self, name: str) -> None:
        """
        Take an environment out, if the ledger is as it was last seen.

        Raises:
            Conflict: Somebody wrote in between.

        """
        await self._write({"data": {name: None}})

    async def say_cluster_budget(self, budget: Mapping[str, str]) -> None:
        """
        Write down what budget of the cluster the controller goes by, for whoever asks.

        Raises:
            Conflict: Somebody wrote in between.

        """
        said = json.dumps(dict(budget), sort_keys=True) if budget else None
        await self._write({"metadata": {"annotations": {CLUSTER_BUDGET: said}}})

    async def _write(self, change: Mapping[str, Any]) -> None:
        live = self._newest()
        if live is None:
            self._written = await self._client.create(self._new(change), manager=CONTROLLER)
            return
        versions = {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
        # Caches find it by its labels, so one that somebody has taken off is put on again.
        body = {**change, "metadata": {**change.get("metadata", {}), **versions, "labels": dict(LABELS)}}
        self._written = await self._client.merge_patch(CONFIG_MAPS, NAME, self._namespace, body, manager=CONTROLLER)

    def _new(self, change: Mapping[str, Any]) -> dict[str, Any]:
        notes = {key: value for key, value in change.get("metadata", {}).get("annotations", {}).items() if value}
        return {
            "apiVersion": CONFIG_MAPS.api_version,
            "kind": CONFIG_MAPS.kind,
            "metadata": {
                "name": NAME,
                "namespace": self._namespace,
                "labels": dict(LABELS),
                **({"annotations": notes} if notes else {}),
            },
            "data": {key: value for key, value in change.get("data", {}).items() if value is not None},
        }

    def _newest(self) -> Manifest | None:
        cached = self._cache.get(NAME, self._namespace) if self._cache is not None else None
        if cached is None or self._written is None:
            return cached or self._written
        return max(cached, self._written, key=lambda one: int(one["metadata"]["resourceVersion"]))

    def _saw(self, manifest: Manifest) -> None:
        """Forget what we wrote once the cache has it, or the object is gone."""
        if manifest["metadata"]["name"] != NAME or self._cache is None or self._written is None:
            return
        shown, version = self._cache.get(NAME, self._namespace), int(self._written["metadata"]["resourceVersion"])
        seen = shown or manifest
        if int(seen["metadata"]["resourceVersion"]) >= version:
            self._written = None


def _data(manifest: Manifest | None) -> Mapping[str, str]:
    return (manifest or {}).get("data") or {}


async def with_ledger(ledger: Ledger, write: Callable[[], Awaitable[None]], *, tries: int) -> None:
    """
    Decide and write, again and again while others write in between.

    Args:
        ledger: Read again before each further try.
        write: Decides on the ledger as it then is, and writes or does not.
        tries: How often.

    Raises:
        Conflict: Others were faster each time.

    """
    for _ in range(tries - 1):
        try:
            return await write()
        except Conflict:
            await ledger.refresh()
    return await write()
