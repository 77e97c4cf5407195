"""
GET over HTTP for charts: every hop to a checked address, within limits, and credentials to one host only.

Proxies are not used: one would look up the host by itself, and the check would be for nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from envprov.domain.errors import ChartNotFound, ChartRefused, Throttled, Unavailable
from envprov.domain.patience import patience_of
from envprov.releases.reach import Address, Reach

HOP_LIMIT = 5
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 15.0
TOTAL_SECONDS = 60.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Login:
    """Who reads charts that not everybody may read."""

    username: str
    password: str = field(repr=False)

    @property
    def authorization(self) -> str:
        """The header of basic authentication."""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"


@dataclass(frozen=True)
class Ask:
    """
    What is asked for.

    Attributes:
        what: For messages: ``chart shop of https://charts.example.com``.
        url: Where it is.
        limit_bytes: Its greatest size.
        accept: Media types that are understood.
        authorization: For the host of ``url`` alone; it is gone after a redirect to another one.

    """

    what: str
    url: str
    limit_bytes: int
    accept: str = "*/*"
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Answer:
    """
    What came.

    Attributes:
        status: Of HTTP: 200, 401, 403 or 404.
        headers: By their names in lower case.
        body: Empty if it was written to a file, or the status is not 200.
        sha256: Of the body, in hexadecimal digits.
        is_from_host: Whether the host that was asked has answered itself.

    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    sha256: str
    is_from_host: bool


class Downloads:
    """
    Fetches what charts are made of.

    Args:
        reach: Where from.
        total_seconds: For one fetch, with all its hops.

    """

    def __init__(self, reach: Reach, *, total_seconds: float = TOTAL_SECONDS) -> None:
        self._reach = reach
        self._total = total_seconds
        self._tls: ssl.SSLContext | None = None

    async def get(self, ask: Ask, target: Path | None = None) -> Answer:
        """
        Fetch something.

        Args:
            ask: What.
            target: File to be written; in memory without.

        Returns:
            The answer, also if it is 401, 403 or 404.

        Raises:
            ChartRefused: It is too large, or a redirect leads where it must not.
            ChartNotFound: Any other answer that will not change by itself.
            Unavailable: No answer, one that breaks off, one that takes too long, or a 5xx.
            Throttled: The far side asks for patience.

        """
        try:
            async with asyncio.timeout(self._total):
                return await self._follow(ask, target)
        except TimeoutError:
            raise Unavailable(f"{ask.what} did not come within {self._total:g} s") from None
        except httpx.TransportError as error:
            raise Unavailable(f"{ask.what} did not come: {_reason(error)}") from None

    async def _follow(self, ask: Ask, target: Path | None) -> Answer:
        asked = _parsed(ask.what, ask.url)
        url, authorization = asked, ask.authorization
        for _ in range(HOP_LIMIT + 1):
            async with self._sent(replace(ask, authorization=authorization), url) as response:
                if response.status_code not in _REDIRECTS:
                    return await _received(ask, response, target, is_from_host=_origin(url) == _origin(asked))
                location = response.headers.get("location", "")
            if not location:
                raise ChartRefused(f"{ask.what}: {url.host} redirects without saying where to")
            following = _parsed(ask.what, location, url)
            if url.scheme == "https" and following.scheme != "https":
                raise ChartRefused(f"{ask.what}: {url.host} redirects from https to http")
            if _origin(following) != _origin(url):
                authorization = None
            url = following
        raise ChartRefused(f"{ask.what}: more than {HOP_LIMIT} redirects")

    @asynccontextmanager
    async def _sent(self, ask: Ask, url: httpx.URL) -> AsyncIterator[httpx.Response]:
        """The response of the first address of the host that can be reached."""
        _, host, port = _origin(url)
        if url.scheme == "http" and not self._reach.may_be_plain(host, port):
            raise ChartRefused(
                f"{ask.what}: without TLS a chart can be changed on its way; use https, or let platform people allow "
                f"plain HTTP for {host}"
            )
        try:
            addresses = await self._reach.addresses(host, port)
        except (ChartRefused, Unavailable) as error:
            raise type(error)(f"{ask.what}: {error}") from None
        # One connection for one request: one that is kept could be taken for another host at the same address.
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(verify=self._context(), limits=limits),
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            trust_env=False,
        ) as client:
            response = await self._first(client, ask, url, addresses)
            try:
                yield response
            finally:
                await response.aclose()

    async def _first(
        self, client: httpx.AsyncClient, ask: Ask, url: httpx.URL, addresses: tuple[Address, ...]
    ) -> httpx.Response:
        headers = {
            "Host": url.netloc.decode(),
            "User-Agent": "envprov",
            "Accept": ask.accept,
            "Accept-Encoding": "identity",  # or a small answer could unfold to a large one
            **({"Authorization": ask.authorization} if ask.authorization else {}),
        }
        requests = [
            client.build_request(
                "GET",
                url.copy_with(host=str(address)),
                headers=headers,
                extensions={"sni_hostname": url.raw_host.decode()},
            )
            for address in addresses
        ]
        for request in requests[:-1]:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await client.send(request, stream=True)
        return await client.send(requests[-1], stream=True)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()  # the system's authorities, as Helm trusts them
        return self._tls


