"""What reaches out of the namespace: the words, the warnings, and what the corpus cannot say with a Project alone."""

from __future__ import annotations

from typing import Any

import pytest

from envprov.domain.checking import Blind
from envprov.domain.checks.catalogue import check
from envprov.domain.desired import Desired, desire
from envprov.domain.findings import Finding, Severity
from tests.unit import builders, facts
from tests.unit.builders import NAMESPACE, SLUG

Manifest = dict[str, Any]

RBAC = "rbac.authorization.k8s.io"
CRD = "apiextensions.k8s.io"


def thing(api_version: str, kind: str, name: str = "shop", metadata: Manifest | None = None, **rest: Any) -> Manifest:  # noqa: ANN401 - any field
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name} | (metadata or {})} | rest


def found(*objects: Manifest, desired: Desired | None = None, **seen: Any) -> list[Finding]:  # noqa: ANN401 - any fact
    return [
        finding
        for finding in check(facts.given(*objects, desired=desired, seen=facts.facts(**seen)))
        if finding.reason != "PodSecurityWarning"
    ]


def told(*objects: Manifest, **given: Any) -> list[tuple[str, Severity]]:  # noqa: ANN401 - any fact
    return [(finding.reason, finding.severity) for finding in found(*objects, **given)]


def allowing(*rows: Manifest) -> Desired:
    return facts.wanted(checks={"clusterScoped": list(rows)})


def pod(**spec: Any) -> Manifest:  # noqa: ANN401 - any field
    return thing("v1", "Pod", spec=spec)


def service(**spec: Any) -> Manifest:  # noqa: ANN401 - any field
    return thing("v1", "Service", spec=spec)


def definition(scope: str = "Namespaced", **version: Any) -> Manifest:  # noqa: ANN401 - any field
    spec = {
        "group": "shop.example.com",
        "scope": scope,
        "names": {"kind": "Cart"},
        "versions": [{"name": "v1"} | version],
    }
    return thing(f"{CRD}/v1", "CustomResourceDefinition", "carts.shop.example.com", spec=spec)


# --- Objects of the whole cluster


def test_an_allowed_object_with_the_slug_in_its_name_passes() -> None:
    desired = allowing({"group": RBAC, "kind": "ClusterRole", "name": "shop-*"})

    assert told(thing(f"{RBAC}/v1", "ClusterRole", f"shop-{SLUG}"), desired=desired) == []


def test_an_allowed_object_of_one_name_for_all_branches_is_warned_of() -> None:
    [finding] = found(thing(f"{RBAC}/v1", "ClusterRole"), desired=allowing({"group": RBAC, "kind": "ClusterRole"}))

    assert str(finding) == (
        "ClusterRole shop metadata.name: is one object for all branches: its name does not hold the slug "
        "feature-x-ndvvxpib; let its name hold the slug: the value envprov.slug, or the name of the release"
    )
    assert finding.severity is Severity.WARNING


def test_the_way_out_fits_the_kind() -> None:
    [finding] = found(thing("v1", "Namespace", NAMESPACE))

    assert str(finding) == (
        f"Namespace {NAMESPACE}: belongs to the whole cluster, and not to one branch; "
        "leave it out: envprov makes the namespace"
    )


def test_a_removed_version_of_a_cluster_scoped_kind_is_still_cluster_scoped() -> None:
    assert told(thing(f"{RBAC}/v1beta1", "ClusterRole")) == [
        ("ClusterScoped", Severity.ERROR),
        ("UnknownKind", Severity.ERROR),
    ]


# --- Kinds


