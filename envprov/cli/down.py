"""``down``: ask for the teardown of a branch's environment, and follow it until it is gone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.follow import Following, Waiting, follow
from envprov.cli.leader import require_worker
from envprov.cli.options import Common
from envprov.cli.plain import note
from envprov.cli.progress import story_of_going
from envprov.cli.projects import find_project
from envprov.cli.session import opened
from envprov.cli.show import unknown
from envprov.cli.verdicts import judge_going
from envprov.cli.wish import check_branch
from envprov.domain.names import slug
from envprov.kube.record import check_name


async def down(common: Common, branch: str, project: str | None, waiting: Waiting) -> ExitCode:
    """
    Ask for a teardown, and follow it until the environment is gone.

    Args:
        common: The options of the call.
        branch: The branch.
        project: Name of the Project; None for the one that the folder belongs to.
        waiting: For how long to follow, and who does the work.

    Raises:
        EnvprovError: Nothing was asked for; why.

    """
    check_branch(branch)
    async with opened(common) as session:
        named = await find_project(session, project, Path.cwd())
        item = await session.environments.get(slug(named, branch))
        if item is None:
            note(f"error: {await unknown(session, named, branch)}")
            return ExitCode.FAILED
        check_name(item, named, branch)
        await require_worker(session, standalone=waiting.work is not None)
        # The record's own writer reads it again, and deletes that object and no later one.
        await session.environments.down(named, branch)
        if waiting.limit is None:
            return _say(common, item, "is asked to go")
        following = Following(
            name=item["metadata"]["name"],
            title=f"{branch} (Project {named}) goes down",
            story=story_of_going,
            judge=partial(judge_going, uid=item["metadata"]["uid"]),
            limit=waiting.limit,
            work=waiting.work,
        )
        _, outcome = await follow(session, common, following)
    if outcome.code is ExitCode.DONE:
        return _say(common, item, f"is {outcome.message}")
    note(f"error: {outcome.message}")
    return outcome.code


def _say(common: Common, item: printing.Object, what: str) -> ExitCode:
    if not common.output.is_for_people:
        printing.print_object(item, common.output)
    elif not common.quiet:
        printing.print_line(f"{item['spec']['branch']} {what}")
    return ExitCode.DONE
