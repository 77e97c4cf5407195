"""Hosts: what a chart claims outside its namespace, where another environment may claim the same."""

from __future__ import annotations

from collections.abc import Iterator

from envprov.domain.checking import Given
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.host_claims import Claim, Fault, claim, claims
from envprov.domain.hosts import REMEDY, is_too_wide, taken_by

HOST_TAKEN = Rule(
    "HostTaken",
    Severity.ERROR,
    "Two environments that claim one host would take turns in getting its requests. Each host is reserved before Helm "
    "runs, for one environment and until its end; a name with another environment's slug in it belongs to that one.",
    REMEDY,
)
CATCH_ALL_HOST = Rule(
    "CatchAllHost",
    Severity.ERROR,
    "What is claimed without a host, or for `*`, gets the requests of all hosts that nobody else claims, and those of "
    "other environments while they are not up.",
    'name a host, such as the value envprov.host; the Project says it: host: "{slug}.dev.example.com"',
)
WILDCARD_HOST = Rule(
    "WildcardHost",
    Severity.ERROR,
    "A wildcard takes every name below it, also those of other environments. Below a name with the environment's own "
    "slug in it, nobody else claims anything.",
    "put the slug into it: *.{slug}.dev.example.com; or list the hosts one by one",
)
INVALID_HOST = Rule(
    "InvalidHost",
    Severity.ERROR,
    "What is no DNS name, or a regular expression, cannot be reserved, so nobody could be kept from claiming the same.",
    "write a DNS name of lower-case letters, digits, dashes and dots; *. may stand in front",
)
RULES: tuple[Rule, ...] = (HOST_TAKEN, CATCH_ALL_HOST, WILDCARD_HOST, INVALID_HOST)


def hosts_can_be_reserved(given: Given) -> Iterator[Finding]:
    """Each host is one, reaches no further than the environment, and is nobody else's."""
    for one in _claims(given):
        finding = _judged(one, given)
        if finding is not None:
            yield finding


CHECKS = (hosts_can_be_reserved,)


def _claims(given: Given) -> Iterator[Claim]:
    if given.desired.host:
        yield claim(None, "", given.desired.host)
    yield from claims(given.items)


def _judged(one: Claim, given: Given) -> Finding | None:
    where = "" if one.subject else f" (host of Project {given.desired.identity.project})"
    match one.fault:
        case Fault.EVERYTHING:
            return CATCH_ALL_HOST.found(one.subject, one.field, f"claims the requests of every host{where}")
        case Fault.PATTERN:
            what = f"{one.written.removeprefix('~')!r} is a regular expression"
            return INVALID_HOST.found(one.subject, one.field, f"{what}, which cannot be reserved")
        case Fault.INVALID:
            return INVALID_HOST.found(one.subject, one.field, f"{one.written[:300]!r} is no host name{where}")
        case None:
            pass
    if is_too_wide(one.host, given.desired.identity.name):
        return WILDCARD_HOST.found(one.subject, one.field, f"{one.host} reaches into other environments{where}")
    by = given.facts.hosts.get(one.host)
    return None if by is None else HOST_TAKEN.found(one.subject, one.field, f"{taken_by(one.host, by)}{where}")
