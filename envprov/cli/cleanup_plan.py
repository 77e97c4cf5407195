"""The plan of a cleanup: what the rules find in one reading of the control namespace, and what does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from envprov.cli.session import Session
from envprov.domain.cleaning import (
    Found,
    Orphan,
    Why,
    expired,
    holders_gone,
    hosts_left_over,
    orphaned,
    release_stuck,
    without_project,
)
from envprov.domain.deliveries import Dismissal, Unwanted, Wanted
from envprov.domain.environment import Environment, parse_environment
from envprov.domain.errors import EnvprovError, InvalidRecord
from envprov.domain.holds import GUARD, read_holds
from envprov.domain.hosts import Reservation
from envprov.kube.records import parse_project
from envprov.kube.reservations import Reservations
from envprov.kube.resources import ENVIRONMENTS, NAMESPACES, PROJECTS, SERVICE_ACCOUNTS

PAGE = 100
"""Environments that are in memory whole at the same time: their values may be large."""

_SPEC = ("project", "branch", "revision", "pinned")


_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Finding:
    """
    One row of the plan.

    Attributes:
        found: What, why, since when, and what shows it.
        act: Does it; None for what is left to somebody else.
        verb: What is done, or who does it, for the table.

    """

    found: Found
    act: Callable[[], Awaitable[object]] | None
    verb: str


class BranchPlan(Protocol):
    """What GitLab has to say to a cleanup."""

    async def gone(self, faults: list[str]) -> Sequence[Finding]:
        """Environments whose branch is gone."""

    async def strangers(self, known: Mapping[str, Environment], faults: list[str]) -> Sequence[Finding]:
        """GitLab environments of ours without an Environment."""


async def gather(
    session: Session, branches: BranchPlan | None, now: datetime, faults: list[str], *, dry_run: bool
) -> tuple[Finding, ...]:
    """
    Everything that there is to clean up.

    Args:
        session: Where.
        branches: GitLab; None where it is not configured.
        now: Aware moment.
        faults: Gets what could not be read; the rest is found all the same.
        dry_run: Whether nothing may be written, not even a note.

    """
    plan = _Plan(session, now, faults)
    findings: list[Finding] = []
    # What environments have first: a record that is made in between has its namespace and hosts later than itself.
    reserved = await plan.reading(plan.reservations.all())
    namespaces = await plan.reading(session.client.list(NAMESPACES, label_selector=f"{GUARD}=env", metadata_only=True))
    environments = await plan.reading(plan.environments())
    projects = await plan.reading(session.client.list(PROJECTS, session.namespace))
    if environments is not None:
        findings += plan.lifetimes(environments)
        if projects is not None:
            findings += plan.projects(environments, {item["metadata"]["name"] for item in projects.items})
        if namespaces is not None:
            findings += plan.namespaces(namespaces.items, environments)
        findings += plan.hosts(reserved or (), environments)
        findings += [
            Finding(one, None, "none: the controller unlocks it; `envprov status` says how it stands")
            for environment in environments
            if (one := release_stuck(environment, now)) is not None
        ]
    swept = {item["metadata"]["name"] for item in projects.items if item["spec"].get("gitlab")} if projects else None
    findings += await plan.reading(plan.tombstones(swept)) or ()
    findings += await plan.reading(plan.holds()) or ()
    if branches is None and not dry_run:
        await plan.reading(plan.ask_for_sweeps(projects.items if projects else ()))
    if branches is not None:
        findings += await plan.reading(branches.gone(faults)) or ()
        if environments is not None:
            known = {environment.name: environment for environment in environments}
            findings += await plan.reading(branches.strangers(known, faults)) or ()
    return tuple(findings)


@dataclass(frozen=True)
class _Plan:
    session: Session
    now: datetime
    faults: list[str]

    @property
    def reservations(self) -> Reservations:
        """The reserved hosts of the control namespace."""
        return Reservations(self.session.client, self.session.namespace)

    async def reading(self, work: Awaitable[_Read]) -> _Read | None:
        """What was read, or None with a fault more."""
        try:
            return await work
        except EnvprovError as error:
            self.faults.append(str(error))
            return None

    async def environments(self) -> list[Environment]:
        """All Environments, without what may be large in them."""
        found: list[Environment] = []
        pages = self.session.client.pages(ENVIRONMENTS, self.session.namespace, size=PAGE)
        async with aclosing(pages):
            async for page in pages:
                for item in page.items:
                    spec = item.get("spec", {})
                    slim = {**item, "spec": {name: spec[name] for name in _SPEC if name in spec}}
                    try:
                        found.append(parse_environment(slim))
                    except InvalidRecord as error:
                        self.faults.append(str(error))
        return found

    def lifetimes(self, environments: Sequence[Environment]) -> list[Finding]:
        expire = self.session.environments.expire
        return [
            Finding(one, partial(expire, environment), "delete")
            for environment in environments
            if (one := expired(environment, self.now)) is not None
        ]

    def projects(self, environments: Sequence[Environment], there: set[str]) -> list[Finding]:
        sweep = self.session.settings.sweep
        gone, braked = without_project(environments, there, now=self.now, grace=sweep.grace, share=sweep.brake_share)
        keeps = "none: too many at once; `envprov down` ends each, or put the Project back"
        return [
            Finding(one, None, keeps)
            if environment.spec.project in braked
            else Finding(one, partial(self._end, environment), "delete")
            for environment, one in gone
        ]

    def namespaces(self, namespaces: Sequence[dict[str, Any]], environments: Sequence[Environment]) -> list[Finding]:
        """A namespace without a record gets one back, whose teardown is then asked for: so the guard is heard."""
        orphans = orphaned(
            namespaces,
            {environment.name for environment in environments},
            control_namespace=self.session.namespace,
            now=self.now,
            grace=self.session.settings.sweep.grace,
        )
        by_hand = "none: it does not say whose it is; look who uses it, then delete it by hand"
        return [
            Finding(one.found, partial(self._tear_down, one), "tear down")
            if one.branch
            else Finding(one.found, None, by_hand)
            for one in orphans
        ]

    def hosts(self, reserved: Sequence[Reservation], environments: Sequence[Environment]) -> list[Finding]:
        """Hosts that nobody gives back any more; each is looked at again before."""
        give_back = self.reservations.release_left_over
        return [
            Finding(found, partial(give_back, reservation), "release")
            for reservation, found in hosts_left_over(reserved, environments)
        ]

    async def tombstones(self, swept: set[str] | None) -> list[Finding]:
        """What is remembered of branches and no longer needed."""
        return [
            Finding(
                Found(
                    what=f"tombstone {stone.environment}",
                    why=Why.TOO_OLD,
                    since=stone.deleted_at,
                    evidence=f"branch {stone.branch} of Project {stone.project} was torn down",
                ),
                partial(self.session.environments.forget, stone),
                "forget",
            )
            for stone in await self.session.environments.tombstones()
            if stone.is_over(self.now, is_swept=swept is None or stone.project in swept)
        ]

    async def holds(self) -> list[Finding]:
        """Holds of environments that are gone: the controller's guard takes them off."""
        accounts = await self.session.client.list(SERVICE_ACCOUNTS, metadata_only=True)
        held = [(item["metadata"], read_holds(item)) for item in accounts.items]
        if not any(holds for _, holds in held):
            return []
        live = await self.session.client.list(ENVIRONMENTS, metadata_only=True)
        uids = {item["metadata"]["uid"] for item in live.items}
        return [
            Finding(one, None, "none: the controller's guard takes it off; `envprov guard status`")
            for metadata, holds in held
            for one in holders_gone(f"{metadata['namespace']}/{metadata['name']}", holds, uids)
        ]

    async def ask_for_sweeps(self, projects: Sequence[Mapping[str, Any]]) -> None:
        """Where we do not know GitLab, the controller looks at the branches."""
        for item in projects:
            if item["spec"].get("gitlab"):
                await self.session.environments.request_sweep(parse_project(item))

    async def _end(self, environment: Environment) -> None:
        live = await self.session.environments.get(environment.name)
        if live is not None and live["metadata"]["uid"] == environment.uid:
            gone = Unwanted(Dismissal.UNWANTED)
            await self.session.environments.bring(environment.spec.project, environment.spec.branch, gone)

    async def _tear_down(self, orphan: Orphan) -> None:
        await self.session.environments.bring(orphan.project, orphan.branch, Wanted())
        await self.session.environments.bring(orphan.project, orphan.branch, Unwanted(Dismissal.UNWANTED))
