"""What GitLab ought to show of an environment."""

from __future__ import annotations

from dataclasses import dataclass

from envprov.domain.environment import Environment
from envprov.domain.forge import ProjectRef
from envprov.domain.markdown import plain_url
from envprov.domain.note import last_note, note_of
from envprov.domain.project import Project
from envprov.domain.standing import Progress, progress
from envprov.domain.sweep import is_fork_branch
from envprov.domain.told import Debt

STATUS = "envprov"
"""Name of the status of a commit."""

FOLDER = "envprov"
"""Of our environments in GitLab, unless the settings name another one."""


@dataclass(frozen=True, slots=True)
class Publication:
    """
    What GitLab ought to show.

    Attributes:
        project: Where.
        slug: Name of the Environment.
        branch: Branch in GitLab; None for a merge request from a fork, whose branch is another project's.
        is_shown: Whether that environment is to be there.
        url: Where its button leads, if anywhere.
        progress: The newest commit; None if it is not known, or nothing new is to be said.
        has_status: Whether commits get a status.
        note: What the notes say; None if they are left alone.
        requests: Merge requests that get a note; others that have one keep it.
        is_over: Whether the environment is going or gone: nothing new is begun.
        is_asleep: Whether nothing is deployed for the time being: what was begun does not go on.
        folder: Of our environments in GitLab.

    """

    project: ProjectRef
    slug: str
    branch: str | None
    is_shown: bool
    url: str | None = None
    progress: Progress | None = None
    has_status: bool = False
    note: str | None = None
    requests: tuple[int, ...] = ()
    is_over: bool = False
    is_asleep: bool = False
    folder: str = FOLDER

    @property
    def environment(self) -> str:
        """Name of the environment in GitLab, which takes letters, digits, spaces and ``- _ / $ { }`` only."""
        return f"{self.folder}/{self.slug}"


def fork_iid(branch: str) -> int | None:
    """Number of the merge request from a fork that a branch stands for, or None for a branch of the project itself."""
    return int(branch.split("/")[1]) if is_fork_branch(branch) else None


def wanted(environment: Environment, project: Project, requests: tuple[int, ...] = ()) -> Publication | None:
    """
    What GitLab ought to show of an environment.

    Args:
        environment: The record.
        project: Its Project.
        requests: Numbers of the open merge requests of its branch, as far as they are known.

    Returns:
        None if the Project does not come from GitLab.

    """
    gitlab = project.spec.gitlab
    if gitlab is None:
        return None
    return Publication(
        project=gitlab.project,
        slug=environment.name,
        branch=_branch_in_gitlab(environment.spec.branch),
        is_shown=gitlab.report.environment,
        url=plain_url(environment.status.url),
        progress=progress(environment),
        has_status=gitlab.report.status,
        note=note_of(environment, project, has_commands=gitlab.commands is not None) if gitlab.report.note else None,
        requests=requests,
        is_over=environment.deleting,
        is_asleep=environment.spec.asleep,
    )


def farewell(debt: Debt, project: Project | None) -> Publication:
    """
    What GitLab ought to show of an environment whose record is gone.

    Args:
        debt: What is left of it.
        project: Its Project; None if that is gone, too.

    """
    gitlab = project.spec.gitlab if project else None
    return Publication(
        project=debt.told.project,
        slug=debt.environment,
        branch=_branch_in_gitlab(debt.branch),
        is_shown=False,
        note=last_note(debt) if gitlab is None or gitlab.report.note else None,
        is_over=True,
    )


def _branch_in_gitlab(branch: str) -> str | None:
    return None if is_fork_branch(branch) else branch
