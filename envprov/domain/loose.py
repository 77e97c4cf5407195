"""Reading manifests that may hold anything: what is missing or of another type reads as empty, and nothing raises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

Manifest = Mapping[str, Any]


def mapping(value: object) -> Mapping[str, Any]:
    """The value itself if it is a mapping, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: object) -> Sequence[Any]:
    """The value itself if it is a list or tuple, or an empty one."""
    return value if isinstance(value, list | tuple) else ()


def text(value: object) -> str:
    """The value itself if it is a string, or an empty one."""
    return value if isinstance(value, str) else ""


def number(value: object, default: int = 0) -> int:
    """The value itself if it is a whole number, or a default."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def texts(value: object) -> tuple[str, ...]:
    """The strings in a list."""
    return tuple(item for item in sequence(value) if isinstance(item, str))


def within(value: object, *path: str) -> Mapping[str, Any]:
    """The mapping at the end of a path of keys, or an empty one."""
    for key in path:
        value = mapping(value).get(key)
    return mapping(value)


def mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """The mappings in a list."""
    return (item for item in sequence(value) if isinstance(item, Mapping))


def numbered(value: object) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The mappings in a list, each with its place in it."""
    return ((place, item) for place, item in enumerate(sequence(value)) if isinstance(item, Mapping))


def moment(value: object) -> datetime | None:
    """A point in time as Kubernetes writes it, or None."""
    try:
        read = datetime.fromisoformat(text(value))
    except ValueError:
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)
