"""GitLab's own test of a webhook: sent, answered, and read in what GitLab remembers of it."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from envprov.domain.errors import Conflict, ForgeUnreliable, Throttled
from envprov.domain.forge import HookEvent, ProjectRef
from envprov.domain.hooks import hint_for, is_blocked
from envprov.gitlab.client import GitLabClient

OURS = {str(int(HTTPStatus.ACCEPTED)), str(int(HTTPStatus.NO_CONTENT))}
"""How the receiver answers what it accepts."""


@dataclass(frozen=True)
class Trial:
    """
    What became of a test.

    Attributes:
        arrived: Whether the receiver took it; None if nothing could be tried.
        status: Its answer; "" if there was none, or none to be seen.
        message: What happened.
        remedy: What to do; "" if nothing is.

    """

    arrived: bool | None
    status: str
    message: str
    remedy: str = ""


async def try_hook(forge: GitLabClient, ref: ProjectRef, hook_id: int) -> Trial:
    """
    Have GitLab deliver a sample of a push, which it does also to a hook that it has paused.

    Args:
        forge: GitLab.
        ref: The project, which must have a commit.
        hook_id: The webhook.

    """
    try:
        tested = await forge.test_hook(ref, hook_id, "push_events")
    except Throttled:
        return Trial(
            arrived=None,
            status="",
            message="GitLab tests a webhook five times a minute at most",
            remedy="try again in a minute",
        )
    except Conflict:
        return Trial(
            arrived=None,
            status="",
            message="this GitLab cannot test a webhook through its API (16.11 can)",
            remedy="push something",
        )
    newest = await _newest(forge, ref, hook_id)
    status = newest.status if newest is not None else ""
    if tested.delivered:
        return _arrived(status)
    if is_blocked(tested.message) or not status[:1].isdecimal():
        said = tested.message or status or "no reason is told"
        return Trial(
            arrived=False,
            status="",
            message=f"GitLab could not deliver its test: {said}",
            remedy=hint_for(tested.message),
        )
    return Trial(arrived=False, status=status, message=f"the test was answered {status}", remedy=hint_for(status))


def _arrived(status: str) -> Trial:
    if status and status not in OURS:
        message = f"the test was answered {status}, which the receiver never does; does something else answer?"
        return Trial(arrived=False, status=status, message=message, remedy=hint_for("404"))
    return Trial(
        arrived=True, status=status, message=f"the test has arrived{f' and was answered {status}' if status else ''}"
    )


async def _newest(forge: GitLabClient, ref: ProjectRef, hook_id: int) -> HookEvent | None:
    try:
        events = await forge.hook_events(ref, hook_id, limit=1)
    except ForgeUnreliable:
        return None  # GitLab before 17.3 remembers nothing that can be asked for
    return next(iter(events), None)
