"""What people change is put back within seconds, from watches; what the chart owns is not fought over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import Installation, Process

WITHIN = 60.0
"""Seconds; the slow resync comes after 300."""


COMMIT = "1" * 40


@pytest.fixture(scope="module")
def namespace(installation: Installation, receiver: Process, controller: Process) -> tuple[Shop, str]:
    """Return a shop and the namespace of its one branch: each test leaves it as it was."""
    del controller
    shop = Shop(installation, receiver, "shop-that-drifts")
    installation.project(shop.name, access=[{"user": "ann@example.com", "role": "view"}])
    eventually(shop.is_known, message="the receiver does not know the Project")
    return shop, shop.up("feature/drift", COMMIT)["status"]["namespace"]


def get(shop: Shop, what: str, namespace: str | None) -> dict[str, Any]:
    where = ["-n", namespace] if namespace else []
    found: dict[str, Any] = json.loads(shop.installation.cluster.kubectl("get", what, *where, "-o", "json"))
    return found


@pytest.mark.parametrize(
    "what",
    [
        "resourcequota/envprov",
        "limitrange/envprov",
        "networkpolicy/envprov-default-deny",
        "rolebinding/envprov-installer",
        "rolebinding/envprov-controller",
        "serviceaccount/envprov-installer",
    ],
)
def test_deleted_object_comes_back(namespace: tuple[Shop, str], what: str) -> None:
    shop, name = namespace
    kind, _, object_name = what.partition("/")
    before = get(shop, what, name)
    shop.installation.cluster.kubectl("delete", what, "-n", name)
    eventually(
        lambda: object_name in shop.installation.cluster.kubectl("get", kind, "-n", name, "-o", "name"),
        within=WITHIN,
        message=f"{what} did not come back",
    )
    after = get(shop, what, name)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after.get("spec") == before.get("spec")
    assert after.get("subjects") == before.get("subjects")


@pytest.mark.parametrize(
    ("what", "patch", "path"),
    [
        pytest.param("resourcequota/envprov", {"spec": {"hard": {"pods": "999"}}}, ("spec",), id="quota raised"),
        pytest.param(
            "networkpolicy/envprov-default-deny",
            {"spec": {"podSelector": {"matchLabels": {"nobody": "here"}}}},
            ("spec",),
            id="policy made void",
        ),
        pytest.param(
            "networkpolicy/envprov-same-namespace", {"spec": {"ingress": [{}]}}, ("spec",), id="policy opened to all"
        ),
        pytest.param(
            "limitrange/envprov",
            {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "64"}}]}},
            ("spec",),
            id="limits changed",
        ),
        pytest.param(
            "rolebinding/envprov-installer",
            {"subjects": [{"kind": "Group", "name": "everybody", "apiGroup": "rbac.authorization.k8s.io"}]},
            ("subjects",),
            id="installer given away",
        ),
    ],
)
def test_edited_object_is_put_back(
    namespace: tuple[Shop, str], what: str, patch: dict[str, Any], path: tuple[str]
) -> None:
    shop, name = namespace
    before = get(shop, what, name)[path[0]]
    shop.installation.cluster.kubectl("patch", what, "-n", name, "--type=merge", "-p", json.dumps(patch))
    eventually(lambda: get(shop, what, name)[path[0]] == before, within=WITHIN, message=f"{what} was not put back")


@pytest.mark.parametrize(
    "label",
    ["envprov.io/guard", "app.kubernetes.io/managed-by", "pod-security.kubernetes.io/enforce", "envprov.io/project"],
)
def test_label_of_the_namespace_is_put_back(namespace: tuple[Shop, str], label: str) -> None:
    shop, name = namespace
    before = get(shop, f"ns/{name}", None)["metadata"]["labels"][label]
    shop.installation.cluster.kubectl("label", "ns", name, f"{label}-")
    eventually(
        lambda: get(shop, f"ns/{name}", None)["metadata"]["labels"].get(label) == before,
        within=WITHIN,
        message=f"label {label} was not put back",
    )


def test_object_that_nothing_wants_any_more_goes(namespace: tuple[Shop, str]) -> None:
    shop, name = namespace
    shop.installation.project(shop.name, access=[])
    eventually(
        lambda: (
            "envprov-access" not in shop.installation.cluster.kubectl("get", "rolebinding", "-n", name, "-o", "name")
        ),
        within=WITHIN,
        message="access that the Project no longer gives is still there",
    )


def test_what_the_chart_owns_is_not_fought_over(namespace: tuple[Shop, str]) -> None:
    shop, name = namespace
    release = shop.ready("feature/drift", COMMIT)["status"]["release"]["revision"]
    shop.installation.cluster.kubectl("scale", "deployment/web", "--replicas=2", "-n", name)
    eventually(
        lambda: get(shop, "deployment/web", name)["status"].get("availableReplicas") == 2, message="it was not scaled"
    )
    # Whatever the controller does about it, it does in the pass that this edit wakes.
    shop.installation.cluster.kubectl("delete", "resourcequota/envprov", "-n", name)
    eventually(
        lambda: "envprov" in shop.installation.cluster.kubectl("get", "resourcequota", "-n", name, "-o", "name"),
        within=WITHIN,
        message="the quota did not come back",
    )
    assert get(shop, "deployment/web", name)["spec"]["replicas"] == 2
    assert shop.ready("feature/drift", COMMIT)["status"]["release"]["revision"] == release


def test_uninstalled_release_is_installed_again(namespace: tuple[Shop, str]) -> None:
    shop, name = namespace
    shop.installation.helm("uninstall", name.removeprefix("env-"), "-n", name)
    eventually(
        lambda: "deployment.apps/web" in shop.installation.cluster.kubectl("get", "deploy", "-n", name, "-o", "name"),
        within=30,
        message="the release did not come back",
    )
