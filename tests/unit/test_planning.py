"""How often a chart is rendered, and with what in sight: one that asks the cluster may render otherwise tomorrow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from envprov.domain.checking import Blind
from envprov.domain.errors import EnvprovError, Forbidden, Invalid, RenderFailed
from envprov.domain.release import DIGEST
from envprov.fetching import ChartFinder
from envprov.kube.client import KubeClient
from envprov.kube.discovery import Discovery, Kinds
from envprov.kube.facts import FactsReader
from envprov.planning import Draft, Planner
from envprov.releases.charts import ChartRef
from envprov.releases.engine import Helm, ReleaseSpec, Setting

ASKS = '{{ lookup "v1" "Secret" .Release.Namespace "shop" }}'


@dataclass
class World:
    """A chart, a clock, and a Helm that notes as whom it is to look up."""

    folder: Path
    fault: EnvprovError | None = None
    now: float = 0.0
    rendered: list[str | None] = field(default_factory=list)

    async def including(self, named: object) -> Discovery:
        del named
        return Discovery((), ())

    async def render(self, release: ReleaseSpec, setting: Setting) -> tuple[dict[str, Any], ...]:
        del release
        self.rendered.append(setting.lookup_as)
        if self.fault is not None and setting.lookup_as is not None:
            raise self.fault
        return ({"kind": "ConfigMap"},)

    def write(self, text: str, name: str = "templates/secret.yaml") -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def planner(self) -> Planner:
        return Planner(
            client=cast("KubeClient", self),
            helm=cast("Helm", self),
            charts=cast("ChartFinder", self),
            kinds=cast("Kinds", self),
            facts=cast("FactsReader", self),
            clock=lambda: self.now,
        )

    def draft(self, planner: Planner, lookup_as: str | None = "installer", **values: str) -> Draft:
        chart = ChartRef(str(self.folder), "digest")
        spec = ReleaseSpec("shop", "env-shop", chart, values, "installer", {DIGEST: f"{values}"})
        return asyncio.run(planner.draft(spec, is_upgrade=lookup_as is not None, lookup_as=lookup_as))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a chart that asks the cluster for nothing."""
    made = World(tmp_path)
    made.write("kind: ConfigMap")
    return made


def test_a_chart_that_asks_for_nothing_is_rendered_once_and_without_the_cluster(world: World) -> None:
    planner = world.planner()
    first = world.draft(planner)
    world.now = 10_000
    assert world.draft(planner) is first
    assert (world.rendered, first.asks) == ([None], False)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        pytest.param("templates/secret.yaml", {}, id="a template"),
        pytest.param("charts/common/templates/_secrets.tpl", {}, id="a dependency"),
        pytest.param("charts/common-2.31.0.tgz", {}, id="a dependency that is still packed"),
        pytest.param("README.md", {"password": ASKS}, id="values, by tpl"),
    ],
)
def test_a_chart_that_asks_is_rendered_again_when_the_answer_may_be_another(
    world: World, file: str, values: dict[str, str]
) -> None:
    world.write("" if values or file.endswith("tgz") else ASKS, file)
    planner = world.planner()
    first = world.draft(planner, **values)
    assert world.draft(planner, **values) is first
    world.now = 31
    assert world.draft(planner, **values) is not first
    assert world.rendered == ["installer", "installer"]


def test_before_the_first_deployment_there_is_nothing_to_be_found(world: World) -> None:
    world.write(ASKS)
    planner = world.planner()
    first = world.draft(planner, None)
    assert (world.rendered, first.asks, first.blind) == ([None], True, None)
    world.draft(planner, "installer")
    world.draft(planner, "")
    assert world.rendered == [None, "installer", ""]


@pytest.mark.parametrize(
    ("fault", "user", "fails"),
    [
        pytest.param(RenderFailed("nodes is forbidden"), "installer", True, id="Helm will be refused, too"),
        pytest.param(RenderFailed("nodes is forbidden"), "", False, id="the installer may be let"),
        pytest.param(Invalid("no matches for kind"), "installer", False, id="a kind that is not served"),
    ],
)
def test_what_cannot_be_looked_up_is_said_and_all_else_judged(
    world: World, fault: EnvprovError, user: str, *, fails: bool
) -> None:
    world.write(ASKS)
    world.fault = fault
    draft = world.draft(world.planner(), user)
    assert (draft.objects, draft.blind) == (({"kind": "ConfigMap"},), Blind(str(fault), fails))
    assert world.rendered == [user, None]


def test_who_may_not_look_up_as_that_user_is_told(world: World) -> None:
    world.write(ASKS)
    world.fault = Forbidden("cannot impersonate")
    with pytest.raises(Forbidden):
        world.draft(world.planner())
