"""Promise 7: the sum over environments has a budget. Who finds no room waits in line, is told so, and gets in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import Installation, condition, is_ready

Commits = Callable[[int], str]

ONE = {"environments": 1}
RULES = [{"branches": ["urgent/*"], "priority": 5}, {"branches": ["*"]}]


def queued(shop: Shop, branch: str) -> dict[str, Any]:
    """Wait until a branch is in line; returns what its status says of it."""

    def found() -> dict[str, Any] | None:
        record = shop.record(branch)
        queue: dict[str, Any] | None = (record or {}).get("status", {}).get("queue")
        return queue

    return eventually(found, message=f"{branch} is not in line")


def at_place(shop: Shop, branch: str, position: int) -> dict[str, Any]:
    """Wait until a branch has a place; returns what its status says of it."""
    told = f"{branch} is not at place {position}"
    return eventually(lambda: queue if (queue := queued(shop, branch))["position"] == position else None, message=told)


def all_up(shop: Shop, commits: Commits, *branches: str) -> list[dict[str, Any]]:
    """Push new branches at once and wait until all are Ready; returns their Environments."""
    assert [shop.create(branch, commits(number)) for number, branch in enumerate(branches)] == [202] * len(branches)
    return [shop.ready(branch, commits(number)) for number, branch in enumerate(branches)]


def ledger(there: Installation) -> dict[str, Any]:
    """Return what the ledger says, by environment."""
    live = there.cluster.kubectl("get", "cm", "envprov-budget", "-n", there.namespace, "-o", "json")
    return {name: json.loads(text) for name, text in json.loads(live).get("data", {}).items()}


def namespaces(shop: Shop) -> set[str]:
    """Return the namespaces of one project's environments."""
    labels = f"envprov.io/project={shop.name}"
    found = shop.installation.cluster.kubectl("get", "ns", "-l", labels, "-o", "jsonpath={.items[*].metadata.name}")
    return set(found.split())


def test_line_moves_by_priority_and_age_and_says_where_everybody_stands(
    make_shop: Callable[..., Shop], commits: Commits
) -> None:
    shop = make_shop(limits=ONE, rules=RULES)
    there = shop.installation
    first = shop.up("feature/first", commits(1))
    assert shop.create("feature/second", commits(2)) == 202
    second = queued(shop, "feature/second")
    assert second["position"] == 1
    assert second["reason"] == (
        f"needs 1 environment, 0 free of 1 (Project {shop.name}); nothing that ends by itself makes that room"
    )
    record = shop.record("feature/second")
    assert record is not None
    for kind in ("Ready", "NamespaceReady", "Deployed"):
        said = condition(record, kind)
        assert (said["status"], said["reason"]) == ("False", "Queued")
        assert said["message"] == f"place 1: {second['reason']}"
    assert shop.create("urgent/third", commits(3)) == 202
    assert queued(shop, "urgent/third")["position"] == 1
    at_place(shop, "feature/second", 2)
    assert namespaces(shop) == {first["status"]["namespace"]}

    rows = [line.split() for line in there.envprov("queue", "--project", shop.name).stdout.splitlines()]
    assert [row[:3] for row in rows[1:3]] == [["1", "urgent/third", shop.name], ["2", "feature/second", shop.name]]
    assert rows[-1] == ["Project", shop.name, "environments", "1", "0", "1"]
    told = json.loads(there.envprov("queue", "--project", shop.name, "-o", "json").stdout)
    assert [(one["branch"], one["position"], one["size"]) for one in told["line"]] == [
        ("urgent/third", 1, "S"),
        ("feature/second", 2, "S"),
    ]
    assert told["line"][0]["needs"]["cpu"] == "1"
    assert there.envprov("list", "--project", shop.name, "-o", "wide").stdout.count("Queued") == 2
    assert "place 2: needs 1 environment" in there.envprov("status", "feature/second", "--project", shop.name).stdout

    assert shop.delete("feature/first", commits(1)) == 202
    eventually(lambda: first["status"]["namespace"] not in namespaces(shop), within=60, message="it does not go")
    freed = time.monotonic()
    shop.ready("urgent/third", commits(3), within=10)
    assert time.monotonic() - freed < 10
    at_place(shop, "feature/second", 1)
    assert condition(shop.record("feature/second") or {}, "Ready")["reason"] == "Queued"


