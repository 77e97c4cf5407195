"""A release beside what is live: what somebody changed is told with who did, what the API server writes is not."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.charted import charted
from envprov.domain.live_diff import Compared, State, compare, scalers
from envprov.domain.managers import Managers

NAMESPACE = "env-x"
RELEASE = ("x", NAMESPACE)
MARKS = {"meta.helm.sh/release-name": "x", "meta.helm.sh/release-namespace": NAMESPACE}
HELM_TIME, LATER = "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"

DECLARED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {"note": ""}, "creationTimestamp": None},
    "spec": {
        "replicas": 3,
        "paused": False,
        "minReadySeconds": None,
        "strategy": {"type": ""},
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "web:1",
                        "args": ["--fast"],
                        "env": [{"name": "MODE", "value": "a"}, {"name": "EMPTY", "value": ""}],
                        "ports": [{"containerPort": 80}],
                        "resources": {"requests": {"cpu": 1, "memory": "1024Mi"}, "limits": None},
                    }
                ],
                "tolerations": [],
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "0.5Gi"}}],
            },
        },
    },
}
POD = ("spec", "template", "spec")
CONTAINER = (*POD, "containers", 0)


def managed(manager: str, fields: dict[str, Any], **more: str) -> dict[str, Any]:
    """Return an entry of managedFields."""
    given_entry = {"manager": manager, "operation": "Update", "time": LATER, "fieldsType": "FieldsV1"}
    return {**given_entry, "fieldsV1": fields, **more}


HELM = managed(
    "helm",
    {
        "f:metadata": {"f:labels": {"f:app": {}}, "f:annotations": {"f:note": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:template": {
                "f:spec": {"f:containers": {'k:{"name":"web"}': {".": {}, "f:image": {}, "f:args": {}, "f:name": {}}}}
            },
        },
    },
    operation="Apply",
    time=HELM_TIME,
)


def live(*changes: tuple[tuple[str | int, ...], Any], by: tuple[dict[str, Any], ...] = (HELM,)) -> dict[str, Any]:
    """Return the object as the API server has it, with its defaults and in its words, after some changes."""
    found = copy.deepcopy(DECLARED)
    metadata, spec, pod = found["metadata"], found["spec"], found["spec"]["template"]["spec"]
    metadata |= {"namespace": NAMESPACE, "uid": "1", "resourceVersion": "7", "generation": 4, "managedFields": list(by)}
    metadata["creationTimestamp"] = HELM_TIME
    metadata["annotations"] |= {**MARKS, "deployment.kubernetes.io/revision": "2"}
    metadata["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    spec |= {"progressDeadlineSeconds": 600, "strategy": {"type": "RollingUpdate"}}
    del spec["paused"], pod["tolerations"]
    pod |= {"restartPolicy": "Always", "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "512Mi"}}]}
    container = pod["containers"][0]
    container |= {"imagePullPolicy": "Always", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    container["ports"][0]["protocol"] = "TCP"
    del container["env"][1]["value"]
    found["status"] = {"replicas": 9}
    for path, value in changes:
        place: Any = found
        for part in path[:-1]:
            place = place[part]
        if value is GONE:
            del place[path[-1]]
        elif isinstance(place, list) and path[-1] == len(place):
            place.append(value)
        else:
            place[path[-1]] = value
    return found


GONE = object()


def compared(declared: Any, found: Any, autoscalers: Any = ()) -> Compared:  # noqa: ANN401 - any JSON
    """Compare one object."""
    (item,) = charted([declared], NAMESPACE, {})
    return compare(item, found, RELEASE, scalers(autoscalers))


def told(result: Compared) -> list[tuple[str, str, Any, Any, str]]:
    """Return each difference: its path, how, both values, and who."""
    found = []
    for entry in result.as_json()["fields"]:
        who = entry.get("by")
        by = f"{who['name']}{'' if who['recorded'] else '?'}" if who else ""
        found.append((entry["path"], entry["edit"], entry.get("before"), entry.get("after"), by))
    return found


def test_what_the_api_server_writes_is_no_difference() -> None:
    result = compared(DECLARED, live())
    assert (told(result), result.state, result.differs) == ([], State.SAME, False)


def in_pod(containers: dict[str, Any]) -> dict[str, Any]:
    """Return fields of the containers of a pod, as managedFields have them."""
    return {"f:spec": {"f:template": {"f:spec": {"f:containers": containers}}}}


EDIT = managed("kubectl-edit", in_pod({'k:{"name":"web"}': {"f:image": {}}}))
SIDE = managed("injector", in_pod({'k:{"name":"side"}': {".": {}}}))
SCALE = managed("kubectl", {"f:spec": {"f:replicas": {}}}, subresource="scale")
NEW_VARIABLE: dict[str, Any] = {'k:{"name":"NEW"}': {".": {}, "f:name": {}, "f:value": {}}}
SET_ENV = managed("kubectl-set", in_pod({'k:{"name":"web"}': {"f:env": NEW_VARIABLE}}))
NOTED = managed("kubectl-annotate", {"f:metadata": {"f:annotations": {"f:mine": {}}}})
APPLIED = managed(
    "kubectl-client-side-apply",
    {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}}}},
)
FINALIZER = managed("operator", {"f:metadata": {"f:finalizers": {".": {}, 'v:"a.example/b"': {}}}})
PORT = managed(
    "k9s", in_pod({'k:{"name":"web"}': {"f:ports": {'k:{"containerPort":9090,"protocol":"TCP"}': {".": {}}}}})
)
STATUS = managed("kubectl-edit", {"f:spec": {"f:replicas": {}}}, subresource="status")
CONTROL = managed("kube-controller-manager", {"f:spec": {"f:new": {}}})
STRATEGY = managed("k9s", {"f:spec": {"f:strategy": {"f:rollingUpdate": {"f:maxSurge": {}}}}})
IMAGE = "spec.template.spec.containers[name=web].image"
ENV = "spec.template.spec.containers[name=web].env"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(
            live((("spec", "replicas"), 5), by=(HELM, SCALE)),
            [("spec.replicas", "changed", 3, 5, "kubectl scale")],
            id="scaled",
        ),
        pytest.param(
            live(((*CONTAINER, "image"), "web:2"), by=(HELM, EDIT)),
            [(IMAGE, "changed", "web:1", "web:2", "kubectl edit")],
            id="edited",
        ),
        pytest.param(
            live(((*CONTAINER, "env", 2), {"name": "NEW", "value": "b"}), by=(HELM, SET_ENV)),
            [(f"{ENV}[name=NEW]", "added", None, {"name": "NEW", "value": "b"}, "kubectl set")],
            id="a variable that somebody added",
        ),
        pytest.param(
            live(((*CONTAINER, "env", 2), {"name": "NEW", "value": "b"})), [], id="an addition of nobody on record"
        ),
        pytest.param(
            live(((*CONTAINER, "env", 0), GONE), by=(HELM, SET_ENV)),
            [(f"{ENV}[name=MODE]", "removed", {"name": "MODE", "value": "a"}, None, "kubectl set?")],
            id="taken away: who wrote beside it, as a guess",
        ),
        pytest.param(
            live((("metadata", "labels"), {}), by=(NOTED,)),
            [("metadata.labels.app", "removed", "web", None, "")],
            id="taken away, and nobody is on record",
        ),
        pytest.param(
            live((("metadata", "annotations", "mine"), "x"), by=(HELM, NOTED)),
            [("metadata.annotations.mine", "added", None, "x", "kubectl annotate")],
            id="annotated",
        ),
        pytest.param(
            live((("metadata", "annotations", "note"), GONE), by=()),
            [("metadata.annotations.note", "removed", "", None, "")],
            id="an empty annotation is something",
        ),
        pytest.param(
            live((("metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"), "x"), by=(APPLIED,)),
            [],
            id="what kubectl apply keeps for itself",
        ),
        pytest.param(
            live((("spec", "replicas"), 5), by=(HELM, STATUS)),
            [("spec.replicas", "changed", 3, 5, "Helm")],
            id="the status is not the object",
        ),
        pytest.param(live((("spec", "new"), 5), by=(HELM, CONTROL)), [], id="bookkeeping of the control plane"),
        pytest.param(
            live((("spec", "strategy"), {"type": "x", "rollingUpdate": {"maxSurge": 3, "other": 1}}), by=(STRATEGY,)),
            [("spec.strategy.rollingUpdate.maxSurge", "added", None, 3, "k9s")],
            id="an addition among defaults: exactly what was added",
        ),
        pytest.param(
            live(((*CONTAINER, "args"), ["--fast", "--more"]), by=(HELM, managed("lens", dict(HELM["fieldsV1"])))),
            [(IMAGE.replace("image", "args"), "changed", ["--fast"], ["--fast", "--more"], "lens")],
            id="owned by two: the one that is not Helm",
        ),
        pytest.param(
            live(((*CONTAINER, "resources", "requests", "cpu"), "1001m")),
            [(IMAGE.replace("image", "resources.requests.cpu"), "changed", 1, "1001m", "")],
            id="another quantity",
        ),
        pytest.param(
            live(((*POD, "containers", 1), {"name": "side"}), by=(SIDE,)),
            [("spec.template.spec.containers[name=side]", "added", None, {"name": "side"}, "injector")],
            id="a container that somebody added",
        ),
        pytest.param(
            live((("metadata", "finalizers"), ["a.example/b"]), by=(HELM, FINALIZER)),
            [("metadata.finalizers", "added", None, ["a.example/b"], "operator")],
            id="a finalizer",
        ),
        pytest.param(
            live(((*CONTAINER, "ports", 1), {"containerPort": 9090, "protocol": "TCP"}), by=(HELM, PORT)),
            [
                (
                    IMAGE.replace("image", "ports[containerPort=9090]"),
                    "added",
                    None,
                    {"containerPort": 9090, "protocol": "TCP"},
                    "k9s",
                )
            ],
            id="a port that somebody added",
        ),
    ],
)
def test_a_difference_is_told_with_who_made_it(found: dict[str, Any], expected: list[Any]) -> None:
    result = compared(DECLARED, found)
    assert told(result) == expected
    assert result.state is (State.CHANGED if expected else State.SAME)


def test_who_is_told_with_time_and_way() -> None:
    entry = compared(DECLARED, live((("spec", "replicas"), 5), by=(HELM, SCALE))).as_json()["fields"][0]
    assert entry["by"] == {
        "manager": "kubectl",
        "name": "kubectl scale",
        "operation": "Update",
        "subresource": "scale",
        "time": LATER,
        "recorded": True,
    }


HPA = {
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "web"},
    "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
}
BY_HPA = managed("kube-controller-manager", {"f:spec": {"f:replicas": {}}}, subresource="scale")


@pytest.mark.parametrize(
    ("by", "autoscalers", "expected"),
    [
        pytest.param((HELM,), [HPA], "HorizontalPodAutoscaler web", id="one that scales it"),
        pytest.param((HELM, BY_HPA), [], "a HorizontalPodAutoscaler", id="one that cannot be read has scaled it"),
        pytest.param((HELM, SCALE), [{**HPA, "spec": {}}], None, id="one of something else"),
    ],
)
def test_an_autoscaler_decides_on_replicas(by: Any, autoscalers: Any, expected: str | None) -> None:  # noqa: ANN401
    result = compared(DECLARED, live((("spec", "replicas"), 5), by=by), autoscalers)
    assert [whose for _, whose in result.expected] == ([expected] if expected else [])
    assert result.differs is (expected is None)


def test_what_sleeps_is_no_difference_and_what_a_person_changed_meanwhile_is() -> None:
    asleep = managed("envprov-sleep", {"f:spec": {"f:replicas": {}, "f:new": {}}})
    result = compared(DECLARED, live((("spec", "replicas"), 0), (("spec", "new"), 1), by=(HELM, asleep)))
    assert [(field.where, whose) for field, whose in result.expected] == [
        ("spec.replicas", "its sleep"),
        ("spec.new", "its sleep"),
    ]
    assert result.differs is False
    scaled = compared(DECLARED, live((("spec", "replicas"), 2), by=(HELM, SCALE)))
    assert scaled.differs is True


def test_what_is_not_there_is_missing() -> None:
    assert (compared(DECLARED, None).state, compared(DECLARED, None).differs) == (State.MISSING, True)


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        pytest.param(("y", "z"), "it belongs to release y of namespace z", id="another"),
        pytest.param(("x", "z"), "it belongs to release x of namespace z", id="of another namespace"),
        pytest.param((), "it bears no mark of Helm: somebody made it anew, or took the mark off", id="none"),
    ],
)
def test_an_object_of_another_release_is_foreign(marks: tuple[str, ...], message: str) -> None:
    notes = dict(zip(MARKS, marks, strict=False))
    result = compared(DECLARED, live((("metadata", "annotations"), {"note": "", **notes})))
    assert (result.state, result.message) == (State.FOREIGN, message)


def test_an_object_on_its_way_out_is_no_longer_what_the_release_says() -> None:
    result = compared(DECLARED, live((("metadata", "deletionTimestamp"), LATER)))
    assert (result.differs, result.message) == (True, "it is being deleted")


def secret(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "annotations": MARKS}, **fields}


def test_a_secret_shows_its_keys_alone() -> None:
    declared = secret(stringData={"a": "canary-1", "b": "canary-2", "c": "same"})
    by = managed("kubectl-edit", {"f:data": {"f:a": {}, "f:new": {}}})
    found = secret(data={"a": "Y2FuYXJ5LTM=", "c": "c2FtZQ==", "new": "Y2FuYXJ5LTQ="}, type="Opaque")
    found["metadata"] = {**found["metadata"], "managedFields": [by]}
    result = compared(declared, found)
    assert told(result) == [
        ("data.a", "changed", "***", "***", "kubectl edit"),
        ("data.b", "removed", "***", None, "kubectl edit?"),
        ("data.new", "added", None, "***", "kubectl edit"),
    ]
    assert "Y2FuYXJ5" not in json.dumps(result.as_json())


NAMES = {
    ("kubectl", "Update", ""): "kubectl",
    ("kubectl", "Apply", ""): "kubectl apply",
    ("kubectl", "Update", "scale"): "kubectl scale",
    ("kubectl-client-side-apply", "Update", ""): "kubectl apply",
    ("kubectl-rollout", "Update", ""): "kubectl rollout",
    ("kube-controller-manager", "Update", "scale"): "a HorizontalPodAutoscaler",
    ("kube-controller-manager", "Update", ""): "kube-controller-manager",
    ("argocd-controller", "Apply", ""): "Argo CD",
    ("helm", "Apply", ""): "Helm",
    ("envprov-controller", "Apply", ""): "envprov",
    ("something-else", "Update", ""): "something-else",
    ("", "Update", ""): "somebody without a name",
}


@pytest.mark.parametrize("given_name", NAMES, ids=str)
def test_managers_are_called_as_people_know_them(given_name: tuple[str, str, str]) -> None:
    manager, operation, subresource = given_name
    entry = managed(manager, {"f:a": {}}, operation=operation, subresource=subresource)
    who = Managers({"a": 1, "metadata": {"managedFields": [entry]}}).of(("a",))
    assert who is not None
    assert (who.name, who.time) == (NAMES[given_name], datetime(2026, 1, 1, 2, tzinfo=UTC))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)
NODES = st.sampled_from(
    [".", "f:spec", "f:a", "f:data", 'k:{"name":"a"}', "k:{", "k:[1]", "v:1", 'v:"a"', "i:0", "i:-1", "x", ""]
)
FIELDS = st.recursive(JUNK, lambda inner: st.dictionaries(NODES, inner, max_size=4), max_leaves=15)
OBJECTS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["Secret", "Thing"]),
        "metadata": st.fixed_dictionaries({}, optional={"annotations": JUNK}),
    },
    optional={"spec": JUNK, "data": JUNK, "a": JUNK, "apiVersion": JUNK},
)


@settings(max_examples=100, deadline=None)
@given(
    OBJECTS, OBJECTS, st.lists(st.fixed_dictionaries({"manager": JUNK, "fieldsV1": FIELDS, "time": JUNK}), max_size=2)
)
def test_junk_is_compared_all_the_same(declared: Any, found: Any, entries: Any) -> None:  # noqa: ANN401
    found["metadata"]["managedFields"] = entries
    result = compared(declared, found, [declared, found])
    assert json.dumps(result.as_json())


@settings(max_examples=60, deadline=None)
@given(OBJECTS)
def test_what_is_live_as_it_was_declared_is_the_same(declared: dict[str, Any]) -> None:
    found = copy.deepcopy(declared)
    notes = found["metadata"].get("annotations")
    found["metadata"]["annotations"] = {**(notes if isinstance(notes, dict) else {}), **MARKS}
    if not isinstance(notes, dict):
        declared["metadata"].pop("annotations", None)
    assert compared(declared, found).as_json()["state"] == "same"


def test_a_finalizer_beside_those_of_the_release_is_told_alone() -> None:
    declared = {**DECLARED, "metadata": {**DECLARED["metadata"], "finalizers": ["own.example/a"]}}
    found = live((("metadata", "finalizers"), ["a.example/b", "own.example/a"]), by=(HELM, FINALIZER))
    assert told(compared(declared, found)) == [
        ('metadata.finalizers[="a.example/b"]', "added", None, "a.example/b", "operator")
    ]
