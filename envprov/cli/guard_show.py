"""``guard explain``: why a ServiceAccount or a Namespace is kept."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.guard import Sight, find, look_around, missing, way_down
from envprov.cli.guard_given import parse_account, parse_namespace
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.session import Session, opened
from envprov.cli.times import describe as describe_span
from envprov.domain.environment import BRANCH
from envprov.domain.explanation import Explanation, Row, describe
from envprov.domain.guard import Guarded, Verdict, attributed, classify, read_guarded
from envprov.domain.holds import DECLARED, FENCED, GUARD, HUSK, RELEASED, STATE, Account, Hold, Holder
from envprov.domain.loose import Manifest, text, within
from envprov.kube.client import Object
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS

HEADER: Final = ("WHO", "KIND", "STRENGTH", "HOW", "SINCE", "EVIDENCE")
HOLDS_HEADER: Final = ("WHO", "KIND", "WHY", "SINCE", "UNTIL")
KEPT_HEADER: Final = ("SERVICEACCOUNT", "KEPT BY")
ENVIRONMENT_GUARD: Final = "env"


@dataclass(frozen=True)
class Home:
    """
    A Namespace, and why it is kept.

    Attributes:
        guarded: It, with its holds.
        environment: ``namespace/name`` of the Environment that it serves; empty for none.
        branch: Of that Environment.
        state: ``husk``, or empty.
        guard: Value of its guard label, or empty.
        verdict: What of it is kept, as far as could be seen.
        is_known: Whether everything could be seen.
        on_delete: What would happen if somebody deleted it now.
        advice: What to do, in order.

    """

    guarded: Guarded
    environment: str
    branch: str
    state: str
    guard: str
    verdict: Verdict
    is_known: bool
    on_delete: str
    advice: tuple[str, ...]


async def explain(common: Common, given: str) -> ExitCode:
    """
    Print why a ServiceAccount or a Namespace is kept.

    Args:
        common: The options of the call.
        given: ``NAMESPACE/NAME`` of the account, or the name of a Namespace.

    """
    if "/" in given:
        account = parse_account(given)
        async with opened(common) as session:
            return await _explain_account(session, common, account)
    namespace = parse_namespace(given)
    async with opened(common) as session:
        return await _explain_namespace(session, common, namespace)


# --- A ServiceAccount


async def _explain_account(session: Session, common: Common, account: Account) -> ExitCode:
    live, namespace = await find(session, account)
    if live is None:
        return await missing(session, account)
    guarded = read_guarded(live, namespace)
    sight = await look_around(session, account.namespace)
    now = datetime.now(UTC)
    explained = describe(guarded, sight.usage, now, sight.environments)
    explained = replace(explained, advice=(*explained.advice, *ways_out(guarded, sight)))
    fenced = text(within(namespace, "metadata", "annotations").get(FENCED)).split(",")
    if not common.output.is_for_people:
        _print_data(
            common,
            account_data(guarded, explained, sight, is_fenced=account.name in fenced),
            [f"{row.kind} {row.who}" for row in explained.rows if row.keeps],
        )
        return ExitCode.DONE
    printing.print_line(f"ServiceAccount {account}: {_summary(guarded, explained, sight)}")
    for line in _marks(guarded, is_fenced=account.name in fenced):
        printing.print_line(f"  {line}")
    if explained.rows:
        printing.print_line("")
        printing.print_table(HEADER, [_row(row, now, is_wide=common.output is Output.WIDE) for row in explained.rows])
    _print_end(explained.on_delete, explained.advice, sight)
    return ExitCode.DONE


def ways_out(guarded: Guarded, sight: Sight) -> Iterator[str]:
    """
    Commands that end what keeps an account.

    Args:
        guarded: The account, with its holds.
        sight: What could be seen.

    """
    users = {attributed(claim, sight.environments) for claim in sight.usage.of(guarded.account) if claim.strength.keeps}
    holders = users | {hold.holder for hold in guarded.holds}
    for command in sorted({sight.ways_down.get(holder.uid, "") for holder in holders} - {""}):
        yield f"{command}, if that environment is no longer needed"
    for hold in guarded.holds:
        if hold.holder.kind == DECLARED:
            who = shlex.quote(hold.holder.name)
            yield f"envprov guard release {guarded.account} --by {who}, once it no longer uses it"
    if guarded.shared and not users and not guarded.holds and sight.usage.is_complete:
        yield f"envprov guard release {guarded.account}, to guard it no longer"


def _summary(guarded: Guarded, explained: Explanation, sight: Sight) -> str:
    users = sum(row.keeps for row in explained.rows)
    if guarded.terminating:
        return "is being deleted"
    if users:
        return f"kept by {users}"
    if not sight.usage.is_complete:
        return "nobody is seen to use it, but not everything could be read"
    return "nobody uses it"


def _marks(guarded: Guarded, *, is_fenced: bool) -> Iterable[str]:
    if guarded.shared:
        used = "has had a user" if guarded.used else "has had no user yet"
        yield f"adopted, policy {guarded.policy}, {used}"
    if guarded.released:
        yield "released: it may be deleted"
    if is_fenced:
        yield "being retired: it gets no new pods and no new tokens"
    for owner in guarded.owners:
        yield f"goes with {owner}, its owner"


def _row(row: Row, now: datetime, *, is_wide: bool) -> Sequence[str]:
    return (row.who, row.kind, row.strength, row.how, _since(row.since, now, is_wide=is_wide), row.evidence)


def account_data(guarded: Guarded, explained: Explanation, sight: Sight, *, is_fenced: bool) -> dict[str, Any]:
    """What is known of an account, as JSON."""
    return {
        "account": str(guarded.account),
        "uid": guarded.uid,
        "adopted": guarded.shared,
        "policy": guarded.policy if guarded.shared else None,
        "released": guarded.released,
        "fenced": is_fenced,
        "terminating": guarded.terminating,
        "users": [
            {
                "who": row.who,
                "kind": row.kind,
                "strength": row.strength,
                "how": row.how,
                "since": stamp(row.since),
                "evidence": row.evidence,
                "keeps": row.keeps,
            }
            for row in explained.rows
        ],
        "onDelete": explained.on_delete,
        "advice": list(explained.advice),
        "unread": list(sight.unread),
        "notes": list(sight.usage.notes),
    }


# --- A Namespace


async def _explain_namespace(session: Session, common: Common, name: str) -> ExitCode:
    namespace = await session.client.get(NAMESPACES, name, metadata_only=True)
    if namespace is None:
        note(f"error: Namespace {name} is not there")
        return ExitCode.FAILED
    listing = await session.client.list(SERVICE_ACCOUNTS, name, metadata_only=True)
    sight = await look_around(session, name)
    home = home_of(namespace, listing.items, sight)
    if not common.output.is_for_people:
        kept = [f"ServiceAccount {kept.account}" for kept in home.verdict.kept]
        _print_data(common, home_data(home, sight), kept)
        return ExitCode.DONE
    _print_home(home, sight, datetime.now(UTC), is_wide=common.output is Output.WIDE)
    return ExitCode.DONE


def home_of(namespace: Object, accounts: Iterable[Manifest], sight: Sight) -> Home:
    """
    A Namespace, and why it is kept.

    Args:
        namespace: The object; its metadata is enough.
        accounts: Its ServiceAccounts; their metadata is enough.
        sight: What could be seen.

    """
    name = namespace["metadata"]["name"]
    labels, notes = (within(namespace, "metadata", field) for field in ("labels", "annotations"))
    own = sight.environments.get(name)
    guarded = read_guarded(None, namespace)
    found = [read_guarded(item, namespace) for item in accounts]
    # What was seen is shown, although it decides nothing while not everything was.
    verdict = classify(found or [guarded], replace(sight.usage, faults=()), own)
    return Home(
        guarded=guarded,
        environment=f"{own.namespace}/{own.name}" if own else "",
        branch=text(notes.get(BRANCH)),
        state=text(labels.get(STATE)),
        guard=text(labels.get(GUARD)),
        verdict=verdict,
        is_known=sight.usage.is_complete,
        on_delete=_on_delete(namespace, guarded, own, sight),
        advice=(
            *(f"envprov guard explain {kept.account}" for kept in verdict.kept),
            *_ends_of_orphans(guarded, found),
        ),
    )


def _ends_of_orphans(guarded: Guarded, accounts: Iterable[Guarded]) -> Iterator[str]:
    """Declared holds that none of the ServiceAccounts has: nobody but people can end them."""
    carried = {hold.key for item in accounts for hold in item.holds}
    for hold in guarded.namespace_holds:
        if hold.holder.kind == DECLARED and hold.key not in carried:
            who = shlex.quote(hold.holder.name)
            yield f"envprov guard release {guarded.account.namespace}/default --by {who}, if it uses nothing in there"


def _on_delete(namespace: Object, guarded: Guarded, own: Holder | None, sight: Sight) -> str:
    metadata = namespace["metadata"]
    held = len(guarded.namespace_holds)
    if guarded.terminating:
        return "it is being deleted already"
    if held:
        return f"refused: {f'{held} holds are' if held > 1 else '1 hold is'} on it"
    if GUARD in within(metadata, "labels") and within(metadata, "annotations").get(RELEASED) != metadata["uid"]:
        command = way_down(namespace) if own else ""
        return "refused: it is guarded and not released" + (f"; `{command}` takes it down" if command else "")
    return "it would go with everything in it" + ("" if sight.usage.is_complete else "; not all users are known")


def _print_home(home: Home, sight: Sight, now: datetime, *, is_wide: bool) -> None:
    name = home.guarded.account.namespace
    kept = len(home.verdict.kept)
    printing.print_line(f"Namespace {name}: {kept} of its ServiceAccounts are kept" if kept else _nothing(home))
    served = f"Environment {home.environment}" + (f", branch {home.branch}" if home.branch else "")
    for line, is_so in (
        (f"serves {served}", bool(home.environment)),
        (f"was the environment of branch {home.branch}; there is no record of it", _is_lost(home, sight)),
        ("a husk: its environment is gone but for what others use", home.state == HUSK),
        ("guarded", bool(home.guard)),
    ):
        if is_so:
            printing.print_line(f"  {line}")
    if home.guarded.namespace_holds:
        printing.print_line("")
        rows = [_hold_row(hold, now, is_wide=is_wide) for hold in home.guarded.namespace_holds]
        printing.print_table(HOLDS_HEADER, rows)
    if home.verdict.kept:
        printing.print_line("")
        rows = [(kept.account.name, reason) for kept in home.verdict.kept for reason in kept.reasons]
        printing.print_table(KEPT_HEADER, rows)
    _print_end(home.on_delete, home.advice, sight)


def _nothing(home: Home) -> str:
    known = "none of its ServiceAccounts is kept" if home.is_known else "not everything could be read"
    return f"Namespace {home.guarded.account.namespace}: {known}"


def _is_lost(home: Home, sight: Sight) -> bool:
    # Without the records it cannot be said that there is none.
    was = home.guard == ENVIRONMENT_GUARD and bool(home.branch)
    return was and not home.environment and sight.unread == sight.usage.faults


def _hold_row(hold: Hold, now: datetime, *, is_wide: bool) -> Sequence[str]:
    return (
        who_of(hold.holder),
        hold.holder.kind,
        hold.why,
        _since(hold.since, now, is_wide=is_wide),
        f"{hold.expires:%Y-%m-%d %H:%M}" if hold.expires else "",
    )


def home_data(home: Home, sight: Sight) -> dict[str, Any]:
    """What is known of a Namespace, as JSON."""
    return {
        "namespace": home.guarded.account.namespace,
        "uid": home.guarded.namespace_uid,
        "environment": home.environment or None,
        "branch": home.branch or None,
        "state": home.state or None,
        "guard": home.guard or None,
        "holds": [hold_data(hold) for hold in home.guarded.namespace_holds],
        "kept": [{"account": str(kept.account), "reasons": list(kept.reasons)} for kept in home.verdict.kept],
        "onDelete": home.on_delete,
        "advice": list(home.advice),
        "unread": list(sight.unread),
        "notes": list(sight.usage.notes),
    }


# --- Both, and the status


def hold_data(hold: Hold) -> dict[str, Any]:
    """A hold as JSON."""
    return {
        "who": who_of(hold.holder),
        "kind": hold.holder.kind,
        "why": hold.why,
        "since": stamp(hold.since),
        "expires": stamp(hold.expires),
    }


def who_of(holder: Holder) -> str:
    """A holder without its kind."""
    return f"{holder.namespace}/{holder.name}" if holder.namespace else holder.name


def stamp(moment: datetime | None) -> str | None:
    """A moment as JSON."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def print_unread(unread: Iterable[str], notes: Iterable[str]) -> None:
    """Say what could not be read, and what was looked at only in part."""
    for title, lines in (
        ("could not be read with your rights; the controller has its own:", unread),
        ("to be known:", notes),
    ):
        for number, line in enumerate(lines):
            if not number:
                printing.print_line("")
                printing.print_line(title)
            printing.print_line(f"  {line}")


def _print_end(on_delete: str, advice: Iterable[str], sight: Sight) -> None:
    printing.print_line("")
    printing.print_line(f"if it were deleted: {on_delete}")
    for number, line in enumerate(advice):
        if not number:
            printing.print_line("what to do:")
        printing.print_line(f"  {line}")
    print_unread(sight.unread, sight.usage.notes)


def _print_data(common: Common, data: Mapping[str, Any], names: Iterable[str]) -> None:
    if common.output is Output.NAME:
        for name in names:
            printing.print_line(name)
    else:
        printing.print_data(data, common.output)


def _since(moment: datetime | None, now: datetime, *, is_wide: bool) -> str:
    if moment is None:
        return ""
    return stamp(moment) or "" if is_wide else describe_span(now - moment)
