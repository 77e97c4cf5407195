"""``cleanup``, ``manifests`` and ``doctor`` against a real API server."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from envprov.domain.names import slug
from tests.integration.cli.calling import Cli, Ended
from tests.shipped import Installation, installed

PAST, FUTURE = "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


@pytest.fixture
def installation(cli: Cli) -> Iterator[Installation]:
    """Yield envprov installed, with its ServiceAccounts and their rights; nothing runs."""
    with installed(cli.cluster, cli.namespace, cli.folder) as there:
        yield there


def as_account(cli: Cli, installation: Installation, account: str) -> Cli:
    """Return one of envprov's own processes at the terminal."""
    return Cli(cli.cluster, cli.namespace, cli.folder, installation.kubeconfig(account))


def tombstone(cli: Cli, branch: str, deleted_at: datetime) -> str:
    """Write what is left of a record; return its name."""
    name = f"tombstone-{slug('shop', branch)}"
    labels = {"envprov.io/record": "tombstone", "app.kubernetes.io/managed-by": "envprov"}
    data = {"project": "shop", "branch": branch, "trail": "", "deletedAt": deleted_at.isoformat(timespec="seconds")}
    metadata = {"name": name, "namespace": cli.namespace, "labels": labels}
    cli.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    return name


def orphan(cli: Cli, owner: str) -> str:
    """Write the namespace of an environment; return its name."""
    name = f"env-orphan-{secrets.token_hex(4)}"
    metadata = {
        "name": name,
        "labels": {"envprov.io/guard": "env"},
        "annotations": {"envprov.io/owner": owner, "envprov.io/branch": "gone"},
    }
    cli.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return name


# --- cleanup


def test_cleanup_ends_what_is_over_and_reports_what_is_lost(cli: Cli, installation: Installation) -> None:
    expired, pinned, alive = cli.record("expired"), cli.record("pinned", pinned=True), cli.record("alive")
    for name, moment in ((expired, PAST), (pinned, PAST), (alive, FUTURE)):
        cli.report(name, expiresAt=moment)
    old = tombstone(cli, "old", datetime.now(UTC) - timedelta(minutes=11))
    young = tombstone(cli, "young", datetime.now(UTC) - timedelta(minutes=9))
    lost, kept = orphan(cli, f"{cli.namespace}/lost"), orphan(cli, f"{cli.namespace}/{alive}")
    foreign = orphan(cli, "another-envprov/lost")
    cleaner = as_account(cli, installation, "envprov-cleanup")

    planned = cleaner.call("cleanup", "--dry-run", "-o", "json")
    assert planned.returncode == 0, planned.stderr
    found = {row["what"]: row for row in json.loads(planned.stdout)}
    assert set(found) == {
        f"Environment {expired}",
        f"tombstone {old.removeprefix('tombstone-')}",
        f"Namespace {lost}",
    }
    assert found[f"Environment {expired}"] == {
        "what": f"Environment {expired}",
        "why": "Expired",
        "since": "2026-01-01T00:00:00+00:00",
        "evidence": "branch expired; status.expiresAt 2026-01-01T00:00:00Z",
        "action": "delete",
    }
    assert "delete it by hand" in found[f"Namespace {lost}"]["action"]
    assert {item["metadata"]["name"] for item in cli.get("env")} == {expired, pinned, alive}

    done = cleaner.call("cleanup")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["WHAT", "WHY", "SINCE", "EVIDENCE", "ACTION"]
    assert "delete: done" in done.stdout
    assert {item["metadata"]["name"] for item in cli.get("env")} == {pinned, alive}
    stones = {item["metadata"]["name"] for item in cli.get("configmap", "-l", "envprov.io/record=tombstone")}
    assert stones == {young}
    for name in (lost, kept, foreign):
        assert cli.cluster.kubectl("get", "namespace", name, "-o", "jsonpath={.status.phase}") == "Active"
        cli.cluster.discard(name)


def test_nothing_to_clean_up_is_said(cli: Cli) -> None:
    said = cli.call("cleanup")
    assert (said.returncode, said.stdout) == (0, "")
    assert "nothing to clean up" in said.stderr


