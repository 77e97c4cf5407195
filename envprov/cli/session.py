"""One call of the command line: its settings, and its connection to the cluster."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from envprov.cli import logs
from envprov.cli.options import Common
from envprov.kube.client import Connection, KubeClient
from envprov.kube.environments import Environments
from envprov.settings import Settings, load_settings


@dataclass(frozen=True)
class Session:
    """
    What a command works with.

    Attributes:
        settings: All settings; its control namespace is the one of this call.
        connection: Which cluster, and as whom.
        client: Open for as long as the session is.
        environments: The records in the control namespace.

    """

    settings: Settings
    connection: Connection
    client: KubeClient
    environments: Environments

    @property
    def namespace(self) -> str:
        """The control namespace."""
        return self.settings.platform.control_namespace


def read_settings(common: Common) -> Settings:
    """
    The settings of one call.

    Args:
        common: Names the file; a namespace in it beats the one of the settings.

    Raises:
        ConfigError: All faults at once.

    """
    file = common.settings or (Path(given) if (given := os.environ.get("ENVPROV_SETTINGS")) else None)
    settings = load_settings(file)
    if common.namespace is None:
        return settings
    platform = settings.platform.model_copy(update={"control_namespace": common.namespace})
    return settings.model_copy(update={"platform": platform})


def connection_of(common: Common) -> Connection:
    """Which cluster, and as whom."""
    return Connection(common.kubeconfig, common.context)


@asynccontextmanager
async def opened(common: Common) -> AsyncIterator[Session]:
    """
    Open a session, and close it afterwards. Nothing is asked of the cluster yet.

    Args:
        common: The options of the call.

    Raises:
        ConfigError: Settings or kubeconfig are wrong.

    """
    logs.configure_for_people(debug=common.debug)
    settings = read_settings(common)
    connection = connection_of(common)
    async with KubeClient.connect(connection, timeout=settings.kubernetes.timeout) as client:
        environments = Environments(client, settings.platform.control_namespace)
        yield Session(settings, connection, client, environments)
