"""Objects of any kind, read by their names: what is there, what is not, and what nobody can tell."""

from __future__ import annotations

import asyncio

import pytest

from envprov.domain.errors import Unavailable
from envprov.domain.findings import Subject
from envprov.kube.client import Connection, KubeClient, Object
from envprov.kube.live import Kind, Unread, find_resources, read_objects
from envprov.kube.resources import Resource
from tests.cluster import Cluster
from tests.faults import FaultProxy, Order

INGRESS = ("networking.k8s.io/v1", "Ingress")


def found(cluster: Cluster, *kinds: Kind) -> dict[Kind, Resource | Unread]:
    async def run() -> dict[Kind, Resource | Unread]:
        async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:
            return await find_resources(client, kinds)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param(("v1", "Secret"), Resource("v1", "Secret", "secrets"), id="of the table"),
        pytest.param(INGRESS, Resource(*INGRESS, "ingresses"), id="of a group"),
        pytest.param(("v1", "Endpoints"), Resource("v1", "Endpoints", "endpoints"), id="of the core group"),
        pytest.param(
            ("storage.k8s.io/v1", "StorageClass"),
            Resource("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False),
            id="outside namespaces",
        ),
        pytest.param(("apps/v1", "Nothing"), Unread("the API server serves no Nothing in apps/v1"), id="no kind"),
        pytest.param(("../v1", "A"), Unread("'../v1' is no version of an API"), id="no version"),
        pytest.param(("", "A"), Unread("'' is no version of an API"), id="none given"),
    ],
)
def test_a_kind_is_found_where_it_is_served(cluster: Cluster, kind: Kind, expected: Resource | Unread) -> None:
    assert found(cluster, kind) == {kind: expected}


def test_a_group_that_nobody_serves_is_unread(cluster: Cluster) -> None:
    (told,) = found(cluster, ("shop.example.com/v1", "Thing")).values()
    assert isinstance(told, Unread)
    assert "get /apis/shop.example.com/v1" in told.message


def test_what_is_not_there_is_told_from_what_cannot_be_read(cluster: Cluster, control_namespace: str) -> None:
    cluster.kubectl("create", "configmap", "one", "-n", control_namespace, "--from-literal=a=b")
    subjects = [
        Subject("v1", "ConfigMap", control_namespace, "one"),
        Subject("v1", "ConfigMap", control_namespace, "two"),
        Subject("v1", "ConfigMap", control_namespace, ""),
        Subject("v1", "Namespace", "", control_namespace),
        Subject("shop.example.com/v1", "Thing", control_namespace, "one"),
    ]

    async def run() -> list[Object | Unread | None]:
        async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:
            resources = await find_resources(client, {(one.api_version, one.kind) for one in subjects})
            read = await read_objects(client, subjects, resources)
            return [read[subject] for subject in subjects]

    one, two, nameless, namespace, thing = asyncio.run(run())
    assert isinstance(one, dict)
    assert one["data"] == {"a": "b"}
    assert one["metadata"]["managedFields"]
    assert two is None
    assert isinstance(nameless, Unread)
    assert isinstance(namespace, dict)
    assert namespace["metadata"]["name"] == control_namespace
    assert isinstance(thing, Unread)


@pytest.mark.parametrize("silent", [1, 2])
def test_an_object_that_is_not_answered_is_unread_and_a_server_that_is_not_an_error(
    cluster: Cluster, control_namespace: str, silent: int
) -> None:
    subjects = [Subject("v1", "ConfigMap", control_namespace, name) for name in ("one", "two")]

    async def run() -> list[Object | Unread | None]:
        async with FaultProxy(cluster.kubeconfig) as proxy, KubeClient.connect(proxy.connection) as client:
            resources = await find_resources(client, {("v1", "ConfigMap")})
            proxy.order(Order(503, method="GET", times=silent))
            return list((await read_objects(client, subjects, resources)).values())

    if silent == len(subjects):
        with pytest.raises(Unavailable):
            asyncio.run(run())
    else:
        read = asyncio.run(run())
        assert sorted(map(type, read), key=str) == sorted([type(None), Unread], key=str)
