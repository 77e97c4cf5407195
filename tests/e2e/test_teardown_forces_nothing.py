"""A namespace that hangs is reported with what it waits for; nothing is forced, and it ends once that has gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.e2e.conftest import Shop
from tests.eventually import eventually

Commits = Callable[[int], str]


def stubborn_pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "finalizers": ["example.com/backup"]},
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/main:1"}]},
    }


def waiting(shop: Shop, branch: str) -> list[str]:
    record = shop.record(branch) or {}
    found: list[str] = record.get("status", {}).get("teardown", {}).get("waitingFor", [])
    return found


def test_pod_with_a_finalizer_is_named_and_not_forced(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(values={"extra": [stubborn_pod("stubborn")]})
    namespace = shop.up("feature/stubborn", commits(1))["status"]["namespace"]
    assert shop.delete("feature/stubborn", commits(1)) == 202
    eventually(
        lambda: "Pod stubborn (finalizers: example.com/backup)" in waiting(shop, "feature/stubborn"),
        message="the pod was not named",
    )
    kubectl = shop.installation.cluster.kubectl
    pod = json.loads(kubectl("get", "pod", "stubborn", "-n", namespace, "-o", "json"))
    assert pod["metadata"]["finalizers"] == ["example.com/backup"]
    assert kubectl("get", "ns", namespace, "-o", "jsonpath={.status.phase}") == "Active"
    assert "sh.helm.release" in kubectl("get", "secret", "-n", namespace, "-o", "name"), (
        "Helm did not wait for the pods"
    )

    kubectl("patch", "pod", "stubborn", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    shop.gone("feature/stubborn")


def test_pods_end_while_their_rights_still_stand(shop: Shop, commits: Commits) -> None:
    namespace = shop.up("feature/order", commits(1))["status"]["namespace"]
    assert shop.delete("feature/order", commits(1)) == 202
    shop.gone("feature/order")
    entries = shop.installation.cluster.audit(namespace)
    mine = [entry for entry in entries if entry.get("objectRef", {}).get("namespace") == namespace]

    def moments(resource: str, verbs: set[str]) -> list[datetime]:
        return [
            datetime.fromisoformat(entry["requestReceivedTimestamp"])
            for entry in mine
            if entry["objectRef"]["resource"] == resource and entry["verb"] in verbs
        ]

    last_pod = max(moments("pods", {"delete"}))
    release = min(moments("secrets", {"delete", "deletecollection"}))
    rights = moments("serviceaccounts", {"delete", "deletecollection"}) + moments(
        "rolebindings", {"delete", "deletecollection"}
    )
    assert last_pod < release
    assert last_pod < min(rights)


def test_namespace_with_a_finalizer_of_others_is_named(shop: Shop, commits: Commits) -> None:
    namespace = shop.up("feature/held", commits(1))["status"]["namespace"]
    kubectl = shop.installation.cluster.kubectl
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": namespace, "finalizers": ["example.com/theirs"]},
    }
    shop.installation.apply(config_map)
    assert shop.delete("feature/held", commits(1)) == 202
    eventually(
        lambda: any("example.com/theirs" in entry for entry in waiting(shop, "feature/held")),
        message="the finalizer was not named",
    )
    assert (
        kubectl("get", "cm", "held", "-n", namespace, "-o", "jsonpath={.metadata.finalizers[0]}")
        == "example.com/theirs"
    )
    kubectl("patch", "cm", "held", "-n", namespace, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    shop.gone("feature/held")
