"""The receiver on a socket: uvicorn, with nothing that a person did not ask for."""

from __future__ import annotations

import asyncio
import contextlib
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

CONNECTIONS = 512
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

    """

    host: str = "127.0.0.1"
    port: int = 8080
    certificate: Path | None = None
    key: Path | None = None
    protocol: type[PatientProtocol] = PatientProtocol


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


class _Server(uvicorn.Server):
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
        limit_concurrency=CONNECTIONS,
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
        return socket.create_server((listening.host, listening.port), family=family, backlog=1024)
    except OSError as error:
        raise ConfigError(f"cannot listen on {listening.host}:{listening.port}: {error.strerror}") from error
