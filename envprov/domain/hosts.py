"""
Host names that only one environment may claim: how they are written, what overlaps, and who has reserved them.

A reservation is a Lease in the control namespace that is created and never taken over by an update. Equal hosts have
one Lease, so the API server lets one environment win. What else can overlap is a wildcard and a host below it: a
wildcard must be below the name of its own environment, so only somebody who uses another environment's name in a host
can meet it. ``docs/decisions.md`` says why no two can win then either.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b32encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from hashlib import sha256
from typing import Any

from envprov.domain.desired import Desired, Identity
from envprov.domain.environment import BRANCH
from envprov.domain.loose import mapping, moment, text
from envprov.domain.objects import ENVIRONMENT, PROJECT, labels

EVERYTHING = "*"
"""What is claimed by whoever names no host."""

RESERVATION = "envprov.io/host-reservation"
"""Label of the Leases by which hosts are reserved."""
HOST = "envprov.io/host"
DROPPED_BY = "envprov.io/dropped-by"
"""Annotation: digest of the chart and values with which the environment needs the host no more."""
UNSETTLED = "envprov.io/unsettled"
"""Annotation: whoever reserved it has not looked yet whether another environment's host may be above or below."""

REMEDY = (
    "claim another host, one with {slug} or the value envprov.slug in it is like no other branch's; or take the other "
    "environment down"
)

_LIMIT = 253
_READABLE = 60
_HASH = 26
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_PORT = re.compile(r":\d{1,5}$")
_UNREADABLE = re.compile(r"[^a-z0-9]+")
_SLUG = re.compile(r"(?=.{10,40}$)[a-z]([a-z0-9-]*[a-z0-9])?-[a-z2-7]{8}")


class HostState(Enum):
    """Whether a host can be had."""

    FREE = "Free"
    OURS = "Ours"
    TAKEN = "Taken"


@dataclass(frozen=True)
class Tenant:
    """
    The environment that has a host.

    Attributes:
        environment: Its name.
        uid: UID of the Environment: one that is made anew is another one.
        project: Name of its Project.
        branch: Its branch.

    """

    environment: str
    uid: str
    project: str
    branch: str

    def __str__(self) -> str:
        return f"branch {self.branch} of Project {self.project} (Environment {self.environment})"

    @property
    def key(self) -> str:
        """What a Lease names as its holder."""
        return f"{self.environment}/{self.uid}"


@dataclass(frozen=True)
class Reservation:
    """
    A Lease by which a host is reserved.

    Attributes:
        host: As it was normalised.
        tenant: By whom.
        namespace: Of the Lease.
        name: Of the Lease.
        uid: Of the Lease.
        resource_version: As it was read.
        since: When it was made.
        dropped_by: See ``DROPPED_BY``; empty while it is needed.
        is_settled: Whether nobody else's host can be above or below it, or that was looked at.

    """

    host: str
    tenant: Tenant
    namespace: str
    name: str
    uid: str
    resource_version: str
    since: datetime
    dropped_by: str = ""
    is_settled: bool = True


@dataclass(frozen=True)
class HostSeen:
    """
    A host that is wanted, as it was seen.

    Attributes:
        state: Whether it can be had.
        by: Who has it, as a part of a sentence; empty unless it is taken.

    """

    state: HostState
    by: str = ""


def normalised(written: str) -> str | None:
    """
    A host as every controller understands it.

    Args:
        written: As it stands in a manifest, perhaps with a port, a final dot, capitals or non-ASCII letters.

    Returns:
        Lower-case ASCII without port and final dot; ``*`` for what names no host; None if it is no host name. A
        wildcard is its first label only.

    Source: https://www.rfc-editor.org/rfc/rfc1123#section-2.1

    """
    host = _PORT.sub("", written.strip()).removesuffix(".")
    if host in {"", EVERYTHING}:
        return EVERYTHING
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    host = host.lower()
    parts = host.removeprefix("*.").split(".")
    if len(host) > _LIMIT or not all(_LABEL.fullmatch(part) for part in parts) or _is_address(host):
        return None
    return host


def overlaps(one: str, other: str) -> bool:
    """Whether one request could be for either of two hosts; a wildcard stands for all that is below its parent."""
    return one == other or _covers(one, other) or _covers(other, one)


def bears(host: str, name: str) -> bool:
    """Whether a name is one of the labels of a host."""
    return name in host.split(".")


