"""``doctor``: looks at everything that envprov needs, one row for each thing, with what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from envprov.cli import checks, permissions, printing
from envprov.cli.checks import Check, State
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.session import Session, opened, read_settings
from envprov.domain.errors import ConfigError

HEADER = ("CHECK", "STATE", "FOUND AND WHAT TO DO")


async def doctor(common: Common, *, as_controller: bool) -> ExitCode:
    """
    Check everything, and print what was found.

    Args:
        common: The options of the call.
        as_controller: Whether to check the permissions that the controller needs, instead of a person's.

    Returns:
        FAILED if a check failed; warnings do not count.

    """
    found = await _look(common, as_controller=as_controller)
    _print(common, found)
    return ExitCode.FAILED if any(check.state is State.FAILED for check in found) else ExitCode.DONE


async def _look(common: Common, *, as_controller: bool) -> Sequence[Check]:
    try:
        settings = read_settings(common)
    except ConfigError as error:
        return [Check("settings", State.FAILED, str(error), "correct the file or the variables")]
    found = [
        Check("settings", State.OK, f"control namespace {settings.platform.control_namespace}"),
        await checks.check_helm(settings, is_needed=as_controller),
        checks.check_tokens(settings),
    ]
    try:
        async with opened(common) as session:
            found += await _look_at_cluster(session, as_controller=as_controller)
    except ConfigError as error:
        found.append(Check("cluster", State.FAILED, str(error), "check --kubeconfig and --context"))
    return found


async def _look_at_cluster(session: Session, *, as_controller: bool) -> Sequence[Check]:
    client, namespace = session.client, session.namespace
    server = await checks.check_server(client)
    if server.state is State.FAILED:
        return [server]
    wanted = permissions.for_controller(namespace) if as_controller else permissions.for_people(namespace)
    whose = "the controller" if as_controller else "the command line"
    return [
        server,
        *await checks.check_definitions(client),
        await checks.check_permissions(client, wanted, whose=whose),
        *await checks.check_projects(client, namespace),
        await checks.check_controller(client, namespace),
        await checks.check_guard(session),
    ]


def _print(common: Common, found: Sequence[Check]) -> None:
    shown = [check for check in found if not common.quiet or check.state is not State.OK]
    match common.output:
        case Output.JSON | Output.YAML:
            printing.print_data([{**asdict(check), "state": check.state.value} for check in shown], common.output)
        case Output.NAME:
            for check in shown:
                printing.print_line(f"{check.name}: {check.state.value}")
        case _ if shown:
            printing.print_table(HEADER, [row for check in shown for row in _rows(check)])
        case _:
            pass


def _rows(check: Check) -> Sequence[tuple[str, str, str]]:
    found = (check.name, check.state.value, check.message)
    return [found, (" ", " ", f"-> {check.remedy}")] if check.remedy else [found]
