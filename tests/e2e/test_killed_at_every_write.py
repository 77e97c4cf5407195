"""
Promise 6 to the letter: the controller is killed after every single write of a teardown, before it hears the answer.

What it had in mind is lost with it, so after one write is also before the next. Without Helm, and before each write as
well: ``tests/integration/guard/test_every_write.py``.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Shop
from tests.e2e.killing import Executioner, helm_beside_the_proxy
from tests.eventually import eventually
from tests.shipped import CONTROLLER, ROOT, Installation, Process

Commits = Callable[[int], str]
BRANCH = "feature/mortal"


@pytest.mark.timeout(900)
def test_teardown_survives_a_kill_after_each_of_its_writes(
    own: Installation, deadly: tuple[Executioner, Path], cluster: Cluster, commits: Commits
) -> None:
    executioner, kubeconfig = deadly
    own.settings(helm={"chart_root": str(ROOT), "binary": str(helm_beside_the_proxy(own))})
    shared = f"shared-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", shared)
    cluster.kubectl("create", "serviceaccount", "deployer", "-n", shared)
    own.project("shop", sharedServiceAccounts=[{"namespace": shared, "name": "deployer"}])

    def start(victim: bool) -> Process:  # noqa: FBT001 - one word for what becomes of it
        # Under the same name each time: the Lease of who was killed is its successor's at once.
        arguments = ("controller", "--identity", "mortal", "--kubeconfig", str(kubeconfig))
        process = own.start(*arguments, account=CONTROLLER)
        executioner.victim = process if victim else None
        return process

    shop = Shop(own, own.start_receiver().ready(), "shop")
    eventually(shop.is_known, message="the receiver does not know the Project")
    controller = start(victim=False)
    record = shop.up(BRANCH, commits(1), within=120)
    namespace, name = record["status"]["namespace"], record["metadata"]["name"]
    executioner.places = {own.namespace, namespace, shared}

    def held() -> bool:
        notes = json.loads(cluster.kubectl("get", "sa", "deployer", "-n", shared, "-o", "json"))["metadata"]
        values = [value for key, value in notes.get("annotations", {}).items() if key.startswith("hold.envprov.io/")]
        return any(json.loads(value)["uid"] == record["metadata"]["uid"] for value in values)

    def is_there() -> bool:
        phase = ("get", "ns", namespace, "--ignore-not-found", "-o", "jsonpath={.status.phase}")
        return cluster.kubectl(*phase) == "Active"

    assert held()
    assert controller.stop() == 0
    assert shop.delete(BRANCH, commits(1)) == 202
    while shop.record(BRANCH) is not None:
        assert len(executioner.writes) < 60, f"the teardown does not come forward: {executioner.writes[-5:]}"
        controller = start(victim=True)
        eventually(
            lambda process=controller: process.popen.poll() is not None or shop.record(BRANCH) is None,  # type: ignore[misc]
            within=120,
            message=f"nothing was written after {executioner.writes[-3:]}",
        )
        controller.kill()
        if is_there():
            assert held(), "the hold elsewhere went before the namespace"

    assert own.namespaces() == set()
    assert not held()
    writes = [(method, path) for method, path, _ in executioner.writes]
    ends = {
        ("PATCH", f"/api/v1/namespaces/{namespace}"),
        ("DELETE", f"/api/v1/namespaces/{namespace}"),
        ("PATCH", f"/api/v1/namespaces/{shared}/serviceaccounts/deployer"),
        ("PATCH", f"/api/v1/namespaces/{shared}"),
        ("PATCH", f"/apis/envprov.io/v1alpha1/namespaces/{own.namespace}/environments/{name}"),
    }
    assert ends <= set(writes), "not every write of the teardown was killed for"
    for path in (f"/api/v1/namespaces/{shared}/serviceaccounts/deployer", f"/api/v1/namespaces/{shared}"):
        assert writes.count(("PATCH", path)) == 1, "the hold elsewhere was released more than once"
    assert writes.count(("DELETE", f"/api/v1/namespaces/{namespace}")) == 1
    cluster.discard(shared)
