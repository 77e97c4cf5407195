"""
Objects from which controllers make Secrets and ConfigMaps: which names come of which, as far as that is known.

A path leads to names from the root of the object; ``*`` in it stands for every element of a list or value of a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.charted import Charted
from envprov.domain.loose import mapping, sequence, text, within

Manifest = Mapping[str, Any]
Path = tuple[str, ...]

EACH = "*"


@dataclass(frozen=True)
class Generator:
    """
    What comes of the objects of a kind.

    Attributes:
        named: Names of Secrets, with ``{name}`` for that of the object.
        paths: Where further names of Secrets stand.
        keys: Where the keys of those Secrets stand, as the keys of a map; empty if they cannot be known.

    """

    named: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    keys: tuple[Path, ...] = ()


GENERATORS: Mapping[tuple[str, str], Generator] = {
    ("acme.cert-manager.io", "Order"): Generator(),
    ("bitnami.com", "SealedSecret"): Generator(
        named=("{name}",), keys=(("spec", "encryptedData"), ("spec", "template", "data"))
    ),
    ("cert-manager.io", "Certificate"): Generator(paths=(("spec", "secretName"),)),
    ("cert-manager.io", "Issuer"): Generator(paths=(("spec", "acme", "privateKeySecretRef", "name"),)),
    ("external-secrets.io", "SecretStore"): Generator(),
    ("external-secrets.io", "PushSecret"): Generator(),
    ("isindir.github.com", "SopsSecret"): Generator(paths=(("spec", "secretTemplates", EACH, "name"),)),
    ("kafka.strimzi.io", "KafkaUser"): Generator(named=("{name}",)),
    ("kafka.strimzi.io", "Kafka"): Generator(
        named=("{name}-cluster-ca-cert", "{name}-cluster-ca", "{name}-clients-ca-cert", "{name}-clients-ca")
    ),
    ("kafka.strimzi.io", "KafkaTopic"): Generator(),
    ("onepassword.com", "OnePasswordItem"): Generator(named=("{name}",)),
    ("postgresql.cnpg.io", "Cluster"): Generator(
        named=("{name}-app", "{name}-superuser", "{name}-ca", "{name}-server", "{name}-replication")
    ),
    ("rabbitmq.com", "RabbitmqCluster"): Generator(named=("{name}-default-user", "{name}-erlang-cookie")),
    ("secrets-store.csi.x-k8s.io", "SecretProviderClass"): Generator(
        paths=(("spec", "secretObjects", EACH, "secretName"),)
    ),
    ("secrets.doppler.com", "DopplerSecret"): Generator(paths=(("spec", "managedSecret", "name"),)),
    ("secrets.hashicorp.com", "VaultAuth"): Generator(),
    ("secrets.hashicorp.com", "VaultConnection"): Generator(),
    ("secrets.hashicorp.com", "VaultDynamicSecret"): Generator(paths=(("spec", "destination", "name"),)),
    ("secrets.hashicorp.com", "VaultPKISecret"): Generator(paths=(("spec", "destination", "name"),)),
    ("secrets.hashicorp.com", "VaultStaticSecret"): Generator(paths=(("spec", "destination", "name"),)),
    ("secrets.infisical.com", "InfisicalSecret"): Generator(paths=(("spec", "managedSecretReference", "secretName"),)),
    ("servicecatalog.k8s.io", "ServiceBinding"): Generator(paths=(("spec", "secretName"),)),
    ("elasticsearch.k8s.elastic.co", "Elasticsearch"): Generator(
        named=("{name}-es-elastic-user", "{name}-es-http-certs-public", "{name}-es-http-certs-internal")
    ),
    ("kibana.k8s.elastic.co", "Kibana"): Generator(named=("{name}-kb-http-certs-public",)),
    ("monitoring.coreos.com", "ServiceMonitor"): Generator(),
    ("monitoring.coreos.com", "PodMonitor"): Generator(),
    ("monitoring.coreos.com", "Probe"): Generator(),
    ("monitoring.coreos.com", "PrometheusRule"): Generator(),
}
"""By group and kind; those that make none are in it, so that nothing is put down to them."""

HARMLESS = frozenset(
    {
        "autoscaling.k8s.io",
        "cilium.io",
        "envprov.io",
        "gateway.networking.k8s.io",
        "gateway.nginx.org",
        "k8s.cni.cncf.io",
        "keda.sh",
        "kyverno.io",
        "metrics.k8s.io",
        "networking.istio.io",
        "policy.networking.k8s.io",
        "projectcontour.io",
        "route.openshift.io",
        "security.istio.io",
        "snapshot.storage.k8s.io",
        "telemetry.istio.io",
        "traefik.containo.us",
        "traefik.io",
    }
)
"""Groups none of whose kinds makes Secrets, ConfigMaps, claims or ServiceAccounts."""

SERVING_CERTIFICATES = (
    "service.beta.openshift.io/serving-cert-secret-name",
    "service.alpha.openshift.io/serving-cert-secret-name",
)
"""Annotations of a Service from which OpenShift makes a Secret of that name."""

CERTIFIED = (
    "cert-manager.io/cluster-issuer",
    "cert-manager.io/issuer",
    "certmanager.k8s.io/cluster-issuer",
    "certmanager.k8s.io/issuer",
    "kubernetes.io/tls-acme",
)
"""Annotations of an Ingress or Gateway for whose TLS Secrets cert-manager makes Certificates."""

FILLED_IN = (
    "injector.tke.cloud.tencent.com/",
    "reflector.v1.k8s.emberstack.com/reflects",
    "replicator.v1.mittwald.de/",
    "secret-generator.v1.mittwald.de/",
    "secret-generator.cs.sap.com/",
    "service.beta.openshift.io/inject-cabundle",
    "config.openshift.io/inject-trusted-cabundle",
    "kubernetes.io/service-account.name",
)
"""How annotations and labels begin by which a controller adds keys to a Secret or ConfigMap that a chart makes."""

CONFIG_MAPS_OF_GROUPS: Mapping[str, str] = {
    "networking.istio.io": "istio-ca-root-cert",
    "route.openshift.io": "openshift-service-ca.crt",
}
"""ConfigMaps that come into every namespace, by a group that is served where they do."""


def generated_secrets(item: Charted) -> Iterator[tuple[str, frozenset[str] | None]]:
    """
    The Secrets that will come of an object.

    Args:
        item: An object of the chart.

    Returns:
        Names, each with its keys; None where they cannot be known.

    """
    if item.is_a("external-secrets.io", "ExternalSecret"):
        yield from _external(item)
        return
    known = GENERATORS.get((item.group, item.kind))
    if known is not None:
        keys = (
            frozenset(str(key) for path in known.keys for key in within(item.manifest, *path)) if known.keys else None
        )
        for name in (*(form.format(name=item.subject.name) for form in known.named), *_names(item, known.paths)):
            yield name, keys
    if item.is_a("", "Service"):
        annotations = within(item.manifest, "metadata", "annotations")
        yield from ((text(annotations.get(mark)), None) for mark in SERVING_CERTIFICATES if mark in annotations)
    if not item.is_built_in:
        # The convention of Crossplane, whatever the provider.
        yield text(within(item.manifest, "spec", "writeConnectionSecretToRef").get("name")), None


def is_unknown(item: Charted) -> bool:
    """Whether a controller might make anything of an object: its kind is neither built in nor one we know."""
    return (
        not item.is_built_in
        and item.group not in HARMLESS
        and (item.group, item.kind) not in GENERATORS
        and not item.is_a("external-secrets.io", "ExternalSecret")
    )


def is_certified(item: Charted) -> bool:
    """Whether cert-manager makes the TLS Secrets that an Ingress or Gateway names."""
    annotations = within(item.manifest, "metadata", "annotations")
    return any(mark in annotations for mark in CERTIFIED)


def is_filled_in(item: Charted) -> bool:
    """Whether a controller adds keys to a Secret or ConfigMap of the chart."""
    metadata = within(item.manifest, "metadata")
    marks = (*within(metadata, "annotations"), *within(metadata, "labels"))
    is_token = text(item.manifest.get("type")) == "kubernetes.io/service-account-token"  # filled in by Kubernetes
    return is_token or any(str(mark).startswith(FILLED_IN) for mark in marks)


def _external(item: Charted) -> Iterator[tuple[str, frozenset[str] | None]]:
    spec = within(item.manifest, "spec")
    target = within(spec, "target")
    # None: it makes nothing. Merge: it adds to a Secret that somebody else makes.
    if text(target.get("creationPolicy")) in {"None", "Merge"}:
        return
    is_open = bool(spec.get("dataFrom")) or bool(target.get("template"))
    keys = frozenset(text(mapping(entry).get("secretKey")) for entry in sequence(spec.get("data")))
    yield text(target.get("name")) or item.subject.name, None if is_open else keys


def _names(item: Charted, paths: tuple[Path, ...]) -> Iterator[str]:
    for path in paths:
        found: list[object] = [item.manifest]
        for key in path:
            if key == EACH:
                found = [child for node in found for child in (*mapping(node).values(), *sequence(node))]
            else:
                found = [mapping(node).get(key) for node in found]
        yield from (text(value) for value in found)
