"""``project list``: the Projects, and how far each is in step with GitLab."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.session import Session, opened
from envprov.cli.times import describe, parse_moment
from envprov.domain.errors import Forbidden, InvalidRecord
from envprov.domain.project_status import ProjectCondition, read_status
from envprov.kube.client import Object
from envprov.kube.records import ProjectReader
from envprov.kube.resources import ENVIRONMENTS, PROJECTS

HEADER = ("NAME", "GITLAB", "CHART", "HOST", "SYNCED", "HOOK", "ENVIRONMENTS", "AGE")
WIDE_HEADER = (*HEADER, "SWEPT", "BRANCHES", "MESSAGE")


async def list_projects(common: Common) -> ExitCode:
    """
    Print all Projects.

    Args:
        common: The options of the call.

    """
    async with opened(common) as session:
        listing = await session.client.list(PROJECTS, session.namespace)
        items = sorted(listing.items, key=lambda item: str(item["metadata"]["name"]))
        if not common.output.is_for_people:
            printing.print_objects(items, common.output)
        elif not items:
            note(f"no Projects in namespace {session.namespace}: `envprov project add group/shop`", quiet=common.quiet)
        else:
            counted, now = await _environments(session), datetime.now(UTC)
            is_wide = common.output is Output.WIDE
            rows = [_row(item, counted, now, is_wide=is_wide) for item in items]
            printing.print_table(WIDE_HEADER if is_wide else HEADER, rows)
    return ExitCode.DONE


async def _environments(session: Session) -> Mapping[str, int] | None:
    """How many each Project has; None for who may not see them."""
    try:
        listing = await session.client.list(ENVIRONMENTS, session.namespace)
    except Forbidden:
        return None
    return Counter(str(item["spec"]["project"]) for item in listing.items)


def _row(item: Object, counted: Mapping[str, int] | None, now: datetime, *, is_wide: bool) -> Sequence[str]:
    metadata, status = item["metadata"], read_status(item)
    try:
        spec = ProjectReader().read(item).spec
        what = (str(spec.gitlab.project) if spec.gitlab else "", str(spec.chart), spec.host or "")
    except InvalidRecord:
        what = ("", "cannot be understood", "")
    created = parse_moment(metadata.get("creationTimestamp"))
    synced = status.condition(ProjectCondition.SYNCED)
    hook = status.condition(ProjectCondition.HOOK_HEALTHY)
    row = (
        metadata["name"],
        *what,
        synced.reason if synced else "",
        hook.reason if hook else "",
        "" if counted is None else str(counted.get(metadata["name"], 0)),
        describe(now - created) if created else "",
    )
    if not is_wide:
        return row
    sweep = status.sweep
    wrong = [condition.message for condition in (synced, hook) if condition and condition.status != "True"]
    return (
        *row,
        describe(now - sweep.completed_at) if sweep else "",
        str(sweep.branches) if sweep else "",
        "; ".join(wrong),
    )
