"""What the guard's policies let go and what they keep, on a real API server; and what people are told."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from envprov.domain.drift import drifted
from envprov.domain.environment import BRANCH
from envprov.domain.holds import FORCED, GUARD, PREFIX, RELEASED, SHARED
from envprov.domain.objects import PROJECT
from envprov.domain.policies import DELETE_GUARD, MARK, policies
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.guard.people import (
    HELD,
    REFUSED,
    People,
    account,
    audited,
    is_there,
    people,
    read,
    space,
    uid_of,
)

Manifest = dict[str, Any]
KEPT = REFUSED[DELETE_GUARD]


def hold(by: str, since: str = "2026-10-01T10:00:00Z") -> str:
    """Value of a hold of a Deployment."""
    return json.dumps(
        {"by": by, "kind": "Deployment", "uid": "1", "since": since, "why": "a test"}, separators=(",", ":")
    )


@pytest.fixture(scope="module")
def who(guarded: Cluster) -> Iterator[People]:
    """Yield the people of this file, with the policies in force."""
    with people(guarded) as found:
        yield found


@pytest.fixture
def env(guarded: Cluster) -> Iterator[str]:
    """Yield the name of a namespace that looks like an environment's."""
    name = f"env-t-{secrets.token_hex(4)}"
    labels = {GUARD: "env", PROJECT: "shop"}
    guarded.kubectl(
        *("create", "-f", "-"),
        input=json.dumps(space(name, labels=labels, annotations={BRANCH: "feature/a"})),
    )
    yield name
    guarded.discard(name)


# --- As they are installed


