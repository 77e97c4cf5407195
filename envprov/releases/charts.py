"""From a Project's chart source to a chart that Helm can be given, with a digest of what it holds."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from envprov.domain.errors import ChartNotFound

SIZE_LIMIT_BYTES = 16 * 1024 * 1024
FILE_LIMIT = 2000
DEPTH_LIMIT = 20
_VERSION = re.compile(r"[0-9A-Za-z^~<>=!*][0-9A-Za-z^~<>=!*|., +_-]{0,127}")
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,252}")
_ADDRESS = re.compile(r"(oci|https?)://[0-9A-Za-z\[][0-9A-Za-z._~/:%+\[\]-]{0,1000}")


@dataclass(frozen=True)
class LocalChart:
    """A chart in our own file system: absolute, or from the chart root."""

    path: str


@dataclass(frozen=True)
class OciChart:
    """A chart in an OCI registry: ``oci://registry.example.com/charts/shop`` and a version."""

    ref: str
    version: str


@dataclass(frozen=True)
class RepositoryChart:
    """A chart in a classic chart repository."""

    url: str
    name: str
    version: str


@dataclass(frozen=True)
class GitChart:
    """A chart in the branch itself."""

    path: str


ChartSource = LocalChart | OciChart | RepositoryChart | GitChart


@dataclass(frozen=True)
class ChartRef:
    """
    A chart as Helm is told of it.

    Attributes:
        reference: Absolute folder, ``oci://`` address or name in ``repository``; never begins with ``-``.
        digest: SHA-256, hexadecimal, of the chart's files, or of the reference and version of a remote one.
        version: Version or range of a remote chart.
        repository: Address of the chart repository that ``reference`` is a name in.
        plain_http: Whether an OCI registry is spoken to without TLS.

    """

    reference: str
    digest: str
    version: str | None = None
    repository: str | None = None
    plain_http: bool = False


@dataclass
class Charts:
    """
    Finds charts, and remembers the digests of local ones until a file changes.

    Attributes:
        root: Folder that local charts must lie in, after symbolic links are followed.
        plain_http_hosts: Hosts that may be spoken to without TLS; this computer always may.

    """

    root: Path
    plain_http_hosts: frozenset[str] = frozenset()
    _digests: dict[Path, tuple[str, str]] = field(default_factory=dict, init=False, repr=False)

    async def resolve(self, source: ChartSource) -> ChartRef:
        """
        The chart of a source.

        Args:
            source: Where the Project says that the chart is.

        Returns:
            What Helm is told. Nothing is fetched: that a remote chart exists, Helm finds out.

        Raises:
            ChartNotFound: There is no such local chart, it is too large, or the address cannot be right.

        """
        match source:
            case LocalChart():
                return await asyncio.to_thread(self._local, source)
            case OciChart():
                return self._oci(source)
            case RepositoryChart():
                return self._repository(source)
            case GitChart():
                raise ChartNotFound(
                    f"The chart is in the branch itself ({source.path!r}), and charts from Git need the GitLab "
                    "connection, which this version lacks yet; give the Project a local, oci or repository chart"
                )

    def _local(self, source: LocalChart) -> ChartRef:
        root = self.root.resolve()
        folder = (root / source.path).resolve()
        if not folder.is_relative_to(root):
            raise ChartNotFound(
                f"The chart {source.path!r} lies outside of the chart root {root}; move it there, or change the chart "
                "root in the settings"
            )
        if not (folder / "Chart.yaml").is_file():
            raise ChartNotFound(
                f"There is no chart at {folder}: no Chart.yaml was found; correct chart.local.path in the Project, or "
                "put the chart there"
            )
        try:
            files = _files(folder, root)
            fingerprint = _fingerprint(files)
            known = self._digests.get(folder)
            if known is None or known[0] != fingerprint:
                known = self._digests[folder] = (fingerprint, _content_digest(files))
        except OSError as fault:
            raise ChartNotFound(
                f"The chart at {folder} cannot be read: {fault.strerror}; envprov must be able to read all of it"
            ) from fault
        return ChartRef(str(folder), known[1])

    def _oci(self, source: OciChart) -> ChartRef:
        host = _host(source.ref, ("oci",), "chart.oci.ref", "oci://registry.example.com/charts/shop")
        _check_version(source.version, "chart.oci.version")
        return ChartRef(
            reference=source.ref,
            digest=_text_digest("oci", source.ref, source.version),
            version=source.version,
            plain_http=self._may_be_plain(host),
        )

    def _repository(self, source: RepositoryChart) -> ChartRef:
        host = _host(source.url, ("https", "http"), "chart.repository.url", "https://charts.example.com")
        if source.url.startswith("http:") and not self._may_be_plain(host):
            raise ChartNotFound(
                "chart.repository.url must begin with https://: without TLS a chart can be changed on its way; or add "
                f"{host} to the hosts that the settings allow plain HTTP for"
            )
        _check_version(source.version, "chart.repository.version")
        if _NAME.fullmatch(source.name) is None:
            raise ChartNotFound(f"chart.repository.name {source.name!r} is no name of a chart, such as shop")
        return ChartRef(
            reference=source.name,
            digest=_text_digest("repository", source.url, source.name, source.version),
            version=source.version,
            repository=source.url,
        )

    def _may_be_plain(self, host: str) -> bool:
        return _is_loopback(host) or host in self.plain_http_hosts


