"""Reading a body that may be too large, too slow or never end."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import Request

from envprov.domain.errors import RejectedDelivery


async def read_body(request: Request, *, limit_bytes: int, limit_seconds: float) -> bytes:
    """
    The whole body.

    Args:
        request: Whose body nobody has read.
        limit_bytes: A body that says it is larger is refused before any of it is read.
        limit_seconds: Until the last byte.

    Raises:
        RejectedDelivery: 400, 408 or 413.
        ClientDisconnect: The sender went away.

    """
    declared = request.headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()):
        raise RejectedDelivery(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
    # The length of the digits first: a number of a thousand digits is not worth reading.
    if len(declared.lstrip("0")) > len(str(limit_bytes)) or int(declared) > limit_bytes:
        raise _too_large(limit_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(limit_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit_bytes:
                    raise _too_large(limit_bytes)
    except TimeoutError:
        raise RejectedDelivery(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {limit_seconds:g} s"
        ) from None
    return bytes(body)


def _too_large(limit_bytes: int) -> RejectedDelivery:
    return RejectedDelivery(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {limit_bytes} bytes")
