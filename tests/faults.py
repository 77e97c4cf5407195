"""
What a real API server does not do on demand: a proxy in front of it that breaks, delays, refuses and lies.

It speaks plain HTTP to the client under test and forwards, with the credentials of a kubeconfig, whatever it has no
orders about. What it gives of its own is only the fault; every other byte is the API server's.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_kube_config

from envprov.kube.client import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOP = {"connection", "content-length", "transfer-encoding", "host", "content-encoding", "accept-encoding"}


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def is_watch(self) -> bool:
        return "watch" in self.query

    @property
    def is_list(self) -> bool:
        return self.method == "GET" and "limit" in self.query


@dataclass
class Order:
    """Answer the next matching requests with this instead of asking the API server."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = ""
    watch: bool = False
    times: int = 1

    def matches(self, seen: Seen) -> bool:
        return self.times > 0 and self.method in {"", seen.method} and (not self.watch or seen.is_watch)


class FaultProxy:
    """
    A proxy with orders. Use as ``async with FaultProxy(kubeconfig) as proxy``.

    Attributes:
        connection: For the client under test.
        seen: Every request, in order.
        delay: Seconds before anything is forwarded.
        blocked: While set, nothing is answered or passed on, as if every packet were lost.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.seen: list[Seen] = []
        self.delay = 0.0
        self.blocked = False
        self.connection = Connection()
        self._kubeconfig = kubeconfig
        self._orders: list[Order] = []
        self._streams: set[web.StreamResponse] = set()
        self._open: list[web.BaseRequest] = []
        self._asking: set[asyncio.Future[aiohttp.ClientResponse]] = set()

    async def __aenter__(self) -> Self:
        configuration = Configuration()
        await load_kube_config(  # type: ignore[no-untyped-call]
            str(self._kubeconfig), client_configuration=configuration, persist_config=False
        )
        self._server = configuration.host
        tls = ApiClient(configuration).rest_client.ssl_context
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=tls), auto_decompress=True)
        self._runner = web.ServerRunner(
            web.Server(self._handle, access_log=None, handler_cancellation=True), shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._folder = tempfile.TemporaryDirectory()
        self.connection = Connection(Path(self._folder.name) / "kubeconfig")
        assert self.connection.kubeconfig is not None
        host, port = self._runner.addresses[0][:2]
        self.connection.kubeconfig.write_text(json.dumps(kubeconfig_of(f"http://{host}:{port}", {})))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        await self._runner.cleanup()
        if self._asking:
            await asyncio.wait(self._asking, timeout=10)
        await self._session.close()
        await asyncio.sleep(0)  # connections that were aborted end in the next turn of the loop
        self._folder.cleanup()

    def order(self, order: Order) -> None:
        """Give an order; orders are obeyed in turn, each as often as it says."""
        self._orders.append(order)

    def cut(self) -> None:
        """Break every connection that is open, without a word."""
        for request in list(self._open):
            if request.transport is not None:
                request.transport.abort()

    async def say(self, text: bytes) -> None:
        """Put something into every watch that is open."""
        for stream in list(self._streams):
            await stream.write(text)

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return len(self._streams)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(request.method, request.path, dict(request.query), dict(request.headers))
        self.seen.append(seen)
        self._open.append(request)
        try:
            await asyncio.sleep(self.delay)
            await self._unblocked()
            order = next((order for order in self._orders if order.matches(seen)), None)
            if order is not None:
                order.times -= 1
                return web.Response(status=order.status, body=order.body, headers=order.headers)
            return await self._forward(request, seen)
        finally:
            self._open.remove(request)

    async def _unblocked(self) -> None:
        while self.blocked:  # noqa: ASYNC110 - a test's own loop
            await asyncio.sleep(0.02)

    async def _forward(self, request: web.BaseRequest, seen: Seen) -> web.StreamResponse:
        async with await self._ask(request) as upstream:
            kept = {name: value for name, value in upstream.headers.items() if name.lower() not in _HOP}
            answer = web.StreamResponse(status=upstream.status, headers=kept)
            await answer.prepare(request)
            if seen.is_watch:
                self._streams.add(answer)
            try:
                # A client that is gone is why it is here.
                with suppress(ConnectionError):
                    async for chunk in upstream.content.iter_any():
                        await self._unblocked()
                        await answer.write(chunk)
            finally:
                self._streams.discard(answer)
                _abort(upstream)
            return answer

    async def _ask(self, request: web.BaseRequest) -> aiohttp.ClientResponse:
        """Ask the API server. A client that goes away meanwhile does not break off the handshake: that would leak."""
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        asking = asyncio.ensure_future(
            self._session.request(
                request.method,
                self._server + request.path_qs,
                headers=headers,
                data=await request.read(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        )
        self._asking.add(asking)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(_drop)
            raise
        finally:
            asking.add_done_callback(self._asking.discard)


def _drop(asking: asyncio.Future[aiohttp.ClientResponse]) -> None:
    if not asking.cancelled() and asking.exception() is None:
        _abort(asking.result())


def _abort(upstream: aiohttp.ClientResponse) -> None:
    if upstream.connection is not None and upstream.connection.transport is not None:
        upstream.connection.transport.abort()
    upstream.close()


def kubeconfig_of(server: str, user: Mapping[str, object], **cluster: object) -> dict[str, object]:
    """Return a kubeconfig with one context."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "clusters": [{"name": "one", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "one", "user": dict(user)}],
    }
