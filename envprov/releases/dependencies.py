"""
The charts that a chart depends on: unpacked if it brings them along, or else fetched as its lock file says.

Helm itself would fetch them by following redirects anywhere, so it finds them all in place.

Source: https://helm.sh/docs/topics/charts/#chart-dependencies
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envprov.domain.errors import ChartNotFound, ChartRefused, RenderFailed, TerminalError
from envprov.domain.loose import mapping, mappings, text
from envprov.releases.archives import Extracted, extract
from envprov.releases.manifests import documents
from envprov.releases.sources import ChartRef, OciChart, RepositoryChart
from envprov.releases.tar import ArchiveLimits
from envprov.releases.versions import parse_version

Fetch = Callable[[OciChart | RepositoryChart], Awaitable[ChartRef]]

METADATA_LIMIT_BYTES = 1 << 20
DEPENDENCY_LIMIT = 50
LEVEL_LIMIT = 5
UPDATE = "run `helm dependency update` and commit Chart.lock"
VENDOR = "run `helm dependency update` and commit Chart.lock and the folder charts/"

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,252}")
_FIELDS = ("name", "version", "repository", "condition", "tags", "enabled", "import-values", "alias")
_ALWAYS = frozenset({"name", "repository"})


@dataclass(frozen=True)
class Metadata:
    """What a Chart.yaml says that matters here."""

    name: str
    version: str
    dependencies: tuple[Mapping[str, Any], ...]


def read_metadata(folder: Path, what: str) -> Metadata:
    """
    Read the Chart.yaml of a folder.

    Raises:
        ChartNotFound: There is none.
        ChartRefused: It is not one that Helm could read.

    """
    content = _read(folder / "Chart.yaml", what)
    if content is None:
        raise ChartNotFound(f"{what}: there is no Chart.yaml; correct the path, or put the chart there")
    name, version = text(content.get("name")), content.get("version")
    if _NAME.fullmatch(name) is None or not isinstance(version, str):
        raise ChartRefused(f"{what}: Chart.yaml has no name or no version; write both as text")
    older = _read(folder / "requirements.yaml", what) or {}
    dependencies = (*mappings(content.get("dependencies")), *mappings(older.get("dependencies")))
    if len(dependencies) > DEPENDENCY_LIMIT:
        raise ChartRefused(f"{what} has more than {DEPENDENCY_LIMIT} dependencies")
    return Metadata(name, version, dependencies)


def unpack_vendored(folder: Path, what: str, used: Extracted, limits: ArchiveLimits, *, level: int = 1) -> Extracted:
    """
    Turn the archives in ``charts/`` into folders, and those in their ``charts/`` too.

    Args:
        folder: Of the chart.
        what: What it is, for messages.
        used: How much was written of the chart so far.
        limits: For all of it together.
        level: How deep the chart lies in others.

    Returns:
        How much has been written then.

    Raises:
        ChartRefused: One is no archive of a chart, or all together are too large.

    """
    charts = folder / "charts"
    if not charts.is_dir():
        return used
    if level > LEVEL_LIMIT:
        raise ChartRefused(f"{what}: charts lie in charts, more than {LEVEL_LIMIT} deep")
    for archive in sorted(charts.glob("*.tgz")):
        if not archive.is_file() or archive.name[0] in "._":  # Helm does not read these either
            continue
        left = replace(limits, entries=limits.entries - used.entries, bytes=limits.bytes - used.bytes)
        got = extract(archive, _free(charts / archive.stem), f"{what}: {archive.stem!a}", limits=left)
        used = Extracted(used.entries + got.entries, used.bytes + got.bytes)
        archive.unlink()
    for inner in sorted(charts.iterdir()):
        if inner.is_dir():
            used = unpack_vendored(inner, what, used, limits, level=level + 1)
    return used


def missing_dependencies(folder: Path, metadata: Metadata) -> tuple[int, ...]:
    """Places of the dependencies that are not in ``charts/``; Helm, too, looks for their names alone."""
    there = set(_names(folder / "charts"))
    return tuple(place for place, wanted in enumerate(metadata.dependencies) if text(wanted.get("name")) not in there)


async def add_dependencies(folder: Path, metadata: Metadata, what: str, fetch: Fetch) -> None:
    """
    Put the dependencies that a chart does not bring along into its ``charts/``, as Chart.lock says.

    Args:
        folder: Of the chart.
        metadata: Of the chart.
        what: What it is, for messages.
        fetch: Fetches one.

    Raises:
        ChartRefused: There is no lock, it does not fit Chart.yaml, or a dependency cannot be had this way.
        ChartNotFound: A dependency is not where the lock says.
        Unavailable: It did not come.

    """
    wanted = missing_dependencies(folder, metadata)
    if not wanted:
        return
    names = ", ".join(ascii(text(metadata.dependencies[place].get("name"))) for place in wanted)
    lock = await asyncio.to_thread(_read, folder / "Chart.lock", what)
    if lock is None:
        raise ChartRefused(f"{what} depends on {names}, not in charts/, and has no Chart.lock: {UPDATE}")
    locked = tuple(mappings(lock.get("dependencies")))
    if text(lock.get("digest")) != lock_digest(metadata.dependencies, locked) or len(locked) != len(
        metadata.dependencies
    ):
        raise ChartRefused(f"{what}: Chart.lock is not in step with Chart.yaml: {UPDATE}")
    for place in wanted:
        await _add(folder, locked[place], what, fetch)


def lock_digest(dependencies: tuple[Mapping[str, Any], ...], locked: tuple[Mapping[str, Any], ...]) -> str:
    """
    The digest that Helm writes into Chart.lock.

    Args:
        dependencies: Of Chart.yaml.
        locked: Of Chart.lock.

    Source: https://github.com/helm/helm/blob/main/internal/resolver/resolver.go (HashReq)

    """
    both = [[_as_go(each) for each in some] for some in (dependencies, locked)]
    content = json.dumps(both, separators=(",", ":"), ensure_ascii=False)
    for mark in "<>&\u2028\u2029":  # as Go escapes JSON
        content = content.replace(mark, f"\\u{ord(mark):04x}")
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


async def _add(folder: Path, locked: Mapping[str, Any], what: str, fetch: Fetch) -> None:
    name, version, address = (text(locked.get(key)) for key in ("name", "version", "repository"))
    if _NAME.fullmatch(name) is None or parse_version(version) is None:
        raise ChartRefused(f"{what}: Chart.lock names no chart and version: {UPDATE}")
    target = _free(folder / "charts" / f"{name}-{version}")
    if address.startswith("file://"):
        await asyncio.to_thread(_copy_local, folder, address.removeprefix("file://"), target, f"{what}: {name}")
        return
    if address.startswith("oci://"):
        source: OciChart | RepositoryChart = OciChart(f"{address.rstrip('/')}/{name}", version)
    elif address.startswith(("https://", "http://")):
        source = RepositoryChart(address, name, version)
    else:
        raise ChartRefused(
            f"{what}: the repository of its dependency {name} is no https:// or oci:// address, and names that one "
            f"computer knows are not known here: write the address, or {VENDOR}"
        )
    try:
        chart = await fetch(source)
    except TerminalError as error:
        raise type(error)(f"{what}: its dependency {name}: {error}") from error
    await asyncio.to_thread(shutil.copytree, chart.reference, target)


def _copy_local(folder: Path, path: str, target: Path, what: str) -> None:
    source = (folder / path).resolve()
    if path.startswith("/") or not source.is_relative_to(folder.resolve()):
        raise ChartRefused(
            f"{what} lies outside of the chart's folder, and only that is fetched from the repository: move it into "
            f"the chart, or {VENDOR}"
        )
    if target.resolve().is_relative_to(source) or not (source / "Chart.yaml").is_file():
        raise ChartRefused(f"{what}: there is no chart at {path!a}")
    shutil.copytree(source, target)


def _free(wanted: Path) -> Path:
    return wanted if not wanted.exists() else _free(wanted.with_name(f"{wanted.name}-1"))


def _names(charts: Path) -> Iterator[str]:
    if not charts.is_dir():
        return
    for inner in charts.iterdir():
        if (inner / "Chart.yaml").is_file() and inner.name[0] not in "._":
            yield text((_read(inner / "Chart.yaml", inner.name) or {}).get("name"))


def _read(file: Path, what: str) -> Mapping[str, Any] | None:
    if not file.is_file():
        return None
    if file.stat().st_size > METADATA_LIMIT_BYTES:
        raise ChartRefused(f"{what}: {file.name} has more than {METADATA_LIMIT_BYTES} bytes")
    try:
        found = documents(file.read_bytes())
    except RenderFailed:
        raise ChartRefused(f"{what}: {file.name} is not YAML that Helm could read") from None
    return mapping(found[0]) if found else {}


def _as_go(dependency: Mapping[str, Any]) -> dict[str, Any]:
    """In the order of Go's fields, without those that are empty."""
    found = {key: dependency.get(key) for key in _FIELDS}
    kept = {key: value for key, value in found.items() if value or key in _ALWAYS}
    for key in _ALWAYS:
        kept[key] = kept[key] or ""
    if "import-values" in kept:
        kept["import-values"] = json.loads(json.dumps(kept["import-values"], sort_keys=True))
    return kept
