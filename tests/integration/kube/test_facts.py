"""What a chart depends on, read from a real API server: what is there, what may not be seen, and what is granted."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.checking import ClusterFacts, Given
from envprov.domain.checks import classes, references, rights
from envprov.domain.checks.catalogue import check
from envprov.domain.desired import INSTALLER, Desired, desire
from envprov.domain.findings import refusing
from envprov.domain.names import slug
from envprov.domain.objects import INSTALLER_ROLE
from envprov.kube.client import Connection, KubeClient
from envprov.kube.facts import FactsReader
from envprov.plan_wiring import charts_of, planner_of
from envprov.releases.command import HelmSettings
from envprov.releases.engine import Helm
from envprov.settings import Settings
from tests.cluster import Cluster
from tests.eventually import eventually, eventually_async
from tests.faults import FaultProxy
from tests.unit.builders import environment, platform, project

ROOT = Path(__file__).parents[3]
JUDGED = (*classes.RULES, *references.RULES, *rights.RULES)
RBAC = "rbac.authorization.k8s.io"

Manifest = dict[str, Any]
Read = Callable[..., Awaitable[ClusterFacts]]


@dataclass(frozen=True)
class Place:
    """A place for one environment."""

    cluster: Cluster
    desired: Desired

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return self.desired.identity.namespace

    def create(self, *manifests: Manifest) -> None:
        """Create objects, in the namespace if they say nothing else."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.cluster.kubectl("create", "-n", self.namespace, "-f", "-", input=json.dumps(listed))

    def read(self, *objects: Manifest, user: str = "") -> ClusterFacts:
        """Read the facts for a chart, as the administrator or as somebody else."""

        async def run() -> ClusterFacts:
            async with KubeClient.connect(Connection(self.cluster.kubeconfig)) as client:
                reader = FactsReader(client.acting_as(user) if user else client)
                return await reader.read(self.desired, objects)

        return asyncio.run(run())


def wanted_for(branch: str) -> Desired:
    """Return what ought to be for a branch."""
    record = environment().model_copy(update={"name": slug("shop", branch)})
    record = record.model_copy(update={"spec": record.spec.model_copy(update={"branch": branch})})
    copies = [{"namespace": "envprov-system", "name": "registry-pull"}]
    return desire(record, project(copySecrets=copies), platform())


@pytest.fixture
def unique() -> str:
    """Return a name that no other test has."""
    return f"facts-{secrets.token_hex(4)}"


@pytest.fixture
def nowhere(cluster: Cluster, unique: str) -> Place:
    """Return a place whose namespace has not been made."""
    return Place(cluster, wanted_for(unique))


@pytest.fixture
def place(nowhere: Place) -> Iterator[Place]:
    """Yield a place with a namespace."""
    nowhere.cluster.kubectl("create", "namespace", nowhere.namespace)
    yield nowhere
    nowhere.cluster.kubectl("delete", "namespace", nowhere.namespace, "--wait=false")


@pytest.fixture(scope="module")
def roles(cluster: Cluster) -> None:
    """Install the roles of environments; they stay, for others install them too."""
    cluster.kubectl("apply", "-f", str(ROOT / "k8s" / "rbac-environment.yaml"))
    eventually(
        lambda: "configmaps" in cluster.kubectl("get", "clusterrole", INSTALLER_ROLE, "-o", "yaml"),
        message="the role was not aggregated",
    )


def thing(api_version: str, kind: str, name: str, **rest: Any) -> Manifest:  # noqa: ANN401 - any field
    """Return an object; *annotations* and *namespace* go where they belong."""
    metadata = {key: rest.pop(key) for key in ("annotations", "namespace") if key in rest}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **metadata}, **rest}


def pod(**spec: Any) -> Manifest:  # noqa: ANN401 - any field
    """Return a pod of a chart."""
    return thing("v1", "Pod", "web", spec={"containers": [{"name": "main", "image": "x"}], **spec})


def rule(verbs: str, resources: str, group: str = "", **rest: Any) -> Manifest:  # noqa: ANN401 - other fields
    """Return a rule."""
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split(), **rest}


