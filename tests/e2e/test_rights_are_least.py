"""RBAC is real: each granted verb is used by the shipped processes, and none that they need is missing."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests import rbac
from tests.cluster import Cluster
from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.gitlab.driver import GitLabStandIn
from tests.shipped import CONTROLLER, RECEIVER, Installation, condition, installed, manifests_for

Commits = Callable[[int], str]
WANTING = [
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "wanting"},
        "spec": {
            "selector": {"matchLabels": {"app": "wanting"}},
            "template": {
                "metadata": {"labels": {"app": "wanting"}},
                "spec": {
                    "priorityClassName": "nobodys",
                    "runtimeClassName": "nobodys",
                    "containers": [
                        {
                            "name": "one",
                            "image": "registry.example.com/one:1",
                            "envFrom": [{"configMapRef": {"name": "nobodys"}}],
                        }
                    ],
                },
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "wanting"},
        "spec": {
            "storageClassName": "nobodys",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    },
    {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "wanting"},
        "spec": {"ingressClassName": "nobodys", "rules": [{"host": "wanting.example.com"}]},
    },
]
"""A chart that asks for what the cluster does not have: to find that out, the controller must look."""

UNREAD = {"read": False}
"""The commits of these projects are made up, and GitLab knows none of them."""
EVERYTHING: list[dict[str, Any]] = [
    {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": kind.lower()},
        "spec": {
            "selector": {"matchLabels": {"app": kind.lower()}},
            "template": {
                "metadata": {"labels": {"app": kind.lower()}},
                "spec": {"containers": [{"name": "main", "image": "registry.example.com/main:1"}]},
            },
            **({"serviceName": "web"} if kind == "StatefulSet" else {}),
        },
    }
    for kind in ("StatefulSet", "DaemonSet", "ReplicaSet")
] + [
    {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "rc"},
        "spec": {
            "selector": {"app": "rc"},
            "template": {
                "metadata": {"labels": {"app": "rc"}},
                "spec": {"containers": [{"name": "main", "image": "registry.example.com/main:1"}]},
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare"},
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/main:1"}]},
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
    {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly"},
        "spec": {
            "schedule": "0 3 * * *",
            "jobTemplate": {
                "spec": {
                    "template": {
                        "spec": {
                            "restartPolicy": "Never",
                            "containers": [{"name": "main", "image": "registry.example.com/main:1"}],
                        }
                    }
                }
            },
        },
    },
    {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "once"},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "main", "image": "registry.example.com/main:1"}],
                }
            }
        },
    },
]
STRAYS: list[dict[str, Any]] = [
    {"apiVersion": "v1", "kind": "LimitRange", "spec": {"limits": []}},
    {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"count/leases.coordination.k8s.io": "5"}}},
    {"apiVersion": "v1", "kind": "ServiceAccount"},
    {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}}},
    {"apiVersion": "v1", "kind": "Secret"},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [],
    },
]


SIZE = {
    "cpu": "4",
    "memory": "8Gi",
    "memoryLimit": "16Gi",
    "pods": 30,
    "claims": 5,
    "storage": "9Gi",
    "loadBalancers": 1,
}
EXTERNAL: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "outside"},
        "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": [{"port": 80}]},
    },
    {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "by-hand"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    },
]


@pytest.fixture(scope="module")
def cluster(own_cluster: Cluster) -> Cluster:
    """Return a cluster of this file's own: the guard's policies are taken away in it."""
    return own_cluster


@pytest.fixture(scope="module")
def busy(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Yield an installation that has done everything there is to do."""
    namespace = f"envprov-r-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with GitLabStandIn() as gitlab, installed(cluster, namespace, tmp_path_factory.mktemp(namespace)) as there:
        there.settings(
            gitlab={"url": gitlab.url, "token_file": str(gitlab.token_file)}, budget={"measured": {"reserve": "10%"}}
        )
        gitlab.create_project("group/swept")
        work(there, lambda number: f"{number:040x}")
        yield there
    cluster.discard(namespace)


