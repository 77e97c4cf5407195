"""Why a ServiceAccount is kept, in words and rows, for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from envprov.domain.guard import UNKNOWN, Guarded, attributed
from envprov.domain.holds import DECLARED, Account, Hold, Holder
from envprov.domain.usage import Usage


@dataclass(frozen=True)
class Row:
    """
    One user of a ServiceAccount, as a line of a table.

    Attributes:
        who: ``namespace/name`` of the holder, or what was declared.
        kind: Kind of the holder.
        strength: As in ``Strength``, or ``declared`` or ``hold`` for a hold without a claim.
        how: In words.
        since: When the holder was made, or when it was held.
        evidence: ``seen``, ``held`` or ``seen and held``, with the end of a declared hold.
        keeps: Whether it keeps the account.

    """

    who: str
    kind: str
    strength: str
    how: str
    since: datetime | None
    evidence: str
    keeps: bool


@dataclass(frozen=True)
class Explanation:
    """
    Why a ServiceAccount is kept, or that it is not.

    Attributes:
        account: Which one.
        rows: Its users, those that keep it first.
        on_delete: What would happen if somebody deleted it now.
        advice: What to do, in order.

    """

    account: Account
    rows: tuple[Row, ...]
    on_delete: str
    advice: tuple[str, ...]


def describe(
    guarded: Guarded, usage: Usage, now: datetime, environments: Mapping[str, Holder] | None = None
) -> Explanation:
    """
    Why an account is kept, for people.

    Args:
        guarded: The account.
        usage: The graph.
        now: Aware.
        environments: By namespace, as for ``review``.

    """
    holds = {hold.key: hold for hold in guarded.holds}
    rows: list[Row] = []
    matched: set[str] = set()
    for claim in usage.of(guarded.account):
        key = attributed(claim, environments or {}).key
        is_held = claim.strength.keeps and key in holds
        matched.update({key} if is_held else ())
        rows.append(
            Row(
                who=_who(claim.holder),
                kind=claim.holder.kind,
                strength=claim.strength.value,
                how=claim.how,
                since=claim.since,
                evidence="seen and held" if is_held else "seen",
                keeps=claim.strength.keeps,
            )
        )
    rows.extend(_row(hold, now) for key, hold in holds.items() if key not in matched)
    rows.sort(key=lambda row: not row.keeps)
    return Explanation(
        guarded.account, tuple(rows), _on_delete(guarded, usage, rows), tuple(_advice(guarded, usage, now))
    )


def _who(holder: Holder) -> str:
    return f"{holder.namespace}/{holder.name}" if holder.namespace else holder.name


def _row(hold: Hold, now: datetime) -> Row:
    is_declared = hold.holder.kind == DECLARED or hold.expires is not None
    evidence = "held"
    if hold.expires is not None:
        evidence = f"held, {'ran out' if hold.is_expired(now) else 'runs out'} on {hold.expires:%Y-%m-%d %H:%M}"
    return Row(
        who=_who(hold.holder),
        kind=hold.holder.kind,
        strength="declared" if is_declared else "hold",
        how=hold.why,
        since=hold.since,
        evidence=evidence,
        keeps=True,
    )


def _on_delete(guarded: Guarded, usage: Usage, rows: Iterable[Row]) -> str:
    users = sum(row.keeps for row in rows)
    if guarded.terminating:
        return "it is being deleted already"
    if guarded.holds:
        count = len(guarded.holds)
        return f"refused: {count} hold{' is' if count == 1 else 's are'} on it"
    if guarded.shared and not guarded.released:
        return "refused: it is shared and not released"
    if users:
        return f"it would go, and {users} would lose it: no hold is on it"
    if not usage.is_complete:
        return "it would go; whether anything uses it is not known"
    return "it would go; nothing that can be seen uses it"


def _advice(guarded: Guarded, usage: Usage, now: datetime) -> Iterator[str]:
    for fault in usage.faults:
        yield f"look again when this is mended: {fault}"
    for hold in guarded.holds:
        if hold.is_expired(now):
            command = f"envprov guard release {guarded.account} --by {shlex.quote(hold.holder.name)}"
            yield f"{command}, if that uses it no more: its hold ran out"
        elif hold.holder.kind == DECLARED:
            yield f"ask {hold.holder.name}, which declared that it uses it"
        elif hold.holder.kind == UNKNOWN:
            yield f"look at annotation {hold.key}, which cannot be read"
    keeping = [claim for claim in usage.of(guarded.account) if claim.strength.keeps]
    for claim in keeping:
        yield f"let {claim.holder} use another one: {claim.how}"
    if keeping and not guarded.holds and not guarded.terminating:
        yield f"envprov guard hold {guarded.account}, if it has to stay"
