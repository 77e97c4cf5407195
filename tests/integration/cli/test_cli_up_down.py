"""``up`` and ``down`` against a real API server; what a controller would report is written by the tests."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from envprov.domain.names import slug
from tests.eventually import eventually
from tests.integration.cli.calling import ROOT, Cli, condition

BRANCH = "feature/login"
NAME = slug("shop", BRANCH)
CHART = ROOT / "helm" / "environment"

ACCEPTED = condition("Accepted", "True", "Accepted", "all in order")
STARTING = condition("Ready", "False", "Starting", "web: 0 of 1 pods")
READY = condition("Ready", "True", "Ready", "https://x.dev.example.com")


@pytest.fixture
def led(cli: Cli) -> Cli:
    """Return a person where a controller seems to be alive, and there is a Project."""
    cli.project("shop", sizes={"default": "S", "allowed": ["S", "M"]}, rules=RULES)
    cli.lease()
    return cli


RULES = [{"branches": ["main", "release/*"], "action": "ignore"}, {"branches": ["*"]}]


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line of the output, without its time."""
    assert process.stdout is not None
    return re.sub(r"^\d+\.\ds ", "", process.stdout.readline().rstrip())


def recorded(cli: Cli) -> dict[str, Any] | None:
    """Return the Environment, if it has been written."""
    return next(iter(cli.get("env")), None)


# --- Before anything is written


def test_without_a_controller_nothing_is_written(cli: Cli) -> None:
    cli.project("shop")
    for arguments in (["up", BRANCH], ["up", BRANCH, "--no-wait"], ["up", BRANCH, "--chart", str(CHART)]):
        said = cli.call(*arguments)
        assert said.returncode == 1
        for way_out in ("no controller answers", "--standalone", "envprov controller", "envprov doctor"):
            assert way_out in said.stderr
    assert cli.get("env") == []
    assert [item["metadata"]["name"] for item in cli.get("eproj")] == ["shop"]
    cli.record(BRANCH)
    assert cli.call("down", BRANCH).returncode == 1
    assert "deletionTimestamp" not in cli.get("env")[0]["metadata"]


def test_a_controller_that_fell_silent_does_not_count(cli: Cli) -> None:
    cli.project("shop")
    cli.lease(renewed=datetime(2026, 1, 1, tzinfo=UTC), seconds=1)
    said = cli.call("up", BRANCH)
    assert said.returncode == 1
    assert "pod-1 leads, renewed" in said.stderr


def test_a_controller_whose_clock_differs_counts(cli: Cli) -> None:
    cli.project("shop")
    cli.lease(renewed=datetime(2026, 1, 1, tzinfo=UTC), seconds=60)
    process = cli.start("up", BRANCH, "--no-wait")

    def renewed() -> bool:
        cli.lease(renewed=datetime.now(UTC).replace(year=2020), seconds=60)
        return process.poll() is not None

    eventually(renewed, every=0.2, message="up does not see that the Lease is renewed")
    process.communicate(timeout=120)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(["up", "main"], 4, "the rule of Project shop for main, release/* gives branch main", id="ignored"),
        pytest.param(["up", "x", "--project", "game"], 2, "there is no Project game", id="no Project"),
        pytest.param(["up", "x", "--standalone", "--no-wait"], 2, "has to wait", id="nobody would do the work"),
        pytest.param(["up", "x", "--standalone"], 2, "a controller works in namespace", id="two would do the work"),
        pytest.param(["up", "x", "--chart", "/nowhere"], 2, "there is no Chart.yaml", id="no chart"),
        pytest.param(
            ["up", "x", "--project", "shop", "--chart", str(CHART)], 2, "has another chart", id="another chart"
        ),
    ],
)
def test_what_will_not_work_is_said_before(led: Cli, arguments: list[str], code: int, said: str) -> None:
    ended = led.call(*arguments)
    assert ended.returncode == code
    assert said in ended.stderr
    assert led.get("env") == []


# --- Up


