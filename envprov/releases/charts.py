"""From a Project's chart source to a folder that Helm can be given, with a digest of what it holds."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from envprov.domain.errors import ChartNotFound, ChartRefused, RetryableError
from envprov.releases.download import Login
from envprov.releases.local import LocalCharts
from envprov.releases.reach import Reach
from envprov.releases.remote import RemoteCharts
from envprov.releases.sources import (
    ChartRef,
    ChartSource,
    GitChart,
    LocalChart,
    OciChart,
    RemoteChart,
    Repository,
    RepositoryChart,
)
from envprov.releases.store import Bounds, ChartStore, Kept
from envprov.releases.versions import is_exact, parse_range, parse_version

__all__ = [
    "ChartRef",
    "ChartSource",
    "Charts",
    "GitChart",
    "LocalChart",
    "Login",
    "OciChart",
    "Reach",
    "Repository",
    "RepositoryChart",
]

FRESH_SECONDS = 300.0
"""How long the version that a range stands for, and a refusal, are believed."""
PATIENCE_SECONDS = 60.0
"""How long until it is looked again when a range could not be."""
KNOWN_LIMIT = 5000

_VERSION = re.compile(r"[0-9A-Za-z^~<>=!*][0-9A-Za-z^~<>=!*|., +_-]{0,127}")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,252}")
_ADDRESS = re.compile(r"(oci|https?)://[0-9A-Za-z\[][0-9A-Za-z._~/:%+\[\]-]{0,1000}")

_Key = tuple[RemoteChart, Login | None]


@dataclass(frozen=True)
class _Known:
    """What a source stands for: a chart in the store, or a refusal."""

    until: float
    digest: str = ""
    refusal: str = ""


@dataclass
class Charts:
    """
    Finds charts, and remembers what it found.

    Attributes:
        root: Folder that local charts must lie in, after symbolic links are followed.
        reach: Where charts may be fetched from.
        repository: GitLab, for charts in the branch itself.
        cache: Folder for what is fetched; this makes a folder of its own in it, and removes that at its end.
        bounds: How much stays in the cache that is not in use.
        clock: Seconds that only go up.

    """

    root: Path
    reach: Reach = field(default_factory=Reach)
    repository: Repository | None = None
    cache: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._local = LocalCharts(self.root)
        self._store = ChartStore(self.cache, self.bounds)
        self._remote = RemoteCharts(self.reach, self._store, self.repository, self.resolve)
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._flights: dict[_Key, asyncio.Task[Kept]] = {}

    async def resolve(self, source: ChartSource, login: Login | None = None) -> ChartRef:
        """
        The chart of a source: fetched, unpacked, checked, and there as long as the answer is kept.

        Args:
            source: Where the Project says that the chart is.
            login: Who reads it, if not everybody may. A chart that one login has fetched is not given to another.

        Returns:
            What Helm is told.

        Raises:
            ChartNotFound: There is no such chart, it may not be read, or the address cannot be right.
            ChartRefused: It is there, and is not taken: too large, unsafe, or without its dependencies.
            Unavailable: What it comes from does not answer.
            EnvprovError: GitLab's own, for a chart in the branch.

        """
        match source:
            case LocalChart(path=path):
                folder, digest = await asyncio.to_thread(self._local.find, path)
                return ChartRef(str(folder), digest)
            case OciChart():
                _check_oci(source)
            case RepositoryChart():
                self._check_repository(source)
            case GitChart():
                pass
        kept = await self._remembered((source, login))
        return ChartRef(str(kept.folder), kept.digest, kept.version, kept.pin)

    async def _remembered(self, key: _Key) -> Kept:
        known = self._known.get(key)
        if known is not None and self.clock() < known.until:
            self._known.move_to_end(key)
            if known.refusal:
                raise ChartRefused(known.refusal)
            kept = self._store.get(known.digest)
            if kept is not None:
                return kept
        try:
            return await self._shared(key)
        except RetryableError:
            stale = self._store.get(known.digest) if known is not None else None
            if known is None or stale is None:
                raise
            # What ran a moment ago still is the chart, whatever has become of the place that it came from.
            self._remember(key, replace(known, until=self.clock() + PATIENCE_SECONDS))
            return stale

    async def _shared(self, key: _Key) -> Kept:
        """One fetch for all who ask for the same at once; it goes on if one of them is cancelled."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fetch(key))
            flight.add_done_callback(lambda task: self._landed(key, task))
        return await asyncio.shield(flight)

    def _landed(self, key: _Key, flight: asyncio.Task[Kept]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # or asyncio complains, if nobody waits any more

    async def _fetch(self, key: _Key) -> Kept:
        source, login = key
        try:
            kept = await self._remote.fetch(source, login)
        except ChartRefused as refusal:
            self._remember(key, _Known(self.clock() + FRESH_SECONDS, refusal=str(refusal)))
            raise
        lasts = isinstance(source, GitChart) or is_exact(source.version)
        self._remember(key, _Known(float("inf") if lasts else self.clock() + FRESH_SECONDS, kept.digest))
        return kept

    def _remember(self, key: _Key, known: _Known) -> None:
        self._known[key] = known
        self._known.move_to_end(key)
        while len(self._known) > KNOWN_LIMIT:
            self._known.popitem(last=False)

    def _check_repository(self, source: RepositoryChart) -> None:
        host, port = _host(source.url, ("https", "http"), "chart.repository.url", "https://charts.example.com")
        if source.url.startswith("http:") and not self.reach.may_be_plain(host, port or 80):
            raise ChartNotFound(
                "chart.repository.url must begin with https://: without TLS a chart can be changed on its way; or add "
                f"{host} to the hosts that the settings allow plain HTTP for"
            )
        _check_version(source.version, "chart.repository.version")
        if _NAME.fullmatch(source.name) is None:
            raise ChartNotFound(f"chart.repository.name {source.name!r} is no name of a chart, such as shop")


def _check_oci(source: OciChart) -> None:
    _host(source.ref, ("oci",), "chart.oci.ref", "oci://registry.example.com/charts/shop")
    _check_version(source.version, "chart.oci.version")


def _host(address: str, schemes: tuple[str, ...], where: str, example: str) -> tuple[str, int | None]:
    """Host and port of an address; one that is refused is not shown."""
    fault = ChartNotFound(f"{where} is no address such as {example}; it takes no user, no query and no blanks")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise fault from None
    if parts.scheme not in schemes or not host or _ADDRESS.fullmatch(address) is None:
        raise fault
    return host, port


def _check_version(version: str, where: str) -> None:
    known = parse_version(version) is not None or parse_range(version) is not None
    if _VERSION.fullmatch(version) is None or not known:
        raise ChartNotFound(f"{where} {version!r} is no version and no range, such as 1.4.2 or ~1.4")
