"""
The branch sweep: what is on record against what GitLab lists, decided without I/O.

Missing environments are made and stale ones updated at once. A branch that is not listed is only marked; it is gone
when a second complete listing, a grace time later, does not have it either, and GitLab says so when asked for that
one branch. Too many at once stop the sweep until a person agrees. docs/sweep.md is the reasoning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from envprov.domain.deliveries import Absent, Known, Present, Terminating, Wanted
from envprov.domain.forge import Branch, ForgeProject, MergeRequest, ProjectRef
from envprov.domain.names import branch_fault
from envprov.domain.project import Project
from envprov.domain.project_status import ProjectStatus

BRAKE_COUNT = 3
"""So many environments may always go in one sweep."""
SHOWN_LENGTH = 40
"""Characters of a name that is too long."""


@dataclass(frozen=True, slots=True)
class Seen:
    """
    What was on record of a branch before GitLab was asked.

    Attributes:
        environment: Name of the Environment.
        branch: Branch name in full.
        known: What is on record.
        uid: UID of the record; "" without one.
        absent_since: When a complete listing first did not have the branch, or None.
        doubt: What somebody should look into, or "".
        dismissed_at: Commit at which the environment went although the branch stayed, or None; "" any commit.

    """

    environment: str
    branch: str
    known: Known
    uid: str = ""
    absent_since: datetime | None = None
    doubt: str = ""
    dismissed_at: str | None = None


@dataclass(frozen=True, slots=True)
class Tracked:
    """
    A Project that comes from GitLab, as last seen.

    Attributes:
        project: Its rules.
        ref: Path or id in GitLab.
        uid: UID of the object.
        generation: Of its spec.
        status: As last reported.
        confirmed: Digest of the Environments that a person has agreed to lose; "" for none.
        urgent: Doubts about single branches, and requests for a sweep: each is worth one at once.

    """

    project: Project
    ref: ProjectRef
    uid: str
    generation: int
    status: ProjectStatus
    confirmed: str = ""
    urgent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Listing:
    """
    What GitLab said, completely and without an error.

    Attributes:
        began_at: Before the first page was asked for.
        branches: Commits by branch.
        wishes: Commits of those branches and merge requests that get an environment.

    """

    began_at: datetime
    branches: Mapping[str, str]
    wishes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sweep:
    """
    What one sweep does.

    Attributes:
        ask: Branches whose environment is missing or stale, with what is to be recorded.
        mark: Environments whose branch was not listed for the first time.
        clear: Environments whose branch is listed again.
        absent: Environments whose branch was not listed, for the first time or again.
        vanished: Those of them that have been away long enough; each still needs GitLab's word for it.
        forget: Environments that were dismissed and whose branch has gone since.

    """

    ask: tuple[tuple[Seen, Wanted], ...] = ()
    mark: tuple[Seen, ...] = ()
    clear: tuple[Seen, ...] = ()
    absent: tuple[Seen, ...] = ()
    vanished: tuple[Seen, ...] = ()
    forget: tuple[Seen, ...] = ()


@dataclass(frozen=True, slots=True)
class Brake:
    """
    How much one sweep may end.

    Attributes:
        share: Of the project's environments, 0 to 1; at most ``BRAKE_COUNT`` never brake.
        grace: Least time between the two listings that do not have a branch.

    """

    share: Fraction = Fraction(1, 5)
    grace: timedelta = timedelta(minutes=10)

    def stops(self, sweep: Sweep, seen: Iterable[Seen], confirmed: str) -> bool:
        """
        Whether a person must agree first.

        Args:
            sweep: What would be done. All that is absent counts, whenever that was noted: many do not go a few at a
                time.
            seen: All of the project.
            confirmed: Digest of what a person has agreed to.

        """
        there, absent = sum(isinstance(one.known, Present) for one in seen), len(sweep.absent)
        is_much = absent > BRAKE_COUNT and absent > self.share * there
        return bool(sweep.vanished) and is_much and digest_of(sweep.vanished) != confirmed


def fork_branch(iid: int) -> str:
    """Name under which a merge request from a fork has its environment; GitLab has a ref of that name."""
    return f"merge-requests/{iid}/head"


def is_fork_branch(branch: str) -> bool:
    """Whether a name is one of :func:`fork_branch`."""
    parts = branch.split("/")
    return len(parts) == 3 and parts[0] == "merge-requests" and parts[1].isdecimal() and parts[2] == "head"  # noqa: PLR2004 - the form above


def wishes(
    project: Project, gitlab: ForgeProject, branches: Iterable[Branch], merge_requests: Iterable[MergeRequest]
) -> dict[str, str]:
    """
    Which branches get an environment.

    Args:
        project: Its rules.
        gitlab: The project in GitLab.
        branches: All that it has.
        merge_requests: All that are open; needed only if a rule asks for them.

    Returns:
        Commit by branch; merge requests from forks under their own name.

    """
    heads = {branch.name: branch.commit for branch in branches if _name_fault(branch.name) is None}
    found = {name: commit for name, commit in heads.items() if project.wants(name)}
    for request in merge_requests:
        is_fork = request.source_project_id != gitlab.id
        name = fork_branch(request.iid) if is_fork else request.source_branch
        if not project.wants_merge_request(name, request.labels, draft=request.draft, fork=is_fork):
            continue
        if is_fork and request.sha:
            found[name] = request.sha
        elif not is_fork and name in heads:
            found[name] = heads[name]
    return found


def unserved(project: Project, branches: Iterable[str]) -> tuple[str, ...]:
    """Branches that a rule is for and that get no environment for their name, with the reason."""
    return tuple(
        f"{branch if len(branch) <= SHOWN_LENGTH else f'{branch[:SHOWN_LENGTH]}…'} {fault}"
        for branch in sorted(branches)
        if (fault := _name_fault(branch)) is not None and project.wants(branch)
    )


def needs_merge_requests(project: Project) -> bool:
    """Whether a rule of the Project asks for merge requests."""
    return any(rule.merge_request is not None for rule in project.spec.rules)


def compare(project: Project, seen: Iterable[Seen], listing: Listing, brake: Brake) -> Sweep:
    """
    What a sweep does.

    Args:
        project: Its rules.
        seen: What is on record of its branches, read before the listing began; tombstones too.
        listing: What GitLab said.
        brake: The grace time.

    Returns:
        What to do; what is right already is not in it.

    """
    known = {one.branch: one for one in seen}
    ask: list[tuple[Seen, Wanted]] = []
    for branch, commit in listing.wishes.items():
        one = known.get(branch) or Seen("", branch, Absent())
        if _asks(one, commit):
            ask.append((one, Wanted(commit, seen=one.known)))
    there = [one for one in known.values() if isinstance(one.known, Present)]
    # One at no commit was never seen in GitLab: a person asked for it ahead of the first push.
    gone = [one for one in there if _was_pushed(one) and is_gone(project, one.branch, listing)]
    away = {one.branch for one in gone}
    return Sweep(
        ask=tuple(ask),
        mark=tuple(one for one in gone if one.absent_since is None),
        absent=tuple(gone),
        clear=tuple(one for one in there if one.absent_since is not None and one.branch not in away),
        vanished=tuple(
            one for one in gone if one.absent_since is not None and listing.began_at - one.absent_since >= brake.grace
        ),
        forget=tuple(
            one
            for one in known.values()
            if isinstance(one.known, Absent)
            and one.dismissed_at is not None
            and one.branch not in listing.branches
            and one.branch not in listing.wishes
        ),
    )


def is_gone(project: Project, branch: str, listing: Listing) -> bool:
    """
    Whether GitLab gives no reason for an environment.

    Args:
        project: Its rules.
        branch: One that has an environment.
        listing: What GitLab said of all branches, or of this one.

    Returns:
        False for a branch that is there and that a rule has come to ignore: nobody has deleted it.

    """
    if branch in listing.wishes:
        return False
    return hangs_on_merge_request(project, branch) or branch not in listing.branches


def hangs_on_merge_request(project: Project, branch: str) -> bool:
    """Whether an environment is there for a merge request and not for its branch."""
    rule = project.rule_for(branch)
    return is_fork_branch(branch) or (rule is not None and rule.merge_request is not None)


@dataclass(frozen=True, slots=True)
class Halt:
    """
    Why a sweep does nothing.

    Attributes:
        reason: CamelCase word for the condition.
        message: In words, with the way out.

    """

    reason: str
    message: str


def halt_for(project: Project, gitlab: ForgeProject | None, known_id: int | None) -> Halt | None:
    """
    Why the branches that GitLab lists may not be the ones that the environments are of.

    Args:
        project: The Project.
        gitlab: What GitLab says of it; None if it knows none.
        known_id: Its numeric id as it was first seen, or None.

    """
    ref = project.spec.gitlab.project if project.spec.gitlab else ""
    if gitlab is None:
        return Halt(
            "ProjectMissing",
            f"GitLab knows no project {ref}, or does not show it to our token; nothing is deleted. Correct "
            "spec.gitlab.project, or give the token's user a role in it",
        )
    if known_id is not None and gitlab.id != known_id:
        return Halt(
            "ProjectReplaced",
            f"project {ref} has the id {gitlab.id} and had {known_id}: it was deleted and made again, or another one "
            "took its path; nothing is deleted. Delete this Project and add it again if that is meant",
        )
    if not str(ref).isdecimal() and gitlab.path.casefold() != str(ref).casefold():
        return Halt(
            "ProjectMoved",
            f"project {ref} is called {gitlab.path} now; nothing is deleted. Set spec.gitlab.project to {gitlab.path}",
        )
    if gitlab.archived:
        return Halt(
            "ProjectArchived", f"project {gitlab.path} is archived in GitLab; its environments stay as they are"
        )
    if gitlab.marked_for_deletion:
        return Halt(
            "ProjectMarkedForDeletion",
            f"project {gitlab.path} is marked for deletion in GitLab; its environments stay. `envprov down` ends them",
        )
    return None


def is_empty_by_surprise(seen: Iterable[Seen], listing: Listing) -> bool:
    """Whether GitLab listed nothing at all although there is something on record: nothing follows from that."""
    return not listing.branches and any(isinstance(one.known, Present) for one in seen)


def digest_of(vanished: Iterable[Seen]) -> str:
    """What a person agrees to, in one word; when the same branches vanish another time, it is another one."""
    lines = sorted(f"{one.environment} {one.absent_since}" for one in vanished)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _asks(seen: Seen, commit: str) -> bool:
    match seen.known:
        case Present(revision=revision):
            return revision != commit
        case Terminating(successor=None) | Absent():
            return seen.dismissed_at is None or seen.dismissed_at not in {"", commit}
        case Terminating(successor=successor):
            return successor != commit


def _name_fault(branch: str) -> str | None:
    return branch_fault(branch) or ("is called as a merge request from a fork is" if is_fork_branch(branch) else None)


def _was_pushed(seen: Seen) -> bool:
    return isinstance(seen.known, Present) and bool(seen.known.revision)
