"""
Requests and answers: one session with one GitLab, with limits of time and size, that never follows a redirect.

The library builds the requests; each runs in a thread of our own, of which there are as many as may be open at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import requests
import urllib3
from gitlab import Gitlab

from envprov import __version__
from envprov.domain.errors import ForgeUnreliable, Invalid, Throttled
from envprov.gitlab.connection import Connection, TokenFile, checked_url, trusted
from envprov.gitlab.errors import Answer, from_answer, from_exception, is_of_one_endpoint, patience, told
from envprov.gitlab.receiving import Clock, read, store
from envprov.gitlab.session import Refused, Session

MARGIN_SECONDS = 1.0
"""A thread ends itself at its limit; only one that a drop at a time keeps in the headers is left alone after this."""

_NETWORK = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """
    One request.

    Attributes:
        doing: Verb and object, for messages.
        path: Below ``/api/v4``, quoted.
        method: HTTP method.
        query: Parameters, not quoted.
        body: JSON, or None.
        needs: Which scope and role it takes, for messages.
        absent: What GitLab says if that which was asked for is not there, and that is a result.
        etag: Of the answer that is remembered.
        seconds: Limit of its own, if the settings' is not enough.

    """

    doing: str
    path: str
    method: str = "get"
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    needs: str = "scope read_api and role Reporter"
    absent: frozenset[str] = frozenset()
    etag: str | None = None
    seconds: float | None = None

    @property
    def is_write(self) -> bool:
        """Whether it would change something."""
        return self.method != "get"


class Transport:
    """
    Sends requests to one GitLab. To be made inside a running event loop, and closed.

    Args:
        connection: Where and how.

    Raises:
        ConfigError: URL, token or certificates cannot be used.

    """

    def __init__(self, connection: Connection) -> None:
        self.server = checked_url(connection)
        self.listing_seconds = connection.listing_timeout.total_seconds()
        self._seconds = connection.timeout.total_seconds()
        self._session = Session(connection.connections)
        self._session.auth = TokenFile(connection.token_file)
        self._api = Gitlab(
            self.server,
            session=self._session,
            ssl_verify=trusted(connection),
            user_agent=f"envprov/{__version__}",
            retry_transient_errors=False,
        )
        self._executor = ThreadPoolExecutor(connection.connections, thread_name_prefix="envprov-gitlab")
        self._places = asyncio.Semaphore(connection.connections)
        self._quiet = _Quiet()

    async def close(self) -> None:
        """Close all connections; waits for what is under way, which its own limits end."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
        self._session.close()

    async def send(self, request: Request) -> Answer | None:
        """
        Send a request and read the whole answer.

        Args:
            request: What is asked.

        Returns:
            An answer of 200 to 299, or 304 where an ETag was given; None for what is absent where that is a result.

        Raises:
            EnvprovError: As ``gitlab.errors`` translates.

        """
        seconds = request.seconds or self._seconds
        answer = await self._run(request, seconds, lambda clock: self._exchange(request, clock))
        return self._judge(request, answer)

    async def json(self, request: Request) -> Any:  # noqa: ANN401 - JSON
        """
        Send a request whose answer is JSON.

        Args:
            request: What is asked.

        Returns:
            Parsed JSON, or None for what is absent.

        Raises:
            ForgeUnreliable: The answer is no JSON, or breaks off.

        """
        answer = await self.send(request)
        return None if answer is None else parsed(request.doing, answer)

    async def raw(self, request: Request, limit_bytes: int) -> Answer | None:
        """
        Read a file as it is.

        Args:
            request: What is asked.
            limit_bytes: Its greatest size.

        Returns:
            The answer, or None if it is absent.

        Raises:
            Invalid: It is larger.

        """
        answer = await self._run(request, self._seconds, lambda clock: self._exchange(request, clock, limit_bytes))
        return self._judge(request, answer)

    async def download(self, request: Request, target: Path, limit_bytes: int) -> bool:
        """
        Store a gzip file; a part of one is never left behind.

        Args:
            request: What is asked.
            target: File to be written.
            limit_bytes: Greatest size, packed.

        Returns:
            False if it is absent.

        Raises:
            Invalid: It is larger.
            ForgeUnreliable: It is no gzip file, or breaks off.

        """
        refused = await self._run(
            request, self.listing_seconds, lambda clock: self._store(request, clock, target, limit_bytes)
        )
        return refused is None or self._judge(request, refused) is not None

    async def _run(self, request: Request, seconds: float, work: Callable[[Clock], T]) -> T:
        await self._patience(request, seconds)
        loop = asyncio.get_running_loop()
        await self._places.acquire()
        clock = Clock(seconds)
        try:
            future = self._executor.submit(contextvars.copy_context().run, work, clock)
        except BaseException:
            self._places.release()
            raise
        # Not when the caller gives up: the thread holds its place until it ends.
        future.add_done_callback(lambda _: _call_soon(loop, self._places.release))
        try:
            async with asyncio.timeout(seconds + MARGIN_SECONDS):
                return await asyncio.wrap_future(future)
        except _NETWORK as error:
            raise from_exception(request.doing, self.server, error) from error
        finally:
            clock.stopped.set()

    async def _patience(self, request: Request, seconds: float) -> None:
        wait = self._quiet.left(request)
        if wait <= 0:
            return
        if wait > seconds:
            raise Throttled(f"{request.doing}: GitLab asked for patience (429), and is not asked", retry_after=wait)
        await asyncio.sleep(wait)

    def _judge(self, request: Request, answer: Answer) -> Answer | None:
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        if answer.status == HTTPStatus.NOT_MODIFIED and request.etag:
            return answer
        if answer.status == HTTPStatus.NOT_FOUND and request.absent:
            said = told(answer)
            if said and said.message in request.absent:
                return None
        if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._quiet.keep(request, answer)
        raise from_answer(request.doing, answer, request.needs, is_write=request.is_write)

    def _exchange(self, request: Request, clock: Clock, limit_bytes: int | None = None) -> Answer:
        with closing(self._open(request, clock)) as response:
            limit = limit_bytes if response.status_code == HTTPStatus.OK else None
            return _answer(response, read(request.doing, response, clock, limit))

    def _store(self, request: Request, clock: Clock, target: Path, limit_bytes: int) -> Answer | None:
        with closing(self._open(request, clock)) as response:
            if response.status_code != HTTPStatus.OK:
                return _answer(response, read(request.doing, response, clock))
            store(request.doing, response, clock, target, limit_bytes)
        return None

    def _open(self, request: Request, clock: Clock) -> requests.Response:
        headers = {"Accept-Encoding": "gzip"} | ({"If-None-Match": request.etag} if request.etag else {})
        try:
            return self._api.http_request(
                request.method,
                request.path,
                query_data=dict(request.query),
                post_data=dict(request.body) if request.body is not None else None,
                streamed=True,
                timeout=clock.left(),
                obey_rate_limit=False,
                retry_transient_errors=False,
                extra_headers=headers,
            )
        except Refused as refused:
            return refused.response


