"""What ``why`` concludes from evidence, and how it translates the words of Kubernetes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.causes import MEANINGS, Cause, State
from envprov.domain.evidence import Evidence, HookTold, LogWanted, Part, ReleaseTold
from envprov.domain.finalizers import KNOWN, explain_finalizers, owner_of
from envprov.domain.images import explain_pull
from envprov.domain.pod_faults import Told, faulty_pods, pod_fault, trimmed_status
from envprov.domain.refusals import explain_refusal
from envprov.domain.scheduling import explain_unschedulable
from envprov.domain.sizes import DEFAULT_SIZES
from envprov.domain.why import diagnose, further
from envprov.domain.why_told import paragraph_of
from tests.unit.builders import NOW, Manifest, environment, environment_manifest, reported

DOCS = Path(__file__).parents[3] / "docs" / "why.md"


def seen(items: Mapping[Part, tuple[Manifest, ...]] | None = None, **given: Any) -> Evidence:  # noqa: ANN401 - any field
    """Return evidence of feature/x, with a record that starts and a controller at work."""
    record = environment_manifest() | {"status": {"observedGeneration": 1, "conditions": [ready("Starting")]}}
    everything = {Part.RECORD: (record,), Part.NAMESPACE: ({"metadata": {"name": "env"}},)} | dict(items or {})
    return Evidence("shop", "feature/x", "envprov-system", NOW, everything, **({"is_led": True} | given))


def ready(reason: str, message: str = "", status: str = "False") -> Manifest:
    return {
        "type": "Ready",
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-24T11:00:00Z",
    }


def pod(name: str = "web-0", *, node: str = "n1", **status: Any) -> Manifest:  # noqa: ANN401 - any field
    metadata = {"name": name, "uid": f"u-{name}", "creationTimestamp": "2026-11-24T11:00:00Z"}
    return {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": node}, "status": status}


def container(state: Manifest, **more: Any) -> Manifest:  # noqa: ANN401 - any field
    return {"name": "web", "image": "shop:1", "ready": False, "restartCount": 0, "state": state} | more


# --- Words of Kubernetes


@pytest.mark.parametrize(
    ("message", "cause", "said"),
    [
        pytest.param(
            "0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory. preemption: 0/3 nodes are available: "
            "3 No preemption victims found for incoming pod.",
            Cause.INSUFFICIENT_RESOURCES,
            "no node (0 of 3 nodes) can take it: 1 node has too little cpu left, 2 nodes have too little memory left",
            id="resources",
        ),
        pytest.param(
            "0/5 nodes are available: 1 Insufficient cpu, 4 node(s) had untolerated taint {gpu: a, b}.",
            Cause.NODE_TAINTS,
            "no node (0 of 5 nodes) can take it: 1 node has too little cpu left, 4 nodes have the taint {gpu: a, b}, "
            "which it does not tolerate",
            id="more taints than lack of resources",
        ),
        pytest.param(
            "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
            Cause.NODE_TAINTS,
            "no node (0 of 1 node) can take it: 1 node has taints that it does not tolerate",
            id="taints that are not named",
        ),
        pytest.param(
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.",
            Cause.NODE_AFFINITY,
            "no node (0 of 2 nodes) can take it: 2 nodes have not the labels that its nodeSelector or affinity asks "
            "for",
            id="labels",
        ),
        pytest.param(
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
            Cause.CLAIM_UNBOUND,
            "no node (0 of 2 nodes) can take it: a PersistentVolumeClaim that it mounts has no volume yet",
            id="claim without volume",
        ),
        pytest.param(
            '0/1 nodes are available: persistentvolumeclaim "data" not found.',
            Cause.CLAIM_MISSING,
            "no node (0 of 1 node) can take it: the PersistentVolumeClaim data that it mounts is not there",
            id="claim that is not there",
        ),
        pytest.param(
            "0/1 nodes are available: 1 node(s) had volume node affinity conflict.",
            Cause.VOLUME_ELSEWHERE,
            "no node (0 of 1 node) can take it: 1 node cannot use its volume",
            id="volume elsewhere",
        ),
        pytest.param(
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
            Cause.PORT_TAKEN,
            "no node (0 of 1 node) can take it: 1 node has its host port in use",
            id="port",
        ),
        pytest.param(
            "no nodes available to schedule pods",
            Cause.NO_NODES,
            "the cluster has no nodes that could take it",
            id="no nodes",
        ),
        pytest.param(
            "0/1 nodes are available: 1 the moon is full.",
            Cause.UNSCHEDULABLE,
            "no node (0 of 1 node) can take it: 1 node: the moon is full",
            id="words that are not known stay",
        ),
    ],
)
def test_the_scheduler_is_translated(message: str, cause: Cause, said: str) -> None:
    found = explain_unschedulable(message)
    assert (found.cause, found.said) == (cause, said)


@pytest.mark.parametrize(
    ("reason", "words", "cause"),
    [
        ("ErrImagePull", "failed to resolve reference: shop:1: not found", Cause.IMAGE_NOT_FOUND),
        ("ErrImagePull", "manifest unknown: manifest unknown", Cause.IMAGE_NOT_FOUND),
        ("ErrImagePull", "pull access denied, repository does not exist or may require auth", Cause.IMAGE_UNAUTHORIZED),
        ("ErrImagePull", "unexpected status code 401 Unauthorized", Cause.IMAGE_UNAUTHORIZED),
        ("ErrImagePull", "toomanyrequests: You have reached your pull rate limit", Cause.IMAGE_RATE_LIMITED),
        ("ErrImagePull", "dial tcp 10.0.0.1:443: i/o timeout", Cause.IMAGE_REGISTRY_UNREACHABLE),
        ("ErrImagePull", "no match for platform in manifest: not found", Cause.IMAGE_PLATFORM),
        ("InvalidImageName", "", Cause.IMAGE_NAME_INVALID),
        ("ErrImagePull", "http: server gave HTTP response to HTTPS client", Cause.IMAGE_REGISTRY_UNREACHABLE),
        ("ErrImagePull", "net/http: TLS handshake timeout", Cause.IMAGE_REGISTRY_UNREACHABLE),
        ("ImagePullBackOff", "", Cause.IMAGE_PULL_FAILED),
    ],
)
def test_a_registry_is_translated(reason: str, words: str, cause: Cause) -> None:
    assert explain_pull(reason, words)[0] is cause


@pytest.mark.parametrize(
    ("image", "words", "cause"),
    [
        ("r.example.com/shop:429", 'Back-off pulling image "r.example.com/shop:429"', Cause.IMAGE_PULL_FAILED),
        ("r.example.com/shop:429", "reading manifest 429 in r.example.com/shop: not found", Cause.IMAGE_NOT_FOUND),
        (
            "shop:403",
            'failed to do request: Head "https://docker.io/v2/library/shop/manifests/403": no such host',
            Cause.IMAGE_REGISTRY_UNREACHABLE,
        ),
        ("denied/shop:1", 'failed to resolve "docker.io/denied/shop:1": not found', Cause.IMAGE_NOT_FOUND),
        ("shop:404", "unexpected status: 404 Not Found", Cause.IMAGE_NOT_FOUND),
    ],
)
def test_the_name_of_an_image_is_no_answer_of_a_registry(image: str, words: str, cause: Cause) -> None:
    assert explain_pull("ErrImagePull", words, image)[0] is cause


def test_the_newest_answer_of_a_registry_counts() -> None:
    image = "r.example.com/shop:1"
    waits = container({"waiting": {"reason": "ImagePullBackOff", "message": f"Back-off pulling {image}"}}, image=image)
    events = (Told("Failed", f"{image}: not found"), Told("Failed", f"{image}: 429 Too Many Requests"))
    fault = pod_fault(pod(phase="Pending", containerStatuses=[waits]), events, NOW)
    assert fault is not None
    assert fault.cause is Cause.IMAGE_NOT_FOUND


@pytest.mark.parametrize(
    ("message", "cause", "words"),
    [
        (
            'pods "w" is forbidden: exceeded quota: q, requested: pods=2, used: pods=14, limited: pods=15',
            Cause.QUOTA_EXCEEDED,
            "size M would fit",
        ),
        (
            'pods "w" is forbidden: failed quota: q: must specify limits.cpu for: c',
            Cause.QUOTA_NEEDS_REQUESTS,
            "q wants",
        ),
        (
            'pods "w" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)',
            Cause.POD_SECURITY,
            "baseline:latest of the Namespace forbids host namespaces (hostNetwork=true)",
        ),
        (
            'pods "w" is forbidden: error looking up service account env/run: serviceaccount "run" not found',
            Cause.ACCOUNT_MISSING,
            "ServiceAccount env/run is not there",
        ),
        ('admission webhook "a.b.c" denied the request: no', Cause.ADMISSION_REFUSED, "webhook a.b.c says: no"),
        (
            'failed calling webhook "a.b.c": failed to call webhook: Post "https://x": context deadline exceeded',
            Cause.WEBHOOK_UNREACHABLE,
            "a.b.c must be asked first and does not answer: it does not answer in time",
        ),
        ("maximum cpu usage per Container is 4, but limit is 8", Cause.LIMITS_REFUSED, "maximum cpu"),
        ('RuntimeClass "gvisor" not found', Cause.CLASS_MISSING, "RuntimeClass gvisor is not there"),
        ("teapot", Cause.CREATION_REFUSED, "teapot"),
    ],
)
def test_a_refusal_is_translated(message: str, cause: Cause, words: str) -> None:
    fault = explain_refusal(message, DEFAULT_SIZES)
    assert (fault.cause, words in fault.said, bool(fault.advice)) == (cause, True, True)


# --- Pods


@pytest.mark.parametrize(
    ("status", "events", "cause"),
    [
        pytest.param({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}, (), None, id="well"),
        pytest.param({"phase": "Succeeded"}, (), None, id="ended well"),
        pytest.param(
            {"phase": "Pending", "containerStatuses": [container({"waiting": {"reason": "ContainerCreating"}})]},
            (),
            None,
            id="on its way",
        ),
        pytest.param(
            {"phase": "Failed", "containerStatuses": [container({"terminated": {"exitCode": 1}})]},
            (),
            Cause.CRASH_LOOP,
            id="ended badly",
        ),
        pytest.param(
            {
                "phase": "Running",
                "containerStatuses": [
                    container(
                        {"running": {"startedAt": "2026-11-24T11:59:30Z"}},
                        restartCount=2,
                        lastState={"terminated": {"exitCode": 2}},
                    )
                ],
            },
            (),
            Cause.CRASH_LOOP,
            id="between two crashes",
        ),
        pytest.param(
            {
                "phase": "Running",
                "containerStatuses": [
                    container(
                        {"running": {"startedAt": "2026-11-24T11:10:00Z"}},
                        restartCount=2,
                        lastState={"terminated": {"exitCode": 1}},
                    )
                ],
            },
            (Told("Unhealthy", "Readiness probe failed: no"),),
            Cause.READINESS_FAILS,
            id="crashed an hour ago, and its probe fails now",
        ),
        pytest.param(
            {
                "phase": "Running",
                "containerStatuses": [
                    container(
                        {"waiting": {"reason": "CrashLoopBackOff"}},
                        lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                    )
                ],
            },
            (Told("Killing", "Container web failed liveness probe, will be restarted"),),
            Cause.OUT_OF_MEMORY,
            id="out of memory goes before a probe",
        ),
        pytest.param({"phase": "Pending"}, (), Cause.NODE_SILENT, id="a node that does not begin"),
        pytest.param(
            {
                "phase": "Pending",
                "containerStatuses": [
                    container(
                        {
                            "waiting": {
                                "reason": "CreateContainerConfigError",
                                "message": "container has runAsNonRoot and image will run as root",
                            }
                        }
                    )
                ],
            },
            (),
            Cause.CONTAINER_CANNOT_START,
            id="an image that would run as root lacks no Secret",
        ),
    ],
)
def test_what_is_wrong_with_a_pod(status: Manifest, events: tuple[Told, ...], cause: Cause | None) -> None:
    fault = pod_fault(pod(**status), events, NOW)
    assert (fault.cause if fault else None) is cause


def test_a_probe_is_of_the_container_that_its_event_names() -> None:
    both = [
        container({"running": {"startedAt": "2026-11-24T11:10:00Z"}}, name=name, ready=False)
        for name in ("proxy", "web")
    ]
    events = (Told("Unhealthy", "Readiness probe failed: no", "web"),)
    fault = pod_fault(pod(phase="Running", containerStatuses=both), events, NOW)
    assert fault is not None
    assert (fault.cause, fault.container) == (Cause.READINESS_FAILS, "web")


def test_a_controller_says_the_same_of_trimmed_pods_and_its_words_do_not_count_restarts() -> None:
    crash = container({"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"exitCode": 1}})
    whole = {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [crash | {"restartCount": 7}]}
    trimmed = trimmed_status(whole)
    assert "podIP" not in trimmed
    pods = [pod("web-a", **trimmed), pod("web-b", **trimmed_status(whole))]
    assert list(faulty_pods(pods)) == ["Pod web-a is not up: container web ended with exit code 1 (1 more likewise)"]
    well = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [crash]}
    assert trimmed_status(well) == {"phase": "Running"}


# --- The answer


def test_what_has_to_be_mended_first_is_the_answer_and_the_rest_stands_below() -> None:
    crash = container({"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"exitCode": 1}})
    pods = (
        pod("a", phase="Running", containerStatuses=[crash]),
        pod("b", containerStatuses=[container({"waiting": {"reason": "ErrImagePull", "message": "not found"}})]),
        pod("c", node="", conditions=[{"type": "PodScheduled", "status": "False", "message": "no nodes available"}]),
    )
    said = diagnose(seen({Part.PODS: pods}))
    assert said.cause is Cause.NO_NODES
    assert [cause for cause, _ in said.also] == [Cause.IMAGE_NOT_FOUND, Cause.CRASH_LOOP]


def test_a_log_is_wanted_where_it_tells_more_and_stands_in_the_evidence() -> None:
    crash = container({"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"exitCode": 1}})
    items = {Part.PODS: (pod(phase="Running", containerStatuses=[crash]),)}
    wanted = LogWanted("web-0", "web", previous=True)
    assert further(seen(items)).logs == (wanted,)
    said = diagnose(seen(items, logs={wanted: "boom\n"}))
    assert said.evidence[-1].says == "boom"


def test_what_could_not_be_read_is_told_only_where_it_matters() -> None:
    unread = {Part.NODES: "you may not", Part.RELEASE: "you may not", Part.LOGS: "no answer"}
    crash = container({"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"exitCode": 1}})
    items = {Part.PODS: (pod(phase="Running", containerStatuses=[crash]),)}
    assert [part for part, _ in diagnose(seen(items, unread=unread)).unread] == [Part.RELEASE, Part.LOGS]
    assert len(diagnose(seen(unread=unread)).unread) == 3


def test_nothing_that_was_read_is_no_reason_to_say_that_all_is_well() -> None:
    said = diagnose(Evidence("shop", "feature/x", "envprov-system", NOW, unread={Part.RECORD: "no answer within 4 s"}))
    assert (said.state, said.cause) == (State.UNKNOWN, Cause.UNKNOWN)
    assert "what could not be read may: the Environment" in said.summary


def test_nothing_is_said_of_pods_that_could_not_be_read() -> None:
    web = {"metadata": {"name": "web", "uid": "u"}, "spec": {"replicas": 2}, "status": {"availableReplicas": 1}}
    said = diagnose(seen({Part.DEPLOYMENTS: (web,)}, unread={Part.PODS: "you may not"}))
    assert said.cause is Cause.UNKNOWN
    assert "Deployment web has 1 of 2 pods ready, and why cannot be said" in said.summary
    assert (Part.PODS, "you may not") in said.unread


def event(reason: str, message: str, at: str, kind: str = "Warning", uid: str = "u-db") -> Manifest:
    about = {"involvedObject": {"uid": uid}, "reason": reason, "message": message, "type": kind, "metadata": {}}
    return about | ({"eventTime": at} if "." in at else {"lastTimestamp": at})


@pytest.mark.parametrize(
    ("later", "cause"),
    [
        pytest.param(("SuccessfulCreate", "11:58:00Z", "Normal"), Cause.QUOTA_EXCEEDED, id="refused since"),
        pytest.param(("SuccessfulCreate", "11:59:00.5Z", "Normal"), Cause.QUOTA_EXCEEDED, id="in the same second"),
        pytest.param(("SuccessfulCreate", "11:59:30Z", "Normal"), Cause.STARTING, id="made since"),
    ],
)
def test_a_refusal_counts_until_a_pod_has_been_made(later: tuple[str, str, str], cause: Cause) -> None:
    quota = 'pods "db-0" is forbidden: exceeded quota: q, requested: pods=2, used: pods=14, limited: pods=15'
    events = (
        event("FailedCreate", quota, "2026-11-24T11:59:00Z"),
        event(later[0], "create Pod db-0", f"2026-11-24T{later[1]}", later[2]),
    )
    db = {"metadata": {"name": "db", "uid": "u-db"}, "spec": {"replicas": 3}, "status": {"replicas": 1}}
    assert diagnose(seen({Part.STATEFUL_SETS: (db,), Part.EVENTS: events, Part.PODS: ()})).cause is cause


@pytest.mark.parametrize(
    ("phase", "ended_at", "cause", "words"),
    [
        ("Succeeded", "11:58:00", Cause.POD_FINALIZER, "pod web-0 has ended and is held by the finalizer batch"),
        ("Succeeded", "11:59:50", Cause.POD_ENDING, "pod web-0 should have ended 10 s ago"),
        ("Running", "11:58:00", Cause.POD_ENDING, "its node has not said that it did"),
    ],
)
def test_a_finalizer_of_a_job_is_blamed_once_its_pod_has_long_ended(
    phase: str, ended_at: str, cause: Cause, words: str
) -> None:
    stays = pod(phase=phase)
    stays["metadata"] |= {
        "deletionTimestamp": f"2026-11-24T{ended_at}Z",
        "finalizers": ["batch.kubernetes.io/job-tracking"],
    }
    going = {"metadata": {"name": "env", "deletionTimestamp": "2026-11-24T11:50:00Z"}}
    said = diagnose(seen({Part.PODS: (stays,), Part.NAMESPACE: (going,)}))
    assert (said.cause, words in said.summary) == (cause, True)


def test_a_hook_that_fails_again_and_again_is_told_before_kubernetes_gives_up() -> None:
    hook = {"name": "migrate", "uid": "u-job", "annotations": {"helm.sh/hook": "pre-install"}}
    owner = {"ownerReferences": [{"kind": "Job", "name": "migrate", "uid": "u-job"}]}
    tries = [pod(name, phase="Failed", containerStatuses=[container(BAD_END)]) for name in ("m-1", "m-2")]
    for minute, one in enumerate(tries):
        one["metadata"] |= owner | {"creationTimestamp": f"2026-11-24T11:5{minute}:00Z"}
    job: Manifest = {"kind": "Job", "metadata": hook, "status": {"startTime": "2026-11-24T11:59:00Z", "failed": 2}}
    said = diagnose(seen({Part.JOBS: (job,), Part.PODS: tuple(tries)}))
    assert said.cause is Cause.CRASH_LOOP
    assert "hook Job migrate (pre-install) does not end: pod m-2 has ended: container web ended with exit code 3" in (
        said.summary
    )
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}  # a later try went well
    assert diagnose(seen({Part.JOBS: (job,), Part.PODS: tuple(tries)})).cause is not Cause.CRASH_LOOP


@pytest.mark.parametrize("branch", ["feature/it's", "a;reboot", "$(id)", "event/日本 語"])
def test_what_to_do_can_be_pasted(branch: str) -> None:
    evidence = replace(seen({Part.RECORD: ()}), branch=branch, items={Part.RECORD: (), Part.PROJECTS: (PROJECT,)})
    command = diagnose(evidence).next[0]
    assert shlex.split(command) == ["envprov", "up", branch, "--project", "shop"]


def test_what_to_do_names_the_group_of_a_kind_that_kubernetes_has_too() -> None:
    held = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "shop", "finalizers": ["routes.serving.knative.dev"]},
    }
    left = {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "some"}
    going = {
        "metadata": {"name": "env", "deletionTimestamp": "2026-11-24T11:50:00Z"},
        "status": {"conditions": [left]},
    }
    said = diagnose(seen({Part.CONTENT: (held,), Part.NAMESPACE: (going,)}))
    assert said.cause is Cause.FINALIZER
    assert said.next[0].startswith("kubectl describe service.serving.knative.dev shop -n ")


def test_a_claim_that_nobody_mounts_does_not_matter_to_what_is_well() -> None:
    record = environment_manifest() | {
        "status": {"observedGeneration": 1, "conditions": [ready("Ready", status="True")]}
    }
    claim = {"metadata": {"name": "spare"}, "spec": {}, "status": {"phase": "Pending"}}
    said = diagnose(seen({Part.RECORD: (record,), Part.CLAIMS: (claim,)}))
    assert (said.state, said.cause) == (State.READY, Cause.NOTHING_WRONG)


def test_a_hook_that_helm_remembers_is_named_although_its_job_is_gone() -> None:
    release = ReleaseTold(
        "x", 2, "failed", "failed pre-upgrade", (HookTold("migrate", "Job", ("pre-upgrade",), "Failed"),)
    )
    said = diagnose(seen(release=release))
    assert said.cause is Cause.HOOK_FAILED
    assert "Job migrate (pre-upgrade)" in said.summary


def test_a_controller_that_is_gone_does_not_matter_to_what_needs_none() -> None:
    crash = container({"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"exitCode": 1}})
    items = {Part.PODS: (pod(phase="Running", containerStatuses=[crash]),)}
    assert diagnose(seen(items, is_led=False)).cause is Cause.CRASH_LOOP


def test_a_workload_that_was_just_changed_is_looked_at_again_before_anybody_is_blamed() -> None:
    metadata = {"name": "web", "generation": 2, "creationTimestamp": (NOW - timedelta(hours=1)).isoformat()}
    item = {"metadata": metadata, "spec": {}, "status": {"observedGeneration": 1}}
    assert further(seen({Part.DEPLOYMENTS: (item,)})).again == frozenset({Part.DEPLOYMENTS})


FIELD_NAMES = (
    "metadata name namespace uid generation finalizers ownerReferences",
    "annotations labels deletionTimestamp creationTimestamp spec replicas nodeName",
    "containers initContainers restartPolicy schedulingGates readinessGates volumes taints",
    "service suspend storageClassName activeDeadlineSeconds holderIdentity renewTime leaseDurationSeconds",
    "terminationGracePeriodSeconds status phase conditions type reason message",
    "observedGeneration availableReplicas readyReplicas desiredNumberScheduled",
    "numberAvailable currentNumberScheduled active",
    "containerStatuses initContainerStatuses state waiting running terminated lastState",
    "exitCode restartCount ready started startedAt startTime teardown",
    "waitingFor step plan queue position readyAt webhooks",
    "clientConfig involvedObject lastTimestamp series key value effect",
    "gitlab rules branches",
)
FIELDS = [name for row in FIELD_NAMES for name in row.split()]
BAD_END = {"terminated": {"exitCode": 3}}
PROJECT: Manifest = {
    "metadata": {"name": "shop"},
    "spec": {"chart": {"local": {"path": "x"}}, "rules": [{"branches": ["*"]}]},
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=20,
)


@given(part=st.sampled_from(list(Part)), junk=st.dictionaries(st.sampled_from(["metadata", "spec", "status"]), JUNK))
def test_nothing_that_a_cluster_may_hold_breaks_the_answer(part: Part, junk: dict[str, Any]) -> None:
    said = diagnose(seen({part: (junk,)}))
    assert said.summary
    further(seen({part: (junk,)}))


# --- From the record alone


@pytest.mark.parametrize(
    ("conditions", "extra", "words"),
    [
        pytest.param([ready("Queued", "no room")], {}, "is not up yet: it waits for room: no room.", id="queued"),
        pytest.param(
            [ready("Starting", "a"), ready("x") | {"type": "Healthy", "message": "Pod web-0 is not up"}],
            {},
            "is not up yet: Pod web-0 is not up.",
            id="pods",
        ),
        pytest.param([ready("Ready", "https://x", "True")], {}, "is ready: https://x.", id="ready"),
        pytest.param([], {}, "no controller has reported on it yet.", id="nothing reported"),
    ],
)
def test_a_comment_is_answered_from_the_record(conditions: list[Manifest], extra: Manifest, words: str) -> None:
    said = paragraph_of(reported(environment(), {"observedGeneration": 1, "conditions": conditions} | extra), NOW)
    assert said.startswith("The environment of branch feature/x ")
    assert said.endswith(words)


def test_a_teardown_is_told_from_the_record() -> None:
    going = reported(
        environment(),
        {
            "conditions": [ready("TearingDown")],
            "teardown": {
                "step": "Planned",
                "startedAt": "2026-11-24T11:00:00Z",
                "waitingFor": ["Topic orders (finalizers: strimzi.io/topic-operator)"],
            },
        },
    ).model_copy(update={"deleting": True})
    said = paragraph_of(going, NOW)
    assert "is not gone yet: Topic orders is held by the finalizer strimzi.io/topic-operator of Strimzi" in said


# --- Tables


def test_every_cause_has_a_meaning_and_stands_in_the_page() -> None:
    assert list(MEANINGS) == list(Cause)
    rows = [f"| `{cause.value}` | {meaning} |" for cause, meaning in MEANINGS.items()]
    _, _, table = DOCS.read_text().partition("| cause | meaning |\n|---|---|\n")
    assert table.splitlines() == rows


@pytest.mark.parametrize(
    ("finalizer", "who"),
    [
        ("kubernetes.io/pvc-protection", "Kubernetes"),
        ("service.kubernetes.io/load-balancer-cleanup", "the cloud's load balancer controller"),
        ("finalizers.fluxcd.io", "Flux"),
        ("resources-finalizer.argocd.argoproj.io/background", "Argo CD"),
        ("controller.cattle.io/namespace-auth", "Rancher"),
        ("strimzi.io/topic-operator", "Strimzi"),
        ("cephblockpool.ceph.rook.io", "Rook"),
        ("networking.gke.io/neg-finalizer", "Google's load balancer controller"),
        ("example.com/unheard-of", None),
    ],
)
def test_who_takes_a_finalizer_off(finalizer: str, who: str | None) -> None:
    owner = owner_of(finalizer)
    assert (owner.who if owner else None) == who


def test_at_least_25_finalizers_are_known_and_each_finds_itself() -> None:
    assert len(KNOWN) >= 25
    assert len({owner.pattern for owner in KNOWN}) == len(KNOWN)
    assert all(owner_of(owner.pattern.replace("*", "x")) for owner in KNOWN)


def test_of_an_unknown_finalizer_no_owner_is_made_up() -> None:
    assert explain_finalizers(["example.com/x", "odd"]) == (
        "the finalizer example.com/x, whose owner is not known; its name points to example.com; "
        "the finalizer odd, whose owner is not known"
    )
