"""Host names: how they are written, what overlaps, and the Leases by which they are reserved."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envprov.domain.hosts import (
    HOST,
    Tenant,
    is_too_wide,
    lease,
    lease_name,
    left_over,
    neighbours,
    normalised,
    overlaps,
    own_host,
    read_reservation,
    taken,
)
from envprov.domain.names import slug
from tests.unit.builders import IDENTITY, NOW, SLUG, desired, project, reservation

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
HOSTS = st.one_of(NAMES, NAMES.map("*.{}".format))
ANYTHING = st.one_of(st.text(max_size=300), HOSTS)


@pytest.mark.parametrize(
    ("written", "host"),
    [
        pytest.param("Shop.Example.COM", "shop.example.com", id="capitals -> small"),
        pytest.param("shop.example.com.", "shop.example.com", id="final dot -> gone"),
        pytest.param(" shop.example.com:8443 ", "shop.example.com", id="port and spaces -> gone"),
        pytest.param("*.shop.example.com", "*.shop.example.com", id="wildcard -> kept"),
        pytest.param("bücher.example.com", "xn--bcher-kva.example.com", id="umlaut -> as in DNS"),
        pytest.param("XN--bcher-KVA.example.com", "xn--bcher-kva.example.com", id="as in DNS -> the same"),
        pytest.param("_sip.example.com", "_sip.example.com", id="underscore -> kept"),
        pytest.param("localhost", "localhost", id="one label -> kept"),
        pytest.param("", "*", id="nothing -> everything"),
        pytest.param("*", "*", id="star -> everything"),
        pytest.param(":443", "*", id="only a port -> everything"),
        pytest.param("a.*.example.com", None, id="star within -> none"),
        pytest.param("*a.example.com", None, id="star in a label -> none"),
        pytest.param("*.*.example.com", None, id="two stars -> none"),
        pytest.param("a..example.com", None, id="empty label -> none"),
        pytest.param("-a.example.com", None, id="dash in front -> none"),
        pytest.param(f"{'a' * 64}.example.com", None, id="label too long -> none"),
        pytest.param(".".join(["a" * 60] * 5), None, id="name too long -> none"),
        pytest.param("10.0.0.1", None, id="address -> none"),
        pytest.param("feature/x.example.com", None, id="slash -> none"),
        pytest.param("{slug}.example.com", None, id="brace -> none"),
    ],
)
def test_a_host_reads_alike_however_it_is_written(written: str, host: str | None) -> None:
    assert normalised(written) == host


@given(ANYTHING)
def test_what_was_normalised_stays_as_it_is(written: str) -> None:
    host = normalised(written)
    assert host is None or normalised(host) == host


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        pytest.param("a.x.y", "a.x.y", True, id="equal -> overlap"),
        pytest.param("a.x.y", "b.x.y", False, id="neighbours -> none"),
        pytest.param("*.x.y", "a.x.y", True, id="wildcard and a host below -> overlap"),
        pytest.param("*.x.y", "a.b.x.y", True, id="two labels below: HTTPRoute and Istio -> overlap"),
        pytest.param("*.x.y", "x.y", False, id="wildcard and its parent -> none"),
        pytest.param("*.x.y", "ax.y", False, id="the same letters without the dot -> none"),
        pytest.param("*.x.y", "*.a.x.y", True, id="wildcard below a wildcard -> overlap"),
        pytest.param("*.x.y", "*.z.y", False, id="wildcards side by side -> none"),
    ],
)
def test_overlap(one: str, other: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert overlaps(one, other) is expected
    assert overlaps(other, one) is expected


@given(HOSTS, HOSTS)
def test_overlap_is_mutual(one: str, other: str) -> None:
    assert overlaps(one, other) == overlaps(other, one)


@given(NAMES, st.lists(LABELS, min_size=1, max_size=3))
def test_a_wildcard_overlaps_whatever_is_below_it_and_not_its_parent(parent: str, below: list[str]) -> None:
    assert overlaps(f"*.{parent}", f"{'.'.join(below)}.{parent}")
    assert not overlaps(f"*.{parent}", parent)


@given(ANYTHING)
@example("*")
@example("")
def test_the_name_of_a_lease_is_always_one(host: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", lease_name(host))


@given(ANYTHING, ANYTHING)
@example("a.b", "a-b")
@example("*.a", "any.a")
@example("a" * 200 + ".b", "a" * 200 + ".c")
def test_two_hosts_never_share_a_lease(one: str, other: str) -> None:
    assert (lease_name(one) == lease_name(other)) == (one == other)


def test_the_name_of_a_lease_can_be_read() -> None:
    assert lease_name("shop.dev.example.com") == "h-shop-dev-example-com-orck7lkrtk6qk2goc7c4ilm45p"
    assert lease_name("*.shop.example.com").startswith("h-any-shop-example-com-")


OTHER = slug("shop", "feature/y")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param(f"{SLUG}.dev.example.com", (), id="own name -> nobody's"),
        pytest.param(f"api.{OTHER}.dev.example.com", (OTHER,), id="another's name within -> that one"),
        pytest.param(f"{OTHER}.dev.example.com", (OTHER,), id="another's name in front -> that one"),
        pytest.param("api.shop-frontend.example.com", ("shop-frontend",), id="looks like a name -> asked for"),
        pytest.param("api.dev.example.com", (), id="plain -> nobody's"),
    ],
)
def test_whose_name_may_be_in_a_host(host: str, expected: tuple[str, ...]) -> None:
    assert neighbours(host, SLUG) == expected


@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_no_name_of_an_environment_is_overlooked(name: str, branch: str) -> None:
    try:
        other = slug(name, branch)
    except UnicodeEncodeError:
        return
    assert neighbours(f"api.{other}.example.com", "own") == (other,)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param(f"*.{SLUG}.dev.example.com", False, id="below the own name -> fits"),
        pytest.param(f"*.api.{SLUG}.dev.example.com", False, id="further below -> fits"),
        pytest.param("*.dev.example.com", True, id="beside others -> too wide"),
        pytest.param(f"*.{OTHER}.dev.example.com", True, id="below another's name -> too wide"),
        pytest.param("dev.example.com", False, id="no wildcard -> fits"),
    ],
)
def test_how_far_a_wildcard_may_reach(host: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_too_wide(host, SLUG) is expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("{slug}.Dev.example.com", f"{SLUG}.dev.example.com", id="host -> normalised"),
        pytest.param(None, None, id="none -> none"),
        pytest.param("{branch}.dev.example.com", None, id="no host name -> none"),
        pytest.param("*", None, id="everything -> none"),
    ],
)
def test_the_host_of_the_project(template: str | None, expected: str | None) -> None:
    assert own_host(desired(project(**({"host": template} if template else {})))) == expected


def stored(host: str) -> dict[str, object]:
    """A Lease as the API server sends it."""
    manifest = lease(IDENTITY, host, NOW)
    manifest["metadata"] |= {"uid": "u-1", "resourceVersion": "7", "creationTimestamp": "2026-11-24T12:00:00Z"}
    return manifest


def test_a_lease_says_who_has_what() -> None:
    found = read_reservation(stored("shop.dev.example.com"))
    assert found is not None
    assert (found.host, found.namespace, found.name) == (
        "shop.dev.example.com",
        "envprov-system",
        "h-shop-dev-example-com-orck7lkrtk6qk2goc7c4ilm45p",
    )
    assert found.tenant == Tenant(SLUG, "11111111-1111-4111-8111-111111111111", "shop", "feature/x")
    assert (found.uid, found.resource_version, found.since) == ("u-1", "7", datetime(2026, 11, 24, 12, tzinfo=UTC))
    assert (found.dropped_by, found.is_settled) == ("", True)
    assert str(found.tenant) == f"branch feature/x of Project shop (Environment {SLUG})"


@pytest.mark.parametrize("host", [f"*.{SLUG}.example.com", f"api.{OTHER}.example.com"])
def test_what_others_may_be_above_or_below_is_not_settled_at_first(host: str) -> None:
    found = read_reservation(stored(host))
    assert found is not None
    assert not found.is_settled


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"labels": {}}, id="no labels"),
        pytest.param({"annotations": {}}, id="no host"),
        pytest.param({"annotations": {HOST: 7}}, id="a host that is none"),
        pytest.param({"creationTimestamp": "yesterday"}, id="no date"),
    ],
)
def test_a_lease_that_is_not_ours_is_no_reservation(damage: dict[str, object]) -> None:
    manifest = stored("shop.dev.example.com")
    manifest["metadata"] = {**manifest["metadata"], **damage}  # type: ignore[dict-item]
    assert read_reservation(manifest) is None
    assert read_reservation({}) is None
    assert read_reservation({"metadata": None, "spec": []}) is None


def test_a_lease_whose_holder_is_changed_by_hand_is_no_reservation() -> None:
    assert read_reservation(stored("a.example.com") | {"spec": {"holderIdentity": "other/1"}}) is None


def test_left_over_is_what_nobody_has_any_more() -> None:
    own, older = reservation("a.example.com"), Tenant(SLUG, "older", "shop", "feature/x")
    again, gone = reservation("b.example.com", older), reservation("c.example.com", Tenant("y", "1", "shop", "y"))
    assert left_over([own, again, gone], [(SLUG, IDENTITY.uid), ("z", "2")]) == (again, gone)


def test_who_has_it_is_said_with_the_way_out() -> None:
    said = taken({"b.example.com": "branch y of Project shop (Environment y-1)", "a.example.com": "branch z"})
    assert said == (
        "host a.example.com is reserved by branch z; host b.example.com is reserved by branch y of Project shop "
        "(Environment y-1); claim another host, one with {slug} or the value envprov.slug in it is like no other "
        "branch's; or take the other environment down"
    )
