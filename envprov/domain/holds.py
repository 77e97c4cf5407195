"""
Holds: who keeps a ServiceAccount, and the Namespace it lives in, from being deleted.

A hold is an annotation on the object itself, where the admission policy reads it inside the delete. One key for each
holder, so that two holders never overwrite each other.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

PREFIX = "hold.envprov.io/"
"""Of annotation keys; what follows is the id of the holder."""
GUARD = "envprov.io/guard"
"""Label: ``shared`` on a ServiceAccount that was adopted, ``env`` on the Namespace of an environment."""
SHARED = "shared"
USED = "envprov.io/guard-used"
"""Annotation of an adopted ServiceAccount: it has had a user; before that no policy of the last user applies."""
POLICY = "envprov.io/guard-policy"
"""Annotation of an adopted ServiceAccount: what becomes of it when its last user is gone."""
RELEASED = "envprov.io/released-uid"
"""Annotation: the guarded object with this UID may be deleted."""
FORCED = "envprov.io/force-delete-uid"
"""Annotation: the object with this UID may be deleted in spite of its holds, by who may override them."""
FENCED = "envprov.io/fenced-sa"
"""Annotation of a Namespace: names of ServiceAccounts, with commas, that get no new pods and no new tokens."""
STATE = "envprov.io/state"
HUSK = "husk"

DECLARED = "External"
"""Kind of a holder that nothing in the cluster stands for: somebody declared it, for a time."""
VALUE_LIMIT_BYTES = 400
"""500 such holds and their keys fit into the annotations of one object."""


@dataclass(frozen=True, order=True)
class Account:
    """A ServiceAccount, wherever it is."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, order=True)
class Holder:
    """
    Who uses a ServiceAccount.

    Attributes:
        kind: Kind of the object that uses it, or ``External``.
        namespace: Of that object; empty for one outside namespaces.
        name: Of that object, or whatever was declared.
        uid: Of that object; empty for what was declared.

    """

    kind: str
    namespace: str
    name: str
    uid: str = ""

    @property
    def key(self) -> str:
        """Annotation key of its hold; the same for the same holder, whoever computes it."""
        identity = f"{self.kind}/{self.namespace}/{self.name}/{self.uid}"
        return PREFIX + hashlib.sha256(identity.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Hold:
    """
    One hold.

    Attributes:
        holder: Who holds.
        since: Since when; aware.
        why: What it is used for, in a few words.
        environment: Name of the Environment that it serves, if there is one.
        expires: When a declared hold runs out. It is not released then by itself.
        read_key: Annotation key as it was read; empty for a hold of our own making.

    """

    holder: Holder
    since: datetime
    why: str = ""
    environment: str = ""
    expires: datetime | None = None
    read_key: str = ""

    @property
    def key(self) -> str:
        """Annotation key."""
        return self.read_key or self.holder.key

    def is_expired(self, now: datetime) -> bool:
        """Whether a declared hold has run out."""
        return self.expires is not None and now >= self.expires

    def value(self) -> str:
        """
        Value of the annotation: compact JSON, at most ``VALUE_LIMIT_BYTES`` long.

        ``by`` is ``namespace/name`` of the holder, or its name; the reason gives way when it is too long.
        """
        by = f"{self.holder.namespace}/{self.holder.name}" if self.holder.namespace else self.holder.name
        fields = {
            "by": by,
            "kind": self.holder.kind,
            "env": self.environment,
            "uid": self.holder.uid,
            "since": _stamp(self.since),
            "exp": _stamp(self.expires) if self.expires else "",
            "why": self.why,
        }
        fields = {name: text for name, text in fields.items() if text}
        if len(_compact(fields).encode()) <= VALUE_LIMIT_BYTES:
            return _compact(fields)
        # One character takes one to six bytes: how many there is room for is tried, not computed.
        lengths = range(1, len(self.why) + 1)
        fitting = bisect_right(
            lengths, VALUE_LIMIT_BYTES, key=lambda length: len(_compact(fields | {"why": self.why[:length]}).encode())
        )
        fields.pop("why", None)
        return _compact(fields | {"why": self.why[:fitting]} if fitting else fields)


def read_holds(manifest: Mapping[str, Any]) -> tuple[Hold, ...]:
    """
    All holds on an object, the oldest first.

    Args:
        manifest: A ServiceAccount or Namespace; its metadata is enough.

    Returns:
        Also those whose value cannot be read: the policy counts them, and so must we. Their holder is of kind
        ``Unknown`` and bears the key as its name.

    """
    metadata = manifest["metadata"]
    born = _moment(metadata.get("creationTimestamp")) or datetime.fromtimestamp(0, UTC)
    notes = metadata.get("annotations") or {}
    holds = [_read(key, value, born) for key, value in notes.items() if key.startswith(PREFIX)]
    return tuple(sorted(holds, key=lambda hold: (hold.since, hold.key)))


def _read(key: str, value: str, born: datetime) -> Hold:
    try:
        given = json.loads(value)
        namespace, slash, name = given["by"].partition("/")
        holder = Holder(
            kind=_word(given["kind"]),
            namespace=namespace if slash and given["kind"] != DECLARED else "",
            name=name if slash and given["kind"] != DECLARED else given["by"],
            uid=_word(given.get("uid", "")),
        )
        return Hold(
            holder=holder,
            since=_moment(given["since"]) or born,
            why=str(given.get("why", "")),
            environment=str(given.get("env", "")),
            expires=_moment(given.get("exp")),
            read_key=key,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Hold(Holder("Unknown", "", key), born, "a hold that cannot be read", read_key=key)


def _compact(fields: Mapping[str, str]) -> str:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)


def _word(given: object) -> str:
    if not isinstance(given, str):
        raise TypeError(f"{given!r} is no text")
    return given


def _stamp(moment: datetime) -> str:
    return moment.astimezone(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else None
