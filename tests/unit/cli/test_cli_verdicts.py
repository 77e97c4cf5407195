"""What a state means to somebody who waits."""

from __future__ import annotations

from typing import Any

import pytest

from envprov.cli.exits import ExitCode
from envprov.cli.verdicts import judge_coming, judge_going, judge_sleep, last_word

Item = dict[str, Any]

MOMENT = "2026-12-01T00:00:00Z"


def environment(*conditions: dict[str, Any], generation: int = 2, uid: str = "u1", deleting: bool = False) -> Item:
    """Return an Environment as the API server sends it."""
    metadata = {
        "name": "x-abcdefgh",
        "namespace": "envprov-system",
        "uid": uid,
        "resourceVersion": "7",
        "generation": generation,
        "creationTimestamp": MOMENT,
    }
    return {
        "metadata": metadata | ({"deletionTimestamp": MOMENT} if deleting else {}),
        "spec": {"project": "shop", "branch": "x"},
        "status": {"conditions": list(conditions)},
    }


def condition(kind: str, status: str, reason: str, message: str = "", generation: int = 2) -> dict[str, Any]:
    """Return a condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": MOMENT,
    }


READY = condition("Ready", "True", "Ready", "https://x.dev.example.com")
STALLED = condition("Ready", "False", "Stalled", "no")


@pytest.mark.parametrize(
    ("item", "code"),
    [
        pytest.param(environment(), None, id="nothing reported -> goes on"),
        pytest.param(environment(READY), ExitCode.DONE, id="ready -> done"),
        pytest.param(
            environment(condition("Ready", "True", "Ready", generation=1)), None, id="ready for an older wish"
        ),
        pytest.param(environment(condition("Ready", "False", "Starting")), None, id="starting -> goes on"),
        pytest.param(environment(condition("Ready", "False", "Unhealthy")), None, id="unhealthy -> goes on"),
        pytest.param(environment(condition("Ready", "False", "Retrying")), None, id="retrying -> goes on"),
        pytest.param(
            environment(STALLED, condition("Accepted", "False", "NameTaken")),
            ExitCode.REFUSED,
            id="name taken -> refused",
        ),
        pytest.param(
            environment(STALLED, condition("Deployed", "False", "Forbidden")),
            ExitCode.REFUSED,
            id="forbidden -> refused",
        ),
        pytest.param(
            environment(STALLED, condition("Deployed", "False", "RenderFailed")),
            ExitCode.FAILED,
            id="stalled -> failed",
        ),
        pytest.param(
            environment(STALLED, condition("Accepted", "False", "NameTaken", generation=1)),
            ExitCode.FAILED,
            id="stalled, and an older wish was refused -> failed",
        ),
        pytest.param(environment(deleting=True), ExitCode.FAILED, id="deleted by somebody else -> failed"),
        pytest.param(None, ExitCode.FAILED, id="gone -> failed"),
    ],
)
def test_the_way_up(item: Item | None, code: ExitCode | None) -> None:
    outcome = judge_coming(item, generation=2)
    assert (outcome.code if outcome else None) == code


@pytest.mark.parametrize(
    ("item", "code"),
    [
        pytest.param(environment(READY, deleting=True, uid="old"), None, id="the old one goes -> goes on"),
        pytest.param(None, None, id="the old one has gone -> goes on"),
        pytest.param(environment(READY, uid="new"), ExitCode.DONE, id="the new one is ready -> done"),
    ],
)
def test_the_way_up_after_a_teardown(item: Item | None, code: ExitCode | None) -> None:
    outcome = judge_coming(item, generation=1, leaving="old")
    assert (outcome.code if outcome else None) == code


ASLEEP = condition("Ready", "False", "Asleep", "scaled to nothing")


def sleeping(*conditions: dict[str, Any], **given: Any) -> Item:  # noqa: ANN401 - as above
    """Return an Environment that is to sleep."""
    item = environment(*conditions, **given)
    return item | {"spec": item["spec"] | {"asleep": True}}


@pytest.mark.parametrize(
    ("item", "code"),
    [
        pytest.param(sleeping(), None, id="nothing reported -> goes on"),
        pytest.param(sleeping(condition("Ready", "False", "FallingAsleep")), None, id="falling asleep -> goes on"),
        pytest.param(
            sleeping(condition("Ready", "False", "Asleep", generation=1)), None, id="asleep for an older wish"
        ),
        pytest.param(sleeping(condition("Ready", "False", "Retrying")), None, id="retrying -> goes on"),
        pytest.param(sleeping(ASLEEP), ExitCode.DONE, id="asleep -> done"),
        pytest.param(sleeping(STALLED), ExitCode.FAILED, id="stalled -> failed"),
        pytest.param(environment(ASLEEP), ExitCode.FAILED, id="woken by somebody else -> failed"),
        pytest.param(sleeping(deleting=True), ExitCode.FAILED, id="deleted -> failed"),
        pytest.param(None, ExitCode.FAILED, id="gone -> failed"),
    ],
)
def test_the_way_to_sleep(item: Item | None, code: ExitCode | None) -> None:
    outcome = judge_sleep(item, generation=2)
    assert (outcome.code if outcome else None) == code


def test_who_waits_for_it_to_come_up_hears_that_it_was_put_to_sleep() -> None:
    outcome = judge_coming(sleeping(ASLEEP), generation=2)
    assert outcome is not None
    assert (outcome.code, "envprov wake" in outcome.message) == (ExitCode.FAILED, True)


def test_the_way_down_ends_when_the_object_is_gone() -> None:
    assert judge_going(environment(deleting=True), uid="u1") is None
    for item in (None, environment(uid="u2")):
        outcome = judge_going(item, uid="u1")
        assert outcome is not None
        assert outcome.code is ExitCode.DONE


def test_the_last_word_is_what_holds_it_up() -> None:
    blocked = condition("TeardownBlocked", "True", "StillThere", "Pod web")
    assert last_word(environment(READY, blocked)) == "StillThere: Pod web"
    assert last_word(environment(READY)) == "Ready: https://x.dev.example.com"
    assert last_word(environment()) == "no controller has worked on it yet"
