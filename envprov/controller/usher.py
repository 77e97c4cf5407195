"""
The usher of the line: frees what those who are gone have left, and wakes those for whom something has changed.

Watches only stir it. It decides nothing: whoever is woken looks for itself, and the ledger has the last word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from envprov.controller.first import first
from envprov.domain.errors import EnvprovError

log = structlog.get_logger("envprov.budget")

SPACING = timedelta(milliseconds=200)
"""Least time between two looks: changes come in swarms."""
PACE = timedelta(seconds=5)
"""Least time between two reports of mere places: each one who leaves moves all behind it."""
INTERVAL = timedelta(minutes=1)
"""Time between two looks that nothing stirs."""


@dataclass(frozen=True)
class Stirred:
    """
    An environment for whom something has changed.

    Attributes:
        name: Its name.
        is_urgent: Whether there is room for it, rather than another place to report.

    """

    name: str
    is_urgent: bool


@dataclass(frozen=True)
class Figures:
    """
    The budgets in numbers.

    Attributes:
        waiting: How many wait, by Project.
        used: What was given, by budget and resource.
        limits: What may be given, by budget and resource.

    """

    waiting: Mapping[str, int]
    used: Mapping[str, Mapping[str, Decimal]]
    limits: Mapping[str, Mapping[str, Decimal]]


class BudgetEdge(Protocol):
    """What the usher needs of the budgets."""

    def gone(self) -> Sequence[str]:
        """Names in the ledger whose environment seems to be gone."""

    async def reclaim(self, name: str) -> bool:
        """Take an environment out of the ledger if it is gone indeed; whether it did."""

    async def announce(self) -> None:
        """Write the cluster's budget down where others find it."""

    def stirred(self) -> Sequence[Stirred]:
        """Environments in line for whom something has changed since they last reported."""

    def figures(self) -> Figures:
        """What there is to show."""


class BudgetMetrics:
    """
    The metrics of the budgets.

    Args:
        registry: Where they are registered.

    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting = Gauge(
            "envprov_budget_waiting", "Environments that wait for room.", ["project"], registry=registry
        )
        self._used = Gauge(
            "envprov_budget_used",
            "Sum of what admitted environments may request: cores, bytes, and their number.",
            ["budget", "resource"],
            registry=registry,
        )
        self._limit = Gauge(
            "envprov_budget_limit", "Most that may be admitted.", ["budget", "resource"], registry=registry
        )
        self.reclaimed = Counter(
            "envprov_budget_reclaimed", "Environments that were gone and gave their room back.", registry=registry
        )

    def show(self, figures: Figures) -> None:
        """Show how it is now, and nothing of what is no more."""
        for gauge, rows in ((self._used, figures.used), (self._limit, figures.limits)):
            gauge.clear()
            for budget, amounts in rows.items():
                for resource, value in amounts.items():
                    gauge.labels(budget, resource).set(float(value))
        self._waiting.clear()
        for project, count in figures.waiting.items():
            self._waiting.labels(project).set(count)


class Usher:
    """
    Keeps the line moving.

    Args:
        edge: The budgets.
        wake: Puts an environment into the work queue.
        metrics: Where the budgets are shown.

    """

    def __init__(self, edge: BudgetEdge, wake: Callable[[str], None], metrics: BudgetMetrics) -> None:
        self._edge = edge
        self._wake = wake
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._told_at = -PACE.total_seconds()

    def stir(self) -> None:
        """Something changed that may matter."""
        self._changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """
        Usher until told to stop.

        Args:
            stop: Set when no new look is to be begun.

        """
        while not stop.is_set():
            self._changed.clear()
            pause = INTERVAL
            try:
                pause = await self.look()
            except EnvprovError as error:
                log.warning("look at the budgets failed", reason=error.reason, error=str(error))
                pause = PACE
            except Exception:
                # A bug here must not stop the environments from being served.
                log.exception("look at the budgets failed")
            await first(stop.wait(), asyncio.sleep(SPACING.total_seconds()))
            await first(stop.wait(), self._changed.wait(), asyncio.sleep(pause.total_seconds()))

    async def look(self) -> timedelta:
        """
        Look once.

        Returns:
            When to look again if nothing stirs before.

        Raises:
            EnvprovError: Something could not be read or written; what was freed before stays freed.

        """
        for name in self._edge.gone():
            if await self._edge.reclaim(name):
                self._metrics.reclaimed.inc()
                log.info("room was freed", environment=name)
        await self._edge.announce()
        stirred = self._edge.stirred()
        now = asyncio.get_running_loop().time()
        rest = self._told_at + PACE.total_seconds() - now
        for one in stirred:
            if one.is_urgent or rest <= 0:
                self._wake(one.name)
        self._metrics.show(self._edge.figures())
        if all(one.is_urgent for one in stirred):
            return INTERVAL
        if rest <= 0:
            self._told_at = now
            return PACE
        return timedelta(seconds=rest)
