"""What is generated is what the models say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generate import ROOT, generated

FILES = generated()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_checked_in_file_is_the_generated_one(path: Path) -> None:
    assert path.read_text() == FILES[path], "run `make generate`"


def test_everything_is_where_they_are_installed_from() -> None:
    assert sorted(str(path.relative_to(ROOT)) for path in FILES) == [
        "docs/findings.md",
        "docs/settings.md",
        "helm/envprov/crds/environments.yaml",
        "helm/envprov/crds/projects.yaml",
        "helm/envprov/templates/policies.yaml",
        "k8s/crds/environments.yaml",
        "k8s/crds/projects.yaml",
        "k8s/policies.yaml",
    ]


def test_no_other_file_lies_beside_them() -> None:
    for folder in {path.parent for path in FILES if path.parent.name == "crds"}:
        assert {path.name for path in folder.iterdir()} == {"environments.yaml", "projects.yaml"}
