"""Files that a person names: read whole within a limit, and refused by name with no word of what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from envprov.domain.errors import ConfigError


def read_bytes(path: Path, limit_bytes: int, called: str) -> bytes:
    """
    Read a file.

    Args:
        path: Where it is; ``~`` is the home folder.
        limit_bytes: How large it may be.
        called: What it is called in errors, with its path.

    Raises:
        ConfigError: It cannot be read, or is larger.

    """
    try:
        with path.expanduser().open("rb") as stream:
            raw = stream.read(limit_bytes + 1)
    except (OSError, RuntimeError, ValueError) as error:
        # There is no home folder of that name, or the path holds a zero byte.
        raise ConfigError(f"{called}: {getattr(error, 'strerror', None) or error}") from error
    if len(raw) > limit_bytes:
        raise ConfigError(f"{called}: larger than {limit_bytes} bytes")
    return raw


def parse_yaml(raw: bytes, called: str) -> Any:  # noqa: ANN401 - any plain data
    """
    Read YAML.

    Args:
        raw: One document.
        called: What the file is called in errors, with its path.

    Raises:
        ConfigError: It is none; says in which line, where that is known.

    """
    try:
        return yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A date such as 2026-02-31 is a ValueError, and so is what is no text.
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{called}{f', line {mark.line + 1}' if mark else ''}: is not YAML") from None
