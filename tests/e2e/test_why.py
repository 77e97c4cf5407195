"""Environments that do not come up, on a real control plane: ``why`` names the true cause of each, in time."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.names import namespace_of
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.kubelet import IMAGE, Api, Manifest, ago, ended, looping, running, waiting
from tests.stuck import DEPLOYED, PROJECT, Scene, Stuck, condition, staged, template

RULES: list[dict[str, Any]] = [
    {"branches": ["main", "release/*"], "action": "ignore"},
    {"branches": ["mr/*"], "mergeRequest": {"labels": ["preview"], "drafts": False}},
    {"branches": ["feature/*"]},
]


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    """Yield the scene of this file."""
    with staged(cluster, RULES) as set_:
        yield set_


@pytest.fixture
def stuck(scene: Scene) -> Stuck:
    """Return an environment of this test's own; nothing of it is there yet."""
    return scene.make()


@pytest.fixture
def api(scene: Scene) -> Api:
    """Return the API server."""
    return scene.api


@pytest.fixture(scope="module", autouse=True)
def long_ago(scene: Scene) -> Stuck:
    """Return an environment with a pod that no scheduler looks at, as old as this file: only time tells of it."""
    stuck = scene.make().starting()
    stuck.pod("ignored")
    return stuck


@pytest.fixture
def empty(cluster: Cluster, scene: Scene) -> Iterator[str]:
    """Yield a control namespace of this test's own, with nothing in it."""
    name = f"envprov-w-{secrets.token_hex(4)}"
    scene.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.discard(name)


# --- Not created at all


@pytest.mark.parametrize(
    ("branch", "cause", "words"),
    [
        pytest.param("main", "RuleIgnores", "rule 1 of Project shop, which is for main, release/*", id="ignored"),
        pytest.param("hotfix/1", "NoRule", "there are rules for main, release/*, mr/*, feature/*", id="no rule"),
        pytest.param(
            "mr/1", "NeedsMergeRequest", "with one of the labels preview, that is no draft", id="merge request"
        ),
        pytest.param("feature/new", "NotRecorded", "nobody has asked for it yet", id="nobody asked"),
    ],
)
def test_a_branch_without_environment(scene: Scene, branch: str, cause: str, words: str) -> None:
    said = scene.make(branch=branch).why()
    assert (said.state, said.cause) == ("NotCreated", cause)
    assert said.summary.startswith(f"Branch {branch} has no environment: ")
    assert words in said.summary


def test_a_project_that_is_not_there(stuck: Stuck) -> None:
    said = stuck.why(project="nope")
    assert (said.state, said.cause) == ("NotCreated", "NoProject")
    assert "there is no Project nope" in said.summary
    assert "there is: shop" in said.summary


