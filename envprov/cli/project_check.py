"""``project check``: looks at everything between GitLab and the Projects, one row for each thing, with what to do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime

from envprov.cli import printing
from envprov.cli.checks import Check, State
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.project_looks import Looked, look_at, look_at_gitlab, look_at_rules, look_at_status
from envprov.cli.session import Session, opened
from envprov.domain.errors import ConfigError, EnvprovError, InvalidRecord
from envprov.domain.project_status import read_status
from envprov.forge_wiring import forge_of
from envprov.gitlab.client import GitLabClient
from envprov.kube.client import Object
from envprov.kube.records import ProjectReader
from envprov.kube.resources import PROJECTS

HEADER = ("PROJECT", "CHECK", "STATE", "FOUND AND WHAT TO DO")

Row = tuple[str, Check]
"""Name of the Project, empty for what concerns all of them."""


async def check(common: Common, names: Sequence[str], *, url: str | None, test: bool) -> ExitCode:
    """
    Check Projects, and print what was found.

    Args:
        common: The options of the call.
        names: Of the Projects; none means all.
        url: Of the receiver, if not that of the settings.
        test: Whether GitLab is to send its test, which reaches the receiver as a push of the default branch.

    Returns:
        FAILED if a check failed; warnings do not count.

    Raises:
        ConfigError: A Project is not there.

    """
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(opened(common))
        items = await _projects(session, names)
        forge, rows = await _forge(stack, session)
        user_id = None
        if forge is not None:
            found, user_id = await look_at_gitlab(forge, datetime.now(UTC).date())
            rows += [("", one) for one in found]
        if not items:
            remedy = "`envprov project add group/shop`"
            rows.append(("", Check("projects", State.WARNING, f"none in namespace {session.namespace}", remedy)))
        hook_url = url or session.settings.gitlab.hook_url
        for item in items:
            name = str(item["metadata"]["name"])
            rows += [(name, one) for one in await _look(item, forge, user_id, hook_url, has_test=test)]
    _print(common, rows)
    return ExitCode.FAILED if any(one.state is State.FAILED for _, one in rows) else ExitCode.DONE


async def _forge(stack: AsyncExitStack, session: Session) -> tuple[GitLabClient | None, list[Row]]:
    try:
        forge = await stack.enter_async_context(forge_of(session.settings))
    except EnvprovError as error:
        return None, [("", Check("gitlab", State.FAILED, str(error), "correct the settings"))]
    if forge is None:
        remedy = "set gitlab.url and gitlab.token_file: without them a branch whose webhook is lost is lost"
        return None, [("", Check("gitlab", State.WARNING, "the settings name none", remedy))]
    return forge, []


async def _projects(session: Session, names: Sequence[str]) -> list[Object]:
    listing = await session.client.list(PROJECTS, session.namespace)
    there = {str(item["metadata"]["name"]): item for item in listing.items}
    missing = [name for name in names if name not in there]
    if missing:
        known = ", ".join(sorted(there)) or "none"
        raise ConfigError(f"no Project {', '.join(missing)} in namespace {session.namespace}, which has {known}")
    return [there[name] for name in sorted(set(names) or there)]


async def _look(
    item: Object, forge: GitLabClient | None, user_id: int | None, url: str | None, *, has_test: bool
) -> list[Check]:
    try:
        project = ProjectReader().read(item)
    except InvalidRecord as error:
        return [Check("project", State.FAILED, str(error), "edit the Project")]
    if project.spec.gitlab is None:
        return [Check("project", State.OK, "it serves no project in GitLab; only the command line makes environments")]
    looked = Looked(project, read_status(item), has_test, url)
    found = [] if forge is None or user_id is None else await look_at(forge, looked, user_id)
    return [*found, look_at_rules(looked, has_forge=forge is not None), look_at_status(looked)]


def _print(common: Common, rows: Sequence[Row]) -> None:
    shown = [row for row in rows if not common.quiet or row[1].state is not State.OK]
    match common.output:
        case Output.JSON | Output.YAML:
            data = [{"project": name, **asdict(one), "state": one.state.value} for name, one in shown]
            printing.print_data(data, common.output)
        case Output.NAME:
            for name, one in shown:
                printing.print_line(f"{name or '-'} {one.name}: {one.state.value}")
        case _ if shown:
            printing.print_table(HEADER, [line for name, one in shown for line in _lines(name, one)])
        case _:
            pass


def _lines(name: str, one: Check) -> Sequence[Sequence[str]]:
    found = (name, one.name, one.state.value, one.message)
    return [found, (" ", " ", " ", f"-> {one.remedy}")] if one.remedy else [found]
