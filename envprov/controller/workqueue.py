"""
A queue of keys: each key once, one worker per key, backoff after failures.

The semantics are those of client-go's work queue: a key that is added while it is in work runs once more afterwards, so
that no change is missed, and two workers never serve one key.

Source: https://pkg.go.dev/k8s.io/client-go/util/workqueue
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

BASE_SECONDS = 0.05
CAP_SECONDS = 300.0


class QueueShutDown(Exception):
    """The queue is shut down and empty: the worker may end."""


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Drop the call."""


class Clock(Protocol):
    """What the queue asks of time; an asyncio event loop is one."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, callback: Callable[[], None], /) -> Timer:
        """Call back at a moment of ``time``."""


class _Stop:
    """Marks the end of a queue that is shut down."""


_STOP: Final = _Stop()


class WorkQueue:
    """
    Keys that want work, in the order in which they were first asked for.

    A worker takes a key with ``get``, serves it, calls ``forget`` or ``retry``, and always ``done``. All of it belongs
    to one event loop; only ``get`` waits.

    Args:
        base: Seconds of the first backoff, before jitter.
        cap: Longest backoff in seconds.
        clock: Time; the running event loop if None.
        jitter: Uniform number from an interval; ``random.uniform`` by default.

    """

    def __init__(
        self,
        *,
        base: float = BASE_SECONDS,
        cap: float = CAP_SECONDS,
        clock: Clock | None = None,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._base = base
        self._cap = cap
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._jitter = jitter
        # A key is in _wanted from its add to its get; it is also in _ready unless a worker still has it.
        self._wanted: set[str] = set()
        self._ready: asyncio.Queue[str | _Stop] = asyncio.Queue()
        self._in_work: set[str] = set()
        self._timers: dict[str, tuple[float, Timer]] = {}
        self._failures: dict[str, int] = {}
        self._shut_down = False

    @property
    def depth(self) -> int:
        """Keys that want work now, without those that wait for a delay."""
        return len(self._wanted)

    def add(self, key: str) -> None:
        """
        Ask for work on a key, now.

        Args:
            key: Ignored when it waits already, and after ``shut_down``.

        """
        if self._shut_down or key in self._wanted:
            return
        self._wanted.add(key)
        if key not in self._in_work:
            self._ready.put_nowait(key)

    def add_after(self, key: str, delay: float) -> None:
        """
        Ask for work on a key later.

        Args:
            key: If it has a delay already, the earlier moment wins. ``add`` leaves a delay as it is.
            delay: Seconds; 0 or less is now.

        """
        if delay <= 0:
            self.add(key)
            return
        if self._shut_down:
            return
        when = self._clock.time() + delay
        pending = self._timers.get(key)
        if pending is not None:
            if pending[0] <= when:
                return
            pending[1].cancel()
        self._timers[key] = (when, self._clock.call_at(when, lambda: self._due(key)))

    async def work(self, serve: Callable[[str], Awaitable[None]]) -> None:
        """
        Serve keys one after the other until the queue is shut down and empty: what one worker does.

        Args:
            serve: Serves a key, and says with ``forget``, ``retry`` or ``add_after`` what becomes of it.

        """
        while True:
            try:
                key = await self.get()
            except QueueShutDown:
                return
            try:
                await serve(key)
            finally:
                self.done(key)

    async def get(self) -> str:
        """
        Take the next key; nobody else gets it until ``done``.

        Raises:
            QueueShutDown: The queue is shut down and nothing is left in it.

        """
        while True:
            key = await self._ready.get()
            if isinstance(key, _Stop):
                # It goes back for the other workers; a key that was asked for in work may have come in behind it.
                self._ready.put_nowait(_STOP)
                if self._ready.qsize() == 1:
                    raise QueueShutDown
                continue
            self._wanted.remove(key)
            self._in_work.add(key)
            return key

    def done(self, key: str) -> None:
        """
        Give a key back.

        Args:
            key: From ``get``. If it was added in the meantime it waits at the end of the queue now.

        Raises:
            KeyError: No worker has this key.

        """
        self._in_work.remove(key)
        if key in self._wanted:
            self._ready.put_nowait(key)

    def retry(self, key: str) -> float:
        """
        Ask for work on a key again after a failure: exponential backoff with full jitter.

        Args:
            key: Its failures are counted until ``forget``.

        Returns:
            The delay in seconds.

        Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

        """
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = self._jitter(0.0, min(self._cap, self._base * 2.0 ** min(failures, 64)))
        self.add_after(key, delay)
        return delay

    def forget(self, key: str) -> None:
        """Count the failures of a key from zero again."""
        self._failures.pop(key, None)

    def shut_down(self) -> None:
        """Take no more keys and drop all delays; what waits now is still given out."""
        if self._shut_down:
            return
        self._shut_down = True
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._ready.put_nowait(_STOP)

    def _due(self, key: str) -> None:
        del self._timers[key]
        self.add(key)
