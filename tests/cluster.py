"""The cluster that a test run uses: started by whoever needs it first, shared by all workers, ended with the run."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import asking

SCRIPTS = Path(__file__).parent.parent / "k8s" / "devcluster"
BUILD = SCRIPTS / "build"
CLUSTER = SCRIPTS / "cluster"


@dataclass(frozen=True)
class Cluster:
    """
    A running control plane with an administrator's kubeconfig.

    Attributes:
        kubeconfig: Credentials of ``system:masters``.
        binaries: Folder with at least ``kubectl`` and ``helm``.
        audit_log: One JSON object per answered request; None for a cluster that was not started by us.
    """

    kubeconfig: Path
    binaries: Path
    audit_log: Path | None

    def kubectl(self, *args: str, input: str | None = None, check: bool = True) -> str:  # noqa: A002 - as in subprocess
        """
        Ask kubectl as the administrator; what is simple is answered without starting it.

        Returns:
            Its output; with ``check=False`` followed by what it said on stderr.

        Raises:
            AssertionError: It failed and *check* is set; with its words.
        """
        if (answer := asking.answer(self.kubeconfig, args, input)) is not None:
            return answer
        result = subprocess.run(
            [self.binaries / "kubectl", "--kubeconfig", self.kubeconfig, *args],
            input=input,
            capture_output=True,
            text=True,
            check=False,
            # A person's preferences and discovery cache stay out of it.
            env=os.environ | {"KUBERC": "off", "KUBECACHEDIR": str(self.kubeconfig.parent / "cache")},
        )
        if not check:
            return result.stdout + result.stderr
        if result.returncode:
            raise AssertionError(f"kubectl {' '.join(args)}: exit {result.returncode}: {result.stderr.strip()}")
        return result.stdout

    def audit_lines(self, *words: str) -> list[str]:
        """
        Entries of the audit log that contain all of some words, the oldest first.

        A request is in it a moment after its answer; an entry that is only half written is left out.
        """
        assert self.audit_log is not None, "this cluster has no audit log that a test can read"
        wanted = [word.encode() for word in words]
        with self.audit_log.open("rb") as log:
            return [line.decode() for line in log if line.endswith(b"\n") and all(word in line for word in wanted)]

    def audit(self, *words: str) -> list[dict[str, Any]]:
        """Entries of the audit log that contain all of some words, read."""
        return [json.loads(line) for line in self.audit_lines(*words)]

    def discard(self, namespace: str) -> None:
        """Delete a namespace, guarded or not, without waiting until it is gone."""
        self.unguard(namespace)
        self.kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")

    def unguard(self, namespace: str) -> None:
        """Take all guard metadata off a namespace and its ServiceAccounts, as an administrator may: it may go then."""
        namespaced = json.loads(self.kubectl("get", "sa", "-n", namespace, "-o", "json"))["items"]
        found = self.kubectl("get", f"ns/{namespace}", "-o", "json", "--ignore-not-found")
        for item in ([json.loads(found)] if found else []) + namespaced:
            metadata = item["metadata"]
            ours = {
                part: dict.fromkeys(name for name in metadata.get(part, {}) if "envprov.io/" in name)
                for part in ("annotations", "labels")
            }
            if any(ours.values()):
                where = ("-n", namespace) if "namespace" in metadata else ()
                body = json.dumps({"metadata": ours})
                self.kubectl("patch", item["kind"], metadata["name"], *where, "--type=merge", "-p", body, check=False)


def given_cluster() -> Cluster | None:
    """
    Return the cluster that ``ENVPROV_TEST_KUBECONFIG`` names, as it is: nothing is started or built.

    Raises:
        RuntimeError: The file is not there, or there is no kubectl to talk to it.
    """
    if not (named := os.environ.get("ENVPROV_TEST_KUBECONFIG")):
        return None
    kubeconfig = Path(named).absolute()
    if not kubeconfig.is_file():
        raise RuntimeError(f"ENVPROV_TEST_KUBECONFIG names {kubeconfig}, which is not there")
    cache = Path(os.environ.get("ENVPROV_CACHE") or Path.home() / ".cache" / "envprov")
    on_path = shutil.which("kubectl")
    folders = [
        Path(os.environ["KUBEBUILDER_ASSETS"]) if os.environ.get("KUBEBUILDER_ASSETS") else None,
        cache / "devcluster" / "bin",
        Path(on_path).parent if on_path else None,
    ]
    for folder in folders:
        if folder and (folder / "kubectl").exists():
            return Cluster(kubeconfig, folder.absolute(), None)
    raise RuntimeError("ENVPROV_TEST_KUBECONFIG is set, but no kubectl is in KUBEBUILDER_ASSETS, the cache or the PATH")


def build() -> None:
    """Build what is missing, with its progress on stderr; a failure is left to `start`, which meets it again."""
    subprocess.run([BUILD], check=False, stdout=subprocess.DEVNULL, stderr=sys.stderr)


def start(owner: int) -> Cluster:
    """
    Start the cluster of the test run *owner*, or find it running; build its programs before, if need be.

    Args:
        owner: Process that the cluster ends with, however that process ends.

    Raises:
        RuntimeError: It did not come up; with the last lines of what was said.
    """
    name = name_of_run(owner)
    _run_showing(str(CLUSTER), "up", name, "--owner", str(owner))
    kubeconfig = kubeconfig_of(name)
    binaries = Path(_output(str(BUILD)))
    return Cluster(kubeconfig, binaries, kubeconfig.parent / "logs" / "audit.log")


def start_own(owner: int) -> Cluster:
    """
    Start a further cluster, for a test that would disturb the others; end it with `end_own`.

    Args:
        owner: Process that the cluster ends with, however that process ends.

    Raises:
        RuntimeError: It did not come up; with the last lines of what was said.
    """
    name = f"own-{owner}-{secrets.token_hex(3)}"
    _run_showing(str(CLUSTER), "up", name, "--owner", str(owner))
    kubeconfig = kubeconfig_of(name)
    return Cluster(kubeconfig, Path(_output(str(BUILD))), kubeconfig.parent / "logs" / "audit.log")


def end_own(cluster: Cluster) -> None:
    """End a cluster of one's own."""
    subprocess.run([CLUSTER, "down", cluster.kubeconfig.parent.name], check=True, capture_output=True)


def end(owner: int) -> None:
    """End the cluster of the test run *owner*, if it was started."""
    name = name_of_run(owner)
    if kubeconfig_of(name).parent.exists():
        subprocess.run([CLUSTER, "down", name], check=True, capture_output=True)


def name_of_run(owner: int) -> str:
    """Name of the cluster that belongs to the test run *owner*; two runs side by side have two."""
    return f"test-{owner}"


def kubeconfig_of(name: str) -> Path:
    """Path of the kubeconfig of the development cluster *name*, running or not."""
    return Path(_output(str(CLUSTER), "kubeconfig", name))


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _run_showing(*command: str) -> None:
    last: deque[str] = deque(maxlen=80)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            last.append(line)
            sys.stderr.write(line)
            sys.stderr.flush()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}\n{''.join(last)}")
