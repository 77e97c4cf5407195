"""Promise 4: two branches never share a name, whatever they are called."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.conftest import Shop

Commits = Callable[[int], str]

BRANCHES = (
    "feature/x",
    "feature-x",
    "Feature/X",
    "feature_x",
    "日本語/イベント",
    "日本語/イベント2",
    "🎉",
    "🎊",
    "x",
    "1",
    "a" * 255,
    "a" * 254 + "b",
    "日" * 85,
)


def test_branches_that_read_alike_have_environments_of_their_own(shop: Shop, commits: Commits) -> None:
    for number, branch in enumerate(BRANCHES):
        assert shop.create(branch, commits(number)) == 202, branch
    ready = {branch: shop.ready(branch, commits(number), within=120) for number, branch in enumerate(BRANCHES)}
    namespaces = {item["status"]["namespace"] for item in ready.values()}
    assert len(namespaces) == len(BRANCHES)
    assert all(len(namespace) <= 63 for namespace in namespaces)
    for branch, item in ready.items():
        found = shop.installation.cluster.kubectl(
            "get", "ns", item["status"]["namespace"], "-o", "jsonpath={.metadata.annotations.envprov\\.io/branch}"
        )
        assert found == branch


def test_deleting_one_leaves_its_neighbours(shop: Shop, commits: Commits) -> None:
    alike = ("event/summer", "event-summer", "Event/Summer")
    before = {branch: shop.up(branch, commits(1)) for branch in alike}
    assert shop.delete("event/summer", commits(1)) == 202
    shop.gone("event/summer")
    for branch in alike[1:]:
        item = shop.ready(branch, commits(1))
        assert item["metadata"]["uid"] == before[branch]["metadata"]["uid"]


def test_environment_under_another_name_is_refused(shop: Shop) -> None:
    shop.installation.apply(
        {
            "apiVersion": "envprov.io/v1alpha1",
            "kind": "Environment",
            "metadata": {"name": f"mine-{shop.name}", "namespace": shop.installation.namespace},
            "spec": {"project": shop.name, "branch": "feature/mine"},
        }
    )
    shop.installation.cluster.kubectl(
        "wait", "env", f"mine-{shop.name}", "-n", shop.installation.namespace, "--timeout=60s",
        "--for=jsonpath={.status.conditions[?(@.type=='Accepted')].reason}=NameTaken",
    )  # fmt: skip
    assert f"env-mine-{shop.name}" not in shop.installation.cluster.kubectl("get", "ns", "-o", "name")
