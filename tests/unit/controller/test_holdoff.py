"""Holding off: longer after each failure, at once for another digest."""

from __future__ import annotations

from datetime import timedelta

import pytest

from envprov.controller.holdoff import Holdoff
from envprov.domain.errors import EnvprovError, HelmFailed, HelmTimeout, RenderFailed
from tests.unit.builders import NOW

SECOND = timedelta(seconds=1)


def test_each_failure_rests_longer_up_to_five_minutes() -> None:
    holdoff = Holdoff()
    rests = [holdoff.failed("a", "d1", NOW, HelmFailed("x")).total_seconds() for _ in range(9)]
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert holdoff.failed("a", "d1", NOW, HelmTimeout("x")) == timedelta(minutes=5)


@pytest.mark.parametrize("failures", [20, 2000])
def test_very_many_failures_are_no_overflow(failures: int) -> None:
    holdoff = Holdoff()
    rests = {holdoff.failed("a", "d1", NOW, HelmFailed("x")) for _ in range(failures)}
    assert max(rests) == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("error", "rest"),
    [
        pytest.param(HelmFailed("x"), timedelta(seconds=5), id="may pass -> a moment"),
        pytest.param(RenderFailed("x"), timedelta(minutes=5), id="cannot pass -> the longest time at once"),
    ],
)
def test_the_first_rest(error: EnvprovError, rest: timedelta) -> None:
    assert Holdoff().failed("a", "d1", NOW, error) == rest


def test_the_rest_ends_by_the_clock_and_not_by_being_asked() -> None:
    holdoff = Holdoff()
    holdoff.failed("a", "d1", NOW, HelmFailed("x"))
    assert holdoff.remaining("a", "d1", NOW) == 5 * SECOND
    assert holdoff.remaining("a", "d1", NOW + 2 * SECOND) == 3 * SECOND
    assert holdoff.remaining("a", "d1", NOW + 5 * SECOND) is None


def test_another_digest_or_another_key_does_not_rest() -> None:
    holdoff = Holdoff()
    for _ in range(3):
        holdoff.failed("a", "d1", NOW, HelmFailed("x"))
    assert holdoff.remaining("a", "d2", NOW) is None
    assert holdoff.remaining("b", "d1", NOW) is None
    assert holdoff.failed("a", "d2", NOW, HelmFailed("x")) == 5 * SECOND


def test_what_is_forgotten_begins_anew() -> None:
    holdoff = Holdoff()
    for _ in range(3):
        holdoff.failed("a", "d1", NOW, HelmFailed("x"))
    holdoff.forget("a")
    assert holdoff.remaining("a", "d1", NOW) is None
    assert holdoff.failed("a", "d1", NOW, HelmFailed("x")) == 5 * SECOND
    holdoff.forget("never heard of")
