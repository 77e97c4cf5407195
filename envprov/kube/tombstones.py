"""
Tombstones: what must be remembered of a branch whose record is gone, so that late deliveries do not bring it back.

A tombstone is a ConfigMap beside the records. It also holds what a finished teardown owes: the successor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from envprov.domain.environment import GitLabStatus
from envprov.domain.errors import InvalidRecord
from envprov.domain.names import slug
from envprov.domain.objects import ENVIRONMENT, MANAGED_BY, MANAGER
from envprov.domain.policies import RECORD
from envprov.domain.trail import Trail

LIFETIME = timedelta(minutes=10)
"""Longer than any delivery is under way."""
GIVE_UP = timedelta(days=7)
"""How long something may be owed to GitLab: its project may be gone, or nobody may reach it any more."""

SELECTOR = f"{RECORD}=tombstone"


@dataclass(frozen=True)
class Tombstone:
    """
    What is left of a record.

    Attributes:
        environment: Name of the Environment that was there.
        project: Its Project.
        branch: Its branch.
        trail: What it remembered.
        successor: Revision of the Environment that is owed ("" for an unknown one), or None.
        deleted_at: When the record went.
        revision: Commit that the record asked for.
        dismissed: Why it went although its branch may still be there, or "": the sweep makes no new record at the
            same commit.
        told: What the record has left in GitLab, which is to be taken out again; None for nothing.
        namespace: Control namespace.
        uid: UID of the ConfigMap; "" for one that is not there yet.
        resource_version: As it was read; likewise.

    """

    environment: str
    project: str
    branch: str
    trail: Trail
    successor: str | None
    deleted_at: datetime
    namespace: str
    revision: str = ""
    dismissed: str = ""
    told: GitLabStatus | None = None
    uid: str = ""
    resource_version: str = ""

    def is_over(self, now: datetime, *, is_swept: bool) -> bool:
        """
        Whether it may be forgotten: nothing is owed, and no delivery can be that late.

        Args:
            now: Aware moment.
            is_swept: Whether its Project comes from GitLab, so that a sweep needs to know what was dismissed.

        """
        is_needed = self.successor is not None or (is_swept and bool(self.dismissed))
        is_needed |= self.told is not None and now - self.deleted_at < GIVE_UP
        return not is_needed and now - self.deleted_at >= LIFETIME

    def manifest(self) -> dict[str, Any]:
        """The ConfigMap, with UID and resourceVersion as preconditions if it was read."""
        data = {
            "project": self.project,
            "branch": self.branch,
            "trail": self.trail.encode(),
            "deletedAt": self.deleted_at.isoformat(timespec="seconds"),
        }
        if self.successor is not None:
            data["successor"] = self.successor
        if self.dismissed:
            data |= {"revision": self.revision, "dismissed": self.dismissed}
        if self.told is not None:
            data["gitlab"] = self.told.model_dump_json(by_alias=True, exclude_none=True)
        read = {"uid": self.uid, "resourceVersion": self.resource_version} if self.uid else {}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": tombstone_name(self.environment),
                "namespace": self.namespace,
                "labels": {MANAGED_BY: MANAGER, RECORD: "tombstone", ENVIRONMENT: self.environment},
                **read,
            },
            "data": data,
        }


def tombstone_name(environment: str) -> str:
    """Name of the ConfigMap; at most 50 characters."""
    return f"tombstone-{environment}"


def parse_tombstone(manifest: Mapping[str, Any]) -> Tombstone:
    """
    Read a tombstone.

    Args:
        manifest: The ConfigMap as the API server sent it.

    Raises:
        InvalidRecord: It is none of ours, or was edited by hand beyond reading.

    """
    metadata, data = manifest["metadata"], manifest.get("data", {})
    try:
        deleted_at = datetime.fromisoformat(data["deletedAt"])
        project, branch = data["project"], data["branch"]
    except (KeyError, ValueError) as error:
        raise InvalidRecord(f"ConfigMap {metadata['name']}: no tombstone ({error}); it can be deleted") from error
    if deleted_at.tzinfo is None:
        raise InvalidRecord(f"ConfigMap {metadata['name']}: deletedAt has no time zone; it can be deleted")
    if metadata["name"] != tombstone_name(slug(project, branch)):
        raise InvalidRecord(f"ConfigMap {metadata['name']}: is named after another branch; it can be deleted")
    return Tombstone(
        environment=slug(project, branch),
        project=project,
        branch=branch,
        trail=Trail.decode(data.get("trail", "")),
        successor=data.get("successor"),
        deleted_at=deleted_at,
        namespace=metadata["namespace"],
        revision=data.get("revision", ""),
        dismissed=data.get("dismissed", ""),
        told=_told(data.get("gitlab")),
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
    )


def readable_tombstone(manifest: Mapping[str, Any]) -> Tombstone | None:
    """The tombstone, or None for one that cannot be read: it tells nothing."""
    try:
        return parse_tombstone(manifest)
    except InvalidRecord:
        return None


def _told(text: str | None) -> GitLabStatus | None:
    """What was left in GitLab; what cannot be read is owed to nobody."""
    try:
        return GitLabStatus.model_validate_json(text) if text else None
    except ValidationError:
        return None
