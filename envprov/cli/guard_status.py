"""``guard status``: whether the guard is in force, and what it guards. Nothing is changed by looking."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.guard import look_around
from envprov.cli.guard_show import hold_data, print_unread, stamp
from envprov.cli.options import Common, Output
from envprov.cli.session import Session, opened
from envprov.cli.times import describe
from envprov.domain.claims import Conflict, conflicts
from envprov.domain.drift import drifted
from envprov.domain.errors import EnvprovError, Forbidden
from envprov.domain.guard import CANARY as CANARY_KIND
from envprov.domain.guard import Guarded, read_guarded
from envprov.domain.holds import HUSK, STATE, Account, Hold, read_holds
from envprov.domain.loose import mapping
from envprov.domain.policies import CANARY, DELETE_GUARD, REAPPLIED, policies
from envprov.kube.arming import OLDEST, PROBES
from envprov.kube.client import KubeClient, Object
from envprov.kube.errors import is_refusal_of
from envprov.kube.holds import Holds
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS, lookup
from envprov.kube.rights import can_i

SOON: Final = timedelta(days=7)
"""Declared holds that run out within this time are shown."""
NAMED: Final = 3
"""How many holders a line names."""
GUARDED_HEADER: Final = ("GUARDED", "POLICY", "HOLDS", "OLDEST", "RELEASED")
WIDE_HEADER: Final = (*GUARDED_HEADER, "USED", "HELD BY")
HUSK_HEADER: Final = ("HUSK", "HELD BY")
EXPIRING_HEADER: Final = ("DECLARED HOLD ON", "BY", "ENDS", "WHY")

Husks = tuple[tuple[str, tuple[Hold, ...]], ...]
T = TypeVar("T")


class State(StrEnum):
    """Whether the policies are in force."""

    ARMED = "armed"
    DISARMED = "disarmed"
    UNKNOWN = "unknown"


_STYLES: Final = {State.ARMED: "green", State.DISARMED: "red", State.UNKNOWN: "yellow"}


@dataclass(frozen=True)
class Policed:
    """One policy or binding: ``ok``, ``missing``, ``changed`` or ``unknown``."""

    kind: str
    name: str
    state: str


@dataclass(frozen=True)
class Status:
    """
    What the guard is like.

    Attributes:
        state: Whether it is in force.
        why: What shows it.
        is_complete: Whether every policy is as it must be and everything could be read.
        policies: Each policy and binding.
        guarded: ServiceAccounts that are adopted or held, and Namespaces that are held without one.
        husks: Namespaces of ended environments in which something is still used, each with its holds.
        expiring: Declared holds that run out soon or have run out.
        conflicts: ServiceAccounts that several Helm releases own.
        unread: What could not be read.
        notes: What was looked at only in part.

    """

    state: State
    why: str
    is_complete: bool
    policies: tuple[Policed, ...]
    guarded: tuple[Guarded, ...]
    husks: Husks
    expiring: tuple[tuple[Account, Hold], ...]
    conflicts: tuple[Conflict, ...]
    unread: tuple[str, ...]
    notes: tuple[str, ...]


async def show_status(common: Common) -> ExitCode:
    """
    Print whether the guard is in force, and what it guards.

    Args:
        common: The options of the call.

    Returns:
        FAILED unless it is, every policy is as it must be, and everything could be read.

    """
    async with opened(common) as session:
        now = datetime.now(UTC)
        status = await _look(session, now)
        match common.output:
            case Output.JSON | Output.YAML:
                printing.print_data(status_data(status, session.settings.guard.mode, now), common.output)
            case Output.NAME:
                for item in status.guarded:
                    printing.print_line(_name(item))
            case _:
                _print(status, session.settings.guard.mode, now, is_wide=common.output is Output.WIDE)
    return ExitCode.DONE if status.state is State.ARMED and status.is_complete else ExitCode.FAILED


# --- Looking


async def look_at_policies(session: Session) -> Status:
    """
    Whether the guard is in force, without a look at what it guards.

    Args:
        session: The call.

    """
    unread: list[str] = []
    tried, policed = await asyncio.gather(_try_canary(session), _read_policies(session, unread))
    return status_of(tried, policed, (), datetime.now(UTC), unread=tuple(dict.fromkeys(unread)))


async def _look(session: Session, now: datetime) -> Status:
    unread: list[str] = []
    tried, policed, pairs, husks, sight = await asyncio.gather(
        _try_canary(session),
        _read_policies(session, unread),
        _or_nothing(unread, Holds(session.client).guarded),
        _or_nothing(unread, lambda: _read_husks(session)),
        look_around(session),
    )
    return status_of(
        tried,
        policed,
        [read_guarded(account, namespace) for account, namespace in pairs],
        now,
        husks=husks,
        owned_twice=conflicts(sight.usage),
        unread=tuple(dict.fromkeys((*unread, *sight.unread))),
        notes=sight.usage.notes,
    )


def status_of(  # noqa: PLR0913 - one part for each look
    tried: tuple[State, str],
    policed: tuple[Policed, ...],
    found: Sequence[Guarded],
    now: datetime,
    *,
    husks: Husks = (),
    owned_twice: tuple[Conflict, ...] = (),
    unread: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Status:
    """
    What was found, put together.

    Args:
        tried: What came of the canary, and why that is so.
        policed: Each policy and binding.
        found: ServiceAccounts that may be guarded, and Namespaces that are held while none of theirs is.
        now: Aware.
        husks: Namespaces of ended environments, each with its holds.
        owned_twice: ServiceAccounts that several Helm releases own.
        unread: What could not be read.
        notes: What was looked at only in part.

    """
    state, why = tried
    broken = [one for one in policed if one.name in REAPPLIED and one.state in {"missing", "changed"}]
    if state is State.ARMED and broken:
        faults = ", ".join(f"{one.kind} {one.name} is {one.state}" for one in broken)
        state, why = State.DISARMED, f"{faults}, although {why}"
    accounts = (item for item in found if item.account.name)
    guarded = [item for item in (*accounts, *_namespaces(found)) if not _is_canary(item)]
    held = [(item.account, hold) for item in guarded for hold in _holds(item)]
    return Status(
        state=state,
        why=why,
        is_complete=not unread and all(one.state == "ok" for one in policed),
        policies=policed,
        guarded=tuple(item for item in guarded if item.shared or _holds(item)),
        husks=husks,
        expiring=tuple(sorted((one for one in held if _runs_out(one[1], now)), key=lambda one: (_end(one[1]), one[0]))),
        conflicts=owned_twice,
        unread=unread,
        notes=notes,
    )


async def _or_nothing(unread: list[str], read: Callable[[], Awaitable[tuple[T, ...]]]) -> tuple[T, ...]:
    try:
        return await read()
    except EnvprovError as error:
        unread.append(str(error))
        return ()


async def _try_canary(session: Session) -> tuple[State, str]:
    """What happens when somebody deletes what is held; by trying it, without doing it."""
    where = f"{session.namespace}/{CANARY}"
    try:
        version = version_of(await session.client.get_raw("/version"))
        if version is not None and version < OLDEST:
            told = f"Kubernetes {version[0]}.{version[1]} has no admission policies"
            return State.DISARMED, f"{told}: nothing stops others from deleting what is still used"
        live = await session.client.get(SERVICE_ACCOUNTS, CANARY, session.namespace, metadata_only=True)
        if live is None:
            return State.UNKNOWN, f"there is no ServiceAccount {where} to try it on; a running controller makes it"
        if not read_holds(live):
            return State.UNKNOWN, f"ServiceAccount {where} is not held; a running controller mends it"
        if not await can_i(session.client, "delete", "", "serviceaccounts", session.namespace, CANARY):
            return State.UNKNOWN, f"you may not try to delete ServiceAccount {where}; look with the rights to do so"
        uid = live["metadata"]["uid"]
        tried = await asyncio.gather(*(_probe(session, uid) for _ in range(PROBES)))
    except EnvprovError as error:
        return State.UNKNOWN, str(error)
    return next((one for state in (State.DISARMED, State.UNKNOWN) for one in tried if one[0] is state), tried[0])


def version_of(told: object) -> tuple[int, int] | None:
    """
    The version of an API server.

    Args:
        told: What it says of itself, as ``{"major": "1", "minor": "30+"}``.

    Returns:
        None if it says none.

    """
    numbers = [re.match(r"\d{1,9}", str(mapping(told).get(part, ""))) for part in ("major", "minor")]
    major, minor = (int(number[0]) if number else None for number in numbers)
    return None if major is None or minor is None else (major, minor)


async def _probe(session: Session, uid: str) -> tuple[State, str]:
    where = f"ServiceAccount {session.namespace}/{CANARY}"
    timeout = session.settings.kubernetes.timeout
    async with KubeClient.connect(session.connection, timeout=timeout) as client:
        try:
            was_there = await client.delete(SERVICE_ACCOUNTS, CANARY, session.namespace, uid=uid, dry_run=True)
        except Forbidden as error:
            if is_refusal_of(error, DELETE_GUARD):
                return State.ARMED, f"the deletion of {where}, which is held, is refused by {DELETE_GUARD}"
            return State.UNKNOWN, f"something else than {DELETE_GUARD} refused: {error}"
        except EnvprovError as error:
            return State.UNKNOWN, str(error)
    if not was_there:
        return State.UNKNOWN, f"{where} went away while it was tried; look again"
    return State.DISARMED, f"the API server would delete {where}, although it is held"


async def _read_policies(session: Session, unread: list[str]) -> tuple[Policed, ...]:
    wanted = policies(session.settings.platform.controller_account)
    return tuple(await asyncio.gather(*(_read_policy(session, one, unread) for one in wanted)))


async def _read_policy(session: Session, wanted: Object, unread: list[str]) -> Policed:
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    try:
        live = await session.client.get(lookup(wanted["apiVersion"], kind), name)
    except EnvprovError as error:
        unread.append(str(error))
        return Policed(kind, name, "unknown")
    return Policed(kind, name, "missing" if live is None else "changed" if drifted(wanted, live) else "ok")


async def _read_husks(session: Session) -> Husks:
    listing = await session.client.list(NAMESPACES, label_selector=f"{STATE}={HUSK}", metadata_only=True)
    return tuple(sorted((item["metadata"]["name"], read_holds(item)) for item in listing.items))


def _namespaces(read: Sequence[Guarded]) -> Sequence[Guarded]:
    """Namespaces, each with the holds that none of its ServiceAccounts has."""
    homes = {item.account.namespace: item for item in read}
    on_accounts = {(item.account.namespace, hold.key) for item in read for hold in item.holds}
    return [
        Guarded(
            Account(name, ""),
            namespace_uid=item.namespace_uid,
            namespace_holds=tuple(hold for hold in item.namespace_holds if (name, hold.key) not in on_accounts),
        )
        for name, item in sorted(homes.items())
    ]


def _is_canary(item: Guarded) -> bool:
    holds = _holds(item)
    return item.account.name in {"", CANARY} and bool(holds) and all(one.holder.kind == CANARY_KIND for one in holds)


def _holds(item: Guarded) -> tuple[Hold, ...]:
    return item.holds if item.account.name else item.namespace_holds


def _runs_out(hold: Hold, now: datetime) -> bool:
    return hold.expires is not None and hold.expires <= now + SOON


def _end(hold: Hold) -> datetime:
    return hold.expires or hold.since


# --- Printing


def _print(status: Status, mode: str, now: datetime, *, is_wide: bool) -> None:
    is_partial = status.state is State.ARMED and not status.is_complete
    printing.print_line(f"guard: {status.state}" + (", incomplete" if is_partial else ""), _style(status))
    printing.print_line(f"  {status.why}")
    if mode != "enforce":
        printing.print_line(f"  guard.mode is {mode}: envprov goes on when it is not in force")
    known = [one for one in status.policies if one.state != "unknown"]
    good = sum(one.state == "ok" for one in known)
    if known:
        printing.print_line(f"policies: {good} of {len(status.policies)} are as they must be")
    else:
        printing.print_line("policies: whether they are as they must be could not be read")
    for one in status.policies:
        if known and one.state != "ok":
            printing.print_line(f"  {one.kind} {one.name}: {one.state}")
    if good < len(known):
        printing.print_line("  `envprov manifests | kubectl apply --server-side --force-conflicts -f -` mends them")
    header = WIDE_HEADER if is_wide else GUARDED_HEADER
    _print_section(header, [_row(item, now)[: len(header)] for item in status.guarded])
    _print_section(HUSK_HEADER, [(name, _named(holds)) for name, holds in status.husks])
    _print_section(EXPIRING_HEADER, [_expiring_row(account, hold, now) for account, hold in status.expiring])
    for number, conflict in enumerate(status.conflicts):
        if not number:
            printing.print_line("")
            printing.print_line("conflicts: the first of these releases to be uninstalled takes the account along")
        printing.print_line(f"  {conflict}")
    print_unread(status.unread, status.notes)


def _style(status: Status) -> str:
    return _STYLES[State.UNKNOWN if status.state is State.ARMED and not status.is_complete else status.state]


def _print_section(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        printing.print_line("")
        printing.print_table(header, rows)


def _name(item: Guarded) -> str:
    account = item.account
    return f"ServiceAccount {account}" if account.name else f"Namespace {account.namespace}"


def _row(item: Guarded, now: datetime) -> Sequence[str]:
    holds = _holds(item)
    return (
        _name(item),
        item.policy if item.shared else "",
        str(len(holds)),
        describe(now - holds[0].since) if holds else "",
        "yes" if item.released else "no",
        "yes" if item.used else "no",
        _named(holds),
    )


def _expiring_row(account: Account, hold: Hold, now: datetime) -> Sequence[str]:
    end = _end(hold)
    when = f"in {describe(end - now)}" if end > now else f"ran out {describe(now - end)} ago, and holds all the same"
    return (_place(account), hold.holder.name, when, hold.why)


def _place(account: Account) -> str:
    return str(account) if account.name else account.namespace


def _named(holds: Sequence[Hold]) -> str:
    more = f" and {len(holds) - NAMED} more" if len(holds) > NAMED else ""
    return ", ".join(str(hold.holder) for hold in holds[:NAMED]) + more


def status_data(status: Status, mode: str, now: datetime) -> dict[str, Any]:
    """
    What the guard is like, as JSON.

    Args:
        status: What was found.
        mode: ``guard.mode`` of the settings.
        now: Aware.

    """
    return {
        "state": status.state.value,
        "why": status.why,
        "complete": status.is_complete,
        "mode": mode,
        "policies": [{"kind": one.kind, "name": one.name, "state": one.state} for one in status.policies],
        "guarded": [
            {
                "kind": "ServiceAccount" if item.account.name else "Namespace",
                "name": _place(item.account),
                "policy": item.policy if item.shared else None,
                "released": item.released,
                "used": item.used,
                "oldest": stamp(_holds(item)[0].since) if _holds(item) else None,
                "holds": [hold_data(hold) for hold in _holds(item)],
            }
            for item in status.guarded
        ],
        "husks": [{"namespace": name, "holds": [hold_data(hold) for hold in holds]} for name, holds in status.husks],
        "expiring": [
            {"account": _place(account), **hold_data(hold), "expired": hold.is_expired(now)}
            for account, hold in status.expiring
        ],
        "conflicts": [
            {
                "account": str(conflict.account),
                "releases": [f"{release.namespace}/{release.name}" for release in conflict.releases],
            }
            for conflict in status.conflicts
        ],
        "unread": list(status.unread),
        "notes": list(status.notes),
    }
