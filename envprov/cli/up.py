"""``up``: ask for the environment of a branch, and follow it until it is ready."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from envprov.cli import printing
from envprov.cli.charts import project_of_chart
from envprov.cli.exits import ExitCode
from envprov.cli.follow import Following, Waiting, follow
from envprov.cli.leader import require_worker
from envprov.cli.options import Common
from envprov.cli.plain import clean, note
from envprov.cli.progress import story_of_coming
from envprov.cli.projects import check_wanted, find_project
from envprov.cli.session import Session, opened
from envprov.cli.verdicts import Outcome, judge_coming
from envprov.cli.wish import Arguments, options_of
from envprov.domain.names import namespace_of
from envprov.kube.client import Object


@dataclass(frozen=True)
class Target:
    """
    Where the environment comes from.

    Attributes:
        project: Name of the Project; None for the one that the folder belongs to.
        chart: Folder of a chart on this computer; None for the Project's own.

    """

    project: str | None = None
    chart: Path | None = None


async def up(common: Common, target: Target, arguments: Arguments, waiting: Waiting) -> ExitCode:
    """
    Ask for an environment, and follow it until it is ready.

    Args:
        common: The options of the call.
        target: Where it comes from.
        arguments: What it is to be like.
        waiting: For how long to follow, and who does the work.

    Raises:
        EnvprovError: Nothing was asked for; why.

    """
    options = options_of(arguments, now=datetime.now(UTC))
    async with opened(common) as session:
        await require_worker(session, standalone=waiting.work is not None)
        project = await _project(session, target)
        await check_wanted(session, project, arguments.branch)
        item = await session.environments.up(project, arguments.branch, revision=arguments.revision, options=options)
        if waiting.limit is None:
            _print_asked(common, item)
            return ExitCode.DONE
        following = Following(
            name=item["metadata"]["name"],
            title=f"{arguments.branch} (Project {project}) comes up",
            story=story_of_coming,
            judge=_judge(item),
            limit=waiting.limit,
            work=waiting.work,
        )
        last, outcome = await follow(session, common, following)
    _print_end(common, last, outcome)
    return outcome.code


async def _project(session: Session, target: Target) -> str:
    if target.chart is None:
        return await find_project(session, target.project, Path.cwd())
    return await project_of_chart(session, target.chart, target.project, Path.cwd())


def _judge(item: Object) -> Callable[[Object | None], Outcome | None]:
    metadata = item["metadata"]
    if "deletionTimestamp" in metadata:  # what comes back after it is another object, and begins to count anew
        return partial(judge_coming, generation=1, leaving=metadata["uid"])
    return partial(judge_coming, generation=metadata.get("generation", 1))


def _print_asked(common: Common, item: Object) -> None:
    if not common.output.is_for_people:
        printing.print_object(item, common.output)
    elif not common.quiet:
        printing.print_line(f"asked for {printing.resource_name(item)}; `envprov status` shows how it is")


def _print_end(common: Common, item: Object | None, outcome: Outcome) -> None:
    if item is not None and not common.output.is_for_people:
        printing.print_object(item, common.output)
    elif item is not None and outcome.code is ExitCode.DONE:
        namespace = item.get("status", {}).get("namespace") or namespace_of(item["metadata"]["name"])
        url = item.get("status", {}).get("url")
        if common.quiet:
            sys.stdout.write(f"{clean(url or namespace)}\n")
        else:
            printing.print_line(f"ready: {url} (namespace {namespace})" if url else f"ready: namespace {namespace}")
    if outcome.code is not ExitCode.DONE:
        note(f"error: {outcome.message}")
