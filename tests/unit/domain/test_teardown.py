"""The way down as a table: pods, release, volumes, namespace; nothing forced, nothing of others touched."""

from __future__ import annotations

import pytest

from envprov.domain.actions import DeleteNamespace, DeleteObject, QuietObject, UninstallRelease
from envprov.domain.environment import Step
from envprov.domain.health import Workloads
from envprov.domain.observed import Remains
from envprov.domain.release import ReleaseState
from envprov.domain.teardown import Descent, descend
from tests.unit.builders import (
    IDENTITY,
    NAMESPACE,
    SLUG,
    Manifest,
    foreign,
    going,
    held_by,
    missing,
    pod,
    pods,
    release,
    remains,
    terminating,
    workload,
)

GONE_SAYS_KUBERNETES = {
    "type": "NamespaceContentRemaining",
    "status": "False",
    "reason": "ContentRemoved",
    "message": "All content successfully removed",
}


def down(given: Remains) -> Descent:
    return descend(IDENTITY, given, account="envprov")


def words(descent: Descent) -> list[list[str]]:
    return [[str(action) for action in wave] for wave in descent.waves]


def running(name: str, owner: str = "") -> Manifest:
    return workload(name, owner=owner, spec={"replicas": 2})


# --- The order

WEB = running("web")
EVERYTHING = remains(
    workloads=Workloads(
        deployments=(WEB,), pods=(pod("web-1", owner="ReplicaSet"),), claims=(workload("data"), workload("logs"))
    ),
    balancers=(workload("lb"),),
    release=release(),
)
STILL = workload("web", spec={"replicas": 0})


@pytest.mark.parametrize(
    ("given", "step", "expected"),
    [
        pytest.param(EVERYTHING, Step.PLANNED, [["quiet Deployment web"]], id="all is there -> workloads stop"),
        pytest.param(
            remains(
                workloads=Workloads(deployments=(STILL,), pods=(going(pod("web-1", owner="ReplicaSet")),)),
                release=release(),
            ),
            Step.QUIESCED,
            [],
            id="pods are going -> wait, and leave the release alone",
        ),
        pytest.param(
            remains(workloads=Workloads(deployments=(STILL,), claims=(workload("data"),)), release=release()),
            Step.PODS_GONE,
            [[f"uninstall release {SLUG}"]],
            id="pods are gone -> uninstall",
        ),
        pytest.param(
            remains(workloads=Workloads(claims=(workload("data"),)), balancers=(workload("lb"),)),
            Step.RELEASE_GONE,
            [["delete Service lb", "delete PersistentVolumeClaim data"]],
            id="release is gone -> load balancers and volumes",
        ),
        pytest.param(
            remains(workloads=Workloads(claims=(going(workload("data")),))),
            Step.RELEASE_GONE,
            [[]],
            id="volume is going -> wait",
        ),
        pytest.param(
            remains(),
            Step.EXTERNAL_GONE,
            [[f"delete Namespace {NAMESPACE}"]],
            id="nothing outside is left -> namespace",
        ),
        pytest.param(Remains(terminating()), Step.RELEASED, [], id="namespace is going -> wait"),
        pytest.param(Remains(missing()), Step.NAMESPACE_GONE, [], id="namespace is gone -> over"),
        pytest.param(Remains(foreign()), Step.NAMESPACE_GONE, [], id="namespace of others -> over, left alone"),
    ],
)
def test_one_step_after_the_other(given: Remains, step: Step, expected: list[list[str]]) -> None:
    descent = down(given)
    assert descent.step is step
    assert words(descent) == expected
    assert descent.is_over is (step is Step.NAMESPACE_GONE)


def test_the_namespace_is_deleted_as_it_was_read() -> None:
    assert down(remains()).waves == ((DeleteNamespace(NAMESPACE, "u-ns", "7"),),)


@pytest.mark.parametrize("state", [state for state in ReleaseState if state is not ReleaseState.ABSENT])
def test_a_release_in_any_state_is_uninstalled(state: ReleaseState) -> None:
    assert down(remains(release=release(state))).waves == ((UninstallRelease(IDENTITY),),)


def test_a_foreign_namespace_is_said_to_be_left_alone() -> None:
    assert down(Remains(foreign())).message == f"Namespace {NAMESPACE} is not ours and was left alone"


