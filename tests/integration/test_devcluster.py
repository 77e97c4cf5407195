"""The development cluster: real where it counts, on loopback only, and leaving nothing behind."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests import cluster as clusters
from tests.cluster import BUILD, CLUSTER, SCRIPTS, Cluster, given_cluster, kubeconfig_of
from tests.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    bool(os.environ.get("ENVPROV_TEST_KUBECONFIG")), reason="these look at the development cluster itself"
)

COMPONENTS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok-controller"]
PROGRAMS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "etcd", "kwok", "kwokctl", "helm"]


# --- What is real about it: the run's own cluster


@pytest.mark.skipif(bool(os.environ.get("KUBEBUILDER_ASSETS")), reason="a folder of one's own has its own versions")
@pytest.mark.parametrize(
    ("command", "product", "module"),
    [
        pytest.param(["kube-apiserver", "--version"], "kubernetes", "k8s.io/kubernetes", id="kube-apiserver"),
        pytest.param(["kube-controller-manager", "--version"], "kubernetes", "k8s.io/kubernetes", id="controllers"),
        pytest.param(["kube-scheduler", "--version"], "kubernetes", "k8s.io/kubernetes", id="kube-scheduler"),
        pytest.param(["kubectl", "version", "--client"], "kubernetes", "k8s.io/kubernetes", id="kubectl"),
        pytest.param(["etcd", "--version"], "etcd", "go.etcd.io/etcd/server/v3", id="etcd"),
        pytest.param(["kwok", "--version"], "kwok", "sigs.k8s.io/kwok", id="kwok"),
        pytest.param(["kwokctl", "--version"], "kwok", "sigs.k8s.io/kwok", id="kwokctl"),
        pytest.param(["helm", "version"], "helm", "helm.sh/helm/v4", id="helm"),
        pytest.param(["helm3", "version"], "helm3", "helm.sh/helm/v3", id="helm3"),
    ],
)
def test_each_program_has_the_pinned_version(cluster: Cluster, command: list[str], product: str, module: str) -> None:
    text = (SCRIPTS / "modules" / product / "go.mod").read_text()
    pins = re.findall(rf"^(?:require )?\s*{re.escape(module)} v(\S+)", text, re.MULTILINE)
    said = _out(str(cluster.binaries / command[0]), *command[1:])
    assert len(pins) == 1
    assert re.search(rf"\bv?{re.escape(pins[0])}\b", said), said


def test_the_server_is_the_kubernetes_that_was_built(cluster: Cluster) -> None:
    version = json.loads(cluster.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]


def test_every_component_listens_on_loopback_only(cluster: Cluster) -> None:
    listening = {name: _listening(pid) for name, pid in _components(cluster.kubeconfig).items()}
    assert sorted(listening) == COMPONENTS
    assert all(listening.values()), listening
    assert {address for addresses in listening.values() for address, _ in addresses} == {"127.0.0.1"}


def test_a_token_names_its_issuer_and_works(cluster: Cluster, control_namespace: str) -> None:
    cluster.kubectl("-n", control_namespace, "create", "serviceaccount", "robot")
    token = cluster.kubectl("-n", control_namespace, "create", "token", "robot").strip()
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["iss"] == "https://kubernetes.default.svc.cluster.local"
    assert claims["sub"] == f"system:serviceaccount:{control_namespace}:robot"
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(review)))["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{control_namespace}:robot"


def test_rbac_decides(cluster: Cluster, control_namespace: str) -> None:
    cluster.kubectl("-n", control_namespace, "create", "serviceaccount", "robot")
    token = cluster.kubectl("-n", control_namespace, "create", "token", "robot").strip()
    path = f"/api/v1/namespaces/{control_namespace}/secrets"
    refusal = _get(cluster, path, token)
    assert refusal.status_code == 403
    assert 'cannot list resource "secrets"' in refusal.json()["message"]
    assert _get(cluster, path, "no-token").status_code == 401
    robot = f"{control_namespace}:robot"
    cluster.kubectl(
        "-n", control_namespace, "create", "rolebinding", "robot", "--clusterrole=edit", f"--serviceaccount={robot}"
    )
    eventually(lambda: _get(cluster, path, token).status_code == 200, message="the binding has no effect")


def test_a_deployment_becomes_available_and_its_pods_get_addresses(cluster: Cluster, control_namespace: str) -> None:
    kubectl = ("-n", control_namespace)
    cluster.kubectl(*kubectl, "create", "deployment", "shop", "--image=registry.example.com/shop", "--replicas=2")
    cluster.kubectl(*kubectl, "wait", "--for=condition=Available", "deployment/shop", "--timeout=120s")
    pods = json.loads(cluster.kubectl(*kubectl, "get", "pods", "-l", "app=shop", "-o", "json"))["items"]
    addresses = {pod["status"].get("podIP") for pod in pods}
    assert len(addresses) == 2
    assert None not in addresses


def test_the_audit_log_tells_who_did_what_without_bodies(cluster: Cluster, control_namespace: str) -> None:
    cluster.kubectl("-n", control_namespace, "create", "secret", "generic", "lock", "--from-literal=code=0xc0ffee")
    (event,) = eventually(lambda: _audited(cluster, "create", "secrets", control_namespace), message="not in the log")
    assert event["user"]["groups"] == ["system:masters", "system:authenticated"]
    assert event["responseStatus"]["code"] == 201
    assert "requestObject" not in event
    assert "responseObject" not in event


def test_a_policy_refuses_a_deletion(cluster: Cluster, control_namespace: str) -> None:
    name = control_namespace  # cluster-scoped, so it needs a name that no other test has
    here = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": control_namespace}}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["serviceaccounts"]}
    policy = {
        "matchConstraints": here | {"resourceRules": [rule]},
        "validations": [{"expression": "oldObject.metadata.name != 'held'", "message": "it is held"}],
    }
    objects = [
        _admission("ValidatingAdmissionPolicy", name, policy),
        _admission("ValidatingAdmissionPolicyBinding", name, {"policyName": name, "validationActions": ["Deny"]}),
    ]
    cluster.kubectl("-n", name, "create", "serviceaccount", "held")
    cluster.kubectl("-n", name, "create", "serviceaccount", "free")
    cluster.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    try:
        attempt = ("-n", name, "delete", "serviceaccount", "held", "--dry-run=server")
        eventually(
            lambda: "denied request: it is held" in cluster.kubectl(*attempt, check=False),
            message="the policy has no effect",
        )
        assert "deleted" in cluster.kubectl("-n", name, "delete", "serviceaccount", "free")
    finally:
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            cluster.kubectl("delete", kind, name)


def test_priority_and_fairness_sorts_requests(cluster: Cluster, control_namespace: str) -> None:
    cluster.kubectl("-n", control_namespace, "create", "serviceaccount", "robot")
    token = cluster.kubectl("-n", control_namespace, "create", "token", "robot").strip()
    schemas = json.loads(cluster.kubectl("get", "flowschemas", "-o", "json"))["items"]
    uids = {schema["metadata"]["name"]: schema["metadata"]["uid"] for schema in schemas}
    answer = _get(cluster, "/api", token)
    assert answer.headers["X-Kubernetes-PF-FlowSchema-UID"] == uids["service-accounts"]


def test_controllers_are_unthrottled_and_otherwise_as_usual(cluster: Cluster) -> None:
    pid = _components(cluster.kubeconfig)["kube-controller-manager"]
    flags = dict(re.findall(r"--([a-z-]+)=([^\0]*)", Path(f"/proc/{pid}/cmdline").read_text()))
    assert flags["kube-api-qps"] == "5000"
    assert flags["kube-api-burst"] == "10000"
    # No controller is left out, made slower or made faster.
    assert {flag for flag in flags if flag == "controllers" or "concurrent" in flag or "sync" in flag} == set()


def test_a_namespace_is_emptied_by_the_namespace_controller(cluster: Cluster) -> None:
    name = f"envprov-t-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("-n", name, "create", "configmap", "left")
    cluster.kubectl("delete", "namespace", name, "--timeout=120s")
    (event,) = eventually(lambda: _audited(cluster, "deletecollection", "configmaps", name), message="not in the log")
    assert event["user"]["username"] == "system:serviceaccount:kube-system:namespace-controller"


# --- The fixture


def test_the_cluster_belongs_to_this_run(cluster: Cluster, pytestconfig: pytest.Config) -> None:
    run = getattr(pytestconfig, "workerinput", {}).get("envprov_run", os.getpid())
    assert cluster.kubeconfig.parent.name == f"test-{run}"
    assert (cluster.kubeconfig.parent / "owner").read_text() == f"{run}\n"


def test_tests_that_need_the_cluster_are_marked(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    assert cluster.binaries.is_dir()
    assert request.node.get_closest_marker("cluster")


def test_a_given_cluster_is_used_as_it_is(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    assert pytestconfig.rootpath == SCRIPTS.parent.parent
    (tmp_path / "kubeconfig").write_text(cluster.kubeconfig.read_text())
    monkeypatch.setenv("ENVPROV_TEST_KUBECONFIG", str(tmp_path / "kubeconfig"))
    result, name = _pytest_in_a_process(tmp_path, "def test_it(cluster):\n    assert cluster.kubectl('get', 'nodes')\n")
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout
    assert not kubeconfig_of(name).parent.exists()
    assert _out(str(BUILD)) == ""
    given = given_cluster()
    assert given
    assert given.audit_log is None


def test_a_given_cluster_that_is_not_there_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVPROV_TEST_KUBECONFIG", str(tmp_path / "nowhere"))
    result, _ = _pytest_in_a_process(tmp_path, "def test_it(cluster): ...\n")
    assert "1 error" in result.stdout
    assert "which is not there" in result.stdout


# --- Several clusters, and what is left of them


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment whose settings would make kwokctl write elsewhere, download, or use containers."""
    home = tmp_path_factory.mktemp("home")
    (home / ".kube").mkdir()
    (home / ".kube" / "config").write_text("mine\n")
    (home / ".kwok").mkdir()
    (home / ".kwok" / "kwok.yaml").write_text("mine\n")
    return {
        "HOME": str(home),
        "KUBECONFIG": str(home / ".kube" / "config"),
        "KWOK_WORKDIR": str(home / "kwok"),
        "KWOK_RUNTIME": "docker",
        "KWOK_KUBE_APISERVER_BINARY": "https://127.0.0.1:1/kube-apiserver",
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "ENVPROV_CACHE": os.environ.get("ENVPROV_CACHE") or str(Path.home() / ".cache" / "envprov"),
    }


