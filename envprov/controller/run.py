"""Workers that take keys from the queue and serve them, one line of log and one count for each pass."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from envprov.controller.metrics import Metrics
from envprov.controller.reconcile import Outcome
from envprov.controller.workqueue import WorkQueue
from envprov.domain.errors import RetryableError

log = structlog.get_logger("envprov.controller")


@dataclass(frozen=True)
class Workers:
    """
    A number of workers on one queue.

    Attributes:
        queue: Gives keys; never one key to two workers.
        reconcile: Serves one key.
        count: How many keys are served at once.
        drain: How long passes in work may go on once the workers were told to stop.
        metrics: Where passes are counted.

    """

    queue: WorkQueue
    reconcile: Callable[[str], Awaitable[Outcome]]
    count: int
    drain: timedelta
    metrics: Metrics

    async def run(self, stop: asyncio.Event) -> None:
        """
        Work until told to stop, then finish what is in work.

        Args:
            stop: Set when no new key is to be begun.

        """
        workers = [
            asyncio.create_task(self.queue.work(self._serve), name=f"worker-{number}") for number in range(self.count)
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopped, *workers}, return_when=asyncio.FIRST_COMPLETED)
            self.queue.shut_down()
            _, late = await asyncio.wait(workers, timeout=self.drain.total_seconds())
            if late:
                log.warning("drain ended", unfinished=len(late))
        finally:
            # Cancelled passes end their Helm process in order; the next leader finds a release that is `failed`.
            for task in (stopped, *workers):
                task.cancel()
            results = await asyncio.gather(stopped, *workers, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _serve(self, key: str) -> None:
        started = time.monotonic()
        try:
            outcome = await self.reconcile(key)
        except RetryableError as error:
            self._retry(key, error.retry_after)
            self._log(key, started, phase=error.reason, error=str(error))
        except Exception:
            # A bug must not take the other environments with it.
            self._retry(key, None)
            self.metrics.bugs.inc()
            log.exception("pass failed", key=key)
        else:
            self.queue.forget(key)
            if outcome.look_again is not None:
                self.queue.add_after(key, outcome.look_again.total_seconds())
            self._log(key, started, phase=outcome.phase, actions=outcome.actions)

    def _retry(self, key: str, after: float | None) -> None:
        if after is None:
            self.queue.retry(key)
        else:
            self.queue.add_after(key, after)

    def _log(self, key: str, started: float, *, phase: str, **facts: object) -> None:
        seconds = time.monotonic() - started
        self.metrics.passes.labels(phase).inc()
        self.metrics.pass_seconds.observe(seconds)
        # Namespaces of other installations wake keys that are not ours: nothing to tell.
        level = "debug" if phase == "Gone" and not facts.get("actions") else "info"
        log.log(getattr(logging, level.upper()), "pass", key=key, phase=phase, seconds=round(seconds, 4), **facts)
