"""Small HTTP servers that stand in for chart repositories and registries, honest and hostile ones."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


@dataclass(frozen=True)
class Reply:
    """What a server answers; a body that is an iterator is sent piece by piece, without a length."""

    body: bytes | Callable[[], Iterator[bytes]] = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A server on this computer."""

    port: int
    scheme: str = "http"
    routes: dict[str, Reply | Callable[[Asked], Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.scheme}://{self.netloc}"

    def paths(self) -> list[str]:
        """Return what it was asked for."""
        return [asked.path for asked in self.asked]

    def redirect(self, path: str, to: str, status: int = 302) -> None:
        """Send whoever asks for a path elsewhere."""
        self.routes[path] = Reply(status=status, headers={"Location": to})

    def publish(self, name: str, archives: Mapping[str, bytes], **changes: Any) -> None:  # noqa: ANN401 - any field
        """Be a chart repository with the versions of one chart."""
        entries = [
            {
                "name": name,
                "version": version,
                "urls": [f"charts/{name}-{version}.tgz"],
                "digest": hashlib.sha256(archive).hexdigest(),
                **changes,
            }
            for version, archive in archives.items()
        ]
        self.routes["/index.yaml"] = Reply(json.dumps({"apiVersion": "v1", "entries": {name: entries}}).encode())
        for version, archive in archives.items():
            self.routes[f"/charts/{name}-{version}.tgz"] = Reply(archive)

    def push(self, name: str, tag: str, archive: bytes, *, layer: str = LAYER, digest: str | None = None) -> None:
        """Be a registry with one more tag."""
        found = digest or f"sha256:{hashlib.sha256(archive).hexdigest()}"
        manifest = {"schemaVersion": 2, "layers": [{"mediaType": "x", "digest": "sha256:0"}, {"mediaType": layer}]}
        manifest["layers"][1] |= {"digest": found, "size": len(archive)}  # type: ignore[index]
        self.routes[f"/v2/{name}/manifests/{tag}"] = Reply(json.dumps(manifest).encode())
        self.routes[f"/v2/{name}/blobs/{found}"] = Reply(archive)

    def tags(self, name: str, *tags: str, path: str = "/v2/{}/tags/list?n=1000", following: str = "") -> None:
        """Have a list of tags."""
        headers = {"Link": f'<{following}>; rel="next"'} if following else {}
        self.routes[path.format(name)] = Reply(json.dumps({"name": name, "tags": tags}).encode(), headers=headers)

    def guard(self, check: Callable[[Asked], Reply | None]) -> None:
        """Let only those through for whom the check has no answer."""
        self.routes = {path: _guarded(route, check) for path, route in self.routes.items()}


@dataclass(frozen=True)
class Asked:
    """A request."""

    path: str
    headers: Mapping[str, str]


def _guarded(
    route: Reply | Callable[[Asked], Reply], check: Callable[[Asked], Reply | None]
) -> Callable[[Asked], Reply]:
    def answer(asked: Asked) -> Reply:
        return check(asked) or (route(asked) if callable(route) else route)

    return answer


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
            server.asked.append(asked)
            route = server.routes.get(self.path, Reply(status=404))
            reply = route(asked) if callable(route) else route
            with suppress(OSError):
                self._send(reply)

        def _send(self, reply: Reply) -> None:
            self.close_connection = True
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if not callable(reply.body):
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            for piece in reply.body() if callable(reply.body) else (reply.body,):
                self.wfile.write(piece)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """Say nothing: some clients are meant to go."""

    http = Quiet(("127.0.0.1", 0), Handler)
    if tls is not None:
        http.socket = tls.wrap_socket(http.socket, server_side=True)
    server = Server(http.server_address[1], "https" if tls else "http")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def closed_port() -> int:
    """Return a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
