"""
The commands that people use, with their arguments.

What they do is imported when one of them is called, so that ``--help`` and completion answer at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, with_common

if TYPE_CHECKING:
    from envprov.cli.follow import Work

BranchArgument = Annotated[str, typer.Argument(metavar="BRANCH", help="Branch name in full, such as feature/login.")]
ProjectOption = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="NAME",
        help="Name of the Project; by default from .envprov.yaml, the Git remote, or the only one there is.",
    ),
]
OnlyProjectOption = Annotated[str | None, typer.Option("--project", metavar="NAME", help="Only those of this Project.")]
SizeOption = Annotated[
    str | None, typer.Option("--size", metavar="SIZE", help="Size, among those that the Project allows.")
]
ValuesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--values",
        "-f",
        metavar="FILE",
        help="Chart values over those of the Project; several files are laid over each other, the last wins.",
    ),
]
WaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Whether to follow until the end.")]
SleepWaitOption = Annotated[bool, typer.Option("--wait/--no-wait", help="Whether to follow until it is so.")]
TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to follow: 90s, 10m, 1h30m.")]
StandaloneOption = Annotated[
    bool, typer.Option("--standalone", help="Do the controller's work in this very process, with your own rights.")
]

_GOES_ON = "stopped watching; it goes on in the cluster: `envprov status` shows how it is"
_HALTS = "stopped; nobody works on it any more: call this again, or start a controller"


@with_common
def up(  # noqa: PLR0913 - one parameter for each option
    common: Common,
    branch: BranchArgument,
    *,
    project: ProjectOption = None,
    size: SizeOption = None,
    revision: Annotated[
        str, typer.Option("--revision", metavar="SHA", help="Commit that the branch is at, in full.")
    ] = "",
    values: ValuesOption = None,
    lifetime: Annotated[
        str | None,
        typer.Option(
            "--lifetime",
            metavar="TIME",
            help="keep, an ISO 8601 duration without activity (P7D), or a date (2026-12-24T18:00:00+09:00).",
        ),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            "--chart",
            metavar="PATH",
            help="Chart on this computer, with no GitLab: its Project is made if it is not there.",
        ),
    ] = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = "10m",
    standalone: StandaloneOption = False,
) -> None:
    """Ask for the environment of a branch, and follow it until it is ready."""
    from envprov.cli.follow import waiting
    from envprov.cli.up import Target, up
    from envprov.cli.wish import Arguments

    arguments = Arguments(branch, size, revision, tuple(values or ()), lifetime)
    how = waiting(wait=wait, timeout=timeout, work=_work(chart) if standalone else None)
    run(up(common, Target(project, chart), arguments, how), _HALTS if standalone else _GOES_ON)


@with_common
def down(  # noqa: PLR0913 - one parameter for each option
    common: Common,
    branch: BranchArgument,
    *,
    project: ProjectOption = None,
    wait: WaitOption = True,
    timeout: TimeoutOption = "10m",
    standalone: StandaloneOption = False,
) -> None:
    """Ask for the teardown of a branch's environment, and follow it until it is gone."""
    from envprov.cli.down import down
    from envprov.cli.follow import waiting

    how = waiting(wait=wait, timeout=timeout, work=_work(None) if standalone else None)
    run(down(common, branch, project, how), _HALTS if standalone else _GOES_ON)


@with_common
def list_(common: Common, *, project: OnlyProjectOption = None) -> None:
    """List the environments."""
    from envprov.cli.show import list_environments

    run(list_environments(common, project))


@with_common
def queue(common: Common, *, project: OnlyProjectOption = None) -> None:
    """Show who waits for room, and how full the budgets are."""
    from envprov.cli.queue import show_queue

    run(show_queue(common, project))


@with_common
def status(common: Common, branch: BranchArgument, *, project: ProjectOption = None) -> None:
    """Show how the environment of a branch is."""
    from envprov.cli.show import show_status

    run(show_status(common, branch, project))


