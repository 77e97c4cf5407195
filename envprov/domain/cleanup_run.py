"""How a cleanup ended, as it stays on record until the next one: a job that is over can answer nobody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from envprov.domain.cleaning import Why
from envprov.domain.lifetime import noted_moment


class Became(StrEnum):
    """What became of something that a cleanup found."""

    DONE = "done"
    """It was carried out."""
    CHANGED = "changed"
    """It had changed meanwhile and was left alone."""
    FAILED = "failed"
    """It could not be carried out, or was not in time."""
    LEFT = "left"
    """It is for somebody else."""


@dataclass(frozen=True)
class CleanupRun:
    """
    One run of the cleanup.

    Attributes:
        started_at: Aware.
        finished_at: Aware.
        succeeded_at: When a run last ended without a fault: this one, or one before; None for never.
        faults: What could not be read or done.
        rows: How much was found, by why and what became of it.

    """

    started_at: datetime
    finished_at: datetime
    succeeded_at: datetime | None
    faults: int = 0
    rows: Mapping[tuple[Why, Became], int] = field(default_factory=dict)

    def encode(self) -> dict[str, str]:
        """The form that stands in a ConfigMap."""
        rows = {f"{why}/{became}": count for (why, became), count in sorted(self.rows.items())}
        data = {
            "startedAt": self.started_at.isoformat(timespec="seconds"),
            "finishedAt": self.finished_at.isoformat(timespec="seconds"),
            "faults": str(self.faults),
            "rows": json.dumps(rows),
        }
        return data | (
            {"succeededAt": self.succeeded_at.isoformat(timespec="seconds")} if self.succeeded_at is not None else {}
        )

    @classmethod
    def decode(cls, data: Mapping[str, str]) -> CleanupRun | None:
        """What :meth:`encode` wrote; None for anything else."""
        started, finished = noted_moment(data.get("startedAt")), noted_moment(data.get("finishedAt"))
        if started is None or finished is None:
            return None
        try:
            rows = {_slot(name): int(count) for name, count in json.loads(data.get("rows", "{}")).items()}
            faults = int(data.get("faults", "0"))
        except (AttributeError, TypeError, ValueError):
            return None
        return cls(started, finished, noted_moment(data.get("succeededAt")), faults, rows)


def _slot(name: str) -> tuple[Why, Became]:
    why, _, became = name.partition("/")
    return Why(why), Became(became)
