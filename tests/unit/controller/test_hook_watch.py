"""The look at GitLab's webhook after a sweep, against a GitLab that pauses hooks which fail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from envprov.controller.hooks import HookVerdict, watch_hook
from envprov.domain.forge import HookWish
from envprov.domain.hooks import HookReason
from envprov.domain.project_status import ProjectCondition, ProjectStatus
from envprov.domain.sweep import Tracked
from envprov.gitlab.client import GitLabClient
from tests.gitlab.driver import GitLabStandIn
from tests.gitlab.stories import Receiver, ask
from tests.unit.builders import NOW, project

SHOP = "group/shop"
LATER = NOW + timedelta(minutes=5)


@dataclass
class Shop:
    """
    A project in GitLab with one hook, and its Project.

    Attributes:
        gitlab: GitLab, which pauses hooks.
        receiver: Where the hook leads.
        status: Of the Project, as the last look has left it.
        spec: What else the Project says.

    """

    gitlab: GitLabStandIn
    receiver: Receiver
    status: ProjectStatus = field(default_factory=ProjectStatus)
    spec: dict[str, Any] = field(default_factory=dict)

    def hook(self, **wish: Any) -> int:  # noqa: ANN401 - any field
        """Make the hook; return its id."""

        async def story(client: GitLabClient) -> int:
            return (await client.create_hook(SHOP, HookWish(self.receiver.url, **wish))).id

        return ask(self.gitlab, story)

    def push(self, times: int = 1) -> None:
        """Push so often, and wait until all of it is told."""
        for _ in range(times):
            self.gitlab.push(SHOP, "feature/x", {"file": str(len(self.gitlab.deliveries()))})
            self.gitlab.settle()

    def alert_status(self) -> str | None:
        """How GitLab says the hook is."""

        async def story(client: GitLabClient) -> str | None:
            (found,) = await client.hooks(SHOP)
            return found.alert_status

        return ask(self.gitlab, story)

    def look(self, *, url: str | None = "", moment: Any = NOW) -> HookVerdict:  # noqa: ANN401 - a moment
        """Look at the hook, and remember what is said of it."""
        given = project(gitlab={"project": SHOP}, **self.spec)
        tracked = Tracked(given, SHOP, "uid", 3, self.status)
        found = ask(
            self.gitlab,
            lambda client: watch_hook(client, tracked, self.receiver.url if url == "" else url, moment),
        )
        self.status = found.status
        return found

    def told(self) -> tuple[str, str]:
        """Status and reason of the condition."""
        condition = self.status.condition(ProjectCondition.HOOK_HEALTHY)
        assert condition is not None
        assert condition.message
        return condition.status, condition.reason


@pytest.fixture
def shop() -> Iterator[Shop]:
    """Yield a project without a hook."""
    with GitLabStandIn() as gitlab, Receiver() as receiver:
        gitlab.settings(auto_disabling_web_hooks=True)
        gitlab.create_project(SHOP)
        yield Shop(gitlab, receiver)
        assert gitlab.log == ""


def paused(shop: Shop) -> int:
    """Let GitLab pause the hook; return its id."""
    hook_id = shop.hook()
    shop.receiver.status = 500
    shop.push(4)
    assert shop.alert_status() == "temporarily_disabled"
    return hook_id


def test_a_healthy_hook_is_told_once(shop: Shop) -> None:
    hook_id = shop.hook()
    shop.push()
    found = shop.look()
    assert found.verdict is not None
    assert (shop.told(), shop.status.hook_id) == (("True", "OK"), hook_id)
    assert (found.is_revived, found.sweep_due) == (False, False)
    before = shop.status
    assert shop.look(moment=LATER).status == before  # nothing to be written
    assert len(shop.receiver.received) == 1


def test_without_a_url_nothing_is_asked(shop: Shop) -> None:
    shop.gitlab.forget_requests()
    assert shop.look(url=None) == HookVerdict(None, ProjectStatus())
    assert shop.gitlab.requests() == []


def test_a_missing_hook_is_told_and_its_id_forgotten(shop: Shop) -> None:
    shop.status = ProjectStatus(hook_id=12)
    found = shop.look()
    assert (shop.told(), shop.status.hook_id, found.sweep_due) == (("False", "HookMissing"), None, False)


def test_a_paused_hook_is_revived_as_soon_as_the_receiver_is_well(shop: Shop) -> None:
    paused(shop)
    shop.receiver.status = 202
    shop.push()
    assert shop.gitlab.deliveries()[-1]["status"] == "disabled"  # this push is lost
    found = shop.look()
    assert (shop.told(), found.is_revived, found.sweep_due) == (("True", "OK"), True, True)
    assert shop.alert_status() == "executable"
    before = len(shop.receiver.received)
    shop.push()
    assert len(shop.receiver.received) == before + 1
    again = shop.look()
    assert (again.is_revived, again.sweep_due) == (False, False)


def test_a_hook_that_stays_paused_is_tried_once_in_each_look_and_asks_for_one_sweep(shop: Shop) -> None:
    paused(shop)
    before = len(shop.receiver.received)
    found = shop.look()
    assert (shop.told(), found.is_revived, found.sweep_due) == (("False", "HookDisabled"), False, True)
    assert len(shop.receiver.received) == before + 1
    status = shop.status
    again = shop.look(moment=LATER)
    assert (again.status, again.sweep_due) == (status, False)
    assert len(shop.receiver.received) == before + 2


def test_too_many_tests_leave_it_as_it_is(shop: Shop) -> None:
    hook_id = paused(shop)

    async def story(client: GitLabClient) -> None:
        for _ in range(5):
            await client.test_hook(SHOP, hook_id, "push_events")

    ask(shop.gitlab, story)
    before = len(shop.receiver.received)
    shop.receiver.status = 202
    shop.look()
    assert (shop.told(), len(shop.receiver.received)) == (("False", "HookDisabled"), before)


def test_a_hook_that_begins_to_fail_gets_its_newest_failure_again(shop: Shop) -> None:
    shop.hook()
    shop.receiver.status = 503
    shop.push(2)
    shop.receiver.status = 202
    found = shop.look()
    first, second, resent = shop.receiver.received
    assert resent.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert resent.json == second.json != first.json
    assert (shop.told(), found.is_revived, found.sweep_due) == (("True", "OK"), True, True)


def test_what_we_send_again_never_pauses_a_hook(shop: Shop) -> None:
    shop.hook()
    shop.receiver.status = 503
    shop.push()
    for _ in range(6):
        shop.look()
    assert shop.told() == ("False", "HookFailing")
    assert shop.alert_status() == "executable"
    assert len(shop.receiver.received) == 3


def test_failures_that_are_over_are_no_trouble(shop: Shop) -> None:
    shop.hook()
    shop.receiver.status = 503
    shop.push(2)
    shop.receiver.status = 202
    shop.push()
    found = shop.look()
    assert (shop.told(), found.is_revived, found.sweep_due) == (("True", "OK"), False, False)
    assert len(shop.receiver.received) == 3


def test_a_hook_that_lacks_what_the_rules_need_is_incomplete(shop: Shop) -> None:
    shop.hook()
    shop.spec = {"rules": [{"branches": ["*"], "mergeRequest": {"labels": ["preview"]}}]}
    shop.look()
    assert shop.told() == ("False", "HookIncomplete")
    condition = shop.status.condition(ProjectCondition.HOOK_HEALTHY)
    assert condition is not None
    assert "merge requests" in condition.message
    assert condition.observed_generation == 3


def test_a_token_that_may_not_see_hooks_knows_nothing(shop: Shop) -> None:
    shop.hook()
    shop.status = ProjectStatus(hook_id=12)
    shop.gitlab.create_token(shop.gitlab.token, user="envprov", everywhere=False)
    shop.gitlab.member(SHOP, "envprov", 30)
    found = shop.look()
    assert (shop.told(), shop.status.hook_id) == (("Unknown", "HookUnknown"), 12)
    condition = found.status.condition(ProjectCondition.HOOK_HEALTHY)
    assert condition is not None
    assert "Maintainer" in condition.message


@pytest.mark.parametrize("fault", ["500", "html", "404_proxy", "429", "reset"])
def test_no_usable_answer_changes_nothing(shop: Shop, fault: str) -> None:
    shop.hook()
    shop.look()
    before = shop.status
    shop.gitlab.fault(fault, "GET .*/hooks", times=-1)
    found = shop.look(moment=LATER)
    assert found == HookVerdict(None, before)


def test_an_older_gitlab_still_tells_that_it_has_paused_the_hook(shop: Shop) -> None:
    paused(shop)
    headers = {"Content-Type": "application/json"}
    shop.gitlab.fault("answer", "/events", times=-1, status=404, body='{"message": "404 Not Found"}', headers=headers)
    shop.look()
    assert shop.told() == ("False", "HookDisabled")


def test_the_moment_of_a_change_moves_only_with_the_status(shop: Shop) -> None:
    shop.look()
    shop.hook()
    shop.look(moment=LATER)
    condition = shop.status.condition(ProjectCondition.HOOK_HEALTHY)
    assert condition is not None
    assert (condition.status, condition.last_transition_time) == ("True", LATER)
    shop.look(moment=LATER + timedelta(hours=1))
    assert shop.status.condition(ProjectCondition.HOOK_HEALTHY) == condition


def test_other_conditions_and_the_sweep_stay(shop: Shop) -> None:
    synced = ProjectStatus(gitlab_id=15).telling(
        ProjectCondition.SYNCED, holds=True, reason="InSync", message="x", generation=3, now=NOW
    )
    shop.status = synced
    found = shop.look()
    assert found.verdict is not None
    assert found.verdict.reason is HookReason.MISSING
    kept = without_hook(found.status)
    assert kept == synced


def without_hook(status: ProjectStatus) -> ProjectStatus:
    """Return a status without what was said of the hook."""
    rest = tuple(one for one in status.conditions if one.type != ProjectCondition.HOOK_HEALTHY)
    return status.model_copy(update={"conditions": rest, "hook_id": None})
