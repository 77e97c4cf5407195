"""
Why the guard is as it is: what goes wrong with each of the simpler ways, on a real API server and without envprov.

In a cluster of this file's own, for some of it stops every deletion of a namespace. A token outlives its account's
deletion by a minute: the first fixture deletes one, and the last test looks at it when the others are done.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.guard.tokens import bearer, mint, review

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("ENVPROV_TEST_KUBECONFIG")), reason="nobody's cluster is to be disturbed like this"
)

Manifest = dict[str, Any]

ADMISSION = "admissionregistration.k8s.io/v1"
KEEP = "example.org/keep"
"""Annotation of ServiceAccounts that the simple guard of this file keeps."""
REFUSAL = "somebody needs it"
FINALIZER = "example.org/in-use"
CONDITIONS = {
    "NamespaceContentRemaining",
    "NamespaceDeletionContentFailure",
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceFinalizersRemaining",
}


@dataclass(frozen=True)
class Terminating:
    """A ServiceAccount that was deleted and stays because of a finalizer, and a token that was made before."""

    namespace: str
    token: str


@pytest.fixture(scope="module", autouse=True)
def terminating(own_cluster: Cluster) -> Terminating:
    """Delete a ServiceAccount that has a finalizer, before anything else: from now on a minute passes."""
    namespace = make_namespace(own_cluster)
    create(own_cluster, account("robot", namespace, finalizers=[FINALIZER]))
    token = mint(own_cluster, namespace, "robot")
    own_cluster.kubectl("delete", "sa", "robot", "-n", namespace, "--wait=false")
    return Terminating(namespace, token)


@pytest.fixture(scope="module")
def simple_guard(own_cluster: Cluster) -> Iterator[None]:
    """Keep ServiceAccounts with the annotation, and only them: what the guard would be without its Namespace half."""
    kept = f"has(oldObject.metadata.annotations) && '{KEEP}' in oldObject.metadata.annotations"
    with refusing(own_cluster, "simple-guard", f"!({kept})"):
        namespace = make_namespace(own_cluster)
        create(own_cluster, account("probe", namespace, annotations={KEEP: ""}))
        in_force(own_cluster, namespace, "probe")
        yield


@pytest.fixture
def namespace(own_cluster: Cluster) -> str:
    """Return the name of a fresh namespace; it ends with the cluster."""
    return make_namespace(own_cluster)


# --- A finalizer instead of a hold


def test_a_terminating_account_with_a_finalizer_looks_good_at_first(
    own_cluster: Cluster, terminating: Terminating
) -> None:
    assert "deletionTimestamp" in read(own_cluster, "sa/robot", terminating.namespace)["metadata"]
    assert review(own_cluster, terminating.token)["authenticated"] is True
    assert review(own_cluster, mint(own_cluster, terminating.namespace, "robot"))["authenticated"] is True


# --- A guard of the ServiceAccount alone


@pytest.mark.usefixtures("simple_guard")
def test_a_guard_of_the_account_alone_leaves_a_namespace_half_deleted(
    own_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    kubectl = own_cluster.kubectl
    for name in ("aaa", "held", "zzz"):
        create(own_cluster, account(name, namespace, annotations={KEEP: ""} if name == "held" else {}))
    kubectl("create", "configmap", "settings", "-n", namespace)
    kubectl("create", "secret", "generic", "password", "-n", namespace)
    grant = ("create", "rolebinding", "edit", "--clusterrole=edit", f"--serviceaccount={namespace}:held")
    kubectl(*grant, "-n", namespace)
    token = mint(own_cluster, namespace, "held")
    held = bearer(own_cluster, token, tmp_path)
    asks = ("auth", "can-i", "list", "secrets", "-n", namespace)
    eventually(lambda: held.kubectl(*asks, check=False) == "yes\n", message="the binding has no effect")

    kubectl("delete", "namespace", namespace, "--wait=false")
    failure = eventually(
        lambda: true_condition(own_cluster, namespace, "NamespaceDeletionContentFailure"),
        message="the namespace controller meets no refusal",
    )
    assert REFUSAL in failure
    # What the account worked with is gone, and so is what it was allowed.
    eventually(
        lambda: kubectl("get", "cm,secret,rolebinding", "-n", namespace, "-o", "name") == "",
        message="the rest of the namespace is still there",
    )
    # The deletion of the collection goes by name and stops at the first refusal.
    assert kubectl("get", "sa", "-n", namespace, "-o", "name").split() == ["serviceaccount/held", "serviceaccount/zzz"]
    # Whoever has a token is known, may do nothing, and gets no other.
    assert review(own_cluster, token)["authenticated"] is True
    eventually(lambda: held.kubectl(*asks, check=False) == "no\n", message="it may still do something")
    assert "(Forbidden)" in held.kubectl("get", "secrets", "-n", namespace, check=False)
    refused = kubectl("create", "token", "held", "-n", namespace, check=False)
    assert f"namespace {namespace} because it is being terminated" in refused

    kubectl("annotate", "sa", "held", "-n", namespace, f"{KEEP}-")
    eventually(lambda: is_gone(own_cluster, namespace), within=60, message="it does not go when nobody needs it")


@pytest.mark.usefixtures("simple_guard")
def test_what_a_forced_namespace_leaves_behind_returns_with_working_tokens(
    own_cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    kubectl = own_cluster.kubectl
    create(own_cluster, account("ghost", namespace, annotations={KEEP: ""}))
    uid = read(own_cluster, "sa/ghost", namespace)["metadata"]["uid"]
    token = mint(own_cluster, namespace, "ghost")
    kubectl("delete", "namespace", namespace, "--wait=false")
    emptied = read(own_cluster, f"ns/{namespace}")
    emptied["spec"]["finalizers"] = []
    finalize = ("replace", "--raw", f"/api/v1/namespaces/{namespace}/finalize", "-f", "-")
    kubectl(*finalize, input=json.dumps(emptied))
    eventually(lambda: is_gone(own_cluster, namespace), message="the namespace is still there")

    # No namespace, but an account in it, and who has its token is let in.
    assert read(own_cluster, "sa/ghost", namespace)["metadata"]["uid"] == uid
    assert review(own_cluster, token)["authenticated"] is True
    kubectl("create", "namespace", namespace)
    found = read(own_cluster, "sa/ghost", namespace)["metadata"]
    assert found["uid"] == uid
    assert "deletionTimestamp" not in found
    ghost = bearer(own_cluster, token, tmp_path)
    assert f"system:serviceaccount:{namespace}:ghost" in ghost.kubectl("auth", "whoami")
    # What the new namespace means for an account of that name, the old one has.
    grant = ("create", "rolebinding", "edit", "--clusterrole=edit", f"--serviceaccount={namespace}:ghost")
    kubectl(*grant, "-n", namespace)
    eventually(lambda: ghost.kubectl("get", "secrets", "-n", namespace) == "", message="the binding has no effect")


def test_an_owner_takes_an_unguarded_account_along(own_cluster: Cluster, namespace: str) -> None:
    own_cluster.kubectl("create", "configmap", "owner", "-n", namespace)
    uid = read(own_cluster, "cm/owner", namespace)["metadata"]["uid"]
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    create(own_cluster, account("owned", namespace, ownerReferences=[owner]))
    create(own_cluster, account("free", namespace))
    own_cluster.kubectl("delete", "configmap", "owner", "-n", namespace)
    eventually(
        lambda: own_cluster.kubectl("get", "sa/owned", "-n", namespace, "--ignore-not-found") == "",
        message="the garbage collector leaves it",
    )
    assert own_cluster.kubectl("get", "sa/free", "-n", namespace)


# --- A rule with names


def test_the_deletion_of_a_collection_passes_a_rule_with_names(own_cluster: Cluster, namespace: str) -> None:
    name = f"named-{namespace}"
    with refusing(own_cluster, name, "false", resourceNames=[name]):
        create(own_cluster, account(name, namespace))
        in_force(own_cluster, namespace, name)
        own_cluster.kubectl("delete", "--raw", f"/api/v1/namespaces/{namespace}/serviceaccounts")
        assert own_cluster.kubectl("get", f"sa/{name}", "-n", namespace, "--ignore-not-found") == ""
        # The rule was there all the time.
        create(own_cluster, account(name, namespace))
        assert REFUSAL in own_cluster.kubectl("delete", "sa", name, "-n", namespace, check=False)


# --- The conditions of a namespace that does not go


def test_no_condition_tells_of_a_pod_that_stays(own_cluster: Cluster, namespace: str) -> None:
    # Bound to no node, so that nothing but the finalizer keeps it.
    spec = {"schedulerName": "nobody", "containers": [{"name": "app", "image": "registry.example.com/app"}]}
    pod = manifest("Pod", "stays", namespace, finalizers=[FINALIZER]) | {"spec": spec}
    create(own_cluster, pod)
    own_cluster.kubectl("create", "configmap", "settings", "-n", namespace)
    own_cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    eventually(
        lambda: attempts(own_cluster, "pods", namespace) >= 2,
        within=60,
        message="the namespace controller does not try again",
    )
    status = read(own_cluster, f"ns/{namespace}")["status"]
    assert status["phase"] == "Terminating"
    assert {one["type"]: one["status"] for one in status["conditions"]} == dict.fromkeys(CONDITIONS, "False")
    assert "All content successfully removed" in {one["message"] for one in status["conditions"]}
    assert "deletionTimestamp" in read(own_cluster, "pod/stays", namespace)["metadata"]
    # Nothing but pods has been tried yet.
    assert own_cluster.kubectl("get", "cm/settings", "-n", namespace)

    patch = ("--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
    own_cluster.kubectl("patch", "pod", "stays", "-n", namespace, *patch)
    eventually(lambda: is_gone(own_cluster, namespace), within=90, message="it waits for something else")


def test_a_dead_webhook_shows_in_the_conditions_of_every_namespace(own_cluster: Cluster, namespace: str) -> None:
    name = f"dead-{namespace}"
    webhook = {
        "name": f"{name}.example.org",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "rules": [deletion_of_accounts()],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    create(own_cluster, cluster_wide("ValidatingWebhookConfiguration", name) | {"webhooks": [webhook]})
    try:
        # Nothing of our own is in it: the account that every namespace has is enough.
        eventually(
            lambda: (
                "failed calling webhook" in own_cluster.kubectl(*dry_delete("default"), "-n", namespace, check=False)
            ),
            message="nobody asks the webhook",
        )
        own_cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        failure = eventually(
            lambda: true_condition(own_cluster, namespace, "NamespaceDeletionContentFailure"),
            message="the namespace controller meets no refusal",
        )
        assert f'failed calling webhook "{name}.example.org"' in failure
    finally:
        own_cluster.kubectl("delete", "validatingwebhookconfiguration", name)
    eventually(lambda: is_gone(own_cluster, namespace), within=60, message="it waits for something else")


def test_a_broken_api_service_shows_in_the_conditions_of_every_namespace(own_cluster: Cluster, namespace: str) -> None:
    group = f"{namespace}.example.org"
    spec = {
        "group": group,
        "version": "v1",
        "service": {"name": "nobody", "namespace": "default"},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    service = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": f"v1.{group}"}}
    create(own_cluster, service | {"spec": spec})
    try:
        own_cluster.kubectl("wait", "--for=condition=Available=false", f"apiservice/v1.{group}", "--timeout=30s")
        own_cluster.kubectl("create", "configmap", "settings", "-n", namespace)
        own_cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        failure = eventually(
            lambda: true_condition(own_cluster, namespace, "NamespaceDeletionDiscoveryFailure"),
            message="the namespace controller discovers everything",
        )
        assert group in failure
        eventually(
            lambda: own_cluster.kubectl("get", "cm,sa", "-n", namespace, "-o", "name") == "",
            message="what can be discovered is not deleted",
        )
        assert not is_gone(own_cluster, namespace)
    finally:
        own_cluster.kubectl("delete", "apiservice", f"v1.{group}")
    eventually(lambda: is_gone(own_cluster, namespace), within=90, message="it waits for something else")


# --- A finalizer instead of a hold, a minute later


def test_a_terminating_account_with_a_finalizer_is_useless_a_minute_later_and_does_not_show_it(
    own_cluster: Cluster, terminating: Terminating
) -> None:
    namespace = terminating.namespace
    verdict = eventually(
        lambda: None if (status := review(own_cluster, terminating.token)).get("authenticated") else status,
        within=120,
        every=1,
        message="the token still works",
    )
    assert f"service account {namespace}/robot has been deleted" in verdict["error"]
    found = read(own_cluster, "sa/robot", namespace)["metadata"]
    assert found["finalizers"] == [FINALIZER]
    # New tokens are made, dead from the start, and new pods are let in.
    assert not review(own_cluster, mint(own_cluster, namespace, "robot")).get("authenticated")
    spec = {"serviceAccountName": "robot", "containers": [{"name": "app", "image": "registry.example.com/app"}]}
    create(own_cluster, manifest("Pod", "victim", namespace) | {"spec": spec})
    assert read(own_cluster, "pod/victim", namespace)["spec"]["serviceAccountName"] == "robot"


# --- Objects


def manifest(kind: str, name: str, namespace: str, **metadata: object) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace, **metadata}}


def account(name: str, namespace: str, **metadata: object) -> Manifest:
    return manifest("ServiceAccount", name, namespace, **metadata)


def cluster_wide(kind: str, name: str) -> Manifest:
    return {"apiVersion": ADMISSION, "kind": kind, "metadata": {"name": name}}


def deletion_of_accounts(**more: object) -> Manifest:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["serviceaccounts"]}
    return rule | more


@contextmanager
def refusing(cluster: Cluster, name: str, unless: str, **rule: object) -> Iterator[None]:
    """Put a policy about the deletion of ServiceAccounts in force, and take it away again."""
    spec = {
        "matchConstraints": {"resourceRules": [deletion_of_accounts(**rule)]},
        "validations": [{"expression": unless, "message": REFUSAL}],
    }
    create(cluster, cluster_wide("ValidatingAdmissionPolicy", name) | {"spec": spec})
    binding = cluster_wide("ValidatingAdmissionPolicyBinding", name)
    create(cluster, binding | {"spec": {"policyName": name, "validationActions": ["Deny"]}})
    try:
        yield
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            cluster.kubectl("delete", kind, name)


def in_force(cluster: Cluster, namespace: str, name: str) -> None:
    """Wait until the deletion of a ServiceAccount is refused."""
    eventually(
        lambda: REFUSAL in cluster.kubectl(*dry_delete(name), "-n", namespace, check=False),
        message="the policy has no effect",
    )


def dry_delete(name: str) -> tuple[str, ...]:
    return ("delete", "sa", name, "--dry-run=server")


def make_namespace(cluster: Cluster) -> str:
    """Make a namespace in which the usual ServiceAccount is there already."""
    name = f"envprov-t-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    eventually(lambda: cluster.kubectl("get", "sa/default", "cm/kube-root-ca.crt", "-n", name), message="it is empty")
    return name


def create(cluster: Cluster, body: Manifest) -> None:
    cluster.kubectl("create", "-f", "-", input=json.dumps(body))


# --- Looking


def read(cluster: Cluster, what: str, namespace: str = "") -> Manifest:
    where = ("-n", namespace) if namespace else ()
    found: Manifest = json.loads(cluster.kubectl("get", what, *where, "-o", "json"))
    return found


def is_gone(cluster: Cluster, namespace: str) -> bool:
    return cluster.kubectl("get", "namespace", namespace, "--ignore-not-found") == ""


def true_condition(cluster: Cluster, namespace: str, kind: str) -> str | None:
    """Return the message of a condition of a namespace if it is true."""
    conditions = read(cluster, f"ns/{namespace}")["status"].get("conditions", [])
    return next((str(one["message"]) for one in conditions if (one["type"], one["status"]) == (kind, "True")), None)


def attempts(cluster: Cluster, resource: str, namespace: str) -> int:
    """Count how often the namespace controller has tried to delete all objects of a kind."""
    events = cluster.audit(namespace)
    refs = (event.get("objectRef", {}) for event in events if event["verb"] == "deletecollection")
    return sum(ref.get("resource") == resource and ref.get("namespace") == namespace for ref in refs)
