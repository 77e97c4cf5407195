"""How long an environment lives, as a closed choice."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, WithJsonSchema

from envprov.domain.model import Model

_DURATION = (
    r"^P([0-9]{1,4}W"
    r"|[0-9]{1,5}D(T([0-9]{1,6}H([0-9]{1,6}M)?([0-9]{1,8}S)?|[0-9]{1,6}M([0-9]{1,8}S)?|[0-9]{1,8}S))?"
    r"|T([0-9]{1,6}H([0-9]{1,6}M)?([0-9]{1,8}S)?|[0-9]{1,6}M([0-9]{1,8}S)?|[0-9]{1,8}S))$"
)

_MOMENT = (
    r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)


def _in_words_of_the_api(value: object) -> object:
    """A duration of Python's, or one in the notation that the API server takes; pydantic reads many more."""
    if isinstance(value, timedelta) or (isinstance(value, str) and re.fullmatch(_DURATION, value)):
        return value
    raise ValueError("is not an ISO 8601 duration such as P7D or PT12H")


def _in_digits_of_the_api(value: object) -> object:
    """A moment of Python's, or one in the notation that the API server takes; pydantic reads many more."""
    if isinstance(value, datetime) or (isinstance(value, str) and re.fullmatch(_MOMENT, value)):
        return value
    raise ValueError("is not a moment with date, time and time zone such as 2026-12-24T18:00:00+09:00")


Duration = Annotated[
    timedelta,
    Field(gt=timedelta(0)),
    BeforeValidator(_in_words_of_the_api),
    # The format "duration" means Go's own notation to the API server, so rules say it.
    WithJsonSchema(
        {
            "type": "string",
            "pattern": _DURATION,
            "maxLength": 40,
            "x-kubernetes-validations": [
                {"rule": f"self.matches('{_DURATION}')", "message": "is not an ISO 8601 duration such as P7D or PT12H"},
                {"rule": "self.matches('[1-9]')", "message": "must be longer than nothing"},
            ],
        }
    ),
]
Timestamp = Annotated[
    AwareDatetime,
    BeforeValidator(_in_digits_of_the_api),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _MOMENT}),
]


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
