"""From the chart that a Project names to a folder on this computer: the branch's commit, and who may read it."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol

from envprov.domain.desired import Desired
from envprov.domain.errors import ChartNotFound, ForgeUnreliable
from envprov.domain.project import Credentials, GitChart, LocalChart, OciChart, RepositoryChart
from envprov.kube.client import KubeClient
from envprov.kube.resources import SECRETS
from envprov.releases import charts
from envprov.releases.charts import ChartRef, Charts, Login

_FIELDS = ("username", "password")
_LIMIT = 4096
_CHART_LIMIT = 1 << 20


class Files(Protocol):
    """Reads files of a repository."""

    async def raw_file(self, ref: str | int, path: str, revision: str, *, limit_bytes: int) -> bytes | None:
        """One file at a commit, or None if GitLab says that there is none."""


@dataclass(frozen=True)
class ChartFinder:
    """
    Finds the charts of environments.

    Attributes:
        charts: Fetches and keeps them.
        client: Speaks to the API server, for credentials.
        control_namespace: Where the Secrets with credentials are.
        files: GitLab, where it is known.

    """

    charts: Charts
    client: KubeClient
    control_namespace: str
    files: Files | None = None

    async def find(self, desired: Desired) -> ChartRef:
        """
        The chart of an environment.

        Args:
            desired: Names it.

        Raises:
            ChartNotFound: There is none, or nobody may read it.
            EnvprovError: See :meth:`envprov.releases.charts.Charts.resolve`.

        """
        match desired.chart.source:
            case GitChart(path=path):
                return await self._in_branch(path, desired)
            case OciChart(ref=ref, version=version, credentials=credentials):
                return await self.charts.resolve(charts.OciChart(ref, version), await self._login(credentials))
            case RepositoryChart(url=url, name=name, version=version, credentials=credentials):
                source = charts.RepositoryChart(url, name, version)
                return await self.charts.resolve(source, await self._login(credentials))
            case LocalChart(path=path):
                return await self.charts.resolve(charts.LocalChart(path))

    async def _in_branch(self, path: str, desired: Desired) -> ChartRef:
        try:
            return await self.charts.resolve(charts.GitChart(path, desired.repository, desired.revision))
        except ForgeUnreliable:
            # GitLab answers before it packs: of a folder that is not there comes an archive that breaks off.
            file = str(PurePosixPath(path) / "Chart.yaml")
            if self.files is None or desired.repository is None:
                raise
            if await self.files.raw_file(desired.repository, file, desired.revision, limit_bytes=_CHART_LIMIT) is None:
                raise ChartNotFound(
                    f"there is no {file} in commit {desired.revision[:12]} of {desired.repository}; add the chart to "
                    "the branch, or correct chart.git.path of the Project"
                ) from None
            raise

    async def _login(self, credentials: Credentials | None) -> Login | None:
        if credentials is None:
            return None
        where = f"Secret {self.control_namespace}/{credentials.secret}, which the chart's credentials name,"
        live = await self.client.get(SECRETS, credentials.secret, self.control_namespace)
        if live is None:
            raise ChartNotFound(f"{where} is not there; make it with the keys username and password")
        found = [_plain(live.get("data") or {}, name) for name in _FIELDS]
        missing = [name for name, value in zip(_FIELDS, found, strict=True) if not value]
        if missing:
            raise ChartNotFound(f"{where} has no {' and no '.join(missing)}; give it both keys")
        return Login(*found)


def _plain(data: dict[str, Any], name: str) -> str:
    """A value of a Secret; one that no HTTP header could carry counts as none."""
    try:
        text = base64.b64decode(str(data.get(name, "")), validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return text if len(text) <= _LIMIT and text.isprintable() else ""
