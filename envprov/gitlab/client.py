"""
GitLab, as envprov knows it: one object with everything that is asked of it or told to it.

Nothing here retries or decides. Every method raises what ``gitlab.errors`` translates; after a 429 that names a time,
nothing is sent before it: calls wait if they may wait that long, and raise Throttled if not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from envprov.domain.forge import Me, TokenInfo
from envprov.gitlab import reading
from envprov.gitlab.asking import GONE, READS
from envprov.gitlab.connection import Connection
from envprov.gitlab.deployments import Deployments
from envprov.gitlab.hooks import Hooks
from envprov.gitlab.notes import Notes
from envprov.gitlab.repository import Repository
from envprov.gitlab.transport import Request, opened

__all__ = ["Connection", "GitLabClient"]


class GitLabClient(Repository, Deployments, Notes, Hooks):
    """One GitLab. Made by ``connect``; may be shared by all tasks of one event loop."""

    @classmethod
    @asynccontextmanager
    async def connect(cls, connection: Connection) -> AsyncIterator[Self]:
        """
        Open a client, and close it afterwards. Nothing is asked of GitLab yet.

        Args:
            connection: Where and how.

        Raises:
            ConfigError: URL, token or certificates cannot be used.

        """
        async with opened(connection) as transport:
            yield cls(transport)

    @property
    def server(self) -> str:
        """URL of GitLab."""
        return self._transport.server

    async def me(self) -> Me:
        """Whose token it is."""
        return await self._one(Request("ask who we are", "/user", needs="scope read_api (or api)"), reading.me)

    async def token(self) -> TokenInfo | None:
        """
        What our token may do, and until when.

        Returns:
            None if it is of a kind of which GitLab tells nothing.

        """
        request = Request("ask about our token", "/personal_access_tokens/self", needs=READS, absent=GONE)
        return await self._maybe(request, reading.token)

    async def version(self) -> str:
        """GitLab's version, such as ``18.4.1-ee``."""
        request = Request("ask for GitLab's version", "/version", needs="scope read_api (or api)")
        return await self._one(request, lambda given: str(given["version"]))
