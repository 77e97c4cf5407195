"""Promise 7: the sum over environments has a budget. Who finds no room waits in line, is told so, and gets in."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import Installation, condition, is_ready

Commits = Callable[[int], str]
Run = Callable[..., subprocess.CompletedProcess[str]]

ONE = {"environments": 1}
RULES = [{"branches": ["urgent/*"], "priority": 5}, {"branches": ["*"]}]


def envprov(there: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Call envprov as the administrator."""
    command = [str(Path(sys.executable).parent / "envprov"), *arguments, "--kubeconfig", str(there.cluster.kubeconfig)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=there.environment(), timeout=60)


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

    rows = [line.split() for line in envprov(there, "queue", "--project", shop.name).stdout.splitlines()]
    assert [row[:3] for row in rows[1:3]] == [["1", "urgent/third", shop.name], ["2", "feature/second", shop.name]]
    assert rows[-1] == ["Project", shop.name, "environments", "1", "0", "1"]
    told = json.loads(envprov(there, "queue", "--project", shop.name, "-o", "json").stdout)
    assert [(one["branch"], one["position"], one["size"]) for one in told["line"]] == [
        ("urgent/third", 1, "S"),
        ("feature/second", 2, "S"),
    ]
    assert told["line"][0]["needs"]["cpu"] == "1"
    assert envprov(there, "list", "--project", shop.name, "-o", "wide").stdout.count("Queued") == 2
    assert "place 2: needs 1 environment" in envprov(there, "status", "feature/second", "--project", shop.name).stdout

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
    waiting = envprov(shop.installation, "up", "middle", "--project", shop.name, "--timeout", "3s")
    assert waiting.returncode == 3
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
    shop.up("grows", commits(1))
    shop.up("other", commits(2))
    third = shop.up("third", commits(3))
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
    assert shop.push("grows", commits(1), commits(4)) == 202
    shop.ready("grows", commits(4))  # it goes on as it was, with new commits too

    assert shop.delete("third", commits(3)) == 202
    eventually(lambda: third["status"]["namespace"] not in namespaces(shop), within=60, message="it does not go")
    eventually(lambda: there.cluster.kubectl(*hard) == "2", within=15, message="the size did not grow")
    eventually(lambda: shop.ready("grows")["status"]["size"] == "M", message="the size is not reported")
    assert "queue" not in shop.ready("grows")["status"]

    # Smaller again: what is free at once lets the next one in.
    assert shop.create("fourth", commits(5)) == 202
    queued(shop, "fourth")
    there.project(shop.name, limits=limits, rules=rules("S"))
    shop.ready("fourth", commits(5))


def test_ledger_is_right_after_a_kill_at_any_moment(own: Installation) -> None:
    own.settings(controller={"port": 0, "lease_duration": "PT3S"})
    own.project("shop", limits=ONE)
    kubectl = own.cluster.kubectl

    def record(branch: str) -> dict[str, Any] | None:
        return own.environment_of(branch)

    def up(branch: str) -> None:
        asked = envprov(own, "up", branch, "--project", "shop", "--no-wait")
        assert asked.returncode == 0, asked.stderr

    controller = own.start_controller().ready()
    up("first")
    eventually(lambda: ledger(own), message="nobody was admitted")
    controller.kill()
    controller = own.start_controller().ready()
    eventually(lambda: own.is_ready("first"), within=60, message="it did not come up after a kill")
    up("second")
    eventually(lambda: (record("second") or {}).get("status", {}).get("queue"), message="nobody waits")
    # Killed while the namespace goes, and gone before anybody looks again: the room is given back all the same.
    first = record("first")
    assert first is not None
    assert set(ledger(own)) == {first["metadata"]["name"]}
    kubectl("delete", "env", first["metadata"]["name"], "-n", own.namespace, "--wait=false")
    eventually(lambda: (record("first") or {}).get("status", {}).get("teardown"), message="no teardown begins")
    controller.kill()
    assert set(ledger(own)) == {first["metadata"]["name"]}
    controller = own.start_controller().ready()
    eventually(lambda: own.is_ready("second"), within=90, message="the room was not given back")
    second = record("second")
    assert second is not None
    assert {name: entry["uid"] for name, entry in ledger(own).items()} == {
        second["metadata"]["name"]: second["metadata"]["uid"]
    }
    # An entry that a killed process left of an environment that never was, and a ledger that somebody deleted.
    controller.kill()
    entry = next(iter(ledger(own).values()))
    stray = json.dumps({"data": {"gone-abcdefgh": json.dumps(entry | {"uid": "never"})}})
    kubectl("patch", "cm", "envprov-budget", "-n", own.namespace, "--type=merge", "-p", stray)
    controller = own.start_controller().ready()
    eventually(lambda: "gone-abcdefgh" not in ledger(own), message="a stray entry stays")
    kubectl("delete", "cm", "envprov-budget", "-n", own.namespace)
    eventually(lambda: set(ledger(own)) == {second["metadata"]["name"]}, message="the ledger is not made again")
    metrics = httpx.get(f"http://127.0.0.1:{controller.port}/metrics", timeout=5).text
    assert 'envprov_budget_used{budget="Project shop",resource="environments"} 1.0' in metrics
    assert 'envprov_budget_limit{budget="Project shop",resource="environments"} 1.0' in metrics


@pytest.mark.parametrize(
    ("budget", "of"),
    [
        pytest.param({"requests": {"cpu": "1500m"}}, "1.5", id="fixed"),
        pytest.param({"measured": {"reserve": "99.5%"}}, None, id="measured from the nodes"),
    ],
)
def test_cluster_has_a_budget_over_all_projects(own: Installation, budget: dict[str, Any], of: str | None) -> None:
    own.settings(budget=budget)
    for name in ("shop", "blog"):
        own.project(name, sizes={"default": "S", "custom": {"S": SIZE}})
    own.start_controller().ready()
    for name, branch in (("shop", "one"), ("blog", "two")):
        asked = envprov(own, "up", branch, "--project", name, "--no-wait")
        assert asked.returncode == 0, asked.stderr
        if branch == "one":
            eventually(lambda: own.is_ready("one"), within=60, message="the first did not come up")
    if of is None:
        told = json.loads(envprov(own, "queue", "-o", "json").stdout)
        (cpu,) = [row for row in told["budgets"] if (row["budget"], row["resource"]) == ("the cluster", "cpu")]
        assert cpu["used"] == "1"
        return
    found = eventually(lambda: (own.environment_of("two") or {}).get("status", {}).get("queue"), message="no line")
    assert found["reason"].startswith(f"needs 1 CPU, 0.5 free of {of} (the cluster); ")
    assert "the cluster" in envprov(own, "queue").stdout


SIZE = {"cpu": "1", "memory": "1Gi", "memoryLimit": "2Gi", "pods": 5, "ephemeralStorage": "1Gi"}
