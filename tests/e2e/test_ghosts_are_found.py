"""A force-finalised namespace leaves live credentials behind; they are found before its name is used again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from envprov.domain.names import namespace_of, slug
from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import condition

Commits = Callable[[int], str]
BRANCH = "feature/haunted"


def force_finalise(shop: Shop, namespace: str) -> str:
    """Make a namespace and destroy it as one must not; returns the UID of the ServiceAccount that stays."""
    kubectl = shop.installation.cluster.kubectl
    kubectl("create", "namespace", namespace)
    kubectl("create", "serviceaccount", "ghost", "-n", namespace)
    account = json.loads(kubectl("get", "sa", "ghost", "-n", namespace, "-o", "json"))["metadata"]
    born = datetime.fromisoformat(account["creationTimestamp"]).timestamp()
    eventually(lambda: time.time() > born + 1, message="the clock stands still")  # ages are told in seconds
    kubectl("delete", "namespace", namespace, "--wait=false")
    emptied = json.loads(kubectl("get", "ns", namespace, "-o", "json"))
    emptied["spec"]["finalizers"] = []
    kubectl("replace", "--raw", f"/api/v1/namespaces/{namespace}/finalize", "-f", "-", input=json.dumps(emptied))
    eventually(lambda: "NotFound" in kubectl("get", "ns", namespace, check=False), message="it is still there")
    return str(account["uid"])


def test_ghost_is_named_and_nothing_is_deployed(shop: Shop, commits: Commits) -> None:
    namespace = namespace_of(slug(shop.name, BRANCH))
    uid = force_finalise(shop, namespace)
    assert shop.create(BRANCH, commits(1)) == 202

    def told() -> dict[str, Any] | None:
        said = condition(shop.record(BRANCH) or {}, "Accepted")
        return said if said["reason"] == "GhostObjects" else None

    said = eventually(told, message="the ghost was not found")
    assert said["status"] == "False"
    assert f"ServiceAccount ghost (uid {uid})" in said["message"]
    kubectl = shop.installation.cluster.kubectl
    assert kubectl("get", "deploy", "-n", namespace, "-o", "name") == ""

    kubectl("delete", "sa,rolebinding", "--all", "-n", namespace)
    shop.push(BRANCH, commits(1), commits(2))
    shop.ready(BRANCH, commits(2))
