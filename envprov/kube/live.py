"""Live objects of any kind, each read by its name: what a manifest speaks of, wherever the API server serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from envprov.domain.errors import EnvprovError, Unavailable
from envprov.domain.findings import Subject
from envprov.domain.loose import mapping, mappings, text
from envprov.kube.client import KubeClient, Object
from envprov.kube.resources import Resource, lookup

T = TypeVar("T")

AT_ONCE = 16
"""Requests in the air; the API server gives each user a share of what it can do."""

Kind = tuple[str, str]
"""``apiVersion`` and kind."""


@dataclass(frozen=True)
class Unread:
    """
    That something could not be read: nothing is known of it, least of all that it is not there.

    Attributes:
        message: Why, in the API server's own words where it has some.

    """

    message: str


async def find_resources(client: KubeClient, kinds: Iterable[Kind]) -> dict[Kind, Resource | Unread]:
    """
    Find where kinds are served: built-in ones without a request, others with one for each group and version.

    Args:
        client: Whom to ask; everybody who is authenticated may.
        kinds: Any kinds.

    """
    wanted = frozenset(kinds)
    found: dict[Kind, Resource | Unread] = {}
    for kind in wanted:
        try:
            found[kind] = lookup(*kind)
        except LookupError:
            continue
    versions = sorted({api_version for api_version, _ in wanted - found.keys()})
    served = dict(zip(versions, await _together(_served(client, version) for version in versions), strict=True))
    for kind in wanted - found.keys():
        there = served[kind[0]]
        missing = Unread(f"the API server serves no {kind[1]} in {kind[0] or 'a version without a name'}")
        found[kind] = there if isinstance(there, Unread) else there.get(kind[1], missing)
    return found


async def read_objects(
    client: KubeClient, subjects: Iterable[Subject], resources: Mapping[Kind, Resource | Unread]
) -> dict[Subject, Object | Unread | None]:
    """
    Read objects as they are live, with who wrote their fields.

    Args:
        client: With whose rights they are read.
        subjects: Which objects.
        resources: Where their kinds are served.

    Returns:
        Each as the last write left it; None for one that is not there.

    Raises:
        Unavailable: The API server answers nothing at all.

    """
    wanted = list(dict.fromkeys(subjects))
    silent: list[Unavailable] = []

    async def read(subject: Subject) -> Object | Unread | None:
        resource = resources[subject.api_version, subject.kind]
        if isinstance(resource, Unread):
            return resource
        try:
            return await client.get(resource, subject.name, subject.namespace if resource.namespaced else None)
        except Unavailable as error:
            silent.append(error)
            return Unread(str(error))
        except EnvprovError as error:
            return Unread(str(error))
        except ValueError as error:
            return Unread(f"it has no name that an object can have: {error}")

    found = dict(zip(wanted, await _together(read(subject) for subject in wanted), strict=True))
    if silent and len(silent) == len(wanted):
        raise silent[0]
    return found


async def _served(client: KubeClient, api_version: str) -> dict[str, Resource] | Unread:
    parts = api_version.split("/")
    if not all(part.replace("-", "").replace(".", "").isalnum() and part.strip(".") for part in parts):
        return Unread(f"{api_version!r} is no version of an API")
    try:
        answer = await client.get_raw(f"/{'apis' if len(parts) > 1 else 'api'}/{api_version}")
    except EnvprovError as error:
        return Unread(str(error))
    return {
        text(entry.get("kind")): Resource(
            api_version, text(entry.get("kind")), text(entry.get("name")), namespaced=entry.get("namespaced") is True
        )
        for entry in mappings(mapping(answer).get("resources"))
        if "/" not in text(entry.get("name"))
    }


async def _together(work: Iterable[Awaitable[T]]) -> list[T]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(awaitable: Awaitable[T]) -> T:
        async with room:
            return await awaitable

    return list(await asyncio.gather(*(one(awaitable) for awaitable in work)))
