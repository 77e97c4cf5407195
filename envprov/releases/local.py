"""Charts in our own file system: what is in their folders, and a digest of it that is kept until a file changes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from envprov.domain.errors import ChartNotFound, ChartRefused

SIZE_LIMIT_BYTES = 16 * 1024 * 1024
FILE_LIMIT = 2000
DEPTH_LIMIT = 20


@dataclass
class LocalCharts:
    """
    Finds charts below one folder.

    Attributes:
        root: The folder that they must lie in, after symbolic links are followed.

    """

    root: Path
    _digests: dict[Path, tuple[str, str]] = field(default_factory=dict, init=False, repr=False)

    def find(self, path: str) -> tuple[Path, str]:
        """
        Find a chart.

        Args:
            path: Absolute, or from the root.

        Returns:
            Its folder, and the digest of what is in it.

        Raises:
            ChartNotFound: There is none, it lies elsewhere, or it cannot be read.
            ChartRefused: It is too large, or holds what is neither file nor folder.

        """
        root = self.root.resolve()
        folder = (root / path).resolve()
        if not folder.is_relative_to(root):
            raise ChartNotFound(
                f"The chart {path!r} lies outside of the chart root {root}; move it there, or change the chart "
                "root in the settings"
            )
        if not (folder / "Chart.yaml").is_file():
            raise ChartNotFound(
                f"There is no chart at {folder}: no Chart.yaml was found; correct chart.local.path in the Project, or "
                "put the chart there"
            )
        try:
            files = files_of(folder, root)
            now = fingerprint(files)
            known = self._digests.get(folder)
            if known is None or known[0] != now:
                known = self._digests[folder] = (now, content_digest(files))
        except OSError as fault:
            raise ChartNotFound(
                f"The chart at {folder} cannot be read: {fault.strerror}; envprov must be able to read all of it"
            ) from fault
        return folder, known[1]


@dataclass(frozen=True)
class File:
    """A file of a chart, under its name in the chart."""

    name: str
    path: Path
    status: os.stat_result


def files_of(folder: Path, root: Path) -> list[File]:
    """Every file, symbolic links followed as Helm follows them, in an order that does not change."""
    found: list[File] = []
    for file in _walk(folder, root, "", ()):
        found.append(file)
        if len(found) > FILE_LIMIT:
            raise ChartRefused(f"The chart at {folder} has more than {FILE_LIMIT} files; is it the chart's own folder?")
    size = sum(file.status.st_size for file in found)
    if size > SIZE_LIMIT_BYTES:
        raise ChartRefused(
            f"The chart at {folder} has {size} bytes, more than {SIZE_LIMIT_BYTES}; is it the chart's own folder?"
        )
    return found


def _walk(folder: Path, root: Path, prefix: str, above: tuple[Path, ...]) -> Iterator[File]:
    real = folder.resolve()
    if real in above:
        raise ChartRefused(
            f"The chart's folder {folder} is a symbolic link to what contains it; take it out of the chart"
        )
    if len(above) >= DEPTH_LIMIT:
        raise ChartRefused(f"The chart's folder {folder} lies more than {DEPTH_LIMIT} folders deep")
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        path = Path(entry.path)
        if entry.is_symlink() and not path.resolve().is_relative_to(root):
            raise ChartRefused(f"The symbolic link {path} leads out of the chart root {root}; take it out of the chart")
        if entry.is_dir():
            yield from _walk(path, root, f"{prefix}{entry.name}/", (*above, real))
            continue
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ChartRefused(f"{path} is neither a file nor a folder; take it out of the chart")
        yield File(f"{prefix}{entry.name}", path, status)


def fingerprint(files: list[File]) -> str:
    """Changes when a file was written, replaced, added or taken away; reads no content."""
    seen = [
        (file.name, file.status.st_mtime_ns, file.status.st_size, file.status.st_ino, file.status.st_mode)
        for file in files
    ]
    return hashlib.sha256(repr(seen).encode()).hexdigest()


def content_digest(files: list[File]) -> str:
    """SHA-256 of names, modes and contents."""
    whole = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.path.read_bytes()).hexdigest()
        whole.update(repr((file.name, stat.S_IMODE(file.status.st_mode), content)).encode())
    return whole.hexdigest()
