"""
Where a field stands in an object: paths whose lists are matched by their merge keys, as server-side apply does.

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from envprov.domain.loose import mapping

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_PROTOCOL = {"protocol": "TCP"}
MEMBERS = frozenset({"finalizers"})
"""Lists of words in which each word is somebody's own."""
_KEYS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "containers": (("name",),),
    "initContainers": (("name",),),
    "ephemeralContainers": (("name",),),
    "volumes": (("name",),),
    "env": (("name",),),
    "imagePullSecrets": (("name",),),
    "secrets": (("name",),),
    "resourceClaims": (("name",),),
    "listeners": (("name",),),
    "webhooks": (("name",),),
    "versions": (("name",),),
    "volumeMounts": (("mountPath",),),
    "volumeDevices": (("devicePath",),),
    "hostAliases": (("ip",),),
    "conditions": (("type",),),
    "ownerReferences": (("uid",),),
    "topologySpreadConstraints": (("topologyKey", "whenUnsatisfiable"),),
    "ports": (("containerPort", "protocol"), ("port", "protocol")),
    "volumeClaimTemplates": (("metadata.name",),),
}


class Missing(Enum):
    """The value of a field that is not there; null is a value."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


@dataclass(frozen=True)
class Key:
    """
    An item of a list, by its merge key.

    Attributes:
        pairs: Names and values, in the order of the names.

    """

    pairs: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        told = [pair for pair in self.pairs if pair != ("protocol", "TCP")] or self.pairs
        return ",".join(f"{name}={value}" for name, value in told)


@dataclass(frozen=True)
class Member:
    """A word in a list whose words stand for themselves."""

    value: str

    def __str__(self) -> str:
        return f"={json.dumps(self.value, ensure_ascii=False)}"


Step = str | int | Key | Member
Path = tuple[Step, ...]


def written(path: Path) -> str:
    """A path as text, such as ``spec.template.spec.containers[name=web].env[name=MODE].value``."""
    text = ""
    for step in path:
        if isinstance(step, str) and _PLAIN.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False) if isinstance(step, str) else step}]"
    return text


def find(value: object, step: Step, name: str) -> Any:  # noqa: ANN401 - any JSON
    """
    What is at a step of a path.

    Args:
        value: A mapping, or a list.
        step: The step.
        name: The step before it, which says how a list is matched.

    Returns:
        MISSING if nothing is there.

    """
    if isinstance(step, str):
        return mapping(value).get(step, MISSING)
    if not isinstance(value, list):
        return MISSING
    if isinstance(step, int):
        return value[step] if step < len(value) else MISSING
    if isinstance(step, Member):
        return step.value if name in MEMBERS and step.value in value else MISSING
    names = tuple(part for part, _ in step.pairs)
    return next((item for item in value if key_of(item, names) == step), MISSING)


def merge_keys(name: str, before: Sequence[object], after: Sequence[object]) -> tuple[str, ...] | None:
    """
    The merge keys of a list.

    Args:
        name: Of the list.
        before: Its items.
        after: Those of its other version.

    Returns:
        Names of fields; None if an item has none of them, or two are alike.

    """
    for names in _KEYS.get(name, ()):
        keys = [[key_of(item, names) for item in items] for items in (before, after)]
        if all(None not in found and len(set(found)) == len(found) for found in keys):
            return names
    return None


def key_of(item: object, names: tuple[str, ...]) -> Key | None:
    """The merge key of an item; None if it has none."""
    pairs = []
    for name in names:
        value: Any = item
        for part in name.split("."):
            value = mapping(value).get(part)
        if value is None:
            value = _PROTOCOL.get(name)
        if not isinstance(value, str | int) or isinstance(value, bool):
            return None
        pairs.append((name, value))
    return Key(tuple(pairs))