@pytest.mark.parametrize(
    ("given", "message", "remedy"),
    [
        pytest.param(
            thing("extensions/v1beta1", "Ingress", spec={"rules": [{"host": "a.example.com"}]}),
            "is extensions/v1beta1 Ingress, which this cluster does not serve; it serves Ingress as "
            "networking.k8s.io/v1",
            "set apiVersion to networking.k8s.io/v1",
            id="removed group -> where it went",
        ),
        pytest.param(
            thing("autoscaling/v2beta2", "HorizontalPodAutoscaler"),
            "is autoscaling/v2beta2 HorizontalPodAutoscaler, which this cluster does not serve; it serves "
            "HorizontalPodAutoscaler as autoscaling/v1 and autoscaling/v2",
            "set apiVersion to autoscaling/v2",
            id="removed version -> the best one",
        ),
        pytest.param(
            thing("policy/v1beta1", "PodSecurityPolicy"),
            "is of a kind that this cluster does not serve: policy/v1beta1 PodSecurityPolicy",
            "leave it out: it was removed in Kubernetes 1.25; the namespace has Pod Security levels instead",
            id="removed for good -> what came instead",
        ),
        pytest.param(
            thing("serving.knative.dev/v1", "Service"),
            "is serving.knative.dev/v1 Service, for which neither the cluster nor the chart has a "
            "CustomResourceDefinition",
            "have the operator installed in the cluster, or switch this part of the chart off",
            id="custom resource with a built-in name -> no hint at the wrong group",
        ),
    ],
)
def test_an_unknown_kind_is_told_where_it_is_known(given: Manifest, message: str, remedy: str) -> None:
    [finding] = found(given)

    assert (finding.message, finding.remedy) == (message, remedy)


def test_a_custom_resource_whose_definition_is_in_the_chart_is_known() -> None:
    desired = allowing({"group": CRD, "kind": "CustomResourceDefinition"})

    cart = thing("shop.example.com/v1", "Cart")
    assert told(definition(), cart, desired=desired) == [("SharedName", Severity.WARNING)]
    assert told(definition(served=False), cart, desired=desired)[0] == ("MissingDefinition", Severity.ERROR)
    assert told(definition(scope="Cluster"), cart, desired=desired)[0] == ("ClusterScoped", Severity.ERROR)


def test_a_kind_that_the_cluster_serves_in_another_version_is_told_so() -> None:
    scopes = facts.kinds(("shop.example.com/v2", "Cart"))

    [finding] = found(thing("shop.example.com/v1", "Cart"), scopes=scopes)

    assert (finding.reason, finding.remedy) == ("UnknownKind", "set apiVersion to shop.example.com/v2")


@pytest.mark.parametrize("stale", [("metrics.example.com/v1",), ("metrics.example.com/v1beta1",)])
def test_a_kind_whose_server_does_not_answer_is_only_noted(stale: tuple[str, ...]) -> None:
    [finding] = found(thing("metrics.example.com/v1", "Sample"), stale=stale)

    assert (finding.reason, finding.severity) == ("KindNotSeen", Severity.NOTE)
    assert finding.message == "could not be looked at: the server of metrics.example.com/v1 does not answer"


def test_other_groups_are_not_excused_by_a_server_that_does_not_answer() -> None:
    assert told(thing("example.com/v1", "Sample"), stale=("metrics.example.com/v1",)) == [
        ("MissingDefinition", Severity.ERROR)
    ]


def test_an_unknown_kind_in_a_foreign_namespace_is_both() -> None:
    assert told(thing("example.com/v1", "Sample", metadata={"namespace": "default"})) == [
        ("ForeignNamespace", Severity.ERROR),
        ("MissingDefinition", Severity.ERROR),
    ]


# --- What is only warned of


