"""``cleanup`` asks the controller for what only that may do, waits for it, and says what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.eventually import eventually
from tests.integration.cli.calling import MOMENT, Cli, condition
from tests.shipped import Installation, installed

UNLOCK = "envprov.io/unlock"


@pytest.fixture
def installation(cli: Cli) -> Iterator[Installation]:
    """Yield envprov installed, with its ServiceAccounts and their rights; nothing runs."""
    with installed(cli.cluster, cli.namespace, cli.folder) as there:
        yield there


@pytest.fixture
def cleaner(cli: Cli, installation: Installation) -> Cli:
    """Return the cron job at the terminal."""
    return Cli(cli.cluster, cli.namespace, cli.folder, installation.kubeconfig("envprov-cleanup"))


def stuck(cli: Cli) -> str:
    """Write an Environment whose release has been pending for long; return its name."""
    cli.project("shop")
    name = cli.record("stuck")
    tell(cli, name, "pending-upgrade")
    return name


def tell(cli: Cli, name: str, state: str) -> None:
    """Report a release as a controller would."""
    conditions = [
        condition("Deployed", "False", "Deploying", "upgrades release"),
        condition("Ready", "False", "Retrying", "a hook does not end"),
    ]
    cli.report(name, *conditions, release={"name": name, "status": state})


def asked(cli: Cli, name: str) -> str:
    """When the controller was asked last."""
    (live,) = (item for item in cli.get("env") if item["metadata"]["name"] == name)
    return str(live["metadata"].get("annotations", {}).get(UNLOCK, ""))


def rows(said: str) -> dict[str, Any]:
    return {row["what"]: row for row in json.loads(said)}


def test_without_a_controller_it_is_asked_for_and_counts_as_not_done(cli: Cli, cleaner: Cli) -> None:
    name = stuck(cli)
    planned = cleaner.call("cleanup", "--dry-run", "-o", "json")
    assert (planned.returncode, asked(cli, name)) == (0, "")
    row = rows(planned.stdout)[f"release {name}"]
    assert (row["why"], row["since"], row["action"]) == ("ReleaseStuck", "2026-01-01T00:00:00+00:00", "unlock")
    assert row["evidence"] == "branch stuck; Helm says pending-upgrade: upgrades release"
    said = cleaner.call("cleanup", "-o", "json")
    assert said.returncode == 1
    assert rows(said.stdout)[f"release {name}"]["action"] == "unlock: asked for"
    assert f"release {name}: no controller answers in namespace {cli.namespace}" in said.stderr
    assert asked(cli, name)
    (run,) = cli.get("configmap", "-l", "envprov.io/record=cleanup")
    assert json.loads(run["data"]["rows"]) == {"ReleaseStuck/failed": 1}
    assert "succeededAt" not in run["data"]


def test_it_waits_until_the_controller_has_done_it_and_a_second_run_does_nothing(cli: Cli, cleaner: Cli) -> None:
    name = stuck(cli)
    cli.lease()
    process = cleaner.start("cleanup", "-o", "json")
    eventually(lambda: asked(cli, name), within=60, message="the controller was not asked")
    tell(cli, name, "deployed")
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 0, complained
    assert rows(said)[f"release {name}"]["action"] == "unlock: done"
    again = cleaner.call("cleanup", "-o", "json")
    assert (again.returncode, json.loads(again.stdout)) == (0, []), again.stderr


def test_what_is_not_done_in_time_is_told_with_what_the_controller_says(cli: Cli, cleaner: Cli) -> None:
    name = stuck(cli)
    cli.lease()
    settings = cli.folder / "quick.yaml"
    settings.write_text("helm: {uninstall_timeout: PT1S}\n")
    said = cleaner.call("cleanup", "-o", "json", "--settings", str(settings))
    assert said.returncode == 1
    assert f"release {name}: asked for, and not done within 1 s: a hook does not end" in said.stderr


def test_two_at_once_do_everything_once_and_neither_fails(cli: Cli, cleaner: Cli) -> None:
    cli.project("shop")
    names = {cli.record(f"over/{number}", lifetime={"kind": "until", "at": MOMENT}) for number in range(6)}
    for name in names:
        cli.report(name, observedGeneration=1)
    both = [cleaner.start("cleanup", "-o", "json") for _ in range(2)]
    for process in both:
        said, complained = process.communicate(timeout=60)
        assert process.returncode == 0, complained
        actions = {row["action"] for row in json.loads(said)}
        assert actions <= {"delete: done", "delete: not now, it has changed meanwhile"}
    assert [item for item in cli.get("env") if "deletionTimestamp" not in item["metadata"]] == []
