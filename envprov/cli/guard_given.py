"""What people give the commands of the guard, checked before anything is asked of a cluster."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Final

from envprov.cli.plain import clean
from envprov.domain.errors import ConfigError
from envprov.domain.holds import DECLARED, VALUE_LIMIT_BYTES, Account, Hold, Holder
from envprov.domain.lifetime import parse_span

WHO_LIMIT: Final = 100
WHY_LIMIT: Final = 200
TTL_LIMIT: Final = timedelta(days=3650)

_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_SUBDOMAIN_LIMIT = 253


def parse_account(text: str) -> Account:
    """
    A ServiceAccount as ``NAMESPACE/NAME``.

    Args:
        text: As it was written.

    Raises:
        ConfigError: Kubernetes could have none of that name.

    """
    namespace, slash, name = text.partition("/")
    if not slash:
        raise ConfigError(f"{_shown(text)}: must be NAMESPACE/NAME of a ServiceAccount")
    if len(name) > _SUBDOMAIN_LIMIT or not _SUBDOMAIN.fullmatch(name):
        raise ConfigError(f"{_shown(name)} is no name of a ServiceAccount: a-z, 0-9, - and ., at most 253")
    return Account(parse_namespace(namespace), name)


def parse_namespace(text: str) -> str:
    """
    The name of a Namespace.

    Args:
        text: As it was written.

    Raises:
        ConfigError: Kubernetes could have none of that name.

    """
    if not _LABEL.fullmatch(text):
        raise ConfigError(f"{_shown(text)} is no name of a Namespace: a-z, 0-9 and -, at most 63")
    return text


def parse_who(text: str) -> str:
    """
    The name of a holder.

    Args:
        text: As it was written.

    Raises:
        ConfigError: It is empty, too long, or could not be shown.

    """
    who = _one_line("--by", text, WHO_LIMIT)
    if not who:
        raise ConfigError("--by: must say who; it is empty")
    return who


def parse_ttl(text: str) -> timedelta:
    """
    For how long a hold is declared: ``30d``, ``12h``, ``1w3d``.

    Args:
        text: As it was written.

    Raises:
        ConfigError: It is none, none above zero, or above ten years.

    """
    ttl = parse_span(text)
    if ttl is None:
        raise ConfigError(f"--ttl {_shown(text)}: must be a time above zero such as 30d, 12h or 1w3d")
    if ttl > TTL_LIMIT:
        raise ConfigError(f"--ttl {_shown(text)}: at most 10 years, which are {TTL_LIMIT.days}d; a hold can be renewed")
    return ttl


def declared(by: str, reason: str, ttl: str, now: datetime) -> Hold:
    """
    The hold that somebody declares.

    Args:
        by: Who, as it was written.
        reason: What for, as it was written; may be empty.
        ttl: For how long, as it was written.
        now: Aware.

    Raises:
        ConfigError: One of them is wrong, or together they are longer than a hold may be.

    """
    who, why = parse_who(by), _one_line("--reason", reason, WHY_LIMIT)
    hold = Hold(Holder(DECLARED, "", who), now, why, expires=now + parse_ttl(ttl))
    written = hold.value()
    # Where there is no room the reason would be cut short, and nobody told.
    if len(written.encode()) > VALUE_LIMIT_BYTES or json.loads(written).get("why", "") != why:
        raise ConfigError(
            f"--by and --reason are too long together: a hold has {VALUE_LIMIT_BYTES} bytes, in which a letter outside "
            "ASCII takes 2 to 4"
        )
    return hold


def _one_line(option: str, text: str, limit: int) -> str:
    given = text.strip()
    if not given.isprintable():
        raise ConfigError(f"{option} {_shown(given)}: must be one line of letters that can be shown")
    if len(given) > limit:
        raise ConfigError(f"{option}: at most {limit} characters; these are {len(given)}")
    return given


def _shown(text: str) -> str:
    return f"{clean(text[:_SUBDOMAIN_LIMIT])!r}"
