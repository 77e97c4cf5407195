"""
HTTP/1.1 for senders who may be slow on purpose.

Uvicorn limits the time between two requests, not the time that one takes to arrive. A connection here has a
deadline for the headers of a request, one for its body, and a short one for the rest of a body whose request has
been answered: most senders read the answer only when they have sent all, so the rest is thrown away, not cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_LIMIT_BYTES = 16 << 10


class PatientProtocol(H11Protocol):
    """
    Uvicorn's own protocol, with patience that ends.

    Attributes:
        patience: Seconds for each part of a request. Headers: from the first byte, or the connection, to their end.
            Body: from there to its end; longer than the application's own limit, which answers 408. Rest: from an
            early answer to the end of the body.

    """

    patience: ClassVar[Mapping[str, float]] = {"headers": 5.0, "body": 8.0, "rest": 1.0}

    _deadline: asyncio.TimerHandle | None = None
    _awaited: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._expect("headers")

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait for what is missing."""
        super().data_received(data)
        self._expect(self._missing())

    def on_response_complete(self) -> None:
        """Go on to the next request, which may have come in part already."""
        super().on_response_complete()
        self._expect(self._missing())

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._expect(None)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request: 431 if its headers were too large."""
        pending, _ = self.conn.trailing_data
        if len(pending) > HEADER_LIMIT_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            super().send_400_response(msg)

    def _missing(self) -> str | None:
        if self.transport.is_closing():
            return None
        if self.conn.their_state is h11.SEND_BODY:
            return "rest" if self.cycle.response_complete else "body"
        if self.conn.their_state is not h11.IDLE:
            return None
        # After a rest was thrown away uvicorn does not count the idle time again.
        pending, _ = self.conn.trailing_data
        return "headers" if pending or self.timeout_keep_alive_task is None else None

    def _expect(self, part: str | None) -> None:
        if part == self._awaited:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._awaited = part
        self._deadline = self.loop.call_later(self.patience[part], self._give_up) if part else None

    def _give_up(self) -> None:
        if self._awaited == "headers" and self.conn.our_state is h11.IDLE:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        for event in (h11.Response(status_code=status, headers=headers, reason=status.phrase), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