def test_no_project_serves_the_repository(
    scene: Scene, empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stuck = scene.make(control=empty)
    assert "there is no Project" in stuck.call()
    scene.project("one", RULES, empty)
    scene.project("two", [{"branches": ["*"]}], empty)
    said = stuck.call()
    assert "several Projects would give such a branch an environment (one, two)" in said
    assert f"envprov why {stuck.branch} --project one" in said


def test_an_environment_that_somebody_took_down(scene: Scene) -> None:
    stuck = scene.make()
    data = {"project": PROJECT, "branch": stuck.branch, "deletedAt": ago(60), "dismissed": "down", "revision": ""}
    metadata = {"name": f"tombstone-{stuck.name}", "namespace": scene.control}
    scene.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    said = stuck.why()
    assert (said.state, said.cause) == ("NotCreated", "TakenDown")
    assert "somebody took it down" in said.summary
    assert said.data["next"][0] == f"envprov up {stuck.branch} --project shop"


# --- Nothing goes on


def test_no_controller_has_ever_worked_here(scene: Scene, empty: str) -> None:
    scene.project(PROJECT, RULES, empty)
    stuck = scene.make(control=empty)
    stuck.recorded()
    said = stuck.why()
    assert (said.state, said.cause) == ("ComingUp", "NoController")
    assert f"no envprov controller answers in Namespace {empty}" in said.summary
    scene.lease(control=empty, renewed=datetime.now(UTC) - timedelta(minutes=5), seconds=15)
    said = stuck.why()
    assert said.cause == "NoController"
    assert "was last renewed at" in said.shown


def test_findings_of_the_check(stuck: Stuck) -> None:
    finding = "Deployment web spec.template.spec.hostNetwork: uses the network of its node; leave it away"
    stuck.recorded(condition("Accepted", "False", "Findings", finding), condition("Ready", "False", "Stalled", finding))
    said = stuck.why()
    assert (said.state, said.cause) == ("ComingUp", "Refused")
    assert finding in said.summary


def test_a_namespace_of_somebody_else(stuck: Stuck) -> None:
    message = f"Namespace {stuck.namespace} exists and does not belong to Environment {stuck.name}"
    stuck.recorded(condition("Accepted", "False", "NotOwned", message), condition("Ready", "False", "Stalled", message))
    said = stuck.why()
    assert said.cause == "NamespaceForeign"
    assert stuck.namespace in said.summary


def test_a_place_in_the_queue(stuck: Stuck) -> None:
    why = "needs 2 CPU, 0.5 free of 40; next expiry: event-0007 in 3 h"
    stuck.recorded(condition("Ready", "False", "Queued", why), queue={"position": 3, "reason": why})
    said = stuck.why()
    assert (said.state, said.cause) == ("ComingUp", "Queued")
    assert "place 3" in said.summary
    assert why in said.summary


def test_what_comes_before_the_release(stuck: Stuck) -> None:
    why = "waits for the Secret shared/tls, which copySecrets of the Project names and nobody has made"
    stuck.recorded(
        condition("NamespaceReady", "False", "Preparing", why), condition("Ready", "False", "Preparing", why)
    )
    stuck.housed()
    said = stuck.why()
    assert said.cause == "Preparing"
    assert "Secret shared/tls" in said.summary


# --- Pods that the API server refuses, for real


def quota(stuck: Stuck, **hard: str) -> None:
    """Put a quota in force."""
    made = stuck.make("v1", "ResourceQuota", "envprov", spec={"hard": hard})
    eventually(lambda: (stuck.api.get(made) or {}).get("status", {}).get("hard"), message="the quota is not counted")


def asking(**requests: str) -> Manifest:
    """A container that asks for resources."""
    return {"resources": {"requests": requests, "limits": requests}}


def test_a_deployment_over_the_quota(stuck: Stuck) -> None:
    quota(stuck.starting(), **{"requests.cpu": "1", "requests.memory": "2Gi"})
    stuck.deployment(container=asking(cpu="2", memory="1Gi"))
    said = stuck.until("QuotaExceeded")
    assert "Deployment web gets no pods" in said.summary
    assert "1 requests.cpu short (asks 2, 0 of 1 used); size M would fit" in said.summary
    assert "exceeded quota: envprov" in said.shown


def test_a_stateful_set_over_the_quota(stuck: Stuck) -> None:
    quota(stuck.starting(), **{"requests.memory": "1Gi"})
    spec = {
        "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}},
        "template": template("db", container=asking(memory="3Gi")),
    }
    stuck.make("apps/v1", "StatefulSet", "db", spec=spec)
    said = stuck.until("QuotaExceeded")
    assert "StatefulSet db gets no pods" in said.summary
    assert "2Gi requests.memory short" in said.summary


def test_a_job_over_the_quota(stuck: Stuck) -> None:
    quota(stuck.starting(), **{"requests.memory": "1Gi"})
    pods = template("migrate", container=asking(memory="9Gi"), restartPolicy="Never")
    stuck.make("batch/v1", "Job", "migrate", spec={"template": pods})
    assert "Job migrate gets no pods" in stuck.until("QuotaExceeded").summary


def test_pods_that_do_not_say_what_they_need(stuck: Stuck) -> None:
    quota(stuck.starting(), **{"requests.cpu": "1"})
    stuck.deployment()
    said = stuck.until("QuotaNeedsRequests")
    assert "requests.cpu for: web" in said.summary


def test_pods_outside_the_limits(stuck: Stuck) -> None:
    limits = [{"type": "Container", "max": {"memory": "1Gi"}}]
    stuck.starting().make("v1", "LimitRange", "envprov", spec={"limits": limits})
    stuck.deployment(container=asking(memory="4Gi"))
    said = stuck.until("LimitsRefused")
    assert "maximum memory usage per Container is 1Gi" in said.summary


def test_pods_below_the_pod_security_level(stuck: Stuck) -> None:
    stuck.starting(labels={"pod-security.kubernetes.io/enforce": "baseline"})
    stuck.deployment(hostNetwork=True)
    said = stuck.until("PodSecurity")
    assert "Pod Security level baseline" in said.summary
    assert "hostNetwork=true" in said.summary


def test_a_service_account_that_is_not_there(stuck: Stuck) -> None:
    stuck.starting().deployment(serviceAccountName="runner")
    said = stuck.until("AccountMissing")
    assert f"the ServiceAccount {stuck.namespace}/runner is not there" in said.summary


def test_a_priority_class_that_is_not_there(stuck: Stuck) -> None:
    stuck.starting().deployment(priorityClassName="golden")
    assert "PriorityClass golden is not there" in stuck.until("ClassMissing").summary


@pytest.fixture
def disposed(api: Api) -> Iterator[list[Manifest]]:
    """Yield a list of objects outside namespaces, which go after the test."""
    made: list[Manifest] = []
    yield made
    for item in made:
        api.delete(item)


def here(stuck: Stuck) -> Manifest:
    """A selector of the test's own namespace."""
    return {"matchLabels": {"kubernetes.io/metadata.name": stuck.namespace}}


POD_CREATION = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


def test_an_admission_policy_that_says_no(stuck: Stuck, api: Api, disposed: list[Manifest]) -> None:
    stuck.starting()
    version, name = "admissionregistration.k8s.io/v1", f"test-{stuck.name}"
    policy = {
        "matchConstraints": {"namespaceSelector": here(stuck), "resourceRules": [POD_CREATION]},
        "validations": [{"expression": "false", "message": "images must come from registry.example.com/mirror"}],
    }
    disposed += [
        api.create(
            {
                "apiVersion": version,
                "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": name},
                "spec": {"policyName": name, "validationActions": ["Deny"]},
            }
        ),
        api.create(
            {"apiVersion": version, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": policy}
        ),
    ]

    def refuses() -> bool:
        with suppress(AssertionError):
            stuck.api.delete(stuck.pod(f"probe-{secrets.token_hex(2)}"))
            return False
        return True

    eventually(refuses, message="the policy does not come into force")
    stuck.deployment()
    said = stuck.until("AdmissionRefused")
    assert f"admission policy {name}" in said.summary
    assert "images must come from registry.example.com/mirror" in said.summary


def dead_webhook(stuck: Stuck, rule: Manifest) -> Manifest:
    """A webhook that must be asked in the test's namespace, and of which nothing is there."""
    webhook = {
        "name": "pods.gate.example.com",
        "namespaceSelector": here(stuck),
        "rules": [rule],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
        "clientConfig": {"service": {"name": "gate", "namespace": "default", "path": "/"}},
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"gate-{stuck.name}"},
        "webhooks": [webhook],
    }


