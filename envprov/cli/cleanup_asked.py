"""
What a cleanup asks of the controller, and how it sees what became of it.

A release is Helm's and a hold is the guard's: each has one writer, which alone knows when it is safe. A cleanup that
did either itself would need their rights, and would race with them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from envprov.cli.cleanup_plan import Asked, Finding
from envprov.cli.leader import leads, read_leader
from envprov.cli.session import Session
from envprov.domain.cleaning import Found, OrphanHold, is_unfinished, release_stuck
from envprov.domain.environment import Environment, Type, parse_environment
from envprov.domain.errors import Conflict, EnvprovError, Forbidden
from envprov.domain.holds import Account, read_holds
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS

LONGEST = timedelta(minutes=4)
"""The cron job has ten minutes for all that it does."""
PAUSE_SECONDS = 1.0


@dataclass(eq=False)
class StuckReleases:
    """
    Releases that the controller is to get out of where they are stuck, under the lock under which it lets Helm work.

    Attributes:
        session: Where.
        now: When it is asked for; aware.

    """

    session: Session
    now: datetime
    _environments: dict[Found, Environment] = field(default_factory=dict, init=False)

    @property
    def patience(self) -> timedelta:
        """How long the controller may take."""
        return min(self.session.settings.helm.uninstall_timeout, LONGEST)

    def finding(self, environment: Environment, found: Found) -> Finding:
        """The row for one of them."""
        self._environments[found] = environment

        async def ask() -> None:
            live = await self.session.environments.get(environment.name)
            if live is None or live["metadata"]["uid"] != environment.uid or "deletionTimestamp" in live["metadata"]:
                raise Conflict(f"Environment {environment.name} is gone, or going")
            await self.session.environments.unlock(live, self.now)

        return Finding(found, ask, "unlock", self)

    async def left(self, asked: Sequence[Found]) -> Mapping[Found, str]:
        """Those that are still stuck, with what the controller says."""
        left: dict[Found, str] = {}
        for one in asked:
            before = self._environments[one]
            live = await self.session.environments.get(before.name)
            if live is None or live["metadata"]["uid"] != before.uid or "deletionTimestamp" in live["metadata"]:
                continue
            status = parse_environment(live).status
            if status.release is not None and is_unfinished(status.release.status or ""):
                ready = status.condition(Type.READY)
                left[one] = ready.message if ready is not None else "nothing is reported of it"
        return left


@dataclass(eq=False)
class OrphanHolds:
    """
    Holds that the guard is to take off: when it has seen everybody, and nobody, for as long as it always waits.

    Attributes:
        session: Where.

    """

    session: Session
    _orphans: dict[Found, OrphanHold] = field(default_factory=dict, init=False)

    @property
    def patience(self) -> timedelta:
        """Two looks, and the time for which it must have seen nobody."""
        guard = self.session.settings.guard
        return min(guard.release_grace + 2 * guard.interval + timedelta(seconds=15), LONGEST)

    def finding(self, orphan: OrphanHold) -> Finding:
        """The row for one of them."""
        self._orphans[orphan.found] = orphan
        return Finding(orphan.found, self.session.environments.request_look, "release", self)

    async def left(self, asked: Sequence[Found]) -> Mapping[Found, str]:
        """Those that are still there; who keeps them is for the guard to say."""
        keys: dict[Account, frozenset[str]] = {}
        for account in {self._orphans[one].account for one in asked}:
            keys[account] = await self._keys(account)
        why = "the controller's guard has not taken it off; `envprov guard status` says what keeps it"
        return {one: why for one in asked if self._orphans[one].key in keys[self._orphans[one].account]}

    async def _keys(self, account: Account) -> frozenset[str]:
        """By a list, for which the right is there already."""
        found = await self.session.client.list(
            SERVICE_ACCOUNTS if account.name else NAMESPACES,
            account.namespace if account.name else None,
            field_selector=f"metadata.name={account.name or account.namespace}",
            metadata_only=True,
        )
        return frozenset(hold.key for item in found.items for hold in read_holds(item))


@dataclass(frozen=True)
class Controller:
    """
    The controller, as a cleanup asks it.

    Attributes:
        session: Where.
        now: Aware moment.

    """

    session: Session
    now: datetime

    def stuck(self, environments: Sequence[Environment]) -> list[Finding]:
        """Releases that are stuck."""
        releases = StuckReleases(self.session, self.now)
        found = ((environment, release_stuck(environment, self.now)) for environment in environments)
        return [releases.finding(environment, one) for environment, one in found if one is not None]

    def orphans(self, orphans: Sequence[OrphanHold]) -> list[Finding]:
        """Holds whose holder is gone."""
        holds = OrphanHolds(self.session)
        return [holds.finding(one) for one in orphans]


async def outcome(session: Session, asked: Mapping[Found, Asked]) -> Mapping[Found, str]:
    """
    Wait until the controller has done what it was asked for.

    Args:
        session: Where.
        asked: Who knows about each.

    Returns:
        Why it is not done, for each that is not, or not in time.

    """
    if not asked:
        return {}
    if not await _is_answered(session):
        why = f"no controller answers in namespace {session.namespace}: it is done when one is back"
        return dict.fromkeys(asked, why)
    groups: dict[Asked, list[Found]] = {}
    for found, group in asked.items():
        groups.setdefault(group, []).append(found)
    began = time.monotonic()
    waits = await asyncio.gather(*(_wait(group, found, began) for group, found in groups.items()))
    return {found: why for left in waits for found, why in left.items()}


async def _wait(group: Asked, asked: Sequence[Found], began: float) -> Mapping[Found, str]:
    patience = group.patience.total_seconds()
    left: Mapping[Found, str] = dict.fromkeys(asked, "")
    while left:
        is_over = time.monotonic() - began >= patience
        try:
            left = await group.left(tuple(left))
        except EnvprovError as error:
            left = dict.fromkeys(left, str(error))
        if is_over:
            return {found: f"asked for, and not done within {patience:.0f} s: {why}" for found, why in left.items()}
        if left:
            await asyncio.sleep(PAUSE_SECONDS)
    return {}


async def _is_answered(session: Session) -> bool:
    try:
        leader = await read_leader(session.client, session.namespace)
        return leader is not None and await leads(session.client, session.namespace, leader)
    except Forbidden:
        return True  # who may not see it waits
