"""The plan of a cleanup: what the rules find in one reading of the control namespace, and what does it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from envprov.cli.session import Session
from envprov.domain.cleaning import (
    Found,
    Orphan,
    OrphanHold,
    Why,
    expired,
    holders_gone,
    hosts_left_over,
    orphaned,
    without_project,
)
from envprov.domain.deliveries import Create, Dismissal, Ignore, Present, Reason, Unwanted, Wanted
from envprov.domain.desired import term_of
from envprov.domain.environment import Environment, parse_environment
from envprov.domain.errors import Conflict, EnvprovError, InvalidRecord
from envprov.domain.holds import GUARD
from envprov.domain.hosts import Reservation
from envprov.domain.project import Project
from envprov.domain.settled import reads_file
from envprov.kube.record import known_of
from envprov.kube.records import parse_project
from envprov.kube.reservations import Reservations
from envprov.kube.resources import ENVIRONMENTS, NAMESPACES, PROJECTS, SERVICE_ACCOUNTS

PAGE = 100
"""Environments that are in memory whole at the same time: their values may be large."""

_SPEC = ("project", "branch", "revision", "pinned", "asleep", "lifetime")
_BULKY = ("findings", "gitlab", "holds", "queue")
"""Parts of a status that nothing here is decided from."""


_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Finding:
    """
    One row of the plan.

    Attributes:
        found: What, why, since when, and what shows it.
        act: Does it, or asks for it; None for what is left to somebody else. False says that there was nothing to do.
        verb: What is done, or who does it, for the table.
        asked: Knows what became of it, if somebody else was asked for it.

    """

    found: Found
    act: Callable[[], Awaitable[object]] | None
    verb: str
    asked: Asked | None = None


class Asked(Protocol):
    """What somebody else is asked for."""

    @property
    def patience(self) -> timedelta:
        """How long it may take."""

    async def left(self, asked: Sequence[Found]) -> Mapping[Found, str]:
        """Those that are not done yet, with why."""


class BranchPlan(Protocol):
    """What GitLab has to say to a cleanup."""

    async def gone(self, faults: list[str]) -> Sequence[Finding]:
        """Environments whose branch is gone."""

    async def strangers(self, faults: list[str]) -> Sequence[Finding]:
        """GitLab environments of ours without an Environment."""


class ControllerPlan(Protocol):
    """What the controller is asked for."""

    def stuck(self, environments: Sequence[Environment]) -> Sequence[Finding]:
        """Releases that are stuck."""

    def orphans(self, orphans: Sequence[OrphanHold]) -> Sequence[Finding]:
        """Holds whose holder is gone."""


@dataclass(frozen=True)
class Records:
    """
    The Environments of the control namespace.

    Attributes:
        environments: Those that can be understood, without what may be large in them.
        uids: UIDs of all, by name.

    """

    environments: list[Environment] = field(default_factory=list)
    uids: dict[str, str] = field(default_factory=dict)


async def gather(  # noqa: PLR0913 - who has something to say, and to whom
    session: Session,
    controller: ControllerPlan,
    branches: BranchPlan | None,
    now: datetime,
    faults: list[str],
    *,
    dry_run: bool,
) -> tuple[Finding, ...]:
    """
    Everything that there is to clean up.

    Args:
        session: Where.
        controller: Whom some of it is asked of.
        branches: GitLab; None where it is not configured.
        now: Aware moment.
        faults: Gets what could not be read; the rest is found all the same.
        dry_run: Whether nothing may be written, not even a note.

    """
    plan = _Plan(session, now, faults)
    findings: list[Finding] = []
    # What environments have first: a record that is made in between has its namespace and hosts later than itself.
    reserved = await plan.reading(plan.reservations.all())
    namespaces = await plan.reading(session.client.list(NAMESPACES, metadata_only=True))
    records = await plan.reading(plan.environments())
    projects = await plan.reading(session.client.list(PROJECTS, session.namespace))
    if records is not None:
        if projects is not None:
            findings += plan.lifetimes(records.environments, plan.readable(projects.items))
            findings += plan.projects(records.environments, {item["metadata"]["name"] for item in projects.items})
        if namespaces is not None:
            findings += plan.namespaces(namespaces.items, records.uids)
        findings += plan.hosts(reserved or (), records.uids)
        findings += controller.stuck(records.environments)
    swept = {item["metadata"]["name"] for item in projects.items if item["spec"].get("gitlab")} if projects else None
    findings += await plan.reading(plan.tombstones(swept)) or ()
    if namespaces is not None:
        findings += controller.orphans(await plan.reading(plan.holds(namespaces.items)) or ())
    if branches is None and not dry_run:
        for project in plan.readable(projects.items if projects else ()).values():
            if project.spec.gitlab is not None:
                # Where we do not know GitLab, the controller looks at the branches.
                await plan.reading(session.environments.request_sweep(project))
    if branches is not None:
        findings += await plan.reading(branches.gone(faults)) or ()
        findings += await plan.reading(branches.strangers(faults)) or ()
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

    async def environments(self) -> Records:
        """All Environments."""
        found = Records()
        pages = self.session.client.pages(ENVIRONMENTS, self.session.namespace, size=PAGE)
        async with aclosing(pages):
            async for page in pages:
                for item in page.items:
                    # One that cannot be understood is there all the same, with all that is its own.
                    found.uids[item["metadata"]["name"]] = item["metadata"]["uid"]
                    try:
                        found.environments.append(parse_environment(_slim(item)))
                    except InvalidRecord as error:
                        self.faults.append(str(error))
        return found

    def readable(self, projects: Sequence[Mapping[str, Any]]) -> dict[str, Project]:
        """The Projects that can be understood; what is wrong with the others, each of their Environments says."""
        found: dict[str, Project] = {}
        for item in projects:
            with suppress(InvalidRecord):
                found[item["metadata"]["name"]] = parse_project(item)
        return found

    def lifetimes(self, environments: Sequence[Environment], projects: Mapping[str, Project]) -> list[Finding]:
        findings = []
        for environment in environments:
            project = projects.get(environment.spec.project)
            if project is None:
                continue
            file = environment.status.branch_file if reads_file(environment, project) else None
            found = expired(environment, term_of(environment, project, file), self.now)
            if found is not None:
                findings.append(Finding(found, partial(self.session.environments.expire, environment), "delete"))
        return findings

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

    def namespaces(self, namespaces: Sequence[dict[str, Any]], known: Mapping[str, str]) -> list[Finding]:
        """A namespace without a record gets one back, whose teardown is then asked for: so the guard is heard."""
        ours = [item for item in namespaces if (item["metadata"].get("labels") or {}).get(GUARD) == "env"]
        orphans = orphaned(
            ours,
            known.keys(),
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

    def hosts(self, reserved: Sequence[Reservation], known: Mapping[str, str]) -> list[Finding]:
        """Hosts that nobody gives back any more; each is looked at again before."""
        give_back = self.reservations.release_left_over
        return [
            Finding(found, partial(give_back, reservation), "release")
            for reservation, found in hosts_left_over(reserved, known.items())
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

    async def holds(self, namespaces: Sequence[dict[str, Any]]) -> tuple[OrphanHold, ...]:
        """Holds of environments that are gone."""
        accounts = await self.session.client.list(SERVICE_ACCOUNTS, metadata_only=True)
        live = await self.session.client.list(ENVIRONMENTS, self.session.namespace, metadata_only=True)
        uids = {item["metadata"]["uid"] for item in live.items}
        return holders_gone(namespaces, accounts.items, uids, control_namespace=self.session.namespace)

    async def _end(self, environment: Environment) -> None:
        name, project = environment.name, environment.spec.project
        live = await self.session.environments.get(name)
        if live is None or live["metadata"]["uid"] != environment.uid:
            raise Conflict(f"Environment {name} is gone, or another one")
        if await self.session.client.get(PROJECTS, project, self.session.namespace) is not None:
            raise Conflict(f"Project {project} is back")
        gone = Unwanted(Dismissal.UNWANTED, seen=known_of(live))
        await self._bring(project, environment.spec.branch, gone)

    async def _tear_down(self, orphan: Orphan) -> None:
        made = await self.session.environments.bring(orphan.project, orphan.branch, Wanted())
        if not isinstance(made.decision, Create):
            raise Conflict(f"{orphan.found.what} has its record back")
        ours = Present(made.decision.revision, made.decision.trail)
        await self._bring(orphan.project, orphan.branch, Unwanted(Dismissal.UNWANTED, seen=ours))

    async def _bring(self, project: str, branch: str, news: Unwanted) -> None:
        """End exactly what was seen: whoever has pushed meanwhile wants it."""
        recorded = await self.session.environments.bring(project, branch, news)
        if recorded.decision == Ignore(Reason.LATE):
            raise Conflict(f"Environment {recorded.environment} has changed meanwhile")


def _slim(item: Mapping[str, Any]) -> dict[str, Any]:
    """An Environment without what may be large in it."""
    spec, status = item.get("spec", {}), dict(item.get("status") or {})
    for name in _BULKY:
        status.pop(name, None)
    if isinstance(status.get("branchFile"), dict):
        status["branchFile"] = {**status["branchFile"], "values": {}}
    return {**item, "spec": {name: spec[name] for name in _SPEC if name in spec}, "status": status}
