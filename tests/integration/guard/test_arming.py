"""Whether the guard is armed, on a cluster of its own whose policies are taken away, weakened and put back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from envprov.domain.errors import ConfigError, Disarmed, Forbidden
from envprov.domain.holds import Account, read_holds
from envprov.domain.policies import CANARY, DELETE_GUARD, REAPPLIED, SELF_LIMIT, policies
from envprov.kube.arming import KEY, Arming, State
from envprov.kube.client import Connection, KubeClient
from envprov.kube.resources import (
    NAMESPACES,
    SERVICE_ACCOUNTS,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
)
from tests.cluster import Cluster
from tests.eventually import eventually_async
from tests.faults import FaultProxy, Order, Seen
from tests.integration.guard.worlds import MANAGER, manifest, put

CONTROL = "envprov-system"
CANARY_ACCOUNT = Account(CONTROL, CANARY)
LONG = timedelta(hours=1)
"""Between two probes: whatever happens sooner is not the interval's doing."""
FORBIDDEN = {"kind": "Status", "apiVersion": "v1", "code": 403, "reason": "Forbidden"}


class Noting(FaultProxy):
    """A proxy that remembers over which connection each deletion came."""

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 - handed on as they are
        super().__init__(*args)
        self.connections: list[object] = []

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "DELETE":
            assert request.transport is not None
            self.connections.append(request.transport.get_extra_info("peername"))
        return await super()._handle(request)


class Version(Order):
    """An order about the version of the server."""

    def matches(self, seen: Seen) -> bool:
        return seen.path == "/version" and super().matches(seen)


class World:
    """
    An Arming behind a proxy, and an administrator.

    Attributes:
        history: The states that it was told of, each with why.

    """

    def __init__(self, client: KubeClient, ours: KubeClient, proxy: Noting) -> None:
        self.client = client
        self.proxy = proxy
        self.history: list[tuple[State, str]] = []
        self._ours = ours

    def arming(self, **changes: Any) -> Arming:  # noqa: ANN401 - any argument
        given: dict[str, Any] = {
            "control_namespace": CONTROL,
            "policies": policies("envprov"),
            "reapplied": frozenset(REAPPLIED),
            "interval": LONG,
            "on_change": lambda state, why: self.history.append((state, why)),
        }
        return Arming(self._ours, self.proxy.connection, **(given | changes))

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[Arming]:  # noqa: ANN401 - any argument
        """An Arming at work, armed."""
        arming = self.arming(**changes)
        task = asyncio.create_task(arming.run())
        try:
            await self.reaches(State.ARMED)
            yield arming
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def reaches(self, *states: State, within: float = 20.0) -> None:
        """Wait until the history has had these states, each once or more, one after the other."""

        async def fact() -> bool:
            told = [state for state, _ in self.history]
            runs = [state for index, state in enumerate(told) if index == 0 or told[index - 1] is not state]
            return any(tuple(runs[index : index + len(states)]) == states for index in range(len(runs)))

        await eventually_async(fact, within=within, every=0.02, message=f"not {states}: {self.history}")

    async def remove_binding(self, name: str = DELETE_GUARD) -> None:
        live = await self.client.get(VALIDATING_ADMISSION_POLICY_BINDINGS, name)
        assert live is not None
        await self.client.delete(VALIDATING_ADMISSION_POLICY_BINDINGS, name, uid=live["metadata"]["uid"])

    async def spec(self, name: str = DELETE_GUARD) -> dict[str, Any]:
        live = await self.client.get(VALIDATING_ADMISSION_POLICIES, name)
        assert live is not None
        spec: dict[str, Any] = live["spec"]
        return spec


Story = Callable[[World], Awaitable[None]]


