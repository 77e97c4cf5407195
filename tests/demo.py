"""
``make demo``: a branch comes and goes, on a real control plane.

Everything that happens is printed with the seconds since the branch was pushed. With ``KEEP=1`` the cluster
and the processes stay, and the last lines say how to use them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import cluster as clusters
from tests.cluster import Cluster
from tests.payloads import push_created, push_deleted
from tests.shipped import ROOT, TOKEN, Installation, Process, condition

NAME = "demo"
NAMESPACE = "envprov-system"
BRANCH = "feature/login"
COMMIT = "5f2c8a1d9e3b7046c1f0a5d8e2b4976031c8d7fa"
PATIENCE = 120.0


def main() -> int:
    """Run the demo; returns the exit code."""
    keep = bool(os.environ.get("KEEP"))
    say("1. A real control plane on this computer (etcd, kube-apiserver, controller-manager, scheduler)")
    cluster = start_cluster(None if keep else os.getpid())
    try:
        installation, receiver, _ = install(cluster)
        come(installation, receiver)
        if keep:
            how_to_use(installation, receiver)
            return 0
        go(installation, receiver)
    finally:
        if not keep:
            say("\n7. Stops what it started")
            for process in locals().get("installation", _NOTHING).processes:
                process.stop()
            subprocess.run([clusters.CLUSTER, "down", NAME], check=True)
    say('Done. The same by hand: README.md, section "Install".')
    return 0


class _Nothing:
    processes: tuple[Process, ...] = ()


_NOTHING = _Nothing()


def start_cluster(owner: int | None) -> Cluster:
    """The demo's own cluster; it ends with *owner*, if one is given."""
    tied = ["--owner", str(owner)] if owner else []
    subprocess.run([clusters.CLUSTER, "up", NAME, *tied], check=True, stdout=sys.stderr)
    kubeconfig = clusters.kubeconfig_of(NAME)
    binaries = Path(subprocess.run([clusters.BUILD], check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    return Cluster(kubeconfig, binaries, kubeconfig.parent / "logs" / "audit.log")


def install(cluster: Cluster) -> tuple[Installation, Process, Process]:
    """Install envprov into the cluster, and start its two processes beside it, for the cluster's nodes are not real."""
    say("\n2. Installs envprov: kubectl apply -k k8s/")
    show(cluster.kubectl("apply", "--server-side", "-k", str(ROOT / "k8s")))
    for crd in ("environments.envprov.io", "projects.envprov.io"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd}", "--timeout=30s")
    folder = cluster.kubeconfig.parent / "envprov"
    folder.mkdir(exist_ok=True)
    installation = Installation(cluster, NAMESPACE, folder)
    say("   The node is simulated, so receiver and controller run beside the cluster, as their own ServiceAccounts.")
    controller = installation.start_controller().ready()
    receiver = installation.start_receiver().ready()
    say(
        f"   receiver  http://127.0.0.1:{receiver.port}/webhooks/gitlab\n   controller http://127.0.0.1:{controller.port}/metrics"
    )
    image = {"repository": "registry.example.com/shop", "tag": "{revision}"}
    installation.project(
        "shop",
        gitlab={"project": "group/shop"},
        chart={"local": {"path": "helm/environment"}},
        host="{slug}.dev.example.com",
        values={"components": {"web": {"image": image, "port": 8080, "paths": ["/"]}}},
        sizes={"default": "S", "allowed": ["S", "M"]},
        access=[{"group": "gitlab:group/shop", "role": "edit"}],
        rules=[
            {"branches": ["main", "release/*"], "action": "ignore"},
            {"branches": ["*"], "lifetime": {"kind": "expire-after", "idle": "P7D", "warn": "P1D"}},
        ],
    )
    show(cluster.kubectl("get", "eproj", "-n", NAMESPACE))
    return installation, receiver, controller


def come(installation: Installation, receiver: Process) -> None:
    """The branch is pushed, and its environment comes up."""
    say(f"\n3. GitLab delivers: branch {BRANCH} was created")
    began = time.monotonic()
    payload = push_created(BRANCH, COMMIT, project_id=42, path="group/shop")
    answer = installation.deliver(receiver, payload)
    say(f"   {answer.status_code} {answer.text.strip()}")
    say("\n4. The environment comes up")
    follow(installation, began, lambda item: item is not None and condition(item, "Ready")["status"] == "True")
    item = installation.environment_of(BRANCH) or {}
    namespace = item["status"]["namespace"]
    say("\n5. What was made")
    show(installation.cluster.kubectl("get", "env", "-n", NAMESPACE))
    kinds = "resourcequota,limitrange,networkpolicy,rolebinding,serviceaccount,deployment,service,ingress,pod"
    show(installation.cluster.kubectl("get", kinds, "-n", namespace))
    helm = [str(installation.cluster.binaries / "helm"), "--kubeconfig", str(installation.cluster.kubeconfig)]
    show(subprocess.run([*helm, "list", "-n", namespace], check=True, stdout=subprocess.PIPE, text=True).stdout)


def go(installation: Installation, receiver: Process) -> None:
    """The branch is deleted, and its environment goes."""
    say(f"\n6. GitLab delivers: branch {BRANCH} was deleted")
    began = time.monotonic()
    answer = installation.deliver(receiver, push_deleted(BRANCH, COMMIT, project_id=42, path="group/shop"))
    say(f"   {answer.status_code} {answer.text.strip()}")
    follow(installation, began, lambda item: item is None)
    left = installation.namespaces()
    say(f"   namespaces left: {', '.join(sorted(left)) or 'none'}")


def follow(installation: Installation, began: float, until: Callable[[dict[str, Any] | None], bool]) -> None:
    """Print each change of the conditions and of the teardown, from a watch, until a fact holds."""
    shown: set[tuple[str, ...]] = set()
    arguments = ["get", "env", "-n", NAMESPACE, "--watch", "--output-watch-events", "-o", "json"]
    watch = subprocess.Popen(
        [
            str(installation.cluster.binaries / "kubectl"),
            "--kubeconfig",
            str(installation.cluster.kubeconfig),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watch.stdout is not None
    decoder, buffer = json.JSONDecoder(), ""
    try:
        while line := watch.stdout.readline():
            buffer += line
            try:
                event, end = decoder.raw_decode(buffer)
            except json.JSONDecodeError:
                continue
            buffer = buffer[end:].lstrip()
            item = None if event["type"] == "DELETED" else event["object"]
            for entry in _story(item):
                if entry not in shown:
                    shown.add(entry)
                    at = f"{time.monotonic() - began:6.2f} s"
                    say(f"   {at}  {entry[0]:<15} {entry[1]:<8} {' '.join(entry[2:])}".rstrip())
            if until(item):
                return
            if time.monotonic() - began > PATIENCE:
                raise SystemExit(f"envprov: nothing came of it in {PATIENCE:.0f} s")
    finally:
        watch.terminate()
        watch.wait()


def _story(item: dict[str, Any] | None) -> list[tuple[str, ...]]:
    if item is None:
        return [("Environment", "gone")]
    status = item.get("status", {})
    teardown = status.get("teardown")
    if teardown:
        return [("Teardown", "step", str(teardown["step"]), *map(str, teardown.get("waitingFor", [])))]
    parts = ("type", "status", "reason", "message")
    return [tuple(str(entry[part]) for part in parts) for entry in status.get("conditions", [])]


def how_to_use(installation: Installation, receiver: Process) -> None:
    """What to do with a demo that was kept."""
    say("\nIt keeps running. Use it:")
    say(f"   export KUBECONFIG={installation.cluster.kubeconfig}")
    say("   .venv/bin/envprov list; .venv/bin/envprov status feature/login --project shop")
    say(
        f"   curl -H 'X-Gitlab-Event: Push Hook' -H 'X-Gitlab-Token: {TOKEN}' -d @payload.json "
        f"http://127.0.0.1:{receiver.port}/webhooks/gitlab"
    )
    pids = " ".join(str(process.popen.pid) for process in installation.processes)
    say(f"Stop it: kill {pids}; make cluster-down NAME={NAME}")


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)  # noqa: T201 - a command's output


def show(output: str) -> None:
    """Print what a program said, indented."""
    for line in output.rstrip().splitlines():
        say(f"   {line}")


if __name__ == "__main__":
    sys.exit(main())
