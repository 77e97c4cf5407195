"""``queue`` against a real API server: the line as it was reported, and the budgets as the ledger has them."""

from __future__ import annotations

import json
import re

import yaml

from envprov.domain.ledger import CLUSTER_BUDGET, NAME, Entry
from envprov.domain.sizes import DEFAULT_SIZES
from tests.integration.cli.calling import Cli, condition

REASON = "needs 2 CPU, 0.5 free of 3.5 (Project shop); next expiry: event/0007 at 2026-11-24 18:00 UTC"


def queue(position: int, **more: object) -> dict[str, object]:
    needs = {"environments": "1", "cpu": "2", "memory": "6Gi"}
    given = {"position": position, "reason": REASON, "budget": "Project shop", "size": "M", "needs": needs}
    return given | {"since": "2026-01-01T00:00:00Z"} | more


def fill(cli: Cli) -> tuple[str, str]:
    """Three environments of shop are admitted, two wait; of game one is."""
    cli.project("shop", limits={"environments": 9, "requests": {"cpu": "3500m"}})
    cli.project("game")
    given = {f"e{number}": Entry(f"u{number}", "shop", "S", DEFAULT_SIZES["S"]) for number in range(3)}
    given["e9"] = Entry("u9", "game", "L", DEFAULT_SIZES["L"])
    metadata = {"name": NAME, "namespace": cli.namespace, "annotations": {CLUSTER_BUDGET: '{"cpu": "200"}'}}
    data = {name: entry.encode() for name, entry in given.items()}
    cli.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    waits = condition("Ready", "False", "Queued", f"place 1: {REASON}")
    second, first = cli.record("feature/a"), cli.record("feature/b")
    cli.report(second, waits, queue=queue(2))
    cli.report(first, waits, queue=queue(1, firstSince="2026-01-01T00:00:00Z"))
    cli.record("feature/c")
    return first, second


def test_nobody_waits_and_no_budget_is_set(cli: Cli) -> None:
    said = cli.call("queue")
    assert (said.returncode, said.stdout) == (0, "")
    assert "nobody waits for room" in said.stderr
    assert "no budget is set" in said.stderr
    assert json.loads(cli.call("queue", "-o", "json").stdout) == {"line": [], "budgets": []}


def test_line_and_budgets_are_shown_to_people(cli: Cli) -> None:
    first, _ = fill(cli)
    said = cli.call("queue")
    assert said.returncode == 0
    rows = [re.split(r" {3,}", line) for line in said.stdout.splitlines()]
    assert rows[0] == ["PLACE", "BRANCH", "PROJECT", "SIZE", "NEEDS", "SINCE", "WAITS FOR"]
    assert [row[:5] for row in rows[1:3]] == [
        ["1", "feature/b", "shop", "M", "2 CPU, 6Gi memory"],
        ["2", "feature/a", "shop", "M", "2 CPU, 6Gi memory"],
    ]
    assert rows[1][-1] == REASON
    assert rows[4:] == [
        ["BUDGET", "RESOURCE", "USED", "FREE", "OF"],
        ["the cluster", "cpu", "9", "191", "200"],
        ["Project shop", "environments", "3", "6", "9"],
        ["Project shop", "cpu", "3", "500m", "3500m"],
    ]
    wide = cli.call("queue", "-o", "wide").stdout
    assert first in wide
    assert "1 environment, 2 CPU, 6Gi memory" in wide
    assert "Project shop" not in cli.call("queue", "--project", "game").stdout


def test_line_and_budgets_are_there_for_programs(cli: Cli) -> None:
    first, second = fill(cli)
    told = json.loads(cli.call("queue", "-o", "json").stdout)
    assert told["line"][0] == {"environment": first, "project": "shop", "branch": "feature/b"} | queue(
        1, firstSince="2026-01-01T00:00:00Z"
    )
    assert told["budgets"][0] == {"budget": "the cluster", "resource": "cpu", "used": "9", "free": "191", "of": "200"}
    assert yaml.safe_load(cli.call("queue", "-o", "yaml").stdout) == told
    assert cli.call("queue", "-o", "name").stdout.split() == [
        f"environment.envprov.io/{first}",
        f"environment.envprov.io/{second}",
    ]