def test_what_is_asked_for_is_what_is_recorded(led: Cli) -> None:
    values = led.folder / "values.yaml"
    values.write_text("image: {tag: a}\n")
    commit = "a" * 40
    ended = led.call(
        *("up", BRANCH, "--size", "M", "--revision", commit, "--lifetime", "P3D", "-f", str(values), "--no-wait"),
        *("-o", "json"),
    )
    assert ended.returncode == 0
    (item,) = led.get("env")
    assert item["metadata"]["name"] == NAME
    assert item["spec"] == {
        "project": "shop",
        "branch": BRANCH,
        "revision": commit,
        "size": "M",
        "lifetime": {"kind": "expire-after", "idle": "P3D"},
        "values": {"image": {"tag": "a"}},
    } | {key: item["spec"][key] for key in ("pinned", "asleep") if key in item["spec"]}
    assert json.loads(ended.stdout)["metadata"]["uid"] == item["metadata"]["uid"]


def test_in_a_pipe_each_change_is_a_line_until_it_is_ready(led: Cli) -> None:
    process = led.start("up", BRANCH)
    eventually(lambda: recorded(led))
    led.report(NAME, ACCEPTED)
    assert line(process) == "Accepted True Accepted all in order"
    led.report(NAME, ACCEPTED, STARTING)
    assert line(process) == "Ready False Starting web: 0 of 1 pods"
    led.report(NAME, ACCEPTED, READY, url="https://x.dev.example.com", namespace=f"env-{NAME}")
    assert line(process) == "Ready True Ready https://x.dev.example.com"
    assert line(process) == f"ready: https://x.dev.example.com (namespace env-{NAME})"
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 0


def test_quiet_prints_nothing_but_the_address(led: Cli) -> None:
    led.record(BRANCH)
    led.report(NAME, READY, url="https://x.dev.example.com")
    ended = led.call("up", BRANCH, "--quiet")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "https://x.dev.example.com\n", "")


def test_for_a_program_the_result_is_the_object_alone(led: Cli) -> None:
    led.record(BRANCH)
    led.report(NAME, READY)
    ended = led.call("up", BRANCH, "-o", "json")
    assert json.loads(ended.stdout)["metadata"]["name"] == NAME
    assert "Ready True Ready" in ended.stderr


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        pytest.param([condition("Accepted", "False", "NameTaken", "taken")], 4, id="not accepted -> refused"),
        pytest.param([ACCEPTED, condition("Deployed", "False", "Forbidden", "policy")], 4, id="forbidden -> refused"),
        pytest.param([ACCEPTED, condition("Deployed", "False", "RenderFailed", "no")], 1, id="stalled -> failed"),
    ],
)
def test_an_end_that_is_none_has_its_code(led: Cli, conditions: list[dict[str, Any]], code: int) -> None:
    led.record(BRANCH)
    led.report(NAME, *conditions, condition("Ready", "False", "Stalled", "why it stalled"))
    ended = led.call("up", BRANCH)
    assert ended.returncode == code
    assert "error: why it stalled" in ended.stderr


def test_a_new_commit_does_not_count_as_ready_before_it_is(led: Cli) -> None:
    led.record(BRANCH, revision="a" * 40)
    led.report(NAME, READY)
    ended = led.call("up", BRANCH, "--revision", "b" * 40, "--timeout", "1s")
    assert ended.returncode == 3
    assert "it goes on in the cluster" in ended.stderr


def test_an_environment_that_somebody_deletes_meanwhile_is_a_failure(led: Cli) -> None:
    process = led.start("up", BRANCH)
    eventually(lambda: recorded(led))
    led.report(NAME, STARTING)
    line(process)
    led.cluster.kubectl("delete", "env", NAME, "-n", led.namespace, "--wait=false")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "is being deleted" in said


