"""Values are merged as Helm merges them, and their digest is stable."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.releases.values import digest, merge

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)
DOCUMENT = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        pytest.param(({"a": {"x": 1}}, {"a": {"y": 2}}), {"a": {"x": 1, "y": 2}}, id="maps -> merged deeply"),
        pytest.param(({"a": [1, 2]}, {"a": [3]}), {"a": [3]}, id="lists -> replaced"),
        pytest.param(({"a": 1}, {"a": "1"}), {"a": "1"}, id="scalars -> replaced"),
        pytest.param(({"a": {"x": 1}}, {"a": 1}), {"a": 1}, id="scalar over map -> scalar"),
        pytest.param(({"a": 1}, {"a": {"x": 1}}), {"a": {"x": 1}}, id="map over scalar -> map"),
        pytest.param(
            ({"a": {"x": 1, "y": 2}}, {"a": {"x": None}}),
            {"a": {"x": None, "y": 2}},
            id="null -> stays, so that Helm deletes the chart's default too",
        ),
        pytest.param(({"a": None}, {"a": {"x": 1}}), {"a": {"x": 1}}, id="map over null -> map"),
        pytest.param(({"a": 1}, {"a": 2}, {"a": 3}), {"a": 3}, id="three layers -> the last wins"),
        pytest.param(({},), {}, id="nothing -> nothing"),
    ],
)
def test_layers_are_merged(layers: tuple[dict[str, Any], ...], expected: dict[str, Any]) -> None:
    assert merge(*layers) == expected


@given(DOCUMENT, DOCUMENT, DOCUMENT)
def test_layers_are_laid_from_left_to_right_and_none_is_changed(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    before = deepcopy((a, b, c))

    assert merge(merge(a, b), c) == merge(a, b, c)
    assert merge(a, a) == merge(a, {}) == merge({}, a) == a
    assert (a, b, c) == before


@given(st.text(), DOCUMENT)
def test_a_digest_is_a_label_value_and_does_not_depend_on_the_order_of_keys(chart: str, values: dict[str, Any]) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", digest(chart, values))
    assert digest(chart, values) == digest(chart, dict(reversed(values.items())))


def test_a_digest_is_the_same_in_every_version() -> None:
    assert digest("c0ffee", {"b": [1, None], "a": {"ü": True}}) == "26e65f00d18810ee"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(("chart2", {"a": 1}), id="another chart"),
        pytest.param(("chart", {"a": 2}), id="another value"),
        pytest.param(("chart", {"a": "1"}), id="another type"),
        pytest.param(("chart", {"a": 1, "b": None}), id="a null, which deletes a default"),
        pytest.param(("chart", {"a": 1}, "force"), id="something else"),
    ],
)
def test_whatever_makes_another_release_makes_another_digest(other: tuple[Any, ...]) -> None:
    assert digest("chart", {"a": 1}) != digest(*other)


def test_what_is_no_json_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest("chart", {"a": float("nan")})
