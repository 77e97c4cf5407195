"""What a person wants of an environment, read from arguments and files and checked before anything is touched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envprov.cli.times import parse_lifetime
from envprov.domain.environment import EnvironmentSpec, faults
from envprov.domain.errors import ConfigError, RenderFailed
from envprov.domain.names import branch_fault
from envprov.files import parse_yaml, read_bytes
from envprov.releases.manifests import documents
from envprov.releases.values import merge

VALUES_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Arguments:
    """The arguments of ``up`` that shape the environment, as they were written."""

    branch: str
    size: str | None = None
    revision: str = ""
    values: Sequence[Path] = ()
    lifetime: str | None = None


def options_of(arguments: Arguments, *, now: datetime) -> dict[str, Any]:
    """
    The options among the arguments, as the record holds them.

    Args:
        arguments: As they were written.
        now: Aware moment; a lifetime must end after it.

    Returns:
        Fields of the spec in the API's form; none that was not given.

    Raises:
        ConfigError: What is wrong with which argument.

    """
    check_branch(arguments.branch)
    given: dict[str, Any] = {}
    if arguments.size is not None:
        given["size"] = arguments.size
    if arguments.values:
        given["values"] = merge({}, *(read_values(file) for file in arguments.values))
    if arguments.lifetime is not None:
        lifetime = parse_lifetime(arguments.lifetime, now=now)
        given["lifetime"] = lifetime.model_dump(mode="json", by_alias=True, exclude_none=True)
    try:
        EnvironmentSpec.model_validate(
            {"project": "any", "branch": arguments.branch, "revision": arguments.revision, **given}
        )
    except ValidationError as error:
        raise ConfigError(
            f"the environment of branch {arguments.branch} cannot be like this: {faults(error)}"
        ) from None
    return given


def check_branch(branch: str) -> None:
    """
    Refuse what Git would not accept as the name of a branch.

    Raises:
        ConfigError: Why not.

    """
    fault = branch_fault(branch)
    if fault is not None:
        raise ConfigError(f"branch {branch!r} {fault}")


def read_values(file: Path) -> dict[str, Any]:
    """
    Read a file of chart values.

    Args:
        file: YAML with fields at its top.

    Raises:
        ConfigError: It cannot be read, or is none; its content is not shown.

    """
    called = f"--values {file}"
    raw = read_bytes(file, VALUES_LIMIT_BYTES, called)
    try:
        found = documents(raw)
        json.dumps(found, allow_nan=False)
    except (RenderFailed, TypeError, ValueError):
        parse_yaml(raw, called)  # knows the line
        raise ConfigError(f"{called}: is not YAML that Helm could read") from None
    if len(found) > 1:
        raise ConfigError(f"{called}: must be one document, and has {len(found)}")
    values = found[0] if found else None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{called}: must hold fields at its top")
    return values
