"""Holds as annotations: one key for each holder, values that fit, and nothing on an object that is overlooked."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.holds import (
    DECLARED,
    FENCED,
    FORCED,
    GUARD,
    HUSK,
    POLICY,
    PREFIX,
    RELEASED,
    SHARED,
    STATE,
    USED,
    VALUE_LIMIT_BYTES,
    Account,
    Hold,
    Holder,
    read_holds,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEB = Holder("Deployment", "env-a", "web", "1234")
RUNNER = Holder("External", "", "ci-runner")


def annotated(notes: dict[str, Any] | None, born: str | None = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"metadata": {"annotations": notes, "creationTimestamp": born}}


def test_what_stands_on_objects_never_changes_its_name() -> None:
    """The policies of an older version, and people's manifests, know these."""
    marks = (PREFIX, GUARD, SHARED, USED, POLICY, RELEASED, FORCED, FENCED, STATE, HUSK, DECLARED)
    assert marks == (
        "hold.envprov.io/",
        "envprov.io/guard",
        "shared",
        "envprov.io/guard-used",
        "envprov.io/guard-policy",
        "envprov.io/released-uid",
        "envprov.io/force-delete-uid",
        "envprov.io/fenced-sa",
        "envprov.io/state",
        "husk",
        "External",
    )


def test_accounts_and_holders_read_as_people_write_them() -> None:
    assert str(Account("shared", "deployer")) == "shared/deployer"
    assert str(WEB) == "Deployment env-a/web"
    assert str(RUNNER) == "External ci-runner"


def test_the_key_of_a_holder_never_changes() -> None:
    assert WEB.key == "hold.envprov.io/4c16feaa5e951ffe"
    assert Hold(WEB, NOW).key == WEB.key
    assert Hold(WEB, NOW, read_key="hold.envprov.io/other").key == "hold.envprov.io/other"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Holder("StatefulSet", "env-a", "web", "1234"), id="kind"),
        pytest.param(Holder("Deployment", "env-b", "web", "1234"), id="namespace"),
        pytest.param(Holder("Deployment", "env-a", "api", "1234"), id="name"),
        pytest.param(Holder("Deployment", "env-a", "web", "5678"), id="made again"),
    ],
)
def test_two_holders_never_share_a_key(other: Holder) -> None:
    assert other.key != WEB.key


def test_a_value_is_compact_and_says_who_since_when_and_why() -> None:
    hold = Hold(WEB, NOW, "spec", environment="a", expires=NOW + timedelta(days=1))
    assert hold.value() == (
        '{"by":"env-a/web","kind":"Deployment","env":"a","uid":"1234","since":"2026-03-01T12:00:00Z",'
        '"exp":"2026-03-02T12:00:00Z","why":"spec"}'
    )
    assert Hold(RUNNER, NOW).value() == '{"by":"ci-runner","kind":"External","since":"2026-03-01T12:00:00Z"}'


def test_moments_are_written_in_utc() -> None:
    there = timezone(timedelta(hours=9))
    assert '"since":"2026-03-01T12:00:00Z"' in Hold(RUNNER, NOW.astimezone(there)).value()


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        pytest.param(None, False, id="no end"),
        pytest.param(NOW + timedelta(seconds=1), False, id="in a second"),
        pytest.param(NOW, True, id="now"),
        pytest.param(NOW - timedelta(seconds=1), True, id="a second ago"),
    ],
)
def test_when_a_hold_has_run_out(expires: datetime | None, expected: bool) -> None:  # noqa: FBT001 - a column
    assert Hold(RUNNER, NOW, expires=expires).is_expired(NOW) is expected


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=500)
NAME = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@settings(deadline=None, max_examples=200)
@given(name=NAME, namespace=NAME | st.just(""), uid=NAME | st.just(""), why=TEXT, environment=NAME | st.just(""))
def test_what_is_written_is_read(name: str, namespace: str, uid: str, why: str, environment: str) -> None:
    hold = Hold(Holder("Deployment", namespace, name, uid), NOW, why, environment, NOW + timedelta(days=9))
    value = hold.value()
    assert len(value.encode()) <= VALUE_LIMIT_BYTES
    (read,) = read_holds(annotated({hold.key: value}))
    assert (read.holder, read.since, read.environment, read.expires) == (hold.holder, NOW, environment, hold.expires)
    assert read.key == hold.key
    assert read.read_key == hold.key
    assert why.startswith(read.why)


def test_the_reason_gives_way_no_more_than_it_has_to() -> None:
    plain = Hold(WEB, NOW, "x" * 500).value()
    assert len(plain) == 400
    assert VALUE_LIMIT_BYTES == 400
    exact = len(json.loads(plain)["why"])
    assert Hold(WEB, NOW, "x" * exact).value() == plain
    assert Hold(WEB, NOW, "x" * (exact + 1)).value() == plain
    assert "日" in Hold(WEB, NOW, "日本").value()
    assert Hold(WEB, NOW, "x" * (exact - 1)).value() != plain
    wide = Hold(WEB, NOW, "日" * 300).value()
    assert len(wide.encode()) <= 400


