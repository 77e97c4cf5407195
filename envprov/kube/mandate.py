"""
Leave to take things away: asked for right before each request that does, and gone with the leadership.

A process that was paused goes on where it stood, perhaps in the middle of a pass, and somebody else has led meanwhile.
What it then puts on is found and taken off again; what it takes away is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from envprov.domain.holds import FORCED, PREFIX, RELEASED
from envprov.kube.client import RESPONSE_LIMIT_BYTES, KubeClient
from envprov.kube.connection import Access, Connection, find_access
from envprov.kube.transport import Limits, Request, Transport


class Mandate:
    """Leave to take things away; given to everybody until it rests on something."""

    def __init__(self) -> None:
        self._confirm: Callable[[], Awaitable[None]] | None = None

    def rest_on(self, confirm: Callable[[], Awaitable[None]]) -> None:
        """
        Give leave from now on only while something holds.

        Args:
            confirm: Raises LeadershipLost when it does not.

        """
        self._confirm = confirm

    async def confirm(self) -> None:
        """
        Be sure of it, by what is true after this call.

        Raises:
            LeadershipLost: Somebody else may be at work.

        """
        if self._confirm is not None:
            await self._confirm()


class MandatedTransport(Transport):
    """
    Sends requests, and those that take something away only with leave.

    Args:
        access: The server and the credentials.
        limits: For each request.
        mandate: The leave.

    """

    def __init__(self, access: Access, limits: Limits, mandate: Mandate) -> None:
        super().__init__(access, limits)
        self._mandate = mandate

    async def send(self, request: Request) -> Any:  # noqa: ANN401 - as the server says
        """
        See ``Transport.send``.

        Raises:
            LeadershipLost: It would take something away, and somebody else may be at work.

        """
        if takes_away(request):
            await self._mandate.confirm()
        return await super().send(request)


@asynccontextmanager
async def mandated(
    connection: Connection,
    mandate: Mandate,
    *,
    timeout: timedelta,  # noqa: ASYNC109 - the limit of each request to come, not of this call
) -> AsyncIterator[KubeClient]:
    """
    Open a client that takes things away only with leave, and close it afterwards.

    Args:
        connection: Which cluster.
        mandate: The leave.
        timeout: For each request.

    Raises:
        ConfigError: What is wrong with the kubeconfig, or where one was looked for.

    """
    access = await find_access(connection)
    transport = MandatedTransport(access, Limits(timeout.total_seconds(), RESPONSE_LIMIT_BYTES), mandate)
    try:
        yield KubeClient(transport, access.namespace)
    finally:
        await transport.close()


def takes_away(request: Request) -> bool:
    """
    Whether something is gone, or no longer kept, once a request was carried out.

    Args:
        request: Any.

    Returns:
        True for a deletion, for taking a hold off, and for the marks by which others may delete; false for attempts
        (dry runs), and for what is only put on or changed.

    """
    body = request.body or {}
    if request.method == "DELETE":
        return "dryRun" not in body
    notes = (body.get("metadata") or {}).get("annotations") or {}
    return request.method == "PATCH" and any(_lets_go(key, notes) for key in notes)


def _lets_go(key: str, notes: Mapping[str, Any]) -> bool:
    return notes[key] is None if key.startswith(PREFIX) else key in {RELEASED, FORCED} and notes[key] is not None
