"""Where errors of a command become one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from envprov.cli.exits import ExitCode, code_of
from envprov.cli.plain import note
from envprov.domain.errors import EnvprovError


@contextmanager
def boundary(*, debug: bool) -> Iterator[None]:
    """
    End the program with one line on standard error instead of a traceback.

    Args:
        debug: Whether the traceback is shown too.

    Raises:
        typer.Exit: With the exit code, after any error.

    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.FAILED) from None
    except EnvprovError as error:
        _say(error, str(error), debug=debug)
        raise typer.Exit(code_of(error)) from error
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        causes = tuple(_leaves(error))
        expected = next((cause for cause in causes if isinstance(cause, EnvprovError)), None)
        if expected is not None:
            _say(error, str(expected), debug=debug)
            raise typer.Exit(code_of(expected)) from error
        hint = "" if debug else "; this is a bug in envprov: --debug shows where"
        _say(error, f"{type(causes[0]).__name__}: {causes[0]}{hint}", debug=debug)
        raise typer.Exit(ExitCode.FAILED) from error


def wants_debug() -> bool:
    """Whether ``ENVPROV_DEBUG`` asks for tracebacks."""
    return os.environ.get("ENVPROV_DEBUG", "").lower() not in {"", "0", "false", "no"}


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors themselves, where several tasks ended together."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _say(error: BaseException, message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    note(f"error: {message}")
