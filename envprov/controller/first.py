"""Waiting for whichever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def first(*awaitables: Awaitable[object]) -> None:
    """
    Return when one of them is done; the others are cancelled, and not waited for.

    Args:
        awaitables: Each is started at once.

    """
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