def neighbours(host: str, own: str) -> tuple[str, ...]:
    """
    Labels of a host that may be the names of other environments.

    Args:
        host: Normalised.
        own: Name of the environment that wants it.

    Returns:
        Those that look like a name of an environment; "shop-frontend" does, too.

    """
    return tuple(part for part in host.split(".") if part != own and _SLUG.fullmatch(part))


def is_too_wide(host: str, own: str) -> bool:
    """Whether a wildcard reaches beyond what bears the environment's own name."""
    return host.startswith("*.") and not bears(host, own)


def own_host(desired: Desired) -> str | None:
    """The host that the Project gives to the environment, if it gives one that can be reserved."""
    host = normalised(desired.host) if desired.host else None
    return None if host == EVERYTHING else host


def taken(hosts: Mapping[str, str]) -> str:
    """
    Say that hosts cannot be had.

    Args:
        hosts: Who has each.

    """
    return f"{'; '.join(taken_by(host, by) for host, by in sorted(hosts.items()))}; {REMEDY}"


def taken_by(host: str, by: str) -> str:
    """Say that a host cannot be had."""
    return f"host {host} is reserved by {by}"


def tenant_of(identity: Identity) -> Tenant:
    """An environment as one that has hosts."""
    return Tenant(identity.name, identity.uid, identity.project, identity.branch)


def lease_name(host: str) -> str:
    """
    Name of the Lease by which a host is reserved.

    Args:
        host: Normalised.

    Returns:
        RFC 1123 label of at most 63 characters. Two hosts share one only if 130 bits of SHA-256 collide.

    """
    suffix = b32encode(sha256(host.encode()).digest()).decode().lower()[:_HASH]
    words = _UNREADABLE.sub("-", host.replace("*", "any").lower())[: _READABLE - _HASH].strip("-")
    return "-".join(part for part in ("h", words, suffix) if part)


def lease(identity: Identity, host: str, now: datetime) -> dict[str, Any]:
    """
    The Lease by which an environment reserves a host. It does not run out: it is deleted.

    Args:
        identity: The environment.
        host: Normalised.
        now: Aware moment.

    """
    notes = {HOST: host, BRANCH: identity.branch}
    if host.startswith("*.") or neighbours(host, identity.name):
        notes[UNSETTLED] = "true"
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": lease_name(host),
            "namespace": identity.control_namespace,
            "labels": labels(identity) | {RESERVATION: "true"},
            "annotations": notes,
        },
        "spec": {
            "holderIdentity": tenant_of(identity).key,
            "acquireTime": f"{now:%Y-%m-%dT%H:%M:%S}.000000Z",
        },
    }


def read_reservation(manifest: Mapping[str, Any]) -> Reservation | None:
    """
    The reservation that a Lease is.

    Args:
        manifest: As the API server sent it.

    Returns:
        None if it is not one that envprov made.

    """
    metadata, spec = mapping(manifest.get("metadata")), mapping(manifest.get("spec"))
    notes, marks = mapping(metadata.get("annotations")), mapping(metadata.get("labels"))
    environment, _, uid = text(spec.get("holderIdentity")).partition("/")
    host, since = text(notes.get(HOST)), moment(metadata.get("creationTimestamp"))
    if (
        not (environment and uid and host and since)
        or marks.get(ENVIRONMENT) != environment
        or RESERVATION not in marks
    ):
        return None
    return Reservation(
        host=host,
        tenant=Tenant(environment, uid, text(marks.get(PROJECT)), text(notes.get(BRANCH))),
        namespace=text(metadata.get("namespace")),
        name=text(metadata.get("name")),
        uid=text(metadata.get("uid")),
        resource_version=text(metadata.get("resourceVersion")),
        since=since,
        dropped_by=text(notes.get(DROPPED_BY)),
        is_settled=UNSETTLED not in notes,
    )


def left_over(reservations: Iterable[Reservation], live: Iterable[tuple[str, str]]) -> tuple[Reservation, ...]:
    """
    Reservations of environments that are gone.

    Args:
        reservations: Read before *live*: who reserves something is on record before.
        live: Name and UID of each Environment of the control namespace.

    """
    there = set(live)
    return tuple(one for one in reservations if (one.tenant.environment, one.tenant.uid) not in there)


def _covers(wildcard: str, host: str) -> bool:
    return wildcard.startswith("*.") and host.endswith(wildcard[1:])


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
