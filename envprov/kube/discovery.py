"""
What the API server serves, in two requests: aggregated discovery, broken API groups among it.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.errors import Unavailable
from envprov.kube.client import KubeClient
from envprov.kube.resources import Resource

_ACCEPT = ", ".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)
_LIST_AND_DELETE = frozenset({"list", "delete"})


@dataclass(frozen=True)
class Served:
    """
    A kind of object that the server serves.

    Attributes:
        resource: The kind, in the version that its group prefers among those that serve it.
        verbs: What can be done with it.

    """

    resource: Resource
    verbs: frozenset[str]


@dataclass(frozen=True)
class Discovery:
    """
    What the server serves.

    Attributes:
        kinds: Kinds inside namespaces whose objects can be listed and deleted.
        resources: Every kind in every version, inside namespaces and outside.
        stale: Groups with version, such as ``metrics.k8s.io/v1beta1``, whose own server does not answer: their kinds
            may be missing, and a namespace that is being deleted waits for them.

    """

    kinds: tuple[Served, ...]
    resources: tuple[Resource, ...]
    stale: tuple[str, ...]


async def discover(client: KubeClient) -> Discovery:
    """
    Ask what the API server serves.

    Args:
        client: Whom to ask; everybody who is authenticated may.

    Returns:
        All of it; broken groups are part of the answer.

    Raises:
        Unavailable: The server does not answer, or knows no aggregated discovery (Kubernetes before 1.26).

    """
    answers = await asyncio.gather(*(client.get_raw(path, accept=_ACCEPT) for path in ("/api", "/apis")))
    kinds: dict[tuple[str, str], Served] = {}
    resources: list[Resource] = []
    stale: list[str] = []
    for answer in answers:
        if not isinstance(answer, dict) or answer.get("kind") != "APIGroupDiscoveryList":
            raise Unavailable("discover the API: the server knows no aggregated discovery; it needs Kubernetes 1.26")
        for group in answer.get("items") or ():
            name = group["metadata"].get("name", "")
            for version in group.get("versions") or ():
                api_version = f"{name}/{version['version']}" if name else version["version"]
                if version.get("freshness") == "Stale":
                    stale.append(api_version)
                for served in _served(api_version, version):
                    resources.append(served.resource)
                    if served.resource.namespaced and served.verbs >= _LIST_AND_DELETE:
                        kinds.setdefault((name, served.resource.plural), served)
    return Discovery(tuple(kinds.values()), tuple(resources), tuple(stale))


def _served(api_version: str, version: Mapping[str, Any]) -> Iterator[Served]:
    for entry in version.get("resources") or ():
        verbs = frozenset(entry.get("verbs") or ())
        kind = (entry.get("responseKind") or {}).get("kind")
        # A resource without kind is there for its subresources only.
        if kind:
            yield Served(Resource(api_version, kind, entry["resource"], entry.get("scope") == "Namespaced"), verbs)
