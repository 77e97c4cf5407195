"""Which ``.envprov.yaml`` is in force: the one of the commit, or the last good one if that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from envprov.domain.branch_file import BranchFile, bounded, parse_branch_file
from envprov.domain.environment import BranchFileStatus, Environment
from envprov.domain.errors import InvalidBranchFile
from envprov.domain.project import GitChart, Project
from envprov.domain.sizes import Size

_FAULT_LIMIT = 4000


def reads_file(environment: Environment, project: Project) -> bool:
    """Whether a branch has a say in its environment by a file at its commit."""
    return project.spec.gitlab is not None and project.spec.branch_file.read and bool(environment.spec.revision)


def is_settled(environment: Environment) -> bool:
    """Whether the file of the commit is known and right; one that was wrong may be allowed by now."""
    known = environment.status.branch_file
    return known is not None and known.looked == environment.spec.revision and not known.fault


def settle(
    environment: Environment, project: Project, sizes: Mapping[str, Size], raw: bytes | None, *, now: datetime
) -> BranchFileStatus:
    """
    What is in force after a look at the file of the commit.

    Args:
        environment: The record, with what was in force before.
        project: Bounds what the file may say.
        sizes: Those of the settings.
        raw: Content of the file; None if there is none, which says nothing and is right.
        now: Aware moment.

    Returns:
        The file of the commit; or the last good one, with what is wrong.

    Raises:
        InvalidBranchFile: It is wrong, and there was no good one before.

    """
    revision = environment.spec.revision
    try:
        file = parse_branch_file(raw) if raw is not None else BranchFile()
        file = bounded(file, project, environment.spec.branch, sizes, now=now)
    except InvalidBranchFile as error:
        return keep(environment, error)
    return BranchFileStatus(
        revision=revision,
        looked=revision,
        size=file.size,
        lifetime=file.lifetime,
        values=dict(file.values),
        chart=file.chart.path if file.chart else None,
    )


def keep(environment: Environment, error: InvalidBranchFile) -> BranchFileStatus:
    """
    What stays in force when the file of the commit is wrong.

    Raises:
        InvalidBranchFile: The same error, if there was no good file before.

    """
    before = environment.status.branch_file
    if before is None:
        raise error
    return before.model_copy(update={"looked": environment.spec.revision, "fault": str(error)[:_FAULT_LIMIT]})


def check_settled(
    known: BranchFileStatus, environment: Environment, project: Project, sizes: Mapping[str, Size], *, now: datetime
) -> None:
    """
    Make sure that a Project still allows what is in force: its rules may have changed since.

    Raises:
        InvalidBranchFile: It does not.

    """
    chart = GitChart(path=known.chart) if known.chart else None
    file = BranchFile(size=known.size, lifetime=known.lifetime, values=known.values, chart=chart)
    bounded(file, project, environment.spec.branch, sizes, now=now)
