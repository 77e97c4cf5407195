"""The queue of keys under a clock of our own: nothing lost, nothing served twice at once, in order."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from envprov.controller.workqueue import QueueShutDown, WorkQueue


class Due:
    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self._order = itertools.count()
        self._calls: list[tuple[float, int, Due, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> Due:
        due = Due()
        heapq.heappush(self._calls, (when, next(self._order), due, callback))
        return due

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while self._calls and self._calls[0][0] <= self.now:
            _, _, due, callback = heapq.heappop(self._calls)
            if not due.cancelled:
                callback()

    @property
    def pending(self) -> int:
        return sum(not due.cancelled for _, _, due, _ in self._calls)


def longest(_: float, high: float) -> float:
    """Jitter that is always the whole backoff."""
    return high


def make_queue(clock: FakeClock) -> WorkQueue:
    return WorkQueue(clock=clock, jitter=longest)


async def take_all(queue: WorkQueue) -> list[str]:
    """Take, serve and give back whatever is ready."""
    taken = []
    while queue.depth:
        key = await asyncio.wait_for(queue.get(), 30)
        taken.append(key)
        queue.done(key)
    return taken


def test_keys_come_out_in_order_and_each_once() -> None:
    async def story() -> None:
        queue = make_queue(FakeClock())
        for key in ("a", "b", "a", "c", "b"):
            queue.add(key)
        assert queue.depth == 3
        assert await take_all(queue) == ["a", "b", "c"]

    asyncio.run(story())


def test_a_key_added_while_in_work_runs_once_more_and_not_beside() -> None:
    async def story() -> None:
        queue = make_queue(FakeClock())
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("a")
        queue.add("b")
        assert await queue.get() == "b"
        other = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        assert not other.done()
        queue.done("a")
        assert await other == "a"
        queue.done("a")
        queue.done("b")
        assert queue.depth == 0

    asyncio.run(story())


def test_a_key_added_again_goes_to_the_end_so_that_none_starves() -> None:
    async def story() -> None:
        queue = make_queue(FakeClock())
        queue.add("busy")
        queue.add("quiet")
        busy = await queue.get()
        queue.add("busy")
        queue.done(busy)
        assert await queue.get() == "quiet"

    asyncio.run(story())


def test_the_earliest_delay_wins() -> None:
    async def story() -> None:
        clock = FakeClock()
        queue = make_queue(clock)
        queue.add_after("a", 10)
        queue.add_after("a", 5)
        queue.add_after("a", 7)
        assert clock.pending == 1
        clock.advance(4.9)
        assert queue.depth == 0
        clock.advance(0.1)
        assert await take_all(queue) == ["a"]
        clock.advance(100)
        assert queue.depth == 0

    asyncio.run(story())


@pytest.mark.parametrize("delay", [0, -1])
def test_no_delay_is_now(delay: float) -> None:
    async def story() -> None:
        queue = make_queue(FakeClock())
        queue.add_after("a", delay)
        assert await take_all(queue) == ["a"]

    asyncio.run(story())


def test_an_add_does_not_take_a_later_look_away() -> None:
    async def story() -> None:
        clock = FakeClock()
        queue = make_queue(clock)
        queue.add_after("a", 60)
        queue.add("a")
        assert await take_all(queue) == ["a"]
        clock.advance(60)
        assert await take_all(queue) == ["a"]

    asyncio.run(story())


def test_a_delay_that_ends_while_the_key_is_in_work_runs_it_once_more() -> None:
    async def story() -> None:
        clock = FakeClock()
        queue = make_queue(clock)
        queue.add("a")
        await queue.get()
        queue.add_after("a", 5)
        clock.advance(5)
        queue.done("a")
        assert await take_all(queue) == ["a"]

    asyncio.run(story())


def test_backoff_doubles_up_to_its_cap_until_forgotten() -> None:
    async def story() -> None:
        queue = WorkQueue(base=0.05, cap=300, clock=FakeClock(), jitter=longest)
        delays = [queue.retry("a") for _ in range(15)]
        assert delays[:4] == [0.05, 0.1, 0.2, 0.4]
        assert delays[12:] == [204.8, 300, 300]
        assert queue.retry("b") == 0.05
        queue.forget("a")
        assert queue.retry("a") == 0.05

    asyncio.run(story())


def test_backoff_never_overflows() -> None:
    async def story() -> None:
        queue = make_queue(FakeClock())
        assert [queue.retry("a") for _ in range(5000)][-1] == 300

    asyncio.run(story())


def test_jitter_is_full() -> None:
    async def story() -> None:
        asked: list[tuple[float, float]] = []

        def jitter(low: float, high: float) -> float:
            asked.append((low, high))
            return low + (high - low) / 4

        clock = FakeClock()
        queue = WorkQueue(base=1, cap=10, clock=clock, jitter=jitter)
        assert [queue.retry("a") for _ in range(2)] == [0.25, 0.5]
        assert asked == [(0, 1), (0, 2)]
        clock.advance(0.25)
        assert await take_all(queue) == ["a"]

    asyncio.run(story())


def test_shut_down_gives_out_what_waits_and_then_ends_every_worker() -> None:
    async def story() -> None:
        clock = FakeClock()
        queue = make_queue(clock)
        queue.add("a")
        queue.add("b")
        queue.add_after("later", 5)
        queue.shut_down()
        queue.shut_down()
        queue.add("too late")
        queue.add_after("too late", 5)
        clock.advance(10)
        assert await take_all(queue) == ["a", "b"]
        for _ in range(3):
            with pytest.raises(QueueShutDown):
                await asyncio.wait_for(queue.get(), 30)

    asyncio.run(story())


def test_shut_down_wakes_workers_that_wait() -> None:
    async def story() -> None:
        queue = make_queue(FakeClock())
        workers = [asyncio.create_task(queue.get()) for _ in range(3)]
        await asyncio.sleep(0)
        queue.shut_down()
        ends = await asyncio.wait_for(asyncio.gather(*workers, return_exceptions=True), 30)
        assert [type(end) for end in ends] == [QueueShutDown] * 3

    asyncio.run(story())


def test_a_key_asked_for_in_work_is_served_even_after_shut_down() -> None:
    async def story() -> None:
        queue = make_queue(FakeClock())
        queue.add("a")
        key = await queue.get()
        queue.add("a")
        queue.shut_down()
        with pytest.raises(QueueShutDown):
            await asyncio.wait_for(queue.get(), 30)  # another worker: nothing for it
        queue.done(key)
        assert await asyncio.wait_for(queue.get(), 30) == "a"

    asyncio.run(story())


def test_a_cancelled_get_takes_no_key_with_it() -> None:
    async def story() -> None:
        queue = make_queue(FakeClock())
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        queue.add("a")  # wakes the waiting one
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.wait_for(queue.get(), 30) == "a"

    asyncio.run(story())


def test_giving_back_what_nobody_has_is_a_bug() -> None:
    async def story() -> None:
        with pytest.raises(KeyError):
            make_queue(FakeClock()).done("a")

    asyncio.run(story())


def test_the_running_loop_is_the_clock_if_none_is_given() -> None:
    async def story() -> None:
        queue = WorkQueue()
        queue.add_after("a", 0.01)
        assert await asyncio.wait_for(queue.get(), 30) == "a"

    asyncio.run(story())


KEYS = st.sampled_from("abcd")


class Story(RuleBasedStateMachine):
    """
    Any number of workers, keys, failures and delays in any order.

    The model knows which keys are owed a pass that has not begun yet, and from when on others will be; a key has one
    such moment, the earliest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.queue = make_queue(self.clock)
        self.waiting: list[asyncio.Task[str]] = []
        self.in_work: list[str] = []
        self.later: dict[str, float] = {}
        self.owed: set[str] = set()

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            while self.waiting:
                self.cancel(self.waiting.pop())
            self.loop.close()

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.owe(key, 0)

    @rule(key=KEYS, delay=st.integers(-1, 20))
    def add_after(self, key: str, delay: int) -> None:
        self.queue.add_after(key, delay)
        self.owe(key, delay)

    @rule()
    def worker_asks(self) -> None:
        self.waiting.append(self.loop.create_task(self.queue.get()))
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def worker_is_cancelled(self, data: st.DataObject) -> None:
        self.cancel(self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1))))

    @precondition(lambda self: self.in_work)
    @rule(data=st.data(), fails=st.booleans())
    def worker_is_done(self, data: st.DataObject, *, fails: bool) -> None:
        key = self.in_work.pop(data.draw(st.integers(0, len(self.in_work) - 1)))
        if fails:
            self.owe(key, self.queue.retry(key))
        else:
            self.queue.forget(key)
        self.queue.done(key)
        self.settle()

    @rule(seconds=st.integers(1, 30))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)
        for key in [key for key, due in self.later.items() if due <= self.clock.now]:
            del self.later[key]
            self.owed.add(key)
        self.settle()

    @invariant()
    def never_two_workers_on_one_key(self) -> None:
        assert len(self.in_work) == len(set(self.in_work))

    def cancel(self, task: asyncio.Task[str]) -> None:
        task.cancel()
        self.loop.run_until_complete(asyncio.wait([task]))
        self.settle()

    def owe(self, key: str, delay: float) -> None:
        if delay <= 0:
            self.owed.add(key)
        else:
            due = self.clock.now + delay
            self.later[key] = min(due, self.later.get(key, due))

    def settle(self) -> None:
        for _ in range(5):
            self.loop.run_until_complete(asyncio.sleep(0))
        for task in [task for task in self.waiting if task.done()]:
            self.waiting.remove(task)
            key = task.result()
            self.in_work.append(key)
            assert key in self.owed, "nobody asked for it"
            self.owed.discard(key)

    def finish(self) -> None:
        """With time and workers enough, everything that is owed is served."""
        self.time_passes(1000)
        for _ in range(20):
            while self.in_work:
                self.queue.done(self.in_work.pop())
            self.settle()
            if not self.owed:
                return
            self.worker_asks()
        raise AssertionError(f"lost: {self.owed}")


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
