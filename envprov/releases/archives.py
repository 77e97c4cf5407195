"""A chart's files out of an archive that a stranger made: only plain files and folders, within limits, or nothing."""

from __future__ import annotations

import os
import re
import time
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from envprov.domain.errors import ChartRefused
from envprov.releases.tar import FOLDER, LINKS, ArchiveLimits, Entry, Stream, Unsafe, entries, shown

FILE_MODE = 0o644
FOLDER_MODE = 0o755

_NAME_PART_BYTES = 255
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\\\\\ud800-\udfff]")


@dataclass(frozen=True)
class Extracted:
    """What was written: files and folders, and the bytes of the files."""

    entries: int
    bytes: int


def extract(
    archive: Path, target: Path, what: str, *, subtree: str = ".", limits: ArchiveLimits | None = None
) -> Extracted:
    """
    Write what lies in one folder of an archive.

    Args:
        archive: A ``.tar.gz`` in which everything lies below one folder, whatever it is called.
        target: Folder to be made; what is in it when this raises is for the caller to remove.
        what: What it is, for messages.
        subtree: Folder below the archive's own, of which alone the content is written; ``.`` for all.
        limits: What it may cost.

    Returns:
        How much was written. Nothing, if the archive has no such folder.

    Raises:
        ChartRefused: It is no such archive, exceeds a limit, or holds what is not a plain file or folder; says which.

    """
    bounds = limits or ArchiveLimits()
    within = () if subtree == "." else tuple(subtree.split("/"))
    try:
        with archive.open("rb") as file:
            stream = Stream(file, bounds, time.monotonic() + bounds.seconds)
            writer = _Writer(target, bounds)
            for entry in entries(stream, bounds):
                _take(entry, stream, writer, within)
            stream.finish()
    except zlib.error:
        raise ChartRefused(f"{what}: its archive is damaged, or is no gzip archive") from None
    except Unsafe as reason:
        raise ChartRefused(f"{what}: its archive {reason}") from None
    return Extracted(writer.entries, writer.bytes)


class _Writer:
    """Writes files and folders below a folder that it makes, and nothing else."""

    def __init__(self, target: Path, limits: ArchiveLimits) -> None:
        self.entries = 0
        self.bytes = 0
        self._target = target
        self._limits = limits
        self._seen: dict[str, tuple[str, bool]] = {}
        """From a name without case to its spelling, and whether an entry of its own was there for it."""
        self._folders: set[str] = set()

    def folder(self, parts: tuple[str, ...]) -> None:
        """Make a folder, and those above it."""
        self._check(parts)
        name = "/".join(parts)
        if name in self._folders and not self._seen[_folded(name)][1]:
            self._seen[_folded(name)] = name, True
            return
        self._parents(parts)
        self._add_folder(name, own=True)

    def file(self, parts: tuple[str, ...], size: int, content: Iterator[bytes]) -> None:
        """Write a file, and make the folders above it."""
        self._check(parts)
        if self.bytes + size > self._limits.bytes:
            raise Unsafe(f"unpacks to more than {self._limits.bytes} bytes")
        self._parents(parts)
        self._add("/".join(parts), own=True)
        self.bytes += size
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(self._target.joinpath(*parts), flags, FILE_MODE), "wb") as file:
            os.fchmod(file.fileno(), FILE_MODE)
            for piece in content:
                file.write(piece)

    def root(self) -> None:
        """Make the folder itself."""
        if not self._folders:
            self._target.mkdir()
            self._target.chmod(FOLDER_MODE)
            self._folders.add("")

    def _check(self, parts: tuple[str, ...]) -> None:
        name = "/".join(parts)
        if _CONTROL.search(name):
            raise Unsafe(f"holds a name with control characters, a backslash or what is not UTF-8: {shown(name)}")
        if len(parts) > self._limits.depth:
            raise Unsafe(f"holds a file more than {self._limits.depth} folders deep: {shown(name)}")
        if any(len(part.encode()) > _NAME_PART_BYTES for part in parts):
            raise Unsafe(f"holds a name that is too long: {shown(name)}")

    def _parents(self, parts: tuple[str, ...]) -> None:
        self.root()
        for length in range(1, len(parts)):
            name = "/".join(parts[:length])
            if name not in self._folders:
                self._add_folder(name, own=False)

    def _add_folder(self, name: str, *, own: bool) -> None:
        self._add(name, own=own)
        self._folders.add(name)
        path = self._target / name
        path.mkdir()
        path.chmod(FOLDER_MODE)

    def _add(self, name: str, *, own: bool) -> None:
        other = self._seen.get(_folded(name))
        if other is not None and other[0] == name:
            raise Unsafe(f"holds {shown(name)} twice")
        if other is not None:
            raise Unsafe(f"holds names that differ only in case: {shown(other[0])} and {shown(name)}")
        self._seen[_folded(name)] = name, own
        self.entries += 1
        if self.entries > self._limits.entries:
            raise Unsafe(f"holds more than {self._limits.entries} files and folders")


def _take(entry: Entry, stream: Stream, writer: _Writer, within: tuple[str, ...]) -> None:
    """Write an entry, or read over it if it lies elsewhere."""
    content = stream.chunks(entry.size)
    if entry.parts[: len(within)] != within:
        for _ in content:
            pass
        return
    parts = entry.parts[len(within) :]
    if entry.kind in LINKS:
        raise Unsafe(
            f"holds {LINKS[entry.kind]}, which could lead out of the chart: {entry.shown}; put the file itself there"
        )
    if entry.kind == FOLDER:
        if parts:
            writer.folder(parts)
        else:
            writer.root()
        return
    if not parts:
        raise Unsafe(f"holds a file where a folder ought to be: {entry.shown}")
    writer.file(parts, entry.size, content)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
