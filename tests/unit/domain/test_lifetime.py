"""Lifetimes: what is one, and when it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from envprov.domain.lifetime import ExpireAfter, Keep, Lifetime, Until, expiry

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
