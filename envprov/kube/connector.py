"""
Connections that are always finished or closed, whenever the request that wanted one is cancelled.

Cancelled in the first steps of a TLS handshake, asyncio forgets a connection: its socket stays open until the garbage
collector finds it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

_FORGETS_CLOSING = (3, 13, 0) <= sys.version_info < (3, 13, 1) or sys.version_info < (3, 12, 8)
"""Pythons that may wait for ever for the far side's farewell; aiohttp warns where it is not needed."""


class UnhurriedConnector(aiohttp.TCPConnector):
    """
    A connector whose handshakes nobody breaks off.

    They need a time limit of their own, ``ClientTimeout.connect``: the caller's cancellation does not reach them.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of TCPConnector
        super().__init__(enable_cleanup_closed=_FORGETS_CLOSING, **options)
        self._unwanted: set[asyncio.Future[Connection]] = set()

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the library's own signature
    ) -> Connection:
        """Connect, or let a connection that is wanted no more be closed as soon as it stands."""
        connecting = asyncio.ensure_future(super().connect(req, traces, timeout))
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            self._unwanted.add(connecting)
            connecting.add_done_callback(self._drop)
            raise

    async def settled(self) -> None:
        """Return when every connection that is wanted no more has been closed."""
        if self._unwanted:
            await asyncio.wait(set(self._unwanted))

    def _drop(self, connecting: asyncio.Future[Connection]) -> None:
        self._unwanted.discard(connecting)
        if not connecting.cancelled() and connecting.exception() is None:
            connection = connecting.result()
            if connection.transport is not None:
                connection.transport.abort()
            connection.close()