# --- Tools


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        pytest.param(
            [("RoleBinding", "envprov-controller")], ["apply RoleBinding envprov-controller"], id="our rights"
        ),
        pytest.param(
            [("ServiceAccount", "envprov-installer")], ["apply ServiceAccount envprov-installer"], id="installer"
        ),
        pytest.param(
            [("RoleBinding", "envprov-controller"), ("RoleBinding", "envprov-installer")],
            ["apply RoleBinding envprov-controller", "apply RoleBinding envprov-installer"],
            id="both bindings",
        ),
    ],
)
def test_the_tools_are_put_back_before_anything_else(lost: list[tuple[str, str]], expected: list[str]) -> None:
    held = {key: item for key, item in EVERYTHING.objects.items() if key not in lost}
    descent = down(remains(objects=held, workloads=EVERYTHING.workloads, release=release()))
    assert words(descent) == [expected]
    assert descent.step is Step.REQUESTED


# --- What is told to stop


def test_owners_stop_before_what_they_own_and_what_is_owned_is_left_to_them() -> None:
    given = remains(
        workloads=Workloads(
            deployments=(running("web"),),
            stateful_sets=(running("db"),),
            daemon_sets=(workload("agent"),),
            jobs=(workload("migrate"),),
            pods=(pod("bare"), pod("web-1", owner="ReplicaSet"), pod("migrate-1", owner="Job")),
        ),
        replica_sets=(running("web-rs", owner="Deployment"), running("loose-rs")),
        replication_controllers=(running("old"),),
        cron_jobs=(workload("nightly"), workload("paused", spec={"suspend": True})),
    )
    descent = down(given)
    assert words(descent) == [
        [
            "quiet Deployment web",
            "quiet StatefulSet db",
            "quiet ReplicaSet loose-rs",
            "quiet ReplicationController old",
            "quiet CronJob nightly",
            "delete DaemonSet agent",
            "delete Job migrate",
            "delete Pod bare",
        ]
    ]
    assert descent.waves[0][0] == QuietObject("apps/v1", "Deployment", NAMESPACE, "web", "u-web")
    assert descent.waves[0][-1] == DeleteObject("v1", "Pod", NAMESPACE, "bare", "u-bare")


@pytest.mark.parametrize(
    "workloads",
    [
        pytest.param(Workloads(deployments=(STILL,)), id="Deployment at zero"),
        pytest.param(Workloads(daemon_sets=(going(workload("agent")),)), id="DaemonSet on its way out"),
        pytest.param(Workloads(jobs=(going(workload("migrate")),)), id="Job on its way out"),
    ],
)
def test_what_has_stopped_is_not_told_again(workloads: Workloads) -> None:
    assert down(remains(workloads=workloads)).step is Step.EXTERNAL_GONE


def test_a_workload_that_says_no_number_has_one_pod() -> None:
    assert words(down(remains(workloads=Workloads(deployments=(workload("web"),))))) == [["quiet Deployment web"]]


# --- What it waits for


def test_a_terminating_namespace_names_pods_itself_for_its_conditions_deny_them() -> None:
    stuck = held_by("example.com/wait", pod("web-1"))
    given = Remains(terminating(GONE_SAYS_KUBERNETES), workloads=pods(stuck, pod("api-1")))
    assert down(given).waiting_for == ("Pod api-1", "Pod web-1 (finalizers: example.com/wait)")


def test_a_terminating_namespace_names_what_kubernetes_says_and_its_own_finalizers() -> None:
    failure = {
        "type": "NamespaceDeletionDiscoveryFailure",
        "status": "True",
        "message": "Discovery failed for some groups: metrics.example.com/v1",
    }
    given = Remains(terminating(GONE_SAYS_KUBERNETES, failure, finalizers=("example.com/own",)))
    assert down(given).waiting_for == (
        "NamespaceDeletionDiscoveryFailure: Discovery failed for some groups: metrics.example.com/v1",
        "Namespace finalizer example.com/own",
    )


def test_pods_and_volumes_that_hang_are_named_with_what_holds_them() -> None:
    stuck = held_by("example.com/wait", pod("web-1", owner="ReplicaSet"))
    assert down(remains(workloads=pods(stuck))).waiting_for == ("Pod web-1 (finalizers: example.com/wait)",)
    volume = held_by("kubernetes.io/pvc-protection", workload("data"))
    given = remains(workloads=Workloads(claims=(volume,)), balancers=(workload("lb"),))
    assert down(given).waiting_for == (
        "Service lb",
        "PersistentVolumeClaim data (finalizers: kubernetes.io/pvc-protection)",
    )


def test_of_very_many_pods_fifty_are_named() -> None:
    many = pods(*(going(pod(f"web-{number:03}", owner="ReplicaSet")) for number in range(200)))
    waiting = down(remains(workloads=many)).waiting_for
    assert (len(waiting), waiting[0], waiting[-1]) == (50, "Pod web-000", "Pod web-049")
