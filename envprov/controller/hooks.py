"""
Whether GitLab's webhook still tells us, looked at after each sweep; one that GitLab has paused is revived.

A paused hook takes nothing but GitLab's own test: a resend of what failed is refused like any other delivery, while a
test is forced, counts nothing if it fails, and takes the pause off if it succeeds. A hook that has begun to fail and
is not paused yet gets its newest failed delivery once more, as long as that alone cannot pause it.

Source: app/services/web_hook_service.rb, app/services/test_hooks/base_service.rb,
app/services/web_hooks/events/resend_service.rb and app/models/concerns/web_hooks/auto_disabling.rb of GitLab
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from envprov.domain.errors import EnvprovError, ForgeForbidden, ForgeUnreliable
from envprov.domain.forge import Hook, HookEvent, HookTest, HookTrigger, ProjectRef
from envprov.domain.hooks import HookReason, Verdict, failed_in_a_row, find_hook, judge, needs_of
from envprov.domain.project_status import ProjectCondition, ProjectStatus
from envprov.domain.sweep import Tracked

log = structlog.get_logger("envprov.hooks")

LOOKED_BACK = 20
"""Deliveries that are looked back upon."""
RESENT_FAILURES = 2
"""Failures in a row up to which one is sent again: GitLab pauses a hook at the fourth."""


class HookForge(Protocol):
    """What is asked of GitLab."""

    async def hooks(self, ref: ProjectRef) -> tuple[Hook, ...]:
        """All webhooks of a project."""

    async def hook_events(self, ref: ProjectRef, hook_id: int, *, limit: int) -> tuple[HookEvent, ...]:
        """Deliveries that GitLab remembers, the newest first."""

    async def test_hook(self, ref: ProjectRef, hook_id: int, trigger: HookTrigger) -> HookTest:
        """Deliver a sample now."""

    async def resend(self, ref: ProjectRef, hook_id: int, event_id: int) -> str:
        """Deliver again what GitLab remembers, and return the answer's status."""


@dataclass(frozen=True, slots=True)
class HookVerdict:
    """
    What a look at the hook has found.

    Attributes:
        verdict: How it is, after what was done about it; None if that could not be found out.
        status: Of the Project, with it; equal to the one that was given if nothing has changed.
        is_revived: Whether a delivery came through again.
        sweep_due: Whether deliveries may have been lost since the last sweep, of which none has been made up for.

    """

    verdict: Verdict | None
    status: ProjectStatus
    is_revived: bool = False
    sweep_due: bool = False


async def watch_hook(forge: HookForge, tracked: Tracked, url: str | None, now: datetime) -> HookVerdict:
    """
    Look at a Project's webhook, and try to revive it if GitLab has paused it.

    Args:
        forge: GitLab.
        tracked: The Project, with its status as the sweep before has left it.
        url: Where GitLab reaches the receiver; without it, nothing is looked at.
        now: Aware moment.

    Returns:
        With the status as it was if GitLab gave no usable answer: nothing is known that was not known before.

    """
    if url is None:
        return HookVerdict(None, tracked.status)
    try:
        verdict, is_revived = await _look(forge, tracked, url)
    except EnvprovError as error:
        log.info("hook not looked at", project=tracked.project.name, reason=error.reason, error=str(error))
        return HookVerdict(None, tracked.status)
    before = tracked.status.condition(ProjectCondition.HOOK_HEALTHY)
    is_new = before is None or before.reason != verdict.reason
    lost = is_new and verdict.reason in {HookReason.DISABLED, HookReason.FAILING}
    if is_revived or (is_new and verdict.holds is False):
        log.warning("hook", project=tracked.project.name, reason=verdict.reason.value, is_revived=is_revived)
    return HookVerdict(verdict, _told(tracked, verdict, now), is_revived, sweep_due=is_revived or lost)


async def _look(forge: HookForge, tracked: Tracked, url: str) -> tuple[Verdict, bool]:
    """How the hook is, and whether it has just been revived."""
    needs = needs_of(tracked.project)
    try:
        hooks = await forge.hooks(tracked.ref)
        hook = find_hook(hooks, url)
        recent = await _recent(forge, tracked.ref, hook)
    except ForgeForbidden as error:
        return Verdict(HookReason.UNKNOWN, f"whether the webhook is healthy is not known: {error}"), False
    verdict = judge(hooks, url, needs, recent)
    if hook is None or not await _revived(forge, tracked, verdict, hook, recent):
        return verdict, False
    return judge(await forge.hooks(tracked.ref), url, needs), True


async def _recent(forge: HookForge, ref: ProjectRef, hook: Hook | None) -> tuple[HookEvent, ...]:
    try:
        return await forge.hook_events(ref, hook.id, limit=LOOKED_BACK) if hook is not None else ()
    except ForgeUnreliable:
        return ()  # GitLab before 17.3 has no such list; whether the hook is paused is known all the same


async def _revived(
    forge: HookForge, tracked: Tracked, verdict: Verdict, hook: Hook, recent: Sequence[HookEvent]
) -> bool:
    """Whether a delivery came through that was made for this; at most one is."""
    failed = failed_in_a_row(recent)
    try:
        match verdict.reason:
            case HookReason.DISABLED:
                return (await forge.test_hook(tracked.ref, hook.id, "push_events")).delivered
            case HookReason.FAILING if len(failed) <= RESENT_FAILURES:
                answer = await forge.resend(tracked.ref, hook.id, failed[0].id)
                return answer.startswith(("2", "3"))
            case _:
                return False
    except EnvprovError as error:
        # Too many tests, or a GitLab that has no such call yet; the hook is as bad as it was.
        log.info("hook not revived", project=tracked.project.name, reason=error.reason, error=str(error))
        return False


def _told(tracked: Tracked, verdict: Verdict, now: datetime) -> ProjectStatus:
    """The status with what was found; the id of a hook that cannot be seen stays."""
    status = tracked.status
    if verdict.reason is not HookReason.UNKNOWN:
        status = status.model_copy(update={"hook_id": verdict.hook.id if verdict.hook else None})
    return status.telling(
        ProjectCondition.HOOK_HEALTHY,
        holds=verdict.holds,
        reason=verdict.reason.value,
        message=verdict.message,
        generation=tracked.generation,
        now=now,
    )
