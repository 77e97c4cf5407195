"""Waiting for a fact instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def eventually(
    fact: Callable[[], T | None],
    *,
    within: float = 60.0,
    every: float = 0.05,
    message: str = "it did not become true",
) -> T:
    """
    Ask *fact* until its answer is truthy.

    Args:
        fact: Asked at least once, and once more at the deadline; an exception counts as "not yet".
        within: Seconds until it is given up.
        every: Seconds between two questions.
        message: What did not happen, for the one who reads the failure.

    Returns:
        The truthy answer.

    Raises:
        AssertionError: The time is over; names the last answer, or has the last exception as its cause.
    """
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        answer, error = None, None
        try:
            answer = fact()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is shown at the deadline
            error = exc
        if answer:
            return answer
        if late:
            raise _failure(message, within, answer, error) from error
        time.sleep(every)


async def eventually_async(
    fact: Callable[[], Awaitable[T | None]],
    *,
    within: float = 60.0,
    every: float = 0.05,
    message: str = "it did not become true",
) -> T:
    """Ask *fact* like `eventually`, leaving the event loop to others; the deadline does not interrupt a question."""
    deadline = time.monotonic() + within
    while True:
        late = time.monotonic() >= deadline
        answer, error = None, None
        try:
            answer = await fact()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is shown at the deadline
            error = exc
        if answer:
            return answer
        if late:
            raise _failure(message, within, answer, error) from error
        await asyncio.sleep(every)


def _failure(message: str, within: float, answer: object, error: Exception | None) -> AssertionError:
    last = f"last exception: {error!r}" if error else f"last answer: {answer!r}"
    return AssertionError(f"{message} (within {within:g} s; {last})")
