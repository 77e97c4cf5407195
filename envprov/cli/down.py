"""``down``: ask for the teardown of a branch's environment, and follow it until it is gone."""

from __future__ import annotations

from functools import partial

from envprov.cli.exits import ExitCode
from envprov.cli.follow import Following, Waiting, follow
from envprov.cli.found import find_environment, say
from envprov.cli.leader import require_worker
from envprov.cli.options import Common
from envprov.cli.plain import note
from envprov.cli.progress import story_of_going
from envprov.cli.session import opened
from envprov.cli.verdicts import judge_going


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
    async with opened(common) as session:
        found = await find_environment(session, branch, project)
        if found is None:
            return ExitCode.FAILED
        named, item = found
        await require_worker(session, standalone=waiting.work is not None)
        # The record's own writer reads it again, and deletes that object and no later one.
        await session.environments.down(named, branch)
        if waiting.limit is None:
            return say(common, item, "is asked to go")
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
        return say(common, item, f"is {outcome.message}")
    note(f"error: {outcome.message}")
    return outcome.code
