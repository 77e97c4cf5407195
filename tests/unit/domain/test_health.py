"""Health: what the workloads say of themselves, in words."""

from __future__ import annotations

import pytest

from envprov.domain.health import Condition, Health, Workloads, explain_quota, health
from envprov.domain.sizes import DEFAULT_SIZES
from tests.unit.builders import Manifest, deployment, pod, workload

PROGRESSING, FAILED = Condition.PROGRESSING, Condition.FAILED

CPU = (
    'pods "web-7d4f" is forbidden: exceeded quota: envprov, requested: requests.cpu=2, used: requests.cpu=0, '
    "limited: requests.cpu=1"
)
CPU_SAID = "the quota of this environment is exceeded: 1 requests.cpu short (asks 2, 0 of 1 used); size M would fit"
TWO = (
    'pods "web-7d4f" is forbidden: exceeded quota: envprov, requested: requests.cpu=2,requests.memory=4Gi, '
    "used: requests.cpu=500m,requests.memory=512Mi, limited: requests.cpu=1,requests.memory=2Gi"
)


def stateful_set(*, wanted: int = 2, ready: int = 2, updated: int = 2, current: str = "r1") -> Manifest:
    status = {"readyReplicas": ready, "updatedReplicas": updated, "currentRevision": current, "updateRevision": "r1"}
    return workload("db", spec={"replicas": wanted}, status=status)


def daemon_set(*, wanted: int = 2, available: int = 2) -> Manifest:
    status = {"desiredNumberScheduled": wanted, "updatedNumberScheduled": available, "numberAvailable": available}
    return workload("agent", status=status)


def job(state: str = "", *, message: str = "", owner: str = "", suspend: bool = False) -> Manifest:
    conditions = [{"type": state, "status": "True", "message": message}] if state else []
    return workload("migrate", owner=owner, spec={"suspend": suspend}, status={"conditions": conditions})


def claim(phase: str = "Bound") -> Manifest:
    return workload("data", status={"phase": phase})


def unseen(item: Manifest) -> Manifest:
    return item | {"metadata": item["metadata"] | {"generation": 2}}


@pytest.mark.parametrize(
    "workloads",
    [
        pytest.param(Workloads(), id="nothing"),
        pytest.param(Workloads(deployments=(deployment(),)), id="Deployment with its pods"),
        pytest.param(Workloads(deployments=(deployment(wanted=0, available=0),)), id="Deployment scaled to nothing"),
        pytest.param(Workloads(deployments=(workload("web", spec={"replicas": 0}),)), id="Deployment that says little"),
        pytest.param(Workloads(stateful_sets=(stateful_set(),)), id="StatefulSet with its pods"),
        pytest.param(Workloads(daemon_sets=(daemon_set(),)), id="DaemonSet on its nodes"),
        pytest.param(Workloads(daemon_sets=(daemon_set(wanted=0, available=0),)), id="DaemonSet without nodes"),
        pytest.param(Workloads(jobs=(job("Complete"),)), id="Job complete"),
        pytest.param(Workloads(jobs=(job(suspend=True),)), id="Job suspended"),
        pytest.param(Workloads(jobs=(job(owner="CronJob"),)), id="Job of a CronJob at work"),
        pytest.param(Workloads(jobs=(job("Failed", owner="CronJob"),)), id="Job of a CronJob failed"),
        pytest.param(Workloads(claims=(claim(),), pods=(pod(claim="data"),)), id="claim bound"),
        pytest.param(Workloads(claims=(claim("Pending"),), pods=(pod(),)), id="claim that no pod mounts"),
        pytest.param(Workloads(refusals=(CPU,)), id="an old refusal of what is well now"),
    ],
)
def test_healthy(workloads: Workloads) -> None:
    assert health(workloads, DEFAULT_SIZES) == Health(Condition.HEALTHY)


