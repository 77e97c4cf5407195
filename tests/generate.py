"""Writes what is generated, into ``k8s/`` and the chart: CRDs and admission policies. ``make generate`` runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from envprov.domain.platform import Platform
from envprov.domain.policies import policies
from envprov.domain.schema import environment_definition, project_definition

ROOT = Path(__file__).parent.parent
HEADER = "# Generated from the models by `make generate`; do not edit.\n"
POLICIES = "# Generated from envprov/domain/policies.py by `make generate`; do not edit. docs/guard.md explains them.\n"
LABEL = "    app.kubernetes.io/name: envprov\n"
LABELS_OF_CHART = '    {{- include "envprov.labels" . | nindent 4 }}\n'
BRACES_IN_CHART = '{{ "{{" }}'


class _Plain(yaml.SafeDumper):
    """Writes the same object twice instead of an alias."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002, ANN401 - the library's own signature
        return True


class _Readable(_Plain):
    """Writes expressions as they are read: with their lines, and without doubled quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    is_expression = "\n" in text or "'" in text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if is_expression else None)


_Readable.add_representer(str, _text)


def generated() -> dict[Path, str]:
    """
    Every generated file.

    Returns:
        Content by absolute path.

    """
    definitions = {"environments": environment_definition(), "projects": project_definition()}
    guard = yaml.dump_all(policies(Platform().controller_account), Dumper=_Readable, sort_keys=False, width=120)
    return {
        ROOT / "k8s" / "policies.yaml": POLICIES + guard,
        ROOT / "helm" / "envprov" / "templates" / "policies.yaml": POLICIES + _as_template(guard),
    } | {
        ROOT / folder / f"{name}.yaml": HEADER + yaml.dump(definition, Dumper=_Plain, sort_keys=False, width=120)
        for folder in ("k8s/crds", "helm/envprov/crds")
        for name, definition in definitions.items()
    }


def _as_template(manifests: str) -> str:
    return manifests.replace("{{", BRACES_IN_CHART).replace(LABEL, LABELS_OF_CHART)


def main() -> None:
    """Write what differs."""
    for path, content in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != content:
            path.write_text(content)
            print(f"wrote {path.relative_to(ROOT)}")  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
