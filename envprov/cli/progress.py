"""Progress of one environment: a live view on a terminal, one plain line for each change in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from envprov.cli.options import Common
from envprov.cli.plain import clean
from envprov.cli.printing import console, style_of
from envprov.domain.environment import Type
from envprov.kube.client import Object


@dataclass(frozen=True)
class Entry:
    """
    One line of a story.

    Attributes:
        what: Type of a condition, or ``Teardown``.
        state: True, False or Unknown; or the step.
        reason: One word.
        message: In words.

    """

    what: str
    state: str
    reason: str
    message: str = ""


Story = Callable[[Object | None], tuple[Entry, ...]]


class View(Protocol):
    """Shows states as they come."""

    def show(self, item: Object | None) -> None:
        """Show a state."""


def story_of_coming(item: Object | None) -> tuple[Entry, ...]:
    """The conditions that are about the spec as it is now."""
    if item is None:
        return ()
    generation = item["metadata"].get("generation", 1)
    return tuple(
        _entry(condition)
        for condition in item.get("status", {}).get("conditions", ())
        if condition.get("observedGeneration") == generation and condition["type"] != Type.TEARDOWN_BLOCKED
    )


def story_of_going(item: Object | None) -> tuple[Entry, ...]:
    """The step of the teardown with what it waits for, and whether it is blocked."""
    if item is None:
        return (Entry("Environment", "Gone", "Deleted"),)
    status = item.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    entries = []
    teardown = status.get("teardown")
    if teardown:
        said = conditions.get(Type.READY, {}).get("message", "")
        waiting = ", ".join(teardown.get("waitingFor", ()))
        message = f"{said}: {waiting}" if waiting else said
        entries.append(Entry("Teardown", teardown["step"], teardown.get("plan", "Full"), message))
    blocked = conditions.get(Type.TEARDOWN_BLOCKED)
    if blocked and blocked["status"] == "True":
        entries.append(_entry(blocked))
    return tuple(entries)


@contextmanager
def progress(common: Common, story: Story, title: str) -> Iterator[View]:
    """
    Show progress until the block ends.

    Args:
        common: Says whether to be quiet, and whether standard output is kept for the result.
        story: What is shown of a state.
        title: What is going on.

    """
    stream = sys.stdout if common.output.is_for_people else sys.stderr
    if common.quiet:
        yield _Silent()
        return
    out = console(stream)
    if not out.is_terminal:
        yield _Lines(stream, story)
        return
    yield from _live(out, story, title)


def _live(out: Console, story: Story, title: str) -> Iterator[View]:
    screen = _Screen(story, clean(title))
    with Live(screen, console=out, refresh_per_second=8, vertical_overflow="visible"):
        yield screen
        screen.is_over = True


class _Silent:
    def show(self, item: Object | None) -> None:
        """Show nothing."""


@dataclass
class _Lines:
    stream: TextIO
    story: Story
    began: float = field(default_factory=time.monotonic)
    shown: dict[str, Entry] = field(default_factory=dict)

    def show(self, item: Object | None) -> None:
        """Print what has changed."""
        for entry in self.story(item):
            if self.shown.get(entry.what) == entry:
                continue
            self.shown[entry.what] = entry
            words = clean(f"{entry.what} {entry.state} {entry.reason} {entry.message}").rstrip()
            self.stream.write(f"{time.monotonic() - self.began:.1f}s {words}\n")
            self.stream.flush()


@dataclass
class _Screen:
    story: Story
    title: str
    began: float = field(default_factory=time.monotonic)
    entries: tuple[Entry, ...] = ()
    is_over: bool = False
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))

    def show(self, item: Object | None) -> None:
        """Keep the state for the next time that the screen is drawn."""
        self.entries = self.story(item)

    def __rich__(self) -> Group:
        elapsed = f"{time.monotonic() - self.began:.1f}s"
        head = Table.grid(padding=(0, 1))
        mark = Text(" ") if self.is_over else self.spinner
        head.add_row(mark, Text(self.title, "bold"), Text(elapsed, "dim"))
        body = Table.grid(padding=(0, 2))
        body.add_column(no_wrap=True)
        body.add_column(no_wrap=True)
        body.add_column(no_wrap=True)
        body.add_column(overflow="fold")
        for entry in self.entries:
            style = style_of(entry.state)
            body.add_row(
                f"  {clean(entry.what)}", Text(clean(entry.state), style), clean(entry.reason), clean(entry.message)
            )
        return Group(head, body)


def _entry(condition: Object) -> Entry:
    return Entry(condition["type"], condition["status"], condition["reason"], condition.get("message", ""))
