"""
What a delivery means, given what is on record: older deliveries never overrule newer ones.

GitLab promises no order, sends some events twice and loses others. ``decide`` is the one rule for the
receiver, the command line and the branch sweep; docs/deliveries.md is its table and its reasoning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from envprov.domain.trail import GONE, UNKNOWN, Trail


class Kind(StrEnum):
    """What happened to a branch."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class BranchEvent:
    """
    One delivery about one branch.

    Attributes:
        project_id: GitLab's numeric id of the project.
        project_path: Its path with namespace.
        branch: Branch name without ``refs/heads/``.
        before: Commit before, 40 or 64 hexadecimal digits, or "" if the branch was not there.
        after: Commit after, likewise. One of the two is given.
        key: GitLab's Idempotency-Key, the same for each try of one delivery.

    """

    project_id: int
    project_path: str
    branch: str
    before: str
    after: str
    key: str | None = None

    @property
    def kind(self) -> Kind:
        """What happened, told from which commits are there."""
        if self.after == GONE:
            return Kind.DELETED
        return Kind.CREATED if self.before == GONE else Kind.UPDATED


class Dismissal(StrEnum):
    """Why an environment is to go."""

    DOWN = "down"
    """A person said so."""
    EXPIRED = "expired"
    """Its lifetime has ended."""
    UNWANTED = "unwanted"
    """The branch is gone, or no rule wants it any more."""

    @property
    def outlasts_branch(self) -> bool:
        """Whether the branch may still be there, so that the sweep must not bring the environment back."""
        return self is not Dismissal.UNWANTED


@dataclass(frozen=True, slots=True)
class Absent:
    """
    No record of that name.

    Attributes:
        trail: What the tombstone remembers; empty without one.

    """

    trail: Trail = UNKNOWN


@dataclass(frozen=True, slots=True)
class Present:
    """
    The record is there.

    Attributes:
        revision: Commit that it asks for; "" when nobody said.
        trail: What it remembers.

    """

    revision: str
    trail: Trail = UNKNOWN


@dataclass(frozen=True, slots=True)
class Terminating:
    """
    The record is being torn down.

    Attributes:
        revision: Commit that it asked for.
        trail: What it remembers.
        successor: Revision of the environment that comes after it ("" for an unknown one), or None.

    """

    revision: str
    trail: Trail = UNKNOWN
    successor: str | None = None


Known = Absent | Present | Terminating


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    Somebody who has just looked wants the branch's environment: a person, the sweep, or a merge request.

    Attributes:
        revision: Commit that the branch is at, or "" if that was not asked.
        seen: What was on record before anybody looked; news of something else is late. None holds for anything.
        only_missing: Whether a record that is there stays as it is.

    """

    revision: str = ""
    seen: Known | None = None
    only_missing: bool = False


@dataclass(frozen=True, slots=True)
class Unwanted:
    """
    Somebody who may decide it wants the environment gone.

    Attributes:
        why: Why.
        seen: See Wanted.

    """

    why: Dismissal = Dismissal.DOWN
    seen: Known | None = None


@dataclass(frozen=True, slots=True)
class Questioned:
    """
    Somebody should look whether the environment is still wanted.

    Attributes:
        what: What gave rise to it: ``!12 is closed``.

    """

    what: str


News = BranchEvent | Wanted | Unwanted | Questioned


class Reason(StrEnum):
    """Why a delivery changes nothing."""

    DUPLICATE = "duplicate"
    """It says what is on record."""
    LATE = "late"
    """What it says has been overtaken."""
    GONE = "gone"
    """It deletes what is not there."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make the record."""

    revision: str
    trail: Trail


@dataclass(frozen=True, slots=True)
class Advance:
    """Ask for another revision."""

    revision: str
    trail: Trail


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete the record, which asks for the teardown; what it remembers comes first if that has grown."""

    trail: Trail


@dataclass(frozen=True, slots=True)
class Succeed:
    """Note on what is being torn down which revision comes after it ("" unknown), or None for nothing."""

    successor: str | None
    trail: Trail


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep a link of the past, so that later deliveries are understood. On record: a tombstone if there is none."""

    trail: Trail


@dataclass(frozen=True, slots=True)
class Doubt:
    """
    Not carried out, but noted for whoever can look.

    Attributes:
        what: Commit of a deletion at another commit than ours, or what else was questioned.
        trail: What is remembered.

    """

    what: str
    trail: Trail


@dataclass(frozen=True, slots=True)
class Ignore:
    """Change nothing."""

    reason: Reason


Decision = Create | Advance | Delete | Succeed | Remember | Doubt | Ignore


@dataclass(frozen=True, slots=True)
class Recorded:
    """
    What became of news.

    Attributes:
        environment: Name of the Environment.
        decision: What was decided last, and is on record now.

    """

    environment: str
    decision: Decision

    @property
    def outcome(self) -> str:
        """One word for logs and metrics: create, advance, delete, succeed, remember, doubt, duplicate, late, gone."""
        if isinstance(self.decision, Ignore):
            return self.decision.reason.value
        return type(self.decision).__name__.lower()


