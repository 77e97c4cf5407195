"""The file ``.envprov.yaml`` of a branch: what it asks for, and whether its Project allows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from envprov.domain.document import PLAIN_KEY, UNREADABLE, Document, Fault, Path, fault_at, read_document
from envprov.domain.errors import InvalidBranchFile
from envprov.domain.lifetime import ExpireAfter, Keep, Lifetime, Until
from envprov.domain.model import Model
from envprov.domain.project import DnsName, GitChart, Project, Rule, Text, Values, known_sizes
from envprov.domain.sizes import Size, SizeName

FILE = ".envprov.yaml"
PATH_LIMIT = 255
FAULTS_TOLD = 15
"""Of all faults; a condition holds 4,096 characters."""
LAST_YEAR = 9000


class _Chart(Model):
    path: Text


class _Fields(Model):
    project: DnsName | None = None
    size: SizeName | None = None
    lifetime: Lifetime | None = None
    values: Values = Field(default={})
    chart: _Chart | None = None


_DURATIONS = TypeAdapter(timedelta)
_KINDS: Mapping[str, type[Model]] = {"keep": Keep, "expire-after": ExpireAfter, "until": Until}
_KNOWN: Mapping[Path, tuple[str, ...]] = {
    (): tuple(_Fields.model_fields),
    ("chart",): tuple(_Chart.model_fields),
    **{("lifetime", kind): tuple(model.model_fields) for kind, model in _KINDS.items()},
}
_NAMED: Mapping[Path, str] = {
    ("size",): "is no name of a size, such as S",
    ("project",): "is no name of a Project: lower-case letters, digits and dashes",
}
_OUGHT = {
    "missing": ("is missing", "add it"),
    "string_type": ("must be text", "put it in quotes"),
    "dict_type": ("must be a mapping", "put its fields below it, indented"),
    "model_type": ("must be a mapping", "put its fields below it, indented"),
    "model_attributes_type": ("must be a mapping", "put its fields below it, indented"),
    "union_tag_not_found": ("has no kind", f"add kind: one of {', '.join(_KINDS)}"),
    "union_tag_invalid": ("has an unknown kind", f"give one of {', '.join(_KINDS)}"),
    "string_too_short": ("is empty", "give it a value, or leave it out"),
    "string_too_long": ("is too long", "shorten it"),
    "greater_than": ("must be longer than nothing", "give a duration such as P7D or PT12H"),
}


@dataclass(frozen=True)
class BranchFile:
    """
    What a branch asks for. A file that does not exist says nothing: ``BranchFile()``.

    Attributes:
        project: Name of the Project, for the command line; the controller knows it already and ignores it.
        size: Size.
        lifetime: How long the environment lives.
        values: Chart values.
        chart: Another folder of the repository as the chart.
        lines: Where in the file each field stands, for messages; counted from 1.

    """

    project: str | None = None
    size: str | None = None
    lifetime: Lifetime | None = None
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    chart: GitChart | None = None
    lines: dict[Path, int] = field(default_factory=dict, repr=False, compare=False)


def parse_branch_file(raw: bytes) -> BranchFile:
    """
    Read the file of a branch, whole.

    Args:
        raw: Its content at one commit; at most 64 KiB.

    Returns:
        What it says, not yet bounded by a Project.

    Raises:
        InvalidBranchFile: It is wrong; says all that is wrong, each with line, field, reason and way out, and quotes
            no value.

    """
    document = read_document(raw)
    faults = list(document.faults)
    fields = _Fields()
    if isinstance(document.content, dict):
        given = {key: value for key, value in document.content.items() if value is not None}
        try:
            fields = _Fields.model_validate(given)
        except ValidationError as error:
            details = error.errors(include_input=False, include_url=False, include_context=False)
            told = (_translated(detail, document, guess=n < FAULTS_TOLD) for n, detail in enumerate(details))
            faults += (fault for fault in told if not document.is_broken(fault.path))
    elif document.content is not None and not document.is_broken(()):
        faults.append(Fault(1, (), "the file must be a mapping", "write fields such as `size: S`"))
    if fields.chart is not None and (reason := chart_path_fault(fields.chart.path)):
        faults.append(document.fault(("chart", "path"), reason, "give a folder such as deploy/chart"))
    if isinstance(fields.lifetime, Until) and fields.lifetime.at.year > LAST_YEAR:
        faults.append(document.fault(("lifetime", "at"), "is too far away", f"stay below the year {LAST_YEAR}"))
    _refuse(faults)
    return BranchFile(
        project=fields.project,
        size=fields.size,
        lifetime=fields.lifetime,
        values=fields.values,
        chart=GitChart(path=fields.chart.path) if fields.chart else None,
        lines=document.lines,
    )


def bounded(file: BranchFile, project: Project, branch: str, sizes: Mapping[str, Size], *, now: datetime) -> BranchFile:
    """
    What a branch gets of what its file asks for: all of it, or nothing.

    Args:
        file: The file.
        project: The Project that bounds it.
        branch: The branch, for its rule. What the rule itself says, the file may say too.
        sizes: The sizes of the settings; the Project's own come before them.
        now: The moment from which a lifetime is counted; aware.

    Returns:
        The file; an empty one if the Project does not let it be read.

    Raises:
        InvalidBranchFile: It asks for more than the Project allows; says all of it, and what to change where.

    """
    if not project.spec.branch_file.read:
        return BranchFile()
    rule = project.rule_for(branch) or Rule(branches=("*",))
    _refuse(
        [
            *_size_faults(file, project, rule, sizes),
            *_lifetime_faults(file, project, rule, now),
            *_value_faults(file, project),
            *_chart_faults(file, project),
        ]
    )
    return file


def chart_path_fault(path: str) -> str | None:
    """
    Why a path cannot be that of a chart in a repository, or None.

    Args:
        path: Folder from the top of the repository; ``.`` is the top itself.

    """
    if len(path.encode(errors="replace")) > PATH_LIMIT:
        return f"is longer than {PATH_LIMIT} bytes"
    if UNREADABLE.search(path) or any(mark in path for mark in "\t\r\n\\"):
        return "holds a backslash or a control character"
    if path.startswith("/"):
        return "is absolute"
    if path != "." and any(part in {"", ".", ".."} for part in path.split("/")):
        return "holds an empty part, . or .."
    return None


def _size_faults(file: BranchFile, project: Project, rule: Rule, sizes: Mapping[str, Size]) -> Iterator[Fault]:
    if file.size is None:
        return
    given = rule.size or project.spec.sizes.default
    known = known_sizes(project, sizes)
    choice = sorted({given, *project.spec.sizes.allowed} & set(known))
    if file.size not in choice:
        why = f"is not allowed in Project {project.name}" if file.size in known else "is unknown"
        yield fault_at(file.lines, ("size",), why, f"choose among {', '.join(choice)}")


def _lifetime_faults(file: BranchFile, project: Project, rule: Rule, now: datetime) -> Iterator[Fault]:
    longest = project.spec.limits.lifetime
    if longest is None or file.lifetime is None or file.lifetime == rule.lifetime:
        return
    most = f"Project {project.name} allows {_DURATIONS.dump_python(longest, mode='json')} at most"
    match file.lifetime:
        case Keep():
            way_out = "give kind: expire-after or until"
            yield fault_at(file.lines, ("lifetime", "kind"), f"would have no end, and {most}", way_out)
        case ExpireAfter(idle=idle) if idle > longest:
            yield fault_at(file.lines, ("lifetime", "idle"), f"is longer than allowed: {most}", "shorten it")
        case Until(at=at) if at > now + longest:
            yield fault_at(
                file.lines, ("lifetime", "at"), f"is later than allowed: {most} from now", "give an earlier end"
            )
        case _:
            pass


def _value_faults(file: BranchFile, project: Project) -> Iterator[Fault]:
    allowed = [tuple(path.split(".")) for path in project.spec.branch_file.values]
    for path in _leaves(file.values, ()):
        if not any(_covers(pattern, path) for pattern in allowed):
            reason = f"may not be set by a branch of Project {project.name}"
            way_out = f"add {_pattern_for(path)} to spec.branchFile.values of the Project"
            yield fault_at(file.lines, ("values", *path), reason, way_out)


def _chart_faults(file: BranchFile, project: Project) -> Iterator[Fault]:
    own = project.spec.chart.git
    if file.chart is None or project.spec.branch_file.chart or file.chart == own:
        return
    reason = f"may not be chosen by a branch of Project {project.name}"
    yield fault_at(file.lines, ("chart", "path"), reason, "set spec.branchFile.chart: true in the Project")


def _leaves(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Where something is set. Helm merges mappings; lists, scalars and null replace, and {} may replace a scalar."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)


def _covers(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """Part by part: a key that has a dot in it is one part, and is not mistaken for a path."""
    if pattern[-1] == "*":
        return len(path) >= len(pattern) and path[: len(pattern) - 1] == pattern[:-1]
    return path == pattern


def _pattern_for(path: tuple[str, ...]) -> str:
    sound: list[str] = []
    for key in path:
        if not PLAIN_KEY.fullmatch(key):
            return ".".join([*sound, "*"])
        sound.append(key)
    return ".".join(sound)


def _translated(detail: ErrorDetails, document: Document, *, guess: bool) -> Fault:
    place = detail["loc"]
    kind = detail["type"]
    path: Path = (place[0], *place[2:]) if place[:1] == ("lifetime",) and len(place) > 1 else place
    if kind == "extra_forbidden":
        known = _KNOWN.get(place[:-1], ())
        nearest = get_close_matches(str(place[-1])[:40].lower(), known, n=1) if guess else []
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        return document.fault(path, "is no field", f"{hint}there are {', '.join(known)}")
    if kind == "union_tag_invalid":
        path = (*path, "kind")
    if kind == "string_pattern_mismatch":
        return document.fault(path, _NAMED.get(path, "is not written as it must be"), "correct it")
    if kind in _OUGHT:
        return document.fault(path, *_OUGHT[kind])
    reason = detail["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return document.fault(path, reason, "correct it")


def _refuse(faults: Sequence[Fault]) -> None:
    if not faults:
        return
    told = sorted(faults, key=lambda fault: fault.line)[:FAULTS_TOLD]
    more = f"; and {len(faults) - len(told)} more" if len(faults) > len(told) else ""
    raise InvalidBranchFile(f"{FILE}: {'; '.join(map(str, told))}{more}")
