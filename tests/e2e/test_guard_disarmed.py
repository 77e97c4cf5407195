"""The guard notices when the API server does not enforce its policies, and stands still until it does again."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster import Cluster
from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import CONTROLLER, Installation, condition, installed

Commits = Callable[[int], str]
BINDINGS = "validatingadmissionpolicybinding"
DELETE_GUARD = "envprov-delete-guard"


@pytest.fixture(scope="module")
def cluster(own_cluster: Cluster) -> Cluster:
    """Return a cluster of this file's own: its policies are taken away."""
    return own_cluster


@pytest.fixture
def own(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Yield an installation whose controller may see the policies and not put them back."""
    namespace = f"envprov-d-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with installed(cluster, namespace, tmp_path_factory.mktemp(namespace)) as there:
        yield there
    cluster.discard(namespace)


def armed(controller_port: int) -> float:
    """What the controller's metric says."""
    text = httpx.get(f"http://127.0.0.1:{controller_port}/metrics", timeout=5).text
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("envprov_guard_armed "))


def test_teardown_stands_still_while_disarmed_and_goes_on_once_armed(own: Installation, commits: Commits) -> None:
    kubectl = own.cluster.kubectl
    role = yaml.safe_load(kubectl("get", "clusterrole", "envprov-controller", "-o", "yaml"))
    may_mend = [rule for rule in role["rules"] if DELETE_GUARD in rule.get("resourceNames", ())]
    assert may_mend
    rules = [rule for rule in role["rules"] if rule not in may_mend]
    metadata = {key: role["metadata"][key] for key in ("name", "labels")}
    own.apply({"apiVersion": role["apiVersion"], "kind": role["kind"], "metadata": metadata, "rules": rules})
    kubectl("replace", "-f", "-", input=yaml.safe_dump(role | {"metadata": metadata, "rules": rules}))

    own.project("shop")
    controller, receiver = own.start_controller().ready(), own.start_receiver().ready()
    shop = Shop(own, receiver, "shop")
    eventually(shop.is_known, message="the receiver does not know the Project")
    namespace = shop.up("feature/x", commits(1))["status"]["namespace"]
    assert armed(controller.port) == 1

    binding = yaml.safe_load(kubectl("get", BINDINGS, DELETE_GUARD, "-o", "yaml"))
    kubectl("delete", BINDINGS, DELETE_GUARD)
    eventually(lambda: armed(controller.port) == 0, message="nobody noticed that the policy was gone")
    assert shop.delete("feature/x", commits(1)) == 202

    def blocked() -> dict[str, Any] | None:
        said = condition(shop.record("feature/x") or {}, "TeardownBlocked")
        return said if said["reason"] == "Disarmed" else None

    said = eventually(blocked, message="the teardown did not say that it waits")
    assert said["status"] == "True"
    assert DELETE_GUARD in said["message"]
    events = kubectl("get", "events", "-n", own.namespace, "-o", "jsonpath={.items[*].reason}").split()
    assert "Disarmed" in events
    assert "deploy" in kubectl("get", "deploy", "-n", namespace, "-o", "name")
    assert kubectl("get", "deploy", "web", "-n", namespace, "-o", "jsonpath={.spec.replicas}") == "1"

    kept = {key: binding["metadata"][key] for key in ("name", "labels")}
    own.apply({**binding, "metadata": kept})
    eventually(lambda: armed(controller.port) == 1, message="nobody noticed that the policy is back")
    shop.gone("feature/x")


def test_policies_that_somebody_takes_away_come_back(own: Installation) -> None:
    kubectl = own.cluster.kubectl
    controller = own.start_controller().ready()
    for name in (DELETE_GUARD, "envprov-hold-integrity", "envprov-fence"):
        kubectl("delete", BINDINGS, name)
        eventually(
            lambda name=name: kubectl("get", BINDINGS, name, "-o", "name"),  # type: ignore[misc]
            message=f"{name} was not put back",
        )
    eventually(lambda: armed(controller.port) == 1, message="it was not armed again")
    token = kubectl("create", "token", CONTROLLER, "-n", own.namespace)
    assert token
    canary = kubectl("delete", "sa", "guard-canary", "-n", own.namespace, "--dry-run=server", check=False)
    assert DELETE_GUARD in canary
