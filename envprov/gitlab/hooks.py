"""
Project webhooks: how GitLab is told to tell us, and what it remembers of having tried.

Source: https://docs.gitlab.com/api/project_webhooks/
"""

from __future__ import annotations

from typing import Any, Literal

from envprov.domain.errors import Invalid
from envprov.domain.forge import Hook, HookEvent, HookTest, HookTrigger, HookWish, ProjectRef
from envprov.gitlab import reading
from envprov.gitlab.asking import MAINTAINS, Asking, project_path
from envprov.gitlab.paging import Listing
from envprov.gitlab.transport import Request

EVENTS_LIMIT = 200
"""Deliveries that are looked back upon."""
EVENTS_PER_PAGE = 20
DELIVERY_SECONDS = 20.0
"""GitLab answers only when the far side has, for which it waits 10 seconds."""

EventStatus = Literal["successful", "client_failure", "server_failure"]


class Hooks(Asking):
    """Reads and writes project webhooks. All of it takes the role Maintainer."""

    async def hooks(self, ref: ProjectRef) -> tuple[Hook, ...]:
        """
        List the webhooks of a project.

        Args:
            ref: The project.

        """
        request = Request(f"list webhooks of {ref}", project_path(ref, "hooks"), needs=MAINTAINS)
        return await self._pager.all(Listing(request, reading.hook, lambda hook: hook.id))

    async def create_hook(self, ref: ProjectRef, wish: HookWish) -> Hook:
        """
        Add a webhook.

        Args:
            ref: The project.
            wish: As it ought to be.

        Raises:
            Invalid: GitLab does not accept its URL or filter; a self-managed one refuses private addresses by default.

        """
        path = project_path(ref, "hooks")
        request = Request(f"create a webhook of {ref}", path, "post", body=_body(wish), needs=MAINTAINS)
        return await self._one(request, reading.hook)

    async def update_hook(self, ref: ProjectRef, hook_id: int, wish: HookWish) -> Hook:
        """
        Change a webhook.

        Args:
            ref: The project.
            hook_id: The webhook.
            wish: As it ought to be.

        Raises:
            Conflict: It is gone.

        """
        path = project_path(ref, "hooks", hook_id)
        request = Request(f"update webhook {hook_id} of {ref}", path, "put", body=_body(wish), needs=MAINTAINS)
        return await self._one(request, reading.hook)

    async def test_hook(self, ref: ProjectRef, hook_id: int, trigger: HookTrigger) -> HookTest:
        """
        Have GitLab deliver a sample now. It does so five times a minute at most.

        Args:
            ref: The project, which must not be empty.
            hook_id: The webhook.
            trigger: What kind of sample.

        Raises:
            Conflict: It is gone.
            Throttled: Too many tests.

        """
        request = Request(
            f"test webhook {hook_id} of {ref}",
            project_path(ref, "hooks", hook_id, "test", trigger),
            "post",
            needs=MAINTAINS,
            seconds=DELIVERY_SECONDS,
        )
        try:
            return HookTest(delivered=True, message=await self._one(request, lambda given: str(given["message"])))
        except Invalid as error:
            return HookTest(delivered=False, message=str(error).removeprefix(f"{request.doing}: "))

    async def hook_events(
        self, ref: ProjectRef, hook_id: int, status: EventStatus | None = None, *, limit: int = EVENTS_LIMIT
    ) -> tuple[HookEvent, ...]:
        """
        List what GitLab remembers of a webhook's deliveries in the last seven days, the newest first.

        Args:
            ref: The project.
            hook_id: The webhook.
            status: Only those that ended so. A delivery without an answer has none of them: leave it out to see all.
            limit: Most deliveries; twenty take one request.

        """
        request = Request(
            f"list deliveries of webhook {hook_id} of {ref}",
            project_path(ref, "hooks", hook_id, "events"),
            query={} if status is None else {"status": status},
            needs=MAINTAINS,
        )
        listing = Listing(
            request,
            reading.hook_event,
            lambda event: event.id,
            limit=limit,
            cut=True,
            per_page=min(limit, EVENTS_PER_PAGE),
            remember=False,
        )
        return await self._pager.all(listing)

    async def resend(self, ref: ProjectRef, hook_id: int, event_id: int) -> str:
        """
        Have GitLab deliver again what it remembers, with the same key. It does so five times a minute at most.

        Args:
            ref: The project.
            hook_id: The webhook.
            event_id: The delivery.

        Returns:
            What the far side answered, such as ``202``.

        Raises:
            Conflict: Webhook or delivery are gone.
            Invalid: It could not be delivered.
            Throttled: Too many of them.

        """
        request = Request(
            f"resend delivery {event_id} of webhook {hook_id} of {ref}",
            project_path(ref, "hooks", hook_id, "events", event_id, "resend"),
            "post",
            needs=MAINTAINS,
            seconds=DELIVERY_SECONDS,
        )
        return await self._one(request, lambda given: str(given["response_status"]))


def _body(wish: HookWish) -> dict[str, Any]:
    body: dict[str, Any] = {
        "url": wish.url,
        "push_events": wish.push,
        "merge_requests_events": wish.merge_requests,
        "note_events": wish.notes,
        "push_events_branch_filter": wish.branch_filter,
        "branch_filter_strategy": wish.branch_filter_strategy,
        "enable_ssl_verification": wish.enable_ssl,
    }
    secrets = {"token": wish.token, "signing_token": wish.signing_token}
    return body | {name: secret.reveal() for name, secret in secrets.items() if secret is not None}
