"""The receiver on a socket: uvicorn, with nothing that a person did not ask for."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI

from envprov.domain.errors import ConfigError
from webhooks.protocol import HEADER_LIMIT_BYTES, PatientProtocol

log = structlog.get_logger("envprov.webhooks")

CONNECTIONS = 2304
"""About 50 MB, if all of them send as little as they can get away with."""
ACCEPTED_AT_ONCE = 256
"""In one turn of the loop, before anything is read from any of them."""
QUEUE = 4096
"""Connections that the kernel holds until they are accepted. When it has no place left it drops what a sender says, who
repeats that only seconds later."""
FILES_KEPT_FREE = 256
"""File descriptors for everything else: the API server, probes, the log."""
IDLE_SECONDS = 5
DRAIN_SECONDS = 10


@dataclass(frozen=True)
class Listening:
    """
    Where the receiver listens.

    Attributes:
        host: Address; loopback unless somebody says otherwise.
        port: Port; 0 takes a free one.
        certificate: PEM file, for TLS.
        key: PEM file of its key.
        protocol: How patient it is.
        connections: How many at once, if the process may open so many files.

    """

    host: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    key: Path | None = None
    protocol: type[PatientProtocol] = PatientProtocol
    connections: int = CONNECTIONS


async def serve(app: FastAPI, listening: Listening, stop: asyncio.Event) -> None:
    """
    Serve until told to stop; requests in work are finished then.

    Args:
        app: The application.
        listening: Where.
        stop: Set by whoever handles signals.

    Raises:
        ConfigError: The address cannot be listened on, or the certificate cannot be used.

    """
    async with serving(app, listening):
        await stop.wait()


@contextlib.asynccontextmanager
async def serving(app: FastAPI, listening: Listening) -> AsyncIterator[int]:
    """
    Serve for as long as the context lasts.

    Args:
        app: The application.
        listening: Where.

    Yields:
        The port.

    Raises:
        ConfigError: The address cannot be listened on, or the certificate cannot be used.

    """
    server = _Server(_config(app, listening))
    with _socket(listening) as bound:
        port: int = bound.getsockname()[1]
        running = asyncio.create_task(server.serve(sockets=[bound]))
        log.info("listening", host=listening.host, port=port, tls=listening.certificate is not None)
        try:
            yield port
        finally:
            server.should_exit = True
            await running


def room_for(connections: int) -> int:
    """
    How many connections may be open at once.

    Args:
        connections: How many are wanted.

    Returns:
        So many, or as many as the process may open files for: its usual limit may be only 1024.

    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, files - FILES_KEPT_FREE))


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept, and take back the length of the queue, which uvicorn has set to that of one turn."""
        await super().startup(sockets)
        for one in sockets or ():
            one.listen(QUEUE)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the process, which has more to end than this server."""
        yield


def _config(app: FastAPI, listening: Listening) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=listening.protocol,
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=HEADER_LIMIT_BYTES,
        backlog=ACCEPTED_AT_ONCE,
        limit_concurrency=room_for(listening.connections),
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigError(f"TLS certificate {listening.certificate}: cannot be used ({error.strerror})") from error
    return config


def _socket(listening: Listening) -> socket.socket:
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    try:
        return socket.create_server((listening.host, listening.port), family=family, backlog=QUEUE)
    except OSError as error:
        raise ConfigError(f"cannot listen on {listening.host}:{listening.port}: {error.strerror}") from error
