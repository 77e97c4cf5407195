"""Fifty branches at once, and gone at once: all right, no cross-talk."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import Shop
from tests.eventually import eventually

Commits = Callable[[int], str]
COUNT = 50


def taken(deliver: Callable[[], int]) -> None:
    """Deliver until it is taken: a receiver on a computer that is too busy to write in a second says 503."""

    def once() -> bool:
        status = deliver()
        assert status in {202, 503}
        return status == 202

    eventually(once, every=1, message="a delivery is not taken")


@pytest.mark.timeout(900)
def test_fifty_come_and_go(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop(values={"message": "{branch} at {revision}"})
    branches = [f"event/{number:04}" for number in range(COUNT)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: taken(lambda: shop.create(branches[number], commits(number))), range(COUNT)))

    def ready() -> int:
        return sum(
            entry["type"] == "Ready" and entry["status"] == "True"
            for item in shop.installation.environments()
            if item["spec"]["project"] == shop.name
            for entry in item.get("status", {}).get("conditions", [])
        )

    eventually(lambda: ready() == COUNT, within=400, every=0.5, message=f"not all of {COUNT} are Ready")
    mine = [item for item in shop.installation.environments() if item["spec"]["project"] == shop.name]
    assert len({item["status"]["namespace"] for item in mine}) == COUNT
    found = json.loads(shop.installation.cluster.kubectl("get", "deploy", "-A", "-o", "json"))["items"]
    messages = {item["metadata"]["namespace"]: item["metadata"]["annotations"].get("message") for item in found}
    for item in mine:
        assert messages[item["status"]["namespace"]] == f"{item['spec']['branch']} at {item['spec']['revision']}"

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda number: taken(lambda: shop.delete(branches[number], commits(number))), range(COUNT)))
    eventually(
        lambda: not [item for item in shop.installation.environments() if item["spec"]["project"] == shop.name],
        within=400,
        every=0.5,
        message="not all are gone",
    )
    left = shop.installation.cluster.kubectl("get", "ns", "-l", f"envprov.io/project={shop.name}", "-o", "name")
    assert left == ""