EVERYTHING = pod(
    serviceAccountName="a",
    priorityClassName="a",
    runtimeClassName="a",
    volumes=[
        {"name": "s", "secret": {"secretName": "a"}},
        {"name": "c", "configMap": {"name": "a"}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "a"}},
    ],
)
WANTED = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
CLAIM = thing("v1", "PersistentVolumeClaim", "data", spec=WANTED | {"storageClassName": "a"})
INGRESS = thing("networking.k8s.io/v1", "Ingress", "web", spec={"ingressClassName": "a"})
BINDING = thing(
    f"{RBAC}/v1",
    "RoleBinding",
    "web",
    roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
    subjects=[],
)
OWN_BINDING = thing(
    f"{RBAC}/v1", "RoleBinding", "own", roleRef={"apiGroup": RBAC, "kind": "Role", "name": "own"}, subjects=[]
)
CHART = (EVERYTHING, CLAIM, INGRESS, BINDING, OWN_BINDING)


# --- What is there


@pytest.mark.usefixtures("roles")
def test_all_that_a_chart_depends_on_is_read(place: Place, unique: str) -> None:
    classes = [
        thing("storage.k8s.io/v1", "StorageClass", f"{unique}-s", provisioner="example.com/none"),
        thing("scheduling.k8s.io/v1", "PriorityClass", f"{unique}-p", value=1),
        thing("networking.k8s.io/v1", "IngressClass", f"{unique}-i", spec={"controller": "example.com/none"}),
        thing("node.k8s.io/v1", "RuntimeClass", f"{unique}-r", handler="none"),
    ]
    place.create(
        *classes,
        thing(f"{RBAC}/v1", "Role", "own", rules=[rule("get", "pods")]),
        thing("v1", "Secret", "by-hand"),
        thing("v1", "ConfigMap", "by-hand"),
        thing("v1", "ServiceAccount", "by-hand"),
        CLAIM | {"spec": WANTED},
    )
    try:
        facts = place.read(*CHART)
    finally:
        for item in classes:
            place.cluster.kubectl("delete", item["kind"], item["metadata"]["name"])
    assert facts.scopes["v1", "Pod"] is True
    assert facts.scopes["v1", "Namespace"] is False
    assert facts.scopes["autoscaling/v1", "HorizontalPodAutoscaler"] is True
    assert facts.scopes["autoscaling/v2", "HorizontalPodAutoscaler"] is True
    assert facts.plurals["networking.k8s.io/v1", "NetworkPolicy"] == "networkpolicies"
    assert facts.plurals["v1", "Endpoints"] == "endpoints"
    found = (facts.storage_classes, facts.priority_classes, facts.ingress_classes, facts.runtime_classes)
    for known, suffix in zip(found, "spir", strict=True):
        assert known is not None
        assert known[f"{unique}-{suffix}"]["metadata"]["name"] == f"{unique}-{suffix}"
    assert facts.secrets == frozenset({"by-hand", "registry-pull"})
    assert facts.config_maps == frozenset({"by-hand", "kube-root-ca.crt"})
    assert facts.service_accounts == frozenset({"by-hand", "default", INSTALLER})
    assert facts.claims == frozenset({"data"})
    assert facts.roles == {"own": (rule("get", "pods"),)}
    assert facts.cluster_roles is not None
    assert any("pods/log" in one["resources"] for one in facts.cluster_roles["view"])
    assert facts.installer is not None
    assert any("poddisruptionbudgets" in one.get("resources", ()) for one in facts.installer)


def test_what_the_release_loses_with_this_chart_is_not_there(place: Place) -> None:
    def of_release(name: str, **more: str) -> Manifest:
        return thing(
            "v1",
            "ConfigMap",
            name,
            annotations={"meta.helm.sh/release-name": place.desired.identity.name, **more},
        )

    place.create(
        of_release("dropped"),
        of_release("rendered-again"),
        of_release("kept", **{"helm.sh/resource-policy": "keep"}),
        thing("v1", "ConfigMap", "of-another", annotations={"meta.helm.sh/release-name": "other"}),
    )
    facts = place.read(EVERYTHING, thing("v1", "ConfigMap", "rendered-again"))
    assert facts.config_maps == frozenset({"rendered-again", "kept", "of-another", "kube-root-ca.crt"})


def test_before_the_namespace_is_made_nothing_is_in_it(nowhere: Place) -> None:
    facts = nowhere.read(*CHART)
    assert facts.secrets == frozenset({"registry-pull"})
    assert facts.config_maps == frozenset({"kube-root-ca.crt"})
    assert facts.service_accounts == frozenset({"default", INSTALLER})
    assert facts.claims == frozenset()
    assert facts.roles == {}