def work(there: Installation, commits: Commits) -> None:
    """Everything that the processes have rights for."""
    kubectl = there.cluster.kubectl
    kubectl("create", "secret", "generic", "registry-pull", "-n", there.namespace, "--from-literal=password=x")
    there.project(
        "shop",
        branchFile=UNREAD,
        host="{slug}.rights.example.com",
        access=[{"user": f"{role}@example.com", "role": role} for role in ("view", "edit", "admin")],
        copySecrets=[{"namespace": there.namespace, "name": "registry-pull", "imagePull": True}],
        values={"extra": EVERYTHING},
        sizes={"custom": {"event": SIZE}},
        rules=[{"branches": ["*"], "size": "event"}],
    )
    controller, receiver = there.start_controller().ready(), there.start_receiver().ready()
    sweep(there)
    shop = Shop(there, receiver, "shop")
    eventually(shop.is_known, message="the receiver does not know the Project")
    assert shop.delete("feature/never", commits(9)) in {202, 204}
    name = shop.up("feature/all", commits(1))["status"]["namespace"]
    assert shop.push("feature/all", commits(1), commits(2)) == 202
    shop.ready("feature/all", commits(2))
    marks = {
        "app.kubernetes.io/managed-by": "envprov",
        "envprov.io/environment": name.removeprefix("env-"),
        "envprov.io/project": "shop",
    }
    there.apply(*({**stray, "metadata": {"name": "stray", "namespace": name, "labels": marks}} for stray in STRAYS))
    kinds = "limitrange,quota,serviceaccount,networkpolicy,secret,rolebinding"
    eventually(lambda: "/stray" not in kubectl("get", kinds, "-n", name, "-o", "name"), message="strays stay")
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "envprov-controller", "namespace": name, "labels": marks},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [],
    }
    controller.stop()
    kubectl("delete", "rolebinding", "envprov-controller", "-n", name)
    kubectl("create", "-f", "-", input=yaml.safe_dump(binding))
    controller = there.start_controller().ready()
    role = ("get", "rolebinding", "envprov-controller", "-n", name, "-o", "jsonpath={.roleRef.name}")
    eventually(lambda: kubectl(*role, check=False) == "envprov-env-controller", message="the roleRef was not put back")
    there.apply(*({**external, "metadata": {**external["metadata"], "namespace": name}} for external in EXTERNAL))
    guard(there, shop, commits)
    rest(there, shop, name)
    assert shop.delete("feature/all", commits(2)) == 202
    assert shop.create("feature/all", commits(3)) == 202
    shop.ready("feature/all", commits(3))
    there.project("shop", branchFile=UNREAD, values={"extra": WANTING}, rules=[{"branches": ["*"]}])
    eventually(lambda: "MissingConfigMap" in json.dumps(there.environments()), message="nothing was missed")
    greedy = {"values": {"replicas": 50}, "checks": {"warnOnly": ["SizeExceeded"]}}
    there.project("shop", branchFile=UNREAD, rules=[{"branches": ["*"]}], **greedy)
    eventually(
        lambda: "QuotaExceeded" in json.dumps(there.environments()), within=90, message="the quota was never exceeded"
    )
    there.project(
        "shop", branchFile=UNREAD, rules=[{"branches": ["*"], "lifetime": {"kind": "expire-after", "idle": "PT1S"}}]
    )
    shop.gone("feature/all")
    controller.stop()
    receiver.stop()


def rest(there: Installation, shop: Shop, name: str) -> None:
    """All of it sleeps, a Job in work among it, and wakes up."""
    kubectl, job = there.cluster.kubectl, EVERYTHING[-1]
    template = {"spec": job["spec"]["template"]["spec"] | {"nodeSelector": {"no": "node"}}}
    endless = job | {"metadata": {"name": "endless", "namespace": name}, "spec": {"template": template}}
    there.apply(endless)
    environment = ("patch", "env", name.removeprefix("env-"), "-n", there.namespace, "--type=merge", "-p")
    for asleep, reason in ((True, "Asleep"), (False, "Starting")):
        kubectl(*environment, json.dumps({"spec": {"asleep": asleep}}))
        eventually(
            lambda reason=reason: condition(shop.record("feature/all") or {}, "Ready")["reason"] == reason,  # type: ignore[misc]
            message=f"it is not {reason}",
        )
    kubectl("delete", "job", "endless", "-n", name)
    shop.ready("feature/all")


