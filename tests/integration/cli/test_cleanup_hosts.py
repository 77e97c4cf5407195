"""``cleanup`` gives back hosts whose environment is gone, with the rights of the CronJob, and no others."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from envprov.domain.desired import Identity
from envprov.domain.hosts import lease, lease_name
from envprov.domain.names import slug
from tests.integration.cli.calling import Cli
from tests.shipped import Installation, installed
from tests.unit.builders import NOW


@pytest.fixture
def installation(cli: Cli) -> Iterator[Installation]:
    """Yield envprov installed, with its ServiceAccounts and their rights; nothing runs."""
    with installed(cli.cluster, cli.namespace, cli.folder) as there:
        yield there


def reserve(cli: Cli, host: str, branch: str, uid: str) -> None:
    """Write the Lease of an environment."""
    cli.apply(lease(Identity(slug("shop", branch), cli.namespace, "shop", branch, uid), host, NOW))


def hosts(cli: Cli) -> set[str]:
    """What is reserved."""
    found = cli.get("lease", "-l", "envprov.io/host-reservation")
    return {item["metadata"]["annotations"]["envprov.io/host"] for item in found}


def test_hosts_of_environments_that_are_gone_are_given_back(cli: Cli, installation: Installation) -> None:
    cli.project("shop")
    alive = cli.record("alive")
    uid = next(item["metadata"]["uid"] for item in cli.get("env") if item["metadata"]["name"] == alive)
    reserve(cli, "alive.example.com", "alive", uid)
    reserve(cli, "before.example.com", "alive", "an-older-uid")
    reserve(cli, "gone.example.com", "gone", "u-gone")
    metadata = {
        "name": "by-hand",
        "namespace": cli.namespace,
        "labels": {"app.kubernetes.io/managed-by": "envprov", "envprov.io/host-reservation": "true"},
        "annotations": {"envprov.io/host": "by-hand.example.com"},
    }
    by_hand = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
    cli.apply(by_hand)
    cleaner = Cli(cli.cluster, cli.namespace, cli.folder, installation.kubeconfig("envprov-cleanup"))

    planned = cleaner.call("cleanup", "--dry-run", "-o", "json")
    assert planned.returncode == 0, planned.stderr
    rows = {row["what"]: row for row in json.loads(planned.stdout)}
    assert set(rows) == {"host before.example.com", "host gone.example.com"}
    row = rows["host gone.example.com"]
    assert (row["why"], row["action"]) == ("HolderGone", "release")
    name = slug("shop", "gone")
    assert row["evidence"] == f"branch gone; Environment {name} with UID u-gone is not there"
    assert hosts(cli) == {f"{one}.example.com" for one in ("alive", "before", "gone", "by-hand")}

    done = cleaner.call("cleanup")
    assert done.returncode == 0, done.stderr
    assert "release: done" in done.stdout
    assert hosts(cli) == {"alive.example.com", "by-hand.example.com"}
    again = cleaner.call("cleanup", "-o", "json")
    assert (again.returncode, json.loads(again.stdout or "[]")) == (0, []), again.stderr
    assert lease_name("alive.example.com") in {item["metadata"]["name"] for item in cli.get("lease")}