@pytest.fixture(scope="module")
def second(hostile: dict[str, str]) -> Iterator[str]:
    """Yield the name of a cluster beside the run's own."""
    name = f"second-{secrets.token_hex(3)}"
    _cluster("up", name, "--owner", str(os.getpid()), env=hostile)
    yield name
    _cluster("down", name)


def test_clusters_live_side_by_side(cluster: Cluster, second: str) -> None:
    ours, theirs = _components(cluster.kubeconfig), _components(kubeconfig_of(second))
    assert sorted(theirs) == COMPONENTS
    ports = [port for pid in [*ours.values(), *theirs.values()] for _, port in _listening(pid)]
    assert len(ports) == len(set(ports))
    servers = {_server(path) for path in (cluster.kubeconfig, kubeconfig_of(second))}
    assert len(servers) == 2
    cluster.kubectl("--kubeconfig", str(kubeconfig_of(second)), "get", "--raw", "/readyz")


def test_up_again_says_that_it_runs_and_changes_nothing(second: str) -> None:
    before = _components(kubeconfig_of(second))
    again = _cluster("up", second)
    assert f"{second} is already running" in again.stderr
    assert again.stdout == f"export KUBECONFIG={kubeconfig_of(second)}\n"
    assert _components(kubeconfig_of(second)) == before


