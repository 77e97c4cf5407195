"""How a cleanup ended outlives it: on record, and in the controller's metrics."""

from __future__ import annotations

from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from envprov.controller.cleanup_metrics import CleanupMetrics
from envprov.domain.cleaning import Why
from envprov.domain.cleanup_run import Became, CleanupRun
from tests.unit.builders import NOW

RUN = CleanupRun(
    NOW,
    NOW + timedelta(seconds=9),
    NOW - timedelta(hours=1),
    faults=2,
    rows={(Why.EXPIRED, Became.DONE): 3, (Why.RELEASE_STUCK, Became.FAILED): 1},
)


def shown(run: CleanupRun | None) -> list[str]:
    registry = CollectorRegistry()
    CleanupMetrics(registry, lambda: run)
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_what_the_last_run_came_to_is_shown() -> None:
    assert shown(RUN) == [
        "envprov_cleanup_last_run_timestamp_seconds 1.795521609e+09",
        "envprov_cleanup_last_success_timestamp_seconds 1.795518e+09",
        "envprov_cleanup_faults 2.0",
        'envprov_cleanup_found{outcome="done",why="Expired"} 3.0',
        'envprov_cleanup_found{outcome="failed",why="ReleaseStuck"} 1.0',
    ]


def test_before_the_first_one_nothing_is_shown() -> None:
    assert shown(None) == []
    assert not any("success" in line for line in shown(CleanupRun(NOW, NOW, None)))


def test_what_is_on_record_is_what_was_put_there() -> None:
    assert CleanupRun.decode(RUN.encode()) == RUN


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"startedAt": "yesterday"}, id="no moment"),
        pytest.param({"finishedAt": "2026-11-24T12:00:00"}, id="no time zone"),
        pytest.param({"faults": "some"}, id="no number"),
        pytest.param({"rows": "[1]"}, id="rows of another kind"),
        pytest.param({"rows": '{"Expired/lost": 1}'}, id="an outcome of another version"),
        pytest.param({"rows": "{"}, id="no JSON"),
    ],
)
def test_what_somebody_has_edited_tells_nothing(change: dict[str, str]) -> None:
    assert CleanupRun.decode(RUN.encode() | change) is None
