"""The way down as a table: pods, release, volumes, namespace; nothing forced, nothing of others touched."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from envprov.domain.actions import (
    ClearNamespace,
    DeleteCustom,
    DeleteNamespace,
    DeleteObject,
    FenceAccounts,
    MarkHusk,
    QuietObject,
    ReleaseAccount,
    UninstallRelease,
)
from envprov.domain.environment import Step, TeardownStatus
from envprov.domain.guard import Kept, Verdict
from envprov.domain.health import Workloads
from envprov.domain.holds import FENCED, HUSK, RELEASED, STATE, Account
from envprov.domain.observed import GuardSeen, NamespaceSeen, Remains
from envprov.domain.release import ReleaseState
from envprov.domain.teardown import STAGES, Course, Descent, descend
from tests.unit.builders import (
    IDENTITY,
    NAMESPACE,
    NOW,
    SLUG,
    Manifest,
    foreign,
    going,
    held_by,
    missing,
    ours,
    pod,
    pods,
    release,
    remains,
    terminating,
    workload,
)

GONE_SAYS_KUBERNETES = {
    "type": "NamespaceContentRemaining",
    "status": "False",
    "reason": "ContentRemoved",
    "message": "All content successfully removed",
}


FREE = GuardSeen("", Verdict("Full"))
BOT = Account(NAMESPACE, "bot")
USED = GuardSeen("", Verdict("Husk", (Kept(BOT, ("RoleBinding prod/deployers",)),), ("ServiceAccount bot is kept",)))
UNSEEN = GuardSeen("", Verdict("Blocked", why=("cannot list Pods",)))
UNARMED = GuardSeen("the policy envprov-delete-guard is not enforced", Verdict("Blocked"))
SETTLE = timedelta(seconds=5)
FENCED_LONG_AGO = TeardownStatus(
    step=Step.PLANNED, plan="Full", started_at=NOW - timedelta(hours=1), fenced_at=NOW - timedelta(hours=1)
)


def down(given: Remains, guard: GuardSeen | None = FREE, progress: TeardownStatus | None = FENCED_LONG_AGO) -> Descent:
    return descend(IDENTITY, given, Course("envprov", progress, NOW, SETTLE, guard))


def marked(notes: dict[str, str], labels: dict[str, str] | None = None) -> NamespaceSeen:
    """Our namespace with marks of the guard on it."""
    metadata = {**ours().manifest["metadata"], "labels": labels or {}, "annotations": notes}
    return ours({"metadata": metadata})


def accounts(*names: str) -> tuple[Manifest, ...]:
    return tuple(workload(name) for name in names)


def fenced(*names: str, also: tuple[str, ...] = ()) -> Remains:
    """What is left with these ServiceAccounts fenced and others, too, there."""
    return remains(namespace=marked({FENCED: ",".join(names)}), accounts=accounts(*names, *also))


RELEASED_NAMESPACE = marked({RELEASED: "u-ns"})


def words(descent: Descent) -> list[list[str]]:
    return [[str(action) for action in wave] for wave in descent.waves]


def running(name: str, owner: str = "") -> Manifest:
    return workload(name, owner=owner, spec={"replicas": 2})


def widget(name: str) -> Manifest:
    return workload(name) | {"apiVersion": "example.com/v1", "kind": "Widget"}


# --- The order

WEB = running("web")
EVERYTHING = remains(
    workloads=Workloads(
        deployments=(WEB,), pods=(pod("web-1", owner="ReplicaSet"),), claims=(workload("data"), workload("logs"))
    ),
    balancers=(workload("lb"),),
    release=release(),
)
STILL = workload("web", spec={"replicas": 0})


@pytest.mark.parametrize(
    ("given", "step", "expected"),
    [
        pytest.param(EVERYTHING, Step.PLANNED, [["quiet Deployment web"]], id="all is there -> workloads stop"),
        pytest.param(
            remains(
                workloads=Workloads(deployments=(STILL,), pods=(going(pod("web-1", owner="ReplicaSet")),)),
                release=release(),
            ),
            Step.QUIESCED,
            [],
            id="pods are going -> wait, and leave the release alone",
        ),
        pytest.param(
            remains(workloads=Workloads(deployments=(STILL,), claims=(workload("data"),)), release=release()),
            Step.PODS_GONE,
            [[f"uninstall release {SLUG}"]],
            id="pods are gone -> uninstall",
        ),
        pytest.param(
            remains(workloads=Workloads(claims=(workload("data"),)), balancers=(workload("lb"),)),
            Step.RELEASE_GONE,
            [["delete Service lb", "delete PersistentVolumeClaim data"]],
            id="release is gone -> load balancers and volumes",
        ),
        pytest.param(
            remains(workloads=Workloads(claims=(going(workload("data")),))),
            Step.RELEASE_GONE,
            [[]],
            id="volume is going -> wait",
        ),
        pytest.param(
            remains(),
            Step.SETTLED,
            [[f"release Namespace {NAMESPACE}"]],
            id="nothing outside is left -> released",
        ),
        pytest.param(
            remains(namespace=RELEASED_NAMESPACE),
            Step.RELEASED,
            [[f"delete Namespace {NAMESPACE}"]],
            id="released -> namespace",
        ),
        pytest.param(Remains(terminating()), Step.RELEASED, [], id="namespace is going -> wait"),
        pytest.param(Remains(missing()), Step.NAMESPACE_GONE, [], id="namespace is gone -> over"),
        pytest.param(Remains(foreign()), Step.NAMESPACE_GONE, [], id="namespace of others -> over, left alone"),
    ],
)
def test_one_step_after_the_other(given: Remains, step: Step, expected: list[list[str]]) -> None:
    descent = down(given)
    assert descent.step is step
    assert words(descent) == expected
    assert descent.is_over is (step is Step.NAMESPACE_GONE)


def test_the_namespace_is_deleted_as_it_was_read() -> None:
    assert down(remains(namespace=RELEASED_NAMESPACE)).waves == ((DeleteNamespace(NAMESPACE, "u-ns", "7"),),)


@pytest.mark.parametrize("state", [state for state in ReleaseState if state is not ReleaseState.ABSENT])
def test_a_release_in_any_state_is_uninstalled(state: ReleaseState) -> None:
    assert down(remains(release=release(state))).waves == ((UninstallRelease(IDENTITY),),)


def test_a_foreign_namespace_is_said_to_be_left_alone() -> None:
    assert down(Remains(foreign())).message == f"Namespace {NAMESPACE} is not ours and was left alone"


# --- Tools


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        pytest.param(
            [("RoleBinding", "envprov-controller")], ["apply RoleBinding envprov-controller"], id="our rights"
        ),
        pytest.param(
            [("ServiceAccount", "envprov-installer")], ["apply ServiceAccount envprov-installer"], id="installer"
        ),
        pytest.param(
            [("RoleBinding", "envprov-controller"), ("RoleBinding", "envprov-installer")],
            ["apply RoleBinding envprov-controller", "apply RoleBinding envprov-installer"],
            id="both bindings",
        ),
    ],
)
def test_the_tools_are_put_back_before_anything_else(lost: list[tuple[str, str]], expected: list[str]) -> None:
    held = {key: item for key, item in EVERYTHING.objects.items() if key not in lost}
    descent = down(remains(objects=held, workloads=EVERYTHING.workloads, release=release()))
    assert words(descent) == [expected]
    assert descent.step is Step.REQUESTED


# --- What is told to stop


def test_owners_stop_before_what_they_own_and_what_is_owned_is_left_to_them() -> None:
    given = remains(
        workloads=Workloads(
            deployments=(running("web"),),
            stateful_sets=(running("db"),),
            daemon_sets=(workload("agent"),),
            jobs=(workload("migrate"),),
            pods=(pod("bare"), pod("web-1", owner="ReplicaSet"), pod("migrate-1", owner="Job")),
        ),
        replica_sets=(running("web-rs", owner="Deployment"), running("loose-rs")),
        replication_controllers=(running("old"),),
        cron_jobs=(workload("nightly"), workload("paused", spec={"suspend": True})),
    )
    descent = down(given)
    assert words(descent) == [
        [
            "quiet Deployment web",
            "quiet StatefulSet db",
            "quiet ReplicaSet loose-rs",
            "quiet ReplicationController old",
            "quiet CronJob nightly",
            "delete DaemonSet agent",
            "delete Job migrate",
            "delete Pod bare",
        ]
    ]
    assert descent.waves[0][0] == QuietObject("apps/v1", "Deployment", NAMESPACE, "web", "u-web")
    assert descent.waves[0][-1] == DeleteObject("v1", "Pod", NAMESPACE, "bare", "u-bare")
    versions = [action.api_version for action in descent.waves[0] if isinstance(action, QuietObject | DeleteObject)]
    assert versions == ["apps/v1", "apps/v1", "apps/v1", "v1", "batch/v1", "apps/v1", "batch/v1", "v1"]


@pytest.mark.parametrize(
    "workloads",
    [
        pytest.param(Workloads(deployments=(STILL,)), id="Deployment at zero"),
        pytest.param(Workloads(daemon_sets=(going(workload("agent")),)), id="DaemonSet on its way out"),
        pytest.param(Workloads(jobs=(going(workload("migrate")),)), id="Job on its way out"),
    ],
)
def test_what_has_stopped_is_not_told_again(workloads: Workloads) -> None:
    assert down(remains(workloads=workloads)).step is Step.SETTLED


def test_a_workload_that_says_no_number_has_one_pod() -> None:
    assert words(down(remains(workloads=Workloads(deployments=(workload("web"),))))) == [["quiet Deployment web"]]


# --- What it waits for


def test_a_terminating_namespace_names_pods_itself_for_its_conditions_deny_them() -> None:
    stuck = held_by("example.com/wait", pod("web-1"))
    given = Remains(terminating(GONE_SAYS_KUBERNETES), workloads=pods(stuck, pod("api-1")))
    assert down(given).waiting_for == ("Pod api-1", "Pod web-1 (finalizers: example.com/wait)")


def test_a_terminating_namespace_names_what_kubernetes_says_and_its_own_finalizers() -> None:
    failure = {
        "type": "NamespaceDeletionDiscoveryFailure",
        "status": "True",
        "message": "Discovery failed for some groups: metrics.example.com/v1",
    }
    given = Remains(terminating(GONE_SAYS_KUBERNETES, failure, finalizers=("example.com/own",)))
    assert down(given).waiting_for == (
        "NamespaceDeletionDiscoveryFailure: Discovery failed for some groups: metrics.example.com/v1",
        "Namespace finalizer example.com/own",
    )


def test_pods_and_volumes_that_hang_are_named_with_what_holds_them() -> None:
    stuck = held_by("example.com/wait", pod("web-1", owner="ReplicaSet"))
    assert down(remains(workloads=pods(stuck))).waiting_for == ("Pod web-1 (finalizers: example.com/wait)",)
    volume = held_by("kubernetes.io/pvc-protection", workload("data"))
    given = remains(workloads=Workloads(claims=(volume,)), balancers=(workload("lb"),))
    assert down(given).waiting_for == (
        "Service lb",
        "PersistentVolumeClaim data (finalizers: kubernetes.io/pvc-protection)",
    )


def test_of_very_many_pods_fifty_are_named() -> None:
    many = pods(*(going(pod(f"web-{number:03}", owner="ReplicaSet")) for number in range(200)))
    waiting = down(remains(workloads=many)).waiting_for
    assert (len(waiting), waiting[0], waiting[-1]) == (50, "Pod web-000", "Pod web-049")


LAST_HOLD = Remains(missing(), held=(BOT,))
NEVER_FENCED = FENCED_LONG_AGO.model_copy(update={"fenced_at": None})


@pytest.mark.parametrize(
    ("given", "guard", "progress", "expected"),
    [
        (remains(objects={}), FREE, None, "puts back what the teardown works with"),
        (EVERYTHING, None, None, "asks the guard what may go"),
        (EVERYTHING, UNARMED, None, "waits until the guard is armed again"),
        (LAST_HOLD, UNARMED, None, "waits until the guard is armed again"),
        (EVERYTHING, UNSEEN, None, "cannot see who uses the ServiceAccounts"),
        (remains(accounts=accounts("web")), FREE, None, "lets nothing new begin"),
        (remains(custom=(widget("w"),)), FREE, None, "waits until the custom resources are gone"),
        (EVERYTHING, FREE, None, "tells the workloads to stop"),
        (remains(workloads=pods(going(pod()))), FREE, None, "waits until the pods are gone"),
        (remains(release=release()), None, FENCED_LONG_AGO, "asks the guard before Helm works"),
        (remains(release=release()), FREE, None, f"uninstalls release {SLUG}"),
        (remains(balancers=(workload("lb"),)), FREE, None, "waits until volumes and load balancers are gone"),
        (remains(), None, NEVER_FENCED, "waits a moment for what began before the fence stood"),
        (remains(), None, FENCED_LONG_AGO, "asks the guard for the last time"),
        (remains(), FREE, FENCED_LONG_AGO, f"releases Namespace {NAMESPACE}"),
        (remains(namespace=RELEASED_NAMESPACE), FREE, FENCED_LONG_AGO, f"deletes Namespace {NAMESPACE}"),
        (Remains(terminating()), None, FENCED_LONG_AGO, "waits until the namespace is gone"),
        (Remains(missing()), None, FENCED_LONG_AGO, f"Namespace {NAMESPACE} is gone"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_step_says_in_words_what_goes_on(
    given: Remains, guard: GuardSeen | None, progress: TeardownStatus | None, expected: str
) -> None:
    assert down(given, guard, progress).message == expected


def test_a_husk_says_in_words_when_it_lets_no_pods_in() -> None:
    assert down(hollow(objects=remains().objects), USED).message == "lets no pods in any more"


def test_what_waits_for_somebody_looks_again_less_often() -> None:
    assert down(EVERYTHING, UNARMED).look_again == timedelta(seconds=5)
    assert down(EVERYTHING, UNSEEN).look_again == timedelta(seconds=30)
    assert down(remains(workloads=pods(going(pod())))).look_again == timedelta(seconds=2)


def test_putting_tools_back_forgets_no_plan() -> None:
    progress = TeardownStatus(step=Step.PLANNED, plan="Husk", started_at=NOW)
    assert down(remains(objects={}), None, progress).plan == "Husk"


# --- The guard is asked first


def test_the_order_of_the_stages_is_the_order_of_the_design() -> None:
    assert [stage.__name__ for stage in STAGES] == [
        "quieten",
        "let_hooks_run",
        "uninstall",
        "give_back",
        "settle",
        "release",
        "delete",
    ]


@pytest.mark.parametrize(
    "progress",
    [
        pytest.param(None, id="nothing said yet"),
        pytest.param(TeardownStatus(step=Step.REQUESTED, plan="Full", started_at=NOW), id="only asked for"),
        pytest.param(TeardownStatus(step=Step.PLANNED, plan="Husk", started_at=NOW), id="a husk so far"),
        pytest.param(TeardownStatus(step=Step.EXTERNAL_GONE, plan="Blocked", started_at=NOW), id="blocked so far"),
    ],
)
def test_nothing_begins_before_the_guard_was_asked(progress: TeardownStatus | None) -> None:
    descent = down(EVERYTHING, None, progress)
    assert (descent.asks_guard, descent.step, descent.waves) == (True, Step.REQUESTED, ())
    assert descent.plan == (progress.plan if progress else "Full")


def test_what_was_found_free_is_not_asked_for_at_each_step() -> None:
    descent = down(EVERYTHING, None)
    assert (descent.asks_guard, words(descent)) == (False, [["quiet Deployment web"]])


@pytest.mark.parametrize(
    ("guard", "reason", "why"),
    [
        pytest.param(UNARMED, "Disarmed", "the policy envprov-delete-guard is not enforced", id="disarmed"),
        pytest.param(UNSEEN, "UsageUnknown", "cannot list Pods", id="usage unknown"),
    ],
)
@pytest.mark.parametrize(
    ("given", "progress", "expected"),
    [
        pytest.param(EVERYTHING, None, [], id="at the start"),
        pytest.param(EVERYTHING, FENCED_LONG_AGO, [], id="midway"),
        pytest.param(
            remains(namespace=RELEASED_NAMESPACE),
            FENCED_LONG_AGO,
            [[f"withhold Namespace {NAMESPACE}"]],
            id="before the deletion",
        ),
    ],
)
def test_a_guard_that_does_not_know_or_is_not_there_stops_everything(
    given: Remains,
    progress: TeardownStatus | None,
    expected: list[list[str]],
    guard: GuardSeen,
    reason: str,
    why: str,
) -> None:
    descent = down(given, guard, progress)
    assert (descent.plan, descent.blocked, descent.waiting_for) == ("Blocked", reason, (why,))
    assert words(descent) == expected
    assert (descent.is_over, descent.is_fenced) == (False, False)


def test_the_tools_are_put_back_whatever_the_guard_says() -> None:
    bare = remains(objects={})
    assert down(bare, UNARMED).waves == down(bare, FREE).waves == down(bare, None, None).waves != ()


# --- The fence


def test_the_fence_stands_before_anything_is_told_to_stop() -> None:
    given = remains(accounts=accounts("web", "api"), workloads=EVERYTHING.workloads, custom=(widget("w"),))
    descent = down(given)
    assert descent.waves == ((FenceAccounts(NAMESPACE, "u-ns", ("api", "web")),),)
    assert (descent.step, descent.is_fenced) == (Step.PLANNED, False)


def test_the_fence_that_stands_is_said_to_stand() -> None:
    assert down(fenced("api", "web")).is_fenced


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(fenced("api", also=("web",)), id="one that came later is not fenced"),
        pytest.param(remains(namespace=marked({FENCED: "api,web"}), accounts=accounts("web")), id="one is gone"),
        pytest.param(remains(accounts=accounts("web")), id="somebody took it down"),
    ],
)
def test_a_fence_that_is_not_right_is_put_up_anew_and_time_begins_anew(given: Remains) -> None:
    descent = down(given)
    assert words(descent)[0][0].startswith("fence ")
    assert not descent.is_fenced


def test_without_accounts_there_is_nothing_to_fence() -> None:
    assert down(remains()).is_fenced


def test_hook_accounts_stay_unfenced_until_the_release_is_gone() -> None:
    begun = remains(accounts=accounts("hook", "web"), release=release(), hook_accounts=frozenset({"hook"}))
    assert down(begun).waves == ((FenceAccounts(NAMESPACE, "u-ns", ("web",)),),)
    hooked = replace(begun, namespace=marked({FENCED: "web"}))
    uninstalls = down(hooked)
    assert (uninstalls.waves, uninstalls.is_fenced) == (((UninstallRelease(IDENTITY),),), False)
    over = replace(hooked, release=release(ReleaseState.ABSENT), hook_accounts=frozenset())
    fences = down(over)
    assert (fences.waves, fences.is_fenced) == (((FenceAccounts(NAMESPACE, "u-ns", ("hook", "web")),),), False)


# --- Custom resources


def test_custom_resources_go_while_their_operator_still_runs() -> None:
    given = remains(workloads=EVERYTHING.workloads, custom=(widget("b"), widget("a")), release=release())
    descent = down(given)
    assert descent.waves[0][0] == DeleteCustom("example.com/v1", "Widget", NAMESPACE, "b", "u-b")
    assert words(descent) == [["delete Widget b", "delete Widget a"]]
    assert descent.waiting_for == ("Widget b", "Widget a")


def test_custom_resources_that_hang_are_named_and_hold_up_the_rest() -> None:
    stuck = held_by("example.com/wait", widget("a"))
    descent = down(remains(workloads=EVERYTHING.workloads, custom=(stuck,)))
    assert (any(descent.waves), descent.waiting_for) == (False, ("Widget a (finalizers: example.com/wait)",))


def test_of_very_many_custom_resources_fifty_are_named() -> None:
    assert len(down(remains(custom=tuple(widget(f"w-{number}") for number in range(60)))).waiting_for) == 50


# --- The fence settles, and the guard looks once more


def at(fenced_at: datetime | None, now: datetime = NOW, settle: timedelta = SETTLE) -> Course:
    progress = TeardownStatus(step=Step.EXTERNAL_GONE, plan="Full", started_at=NOW, fenced_at=fenced_at)
    return Course("envprov", progress, now, settle)


@pytest.mark.parametrize(
    ("since", "left"),
    [
        pytest.param(None, 5, id="nobody wrote down since when"),
        pytest.param(0, 6, id="just now"),
        pytest.param(5, 1, id="five seconds, of which one may be the rest of a second"),
        pytest.param(5.5, 0.5, id="nearly"),
    ],
)
def test_the_fence_settles_for_its_whole_time(since: float | None, left: float) -> None:
    began = None if since is None else NOW - timedelta(seconds=since)
    descent = descend(IDENTITY, fenced("web"), at(began))
    assert (descent.step, descent.waves, descent.asks_guard) == (Step.EXTERNAL_GONE, (), False)
    assert descent.look_again == timedelta(seconds=left)


@settings(deadline=None)
@given_any(offset=st.integers(0, 999_999), waited=st.integers(0, 12_000_000))
def test_a_moment_written_in_whole_seconds_does_not_shorten_the_settling(offset: int, waited: int) -> None:
    began = NOW + timedelta(microseconds=offset)
    course = at(began.replace(microsecond=0), began + timedelta(microseconds=waited))
    asks = descend(IDENTITY, fenced("web"), course).asks_guard
    if asks:
        assert timedelta(microseconds=waited) >= SETTLE
    elif waited >= 6_000_000:
        pytest.fail("it never ends")


def test_the_guard_looks_once_more_when_the_fence_has_settled() -> None:
    descent = down(fenced("web"), None)
    assert (descent.step, descent.asks_guard, descent.waves) == (Step.EXTERNAL_GONE, True, ())


def test_an_answer_from_before_the_settling_ends_no_settling() -> None:
    course = replace(at(NOW), guard=FREE)
    assert descend(IDENTITY, fenced("web"), course).waves == ()


def test_each_account_is_tried_before_the_namespace_is_let_go() -> None:
    descent = down(fenced("api", "web"))
    assert descent.waves == ((ClearNamespace(NAMESPACE, "u-ns", (("api", "u-api"), ("web", "u-web"))),),)
    assert (descent.step, descent.is_fenced) == (Step.SETTLED, True)


HUSK_READY = {
    **remains().objects,
    ("ResourceQuota", "envprov-husk"): workload("envprov-husk"),
}
CUT_OFF = remains(namespace=RELEASED_NAMESPACE)
WITHHOLD = [f"withhold Namespace {NAMESPACE}"]


@pytest.mark.parametrize(
    ("given", "guard", "progress", "expected"),
    [
        pytest.param(CUT_OFF, FREE, FENCED_LONG_AGO, [[f"delete Namespace {NAMESPACE}"]], id="still free -> deleted"),
        pytest.param(CUT_OFF, None, FENCED_LONG_AGO, [], id="the guard is asked first"),
        pytest.param(CUT_OFF, UNSEEN, FENCED_LONG_AGO, [WITHHOLD], id="users unknown -> kept"),
        pytest.param(CUT_OFF, UNARMED, FENCED_LONG_AGO, [WITHHOLD], id="disarmed -> kept"),
        pytest.param(CUT_OFF, None, NEVER_FENCED, [WITHHOLD], id="settles again -> kept meanwhile"),
        pytest.param(
            replace(CUT_OFF, workloads=pods(going(pod()))), None, FENCED_LONG_AGO, [WITHHOLD], id="pods again -> kept"
        ),
        pytest.param(
            replace(CUT_OFF, accounts=accounts("web")),
            FREE,
            FENCED_LONG_AGO,
            [WITHHOLD, ["fence 1 ServiceAccounts"]],
            id="fence gone -> kept before it is put up",
        ),
        pytest.param(
            replace(CUT_OFF, objects=HUSK_READY, others=()),
            USED,
            FENCED_LONG_AGO,
            [WITHHOLD, [f"mark Namespace {NAMESPACE} as a husk"]],
            id="used again -> kept, a husk",
        ),
    ],
)
def test_a_namespace_released_by_a_teardown_that_was_cut_off_is_guarded_again_unless_it_goes_at_once(
    given: Remains, guard: GuardSeen | None, progress: TeardownStatus, expected: list[list[str]]
) -> None:
    assert words(down(given, guard, progress)) == expected


def test_what_was_never_released_is_not_withheld() -> None:
    for namespace in (ours(), marked({RELEASED: "another"})):
        assert down(remains(namespace=namespace), UNSEEN).waves == ()


def test_the_mark_of_an_earlier_namespace_is_none() -> None:
    assert words(down(remains(namespace=marked({RELEASED: "u-old"})))) == [[f"release Namespace {NAMESPACE}"]]


# --- Husk


def hollow(**changes: Any) -> Remains:  # noqa: ANN401 - any field of Remains
    """What is left of a husk in which bot stays and nothing goes on any more."""
    given = remains(namespace=marked({FENCED: "web"}), accounts=accounts("bot", "web"), objects=HUSK_READY)
    return replace(given, **changes)


def test_a_husk_fences_all_but_what_others_use() -> None:
    descent = down(hollow(namespace=ours()), USED)
    assert descent.waves == ((FenceAccounts(NAMESPACE, "u-ns", ("web",)),),)
    assert (descent.plan, descent.blocked) == ("Husk", "")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            hollow(custom=(widget("w"),), workloads=EVERYTHING.workloads, objects=remains().objects),
            [["delete Widget w"]],
            id="custom resources first",
        ),
        pytest.param(
            hollow(workloads=EVERYTHING.workloads, objects=remains().objects),
            [["quiet Deployment web"]],
            id="then workloads",
        ),
        pytest.param(
            hollow(objects=remains().objects, balancers=(workload("lb"),)),
            [["apply ResourceQuota envprov-husk"]],
            id="then no pods get in",
        ),
        pytest.param(
            hollow(balancers=(workload("lb"),), others=(widget("rest"),)),
            [["delete Service lb"]],
            id="then load balancers",
        ),
        pytest.param(
            hollow(others=(widget("rest"),), release=release()),
            [["delete Widget rest"], [f"mark Namespace {NAMESPACE} as a husk"]],
            id="then the rest, and it is a husk",
        ),
        pytest.param(
            hollow(release=release()), [[f"mark Namespace {NAMESPACE} as a husk"]], id="nothing else is there"
        ),
        pytest.param(
            hollow(namespace=marked({FENCED: "web"}, {STATE: HUSK}), release=release()), [], id="and stays one"
        ),
    ],
)
def test_a_husk_comes_about_in_order(given: Remains, expected: list[list[str]]) -> None:
    descent = down(given, USED)
    assert (descent.plan, words(descent), descent.is_over) == ("Husk", expected, False)
    assert not descent.is_fenced


def test_a_husk_is_none_before_everything_else_in_it_was_looked_at() -> None:
    descent = down(hollow(others=None), USED)
    assert (descent.plan, descent.waves, descent.message) == ("Husk", (), "looks at what else is there")
    assert descent.waiting_for == (f"ServiceAccount {NAMESPACE}/bot: RoleBinding prod/deployers",)
    assert descent.look_again < timedelta(seconds=1)


def test_a_husk_says_who_keeps_it_and_looks_seldom() -> None:
    descent = down(hollow(), USED)
    assert descent.waves == ((MarkHusk(NAMESPACE, "u-ns"),),)
    assert descent.message == "stays as a husk while others use its ServiceAccounts"
    assert descent.blocked == "HeldByOthers"
    assert descent.waiting_for == (f"ServiceAccount {NAMESPACE}/bot: RoleBinding prod/deployers",)
    assert descent.look_again == timedelta(minutes=1)


def test_a_husk_whose_namespace_alone_is_held_says_by_whom() -> None:
    held = GuardSeen("", Verdict("Husk", (), (f"Namespace {NAMESPACE} is kept by ci-runner",)))
    given = hollow(namespace=marked({FENCED: "bot,web"}))
    assert down(given, held).waiting_for == (f"Namespace {NAMESPACE} is kept by ci-runner",)


def test_a_husk_keeps_what_others_use_and_what_the_teardown_works_as() -> None:
    rest = tuple(
        workload(name) | {"apiVersion": "v1", "kind": "ServiceAccount"}
        for name in ("bot", "default", "envprov-installer", "web")
    )
    assert words(down(hollow(others=rest), USED))[0] == ["delete ServiceAccount web"]


def test_a_husk_keeps_the_accounts_of_hooks_that_are_still_to_run() -> None:
    hook = workload("hook") | {"apiVersion": "v1", "kind": "ServiceAccount"}
    given = hollow(
        namespace=marked({FENCED: "hook"}),
        accounts=accounts("bot", "hook"),
        others=(hook,),
        release=release(),
        hook_accounts=frozenset({"hook"}),
    )
    assert "delete ServiceAccount hook" not in [word for wave in words(down(given, USED)) for word in wave]


def test_a_new_user_during_the_settling_takes_the_fence_down_around_its_account() -> None:
    descent = down(fenced("bot", "web"), USED)
    assert descent.waves == ((FenceAccounts(NAMESPACE, "u-ns", ("web",)),),)
    assert (descent.plan, descent.is_fenced) == ("Husk", False)


def test_a_husk_that_nobody_uses_any_more_goes_on_as_everything_goes() -> None:
    progress = TeardownStatus(step=Step.EXTERNAL_GONE, plan="Husk", started_at=NOW)
    given = hollow(release=release(), hook_accounts=frozenset({"bot"}))
    lets_in = down(given, FREE, progress)
    quota = DeleteObject("v1", "ResourceQuota", NAMESPACE, "envprov-husk", "u-envprov-husk")
    assert (lets_in.waves, lets_in.plan, lets_in.message) == (((quota,),), "Full", "lets the hooks run")
    without_quota = replace(given, objects=remains().objects)
    assert words(down(without_quota, FREE, progress)) == [[f"uninstall release {SLUG}"]]
    uninstalled = replace(without_quota, release=release(ReleaseState.ABSENT), hook_accounts=frozenset())
    assert words(down(uninstalled, FREE, progress)) == [["fence 2 ServiceAccounts"]]
    settles = down(replace(uninstalled, namespace=marked({FENCED: "bot,web"})), FREE, progress)
    assert (settles.look_again, settles.waves, settles.is_fenced) == (SETTLE, (), True)


# --- Holds elsewhere, last


SHARED = (Account("shared", "a"), Account("shared", "b"))


@pytest.mark.parametrize("namespace", [missing(), foreign()], ids=["gone", "of others"])
def test_holds_elsewhere_end_when_the_namespace_is_gone(namespace: NamespaceSeen) -> None:
    descent = down(Remains(namespace, held=SHARED), None)
    assert descent.waves == (tuple(ReleaseAccount(IDENTITY, account) for account in SHARED),)
    assert (descent.step, descent.is_over) == (Step.NAMESPACE_GONE, False)


def test_holds_elsewhere_do_not_end_while_anything_is_left() -> None:
    for given in (EVERYTHING, remains(), remains(namespace=RELEASED_NAMESPACE), Remains(terminating())):
        descent = down(replace(given, held=SHARED))
        assert not [action for wave in descent.waves for action in wave if isinstance(action, ReleaseAccount)]


def test_holds_elsewhere_do_not_end_while_the_guard_is_disarmed() -> None:
    descent = down(Remains(missing(), held=SHARED), UNARMED)
    assert (descent.blocked, descent.waves, descent.is_over) == ("Disarmed", (), False)


def test_without_holds_a_disarmed_guard_keeps_nobody() -> None:
    assert down(Remains(missing()), UNARMED).is_over
