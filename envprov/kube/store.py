"""Objects in memory, by namespace and name, and by whatever else somebody looks them up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Object = Mapping[str, Any]
Key = tuple[str, str]
"""Namespace, empty for objects outside namespaces; and name."""
Index = Callable[[Object], Iterable[str]]
"""The values under which an object is found, such as its namespace or the ServiceAccounts that it uses."""


def key_of(manifest: Object) -> Key:
    """The key of an object."""
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class Store:
    """
    Objects and their indexes, always in step.

    What comes out is what is inside, not a copy: nobody may change it.

    Args:
        indexes: By name.

    """

    def __init__(self, indexes: Mapping[str, Index]) -> None:
        self._indexes = indexes
        self._objects: dict[Key, Object] = {}
        self._found: dict[str, defaultdict[str, set[Key]]] = {name: defaultdict(set) for name in indexes}
        self._values: dict[Key, dict[str, frozenset[str]]] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def keys(self) -> frozenset[Key]:
        """All keys."""
        return frozenset(self._objects)

    def items(self) -> list[Object]:
        """All objects."""
        return list(self._objects.values())

    def get(self, key: Key) -> Object | None:
        """One object, or None."""
        return self._objects.get(key)

    def by_index(self, index: str, value: str) -> list[Object]:
        """
        The objects that an index gives for a value.

        Args:
            index: Its name.
            value: What is looked up.

        Raises:
            KeyError: There is no such index.

        """
        return [self._objects[key] for key in self._found[index].get(value, ())]

    def put(self, manifest: Object) -> Object | None:
        """
        Store an object.

        Args:
            manifest: The object, in place of one of the same key.

        Returns:
            What was there before.

        """
        key = key_of(manifest)
        # An index that raises leaves everything as it was.
        values = {name: frozenset(index(manifest)) for name, index in self._indexes.items()}
        before = self.drop(key)
        self._objects[key] = manifest
        self._values[key] = values
        for name, found in values.items():
            for value in found:
                self._found[name][value].add(key)
        return before

    def drop(self, key: Key) -> Object | None:
        """
        Forget an object.

        Args:
            key: Its key; may be unknown.

        Returns:
            What was there.

        """
        before = self._objects.pop(key, None)
        for name, values in self._values.pop(key, {}).items():
            for value in values:
                keys = self._found[name][value]
                keys.discard(key)
                if not keys:
                    del self._found[name][value]
        return before
