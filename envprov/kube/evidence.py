"""
Gathers what ``why`` decides from: everything at once, each part by itself and within bounds of time and size.

A part that cannot be read does not keep the others from being read; why it could not is part of the evidence. First
what is cheap and always tells something, then what the pure half asks for: nodes, webhooks, APIServices, ends of logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from envprov.domain.errors import Conflict, EnvprovError, Forbidden, Invalid
from envprov.domain.evidence import Evidence, LogWanted, Part, ReleaseTold, condition_of, is_going, name_of
from envprov.domain.leases import CONTROLLER_LEASE, HELM_LEASE
from envprov.domain.loose import moment, text, within
from envprov.domain.names import namespace_of, slug
from envprov.domain.pod_faults import is_ready
from envprov.domain.release import release_of
from envprov.domain.sizes import Size
from envprov.domain.why import Wanted, further
from envprov.domain.why_down import content_wanted
from envprov.kube import resources
from envprov.kube.client import KubeClient, Object
from envprov.kube.discovery import discover
from envprov.kube.relay import pod_log
from envprov.kube.resources import Resource
from envprov.kube.tombstones import tombstone_name

PATIENCE_SECONDS = 4.0
"""For one part. Three rounds of them, one after the other, end before a person gives up."""
MOMENT_SECONDS = 1.5
"""Until what may just be on its way is looked at again."""
ITEMS_LIMIT = 500
"""Objects of one kind."""
RESPONSE_LIMIT_BYTES = 16 << 20
LOG_LINES = 20
LOG_BYTES = 4096
LOG_READ_BYTES = LOG_BYTES * 16
LAST_LINE_BYTES = 4 << 20
"""A node cuts what it gives at the end: of lines that are too long together the last one is read by itself."""
NODES_LIMIT = 10
"""Nodes that are looked at because of the pods that they have."""
NODES_PAGE = 50
NODES_LISTED = 200
"""Nodes are large: of so many the taints are told."""
KINDS_LIMIT = 10

NODES = Resource("v1", "Node", "nodes", namespaced=False)
STORAGE_CLASSES = Resource("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)
API_SERVICES = Resource("apiregistration.k8s.io/v1", "APIService", "apiservices", namespaced=False)
_ADMISSION = "admissionregistration.k8s.io/v1"
WEBHOOKS = (
    Resource(_ADMISSION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", namespaced=False),
    Resource(_ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", namespaced=False),
)

_IN_NAMESPACE: tuple[tuple[Part, Resource, bool], ...] = (
    (Part.PODS, resources.PODS, False),
    (Part.EVENTS, resources.EVENTS, False),
    (Part.DEPLOYMENTS, resources.DEPLOYMENTS, False),
    (Part.STATEFUL_SETS, resources.STATEFUL_SETS, False),
    (Part.DAEMON_SETS, resources.DAEMON_SETS, False),
    (Part.REPLICA_SETS, resources.REPLICA_SETS, False),
    (Part.JOBS, resources.JOBS, False),
    (Part.CLAIMS, resources.PERSISTENT_VOLUME_CLAIMS, False),
    (Part.SERVICES, resources.SERVICES, False),
    (Part.ACCOUNTS, resources.SERVICE_ACCOUNTS, True),
    (Part.CONFIG_MAPS, resources.CONFIG_MAPS, True),
    (Part.SECRETS, resources.SECRETS, True),
)
"""Kinds that are listed, and whether their metadata is enough: of what may be secret, only names are read."""
_KINDS = {part: resource for part, resource, _ in _IN_NAMESPACE}


@dataclass(frozen=True)
class Subject:
    """
    What is asked about.

    Attributes:
        project: Name of the Project.
        branch: The branch.
        control: Control namespace.
        sizes: The sizes that a refusal by the quota can be answered with.
        projects: All Projects, if somebody has read them already.

    """

    project: str
    branch: str
    control: str
    sizes: Mapping[str, Size]
    projects: tuple[Object, ...] | None = None


@dataclass
class _Found:
    """What was gathered so far."""

    items: dict[Part, tuple[Object, ...]] = field(default_factory=dict)
    unread: dict[Part, str] = field(default_factory=dict)
    is_led: bool | None = None
    release: ReleaseTold | None = None
    logs: dict[LogWanted, str] = field(default_factory=dict)
    absent_nodes: set[str] = field(default_factory=set)


async def gather_evidence(
    client: KubeClient, subject: Subject, tell: Callable[[Mapping[str, Any]], ReleaseTold]
) -> Evidence:
    """
    Everything that can be seen of one environment.

    Args:
        client: Speaks to the API server, with the rights of who asks.
        subject: What is asked about.
        tell: Reads one of Helm's Secrets.

    Returns:
        Always; what could not be read is named in it.

    """
    return await _Gatherer(client, subject, tell).gather()


@dataclass(frozen=True)
class _Gatherer:
    client: KubeClient
    subject: Subject
    tell: Callable[[Mapping[str, Any]], ReleaseTold]
    found: _Found = field(default_factory=_Found)

    async def gather(self) -> Evidence:
        control, namespace = self.subject.control, self._namespace
        release = asyncio.create_task(self._release())
        await asyncio.gather(
            self._projects(),
            self._part(Part.RECORD, self._get(resources.ENVIRONMENTS, self._name, control)),
            self._controller(),
            self._part(Part.NAMESPACE, self._get(resources.NAMESPACES, namespace)),
            self._part(Part.HELM_LOCK, self._get(resources.LEASES, HELM_LEASE, namespace)),
            *(self._listed(part, resource, metadata_only=only) for part, resource, only in _IN_NAMESPACE),
            release,
        )
        first = self._evidence()
        wanted = further(first)
        if wanted.parts or wanted.logs or wanted.again:
            await self._further(wanted, first)
        return self._evidence()

    @property
    def _name(self) -> str:
        return slug(self.subject.project, self.subject.branch)

    @property
    def _namespace(self) -> str:
        return namespace_of(self._name)

    def _evidence(self) -> Evidence:
        return Evidence(
            project=self.subject.project,
            branch=self.subject.branch,
            control=self.subject.control,
            now=datetime.now(UTC),
            items=dict(self.found.items),
            unread=dict(self.found.unread),
            is_led=self.found.is_led,
            release=self.found.release,
            logs=dict(self.found.logs),
            absent_nodes=frozenset(self.found.absent_nodes),
            sizes=self.subject.sizes,
        )

    # --- The first round

    async def _projects(self) -> None:
        if self.subject.projects is not None:
            self.found.items[Part.PROJECTS] = self.subject.projects
            return
        await self._listed(Part.PROJECTS, resources.PROJECTS, namespace=self.subject.control)

    async def _controller(self) -> None:
        """The Lease; one that seems to be stale is given the time in which its holder would have renewed it."""

        async def read() -> tuple[Object, ...]:
            lease = await self.client.get(resources.LEASES, CONTROLLER_LEASE, self.subject.control)
            if lease is None or not within(lease, "spec").get("holderIdentity"):
                self.found.is_led = False
                return () if lease is None else (lease,)
            if not _is_fresh(lease):
                newer = await self._renewed(lease)
                self.found.is_led = newer is not None
                return (newer or lease,)
            self.found.is_led = True
            return (lease,)

        await self._part(Part.CONTROLLER, read())

    async def _renewed(self, lease: Object) -> Object | None:
        """A Lease that has moved since, whatever the clocks say; None if it did not."""
        before = within(lease, "spec").get("renewTime")
        until = asyncio.get_running_loop().time() + PATIENCE_SECONDS - 1
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.5)
            newer = await self.client.get(resources.LEASES, CONTROLLER_LEASE, self.subject.control)
            if newer is not None and within(newer, "spec").get("renewTime") != before:
                return newer
        return None

    async def _release(self) -> None:
        """The newest revision of the release. Of the Secrets only that one is read with what it holds."""

        async def read() -> tuple[Object, ...]:
            labels = f"owner=helm,name={self._name}"
            secrets = await self._bounded(
                Part.RELEASE, resources.SECRETS, self._namespace, label_selector=labels, metadata_only=True
            )
            newest = release_of(self._name, (item["metadata"] for item in secrets))
            if not newest.revision:
                return ()
            name = f"sh.helm.release.v1.{self._name}.v{newest.revision}"
            secret = await self.client.get(resources.SECRETS, name, self._namespace)
            if secret is not None:
                # Helm's Secrets are large, and unpacking takes a while.
                self.found.release = await asyncio.to_thread(self.tell, secret)
            return ()

        await self._part(Part.RELEASE, read())

    # --- What else is wanted

    async def _further(self, wanted: Wanted, first: Evidence) -> None:
        readers: dict[Part, Callable[[], Awaitable[None]]] = {
            Part.TOMBSTONE: self._tombstone,
            Part.NODES: self._nodes,
            Part.STORAGE_CLASSES: lambda: self._listed(Part.STORAGE_CLASSES, STORAGE_CLASSES, namespace=None),
            Part.API_SERVICES: lambda: self._listed(Part.API_SERVICES, API_SERVICES, namespace=None),
            Part.WEBHOOKS: self._webhooks,
            Part.CONTENT: self._content,
        }
        await asyncio.gather(
            *(read() for part, read in readers.items() if part in wanted.parts),
            *(self._log(log) for log in wanted.logs),
            *(self._again(part) for part in wanted.again if part in _KINDS and first.knows(part)),
        )

    async def _again(self, part: Part) -> None:
        await asyncio.sleep(MOMENT_SECONDS)
        await self._listed(part, _KINDS[part])

    async def _tombstone(self) -> None:
        name = tombstone_name(self._name)
        await self._part(Part.TOMBSTONE, self._get(resources.CONFIG_MAPS, name, self.subject.control))

    async def _nodes(self) -> None:
        """Those of pods that are not as they should be; the others only if a pod finds no node."""
        pods = self.found.items.get(Part.PODS, ())
        names = {text(within(pod, "spec").get("nodeName")) for pod in pods if not is_ready(pod) or is_going(pod)} - {""}
        is_seeking = any(condition_of(pod, "PodScheduled").get("status") == "False" for pod in pods)

        async def read() -> tuple[Object, ...]:
            chosen = sorted(names)[:NODES_LIMIT]
            if len(names) > NODES_LIMIT:
                self.found.unread[Part.NODES] = f"only {NODES_LIMIT} of {len(names)} were looked at"
            nodes = await asyncio.gather(*(self.client.get(NODES, name) for name in chosen))
            self.found.absent_nodes |= {name for name, node in zip(chosen, nodes, strict=True) if node is None}
            found = {name_of(node): node for node in nodes if node is not None}
            if is_seeking:
                listed = await self._bounded(Part.NODES, NODES, None, size=NODES_PAGE, limit=NODES_LISTED)
                found |= {name_of(node): node for node in listed}
            return tuple(found.values())

        await self._part(Part.NODES, read())

    async def _webhooks(self) -> None:
        async def read() -> tuple[Object, ...]:
            both = await asyncio.gather(*(self._bounded(Part.WEBHOOKS, kind, None) for kind in WEBHOOKS))
            return tuple(item for items in both for item in items)

        await self._part(Part.WEBHOOKS, read())

    async def _content(self) -> None:
        """Objects of the kinds of which the Namespace says that some are left."""
        namespace = next(iter(self.found.items.get(Part.NAMESPACE, ())), {})
        wanted = content_wanted(namespace)[:KINDS_LIMIT]

        async def read() -> tuple[Object, ...]:
            served = (await discover(self.client)).kinds
            kinds = [kind.resource for kind in served if _full_name(kind.resource) in wanted]
            listed = await asyncio.gather(
                *(self._bounded(Part.CONTENT, kind, self._namespace, metadata_only=True) for kind in kinds)
            )
            return tuple(
                {**item, "apiVersion": kind.api_version, "kind": kind.kind}
                for kind, items in zip(kinds, listed, strict=True)
                for item in items
            )

        await self._part(Part.CONTENT, read())

    async def _log(self, log: LogWanted) -> None:
        async def read(*, previous: bool) -> str:
            asked = partial(pod_log, self.client, log.pod, self._namespace, container=log.container, previous=previous)
            said = await asked(tail_lines=LOG_LINES, limit_bytes=LOG_READ_BYTES)
            if len(said.encode()) >= LOG_READ_BYTES:
                said = await asked(tail_lines=1, limit_bytes=LAST_LINE_BYTES)
            return end_of(said, LOG_BYTES)

        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                try:
                    self.found.logs[log] = await read(previous=log.previous)
                except Invalid:  # it was not restarted yet, or what came before is gone
                    self.found.logs[log] = await read(previous=not log.previous)
        except (EnvprovError, TimeoutError) as error:
            self.found.unread[Part.LOGS] = f"of container {log.container} in Pod {log.pod}: {_why(error)}"

    # --- One part

    async def _listed(
        self, part: Part, resource: Resource, *, namespace: str | None = "", metadata_only: bool = False
    ) -> None:
        where = self._namespace if namespace == "" else namespace
        await self._part(part, self._bounded(part, resource, where, metadata_only=metadata_only))

    async def _get(self, resource: Resource, name: str, namespace: str | None = None) -> tuple[Object, ...]:
        found = await self.client.get(resource, name, namespace)
        return () if found is None else (found,)

    async def _bounded(  # noqa: PLR0913 - the selection is the API's own
        self,
        part: Part,
        resource: Resource,
        namespace: str | None,
        *,
        label_selector: str | None = None,
        metadata_only: bool = False,
        size: int = ITEMS_LIMIT,
        limit: int = ITEMS_LIMIT,
    ) -> tuple[Object, ...]:
        items: list[Object] = []
        pages = self.client.pages(
            resource, namespace, label_selector=label_selector, metadata_only=metadata_only, size=size
        )
        async with aclosing(pages):
            async for page in pages:
                if len(items) >= limit:
                    self.found.unread[part] = f"only the first {limit} were looked at"
                    break
                items += page.items
        return tuple(items)

    async def _part(self, part: Part, reading: Awaitable[tuple[Object, ...]]) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                self.found.items[part] = await reading
        except (EnvprovError, TimeoutError) as error:
            self.found.unread[part] = _why(error)


def end_of(said: str, most: int) -> str:
    """The end of a text; if something is left out, that is marked."""
    if len(said) <= most:
        return said
    cut = said[-most:]
    _, newline, whole_lines = cut.partition("\n")
    return f"… (cut)\n{whole_lines if newline and whole_lines.strip() else cut}"


def _is_fresh(lease: Object) -> bool:
    spec = within(lease, "spec")
    renewed, seconds = moment(spec.get("renewTime")), spec.get("leaseDurationSeconds")
    lasting = timedelta(seconds=seconds if isinstance(seconds, int) else 15)
    return renewed is not None and datetime.now(UTC) - renewed <= lasting


def _full_name(resource: Resource) -> str:
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def _why(error: BaseException) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {PATIENCE_SECONDS:g} s"
        case Forbidden():
            return f"you may not: {error}"
        case Conflict():
            return f"gone meanwhile: {error}"
        case _:
            return str(error)
