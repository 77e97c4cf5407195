"""The usher wakes whoever has room at once, and tells mere places no more often than every few seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal

from prometheus_client import CollectorRegistry

from envprov.controller.usher import INTERVAL, PACE, BudgetMetrics, Figures, Stirred, Usher
from envprov.domain.errors import Conflict

ROOM, PLACE = Stirred("has-room", is_urgent=True), Stirred("moved-up", is_urgent=False)


@dataclass
class Desk:
    """Budgets that keep what is done to them."""

    stirring: tuple[Stirred, ...] = ()
    leaving: tuple[str, ...] = ()
    done: list[str] = field(default_factory=list)
    fails: int = 0
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    def gone(self) -> tuple[str, ...]:
        return self.leaving

    async def reclaim(self, name: str) -> bool:
        if self.fails:
            self.fails -= 1
            self.failed.set()
            raise Conflict("others were faster")
        self.done.append(f"reclaim {name}")
        self.leaving = ()
        return True

    async def announce(self) -> None:
        self.done.append("announce")
        self.looked.set()

    def stirred(self) -> tuple[Stirred, ...]:
        return self.stirring

    def figures(self) -> Figures:
        return Figures({"shop": 2}, {"Project shop": {"cpu": Decimal("1.5")}}, {"Project shop": {"cpu": Decimal(2)}})


def usher(desk: Desk, registry: CollectorRegistry | None = None) -> tuple[Usher, list[str]]:
    woken: list[str] = []
    return Usher(desk, woken.append, BudgetMetrics(registry or CollectorRegistry())), woken


def test_room_is_told_at_once_and_places_at_a_pace() -> None:
    async def story() -> None:
        desk = Desk((ROOM, PLACE))
        one, woken = usher(desk)
        assert await one.look() == PACE
        assert woken == ["has-room", "moved-up"]
        woken.clear()
        rest = await one.look()
        assert woken == ["has-room"]
        assert PACE * 0.8 < rest <= PACE
        desk.stirring = (ROOM,)
        assert await one.look() == INTERVAL

    asyncio.run(story())


def test_what_the_gone_have_left_is_freed_before_anybody_is_woken() -> None:
    async def story() -> None:
        desk = Desk(leaving=("gone",))
        one, _ = usher(desk)
        await one.look()
        assert desk.done == ["reclaim gone", "announce"]

    asyncio.run(story())


def test_figures_are_shown_and_go_with_what_is_no_more() -> None:
    async def story() -> None:
        registry = CollectorRegistry()
        desk = Desk(leaving=("gone",))
        one, _ = usher(desk, registry)
        await one.look()
        labels = {"budget": "Project shop", "resource": "cpu"}
        assert registry.get_sample_value("envprov_budget_used", labels) == 1.5
        assert registry.get_sample_value("envprov_budget_limit", labels) == 2
        assert registry.get_sample_value("envprov_budget_waiting", {"project": "shop"}) == 2
        assert registry.get_sample_value("envprov_budget_reclaimed_total") == 1
        desk.figures = lambda: Figures({}, {}, {})  # type: ignore[method-assign]  # a world in which all have gone
        await one.look()
        assert registry.get_sample_value("envprov_budget_used", labels) is None

    asyncio.run(story())


def test_failure_is_tried_again_when_something_stirs_and_a_stop_is_heard() -> None:
    async def story() -> None:
        desk = Desk(leaving=("gone",), fails=1)
        one, _ = usher(desk)
        stop = asyncio.Event()
        running = asyncio.create_task(one.run(stop))
        async with asyncio.timeout(30):
            await desk.failed.wait()
            one.stir()
            await desk.looked.wait()
            assert desk.done[0] == "reclaim gone"
            stop.set()
            await running

    asyncio.run(story())
