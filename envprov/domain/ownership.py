"""Which Helm release an object belongs to, as Helm itself writes it on the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envprov.domain.charted import HOOK
from envprov.domain.loose import mapping, text

Manifest = Mapping[str, Any]

RELEASE_NAME = "meta.helm.sh/release-name"
RELEASE_NAMESPACE = "meta.helm.sh/release-namespace"


def owner_of(live: Manifest) -> tuple[str, str] | None:
    """Namespace and name of the Helm release that an object says it belongs to, or None."""
    notes = _notes(live)
    name = text(notes.get(RELEASE_NAME))
    return (text(notes.get(RELEASE_NAMESPACE)), name) if name else None


def is_taken(live: Manifest, namespace: str, release: str) -> bool:
    """
    Whether an object belongs to something else than a release.

    Args:
        live: The object.
        namespace: Of the release.
        release: Its name.

    """
    if owner_of(live) == (namespace, release):
        return False
    # Helm writes no owner on what its hooks make.
    return owner_of(live) is not None or HOOK not in _notes(live)


def _notes(live: Manifest) -> Manifest:
    return mapping(mapping(live.get("metadata")).get("annotations"))
