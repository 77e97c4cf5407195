"""
A ``.tar.gz`` that a stranger made, read piece by piece within limits.

Not Python's ``tarfile``: it reads a header of any size into memory, has loops that a hostile header drives
(CVE-2024-6232, CVE-2025-8194), and its filter ``data`` lets links, sparse files and names that differ only in case
through. What is read here is what ``git archive``, Helm and GNU tar write for plain files; all else is refused.

Source: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html (ustar and pax interchange formats)
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

MiB = 1 << 20
FOLDER = b"5"
LINKS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}
"""Kinds of entries that are neither file nor folder, and have no content."""

_FILES = frozenset({b"0", b"\0", b"7"})
_EXTENSIONS = frozenset({b"x", b"g", b"L", b"K"})
_BLOCK = 512
_CHUNK_BYTES = 64 << 10
_EXTENSION_LIMIT_BYTES = 64 << 10
_AFTER_END_LIMIT_BYTES = 1 << 20
_GZIP = zlib.MAX_WBITS | 16
_OCTAL = re.compile(rb"[0-7]{0,12}")
_PAX_LENGTH = re.compile(rb"([1-9][0-9]{0,5}) ")


@dataclass(frozen=True)
class ArchiveLimits:
    """
    What an archive may cost.

    Attributes:
        packed_bytes: Of the archive itself.
        bytes: Of all files that are written.
        entries: Files and folders that are written.
        read_bytes: Of everything that is unpacked on the way, written or not.
        read_entries: Headers that are read, of what is written or not.
        depth: Folders above a file.
        name_bytes: Of a whole name.
        seconds: For all of it.

    """

    packed_bytes: int = 16 * MiB
    bytes: int = 16 * MiB
    entries: int = 2000
    read_bytes: int = 128 * MiB
    read_entries: int = 20_000
    depth: int = 20
    name_bytes: int = 1024
    seconds: float = 20.0


class Unsafe(Exception):
    """Why the archive is refused."""


@dataclass(frozen=True)
class Entry:
    """
    One file, folder or link.

    Attributes:
        parts: Of its name, without the archive's own folder; empty for that folder itself.
        kind: ``FOLDER``, a key of ``LINKS``, or else a file.
        size: Of its content, in bytes.

    """

    parts: tuple[str, ...]
    kind: bytes
    size: int

    @property
    def shown(self) -> str:
        """Its name for a message."""
        return shown("/".join(self.parts))


class Stream:
    """The unpacked bytes of a gzip file, never more than a chunk of them at once."""

    def __init__(self, file: IO[bytes], limits: ArchiveLimits, deadline: float) -> None:
        if os.fstat(file.fileno()).st_size > limits.packed_bytes:
            raise Unsafe(f"has more than {limits.packed_bytes} bytes")
        self._file = file
        self._limits = limits
        self._deadline = deadline
        self._unpacking = zlib.decompressobj(_GZIP)
        self._waiting = b""
        self._buffer = bytearray()
        self._total = 0

    def read(self, size: int) -> bytes:
        """Exactly so many bytes; the caller bounds them."""
        while len(self._buffer) < size:
            if not self._fill():
                raise Unsafe("is cut off")
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def chunks(self, size: int) -> Iterator[bytes]:
        """So many bytes, piece by piece, and the padding after them read over."""
        left = size
        while left:
            piece = self.read(min(left, _CHUNK_BYTES))
            left -= len(piece)
            yield piece
        self.read(-size % _BLOCK)

    def finish(self) -> None:
        """Read the padding at the end, and with it gzip's checksum of the whole."""
        left = _AFTER_END_LIMIT_BYTES
        self._buffer.clear()
        while self._fill():
            left -= len(self._buffer)
            self._buffer.clear()
            if left < 0:
                raise Unsafe("goes on after its end")

    def _fill(self) -> bool:
        if self._unpacking.eof:
            return False
        if time.monotonic() > self._deadline:
            raise Unsafe(f"could not be unpacked within {self._limits.seconds:g} s")
        packed = self._waiting or self._file.read(_CHUNK_BYTES)
        unpacked = self._unpacking.decompress(packed, _CHUNK_BYTES)
        self._waiting = self._unpacking.unconsumed_tail
        if not packed and not unpacked and not self._unpacking.eof:
            raise Unsafe("is cut off")
        self._total += len(unpacked)
        if self._total > self._limits.read_bytes:
            raise Unsafe(f"unpacks to more than {self._limits.read_bytes} bytes")
        self._buffer += unpacked
        return True


