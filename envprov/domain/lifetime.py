"""How long an environment lives, as a closed choice."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Protocol

from pydantic import AwareDatetime, BeforeValidator, Field, WithJsonSchema

from envprov.domain.errors import Forbidden
from envprov.domain.model import Model

_DURATION = (
    r"^P([0-9]{1,4}W"
    r"|[0-9]{1,5}D(T([0-9]{1,6}H([0-9]{1,6}M)?([0-9]{1,8}S)?|[0-9]{1,6}M([0-9]{1,8}S)?|[0-9]{1,8}S))?"
    r"|T([0-9]{1,6}H([0-9]{1,6}M)?([0-9]{1,8}S)?|[0-9]{1,6}M([0-9]{1,8}S)?|[0-9]{1,8}S))$"
)

_MOMENT = (
    r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)


_SPAN = re.compile(r"(?:(\d{1,4})w)?(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m)?", re.ASCII)


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


@dataclass(frozen=True, slots=True)
class Term:
    """
    How long an environment is to live.

    Attributes:
        lifetime: None for no end.
        longest: The longest time without activity if that was chosen, and not given by a rule; None for no limit.

    """

    lifetime: Lifetime | None
    longest: timedelta | None = None


class Lived(Protocol):
    """Whatever says how long an environment is to live: see Term."""

    @property
    def lifetime(self) -> Lifetime | None: ...  # noqa: D102 - above
    @property
    def longest(self) -> timedelta | None: ...  # noqa: D102


def noted_moment(text: str | None) -> datetime | None:
    """A moment that was noted on an object; None for none, for one without a time zone, and for one beyond reading."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo else None


def parse_span(text: str) -> timedelta | None:
    """
    A span as people write it: ``30d``, ``12h``, ``1w3d``.

    Args:
        text: As it was written.

    Returns:
        None if it is none, or none above zero.

    """
    matched = _SPAN.fullmatch(text)
    weeks, days, hours, minutes = (int(part or 0) for part in matched.groups()) if matched else (0, 0, 0, 0)
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes) or None


@dataclass(frozen=True, slots=True)
class Extension:
    """
    A person wants an environment for longer.

    Attributes:
        at: When it was said; that counts as activity.
        until: The environment lives at least until then.

    """

    at: datetime
    until: datetime

    def encode(self) -> str:
        """The form that stands in an annotation: two moments, in UTC, to the second."""
        return " ".join(moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (self.at, self.until))

    @classmethod
    def decode(cls, text: str) -> Extension | None:
        """What :meth:`encode` wrote; None for anything else."""
        parts = text.split(" ")
        if len(parts) != 2 or not all(re.fullmatch(_MOMENT, part) for part in parts):  # noqa: PLR2004 - at and until
            return None
        try:
            at, until = (datetime.fromisoformat(part) for part in parts)
        except ValueError:
            return None
        return cls(at, until)


def expiry(
    lifetime: Lifetime | None,
    *,
    last_activity: datetime,
    extension: Extension | None = None,
    maximum: timedelta | None = None,
) -> datetime | None:
    """
    When an environment ends by itself.

    Args:
        lifetime: How long it lives, or None for no end.
        last_activity: Last push, deployment or wake; aware.
        extension: The last one, if there was any.
        maximum: Longest time without activity that may be chosen; None if nobody has chosen, or without a limit.

    Returns:
        An aware moment, or None for never.

    """
    activity = max(last_activity, extension.at) if extension else last_activity
    match lifetime:
        case None | Keep():
            end = None
        case ExpireAfter(idle=idle):
            end = activity + idle
        case Until(at=at):
            end = at
    if maximum is not None:
        end = min(end or activity + maximum, activity + maximum)
    if end is None or extension is None:
        return end
    longest = extension.until if maximum is None else min(extension.until, extension.at + maximum)
    return max(end, longest)


def warning_at(lifetime: Lifetime | None, end: datetime | None) -> datetime | None:
    """When to warn of an end, or None for never."""
    warn = lifetime.warn if isinstance(lifetime, ExpireAfter | Until) else None
    return end - warn if end is not None and warn is not None else None


def extend(end: datetime, span: timedelta | None, *, now: datetime, maximum: timedelta | None) -> Extension:
    """
    An extension.

    Args:
        end: When the environment ends now.
        span: By how much longer from then, or from now if that has passed; None begins its lifetime anew.
        now: Aware moment.
        maximum: How far from now the end may be, or None.

    Raises:
        Forbidden: The end would be too far away; says how far it may be.

    """
    until = now if span is None else max(end, now) + span
    if maximum is not None and until > now + maximum:
        limit = (now + maximum).astimezone(UTC)
        raise Forbidden(
            f"the Project lets an environment be extended to {limit:%Y-%m-%dT%H:%M:%SZ} at most (limits.lifetime), and "
            f"this would be {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}; extend it by less, or again later"
        )
    return Extension(now, until)
