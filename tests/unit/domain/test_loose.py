"""Manifests that hold anything: what is not as it should be reads as empty."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from envprov.domain.loose import mapping, mappings, moment, sequence, text, texts, within

ANYTHING = [None, True, 5, "x", ["x"], {"x": 1}]


def test_each_type_reads_as_itself_and_all_others_as_empty() -> None:
    assert [mapping(value) for value in ANYTHING] == [{}, {}, {}, {}, {}, {"x": 1}]
    assert [list(sequence(value)) for value in ANYTHING] == [[], [], [], [], ["x"], []]
    assert [text(value) for value in ANYTHING] == ["", "", "", "x", "", ""]
    assert sequence(("x",)) == ("x",)


def test_only_what_is_of_the_type_is_taken_from_a_list() -> None:
    assert texts(ANYTHING) == ("x",)
    assert list(mappings(ANYTHING)) == [{"x": 1}]


def test_a_path_that_breaks_off_leads_to_nothing() -> None:
    nested = {"a": {"b": {"c": 1}, "d": None}}
    assert within(nested, "a", "b") == {"c": 1}
    assert within(nested) == nested
    assert (within(nested, "a", "d", "e"), within(nested, "x"), within(None, "a"), within(nested, "a", "b", "c")) == (
        ({},) * 4
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("2026-02-01T00:00:00Z", datetime(2026, 2, 1, tzinfo=UTC), id="as Kubernetes writes it"),
        pytest.param("2026-02-01T00:00:00", datetime(2026, 2, 1, tzinfo=UTC), id="without time zone"),
        pytest.param(
            "2026-02-01T00:00:00+09:00", datetime(2026, 2, 1, tzinfo=timezone(timedelta(hours=9))), id="elsewhere"
        ),
        pytest.param("soon", None, id="no date"),
        pytest.param("", None, id="empty"),
        pytest.param(7, None, id="a number"),
    ],
)
def test_a_moment_is_read_with_its_time_zone(value: object, expected: datetime | None) -> None:
    assert moment(value) == expected
