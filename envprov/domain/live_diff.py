"""
How the live objects of a release differ from what it declares, and who made the difference.

Only what the release declares counts, and what others added to it: what the API server fills in is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any

from envprov.domain.changes import field_json, subject_json
from envprov.domain.charted import Charted
from envprov.domain.fields import Field, said, undone
from envprov.domain.findings import Subject
from envprov.domain.loose import Manifest, mapping, text, within
from envprov.domain.managers import Managers, Who
from envprov.domain.veil import bare, is_secret, veiled_field

RELEASE_NAME = "meta.helm.sh/release-name"
RELEASE_NAMESPACE = "meta.helm.sh/release-namespace"
REPLICAS = ("spec", "replicas")
FIELDS_LIMIT = 200
"""Fields of one object that are told."""

Target = tuple[str, str, str]
"""Group, kind and name of what a HorizontalPodAutoscaler scales."""


class State(Enum):
    """How a live object stands to its release."""

    SAME = "same"
    CHANGED = "changed"
    MISSING = "missing"
    FOREIGN = "foreign"
    """It is there and belongs to another release, or to none."""
    UNREAD = "unread"
    """It could not be read: nothing is known of it."""


@dataclass(frozen=True)
class Difference:
    """
    One field that is not as the release says.

    Attributes:
        field: What it is; *before* is the release's, *after* the live value. Values of Secrets are hidden.
        who: Who wrote the live value; None if nobody is on record.

    """

    field: Field
    who: Who | None


@dataclass(frozen=True)
class Compared:
    """
    One object of a release beside the live one.

    Attributes:
        subject: The object, as the release has it.
        state: How it stands.
        differences: Fields that are not as the release says, and those that others added; at most FIELDS_LIMIT.
        more: How many differences there are beside those.
        expected: Fields that differ because somebody's task it is: who, by field. They are no differences.
        message: What to know of the whole object, where the state alone does not say it.

    """

    subject: Subject
    state: State
    differences: tuple[Difference, ...] = ()
    more: int = 0
    expected: tuple[tuple[Field, str], ...] = ()
    message: str = ""

    @property
    def differs(self) -> bool:
        """Whether it is otherwise than the release says; an unread one is not known to be."""
        return self.state in {State.CHANGED, State.MISSING, State.FOREIGN}

    def as_json(self) -> dict[str, Any]:
        """The object as a program reads it."""
        return {
            **subject_json(self.subject),
            "state": self.state.value,
            **({"message": self.message} if self.message else {}),
            "fields": [
                {**field_json(entry.field), **({"by": _who_json(entry.who)} if entry.who else {})}
                for entry in self.differences
            ],
            **({"moreFields": self.more} if self.more else {}),
            **(
                {"expected": [{**field_json(field), "by": whose} for field, whose in self.expected]}
                if self.expected
                else {}
            ),
        }


def compare(item: Charted, live: Manifest | None, release: tuple[str, str], scalers: Mapping[Target, str]) -> Compared:
    """
    Compare one object.

    Args:
        item: The object as the release has it.
        live: The object as the API server sent it, with ``managedFields``; None if it is not there.
        release: Name and namespace of the release.
        scalers: See ``scalers``.

    Returns:
        The comparison; it never raises, whatever the two are.

    """
    if live is None:
        return Compared(item.subject, State.MISSING)
    owner = _owner(live)
    declared, found = said(bare(item.manifest)), bare(live)
    for name in ("apiVersion", "kind"):
        declared.pop(name, None)
    metadata = declared.get("metadata")
    if isinstance(metadata, dict):
        for name in ("name", "namespace", "generateName"):
            metadata.pop(name, None)
    shown = veiled_field if is_secret(item.manifest) or is_secret(live) else _as_it_is
    managers = Managers({**found, "metadata": {**mapping(found.get("metadata")), **_records(live)}})
    scaler = scalers.get((item.group, item.kind, item.subject.name), "")
    differences: list[Difference] = []
    expected: list[tuple[Field, str]] = []
    undo = ((field, managers.of(field.path)) for field in undone(declared, found))
    for field, who in chain(undo, managers.added(declared)):
        decider = _decider(field, who, scaler)
        if decider:
            expected.append((shown(field), decider))
        else:
            differences.append(Difference(shown(field), who))
    state, message = State.CHANGED if differences else State.SAME, ""
    if owner != release:
        state, message = State.FOREIGN, _whose(owner)
    elif within(live, "metadata").get("deletionTimestamp"):
        message = "it is being deleted"
        state = State.CHANGED
    return Compared(
        item.subject,
        state,
        tuple(differences[:FIELDS_LIMIT]),
        max(len(differences) - FIELDS_LIMIT, 0),
        tuple(expected),
        message,
    )


def scalers(autoscalers: Iterable[Manifest]) -> dict[Target, str]:
    """
    What HorizontalPodAutoscalers scale, and which one does.

    Args:
        autoscalers: All of one namespace, live or of the release; other objects are passed over.

    """
    found: dict[Target, str] = {}
    for item in autoscalers:
        if mapping(item).get("kind") == "HorizontalPodAutoscaler":
            target = within(item, "spec", "scaleTargetRef")
            group, slash, _ = text(target.get("apiVersion")).partition("/")
            key = (group if slash else "", text(target.get("kind")), text(target.get("name")))
            found[key] = f"HorizontalPodAutoscaler {text(within(item, 'metadata').get('name'))}"
    return found


def _decider(field: Field, who: Who | None, scaler: str) -> str:
    """Whose task it is that a field differs; empty for nobody's."""
    if who is not None and who.is_sleep:
        return "its sleep"
    if field.path != REPLICAS:
        return ""
    return scaler or (who.name if who is not None and who.is_autoscaler else "")


def _as_it_is(field: Field) -> Field:
    return field


def _records(live: Manifest) -> dict[str, Any]:
    return {"managedFields": within(live, "metadata").get("managedFields")}


def _owner(live: Manifest) -> tuple[str, str] | None:
    notes = within(live, "metadata", "annotations")
    name = text(notes.get(RELEASE_NAME))
    return (name, text(notes.get(RELEASE_NAMESPACE))) if name else None


def _whose(owner: tuple[str, str] | None) -> str:
    if owner is None:
        return "it bears no mark of Helm: somebody made it anew, or took the mark off"
    return f"it belongs to release {owner[0]} of namespace {owner[1]}"


def _who_json(who: Who) -> dict[str, Any]:
    return {
        "manager": who.manager,
        "name": who.name,
        "operation": who.operation,
        **({"subresource": who.subresource} if who.subresource else {}),
        **({"time": who.time.strftime("%Y-%m-%dT%H:%M:%SZ")} if who.time else {}),
        "recorded": who.recorded,
    }
