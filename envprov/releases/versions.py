"""
Versions of charts and ranges of them, as Helm understands both.

Helm 4 and 3.18 or later; an older one is stricter about pre-releases in a range of several parts.

Source: https://semver.org, https://github.com/Masterminds/semver#checking-version-constraints
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import total_ordering

LENGTH_LIMIT = 256
GROUP_LIMIT = 32

_NUMBER = r"(0|[1-9][0-9]{0,17})"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_TAIL = rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
_VERSION = re.compile(rf"v?{_NUMBER}(?:\.{_NUMBER})?(?:\.{_NUMBER})?{_TAIL}")
_WHOLE = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}{_TAIL}")
_PLACE = r"([0-9]{1,18}|[xX*])"
_BOUND = rf"v?{_PLACE}(?:\.{_PLACE})?(?:\.{_PLACE})?{_TAIL}"
_PART = re.compile(rf"\s*(=|!=|>=|=>|<=|=<|>|<|~>|~|\^|)\s*{_BOUND}\s*(,|(?=\s)|$)")
_HYPHEN = re.compile(r"\s*(\S+)\s+-\s+(\S+)\s*")
_ANY = frozenset({"x", "X", "*"})


@total_ordering
@dataclass(frozen=True, eq=False)
class Version:
    """A version; what follows a ``+`` does not count."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key() == other._key()

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
        parts = tuple(
            (not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in self.pre.split(".")
        )
        return self.major, self.minor, self.patch, not self.pre, parts if self.pre else ()


@dataclass(frozen=True)
class Range:
    """A range: alternatives, each of parts that must all hold."""

    alternatives: tuple[tuple[_Part, ...], ...]

    def holds(self, version: Version) -> bool:
        """Whether a version lies in it. Pre-releases only do if the alternative names one itself."""
        return any(
            (not version.pre or any(part.bound.pre for part in parts)) and all(part.holds(version) for part in parts)
            for parts in self.alternatives
        )


@dataclass(frozen=True)
class _Part:
    operator: str
    bound: Version
    given: int
    """How many of major, minor and patch were given; the others may be anything."""

    def holds(self, version: Version) -> bool:
        return _OPERATORS[self.operator](version, self)


def parse_version(text: str) -> Version | None:
    """
    Read a version, as loosely as Helm does: ``v1`` is ``1.0.0``.

    Returns:
        None if it is none.

    """
    matched = _VERSION.fullmatch(text) if len(text) <= LENGTH_LIMIT else None
    return _version(matched) if matched else None


def is_exact(text: str) -> bool:
    """Whether a text is one version in full, and so never another chart."""
    return len(text) <= LENGTH_LIMIT and _WHOLE.fullmatch(text) is not None


def parse_range(text: str) -> Range | None:
    """
    Read a range: ``^1.2``, ``~1.2.3``, ``1.x``, ``>=1.2 <2 || 3.1.4``, ``1.2 - 1.4``.

    Args:
        text: At most 256 characters and 32 alternatives.

    Returns:
        None if it is none.

    """
    if len(text) > LENGTH_LIMIT or text.count("||") >= GROUP_LIMIT:
        return None
    alternatives = [_alternative(part) for part in text.split("||")]
    found = tuple(parts for parts in alternatives if parts is not None)
    return Range(found) if len(found) == len(alternatives) else None


def best(wanted: str, available: Iterable[str]) -> str | None:
    """
    Which of the available versions Helm would take.

    Args:
        wanted: A version or a range.
        available: As they are published, in any order; what is no version is passed over.

    Returns:
        The one that is spelled as wanted; or else the highest in the range, or None.

    """
    found = list(available)
    if wanted in found:
        return wanted
    bounds = parse_range(wanted)
    if bounds is None:
        return None
    read = ((parse_version(text), text) for text in found)
    fitting = [(version, text) for version, text in read if version is not None and bounds.holds(version)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _version(matched: re.Match[str]) -> Version:
    major, minor, patch = (int(number or 0) for number in matched.group(1, 2, 3))
    return Version(major, minor, patch, matched[4] or "")


def _alternative(text: str) -> tuple[_Part, ...] | None:
    hyphen = _HYPHEN.fullmatch(text)
    if hyphen is not None:
        text = f">={hyphen[1]} <={hyphen[2]}"
    parts: list[_Part] = []
    at = 0
    while at < len(text):
        matched = _PART.match(text, at)
        if matched is None or matched.end() == at:
            return None
        parts.append(_part(matched))
        at = matched.end()
    return None if not parts or text.rstrip().endswith(",") else tuple(parts)


def _part(matched: re.Match[str]) -> _Part:
    numbers = matched.group(2, 3, 4)
    given = next((place for place, number in enumerate(numbers) if number is None or number in _ANY), 3)
    major, minor, patch = (int(number) if place < given else 0 for place, number in enumerate(numbers))
    return _Part(matched[1], Version(major, minor, patch, matched[5] or ""), given)


def _equal(version: Version, part: _Part) -> bool:
    return version == part.bound if part.given == len(_PLACES) else _tilde(version, part)


def _unequal(version: Version, part: _Part) -> bool:
    if part.given == 0:
        return version != part.bound
    if _places(version, part.given) != _places(part.bound, part.given):
        return True
    return part.given > 1 and bool(version.pre or part.bound.pre) and version.pre != part.bound.pre


def _greater(version: Version, part: _Part) -> bool:
    if part.given in {0, len(_PLACES)}:
        return version > part.bound
    return _places(version, part.given) > _places(part.bound, part.given)


def _at_most(version: Version, part: _Part) -> bool:
    if part.given == len(_PLACES):
        return version <= part.bound
    places = max(part.given, 1) if part.given else 2
    return _places(version, places) <= _places(part.bound, places)


def _tilde(version: Version, part: _Part) -> bool:
    if version < part.bound:
        return False
    if part.given == 0 or (part.given == len(_PLACES) and _places(part.bound, 3) == (0, 0, 0)):
        return True
    places = min(part.given, 2)
    return _places(version, places) == _places(part.bound, places)


def _caret(version: Version, part: _Part) -> bool:
    """Up to the first place that is not zero: what semver calls compatible."""
    if version < part.bound:
        return False
    bound = part.bound
    if bound.major or part.given == 1:
        places = 1
    elif bound.minor or part.given == 2:  # noqa: PLR2004 - of three places
        places = 2
    else:
        places = 3
    return _places(version, places) == _places(bound, places)


_PLACES = ("major", "minor", "patch")
_OPERATORS: dict[str, Callable[[Version, _Part], bool]] = {
    "": _equal,
    "=": _equal,
    "!=": _unequal,
    ">": _greater,
    "<": lambda version, part: version < part.bound,
    ">=": lambda version, part: version >= part.bound,
    "=>": lambda version, part: version >= part.bound,
    "<=": _at_most,
    "=<": _at_most,
    "~": _tilde,
    "~>": _tilde,
    "^": _caret,
}


def _places(version: Version, count: int) -> tuple[int, ...]:
    return (version.major, version.minor, version.patch)[:count]
