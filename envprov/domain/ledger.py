"""
The ledger: which environment has been given how much of the budgets, as the one ConfigMap of a control namespace says.

One object, because the API server compares and swaps objects and nothing larger: who writes an entry names the
version of the whole ledger that the decision was made from, so two writers can never both spend what is left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from envprov.domain.sizes import Size

NAME = "envprov-budget"
RECORD_KIND = "budget"
"""Value of the label that says what record a ConfigMap is."""
CLUSTER_BUDGET = "envprov.io/cluster-budget"
"""Annotation by which others learn what budget the controller goes by."""
LIMIT_BYTES = 1_000_000
"""The API server takes 1 MiB of names and values together: about 4,000 environments."""

ENTRY_BYTES = 1_000
"""No entry has as many, whatever its size is called."""


@dataclass(frozen=True)
class Entry:
    """
    What one environment has been given.

    Attributes:
        uid: UID of the Environment.
        project: Its Project.
        size_name: Name of its size.
        size: The size as it was when room was found for it.
        at: When that was, as ``2026-11-24T12:00:00Z``.

    """

    uid: str
    project: str
    size_name: str
    size: Size
    at: str = ""

    def covers(self, size_name: str, size: Size) -> bool:
        """Whether it was given exactly this."""
        return (self.size_name, self.size) == (size_name, size)

    def encode(self) -> str:
        """As a value of the ConfigMap: some 250 bytes."""
        said = {
            "uid": self.uid,
            "project": self.project,
            "sizeName": self.size_name,
            "size": self.size.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "at": self.at,
        }
        return json.dumps(said, separators=(",", ":"), ensure_ascii=False)


def decode(text: str) -> Entry | None:
    """
    Read a value of the ConfigMap.

    Args:
        text: As it was written.

    Returns:
        None for what nobody understands: it gives nothing to anybody, and its environment is entered anew.

    """
    try:
        said = json.loads(text)
        size = Size.model_validate(said["size"])
        return Entry(str(said["uid"]), str(said["project"]), str(said["sizeName"]), size, str(said.get("at", "")))
    except (ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return None


def fullness(data: Mapping[str, str]) -> int:
    """How many bytes the API server counts."""
    return sum(len(name.encode()) + len(value.encode()) for name, value in data.items())
