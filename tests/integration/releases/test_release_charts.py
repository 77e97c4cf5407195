"""Charts from elsewhere against the real Helm: what it packages, locks and chooses is what we unpack and choose."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envprov.domain.errors import ChartRefused
from envprov.releases.charts import Charts, GitChart, Reach, RepositoryChart
from envprov.releases.engine import ReleaseSpec
from envprov.releases.versions import best
from tests.unit.releases.chart_servers import Server, serving
from tests.unit.releases.tars import chart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.releases.conftest import Workshop

HERE = Reach.of(private=["127.0.0.0/8"])
VERSIONS = ("0.0.3", "0.2.3", "0.2.9", "0.3.0", "1.0.0", "1.2.3", "1.2.9", "1.10.0", "2.0.0-rc.1", "2.0.0-rc.10")
WANTED = (
    *("1.2.3", "1.2", "1", "*", "1.2.x", "~1.2.3", "~1", "^1.2.3", "^0.2", "^0.0.3", ">1.2", ">=1.2.3 <1.10"),
    *(">= 1.2.3, < 1.10", "<=1.2", "1.0 - 1.2", "^3 || ~0.2", "!=1.10.0", ">=2.0.0-0", ">1.2.0 <2.0.0-0", "^2"),
)


class Checkout:
    """A folder that is given out as GitLab gives it: as an archive of one commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        git = ("git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com")
        for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "x"]):
            subprocess.run([*git, *words], check=True)

    async def archive(self, ref: str | int, path: str, revision: str, target: Path, *, limit_bytes: int) -> None:
        """See ``envprov.releases.charts.Repository.archive``."""
        assert ref == "group/shop"
        made = ("archive", "--format=tar.gz", f"--prefix=shop-{revision}/", "--output", str(target), "HEAD", path)
        process = await asyncio.create_subprocess_exec("git", "-C", str(self.folder), *made)
        assert await process.wait() == 0
        assert (await asyncio.to_thread(target.stat)).st_size < limit_bytes


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def helm(workshop: Workshop, *words: str | Path) -> subprocess.CompletedProcess[str]:
    home = workshop.settings.cache
    folders = {f"HELM_{kind}_HOME": str(home / kind) for kind in ("CACHE", "CONFIG", "DATA")}
    return subprocess.run(
        [workshop.settings.binary, *words], env={**os.environ, **folders}, capture_output=True, text=True, check=False
    )


def test_a_chart_of_the_branch_is_deployed_with_what_it_depends_on(
    workshop: Workshop, server: Server, tmp_path: Path
) -> None:
    database = tmp_path / "db"
    shutil.copytree(workshop.chart, database)
    (database / "Chart.yaml").write_text("apiVersion: v2\nname: db\nversion: 1.3.0\n")
    template = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "{{ .Release.Name }}-db"}\n'
    (database / "templates" / "all.yaml").write_text(template)
    assert helm(workshop, "package", database, "--destination", tmp_path).returncode == 0
    server.publish("db", {"1.3.0": (tmp_path / "db-1.3.0.tgz").read_bytes()})
    folder = tmp_path / "repository" / "deploy" / "chart"
    shutil.copytree(workshop.chart, folder)
    wanted = f'dependencies: [{{name: db, version: ">=1 <2", repository: "{server.url}", tags: [x]}}]\n'
    (folder / "Chart.yaml").write_text(f"apiVersion: v2\nname: app\nversion: 0.1.0\n{wanted}")
    updated = helm(workshop, "dependency", "update", folder)
    assert updated.returncode == 0, updated.stderr
    shutil.rmtree(folder / "charts")
    checkout = Checkout(tmp_path / "repository")

    async def scenario() -> int:
        charts = Charts(tmp_path, HERE, checkout, tmp_path / "fetched")
        found = await charts.resolve(GitChart("deploy/chart", "group/shop", "1a2b3c4d"))
        return await workshop.helm.deploy(ReleaseSpec("shop", workshop.namespace, found, {}, "installer"))

    assert asyncio.run(scenario()) == 1
    names = {each["metadata"]["name"] for each in workshop.objects("configmaps")}
    assert {"shop", "shop-db"} <= names


def test_a_lock_that_helm_would_not_take_is_refused(workshop: Workshop, server: Server, tmp_path: Path) -> None:
    server.publish("db", {"1.3.0": chart(b"apiVersion: v2\nname: db\nversion: 1.3.0\n", "db")})
    folder = tmp_path / "repository" / "chart"
    shutil.copytree(workshop.chart, folder)
    wanted = 'dependencies: [{{name: db, version: "{}", repository: "{}"}}]\n'
    text = "apiVersion: v2\nname: app\nversion: 0.1.0\n"
    (folder / "Chart.yaml").write_text(text + wanted.format("1.x", server.url))
    assert helm(workshop, "dependency", "update", folder).returncode == 0
    (folder / "Chart.yaml").write_text(text + wanted.format("2.x", server.url))
    shutil.rmtree(folder / "charts")
    assert "the lock file (Chart.lock) is out of sync" in helm(workshop, "dependency", "build", folder).stderr
    charts = Charts(tmp_path, HERE, Checkout(tmp_path / "repository"), tmp_path / "fetched")

    with pytest.raises(ChartRefused, match=r"Chart\.lock is not in step with Chart\.yaml"):
        asyncio.run(charts.resolve(GitChart("chart", "group/shop", "1a2b3c4d")))


@pytest.mark.parametrize("wanted", WANTED)
def test_helm_would_take_the_same_version(workshop: Workshop, server: Server, tmp_path: Path, wanted: str) -> None:
    made = "apiVersion: v2\nname: shop\nversion: {}\n"
    server.publish("shop", {version: chart(made.format(version).encode()) for version in VERSIONS})

    shown = helm(workshop, "show", "chart", "shop", "--repo", server.url, "--version", wanted)

    taken = best(wanted, VERSIONS)
    if taken is None:
        assert "no chart version found" in shown.stderr or "not found" in shown.stderr
        return
    assert f"version: {taken}\n" in shown.stdout
    found = asyncio.run(Charts(tmp_path, HERE).resolve(RepositoryChart(server.url, "shop", wanted)))
    assert found.version == taken