def test_a_failure_does_not_stop_the_rest(cli: Cli) -> None:
    expired = cli.record("expired")
    cli.report(expired, expiresAt=PAST)
    for words in (
        ("create", "serviceaccount", "limited"),
        ("create", "role", "limited", "--verb=get,list,delete", "--resource=environments.envprov.io"),
        ("create", "rolebinding", "limited", "--role=limited", f"--serviceaccount={cli.namespace}:limited"),
    ):
        cli.cluster.kubectl(*words, "-n", cli.namespace)
    limited = as_account(cli, Installation(cli.cluster, cli.namespace, cli.folder), "limited")
    said = limited.call("cleanup")
    assert said.returncode == 1
    assert "error: list ConfigMap" in said.stderr
    assert "error: list Namespace" in said.stderr
    assert "delete: done" in said.stdout
    assert cli.get("env") == []


# --- manifests


def test_the_api_server_accepts_what_manifests_prints(cli: Cli) -> None:
    printed = cli.call("manifests", "--image", "registry.example.com/other:2")
    assert printed.returncode == 0
    assert f"namespace: {cli.namespace}" in printed.stdout
    said = cli.cluster.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"), input=printed.stdout
    )
    assert len(said.splitlines()) == len(list(yaml.safe_load_all(printed.stdout)))


# --- doctor


def states(said: Ended) -> dict[str, str]:
    """Return the state of each check."""
    return {row["name"]: row["state"] for row in json.loads(said.stdout)}


def test_doctor_finds_a_healthy_installation_healthy(cli: Cli, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret-of-the-test")
    token.chmod(0o600)
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"webhook: {{token_files: [{token}]}}\n")
    cli.project("shop")
    cli.lease()
    said = cli.call("doctor", "--settings", str(settings), "-o", "json")
    assert said.returncode == 0, said.stdout
    assert set(states(said).values()) == {"ok"}
    assert "secret-of-the-test" not in said.stdout
    table = cli.call("doctor", "--settings", str(settings))
    assert table.stdout.splitlines()[0].split() == ["CHECK", "STATE", "FOUND", "AND", "WHAT", "TO", "DO"]
    assert cli.call("doctor", "--settings", str(settings), "--quiet").stdout == ""


def test_doctor_says_what_is_missing_and_what_to_do(cli: Cli, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"webhook: {{token_files: [{tmp_path}/none]}}\nhelm: {{binary: {tmp_path}/none}}\n")
    said = cli.call("doctor", "--settings", str(settings), "-o", "json")
    assert said.returncode == 1
    found = states(said)
    assert found["controller"] == found["webhook tokens"] == "failed"
    assert found["helm"] == found["projects"] == "warning"
    assert found["cluster"] == found["permissions"] == "ok"
    assert all(row["remedy"] for row in json.loads(said.stdout) if row["state"] != "ok")


def test_doctor_says_which_settings_and_which_kubeconfig_are_wrong(cli: Cli, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("nope: 1\n")
    said = cli.call("doctor", "--settings", str(settings), "-o", "json")
    assert (said.returncode, states(said)) == (1, {"settings": "failed"})
    said = Cli(cli.cluster, cli.namespace, cli.folder, tmp_path / "none").call("doctor", "-o", "json")
    assert (said.returncode, states(said)["cluster"]) == (1, "failed")


def test_doctor_knows_the_rights_of_each_identity(cli: Cli, installation: Installation) -> None:
    cli.lease()
    cli.project("shop")
    controller = as_account(cli, installation, "envprov")
    said = controller.call("doctor", "--as-controller", "-o", "json")
    assert states(said)["permissions"] == "ok", said.stdout
    said = as_account(cli, installation, "envprov-cleanup").call("doctor", "-o", "json")
    (row,) = [row for row in json.loads(said.stdout) if row["name"] == "permissions"]
    assert row["state"] == "failed"
    assert f"create environments.envprov.io in namespace {cli.namespace}" in row["message"]
    assert said.returncode == 1


def test_doctor_notices_a_project_that_cannot_work(cli: Cli) -> None:
    manifest = {
        "apiVersion": "envprov.io/v1alpha1",
        "kind": "Project",
        "metadata": {"name": "half", "namespace": cli.namespace},
        "spec": {"chart": {"git": {}}},
    }
    cli.apply(manifest)
    said = cli.call("doctor", "-o", "json")
    assert states(said)["project half"] == "failed"
