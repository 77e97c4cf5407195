"""The store of charts: bounded, and never from under somebody."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from envprov.releases.store import Bounds, ChartStore, Kept


async def add(store: ChartStore, digest: str, size: int = 1) -> Kept:
    async with store.workspace() as workspace:
        folder = workspace / "chart"
        folder.mkdir()
        (folder / "Chart.yaml").write_text(digest)
        return await store.add(folder, digest, "1.0.0", size)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        await scenario()

    asyncio.run(go())


def there(place: Path) -> set[str]:
    return {path.name for folder in place.iterdir() for path in folder.iterdir()}


def test_the_last_used_stay(tmp_path: Path) -> None:
    store = ChartStore(tmp_path, Bounds(charts=2))

    async def scenario() -> None:
        await add(store, "a")
        await add(store, "b")
        assert store.get("a")
        await add(store, "c")

    run(scenario)
    assert there(tmp_path) == {"a", "c"}
    assert store.get("b") is None


def test_all_together_are_bounded_in_size(tmp_path: Path) -> None:
    store = ChartStore(tmp_path, Bounds(bytes=10))

    async def scenario() -> None:
        for name in "abcd":
            await add(store, name, 4)

    run(scenario)
    assert there(tmp_path) == {"c", "d"}


def test_what_is_in_use_stays_and_goes_afterwards(tmp_path: Path) -> None:
    store = ChartStore(tmp_path, Bounds(charts=1))

    async def scenario() -> None:
        used = await add(store, "a")
        again = store.get("a")
        await add(store, "b")
        await add(store, "c")
        assert there(tmp_path) == {"a", "c"}
        assert used.folder.joinpath("Chart.yaml").read_text() == "a"
        del used
        gc.collect()
        await add(store, "d")
        assert "a" in there(tmp_path)
        assert again is not None
        del again
        gc.collect()
        await add(store, "e")

    run(scenario)
    assert there(tmp_path) == {"e"}


def test_what_is_asked_for_again_stays_again(tmp_path: Path) -> None:
    store = ChartStore(tmp_path, Bounds(charts=1))
    asyncio.run(add(store, "a"))
    gc.collect()

    again = store.get("a")
    asyncio.run(add(store, "b"))

    assert again is not None
    assert again.folder.exists()


def test_the_same_chart_twice_is_there_once(tmp_path: Path) -> None:
    store = ChartStore(tmp_path)

    async def scenario() -> None:
        assert await add(store, "a") == await add(store, "a")

    run(scenario)
    assert there(tmp_path) == {"a"}


def test_a_chart_that_somebody_has_deleted_is_not_given_out(tmp_path: Path) -> None:
    store = ChartStore(tmp_path)

    async def scenario() -> None:
        kept = await add(store, "a")
        (kept.folder / "Chart.yaml").rename(kept.folder / "other")
        assert store.get("a") is None
        again = await add(store, "a")
        assert (again.folder / "Chart.yaml").is_file()

    run(scenario)
    assert there(tmp_path) == {"a"}


def test_a_workspace_goes_whatever_happens_in_it(tmp_path: Path) -> None:
    store = ChartStore(tmp_path)

    async def fail() -> None:
        async with store.workspace() as workspace:
            (workspace / "x").write_text("x")
            raise RuntimeError

    async def hang() -> None:
        async with store.workspace():
            await asyncio.sleep(60)

    async def scenario() -> None:
        with pytest.raises(RuntimeError):
            await fail()
        task = asyncio.create_task(hang())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})

    run(scenario)
    assert there(tmp_path) == set()


def test_the_folder_of_a_store_goes_with_it_and_no_other(tmp_path: Path) -> None:
    store, other = ChartStore(tmp_path / "new"), ChartStore(tmp_path / "new")
    (folder,) = {asyncio.run(add(store, "a")).folder.parent}
    (kept,) = {asyncio.run(add(other, "a")).folder.parent}
    assert folder.stat().st_mode & 0o777 == 0o700

    del store
    gc.collect()

    assert not folder.exists()
    assert kept.exists()
