"""
HTTP/1.1 for senders who may be slow on purpose.

Uvicorn limits the time between two requests, not the time that one takes to arrive. A connection here has a
deadline for the headers of a request, one for its body, one for the answer, which has to be taken, and a short one for
the rest of a body whose request has been answered: most senders read the answer only when they have sent all, so the
rest is thrown away, not cut off.

Whoever opens connections and sends little holds them until a deadline. When there are too many at once, room is made:
of those whose sender is not known to be authentic, the ones that have been waited for longest are cut off. A delivery
comes in one piece, so it is not among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_LIMIT_BYTES = 16 << 10
RECEIVED_BYTES = 16 << 10
"""At once from one connection: all of them may have something to say in one turn of the loop."""
KNOWN = "authentic"
"""What the application notes in the state of a request whose sender has a secret of ours."""


class PatientProtocol(H11Protocol):
    """
    Uvicorn's own protocol, with patience that ends.

    Attributes:
        patience: Seconds for each part of a request. Headers: from the first byte, or the connection, to their end.
            Body: from there to its end; longer than the application's own limit, which answers 408. Answer: from the
            end of a request until its answer has been taken. Rest: from an early answer to the end of the body, and
            from the last answer until it has been taken.
        awaited: The part that is waited for, or None.
        since: When that began, in the event loop's time.

    """

    patience: ClassVar[Mapping[str, float]] = {"headers": 5.0, "body": 8.0, "answer": 10.0, "rest": 1.0}

    _deadline: asyncio.TimerHandle | None = None
    awaited: str | None = None
    since = 0.0
    _is_known = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio's own takes sixteen times as much
            transport.max_size = RECEIVED_BYTES
        self._expect("headers")
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room(self.limit_concurrency)

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait for what is missing."""
        super().data_received(data)
        self._expect(self._missing())

    def on_response_complete(self) -> None:
        """Go on to the next request, which may have come in part already."""
        self._is_known = self.is_authentic
        self._expect(None)  # the next answer has its own time, also if its request is there already
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

    @property
    def is_authentic(self) -> bool:
        """Whether a request on this connection, or the one that is being answered, had a secret of ours."""
        return self._is_known or (bool(self.headers) and KNOWN in self.scope["state"])

    def _make_room(self, limit: int) -> None:
        """Cut off some at once, so that it is not done for each connection that comes."""
        there = [one for one in self.connections if isinstance(one, PatientProtocol) and one is not self]
        strangers = [one for one in there if not one.is_authentic]
        for one in sorted(strangers, key=_least_missed)[: max(1, limit // 16)]:
            self.connections.discard(one)  # it goes in a later turn of the loop, when many more may have come
            one.transport.abort()

    def _missing(self) -> str | None:
        if self.transport.is_closing():
            return "rest"
        if self.conn.their_state is h11.SEND_BODY:
            return "rest" if self.cycle.response_complete else "body"
        if self.conn.their_state is not h11.IDLE:
            return "answer"
        # After a rest was thrown away uvicorn does not count the idle time again.
        pending, _ = self.conn.trailing_data
        return "headers" if pending or self.timeout_keep_alive_task is None else None

    def _expect(self, part: str | None) -> None:
        if part == self.awaited:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self.awaited = part
        self.since = self.loop.time()
        self._deadline = self.loop.call_later(self.patience[part], self._give_up) if part else None

    def _give_up(self) -> None:
        if self.awaited == "headers" and self.conn.our_state is h11.IDLE:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        for event in (h11.Response(status_code=status, headers=headers, reason=status.phrase), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._expect("rest")


def _least_missed(one: PatientProtocol) -> tuple[int, float]:
    """Order in which strangers are cut off: those that have their answer, those that ask slowly, the others."""
    rank = 0 if one.transport.is_closing() else 2 if one.awaited == "answer" else 1
    return rank, one.since
