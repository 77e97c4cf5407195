"""
What the API server serves, in three requests: its version and aggregated discovery, broken API groups among it.

``Kinds`` remembers it for some seconds. A kind that is not in what is remembered is asked for again at once, so a
CustomResourceDefinition that was just installed is never said to be missing.

Source: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from envprov.domain.errors import Unavailable
from envprov.kube.client import KubeClient
from envprov.kube.resources import Resource

_ACCEPT = ", ".join(
    f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" for version in ("v2", "v2beta1")
)
_LIST_AND_DELETE = frozenset({"list", "delete"})
REMEMBERED_SECONDS = 30.0


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
        stale: Groups with version, such as ``metrics.k8s.io/v1beta1``, whose own server does not answer: their kinds
            may be missing, and a namespace that is being deleted waits for them.
        every: Each kind in each version that is served, by ``apiVersion`` and kind.
        version: Of the server, such as ``v1.37.2``; empty if it does not say.

    """

    kinds: tuple[Served, ...]
    stale: tuple[str, ...]
    every: Mapping[tuple[str, str], Resource] = field(default_factory=dict)
    version: str = ""


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
    told, *answers = await asyncio.gather(
        client.get_raw("/version"), *(client.get_raw(path, accept=_ACCEPT) for path in ("/api", "/apis"))
    )
    kinds: dict[tuple[str, str], Served] = {}
    every: dict[tuple[str, str], Resource] = {}
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
                    every.setdefault((api_version, served.resource.kind), served.resource)
                    if served.resource.namespaced and served.verbs >= _LIST_AND_DELETE:
                        kinds.setdefault((name, served.resource.plural), served)
    version = str(told.get("gitVersion", "")) if isinstance(told, dict) else ""
    return Discovery(tuple(kinds.values()), tuple(stale), every, version)


class Kinds:
    """
    What the API server serves, remembered for some seconds. May be shared by all tasks of one event loop.

    Args:
        client: Whom to ask.
        remembered: Seconds for which an answer will do.

    """

    def __init__(self, client: KubeClient, *, remembered: float = REMEMBERED_SECONDS) -> None:
        self._client = client
        self._remembered = remembered
        self._asking = asyncio.Lock()
        self._known: Discovery | None = None
        self._asked = 0.0

    async def including(self, wanted: Iterable[tuple[str, str]]) -> Discovery:
        """
        What is served, as of a short time ago.

        Args:
            wanted: Kinds, by ``apiVersion`` and kind, that are only said to be missing if they are missing now.

        Raises:
            Unavailable: See ``discover``.

        """
        kinds = frozenset(wanted)
        called = asyncio.get_running_loop().time()
        async with self._asking:
            known = self._known
            is_fresh = called - self._asked < self._remembered
            # Somebody else may have asked while we waited; no answer is better than that.
            if known is None or (self._asked < called and not (is_fresh and kinds <= known.every.keys())):
                asked = asyncio.get_running_loop().time()
                known = await discover(self._client)
                self._known, self._asked = known, asked
        return known


def _served(api_version: str, version: Mapping[str, Any]) -> Iterator[Served]:
    for entry in version.get("resources") or ():
        verbs = frozenset(entry.get("verbs") or ())
        kind = (entry.get("responseKind") or {}).get("kind")
        # A resource without kind is there for its subresources only.
        if kind:
            is_namespaced = entry.get("scope") == "Namespaced"
            yield Served(Resource(api_version, kind, entry["resource"], is_namespaced), verbs)