@pytest.mark.parametrize(
    ("workloads", "expected"),
    [
        pytest.param(
            Workloads(deployments=(deployment(wanted=3, available=1),)),
            Health(PROGRESSING, ("Deployment web: 1 of 3 pods available",)),
            id="Deployment lacks pods",
        ),
        pytest.param(
            Workloads(deployments=(deployment(wanted=2, available=2, total=3),)),
            Health(PROGRESSING, ("Deployment web: 1 pods more than wanted",)),
            id="Deployment has old pods",
        ),
        pytest.param(
            Workloads(deployments=(unseen(deployment()),)),
            Health(PROGRESSING, ("Deployment web: not yet seen by its controller",)),
            id="Deployment not seen yet",
        ),
        pytest.param(
            Workloads(deployments=(workload("web"),)),
            Health(PROGRESSING, ("Deployment web: 0 of 1 pods available",)),
            id="Deployment without status",
        ),
        pytest.param(
            Workloads(stateful_sets=(stateful_set(ready=1),)),
            Health(PROGRESSING, ("StatefulSet db: 1 of 2 pods ready",)),
            id="StatefulSet lacks pods",
        ),
        pytest.param(
            Workloads(stateful_sets=(stateful_set(updated=1, current="r0"),)),
            Health(PROGRESSING, ("StatefulSet db: 1 of 2 pods ready",)),
            id="StatefulSet with old pods",
        ),
        pytest.param(
            Workloads(daemon_sets=(daemon_set(available=1),)),
            Health(PROGRESSING, ("DaemonSet agent: 1 of 2 pods available",)),
            id="DaemonSet lacks pods",
        ),
        pytest.param(Workloads(jobs=(job(),)), Health(PROGRESSING, ("Job migrate: not complete",)), id="Job at work"),
        pytest.param(
            Workloads(jobs=(job("Failed", message="BackoffLimitExceeded"),), deployments=(deployment(available=0),)),
            Health(FAILED, ("Deployment web: 0 of 1 pods available", "Job migrate failed: BackoffLimitExceeded")),
            id="Job failed, which is worse than what still starts",
        ),
        pytest.param(
            Workloads(claims=(claim("Pending"),), pods=(pod(claim="data"),)),
            Health(PROGRESSING, ("PersistentVolumeClaim data: Pending",)),
            id="claim that a pod waits for",
        ),
        pytest.param(
            Workloads(claims=(claim("Lost"),)),
            Health(FAILED, ("PersistentVolumeClaim data: its volume is lost",)),
            id="claim without volume",
        ),
        pytest.param(
            Workloads(deployments=(deployment(available=0, message=CPU),)),
            Health(Condition.QUOTA_EXCEEDED, (CPU_SAID,)),
            id="Deployment over quota",
        ),
        pytest.param(
            Workloads(
                stateful_sets=(stateful_set(ready=0),),
                refusals=(f"create Pod db-0 in StatefulSet db failed error: {CPU}",),
            ),
            Health(Condition.QUOTA_EXCEEDED, (CPU_SAID,)),
            id="StatefulSet over quota, told by an Event",
        ),
        pytest.param(
            Workloads(jobs=(job(),), refusals=(f"Error creating: {CPU}", f"Error creating: {CPU}")),
            Health(Condition.QUOTA_EXCEEDED, (CPU_SAID,)),
            id="Job over quota, told by two Events",
        ),
        pytest.param(
            Workloads(
                deployments=(
                    deployment(available=0, message='pods "web-1" is forbidden: violates PodSecurity\nand more'),
                )
            ),
            Health(
                PROGRESSING,
                ('pods "web-1" is forbidden: violates PodSecurity', "Deployment web: 0 of 1 pods available"),
            ),
            id="Deployment refused for another reason",
        ),
    ],
)
def test_not_well(workloads: Workloads, expected: Health) -> None:
    assert health(workloads, DEFAULT_SIZES) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(CPU, CPU_SAID, id="one resource"),
        pytest.param(
            TWO,
            "the quota of this environment is exceeded: 1500m requests.cpu short (asks 2, 500m of 1 used); "
            "2560Mi requests.memory short (asks 4Gi, 512Mi of 2Gi used); size L would fit",
            id="two resources",
        ),
        pytest.param(
            'pods "a" is forbidden: exceeded quota: envprov, requested: requests.memory=64Gi, '
            "used: requests.memory=1Gi, limited: requests.memory=2Gi",
            "the quota of this environment is exceeded: 63Gi requests.memory short (asks 64Gi, 1Gi of 2Gi used); "
            "no size is large enough",
            id="too large for all",
        ),
        pytest.param(
            'services "lb" is forbidden: exceeded quota: envprov, requested: services.loadbalancers=1, '
            "used: services.loadbalancers=0, limited: services.loadbalancers=0",
            "the quota of this environment is exceeded: 1 services.loadbalancers short (asks 1, 0 of 0 used); "
            "no size is large enough",
            id="in no size",
        ),
        pytest.param(
            "Error: exceeded quota: envprov, requested: pods=1, used: pods=15, limited: pods=15: try later",
            "the quota of this environment is exceeded: 1 pods short (asks 1, 15 of 15 used); size M would fit",
            id="in the middle of other words",
        ),
        pytest.param(
            "exceeded quota: envprov, requested: requests.memory=3e9, used: requests.memory=0, "
            "limited: requests.memory=2Gi",
            "the quota of this environment is exceeded: 852516352 requests.memory short (asks 3e9, 0 of 2Gi used); "
            "size M would fit",
            id="written with an exponent",
        ),
        pytest.param(
            "exceeded quota: envprov, requested: pods=many, used: pods=15, limited: pods=15",
            "the quota of this environment is exceeded: exceeded quota: envprov, requested: pods=many, used: pods=15, "
            "limited: pods=15",
            id="cannot be read",
        ),
        pytest.param("failed quota: envprov: must specify limits.memory for: c", None, id="another fault"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_refusal_in_words(message: str, expected: str | None) -> None:
    assert explain_quota(message, DEFAULT_SIZES) == expected
