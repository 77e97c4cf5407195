"""Where the receiver listens, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI

from envprov.domain.errors import ConfigError
from webhooks.serve import Listening, room_for, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def listen(listening: Listening) -> None:
    async def story() -> None:
        async with serving(FastAPI(), listening):
            pass

    asyncio.run(story())


def test_it_listens_on_loopback_unless_told_otherwise() -> None:
    assert Listening().host == "127.0.0.1"


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: "):
            listen(Listening(port=port))


def test_a_certificate_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.pem: cannot be used \(No such file"):
        listen(Listening(port=0, certificate=tmp_path / "missing.pem", key=tmp_path / "key.pem"))


def test_a_certificate_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(ConfigError, match=r"junk\.pem: cannot be used"):
        listen(Listening(port=0, certificate=tmp_path / "junk.pem", key=tmp_path / "junk.pem"))


def test_the_port_is_free_again_afterwards() -> None:
    async def story() -> int:
        app = FastAPI()
        async with serving(app, Listening(port=0)) as port, httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"http://127.0.0.1:{port}/nothing")).status_code == 404
            return port

    port = asyncio.run(story())
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.fixture
def few_files() -> Iterator[None]:
    """Let this process open as few files as a container's may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_there_are_never_more_connections_than_files() -> None:
    assert (room_for(2304), room_for(100)) == (768, 100)
