"""What is answered without kubectl, to the letter as kubectl answers it."""

from __future__ import annotations

import json

import pytest

from tests import asking
from tests.cluster import Cluster
from tests.integration.records import install_definition

QUESTIONS = [
    "get ns {} -o json",
    "get ns/{} -o name",
    "get namespace {} -o jsonpath={{.metadata.uid}}",
    "get namespace {} -o jsonpath={{.metadata.deletionTimestamp}}",
    "get ns -o name",
    "get ns nobody -o json --ignore-not-found",
    "get cm -n {} -o json",
    "get cm -n {} -l app=a -o json",
    "get cm -n {} -l app=nobody -o json",
    "--namespace {} get configmaps --output json --field-selector metadata.name=one",
    "get configmap/one -n {} -o jsonpath={{.data.text}}",
    "get cm one -n {} -o name",
    "get sa,cm,secret -n {} -o name",
    "get deploy,quota,env,role -n {} -o name",
    "get deploy -n {} -o json",
    "get deploy web -n {} -o jsonpath={{.spec.replicas}}",
    "get deploy web -n {} -o jsonpath={{.spec.paused}}",
    "get env -n {} -o json",
    "get clusterroles -o name",
    "get pods -A -o name",
]
LEFT_TO_KUBECTL = [
    "get cm -n {}",
    "get cm one -n {} -o yaml",
    "get cm one two -n {} -o json",
    "get cm/one cm/two -n {} -o name",
    "get cm one -n {} -o jsonpath={{.metadata.labels['app']}}",
    "get cm one -n {} -o jsonpath={{.metadata.labels}}",
    "get robots -n {} -o json",
    "get cm nobody -n {} -o json",
    "get --raw /readyz",
    "describe ns {}",
    "create namespace {}",
    "patch cm nobody -n {} --type=merge -p {{}}",
]


@pytest.fixture
def furnished(cluster: Cluster, control_namespace: str) -> str:
    """Return a namespace with some objects."""
    install_definition(cluster)
    for name in ("one", "two"):
        text = "ü <&> \u2028"
        cluster.kubectl("create", "configmap", name, "-n", control_namespace, f"--from-literal=text={text}")
    cluster.kubectl("label", "cm", "one", "-n", control_namespace, "app=a")
    cluster.kubectl("create", "deployment", "web", "-n", control_namespace, "--image=x", "--replicas=0")
    cluster.kubectl("rollout", "status", "deployment/web", "-n", control_namespace, "--timeout=60s")
    return control_namespace


def test_the_answers_are_those_of_kubectl(cluster: Cluster, furnished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(question: str) -> tuple[str | None, str]:
        arguments = question.format(furnished).split()
        ours = asking.answer(cluster.kubeconfig, arguments)
        with monkeypatch.context() as without:
            without.setattr(asking, "answer", lambda *_: None)
            return ours, cluster.kubectl(*arguments)

    for question in QUESTIONS:
        # Others make and delete namespaces beside this one.
        moving = " -A" in question or question in {"get ns -o name", "get clusterroles -o name"}
        ours, theirs = both(question)
        assert ours is not None, question
        if moving:
            assert set(ours.splitlines()) & set(theirs.splitlines()) or not theirs, question
        elif "json " in f"{question} " and theirs:
            assert json.loads(ours) == json.loads(theirs), question
        else:
            assert ours == theirs, question


def test_what_is_not_simple_or_goes_wrong_is_left_to_kubectl(cluster: Cluster, furnished: str) -> None:
    for question in LEFT_TO_KUBECTL:
        assert asking.answer(cluster.kubeconfig, question.format(furnished).split()) is None, question


def test_what_is_changed_is_what_kubectl_would_change(cluster: Cluster, furnished: str) -> None:
    def told(*arguments: str) -> str | None:
        return asking.answer(cluster.kubeconfig, arguments)

    name = f"{furnished}-more"
    assert told("create", "namespace", name) == f"namespace/{name} created\n"
    assert told("delete", "namespace", name, "--wait=false", "--ignore-not-found") == f'namespace "{name}" deleted\n'
    assert told("delete", "namespace", "nobody", "--wait=false", "--ignore-not-found") == ""
    manifests = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new", "namespace": furnished}}]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
    apply = ("apply", "--server-side", "-f", "-")
    assert asking.answer(cluster.kubeconfig, apply, listed) == "configmap/new serverside-applied\n"
    assert asking.answer(cluster.kubeconfig, apply, listed.replace("v1", "v2")) is None
    assert asking.answer(cluster.kubeconfig, apply, listed.replace('"new"', '"New"')) is None
    patch = ("patch", "cm", "one", "-n", furnished, "--type=merge", "-p", '{"data":{"a":"b"}}')
    assert told(*patch) == "configmap/one patched\n"
    assert json.loads(cluster.kubectl("get", "cm", "one", "-n", furnished, "-o", "json"))["data"]["a"] == "b"
