"""
Secrets that change under a running receiver: read again every few seconds, and exchanged whole.

A mounted Secret changes by the exchange of a symlink. Who reads meanwhile may see half of the old one and half of the
new one, or a file that has just gone; so nothing is believed that was not read twice, and what cannot be read changes
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from envprov.domain.errors import ConfigError
from webhooks.authentic import Secrets

log = structlog.get_logger("envprov.webhooks")

INTERVAL_SECONDS = 2.0


@dataclass
class Rotation:
    """
    The secrets as they are now.

    Attributes:
        read: Reads all of them from where they are; may block, and raises ConfigError or OSError.
        secrets: What was read last.
        interval_seconds: Between two reads.

    """

    read: Callable[[], Secrets]
    secrets: Secrets = field(init=False)
    interval_seconds: float = INTERVAL_SECONDS
    _fault: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.secrets = self.read()

    def current(self) -> Secrets:
        """What a sender may know now; does not block."""
        return self.secrets

    async def run(self) -> None:
        """Read again and again, until cancelled."""
        while True:
            await asyncio.sleep(self.interval_seconds)
            await self.renew()

    async def renew(self) -> None:
        """Read once; what was valid stays so if that fails, and the log says why, once."""
        try:
            found = await asyncio.to_thread(self.read)
            if found != self.secrets and found != await asyncio.to_thread(self.read):
                return  # they are being exchanged right now
        except (ConfigError, OSError) as error:
            if str(error) != self._fault:
                log.warning("secrets not read again", error=str(error), stays="those that were read before are valid")
            self._fault = str(error)
            return
        self._fault = ""
        if found != self.secrets:
            self.secrets = found
            log.info("secrets read again", tokens=len(found.tokens), signing_tokens=len(found.keys))
