"""The record on a real API server: preconditions, field managers, tombstones and successors."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from envprov.domain.deliveries import Recorded
from envprov.domain.environment import (
    Condition,
    Environment,
    EnvironmentStatus,
    parse_environment,
)
from envprov.domain.errors import Conflict, NameTaken
from envprov.domain.names import slug
from envprov.kube.client import KubeClient
from envprov.kube.environments import Environments
from tests.integration.records import (
    FINALIZER,
    connected,
    install_definition,
    let_go,
    managers,
    project,
    push,
    recording,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.cluster import Cluster

A, B, C, S, T = (letter * 40 for letter in "abcde")
NAME = slug("shop", "feature/x")
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def _definition(cluster: Cluster) -> None:
    install_definition(cluster)


@pytest.fixture
def namespace(cluster: Cluster, control_namespace: str) -> Iterator[str]:
    yield control_namespace
    let_go(cluster, control_namespace)


class Interrupted(KubeClient):
    """A client that lets somebody else in, once, just before one verb."""

    def __init__(self, client: KubeClient, verb: str, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(client._transport, client.namespace)  # noqa: SLF001 - the same connection
        setattr(self, verb, self._after(getattr(client, verb), meanwhile))

    @staticmethod
    def _after(call: Callable[..., Any], meanwhile: Callable[[], Awaitable[None]]) -> Callable[..., Any]:
        waiting = [meanwhile]

        async def interrupted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if waiting:
                await waiting.pop()()
            return await call(*args, **kwargs)

        return interrupted


async def outcome(environments: Environments, before: str, after: str) -> str:
    recorded: Recorded = await environments.record(project(), push(before, after))
    assert recorded.environment == NAME
    return recorded.outcome


async def read(environments: Environments, name: str = NAME) -> dict[str, Any]:
    live = await environments.get(name)
    assert live is not None
    return live


async def seen(environments: Environments) -> Environment:
    return parse_environment(await read(environments))


def marks(live: dict[str, Any]) -> dict[str, str]:
    return {key.removeprefix("envprov.io/"): value for key, value in live["metadata"]["annotations"].items()}


def test_a_branch_is_created_pushed_to_and_deleted(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            assert await outcome(environments, "", "a") == "create"
            live = await read(environments)
            assert live["spec"] == {"project": "shop", "branch": "feature/x", "revision": A} | defaults(live)
            assert live["metadata"]["finalizers"] == [FINALIZER]
            assert live["metadata"]["labels"] == {
                "app.kubernetes.io/managed-by": "envprov",
                "envprov.io/project": "shop",
            }
            assert marks(live) == {"branch": "feature/x", "superseded": f"0>{A}"}

            assert await outcome(environments, "a", "b") == "advance"
            assert await outcome(environments, "a", "b") == "duplicate"
            assert await outcome(environments, "", "a") == "late"
            live = await read(environments)
            assert live["spec"]["revision"] == B
            assert marks(live)["superseded"] == f"0>{A}>{B}"

            assert await outcome(environments, "b", "") == "delete"
            assert await outcome(environments, "b", "") == "gone"
            assert (await read(environments))["metadata"]["deletionTimestamp"]

    asyncio.run(story())


def defaults(live: dict[str, Any]) -> dict[str, Any]:
    """Fields that the schema fills in."""
    return {name: live["spec"][name] for name in ("values", "pinned", "asleep") if name in live["spec"]}


def test_no_manager_removes_the_fields_of_another(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            until = {"kind": "until", "at": "2026-12-24T18:00:00+09:00"}
            await environments.up("shop", "feature/x", revision=A, options={"size": "M", "values": {"a": {"b": 1}}})
            await environments.record(project(), push("a", "b"))
            await environments.up("shop", "feature/x", options={"lifetime": until, "pinned": True})
            await environments.record(project(), push("b", "c"))
            await environments.hold(await seen(environments))

            live = await read(environments)
            spec = live["spec"]
            assert (spec["revision"], spec["size"], spec["pinned"], spec["values"]) == (C, "M", True, {"a": {"b": 1}})
            assert spec["lifetime"] == until
            assert live["metadata"]["finalizers"] == [FINALIZER]
            owned = managers(live)
            assert owned["envprov-record", "Apply"] == {
                "f:project",
                "f:branch",
                "f:revision",
                "f:envprov.io/branch",
                "f:envprov.io/superseded",
            }
            assert {"f:size", "f:lifetime", "f:pinned", "f:values"} <= owned["envprov-options", "Apply"]
            assert not owned["envprov-record", "Apply"] & owned["envprov-options", "Apply"]

    asyncio.run(story())


def test_a_choice_is_taken_back_and_a_doubt_is_cleared(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            await environments.up("shop", "feature/x", revision=A, options={"size": "M", "asleep": True})
            live = await environments.up("shop", "feature/x", options={"size": None})
            assert "size" not in live["spec"]
            assert live["spec"]["asleep"] is False, "who asks for it wants it awake"

            assert await outcome(environments, "c", "") == "doubt"
            live = await read(environments)
            assert marks(live)["doubted-delete"] == C
            assert "deletionTimestamp" not in live["metadata"]
            await environments.up("shop", "feature/x", revision=A)
            assert "doubted-delete" not in marks(await read(environments))

    asyncio.run(story())


def test_a_doubted_deletion_is_carried_out_when_the_missing_push_arrives(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            for before, after in (("", "a"), ("c", "")):
                await environments.record(project(), push(before, after))
            assert await outcome(environments, "a", "c") == "delete"
            live = await read(environments)
            assert live["metadata"]["deletionTimestamp"]
            assert marks(live)["superseded"] == f"0>{A}>{C}>0"

    asyncio.run(story())


def test_a_name_of_another_branch_is_refused_with_both_branches(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            manifest = {
                "apiVersion": "envprov.io/v1alpha1",
                "kind": "Environment",
                "metadata": {"name": NAME, "namespace": namespace},
                "spec": {"project": "shop", "branch": "some/other"},
            }
            async with connected(cluster) as client:
                await client.create(manifest, manager="somebody")
            with pytest.raises(NameTaken, match=r"'some/other'.*'feature/x'"):
                await environments.record(project(), push("", "a"))
            with pytest.raises(NameTaken):
                await environments.down("shop", "feature/x")

    asyncio.run(story())


def test_a_record_made_by_hand_is_followed(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            manifest = {
                "apiVersion": "envprov.io/v1alpha1",
                "kind": "Environment",
                "metadata": {"name": NAME, "namespace": namespace},
                "spec": {"project": "shop", "branch": "feature/x"},
            }
            async with connected(cluster) as client:
                await client.create(manifest, manager="kubectl")
            assert await outcome(environments, "a", "b") == "advance"
            await environments.hold(await seen(environments))
            assert (await read(environments))["metadata"]["finalizers"] == [FINALIZER]
            assert await outcome(environments, "b", "") == "delete"
            await environments.retire(await seen(environments), NOW)
            assert await environments.get(NAME) is None

    asyncio.run(story())


def test_a_late_creation_does_not_bring_back_what_is_gone(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            for before, after in (("", "a"), ("a", "b"), ("b", "")):
                await environments.record(project(), push(before, after))
            assert await outcome(environments, "", "a") == "late"
            await environments.retire(await seen(environments), NOW)
            assert await environments.get(NAME) is None

            assert await outcome(environments, "", "a") == "late"
            assert await outcome(environments, "a", "b") == "late"
            assert await outcome(environments, "b", "") == "gone"
            assert await environments.get(NAME) is None

            assert await outcome(environments, "", "c") == "create"
            live = await read(environments)
            assert marks(live)["superseded"] == f"0>{A}>{B}>0,0>{C}"
            assert await outcome(environments, "a", "b") == "late"

    asyncio.run(story())


def test_a_creation_after_its_own_deletion_makes_nothing(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            assert await outcome(environments, "a", "") == "remember"
            assert await outcome(environments, "", "a") == "remember"
            assert await environments.get(NAME) is None
            (tombstone,) = await environments.tombstones()
            assert (tombstone.environment, tombstone.branch) == (NAME, "feature/x")

    asyncio.run(story())


def test_a_record_that_nobody_held_yet_leaves_a_tombstone(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            await environments.record(project(), push("", "a"))
            await environments.record(project(), push("a", ""))
            assert (await read(environments))["metadata"]["finalizers"] == [FINALIZER]

    asyncio.run(story())


def test_a_branch_that_comes_back_during_the_teardown_is_revived(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            await environments.record(project(), push("", "a"))
            await environments.record(project(), push("a", ""))
            assert await outcome(environments, "", "d") == "succeed"
            assert marks(await read(environments))["successor"] == S
            assert await outcome(environments, "d", "e") == "succeed"
            assert await outcome(environments, "d", "e") == "duplicate"
            await environments.retire(await seen(environments), NOW)
            assert await environments.get(NAME) is None
            (tombstone,) = await environments.tombstones()
            assert tombstone.successor == T
            assert not tombstone.is_over(NOW + timedelta(days=1), is_swept=False)

            await environments.revive(NAME)
            live = await read(environments)
            assert live["spec"]["revision"] == T
            assert "successor" not in marks(live)
            (tombstone,) = await environments.tombstones()
            assert tombstone.successor is None
            await environments.revive(NAME)
            assert (await read(environments))["metadata"]["uid"] == live["metadata"]["uid"]

    asyncio.run(story())


def test_what_is_owed_is_made_by_the_next_delivery_too(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            for before, after in (("", "a"), ("a", ""), ("", "d")):
                await environments.record(project(), push(before, after))
            await environments.retire(await seen(environments), NOW)
            assert await outcome(environments, "d", "") == "delete"
            assert (await read(environments))["metadata"]["deletionTimestamp"]
            await environments.retire(await seen(environments), NOW)
            (tombstone,) = await environments.tombstones()
            assert tombstone.successor is None

    asyncio.run(story())


def test_a_successor_that_is_deleted_is_owed_no_more(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            for before, after in (("", "a"), ("a", ""), ("", "d")):
                await environments.record(project(), push(before, after))
            assert await outcome(environments, "d", "") == "succeed"
            assert "successor" not in marks(await read(environments))
            assert await environments.down("shop", "feature/x") is False

    asyncio.run(story())


def test_retiring_with_an_old_view_of_the_successor_is_a_conflict(cluster: Cluster, namespace: str) -> None:
    """The successor may arrive after the tombstone is written and before the finalizer goes."""

    async def story() -> None:
        async with connected(cluster) as client:
            environments = Environments(client, namespace)
            await environments.record(project(), push("", "a"))
            await environments.record(project(), push("a", ""))

            async def another_delivery() -> None:
                await environments.record(project(), push("", "d"))

            slow = Environments(Interrupted(client, "merge_patch", another_delivery), namespace)
            with pytest.raises(Conflict):
                await slow.retire(await seen(environments), NOW)
            await environments.retire(await seen(environments), NOW)
            (tombstone,) = await environments.tombstones()
            assert tombstone.successor == S

    asyncio.run(story())


def test_tombstones_are_forgotten_when_they_are_over(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            await environments.record(project(), push("", "a"))
            await environments.down("shop", "feature/x")
            await environments.retire(await seen(environments), NOW)
            (tombstone,) = await environments.tombstones()
            assert not tombstone.is_over(NOW + timedelta(minutes=9, seconds=59), is_swept=False)
            assert tombstone.is_over(NOW + timedelta(minutes=10), is_swept=False)
            assert (tombstone.dismissed, tombstone.revision) == ("down", A)
            assert not tombstone.is_over(NOW + timedelta(days=1), is_swept=True)
            await environments.absolve(tombstone)
            (tombstone,) = await environments.tombstones()
            assert tombstone.is_over(NOW + timedelta(minutes=10), is_swept=True)
            await environments.forget(tombstone)
            assert await environments.tombstones() == ()
            await environments.forget(tombstone)

    asyncio.run(story())


def test_up_and_down_of_a_person(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            assert await environments.down("shop", "feature/x") is False
            live = await environments.up("shop", "feature/x")
            assert live["spec"]["revision"] == ""
            await environments.up("shop", "feature/x", revision=B)
            assert (await environments.up("shop", "feature/x"))["spec"]["revision"] == B
            assert [item["metadata"]["name"] for item in await environments.list("shop")] == [NAME]
            assert await environments.list("other") == ()

            assert await environments.down("shop", "feature/x") is True
            assert await environments.down("shop", "feature/x") is False
            live = await environments.up("shop", "feature/x")
            assert marks(live)["successor"] == ""
            with pytest.raises(Conflict, match="torn down"):
                await environments.up("shop", "feature/x", options={"size": "M"})
            await environments.retire(await seen(environments), NOW)
            await environments.revive(NAME)
            live = await read(environments)
            assert live["spec"]["revision"] == ""
            assert "deletionTimestamp" not in live["metadata"]

    asyncio.run(story())


def test_a_branch_that_no_rule_wants_is_not_created_but_deleted(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            unwanting = project(branches="main")
            assert (await environments.record(unwanting, push("", "a"))).outcome == "gone"
            assert (await environments.record(unwanting, push("a", ""))).outcome == "gone"
            assert await environments.tombstones() == ()
            await environments.record(project(), push("", "a"))
            assert (await environments.record(unwanting, push("a", ""))).outcome == "delete"

    asyncio.run(story())


def test_status_is_written_once_and_only_if_it_changed(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            await environments.record(project(), push("", "a"))
            before = await seen(environments)
            condition = Condition(type="Ready", status="False", reason="Queued", last_transition_time=NOW)
            status = EnvironmentStatus(observed_generation=1, conditions=(condition,))
            await environments.report(before, status)
            after = await seen(environments)
            assert after.status == status
            await environments.report(after, status)
            assert (await seen(environments)).resource_version == after.resource_version
            await environments.down("shop", "feature/x")
            await environments.retire(await seen(environments), NOW)
            with pytest.raises(Conflict):
                await environments.report(before, status)

    asyncio.run(story())


def test_expiring_takes_exactly_what_was_read(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as environments:
            await environments.record(project(), push("", "a"))
            old = await seen(environments)
            await environments.record(project(), push("a", "b"))
            with pytest.raises(Conflict):
                await environments.expire(old)
            await environments.expire(await seen(environments))
            assert (await seen(environments)).deleting

    asyncio.run(story())


def test_two_recorders_racing_end_in_the_newest(cluster: Cluster, namespace: str) -> None:
    """Two processes, 200 pushes to one branch, each delivered to both, all at once."""

    async def story() -> None:
        shas = ["", *(f"{number:040x}" for number in range(1, 201))]
        async with recording(cluster, namespace) as one, recording(cluster, namespace) as two:
            events = [replace(push("", "a"), before=before, after=after) for before, after in pairwise(shas)]
            await asyncio.gather(*(side.record(project(), event) for event in events for side in (one, two)))
            assert (await read(one))["spec"]["revision"] == shas[-1]

    asyncio.run(story())


def test_a_push_that_overtakes_another_is_not_overwritten(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            environments = Environments(client, namespace)
            await environments.record(project(), push("", "a"))

            async def newer() -> None:
                assert await outcome(environments, "b", "c") == "advance"

            slow = Environments(Interrupted(client, "apply", newer), namespace)
            assert await outcome(slow, "a", "b") == "remember"
            live = await read(environments)
            assert live["spec"]["revision"] == C
            assert marks(live)["superseded"] == f"0>{A}>{B}>{C}"

    asyncio.run(story())


def test_a_deletion_that_is_overtaken_by_a_push_is_not_carried_out(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            environments = Environments(client, namespace)
            await environments.record(project(), push("", "a"))

            async def newer() -> None:
                await environments.record(project(), push("a", "b"))

            slow = Environments(Interrupted(client, "delete", newer), namespace)
            assert await outcome(slow, "a", "") == "late"
            assert "deletionTimestamp" not in (await read(environments))["metadata"]

    asyncio.run(story())


def test_what_was_made_while_its_deletion_was_recorded_is_taken_back(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            environments = Environments(client, namespace)

            async def deletion() -> None:
                assert await outcome(environments, "a", "") == "remember"

            slow = Environments(Interrupted(client, "create", deletion), namespace)
            assert await outcome(slow, "", "a") == "remember"
            assert (await read(environments))["metadata"]["deletionTimestamp"]

    asyncio.run(story())


def test_a_deletion_is_carried_out_on_what_was_made_meanwhile(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with connected(cluster) as client:
            environments = Environments(client, namespace)

            async def creation() -> None:
                assert await outcome(environments, "", "a") == "create"

            slow = Environments(Interrupted(client, "create", creation), namespace)
            assert await outcome(slow, "a", "") == "delete"
            assert (await read(environments))["metadata"]["deletionTimestamp"]

    asyncio.run(story())


def test_creation_and_deletion_at_the_same_moment_leave_nothing(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with recording(cluster, namespace) as one, recording(cluster, namespace) as two:
            for number in range(30):
                branch = f"race-{number}"
                await asyncio.gather(
                    one.record(project(), push("", "a", branch)), two.record(project(), push("a", "", branch))
                )
            alive = [item for item in await one.list() if "deletionTimestamp" not in item["metadata"]]
            assert alive == []

    asyncio.run(story())
