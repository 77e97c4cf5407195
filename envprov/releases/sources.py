"""What a chart source is, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class LocalChart:
    """A chart in our own file system: absolute, or from the chart root."""

    path: str


@dataclass(frozen=True)
class OciChart:
    """A chart in an OCI registry: ``oci://registry.example.com/charts/shop``, and a version or a range."""

    ref: str
    version: str


@dataclass(frozen=True)
class RepositoryChart:
    """A chart in a classic chart repository, and a version or a range."""

    url: str
    name: str
    version: str


@dataclass(frozen=True)
class GitChart:
    """
    A chart in the branch itself.

    Attributes:
        path: Its folder from the top of the repository; ``.`` for the top itself.
        project: The project in GitLab: path with namespace, or number.
        revision: The commit; empty when none is on record.

    """

    path: str
    project: str | int | None = None
    revision: str = ""


RemoteChart = OciChart | RepositoryChart | GitChart
ChartSource = LocalChart | RemoteChart


@dataclass(frozen=True)
class ChartRef:
    """
    A chart as Helm is told of it: always a folder on this computer.

    Attributes:
        reference: The folder, absolute.
        digest: SHA-256, hexadecimal, of the chart's files.
        version: Of the chart, as its Chart.yaml says; None for a local one, which is not read.
        pin: Keeps the folder in the cache for as long as this lives.

    """

    reference: str
    digest: str
    version: str | None = None
    pin: object = field(default=None, repr=False, compare=False)


class Repository(Protocol):
    """GitLab, as far as charts need it."""

    async def archive(self, ref: str | int, path: str, revision: str, target: Path, *, limit_bytes: int) -> None:
        """
        Store a folder as a ``.tar.gz``, whose entries lie below one folder, whatever it is called.

        Args:
            ref: Path with namespace, or number, of the project.
            path: The folder, from the top of the repository; empty for all of it.
            revision: The commit.
            target: File to be written.
            limit_bytes: Greatest size, packed.

        Raises:
            EnvprovError: It did not come.

        """
