"""
Scaling an environment to nothing and back: which patch puts an object to sleep, and which wakes it.

One patch both remembers what the object was and scales it, so that nothing is lost whenever we may end: what an object
was stands on the object itself. An object that remembers nothing has not been put to sleep by us, and is not woken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.actions import Rest, RestWorkload
from envprov.domain.environment import GROUP

Manifest = Mapping[str, Any]
Patch = dict[str, Any]
"""A JSON merge patch without the object's address."""

REPLICAS = f"{GROUP}/replicas"
"""How many replicas an object had before it was put to sleep."""
SUSPENDED = f"{GROUP}/suspended-for-sleep"
"""That a Job or CronJob was suspended by us."""
CLAIMS = f"{GROUP}/claims-when-scaled"
"""What a StatefulSet would have done with its claims when it is scaled down."""
NOWHERE = f"{GROUP}/asleep"
"""Label of no node, which a DaemonSet that sleeps asks for."""

_COUNT = re.compile(r"[0-9]{1,9}")
_NAMED_PODS = 5


@dataclass(frozen=True)
class Sleepers:
    """What can be scaled to nothing, and the pods; read live, each without apiVersion and kind."""

    deployments: tuple[Manifest, ...] = ()
    stateful_sets: tuple[Manifest, ...] = ()
    replica_sets: tuple[Manifest, ...] = ()
    replication_controllers: tuple[Manifest, ...] = ()
    daemon_sets: tuple[Manifest, ...] = ()
    cron_jobs: tuple[Manifest, ...] = ()
    jobs: tuple[Manifest, ...] = ()
    pods: tuple[Manifest, ...] = ()


def put_down(sleepers: Sleepers) -> tuple[RestWorkload, ...]:
    """
    What must be done so that nothing runs.

    Returns:
        Nothing once it is done; again, when somebody has scaled something up.

    """
    return tuple(_each(sleepers, Rest.SLEEP))


def wake_up(sleepers: Sleepers) -> tuple[RestWorkload, ...]:
    """What must be done so that everything is as it was before it was put to sleep; nothing once it is done."""
    return tuple(_each(sleepers, Rest.WAKE))


def remembers(item: Manifest) -> bool:
    """Whether a Deployment, StatefulSet, ReplicaSet, ReplicationController, Job or CronJob was put to sleep."""
    notes = _notes(item)
    return REPLICAS in notes or SUSPENDED in notes


def still_running(sleepers: Sleepers) -> tuple[str, ...]:
    """Names of pods that belong to something that sleeps, and have not gone yet."""
    return tuple(name for name, is_ours in _running(sleepers) if is_ours)


def going_on(sleepers: Sleepers) -> str:
    """The pods that go on, in words; empty if there are none. Nothing could bring them back, or an operator would."""
    names = [name for name, is_ours in _running(sleepers) if not is_ours]
    if not names:
        return ""
    more = f" and {len(names) - _NAMED_PODS} more" if len(names) > _NAMED_PODS else ""
    return f"Pod {', '.join(names[:_NAMED_PODS])}{more}"


def _each(sleepers: Sleepers, rest: Rest) -> Iterator[RestWorkload]:
    kinds = (
        ("batch/v1", "CronJob", sleepers.cron_jobs, _sleep_suspended, _wake_suspended),
        ("batch/v1", "Job", sleepers.jobs, _sleep_job, _wake_suspended),
        ("apps/v1", "StatefulSet", sleepers.stateful_sets, _sleep_stateful, _wake_stateful),
        ("apps/v1", "Deployment", sleepers.deployments, _sleep_scaled, _wake_scaled),
        ("apps/v1", "ReplicaSet", sleepers.replica_sets, _sleep_scaled, _wake_scaled),
        ("v1", "ReplicationController", sleepers.replication_controllers, _sleep_scaled, _wake_scaled),
        ("apps/v1", "DaemonSet", sleepers.daemon_sets, _sleep_everywhere, _wake_everywhere),
    )
    for api_version, kind, items, sleep, wake in kinds:
        for item in items:
            patch = None if _is_left_alone(item) else (sleep if rest is Rest.SLEEP else wake)(item)
            if patch is not None:
                metadata = item["metadata"]
                yield RestWorkload(
                    rest=rest,
                    api_version=api_version,
                    kind=kind,
                    namespace=metadata["namespace"],
                    name=metadata["name"],
                    uid=metadata["uid"],
                    resource_version=metadata["resourceVersion"],
                    patch=patch,
                )


def _sleep_scaled(item: Manifest) -> Patch | None:
    """No replicas; one that its chart or a person has at none remembers nothing, and so stays there."""
    count = item["spec"].get("replicas", 1)
    return _patch({REPLICAS: str(count)}, {"replicas": 0}) if count > 0 else None


