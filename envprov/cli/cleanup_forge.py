"""What GitLab adds to the plan of a cleanup: branches that are gone, and environments there that are none of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

from envprov.cli.cleanup_plan import PAGE, Finding
from envprov.cli.session import Session
from envprov.controller.sweep import BranchSweep, Gone
from envprov.domain.cleaning import Found, Why
from envprov.domain.errors import Conflict, EnvprovError
from envprov.domain.forge import ForgeEnvironment, ProjectRef
from envprov.domain.names import is_slug
from envprov.domain.policies import RECORD
from envprov.domain.sweep import Brake, Tracked
from envprov.gitlab.client import GitLabClient
from envprov.kube.resources import CONFIG_MAPS, ENVIRONMENTS, PROJECTS
from envprov.kube.sweeps import SweepBook


@dataclass
class Branches:
    """
    GitLab, as a cleanup asks it.

    Attributes:
        session: Where the records are.
        forge: GitLab.
        dry_run: Whether nothing may be written, not even a note.

    """

    session: Session
    forge: GitLabClient
    dry_run: bool
    _kept: SweepBook | None = field(default=None, init=False, repr=False)

    async def gone(self, faults: list[str]) -> Sequence[Finding]:
        """
        Sweep all projects; what a dry run only names, another one has ended already when this returns.

        Args:
            faults: Gets why a project could not be swept; the others are all the same.

        """
        book = await self._book()
        sweep = self.session.settings.sweep
        run = BranchSweep(self.forge, book, _now, Brake(sweep.brake_share, sweep.grace))
        findings: list[Finding] = []
        for tracked in book.tracked().values():
            try:
                swept = await run(tracked, dry_run=self.dry_run)
            except EnvprovError as error:
                faults.append(f"Project {tracked.project.name}: {error}")
                continue
            if swept.halt is not None and not swept.waiting:
                faults.append(f"Project {tracked.project.name}: {swept.halt.message}")
            faults += [f"Project {tracked.project.name}: {fault}" for fault in swept.faults]
            agree = f"none: many at once; `envprov cleanup --confirm-mass-delete {tracked.project.name}` agrees"
            verb = "delete" if self.dry_run else "delete: done"
            findings += [Finding(_found(one), None, agree) for one in swept.waiting]
            findings += [Finding(_found(one), None, verb) for one in swept.gone]
        return findings

    async def strangers(self, faults: list[str]) -> Sequence[Finding]:
        """
        GitLab environments that envprov made and that no Environment is left of.

        Args:
            faults: Gets why a project could not be asked; the others are all the same.

        """
        listed: list[tuple[Tracked, ForgeEnvironment]] = []
        folder = f"{self.session.settings.gitlab.folder}/"
        for tracked in (await self._book()).tracked().values():
            try:
                found = await self.forge.environments(tracked.ref, search=folder)
            except EnvprovError as error:
                faults.append(f"Project {tracked.project.name}: {error}")
                continue
            # Others may use the folder for what they make by hand, or in a pipeline.
            listed += [
                (tracked, one)
                for one in found
                if one.name.startswith(folder) and is_slug(one.name.removeprefix(folder))
            ]
        if not listed:
            return []
        # After GitLab: what is shown there has its record before, and the sweep has just made some.
        live = await self.session.client.list(ENVIRONMENTS, self.session.namespace, metadata_only=True)
        known = {f"{folder}{item['metadata']['name']}" for item in live.items}
        strangers = {(tracked.ref, one.id): (tracked, one) for tracked, one in listed if one.name not in known}
        return [
            Finding(_stranger(tracked, one), partial(self._remove, tracked.ref, one, folder), "stop and delete")
            for tracked, one in strangers.values()
        ]

    async def _remove(self, ref: ProjectRef, found: ForgeEnvironment, folder: str) -> None:
        if await self.session.environments.get(found.name.removeprefix(folder)) is not None:
            raise Conflict(f"GitLab environment {found.name} has its Environment again")
        if found.state != "stopped":
            await self.forge.stop_environment(ref, found.id)
        await self.forge.delete_environment(ref, found.id)

    async def _book(self) -> SweepBook:
        """The records as they were when they were first asked for."""
        if self._kept is None:
            self._kept = await self._read()
        return self._kept

    async def _read(self) -> SweepBook:
        client, namespace = self.session.client, self.session.namespace
        projects = (await client.list(PROJECTS, namespace)).items
        records = (await client.list(CONFIG_MAPS, namespace, label_selector=RECORD)).items
        environments: dict[str, list[Mapping[str, object]]] = {}
        async with aclosing(client.pages(ENVIRONMENTS, namespace, size=PAGE)) as pages:
            async for page in pages:
                for item in page.items:
                    environments.setdefault(item["spec"]["project"], []).append(_slim(item))
        return SweepBook(
            client=client,
            store=self.session.environments,
            control_namespace=namespace,
            projects=lambda: projects,
            environments=lambda project: environments.get(project, []),
            config_maps=lambda: records,
        )


def _slim(item: Mapping[str, Any]) -> dict[str, Any]:
    """What a sweep looks at of an Environment."""
    metadata = {name: part for name, part in item["metadata"].items() if name != "managedFields"}
    spec = {name: item["spec"][name] for name in ("project", "branch", "revision") if name in item["spec"]}
    return {"metadata": metadata, "spec": spec}


def _found(gone: Gone) -> Found:
    evidence = f"branch {gone.seen.branch} is in no complete listing since then, and GitLab does not know it"
    return Found(f"Environment {gone.seen.environment}", Why.BRANCH_GONE, gone.since, evidence)


def _stranger(tracked: Tracked, found: ForgeEnvironment) -> Found:
    evidence = f"GitLab has it {found.state} in {tracked.ref}; there is no such Environment"
    return Found(f"GitLab environment {found.name}", Why.NO_ENVIRONMENT, found.changed_at or _now(), evidence)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
