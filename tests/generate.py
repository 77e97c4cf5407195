"""Writes what is generated: the CRDs from the models, into ``k8s/`` and the chart. ``make generate`` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from envprov.domain.schema import environment_definition, project_definition

ROOT = Path(__file__).parent.parent
HEADER = "# Generated from the models by `make generate`; do not edit.\n"


class _Plain(yaml.SafeDumper):
    """Writes the same object twice instead of an alias."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002, ANN401 - the library's own signature
        return True


def generated() -> dict[Path, str]:
    """
    Every generated file.

    Returns:
        Content by absolute path.

    """
    definitions = {"environments": environment_definition(), "projects": project_definition()}
    return {
        ROOT / folder / f"{name}.yaml": HEADER + yaml.dump(definition, Dumper=_Plain, sort_keys=False, width=120)
        for folder in ("k8s/crds", "helm/envprov/crds")
        for name, definition in definitions.items()
    }


def main() -> None:
    """Write what differs."""
    for path, content in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            print(f"wrote {path.relative_to(ROOT)}")  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
