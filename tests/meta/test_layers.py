"""The layers hold, and the contracts bite: what they forbid is put in, and they say so."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RUN = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of a folder on the packages in it."""
    return subprocess.run(
        # Isolated from the checkout, which is installed in the same Python.
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {RUN}", "--no-logo", "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with the packages and their contracts."""
    for package in ("envprov", "webhooks"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_layers_hold() -> None:
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", found.stdout)


def test_the_copy_is_what_is_looked_at(copy: Path) -> None:
    found = lint(copy)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        pytest.param("domain/plan.py", "import envprov.kube.client", "Imports point down only", id="domain -> edge"),
        pytest.param("domain/plan.py", "import envprov.cluster", "Imports point down only", id="domain -> above"),
        pytest.param("kube/client.py", "import envprov.releases.engine", "Imports point down only", id="edge -> edge"),
        pytest.param(
            "controller/run.py", "import envprov.kube.client", "Imports point down only", id="controller -> edge"
        ),
        pytest.param("cluster.py", "import envprov.wiring", "Imports point down only", id="cluster -> wiring"),
        pytest.param("wiring.py", "import envprov.cli.main", "Imports point down only", id="wiring -> command line"),
        pytest.param(
            "../webhooks/app.py", "import envprov.cluster", "Imports point down only", id="webhooks -> cluster"
        ),
        pytest.param("domain/names.py", "import random", "The domain is pure", id="domain -> chance"),
        pytest.param("domain/names.py", "import time", "The domain is pure", id="domain -> clock"),
        pytest.param("domain/names.py", "import asyncio", "The domain is pure", id="domain -> waiting"),
        pytest.param("domain/names.py", "import os", "The domain is pure", id="domain -> surroundings"),
        pytest.param("domain/names.py", "import structlog", "The domain is pure", id="domain -> logs"),
        pytest.param("cluster.py", "import kubernetes", "One importer for each edge: Kubernetes", id="a second client"),
        pytest.param(
            "../webhooks/app.py", "import kubernetes", "One importer for each edge: Kubernetes", id="in a hook"
        ),
        pytest.param("kube/client.py", "import pyhelm3", "One importer for each edge: Helm", id="a second Helm"),
        pytest.param(
            "controller/sweep.py", "import gitlab", "One importer for each edge: GitLab", id="a second GitLab"
        ),
    ],
)
def test_the_contracts_bite(copy: Path, module: str, line: str, contract: str) -> None:
    file = copy / "envprov" / module
    file.write_text(f"{file.read_text()}\n\n{line}\n")
    found = lint(copy)
    assert found.returncode == 1, found.stdout + found.stderr
    assert f"{contract} BROKEN" in found.stdout
