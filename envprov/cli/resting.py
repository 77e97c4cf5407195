"""``sleep`` and ``wake``: the environment of a branch scaled to nothing, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from envprov.cli.exits import ExitCode
from envprov.cli.follow import Following, Waiting, follow
from envprov.cli.found import find_environment, say
from envprov.cli.leader import require_worker
from envprov.cli.options import Common
from envprov.cli.plain import note
from envprov.cli.progress import story_of_coming
from envprov.cli.session import opened
from envprov.cli.verdicts import Outcome, judge_coming, judge_sleep
from envprov.kube.client import Object


async def rest(common: Common, branch: str, project: str | None, waiting: Waiting, *, asleep: bool) -> ExitCode:
    """
    Put an environment to sleep, or wake it. What is so already stays so.

    Args:
        common: The options of the call.
        branch: The branch.
        project: Name of the Project; None for the one that the folder belongs to.
        waiting: For how long to follow it, if at all.
        asleep: Whether it is to sleep.

    Raises:
        EnvprovError: It could not be written; why.

    """
    async with opened(common) as session:
        found = await find_environment(session, branch, project)
        if found is None:
            return ExitCode.FAILED
        named, item = found
        if waiting.limit is not None:
            await require_worker(session, standalone=False)
        live = await session.environments.rest(item, asleep=asleep)
        if waiting.limit is None:
            return say(common, live, _asked(item, asleep=asleep))
        following = Following(
            name=live["metadata"]["name"],
            title=f"{branch} (Project {named}) {'falls asleep' if asleep else 'wakes up'}",
            story=story_of_coming,
            judge=_judge(live, asleep=asleep),
            limit=waiting.limit,
            work=None,
        )
        last, outcome = await follow(session, common, following)
    if outcome.code is not ExitCode.DONE:
        note(f"error: {outcome.message}")
        return outcome.code
    return say(common, last or live, "is asleep" if asleep else f"is awake: {outcome.message}")


def _judge(live: Object, *, asleep: bool) -> Callable[[Object | None], Outcome | None]:
    return partial(judge_sleep if asleep else judge_coming, generation=live["metadata"].get("generation", 1))


def _asked(before: Mapping[str, Any], *, asleep: bool) -> str:
    if bool(before["spec"].get("asleep")) == asleep:
        return "is asleep already" if asleep else "is not asleep"
    return (
        "falls asleep: nothing of it runs, its data stays" if asleep else "wakes up; `envprov status` shows how it is"
    )
