"""The environment that a command is about: found by its branch, and what is said of it at the end."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common
from envprov.cli.plain import note
from envprov.cli.projects import find_project
from envprov.cli.session import Session
from envprov.cli.wish import check_branch
from envprov.domain.names import slug
from envprov.kube.client import Object
from envprov.kube.record import check_name
from envprov.kube.resources import ENVIRONMENTS

NEAR_MATCHES = 5
MATCH_CUTOFF = 0.4


async def find_environment(session: Session, branch: str, project: str | None) -> tuple[str, Object] | None:
    """
    The record of a branch; that there is none is told.

    Args:
        session: Where to look.
        branch: The branch.
        project: Name of the Project; None for the one that the folder belongs to.

    Returns:
        Name of the Project, and the Environment.

    Raises:
        ConfigError: It is no name of a branch, or nothing says which Project is meant.
        NameTaken: The record is another branch's.

    """
    check_branch(branch)
    named = await find_project(session, project, Path.cwd())
    item = await session.environments.get(slug(named, branch))
    if item is None:
        note(f"error: {await unknown(session, named, branch)}")
        return None
    check_name(item, named, branch)
    return named, item


async def unknown(session: Session, project: str, branch: str) -> str:
    """
    That a branch has no environment, in words, with those of similar names.

    Args:
        session: Where to look for them.
        project: Name of the Project.
        branch: The branch.

    """
    listing = await session.client.list(ENVIRONMENTS, session.namespace)
    elsewhere = sorted(item["spec"]["project"] for item in listing.items if item["spec"]["branch"] == branch)
    branches = [item["spec"]["branch"] for item in listing.items if item["spec"]["project"] == project]
    near = get_close_matches(branch, branches, n=NEAR_MATCHES, cutoff=MATCH_CUTOFF)
    if elsewhere:
        hint = f"Project {', '.join(elsewhere)} has one: give --project"
    elif near:
        hint = f"did you mean {', '.join(near)}?"
    else:
        hint = "`envprov list` shows what there is"
    return f"branch {branch} of Project {project} has no environment in namespace {session.namespace}; {hint}"


def say(common: Common, item: Object, what: str) -> ExitCode:
    """
    Print what became of an environment.

    Args:
        common: The options of the call.
        item: The Environment.
        what: What is said after the name of the branch; data formats print the Environment itself.

    """
    if not common.output.is_for_people:
        printing.print_object(item, common.output)
    elif not common.quiet:
        printing.print_line(f"{item['spec']['branch']} {what}")
    return ExitCode.DONE
