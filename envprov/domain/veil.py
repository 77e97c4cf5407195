"""Secrets as they may be shown: which keys they have, and which of them differ, and nothing of what they hold."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from envprov.domain.fields import Field, plain
from envprov.domain.loose import mapping, text
from envprov.domain.paths import MISSING

HIDDEN = "***"
"""Instead of a value, as kubectl diff writes it."""

_KINDS = frozenset({"", "Secret", "SecretList"})
_SHOWN = frozenset({"apiVersion", "kind", "metadata", "type", "immutable"})
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""A copy of the whole object in an annotation: what is hidden would stand there in full."""


def bare(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """
    An object as it is compared: JSON without what the API server and kubectl keep for themselves.

    Args:
        manifest: Live or rendered, or junk.

    Returns:
        A copy. Of a Secret, ``stringData`` has become part of ``data``, as the API server stores it.

    """
    given: dict[str, Any] = plain(manifest)
    given.pop("status", None)
    metadata = given.get("metadata")
    if isinstance(metadata, dict):
        for name in ("managedFields", "creationTimestamp", "uid", "resourceVersion", "generation", "selfLink"):
            metadata.pop(name, None)
        notes = metadata.get("annotations")
        if isinstance(notes, dict):
            notes.pop(_APPLIED, None)
    if is_secret(given):
        _fold(given)
    return given


def is_secret(manifest: Mapping[str, Any]) -> bool:
    """Whether what an object holds is hidden; that of an object without a kind is, for it may be anything."""
    return text(manifest.get("kind")) in _KINDS


def veiled_field(field: Field) -> Field:
    """A field of a Secret without its values, if it holds any."""
    if field.path and field.path[0] in _SHOWN:
        return field
    before, after = (value if value is MISSING else HIDDEN for value in (field.before, field.after))
    # A list is told by what its items are called: deeper than a key, the path holds values.
    depth = 2 if field.path[:1] == ("data",) else 1
    return Field(field.path[:depth], field.edit, before, after)


def veiled(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """
    Two versions of a Secret as they may be shown beside each other.

    Args:
        before: As ``bare`` gives it; None if there is none.
        after: The other.

    Returns:
        Copies in which each value is ``***``, with a word where the two differ.

    """
    return _veil(before, after, " (before)"), _veil(after, before, " (after)")


def _veil(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None, word: str) -> dict[str, Any] | None:
    if one is None:
        return None
    beside = {} if other is None else other
    shown: dict[str, Any] = {}
    for name, value in one.items():
        if name in _SHOWN:
            shown[name] = value
        elif name == "data" and isinstance(value, Mapping):
            there = mapping(beside.get(name))
            shown[name] = {key: _mark(held, there.get(key, MISSING), word) for key, held in value.items()}
        else:
            shown[name] = _mark(value, beside.get(name, MISSING), word)
    return shown


def _mark(value: object, other: object, word: str) -> str:
    return HIDDEN if other is MISSING or value == other else HIDDEN + word


def _fold(secret: dict[str, Any]) -> None:
    """Write ``stringData`` as ``data``, in the one way in which a value can be written there."""
    data, plain_data = secret.get("data"), secret.get("stringData")
    if isinstance(data, dict):
        secret["data"] = data = {key: _canonical(value) for key, value in data.items()}
    if isinstance(plain_data, dict) and (data is None or isinstance(data, dict)):
        encoded = {
            key: base64.b64encode(value.encode(errors="surrogatepass")).decode() if isinstance(value, str) else value
            for key, value in plain_data.items()
        }
        secret["data"] = {**(data or {}), **encoded}
        del secret["stringData"]


def _canonical(value: object) -> object:
    """Base64 without line breaks: the API server takes them, and does not give them back."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64encode(base64.b64decode("".join(value.split()), validate=True)).decode()
    except (binascii.Error, ValueError):
        return value
