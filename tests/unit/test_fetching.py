"""From the chart that a Project names to what is fetched: the commit, and who may read it."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from envprov.domain.errors import ChartNotFound, ForgeUnreliable
from envprov.fetching import ChartFinder
from envprov.kube.client import KubeClient
from envprov.releases.charts import ChartRef, Charts, ChartSource, GitChart, Login, OciChart, RepositoryChart
from tests.unit.builders import COMMIT, CONTROL, desired, project

FOUND = ChartRef("/cache/chart", "digest")
OCI = {"oci": {"ref": "oci://registry.example.com/shop", "version": "1.0.0", "credentials": {"secret": "reader"}}}
REPOSITORY = {
    "repository": {
        "url": "https://charts.example.com",
        "name": "shop",
        "version": "~1",
        "credentials": {"secret": "reader"},
    }
}


@dataclass
class World:
    """A cluster with one Secret, and a place that charts come from."""

    secret: dict[str, str] | None = None
    fault: Exception | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[ChartSource, Login | None]] = field(default_factory=list)

    async def get(self, resource: object, name: str, namespace: str) -> dict[str, Any] | None:
        del resource
        assert (name, namespace) == ("reader", CONTROL)
        if self.secret is None:
            return None
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in self.secret.items()}}

    async def resolve(self, source: ChartSource, login: Login | None = None) -> ChartRef:
        self.asked.append((source, login))
        if self.fault is not None:
            raise self.fault
        return FOUND

    async def raw_file(self, ref: str | int, path: str, revision: str, *, limit_bytes: int) -> bytes | None:
        assert (ref, revision) == ("group/shop", COMMIT)
        assert limit_bytes > 0
        return self.files.get(path)

    def find(self, chart: dict[str, Any]) -> ChartRef:
        finder = ChartFinder(cast("Charts", self), cast("KubeClient", self), CONTROL, self)
        return asyncio.run(finder.find(desired(project(chart=chart, gitlab={"project": "group/shop"}))))


def test_a_chart_in_the_branch_is_the_one_of_its_commit() -> None:
    world = World()
    assert world.find({"git": {"path": "deploy/chart"}}) == FOUND
    assert world.asked == [(GitChart("deploy/chart", "group/shop", COMMIT), None)]


def test_an_archive_that_breaks_off_for_a_folder_that_is_not_there_is_no_outage() -> None:
    world = World(fault=ForgeUnreliable("breaks off"))
    with pytest.raises(ChartNotFound, match=r"there is no deploy/chart/Chart\.yaml in commit aaaaaaaaaaaa"):
        world.find({"git": {"path": "deploy/chart"}})
    world.files["deploy/chart/Chart.yaml"] = b"name: shop"
    with pytest.raises(ForgeUnreliable):
        world.find({"git": {"path": "deploy/chart"}})


@pytest.mark.parametrize(
    ("chart", "source"),
    [
        (OCI, OciChart("oci://registry.example.com/shop", "1.0.0")),
        (REPOSITORY, RepositoryChart("https://charts.example.com", "shop", "~1")),
    ],
    ids=["registry", "repository"],
)
def test_credentials_come_from_the_secret_and_show_nowhere(chart: dict[str, Any], source: ChartSource) -> None:
    world = World({"username": "reader", "password": "very-secret\n"})
    assert world.find(chart) == FOUND
    assert world.asked == [(source, Login("reader", "very-secret"))]
    assert "very-secret" not in repr(world.asked)


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        pytest.param(None, "is not there", id="no Secret"),
        pytest.param({"username": "reader"}, "has no password", id="a key is missing"),
        pytest.param({}, "has no username and no password", id="empty"),
        pytest.param({"username": "a\nb", "password": "very-secret"}, "has no username", id="no header could carry it"),
    ],
)
def test_missing_credentials_are_named_and_nothing_is_asked_for(secret: dict[str, str] | None, said: str) -> None:
    world = World(secret)
    with pytest.raises(ChartNotFound, match=said) as caught:
        world.find(OCI)
    assert "envprov-system/reader" in str(caught.value)
    assert "very-secret" not in str(caught.value)
    assert world.asked == []