def sweep(there: Installation) -> None:
    """A request for a sweep is answered, and taken away; the Project says how it went."""
    kubectl = there.cluster.kubectl
    kubectl("create", "configmap", "sweep-swept", "-n", there.namespace, "--from-literal=project=swept")
    kubectl("label", "configmap", "sweep-swept", "-n", there.namespace, "envprov.io/record=sweep")
    there.project("swept", rules=[{"branches": ["*"], "action": "ignore"}])
    asked = ("get", "configmap", "sweep-swept", "-n", there.namespace, "--ignore-not-found")
    eventually(lambda: kubectl(*asked) == "", message="nobody answers the request for a sweep")
    said = ("get", "eproj", "swept", "-n", there.namespace, "-o", "jsonpath={.status.conditions[*].reason}")
    eventually(lambda: kubectl(*said) == "InSync", message="the Project does not say how the sweep went")


def guard(there: Installation, shop: Shop, commits: Commits) -> None:
    """Everything that the guard has rights for: a shared account comes, is owned, and goes; policies are put back."""
    kubectl = there.cluster.kubectl
    kubectl("create", "namespace", "shared")
    kubectl("create", "serviceaccount", "deployer", "-n", "shared")
    kubectl("create", "configmap", "owner", "-n", "shared")
    kubectl("create", "role", "guard", "-n", "shared", "--verb=list", "--resource=secrets")
    user = f"system:serviceaccount:{there.namespace}:envprov"
    kubectl("create", "rolebinding", "guard", "-n", "shared", "--role=guard", f"--user={user}")
    policy = "delete-with-last-user"
    shared = [{"namespace": "shared", "name": "deployer", "policy": policy}]
    there.project("borrower", branchFile=UNREAD, sharedServiceAccounts=shared)
    borrower = Shop(there, shop.receiver, "borrower")
    eventually(borrower.is_known, message="the receiver does not know the Project")
    borrower.up("feature/guarded", commits(5))
    uid = kubectl("get", "cm", "owner", "-n", "shared", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    kubectl("patch", "sa", "deployer", "-n", "shared", "-p", json.dumps({"metadata": {"ownerReferences": [owner]}}))
    owners = ("get", "sa", "deployer", "-n", "shared", "-o", "jsonpath={.metadata.ownerReferences}")
    eventually(lambda: kubectl(*owners) == "", message="the owner of a shared account was not taken off")
    for name in ("envprov-delete-guard", "envprov-fence", "envprov-hold-integrity"):
        both = (f"validatingadmissionpolicy/{name}", f"validatingadmissionpolicybinding/{name}")
        kubectl("delete", *both)
        eventually(lambda both=both: kubectl("get", *both), message=f"{name} was not put back")  # type: ignore[misc]
    assert borrower.delete("feature/guarded", commits(5)) == 202
    borrower.gone("feature/guarded")
    gone = ("get", "sa", "deployer", "-n", "shared", "--ignore-not-found")
    eventually(lambda: kubectl(*gone) == "", message="the shared account outlived its last user")


@pytest.mark.parametrize("account", [CONTROLLER, RECEIVER])
def test_each_right_is_used_and_none_is_missing(busy: Installation, account: str) -> None:
    manifests = manifests_for(busy.cluster, busy.namespace)
    found = rbac.compare(manifests, busy.cluster.audit_lines(), rbac.Account(busy.namespace, account))
    assert [str(right) for right in found.missing] == []
    assert [str(right) for right in found.unused] == []