def test_an_admission_webhook_that_is_dead(stuck: Stuck, api: Api, disposed: list[Manifest]) -> None:
    stuck.starting()
    disposed.append(api.create(dead_webhook(stuck, POD_CREATION)))

    def refuses() -> bool:
        with suppress(AssertionError):
            stuck.api.delete(stuck.pod(f"probe-{secrets.token_hex(2)}"))
            return False
        return True

    eventually(refuses, message="the webhook is not asked")
    stuck.deployment()
    said = stuck.until("WebhookUnreachable")
    assert "pods.gate.example.com must be asked first and does not answer" in said.summary
    assert "Service gate is not there" in said.summary


# --- Pods that find no node, by the real scheduler


def test_more_than_any_node_has(stuck: Stuck) -> None:
    stuck.starting().deployment(container={"resources": {"requests": {"cpu": "900"}}})
    said = stuck.until("InsufficientResources")
    assert "too little cpu left" in said.summary
    assert "Insufficient cpu" in said.shown
    assert "Deployment web: 0 of 1 pods ready" in said.shown


def test_a_kind_of_node_that_is_not_there(stuck: Stuck) -> None:
    stuck.starting().deployment(nodeSelector={"disk": "quantum"})
    said = stuck.until("NodeAffinity")
    assert "nodeSelector or affinity" in said.summary


