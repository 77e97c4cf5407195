"""Promise 7: quota and limits are in force before the first pod, and what exceeds them is explained."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import condition

Commits = Callable[[int], str]

WARNED = {"warnOnly": ["SizeExceeded"]}
"""What a plan would refuse, so that the quota must."""


def moment(entry: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["requestReceivedTimestamp"])


def test_quota_and_limits_come_before_the_first_pod(shop: Shop, commits: Commits) -> None:
    namespace = shop.up("feature/first-pod", commits(1))["status"]["namespace"]
    entries = shop.installation.cluster.audit(namespace)
    mine = [entry for entry in entries if entry.get("objectRef", {}).get("namespace") == namespace]

    def first(resource: str, verbs: set[str], subresource: str | None = None) -> datetime:
        return min(
            moment(entry)
            for entry in mine
            if entry["objectRef"]["resource"] == resource
            and entry["objectRef"].get("subresource") == subresource
            and entry["verb"] in verbs
        )

    limits = first("limitranges", {"patch", "create"})
    quota = first("resourcequotas", {"patch", "create"})
    counted = first("resourcequotas", {"update"}, "status")
    policies = first("networkpolicies", {"patch", "create"})
    pod = first("pods", {"create"})
    assert limits < quota < counted < pod
    assert policies < pod


def test_pods_without_requests_start(shop: Shop, commits: Commits) -> None:
    namespace = shop.up("feature/no-requests", commits(1))["status"]["namespace"]
    pods = json.loads(shop.installation.cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    (container,) = pods[0]["spec"]["containers"]
    assert container["resources"]["requests"] == {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "128Mi"}
    assert container["resources"]["limits"]["memory"] == "512Mi"


def test_chart_over_quota_is_not_healthy_and_told_what_would_fit(
    make_shop: Callable[..., Shop], commits: Commits
) -> None:
    resources = {"requests": {"cpu": "800m"}, "limits": {"cpu": "800m"}}
    shop = make_shop(values={"replicas": 2, "resources": resources}, checks=WARNED)
    assert shop.create("feature/greedy", commits(1)) == 202

    def told() -> dict[str, Any] | None:
        record = shop.record("feature/greedy")
        said = condition(record, "Healthy") if record else {}
        return said if said.get("reason") == "QuotaExceeded" else None

    said = eventually(told, message="the quota was not named")
    assert said["status"] == "False"
    assert "quota" in said["message"]
    assert "600m requests.cpu short" in said["message"]
    assert "size M would fit" in said["message"]
    record = shop.record("feature/greedy")
    assert record is not None
    assert condition(record, "Ready")["reason"] == "Unhealthy"


def test_stateful_set_over_quota_is_told_too(make_shop: Callable[..., Shop], commits: Commits) -> None:
    container = {
        "name": "db",
        "image": "registry.example.com/db:1",
        "resources": {"requests": {"memory": "3Gi"}, "limits": {"memory": "3Gi"}},
    }
    labels = {"app": "db"}
    database = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "serviceName": "db",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }
    shop = make_shop(values={"extra": [database]}, checks=WARNED)
    assert shop.create("feature/heavy", commits(1)) == 202

    def told() -> str | None:
        record = shop.record("feature/heavy")
        said = condition(record, "Healthy") if record else {}
        return str(said["message"]) if said.get("reason") == "QuotaExceeded" else None

    said = eventually(told, message="the quota was not named")
    assert "requests.memory short" in said
    assert "size M would fit" in said


def test_larger_size_lets_it_in(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(
        values={"replicas": 2, "resources": {"requests": {"cpu": "800m"}, "limits": {"cpu": "800m"}}},
        rules=[{"branches": ["*"], "size": "M"}],
    )
    assert shop.up("feature/roomy", commits(1))["status"]["size"] == "M"


def test_custom_size_counts(make_shop: Callable[..., Shop], commits: Commits) -> None:
    size = {"cpu": "3", "memory": "1Gi", "memoryLimit": "2Gi", "pods": 4}
    shop = make_shop(sizes={"default": "event", "allowed": ["event"], "custom": {"event": size}})
    namespace = shop.up("event/summer", commits(1))["status"]["namespace"]
    hard = json.loads(
        shop.installation.cluster.kubectl("get", "quota", "envprov", "-n", namespace, "-o", "jsonpath={.spec.hard}")
    )
    assert hard["requests.cpu"] == "3"
    assert hard["pods"] == "4"
