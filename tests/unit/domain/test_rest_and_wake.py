"""Each kind of workload: the one patch that puts it to sleep, the one that wakes it, and what is left alone."""

from __future__ import annotations

import copy
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.sleep import Sleepers, going_on, put_down, remembers, still_running, wake_up
from tests.unit.builders import NAMESPACE, Manifest

REPLICAS, SUSPENDED = "envprov.io/replicas", "envprov.io/suspended-for-sleep"
CLAIMS, NOWHERE = "envprov.io/claims-when-scaled", "envprov.io/asleep"

SCALED = [
    pytest.param("deployments", "apps/v1", "Deployment", id="Deployment"),
    pytest.param("stateful_sets", "apps/v1", "StatefulSet", id="StatefulSet"),
    pytest.param("replica_sets", "apps/v1", "ReplicaSet", id="ReplicaSet"),
    pytest.param("replication_controllers", "v1", "ReplicationController", id="ReplicationController"),
]
SUSPENDABLE = [
    pytest.param("cron_jobs", "CronJob", id="CronJob"),
    pytest.param("jobs", "Job", id="Job"),
]


def item(
    name: str = "web",
    *,
    owner: str = "",
    notes: dict[str, str] | None = None,
    **rest: Any,  # noqa: ANN401 - spec and status
) -> Manifest:
    """Return an object as a list has it; *owner* is KIND/UID of what controls it."""
    metadata: Manifest = {"name": name, "namespace": NAMESPACE, "uid": f"u-{name}", "resourceVersion": "7"}
    if notes:
        metadata["annotations"] = notes
    if owner:
        kind, _, owner_uid = owner.partition("/")
        metadata["ownerReferences"] = [{"kind": kind, "name": "owner", "uid": owner_uid, "controller": True}]
    return {"metadata": metadata, "spec": rest.pop("spec", {}), **rest}


def patched(given_item: Manifest, patch: Manifest) -> Manifest:
    """Return an object after a JSON merge patch, as the API server applies it (RFC 7396)."""

    def merge(target: Any, change: Any) -> Any:  # noqa: ANN401 - JSON
        if not isinstance(change, dict):
            return change
        merged = dict(target) if isinstance(target, dict) else {}
        for name, value in change.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = merge(merged.get(name), value)
        return merged

    found: Manifest = merge(copy.deepcopy(given_item), patch)
    return found


def slept(kind: str, given_item: Manifest) -> Manifest:
    (action,) = put_down(Sleepers(**{kind: (given_item,)}))
    return patched(given_item, dict(action.patch))


@pytest.mark.parametrize(("field", "api_version", "kind"), SCALED)
def test_one_patch_remembers_and_scales_and_one_takes_both_back(field: str, api_version: str, kind: str) -> None:
    web = item(spec={"replicas": 3})
    (action,) = put_down(Sleepers(**{field: (web,)}))
    assert (action.api_version, action.kind, action.namespace) == (api_version, kind, NAMESPACE)
    assert (action.name, action.uid, action.resource_version) == ("web", "u-web", "7")
    assert str(action) == f"put to sleep {kind} web"
    assert action.patch == {"metadata": {"annotations": {REPLICAS: "3"}}, "spec": {"replicas": 0}}
    sleeping = patched(web, dict(action.patch))
    (back,) = wake_up(Sleepers(**{field: (sleeping,)}))
    assert str(back) == f"wake {kind} web"
    assert back.patch == {"metadata": {"annotations": {REPLICAS: None}}, "spec": {"replicas": 3}}


@pytest.mark.parametrize(("field", "kind"), SUSPENDABLE)
def test_what_starts_pods_is_suspended_and_resumed(field: str, kind: str) -> None:
    nightly = item("nightly", spec={"suspend": False})
    (action,) = put_down(Sleepers(**{field: (nightly,)}))
    assert str(action) == f"put to sleep {kind} nightly"
    assert action.patch == {"metadata": {"annotations": {SUSPENDED: "true"}}, "spec": {"suspend": True}}
    (back,) = wake_up(Sleepers(**{field: (patched(nightly, dict(action.patch)),)}))
    assert back.patch == {"metadata": {"annotations": {SUSPENDED: None}}, "spec": {"suspend": False}}


