"""The records as the controller needs them: read from caches, written through the API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from envprov.domain.environment import API_VERSION, Condition, Environment, EnvironmentStatus, Type, faults
from envprov.domain.errors import InvalidRecord
from envprov.domain.project import Project
from envprov.domain.project_status import read_status
from envprov.kube.client import KubeClient
from envprov.kube.environments import Environments
from envprov.kube.events import Events
from envprov.kube.informer import Informer
from envprov.kube.record import CONTROLLER
from envprov.kube.tombstones import tombstone_name

Manifest = Mapping[str, Any]


class ProjectReader:
    """Reads Projects, each of their versions once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, Project | InvalidRecord]] = {}

    def read(self, manifest: Manifest) -> Project:
        """
        The Project that a manifest says.

        Raises:
            InvalidRecord: See :func:`parse_project`.

        """
        name, version = manifest["metadata"]["name"], manifest["metadata"]["resourceVersion"]
        known = self._known.get(name)
        if known is None or known[0] != version:
            known = (version, _parsed(manifest))
            self._known[name] = known
        if isinstance(known[1], InvalidRecord):
            raise known[1]
        return known[1]

    def readable(self, manifests: Iterable[Manifest]) -> tuple[Project, ...]:
        """The Projects that can be understood; what is wrong with the others, each of their Environments says."""
        found = []
        for manifest in manifests:
            with contextlib.suppress(InvalidRecord):
                found.append(self.read(manifest))
        return tuple(found)


@dataclass(frozen=True)
class ControllerRecords:
    """
    Projects, Environments and tombstones of one control namespace.

    Attributes:
        client: Speaks to the API server.
        store: The writer of the record.
        control_namespace: Where they are.
        environments: Synced cache of Environments.
        projects: Synced cache of Projects.
        tombstones: Synced cache of tombstones.

    """

    client: KubeClient
    store: Environments
    control_namespace: str
    environments: Informer
    projects: Informer
    tombstones: Informer
    _reader: ProjectReader = field(default_factory=ProjectReader, repr=False)

    def environment(self, name: str) -> Manifest | None:
        """The Environment as last seen, or None."""
        return self.environments.get(name, self.control_namespace)

    def project(self, name: str) -> Project | None:
        """The Project as last seen, or None."""
        manifest = self.projects.get(name, self.control_namespace)
        if manifest is None:
            return None
        return self._reader.read(manifest)

    def pending_successor(self, name: str) -> str | None:
        """Revision that a finished teardown owes a new Environment of this name, or None."""
        manifest = self.tombstones.get(tombstone_name(name), self.control_namespace)
        return None if manifest is None else manifest.get("data", {}).get("successor")

    async def superseded(self, environment: Environment) -> None:
        """Return when a newer generation, or the deletion, of the Environment has been seen."""

        def is_newer(live: Manifest | None) -> bool:
            if live is None:
                return True
            metadata = live["metadata"]
            return metadata.get("generation") != environment.generation or "deletionTimestamp" in metadata

        await self.environments.wait_for(environment.name, self.control_namespace, is_newer)

    async def hold(self, environment: Environment) -> None:
        """Put our finalizer on the Environment."""
        await self.store.hold(environment)

    async def report(self, environment: Environment, status: EnvironmentStatus) -> None:
        """Write the status."""
        await self.store.report(environment, status)

    async def report_poison(self, manifest: Manifest, message: str, now: datetime) -> None:
        """Say on an Environment that cannot be read why it cannot; nothing if it says so already."""
        metadata = manifest["metadata"]
        told = manifest.get("status", {}).get("conditions", ())
        if any(entry.get("type") == Type.ACCEPTED and entry.get("message") == message for entry in told):
            return
        conditions = tuple(
            Condition(
                type=kind,
                status="False",
                reason=reason,
                message=message,
                last_transition_time=now.replace(microsecond=0),
            )
            for kind, reason in ((Type.ACCEPTED, InvalidRecord.__name__), (Type.READY, "Stalled"))
        )
        status = EnvironmentStatus(conditions=conditions).model_dump(mode="json", by_alias=True, exclude_none=True)
        address = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
        body = {"apiVersion": API_VERSION, "kind": "Environment", "metadata": address, "status": status}
        await self.client.apply_status(body, manager=CONTROLLER)

    async def retire(self, environment: Environment, now: datetime) -> None:
        """Take our finalizer off, after keeping what late deliveries must be judged by."""
        await self.store.retire(environment, now)

    async def revive(self, name: str) -> None:
        """Make the Environment that a finished teardown owes."""
        await self.store.revive(name)

    async def expire(self, environment: Environment) -> None:
        """Ask for the teardown of an Environment whose lifetime has ended."""
        await self.store.expire(environment)

    async def tell(self, environment: Environment, reason: str, message: str, *, warning: bool) -> None:
        """Record an Event; that it cannot be recorded stops nothing."""
        about = {
            "apiVersion": API_VERSION,
            "kind": "Environment",
            "name": environment.name,
            "namespace": environment.namespace,
            "uid": environment.uid,
        }
        await Events(self.client, CONTROLLER).tell(about, reason, message, warning=warning)


def parse_project(manifest: Manifest) -> Project:
    """
    Read a Project from the API's own form.

    Args:
        manifest: The object as the API server sent it.

    Raises:
        InvalidRecord: A field is wrong; the message names it and what is wrong with it.

    """
    name = manifest["metadata"]["name"]
    try:
        return Project.model_validate(
            {"name": name, "spec": manifest.get("spec", {}), "known_id": read_status(manifest).gitlab_id}
        )
    except ValidationError as error:
        raise InvalidRecord(f"Project {name}: {faults(error)}") from error


def _parsed(manifest: Manifest) -> Project | InvalidRecord:
    try:
        return parse_project(manifest)
    except InvalidRecord as error:
        return error
