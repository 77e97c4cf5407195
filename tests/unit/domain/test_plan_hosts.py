"""Hosts on the way up and down: reserved before Helm, given back after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from envprov.domain.actions import MarkHost, ReleaseHost, ReserveHosts
from envprov.domain.checks.hosts import HOST_TAKEN
from envprov.domain.errors import HostTaken
from envprov.domain.guard import Verdict
from envprov.domain.holds import Account
from envprov.domain.hosts import HostSeen, HostState, Reservation
from envprov.domain.observed import GuardSeen, Observed, Remains
from envprov.domain.plan import Phase, give_back_hosts, release_hosts, reserve_hosts
from envprov.domain.release import ReleaseState
from envprov.domain.rendered import read_rendered
from envprov.domain.teardown import Course, Descent, descend
from tests.unit.builders import DIGEST, IDENTITY, NOW, desired, foreign, missing, ours, release, reservation

FREE, OURS = HostSeen(HostState.FREE), HostSeen(HostState.OURS)
TAKEN = HostSeen(HostState.TAKEN, "branch y of Project shop (Environment y-1)")
A, B, C = (reservation(f"{letter}.example.com") for letter in "abc")
DESIRED = desired()


def looking(
    hosts: dict[str, HostSeen] | None, *reserved: Reservation, state: ReleaseState = ReleaseState.DEPLOYED
) -> Observed:
    """What is observed when a new digest is wanted."""
    return Observed(ours(), release=release(state, digest="old"), digest=DIGEST, hosts=hosts, reserved=reserved)


def steps(observed: Observed) -> tuple[Any, ...]:
    decided = reserve_hosts(DESIRED, observed)
    assert decided is None or decided.phase is Phase.PREPARING
    return () if decided is None else decided.waves


def test_free_hosts_are_reserved_together_and_in_order() -> None:
    seen = {"b.example.com": FREE, "a.example.com": FREE, "c.example.com": OURS}
    assert steps(looking(seen, C)) == ((ReserveHosts(IDENTITY, ("a.example.com", "b.example.com")),),)


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(looking({}), id="no host is wanted"),
        pytest.param(looking(None, A), id="nobody knows what is wanted"),
        pytest.param(looking({"a.example.com": OURS}, A), id="all are ours"),
    ],
)
def test_then_there_is_nothing_to_do(observed: Observed) -> None:
    assert steps(observed) == ()


def test_a_host_of_somebody_else_ends_the_pass_and_names_the_winner() -> None:
    seen = {"a.example.com": TAKEN, "b.example.com": FREE}
    said = r"^host a.example.com is reserved by branch y of Project shop \(Environment y-1\); claim another host"
    with pytest.raises(HostTaken, match=said):
        reserve_hosts(DESIRED, looking(seen))


def test_who_is_refused_before_anything_was_deployed_keeps_nothing_from_others() -> None:
    refused = (HOST_TAKEN.found(None, "", "host a.example.com is reserved"),)
    first = replace(looking({"b.example.com": OURS}, B, state=ReleaseState.ABSENT), findings=refused)
    decided = give_back_hosts(DESIRED, first)
    assert decided is not None
    assert decided.waves == ((ReleaseHost(B),),)
    stands = replace(first, release=release(ReleaseState.DEPLOYED, digest="old"))
    for other in (replace(first, findings=()), replace(first, reserved=()), stands):
        assert give_back_hosts(DESIRED, other) is None


def test_a_host_that_is_not_wanted_any_more_is_marked_and_not_given_back_before_helm() -> None:
    assert steps(looking({"a.example.com": OURS}, A, B)) == ((MarkHost(B, DIGEST),),)


def test_a_host_that_is_wanted_again_loses_its_mark() -> None:
    marked = reservation("b.example.com", dropped_by="d0")
    assert steps(looking({"b.example.com": OURS}, marked)) == ((MarkHost(marked, ""),),)


def test_what_is_reserved_comes_before_what_is_marked() -> None:
    waves = steps(looking({"a.example.com": FREE}, B))
    assert waves == ((ReserveHosts(IDENTITY, ("a.example.com",)),), (MarkHost(B, DIGEST),))


@pytest.mark.parametrize(
    ("marked_by", "expected"),
    [
        pytest.param(DIGEST, True, id="by what is in force -> given back"),
        pytest.param("d0", False, id="by what never came -> kept"),
        pytest.param("", False, id="not at all -> kept"),
    ],
)
def test_what_was_marked_is_given_back_when_helm_has_taken_it_away(*, marked_by: str, expected: bool) -> None:
    marked = reservation("b.example.com", dropped_by=marked_by)
    in_sync = Observed(ours(), release=release(), digest=DIGEST, reserved=(A, marked))
    decided = release_hosts(DESIRED, in_sync)
    assert (decided.waves if decided else ()) == (((ReleaseHost(marked),),) if expected else ())


BOT = Account("tools", "bot")


def down(given: Remains, guard: GuardSeen | None = None) -> Descent:
    return descend(IDENTITY, given, Course("envprov", None, NOW, timedelta(seconds=5), guard))


@pytest.mark.parametrize("namespace", [missing(), foreign()], ids=["gone", "never ours"])
def test_hosts_are_given_back_when_the_namespace_is_gone(namespace: Any) -> None:  # noqa: ANN401 - NamespaceSeen
    descent = down(Remains(namespace, held=(BOT,), reserved=(A, B)))
    assert [str(action) for action in descent.waves[0]] == [
        "release host a.example.com",
        "release host b.example.com",
        "release ServiceAccount tools/bot",
    ]
    assert not descent.is_over
    assert down(Remains(namespace)).is_over


def test_a_guard_that_is_disarmed_keeps_holds_and_not_hosts() -> None:
    unarmed = GuardSeen("the policies are gone", Verdict("Blocked"))
    descent = down(Remains(missing(), held=(BOT,), reserved=(A,)), unarmed)
    assert (descent.blocked, descent.waves) == ("Disarmed", ((ReleaseHost(A),),))


def test_a_rendered_chart_tells_its_hosts() -> None:
    rule = {"host": "A.example.com"}
    ingress = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {}, "spec": {"rules": [rule]}}
    assert read_rendered([ingress], "env-a").hosts == ("a.example.com",)
