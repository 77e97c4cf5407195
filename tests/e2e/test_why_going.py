"""Environments that do not go, and a cluster whose own parts are dead: on a control plane of this file's own."""

from __future__ import annotations

import json
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from envprov.domain.holds import Hold, Holder
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.kubelet import Api, Manifest, running
from tests.stuck import DEPLOYED, Scene, Stuck, condition, staged

RULES: list[dict[str, Any]] = [{"branches": ["*"]}]
TEARDOWN = "envprov.io/teardown"
GOING = condition("Ready", "False", "TearingDown", "waits until the namespace is gone")


@pytest.fixture(scope="module")
def scene(own_cluster: Cluster) -> Iterator[Scene]:
    """Yield the scene of this file."""
    with staged(own_cluster, RULES) as set_:
        yield set_


@pytest.fixture
def api(scene: Scene) -> Api:
    """Return the API server."""
    return scene.api


@pytest.fixture
def stuck(scene: Scene) -> Iterator[Stuck]:
    """Yield an environment that is to go: its record is being deleted, and no controller deals with it."""
    stuck = scene.make()
    yield stuck
    metadata = {"name": stuck.name, "namespace": stuck.control}
    record = {"apiVersion": "envprov.io/v1alpha1", "kind": "Environment", "metadata": metadata}
    if scene.api.get(record):
        scene.api.patch(record, {"metadata": {"finalizers": None}})


class Leavers(dict[str, Stuck]):
    """Environments whose namespaces are to go, by what holds them."""


@pytest.fixture(scope="module", autouse=True)
def leavers(scene: Scene) -> Leavers:
    """Return namespaces that were all asked to go at once: Kubernetes waits five seconds before it looks at one."""
    held = Leavers()

    def leaver(name: str) -> Stuck:
        held[name] = to_go(scene.make())
        return held[name]

    leaver("pod").pod("stubborn", metadata={"finalizers": ["example.com/backup"]})
    for name, finalizer in (("known", "strimzi.io/topic-operator"), ("unknown", "theirs.example.org/done")):
        leaver(name).make("v1", "ConfigMap", "precious", metadata={"finalizers": [finalizer]})
    define(scene)
    leaver("custom").make(f"{GROUP}/v1", "Topic", "orders", metadata={"finalizers": ["finalizers.fluxcd.io"]})
    dead_webhook(leaver("webhook"))
    auditors(leaver("policy"))
    itself = held["itself"] = scene.make()
    itself.recorded(*DEPLOYED, GOING)
    itself.housed(finalizers=["controller.cattle.io/namespace-auth"])
    alone = held["alone"] = scene.make()
    alone.housed()
    alone.make("v1", "ConfigMap", "precious", metadata={"finalizers": ["example.com/x"]})
    for stuck in held.values():
        stuck.leaving()
    return held


@contextmanager
def stopped(scene: Scene, *components: str) -> Iterator[None]:
    """Let parts of the control plane hang; afterwards they work again."""
    pids = [int((scene.cluster.kubeconfig.parent / "pids" / f"{name}.pid").read_text()) for name in components]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        works_again(scene)


def works_again(scene: Scene) -> None:
    """Wait until the API server answers, Kubernetes' controllers act, and a pod gets a node and becomes ready."""
    eventually(lambda: scene.api.client.get("/readyz").is_success, within=60, message="the API server does not answer")
    probe = scene.make()
    probe.housed()
    made = probe.deployment()
    told = "the cluster does not work again"
    eventually(lambda: (scene.api.get(made) or {})["status"].get("availableReplicas"), within=90, message=told)


@pytest.fixture
def unbroken(scene: Scene, leavers: Leavers) -> Iterator[list[Manifest]]:
    """Yield a list of APIServices that break the cluster, and mend it after the test."""
    broken: list[Manifest] = []
    yield broken
    for item in broken:
        scene.api.delete(item)
    for stuck in leavers.values():
        place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": stuck.namespace}}
        # Kubernetes looks at a Namespace that cannot go ever more rarely; at one that is changed it looks at once.
        scene.api.patch(place, {"metadata": {"annotations": {"example.com/looked-at": secrets.token_hex(4)}}})
    for stuck in leavers.values():
        told = f"{stuck.namespace} still speaks of an API that is gone"
        eventually(lambda: not stuck.says("NamespaceDeletionDiscoveryFailure"), within=90, message=told)  # noqa: B023


