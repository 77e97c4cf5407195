"""The hosts that a rendered chart claims, wherever a controller outside its namespace would read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from envprov.domain.charted import Charted, pod_template
from envprov.domain.findings import Subject
from envprov.domain.hosts import EVERYTHING, normalised
from envprov.domain.loose import mapping, mappings, text, texts, within
from envprov.domain.traefik import matched

_GATEWAY = "gateway.networking.k8s.io"
_ISTIO = "networking.istio.io"
_NOTES = ("external-dns.alpha.kubernetes.io/hostname", "external-dns.alpha.kubernetes.io/internal-hostname")
"""Annotations that external-dns reads on any object: names with commas between them."""
_ALIASES = (
    "nginx.ingress.kubernetes.io/server-alias",
    "ingress.kubernetes.io/server-alias",
    "haproxy-ingress.github.io/server-alias",
    "konghq.com/host-aliases",
    "appgw.ingress.kubernetes.io/hostname-extension",
)
"""Annotations of an Ingress with further hosts: names with commas between them."""
_PATTERNS = ("ingress.kubernetes.io/server-alias-regex", "haproxy-ingress.github.io/server-alias-regex")
_WWW = "nginx.ingress.kubernetes.io/from-to-www-redirect"
_MESH = "mesh"


class Fault(Enum):
    """Why a claim is none that can be reserved."""

    EVERYTHING = "Everything"
    """It is for any host."""
    PATTERN = "Pattern"
    """It is a regular expression."""
    INVALID = "Invalid"
    """It is no host name."""


@dataclass(frozen=True)
class Claim:
    """
    One host that an object claims.

    Attributes:
        subject: The object; None for the Project itself.
        field: Where it says so.
        written: As it is written.
        host: Normalised; empty if there is a fault.
        fault: What is wrong with it.

    """

    subject: Subject | None
    field: str
    written: str
    host: str
    fault: Fault | None


Written = tuple[str, str]
"""Path of a field, and what stands there; a path without text claims everything."""


def claim(subject: Subject | None, field: str, written: str) -> Claim:
    """
    Read one claim.

    Args:
        subject: The object.
        field: Where it stands.
        written: As it stands there; a regular expression begins with ``~``.

    """
    if written.startswith("~"):
        return Claim(subject, field, written, "", Fault.PATTERN)
    host = normalised(written)
    if host is None:
        return Claim(subject, field, written, "", Fault.INVALID)
    if host == EVERYTHING:
        return Claim(subject, field, written, "", Fault.EVERYTHING)
    return Claim(subject, field, written, host, None)


def claims(items: Iterable[Charted]) -> Iterator[Claim]:
    """
    All hosts that a chart claims.

    Args:
        items: What it renders.

    """
    everything = tuple(items)
    gateways = frozenset(item.subject.name for item in everything if item.is_a(_GATEWAY, "Gateway"))
    for item in everything:
        for field, written in _written(item, gateways):
            yield claim(item.subject, field, written)


def claimed(items: Iterable[Charted]) -> tuple[str, ...]:
    """The hosts that are to be reserved for a chart, in order; what is wrong with the others, the checks say."""
    return tuple(sorted({one.host for one in claims(items) if one.host}))


def _written(item: Charted, gateways: frozenset[str]) -> Iterator[Written]:
    yield from _annotated(mapping(item.manifest.get("metadata")), "metadata")
    template = pod_template(item)
    if template is not None and template.path != "spec":
        yield from _annotated(template.metadata, f"{template.path.removesuffix('spec')}metadata")
    spec = mapping(item.manifest.get("spec"))
    reader = _READERS.get((item.group, item.kind))
    if reader is not None:
        yield from reader(item, spec)
    if item.group == _GATEWAY and item.kind in {"HTTPRoute", "GRPCRoute", "TLSRoute"}:
        yield from _route(spec, gateways, item.subject.namespace)


def _annotated(metadata: Mapping[str, object], path: str) -> Iterator[Written]:
    notes = mapping(metadata.get("annotations"))
    for name in _NOTES:
        for written in _listed(notes.get(name)):
            yield f"{path}.annotations[{name}]", written


def _ingress(item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    notes = within(item.manifest, "metadata", "annotations")
    hosts = [text(rule.get("host")) for rule in mappings(spec.get("rules"))]
    for number, host in enumerate(hosts):
        yield f"spec.rules[{number}].host", host
    if not hosts:
        yield "spec.defaultBackend" if spec.get("defaultBackend") else "spec.rules", EVERYTHING
    for number, entry in enumerate(mappings(spec.get("tls"))):
        for position, host in enumerate(texts(entry.get("hosts"))):
            # A wildcard here is a certificate for what the rules name, and no claim of its own.
            if not (host.startswith("*.") and any(_is_certified(host, one) for one in hosts)):
                yield f"spec.tls[{number}].hosts[{position}]", host
    yield from _aliases(notes)
    if text(notes.get(_WWW)).lower() == "true":
        for host in filter(None, hosts):
            yield (
                f"metadata.annotations[{_WWW}]",
                host.removeprefix("www.") if host.startswith("www.") else f"www.{host}",
            )


def _aliases(notes: Mapping[str, object]) -> Iterator[Written]:
    for name in _ALIASES:
        for alias in _listed(notes.get(name)):
            yield f"metadata.annotations[{name}]", alias
    for name in _PATTERNS:
        if pattern := text(notes.get(name)):
            yield f"metadata.annotations[{name}]", f"~{pattern}"


def _gateway(_item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    """A Gateway has an address of its own: a listener for any host takes nothing from others."""
    for number, listener in enumerate(mappings(spec.get("listeners"))):
        if listener.get("hostname"):
            yield f"spec.listeners[{number}].hostname", text(listener.get("hostname"))


def _listeners(_item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    """A ListenerSet adds listeners to a Gateway of others."""
    for number, listener in enumerate(mappings(spec.get("listeners"))):
        yield f"spec.listeners[{number}].hostname", text(listener.get("hostname"))


def _route(spec: Mapping[str, object], gateways: frozenset[str], home: str) -> Iterator[Written]:
    hosts = texts(spec.get("hostnames"))
    for number, host in enumerate(hosts):
        yield f"spec.hostnames[{number}]", host
    if not hosts and any(_is_foreign(parent, gateways, home) for parent in mappings(spec.get("parentRefs"))):
        yield "spec.hostnames", EVERYTHING


def _is_foreign(parent: Mapping[str, object], gateways: frozenset[str], home: str) -> bool:
    """Whether a route is on a Gateway of others, whose listeners then decide what it gets."""
    if text(parent.get("kind")) not in {"", "Gateway"}:
        return False
    return text(parent.get("name")) not in gateways or text(parent.get("namespace")) not in {"", home}


def _virtual_service(_item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    if set(texts(spec.get("gateways"))) <= {_MESH}:
        return
    for number, host in enumerate(texts(spec.get("hosts"))):
        if host == EVERYTHING or ("." in host and not _is_internal(host)):
            yield f"spec.hosts[{number}]", host


def _istio_gateway(_item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    for number, server in enumerate(mappings(spec.get("servers"))):
        for position, host in enumerate(texts(server.get("hosts"))):
            yield f"spec.servers[{number}].hosts[{position}]", host.rpartition("/")[2]


def _openshift_route(_item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    host = text(spec.get("host"))
    if not host:
        return  # the router makes up a name with the namespace in it
    yield "spec.host", host
    if spec.get("wildcardPolicy") == "Subdomain":
        yield "spec.wildcardPolicy", f"*.{host.partition('.')[2]}"


def _traefik(_item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    for number, route in enumerate(mappings(spec.get("routes"))):
        found = matched(text(route.get("match")))
        for host in (EVERYTHING,) if found.hosts is None else found.hosts:
            yield f"spec.routes[{number}].match", host
        for pattern in found.patterns:
            yield f"spec.routes[{number}].match", f"~{pattern}"


def _proxy(_item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    if "virtualhost" in spec:
        yield "spec.virtualhost.fqdn", text(within(spec, "virtualhost").get("fqdn"))


def _endpoints(_item: Charted, spec: Mapping[str, object]) -> Iterator[Written]:
    for number, endpoint in enumerate(mappings(spec.get("endpoints"))):
        yield f"spec.endpoints[{number}].dnsName", text(endpoint.get("dnsName"))


Reader = Callable[[Charted, Mapping[str, object]], Iterator[Written]]
_READERS: Mapping[tuple[str, str], Reader] = {
    ("networking.k8s.io", "Ingress"): _ingress,
    ("extensions", "Ingress"): _ingress,
    (_GATEWAY, "Gateway"): _gateway,
    (_GATEWAY, "ListenerSet"): _listeners,
    ("gateway.networking.x-k8s.io", "XListenerSet"): _listeners,
    (_ISTIO, "VirtualService"): _virtual_service,
    (_ISTIO, "Gateway"): _istio_gateway,
    ("route.openshift.io", "Route"): _openshift_route,
    ("traefik.io", "IngressRoute"): _traefik,
    ("traefik.io", "IngressRouteTCP"): _traefik,
    ("traefik.containo.us", "IngressRoute"): _traefik,
    ("traefik.containo.us", "IngressRouteTCP"): _traefik,
    ("projectcontour.io", "HTTPProxy"): _proxy,
    ("externaldns.k8s.io", "DNSEndpoint"): _endpoints,
}


def _is_internal(host: str) -> bool:
    return host.endswith(".svc") or ".svc." in host


def _is_certified(wildcard: str, host: str) -> bool:
    return wildcard.partition(".")[2] == host.partition(".")[2]


def _listed(value: object) -> list[str]:
    return [one.strip() for one in text(value).split(",") if one.strip()]
