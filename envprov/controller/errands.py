"""
Workers for what is done in GitLab: slow, often refused, and never in the way of a reconcile.

A key is served at most every ``SPACING``, whatever wakes it; what fails is tried again for ever, unless it says not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from envprov.controller.metrics import ErrandMetrics
from envprov.controller.workqueue import WorkQueue
from envprov.domain.errors import RetryableError, TerminalError

log = structlog.get_logger("envprov.errands")

SPACING = timedelta(seconds=2)
"""Least time between two passes for one key; what happens meanwhile is one pass."""
AGAIN_LATER = timedelta(minutes=30)
"""When something is tried again that no retry cures: a right may have been given meanwhile."""
DRAIN = timedelta(seconds=10)
"""How long passes in work may go on once it is to stop."""


@dataclass(frozen=True)
class Errands:
    """
    A number of workers on a queue of their own.

    Attributes:
        name: For logs.
        queue: Gives keys; never one key to two workers.
        serve: Serves one key; returns when to look again if nothing wakes it before, or None.
        metrics: Where failures are counted.
        count: How many keys are served at once.

    """

    name: str
    queue: WorkQueue
    serve: Callable[[str], Awaitable[timedelta | None]]
    metrics: ErrandMetrics
    count: int = 2

    def wake(self, key: str) -> None:
        """Something has changed for a key."""
        self.queue.add_after(key, SPACING.total_seconds())

    async def run(self, stop: asyncio.Event) -> None:
        """
        Work until told to stop.

        Args:
            stop: Set when no new key is to be begun.

        """
        workers = [
            asyncio.create_task(self.queue.work(self._serve), name=f"{self.name}-{number}")
            for number in range(self.count)
        ]
        try:
            await stop.wait()
            self.queue.shut_down()
            await asyncio.wait(workers, timeout=DRAIN.total_seconds())
        finally:
            # What was cut short is on record as begun: the next leader goes on with it.
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)

    async def _serve(self, key: str) -> None:
        try:
            again = await self.serve(key)
        except RetryableError as error:
            self.metrics.failures.labels(self.name, error.reason).inc()
            log.info("failed", errand=self.name, key=key, reason=error.reason, error=str(error))
            if error.retry_after is None:
                self.queue.retry(key)
            else:
                self.queue.add_after(key, error.retry_after)
            return
        except TerminalError as error:
            self.metrics.failures.labels(self.name, error.reason).inc()
            log.warning("refused", errand=self.name, key=key, reason=error.reason, error=str(error))
            again = AGAIN_LATER
        except Exception:
            # A bug must not end what is done for others.
            self.metrics.failures.labels(self.name, "Bug").inc()
            log.exception("failed", errand=self.name, key=key)
            self.queue.retry(key)
            return
        self.queue.forget(key)
        if again is not None:
            self.queue.add_after(key, again.total_seconds())
