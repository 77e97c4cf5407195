"""Archives byte by byte, as no honest program would write them."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType


def header(name: str | bytes, size: int = 0, kind: bytes = b"0", **fields: bytes) -> bytes:
    """Return a ustar header with a sound checksum; fields replace what stands at their offset."""
    raw = name.encode() if isinstance(name, str) else name
    block = bytearray(512)
    block[0 : len(raw[:100])] = raw[:100]
    block[100:108] = b"0000777\0"
    block[124:136] = b"%011o\0" % size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    for offset, value in fields.items():
        at = int(offset.removeprefix("at"))
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def entry(name: str | bytes, content: bytes = b"", kind: bytes = b"0", **fields: bytes) -> bytes:
    """Return an entry with its content, padded."""
    return header(name, len(content), kind, **fields) + content + bytes(-len(content) % 512)


def pax(*records: tuple[str, str | bytes], kind: bytes = b"x") -> bytes:
    """Return an extended header."""
    return entry("pax", b"".join(_record(key.encode(), value) for key, value in records), kind)


def _record(key: bytes, value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    length = len(key) + len(raw) + 3
    while length != len(key) + len(raw) + 3 + len(str(length)):
        length += 1
    return b"%d %s=%s\n" % (length, key, raw)


def packed(*parts: bytes, end: bytes = bytes(1024)) -> bytes:
    """Return the archive."""
    return gzip.compress(b"".join(parts) + end, 1, mtime=0)


CHART = b"apiVersion: v2\nname: shop\nversion: 0.1.0\n"


def chart(content: bytes = CHART, top: str = "shop", files: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    """Return an archive with a chart, as Helm packages it."""
    named = {"Chart.yaml": content, "values.yaml": b"{}\n", **files}
    return packed(*(entry(f"{top}/{name}", body) for name, body in named.items()))


def tree(folder: Path) -> dict[str, bytes | None]:
    """Return what lies in a folder: the content of each file, None for a folder."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}
