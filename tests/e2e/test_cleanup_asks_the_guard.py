"""A hold whose holder is gone: the cleanup asks, and the guard, which alone sees who uses what, takes it off."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime

import httpx

from envprov.domain.holds import Hold, Holder
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.cli.calling import Cli
from tests.shipped import Installation, Process


def metric(controller: Process, name: str) -> float | None:
    """A metric without labels, as the controller shows it."""
    said = httpx.get(f"http://127.0.0.1:{controller.port}/metrics").text
    return next((float(line.split()[1]) for line in said.splitlines() if line.startswith(f"{name} ")), None)


def held(cluster: Cluster, namespace: str) -> set[str]:
    """Keys of the holds on a namespace and on the account in it."""
    found = json.loads(cluster.kubectl("get", f"ns/{namespace}", "sa/deployer", "-n", namespace, "-o", "json"))
    notes = [item["metadata"].get("annotations", {}) for item in found["items"]]
    return {key for some in notes for key in some if key.startswith("hold.envprov.io/")}


def test_a_hold_of_nobody_is_taken_off_at_once_by_the_guard(own: Installation) -> None:
    cluster, shared = own.cluster, f"shared-{secrets.token_hex(4)}"
    # By itself the guard would look again in ten minutes.
    own.settings(guard={"interval": "PT10M", "release_grace": "PT1S"})
    controller = own.start_controller().ready()
    eventually(lambda: metric(controller, "envprov_guard_usage_complete") == 1, within=60)
    cluster.kubectl("create", "namespace", shared)
    cluster.kubectl("create", "serviceaccount", "deployer", "-n", shared)
    gone = Hold(Holder("Environment", own.namespace, "gone-abcdefgh", "u-gone"), datetime.now(UTC))
    declared = Hold(Holder("External", "", "team"), datetime.now(UTC))
    marks = [f"{hold.key}={hold.value()}" for hold in (gone, declared)]
    for what in (f"ns/{shared}", "sa/deployer"):
        cluster.kubectl("annotate", what, "-n", shared, *marks)
    cleaner = Cli(cluster, own.namespace, own.folder, own.kubeconfig("envprov-cleanup"), own.environment())

    said = cleaner.call("cleanup", "-o", "json")
    assert said.returncode == 0, said.stderr
    (row,) = (row for row in json.loads(said.stdout) if row["what"] == f"hold on ServiceAccount {shared}/deployer")
    assert (row["why"], row["action"]) == ("HolderGone", "release: done")
    assert row["evidence"] == f"Environment {own.namespace}/gone-abcdefgh with UID u-gone is not there"
    assert held(cluster, shared) == {declared.key}
    again = cleaner.call("cleanup", "-o", "json")
    assert json.loads(again.stdout) == []
    eventually(lambda: metric(controller, "envprov_cleanup_last_success_timestamp_seconds"), within=30)
    assert metric(controller, "envprov_cleanup_faults") == 0
    cluster.kubectl("annotate", f"ns/{shared}", "-n", shared, f"{declared.key}-")
    cluster.kubectl("annotate", "sa/deployer", "-n", shared, f"{declared.key}-")
    cluster.discard(shared)