def entries(stream: Stream, limits: ArchiveLimits) -> Iterator[Entry]:
    """
    Every file, folder and link, in the order of the archive.

    Args:
        stream: Of the archive; whoever takes an entry must read all its content from it before the next one.
        limits: What it may cost.

    Raises:
        Unsafe: It is no such archive, exceeds a limit, or says something that programs understand differently.

    """
    top: str | None = None
    name: bytes | None = None
    for _ in range(limits.read_entries):
        header = stream.read(_BLOCK)
        if not any(header):
            return
        _check_sum(header)
        kind, size = header[156:157], _number(header[124:136])
        if kind in _EXTENSIONS:
            found = _extended_name(kind, stream, size)
            if found is not None and name is not None:
                raise Unsafe("gives one file two names")
            name = found if found is not None else name
            continue
        whole = name if name is not None else _ustar_name(header)
        name, parts = None, _parts(whole, limits)
        if kind in _FILES and whole.endswith(b"/"):
            kind = FOLDER  # as tar wrote folders before it had a kind for them
        _check_kind(kind, size, parts)
        if not parts:
            continue
        if top is not None and parts[0] != top:
            raise Unsafe(f"holds two folders, {shown(top)} and {shown(parts[0])}, where one ought to be")
        top = parts[0]
        yield Entry(parts[1:], kind, size)
    raise Unsafe(f"holds more than {limits.read_entries} entries")


def _check_kind(kind: bytes, size: int, parts: tuple[str, ...]) -> None:
    if kind not in _FILES and kind != FOLDER and kind not in LINKS:
        raise Unsafe(f"holds an entry of the unknown kind {kind.decode('latin-1')!a}")
    if kind not in _FILES and size:
        raise Unsafe(f"says that {shown('/'.join(parts))}, which is no file, has content")


def _extended_name(kind: bytes, stream: Stream, size: int) -> bytes | None:
    """The name that an extended header gives to what follows it, if it does."""
    if size > _EXTENSION_LIMIT_BYTES:
        raise Unsafe("holds an extended header that is too large")
    content = b"".join(stream.chunks(size))
    if kind == b"L":
        return content.rstrip(b"\0")
    if kind == b"K":
        return None
    name = None
    for key, value in _pax_records(content):
        if key == b"size" or key.startswith(b"GNU.sparse") or key == b"hdrcharset":
            raise Unsafe(f"changes what a file is by an extended header: {key.decode('latin-1')!a}")
        if key == b"path":
            if kind == b"g" or name is not None:
                raise Unsafe("gives several files one name, or one file two")
            name = value
    return name


def _pax_records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(content):
        matched = _PAX_LENGTH.match(content, at)
        end = at + int(matched[1]) if matched else 0
        key, mark, value = content[matched.end() if matched else 0 : end - 1].partition(b"=")
        if matched is None or end > len(content) or end <= matched.end() or content[end - 1 : end] != b"\n" or not mark:
            raise Unsafe("holds an extended header that is none")
        yield key, value
        at = end


def _check_sum(header: bytes) -> None:
    if _number(header[148:156]) != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
        raise Unsafe("is no tar archive, or is damaged")


def _number(digits: bytes) -> int:
    """Octal. The other notation, in base 256, is for files of more than 8 GiB."""
    stripped = digits.strip(b" \0")
    if _OCTAL.fullmatch(stripped) is None:
        raise Unsafe("is no tar archive, or holds a file that is too large")
    return int(stripped or b"0", 8)


def _ustar_name(header: bytes) -> bytes:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _parts(name: bytes, limits: ArchiveLimits) -> tuple[str, ...]:
    """Of a name that stays below the folder it is written to; empty for ``./``."""
    text = name.decode(errors="surrogateescape")
    if len(name) > limits.name_bytes:
        raise Unsafe(f"holds a name that is too long: {shown(text)}")
    parts = text.removesuffix("/").split("/")
    if parts[0] == ".":
        del parts[0]
    if any(part in {"", ".", ".."} for part in parts):
        raise Unsafe(f"holds a name that could lead out of the chart: {shown(text)}")
    return tuple(parts)


def shown(name: str) -> str:
    """A name for a message: escaped, and not too long."""
    return ascii(name if len(name) <= 100 else f"{name[:60]}...{name[-37:]}")  # noqa: PLR2004 - enough to read
