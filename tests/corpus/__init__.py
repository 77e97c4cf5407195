"""
Charts that break one rule each, and charts that break none, as YAML files.

The first document of a file is about the case: for ``refused/`` which finding it must give (``reason``, ``object`` as
"Kind name", ``field``), and for both, where it matters, ``project`` (parts of the Project's spec) and ``facts`` (parts
of ``ClusterFacts``, where the case needs another cluster than the usual one). The documents after it are the chart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from envprov.releases.manifests import documents

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """
    One chart.

    Attributes:
        name: Name of the file.
        reason: Finding that it must give; empty if it must give none.
        object: Which object that is about, as "Kind name"; empty for the chart as a whole.
        field: Path of the field.
        project: Parts of the Project's spec.
        facts: Parts of what the cluster has, other than usual.
        objects: What the chart renders.
        text: The same, as templates.

    """

    name: str
    reason: str
    object: str
    field: str
    objects: tuple[dict[str, Any], ...]
    text: str
    project: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Write the case as a chart below *folder*, and return the chart's path."""
        chart = folder / self.name
        (chart / "templates").mkdir(parents=True)
        (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {self.name}\nversion: 1.0.0\n")
        escaped = self.text.replace("{{", '{{ "{{" }}')
        (chart / "templates" / "all.yaml").write_text(escaped)
        return chart


def refused() -> tuple[Case, ...]:
    """Charts that break one rule each."""
    return tuple(_read(path) for path in sorted((FOLDER / "refused").glob("*.yaml")))


def passed() -> tuple[Case, ...]:
    """Charts that break none."""
    return tuple(_read(path) for path in sorted((FOLDER / "passed").glob("*.yaml")))


def _read(path: Path) -> Case:
    head, _, text = path.read_text().partition("\n---\n")
    about = yaml.safe_load(head) or {}
    return Case(
        name=path.stem,
        reason=about.get("reason", ""),
        object=about.get("object", ""),
        field=about.get("field", ""),
        objects=tuple(documents(text.encode())),
        text=text,
        project=about.get("project", {}),
        facts=about.get("facts", {}),
    )
