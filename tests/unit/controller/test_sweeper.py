"""When projects are swept: each in its own time, and at once when there is a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from prometheus_client import CollectorRegistry

from envprov.controller import sweeper as module
from envprov.controller.metrics import SweepMetrics
from envprov.controller.sweep import Swept
from envprov.controller.sweeper import Sweeper
from envprov.domain.errors import Throttled, Unavailable
from envprov.domain.project_status import ProjectStatus, SweepStatus
from envprov.domain.sweep import Halt, Tracked
from tests.unit.builders import NOW, project

LONG = timedelta(hours=1)


def tracked(name: str) -> Tracked:
    given = project(gitlab={"project": f"group/{name}"}).model_copy(update={"name": name})
    return Tracked(given, f"group/{name}", "uid", 1, ProjectStatus())


@dataclass
class Projects:
    """Projects that come and go, and sweeps of them that are counted."""

    there: dict[str, Tracked] = field(default_factory=dict)
    swept: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    answer: Callable[[str], Swept] = lambda _: Swept(ProjectStatus())
    hanging: set[str] = field(default_factory=set)
    counted: asyncio.Event = field(default_factory=asyncio.Event)

    def tracked(self) -> Mapping[str, Tracked]:
        return dict(self.there)

    async def settle(self, tracked: Tracked) -> None:
        self.settled.append(tracked.project.name)

    async def sweep(self, tracked: Tracked) -> Swept:
        name = tracked.project.name
        self.swept.append(name)
        self.counted.set()
        if name in self.hanging:
            await asyncio.Event().wait()
        return self.answer(name)

    async def until(self, fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not fact():
                self.counted.clear()
                await self.counted.wait()


def run(story: Callable[[Projects, Sweeper], Awaitable[None]], *names: str, interval: timedelta = LONG) -> str:
    """Tell a story while the sweeper runs; return what the metrics say in the end."""
    registry = CollectorRegistry()

    async def told() -> None:
        projects = Projects({name: tracked(name) for name in names})
        sweeper = Sweeper(projects.sweep, projects, interval=interval, metrics=SweepMetrics(registry))
        stop = asyncio.Event()
        running = asyncio.create_task(sweeper.run(stop))
        try:
            await story(projects, sweeper)
        finally:
            stop.set()
            await running

    asyncio.run(told())
    found = [one for metric in registry.collect() for one in metric.samples if one.name == "envprov_sweep_state"]
    return ", ".join(f"{one.labels['project']}={one.labels['outcome']}" for one in found)


def test_each_project_is_swept_at_once_and_one_that_hangs_delays_no_other() -> None:
    async def story(projects: Projects, _: Sweeper) -> None:
        projects.hanging = {"a"}
        await projects.until(lambda: {"a", "b", "c"} <= set(projects.swept))

    run(story, "a", "b", "c")


def test_then_in_an_interval() -> None:
    async def story(projects: Projects, _: Sweeper) -> None:
        await projects.until(lambda: projects.swept.count("a") >= 3)

    assert run(story, "a", interval=timedelta(milliseconds=5)) == "a=InSync"


def test_a_new_project_is_swept_when_it_is_seen_and_one_that_is_gone_no_more() -> None:
    async def story(projects: Projects, sweeper: Sweeper) -> None:
        await projects.until(lambda: projects.swept == ["a"])
        projects.there = {"b": tracked("b")}
        sweeper.wake()
        await projects.until(lambda: projects.swept == ["a", "b"])

    assert run(story, "a") == "b=InSync"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"generation": 2}, id="its rules have changed"),
        pytest.param({"confirmed": "d1"}, id="a person has agreed"),
        pytest.param({"urgent": frozenset({"request"})}, id="somebody asks for it"),
        pytest.param({"uid": "another"}, id="it is another one"),
    ],
)
def test_what_is_worth_a_sweep_at_once(change: dict[str, object]) -> None:
    async def story(projects: Projects, sweeper: Sweeper) -> None:
        await projects.until(lambda: projects.swept == ["a"])
        projects.there["a"] = replace(projects.there["a"], **change)  # type: ignore[arg-type]
        sweeper.wake()
        await projects.until(lambda: projects.swept == ["a", "a"])
        assert projects.settled == ["a", "a"]

    run(story, "a")


def test_our_own_report_and_a_doubt_that_is_resolved_are_not() -> None:
    async def story(projects: Projects, sweeper: Sweeper) -> None:
        projects.there["a"] = replace(projects.there["a"], urgent=frozenset({"doubt"}))
        await projects.until(lambda: projects.swept == ["a"])
        sweep = SweepStatus(completed_at=NOW, branches=1, wanted=1)
        projects.there["a"] = replace(projects.there["a"], status=ProjectStatus(sweep=sweep), urgent=frozenset())
        sweeper.wake()
        projects.there["b"] = tracked("b")
        sweeper.wake()
        await projects.until(lambda: "b" in projects.swept)
        assert projects.swept == ["a", "b"]

    run(story, "a")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        pytest.param(Unavailable("down"), "Unavailable", id="GitLab is down"),
        pytest.param(ValueError("a bug"), "Bug", id="a bug of ours"),
    ],
)
def test_after_an_error_it_goes_on(monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: str) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY", timedelta(milliseconds=1))

    async def story(projects: Projects, _: Sweeper) -> None:
        def answer(_: str) -> Swept:
            raise error

        projects.answer = answer
        await projects.until(lambda: projects.swept.count("a") >= 3)

    assert run(story, "a") == f"a={outcome}"


def test_gitlab_is_left_alone_for_as_long_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY", timedelta(milliseconds=1))

    async def story(projects: Projects, _: Sweeper) -> None:
        def answer(name: str) -> Swept:
            if name == "a":
                raise Throttled("enough", retry_after=3600)
            raise Unavailable("down")

        projects.answer = answer
        await projects.until(lambda: projects.swept.count("b") >= 5)
        assert projects.swept.count("a") == 1

    run(story, "a", "b", interval=timedelta(milliseconds=5))


def test_a_sweep_that_has_stopped_says_so_in_the_metrics() -> None:
    async def story(projects: Projects, _: Sweeper) -> None:
        projects.answer = lambda _: Swept(ProjectStatus(), halt=Halt("MassDeletion", "many"))
        await projects.until(lambda: projects.swept == ["a"])
        await asyncio.sleep(0)

    assert run(story, "a") == "a=MassDeletion"
