"""Results on standard output: tables as kubectl prints them, and the API's own objects."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import yaml
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from envprov.cli.options import Output
from envprov.cli.plain import clean

Object = Mapping[str, Any]
Row = Sequence[str]

NOTHING = "-"
_GAP = "   "
_STYLES = {
    "True": "green",
    "Ready": "green",
    "ok": "green",
    "warning": "yellow",
    "Queued": "yellow",
    "TearingDown": "yellow",
    "Retrying": "yellow",
    "Unhealthy": "red",
    "Stalled": "red",
    "failed": "red",
}


def console(stream: TextIO | None = None) -> Console:
    """A console that adds nothing of its own; colours are left out in a pipe and with ``NO_COLOR``."""
    return Console(file=stream or sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)


def style_of(word: str) -> str:
    """The colour of a state, or none."""
    return _STYLES.get(word, "")


def print_table(header: Row, rows: Iterable[Row]) -> None:
    """
    Print a table: columns as wide as they need to be, the last one open.

    Args:
        header: Names of the columns.
        rows: One cell for each column; an empty cell is shown as a dash.

    """
    cells = [tuple(header), *(tuple(clean(cell) or NOTHING for cell in row) for row in rows)]
    widths = [max(cell_len(cell) for cell in column) for column in zip(*cells, strict=True)]
    out = console()
    for line in cells:
        text = Text()
        for cell, width in zip(line[:-1], widths, strict=False):
            text.append(cell, style_of(cell)).append(" " * (width - cell_len(cell)) + _GAP)
        text.append(line[-1], style_of(line[-1]))
        out.print(text)


def print_line(text: str, style: str = "") -> None:
    """Print one line, whole."""
    console().print(Text(clean(text), style))


def print_data(data: Any, output: Output) -> None:  # noqa: ANN401 - any JSON
    """Print a value as JSON or YAML."""
    if output is Output.YAML:
        sys.stdout.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))
    else:
        sys.stdout.write(json.dumps(data, indent=4, ensure_ascii=False) + "\n")


def print_object(item: Object, output: Output) -> None:
    """Print an object of the API as JSON, YAML or name."""
    if output is Output.NAME:
        sys.stdout.write(resource_name(item) + "\n")
    else:
        print_data(_without_managers(item), output)


def print_objects(items: Iterable[Object], output: Output) -> None:
    """Print objects of the API, as one List in JSON or YAML, or a name in each line."""
    if output is Output.NAME:
        for item in items:
            print_object(item, output)
        return
    listed = [_without_managers(item) for item in items]
    print_data({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": listed}, output)


def resource_name(item: Object) -> str:
    """Kind and name as kubectl takes them: ``environment.envprov.io/feature-x-abcdefgh``."""
    group = str(item["apiVersion"]).partition("/")[0]
    return f"{str(item['kind']).lower()}.{group}/{item['metadata']['name']}"


def _without_managers(item: Object) -> dict[str, Any]:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}
