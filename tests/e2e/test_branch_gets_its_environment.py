"""Promise 1, as far as hooks go: a branch that exists gets its environment; a branch that is gone loses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.e2e.conftest import Shop
from tests.eventually import eventually

Commits = Callable[[int], str]


def names(shop: Shop, kind: str, namespace: str) -> set[str]:
    return set(shop.installation.cluster.kubectl("get", kind, "-n", namespace, "-o", "name").split())


def read(shop: Shop, kind: str, name: str, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        shop.installation.cluster.kubectl("get", kind, name, "-n", namespace, "-o", "json")
    )
    return found


def test_pushed_branch_comes_up_whole(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(
        host="{slug}.dev.example.com",
        access=[{"group": "gitlab:group/shop", "role": "edit"}],
        values={"message": "branch {branch} at {revision}"},
    )
    environment = shop.up("feature/login", commits(1))
    status = environment["status"]
    namespace = status["namespace"]

    assert namespace == f"env-{environment['metadata']['name']}"
    assert status["slug"] == environment["metadata"]["name"]
    assert status["slug"].startswith("feature-login-")
    assert status["url"] == f"https://{status['slug']}.dev.example.com"
    assert status["size"] == "S"
    assert status["observedRevision"] == commits(1)
    assert status["release"]["status"] == "deployed"
    assert {entry["type"]: entry["status"] for entry in status["conditions"]} == {
        "Accepted": "True",
        "NamespaceReady": "True",
        "Deployed": "True",
        "Healthy": "True",
        "Ready": "True",
    }
    labels = read(shop, "ns", namespace, namespace)["metadata"]["labels"]
    assert labels["envprov.io/guard"] == "env"
    assert labels["envprov.io/project"] == shop.name
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"
    assert names(shop, "resourcequota,limitrange", namespace) == {"resourcequota/envprov", "limitrange/envprov"}
    assert names(shop, "networkpolicy", namespace) == {
        f"networkpolicy.networking.k8s.io/envprov-{name}"
        for name in ("default-deny", "same-namespace", "dns", "ingress", "internet")
    }
    web = read(shop, "deployment", "web", namespace)
    assert web["metadata"]["annotations"]["message"] == f"branch feature/login at {commits(1)}"
    assert web["status"]["availableReplicas"] == 1
    pods = json.loads(shop.installation.cluster.kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Running"]
    assert all(pod["status"]["podIP"] for pod in pods)


def test_new_revision_updates_in_place(shop: Shop, commits: Commits) -> None:
    first = shop.up("feature/cart", commits(1))
    assert shop.push("feature/cart", commits(1), commits(2)) == 202
    second = shop.ready("feature/cart", commits(2))
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["status"]["release"]["revision"] == first["status"]["release"]["revision"] + 1
    web = read(shop, "deployment", "web", second["status"]["namespace"])
    assert web["metadata"]["annotations"]["revision"] == commits(2)


def test_update_of_an_unknown_branch_is_a_create(shop: Shop, commits: Commits) -> None:
    assert shop.push("feature/lost", commits(1), commits(2)) == 202
    shop.ready("feature/lost", commits(2))


def test_deleted_branch_loses_everything(shop: Shop, commits: Commits) -> None:
    environment = shop.up("feature/old", commits(1))
    namespace = environment["status"]["namespace"]
    assert shop.delete("feature/old", commits(1)) == 202
    shop.gone("feature/old")
    assert "NotFound" in shop.installation.cluster.kubectl("get", "ns", namespace, check=False)


def test_ignored_branch_gets_nothing(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(rules=[{"branches": ["main", "release/*"], "action": "ignore"}, {"branches": ["*"]}])
    assert shop.create("main", commits(1)) == 204
    assert shop.create("release/1.0", commits(1)) == 204
    assert shop.create("feature/x", commits(1)) == 202
    assert shop.record("main") is None
    assert shop.record("release/1.0") is None


def test_environment_tells_its_story_in_events(shop: Shop, commits: Commits) -> None:
    environment = shop.up("feature/story", commits(1))
    name, control = environment["metadata"]["name"], shop.installation.namespace

    def reasons() -> set[str]:
        found = json.loads(shop.installation.cluster.kubectl("get", "events", "-n", control, "-o", "json"))["items"]
        return {event["reason"] for event in found if event["involvedObject"]["name"] == name}

    eventually(lambda: "Ready" in reasons(), message="no Event says that it is ready")


def test_phase_word_shows_in_kubectl(shop: Shop, commits: Commits) -> None:
    shop.up("feature/columns", commits(1))
    table = shop.installation.cluster.kubectl("get", "env", "-n", shop.installation.namespace)
    header, *rows = table.splitlines()
    assert header.split() == ["NAME", "BRANCH", "PHASE", "SIZE", "AGE", "EXPIRES", "URL"]
    row = next(line for line in rows if "feature/columns" in line)
    assert row.split()[1:4] == ["feature/columns", "Ready", "S"]
