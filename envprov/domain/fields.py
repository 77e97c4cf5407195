"""How two versions of an object differ, field by field: whatever the two are, nothing raises."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from envprov.domain.paths import MEMBERS, MISSING, Member, Path, Step, key_of, merge_keys, written
from envprov.domain.quantity import same

DEPTH_LIMIT = 100
"""Levels of an object that are compared; what lies deeper counts as one value."""

_TEXTS = frozenset({"labels", "annotations", "data", "binaryData", "stringData", "matchLabels", "nodeSelector"})
"""Maps whose keys are names of somebody: an empty value in them is a value."""
_QUANTITIES = frozenset({"requests", "limits", "hard", "capacity", "allocatable", "overhead", "maxLimitRequestRatio"})
_RANGES = frozenset({"default", "defaultRequest", "max", "min"})
_QUANTITY_FIELDS = frozenset({"sizeLimit", "averageValue", "divisor"})


class Edit(Enum):
    """What became of a field, or of an object."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    REORDERED = "reordered"

    @property
    def reverse(self) -> Edit:
        """What it is if looked at from the other side."""
        return {Edit.ADDED: Edit.REMOVED, Edit.REMOVED: Edit.ADDED}.get(self, self)


@dataclass(frozen=True)
class Field:
    """
    One field that differs.

    Attributes:
        path: Where it stands.
        edit: How it differs; of a list that is only in another order, REORDERED.
        before: Its value in the first version; MISSING if it has none.
        after: Its value in the second.

    """

    path: Path
    edit: Edit
    before: Any
    after: Any

    @property
    def where(self) -> str:
        """The path as text."""
        return written(self.path)


def field(path: Path, before: object, after: object) -> Field:
    """A field with what became of it."""
    edit = Edit.ADDED if before is MISSING else Edit.REMOVED if after is MISSING else Edit.CHANGED
    return Field(path, edit, before, after)


def plain(value: object, depth: int = DEPTH_LIMIT) -> Any:  # noqa: ANN401 - any JSON
    """
    A value as JSON has it, whatever it was.

    Args:
        value: From YAML, from the API server, or junk.
        depth: How many levels are left; what lies deeper is replaced by one mark.

    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth - 1) for key, item in value.items()} if depth else "…"
    if isinstance(value, list | tuple):
        return [plain(item, depth - 1) for item in value] if depth else "…"
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def differences(before: object, after: object) -> Iterator[Field]:
    """
    Everything in which two values differ.

    Args:
        before: JSON, as ``plain`` gives it.
        after: JSON too.

    Yields:
        Fields in the order of their names. With the two values changed over, the same ones from the other side.

    """
    return _compare((), before, after, _Whole())


def undone(declared: object, live: object) -> Iterator[Field]:
    """
    Everything that is declared and is not so.

    What is not declared does not count, nor how the API server writes down what is declared: it leaves out what is
    empty, and has its own way of writing quantities. In a list without merge keys each item counts.

    Args:
        declared: JSON, as ``plain`` gives it.
        live: As the API server sent it.

    Yields:
        Fields in the order of their names; *before* is what is declared.

    """
    return _compare((), declared, live, _Declared())


def said(declared: Any) -> Any:  # noqa: ANN401 - any JSON
    """
    What a manifest says, without the fields of which it says nothing: null, and an empty word where names are no data.

    The API server fills those in. What somebody else writes there is an addition.

    Args:
        declared: JSON, as ``plain`` gives it.

    """
    return _said(declared, "")


def _said(value: Any, name: str) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, list):
        return [_said(item, "") for item in value]
    if isinstance(value, Mapping):
        return {
            key: _said(item, key) for key, item in value.items() if item is not None and (item != "" or name in _TEXTS)
        }
    return value


class _Whole:
    """Everything counts, exactly."""

    def names(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
        yield from sorted(before.keys() | after.keys())

    def same(self, path: Path, before: object, after: object) -> bool:
        del path
        return _equal(before, after)

    ordered = True
    extra = True


class _Declared:
    """What the first value has counts, as the API server understands it."""

    def names(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
        del after
        yield from sorted(before)

    def same(self, path: Path, before: object, after: object) -> bool:
        if after is MISSING or after is None:
            is_text = len(path) > 1 and path[-2] in _TEXTS
            return before is None or (not is_text and before in _EMPTY)
        if _equal(said(before), said(after)):
            return True
        return _is_quantity(path) and not isinstance(before, bool) and same(before, after)

    ordered = False
    extra = False


_EMPTY: Sequence[Any] = ("", 0, [], {})
_Rules = _Whole | _Declared


def _compare(path: Path, before: object, after: object, rules: _Rules) -> Iterator[Field]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in rules.names(before, after):
            yield from _compare((*path, name), before.get(name, MISSING), after.get(name, MISSING), rules)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _compare_lists(path, before, after, rules)
    elif not rules.same(path, before, after):
        yield field(path, before, after)


def _compare_lists(path: Path, before: list[Any], after: list[Any], rules: _Rules) -> Iterator[Field]:
    name = next((step for step in reversed(path) if isinstance(step, str)), "")
    if name in MEMBERS and all(isinstance(item, str) for item in (*before, *after)):
        pairs: Iterator[tuple[Step, Any, Any]] = iter(
            (Member(item), item if item in before else MISSING, item if item in after else MISSING)
            for item in dict.fromkeys((*before, *after))
        )
        keyed = True
    elif (names := merge_keys(name, before, after)) is not None:
        first, second = ({key_of(item, names): item for item in items} for items in (before, after))
        common = [[key for key in one if key in other] for one, other in ((first, second), (second, first))]
        if rules.ordered and common[0] != common[1]:
            yield Field(path, Edit.REORDERED, *([str(key) for key in keys] for keys in common))
        pairs = (
            (key, first.get(key, MISSING), second.get(key, MISSING)) for key in dict.fromkeys((*first, *second)) if key
        )
        keyed = True
    elif all(isinstance(item, Mapping) for item in (*before, *after)):
        pairs, keyed = _by_place(path, before, after, rules), False
    else:
        if not rules.same(path, before, after):
            yield field(path, before, after)
        return
    for step, one, other in pairs:
        if one is not MISSING or rules.extra or not keyed:
            yield from _compare((*path, step), one, other, rules)


def _by_place(path: Path, before: list[Any], after: list[Any], rules: _Rules) -> Iterator[tuple[Step, Any, Any]]:
    """Items without a key: what is the same at both ends is passed over, and the rest stands against each other."""

    def agree(one: object, other: object) -> bool:
        return next(_compare((*path, 0), one, other, rules), None) is None

    shorter = min(len(before), len(after))
    start = next((place for place in range(shorter) if not agree(before[place], after[place])), shorter)
    end = next((back for back in range(shorter - start) if not agree(before[-1 - back], after[-1 - back])), None)
    end = shorter - start if end is None else end
    ours, theirs = before[start : len(before) - end], after[start : len(after) - end]
    for place in range(max(len(ours), len(theirs))):
        yield (
            start + place,
            ours[place] if place < len(ours) else MISSING,
            theirs[place] if place < len(theirs) else MISSING,
        )


def _is_quantity(path: Path) -> bool:
    parents = {step for step in path[-2:-1] if isinstance(step, str)}
    return bool(parents & (_QUANTITIES | _RANGES)) or bool(path and path[-1] in _QUANTITY_FIELDS)


def _equal(before: object, after: object) -> bool:
    """Equal as JSON is: true is not 1."""
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_equal, before, after))
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return before.keys() == after.keys() and all(_equal(value, after[key]) for key, value in before.items())
    return before == after
