"""The branch sweep in a small world: GitLab may lie, deliveries may be lost, and the right set comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.controller.sweep import BranchSweep, Swept
from envprov.domain.deliveries import (
    Absent,
    BranchEvent,
    Decision,
    Ignore,
    Known,
    News,
    Present,
    Recorded,
    Terminating,
    Unwanted,
    Wanted,
)
from envprov.domain.errors import EnvprovError, ForgeForbidden, ForgeUnreliable, Throttled, Unavailable
from envprov.domain.forge import Branch, ForgeProject, MergeRequest, ProjectRef
from envprov.domain.project import Project
from envprov.domain.project_status import ProjectCondition, ProjectStatus
from envprov.domain.sweep import Brake, Seen, Tracked, digest_of, fork_branch
from envprov.domain.trail import GONE, Trail
from tests.unit.branches import BranchWorld
from tests.unit.builders import NOW, project
from tests.unit.fakes import Clock

GRACE = timedelta(minutes=10)
A, B, C = (letter * 40 for letter in "abc")
EVENTS = {"rules": [{"branches": ["main"], "action": "ignore"}, {"branches": ["*"]}]}
PREVIEWS = {"rules": [{"branches": ["*"], "mergeRequest": {"labels": ["preview"]}}]}
FORKS = {"rules": [{"branches": ["merge-requests/*"], "mergeRequest": {"forks": True}}, {"branches": ["*"]}]}


@dataclass
class FakeForge:
    """GitLab: what is true, and the answers that are not."""

    heads: dict[str, str] = field(default_factory=dict)
    requests: list[MergeRequest] = field(default_factory=list)
    found: ForgeProject | None = field(
        default_factory=lambda: ForgeProject(
            id=7,
            path="group/shop",
            default_branch="main",
            archived=False,
            is_empty=False,
            marked_for_deletion=False,
            web_url="https://gitlab.example.com/group/shop",
            access_level=40,
        )
    )
    fault: EnvprovError | None = None
    listed: Callable[[dict[str, str]], Mapping[str, str]] = dict
    calls: list[str] = field(default_factory=list)

    async def project(self, ref: ProjectRef) -> ForgeProject | None:
        self.calls.append(f"project {ref}")
        return self.found

    async def branches(self, ref: ProjectRef) -> tuple[Branch, ...]:
        self.calls.append(f"branches {ref}")
        if self.fault:
            raise self.fault
        await asyncio.sleep(0)
        return tuple(Branch(name, commit) for name, commit in self.listed(self.heads).items())

    async def branch(self, ref: ProjectRef, name: str) -> Branch | None:
        self.calls.append(f"branch {ref} {name}")
        await asyncio.sleep(0)
        return Branch(name, self.heads[name]) if name in self.heads else None

    async def merge_requests(self, ref: ProjectRef, *, source_branch: str | None = None) -> tuple[MergeRequest, ...]:
        self.calls.append(f"merge_requests {ref} {source_branch}")
        return tuple(one for one in self.requests if source_branch in {None, one.source_branch})


@dataclass
class FakeBook:
    """The records of Project shop, kept by the true rule."""

    branches: dict[str, BranchWorld] = field(default_factory=dict)
    absent_since: dict[str, datetime] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)
    dismissed: dict[str, str] = field(default_factory=dict)
    status: ProjectStatus = field(default_factory=ProjectStatus)
    reports: int = 0

    def seen(self, project: str) -> tuple[Seen, ...]:
        return tuple(
            Seen(
                environment=f"{project}-{branch}",
                branch=branch,
                known=world.known,
                absent_since=self.absent_since.get(branch),
                doubt=self.doubts.get(branch, ""),
                dismissed_at=None if isinstance(world.known, Present) else self.dismissed.get(branch),
            )
            for branch, world in self.branches.items()
        )

    async def record(self, project: Project, branch: str, news: Wanted | Unwanted) -> Recorded:
        await asyncio.sleep(0)
        return Recorded(f"{project.name}-{branch}", self.deliver(branch, news))

    def deliver(self, branch: str, news: News) -> Decision:
        world = self.branches.setdefault(branch, BranchWorld())
        decision = world.deliver(news)
        if not isinstance(decision, Ignore):
            self.doubts.pop(branch, None)
        if not isinstance(world.known, Present):
            self.absent_since.pop(branch, None)
        return decision

    async def mark(self, seen: Seen, since: datetime | None) -> None:
        if since is None:
            self.absent_since.pop(seen.branch, None)
        else:
            self.absent_since[seen.branch] = since

    async def forget(self, seen: Seen) -> None:
        del self.dismissed[seen.branch]

    async def report(self, tracked: Tracked, status: ProjectStatus) -> None:
        del tracked
        self.status = status
        self.reports += 1


@dataclass
class Shop:
    """Project shop, its GitLab and its records."""

    forge: FakeForge = field(default_factory=FakeForge)
    book: FakeBook = field(default_factory=FakeBook)
    clock: Clock = field(default_factory=lambda: Clock(NOW))
    spec: Mapping[str, Any] = field(default_factory=lambda: EVENTS)
    confirmed: str = ""

    def there(self, *branches: str, at: str = A) -> Shop:
        """Branches that GitLab has and that have an environment."""
        for branch in branches:
            self.forge.heads[branch] = at
            self.book.branches[branch] = BranchWorld(Present(at))
        return self

    def tracked(self) -> Tracked:
        given = project(**{"gitlab": {"project": "group/shop"}, **self.spec})
        return Tracked(given, "group/shop", "uid", 1, self.book.status, self.confirmed)

    def sweep(self, *, dry_run: bool = False) -> Swept:
        run = BranchSweep(self.forge, self.book, self.clock, Brake(grace=GRACE))
        return asyncio.run(run(self.tracked(), dry_run=dry_run))

    def sweep_twice(self) -> Swept:
        self.sweep()
        self.clock.advance(GRACE)
        return self.sweep()

    @property
    def environments(self) -> dict[str, str]:
        """Branches with an environment, and its commit."""
        known = {branch: world.known for branch, world in self.book.branches.items()}
        return {branch: one.revision for branch, one in known.items() if isinstance(one, Present)}

    @property
    def synced(self) -> str:
        condition = self.book.status.condition(ProjectCondition.SYNCED)
        assert condition is not None
        return condition.reason

    @property
    def message(self) -> str:
        condition = self.book.status.condition(ProjectCondition.SYNCED)
        assert condition is not None
        return condition.message


def request(iid: int, branch: str, *labels: str, source: int = 7, sha: str = A, draft: bool = False) -> MergeRequest:
    return MergeRequest(iid, branch, source, "main", sha, frozenset(labels), draft, f"https://x/{iid}", "opened")


def test_every_delivery_is_lost_and_all_branches_get_their_environment() -> None:
    shop = Shop(FakeForge(heads={f"event/{number:04}": A for number in range(1, 1000)} | {"main": B}))
    shop.sweep()
    assert shop.environments == {f"event/{number:04}": A for number in range(1, 1000)}
    assert shop.synced == "InSync"
    assert shop.book.status.sweep is not None
    assert (shop.book.status.sweep.branches, shop.book.status.sweep.wanted) == (1000, 999)
    assert len(shop.forge.calls) == 2


def test_a_branch_that_can_have_no_environment_is_named_and_is_no_fault() -> None:
    shop = Shop(FakeForge(heads={"event/1": A, "event/" + "x" * 300: B}))
    shop.sweep()
    assert shop.environments == {"event/1": A}
    assert shop.synced == "InSync"
    assert shop.message.endswith(f"; without one: event/{'x' * 34}… has 306 bytes; at most 255 are possible")


def test_a_stale_environment_gets_the_commit_that_gitlab_says() -> None:
    shop = Shop().there("feature/x")
    shop.forge.heads["feature/x"] = B
    shop.sweep()
    assert shop.environments == {"feature/x": B}


def test_a_list_that_is_older_than_the_last_delivery_sets_nothing_back() -> None:
    shop = Shop().there("a", "b")
    shop.forge.heads["a"] = B
    shop.book.deliver("a", BranchEvent(7, "group/shop", "a", A, B))
    shop.forge.listed = lambda heads: heads | {"a": A, "c": C}
    shop.book.branches["c"] = BranchWorld(Absent(Trail.decode(f"0>{C}>0")))
    shop.sweep()
    assert shop.environments == {"a": B, "b": A}


def test_a_second_sweep_right_after_does_nothing() -> None:
    shop = Shop().there("feature/x")
    shop.forge.heads["new"] = B
    shop.sweep()
    before = shop.book.status
    swept = shop.sweep()
    assert (swept.asked, swept.gone, swept.waiting, swept.faults) == ([], [], [], [])
    assert shop.book.status == before.model_copy(update={"sweep": shop.book.status.sweep})


def test_a_branch_goes_after_two_listings_without_it_and_its_own_404() -> None:
    shop = Shop().there("a", "b")
    del shop.forge.heads["a"]
    shop.sweep()
    assert shop.environments == {"a": A, "b": A}
    shop.clock.advance(GRACE - timedelta(seconds=1))
    shop.sweep()
    assert shop.environments == {"a": A, "b": A}
    assert "branch group/shop a" not in shop.forge.calls
    shop.clock.advance(timedelta(seconds=1))
    swept = shop.sweep()
    assert shop.environments == {"b": A}
    assert "branch group/shop a" in shop.forge.calls
    assert [(one.seen.branch, one.since) for one in swept.gone] == [("a", NOW)]


def test_a_branch_that_the_listing_missed_twice_stays_if_gitlab_has_it_when_asked() -> None:
    shop = Shop().there("a", "b")
    shop.forge.listed = lambda heads: {name: commit for name, commit in heads.items() if name != "a"}
    shop.sweep_twice()
    assert shop.environments == {"a": A, "b": A}
    assert shop.book.absent_since == {}


def test_a_branch_that_comes_back_between_two_listings_begins_anew() -> None:
    shop = Shop().there("a", "b")
    del shop.forge.heads["a"]
    shop.sweep()
    shop.forge.heads["a"] = A
    shop.clock.advance(GRACE)
    shop.sweep()
    del shop.forge.heads["a"]
    shop.clock.advance(GRACE)
    shop.sweep()
    assert shop.environments == {"a": A, "b": A}


FALSE_EMPTY = [
    pytest.param(ForgeUnreliable("an HTML page"), "ForgeUnreliable", id="HTML page, half a list, no JSON"),
    pytest.param(ForgeForbidden("401"), "ForgeForbidden", id="401 or 403"),
    pytest.param(Unavailable("502"), "Unavailable", id="down"),
    pytest.param(Throttled("429", retry_after=30), "Throttled", id="rate limit"),
]


@pytest.mark.parametrize(("fault", "reason"), FALSE_EMPTY)
def test_no_error_of_the_listing_deletes_anything(fault: EnvprovError, reason: str) -> None:
    shop = Shop().there("a")
    shop.forge.heads.clear()
    shop.forge.fault = fault
    for _ in range(3):
        with pytest.raises(type(fault)):
            shop.sweep()
        shop.clock.advance(GRACE)
    assert shop.environments == {"a": A}
    assert shop.synced == reason
    assert shop.book.absent_since == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"path": "group/other"}, "ProjectMoved", id="moved"),
        pytest.param({"id": 8}, "ProjectReplaced", id="another project under the path"),
        pytest.param({"archived": True}, "ProjectArchived", id="archived"),
        pytest.param({"marked_for_deletion": True}, "ProjectMarkedForDeletion", id="marked for deletion"),
        pytest.param(None, "ProjectMissing", id="not there, or not shown"),
    ],
)
def test_a_project_that_is_not_as_it_was_deletes_nothing(change: dict[str, Any] | None, reason: str) -> None:
    shop = Shop().there("a", "b")
    shop.sweep()
    assert shop.forge.found is not None
    was = {name: getattr(shop.forge.found, name) for name in ForgeProject.__slots__}
    shop.forge.found = None if change is None else ForgeProject(**was | change)
    del shop.forge.heads["a"]
    shop.sweep_twice()
    assert shop.environments == {"a": A, "b": A}
    assert shop.synced == reason


def test_an_empty_list_where_there_were_branches_deletes_nothing() -> None:
    shop = Shop().there("a", "b")
    shop.forge.heads.clear()
    shop.sweep_twice()
    assert shop.environments == {"a": A, "b": A}
    assert shop.synced == "EmptyListing"


def test_an_empty_project_is_in_step() -> None:
    shop = Shop()
    shop.sweep()
    assert shop.synced == "InSync"


def branches(count: int) -> list[str]:
    return [f"event/{number:04}" for number in range(count)]


@pytest.mark.parametrize(
    ("there", "away", "stopped"),
    [
        pytest.param(4, 3, False, id="three of four -> they go"),
        pytest.param(20, 4, False, id="a fifth -> they go"),
        pytest.param(19, 4, True, id="four, more than a fifth -> a person must agree"),
        pytest.param(100, 50, True, id="half of many -> a person must agree"),
    ],
)
def test_the_brake(there: int, away: int, stopped: bool) -> None:  # noqa: FBT001 - a row of the table
    shop = Shop().there(*branches(there), "other")
    shop.book.branches.pop("other")
    for name in branches(away):
        del shop.forge.heads[name]
    shop.spec = {"rules": [{"branches": ["event/*"]}]}
    swept = shop.sweep_twice()
    assert len(shop.environments) == (there if stopped else there - away)
    assert (len(swept.waiting), len(swept.gone)) == ((away, 0) if stopped else (0, away))
    assert shop.synced == ("MassDeletion" if stopped else "InSync")


def test_the_brake_goes_off_for_exactly_what_a_person_has_agreed_to() -> None:
    shop = Shop().there(*branches(10), "x")
    for name in branches(5):
        del shop.forge.heads[name]
    shop.sweep_twice()
    assert "envprov cleanup --confirm-mass-delete shop" in shop.message
    assert shop.book.status.sweep is not None
    agreed = shop.book.status.sweep.confirmation
    del shop.forge.heads["event/0005"]  # one more, which nobody has agreed to
    shop.sweep()
    shop.confirmed = agreed
    shop.clock.advance(GRACE)
    shop.sweep()
    assert len(shop.environments) == 11
    shop.forge.heads["event/0005"] = A
    shop.sweep()
    assert set(shop.environments) == {*branches(10)[5:], "x"}


def test_many_do_not_go_a_few_at_a_time() -> None:
    shop = Shop().there(*branches(10), "x")
    for name in branches(5):
        del shop.forge.heads[name]
    shop.sweep()
    for name in branches(3):  # as if only these could be noted then
        shop.book.absent_since[name] = NOW - GRACE
    swept = shop.sweep()
    assert (len(shop.environments), len(swept.gone), len(swept.waiting)) == (11, 0, 3)
    assert shop.synced == "MassDeletion"


def test_what_was_agreed_to_once_holds_for_no_later_time() -> None:
    seen = [Seen("shop-a", "a", Present(A), absent_since=NOW)]
    later = [Seen("shop-a", "a", Present(A), absent_since=NOW + GRACE)]
    assert digest_of(seen) != digest_of(later)


def test_an_environment_that_a_person_took_down_stays_down_until_the_next_push() -> None:
    shop = Shop().there("a", "b")
    shop.book.deliver("a", Unwanted())
    shop.book.dismissed["a"] = A
    shop.sweep()
    assert shop.environments == {"b": A}
    shop.book.branches["a"].finish_teardown()
    shop.sweep()
    assert shop.environments == {"b": A}
    shop.forge.heads["a"] = B
    shop.sweep()
    assert shop.environments == {"a": B, "b": A}


def test_what_was_taken_down_is_forgotten_with_its_branch() -> None:
    shop = Shop(FakeForge(heads={"b": A}))
    shop.book.branches["a"] = BranchWorld(Absent())
    shop.book.dismissed["a"] = A
    shop.sweep()
    assert shop.book.dismissed == {}


def test_an_environment_ahead_of_the_first_push_stays() -> None:
    shop = Shop().there("b")
    shop.book.branches["mine"] = BranchWorld(Present(""))
    shop.sweep_twice()
    assert shop.environments == {"b": A, "mine": ""}


def test_a_branch_that_a_rule_has_come_to_ignore_keeps_its_environment() -> None:
    shop = Shop().there("main", "b")
    shop.sweep_twice()
    assert shop.environments == {"main": A, "b": A}


def test_a_merge_request_with_the_label_gives_a_branch_its_environment_and_takes_it_along() -> None:
    shop = Shop(FakeForge(heads={"a": A, "b": B}), spec=PREVIEWS)
    shop.forge.requests = [request(1, "a", "preview"), request(2, "b", "other")]
    shop.sweep()
    assert shop.environments == {"a": A}
    shop.forge.requests = []
    shop.sweep_twice()
    assert shop.environments == {}


def test_another_merge_request_of_the_same_branch_keeps_its_environment() -> None:
    shop = Shop(FakeForge(heads={"a": A}), spec=PREVIEWS)
    shop.forge.requests = [request(1, "a", "preview"), request(2, "a", "preview")]
    shop.sweep()
    shop.forge.requests = shop.forge.requests[1:]
    shop.book.doubts["a"] = "!1 is closed"
    shop.sweep()
    assert shop.environments == {"a": A}


def test_a_closed_merge_request_is_looked_into_at_once() -> None:
    shop = Shop(FakeForge(heads={"a": A}), spec=PREVIEWS)
    shop.forge.requests = [request(1, "a", "preview")]
    shop.sweep()
    shop.forge.requests = []
    shop.book.doubts["a"] = "!1 is closed"
    shop.sweep()
    assert shop.environments == {}


@pytest.mark.parametrize(("spec", "expected"), [(EVENTS, {"b": B}), (FORKS, {"b": B, fork_branch(9): C})])
def test_a_fork_gets_an_environment_only_if_a_rule_allows_it(spec: dict[str, Any], expected: dict[str, str]) -> None:
    shop = Shop(FakeForge(heads={"b": B}), spec=spec)
    shop.forge.requests = [request(9, "b", source=8, sha=C)]
    shop.sweep()
    assert shop.environments == expected


def test_a_branch_that_is_called_as_a_fork_is_takes_nothing_from_the_fork() -> None:
    shop = Shop(FakeForge(heads={fork_branch(9): B}), spec=FORKS)
    shop.forge.requests = [request(9, "b", source=8, sha=C), request(10, fork_branch(9), sha=B)]
    shop.sweep()
    assert shop.environments == {fork_branch(9): C}
    shop.forge.requests = []
    shop.sweep_twice()
    assert shop.environments == {}


def test_a_doubted_deletion_is_resolved_by_asking_for_the_branch() -> None:
    shop = Shop().there("a", "b")
    shop.book.doubts = {"a": B, "b": B}
    del shop.forge.heads["a"]
    shop.sweep()
    assert shop.environments == {"b": A}


def test_a_dry_run_writes_nothing_and_says_everything() -> None:
    shop = Shop().there("a", "b")
    del shop.forge.heads["a"]
    shop.sweep()
    shop.clock.advance(GRACE)
    shop.forge.heads["new"] = B
    reports = shop.book.reports
    swept = shop.sweep(dry_run=True)
    assert ([one.branch for one in swept.asked], [one.seen.branch for one in swept.gone]) == (["new"], ["a"])
    assert shop.environments == {"a": A, "b": A}
    assert shop.book.reports == reports


@pytest.mark.parametrize("at", ["branches", "branch"])
def test_a_branch_that_is_pushed_again_while_gitlab_is_asked_stays(at: str) -> None:
    shop = Shop().there("a", "b")
    del shop.forge.heads["a"]
    shop.sweep()
    shop.clock.advance(GRACE)
    asked = getattr(shop.forge, at)

    async def answered_before_the_push(*args: Any) -> Any:  # noqa: ANN401 - any answer
        answer = await asked(*args)
        shop.forge.heads["a"] = B
        shop.book.deliver("a", BranchEvent(7, "group/shop", "a", A, B))
        return answer

    setattr(shop.forge, at, answered_before_the_push)
    shop.sweep()
    assert shop.environments == {"a": B, "b": A}


@dataclass
class Story:
    """What happens to branches, and to the deliveries that tell of it."""

    shop: Shop = field(default_factory=lambda: Shop(FakeForge(heads={"main": A})))
    pending: list[BranchEvent] = field(default_factory=list)
    pushes: int = 0

    def push(self, branch: str) -> None:
        self.pushes += 1
        self._move(branch, f"{self.pushes:040x}")

    def delete(self, branch: str) -> None:
        self._move(branch, GONE)

    def deliver(self, _: str) -> None:
        if self.pending:
            event = self.pending.pop(0)
            self.shop.book.deliver(event.branch, event)

    def deliver_last(self, _: str) -> None:
        if self.pending:
            self.shop.book.deliver(self.pending[-1].branch, self.pending[-1])

    def lose(self, _: str) -> None:
        del self.pending[:1]

    def sweep(self, _: str) -> None:
        self.shop.sweep()

    def wait(self, _: str) -> None:
        self.shop.clock.advance(timedelta(minutes=6))

    def finish(self, branch: str) -> None:
        self.shop.book.branches.get(branch, BranchWorld()).finish_teardown()

    def end(self) -> None:
        """Nothing happens any more but sweeps; a person agrees to what they have to."""
        for _ in range(3):
            self.shop.sweep()
            self.shop.clock.advance(GRACE)
            for branch in self.shop.book.branches:
                self.finish(branch)
        sweep = self.shop.book.status.sweep
        self.shop.confirmed = sweep.confirmation if sweep else ""
        self.shop.sweep()
        self.shop.sweep()

    def _move(self, branch: str, after: str) -> None:
        before = self.shop.forge.heads.pop(branch, GONE)
        if after:
            self.shop.forge.heads[branch] = after
        if before != after:
            self.pending.append(BranchEvent(7, "group/shop", branch, before, after))


STEPS = [Story.push, Story.push, Story.delete, Story.deliver, Story.deliver_last, Story.lose, Story.sweep, Story.wait]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*STEPS, Story.finish]), st.sampled_from("abcdef")), max_size=40))
def test_any_interleaving_ends_with_exactly_the_right_set(
    history: list[tuple[Callable[[Story, str], None], str]],
) -> None:
    """Pushes, deletions, lost, late and repeated deliveries, sweeps and finished teardowns, in any order."""
    story = Story()
    for step, branch in history:
        step(story, branch)
    story.end()
    heads = story.shop.forge.heads
    assert story.shop.environments == {branch: head for branch, head in heads.items() if branch != "main"}


def test_what_is_being_torn_down_comes_back_if_gitlab_has_its_branch() -> None:
    shop = Shop().there("a", "b")
    shop.book.deliver("a", Unwanted())
    known: Known = shop.book.branches["a"].known
    assert isinstance(known, Terminating)
    shop.sweep()
    shop.book.branches["a"].finish_teardown()
    assert shop.environments == {"a": A, "b": A}
