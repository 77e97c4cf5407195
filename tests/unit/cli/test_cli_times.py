"""Times as people write and read them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.cli.times import describe, parse_lifetime, parse_moment, parse_timeout
from envprov.domain.errors import ConfigError

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        pytest.param("90s", timedelta(seconds=90), id="seconds"),
        pytest.param("600", timedelta(minutes=10), id="a number is seconds"),
        pytest.param("10m", timedelta(minutes=10), id="minutes"),
        pytest.param("1h30m", timedelta(minutes=90), id="hours and minutes"),
        pytest.param("1h5s", timedelta(seconds=3605), id="hours and seconds"),
    ],
)
def test_a_timeout_is_read(text: str, limit: timedelta) -> None:
    assert parse_timeout(text) == limit


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "10 m", "1d", "m", "1.5h", "99999999999s", "\u0661m"])
def test_what_is_no_timeout_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--timeout"):
        parse_timeout(text)


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [
        pytest.param("keep", {"kind": "keep"}, id="keep"),
        pytest.param("P7D", {"kind": "expire-after", "idle": "P7D"}, id="days"),
        pytest.param("PT12H", {"kind": "expire-after", "idle": "PT12H"}, id="hours"),
        pytest.param(
            "2026-12-24T18:00:00+09:00",
            {"kind": "until", "at": "2026-12-24T18:00:00+09:00"},
            id="date with time zone",
        ),
        pytest.param("2026-12-24T18:00:00Z", {"kind": "until", "at": "2026-12-24T18:00:00Z"}, id="date in UTC"),
    ],
)
def test_a_lifetime_is_read(text: str, lifetime: dict[str, str]) -> None:
    parsed = parse_lifetime(text, now=NOW)
    assert parsed.model_dump(mode="json", by_alias=True, exclude_none=True) == lifetime


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("7d", "must be keep, an ISO 8601 duration", id="shorthand"),
        pytest.param("P0D", "must be keep, an ISO 8601 duration", id="no time at all"),
        pytest.param("P", "must be keep, an ISO 8601 duration", id="half a duration"),
        pytest.param("Keep", "must be keep, an ISO 8601 duration", id="wrong case"),
        pytest.param("2026-12-24", "must say its time zone", id="date without time zone"),
        pytest.param("2026-11-30T23:59:59Z", "has passed already", id="date in the past"),
    ],
)
def test_what_is_no_lifetime_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_lifetime(text, now=NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (18180, "5h3m"),
        (28800, "8h"),
        (172799, "47h"),
        (172800, "2d"),
        (442800, "5d3h"),
        (691200, "8d"),
        (63072000, "2y"),
        (70000000, "2y80d"),
        (252288000, "8y"),
    ],
)
def test_ages_read_as_in_kubectl(seconds: int, text: str) -> None:
    assert describe(timedelta(seconds=seconds)) == text


def test_moments_of_the_api_are_read() -> None:
    assert parse_moment("2026-12-01T00:00:00Z") == NOW
    assert parse_moment("2026-12-01T00:00:00.000000Z") == NOW
    assert parse_moment("2026-12-01T00:00:00") is None
    assert parse_moment(None) is None


@given(st.text(max_size=40))
def test_no_text_makes_the_parsers_fail_otherwise(text: str) -> None:
    for parse in (parse_timeout, lambda given: parse_lifetime(given, now=NOW)):
        with suppress(ConfigError):
            parse(text)
