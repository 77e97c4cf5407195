"""How long an environment lives, as a closed choice."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, WithJsonSchema

from envprov.domain.model import Model

_DURATION = (
    r"^P([0-9]{1,4}W"
    r"|[0-9]{1,5}D(T([0-9]{1,6}H([0-9]{1,6}M)?([0-9]{1,8}S)?|[0-9]{1,6}M([0-9]{1,8}S)?|[0-9]{1,8}S))?"
    r"|T([0-9]{1,6}H([0-9]{1,6}M)?([0-9]{1,8}S)?|[0-9]{1,6}M([0-9]{1,8}S)?|[0-9]{1,8}S))$"
)

Duration = Annotated[
    timedelta,
    Field(gt=timedelta(0)),
    # The format "duration" means Go's own notation to the API server, so the pattern says it alone.
    WithJsonSchema({"type": "string", "pattern": _DURATION, "maxLength": 40}),
]
Timestamp = Annotated[AwareDatetime, WithJsonSchema({"type": "string", "format": "date-time"})]


class Keep(Model):
    """Lives until the branch goes or somebody deletes it."""

    kind: Literal["keep"]


class ExpireAfter(Model):
    """Ends when nothing was pushed, deployed or extended for a while."""

    kind: Literal["expire-after"]
    idle: Duration
    """How long without a push, a deployment or an extension, as an ISO 8601 duration: P7D is seven days, PT12H half a \
day."""
    warn: Duration | None = None
    """How long before the end a warning is given, as an ISO 8601 duration."""


class Until(Model):
    """Ends at a date, as a game event does."""

    kind: Literal["until"]
    at: Timestamp
    """The end, with time zone: 2026-12-24T18:00:00+09:00."""
    warn: Duration | None = None
    """How long before the end a warning is given, as an ISO 8601 duration."""


Lifetime = Annotated[Keep | ExpireAfter | Until, Field(discriminator="kind")]


def expiry(lifetime: Lifetime | None, *, last_activity: datetime) -> datetime | None:
    """
    When an environment ends by itself.

    Args:
        lifetime: The rule, or None for no end.
        last_activity: Last push, deployment, wake or extension; aware.

    Returns:
        An aware moment, or None for never.

    """
    match lifetime:
        case None | Keep():
            return None
        case ExpireAfter(idle=idle):
            return last_activity + idle
        case Until(at=at):
            return at
