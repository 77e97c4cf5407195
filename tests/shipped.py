"""
envprov as it is shipped: installed into a control namespace, its processes running as their own ServiceAccounts.

The development cluster has no real nodes, so the processes run beside it, with the tokens that their pods would get.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml
from typer.testing import CliRunner, Result

from envprov.cli.main import build
from tests.cluster import Cluster
from tests.eventually import eventually

ROOT = Path(__file__).parent.parent
TOKEN = "webhook-token-of-the-tests"
CONTROLLER = "envprov"
RECEIVER = "envprov-receiver"


@dataclass
class Process:
    """One of envprov's own processes, with everything that it wrote."""

    popen: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=_collect, args=(self,), daemon=True)
        self.reader.start()

    @property
    def port(self) -> int:
        """Port that it listens on, once it does."""
        return eventually(self._port, message="the process does not listen")

    def ready(self) -> Process:
        """Wait until it says that it is ready; returns itself."""
        port = self.port
        eventually(
            lambda: httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200,
            message="the process is not ready",
        )
        return self

    def output(self) -> str:
        """Everything that it wrote so far."""
        return "".join(self.lines)

    def entries(self) -> list[dict[str, Any]]:
        """Its log entries."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.popen.kill()
        self.popen.wait()
        self.reader.join()

    def stop(self) -> int:
        """End it as Kubernetes would; returns its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        code = self.popen.wait(timeout=90)
        self.reader.join()
        return code

    def _port(self) -> int | None:
        if self.popen.poll() is not None:
            raise AssertionError(f"the process ended with {self.popen.returncode}:\n{self.output()}")
        for entry in self.entries():
            if entry.get("event") == "listening":
                return int(entry["port"])
        return None


