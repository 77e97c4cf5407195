"""What a cleanup finds, decided without I/O: each with why, since when, and what shows it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Any

from envprov.domain.environment import BRANCH, Environment, Type
from envprov.domain.guard import ENVIRONMENT
from envprov.domain.holds import Hold
from envprov.domain.hosts import Reservation, left_over
from envprov.domain.names import namespace_of, slug
from envprov.domain.objects import OWNER, PROJECT
from envprov.domain.sweep import BRAKE_COUNT

Manifest = Mapping[str, Any]

STUCK_AFTER = timedelta(minutes=30)
"""A release that Helm is still at work on has been given up by whoever began it: Helm's own limit is shorter."""


class Why(StrEnum):
    """Why something is to be cleaned up."""

    EXPIRED = "Expired"
    BRANCH_GONE = "BranchGone"
    PROJECT_GONE = "ProjectGone"
    NO_RECORD = "NoRecord"
    TOO_OLD = "TooOld"
    RELEASE_STUCK = "ReleaseStuck"
    HOLDER_GONE = "HolderGone"
    NO_ENVIRONMENT = "NoEnvironment"


@dataclass(frozen=True)
class Found:
    """
    One thing to clean up.

    Attributes:
        what: Kind and name.
        why: Why.
        since: When it became so; aware.
        evidence: What shows it.

    """

    what: str
    why: Why
    since: datetime
    evidence: str


@dataclass(frozen=True)
class Orphan:
    """
    The namespace of an environment whose record is gone.

    Attributes:
        found: What is said of it.
        project: Name of its Project; "" if it does not say one that fits its name.
        branch: Its branch; likewise.

    """

    found: Found
    project: str
    branch: str


def expired(environment: Environment, now: datetime) -> Found | None:
    """An environment whose lifetime has ended, and that nobody has pinned or ended yet."""
    ends = environment.status.expires_at
    if ends is None or ends > now or environment.spec.pinned or environment.deleting:
        return None
    evidence = f"branch {environment.spec.branch}; status.expiresAt {_moment(ends)}"
    return Found(f"Environment {environment.name}", Why.EXPIRED, ends, evidence)


def without_project(
    environments: Sequence[Environment], projects: Collection[str], *, now: datetime, grace: timedelta, share: Fraction
) -> tuple[tuple[tuple[Environment, Found], ...], tuple[str, ...]]:
    """
    Environments whose Project is gone.

    Args:
        environments: All of the control namespace.
        projects: Names of the Projects that are there.
        now: Aware moment.
        grace: How long a Project must be away: one that is put back at once was replaced, not removed.
        share: How many may go without a person's word; ``BRAKE_COUNT`` always may.

    Returns:
        What is to go, and the Projects of which too much would.

    """
    found: dict[str, list[tuple[Environment, Found]]] = {}
    for environment in environments:
        project, since = environment.spec.project, _unaccepted_since(environment)
        if project in projects or environment.deleting or now - since < grace:
            continue
        evidence = f"branch {environment.spec.branch}; there is no Project {project}"
        one = Found(f"Environment {environment.name}", Why.PROJECT_GONE, since, evidence)
        found.setdefault(project, []).append((environment, one))
    much = max(BRAKE_COUNT, int(share * len(environments)))
    braked = tuple(sorted(project for project, gone in found.items() if len(gone) > much))
    return tuple(one for project, gone in sorted(found.items()) for one in gone), braked


def release_stuck(environment: Environment, now: datetime) -> Found | None:
    """A Helm release that has been in the middle of something for too long."""
    release, deployed = environment.status.release, environment.status.condition(Type.DEPLOYED)
    if release is None or deployed is None or environment.deleting:
        return None
    since = deployed.last_transition_time
    state = release.status or ""
    if not (state.startswith("pending-") or state == "uninstalling") or now - since < STUCK_AFTER:
        return None
    evidence = f"branch {environment.spec.branch}; Helm says {state}: {deployed.message}"
    return Found(f"release {release.name}", Why.RELEASE_STUCK, since, evidence)


def orphaned(
    namespaces: Iterable[Manifest], known: Collection[str], *, control_namespace: str, now: datetime, grace: timedelta
) -> tuple[Orphan, ...]:
    """
    Namespaces of environments of ours whose record is gone.

    Args:
        namespaces: With the guard's label; metadata is enough. Read before *known*: a record that is made in between
            has its namespace later than itself.
        known: Names of the Environments that are there.
        control_namespace: Where those are.
        now: Aware moment.
        grace: Least age of a namespace that counts.

    """
    found = []
    for item in namespaces:
        metadata = item["metadata"]
        notes, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
        where, _, name = str(notes.get(OWNER, "")).partition("/")
        born = datetime.fromisoformat(metadata["creationTimestamp"])
        if where != control_namespace or not name or name in known or now - born < grace:
            continue
        if "deletionTimestamp" in metadata:
            continue
        project, branch = str(labels.get(PROJECT, "")), str(notes.get(BRANCH, ""))
        fits = bool(project and branch) and slug(project, branch) == name and metadata["name"] == namespace_of(name)
        evidence = f"branch {branch or 'unknown'}; its owner {where}/{name} is not there"
        one = Found(f"Namespace {metadata['name']}", Why.NO_RECORD, born, evidence)
        found.append(Orphan(one, project if fits else "", branch if fits else ""))
    return tuple(found)


def holders_gone(account: str, holds: Iterable[Hold], live: Collection[str]) -> tuple[Found, ...]:
    """
    Holds of environments that are gone.

    Args:
        account: Namespace and name of the ServiceAccount.
        holds: On it.
        live: UIDs of all Environments of the cluster.

    """
    return tuple(
        Found(
            f"hold on ServiceAccount {account}",
            Why.HOLDER_GONE,
            hold.since,
            f"{hold.holder} with UID {hold.holder.uid} is not there",
        )
        for hold in holds
        if hold.holder.kind == ENVIRONMENT and hold.holder.uid not in live
    )


def hosts_left_over(
    reservations: Iterable[Reservation], environments: Iterable[Environment]
) -> tuple[tuple[Reservation, Found], ...]:
    """
    Reserved hosts whose environment is gone.

    Args:
        reservations: Read before *environments*: who reserves something is on record before.
        environments: All of the control namespace.

    """
    live = [(environment.name, environment.uid) for environment in environments]
    return tuple((one, _unused(one)) for one in left_over(reservations, live))


def _unused(reservation: Reservation) -> Found:
    tenant = reservation.tenant
    evidence = f"branch {tenant.branch}; Environment {tenant.environment} with UID {tenant.uid} is not there"
    return Found(f"host {reservation.host}", Why.HOLDER_GONE, reservation.since, evidence)


def _unaccepted_since(environment: Environment) -> datetime:
    accepted = environment.status.condition(Type.ACCEPTED)
    if accepted is not None and accepted.status == "False":
        return accepted.last_transition_time
    return environment.created_at


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
