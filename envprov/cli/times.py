"""Times as people write and read them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from pydantic import TypeAdapter, ValidationError

from envprov.domain.errors import ConfigError
from envprov.domain.lifetime import Lifetime

_TIMEOUT = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s?)?", re.ASCII)
_LIFETIME: TypeAdapter[Lifetime] = TypeAdapter(Lifetime)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


def parse_timeout(text: str) -> timedelta:
    """
    A time limit: ``90s``, ``10m``, ``1h30m``, or a number of seconds.

    Args:
        text: As it was written.

    Raises:
        ConfigError: It is none, or none above zero.

    """
    matched = _TIMEOUT.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in matched.groups()) if matched else (0, 0, 0)
    limit = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if not limit:
        raise ConfigError(f"--timeout {text!r}: must be a time above zero such as 90s, 10m or 1h30m")
    return limit


def parse_lifetime(text: str, *, now: datetime) -> Lifetime:
    """
    A lifetime: ``keep``, an ISO 8601 duration without activity, or a date with time zone.

    Args:
        text: As it was written.
        now: Aware moment; the end must come after it.

    Raises:
        ConfigError: It is none of them, or its date has passed.

    """
    try:
        if text == "keep":
            return _LIFETIME.validate_python({"kind": "keep"})
        if text.startswith("P"):
            return _LIFETIME.validate_python({"kind": "expire-after", "idle": text})
        end = datetime.fromisoformat(text)
    except (ValueError, ValidationError):
        raise ConfigError(
            f"--lifetime {text!r}: must be keep, an ISO 8601 duration such as P7D or PT12H, "
            "or a date such as 2026-12-24T18:00:00+09:00"
        ) from None
    if end.tzinfo is None:
        raise ConfigError(f"--lifetime {text!r}: must say its time zone, as 2026-12-24T18:00:00+09:00 does")
    if end <= now:
        raise ConfigError(f"--lifetime {text!r}: has passed already")
    return _LIFETIME.validate_python({"kind": "until", "at": end})


def parse_moment(text: object) -> datetime | None:
    """A moment as the API server writes it; None for anything else."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def describe(span: timedelta) -> str:
    """
    A span as kubectl writes ages: two units while the first is small, then one.

    Args:
        span: Below zero counts as zero.

    Source: https://pkg.go.dev/k8s.io/apimachinery/pkg/util/duration#HumanDuration

    """
    seconds = max(int(span.total_seconds()), 0)
    rows = (
        (2 * _MINUTE, (1, "s"), None),
        (10 * _MINUTE, (_MINUTE, "m"), (1, "s")),
        (3 * _HOUR, (_MINUTE, "m"), None),
        (8 * _HOUR, (_HOUR, "h"), (_MINUTE, "m")),
        (2 * _DAY, (_HOUR, "h"), None),
        (8 * _DAY, (_DAY, "d"), (_HOUR, "h")),
        (2 * _YEAR, (_DAY, "d"), None),
        (8 * _YEAR, (_YEAR, "y"), (_DAY, "d")),
    )
    for below, (unit, letter), smaller in rows:
        if seconds < below:
            rest = seconds % unit // smaller[0] if smaller else 0
            return f"{seconds // unit}{letter}" + (f"{rest}{smaller[1]}" if smaller and rest else "")
    return f"{seconds // _YEAR}y"
