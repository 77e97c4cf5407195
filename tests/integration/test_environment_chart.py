"""The chart for teams that have none: refuses what cannot work, renders what Kubernetes takes, and comes up."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.project import ProjectSpec
from tests.cluster import Cluster
from tests.eventually import eventually

ROOT = Path(__file__).parent.parent.parent
CHART = ROOT / "helm" / "environment"
EXAMPLES = {path.stem: path for path in sorted((CHART / "examples").glob("*.yaml"))}
PAGES = [ROOT / "docs" / "environment-chart.md", CHART / "README.md"]

BRANCH = "日本語/イベント-$(HOME)-\"x'-{{ .Release.Name }}"
INJECTED = {
    "project": "shop",
    "branch": BRANCH,
    "slug": "b-x-abcdefgh",
    "revision": "4f2a90c1d3",
    "host": "b-x-abcdefgh.dev.example.com",
    "url": "https://b-x-abcdefgh.dev.example.com",
}
RELEASE = "feature-very-long-branch-name-a-abcdefgh"
LONGEST_PART = "c" + "o" * 61 + "m"
IMAGE = {"repository": "registry.example.com/shop", "tag": "1.0"}
WEB = {"image": IMAGE, "port": 8080}

Manifest = dict[str, Any]
Values = dict[str, Any]


@dataclass(frozen=True)
class Helm:
    """Helm with a home of its own, for one chart."""

    cluster: Cluster
    home: Path

    def run(self, *args: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.cluster.binaries / "helm", "--kubeconfig", self.cluster.kubeconfig, *args, "--values", "-"],
            input=json.dumps(values or {}, ensure_ascii=False),  # Helm reads an unquoted y as true
            env=os.environ | {"HOME": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
        )

    def lint(self, values: Values) -> subprocess.CompletedProcess[str]:
        return self.run("lint", "--strict", str(CHART), values=values)

    def text(self, values: Values, release: str = "x") -> str:
        result = self.run("template", release, str(CHART), values=values)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def render(self, values: Values, release: str = "x") -> Rendered:
        documents = yaml.safe_load_all(self.text(values, release))
        return Rendered([document for document in documents if document])

    def refusal(self, values: Values) -> str:
        result = self.run("template", "x", str(CHART), values=values)
        assert result.returncode != 0, "the chart took the values"
        return result.stderr

    def install(
        self, namespace: str, values: Values, *args: str, release: str = "x"
    ) -> subprocess.CompletedProcess[str]:
        command = ["upgrade", "--install", release, str(CHART), "--namespace", namespace, "--timeout", "60s", *args]
        return self.run(*command, values=values)


@dataclass(frozen=True)
class Rendered:
    """What the chart made of some values."""

    objects: list[Manifest]

    def of(self, kind: str, part: str | None = None) -> Manifest:
        found = [
            item
            for item in self.objects
            if item["kind"] == kind
            and (part is None or item["metadata"]["labels"].get("app.kubernetes.io/name") == part)
        ]
        assert len(found) == 1, f"{len(found)} objects {kind} of {part}"
        return found[0]

    def kinds(self) -> set[str]:
        return {item["kind"] for item in self.objects}

    def pod(self, kind: str, part: str) -> Manifest:
        spec: Manifest = self.of(kind, part)["spec"]["template"]["spec"]
        return spec

    def container(self, part: str, kind: str = "Deployment") -> Manifest:
        (container,) = self.pod(kind, part)["containers"]
        found: Manifest = container
        return found

    def env(self, part: str, kind: str = "Deployment") -> dict[str, Any]:
        return {item["name"]: item.get("value", item.get("valueFrom")) for item in self.container(part, kind)["env"]}


@pytest.fixture
def helm(cluster: Cluster, tmp_path: Path) -> Helm:
    return Helm(cluster, tmp_path)


@pytest.fixture
def restricted(cluster: Cluster, control_namespace: str) -> str:
    """Return a namespace that admits only pods of the strictest level, and says what would not be admitted."""
    labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    cluster.kubectl("label", "namespace", control_namespace, *labels)
    return control_namespace


@pytest.fixture
def volumes(cluster: Cluster, restricted: str) -> Iterator[None]:
    """Have a volume ready for the claim of component "database" of release x; no provisioner runs here."""
    name = f"envprov-t-{secrets.token_hex(4)}"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/var/lib/none"},
            "claimRef": {"namespace": restricted, "name": "x-database"},
        },
    }
    cluster.kubectl("create", "-f", "-", input=json.dumps(volume))
    yield
    cluster.kubectl("delete", "persistentvolume", name, "--wait=false", "--ignore-not-found")


def example(name: str) -> Values:
    values: Values = yaml.safe_load(EXAMPLES[name].read_text())
    return values | {"envprov": INJECTED}


def web(**more: Any) -> Values:  # noqa: ANN401 - values are any YAML
    return {"components": {"web": WEB | more}, "envprov": INJECTED}


def job(**more: Any) -> Values:  # noqa: ANN401 - same
    return web() | {"jobs": {"migrate": {"when": "pre-install,pre-upgrade", "component": "web"} | more}}


def pod_templates(rendered: Rendered) -> list[Manifest]:
    return [item["spec"]["template"] for item in rendered.objects if item["kind"] in {"Deployment", "Job"}]


# --- Accepted and refused


@pytest.mark.parametrize(
    "values", [pytest.param({}, id="defaults"), *(pytest.param({"name": n}, id=n) for n in EXAMPLES)]
)
def test_lint_finds_nothing(helm: Helm, values: Values) -> None:
    result = helm.lint(example(values["name"]) if values else {})
    assert result.returncode == 0, result.stdout + result.stderr
    assert "[WARNING]" not in result.stdout
    assert "0 chart(s) failed" in result.stdout


def test_examples_without_envprov_are_accepted_too(helm: Helm) -> None:
    for path in EXAMPLES.values():
        assert helm.lint(yaml.safe_load(path.read_text())).returncode == 0, path.name


def test_nothing_wanted_is_nothing_made(helm: Helm) -> None:
    assert helm.render({}).objects == []


# What is added to a good component -> the field that the refusal names, below /components/web.
BAD_COMPONENTS = {
    "prot: 80": "",
    "image: {repository: a}": "/image",
    "image: {repository: a, tag: 1.1}": "/image/tag",
    "image: {repository: 'a:1', tag: b}": "/image/repository",
    "image: {repository: a, digest: 'sha256:1'}": "/image/digest",
    "image: {repository: a, tag: b, pullPolicy: Maybe}": "/image/pullPolicy",
    "port: 0": "/port",
    "port: 65536": "/port",
    "port: '80'": "/port",
    "ports: {'123': 80}": "/ports/123",
    "ports: {a-very-long-name: 80}": "/ports",
    "ports: {a--b: 80}": "/ports/a--b",
    "{port: 80, ports: {a: 80}}": "",
    "replicas: -1": "/replicas",
    "replicas: 1.5": "/replicas",
    "resources: {requests: {memory: 64mb}}": "/resources/requests/memory",
    "resources: {requests: {cpu: '-1'}}": "/resources/requests/cpu",
    "resources: {requests: {gpu: 1}}": "/resources/requests",
    "volume: {size: 1Gi}": "/volume",
    "volume: {size: big, mountPath: /a}": "/volume/size",
    "volume: {size: 1Gi, mountPath: a}": "/volume/mountPath",
    "volume: {size: 1Gi, mountPath: /a/../b}": "/volume/mountPath",
    "{replicas: 2, volume: {size: 1Gi, mountPath: /a}}": "/replicas",
    "{strategy: RollingUpdate, volume: {size: 1Gi, mountPath: /a}}": "/strategy",
    "env: {A: {value: x}}": "/env/A",
    "env: {A: [x]}": "/env/A",
    "env: {A B: x}": "/env",
    "env: {ENVPROV_URL: x}": "/env/ENVPROV_URL",
    "env: {A: {valueFrom: {secretKeyRef: {name: s}}}}": "/env/A/valueFrom/secretKeyRef",
    "envFrom: [{secretRef: {}}]": "/envFrom/0/secretRef",
    "probes: {alive: {http: /}}": "/probes",
    "probes: {liveness: {http: healthz}}": "/probes/liveness/http",
    "probes: {liveness: {periodSeconds: 1}}": "/probes/liveness",
    "probes: {liveness: {http: /, exec: {command: [a]}}}": "/probes/liveness",
    "probes: {startup: {http: /, successThreshold: 2}}": "/probes/startup/successThreshold",
    "securityContext: {privileged: true}": "/securityContext",
    "securityContext: {addCapabilities: [SYS_ADMIN]}": "/securityContext/addCapabilities/0",
    "{port: 80, paths: [a]}": "/paths/0",
    "emptyDirs: {tmp: {}}": "/emptyDirs",
    "files: {/a/../b: c}": "/files/~1a~1..~1b",
    "files: {/etc/a: {}}": "/files/~1etc~1a",
    "podAnnotations: {a: 1}": "/podAnnotations/a",
}
# The same for the values as a whole.
BAD_VALUES = {
    "componnents: {}": "",
    "components: {web: {port: 80}}": "/components/web",
    "components: {Web: {}}": "/components",
    "components: {1st: {}}": "/components",
    "host: '*.example.com'": "/host",
    "host: example.com:8443": "/host",
    "envprov: {host: Example.com}": "/envprov/host",
    "imagePullSecrets: [registry]": "/imagePullSecrets/0",
    "serviceAccount: {create: true, name: shared}": "/serviceAccount/name",
    "serviceAccount: {annotations: {envprov.io/guard: x}}": "/serviceAccount/annotations/envprov.io~1guard",
    "jobs: {a: {component: web}}": "/jobs/a",
    "jobs: {a: {component: web, when: pre-delete}}": "/jobs/a/when",
    "jobs: {a: {component: web, when: 'pre-install, pre-upgrade'}}": "/jobs/a/when",
    "jobs: {a: {component: web, when: pre-install, backoffLimit: -1}}": "/jobs/a/backoffLimit",
    "jobs: {a: {component: web, when: pre-install, activeDeadlineSeconds: 0}}": "/jobs/a/activeDeadlineSeconds",
}


@pytest.mark.parametrize(("text", "field"), BAD_COMPONENTS.items())
def test_schema_names_the_field_of_a_component_that_it_refuses(helm: Helm, text: str, field: str) -> None:
    component: Values = {"image": IMAGE} | yaml.safe_load(text)
    _is_refused(helm, {"components": {"web": component}}, f"/components/web{field}")


@pytest.mark.parametrize(("text", "field"), BAD_VALUES.items())
def test_schema_names_the_field_that_it_refuses(helm: Helm, text: str, field: str) -> None:
    _is_refused(helm, yaml.safe_load(text), field)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{global: {anything: [1]}}", id="global is left alone"),
        pytest.param("{envprov: {cluster: later}}", id="envprov may say more one day"),
        pytest.param("{envprov: {host: null, url: null}}", id="no host, as null"),
        pytest.param(
            "{components: {web: {image: I, resources: {requests: {cpu: 1, memory: 1.5Gi}}}}}", id="CPU as number"
        ),
        pytest.param(
            "{components: {web: {image: I, ports: {8080-tcp: 8080}}}}", id="port name that begins with a digit"
        ),
        pytest.param(
            "{components: {web: {image: {repository: 'localhost:5000/a/b', tag: b}}}}", id="registry with port"
        ),
        pytest.param(
            "{components: {web: {image: I, probes: {liveness: {http: /, port: 81}}}}}", id="probe on a bare number"
        ),
    ],
)
def test_schema_takes(helm: Helm, text: str) -> None:
    helm.text(yaml.safe_load(text.replace("image: I", "image: {repository: a, tag: b}")))


def test_all_that_does_not_fit_together_is_said_at_once(helm: Helm) -> None:
    said = helm.refusal(
        {
            "components": {
                "api": {"image": IMAGE, "port": 80, "paths": ["/"]},
                "web": {
                    "image": IMAGE,
                    "ports": {"http": 80},
                    "paths": ["/"],
                    "probes": {"readiness": {"httpGet": {"port": "web"}}},
                },
                "worker": {"image": IMAGE, "paths": ["/worker"], "probes": {"liveness": {"http": "/"}}},
                "store": {"image": IMAGE, "volume": {"size": "1Gi", "mountPath": "/d"}, "emptyDirs": {"/d": {}}},
            },
            "serviceAccount": {"create": True},
            "jobs": {
                "seed": {"when": "post-install", "component": "wbe"},
                "load": {"when": "post-install"},
                "store": {"when": "pre-install", "image": IMAGE},
            },
        }
    )
    findings = [line.strip() for line in said.splitlines() if line.startswith("  - ")]
    assert [finding.split(":")[0] for finding in findings] == [
        "- components.store.volume.mountPath",
        "- components.web.probes.readiness",
        "- components.web.paths",
        "- components.worker.probes.liveness",
        "- components.worker.paths",
        "- jobs.load",
        "- jobs.seed.component",
        "- jobs.store",
        "- jobs.store.when",
    ]
    assert 'there is no component "wbe"' in said


# --- What is rendered


def test_each_container_is_told_where_it_is(helm: Helm) -> None:
    env = helm.render(web()).env("web")
    assert env["ENVPROV_PROJECT"] == "shop"
    assert env["ENVPROV_SLUG"] == "b-x-abcdefgh"
    assert env["ENVPROV_REVISION"] == "4f2a90c1d3"
    assert env["ENVPROV_HOST"] == "b-x-abcdefgh.dev.example.com"
    assert env["ENVPROV_URL"] == "https://b-x-abcdefgh.dev.example.com"
    assert env["ENVPROV_SERVICE_WEB"] == "x-web"


def test_a_dollar_in_a_branch_is_not_a_reference(helm: Helm) -> None:
    assert helm.render(web()).env("web")["ENVPROV_BRANCH"] == BRANCH.replace("$", "$$")


def test_a_branch_is_an_annotation_and_never_a_label(helm: Helm) -> None:
    plain = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
    for name in EXAMPLES:
        rendered = helm.render(example(name), RELEASE)
        for item in rendered.objects:
            assert all(plain.fullmatch(value) for value in item["metadata"]["labels"].values())
        assert rendered.of("Ingress")["metadata"]["annotations"]["envprov.io/branch"] == BRANCH
        account = [item for item in rendered.objects if item["kind"] == "ServiceAccount"]
        assert all("annotations" not in item["metadata"] for item in account), "only envprov may write those"


def test_numbers_and_booleans_become_text_as_written(helm: Helm) -> None:
    env = helm.render(web(env={"BIG": 10000000, "HALF": 0.5, "YES": True, "NONE": "", "QUOTED": '"', "Y": "on"})).env(
        "web"
    )
    assert {key: env[key] for key in ("BIG", "HALF", "YES", "NONE", "QUOTED", "Y")} == {
        "BIG": "10000000",
        "HALF": "0.5",
        "YES": "true",
        "NONE": "",
        "QUOTED": '"',
        "Y": "on",
    }


def test_plain_text_comes_after_what_it_may_refer_to(helm: Helm) -> None:
    secret = {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    names = list(
        helm.render(web(env={"A_URL": "$(Z_PASSWORD)@$(ENVPROV_SERVICE_WEB)", "Z_PASSWORD": secret})).env("web")
    )
    assert names.index("ENVPROV_SERVICE_WEB") < names.index("Z_PASSWORD") < names.index("A_URL")


def test_the_nearest_value_wins_whole(helm: Helm) -> None:
    def key(kind: str) -> Values:
        return {"valueFrom": {kind: {"name": "n", "key": "k"}}}

    values = job(env={"A": "", "S": key("configMapKeyRef")})
    values["env"] = {"A": "all", "B": "all", "C": "all", "S": key("secretKeyRef")}
    values["components"]["web"]["env"] = {"A": "web", "B": False}
    rendered = helm.render(values)
    assert [rendered.env("web")[name] for name in "ABC"] == ["web", "false", "all"]
    assert [rendered.env("migrate", "Job")[name] for name in "ABC"] == ["", "false", "all"]
    assert rendered.env("migrate", "Job")["S"] == {"configMapKeyRef": {"name": "n", "key": "k"}}


def test_probes_short_and_full(helm: Helm) -> None:
    full = {"httpGet": {"path": "/r", "port": "http", "scheme": "HTTPS"}, "timeoutSeconds": 2}
    values = web(
        ports={"metrics": 9090, "http": 8080},
        probes={
            "liveness": {"http": "/a", "periodSeconds": 3},
            "startup": {"http": "/s", "port": 9},
            "readiness": full,
        },
    )
    del values["components"]["web"]["port"]
    container = helm.render(values).container("web")
    assert container["livenessProbe"] == {"httpGet": {"path": "/a", "port": "http"}, "periodSeconds": 3}
    assert container["startupProbe"] == {"httpGet": {"path": "/s", "port": 9}}
    assert container["readinessProbe"] == full


@pytest.mark.parametrize("name", EXAMPLES)
def test_pods_are_restricted_and_have_no_token(helm: Helm, name: str) -> None:
    for template in pod_templates(helm.render(example(name))):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_a_volume_has_one_pod_at_a_time_and_goes_with_the_release(helm: Helm) -> None:
    rendered = helm.render(example("web-and-database"))
    assert rendered.of("Deployment", "database")["spec"]["strategy"] == {"type": "Recreate"}
    assert rendered.of("Deployment", "web")["spec"]["strategy"] == {"type": "RollingUpdate"}
    claim = rendered.of("PersistentVolumeClaim")
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    assert "helm.sh/resource-policy" not in claim["metadata"].get("annotations", {})
    assert rendered.pod("Deployment", "database")["volumes"] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "x-database"}}
    ]


def test_a_push_restarts_what_has_no_volume(helm: Helm) -> None:
    before = helm.render(example("web-and-database"))
    values = example("web-and-database") | {"envprov": INJECTED | {"revision": "new"}}
    after = helm.render(values)
    assert after.of("Deployment", "database") == before.of("Deployment", "database")
    assert after.of("Deployment", "web") != before.of("Deployment", "web")
    values["components"]["database"]["restartOnPush"] = True
    assert helm.render(values).env("database")["ENVPROV_REVISION"] == "new"


def test_a_change_of_a_file_restarts_its_component_only(helm: Helm) -> None:
    values = example("web-and-database")
    before = helm.render(values)
    values["components"]["web"]["files"]["/etc/shop/features.json"] = "{}"
    after = helm.render(values)
    assert after.of("Deployment", "web")["spec"]["template"] != before.of("Deployment", "web")["spec"]["template"]
    assert after.of("Deployment", "database") == before.of("Deployment", "database")
    (mount,) = [m for m in after.container("web")["volumeMounts"] if m["name"] == "files"]
    assert after.of("ConfigMap")["data"][mount["subPath"]] == "{}"


def test_the_chart_s_own_version_restarts_nothing(helm: Helm) -> None:
    for template in pod_templates(helm.render(example("web-and-database"))):
        assert "helm.sh/chart" not in template["metadata"]["labels"]


def test_paths_become_one_ingress_for_one_host(helm: Helm) -> None:
    ingress = helm.render(example("ingress-tls")).of("Ingress")
    assert ingress["spec"]["tls"] == [
        {"hosts": ["b-x-abcdefgh.dev.example.com"], "secretName": "wildcard-dev-example-com"}
    ]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "b-x-abcdefgh.dev.example.com"
    assert {p["path"]: p["backend"]["service"]["name"] for p in rule["http"]["paths"]} == {
        "/": "x-web",
        "/api": "x-api",
        "/graphql": "x-api",
    }
    assert helm.render(example("ingress-tls") | {"host": "own.example.com"}).of("Ingress")["spec"]["rules"][0][
        "host"
    ] == ("own.example.com")


def test_without_a_host_there_is_no_ingress(helm: Helm) -> None:
    values = web(paths=["/"]) | {"envprov": {"branch": "x"}}
    assert "Ingress" not in helm.render(values).kinds()


def test_a_service_account_is_referred_to_or_the_release_s_own(helm: Helm) -> None:
    default = helm.render(web())
    assert "ServiceAccount" not in default.kinds()
    assert default.pod("Deployment", "web")["serviceAccountName"] == "default"
    shared = helm.render(web() | {"serviceAccount": {"name": "deployer"}})
    assert "ServiceAccount" not in shared.kinds()
    assert shared.pod("Deployment", "web")["serviceAccountName"] == "deployer"
    own = helm.render(web() | {"serviceAccount": {"create": True}})
    assert own.of("ServiceAccount")["metadata"]["name"] == "x"
    assert own.pod("Deployment", "web")["serviceAccountName"] == "x"


def test_a_job_has_what_its_component_has_and_its_own_first(helm: Helm) -> None:
    values = job(command=["migrate"], securityContext={"runAsUser": 7})
    values["components"]["web"] |= {
        "emptyDirs": {"/scratch": {}},
        "command": ["serve"],
        "envFrom": [{"secretRef": {"name": "s"}}],
        "securityContext": {"runAsUser": 5, "readOnlyRootFilesystem": True},
    }
    rendered = helm.render(values)
    container = rendered.container("migrate", "Job")
    assert container["image"] == "registry.example.com/shop:1.0"
    assert container["command"] == ["migrate"]
    assert container["envFrom"] == [{"secretRef": {"name": "s"}}]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/scratch"]
    assert rendered.pod("Job", "migrate")["securityContext"]["runAsUser"] == 7
    assert container["securityContext"]["readOnlyRootFilesystem"] is False
    made = rendered.of("Job")
    assert made["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert made["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert (made["spec"]["backoffLimit"], made["spec"]["activeDeadlineSeconds"]) == (3, 600)


@pytest.mark.parametrize("release", ["x", RELEASE, "r" * 53, "1", "1.2.on", "on", "feature.x-" + "y" * 40])
@pytest.mark.parametrize("part", ["a", "on", "null", "y", LONGEST_PART])
def test_names_are_valid_whatever_the_parts_are(helm: Helm, release: str, part: str) -> None:
    volume = {"volume": {"size": "1Gi", "mountPath": "/d"}, "files": {"/a": "b"}, "paths": ["/"]}
    values = {
        "components": {part: WEB | volume},
        "jobs": {"j" + part[1:]: {"when": "post-install", "image": IMAGE}},
        "serviceAccount": {"create": True},
        "envprov": INJECTED,
    }
    rendered = helm.render(values, release)
    assert len(rendered.objects) == 7
    for item in rendered.objects:
        name = item["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name), item["kind"]
        assert len(name) <= (52 if item["kind"] == "Job" else 63)
        assert all(isinstance(value, str) for value in item["metadata"]["labels"].values())
    deployment = rendered.of("Deployment")
    service = rendered.of("Service")
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert deployment["spec"]["template"]["metadata"]["labels"].items() >= service["spec"]["selector"].items()


def test_names_that_begin_alike_stay_two(helm: Helm) -> None:
    rendered = helm.render({"components": {LONGEST_PART: WEB, LONGEST_PART[:-1] + "n": WEB}}, RELEASE)
    names = {item["metadata"]["name"] for item in rendered.objects if item["kind"] == "Service"}
    assert len(names) == 2


# --- On a cluster


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_comes_up_under_the_strictest_pod_security(
    cluster: Cluster, helm: Helm, restricted: str, volumes: None, name: str
) -> None:
    del volumes
    _secret(cluster, restricted)
    first = helm.install(restricted, example(name), "--wait")
    assert first.returncode == 0, first.stderr
    deployments = _objects(cluster, restricted, "deployments")
    assert len(deployments) == len(example(name)["components"])
    for deployment in deployments:
        conditions = {c["type"]: c["status"] for c in deployment["status"]["conditions"]}
        assert conditions["Available"] == "True"
        assert deployment["status"]["readyReplicas"] == deployment["spec"]["replicas"]
    claims = _objects(cluster, restricted, "persistentvolumeclaims")
    assert [claim["status"]["phase"] for claim in claims] == (["Bound"] if "database" in name else [])
    assert _objects(cluster, restricted, "jobs") == [], "jobs that succeeded are cleared away"

    before = _versions(cluster, restricted)
    second = helm.install(restricted, example(name), "--wait")
    assert second.returncode == 0, second.stderr
    assert _versions(cluster, restricted) == before, "the same again changes nothing"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_api_server_takes_each_object_without_a_warning(
    cluster: Cluster, helm: Helm, restricted: str, name: str
) -> None:
    said = _dry_run(cluster, restricted, helm.text(example(name)))
    assert said
    assert all(line.endswith("created (server dry run)") for line in said), said


def test_the_api_server_warns_of_a_pod_that_it_would_not_admit(cluster: Cluster, helm: Helm, restricted: str) -> None:
    said = _dry_run(cluster, restricted, helm.text(web(securityContext={"runAsNonRoot": False})))
    assert any("would violate PodSecurity" in line and "runAsNonRoot" in line for line in said), said


def test_the_longest_names_come_up(cluster: Cluster, helm: Helm, restricted: str) -> None:
    values = {
        "components": {LONGEST_PART: WEB | {"paths": ["/"]}},
        "jobs": {"j" * 63: {"when": "pre-install", "component": LONGEST_PART}},
        "serviceAccount": {"create": False},
        "envprov": INJECTED,
    }
    result = helm.install(restricted, values, "--wait", release=RELEASE)
    assert result.returncode == 0, result.stderr
    (service,) = _objects(cluster, restricted, "services")
    assert len(service["metadata"]["name"]) == 63
    slices = eventually(lambda: _ready_endpoints(cluster, restricted), message="the Service found no pod")
    assert slices == 1


@pytest.mark.parametrize("branch", [BRANCH, "é" * 127, "a$$b$(c)", "x" * 255, "\U0001f389\u00ad\u202e"])
def test_any_branch_arrives_as_it_is(cluster: Cluster, helm: Helm, restricted: str, branch: str) -> None:
    result = helm.install(restricted, web() | {"envprov": INJECTED | {"branch": branch}})
    assert result.returncode == 0, result.stderr
    (deployment,) = _objects(cluster, restricted, "deployments")
    assert deployment["metadata"]["annotations"]["envprov.io/branch"] == branch
    env = {
        item["name"]: item.get("value", "") for item in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["ENVPROV_BRANCH"].replace("$$", "$") == branch


def test_a_migration_that_fails_comes_before_everything_else(cluster: Cluster, helm: Helm, restricted: str) -> None:
    cluster.kubectl("create", "quota", "none", "--hard=pods=0", "-n", restricted)
    result = helm.install(restricted, job(activeDeadlineSeconds=1))
    assert result.returncode != 0
    assert [item["metadata"]["name"] for item in _objects(cluster, restricted, "jobs")] == ["x-migrate"], (
        "it can be read"
    )
    assert _objects(cluster, restricted, "deployments") == []

    cluster.kubectl("delete", "quota", "none", "-n", restricted)
    again = helm.install(restricted, job(), "--wait")
    assert again.returncode == 0, again.stderr
    assert _objects(cluster, restricted, "jobs") == []
    cluster.kubectl("create", "quota", "none", "--hard=pods=0", "-n", restricted)
    values = job(activeDeadlineSeconds=1)
    values["components"]["web"]["image"] = IMAGE | {"tag": "2.0"}
    assert helm.install(restricted, values).returncode != 0
    (deployment,) = _objects(cluster, restricted, "deployments")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/shop:1.0"


def test_jobs_run_in_the_order_of_their_weights_after_the_rest(cluster: Cluster, helm: Helm, restricted: str) -> None:
    cluster.kubectl("create", "quota", "none", "--hard=pods=0", "-n", restricted)
    values = example("web-and-database")
    values["jobs"] = {  # by their names they would run the other way round
        "a-seed": {"when": "post-install", "component": "web", "weight": 2},
        "migrate": {"when": "post-install", "component": "web", "weight": 1, "activeDeadlineSeconds": 1},
    }
    assert helm.install(restricted, values).returncode != 0
    assert [item["metadata"]["name"] for item in _objects(cluster, restricted, "jobs")] == ["x-migrate"]
    assert len(_objects(cluster, restricted, "deployments")) == 2


def test_the_notes_say_what_to_set(helm: Helm, restricted: str) -> None:
    assert "the values name no component" in helm.install(restricted, {}).stdout
    assert "There is no Ingress" in helm.install(restricted, web(paths=["/"]) | {"envprov": {}}).stdout
    assert "web: x-web, at b-x-abcdefgh.dev.example.com/" in helm.install(restricted, web(paths=["/"])).stdout


def test_the_release_stays_small(cluster: Cluster, helm: Helm, restricted: str) -> None:
    assert helm.install(restricted, example("web-and-database"), "--no-hooks").returncode == 0
    (stored,) = [s for s in _objects(cluster, restricted, "secrets") if s["type"] == "helm.sh/release.v1"]
    payload = base64.b64decode(stored["data"]["release"])
    assert len(payload) < 32 * 1024
    chart = json.loads(gzip.decompress(base64.b64decode(payload)))["chart"]
    assert not chart["files"]
    assert all(item["name"].startswith("templates/") for item in chart["templates"])


# --- The pages


def _blocks() -> Iterator[Any]:
    for page in PAGES:
        for number, text in enumerate(
            re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL), 1
        ):
            yield pytest.param(text, id=f"{page.stem} {number}")


@pytest.mark.parametrize("text", list(_blocks()))
def test_what_the_pages_show_works(cluster: Cluster, helm: Helm, restricted: str, text: str) -> None:
    shown: Values = yaml.safe_load(text)
    if shown.get("kind") == "Project":
        ProjectSpec.model_validate(shown["spec"])
        values = _filled(shown["spec"]["values"])
    else:
        values = shown
    rendered = helm.text(values | {"envprov": INJECTED})
    said = _dry_run(cluster, restricted, rendered)
    relaxed = [line for line in said if line.startswith("Warning: would violate PodSecurity")]
    assert bool(relaxed) == ("runAsNonRoot: false" in text)
    assert len(said) - len(relaxed) == rendered.count("\nkind: ")
    assert all(line.endswith("created (server dry run)") for line in said if line not in relaxed), said


def test_the_pages_show_something() -> None:
    assert len(list(_blocks())) >= 6


# --- What the tests above read


def _is_refused(helm: Helm, values: Values, field: str) -> None:
    said = helm.refusal(values)
    assert "values don't meet the specifications of the schema" in said
    assert f"at '{field}'" in said


def _filled(values: Values) -> Values:
    """Fill the placeholders in, as envprov does."""
    text = json.dumps(values)
    for word in ("slug", "revision", "host", "url"):
        text = text.replace("{" + word + "}", INJECTED[word])
    filled: Values = json.loads(text)
    return filled


def _objects(cluster: Cluster, namespace: str, kinds: str) -> list[Manifest]:
    items: list[Manifest] = json.loads(cluster.kubectl("get", kinds, "-n", namespace, "-o", "json"))["items"]
    return items


def _versions(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return what a write would have changed; Ready pods are named, as a restart gives them other names."""
    kinds = "services,persistentvolumeclaims,configmaps,ingresses,serviceaccounts"
    versions = {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in _objects(cluster, namespace, kinds)
    }
    generations = {
        item["metadata"]["name"]: item["metadata"]["generation"] for item in _objects(cluster, namespace, "deployments")
    }
    pods = sorted(
        item["metadata"]["name"]
        for item in _objects(cluster, namespace, "pods")
        if "job-name" not in item["metadata"]["labels"]
    )
    return {"versions": versions, "generations": generations, "pods": pods}


def _ready_endpoints(cluster: Cluster, namespace: str) -> int:
    slices = _objects(cluster, namespace, "endpointslices")
    return sum(bool(point["conditions"].get("ready")) for part in slices for point in part.get("endpoints") or [])


def _dry_run(cluster: Cluster, namespace: str, manifests: str) -> list[str]:
    said = cluster.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", "-", input=manifests, check=False)
    return [line for line in said.splitlines() if line]


def _secret(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "secret", "generic", "shop-database", "--from-literal=password=x", "-n", namespace)