def test_a_scheduling_gate(stuck: Stuck) -> None:
    stuck.starting().deployment(schedulingGates=[{"name": "example.com/budget"}])
    assert "scheduling gate example.com/budget" in stuck.until("SchedulingGated").summary


# --- Claims, by the real controllers


def volume(claim: str) -> list[Manifest]:
    """A volume of a pod."""
    return [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]


def claimed(stuck: Stuck, **spec: Any) -> None:  # noqa: ANN401 - any field of a claim
    """Make a claim, and a Deployment that mounts it."""
    room = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    stuck.starting().make("v1", "PersistentVolumeClaim", "data", spec=room | spec)
    stuck.deployment(volumes=volume("data"))


def storage(api: Api, provisioner: str, mode: str = "Immediate") -> Manifest:
    """Make a StorageClass."""
    metadata = {"name": f"test-{secrets.token_hex(4)}"}
    given = {"provisioner": provisioner, "volumeBindingMode": mode}
    return api.create({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata} | given)


def test_a_claim_without_class(stuck: Stuck) -> None:
    claimed(stuck)
    said = stuck.until("ClaimWithoutClass")
    assert "PersistentVolumeClaim data names no StorageClass" in said.summary
    eventually(lambda: ", and pod web-" in stuck.why().summary, message="the pod that waits was not named")


def test_a_claim_of_a_class_that_is_not_there(stuck: Stuck) -> None:
    claimed(stuck, storageClassName="golden")
    assert "the StorageClass golden, which is not there" in stuck.until("ClaimClassMissing").summary


def test_a_provisioner_that_makes_nothing(stuck: Stuck, api: Api, disposed: list[Manifest]) -> None:
    disposed.append(storage(api, "ebs.csi.example.com"))
    claimed(stuck, storageClassName=disposed[0]["metadata"]["name"])
    said = stuck.until("ClaimNotProvisioned")
    assert "the provisioner ebs.csi.example.com has not made the volume of PersistentVolumeClaim data" in said.summary


def test_a_class_without_provisioner(stuck: Stuck, api: Api, disposed: list[Manifest]) -> None:
    disposed.append(storage(api, "kubernetes.io/no-provisioner"))
    claimed(stuck, storageClassName=disposed[0]["metadata"]["name"])
    said = stuck.until("ClaimNotProvisioned")
    assert f"StorageClass {disposed[0]['metadata']['name']} makes no volumes by itself" in said.summary


def test_a_claim_that_waits_for_its_pod_is_not_the_cause(stuck: Stuck, api: Api, disposed: list[Manifest]) -> None:
    disposed.append(storage(api, "ebs.csi.example.com", "WaitForFirstConsumer"))
    room = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    named = {"storageClassName": disposed[0]["metadata"]["name"]}
    stuck.starting().make("v1", "PersistentVolumeClaim", "data", spec=room | named)
    stuck.deployment(volumes=volume("data"), container={"resources": {"requests": {"cpu": "900"}}})
    said = stuck.until("InsufficientResources")
    assert [entry["cause"] for entry in said.data["also"]] == ["ClaimWaitsForPod"]


def test_a_claim_that_is_not_there(stuck: Stuck) -> None:
    stuck.starting().deployment(volumes=volume("nope"))
    assert "the PersistentVolumeClaim nope that it mounts is not there" in stuck.until("ClaimMissing").summary


# --- Pods on a node, as their kubelet tells

BACK_OFF = f'Back-off pulling image "{IMAGE}"'
SECRET = 'secret "db-password" not found'
KEY = "couldn't find key url in ConfigMap env-x/settings"


