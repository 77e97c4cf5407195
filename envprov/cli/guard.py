"""``guard hold``, ``release`` and ``adopt``: what people change about the guard of a ServiceAccount."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.guard_given import declared, parse_account, parse_who
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.session import Session, opened
from envprov.domain.environment import BRANCH, GROUP
from envprov.domain.errors import EnvprovError, Forbidden
from envprov.domain.explanation import Row, describe
from envprov.domain.guard import CANARY, ENVIRONMENT, UNKNOWN, Guarded, Policy, read_guarded
from envprov.domain.holds import DECLARED, Account, Hold, Holder
from envprov.domain.loose import Manifest, text, within
from envprov.domain.objects import PROJECT
from envprov.domain.policies import HOLD_INTEGRITY
from envprov.domain.usage import Usage
from envprov.guarding import environs_of
from envprov.kube.client import Object
from envprov.kube.errors import is_refusal_of
from envprov.kube.holds import Holds
from envprov.kube.resources import ENVIRONMENTS, NAMESPACES, SERVICE_ACCOUNTS
from envprov.kube.usage import UsageReader
from envprov.releases.stored import decode

NAMED: Final = 10
"""How many users a message names."""
_RULE = f"apiGroups: [{GROUP}], resources: [holds], verbs: [manage]"


@dataclass(frozen=True)
class Sight:
    """
    What could be seen of who uses what, with the rights of who calls.

    Attributes:
        usage: The graph.
        environments: By namespace, the Environment that it serves.
        ways_down: By UID of an Environment, the command that takes it down.
        unread: What could not be read, each with what to do.

    """

    usage: Usage
    environments: Mapping[str, Holder]
    ways_down: Mapping[str, str]
    unread: tuple[str, ...]


# --- What there is


async def find(session: Session, account: Account) -> tuple[Object | None, Object | None]:
    """
    A ServiceAccount and its Namespace, their metadata alone; None for what is not there.

    Args:
        session: Where to look.
        account: Which one.

    """
    found, namespace = await asyncio.gather(
        session.client.get(SERVICE_ACCOUNTS, account.name, account.namespace, metadata_only=True),
        session.client.get(NAMESPACES, account.namespace, metadata_only=True),
    )
    return found, namespace


async def look_around(session: Session, namespace: str | None = None) -> Sight:
    """
    Who uses what in the whole cluster, as far as the caller may see it.

    Args:
        session: Where to look.
        namespace: Whose Secrets are looked at although the caller may not list all Secrets of the cluster.

    """
    reader = UsageReader(session.client, decode)
    usage = await reader.read(frozenset({namespace} if namespace else ()))
    try:
        listing = await session.client.list(ENVIRONMENTS, metadata_only=True)
    except EnvprovError as error:
        return Sight(usage, {}, {}, (*usage.faults, str(error)))
    ways_down = {item["metadata"]["uid"]: way_down(item) for item in listing.items}
    return Sight(usage, environs_of(listing.items).by_namespace, ways_down, usage.faults)


def way_down(manifest: Manifest) -> str:
    """
    The command that takes an environment down.

    Args:
        manifest: Its record or its Namespace; metadata is enough.

    Returns:
        Empty if the object does not name its branch.

    """
    labels, notes = (within(manifest, "metadata", field) for field in ("labels", "annotations"))
    branch, project = text(notes.get(BRANCH)), text(labels.get(PROJECT))
    if not branch:
        return ""
    return f"envprov down {shlex.quote(branch)}" + (f" --project {shlex.quote(project)}" if project else "")


async def missing(session: Session, account: Account) -> ExitCode:
    """
    Say that there is no such ServiceAccount.

    Args:
        session: Where it was looked for.
        account: Which one.

    """
    note(f"error: {await _missing(session, account)}")
    return ExitCode.FAILED


async def _missing(session: Session, account: Account) -> str:
    told = f"ServiceAccount {account} is not there"
    try:
        if await session.client.get(NAMESPACES, account.namespace, metadata_only=True) is None:
            return f"Namespace {account.namespace} is not there"
        listing = await session.client.list(SERVICE_ACCOUNTS, account.namespace, metadata_only=True)
    except EnvprovError:
        return told  # who may not look around is told what is known
    names = sorted(item["metadata"]["name"] for item in listing.items)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{told}; there are {', '.join(names[:NAMED]) or 'none'}{more}"


# --- Changes


async def hold(common: Common, given: str, *, by: str, ttl: str, reason: str) -> ExitCode:
    """
    Declare that somebody uses a ServiceAccount whom nothing in the cluster stands for.

    A hold of the same name is renewed, and keeps its beginning.

    Args:
        common: The options of the call.
        given: The account, as ``NAMESPACE/NAME``.
        by: Who.
        ttl: For how long.
        reason: What for.

    Raises:
        HoldLost: The account is being deleted.

    """
    account, new = parse_account(given), declared(by, reason, ttl, datetime.now(UTC))
    async with _changing(common) as session:
        if await Holds(session.client).acquire(account, new) is None:
            return await missing(session, account)
        what = f"is held by {new.holder.name} until {new.expires:%Y-%m-%d %H:%M} UTC"
        return await _tell(session, common, account, what)


async def adopt(common: Common, given: str, policy: Policy) -> ExitCode:
    """
    Guard a ServiceAccount from now on, also while nobody holds it.

    Args:
        common: The options of the call.
        given: The account, as ``NAMESPACE/NAME``.
        policy: What becomes of it when its last user is gone.

    Raises:
        HoldLost: The account is being deleted.

    """
    account = parse_account(given)
    async with _changing(common) as session:
        if await Holds(session.client).adopt(account, policy) is None:
            return await missing(session, account)
        return await _tell(session, common, account, f"is guarded from now on, with policy {policy}")


async def release(common: Common, given: str, by: str | None) -> ExitCode:
    """
    End a declared hold, or guard a ServiceAccount no longer.

    Args:
        common: The options of the call.
        given: The account, as ``NAMESPACE/NAME``.
        by: Whose declared hold ends; None to guard the account no longer.

    Raises:
        Forbidden: It is still used or held, or whether it is cannot be known.

    """
    account, who = parse_account(given), None if by is None else parse_who(by)
    async with _changing(common) as session:
        return await (_release(session, common, account) if who is None else _end(session, common, account, who))


async def _end(session: Session, common: Common, account: Account, who: str) -> ExitCode:
    live, namespace = await find(session, account)
    if namespace is None:
        return await missing(session, account)
    guarded = read_guarded(live, namespace)
    found = _named(guarded.holds, who)
    if found is None and (found := _named(guarded.namespace_holds, who)) is not None:
        # What a ServiceAccount that was deleted in spite of its holds left on the Namespace can be ended by any name.
        carriers = await _carriers(session, account.namespace, found.key)
        if carriers:
            there = ", ".join(f"{account.namespace}/{name}" for name in carriers[:NAMED])
            note(f"error: {who} has declared no hold on ServiceAccount {account}; it has on {there}")
            return ExitCode.FAILED
    if found is not None:
        await Holds(session.client).release(account, found.key)
        return await _tell(session, common, account, f"is no longer held by {who}")
    other = next((hold for hold in guarded.holds if who in _names(hold.holder)), None)
    if other is not None:
        raise Forbidden(f"ServiceAccount {account} stays held by {other.holder}: {way_out(guarded, other)}")
    names = ", ".join(sorted(hold.holder.name for hold in guarded.holds if hold.holder.kind == DECLARED))
    note(f"error: {who} has declared no hold on ServiceAccount {account}; {names or 'nobody'} has")
    return ExitCode.FAILED


def _named(holds: tuple[Hold, ...], who: str) -> Hold | None:
    return next((hold for hold in holds if hold.holder.kind == DECLARED and hold.holder.name == who), None)


def _names(holder: Holder) -> tuple[str, ...]:
    """How somebody may call a holder that is an object."""
    return (str(holder), f"{holder.namespace}/{holder.name}", holder.name)


async def _carriers(session: Session, namespace: str, key: str) -> list[str]:
    listing = await session.client.list(SERVICE_ACCOUNTS, namespace, metadata_only=True)
    return [item["metadata"]["name"] for item in listing.items if key in within(item, "metadata", "annotations")]


def way_out(guarded: Guarded, hold: Hold) -> str:
    """
    How a hold ends that nobody declared.

    Args:
        guarded: What is held.
        hold: The hold.

    """
    kind, account = hold.holder.kind, guarded.account
    if kind == ENVIRONMENT:
        return "its hold ends with its teardown, for which `envprov down BRANCH` asks"
    if kind == CANARY:
        return "that shows whether the guard is in force, and nobody else needs it"
    if kind == UNKNOWN:
        annotate = f"kubectl annotate serviceaccount {account.name} -n {account.namespace} {hold.key}-"
        return f"that hold cannot be read; `{annotate}` takes it off"
    return (
        f"that hold follows from its use, and ends when {hold.holder} is deleted or uses another one; "
        f"`envprov guard explain {account}` shows how it uses it"
    )


async def _release(session: Session, common: Common, account: Account) -> ExitCode:
    live, namespace = await find(session, account)
    if live is None:
        return await missing(session, account)
    guarded = read_guarded(live, namespace)
    if not guarded.shared and not guarded.holds:
        return await _tell(session, common, account, "is not adopted, and nobody holds it")
    _refuse_if_used(guarded, await look_around(session, account.namespace))
    await Holds(session.client).unadopt(account)
    return await _tell(session, common, account, "is guarded no longer")


def _refuse_if_used(guarded: Guarded, sight: Sight) -> None:
    account = guarded.account
    rows = describe(guarded, sight.usage, datetime.now(UTC), sight.environments).rows
    users = [_user(row) for row in rows if row.keeps]
    unread = f"what else uses it is not known: {'; '.join(sight.unread)}" if not sight.usage.is_complete else ""
    if users:
        more = f" and {len(users) - NAMED} more" if len(users) > NAMED else ""
        raise Forbidden(
            f"ServiceAccount {account} stays guarded: it is kept by {'; '.join(users[:NAMED])}{more}; "
            f"{unread + '; ' if unread else ''}`envprov guard explain {account}` says what to do"
        )
    if unread:
        raise Forbidden(f"ServiceAccount {account} stays guarded: {unread}")


def _user(row: Row) -> str:
    return f"{row.kind} {row.who}" + (f" ({row.how})" if row.how else "")


@asynccontextmanager
async def _changing(common: Common) -> AsyncIterator[Session]:
    """A session; what the guard's own policy refuses is explained."""
    async with opened(common) as session:
        try:
            yield session
        except Forbidden as error:
            if not is_refusal_of(error, HOLD_INTEGRITY):
                raise
            raise Forbidden(
                f"{error}. Whoever administers the cluster can give you that verb, by a ClusterRole with the rule "
                f"{_RULE} and a ClusterRoleBinding"
            ) from error


async def _tell(session: Session, common: Common, account: Account, what: str) -> ExitCode:
    match common.output:
        case Output.TABLE | Output.WIDE if not common.quiet:
            printing.print_line(f"ServiceAccount {account} {what}")
        case Output.NAME:
            printing.print_line(f"serviceaccount/{account.name}")
        case Output.JSON | Output.YAML:
            live = await session.client.get(SERVICE_ACCOUNTS, account.name, account.namespace)
            if live is not None:
                printing.print_object(live, common.output)
        case _:
            pass
    return ExitCode.DONE
