"""Whether a live object still says what was applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envprov.domain.quantity import same

_QUANTITIES = frozenset({"hard", "default", "defaultRequest", "max", "min"})
_SHARED = frozenset({"metadata", "labels", "annotations", "data"})
"""Maps in which others may have keys of their own; server-side apply could not take those away."""


def drifted(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """
    Whether a live object differs from a manifest that was applied.

    Labels, annotations and the keys of a Secret that others add are theirs. Everything else that the manifest names
    must be exactly so, for what somebody adds to a NetworkPolicy or a RoleBinding changes what it allows.

    Args:
        wanted: A manifest with the API server's defaults written out.
        live: The object as the API server sent it.

    """
    return any(
        not _holds(key, value, live.get(key)) for key, value in wanted.items() if key not in {"apiVersion", "kind"}
    )


def _holds(key: str, wanted: object, live: object) -> bool:
    if wanted in (None, []) and live in (None, []):
        return True  # the API server leaves out a list that is empty
    if isinstance(wanted, Mapping) and key in _SHARED:
        given = live if isinstance(live, Mapping) else {}
        return all(_holds(name, value, given.get(name)) for name, value in wanted.items())
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        if key in _QUANTITIES:
            # Server-side apply cannot take away the limits that somebody else adds to a resource list.
            return all(name in live and same(value, live[name]) for name, value in wanted.items())
        return all(_holds(name, wanted.get(name), live.get(name)) for name in wanted.keys() | live.keys())
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(_holds("", one, other) for one, other in zip(wanted, live, strict=True))
    return wanted == live