@pytest.mark.parametrize(
    ("container", "event", "cause", "words"),
    [
        pytest.param(
            waiting("ImagePullBackOff", f'{BACK_OFF}: ErrImagePull: failed to resolve "{IMAGE}": {IMAGE}: not found'),
            None,
            "ImageNotFound",
            f"cannot pull the image {IMAGE}: the registry has no such image",
            id="image not found",
        ),
        pytest.param(
            waiting("ImagePullBackOff", BACK_OFF),
            ("Failed", f'Failed to pull image "{IMAGE}": unexpected status: 401 Unauthorized'),
            "ImageUnauthorized",
            "the registry does not let it have the image",
            id="image unauthorized, which only an event tells",
        ),
        pytest.param(
            waiting("ErrImagePull", "429 Too Many Requests - toomanyrequests: You have reached your pull rate limit"),
            None,
            "ImageRateLimited",
            "has had too many requests",
            id="image rate limited",
        ),
        pytest.param(
            waiting("ErrImagePull", "dial tcp: lookup registry.example.com: no such host"),
            None,
            "ImageRegistryUnreachable",
            "the registry does not answer",
            id="registry unreachable",
        ),
        pytest.param(
            waiting("InvalidImageName", "couldn't parse image name", image="Shop:latest:1"),
            None,
            "ImageNameInvalid",
            "Shop:latest:1",
            id="no name of an image",
        ),
        pytest.param(waiting("CreateContainerConfigError", SECRET), None, "ConfigMissing", SECRET, id="Secret missing"),
        pytest.param(waiting("CreateContainerConfigError", KEY), None, "ConfigMissing", KEY, id="key missing"),
        pytest.param(
            waiting("ContainerCreating"),
            ("FailedMount", 'MountVolume.SetUp failed for volume "conf": configmap "settings" not found'),
            "ConfigMissing",
            'configmap "settings" not found',
            id="ConfigMap to mount missing",
        ),
        pytest.param(
            waiting("ContainerCreating"),
            ("FailedMount", "Unable to attach or mount volumes: timed out waiting for the condition"),
            "MountFails",
            "a volume cannot be mounted",
            id="volume cannot be mounted",
        ),
        pytest.param(
            waiting("ContainerCreating"),
            ("FailedCreatePodSandBox", "failed to setup network for sandbox: plugin type calico failed"),
            "SandboxFails",
            "no network or sandbox",
            id="no network",
        ),
        pytest.param(
            waiting("RunContainerError", 'exec: "/bin/nope": stat /bin/nope: no such file or directory'),
            None,
            "ContainerCannotStart",
            "/bin/nope",
            id="no such command",
        ),
        pytest.param(
            running(),
            ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
            "ReadinessFails",
            "the readiness probe of container web fails (HTTP probe failed with statuscode: 503)",
            id="readiness",
        ),
        pytest.param(
            running(started=False),
            ("Unhealthy", "Startup probe failed: dial tcp 10.1.2.3:80: connect: connection refused"),
            "StartupFails",
            "the startup probe of container web fails",
            id="startup",
        ),
        pytest.param(
            looping(137),
            ("Killing", "Container web failed liveness probe, will be restarted"),
            "LivenessFails",
            "the liveness probe of container web fails",
            id="liveness",
        ),
    ],
)
def test_what_a_kubelet_says(
    stuck: Stuck, container: Manifest, event: tuple[str, str] | None, cause: str, words: str
) -> None:
    pod = stuck.starting().played(container, phase="Running" if "running" in container["state"] else "Pending")
    if event is not None:
        stuck.kubelet.tell(pod, *event)
    said = stuck.why()
    assert (said.state, said.cause) == ("ComingUp", cause)
    assert "pod web-0" in said.summary
    assert words in said.summary


def test_what_is_missing_is_looked_for(stuck: Stuck) -> None:
    stuck.starting().played(waiting("CreateContainerConfigError", SECRET))
    assert "Secret db-password: is not there, looked for just now" in stuck.why().shown
    stuck.make("v1", "Secret", "db-password", stringData={"password": "correct-horse"})
    said = stuck.why()
    assert "Secret db-password: is there now" in said.shown
    assert "correct-horse" not in said.shown


