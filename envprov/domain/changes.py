"""What would change: the objects that a release has against those that a chart now renders. Secrets stay hidden."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from envprov.domain.charted import HOOK, Charted, charted
from envprov.domain.fields import Edit, Field, differences
from envprov.domain.findings import Subject
from envprov.domain.loose import mapping, mappings, text
from envprov.domain.paths import MISSING
from envprov.domain.unified import inline, shorten, shorten_both, unified
from envprov.domain.veil import bare, is_secret, veiled, veiled_field

Manifest = Mapping[str, Any]

POLICY = "helm.sh/resource-policy"
FIELDS_LIMIT = 50
"""Fields of one object that are told one by one."""
VALUE_LIMIT = 100
"""Characters of a value in a row."""

_DEFINITION = "CustomResourceDefinition"
_ONCE = "Helm makes those of the chart's folder crds/ with the first revision only"


@dataclass(frozen=True)
class Change:
    """
    One object that differs.

    Attributes:
        edit: Whether it is added, removed or changed.
        subject: The object, as it will be called; removed ones as they were.
        hooks: When Helm makes it, if it is a hook: ``pre-upgrade``, ``test``; empty for an object of the release.
        stays: Whether it is removed from the release only, and stays behind in the namespace.
        fields: What differs, if it is changed; values of Secrets are hidden.
        note: What else to know; empty if nothing.

    """

    edit: Edit
    subject: Subject
    hooks: tuple[str, ...]
    stays: bool
    fields: tuple[Field, ...]
    note: str
    before: Manifest | None = field(repr=False)
    after: Manifest | None = field(repr=False)

    @cached_property
    def lines(self) -> tuple[str, ...]:
        """A unified diff of the YAML, bounded; values of Secrets are hidden."""
        return unified(self.before, self.after)

    @property
    def remark(self) -> str:
        """What else to know of it; empty if nothing."""
        hook = f"hook {', '.join(self.hooks)}" if self.hooks else ""
        stays = f"stays behind, for its {POLICY} is keep" if self.stays else ""
        return "; ".join(part for part in (hook, stays, self.note) if part)

    @property
    def title(self) -> str:
        """What happens to which object, in one line."""
        return f"{self.subject} is {self.edit.value}{f' ({self.remark})' if self.remark else ''}"


@dataclass(frozen=True)
class Changes:
    """
    Everything that would change.

    Attributes:
        items: Objects in the order of kinds and names; those of the release first, then hooks.
        unchanged: How many objects stay as they are.

    """

    items: tuple[Change, ...]
    unchanged: int

    def __bool__(self) -> bool:
        return bool(self.items)

    def count(self, edit: Edit) -> int:
        """How many objects are added, removed or changed."""
        return sum(change.edit is edit for change in self.items)

    @property
    def summary(self) -> str:
        """The counts in one line."""
        counted = ", ".join(f"{self.count(edit)} {edit.value}" for edit in (Edit.ADDED, Edit.CHANGED, Edit.REMOVED))
        return f"{counted}, {self.unchanged} unchanged"

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """What happens, to which object, and in which fields: one row for each field of a changed object."""
        for change in self.items:
            what, which = change.edit.value, str(change.subject)
            if change.remark or change.edit is not Edit.CHANGED:
                yield what, which, change.remark
            for entry in change.fields[:FIELDS_LIMIT]:
                yield what, which, told(entry)
            if len(change.fields) > FIELDS_LIMIT:
                yield what, which, f"… {len(change.fields) - FIELDS_LIMIT} more fields"

    def text(self) -> str:
        """Everything as a person reads it: for each object a line, and a unified diff below it."""
        parts = [line for change in self.items for line in (f"{change.title}:", *change.lines, "")]
        return "\n".join((*parts, self.summary))

    def as_json(self) -> dict[str, Any]:
        """Everything as a program reads it."""
        return {
            "added": self.count(Edit.ADDED),
            "changed": self.count(Edit.CHANGED),
            "removed": self.count(Edit.REMOVED),
            "unchanged": self.unchanged,
            "objects": [_as_json(change) for change in self.items],
        }


def between(
    before: Iterable[Manifest],
    after: Iterable[Manifest],
    namespace: str,
    scopes: Mapping[tuple[str, str], bool] | None = None,
) -> Changes:
    """
    Compare two sets of manifests.

    Args:
        before: What the release has, hooks included; empty for one that is not there yet.
        after: What the chart renders, hooks included.
        namespace: Of the release: where an object goes that names none.
        scopes: Whether a kind, by ``apiVersion`` and kind, is one of namespaces; by default all are.

    Returns:
        The differences. An object is the same if group, kind, namespace and name are, as for Helm; the version is one
        of its fields. Of two objects of one name in one set the last counts.

    """
    ours, theirs = (
        {_identity(item): item for item in charted(mappings(list(given)), namespace, scopes or {})}
        for given in (before, after)
    )
    changes = [
        change
        for identity in sorted(ours.keys() | theirs.keys())
        if (change := _change(ours.get(identity), theirs.get(identity), first=not ours)) is not None
    ]
    return Changes(tuple(changes), len(ours.keys() | theirs.keys()) - len(changes))


def told(entry: Field) -> str:
    """A field in one line: where, and what it was and becomes."""
    where = entry.where or "the whole object"
    before, after = shorten_both(inline(entry.before), inline(entry.after), limit=VALUE_LIMIT)
    match entry.edit:
        case Edit.ADDED:
            return f"{where}: added {after}"
        case Edit.REMOVED:
            return f"{where}: removed, was {before}"
        case Edit.REORDERED:
            return f"{where}: another order, {', '.join(entry.before)} -> {', '.join(entry.after)}"
        case Edit.CHANGED:
            return f"{where}: {before} -> {after}"


def value_json(value: object) -> Any:  # noqa: ANN401 - any JSON
    """A value for a program: texts are cut, with the count of what is left out."""
    if isinstance(value, str):
        return shorten(value, limit=10 * VALUE_LIMIT)
    if isinstance(value, Mapping):
        return {name: value_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [value_json(item) for item in value]
    return value


def field_json(entry: Field) -> dict[str, Any]:
    """A field as a program reads it; a side that has no value has no key."""
    before, after = entry.before, entry.after
    if isinstance(before, str) and isinstance(after, str):
        before, after = shorten_both(before, after, limit=10 * VALUE_LIMIT)
    sides = (("before", before), ("after", after))
    return {
        "path": entry.where,
        "edit": entry.edit.value,
        **{name: value_json(value) for name, value in sides if value is not MISSING},
    }


def subject_json(subject: Subject) -> dict[str, str]:
    """An object's name as a program reads it."""
    return {
        "apiVersion": subject.api_version,
        "kind": subject.kind,
        **({"namespace": subject.namespace} if subject.namespace else {}),
        "name": subject.name,
    }


