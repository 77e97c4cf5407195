"""``list`` and ``status`` against a real API server."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
from pathlib import Path

import pytest
import yaml

from envprov.domain.names import slug
from tests.integration.cli.calling import Cli, condition

READY = condition("Ready", "True", "Ready", "all is well")


def test_an_empty_namespace_says_so(cli: Cli) -> None:
    said = cli.call("list")
    assert (said.returncode, said.stdout) == (0, "")
    assert f"no environments in namespace {cli.namespace}" in said.stderr
    assert cli.call("list", "--quiet").stderr == ""
    assert json.loads(cli.call("list", "-o", "json").stdout)["items"] == []


def test_list_has_the_columns_of_kubectl(cli: Cli) -> None:
    ready = cli.record("feature/login", size="M")
    cli.record("日本語/イベント", pinned=True)
    cli.record("other", project="game", revision="0" * 40)
    cli.report(
        ready, READY, url="https://x.dev.example.com", size="M", expiresAt="2099-01-01T00:00:00Z", namespace="env-x"
    )
    rows = [re.split(r" {3,}", line) for line in cli.call("list").stdout.splitlines()]
    assert rows[0] == ["BRANCH", "PHASE", "SIZE", "AGE", "EXPIRES", "URL"]
    assert [row[0] for row in rows[1:]] == ["feature/login", "other", "日本語/イベント"]
    assert rows[1][1:3] == ["Ready", "M"]
    assert re.fullmatch(r"\d+y(\d+d)?", rows[1][4])
    assert rows[1][5] == "https://x.dev.example.com"
    assert rows[2][1:3] == ["Pending", "-"]
    assert rows[3][4] == "pinned"
    wide = [re.split(r" {3,}", line) for line in cli.call("list", "-o", "wide").stdout.splitlines()]
    assert wide[0][6:] == ["PROJECT", "REVISION", "NAMESPACE", "MESSAGE"]
    assert wide[1][6:] == ["shop", "-", "env-x", "all is well"]
    assert wide[2][6:] == ["game", "0" * 40, "-", "-"]


def test_list_prints_what_programs_read(cli: Cli) -> None:
    shop, game = cli.record("x"), cli.record("x", project="game")
    listed = json.loads(cli.call("list", "-o", "json").stdout)
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert {item["metadata"]["name"] for item in listed["items"]} == {shop, game}
    assert all(item["kind"] == "Environment" and "managedFields" not in item["metadata"] for item in listed["items"])
    assert len(yaml.safe_load(cli.call("-o", "yaml", "list").stdout)["items"]) == 2
    assert cli.call("list", "--project", "game", "-o", "name").stdout == f"environment.envprov.io/{game}\n"


def test_list_into_a_closed_pipe_is_quiet(cli: Cli) -> None:
    cli.record("x")
    command = " ".join(["exec", *cli.command("list"), "|", "true"])
    ended = subprocess.run(
        ["bash", "-c", command], cwd=cli.folder, env=cli.environment(), capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""


def test_status_tells_everything(cli: Cli) -> None:
    name = cli.record("feature/login", revision="b" * 40)
    cli.report(
        name,
        condition("Deployed", "False", "Deploying", "upgrades release"),
        condition("Ready", "False", "TearingDown", "waits"),
        url="https://x.dev.example.com",
        namespace="env-x",
        size="M",
        observedRevision="a" * 40,
        expiresAt="2026-01-02T00:00:00Z",
        release={"name": "x", "revision": 3, "chart": "git deploy/chart", "status": "deployed"},
        queue={"position": 2, "reason": "the cluster is full"},
        teardown={"step": "Quiesced", "plan": "Husk", "startedAt": "2026-01-01T00:00:00Z", "waitingFor": ["Pod web"]},
    )
    said = cli.call("status", "feature/login", "--project", "shop")
    assert said.returncode == 0
    for part in (
        "feature/login (Project shop): TearingDown",
        "https://x.dev.example.com",
        "env-x",
        f"{'a' * 40} (wanted: {'b' * 40})",
        "x revision 3, deployed",
        "git deploy/chart",
        "2026-01-02T00:00:00Z (has passed)",
        "place 2: the cluster is full",
        "Quiesced, Husk, for",
        "Pod web",
    ):
        assert part in said.stdout
    assert re.search(r"^Deployed +False +Deploying +\d+\w+ +upgrades release$", said.stdout, re.MULTILINE)
    item = json.loads(cli.call("status", "feature/login", "--project", "shop", "-o", "json").stdout)
    assert item["metadata"]["name"] == name
    assert cli.call("status", "feature/login", "--project", "shop", "-o", "name").stdout.strip().endswith(name)


@pytest.mark.parametrize("command", ["status", "down"])
def test_an_unknown_branch_is_said_with_its_neighbours(cli: Cli, command: str) -> None:
    cli.record("feature/login")
    cli.record("elsewhere", project="game")
    said = cli.call(command, "feature/logn", "--project", "shop")
    assert said.returncode == 1
    assert "branch feature/logn of Project shop has no environment" in said.stderr
    assert "did you mean feature/login?" in said.stderr
    assert "Project game has one" in cli.call(command, "elsewhere", "--project", "shop").stderr


@pytest.mark.parametrize("command", ["status", "down", "pin", "sleep", "diff"])
def test_the_record_of_another_branch_is_not_taken_for_this_ones(cli: Cli, command: str) -> None:
    metadata = {"name": slug("shop", "x"), "namespace": cli.namespace}
    spec = {"project": "shop", "branch": "y"}
    cli.apply({"apiVersion": "envprov.io/v1alpha1", "kind": "Environment", "metadata": metadata, "spec": spec})
    said = cli.call(command, "x", "--project", "shop")
    assert (said.returncode, said.stdout) == (4, "")
    assert "is of branch 'y' in Project shop; branch 'x' in Project shop needs the same name" in said.stderr


def test_the_project_is_found_or_everything_that_was_tried_is_said(cli: Cli) -> None:
    cli.record("x")
    cli.project("shop")
    assert cli.call("status", "x", "-o", "name").returncode == 0, "the only Project"
    cli.project("game")
    said = cli.call("status", "x")
    assert said.returncode == 2
    assert "has the Projects game (group/game), shop (group/shop)" in said.stderr
    subprocess.run(["git", "init", "--quiet", cli.folder], check=True)
    url = "git@gitlab.example.com:group/shop.git"
    subprocess.run(["git", "-C", cli.folder, "remote", "add", "origin", url], check=True)
    assert cli.call("status", "x", "-o", "name").returncode == 0, "the Git remote"
    (cli.folder / ".envprov.yaml").write_text("project: game\n")
    inner = cli.folder / "src"
    inner.mkdir()
    said = cli.call("status", "x", folder=inner)
    assert said.returncode == 1
    assert "branch x of Project game" in said.stderr


@pytest.mark.parametrize(
    ("variables", "coloured"), [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)]
)
def test_colours_are_for_terminals_that_want_them(cli: Cli, variables: dict[str, str], *, coloured: bool) -> None:
    cli.report(cli.record("x"), READY)
    shown = _on_terminal(Cli(cli.cluster, cli.namespace, cli.folder, cli.kubeconfig, variables), "list")
    assert "Ready" in shown
    assert ("\x1b[" in shown) is coloured


def test_a_cluster_that_does_not_answer_is_one_line(cli: Cli, tmp_path: Path) -> None:
    config = yaml.safe_load(cli.kubeconfig.read_text())
    config["clusters"][0]["cluster"] = {"server": "https://127.0.0.1:1"}
    dead = tmp_path / "dead.kubeconfig"
    dead.write_text(yaml.safe_dump(config))
    said = Cli(cli.cluster, cli.namespace, cli.folder, dead).call("list")
    assert said.returncode == 1
    assert said.stderr.startswith("error: ")
    assert said.stderr.count("\n") == 1
    assert "127.0.0.1:1" in said.stderr


def _on_terminal(cli: Cli, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        cli.command(*arguments), cwd=cli.folder, env=cli.environment(), stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the far side has closed
                break
        process.wait(timeout=60)
    os.close(ours)
    return shown.decode()
