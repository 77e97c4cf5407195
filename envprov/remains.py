"""What is left of an environment on its way down, read live; never from a cache."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from envprov.domain.desired import INSTALLER, Identity
from envprov.domain.errors import Forbidden, Invalid
from envprov.domain.health import Workloads
from envprov.domain.objects import OWN_ACCESS
from envprov.domain.observed import Key, NamespaceSeen, NamespaceState, Remains
from envprov.domain.release import Release, ReleaseState, release_of
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.discovery import Served, discover
from envprov.kube.holds import Holds
from envprov.kube.reservations import Reservations
from envprov.kube.resources import Resource
from envprov.kube.rights import can_i
from envprov.releases.engine import service_account_user
from envprov.releases.stored import decode
from envprov.watched import WORKLOAD_KINDS

Manifest = Mapping[str, Any]

HELM_SECRETS = "owner=helm"

_READ_WHOLE = frozenset({"RoleBinding", "Secret", "ServiceAccount"})
"""Kinds of which more than the metadata decides whether a husk keeps them."""
_NOT_IN_HUSKS = frozenset({"Pod", "Event"})


@dataclass(frozen=True)
class RemainsReader:
    """
    Reads what a teardown is decided from.

    Attributes:
        client: Speaks to the API server.
        holds: Finds what the environment holds elsewhere.
        reservations: Finds the hosts that it has reserved.

    """

    client: KubeClient
    holds: Holds
    reservations: Reservations
    _kinds: dict[tuple[str, str], Resource] = field(default_factory=dict, repr=False)
    """Every kind of which objects were read, by apiVersion and kind."""

    async def read(self, identity: Identity, seen: NamespaceSeen, *, thorough: bool) -> Remains:
        """
        Read what is left.

        Args:
            identity: The environment.
            seen: Its namespace, as it was just read.
            thorough: Whether to look for everything that a husk must lose.

        """
        match seen.state:
            case NamespaceState.MISSING | NamespaceState.FOREIGN:
                held, reserved = await asyncio.gather(
                    self.holds.holding(identity.holder.key), self.reservations.of(identity)
                )
                return Remains(seen, held=held, reserved=reserved)
            case NamespaceState.TERMINATING:
                pods = await self.client.list(resources.PODS, identity.namespace)
                return Remains(seen, workloads=Workloads(pods=tuple(pods.items)))
            case NamespaceState.OURS:
                return await self._living(identity, seen, thorough=thorough)

    async def delete(self, api_version: str, kind: str, namespace: str, name: str, uid: str) -> None:
        """Delete an object that was read here, of any kind, as the installer of its namespace."""
        installer = self.client.acting_as(service_account_user(namespace, INSTALLER))
        await installer.delete(self._kinds[api_version, kind], name, namespace, uid=uid)

    async def _living(self, identity: Identity, seen: NamespaceSeen, *, thorough: bool) -> Remains:
        base = await live(
            self.client,
            identity.namespace,
            (resources.ROLE_BINDINGS, resources.SERVICE_ACCOUNTS, resources.RESOURCE_QUOTAS),
        )
        tools: dict[Key, Manifest] = {
            (resource.kind, item["metadata"]["name"]): item for resource, items in base.items() for item in items
        }
        accounts = base[resources.SERVICE_ACCOUNTS]
        if ("RoleBinding", OWN_ACCESS) not in tools:
            return Remains(seen, tools, accounts=accounts)
        kinds = (
            *WORKLOAD_KINDS,
            resources.REPLICA_SETS,
            resources.REPLICATION_CONTROLLERS,
            resources.CRON_JOBS,
            resources.SERVICES,
        )
        found, release, customs = await asyncio.gather(
            live(self.client, identity.namespace, kinds),
            self._release(identity),
            self._custom(identity, thorough=thorough),
        )
        return Remains(
            namespace=seen,
            objects=tools,
            workloads=workloads_of(found),
            replica_sets=found[resources.REPLICA_SETS],
            replication_controllers=found[resources.REPLICATION_CONTROLLERS],
            cron_jobs=found[resources.CRON_JOBS],
            balancers=tuple(item for item in found[resources.SERVICES] if item["spec"].get("type") == "LoadBalancer"),
            release=release[0],
            hook_accounts=release[1],
            accounts=accounts,
            custom=customs[0],
            others=customs[1],
        )

    async def _release(self, identity: Identity) -> tuple[Release, frozenset[str]]:
        """The release, and the ServiceAccounts that the hooks of its end run as."""
        release = await live_release(self.client, identity)
        if release.state is ReleaseState.ABSENT:
            return release, frozenset()
        name = f"sh.helm.release.v1.{identity.name}.v{release.revision}"
        secret = await self.client.get(resources.SECRETS, name, identity.namespace)
        if secret is None:
            return release, frozenset()
        try:
            accounts = decode(secret).delete_hook_accounts
            return release, frozenset(one.name for one in accounts if one.namespace == identity.namespace)
        except Invalid:
            # Helm will say so itself, better than we could; nothing is known of hooks then, and none is helped.
            return release, frozenset()

    async def _custom(
        self, identity: Identity, *, thorough: bool
    ) -> tuple[tuple[Manifest, ...], tuple[Manifest, ...] | None]:
        """Custom resources, and everything else if that is asked for, as far as the installer may see them."""
        definitions, served = await asyncio.gather(
            self.client.list(resources.CUSTOM_RESOURCE_DEFINITIONS, metadata_only=True), discover(self.client)
        )
        custom = {item["metadata"]["name"] for item in definitions.items if not _is_own(item["metadata"]["name"])}
        kinds = [kind for kind in served.kinds if _name_of(kind) in custom]
        others = [
            kind
            for kind in served.kinds
            if thorough and _name_of(kind) not in custom and kind.resource.kind not in _NOT_IN_HUSKS
        ]
        self._kinds.update({(one.resource.api_version, one.resource.kind): one.resource for one in (*kinds, *others)})
        installer = self.client.acting_as(service_account_user(identity.namespace, INSTALLER))
        listings = await asyncio.gather(
            *(_listed(installer, kind.resource, identity.namespace) for kind in (*kinds, *others))
        )
        found = [item for listing in listings[: len(kinds)] for item in listing if not _is_owned(item)]
        rest = [item for listing in listings[len(kinds) :] for item in listing]
        return tuple(found), tuple(rest) if thorough else None


async def live(client: KubeClient, namespace: str, kinds: Iterable[Resource]) -> dict[Resource, tuple[Manifest, ...]]:
    """
    The objects of some kinds in one namespace, as the last write left them.

    Args:
        client: Speaks to the API server.
        namespace: Where.
        kinds: Which.

    """
    wanted = tuple(kinds)
    listings = await asyncio.gather(*(client.list(kind, namespace) for kind in wanted))
    return {kind: tuple(listing.items) for kind, listing in zip(wanted, listings, strict=True)}


async def live_release(client: KubeClient, identity: Identity) -> Release:
    """The environment's release, as its Secrets tell it."""
    found = await client.list(resources.SECRETS, identity.namespace, label_selector=HELM_SECRETS, metadata_only=True)
    return release_of(identity.name, (item["metadata"] for item in found.items))


