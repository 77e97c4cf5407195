"""A branch's record as the API server would keep it, without one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from envprov.domain.deliveries import (
    Absent,
    Advance,
    Create,
    Decision,
    Delete,
    Doubt,
    Ignore,
    Known,
    News,
    Present,
    Remember,
    Succeed,
    Terminating,
    decide,
    known_trail,
)


@dataclass
class BranchWorld:
    """The record as the API server would keep it, and a controller that finishes teardowns."""

    known: Known = field(default_factory=Absent)

    def deliver(self, news: News) -> Decision:
        decision = decide(self.known, news)
        self.known = self._after(decision)
        return decision

    def finish_teardown(self) -> None:
        """Retire what is terminating, and revive its successor."""
        if isinstance(self.known, Terminating):
            path, successor = known_trail(self.known), self.known.successor
            self.known = Absent(path) if successor is None else Present(successor, path)

    @property
    def revision(self) -> str | None:
        """What is there, or will be when the teardown is over; None for nothing."""
        match self.known:
            case Present(revision):
                return revision
            case Terminating(successor=successor):
                return successor
            case Absent():
                return None

    def _after(self, decision: Decision) -> Known:
        match decision, self.known:
            case (Create(revision, path), Absent()) | (Advance(revision, path), Present()):
                after: Known = Present(revision, path)
            case Delete(path), Present(revision):
                after = Terminating(revision, path)
            case Succeed(successor, path), Terminating(revision):
                after = Terminating(revision, path, successor)
            case ((Remember(path) | Doubt(trail=path)), Present() | Terminating() as known):
                after = replace(known, trail=path)
            case ((Remember(path) | Succeed(None, path)), Absent()):
                after = Absent(path)
            case Ignore(), known:
                after = known
            case impossible:
                raise AssertionError(impossible)
        return after