@dataclass
class Installation:
    """
    envprov in one control namespace.

    Attributes:
        cluster: Where it is installed.
        namespace: The control namespace.
        folder: For its kubeconfigs and settings.

    """

    cluster: Cluster
    namespace: str
    folder: Path
    processes: list[Process] = field(default_factory=list)
    gitlab: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False), repr=False)

    def start(self, command: str, *args: str, account: str, env: Mapping[str, str] | None = None) -> Process:
        """
        Start ``envprov COMMAND`` as a ServiceAccount.

        Args:
            command: Sub-command.
            args: Further arguments.
            account: ServiceAccount in the control namespace.
            env: Further variables.

        """
        kubeconfig = self.kubeconfig(account)
        popen = subprocess.Popen(
            [str(Path(sys.executable).parent / "envprov"), command, "--kubeconfig", str(kubeconfig), *args],
            env=self.environment() | dict(env or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        process = Process(popen)
        self.processes.append(process)
        return process

    def start_controller(self, *args: str, env: Mapping[str, str] | None = None) -> Process:
        """Start the controller as its own ServiceAccount."""
        return self.start("controller", *args, account=CONTROLLER, env=env)

    def start_receiver(self, *args: str, env: Mapping[str, str] | None = None) -> Process:
        """Start the receiver as its own ServiceAccount."""
        return self.start("serve", *args, account=RECEIVER, env=env)

    def environment(self) -> dict[str, str]:
        """Variables of every process; a person's own are not among them."""
        return {
            "PATH": f"{self.cluster.binaries}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "ENVPROV_SETTINGS": str(self.settings()),
        }

    def settings(self, **changes: Any) -> Path:  # noqa: ANN401 - any setting
        """
        Write the settings file.

        Args:
            changes: Sections that replace those of the tests.

        """
        token = self.folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        path = self.folder / "settings.yaml"
        if path.exists() and not changes:
            return path
        given = {
            "platform": {"control_namespace": self.namespace},
            "webhook": {"port": 0, "token_files": [str(token)]},
            "controller": {"port": 0},
            "guard": {"interval": "PT10S", "release_grace": "PT6S", "fence_settle": "PT1S"},
            "helm": {"chart_root": str(ROOT), "binary": str(self.cluster.binaries / "helm")},
        }
        path.write_text(yaml.safe_dump(given | changes))
        return path

    def kubeconfig(self, account: str) -> Path:
        """A kubeconfig with a token of one ServiceAccount, as its pod would have one."""
        path = self.folder / f"{account}.kubeconfig"
        if not path.exists():
            admin = yaml.safe_load(self.cluster.kubeconfig.read_text())
            token = self.cluster.kubectl("create", "token", account, "-n", self.namespace, "--duration=2h").strip()
            (entry,) = admin["clusters"][:1]
            path.touch(mode=0o600)
            path.write_text(yaml.safe_dump(_as_token(entry, token, self.cluster.kubeconfig.parent)))
        return path

    def envprov(self, *args: str) -> Result:
        """Call envprov as the administrator, in this process: Python takes a second to start."""
        command = [*args, "--kubeconfig", str(self.cluster.kubeconfig)]
        return CliRunner().invoke(build(), command, env=self.environment())

    def helm(self, *args: str) -> str:
        """Run Helm as the administrator; returns its output."""
        command = [str(self.cluster.binaries / "helm"), "--kubeconfig", str(self.cluster.kubeconfig), *args]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=self.environment()).stdout

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Apply manifests as the administrator."""
        self.cluster.kubectl("apply", "--server-side", "-f", "-", input=yaml.safe_dump_all(manifests))

    def project(self, name: str, **spec: Any) -> None:  # noqa: ANN401 - any field of a Project
        """Write a Project with the tests' smallest chart."""
        given = {"chart": {"local": {"path": "tests/charts/app"}}, "gitlab": {"project": f"group/{name}"}} | spec
        self.apply(
            {
                "apiVersion": "envprov.io/v1alpha1",
                "kind": "Project",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": given,
            }
        )

    def environments(self) -> list[dict[str, Any]]:
        """All Environments."""
        found: list[dict[str, Any]] = json.loads(
            self.cluster.kubectl("get", "env", "-n", self.namespace, "-o", "json")
        )["items"]
        return found

    def environment_of(self, branch: str) -> dict[str, Any] | None:
        """The Environment of a branch, if there is one."""
        return next((item for item in self.environments() if item["spec"]["branch"] == branch), None)

    def is_ready(self, branch: str) -> bool:
        """Whether a branch's environment is Ready."""
        return is_ready(self.environment_of(branch))

    def deliver(self, receiver: Process, payload: Mapping[str, Any]) -> httpx.Response:
        """Deliver a payload as GitLab would."""
        return self.gitlab.post(
            f"http://127.0.0.1:{receiver.port}/webhooks/gitlab",
            json=payload,
            headers={"X-Gitlab-Token": TOKEN, "X-Gitlab-Event": "Push Hook"},
            timeout=60,
        )

    def namespaces(self) -> set[str]:
        """Names of all namespaces that say they belong to an Environment of this installation."""
        found = json.loads(self.cluster.kubectl("get", "ns", "-l", "envprov.io/guard=env", "-o", "json"))["items"]
        owner = f"{self.namespace}/"
        return {
            item["metadata"]["name"]
            for item in found
            if item["metadata"].get("annotations", {}).get("envprov.io/owner", "").startswith(owner)
        }


def condition(environment: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A condition of an Environment; Unknown while nothing was reported."""
    found = environment.get("status", {}).get("conditions", [])
    return next((item for item in found if item["type"] == kind), {"status": "Unknown", "reason": "", "message": ""})


def is_ready(environment: Mapping[str, Any] | None, revision: str | None = None) -> bool:
    """Whether an Environment is Ready, for one revision if given."""
    if environment is None or condition(environment, "Ready")["status"] != "True":
        return False
    return revision in {None, environment["status"].get("observedRevision")}


@contextmanager
def installed(cluster: Cluster, namespace: str, folder: Path) -> Iterator[Installation]:
    """
    Install envprov into a control namespace that exists, and end its processes afterwards.

    Args:
        cluster: Where.
        namespace: The control namespace, so that installations stand side by side.
        folder: For its files.

    """
    install(cluster, namespace)
    installation = Installation(cluster, namespace, folder)
    try:
        yield installation
    finally:
        for process in installation.processes:
            process.kill()
        installation.gitlab.close()
        _clear_up(installation)


def install(cluster: Cluster, namespace: str) -> None:
    """Apply what ``k8s/`` has besides pods, for one control namespace."""
    wanted = {
        "CustomResourceDefinition",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "ServiceAccount",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    manifests = [manifest for manifest in manifests_for(cluster, namespace) if manifest["kind"] in wanted]
    shared = [manifest for manifest in manifests if "namespace" not in manifest["metadata"]]
    own = [manifest for manifest in manifests if "namespace" in manifest["metadata"]]
    for group in (shared, own):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=yaml.safe_dump_all(group))
    for crd in ("environments.envprov.io", "projects.envprov.io"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=120s")


def manifests_for(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """What ``k8s/`` has, for one control namespace."""
    return [_moved(manifest, namespace) for manifest in json.loads(_rendered(cluster))]


@cache
def _rendered(cluster: Cluster) -> str:
    """Render once what ``k8s/`` has; as text, for whoever reads it changes it."""
    return json.dumps(list(yaml.safe_load_all(cluster.kubectl("kustomize", str(ROOT / "k8s")))))


def _moved(manifest: dict[str, Any], namespace: str) -> dict[str, Any]:
    if "namespace" in manifest["metadata"]:
        manifest["metadata"]["namespace"] = namespace
    for subject in manifest.get("subjects", ()):
        if "namespace" in subject:
            subject["namespace"] = namespace
    if manifest["kind"] == "ClusterRoleBinding":
        manifest["metadata"]["name"] += f"-{namespace}"
    return manifest


def _as_token(entry: dict[str, Any], token: str, folder: Path) -> dict[str, Any]:
    cluster = dict(entry["cluster"])
    authority = cluster.get("certificate-authority")
    if authority and not Path(authority).is_absolute():
        cluster["certificate-authority"] = str(folder / authority)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "dev", "cluster": cluster}],
        "users": [{"name": "account", "user": {"token": token}}],
        "contexts": [{"name": "dev", "context": {"cluster": "dev", "user": "account"}}],
        "current-context": "dev",
    }


def _collect(process: Process) -> None:
    assert process.popen.stderr is not None
    with process.popen.stderr as stream:
        process.lines.extend(stream)


def _clear_up(installation: Installation) -> None:
    """Leave nothing behind that a test beside this one could stumble over."""
    cluster, namespace = installation.cluster, installation.namespace
    cluster.unguard(namespace)
    names = [item["metadata"]["name"] for item in installation.environments()]
    if names:
        body = '{"metadata":{"finalizers":null}}'
        cluster.kubectl("patch", "env", *names, "-n", namespace, "--type=merge", "-p", body, check=False)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(cluster.discard, installation.namespaces()))
    cluster.kubectl(
        "delete",
        "clusterrolebinding",
        f"envprov-controller-{namespace}",
        f"envprov-guard-{namespace}",
        f"envprov-cleanup-{namespace}",
        "--ignore-not-found",
    )
