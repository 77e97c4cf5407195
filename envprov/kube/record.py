"""
The Environment as the recorder writes it: pure builders, and what they say read back.

Each field has one manager. ``RECORDER`` owns what deliveries say, ``OPTIONS`` what a person has chosen,
``CONTROLLER`` the finalizer and the status. A server-side apply that leaves out a field that its manager has
applied before removes it, so each body here is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.deliveries import Known, Present, Terminating, known_trail
from envprov.domain.environment import (
    API_VERSION,
    BRANCH,
    DISMISSED,
    DOUBTED,
    FINALIZER,
    SUCCESSOR,
    SUPERSEDED,
)
from envprov.domain.errors import NameTaken
from envprov.domain.names import slug
from envprov.domain.objects import MANAGED_BY, MANAGER, PROJECT
from envprov.domain.trail import Trail

RECORDER = "envprov-record"
OPTIONS = "envprov-options"
CONTROLLER = "envprov-controller"

Manifest = dict[str, Any]


def new_record(namespace: str, project: str, branch: str, *, revision: str, trail: Trail) -> Manifest:
    """
    A record that is not there yet, for a POST: server-side apply cannot say "only if absent".

    The finalizer is there from the first moment. A record that is deleted before the controller has seen it would
    vanish without a tombstone otherwise, and a late creation would bring the branch back.
    """
    body = _record(namespace, project, branch, revision=revision, trail=trail)
    body["metadata"]["finalizers"] = [FINALIZER]
    return body


@dataclass(frozen=True)
class Notes:
    """
    What a record says beside revision and trail.

    Attributes:
        successor: Revision of the environment that comes after it, or None.
        doubt: See :func:`envprov.domain.deliveries.doubt_after`.
        dismissed: See :func:`envprov.domain.deliveries.dismissed_after`.

    """

    successor: str | None = None
    doubt: str = ""
    dismissed: str = ""

    def annotations(self) -> dict[str, str]:
        """In the record's own form."""
        marks = {} if self.successor is None else {SUCCESSOR: self.successor}
        given = {DOUBTED: self.doubt, DISMISSED: self.dismissed}
        return marks | {name: value for name, value in given.items() if value}


def changed_record(live: Mapping[str, Any], revision: str, trail: Trail, notes: Notes) -> Manifest:
    """
    Everything that RECORDER says of an object, for a server-side apply that holds only for what was read.

    Args:
        live: The object as it was read; its UID and resourceVersion become preconditions.
        revision: Commit that is asked for.
        trail: What is remembered.
        notes: What else it says.

    """
    metadata, spec = live["metadata"], live["spec"]
    body = _record(metadata["namespace"], spec["project"], spec["branch"], revision=revision, trail=trail)
    body["metadata"] |= {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    body["metadata"]["annotations"] |= notes.annotations()
    return body


def known_of(live: Mapping[str, Any]) -> Present | Terminating:
    """What a record says, however it came to be."""
    marks = live["metadata"].get("annotations", {})
    revision = live["spec"].get("revision", "")
    trail = Trail.decode(marks.get(SUPERSEDED, ""))
    if "deletionTimestamp" in live["metadata"]:
        return Terminating(revision, trail, marks.get(SUCCESSOR))
    return Present(revision, trail)


def notes_of(live: Mapping[str, Any]) -> Notes:
    """What a record says beside revision and trail."""
    marks = live["metadata"].get("annotations", {})
    return Notes(marks.get(SUCCESSOR), str(marks.get(DOUBTED, "")), str(marks.get(DISMISSED, "")))


def owed_by(live: Mapping[str, Any]) -> tuple[Trail, str | None]:
    """What has to outlive a record that is being torn down: its trail, and the revision of its successor."""
    known: Known = known_of(live)
    return known_trail(known), known.successor if isinstance(known, Terminating) else None


def check_name(live: Mapping[str, Any], project: str, branch: str) -> None:
    """
    Refuse a record that belongs to another branch.

    Args:
        live: The object that has the name.
        project: Project that asks for the name.
        branch: Branch that asks for it.

    Raises:
        NameTaken: Names both branches.

    """
    spec = live["spec"]
    if (spec["project"], spec["branch"]) != (project, branch):
        raise NameTaken(
            f"Environment {live['metadata']['name']} is of branch {spec['branch']!r} in Project {spec['project']}; "
            f"branch {branch!r} in Project {project} needs the same name: rename one of the two branches"
        )


def _record(namespace: str, project: str, branch: str, *, revision: str, trail: Trail) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": "Environment",
        "metadata": {
            "name": slug(project, branch),
            "namespace": namespace,
            "labels": {MANAGED_BY: MANAGER, PROJECT: project},
            "annotations": {BRANCH: branch, SUPERSEDED: trail.encode()},
        },
        "spec": {"project": project, "branch": branch, "revision": revision},
    }
