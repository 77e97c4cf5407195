"""The GitLab half of the composition root: its client, and the loops that keep both sides in step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from envprov.controller.commands import Commander
from envprov.controller.errands import Errands
from envprov.controller.hooks import watch_hook
from envprov.controller.metrics import ErrandMetrics, SweepMetrics
from envprov.controller.publisher import Publisher
from envprov.controller.sweep import BranchSweep, Swept
from envprov.controller.sweeper import Sweeper
from envprov.controller.workqueue import WorkQueue
from envprov.domain.environment import DOUBTED
from envprov.domain.sweep import Brake, Tracked
from envprov.gitlab.client import GitLabClient
from envprov.kube import resources
from envprov.kube.client import KubeClient
from envprov.kube.environments import Environments
from envprov.kube.informer import Informer
from envprov.kube.publishing import CommandBook, PublishingRecords, key_of_command
from envprov.kube.records import ControllerRecords
from envprov.kube.resources import Resource
from envprov.kube.sweeps import SweepBook
from envprov.settings import Settings
from envprov.watched import BY_PROJECT, wake_by_label, wake_of_project, wake_own

Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Works beside the workers until the event is set."""

ERRAND_BASE_SECONDS = 1.0
"""First pause after an errand that failed."""


@dataclass(frozen=True)
class Shared:
    """
    What the loops share with the rest of the controller.

    Attributes:
        client: Speaks to the API server.
        store: The writer of the record.
        records: The records as last seen.
        caches: One informer for each watched kind.
        registry: Where metrics are registered.

    """

    client: KubeClient
    store: Environments
    records: ControllerRecords
    caches: Mapping[Resource, Informer]
    registry: CollectorRegistry


def gitlab_loops(
    settings: Settings, forge: GitLabClient, shared: Shared, now: Callable[[], datetime]
) -> tuple[Loop, ...]:
    """
    The loops that work between GitLab and the records.

    Args:
        settings: All settings.
        forge: GitLab.
        shared: What they share with the rest of the controller.
        now: Clock; aware moments.

    Returns:
        The sweep of branches, what GitLab is shown, and commands in merge requests.

    """
    metrics = ErrandMetrics(shared.registry)
    sweeper = _sweeper(settings, forge, shared, now)
    publishing, commanding = _publisher(settings, forge, shared, now, metrics), _commander(forge, shared, now, metrics)
    return sweeper.run, publishing.run, commanding.run


def _sweeper(settings: Settings, forge: GitLabClient, shared: Shared, now: Callable[[], datetime]) -> Sweeper:
    environments = shared.caches[resources.ENVIRONMENTS]
    book = SweepBook(
        client=shared.client,
        store=shared.store,
        control_namespace=settings.platform.control_namespace,
        projects=shared.caches[resources.PROJECTS].items,
        environments=lambda project: environments.by_index(BY_PROJECT, project),
        config_maps=shared.caches[resources.CONFIG_MAPS].items,
    )
    sweep = BranchSweep(forge, book, now, Brake(settings.sweep.brake_share, settings.sweep.grace))

    async def sweep_and_watch(tracked: Tracked) -> Swept:
        swept = await sweep(tracked)
        tracked = replace(tracked, status=swept.status)
        found = await watch_hook(forge, tracked, settings.gitlab.hook_url, now())
        if found.status != tracked.status:
            await book.report(tracked, found.status)
        return await sweep(replace(tracked, status=found.status)) if found.sweep_due else swept

    sweeper = Sweeper(sweep_and_watch, book, interval=settings.sweep.interval, metrics=SweepMetrics(shared.registry))

    def wake_if_doubted(manifest: Mapping[str, Any]) -> None:
        if DOUBTED in manifest["metadata"].get("annotations", {}):
            sweeper.wake()

    environments.on_change(wake_if_doubted)
    for kind in (resources.PROJECTS, resources.CONFIG_MAPS):
        shared.caches[kind].on_change(lambda _: sweeper.wake())
    return sweeper


def _publisher(
    settings: Settings, forge: GitLabClient, shared: Shared, now: Callable[[], datetime], metrics: ErrandMetrics
) -> Errands:
    records = PublishingRecords(shared.client, shared.store, shared.records)
    publisher = Publisher(forge, records, now=now, metrics=metrics, folder=settings.gitlab.folder)
    errands = Errands("publish", WorkQueue(base=ERRAND_BASE_SECONDS), publisher, metrics)
    metrics.show_depth("publish", lambda: errands.queue.depth)

    by_project = partial(shared.caches[resources.ENVIRONMENTS].by_index, BY_PROJECT)
    shared.caches[resources.ENVIRONMENTS].on_change(wake_own(errands.wake))
    shared.caches[resources.PROJECTS].on_change(wake_of_project(by_project, errands.wake))
    shared.caches[resources.CONFIG_MAPS].on_change(wake_by_label(errands.wake))
    return errands


def _commander(forge: GitLabClient, shared: Shared, now: Callable[[], datetime], metrics: ErrandMetrics) -> Errands:
    requests = shared.caches[resources.CONFIG_MAPS]
    book = CommandBook(shared.client, shared.store, shared.records, requests)
    errands = Errands("command", WorkQueue(base=ERRAND_BASE_SECONDS), Commander(forge, book, now, metrics), metrics)

    def wake(manifest: Mapping[str, Any]) -> None:
        key = key_of_command(manifest)
        if key is not None:
            errands.wake(key)

    requests.on_change(wake)
    return errands
