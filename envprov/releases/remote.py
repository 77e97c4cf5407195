"""Charts from elsewhere, each fetched, unpacked and checked into the store: Helm itself fetches nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from envprov.domain.branch_file import chart_path_fault
from envprov.domain.errors import ChartNotFound, ChartRefused
from envprov.releases.archives import Extracted, extract
from envprov.releases.dependencies import (
    Fetch,
    Metadata,
    add_dependencies,
    missing_dependencies,
    read_metadata,
    unpack_vendored,
)
from envprov.releases.download import Downloads, Login
from envprov.releases.index import ChartRepository
from envprov.releases.local import content_digest, files_of
from envprov.releases.reach import Reach
from envprov.releases.registry import Registry
from envprov.releases.sources import GitChart, OciChart, RemoteChart, Repository, RepositoryChart
from envprov.releases.store import ChartStore, Kept
from envprov.releases.tar import ArchiveLimits

AT_ONCE = 4
_DOCKER = "docker.io"
_DOCKER_REGISTRY = "registry-1.docker.io"


@dataclass(frozen=True)
class RemoteCharts:
    """
    Fetches charts.

    Attributes:
        reach: Where they may come from.
        store: Where they go.
        repository: GitLab, if there is one.
        dependency: Fetches what a chart from Git depends on.

    """

    reach: Reach
    store: ChartStore
    repository: Repository | None
    dependency: Fetch
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE), repr=False)

    async def fetch(self, source: RemoteChart, login: Login | None) -> Kept:
        """
        Fetch a chart.

        Args:
            source: Where it is.
            login: Who reads it, if not everybody may.

        Raises:
            ChartNotFound: There is none, or it may not be read.
            ChartRefused: It is there, and is not taken.
            Unavailable: It did not come.

        """
        async with self.store.workspace() as workspace:
            match source:
                case GitChart():
                    return await self._git(source, workspace)
                case OciChart(ref=ref, version=version):
                    what = f"chart {ref}:{version}"
                    return await self._packaged(
                        what, workspace, lambda target: self._registry(ref, what, login).fetch(version, target)
                    )
                case RepositoryChart(name=name, version=version):
                    what = f"chart {name} {version} of {source.url}"
                    return await self._packaged(
                        what, workspace, lambda target: self._index(source, what, login, target)
                    )

    async def _git(self, source: GitChart, workspace: Path) -> Kept:
        if self.repository is None or source.project is None:
            raise ChartNotFound(
                f"The chart is in the branch itself ({source.path!r}), and without the GitLab connection it cannot be "
                "fetched from there; set gitlab.url and the Project's gitlab.project, or give the Project a local, oci "
                "or repository chart"
            )
        if not source.revision:
            raise ChartNotFound(
                f"The chart is in the branch itself ({source.path!r}), and no commit of the branch is on record yet: "
                "push once, or give one with --revision"
            )
        fault = chart_path_fault(source.path)
        if fault is not None:
            raise ChartNotFound(f"The chart's path {source.path!a} {fault}; give a folder such as deploy/chart")
        what = f"chart {source.path} of {source.project} at {source.revision[:12]}"
        archive, folder, limits = workspace / "archive", workspace / "chart", ArchiveLimits()
        async with self._turns:
            path = "" if source.path == "." else source.path
            await self.repository.archive(
                source.project, path, source.revision, archive, limit_bytes=limits.packed_bytes
            )
            used = await asyncio.to_thread(extract, archive, folder, what, subtree=source.path)
            if not folder.is_dir():
                raise ChartNotFound(f"{what}: the repository has no such folder at this commit; correct the path")
            metadata, used = await asyncio.to_thread(_opened, folder, what, used, limits)
        await add_dependencies(folder, metadata, what, self.dependency)
        return await self._kept(folder, metadata, what)

    async def _packaged(self, what: str, workspace: Path, get: Callable[[Path], Awaitable[object]]) -> Kept:
        archive, folder, limits = workspace / "archive", workspace / "chart", ArchiveLimits()
        async with self._turns:
            await get(archive)
            used = await asyncio.to_thread(extract, archive, folder, what)
            metadata, used = await asyncio.to_thread(_opened, folder, what, used, limits)
        missing = missing_dependencies(folder, metadata)
        if missing:
            raise ChartRefused(
                f"{what} was published without {len(missing)} of the charts that it depends on; publish it after "
                "`helm dependency update`"
            )
        return await self._kept(folder, metadata, what)

    async def _kept(self, folder: Path, metadata: Metadata, what: str) -> Kept:
        try:
            digest, size = await asyncio.to_thread(_measured, folder)
        except ChartRefused:
            raise ChartRefused(f"{what}: with all that it depends on it is too large") from None
        return await self.store.add(folder, digest, metadata.version, size)

    def _registry(self, ref: str, what: str, login: Login | None) -> Registry:
        parts = urlsplit(ref)
        host, port = parts.hostname or "", parts.port
        is_plain = self.reach.may_be_plain(host, port or 80)
        netloc = _DOCKER_REGISTRY if parts.netloc == _DOCKER else parts.netloc
        base = f"{'http' if is_plain else 'https'}://{netloc}"
        return Registry(Downloads(self.reach), base, parts.path.strip("/"), what, login)

    async def _index(self, source: RepositoryChart, what: str, login: Login | None, target: Path) -> None:
        repository = ChartRepository(Downloads(self.reach), source.url, what, login)
        published = await repository.find(source.name, source.version)
        if published.url.startswith("oci://"):
            ref, _, tag = published.url.rpartition(":")
            await self._registry(ref, what, None).fetch(tag, target)
        else:
            await repository.fetch(published, target)


def _opened(folder: Path, what: str, used: Extracted, limits: ArchiveLimits) -> tuple[Metadata, Extracted]:
    used = unpack_vendored(folder, what, used, limits)
    return read_metadata(folder, what), used


def _measured(folder: Path) -> tuple[str, int]:
    files = files_of(folder, folder)
    return content_digest(files), sum(file.status.st_size for file in files)
