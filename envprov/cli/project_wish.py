"""What a person wants of a Project: the arguments of ``project add``, checked before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from envprov.cli.charts import NAME_LIMIT, project_name
from envprov.domain.environment import faults
from envprov.domain.errors import ConfigError
from envprov.domain.forge import ProjectRef
from envprov.domain.project import ChartSource, DnsLabel, GitChart, ProjectSpec

DEFAULT_CHART = GitChart().path

_LABEL: TypeAdapter[str] = TypeAdapter(DnsLabel)


@dataclass(frozen=True)
class ProjectArguments:
    """The arguments that shape the Project, as they were written; None or nothing for those that were not."""

    gitlab: str
    name: str | None = None
    chart: str | None = None
    host: str | None = None
    branches: Sequence[str] = ()

    @property
    def ref(self) -> ProjectRef:
        """Path or number in GitLab."""
        return int(self.gitlab) if self.gitlab.isdecimal() else self.gitlab.strip("/")


def asked_of(arguments: ProjectArguments) -> dict[str, Any]:
    """
    The fields of the spec that were asked for, in the API's form.

    Args:
        arguments: As they were written.

    Returns:
        Always ``gitlab.project``; no other field that was not given.

    Raises:
        ConfigError: What is wrong with which argument.

    """
    asked: dict[str, Any] = {"gitlab": {"project": arguments.ref}}
    if arguments.chart is not None:
        asked["chart"] = parse_chart(arguments.chart)
    if arguments.host is not None:
        asked["host"] = arguments.host
    if arguments.branches:
        asked["rules"] = [{"branches": list(arguments.branches)}]
    _ = read_spec(whole(asked))
    return asked


def whole(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The spec of a new Project: what was asked for, and the chart that is the default."""
    return {"chart": {"git": {"path": DEFAULT_CHART}}, **asked}


def read_spec(spec: Mapping[str, Any]) -> ProjectSpec:
    """
    Read a spec.

    Raises:
        ConfigError: It is none; says all that is wrong.

    """
    try:
        return ProjectSpec.model_validate(spec)
    except ValidationError as error:
        raise ConfigError(f"the Project cannot be like this: {faults(error)}") from None


def name_of(arguments: ProjectArguments) -> str:
    """
    Name of a new Project: the given one, or the last part of the path.

    Raises:
        ConfigError: It is no name.

    """
    if arguments.name is None:
        return project_name(str(arguments.ref).rpartition("/")[2])
    check_name(arguments.name)
    return arguments.name


def check_name(name: str) -> None:
    """
    Refuse what cannot be the name of a Project.

    Raises:
        ConfigError: Why not.

    """
    try:
        _LABEL.validate_python(name)
    except ValidationError:
        raise ConfigError(f"--name {name!r}: must be lower-case letters, digits and dashes") from None
    if len(name) > NAME_LIMIT:
        raise ConfigError(f"--name {name!r}: has {len(name)} characters; at most {NAME_LIMIT} are possible")


def parse_chart(text: str) -> dict[str, Any]:
    """
    A chart: a folder of the repository, ``oci://REF@VERSION``, or ``URL#NAME@VERSION``.

    Args:
        text: As it was written.

    Returns:
        In the API's form.

    Raises:
        ConfigError: It is none of them.

    """
    chart = _chart(text)
    try:
        ChartSource.model_validate(chart)
    except ValidationError as error:
        raise ConfigError(f"--chart {text}: {faults(error)}") from None
    return chart


def differences(asked: Mapping[str, Any], live: Mapping[str, Any]) -> tuple[str, ...]:
    """
    In what a Project that is there is other than it was asked for.

    Args:
        asked: See ``asked_of``.
        live: Its spec.

    Returns:
        Field, as it is and as it was asked for; nothing of fields that were not asked for.

    Raises:
        ConfigError: What is there cannot be understood.

    """
    wanted, there = read_spec(whole(asked)), read_spec(live)
    found = []
    for field in ("chart", "host", "rules"):
        ours, theirs = getattr(wanted, field), getattr(there, field)
        if field in asked and ours != theirs:
            found.append(f"{field}: {_shown(theirs)} -> {_shown(ours)}")
    return tuple(found)


def _chart(text: str) -> dict[str, Any]:
    if text.startswith("oci://"):
        ref, at, version = text.rpartition("@")
        if not at or "/" in version:
            raise ConfigError(f"--chart {text}: add the version, as in oci://registry.example.com/charts/shop@1.2.3")
        return {"oci": {"ref": ref, "version": version}}
    if text.startswith(("http://", "https://")):
        url, _, rest = text.partition("#")
        name, at, version = rest.partition("@")
        if not at or not name or not version:
            raise ConfigError(
                f"--chart {text}: add name and version, as in https://charts.example.com#shop@1.2.3; "
                "a folder of the repository is written without a URL"
            )
        return {"repository": {"url": url, "name": name, "version": version}}
    path = PurePosixPath(text)
    if "://" in text or path.is_absolute() or ".." in path.parts or not text.strip():
        raise ConfigError(
            f"--chart {text!r}: must be a folder of the repository such as {DEFAULT_CHART}, oci://REF@VERSION, or "
            "URL#NAME@VERSION"
        )
    return {"git": {"path": str(path)}}


def _shown(value: Any) -> str:  # noqa: ANN401 - a field of the spec
    if isinstance(value, tuple):
        return "; ".join(f"{', '.join(rule.branches)} ({rule.action})" for rule in value)
    return str(value) if value is not None else "none"
