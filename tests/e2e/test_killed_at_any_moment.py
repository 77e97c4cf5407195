"""Promise 6: killed at any moment and started again, it ends in the same state, with nothing leaked."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Shop
from tests.e2e.killing import Jailer, helm_beside_the_proxy, killing
from tests.eventually import eventually
from tests.shipped import CONTROLLER, ROOT, Installation, Process, condition

Commits = Callable[[int], str]
BRANCH = "feature/fragile"


def shop_of(own: Installation, receiver: Process) -> Shop:
    name = f"shop-{secrets.token_hex(3)}"
    own.project(name)
    shop = Shop(own, receiver, name)
    eventually(shop.is_known, message="the receiver does not know the Project")
    return shop


def reached(shop: Shop, point: str) -> bool:
    """Whether the way up or down has come to a point."""
    record = shop.record(BRANCH)
    namespace = f"env-{record['metadata']['name']}" if record else ""
    kubectl = shop.installation.cluster.kubectl

    def scaled() -> bool:
        found = json.loads(kubectl("get", "deploy", "-n", namespace, "-o", "json"))["items"]
        return not found or found[0]["spec"]["replicas"] == 0

    points: dict[str, Callable[[], bool]] = {
        "namespace": lambda: f"namespace/{namespace}" in kubectl("get", "ns", "-o", "name").split(),
        "quota": lambda: "resourcequota" in kubectl("get", "quota", "-n", namespace, "-o", "name"),
        "release": lambda: "sh.helm.release" in kubectl("get", "secret", "-n", namespace, "-o", "name"),
        "deployment": lambda: "web" in kubectl("get", "deploy", "-n", namespace, "-o", "name"),
        "scaled": scaled,
        "pods gone": lambda: kubectl("get", "pods", "-n", namespace, "-o", "name") == "",
        "terminating": lambda: (
            kubectl("get", "ns", namespace, "-o", "jsonpath={.status.phase}", check=False) == "Terminating"
        ),
    }
    return points[point]()


def begin(own: Installation) -> Process:
    """Start the controller under the same name each time: the Lease of who was killed is its successor's at once."""
    return own.start_controller("--identity", "mortal")


@pytest.mark.parametrize("point", ["namespace", "quota", "release", "deployment"])
def test_controller_killed_on_the_way_up(own: Installation, commits: Commits, point: str) -> None:
    shop = shop_of(own, own.start_receiver().ready())
    controller = begin(own).ready()
    assert shop.create(BRANCH, commits(1)) == 202
    eventually(lambda: reached(shop, point), every=0.01, message=f"never came to {point}")
    controller.kill()

    begin(own)
    environment = shop.ready(BRANCH, commits(1))
    assert own.namespaces() == {environment["status"]["namespace"]}
    assert environment["status"]["release"]["status"] == "deployed"


@pytest.mark.parametrize("point", ["scaled", "pods gone", "terminating"])
def test_controller_killed_on_the_way_down(own: Installation, commits: Commits, point: str) -> None:
    shop = shop_of(own, own.start_receiver().ready())
    controller = begin(own)
    shop.up(BRANCH, commits(1))
    assert shop.delete(BRANCH, commits(1)) == 202
    eventually(lambda: reached(shop, point), every=0.01, message=f"never came to {point}")
    controller.kill()

    begin(own)
    shop.gone(BRANCH)
    assert own.namespaces() == set()


def test_receiver_killed_between_deliveries(own: Installation, commits: Commits) -> None:
    own.start_controller()
    receiver = own.start_receiver().ready()
    shop = shop_of(own, receiver)
    assert shop.create("feature/one", commits(1)) == 202
    receiver.kill()
    again = Shop(own, own.start_receiver().ready(), shop.name)
    assert again.create("feature/one", commits(1)) == 202
    assert again.push("feature/one", commits(1), commits(2)) == 202
    again.ready("feature/one", commits(2))
    assert len(own.environments()) == 1


def test_second_replica_takes_over_from_a_paused_one_that_takes_nothing_away_when_it_goes_on(
    own: Installation, commits: Commits
) -> None:
    patience = {"ENVPROV_CONTROLLER__LEASE_DURATION": "PT4S"}
    with killing(own, Jailer()) as (jailer, kubeconfig):
        own.settings(helm={"chart_root": str(ROOT), "binary": str(helm_beside_the_proxy(own))})
        shop = shop_of(own, own.start_receiver().ready())
        through_it = ("controller", "--identity", "first", "--kubeconfig", str(kubeconfig))
        first = own.start(*through_it, account=CONTROLLER, env=patience)
        shop.up(BRANCH, commits(1))
        # It is to take the environment down, and has just been told that it may.
        jailer.victim = first
        assert shop.delete(BRANCH, commits(1)) == 202
        eventually(lambda: jailer.writes, message="nobody asked who leads before taking anything away")

        second = own.start_controller("--identity", "second", env=patience)
        shop.gone(BRANCH, within=90)
        shop.up(BRANCH, commits(2), within=60)
        assert any(entry.get("event") == "leading" for entry in second.entries())
        uids = _uids(own)

        first.popen.send_signal(signal.SIGCONT)
        eventually(lambda: first.popen.poll() is not None, message="it goes on as if it led")
        assert own.is_ready(BRANCH)
        assert _uids(own) == uids
        assert [path for method, path, body in jailer.afterwards if method == "DELETE" and '"dryRun"' not in body] == []


def _uids(own: Installation) -> dict[str, str]:
    """By kind and name, the UIDs of what is in the only environment."""
    (namespace,) = own.namespaces()
    found = json.loads(own.cluster.kubectl("get", "deploy,svc,sa,secret", "-n", namespace, "-o", "json"))["items"]
    return {f"{item['kind']} {item['metadata']['name']}": item["metadata"]["uid"] for item in found}


def test_sigterm_hands_over_at_once(own: Installation, commits: Commits) -> None:
    shop = shop_of(own, own.start_receiver().ready())
    # A Lease that was not given up would not run out within this test.
    long = {"ENVPROV_CONTROLLER__LEASE_DURATION": "PT10M"}
    first = own.start_controller("--identity", "first", env=long)
    shop.up("feature/first", commits(1))
    second = own.start_controller("--identity", "second", env=long)
    assert second.port
    assert first.stop() == 0
    shop.up("feature/second", commits(2))


def test_restart_writes_nothing(own: Installation, commits: Commits) -> None:
    shop = shop_of(own, own.start_receiver().ready())
    first = own.start_controller()
    environment = shop.up(BRANCH, commits(1))
    assert first.stop() == 0
    before = shop.record(BRANCH)
    second = own.start_controller()
    eventually(lambda: any(entry.get("key") for entry in second.entries()), message="no pass was made")
    assert shop.record(BRANCH) == before
    assert condition(environment, "Ready")["status"] == "True"
