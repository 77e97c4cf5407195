"""What the parts of the client share: the transport, the pager, and what a call takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from envprov.domain.errors import ForgeUnreliable
from envprov.domain.forge import ProjectRef
from envprov.gitlab.paging import Pager
from envprov.gitlab.transport import Request, Transport, segment

READS = "scope read_api (or api) and role Reporter"
WRITES = "scope api and role Developer"
MAINTAINS = "scope api and role Maintainer"
GONE = frozenset({"404 Not found", "404 Not Found"})
"""What GitLab says of a record that it does not have, and that has no name of its own in its messages."""

T = TypeVar("T")
Json = Mapping[str, Any]


class Asking:
    """
    A part of the client.

    Args:
        transport: Sends the requests.

    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._pager = Pager(transport)

    async def _one(self, request: Request, parse: Callable[[Json], T]) -> T:
        found = await self._maybe(request, parse)
        if found is None:
            raise ForgeUnreliable(f"{request.doing}: nothing came")
        return found

    async def _maybe(self, request: Request, parse: Callable[[Json], T]) -> T | None:
        given = await self._transport.json(request)
        if given is None:
            return None
        try:
            return parse(given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ForgeUnreliable(f"{request.doing}: the answer cannot be understood") from error


def project_path(ref: ProjectRef, *segments: str | int) -> str:
    """
    Quote the path of something in a project.

    Args:
        ref: The project.
        segments: Names and numbers below it.

    """
    return "/projects/" + "/".join(segment(part) for part in (ref, *segments))