@pytest.mark.parametrize(
    ("given", "reason", "field", "message"),
    [
        pytest.param(
            service(type="ExternalName", externalName="db.payments.svc.cluster.local"),
            "ExternalName",
            "spec.externalName",
            "stands for db.payments.svc.cluster.local, of the namespace payments",
            id="name in another namespace",
        ),
        pytest.param(
            service(type="ExternalName", externalName="DB.payments.svc."),
            "ExternalName",
            "spec.externalName",
            "stands for db.payments.svc, of the namespace payments",
            id="short name in another namespace",
        ),
        pytest.param(
            service(type="ExternalName", externalName="10-244-3-7.env-y-2xmjeilo.pod.cluster.local"),
            "ExternalName",
            "spec.externalName",
            "stands for 10-244-3-7.env-y-2xmjeilo.pod.cluster.local, of the namespace env-y-2xmjeilo",
            id="pod of another namespace",
        ),
        pytest.param(
            service(type="ExternalName", externalName="db.env-y-2xmjeilo"),
            "ExternalName",
            "spec.externalName",
            "stands for db.env-y-2xmjeilo, of the namespace env-y-2xmjeilo",
            id="name that search domains complete",
        ),
        pytest.param(
            pod(tolerations=[{"operator": "Exists"}]),
            "ControlPlaneNode",
            "spec.tolerations[0]",
            "the pod tolerates every taint of every node",
            id="tolerates everything",
        ),
        pytest.param(
            pod(tolerations=[{"key": "x"}, {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]),
            "ControlPlaneNode",
            "spec.tolerations[1]",
            "the pod tolerates the taint node-role.kubernetes.io/control-plane",
            id="tolerates the control plane",
        ),
        pytest.param(
            pod(nodeSelector={"node-role.kubernetes.io/control-plane": ""}),
            "ControlPlaneNode",
            "spec.nodeSelector",
            "the pod asks for nodes with the label node-role.kubernetes.io/control-plane",
            id="asks for the control plane",
        ),
        pytest.param(
            thing("apps/v1", "DaemonSet", spec={"template": {"spec": {}}}),
            "PodOnEveryNode",
            "",
            "runs a pod on every node of the cluster",
            id="a pod on every node",
        ),
        pytest.param(
            thing("v1", "ConfigMap", metadata={"annotations": {"helm.sh/resource-policy": " Keep"}}),
            "KeptObject",
            "metadata.annotations[helm.sh/resource-policy]",
            "stays behind when Helm uninstalls the chart",
            id="kept, as Helm reads it",
        ),
        pytest.param(
            thing("v1", "ConfigMap", metadata={"finalizers": ["example.com/wait"]}),
            "Finalizer",
            "metadata.finalizers",
            "cannot be deleted before somebody removes the finalizer example.com/wait",
            id="finalizer of its own",
        ),
        pytest.param(
            thing(
                "networking.k8s.io/v1",
                "NetworkPolicy",
                spec={
                    "ingress": [
                        {
                            "from": [
                                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
                            ]
                        }
                    ]
                },
            ),
            "AdmitsNamespace",
            "spec.ingress[0].from[0].namespaceSelector",
            "lets in pods of the namespace monitoring",
            id="lets in a namespace",
        ),
    ],
)
def test_what_may_be_meant_is_warned_of(given: Manifest, reason: str, field: str, message: str) -> None:
    [finding] = found(given)

    assert (finding.reason, finding.field, finding.message) == (reason, field, message)
    assert finding.severity is Severity.WARNING


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(service(type="ExternalName", externalName="smtp.example.com"), id="name outside the cluster"),
        pytest.param(service(type="ExternalName", externalName=f"db.{NAMESPACE}.svc.cluster.local"), id="own name"),
        pytest.param(service(type="ExternalName", externalName=f"db.{NAMESPACE}"), id="own name, short"),
        pytest.param(service(type="ExternalName", externalName="xn--bcher-kva.example"), id="name in other letters"),
        pytest.param(service(externalName="db.payments.svc.cluster.local"), id="name that is not used"),
        pytest.param(pod(tolerations=[{"key": "example.com/spot", "operator": "Exists"}]), id="a taint of its own"),
        pytest.param(pod(nodeSelector={"kubernetes.io/arch": "arm64"}), id="nodes by their architecture"),
    ],
)
def test_what_stays_inside_is_not_warned_of(given: Manifest) -> None:
    assert told(given) == []


# --- NetworkPolicies and the platform


def egress(*peers: Manifest) -> Manifest:
    return thing("networking.k8s.io/v1", "NetworkPolicy", spec={"egress": [{"to": list(peers)}]})


def on(**network: Any) -> Desired:  # noqa: ANN401 - any field
    return desire(builders.environment(), builders.project(), builders.platform(network=network))


def test_a_public_address_is_reached_unless_the_platform_isolates() -> None:
    policy = egress({"ipBlock": {"cidr": "198.51.100.7/32"}})

    assert told(policy) == []
    [finding] = found(policy, desired=on(profile="isolated"))
    assert finding.message == "lets the environment reach 198.51.100.7/32, and the platform isolates environments"


def test_a_shared_namespace_is_reached_and_no_other() -> None:
    databases = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "databases"}}}

    assert told(egress(databases), desired=on(shared_namespaces=["databases"])) == []
    assert told(egress(databases)) == [("OpensEgress", Severity.ERROR)]