@with_common
def diff(
    common: Common,
    branch: BranchArgument,
    *,
    project: ProjectOption = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 1 if there is a difference, as git diff does.")
    ] = False,
) -> None:
    """Show what somebody changed in the environment of a branch since it was deployed, and who."""
    from envprov.cli.diff import show_diff

    run(show_diff(common, branch, project, exit_code=exit_code))


@with_common
def plan(  # noqa: PLR0913 - one parameter for each option
    common: Common,
    branch: BranchArgument,
    *,
    project: ProjectOption = None,
    size: SizeOption = None,
    revision: Annotated[
        str, typer.Option("--revision", metavar="SHA", help="Commit to plan for; by default the one on record.")
    ] = "",
    values: ValuesOption = None,
    chart: Annotated[
        Path | None,
        typer.Option("--chart", metavar="PATH", help="Chart on this computer, in place of the Project's."),
    ] = None,
) -> None:
    """Say what would become of a branch, and what is wrong with its chart, before anything is touched."""
    from envprov.cli.plan import plan
    from envprov.cli.up import Target
    from envprov.cli.wish import Arguments

    run(plan(common, Target(project, chart), Arguments(branch, size, revision, tuple(values or ()))))


@with_common
def why(common: Common, branch: BranchArgument, *, project: ProjectOption = None) -> None:
    """Explain why the environment of a branch is not there, not healthy or not gone."""
    from envprov.cli.why import show_why

    run(show_why(common, branch, project))


@with_common
def extend(
    common: Common,
    branch: BranchArgument,
    time: Annotated[
        str | None,
        typer.Argument(metavar="[TIME]", help="By how much longer: 3d, 12h, 1w; without it, the lifetime begins anew."),
    ] = None,
    *,
    project: ProjectOption = None,
) -> None:
    """Let the environment of a branch live longer."""
    from envprov.cli.longer import extend

    run(extend(common, branch, time, project))


@with_common
def pin(common: Common, branch: BranchArgument, *, project: ProjectOption = None) -> None:
    """Keep the environment of a branch although its lifetime ends."""
    from envprov.cli.longer import pin

    run(pin(common, branch, project, pinned=True))


@with_common
def unpin(common: Common, branch: BranchArgument, *, project: ProjectOption = None) -> None:
    """Let the environment of a branch end with its lifetime again."""
    from envprov.cli.longer import pin

    run(pin(common, branch, project, pinned=False))


@with_common
def sleep(
    common: Common,
    branch: BranchArgument,
    *,
    project: ProjectOption = None,
    wait: SleepWaitOption = False,
    timeout: TimeoutOption = "10m",
) -> None:
    """Scale the environment of a branch to nothing; its data stays."""
    from envprov.cli.follow import waiting
    from envprov.cli.resting import rest

    run(rest(common, branch, project, waiting(wait=wait, timeout=timeout, work=None), asleep=True), _GOES_ON)


@with_common
def wake(
    common: Common,
    branch: BranchArgument,
    *,
    project: ProjectOption = None,
    wait: SleepWaitOption = False,
    timeout: TimeoutOption = "10m",
) -> None:
    """Scale the environment of a branch back to what it was, and deploy what was pushed meanwhile."""
    from envprov.cli.follow import waiting
    from envprov.cli.resting import rest

    run(rest(common, branch, project, waiting(wait=wait, timeout=timeout, work=None), asleep=False), _GOES_ON)


def _work(chart: Path | None) -> Work:
    """The work of a controller; what it needs is loaded by nobody else."""
    from envprov.cli.standalone import standalone

    return standalone(chart)


def run(work: Coroutine[Any, Any, ExitCode], interrupted: str | None = None) -> None:
    """
    Run a command to its end.

    Args:
        work: The command.
        interrupted: What Ctrl-C means, if it does not mean the end of everything.

    Raises:
        typer.Exit: With the exit code.

    """
    try:
        code = asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        if interrupted is None:
            raise KeyboardInterrupt from None
        typer.echo(f"\n{interrupted}", err=True)
        code = ExitCode.NOT_READY
    raise typer.Exit(code)
