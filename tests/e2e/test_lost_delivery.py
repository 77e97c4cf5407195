"""Promises 1 and 2: in step with GitLab though it sends nothing; nothing deleted on an answer that is not its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster import Cluster
from tests.eventually import eventually
from tests.gitlab.driver import GitLabStandIn
from tests.shipped import Installation, Process, installed

INTERVAL_SECONDS = 1
GRACE_SECONDS = 3


@dataclass(frozen=True)
class Forge:
    """
    envprov and GitLab side by side.

    Attributes:
        installation: Where envprov is.
        controller: Its controller, which sweeps every second.
        gitlab: GitLab, none of whose hooks is ever registered.

    """

    installation: Installation
    controller: Process
    gitlab: GitLabStandIn

    def project(self, **spec: Any) -> Repo:  # noqa: ANN401 - any field of a Project
        """Make a GitLab project and its Project."""
        name = f"shop-{secrets.token_hex(3)}"
        self.gitlab.create_project(f"group/{name}")
        rules = [{"branches": ["main"], "action": "ignore"}, {"branches": ["*"]}]
        self.installation.project(name, **{"rules": rules, **spec})
        return Repo(self, name)


@dataclass(frozen=True)
class Repo:
    """One GitLab project, and its Project of the same name."""

    forge: Forge
    name: str

    @property
    def path(self) -> str:
        """Path in GitLab."""
        return f"group/{self.name}"

    def heads(self) -> dict[str, str]:
        """Commits by branch that are on record and not on their way down."""
        return {
            item["spec"]["branch"]: item["spec"]["revision"]
            for item in self.forge.installation.environments()
            if item["spec"]["project"] == self.name and "deletionTimestamp" not in item["metadata"]
        }

    def becomes(self, expected: dict[str, str], within: float = 120) -> None:
        """Wait until exactly these are on record."""
        eventually(lambda: self.heads() == expected, within=within, message=f"not in step: {self.synced()}")

    def synced(self) -> dict[str, Any]:
        """The condition Synced of the Project."""
        found = json.loads(
            self.forge.installation.cluster.kubectl(
                "get", "eproj", self.name, "-n", self.forge.installation.namespace, "-o", "json"
            )
        )
        told = found.get("status", {}).get("conditions", [])
        return next((one for one in told if one["type"] == "Synced"), {"reason": "", "message": ""})

    def says(self, reason: str) -> None:
        """Wait until the condition Synced has this reason."""

        def said() -> bool:
            told = self.synced()["reason"]
            assert told == reason
            return True

        eventually(said, message="the Project does not say so")

    def sweeps(self) -> int:
        """How many sweeps of it have ended, well or not."""
        said = self.forge.controller.entries()
        words = {"sweep", "sweep failed"}
        return len([one for one in said if one.get("event") in words and one.get("project") == self.name])

    def swept(self, times: int) -> None:
        """Wait for so many sweeps more."""
        until = self.sweeps() + times
        eventually(lambda: self.sweeps() >= until, message="it is not swept")


@pytest.fixture(scope="module")
def forge(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Yield envprov and GitLab; nothing is delivered from one to the other."""
    namespace = f"envprov-e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with GitLabStandIn() as gitlab, installed(cluster, namespace, tmp_path_factory.mktemp(namespace)) as there:
        there.settings(
            gitlab={"url": gitlab.url, "token_file": str(gitlab.token_file), "timeout": "PT2S"},
            sweep={"interval": f"PT{INTERVAL_SECONDS}S", "grace": f"PT{GRACE_SECONDS}S"},
        )
        yield Forge(there, there.start_controller().ready(), gitlab)
    cluster.discard(namespace)


def test_without_a_single_delivery_environments_come_and_change_and_go(forge: Forge) -> None:
    repo = forge.project()
    names = [f"event/{number:04}" for number in range(1, 6)]
    heads = forge.gitlab.create_branches(repo.path, names)
    repo.becomes(heads)
    eventually(lambda: forge.installation.is_ready(names[0]), message="not ready")
    moved = forge.gitlab.push(repo.path, names[0], {"more": "text"})
    forge.gitlab.delete_branch(repo.path, names[1])
    del heads[names[1]]
    repo.becomes(heads | {names[0]: moved})
    eventually(
        lambda: forge.installation.environment_of(names[1]) is None, within=90, message="it is still being torn down"
    )
    assert repo.synced()["reason"] == "InSync"


