"""How long a server wants to be left alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.patience import patience_of

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, None),
        ("", None),
        ("7", 7),
        ("0", None),
        ("-5", None),
        ("soon", None),
        ("nan", None),
        ("3600", 3600),
        ("999999", 3600),
        ("inf", 3600),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90),
        ("Sunday, 01-Mar-26 12:01:30 GMT", 90),
        ("Sun, 01 Mar 2026 13:01:30 +0100", 90),
        ("Sun, 01 Mar 2026 12:01:30 -0000", 90),
        ("Sun, 01 Mar 2026 11:59:59 GMT", None),
        ("Mon, 02 Mar 2026 12:00:00 GMT", 3600),
        ("Sun, 99 Mar 2026 12:00:00 GMT", None),
    ],
)
def test_how_long_to_wait(said: str | None, expected: float | None) -> None:
    assert patience_of(said, NOON) == expected


@given(st.text())
def test_whatever_a_server_says_is_no_surprise(said: str) -> None:
    found = patience_of(said, NOON)
    assert found is None or 0 < found <= 3600