def workloads_of(found: Mapping[Resource, tuple[Manifest, ...]]) -> Workloads:
    """Listings by kind, as workloads."""
    return Workloads(
        deployments=found[resources.DEPLOYMENTS],
        stateful_sets=found[resources.STATEFUL_SETS],
        daemon_sets=found[resources.DAEMON_SETS],
        jobs=found[resources.JOBS],
        claims=found[resources.PERSISTENT_VOLUME_CLAIMS],
        pods=found[resources.PODS],
    )


async def _listed(client: KubeClient, resource: Resource, namespace: str) -> list[dict[str, Any]]:
    """What one may delete of a kind: what the installer may not, no chart of ours has made."""
    with suppress(Forbidden):
        listing = await client.list(resource, namespace, metadata_only=resource.kind not in _READ_WHOLE)
        if not listing.items or not await can_i(client, "delete", resource.group, resource.plural, namespace):
            return []
        named = {"apiVersion": resource.api_version, "kind": resource.kind}
        return [{**item, **named} for item in listing.items]
    return []


def _name_of(kind: Served) -> str:
    return f"{kind.resource.plural}.{kind.resource.group}"


def _is_own(definition: str) -> bool:
    return definition.endswith(".envprov.io")


def _is_owned(item: Manifest) -> bool:
    """Whether something else takes it along."""
    return bool(item["metadata"].get("ownerReferences"))