def _wake_scaled(item: Manifest) -> Patch | None:
    notes = _notes(item)
    if REPLICAS not in notes:
        return None
    # Somebody who scaled it up meanwhile has said something newer.
    spec = {"replicas": _count(notes[REPLICAS])} if item["spec"].get("replicas", 1) == 0 else {}
    return _patch({REPLICAS: None}, spec)


def _sleep_stateful(item: Manifest) -> Patch | None:
    """The same; its claims stay, also where they would be deleted with the pods that go."""
    patch = _sleep_scaled(item)
    policy = item["spec"].get("persistentVolumeClaimRetentionPolicy", {}).get("whenScaled", "Retain")
    if patch is None or policy == "Retain":
        return patch
    keep = {"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Retain"}}
    return _patch(patch["metadata"]["annotations"] | {CLAIMS: policy}, patch["spec"] | keep)


def _wake_stateful(item: Manifest) -> Patch | None:
    patch, notes = _wake_scaled(item), _notes(item)
    if patch is None or CLAIMS not in notes:
        return patch
    back = {"persistentVolumeClaimRetentionPolicy": {"whenScaled": notes[CLAIMS]}}
    return _patch(patch["metadata"]["annotations"] | {CLAIMS: None}, patch["spec"] | back)


def _sleep_everywhere(item: Manifest) -> Patch | None:
    """A DaemonSet cannot be scaled; it has no pods while it asks for nodes that there are none of."""
    return None if NOWHERE in _wanted_nodes(item) else _nodes("true")


def _wake_everywhere(item: Manifest) -> Patch | None:
    return _nodes(None) if NOWHERE in _wanted_nodes(item) else None


def _sleep_job(item: Manifest) -> Patch | None:
    """A Job in work loses its pods, and begins anew when it wakes."""
    return None if _is_over(item) else _sleep_suspended(item)


def _sleep_suspended(item: Manifest) -> Patch | None:
    """What its chart or a person has suspended remembers nothing, and so stays there."""
    return None if item["spec"].get("suspend") else _patch({SUSPENDED: "true"}, {"suspend": True})


def _wake_suspended(item: Manifest) -> Patch | None:
    return _patch({SUSPENDED: None}, {"suspend": False}) if SUSPENDED in _notes(item) else None


def _patch(annotations: Mapping[str, str | None], spec: Mapping[str, Any]) -> Patch:
    return {"metadata": {"annotations": dict(annotations)}, "spec": dict(spec)}


def _nodes(value: str | None) -> Patch:
    return _patch({}, {"template": {"spec": {"nodeSelector": {NOWHERE: value}}}})


def _wanted_nodes(item: Manifest) -> Mapping[str, str]:
    found: Mapping[str, str] = item["spec"].get("template", {}).get("spec", {}).get("nodeSelector") or {}
    return found


def _count(text: str) -> int:
    """Replicas as they were remembered; Kubernetes' own one, if somebody has edited them beyond reading."""
    return int(text) if _COUNT.fullmatch(text) else 1


def _is_left_alone(item: Manifest) -> bool:
    """Whether something else decides about it: a Deployment about its ReplicaSets, an operator about what it made."""
    if "deletionTimestamp" in item["metadata"]:
        return True
    owner = _controller(item)
    return owner is not None and owner.get("kind") != "CronJob"


def _is_over(job: Manifest) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(entry["type"] in {"Complete", "Failed"} and entry["status"] == "True" for entry in conditions)


def _running(sleepers: Sleepers) -> Iterable[tuple[str, bool]]:
    """Each pod that runs, and whether it belongs to something that sleeps."""
    sets = {item["metadata"]["uid"]: item for item in sleepers.replica_sets}
    resting = {
        item["metadata"]["uid"]
        for items in (
            sleepers.deployments,
            sleepers.stateful_sets,
            sleepers.replica_sets,
            sleepers.replication_controllers,
            sleepers.daemon_sets,
            sleepers.jobs,
        )
        for item in items
        if not _is_left_alone(item)
    }
    for pod in sorted(sleepers.pods, key=lambda item: str(item["metadata"]["name"])):
        if pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            continue
        owner = _controller(pod)
        above = _controller(sets[owner["uid"]]) if owner and owner["uid"] in sets else None
        uid = (above or owner or {}).get("uid")
        yield pod["metadata"]["name"], uid in resting or "deletionTimestamp" in pod["metadata"]


def _controller(item: Manifest) -> Mapping[str, Any] | None:
    owners = item["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def _notes(item: Manifest) -> Mapping[str, str]:
    found: Mapping[str, str] = item["metadata"].get("annotations") or {}
    return found