@pytest.mark.parametrize("wanted", policies("envprov"), ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_a_policy_is_stored_as_it_is_written_and_has_no_fault(guarded: Cluster, wanted: Manifest) -> None:
    def checked() -> Manifest | None:
        live = read(guarded, f"{wanted['kind']}/{wanted['metadata']['name']}")
        seen = live.get("status", {}).get("observedGeneration")
        return live if wanted["kind"].endswith("Binding") or seen == live["metadata"]["generation"] else None

    live = eventually(checked, message="the API server has not checked its types")
    assert not drifted(wanted, live)
    assert "expressionWarnings" not in live.get("status", {}).get("typeChecking", {})


def test_what_nobody_guards_goes_as_ever(who: People, control_namespace: str) -> None:
    who.developer.create(account("free", control_namespace, annotations={"holds.example.org/x": "{}"}))
    assert "deleted" in who.developer.delete("sa/free", control_namespace)
    assert "deleted" in who.developer.delete(f"ns/{control_namespace}")
    eventually(
        lambda: "NotFound" in who.admin("get", "ns", control_namespace), message="the namespace did not finalize"
    )


def test_no_number_of_annotations_makes_an_object_of_others_undeletable(who: People, control_namespace: str) -> None:
    notes = dict.fromkeys((f"{number:x}" for number in range(25_000)), "")
    assert "created" in who.developer.create(account("noted", control_namespace, annotations=notes))
    assert "deleted" in who.developer.delete("sa/noted", control_namespace)


# --- Holds


@pytest.mark.parametrize("name", ["developer", "keeper", "breaker", "admin"])
def test_a_held_account_is_kept_and_the_refusal_says_by_whom(who: People, control_namespace: str, name: str) -> None:
    who.admin.create(account("ci", control_namespace, annotations=HELD))
    before = read(who.admin.cluster, "sa/ci", control_namespace)
    said = getattr(who, name).delete("sa/ci", control_namespace)
    assert 'Error from server (Forbidden): serviceaccounts "ci" is forbidden: ' in said
    assert (
        f"{KEPT}ServiceAccount {control_namespace}/ci is held by Deployment env-a/web since 2026-10-01T10:00:00Z; "
        f"to see why, and what can be done, run: envprov guard explain {control_namespace}/ci"
    ) in said
    assert read(who.admin.cluster, "sa/ci", control_namespace) == before


def test_a_held_namespace_is_kept_and_stays_active(who: People, control_namespace: str) -> None:
    who.admin.note(f"ns/{control_namespace}", "", HELD)
    for dry in ((), ("--dry-run=server",)):
        said = who.admin.delete(f"ns/{control_namespace}", "", *dry)
        assert f"{KEPT}Namespace {control_namespace} is held by Deployment env-a/web" in said
        assert f"run: envprov guard explain {control_namespace}\n" in said
    assert read(who.admin.cluster, f"ns/{control_namespace}")["status"] == {"phase": "Active"}


def test_the_deletion_of_a_collection_stops_at_a_held_account(who: People, control_namespace: str) -> None:
    for name in ("a", "b", "c"):
        notes = HELD if name == "b" else {}
        who.admin.create(account(name, control_namespace, annotations=notes))
    said = who.developer("delete", "--raw", f"/api/v1/namespaces/{control_namespace}/serviceaccounts")
    assert f"{KEPT}ServiceAccount {control_namespace}/b is held by Deployment env-a/web" in said
    there = {name: is_there(who.admin.cluster, f"sa/{name}", control_namespace) for name in ("a", "b", "c")}
    assert there == {"a": False, "b": True, "c": True}


def test_the_oldest_three_holders_are_named(who: People, control_namespace: str) -> None:
    since = {"1": "2026-10-05", "2": "2026-10-01", "3": "2026-10-04", "4": "2026-10-03", "5": "2026-10-02"}
    notes = {PREFIX + key: hold(f"env-a/web-{key}", since=f"{day}T00:00:00Z") for key, day in since.items()}
    who.admin.create(account("ci", control_namespace, annotations=notes))
    assert (
        "is held by Deployment env-a/web-2 since 2026-10-01T00:00:00Z, Deployment env-a/web-5 since "
        "2026-10-02T00:00:00Z, Deployment env-a/web-4 since 2026-10-03T00:00:00Z and 2 more; to see why"
    ) in who.developer.delete("sa/ci", control_namespace)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("", f"{PREFIX}1", id="empty -> its key"),
        pytest.param("null", f"{PREFIX}1", id="no object -> its key"),
        pytest.param('{"by":7,"kind":"External"}', f"{PREFIX}1", id="a number for a name -> its key"),
        pytest.param('{"by":"ci"}', f"{PREFIX}1", id="no kind -> its key"),
        pytest.param('{"kind":"External"}', f"{PREFIX}1", id="no name -> its key"),
        pytest.param('{"by":"a\nb","kind":"External"}', f"{PREFIX}1", id="a line break -> its key"),
        pytest.param('{"by":"a\x1b[31mb","kind":"External"}', f"{PREFIX}1", id="an escape -> its key"),
        pytest.param('{"by":"a\u202eb","kind":"External"}', f"{PREFIX}1", id="a change of direction -> its key"),
        pytest.param('{"by":"a","kind":"Ext\\u0065rnal"}', f"{PREFIX}1", id="an escaped kind -> its key"),
        pytest.param('{"by":"' + "x" * 5000 + '","kind":"External"}', f"{PREFIX}1", id="too long -> its key"),
        pytest.param('{"by":"ci","kind":"External","why":"' + "x" * 5000 + '"}', f"{PREFIX}1", id="endless -> its key"),
        pytest.param('{"by":"ci","kind":"External","since":"soon"}', "External ci", id="no moment -> without one"),
        pytest.param('{"kind": "External", "by": "ci"}', "External ci", id="spaced, in another order -> read"),
        pytest.param('{"by":"ci","kind":"External","why":"\\"by\\":\\"x\\""}', "External ci", id="a trap -> read"),
        pytest.param('{"by":"the \\"q\\" team","kind":"External"}', 'External the \\"q\\" team', id="quotes -> as are"),
        pytest.param('{"by":"チーム","kind":"External"}', "External チーム", id="any script -> read"),
        pytest.param('{"by":"' + "語" * 320 + '","kind":"External"}', f"External {'語' * 320}", id="long -> whole"),
    ],
)
def test_whatever_a_hold_says_it_keeps_and_is_shown(
    who: People, control_namespace: str, value: str, shown: str
) -> None:
    who.admin.create(account("ci", control_namespace, annotations={PREFIX + "1": value}))
    said = who.developer.delete("sa/ci", control_namespace)
    assert f"{KEPT}ServiceAccount {control_namespace}/ci is held by {shown}; to see why" in said


