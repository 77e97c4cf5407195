"""``--chart``: a Project for a chart on this computer, where no GitLab is needed."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from envprov.cli import git
from envprov.cli.plain import note
from envprov.cli.session import Session
from envprov.domain.environment import API_VERSION
from envprov.domain.errors import ConfigError
from envprov.domain.objects import MANAGED_BY, MANAGER
from envprov.kube.resources import PROJECTS

FIELD_MANAGER = "envprov-cli"
NAME_LIMIT = 40


async def project_of_chart(session: Session, chart: Path, given: str | None, folder: Path) -> str:
    """
    Name of the Project whose chart is this folder; it is made if it is not there.

    Args:
        session: Where.
        chart: Folder of the chart.
        given: What ``--project`` says.
        folder: Where the person is: its Git repository, or itself, names the Project otherwise.

    Raises:
        ConfigError: There is no chart, or a Project of that name with another one.

    """
    path = find_chart(chart)
    name = given or project_name((git.top_of(folder) or folder).name)
    wanted = {"local": {"path": str(path)}}
    live = await session.client.get(PROJECTS, name, session.namespace)
    if live is None:
        manifest = {
            "apiVersion": API_VERSION,
            "kind": "Project",
            "metadata": {"name": name, "namespace": session.namespace, "labels": {MANAGED_BY: MANAGER}},
            "spec": {"chart": wanted},
        }
        await session.client.create(manifest, manager=FIELD_MANAGER)
        note(f"made Project {name} in namespace {session.namespace} for the chart {path}")
    elif live["spec"]["chart"] != wanted:
        raise ConfigError(
            f"Project {name} in namespace {session.namespace} has another chart than {path}; leave --chart away to use "
            "that one, or name another Project with --project, which is made if it is not there"
        )
    return name


def find_chart(chart: Path) -> Path:
    """
    Absolute path of a chart.

    Args:
        chart: As ``--chart`` names it.

    Raises:
        ConfigError: There is no chart.

    """
    path = chart.expanduser().resolve()
    if not (path / "Chart.yaml").is_file():
        raise ConfigError(f"--chart {chart}: there is no Chart.yaml in it")
    return path


def project_name(folder: str) -> str:
    """
    Name for the Project of a folder.

    Args:
        folder: Name of the folder.

    Returns:
        RFC 1123 label of at most 40 characters; ``project`` if nothing can be read in the name.

    """
    plain = unicodedata.normalize("NFKD", folder).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:NAME_LIMIT].rstrip("-") or "project"