def joined(what: str, base: str, address: str) -> str:
    """
    An address that somebody gives from where they are.

    Args:
        what: What is there, for messages.
        base: Where they are.
        address: In full, or from there.

    Raises:
        ChartRefused: It is none.

    """
    return str(_parsed(what, address, _parsed(what, base)))


def is_same_host(one: str, other: str) -> bool:
    """Whether two addresses are of one scheme, host and port, so that credentials for one may go to the other."""
    return _origin(httpx.URL(one)) == _origin(httpx.URL(other))


async def _received(ask: Ask, response: httpx.Response, target: Path | None, *, is_from_host: bool) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    if response.status_code in {401, 403, 404}:
        return Answer(response.status_code, headers, b"", "", is_from_host)
    host = response.request.headers["host"]
    wait = patience_of(headers.get("retry-after"), datetime.now(UTC))
    if response.status_code == 429:  # noqa: PLR2004 - of HTTP
        raise Throttled(f"{ask.what}: {host} asks for patience", retry_after=wait)
    if response.status_code >= 500:  # noqa: PLR2004 - of HTTP
        raise Unavailable(f"{ask.what}: {host} answers {response.status_code}", retry_after=wait)
    if response.status_code != 200:  # noqa: PLR2004 - of HTTP
        raise ChartNotFound(f"{ask.what}: {host} answers {response.status_code}; is the address right?")
    if target is None:
        content = bytearray()
        digest = await _read(ask, response, content.extend)
        return Answer(200, headers, bytes(content), digest, is_from_host)
    with target.open("wb") as file:
        digest = await _read(ask, response, file.write)
    return Answer(200, headers, b"", digest, is_from_host)


async def _read(ask: Ask, response: httpx.Response, take: Callable[[bytes], object]) -> str:
    """Hand a body on piece by piece, as it was sent; give its SHA-256."""
    digest, size = hashlib.sha256(), 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > ask.limit_bytes:
            raise ChartRefused(f"{ask.what} has more than {ask.limit_bytes} bytes")
        digest.update(piece)
        take(piece)
    return digest.hexdigest()


def _parsed(what: str, address: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = httpx.URL(address) if base is None else base.join(address)
        is_port = url.port is None or 0 < url.port < 1 << 16
    except (httpx.InvalidURL, ValueError):
        raise ChartRefused(f"{what}: it is said to be at an address that is none") from None
    if url.scheme not in _DEFAULT_PORTS or not url.host or url.userinfo or not is_port:
        raise ChartRefused(f"{what}: it is said to be at an address that is not https://host/path")
    return url


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.raw_host.decode(), url.port or _DEFAULT_PORTS[url.scheme]


def _reason(error: httpx.TransportError) -> str:
    """What happened, in words that hold no address: one that a redirect gave may have a token in it."""
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        cause = cause.__cause__ or cause.__context__
    return {
        httpx.ConnectTimeout: "no connection in time",
        httpx.ReadTimeout: "it fell silent",
        httpx.ConnectError: "no connection",
        httpx.RemoteProtocolError: "it broke off, or is no HTTP",
    }.get(type(error), "the connection broke")
