"""The receiver as it is shipped: uvicorn on a socket, records on a real API server."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from envprov.kube.client import Connection, KubeClient
from envprov.kube.environments import Environments
from tests import payloads
from tests.integration.records import install_definition, let_go, project
from tests.integration.webhooks.receiving import (
    HEADERS,
    NAME,
    TOKEN,
    Hasty,
    Unhurried,
    receiving,
    request_head,
    status_of,
)
from tests.ports import quiet_port
from webhooks.app import ReceiverSettings, create_app
from webhooks.serve import Listening, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.cluster import Cluster

SHA = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
PROMISED_SECONDS = 1.0
BUSY_SECONDS = 5.0
"""What a computer that is busy with other things may add; a receiver that waits without a limit waits for longer."""
CREATED = payloads.push_created("feature/x", SHA)
MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def _definition(cluster: Cluster) -> None:
    install_definition(cluster)


@pytest.fixture
def namespace(cluster: Cluster, control_namespace: str) -> Iterator[str]:
    yield control_namespace
    let_go(cluster, control_namespace)


AUTHENTIC = ("X-Gitlab-Token: " + TOKEN, "X-Gitlab-Event: Push Hook")


def test_the_life_of_a_branch(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace) as receiver:
            answer = await receiver.post(CREATED)
            assert (answer.status_code, answer.json()) == (202, {"environments": [NAME]})
            assert await receiver.revision() == SHA
            assert (await receiver.post(CREATED)).status_code == 202
            pushed = payloads.push_updated("feature/x", "b" * 40, before=SHA)
            assert (await receiver.post(pushed)).status_code == 202
            assert await receiver.revision() == "b" * 40
            assert (await receiver.post(payloads.push_deleted("feature/x", SHA))).status_code == 202
            assert await receiver.revision() == "b" * 40
            assert (await receiver.post(payloads.push_deleted("feature/x", "b" * 40))).status_code == 202
            assert await receiver.revision() is None
            assert median(receiver.seconds) < PROMISED_SECONDS

    asyncio.run(story())


def test_the_whole_table_of_answers(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, project(branches="feature/*")) as receiver:
            table: list[tuple[object, dict[str, str], int]] = [
                (CREATED, {}, 202),
                (payloads.push_created("other", SHA), {}, 204),
                (payloads.push_created("feature/x", SHA, 9, "group/unknown"), {}, 204),
                (payloads.push_deleted("feature/none-of-ours", SHA, 9, "group/unknown"), {}, 204),
                (payloads.push_deleted("other", SHA), {}, 204),
                (payloads.tag_pushed("v1", SHA), {"X-Gitlab-Event": "Tag Push Hook"}, 204),
                (payloads.merge_request(), {"X-Gitlab-Event": "Merge Request Hook"}, 204),
                (payloads.note("/envprov up"), {"X-Gitlab-Event": "Note Hook"}, 204),
                ({"event_name": "project_create"}, {"X-Gitlab-Event": "System Hook"}, 204),
                (payloads.repository_updated(), {"X-Gitlab-Event": "System Hook"}, 202),
                (payloads.as_system_hook(CREATED), {"X-Gitlab-Event": "System Hook"}, 202),
                (b"{", {}, 400),
                (CREATED | {"ref": "refs/heads/a..b"}, {}, 400),
                (CREATED, {"X-Gitlab-Token": "wrong"}, 401),
                (CREATED, {"X-Gitlab-Token": ""}, 401),
                (b"x" * (MIB + 1), {}, 413),
            ]
            for payload, headers, status in table:
                assert (await receiver.post(payload, **headers)).status_code == status
            records = await receiver.environments.list()
            assert [record["spec"]["branch"] for record in records] == ["feature/x"]
            assert (await receiver.http.get("/healthz")).status_code == 200
            assert (await receiver.http.get("/readyz")).status_code == 200
            assert 'envprov_deliveries_total{outcome="recorded"} 3.0' in (await receiver.http.get("/metrics")).text
            assert "server" not in (await receiver.http.get("/healthz")).headers

    asyncio.run(story())


def test_a_wrong_token_is_answered_before_a_hundred_megabytes_come(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, protocol=Hasty) as receiver:
            head = request_head("X-Gitlab-Token: wrong", f"Content-Length: {100 * MIB}")
            began = time.monotonic()
            answer = await receiver.raw(head)
            assert status_of(answer) == 401
            assert answer.endswith(b"\r\n\r\n")
            assert time.monotonic() - began < PROMISED_SECONDS + BUSY_SECONDS

    asyncio.run(story())


def test_a_body_that_is_too_large_is_refused_and_not_kept(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, protocol=Unhurried) as receiver:
            await receiver.post(CREATED)
            before = peak_mib()
            assert (await receiver.post(_chunks(10), **{"Content-Length": str(10 * MIB)})).status_code == 413
            assert (await receiver.post(_chunks(10))).status_code == 413
            for _ in range(5):
                # Who takes too long to send it is hung up on, and may not get to read the answer.
                with suppress(httpx.TransportError):
                    answer = await receiver.post(_chunks(60), **{"X-Gitlab-Token": "wrong"})
                    assert answer.status_code == 401
            assert peak_mib() - before < 20

    asyncio.run(story())


async def _chunks(mib: int) -> AsyncIterator[bytes]:
    chunk = b"x" * (64 << 10)
    for _ in range(mib * 16):
        yield chunk


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_chunks_without_a_length_are_read(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async def pieces() -> AsyncIterator[bytes]:
            raw = json.dumps(CREATED).encode()
            for at in range(0, len(raw), 100):
                yield raw[at : at + 100]

        async with receiving(cluster.kubeconfig, namespace) as receiver:
            assert (await receiver.post(pieces())).status_code == 202
            assert await receiver.revision() == SHA

    asyncio.run(story())


def test_a_slow_body_is_a_408(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, protocol=Hasty, body_seconds=0.3) as receiver:
            answer = await receiver.raw(request_head(*AUTHENTIC, "Content-Length: 50"), b"{")
            assert status_of(answer) == 408
            assert receiver.registry.get_sample_value("envprov_deliveries_total", {"outcome": "slow"}) == 1

    asyncio.run(story())


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param((), id="nothing at all"),
        pytest.param((b"POST /webhooks/gitlab HTTP/1.1\r\n",), id="half of the headers"),
    ],
)
def test_slow_headers_are_a_408(cluster: Cluster, namespace: str, sent: tuple[bytes, ...]) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, protocol=Hasty) as receiver:
            assert status_of(await receiver.raw(*sent)) == 408

    asyncio.run(story())


def test_a_drip_of_headers_does_not_hold_a_connection(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, protocol=Hasty) as receiver:
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            answer = asyncio.create_task(reader.read())
            writer.write(b"POST /webhooks/gitlab HTTP/1.1\r\n")
            for _ in range(100):
                done, _ = await asyncio.wait({answer}, timeout=0.05)
                if done:
                    break
                writer.write(b"X-A: b\r\n")
            assert status_of(await answer) == 408
            writer.close()

    asyncio.run(story())


def test_a_drip_of_a_body_that_nobody_wants_does_not_hold_a_connection(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, protocol=Hasty) as receiver:
            reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
            writer.write(request_head("X-Gitlab-Token: wrong", "Content-Length: 1000"))
            assert status_of(await reader.readuntil(b"\r\n\r\n")) == 401
            closed = asyncio.create_task(reader.read())
            for _ in range(100):
                done, _ = await asyncio.wait({closed}, timeout=0.05)
                if done:
                    break
                writer.write(b"x")
            assert closed.done()
            with suppress(ConnectionResetError):
                assert await closed == b""
            writer.close()

    asyncio.run(story())


def test_a_second_request_on_the_connection_has_its_own_patience(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, protocol=Hasty) as receiver:
            whole = b"GET /healthz HTTP/1.1\r\nHost: receiver\r\n\r\n"
            answer = await receiver.raw(whole, whole, b"GET /healthz HT")
            assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"408"]

    asyncio.run(story())


def test_headers_that_are_too_large_are_a_431(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace) as receiver:
            assert status_of(await receiver.raw(request_head("X-A: " + "b" * (20 << 10))[:-4])) == 431
            assert status_of(await receiver.raw(b"X" * (20 << 10))) == 431
            assert status_of(await receiver.raw(b"GARBAGE\r\n\r\n")) == 400
            assert (await receiver.post(CREATED, **{"X-A": "b" * (12 << 10)})).status_code == 202

    asyncio.run(story())


def test_an_unreachable_api_server_is_a_503_within_a_second(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    async def story() -> None:
        nowhere = _pointing_to(cluster, "https://127.0.0.1:1", tmp_path)
        async with receiving(nowhere, namespace, record_seconds=0.9) as receiver:
            answer = await receiver.post(CREATED)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert (await receiver.http.get("/readyz")).status_code == 503
            assert (await receiver.http.get("/healthz")).status_code == 200
            assert receiver.seconds[0] < PROMISED_SECONDS + BUSY_SECONDS

    asyncio.run(story())


def test_a_silent_api_server_is_a_503_within_a_second(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    async def story() -> None:
        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.read(1024):
                pass
            writer.close()
            hung_up.set()

        hung_up = asyncio.Event()

        silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        nobody = _pointing_to(cluster, f"http://127.0.0.1:{port}", tmp_path)
        async with silent, receiving(nobody, namespace, record_seconds=0.9) as receiver:
            answer = await receiver.post(CREATED)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert receiver.seconds[0] < PROMISED_SECONDS + BUSY_SECONDS
            await asyncio.wait_for(hung_up.wait(), 30)  # nobody waits for an answer any more

    asyncio.run(story())


def _pointing_to(cluster: Cluster, server: str, folder: Path) -> Path:
    given = yaml.safe_load(cluster.kubeconfig.read_text())
    given["clusters"][0]["cluster"] = {"server": server}
    given["users"][0]["user"] = {"token": "none"}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(given))
    return path


def test_two_receivers_racing_end_in_the_newest(cluster: Cluster, namespace: str) -> None:
    """200 pushes to one branch, delivered to two receivers in two orders, all at once."""

    async def story() -> None:
        shas = [f"{number:040x}" for number in range(1, 202)]
        pushes = [payloads.push_updated("feature/x", after, before=before) for before, after in pairwise(shas)]
        async with (
            receiving(cluster.kubeconfig, namespace) as one,
            receiving(cluster.kubeconfig, namespace) as two,
        ):
            await one.post(payloads.push_created("feature/x", shas[0]))
            began = time.monotonic()
            for at in range(0, len(pushes), 10):
                batch = pushes[at : at + 10]
                answers = await asyncio.gather(
                    *(one.post(push) for push in batch), *(two.post(push) for push in reversed(batch))
                )
                assert {answer.status_code for answer in answers} == {202}
            assert await one.revision() == shas[-1]
            print(f"{400 / (time.monotonic() - began):.0f} deliveries/s on one branch")  # noqa: T201 - a measurement

    asyncio.run(story())


def test_many_branches_at_once_are_answered_within_a_second(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace) as receiver:
            began = time.monotonic()
            for at in range(0, 200, 10):
                pushes = [payloads.push_created(f"feature/{number}", SHA) for number in range(at, at + 10)]
                answers = await asyncio.gather(*(receiver.post(push) for push in pushes))
                assert {answer.status_code for answer in answers} == {202}
            assert median(receiver.seconds) < PROMISED_SECONDS
            print(f"{200 / (time.monotonic() - began):.0f} creations/s")  # noqa: T201 - a measurement

    asyncio.run(story())


def test_a_request_in_work_is_finished_when_the_receiver_is_told_to_stop(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        stop, asked = asyncio.Event(), asyncio.Event()
        async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:

            class Waiting(Environments):
                async def record(self, *args: Any) -> Any:  # noqa: ANN401
                    asked.set()
                    await stop.wait()
                    return await super().record(*args)

            settings = ReceiverSettings((SecretStr(TOKEN),))
            app = create_app(
                Waiting(client, namespace), lambda: [project()], settings, CollectorRegistry(), asyncio.Event().wait
            )
            port = quiet_port()
            running = asyncio.create_task(serve(app, Listening(port=port), stop))
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
                await asyncio.sleep(0)
                request = asyncio.create_task(http.post("/webhooks/gitlab", json=CREATED, headers=HEADERS))
                await asyncio.wait_for(asked.wait(), 30)
                stop.set()
                assert (await request).status_code == 202
                await running

    asyncio.run(story())
