"""What the budget means to one environment: admitted, told to enter, waiting, or too large for ever."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from envprov.domain.budget import Place, as_quantities
from envprov.domain.desired import Desired
from envprov.domain.environment import QueueStatus
from envprov.domain.ledger import Entry


@dataclass(frozen=True)
class Admitted:
    """
    The ledger has it as it ought to be, or nobody asks.

    Attributes:
        held: What the ledger has.

    """

    held: Entry | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Room:
    """
    It may enter the ledger.

    Attributes:
        entry: What it is to be given.
        asks: Whether that is decided once more when it is written; not for what is there already or becomes smaller.

    """

    entry: Entry
    asks: bool = True


@dataclass(frozen=True)
class Waiting:
    """
    There is no room for what it ought to be.

    Attributes:
        place: Where it stands in line.
        held: What it goes on with meanwhile; None for one that has nothing yet.

    """

    place: Place
    held: Entry | None = None


@dataclass(frozen=True)
class TooLarge:
    """
    It would not fit if it were alone.

    Attributes:
        reason: Why.
        held: What it goes on with; None for one that has nothing.

    """

    reason: str
    held: Entry | None = None


Admission = Admitted | Room | Waiting | TooLarge


def in_force(desired: Desired, admission: Admission) -> Desired:
    """What ought to be as far as there is room: with the old size while the new one waits."""
    match admission:
        case Waiting(held=Entry() as held) | TooLarge(held=Entry() as held):
            return replace(desired, size_name=held.size_name, size=held.size)
        case _:
            return desired


def reservation(desired: Desired, admission: Admission) -> str:
    """What is to be said of an environment that goes on while another size of it waits; "" for nothing."""
    match admission:
        case Waiting(held=Entry() as held, place=place):
            return f"size {desired.size_name} waits for room, {standing(place)}; {held.size_name} stays in force"
        case TooLarge(held=Entry() as held, reason=reason):
            return f"size {desired.size_name} {reason}; {held.size_name} stays in force"
        case _:
            return ""


def standing(place: Place) -> str:
    """Place and reason in words."""
    return f"place {place.position}: {place.reason}"


def queue_status(
    before: QueueStatus | None, desired: Desired, admission: Admission, now: datetime
) -> QueueStatus | None:
    """
    What is reported of the line.

    Args:
        before: What was reported last.
        desired: What ought to be.
        admission: What the budget says.
        now: Aware moment of the pass.

    Returns:
        None for an environment that does not wait. Nothing in it changes by mere waiting.

    """
    if not isinstance(admission, Waiting):
        return None
    place = admission.place
    first_since = before.first_since if before else None
    if first_since is None and place.position == 1:
        first_since = now
    return QueueStatus(
        position=place.position,
        reason=place.reason,
        budget=place.scope,
        size=desired.size_name,
        needs=as_quantities({name: value for name, value in place.claim.need.items() if value}),
        since=place.claim.since,
        first_since=first_since,
    )
