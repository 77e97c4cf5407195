"""The guard's decisions: holds for all who use an account, none released too early, nothing taken from a user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from time import process_time
from typing import Any

import pytest

from envprov.domain.guard import (
    DELETE_WITH_LAST_USER,
    HOLDERS_LIMIT,
    KEEP,
    MANY,
    UNUSED,
    Absence,
    Acquire,
    Grace,
    Guarded,
    Kept,
    Policy,
    Release,
    Review,
    Verdict,
    attributed,
    bereft,
    classify,
    read_guarded,
    review,
)
from envprov.domain.holds import PREFIX, Account, Hold, Holder
from envprov.domain.usage import EVERY, Claim, Strength, Usage

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=9)
OVER = Absence(NOW - timedelta(minutes=5), passes=5)

DEPLOYER = Account("shared", "deployer")
APP = Account("env-a", "app")
OTHER = Account("tools", "bot")

WEB = Holder("Deployment", "env-a", "web", "uid-web")
BINDING = Holder("RoleBinding", "prod", "deployers", "uid-rb")
ENVIRONMENT = Holder("Environment", "envprov-system", "a", "uid-a")
RUNNER = Holder("External", "", "ci-runner")
ENVIRONMENTS = {"env-a": ENVIRONMENT}


def claim(account: Account, holder: Holder, strength: Strength = Strength.LIVE, how: str = "spec") -> Claim:
    return Claim(account, holder, strength, how)


def graph(*claims: Claim, faults: tuple[str, ...] = ()) -> Usage:
    found: dict[Account, tuple[Claim, ...]] = {}
    for one in claims:
        found[one.account] = (*found.get(one.account, ()), one)
    return Usage(found, faults)


def graph_of(claims: list[Claim]) -> Usage:
    return Usage({one.account: tuple(claims) for one in claims[:1]})


def held(holder: Holder, since: datetime = LONG_AGO, **more: Any) -> Hold:  # noqa: ANN401 - any of a hold's
    return Hold(holder, since, **{"why": "spec", "read_key": holder.key, **more})


def shared(account: Account = DEPLOYER, *holds: Hold, **more: Any) -> Guarded:  # noqa: ANN401 - any of its fields
    return guarded(account, *holds, shared=True, **more)


def guarded(account: Account, *holds: Hold, **more: Any) -> Guarded:  # noqa: ANN401 - any of its fields
    fields = {"uid": f"uid-{account.name}", "namespace_uid": "uid-ns", "namespace_holds": holds, **more}
    return Guarded(account, holds=holds, **fields)


def decided(
    *accounts: Guarded,
    usage: Usage | None = None,
    environments: Mapping[str, Holder] = ENVIRONMENTS,
    live: Iterable[str] | None = ("uid-a",),
    absences: Mapping[tuple[Account, str], Absence] | None = None,
    auto: Iterable[str] = (),
) -> Review:
    return review(
        accounts,
        usage or graph(),
        environments,
        None if live is None else frozenset(live),
        absences or {},
        NOW,
        Grace(),
        auto_release_expired=frozenset(auto),
    )


def acquired(given: Review) -> list[tuple[str, str]]:
    return [(str(one.guarded.account), str(one.hold.holder)) for one in given.acquire]


def released(given: Review) -> list[tuple[str, str]]:
    return [(str(one.guarded.account), one.key) for one in given.release]


def absent(*slots: tuple[Account, str], absence: Absence = OVER) -> dict[tuple[Account, str], Absence]:
    return dict.fromkeys(slots, absence)


# --- Values


@pytest.mark.parametrize(
    "value",
    [
        DEPLOYER,
        WEB,
        Hold(WEB, NOW),
        Claim(DEPLOYER, WEB, Strength.LIVE, ""),
        Usage(),
        Guarded(DEPLOYER),
        OVER,
        Grace(),
        Acquire(Guarded(DEPLOYER), Hold(WEB, NOW)),
        Release(Guarded(DEPLOYER), ""),
        Review(),
        Kept(APP, ()),
        Verdict("Full"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_was_decided_does_not_change(value: Any) -> None:  # noqa: ANN401 - any dataclass
    field = next(iter(vars(value)))
    with pytest.raises(FrozenInstanceError):
        setattr(value, field, None)


def test_policies_are_called_as_they_are_written_on_accounts() -> None:
    assert (KEEP, DELETE_WITH_LAST_USER) == ("keep", "delete-with-last-user")
    assert Guarded(DEPLOYER).policy == "keep"


# --- Reading


def test_an_account_is_read_with_what_the_guard_wrote_on_it() -> None:
    on_account, on_namespace = Hold(WEB, NOW), Hold(RUNNER, NOW)
    read = read_guarded(
        {
            "metadata": {
                "name": "deployer",
                "namespace": "shared",
                "uid": "u",
                "labels": {"envprov.io/guard": "shared"},
                "annotations": {
                    "envprov.io/guard-policy": "delete-with-last-user",
                    "envprov.io/guard-used": "true",
                    "envprov.io/released-uid": "u",
                    on_account.key: on_account.value(),
                },
                "ownerReferences": [{"kind": "Tenant", "name": "acme"}, None],
            }
        },
        {"metadata": {"name": "shared", "uid": "n", "annotations": {on_namespace.key: on_namespace.value()}}},
    )
    assert read == Guarded(
        account=DEPLOYER,
        uid="u",
        namespace_uid="n",
        shared=True,
        policy=DELETE_WITH_LAST_USER,
        used=True,
        released=True,
        terminating=False,
        holds=(replace(on_account, read_key=on_account.key),),
        namespace_holds=(replace(on_namespace, read_key=on_namespace.key),),
        owners=("Tenant acme",),
    )


def test_an_account_on_which_nothing_is_written_is_not_guarded() -> None:
    bare = {"metadata": {"name": "deployer", "namespace": "shared", "uid": "u"}}
    assert read_guarded(bare, None) == Guarded(DEPLOYER, "u")
    other = {"labels": {"envprov.io/guard": "env"}, "annotations": {"envprov.io/guard-policy": "whatever"}}
    assert read_guarded({"metadata": bare["metadata"] | other}, None) == Guarded(DEPLOYER, "u", policy=KEEP)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        pytest.param({"envprov.io/guard-used": "false"}, Guarded(DEPLOYER, "u"), id="not used"),
        pytest.param({"envprov.io/guard-used": "2026"}, Guarded(DEPLOYER, "u", used=True), id="used some time"),
        pytest.param({"envprov.io/released-uid": "v"}, Guarded(DEPLOYER, "u"), id="another was released"),
    ],
)
def test_marks_count_only_when_they_say_so(annotations: dict[str, str], expected: Guarded) -> None:
    metadata = {"name": "deployer", "namespace": "shared", "uid": "u", "annotations": annotations}
    assert read_guarded({"metadata": metadata}, None) == expected


def test_without_a_uid_nothing_is_released() -> None:
    metadata = {"name": "deployer", "namespace": "shared", "annotations": {"envprov.io/released-uid": ""}}
    assert not read_guarded({"metadata": metadata}, None).released


def test_an_account_goes_with_its_namespace() -> None:
    metadata = {"name": "deployer", "namespace": "shared", "uid": "u"}
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
    assert read_guarded({"metadata": metadata | going}, {"metadata": {"name": "shared"}}).terminating
    assert read_guarded({"metadata": metadata}, {"metadata": {"name": "shared"} | going}).terminating


def test_a_namespace_by_itself_is_an_account_without_name() -> None:
    hold = Hold(RUNNER, NOW)
    read = read_guarded(None, {"metadata": {"name": "shared", "uid": "n", "annotations": {hold.key: hold.value()}}})
    assert (read.account, read.uid, read.namespace_uid) == (Account("shared", ""), "", "n")
    assert (read.holds, [one.holder for one in read.namespace_holds]) == ((), [RUNNER])


def test_nothing_at_all_is_read_without_an_error() -> None:
    assert read_guarded(None, None) == Guarded(Account("", ""))


# --- Acquiring


def test_every_user_of_a_shared_account_holds_it() -> None:
    usage = graph(
        claim(DEPLOYER, BINDING, Strength.GRANT, "subject"), claim(DEPLOYER, Holder("Pod", "shared", "p", "u"))
    )
    account = shared()
    assert decided(account, usage=usage).acquire == (
        Acquire(account, Hold(Holder("Pod", "shared", "p", "u"), NOW, "spec")),
        Acquire(account, Hold(BINDING, NOW, "subject")),
    )


def test_what_lives_in_an_environment_holds_as_that_environment_once() -> None:
    role = Holder("RoleBinding", "env-a", "b", "u")
    usage = graph(claim(DEPLOYER, role, Strength.GRANT, "subject"), claim(DEPLOYER, WEB))
    (one,) = decided(shared(), usage=usage).acquire
    assert one.hold == Hold(ENVIRONMENT, NOW, "Deployment env-a/web: spec", environment="a")


def test_a_namespace_whose_record_is_gone_holds_by_its_objects() -> None:
    (one,) = decided(shared(), usage=graph(claim(DEPLOYER, WEB)), environments={}).acquire
    assert one.hold == Hold(WEB, NOW, "spec", environment="a")


def test_a_holder_outside_namespaces_is_no_environment() -> None:
    holder = Holder("ClusterRoleBinding", "", "b")
    assert attributed(claim(DEPLOYER, holder), ENVIRONMENTS) == holder
    assert attributed(claim(DEPLOYER, WEB), ENVIRONMENTS) == ENVIRONMENT


@pytest.mark.parametrize("strength", list(Strength))
def test_which_claims_hold_a_shared_account(strength: Strength) -> None:
    keeps = {Strength.LIVE, Strength.LATENT, Strength.GRANT, Strength.OWNER}
    assert bool(decided(shared(), usage=graph(claim(DEPLOYER, BINDING, strength))).acquire) is (strength in keeps)


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        pytest.param(guarded(APP), [("env-a/app", str(BINDING))], id="of an environment -> by those outside it"),
        pytest.param(
            shared(APP), [("env-a/app", str(ENVIRONMENT)), ("env-a/app", str(BINDING))], id="shared there -> by all"
        ),
        pytest.param(guarded(OTHER), [], id="of others -> nothing new"),
    ],
)
def test_whose_claims_hold_an_account(account: Guarded, expected: list[tuple[str, str]]) -> None:
    usage = graph(*(claim(one, holder) for one in (APP, OTHER) for holder in (WEB, BINDING)))
    assert acquired(decided(account, usage=usage)) == expected


def test_a_group_of_all_accounts_of_a_namespace_holds_each_of_them() -> None:
    usage = graph(claim(Account("shared", EVERY), BINDING))
    second = Account("shared", "second")
    assert acquired(decided(shared(), shared(second), usage=usage)) == [
        ("shared/deployer", str(BINDING)),
        ("shared/second", str(BINDING)),
    ]


def test_a_name_that_is_granted_anywhere_holds_what_is_shared_and_no_environment() -> None:
    usage = graph(claim(Account(EVERY, "app"), Holder("ClusterRoleBinding", "", "b"), Strength.GRANT))
    assert acquired(decided(guarded(APP), shared(Account("shared", "app")), usage=usage)) == [
        ("shared/app", "ClusterRoleBinding b")
    ]


def test_what_is_held_on_both_objects_is_not_held_again() -> None:
    usage = graph(claim(DEPLOYER, BINDING))
    assert not decided(shared(DEPLOYER, held(BINDING)), usage=usage).acquire
    assert decided(shared(DEPLOYER, held(BINDING), namespace_holds=()), usage=usage).acquire
    half = shared(DEPLOYER, namespace_holds=(held(BINDING),))
    assert decided(half, usage=usage).acquire


def test_an_incomplete_graph_acquires_all_the_same() -> None:
    usage = graph(claim(DEPLOYER, BINDING), faults=("Pod: forbidden",))
    assert acquired(decided(shared(), usage=usage)) == [("shared/deployer", str(BINDING))]


def test_a_hold_that_comes_too_late_is_reported_and_not_put_on() -> None:
    usage = graph(claim(DEPLOYER, BINDING), claim(DEPLOYER, WEB))
    account = shared(DEPLOYER, held(BINDING), terminating=True)
    result = decided(account, usage=usage)
    assert result.acquire == ()
    assert result.lost == (Acquire(account, Hold(ENVIRONMENT, NOW, "Deployment env-a/web: spec", environment="a")),)
    assert not decided(shared(), usage=usage).lost
    half = shared(DEPLOYER, held(BINDING), held(ENVIRONMENT), terminating=True, namespace_holds=())
    assert (decided(half, usage=usage).acquire, decided(half, usage=usage).lost) == ((), ())


# --- More holders than fit


def holders(count: int) -> list[Holder]:
    return [Holder("RoleBinding", f"ns-{number}", "b", f"u-{number}") for number in range(count)]


def test_the_holders_that_find_no_room_share_one_hold() -> None:
    some = holders(HOLDERS_LIMIT + 3)
    result = decided(shared(), usage=graph(*(claim(DEPLOYER, holder) for holder in some)))
    assert len(result.acquire) == HOLDERS_LIMIT + 1
    (rest,) = [one.hold for one in result.acquire if one.hold.key == MANY]
    assert rest == Hold(Holder("Many", "", "3 more holders"), NOW, "no room for each", read_key=MANY)
    assert MANY == PREFIX + "many"


def test_as_many_holders_as_fit_need_no_common_hold() -> None:
    result = decided(shared(), usage=graph(*(claim(DEPLOYER, holder) for holder in holders(HOLDERS_LIMIT))))
    assert len(result.acquire) == 500
    assert MANY not in {one.hold.key for one in result.acquire}


def test_room_is_counted_for_the_namespace_as_a_whole() -> None:
    some, second = holders(HOLDERS_LIMIT), Account("shared", "second")
    claims = [claim(DEPLOYER if number % 2 else second, holder) for number, holder in enumerate(some)]
    declared = (held(RUNNER), held(Holder("External", "", "other")))
    result = decided(shared(DEPLOYER, *declared), shared(second), usage=graph(*claims))
    assert len({one.hold.key for one in result.acquire} - {MANY}) == HOLDERS_LIMIT - 2
    assert {str(one.hold.holder) for one in result.acquire if one.hold.key == MANY} <= {
        "Many 1 more holders",
        "Many 2 more holders",
    }
    assert MANY in {one.hold.key for one in result.acquire}
    elsewhere = decided(
        shared(DEPLOYER), shared(OTHER), usage=graph(*(claim(DEPLOYER, one) for one in some), claim(OTHER, BINDING))
    )
    assert MANY not in {one.hold.key for one in elsewhere.acquire}


def test_where_others_fill_the_namespace_there_is_room_for_the_common_hold_alone() -> None:
    declared = [held(Holder("External", "", f"team-{number}")) for number in range(HOLDERS_LIMIT + 1)]
    result = decided(shared(DEPLOYER, *declared), usage=graph(claim(DEPLOYER, BINDING), claim(DEPLOYER, WEB)))
    assert [str(one.hold.holder) for one in result.acquire] == ["Many 2 more holders"]


def test_those_that_hold_already_keep_their_room_and_the_common_hold_stays() -> None:
    some = holders(HOLDERS_LIMIT + 1)
    last = max(some, key=lambda holder: holder.key)
    many = Hold(Holder("Many", "", "1 more holders"), LONG_AGO, read_key=MANY)
    account = shared(DEPLOYER, held(last), many)
    usage = graph(*(claim(DEPLOYER, holder) for holder in some))
    slots = absent((DEPLOYER, last.key), (DEPLOYER, MANY), (Account("shared", ""), MANY))
    result = decided(account, usage=usage, absences=slots)
    assert not result.release
    assert len(result.acquire) == HOLDERS_LIMIT - 1
    fewer = graph(*(claim(DEPLOYER, holder) for holder in some[:5]))
    assert (str(DEPLOYER), MANY) in released(decided(account, usage=fewer, absences=slots))


# --- Releasing


def test_a_hold_is_released_when_its_holder_is_gone_for_long_enough_and_often_enough() -> None:
    account = shared(DEPLOYER, held(BINDING))
    slots = absent((DEPLOYER, BINDING.key))
    result = decided(account, absences=slots)
    assert result.release == (Release(account, BINDING.key),)
    assert result.held == {DEPLOYER: ()}
    assert result.absences[DEPLOYER, BINDING.key] == Absence(OVER.since, 6)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        pytest.param(None, Absence(NOW, 1), id="seen gone for the first time"),
        pytest.param(Absence(NOW - timedelta(hours=1), 0), Absence(NOW - timedelta(hours=1), 1), id="long, but once"),
        pytest.param(
            Absence(NOW - timedelta(seconds=59), 8), Absence(NOW - timedelta(seconds=59), 9), id="often, but briefly"
        ),
        pytest.param(Absence(NOW + timedelta(hours=1), 8), Absence(NOW, 9), id="the clock went back"),
    ],
)
def test_a_hold_waits_out_the_grace(before: Absence | None, expected: Absence) -> None:
    slot = (DEPLOYER, BINDING.key)
    result = decided(shared(DEPLOYER, held(BINDING)), absences={slot: before} if before else {})
    assert not result.release
    assert result.absences[slot] == expected
    assert [hold.holder for hold in result.held[DEPLOYER]] == [BINDING]


def test_the_grace_ends_at_its_very_moment() -> None:
    exactly = Absence(NOW - timedelta(seconds=60), 1)
    assert released(decided(shared(DEPLOYER, held(BINDING)), absences={(DEPLOYER, BINDING.key): exactly})) == [
        ("shared/deployer", BINDING.key)
    ]
    assert Grace() == Grace(timedelta(seconds=60), 2)
    assert Absence(NOW) == Absence(NOW, 1)


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(graph(claim(DEPLOYER, BINDING)), id="it is back"),
        pytest.param(graph(claim(DEPLOYER, BINDING), faults=("x",)), id="it is back, in an incomplete graph"),
        pytest.param(graph(claim(Account("shared", EVERY), BINDING)), id="it means all of the namespace"),
    ],
)
def test_a_holder_that_is_seen_again_begins_anew(usage: Usage) -> None:
    result = decided(shared(DEPLOYER, held(BINDING)), usage=usage, absences=absent((DEPLOYER, BINDING.key)))
    assert not result.release
    assert not result.absences


def test_an_incomplete_graph_releases_nothing_and_counts_nothing() -> None:
    usage = graph(faults=("Pod: forbidden",))
    slots = absent((DEPLOYER, BINDING.key), (Account("shared", ""), BINDING.key))
    result = decided(shared(DEPLOYER, held(BINDING)), usage=usage, absences=slots)
    assert not result.release
    assert result.absences == slots
    assert not decided(shared(DEPLOYER, held(BINDING)), usage=usage).absences


def test_a_claim_that_keeps_nothing_speaks_for_no_hold() -> None:
    usage = graph(claim(DEPLOYER, BINDING, Strength.IDENTITY))
    assert decided(shared(DEPLOYER, held(BINDING)), usage=usage, absences=absent((DEPLOYER, BINDING.key))).release


def test_the_hold_of_one_that_was_made_again_goes_when_the_new_one_holds() -> None:
    again = replace(BINDING, uid="uid-new")
    result = decided(
        shared(DEPLOYER, held(BINDING)), usage=graph(claim(DEPLOYER, again)), absences=absent((DEPLOYER, BINDING.key))
    )
    assert acquired(result) == [("shared/deployer", str(again))]
    assert released(result) == [("shared/deployer", BINDING.key)]
    assert [hold.holder for hold in result.held[DEPLOYER]] == [again]


def test_an_old_hold_on_an_account_of_others_is_reviewed_too() -> None:
    slots = absent((OTHER, BINDING.key))
    assert decided(guarded(OTHER, held(BINDING)), absences=slots).release
    assert not decided(guarded(OTHER, held(BINDING)), usage=graph(claim(OTHER, BINDING)), absences=slots).release


def test_absences_of_what_is_not_there_are_forgotten() -> None:
    assert not decided(shared(), absences=absent((DEPLOYER, BINDING.key), (OTHER, BINDING.key))).absences


# --- Holds of environments, declared ones, and those that cannot be read


@pytest.mark.parametrize(
    ("live", "uid", "releases", "counts"),
    [
        pytest.param((), "uid-a", True, 6, id="its record is gone -> released"),
        pytest.param(("uid-b",), "uid-a", True, 6, id="another record is there -> released"),
        pytest.param(("uid-a",), "uid-a", False, None, id="its record is there -> stays"),
        pytest.param(None, "uid-a", False, 5, id="records not known -> stays, and nothing is counted"),
        pytest.param((), "", False, None, id="it says no UID -> stays"),
    ],
)
def test_an_environment_holds_as_long_as_its_record_is_there(
    live: tuple[str, ...] | None,
    uid: str,
    releases: bool,  # noqa: FBT001 - a column
    counts: int | None,
) -> None:
    holder = replace(ENVIRONMENT, uid=uid)
    slot = (DEPLOYER, holder.key)
    result = decided(shared(DEPLOYER, held(holder)), live=live, absences=absent(slot))
    assert bool(result.release) is releases
    found = result.absences.get(slot)
    assert (found.passes if found else None) == counts


def test_an_environment_without_record_holds_while_anything_of_it_is_seen() -> None:
    result = decided(
        shared(DEPLOYER, held(ENVIRONMENT)),
        usage=graph(claim(DEPLOYER, WEB)),
        live=(),
        absences=absent((DEPLOYER, ENVIRONMENT.key)),
    )
    assert not result.release


EXPIRED = held(RUNNER, expires=NOW)
RUNNING = held(RUNNER, expires=NOW + timedelta(seconds=1))


@pytest.mark.parametrize(
    ("hold", "auto", "releases"),
    [
        pytest.param(EXPIRED, [RUNNER.name], True, id="run out, and it goes by itself -> released"),
        pytest.param(EXPIRED, [], False, id="run out -> stays"),
        pytest.param(EXPIRED, ["Other"], False, id="run out, another goes by itself -> stays"),
        pytest.param(RUNNING, [RUNNER.name], False, id="not run out -> stays"),
        pytest.param(held(RUNNER), [RUNNER.name], False, id="no end -> stays"),
        pytest.param(held(BINDING, expires=NOW), [], False, id="another kind with an end -> stays"),
        pytest.param(
            held(BINDING, expires=NOW), [BINDING.name], True, id="another kind with an end, by itself -> released"
        ),
        pytest.param(
            held(ENVIRONMENT, expires=NOW), ["Environment"], False, id="a living environment with an end -> stays"
        ),
        pytest.param(held(Holder("Canary", "", "c")), ["Canary"], False, id="canary -> stays"),
        pytest.param(held(Holder("Canary", "", "c"), expires=NOW), ["Canary"], False, id="expired canary -> stays"),
        pytest.param(held(Holder("Unknown", "", "k")), ["Unknown"], False, id="cannot be read -> stays"),
    ],
)
def test_which_holds_go_without_a_claim(hold: Hold, auto: list[str], releases: bool) -> None:  # noqa: FBT001 - a column
    result = decided(shared(DEPLOYER, hold), auto=auto, absences=absent((DEPLOYER, hold.key)))
    assert bool(result.release) is releases
    assert bool(result.absences) is releases


def test_a_declared_hold_that_ran_out_is_reported_and_holds() -> None:
    result = decided(shared(DEPLOYER, EXPIRED), guarded(OTHER, RUNNING))
    assert result.expired == ((DEPLOYER, EXPIRED),)
    assert result.held == {DEPLOYER: (EXPIRED,), OTHER: (RUNNING,)}


# --- The Namespace's own copy


def test_with_the_last_hold_of_its_key_the_namespace_is_let_go_too() -> None:
    second = Account("shared", "second")
    alone = decided(shared(DEPLOYER, held(BINDING)), shared(second), absences=absent((DEPLOYER, BINDING.key)))
    assert [(one.from_account, one.from_namespace) for one in alone.release] == [(True, True)]
    two = (shared(DEPLOYER, held(BINDING)), shared(second, held(BINDING)))
    one_goes = decided(*two, usage=graph(claim(second, BINDING)), absences=absent((DEPLOYER, BINDING.key)))
    assert [(str(one.guarded.account), one.from_namespace) for one in one_goes.release] == [("shared/deployer", False)]
    both = decided(*two, absences=absent((DEPLOYER, BINDING.key), (second, BINDING.key)))
    assert [one.from_namespace for one in both.release] == [False, False]
    elsewhere = decided(
        two[0],
        shared(OTHER, held(BINDING)),
        usage=graph(claim(OTHER, BINDING)),
        absences=absent((DEPLOYER, BINDING.key)),
    )
    assert [one.from_namespace for one in elsewhere.release] == [True]


@pytest.mark.parametrize(
    "account",
    [
        pytest.param(Account("shared", "second"), id="that was read"),
        pytest.param(Account("shared", "third"), id="that was not read"),
        pytest.param(Account(EVERY, "second"), id="that is meant by its name"),
    ],
)
def test_a_hold_stays_on_the_namespace_for_another_account(account: Account) -> None:
    usage = graph(claim(account, BINDING))
    accounts = shared(DEPLOYER, held(BINDING)), shared(Account("shared", "second"))
    result = decided(*accounts, usage=usage, absences=absent((DEPLOYER, BINDING.key)))
    assert [(str(one.guarded.account), one.from_namespace) for one in result.release] == [("shared/deployer", False)]


def test_a_hold_that_is_not_on_the_namespace_is_not_taken_from_it() -> None:
    account = shared(DEPLOYER, held(BINDING), namespace_holds=())
    result = decided(account, absences=absent((DEPLOYER, BINDING.key)))
    assert result.release == (Release(account, BINDING.key, from_account=True, from_namespace=False),)


NAMESPACE = Account("shared", "")


def test_a_hold_on_the_namespace_alone_is_an_orphan() -> None:
    alone = Guarded(NAMESPACE, namespace_uid="uid-ns", namespace_holds=(held(BINDING),))
    expected = Release(Guarded(NAMESPACE, namespace_uid="uid-ns"), BINDING.key, from_account=False)
    slots = absent((NAMESPACE, BINDING.key))
    assert decided(alone, absences=slots).release == (expected,)
    assert decided(alone).release == ()
    assert decided(alone).absences == {(NAMESPACE, BINDING.key): Absence(NOW)}
    beside = shared(DEPLOYER, namespace_holds=(held(BINDING),))
    assert decided(beside, absences=slots).release == (expected,)
    assert decided(alone).held == {}


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(graph(claim(Account("shared", "not-seen"), BINDING)), id="an account that was not read"),
        pytest.param(graph(claim(DEPLOYER, BINDING)), id="an account that is to be held"),
        pytest.param(graph(claim(Account(EVERY, "deployer"), BINDING)), id="that name anywhere"),
        pytest.param(graph(claim(Account("shared", EVERY), BINDING)), id="all accounts there"),
        pytest.param(graph(faults=("x",)), id="an incomplete graph"),
    ],
)
def test_an_orphan_stays_while_its_holder_uses_anything_there(usage: Usage) -> None:
    account = shared(DEPLOYER, namespace_holds=(held(BINDING),))
    result = decided(account, usage=usage, absences=absent((NAMESPACE, BINDING.key)))
    assert not result.release


def test_a_hold_of_both_is_no_orphan_but_waits_with_it() -> None:
    result = decided(shared(DEPLOYER, held(BINDING)), absences=absent((NAMESPACE, BINDING.key)))
    assert not result.release
    assert result.absences[NAMESPACE, BINDING.key].passes == 6


def test_orphans_of_a_namespace_are_released_in_order_and_once() -> None:
    some = sorted(holders(3), key=lambda holder: holder.key)
    on_namespace = tuple(held(holder) for holder in reversed(some))
    accounts = [
        shared(DEPLOYER, namespace_holds=on_namespace),
        shared(Account("shared", "b"), namespace_holds=on_namespace),
    ]
    result = decided(*accounts, absences=absent(*((NAMESPACE, holder.key) for holder in some)))
    assert [one.key for one in result.release] == [holder.key for holder in some]


# --- Deleting with the last user

LAST: dict[str, Any] = {"policy": DELETE_WITH_LAST_USER, "used": True}
GONE = absent((DEPLOYER, UNUSED))


def test_a_shared_account_goes_with_its_last_user_if_its_policy_says_so() -> None:
    account = shared(**LAST)
    assert decided(account, absences=GONE).remove == (account,)
    assert decided(account).remove == ()
    assert decided(account).absences == {(DEPLOYER, UNUSED): Absence(NOW)}


@pytest.mark.parametrize(
    ("account", "usage"),
    [
        pytest.param(shared(used=True), graph(), id="policy keep"),
        pytest.param(shared(policy=DELETE_WITH_LAST_USER), graph(), id="never used"),
        pytest.param(guarded(DEPLOYER, **LAST), graph(), id="not shared"),
        pytest.param(shared(terminating=True, **LAST), graph(), id="going already"),
        pytest.param(shared(DEPLOYER, held(RUNNER), **LAST), graph(), id="held"),
        pytest.param(shared(**LAST), graph(claim(DEPLOYER, BINDING)), id="used"),
        pytest.param(shared(**LAST), graph(claim(DEPLOYER, BINDING), faults=("x",)), id="used, in an incomplete graph"),
    ],
)
def test_what_does_not_go_with_its_last_user(account: Guarded, usage: Usage) -> None:
    result = decided(account, usage=usage, absences=GONE)
    assert result.remove == ()
    assert (DEPLOYER, UNUSED) not in result.absences


def test_nothing_is_removed_by_an_incomplete_graph() -> None:
    result = decided(shared(**LAST), usage=graph(faults=("x",)), absences=GONE)
    assert result.remove == ()
    assert result.absences == GONE


def test_an_account_whose_hold_is_just_released_is_not_removed_yet() -> None:
    slots = GONE | absent((DEPLOYER, BINDING.key))
    result = decided(shared(DEPLOYER, held(BINDING), **LAST), absences=slots)
    assert result.release
    assert not result.remove


def test_information_keeps_no_account() -> None:
    usage = graph(claim(DEPLOYER, Holder("VaultRole", "", "db"), Strength.IDENTITY))
    assert decided(shared(**LAST), usage=usage, absences=GONE).remove


# --- Marks and owners


@pytest.mark.parametrize(
    ("account", "usage", "expected"),
    [
        pytest.param(shared(), graph(claim(DEPLOYER, BINDING)), True, id="a first user"),
        pytest.param(shared(DEPLOYER, held(RUNNER)), graph(), True, id="a first declared user"),
        pytest.param(shared(), graph(), False, id="no user"),
        pytest.param(shared(used=True), graph(claim(DEPLOYER, BINDING)), False, id="marked already"),
        pytest.param(guarded(DEPLOYER, held(RUNNER)), graph(), False, id="not shared"),
        pytest.param(shared(terminating=True), graph(claim(DEPLOYER, BINDING)), False, id="going"),
    ],
)
def test_a_shared_account_that_has_a_user_is_marked(
    account: Guarded,
    usage: Usage,
    expected: bool,  # noqa: FBT001 - a column
) -> None:
    assert decided(account, usage=usage).mark_used == ((account,) if expected else ())


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        pytest.param(shared(owners=("Tenant acme",)), True, id="shared"),
        pytest.param(shared(), False, id="no owner"),
        pytest.param(guarded(APP, owners=("Tenant acme",)), False, id="not shared"),
        pytest.param(shared(owners=("Tenant acme",), terminating=True), False, id="going"),
    ],
)
def test_owners_of_a_shared_account_are_to_be_stripped(account: Guarded, expected: bool) -> None:  # noqa: FBT001 - a column
    assert decided(account).strip == ((account,) if expected else ())


def test_what_is_held_after_a_pass_is_told() -> None:
    usage = graph(claim(DEPLOYER, BINDING))
    result = decided(shared(DEPLOYER, held(RUNNER)), usage=usage)
    assert [str(hold.holder) for hold in result.held[DEPLOYER]] == [str(RUNNER), str(BINDING)]
    assert not decided(shared(DEPLOYER, terminating=True), usage=usage).held[DEPLOYER]
    again = decided(shared(DEPLOYER, held(BINDING), namespace_holds=()), usage=usage)
    assert again.held[DEPLOYER] == (held(BINDING),)


# --- Tearing a namespace down


def test_what_nobody_else_uses_goes_in_full() -> None:
    usage = graph(claim(APP, WEB), claim(APP, Holder("VaultRole", "", "db"), Strength.IDENTITY), claim(OTHER, BINDING))
    assert classify([guarded(APP), guarded(Account("env-a", "default"))], usage) == Verdict("Full")
    assert classify([], usage) == Verdict("Full")


def test_what_others_use_leaves_a_husk_and_says_what_stays_and_why() -> None:
    usage = graph(claim(APP, BINDING, Strength.GRANT, "subject, bound to ClusterRole edit"), claim(APP, WEB))
    default = Account("env-a", "default")
    assert classify([guarded(default), guarded(APP)], usage) == Verdict(
        "Husk",
        (Kept(APP, ("RoleBinding prod/deployers (subject, bound to ClusterRole edit)",)),),
        ("ServiceAccount app is kept by RoleBinding prod/deployers (subject, bound to ClusterRole edit)",),
    )
    every = graph(claim(Account("env-a", EVERY), BINDING))
    assert [kept.account for kept in classify([guarded(default), guarded(APP)], every).kept] == [APP, default]


def test_a_hold_leaves_a_husk_though_it_ran_out() -> None:
    verdict = classify([guarded(APP, EXPIRED)], graph())
    expected = "External ci-runner, held since 2026-02-20, until 2026-03-01 (spec)"
    assert verdict == Verdict("Husk", (Kept(APP, (expected,)),), (f"ServiceAccount app is kept by {expected}",))
    plain = classify([guarded(APP, Hold(RUNNER, NOW))], graph())
    assert plain.kept == (Kept(APP, ("External ci-runner, held since 2026-03-01",)),)


def test_a_hold_on_the_namespace_alone_leaves_a_husk_of_nothing() -> None:
    verdict = classify([guarded(APP, namespace_holds=(held(RUNNER),))], graph())
    assert verdict == Verdict(
        "Husk", (), ("Namespace env-a is kept by External ci-runner, held since 2026-02-20 (spec)",)
    )
    alone = Guarded(Account("env-a", ""), namespace_holds=(held(RUNNER),))
    assert classify([alone, alone], graph(claim(Account("env-a", EVERY), WEB))) == verdict
    assert classify([alone], graph(claim(Account("env-a", EVERY), BINDING))) == verdict


def test_the_holds_of_the_environment_itself_do_not_count() -> None:
    own = guarded(APP, held(ENVIRONMENT))
    assert classify([own], graph(), ENVIRONMENT).plan == "Full"
    assert classify([own], graph()).plan == "Husk"
    assert classify([own], graph(), replace(ENVIRONMENT, uid="uid-before")).plan == "Husk"
    both = guarded(APP, held(ENVIRONMENT), held(RUNNER))
    verdict = classify([both], graph(), ENVIRONMENT)
    assert verdict.plan == "Husk"
    assert [kept.account for kept in verdict.kept] == [APP]
    assert len(verdict.why) == 1
    alone = Guarded(Account("env-a", ""), namespace_holds=(held(ENVIRONMENT), held(RUNNER)))
    assert [why.split(",")[0] for why in classify([alone], graph(), ENVIRONMENT).why] == [
        "Namespace env-a is kept by External ci-runner"
    ]


def test_a_hold_that_several_accounts_carry_is_a_reason_for_each() -> None:
    second = Account("env-a", "zweite")
    verdict = classify([guarded(APP, held(RUNNER)), guarded(second, held(RUNNER))], graph())
    assert [kept.account for kept in verdict.kept] == [APP, second]
    assert len(verdict.why) == 2


@pytest.mark.parametrize("policy", [KEEP, DELETE_WITH_LAST_USER])
def test_an_adopted_account_stays_until_somebody_ends_that_and_the_command_is_named(policy: Policy) -> None:
    adopted = guarded(APP, shared=True, policy=policy)
    expected = f"its adoption with policy {policy}, which `envprov guard release env-a/app` ends"
    verdict = classify([adopted, guarded(Account("env-a", "default"))], graph())
    assert verdict == Verdict("Husk", (Kept(APP, (expected,)),), (f"ServiceAccount app is kept by {expected}",))
    assert classify([replace(adopted, released=True)], graph()).plan == "Full"


def test_an_incomplete_graph_blocks_and_says_why() -> None:
    usage = graph(claim(APP, BINDING), faults=("Pod: forbidden", "CronJob: timeout"))
    assert classify([guarded(APP)], usage) == Verdict("Blocked", (), ("Pod: forbidden", "CronJob: timeout"))


def test_a_thousand_environments_are_reviewed_in_well_under_a_second() -> None:
    spaces = [f"env-{number}" for number in range(1000)]
    accounts = [guarded(Account(space, name), held(RUNNER)) for space in spaces for name in ("default", "app", "b")]
    claims = [
        claim(DEPLOYER, Holder("Deployment", space, f"d-{n}", f"u-{space}-{n}")) for space in spaces for n in "abc"
    ]
    places = {space: Holder("Environment", "envprov-system", space, f"uid-{space}") for space in spaces}
    began = process_time()
    result = decided(*accounts, shared(), usage=graph_of(claims), environments=places)
    assert process_time() - began < 1
    assert len(result.acquire) == HOLDERS_LIMIT + 1


def test_who_uses_a_namespace_that_is_gone_is_named_once_and_only_who_is_elsewhere() -> None:
    every = Account("env-a", EVERY)
    usage = graph(
        claim(APP, BINDING),
        claim(APP, BINDING),
        claim(every, RUNNER),
        claim(APP, WEB),
        claim(APP, Holder("Vault", "", "vault"), Strength.IDENTITY),
        claim(Account("env-b", "app"), BINDING),
    )
    assert bereft(usage, "env-a") == (
        f"ServiceAccount env-a/* by {RUNNER} (spec)",
        f"ServiceAccount env-a/app by {BINDING} (spec)",
    )
    assert bereft(Usage(usage.claims, ("cannot list Pods",)), "env-a") == bereft(usage, "env-a")
    assert bereft(usage, "env-c") == ()