def test_a_crash_with_its_last_words(stuck: Stuck) -> None:
    stuck.starting().played(looping(1, restarts=4), phase="Running")
    lines = [f"line {number}" for number in range(100)] + ["panic: cannot reach db:5432"]
    stuck.kubelet.logs["web-0", "web", True] = "\n".join(lines) + "\n"
    said = stuck.why()
    assert said.cause == "CrashLoop"
    assert "pod web-0 is not up: container web ended with exit code 1, restarted 4 times" in said.summary
    assert "panic: cannot reach db:5432" in said.shown
    assert "line 81" in said.shown
    assert "line 80" not in said.shown
    assert f"kubectl logs web-0 -c web -n {stuck.namespace} --previous" in said.data["next"]


def test_last_words_behind_very_long_lines_are_found_and_move_no_cursor(stuck: Stuck) -> None:
    stuck.starting().played(looping(1), phase="Running")
    last = "\x1b[2J\x1b]0;pwned\x07{}" + "x" * 1_000_000 + " panic: \x1b[31mno db\x1b[0m"
    stuck.kubelet.logs["web-0", "web", True] = f"{'y' * 1_000_000}\n{last}\n"
    shown = stuck.why().shown
    assert shown.count("… (cut)") == 1
    assert len(shown) < 6000
    said = stuck.call("--project", PROJECT)
    assert "panic:  [31mno db [0m" in said
    assert all(letter.isprintable() for letter in said.replace("\n", ""))


def test_out_of_memory(stuck: Stuck) -> None:
    stuck.starting().played(looping(137, "OOMKilled"), phase="Running")
    said = stuck.why()
    assert said.cause == "OutOfMemory"
    assert "more memory than its limit" in said.summary


def test_a_log_that_does_not_come_is_said_and_not_waited_for(stuck: Stuck) -> None:
    stuck.starting()
    pod = stuck.pod("slow")
    stuck.kubelet.silent.add("slow")
    stuck.kubelet.play(pod, containerStatuses=[looping()])
    said = stuck.why()
    assert said.cause == "CrashLoop"
    assert "logs: of container web in Pod slow: no answer within 4 s" in said.unread


def initialised(stuck: Stuck, container: Manifest) -> None:
    """A pod whose init container is like this."""
    first = [{"name": "wait-for-db", "image": IMAGE}]
    pod = stuck.starting().pod(initContainers=first)
    stuck.kubelet.logs["web-0", "wait-for-db", False] = "waiting for db:5432\n"
    stuck.kubelet.logs["web-0", "wait-for-db", True] = "no such host: db\n"
    stuck.kubelet.play(pod, initContainerStatuses=[container], containerStatuses=[waiting("PodInitializing")])


def test_an_init_container_that_fails(stuck: Stuck) -> None:
    initialised(stuck, looping(2, name="wait-for-db"))
    said = stuck.why()
    assert said.cause == "InitContainerFails"
    assert "its init container wait-for-db ended with exit code 2" in said.summary
    assert "no such host: db" in said.shown


def test_an_init_container_that_does_not_end(stuck: Stuck) -> None:
    initialised(stuck, running(name="wait-for-db", since=400))
    said = stuck.why()
    assert said.cause == "InitContainerHangs"
    assert "its init container wait-for-db has been running for 6 min" in said.summary
    assert "waiting for db:5432" in said.shown


