"""Text for GitLab's Markdown that shows what it says and does nothing: most of it was written by somebody else."""

from __future__ import annotations

import re
from datetime import UTC, datetime

MESSAGE_LIMIT = 1000
"""Characters of one finding that a note shows."""

_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._/-]*)?")


def code(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """
    Somebody else's text as GitLab shows it letter by letter: no mention, link, command, image or HTML in it counts.

    Args:
        text: Of any kind; becomes one line, for a blank line would end what protects it.
        limit: Most characters.

    Source: https://docs.gitlab.com/user/markdown/#code-spans-and-blocks

    """
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    line = line if len(line) <= limit else f"{line[: limit - 1]}…"
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def moment(at: datetime) -> str:
    """A moment for people anywhere."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def plain_url(url: str | None) -> str | None:
    """A URL that nothing is hidden in; a host may have been made of the name of a branch."""
    return url if url and _URL.fullmatch(url) else None
