"""
The options that every command has, before its name or after it.

Each command gets them as one value, ``Common``. What stands after the command's name wins over what stands before.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from envprov.cli.boundary import boundary, wants_debug

_PANEL = "Options of every command"


class Output(StrEnum):
    """What a result is printed as."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"

    @property
    def is_for_people(self) -> bool:
        """Whether progress may stand beside the result."""
        return self in {Output.TABLE, Output.WIDE}


@dataclass(frozen=True)
class Given:
    """The common options as they were given at one place; None for those that were not."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    settings: Path | None = None
    output: Output | None = None
    quiet: bool | None = None
    debug: bool | None = None

    def over(self, below: Given) -> Given:
        """These options, and those of *below* where these say nothing."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(below, **{name: value for name, value in said.items() if value is not None})


@dataclass(frozen=True)
class Common:
    """
    The common options of one call.

    Attributes:
        kubeconfig: None means as kubectl finds it.
        context: None means the kubeconfig's current one.
        namespace: Control namespace; None means the one of the settings.
        settings: Settings file; None means variables and defaults alone.
        output: What a result is printed as.
        quiet: Whether nothing but results and errors is printed.
        debug: Whether everything is logged, and tracebacks are shown.

    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    settings: Path | None = None
    output: Output = Output.TABLE
    quiet: bool = False
    debug: bool = False


KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig", metavar="FILE", help="Kubeconfig; by default as kubectl finds it.", rich_help_panel=_PANEL
    ),
]
ContextOption = Annotated[
    str | None,
    typer.Option("--context", metavar="NAME", help="Context of the kubeconfig.", rich_help_panel=_PANEL),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="Control namespace, where Projects and Environments are; by default the one of the settings.",
        rich_help_panel=_PANEL,
    ),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings", metavar="FILE", help="Settings file; by default $ENVPROV_SETTINGS.", rich_help_panel=_PANEL
    ),
]
OutputOption = Annotated[
    Output | None,
    typer.Option("--output", "-o", help="What results are printed as.", rich_help_panel=_PANEL),
]
QuietOption = Annotated[
    bool | None,
    typer.Option("--quiet", "-q", help="Print nothing but results and errors.", rich_help_panel=_PANEL),
]
DebugOption = Annotated[
    bool | None,
    typer.Option("--debug", help="Log everything, and show tracebacks; or set $ENVPROV_DEBUG.", rich_help_panel=_PANEL),
]

_OPTIONS = {
    "kubeconfig": KubeconfigOption,
    "context": ContextOption,
    "namespace": NamespaceOption,
    "settings": SettingsOption,
    "output": OutputOption,
    "quiet": QuietOption,
    "debug": DebugOption,
}


def with_common(command: Callable[..., None]) -> Callable[..., None]:
    """
    Give a command the common options.

    Args:
        command: Takes a Common first; typer sees the rest of its parameters, and one for each common option.

    """

    @functools.wraps(command)
    def wrapper(ctx: typer.Context, **kwargs: Any) -> None:  # noqa: ANN401 - typer's own values
        after = Given(**{name: kwargs.pop(name) for name in _OPTIONS})
        before = ctx.obj if isinstance(ctx.obj, Given) else Given()
        given = after.over(before)
        debug = bool(given.debug) or wants_debug()
        with boundary(debug=debug):
            command(_settled(given, debug=debug), **kwargs)

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in _OPTIONS.items()
    ]
    parameters = [context, *own, *common]
    wrapper.__dict__["__signature__"] = inspect.Signature(parameters)
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _settled(given: Given, *, debug: bool) -> Common:
    return Common(
        kubeconfig=given.kubeconfig,
        context=given.context,
        namespace=given.namespace,
        settings=given.settings,
        output=given.output or Output.TABLE,
        quiet=bool(given.quiet),
        debug=debug,
    )
