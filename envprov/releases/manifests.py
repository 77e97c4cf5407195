"""What ``helm template`` writes, read the way Kubernetes reads it and within bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from envprov.domain.errors import RenderFailed

NODE_LIMIT = 500_000
"""Values, as written and as unfolded; reading takes about 10 µs for each."""
DEPTH_LIMIT = 200


class _Loader(yaml.CSafeLoader):
    """
    YAML 1.1 as Go's decoder for Kubernetes reads it.

    Other than PyYAML it knows no dates, no sexagesimal numbers (``22:22``) and no ``=``: those are strings.
    """


_FOREIGN = {
    "tag:yaml.org,2002:int",
    "tag:yaml.org,2002:float",
    "tag:yaml.org,2002:timestamp",
    "tag:yaml.org,2002:value",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _FOREIGN]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def parse(output: bytes) -> tuple[dict[str, Any], ...]:
    """
    The objects of a rendered chart.

    Args:
        output: YAML documents; empty ones are passed over.

    Returns:
        Objects in the order in which Helm wrote them.

    Raises:
        RenderFailed: A document is no YAML, no object, nested too deep, or has too many values.

    """
    found = documents(output)
    for document in found:
        if not isinstance(document, dict) or not document.get("kind"):
            raise RenderFailed("The chart renders something that is no Kubernetes object: it has no kind")
    return tuple(found)


def documents(output: bytes) -> list[Any]:
    """
    YAML documents, read as Kubernetes and Helm read them.

    Args:
        output: The documents; empty ones are passed over.

    Raises:
        RenderFailed: One is no YAML, nested too deep, or has too many values.

    """
    try:
        _check_structure(output)
        found = [document for document in yaml.load_all(output, Loader=_Loader) if document is not None]
        _check_size(found)
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 0
        raise RenderFailed(f"The chart renders something that is no YAML, in line {line}: {fault.problem}") from None
    except (yaml.YAMLError, ValueError):
        raise RenderFailed("The chart renders something that is no YAML that Kubernetes could read") from None
    return found


def _check_structure(output: bytes) -> None:
    """The C loader recurses for every level and would take the whole process down with a segmentation fault."""
    depth = nodes = 0
    for event in yaml.parse(output, Loader=_Loader):
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEPTH_LIMIT:
            raise RenderFailed(f"The chart renders something that is nested more than {DEPTH_LIMIT} levels deep")
        if nodes > NODE_LIMIT:
            raise RenderFailed(f"The chart renders more than {NODE_LIMIT} values")


def _check_size(found: list[Any]) -> None:
    """Aliases unfold: a few lines can stand for billions of values, which nobody after us must have to walk through."""
    left, waiting = NODE_LIMIT, list(found)
    while waiting:
        node = waiting.pop()
        left -= 1
        if left < 0:
            raise RenderFailed(
                f"The chart renders more than {NODE_LIMIT} values; does it repeat itself by YAML aliases?"
            )
        if isinstance(node, Mapping):
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
