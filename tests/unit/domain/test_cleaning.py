"""What a cleanup finds: each with why, since when, and what shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from envprov.domain.cleaning import (
    STUCK_AFTER,
    Why,
    expired,
    holders_gone,
    hosts_left_over,
    orphaned,
    release_stuck,
    without_project,
)
from envprov.domain.environment import EXTENDED, Environment
from envprov.domain.holds import Hold, Holder
from envprov.domain.hosts import Tenant
from envprov.domain.lifetime import Extension, Lived
from envprov.domain.names import slug
from tests.unit.builders import CONTROL, NOW, SLUG, UID, desired, environment, reported, reservation

GRACE = timedelta(minutes=10)
FIFTH = Fraction(1, 5)
HOUR = timedelta(hours=1)


def condition(kind: str, status: str, since: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": "Because", "message": "said", "lastTransitionTime": since}


def idle_since(deployed: str, **spec: Any) -> Environment:  # noqa: ANN401 - any field
    """Deployed at that time, as the controller last saw it."""
    given = environment(**spec)
    status = {"observedGeneration": 1, "conditions": [condition("Deployed", "True", deployed)]}
    return reported(given, status | {"expiresAt": "2026-11-24T12:00:00Z"})


def extended(given: Environment, minutes: int) -> Environment:
    """Somebody extended it while no controller was there to see it."""
    at = NOW - timedelta(minutes=minutes)
    return given.model_copy(update={"annotations": {EXTENDED: Extension(at, at).encode()}})


IDLE = desired(lifetime={"kind": "expire-after", "idle": "PT1H"})
LAST = "2026-11-24T11:00:00Z"


@pytest.mark.parametrize(
    ("given", "lived", "is_found"),
    [
        pytest.param(idle_since(LAST), IDLE, True, id="ends this second -> found"),
        pytest.param(idle_since("2026-11-24T11:00:01Z"), IDLE, False, id="ends in a second -> not yet"),
        pytest.param(idle_since(LAST, pinned=True), IDLE, False, id="pinned -> stays"),
        pytest.param(
            idle_since(LAST).model_copy(update={"deleting": True}), IDLE, False, id="on its way -> nothing to do"
        ),
        pytest.param(idle_since(LAST), desired(), False, id="no end, whatever was reported -> stays"),
        pytest.param(extended(idle_since(LAST), 59), IDLE, False, id="extended, and nobody has seen it yet -> stays"),
        pytest.param(
            idle_since(LAST).model_copy(update={"generation": 2}),
            IDLE,
            False,
            id="pushed, and nobody has seen it yet -> stays",
        ),
    ],
)
def test_expired(given: Environment, lived: Lived, *, is_found: bool) -> None:
    found = expired(given, lived, NOW)
    assert (found is not None) is is_found
    if found is not None:
        assert (found.why, found.since) == (Why.EXPIRED, NOW)
        assert found.evidence == "branch feature/x; its lifetime ended at 2026-11-24T12:00:00Z"


def of_project(project: str, number: int = 0) -> Environment:
    given = environment()
    name = slug(project, f"b{number}")
    spec = given.spec.model_copy(update={"project": project, "branch": f"b{number}"})
    return given.model_copy(update={"name": name, "spec": spec})


def test_environments_of_a_project_that_is_gone() -> None:
    there, gone = of_project("shop"), of_project("old")
    found, braked = without_project([there, gone], {"shop"}, now=NOW, grace=GRACE, share=FIFTH)
    assert [(one.name, row.why, row.since) for one, row in found] == [(gone.name, Why.PROJECT_GONE, gone.created_at)]
    assert "there is no Project old" in found[0][1].evidence
    assert braked == ()


def test_a_project_that_was_replaced_a_moment_ago_costs_nothing() -> None:
    gone = reported(environment(), {"conditions": [condition("Accepted", "False", "2026-11-24T11:50:01Z")]})
    assert without_project([gone], set(), now=NOW, grace=GRACE, share=FIFTH) == ((), ())
    found, _ = without_project([gone], set(), now=NOW + timedelta(seconds=1), grace=GRACE, share=FIFTH)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("count", "of", "is_braked"),
    [
        pytest.param(3, 3, False, id="three -> they may go"),
        pytest.param(4, 4, True, id="four of four -> a person must agree"),
        pytest.param(4, 20, False, id="a fifth -> they may go"),
        pytest.param(5, 20, True, id="more -> a person must agree"),
    ],
)
def test_of_many_at_once_the_project_is_named(count: int, of: int, *, is_braked: bool) -> None:
    gone = [of_project("old", number) for number in range(count)]
    others = [of_project("shop", number) for number in range(of - count)]
    _, braked = without_project(gone + others, {"shop"}, now=NOW, grace=GRACE, share=FIFTH)
    assert braked == (("old",) if is_braked else ())


@pytest.mark.parametrize(
    ("state", "since", "is_found"),
    [
        pytest.param("pending-install", NOW - STUCK_AFTER, True, id="pending for half an hour -> stuck"),
        pytest.param("uninstalling", NOW - HOUR, True, id="uninstalling for an hour -> stuck"),
        pytest.param("pending-upgrade", NOW - STUCK_AFTER + timedelta(seconds=1), False, id="pending -> give it time"),
        pytest.param("failed", NOW - HOUR, False, id="failed -> the controller tries again"),
        pytest.param("deployed", NOW - HOUR, False, id="deployed -> well"),
    ],
)
def test_a_release_that_is_stuck(state: str, since: Any, *, is_found: bool) -> None:  # noqa: ANN401 - a moment
    moment = f"{since:%Y-%m-%dT%H:%M:%SZ}"
    status = {
        "release": {"name": SLUG, "status": state},
        "conditions": [condition("Deployed", "False", moment)],
    }
    found = release_stuck(reported(environment(), status), NOW)
    assert (found is not None) is is_found
    assert release_stuck(reported(environment(asleep=True), status), NOW) is None  # it is unlocked as it wakes


def namespace(**changes: Any) -> Mapping[str, Any]:  # noqa: ANN401 - any part of the metadata
    metadata = {
        "name": f"env-{SLUG}",
        "creationTimestamp": "2026-11-24T11:00:00Z",
        "labels": {"envprov.io/project": "shop"},
        "annotations": {"envprov.io/owner": f"{CONTROL}/{SLUG}", "envprov.io/branch": "feature/x"},
    }
    return {"metadata": metadata | changes}


OWNED = {"envprov.io/owner": f"{CONTROL}/{SLUG}"}


@pytest.mark.parametrize(
    ("given", "known", "expected"),
    [
        pytest.param(namespace(), set(), ("shop", "feature/x"), id="says whose it is -> can be torn down"),
        pytest.param(namespace(), {SLUG}, None, id="has its record -> nothing"),
        pytest.param(namespace(annotations=OWNED), set(), ("", ""), id="says no branch -> only reported"),
        pytest.param(namespace(labels={}), set(), ("", ""), id="says no project -> only reported"),
        pytest.param(namespace(name="env-other"), set(), ("", ""), id="has another name -> only reported"),
        pytest.param(
            namespace(annotations={"envprov.io/owner": f"elsewhere/{SLUG}"}),
            set(),
            None,
            id="another envprov's -> nothing",
        ),
        pytest.param(namespace(annotations={}), set(), None, id="nobody's -> nothing"),
        pytest.param(namespace(creationTimestamp="2026-11-24T11:50:01Z"), set(), None, id="young -> nothing yet"),
        pytest.param(
            namespace(deletionTimestamp="2026-11-24T11:59:00Z"), set(), None, id="on its way -> nothing to do"
        ),
    ],
)
def test_namespaces_without_a_record(
    given: Mapping[str, Any], known: set[str], expected: tuple[str, str] | None
) -> None:
    found = orphaned([given], known, control_namespace=CONTROL, now=NOW, grace=GRACE)
    assert [(one.project, one.branch) for one in found] == ([expected] if expected else [])


def held(name: str, *holds: Hold) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {hold.key: hold.value() for hold in holds}}}


def test_holds_of_environments_that_are_gone() -> None:
    gone = Hold(Holder("Environment", CONTROL, "a", "uid-a"), NOW)
    there = Hold(Holder("Environment", CONTROL, "b", "uid-b"), NOW)
    pod = Hold(Holder("Deployment", "prod", "web", "uid-c"), NOW)
    declared = Hold(Holder("External", "", "team"), NOW)
    alone = Hold(Holder("Environment", CONTROL, "d", "uid-d"), NOW)
    theirs = Hold(Holder("Environment", "another-envprov", "e", "uid-e"), NOW)
    account = held("deployer", gone, there, pod, declared, theirs)
    account["metadata"]["namespace"] = "shared"
    namespaces = [held("shared", gone, there, pod, declared, alone, theirs), held("other")]
    found = holders_gone(namespaces, [account], {"uid-b"}, control_namespace=CONTROL)
    assert [(one.found.why, one.found.what, one.key) for one in found] == [
        (Why.HOLDER_GONE, "hold on ServiceAccount shared/deployer", gone.key),
        (Why.HOLDER_GONE, "hold on Namespace shared", alone.key),  # a release that was cut off in between
    ]
    assert "envprov-system/a with UID uid-a is not there" in found[0].found.evidence
    assert [str(one.account) for one in found] == ["shared/deployer", "shared/"]


def test_hosts_of_environments_that_are_gone() -> None:
    mine, gone = reservation("a.example.com"), reservation("b.example.com", Tenant(SLUG, "u-old", "shop", "feature/x"))
    ((found, row),) = hosts_left_over([mine, gone], [(SLUG, UID)])
    assert found == gone
    assert (row.what, row.why, row.since) == ("host b.example.com", Why.HOLDER_GONE, NOW)
    assert row.evidence == f"branch feature/x; Environment {SLUG} with UID u-old is not there"