@pytest.fixture
def tainted(scene: Scene) -> Iterator[None]:
    """Taint the node on which everything runs, for one test."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "fake-1"}}
    scene.api.patch(node, {"spec": {"taints": [{"key": "dedicated", "value": "games", "effect": "NoSchedule"}]}})
    yield
    scene.api.patch(node, {"spec": {"taints": None}})
    works_again(scene)


def to_go(stuck: Stuck, *conditions: Manifest, **status: Any) -> Stuck:  # noqa: ANN401 - any field
    """Make the record and the namespace of an environment that is to go."""
    record = stuck.recorded(*DEPLOYED, *(conditions or (GOING,)), finalizers=(TEARDOWN,), **status)
    stuck.housed()
    stuck.api.delete(record)
    return stuck


def blocked(reason: str, message: str, *waiting: str) -> dict[str, Any]:
    """What a controller reports of a teardown that waits for somebody."""
    plan = "Husk" if reason == "HeldByOthers" else "Blocked"
    teardown = {"step": "Requested", "plan": plan, "startedAt": "2026-01-01T00:00:00Z", "waitingFor": list(waiting)}
    return {"teardown": teardown, "told": condition("TeardownBlocked", "True", reason, message)}


# --- The guard


@pytest.mark.parametrize(
    ("reason", "cause", "words"),
    [
        pytest.param("Disarmed", "GuardDisarmed", "the guard", id="guard not in force"),
        pytest.param("UsageUnknown", "UsageUnknown", "cannot see who uses", id="use not known"),
    ],
)
def test_a_guard_that_cannot_decide(stuck: Stuck, reason: str, cause: str, words: str) -> None:
    told = blocked(reason, "list pods: the API server does not answer")
    to_go(stuck, GOING, told["told"], teardown=told["teardown"])
    said = stuck.why()
    assert (said.state, said.cause) == ("GoingDown", cause)
    assert words in said.summary
    assert "list pods: the API server does not answer" in said.summary


def held(stuck: Stuck) -> Manifest:
    """A ServiceAccount that a pod of somebody else still uses."""
    holder = Holder("Pod", "payments", "worker-0", "11111111-1111-4111-8111-111111111111")
    hold = Hold(holder, datetime.now(UTC), "runs as it")
    return stuck.make("v1", "ServiceAccount", "deployer", metadata={"annotations": {hold.key: hold.value()}})


def test_a_service_account_that_others_use(stuck: Stuck) -> None:
    told = blocked(
        "HeldByOthers", "stays as a husk", f"ServiceAccount {stuck.namespace}/deployer: Pod payments/worker-0"
    )
    to_go(stuck, GOING, told["told"], teardown=told["teardown"])
    held(stuck)
    said = stuck.why()
    assert said.cause == "HeldByOthers"
    assert "Pod payments/worker-0 (ServiceAccount deployer)" in said.summary
    assert "ServiceAccount deployer: held by Pod payments/worker-0: runs as it" in said.shown
    assert said.data["next"] == [f"envprov guard explain {stuck.namespace}/deployer"]


def test_nobody_takes_it_down(scene: Scene, api: Api) -> None:
    control = f"envprov-w-{secrets.token_hex(4)}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": control}})
    stuck = to_go(scene.make(control=control))
    said = stuck.why()
    assert (said.state, said.cause) == ("GoingDown", "NoController")
    assert "nobody takes it down" in said.summary


# --- Pods


def test_a_pod_with_a_finalizer_and_the_lie_of_its_namespace(leavers: Leavers) -> None:
    stuck = leavers["pod"]
    said = stuck.until("PodFinalizer")
    assert (said.state, "pod stubborn" in said.summary) == ("GoingDown", True)
    assert "the finalizer example.com/backup, whose owner is not known; its name points to example.com" in said.summary
    assert "so they say of every Namespace while pods remain" in said.shown


def test_a_pod_on_a_node_that_is_gone(stuck: Stuck) -> None:
    to_go(stuck)
    pod = stuck.pod("lost")
    stuck.kubelet.play(pod, node="node-of-yesterday", phase="Running", containerStatuses=[running(ready=True)])
    stuck.api.delete(pod, grace=300)
    said = stuck.why()
    assert said.cause == "PodOnLostNode"
    assert "pod lost is on node node-of-yesterday, which is not there any more" in said.summary
    stuck.api.delete(pod, grace=0)


def test_a_pod_that_takes_its_time(stuck: Stuck, scene: Scene) -> None:
    to_go(stuck)
    with stopped(scene, "kwok-controller"):
        pod = stuck.pod("slow", terminationGracePeriodSeconds=600)
        stuck.kubelet.play(pod, phase="Running", containerStatuses=[running(ready=True)])
        stuck.api.delete(pod, grace=600)
        said = stuck.why()
        assert said.cause == "PodEnding"
        assert "pod slow is ending and has" in said.summary
        stuck.api.delete(pod, grace=0)


# --- What is left in the namespace


GROUP = "topics.example.com"


def define(scene: Scene) -> None:
    """Define a kind whose operator never was there."""
    names = {"plural": "topics", "singular": "topic", "kind": "Topic", "listKind": "TopicList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    scene.api.create(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"topics.{GROUP}"},
            "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
        }
    )
    scene.cluster.kubectl("wait", "--for=condition=Established", f"crd/topics.{GROUP}", "--timeout=30s")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(
            "known", "ConfigMap precious is held by the finalizer strimzi.io/topic-operator of Strimzi", id="known"
        ),
        pytest.param("unknown", "the finalizer theirs.example.org/done, whose owner is not known", id="not known"),
        pytest.param(
            "custom", "Topic orders is held by the finalizer finalizers.fluxcd.io of Flux", id="custom resource"
        ),
    ],
)
def test_a_finalizer_in_the_namespace(leavers: Leavers, name: str, words: str) -> None:
    said = leavers[name].until("Finalizer")
    assert said.state == "GoingDown"
    assert words in said.summary


def test_a_volume_that_is_not_given_back_before_the_namespace_goes(stuck: Stuck) -> None:
    to_go(stuck)
    room = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    finalizers = ["external-provisioner.volume.kubernetes.io/finalizer"]
    claim = stuck.make("v1", "PersistentVolumeClaim", "data", spec=room, metadata={"finalizers": finalizers})
    stuck.api.delete(claim)
    said = stuck.why()
    assert said.cause == "Finalizer"
    assert "PersistentVolumeClaim data is held by the finalizer external-provisioner" in said.summary
    assert "of the CSI driver (the volume has to go first)" in said.summary
    stuck.api.patch(claim, {"metadata": {"finalizers": None}})


def test_what_only_the_controller_has_seen(stuck: Stuck) -> None:
    waiting = "Bucket assets (finalizers: finalizer.managedresource.crossplane.io)"
    teardown = {"step": "Planned", "plan": "Full", "startedAt": "2026-01-01T00:00:00Z", "waitingFor": [waiting]}
    to_go(stuck, GOING, teardown=teardown)
    said = stuck.why()
    assert said.cause == "Finalizer"
    assert (
        "Bucket assets is held by the finalizer finalizer.managedresource.crossplane.io of Crossplane" in said.summary
    )


def test_a_namespace_that_is_held_itself(leavers: Leavers) -> None:
    said = leavers["itself"].until("NamespaceFinalizer")
    assert f"everything in Namespace {leavers['itself'].namespace} has gone" in said.summary
    assert "the finalizer controller.cattle.io/namespace-auth of Rancher" in said.summary


def test_a_record_that_is_held_itself(stuck: Stuck) -> None:
    record = stuck.recorded(*DEPLOYED, GOING, finalizers=("audit.example.com/kept",))
    stuck.api.delete(record)
    said = stuck.why()
    assert (said.state, said.cause) == ("GoingDown", "RecordFinalizer")
    assert "audit.example.com/kept" in said.summary


def test_helm_cannot_uninstall(stuck: Stuck) -> None:
    failing = condition("Ready", "False", "Retrying", "HelmFailed: failed to delete release")
    to_go(stuck, failing)
    stuck.release("uninstalling", "Deletion in progress (or silently failed)")
    said = stuck.why()
    assert (said.state, said.cause) == ("GoingDown", "HelmStuck")
    assert "is left in uninstalling" in said.summary


def test_a_namespace_whose_record_is_gone(leavers: Leavers, stuck: Stuck) -> None:
    stuck.housed()
    said = stuck.why()
    assert (said.state, said.cause) == ("NotCreated", "NoRecordOfNamespace")
    assert leavers["alone"].until("Finalizer").state == "GoingDown"


# --- The cluster's own parts


CONFIG_MAP_DELETION = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["DELETE"],
    "resources": ["configmaps"],
}


def dead_webhook(stuck: Stuck) -> None:
    """Put in force a webhook that must be asked and of which nothing is there."""
    webhook = {
        "name": "delete.gate.example.com",
        "rules": [CONFIG_MAP_DELETION],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": stuck.namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
        "clientConfig": {"service": {"name": "gate", "namespace": "default", "path": "/"}},
    }
    stuck.api.create(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "gate"},
            "webhooks": [webhook],
        }
    )
    in_force(stuck)


def auditors(stuck: Stuck) -> None:
    """Put in force a policy that refuses every deletion of a ConfigMap."""
    version = "admissionregistration.k8s.io/v1"
    selector = {"matchLabels": {"kubernetes.io/metadata.name": stuck.namespace}}
    spec = {
        "matchConstraints": {"namespaceSelector": selector, "resourceRules": [CONFIG_MAP_DELETION]},
        "validations": [{"expression": "false", "message": "settings are kept for the auditors"}],
    }
    binding = {"policyName": "auditors", "validationActions": ["Deny"]}
    for kind, given in (("ValidatingAdmissionPolicy", spec), ("ValidatingAdmissionPolicyBinding", binding)):
        stuck.api.create({"apiVersion": version, "kind": kind, "metadata": {"name": "auditors"}, "spec": given})
    in_force(stuck)


def test_a_webhook_that_must_be_asked_and_is_dead(leavers: Leavers) -> None:
    said = leavers["webhook"].until("WebhookUnreachable", within=60)
    assert "delete.gate.example.com (ValidatingWebhookConfiguration gate)" in said.summary
    assert "Service gate is not there" in said.summary
    assert "webhook delete.gate.example.com at Service default/gate, failurePolicy Fail" in said.shown


def test_a_policy_that_refuses_the_deletion(leavers: Leavers) -> None:
    said = leavers["policy"].until("DeletionRefused", within=60)
    assert "admission policy auditors" in said.summary
    assert "settings are kept for the auditors" in said.summary


def in_force(stuck: Stuck) -> None:
    """Wait until nobody can delete a ConfigMap."""
    probe = stuck.make("v1", "ConfigMap", "probe")

    def refused() -> bool:
        with suppress(AssertionError):
            stuck.api.delete(probe)
            stuck.api.create({key: probe[key] for key in ("apiVersion", "kind")} | {"metadata": _named(probe)})
            return False
        return True

    eventually(refused, within=20, message="it does not come into force")


def _named(item: Manifest) -> Manifest:
    return {key: item["metadata"][key] for key in ("name", "namespace")}


def test_kubernetes_own_controllers_hang(scene: Scene) -> None:
    rising, going = scene.make(), scene.make()
    rising.starting()
    to_go(going)
    with stopped(scene, "kube-controller-manager"):
        rising.deployment()
        going.leaving()
        said = rising.until("ClusterControllersSilent", within=40)
        assert "Kubernetes itself does not look at Deployment web" in said.summary
        assert "kube-controller-manager" in said.summary
        said = going.until("ClusterControllersSilent", within=40)
        assert (said.state, "has not begun" in said.summary) == ("GoingDown", True)
    assert "Silent" not in json.dumps(rising.why().data)


def test_an_api_that_does_not_answer(stuck: Stuck, api: Api, unbroken: list[Manifest]) -> None:
    group = f"m{secrets.token_hex(3)}.example.com"
    spec = {
        "group": group,
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"name": "metrics", "namespace": "default"},
    }
    name = {"name": f"v1beta1.{group}"}
    broken = api.create(
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": name, "spec": spec}
    )
    unbroken.append(broken)  # no namespace of this cluster goes while it is there
    eventually(lambda: (api.get(broken) or {})["status"]["conditions"], message="nobody has looked at the APIService")
    to_go(stuck)
    stuck.leaving()
    said = stuck.until("ApiServiceBroken", within=60)
    assert f"the API v1beta1.{group} of this cluster does not answer" in said.summary
    assert "served by default/metrics" in said.shown
    assert said.data["next"] == [f"kubectl describe apiservice v1beta1.{group}"]


def test_an_api_server_that_does_not_answer(scene: Scene) -> None:
    stuck = scene.make()
    with stopped(scene, "kube-apiserver"):
        said = stuck.why()
    assert (said.state, said.cause) == ("Unknown", "Unknown")
    assert "the Environment: no answer within 4 s" in said.unread
    assert "pods: no answer within 4 s" in said.unread


@pytest.mark.usefixtures("tainted")
def test_taints(scene: Scene) -> None:
    stuck = scene.make()
    stuck.starting().deployment()
    said = stuck.until("NodeTaints")
    assert "have taints that it does not tolerate" in said.summary
    assert "Node fake-1: has the taint dedicated=games:NoSchedule" in said.shown
