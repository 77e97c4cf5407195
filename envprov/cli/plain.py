"""Text that a terminal only shows: nothing that came from a cluster moves the cursor or colours the screen."""

from __future__ import annotations

import sys


def clean(text: object) -> str:
    """A text in one line, without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))


def note(text: str, *, quiet: bool = False) -> None:
    """Say something beside the result, on standard error; its own line breaks are kept."""
    if not quiet:
        sys.stderr.write("\n".join(clean(line) for line in text.split("\n")) + "\n")
