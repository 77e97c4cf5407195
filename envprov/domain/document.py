"""
YAML that a stranger wrote, as plain data with line numbers.

It is read event by event, and refused before anything is made of it: what YAML can do beyond plain mappings, lists and
scalars is of no use here and of much use to an attacker. Scalars are read as ``helm`` and ``kubectl`` read them, except
that a date stays the text that was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

SIZE_LIMIT_BYTES = 64 << 10
NODE_LIMIT = 2000
DEPTH_LIMIT = 20
KEY_LIMIT = 253

Path = tuple[str | int, ...]

UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Control characters, and what only some programs take for the end of a line: line numbers would not agree."""
PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,63}")
"""A key that needs no quotes in a message."""

_EXACT = 2**53
"""Above, Helm rounds whole numbers."""
_NUMBER_LENGTH = 64
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_YES = frozenset({"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_NO = frozenset({"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_INT = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


@dataclass(frozen=True)
class Fault:
    """
    One thing that is wrong.

    Attributes:
        line: Where it stands; counted from 1.
        path: Keys and places in lists that lead to it; empty for the whole document.
        reason: What is wrong; quotes no value.
        way_out: What to do.

    """

    line: int
    path: Path
    reason: str
    way_out: str

    def __str__(self) -> str:
        where = f"line {self.line}: {_shown(self.path)} " if self.path else f"line {self.line}: "
        return f"{where}{self.reason} ({self.way_out})"


@dataclass(frozen=True)
class Document:
    """
    What was read.

    Attributes:
        content: Plain data: dict, list, str, int, float, bool, None; None for an empty document.
        faults: What is wrong with it. If there are any, the content is only good for finding more.
        lines: Where each path stands.
        broken: Paths that the faults are about.

    """

    content: Any = field(repr=False)
    faults: tuple[Fault, ...]
    lines: dict[Path, int] = field(repr=False)
    broken: frozenset[Path]

    def is_broken(self, path: Path) -> bool:
        """Whether a fault is about a path, or about what it lies in."""
        return any(path[:length] in self.broken for length in range(len(path) + 1))

    def fault(self, path: Path, reason: str, way_out: str) -> Fault:
        """A fault at a path, or at what it would lie in."""
        return fault_at(self.lines, path, reason, way_out)


def read_document(raw: bytes) -> Document:
    """
    Read one YAML document.

    Args:
        raw: Anything.

    Returns:
        What it says, and all that is wrong with it. Nothing raises.

    """
    composer = _Composer()
    content = composer.compose(raw)
    return Document(content, tuple(composer.faults), composer.lines, frozenset(composer.broken))


def fault_at(lines: dict[Path, int], path: Path, reason: str, way_out: str) -> Fault:
    """A fault at a path, with the line of the nearest that is known."""
    line = next((lines[path[:length]] for length in range(len(path), -1, -1) if path[:length] in lines), 1)
    return Fault(line, path, reason, way_out)


class _Refused(Exception):
    """Nothing more is read: the fault that says so is on the list."""


@dataclass
class _Composer:
    faults: list[Fault] = field(default_factory=list)
    lines: dict[Path, int] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)
    nodes: int = 0

    def compose(self, raw: bytes) -> Any:  # noqa: ANN401 - any plain data
        try:
            return self._document(yaml.parse(self._text(raw), Loader=yaml.CSafeLoader))
        except _Refused:
            pass
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            # Its end is a line of its own for the parser, and none for an editor.
            line = min(mark.line, raw.rstrip(b"\r\n").count(b"\n")) + 1 if mark else 1
            self._refuse(line, (), f"is not YAML: {error.problem}", "correct it")
        except yaml.YAMLError:
            self._refuse(1, (), "is not YAML", "correct it")
        self.broken.add(())
        return None

    def _text(self, raw: bytes) -> str:
        if len(raw) > SIZE_LIMIT_BYTES:
            self._refuse(1, (), f"the file is larger than {SIZE_LIMIT_BYTES >> 10} KiB", "shorten it")
            raise _Refused
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self._refuse(raw[: error.start].count(b"\n") + 1, (), "is not UTF-8", "save the file as UTF-8")
            raise _Refused from error
        found = UNREADABLE.search(text)
        if found:
            reason = f"holds the control character U+{ord(found[0]):04X}"
            way_out = "take it out, or write it as an escape in double quotes"
            self._refuse(text.count("\n", 0, found.start()) + 1, (), reason, way_out)
            raise _Refused
        return text

    def _document(self, events: Iterator[Any]) -> Any:  # noqa: ANN401 - any plain data
        next(events)  # the start of the stream
        if isinstance(next(events), yaml.StreamEndEvent):
            return None
        found = self._node(next(events), events, (), 0)
        next(events)  # the end of the document
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            self._refuse(_line(after), (), "a second document begins", "keep one; there is no need for ---")
        return found

    def _node(self, event: Any, events: Iterator[Any], path: Path, depth: int) -> Any:  # noqa: ANN401 - an event
        line = _line(event)
        self.nodes += 1
        self.lines.setdefault(path, line)
        if self.nodes > NODE_LIMIT:
            self._refuse(line, (), f"there are more than {NODE_LIMIT} values", "shorten the file")
            raise _Refused
        if isinstance(event, yaml.AliasEvent):
            self._refuse(line, path, "is an alias", "write out what it stands for")
            return None
        if event.anchor is not None:
            self._refuse(line, path, "has an anchor", "take out the & and its name")
        if event.tag is not None:
            self._refuse(line, path, "has a tag", "take out the ! and its name")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if depth >= DEPTH_LIMIT:
            self._refuse(line, path, f"lies more than {DEPTH_LIMIT} levels deep", "make it flatter")
            raise _Refused
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, path, depth)
        return self._mapping(events, path, depth)

    def _sequence(self, events: Iterator[Any], path: Path, depth: int) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            found.append(self._node(event, events, (*path, len(found)), depth + 1))
        return found

    def _mapping(self, events: Iterator[Any], path: Path, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event, events, path, depth)
            if key is None:
                self._node(next(events), events, (*path, "?"), depth + 1)
                continue
            if key in found:
                reason = f"stands here a second time, first in line {self.lines[*path, key]}"
                self._refuse(_line(event), (*path, key), reason, "keep one")
            self.lines.setdefault((*path, key), _line(event))
            found[key] = self._node(next(events), events, (*path, key), depth + 1)
        return found

    def _key(self, event: Any, events: Iterator[Any], path: Path, depth: int) -> str | None:  # noqa: ANN401 - an event
        line, before = _line(event), len(self.faults)
        found = self._node(event, events, (*path, "?"), depth + 1)
        if len(self.faults) > before:
            return None
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "<<":
            self._refuse(line, (*path, "<<"), "is a merge key", "write out what it stands for")
            return None
        if not isinstance(found, str):
            self._refuse(line, path, "has a key that is no text", "put the key in quotes")
            return None
        if not 0 < len(found) <= KEY_LIMIT or any(mark in found for mark in "\t\r\n"):
            reason = f"has a key that is empty, holds line breaks or is longer than {KEY_LIMIT} characters"
            self._refuse(line, path, reason, "give it another name")
            return None
        return found

    def _scalar(self, event: Any, path: Path) -> str | float | bool | None:  # noqa: ANN401 - an event
        value: str = event.value
        if UNREADABLE.search(value):
            self._refuse(_line(event), path, "holds a control character", "take it out")
            return value
        if not event.implicit[0]:  # in quotes, or a block
            return value
        found = _resolved(value)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return found
        if not math.isfinite(found):
            self._refuse(_line(event), path, "is no finite number", "give a number, or put it in quotes")
        elif isinstance(found, int) and abs(found) > _EXACT:
            self._refuse(_line(event), path, "is a number that Helm would round", "put it in quotes")
        return found

    def _refuse(self, line: int, path: Path, reason: str, way_out: str) -> None:
        self.broken.add(path)
        self.faults.append(Fault(line, path, reason, way_out))


def _resolved(text: str) -> str | float | bool | None:
    if text in _NULL:
        return None
    if text in _YES or text in _NO:
        return text in _YES
    if len(text) > _NUMBER_LENGTH:
        return math.inf if _FLOAT.fullmatch(text) or _INT.fullmatch(text) else text
    if _INT.fullmatch(text):
        return _whole(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return math.nan if _NOT_FINITE.fullmatch(text) else text


def _whole(text: str) -> int | str:
    digits = text.lstrip("+-").replace("_", "")
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2], 8 if digits.startswith("0") else 10)
    try:
        number = int(digits, base)
    except ValueError:  # underscores alone, as in 0x_
        return text
    return -number if text.startswith("-") else number


def _line(event: Any) -> int:  # noqa: ANN401 - an event
    return int(event.start_mark.line) + 1


def _shown(path: Path) -> str:
    """A path for people. A key is the stranger's own text: what is long or odd is shortened and escaped."""
    parts = (str(part) if PLAIN_KEY.fullmatch(str(part)) else ascii(str(part)[:30]) for part in path)
    shown = ".".join(parts)
    return shown if len(shown) <= 120 else f"{shown[:60]}…{shown[-40:]}"  # noqa: PLR2004 - enough to read