def test_a_branch_that_is_taken_down_stays_down_until_the_next_push(forge: Forge) -> None:
    repo = forge.project()
    heads = forge.gitlab.create_branches(repo.path, ["a", "b"])
    repo.becomes(heads)
    envprov(forge, "down", "a", "--project", repo.name, "--no-wait")
    repo.becomes({"b": heads["b"]})
    repo.swept(3)
    assert repo.heads() == {"b": heads["b"]}
    moved = forge.gitlab.push(repo.path, "a", {"more": "text"})
    repo.becomes({"a": moved, "b": heads["b"]})


# --- Nothing is deleted because of an answer that is not GitLab's word for it


ERRORS = [
    pytest.param("401", {}, "ForgeForbidden", id="401"),
    pytest.param("403", {}, "ForgeForbidden", id="403"),
    pytest.param("404_project", {}, "ForgeForbidden", id="the project is hidden in the middle of it"),
    pytest.param("404_proxy", {}, "ForgeUnreliable", id="404 of a proxy"),
    pytest.param("500", {}, "Unavailable", id="500"),
    pytest.param("502", {}, "Unavailable", id="502 as a page"),
    pytest.param("html", {}, "ForgeUnreliable", id="a page for people"),
    pytest.param("truncated", {}, "ForgeUnreliable", id="JSON that breaks off"),
    pytest.param("redirect", {"location": "http://127.0.0.1:9/"}, "ForgeUnreliable", id="redirect"),
    pytest.param("429", {"retry_after": 1}, "Throttled", id="rate limit"),
    pytest.param("hang", {"seconds": 5}, "Unavailable", id="no answer in time"),
    pytest.param("reset", {}, "Unavailable", id="broken connection"),
    pytest.param("empty", {}, "ForgeUnreliable", id="an empty list of a project that is not empty"),
]


@pytest.mark.parametrize(("fault", "how", "reason"), ERRORS)
def test_no_error_deletes_anything_and_the_condition_says_why(
    forge: Forge, fault: str, how: dict[str, Any], reason: str
) -> None:
    repo = forge.project()
    heads = forge.gitlab.create_branches(repo.path, ["a", "b"])
    repo.becomes(heads)
    try:
        forge.gitlab.fault(fault, f"{repo.name}/repository/branches", times=-1, **how)
        forge.gitlab.delete_branch(repo.path, "a")
        repo.says(reason)
        assert repo.synced()["message"]
        assert repo.heads() == heads
    finally:
        forge.gitlab.mend()
    repo.becomes({"b": heads["b"]})  # GitLab is well again, and the branch is really gone


def test_half_a_list_deletes_nothing(forge: Forge) -> None:
    repo = forge.project()
    heads = forge.gitlab.create_branches(repo.path, ["a", "b", "c"])
    repo.becomes(heads)
    try:
        forge.gitlab.fault("half", f"{repo.name}/repository/branches\\?", times=-1)
        repo.swept(GRACE_SECONDS * 2)
        assert repo.heads() == heads
    finally:
        forge.gitlab.mend()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param("archive", "ProjectArchived", id="archived"),
        pytest.param("move", "ProjectMoved", id="moved"),
        pytest.param("delete", "ProjectMissing", id="deleted"),
        pytest.param("replace", "ProjectReplaced", id="deleted and made again"),
    ],
)
def test_a_project_that_is_not_what_it_was_deletes_nothing(forge: Forge, change: str, reason: str) -> None:
    repo = forge.project()
    heads = forge.gitlab.create_branches(repo.path, ["a", "b"])
    repo.becomes(heads)
    match change:
        case "archive":
            forge.gitlab.change_project(repo.path, archived=True)
        case "move":
            forge.gitlab.move_project(repo.path, f"elsewhere/{repo.name}")
        case _:
            forge.gitlab.delete_project(repo.path)
    if change == "replace":
        forge.gitlab.create_project(repo.path)
    repo.says(reason)
    repo.swept(GRACE_SECONDS + 2)
    assert repo.heads() == heads


