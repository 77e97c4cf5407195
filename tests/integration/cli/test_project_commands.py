"""``project add``, ``list`` and ``check``: GitLab on one side, a real API server and a real receiver on the other."""

from __future__ import annotations

import json
import stat
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.eventually import eventually
from tests.gitlab.driver import GitLabStandIn
from tests.gitlab.stories import Receiver
from tests.integration.cli.calling import Cli, Ended, condition
from tests.ports import quiet_port
from tests.shipped import Installation, Process, installed

SHOP = "group/shop"
KNOWN = "known-token-of-the-tests-0123456789"
SECRETS = ("envprov-webhook", "envprov-webhook-signing")


@dataclass
class Scene:
    """
    A platform engineer, GitLab, and a receiver that reads its secrets from folders when it starts.

    Attributes:
        cli: The person.
        installation: Its settings; what runs there is installed with the first receiver.
        gitlab: GitLab, with one project.
        port: Of the receiver.
        said: What all calls have written.

    """

    cli: Cli
    installation: Installation
    gitlab: GitLabStandIn
    port: int
    said: list[str] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack, repr=False)
    running: Installation | None = None

    @property
    def url(self) -> str:
        """Where GitLab reaches the receiver."""
        return f"http://127.0.0.1:{self.port}/webhooks/gitlab"

    def call(self, *arguments: str) -> Ended:
        """Call ``envprov project``, with everything that it could say."""
        done = self.cli.call("project", *arguments, "--debug")
        self.said += [done.stdout, done.stderr]
        return done

    def add(self, *arguments: str) -> tuple[int, dict[str, str]]:
        """Call ``project add group/shop``; return its exit code and what became of each step."""
        done = self.call("add", SHOP, *arguments, "-o", "json")
        steps = json.loads(done.stdout) if done.stdout else []
        return done.returncode, {step["step"]: step["result"] for step in steps}

    def check(self, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
        """Call ``project check``; return its exit code and its checks."""
        done = self.call("check", *arguments, "-o", "json")
        assert done.stdout, done.stderr
        return done.returncode, {row["name"]: row for row in json.loads(done.stdout)}

    def hooks(self) -> list[dict[str, Any]]:
        """The webhooks that GitLab has."""
        answer = self.installation.gitlab.get(
            f"{self.gitlab.url}/api/v4/projects/group%2Fshop/hooks",
            headers={"PRIVATE-TOKEN": self.gitlab.token},
        )
        found: list[dict[str, Any]] = answer.json()
        return found

    def hook(self, **given: object) -> None:
        """Make a webhook as a person does in GitLab."""
        answer = self.installation.gitlab.post(
            f"{self.gitlab.url}/api/v4/projects/group%2Fshop/hooks",
            headers={"PRIVATE-TOKEN": self.gitlab.token},
            json={"url": self.url, **given},
        )
        assert answer.status_code == 201, answer.text

    def writes(self) -> list[str]:
        """What was written to GitLab since the last question; tests of a hook are not written."""
        found = self.gitlab.requests(forget=True)
        return [
            f"{one['method']} {one['path']}" for one in found if one["method"] != "GET" and "/test/" not in one["path"]
        ]

    def secrets(self) -> dict[str, dict[str, str]]:
        """What both Secrets hold."""
        return {
            item["metadata"]["name"]: {
                key: b64decode(value).decode() for key, value in (item.get("data") or {}).items()
            }
            for item in self.cli.get("secret")
            if item["metadata"]["name"] in SECRETS
        }

    def restart(self) -> Process:
        """Restart the receiver, which then has what the kubelet would have mounted by now."""
        if self.running is None:
            given = installed(self.cli.cluster, self.cli.namespace, self.installation.folder)
            self.running = self.stack.enter_context(given)
        for process in self.running.processes:
            process.stop()
        self._mount()
        return self.running.start_receiver().ready()

    def hand_over(self) -> None:
        """Mount what the Secrets hold, as the kubelet does under a receiver that runs, and wait until it has it."""
        assert self.running is not None
        self._mount()
        receiver = self.running.processes[-1]
        eventually(
            lambda: any(entry.get("event") == "secrets read again" for entry in receiver.entries()),
            message="the receiver does not read its secrets again",
        )

    def _mount(self) -> None:
        for name, values in self.secrets().items():
            for key, value in values.items():
                (self.folder(name) / key).write_text(value)

    def folder(self, secret: str) -> Path:
        """Where a Secret is mounted."""
        folder = self.installation.folder / secret
        folder.mkdir(exist_ok=True)
        return folder

    def project(self) -> dict[str, Any]:
        """The one Project."""
        (found,) = self.cli.get("eproj", "--show-managed-fields")
        return found

    def branches(self) -> set[str]:
        """Branches that are on record."""
        return {item["spec"]["branch"] for item in self.cli.get("env")}


@pytest.fixture
def scene(cli: Cli) -> Iterator[Scene]:
    """Yield GitLab with one project, and a receiver that knows one token and is not started."""
    there = Installation(cli.cluster, cli.namespace, cli.folder)
    with GitLabStandIn() as gitlab, there.gitlab, ExitStack() as stack:
        port = quiet_port()
        scene = Scene(cli, there, gitlab, port, stack=stack)
        tokens, signing = (scene.folder(name) for name in SECRETS)
        (tokens / "token-1").write_text(KNOWN)
        settings = there.settings(
            webhook={"port": port, "token_files": [str(tokens)], "signing_token_files": [str(signing)]},
            gitlab={"url": gitlab.url, "token_file": str(gitlab.token_file), "hook_url": scene.url},
        )
        scene.cli = replace(cli, variables={"ENVPROV_SETTINGS": str(settings)})
        gitlab.create_project(SHOP, project_id=15)
        gitlab.push(SHOP, "main", {"deploy/chart/Chart.yaml": "apiVersion: v2\nname: shop\nversion: 1.0.0\n"})
        yield scene
        _nothing_secret_was_said(scene)
        assert gitlab.log == ""


def _nothing_secret_was_said(scene: Scene) -> None:
    """Neither a value that is in a Secret or a file, nor GitLab's own token, in whichever form."""
    values = {value for one in scene.secrets().values() for value in one.values()}
    values |= {KNOWN, scene.gitlab.token, *(path.read_text() for path in scene.cli.folder.rglob("*.token"))}
    for value in values:
        for text in scene.said:
            assert value not in text
            assert value.removeprefix("whsec_") not in text
            assert b64encode(value.encode()).decode() not in text


# --- add


def test_from_nothing_to_a_signed_delivery_that_arrives(scene: Scene) -> None:
    scene.restart()
    done = scene.call("add", SHOP, "--host", "{slug}.dev.example.com")
    assert done.returncode == 3, done.stderr  # the receiver does not have the new secret yet, and all else is done
    assert "Kubernetes hands it over within a minute or two" in done.stderr
    assert "restart" not in done.stderr
    assert "envprov project check shop --test" in done.stderr
    project = scene.project()
    assert project["metadata"]["name"] == "shop"
    assert project["spec"]["gitlab"]["project"] == SHOP
    assert project["spec"]["chart"] == {"git": {"path": "deploy/chart"}}
    assert project["spec"]["host"] == "{slug}.dev.example.com"
    assert project["metadata"]["managedFields"][0]["manager"] == "envprov-project-add"
    (hook,) = scene.hooks()
    assert {name for name, value in hook.items() if name.endswith("_events") and value} == {"push_events"}
    assert (hook["url"], hook["signing_token_present"]) == (scene.url, True)
    assert (hook["branch_filter_strategy"], hook["enable_ssl_verification"]) == ("all_branches", True)
    (key,) = scene.secrets()["envprov-webhook-signing"].items()
    assert key[0] == "project.shop"
    assert key[1].startswith("whsec_")
    assert scene.branches() == set()

    scene.hand_over()
    code, checks = scene.check("shop", "--test")
    assert code == 0, checks
    assert (checks["test"]["state"], checks["test"]["message"]) == ("ok", "the test has arrived and was answered 202")
    assert scene.branches() == {"main"}  # it arrived indeed


def test_a_second_call_changes_nothing_and_says_so(scene: Scene) -> None:
    scene.add("--branches", "event/*")
    scene.restart()
    (hook,), secrets, project = scene.hooks(), scene.secrets(), scene.project()
    scene.writes()
    done = scene.call("add", SHOP, "--branches", "event/*")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "nothing has changed"
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["STEP", "Project", "secret", "webhook", "test"]
    assert scene.writes() == []
    assert (scene.hooks(), scene.secrets(), scene.project()) == ([hook], secrets, project)
    code, steps = scene.add()  # nor does one that asks for less
    assert (code, steps["Project shop"], steps["webhook"]) == (0, "unchanged", "unchanged")
    assert scene.project() == project


def test_a_gitlab_that_cannot_sign_gets_a_token_and_one_that_is_there_is_used_again(scene: Scene) -> None:
    scene.gitlab.settings(version="18.4.1")
    scene.cli.cluster.kubectl(
        *("create", "secret", "generic", "envprov-webhook", "-n", scene.cli.namespace),
        *("--from-literal=token-1=" + KNOWN, "--from-literal=project.shop=the-one-that-is-there"),
    )
    scene.restart()
    code, steps = scene.add()
    assert (code, steps["secret"], steps["test"]) == (0, "unchanged", "arrived")
    assert scene.secrets() == {"envprov-webhook": {"token-1": KNOWN, "project.shop": "the-one-that-is-there"}}
    assert scene.gitlab.deliveries()[-1]["headers"].keys() & {"X-Gitlab-Token", "webhook-signature"} == {
        "X-Gitlab-Token"
    }
    assert scene.branches() == {"main"}


def test_other_projects_keys_stay(scene: Scene) -> None:
    scene.gitlab.create_project("group/other")
    scene.add("--no-signature")
    scene.call("add", "group/other", "--no-signature")
    assert scene.secrets()["envprov-webhook"].keys() == {"project.shop", "project.other"}


def test_a_gitlab_that_does_not_sign_after_all_gets_a_token(scene: Scene) -> None:
    scene.gitlab.fault("fields", "POST .*/hooks$", fields={"signing_token_present": False})
    scene.add()
    assert scene.secrets()["envprov-webhook"].keys() == {"project.shop"}
    assert len(scene.hooks()) == 1


def test_exactly_the_events_and_branches_that_the_project_needs(scene: Scene) -> None:
    scene.cli.project(
        "shop",
        gitlab={"project": SHOP, "commands": {"role": "developer"}},
        rules=[{"branches": ["event/*"], "mergeRequest": {}}, {"branches": ["fix/*"]}],
    )
    _, steps = scene.add()
    (hook,) = scene.hooks()
    assert {name for name, value in hook.items() if name.endswith("_events") and value} == {
        "push_events",
        "merge_requests_events",
        "note_events",
    }
    assert (hook["branch_filter_strategy"], hook["push_events_branch_filter"]) == ("regex", "^(event/.*|fix/.*)$")
    assert steps["Project shop"] == "unchanged"
    assert scene.project()["spec"]["gitlab"]["commands"] == {"role": "developer"}
    scene.cli.project("shop", rules=[{"branches": ["*"]}], gitlab={"project": SHOP})
    assert scene.add()[1]["webhook"] == "updated"
    (hook,) = scene.hooks()
    assert {name for name, value in hook.items() if name.endswith("_events") and value} == {"push_events"}
    assert hook["branch_filter_strategy"] == "all_branches"


def test_a_dry_run_writes_nothing_at_all(scene: Scene) -> None:
    scene.writes()
    code, steps = scene.add("--dry-run")
    assert (code, scene.hooks(), scene.secrets(), scene.cli.get("eproj")) == (0, [], {}, [])
    assert steps == {"Project shop": "would be created", "secret": "would be written", "webhook": "would be created"}
    assert scene.writes() == []
    assert scene.gitlab.deliveries() == []


def test_a_project_that_is_another_is_changed_only_if_that_is_said(scene: Scene) -> None:
    old = {"url": "https://charts.example.com", "name": "shop", "version": "1.0.0", "credentials": {"secret": "x"}}
    scene.cli.project(
        "shop", chart={"repository": old}, gitlab={"project": SHOP, "report": {"status": True}}, inject=False
    )
    wanted = ("--chart", "oci://registry.example.com/charts/shop@2.0.0", "--host", "{slug}.example.com", "--no-hook")
    before = scene.project()
    done = scene.call("add", SHOP, *wanted)
    assert (done.returncode, scene.project()) == (4, before)
    assert "chart: https://charts.example.com shop:1.0.0 -> oci://registry.example.com/charts/shop:2.0.0" in done.stderr
    assert "host: none -> {slug}.example.com" in done.stderr
    assert "--force" in done.stderr
    code, steps = scene.add(*wanted, "--force")
    assert (code, steps) == (0, {"Project shop": "changed"})
    spec = scene.project()["spec"]
    assert spec["chart"] == {"oci": {"ref": "oci://registry.example.com/charts/shop", "version": "2.0.0"}}
    assert (spec["host"], spec["inject"], spec["gitlab"]["report"]["status"]) == ("{slug}.example.com", False, True)
    assert scene.add(*wanted) == (0, {"Project shop": "unchanged"})


def test_a_project_that_serves_another_path_is_never_taken(scene: Scene) -> None:
    scene.cli.project("shop", gitlab={"project": "elsewhere/shop"})
    before = scene.project()
    for more in ((), ("--force",)):
        done = scene.call("add", SHOP, "--no-hook", *more)
        assert (done.returncode, scene.project()) == (4, before)
        assert "serves elsewhere/shop" in done.stderr
    code, steps = scene.add("--no-hook", "--name", "shop-2")
    assert (code, steps) == (0, {"Project shop-2": "created"})
    assert scene.add("--no-hook") == (0, {"Project shop-2": "unchanged"})  # found by what it serves
    assert scene.add("--no-hook", "--name", "shop-3")[0] == 0
    done = scene.call("add", SHOP, "--no-hook")
    assert (done.returncode, "shop-2, shop-3" in done.stderr) == (2, True)


def test_a_new_secret_only_if_asked_for(scene: Scene) -> None:
    scene.add()
    scene.restart()
    before = scene.secrets()
    assert scene.add()[0] == 0
    assert scene.secrets() == before
    code, steps = scene.add("--rotate")
    assert (code, steps["secret"], steps["webhook"], steps["test"]) == (3, "written", "updated", "failed")
    assert scene.secrets() != before
    assert scene.secrets().keys() == before.keys()
    scene.restart()
    assert scene.add()[0] == 0


def test_a_hook_whose_secret_nobody_here_knows_is_left_alone_and_told(scene: Scene) -> None:
    scene.hook(push_events=True, token="made by hand")
    scene.restart()
    done = scene.call("add", SHOP)
    assert done.returncode == 1
    assert "answered 401" in done.stderr
    assert "--rotate" in done.stderr
    assert scene.secrets() == {}
    assert scene.add("--rotate")[0] == 3
    scene.restart()
    code, steps = scene.add()
    assert (code, steps["test"]) == (0, "arrived")


def test_a_hook_that_was_made_by_hand_with_a_token_that_the_receiver_knows_will_do(scene: Scene) -> None:
    scene.hook(push_events=True, issues_events=True, note_events=True, token=KNOWN)
    scene.restart()
    code, steps = scene.add()
    assert (code, steps["secret"], steps["webhook"], steps["test"]) == (0, "unchanged", "updated", "arrived")
    (hook,) = scene.hooks()
    assert (hook["note_events"], hook["issues_events"]) == (False, True)  # what is not about us stays


def test_who_may_not_write_secrets_hands_over_a_file(scene: Scene) -> None:
    limited = person(scene, "limited", "projects.envprov.io")
    admin, scene.cli = scene.cli, limited
    done = scene.call("add", SHOP, "--no-signature")
    assert done.returncode == 4, done.stderr
    assert scene.hooks() == []
    (file,) = scene.cli.folder.glob("tmp/*.token")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    commands = [line.strip() for line in done.stderr.splitlines() if line.startswith("  ")]
    written, again, removed = commands[-3:]
    assert removed == f"rm {file}"
    subprocess.run(["bash", "-ceu", "-o", "pipefail", written], env=environment(admin), check=True, capture_output=True)

    scene.cli = admin
    assert scene.secrets() == {"envprov-webhook": {"project.shop": file.read_text()}}
    scene.restart()
    scene.cli = limited
    assert again.startswith("envprov project add group/shop ")
    done = scene.call(*again.split()[2:])
    assert (done.returncode, len(scene.hooks())) == (0, 1), done.stderr
    assert "arrived" in done.stdout
    scene.cli = admin


def test_a_private_address_is_named_and_so_is_the_allowlist(scene: Scene) -> None:
    scene.gitlab.settings(local_hooks=False)
    done = scene.call("add", SHOP)
    assert done.returncode == 1
    assert "outbound_local_requests_allowlist" in done.stderr
    assert scene.project()["spec"]["gitlab"]["project"] == SHOP  # the sweep serves it meanwhile


def test_nobody_is_there_to_take_the_test(scene: Scene) -> None:
    done = scene.call("add", SHOP)
    assert done.returncode == 1
    assert "GitLab could not deliver its test" in done.stderr
    assert "refused" in done.stderr


def test_something_else_that_answers_is_not_taken_for_the_receiver(scene: Scene) -> None:
    with Receiver() as other:
        other.status = 200
        done = scene.call("add", SHOP, "--url", other.url)
    assert done.returncode == 1
    assert "does something else answer?" in done.stderr


def test_the_test_of_a_project_with_one_commit_arrives_too(scene: Scene) -> None:
    scene.gitlab.create_project("group/new")
    scene.restart()
    assert scene.call("add", "group/new").returncode == 3
    scene.hand_over()
    _, checks = scene.check("new", "--test")
    assert checks["test"]["message"] == "the test has arrived and was answered 204"


def test_other_hooks_stay_and_one_of_a_receiver_elsewhere_is_named(scene: Scene) -> None:
    scene.hook(url="https://ci.example.com/build", push_events=True)
    scene.hook(url="https://old.example.com/webhooks/gitlab", push_events=True)
    before = scene.hooks()
    scene.restart()
    done = scene.call("add", SHOP)
    assert [hook for hook in scene.hooks() if hook in before] == before
    assert len(scene.hooks()) == 3
    assert "delivers to https://old.example.com/webhooks/gitlab: if that is where this receiver was" in done.stderr
    assert "ci.example.com" not in done.stderr


def test_without_a_commit_nothing_can_be_tested(scene: Scene) -> None:
    scene.gitlab.create_project("group/empty", empty=True)
    done = scene.call("add", "group/empty", "-o", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[-1]["result"] == "skipped"


def test_without_a_hook_gitlab_is_not_asked_about_hooks(scene: Scene) -> None:
    settings = scene.cli.folder / "no-url.yaml"
    settings.write_text(f"gitlab: {{url: '{scene.gitlab.url}', token_file: '{scene.gitlab.token_file}'}}\n")
    scene.gitlab.forget_requests()
    code, steps = scene.add("--no-hook", "--settings", str(settings))
    assert (code, steps) == (0, {"Project shop": "created"})
    assert not [one for one in scene.gitlab.requests() if "/hooks" in one["path"]]
    done = scene.call("add", SHOP, "--settings", str(settings))
    assert (done.returncode, "--url" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        pytest.param(("group/none",), 2, "knows no project", id="no such project"),
        pytest.param((SHOP, "--chart", "oci://registry.example.com/x"), 2, "add the version", id="chart w/o version"),
        pytest.param((SHOP, "--chart", "https://charts.example.com#x"), 2, "name and version", id="chart w/o name"),
        pytest.param((SHOP, "--chart", "../x"), 2, "folder of the repository", id="chart outside"),
        pytest.param((SHOP, "--name", "Shop"), 2, "lower-case", id="no name"),
        pytest.param((SHOP, "--name", "s" * 41), 2, "at most 40", id="long name"),
        pytest.param((SHOP, "--host", "a b"), 2, "host", id="no host"),
        pytest.param((SHOP, "--url", "ftp://x"), 2, "--url", id="no URL"),
        pytest.param((SHOP, "--url", "https://a:b@x.example.com"), 2, "no credentials", id="credentials in the URL"),
        pytest.param((SHOP, "--token-file", "/nowhere"), 2, "No such file", id="no token file"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    scene: Scene, arguments: tuple[str, ...], code: int, word: str
) -> None:
    scene.writes()
    done = scene.call("add", *arguments)
    assert (done.returncode, word in done.stderr) == (code, True), done.stderr
    assert (scene.writes(), scene.cli.get("eproj"), scene.secrets()) == ([], [], {})


def test_who_is_no_maintainer_is_told_so_before_anything_is_written(scene: Scene) -> None:
    scene.gitlab.create_token(scene.gitlab.token, user="envprov", everywhere=False)
    scene.gitlab.member(SHOP, "envprov", 30)
    done = scene.call("add", SHOP)
    assert (done.returncode, "role Maintainer" in done.stderr) == (1, True)
    assert scene.cli.get("eproj") == []


# --- list


def test_the_list_shows_each_project(scene: Scene) -> None:
    assert "no Projects" in scene.call("list").stderr
    scene.cli.project("shop", host="{slug}.example.com")
    art = {"chart": {"oci": {"ref": "oci://registry.example.com/art", "version": "1"}}}
    metadata = {"name": "art", "namespace": scene.cli.namespace}
    scene.cli.apply({"apiVersion": "envprov.io/v1alpha1", "kind": "Project", "metadata": metadata, "spec": art})
    scene.cli.record("a")
    scene.cli.record("b")
    report(scene, condition("Synced", "True", "InSync"), condition("HookHealthy", "False", "HookMissing", "no hook"))
    table = [line.split() for line in scene.call("list").stdout.splitlines()]
    assert table[0] == ["NAME", "GITLAB", "CHART", "HOST", "SYNCED", "HOOK", "ENVIRONMENTS", "AGE"]
    assert table[1][:-1] == ["art", "-", "oci://registry.example.com/art:1", "-", "-", "-", "0"]
    assert table[2][:-1] == [
        *("shop", "group/shop", "git", "deploy/chart", "{slug}.example.com", "InSync", "HookMissing", "2"),
    ]
    assert "no hook" in scene.call("list", "-o", "wide").stdout
    listed = json.loads(scene.call("list", "-o", "json").stdout)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["art", "shop"]
    assert scene.call("list", "-o", "name").stdout.splitlines() == [
        "project.envprov.io/art",
        "project.envprov.io/shop",
    ]


# --- check


def test_everything_in_order(scene: Scene) -> None:
    scene.add("--no-signature")
    scene.restart()
    scene.gitlab.push(SHOP, "main", {".envprov.yaml": "size: S\n"})
    scene.gitlab.settle()
    report(scene, condition("Synced", "True", "InSync", "the environments are those of the branches"))
    code, checks = scene.check("--test")
    assert code == 0
    expected = ("gitlab", "token", "project", "role", "webhook", "tls", "deliveries", "test", "chart", "branch file")
    assert set(checks) == {*expected, "rules", "synced"}
    odd = {name for name, row in checks.items() if row["state"] != "ok"}
    assert odd == {"tls", "deliveries"}  # http to this very computer, and one try before anybody listened
    assert "internal error (1)" in checks["deliveries"]["message"]
    assert "GitLab 19.1.0-ee" in checks["gitlab"]["message"]
    lines = scene.call("check").stdout.splitlines()
    assert lines[0].split() == ["PROJECT", "CHECK", "STATE", "FOUND", "AND", "WHAT", "TO", "DO"]
    quiet = scene.call("check", "--quiet").stdout
    assert "branch file" not in quiet


def test_all_that_can_be_wrong_at_once(scene: Scene) -> None:
    scene.cli.project("shop", chart={"git": {"path": "charts/none"}}, rules=[{"branches": ["*"], "mergeRequest": {}}])
    scene.gitlab.push(SHOP, "main", {".envprov.yaml": "sise: S\n"})
    scene.hook(push_events=True, token="x", enable_ssl_verification=False)
    scene.gitlab.push(SHOP, "feature/x", {"a": "b"})
    scene.gitlab.settle()
    soon = (datetime.now(UTC) + timedelta(days=13)).date().isoformat()
    scene.gitlab.create_token(scene.gitlab.token, user="envprov", expires_at=soon)
    report(scene, condition("Synced", "False", "MassDeletion", "many"))
    code, checks = scene.check("shop", "--test")
    states = {name: row["state"] for name, row in checks.items()}
    assert code == 1
    assert states == {
        "gitlab": "ok",
        "token": "warning",
        "project": "ok",
        "role": "ok",
        "webhook": "failed",
        "tls": "warning",
        "deliveries": "failed",
        "test": "failed",
        "chart": "failed",
        "branch file": "failed",
        "rules": "ok",
        "synced": "failed",
    }
    assert soon in checks["token"]["message"]
    assert "merge requests" in checks["webhook"]["message"]
    assert "charts/none/Chart.yaml on main" in checks["chart"]["message"]
    assert "line 1" in checks["branch file"]["message"]
    assert "MassDeletion: many" in checks["synced"]["message"]
    assert all(row["remedy"] for row in checks.values() if row["state"] != "ok")


def test_a_token_that_may_only_read_and_a_user_with_too_small_a_role(scene: Scene) -> None:
    scene.cli.project("shop")
    scene.gitlab.create_token(scene.gitlab.token, user="envprov", scopes=["read_api"], everywhere=False)
    scene.gitlab.member(SHOP, "envprov", 20)
    code, checks = scene.check()
    assert (code, checks["token"]["state"], checks["role"]["state"]) == (1, "failed", "failed")
    assert "read_api" in checks["token"]["message"]
    assert "Reporter" in checks["role"]["message"]
    assert checks["webhook"]["state"] == "warning"


def test_a_paused_hook_and_a_missing_one(scene: Scene) -> None:
    scene.cli.project("shop")
    code, checks = scene.check()
    assert (code, checks["webhook"]["state"]) == (1, "failed")
    assert checks["webhook"]["remedy"] == "`envprov project add group/shop`"
    scene.gitlab.settings(auto_disabling_web_hooks=True)
    scene.hook(push_events=True)
    for number in range(4):
        scene.gitlab.push(SHOP, "feature/x", {"a": str(number)})
        scene.gitlab.settle()
    code, checks = scene.check()
    assert code == 1
    assert "GitLab has paused webhook" in checks["webhook"]["message"]


@pytest.mark.parametrize("change", ["archived", "moved", "gone"])
def test_a_project_that_is_no_longer_what_it_was(scene: Scene, change: str) -> None:
    scene.cli.project("shop")
    match change:
        case "archived":
            scene.gitlab.change_project(SHOP, archived=True)
        case "moved":
            scene.gitlab.move_project(SHOP, "elsewhere/shop")
        case _:
            scene.gitlab.delete_project(SHOP)
    code, checks = scene.check()
    assert (code, checks["project"]["state"]) == (1, "failed")
    assert "webhook" not in checks


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [pytest.param("401", "token_file", id="token refused"), pytest.param("502", "gitlab.url", id="GitLab is down")],
)
def test_without_gitlab_the_rest_is_checked_all_the_same(scene: Scene, fault: str, remedy: str) -> None:
    scene.cli.project("shop")
    scene.gitlab.fault(fault, "", times=-1)
    code, checks = scene.check()
    scene.gitlab.mend()
    assert (code, checks["gitlab"]["state"]) == (1, "failed")
    assert remedy in checks["gitlab"]["remedy"]
    assert checks["synced"]["state"] == "warning"


def test_rules_for_merge_requests_need_a_token(scene: Scene) -> None:
    scene.cli.project("shop", rules=[{"branches": ["*"], "mergeRequest": {}}])
    settings = scene.cli.folder / "none.yaml"
    settings.write_text("log: {level: info}\n")
    code, checks = scene.check("--settings", str(settings))
    assert (code, checks["gitlab"]["state"], checks["rules"]["state"]) == (1, "warning", "failed")


def test_a_project_that_is_not_there(scene: Scene) -> None:
    done = scene.call("check", "none")
    assert (done.returncode, "no Project none" in done.stderr) == (2, True)


def report(scene: Scene, *conditions: dict[str, Any]) -> None:
    """Write the status of the Project shop as the controller would."""
    body = json.dumps({"status": {"observedGeneration": 1, "conditions": list(conditions)}})
    scene.cli.cluster.kubectl(
        *("patch", "eproj", "shop", "-n", scene.cli.namespace, "--subresource=status", "--type=merge", "-p", body)
    )


def person(scene: Scene, name: str, resource: str) -> Cli:
    """Return a person who may write one kind of object and nothing else, with a temporary folder of their own."""
    for words in (
        ("create", "serviceaccount", name),
        ("create", "role", name, "--verb=get,list,create,patch", f"--resource={resource}"),
        ("create", "rolebinding", name, f"--role={name}", f"--serviceaccount={scene.cli.namespace}:{name}"),
    ):
        scene.cli.cluster.kubectl(*words, "-n", scene.cli.namespace)
    temporary = scene.cli.folder / "tmp"
    temporary.mkdir()
    variables = {**scene.cli.variables, "TMPDIR": str(temporary)}
    return replace(scene.cli, kubeconfig=scene.installation.kubeconfig(name), variables=variables)


def environment(admin: Cli) -> dict[str, str]:
    """Return the shell of an administrator."""
    return admin.environment() | {"KUBECONFIG": str(admin.kubeconfig)}
