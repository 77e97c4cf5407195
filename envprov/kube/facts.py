"""What the cluster has, as far as a chart can depend on it."""

from __future__ import annotations

from dataclasses import dataclass

from envprov.domain.checking import ClusterFacts
from envprov.kube.client import KubeClient
from envprov.kube.discovery import discover
from envprov.kube.resources import Resource


@dataclass(frozen=True)
class Surroundings:
    """
    What a chart can see of a cluster while it is rendered.

    Attributes:
        kube_version: Of the API server.
        resources: Every kind in every version.
        stale: Groups with version whose own server does not answer.

    """

    kube_version: str
    resources: tuple[Resource, ...]
    stale: tuple[str, ...]

    @property
    def api_versions(self) -> frozenset[str]:
        """Groups with version, and kinds, as Helm's capabilities spell them."""
        groups = {one.api_version for one in self.resources}
        return frozenset(groups | {f"{one.api_version}/{one.kind}" for one in self.resources})

    @property
    def kinds(self) -> dict[tuple[str, str], Resource]:
        """The kinds, by ``apiVersion`` and kind."""
        return {(one.api_version, one.kind): one for one in self.resources}


@dataclass(frozen=True)
class FactsReader:
    """Reads what a chart can depend on."""

    client: KubeClient

    async def served(self) -> Surroundings:
        """What the API server serves."""
        found = await discover(self.client)
        version = await self.client.get_raw("/version")
        return Surroundings(version["gitVersion"], found.resources, found.stale)

    async def read(self) -> ClusterFacts:
        """What the cluster has."""
        found = await self.served()
        scopes = {(one.api_version, one.kind): one.namespaced for one in found.resources}
        return ClusterFacts(scopes=scopes, stale=found.stale)
