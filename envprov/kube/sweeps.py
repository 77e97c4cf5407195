"""The records as the branch sweep needs them: read from caches or one listing, written through the API."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from envprov.domain.deliveries import Absent, Known, Recorded, Terminating, Unwanted, Wanted
from envprov.domain.environment import ABSENT_SINCE, API_VERSION
from envprov.domain.errors import InvalidRecord
from envprov.domain.lifetime import noted_moment
from envprov.domain.policies import RECORD
from envprov.domain.project import Project
from envprov.domain.project_status import CONFIRMED, ProjectStatus, read_status
from envprov.domain.sweep import Seen, Tracked
from envprov.kube import requests
from envprov.kube.client import KubeClient
from envprov.kube.environments import Environments
from envprov.kube.record import CONTROLLER, known_of, notes_of
from envprov.kube.records import ProjectReader
from envprov.kube.resources import CONFIG_MAPS
from envprov.kube.tombstones import Tombstone, readable_tombstone

Manifest = Mapping[str, Any]

SWEEP = "envprov-sweep"
"""Field manager of what the sweep notes on records."""

_STONE = "tombstone"


@dataclass(frozen=True)
class SweepBook:
    """
    Projects, Environments, tombstones and requests of one control namespace.

    Attributes:
        client: Speaks to the API server.
        store: The writer of the record.
        control_namespace: Where they are.
        projects: Gives all Projects.
        environments: Gives the Environments of one Project.
        config_maps: Gives tombstones and requests; others do no harm.

    """

    client: KubeClient
    store: Environments
    control_namespace: str
    projects: Callable[[], Iterable[Manifest]]
    environments: Callable[[str], Iterable[Manifest]]
    config_maps: Callable[[], Iterable[Manifest]]
    _reader: ProjectReader = field(default_factory=ProjectReader, repr=False)

    def tracked(self) -> dict[str, Tracked]:
        """All Projects that come from GitLab and can be understood, by name."""
        asked: dict[str, set[str]] = {}
        for item in self.config_maps():
            if _record(item) == requests.SWEEP:
                name = str((item.get("data") or {}).get("project", ""))
                asked.setdefault(name, set()).add(item["metadata"]["uid"])
        found: dict[str, Tracked] = {}
        for item in self.projects():
            try:
                project = self._reader.read(item)
            except InvalidRecord:
                continue  # each of its Environments says so
            if project.spec.gitlab is None or "deletionTimestamp" in item["metadata"]:
                continue
            urgent = asked.get(project.name, set()) | self._doubts(project.name)
            found[project.name] = Tracked(
                project=project,
                ref=project.spec.gitlab.project,
                uid=item["metadata"]["uid"],
                generation=item["metadata"].get("generation", 1),
                status=read_status(item),
                confirmed=str((item["metadata"].get("annotations") or {}).get(CONFIRMED, "")),
                urgent=frozenset(urgent),
            )
        return found

    def seen(self, project: str) -> tuple[Seen, ...]:
        """What is on record of a project's branches; what was torn down, from its tombstone."""
        found = {
            stone.branch: Seen(
                environment=stone.environment,
                branch=stone.branch,
                known=Absent(stone.trail),
                dismissed_at=stone.revision if stone.dismissed else None,
            )
            for stone in self._stones(project)
            if stone.successor is None
        }
        for item in self.environments(project):
            found[item["spec"]["branch"]] = _seen(item)
        return tuple(found.values())

    async def record(self, project: Project, branch: str, news: Wanted | Unwanted) -> Recorded:
        """Bring news on record."""
        return await self.store.bring(project.name, branch, news)

    async def mark(self, seen: Seen, since: datetime | None) -> None:
        """
        Note since when no listing has had the branch; None takes the note off.

        Raises:
            Conflict: The record is gone, or another one.

        """
        metadata: dict[str, Any] = {
            "name": seen.environment,
            "namespace": self.control_namespace,
            "uid": seen.uid,
        }
        if since is not None:
            moment = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            metadata["annotations"] = {ABSENT_SINCE: moment}
        await self.client.apply({"apiVersion": API_VERSION, "kind": "Environment", "metadata": metadata}, manager=SWEEP)

    async def forget(self, seen: Seen) -> None:
        """Let a dismissal go whose branch has gone too: the tombstone is then as any other."""
        for stone in self._stones_of_all():
            if stone.environment == seen.environment and stone.dismissed:
                await self.store.absolve(stone)

    async def report(self, tracked: Tracked, status: ProjectStatus) -> None:
        """Write the status of a Project."""
        said = status.model_dump(mode="json", by_alias=True, exclude_none=True)
        body = {
            "apiVersion": API_VERSION,
            "kind": "Project",
            "metadata": {"name": tracked.project.name, "namespace": self.control_namespace},
            "status": said,
        }
        await self.client.apply_status(body, manager=CONTROLLER)

    async def settle(self, tracked: Tracked) -> None:
        """Take away the requests for a sweep that the one which begins now answers."""
        for item in tuple(self.config_maps()):
            metadata = item["metadata"]
            if _record(item) == requests.SWEEP and metadata["uid"] in tracked.urgent:
                await self.client.delete(CONFIG_MAPS, metadata["name"], self.control_namespace, uid=metadata["uid"])

    def _doubts(self, project: str) -> set[str]:
        return {
            f"{item['metadata']['name']}: {doubt}"
            for item in self.environments(project)
            if (doubt := notes_of(item).doubt) and "deletionTimestamp" not in item["metadata"]
        }

    def _stones(self, project: str) -> Iterable[Tombstone]:
        return (stone for stone in self._stones_of_all() if stone.project == project)

    def _stones_of_all(self) -> Iterable[Tombstone]:
        read = (readable_tombstone(item) for item in self.config_maps() if _record(item) == _STONE)
        return (stone for stone in read if stone is not None)


def _record(item: Manifest) -> str:
    return str((item["metadata"].get("labels") or {}).get(RECORD, ""))


def _seen(item: Manifest) -> Seen:
    known: Known = known_of(item)
    notes = notes_of(item)
    is_dismissed = isinstance(known, Terminating) and bool(notes.dismissed)
    return Seen(
        environment=item["metadata"]["name"],
        branch=item["spec"]["branch"],
        known=known,
        uid=item["metadata"]["uid"],
        absent_since=noted_moment((item["metadata"].get("annotations") or {}).get(ABSENT_SINCE)),
        doubt=notes.doubt,
        dismissed_at=item["spec"].get("revision", "") if is_dismissed else None,
    )