def test_what_goes_down_comes_back_as_another(led: Cli) -> None:
    led.record(BRANCH)
    led.cluster.kubectl("patch", "env", NAME, "-n", led.namespace, "--type=merge", "-p", FINALIZED)
    led.report(NAME, READY)
    led.cluster.kubectl("delete", "env", NAME, "-n", led.namespace, "--wait=false")
    process = led.start("up", BRANCH)
    eventually(lambda: "envprov.io/successor" in led.get("env")[0]["metadata"].get("annotations", {}))
    led.cluster.kubectl("patch", "env", NAME, "-n", led.namespace, "--type=merge", "-p", RELEASED)
    eventually(lambda: recorded(led) is None)
    led.record(BRANCH)
    led.report(NAME, READY)
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_ctrl_c_stops_watching_and_nothing_else(led: Cli) -> None:
    process = led.start("up", BRANCH)
    eventually(lambda: recorded(led))
    led.report(NAME, STARTING)
    line(process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "it goes on in the cluster" in said
    assert "Traceback" not in said
    assert recorded(led) is not None


# --- Down


FINALIZED = '{"metadata":{"finalizers":["envprov.io/teardown"]}}'
RELEASED = '{"metadata":{"finalizers":null}}'


def test_the_way_down_is_shown_until_it_is_gone(led: Cli) -> None:
    led.record(BRANCH)
    led.cluster.kubectl("patch", "env", NAME, "-n", led.namespace, "--type=merge", "-p", FINALIZED)
    process = led.start("down", BRANCH)
    eventually(lambda: "deletionTimestamp" in led.get("env")[0]["metadata"])
    waits = condition("Ready", "False", "TearingDown", "waits until the pods are gone", generation=2)
    teardown = {"step": "Quiesced", "plan": "Full", "startedAt": "2026-01-01T00:00:00Z", "waitingFor": ["Pod web"]}
    led.report(NAME, waits, teardown=teardown)
    assert line(process) == "Teardown Quiesced Full waits until the pods are gone: Pod web"
    led.cluster.kubectl("patch", "env", NAME, "-n", led.namespace, "--type=merge", "-p", RELEASED)
    assert line(process) == "Environment Gone Deleted"
    assert line(process) == f"{BRANCH} is gone"
    assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 0


def test_a_teardown_that_takes_longer_is_not_a_failure(led: Cli) -> None:
    led.record(BRANCH)
    led.cluster.kubectl("patch", "env", NAME, "-n", led.namespace, "--type=merge", "-p", FINALIZED)
    blocked = condition("TeardownBlocked", "True", "StillThere", "Pod web")
    led.report(NAME, blocked)
    ended = led.call("down", BRANCH, "--timeout", "1s")
    assert ended.returncode == 3
    assert "StillThere: Pod web" in ended.stderr
    assert led.call("down", BRANCH, "--no-wait").returncode == 0, "asking twice is no fault"


# --- Standalone


def test_standalone_needs_neither_controller_nor_gitlab(cli: Cli) -> None:
    values = cli.folder / "values.yaml"
    image = {"repository": "registry.example.com/shop", "tag": "a"}
    values.write_text(json.dumps({"components": {"web": {"image": image, "port": 8080}}}))
    up = ("up", BRANCH, "--standalone", "--project", "shop", "--chart", str(CHART), "-f", str(values))
    ended = cli.call(*up)
    assert ended.returncode == 0, ended.stderr
    assert f"made Project shop in namespace {cli.namespace} for the chart {CHART}" in ended.stderr
    assert f"ready: namespace env-{NAME}" in ended.stdout
    said = [line.split(" ", 2)[1:] for line in ended.stdout.splitlines()]
    assert ["Ready", "True Ready ready in namespace env-" + NAME] in [[one[0], one[1]] for one in said if len(one) > 1]
    assert cli.cluster.kubectl("get", "deployment", "-n", f"env-{NAME}", "-o", "name")
    again = cli.call(*up, "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, f"env-{NAME}\n", "")
    gone = cli.call("down", BRANCH, "--standalone")
    assert gone.returncode == 0, gone.stderr
    assert cli.get("env") == []
    assert cli.cluster.kubectl("get", "namespace", f"env-{NAME}", "--ignore-not-found") == ""


def minds(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Whether a process does something of its own when it gets a signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_standalone_stopped_says_that_nobody_goes_on(cli: Cli) -> None:
    values = cli.folder / "values.yaml"
    values.write_text(json.dumps({"components": {"web": {"image": {"repository": "x", "tag": "1"}, "port": 8080}}}))
    cli.cluster.kubectl("create", "quota", "none", "-n", cli.namespace, "--hard=count/configmaps=100")
    missing = {"namespace": cli.namespace, "name": "nobodys"}  # so that it does not come up meanwhile
    cli.project("shop", chart={"local": {"path": str(CHART)}}, copySecrets=[missing])
    process = cli.start("up", BRANCH, "--standalone", "--project", "shop", "--chart", str(CHART), "-f", str(values))
    told = ("get", "env", "-n", cli.namespace, "-o", "jsonpath={.items[*].status.conditions[*].message}")
    eventually(lambda: "nobodys" in cli.cluster.kubectl(*told), message="it does not wait for the Secret")
    eventually(lambda: minds(process, signal.SIGTERM), message="it does not mind signals")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "nobody works on it any more" in said
    assert cli.call("down", BRANCH, "--standalone", "--project", "shop").returncode == 0
