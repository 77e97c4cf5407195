"""
``cleanup``: a second way to the same end, should a delivery, a sweep or the controller's own timer be lost.

It makes one plan and prints it, or carries it out: the same rows, with what became of each. A teardown is only asked
for; the controller carries it out, with its guard.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime

from envprov.cli import printing
from envprov.cli.cleanup_forge import Branches
from envprov.cli.cleanup_plan import Finding, gather
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.session import opened
from envprov.cli.times import describe
from envprov.domain.environment import API_VERSION
from envprov.domain.errors import ConfigError, Conflict, EnvprovError
from envprov.domain.project_status import CONFIRMED, read_status
from envprov.forge_wiring import forge_of
from envprov.kube.resources import PROJECTS

HEADER = ("WHAT", "WHY", "SINCE", "EVIDENCE", "ACTION")
MANAGER = "envprov-cleanup"


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
    faults: list[str] = []
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(opened(common))
        branches = None
        try:
            forge = await stack.enter_async_context(forge_of(session.settings))
            branches = Branches(session, forge, dry_run=dry_run) if forge is not None else None
        except EnvprovError as error:
            faults.append(str(error))
        findings = await gather(session, branches, now, faults, dry_run=dry_run)
        results = [(one, await _carry_out(one, faults, dry_run=dry_run)) for one in findings]
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


async def _carry_out(finding: Finding, faults: list[str], *, dry_run: bool) -> str:
    if finding.act is None or dry_run:
        return finding.verb
    try:
        await finding.act()
    except Conflict:
        return f"{finding.verb}: not now, it has changed meanwhile"
    except EnvprovError as error:
        faults.append(f"{finding.found.what}: {error}")
        return f"{finding.verb}: failed"
    return f"{finding.verb}: done"


def _print(common: Common, results: Sequence[tuple[Finding, str]], now: datetime) -> None:
    found = [(one.found, said) for one, said in results]
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
