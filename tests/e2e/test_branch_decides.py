"""The branch has its say: its chart at its commit, and its ``.envprov.yaml``, within what the Project allows."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.eventually import eventually
from tests.gitlab.driver import GitLabStandIn
from tests.shipped import ROOT, Installation, condition, installed, is_ready

CHART = ROOT / "tests" / "charts" / "app"


@pytest.fixture(scope="module")
def gitlab() -> Iterator[GitLabStandIn]:
    """Yield a GitLab."""
    with GitLabStandIn() as standin:
        yield standin


@pytest.fixture(scope="module")
def installation(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, gitlab: GitLabStandIn
) -> Iterator[Installation]:
    """Yield envprov with its controller at work, which sweeps every second."""
    namespace = f"envprov-e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with installed(cluster, namespace, tmp_path_factory.mktemp(namespace)) as there:
        there.settings(
            gitlab={"url": gitlab.url, "token_file": str(gitlab.token_file), "timeout": "PT5S"},
            sweep={"interval": "PT1S", "grace": "PT2S"},
        )
        there.start_controller().ready()
        yield there
    cluster.discard(namespace)


@pytest.fixture
def shop(installation: Installation, gitlab: GitLabStandIn) -> str:
    """Return the name of a Project whose chart is in the repository."""
    name = f"shop-{secrets.token_hex(3)}"
    gitlab.create_project(f"group/{name}")
    installation.project(
        name,
        chart={"git": {"path": "deploy/chart"}},
        sizes={"default": "S", "allowed": ["S", "M"]},
        branchFile={"values": ["replicas"], "chart": True},
        rules=[{"branches": ["main"], "action": "ignore"}, {"branches": ["*"]}],
    )
    return name


def chart(folder: str = "deploy/chart") -> dict[str, str | None]:
    """Return the tests' smallest chart as files of a repository."""
    return {
        f"{folder}/{file.relative_to(CHART)}": file.read_text() for file in sorted(CHART.rglob("*")) if file.is_file()
    }


def accepted(environment: dict[str, Any] | None) -> dict[str, Any]:
    """Return the condition Accepted."""
    return condition(environment or {}, "Accepted")


def ready(installation: Installation, branch: str, revision: str) -> dict[str, Any]:
    """Wait until a branch is Ready at a commit; return its Environment."""
    eventually(
        lambda: is_ready(installation.environment_of(branch), revision), within=90, message=f"{branch} is not Ready"
    )
    found = installation.environment_of(branch)
    assert found is not None
    return found


def test_the_chart_is_the_one_of_the_commit(installation: Installation, gitlab: GitLabStandIn, shop: str) -> None:
    first = gitlab.push(f"group/{shop}", "feature/x", chart())
    eventually(lambda: is_ready(installation.environment_of("feature/x"), first), within=90)
    files = chart()
    files["deploy/chart/templates/mark.yaml"] = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: mark}\ndata: {made: 'by the second commit'}\n"
    )
    second = gitlab.push(f"group/{shop}", "feature/x", files)
    found = ready(installation, "feature/x", second)
    said = installation.cluster.kubectl("get", "cm", "mark", "-n", found["status"]["namespace"], "-o", "json")
    assert json.loads(said)["data"] == {"made": "by the second commit"}


def test_a_folder_that_is_not_there_is_said(installation: Installation, gitlab: GitLabStandIn, shop: str) -> None:
    gitlab.push(f"group/{shop}", "without", {"README": "no chart"})
    message = eventually(
        lambda: (
            accepted(installation.environment_of("without"))["message"]
            or condition(installation.environment_of("without") or {}, "Ready")["message"]
        ),
    )
    assert "deploy/chart" in message


def test_the_file_of_the_branch_is_obeyed_and_a_wrong_one_is_named_and_changes_nothing(
    installation: Installation, gitlab: GitLabStandIn, shop: str
) -> None:
    good = chart() | chart("other/chart") | {".envprov.yaml": "size: M\nchart: {path: other/chart}\n"}
    first = gitlab.push(f"group/{shop}", "feature/y", good)
    found = ready(installation, "feature/y", first)
    assert found["status"]["size"] == "M"
    assert found["status"]["release"]["chart"] == "git other/chart"
    wrong = gitlab.push(f"group/{shop}", "feature/y", {".envprov.yaml": "size: M\nvalues: {image: {tag: x}}\n"})
    found = ready(installation, "feature/y", wrong)
    said = accepted(found)
    assert said["reason"] == "BranchFileIgnored"
    assert "line 2" in said["message"]
    assert "image.tag" in said["message"]
    assert f"what commit {first[:12]} says stays in force" in said["message"]
    assert found["status"]["size"] == "M"


def test_a_wrong_file_from_the_beginning_stops_before_anything_is_made(
    installation: Installation, gitlab: GitLabStandIn, shop: str
) -> None:
    gitlab.push(f"group/{shop}", "feature/z", chart() | {".envprov.yaml": "a: &x {}\nb: *x\n"})
    found = eventually(
        lambda: (
            (item := installation.environment_of("feature/z"))
            and accepted(item)["reason"] == "InvalidBranchFile"
            and item
        ),
    )
    assert found
    assert "line 1" in accepted(found)["message"]
    assert "namespace" not in found["status"]
    gitlab.push(f"group/{shop}", "feature/z", {".envprov.yaml": "size: S\n"})
    eventually(lambda: is_ready(installation.environment_of("feature/z")), within=90)


def test_with_gitlab_down_what_runs_goes_on_running(
    installation: Installation, gitlab: GitLabStandIn, shop: str
) -> None:
    head = gitlab.push(f"group/{shop}", "feature/w", chart())
    found = ready(installation, "feature/w", head)
    try:
        gitlab.fault("502", "", times=-1)
        namespace = found["status"]["namespace"]
        installation.cluster.kubectl("delete", "limitrange", "--all", "-n", namespace)
        eventually(
            lambda: "envprov" in installation.cluster.kubectl("get", "limitrange", "-n", namespace, "-o", "name"),
            message="drift is not put back while GitLab is down",
        )
    finally:
        gitlab.mend()
