"""Two versions of an object as YAML, side by side in one text: unified diffs, within bounds."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from envprov.domain.paths import MISSING

LINE_LIMIT = 200
"""Characters of a line."""
DIFF_LINES_LIMIT = 300
"""Lines for one object."""
YAML_LINES_LIMIT = 4000
"""Lines in which two versions differ; a diff takes time with the square of them."""
CONTEXT = 3
_LEAD = 20


class _Readable(yaml.SafeDumper):
    """Texts of several lines as they are read; the same value twice and no alias."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002, ANN401 - the library's own signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Readable.add_representer(str, _text)


def as_yaml(value: object) -> list[str]:
    """Lines of YAML, in the order of the names."""
    if value is None:
        return []
    return yaml.dump(value, Dumper=_Readable, allow_unicode=True, width=1 << 20, sort_keys=True).splitlines()


def unified(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[str, ...]:
    """
    A unified diff of two versions of an object.

    Args:
        before: None if there is none.
        after: None if there is none.

    Returns:
        Lines that begin with a sign or a space, or with ``@@``; nothing if both are the same. At most
        DIFF_LINES_LIMIT, and a word about those that are left out.

    """
    ours, theirs = as_yaml(before), as_yaml(after)
    if ours == theirs:
        return ()
    if before is None or after is None:
        sign = "+" if before is None else "-"
        return _bounded([sign + shorten(line) for line in (*ours, *theirs)])
    return _differing(ours, theirs)


def lines_between(before: str, after: str) -> tuple[str, ...]:
    """A unified diff of two texts, in the form and within the bounds of ``unified``."""
    return _differing(before.splitlines(), after.splitlines())


def shorten(text: str, *, start: int = 0, limit: int = LINE_LIMIT) -> str:
    """
    A text cut to a length, with the count of what is left out.

    Args:
        text: In one line.
        start: Which character must be seen: what is far before it is left out too.
        limit: How many characters stay.

    """
    if len(text) <= limit:
        return text
    begin = min(start - _LEAD, len(text) - limit) if start >= limit - _LEAD else 0
    left = len(text) - limit - begin
    before = f"({begin} characters …)" if begin else ""
    return before + text[begin : begin + limit] + (f"(… {left} more characters)" if left else "")


def shorten_both(one: str, other: str, *, limit: int = LINE_LIMIT) -> tuple[str, str]:
    """Two texts cut so that the first place in which they differ is seen."""
    shorter = min(len(one), len(other))
    start = next((place for place in range(shorter) if one[place] != other[place]), shorter)
    return shorten(one, start=start, limit=limit), shorten(other, start=start, limit=limit)


def inline(value: object) -> str:
    """A value in one line: a plain word as it is, everything else as JSON."""
    if value is MISSING:
        return ""
    if isinstance(value, str) and value and value.isprintable() and value == value.strip() and not _looks_other(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _looks_other(text: str) -> bool:
    """Whether a word would be taken for something else than a text."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text[0] in "\"'"
    return True


def _differing(ours: list[str], theirs: list[str]) -> tuple[str, ...]:
    if max(len(ours), len(theirs)) > YAML_LINES_LIMIT:
        return (f"… too long for a diff: {len(ours)} lines before, {len(theirs)} after",)
    lines = list(difflib.unified_diff(ours, theirs, n=CONTEXT, lineterm=""))[2:]
    return _bounded(list(_shortened(lines)))


def _bounded(lines: list[str]) -> tuple[str, ...]:
    left = len(lines) - DIFF_LINES_LIMIT
    return (*lines[:DIFF_LINES_LIMIT], f"… {left} more lines") if left > 0 else tuple(lines)


def _shortened(lines: Iterable[str]) -> Iterator[str]:
    """Lines cut so that what was taken away and what came in its place do not read alike."""
    gone: list[str] = []
    come: list[str] = []
    for line in lines:
        sign = line[:1]
        if (sign != "+" and come) or (sign not in "+-" and gone):
            yield from _pairs(gone, come)
            gone, come = [], []
        if sign == "-":
            gone.append(line)
        elif sign == "+":
            come.append(line)
        else:
            yield shorten(line)
    yield from _pairs(gone, come)


def _pairs(gone: list[str], come: list[str]) -> Iterator[str]:
    both = [shorten_both(one[1:], other[1:]) for one, other in zip(gone, come, strict=False)]
    for place, line in enumerate(gone):
        yield "-" + (both[place][0] if place < len(both) else shorten(line[1:]))
    for place, line in enumerate(come):
        yield "+" + (both[place][1] if place < len(both) else shorten(line[1:]))
