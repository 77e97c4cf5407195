"""
The stand-in: ``python -m tests.gitlab.standin --port-file F`` serves until its standard input ends.

``/api/v4`` is GitLab's, ``/_control`` is ours. It listens on loopback only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from tests.gitlab import discussions, repositories, rollouts, webhooks
from tests.gitlab.answers import Answer, Asked, html
from tests.gitlab.api import PREFIX, Api
from tests.gitlab.control import Control
from tests.gitlab.courier import Courier
from tests.gitlab.orders import BROKEN, REPLACED, Order, replaced, spoiled
from tests.gitlab.world import World

DRIP_SECONDS = 0.05
ROOMS = (repositories, discussions, rollouts, webhooks)
"""Importing them registers their routes."""


class StandIn(ThreadingHTTPServer):
    """The server; it has what its handlers share."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.world = World()
        self.world.external_url = f"http://127.0.0.1:{self.server_port}"
        self.courier = Courier(self.world)
        self.api = Api(self.world, self.courier)
        self.orders: list[Order] = []
        self.control = Control(self.api, self.orders)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - the base class's own
        """Say nothing about clients that went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own
        """Write nothing: the requests are remembered."""

    def do_GET(self) -> None:
        self._handle()

    def do_HEAD(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if parts.path.startswith("/_control/"):
            self._send(self.server.control.answer(self.command, parts.path, body))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, parts.path, dict(parse_qsl(parts.query)), headers, _body(headers, body))
        self._api(asked, f"{self.command} {self.path}")

    def _api(self, asked: Asked, line: str) -> None:
        if not asked.path.startswith(PREFIX):
            answer = html(404, "404 Not Found")
            self._note(line, asked, answer.status)
            self._send(answer)
            return
        with self.server.world.lock:
            order = next((order for order in self.server.orders if order.takes(line)), None)
        if order is not None and order.fault in BROKEN:
            self._break(order, asked, line)
            return
        if order is not None and order.fault in REPLACED:
            answer = replaced(order)
        else:
            if order is not None and order.fault != "strip":
                # A body that is spoiled is not the one that the client remembers.
                asked.headers.pop("if-none-match", None)
            answer = self.server.api.answer(asked)
            if order is not None:
                answer = spoiled(order, asked, answer, self.server.api.answer)
        self._note(line, asked, answer.status)
        self._send(answer)

    def _break(self, order: Order, asked: Asked, line: str) -> None:
        self.close_connection = True
        if order.fault == "reset":
            self._note(line, asked, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        if order.fault == "hang":
            self._note(line, asked, 0)
            time.sleep(float(order.given["seconds"]))
        answer = self.server.api.answer(asked)
        if order.fault != "hang":
            self._note(line, asked, answer.status)
        self._send(answer, cut=order.fault == "cut", drip=order.fault == "drip")

    def _note(self, line: str, asked: Asked, status: int) -> None:
        method, _, path = line.partition(" ")
        seen = {
            "method": method,
            "path": path,
            "status": status,
            "user_agent": asked.headers.get("user-agent"),
            "authenticated": "private-token" in asked.headers,
            "etag": asked.headers.get("if-none-match"),
            "body": asked.body,
        }
        with self.server.world.lock:
            self.server.world.requests.append(seen)

    def _send(self, answer: Answer, *, cut: bool = False, drip: bool = False) -> None:
        with contextlib.suppress(OSError):
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status not in {204, 304}:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if cut:
                self.wfile.write(answer.body[: len(answer.body) // 2])
                self.close_connection = True
            elif drip:
                for byte in answer.body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(DRIP_SECONDS)
            else:
                self.wfile.write(answer.body)


def _body(headers: dict[str, str], body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    if headers.get("content-type", "").startswith("application/json"):
        given = json.loads(body)
        return given if isinstance(given, dict) else {}
    return {name: values[-1] for name, values in parse_qs(body.decode()).items()}


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port-file", type=Path, required=True, help="gets the port, once it is listened on")
    file: Path = parser.parse_args().port_file
    server = StandIn()
    threading.Thread(target=_end_with_parent, args=(server,), daemon=True).start()
    part = file.with_suffix(".part")
    part.write_text(str(server.server_port))
    part.replace(file)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


def _end_with_parent(server: StandIn) -> None:
    # A test run that is killed closes this; nothing is left behind.
    sys.stdin.buffer.read()
    server.shutdown()


if __name__ == "__main__":
    main()
