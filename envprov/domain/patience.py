"""How long a server wants to be left alone, as it says in an answer of HTTP."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LIMIT_SECONDS = 3600.0
"""Whoever asks for more is asked again after this long. GitLab counts the requests of an hour where nobody has changed
that, so it may well ask for all of one."""


def patience_of(given: str | None, now: datetime) -> float | None:
    """
    What ``Retry-After`` says.

    Args:
        given: The header's value: seconds, or a date; None if it is not there.
        now: Aware moment.

    Returns:
        Seconds, at most an hour; None if it says nothing that can be understood, or nothing that lies ahead.

    Source: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after

    """
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        moment = _moment(given)
        seconds = (moment - now).total_seconds() if moment is not None else math.nan
    return min(seconds, LIMIT_SECONDS) if seconds > 0 else None


def _moment(given: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(given)
    except (ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
