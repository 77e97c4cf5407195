"""The records as the publisher and the commands need them: read from caches, written through the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from envprov.domain.commands import UNREADABLE, Act, Command, Down, Extend, Pin, Redeploy, Rest, decode, encode
from envprov.domain.deliveries import Dismissal, Ignore, Reason, Unwanted
from envprov.domain.environment import API_VERSION, EXTENDED, Environment, GitLabStatus, parse_environment
from envprov.domain.errors import Conflict, InvalidRecord
from envprov.domain.lifetime import Extension, noted_moment
from envprov.domain.names import slug
from envprov.domain.policies import RECORD
from envprov.domain.project import Project
from envprov.domain.told import Debt
from envprov.kube.client import KubeClient
from envprov.kube.environments import Environments
from envprov.kube.informer import Informer
from envprov.kube.record import known_of
from envprov.kube.records import ControllerRecords
from envprov.kube.requests import COMMAND, parse_command
from envprov.kube.resources import CONFIG_MAPS
from envprov.kube.tombstones import Tombstone, readable_tombstone, tombstone_name

Manifest = Mapping[str, Any]

GITLAB = "envprov-gitlab"
"""Field manager of what GitLab was told, and of how far commands have come."""
BY_ENVIRONMENT = "environment"
"""Index of commands by the Environment that they are about."""


def environment_index(manifest: Manifest) -> tuple[str, ...]:
    """Index of a cache of requests by the Environment that a command is about; nothing for other objects."""
    name = environment_of_command(manifest)
    return () if name is None else (name,)


def key_of_command(manifest: Manifest) -> str | None:
    """
    By which key a ConfigMap is served.

    Args:
        manifest: Any ConfigMap.

    Returns:
        Name of the Environment that it is a command for; a key of its own for one that says it is a command and cannot
        be read; None for what is no command.

    """
    environment = environment_of_command(manifest)
    if environment is None and manifest["metadata"].get("labels", {}).get(RECORD) == COMMAND:
        return f"{UNREADABLE}{manifest['metadata']['name']}"
    return environment


def environment_of_command(manifest: Manifest) -> str | None:
    """Name of the Environment that a ConfigMap is a command for, or None if it is no command."""
    try:
        command = parse_command(manifest)
    except InvalidRecord:
        return None
    return slug(command.project, command.branch)


@dataclass(frozen=True)
class PublishingRecords:
    """
    What GitLab was told, beside the records.

    Attributes:
        client: Speaks to the API server.
        store: The writer of the record.
        records: The records, as the controller reads them; its cache of tombstones, too.

    """

    client: KubeClient
    store: Environments
    records: ControllerRecords

    def environment(self, name: str) -> Environment | None:
        """The Environment as last seen; of one that cannot be understood, its project and branch."""
        return _readable(self.records.environment(name))

    def project(self, name: str) -> Project | None:
        """
        The Project as last seen, or None.

        Raises:
            InvalidRecord: It cannot be understood.

        """
        return self.records.project(name)

    def debt(self, name: str) -> Debt | None:
        """What a record that is gone has left in GitLab, as last seen."""
        stone = self._tombstone(name)
        if stone is None or stone.told is None:
            return None
        return Debt(
            environment=stone.environment,
            project=stone.project,
            branch=stone.branch,
            told=stone.told,
            why=stone.dismissed,
            version=stone.resource_version,
        )

    async def note(self, environment: Environment, told: GitLabStatus) -> None:
        """
        Put on record what GitLab was told. No other manager owns that part of the status.

        Raises:
            Conflict: The Environment is gone.

        """
        body = {
            "apiVersion": API_VERSION,
            "kind": "Environment",
            "metadata": {"name": environment.name, "namespace": environment.namespace, "uid": environment.uid},
            "status": {"gitlab": told.model_dump(mode="json", by_alias=True, exclude_none=True)},
        }
        await self.client.apply_status(body, manager=GITLAB)

    async def settle(self, debt: Debt, told: GitLabStatus | None) -> None:
        """
        Put on record what is left of a debt; None for nothing.

        Raises:
            Conflict: The tombstone has changed.

        """
        stone = self._tombstone(debt.environment)
        if stone is None or stone.resource_version != debt.version:
            raise Conflict(f"the tombstone of Environment {debt.environment} has changed")
        await self.store.bury(replace(stone, told=told))

    async def tell(self, environment: Environment, reason: str, message: str) -> None:
        """Record a warning Event on the Environment."""
        await self.records.tell(environment, reason, message, warning=True)

    def _tombstone(self, name: str) -> Tombstone | None:
        manifest = self.records.tombstones.get(tombstone_name(name), self.records.control_namespace)
        return None if manifest is None else readable_tombstone(manifest)


@dataclass(frozen=True)
class CommandBook:
    """
    The commands of merge requests, and what they do.

    Attributes:
        client: Speaks to the API server.
        store: The writer of the record.
        records: The records, as the controller reads them.
        requests: Synced cache of commands with the index BY_ENVIRONMENT; other ConfigMaps in it do no harm.

    """

    client: KubeClient
    store: Environments
    records: ControllerRecords
    requests: Informer

    def commands(self, environment: str) -> tuple[Command, ...]:
        """The commands that are on record for an Environment, as last seen."""
        return tuple(_command(item) for item in self.requests.by_index(BY_ENVIRONMENT, environment))

    def environment(self, name: str) -> Environment | None:
        """The Environment as last seen; of one that cannot be understood, its project and branch."""
        return _readable(self.records.environment(name))

    def project(self, name: str) -> Project | None:
        """
        The Project as last seen, or None.

        Raises:
            InvalidRecord: It cannot be understood.

        """
        return self.records.project(name)

    async def save(self, command: Command) -> Command:
        """
        Put on record how far a command has come.

        Returns:
            It, with the version that the record has then.

        Raises:
            Conflict: The record has changed since it was read.

        """
        act, answer, done = command.act, command.answer, command.done_at
        data = {"act": encode(act)} if act else {}
        data |= {"answer": answer} if answer else {}
        data |= {"doneAt": done.isoformat(timespec="seconds")} if done else {}
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": command.name,
                "namespace": self.records.control_namespace,
                "resourceVersion": command.version,
            },
            "data": data,
        }
        saved = await self.client.apply(body, manager=GITLAB)
        return replace(command, version=saved["metadata"]["resourceVersion"])

    def unreadable_since(self, name: str) -> datetime | None:
        """When a record was made that says it is a command and cannot be read; None if there is none of that name."""
        live = self.requests.get(name, self.records.control_namespace)
        if live is None or key_of_command(live) != f"{UNREADABLE}{name}":
            return None
        return datetime.fromisoformat(live["metadata"]["creationTimestamp"])

    async def discard(self, name: str) -> None:
        """
        Delete a record that cannot be read.

        Raises:
            Conflict: It has changed since it was read.

        """
        namespace = self.records.control_namespace
        live = self.requests.get(name, namespace)
        if live is not None:
            metadata = live["metadata"]
            version = metadata["resourceVersion"]
            await self.client.delete(CONFIG_MAPS, name, namespace, uid=metadata["uid"], resource_version=version)

    async def forget(self, command: Command) -> None:
        """
        Delete the record of a command.

        Raises:
            Conflict: It has changed since it was read.

        """
        namespace = self.records.control_namespace
        live = self.requests.get(command.name, namespace)
        if live is not None:
            await self.client.delete(CONFIG_MAPS, command.name, namespace, uid=live["metadata"]["uid"])

    async def carry_out(self, environment: str, act: Act) -> bool:
        """
        Do what was asked for; again, if it was done before, to the same effect.

        Args:
            environment: Name of the Environment.
            act: What.

        Returns:
            False if the Environment with that UID is gone or going.

        Raises:
            TerminalError: It cannot be done; says why.
            Conflict: It has changed while it was being done: call again.

        """
        live = await self.store.get(environment)
        if live is None or live["metadata"]["uid"] != act.uid or "deletionTimestamp" in live["metadata"]:
            return False
        match act:
            case Extend(extension=extension):
                last = Extension.decode((live["metadata"].get("annotations") or {}).get(EXTENDED, ""))
                if last is None or last.at < extension.at:  # else it is done, or somebody has said something newer
                    await self.store.extend(live, extension)
            case Pin(pinned=pinned):
                await self.store.choose(live, {"pinned": True if pinned else None})
            case Rest(asleep=asleep):
                await self.store.rest(live, asleep=asleep)
            case Redeploy(at=at):
                await self.store.redeploy(live, at)
            case Down():
                spec = live["spec"]
                news = Unwanted(Dismissal.DOWN, seen=known_of(live))
                recorded = await self.store.bring(spec["project"], spec["branch"], news)
                if recorded.decision == Ignore(Reason.LATE):
                    raise Conflict(f"Environment {environment}: has changed while it was being taken down")
        return True


def _readable(manifest: Manifest | None) -> Environment | None:
    if manifest is None:
        return None
    try:
        return parse_environment(manifest)
    except InvalidRecord:
        spec = manifest.get("spec", {})
        return parse_environment({**manifest, "spec": {key: spec[key] for key in ("project", "branch") if key in spec}})


def _command(manifest: Manifest) -> Command:
    given, data = parse_command(manifest), manifest["data"]
    return Command(
        name=given.name,
        project=given.project,
        branch=given.branch,
        iid=given.iid,
        note_id=given.note_id,
        discussion_id=given.discussion_id,
        author_id=given.author_id,
        text=given.text,
        created_at=given.created_at,
        act=decode(data.get("act", "")),
        answer=data.get("answer", ""),
        done_at=noted_moment(data.get("doneAt")),
        version=manifest["metadata"]["resourceVersion"],
    )
