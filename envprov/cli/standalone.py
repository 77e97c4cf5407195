"""``--standalone``: the work is done in our own process, with the rights of the person who called it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from envprov import wiring
from envprov.cli.charts import find_chart
from envprov.cli.follow import Work
from envprov.cli.session import Session


def standalone(chart: Path | None = None) -> Work:
    """
    The work of a controller, for as long as a command follows it.

    Args:
        chart: Folder of the chart that ``--chart`` names, wherever the settings look for charts otherwise.

    """
    return partial(_reconcile, find_chart(chart) if chart is not None else None)


async def _reconcile(chart: Path | None, session: Session, over: asyncio.Event) -> None:
    settings = session.settings
    if chart is not None:
        helm = settings.helm.model_copy(update={"chart_root": chart})
        settings = settings.model_copy(update={"helm": helm})
    await wiring.reconcile_here(settings, session.connection, until=over)
