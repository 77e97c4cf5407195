"""`envprov up` at a terminal, with a chart given by path: no GitLab, no receiver, no controller."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.shipped import ROOT, Installation

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(installation: Installation) -> Run:
    """Return a runner of the command line as the administrator."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            str(Path(sys.executable).parent / "envprov"),
            *arguments,
            "--kubeconfig",
            str(installation.cluster.kubeconfig),
        ]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=installation.environment(), timeout=120
        )

    return call


def test_up_and_down_with_a_chart_by_path(installation: Installation, run: Run) -> None:
    came = run("up", "feature-x", "--chart", str(ROOT / "tests/charts/app"), "--project", "terminal", "--standalone")
    assert came.returncode == 0, came.stderr
    assert installation.is_ready("feature-x")
    assert "Ready" in came.stderr + came.stdout

    listed = run("list", "--project", "terminal")
    assert "feature-x" in listed.stdout
    assert "Ready" in listed.stdout

    went = run("down", "feature-x", "--project", "terminal", "--standalone")
    assert went.returncode == 0, went.stderr
    assert installation.environment_of("feature-x") is None
    assert installation.namespaces() == set()


def test_without_a_controller_nothing_is_written(installation: Installation, run: Run) -> None:
    installation.project("quiet")
    asked = run("up", "feature-y", "--project", "quiet")
    assert asked.returncode == 1
    assert "--standalone" in asked.stderr
    assert installation.environment_of("feature-y") is None


def test_refusal_has_its_own_exit_code(installation: Installation, run: Run) -> None:
    installation.project("strict")
    asked = run("up", "feature-z", "--project", "strict", "--size", "L", "--standalone")
    assert asked.returncode == 4, asked.stderr
    assert "size L is not allowed" in asked.stderr + asked.stdout
