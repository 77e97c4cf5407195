"""The last run of the cleanup, as a ConfigMap beside the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.cleanup_run import CleanupRun
from envprov.domain.objects import MANAGED_BY, MANAGER
from envprov.domain.policies import RECORD
from envprov.kube.client import KubeClient
from envprov.kube.resources import CONFIG_MAPS

NAME = "cleanup"
"""Of the ConfigMap, and the kind of record that it is."""
WRITER = "envprov-cleanup"


@dataclass(frozen=True)
class CleanupRuns:
    """
    Where a cleanup says how it ended.

    Attributes:
        client: Speaks to the API server.
        namespace: Control namespace.

    """

    client: KubeClient
    namespace: str

    async def last(self) -> CleanupRun | None:
        """The last run that is on record and can be read."""
        return run_of(await self.client.get(CONFIG_MAPS, NAME, self.namespace))

    async def put(self, run: CleanupRun) -> None:
        """Put a run on record, in place of the last one."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": NAME,
                "namespace": self.namespace,
                "labels": {MANAGED_BY: MANAGER, RECORD: NAME},
            },
            "data": run.encode(),
        }
        await self.client.apply(body, manager=WRITER)


def run_of(manifest: Mapping[str, Any] | None) -> CleanupRun | None:
    """The run that a ConfigMap tells of, or None."""
    return None if manifest is None else CleanupRun.decode(manifest.get("data") or {})
