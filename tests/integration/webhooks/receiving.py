"""A receiver on a socket, with records on a real API server, for tests."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from envprov.domain.names import slug
from envprov.domain.project import Project
from envprov.kube.client import Connection, KubeClient
from envprov.kube.environments import Environments
from tests.integration.records import project
from webhooks.app import ReceiverSettings, create_app
from webhooks.protocol import PatientProtocol
from webhooks.serve import Listening, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

TOKEN = "correct-horse-battery"
PATIENT = {"record_seconds": 30.0}
"""Where the time is not the point: the tests may run on a computer that is busy with other things."""
HEADERS = {"X-Gitlab-Token": TOKEN, "X-Gitlab-Event": "Push Hook"}
NAME = slug("shop", "feature/x")


class Hasty(PatientProtocol):
    """A protocol whose patience ends within a test's."""

    patience: ClassVar[Mapping[str, float]] = {"headers": 1.0, "body": 1.0, "answer": 5.0, "rest": 0.3}


class Unhurried(PatientProtocol):
    """A protocol that waits for a body to its end, also on a computer that is busy with other things."""

    patience: ClassVar[Mapping[str, float]] = {"headers": 60.0, "body": 60.0, "answer": 60.0, "rest": 60.0}


@dataclass
class Receiver:
    """A receiver that listens."""

    port: int
    environments: Environments
    client: KubeClient
    http: httpx.AsyncClient
    registry: CollectorRegistry
    seconds: list[float] = field(default_factory=list)

    async def post(self, payload: object, **headers: str) -> httpx.Response:
        return await self.deliver(payload, HEADERS | headers)

    async def deliver(self, payload: object, headers: Mapping[str, str]) -> httpx.Response:
        """Deliver with these headers alone."""
        began = time.monotonic()
        content: Any = json.dumps(payload).encode() if isinstance(payload, dict) else payload
        answer = await self.http.post("/webhooks/gitlab", content=content, headers=headers)
        self.seconds.append(time.monotonic() - began)
        return answer

    async def revision(self, name: str = NAME) -> str | None:
        live = await self.environments.get(name)
        return None if live is None or "deletionTimestamp" in live["metadata"] else live["spec"]["revision"]

    async def raw(self, *parts: bytes) -> bytes:
        """Send bytes, and read until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await asyncio.wait_for(reader.read(), 30)
        finally:
            writer.close()


@asynccontextmanager
async def receiving(
    kubeconfig: Path,
    namespace: str,
    *projects: Project,
    protocol: type[PatientProtocol] = PatientProtocol,
    connections: int | None = None,
    **limits: Any,  # noqa: ANN401 - those of ReceiverSettings
) -> AsyncIterator[Receiver]:
    """Open a receiver for some Projects, by default for one that wants every branch of group/shop."""
    registry = CollectorRegistry()
    settings = ReceiverSettings(**({"tokens": (SecretStr(TOKEN),)} | PATIENT | limits))
    listening = Listening(port=0, protocol=protocol)
    if connections is not None:
        listening = replace(listening, connections=connections)
    async with KubeClient.connect(Connection(kubeconfig)) as client:
        environments = Environments(client, namespace, asks=True)
        app = create_app(
            environments, lambda: projects or (project(),), settings, registry, lambda: client.get_raw("/readyz")
        )
        async with (
            serving(app, listening) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as http,
        ):
            yield Receiver(port, environments, client, http, registry)


def request_head(*headers: str) -> bytes:
    """Return the beginning of a delivery, as it goes over the wire."""
    lines = ["POST /webhooks/gitlab HTTP/1.1", "Host: receiver", *headers, "", ""]
    return "\r\n".join(lines).encode()


def status_of(answer: bytes) -> int:
    """Return the status of an answer as it came over the wire."""
    return int(answer.split(b" ", 2)[1])
