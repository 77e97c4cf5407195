"""``cleanup``, ``manifests`` and ``doctor`` against a real API server."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.domain.names import slug
from envprov.domain.policies import CANARY
from tests.eventually import eventually
from tests.integration.cli.calling import Cli, Ended, condition
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


def orphan(cli: Cli, owner: str, *, name: str = "", project: str = "") -> str:
    """Write the namespace of an environment; return its name."""
    name = name or f"env-orphan-{secrets.token_hex(4)}"
    labels = {"envprov.io/guard": "env"} | ({"envprov.io/project": project} if project else {})
    metadata = {
        "name": name,
        "labels": labels,
        "annotations": {"envprov.io/owner": owner, "envprov.io/branch": "gone"},
    }
    cli.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return name


# --- cleanup


def test_cleanup_ends_what_is_over_and_reports_what_is_lost(cli: Cli, installation: Installation) -> None:
    over, later = {"kind": "until", "at": PAST}, {"kind": "until", "at": FUTURE}
    expired, pinned = cli.record("expired", lifetime=over), cli.record("pinned", lifetime=over, pinned=True)
    alive, prolonged = cli.record("alive", lifetime=later), cli.record("prolonged", lifetime=over)
    for name in (expired, pinned, alive, prolonged):
        cli.report(name, observedGeneration=1, expiresAt=PAST)
    # No controller has seen this yet, and its status still says that it is over.
    moment = datetime.now(UTC)
    extended = f"envprov.io/extended={moment:%Y-%m-%dT%H:%M:%SZ} {moment + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    cli.cluster.kubectl("annotate", "env", prolonged, "-n", cli.namespace, extended)
    old = tombstone(cli, "old", datetime.now(UTC) - timedelta(minutes=11))
    young = tombstone(cli, "young", datetime.now(UTC) - timedelta(minutes=9))
    lost, kept = orphan(cli, f"{cli.namespace}/lost"), orphan(cli, f"{cli.namespace}/{alive}")
    foreign = orphan(cli, "another-envprov/lost")
    ours = f"another-{secrets.token_hex(3)}"
    whose = slug(ours, "gone")
    orphan(cli, f"{cli.namespace}/{whose}", name=f"env-{whose}", project=ours)
    settings = cli.folder / "settings.yaml"
    settings.write_text("sweep: {grace: PT0.001S}\n")
    cleaner = as_account(cli, installation, "envprov-cleanup")
    grace = ("--settings", str(settings))
    cli.project("shop")

    found: dict[str, Any] = {}
    expected = {
        f"Environment {expired}",
        f"tombstone {old.removeprefix('tombstone-')}",
        f"Namespace {lost}",
        f"Namespace env-{whose}",
    }

    def are_found() -> bool:
        planned = cleaner.call("cleanup", "--dry-run", "-o", "json", *grace)
        assert planned.returncode == 0, planned.stderr
        found.clear()
        found.update({row["what"]: row for row in json.loads(planned.stdout)})
        return set(found) == expected

    eventually(are_found, message="not found, or more than that")
    assert found[f"Environment {expired}"] == {
        "what": f"Environment {expired}",
        "why": "Expired",
        "since": "2026-01-01T00:00:00+00:00",
        "evidence": "branch expired; its lifetime ended at 2026-01-01T00:00:00Z",
        "action": "delete",
    }
    assert "delete it by hand" in found[f"Namespace {lost}"]["action"]
    assert found[f"Namespace env-{whose}"]["action"] == "tear down"
    assert {item["metadata"]["name"] for item in cli.get("env")} == {expired, pinned, alive, prolonged}
    assert cli.get("configmap", "-l", "envprov.io/record=cleanup") == []

    done = cleaner.call("cleanup", *grace)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split() == ["WHAT", "WHY", "SINCE", "EVIDENCE", "ACTION"]
    assert "delete: done" in done.stdout
    left = {item["metadata"]["name"]: item["metadata"].get("deletionTimestamp") for item in cli.get("env")}
    assert set(left) == {pinned, alive, prolonged, whose}
    assert left[whose]  # its record is back, and on its way down: the controller tears down what it stands for
    cli.cluster.kubectl(
        "patch", "env", whose, "-n", cli.namespace, "--type=merge", "-p", '{"metadata":{"finalizers":[]}}'
    )
    stones = {item["metadata"]["name"] for item in cli.get("configmap", "-l", "envprov.io/record=tombstone")}
    assert stones == {young}
    requests = {item["metadata"]["name"] for item in cli.get("configmap", "-l", "envprov.io/record=sweep")}
    assert requests == {"sweep-shop"}  # GitLab is not configured here: the controller is asked to sweep
    (run,) = cli.get("configmap", "-l", "envprov.io/record=cleanup")
    rows = {"Expired/done": 1, "NoRecord/done": 1, "NoRecord/left": 1, "TooOld/done": 1}
    assert (json.loads(run["data"]["rows"]), run["data"]["faults"]) == (rows, "0")
    assert run["data"]["succeededAt"] == run["data"]["finishedAt"]
    for name in (lost, kept, foreign, f"env-{whose}"):
        assert cli.cluster.kubectl("get", "namespace", name, "-o", "jsonpath={.status.phase}") == "Active"
        cli.cluster.discard(name)


def test_environments_of_a_project_that_is_gone_go_and_of_many_only_the_report(cli: Cli) -> None:
    few = {cli.record(f"few/{number}", "few") for number in range(2)}
    many = {cli.record(f"many/{number}", "many") for number in range(6)}
    settings = cli.folder / "settings.yaml"
    settings.write_text("sweep: {grace: PT0.001S}\n")

    def are_found() -> bool:
        planned = cli.call("cleanup", "--dry-run", "-o", "json", "--settings", str(settings))
        return len(json.loads(planned.stdout)) == len(few | many)

    eventually(are_found, message="it takes none of them for one whose Project is gone")
    said = cli.call("cleanup", "-o", "json", "--settings", str(settings))
    assert said.returncode == 0, said.stderr
    rows = {row["what"]: row for row in json.loads(said.stdout)}
    assert {row["why"] for row in rows.values()} == {"ProjectGone"}
    assert all(rows[f"Environment {name}"]["action"] == "delete: done" for name in few)
    assert all("too many at once" in rows[f"Environment {name}"]["action"] for name in many)
    assert {item["metadata"]["name"] for item in cli.get("env") if "deletionTimestamp" not in item["metadata"]} == many


def test_a_young_project_or_namespace_that_is_away_for_a_moment_costs_nothing(cli: Cli) -> None:
    name = cli.record("feature/x")
    said = cli.call("cleanup")
    assert (said.returncode, said.stdout) == (0, ""), said.stderr
    assert [item["metadata"]["name"] for item in cli.get("env")] == [name]


@pytest.mark.parametrize("annotated", [True, False])
def test_agreeing_to_a_mass_deletion(cli: Cli, *, annotated: bool) -> None:
    cli.project("shop")
    if annotated:
        sweep = {"completedAt": PAST, "branches": 1, "wanted": 1, "braked": 4, "missing": ["a"], "confirmation": "d1"}
        status = json.dumps({"status": {"sweep": sweep}})
        cli.cluster.kubectl(
            *("patch", "eproj", "shop", "-n", cli.namespace, "--subresource=status", "--type=merge", "-p", status)
        )
    said = cli.call("cleanup", "--confirm-mass-delete", "shop")
    (project,) = cli.get("eproj")
    agreed = project["metadata"].get("annotations", {}).get("envprov.io/confirmed-mass-delete")
    assert (said.returncode, agreed) == ((0, "d1") if annotated else (2, None)), said.stderr


def test_nothing_to_clean_up_is_said(cli: Cli) -> None:
    said = cli.call("cleanup")
    assert (said.returncode, said.stdout) == (0, "")
    assert "nothing to clean up" in said.stderr


def test_a_failure_does_not_stop_the_rest(cli: Cli) -> None:
    cli.project("shop")
    expired = cli.record("expired", lifetime={"kind": "until", "at": PAST})
    cli.report(expired, observedGeneration=1)
    kinds = "environments.envprov.io,projects.envprov.io"
    for words in (
        ("create", "serviceaccount", "limited"),
        ("create", "role", "limited", "--verb=get,list,patch,delete", f"--resource={kinds}"),
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


# --- extend, pin, unpin


def test_an_environment_is_extended_and_pinned(cli: Cli) -> None:
    cli.project("shop", limits={"lifetime": "P30D"})
    name = cli.record("feature/x")
    assert "has no end" in cli.call("extend", "feature/x", "3d", "--project", "shop").stderr
    cli.report(name, expiresAt=PAST)
    before = datetime.now(UTC)
    said = cli.call("extend", "feature/x", "3d", "--project", "shop")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("feature/x stays until ")
    (live,) = cli.get("env")
    at, until = (
        datetime.fromisoformat(part) for part in live["metadata"]["annotations"]["envprov.io/extended"].split()
    )
    assert before - timedelta(seconds=1) <= at <= datetime.now(UTC)
    assert timedelta(days=3) - timedelta(seconds=2) <= until - at <= timedelta(days=3)
    far = cli.call("extend", "feature/x", "31d", "--project", "shop")
    assert far.returncode == 4
    assert "limits.lifetime" in far.stderr
    wrong = cli.call("extend", "feature/x", "soon", "--project", "shop")
    assert (wrong.returncode, "3d, 12h or 1w3d" in wrong.stderr) == (2, True)
    assert cli.call("pin", "feature/x", "--project", "shop").returncode == 0
    assert cli.get("env")[0]["spec"]["pinned"] is True
    assert cli.call("unpin", "feature/x", "--project", "shop").returncode == 0
    assert not cli.get("env")[0]["spec"].get("pinned")
    assert "envprov.io/extended" in cli.get("env")[0]["metadata"]["annotations"]


# --- sleep, wake


def test_an_environment_is_put_to_sleep_and_woken_once(cli: Cli) -> None:
    cli.project("shop")
    cli.record("feature/x", asleep=True)  # by another writer, who owns the field
    for command, said, asleep in (
        ("sleep", "feature/x is asleep already", True),
        ("wake", "feature/x wakes up; `envprov status` shows how it is", False),
        ("wake", "feature/x is not asleep", False),
        ("sleep", "feature/x falls asleep: nothing of it runs, its data stays", True),
    ):
        before = cli.get("env")[0]
        done = cli.call(command, "feature/x", "--project", "shop")
        assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
        (live,) = cli.get("env")
        assert live["spec"]["asleep"] is asleep
        is_same = live["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
        assert is_same == (said.endswith("already") or "not asleep" in said)
    cli.lease()
    assert cli.call("up", "feature/x", "--project", "shop", "--no-wait").returncode == 0
    assert cli.get("env")[0]["spec"]["asleep"] is False, "who wants it up does not want it asleep"
    near = cli.call("sleep", "feature/y", "--project", "shop")
    assert (near.returncode, "did you mean feature/x?" in near.stderr) == (1, True)


def test_sleep_is_followed_until_all_pods_are_gone(cli: Cli) -> None:
    cli.project("shop")
    cli.lease()
    name = cli.record("feature/x")
    waiting = cli.start("sleep", "feature/x", "--project", "shop", "--wait")
    eventually(lambda: cli.get("env")[0]["spec"].get("asleep"), message="nothing is asked for")
    generation = cli.get("env")[0]["metadata"]["generation"]
    cli.report(name, condition("Ready", "False", "FallingAsleep", "waits until 2 pods are gone", generation))
    cli.report(name, condition("Ready", "False", "Asleep", "scaled to nothing", generation))
    out, error = waiting.communicate(timeout=120)
    assert (waiting.returncode, out.splitlines()[-1]) == (0, "feature/x is asleep"), error


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


def test_doctor_finds_a_healthy_installation_healthy(armed: Cli, tmp_path: Path) -> None:
    cli = armed
    token = tmp_path / "token"
    token.write_text("secret-of-the-test")
    token.chmod(0o600)
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"webhook: {{token_files: [{token}]}}\n")
    cli.project("shop")
    cli.lease()
    said = cli.call("doctor", "--settings", str(settings), "-o", "json")
    assert said.returncode == 0, said.stdout
    assert set(states(said).values()) == {"ok"}, said.stdout
    assert "guard" in states(said)
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
    assert f"watch environments.envprov.io in namespace {cli.namespace}" in row["message"]
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


def test_doctor_says_that_the_guard_lets_go_of_what_is_held(armed: Cli) -> None:
    canary = ("serviceaccount", CANARY, "-n", armed.namespace)
    uid = json.loads(armed.cluster.kubectl("get", *canary, "-o", "json"))["metadata"]["uid"]
    # Whoever may override, as an administrator may, is let through by the policy.
    armed.cluster.kubectl("annotate", *canary, f"envprov.io/force-delete-uid={uid}")
    said = armed.call("doctor", "-o", "json")
    (row,) = [row for row in json.loads(said.stdout) if row["name"] == "guard"]
    assert (row["state"], said.returncode) == ("failed", 1)
    assert row["message"].startswith("disarmed: ")
    assert "envprov guard status" in row["remedy"]


def test_doctor_does_not_guess_whether_the_guard_is_armed(cli: Cli, enforced: None) -> None:  # noqa: ARG001
    (row,) = [row for row in json.loads(cli.call("doctor", "-o", "json").stdout) if row["name"] == "guard"]
    assert (row["state"], row["remedy"]) == ("warning", "`envprov guard status` says more")
    assert f"no ServiceAccount {cli.namespace}/{CANARY}" in row["message"]
