"""The ``envprov`` command: puts the commands together."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from envprov.cli import commands, operations
from envprov.cli.options import (
    ContextOption,
    DebugOption,
    Given,
    KubeconfigOption,
    NamespaceOption,
    OutputOption,
    QuietOption,
    SettingsOption,
)

EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 not ready in time (it goes on in the cluster), "
    "4 refused by plan, policy or guard."
)
_PEOPLE, _PLATFORM = "For everybody", "For platform people"


def build() -> typer.Typer:
    """The command line with all its commands."""
    app = typer.Typer(
        name="envprov",
        help="A Kubernetes environment for every Git branch.",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_common)
    for name, command in (
        ("up", commands.up),
        ("down", commands.down),
        ("list", commands.list_),
        ("status", commands.status),
        ("plan", commands.plan),
        ("diff", commands.diff),
        ("queue", commands.queue),
        ("why", commands.why),
        ("extend", commands.extend),
        ("pin", commands.pin),
        ("unpin", commands.unpin),
        ("sleep", commands.sleep),
        ("wake", commands.wake),
    ):
        app.command(name, rich_help_panel=_PEOPLE)(command)
    for command in (
        operations.doctor,
        operations.manifests,
        operations.cleanup,
        operations.serve,
        operations.controller,
    ):
        app.command(rich_help_panel=_PLATFORM)(command)
    app.add_typer(_guard(), rich_help_panel=_PLATFORM)
    app.add_typer(_project(), rich_help_panel=_PLATFORM)
    return app


def _guard() -> typer.Typer:
    group = typer.Typer(
        name="guard", help="Show who keeps ServiceAccounts from deletion, and declare it.", no_args_is_help=True
    )
    for name, command in (
        ("status", operations.guard_status),
        ("explain", operations.guard_explain),
        ("hold", operations.guard_hold),
        ("release", operations.guard_release),
        ("adopt", operations.guard_adopt),
    ):
        group.command(name)(command)
    return group


def _project() -> typer.Typer:
    group = typer.Typer(name="project", help="Connect projects of GitLab, and look after them.", no_args_is_help=True)
    for name, command in (
        ("add", operations.project_add),
        ("list", operations.project_list),
        ("check", operations.project_check),
    ):
        group.command(name)(command)
    return group


def main() -> None:
    """Run the command line."""
    build()(prog_name="envprov")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's own signature
    if wanted:
        typer.echo(f"envprov {version('envprov')}")
        raise typer.Exit


def _common(  # noqa: PLR0913 - one parameter for each option
    ctx: typer.Context,
    *,
    kubeconfig: KubeconfigOption = None,
    context: ContextOption = None,
    namespace: NamespaceOption = None,
    settings: SettingsOption = None,
    output: OutputOption = None,
    quiet: QuietOption = None,
    debug: DebugOption = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = Given(kubeconfig, context, namespace, settings, output, quiet, debug)
