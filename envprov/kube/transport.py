"""
Requests and answers: one authenticated connection pool to one API server, with limits of time and size.

The library gives TLS, credentials and the session. Bodies stay plain JSON: its models drop the fields they do not know.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import structlog
from aiohappyeyeballs import AddrInfoType
from kubernetes.aio.client import ApiClient

from envprov.domain.errors import ConfigError, EnvprovError, Unavailable
from envprov.kube.connection import Access
from envprov.kube.connector import UnhurriedConnector
from envprov.kube.errors import from_exception, from_status, is_absent, parse_status

log = structlog.get_logger("envprov.kube")

JSON = "application/json"
ANYTHING = "*/*"
POOL_SIZE = 1024
"""Connections at once. Each watch holds one for good, so the usual 100 could starve the requests beside them."""
CREDENTIALS_SECONDS = 60.0
"""A token file or exec plugin is asked again after this long."""
WATCH_MARGIN_SECONDS = 15.0
"""A watch may be silent for this long after the time when the server should have ended it."""
KEEPALIVE = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""A watch whose far side vanished without a word is noticed after 30 seconds."""

_NETWORK = (aiohttp.ClientError, OSError, ssl.SSLError, TimeoutError)


@dataclass(frozen=True)
class Limits:
    """
    What one request may cost.

    Attributes:
        seconds: From the wait for a connection to the last byte.
        size_bytes: Of the answer, unpacked; of one event in a watch.

    """

    seconds: float
    size_bytes: int


@dataclass(frozen=True)
class Request:
    """
    One request.

    Attributes:
        doing: Verb, kind and object, for messages.
        method: HTTP method.
        path: Absolute and quoted, without query.
        query: Parameters, not quoted.
        body: JSON, or None.
        content_type: Of the body.
        accept: Media type that is asked for.
        absent_ok: Whether an object that is not there is a result (None) and not an error.
        user: As whom it is made; empty for ourselves.

    """

    doing: str
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    content_type: str = JSON
    accept: str = JSON
    absent_ok: bool = False
    user: str = ""

    @property
    def is_yaml(self) -> bool:
        """Whether the server reads the body as YAML."""
        return self.content_type.endswith("yaml")


