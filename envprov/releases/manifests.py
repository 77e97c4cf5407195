"""What ``helm template`` writes, read the way Kubernetes reads it and within bounds."""

from __future__ import annotations

import base64
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
    YAML 1.1 as Go's decoder for Kubernetes reads it: what it takes for a field or a value must not look otherwise here.

    Other than PyYAML it knows no dates, no sexagesimal numbers (``22:22``) and no ``=``: those are strings. ``y`` and
    ``n`` are booleans, ``3.0`` is the whole number 3, keys are texts, and a tag changes nothing of a mapping or list.

    Source: https://github.com/yaml/go-yaml/tree/v2, resolve.go and decode.go; sigs.k8s.io/yaml, YAMLToJSON.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - PyYAML's
        if isinstance(node, yaml.MappingNode):
            node.tag = "tag:yaml.org,2002:map"
        elif isinstance(node, yaml.SequenceNode):
            node.tag = "tag:yaml.org,2002:seq"
        return super().construct_object(node, deep=deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's
        found = super().construct_mapping(node, deep=deep)
        return found if all(map(_is_text, found)) else {_as_text(key): value for key, value in found.items()}


def _is_text(key: object) -> bool:
    return isinstance(key, str)


def _as_text(key: object) -> str:
    match key:
        case bool():
            return "true" if key else "false"
        case str() | int():
            return str(key)
        case float():
            return f"{key:g}"
        case _:
            raise ValueError("no other key can be one of JSON")


def _boolean(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() in {"y", "yes", "true", "on"}


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    found = float(loader.construct_yaml_float(node))
    return int(found) if found.is_integer() and abs(found) < _WRITTEN_WHOLE else found


def _bytes(loader: _Loader, node: yaml.ScalarNode) -> str:
    return base64.b64decode(str(loader.construct_scalar(node)), validate=False).decode(errors="replace")


def _written(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_WRITTEN_WHOLE = 1e21
"""Below, JSON has no exponent for a whole number, and Kubernetes reads it as one."""
_Loader.add_constructor("tag:yaml.org,2002:bool", _boolean)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)
_Loader.add_constructor("tag:yaml.org,2002:binary", _bytes)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _written)
_Loader.add_constructor(None, _written)
_FOREIGN = {
    "tag:yaml.org,2002:bool",
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
    "tag:yaml.org,2002:bool",
    re.compile(r"(y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"),
    list("yYnNtTfFoO"),
)
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
