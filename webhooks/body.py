"""Reading a body that may be too large, too slow, never end, or come from a stranger with many others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi import Request

from envprov.domain.errors import RejectedDelivery


@dataclass
class _Buffer:
    data: bytearray = field(default_factory=bytearray)
    is_lost: bool = False


class Room:
    """
    The memory for bodies of which nobody knows yet who sent them.

    When it is full the largest body goes: GitLab's are small, and those that fill a room are not.

    Args:
        limit_bytes: For all of them together.

    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._buffers: list[_Buffer] = []
        self._taken = 0

    @contextmanager
    def hold(self, buffer: _Buffer) -> Iterator[None]:
        """Count what a buffer holds, while it is being filled."""
        self._buffers.append(buffer)
        try:
            yield
        finally:
            self._buffers.remove(buffer)
            self._taken -= len(buffer.data)

    def grow(self, size: int) -> None:
        """A buffer has grown by so many bytes; some buffer, perhaps this one, loses everything if that is too much."""
        self._taken += size
        while self._taken > self._limit:
            largest = max(self._buffers, key=lambda buffer: len(buffer.data))
            self._taken -= len(largest.data)
            largest.data.clear()
            largest.is_lost = True


async def read_body(request: Request, *, limit_bytes: int, limit_seconds: float, room: Room | None = None) -> bytes:
    """
    The whole body.

    Args:
        request: Whose body nobody has read.
        limit_bytes: A body that says it is larger is refused before any of it is read.
        limit_seconds: Until the last byte.
        room: Where there must be room for it; None if the sender is known.

    Raises:
        RejectedDelivery: 400, 408, 413, or 503 if there is no room.
        ClientDisconnect: The sender went away.

    """
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()):
        raise RejectedDelivery(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
    # The length of the digits first: a number of a thousand digits is not worth reading.
    if len(declared.lstrip("0")) > len(str(limit_bytes)) or int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    buffer = _Buffer()
    try:
        with room.hold(buffer) if room else nullcontext():
            async with asyncio.timeout(limit_seconds):
                async for chunk in request.stream():
                    buffer.data += chunk
                    if room:
                        room.grow(len(chunk))
                    if buffer.is_lost:
                        break
                    if len(buffer.data) > limit_bytes:
                        raise _too_large(limit_bytes)
            if buffer.is_lost:  # perhaps while it waited for its end
                raise RejectedDelivery(HTTPStatus.SERVICE_UNAVAILABLE, "too many bodies at once; try again")
            return bytes(buffer.data)
    except TimeoutError:
        raise RejectedDelivery(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {limit_seconds:g} s"
        ) from None


def _too_large(limit_bytes: int) -> RejectedDelivery:
    return RejectedDelivery(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {limit_bytes} bytes")
