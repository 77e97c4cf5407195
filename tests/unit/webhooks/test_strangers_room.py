"""The memory for bodies of strangers: bounded, and the largest goes first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from fastapi import Request

from envprov.domain.errors import RejectedDelivery
from webhooks.body import Room, read_body

Feed = asyncio.Queue[bytes | None]


def request(feed: Feed) -> Request:
    async def receive() -> dict[str, object]:
        chunk = await feed.get()
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


def reading(room: Room | None, *, limit_bytes: int = 1000) -> tuple[Feed, asyncio.Task[bytes]]:
    feed: Feed = asyncio.Queue()
    return feed, asyncio.create_task(read_body(request(feed), limit_bytes=limit_bytes, limit_seconds=60, room=room))


async def give(feed: Feed, chunk: bytes | None) -> None:
    feed.put_nowait(chunk)
    for _ in range(5):
        await asyncio.sleep(0)


def run(story: Callable[[], object]) -> None:
    result = story()
    assert asyncio.iscoroutine(result)
    asyncio.run(result)


def test_the_largest_body_goes_when_there_is_no_room() -> None:
    async def story() -> None:
        room = Room(100)
        (large, lost), (small, kept) = reading(room), reading(room)
        await give(large, b"x" * 70)
        await give(small, b"y" * 20)
        await give(small, b"y" * 20)
        await give(small, None)
        assert await kept == b"y" * 40
        await give(large, b"x")
        with pytest.raises(RejectedDelivery) as error:
            await lost
        assert error.value.status == 503

    run(story)


def test_a_body_that_was_lost_does_not_end_as_an_empty_one() -> None:
    async def story() -> None:
        room = Room(100)
        (large, lost), (small, kept) = reading(room), reading(room)
        await give(large, b"x" * 70)
        await give(small, b"y" * 40)
        await give(large, None)
        with pytest.raises(RejectedDelivery):
            await lost
        await give(small, None)
        assert await kept == b"y" * 40

    run(story)


def test_what_was_read_leaves_its_room_to_others() -> None:
    async def story() -> None:
        room = Room(100)
        for _ in range(10):
            feed, body = reading(room)
            await give(feed, b"x" * 90)
            await give(feed, None)
            assert await body == b"x" * 90
            feed, body = reading(room, limit_bytes=50)
            await give(feed, b"x" * 60)
            with pytest.raises(RejectedDelivery) as error:
                await body
            assert error.value.status == 413

    run(story)


def test_those_who_are_known_need_no_room() -> None:
    async def story() -> None:
        feed, body = reading(None)
        await give(feed, b"x" * 900)
        await give(feed, None)
        assert len(await body) == 900

    run(story)
