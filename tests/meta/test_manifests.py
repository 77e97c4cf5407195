"""What `k8s/` and the chart install: the same, no more rights than needed, and what the code takes for granted."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain import objects
from envprov.domain.desired import INSTALLER, Identity
from envprov.domain.platform import Platform
from envprov.domain.policies import REAPPLIED, SELF_LIMIT
from envprov.settings import Settings, load_settings
from tests.cluster import BUILD, given_cluster
from tests.rbac import Account, Right, granted

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "helm" / "envprov"
RBAC_FILES = sorted((ROOT / "k8s").glob("rbac-*.yaml"))

Manifest = dict[str, Any]

# Everything in which the chart may differ from k8s/.
LABELS_OF_HELM = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
ANNOTATIONS_OF_HELM = {"checksum/settings"}  # new settings restart the pods
MADE_BY_HELM = {"Namespace"}  # helm install --create-namespace


@pytest.fixture(scope="module")
def binaries() -> Path:
    """Folder of kubectl and helm; no cluster is needed."""
    given = given_cluster()
    if given:
        return given.binaries
    return Path(subprocess.run([BUILD], check=True, capture_output=True, text=True).stdout.strip())


@pytest.fixture(scope="module")
def kustomized(binaries: Path) -> list[Manifest]:
    return _kustomized(binaries, ROOT / "k8s")


@pytest.fixture(scope="module")
def templated(binaries: Path) -> Callable[..., str]:
    def template(*args: str, namespace: str = "envprov-system") -> str:
        return _helm(binaries, "template", "envprov", str(CHART), "--namespace", namespace, "--include-crds", *args)

    return template


# --- Kustomize and Helm


def test_the_chart_installs_the_same_objects(kustomized: list[Manifest], templated: Callable[..., str]) -> None:
    chart = _normal(_parsed(templated()))
    base = _normal(kustomized)
    assert sorted(chart) == sorted(base)
    for key in base:
        assert chart[key] == base[key], key


def test_another_namespace_is_one_line_of_an_overlay_and_one_flag_of_helm(
    binaries: Path, templated: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "base").symlink_to(ROOT / "k8s")
    (tmp_path / "kustomization.yaml").write_text("namespace: platform\nresources: [base]\n")
    rendered = _kustomized(binaries, tmp_path)
    chart = templated(namespace="platform")
    assert _normal(_parsed(chart)) == _normal(rendered)
    assert "envprov-system" not in yaml.safe_dump_all(rendered) + chart
    assert [item["metadata"]["name"] for item in rendered if item["kind"] == "Namespace"] == ["platform"]


def test_the_overlay_of_the_docs_works(binaries: Path, kustomized: list[Manifest], tmp_path: Path) -> None:
    (example,) = re.findall(
        r"^```yaml\n(# kustomization.yaml\n.*?)^```",
        (ROOT / "docs" / "install.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    (tmp_path / "envprov").symlink_to(ROOT)
    (tmp_path / "kustomization.yaml").write_text(example)
    rendered = _kustomized(binaries, tmp_path)
    rights = granted(rendered, Account("platform", "envprov"))
    images = {container["image"] for item in rendered for container in _pod(item).get("containers", ())}
    assert {right.name for right in rights if _is_original(right)} == {
        "registry-pull",
        "license",
    }
    assert _settings(rendered) == _settings(kustomized) | {
        "platform": {"network": {"ingress_namespaces": ["ingress-nginx"]}}
    }
    assert images == {"registry.example.org/tools/envprov:0.1.0"}


def _is_original(right: Right) -> bool:
    """Whether a right reads an original of copySecrets, and not what is inside an environment."""
    return right.resource == "secrets" and right.verb == "get" and right.namespace != "env-*"


def test_the_base_has_nothing_that_needs_a_definition_of_ours(kustomized: list[Manifest]) -> None:
    assert not [item["kind"] for item in kustomized if item["apiVersion"].startswith("envprov.io/")]


def test_the_chart_is_clean(binaries: Path) -> None:
    assert "[WARNING]" not in _helm(binaries, "lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        pytest.param("imagee.tag=1", "'imagee' not allowed", id="unknown value -> refused"),
        pytest.param("controller.replicas=0", "/controller/replicas", id="no replica -> refused"),
        pytest.param("image.pullPolicy=Sometimes", "/image/pullPolicy", id="unknown pull policy -> refused"),
        pytest.param("image.digest=sha256:12", "/image/digest", id="half a digest -> refused"),
        pytest.param("settings.plattform.x=1", "'plattform' not allowed", id="unknown section of settings -> refused"),
        pytest.param("settings.webhook.port=9", "/settings/webhook", id="the chart's own port -> refused"),
        pytest.param("settings.webhook.tls_key=/k", "/settings/webhook", id="TLS that probes do not speak -> refused"),
        pytest.param("settings.platform.control_namespace=x", "/settings/platform", id="the pod's own -> refused"),
        pytest.param("webhookSecret=No_Name", "/webhookSecret", id="no name of a Secret -> refused"),
        pytest.param("cleanup.schedule=often", "/cleanup/schedule", id="no schedule -> refused"),
        pytest.param("receiver.ingress.enabled=true", "/receiver/ingress/host", id="ingress without host -> refused"),
        pytest.param("controller.resources.limits.memory=1GB", "/limits/memory", id="no quantity -> refused"),
        pytest.param(r"podLabels.app\.kubernetes\.io/name=x", "/podLabels", id="label of the selector -> refused"),
    ],
)
def test_values_are_checked(templated: Callable[..., str], given: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        templated("--set", given)


def test_values_are_used(templated: Callable[..., str]) -> None:
    switches = (
        "image.digest=sha256:" + "0" * 64,
        "controller.replicas=1",
        "networkPolicy.enabled=false",
        "copySecrets={one,two}",
        "settings.log.level=debug",
        "receiver.ingress.enabled=true,receiver.ingress.host=hooks.example.com,receiver.ingress.tlsSecret=cert",
        "tolerations[0].operator=Exists,nodeSelector.pool=tools,imagePullSecrets={pull},podLabels.team=platform",
    )
    rendered = _parsed(templated(*(word for switch in switches for word in ("--set", switch))))
    kinds = [item["kind"] for item in rendered]
    controller = _named(rendered, "Deployment", "envprov-controller")
    pod = controller["spec"]["template"]["spec"]
    copies = [right for right in _rights(rendered, "envprov") if _is_original(right)]
    assert pod["containers"][0]["image"] == "registry.example.com/envprov@sha256:" + "0" * 64
    assert [item["metadata"]["name"] for item in rendered if item["kind"] == "PodDisruptionBudget"] == [
        "envprov-receiver"
    ]
    assert "NetworkPolicy" not in kinds
    assert sorted(right.name for right in copies) == ["one", "two"]
    assert _settings(rendered)["log"] == {"level": "debug"}
    assert _settings(rendered)["webhook"]["port"] == 8080
    assert _named(rendered, "Ingress", "envprov-receiver")["spec"]["tls"] == [
        {"hosts": ["hooks.example.com"], "secretName": "cert"}
    ]
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert pod["nodeSelector"] == {"pool": "tools"}
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    assert controller["spec"]["template"]["metadata"]["labels"]["team"] == "platform"
    assert "team" not in controller["spec"]["selector"]["matchLabels"]


def test_no_secret_to_copy_is_no_rule_without_names(templated: Callable[..., str]) -> None:
    rights = _rights(_parsed(templated("--set", "copySecrets=null")), "envprov")
    assert not [right for right in rights if right.resource == "secrets" and right.namespace == "envprov-system"]


def test_the_notes_tell_the_next_steps(binaries: Path) -> None:
    said = _helm(binaries, "install", "envprov", str(CHART), "-n", "platform", "--dry-run=client")
    assert "kubectl -n platform create secret generic envprov-webhook" in said
    assert "/webhooks/gitlab" in said


def test_the_schema_knows_the_sections_of_the_settings() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert sorted(schema["properties"]["settings"]["properties"]) == sorted(Settings.model_fields)


# --- Rights


def test_no_rule_has_a_wildcard(kustomized: list[Manifest]) -> None:
    for role in kustomized:
        for rule in role.get("rules", ()):
            assert "*" not in rule["verbs"] + rule["apiGroups"] + rule["resources"], role["metadata"]["name"]
            assert "nonResourceURLs" not in rule


def test_each_verb_of_each_rule_says_what_it_is_for(templated: Callable[..., str]) -> None:
    texts = {path.name: path.read_text() for path in RBAC_FILES} | {"chart": templated()}
    assert len(texts) == 6
    for name, text in texts.items():
        rules = list(_rules_with_comments(text))
        assert len(rules) == len(re.findall(r"^ +verbs:", text, re.MULTILINE)), name
        before: set[str] = set()
        for comment, verbs in rules:
            told = set(re.findall(r"\w+", comment))
            if "same" in {word.lower() for word in told}:
                told |= before
            assert not verbs - told, f"{name}: {verbs - told} in {comment!r}"
            before = verbs


def test_no_right_is_granted_twice(kustomized: list[Manifest]) -> None:
    for account in ("envprov", "envprov-receiver", "envprov-cleanup"):
        rights = _rights(kustomized, account)
        twice = [
            f"{narrow} beside {wide}"
            for narrow in rights
            for wide in rights
            if narrow != wide
            and (narrow.verb, narrow.group, narrow.resource) == (wide.verb, wide.group, wide.resource)
            and wide.name in {"", narrow.name}
            and wide.namespace in {"", narrow.namespace}
        ]
        assert not twice, account


def test_each_identity_is_bound_to_its_own_roles_and_no_one_else_is(kustomized: list[Manifest]) -> None:
    bound = sorted(
        (item["kind"], item["roleRef"]["kind"], item["roleRef"]["name"], subject["name"])
        for item in kustomized
        if item["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        for subject in item["subjects"]
    )
    assert bound == [
        ("ClusterRoleBinding", "ClusterRole", "envprov-cleanup", "envprov-cleanup"),
        ("ClusterRoleBinding", "ClusterRole", "envprov-controller", "envprov"),
        ("ClusterRoleBinding", "ClusterRole", "envprov-guard", "envprov"),
        ("RoleBinding", "Role", "envprov-cleanup", "envprov-cleanup"),
        ("RoleBinding", "Role", "envprov-controller", "envprov"),
        ("RoleBinding", "Role", "envprov-receiver", "envprov-receiver"),
    ]


def test_the_controller_reads_no_secrets_outside_environments(kustomized: list[Manifest]) -> None:
    rights = [right for right in _rights(kustomized, "envprov") if right.resource == "secrets"]
    outside = [right for right in rights if right.namespace != "env-*"]
    assert outside == [Right("get", "", "secrets", "registry-pull", "envprov-system")]


def test_the_controller_lets_in_itself_and_nobody_else_where_it_has_not_been(kustomized: list[Manifest]) -> None:
    everywhere = {right for right in _rights(kustomized, "envprov") if not right.namespace}
    assert {right.name for right in everywhere if right.verb == "bind"} == {objects.CONTROLLER_ROLE}
    writes = {"create", "update", "patch", "delete", "deletecollection"}
    assert {(right.resource, right.name) for right in everywhere if right.verb in writes} == {
        ("namespaces", ""),
        ("rolebindings", "envprov-controller"),
        ("serviceaccounts", ""),
        ("events", ""),
        *(
            (resource, name)
            for resource in ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
            for name in REAPPLIED
        ),
    }
    assert SELF_LIMIT not in {right.name for right in everywhere}


def test_a_chart_cannot_lift_its_limits(kustomized: list[Manifest]) -> None:
    (role,) = [item for item in kustomized if item["metadata"]["name"] == "envprov-env-admin-builtin"]
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    resources = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert verbs == {"get", "list", "watch", "create", "update", "patch", "delete"}
    assert not resources & {
        "resourcequotas",
        "limitranges",
        "namespaces",
        "nodes",
        "persistentvolumes",
        "clusterroles",
        "clusterrolebindings",
        "serviceaccounts/token",
        "pods/exec",
        "pods/ephemeralcontainers",
        "environments",
        "projects",
    }


def test_the_installers_role_takes_in_what_platform_people_add(kustomized: list[Manifest]) -> None:
    role = _named(kustomized, "ClusterRole", objects.INSTALLER_ROLE)
    (selector,) = role["aggregationRule"]["clusterRoleSelectors"]
    # The cluster fills the rules in: were some here, each `kubectl apply` would take them out again.
    assert "rules" not in role
    assert selector == {"matchLabels": {"envprov.io/aggregate-to-env-admin": "true"}}


def test_the_docs_list_each_right(kustomized: list[Manifest]) -> None:
    documented = _documented((ROOT / "docs" / "rbac.md").read_text())
    for role in kustomized:
        if "rules" not in role:
            continue
        name = f"{role['kind']} {role['metadata']['name']}"
        assert documented.pop(name) == {
            (group, resource, given, verb)
            for rule in role["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for given in rule.get("resourceNames", [""])
            for verb in rule["verbs"]
        }, name
    assert not documented


# --- What the code takes for granted


def test_names_in_the_code_are_those_of_the_manifests(kustomized: list[Manifest]) -> None:
    identity = Identity("a-12345678", "envprov-system", "p", "a")
    rights = _rights(kustomized, Platform().controller_account)
    own = objects.own_access(identity, Platform().controller_account)
    assert {right.name for right in rights if right.verb == "impersonate"} == {INSTALLER}
    assert {right.name for right in rights if right.resource == "rolebindings" and right.name} == {
        own["metadata"]["name"]
    }
    assert _named(kustomized, "ClusterRole", own["roleRef"]["name"])
    assert Right("bind", "rbac.authorization.k8s.io", "clusterroles", objects.INSTALLER_ROLE, "env-*") in rights


def test_the_settings_are_valid_and_listen_where_the_pods_say(
    kustomized: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVPROV_SETTINGS", "/etc/envprov/settings.yaml")
    monkeypatch.setenv("ENVPROV_PLATFORM__CONTROL_NAMESPACE", "platform")
    monkeypatch.setenv("ENVPROV_PLATFORM__CONTROLLER_ACCOUNT", "envprov")
    file = tmp_path / "settings.yaml"
    file.write_text(_named(kustomized, "ConfigMap", "envprov-settings")["data"]["settings.yaml"])
    settings = load_settings(file)
    assert _port(kustomized, "envprov-receiver") == settings.webhook.port
    assert _port(kustomized, "envprov-controller") == settings.controller.port
    assert (settings.webhook.host, settings.controller.host) == ("0.0.0.0", "0.0.0.0")  # noqa: S104 - in a pod
    assert settings.platform.control_namespace == "platform"
    assert [str(path) for path in settings.webhook.token_files] == ["/etc/envprov/webhook"]


def test_pods_get_what_they_need_and_no_more(kustomized: list[Manifest]) -> None:
    pods = {item["metadata"]["name"]: _pod(item) for item in kustomized if item["kind"] in {"Deployment", "CronJob"}}
    assert {name: pod["serviceAccountName"] for name, pod in pods.items()} == {
        "envprov-cleanup": "envprov-cleanup",
        "envprov-controller": "envprov",
        "envprov-receiver": "envprov-receiver",
    }
    for pod in pods.values():
        (container,) = pod["containers"]
        # A Service gives variables of its own, which begin with ENVPROV_ here, to pods that do not decline them.
        assert pod["enableServiceLinks"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert sorted(container["resources"]["requests"]) == ["cpu", "ephemeral-storage", "memory"]
        assert sorted(container["resources"]["limits"]) == ["ephemeral-storage", "memory"]
        assert container["image"] == "registry.example.com/envprov:0.1.0"
    mounts = {
        name: [volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume]
        for name, pod in pods.items()
    }
    assert mounts == {
        "envprov-cleanup": ["envprov-gitlab"],
        "envprov-controller": ["envprov-gitlab"],
        "envprov-receiver": ["envprov-webhook", "envprov-webhook-signing"],
    }


def test_a_delivery_is_not_let_down_by_a_rollout(kustomized: list[Manifest]) -> None:
    receiver = _named(kustomized, "Deployment", "envprov-receiver")
    assert receiver["spec"]["replicas"] == 2
    assert receiver["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = _pod(receiver)
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause


def test_the_controller_has_time_to_end_its_work(kustomized: list[Manifest]) -> None:
    settings = Settings()
    needed = settings.controller.drain + settings.helm.grace
    given = _pod(_named(kustomized, "Deployment", "envprov-controller"))["terminationGracePeriodSeconds"]
    assert given > needed.total_seconds()


def _kustomized(binaries: Path, folder: Path) -> list[Manifest]:
    command = [str(binaries / "kubectl"), "kustomize", str(folder)]
    return _parsed(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _parsed(text: str) -> list[Manifest]:
    return [item for item in yaml.safe_load_all(text) if item is not None]


def _helm(binaries: Path, *args: str) -> str:
    result = subprocess.run([str(binaries / "helm"), *args], check=False, capture_output=True, text=True)
    if result.returncode:
        raise AssertionError(result.stderr + result.stdout)
    return result.stdout


def _normal(manifests: Iterable[Manifest]) -> dict[tuple[str, str], Manifest]:
    """By kind and name, without what Helm adds; settings as what they say instead of how they are written."""
    found = {}
    for item in manifests:
        if item["kind"] in MADE_BY_HELM:
            continue
        if item["kind"].startswith("ValidatingAdmissionPolicy"):
            # This kustomize takes them for objects of a namespace; the API server drops it, as the docs say.
            item = item | {"metadata": {key: value for key, value in item["metadata"].items() if key != "namespace"}}  # noqa: PLW2901
        if item["kind"] == "ConfigMap":
            item = item | {"data": {name: yaml.safe_load(text) for name, text in item["data"].items()}}  # noqa: PLW2901
        found[item["kind"], item["metadata"]["name"]] = _without_helm(item)
    return found


def _without_helm(node: Any) -> Any:  # noqa: ANN401 - any part of a manifest
    if isinstance(node, list):
        return [_without_helm(child) for child in node]
    if not isinstance(node, dict):
        return node
    dropped = {"labels": LABELS_OF_HELM, "annotations": ANNOTATIONS_OF_HELM}
    cleaned = {
        key: {name: text for name, text in child.items() if name not in dropped[key]}
        if key in dropped and isinstance(child, dict)
        else _without_helm(child)
        for key, child in node.items()
    }
    return {key: child for key, child in cleaned.items() if not (key in dropped and child == {})}


def _named(manifests: Iterable[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def _rights(manifests: Iterable[Manifest], account: str) -> frozenset[Right]:
    return granted(manifests, Account("envprov-system", account))


def _settings(manifests: Iterable[Manifest]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(_named(manifests, "ConfigMap", "envprov-settings")["data"]["settings.yaml"])
    return found


def _pod(item: Manifest) -> Manifest:
    spec = item.get("spec", {})
    found: Manifest = spec.get("jobTemplate", {"spec": spec})["spec"].get("template", {}).get("spec", {})
    return found


def _port(manifests: Iterable[Manifest], deployment: str) -> int:
    ((port,),) = [container["ports"] for container in _pod(_named(manifests, "Deployment", deployment))["containers"]]
    number: int = port["containerPort"]
    return number


def _rules_with_comments(text: str) -> Iterable[tuple[str, set[str]]]:
    """The comment right above each rule, and the rule's verbs."""
    comment: list[str] = []
    for line in text.splitlines():
        if line.startswith("  #"):
            comment.append(line.strip("# "))
        elif found := re.fullmatch(r"    verbs: \[(.*)\]", line):
            yield " ".join(comment), set(found[1].split(", "))
            comment = []
        elif not line.startswith(("  - apiGroups", "    resource", "      - ")):
            comment = []


def _documented(text: str) -> dict[str, set[tuple[str, str, str, str]]]:
    """The rights in the tables of docs/rbac.md, by the role in the heading above them."""
    found: dict[str, set[tuple[str, str, str, str]]] = {}
    role = ""
    for line in text.splitlines():
        if heading := re.match(r"#+ `((?:Cluster)?Role [a-z-]+)`", line):
            role = heading[1]
        elif line.startswith("|") and "`" in line:
            resources, names, verbs = (re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:4])
            found.setdefault(role, set()).update(
                (resource.partition(" ")[2], resource.partition(" ")[0], name, verb)
                for resource in resources
                for name in names or [""]
                for verb in verbs
            )
    return found
