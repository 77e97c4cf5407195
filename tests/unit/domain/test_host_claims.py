"""Which hosts a rendered chart claims, kind by kind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.charted import charted
from envprov.domain.host_claims import Fault, claimed, claims
from envprov.domain.traefik import matched

Manifest = dict[str, Any]
GATEWAY, ISTIO = "gateway.networking.k8s.io/v1", "networking.istio.io/v1"
DNS, ALIAS = "external-dns.alpha.kubernetes.io/hostname", "nginx.ingress.kubernetes.io/server-alias"


def item(api_version: str, kind: str, *, notes: Manifest | None = None, **spec: Any) -> Manifest:  # noqa: ANN401 - any
    metadata = {"name": "web", "annotations": notes or {}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def ingress(*hosts: str | None, notes: Manifest | None = None, **spec: Any) -> Manifest:  # noqa: ANN401 - any field
    rules: list[Manifest] = [{"host": host} if host is not None else {"http": {}} for host in hosts]
    return item("networking.k8s.io/v1", "Ingress", notes=notes, rules=rules, **spec)


def route(kind: str = "HTTPRoute", **spec: Any) -> Manifest:  # noqa: ANN401 - any field
    return item(GATEWAY, kind, **spec)


def traefik(rule: str) -> Manifest:
    return item("traefik.io/v1alpha1", "IngressRoute", routes=[{"match": rule}])


def read(*manifests: Manifest) -> list[tuple[str, str]]:
    """Path and host of each claim, or its fault."""
    found = claims(charted(manifests, "env-a", {}))
    return [(one.field, one.host or (one.fault.value if one.fault else "")) for one in found]


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        pytest.param(ingress("A.example.com"), [("spec.rules[0].host", "a.example.com")], id="Ingress"),
        pytest.param(ingress(None), [("spec.rules[0].host", "Everything")], id="rule without host"),
        pytest.param(ingress("*"), [("spec.rules[0].host", "Everything")], id="rule for *"),
        pytest.param(ingress(), [("spec.rules", "Everything")], id="Ingress without rules"),
        pytest.param(
            ingress(defaultBackend={"service": {"name": "web"}}),
            [("spec.defaultBackend", "Everything")],
            id="Ingress with nothing but a default backend",
        ),
        pytest.param(
            ingress("a.example.com", tls=[{"hosts": ["a.example.com", "b.example.com"]}]),
            [
                ("spec.rules[0].host", "a.example.com"),
                ("spec.tls[0].hosts[0]", "a.example.com"),
                ("spec.tls[0].hosts[1]", "b.example.com"),
            ],
            id="hosts of TLS",
        ),
        pytest.param(
            ingress("a.example.com", tls=[{"hosts": ["*.example.com"]}]),
            [("spec.rules[0].host", "a.example.com")],
            id="a certificate for all beside it is no claim",
        ),
        pytest.param(
            ingress("a.example.com", tls=[{"hosts": ["*.example.org"]}]),
            [("spec.rules[0].host", "a.example.com"), ("spec.tls[0].hosts[0]", "*.example.org")],
            id="a wildcard of TLS that certifies nothing here is one",
        ),
        pytest.param(
            ingress("a.example.com", notes={ALIAS: "b.example.com, ~^c\\d+$"}),
            [
                ("spec.rules[0].host", "a.example.com"),
                (f"metadata.annotations[{ALIAS}]", "b.example.com"),
                (f"metadata.annotations[{ALIAS}]", "Pattern"),
            ],
            id="aliases of nginx",
        ),
        pytest.param(
            ingress(
                "a.example.com", "www.b.example.com", notes={"nginx.ingress.kubernetes.io/from-to-www-redirect": "true"}
            ),
            [
                ("spec.rules[0].host", "a.example.com"),
                ("spec.rules[1].host", "www.b.example.com"),
                ("metadata.annotations[nginx.ingress.kubernetes.io/from-to-www-redirect]", "www.a.example.com"),
                ("metadata.annotations[nginx.ingress.kubernetes.io/from-to-www-redirect]", "b.example.com"),
            ],
            id="redirects of nginx",
        ),
        pytest.param(
            item("v1", "Service", notes={DNS: "a.example.com,b.example.com."}),
            [(f"metadata.annotations[{DNS}]", "a.example.com"), (f"metadata.annotations[{DNS}]", "b.example.com")],
            id="external-dns on any object",
        ),
        pytest.param(
            item("v1", "Service", notes={"external-dns.alpha.kubernetes.io/internal-hostname": "a.internal"}),
            [("metadata.annotations[external-dns.alpha.kubernetes.io/internal-hostname]", "a.internal")],
            id="external-dns, internal",
        ),
        pytest.param(
            item("apps/v1", "Deployment", template={"metadata": {"annotations": {DNS: "pod.example.com"}}}),
            [(f"spec.template.metadata.annotations[{DNS}]", "pod.example.com")],
            id="external-dns on pods",
        ),
        pytest.param(
            item("externaldns.k8s.io/v1alpha1", "DNSEndpoint", endpoints=[{"dnsName": "a.example.com"}]),
            [("spec.endpoints[0].dnsName", "a.example.com")],
            id="DNSEndpoint",
        ),
        pytest.param(route(hostnames=["a.example.com"]), [("spec.hostnames[0]", "a.example.com")], id="HTTPRoute"),
        pytest.param(route("GRPCRoute", hostnames=["a.b"]), [("spec.hostnames[0]", "a.b")], id="GRPCRoute"),
        pytest.param(route("TLSRoute", hostnames=["*.a.b"]), [("spec.hostnames[0]", "*.a.b")], id="TLSRoute"),
        pytest.param(
            route(parentRefs=[{"name": "public", "namespace": "gateways"}]),
            [("spec.hostnames", "Everything")],
            id="route without hosts on a Gateway of others",
        ),
        pytest.param(route(parentRefs=[{"kind": "Service", "name": "web"}]), [], id="route in the mesh"),
        pytest.param(
            item(GATEWAY, "Gateway", listeners=[{"hostname": "a.example.com"}, {"name": "any"}]),
            [("spec.listeners[0].hostname", "a.example.com")],
            id="Gateway: a listener for all has an address of its own",
        ),
        pytest.param(
            item(GATEWAY, "ListenerSet", listeners=[{"name": "any"}]),
            [("spec.listeners[0].hostname", "Everything")],
            id="ListenerSet on a Gateway of others",
        ),
        pytest.param(
            item(
                ISTIO,
                "VirtualService",
                gateways=["gateways/public"],
                hosts=["a.example.com", "web", "web.x.svc.cluster.local"],
            ),
            [("spec.hosts[0]", "a.example.com")],
            id="VirtualService: external hosts only",
        ),
        pytest.param(item(ISTIO, "VirtualService", gateways=["mesh"], hosts=["a.example.com"]), [], id="mesh only"),
        pytest.param(item(ISTIO, "VirtualService", hosts=["a.example.com"]), [], id="VirtualService without gateways"),
        pytest.param(
            item(ISTIO, "VirtualService", gateways=["mesh", "public"], hosts=["*"]),
            [("spec.hosts[0]", "Everything")],
            id="VirtualService for *",
        ),
        pytest.param(
            item(ISTIO, "Gateway", servers=[{"hosts": ["./a.example.com", "*/b.example.com", "c.example.com", "*"]}]),
            [
                ("spec.servers[0].hosts[0]", "a.example.com"),
                ("spec.servers[0].hosts[1]", "b.example.com"),
                ("spec.servers[0].hosts[2]", "c.example.com"),
                ("spec.servers[0].hosts[3]", "Everything"),
            ],
            id="Gateway of Istio",
        ),
        pytest.param(
            item("route.openshift.io/v1", "Route", host="a.b.example.com", wildcardPolicy="Subdomain"),
            [("spec.host", "a.b.example.com"), ("spec.wildcardPolicy", "*.b.example.com")],
            id="Route with its subdomain",
        ),
        pytest.param(item("route.openshift.io/v1", "Route"), [], id="Route without host gets one of its own"),
        pytest.param(
            traefik("Host(`a.example.com`) && (PathPrefix(`/x`) || PathPrefix(`/y`))"),
            [("spec.routes[0].match", "a.example.com")],
            id="IngressRoute",
        ),
        pytest.param(
            traefik("PathPrefix(`/x`)"), [("spec.routes[0].match", "Everything")], id="IngressRoute, any host"
        ),
        pytest.param(traefik("HostRegexp(`^.+$`)"), [("spec.routes[0].match", "Pattern")], id="IngressRoute, pattern"),
        pytest.param(
            item("projectcontour.io/v1", "HTTPProxy", virtualhost={"fqdn": "a.example.com"}),
            [("spec.virtualhost.fqdn", "a.example.com")],
            id="HTTPProxy",
        ),
        pytest.param(item("projectcontour.io/v1", "HTTPProxy", routes=[]), [], id="HTTPProxy that others include"),
        pytest.param(ingress("feature/x.example.com"), [("spec.rules[0].host", "Invalid")], id="no host name"),
        pytest.param(item("example.com/v1", "Ingress", rules=[{}]), [], id="another group's Ingress"),
    ],
)
def test_claims(manifest: Manifest, expected: list[tuple[str, str]]) -> None:
    assert read(manifest) == expected


def test_a_route_on_the_charts_own_gateway_claims_what_the_listener_does() -> None:
    own = item(GATEWAY, "Gateway", listeners=[{"hostname": "a.example.com"}])
    assert read(own, route(parentRefs=[{"name": "web"}])) == [("spec.listeners[0].hostname", "a.example.com")]
    elsewhere = route(parentRefs=[{"name": "web", "namespace": "other"}])
    assert read(own, elsewhere)[1:] == [("spec.hostnames", "Everything")]


def test_what_can_be_reserved_is_named_once() -> None:
    manifests = (
        ingress("b.example.com", "A.example.com"),
        route(hostnames=["a.example.com"]),
        ingress(None, "no/host"),
    )
    assert claimed(charted(manifests, "env-a", {})) == ("a.example.com", "b.example.com")


@pytest.mark.parametrize(
    ("rule", "hosts", "patterns"),
    [
        pytest.param("Host(`a`)", ("a",), (), id="one"),
        pytest.param("Host(`a`, `b`)", ("a", "b"), (), id="two in one"),
        pytest.param('Host("a") || Host("b")', ("a", "b"), (), id="either"),
        pytest.param("(Host(`a`) || HostRegexp(`b+`)) && Path(`/`)", ("a",), ("b+",), id="host or pattern"),
        pytest.param("Path(`/`) && Host(`a`)", ("a",), (), id="whatever order"),
        pytest.param("HostSNI(`*`)", ("*",), (), id="TCP"),
        pytest.param("Host(`a`) || Path(`/x`)", None, (), id="or any host"),
        pytest.param("!Host(`a`)", None, (), id="all but one"),
        pytest.param("!(Host(`a`)) && Host(`b`)", ("b",), (), id="not this but that"),
        pytest.param("Header(`X`, `1`)", None, (), id="another function"),
        pytest.param("Host(`a`", None, (), id="not closed"),
        pytest.param("(Host(`a`)", None, (), id="bracket not closed"),
        pytest.param("Host(`a`) Host(`b`)", None, (), id="no sign between"),
        pytest.param("&& Host(`a`)", None, (), id="sign in front"),
        pytest.param("", None, (), id="empty"),
        pytest.param("(" * 5000 + "Host(`a`)" + ")" * 5000, None, (), id="nested without end"),
        pytest.param("!" * 5000 + "Host(`a`)", None, (), id="negated without end"),
    ],
)
def test_rules_of_traefik(rule: str, hosts: tuple[str, ...] | None, patterns: tuple[str, ...]) -> None:
    found = matched(rule)
    assert (found.hosts, found.patterns) == (hosts, patterns)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["spec", "rules", "host", "hosts", "tls", "metadata", "annotations", DNS, "listeners", "match"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS = [("networking.k8s.io/v1", "Ingress"), (GATEWAY, "HTTPRoute"), (ISTIO, "Gateway"), (ISTIO, "VirtualService")]


@given(st.sampled_from(KINDS), JUNK, JUNK)
def test_nothing_that_a_chart_renders_raises(kind: tuple[str, str], metadata: object, spec: object) -> None:
    manifest = {"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, "spec": spec}
    for one in claims(charted([manifest], "env-a", {})):
        assert bool(one.host) != isinstance(one.fault, Fault)


@given(st.text(alphabet='Host(`a`)&|! Path,"', max_size=60))
def test_no_rule_raises(rule: str) -> None:
    matched(rule)
