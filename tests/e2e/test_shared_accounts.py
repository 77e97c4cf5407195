"""Promise 3: nothing is deleted while somebody still uses it; and whoever asks is told who."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import condition

Commits = Callable[[int], str]
BRANCHES = [f"event/{number:04}" for number in range(1, 6)]


@pytest.fixture
def shared(cluster: Cluster) -> Iterator[str]:
    """Yield a namespace with a ServiceAccount deployer that several environments use."""
    name = f"shared-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("create", "serviceaccount", "deployer", "-n", name)
    yield name
    if cluster.kubectl("get", "ns", name, "--ignore-not-found"):
        cluster.discard(name)


def rights(subject_namespace: str, name: str) -> list[dict[str, Any]]:
    """A Role and a RoleBinding of a chart that let a ServiceAccount of another namespace read ConfigMaps."""
    api = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    subject = {"kind": "ServiceAccount", "name": name, "namespace": subject_namespace}
    return [
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]


def account(cluster: Cluster, namespace: str, name: str) -> dict[str, Any] | None:
    """A ServiceAccount, if it is there."""
    found = cluster.kubectl("get", "sa", name, "-n", namespace, "-o", "json", "--ignore-not-found")
    return json.loads(found) if found else None


def holders(cluster: Cluster, namespace: str, name: str) -> set[str]:
    """Who holds a ServiceAccount, as its annotations say."""
    live = account(cluster, namespace, name) or {"metadata": {}}
    notes = live["metadata"].get("annotations", {})
    return {json.loads(value)["by"] for key, value in notes.items() if key.startswith("hold.envprov.io/")}


def keep(shop: Shop, branches: list[str]) -> set[str]:
    """The holders that branches are."""
    names = [record["metadata"]["name"] for branch in branches if (record := shop.record(branch)) is not None]
    return {f"{shop.installation.namespace}/{name}" for name in names}


def test_five_environments_share_accounts_until_the_last_is_gone(
    make_shop: Callable[..., Shop], shared: str, commits: Commits
) -> None:
    # One order, in which some go at once: all orders, without Helm, are in tests/integration/guard/test_every_order.py.
    policies = {"deployer": "keep", "preview": "delete-with-last-user"}
    shop = make_shop(
        sharedServiceAccounts=[
            {"namespace": shared, "name": name, "policy": policy} for name, policy in policies.items()
        ],
        values={"extra": [*rights(shared, "deployer"), *rights(shared, "preview")]},
    )
    cluster = shop.installation.cluster
    cluster.kubectl("create", "serviceaccount", "preview", "-n", shared)
    # Before it deletes one, the controller must be able to see who has a token of it.
    user = f"system:serviceaccount:{shop.installation.namespace}:envprov"
    cluster.kubectl("create", "role", "guard", "-n", shared, "--verb=list", "--resource=secrets")
    cluster.kubectl("create", "rolebinding", "guard", "-n", shared, "--role=guard", f"--user={user}")
    for number, branch in enumerate(BRANCHES):
        assert shop.create(branch, commits(number)) == 202
    for number, branch in enumerate(BRANCHES):
        shop.ready(branch, commits(number))
    uids = {name: (account(cluster, shared, name) or {})["metadata"]["uid"] for name in policies}

    def assert_held_by(left: list[str]) -> None:
        for name, uid in uids.items():
            live = account(cluster, shared, name)
            assert live is not None
            assert (live["metadata"]["uid"], "deletionTimestamp" in live["metadata"]) == (uid, False)
            assert holders(cluster, shared, name) == keep(shop, left)
            refused = cluster.kubectl("delete", "sa", name, "-n", shared, check=False)
            assert "envprov-delete-guard" in refused
            assert "Environment" in refused

    left = list(BRANCHES)
    for going in ([2], [0, 4, 1], [3]):
        assert_held_by(left)
        for number in going:
            assert shop.delete(BRANCHES[number], commits(number)) == 202
        for number in going:
            shop.gone(BRANCHES[number])
            left.remove(BRANCHES[number])
    live = account(cluster, shared, "deployer")
    assert live is not None
    assert live["metadata"]["uid"] == uids["deployer"]
    assert holders(cluster, shared, "deployer") == set()
    eventually(lambda: account(cluster, shared, "preview") is None, message="it outlived its last user")


def test_a_project_that_wants_an_account_kept_is_heard_although_it_is_held_long_since(
    make_shop: Callable[..., Shop], shared: str, commits: Commits
) -> None:
    entry = {"namespace": shared, "name": "deployer", "policy": "delete-with-last-user"}
    shop = make_shop(sharedServiceAccounts=[entry])
    shop.up("feature/x", commits(1))

    def policy() -> str:
        live = account(shop.installation.cluster, shared, "deployer") or {}
        return str(live["metadata"]["annotations"]["envprov.io/guard-policy"])

    assert policy() == "delete-with-last-user"
    shop.installation.project(shop.name, sharedServiceAccounts=[entry | {"policy": "keep"}])
    eventually(lambda: policy() == "keep", message="the account would still go with its last user")


def test_nobody_deletes_a_held_account_with_envprov_stopped(
    make_shop: Callable[..., Shop], shared: str, commits: Commits
) -> None:
    shop = make_shop(
        sharedServiceAccounts=[{"namespace": shared, "name": "deployer"}], values={"extra": rights(shared, "deployer")}
    )
    cluster = shop.installation.cluster
    record = shop.up("feature/x", commits(1))
    stopped = [process for process in shop.installation.processes if process.popen.poll() is None]
    for process in stopped:
        process.popen.send_signal(19)  # SIGSTOP: it is there, and does nothing
    try:
        attempts = {
            "one": ("delete", "sa", "deployer", "-n", shared),
            "all": ("delete", "sa", "--all", "-n", shared),
            "namespace": ("delete", "ns", shared),
            "environment": ("delete", "ns", record["status"]["namespace"]),
        }
        for name, attempt in attempts.items():
            said = cluster.kubectl(*attempt, check=False)
            assert "envprov-delete-guard" in said, (name, said)
            assert "envprov guard explain" in said or "envprov down" in said, (name, said)
        live = account(cluster, shared, "deployer")
        assert live is not None
        assert "deletionTimestamp" not in live["metadata"]
        phase = cluster.kubectl("get", "ns", shared, "-o", "jsonpath={.status.phase}")
        assert phase == "Active"
    finally:
        for process in stopped:
            process.popen.send_signal(18)  # SIGCONT
    assert shop.delete("feature/x", commits(1)) == 202
    shop.gone("feature/x")


def test_chart_that_would_own_a_shared_account_is_refused_before_helm_runs(
    make_shop: Callable[..., Shop], shared: str, commits: Commits
) -> None:
    mine = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "deployer", "namespace": shared}}
    shop = make_shop(sharedServiceAccounts=[{"namespace": shared, "name": "deployer"}], values={"extra": [mine]})
    cluster = shop.installation.cluster
    assert shop.create("feature/greedy", commits(1)) == 202

    def refused() -> dict[str, Any] | None:
        said = condition(shop.record("feature/greedy") or {}, "Accepted")
        return said if said["reason"] == "AccountTaken" else None

    said = eventually(refused, message="the chart was not refused")
    assert said["status"] == "False"
    assert f"{shared}/deployer" in said["message"]
    assert "serviceAccount.create=false" in said["message"]
    assert "serviceAccount.name=deployer" in said["message"]
    namespace = f"env-{(shop.record('feature/greedy') or {})['metadata']['name']}"
    assert "sh.helm.release" not in cluster.kubectl("get", "secret", "-n", namespace, "-o", "name")
    assert holders(cluster, shared, "deployer") == set()


def test_chart_that_refers_to_an_account_elsewhere_holds_it(
    make_shop: Callable[..., Shop], shared: str, commits: Commits
) -> None:
    shop = make_shop(values={"extra": rights(shared, "deployer")})
    cluster = shop.installation.cluster
    record = shop.up("feature/borrower", commits(1))
    assert holders(cluster, shared, "deployer") == {f"{shop.installation.namespace}/{record['metadata']['name']}"}
    assert record["status"]["holds"] == [
        {
            "namespace": shared,
            "name": "deployer",
            "uid": (account(cluster, shared, "deployer") or {})["metadata"]["uid"],
        }
    ]
    assert shop.delete("feature/borrower", commits(1)) == 202
    shop.gone("feature/borrower")
    assert holders(cluster, shared, "deployer") == set()
    cluster.kubectl("delete", "sa", "deployer", "-n", shared)


def test_missing_shared_account_is_named_and_waited_for(
    make_shop: Callable[..., Shop], shared: str, commits: Commits
) -> None:
    shop = make_shop(sharedServiceAccounts=[{"namespace": shared, "name": "late"}])
    assert shop.create("feature/early", commits(1)) == 202

    def waits() -> bool:
        return f"{shared}/late" in condition(shop.record("feature/early") or {}, "Ready")["message"]

    eventually(waits, message="nobody said what is missing")
    shop.installation.cluster.kubectl("create", "serviceaccount", "late", "-n", shared)
    shop.ready("feature/early", commits(1))


def test_environment_whose_account_others_use_becomes_a_husk(
    make_shop: Callable[..., Shop], shared: str, commits: Commits
) -> None:
    own = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot"}}
    shop = make_shop(values={"extra": [own]})
    cluster = shop.installation.cluster
    namespace = shop.up("feature/lender", commits(1))["status"]["namespace"]
    cluster.kubectl("create", "role", "read", "-n", shared, "--verb=get", "--resource=configmaps")
    cluster.kubectl("create", "rolebinding", "ci", "-n", shared, "--role=read", f"--serviceaccount={namespace}:bot")
    token = cluster.kubectl("create", "token", "bot", "-n", namespace).strip()
    uid = (account(cluster, namespace, "bot") or {})["metadata"]["uid"]
    assert shop.delete("feature/lender", commits(1)) == 202

    def husk() -> dict[str, Any] | None:
        record = shop.record("feature/lender")
        said = condition(record or {}, "TeardownBlocked")
        return record if said["reason"] == "HeldByOthers" else None

    record = eventually(husk, message="it did not become a husk")
    said = condition(record, "TeardownBlocked")["message"]
    assert "RoleBinding" in said
    assert shared in said
    assert record["status"]["teardown"]["plan"] == "Husk"

    def hollow() -> bool:
        kinds = "deploy,rs,pods,svc,cm"
        left = cluster.kubectl("get", kinds, "-n", namespace, "-o", "name").split()
        labels = json.loads(cluster.kubectl("get", "ns", namespace, "-o", "json"))["metadata"]["labels"]
        return left == ["configmap/kube-root-ca.crt"] and labels.get("envprov.io/state") == "husk"

    eventually(hollow, message="the husk is not empty")
    assert (account(cluster, namespace, "bot") or {})["metadata"]["uid"] == uid
    assert cluster.kubectl("get", "ns", namespace, "-o", "jsonpath={.status.phase}") == "Active"
    assert "yes" in _as_bearer(cluster, token, "auth", "can-i", "get", "configmaps", "-n", shared)
    assert cluster.kubectl("create", "token", "bot", "-n", namespace).count(".") == 2
    pod = cluster.kubectl("run", "late", "--image=registry.example.com/x:1", "-n", namespace, check=False)
    assert "orbidden" in pod
    denied = cluster.kubectl("delete", "sa", "bot", "-n", namespace, check=False)
    assert "envprov-delete-guard" in denied

    cluster.kubectl("delete", "rolebinding", "ci", "-n", shared)
    shop.gone("feature/lender", within=120)
    assert "NotFound" in cluster.kubectl("get", "ns", namespace, check=False)


def _as_bearer(cluster: Cluster, token: str, *args: str) -> str:
    command = [str(cluster.binaries / "kubectl"), "--kubeconfig", str(cluster.kubeconfig), "--token", token, *args]
    # The administrator's client certificate would win over a token.
    server = cluster.kubectl("config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}")
    command[1:3] = ["--server", server, "--insecure-skip-tls-verify", "--kubeconfig", "/dev/null"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
