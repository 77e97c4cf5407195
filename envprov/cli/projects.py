"""Which Project is meant: the one that was named, or the one that the folder belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envprov.cli import git
from envprov.cli.session import Session
from envprov.domain.branch_file import FILE, parse_branch_file
from envprov.domain.document import SIZE_LIMIT_BYTES
from envprov.domain.environment import faults
from envprov.domain.errors import ConfigError, Forbidden, InvalidBranchFile, InvalidRecord
from envprov.domain.project import Project, ProjectSpec
from envprov.files import read_bytes
from envprov.kube.client import Object
from envprov.kube.resources import PROJECTS

DEPTH_LIMIT = 40
"""Folders that are looked into, from the current one upwards."""


@dataclass(frozen=True)
class Clues:
    """
    What the folder says about its Project.

    Attributes:
        file: The nearest ``.envprov.yaml`` that names a Project.
        named: The Project that it names.
        remote: Path with namespace of the Git remote, if no file names a Project.

    """

    file: Path | None = None
    named: str | None = None
    remote: str | None = None


async def find_project(session: Session, given: str | None, folder: Path) -> str:
    """
    Name of the Project that a command is about.

    Args:
        session: Where Projects are.
        given: What ``--project`` says.
        folder: Where the person is.

    Raises:
        ConfigError: None was found, or several; says what was tried and which Projects there are.

    """
    if given is not None:
        return given
    clues = read_clues(folder)
    if clues.named is not None:
        return clues.named
    listing = await session.client.list(PROJECTS, session.namespace)
    return choose(listing.items, clues, namespace=session.namespace)


async def check_wanted(session: Session, name: str, branch: str) -> None:
    """
    Make sure that a Project is there, and that its rules give a branch an environment.

    Args:
        session: Where Projects are.
        name: Name of the Project.
        branch: The branch.

    Raises:
        ConfigError: There is no such Project; says which there are.
        InvalidRecord: It cannot be understood.
        Forbidden: Its rules give the branch none.

    """
    check_rules(await read_project(session, name), branch)


async def read_project(session: Session, name: str) -> Project:
    """
    Read a Project.

    Args:
        session: Where Projects are.
        name: Name of the Project.

    Raises:
        ConfigError: There is no such Project; says which there are.
        InvalidRecord: It cannot be understood.

    """
    live = await session.client.get(PROJECTS, name, session.namespace)
    if live is None:
        listing = await session.client.list(PROJECTS, session.namespace)
        there = _listed({str(item["metadata"]["name"]): _path_of(item) for item in listing.items})
        raise ConfigError(f"there is no Project {name}: namespace {session.namespace} has {there}")
    try:
        return Project(name=name, spec=ProjectSpec.model_validate(live["spec"]))
    except ValidationError as error:
        raise InvalidRecord(f"Project {name}: {faults(error)}") from None


def check_rules(project: Project, branch: str) -> None:
    """
    Make sure that the rules of a Project give a branch an environment.

    Raises:
        Forbidden: They give it none.

    """
    rule = project.rule_for(branch)
    if rule is None:
        raise Forbidden(f"no rule of Project {project.name} is for branch {branch}, so it gets no environment")
    if rule.action == "ignore":
        which = ", ".join(rule.branches)
        raise Forbidden(f"the rule of Project {project.name} for {which} gives branch {branch} no environment")


def read_clues(folder: Path) -> Clues:
    """
    What a folder says about its Project.

    Args:
        folder: A folder; those above it count too.

    Raises:
        ConfigError: A ``.envprov.yaml`` is wrong: the first that names a Project, or one below it.

    """
    for place in (folder, *folder.parents)[:DEPTH_LIMIT]:
        file = place / FILE
        if file.is_file() and (named := _project_of(file)):
            return Clues(file=file, named=named)
    return Clues(remote=git.remote_path(folder))


def choose(projects: Sequence[Object], clues: Clues, *, namespace: str) -> str:
    """
    The Project among all that there are.

    Args:
        projects: All of the control namespace.
        clues: What the folder says; it names none itself.
        namespace: The control namespace, for messages.

    Returns:
        The one that serves the Git remote; or the only one, unless it serves another path than this remote.

    Raises:
        ConfigError: None or several; says what was tried and which there are.

    """
    paths = {str(item["metadata"]["name"]): _path_of(item) for item in projects}
    if clues.remote is not None:
        matching = [name for name, path in paths.items() if path and path.casefold() == clues.remote.casefold()]
    else:
        matching = []
    if not matching and len(paths) == 1:
        # The only Project is not ours if it says that it serves another repository.
        matching = [name for name, path in paths.items() if clues.remote is None or path is None]
    if len(matching) == 1:
        return matching[0]
    raise ConfigError(
        f"no Project is given and none was found: no {FILE} here or above names one; {_about_remote(clues, matching)}; "
        f"namespace {namespace} has {_listed(paths)}. Give one with --project, or put `project: NAME` into {FILE}"
    )


def _project_of(file: Path) -> str | None:
    """The Project that a file names. It is the file that decides about the branch too, and is checked whole."""
    raw = read_bytes(file, SIZE_LIMIT_BYTES, str(file))
    try:
        return parse_branch_file(raw).project
    except InvalidBranchFile as error:
        raise ConfigError(f"{file}: {str(error).removeprefix(f'{FILE}: ')}") from None


def _path_of(project: Object) -> str | None:
    """Path with namespace that a Project serves; None if it serves none, or says only its number."""
    gitlab: Any = project.get("spec", {}).get("gitlab") or {}
    path = str(gitlab.get("project", ""))
    return None if not path or path.isdecimal() else path.strip("/")


def _about_remote(clues: Clues, matching: Sequence[str]) -> str:
    if clues.remote is None:
        return "there is no Git remote origin with a host"
    if matching:
        return f"the Git remote {clues.remote} belongs to several"
    return f"the Git remote {clues.remote} belongs to none"


def _listed(paths: dict[str, str | None]) -> str:
    if not paths:
        return "no Projects"
    named = [f"{name} ({path})" if path else name for name, path in sorted(paths.items())]
    return f"the Projects {', '.join(named[:20])}{' and more' if len(named) > 20 else ''}"  # noqa: PLR2004 - enough to read