@pytest.mark.parametrize(
    ("notes", "first", "more"),
    [
        pytest.param(
            {
                f"{PREFIX}{number:016x}": hold(f"env-a/{'w' * 105}-{number}", since=f"2026-10-01T{number:06}Z")
                for number in range(1000)
            },
            f"Deployment env-a/{'w' * 105}-0 since 2026-10-01T000000Z, ",
            997,
            id="a thousand of 200 bytes",
        ),
        pytest.param({f"{PREFIX}{number:x}": "" for number in range(3_000)}, f"{PREFIX}0, ", 2_997, id="3,000 empty"),
        pytest.param(
            {f"{PREFIX}{number:03}": '"by":"' * 160 for number in range(250)}, f"{PREFIX}000, ", 247, id="garbage"
        ),
    ],
)
def test_as_many_holds_as_fit_keep_and_are_counted(
    who: People, control_namespace: str, notes: dict[str, str], first: str, more: int
) -> None:
    assert "created" in who.admin.create(account("ci", control_namespace, annotations=notes))
    said = who.developer.delete("sa/ci", control_namespace)
    assert f"{KEPT}ServiceAccount {control_namespace}/ci is held by {first}" in said
    assert f" and {more} more; to see why" in said
    assert "may not change" in who.developer.patch("sa/ci", control_namespace, {"metadata": {"annotations": None}})
    assert "patched" in who.admin.patch("sa/ci", control_namespace, {"metadata": {"annotations": None}})


# --- Guarded without a holder


def test_an_environment_goes_only_when_it_is_released(who: People, env: str) -> None:
    said = who.admin.delete(f"ns/{env}")
    assert (
        f"{KEPT}Namespace {env} is the environment of a branch; to take it down, "
        "run: envprov down feature/a --project shop\n"
    ) in said
    who.admin.note(f"ns/{env}", "", {RELEASED: "00000000-0000-0000-0000-000000000000"})
    assert KEPT in who.admin.delete(f"ns/{env}")
    assert read(who.admin.cluster, f"ns/{env}")["status"] == {"phase": "Active"}
    who.admin.note(f"ns/{env}", "", {RELEASED: uid_of(who.admin.cluster, f"ns/{env}")})
    assert "deleted" in who.developer.delete(f"ns/{env}")
    eventually(lambda: "NotFound" in who.admin("get", "ns", env), message="the namespace did not finalize")


@pytest.mark.parametrize(
    ("branch", "way_out"),
    [
        pytest.param("feature/a-1.2_x", "envprov down feature/a-1.2_x --project shop", id="plain -> as it is"),
        pytest.param("a;rm$(x)`y`", "envprov down 'a;rm$(x)`y`' --project shop", id="for a shell -> quoted"),
        pytest.param("it's", "envprov down 'it'\\''s' --project shop", id="a quote -> closed around"),
        pytest.param("a\nb", "envprov guard explain ENV", id="a line break -> not shown"),
        pytest.param(None, "envprov guard explain ENV", id="none -> another way"),
    ],
)
def test_the_command_that_takes_an_environment_down_can_be_copied(
    who: People, env: str, branch: str | None, way_out: str
) -> None:
    who.admin.note(f"ns/{env}", "", {BRANCH: branch})
    said = who.developer.delete(f"ns/{env}")
    assert said.endswith(f" run: {way_out.replace('ENV', env)}\n")


