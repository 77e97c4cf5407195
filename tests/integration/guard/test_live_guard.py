"""The guard's edge on a real API server that enforces the policies."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from envprov.domain.desired import Identity
from envprov.domain.errors import Conflict, Invalid
from envprov.domain.guard import Policy
from envprov.domain.holds import POLICY, RELEASED, Account
from envprov.domain.observed import AccountSeen
from envprov.domain.policies import REAPPLIED, policies
from envprov.guarding import LiveGuard
from envprov.kube.arming import Arming
from envprov.kube.client import Connection, KubeClient
from envprov.kube.collections import Listing
from envprov.kube.holds import Holds
from envprov.kube.resources import NAMESPACES, SERVICE_ACCOUNTS, Resource
from envprov.kube.usage import UsageReader
from envprov.releases.stored import decode
from tests.cluster import Cluster
from tests.integration.guard.worlds import MANAGER, SINCE, held_by, make_account, manifest, put, read, tell, uid_of


def guard(cluster: Cluster, client: KubeClient, control_namespace: str) -> LiveGuard:
    arming = Arming(
        client,
        Connection(cluster.kubeconfig),
        control_namespace=control_namespace,
        policies=policies("envprov"),
        reapplied=frozenset(REAPPLIED),
        interval=timedelta(hours=1),
    )
    return LiveGuard(client, Holds(client), UsageReader(client, decode), arming)


def environment(control_namespace: str, name: str = "shop-one") -> Identity:
    return Identity(name, control_namespace, "shop", name, f"uid-{name}")


# --- What a Project says of a shared account


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        pytest.param("delete-with-last-user", "keep", "keep", id="goes -> stays from now on"),
        pytest.param("keep", "delete-with-last-user", "keep", id="stays -> who gives that up says so by adopt"),
    ],
)
def test_a_policy_that_changes_reaches_an_account_that_is_held_already(
    guarded: Cluster, control_namespace: str, first: Policy, then: Policy, expected: Policy
) -> None:
    identity = environment(control_namespace)

    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "deployer")
        ours = guard(guarded, client, control_namespace)
        assert await ours.look(identity, [account]) == {account: AccountSeen(await uid_of(client, account))}
        for wanted, live in ((first, first), (then, expected)):
            await ours.hold(identity, account, wanted, "named by the Project", SINCE)
            (found,) = (await ours.look(identity, [account])).values()
            assert found == AccountSeen(await uid_of(client, account), is_held=True, policy=live)
        assert (await read(client, account))[0]["metadata"]["annotations"][POLICY] == expected

    tell(guarded, story)


# --- What a teardown is told


def home_of(identity: Identity) -> dict[str, object]:
    return manifest("Namespace", identity.namespace)


class Bare(KubeClient):
    """A client that sees no ServiceAccount, as between the deletion of ``default`` and the one that replaces it."""

    async def list(self, resource: Resource, *args: Any, **kwargs: Any) -> Listing:  # noqa: ANN401 - handed on
        found = await super().list(resource, *args, **kwargs)
        return Listing((), found.resource_version) if resource is SERVICE_ACCOUNTS else found


def test_a_namespace_without_any_account_is_kept_by_the_holds_on_it(guarded: Cluster, control_namespace: str) -> None:
    identity = environment(control_namespace, f"bare-{control_namespace[-8:]}")

    async def story(client: KubeClient) -> None:
        await client.create(home_of(identity), manager=MANAGER)
        ours, place = guard(guarded, client, control_namespace), Account(identity.namespace, "")
        assert (await ours.ask(identity)).verdict.plan == "Full"
        hold = held_by("somebody-else")
        uid = await put(client, NAMESPACES, place, {"annotations": {hold.key: hold.value()}})
        said = (await ours.ask(identity)).verdict
        assert (said.plan, said.kept) == ("Husk", ())
        assert "somebody-else" in said.why[0]
        await put(client, NAMESPACES, place, {"annotations": {hold.key: None}})
        await client.delete(NAMESPACES, identity.namespace, uid=uid)

    tell(guarded, story, kind=Bare)


def test_who_is_too_late_for_a_namespace_is_seen_when_it_is_gone(guarded: Cluster, control_namespace: str) -> None:
    identity = environment(control_namespace, f"late-{control_namespace[-8:]}")
    rbac = "rbac.authorization.k8s.io"
    binding = manifest("RoleBinding", "late", control_namespace) | {
        "apiVersion": f"{rbac}/v1",
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": identity.namespace}],
    }

    async def story(client: KubeClient) -> None:
        ours = guard(guarded, client, control_namespace)
        assert await ours.look_back(identity) == ()
        await client.create(binding, manager=MANAGER)
        (said,) = await ours.look_back(identity)
        assert said.startswith(f"ServiceAccount {identity.namespace}/bot by RoleBinding {control_namespace}/late (")

    tell(guarded, story)


def test_a_release_taken_back_is_for_one_uid_only(guarded: Cluster, control_namespace: str) -> None:
    async def story(client: KubeClient) -> None:
        account = await make_account(client, control_namespace, "any")
        _, home = await read(client, account)
        uid, holds = home["metadata"]["uid"], Holds(client)
        await holds.mark_released(NAMESPACES, control_namespace, None, uid)
        with pytest.raises((Invalid, Conflict)):
            await holds.withhold(control_namespace, "another")
        assert (await read(client, account))[1]["metadata"]["annotations"][RELEASED] == uid
        await holds.withhold(control_namespace, uid)
        assert RELEASED not in (await read(client, account))[1]["metadata"].get("annotations", {})

    tell(guarded, story)