def test_a_daemon_set_asks_for_nodes_that_there_are_none_of() -> None:
    agent = item("agent", spec={"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}})
    sleeping = slept("daemon_sets", agent)
    assert sleeping["spec"]["template"]["spec"]["nodeSelector"] == {"disk": "ssd", NOWHERE: "true"}
    (back,) = wake_up(Sleepers(daemon_sets=(sleeping,)))
    assert patched(sleeping, dict(back.patch))["spec"] == agent["spec"]


@pytest.mark.parametrize(
    ("field", "given_item"),
    [
        pytest.param("deployments", item(spec={"replicas": 0}), id="at none by its chart"),
        pytest.param("stateful_sets", item(spec={"replicas": 0}), id="StatefulSet at none"),
        pytest.param("cron_jobs", item(spec={"suspend": True}), id="suspended by its chart"),
        pytest.param("jobs", item(spec={"suspend": True}), id="Job suspended by its chart"),
        pytest.param(
            "jobs", item(status={"conditions": [{"type": "Complete", "status": "True"}]}), id="Job that is over"
        ),
        pytest.param(
            "jobs", item(status={"conditions": [{"type": "Failed", "status": "True"}]}), id="Job that has failed"
        ),
        pytest.param("jobs", item(owner="Workflow/u-1"), id="Job of an operator"),
        pytest.param("replica_sets", item(owner="Deployment/u-web", spec={"replicas": 2}), id="set of a Deployment"),
        pytest.param("stateful_sets", item(owner="Postgres/u-db", spec={"replicas": 2}), id="set of an operator"),
        pytest.param("daemon_sets", item(owner="Agent/u-1"), id="DaemonSet of an operator"),
    ],
)
def test_what_is_quiet_or_belongs_to_something_else_is_left_alone(field: str, given_item: Manifest) -> None:
    assert put_down(Sleepers(**{field: (given_item,)})) == ()
    assert wake_up(Sleepers(**{field: (given_item,)})) == ()


def test_what_is_being_deleted_is_left_alone() -> None:
    going = item(spec={"replicas": 2})
    going["metadata"]["deletionTimestamp"] = "now"
    assert put_down(Sleepers(deployments=(going,))) == ()


def test_the_job_of_a_cron_job_is_suspended() -> None:
    (action,) = put_down(Sleepers(jobs=(item("nightly-1", owner="CronJob/u-nightly"),)))
    assert str(action) == "put to sleep Job nightly-1"


def test_without_replicas_there_is_one() -> None:
    assert slept("deployments", item())["metadata"]["annotations"] == {REPLICAS: "1"}


@pytest.mark.parametrize(
    ("remembered", "live", "expected"),
    [
        pytest.param("3", 0, {"replicas": 3}, id="as it was"),
        pytest.param("3", 2, {}, id="somebody has scaled it up meanwhile"),
        pytest.param("many", 0, {"replicas": 1}, id="edited beyond reading"),
        pytest.param("-1", 0, {"replicas": 1}, id="below none"),
        pytest.param("9999999999", 0, {"replicas": 1}, id="beyond all numbers"),
        pytest.param("٣", 0, {"replicas": 1}, id="other digits"),
    ],
)
def test_waking(remembered: str, live: int, expected: Manifest) -> None:
    (action,) = wake_up(Sleepers(deployments=(item(notes={REPLICAS: remembered}, spec={"replicas": live}),)))
    assert action.patch == {"metadata": {"annotations": {REPLICAS: None}}, "spec": expected}


def test_what_somebody_scaled_up_sleeps_again_and_wakes_with_that() -> None:
    by_hand = item(notes={REPLICAS: "3"}, spec={"replicas": 1})
    assert slept("deployments", by_hand) == item(notes={REPLICAS: "1"}, spec={"replicas": 0})


def test_a_job_that_was_resumed_and_is_over_forgets_that_it_slept() -> None:
    over = item(notes={SUSPENDED: "true"}, status={"conditions": [{"type": "Complete", "status": "True"}]})
    (action,) = wake_up(Sleepers(jobs=(over,)))
    assert action.patch["metadata"] == {"annotations": {SUSPENDED: None}}


# --- Claims


def test_claims_that_would_be_deleted_with_the_pods_stay() -> None:
    deletes = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    data = item("db", spec={"replicas": 2, "persistentVolumeClaimRetentionPolicy": deletes})
    sleeping = slept("stateful_sets", data)
    assert sleeping["spec"] == {
        "replicas": 0,
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
    }
    assert sleeping["metadata"]["annotations"] == {REPLICAS: "2", CLAIMS: "Delete"}
    (back,) = wake_up(Sleepers(stateful_sets=(sleeping,)))
    awake = patched(sleeping, dict(back.patch))
    assert awake["spec"] == data["spec"]
    assert awake["metadata"]["annotations"] == {}


@pytest.mark.parametrize("policy", [{}, {"whenScaled": "Retain"}])
def test_claims_that_stay_anyway_need_no_note(policy: dict[str, str]) -> None:
    data = item("db", spec={"replicas": 2, "persistentVolumeClaimRetentionPolicy": policy})
    assert slept("stateful_sets", data)["metadata"]["annotations"] == {REPLICAS: "2"}


# --- Pods


WEB = item("web", spec={"replicas": 0})
WEB_SET = item("web-5f", owner="Deployment/u-web", spec={"replicas": 0})


@pytest.mark.parametrize(
    ("pod", "leaves", "stays"),
    [
        pytest.param(item("web-1", owner="ReplicaSet/u-web-5f"), ("web-1",), "", id="of a Deployment"),
        pytest.param(item("db-0", owner="StatefulSet/u-db"), ("db-0",), "", id="of a StatefulSet"),
        pytest.param(item("job-1", owner="Job/u-job"), ("job-1",), "", id="of a Job"),
        pytest.param(item("debug"), (), "Pod debug", id="of nothing"),
        pytest.param(item("pg-0", owner="StatefulSet/u-pg"), (), "Pod pg-0", id="of an operator"),
        pytest.param(item("x", owner="ReplicaSet/u-unknown"), (), "Pod x", id="of something unseen"),
        pytest.param(item("done", owner="Job/u-job", status={"phase": "Succeeded"}), (), "", id="at its end"),
    ],
)
def test_which_pods_are_waited_for(pod: Manifest, leaves: tuple[str, ...], stays: str) -> None:
    sleepers = Sleepers(
        deployments=(WEB,),
        replica_sets=(WEB_SET,),
        stateful_sets=(item("db", spec={"replicas": 0}), item("pg", owner="Postgres/u-1", spec={"replicas": 1})),
        jobs=(item("job", spec={"suspend": True}),),
        pods=(pod,),
    )
    assert still_running(sleepers) == leaves
    assert going_on(sleepers) == stays


def test_a_bare_pod_that_is_being_deleted_is_waited_for() -> None:
    pod = item("debug")
    pod["metadata"]["deletionTimestamp"] = "now"
    assert still_running(Sleepers(pods=(pod,))) == ("debug",)


def test_of_many_pods_that_go_on_five_are_named() -> None:
    many = tuple(item(f"pod-{number}") for number in range(7))
    assert going_on(Sleepers(pods=many)) == "Pod pod-0, pod-1, pod-2, pod-3, pod-4 and 2 more"


# --- All of them


counts = st.one_of(st.none(), st.integers(0, 999_999_999))
scaled = st.builds(lambda count: item(spec={} if count is None else {"replicas": count}), counts)
stateful = st.builds(
    lambda count, when: item(
        spec={"replicas": count, **({"persistentVolumeClaimRetentionPolicy": {"whenScaled": when}} if when else {})}
    ),
    st.integers(0, 9),
    st.sampled_from(["", "Retain", "Delete"]),
)
suspendable = st.builds(lambda suspend: item(spec={"suspend": suspend}), st.booleans())
everywhere = st.builds(
    lambda nodes: item(spec={"template": {"spec": {"nodeSelector": nodes} if nodes else {}}}),
    st.dictionaries(st.sampled_from(["disk", "zone"]), st.sampled_from(["a", "b"])),
)
worlds = st.builds(
    lambda **kinds: Sleepers(**{name: (one,) for name, one in kinds.items()}),
    deployments=scaled,
    stateful_sets=stateful,
    replica_sets=scaled,
    replication_controllers=scaled,
    daemon_sets=everywhere,
    cron_jobs=suspendable,
    jobs=suspendable,
)
KINDS = {
    "Deployment": "deployments",
    "StatefulSet": "stateful_sets",
    "ReplicaSet": "replica_sets",
    "ReplicationController": "replication_controllers",
    "DaemonSet": "daemon_sets",
    "CronJob": "cron_jobs",
    "Job": "jobs",
}


def carried_out(sleepers: Sleepers, actions: Any) -> Sleepers:  # noqa: ANN401 - some of the actions
    found = {entry.name: getattr(sleepers, entry.name) for entry in fields(sleepers)}
    for action in actions:
        name = KINDS[action.kind]
        found[name] = tuple(patched(one, dict(action.patch)) for one in found[name])
    return Sleepers(**found)


def meaning(sleepers: Sleepers) -> list[Any]:
    """Return what the API server would fill in, too: without replicas there is one."""
    return [
        {"replicas": 1, "suspend": False}
        | one["spec"]
        | {"nodes": one["spec"].get("template", {}).get("spec", {}).get("nodeSelector") or {}}
        | {"template": None, "notes": one["metadata"].get("annotations") or {}}
        for entry in fields(sleepers)
        for one in getattr(sleepers, entry.name)
    ]


@given(worlds, st.lists(st.booleans(), min_size=7, max_size=7))
def test_sleep_and_waking_end_where_they_began_wherever_they_were_cut_off(before: Sleepers, chosen: list[bool]) -> None:
    some = [action for action, is_done in zip(put_down(before), chosen, strict=False) if is_done]
    cut_off = carried_out(before, some)
    asleep = carried_out(cut_off, put_down(cut_off))
    assert put_down(asleep) == ()
    assert asleep == carried_out(before, put_down(before))
    for sleeping in (cut_off, asleep):
        half = carried_out(sleeping, [one for one, is_done in zip(wake_up(sleeping), chosen, strict=False) if is_done])
        awake = carried_out(half, wake_up(half))
        assert wake_up(awake) == ()
        assert meaning(awake) == meaning(before)


@pytest.mark.parametrize(
    ("notes", "expected"),
    [({REPLICAS: "1"}, True), ({SUSPENDED: "true"}, True), ({"team": "shop"}, False), (None, False)],
)
def test_what_remembers(notes: dict[str, str] | None, *, expected: bool) -> None:
    assert remembers(item(notes=notes)) is expected