def decide(known: Known, news: News) -> Decision:
    """
    The one write that news leads to.

    Args:
        known: What is on record, read live.
        news: A delivery, or a decision of somebody who has looked.

    Returns:
        What to do. It holds only for exactly that *known*: when the write meets a conflict, read and decide again.

    """
    if isinstance(news, Questioned):
        return Doubt(news.what, known_trail(known)) if isinstance(known, Present) else Ignore(Reason.GONE)
    if isinstance(news, Wanted | Unwanted) and news.seen not in {None, known}:
        return Ignore(Reason.LATE)
    if isinstance(news, Wanted) and news.only_missing and isinstance(known, Present):
        return Ignore(Reason.DUPLICATE)
    trail = known_trail(known)
    after = _follow(trail, news)
    match known:
        case Present(revision=revision):
            return _for_present(revision, trail, after, news)
        case Terminating(successor=successor):
            return _for_terminating(successor, trail, after, news)
        case Absent():
            return _for_absent(trail, after, news)


def is_told_again(known: Known, news: News) -> bool:
    """
    Whether a deletion says just what one of an earlier life of the branch said, so that it may be that one once more.

    Args:
        known: What is on record.
        news: A delivery, or a decision of somebody who has looked.

    """
    is_deletion = isinstance(news, BranchEvent) and news.kind is Kind.DELETED
    return is_deletion and known_trail(known).has_ended_at(news.before)


def doubt_after(doubt: str, decision: Decision, news: News) -> str:
    """
    What somebody should look into, after a decision.

    Args:
        doubt: What is noted, or "".
        decision: What was decided.
        news: What it was decided about.

    Returns:
        See :class:`Doubt`; "" when there is nothing (more) to look into.

    """
    if isinstance(decision, Doubt):
        return decision.what
    if not isinstance(news, BranchEvent):
        is_overtaken = isinstance(decision, Ignore) and decision.reason is Reason.LATE
        return doubt if is_overtaken or isinstance(news, Questioned) else ""
    if isinstance(decision, Ignore):
        return doubt
    if isinstance(decision, Advance) and news.kind is Kind.DELETED:
        return news.before
    return "" if doubt in decision.trail.current else doubt


def dismissed_after(dismissed: str, decision: Decision, news: News) -> str:
    """
    Why an environment goes although its branch may stay, after a decision.

    Args:
        dismissed: A value of :class:`Dismissal` that is noted, or "".
        decision: What was decided.
        news: What it was decided about.

    Returns:
        The value, or "" for an environment that is to be there or whose branch is gone.

    """
    if isinstance(decision, Ignore | Remember | Doubt):
        return dismissed
    if isinstance(news, Unwanted) and news.why.outlasts_branch:
        return news.why.value
    return ""


def known_trail(known: Known) -> Trail:
    """
    The trail that a record stands for, also where a person has edited or deleted it by hand.

    Args:
        known: What is on record.

    """
    match known:
        case Absent(trail=trail):
            return trail
        case Present(revision=revision, trail=trail):
            agrees = revision == (trail.head or "") and trail.head != GONE
            return trail if agrees else trail.jumped(revision)
        case Terminating(revision=revision, trail=trail, successor=successor):
            if successor is not None or trail.head == GONE:
                return trail
            return known_trail(Present(revision, trail)).closed()


def _follow(trail: Trail, news: BranchEvent | Wanted | Unwanted) -> Trail:
    match news:
        case BranchEvent(before=before, after=after):
            return trail.follow(before, after)
        case Wanted(revision=""):
            return trail if trail.head not in {GONE, None} else trail.jumped("")
        case Wanted(revision=revision):
            return trail.jumped(revision)
        case Unwanted():
            return trail.buried()


def _for_present(revision: str, trail: Trail, after: Trail, news: News) -> Decision:
    if after.head == GONE:
        return Delete(after)
    if (after.head or "") != revision:
        return Advance(after.head or "", after)
    if after == trail:
        return _ignored(trail, news)
    if isinstance(news, BranchEvent) and news.kind is Kind.DELETED:
        return Doubt(news.before, after)
    return Remember(after)


def _for_terminating(successor: str | None, trail: Trail, after: Trail, news: News) -> Decision:
    owed = None if after.head == GONE else after.head or ""
    if owed != successor:
        return Succeed(owed, after)
    return _ignored(trail, news) if after == trail else Remember(after)


def _for_absent(trail: Trail, after: Trail, news: News) -> Decision:
    changed = after != trail
    if after.head != GONE and (changed or isinstance(news, Wanted)):
        return Create(after.head or "", after)
    return Remember(after) if changed and isinstance(news, BranchEvent) else _ignored(trail, news)


def _ignored(trail: Trail, news: News) -> Ignore:
    match news:
        case BranchEvent(after=after) if after not in {GONE, trail.head}:
            return Ignore(Reason.LATE)
        case BranchEvent(after="") if trail.head != GONE:
            return Ignore(Reason.LATE)
        case BranchEvent(after="") | Unwanted():
            return Ignore(Reason.GONE)
        case _:
            return Ignore(Reason.DUPLICATE)
