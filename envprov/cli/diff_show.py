"""What ``diff`` prints: for people, line by line and in colour; for programs, as data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.text import Text

from envprov.cli import printing
from envprov.cli.plain import clean, note
from envprov.cli.times import describe
from envprov.domain.fields import Edit
from envprov.domain.findings import Subject
from envprov.domain.live_diff import Compared, Difference, State
from envprov.domain.managers import Who
from envprov.domain.unified import inline, lines_between, shorten_both
from envprov.kube.client import Object
from envprov.releases.stored import StoredObjects

VALUE_LIMIT = 120
"""Characters of a value."""

Line = tuple[tuple[str, str], ...]
"""Parts of one line, each with its colour."""

_RELEASE, _LIVE, _DIM = "red", "green", "dim"


@dataclass(frozen=True)
class Shown:
    """
    A whole comparison.

    Attributes:
        environment: The record.
        stored: The revision that was compared.
        namespace: Of the environment.
        compared: All objects of the release.
        notes: What to know about the comparison.

    """

    environment: Object
    stored: StoredObjects
    namespace: str
    compared: tuple[Compared, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The comparison as a program reads it."""
        return {
            "environment": self.environment["metadata"]["name"],
            "project": self.environment["spec"]["project"],
            "branch": self.environment["spec"]["branch"],
            "namespace": self.namespace,
            "release": {
                "name": self.stored.name,
                "revision": self.stored.version,
                "status": self.stored.status,
            },
            "differs": any(entry.differs for entry in self.compared),
            "complete": all(entry.state is not State.UNREAD for entry in self.compared),
            "notes": list(self.notes),
            "objects": [entry.as_json() for entry in self.compared],
        }


def print_text(shown: Shown, now: datetime, *, wide: bool, quiet: bool) -> None:
    """
    Print the differences on standard output, and everything beside them on standard error.

    Args:
        shown: The comparison.
        now: For ages.
        wide: Whether what differs as it should is told, too.
        quiet: Whether to print nothing but the differences.

    """
    for remark in shown.notes:
        note(f"note: {remark}", quiet=quiet)
    out = printing.console()
    for line in lines(shown.compared, now, wide=wide):
        parts = Text()
        for part, style in line:
            # Without colours bold and dim go, too: NO_COLOR asks for plain text.
            parts.append(clean(part), "" if out.no_color else style)
        out.print(parts)
    differing = sum(entry.differs for entry in shown.compared)
    unread = sum(entry.state is State.UNREAD for entry in shown.compared)
    told = f"{differing} of {len(shown.compared)} objects differ from" if differing else "no difference from"
    rest = f"; {unread} could not be read" if unread else ""
    note(f"{told} revision {shown.stored.version} of release {shown.stored.name}{rest}", quiet=quiet)


def print_names(shown: Shown) -> None:
    """Print what differs as kubectl takes it, a name in each line."""
    for entry in shown.compared:
        if entry.differs:
            sys.stdout.write(clean(resource_name(entry.subject)) + "\n")


def resource_name(subject: Subject) -> str:
    """Kind and name as kubectl takes them: ``deployment.apps/web``, ``service/web``."""
    group, slash, _ = subject.api_version.partition("/")
    return f"{subject.kind.lower()}{f'.{group}' if slash else ''}/{subject.name}"


def lines(compared: tuple[Compared, ...], now: datetime, *, wide: bool) -> Iterator[Line]:
    """
    The differences as a person reads them.

    Args:
        compared: All objects.
        now: For ages.
        wide: Whether what differs as it should is told, too.

    """
    for entry in compared:
        if not entry.differs and not (wide and entry.expected):
            continue
        yield _title(entry)
        for difference in entry.differences:
            yield from _difference(difference, now)
        if entry.more:
            yield (("  ", ""), (f"… {entry.more} more fields", _DIM))
        for field, whose in entry.expected if wide else ():
            was, live = inline(field.before), inline(field.after)
            yield (
                ("  ", ""),
                (f"{field.where}: {was} in the release, {live} live; {whose} decides: no difference", _DIM),
            )


def by(who: Who | None, now: datetime) -> str:
    """
    Who wrote a value, in words.

    Args:
        who: As it is on record.
        now: For the age.

    Returns:
        Such as ``by kubectl scale (kubectl, Update, scale) 2h ago``.

    """
    if who is None:
        return "not recorded by whom"
    details = ", ".join(part for part in (who.manager, who.operation, who.subresource) if part)
    when = f" {describe(now - who.time)} ago" if who.time else ", not recorded when"
    if who.recorded:
        return f"by {who.name} ({details}){when}"
    return f"not recorded by whom; last beside it: {who.name} ({details}){when}"


def _title(entry: Compared) -> Line:
    name = (str(entry.subject), "bold")
    match entry.state:
        case State.MISSING:
            return name, (" is missing: it is in the release and not in the cluster", _RELEASE)
        case State.FOREIGN:
            return name, (f" is not of this release: {entry.message}", _RELEASE)
        case _:
            return name, (f": {entry.message}" if entry.message else "", _RELEASE)


def _difference(difference: Difference, now: datetime) -> Iterator[Line]:
    field, who = difference.field, (f"; {by(difference.who, now)}", _DIM)
    where = (f"  {field.where or 'the whole object'}: ", "")
    before, after = field.before, field.after
    is_text = isinstance(before, str) and isinstance(after, str) and "\n" in before.strip() + after.strip()
    by_line = lines_between(before, after) if is_text else ()
    was, live = shorten_both(inline(before), inline(after), limit=VALUE_LIMIT)
    match field.edit:
        case Edit.ADDED:
            yield where, ("added ", ""), (live, _LIVE), who
        case Edit.REMOVED:
            yield where, (was, _RELEASE), (" in the release, not there live", ""), who
        case _ if by_line:
            yield where, ("lines differ, - in the release, + live", ""), who
            for line in by_line:
                yield (("    ", ""), (line, {"-": _RELEASE, "+": _LIVE}.get(line[:1], _DIM)))
        case _:
            same = was == live
            yield (
                where,
                (was, _RELEASE),
                (" in the release, ", ""),
                ("another" if same else live, _LIVE),
                (" live", ""),
                who,
            )