async def restore(client: KubeClient, connection: Connection) -> None:
    """Put back what the test before has taken away, and be sure that the server has noticed both."""
    everything = policies("envprov")
    names = frozenset(one["metadata"]["name"] for one in everything)
    arming = Arming(client, connection, control_namespace=CONTROL, policies=everything, reapplied=names)

    async def is_armed() -> bool:
        with suppress(Disarmed):
            await arming.require()
            return True
        return False

    await eventually_async(is_armed, every=0.2)


def tell(cluster: Cluster, story: Story) -> None:
    """Run a story in a cluster whose policies and control namespace are there."""

    async def run() -> None:
        async with (
            Noting(cluster.kubeconfig) as proxy,
            KubeClient.connect(proxy.connection) as ours,
            KubeClient.connect(Connection(cluster.kubeconfig)) as client,
        ):
            await client.apply(manifest("Namespace", CONTROL), manager=MANAGER)
            await restore(client, Connection(cluster.kubeconfig))
            await story(World(client, ours, proxy))

    asyncio.run(run())


# --- Armed


def test_it_arms_by_a_canary_that_holds_its_namespace_too(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        async with world.running():
            for resource, name, namespace in ((SERVICE_ACCOUNTS, CANARY, CONTROL), (NAMESPACES, CONTROL, None)):
                live = await world.client.get(resource, name, namespace)
                assert live is not None
                assert [hold.key for hold in read_holds(live)] == [KEY]
                with pytest.raises(Forbidden, match=f"{DELETE_GUARD}.*is held by Canary envprov"):
                    await world.client.delete(resource, name, namespace, uid=live["metadata"]["uid"])

    tell(lonely, story)


def test_a_cluster_without_policies_gets_them_and_is_armed_when_they_work(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        for one in policies("envprov"):
            lonely.kubectl("delete", one["kind"], one["metadata"]["name"])
        async with world.running() as arming:
            assert await arming.check() is None
            assert [state for state, _ in world.history] == [State.DISARMED, State.ARMED]
            for kind in (VALIDATING_ADMISSION_POLICIES, VALIDATING_ADMISSION_POLICY_BINDINGS):
                names = {item["metadata"]["name"] for item in (await world.client.list(kind)).items}
                assert names == set(REAPPLIED)
            missing = {
                f"{kind} {SELF_LIMIT} is missing; envprov does not put this one back"
                for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
            }
            assert set(arming.drift) == missing

    tell(lonely, story)


def test_each_round_probes_every_api_server_three_times_over_fresh_connections(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        arming = world.arming()
        for rounds in (1, 2):
            assert await arming.check() is None
            assert len(world.proxy.connections) == len(set(world.proxy.connections)) == 3 * rounds
        for name in ("second", "third"):
            lease = manifest("Lease", name, "kube-system", spec={}) | {"apiVersion": "coordination.k8s.io/v1"}
            lease["metadata"]["labels"] = {"apiserver.kubernetes.io/identity": "kube-apiserver"}
            await world.client.apply(lease, manager=MANAGER)
        world.proxy.connections.clear()
        try:
            assert await arming.check() is None
        finally:
            lonely.kubectl("delete", "lease", "-n", "kube-system", "second", "third")
        assert len(world.proxy.connections) == len(set(world.proxy.connections)) == 9

    tell(lonely, story)


def test_a_canary_that_lost_its_hold_or_its_life_is_mended(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        arming = world.arming()
        assert await arming.check() is None
        await put(world.client, SERVICE_ACCOUNTS, CANARY_ACCOUNT, {"annotations": {KEY: None}})
        await put(world.client, NAMESPACES, CANARY_ACCOUNT, {"annotations": {KEY: None}})
        assert await arming.check() is None
        uid = await put(world.client, SERVICE_ACCOUNTS, CANARY_ACCOUNT, {"annotations": {KEY: None}})
        await world.client.delete(SERVICE_ACCOUNTS, CANARY, CONTROL, uid=uid)
        assert await arming.check() is None
        live = await world.client.get(SERVICE_ACCOUNTS, CANARY, CONTROL)
        assert live is not None
        assert live["metadata"]["uid"] != uid

    tell(lonely, story)


# --- Disarmed


def test_a_binding_deleted_disarms_and_comes_back_and_arms_again(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        async with world.running() as arming:
            await world.remove_binding()
            with pytest.raises(Disarmed, match="put back"):
                await arming.require()
            await world.reaches(State.ARMED, State.DISARMED, State.ARMED)
            # A probe that was on its way may have noticed first, and in other words.
            why = f"ValidatingAdmissionPolicyBinding {DELETE_GUARD} was missing and was just put back"
            assert (State.DISARMED, why) in world.history
            await arming.require()
            assert await world.client.get(VALIDATING_ADMISSION_POLICY_BINDINGS, DELETE_GUARD) is not None

    tell(lonely, story)


@pytest.mark.parametrize(
    "weakening",
    [
        pytest.param(
            {"matchConditions": [{"name": "only-the-canary", "expression": f"oldObject.metadata.name == '{CANARY}'"}]},
            id="another condition",
        ),
        pytest.param({"failurePolicy": "Ignore"}, id="failures ignored"),
        pytest.param({"validations": [{"expression": "true"}]}, id="other validations"),
    ],
)
def test_a_policy_made_weaker_is_overwritten_whole_though_the_canary_is_still_kept(
    lonely: Cluster, weakening: dict[str, Any]
) -> None:
    async def story(world: World) -> None:
        async with world.running():
            before = await world.spec()
            changed = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy"}
            if "matchConditions" in weakening:
                # By server-side apply, so that it is another manager's and ours does not take it away.
                body = changed | {"metadata": {"name": DELETE_GUARD}, "spec": weakening}
                await world.client.apply(body, manager="somebody")
            else:
                await world.client.merge_patch(
                    VALIDATING_ADMISSION_POLICIES, DELETE_GUARD, None, {"spec": weakening}, manager="somebody"
                )
            await world.reaches(State.ARMED, State.DISARMED)
            await world.reaches(State.ARMED, State.DISARMED, State.ARMED)
            assert await world.spec() == before

    tell(lonely, story)


def test_the_limit_of_envprov_itself_is_only_reported(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        async with world.running() as arming:
            await world.remove_binding(SELF_LIMIT)

            async def is_reported() -> bool:
                return bool(arming.drift)

            await eventually_async(is_reported)
            assert f"{SELF_LIMIT} is missing" in arming.drift[0]
            assert arming.state is State.ARMED
            assert await world.client.get(VALIDATING_ADMISSION_POLICY_BINDINGS, SELF_LIMIT) is None

    tell(lonely, story)


def test_a_policy_that_works_no_more_is_noticed_by_the_probe_alone(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        arming = world.arming(policies=(), reapplied=frozenset())
        await arming.require()
        await world.remove_binding()

        async def is_noticed() -> bool:
            return "would let go of ServiceAccount envprov-system/guard-canary" in (await arming.check() or "")

        await eventually_async(is_noticed)
        with pytest.raises(Disarmed, match=r"would let go.*envprov manifests"):
            await arming.require()
        assert arming.state is State.DISARMED
        assert await world.client.get(SERVICE_ACCOUNTS, CANARY, CONTROL) is not None

    tell(lonely, story)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(Order(200, b'{"kind": "Status"}', method="DELETE"), "would let go", id="it would be deleted"),
        pytest.param(Order(500, b"", method="DELETE"), "could not be tried", id="no answer"),
        pytest.param(
            Order(403, json.dumps(FORBIDDEN | {"message": "cannot delete"}).encode(), method="DELETE"),
            "something else than",
            id="another refusal",
        ),
        pytest.param(
            Order(
                403,
                json.dumps(FORBIDDEN | {"message": f"ValidatingAdmissionPolicy '{DELETE_GUARD}-2' with"}).encode(),
                method="DELETE",
            ),
            "something else than",
            id="a policy of a similar name",
        ),
        pytest.param(
            Order(
                404,
                json.dumps(FORBIDDEN | {"code": 404, "reason": "NotFound", "details": {"name": CANARY}}).encode(),
                method="DELETE",
            ),
            "was deleted although",
            id="it is gone",
        ),
    ],
)
def test_one_answer_of_three_that_is_no_refusal_disarms(lonely: Cluster, answer: Order, said: str) -> None:
    async def story(world: World) -> None:
        arming = world.arming()
        assert await arming.check() is None
        world.proxy.order(answer)
        with pytest.raises(Disarmed, match=said):
            await arming.require()
        await arming.require()
        assert [state for state, _ in world.history] == [State.DISARMED, State.ARMED]

    tell(lonely, story)


def test_a_canary_on_its_way_out_does_not_arm(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        arming = world.arming()
        assert await arming.check() is None
        changes = {"annotations": {KEY: None}, "finalizers": ["example.com/slow"]}
        uid = await put(world.client, SERVICE_ACCOUNTS, CANARY_ACCOUNT, changes)
        await world.client.delete(SERVICE_ACCOUNTS, CANARY, CONTROL, uid=uid)
        try:
            told = await arming.check()
            assert told == f"ServiceAccount {CANARY_ACCOUNT} or its Namespace is being deleted"
        finally:
            await put(world.client, SERVICE_ACCOUNTS, CANARY_ACCOUNT, {"finalizers": None})
        assert await arming.check() is None

    tell(lonely, story)


def test_a_server_out_of_reach_disarms_until_it_is_back(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        async with world.running(interval=timedelta(seconds=0.2)):
            outage = Order(503, times=10**6)
            world.proxy.order(outage)
            await world.reaches(State.ARMED, State.DISARMED)
            outage.times = 0
            await world.reaches(State.ARMED, State.DISARMED, State.ARMED)

    tell(lonely, story)


def test_who_asks_gets_a_round_that_began_after_the_question(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        arming = world.arming()
        assert await arming.check() is None
        world.proxy.connections.clear()
        world.proxy.delay = 0.2
        first = asyncio.create_task(arming.check())

        async def has_begun() -> bool:
            return bool(world.proxy.connections)

        await eventually_async(has_begun, every=0.01)
        late = [asyncio.create_task(arming.check()) for _ in range(5)]
        assert await asyncio.gather(first, *late) == [None] * 6
        assert len(world.proxy.connections) == 6

    tell(lonely, story)


# --- Too old


def old(times: int = 1) -> Order:
    return Version(200, b'{"major": "1", "minor": "29+"}', {"Content-Type": "application/json"}, times=times)


def test_a_server_without_admission_policies_is_refused(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        world.proxy.order(old())
        with pytest.raises(ConfigError, match=r"Kubernetes 1\.29 .*needs 1\.30.*guard\.mode to observe"):
            await world.arming().start()
        assert not world.proxy.connections

    tell(lonely, story)


def test_a_server_without_admission_policies_is_observed_if_so_wished_and_says_so(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        world.proxy.order(old())
        arming = world.arming(mode="observe")
        await arming.run()
        ((state, why),) = world.history
        assert state is arming.state is State.OBSERVING
        assert "Kubernetes 1.29 has no admission policies" in why
        await arming.require()
        assert not world.proxy.connections

    tell(lonely, story)


def test_observing_writes_no_policies_and_says_what_is_wrong(lonely: Cluster) -> None:
    async def story(world: World) -> None:
        await world.remove_binding()
        arming = world.arming(mode="observe")
        await arming.start()
        assert arming.state is State.OBSERVING
        assert f"ValidatingAdmissionPolicyBinding {DELETE_GUARD} is missing" in arming.drift
        assert await world.client.get(VALIDATING_ADMISSION_POLICY_BINDINGS, DELETE_GUARD) is None
        await arming.require()

    tell(lonely, story)
