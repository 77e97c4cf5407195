"""GitLab's own pages show the environment, and a comment in a merge request commands it: from one end to the other."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cluster import Cluster
from tests.eventually import eventually
from tests.gitlab.driver import GitLabStandIn
from tests.shipped import TOKEN, Installation, installed, is_ready

REPORTER, DEVELOPER = 20, 30


@pytest.fixture(scope="module")
def gitlab() -> Iterator[GitLabStandIn]:
    """Yield a GitLab whose hooks may reach this computer."""
    with GitLabStandIn() as standin:
        standin.settings(local_hooks=True)
        yield standin


@pytest.fixture(scope="module")
def installation(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, gitlab: GitLabStandIn
) -> Iterator[Installation]:
    """Yield envprov with receiver and controller at work."""
    namespace = f"envprov-e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with installed(cluster, namespace, tmp_path_factory.mktemp(namespace)) as there:
        there.settings(gitlab={"url": gitlab.url, "token_file": str(gitlab.token_file)}, sweep={"interval": "PT30S"})
        there.start_receiver().ready()
        there.start_controller().ready()
        yield there
    cluster.discard(namespace)


@pytest.fixture
def shop(installation: Installation, gitlab: GitLabStandIn) -> str:
    """Return the path of a project with a hook of all kinds, and a Project that takes commands."""
    name = f"shop-{secrets.token_hex(3)}"
    path = f"group/{name}"
    gitlab.create_project(path)
    gitlab.member(path, "dev", DEVELOPER)
    port = installation.processes[0].port
    hook = {
        "url": f"http://127.0.0.1:{port}/webhooks/gitlab",
        "token": TOKEN,
        "push_events": True,
        "merge_requests_events": True,
        "note_events": True,
    }
    answer = httpx.post(
        f"{gitlab.url}/api/v4/projects/{path.replace('/', '%2F')}/hooks",
        headers={"PRIVATE-TOKEN": gitlab.token},
        json=hook,
        timeout=10,
    )
    assert answer.status_code == 201, answer.text
    installation.project(
        name,
        host="{slug}.dev.example.com",
        gitlab={"project": path, "commands": {"role": "developer"}, "report": {"status": True}},
        limits={"lifetime": "P30D"},
        rules=[
            {"branches": ["main"], "action": "ignore"},
            {"branches": ["*"], "lifetime": {"kind": "expire-after", "idle": "P7D"}},
        ],
    )
    return path


def ours(gitlab: GitLabStandIn, path: str) -> list[dict[str, Any]]:
    """Return the environments of ours that GitLab shows."""
    found = gitlab.state(path)["environments"]
    return [one for one in found if one["name"].startswith("envprov/")]


def bodies(gitlab: GitLabStandIn, path: str) -> list[str]:
    """Return what we have written in merge requests."""
    return [note["body"] for note in gitlab.state(path)["notes"] if note["author"]["username"] == "envprov"]


def says(gitlab: GitLabStandIn, path: str, text: str) -> bool:
    """Whether the note about the environment says something."""
    return any(text in body for body in bodies(gitlab, path))


def has_been_told(environment: dict[str, Any] | None, head: str) -> bool:
    """Whether it is on record that GitLab was told everything about a commit that is deployed."""
    told = (environment or {}).get("status", {}).get("gitlab", {})
    notes = told.get("notes", [])
    return (
        "id" in told.get("environment", {})
        and (told.get("deployment", {}).get("revision"), told.get("deployment", {}).get("status")) == (head, "success")
        and told.get("commit") == {"revision": head, "state": "success"}
        and len(notes) == 1
        and bool(notes[0].get("id") and notes[0].get("digest"))
    )


def test_a_branch_is_shown_from_its_first_commit_to_its_end(
    installation: Installation, gitlab: GitLabStandIn, shop: str
) -> None:
    head = gitlab.push(shop, "feature/x", {"a": "b"})
    iid = gitlab.open_merge_request(shop, "feature/x")
    eventually(lambda: is_ready(installation.environment_of("feature/x"), head), within=90, message="not Ready")

    def is_shown() -> bool:
        (environment,) = ours(gitlab, shop)
        state = gitlab.state(shop)
        (deployment,) = state["deployments"]
        (note,) = bodies(gitlab, shop)
        assert environment["state"] == "available"
        assert environment["external_url"].endswith(".dev.example.com")
        assert (deployment["sha"], deployment["status"]) == (head, "success")
        assert "ready" in note.lower()
        assert "success" in {one["status"] for one in state["statuses"]}
        return True

    eventually(is_shown, message="GitLab does not show it")
    before = len(gitlab.requests())
    gitlab.comment(shop, iid, "/envprov extend 3d")
    eventually(
        lambda: len(bodies(gitlab, shop)) > 1,
        message="the command is not answered",
    )
    found = installation.environment_of("feature/x")
    assert found is not None
    assert "envprov.io/extended" in found["metadata"]["annotations"]
    assert len(gitlab.requests()) > before
    revision = found["status"]["release"]["revision"]
    gitlab.comment(shop, iid, "/envprov redeploy")
    eventually(
        lambda: (installation.environment_of("feature/x") or {})["status"]["release"]["revision"] == revision + 1,
        message="the same commit is not deployed once more",
    )
    eventually(lambda: is_ready(installation.environment_of("feature/x"), head), message="not Ready again")
    gitlab.comment(shop, iid, "/envprov sleep")
    eventually(lambda: says(gitlab, shop, "is asleep.**"), message="the note does not say that it sleeps")
    (deployment,) = [one for one in gitlab.state(shop)["deployments"] if one["sha"] == head][-1:]
    assert deployment["status"] == "success"
    gitlab.comment(shop, iid, "/envprov wake")
    eventually(lambda: is_ready(installation.environment_of("feature/x"), head), message="it does not wake")
    eventually(lambda: says(gitlab, shop, "is ready.**"), message="the note does not say that it is ready")
    gitlab.delete_branch(shop, "feature/x")
    eventually(lambda: installation.environment_of("feature/x") is None, within=90, message="it is still there")
    eventually(
        lambda: not ours(gitlab, shop) and any("is gone" in body for body in bodies(gitlab, shop)),
        message="GitLab still shows it",
    )


def test_who_has_not_the_role_is_told_so_and_nothing_happens(
    installation: Installation, gitlab: GitLabStandIn, shop: str
) -> None:
    gitlab.push(shop, "feature/y", {"a": "b"})
    iid = gitlab.open_merge_request(shop, "feature/y")
    eventually(lambda: is_ready(installation.environment_of("feature/y")), within=90, message="not Ready")
    gitlab.member(shop, "passer-by", REPORTER)
    gitlab.comment(shop, iid, "/envprov down", user="passer-by")
    eventually(
        lambda: any("Developer" in body or "developer" in body for body in bodies(gitlab, shop)),
        message="the refusal is not said",
    )
    found = installation.environment_of("feature/y")
    assert found is not None
    assert "deletionTimestamp" not in found["metadata"]
    gitlab.comment(shop, iid, "/envprov down")
    eventually(lambda: installation.environment_of("feature/y") is None, within=90, message="it is not taken down")


def test_a_restart_writes_nothing_new(installation: Installation, gitlab: GitLabStandIn, shop: str) -> None:
    head = gitlab.push(shop, "feature/z", {"a": "b"})
    gitlab.open_merge_request(shop, "feature/z")
    eventually(lambda: is_ready(installation.environment_of("feature/z"), head), within=90, message="not Ready")
    eventually(lambda: any("is ready" in body for body in bodies(gitlab, shop)), message="no note")
    eventually(
        lambda: has_been_told(installation.environment_of("feature/z"), head),
        message="not all that GitLab was told is on record",
    )
    state = gitlab.state(shop)
    assert [one["status"] for one in state["deployments"]] == ["success"]
    assert [one["status"] for one in state["statuses"] if one["name"] == "envprov"][-1:] == ["success"]
    before = gitlab.state(shop)
    gitlab.forget_requests()
    installation.processes[-1].stop()
    controller = installation.start_controller().ready()
    eventually(lambda: any(entry.get("event") == "sweep" for entry in controller.entries()), message="not at work")
    eventually(
        lambda: any(one["method"] == "GET" and "merge_requests" in one["path"] for one in gitlab.requests()),
        message="the publisher has not looked",
    )
    written = [one for one in gitlab.requests() if one["method"] != "GET" and shop.split("/")[1] in one["path"]]
    assert written == []
    assert gitlab.state(shop) == before