@pytest.mark.parametrize(
    ("character", "size"),
    [
        pytest.param("x", 1, id="one byte"),
        pytest.param('"', 2, id="a quote, which is escaped"),
        pytest.param("日", 3, id="three bytes"),
        pytest.param("🚀", 4, id="four bytes"),
        pytest.param("\x01", 6, id="a control character, which is written as six"),
    ],
)
def test_of_a_reason_as_much_is_kept_as_there_is_room_for(character: str, size: int) -> None:
    room = VALUE_LIMIT_BYTES - len(Hold(WEB, NOW, "x").value()) + 1
    value = Hold(WEB, NOW, character * 500).value()
    assert json.loads(value)["why"] == character * (room // size)
    assert VALUE_LIMIT_BYTES - size < len(value.encode()) <= VALUE_LIMIT_BYTES


def test_a_reason_without_any_room_is_left_out() -> None:
    crowded = Holder("Deployment", "n" * 200, "w" * 200)
    assert json.loads(Hold(crowded, NOW, "why" * 200).value()) == json.loads(Hold(crowded, NOW).value())


def test_a_value_without_a_reason_to_shorten_stays_as_it_is() -> None:
    assert len(Hold(Holder("Deployment", "n" * 300, "w" * 200), NOW, "why").value()) > 400


def test_a_reason_that_fits_is_read_as_it_was_written() -> None:
    hold = Hold(WEB, NOW, "reads its queue")
    assert read_holds(annotated({hold.key: hold.value()}))[0].why == "reads its queue"


def test_a_declared_holder_may_have_a_slash_in_its_name() -> None:
    hold = Hold(Holder("External", "", "team/ci"), NOW)
    assert read_holds(annotated({hold.key: hold.value()}))[0].holder == Holder("External", "", "team/ci")


def test_the_oldest_hold_comes_first_and_other_annotations_are_none() -> None:
    old, new = Hold(WEB, NOW), Hold(RUNNER, NOW + timedelta(hours=1))
    notes = {new.key: new.value(), "example.org/x": "y", old.key: old.value()}
    assert [hold.holder for hold in read_holds(annotated(notes))] == [WEB, RUNNER]
    same = [PREFIX + "b", PREFIX + "a"]
    assert [hold.key for hold in read_holds(annotated(dict.fromkeys(same, old.value())))] == sorted(same)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="empty"),
        pytest.param("yes", id="no JSON"),
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param('"x"', id="text"),
        pytest.param("{}", id="nobody"),
        pytest.param('{"by":"x","since":"2026-01-01T00:00:00Z"}', id="no kind"),
        pytest.param('{"by":"x","kind":"External"}', id="no beginning"),
        pytest.param('{"by":5,"kind":"External","since":"2026-01-01T00:00:00Z"}', id="a number"),
        pytest.param('{"by":"x","kind":"External","since":"yesterday"}', id="no date"),
        pytest.param('{"by":"x","kind":"External","since":7}', id="a number for a date"),
        pytest.param('{"by":"x","kind":["Job"],"since":"2026-01-01T00:00:00Z"}', id="a list for a kind"),
        pytest.param('{"by":"x","kind":"Job","uid":["u"],"since":"2026-01-01T00:00:00Z"}', id="a list for a UID"),
        pytest.param("[" * 100_000, id="more brackets than anybody reads"),
    ],
)
def test_a_hold_that_cannot_be_read_is_a_hold(value: str) -> None:
    key = PREFIX + "0123456789abcdef"
    (hold,) = read_holds(annotated({key: value}))
    assert hold == Hold(
        Holder("Unknown", "", key), datetime(2026, 1, 1, tzinfo=UTC), "a hold that cannot be read", read_key=key
    )
    assert {hold.holder: hold.key} == {hold.holder: key}, "holders are looked up in tables"


def test_a_beginning_without_time_zone_is_that_of_the_object() -> None:
    value = '{"by":"x","kind":"External","since":"2026-02-02T00:00:00"}'
    assert read_holds(annotated({PREFIX + "a": value}))[0].since == datetime(2026, 1, 1, tzinfo=UTC)
    assert read_holds(annotated({PREFIX + "a": value}, born=None))[0].since == datetime(1970, 1, 1, tzinfo=UTC)


def test_what_is_left_out_reads_as_nothing() -> None:
    (hold,) = read_holds(annotated({PREFIX + "a": '{"by":"n/x","kind":"Job","since":"2026-02-02T00:00:00Z"}'}))
    assert hold == Hold(
        Holder("Job", "n", "x", ""), datetime(2026, 2, 2, tzinfo=UTC), "", "", None, read_key=PREFIX + "a"
    )


def test_an_object_without_annotations_has_no_holds() -> None:
    assert read_holds(annotated(None)) == ()
    assert read_holds({"metadata": {}}) == ()