def test_a_cluster_role_that_is_not_there_is_known_to_be_missing(nowhere: Place) -> None:
    absent = BINDING | {"roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "no-such-role"}}
    assert nowhere.read(absent).cluster_roles == {}


# --- What may not be seen


def test_what_may_not_be_read_is_unknown_and_not_absent(place: Place) -> None:
    facts = place.read(*CHART, user="nobody@example.com")
    unread = (facts.storage_classes, facts.priority_classes, facts.ingress_classes, facts.runtime_classes)
    assert unread == (None, None, None, None)
    assert (facts.secrets, facts.config_maps, facts.service_accounts, facts.claims) == (None, None, None, None)
    assert (facts.cluster_roles, facts.roles, facts.installer) == (None, None, None)
    assert facts.scopes["v1", "Pod"] is True
    findings = check(Given(place.desired, CHART, facts))
    assert not {finding.reason for finding in refusing(findings)} & {rule.reason for rule in JUDGED}
    assert "NotLookedAt" in {finding.reason for finding in findings}


def test_one_refusal_leaves_the_other_facts_alone(place: Place, unique: str) -> None:
    name = f"{unique}-reader"
    user = f"{unique}@example.com"
    subject = {"apiGroup": RBAC, "kind": "User", "name": user}
    place.create(
        thing(f"{RBAC}/v1", "ClusterRole", name, rules=[rule("list", "storageclasses", "storage.k8s.io")]),
        thing(
            f"{RBAC}/v1",
            "ClusterRoleBinding",
            name,
            roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
            subjects=[subject],
        ),
    )

    def known() -> ClusterFacts | None:
        facts = place.read(*CHART, user=user)
        return facts if facts.storage_classes is not None else None

    try:
        facts = eventually(known, message="the right has not arrived")
    finally:
        place.cluster.kubectl("delete", "clusterrole,clusterrolebinding", name)
    assert facts.priority_classes is None
    assert facts.secrets is None


@pytest.mark.usefixtures("roles")
def test_the_controller_may_read_all_of_it(place: Place, unique: str) -> None:
    name = f"{unique}-controller"
    user = f"controller-{unique}@example.com"
    subject = {"apiGroup": RBAC, "kind": "User", "name": user}
    documents = yaml.safe_load_all((ROOT / "k8s" / "rbac-controller.yaml").read_text())
    rules = next(one["rules"] for one in documents if one["kind"] == "ClusterRole")

    def bound(kind: str, binding: str, role: str) -> Manifest:
        return thing(
            f"{RBAC}/v1",
            kind,
            binding,
            roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            subjects=[subject],
        )

    place.create(
        thing(f"{RBAC}/v1", "ClusterRole", name, rules=rules),
        bound("ClusterRoleBinding", name, name),
        bound("RoleBinding", "envprov-controller", "envprov-env-controller"),
    )

    def unread() -> set[str]:
        facts = place.read(*CHART, user=user)
        # Those that are for others to add.
        return {key for key, value in vars(facts).items() if value is None} - {"blind", "nodes", "release_bytes"}

    try:
        eventually(lambda: not unread(), message="something may not be read")
    finally:
        place.cluster.kubectl("delete", "clusterrole,clusterrolebinding", name)


# --- How much is asked


def story(place: Place, told: Callable[[FaultProxy, Read], Awaitable[None]]) -> None:
    """Run a story with one reader behind a proxy that sees what is asked."""

    async def run() -> None:
        async with FaultProxy(place.cluster.kubeconfig) as proxy, KubeClient.connect(proxy.connection) as client:
            reader = FactsReader(client)

            async def read(*objects: Manifest) -> ClusterFacts:
                return await reader.read(place.desired, objects)

            await told(proxy, read)

    asyncio.run(run())


def test_only_what_the_chart_depends_on_is_asked_for(nowhere: Place) -> None:
    async def told(proxy: FaultProxy, read: Read) -> None:
        await read(pod())
        # What the server serves, whether the namespace is there, and the installer's rights; no Secret, no class.
        assert {seen.path.partition("/namespaces/")[0] for seen in proxy.seen} == {
            "/api",
            "/apis",
            "/version",
            "/api/v1",
            f"/apis/{RBAC}/v1",
            f"/apis/{RBAC}/v1/clusterroles",
            f"/apis/{RBAC}/v1/clusterrolebindings",
        }
        proxy.seen.clear()
        await read(pod(priorityClassName="a"))
        paths = [seen.path for seen in proxy.seen]
        assert "/apis/scheduling.k8s.io/v1/priorityclasses" in paths
        assert "/apis" not in paths
        assert "/apis/storage.k8s.io/v1/storageclasses" not in paths

    story(nowhere, told)


def test_a_kind_that_was_just_installed_is_known_at_once(nowhere: Place, unique: str) -> None:
    group = f"{unique}.example.com"
    definition = thing(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"wheels.{group}",
        spec={
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Wheel", "plural": "wheels"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            ],
        },
    )
    wheel = thing(f"{group}/v1", "Wheel", "a")

    async def told(proxy: FaultProxy, read: Read) -> None:
        assert (f"{group}/v1", "Wheel") not in (await read(wheel)).scopes
        nowhere.cluster.kubectl("create", "-f", "-", input=json.dumps(definition))

        async def is_known() -> bool:
            return (await read(wheel)).scopes.get((f"{group}/v1", "Wheel")) is True

        await eventually_async(is_known, message="the new kind is not known")
        proxy.seen.clear()
        await asyncio.gather(read(wheel), read(wheel), read(pod()))
        assert [seen.path for seen in proxy.seen if seen.path in {"/api", "/apis"}] == []

    try:
        story(nowhere, told)
    finally:
        nowhere.cluster.kubectl("delete", "crd", f"wheels.{group}", "--ignore-not-found", "--wait=false")


# --- Rights, as the API server judges them

GRANTS = {
    "what charts may": [rule("get list watch", "pods configmaps")],
    "of some": [rule("get", "secrets", resourceNames=["a", "b"])],
    "logs": [rule("get", "pods/log")],
    "another group's": [rule("get list", "leases", "coordination.k8s.io")],
    "what everybody may": [rule("create", "selfsubjectaccessreviews", "authorization.k8s.io")],
    "nothing": [],
    "a shell": [rule("create", "pods/exec")],
    "any verb": [rule("*", "pods")],
    "any resource": [rule("get", "*")],
    "any group": [rule("get", "pods", "*")],
    "any's scale": [rule("patch", "*/scale", "apps")],
    "bind": [rule("bind", "roles", RBAC)],
    "impersonate": [rule("impersonate", "serviceaccounts")],
    "half of it": [rule("get", "pods"), rule("get", "nodes")],
}
BOUND = (INSTALLER_ROLE, "system:basic-user", "view", "edit", "cluster-admin", "no-such-role")
REFUSED = {
    *("a shell", "any verb", "any resource", "any group", "any's scale", "bind", "impersonate", "half of it"),
    *("view", "edit", "cluster-admin", "no-such-role"),
    *("q", "t"),
}
"""Of quota, template and lease the last one may be in a chart."""


def installer_of(place: Place) -> str:
    """Make the installer, wait until it has its rights, and return it as a user."""
    place.create(
        thing("v1", "ServiceAccount", INSTALLER),
        thing(
            f"{RBAC}/v1",
            "RoleBinding",
            INSTALLER,
            roleRef={"apiGroup": RBAC, "kind": "ClusterRole", "name": INSTALLER_ROLE},
            subjects=[{"kind": "ServiceAccount", "name": INSTALLER, "namespace": place.namespace}],
        ),
    )
    user = f"system:serviceaccount:{place.namespace}:{INSTALLER}"
    ask = ("auth", "can-i", "create", "roles", "-n", place.namespace, f"--as={user}")
    eventually(lambda: "yes" in place.cluster.kubectl(*ask, check=False), message="the installer has no rights")
    return user


@pytest.mark.usefixtures("roles")
def test_rights_are_judged_as_the_api_server_does(place: Place) -> None:
    user = installer_of(place)
    chart = [thing(f"{RBAC}/v1", "Role", f"role-{place}", rules=rules) for place, rules in enumerate(GRANTS.values())]
    chart += [
        thing(f"{RBAC}/v1", "RoleBinding", f"binding-{place}", roleRef=BINDING["roleRef"] | {"name": name}, subjects=[])
        for place, name in enumerate(BOUND)
    ]
    chart += [
        thing("v1", "ResourceQuota", "quota", spec={"hard": {"pods": "100"}}),
        thing("v1", "PodTemplate", "template", template={"spec": pod()["spec"]}),
        thing("coordination.k8s.io/v1", "Lease", "lease", spec={}),
    ]
    said = place.cluster.kubectl(
        *("create", "--dry-run=server", "-n", place.namespace, f"--as={user}", "-f", "-"),
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": chart}),
        check=False,
    )
    accepted = set(re.findall(r"^\S+/(\S+) created", said, re.MULTILINE))
    names = dict(zip((item["metadata"]["name"] for item in chart), (*GRANTS, *BOUND, *"qtl"), strict=True))
    judged = {
        one.subject.name
        for one in refusing(check(Given(place.desired, tuple(chart), place.read(*chart))))
        if one.subject
    }
    assert {names[name] for name in judged} == {names[name] for name in names.keys() - accepted}, said
    assert {names[name] for name in judged} == REFUSED


# --- The controller of SealedSecrets


@dataclass
class Unsealer:
    """Answers as the controller of SealedSecrets: yes for what is in *good*."""

    good: set[str] = field(default_factory=set)
    status: int = 0
    asked: list[Manifest] = field(default_factory=list)

    def answer(self, sealed: Manifest) -> int:
        """Return the HTTP status."""
        self.asked.append(sealed)
        return self.status or (200 if sealed["metadata"]["name"] in self.good else 409)


@pytest.fixture
def unsealer(place: Place) -> Iterator[Unsealer]:
    """Yield a controller behind a Service; the API server leads to it."""
    unsealer = Unsealer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(unsealer.answer(json.loads(body)) if self.path == "/v1/verify" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    # The API server leads to no loopback address.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address = probe.getsockname()[0]
    server = ThreadingHTTPServer((address, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    home, port = place.namespace, server.server_address[1]
    place.create(
        thing("v1", "Service", "sealed-secrets-controller", spec={"ports": [{"port": 8080, "targetPort": port}]}),
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "sealed-secrets-controller",
                "labels": {"kubernetes.io/service-name": "sealed-secrets-controller"},
            },
            "addressType": "IPv4",
            "ports": [{"port": port}],
            "endpoints": [{"addresses": [address], "targetRef": {"kind": "Pod", "namespace": home, "name": "web"}}],
        },
        # The API server leads to addresses of pods only. Nothing schedules this one, so nothing changes what it says.
        pod(schedulingGates=[{"name": "envprov.io/never"}]),
    )
    status = {"podIP": address, "podIPs": [{"ip": address}]}
    place.cluster.kubectl(
        *("patch", "pod", "web", "-n", home, "--subresource=status", "--type=merge"),
        "-p",
        json.dumps({"status": status}),
    )
    yield unsealer
    server.shutdown()
    server.server_close()
    thread.join()


def sealed(name: str, **annotations: str) -> Manifest:
    """Return a SealedSecret."""
    marks = {f"sealedsecrets.bitnami.com/{key}-wide": value for key, value in annotations.items()}
    return thing("bitnami.com/v1alpha1", "SealedSecret", name, annotations=marks, spec={"encryptedData": {"a": "AgA"}})


def test_the_controller_of_sealed_secrets_is_asked(place: Place, unsealer: Unsealer, tmp_path: Path) -> None:
    settings = Settings.model_validate({"sealed_secrets": {"namespace": place.namespace}})
    helm = Helm(HelmSettings("helm", tmp_path))
    unsealer.good = {"here", "wide"}
    chart = (sealed("here"), sealed("elsewhere"), sealed("wide", cluster="true"))

    async def run() -> None:
        async with KubeClient.connect(Connection(place.cluster.kubeconfig)) as client:
            reader = planner_of(settings, client, helm, charts_of(settings, tmp_path, client, None)).facts
            facts = await reader.read(place.desired, chart)
            assert {subject.name: verdict for subject, verdict in facts.sealed.items()} == {
                "here": True,
                "elsewhere": False,
                "wide": True,
            }
            assert {one["metadata"]["namespace"] for one in unsealer.asked} == {place.namespace}
            findings = check(Given(place.desired, chart, facts))
            assert [str(one.subject) for one in findings if one.reason == "SealedForOneNamespace"] == [
                "SealedSecret elsewhere"
            ]
            # What can be unsealed stays so; what cannot may have been sealed for a key that comes.
            unsealer.asked.clear()
            await reader.read(place.desired, chart)
            assert [one["metadata"]["name"] for one in unsealer.asked] == ["elsewhere"]
            # Any other answer is none.
            unsealer.status = 429
            assert (await reader.read(place.desired, (sealed("elsewhere"),))).sealed == {}

    asyncio.run(run())


def test_without_a_controller_of_sealed_secrets_nothing_is_known(place: Place) -> None:
    assert place.read(sealed("a")).sealed == {}
