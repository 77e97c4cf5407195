"""``.envprov.yaml`` for a plan: as it is on disk beside the chart, at the commit, or as the controller saw it last."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from envprov.cli import git
from envprov.cli.plain import note
from envprov.domain.branch_file import FILE
from envprov.domain.document import SIZE_LIMIT_BYTES
from envprov.domain.environment import BranchFileStatus, Environment
from envprov.domain.errors import ConfigError, InvalidBranchFile
from envprov.domain.project import Project
from envprov.domain.settled import check_settled, is_settled, reads_file, settle
from envprov.forge_wiring import forge_of
from envprov.gitlab.branch_files import BranchFileReader
from envprov.settings import Settings


async def file_of(
    settings: Settings, project: Project, environment: Environment, chart: Path | None
) -> BranchFileStatus | None:
    """
    What the branch's own file says, as far as the Project lets it.

    Args:
        settings: With GitLab or without.
        project: The Project.
        environment: The record as it would be.
        chart: Folder of ``--chart``: it is deployed whatever chart the file names, and the file of its checkout counts.

    Raises:
        InvalidBranchFile: It is wrong, and the environment would stay as it is; says all that is wrong.
        EnvprovError: GitLab did not answer.

    """
    if project.spec.gitlab is None or not project.spec.branch_file.read:
        return None
    checkout = _checkout(chart, str(project.spec.gitlab.project)) if chart is not None else None
    if checkout is not None:
        found = _settled(settings, project, environment, _read(checkout / FILE))
    else:
        found = await _at_commit(settings, project, environment)
    return found.model_copy(update={"chart": None}) if found is not None and chart is not None else found


async def _at_commit(settings: Settings, project: Project, environment: Environment) -> BranchFileStatus | None:
    known, revision = environment.status.branch_file, environment.spec.revision
    if project.spec.gitlab is None or not reads_file(environment, project):
        return None
    if known is not None and is_settled(environment):
        sizes = settings.platform.sizes
        check_settled(known, environment, project, sizes, now=datetime.now(UTC))
        return known
    async with forge_of(settings) as forge:
        if forge is None:
            note(
                f"{FILE} of commit {revision[:12]} was not read, for the settings name no GitLab (gitlab.url); it "
                f"counts as the controller has last seen it{'' if known else ': not at all'}"
            )
            return known
        raw = await BranchFileReader(forge).branch_file(project.spec.gitlab.project, revision)
    return _settled(settings, project, environment, raw)


def _settled(settings: Settings, project: Project, environment: Environment, raw: bytes | None) -> BranchFileStatus:
    sizes = settings.platform.sizes
    found = settle(environment, project, sizes, raw, now=datetime.now(UTC))
    if found.fault:
        raise InvalidBranchFile(found.fault)
    return found


def _checkout(chart: Path, repository: str) -> Path | None:
    """Top of the checkout that a chart is in, unless it is certainly one of another repository."""
    top = git.top_of(chart)
    remote = git.remote_path(top) if top is not None else None
    is_other = remote is not None and not repository.isdecimal() and remote.casefold() != repository.casefold()
    return None if is_other else top


def _read(file: Path) -> bytes | None:
    try:
        with file.open("rb") as stream:
            return stream.read(SIZE_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
