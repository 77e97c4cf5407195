"""The verbs on a real API server; where it does not fail on demand, behind a proxy that does."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.errors import ConfigError, Conflict, Expired, Forbidden, Invalid, Throttled, Unavailable
from envprov.kube.client import RESPONSE_LIMIT_BYTES, TIMEOUT, Connection, KubeClient, Object
from envprov.kube.collections import WatchEvent
from envprov.kube.relay import pod_log
from envprov.kube.resources import (
    ALL,
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    SECRETS,
    Resource,
    lookup,
)
from envprov.kube.rights import can_i
from tests.cluster import Cluster
from tests.eventually import eventually_async
from tests.faults import FaultProxy, Order, Seen, kubeconfig_of

Story = Callable[[KubeClient], Coroutine[Any, Any, None]]


def config_map(namespace: str, name: str = "one", **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def tell(cluster: Cluster, story: Story, *, size: int = RESPONSE_LIMIT_BYTES) -> None:
    """Run a story with a client of the administrator."""

    async def run() -> None:
        async with KubeClient.connect(Connection(cluster.kubeconfig), response_limit_bytes=size) as client:
            await story(client)

    asyncio.run(run())


def tell_faulty(
    cluster: Cluster, story: Callable[[KubeClient, FaultProxy], Awaitable[None]], *, timeout: timedelta = TIMEOUT
) -> None:
    """Run a story with a client behind the proxy."""

    async def run() -> None:
        async with (
            FaultProxy(cluster.kubeconfig) as proxy,
            KubeClient.connect(proxy.connection, timeout=timeout) as client,
        ):
            await story(client, proxy)

    asyncio.run(run())


async def read(
    client: KubeClient, namespace: str | None, name: str = "one", resource: Resource = CONFIG_MAPS
) -> Object:
    live = await client.get(resource, name, namespace)
    assert live is not None
    return live


def test_every_resource_of_the_table_is_what_the_server_serves(cluster: Cluster) -> None:
    async def story(client: KubeClient) -> None:
        for resource in ALL:
            if resource.group == "envprov.io":
                continue
            root = f"/apis/{resource.api_version}" if resource.group else f"/api/{resource.api_version}"
            served = {item["name"]: item for item in (await client.get_raw(root))["resources"]}[resource.plural]
            assert (served["kind"], served["namespaced"]) == (resource.kind, resource.namespaced)
            assert lookup(resource.api_version, resource.kind) is resource

    tell(cluster, story)


def test_apply_twice_changes_nothing_the_second_time(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        manifest = config_map(control_namespace, a="1")
        first = await client.apply(manifest, manager="envprov-test")
        second = await client.apply(manifest, manager="envprov-test")
        assert first["data"] == {"a": "1"}
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    tell(cluster, story)


def test_apply_takes_back_only_the_fields_of_its_own_manager(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        await client.apply(config_map(control_namespace, a="1", b="1"), manager="envprov-test")
        await client.apply(config_map(control_namespace, c="3"), manager="somebody")
        live = await client.apply(config_map(control_namespace, a="1"), manager="envprov-test")
        assert live["data"] == {"a": "1", "c": "3"}

    tell(cluster, story)


def test_apply_without_force_respects_another_manager(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        await client.apply(config_map(control_namespace, a="1"), manager="somebody")
        with pytest.raises(Conflict, match='conflict with "somebody"'):
            await client.apply(config_map(control_namespace, a="2"), manager="envprov-test", force=False)
        assert (await client.apply(config_map(control_namespace, a="2"), manager="envprov-test"))["data"] == {"a": "2"}

    tell(cluster, story)


def test_create_is_once(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        await client.create(config_map(control_namespace), manager="envprov-test")
        with pytest.raises(Conflict, match=f"create ConfigMap {control_namespace}/one: .*already exists"):
            await client.create(config_map(control_namespace), manager="envprov-test")

    tell(cluster, story)


def test_nothing_there_is_none_but_nothing_served_is_an_error(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        assert await client.get(CONFIG_MAPS, "none", control_namespace) is None
        assert await client.get(CONFIG_MAPS, "none", "no-such-namespace") is None
        assert await client.get(NAMESPACES, "no-such-namespace") is None
        for unserved in (Resource("example.com/v1", "Toy", "toys"), Resource("apps/v1", "Toy", "toys")):
            with pytest.raises(Unavailable, match="CustomResourceDefinition"):
                await client.get(unserved, "none", control_namespace)
            with pytest.raises(Unavailable, match="CustomResourceDefinition"):
                await client.list(unserved, control_namespace)
            with pytest.raises(Unavailable, match="CustomResourceDefinition"):
                await client.delete(unserved, "none", control_namespace, uid="u")

    tell(cluster, story)


def test_a_write_into_what_is_gone_is_a_conflict(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        with pytest.raises(Conflict, match='namespaces "no-such-namespace" not found'):
            await client.apply(config_map("no-such-namespace"), manager="envprov-test")
        with pytest.raises(Conflict, match="not found"):
            await client.merge_patch(CONFIG_MAPS, "none", control_namespace, {"data": {}}, manager="envprov-test")

    tell(cluster, story)


def test_a_patch_with_an_old_version_is_a_conflict(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        first = await client.apply(config_map(control_namespace, a="1"), manager="envprov-test")
        body = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"a": None, "b": "2"}}
        second = await client.merge_patch(CONFIG_MAPS, "one", control_namespace, body, manager="envprov-test")
        assert second["data"] == {"b": "2"}
        with pytest.raises(Conflict, match="the object has been modified"):
            await client.merge_patch(CONFIG_MAPS, "one", control_namespace, body, manager="envprov-test")

    tell(cluster, story)


def test_status_is_applied_beside_the_spec(cluster: Cluster) -> None:
    name = f"envprov-t-status-{os.getpid()}"

    async def story(client: KubeClient) -> None:
        quota = {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": name},
            "spec": {"hard": {"pods": "1"}},
        }
        await client.apply(quota, manager="envprov-test")
        status = {key: quota[key] for key in ("apiVersion", "kind", "metadata")} | {"status": {"used": {"pods": "0"}}}
        live = await client.apply_status(status, manager="envprov-status")
        assert live["spec"] == {"hard": {"pods": "1"}}
        assert live["status"]["used"] == {"pods": "0"}
        status["metadata"] = {"name": "none", "namespace": name}
        with pytest.raises(Conflict, match="not found"):
            await client.apply_status(status, manager="envprov-status")

    cluster.kubectl("create", "namespace", name)
    try:
        tell(cluster, story)
    finally:
        cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_delete_hits_exactly_the_object_that_was_meant(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        first = await client.create(config_map(control_namespace), manager="envprov-test")
        uid, version = first["metadata"]["uid"], first["metadata"]["resourceVersion"]
        with pytest.raises(ValueError, match="never without a UID"):
            await client.delete(CONFIG_MAPS, "one", control_namespace, uid="")
        with pytest.raises(Conflict, match="does not match the UID"):
            await client.delete(CONFIG_MAPS, "one", control_namespace, uid="another")
        await client.apply(config_map(control_namespace, a="1"), manager="envprov-test")
        with pytest.raises(Conflict, match="does not match the ResourceVersion"):
            await client.delete(CONFIG_MAPS, "one", control_namespace, uid=uid, resource_version=version)
        assert await client.get(CONFIG_MAPS, "one", control_namespace) is not None
        assert await client.delete(CONFIG_MAPS, "one", control_namespace, uid=uid) is True
        assert await client.delete(CONFIG_MAPS, "one", control_namespace, uid=uid) is False
        await client.create(config_map(control_namespace), manager="envprov-test")
        with pytest.raises(Conflict):
            await client.delete(CONFIG_MAPS, "one", control_namespace, uid=uid)

    tell(cluster, story)


def test_a_namespace_on_its_way_out_takes_nothing_more(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        held = config_map(control_namespace, "held")
        held["metadata"]["finalizers"] = ["envprov.io/test"]
        await client.create(held, manager="envprov-test")
        uid = (await read(client, None, control_namespace, NAMESPACES))["metadata"]["uid"]
        assert await client.delete(NAMESPACES, control_namespace, uid=uid) is True
        with pytest.raises(Conflict, match="because it is being terminated"):
            await client.create(config_map(control_namespace), manager="envprov-test")
        with pytest.raises(Conflict, match="being terminated"):
            await client.apply(config_map(control_namespace), manager="envprov-test")

        async def is_going() -> bool:
            return "deletionTimestamp" in (await read(client, control_namespace, "held"))["metadata"]

        await eventually_async(is_going)
        with pytest.raises(Conflict):
            await client.create(held, manager="envprov-test")
        await client.merge_patch(
            CONFIG_MAPS, "held", control_namespace, {"metadata": {"finalizers": None}}, manager="envprov-test"
        )

    tell(cluster, story)


def test_a_list_of_more_than_a_page_is_whole(cluster: Cluster, control_namespace: str) -> None:
    names = [f"m-{number:04}" for number in range(1203)]
    items = [config_map(control_namespace, name) for name in names]
    cluster.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        listing = await client.list(CONFIG_MAPS, control_namespace, label_selector="!kubernetes.io/x")
        found = [item["metadata"]["name"] for item in listing.items]
        assert [name for name in found if name.startswith("m-")] == names
        assert all((item["apiVersion"], item["kind"]) == ("v1", "ConfigMap") for item in listing.items)
        pages = [seen for seen in proxy.seen if seen.is_list]
        assert [seen.query["limit"] for seen in pages] == ["500"] * 3
        assert "resourceVersion" not in pages[0].query

        # The server forgets the moment between two pages: once from the start again, and then an error.
        expired = json.dumps({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}).encode()
        proxy.seen.clear()
        proxy.order(PageOrder(410, expired))
        assert len((await client.list(CONFIG_MAPS, control_namespace)).items) == len(listing.items)
        assert [("continue" in seen.query) for seen in proxy.seen] == [False, True, False, True, True]
        proxy.order(PageOrder(410, expired, times=2))
        with pytest.raises(Expired):
            await client.list(CONFIG_MAPS, control_namespace)

        # A page that fails for another reason: no part of a list is ever returned.
        proxy.order(PageOrder(503))
        with pytest.raises(Unavailable):
            await client.list(CONFIG_MAPS, control_namespace)

    tell_faulty(cluster, story)


class PageOrder(Order):
    """For every page but the first."""

    def matches(self, seen: Seen) -> bool:
        return super().matches(seen) and "continue" in seen.query


def test_metadata_only_has_no_more_than_metadata(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        before = (await client.list(SECRETS, control_namespace)).resource_version
        secret = config_map(control_namespace) | {"kind": "Secret", "data": {"password": "c2VjcmV0"}}
        await client.create(secret, manager="envprov-test")
        listing = await client.list(SECRETS, control_namespace, metadata_only=True)
        (item,) = listing.items
        assert item["metadata"]["name"] == "one"
        assert item.keys() == {"apiVersion", "kind", "metadata"}
        assert item["kind"] == "PartialObjectMetadata"
        seen = client.watch(SECRETS, control_namespace, resource_version=before, timeout_seconds=20, metadata_only=True)
        events = await take(seen)
        assert events[0].object.keys() == {"apiVersion", "kind", "metadata"}
        assert events[0].object["kind"] == "PartialObjectMetadata"

    tell(cluster, story)


async def take(events: AsyncGenerator[WatchEvent, None], count: int = 1) -> list[WatchEvent]:
    """Take the first events of a watch, and leave it."""
    taken: list[WatchEvent] = []
    async with aclosing(events):
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


def watch(client: KubeClient, resource: Resource, namespace: str, version: str) -> AsyncGenerator[WatchEvent, None]:
    return client.watch(resource, namespace, resource_version=version, timeout_seconds=20)


def test_a_watch_sees_everything_after_its_list(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        listing = await client.list(CONFIG_MAPS, control_namespace)
        made = await client.create(config_map(control_namespace), manager="envprov-test")
        await client.apply(config_map(control_namespace, a="1"), manager="envprov-test")
        await client.delete(CONFIG_MAPS, "one", control_namespace, uid=made["metadata"]["uid"])
        opened: list[bool] = []
        following = client.watch(
            CONFIG_MAPS,
            control_namespace,
            resource_version=listing.resource_version,
            timeout_seconds=20,
            field_selector="metadata.name=one",
            on_open=lambda: opened.append(True),
        )
        events = await take(following, 3)
        assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
        assert events[1].object["data"] == {"a": "1"}
        assert events[0].object["kind"] == "ConfigMap"
        assert opened == [True]

    tell(cluster, story)


def test_a_watch_ends_quietly_when_the_server_ends_it(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        version = (await client.list(SECRETS, control_namespace)).resource_version
        started = time.monotonic()
        ending = client.watch(SECRETS, control_namespace, resource_version=version, timeout_seconds=1)
        assert [event.type async for event in ending if event.type != "BOOKMARK"] == []
        assert time.monotonic() - started > 0.5

    tell(cluster, story)


def test_an_event_longer_than_any_buffer_arrives_whole(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        version = (await client.list(CONFIG_MAPS, control_namespace)).resource_version
        big = {f"k{number}": "x" * 100_000 for number in range(9)}
        await client.create(config_map(control_namespace, "big", **big), manager="envprov-test")
        # The certificates that each new namespace gets may come in between.
        big_ones = client.watch(
            CONFIG_MAPS,
            control_namespace,
            resource_version=version,
            timeout_seconds=20,
            field_selector="metadata.name=big",
        )
        (event,) = await take(big_ones)
        assert event.object["data"] == big

    tell(cluster, story)


def test_a_watch_from_a_forgotten_moment_is_expired(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        proxy.order(Order(410, watch=True))
        with pytest.raises(Expired, match="watch ConfigMap"):
            await take(watch(client, CONFIG_MAPS, control_namespace, "1"))

    tell_faulty(cluster, story)


GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
FAILED = GONE | {"code": 500, "reason": "InternalError", "message": "etcd is away"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        pytest.param({"type": "ERROR", "object": GONE}, Expired, id="410 -> expired"),
        pytest.param({"type": "ERROR", "object": FAILED}, Unavailable, id="any other -> unavailable"),
        pytest.param({"no": "event"}, Unavailable, id="not an event -> unavailable"),
    ],
)
def test_errors_within_a_watch(
    cluster: Cluster, control_namespace: str, line: dict[str, Any], error: type[Exception]
) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        version = (await client.list(SECRETS, control_namespace)).resource_version
        taking = asyncio.create_task(take(watch(client, SECRETS, control_namespace, version)))
        await eventually_async(_watches(proxy))
        await proxy.say(json.dumps(line).encode() + b"\n")
        with pytest.raises(error, match=r"^watch Secret"):
            await taking

    tell_faulty(cluster, story)


def _watches(proxy: FaultProxy) -> Callable[[], Awaitable[bool]]:
    async def open_now() -> bool:
        return proxy.watches == 1

    return open_now


def test_a_half_event_at_the_end_of_a_watch_is_no_event(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        proxy.order(Order(200, b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}\n{"type":"ADD'))
        assert [event.type async for event in watch(client, SECRETS, control_namespace, "1")] == ["BOOKMARK"]

    tell_faulty(cluster, story)


def test_a_watch_that_breaks_is_unavailable(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        version = (await client.list(SECRETS, control_namespace)).resource_version

        async def cut() -> None:
            await eventually_async(_watches(proxy))
            proxy.cut()

        breaking = asyncio.create_task(cut())
        with pytest.raises(Unavailable, match="the connection broke"):
            await take(watch(client, SECRETS, control_namespace, version))
        await breaking

    tell_faulty(cluster, story)


def test_a_slow_server_is_unavailable_after_the_time_limit(cluster: Cluster) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        proxy.delay = 5
        started = time.monotonic()
        with pytest.raises(Unavailable, match=r"^get /version: API server http://127.0.0.1:.*: no answer within"):
            await client.get_raw("/version")
        assert time.monotonic() - started < proxy.delay
        with pytest.raises(Unavailable, match="no answer within"):
            await take(watch(client, SECRETS, "default", "1"))

    tell_faulty(cluster, story, timeout=timedelta(seconds=0.5))


def test_patience_is_passed_on(cluster: Cluster) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        proxy.order(Order(429, headers={"Retry-After": "3"}))
        with pytest.raises(Throttled) as caught:
            await client.get_raw("/version")
        assert caught.value.retry_after == 3
        proxy.order(Order(429, headers={"Retry-After": "2"}, watch=True))
        with pytest.raises(Throttled) as caught:
            await take(watch(client, SECRETS, "default", "1"))
        assert caught.value.retry_after == 2
        assert (await client.get_raw("/version"))["major"] == "1"

    tell_faulty(cluster, story)


def test_what_is_no_answer_of_an_api_server(cluster: Cluster) -> None:
    async def story(client: KubeClient, proxy: FaultProxy) -> None:
        proxy.order(Order(502, b"<html>s3cret</html>", {"Content-Type": "text/html"}))
        with pytest.raises(Unavailable, match=r": HTTP 502 Bad Gateway$"):
            await client.get(NAMESPACES, "default")
        proxy.order(Order(200, b'{"half": ', {"Content-Type": "application/json"}))
        with pytest.raises(Unavailable, match="the answer is no JSON"):
            await client.get(NAMESPACES, "default")
        proxy.order(Order(200, b"<html>sign in</html>", {"Content-Type": "text/html"}))
        with pytest.raises(Unavailable, match="the answer is no JSON"):
            await client.get(NAMESPACES, "default")

    tell_faulty(cluster, story)


def test_an_answer_beyond_the_limit_is_not_read(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        await client.create(config_map(control_namespace, "small"), manager="envprov-test")
        with pytest.raises(Unavailable, match="larger than 50000 bytes"):
            await client.create(config_map(control_namespace, "big", a="x" * 60_000), manager="envprov-test")
        with pytest.raises(Unavailable, match="larger than 50000 bytes"):
            await client.list(CONFIG_MAPS, control_namespace)
        assert (await read(client, control_namespace, "small"))["metadata"]["name"] == "small"

    tell(cluster, story, size=50_000)


def test_two_hundred_watches_and_requests_beside_them(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        version = (await client.list(SECRETS, control_namespace)).resource_version
        opened = asyncio.Semaphore(0)

        def following() -> AsyncGenerator[WatchEvent, None]:
            return client.watch(
                SECRETS, control_namespace, resource_version=version, timeout_seconds=20, on_open=opened.release
            )

        async with asyncio.TaskGroup() as tasks:
            watches = [tasks.create_task(take(following())) for _ in range(200)]
            for _ in watches:
                await asyncio.wait_for(opened.acquire(), 60)
            await client.create(config_map(control_namespace) | {"kind": "Secret"}, manager="envprov-test")
        assert all(task.result()[0].type == "ADDED" for task in watches)

    tell(cluster, story)


@asynccontextmanager
async def limited(cluster: Cluster, namespace: str, folder: Path) -> AsyncIterator[tuple[KubeClient, Path]]:
    """Open a client as a ServiceAccount that may only read ConfigMaps of one namespace, by a token file."""
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "limited")
    cluster.kubectl("-n", namespace, "create", "role", "limited", "--verb=get,list", "--resource=configmaps")
    account = f"{namespace}:limited"
    cluster.kubectl(
        "-n", namespace, "create", "rolebinding", "limited", "--role=limited", f"--serviceaccount={account}"
    )
    admin = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]
    token = folder / "token"
    token.write_text(cluster.kubectl("-n", namespace, "create", "token", "limited"))
    server = admin.pop("server")
    for key in ("certificate-authority",):
        if key in admin:
            admin[key] = str((cluster.kubeconfig.parent / admin[key]).resolve())
    file = folder / "kubeconfig"
    file.write_text(json.dumps(kubeconfig_of(server, {"tokenFile": str(token)}, **admin)))
    async with KubeClient.connect(Connection(file)) as client:
        yield client, token


def test_who_may_not_is_told_so_in_the_servers_words(cluster: Cluster, control_namespace: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with limited(cluster, control_namespace, tmp_path) as (client, _):
            await client.list(CONFIG_MAPS, control_namespace)
            words = (
                rf'^apply ConfigMap {control_namespace}/one: configmaps "one" is forbidden: '
                rf'User "system:serviceaccount:{control_namespace}:limited" cannot patch resource "configmaps"'
            )
            with pytest.raises(Forbidden, match=words) as caught:
                await client.apply(config_map(control_namespace, password="s3cret"), manager="envprov-test")
            assert "s3cret" not in str(caught.value)
            with pytest.raises(Forbidden, match=r"^watch Secret: .*cannot watch"):
                await anext(client.watch(SECRETS, resource_version="1", timeout_seconds=5))
            assert await can_i(client, "list", "", "configmaps", control_namespace)
            assert not await can_i(client, "list", "", "configmaps")
            assert not await can_i(client, "delete", "", "configmaps", control_namespace, "one")
            assert not await can_i(client, "get", "", "pods", control_namespace, None, "log")

    asyncio.run(story())


def test_a_full_quota_is_forbidden(cluster: Cluster, control_namespace: str) -> None:
    cluster.kubectl("-n", control_namespace, "create", "quota", "q", "--hard=count/configmaps=0")
    cluster.kubectl("-n", control_namespace, "wait", "quota/q", "--for=jsonpath={.status.hard}", "--timeout=120s")

    async def story(client: KubeClient) -> None:
        with pytest.raises(Forbidden, match="exceeded quota: q"):
            await client.create(config_map(control_namespace), manager="envprov-test")

    tell(cluster, story)


def test_what_cannot_be_stored_is_invalid(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        with pytest.raises(Invalid, match="Invalid value"):
            await client.create(config_map(control_namespace, "Not A Name"), manager="envprov-test")
        with pytest.raises(Invalid):
            await pod_log(client, "none", control_namespace, tail_lines=-1)

    tell(cluster, story)


def test_the_log_of_a_pod_that_is_gone_is_a_conflict(cluster: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        with pytest.raises(Conflict, match=f"read Pod {control_namespace}/none/log: .*not found"):
            await pod_log(client, "none", control_namespace, tail_lines=10)
        assert (await client.list(PODS, control_namespace)).items == ()

    tell(cluster, story)


def test_a_rotated_token_is_read_again_when_the_old_one_is_refused(
    cluster: Cluster, control_namespace: str, tmp_path: Path
) -> None:
    async def story() -> None:
        async with limited(cluster, control_namespace, tmp_path) as (client, token):
            good = token.read_text()
            token.write_text("no.good.token\n")
            async with KubeClient.connect(Connection(tmp_path / "kubeconfig")) as other:
                with pytest.raises(Forbidden, match="credentials not accepted; check"):
                    await other.list(CONFIG_MAPS, control_namespace)
                token.write_text(good)
                await other.list(CONFIG_MAPS, control_namespace)
                # Read again because it was refused, not because of its age.
                await client.list(CONFIG_MAPS, control_namespace)

    asyncio.run(story())


def test_an_exec_plugin_gives_the_token(cluster: Cluster, control_namespace: str, tmp_path: Path) -> None:
    async def story() -> None:
        async with limited(cluster, control_namespace, tmp_path) as (_, token):
            pass
        config = json.loads((tmp_path / "kubeconfig").read_text())
        credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
        script = f"""printf '%s' '{json.dumps(credential)[:-1]}, "status": {{"token": "'"$(cat {token})"'"}}}}'"""
        plugin = {"apiVersion": credential["apiVersion"], "command": "sh", "args": ["-c", script]}
        config["users"][0]["user"] = {"exec": plugin | {"interactiveMode": "Never"}}
        file = tmp_path / "exec"
        file.write_text(json.dumps(config))
        async with KubeClient.connect(Connection(file)) as client:
            assert (await client.list(CONFIG_MAPS, control_namespace)).resource_version
        plugin["command"] = "false"
        config["users"][0]["user"] = {"exec": plugin}
        file.write_text(json.dumps(config))
        with pytest.raises(ConfigError, match="its plugin false gave no credentials"):
            async with KubeClient.connect(Connection(file)):
                pass

    asyncio.run(story())


async def connect(connection: Connection) -> tuple[str, str]:
    async with KubeClient.connect(connection, timeout=timedelta(seconds=3)) as client:
        await client.get_raw("/version")
        return client.server, client.namespace


def test_the_context_says_server_and_namespace(cluster: Cluster, tmp_path: Path) -> None:
    config = yaml.safe_load(cluster.kubectl("config", "view", "--flatten", "--raw"))
    config["contexts"].append({"name": "team", "context": config["contexts"][0]["context"] | {"namespace": "team-a"}})
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    server = config["clusters"][0]["cluster"]["server"]
    assert asyncio.run(connect(Connection(file))) == (server, "default")
    assert asyncio.run(connect(Connection(file, "team"))) == (server, "team-a")
    assert yaml.safe_load(file.read_text()) == config


def test_the_first_of_several_kubeconfigs_sets_the_context(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.write_text(json.dumps(kubeconfig_of("http://127.0.0.1:1", {}) | {"current-context": "one"}))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{cluster.kubeconfig}:{other}")
    server, _ = asyncio.run(connect(Connection()))
    assert server.startswith("https://")
    with pytest.raises(Unavailable, match=r"API server http://127.0.0.1:1: Connect"):
        asyncio.run(connect(Connection(context="one")))


def test_a_request_that_is_cancelled_at_any_moment_leaves_no_socket_open(cluster: Cluster) -> None:
    async def run(steps: int) -> None:
        async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:
            asking = asyncio.create_task(client.get(NAMESPACES, "default"))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait({asking})

    with warnings.catch_warnings(record=True) as forgotten:
        warnings.simplefilter("always", ResourceWarning)
        for steps in range(1, 80):
            asyncio.run(run(steps))
            gc.collect()
    assert [str(warning.message) for warning in forgotten if warning.category is ResourceWarning] == []
