"""The status of a Project: how far its environments are in step with GitLab, and what stands in the way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field, ValidationError

from envprov.domain.environment import Condition
from envprov.domain.lifetime import Timestamp
from envprov.domain.model import Model

MISSING_LIMIT = 100
"""Environments that one status may name."""

CONFIRMED = "envprov.io/confirmed-mass-delete"
"""Annotation of a Project: digest of the Environments that a person has agreed to lose."""


class ProjectCondition(StrEnum):
    """Types of the conditions of a Project."""

    SYNCED = "Synced"
    HOOK_HEALTHY = "HookHealthy"


class SweepStatus(Model):
    """What the last sweep of the branches found."""

    completed_at: Timestamp
    """When the last complete one ended."""
    branches: int
    """Branches that GitLab listed."""
    wanted: int
    """Those of them that the rules give an environment."""
    braked: int = 0
    """Environments whose branches are gone and that the delete brake keeps until somebody agrees."""
    missing: tuple[str, ...] = Field(default=(), max_length=MISSING_LIMIT)
    """Their names; of very many, the first."""
    confirmation: str = ""
    """What `envprov cleanup --confirm-mass-delete` writes on the Project to agree to exactly these."""


class ProjectStatus(Model):
    """What the controller last saw of the project in GitLab."""

    observed_generation: int | None = None
    """Generation of the spec that this status is about."""
    gitlab_id: int | None = None
    """Numeric id in GitLab as it was first seen; another project under the same path is another project."""
    hook_id: int | None = None
    """Id of the webhook in GitLab that calls us."""
    sweep: SweepStatus | None = None
    """The last complete sweep."""
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=20,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """Facts: Synced, HookHealthy."""

    def condition(self, kind: ProjectCondition) -> Condition | None:
        """The condition of one type, if it has been reported."""
        return next((condition for condition in self.conditions if condition.type == kind), None)

    def telling(  # noqa: PLR0913 - the parts of a condition
        self, kind: ProjectCondition, *, holds: bool | None, reason: str, message: str, generation: int, now: datetime
    ) -> ProjectStatus:
        """
        The status with one condition more, or that one renewed.

        Args:
            kind: Its type.
            holds: None for unknown.
            reason: One word for the cause.
            message: The cause in words.
            generation: Of the spec that it is about.
            now: Aware moment; the time of transition moves only with the status.

        """
        said = {True: "True", False: "False", None: "Unknown"}[holds]
        old = self.condition(kind)
        since = old.last_transition_time if old is not None and old.status == said else now.replace(microsecond=0)
        told = Condition(
            type=kind.value,
            status=said,
            reason=reason,
            message=message[:4096],
            observed_generation=generation,
            last_transition_time=since,
        )
        others = tuple(condition for condition in self.conditions if condition.type != kind)
        return self.model_copy(
            update={
                "conditions": tuple(sorted((*others, told), key=lambda one: one.type)),
                "observed_generation": generation,
            }
        )


def read_status(manifest: Mapping[str, Any]) -> ProjectStatus:
    """The status of a Project in the API's own form; what cannot be read counts as nothing reported."""
    try:
        return ProjectStatus.model_validate(manifest.get("status") or {})
    except ValidationError:
        return ProjectStatus()
