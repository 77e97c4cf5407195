"""The composition root: the only place where edges are made and plugged together."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from envprov.base_objects import BaseObjects
from envprov.budgeting import LiveBudget, Measured
from envprov.cluster import LiveCluster
from envprov.controller.cleanup_metrics import CleanupMetrics
from envprov.controller.first import first
from envprov.controller.guardian import Guardian
from envprov.controller.metrics import GuardMetrics, Metrics
from envprov.controller.probes import create_probes
from envprov.controller.reconcile import Reconciler
from envprov.controller.run import Workers
from envprov.controller.usher import BudgetMetrics, Usher
from envprov.controller.workqueue import WorkQueue
from envprov.deploying import LiveReleases
from envprov.domain import objects
from envprov.domain.budget import Amounts
from envprov.domain.guard import Grace
from envprov.domain.holds import GUARD
from envprov.domain.leases import CONTROLLER_LEASE
from envprov.domain.policies import REAPPLIED, RECORD, policies
from envprov.domain.quantity import amount
from envprov.forge_wiring import forge_of
from envprov.gitlab.branch_files import BranchFileReader
from envprov.gitlab_wiring import Loop, Shared, gitlab_loops
from envprov.guarding import LiveGuard
from envprov.judging import Judge
from envprov.kube import resources
from envprov.kube.arming import Arming, State
from envprov.kube.cleanup_runs import NAME as CLEANUP
from envprov.kube.cleanup_runs import run_of
from envprov.kube.client import Connection, KubeClient
from envprov.kube.environments import Environments
from envprov.kube.holds import Holds
from envprov.kube.informer import Informer
from envprov.kube.lease import LeaderElection
from envprov.kube.ledger import Ledger
from envprov.kube.mandate import Mandate, mandated
from envprov.kube.publishing import BY_ENVIRONMENT, environment_index
from envprov.kube.records import ControllerRecords, ProjectReader
from envprov.kube.requests import is_look
from envprov.kube.reservations import SELECTOR, Reservations
from envprov.kube.resources import Resource
from envprov.kube.usage import UsageReader
from envprov.plan_wiring import charts_of, helm_settings, planner_of
from envprov.releases.engine import Helm
from envprov.releases.stored import decode
from envprov.remains import RemainsReader
from envprov.settings import Settings, WebhookSettings, read_signing_keys, read_tokens
from envprov.waiting import BY_HOLDER, Waiting, holder_index
from envprov.watched import (
    BASE_KINDS,
    BY_NAMESPACE,
    BY_PROJECT,
    WORKLOAD_KINDS,
    keep_all,
    keep_grant,
    keep_health,
    keep_node,
    keep_ours,
    namespace_index,
    project_index,
    wake_by_label,
    wake_by_namespace,
    wake_of_project,
    wake_own,
)
from envprov.workloads import LiveWorkloads
from webhooks.app import ReceiverSettings, create_app
from webhooks.authentic import Secrets
from webhooks.rotation import Rotation
from webhooks.serve import Listening, serve, serving

log = structlog.get_logger("envprov")


@dataclass(frozen=True)
class Controller:
    """A controller whose caches are filling: what is left is to lead and to work."""

    client: KubeClient
    workers: Workers
    loops: tuple[Loop, ...]
    caches: Mapping[Resource, Informer]
    registry: CollectorRegistry
    mandate: Mandate

    async def work(self, stop: asyncio.Event) -> None:
        """Serve environments, guard what they share and keep in step with GitLab, until told to stop."""
        beside = [asyncio.create_task(loop(stop)) for loop in self.loops]
        try:
            await self.workers.run(stop)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)

    async def synced(self) -> None:
        """Return when every cache holds what there is."""
        await asyncio.gather(*(cache.synced.wait() for cache in self.caches.values()))

    def unready(self) -> str | None:
        """Why it is not ready, or None."""
        waiting = sorted(kind.plural for kind, cache in self.caches.items() if not cache.synced.is_set())
        return f"waits for {', '.join(waiting)}" if waiting else None


@asynccontextmanager
async def assembled(settings: Settings, connection: Connection) -> AsyncIterator[Controller]:
    """
    Put a controller together, with its caches running.

    Args:
        settings: All settings.
        connection: Which cluster, and as whom.

    Raises:
        ConfigError: Helm is missing or too old, or there is no way to the cluster.

    """
    with tempfile.TemporaryDirectory(prefix="envprov-") as folder:
        mandate = Mandate()
        helm = Helm(helm_settings(settings, connection, Path(folder)), mandate.confirm)
        await helm.check_version()
        async with (
            forge_of(settings) as forge,
            mandated(connection, mandate, timeout=settings.kubernetes.timeout) as client,
        ):
            queue = WorkQueue()
            caches = _caches(client, settings.platform.control_namespace, queue.add)
            if settings.budget.measured is not None:
                caches[resources.NODES] = Informer(client, resources.NODES, transform=keep_node)
            store = Environments(client, settings.platform.control_namespace)
            records = ControllerRecords(
                client=client,
                store=store,
                control_namespace=settings.platform.control_namespace,
                environments=caches[resources.ENVIRONMENTS],
                projects=caches[resources.PROJECTS],
                tombstones=caches[resources.CONFIG_MAPS],
            )
            registry = CollectorRegistry()
            budget = _budget(settings, client, caches, records)
            usher = _usher(budget, caches, queue.add, registry)
            guarded = GuardMetrics(registry)
            guard = _guard(settings, connection, client, guarded, caches[resources.CONFIG_MAPS])
            await guard.arming.start()
            reservations = Reservations(client, settings.platform.control_namespace)
            waiting = Waiting(caches[resources.LEASES])
            caches[resources.LEASES].on_change(waiting.on_lease(queue.add))
            charts = charts_of(settings, Path(folder), client, forge)
            caches[resources.ENVIRONMENTS].on_change(waiting.on_environment(queue.add, caches[resources.ENVIRONMENTS]))
            judge = Judge(client, planner_of(settings, client, helm, charts), reservations, waiting)
            cluster = LiveCluster(
                client=client,
                base=BaseObjects(client, caches),
                releases=LiveReleases(client, helm, judge, worker=f"{socket.gethostname()}-{os.getpid()}"),
                workloads=LiveWorkloads(client, caches),
                judge=judge,
                guard=guard,
                remnants=RemainsReader(client, guard.holds, reservations),
                reservations=reservations,
                waiting=waiting,
                budget=budget,
                now=_now,
            )
            reconciler = Reconciler(
                records,
                cluster,
                settings.platform,
                now=_now,
                fence_settle=settings.guard.fence_settle,
                files=BranchFileReader(forge) if forge is not None else None,
            )

            guardian = Guardian(
                guard,
                now=_now,
                interval=settings.guard.interval,
                grace=Grace(settings.guard.release_grace),
                auto_release=settings.guard.auto_release,
                metrics=guarded,
            )
            triggers = _triggers(client, guardian.wake)
            caches[resources.CONFIG_MAPS].on_change(lambda item: guardian.wake() if is_look(item) else None)
            CleanupMetrics(
                registry,
                lambda: run_of(caches[resources.CONFIG_MAPS].get(CLEANUP, settings.platform.control_namespace)),
            )
            loops: list[Loop] = [guardian.run, usher.run]
            if forge is not None:
                loops += gitlab_loops(settings, forge, Shared(client, store, records, caches, registry), _now)
            workers = Workers(
                queue=queue,
                reconcile=reconciler,
                count=settings.controller.workers,
                drain=settings.controller.drain,
                metrics=Metrics(registry, lambda: queue.depth),
            )
            running = [asyncio.create_task(cache.run()) for cache in (*caches.values(), *triggers)]
            running.append(asyncio.create_task(guard.arming.run()))
            try:
                yield Controller(client, workers, tuple(loops), caches, registry, mandate)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.wait(running)


async def run_receiver(settings: Settings, connection: Connection) -> None:
    """
    Run the receiver until SIGTERM or SIGINT.

    Args:
        settings: All settings.
        connection: Which cluster, and as whom.

    Raises:
        ConfigError: It cannot start.

    """
    webhook = settings.webhook
    rotation = Rotation(partial(_secrets, webhook))
    stop = _stop_on_signals()
    async with KubeClient.connect(connection, timeout=settings.kubernetes.timeout) as client:
        projects = Informer(
            client, resources.PROJECTS, namespace=settings.platform.control_namespace, transform=keep_all
        )
        store = Environments(client, settings.platform.control_namespace, asks=settings.gitlab.url is not None)
        reader = ProjectReader()
        app = create_app(
            store,
            lambda: reader.readable(projects.items()) if projects.synced.is_set() else None,
            ReceiverSettings(source=rotation.current),
            CollectorRegistry(),
            lambda: client.get_raw("/readyz"),
        )
        listening = Listening(webhook.host, webhook.port, webhook.tls_certificate, webhook.tls_key)
        beside = {asyncio.create_task(projects.run()), asyncio.create_task(rotation.run())}
        try:
            await serve(app, listening, stop)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)


def _secrets(webhook: WebhookSettings) -> Secrets:
    """What a sender may know, as the files say now."""
    given = ReceiverSettings(
        read_tokens(webhook), read_signing_keys(webhook), require_signature=webhook.require_signature
    )
    return given.secrets()


async def run_controller(settings: Settings, connection: Connection, *, identity: str | None = None) -> None:
    """
    Run the controller until SIGTERM or SIGINT.

    Args:
        settings: All settings.
        connection: Which cluster, and as whom.
        identity: Name in the Lease; by default one of this process's own.

    Raises:
        ConfigError: It cannot start.
        LeadershipLost: The Lease could not be renewed in time; start again.

    """
    name = identity or f"{socket.gethostname()}-{os.getpid()}"
    stop = _stop_on_signals()
    async with assembled(settings, connection) as controller:
        probes = create_probes(controller.registry, controller.unready)
        async with serving(probes, Listening(settings.controller.host, settings.controller.port)):
            await first(controller.synced(), stop.wait())
            if stop.is_set():
                return

            led = asyncio.Event()

            async def work() -> None:
                led.set()
                log.info("leading", identity=name)
                controller.workers.metrics.leading.set(1)
                await controller.work(stop)

            election = LeaderElection(
                controller.client,
                namespace=settings.platform.control_namespace,
                name=CONTROLLER_LEASE,
                identity=name,
                lease_duration=settings.controller.lease_duration,
            )
            controller.mandate.rest_on(election.confirm)
            await _lead_until(election.lead(work), led, stop)


async def reconcile_here(settings: Settings, connection: Connection, *, until: asyncio.Event) -> None:
    """
    Reconcile in this process, without a Lease: for ``--standalone``.

    Args:
        settings: All settings.
        connection: Which cluster, and as whom.
        until: Set when it is enough.

    """
    async with assembled(settings, connection) as controller:
        await first(controller.synced(), until.wait())
        await controller.work(until)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _guard(
    settings: Settings, connection: Connection, client: KubeClient, metrics: GuardMetrics, requests: Informer
) -> LiveGuard:
    platform = settings.platform

    def show(state: State, why: str) -> None:
        metrics.armed.set(state is State.ARMED)
        level = logging.INFO if state is State.ARMED else logging.WARNING
        log.log(level, "guard", state=state.value, why=why)

    arming = Arming(
        client,
        connection,
        control_namespace=platform.control_namespace,
        policies=policies(platform.controller_account),
        reapplied=frozenset(REAPPLIED),
        mode=settings.guard.mode,
        interval=settings.guard.interval,
        on_change=show,
    )
    return LiveGuard(client, Holds(client), UsageReader(client, decode), arming, requests.items)


def _caches(client: KubeClient, control_namespace: str, add: Callable[[str], None]) -> dict[Resource, Informer]:
    by_namespace = {BY_NAMESPACE: namespace_index}
    ours = f"{objects.MANAGED_BY}={objects.MANAGER}"
    caches = {
        resources.ENVIRONMENTS: Informer(
            client,
            resources.ENVIRONMENTS,
            namespace=control_namespace,
            transform=keep_all,
            indexes={BY_PROJECT: project_index},
        ),
        resources.PROJECTS: Informer(client, resources.PROJECTS, namespace=control_namespace, transform=keep_all),
        resources.CONFIG_MAPS: Informer(
            client,
            resources.CONFIG_MAPS,
            namespace=control_namespace,
            label_selector=RECORD,
            indexes={BY_ENVIRONMENT: environment_index},
        ),
        resources.NAMESPACES: Informer(client, resources.NAMESPACES, label_selector=ours, transform=keep_all),
        resources.LEASES: Informer(
            client,
            resources.LEASES,
            namespace=control_namespace,
            label_selector=SELECTOR,
            transform=keep_all,
            indexes={BY_HOLDER: holder_index},
        ),
    }
    for kind in BASE_KINDS:
        caches[kind] = Informer(client, kind, label_selector=ours, transform=keep_ours, indexes=by_namespace)
    for kind in WORKLOAD_KINDS:
        caches[kind] = Informer(client, kind, transform=keep_health, indexes=by_namespace)

    by_project = caches[resources.ENVIRONMENTS].by_index
    caches[resources.ENVIRONMENTS].on_change(wake_own(add))
    caches[resources.PROJECTS].on_change(wake_of_project(partial(by_project, BY_PROJECT), add))
    caches[resources.CONFIG_MAPS].on_change(wake_by_label(add))
    for kind in (resources.NAMESPACES, *BASE_KINDS, *WORKLOAD_KINDS):
        caches[kind].on_change(wake_by_namespace(add))
    return caches


def _budget(
    settings: Settings, client: KubeClient, caches: Mapping[Resource, Informer], records: ControllerRecords
) -> LiveBudget:
    given, control_namespace = settings.budget, settings.platform.control_namespace
    fixed: Amounts = {name: amount(value) for name, value in (given.requests or {}).items()}
    return LiveBudget(
        client=client,
        ledger=Ledger(client, control_namespace, caches[resources.CONFIG_MAPS]),
        environments=caches[resources.ENVIRONMENTS],
        namespaces=caches[resources.NAMESPACES],
        project=records.project,
        platform=settings.platform,
        cluster=Measured(caches[resources.NODES], given.measured.share) if given.measured else lambda: fixed,
        patience=given.patience,
        now=_now,
    )


def _usher(
    budget: LiveBudget, caches: Mapping[Resource, Informer], add: Callable[[str], None], registry: CollectorRegistry
) -> Usher:
    usher = Usher(budget, add, BudgetMetrics(registry))
    kinds = {resources.ENVIRONMENTS, resources.PROJECTS, resources.CONFIG_MAPS, resources.NAMESPACES, resources.NODES}
    for kind in kinds & set(caches):
        caches[kind].on_change(lambda _: usher.stir())
    return usher


def _triggers(client: KubeClient, wake: Callable[[], None]) -> tuple[Informer, ...]:
    """Watches that only wake the guard: grants to ServiceAccounts elsewhere, and ServiceAccounts that are shared."""
    triggers = (
        Informer(client, resources.ROLE_BINDINGS, transform=keep_grant),
        Informer(client, resources.CLUSTER_ROLE_BINDINGS, transform=keep_grant),
        Informer(client, resources.SERVICE_ACCOUNTS, label_selector=GUARD, metadata_only=True),
    )
    for trigger in triggers:
        trigger.on_change(lambda _: wake())
    return triggers


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _lead_until(leading: Awaitable[None], led: asyncio.Event, stop: asyncio.Event) -> None:
    """Lead until told to stop: a leader ends by itself once its workers have drained, a follower never would."""
    task = asyncio.ensure_future(leading)
    await first(asyncio.shield(task), stop.wait())
    if not task.done() and not led.is_set():
        task.cancel()
        await asyncio.wait({task})
        return
    await task
