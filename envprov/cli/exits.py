"""Exit codes: what a script may rely on."""

from __future__ import annotations

from enum import IntEnum

from envprov.domain.errors import ConfigError, EnvprovError, Forbidden, InvalidBranchFile, NameTaken


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    """What was asked for is so."""
    FAILED = 1
    """It failed, or there is no such thing."""
    USAGE = 2
    """Wrong usage or configuration: nothing was begun."""
    NOT_READY = 3
    """Not ready in time; it goes on in the cluster."""
    REFUSED = 4
    """Refused by plan, policy or guard."""


def code_of(error: EnvprovError) -> ExitCode:
    """The exit code that an error stands for."""
    match error:
        case ConfigError():
            return ExitCode.USAGE
        case Forbidden() | NameTaken() | InvalidBranchFile():
            return ExitCode.REFUSED
        case _:
            return ExitCode.FAILED
