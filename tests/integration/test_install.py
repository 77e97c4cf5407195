"""What `kubectl apply -k k8s/` gives on a real cluster: a base that holds, definitions that explain and refuse."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import Cluster
from tests.eventually import eventually
from tests.shipped import Installation

ROOT = Path(__file__).parent.parent.parent
BASE = str(ROOT / "k8s")
NAMESPACE = "envprov-system"
OURS = "app.kubernetes.io/name=envprov"

Manifest = dict[str, Any]

# All of these share the cluster-scoped objects, and the installation itself.
pytestmark = pytest.mark.xdist_group("install")


@pytest.fixture(scope="module")
def installation(cluster: Cluster) -> Iterator[str]:
    """Install envprov as the README says, with no Secret for its webhook; yield what kubectl said."""
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s")
    said = cluster.kubectl("apply", "-k", BASE)
    for name in ("environments.envprov.io", "projects.envprov.io"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=120s")
    yield said
    # The definitions and ClusterRoles stay: others install envprov beside this.
    cluster.kubectl("delete", "clusterrolebinding", "-l", OURS, "--ignore-not-found", "--wait=false")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


# --- The base


def test_each_object_is_accepted(cluster: Cluster, installation: str) -> None:
    said = {line.split()[0] for line in installation.splitlines()}
    rendered = _documents(cluster.kubectl("kustomize", BASE))
    assert len(said) == len(rendered)
    assert "deployment.apps/envprov-receiver" in said
    assert "customresourcedefinition.apiextensions.k8s.io/environments.envprov.io" in said


@pytest.mark.usefixtures("installation")
def test_applying_again_changes_nothing(cluster: Cluster) -> None:
    eventually(lambda: _rules(cluster, "envprov-env-admin"), message="the role was not aggregated")
    cluster.kubectl("apply", "-k", BASE)
    assert cluster.kubectl("diff", "-k", BASE) == ""
    assert _rules(cluster, "envprov-env-admin"), "applying took the aggregated rules out"


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize("name", ["envprov-receiver", "envprov-controller"])
def test_two_pods_come_up_under_restricted_pod_security(cluster: Cluster, name: str) -> None:
    namespace = _get(cluster, "namespace", NAMESPACE)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    eventually(
        lambda: _get(cluster, "deployment", name, "-n", NAMESPACE).get("status", {}).get("availableReplicas") == 2,
        message=f"{name} is not available",
    )


@pytest.mark.usefixtures("installation")
def test_a_cleanup_by_hand_is_admitted_too(cluster: Cluster) -> None:
    cluster.kubectl("create", "job", "--from=cronjob/envprov-cleanup", "by-hand", "-n", NAMESPACE)
    eventually(
        lambda: json.loads(cluster.kubectl("get", "pods", "-l", "job-name=by-hand", "-n", NAMESPACE, "-o", "json"))[
            "items"
        ],
        message="the Job has no pod",
    )


@pytest.mark.usefixtures("installation")
def test_a_pod_that_asks_for_more_is_refused_there(cluster: Cluster) -> None:
    said = cluster.kubectl(
        *("run", "root", "--image=x", "-n", NAMESPACE, "--dry-run=server"),
        check=False,
    )
    assert 'violates PodSecurity "restricted' in said


@pytest.mark.usefixtures("installation")
def test_the_api_server_takes_what_the_chart_makes(cluster: Cluster, control_namespace: str) -> None:
    chart = str(ROOT / "helm" / "envprov")
    command = [str(cluster.binaries / "helm"), "template", "envprov", chart, "--namespace", control_namespace]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", input=rendered)


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize("page", ["install.md", "rbac.md"])
def test_the_api_server_takes_the_examples_of_the_docs(cluster: Cluster, control_namespace: str, page: str) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    examples = [item for block in blocks for item in _documents(block) if item["kind"] != "Kustomization"]
    assert examples
    for example in examples:
        if "namespace" in example["metadata"]:
            example["metadata"]["namespace"] = control_namespace
        cluster.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", input=json.dumps(example))


# --- Rights that only the API server can tell


@pytest.mark.usefixtures("installation")
def test_the_controller_lets_itself_into_a_namespace_and_acts_as_its_installer(
    cluster: Cluster, tmp_path: Path
) -> None:
    controller = _as(cluster, tmp_path)
    name = f"env-{Path(__file__).stem.replace('_', '-')}"
    controller(_namespace(name))
    try:
        refused = controller(_binding(name, "other", "envprov-env-controller"))
        assert 'cannot patch resource "rolebindings"' in refused
        refused = controller(_binding(name, "envprov-controller", "admin"))
        assert "attempting to grant RBAC permissions not currently held" in refused
        refused = controller(_binding(name, "envprov-controller", "envprov-env-controller"), "create")
        assert 'cannot create resource "rolebindings"' in refused
        assert "serverside-applied" in controller(_binding(name, "envprov-controller", "envprov-env-controller"))
        eventually(
            lambda: "serverside-applied" in controller(_binding(name, "envprov-installer", "envprov-env-admin")),
            message="the controller has no rights in its own namespace",
        )
        installer = _as(cluster, tmp_path, impersonating=f"system:serviceaccount:{name}:envprov-installer")
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": name}}
        eventually(lambda: "serverside-applied" in installer(_config_map(name)), message="the installer has no rights")
        assert 'cannot patch resource "resourcequotas"' in installer(quota)
        assert "cannot patch" in installer(_config_map(NAMESPACE))
        assert "not currently held" in installer(_binding(name, "more", "cluster-admin"))
        stranger = _as(cluster, tmp_path, impersonating=f"system:serviceaccount:{name}:default")
        assert 'cannot impersonate resource "serviceaccounts"' in stranger(_config_map(name))
        elsewhere = _as(cluster, tmp_path, impersonating=f"system:serviceaccount:{NAMESPACE}:envprov-installer")
        assert 'cannot impersonate resource "serviceaccounts"' in elsewhere(_config_map(NAMESPACE))
    finally:
        cluster.discard(name)


@pytest.mark.usefixtures("installation")
@pytest.mark.parametrize(
    ("account", "verb", "what", "answer"),
    [
        pytest.param("envprov", "list", "secrets", "no", id="controller, all secrets"),
        pytest.param("envprov", "list", "secrets -n envprov-system", "no", id="controller, secrets beside it"),
        pytest.param(
            "envprov", "get", "secrets/registry-pull -n envprov-system", "yes", id="controller, a copy's original"
        ),
        pytest.param("envprov", "get", "secrets/envprov-webhook -n envprov-system", "no", id="controller, tokens"),
        pytest.param("envprov", "bind", "clusterroles/cluster-admin", "no", id="controller, cluster-admin"),
        pytest.param("envprov", "watch", "pods", "yes", id="controller, pods"),
        pytest.param("envprov", "create", "pods -n envprov-system", "no", id="controller, a pod of its own"),
        pytest.param("envprov", "patch", "projects -n envprov-system", "no", id="controller, projects"),
        pytest.param("envprov-receiver", "patch", "environments -n envprov-system", "yes", id="receiver, the record"),
        pytest.param(
            "envprov-receiver",
            "patch",
            "environments/x --subresource=status -n envprov-system",
            "no",
            id="receiver, status",
        ),
        pytest.param("envprov-receiver", "list", "namespaces", "no", id="receiver, namespaces"),
        pytest.param("envprov-receiver", "get", "secrets -n envprov-system", "no", id="receiver, secrets"),
        pytest.param("envprov-cleanup", "delete", "environments -n envprov-system", "yes", id="cleanup, the record"),
        pytest.param("envprov-cleanup", "delete", "namespaces", "no", id="cleanup, namespaces"),
    ],
)
def test_rights_as_the_api_server_sees_them(cluster: Cluster, account: str, verb: str, what: str, answer: str) -> None:
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    # What kubectl adds on stderr (a resource that is not namespaced) is not part of the answer.
    said = cluster.kubectl("auth", "can-i", verb, *what.split(), "--as", user, check=False)
    assert said.split()[0] == answer


def _documents(text: str) -> list[Manifest]:
    return [item for item in yaml.safe_load_all(text) if item is not None]


def _get(cluster: Cluster, *what: str) -> Manifest:
    found: Manifest = json.loads(cluster.kubectl("get", *what, "-o", "json"))
    return found


def _rules(cluster: Cluster, role: str) -> list[Manifest] | None:
    rules: list[Manifest] | None = _get(cluster, "clusterrole", role).get("rules")
    return rules


def _as(cluster: Cluster, folder: Path, impersonating: str | None = None) -> Callable[..., str]:
    """Applying with the controller's own token; gives what kubectl says, good or bad."""
    kubeconfig = Installation(cluster, NAMESPACE, folder).kubeconfig("envprov")
    who = ["--as", impersonating] if impersonating else []

    def apply(manifest: Manifest, verb: str = "apply") -> str:
        flags = ["--server-side", "--field-manager=envprov-controller"] if verb == "apply" else []
        command = [str(cluster.binaries / "kubectl"), "--kubeconfig", str(kubeconfig), *who]
        command += [verb, *flags, "--validate=false", "-f", "-"]
        env = os.environ | {"KUBERC": "off", "KUBECACHEDIR": str(folder / "cache")}
        done = subprocess.run(command, input=json.dumps(manifest), check=False, capture_output=True, text=True, env=env)
        return done.stdout + done.stderr

    return apply


def _namespace(name: str) -> dict[str, Any]:
    """A namespace as the controller makes it: the policy envprov-self-limit lets it make no other."""
    metadata = {
        "name": name,
        "labels": {"envprov.io/guard": "env"},
        "annotations": {"envprov.io/owner": f"{NAMESPACE}/{name.removeprefix('env-')}"},
    }
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def _config_map(namespace: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-a-chart", "namespace": namespace}}


def _binding(namespace: str, name: str, role: str) -> Manifest:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [
            {"kind": "ServiceAccount", "name": "envprov", "namespace": NAMESPACE}
            if name == "envprov-controller"
            else {"kind": "ServiceAccount", "name": "envprov-installer", "namespace": namespace}
        ],
    }
