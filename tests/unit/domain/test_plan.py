"""The way up as a table: from what is there to the one next thing to do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.actions import ApplyObject, DeleteObject, HoldAccount, RollBackRelease, UninstallRelease
from envprov.domain.desired import Desired
from envprov.domain.errors import ChartNotFound, GhostObjects, NotOwned, PlanRefused
from envprov.domain.findings import Rule, Severity, Subject
from envprov.domain.guard import Policy
from envprov.domain.health import Condition, Health
from envprov.domain.holds import Account
from envprov.domain.observed import AccountSeen, Key, Observed, Rendered
from envprov.domain.plan import STEPS, Phase, Plan, plan
from envprov.domain.release import ReleaseState
from envprov.domain.sleep import Sleepers
from tests.unit.builders import (
    CONTROL,
    DIGEST,
    IDENTITY,
    NAMESPACE,
    SLUG,
    Manifest,
    desired,
    foreign,
    missing,
    ours,
    platform,
    project,
    release,
    rich_project,
    seen,
    stored,
    terminating,
)
from tests.unit.fakes import FakeCluster

SOON, HALF_A_MINUTE, RESYNC = timedelta(seconds=2), timedelta(seconds=30), timedelta(minutes=5)
PULL = {"metadata": {"name": "registry-pull"}, "type": "kubernetes.io/dockerconfigjson", "data": {"a": "e30="}}
TLS = {"metadata": {"name": "tls"}, "data": {"key": "a2V5"}}
ORIGINALS: dict[Key, Manifest] = {(CONTROL, "registry-pull"): PULL, ("shared", "tls"): TLS}


def words(decided: Plan) -> list[list[str]]:
    return [sorted(str(action) for action in wave) for wave in decided.waves]


def full(given_desired: Desired, originals: dict[Key, Manifest] | None = None) -> dict[Key, Manifest]:
    """Return what stands when the base of an environment is complete: plan after plan, carried out."""
    world = FakeCluster(originals=ORIGINALS if originals is None else originals, release=release())

    async def climb() -> None:
        for _ in range(5):
            observed = await world.observe(given_desired, {})
            decided = plan(given_desired, replace(observed, digest=DIGEST, health=Health(Condition.HEALTHY)))
            for wave in decided.waves:
                for action in wave:
                    await world.apply(action)

    asyncio.run(climb())
    return world.live


RICH = desired(rich_project())
PLAIN = desired()
STANDING = full(RICH)
BASE = full(PLAIN)


def without(key: Key, standing: dict[Key, Manifest] = STANDING) -> dict[Key, Manifest]:
    return {name: item for name, item in standing.items() if name != key}


def having(key: Key, standing: dict[Key, Manifest] = STANDING, **changes: Any) -> dict[Key, Manifest]:  # noqa: ANN401
    return standing | {key: standing[key] | changes}


def rich(live: dict[Key, Manifest], **changes: Any) -> Observed:  # noqa: ANN401 - any field of Observed
    return seen(live, originals=ORIGINALS, **changes)


def test_the_order_of_the_steps_is_the_order_of_the_design() -> None:
    assert [step.__name__ for step in STEPS] == [
        "give_back_hosts",
        "give_back_room",
        "check_before_anything",
        "admit_to_budget",
        "ensure_namespace",
        "refuse_ghosts",
        "put_to_sleep",
        "ensure_base",
        "await_quota",
        "stay_asleep",
        "wake",
        "recover_release",
        "check_chart",
        "reserve_hosts",
        "hold_shared_accounts",
        "deploy_release",
        "release_hosts",
        "await_health",
    ]


def test_everything_in_place_and_healthy_is_ready_and_nothing_to_do() -> None:
    observed = rich(STANDING, health=Health(Condition.HEALTHY))
    assert plan(RICH, observed) == Plan(Phase.READY, f"https://{SLUG}.dev.example.com", (), RESYNC)


def test_without_host_the_namespace_is_named() -> None:
    observed = seen(BASE, health=Health(Condition.HEALTHY))
    assert plan(PLAIN, observed) == Plan(Phase.READY, f"ready in namespace {NAMESPACE}", (), RESYNC)


# --- Namespace


def test_no_namespace_makes_it() -> None:
    decided = plan(RICH, Observed(missing()))
    assert words(decided) == [[f"apply Namespace {NAMESPACE}"]]
    assert (decided.phase, decided.look_again) == (Phase.PREPARING, SOON)
    ((action,),) = decided.waves
    assert isinstance(action, ApplyObject)
    assert action.manifest["metadata"] == {
        "name": NAMESPACE,
        "labels": {
            "app.kubernetes.io/managed-by": "envprov",
            "envprov.io/environment": SLUG,
            "envprov.io/project": "shop",
            "envprov.io/guard": "env",
            "pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/enforce-version": "v1.30",
            "pod-security.kubernetes.io/audit": "restricted",
            "pod-security.kubernetes.io/audit-version": "v1.30",
            "pod-security.kubernetes.io/warn": "restricted",
            "pod-security.kubernetes.io/warn-version": "v1.30",
        },
        "annotations": {"envprov.io/branch": "feature/x", "envprov.io/owner": f"{CONTROL}/{SLUG}"},
    }


def test_a_foreign_namespace_is_refused_and_not_touched() -> None:
    with pytest.raises(NotOwned, match=f"Namespace {NAMESPACE} exists and does not belong to Environment {CONTROL}/"):
        plan(RICH, Observed(foreign()))


def test_a_terminating_namespace_is_waited_for() -> None:
    decided = plan(RICH, Observed(terminating()))
    message = f"waits until the old Namespace {NAMESPACE} has gone"
    assert decided == Plan(Phase.PREPARING, message, (), SOON)


def test_ghosts_are_refused_by_name_before_anything_else_is_made() -> None:
    own_access = {key: STANDING[key] for key in (("Namespace", NAMESPACE), ("RoleBinding", "envprov-controller"))}
    with pytest.raises(GhostObjects, match="ServiceAccount old"):
        plan(RICH, rich(own_access, ghosts=("ServiceAccount old (uid u-0)",)))


# --- Base


def test_our_own_access_comes_first_because_nothing_can_be_seen_without_it() -> None:
    only = {("Namespace", NAMESPACE): STANDING["Namespace", NAMESPACE]}
    decided = plan(RICH, Observed(seen(only).namespace))
    assert words(decided) == [["apply RoleBinding envprov-controller"]]
    assert (decided.phase, decided.look_again) == (Phase.PREPARING, SOON)


def test_the_base_comes_in_waves() -> None:
    own_access = {key: STANDING[key] for key in (("Namespace", NAMESPACE), ("RoleBinding", "envprov-controller"))}
    assert words(plan(RICH, rich(own_access))) == [
        ["apply LimitRange envprov"],
        ["apply ResourceQuota envprov"],
        [
            "apply NetworkPolicy envprov-default-deny",
            "apply NetworkPolicy envprov-dns",
            "apply NetworkPolicy envprov-ingress",
            "apply NetworkPolicy envprov-internet",
            "apply NetworkPolicy envprov-same-namespace",
            "apply RoleBinding envprov-access-edit-7f561ebf",
            "apply RoleBinding envprov-access-view-584f3165",
            "apply RoleBinding envprov-installer",
            "apply Secret registry-pull",
            "apply Secret tls",
            "apply ServiceAccount default",
            "apply ServiceAccount envprov-installer",
        ],
    ]


def test_all_at_once_keeps_the_order_of_the_waves() -> None:
    namespace = STANDING["Namespace", NAMESPACE]
    relabelled = namespace | {"metadata": namespace["metadata"] | {"labels": {}}}
    gone = {("LimitRange", "envprov"), ("ResourceQuota", "envprov"), ("NetworkPolicy", "envprov-dns")}
    live = {key: item for key, item in STANDING.items() if key not in gone} | {("Namespace", NAMESPACE): relabelled}
    assert words(plan(RICH, rich(live))) == [
        [f"apply Namespace {NAMESPACE}"],
        ["apply LimitRange envprov"],
        ["apply ResourceQuota envprov"],
        ["apply NetworkPolicy envprov-dns"],
    ]


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        pytest.param(without(("LimitRange", "envprov")), [["apply LimitRange envprov"]], id="LimitRange gone"),
        pytest.param(without(("ResourceQuota", "envprov")), [["apply ResourceQuota envprov"]], id="quota gone"),
        pytest.param(without(("Secret", "tls")), [["apply Secret tls"]], id="copy gone"),
        pytest.param(
            having(("NetworkPolicy", "envprov-default-deny"), spec={"podSelector": {"matchLabels": {"a": "b"}}}),
            [["apply NetworkPolicy envprov-default-deny"]],
            id="default-deny narrowed",
        ),
        pytest.param(
            having(("RoleBinding", "envprov-installer"), roleRef={"kind": "ClusterRole", "name": "view"}),
            [["delete RoleBinding envprov-installer"]],
            id="roleRef changed -> deleted first, since it cannot be changed",
        ),
        pytest.param(
            having(("RoleBinding", "envprov-controller"), roleRef={"kind": "ClusterRole", "name": "view"})
            | {("LimitRange", "envprov"): {"metadata": {}}},
            [["delete RoleBinding envprov-controller"]],
            id="our own roleRef changed -> that alone, for nothing else is allowed then",
        ),
        pytest.param(
            having(("Secret", "tls"), type="kubernetes.io/tls"),
            [["delete Secret tls"]],
            id="type of a Secret changed -> deleted first, since it cannot be changed",
        ),
        pytest.param(
            having(("RoleBinding", "envprov-installer"), subjects=[]),
            [["apply RoleBinding envprov-installer"]],
            id="subjects changed -> applied",
        ),
    ],
)
def test_what_is_gone_or_changed_is_put_back(live: dict[Key, Manifest], expected: list[list[str]]) -> None:
    assert words(plan(RICH, rich(live))) == expected


def test_after_the_deletion_comes_the_binding_anew() -> None:
    assert words(plan(RICH, rich(without(("RoleBinding", "envprov-installer"))))) == [
        ["apply RoleBinding envprov-installer"]
    ]


def test_a_deletion_is_of_what_was_seen() -> None:
    live = having(("RoleBinding", "envprov-installer"), roleRef={"name": "view"})
    ((action,),) = plan(RICH, rich(live)).waves
    uid = STANDING["RoleBinding", "envprov-installer"]["metadata"]["uid"]
    assert action == DeleteObject("rbac.authorization.k8s.io/v1", "RoleBinding", NAMESPACE, "envprov-installer", uid)


# --- Strays


def stray(
    kind: str, name: str, *, manager: str = "envprov", of: str = SLUG, chart: bool = False
) -> dict[Key, Manifest]:
    marks = {"app.kubernetes.io/managed-by": manager, "envprov.io/environment": of}
    manifest: Manifest = {"kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, "labels": marks}}
    if chart:
        manifest["metadata"]["annotations"] = {"meta.helm.sh/release-name": SLUG}
    return {(kind, name): stored(manifest)}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param(
            stray("RoleBinding", "envprov-access-admin-1"),
            ["delete RoleBinding envprov-access-admin-1"],
            id="access withdrawn -> deleted",
        ),
        pytest.param(stray("Secret", "old"), ["delete Secret old"], id="Secret no longer copied -> deleted"),
        pytest.param(
            stray("NetworkPolicy", "envprov-shared"),
            ["delete NetworkPolicy envprov-shared"],
            id="policy no longer wanted -> deleted",
        ),
        pytest.param(
            stray("ServiceAccount", "default"),
            ["apply ServiceAccount default"],
            id="no pull secret any more -> only what we gave is taken back",
        ),
        pytest.param(stray("Secret", "shop", chart=True), [], id="of the chart -> stays"),
        pytest.param(stray("Secret", "shop", manager="Helm"), [], id="of somebody else -> stays"),
        pytest.param(stray("Secret", "shop", of="other"), [], id="of another environment -> stays"),
    ],
)
def test_what_nothing_wants_any_more_goes(more: dict[Key, Manifest], expected: list[str]) -> None:
    observed = seen(BASE | more, health=Health(Condition.HEALTHY))
    assert words(plan(PLAIN, observed)) == ([expected] if expected else [])


def test_the_default_account_loses_what_we_gave_it_and_nothing_else() -> None:
    observed = seen(BASE | stray("ServiceAccount", "default"))
    ((action,),) = plan(PLAIN, observed).waves
    assert action == ApplyObject(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}}
    )


# --- Copied Secrets


def test_a_secret_that_nobody_has_made_is_waited_for_after_the_rest() -> None:
    only_tls = {("shared", "tls"): TLS}
    base = full(RICH, only_tls)
    decided = plan(RICH, seen(base, originals=only_tls))
    assert decided == Plan(
        Phase.PREPARING,
        f"waits for the Secret {CONTROL}/registry-pull, which copySecrets of the Project names and nobody has made",
        (),
        HALF_A_MINUTE,
    )
    less = without(("LimitRange", "envprov"), base)
    assert words(plan(RICH, seen(less, originals=only_tls))) == [["apply LimitRange envprov"]]


def test_a_copy_stays_when_its_original_is_gone() -> None:
    decided = plan(RICH, seen(STANDING, originals={(CONTROL, "registry-pull"): PULL}))
    assert decided.waves == ()
    assert "waits for the Secret shared/tls" in decided.message


def test_a_copy_follows_its_original() -> None:
    newer = ORIGINALS | {("shared", "tls"): TLS | {"data": {"key": "bmV3"}}}
    ((action,),) = plan(RICH, seen(STANDING, originals=newer)).waves
    assert isinstance(action, ApplyObject)
    assert action.manifest["data"] == {"key": "bmV3"}


# --- Quota


def test_the_quota_must_count_before_the_chart() -> None:
    live = having(("ResourceQuota", "envprov"), status={}) | {}
    decided = plan(RICH, rich(live, release=release(ReleaseState.ABSENT)))
    message = "waits until the quota counts count/configmaps, count/ingresses.networking.k8s.io, count/jobs.batch"
    assert decided == Plan(Phase.PREPARING, message, (), SOON)


def test_the_quota_must_count_with_the_new_size() -> None:
    larger = replace(PLAIN, size=PLAIN.sizes["M"])
    quota = BASE["ResourceQuota", "envprov"]
    live = BASE | {("ResourceQuota", "envprov"): quota | {"spec": {"hard": larger.size.hard()}}}
    decided = plan(larger, seen(live))
    assert decided == Plan(
        Phase.PREPARING, "waits until the quota counts limits.memory, persistentvolumeclaims, pods", (), SOON
    )


# --- Chart and release


def test_a_chart_that_cannot_be_had_ends_the_pass() -> None:
    with pytest.raises(ChartNotFound, match="no chart"):
        plan(RICH, rich(STANDING, digest=None, chart_fault=ChartNotFound("no chart at shop")))


RELEASES = [
    pytest.param(ReleaseState.ABSENT, None, "deploy", id="no release -> install"),
    pytest.param(ReleaseState.FAILED, None, "deploy", id="first try failed -> try again"),
    pytest.param(ReleaseState.FAILED, 1, "deploy", id="upgrade failed -> upgrade again"),
    pytest.param(ReleaseState.SUPERSEDED, 1, "deploy", id="superseded -> upgrade"),
    pytest.param(ReleaseState.UNINSTALLED, None, "deploy", id="uninstalled, history kept -> install"),
    pytest.param(ReleaseState.PENDING_INSTALL, None, "uninstall", id="killed while installing -> uninstall"),
    pytest.param(ReleaseState.UNINSTALLING, 1, "uninstall", id="killed while uninstalling -> uninstall"),
    pytest.param(ReleaseState.PENDING_UPGRADE, 3, "roll back to 3", id="killed while upgrading -> roll back"),
    pytest.param(ReleaseState.PENDING_UPGRADE, None, "uninstall", id="nothing to go back to -> uninstall"),
    pytest.param(ReleaseState.PENDING_ROLLBACK, 3, "roll back to 3", id="killed while rolling back -> roll back"),
    pytest.param(ReleaseState.PENDING_ROLLBACK, None, "uninstall", id="rollback to nothing -> uninstall"),
    pytest.param(ReleaseState.UNKNOWN, 2, "roll back to 2", id="unknown -> roll back"),
    pytest.param(ReleaseState.UNKNOWN, None, "uninstall", id="unknown and nothing to go back to -> uninstall"),
]


@pytest.mark.parametrize(("state", "back", "expected"), RELEASES)
def test_every_state_of_a_release(state: ReleaseState, back: int | None, expected: str) -> None:
    decided = plan(RICH, rich(STANDING, release=release(state, back=back)))
    ((action,),) = decided.waves
    if expected == "uninstall":
        assert action == UninstallRelease(IDENTITY)
    elif expected == "deploy":
        assert str(action) == f"deploy release {SLUG}"
    else:
        assert action == RollBackRelease(IDENTITY, int(expected.rsplit(" ", 1)[1]))
    assert (decided.phase, decided.look_again) == (Phase.DEPLOYING, SOON)


def test_each_state_is_in_the_table() -> None:
    told = {row.values[0] for row in RELEASES}
    assert told | {ReleaseState.DEPLOYED} == set(ReleaseState)


@pytest.mark.parametrize(
    ("state", "digest", "message"),
    [
        pytest.param(ReleaseState.ABSENT, None, f"installs release {SLUG}", id="absent"),
        pytest.param(ReleaseState.DEPLOYED, "d0", f"upgrades release {SLUG}", id="another digest"),
        pytest.param(ReleaseState.DEPLOYED, None, f"upgrades release {SLUG}", id="no digest"),
        pytest.param(ReleaseState.FAILED, DIGEST, f"upgrades release {SLUG}", id="failed with this digest"),
    ],
)
def test_what_is_said_of_a_deployment(state: ReleaseState, digest: str | None, message: str) -> None:
    decided = plan(RICH, rich(STANDING, release=release(state, digest=digest)))
    assert (decided.message, words(decided)) == (message, [[f"deploy release {SLUG}"]])


def test_a_release_that_was_not_read_is_waited_for() -> None:
    decided = plan(RICH, rich(STANDING, release=None))
    assert decided == Plan(Phase.DEPLOYING, "reads the release", (), SOON)


@pytest.mark.parametrize(
    ("condition", "phase"),
    [
        pytest.param(Condition.PROGRESSING, Phase.STARTING, id="starting"),
        pytest.param(Condition.FAILED, Phase.UNHEALTHY, id="failed"),
        pytest.param(Condition.QUOTA_EXCEEDED, Phase.UNHEALTHY, id="over quota"),
    ],
)
def test_workloads_are_waited_for_and_cited(condition: Condition, phase: Phase) -> None:
    decided = plan(RICH, rich(STANDING, health=Health(condition, ("Deployment web: 0 of 1", "Job j: not complete"))))
    expected = Plan(phase, "Deployment web: 0 of 1; Job j: not complete", (), timedelta(seconds=15))
    assert decided == expected


# --- A second pass after a full one

NAMES = st.sampled_from(["databases", "search", "ingress-nginx", "gateway"])
PROJECTS = st.fixed_dictionaries(
    {
        "access": st.lists(
            st.sampled_from(
                [{"group": "g"}, {"group": "g", "role": "view"}, {"user": "u", "role": "admin"}, {"user": "g"}]
            ),
            max_size=4,
        ),
        "copySecrets": st.lists(
            st.fixed_dictionaries({"namespace": st.just("shared"), "name": NAMES, "imagePull": st.booleans()}),
            max_size=3,
            unique_by=lambda copied: str(copied["name"]),
        ),
        "sizes": st.sampled_from([{}, {"default": "M"}, {"default": "L"}]),
    }
)
NETWORKS = st.fixed_dictionaries(
    {
        "profile": st.sampled_from(["internet", "isolated"]),
        "ingress_namespaces": st.lists(NAMES, max_size=2),
        "shared_namespaces": st.lists(NAMES, max_size=2),
    }
)


@settings(deadline=None, max_examples=40)
@given(before=PROJECTS, after=PROJECTS, networks=st.tuples(NETWORKS, NETWORKS))
def test_a_pass_right_after_a_full_one_does_nothing(
    before: dict[str, Any], after: dict[str, Any], networks: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    originals: dict[Key, Manifest] = {
        ("shared", name): {"metadata": {"name": name}, "data": {"a": "YQ=="}}
        for name in ("databases", "search", "ingress-nginx", "gateway")
    }
    world = FakeCluster(originals=originals)

    async def climb(wanted: Desired) -> list[str]:
        for _ in range(8):
            observed = await world.observe(wanted, {})
            decided = plan(wanted, observed)
            if not decided.waves:
                assert decided.phase is Phase.READY, decided
                return sorted(f"{kind} {name}" for kind, name in world.live if name != "default")
            for wave in decided.waves:
                for action in wave:
                    await world.apply(action)
        raise AssertionError(f"no end: {decided}")

    async def story() -> None:
        first = desired(project(**before), platform(network=networks[0]))
        second = desired(project(**after), platform(network=networks[1]))
        held = await climb(first)
        assert await climb(first) == held
        changed = await climb(second)
        world.done.clear()
        assert await climb(second) == changed
        assert world.done == []
        assert await climb(first) == held  # and back again leaves nothing behind

    asyncio.run(story())


# --- ServiceAccounts that are shared

KEPT, BOT, SEEN = Account("shared", "deployer"), Account("tools", "bot"), AccountSeen("u-bot", is_held=True)
SHARING = desired(
    project(
        sharedServiceAccounts=[
            {"namespace": "shared", "name": "deployer", "policy": "delete-with-last-user"},
            {"namespace": NAMESPACE, "name": "own"},
        ]
    )
)
ADOPTED = AccountSeen("u-deployer", is_held=True, policy="delete-with-last-user")


def new(rendered: Rendered = Rendered((), (BOT,)), **changes: Any) -> Observed:  # noqa: ANN401, B008 - frozen
    """What is observed before the first deployment."""
    given = {"rendered": rendered, "accounts": {KEPT: ADOPTED, BOT: SEEN}}
    return seen(full(SHARING, {}), release=release(ReleaseState.ABSENT), **(given | changes))


def test_held_and_adopted_accounts_let_the_chart_be_deployed() -> None:
    assert words(plan(SHARING, new())) == [[f"deploy release {SLUG}"]]


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(AccountSeen("u-deployer"), id="neither held nor adopted"),
        pytest.param(AccountSeen("u-deployer", is_held=True), id="held, not adopted"),
        pytest.param(AccountSeen("u-deployer", policy="delete-with-last-user"), id="adopted, not held"),
    ],
)
def test_an_account_that_the_project_names_is_held_and_adopted_before_helm(found: AccountSeen) -> None:
    decided = plan(SHARING, new(accounts={KEPT: found, BOT: SEEN}))
    hold = HoldAccount(SHARING.identity, KEPT, "delete-with-last-user", "named by the Project")
    assert (decided.phase, decided.waves, decided.look_again) == (Phase.PREPARING, ((hold,),), SOON)


@pytest.mark.parametrize(
    ("live", "wanted", "expected"),
    [
        pytest.param("delete-with-last-user", "keep", ["hold ServiceAccount shared/deployer"], id="goes -> must stay"),
        pytest.param("keep", "keep", [f"deploy release {SLUG}"], id="stays -> is as wanted"),
        pytest.param("delete-with-last-user", "delete-with-last-user", [f"deploy release {SLUG}"], id="goes -> too"),
        pytest.param("keep", "delete-with-last-user", [f"deploy release {SLUG}"], id="stays -> nobody takes that back"),
    ],
)
def test_a_policy_of_the_project_that_changes_to_keep_is_written_on_an_account_held_long_ago(
    live: Policy, wanted: Policy, expected: list[str]
) -> None:
    sharing = desired(project(sharedServiceAccounts=[{"namespace": "shared", "name": "deployer", "policy": wanted}]))
    found = {KEPT: AccountSeen("u-deployer", is_held=True, policy=live)}
    observed = seen(full(sharing, {}), release=release(ReleaseState.ABSENT), accounts=found)
    decided = plan(sharing, observed)
    assert words(decided) == [expected]
    if expected[0].startswith("hold"):
        assert decided.waves == ((HoldAccount(sharing.identity, KEPT, "keep", "named by the Project"),),)


def test_an_account_that_the_chart_refers_to_is_held_and_not_adopted() -> None:
    decided = plan(SHARING, new(accounts={KEPT: ADOPTED, BOT: AccountSeen("u-bot")}))
    assert decided.waves == ((HoldAccount(SHARING.identity, BOT, None, "referred to by the chart"),),)


def test_all_accounts_are_held_at_once() -> None:
    decided = plan(SHARING, new(accounts={KEPT: AccountSeen("u-deployer"), BOT: AccountSeen("u-bot")}))
    assert words(decided) == [["hold ServiceAccount shared/deployer", "hold ServiceAccount tools/bot"]]
    assert decided.message == "holds the shared ServiceAccounts"


def test_an_account_that_is_not_there_is_waited_for_and_who_names_it_is_said() -> None:
    decided = plan(SHARING, new(accounts={KEPT: AccountSeen(), BOT: AccountSeen()}))
    assert (decided.phase, decided.waves, decided.look_again) == (Phase.PREPARING, (), HALF_A_MINUTE)
    assert decided.message == (
        "waits for the ServiceAccount shared/deployer, which sharedServiceAccounts of the Project names, "
        "tools/bot, which the chart names and nobody has made"
    )


def test_what_is_there_is_held_before_what_is_missing_is_waited_for() -> None:
    decided = plan(SHARING, new(accounts={KEPT: AccountSeen(), BOT: AccountSeen("u-bot")}))
    assert words(decided) == [["hold ServiceAccount tools/bot"]]


def test_a_hold_that_was_taken_off_is_put_back_though_the_release_is_in_sync() -> None:
    observed = seen(full(SHARING, {}), accounts={KEPT: AccountSeen("u-deployer", policy="delete-with-last-user")})
    assert words(plan(SHARING, observed)) == [["hold ServiceAccount shared/deployer"]]


TAKEN = Rule("Taken", Severity.ERROR, "It is taken.", "give it back")
ODD = Rule("Odd", Severity.WARNING, "It is odd.", "make it even")
ONE = TAKEN.found(Subject("v1", "Service", NAMESPACE, "one"), "spec.type", "it is taken")
TWO = TAKEN.found(Subject("v1", "Service", NAMESPACE, "two"), "", "it is taken, too", "give it away")


def test_everything_that_is_wrong_with_a_chart_is_told_at_once_and_nothing_is_made() -> None:
    other = Rule("Other", Severity.ERROR, "", "stop it").found(None, "", "it is too large")
    with pytest.raises(PlanRefused) as refused:
        plan(SHARING, Observed(missing(), findings=(ONE, TWO, other)))
    assert str(refused.value) == (
        "the chart cannot be deployed for 3 reasons: Service one spec.type: it is taken; give it back; "
        "Service two: it is taken, too; give it away; it is too large; stop it"
    )
    assert (refused.value.reason, refused.value.findings) == ("PlanRefused", (ONE, TWO, other))


def test_findings_of_one_reason_are_refused_for_that_reason() -> None:
    with pytest.raises(PlanRefused, match=r"^the chart cannot be deployed: Service one") as refused:
        plan(SHARING, new(findings=(ONE, ODD.found(None, "", "it is odd"))))
    assert refused.value.reason == "Taken"


def test_warnings_and_notes_refuse_nothing() -> None:
    findings = (ODD.found(None, "", "it is odd"), Rule("Note", Severity.NOTE, "", "").found(None, "", "look"))
    assert words(plan(SHARING, new(findings=findings))) == [[f"deploy release {SLUG}"]]


def test_the_fault_of_the_chart_comes_before_its_findings() -> None:
    with pytest.raises(ChartNotFound):
        plan(SHARING, new(findings=(ONE,), chart_fault=ChartNotFound("no chart")))


def test_an_environment_that_is_there_keeps_its_base_though_the_new_chart_is_refused() -> None:
    refused = new(findings=(ONE,))
    without_quota = {key: item for key, item in refused.objects.items() if key[0] != "ResourceQuota"}
    assert words(plan(SHARING, replace(refused, objects=without_quota))) == [["apply ResourceQuota envprov"]]


def test_an_account_that_was_held_and_that_nobody_names_any_more_is_not_waited_for() -> None:
    wanted = replace(SHARING, held=(Account("old", "reader"),))
    accounts = {KEPT: ADOPTED, BOT: SEEN, Account("old", "reader"): AccountSeen()}
    assert words(plan(wanted, new(accounts=accounts))) == [[f"deploy release {SLUG}"]]


# --- Sleep

ASLEEP = desired(rich_project(), asleep=True)
WEB: Manifest = {"name": "web", "namespace": NAMESPACE, "uid": "u-web", "resourceVersion": "7"}
UP = {"metadata": WEB, "spec": {"replicas": 2}}
DOWN = {"metadata": WEB | {"annotations": {"envprov.io/replicas": "2"}}, "spec": {"replicas": 0}}
OWNER = {"kind": "StatefulSet", "uid": "u-web", "controller": True}
WEB_POD = {"metadata": {"name": "web-1", "ownerReferences": [OWNER]}}


@pytest.mark.parametrize(
    ("wanted", "sleepers", "phase", "expected"),
    [
        pytest.param(
            ASLEEP, Sleepers(stateful_sets=(UP,)), Phase.FALLING_ASLEEP, [["put to sleep StatefulSet web"]], id="up"
        ),
        pytest.param(
            ASLEEP, Sleepers(stateful_sets=(DOWN,), pods=(WEB_POD,)), Phase.FALLING_ASLEEP, [], id="pods still stop"
        ),
        pytest.param(ASLEEP, Sleepers(stateful_sets=(DOWN,)), Phase.ASLEEP, [], id="all quiet"),
        pytest.param(ASLEEP, Sleepers(), Phase.ASLEEP, [], id="never deployed"),
        pytest.param(RICH, Sleepers(stateful_sets=(DOWN,)), Phase.WAKING, [["wake StatefulSet web"]], id="to be woken"),
        pytest.param(RICH, Sleepers(stateful_sets=(UP,)), Phase.READY, [], id="awake"),
    ],
)
def test_sleep_and_waking(wanted: Desired, sleepers: Sleepers, phase: Phase, expected: list[list[str]]) -> None:
    decided = plan(wanted, rich(STANDING, health=Health(Condition.HEALTHY), sleepers=sleepers))
    assert (decided.phase, words(decided)) == (phase, expected)


def test_what_must_sleep_does_so_before_the_base_is_put_right_and_the_base_is_kept_meanwhile() -> None:
    broken = without(("ResourceQuota", "envprov"))
    loud = plan(ASLEEP, rich(broken, sleepers=Sleepers(stateful_sets=(UP,))))
    assert words(loud) == [["put to sleep StatefulSet web"]]
    quiet = plan(ASLEEP, rich(broken, sleepers=Sleepers(stateful_sets=(DOWN,))))
    assert words(quiet) == [["apply ResourceQuota envprov"]]


def test_nothing_wakes_before_its_quota_counts() -> None:
    broken = without(("ResourceQuota", "envprov"))
    decided = plan(RICH, rich(broken, sleepers=Sleepers(stateful_sets=(DOWN,))))
    assert words(decided) == [["apply ResourceQuota envprov"]]


def test_nothing_is_deployed_in_its_sleep_and_all_is_woken_before_anything_is() -> None:
    absent = {"release": release(ReleaseState.ABSENT), "chart_fault": ChartNotFound("no chart")}
    assert plan(ASLEEP, rich(STANDING, sleepers=Sleepers(), **absent)).phase is Phase.ASLEEP
    decided = plan(RICH, rich(STANDING, sleepers=Sleepers(stateful_sets=(DOWN,)), **absent))
    assert words(decided) == [["wake StatefulSet web"]]


def test_who_has_not_seen_what_runs_deploys_nothing_either() -> None:
    absent = rich(STANDING, release=release(ReleaseState.ABSENT), sleepers=None)
    decided = plan(ASLEEP, absent)
    assert (decided.phase, decided.waves) == (Phase.FALLING_ASLEEP, ())


def test_pods_that_go_on_are_named() -> None:
    bare = {"metadata": {"name": "debug"}}
    decided = plan(ASLEEP, rich(STANDING, sleepers=Sleepers(pods=(bare,))))
    assert decided.message == (
        "scaled to nothing until somebody wakes it; Pod debug goes on, for nothing that envprov can scale runs it"
    )


def test_namespaces_of_others_are_not_ours() -> None:
    assert ours().uid == "u-ns"
    assert (missing().uid, missing().resource_version) == ("", "")