def test_many_at_once_wait_until_a_person_agrees(forge: Forge) -> None:
    repo = forge.project()
    heads = forge.gitlab.create_branches(repo.path, [f"event/{number}" for number in range(8)])
    repo.becomes(heads)
    gone = [f"event/{number}" for number in range(5)]
    forge.gitlab.push_many(repo.path, [{"branch": name, "delete": True} for name in gone])
    repo.says("MassDeletion")
    repo.swept(2)
    assert repo.heads() == heads
    assert f"envprov cleanup --confirm-mass-delete {repo.name}" in repo.synced()["message"]
    said = envprov(forge, "cleanup", "--confirm-mass-delete", repo.name)
    assert "agreed: 5 environments" in said.stderr
    repo.becomes({name: head for name, head in heads.items() if name not in gone})


def test_one_projects_trouble_does_not_delay_anothers(forge: Forge) -> None:
    ill, well = forge.project(), forge.project()
    try:
        forge.gitlab.fault("hang", ill.name, times=-1, seconds=5)
        heads = forge.gitlab.create_branches(well.path, ["a"])
        well.becomes(heads)
        assert ill.heads() == {}
    finally:
        forge.gitlab.mend()


# --- The cleanup, without a controller


def test_the_cleanup_alone_says_what_it_would_do_and_then_does_just_that(cluster: Cluster, tmp_path: Path) -> None:
    namespace = f"envprov-e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with GitLabStandIn() as gitlab, installed(cluster, namespace, tmp_path) as there:
        there.settings(gitlab={"url": gitlab.url, "token_file": str(gitlab.token_file)}, sweep={"grace": "PT1S"})
        gitlab.create_project("group/shop")
        heads = gitlab.create_branches("group/shop", ["a", "b"])
        there.project("shop", rules=[{"branches": ["main"], "action": "ignore"}, {"branches": ["*"]}])
        cleaner = there.kubeconfig("envprov-cleanup")
        said = call(there, cleaner, "cleanup")
        assert said.returncode == 0, said.stderr
        assert {item["spec"]["branch"] for item in there.environments()} == set(heads)
        gitlab.delete_branch("group/shop", "a")
        stranger = gitlab_environment(gitlab, "envprov/long-gone-abcdefgh")
        by_hand = gitlab_environment(gitlab, "envprov/demo")  # none of ours can be called so
        theirs = gitlab_environment(gitlab, "review/theirs")

        def planned() -> list[dict[str, str]]:
            told = call(there, cleaner, "cleanup", "--dry-run", "-o", "json")
            assert told.returncode == 0, told.stderr
            rows: list[dict[str, str]] = json.loads(told.stdout)
            return rows

        assert [row["why"] for row in planned()] == ["NoEnvironment"]  # one listing is not enough
        call(there, cleaner, "cleanup", "-o", "json")
        gitlab_environment(gitlab, "envprov/long-gone-abcdefgh")
        rows = eventually(lambda: [row for row in planned() if row["why"] == "BranchGone"], within=30)
        assert rows[0]["action"] == "delete"
        assert "branch a is in no complete listing" in rows[0]["evidence"]
        assert {item["spec"]["branch"] for item in there.environments()} == set(heads)
        done = call(there, cleaner, "cleanup", "-o", "json")
        assert done.returncode == 0, done.stderr
        assert {row["why"]: row["action"] for row in json.loads(done.stdout)} == {
            "BranchGone": "delete: done",
            "NoEnvironment": "stop and delete: done",
        }
        left = {item["spec"]["branch"] for item in there.environments() if "deletionTimestamp" not in item["metadata"]}
        assert left == {"b"}
        again = call(there, cleaner, "cleanup", "-o", "json")
        assert json.loads(again.stdout) == []
        names = {one["name"] for one in gitlab.state("group/shop")["environments"]}
        assert names == {theirs, by_hand}
        assert stranger not in names
    cluster.discard(namespace)


def envprov(forge: Forge, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the administrator."""
    done = call(forge.installation, forge.installation.cluster.kubeconfig, *args)
    assert done.returncode == 0, done.stderr
    return done


def call(there: Installation, kubeconfig: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command as whoever a kubeconfig says."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "envprov"), *args, "--kubeconfig", str(kubeconfig)],
        env=there.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def gitlab_environment(gitlab: GitLabStandIn, name: str) -> str:
    """Make an environment in GitLab; return its name."""
    answer = httpx.post(
        f"{gitlab.url}/api/v4/projects/group%2Fshop/environments",
        headers={"PRIVATE-TOKEN": gitlab.token},
        json={"name": name, "tier": "development"},
        timeout=10,
    )
    assert answer.status_code in {201, 400}, answer.text
    return name
