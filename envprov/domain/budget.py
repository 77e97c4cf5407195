"""
Budgets, and the line of those that wait for room. What an environment costs is what its size lets it request.

The first in line has to get in. So that it does, those behind it may pass only for a while: once it has been the
first for longer than the patience, what it needs is kept for it. Priority is worth waiting time, not an absolute
right: nobody who comes later than a bound goes before somebody who waits, so each one becomes the first some day.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from itertools import accumulate

from envprov.domain.project import Limits
from envprov.domain.quantity import amount, written
from envprov.domain.sizes import Size

RESOURCES = ("cpu", "memory", "ephemeral-storage", "storage")
COUNT = "environments"
CLUSTER = "the cluster"

PRECEDENCE = timedelta(days=1)
"""What one point of priority is worth: it goes before what came up to a day earlier."""

_GOING = datetime.min.replace(tzinfo=UTC)

Amounts = Mapping[str, Decimal]
"""Cores, bytes and numbers by resource; what is not named is not limited, or costs nothing."""


class Standing(Enum):
    """Whether there is room for an environment."""

    ROOM = "Room"
    WAITS = "Waits"
    NEVER = "Never"


@dataclass(frozen=True)
class Claim:
    """
    What one environment asks for.

    Attributes:
        name: Of the Environment.
        project: Its Project.
        branch: Its branch.
        cost: What it will cost.
        since: When it began to ask.
        priority: Of its rule.
        held: What it has been given already: it asks for another size; None for a new one.
        first_since: When it became the first of those that wait for the same budget, if it ever was.

    """

    name: str
    project: str
    branch: str
    cost: Amounts
    since: datetime
    priority: int = 0
    held: Amounts | None = None
    first_since: datetime | None = None

    @property
    def need(self) -> Amounts:
        """What must be free for it."""
        held = self.held or {}
        return {name: max(value - held.get(name, Decimal(0)), Decimal(0)) for name, value in self.cost.items()}

    @property
    def rank(self) -> tuple[datetime, int, str]:
        """What the line is ordered by. It never changes by waiting, so nobody overtakes twice."""
        return self.since - self.priority * PRECEDENCE, -self.priority, self.name


@dataclass(frozen=True)
class Holding:
    """
    What one environment has been given.

    Attributes:
        name: Of the Environment.
        project: Its Project.
        branch: Its branch.
        cost: What it costs.
        ends: When it ends by itself, if it does.
        is_going: Whether it is being taken down already.

    """

    name: str
    project: str
    branch: str
    cost: Amounts
    ends: datetime | None = None
    is_going: bool = False


@dataclass(frozen=True)
class Budgets:
    """
    The most that all environments may have.

    Attributes:
        cluster: All of them together.
        projects: Those of each Project.

    """

    cluster: Amounts = field(default_factory=dict)
    projects: Mapping[str, Amounts] = field(default_factory=dict)

    def of(self, project: str) -> tuple[tuple[str, Amounts], ...]:
        """The budgets that count for an environment of a Project, by what they are called."""
        return (scope_of(project), self.projects.get(project, {})), (CLUSTER, self.cluster)


@dataclass(frozen=True)
class Place:
    """
    Where an environment stands.

    Attributes:
        claim: What it asks for.
        standing: Whether there is room.
        position: Place among those that wait for the same budget; 1 is next; 0 if it does not wait.
        scope: Whose budget it waits for, or can never fit.
        why: Puts into words what is missing.

    """

    claim: Claim
    standing: Standing
    position: int = 0
    scope: str = ""
    why: Callable[[], str] = field(default=str, repr=False, compare=False)

    @property
    def reason(self) -> str:
        """Why it waits, in words that do not change from minute to minute."""
        return self.why()


@lru_cache(maxsize=1024)
def cost_of(size: Size) -> Amounts:
    """What an environment of a size costs: an upper bound, for its quota lets it request no more."""
    hard = size.hard()
    return {COUNT: Decimal(1)} | {name: amount(hard[f"requests.{name}"]) for name in RESOURCES}


def budget_of(limits: Limits) -> Amounts:
    """The budget that a Project sets."""
    count = {COUNT: Decimal(limits.environments)} if limits.environments is not None else {}
    return {**count, **{name: amount(value) for name, value in limits.requests.items()}}


def scope_of(project: str) -> str:
    """What the budget of a Project is called."""
    return f"Project {project}"


def within(cost: Amounts, limit: Amounts) -> bool:
    """Whether a cost stays within a limit in everything that the limit names."""
    return all(cost.get(name, Decimal(0)) <= most for name, most in limit.items())


def total(costs: Iterable[Amounts]) -> dict[str, Decimal]:
    """The sum of costs."""
    summed: dict[str, Decimal] = {}
    for cost in costs:
        for name, value in cost.items():
            summed[name] = summed.get(name, Decimal(0)) + value
    return summed


def line(
    claims: Iterable[Claim], holdings: Iterable[Holding], budgets: Budgets, *, now: datetime, patience: timedelta
) -> tuple[Place, ...]:
    """
    Where each environment stands that asks for room.

    Args:
        claims: Those that ask.
        holdings: Those that have been given something. One that asks for another size is among them, too.
        budgets: The most that all may have.
        now: Aware moment.
        patience: How long those behind the first may pass it.

    Returns:
        One place for each claim, in the order of the line. All those with room fit together.

    """
    given = tuple(holdings)
    counters: dict[str, _Counter] = {CLUSTER: _Counter(CLUSTER, budgets.cluster, given)}
    places: list[Place] = []
    for claim in sorted(claims, key=lambda one: one.rank):
        scope = scope_of(claim.project)
        if scope not in counters:
            own = tuple(one for one in given if one.project == claim.project)
            counters[scope] = _Counter(scope, budgets.projects.get(claim.project, {}), own)
        places.append(_place(claim, counters[scope], counters[CLUSTER], now=now, patience=patience))
    return tuple(places)


def amounts_in_words(needed: Amounts) -> str:
    """Amounts as a person reads them: ``2 CPU, 6Gi memory``."""
    return ", ".join(_said(name, needed[name]) for name in (COUNT, *RESOURCES) if needed.get(name))


def as_quantities(amounts: Amounts) -> dict[str, str]:
    """Amounts as the API writes them."""
    return {name: written(value, like="1" if name in {"cpu", COUNT} else "Gi") for name, value in amounts.items()}


class _Expiries:
    """Those of one budget that are going, and those that end by themselves, in the order in which they do."""

    def __init__(self, holdings: tuple[Holding, ...]) -> None:
        going = [(_GOING, one) for one in holdings if one.is_going]
        dated = [(one.ends.astimezone(UTC), one) for one in holdings if one.ends is not None and not one.is_going]
        self._dated = sorted((*going, *dated), key=lambda pair: (pair[0], pair[1].name))
        self._sums: dict[str, list[Decimal]] = {}

    def making(self, missing: Amounts) -> tuple[datetime, Holding] | None:
        """The end that makes a room, with all that end before it; None if all of them do not."""
        last = 0
        for name, value in missing.items():
            if name not in self._sums:
                self._sums[name] = list(accumulate(one.cost.get(name, Decimal(0)) for _, one in self._dated))
            last = max(last, bisect_left(self._sums[name], value))
        return self._dated[last] if last < len(self._dated) else None


class _Counter:
    """What is left of one budget while the line is walked along, and who waits for it."""

    def __init__(self, scope: str, limit: Amounts, holdings: tuple[Holding, ...]) -> None:
        used = total(one.cost for one in holdings)
        self.scope = scope
        self.limit = limit
        self.free = {name: most - used.get(name, Decimal(0)) for name, most in limit.items()}
        self.waiting = 0
        self.kept_for: Claim | None = None
        self._expiries = _Expiries(holdings)

    def missing(self, claim: Claim) -> dict[str, Decimal]:
        """What is not free of what a claim needs, by resource."""
        need = claim.need
        return {name: need[name] - free for name, free in self.free.items() if need.get(name) and need[name] > free}

    def take(self, claim: Claim) -> None:
        for name, value in claim.need.items():
            if name in self.free:
                self.free[name] -= value

    def why(self, claim: Claim, missing: Amounts) -> Callable[[], str]:
        """What is missing, in words, as it is at this point of the line."""
        free, kept_for = {name: max(self.free[name], Decimal(0)) for name in missing}, self.kept_for

        def said() -> str:
            lacks = [
                f"{_said(name, claim.need[name])}, {_number(name, left)} free of {_number(name, self.limit[name])}"
                for name, left in free.items()
            ]
            kept = f" beside what is kept for {kept_for.branch}, the first in line" if kept_for else ""
            return f"needs {', and '.join(lacks)}{kept} ({self.scope}); {self._expiry(claim, missing)}"

        return said

    def _expiry(self, claim: Claim, missing: Amounts) -> str:
        found = self._expiries.making(missing)
        if found is None:
            return "nothing that ends by itself makes that room"
        ends, one = found
        whose = one.branch if one.project == claim.project else f"{one.project} {one.branch}"
        if one.is_going:
            return f"{whose} is being taken down and makes that room"
        return f"next expiry: {whose} at {ends:%Y-%m-%d %H:%M} UTC"


def _place(claim: Claim, project: _Counter, cluster: _Counter, *, now: datetime, patience: timedelta) -> Place:
    for counter in (project, cluster):
        if not within(claim.cost, counter.limit):
            return Place(claim, Standing.NEVER, scope=counter.scope, why=partial(_never, claim, counter))
    is_due = claim.first_since is not None and now - claim.first_since >= patience
    for counter in (project, cluster):
        missing = counter.missing(claim)
        if not missing:
            continue
        counter.waiting += 1
        place = Place(claim, Standing.WAITS, counter.waiting, counter.scope, counter.why(claim, missing))
        if counter.waiting == 1 and is_due:
            # Who waits for the cluster keeps its share of the project as well, or it would be taken meanwhile.
            for kept in (project, cluster) if counter is cluster else (project,):
                kept.take(claim)
                kept.kept_for = claim
        return place
    project.take(claim)
    cluster.take(claim)
    return Place(claim, Standing.ROOM)


def _never(claim: Claim, counter: _Counter) -> str:
    beyond = [
        f"{_said(name, claim.cost[name])}, and all of {counter.scope} may have {_number(name, most)}"
        for name, most in counter.limit.items()
        if claim.cost.get(name, Decimal(0)) > most
    ]
    return f"can never fit: needs {'; '.join(beyond)}. Choose a smaller size, or have the budget raised"


def _said(name: str, value: Decimal) -> str:
    words = {COUNT: "environment" if value == 1 else "environments", "cpu": "CPU", "ephemeral-storage": "scratch space"}
    return f"{_number(name, value)} {words.get(name, name)}"


def _number(name: str, value: Decimal) -> str:
    if name in {"cpu", COUNT}:
        return f"{value.normalize():f}" if value else "0"
    return written(value, like="Gi")
