"""Lifetimes: what is one, and when it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from envprov.domain.errors import Forbidden
from envprov.domain.lifetime import ExpireAfter, Extension, Keep, Lifetime, Until, expiry, extend, parse_span

LIFETIME: TypeAdapter[Lifetime] = TypeAdapter(Lifetime)
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("P7D", timedelta(days=7), id="days"),
        pytest.param("P2W", timedelta(days=14), id="weeks"),
        pytest.param("PT12H", timedelta(hours=12), id="hours"),
        pytest.param("PT36H", timedelta(hours=36), id="more hours than a day"),
        pytest.param("P1DT12H30M", timedelta(days=1, hours=12, minutes=30), id="days, hours, minutes"),
        pytest.param("PT1S", timedelta(seconds=1), id="a second"),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    read = LIFETIME.validate_python({"kind": "expire-after", "idle": text})
    assert read == ExpireAfter(kind="expire-after", idle=expected)
    assert LIFETIME.validate_python(LIFETIME.dump_python(read, mode="json", by_alias=True)) == read


@pytest.mark.parametrize(
    "given",
    [
        "7 days",
        "1:00:00",
        "P1M",
        "P1Y",
        "P1.5D",
        "P1W2D",
        "-P1D",
        "+P1D",
        "P1DT",
        "PT",
        "P",
        "p7d",
        "PT0S",
        "P7D\n",
        "",
        3600,
        None,
    ],
)
def test_what_is_no_duration(given: object) -> None:
    with pytest.raises(ValidationError):
        LIFETIME.validate_python({"kind": "expire-after", "idle": given})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2026-12-24T18:00:00Z", datetime(2026, 12, 24, 18, tzinfo=UTC), id="UTC"),
        pytest.param("2026-12-24T18:00:00+09:00", datetime(2026, 12, 24, 9, tzinfo=UTC), id="Tokyo"),
        pytest.param(
            "2026-12-24T18:00:00.5Z", datetime(2026, 12, 24, 18, 0, 0, 500000, tzinfo=UTC), id="half a second"
        ),
    ],
)
def test_dates(text: str, expected: datetime) -> None:
    assert LIFETIME.validate_python({"kind": "until", "at": text}) == Until(kind="until", at=expected)


@pytest.mark.parametrize(
    "given",
    [
        "tomorrow",
        "2026-12-24",
        "2026-12-24T18:00:00",
        "2026-12-24T18:00Z",
        "2026-12-24 18:00:00Z",
        "2026-12-24T18:00:00+24:00",
        "0000-12-24T18:00:00Z",
        "2026-02-30T00:00:00Z",
        1790000000,
        datetime(2026, 12, 24),  # noqa: DTZ001 - it has no time zone, which is why it is refused
    ],
)
def test_what_is_no_date(given: object) -> None:
    with pytest.raises(ValidationError):
        LIFETIME.validate_python({"kind": "until", "at": given})


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        pytest.param(None, None, id="no rule -> never"),
        pytest.param(Keep(kind="keep"), None, id="keep -> never"),
        pytest.param(
            ExpireAfter(kind="expire-after", idle=timedelta(days=7)),
            datetime(2026, 12, 1, 12, 0, tzinfo=UTC),
            id="expire-after -> so long after the last activity",
        ),
        pytest.param(
            Until(kind="until", at=datetime(2026, 11, 1, tzinfo=UTC)),
            datetime(2026, 11, 1, tzinfo=UTC),
            id="until -> then, though it has passed",
        ),
    ],
)
def test_expiry(lifetime: Lifetime | None, expected: datetime | None) -> None:
    assert expiry(lifetime, last_activity=NOON) == expected


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3d", 3 * DAY), ("12h", DAY / 2), ("1w3d", 10 * DAY), ("90m", DAY / 16), ("0d", None), ("", None), ("3", None)],
)
def test_spans_as_people_write_them(text: str, expected: timedelta | None) -> None:
    assert parse_span(text) == expected


@pytest.mark.parametrize(
    ("end", "span", "expected"),
    [
        pytest.param(NOON + DAY, 3 * DAY, NOON + 4 * DAY, id="ends tomorrow, three days more -> from its end"),
        pytest.param(NOON - DAY, 3 * DAY, NOON + 3 * DAY, id="has ended -> from now"),
        pytest.param(NOON + DAY, None, NOON, id="no span -> activity now, and no more"),
        pytest.param(NOON + 9 * DAY, None, NOON + 9 * DAY, id="no span, extended further before -> as far as that"),
    ],
)
def test_extensions(end: datetime, span: timedelta | None, expected: datetime) -> None:
    lifetime = ExpireAfter(kind="expire-after", idle=2 * DAY)
    assert extend(end, span, now=NOON, maximum=None, lifetime=lifetime) == Extension(NOON, expected)


def test_an_extension_without_a_span_does_not_end_what_was_extended_beyond_its_date() -> None:
    """It ended at a date, was extended by three days, and somebody asks for more without saying how much."""
    over, far = Until(kind="until", at=NOON - DAY), NOON + 2 * DAY
    extension = extend(far, None, now=NOON, maximum=None, lifetime=over)
    assert expiry(over, last_activity=NOON - 9 * DAY, extension=extension) == far


def test_an_extension_beyond_what_the_project_allows_is_refused_with_how_far_it_may_go() -> None:
    assert extend(NOON + DAY, DAY, now=NOON, maximum=2 * DAY).until == NOON + 2 * DAY
    with pytest.raises(Forbidden, match=r"at most \(limits.lifetime\), and this would be 2026-11-27T12:00:00Z"):
        extend(NOON + DAY, 2 * DAY, now=NOON, maximum=2 * DAY)


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)))
def test_an_extension_is_read_as_it_was_written(at: datetime, until: datetime) -> None:
    said = Extension(at.replace(microsecond=0), until.replace(microsecond=0))
    assert Extension.decode(said.encode()) == (said if min(at.year, until.year) >= 1000 else None)


@pytest.mark.parametrize("text", ["", "now then", "2026-11-24T12:00:00Z", "2026-11-24T12:00:00Z 2026-13-24T12:00:00Z"])
def test_an_extension_that_was_edited_by_hand_counts_for_nothing(text: str) -> None:
    assert Extension.decode(text) is None
