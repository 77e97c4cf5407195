"""The workers of what is done in GitLab: they space passes, retry what may pass, and survive everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from envprov.controller.errands import AGAIN_LATER, SPACING, Errands
from envprov.controller.metrics import ErrandMetrics
from envprov.controller.workqueue import Timer, WorkQueue
from envprov.domain.errors import ForgeForbidden, Throttled, Unavailable

Serve = Callable[[str], Awaitable[timedelta | None]]


class Delays(WorkQueue):
    """A queue that writes down what it is asked for, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__(jitter=lambda _, most: most)
        self.asked: list[tuple[str, float]] = []

    def add_after(self, key: str, delay: float) -> None:
        self.asked.append((key, delay))
        super().add_after(key, delay)


def run(serve: Serve, keys: str) -> tuple[list[tuple[str, float]], CollectorRegistry]:
    """Serve some keys once and stop; returns what was asked of the queue."""
    registry = CollectorRegistry()

    async def story() -> list[tuple[str, float]]:
        queue, stop = Delays(), asyncio.Event()
        errands = Errands("publish", queue, serve, ErrandMetrics(registry))
        for key in keys:
            queue.add(key)
        working = asyncio.create_task(errands.run(stop))
        stop.set()
        await working
        return queue.asked

    return asyncio.run(story()), registry


def failures(registry: CollectorRegistry, reason: str) -> float | None:
    labels = {"errand": "publish", "reason": reason}
    return registry.get_sample_value("envprov_gitlab_failures_total", labels)


def raising(error: Exception) -> Serve:
    async def serve(key: str) -> timedelta | None:
        assert key == "a"
        raise error

    return serve


def test_what_is_served_is_looked_at_again_when_it_says() -> None:
    async def serve(key: str) -> timedelta | None:
        return timedelta(minutes=5) if key == "a" else None

    assert run(serve, "ab")[0] == [("a", 300.0)]


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        pytest.param(Throttled("429", retry_after=30), 30, id="the time that GitLab names"),
        pytest.param(Unavailable("502"), 0.05, id="backoff"),
        pytest.param(ForgeForbidden("403"), AGAIN_LATER.total_seconds(), id="no retry cures it: much later"),
        pytest.param(ZeroDivisionError("a bug"), 0.05, id="a bug"),
    ],
)
def test_what_fails_is_tried_again_and_counted(error: Exception, delay: float) -> None:
    asked, registry = run(raising(error), "a")
    assert asked == [("a", delay)]
    assert failures(registry, "Bug" if isinstance(error, ZeroDivisionError) else type(error).__name__) == 1


def test_one_bug_does_not_end_the_others() -> None:
    served: list[str] = []

    async def serve(key: str) -> timedelta | None:
        served.append(key)
        raise ZeroDivisionError

    run(serve, "abcdef")
    assert sorted(served) == list("abcdef")


def test_many_events_are_one_pass() -> None:
    async def story() -> None:
        served: list[float] = []
        clock = Hand()
        queue, stop = WorkQueue(clock=clock), asyncio.Event()

        async def serve(key: str) -> timedelta | None:
            assert key == "a"
            served.append(clock.now)
            return None

        errands = Errands("publish", queue, serve, ErrandMetrics(CollectorRegistry()))
        working = asyncio.create_task(errands.run(stop))
        for _ in range(100):
            errands.wake("a")
            clock.advance(0.1)
            for _ in range(10):
                await asyncio.sleep(0)
        stop.set()
        await working
        assert len(served) == 5
        assert all(after - before >= SPACING.total_seconds() for before, after in pairwise(served))

    asyncio.run(story())


def test_what_is_in_work_may_end() -> None:
    async def story() -> None:
        begun, go, ended = asyncio.Event(), asyncio.Event(), []

        async def serve(key: str) -> timedelta | None:
            begun.set()
            await go.wait()
            ended.append(key)
            return None

        queue, stop = WorkQueue(), asyncio.Event()
        working = asyncio.create_task(Errands("publish", queue, serve, ErrandMetrics(CollectorRegistry())).run(stop))
        queue.add("a")
        await begun.wait()
        stop.set()
        await asyncio.sleep(0)
        go.set()
        await working
        assert ended == ["a"]

    asyncio.run(story())


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> Timer:
        entry = (when, callback)
        self._due.append(entry)
        return Dropper(self._due, entry)

    def advance(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 6)
        for entry in [entry for entry in self._due if entry[0] <= self.now]:
            self._due.remove(entry)
            entry[1]()


class Dropper:
    def __init__(self, due: list[tuple[float, Callable[[], None]]], entry: tuple[float, Callable[[], None]]) -> None:
        self._due, self._entry = due, entry

    def cancel(self) -> None:
        self._due.remove(self._entry)
