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
from envprov.domain.holds import Account, Hold, read_holds
from envprov.domain.hosts import Reservation, left_over
from envprov.domain.lifetime import Lived
from envprov.domain.names import namespace_of, slug
from envprov.domain.objects import OWNER, PROJECT
from envprov.domain.report import end_of
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


def expired(environment: Environment, lived: Lived, now: datetime) -> Found | None:
    """
    An environment whose lifetime has ended, and that nobody has pinned or ended yet.

    Args:
        environment: The record.
        lived: How long it is to live.
        now: Aware moment.

    Returns:
        What the controller would decide: an extension or a push that it has not seen yet, for it may be down, counts
        here too.

    """
    ends = end_of(environment, lived)
    if ends is None or ends > now or environment.spec.pinned or environment.deleting:
        return None
    evidence = f"branch {environment.spec.branch}; its lifetime ended at {_moment(ends)}"
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
    """A Helm release that has been in the middle of something for too long; one that sleeps is unlocked as it wakes."""
    release, deployed = environment.status.release, environment.status.condition(Type.DEPLOYED)
    if release is None or deployed is None or environment.deleting or environment.spec.asleep:
        return None
    since = deployed.last_transition_time
    state = release.status or ""
    if not is_unfinished(state) or now - since < STUCK_AFTER:
        return None
    evidence = f"branch {environment.spec.branch}; Helm says {state}: {deployed.message}"
    return Found(f"release {release.name}", Why.RELEASE_STUCK, since, evidence)


def is_unfinished(state: str) -> bool:
    """Whether a release is in the middle of something, in Helm's word for its state."""
    return state.startswith("pending-") or state == "uninstalling"


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


@dataclass(frozen=True)
class OrphanHold:
    """
    A hold of an environment that is gone.

    Attributes:
        found: What is said of it.
        account: What is held; without a name if only the Namespace is.
        key: Annotation key of the hold.

    """

    found: Found
    account: Account
    key: str


def holders_gone(
    namespaces: Iterable[Manifest], accounts: Iterable[Manifest], live: Collection[str], *, control_namespace: str
) -> tuple[OrphanHold, ...]:
    """
    Holds of environments of ours that are gone, on whatever they are.

    Args:
        namespaces: All of the cluster; metadata is enough.
        accounts: All ServiceAccounts, likewise; both read before *live*, since who holds is on record before.
        live: UIDs of our Environments.
        control_namespace: Where those are. Holds of others are for their own cleanup.

    Returns:
        One for each ServiceAccount; and one for a Namespace that is held without any ServiceAccount in it being so.

    """
    found: list[OrphanHold] = []
    inside: set[tuple[str, str]] = set()
    for item in accounts:
        account = Account(item["metadata"]["namespace"], item["metadata"]["name"])
        holds = read_holds(item)
        inside |= {(account.namespace, hold.key) for hold in holds}
        what = f"hold on ServiceAccount {account}"
        found += [
            OrphanHold(_ownerless(what, hold), account, hold.key) for hold in _dead(holds, live, control_namespace)
        ]
    for item in namespaces:
        name = item["metadata"]["name"]
        dead = _dead(read_holds(item), live, control_namespace)
        left = [hold for hold in dead if (name, hold.key) not in inside]
        found += [
            OrphanHold(_ownerless(f"hold on Namespace {name}", hold), Account(name, ""), hold.key) for hold in left
        ]
    return tuple(found)


def _dead(holds: Iterable[Hold], live: Collection[str], control_namespace: str) -> tuple[Hold, ...]:
    return tuple(
        hold
        for hold in holds
        if (hold.holder.kind, hold.holder.namespace) == (ENVIRONMENT, control_namespace)
        and hold.holder.uid
        and hold.holder.uid not in live
    )


def _ownerless(what: str, hold: Hold) -> Found:
    return Found(what, Why.HOLDER_GONE, hold.since, f"{hold.holder} with UID {hold.holder.uid} is not there")


def hosts_left_over(
    reservations: Iterable[Reservation], live: Iterable[tuple[str, str]]
) -> tuple[tuple[Reservation, Found], ...]:
    """
    Reserved hosts whose environment is gone.

    Args:
        reservations: Read before *live*: who reserves something is on record before.
        live: Name and UID of all Environments of the control namespace.

    """
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