def test_sum_of_requests_is_a_budget_and_what_never_fits_blocks_nobody(
    make_shop: Callable[..., Shop], commits: Commits
) -> None:
    rules = [
        {"branches": ["big"], "size": "L"},
        {"branches": ["middle"], "size": "M"},
        {"branches": ["*"], "lifetime": {"kind": "until", "at": "2099-12-24T18:00:00Z"}},
    ]
    shop = make_shop(limits={"requests": {"cpu": "2500m"}}, rules=rules)
    shop.up("small-1", commits(1))
    assert shop.create("big", commits(2)) == 202

    def refused() -> dict[str, Any] | None:
        said = condition(shop.record("big") or {}, "Accepted")
        return said if said.get("reason") == "OverBudget" else None

    said = eventually(refused, message="what can never fit is not told so")
    assert said["message"].startswith("can never fit: needs 6 CPU, and all of Project")
    assert condition(shop.record("big") or {}, "Ready")["reason"] == "Stalled"
    assert shop.create("middle", commits(3)) == 202
    assert queued(shop, "middle")["reason"] == (
        f"needs 2 CPU, 1.5 free of 2.5 (Project {shop.name}); next expiry: small-1 at 2099-12-24 18:00 UTC"
    )
    shop.up("small-2", commits(4))
    eventually(lambda: "0.5 free" in queued(shop, "middle")["reason"], message="middle is not told what is left")
    waiting = shop.installation.envprov("up", "middle", "--project", shop.name, "--timeout", "3s")
    assert waiting.exit_code == 3
    assert "place 1: needs 2 CPU, 0.5 free of 2.5" in waiting.stdout

    shop.installation.project(shop.name, limits={"requests": {"cpu": "10"}}, rules=rules)
    shop.ready("middle", commits(3))
    shop.ready("big", commits(2))


def test_larger_size_waits_while_the_old_one_stays_in_force(make_shop: Callable[..., Shop], commits: Commits) -> None:
    limits = {"requests": {"cpu": "3"}}

    def rules(size: str) -> list[dict[str, Any]]:
        return [{"branches": ["grows"], "size": size}, {"branches": ["*"]}]

    shop = make_shop(limits=limits, rules=rules("S"))
    there = shop.installation
    *_, third = all_up(shop, commits, "grows", "other", "third")
    there.project(shop.name, limits=limits, rules=rules("M"))
    queue = queued(shop, "grows")
    assert (queue["size"], queue["needs"]["cpu"], queue["position"]) == ("M", "1", 1)
    record = shop.record("grows")
    assert record is not None
    assert is_ready(record)
    assert record["status"]["size"] == "S"
    assert "size M waits for room, place 1: needs 1 CPU, 0 free of 3" in condition(record, "Ready")["message"]
    hard = (
        "get",
        "quota",
        "envprov",
        "-n",
        record["status"]["namespace"],
        "-o",
        "jsonpath={.spec.hard.requests\\.cpu}",
    )
    assert there.cluster.kubectl(*hard) == "1"
    assert shop.push("grows", commits(0), commits(4)) == 202
    shop.ready("grows", commits(4))  # it goes on as it was, with new commits too

    assert shop.delete("third", commits(2)) == 202
    eventually(lambda: third["status"]["namespace"] not in namespaces(shop), within=60, message="it does not go")
    eventually(lambda: there.cluster.kubectl(*hard) == "2", within=15, message="the size did not grow")
    eventually(lambda: shop.ready("grows")["status"]["size"] == "M", message="the size is not reported")
    assert "queue" not in shop.ready("grows")["status"]

    # Smaller again: what is free at once lets the next one in.
    assert shop.create("fourth", commits(5)) == 202
    queued(shop, "fourth")
    there.project(shop.name, limits=limits, rules=rules("S"))
    shop.ready("fourth", commits(5))


SIZE = {"cpu": "1", "memory": "1Gi", "memoryLimit": "2Gi", "pods": 5, "ephemeralStorage": "1Gi"}
SIZES = {"default": "S", "custom": {"S": SIZE}}


