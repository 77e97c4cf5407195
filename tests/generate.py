"""Writes what is generated: CRDs, policies, and the pages of findings and settings. ``make generate`` runs it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from envprov.domain.checks.catalogue import RULES
from envprov.domain.findings import Rule, Severity
from envprov.domain.platform import Platform
from envprov.domain.policies import policies
from envprov.domain.schema import environment_definition, project_definition
from envprov.settings import Settings

ROOT = Path(__file__).parent.parent
HEADER = "# Generated from the models by `make generate`; do not edit.\n"
POLICIES = "# Generated from envprov/domain/policies.py by `make generate`; do not edit. docs/guard.md explains them.\n"
LABEL = "    app.kubernetes.io/name: envprov\n"
LABELS_OF_CHART = '    {{- include "envprov.labels" . | nindent 4 }}\n'
FINDINGS = """\
<!-- Generated from envprov/domain/checks/ by `make generate`; do not edit. -->
# What a plan finds

Before Helm runs, and in `envprov plan`, the chart is rendered and looked at from every side. All findings are told at
once, each with the object, the field, what is wrong and what to do.

- An **error** refuses the chart: `Accepted=False`, and nothing is created.
- A **warning** lets it be deployed; it may not work as meant.
- A **note** is worth knowing: somebody outside has to do something, or something could not be looked at.

A Project that knows better turns errors into warnings, by their reasons or with `"*"` all of them:
```yaml
spec:
  checks:
    warnOnly: [{example}]
```

| reason | severity |
|---|---|
"""
SETTINGS = """\
<!-- Generated from envprov/settings.py by `make generate`; do not edit. -->
# Settings

One YAML file, which `--settings` or `$ENVPROV_SETTINGS` names, for all processes and the command line. It is checked
whole, with all faults at once, and what is not known is refused. A variable beats the file:
`ENVPROV_WEBHOOK__PORT=9000` is `webhook: {port: 9000}`; a list or a mapping is written as JSON. Times are ISO 8601,
such as `PT30S` or `PT10M`, or seconds. [install.md](install.md) says where the file is, [sizes.md](sizes.md) what
sizes, containers and prices mean.
"""
SEVERITIES = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.NOTE: "Notes"}
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
        ROOT / "docs" / "findings.md": findings_page(RULES),
        ROOT / "docs" / "settings.md": settings_page(),
        ROOT / "k8s" / "policies.yaml": POLICIES + guard,
        ROOT / "helm" / "envprov" / "templates" / "policies.yaml": POLICIES + _as_template(guard),
    } | {
        ROOT / folder / f"{name}.yaml": HEADER + yaml.dump(definition, Dumper=_Plain, sort_keys=False, width=120)
        for folder in ("k8s/crds", "helm/envprov/crds")
        for name, definition in definitions.items()
    }


def findings_page(rules: Iterable[Rule]) -> str:
    """
    Write the page of findings.

    Args:
        rules: What can be found.

    Returns:
        Markdown, with a heading for each reason.
    """
    ordered = sorted(rules, key=lambda rule: (rule.severity, rule.reason))
    example = next((rule.reason for rule in ordered if rule.severity is Severity.ERROR), "")
    rows = "".join(f"| [{rule.reason}](#{rule.reason.lower()}) | {rule.severity} |\n" for rule in ordered)
    sections = "".join(
        f"\n## {SEVERITIES[severity]}\n" + "".join(_section(rule) for rule in group)
        for severity, group in groupby(ordered, key=lambda rule: rule.severity)
    )
    return FINDINGS.replace("{example}", example) + rows + sections


def settings_page() -> str:
    """
    Write the page of settings.

    Returns:
        Markdown, with a table for each section.
    """
    sections = (
        f"\n## {name}\n{_purpose_of(field)}\n\n| setting | default | |\n|---|---|---|\n"
        + "".join(_settings_of(type(field.default), name))
        for name, field in Settings.model_fields.items()
    )
    return SETTINGS + "".join(sections)


def _purpose_of(field: FieldInfo) -> str:
    return (type(field.default).__doc__ or "").replace("``", "`")


def _settings_of(model: type[BaseModel], where: str) -> Iterator[str]:
    """One row for each setting; those of an inner model bear the name of theirs."""
    for name, field in model.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            meaning = " ".join((field.description or "").split())
            yield f"| `{where}.{name}` | {_default_of(field)} | {meaning} |\n"
        else:
            yield from _settings_of(
                inner, f"{where}.{name}" + (".NAME" if get_origin(field.annotation) is dict else "")
            )


def _default_of(field: FieldInfo) -> str:
    if field.is_required() or field.default is None:
        return ""
    plain = TypeAdapter(Any).dump_python(field.default, mode="json")
    return f"`{plain if isinstance(plain, str) else json.dumps(plain)}`"


def _section(rule: Rule) -> str:
    lines = [
        f"\n### {rule.reason}",
        fill(rule.cause, 120, break_on_hyphens=False, break_long_words=False),
        "",
        f"*Severity:* {rule.severity}",
        "",
        f"*What to do:* {rule.remedy[:1].upper()}{rule.remedy[1:].rstrip('.')}.",
    ]
    if rule.severity is Severity.ERROR:
        lines += ["", f"*To be only warned:* `warnOnly: [{rule.reason}]`"]
    return "\n".join(lines) + "\n"


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
