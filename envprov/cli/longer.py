"""``extend``, ``pin`` and ``unpin``: how long the environment of a branch stays."""

from __future__ import annotations

from datetime import UTC, datetime

from envprov.cli.exits import ExitCode
from envprov.cli.found import find_environment, say
from envprov.cli.options import Common
from envprov.cli.session import opened
from envprov.domain.desired import term_of
from envprov.domain.environment import parse_environment
from envprov.domain.errors import ConfigError
from envprov.domain.lifetime import extend as extension_of
from envprov.domain.lifetime import parse_span
from envprov.kube.records import parse_project
from envprov.kube.resources import PROJECTS


async def extend(common: Common, branch: str, span: str | None, project: str | None) -> ExitCode:
    """
    Let an environment live longer.

    Args:
        common: The options of the call.
        branch: The branch.
        span: By how much longer than it would: ``3d``; None begins its lifetime anew.
        project: Name of the Project; None for the one that the folder belongs to.

    Raises:
        Forbidden: The Project allows less.
        ConfigError: The time is none, or the environment has no end.

    """
    longer = parse_span(span) if span is not None else None
    if span is not None and longer is None:
        raise ConfigError(f"{span!r}: must be a time above zero such as 3d, 12h or 1w3d")
    async with opened(common) as session:
        found = await find_environment(session, branch, project)
        if found is None:
            return ExitCode.FAILED
        named, item = found
        environment = parse_environment(item)
        ends = environment.status.expires_at
        if ends is None:
            raise ConfigError(f"the environment of branch {branch} has no end, so there is nothing to extend")
        rules = await session.client.get(PROJECTS, named, session.namespace)
        known = parse_project(rules) if rules is not None else None
        maximum = known.spec.limits.lifetime if known else None
        lifetime = term_of(environment, known, environment.status.branch_file).lifetime if known else None
        extension = extension_of(ends, longer, now=datetime.now(UTC), maximum=maximum, lifetime=lifetime)
        live = await session.environments.extend(item, extension)
        until = f"stays until {extension.until:%Y-%m-%dT%H:%M:%SZ} at least"
        return say(common, live, until if extension.until > extension.at else "begins its lifetime anew")


async def pin(common: Common, branch: str, project: str | None, *, pinned: bool) -> ExitCode:
    """
    Keep an environment although its lifetime ends, or no longer.

    Args:
        common: The options of the call.
        branch: The branch.
        project: Name of the Project; None for the one that the folder belongs to.
        pinned: Whether it stays.

    Raises:
        EnvprovError: It could not be written; why.

    """
    async with opened(common) as session:
        found = await find_environment(session, branch, project)
        if found is None:
            return ExitCode.FAILED
        live = await session.environments.choose(found[1], {"pinned": True if pinned else None})
        return say(common, live, "is pinned: it stays when its lifetime ends" if pinned else "is no longer pinned")
