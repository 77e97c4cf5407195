"""The usage graph of a real API server: every source is seen, and what cannot be read is said."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envprov.domain.claims import SOURCES
from envprov.domain.holds import Account
from envprov.domain.usage import EVERY, Strength, Usage
from envprov.kube.client import Connection, KubeClient, Object
from envprov.kube.discovery import discover
from envprov.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, PODS, SECRETS, SERVICE_ACCOUNTS, lookup
from envprov.kube.rights import can_i
from envprov.kube.usage import UsageReader
from envprov.releases.stored import decode
from tests.cluster import Cluster
from tests.eventually import eventually_async
from tests.faults import FaultProxy, Order, Seen
from tests.integration.guard.worlds import MANAGER, make_account, manifest

RBAC = "rbac.authorization.k8s.io"
TOKEN = "kubernetes.io/service-account-token"


@dataclass
class At(Order):
    """An order about one collection, from its second page on if so wished."""

    path: str = ""
    is_later_page: bool = False

    def matches(self, seen: Seen) -> bool:
        here = (
            seen.path.endswith(self.path) and not seen.is_watch and (not self.is_later_page or "continue" in seen.query)
        )
        return here and super().matches(seen)


def status(code: int, reason: str) -> bytes:
    return json.dumps(
        {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": reason}
    ).encode()


@asynccontextmanager
async def reading(cluster: Cluster, *, user: str = "") -> AsyncIterator[tuple[UsageReader, KubeClient, FaultProxy]]:
    """A reader behind the proxy, the administrator in front of it."""
    async with (
        FaultProxy(cluster.kubeconfig) as proxy,
        KubeClient.connect(proxy.connection) as asking,
        KubeClient.connect(Connection(cluster.kubeconfig)) as client,
    ):
        yield UsageReader(asking.acting_as(user) if user else asking, decode), client, proxy


Story = Callable[[UsageReader, KubeClient, FaultProxy], Awaitable[None]]


def tell(cluster: Cluster, story: Story, *, user: str = "") -> None:
    async def run() -> None:
        async with reading(cluster, user=user) as (reader, client, proxy):
            await story(reader, client, proxy)

    asyncio.run(run())


def seen(usage: Usage, account: Account) -> set[tuple[str, str, Strength]]:
    """Who claims an account by its own name: kind, namespace/name, strength."""
    return {
        (claim.holder.kind, f"{claim.holder.namespace}/{claim.holder.name}".lstrip("/"), claim.strength)
        for claim in usage.claims.get(account, ())
    }


def template(account: str) -> Object:
    container = {"name": "main", "image": "registry.example.com/shop"}
    return {
        "metadata": {"labels": {"app": account}},
        "spec": {"serviceAccountName": account, "containers": [container], "restartPolicy": "Always"},
    }


def once(account: str) -> Object:
    given = template(account)
    del given["metadata"]["labels"]
    given["spec"]["restartPolicy"] = "Never"
    return given


def workload(api_version: str, kind: str, namespace: str, name: str, **spec: object) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template(name), **spec},
    }


def release_secret(namespace: str, name: str, version: int, status: str, *accounts: str) -> Object:
    documents = [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}} for account in accounts]
    text = "".join(f"---\n# Source: shop/{index}.yaml\n{json.dumps(one)}\n" for index, one in enumerate(documents))
    release = {"name": name, "namespace": namespace, "version": version, "info": {"status": status}, "manifest": text}
    packed = base64.b64encode(gzip.compress(json.dumps(release).encode()))
    body = manifest("Secret", f"sh.helm.release.v1.{name}.v{version}", namespace, type="helm.sh/release.v1")
    body["metadata"]["labels"] = {"name": name, "owner": "helm", "status": status, "version": str(version)}
    return body | {"data": {"release": base64.b64encode(packed).decode()}}


def definition(group: str, kind: str, schema: Object) -> Object:
    plural = f"{kind.lower()}s"
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def custom(cluster: Cluster, group: str, kind: str, namespace: str, name: str, spec: Object) -> None:
    body = {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    cluster.kubectl("create", "-f", "-", input=json.dumps(body))


BARE = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture
def kinds(cluster: Cluster, control_namespace: str) -> Iterator[str]:
    """Yield a group with a kind Robot that has a serviceAccountName, and define a well-known kind without a schema."""
    group = f"{control_namespace}.example.com"
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"serviceAccountName": {"type": "string"}}}},
    }
    known = definition("secrets.hashicorp.com", "VaultAuth", BARE)
    made = [definition(group, "Robot", schema), known]
    for one in made:
        cluster.kubectl("create", "-f", "-", input=json.dumps(one))
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{one['metadata']['name']}", "--timeout=20s")
    yield group
    for one in made:
        cluster.kubectl("delete", "crd", one["metadata"]["name"], "--ignore-not-found")


@pytest.fixture
def elsewhere(cluster: Cluster, control_namespace: str) -> Iterator[str]:
    """Yield another namespace."""
    name = f"{control_namespace}-two"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.discard(name)


# --- Every source


def test_pods_and_templates_are_seen(cluster: Cluster, control_namespace: str) -> None:
    here = control_namespace
    names = ["bare", "deployed", "replicated", "stateful", "daemonic", "working", "timed", "controlled", "idle"]
    objects: list[Object] = [
        manifest("Pod", "bare", here, spec=template("bare")["spec"] | {"nodeSelector": {"no": "where"}}),
        workload("apps/v1", "Deployment", here, "deployed"),
        workload("apps/v1", "Deployment", here, "idle", replicas=0),
        workload("apps/v1", "ReplicaSet", here, "replicated"),
        workload("apps/v1", "StatefulSet", here, "stateful", serviceName="stateful"),
        workload("apps/v1", "DaemonSet", here, "daemonic"),
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "working", "namespace": here},
            "spec": {"template": once("working"), "suspend": False},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "timed", "namespace": here},
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": once("timed")}}},
        },
        {
            "apiVersion": "v1",
            "kind": "ReplicationController",
            "metadata": {"name": "controlled", "namespace": here},
            "spec": {"selector": {"app": "controlled"}, "template": template("controlled"), "replicas": 1},
        },
        manifest("Pod", "nameless", here, spec={"containers": template("x")["spec"]["containers"]}),
    ]

    async def story(reader: UsageReader, client: KubeClient, _: FaultProxy) -> None:
        for name in names:
            await make_account(client, here, name)
        for one in objects:
            await client.create(one, manager=MANAGER)
        usage = await reader.read()
        assert usage.faults == ()
        expected = {
            "bare": ("Pod", Strength.LIVE),
            "deployed": ("Deployment", Strength.LIVE),
            "idle": ("Deployment", Strength.LATENT),
            "replicated": ("ReplicaSet", Strength.LIVE),
            "stateful": ("StatefulSet", Strength.LIVE),
            "daemonic": ("DaemonSet", Strength.LIVE),
            "working": ("Job", Strength.LIVE),
            "timed": ("CronJob", Strength.LIVE),
            "controlled": ("ReplicationController", Strength.LIVE),
        }
        for name, (kind, strength) in expected.items():
            assert seen(usage, Account(here, name)) == {(kind, f"{here}/{name}", strength)}
        assert ("Pod", f"{here}/nameless", Strength.LIVE) in seen(usage, Account(here, "default"))

    tell(cluster, story)


def test_grants_from_elsewhere_are_seen(cluster: Cluster, control_namespace: str, elsewhere: str) -> None:
    here = control_namespace
    ref = {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"}

    def binding(kind: str, name: str, subject: Object) -> Object:
        where = {"namespace": elsewhere} if kind == "RoleBinding" else {}
        return {
            "apiVersion": f"{RBAC}/v1",
            "kind": kind,
            "metadata": {"name": name, **where},
            "roleRef": ref,
            "subjects": [subject],
        }

    account = {"kind": "ServiceAccount", "name": "shared", "namespace": here}
    user = {"apiGroup": RBAC, "kind": "User", "name": f"system:serviceaccount:{here}:shared"}
    group = {"apiGroup": RBAC, "kind": "Group", "name": f"system:serviceaccounts:{here}"}
    rules = [
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"], "resourceNames": ["shared"]}
    ]
    objects: list[Object] = [
        binding("RoleBinding", "by-account", account),
        binding("RoleBinding", "by-user", user),
        binding("RoleBinding", "by-group", group),
        binding("ClusterRoleBinding", f"{here}-everywhere", account),
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "Role",
            "metadata": {"name": "actor", "namespace": here},
            "rules": rules,
        },
    ]

    async def story(reader: UsageReader, client: KubeClient, _: FaultProxy) -> None:
        await make_account(client, here, "shared")
        for one in objects:
            await client.create(one, manager=MANAGER)
        try:
            usage = await reader.read()
        finally:
            cluster.kubectl("delete", "clusterrolebinding", f"{here}-everywhere")
        assert seen(usage, Account(here, "shared")) == {
            ("RoleBinding", f"{elsewhere}/by-account", Strength.GRANT),
            ("RoleBinding", f"{elsewhere}/by-user", Strength.GRANT),
            ("ClusterRoleBinding", f"{here}-everywhere", Strength.GRANT),
            ("Role", f"{here}/actor", Strength.GRANT),
        }
        assert seen(usage, Account(here, EVERY)) == {("RoleBinding", f"{elsewhere}/by-group", Strength.GRANT)}

    tell(cluster, story)


def test_custom_resources_are_seen_by_table_and_by_discovery(
    cluster: Cluster, control_namespace: str, kinds: str
) -> None:
    here = control_namespace
    custom(cluster, kinds, "Robot", here, "robot", {"serviceAccountName": "shared"})
    login = {"kubernetes": {"role": "shop", "serviceAccount": "shared"}}
    custom(cluster, "secrets.hashicorp.com", "VaultAuth", here, "vault", login)

    async def story(reader: UsageReader, client: KubeClient, _: FaultProxy) -> None:
        await make_account(client, here, "shared")
        usage = await reader.read()
        assert usage.faults == ()
        assert seen(usage, Account(here, "shared")) == {
            ("Robot", f"{here}/robot", Strength.LIVE),
            ("VaultAuth", f"{here}/vault", Strength.LIVE),
        }

    tell(cluster, story)


def test_tokens_releases_owners_and_identities_are_seen(cluster: Cluster, control_namespace: str) -> None:
    here = control_namespace

    async def story(reader: UsageReader, client: KubeClient, _: FaultProxy) -> None:
        owner = await client.create(manifest("ConfigMap", "owner", here), manager=MANAGER)
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
        notes = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/shop"}
        await make_account(client, here, "shared", annotations=notes, ownerReferences=[reference])
        token = manifest("Secret", "token", here, type=TOKEN)
        token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "shared"}
        await client.create(token, manager=MANAGER)
        for secret in (
            release_secret(here, "shop", 1, "superseded", "former"),
            release_secret(here, "shop", 2, "deployed", "shared"),
            release_secret(here, "shop", 3, "failed", "coming"),
            release_secret(here, "other", 1, "deployed", "shared"),
            release_secret(here, "ended", 1, "uninstalled", "shared"),
        ):
            await client.create(secret, manager=MANAGER)
        usage = await reader.read()
        assert seen(usage, Account(here, "shared")) == {
            ("AWSRole", "arn:aws:iam::1:role/shop", Strength.IDENTITY),
            ("ConfigMap", f"{here}/owner", Strength.PATH),
            ("HelmRelease", f"{here}/other", Strength.OWNER),
            ("HelmRelease", f"{here}/shop", Strength.OWNER),
            ("Secret", f"{here}/token", Strength.LATENT),
        }
        assert seen(usage, Account(here, "coming")) == {("HelmRelease", f"{here}/shop", Strength.OWNER)}
        assert seen(usage, Account(here, "former")) == set()

    tell(cluster, story)


def test_a_release_that_helm_itself_stored_is_read(cluster: Cluster, control_namespace: str, tmp_path: Path) -> None:
    hook = {"helm.sh/hook": "pre-delete"}
    job: Object = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "bye", "annotations": hook},
        "spec": {"template": once("cleaner")},
    }
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: shop\nversion: 1.0.0\n")
    (tmp_path / "templates" / "account.yaml").write_text(json.dumps(manifest("ServiceAccount", "shared")))
    (tmp_path / "templates" / "bye.yaml").write_text(json.dumps(job))
    helm = [str(cluster.binaries / "helm"), "--kubeconfig", str(cluster.kubeconfig), "--namespace", control_namespace]
    subprocess.run([*helm, "install", "shop", str(tmp_path)], check=True, capture_output=True)

    async def story(reader: UsageReader, client: KubeClient, _: FaultProxy) -> None:
        usage = await reader.read()
        release = ("HelmRelease", f"{control_namespace}/shop", Strength.OWNER)
        assert seen(usage, Account(control_namespace, "shared")) == {release}
        (secret,) = (await client.list(SECRETS, control_namespace, field_selector="type=helm.sh/release.v1")).items
        stored = decode(secret)
        assert (stored.name, stored.namespace, stored.version, stored.status) == (
            "shop",
            control_namespace,
            1,
            "deployed",
        )
        assert [account["metadata"]["name"] for account in stored.accounts] == ["shared"]
        assert stored.delete_hook_accounts == (Account(control_namespace, "cleaner"),)

    tell(cluster, story)


def test_a_release_is_read_once_and_again_when_it_changed(cluster: Cluster, control_namespace: str) -> None:
    here = control_namespace

    async def story(reader: UsageReader, client: KubeClient, proxy: FaultProxy) -> None:
        def reads() -> int:
            named = f"metadata.name=sh.helm.release.v1.{here}.v1"
            return sum(request.query.get("fieldSelector") == named for request in proxy.seen)

        first = release_secret(here, here, 1, "deployed", "one")
        await client.create(first, manager=MANAGER)
        for _ in range(2):
            assert seen(await reader.read(), Account(here, "one")) == {
                ("HelmRelease", f"{here}/{here}", Strength.OWNER)
            }
        assert reads() == 1
        await client.apply(release_secret(here, here, 1, "deployed", "two"), manager=MANAGER)
        usage = await reader.read()
        assert seen(usage, Account(here, "one")) == set()
        assert seen(usage, Account(here, "two")) == {("HelmRelease", f"{here}/{here}", Strength.OWNER)}
        assert reads() == 2

    tell(cluster, story)


def test_a_damaged_release_is_noted_and_stops_nothing(cluster: Cluster, control_namespace: str) -> None:
    async def story(reader: UsageReader, client: KubeClient, _: FaultProxy) -> None:
        damaged = release_secret(control_namespace, "broken", 1, "deployed")
        damaged["data"]["release"] = base64.b64encode(b"nonsense").decode()
        await client.create(damaged, manager=MANAGER)
        usage = await reader.read()
        assert usage.is_complete
        assert any(f"{control_namespace}/sh.helm.release.v1.broken.v1" in note for note in usage.notes)

    tell(cluster, story)


# --- What cannot be read


@pytest.fixture
def limited(cluster: Cluster, control_namespace: str) -> Iterator[Callable[..., str]]:
    """Yield a maker of users who may list everything that is needed but some kinds."""
    made: list[str] = []

    def make(*missing: str) -> str:
        user = f"{control_namespace}-{len(made)}"
        made.append(user)
        resources = [lookup(*source) for source in SOURCES]
        rules = [
            {"apiGroups": [one.group], "resources": [one.plural], "verbs": ["list"]}
            for one in resources
            if one.plural not in missing
        ]
        rules.append({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "list"]})
        role = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}
        cluster.kubectl("create", "-f", "-", input=json.dumps(role))
        cluster.kubectl("create", "clusterrolebinding", user, f"--clusterrole={user}", f"--user={user}")
        return user

    yield make
    for user in made:
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", user)


async def without_delay(reader: UsageReader, *, faults: int) -> Usage:
    """The graph once RBAC has reached the authorizer."""
    last = Usage()

    async def fact() -> bool:
        nonlocal last
        last = await reader.read()
        return len(last.faults) == faults

    await eventually_async(fact, message=f"not {faults} faults")
    return last


def test_a_kind_that_may_not_be_listed_is_a_fault(cluster: Cluster, limited: Callable[..., str]) -> None:
    async def story(reader: UsageReader, _: KubeClient, __: FaultProxy) -> None:
        (fault,) = (await without_delay(reader, faults=1)).faults
        assert "list CronJob" in fault
        assert "cannot list resource" in fault
        assert "apply the manifests" in fault

    tell(cluster, story, user=limited("cronjobs"))


def test_a_custom_kind_that_may_not_be_listed_is_a_fault_that_says_which_role_helps(
    cluster: Cluster, control_namespace: str, limited: Callable[..., str]
) -> None:
    group = f"{control_namespace}.example.com"
    schema = {"type": "object", "properties": {"serviceAccountName": {"type": "string"}}}
    cluster.kubectl("create", "-f", "-", input=json.dumps(definition(group, "Robot", schema)))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/robots.{group}", "--timeout=20s")

    async def story(reader: UsageReader, _: KubeClient, __: FaultProxy) -> None:
        async def mine() -> list[str]:
            return [fault for fault in (await reader.read()).faults if group in fault]

        (fault,) = await eventually_async(mine)
        assert 'envprov.io/aggregate-to-guard: "true"' in fault
        assert f"apiGroups: [{group}], resources: [robots], verbs: [list]" in fault

    try:
        tell(cluster, story, user=limited())
    finally:
        cluster.kubectl("delete", "crd", f"robots.{group}")


def test_secrets_are_looked_at_where_they_are_asked_for_and_the_rest_is_noted(
    cluster: Cluster, control_namespace: str, elsewhere: str, limited: Callable[..., str]
) -> None:
    user = limited()
    cluster.kubectl("-n", control_namespace, "create", "role", "r", "--verb=list", "--resource=secrets")
    cluster.kubectl("-n", control_namespace, "create", "rolebinding", "r", "--role=r", f"--user={user}")

    async def story(reader: UsageReader, client: KubeClient, _: FaultProxy) -> None:
        secret = release_secret(control_namespace, "shop", 1, "deployed", "shared")
        await client.create(secret, manager=MANAGER)
        unasked = await without_delay(reader, faults=0)
        assert seen(unasked, Account(control_namespace, "shared")) == set()
        assert "Secrets were looked at in no namespace only" in unasked.notes[0]
        asked = await reader.read(frozenset({control_namespace}))
        assert asked.faults == ()
        assert seen(asked, Account(control_namespace, "shared")) != set()
        assert f"Secrets were looked at in {control_namespace} only" in asked.notes[0]
        (fault,) = (await reader.read(frozenset({control_namespace, elsewhere}))).faults
        assert "list Secret" in fault
        assert f"grant the controller list of secrets in Namespace {elsewhere}" in fault
        gone = await reader.read(frozenset({control_namespace, "no-such-namespace"}))
        assert gone.faults == ()

    tell(cluster, story, user=user)


@pytest.mark.parametrize(
    ("answer", "code", "times"),
    [
        pytest.param(status(500, "InternalError"), 500, 2, id="error of the server"),
        pytest.param(
            b'{"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": [{"meta', 200, 2, id="cut off"
        ),
        pytest.param(b'{"kind": "Status"}', 200, 2, id="no list"),
        pytest.param(b'{"metadata": {"resourceVersion": "1"}, "items": [1]}', 200, 2, id="no objects"),
        pytest.param(status(410, "Expired"), 410, 2, id="forgotten"),
        pytest.param(status(429, "TooManyRequests"), 429, 1, id="too many requests"),
    ],
)
def test_a_list_that_fails_is_a_fault(cluster: Cluster, answer: bytes, code: int, times: int) -> None:
    async def story(reader: UsageReader, _: KubeClient, proxy: FaultProxy) -> None:
        proxy.order(At(code, answer, {"Content-Type": "application/json"}, path="/pods", times=times))
        (fault,) = (await reader.read()).faults
        assert fault.startswith("list Pod: ")
        assert (await reader.read()).is_complete

    tell(cluster, story)


@pytest.mark.parametrize(("times", "is_complete"), [(1, True), (2, False)])
def test_a_moment_forgotten_between_two_pages_is_read_again_once(
    cluster: Cluster, control_namespace: str, kinds: str, times: int, *, is_complete: bool
) -> None:
    here = control_namespace
    robots = [
        {
            "apiVersion": f"{kinds}/v1",
            "kind": "Robot",
            "metadata": {"name": f"robot-{number:02}", "namespace": here},
            "spec": {"serviceAccountName": "shared"},
        }
        for number in range(60)
    ]
    cluster.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": robots}))

    async def story(reader: UsageReader, client: KubeClient, proxy: FaultProxy) -> None:
        await make_account(client, here, "shared")
        proxy.order(At(410, status(410, "Expired"), path="/robots", is_later_page=True, times=times))
        usage = await reader.read()
        assert usage.is_complete is is_complete
        assert all("list Robot" in fault and "Expired" in fault for fault in usage.faults)
        if is_complete:
            assert len(usage.claims[Account(here, "shared")]) == 60

    tell(cluster, story)


def test_a_kind_that_goes_meanwhile_is_no_fault(cluster: Cluster, kinds: str) -> None:
    async def story(reader: UsageReader, client: KubeClient, proxy: FaultProxy) -> None:
        proxy.order(At(404, status(404, "NotFound"), path="/robots", times=9))
        (fault,) = (await reader.read()).faults
        assert "repair what serves them" in fault
        live = await client.get(CUSTOM_RESOURCE_DEFINITIONS, f"robots.{kinds}")
        assert live is not None
        # The definitions are read, then it goes, then its objects are to be read.
        proxy.seen.clear()
        proxy.delay = 1.0
        reads = asyncio.create_task(reader.read())

        async def objects_are_asked_for() -> bool:
            return any(request.path.endswith("/robots") for request in proxy.seen)

        await eventually_async(objects_are_asked_for, every=0.01)
        proxy.blocked = True
        await client.delete(CUSTOM_RESOURCE_DEFINITIONS, f"robots.{kinds}", uid=live["metadata"]["uid"])

        async def is_gone() -> bool:
            return await client.get(CUSTOM_RESOURCE_DEFINITIONS, f"robots.{kinds}") is None

        await eventually_async(is_gone)
        proxy.blocked = False
        assert (await reads).faults == ()
        assert any("fieldSelector" in request.query for request in proxy.seen if "customresource" in request.path)

    tell(cluster, story)


# --- One pass at a time


def test_those_who_ask_during_a_pass_share_the_next_one(cluster: Cluster, control_namespace: str) -> None:
    async def story(reader: UsageReader, client: KubeClient, proxy: FaultProxy) -> None:
        def passes() -> int:
            return sum(request.path == PODS.path() for request in proxy.seen)

        proxy.delay = 0.3
        running = asyncio.create_task(reader.read())

        async def has_begun() -> bool:
            return passes() == 1

        await eventually_async(has_begun, every=0.01)
        await make_account(client, control_namespace, "late", annotations={"vault.hashicorp.com/role": "shop"})
        late = [asyncio.create_task(reader.read()) for _ in range(5)]
        first, *others = await asyncio.gather(running, *late)
        assert passes() == 2
        assert all(other is others[0] for other in others)
        assert first is not others[0]
        assert Account(control_namespace, "late") in others[0].claims

    tell(cluster, story)


def test_a_pass_that_nobody_waits_for_ends(cluster: Cluster) -> None:
    async def story(reader: UsageReader, _: KubeClient, proxy: FaultProxy) -> None:
        proxy.blocked = True
        waiting = [asyncio.create_task(reader.read()) for _ in range(3)]

        async def has_begun() -> bool:
            return bool(proxy.seen)

        await eventually_async(has_begun, every=0.01)
        waiting[0].cancel()
        await asyncio.wait({waiting[0]})
        assert not waiting[1].done()
        for task in waiting[1:]:
            task.cancel()
        await asyncio.wait(waiting)

        async def has_ended() -> bool:
            return all(task.get_name() != "usage" for task in asyncio.all_tasks())

        await eventually_async(has_ended, within=5)
        proxy.blocked = False
        assert (await reader.read()).is_complete

    tell(cluster, story)


# --- Discovery and impersonation


def test_discovery_knows_kinds_with_verbs_and_tells_of_broken_groups(
    cluster: Cluster, control_namespace: str, kinds: str
) -> None:
    group = f"{control_namespace}.broken.example.com"
    service: dict[str, Any] = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}"},
        "spec": {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 1,
            "versionPriority": 1,
            "insecureSkipTLSVerify": True,
            "service": {"name": "nothing", "namespace": control_namespace},
        },
    }
    cluster.kubectl("create", "-f", "-", input=json.dumps(service))

    async def run() -> None:
        async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:

            async def has_it() -> bool:
                return f"{group}/v1" in (await discover(client)).stale

            await eventually_async(has_it, message="the broken group is not told of")
            found = await discover(client)
            by_kind = {(one.resource.api_version, one.resource.kind): one for one in found.kinds}
            assert by_kind["v1", "ServiceAccount"].resource == SERVICE_ACCOUNTS
            assert by_kind["v1", "ServiceAccount"].verbs >= {"list", "delete", "deletecollection", "watch"}
            assert by_kind[f"{kinds}/v1", "Robot"].resource.plural == "robots"
            assert ("v1", "Namespace") not in by_kind
            assert ("v1", "Binding") not in by_kind
            names = {(one.resource.group, one.resource.plural) for one in found.kinds}
            assert len(names) == len(found.kinds)
            assert ("autoscaling/v2", "HorizontalPodAutoscaler") in by_kind
            assert ("autoscaling/v1", "HorizontalPodAutoscaler") not in by_kind

    try:
        asyncio.run(run())
    finally:
        cluster.kubectl("delete", "apiservice", f"v1.{group}")


def test_acting_as_an_account_has_its_rights_and_shares_the_connection(
    cluster: Cluster, control_namespace: str
) -> None:
    async def run() -> None:
        async with KubeClient.connect(Connection(cluster.kubeconfig)) as client:
            account = await make_account(client, control_namespace, "robot")
            acting = client.acting_as(f"system:serviceaccount:{account}".replace("/", ":"))
            review = await acting.get_raw("/apis/authentication.k8s.io/v1")
            assert review["kind"] == "APIResourceList"
            assert not await can_i(acting, "list", "", "pods", control_namespace)
            assert await can_i(client, "list", "", "pods", control_namespace)

    asyncio.run(run())
