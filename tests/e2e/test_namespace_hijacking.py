"""Promise 5: nothing that envprov did not create is changed or deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from envprov.domain.names import namespace_of, slug
from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import condition

Commits = Callable[[int], str]
BRANCH = "feature/squatted"


def seen(shop: Shop, namespace: str) -> tuple[Any, ...]:
    """What of a namespace and its content must not change."""
    kubectl = shop.installation.cluster.kubectl
    manifest = json.loads(kubectl("get", "ns", namespace, "-o", "json"))
    inside = json.loads(
        kubectl("get", "all,cm,secret,sa,quota,limits,netpol,rolebinding", "-n", namespace, "-o", "json")
    )
    return (
        manifest["metadata"]["uid"],
        manifest["metadata"]["resourceVersion"],
        sorted((item["kind"], item["metadata"]["name"], item["metadata"]["uid"]) for item in inside["items"]),
    )


@pytest.fixture(params=["bare", "with our labels", "of another installation"])
def foreign(request: pytest.FixtureRequest, shop: Shop) -> Iterator[str]:
    """Yield a namespace that bears the name which the branch would get, and is not ours."""
    name = namespace_of(slug(shop.name, BRANCH))
    metadata: dict[str, Any] = {"name": name}
    if request.param != "bare":
        metadata["labels"] = {
            "app.kubernetes.io/managed-by": "envprov",
            "envprov.io/guard": "env",
            "envprov.io/environment": slug(shop.name, BRANCH),
            "envprov.io/project": shop.name,
        }
    if request.param == "of another installation":
        owner = f"somewhere-else/{slug(shop.name, BRANCH)}"
        metadata["annotations"] = {"envprov.io/branch": BRANCH, "envprov.io/owner": owner}
    shop.installation.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "namespace": name}}
    shop.installation.apply(config_map)
    eventually(
        lambda: {"default"} <= {entry for _, entry, _ in seen(shop, name)[2]} and len(seen(shop, name)[2]) >= 3,
        message="the namespace is not furnished",
    )
    yield name
    shop.installation.cluster.discard(name)


def test_foreign_namespace_is_left_alone_on_the_way_up_and_down(shop: Shop, foreign: str, commits: Commits) -> None:
    before = seen(shop, foreign)
    assert shop.create(BRANCH, commits(1)) == 202

    def refused() -> dict[str, Any] | None:
        record = shop.record(BRANCH)
        said = condition(record, "Accepted") if record else {}
        return said if said.get("reason") == "NotOwned" else None

    said = eventually(refused, message="the foreign namespace was not refused")
    assert said["status"] == "False"
    assert foreign in said["message"]
    assert "does not belong to Environment" in said["message"]
    assert seen(shop, foreign) == before

    assert shop.delete(BRANCH, commits(1)) == 202
    shop.gone(BRANCH)
    assert seen(shop, foreign) == before
