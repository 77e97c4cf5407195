"""Promise 8: no cluster-scoped objects, no foreign namespaces; neither the check nor the API server lets them pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import condition

Commits = Callable[[int], str]

ESCAPES = {
    "ClusterRole": {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "envprov-test-escape"},
        "rules": [],
    },
    "ConfigMap in kube-system": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "escape", "namespace": "kube-system"},
    },
    "RoleBinding to cluster-admin": {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "escape"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default"}],
    },
    "ResourceQuota of its own": {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "escape"},
        "spec": {"hard": {"pods": "1"}},
    },
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_escape_is_refused_with_the_object_and_the_reason_before_anything_is_made(
    make_shop: Callable[..., Shop], commits: Commits, escape: str
) -> None:
    shop = make_shop(values={"extra": [ESCAPES[escape]]})
    assert shop.create("feature/escape", commits(1)) == 202

    def told() -> dict[str, Any] | None:
        record = shop.record("feature/escape")
        said = condition(record, "Accepted") if record else {}
        return said if said.get("status") == "False" else None

    said = eventually(told, message="the escape was not refused")
    assert "escape" in said["message"]
    record = shop.record("feature/escape")
    assert record is not None
    assert condition(record, "Ready")["reason"] == "Stalled"
    assert f"env-{record['metadata']['name']}" not in shop.installation.namespaces()


@pytest.mark.parametrize("escape", ESCAPES)
def test_the_api_server_refuses_it_too_where_a_project_only_warns(
    make_shop: Callable[..., Shop], commits: Commits, escape: str
) -> None:
    shop = make_shop(values={"extra": [ESCAPES[escape]]}, checks={"warnOnly": ["*"]})
    assert shop.create("feature/escape", commits(1)) == 202

    def told() -> dict[str, Any] | None:
        record = shop.record("feature/escape")
        said = condition(record, "Deployed") if record else {}
        return said if said.get("reason") == "Forbidden" else None

    said = eventually(told, message="the escape was not refused")
    assert said["status"] == "False"
    assert "escape" in said["message"]
    assert "\n" not in said["message"]
    record = shop.record("feature/escape")
    assert record is not None
    assert condition(record, "Ready")["reason"] == "Stalled"
    found = shop.installation.cluster.kubectl("get", "clusterrole,cm", "-n", "kube-system", "-o", "name")
    assert "escape" not in found


def test_chart_outside_the_chart_root_is_refused(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(chart={"local": {"path": "../../../etc"}})
    assert shop.create("feature/etc", commits(1)) == 202

    def told() -> dict[str, Any] | None:
        record = shop.record("feature/etc")
        said = condition(record, "Accepted") if record else {}
        return said if said.get("reason") == "ChartNotFound" else None

    assert eventually(told, message="the chart was not refused")["status"] == "False"


def test_corrected_chart_comes_up(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(values={"replicas": "many"})
    assert shop.create("feature/wrong", commits(1)) == 202
    eventually(
        lambda: condition(shop.record("feature/wrong") or {}, "Accepted")["reason"] == "RefusedByServer",
        message="the mistake was not told",
    )
    shop.installation.project(shop.name, values={"replicas": 1})
    shop.ready("feature/wrong", commits(1))
