"""Many connections that send little or nothing: deliveries pass beside them."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from base64 import b64encode
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pytest
from pydantic import SecretBytes

from tests import payloads
from tests.eventually import eventually_async
from tests.integration.records import install_definition, let_go
from tests.integration.webhooks.receiving import (
    TOKEN,
    Hasty,
    Receiver,
    receiving,
    request_head,
    status_of,
)
from webhooks.protocol import PatientProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from tests.cluster import Cluster

SHA = payloads.HEAD
ROOM = 64
MANY = 200
VALID = 20
HALF = b"POST /webhooks/gitlab HTTP/1.1\r\nHost: x\r\n"


class Endless(PatientProtocol):
    """A protocol that would wait for longer than any test: whatever closes a connection here is not its patience."""

    patience: ClassVar[Mapping[str, float]] = dict.fromkeys(PatientProtocol.patience, 600.0)


@pytest.fixture(scope="module", autouse=True)
def _definition(cluster: Cluster) -> None:
    install_definition(cluster)


@pytest.fixture
def namespace(cluster: Cluster, control_namespace: str) -> Iterator[str]:
    yield control_namespace
    let_go(cluster, control_namespace)


@dataclass
class Slow:
    """Connections whose other end the receiver has, or has closed."""

    opened: int = 0
    gone: set[int] = field(default_factory=set)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    watching: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def closed(self) -> int:
        """How many are closed."""
        return len(self.gone)

    async def open(self, port: int, sent: bytes) -> None:
        """Open one and send what it has to say."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        self.writers.append(writer)
        self.watching.append(asyncio.create_task(self._watch(self.opened, reader)))
        self.opened += 1

    async def _watch(self, number: int, reader: asyncio.StreamReader) -> None:
        with suppress(ConnectionError):
            while await reader.read(4096):
                pass
        self.gone.add(number)


@asynccontextmanager
async def slow_connections(port: int, count: int, *sent: bytes) -> AsyncIterator[Slow]:
    """Open connections that send, in turn, one of these and nothing more."""
    slow = Slow()
    kinds = itertools.cycle(sent)
    try:
        for _ in range(count):
            await slow.open(port, next(kinds))
        yield slow
    finally:
        for writer in slow.writers:
            writer.transport.abort()
        await asyncio.gather(*slow.watching)


def delivery(branch: str) -> bytes:
    raw = json.dumps(payloads.push_created(branch, SHA)).encode()
    given = ("X-Gitlab-Token: " + TOKEN, "X-Gitlab-Event: Push Hook", f"Content-Length: {len(raw)}")
    return request_head(*given) + raw


async def deliver_fresh(receiver: Receiver, branch: str) -> int:
    """Deliver on a connection of its own, as GitLab does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    writer.write(delivery(branch))
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return status_of(answer)


def signed_head() -> bytes:
    """Return the head of a delivery whose signature may be good, for all that can be told from it."""
    return request_head(
        "X-Gitlab-Event: Push Hook",
        "webhook-id: a",
        f"webhook-timestamp: {int(time.time())}",
        "webhook-signature: v1," + b64encode(b"x" * 32).decode(),
        "Content-Length: 100000",
    )


@pytest.mark.parametrize("what", ["nothing and half of the headers", "half of a body that may be signed"])
def test_deliveries_pass_while_more_slow_connections_come_than_there_is_room_for(
    cluster: Cluster, namespace: str, what: str
) -> None:
    async def story() -> None:
        sent = (b"", HALF) if what.startswith("nothing") else (signed_head() + b"x" * 1000,)
        async with (
            receiving(
                cluster.kubeconfig,
                namespace,
                protocol=Endless,
                connections=ROOM,
                signing_keys=(SecretBytes(b"k" * 32),),
            ) as receiver,
            slow_connections(receiver.port, MANY, *sent) as slow,
        ):

            async def made_room() -> bool:
                return slow.closed >= MANY - ROOM

            await eventually_async(made_room, message="no room was made")
            for number in range(VALID):
                assert await deliver_fresh(receiver, f"feature/{number}") == 202
                await slow.open(receiver.port, sent[0])
            assert slow.closed < slow.opened  # not all had to go
            assert len(await receiver.environments.list()) == VALID

    asyncio.run(story())


def test_those_go_who_have_been_slow_for_longest(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with (
            receiving(cluster.kubeconfig, namespace, protocol=Endless, connections=ROOM) as receiver,
            slow_connections(receiver.port, MANY, b"", HALF) as slow,
        ):

            async def made_room() -> bool:
                return slow.closed >= MANY - ROOM

            await eventually_async(made_room, message="no room was made")
            assert max(slow.gone) < MANY - ROOM // 2

    asyncio.run(story())


def test_nobody_is_cut_off_as_long_as_there_is_room(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with (
            receiving(cluster.kubeconfig, namespace, protocol=Endless, connections=ROOM) as receiver,
            slow_connections(receiver.port, ROOM - 4, b"", HALF) as slow,
        ):
            for number in range(VALID):
                assert await deliver_fresh(receiver, f"feature/{number}") == 202
            assert slow.closed == 0

    asyncio.run(story())


def test_a_connection_that_has_delivered_is_not_cut_off_for_strangers(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, protocol=Lasting, connections=ROOM) as receiver:
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            writer.write(delivery("feature/x"))
            assert status_of(await reader.readuntil(b"\r\n\r\n")) == 202
            async with slow_connections(receiver.port, MANY, b"", HALF) as slow:

                async def made_room() -> bool:
                    return slow.closed >= MANY - ROOM

                await eventually_async(made_room, message="no room was made")
                writer.write(delivery("feature/y"))
                rest = await reader.readuntil(b"HTTP/1.1 202")
                assert rest.endswith(b"HTTP/1.1 202")
            writer.close()

    asyncio.run(story())


class Lasting(Endless):
    """A protocol that keeps a connection between two requests for as long as a test may take."""

    def on_response_complete(self) -> None:
        """Go on, without the short time in which the next request must come."""
        self.timeout_keep_alive = 600
        super().on_response_complete()


class Counting(Hasty):
    """A hasty protocol that is told apart by what became of its connections."""

    patience: ClassVar[Mapping[str, float]] = {**Hasty.patience, "answer": 0.5}
    lost: ClassVar[list[str]] = []

    def connection_lost(self, exc: Exception | None) -> None:
        """Note what was waited for."""
        self.lost.append(self.awaited or "nothing")
        super().connection_lost(exc)


def test_answers_that_nobody_takes_do_not_hold_a_connection(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        Counting.lost.clear()
        async with receiving(cluster.kubeconfig, namespace, protocol=Counting) as receiver:
            _, writer = await asyncio.open_connection("127.0.0.1", receiver.port, limit=1)
            for _ in range(40):
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)

            async def cut_off() -> bool:
                return "answer" in Counting.lost

            await eventually_async(cut_off, message="the connection is still there")
            writer.transport.abort()

    asyncio.run(story())
