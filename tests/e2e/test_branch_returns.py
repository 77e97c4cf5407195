"""A branch that is deleted and pushed again while its old environment goes: the new one waits, and never mixes."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.e2e.conftest import Shop
from tests.eventually import eventually

Commits = Callable[[int], str]
BRANCH = "feature/phoenix"


def test_new_environment_waits_and_then_comes_up(shop: Shop, commits: Commits) -> None:
    old = shop.up(BRANCH, commits(1))
    namespace = old["status"]["namespace"]
    old_uid = shop.installation.cluster.kubectl("get", "ns", namespace, "-o", "jsonpath={.metadata.uid}")
    assert shop.delete(BRANCH, commits(1)) == 202
    assert shop.create(BRANCH, commits(2)) == 202

    def renewed() -> bool:
        record = shop.record(BRANCH)
        return record is not None and record["metadata"]["uid"] != old["metadata"]["uid"]

    eventually(renewed, message="the branch did not come back")
    new = shop.ready(BRANCH, commits(2))
    new_uid = shop.installation.cluster.kubectl("get", "ns", namespace, "-o", "jsonpath={.metadata.uid}")
    assert new["status"]["namespace"] == namespace
    assert new_uid != old_uid
    web = json.loads(shop.installation.cluster.kubectl("get", "deploy", "web", "-n", namespace, "-o", "json"))
    assert web["metadata"]["annotations"]["revision"] == commits(2)
    assert new["status"]["release"]["revision"] == 1


def test_branch_that_returns_and_goes_again_stays_away(shop: Shop, commits: Commits) -> None:
    shop.up(BRANCH, commits(1))
    assert shop.delete(BRANCH, commits(1)) == 202
    assert shop.create(BRANCH, commits(2)) == 202
    assert shop.delete(BRANCH, commits(2)) == 202
    shop.gone(BRANCH)
    # Another branch that comes up meanwhile shows that the controller had its chance to bring this one back.
    shop.up("feature/other", commits(3))
    assert shop.record(BRANCH) is None


def test_late_create_does_not_resurrect(shop: Shop, commits: Commits) -> None:
    shop.up(BRANCH, commits(1))
    assert shop.delete(BRANCH, commits(1)) == 202
    shop.gone(BRANCH)
    assert shop.create(BRANCH, commits(1)) in {202, 204}
    shop.up("feature/other", commits(3))
    assert shop.record(BRANCH) is None


def test_late_push_does_not_overrule_a_newer_one(shop: Shop, commits: Commits) -> None:
    shop.up(BRANCH, commits(1))
    assert shop.push(BRANCH, commits(2), commits(3)) == 202
    assert shop.push(BRANCH, commits(1), commits(2)) in {202, 204}
    shop.ready(BRANCH, commits(3))
    record = shop.record(BRANCH)
    assert record is not None
    assert record["spec"]["revision"] == commits(3)
