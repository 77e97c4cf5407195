"""The budgets in force: what the caches and the ledger say of them, put to the rules, and what is written into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from envprov.controller.usher import Figures, Stirred
from envprov.domain.actions import Admit
from envprov.domain.admission import Admission, Admitted, Room, TooLarge, Waiting
from envprov.domain.budget import (
    CLUSTER,
    COUNT,
    Amounts,
    Budgets,
    Claim,
    Holding,
    Place,
    Standing,
    as_quantities,
    budget_of,
    cost_of,
    line,
    scope_of,
    total,
    within,
)
from envprov.domain.capacity import measured
from envprov.domain.desired import Desired, desire
from envprov.domain.environment import Environment, Type, parse_environment
from envprov.domain.errors import InvalidRecord
from envprov.domain.ledger import Entry
from envprov.domain.names import namespace_of
from envprov.domain.objects import OWNER
from envprov.domain.observed import NamespaceState
from envprov.domain.platform import Platform
from envprov.domain.project import Project
from envprov.domain.sizes import Size
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.informer import Informer
from envprov.kube.ledger import Ledger, with_ledger

Manifest = Mapping[str, Any]

TRIES = 5
"""Others write one entry at a time; five of them in a row are a storm that the work queue must calm."""


class Measured:
    """
    The budget of a cluster as its nodes make it; worked out anew when they change, and kept while nobody can be asked.

    Args:
        nodes: Cache of them.
        reserve: See :func:`envprov.domain.capacity.measured`.

    """

    def __init__(self, nodes: Informer, reserve: Decimal) -> None:
        self._nodes = nodes
        self._reserve = reserve
        self._known: Amounts | None = None
        nodes.on_change(self._forget)

    def __call__(self) -> Amounts:
        """The budget as it now is."""
        if self._known is None:
            self._known = measured(self._nodes.items(), self._reserve)
        return self._known

    def _forget(self, _: Manifest) -> None:
        self._known = None


@dataclass(frozen=True)
class _Record:
    """
    An Environment as far as a budget is concerned.

    Attributes:
        environment: The record.
        project: Its Project, as it was when the rest was worked out.
        size: What it is to have; None if that cannot be said.
        priority: Of its rule.

    """

    environment: Environment
    project: Project | None
    size: Size | None = None
    priority: int = 0


@dataclass(frozen=True)
class LiveBudget:
    """
    The budgets of one control namespace and its cluster.

    Attributes:
        client: Speaks to the API server.
        ledger: What was given to whom.
        environments: Cache of the records.
        namespaces: Cache of the namespaces that carry our label.
        project: Gives a Project by its name; None if there is none, InvalidRecord if it cannot be understood.
        platform: The settings for all environments.
        cluster: The budget of the cluster, as it now is.
        patience: How long the first in line may be passed.
        now: Clock; aware moments.

    """

    client: KubeClient
    ledger: Ledger
    environments: Informer
    namespaces: Informer
    project: Callable[[str], Project | None]
    platform: Platform
    cluster: Callable[[], Amounts]
    patience: timedelta
    now: Callable[[], datetime]
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _read: dict[str, tuple[str, _Record | None]] = field(default_factory=dict, repr=False)

    def admission(self, desired: Desired, seen: NamespaceState) -> Admission:
        """
        What the budgets say of one environment, by the caches.

        Args:
            desired: What ought to be.
            seen: Whether its namespace is there.

        """
        if seen is NamespaceState.FOREIGN:
            return Admitted()  # it is refused for that, and nothing is spent
        identity = desired.identity
        moment = f"{self.now():%Y-%m-%dT%H:%M:%SZ}"
        given = Entry(identity.uid, identity.project, desired.size_name, desired.size, moment)
        entry = self.ledger.entries().get(identity.name)
        is_there = seen is not NamespaceState.MISSING
        held = entry if entry and (entry.uid == identity.uid or is_there) else None
        is_exempt = held is None and self._needs_no_entry(identity.project, is_there=is_there)
        if is_exempt or held == replace(given, at=held.at if held else ""):
            return Admitted(held)
        # It was there before the budget, or before the ledger was lost; and what becomes no larger spends nothing.
        if is_there if held is None else within(cost_of(desired.size), cost_of(held.size)):
            return Room(given, asks=False)
        place = self._place(identity.name, desired.size, held)
        if place is None or place.standing is Standing.ROOM:
            return Room(given)
        if place.standing is Standing.NEVER:
            return TooLarge(place.reason, held)
        return Waiting(place, held)

    async def admit(self, admit: Admit) -> None:
        """
        Enter an environment into the ledger, unless there is no room for it any more; or take it out.

        Raises:
            Conflict: Others wrote in between, each time.
            Invalid: The ledger is full.

        """
        name, entry = admit.identity.name, admit.entry

        async def write() -> None:
            held = self.ledger.entries().get(name)
            if entry is None:
                if held is not None and held.uid == admit.identity.uid and not self._is_there(name):
                    await self.ledger.remove(name)
                return
            held = held if held and (held.uid == entry.uid or self._is_there(name)) else None
            if admit.asks:
                place = self._place(name, entry.size, held)
                if place is None or place.standing is not Standing.ROOM:
                    return  # the next look says so
            await self.ledger.put(name, entry)

        async with self._writing:
            await with_ledger(self.ledger, write, tries=TRIES)

    def gone(self) -> tuple[str, ...]:
        """Names in the ledger whose environment seems to be gone, namespace and all."""
        entries = self.ledger.entries()

        def is_gone(name: str) -> bool:
            live, entry = self.environments.get(name, self._control), entries.get(name)
            is_same = live is not None and (entry is None or live["metadata"]["uid"] == entry.uid)
            return not is_same and not self._is_there(name)

        return tuple(sorted(name for name in self.ledger.names() if is_gone(name)))

    async def reclaim(self, name: str) -> bool:
        """
        Take an environment out of the ledger, if a live look says that it is gone.

        Returns:
            Whether it did.

        Raises:
            Conflict: Others wrote in between, each time.

        """
        entry = self.ledger.entries().get(name)
        live = await self.client.get(resources.ENVIRONMENTS, name, self._control, metadata_only=True)
        if live is not None and (entry is None or live["metadata"]["uid"] == entry.uid):
            return False
        if self._is_owned(await self.client.get(resources.NAMESPACES, namespace_of(name)), name):
            return False
        removed = False

        async def write() -> None:
            nonlocal removed
            if name in self.ledger.names() and self.ledger.entries().get(name) == entry:
                await self.ledger.remove(name)
                removed = True

        async with self._writing:
            await with_ledger(self.ledger, write, tries=TRIES)
        return removed

    async def announce(self) -> None:
        """
        Write the cluster's budget beside the ledger, where `envprov queue` finds it.

        Raises:
            Conflict: Others wrote in between, each time.

        """
        budget = as_quantities(self.cluster())

        async def write() -> None:
            if self.ledger.cluster_budget() != (budget or None):
                await self.ledger.say_cluster_budget(budget)

        async with self._writing:
            await with_ledger(self.ledger, write, tries=TRIES)

    def stirred(self) -> tuple[Stirred, ...]:
        """Environments in line for whom something has changed since they last reported."""
        found = []
        entries, is_full = self.ledger.entries(), self.ledger.is_full
        places = {place.claim.name: place for place in self._line(self._claims())}
        for manifest in self.environments.items():
            name = manifest["metadata"]["name"]
            place, queue = places.get(name), (manifest.get("status") or {}).get("queue")
            if place is not None and place.standing is Standing.WAITS:
                if queue is None or (queue.get("position"), queue.get("reason")) != (place.position, place.reason):
                    found.append(Stirred(name, is_urgent=False))
            elif (
                queue is not None
                or (place is not None and place.standing is Standing.ROOM)
                or (not is_full and self._is_to_be_entered(manifest, entries.get(name)))
            ):
                found.append(Stirred(name, is_urgent=True))
        return tuple(found)

    def figures(self) -> Figures:
        """What there is to show."""
        holdings, claims = tuple(self._holdings()), tuple(self._claims())
        projects = sorted({one.project for one in holdings} | {one.project for one in claims})
        budgets = self._budgets(projects)
        used = {CLUSTER: total(one.cost for one in holdings)} | {
            scope_of(project): total(one.cost for one in holdings if one.project == project) for project in projects
        }
        limits = {CLUSTER: budgets.cluster} | {scope_of(name): limit for name, limit in budgets.projects.items()}
        waiting = {project: sum(claim.project == project for claim in claims) for project in projects}
        return Figures(waiting, used, limits)

    @property
    def _control(self) -> str:
        return self.platform.control_namespace

    def _place(self, name: str, size: Size, held: Entry | None) -> Place | None:
        """Where an environment stands; None for one that is not in the cache any more."""
        record = self._record(name)
        if record is None:
            return None
        own = self._claim(record, size, held)
        if not self._limits(own.project):
            return Place(own, Standing.ROOM)
        others = (claim for claim in self._claims() if claim.name != name)
        return next(place for place in self._line((own, *others)) if place.claim.name == name)

    def _line(self, claims: Iterable[Claim]) -> tuple[Place, ...]:
        asked = tuple(claims)
        if not asked:
            return ()
        budgets = self._budgets({claim.project for claim in asked})
        return line(asked, self._holdings(), budgets, now=self.now(), patience=self.patience)

    def _budgets(self, projects: Iterable[str]) -> Budgets:
        found = {name: self._project(name) for name in projects}
        return Budgets(self.cluster(), {name: budget_of(one.spec.limits) for name, one in found.items() if one})

    def _needs_no_entry(self, project: str, *, is_there: bool) -> bool:
        """With a full ledger, who is there counts by its namespace all the same; where no budget is, nobody counts."""
        return self.ledger.is_full and (is_there or not self._limits(project))

    def _limits(self, project: str) -> bool:
        """Whether any budget counts for environments of a Project."""
        return any(limit for _, limit in self._budgets((project,)).of(project))

    def _holdings(self) -> Iterator[Holding]:
        entries = self.ledger.entries()
        for name, entry in entries.items():
            record = self._record(name)
            environment = record.environment if record else None
            branch = environment.spec.branch if environment else name
            is_going = environment is not None and environment.deleting
            yield Holding(name, entry.project, branch, cost_of(entry.size), _end(environment), is_going)
        for manifest in self.environments.items():
            name = manifest["metadata"]["name"]
            if name in entries or not self._is_there(name):
                continue
            record = self._record(name)
            if record is not None:  # it was there before the budget, and is entered when its turn comes
                environment = record.environment
                spec, is_going = environment.spec, environment.deleting
                cost = cost_of(record.size) if record.size else {COUNT: Decimal(1)}
                yield Holding(name, spec.project, spec.branch, cost, _end(environment), is_going)

    def _claims(self) -> Iterator[Claim]:
        """
        Those who ask for room: they have said so, or nobody has looked at them yet.

        Whoever met a fault is not among them until it has passed: it could not enter, and must not keep others out.
        """
        entries = self.ledger.entries()
        for manifest in self.environments.items():
            record = self._record(manifest["metadata"]["name"])
            if record is None or record.size is None or record.environment.deleting:
                continue
            environment, queue = record.environment, record.environment.status.queue
            if queue is None and environment.status.condition(Type.READY) is not None:
                continue
            entry, is_there = entries.get(environment.name), self._is_there(environment.name)
            held = entry if entry and (entry.uid == environment.uid or is_there) else None
            if held is None and not is_there:
                yield self._claim(record, record.size, None)
            elif held is not None and queue is not None and not within(cost_of(record.size), cost_of(held.size)):
                yield self._claim(record, record.size, held)

    def _claim(self, record: _Record, size: Size, held: Entry | None) -> Claim:
        environment, queue = record.environment, record.environment.status.queue
        began = environment.created_at if held is None else self.now()
        return Claim(
            name=environment.name,
            project=environment.spec.project,
            branch=environment.spec.branch,
            cost=cost_of(size),
            since=(queue.since if queue else None) or began,
            priority=record.priority,
            held=cost_of(held.size) if held else None,
            first_since=queue.first_since if queue else None,
        )

    def _record(self, name: str) -> _Record | None:
        """An Environment as it is in the cache; each version of it and of its Project is read once."""
        manifest = self.environments.get(name, self._control)
        if manifest is None:
            self._read.pop(name, None)
            return None
        version = manifest["metadata"]["resourceVersion"]
        known = self._read.get(name)
        project = self._project(str(manifest.get("spec", {}).get("project", "")))
        if known is None or known[0] != version or (known[1] is not None and known[1].project is not project):
            known = version, self._understood(manifest, project)
            self._read[name] = known
        return known[1]

    def _understood(self, manifest: Manifest, project: Project | None) -> _Record | None:
        try:
            environment = parse_environment(manifest)
        except InvalidRecord:
            return None
        if project is None:
            return _Record(environment, None)
        rule = project.rule_for(environment.spec.branch)
        record = _Record(environment, project, priority=rule.priority if rule else 0)
        try:
            desired = desire(environment, project, self.platform, environment.status.branch_file)
        except InvalidRecord:
            return record
        return replace(record, size=desired.size)

    def _project(self, name: str) -> Project | None:
        try:
            return self.project(name)
        except InvalidRecord:
            return None

    def _is_to_be_entered(self, manifest: Manifest, entry: Entry | None) -> bool:
        """Whether an environment is there and the ledger does not say so: it is older, or the ledger was lost."""
        metadata = manifest["metadata"]
        if "deletionTimestamp" in metadata or (entry is not None and entry.uid == metadata["uid"]):
            return False
        return self._is_there(metadata["name"])

    def _is_there(self, name: str) -> bool:
        return self._is_owned(self.namespaces.get(namespace_of(name)), name)

    def _is_owned(self, namespace: Manifest | None, name: str) -> bool:
        notes = (namespace or {}).get("metadata", {}).get("annotations") or {}
        return bool(notes.get(OWNER) == f"{self._control}/{name}")


def _end(environment: Environment | None) -> datetime | None:
    if environment is None or environment.spec.pinned or environment.deleting:
        return None
    return environment.status.expires_at
