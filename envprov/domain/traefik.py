"""The hosts that a rule of Traefik lets through: ``Host(`a`) && (PathPrefix(`/x`) || PathPrefix(`/y`))``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z]+)\s*\(\s*(?P<arguments>(?:(?:`[^`]*`|\"[^\"]*\")[\s,]*)*)\)|(?P<sign>&&|\|\||[!()]))"
)
_ARGUMENT = re.compile(r"`([^`]*)`|\"([^\"]*)\"")
_HOSTS = {"Host", "HostHeader", "HostSNI"}
_PATTERNS = {"HostRegexp", "HostSNIRegexp"}


@dataclass(frozen=True)
class Matched:
    """
    What a rule lets through.

    Attributes:
        hosts: As they are written; None for any host.
        patterns: Regular expressions for hosts.

    """

    hosts: tuple[str, ...] | None
    patterns: tuple[str, ...] = ()

    @property
    def is_any(self) -> bool:
        """Whether it does not look at the host."""
        return self.hosts is None


ANY = Matched(None)


def matched(rule: str) -> Matched:
    """
    Read a rule.

    Args:
        rule: As it stands in ``match``.

    Returns:
        At least what the rule lets through; what cannot be read lets any host through.

    Source: https://doc.traefik.io/traefik/routing/routers/#rule

    """
    tokens = list(_tokens(rule))
    if not tokens or None in tokens:
        return ANY
    parser = _Parser([token for token in tokens if token is not None])
    found = parser.either()
    return found if parser.is_over and not parser.is_broken else ANY


@dataclass
class _Parser:
    tokens: list[tuple[str, tuple[str, ...]]]
    position: int = 0
    depth: int = field(default=0)
    is_broken: bool = False

    @property
    def is_over(self) -> bool:
        return self.position >= len(self.tokens)

    def either(self) -> Matched:
        found = self._both()
        while self._take("||"):
            other = self._both()
            if found.hosts is None or other.hosts is None:
                found = ANY
            else:
                found = Matched(found.hosts + other.hosts, found.patterns + other.patterns)
        return found

    def _both(self) -> Matched:
        found = self._one()
        while self._take("&&"):
            other = self._one()
            found = other if found.is_any else found
        return found

    def _one(self) -> Matched:
        is_negated = False
        while self._take("!"):
            is_negated = True
        found = self._plain()
        return ANY if is_negated else found

    def _plain(self) -> Matched:
        if self._take("("):
            self.depth += 1
            self.is_broken |= self.depth > 50  # noqa: PLR2004 - nobody nests so deep, and recursion must end
            found = ANY if self.is_broken else self.either()
            self.depth -= 1
            self.is_broken |= not self._take(")")
            return found
        if self.is_over:
            self.is_broken = True
            return ANY
        name, arguments = self.tokens[self.position]
        self.position += 1
        if name in _HOSTS:
            return Matched(arguments)
        return Matched((), arguments) if name in _PATTERNS else ANY

    def _take(self, sign: str) -> bool:
        if self.is_over or self.tokens[self.position][0] != sign:
            return False
        self.position += 1
        return True


def _tokens(rule: str) -> Iterator[tuple[str, tuple[str, ...]] | None]:
    """Signs, and functions with their arguments; None for what is neither."""
    position, end = 0, len(rule.rstrip())
    while position < end:
        found = _TOKEN.match(rule, position)
        if found is None:
            yield None
            return
        position = found.end()
        arguments = tuple(one or two for one, two in _ARGUMENT.findall(found["arguments"] or ""))
        yield found["word"] or found["sign"], arguments
