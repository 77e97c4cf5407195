"""One pass for one key: in a world that keeps state, with faults at every call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from envprov.controller.reconcile import Outcome, Reconciler
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
from envprov.domain.health import Condition, Health
from envprov.domain.release import ReleaseState
from tests.unit.builders import (
    CONTROL,
    NAMESPACE,
    NOW,
    SLUG,
    Manifest,
    environment_manifest,
    platform,
    rich_project,
)
from tests.unit.fakes import Clock, FakeCluster, FakeRecords, Faults

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
        await asyncio.wait_for(world.cluster.deploying.wait(), 5)
        news(world)
        outcome = await asyncio.wait_for(work, 5)
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
        await asyncio.wait_for(world.cluster.deploying.wait(), 5)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(work, 5)
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
        assert (outcome.phase, outcome.look_again) == ("TearingDown", timedelta(seconds=2))
        last = [action for action in outcome.actions if "apply" not in action]
        assert last == [
            "quiet Deployment web",
            "delete Pod web-1",
            "delete Pod bare",
            f"uninstall release {SLUG}",
            f"delete Namespace {NAMESPACE}",
        ]
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
        world.faults.at = calls + 2  # remains, report, then the first action
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
        world.faults.at = calls + 2
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
