"""``why``: one paragraph, what shows it, and what to do next; always an answer, and always soon."""

from __future__ import annotations

import asyncio
from pathlib import Path

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.options import Common, Output
from envprov.cli.projects import choose, read_clues
from envprov.cli.session import Session, opened
from envprov.cli.wish import check_branch
from envprov.domain.causes import State
from envprov.domain.errors import ConfigError, Forbidden, Unavailable
from envprov.domain.loose import mapping, within
from envprov.domain.names import namespace_of, slug
from envprov.domain.sizes import Size
from envprov.domain.why import Diagnosis, diagnose, diagnose_unplaced
from envprov.domain.why_absent import no_project
from envprov.kube.client import KubeClient, Object
from envprov.kube.evidence import PATIENCE_SECONDS, RESPONSE_LIMIT_BYTES, Subject, gather_evidence
from envprov.kube.resources import PROJECTS
from envprov.releases.stored import tell

_STYLES = {State.READY: "green", State.UNHEALTHY: "red", State.COMING_UP: "yellow", State.GOING_DOWN: "yellow"}


async def show_why(common: Common, branch: str, project: str | None) -> ExitCode:
    """
    Print why the environment of a branch is not as it should be.

    Args:
        common: The options of the call.
        branch: The branch.
        project: Name of the Project; None for the one that the folder belongs to.

    Raises:
        ConfigError: The branch is none.

    """
    check_branch(branch)
    async with opened(common) as session:
        named, answer = await explain(session, branch, project)
    if common.output.is_for_people:
        _print(answer)
    elif common.output is Output.NAME:
        printing.print_line(answer.cause.value)
    else:
        where = {"branch": branch, "project": named or None}
        name = slug(named, branch) if named else None
        where |= {"environment": name, "namespace": namespace_of(name) if name else None}
        printing.print_data({**where, **answer.data()}, common.output)
    return ExitCode.DONE


async def explain(session: Session, branch: str, project: str | None) -> tuple[str, Diagnosis]:
    """
    Why the environment of a branch is not as it should be.

    Args:
        session: Where.
        branch: The branch.
        project: Name of the Project; None for the one that the folder belongs to.

    Returns:
        The Project, empty if none is known to be meant; and the answer.

    """
    async with KubeClient.connect(
        session.connection, timeout=session.settings.kubernetes.timeout, response_limit_bytes=RESPONSE_LIMIT_BYTES
    ) as client:
        listed: tuple[Object, ...] | None = None
        named = project
        if named is None:
            clues = read_clues(Path.cwd())
            named = clues.named
            if named is None:
                listed = await _projects(client, session.namespace)
                try:
                    named = choose(listed, clues, namespace=session.namespace)
                except ConfigError as error:
                    return "", diagnose_unplaced(no_project(branch, listed, str(error)), branch)
        subject = Subject(named, branch, session.namespace, _sizes(session, named, listed), listed)
        return named, diagnose(await gather_evidence(client, subject, tell))


async def _projects(client: KubeClient, namespace: str) -> tuple[Object, ...]:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return (await client.list(PROJECTS, namespace)).items
    except Forbidden as error:
        raise Forbidden(f"{error}; give --project, and the Projects need not be read") from None
    except TimeoutError:
        raise Unavailable(
            f"the Projects in Namespace {namespace} could not be read within {PATIENCE_SECONDS:g} s; give --project"
        ) from None


def _sizes(session: Session, project: str, projects: tuple[Object, ...] | None) -> dict[str, Size]:
    """The sizes that are known, those of the Project before those of the settings."""
    sizes = dict(session.settings.platform.sizes)
    for item in projects or ():
        if item["metadata"]["name"] == project:
            for name, given in within(item, "spec", "sizes", "custom").items():
                try:
                    sizes[name] = Size.model_validate(mapping(given))
                except ValueError:
                    continue  # the Project's own fault, and told elsewhere
    return sizes


def _print(answer: Diagnosis) -> None:
    printing.print_line(answer.summary, _STYLES.get(answer.state, ""))
    for cause, summary in answer.also:
        printing.print_line(f"Also ({cause.value}): {summary}")
    _section(
        "what shows it:",
        [
            f"{fact.subject}: {line}" if not number else f"    {line}"
            for fact in answer.evidence
            for number, line in _lines(fact.says)
        ],
    )
    _section("what to do:", list(answer.next))
    _section("could not be read:", [f"{part.value}: {why}" for part, why in answer.unread])


def _lines(says: str) -> list[tuple[int, str]]:
    """One line stands behind the object; several stand below it."""
    lines = says.splitlines() or [""]
    return [(0, lines[0])] if len(lines) == 1 else [(0, ""), *((1, line) for line in lines)]


def _section(title: str, lines: list[str]) -> None:
    if lines:
        printing.print_line("")
        printing.print_line(title)
        for line in lines:
            printing.print_line(f"  {line}".rstrip())