def test_a_shared_account_goes_only_when_it_is_released_and_its_namesake_does_not(
    who: People, control_namespace: str
) -> None:
    manifest = account("ci", control_namespace, labels={GUARD: SHARED})
    who.admin.create(manifest)
    assert who.developer.delete("sa/ci", control_namespace).endswith(
        f"{KEPT}ServiceAccount {control_namespace}/ci is shared and was not released; "
        f"if nobody needs it any more, run: envprov guard release {control_namespace}/ci\n"
    )
    who.admin.note("sa/ci", control_namespace, {RELEASED: "another"})
    assert KEPT in who.admin.delete("sa/ci", control_namespace)
    uid = uid_of(who.admin.cluster, "sa/ci", control_namespace)
    who.admin.note("sa/ci", control_namespace, {RELEASED: uid})
    assert "deleted" in who.developer.delete("sa/ci", control_namespace)
    manifest["metadata"]["annotations"] = {RELEASED: uid}
    assert "created" in who.admin.create(manifest)
    assert KEPT in who.admin.delete("sa/ci", control_namespace)


@pytest.mark.parametrize("value", ["", "env", "no-such-way"])
def test_a_guard_that_is_not_known_keeps_too(who: People, control_namespace: str, value: str) -> None:
    who.admin.create(account("ci", control_namespace, labels={GUARD: value}))
    assert who.admin.delete("sa/ci", control_namespace).endswith(
        f"is guarded and was not released; to see why, run: envprov guard explain {control_namespace}/ci\n"
    )


def test_a_release_does_not_end_a_hold(who: People, control_namespace: str) -> None:
    who.admin.create(account("ci", control_namespace, annotations=HELD))
    uid = uid_of(who.admin.cluster, "sa/ci", control_namespace)
    who.admin.note("sa/ci", control_namespace, {RELEASED: uid})
    assert "is held by Deployment env-a/web" in who.admin.delete("sa/ci", control_namespace)


# --- Breaking the glass


def test_a_hold_is_broken_by_two_rights_together_and_that_is_audited(who: People, control_namespace: str) -> None:
    held = {"annotations": HELD, "labels": {GUARD: SHARED}}
    who.admin.create(account("ci", control_namespace, **held))
    uid = uid_of(who.admin.cluster, "sa/ci", control_namespace)
    for person in (who.developer, who.breaker):
        assert "may not change envprov.io/force-delete-uid" in person.note("sa/ci", control_namespace, {FORCED: uid})
    who.keeper.note("sa/ci", control_namespace, {FORCED: "another"})
    assert KEPT in who.breaker.delete("sa/ci", control_namespace)
    who.keeper.note("sa/ci", control_namespace, {FORCED: uid})
    for person in (who.developer, who.keeper):
        assert KEPT in person.delete("sa/ci", control_namespace)
    assert "deleted" in who.breaker.delete("sa/ci", control_namespace)

    def told() -> Manifest | None:
        found = audited(who.admin.cluster, "delete", "ci", control_namespace)
        return found[-1] if found and found[-1]["responseStatus"]["code"] == 200 else None

    event = eventually(told, message="the deletion is not in the audit log")
    assert event["annotations"][f"{DELETE_GUARD}/holds-at-delete"] == (
        f'{who.breaker.user} deletes ServiceAccount {control_namespace}/ci, uid {uid}, guard "shared", not released, '
        f"holds 1: {PREFIX}1={HELD[PREFIX + '1']}"
    )


def test_the_audit_log_has_refusals_too_and_no_more_than_fits(who: People, control_namespace: str) -> None:
    notes = {f"{PREFIX}{number:016x}": hold(f"env-a/{'w' * 105}-{number}") for number in range(1000)}
    who.admin.create(account("ci", control_namespace, annotations=notes))
    who.developer.delete("sa/ci", control_namespace)
    (event,) = eventually(lambda: audited(who.admin.cluster, "delete", "ci", control_namespace), message="not audited")
    text = event["annotations"][f"{DELETE_GUARD}/holds-at-delete"]
    assert event["responseStatus"]["code"] == 403
    assert text.startswith(f"{who.developer.user} deletes ServiceAccount {control_namespace}/ci, uid ")
    assert ", guard none, not released, holds 1000: " in text
    assert len(text) == 8000
    assert MARK in event["annotations"]["validation.policy.admission.k8s.io/validation_failure"]


# --- What deletes on behalf of others


