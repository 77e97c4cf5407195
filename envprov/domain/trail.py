"""
Where a branch has been, pieced together from deliveries that come in any order, twice, or not at all.

A push says "from this commit to that one": a link. Links that fit make a strand, links that do not yet
fit stand beside it until the link between them arrives. One strand is the current one; its last commit is
the head. ``GONE`` stands for "no such branch": a life of a branch begins and ends with it.

::

    0>a>b            created at a, pushed to b; the head is b
    0>a>b,c>d        then c>d came: something between b and c is missing or late; the head is d
    0>a>b>c>d        it was late: one strand again

Once all deliveries of a branch have arrived, in whatever order, all links are there and the head is exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

GONE = ""
LIMIT = 50
"""Commits that are remembered. A delivery that comes later than that many others may be taken for news."""

_MARK = "0"
_NODE = re.compile(r"0|[0-9a-f]{40}|[0-9a-f]{64}")

Strand = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trail:
    """
    The strands of one branch.

    Attributes:
        strands: Commits in the order of their links; the last strand is the current one. It is empty
            when the branch is wanted and nobody has said at which commit.

    """

    strands: tuple[Strand, ...] = ()

    @property
    def current(self) -> Strand:
        """The strand that ends in the head."""
        return self.strands[-1] if self.strands else ()

    @property
    def head(self) -> str | None:
        """Newest commit, GONE when the branch is no more, None when nobody has said."""
        return self.current[-1] if self.current else None

    def __contains__(self, commit: str) -> bool:
        return any(commit in strand for strand in self.strands)

    def has_ended_at(self, commit: str) -> bool:
        """Whether a life of the branch is known to have ended at a commit."""
        return (commit, GONE) in self._links()

    def follow(self, before: str, after: str) -> Trail:
        """
        What is known after one more delivery.

        Args:
            before: Commit before the push, or GONE for a branch that was created.
            after: Commit after it, or GONE for a branch that was deleted.

        Returns:
            The same trail if the delivery tells nothing new. A link that fits nowhere becomes the current
            strand if it is a push (the newest news, as far as anybody can tell), and a strand beside the
            current one if it is a deletion: that is never decided by a guess.

        """
        fits_head = before != GONE and before == self.head
        if before == after or (not fits_head and (before, after) in self._links()):
            return self
        left = self._ending_in(before)
        right = self._beginning_with(after)
        if right == left:  # b>..>a and a>b: the head has gone back
            right = None
        if left is None and right is None:
            return self._begin(before, after)
        return self._tie(left, right, before, after)

    def closed(self) -> Trail:
        """The trail of a branch that is no more."""
        return self if self.head == GONE else Trail((*self.strands[:-1], (*self.current, GONE)))

    def jumped(self, head: str) -> Trail:
        """
        The trail after somebody looked: the branch is at this commit now, all else is the past.

        Args:
            head: The commit, or "" if the branch is wanted and its commit is not known.

        """
        if head and head == self.head:
            return Trail((*map(_past, self.strands[:-1]), self.current))
        past = tuple(strand for strand in map(_past, self.strands) if strand)
        return Trail(_trimmed((*past, (head,) if head else ()))) if past or head else UNKNOWN

    def buried(self) -> Trail:
        """The trail after somebody decided that the branch is no more, whatever may still be on its way."""
        closed = self.closed()
        return Trail((*map(_past, closed.strands[:-1]), closed.current))

    def encode(self) -> str:
        """The form that stands in an annotation: strands by comma, commits by ``>``, GONE as 0."""
        return ",".join(">".join(commit or _MARK for commit in strand) for strand in self.strands)

    @classmethod
    def decode(cls, text: str) -> Trail:
        """What :meth:`encode` wrote; a text that it cannot have written is an empty trail."""
        strands = [tuple(part.split(">")) if part else () for part in text.split(",")] if text else []
        if not all(_NODE.fullmatch(commit) for strand in strands for commit in strand):
            return cls()
        return cls(tuple(tuple(GONE if commit == _MARK else commit for commit in strand) for strand in strands))

    def _links(self) -> set[tuple[str, str]]:
        return {link for strand in self.strands for link in pairwise(strand)}

    def _ending_in(self, commit: str) -> int | None:
        ends = [at for at, strand in enumerate(self.strands) if commit != GONE and strand and strand[-1] == commit]
        return ends[-1] if ends else None

    def _beginning_with(self, commit: str) -> int | None:
        starts = [at for at, strand in enumerate(self.strands) if commit != GONE and strand and strand[0] == commit]
        return starts[-1] if starts else None

    def _begin(self, before: str, after: str) -> Trail:
        if self._has_passed(before, after):
            return self
        is_current = after != GONE or not self.current
        return self._with((before, after), self.strands, is_current=is_current)

    def _has_passed(self, before: str, after: str) -> bool:
        """Whether the commit that the branch is said to have left, or reached, is known as an older one."""
        if after == GONE:
            return before in self
        if before == GONE and self.head == GONE:
            # A late creation would fit where its commit has no link before it; if all have one, this is a new life.
            return any(strand[0] == after or strand[:2] == (GONE, after) for strand in self.strands if strand)
        return after in self

    def _tie(self, left: int | None, right: int | None, before: str, after: str) -> Trail:
        start = self.strands[left] if left is not None else (before,)
        end = self.strands[right] if right is not None else (after,)
        rest = tuple(strand for at, strand in enumerate(self.strands) if at not in {left, right})
        has_grown = right is None and (after != GONE or not self.current)
        is_current = has_grown or len(self.strands) - 1 in {left, right}
        return self._with(start + end, rest, is_current=is_current)

    def _with(self, strand: Strand, rest: tuple[Strand, ...], *, is_current: bool) -> Trail:
        strands = (*filter(None, rest), strand) if is_current else (*rest[:-1], strand, rest[-1])
        return Trail(_trimmed(_settled(strands)))


UNKNOWN = Trail()
"""Nothing has been heard of the branch."""


def _settled(strands: tuple[Strand, ...]) -> tuple[Strand, ...]:
    """A life that is over from beginning to end leaves the head to the newest strand that has not ended."""
    if not strands[-1] or strands[-1][0] != GONE or strands[-1][-1] != GONE:
        return strands
    alive = [at for at, strand in enumerate(strands) if strand and strand[-1] != GONE]
    if not alive:
        return strands
    return (*strands[: alive[-1]], *strands[alive[-1] + 1 :], strands[alive[-1]])


def _trimmed(strands: tuple[Strand, ...]) -> tuple[Strand, ...]:
    """Forget the beginning of the longest strand: ends are what late links are tied to."""
    kept = list(strands)
    while sum(commit != GONE for strand in kept for commit in strand) > LIMIT:
        at = max(range(len(kept)), key=lambda index: len(kept[index]))
        kept[at] = kept[at][1:]
        if at < len(kept) - 1 and kept[at] in {(), (GONE,)}:
            del kept[at]
    return tuple(kept)


def _past(strand: Strand) -> Strand:
    """The strand as a life that is over, so that nothing is expected of it any more."""
    if not strand:
        return strand
    begun = strand if strand[0] == GONE else (GONE, *strand)
    return begun if begun[-1] == GONE else (*begun, GONE)
