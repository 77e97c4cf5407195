"""The workloads of an environment: how they are, what of them sleeps, and how they are put to rest and woken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from envprov.domain.actions import QuietObject, RestWorkload
from envprov.domain.desired import Desired
from envprov.domain.health import Condition, Health, Workloads, health
from envprov.domain.release import Release, ReleaseState
from envprov.domain.sleep import Sleepers, remembers
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.informer import Informer
from envprov.kube.record import CONTROLLER
from envprov.kube.resources import Resource
from envprov.remains import live, workloads_of
from envprov.watched import BY_NAMESPACE, WORKLOAD_KINDS

Manifest = Mapping[str, Any]

SLEEP_MANAGER = "envprov-sleep"
"""Field manager of what is scaled to nothing and back, apart from everything else that we write."""
SLEEPING_KINDS = (resources.DEPLOYMENTS, resources.STATEFUL_SETS, resources.JOBS)
"""Watched kinds that remember what they were."""


@dataclass(frozen=True)
class LiveWorkloads:
    """
    The workloads of environments for the controller.

    Attributes:
        client: Speaks to the API server.
        caches: One synced informer for each kind of workload, with an index of the namespace.

    """

    client: KubeClient
    caches: Mapping[Resource, Informer]
    _landed: dict[str, int] = field(default_factory=dict, repr=False)
    """Revision of the release, by namespace, of which the caches have shown all that Helm made."""

    async def health(self, desired: Desired, release: Release, digest: str | None) -> Health | None:
        """How they are; None while the release is not the one with this digest."""
        if release.state is not ReleaseState.DEPLOYED or release.digest != digest:
            return None
        namespace = desired.identity.namespace
        found = {kind: tuple(self.caches[kind].by_index(BY_NAMESPACE, namespace)) for kind in WORKLOAD_KINDS}
        if self._landed.get(namespace) != release.revision:
            # The caches may not show yet what Helm has just made, and where nothing is, nothing is unhealthy.
            there = await live(self.client, namespace, WORKLOAD_KINDS)
            if all(_covers(found[kind], there[kind]) for kind in WORKLOAD_KINDS if kind is not resources.PODS):
                self._landed[namespace] = release.revision
            else:
                found = there
        workloads = workloads_of(found)
        told = health(workloads, desired.sizes)
        if told.condition is Condition.PROGRESSING:
            refusals = await self._refusals(namespace, workloads)
            return health(replace(workloads, refusals=refusals), desired.sizes)
        return told

    async def sleepers(self, desired: Desired) -> Sleepers | None:
        """What can be put to sleep and woken, read live; None if nothing is asleep or is to be."""
        namespace = desired.identity.namespace
        is_asked = desired.asleep or desired.slept
        if not is_asked and not any(
            remembers(item) for kind in SLEEPING_KINDS for item in self.caches[kind].by_index(BY_NAMESPACE, namespace)
        ):
            return None
        kinds = (
            *SLEEPING_KINDS,
            resources.DAEMON_SETS,
            resources.REPLICA_SETS,
            resources.REPLICATION_CONTROLLERS,
            resources.CRON_JOBS,
            resources.PODS,
        )
        found = await live(self.client, namespace, kinds)
        return Sleepers(
            deployments=found[resources.DEPLOYMENTS],
            stateful_sets=found[resources.STATEFUL_SETS],
            replica_sets=found[resources.REPLICA_SETS],
            replication_controllers=found[resources.REPLICATION_CONTROLLERS],
            daemon_sets=found[resources.DAEMON_SETS],
            cron_jobs=found[resources.CRON_JOBS],
            jobs=found[resources.JOBS],
            pods=found[resources.PODS],
        )

    async def quiet(self, action: QuietObject) -> None:
        """Let a workload end its pods, on the way down."""
        spec = {"suspend": True} if action.kind == "CronJob" else {"replicas": 0}
        body = {"metadata": {"uid": action.uid}, "spec": spec}
        resource = resources.lookup(action.api_version, action.kind)
        await self.client.merge_patch(resource, action.name, action.namespace, body, manager=CONTROLLER)

    async def rest(self, action: RestWorkload) -> None:
        """Put a workload to sleep or wake it, as a field manager of its own, so that an object tells who scaled it."""
        marks = {"uid": action.uid, "resourceVersion": action.resource_version}
        body = {**action.patch, "metadata": {**action.patch["metadata"], **marks}}
        resource = resources.lookup(action.api_version, action.kind)
        await self.client.merge_patch(resource, action.name, action.namespace, body, manager=SLEEP_MANAGER)
        self._landed.pop(action.namespace, None)  # the caches may not show it yet

    def forget(self, namespace: str) -> None:
        """Forget a namespace that goes."""
        self._landed.pop(namespace, None)

    async def _refusals(self, namespace: str, workloads: Workloads) -> tuple[str, ...]:
        """Why StatefulSets, DaemonSets and Jobs have no pods; Deployments say it themselves."""
        present = {
            item["metadata"]["uid"]
            for items in (workloads.stateful_sets, workloads.daemon_sets, workloads.jobs)
            for item in items
        }
        if not present:
            return ()
        events = await self.client.list(
            resources.EVENTS, namespace, field_selector="reason=FailedCreate", may_be_stale=True
        )
        about = (event for event in events.items if event.get("involvedObject", {}).get("uid") in present)
        return tuple(sorted({str(event.get("message", "")) for event in about}))


def _covers(cached: Iterable[Manifest], live: Iterable[Manifest]) -> bool:
    """Whether a cache has all the live objects, as far as their specs go."""
    seen = {item["metadata"]["uid"]: item["metadata"].get("generation", 0) for item in cached}
    return all(seen.get(item["metadata"]["uid"], -1) >= item["metadata"].get("generation", 0) for item in live)