@pytest.mark.parametrize("cascade", ["background", "foreground"])
def test_an_owner_does_not_take_a_held_account_along(who: People, control_namespace: str, cascade: str) -> None:
    who.admin("create", "configmap", "owner", "-n", control_namespace)
    owner = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "owner",
        "uid": uid_of(who.admin.cluster, "cm/owner", control_namespace),
        "blockOwnerDeletion": True,
    }
    for name, notes in (("held", HELD), ("free", {})):
        who.admin.create(account(name, control_namespace, annotations=notes, ownerReferences=[owner]))
    who.developer.delete("cm/owner", control_namespace, f"--cascade={cascade}")

    def refused() -> list[Manifest]:
        tried = audited(who.admin.cluster, "delete", "held", control_namespace)
        return [event for event in tried if event["responseStatus"]["code"] == 403]

    eventually(refused, message="the garbage collector has not tried")
    eventually(lambda: not is_there(who.admin.cluster, "sa/free", control_namespace), message="nothing was collected")
    found = read(who.admin.cluster, "sa/held", control_namespace)["metadata"]
    assert "deletionTimestamp" not in found
    assert found["ownerReferences"] == [owner]
    waits = read(who.admin.cluster, "cm/owner", control_namespace) if cascade == "foreground" else None
    assert waits is None or waits["metadata"]["finalizers"] == ["foregroundDeletion"]
    who.keeper.patch("sa/held", control_namespace, {"metadata": {"ownerReferences": None}})
    eventually(
        lambda: "NotFound" in who.admin("get", "cm", "owner", "-n", control_namespace),
        message="the owner waits for what it no longer owns",
    )
    assert is_there(who.admin.cluster, "sa/held", control_namespace)


def test_a_namespace_with_a_hold_on_its_account_alone_is_left_half_deleted_until_that_is_released(
    who: People, control_namespace: str
) -> None:
    who.admin.create(account("held", control_namespace, annotations=HELD))
    who.admin("create", "rolebinding", "view", "--clusterrole=view", "--user=x", "-n", control_namespace)
    assert "deleted" in who.developer.delete(f"ns/{control_namespace}")

    def stuck() -> str | None:
        conditions = read(who.admin.cluster, f"ns/{control_namespace}")["status"].get("conditions", [])
        found = [one for one in conditions if one["type"] == "NamespaceDeletionContentFailure"]
        return str(found[0]["message"]) if found and found[0]["status"] == "True" else None

    message = eventually(stuck, message="the namespace controller says nothing")
    assert f"{KEPT}ServiceAccount {control_namespace}/held is held by Deployment env-a/web" in message
    assert "NotFound" in who.admin("get", "rolebinding", "view", "-n", control_namespace)
    assert "being terminated" in who.admin("create", "token", "held", "-n", control_namespace)
    assert "may not change" in who.developer.note("sa/held", control_namespace, dict.fromkeys(HELD))
    assert is_there(who.admin.cluster, "sa/held", control_namespace)
    who.keeper.note("sa/held", control_namespace, dict.fromkeys(HELD))
    eventually(
        lambda: "NotFound" in who.admin("get", "ns", control_namespace), message="the namespace did not finalize"
    )


def test_what_a_forced_namespace_leaves_behind_is_still_held_in_its_successor(
    who: People, control_namespace: str
) -> None:
    who.admin.create(account("held", control_namespace, annotations=HELD))
    uid = uid_of(who.admin.cluster, "sa/held", control_namespace)
    who.admin.delete(f"ns/{control_namespace}")
    emptied = read(who.admin.cluster, f"ns/{control_namespace}")
    emptied["spec"]["finalizers"] = []
    path = f"/api/v1/namespaces/{control_namespace}/finalize"
    eventually(
        lambda: (
            who.admin("replace", "--raw", path, "-f", "-", given=emptied)
            and "NotFound" in who.admin("get", "ns", control_namespace)
        ),
        message="the namespace is still there",
    )
    who.admin.create(space(control_namespace))
    assert uid_of(who.admin.cluster, "sa/held", control_namespace) == uid
    assert KEPT in who.admin.delete("sa/held", control_namespace)
