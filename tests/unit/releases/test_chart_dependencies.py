"""What a chart depends on: found in it, or fetched as its lock says, or refused with a way out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.errors import ChartNotFound, ChartRefused, TerminalError
from envprov.releases.archives import Extracted
from envprov.releases.dependencies import (
    add_dependencies,
    lock_digest,
    missing_dependencies,
    read_metadata,
    unpack_vendored,
)
from envprov.releases.sources import ChartRef, OciChart, RepositoryChart
from envprov.releases.tar import ArchiveLimits
from tests.unit.releases.tars import chart, entry, packed

BY_HELM = (
    """\
- name: db
  version: ">=1.2 <2"
  repository: http://127.0.0.1:18765
  alias: storage
  condition: db.enabled,x<y&z
  tags: [back, "é"]
  import-values:
  - data
  - {parent: b, child: a}
- {name: common, version: 0.x.x, repository: file://libs/common}
""",
    """\
- {name: db, repository: http://127.0.0.1:18765, version: 1.3.0}
- {name: common, repository: file://libs/common, version: 0.1.0}
""",
    "sha256:f9de42cb263f92e2a3e97ec9c39b5ce70f8424efd64a030bb51131a2e9ae916c",
)
"""What Helm 4.3.1 and 3.17.2 wrote into Chart.lock."""
DB = {"name": "db", "version": "^1", "repository": "https://charts.example.com"}
LOCKED = {"name": "db", "version": "1.3.0", "repository": "https://charts.example.com"}


def test_a_lock_is_in_step_as_helm_says() -> None:
    wanted, locked, digest = BY_HELM

    assert lock_digest(tuple(yaml.safe_load(wanted)), tuple(yaml.safe_load(locked))) == digest
    assert lock_digest(tuple(yaml.safe_load(wanted)), tuple(yaml.safe_load(locked))[::-1]) != digest
    assert lock_digest(tuple(yaml.safe_load(wanted.replace("^1", "1"))[:1]), ()) != digest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "chart"
    made.mkdir()
    return made


def written(
    folder: Path, wanted: list[dict[str, Any]], locked: list[dict[str, Any]] | None = None, **lock: str
) -> None:
    (folder / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "shop", "version": "0.1.0", "dependencies": wanted})
    )
    if locked is not None:
        digest = lock_digest(tuple(wanted), tuple(locked))
        (folder / "Chart.lock").write_text(yaml.safe_dump({"dependencies": locked, "digest": digest} | lock))


def completed(folder: Path, tmp_path: Path, error: TerminalError | None = None) -> list[OciChart | RepositoryChart]:
    asked = []

    async def fetch(source: OciChart | RepositoryChart) -> ChartRef:
        asked.append(source)
        if error is not None:
            raise error
        found = tmp_path / "found"
        found.mkdir(exist_ok=True)
        (found / "Chart.yaml").write_text("name: db\nversion: 1.3.0\n")
        return ChartRef(str(found), "")

    metadata = read_metadata(folder, "chart shop")
    asyncio.run(add_dependencies(folder, metadata, "chart shop", fetch))
    assert missing_dependencies(folder, metadata) == ()
    return asked


def refusal(folder: Path, tmp_path: Path) -> str:
    with pytest.raises(ChartRefused) as caught:
        completed(folder, tmp_path)
    return str(caught.value)


def test_what_is_locked_is_fetched_in_its_exact_version(folder: Path, tmp_path: Path) -> None:
    oci = {"name": "mq", "version": "2.x", "repository": "oci://registry.example.com/charts/"}
    written(folder, [DB, oci], [LOCKED, oci | {"version": "2.1.0"}])
    (folder / "charts" / "mq").mkdir(parents=True)
    (folder / "charts" / "mq" / "Chart.yaml").write_text("name: mq\n")

    assert completed(folder, tmp_path) == [RepositoryChart("https://charts.example.com", "db", "1.3.0")]
    assert (folder / "charts" / "db-1.3.0" / "Chart.yaml").is_file()

    (folder / "charts" / "mq" / "Chart.yaml").unlink()
    with pytest.raises(AssertionError):  # what came is db
        completed(folder, tmp_path)
    assert (folder / "charts" / "mq-2.1.0" / "Chart.yaml").is_file()


def test_what_a_chart_brings_along_needs_no_lock(folder: Path, tmp_path: Path) -> None:
    written(folder, [DB])
    (folder / "charts").mkdir()
    (folder / "charts" / "db-1.0.0.tgz").write_bytes(chart(b"name: db\nversion: 1.0.0\n", "db"))

    used = unpack_vendored(folder, "chart shop", Extracted(1, 100), ArchiveLimits())

    assert completed(folder, tmp_path) == []
    assert used == Extracted(3, 100 + len(b"name: db\nversion: 1.0.0\n{}\n"))
    assert [path.name for path in (folder / "charts").iterdir()] == ["db-1.0.0"]


def test_a_chart_without_dependencies_needs_nothing(folder: Path, tmp_path: Path) -> None:
    written(folder, [])

    assert completed(folder, tmp_path) == []


@pytest.mark.parametrize(
    ("wanted", "locked", "lock", "said"),
    [
        pytest.param([DB], None, {}, "depends on 'db', not in charts/, and has no Chart.lock: run `helm", id="no lock"),
        pytest.param([DB], [LOCKED], {"digest": "sha256:0"}, "Chart.lock is not in step with Chart.yaml", id="stale"),
        pytest.param([DB], [], {}, "Chart.lock is not in step with Chart.yaml", id="shorter"),
        pytest.param([DB], [LOCKED | {"version": "^1"}], {}, "names no chart and version", id="a range for a version"),
        pytest.param([DB], [LOCKED | {"name": "../x"}], {}, "names no chart and version", id="a path for a name"),
        pytest.param([DB], [LOCKED | {"repository": "@mine"}], {}, "is no https:// or oci:// address", id="a nickname"),
        pytest.param([DB], [LOCKED | {"repository": "alias:mine"}], {}, "is no https:// or oci://", id="an alias"),
        pytest.param([DB], [LOCKED | {"repository": ""}], {}, "is no https:// or oci:// address", id="none"),
        pytest.param(
            [DB], [LOCKED | {"repository": "file://../db"}], {}, "lies outside of the chart's folder", id="a sibling"
        ),
        pytest.param([DB], [LOCKED | {"repository": "file:///etc"}], {}, "lies outside of the chart", id="absolute"),
        pytest.param([DB], [LOCKED | {"repository": "file://libs/db"}], {}, "there is no chart at", id="nothing there"),
        pytest.param([DB], [LOCKED | {"repository": "file://."}], {}, "there is no chart at", id="itself"),
    ],
)
def test_what_cannot_be_had_is_refused_with_a_way_out(
    folder: Path, tmp_path: Path, wanted: list[Any], locked: list[Any] | None, lock: dict[str, str], said: str
) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "Chart.yaml").write_text("name: db\nversion: 1.3.0\n")
    written(folder, wanted, locked, **lock)

    message = refusal(folder, tmp_path)

    assert message.startswith("chart shop")
    assert said in message
    assert "there is no chart at" in said or "helm dependency update" in message


def test_a_chart_within_the_chart_is_taken_from_there(folder: Path, tmp_path: Path) -> None:
    written(folder, [DB], [LOCKED | {"repository": "file://libs/db"}])
    (folder / "libs" / "db").mkdir(parents=True)
    (folder / "libs" / "db" / "Chart.yaml").write_text("name: db\nversion: 1.3.0\n")

    assert completed(folder, tmp_path) == []
    assert (folder / "charts" / "db-1.3.0" / "Chart.yaml").is_file()


def test_why_a_dependency_did_not_come_is_told_with_its_name(folder: Path, tmp_path: Path) -> None:
    written(folder, [DB], [LOCKED])

    with pytest.raises(ChartNotFound, match=r"^chart shop: its dependency db: gone$"):
        completed(folder, tmp_path, ChartNotFound("gone"))


def test_what_helm_does_not_read_is_left_alone(folder: Path) -> None:
    (folder / "charts").mkdir()
    for name in ("_x.tgz", ".x.tgz", "x.txt"):
        (folder / "charts" / name).write_bytes(b"no archive")

    assert unpack_vendored(folder, "chart shop", Extracted(1, 2), ArchiveLimits()) == Extracted(1, 2)
    assert len(list((folder / "charts").iterdir())) == 3


def nested(depth: int) -> bytes:
    inner = chart(b"name: x\nversion: 1.0.0\n", "x")
    for _ in range(depth):
        inner = packed(entry("x/Chart.yaml", b"name: x\nversion: 1.0.0\n"), entry("x/charts/x.tgz", inner))
    return inner


def test_charts_in_charts_are_unpacked_and_bounded(folder: Path) -> None:
    (folder / "charts").mkdir()
    (folder / "charts" / "x.tgz").write_bytes(nested(3))
    unpack_vendored(folder, "chart shop", Extracted(0, 0), ArchiveLimits())
    assert not list(folder.rglob("*.tgz"))
    assert (folder / "charts/x/charts/x/charts/x/charts/x/Chart.yaml").is_file()

    (folder / "charts" / "y.tgz").write_bytes(nested(9))
    with pytest.raises(ChartRefused, match="charts lie in charts, more than 5 deep"):
        unpack_vendored(folder, "chart shop", Extracted(0, 0), ArchiveLimits())


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (ArchiveLimits(entries=9), "more than 0 files and folders"),
        (ArchiveLimits(bytes=60), "unpacks to more than"),
    ],
)
def test_all_archives_share_one_budget(folder: Path, limits: ArchiveLimits, said: str) -> None:
    (folder / "charts").mkdir()
    for name in "abc":
        (folder / "charts" / f"{name}.tgz").write_bytes(chart(b"name: x\nversion: 1.0.0\n", "x"))

    with pytest.raises(ChartRefused, match=said):
        unpack_vendored(folder, "chart shop", Extracted(5, 0), limits)


def test_an_archive_in_charts_is_read_as_carefully_as_the_chart(folder: Path) -> None:
    (folder / "charts").mkdir()
    (folder / "charts" / "x.tgz").write_bytes(packed(entry("x/a", b"", b"2", at157=b"/etc/passwd")))

    with pytest.raises(ChartRefused, match="chart shop: 'x': its archive holds a symbolic link"):
        unpack_vendored(folder, "chart shop", Extracted(0, 0), ArchiveLimits())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: shop", "has no name or no version"),
        ("version: 1.0.0", "has no name or no version"),
        ("name: shop\nversion: 1.0", "has no name or no version; write both as text"),
        ("name: ../x\nversion: 1.0.0", "has no name or no version"),
        ("- shop", "has no name or no version"),
        ("", "has no name or no version"),
        ("a: [", "is not YAML that Helm could read"),
        ("a: &a [*a]", "is not YAML that Helm could read"),
        ("#" * (1 << 20) + "x", "has more than 1048576 bytes"),
        ("name: shop\nversion: 1.0.0\ndependencies: [" + "{name: x}," * 51 + "]", "more than 50 dependencies"),
    ],
)
def test_a_chart_yaml_that_is_none_is_refused(folder: Path, content: str, said: str) -> None:
    (folder / "Chart.yaml").write_text(content)

    with pytest.raises(ChartRefused, match=said):
        read_metadata(folder, "chart shop")


def test_a_folder_without_chart_is_told(folder: Path) -> None:
    with pytest.raises(ChartNotFound, match=r"chart shop: there is no Chart\.yaml"):
        read_metadata(folder, "chart shop")


def test_the_older_list_of_dependencies_counts_too(folder: Path, tmp_path: Path) -> None:
    (folder / "Chart.yaml").write_text("apiVersion: v1\nname: shop\nversion: 1.0.0\n")
    (folder / "requirements.yaml").write_text("dependencies:\n- {name: db, version: '1', repository: ''}\n")

    assert "depends on 'db', not in charts/" in refusal(folder, tmp_path)
