"""What pods need by name to start: Secrets, ConfigMaps, claims and a ServiceAccount of their own namespace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from envprov.domain.charted import Charted, PodTemplate
from envprov.domain.loose import mapping, mappings, numbered, text, within

Manifest = Mapping[str, Any]

CONTAINERS = ("initContainers", "containers", "ephemeralContainers")

_SOURCES = (("secretKeyRef", "secretRef", "secret"), ("configMapKeyRef", "configMapRef", "configMap"))
_CREDENTIALS = ("cephfs", "rbd", "iscsi", "flexVolume", "scaleIO", "storageos")
"""Volumes that name a Secret as ``secretRef``."""


class Kind(StrEnum):
    """A kind of what is needed."""

    SECRET = "Secret"  # noqa: S105 - a kind, not a secret
    CONFIG_MAP = "ConfigMap"
    CLAIM = "PersistentVolumeClaim"
    ACCOUNT = "ServiceAccount"


_KINDS = (Kind.SECRET, Kind.CONFIG_MAP)


@dataclass(frozen=True)
class Need:
    """
    One object that is needed.

    Attributes:
        kind: Its kind.
        name: Its name; never empty.
        user: The object of the chart that needs it.
        field: Where it is named.
        keys: Keys that it must have, each with the field that names it.
        pulls: Whether it is only there to pull images.

    """

    kind: Kind
    name: str
    user: Charted
    field: str
    keys: tuple[tuple[str, str], ...] = ()
    pulls: bool = False


def pod_needs(pod: PodTemplate) -> Iterator[Need]:
    """
    What a pod cannot start without; what is ``optional: true`` is not among it.

    Args:
        pod: A pod that the chart's objects make.

    """
    yield from _identity(pod)
    for section in CONTAINERS:
        for place, container in numbered(pod.spec.get(section)):
            yield from _environment(pod.owner, container, f"{pod.path}.{section}[{place}]")
    for place, volume in numbered(pod.spec.get("volumes")):
        yield from _volume(pod.owner, volume, f"{pod.path}.volumes[{place}]")
    for place, reference in numbered(pod.spec.get("imagePullSecrets")):
        name = text(reference.get("name"))
        if name:
            yield Need(Kind.SECRET, name, pod.owner, f"{pod.path}.imagePullSecrets[{place}].name", pulls=True)


def account_of(pod: PodTemplate) -> str:
    """Name of the ServiceAccount that a pod runs as."""
    return text(pod.spec.get("serviceAccountName")) or text(pod.spec.get("serviceAccount")) or "default"


def _identity(pod: PodTemplate) -> Iterator[Need]:
    for key in ("serviceAccountName", "serviceAccount"):
        name = text(pod.spec.get(key))
        if name:
            yield Need(Kind.ACCOUNT, name, pod.owner, f"{pod.path}.{key}")
            return


def _environment(user: Charted, container: Manifest, path: str) -> Iterator[Need]:
    for place, variable in numbered(container.get("env")):
        source = within(variable, "valueFrom")
        for kind, (key_ref, _, _) in zip(_KINDS, _SOURCES, strict=True):
            found = within(source, key_ref)
            where = f"{path}.env[{place}].valueFrom.{key_ref}"
            key = text(found.get("key"))
            yield from _named(kind, found, "name", user, where, ((key, f"{where}.key"),) if key else ())
    for place, source in numbered(container.get("envFrom")):
        for kind, (_, ref, _) in zip(_KINDS, _SOURCES, strict=True):
            yield from _named(kind, within(source, ref), "name", user, f"{path}.envFrom[{place}].{ref}")


def _volume(user: Charted, volume: Manifest, path: str) -> Iterator[Need]:
    secret, config_map = within(volume, "secret"), within(volume, "configMap")
    yield from _named(Kind.SECRET, secret, "secretName", user, f"{path}.secret", _items(secret, f"{path}.secret"))
    yield from _named(
        Kind.CONFIG_MAP, config_map, "name", user, f"{path}.configMap", _items(config_map, f"{path}.configMap")
    )
    for place, source in numbered(within(volume, "projected").get("sources")):
        for kind, (_, _, key) in zip(_KINDS, _SOURCES, strict=True):
            found, where = within(source, key), f"{path}.projected.sources[{place}].{key}"
            yield from _named(kind, found, "name", user, where, _items(found, where))
    yield from _named(
        Kind.CLAIM, within(volume, "persistentVolumeClaim"), "claimName", user, f"{path}.persistentVolumeClaim"
    )
    yield from _named(Kind.SECRET, within(volume, "azureFile"), "secretName", user, f"{path}.azureFile")
    credentials = [(within(volume, source, "secretRef"), f"{path}.{source}.secretRef") for source in _CREDENTIALS]
    credentials.append((within(volume, "csi", "nodePublishSecretRef"), f"{path}.csi.nodePublishSecretRef"))
    for found, where in credentials:
        yield from _named(Kind.SECRET, found, "name", user, where)


def _named(  # noqa: PLR0913, PLR0917 - what is found, and where
    kind: Kind, found: Manifest, key: str, user: Charted, path: str, keys: tuple[tuple[str, str], ...] = ()
) -> Iterator[Need]:
    name = text(found.get(key))
    if name and found.get("optional") is not True:
        yield Need(kind, name, user, f"{path}.{key}", keys)


def _items(source: Manifest, path: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (text(item.get("key")), f"{path}.items[{place}].key")
        for place, item in numbered(source.get("items"))
        if text(item.get("key"))
    )


def claim_templates(item: Charted) -> Iterator[tuple[str, Manifest]]:
    """
    The claims that a StatefulSet makes for each of its pods, and a pod for itself.

    Args:
        item: An object of the chart.

    Returns:
        The template of each, with its path.

    """
    if item.is_a("apps", "StatefulSet"):
        for place, template in numbered(within(item.manifest, "spec").get("volumeClaimTemplates")):
            yield f"spec.volumeClaimTemplates[{place}]", template


def ephemeral_claims(pod: PodTemplate) -> Iterator[tuple[str, Manifest]]:
    """The claims that a pod makes for itself, each with its path."""
    for place, volume in numbered(pod.spec.get("volumes")):
        template = mapping(within(volume, "ephemeral").get("volumeClaimTemplate"))
        if template:
            yield f"{pod.path}.volumes[{place}].ephemeral.volumeClaimTemplate", template


def mounted_providers(pod: PodTemplate) -> Iterator[str]:
    """Names of the SecretProviderClasses that a pod mounts: the driver fetches their secrets as the pod's account."""
    for volume in mappings(pod.spec.get("volumes")):
        csi = within(volume, "csi")
        if text(csi.get("driver")) == "secrets-store.csi.k8s.io":
            name = text(within(csi, "volumeAttributes").get("secretProviderClass"))
            if name:
                yield name