def test_a_persons_home_is_never_touched(second: str, hostile: dict[str, str]) -> None:
    _cluster("status", second, env=hostile)
    home = Path(hostile["HOME"])
    files = {str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()}
    assert files == {".kube/config": "mine\n", ".kwok/kwok.yaml": "mine\n"}


def test_status_names_everything(cluster: Cluster, second: str) -> None:
    said = _cluster("status").stdout
    version = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    for path in (cluster.kubeconfig, kubeconfig_of(second)):
        block = said[said.index(f"{path.parent.name}: ") :]
        assert block.startswith(f"{path.parent.name}: ready, Kubernetes {version}, owned by process ")
        assert f"kubeconfig {path}\n" in block
        for name, pid in _components(path).items():
            (line,) = [line for line in block.splitlines() if line.split()[:3] == [name, "pid", str(pid)]]
            assert {f"{address}:{port}" for address, port in _listening(pid)} == set(line.split()[3:])


def test_logs_show_each_component(second: str) -> None:
    said = _cluster("logs", second, "3").stdout
    assert set(COMPONENTS) < set(re.findall(r"^==> (\S+)$", said, re.MULTILINE))
    assert "audit" not in re.findall(r"^==> (\S+)$", said, re.MULTILINE)


def test_half_a_cluster_is_started_afresh(second: str) -> None:
    before = _components(kubeconfig_of(second))
    os.kill(before["kube-scheduler"], signal.SIGKILL)
    eventually(lambda: _cluster("status", second, check=False).returncode == 1, message="it still counts as ready")
    again = _cluster("up", second, "--owner", str(os.getpid()))
    assert f"{second} is there but not whole" in again.stderr
    assert "kube-scheduler does not run; the end of its log:" in again.stderr
    after = _components(kubeconfig_of(second))
    assert sorted(after) == COMPONENTS
    assert not set(before.values()) & set(after.values())
    assert not set(before.values()) & _processes(second)
    assert _cluster("status", second).returncode == 0