def test_ledger_of_the_cluster_is_right_after_a_kill_at_any_moment(own: Installation) -> None:
    own.settings(controller={"port": 0, "lease_duration": "PT3S"}, budget={"requests": {"cpu": "1500m"}})
    own.project("shop", sizes=SIZES)
    own.project("blog", sizes=SIZES)
    kubectl = own.cluster.kubectl

    def record(branch: str) -> dict[str, Any]:
        return own.environment_of(branch) or {}

    def up(project: str, branch: str) -> None:
        asked = own.envprov("up", branch, "--project", project, "--no-wait")
        assert asked.exit_code == 0, asked.output

    controller = own.start_controller().ready()
    up("shop", "first")
    eventually(lambda: ledger(own), message="nobody was admitted")
    controller.kill()
    controller = own.start_controller().ready()
    eventually(lambda: own.is_ready("first"), within=60, message="it did not come up after a kill")
    up("blog", "second")
    queue = eventually(lambda: record("second").get("status", {}).get("queue"), message="nobody waits")
    assert queue["reason"].startswith("needs 1 CPU, 0.5 free of 1.5 (the cluster); ")
    assert "the cluster" in own.envprov("queue").stdout
    # Killed while the namespace goes, and gone before anybody looks again: the room is given back all the same.
    first = record("first")
    assert set(ledger(own)) == {first["metadata"]["name"]}
    kubectl("delete", "env", first["metadata"]["name"], "-n", own.namespace, "--wait=false")
    eventually(lambda: record("first").get("status", {}).get("teardown"), message="no teardown begins")
    controller.kill()
    entries = ledger(own)
    assert set(entries) == {first["metadata"]["name"]}
    # And an entry that another killed process left of an environment that never was.
    stray = entries[first["metadata"]["name"]] | {"uid": "never"}
    body = json.dumps({"data": {"gone-abcdefgh": json.dumps(stray)}})
    kubectl("patch", "cm", "envprov-budget", "-n", own.namespace, "--type=merge", "-p", body)
    controller = own.start_controller().ready()
    eventually(lambda: own.is_ready("second"), within=90, message="the room was not given back")
    second = record("second")["metadata"]
    assert {name: entry["uid"] for name, entry in ledger(own).items()} == {second["name"]: second["uid"]}
    # A ledger that somebody deleted.
    kubectl("delete", "cm", "envprov-budget", "-n", own.namespace)
    eventually(lambda: set(ledger(own)) == {second["name"]}, message="the ledger is not made again")
    metrics = httpx.get(f"http://127.0.0.1:{controller.port}/metrics", timeout=5).text
    assert 'envprov_budget_used{budget="the cluster",resource="cpu"} 1.0' in metrics
    assert 'envprov_budget_limit{budget="the cluster",resource="cpu"} 1.5' in metrics


def test_a_node_that_comes_makes_room_at_once(own: Installation) -> None:
    has = json.loads(own.cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    cpu = sum(int(node["status"]["allocatable"]["cpu"]) for node in has if not node["spec"].get("taints"))
    assert 200 < cpu < 400, "a reserve of 99.5 % is to leave room for one environment"
    own.settings(budget={"measured": {"reserve": "99.5%"}})
    own.project("shop", sizes=SIZES)
    own.start_controller().ready()
    for branch in ("one", "two"):
        assert own.envprov("up", branch, "--project", "shop", "--no-wait").exit_code == 0

    def waiting() -> dict[str, Any] | None:
        records = [own.environment_of(branch) or {} for branch in ("one", "two")]
        queues = [record["status"]["queue"] for record in records if record.get("status", {}).get("queue")]
        return queues[0] if len(queues) == 1 else None

    reason = eventually(waiting, message="nobody waits")["reason"]
    assert reason.startswith("needs 1 CPU, 0.")
    assert "(the cluster)" in reason
    name = f"fake-{own.namespace}"
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        # No pod of anybody comes to it, for there is room for none.
        "status": {part: {"cpu": str(cpu), "memory": "1Ti", "pods": "0"} for part in ("allocatable", "capacity")},
    }
    own.cluster.kubectl("create", "-f", "-", input=json.dumps(node))
    try:
        for branch in ("one", "two"):
            eventually(lambda: own.is_ready(branch), message=f"{branch} did not get in")  # noqa: B023 - asked at once
    finally:
        own.cluster.kubectl("delete", "node", name)
