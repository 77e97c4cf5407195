"""One pass for one key: in a world that keeps state, with faults at every call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from envprov.controller.reconcile import Outcome, Reconciler
from envprov.domain.checks.accounts import ACCOUNT_TAKEN
from envprov.domain.desired import identity_of
from envprov.domain.environment import EXTENDED, parse_environment
from envprov.domain.errors import (
    ChartNotFound,
    Conflict,
    EnvprovError,
    Forbidden,
    HelmFailed,
    InvalidRecord,
    RenderFailed,
    RetryableError,
    Unavailable,
)
from envprov.domain.findings import Subject
from envprov.domain.guard import Kept, Verdict
from envprov.domain.health import Condition, Health
from envprov.domain.holds import HUSK, STATE, Account
from envprov.domain.lifetime import Extension
from envprov.domain.observed import Rendered
from envprov.domain.release import ReleaseState
from tests.unit.builders import (
    CONTROL,
    NAMESPACE,
    NOW,
    SLUG,
    Manifest,
    environment,
    environment_manifest,
    platform,
    project,
    rich_project,
    stored,
)
from tests.unit.fakes import Clock, Elsewhere, FakeCluster, FakeRecords, Faults

RESYNC = timedelta(minutes=5)
AT_ONCE = timedelta(0)


@dataclass
class World:
    """A cluster, a control namespace and the reconciler between them; ports share one count of calls."""

    faults: Faults = field(default_factory=Faults)
    clock: Clock = field(default_factory=lambda: Clock(NOW))

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(
            self.faults,
            originals={
                (CONTROL, "registry-pull"): {"metadata": {"name": "registry-pull"}, "data": {"a": "YQ=="}},
                ("shared", "tls"): {"metadata": {"name": "tls"}, "data": {"b": "Yg=="}},
            },
            clock=self.clock,
        )
        manifest = environment_manifest()
        manifest["metadata"]["finalizers"] = []
        self.records = FakeRecords(self.faults, live={SLUG: manifest}, projects={"shop": rich_project()})
        self.reconcile = Reconciler(self.records, self.cluster, platform(), self.clock)

    async def drive(self, passes: int = 40) -> Outcome:
        """Serve the key again and again, as workers and watches do, until nothing is left to do."""
        for _ in range(passes):
            try:
                outcome = await self.reconcile(SLUG)
            except EnvprovError:
                self.clock.advance(RESYNC)
                continue
            if outcome.phase == "Ready" or (outcome.phase == "Gone" and SLUG not in self.records.live):
                return outcome
            self.clock.advance(outcome.look_again or RESYNC)
        raise AssertionError(f"no end: {outcome}; {self.faults.calls[-20:]}")

    def state(self) -> tuple[object, ...]:
        """Return what must be the same however it came about."""
        objects = {
            key: {name: part for name, part in item.items() if name != "metadata"}
            | {"labels": item["metadata"]["labels"]}
            for key, item in self.cluster.live.items()
        }
        release = self.cluster.release
        record = self.records.live.get(SLUG)
        finalizers = record["metadata"]["finalizers"] if record else None
        facts = self.records.facts(SLUG) if record else None
        return objects, release.state, release.digest, finalizers, facts, dict(self.cluster.pods)

    async def go(self, until: Callable[[], bool], passes: int = 40) -> None:
        """Serve the key again and again until something is so."""
        for _ in range(passes):
            if until():
                return
            try:
                outcome = await self.reconcile(SLUG)
            except EnvprovError:
                self.clock.advance(RESYNC)
            else:
                self.clock.advance(outcome.look_again or RESYNC)
        raise AssertionError(f"never so: {self.faults.calls[-20:]}")

    @property
    def blocked(self) -> str:
        """Why the teardown waits for somebody, in one word."""
        status, reason = self.records.facts(SLUG).get("TeardownBlocked", ("", ""))
        return reason if status == "True" else ""

    @property
    def teardown(self) -> Manifest:
        status: Manifest = self.records.live[SLUG]["status"]["teardown"]
        return status

    @property
    def namespace(self) -> Manifest:
        return self.cluster.live["Namespace", NAMESPACE]


async def risen() -> World:
    world = World()
    assert (await world.drive()).phase == "Ready"
    return world


# --- The way up


def test_one_pass_goes_all_the_way_up_when_everything_answers() -> None:
    async def story() -> None:
        world = World()
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.look_again) == ("Ready", RESYNC)
        first = [action for action in outcome.actions if "apply" in action]
        assert first[:4] == [
            f"apply Namespace {NAMESPACE}",
            "apply RoleBinding envprov-controller",
            "apply LimitRange envprov",
            "apply ResourceQuota envprov",
        ]
        assert outcome.actions[-1] == f"deploy release {SLUG}"
        assert world.records.live[SLUG]["metadata"]["finalizers"] == ["envprov.io/teardown"]
        assert world.records.facts(SLUG) == {
            "Accepted": ("True", "Accepted"),
            "NamespaceReady": ("True", "InPlace"),
            "Deployed": ("True", "InSync"),
            "Healthy": ("True", "Healthy"),
            "Ready": ("True", "Ready"),
        }
        assert world.records.told == ["Ready"]

    asyncio.run(story())


def test_our_finalizer_stands_before_anything_is_made() -> None:
    async def story() -> None:
        world = World()
        await world.reconcile(SLUG)
        assert world.faults.calls[0] == "hold"

    asyncio.run(story())


def test_a_second_pass_does_nothing() -> None:
    async def story() -> None:
        world = await risen()
        calls, reports = len(world.faults.calls), world.records.reports
        outcome = await world.reconcile(SLUG)
        assert outcome == Outcome("Ready", (), RESYNC)
        assert world.faults.calls[calls:] == ["observe"]
        assert world.records.reports == reports
        assert world.records.told == ["Ready"]

    asyncio.run(story())


def test_what_somebody_changed_is_put_back() -> None:
    async def story() -> None:
        world = await risen()
        policy = world.cluster.live["NetworkPolicy", "envprov-default-deny"]
        policy["spec"]["egress"] = [{}]
        del world.cluster.live["Secret", "tls"]
        outcome = await world.reconcile(SLUG)
        assert sorted(outcome.actions) == ["apply NetworkPolicy envprov-default-deny", "apply Secret tls"]
        assert (await world.reconcile(SLUG)).actions == ()

    asyncio.run(story())


def test_pods_that_do_not_start_are_reported_and_looked_at_again() -> None:
    async def story() -> None:
        world = World()
        world.cluster.health = Health(Condition.PROGRESSING, ("Deployment web: 0 of 1 pods available",))
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.look_again) == ("Starting", timedelta(seconds=15))
        assert world.records.facts(SLUG)["Ready"] == ("False", "Starting")
        assert world.records.told == []

    asyncio.run(story())


def test_a_push_updates_in_place() -> None:
    async def story() -> None:
        world = await risen()
        world.records.edit(SLUG, revision="b" * 40)
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.actions) == ("Ready", (f"deploy release {SLUG}",))
        assert world.records.live[SLUG]["status"]["observedRevision"] == "b" * 40
        assert world.cluster.release.revision == 2

    asyncio.run(story())


def test_a_namespace_that_is_still_going_is_waited_for() -> None:
    async def story() -> None:
        world = await risen()
        world.namespace["metadata"]["deletionTimestamp"] = "now"
        outcome = await world.reconcile(SLUG)
        assert outcome == Outcome("Preparing", (), timedelta(seconds=2))

    asyncio.run(story())


# --- A newer generation


@pytest.mark.parametrize(
    "news",
    [
        pytest.param(lambda world: world.records.edit(SLUG, revision="b" * 40), id="push"),
        pytest.param(lambda world: world.records.delete(SLUG), id="deletion"),
    ],
)
def test_news_cuts_a_deployment_short(news: Callable[[World], None]) -> None:
    async def story() -> None:
        world = World()
        world.cluster.gate = asyncio.Event()
        work = asyncio.create_task(world.reconcile(SLUG))
        await asyncio.wait_for(world.cluster.deploying.wait(), 30)
        news(world)
        outcome = await asyncio.wait_for(work, 30)
        assert (outcome.phase, outcome.look_again) == ("Superseded", AT_ONCE)
        assert not world.cluster.deploying.is_set(), "Helm is still at work"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        world.cluster.gate.set()
        assert (await world.drive()).phase == ("Gone" if world.records.retired else "Ready")

    asyncio.run(story())


def test_a_pass_that_is_cancelled_ends_helm() -> None:
    async def story() -> None:
        world = World()
        world.cluster.gate = asyncio.Event()
        work = asyncio.create_task(world.reconcile(SLUG))
        await asyncio.wait_for(world.cluster.deploying.wait(), 30)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(work, 30)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        world.cluster.gate.set()
        assert (await world.drive()).phase == "Ready"

    asyncio.run(story())


# --- Failures of Helm


def test_a_failure_of_helm_is_reported_and_rests() -> None:
    async def story() -> None:
        world = World()
        world.cluster.helm_fault = HelmFailed("pre-install hook failed")
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.look_again) == ("HelmFailed", timedelta(seconds=5))
        facts = world.records.facts(SLUG)
        assert facts["Deployed"] == ("False", "HelmFailed")
        assert facts["Accepted"] == ("True", "Accepted")
        assert facts["Ready"] == ("False", "Retrying")
        assert world.records.told == ["HelmFailed"]
        world.clock.advance(timedelta(seconds=2))
        assert await world.reconcile(SLUG) == Outcome("Retrying", (), timedelta(seconds=3))
        world.clock.advance(timedelta(seconds=3))
        again = await world.reconcile(SLUG)
        assert (again.phase, again.look_again) == ("HelmFailed", timedelta(seconds=10))
        assert world.records.told == ["HelmFailed", "HelmFailed"]  # which is one Event with a later time

    asyncio.run(story())


def test_another_digest_is_tried_at_once() -> None:
    async def story() -> None:
        world = World()
        world.cluster.helm_fault = HelmFailed("hook failed")
        await world.reconcile(SLUG)
        world.cluster.helm_fault = None
        assert (await world.reconcile(SLUG)).phase == "Retrying"
        world.records.edit(SLUG, values={"replicas": 2})
        assert (await world.reconcile(SLUG)).phase == "Ready"

    asyncio.run(story())


def test_what_helm_will_never_do_rests_for_long() -> None:
    async def story() -> None:
        world = World()
        world.cluster.helm_fault = RenderFailed("values do not fit")
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.look_again) == ("RenderFailed", RESYNC)
        assert world.records.facts(SLUG)["Ready"] == ("False", "Stalled")
        assert world.records.facts(SLUG)["Deployed"] == ("False", "RenderFailed")

    asyncio.run(story())


# --- Terminal faults


def rename(world: World) -> None:
    world.records.live[SLUG]["spec"]["branch"] = "feature-x"


def ghost(world: World) -> None:
    world.cluster.ghosts = ("ServiceAccount old (uid u-0)",)


def hijack(world: World) -> None:
    manifest = {"kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": {}, "annotations": {}}}
    world.cluster.put(manifest)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(lambda world: world.records.projects.clear(), "InvalidRecord", id="no Project"),
        pytest.param(
            lambda world: world.records.projects.update(shop=InvalidRecord("Project shop: spec.chart")),
            "InvalidRecord",
            id="Project that cannot be read",
        ),
        pytest.param(lambda world: world.records.edit(SLUG, size="L"), "InvalidRecord", id="size not allowed"),
        pytest.param(rename, "NameTaken", id="name of another branch"),
        pytest.param(hijack, "NotOwned", id="namespace of others"),
        pytest.param(ghost, "GhostObjects", id="ghosts"),
        pytest.param(
            lambda world: setattr(world.cluster, "chart", ChartNotFound("no chart at shop")),
            "ChartNotFound",
            id="no chart",
        ),
    ],
)
def test_a_terminal_fault_stalls_and_is_told(fault: Callable[[World], None], reason: str) -> None:
    async def story() -> None:
        world = World()
        fault(world)
        outcome = await world.reconcile(SLUG)
        assert outcome == Outcome(reason, (), RESYNC)
        facts = world.records.facts(SLUG)
        assert facts["Accepted"] == ("False", reason)
        assert facts["Ready"] == ("False", "Stalled")
        assert world.records.told == [reason]
        reports = world.records.reports
        assert await world.reconcile(SLUG) == outcome
        assert (world.records.reports, world.records.told) == (reports, [reason])

    asyncio.run(story())


def test_nothing_is_made_in_a_namespace_of_others_or_of_ghosts() -> None:
    async def story() -> None:
        world = World()
        hijack(world)
        before = dict(world.cluster.live)
        await world.reconcile(SLUG)
        assert (world.cluster.live, world.cluster.done) == (before, [])
        world = World()
        ghost(world)
        await world.reconcile(SLUG)
        assert world.cluster.done == [f"apply Namespace {NAMESPACE}", "apply RoleBinding envprov-controller"]

    asyncio.run(story())


def test_poison_is_reported_and_does_not_raise() -> None:
    async def story() -> None:
        world = World()
        world.records.live[SLUG]["spec"] = {"project": "shop", "branch": "feature/x", "lifetime": {"kind": "never"}}
        assert await world.reconcile(SLUG) == Outcome("Poison", (), RESYNC)
        (said,) = world.records.poison
        assert said.startswith(f"Environment {SLUG}: lifetime")
        assert world.cluster.done == []

    asyncio.run(story())


# --- The way down


def test_a_deletion_takes_everything_down_and_retires_once() -> None:
    async def story() -> None:
        world = await risen()
        world.cluster.pods["bare"] = ""
        world.records.delete(SLUG)
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.look_again) == ("TearingDown", timedelta(seconds=6))
        first = [action for action in outcome.actions if "apply" not in action]
        assert first == [
            "fence 2 ServiceAccounts",
            "quiet Deployment web",
            "delete Pod web-1",
            "delete Pod bare",
            f"uninstall release {SLUG}",
        ]
        asked = world.cluster.asked
        world.clock.advance(timedelta(seconds=6))
        outcome = await world.reconcile(SLUG)
        assert outcome.actions == (f"release Namespace {NAMESPACE}", f"delete Namespace {NAMESPACE}")
        assert (outcome.phase, outcome.look_again) == ("TearingDown", timedelta(seconds=2))
        assert world.cluster.asked == asked + 1
        assert world.records.retired == []
        assert (await world.drive()).phase == "Gone"
        assert world.records.retired == [SLUG]
        assert world.records.live == {}
        assert world.cluster.live == {}
        assert await world.reconcile(SLUG) == Outcome("Gone")

    asyncio.run(story())


def test_a_namespace_of_others_is_left_alone_on_the_way_down() -> None:
    async def story() -> None:
        world = World()
        hijack(world)
        await world.reconcile(SLUG)
        world.records.live[SLUG]["metadata"]["finalizers"] = ["envprov.io/teardown"]
        world.records.delete(SLUG)
        outcome = await world.reconcile(SLUG)
        assert outcome == Outcome("Gone", ("remove finalizer",), AT_ONCE)
        assert ("Namespace", NAMESPACE) in world.cluster.live

    asyncio.run(story())


def test_without_our_finalizer_there_is_nothing_to_do() -> None:
    async def story() -> None:
        world = World()
        world.records.live[SLUG]["metadata"]["finalizers"] = ["example.com/other"]
        world.records.delete(SLUG)
        assert await world.reconcile(SLUG) == Outcome("Leaving")
        assert world.faults.calls == []

    asyncio.run(story())


def test_a_teardown_needs_no_project() -> None:
    async def story() -> None:
        world = await risen()
        world.records.projects.clear()
        world.records.delete(SLUG)
        await world.drive()
        assert world.records.retired == [SLUG]

    asyncio.run(story())


def test_what_blocks_a_teardown_is_said() -> None:
    async def story() -> None:
        world = await risen()
        world.records.delete(SLUG)
        calls = len(world.faults.calls)
        world.faults.error = lambda: Unavailable("no answer from the API server")
        world.faults.at = calls + 3  # remains, the guard, report, then the first action
        with pytest.raises(Unavailable):
            await world.reconcile(SLUG)
        teardown = world.records.live[SLUG]["status"]["teardown"]
        assert teardown["waitingFor"] == ["no answer from the API server"]
        await world.drive()
        assert world.records.retired == [SLUG]

    asyncio.run(story())


def test_a_successor_is_made_when_the_teardown_is_over() -> None:
    async def story() -> None:
        world = await risen()
        world.records.delete(SLUG)
        world.records.successors[SLUG] = "c" * 40
        for _ in range(10):
            outcome = await world.reconcile(SLUG)
            world.clock.advance(outcome.look_again or RESYNC)
            if outcome.phase == "Gone":
                break
        assert await world.reconcile(SLUG) == Outcome("Revived", ("create Environment",), AT_ONCE)
        assert world.records.live[SLUG]["spec"]["revision"] == "c" * 40
        assert (await world.drive()).phase == "Ready"
        assert world.records.retired == [SLUG]

    asyncio.run(story())


def test_a_key_of_nothing_is_nothing() -> None:
    async def story() -> None:
        world = World()
        assert await world.reconcile("never-heard-of") == Outcome("Gone")
        assert world.faults.calls == []

    asyncio.run(story())


# --- Shared ServiceAccounts

DEPLOYER, BOT = Account("shared", "deployer"), Account("tools", "bot")
SHOP = project(
    sharedServiceAccounts=[{"namespace": "shared", "name": "deployer", "policy": "delete-with-last-user"}],
)
KEY = identity_of(environment()).holder.key


def sharing(faults: Faults | None = None) -> World:
    """A Project that names an account, and a chart that refers to another."""
    world = World(faults or Faults())
    world.records.projects["shop"] = SHOP
    world.cluster.elsewhere = {DEPLOYER: Elsewhere("u-deployer"), BOT: Elsewhere("u-bot")}
    world.cluster.rendered = Rendered((), (BOT,))
    return world


def holds(world: World) -> dict[Account, bool]:
    return {account: KEY in one.holds for account, one in world.cluster.elsewhere.items()}


def test_accounts_that_are_named_or_referred_to_are_held_before_helm() -> None:
    async def story() -> None:
        world = sharing()
        outcome = await world.reconcile(SLUG)
        assert outcome.actions[-3:] == (
            "hold ServiceAccount shared/deployer",
            "hold ServiceAccount tools/bot",
            f"deploy release {SLUG}",
        )
        assert outcome.phase == "Ready"
        assert holds(world) == {DEPLOYER: True, BOT: True}
        assert [one.policy for one in world.cluster.elsewhere.values()] == ["delete-with-last-user", None]
        assert world.records.live[SLUG]["status"]["holds"] == [
            {"namespace": "shared", "name": "deployer", "uid": "u-deployer"},
            {"namespace": "tools", "name": "bot", "uid": "u-bot"},
        ]
        assert (await world.reconcile(SLUG)).actions == ()

    asyncio.run(story())


def test_an_account_that_is_not_there_yet_is_waited_for() -> None:
    async def story() -> None:
        world = sharing()
        del world.cluster.elsewhere[DEPLOYER]
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.look_again) == ("Preparing", timedelta(seconds=30))
        assert world.cluster.release.state is ReleaseState.ABSENT
        conditions = world.records.live[SLUG]["status"]["conditions"]
        (said,) = {entry["message"] for entry in conditions if entry["type"] == "Ready"}
        assert said.startswith("waits for the ServiceAccount shared/deployer, which sharedServiceAccounts of")
        world.cluster.elsewhere[DEPLOYER] = Elsewhere("u-deployer")
        assert (await world.reconcile(SLUG)).phase == "Ready"

    asyncio.run(story())


def test_a_chart_that_would_own_a_shared_account_stalls_before_anything_is_held() -> None:
    async def story() -> None:
        world = sharing()
        world.cluster.rendered = Rendered((DEPLOYER,), (BOT,))
        subject = Subject("v1", "ServiceAccount", DEPLOYER.namespace, DEPLOYER.name)
        world.cluster.findings = (ACCOUNT_TAKEN.found(subject, "metadata.namespace", "it is shared", "refer to it"),)
        outcome = await world.reconcile(SLUG)
        assert outcome == Outcome("AccountTaken", (), RESYNC)
        assert world.records.told == ["AccountTaken"]
        assert world.records.facts(SLUG)["Accepted"] == ("False", "AccountTaken")
        assert world.records.live[SLUG]["status"]["findings"] == [
            {
                "reason": "AccountTaken",
                "severity": "error",
                "object": "ServiceAccount deployer",
                "field": "metadata.namespace",
                "message": "it is shared",
                "remedy": "refer to it",
            }
        ]
        assert not [key for key in world.cluster.live if key[0] == "Namespace"]
        assert holds(world) == {DEPLOYER: False, BOT: False}
        assert world.cluster.release.state is ReleaseState.ABSENT
        assert world.records.facts(SLUG)["Ready"] == ("False", "Stalled")

    asyncio.run(story())


def test_an_account_that_was_made_again_is_held_anew_and_told_of_once() -> None:
    async def story() -> None:
        world = sharing()
        await world.drive()
        world.cluster.elsewhere[BOT] = Elsewhere("u-bot-2")
        assert (await world.reconcile(SLUG)).actions == ("hold ServiceAccount tools/bot",)
        await world.reconcile(SLUG)
        assert world.records.told == ["Ready", "HoldLost"]
        assert "tools/bot was deleted and made again" in world.records.messages[-1]
        assert world.records.live[SLUG]["status"]["holds"][1]["uid"] == "u-bot-2"

    asyncio.run(story())


# --- The way down, with the guard

USED = Verdict(
    "Husk",
    (Kept(Account(NAMESPACE, "bot"), ("RoleBinding prod/deployers",)),),
    ("ServiceAccount bot is kept by RoleBinding prod/deployers",),
)


async def shared_and_going(faults: Faults | None = None) -> World:
    """An environment with everything that a teardown must see to, which is asked to go."""
    world = sharing()
    await world.drive()
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {}}}
        for name in ("bot", "hook")
    ]
    for account in accounts:
        world.cluster.put(account)
    world.cluster.hooks = frozenset({"hook"})
    world.cluster.custom = ["database"]
    world.records.delete(SLUG)
    if faults is not None:
        world.cluster.faults = world.records.faults = world.faults = faults
    return world


def test_each_stage_comes_in_its_order_and_holds_elsewhere_end_last() -> None:
    async def story() -> None:
        world = await shared_and_going()
        begun = len(world.cluster.done)
        await world.drive()
        assert [action for action in world.cluster.done[begun:] if not action.startswith("apply")] == [
            "fence 2 ServiceAccounts",
            "delete Widget database",
            "quiet Deployment web",
            "delete Pod web-1",
            f"uninstall release {SLUG}",
            "fence 3 ServiceAccounts",
            f"release Namespace {NAMESPACE}",
            f"delete Namespace {NAMESPACE}",
            "release ServiceAccount shared/deployer",
            "release ServiceAccount tools/bot",
        ]
        assert holds(world) == {DEPLOYER: False, BOT: False}

    asyncio.run(story())


def test_settling_begins_anew_when_the_accounts_of_hooks_are_fenced() -> None:
    async def story() -> None:
        world = await shared_and_going()
        world.cluster.gate = None
        await world.go(lambda: world.cluster.release.state is ReleaseState.ABSENT)
        assert world.cluster.fenced(NAMESPACE) == {"bot", "envprov-installer", "hook"}
        fenced_at = world.teardown["fencedAt"]
        asked = world.cluster.asked
        await world.go(lambda: world.cluster.asked > asked)
        assert world.clock.now - datetime.fromisoformat(fenced_at) >= timedelta(seconds=5)

    asyncio.run(story())


def test_settling_goes_on_after_a_restart_and_the_last_answer_is_asked_for_after_it() -> None:
    async def story() -> None:
        world = await risen()
        world.clock.advance(timedelta(microseconds=999_999))
        world.records.delete(SLUG)
        await world.reconcile(SLUG)
        asked = world.cluster.asked
        for _ in range(5):
            world.reconcile = Reconciler(world.records, world.cluster, platform(), world.clock)
            world.clock.advance(timedelta(seconds=1))
            outcome = await world.reconcile(SLUG)
            assert (outcome.actions, world.cluster.asked) == ((), asked)
        world.clock.advance(outcome.look_again or RESYNC)
        calls = len(world.faults.calls)
        await world.reconcile(SLUG)
        done = [call for call in world.faults.calls[calls:] if call not in {"remains", "report"}]
        assert done == ["ask guard", f"release Namespace {NAMESPACE}", f"delete Namespace {NAMESPACE}"]

    asyncio.run(story())


def test_a_crash_between_release_and_deletion_asks_the_guard_again() -> None:
    async def story() -> None:
        world = await risen()
        world.records.delete(SLUG)
        await world.reconcile(SLUG)
        asked = world.cluster.asked
        world.clock.advance(timedelta(seconds=6))
        world.faults.at, world.faults.error = len(world.faults.calls) + 3, lambda: Unavailable("no answer")
        world.faults.lost = True
        with pytest.raises(Unavailable):
            await world.reconcile(SLUG)
        assert (world.cluster.done[-1], world.cluster.asked) == (f"release Namespace {NAMESPACE}", asked + 1)
        outcome = await world.reconcile(SLUG)
        assert (outcome.actions, world.cluster.asked) == ((f"delete Namespace {NAMESPACE}",), asked + 2)

    asyncio.run(story())


def test_what_others_use_stays_as_a_husk_and_is_told_once() -> None:
    async def story() -> None:
        world = await shared_and_going()
        leftover = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": NAMESPACE}}
        data = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hook", "namespace": NAMESPACE}}
        world.cluster.others = (stored(leftover), stored(data))
        world.cluster.verdict = USED
        await world.go(lambda: world.blocked == "HeldByOthers")
        assert world.namespace["metadata"]["labels"][STATE] == HUSK
        assert "bot" not in world.cluster.fenced(NAMESPACE)
        assert ("ResourceQuota", "envprov-husk") in world.cluster.live
        assert [item["metadata"]["name"] for item in world.cluster.others] == ["hook"]  # for the hooks of its end
        assert [*world.cluster.custom, *world.cluster.pods] == []
        assert holds(world) == {DEPLOYER: True, BOT: True}
        assert world.teardown["plan"] == "Husk"
        assert world.teardown["waitingFor"] == [f"ServiceAccount {NAMESPACE}/bot: RoleBinding prod/deployers"]
        told = list(world.records.told)
        for _ in range(3):
            assert await world.reconcile(SLUG) == Outcome("TearingDown", (), timedelta(minutes=1))
        assert world.records.told == told
        assert told.count("HeldByOthers") == 1

    asyncio.run(story())


def test_a_husk_that_nobody_uses_any_more_goes_all_the_way_hooks_included() -> None:
    async def story() -> None:
        world = await shared_and_going()
        world.cluster.verdict = USED
        await world.go(lambda: world.blocked == "HeldByOthers")
        begun = len(world.cluster.done)
        world.cluster.verdict = Verdict("Full")
        await world.drive()
        assert world.cluster.done[begun:] == [
            "fence 2 ServiceAccounts",
            "delete ResourceQuota envprov-husk",
            f"uninstall release {SLUG}",
            "fence 3 ServiceAccounts",
            f"release Namespace {NAMESPACE}",
            f"delete Namespace {NAMESPACE}",
            "release ServiceAccount shared/deployer",
            "release ServiceAccount tools/bot",
        ]

    asyncio.run(story())


def test_a_new_user_during_the_settling_makes_a_husk_and_unfences_its_account() -> None:
    async def story() -> None:
        world = await shared_and_going()
        await world.go(lambda: "fencedAt" in world.teardown if "teardown" in said(world) else False)
        assert "bot" in world.cluster.fenced(NAMESPACE)
        world.cluster.verdict = USED
        await world.go(lambda: world.blocked == "HeldByOthers")
        assert world.cluster.fenced(NAMESPACE) == {"envprov-installer", "hook"}
        assert "fencedAt" not in world.teardown
        assert f"release Namespace {NAMESPACE}" not in world.cluster.done
        assert ("ServiceAccount", "bot") in world.cluster.live

    asyncio.run(story())


def said(world: World) -> Manifest:
    status: Manifest = world.records.live[SLUG]["status"]
    return status


@pytest.mark.parametrize(
    ("last", "then"),
    [
        ("fence 2 ServiceAccounts", []),
        ("delete Widget database", []),
        ("delete Pod web-1", []),
        (f"uninstall release {SLUG}", []),
        ("fence 3 ServiceAccounts", []),
        (f"release Namespace {NAMESPACE}", [f"withhold Namespace {NAMESPACE}"]),
    ],
)
def test_a_guard_that_is_disarmed_midway_stops_everything_until_it_is_armed_again(last: str, then: list[str]) -> None:
    async def story() -> None:
        world = await shared_and_going()

        def disarm(action: str) -> None:
            if action == last:
                world.cluster.disarmed = "the policy is gone"

        world.cluster.afterwards = disarm
        await world.go(lambda: world.blocked == "Disarmed")
        assert world.cluster.done[world.cluster.done.index(last) :] == [last, *then]
        for _ in range(3):
            assert (await world.reconcile(SLUG)).actions == ()
        assert (world.teardown["plan"], world.teardown["waitingFor"]) == ("Blocked", ["the policy is gone"])
        assert "fencedAt" not in world.teardown
        assert world.records.told.count("Disarmed") == 1
        world.cluster.disarmed, world.cluster.afterwards = "", lambda _: None
        await world.drive()
        assert (world.cluster.live, holds(world)) == ({}, {DEPLOYER: False, BOT: False})

    asyncio.run(story())


@pytest.mark.parametrize("reason", ["Disarmed", "UsageUnknown"])
def test_a_guard_that_cannot_answer_at_the_start_lets_nothing_begin(reason: str) -> None:
    async def story() -> None:
        world = await shared_and_going()
        done = list(world.cluster.done)
        world.cluster.verdict = Verdict("Blocked", why=("cannot list Pods",))
        world.cluster.disarmed = "the policy is gone" if reason == "Disarmed" else ""
        for _ in range(3):
            assert (await world.reconcile(SLUG)).actions == ()
        assert (world.blocked, world.cluster.done) == (reason, done)
        assert world.records.told.count(reason) == 1
        world.cluster.disarmed, world.cluster.verdict = "", Verdict("Full")
        await world.drive()
        assert world.records.retired == [SLUG]

    asyncio.run(story())


def test_users_that_cannot_be_seen_at_the_end_keep_the_namespace() -> None:
    async def story() -> None:
        world = await shared_and_going()
        await world.go(lambda: world.cluster.release.state is ReleaseState.ABSENT)
        world.cluster.verdict = Verdict("Blocked", why=("cannot list Pods",))
        await world.go(lambda: world.blocked == "UsageUnknown")
        assert "deletionTimestamp" not in world.namespace["metadata"]
        assert f"release Namespace {NAMESPACE}" not in world.cluster.done
        world.cluster.verdict = Verdict("Full")
        asked = world.cluster.asked
        await world.drive()
        assert world.cluster.asked >= asked + 2, "the fence settles anew, and the guard looks after it"

    asyncio.run(story())


def test_a_guard_that_is_disarmed_when_the_namespace_is_gone_keeps_the_holds_elsewhere() -> None:
    async def story() -> None:
        world = await shared_and_going()
        await world.go(lambda: "deletionTimestamp" in world.namespace["metadata"])
        world.cluster.disarmed = "the policy is gone"
        await world.go(lambda: world.blocked == "Disarmed")
        assert world.cluster.live == {}
        assert (holds(world), world.records.retired) == ({DEPLOYER: True, BOT: True}, [])
        world.cluster.disarmed = ""
        await world.drive()
        assert (holds(world), world.records.retired) == ({DEPLOYER: False, BOT: False}, [SLUG])

    asyncio.run(story())


def test_an_account_that_may_not_be_deleted_keeps_the_namespace_and_is_named() -> None:
    async def story() -> None:
        world = await shared_and_going()
        world.cluster.denied = {"bot"}
        await world.go(lambda: "bot is held" in " ".join(said(world).get("teardown", {}).get("waitingFor", [])))
        for _ in range(3):
            world.clock.advance(timedelta(seconds=30))
            assert await world.reconcile(SLUG) == Outcome("Forbidden", (), timedelta(seconds=30))
        assert "envprov.io/released-uid" not in world.namespace["metadata"]["annotations"]
        assert f"delete Namespace {NAMESPACE}" not in world.cluster.done
        world.cluster.denied.clear()
        await world.drive()
        assert (world.cluster.live, world.records.retired) == ({}, [SLUG])

    asyncio.run(story())


@pytest.mark.parametrize("through_a_husk", [pytest.param(False, id="at once"), pytest.param(True, id="husk first")])
def test_two_controllers_at_once_end_in_the_same_state(*, through_a_husk: bool) -> None:
    async def later(reconcile: Reconciler, ticks: int) -> None:
        for _ in range(ticks):
            await asyncio.sleep(0)
        with suppress(RetryableError):
            await reconcile(SLUG)

    async def story(ticks: int) -> World:
        world = await shared_and_going()
        world.cluster.done.clear()
        world.cluster.verdict = USED if through_a_husk else Verdict("Full")
        other = Reconciler(world.records, world.cluster, platform(), world.clock)
        for number in range(30):
            if SLUG not in world.records.live:
                return world
            if number > 8:
                world.cluster.verdict = Verdict("Full")
            await asyncio.gather(later(world.reconcile, 0), later(other, ticks))
            world.clock.advance(timedelta(seconds=2))
        raise AssertionError(f"no end: {world.cluster.done}")

    expected = share_and_fall(Faults(), through_a_husk=through_a_husk)
    for ticks in range(0, 60, 3):
        world = asyncio.run(story(ticks))
        assert world.state() == expected.state(), ticks
        assert (world.cluster.live, holds(world)) == ({}, {DEPLOYER: False, BOT: False}), ticks
        assert set(world.cluster.done) >= set(expected.cluster.done), ticks
        assert set(world.records.retired) == {SLUG}, ticks


def test_two_controllers_at_once_bring_one_environment_up() -> None:
    async def story(ticks: int) -> World:
        world = sharing()
        other = Reconciler(world.records, world.cluster, platform(), world.clock)

        async def later() -> None:
            for _ in range(ticks):
                await asyncio.sleep(0)
            with suppress(RetryableError):
                await other(SLUG)

        with suppress(RetryableError):
            await asyncio.gather(world.reconcile(SLUG), later())
        await world.drive()
        return world

    async def alone() -> World:
        world = sharing()
        await world.drive()
        return world

    expected = asyncio.run(alone())
    for ticks in range(0, 60, 3):
        world = asyncio.run(story(ticks))
        assert world.state()[0] == expected.state()[0], ticks
        assert world.state()[3:] == expected.state()[3:], ticks
        assert holds(world) == {DEPLOYER: True, BOT: True}


def test_a_user_that_comes_while_the_pods_end_keeps_its_account_from_helm() -> None:
    async def story() -> None:
        world = await shared_and_going()
        world.cluster.owned = {"bot"}

        def use(action: str) -> None:
            if action == "delete Pod web-1":
                world.cluster.verdict = USED

        world.cluster.afterwards = use
        await world.go(lambda: world.blocked == "HeldByOthers")
        assert ("ServiceAccount", "bot") in world.cluster.live

    asyncio.run(story())


def test_an_account_that_helm_may_not_delete_makes_a_husk_and_gets_its_tokens_again() -> None:
    async def story() -> None:
        world = await shared_and_going()
        world.cluster.owned = {"bot"}

        def use(action: str) -> None:
            if action == "delete Pod web-1":
                world.cluster.verdict, world.cluster.denied = USED, {"bot"}

        world.cluster.afterwards = use
        await world.go(lambda: world.blocked == "HeldByOthers")
        assert "bot" not in world.cluster.fenced(NAMESPACE)

    asyncio.run(story())


def test_a_husk_that_was_blocked_on_its_way_still_loses_what_nobody_uses() -> None:
    async def story() -> None:
        world = await shared_and_going()
        leftover = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web", "namespace": NAMESPACE}}
        world.cluster.others, world.cluster.verdict = (stored(leftover),), USED
        world.cluster.hooks = frozenset()

        def disarm(action: str) -> None:
            if action == "apply ResourceQuota envprov-husk":
                world.cluster.disarmed = "the policy is gone"

        world.cluster.afterwards = disarm
        await world.go(lambda: world.blocked == "Disarmed")
        world.cluster.disarmed, world.cluster.afterwards = "", lambda _: None
        await world.go(lambda: world.blocked == "HeldByOthers")
        for _ in range(3):
            await world.reconcile(SLUG)
        assert not world.cluster.others

    asyncio.run(story())


def test_an_account_that_was_made_again_is_told_of_when_a_deployment_follows_at_once() -> None:
    async def story() -> None:
        world = sharing()
        await world.drive()
        world.cluster.elsewhere[BOT] = Elsewhere("u-bot-2")
        world.records.edit(SLUG, revision="b" * 40)
        await world.drive()
        assert world.records.told.count("HoldLost") == 1

    asyncio.run(story())


# --- Expiry


IDLE = {"kind": "expire-after", "idle": "PT1H"}


def test_an_environment_ends_when_its_time_is_over() -> None:
    async def story() -> None:
        world = World()
        world.records.live[SLUG]["spec"]["lifetime"] = IDLE
        assert (await world.reconcile(SLUG)).look_again == RESYNC
        world.clock.advance(timedelta(minutes=58))
        assert (await world.reconcile(SLUG)).look_again == timedelta(minutes=2)
        world.clock.advance(timedelta(minutes=2))
        outcome = await world.reconcile(SLUG)
        assert (outcome.phase, outcome.actions) == ("Expired", ("delete Environment",))
        assert world.records.expired == [SLUG]
        assert world.records.told == ["Ready", "Expired"]
        await world.drive()
        assert world.cluster.live == {}

    asyncio.run(story())


def test_an_end_that_is_near_is_told_of_once_and_again_when_it_has_moved() -> None:
    async def story() -> None:
        world = World()
        world.records.live[SLUG]["spec"]["lifetime"] = IDLE | {"warn": "PT10M"}
        await world.reconcile(SLUG)
        world.clock.advance(timedelta(minutes=49))
        assert (await world.reconcile(SLUG)).look_again == timedelta(minutes=1)
        assert world.records.told == ["Ready"]
        for _ in range(2):
            world.clock.advance(timedelta(minutes=1))
            await world.reconcile(SLUG)
        assert world.records.told == ["Ready", "ExpiresSoon"]
        extension = Extension(world.clock.now, world.clock.now)
        world.records.live[SLUG]["metadata"]["annotations"] = {EXTENDED: extension.encode()}
        assert (await world.reconcile(SLUG)).look_again == RESYNC
        world.clock.advance(timedelta(minutes=50))
        await world.reconcile(SLUG)
        assert world.records.told == ["Ready", "ExpiresSoon", "ExpiresSoon"]
        world.clock.advance(timedelta(minutes=10))
        assert (await world.reconcile(SLUG)).phase == "Expired"

    asyncio.run(story())


def test_a_pinned_environment_stays() -> None:
    async def story() -> None:
        world = World()
        world.records.live[SLUG]["spec"] |= {"lifetime": IDLE, "pinned": True}
        await world.reconcile(SLUG)
        world.clock.advance(timedelta(days=1))
        assert (await world.reconcile(SLUG)).phase == "Ready"
        assert world.records.expired == []
        world.records.edit(SLUG, pinned=False)
        # What was just asked for is looked at first; then the next pass follows at once.
        assert (await world.reconcile(SLUG)).look_again == timedelta(0)
        assert (await world.reconcile(SLUG)).phase == "Expired"

    asyncio.run(story())


# --- The file of the branch


@dataclass
class FakeFiles:
    """Files by commit, and which were asked for."""

    files: dict[str, bytes | EnvprovError | None] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def branch_file(self, ref: str | int, revision: str) -> bytes | None:
        self.asked.append(f"{ref} {revision[:1]}")
        found = self.files.get(revision)
        if isinstance(found, EnvprovError):
            raise found
        return found


def test_the_file_of_a_commit_is_asked_for_once_and_an_outage_keeps_what_is_deployed() -> None:
    async def story() -> None:
        world = World()
        world.records.projects["shop"] = project(gitlab={"project": "group/shop"}, sizes={"allowed": ["S", "M"]})
        files = FakeFiles({"a" * 40: b"size: M", "b" * 40: Unavailable("GitLab is down"), "c" * 40: b"size: XL"})
        world.reconcile = replace(world.reconcile, files=files)
        await world.drive()
        assert files.asked == ["group/shop a"]
        assert parse_environment(world.records.live[SLUG]).status.size == "M"
        world.records.edit(SLUG, revision="b" * 40)
        with pytest.raises(RetryableError):
            await world.reconcile(SLUG)
        assert parse_environment(world.records.live[SLUG]).status.size == "M"
        world.records.edit(SLUG, revision="c" * 40)
        assert (await world.drive()).phase == "Ready"
        status = parse_environment(world.records.live[SLUG]).status
        assert (status.size, status.observed_revision) == ("M", "c" * 40)
        assert status.branch_file is not None
        assert "line 1: size is unknown" in status.branch_file.fault

    asyncio.run(story())


# --- Who was too late


@pytest.mark.parametrize("late", [(), (f"ServiceAccount {NAMESPACE}/bot by RoleBinding prod/deployers (subject)",)])
def test_who_uses_what_was_in_a_namespace_that_is_gone_is_told_of_once(late: tuple[str, ...]) -> None:
    async def story() -> None:
        world = await shared_and_going()
        world.cluster.late = late
        await world.drive()
        assert world.records.told.count("HoldLost") == len(late)
        assert world.faults.calls.count("look back") == 1

    asyncio.run(story())


def test_in_a_namespace_that_was_never_ours_nobody_is_looked_for() -> None:
    async def story() -> None:
        world = await shared_and_going()
        world.namespace["metadata"]["annotations"]["envprov.io/owner"] = "somebody/else"
        await world.drive()
        assert world.faults.calls.count("look back") == 0

    asyncio.run(story())


# --- Faults at every call

FAULTS = [
    pytest.param(lambda: Unavailable("no answer"), 1, False, id="no answer"),
    pytest.param(lambda: Unavailable("no answer"), 1, True, id="answer lost"),
    pytest.param(lambda: Unavailable("no answer"), 3, False, id="no answer three times"),
    pytest.param(lambda: Conflict("somebody else wrote first"), 1, False, id="conflict"),
    pytest.param(lambda: Forbidden("not yet"), 2, False, id="forbidden twice"),
    pytest.param(lambda: HelmFailed("failed"), 1, True, id="failed and yet done"),
]


def rise_and_fall(faults: Faults, *, down: bool) -> World:
    async def story() -> World:
        world = World() if not down else await risen()
        if down:
            world.records.delete(SLUG)
            world.cluster.faults = world.records.faults = world.faults = faults
        else:
            world.cluster.faults = world.records.faults = world.faults = faults
        await world.drive()
        faults.at = -1
        if not down:
            calls = len(faults.calls)
            assert (await world.drive()).actions == ()
            assert faults.calls[calls:] == ["observe"]
        return world

    return asyncio.run(story())


@pytest.mark.parametrize(("error", "times", "lost"), FAULTS)
@pytest.mark.parametrize("down", [pytest.param(False, id="up"), pytest.param(True, id="down")])
def test_a_fault_at_any_call_ends_in_the_same_state(
    error: Callable[[], EnvprovError],
    times: int,
    *,
    lost: bool,
    down: bool,
) -> None:
    undisturbed = Faults()
    expected = rise_and_fall(undisturbed, down=down)
    assert len(undisturbed.calls) > 8
    for at in range(len(undisturbed.calls)):
        faults = Faults(at=at, times=times, error=error, lost=lost)
        world = rise_and_fall(faults, down=down)
        assert world.state() == expected.state(), f"after {times} faults at call {at}, {undisturbed.calls[at]}"
        if down:
            assert world.records.retired == [SLUG], undisturbed.calls[at]
            assert world.cluster.live == {}


def share_and_fall(faults: Faults, *, through_a_husk: bool) -> World:
    async def story() -> World:
        world = await shared_and_going(faults)
        world.cluster.done.clear()
        if through_a_husk:
            world.cluster.verdict = USED
            await world.go(lambda: world.blocked == "HeldByOthers")
            world.cluster.verdict = Verdict("Full")
        await world.drive()
        return world

    return asyncio.run(story())


@pytest.mark.parametrize(("error", "times", "lost"), FAULTS)
@pytest.mark.parametrize("through_a_husk", [pytest.param(False, id="at once"), pytest.param(True, id="husk first")])
def test_a_fault_at_any_call_of_a_guarded_teardown_ends_in_the_same_state(
    error: Callable[[], EnvprovError],
    times: int,
    *,
    lost: bool,
    through_a_husk: bool,
) -> None:
    undisturbed = Faults()
    expected = share_and_fall(undisturbed, through_a_husk=through_a_husk)
    ends = [f"delete Namespace {NAMESPACE}", f"release ServiceAccount {DEPLOYER}", f"release ServiceAccount {BOT}"]
    for at in range(len(undisturbed.calls)):
        faults = Faults(at=at, times=times, error=error, lost=lost)
        world = share_and_fall(faults, through_a_husk=through_a_husk)
        where = f"after {times} faults at call {at}, {undisturbed.calls[at]}"
        assert world.state() == expected.state(), where
        assert (world.cluster.live, world.records.retired) == ({}, [SLUG]), where
        assert holds(world) == {DEPLOYER: False, BOT: False}, where
        assert sorted(world.cluster.done[-3:]) == sorted(ends), where
        assert [world.cluster.done.count(end) for end in ends] == [1, 1, 1], where


@pytest.mark.parametrize(("error", "times", "lost"), FAULTS)
def test_a_fault_at_any_call_on_the_way_up_leaves_each_account_held(
    error: Callable[[], EnvprovError], times: int, *, lost: bool
) -> None:
    async def story(faults: Faults) -> World:
        world = sharing(faults)
        await world.drive()
        return world

    undisturbed = Faults()
    expected = asyncio.run(story(undisturbed))
    for at in range(len(undisturbed.calls)):
        world = asyncio.run(story(Faults(at=at, times=times, error=error, lost=lost)))
        assert world.state() == expected.state(), undisturbed.calls[at]
        assert holds(world) == {DEPLOYER: True, BOT: True}


def test_only_retryable_errors_come_out_of_a_pass_on_the_way_up() -> None:
    async def story() -> None:
        world = await risen()
        count = world.faults.calls.index(f"deploy release {SLUG}")
        for at in range(count):
            disturbed = World(Faults(at=at, error=lambda: Forbidden("no")))
            try:
                await disturbed.reconcile(SLUG)
            except RetryableError:
                pytest.fail(f"at {world.faults.calls[at]}")

    asyncio.run(story())


# --- Known faults, to be mended in reconcile.py


def test_one_whose_deployment_always_fails_ends_too() -> None:
    async def story() -> None:
        world = World()
        world.records.live[SLUG]["spec"]["lifetime"] = IDLE
        world.cluster.helm_fault = HelmFailed("hook failed")
        for _ in range(30):
            outcome = await world.reconcile(SLUG)
            world.clock.advance(outcome.look_again or RESYNC)
        assert world.records.expired == [SLUG]

    asyncio.run(story())


def test_a_terminal_fault_on_the_way_down_is_no_bug() -> None:
    async def story() -> None:
        world = await risen()
        world.records.delete(SLUG)
        calls = len(world.faults.calls)
        world.faults.error = lambda: Forbidden("a policy holds the pods")
        world.faults.at = calls + 3
        outcome = await world.reconcile(SLUG)
        assert outcome.look_again is not None
        assert world.records.live[SLUG]["status"]["teardown"]["waitingFor"] == ["a policy holds the pods"]

    asyncio.run(story())


def test_a_fault_in_telling_of_a_terminal_fault_is_no_bug() -> None:
    async def story() -> None:
        world = World()
        world.records.projects.clear()
        world.faults.at, world.faults.error = 0, lambda: Forbidden("no rights on status")
        assert (await world.reconcile(SLUG)).look_again is not None

    asyncio.run(story())


def test_poison_can_be_deleted() -> None:
    async def story() -> None:
        world = await risen()
        world.records.live[SLUG]["spec"]["lifetime"] = {"kind": "never"}
        world.records.delete(SLUG)
        await world.drive()
        assert world.cluster.live == {}

    asyncio.run(story())


def test_a_pass_that_fails_leaves_nothing_under_way() -> None:
    async def story() -> None:
        world = World()
        world.faults.at, world.faults.error = 8, lambda: Unavailable("no answer")
        with pytest.raises(Unavailable):
            await world.reconcile(SLUG)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_getting_a_release_unstuck_is_no_success() -> None:
    async def story() -> None:
        world = World()
        world.cluster.helm_fault, world.cluster.helm_leaves = HelmFailed("killed"), ReleaseState.PENDING_INSTALL
        rests = []
        for _ in range(3):
            outcome = await world.reconcile(SLUG)
            assert outcome.look_again is not None
            rests.append(outcome.look_again.total_seconds())
            world.clock.advance(outcome.look_again)
        assert rests == [5, 10, 20]

    asyncio.run(story())


def test_what_is_held_stays_said_when_a_pass_fails_after_the_deployment() -> None:
    async def story() -> None:
        world = sharing()

        def fail(action: str) -> None:
            if action.startswith("deploy"):
                world.faults.at = len(world.faults.calls)  # the next call, which observes

        world.faults.error, world.cluster.afterwards = lambda: Unavailable("no answer"), fail
        await world.drive()
        assert [held["name"] for held in said(world)["holds"]] == ["deployer", "bot"]

    asyncio.run(story())


def test_what_somebody_puts_back_at_once_does_not_keep_a_husk_from_resting() -> None:
    async def story() -> None:
        world = await shared_and_going()
        name = "istio-ca-root-cert"
        world.cluster.others = (
            stored({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE}}),
        )
        before, world.cluster.verdict = world.cluster.others, USED
        world.cluster.afterwards = lambda _: setattr(world.cluster, "others", before)
        await world.go(lambda: world.blocked == "HeldByOthers")

    asyncio.run(story())
