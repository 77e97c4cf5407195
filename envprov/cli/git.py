"""What Git knows about the folder that a person stands in: the remote, and the top of the repository."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

TIMEOUT_SECONDS = 5.0

_SCP = re.compile(r"(?:[^/@:]+@)?(?:\[[^\]]+\]|[^/:@]+):(?!//)(?P<path>.+)")


def remote_path(folder: Path) -> str | None:
    """
    Path with namespace of the remote ``origin``, without its host: ``group/shop``.

    Args:
        folder: A folder of the repository.

    Returns:
        None if there is no Git, no repository, no such remote, or one without a host.

    """
    url = _git(folder, "remote", "get-url", "origin")
    return path_of(url) if url else None


def path_of(url: str) -> str | None:
    """
    Path with namespace in the address of a remote.

    Args:
        url: In any form that Git knows: ``https://…``, ``ssh://…``, ``user@host:path``.

    Returns:
        None for an address without host, such as a folder.

    Source: https://git-scm.com/docs/git-clone#_git_urls

    """
    if "://" in url:
        try:
            parts = urlsplit(url)
        except ValueError:
            return None
        path = unquote(parts.path) if parts.hostname else ""
    else:
        matched = _SCP.fullmatch(url)
        path = matched["path"] if matched else ""
    return path.strip("/").removesuffix(".git") or None


def top_of(folder: Path) -> Path | None:
    """Top folder of the repository that a folder belongs to, or None if there is none."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    return Path(top) if top else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        ended = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - found where the person's own shell finds it
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ended.stdout.strip() or None if ended.returncode == 0 else None
