"""Charts that were fetched, by the digest of what is in them; those in use stay, of the others the last used ones."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

MiB = 1 << 20
_MODE = 0o700


class Pin:
    """While it lives, what it was given for stays where it is."""

    __slots__ = ("__weakref__",)


@dataclass(frozen=True)
class Kept:
    """
    A chart in the store.

    Attributes:
        folder: Where it is.
        digest: Of what is in it.
        version: What its Chart.yaml says.
        pin: To be kept by whoever uses the folder.

    """

    folder: Path
    digest: str
    version: str
    pin: Pin


@dataclass(frozen=True)
class Bounds:
    """How many charts stay that nobody uses, and how large they may be together."""

    charts: int = 200
    bytes: int = 512 * MiB


class ChartStore:
    """
    Folders of charts.

    Args:
        place: Folder in which one of our own is made when it is first needed, and removed when this ends.
        bounds: How much stays.

    """

    def __init__(self, place: Path | None = None, bounds: Bounds | None = None) -> None:
        self._place = place
        self._bounds = bounds or Bounds()
        self._folder: Path | None = None
        self._charts: OrderedDict[str, tuple[str, int]] = OrderedDict()
        """From the digest to the version and the size."""
        self._pins: weakref.WeakValueDictionary[str, Pin] = weakref.WeakValueDictionary()
        self._count = 0
        self._gone: list[Path] = []
        """What is out of reach already: a new chart of the same digest may come at any time."""

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[Path]:
        """Give a folder to work in, which is removed afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=self._made()))
        try:
            yield folder
        finally:
            # Not cancelled with its caller, or it would stay.
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, _remove, folder))

    def get(self, digest: str) -> Kept | None:
        """The chart of a digest, if it is there; that it was asked for counts as use."""
        if digest not in self._charts:
            return None
        folder = self._made() / digest
        if not (folder / "Chart.yaml").is_file():  # somebody cleans up behind us
            del self._charts[digest]
            return None
        self._charts.move_to_end(digest)
        pin = self._pins.get(digest)
        if pin is None:
            pin = self._pins[digest] = Pin()
        return Kept(folder, digest, self._charts[digest][0], pin)

    async def add(self, folder: Path, digest: str, version: str, size: int) -> Kept:
        """
        Keep a chart, and let go of those that nobody has used for longest.

        Args:
            folder: In a workspace; it is moved, all at once.
            digest: Of what is in it.
            version: What its Chart.yaml says.
            size: In bytes.

        """
        kept = self.get(digest) or self._take(folder, digest, version, size)
        self._let_go()
        gone, self._gone = self._gone, []
        await asyncio.to_thread(_remove, *gone)
        return kept

    def _take(self, folder: Path, digest: str, version: str, size: int) -> Kept:
        target = self._made() / digest
        if target.exists():  # damaged, or it would have been found
            self._move_away(target)
        folder.rename(target)
        self._charts[digest] = version, size
        pin = self._pins[digest] = Pin()
        return Kept(target, digest, version, pin)

    def _let_go(self) -> None:
        size = sum(size for _, size in self._charts.values())
        for digest, (_, own) in list(self._charts.items()):
            if len(self._charts) <= self._bounds.charts and size <= self._bounds.bytes:
                return
            if digest not in self._pins:
                del self._charts[digest]
                size -= own
                self._move_away(self._made() / digest)

    def _move_away(self, folder: Path) -> None:
        self._count += 1
        self._gone.append(folder.rename(self._made() / f"gone-{self._count}"))

    def _made(self) -> Path:
        if self._folder is None:
            if self._place is not None:
                self._place.mkdir(mode=_MODE, parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix="envprov-charts-", dir=self._place))
            weakref.finalize(self, _remove, self._folder)
        return self._folder


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
