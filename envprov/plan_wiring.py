"""The composition of what plans: the controller's own, and small enough for a command that answers within a second."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from envprov.fetching import ChartFinder
from envprov.forge_wiring import forge_of
from envprov.gitlab.client import GitLabClient
from envprov.kube.client import Connection, KubeClient
from envprov.kube.discovery import Kinds
from envprov.kube.facts import FactsReader, SealedController
from envprov.kube.kubeconfig import find_kubeconfig, write_pod_kubeconfig
from envprov.planning import Planner
from envprov.releases.charts import Charts, Reach
from envprov.releases.command import HelmSettings, Timeouts
from envprov.releases.engine import Helm
from envprov.settings import Settings


@asynccontextmanager
async def planning(settings: Settings, connection: Connection, client: KubeClient) -> AsyncIterator[Planner]:
    """
    Put together what drafts and judges releases, as the controller does it.

    Args:
        settings: All settings.
        connection: Which cluster, and as whom.
        client: Open, for the same.

    Raises:
        ConfigError: Helm is missing or too old.

    """
    with tempfile.TemporaryDirectory(prefix="envprov-") as folder:
        helm = Helm(helm_settings(settings, connection, Path(folder)))
        await helm.check_version()
        async with forge_of(settings) as forge:
            yield planner_of(settings, client, helm, charts_of(settings, Path(folder), client, forge))


def charts_of(settings: Settings, folder: Path, client: KubeClient, forge: GitLabClient | None) -> ChartFinder:
    """What finds charts, where the settings let it."""
    reach = Reach.of(plain_http=settings.charts.plain_http, private=settings.charts.private)
    charts = Charts(settings.helm.chart_root, reach, forge, folder)
    return ChartFinder(charts, client, settings.platform.control_namespace, forge)


def planner_of(settings: Settings, client: KubeClient, helm: Helm, charts: ChartFinder) -> Planner:
    """What drafts and judges releases."""
    kinds = Kinds(client)
    sealed = SealedController(settings.sealed_secrets.namespace, settings.sealed_secrets.service)
    facts = FactsReader(client, kinds=kinds, sealed=sealed)
    return Planner(client, helm, charts, kinds, facts, settings.helm.history_max)


def helm_settings(settings: Settings, connection: Connection, folder: Path) -> HelmSettings:
    """How Helm is run."""
    helm = settings.helm
    return HelmSettings(
        binary=helm.binary,
        cache=folder / "helm",
        kubeconfig=find_kubeconfig(connection) or write_pod_kubeconfig(folder / "kubeconfig"),
        context=connection.context,
        timeouts=Timeouts(
            install=helm.install_timeout,
            upgrade=helm.install_timeout,
            rollback=helm.uninstall_timeout,
            uninstall=helm.uninstall_timeout,
        ),
        grace=helm.grace,
        history_max=helm.history_max,
    )
