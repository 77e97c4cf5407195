"""``serve`` and ``controller``: the two long-running processes. What they do stands elsewhere; here they start."""

from __future__ import annotations

import os
import secrets
import socket

from envprov import wiring
from envprov.cli import logs
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common
from envprov.cli.session import connection_of, read_settings


async def serve(common: Common) -> ExitCode:
    """
    Run the receiver until SIGTERM.

    Args:
        common: The options of the call.

    Raises:
        ConfigError: All faults of the settings at once; nothing was started.

    """
    settings = read_settings(common)
    logs.configure(logs.raised(settings.log, debug=common.debug))
    await wiring.run_receiver(settings, connection_of(common))
    return ExitCode.DONE


async def control(common: Common, identity: str | None) -> ExitCode:
    """
    Run the controller until SIGTERM.

    Args:
        common: The options of the call.
        identity: Name in the Lease; None for one of our own.

    Raises:
        ConfigError: All faults of the settings at once; nothing was started.

    """
    settings = read_settings(common)
    logs.configure(logs.raised(settings.log, debug=common.debug))
    await wiring.run_controller(settings, connection_of(common), identity=identity or own_identity())
    return ExitCode.DONE


def own_identity() -> str:
    """A name that no other process has: that of the pod or computer, our process, and a random part."""
    return f"{os.environ.get('HOSTNAME') or socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"