def test_a_pod_that_was_thrown_out(stuck: Stuck) -> None:
    stuck.starting().played(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    said = stuck.why()
    assert said.cause == "Evicted"
    assert "low on resource: memory" in said.shown


def test_a_node_that_is_gone(stuck: Stuck) -> None:
    pod = stuck.starting().pod()
    stuck.kubelet.play(pod, node="node-of-yesterday", phase="Running", containerStatuses=[running(ready=True)])
    said = stuck.why()
    assert said.cause == "NodeLost"
    assert "pod web-0 is on node node-of-yesterday, which is not there any more" in said.summary


def test_the_earliest_of_several_troubles_is_the_cause_and_the_others_are_told(stuck: Stuck) -> None:
    stuck.starting().played(looping())
    stuck.deployment("db", nodeSelector={"disk": "quantum"})
    said = stuck.until("NodeAffinity")
    assert "pod db-" in said.summary
    assert [entry["cause"] for entry in said.data["also"]] == ["CrashLoop"]


# --- Jobs, hooks and Helm


def job(stuck: Stuck, *, hook: str = "", **spec: Any) -> Manifest:  # noqa: ANN401 - any field of a Job
    """Make a Job."""
    metadata = {"annotations": {"helm.sh/hook": hook}} if hook else {}
    pods = template("migrate", restartPolicy="Never", schedulerName="nobody")
    return stuck.make(
        "batch/v1", "Job", "migrate", metadata=metadata, spec={"template": pods, "backoffLimit": 0} | spec
    )


def fail(stuck: Stuck) -> None:
    """Let the Job's pod fail, with a last word."""
    pod = stuck.pods()[0]
    stuck.kubelet.logs[pod["metadata"]["name"], "web", False] = "ERROR: relation users already exists\n"
    stuck.kubelet.play(pod, phase="Failed", containerStatuses=[ended(3)])


def test_a_job_that_failed(stuck: Stuck) -> None:
    job(stuck.starting())
    fail(stuck)
    said = stuck.until("JobFailed")
    assert "Job migrate failed and is not tried again (BackoffLimitExceeded)" in said.summary
    assert "exit code 3" in said.summary
    assert "relation users already exists" in said.shown


def test_a_job_that_took_too_long(stuck: Stuck) -> None:
    job(stuck.starting(), activeDeadlineSeconds=1)
    said = stuck.until("JobDeadline")
    assert "longer than its 1 s" in said.summary


def test_a_hook_that_failed(stuck: Stuck) -> None:
    why = "HelmFailed: pre-install hooks failed"
    stuck.recorded(condition("Deployed", "False", "HelmFailed", why), condition("Ready", "False", "Retrying", why))
    stuck.housed()
    made = job(stuck, hook="pre-install")
    fail(stuck)
    eventually(lambda: (stuck.api.get(made) or {})["status"]["conditions"], message="the Job does not fail")
    run = {"name": "migrate", "kind": "Job", "events": ["pre-install"], "last_run": {"phase": "Failed"}}
    stuck.release("failed", "failed pre-install: job failed: BackoffLimitExceeded", hooks=(run,))
    said = stuck.until("HookFailed")
    assert "its hook Job migrate (pre-install) failed" in said.summary
    assert "relation users already exists" in said.shown


def test_a_hook_whose_image_is_not_there(stuck: Stuck) -> None:
    stuck.recorded(condition("Ready", "False", "Deploying", "installs release"))
    stuck.housed()
    job(stuck, hook="pre-install")
    stuck.kubelet.play(stuck.pods()[0], containerStatuses=[waiting("ErrImagePull", "manifest unknown")])
    said = stuck.why()
    assert said.cause == "ImageNotFound"
    assert "hook Job migrate (pre-install) does not end: pod migrate-" in said.summary


def test_a_hook_that_does_not_end(stuck: Stuck) -> None:
    stuck.recorded(condition("Ready", "False", "Deploying", "installs release"))
    stuck.housed()
    # Kubernetes' own controller leaves such a Job alone, so that it can have begun a while ago.
    made = job(stuck, hook="post-install", managedBy="example.com/test")
    stuck.api.patch(made, {"status": {"startTime": ago(600), "active": 1}}, "status")
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "migrate", "uid": made["metadata"]["uid"]}
    pod = stuck.pod("migrate-abcde", metadata={"ownerReferences": [owner]})
    stuck.kubelet.logs["migrate-abcde", "web", False] = "waiting for lock\n"
    stuck.kubelet.play(pod, phase="Running", ready="True", containerStatuses=[running(ready=True)])
    stuck.release("pending-install", "Initial install underway")
    said = stuck.why()
    assert said.cause == "HookHangs"
    assert "its hook Job migrate (post-install) has been running for 10 min" in said.summary
    assert "waiting for lock" in said.shown


def test_a_release_that_failed(stuck: Stuck) -> None:
    why = "Helm failed"
    stuck.recorded(condition("Deployed", "False", "HelmFailed", why), condition("Ready", "False", "Retrying", why))
    stuck.housed()
    stuck.release("failed", 'Release failed: Service "web" is invalid: spec.ports[0].nodePort: provided port is taken')
    said = stuck.why()
    assert said.cause == "HelmFailed"
    assert "spec.ports[0].nodePort: provided port is taken" in said.summary
    assert f"release {stuck.name}, revision 1: failed" in said.shown


