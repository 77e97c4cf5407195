"""The one way to a client of GitLab, as the settings name it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from envprov.domain.errors import ConfigError
from envprov.gitlab.client import Connection, GitLabClient
from envprov.settings import Settings


@asynccontextmanager
async def forge_of(settings: Settings) -> AsyncIterator[GitLabClient | None]:
    """
    Open a client of GitLab; None where the settings name none.

    Raises:
        ConfigError: URL, token or certificates cannot be used.

    """
    given = settings.gitlab
    if given.url is None:
        yield None
        return
    if given.token_file is None:
        raise ConfigError("gitlab.token_file: must name the file with the access token, since gitlab.url is set")
    where = Connection(
        url=given.url,
        token_file=given.token_file,
        ca_file=given.ca_file,
        timeout=given.timeout,
        listing_timeout=given.listing_timeout,
        allow_http=given.allow_http,
        connections=given.connections,
    )
    async with GitLabClient.connect(where) as client:
        yield client
