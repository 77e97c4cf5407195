"""What objects other than pods refer to and nobody provides: Services, TLS Secrets, targets of scaling, stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.checks.lookups import not_looked_at
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.generators import is_certified
from envprov.domain.loose import mappings, numbered, text, within
from envprov.domain.needs import Kind, Need
from envprov.domain.supply import Supply

Manifest = Mapping[str, Any]

TLS_SECRET = Rule(
    "MissingTlsSecret",
    Severity.WARNING,
    "An Ingress or Gateway names a TLS Secret that nobody provides, and bears no annotation for cert-manager. Its host "
    "is served with the controller's own certificate, or not at all.",
    "add an annotation `cert-manager.io/cluster-issuer`, a Certificate, or the Secret to `copySecrets` of the Project",
)
BACKEND = Rule(
    "MissingBackend",
    Severity.WARNING,
    "An Ingress or route leads to a Service, or a port of it, that the chart does not have: requests are answered with "
    "an error.",
    "correct the name or the port of the Service",
)
SCALE_TARGET = Rule(
    "MissingScaleTarget",
    Severity.WARNING,
    "A HorizontalPodAutoscaler scales something that the chart does not have, so it scales nothing.",
    "correct `scaleTargetRef`",
)
STORE = Rule(
    "MissingSecretStore",
    Severity.WARNING,
    "An ExternalSecret reads from a SecretStore that the chart does not have. A SecretStore belongs to its namespace, "
    "and each branch has one of its own, so the Secret never comes.",
    "add the SecretStore to the chart, or use a ClusterSecretStore",
)

RULES = (TLS_SECRET, BACKEND, SCALE_TARGET, STORE)

_INGRESS_GROUPS = frozenset({"networking.k8s.io", "extensions"})
_GATEWAY = "gateway.networking.k8s.io"
_ROUTES = frozenset({"HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute"})
_SCALED = frozenset({("apps", "Deployment"), ("apps", "ReplicaSet"), ("apps", "StatefulSet")})


def tls_secrets(given: Given) -> Iterator[Finding]:
    """TLS Secrets of Ingresses and Gateways that nothing provides."""
    supply = Supply(given)
    for item in _at_home(given):
        if is_certified(item):
            continue
        for name, field in tls_names(item):
            need = Need(Kind.SECRET, name, item, field)
            there = supply.there(Kind.SECRET)
            if supply.makers(need):
                continue
            if there is None:
                yield not_looked_at("Secrets of the namespace")
            elif name not in there:
                yield TLS_SECRET.found(item.subject, field, f"nothing provides Secret {name}")


def backends(given: Given) -> Iterator[Finding]:
    """Services that Ingresses and routes lead to and that the chart does not have."""
    services = {item.subject.name: item.manifest for item in _at_home(given) if item.is_a("", "Service")}
    for item in _at_home(given):
        for name, port, field in _backends(item, given.desired.identity.namespace):
            if name not in services:
                yield BACKEND.found(item.subject, field, f"Service {name} is not in the chart")
            elif port is not None and not _has_port(services[name], port):
                yield BACKEND.found(item.subject, field, f"Service {name} of the chart has no port {port}")


def scale_targets(given: Given) -> Iterator[Finding]:
    """What HorizontalPodAutoscalers scale and the chart does not have; of kinds that are built in."""
    made = {known: given.made(*known) for known in _SCALED}
    for item in _at_home(given):
        if not item.is_a("autoscaling", "HorizontalPodAutoscaler"):
            continue
        target = within(item.manifest, "spec", "scaleTargetRef")
        kind, name = text(target.get("kind")), text(target.get("name"))
        group, slash, _ = text(target.get("apiVersion")).partition("/")
        known = ("apps" if not slash or group == "extensions" else group, kind)
        if name and known in _SCALED and name not in made[known]:
            yield SCALE_TARGET.found(item.subject, "spec.scaleTargetRef.name", f"{kind} {name} is not in the chart")


def secret_stores(given: Given) -> Iterator[Finding]:
    """SecretStores of the namespace that ExternalSecrets read from and the chart does not have."""
    own = given.made("external-secrets.io", "SecretStore")
    for item in _at_home(given):
        if item.is_a("external-secrets.io", "ExternalSecret"):
            ref = within(item.manifest, "spec", "secretStoreRef")
            name = text(ref.get("name"))
            is_own = text(ref.get("kind")) in {"", "SecretStore"}
            if name and is_own and name not in own:
                yield STORE.found(item.subject, "spec.secretStoreRef.name", f"SecretStore {name} is not in the chart")


def tls_names(item: Charted) -> Iterator[tuple[str, str]]:
    """TLS Secrets that an Ingress or Gateway names in its own namespace, each with the field."""
    spec = within(item.manifest, "spec")
    if item.kind == "Ingress" and item.group in _INGRESS_GROUPS:
        for place, entry in numbered(spec.get("tls")):
            if text(entry.get("secretName")):
                yield text(entry.get("secretName")), f"spec.tls[{place}].secretName"
    if item.is_a(_GATEWAY, "Gateway"):
        for listener, entry in numbered(spec.get("listeners")):
            for place, ref in numbered(within(entry, "tls").get("certificateRefs")):
                is_own = text(ref.get("kind")) in {"", "Secret"} and not text(ref.get("namespace"))
                if is_own and text(ref.get("name")):
                    where = f"spec.listeners[{listener}].tls.certificateRefs[{place}].name"
                    yield text(ref.get("name")), where


CHECKS = (tls_secrets, backends, scale_targets, secret_stores)


def _at_home(given: Given) -> Iterator[Charted]:
    home = given.desired.identity.namespace
    return (item for item in given.items if item.subject.namespace == home)


def _backends(item: Charted, home: str) -> Iterator[tuple[str, object, str]]:
    """Name of a Service, its port as a number, a name or None, and where that stands."""
    spec = within(item.manifest, "spec")
    if item.kind == "Ingress" and item.group in _INGRESS_GROUPS:
        yield from _backend(within(spec, "defaultBackend"), "spec.defaultBackend")
        for rule, entry in numbered(spec.get("rules")):
            for place, path in numbered(within(entry, "http").get("paths")):
                yield from _backend(within(path, "backend"), f"spec.rules[{rule}].http.paths[{place}].backend")
    if item.group == _GATEWAY and item.kind in _ROUTES:
        for rule, entry in numbered(spec.get("rules")):
            for place, ref in numbered(entry.get("backendRefs")):
                is_service = text(ref.get("kind")) in {"", "Service"} and not text(ref.get("group"))
                is_own = text(ref.get("namespace")) in {"", home}
                if is_service and is_own and text(ref.get("name")):
                    yield text(ref.get("name")), ref.get("port"), f"spec.rules[{rule}].backendRefs[{place}].name"


def _backend(backend: Manifest, path: str) -> Iterator[tuple[str, object, str]]:
    service = within(backend, "service")
    name = text(service.get("name"))
    if name:
        port = within(service, "port")
        yield name, text(port.get("name")) or port.get("number"), f"{path}.service.name"
    old = text(backend.get("serviceName"))
    if old:
        yield old, backend.get("servicePort"), f"{path}.serviceName"


def _has_port(service: Manifest, port: object) -> bool:
    spec = within(service, "spec")
    if text(spec.get("type")) == "ExternalName":
        return True
    return any(port in (entry.get("port"), entry.get("name")) for entry in mappings(spec.get("ports")))
