"""The Environments of one control namespace: the one writer of the record, for all who have a say in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from envprov.domain.deliveries import (
    BranchEvent,
    Dismissal,
    Ignore,
    Questioned,
    Reason,
    Recorded,
    Unwanted,
    Wanted,
)
from envprov.domain.environment import (
    API_VERSION,
    EXTENDED,
    FINALIZER,
    REDEPLOY,
    UNLOCK,
    Environment,
    EnvironmentStatus,
    GitLabStatus,
    told_of,
)
from envprov.domain.errors import Conflict
from envprov.domain.lifetime import Extension
from envprov.domain.names import slug
from envprov.domain.project import Project
from envprov.domain.told import together
from envprov.kube.client import KubeClient
from envprov.kube.record import CONTROLLER, OPTIONS, RECORDER, notes_of, owed_by
from envprov.kube.recorder import Recorder
from envprov.kube.requests import CommandRequest, GivenCommand, LookRequest, SweepRequest, command_request
from envprov.kube.resources import CONFIG_MAPS, ENVIRONMENTS
from envprov.kube.tombstones import SELECTOR, Tombstone, readable_tombstone, tombstone_name

Manifest = dict[str, Any]

EXTENSION = "envprov-extend"
"""Field manager of extensions."""

REDEPLOYMENT = "envprov-redeploy"
"""Field manager of the wish to deploy once more."""

UNLOCKING = "envprov-unlock"
"""Field manager of the wish that a stuck release be got out of where it is."""

OPTION_FIELDS = ("size", "values", "lifetime", "pinned", "asleep")


class Environments:
    """
    The Environments of one control namespace.

    Args:
        client: Speaks to the API server.
        control_namespace: Where the records are.
        now: Clock, for tombstones and requests.
        asks: Whether a controller asks GitLab about what is doubtful.

    """

    def __init__(
        self,
        client: KubeClient,
        control_namespace: str,
        *,
        now: Callable[[], datetime] | None = None,
        asks: bool = False,
    ) -> None:
        self._client = client
        self._namespace = control_namespace
        self._now = now or _utc_now
        self._recorder = Recorder(client, control_namespace, self._now, asks=asks)

    async def record(self, project: Project, event: BranchEvent) -> Recorded:
        """
        Record a delivery.

        Args:
            project: The Project that it is for; makes a record only of a branch that the Project wants.
            event: The delivery.

        Returns:
            What became of it.

        Raises:
            NameTaken: The record of that name is of another branch.
            Unavailable: The record could not be written, or others wrote it each time we tried.

        """
        return await self._recorder.record(project.name, event.branch, event, is_wanted=project.wants(event.branch))

    async def record_merge_request(
        self, project: Project, branch: str, news: BranchEvent | Wanted | Questioned
    ) -> Recorded:
        """
        Record what a merge request means for a branch.

        Args:
            project: The Project that it is for.
            branch: Branch name in full, or the name under which a merge request from a fork has its environment.
            news: What it means. The caller has seen that the Project wants the environment, if that is what it says.

        Returns:
            What became of it. An environment that somebody ended is not brought back at the same commit by a merge
            request that is only still there.

        Raises:
            NameTaken: The record of that name is of another branch.
            Unavailable: The record could not be written, or others wrote it each time we tried.

        """
        if isinstance(news, Wanted) and news.only_missing and await self._is_dismissed(project.name, branch, news):
            return Recorded(slug(project.name, branch), Ignore(Reason.LATE))
        return await self._recorder.record(project.name, branch, news)

    async def request_command(self, project: Project, given: GivenCommand) -> str:
        """
        Ask the controller to look into a command; once, however often it is delivered.

        Args:
            project: The Project that it is for.
            given: The command.

        Returns:
            Name of the request.

        """
        return await self._request(command_request(project.name, self._namespace, given))

    async def request_sweep(self, project: Project) -> str:
        """
        Ask the controller to look at all branches of a Project, as soon as it can.

        Returns:
            Name of the request; one that is already there is as good.

        """
        return await self._request(SweepRequest(project.name, self._now(), self._namespace))

    async def request_look(self) -> str:
        """
        Ask the guard to look at who uses what, as soon as it can.

        Returns:
            Name of the request; one that is already there is as good.

        """
        return await self._request(LookRequest(self._now(), self._namespace))

    async def up(
        self, project: str, branch: str, *, revision: str = "", options: Mapping[str, Any] | None = None
    ) -> Manifest:
        """
        Ask for the environment of a branch.

        Args:
            project: Name of the Project.
            branch: Branch name in full.
            revision: Commit that the branch is at; "" leaves a revision that is on record.
            options: See :meth:`choose`.

        Returns:
            The Environment as it now is. One with a deletionTimestamp comes back after its teardown. One that was
            asleep wakes up.

        Raises:
            Conflict: Options were given for an Environment that is being torn down.
            NameTaken: The record of that name is of another branch.

        """
        recorded = await self._recorder.record(project, branch, Wanted(revision))
        live = await self.get(recorded.environment)
        if live is None:
            raise Conflict(f"Environment {recorded.environment} was deleted while it was being recorded; try again")
        is_going = "deletionTimestamp" in live["metadata"]
        if live["spec"].get("asleep") and not is_going:  # who wants it up does not want it asleep
            options = {**(options or {}), "asleep": False}
        if not options:
            return live
        if is_going:
            raise Conflict(
                f"Environment {recorded.environment} is being torn down and will come back; "
                "give its options once it is there again"
            )
        return await self.choose(live, options)

    async def down(self, project: str, branch: str) -> bool:
        """
        Ask for the teardown of a branch's environment, and of a successor that it may have.

        Args:
            project: Name of the Project.
            branch: Branch name in full.

        Returns:
            Whether there was something to end.

        """
        recorded = await self._recorder.record(project, branch, Unwanted())
        return not isinstance(recorded.decision, Ignore)

    async def bring(self, project: str, branch: str, news: Wanted | Unwanted) -> Recorded:
        """
        Bring on record what somebody knows who has looked: the sweep.

        Args:
            project: Name of the Project.
            branch: Branch name in full.
            news: What GitLab says, and what was on record before it was asked.

        Raises:
            NameTaken: The record of that name is of another branch.
            Unavailable: The record could not be written, or others wrote it each time we tried.

        """
        return await self._recorder.record(project, branch, news)

    async def choose(self, live: Mapping[str, Any], options: Mapping[str, Any]) -> Manifest:
        """
        Set what a person chooses for an environment; what was chosen before stays, unless it is named.

        Args:
            live: The Environment as it was read.
            options: Fields of the spec in the API's own form: size, values, lifetime, pinned, asleep. None
                takes a choice back.

        Returns:
            The Environment as it now is.

        Raises:
            Conflict: It is gone.
            Invalid: A choice does not fit the schema, or the object is another one now.

        """
        metadata, spec = live["metadata"], live["spec"]
        chosen = {name: spec[name] for name in OPTION_FIELDS if name in spec} | dict(options)
        body = self._address(metadata["name"])
        body["metadata"]["uid"] = metadata["uid"]
        body["spec"] = {name: value for name, value in chosen.items() if value is not None}
        return await self._client.apply(body, manager=OPTIONS)

    async def rest(self, live: Mapping[str, Any], *, asleep: bool) -> Manifest:
        """
        Put an environment to sleep, or wake it; nothing is written if that is wanted already.

        Args:
            live: The Environment as it was read.
            asleep: Whether it is to sleep.

        Returns:
            The Environment as it now is.

        Raises:
            Conflict: It is gone, another one, or being torn down.

        """
        metadata = live["metadata"]
        if "deletionTimestamp" in metadata:
            raise Conflict(f"Environment {metadata['name']} is being torn down")
        if bool(live["spec"].get("asleep")) == asleep:
            return dict(live)
        # Said in so many words: a field that is only taken back stays if somebody else has set it, too.
        return await self.choose(live, {"asleep": asleep})

    async def extend(self, live: Mapping[str, Any], extension: Extension) -> Manifest:
        """
        Let an environment live longer; the last extension counts.

        Args:
            live: The Environment as it was read.
            extension: See :func:`envprov.domain.lifetime.extend`.

        Returns:
            The Environment as it now is.

        Raises:
            Conflict: It is gone, or another one.

        """
        body = self._address(live["metadata"]["name"])
        body["metadata"] |= {"uid": live["metadata"]["uid"], "annotations": {EXTENDED: extension.encode()}}
        return await self._client.apply(body, manager=EXTENSION)

    async def redeploy(self, live: Mapping[str, Any], at: datetime) -> Manifest:
        """
        Deploy what an environment has once more; asked for twice with one moment, it is done once.

        Args:
            live: The Environment as it was read.
            at: When it was asked for; an older one than the last changes nothing.

        Returns:
            The Environment as it now is.

        Raises:
            Conflict: It is gone, or another one.

        """
        said = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if (live["metadata"].get("annotations") or {}).get(REDEPLOY, "") >= said:
            return dict(live)
        body = self._address(live["metadata"]["name"])
        body["metadata"] |= {"uid": live["metadata"]["uid"], "annotations": {REDEPLOY: said}}
        return await self._client.apply(body, manager=REDEPLOYMENT)

    async def unlock(self, live: Mapping[str, Any], at: datetime) -> Manifest:
        """
        Ask the controller to get a release that is stuck out of where it is, at once.

        Args:
            live: The Environment as it was read.
            at: When it was asked for.

        Returns:
            The Environment as it now is.

        Raises:
            Conflict: It is gone, or another one.

        """
        body = self._address(live["metadata"]["name"])
        said = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body["metadata"] |= {"uid": live["metadata"]["uid"], "annotations": {UNLOCK: said}}
        return await self._client.apply(body, manager=UNLOCKING)

    async def get(self, name: str) -> Manifest | None:
        """The Environment of that name as the API server has it, or None."""
        return await self._client.get(ENVIRONMENTS, name, self._namespace)

    async def list(self, project: str | None = None) -> tuple[Manifest, ...]:
        """All Environments, or those of one Project, in order of project and branch."""
        found = (await self._client.list(ENVIRONMENTS, self._namespace)).items
        mine = (item for item in found if project in {None, item["spec"]["project"]})
        return tuple(sorted(mine, key=lambda item: (item["spec"]["project"], item["spec"]["branch"])))

    async def expire(self, environment: Environment) -> None:
        """
        Ask for the teardown of an environment whose lifetime has ended.

        Args:
            environment: As it was read; nothing happens if it has changed since.

        Raises:
            Conflict: It has changed since.

        """
        live = await self.get(environment.name)
        if live is None or live["metadata"]["resourceVersion"] != environment.resource_version:
            raise Conflict(f"Environment {environment.name}: has changed since it was read")
        await self._recorder.dismiss(live, Dismissal.EXPIRED)

    async def hold(self, environment: Environment) -> None:
        """
        Put our finalizer on a record that was made without it, by hand.

        Raises:
            Conflict: It has changed since it was read.

        """
        body = self._address(environment.name)
        body["metadata"] |= {
            "uid": environment.uid,
            "resourceVersion": environment.resource_version,
            "finalizers": [FINALIZER],
        }
        await self._client.apply(body, manager=CONTROLLER)

    async def report(self, environment: Environment, status: EnvironmentStatus) -> None:
        """
        Write the status, if it says something new.

        The API server does not hold the status to a UID. No other object can have the name meanwhile: the record
        goes only when the controller itself has taken the finalizer off.

        Raises:
            Conflict: The record is gone.

        """
        if status == environment.status:
            return
        # What GitLab was told has a manager of its own: it is written while the controller is at work, too.
        said = status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"gitlab"})
        await self._client.apply_status(self._address(environment.name) | {"status": said}, manager=CONTROLLER)

    async def retire(self, environment: Environment, now: datetime) -> None:
        """
        Let a record go whose teardown is finished: first the tombstone, then the finalizer.

        Args:
            environment: The record; it is read again.
            now: When it went.

        Raises:
            Conflict: It has changed in between, for instance its successor: call again.

        """
        live = await self.get(environment.name)
        if live is None or live["metadata"]["uid"] != environment.uid or "deletionTimestamp" not in live["metadata"]:
            return
        trail, successor = owed_by(live)
        before = await self._recorder.tombstone(environment.name)
        tombstone = Tombstone(
            environment=environment.name,
            project=environment.spec.project,
            branch=environment.spec.branch,
            trail=trail,
            successor=successor,
            deleted_at=now,
            namespace=self._namespace,
            revision=environment.spec.revision,
            dismissed=notes_of(live).dismissed if successor is None else "",
            told=_left_in_gitlab(live, before),
        )
        await self._client.apply(tombstone.manifest(), manager=CONTROLLER)
        metadata = live["metadata"]
        left = [name for name in metadata.get("finalizers", ()) if name != FINALIZER]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": left or None}}
        await self._client.merge_patch(ENVIRONMENTS, environment.name, self._namespace, body, manager=CONTROLLER)

    async def revive(self, name: str) -> None:
        """
        Make the Environment that a finished teardown owes, if it still does.

        Args:
            name: Name of the Environment.

        Raises:
            Conflict: The tombstone has changed in between: call again.

        """
        tombstone = await self._recorder.tombstone(name)
        if tombstone is None or tombstone.successor is None:
            return
        await self._recorder.pay(tombstone)
        await self._client.apply(replace(tombstone, successor=None).manifest(), manager=CONTROLLER)

    async def tombstones(self) -> tuple[Tombstone, ...]:
        """All tombstones that can be read."""
        found = await self._client.list(CONFIG_MAPS, self._namespace, label_selector=SELECTOR)
        return tuple(stone for item in found.items if (stone := readable_tombstone(item)) is not None)

    async def absolve(self, tombstone: Tombstone) -> None:
        """
        Let the sweep make a new record of a branch again.

        Raises:
            Conflict: The tombstone has changed since it was read.

        """
        await self._client.apply(replace(tombstone, dismissed="", revision="").manifest(), manager=CONTROLLER)

    async def bury(self, tombstone: Tombstone) -> None:
        """
        Write what a tombstone says now.

        Raises:
            Conflict: It has changed since it was read.

        """
        await self._client.apply(tombstone.manifest(), manager=CONTROLLER)

    async def forget(self, tombstone: Tombstone) -> None:
        """
        Delete a tombstone that is over.

        Raises:
            Conflict: It has changed since it was read.

        """
        await self._client.delete(
            CONFIG_MAPS,
            tombstone_name(tombstone.environment),
            tombstone.namespace,
            uid=tombstone.uid,
            resource_version=tombstone.resource_version,
        )

    async def _request(self, request: CommandRequest | LookRequest | SweepRequest) -> str:
        with suppress(Conflict):  # it is there already
            await self._client.create(request.manifest(), manager=RECORDER)
        return request.name

    async def _is_dismissed(self, project: str, branch: str, news: Wanted) -> bool:
        """Whether somebody has ended the environment at this commit, also while it is still going."""
        name = slug(project, branch)
        live = await self.get(name)
        if live is not None:
            is_going = "deletionTimestamp" in live["metadata"]
            return (
                is_going and bool(notes_of(live).dismissed) and live["spec"].get("revision", "") in {"", news.revision}
            )
        stone = await self._recorder.tombstone(name)
        return stone is not None and bool(stone.dismissed) and stone.revision in {"", news.revision}

    def _address(self, name: str) -> Manifest:
        return {
            "apiVersion": API_VERSION,
            "kind": "Environment",
            "metadata": {"name": name, "namespace": self._namespace},
        }


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _left_in_gitlab(live: Mapping[str, Any], before: Tombstone | None) -> GitLabStatus | None:
    """What a record that goes has left in GitLab, and what one before it has and nobody took over."""
    told = told_of(live)
    return told if before is None or before.told is None else together(told, before.told)