class Transport:
    """
    Sends requests to one API server. To be made inside a running event loop, and closed.

    Args:
        access: The server and the credentials.
        limits: For each request.

    Raises:
        ConfigError: The certificates cannot be used.

    """

    def __init__(self, access: Access, limits: Limits) -> None:
        self._access = access
        self._limits = limits
        configuration = access.configuration
        self.server: str = configuration.host
        try:
            self._api = ApiClient(configuration)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"{access.source}: its certificates cannot be used: {error}") from None
        self._connector = UnhurriedConnector(
            limit=POOL_SIZE, ssl=self._api.rest_client.ssl_context, socket_factory=_open_socket
        )
        # Trusting the environment would also read ~/.netrc, on each request, and send what it holds.
        self._api.rest_client.proxy = configuration.proxy or _proxy_of_environment(self.server)
        configuration.client_session_kwargs = {"connector": self._connector, "trust_env": False}
        if access.reread_often:
            configuration.refresh_api_key_hook = self._reread_when_due  # type: ignore[assignment]
        self._credentials = asyncio.Lock()
        self._credentials_read = asyncio.get_running_loop().time()

    async def close(self) -> None:
        """Close all connections."""
        await self._connector.settled()
        await self._api.close()  # type: ignore[no-untyped-call]
        await self._connector.close()
        await asyncio.sleep(0)  # connections that were aborted end in the next turn of the loop

    async def send(self, request: Request) -> Any:  # noqa: ANN401 - JSON or text, as the server says
        """
        Send a request and read the whole answer.

        Args:
            request: What is asked.

        Returns:
            Parsed JSON, text where that is accepted, or None for an absent object where that is a result.

        Raises:
            EnvprovError: As ``kube.errors`` translates.

        """
        code, headers, body = await self._answer(request)
        if code >= HTTPStatus.MULTIPLE_CHOICES:
            status = parse_status(body)
            if request.absent_ok and is_absent(code, status):
                return None
            raise from_status(request.doing, code, status, headers.get("Retry-After"))
        if ANYTHING in request.accept and not headers.get("Content-Type", "").startswith(JSON):
            return body.decode(errors="replace")
        try:
            return json.loads(body)
        except ValueError as error:
            raise Unavailable(f"{request.doing}: API server {self.server}: the answer is no JSON") from error

    async def status(self, request: Request) -> int:
        """
        Send a request of which only the HTTP status of the answer counts, whatever it is.

        Args:
            request: What is asked.

        Raises:
            Unavailable: There is no answer.

        """
        code, _, _ = await self._answer(request)
        return code

    @asynccontextmanager
    async def stream(self, request: Request, seconds: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """
        Send a request whose answer comes line by line.

        Args:
            request: What is asked.
            seconds: When the server has promised to end the answer.

        Yields:
            The lines, without their ends and of any length up to the limit. A last line without end is dropped.

        Raises:
            EnvprovError: As ``kube.errors`` translates; Unavailable also in the middle.

        """
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(self._limits.seconds):
                response = await self._open(
                    request,
                    aiohttp.ClientTimeout(connect=self._limits.seconds, sock_read=seconds + WATCH_MARGIN_SECONDS),
                )
                refusal = await self._read(request, response) if response.status != HTTPStatus.OK else b""
        except _NETWORK as error:
            _close(response)
            raise from_exception(request.doing, self.server, error) from error
        try:
            if response.status != HTTPStatus.OK:
                if response.status == HTTPStatus.UNAUTHORIZED:
                    await self._reread()
                retry_after = response.headers.get("Retry-After")
                raise from_status(request.doing, response.status, parse_status(refusal), retry_after)
            yield self._lines(request, response)
        finally:
            _close(response)

    async def _answer(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        answer = await self._exchange(request)
        if answer[0] != HTTPStatus.UNAUTHORIZED:
            return answer
        # Tokens rotate: once more with what the files hold now.
        await self._reread()
        return await self._exchange(request)

    async def _exchange(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        response: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(self._limits.seconds):
                response = await self._open(request, aiohttp.ClientTimeout(total=None, connect=self._limits.seconds))
                return response.status, response.headers, await self._read(request, response)
        except _NETWORK as error:
            raise from_exception(request.doing, self.server, error) from error
        finally:
            _close(response)

    async def _open(self, request: Request, patience: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        headers = {
            "Accept": request.accept,
            # With a charset the library leaves the bytes alone. It would escape what is beyond the basic plane as a
            # surrogate pair, which is JSON but no YAML, and the server reads an apply patch as YAML.
            "Content-Type": f"{request.content_type}; charset=utf-8" if request.is_yaml else request.content_type,
            "User-Agent": "envprov",
        } | ({"Impersonate-User": request.user} if request.user else {})
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], request.path, request.method, request.body)
        url = self.server + request.path
        if request.query:
            url += "?" + urlencode(request.query, quote_via=quote)
        body = json.dumps(request.body, ensure_ascii=False).encode() if request.is_yaml else request.body
        try:
            answer = await self._api.rest_client.request(  # type: ignore[no-untyped-call]
                request.method, url, headers=headers, body=body, _request_timeout=patience
            )
        except aiohttp.InvalidURL as error:
            raise ConfigError(f"{self._access.source}: server {self.server!r} is no URL") from error
        response: aiohttp.ClientResponse = answer.response
        return response

    async def _read(self, request: Request, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self._limits.size_bytes:
                raise self._too_large(request)
        return bytes(body)

    async def _lines(self, request: Request, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        rest = bytearray()
        try:
            async for chunk in response.content.iter_any():
                *whole, tail = chunk.split(b"\n")
                for line in whole:
                    rest += line
                    yield bytes(rest)
                    rest.clear()
                rest += tail
                if len(rest) > self._limits.size_bytes:
                    raise self._too_large(request)
        except _NETWORK as error:
            raise from_exception(request.doing, self.server, error) from error

    def _too_large(self, request: Request) -> Unavailable:
        return Unavailable(f"{request.doing}: the answer is larger than {self._limits.size_bytes} bytes")

    async def _reread_when_due(self, _: object) -> None:
        if asyncio.get_running_loop().time() - self._credentials_read >= CREDENTIALS_SECONDS:
            await self._reread()

    async def _reread(self) -> None:
        asked = asyncio.get_running_loop().time()
        async with self._credentials:
            if self._credentials_read > asked:
                return  # somebody else did while we waited
            try:
                await self._access.reread()
            except (EnvprovError, OSError) as error:
                # The file is being replaced, or the plugin fails: what we have may still be good.
                log.warning("credentials not read again", source=self._access.source, error=str(error))
            self._credentials_read = asyncio.get_running_loop().time()


def _close(response: aiohttp.ClientResponse | None) -> None:
    """Give up an answer. One that was read to its end has given its connection back already and loses nothing."""
    if response is None:
        return
    if response.connection is not None and response.connection.transport is not None:
        # A close would wait half a minute for the far side's farewell, and outlive the client.
        response.connection.transport.abort()
    response.close()


def _open_socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        option = getattr(socket, name, None)  # not every system has all three
        if option is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
    return opened


def _proxy_of_environment(server: str) -> str | None:
    parts = urlsplit(server)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)
