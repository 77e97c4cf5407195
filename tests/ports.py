"""A port for somebody who listens later."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

LOWEST, COUNT = 20000, 10000
"""Below the ports that the kernel gives to outgoing connections, of which there may be one at any moment."""


def quiet_port() -> int:
    """Return a free port of the loopback address that stays free until somebody asks for just this one."""
    while True:
        port = LOWEST + secrets.randbelow(COUNT)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
