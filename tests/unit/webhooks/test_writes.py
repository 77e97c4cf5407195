"""Several writes at once, within one time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from webhooks.writes import AT_ONCE, write_all


def test_results_are_in_order_and_errors_among_them() -> None:
    async def write(number: int) -> int:
        await asyncio.sleep(0.001 * (3 - number))
        if number == 1:
            raise ValueError("one")
        return number

    zero, one, two = asyncio.run(write_all([partial(write, number) for number in range(3)], seconds=10))
    assert (zero, repr(one), two) == (0, "ValueError('one')", 2)


def test_at_most_so_many_are_under_way_at_once() -> None:
    under_way, most = 0, 0

    async def write() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    asyncio.run(write_all([write] * 100, seconds=10))
    assert most == AT_ONCE == 16


def test_what_is_done_in_time_counts_and_the_rest_is_cancelled() -> None:
    cancelled = []

    async def write(number: int) -> int:
        if number == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(number)
                raise
        return number

    results = asyncio.run(write_all([partial(write, number) for number in range(40)], seconds=0.05))
    assert results[0] == 0
    assert isinstance(results[1], TimeoutError)
    assert results[2:] == list(range(2, 40))
    assert cancelled == [1]


def test_when_there_is_no_time_nothing_waits() -> None:
    async def stuck() -> None:
        await asyncio.Event().wait()

    (result,) = asyncio.run(write_all([stuck], seconds=-1))
    assert isinstance(result, TimeoutError)


def test_whoever_is_cancelled_leaves_nothing_behind() -> None:
    async def story() -> int:
        started = asyncio.Event()

        async def stuck() -> None:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(write_all([stuck] * 20, seconds=60))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert asyncio.run(story()) == 1
