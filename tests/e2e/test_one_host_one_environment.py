"""Promise 8, for hosts: of two branches that claim one, one gets it. The other is told who, and gets it afterwards."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import Installation, condition, is_ready

Commits = Callable[[int], str]


def ingress(host: str) -> dict[str, Any]:
    """An Ingress for one host."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "web"},
        "spec": {
            "rules": [
                {
                    "host": host,
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": "web", "port": {"number": 80}}},
                            }
                        ]
                    },
                }
            ]
        },
    }


@pytest.fixture
def host() -> str:
    """Return a host of this test's own."""
    return f"shop-{secrets.token_hex(4)}.dev.example.com"


def reserved(shop: Shop) -> dict[str, str]:
    """Who has which host of one Project."""
    there = shop.installation
    selector = f"envprov.io/host-reservation,envprov.io/project={shop.name}"
    found = json.loads(there.cluster.kubectl("get", "lease", "-n", there.namespace, "-l", selector, "-o", "json"))
    return {
        item["metadata"]["annotations"]["envprov.io/host"]: item["spec"]["holderIdentity"] for item in found["items"]
    }


def holder(record: dict[str, Any]) -> str:
    """An Environment as a Lease names it."""
    return f"{record['metadata']['name']}/{record['metadata']['uid']}"


def ingresses(shop: Shop) -> set[str]:
    """Namespaces in which there is an Ingress of one Project."""
    cluster = shop.installation.cluster
    homes = {(shop.record(branch) or {}).get("status", {}).get("namespace") for branch in ("feature/a", "feature/b")}
    found = json.loads(cluster.kubectl("get", "ingress", "-A", "-o", "json"))["items"]
    return {item["metadata"]["namespace"] for item in found} & homes


def test_two_branches_with_one_host_have_it_one_after_the_other(
    make_shop: Callable[..., Shop], host: str, commits: Commits
) -> None:
    shop = make_shop(values={"extra": [ingress(host)]})
    assert shop.create("feature/a", commits(1)) == 202
    assert shop.create("feature/b", commits(2)) == 202

    def settled() -> tuple[str, str] | None:
        for first, second in (("feature/a", "feature/b"), ("feature/b", "feature/a")):
            other = shop.record(second)
            if is_ready(shop.record(first)) and other and condition(other, "Accepted")["reason"] == "HostTaken":
                return first, second
        return None

    won, lost = eventually(settled, message="not one of them has won")
    winner, loser = shop.record(won), shop.record(lost)
    assert winner is not None
    assert loser is not None
    name = winner["metadata"]["name"]
    said = condition(loser, "Accepted")["message"]
    whose = f"host {host} is reserved by branch {won} of Project {shop.name} (Environment {name}); "
    assert whose in said
    assert "take the other environment down" in said
    assert reserved(shop) == {host: holder(winner)}
    assert ingresses(shop) == {winner["status"]["namespace"]}

    assert shop.delete(won, commits(1 if won == "feature/a" else 2)) == 202
    shop.gone(won)
    now = shop.ready(lost)
    assert reserved(shop) == {host: holder(now)}
    assert ingresses(shop) == {now["status"]["namespace"]}


def test_a_host_that_a_new_revision_gives_up_is_free_once_that_is_in_force(
    make_shop: Callable[..., Shop], host: str, commits: Commits
) -> None:
    shop = make_shop(host="{slug}.dev.example.com", values={"extra": [ingress(host)]})
    before = shop.up("feature/a", commits(1))
    own = f"{before['metadata']['name']}.dev.example.com"
    assert reserved(shop) == {host: holder(before), own: holder(before)}
    assert shop.create("feature/b", commits(2)) == 202
    eventually(lambda: "HostTaken" in json.dumps(shop.record("feature/b")), message="two have one host at once")
    rules = [
        {"branches": ["feature/a"], "values": {"extra": [ingress(f"new-{host}")]}},
        {"branches": ["*"]},
    ]
    shop.installation.project(shop.name, host="{slug}.dev.example.com", values={"extra": [ingress(host)]}, rules=rules)
    after = shop.ready("feature/b")
    eventually(
        lambda: (
            reserved(shop)
            == {
                own: holder(before),
                f"new-{host}": holder(before),
                f"{after['metadata']['name']}.dev.example.com": holder(after),
                host: holder(after),
            }
        ),
        message="the hosts are not where they are wanted",
    )


def test_nobody_takes_a_host_below_the_name_of_another_environment(
    make_shop: Callable[..., Shop], commits: Commits
) -> None:
    shop = make_shop()
    name = shop.up("feature/a", commits(1))["metadata"]["name"]
    thief = f"login.{name}.dev.example.com"
    shop.installation.project(
        shop.name, rules=[{"branches": ["feature/b"], "values": {"extra": [ingress(thief)]}}, {"branches": ["*"]}]
    )
    assert shop.create("feature/b", commits(2)) == 202

    def refused() -> str:
        record = shop.record("feature/b")
        found = condition(record, "Accepted") if record else {"reason": ""}
        return found["message"] if found["reason"] == "HostTaken" else ""

    said = eventually(refused, message="nobody minds")
    assert f"branch feature/a of Project {shop.name} (Environment {name})" in said
    assert reserved(shop) == {}


def test_a_host_of_what_stands_is_reserved_although_nobody_has_noted_it(own: Installation, host: str) -> None:
    own.project("shop", values={"extra": [ingress(host)]})
    controller = own.start_controller().ready()

    def up(branch: str) -> None:
        asked = own.envprov("up", branch, "--project", "shop", "--no-wait")
        assert asked.exit_code == 0, asked.output

    def leases() -> list[str]:
        found = own.cluster.kubectl(
            "get", "lease", "-n", own.namespace, "-l", "envprov.io/host-reservation", "-o", "name"
        )
        return found.split()

    up("old")
    eventually(lambda: own.is_ready("old"), within=60, message="it does not come up")
    controller.kill()
    (lease,) = leases()
    own.cluster.kubectl("delete", lease, "-n", own.namespace)  # as one that came up before hosts were reserved
    own.start_controller().ready()
    eventually(leases, message="the host is not reserved again")
    up("new")

    def refused() -> str:
        found = condition(own.environment_of("new") or {}, "Accepted")
        return str(found["message"]) if found.get("reason") == "HostTaken" else ""

    assert f"host {host} is reserved by branch old of Project shop" in eventually(refused, message="both have it")
    assert own.is_ready("old")