@dataclass(frozen=True)
class _File:
    name: str
    path: Path
    status: os.stat_result


def _files(folder: Path, root: Path) -> list[_File]:
    """Every file, symbolic links followed as Helm follows them, in an order that does not change."""
    found: list[_File] = []
    for file in _walk(folder, root, "", ()):
        found.append(file)
        if len(found) > FILE_LIMIT:
            raise ChartNotFound(
                f"The chart at {folder} has more than {FILE_LIMIT} files; is it the chart's own folder?"
            )
    size = sum(file.status.st_size for file in found)
    if size > SIZE_LIMIT_BYTES:
        raise ChartNotFound(
            f"The chart at {folder} has {size} bytes, more than {SIZE_LIMIT_BYTES}; is it the chart's own folder?"
        )
    return found


def _walk(folder: Path, root: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[_File]:
    real = folder.resolve()
    if real in above:
        raise ChartNotFound(
            f"The chart's folder {folder} is a symbolic link to what contains it; take it out of the chart"
        )
    if len(above) >= DEPTH_LIMIT:
        raise ChartNotFound(f"The chart's folder {folder} lies more than {DEPTH_LIMIT} folders deep")
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink() and not path.resolve().is_relative_to(root):
            raise ChartNotFound(
                f"The symbolic link {path} leads out of the chart root {root}; take it out of the chart"
            )
        if entry.is_dir():
            yield from _walk(path, root, f"{prefix}{entry.name}/", (*above, real))
            continue
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ChartNotFound(f"{path} is neither a file nor a folder; take it out of the chart")
        yield _File(f"{prefix}{entry.name}", path, status)


def _fingerprint(files: list[_File]) -> str:
    """Changes when a file was written, replaced, added or taken away; reads no content."""
    seen = [
        (file.name, file.status.st_mtime_ns, file.status.st_size, file.status.st_ino, file.status.st_mode)
        for file in files
    ]
    return hashlib.sha256(repr(seen).encode()).hexdigest()


def _content_digest(files: list[_File]) -> str:
    whole = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.path.read_bytes()).hexdigest()
        whole.update(repr((file.name, stat.S_IMODE(file.status.st_mode), content)).encode())
    return whole.hexdigest()


def _text_digest(*parts: str) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _host(address: str, schemes: tuple[str, ...], where: str, example: str) -> str:
    """The ``host[:port]`` of an address that may stand on Helm's command line; one that is refused is not shown."""
    fault = ChartNotFound(f"{where} is no address such as {example}; it takes no user, no query and no blanks")
    try:
        parts = urlsplit(address)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise fault from None
    if parts.scheme not in schemes or not host or _ADDRESS.fullmatch(address) is None:
        raise fault
    return parts.netloc


def _check_version(version: str, where: str) -> None:
    if _VERSION.fullmatch(version) is None:
        raise ChartNotFound(f"{where} {version!r} is no version and no range, such as 1.4.2 or ~1.4")


def _is_loopback(netloc: str) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
