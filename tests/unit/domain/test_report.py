"""What is said of an environment: conditions that move only when something does, and dates that mean something."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from envprov.domain.desired import desire
from envprov.domain.environment import (
    EXTENDED,
    Environment,
    EnvironmentStatus,
    HeldAccount,
    Step,
    Type,
    parse_environment,
)
from envprov.domain.errors import ChartNotFound, EnvprovError, HelmFailed, Unavailable
from envprov.domain.health import Condition, Health
from envprov.domain.holds import Account
from envprov.domain.lifetime import Extension
from envprov.domain.observed import AccountSeen, Observed
from envprov.domain.plan import Phase, Plan
from envprov.domain.release import ReleaseState
from envprov.domain.report import (
    is_warning_due,
    next_expiry_check,
    replaced_accounts,
    report_fault,
    report_progress,
    report_teardown,
)
from envprov.domain.teardown import Descent
from tests.unit.builders import (
    COMMIT,
    NAMESPACE,
    NOW,
    SLUG,
    desired,
    environment,
    environment_manifest,
    ours,
    platform,
    project,
    release,
)

BORN = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5, microseconds=7)
A_WEEK = timedelta(days=7)

WEEKLY = desired(project(rules=[{"branches": ["*"], "lifetime": {"kind": "expire-after", "idle": "P7D"}}]))
WELL = Observed(ours(), release=release(), digest="d1", health=Health(Condition.HEALTHY))
ILL = replace(WELL, health=Health(Condition.PROGRESSING, ("Deployment web: 0 of 1 pods available",)))
NEW = replace(WELL, digest="d2", health=None)
EMPTY = Observed(ours(), release=release(ReleaseState.ABSENT), digest="d1")

READY = Plan(Phase.READY, "https://x")
STARTING = Plan(Phase.STARTING, "Deployment web: 0 of 1 pods available")
DEPLOYING = Plan(Phase.DEPLOYING, "upgrades release")
PREPARING = Plan(Phase.PREPARING, "makes Namespace")


def written(status: EnvironmentStatus) -> dict[str, Any]:
    """Return a status as it is sent to the API server."""
    said: dict[str, Any] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return said


def after(status: EnvironmentStatus, **metadata: Any) -> Environment:  # noqa: ANN401 - any metadata
    """Return the Environment as it is read back once a status was written."""
    manifest = environment_manifest() | {"status": written(status)}
    manifest["metadata"] |= metadata
    return parse_environment(manifest)


def up(given: Environment, observed: Observed, plan: Plan, now: datetime = NOW) -> EnvironmentStatus:
    return report_progress(given, WEEKLY, observed, plan, now)


def facts(status: EnvironmentStatus) -> dict[str, tuple[str, str]]:
    return {condition.type: (condition.status, condition.reason) for condition in status.conditions}


def since(status: EnvironmentStatus, kind: Type) -> datetime:
    found = status.condition(kind)
    assert found is not None
    return found.last_transition_time


@pytest.mark.parametrize(
    ("observed", "plan", "expected"),
    [
        pytest.param(
            Observed(ours()),
            PREPARING,
            {
                "Accepted": ("True", "Accepted"),
                "NamespaceReady": ("False", "Preparing"),
                "Deployed": ("False", "Preparing"),
                "Healthy": ("Unknown", "Preparing"),
                "Ready": ("False", "Preparing"),
            },
            id="base not in place",
        ),
        pytest.param(
            EMPTY,
            DEPLOYING,
            {
                "Accepted": ("True", "Accepted"),
                "NamespaceReady": ("True", "InPlace"),
                "Deployed": ("False", "Deploying"),
                "Healthy": ("Unknown", "Deploying"),
                "Ready": ("False", "Deploying"),
            },
            id="nothing deployed yet",
        ),
        pytest.param(
            ILL,
            STARTING,
            {
                "Accepted": ("True", "Accepted"),
                "NamespaceReady": ("True", "InPlace"),
                "Deployed": ("True", "InSync"),
                "Healthy": ("False", "Progressing"),
                "Ready": ("False", "Starting"),
            },
            id="pods start",
        ),
        pytest.param(
            WELL,
            READY,
            {
                "Accepted": ("True", "Accepted"),
                "NamespaceReady": ("True", "InPlace"),
                "Deployed": ("True", "InSync"),
                "Healthy": ("True", "Healthy"),
                "Ready": ("True", "Ready"),
            },
            id="ready",
        ),
        pytest.param(
            NEW,
            DEPLOYING,
            {
                "Accepted": ("True", "Accepted"),
                "NamespaceReady": ("True", "InPlace"),
                "Deployed": ("False", "Deploying"),
                "Healthy": ("Unknown", "Deploying"),
                "Ready": ("False", "Deploying"),
            },
            id="a new chart is coming",
        ),
    ],
)
def test_conditions(observed: Observed, plan: Plan, expected: dict[str, tuple[str, str]]) -> None:
    status = up(environment(), observed, plan)
    assert facts(status) == expected
    assert {condition.observed_generation for condition in status.conditions} == {1}


def test_who_and_what_it_is() -> None:
    status = up(environment(), WELL, READY)
    assert (status.namespace, status.slug, status.size, status.observed_generation) == (NAMESPACE, SLUG, "S", 1)
    assert status.observed_revision == COMMIT
    assert status.release is not None
    said = status.release.model_dump(exclude_none=True)
    assert said == {"name": SLUG, "revision": 2, "chart": "local shop", "status": "deployed"}


def test_the_revision_moves_only_with_what_is_deployed() -> None:
    first = after(up(environment(), WELL, READY))
    pushed = replace(WEEKLY, revision="b" * 40)
    assert report_progress(first, pushed, NEW, DEPLOYING, LATER).observed_revision == COMMIT
    assert report_progress(first, pushed, WELL, READY, LATER).observed_revision == "b" * 40


def test_the_same_facts_make_the_same_status() -> None:
    first = up(environment(), WELL, READY)
    assert up(after(first), WELL, READY, LATER) == after(first).status


def test_the_time_of_transition_moves_only_with_the_status() -> None:
    first = after(up(environment(), ILL, STARTING))
    assert since(first.status, Type.READY) == NOW
    other_words = Plan(Phase.STARTING, "Deployment web: 0 of 2 pods available")
    same = up(first, ILL, other_words, LATER)
    assert since(same, Type.READY) == NOW
    ready = same.condition(Type.READY)
    assert ready is not None
    assert ready.message == "Deployment web: 0 of 2 pods available"
    moved = up(after(same), WELL, READY, LATER)
    assert since(moved, Type.READY) == LATER.replace(microsecond=0)
    assert since(moved, Type.DEPLOYED) == NOW


def test_messages_are_cut() -> None:
    status = up(environment(), ILL, Plan(Phase.STARTING, "x" * 10_000))
    assert {len(condition.message) for condition in status.conditions if condition.type == "Ready"} == {2000}


# --- Dates


def test_ready_is_dated_when_the_deployment_became_ready() -> None:
    first = after(up(environment(), ILL, STARTING))
    assert first.status.ready_at is None
    second = after(up(first, WELL, READY, LATER))
    assert second.status.ready_at == LATER


@pytest.mark.parametrize(
    "blip",
    [
        pytest.param(lambda was: up(was, ILL, STARTING, LATER), id="a pod that comes and goes"),
        pytest.param(lambda was: report_fault(was, Unavailable("no answer"), LATER, deploying=False), id="an outage"),
    ],
)
def test_what_comes_and_goes_is_no_activity(blip: Any) -> None:  # noqa: ANN401 - a function of the Environment
    first = after(up(environment(), WELL, READY))
    again = up(after(blip(first)), WELL, READY, NOW + timedelta(days=6))
    assert again.ready_at == NOW
    assert again.expires_at == NOW + A_WEEK


def test_a_deployment_is_activity_when_it_begins_and_when_it_ends() -> None:
    first = after(up(environment(), WELL, READY))
    pushed = NOW + timedelta(days=6)
    begun = after(up(first, NEW, DEPLOYING, pushed))
    assert begun.status.expires_at == pushed + A_WEEK
    ended = up(begun, WELL, READY, pushed + timedelta(minutes=9))
    assert ended.ready_at == pushed + timedelta(minutes=9)
    assert ended.expires_at == pushed + timedelta(minutes=9) + A_WEEK


def test_a_deployment_that_starts_when_the_time_is_nearly_over_does_not_expire_meanwhile() -> None:
    first = after(up(environment(), WELL, READY))
    pushed = NOW + A_WEEK - timedelta(seconds=10)
    begun = after(up(first, NEW, DEPLOYING, pushed))
    starting = up(begun, ILL, STARTING, pushed + timedelta(minutes=2))
    assert next_expiry_check(desired(), starting, pushed + timedelta(minutes=2)) == A_WEEK


def test_a_deployment_that_fails_over_and_over_is_activity_only_once() -> None:
    status = up(environment(), EMPTY, DEPLOYING)
    for minutes in (5, 10, 15):
        now = NOW + timedelta(minutes=minutes)
        status = report_fault(after(status), HelmFailed("hook failed"), now, deploying=True)
        status = up(after(status), EMPTY, DEPLOYING, now)
    assert status.expires_at == NOW + A_WEEK


def test_one_that_was_never_ready_ends_too() -> None:
    status = up(environment(), Observed(ours()), PREPARING, BORN)
    assert status.expires_at == BORN + A_WEEK


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        pytest.param(None, None, id="no lifetime -> never"),
        pytest.param({"kind": "keep"}, None, id="keep -> never"),
        pytest.param(
            {"kind": "until", "at": "2026-12-24T18:00:00+09:00"},
            datetime(2026, 12, 24, 9, 0, tzinfo=UTC),
            id="until -> then",
        ),
    ],
)
def test_other_lifetimes(lifetime: dict[str, str] | None, expected: datetime | None) -> None:
    status = report_progress(environment(), desired(lifetime=lifetime), WELL, READY, NOW)
    assert status.expires_at == expected


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        pytest.param(NOW + timedelta(hours=1), timedelta(hours=1), id="later -> so long"),
        pytest.param(NOW - timedelta(hours=1), timedelta(0), id="passed -> now, never before"),
        pytest.param(None, None, id="never -> no check"),
    ],
)
def test_the_next_look_at_the_end(ends: datetime | None, expected: timedelta | None) -> None:
    assert next_expiry_check(desired(), EnvironmentStatus(expires_at=ends), NOW) == expected


WARNED = {"kind": "expire-after", "idle": "P7D", "warn": "P1D"}


@pytest.mark.parametrize(
    ("before_the_end", "next_look", "is_due"),
    [
        pytest.param(timedelta(days=3), timedelta(days=2), False, id="long before -> when the warning is due"),
        pytest.param(timedelta(hours=24), timedelta(hours=24), True, id="at the warning -> warned, then the end"),
        pytest.param(timedelta(hours=1), timedelta(hours=1), True, id="after it -> the end"),
    ],
)
def test_the_warning_of_the_end(before_the_end: timedelta, next_look: timedelta, *, is_due: bool) -> None:
    ends = NOW + before_the_end
    wanted = desired(lifetime=WARNED)
    assert next_expiry_check(wanted, EnvironmentStatus(expires_at=ends), NOW) == next_look
    assert is_warning_due(wanted, ends, NOW) is is_due


def test_an_extension_is_activity_and_the_end_comes_no_sooner_than_it_says() -> None:
    said = NOW + timedelta(days=2)
    for until, expected in ((said, said + A_WEEK), (said + timedelta(days=30), said + timedelta(days=30))):
        extended = environment().model_copy(update={"annotations": {EXTENDED: Extension(said, until).encode()}})
        assert up(extended, WELL, READY).expires_at == expected


def test_a_lifetime_that_was_chosen_is_no_longer_than_the_project_allows() -> None:
    rules = {"limits": {"lifetime": "P3D"}, "rules": [{"branches": ["*"], "lifetime": {"kind": "keep"}}]}
    for chosen, expected in (({"kind": "keep"}, NOW + timedelta(days=3)), (None, None)):
        given = environment(**({"lifetime": chosen} if chosen else {}))
        wanted = desire(given, project(**rules), platform())
        assert report_progress(given, wanted, WELL, READY, NOW).expires_at == expected


# --- Faults


@pytest.mark.parametrize(
    ("error", "deploying", "expected"),
    [
        pytest.param(
            ChartNotFound("no chart at shop"),
            False,
            {"Accepted": ("False", "ChartNotFound"), "Ready": ("False", "Stalled")},
            id="terminal, before Helm",
        ),
        pytest.param(Unavailable("no answer"), False, {"Ready": ("False", "Retrying")}, id="retryable, before Helm"),
        pytest.param(
            HelmFailed("hook failed"),
            True,
            {"Deployed": ("False", "HelmFailed"), "Ready": ("False", "Retrying")},
            id="retryable, in Helm",
        ),
        pytest.param(
            ChartNotFound("no chart"),
            True,
            {"Deployed": ("False", "ChartNotFound"), "Ready": ("False", "Stalled")},
            id="terminal, in Helm",
        ),
    ],
)
def test_a_fault_is_said_and_the_rest_stays(
    error: EnvprovError,
    deploying: bool,  # noqa: FBT001 - a column
    expected: dict[str, tuple[str, str]],
) -> None:
    first = after(up(environment(), WELL, READY), generation=2)
    status = report_fault(first, error, LATER, deploying=deploying)
    assert facts(status) == facts(first.status) | expected
    assert status.observed_generation == 2
    assert status.model_copy(update={"conditions": (), "observed_generation": 1}) == first.status.model_copy(
        update={"conditions": ()}
    )
    ready = status.condition(Type.READY)
    assert ready is not None
    assert ready.message == str(error)


def test_after_the_fault_all_is_well_again() -> None:
    faulty = report_fault(environment(), ChartNotFound("no chart"), NOW, deploying=False)
    assert facts(up(after(faulty), WELL, READY, LATER))["Accepted"] == ("True", "Accepted")


# --- The way down


def going_down(given: Environment, descent: Descent, now: datetime = NOW) -> EnvironmentStatus:
    return report_teardown(given, descent, now)


def test_the_step_never_goes_back() -> None:
    far = after(going_down(environment(), Descent(Step.RELEASE_GONE, "waits")))
    status = going_down(far, Descent(Step.REQUESTED, "puts back what the teardown works with"), LATER)
    assert status.teardown is not None
    assert status.teardown.step is Step.RELEASE_GONE
    assert status.teardown.started_at == NOW
    further = going_down(after(status), Descent(Step.EXTERNAL_GONE, "deletes"), LATER)
    assert further.teardown is not None
    assert further.teardown.step is Step.EXTERNAL_GONE


def test_waiting_is_called_blocked_only_after_a_while() -> None:
    descent = Descent(Step.QUIESCED, "waits until the pods are gone", waiting_for=("Pod web-1",))
    first = going_down(environment(), descent)
    assert facts(first) == {"Ready": ("False", "TearingDown"), "TeardownBlocked": ("False", "InProgress")}
    soon = going_down(after(first), descent, NOW + timedelta(seconds=60))
    assert facts(soon)["TeardownBlocked"] == ("False", "InProgress")
    late = going_down(after(first), descent, NOW + timedelta(seconds=61))
    assert facts(late)["TeardownBlocked"] == ("True", "StillThere")
    blocked = late.condition(Type.TEARDOWN_BLOCKED)
    assert blocked is not None
    assert blocked.message == "waits until the pods are gone: Pod web-1. Nothing is forced; see what holds them"


def test_slow_is_not_blocked_when_it_waits_for_nothing() -> None:
    first = after(going_down(environment(), Descent(Step.PODS_GONE, "uninstalls")))
    late = going_down(first, Descent(Step.PODS_GONE, "uninstalls"), NOW + timedelta(hours=1))
    assert facts(late)["TeardownBlocked"] == ("False", "InProgress")


def test_of_very_many_things_fifty_are_said() -> None:
    many = tuple(f"PersistentVolumeClaim data-{number}" for number in range(80))
    status = going_down(environment(), Descent(Step.RELEASE_GONE, "waits", waiting_for=many))
    assert status.teardown is not None
    assert status.teardown.waiting_for == many[:50]


def test_the_plan_is_said_each_time_anew() -> None:
    husk = going_down(environment(), Descent(Step.PLANNED, "x", plan="Husk"))
    assert husk.teardown is not None
    assert husk.teardown.plan == "Husk"
    full = going_down(after(husk), Descent(Step.PLANNED, "x"))
    assert full.teardown is not None
    assert full.teardown.plan == "Full"


def fenced_at(status: EnvironmentStatus) -> datetime | None:
    assert status.teardown is not None
    return status.teardown.fenced_at


def test_the_fence_is_dated_once_while_it_stands() -> None:
    stands = Descent(Step.EXTERNAL_GONE, "waits", is_fenced=True)
    first = going_down(environment(), stands)
    assert fenced_at(first) == NOW
    assert fenced_at(going_down(after(first), stands, LATER)) == NOW
    broken = going_down(after(first), Descent(Step.PLANNED, "lets nothing new begin"), LATER)
    assert fenced_at(broken) is None
    assert fenced_at(going_down(after(broken), stands, LATER)) == LATER


def test_a_blocked_teardown_says_so_at_once_and_where_to_look() -> None:
    descent = Descent(Step.REQUESTED, "waits", waiting_for=("the policy is gone",), plan="Blocked", blocked="Disarmed")
    status = going_down(environment(), descent)
    assert facts(status)["TeardownBlocked"] == ("True", "Disarmed")
    blocked = status.condition(Type.TEARDOWN_BLOCKED)
    assert blocked is not None
    assert blocked.message == f"waits: the policy is gone. `envprov guard explain {SLUG}` says more"
    seen = after(up(environment(), WELL, READY))
    told = going_down(seen, descent).condition(Type.TEARDOWN_BLOCKED)
    assert told is not None
    assert f"`envprov guard explain {NAMESPACE}`" in told.message


def test_what_goes_on_again_is_not_blocked_any_more() -> None:
    blocked = going_down(environment(), Descent(Step.REQUESTED, "waits", blocked="UsageUnknown", plan="Blocked"))
    status = going_down(after(blocked), Descent(Step.PLANNED, "goes on"))
    assert facts(status)["TeardownBlocked"] == ("False", "InProgress")


# --- Holds

DEPLOYER = Account("shared", "deployer")
HELD = HeldAccount(namespace="shared", name="deployer", uid="u-1")


def holding(**seen: AccountSeen) -> Observed:
    return replace(WELL, accounts={Account("shared", name): found for name, found in seen.items()})


def test_what_is_held_is_said_with_its_uid() -> None:
    observed = holding(
        deployer=AccountSeen("u-1", is_held=True), bot=AccountSeen("u-2", policy="keep"), nobody=AccountSeen()
    )
    assert up(environment(), observed, READY).holds == (HELD,)


def test_holds_are_said_in_order() -> None:
    names = ("zoe", "bot", "ada")
    observed = holding(**{name: AccountSeen(f"u-{name}", is_held=True) for name in names})
    assert [held.name for held in up(environment(), observed, READY).holds] == ["ada", "bot", "zoe"]


@pytest.mark.parametrize("observed", [WELL, holding(deployer=AccountSeen()), holding(deployer=AccountSeen("u-2"))])
def test_a_hold_is_said_until_another_is_seen_in_its_place(observed: Observed) -> None:
    before = after(up(environment(), holding(deployer=AccountSeen("u-1", is_held=True)), READY))
    assert up(before, observed, READY).holds == (HELD,)


@pytest.mark.parametrize(
    ("was", "seen", "expected"),
    [
        pytest.param(None, AccountSeen("u-1", is_held=True), (), id="held for the first time"),
        pytest.param("u-1", AccountSeen("u-1", is_held=True), (), id="the same"),
        pytest.param("u-1", AccountSeen("u-2"), (), id="made again and not yet held"),
        pytest.param("u-1", AccountSeen(), (), id="gone"),
        pytest.param("u-1", AccountSeen("u-2", is_held=True), (DEPLOYER,), id="made again"),
    ],
)
def test_an_account_that_was_made_again_is_replaced(
    was: str | None, seen: AccountSeen, expected: tuple[Account, ...]
) -> None:
    first = holding(**({"deployer": AccountSeen(was, is_held=True)} if was else {}))
    before = after(up(environment(), first, READY))
    now = up(before, holding(deployer=seen), READY)
    assert replaced_accounts(before.status, now) == expected
    assert replaced_accounts(now, up(after(now), holding(deployer=seen), READY)) == ()


def test_holds_stay_said_through_faults_and_on_the_way_down() -> None:
    before = after(up(environment(), holding(deployer=AccountSeen("u-1", is_held=True)), READY))
    assert report_fault(before, Unavailable("x"), LATER, deploying=False).holds == (HELD,)
    assert going_down(before, Descent(Step.PLANNED, "x")).holds == (HELD,)


def test_a_status_that_was_written_reads_the_same() -> None:
    for status in (
        up(environment(), WELL, READY, LATER),
        report_fault(environment(), Unavailable("x"), LATER, deploying=False),
        going_down(environment(), Descent(Step.QUIESCED, "waits", waiting_for=("Pod a",)), LATER),
        up(environment(), holding(deployer=AccountSeen("u-1", is_held=True)), READY, LATER),
        going_down(environment(), Descent(Step.EXTERNAL_GONE, "waits", is_fenced=True)),
    ):
        assert after(status).status == status