def _change(ours: Charted | None, theirs: Charted | None, *, first: bool) -> Change | None:
    item = theirs or ours
    if item is None:
        return None
    before, after = (None if one is None else bare(_placed(one)) for one in (ours, theirs))
    fields = tuple(differences(before, after)) if before is not None and after is not None else ()
    if before is not None and after is not None and not fields:
        return None
    if is_secret(item.manifest):
        fields = tuple(veiled_field(entry) for entry in fields)
        before, after = veiled(before, after)
    edit = Edit.ADDED if before is None else Edit.REMOVED if after is None else Edit.CHANGED
    return Change(
        edit=edit,
        subject=item.subject,
        hooks=_hooks(item),
        stays=edit is Edit.REMOVED and not item.is_hook and _annotation(item, POLICY) == "keep",
        fields=fields,
        note=_ONCE if edit is Edit.ADDED and item.kind == _DEFINITION and not first else "",
        before=before,
        after=after,
    )


def _placed(item: Charted) -> Manifest:
    """The object with its namespace written out: to name the release's own or none is the same."""
    metadata = item.manifest.get("metadata")
    if not isinstance(metadata, Mapping) or not item.subject.namespace:
        return item.manifest
    return {**item.manifest, "metadata": {**metadata, "namespace": item.subject.namespace}}


def _identity(item: Charted) -> tuple[bool, str, str, str, str]:
    return item.is_hook, item.kind, item.group, item.subject.namespace, item.subject.name


def _hooks(item: Charted) -> tuple[str, ...]:
    return tuple(word.strip() for word in _annotation(item, HOOK).split(",")) if item.is_hook else ()


def _annotation(item: Charted, name: str) -> str:
    return text(mapping(mapping(item.manifest.get("metadata")).get("annotations")).get(name))


def _as_json(change: Change) -> dict[str, Any]:
    return {
        **subject_json(change.subject),
        "edit": change.edit.value,
        **({"hooks": list(change.hooks)} if change.hooks else {}),
        **({"stays": True} if change.stays else {}),
        **({"note": change.note} if change.note else {}),
        "fields": [field_json(entry) for entry in change.fields],
        "diff": list(change.lines),
    }
