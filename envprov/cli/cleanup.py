"""
``cleanup``: a second way to the same end, should a delivery or the controller's own timer be lost.

It asks for the teardown of environments whose lifetime has ended, forgets old tombstones, and reports namespaces
whose record is gone. Those it never deletes: nobody is there any more who could say that nothing uses them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.session import Session, opened
from envprov.cli.times import describe
from envprov.domain.environment import BRANCH, parse_environment
from envprov.domain.errors import Conflict, EnvprovError, InvalidRecord
from envprov.domain.holds import GUARD
from envprov.domain.objects import OWNER
from envprov.kube.client import Object
from envprov.kube.resources import NAMESPACES

HEADER = ("WHAT", "WHY", "SINCE", "EVIDENCE", "ACTION")


@dataclass(frozen=True)
class Finding:
    """
    One thing to clean up.

    Attributes:
        what: Kind and name.
        why: One word.
        since: When it became so.
        evidence: What shows it.
        act: Does it; None for what is only reported.
        verb: What is done, for the table.

    """

    what: str
    why: str
    since: datetime
    evidence: str
    act: Callable[[], Awaitable[None]] | None
    verb: str


async def cleanup(common: Common, *, dry_run: bool) -> ExitCode:
    """
    Clean up one control namespace.

    Args:
        common: The options of the call.
        dry_run: Whether to say only what would be done.

    Returns:
        FAILED if something could not be read or done; the rest has been done all the same.

    """
    now = datetime.now(UTC)
    results: list[tuple[Finding, str]] = []
    faults: list[str] = []
    async with opened(common) as session:
        for gather in (_expired, _over, _orphans):
            try:
                findings = await gather(session, now, faults)
            except EnvprovError as error:
                faults.append(str(error))
                continue
            results += [(one, await _carry_out(one, faults, dry_run=dry_run)) for one in findings]
    _print(common, results, now)
    for fault in faults:
        note(f"error: {fault}")
    return ExitCode.FAILED if faults else ExitCode.DONE


async def _expired(session: Session, now: datetime, faults: list[str]) -> Sequence[Finding]:
    """Environments whose lifetime has ended, and that nobody has pinned or ended yet."""
    findings = []
    for item in await session.environments.list():
        try:
            environment = parse_environment(item)
        except InvalidRecord as error:
            faults.append(str(error))
            continue
        ends = environment.status.expires_at
        if ends is None or ends > now or environment.spec.pinned or environment.deleting:
            continue
        evidence = f"branch {environment.spec.branch}; status.expiresAt {ends:%Y-%m-%dT%H:%M:%SZ}"
        act = partial(session.environments.expire, environment)
        findings.append(Finding(f"Environment {environment.name}", "Expired", ends, evidence, act, "delete"))
    return findings


async def _over(session: Session, now: datetime, _faults: list[str]) -> Sequence[Finding]:
    """Tombstones that no delivery can need any more."""
    return [
        Finding(
            what=f"tombstone {stone.environment}",
            why="TooOld",
            since=stone.deleted_at,
            evidence=f"branch {stone.branch} of Project {stone.project} was torn down",
            act=partial(session.environments.forget, stone),
            verb="forget",
        )
        for stone in await session.environments.tombstones()
        if stone.is_over(now)
    ]


async def _orphans(session: Session, _now: datetime, _faults: list[str]) -> Sequence[Finding]:
    """Namespaces of environments of ours whose record is gone."""
    # The namespaces first: a record that is made in between has its namespace later than itself.
    listing = await session.client.list(NAMESPACES, label_selector=f"{GUARD}=env", metadata_only=True)
    known = {item["metadata"]["name"] for item in await session.environments.list()}
    orphans = [item for item in listing.items if _is_orphan(item, session.namespace, known)]
    return [
        Finding(
            what=f"Namespace {item['metadata']['name']}",
            why="NoRecord",
            since=datetime.fromisoformat(item["metadata"]["creationTimestamp"]),
            evidence=_evidence(item),
            act=None,
            verb="none: look who uses it, then delete it by hand",
        )
        for item in orphans
    ]


def _is_orphan(namespace: Object, control_namespace: str, known: set[str]) -> bool:
    owner = str(namespace["metadata"].get("annotations", {}).get(OWNER, ""))
    where, _, name = owner.partition("/")
    return where == control_namespace and bool(name) and name not in known


def _evidence(namespace: Object) -> str:
    marks = namespace["metadata"].get("annotations", {})
    return f"branch {marks.get(BRANCH, 'unknown')}; its owner {marks[OWNER]} is not there"


async def _carry_out(finding: Finding, faults: list[str], *, dry_run: bool) -> str:
    if finding.act is None or dry_run:
        return finding.verb
    try:
        await finding.act()
    except Conflict:
        return f"{finding.verb}: not now, it has changed meanwhile"
    except EnvprovError as error:
        faults.append(f"{finding.what}: {error}")
        return f"{finding.verb}: failed"
    return f"{finding.verb}: done"


def _print(common: Common, results: Sequence[tuple[Finding, str]], now: datetime) -> None:
    rows = [(one.what, one.why, describe(now - one.since), one.evidence, said) for one, said in results]
    match common.output:
        case Output.JSON | Output.YAML:
            keys = [name.lower() for name in HEADER]
            dated = [(one.what, one.why, one.since.isoformat(), one.evidence, said) for one, said in results]
            printing.print_data([dict(zip(keys, row, strict=True)) for row in dated], common.output)
        case Output.NAME:
            for row in rows:
                printing.print_line(row[0])
        case _ if rows:
            printing.print_table(HEADER, rows)
        case _:
            note("nothing to clean up", quiet=common.quiet)
