"""A Helm that was killed leaves a release stuck; the next pass gets it out, whatever state it is in."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import Process

Commits = Callable[[int], str]
BRANCH = "feature/stuck"


def hook(event: str, *, hangs: bool) -> dict[str, Any]:
    """A hook Job; one that hangs has a pod that no node takes."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"hook-{event.replace(',', '-')}",
            "annotations": {"helm.sh/hook": event, "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"},
        },
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "nodeSelector": {"there-is": "no-such-node"} if hangs else {},
                    "containers": [{"name": "main", "image": "registry.example.com/hook:1"}],
                }
            }
        },
    }


def helm_of(namespace: str, verb: str) -> int | None:
    """PID of the Helm that works on a namespace."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if verb.encode() in arguments and namespace.encode() in arguments:
            return int(path.parent.name)
    return None


def status_of(shop: Shop, namespace: str) -> str:
    found = json.loads(
        shop.installation.cluster.kubectl("get", "secret", "-n", namespace, "-l", "owner=helm", "-o", "json")
    )["items"]
    newest = max(found, key=lambda item: int(item["metadata"]["labels"]["version"]), default=None)
    return newest["metadata"]["labels"]["status"] if newest else "absent"


def kill_helm(shop: Shop, namespace: str, verb: str, status: str) -> None:
    """Kill Helm once the release is in a state, before it leaves it."""
    eventually(lambda: status_of(shop, namespace) == status, every=0.02, message=f"the release never was {status}")
    pid = eventually(lambda: helm_of(namespace, verb), every=0.02, message=f"no helm {verb} is at work")
    os.kill(pid, signal.SIGKILL)


def namespace_of(shop: Shop) -> str:
    record = eventually(lambda: shop.record(BRANCH), message="there is no record")
    return f"env-{record['metadata']['name']}"


def message_of(shop: Shop, namespace: str) -> str:
    return shop.installation.cluster.kubectl(
        "get", "deploy", "web", "-n", namespace, "-o", "jsonpath={.metadata.annotations.message}"
    )


def test_install_that_was_killed(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(values={"extra": [hook("pre-install", hangs=True)]})
    assert shop.create(BRANCH, commits(1)) == 202
    kill_helm(shop, namespace_of(shop), "upgrade", "pending-install")
    shop.installation.project(shop.name, values={"extra": []})
    shop.ready(BRANCH, commits(1))


def test_upgrade_that_was_killed(shop: Shop, commits: Commits) -> None:
    shop.up(BRANCH, commits(1))
    shop.installation.project(shop.name, values={"extra": [hook("pre-upgrade", hangs=True)]})
    kill_helm(shop, namespace_of(shop), "upgrade", "pending-upgrade")
    shop.installation.project(shop.name, values={"extra": [], "message": "after the accident"})
    eventually(lambda: status_of(shop, namespace_of(shop)) == "deployed", message="it is still stuck")
    shop.ready(BRANCH, commits(1))
    assert message_of(shop, namespace_of(shop)) == "after the accident"


def test_uninstall_that_was_killed(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(values={"extra": [hook("pre-delete", hangs=True)]})
    shop.up(BRANCH, commits(1))
    namespace = namespace_of(shop)
    assert shop.delete(BRANCH, commits(1)) == 202
    kill_helm(shop, namespace, "uninstall", "uninstalling")
    # The next try meets the same hook: what hangs is the pod that no node takes, until somebody lets it go.
    eventually(lambda: helm_of(namespace, "uninstall"), message="Helm was not started again")
    kubectl = shop.installation.cluster.kubectl
    eventually(
        lambda: kubectl("get", "job", "-n", namespace, "-o", "name", check=False).strip(), message="there is no hook"
    )
    kubectl("label", "node", "--all", "there-is=no-such-node", "--overwrite")
    try:
        shop.gone(BRANCH)
    finally:
        kubectl("label", "node", "--all", "there-is-")


def test_newer_revision_cuts_a_long_helm_run_short(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(values={"extra": [hook("pre-install,pre-upgrade", hangs=True)]})
    assert shop.create(BRANCH, commits(1)) == 202
    namespace = namespace_of(shop)
    first = eventually(lambda: helm_of(namespace, "upgrade"), every=0.02, message="no Helm is at work")
    shop.installation.project(shop.name, values={"extra": []})
    assert shop.push(BRANCH, commits(1), commits(2)) == 202
    shop.ready(BRANCH, commits(2))
    assert not Path(f"/proc/{first}").exists()


def test_rollback_that_was_killed(shop: Shop, controller: Process, commits: Commits) -> None:
    shop.up(BRANCH, commits(1))
    namespace = namespace_of(shop)
    release = namespace.removeprefix("env-")
    # A rollback runs the hooks of the revision that it goes back to, so there must be one with a hook below the newest.

    def says(message: str) -> bool:
        return message_of(shop, namespace) == message

    for message in ("two", "three"):
        shop.installation.project(shop.name, values={"message": message, "extra": [hook("pre-rollback", hangs=True)]})
        eventually(partial(says, message), message="it was not upgraded")
        shop.ready(BRANCH, commits(1))
    # A person rolls back by hand, and their Helm dies in the middle.
    command = [
        str(shop.installation.cluster.binaries / "helm"),
        "rollback",
        release,
        "2",
        "-n",
        namespace,
        "--kubeconfig",
    ]
    # The controller would come to the rescue before anybody could see the state.
    controller.popen.send_signal(signal.SIGSTOP)
    pid = os.posix_spawn(command[0], [*command, str(shop.installation.cluster.kubeconfig)], os.environ)
    try:
        kill_helm(shop, namespace, "rollback", "pending-rollback")
    finally:
        controller.popen.send_signal(signal.SIGCONT)
    os.waitpid(pid, 0)
    shop.installation.project(shop.name, values={"extra": []})
    eventually(lambda: status_of(shop, namespace) == "deployed", message="it is still stuck")
    shop.ready(BRANCH, commits(1))