def test_nothing_survives_down() -> None:
    with subprocess.Popen(["sleep", "300"]) as owner:
        try:
            started = clusters.start(owner.pid)
            name = f"test-{owner.pid}"
            # Five components and the watchdog.
            assert len(_processes(name)) == 6
            clusters.end(owner.pid)
            assert _processes(name) == set()
            assert not started.kubeconfig.parent.exists()
        finally:
            owner.kill()


def test_nothing_survives_a_killed_test_run_whose_workers_share_one_cluster(tmp_path: Path) -> None:
    test = """
        import os, pathlib, signal
        def test_it(cluster, worker_id):
            path = pathlib.Path(__file__).parent / worker_id
            path.with_suffix(".new").write_text(f"{os.getpid()} {cluster.kubeconfig}")
            path.with_suffix(".new").rename(path)
            signal.pause()
        def test_other(cluster, worker_id):
            test_it(cluster, worker_id)
    """
    command, env = _pytest_command(tmp_path, test.replace("\n        ", "\n"), "-n", "2")
    with subprocess.Popen(command, env=env, cwd=SCRIPTS.parent.parent, stdout=subprocess.DEVNULL) as run:
        name = f"test-{run.pid}"
        workers: list[Path] = []
        try:
            workers = eventually(
                lambda: found if len(found := sorted(tmp_path.glob("gw?"))) == 2 else None,
                within=90,
                message="the workers have no cluster",
            )
            assert {path.read_text().split()[1] for path in workers} == {str(kubeconfig_of(name))}
            # Five components and one watchdog, though two workers asked.
            assert len(_processes(name)) == 6
            run.kill()
            # Nobody has waited for the run yet: it is a zombie, and counts as ended.
            eventually(lambda: not _processes(name), message="something outlives the run")
            eventually(lambda: not kubeconfig_of(name).parent.exists(), message="its state outlives the run")
        finally:
            run.kill()
            for path in workers:
                _kill(int(path.read_text().split()[0]))
            _cluster("down", name)


