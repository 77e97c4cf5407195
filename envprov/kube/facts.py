"""
What the cluster has, as far as a chart depends on it: read at once, and only that.

What may not be read, or does not answer, is None in the facts and never "there is none". Lists come from the API
server's cache as it is: a finding that was told too early is taken back with the next look.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeVar

from envprov.domain import rbac
from envprov.domain.charted import Charted, flat
from envprov.domain.checking import ClusterFacts, Given
from envprov.domain.checks.sealed import CLUSTER_WIDE
from envprov.domain.desired import INSTALLER, Desired, Identity
from envprov.domain.errors import Forbidden, RetryableError
from envprov.domain.findings import Subject
from envprov.domain.loose import text, within
from envprov.domain.needs import Kind
from envprov.domain.objects import INSTALLER_ROLE
from envprov.domain.wants import Wants, wants
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.discovery import Kinds
from envprov.kube.relay import post_to_service
from envprov.kube.resources import Resource

Manifest = Mapping[str, Any]
T = TypeVar("T")

VERIFY_SECONDS = 2.0
"""The controller of SealedSecrets is asked for this long at most, for all of a chart together."""
VERDICTS = 1000
"""How many of its answers are remembered."""

_RELEASE = "meta.helm.sh/release-name"
_POLICY = "helm.sh/resource-policy"
_RESOURCES = {
    Kind.SECRET: resources.SECRETS,
    Kind.CONFIG_MAP: resources.CONFIG_MAPS,
    Kind.CLAIM: resources.PERSISTENT_VOLUME_CLAIMS,
    Kind.ACCOUNT: resources.SERVICE_ACCOUNTS,
}


@dataclass(frozen=True)
class SealedController:
    """
    Where the controller of SealedSecrets answers.

    Attributes:
        namespace: Its namespace; by default where its own manifests put it.
        service: Its Service, whose port is called ``http``.

    """

    namespace: str = "kube-system"
    service: str = "sealed-secrets-controller"


class FactsReader:
    """
    Reads the facts. May be shared by all tasks of one event loop; it remembers what hardly changes.

    Args:
        client: Speaks to the API server, with the rights of whoever plans.
        kinds: What the server serves; shared with whoever else asks.
        sealed: Whom to ask about SealedSecrets.

    """

    def __init__(
        self, client: KubeClient, *, kinds: Kinds | None = None, sealed: SealedController | None = None
    ) -> None:
        self._client = client
        self._kinds = kinds or Kinds(client)
        self._sealed = sealed or SealedController()
        self._unsealable: OrderedDict[str, None] = OrderedDict()
        """What can be unsealed, by digest; what cannot today may be tomorrow, with another key."""

    async def read(self, desired: Desired, objects: Iterable[Manifest]) -> ClusterFacts:
        """
        Read what a chart depends on.

        Args:
            desired: What ought to be: the namespace, which need not be there yet, and what is copied into it.
            objects: What the chart renders.

        Returns:
            The facts; hosts and the size of the release are for others to add.

        Raises:
            Unavailable: Not even the kinds that are served could be read.

        """
        rendered = tuple(objects)
        kinds = await self.served(rendered)
        wanted = wants(Given(desired, rendered, kinds))
        identity = desired.identity
        (storage, priority, ingress, runtime), names, roles, cluster_roles, installer, sealed = await asyncio.gather(
            self._classes(wanted),
            self._names(desired, wanted, rendered),
            self._roles(identity) if wanted.roles else _nothing(),
            self._cluster_roles(wanted.cluster_roles),
            self._installer(identity),
            self._ask_sealed(wanted.sealed, identity.namespace),
        )
        return replace(
            kinds,
            storage_classes=storage,
            priority_classes=priority,
            ingress_classes=ingress,
            runtime_classes=runtime,
            secrets=names[Kind.SECRET],
            config_maps=names[Kind.CONFIG_MAP],
            service_accounts=names[Kind.ACCOUNT],
            claims=names[Kind.CLAIM],
            cluster_roles=cluster_roles,
            roles=roles,
            installer=installer,
            sealed=sealed,
        )

    async def served(self, objects: Iterable[Manifest]) -> ClusterFacts:
        """
        Read which kinds there are; nothing else.

        Args:
            objects: What the chart renders.

        Raises:
            Unavailable: They could not be read.

        """
        named = {(text(item.get("apiVersion")), text(item.get("kind"))) for item in flat(objects)}
        kinds = await self._kinds.including(named)
        return ClusterFacts(
            scopes={key: resource.namespaced for key, resource in kinds.every.items()},
            plurals={key: resource.plural for key, resource in kinds.every.items()},
            stale=kinds.stale,
        )

    async def _classes(self, wanted: Wants) -> list[dict[str, Manifest] | None]:
        asked = (
            (resources.STORAGE_CLASSES, wanted.storage_classes),
            (resources.PRIORITY_CLASSES, wanted.priority_classes),
            (resources.INGRESS_CLASSES, wanted.ingress_classes),
            (resources.RUNTIME_CLASSES, wanted.runtime_classes),
        )
        return await asyncio.gather(*(self._by_name(kind) if needed else _nothing() for kind, needed in asked))

    async def _by_name(self, resource: Resource) -> dict[str, Manifest] | None:
        items = await self._items(resource)
        return None if items is None else {item["metadata"]["name"]: item for item in items}

    async def _names(
        self, desired: Desired, wanted: Wants, rendered: tuple[Manifest, ...]
    ) -> dict[Kind, frozenset[str] | None]:
        """Names in the namespace, without those that the release has now and loses with this chart."""
        identity = desired.identity
        kinds = [kind for kind in Kind if kind in wanted.kinds]
        is_missing, *listings = await asyncio.gather(
            self._is_missing(identity),
            *(self._items(_RESOURCES[kind], identity.namespace, metadata_only=True) for kind in kinds),
        )
        found: dict[Kind, frozenset[str] | None] = dict.fromkeys(Kind)
        always = {
            Kind.SECRET: {secret.name for secret in desired.secrets},
            Kind.CONFIG_MAP: {"kube-root-ca.crt"},
            Kind.CLAIM: set[str](),
            Kind.ACCOUNT: {"default", INSTALLER},
        }
        for kind, listing in zip(kinds, listings, strict=True):
            # Before the namespace is made nobody has rights in it, and nothing is in it.
            items = () if is_missing else listing
            if items is None:
                continue
            kept = {text(within(item, "metadata").get("name")) for item in flat(rendered) if item.get("kind") == kind}
            names = {item["metadata"]["name"] for item in items if _stays(item, identity, kept)}
            found[kind] = frozenset(names | always[kind])
        return found

    async def _is_missing(self, identity: Identity) -> bool:
        """Whether it is certain that the namespace is not there."""
        try:
            return await self._client.get(resources.NAMESPACES, identity.namespace, metadata_only=True) is None
        except (Forbidden, RetryableError):
            return False

    async def _roles(self, identity: Identity) -> dict[str, tuple[Manifest, ...]] | None:
        is_missing, items = await asyncio.gather(
            self._is_missing(identity), self._items(resources.ROLES, identity.namespace)
        )
        if items is None:
            return {} if is_missing else None
        return {item["metadata"]["name"]: tuple(item.get("rules") or ()) for item in items}

    async def _cluster_roles(self, names: Iterable[str]) -> dict[str, tuple[Manifest, ...]] | None:
        asked = sorted(names)
        found = await asyncio.gather(*(_or_none(self._cluster_role(name)) for name in asked))
        if any(one is None for one in found):
            return None
        return {name: rules[0] for name, rules in zip(asked, found, strict=True) if rules}

    async def _cluster_role(self, name: str) -> tuple[tuple[Manifest, ...], ...]:
        """Its rules, alone; nothing if it is not there. By list: the guard has that right anyway."""
        listing = await self._client.list(
            resources.CLUSTER_ROLES, field_selector=f"metadata.name={name}", may_be_stale=True
        )
        return tuple(tuple(item.get("rules") or ()) for item in listing.items)

    async def _installer(self, identity: Identity) -> tuple[Manifest, ...] | None:
        """The rules of its role, and whatever else is bound to it or to groups that it is in."""
        own, everywhere, here = await asyncio.gather(
            _or_none(self._cluster_role(INSTALLER_ROLE)),
            self._items(resources.CLUSTER_ROLE_BINDINGS),
            self._items(resources.ROLE_BINDINGS, identity.namespace),
        )
        if not own or not own[0]:
            return None  # not installed, or not aggregated yet
        granted = {
            text(within(binding, "roleRef").get("name"))
            for binding in (*(everywhere or ()), *(here or ()))
            if rbac.binds(binding, identity.namespace, INSTALLER)
            and within(binding, "roleRef").get("kind") == "ClusterRole"
        }
        others = await asyncio.gather(
            *(_or_none(self._cluster_role(name)) for name in sorted(granted - {INSTALLER_ROLE}))
        )
        return (*own[0], *(rule for found in others for rules in found or () for rule in rules))

    async def _items(
        self, resource: Resource, namespace: str | None = None, *, metadata_only: bool = False
    ) -> tuple[dict[str, Any], ...] | None:
        listing = await _or_none(self._client.list(resource, namespace, metadata_only=metadata_only, may_be_stale=True))
        return None if listing is None else listing.items

    async def _ask_sealed(self, items: tuple[Charted, ...], namespace: str) -> dict[Subject, bool]:
        """What the controller of SealedSecrets says; it answers few questions a second, the doubtful ones first."""
        verdicts: dict[Subject, bool] = {}
        doubtful_first = sorted(items, key=_is_cluster_wide)
        try:
            async with asyncio.timeout(VERIFY_SECONDS):
                for item in doubtful_first:
                    verdict = await self._verdict(item, namespace)
                    if verdict is not None:
                        verdicts[item.subject] = verdict
        except (TimeoutError, Forbidden, RetryableError):
            pass  # what was not answered stays unknown, and is judged by its annotations
        return verdicts

    async def _verdict(self, item: Charted, namespace: str) -> bool | None:
        metadata = {**within(item.manifest, "metadata"), "namespace": namespace}
        try:
            asked = json.dumps({**item.manifest, "metadata": metadata})
        except (TypeError, ValueError):
            return None  # no Kubernetes object, and others say so
        key = hashlib.sha256(asked.encode()).hexdigest()
        if key in self._unsealable:
            self._unsealable.move_to_end(key)
            return True
        status = await post_to_service(
            self._client, self._sealed.namespace, f"http:{self._sealed.service}:", "v1/verify", json.loads(asked)
        )
        if status != HTTPStatus.OK:
            return False if status == HTTPStatus.CONFLICT else None
        self._unsealable[key] = None
        if len(self._unsealable) > VERDICTS:
            self._unsealable.popitem(last=False)
        return True


def _stays(item: Manifest, identity: Identity, rendered: set[str]) -> bool:
    """Whether an object is still there after the deployment: Helm takes away what the chart no longer has."""
    metadata = within(item, "metadata")
    annotations = within(metadata, "annotations")
    is_of_release = annotations.get(_RELEASE) == identity.name
    return not is_of_release or metadata.get("name") in rendered or annotations.get(_POLICY) == "keep"


def _is_cluster_wide(item: Charted) -> bool:
    return within(item.manifest, "metadata", "annotations").get(CLUSTER_WIDE) == "true"


async def _or_none(asked: Awaitable[T]) -> T | None:
    try:
        return await asked
    except (Forbidden, RetryableError):
        return None


async def _nothing() -> None:
    return None
