"""``queue``: who waits for room, and how full the budgets are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.session import Session, opened
from envprov.cli.times import describe
from envprov.domain.budget import (
    CLUSTER,
    Amounts,
    amounts_in_words,
    as_quantities,
    budget_of,
    cost_of,
    scope_of,
    total,
)
from envprov.domain.environment import Environment, QueueStatus, parse_environment
from envprov.domain.errors import Forbidden, InvalidRecord
from envprov.domain.project import Project
from envprov.domain.quantity import amount
from envprov.kube.client import Object
from envprov.kube.ledger import Ledger
from envprov.kube.records import ProjectReader
from envprov.kube.resources import ENVIRONMENTS, PROJECTS

HEADER = ("PLACE", "BRANCH", "PROJECT", "SIZE", "NEEDS", "SINCE", "WAITS FOR")
WIDE_HEADER = (*HEADER[:-1], "BUDGET", "ENVIRONMENT", "FIRST SINCE", HEADER[-1])
BUDGET_HEADER = ("BUDGET", "RESOURCE", "USED", "FREE", "OF")

_SHORT = ("cpu", "memory")
"""What everybody asks about; all of it is in the wide table."""


@dataclass(frozen=True)
class _Row:
    """One resource of one budget."""

    budget: str
    resource: str
    used: str
    free: str
    of: str


async def show_queue(common: Common, project: str | None) -> ExitCode:
    """
    Print the line and the budgets.

    Args:
        common: The options of the call.
        project: Only those of this Project; None for all. The cluster's budget is shown all the same.

    """
    async with opened(common) as session:
        listing = await session.client.list(ENVIRONMENTS, session.namespace)
        waiting = sorted(_waiting(listing.items, project), key=_order)
        rows = await _budgets(session, common, project)
        match common.output:
            case Output.NAME:
                named = {item["metadata"]["name"]: item for item in listing.items}
                printing.print_objects([named[environment.name] for environment, _ in waiting], common.output)
            case Output.JSON | Output.YAML:
                line = [_as_data(environment, queue) for environment, queue in waiting]
                printing.print_data({"line": line, "budgets": [asdict(row) for row in rows or ()]}, common.output)
            case _:
                _print(common, waiting, rows)
    return ExitCode.DONE


def _waiting(items: Sequence[Object], project: str | None) -> Iterator[tuple[Environment, QueueStatus]]:
    for item in items:
        with suppress(InvalidRecord):
            environment = parse_environment(item)
            queue = environment.status.queue
            if queue is not None and not environment.deleting and project in {None, environment.spec.project}:
                yield environment, queue


def _order(one: tuple[Environment, QueueStatus]) -> tuple[str, int, str]:
    environment, queue = one
    return queue.budget, queue.position, environment.name


async def _budgets(session: Session, common: Common, project: str | None) -> tuple[_Row, ...] | None:
    """What is used of each budget; None for somebody who may not see it."""
    try:
        listing = await session.client.list(PROJECTS, session.namespace)
        ledger = Ledger(session.client, session.namespace)
        await ledger.refresh()
    except Forbidden as error:
        note(f"the budgets cannot be seen: {error}", quiet=common.quiet)
        return None
    entries = ledger.entries().values()
    cluster = {name: amount(value) for name, value in (ledger.cluster_budget() or {}).items()}
    rows = list(_rows(CLUSTER, cluster, total(cost_of(entry.size) for entry in entries)))
    projects: tuple[Project, ...] = ProjectReader().readable(listing.items)
    for one in sorted(projects, key=lambda found: found.name):
        if project in {None, one.name}:
            used = total(cost_of(entry.size) for entry in entries if entry.project == one.name)
            rows += _rows(scope_of(one.name), budget_of(one.spec.limits), used)
    return tuple(rows)


def _rows(budget: str, limit: Amounts, used: Amounts) -> Iterator[_Row]:
    for name, most in limit.items():
        spent = used.get(name, Decimal(0))
        said = [as_quantities({name: value})[name] for value in (spent, max(most - spent, Decimal(0)), most)]
        yield _Row(budget, name, *said)


def _print(common: Common, waiting: Sequence[tuple[Environment, QueueStatus]], rows: Sequence[_Row] | None) -> None:
    is_wide, now = common.output is Output.WIDE, datetime.now(UTC)
    if waiting:
        lines = [_line(environment, queue, now, is_wide=is_wide) for environment, queue in waiting]
        printing.print_table(WIDE_HEADER if is_wide else HEADER, lines)
    else:
        note("nobody waits for room", quiet=common.quiet)
    if rows:
        if waiting:
            printing.print_line("")
        table = [(row.budget, row.resource, row.used, row.free, row.of) for row in rows]
        printing.print_table(BUDGET_HEADER, table)
    elif rows is not None:
        note("no budget is set: `limits` of a Project, and `budget` in the settings, set one", quiet=common.quiet)


def _line(environment: Environment, queue: QueueStatus, now: datetime, *, is_wide: bool) -> Sequence[str]:
    needs = {name: amount(value) for name, value in queue.needs.items() if is_wide or name in _SHORT}
    row = (
        str(queue.position),
        environment.spec.branch,
        environment.spec.project,
        queue.size,
        amounts_in_words(needs),
        describe(now - queue.since) if queue.since else "",
    )
    if not is_wide:
        return (*row, queue.reason)
    first = describe(now - queue.first_since) if queue.first_since else ""
    return (*row, queue.budget, environment.name, first, queue.reason)


def _as_data(environment: Environment, queue: QueueStatus) -> dict[str, object]:
    return {
        "environment": environment.name,
        "project": environment.spec.project,
        "branch": environment.spec.branch,
        **queue.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
