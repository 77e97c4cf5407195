"""Versions and ranges of charts: what Helm 4 takes, compared with its own library once for 600,000 random pairs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.releases.versions import Version, best, is_exact, parse_range, parse_version

AVAILABLE = ("0.0.3", "0.0.4", "0.2.3", "0.2.9", "0.3.0", "1.0.0", "1.2.0", "1.2.3", "1.2.9", "1.10.0", "2.0.0-rc.1")


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        ("1.2.0", "1.2.0"),
        ("v1.2.0", "1.2.0"),
        ("=1.2.0", "1.2.0"),
        ("1.2", "1.2.9"),
        ("1", "1.10.0"),
        ("*", "1.10.0"),
        ("1.x", "1.10.0"),
        ("1.2.*", "1.2.9"),
        ("~1.2.3", "1.2.9"),
        ("~>1.2", "1.2.9"),
        ("~1", "1.10.0"),
        ("^1.2.3", "1.10.0"),
        ("^0.2.3", "0.2.9"),
        ("^0.2", "0.2.9"),
        ("^0", "0.3.0"),
        ("^0.0.3", "0.0.3"),
        ("^0.0", "0.0.4"),
        (">1.2", "1.10.0"),
        (">1", None),
        (">=1.2.3 <1.10", "1.2.9"),
        (">= 1.2.3, < 1.10", "1.2.9"),
        ("<=1.2", "1.2.9"),
        ("<1.2", "1.0.0"),
        ("=<1.2.3", "1.2.3"),
        ("1.0 - 1.2", "1.2.9"),
        ("1.0.0 - 1.2.3", "1.2.3"),
        ("^3 || ~0.2 || 0.3.0", "0.3.0"),
        ("!=1.10.0", "1.2.9"),
        ("!=1.x", "0.3.0"),
        ("^2", None),
        (">=2.0.0-0", "2.0.0-rc.1"),
        (">1.2.0 <2.0.0-0", "1.10.0"),
        (">=1.0.0-0 <3", "2.0.0-rc.1"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
        ("3.0.0", None),
    ],
)
def test_the_highest_that_fits_is_taken(wanted: str, taken: str | None) -> None:
    assert best(wanted, AVAILABLE) == taken
    assert best(wanted, reversed(AVAILABLE)) == taken


@pytest.mark.parametrize(
    ("bounds", "version", "holds"),
    [
        ("!=*", "1.0.0", True),
        ("!=*", "0.0.0", False),
        ("!=1.2.3-a", "1.2.3-a", False),
        ("!=1.2.3-a", "1.2.3-b", True),
        ("!=1.2.x-a", "1.2.5-b", True),
        ("!=1.2.x", "1.2.5", False),
        (">1.2.3-a", "1.2.3", True),
        (">*", "1.0.0", True),
        ("<=1.2.3-a", "1.2.3", False),
        ("<=1.2.3-b", "1.2.3-a", True),
        ("~1.2.3", "1.2.0", False),
        ("~0.0.0", "5.0.0", True),
        ("~*", "5.0.0", True),
        ("^1.2.3", "1.2.0", False),
        ("^*", "1.0.0", False),
        ("^*", "0.0.0", True),
    ],
)
def test_odd_bounds_hold_as_helms_library_says(bounds: str, version: str, *, holds: bool) -> None:
    read, asked = parse_range(bounds), parse_version(version)

    assert read is not None
    assert asked is not None
    assert read.holds(asked) is holds


def test_what_is_spelled_as_wanted_beats_what_is_higher() -> None:
    assert best("1.2", ("1.2", "1.2.9")) == "1.2"
    assert best("~1", ("nightly", "1.0.0", "v1.3.0", "")) == "v1.3.0"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "latest", "1.2.3.4", "=>=1", "1.2 ||", "|| 1", "1,,2", "1,", "1.2-", ">", "^^1", "1 -2", "~1.a"),
        *("a - b", "9" * 300, "1 || " * 40 + "1", "01.2.3-01"),
    ],
)
def test_what_is_no_range_is_told_apart(text: str) -> None:
    assert parse_range(text) is None
    assert best(text, AVAILABLE) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.2.3", Version(1, 2, 3)),
        ("v1", Version(1, 0, 0)),
        ("1.2-alpha.1+build.5", Version(1, 2, 0, "alpha.1")),
        ("01.2.3", None),
        ("1.2.3-01", None),
        ("1.2.3-a..b", None),
        ("1.2.3+", None),
        ("latest", None),
        ("^1.2.3", None),
        ("", None),
    ],
)
def test_versions_are_read_as_loosely_as_helm_reads_them(text: str, version: Version | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("text", "exact"),
    [("1.2.3", True), ("1.2.3-rc.1+b", True), ("1.2", False), ("v1.2.3", False), ("=1.2.3", False), ("^1.2.3", False)],
)
def test_only_a_version_in_full_is_exact(text: str, *, exact: bool) -> None:
    assert is_exact(text) is exact


def test_versions_are_in_the_order_of_semver() -> None:
    ordered = ["1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta"]
    ordered += ["1.0.0-rc.1", "1.0.0", "1.0.1", "1.1.0", "1.10.0", "2.0.0"]
    versions = [version for text in ordered if (version := parse_version(text))]

    assert all(one < other for one, other in pairwise(versions))
    assert len(versions) == len(ordered)
    assert parse_version("1.0.0+a") == parse_version("1.0.0+b")


@given(st.text(st.sampled_from("0123456789.x*^~<>=!|-+, va"), max_size=60), st.text("0123456789.-+a", max_size=20))
def test_junk_raises_nothing(wanted: str, available: str) -> None:
    assert best(wanted, [available]) in {None, available}