def test_the_ingress_controllers_of_the_platform_may_come_in() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    policy = thing("networking.k8s.io/v1", "NetworkPolicy", spec={"ingress": [{"from": [peer]}]})

    assert told(policy) == []
    assert told(policy, desired=on(ingress_namespaces=["traefik"])) == [("AdmitsNamespace", Severity.WARNING)]


@pytest.mark.parametrize(
    ("block", "reached"),
    [
        pytest.param({"cidr": "0.0.0.0/0"}, "10.0.0.0/8", id="everything -> the first private network"),
        pytest.param({"cidr": "10.1.2.3/32"}, "10.1.2.3/32", id="one private address"),
        pytest.param(
            {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"]},
            "169.254.0.0/16",
            id="all but the metadata service",
        ),
        pytest.param(
            {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/9"]}, "10.0.0.0/8", id="the other half of a private network"
        ),
        pytest.param({"cidr": "::/0"}, "fc00::/7", id="everything in IPv6"),
    ],
)
def test_the_private_network_that_is_opened_is_named(block: Manifest, reached: str) -> None:
    [finding] = found(egress({"ipBlock": block}))

    assert finding.message == f"lets the environment reach private addresses ({reached}) by {block['cidr']}"


# --- Sizes and names


def test_load_balancers_are_counted_against_the_size() -> None:
    balancers = [
        thing("v1", "Service", name, spec={"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False})
        for name in ("web", "admin")
    ]

    assert [finding.message for finding in found(*balancers)] == [
        "is load balancer 2 of the chart, and size S has 0",
        "is load balancer 1 of the chart, and size S has 0",
    ]


def test_hooks_may_share_a_name_with_each_other() -> None:
    hook = thing("batch/v1", "Job", metadata={"annotations": {"helm.sh/hook": "pre-install"}})

    assert told(hook, hook) == []
    assert told(thing("batch/v1", "Job"), thing("batch/v1", "Job")) == [("DuplicateObject", Severity.ERROR)]


def test_the_branch_of_the_environment_itself_may_be_told() -> None:
    own = {"annotations": {"envprov.io/branch": "feature/x"}}

    assert told(thing("v1", "ConfigMap", metadata=own)) == []
    assert told(thing("v1", "ServiceAccount", metadata=own)) == [("ReservedMetadata", Severity.ERROR)]


# --- Names


def test_a_name_that_yaml_takes_for_a_number_is_said_to_be_one() -> None:
    [first, second] = found(thing("v1", "ConfigMap", metadata={"name": 123, "namespace": 7}))

    assert [(one.reason, one.field) for one in (first, second)] == [
        ("InvalidName", "metadata.name"),
        ("InvalidName", "metadata.namespace"),
    ]
    assert first.message == "has 123 as its name, which is no text"


# --- The mesh


def mesh(kind: str, **spec: Any) -> Manifest:  # noqa: ANN401 - any field
    return thing("networking.istio.io/v1", kind, spec=spec)


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        pytest.param(mesh("VirtualService", hosts=["db", "pay.prod.svc.cluster.local"]), "spec.hosts", id="requests"),
        pytest.param(mesh("DestinationRule", host="pay.prod.svc"), "spec.host", id="connections"),
        pytest.param(mesh("DestinationRule", host="pay.prod.svc", exportTo=["*"]), "spec.host", id="said outright"),
    ],
)
def test_rules_about_services_of_others_hold_for_the_whole_mesh(manifest: Manifest, field: str) -> None:
    served = facts.kinds((manifest["apiVersion"], manifest["kind"]))

    [finding] = found(manifest, scopes=served)

    assert (finding.reason, finding.field) == ("ForeignReference", field)
    assert finding.message == "decides about traffic to the namespace prod, for the whole mesh"
    manifest["spec"]["exportTo"] = ["."]
    assert found(manifest, scopes=served) == []


# --- What it asks the cluster


@pytest.mark.parametrize(
    ("fails", "said"), [(True, ("LookupFailed", Severity.ERROR)), (False, ("NotLookedUp", Severity.NOTE))]
)
def test_what_a_chart_asks_in_vain_is_told(said: tuple[str, Severity], *, fails: bool) -> None:
    [finding] = found(blind=Blind("nodes is forbidden", fails=fails))

    assert (finding.reason, finding.severity) == said
    assert "nodes is forbidden" in finding.message
