"""What tests of the client begin with: a client of the stand-in, and somebody to deliver to."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeVar

from envprov.gitlab.client import Connection, GitLabClient
from tests.gitlab.driver import GitLabStandIn

T = TypeVar("T")


def connection(gitlab: GitLabStandIn, *, seconds: float = 5, listing_seconds: float = 20) -> Connection:
    """Return what leads to the stand-in."""
    limits = timedelta(seconds=seconds), timedelta(seconds=listing_seconds)
    return Connection(gitlab.url, gitlab.token_file, timeout=limits[0], listing_timeout=limits[1])


def ask(
    gitlab: GitLabStandIn,
    story: Callable[[GitLabClient], Coroutine[Any, Any, T]],
    *,
    seconds: float = 5,
    listing_seconds: float = 20,
) -> T:
    """Run a story with a client of its own, and return what it returns."""

    async def run() -> T:
        given = connection(gitlab, seconds=seconds, listing_seconds=listing_seconds)
        async with GitLabClient.connect(given) as client:
            return await story(client)

    return asyncio.run(run())


@dataclass(frozen=True)
class Received:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        given: dict[str, Any] = json.loads(self.body)
        return given


class Receiver(ThreadingHTTPServer):
    """
    An HTTP server, or an HTTPS server, that keeps what it gets. Use as ``with Receiver() as receiver``.

    Attributes:
        received: Every request, in order.
        status: What it answers.

    """

    daemon_threads = True

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []
        self.status = 202
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that go away are what is tested."""

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own
        pass

    def do_GET(self) -> None:
        self._take()

    def do_POST(self) -> None:
        self._take()

    def _take(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.server.received.append(Received(self.command, self.path, headers, body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()
