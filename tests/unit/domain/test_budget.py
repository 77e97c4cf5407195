"""The line of those that wait for room: who goes first, who may pass, and that everybody gets in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.budget import (
    CLUSTER,
    PRECEDENCE,
    Budgets,
    Claim,
    Holding,
    Place,
    Standing,
    amounts_in_words,
    as_quantities,
    budget_of,
    cost_of,
    line,
    total,
    within,
)
from envprov.domain.capacity import measured
from envprov.domain.project import Limits
from envprov.domain.sizes import DEFAULT_SIZES

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
PATIENCE = timedelta(minutes=10)
GIB = 1024**3
BUDGETS = Budgets({"cpu": Decimal(40)}, {"shop": {"cpu": Decimal(10), "environments": Decimal(4)}})

MINUTE = timedelta(minutes=1)


def cost(cpu: float, memory: int = 1) -> Mapping[str, Decimal]:
    return {"environments": Decimal(1), "cpu": Decimal(str(cpu)), "memory": Decimal(memory * GIB)}


def claim(name: str, cpu: float, *, age: int = 1, project: str = "shop", **rest: object) -> Claim:
    given = Claim(name, project, f"event/{name}", cost(cpu), NOW - age * MINUTE)
    return replace(given, **rest)  # type: ignore[arg-type]  # the fields of a Claim


def holding(name: str, cpu: float, *, project: str = "shop", ends: datetime | None = None) -> Holding:
    return Holding(name, project, f"event/{name}", cost(cpu), ends)


def walk(claims: list[Claim], holdings: list[Holding], budgets: Budgets = BUDGETS) -> tuple[Place, ...]:
    return line(claims, holdings, budgets, now=NOW, patience=PATIENCE)


def told(places: tuple[Place, ...]) -> list[tuple[str, str, int]]:
    return [(place.claim.name, place.standing.value, place.position) for place in places]


# --- What it costs


def test_environment_costs_what_its_size_lets_it_request() -> None:
    assert as_quantities(cost_of(DEFAULT_SIZES["M"])) == {
        "environments": "1",
        "cpu": "2",
        "memory": "6Gi",
        "ephemeral-storage": "10Gi",
        "storage": "30Gi",
    }


def test_project_sets_a_number_and_sums() -> None:
    limits = Limits.model_validate({"environments": 3, "requests": {"cpu": "500m", "memory": "1Gi"}})
    assert budget_of(limits) == {"environments": 3, "cpu": Decimal("0.5"), "memory": GIB}
    assert budget_of(Limits()) == {}


@pytest.mark.parametrize("name", ["gpu", "requests.cpu", "pods"])
def test_project_cannot_limit_what_nothing_costs(name: str) -> None:
    with pytest.raises(ValueError, match=r"requests"):
        Limits.model_validate({"requests": {name: "1"}})


def test_nodes_make_a_budget_of_what_ordinary_pods_can_have() -> None:
    has = {"cpu": "7910m", "memory": "30Gi", "ephemeral-storage": "100Gi"}
    nodes: list[dict[str, Any]] = [
        {"status": {"allocatable": has}},
        {"status": {"allocatable": has}, "spec": {"taints": [{"key": "spot", "effect": "PreferNoSchedule"}]}},
        {"status": {"allocatable": has}, "spec": {"taints": [{"key": "master", "effect": "NoSchedule"}]}},
        {"status": {"allocatable": has}, "spec": {"taints": [{"key": "not-ready", "effect": "NoExecute"}]}},
        {"status": {"allocatable": has}, "spec": {"unschedulable": True}},
    ]
    # 2 x 7.91 = 15.82, less a fifth 12.656; 60 Gi less a fifth is 48
    assert measured(nodes, Decimal("0.2")) == {
        "cpu": Decimal("12.6"),
        "memory": 48 * GIB,
        "ephemeral-storage": 160 * GIB,
    }
    assert measured([], Decimal(0)) == {"cpu": 0, "memory": 0, "ephemeral-storage": 0}


def test_amounts_read_as_people_write_them() -> None:
    assert amounts_in_words(cost(0.5, 6)) == "1 environment, 0.5 CPU, 6Gi memory"


# --- Who stands where


@pytest.mark.parametrize(
    ("claims", "holdings", "expected"),
    [
        pytest.param([], [], [], id="nobody asks -> no line"),
        pytest.param([claim("a", 10)], [], [("a", "Room", 0)], id="fits exactly -> room"),
        pytest.param([claim("a", 2)], [holding("x", 9)], [("a", "Waits", 1)], id="one core short -> waits"),
        pytest.param([claim("a", 11)], [], [("a", "Never", 0)], id="larger than the whole budget -> never"),
        pytest.param(
            [claim("big", 11, age=9), claim("a", 2)],
            [],
            [("big", "Never", 0), ("a", "Room", 0)],
            id="never does not block the line",
        ),
        pytest.param(
            [claim("young", 6, age=1), claim("old", 6, age=2)],
            [],
            [("old", "Room", 0), ("young", "Waits", 1)],
            id="room for one -> the older",
        ),
        pytest.param(
            [claim("old", 6, age=60), claim("urgent", 6, age=1, priority=1)],
            [],
            [("urgent", "Room", 0), ("old", "Waits", 1)],
            id="priority goes before age",
        ),
        pytest.param(
            [claim("old", 6, age=24 * 60 + 2), claim("urgent", 6, age=1, priority=1)],
            [],
            [("old", "Room", 0), ("urgent", "Waits", 1)],
            id="a day of waiting is worth a point of priority",
        ),
        pytest.param(
            [claim("first", 6, age=3), claim("small", 2, age=1)],
            [holding("x", 7)],
            [("first", "Waits", 1), ("small", "Room", 0)],
            id="small one passes while the first has waited shortly",
        ),
        pytest.param(
            [claim("first", 6, age=3, first_since=NOW - PATIENCE + timedelta(seconds=1)), claim("small", 2, age=1)],
            [holding("x", 7)],
            [("first", "Waits", 1), ("small", "Room", 0)],
            id="small one passes a second before patience ends",
        ),
        pytest.param(
            [claim("first", 6, age=3, first_since=NOW - PATIENCE), claim("small", 2, age=1)],
            [holding("x", 7)],
            [("first", "Waits", 1), ("small", "Waits", 2)],
            id="patience is over -> nobody passes",
        ),
        pytest.param(
            [claim("first", 6, age=3, first_since=NOW - PATIENCE), claim("other", 2, age=1, project="blog")],
            [holding("x", 7)],
            [("first", "Waits", 1), ("other", "Room", 0)],
            id="a full project holds nobody else up",
        ),
        pytest.param(
            [claim("a", 2, age=3), claim("b", 2, age=2), claim("c", 2, age=1)],
            [holding(str(number), 1) for number in range(3)],
            [("a", "Room", 0), ("b", "Waits", 1), ("c", "Waits", 2)],
            id="a number of environments is a budget too",
        ),
        pytest.param(
            [claim("a", 4, held=cost(2))],
            [*(holding(str(number), 1) for number in range(3)), holding("a", 2)],
            [("a", "Room", 0)],
            id="larger size needs the difference, and is no further environment",
        ),
        pytest.param(
            [claim("a", 6, held=cost(2))],
            [holding("x", 5), holding("a", 2)],
            [("a", "Waits", 1)],
            id="larger size that does not fit -> waits",
        ),
        pytest.param(
            [claim("a", 1)],
            [holding("x", 30)],
            [("a", "Waits", 1)],
            id="budget was lowered below what is used -> waits, and nobody is told to go",
        ),
    ],
)
def test_place(claims: list[Claim], holdings: list[Holding], expected: list[tuple[str, str, int]]) -> None:
    assert told(walk(claims, holdings)) == expected


def test_places_are_counted_for_each_budget() -> None:
    full = [holding("x", 10), holding("y", 30, project="blog")]
    claims = [claim("a", 1, age=9), claim("b", 1, age=8), claim("c", 1, age=7, project="blog")]
    assert [(place.claim.name, place.position, place.scope) for place in walk(claims, full)] == [
        ("a", 1, "Project shop"),
        ("b", 2, "Project shop"),
        ("c", 1, "the cluster"),
    ]


def test_first_for_the_cluster_keeps_its_share_of_the_project_too() -> None:
    full = [holding("y", 35, project="blog"), *(holding(str(number), 1) for number in range(3))]
    claims = [claim("first", 6, age=9, first_since=NOW - PATIENCE), claim("small", 0.5, age=1)]
    assert told(walk(claims, full)) == [("first", "Waits", 1), ("small", "Waits", 1)]


# --- What they are told


def reason(claims: list[Claim], holdings: list[Holding], budgets: Budgets = BUDGETS) -> str:
    return walk(claims, holdings, budgets)[-1].reason


def test_reason_names_what_is_missing_and_the_expiry_that_makes_room() -> None:
    ends = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)
    holdings = [
        holding("0006", 1, ends=ends - timedelta(hours=1)),
        holding("0007", 3, ends=ends),
        holding("0008", 5.5, ends=ends + timedelta(hours=1)),
    ]
    assert reason([claim("a", 4)], holdings) == (
        "needs 4 CPU, 0.5 free of 10 (Project shop); next expiry: event/0007 at 2026-11-24 18:00 UTC"
    )


def test_reason_of_the_cluster_names_the_project_of_the_expiry_and_all_that_is_missing() -> None:
    ends = datetime(2026, 11, 25, 1, 30, tzinfo=UTC)
    budgets = Budgets({"cpu": Decimal(3), "memory": Decimal(GIB)})
    assert reason([claim("a", 2)], [holding("w", 2, project="blog", ends=ends)], budgets) == (
        "needs 2 CPU, 1 free of 3, and 1Gi memory, 0 free of 1Gi (the cluster); "
        "next expiry: blog event/w at 2026-11-25 01:30 UTC"
    )


def test_reason_says_that_no_expiry_will_help() -> None:
    assert reason([claim("a", 2)], [holding("x", 9), holding("y", 1)]) == (
        "needs 2 CPU, 0 free of 10 (Project shop); nothing that ends by itself makes that room"
    )


def test_reason_names_who_is_being_taken_down_already() -> None:
    tomorrow = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
    holdings = [holding("x", 6, ends=tomorrow), replace(holding("y", 3), is_going=True)]
    assert reason([claim("a", 4)], holdings) == (
        "needs 4 CPU, 1 free of 10 (Project shop); event/y is being taken down and makes that room"
    )
    assert reason([claim("a", 5)], holdings).endswith("; next expiry: event/x at 2026-11-25 12:00 UTC")


def test_reason_of_a_number_counts_environments() -> None:
    budgets = Budgets({}, {"shop": {"environments": Decimal(1)}})
    assert reason([claim("a", 2)], [holding("x", 9)], budgets).startswith(
        "needs 1 environment, 0 free of 1 (Project shop); "
    )


def test_whoever_may_not_pass_is_told_for_whom_room_is_kept() -> None:
    claims = [claim("first", 6, age=3, first_since=NOW - PATIENCE), claim("small", 2, age=1)]
    assert "needs 2 CPU, 0 free of 10 beside what is kept for event/first, the first in line" in reason(
        claims, [holding("x", 7)]
    )


def test_never_says_by_how_much_and_the_way_out() -> None:
    assert reason([claim("a", 11)], []) == (
        "can never fit: needs 11 CPU, and all of Project shop may have 10. Choose a smaller size, or have the budget "
        "raised"
    )


def test_reason_does_not_change_by_waiting() -> None:
    holdings = [holding("x", 9, ends=NOW + timedelta(hours=3))]
    early, late = (
        line([claim("a", 2)], holdings, BUDGETS, now=NOW + span, patience=PATIENCE)[0].reason
        for span in (timedelta(0), timedelta(hours=2))
    )
    assert early == late


# --- For every line

PROJECTS = ("shop", "blog")
cpus = st.sampled_from([Decimal(1), Decimal(2), Decimal(6), Decimal(9)])
claims_strategy = st.lists(
    st.builds(
        Claim,
        name=st.uuids().map(str),
        project=st.sampled_from(PROJECTS),
        branch=st.just("b"),
        cost=st.builds(lambda cpu: {"environments": Decimal(1), "cpu": cpu}, cpus),
        since=st.integers(0, 5000).map(lambda minutes: NOW - minutes * MINUTE),
        priority=st.integers(-2, 2),
        first_since=st.none() | st.integers(0, 20).map(lambda minutes: NOW - minutes * MINUTE),
    ),
    max_size=12,
)
holdings_strategy = st.lists(
    st.builds(
        Holding,
        name=st.uuids().map(str),
        project=st.sampled_from(PROJECTS),
        branch=st.just("b"),
        cost=st.builds(lambda cpu: {"environments": Decimal(1), "cpu": cpu}, cpus),
    ),
    max_size=6,
)
limits_strategy = st.fixed_dictionaries(
    {}, optional={"cpu": st.integers(1, 30).map(Decimal), "environments": st.integers(1, 8).map(Decimal)}
)
budgets_strategy = st.builds(
    Budgets,
    cluster=st.fixed_dictionaries({}, optional={"cpu": st.integers(1, 40).map(Decimal)}),
    projects=st.fixed_dictionaries(dict.fromkeys(PROJECTS, limits_strategy)),
)


@given(claims_strategy, holdings_strategy, budgets_strategy)
def test_all_with_room_fit_together_beside_what_was_given(
    claims: list[Claim], holdings: list[Holding], budgets: Budgets
) -> None:
    entering = [place.claim for place in walk(claims, holdings, budgets) if place.standing is Standing.ROOM]
    for project in (*PROJECTS, None):
        limit = budgets.projects[project] if project else budgets.cluster
        before = total(one.cost for one in holdings if project in {None, one.project})
        after = total([before, *(one.cost for one in entering if project in {None, one.project})])
        assert all(after.get(name, 0) <= max(most, before.get(name, Decimal(0))) for name, most in limit.items())


@given(claims_strategy, holdings_strategy, budgets_strategy)
def test_line_is_ordered_and_whoever_is_passed_has_not_been_first_for_long(
    claims: list[Claim], holdings: list[Holding], budgets: Budgets
) -> None:
    places = walk(claims, holdings, budgets)
    assert sorted(place.claim.name for place in places) == sorted(one.name for one in claims)
    for before, after in pairwise(place.claim for place in places):
        assert before.since - before.priority * PRECEDENCE <= after.since - after.priority * PRECEDENCE
    for index, place in enumerate(places):
        first = place.claim.first_since
        if place.position == 1 and first is not None and NOW - first >= PATIENCE:
            behind = [
                later
                for later in places[index + 1 :]
                if later.standing is Standing.ROOM and place.scope in {CLUSTER, f"Project {later.claim.project}"}
            ]
            budget = budgets.cluster if place.scope == CLUSTER else budgets.projects[place.claim.project]
            given = [one for one in holdings if place.scope in {CLUSTER, f"Project {one.project}"}]
            ahead = [one.claim for one in places[:index] if one.standing is Standing.ROOM]
            ahead = [one for one in ahead if place.scope in {CLUSTER, f"Project {one.project}"}]
            costs = [*(one.cost for one in given), *(one.cost for one in ahead), place.claim.cost]
            # Whoever passes all the same takes nothing that the first waits for.
            short = [name for name, most in budget.items() if total(costs)[name] > most]
            assert short
            assert all(later.claim.cost.get(name, 0) == 0 for later in behind for name in short)


@given(claims_strategy, holdings_strategy, budgets_strategy)
def test_only_what_exceeds_a_whole_budget_never_fits(
    claims: list[Claim], holdings: list[Holding], budgets: Budgets
) -> None:
    for place in walk(claims, holdings, budgets):
        alone = all(within(place.claim.cost, limit) for _, limit in budgets.of(place.claim.project))
        assert (place.standing is Standing.NEVER) is not alone


# --- Nobody starves


@dataclass
class World:
    """Environments that come, wait, live for a while and go; each tick is a minute."""

    budgets: Budgets
    lifetime: int
    now: datetime = NOW
    waiting: dict[str, Claim] = field(default_factory=dict)
    living: dict[str, tuple[Holding, int]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    ticks: int = 0

    def come(self, project: str, cpu: Decimal, priority: int) -> None:
        name = f"e{len(self.asked):04}"
        priced = {"environments": Decimal(1), "cpu": cpu}
        self.waiting[name] = Claim(name, project, name, priced, self.now, priority)
        self.asked[name] = self.ticks

    def tick(self) -> None:
        self.ticks += 1
        self.now += MINUTE
        self.living = {name: (one, left - 1) for name, (one, left) in self.living.items() if left > 1}
        given = [one for one, _ in self.living.values()]
        for place in line(self.waiting.values(), given, self.budgets, now=self.now, patience=PATIENCE):
            name = place.claim.name
            if place.standing is Standing.ROOM:
                claimed = self.waiting.pop(name)
                held = Holding(name, claimed.project, name, claimed.cost)
                self.living[name] = held, self.lifetime
            elif place.position == 1 and place.claim.first_since is None:
                self.waiting[name] = replace(place.claim, first_since=self.now)
        used = total(one.cost for one, _ in self.living.values())
        assert within(used, self.budgets.cluster)
        for project in PROJECTS:
            own = total(one.cost for one, _ in self.living.values() if one.project == project)
            assert within(own, self.budgets.projects[project])


streams = st.lists(
    st.lists(st.tuples(st.sampled_from(PROJECTS), st.sampled_from([Decimal(1), Decimal(2)])), max_size=3), max_size=80
)
crowds = st.lists(st.tuples(st.sampled_from(PROJECTS), cpus, st.integers(-1, 0)), min_size=1, max_size=8)


@settings(deadline=None, max_examples=150)
@given(crowds, streams, st.integers(1, 20), st.integers(9, 14), st.integers(1, 4))
def test_everybody_gets_in_whoever_comes_behind(
    crowd: list[tuple[str, Decimal, int]],
    stream: list[list[tuple[str, Decimal]]],
    lifetime: int,
    cpu: int,
    number: int,
) -> None:
    limits = {"cpu": Decimal(9), "environments": Decimal(number)}
    world = World(Budgets({"cpu": Decimal(cpu)}, dict.fromkeys(PROJECTS, limits)), lifetime)
    for project, size, priority in crowd:
        world.come(project, size, priority)
    watched = dict.fromkeys(world.waiting)
    # Small ones keep coming, and each of them fits where a large one does not; none of higher rank than the crowd.
    bound = len(crowd) * (int(PATIENCE / MINUTE) + lifetime + 2)
    for minute in range(bound):
        for project, size in stream[minute % len(stream)] if stream else []:
            world.come(project, size, -1)
        world.tick()
    assert not [name for name in watched if name in world.waiting]


def test_stream_of_higher_priority_cannot_keep_a_lower_one_out_for_ever() -> None:
    world = World(Budgets({"cpu": Decimal(9)}, {project: {} for project in PROJECTS}), lifetime=60)
    world.come("shop", Decimal(6), 0)
    # Twice as many come as can be served: those of the first day go before it, and all later ones behind.
    while "e0000" in world.waiting and world.ticks < 2 * 24 * 60 + 120:
        if world.ticks % 30 == 0:
            world.come("blog", Decimal(6), 1)
        world.tick()
    assert "e0000" not in world.waiting
    assert world.ticks > 24 * 60