@pytest.mark.parametrize(
    "components",
    [
        pytest.param(0, id="when the first process is there"),
        pytest.param(5, id="when every component is there"),
    ],
)
def test_nothing_survives_an_interrupted_up(components: int) -> None:
    name = f"interrupted-{secrets.token_hex(3)}"
    # pytest may itself have been started with the signal ignored, which its children inherit.
    command = ["env", "--default-signal=INT", str(CLUSTER), "up", name, "--owner", str(os.getpid())]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as up:
        eventually(
            lambda: _processes(name) and len(_components(kubeconfig_of(name))) >= components,
            every=0.01,
            message="up does not start anything",
        )
        os.killpg(up.pid, signal.SIGINT)
        out, err = up.communicate(timeout=30)
    assert up.returncode == 130
    assert "interrupted" in err
    assert out == ""
    assert _processes(name) == set()
    assert not kubeconfig_of(name).parent.exists()


@pytest.mark.parametrize("component", ["etcd", "kube-apiserver", "kube-scheduler"])
def test_the_component_that_fails_is_named_with_its_last_words(
    cluster: Cluster, tmp_path: Path, component: str
) -> None:
    name = f"broken-{secrets.token_hex(3)}"
    version = f'[ "$1" = --version ] && exec {cluster.binaries}/{component} --version'
    script = f"#!/bin/sh\n{version}\necho no more disk >&2\nexit 1\n"
    folder = _folder_of_programs(cluster, tmp_path)
    (folder / component).unlink()
    (folder / component).write_text(script)
    (folder / component).chmod(0o755)
    try:
        failed = _cluster("up", name, env={"KUBEBUILDER_ASSETS": str(folder)}, check=False)
        assert failed.returncode == 1
        assert f"{component} does not run; the end of its log:\n    no more disk\n" in failed.stderr
        assert failed.stdout == ""
        assert _processes(name) == set()
        assert "no more disk" in _cluster("logs", name).stdout
    finally:
        _cluster("down", name)


@pytest.mark.usefixtures("cluster")
def test_down_finds_what_a_killed_up_left() -> None:
    name = f"orphan-{secrets.token_hex(3)}"
    with subprocess.Popen([CLUSTER, "up", name], stdout=subprocess.DEVNULL) as up:
        eventually(lambda: _processes(name), every=0.01, message="up does not start anything")
        up.kill()
    _cluster("down", name)
    assert _processes(name) == set()


def test_folders_of_programs_are_used_or_their_gaps_named(cluster: Cluster, tmp_path: Path) -> None:
    folder = _folder_of_programs(cluster, tmp_path)
    assert _out(str(BUILD), env={"KUBEBUILDER_ASSETS": str(folder)}) == str(folder)
    (folder / "kwok").unlink()
    (folder / "helm").unlink()
    name = f"missing-{secrets.token_hex(3)}"
    failed = _cluster("up", name, env={"KUBEBUILDER_ASSETS": str(folder)}, check=False)
    assert failed.returncode == 2
    assert f"KUBEBUILDER_ASSETS names {folder}, which lacks: kwok helm." in failed.stderr
    assert not kubeconfig_of(name).parent.exists()


def test_only_programs_of_the_folder_are_started(cluster: Cluster) -> None:
    for name, pid in _components(cluster.kubeconfig).items():
        program = "kwok" if name == "kwok-controller" else name
        assert Path(f"/proc/{pid}/exe").samefile(cluster.binaries / program)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["up", "Dev"], "'Dev' is not a cluster name", id="capital"),
        pytest.param(["up", "../dev"], "'../dev' is not a cluster name", id="path"),
        pytest.param(["down", "-dev"], "unknown option -dev", id="hyphen first"),
        pytest.param(["up", "dev-"], "'dev-' is not a cluster name", id="hyphen last"),
        pytest.param(["up", "a" * 41], "is not a cluster name: at most 40", id="41 characters"),
        pytest.param(["up", "dev", "--owner"], "--owner needs the id of a process", id="owner left out"),
        pytest.param(["up", "dev", "--owner", "me"], "--owner needs the id of a process", id="owner not a number"),
        pytest.param(["up", "dev", "--owner", "4194305"], "which is to own dev, does not run", id="owner not there"),
        pytest.param(["down", "dev", "--owner", "1"], "--owner belongs to 'up'", id="owner for down"),
        pytest.param(["restart"], "unknown command 'restart'", id="unknown command"),
    ],
)
def test_wrong_usage_is_refused_with_the_reason(arguments: list[str], said: str) -> None:
    refused = _cluster(*arguments, check=False)
    assert refused.returncode == 2
    assert said in refused.stderr