class _Quiet:
    """
    When GitLab may be asked again: at all, or one endpoint of it.

    A limit of one endpoint, such as five archives a minute of a project, must not hold up other projects.
    """

    def __init__(self) -> None:
        self._all = 0.0
        self._endpoints: dict[tuple[str, str], float] = {}

    def left(self, request: Request) -> float:
        """Seconds until a request may be sent; none or less for now."""
        return max(self._all, self._endpoints.get(_endpoint(request), 0.0)) - time.monotonic()

    def keep(self, request: Request, answer: Answer) -> None:
        """Take note of a 429."""
        now = time.monotonic()
        until = now + (patience(answer.headers) or 0.0)
        if is_of_one_endpoint(answer):
            self._endpoints = {endpoint: end for endpoint, end in self._endpoints.items() if end > now}
            self._endpoints[_endpoint(request)] = until
        else:
            self._all = max(self._all, until)


def segment(text: str | int) -> str:
    """
    Quote one segment of a path.

    Args:
        text: A name, or a number.

    Raises:
        Invalid: It would lead to another address.

    """
    if str(text) in {"", ".", ".."}:
        raise Invalid(f"GitLab has nothing that is called {text!r}")
    try:
        return quote(str(text), safe="")
    except UnicodeEncodeError:
        raise Invalid("GitLab has nothing that is called by half a character") from None


def parsed(doing: str, answer: Answer) -> Any:  # noqa: ANN401 - JSON
    """
    The JSON in an answer.

    Args:
        doing: For messages.
        answer: Of 200 to 299.

    Raises:
        ForgeUnreliable: It is none, or breaks off.

    """
    if answer.status == HTTPStatus.NO_CONTENT:
        return {}
    if not answer.is_json:
        given = answer.headers.get("content-type", "").split(";")[0].strip() or "nothing"
        raise ForgeUnreliable(f"{doing}: the answer is no JSON but {given[:60]}; does a proxy stand before GitLab?")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise ForgeUnreliable(f"{doing}: the answer breaks off, or is no JSON") from error


@asynccontextmanager
async def opened(connection: Connection) -> AsyncIterator[Transport]:
    """
    Yield a transport, and close it afterwards.

    Args:
        connection: Where and how.

    Raises:
        ConfigError: URL, token or certificates cannot be used.

    """
    transport = Transport(connection)
    try:
        yield transport
    finally:
        await transport.close()


def _endpoint(request: Request) -> tuple[str, str]:
    return request.method, request.path


def _answer(response: requests.Response, body: bytes) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, body)


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