def test_a_release_that_no_helm_works_on(stuck: Stuck) -> None:
    stuck.recorded(condition("Ready", "False", "Deploying", "installs release"))
    stuck.housed()
    stuck.release("pending-install", "Initial install underway")
    said = stuck.why()
    assert said.cause == "HelmStuck"
    assert "left in the state pending-install" in said.summary
    spec = {"holderIdentity": "us", "leaseDurationSeconds": 60, "renewTime": f"{ago(0)[:-1]}.000000Z"}
    stuck.make("coordination.k8s.io/v1", "Lease", "envprov-helm", spec=spec)
    assert stuck.why().cause == "Preparing"


# --- What is well, and what may not be read


def test_nothing_is_wrong(stuck: Stuck) -> None:
    stuck.recorded(*DEPLOYED, condition("Ready", "True", "Ready"), url="https://x.dev.example.com", readyAt=ago(60))
    stuck.housed()
    stuck.deployment()
    eventually(lambda: stuck.why().cause == "NothingWrong", message="the environment is not seen to be well")
    said = stuck.why()
    assert (said.state, said.data["unread"]) == ("Ready", [])
    assert "https://x.dev.example.com" in said.summary


def test_what_was_up_once_is_unhealthy(stuck: Stuck) -> None:
    stuck.recorded(*DEPLOYED, condition("Ready", "False", "Unhealthy", "Job failed"), readyAt=ago(600))
    stuck.housed()
    stuck.played(looping())
    said = stuck.why()
    assert said.state == "Unhealthy"
    assert said.summary.startswith(f"The environment of branch {stuck.branch} is up, but not healthy: pod web-0")


def engineer(cluster: Cluster, stuck: Stuck, folder: Path) -> Path:
    """A kubeconfig of somebody who may edit in the namespace of the environment, and nothing else."""
    stuck.make("v1", "ServiceAccount", "engineer")
    stuck.make(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        "engineer",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        subjects=[{"kind": "ServiceAccount", "name": "engineer", "namespace": stuck.namespace}],
    )
    token = cluster.kubectl("create", "token", "engineer", "-n", stuck.namespace).strip()
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


def test_with_the_rights_of_an_engineer(cluster: Cluster, scene: Scene, tmp_path: Path) -> None:
    stuck = scene.make()
    stuck.starting().played(looping())
    stuck.kubelet.logs["web-0", "web", True] = "panic: at the disco\n"
    said = scene.make(branch=stuck.branch, kubeconfig=engineer(cluster, stuck, tmp_path)).until("CrashLoop")
    assert "pod web-0" in said.summary
    assert "panic: at the disco" in said.shown
    assert "the Environment: you may not" in said.unread
    assert "nodes" not in said.unread, "nodes do not matter to a crash"


def test_a_person_reads_a_paragraph_the_evidence_and_the_next_step(stuck: Stuck) -> None:
    stuck.starting().played(waiting("CreateContainerConfigError", SECRET))
    paragraph, *rest = stuck.call("--project", PROJECT).splitlines()
    assert paragraph == (
        f"The environment of branch {stuck.branch} is not up yet: pod web-0 cannot start container web: {SECRET}."
    )
    assert rest[:3] == ["", "what shows it:", f"  Pod web-0: {SECRET}"]
    assert "what to do:" in rest
    assert f"  kubectl describe pod web-0 -n {stuck.namespace}" in rest
    assert stuck.call("--project", PROJECT, "-o", "name") == "ConfigMissing\n"
    read = yaml.safe_load(stuck.call("--project", PROJECT, "-o", "yaml"))
    fields = ["branch", "project", "environment", "namespace", "state", "cause", "summary", "evidence", "also", "next"]
    assert list(read) == [*fields, "unread"]
    assert read["namespace"] == namespace_of(stuck.name)


def test_a_pod_that_no_scheduler_looks_at(long_ago: Stuck) -> None:
    said = long_ago.until("SchedulerSilent", within=90)
    assert "pod ignored has not been looked at by the scheduler nobody" in said.summary