# --- Looking at processes, from outside


def _processes(name: str) -> set[int]:
    """Return every process with the cluster's folder in its arguments or environment, found without the script."""
    folder = re.compile(rb"/devcluster/clusters/%s[/\0]" % name.encode())
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if folder.search((path / "cmdline").read_bytes() + b"\0" + (path / "environ").read_bytes()):
                found.add(int(path.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def _components(kubeconfig: Path) -> dict[str, int]:
    """Return the pids of the running components by name."""
    folder = kubeconfig.parent
    running = _processes(folder.name)
    noted = {path.stem: path.read_text() for path in sorted((folder / "pids").glob("*.pid"))}
    return {name: int(pid) for name, pid in noted.items() if pid and int(pid) in running}


def _listening(pid: int) -> set[tuple[str, int]]:
    """Return address and port of every TCP socket that the process listens on, from the kernel's tables."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                known = {"0100007F": "127.0.0.1", "00000000000000000000000001000000": "::1"}
                found.add((known.get(address, address), int(port, 16)))
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


# --- Asking


def _audited(cluster: Cluster, verb: str, resource: str, namespace: str) -> list[dict[str, Any]]:
    return [
        event
        for event in cluster.audit(namespace)
        if event["verb"] == verb and event.get("objectRef", {}).get("resource") == resource
        if event["objectRef"].get("namespace") == namespace
    ]


def _server(kubeconfig: Path) -> str:
    server: str = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    return server


def _get(cluster: Cluster, path: str, token: str) -> httpx.Response:
    """Ask as the bearer of *token*, with nothing of the administrator's credentials."""
    authority = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["certificate-authority"]
    trusted = ssl.create_default_context(cafile=authority)
    return httpx.get(
        _server(cluster.kubeconfig) + path,
        headers={"Authorization": f"Bearer {token}"},
        verify=trusted,
        trust_env=False,
    )


def _admission(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def _folder_of_programs(cluster: Cluster, where: Path) -> Path:
    folder = where / "programs"
    folder.mkdir()
    for program in PROGRAMS:
        (folder / program).symlink_to((cluster.binaries / program).resolve())
    return folder


# --- Running


def _cluster(
    *arguments: str, env: dict[str, str] | None = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [CLUSTER, *arguments], env=os.environ | (env or {}), capture_output=True, text=True, check=False
    )
    assert not check or result.returncode == 0, result.stderr
    return result


def _out(*command: str, env: dict[str, str] | None = None) -> str:
    result = subprocess.run(command, env=os.environ | (env or {}), check=True, capture_output=True, text=True)
    return result.stdout.strip()


def _pytest_command(where: Path, test: str, *options: str) -> tuple[list[str], dict[str, str]]:
    """Return the command of a test run of its own, with our fixtures and one file of tests."""
    (where / "test_it.py").write_text(test)
    (where / "pytest.ini").write_text("[pytest]\nmarkers =\n    cluster: needs it\n")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    return [*command, "-c", str(where / "pytest.ini"), *options, str(where / "test_it.py")], env


def _pytest_in_a_process(where: Path, test: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run *test*; also return the name that a cluster of this run has."""
    command, env = _pytest_command(where, test)
    with subprocess.Popen(
        command, env=env, cwd=SCRIPTS.parent.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        out, _ = run.communicate(timeout=120)
    return subprocess.CompletedProcess(command, run.returncode, out, ""), f"test-{run.pid}"
