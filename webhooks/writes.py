"""Several writes at once, within a time that all of them share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

Write = Callable[[], Coroutine[Any, Any, T]]
"""A write that has not begun."""

AT_ONCE = 16


async def write_all(writes: Sequence[Write[T]], *, seconds: float) -> list[T | BaseException]:
    """
    Carry out writes, at most ``AT_ONCE`` at a time.

    Args:
        writes: One or more, each begun when it is its turn.
        seconds: For all of them.

    Returns:
        What became of each, in their order; TimeoutError for one that was not done in time.

    """
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(write: Write[T]) -> T:
        async with turns:
            return await write()

    tasks = [asyncio.create_task(one(write)) for write in writes]
    try:
        await asyncio.wait(tasks, timeout=max(seconds, 0))
    finally:
        for task in tasks:
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [TimeoutError() if isinstance(result, asyncio.CancelledError) else result for result in results]
