"""
``cleanup``: a second way to the same end, should a delivery, a sweep or the controller's own timer be lost.

It makes one plan and prints it, or carries it out: the same rows, with what became of each. A teardown is only asked
for; the controller carries it out, with its guard.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from envprov.cli import printing
from envprov.cli.cleanup_asked import Controller, outcome
from envprov.cli.cleanup_forge import Branches
from envprov.cli.cleanup_plan import Finding, gather
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.session import Session, opened
from envprov.cli.times import describe
from envprov.domain.cleanup_run import Became, CleanupRun
from envprov.domain.environment import API_VERSION
from envprov.domain.errors import ConfigError, Conflict, EnvprovError, Forbidden
from envprov.domain.project_status import CONFIRMED, read_status
from envprov.forge_wiring import forge_of
from envprov.kube.cleanup_runs import CleanupRuns
from envprov.kube.resources import PROJECTS

log = structlog.get_logger("envprov.cleanup")

HEADER = ("WHAT", "WHY", "SINCE", "EVIDENCE", "ACTION")
MANAGER = "envprov-cleanup"
AT_ONCE = 8
"""Things that are carried out at the same time."""


@dataclass(frozen=True)
class Result:
    """
    What became of a finding.

    Attributes:
        finding: What was found.
        became: In one word; None while nothing was tried.
        said: For the table.
        fault: What went wrong, in words; "" for nothing.

    """

    finding: Finding
    became: Became | None
    said: str
    fault: str = ""


async def cleanup(common: Common, *, dry_run: bool) -> ExitCode:
    """
    Clean up one control namespace.

    Args:
        common: The options of the call.
        dry_run: Whether to say only what would be done.

    Returns:
        FAILED if something could not be read or done; the rest has been done all the same.

    """
    now = datetime.now(UTC).replace(microsecond=0)
    faults: list[str] = []
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(opened(common))
        branches = None
        try:
            forge = await stack.enter_async_context(forge_of(session.settings))
            branches = Branches(session, forge, dry_run=dry_run) if forge is not None else None
        except EnvprovError as error:
            faults.append(str(error))
        findings = await gather(session, Controller(session, now), branches, now, faults, dry_run=dry_run)
        if dry_run:
            results = [Result(one, None, one.verb) for one in findings]
        else:
            results = await _carry_out(session, findings)
            faults += [one.fault for one in results if one.fault]
            await _put_on_record(session, now, results, faults)
    _print(common, results, now)
    for fault in faults:
        note(f"error: {fault}")
    return ExitCode.FAILED if faults else ExitCode.DONE


async def confirm(common: Common, project: str) -> ExitCode:
    """
    Agree to the mass deletion that a sweep has stopped at: to exactly the environments that it named.

    Args:
        common: The options of the call.
        project: Name of the Project.

    Raises:
        ConfigError: There is no such Project, or nothing waits for an agreement.

    """
    async with opened(common) as session:
        live = await session.client.get(PROJECTS, project, session.namespace)
        if live is None:
            raise ConfigError(f"there is no Project {project} in namespace {session.namespace}")
        sweep = read_status(live).sweep
        if sweep is None or not sweep.confirmation:
            raise ConfigError(f"Project {project}: no mass deletion waits for anybody's agreement")
        body = {
            "apiVersion": API_VERSION,
            "kind": "Project",
            "metadata": {
                "name": project,
                "namespace": session.namespace,
                "uid": live["metadata"]["uid"],
                "annotations": {CONFIRMED: sweep.confirmation},
            },
        }
        await session.client.apply(body, manager=MANAGER)
        names = ", ".join(sweep.missing[:20])
        more = f" and {sweep.braked - 20} more" if sweep.braked > 20 else ""  # noqa: PLR2004 - the twenty above
        note(f"agreed: {sweep.braked} environments of Project {project} go ({names}{more})", quiet=common.quiet)
    return ExitCode.DONE


async def _carry_out(session: Session, findings: Sequence[Finding]) -> list[Result]:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(finding: Finding) -> Result:
        async with turns:
            return await _act(finding)

    results = list(await asyncio.gather(*(one(finding) for finding in findings)))
    asked = {
        one.finding.found: one.finding.asked
        for one in results
        if one.finding.asked is not None and one.became is Became.DONE
    }
    undone = await outcome(session, asked)
    return [
        replace(
            one, became=Became.FAILED, said=f"{one.finding.verb}: asked for", fault=f"{one.finding.found.what}: {why}"
        )
        if (why := undone.get(one.finding.found)) is not None
        else one
        for one in results
    ]


async def _act(finding: Finding) -> Result:
    if finding.act is None:
        is_done = finding.verb.endswith(": done")  # by the sweep, which finds and ends in one go
        return Result(finding, Became.DONE if is_done else Became.LEFT, finding.verb)
    changed = Result(finding, Became.CHANGED, f"{finding.verb}: not now, it has changed meanwhile")
    try:
        did = await finding.act()
    except Conflict:
        return changed
    except EnvprovError as error:
        return Result(finding, Became.FAILED, f"{finding.verb}: failed", f"{finding.found.what}: {error}")
    except Exception:
        # A bug in one thing must not stop the rest.
        log.exception("cleanup failed", what=finding.found.what)
        fault = f"{finding.found.what}: an error that nobody foresaw; --debug shows it"
        return Result(finding, Became.FAILED, f"{finding.verb}: failed", fault)
    return changed if did is False else Result(finding, Became.DONE, f"{finding.verb}: done")


async def _put_on_record(session: Session, began: datetime, results: Sequence[Result], faults: list[str]) -> None:
    """Say how it ended where the controller can show it: a job that is over can answer nobody."""
    runs = CleanupRuns(session.client, session.namespace)
    ended = datetime.now(UTC).replace(microsecond=0)
    rows = Counter((one.finding.found.why, one.became) for one in results if one.became is not None)
    try:
        before = await runs.last()
        succeeded = (before.succeeded_at if before else None) if faults else ended
        await runs.put(CleanupRun(began, ended, succeeded, len(faults), dict(rows)))
    except Forbidden as error:
        note(f"how it ended is not on record for the metrics: {error}")
    except EnvprovError as error:
        faults.append(f"how it ended is not on record for the metrics: {error}")


def _print(common: Common, results: Sequence[Result], now: datetime) -> None:
    found = [(one.finding.found, one.said) for one in results]
    rows = [(one.what, one.why.value, describe(now - one.since), one.evidence, said) for one, said in found]
    match common.output:
        case Output.JSON | Output.YAML:
            keys = [name.lower() for name in HEADER]
            dated = [(one.what, one.why.value, one.since.isoformat(), one.evidence, said) for one, said in found]
            printing.print_data([dict(zip(keys, row, strict=True)) for row in dated], common.output)
        case Output.NAME:
            for row in rows:
                printing.print_line(row[0])
        case _ if rows:
            printing.print_table(HEADER, rows)
        case _:
            note("nothing to clean up", quiet=common.quiet)
