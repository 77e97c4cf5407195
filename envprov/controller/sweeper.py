"""When projects are swept: each in its own time, so that one project's trouble never delays another's."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from envprov.controller.first import first
from envprov.controller.metrics import SweepMetrics
from envprov.controller.sweep import Swept
from envprov.domain.errors import EnvprovError, RetryableError
from envprov.domain.sweep import Tracked

log = structlog.get_logger("envprov.sweep")

FIRST_RETRY = timedelta(seconds=5)
LONGEST = timedelta(minutes=15)
"""A sweep that takes longer is given up, and begun again in its turn."""
JITTER = 0.1
"""Share of the interval by which sweeps of many projects drift apart."""


class Sweeps(Protocol):
    """Where the sweeper finds its work."""

    def tracked(self) -> Mapping[str, Tracked]:
        """All Projects that come from GitLab, by name."""

    async def settle(self, tracked: Tracked) -> None:
        """Take away the requests for a sweep that the one which begins now answers."""


@dataclass
class _Turn:
    """
    One project's place.

    Attributes:
        task: Sweeps it.
        wake: Set when it is not to wait.
        begun: The Project as it was when the last sweep began.

    """

    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    begun: Tracked | None = None

    def has_news(self, tracked: Tracked) -> bool:
        """Whether something has come in since that is worth a sweep at once; our own status is not."""
        before = self.begun
        if before is None:
            return False
        told = (tracked.uid, tracked.generation, tracked.confirmed)
        return told != (before.uid, before.generation, before.confirmed) or bool(tracked.urgent - before.urgent)


class Sweeper:
    """
    Sweeps each project at once, then in an interval, and whenever something asks for it.

    Args:
        sweep: Sweeps one project.
        sweeps: Where the Projects are.
        interval: Time between two sweeps of one project.
        metrics: Where they are counted.

    """

    def __init__(
        self,
        sweep: Callable[[Tracked], Awaitable[Swept]],
        sweeps: Sweeps,
        *,
        interval: timedelta,
        metrics: SweepMetrics,
    ) -> None:
        self._sweep = sweep
        self._sweeps = sweeps
        self._interval = interval
        self._metrics = metrics
        self._turns: dict[str, _Turn] = {}
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Something changed that may be worth a sweep: a Project, a doubt, a request."""
        self._changed.set()

    async def run(self, stop: asyncio.Event) -> None:
        """
        Sweep until told to stop.

        Args:
            stop: Set when nothing new is to be begun.

        """
        try:
            while not stop.is_set():
                self._changed.clear()
                self._keep_up()
                await first(stop.wait(), self._changed.wait())
        finally:
            tasks = [turn.task for turn in self._turns.values() if turn.task]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    def _keep_up(self) -> None:
        """One task for each Project that is there."""
        tracked = self._sweeps.tracked()
        for name in self._turns.keys() - tracked.keys():
            turn = self._turns.pop(name)
            if turn.task:
                turn.task.cancel()
            self._metrics.forget(name)
        for name, one in tracked.items():
            turn = self._turns.setdefault(name, _Turn())
            if turn.task is None or turn.task.done():
                turn.task = asyncio.create_task(self._serve(name, turn), name=f"sweep-{name}")
            elif turn.has_news(one):
                turn.wake.set()

    async def _serve(self, name: str, turn: _Turn) -> None:
        failures = 0
        while (tracked := self._sweeps.tracked().get(name)) is not None:
            turn.wake.clear()
            turn.begun = tracked
            left_alone = await self._try(tracked)
            failures = 0 if left_alone is None else failures + 1
            pause = self._interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, no secret
            if left_alone is not None:
                pause = max(left_alone, min(pause, FIRST_RETRY * 2 ** min(failures - 1, 10)))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause.total_seconds()):
                    await turn.wake.wait()

    async def _try(self, tracked: Tracked) -> timedelta | None:
        """None if it went well; else the least time that GitLab asked to be left alone for."""
        name = tracked.project.name
        try:
            async with asyncio.timeout(LONGEST.total_seconds()):
                # First: what is asked for while GitLab is asked is a request again.
                await self._sweeps.settle(tracked)
                with self._metrics.seconds.time():
                    swept = await self._sweep(tracked)
        except TimeoutError:
            log.warning("sweep took too long", project=name)
            self._metrics.ended(name, "TimedOut")
            return timedelta(0)
        except EnvprovError as error:
            log.warning("sweep failed", project=name, reason=error.reason, error=str(error))
            self._metrics.ended(name, error.reason)
            after = error.retry_after if isinstance(error, RetryableError) else None
            return timedelta(seconds=after or 0)
        except Exception:
            # A bug here must not end the sweeps of other projects, nor of this one.
            log.exception("sweep failed")
            self._metrics.ended(name, "Bug")
            return timedelta(0)
        halt = swept.halt.reason if swept.halt else "Incomplete" if swept.faults else "InSync"
        self._metrics.ended(name, halt)
        level = log.warning if swept.halt or swept.faults else log.info
        level(
            "sweep",
            project=name,
            outcome=halt,
            asked=len(swept.asked),
            gone=len(swept.gone),
            waiting=len(swept.waiting),
            faults=swept.faults[:5],
        )
        return None
