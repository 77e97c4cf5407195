"""A fenced ServiceAccount gets no new pods and no new tokens; what runs with it runs on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from envprov.domain.holds import FENCED
from envprov.domain.policies import FENCE
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.guard.people import REFUSED, People, Person, account, people, read, space

Manifest = dict[str, Any]
REFUSAL = REFUSED[FENCE]


@pytest.fixture(scope="module")
def who(guarded: Cluster) -> Iterator[People]:
    """Yield the people of this file, with the policies in force."""
    with people(guarded) as found:
        yield found


@pytest.fixture
def fenced(who: People, control_namespace: str) -> str:
    """Return a namespace with ServiceAccounts one, two and free, of which two are fenced, and one pod from before."""
    for name in ("one", "two", "free"):
        who.admin.create(account(name, control_namespace))
    eventually(lambda: runs(who.developer, control_namespace, "default", "probe"), message="no account makes a pod")
    assert runs(who.developer, control_namespace, "one", "before")
    fence(who, control_namespace, "one,two")
    return control_namespace


def fence(who: People, namespace: str, names: str | None) -> None:
    """Put up a fence, and wait until the API server's cache has it."""
    who.keeper.note(f"ns/{namespace}", "", {FENCED: names})
    first = (names or "one").split(",")[0]
    eventually(
        lambda: (REFUSAL in who.developer("create", "token", first, "-n", namespace)) == bool(names),
        message="the fence has no effect",
    )


def pod(namespace: str, name: str, of: str | None) -> Manifest:
    spec: Manifest = {"containers": [{"name": "main", "image": "registry.example.com/main:1"}]}
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name}}
    given = {"serviceAccountName": of} if of else {}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec | given}


def runs(person: Person, namespace: str, of: str | None, name: str) -> bool:
    return f"pod/{name} created" in person.create(pod(namespace, name, of))


@pytest.mark.parametrize("person", ["developer", "admin"])
@pytest.mark.parametrize("name", ["one", "two"])
def test_no_pod_and_no_token_is_made_for_a_fenced_account(who: People, fenced: str, person: str, name: str) -> None:
    whoever: Person = getattr(who, person)
    for said in (whoever("create", "token", name, "-n", fenced), whoever.create(pod(fenced, "new", name))):
        assert " is forbidden: " in said
        assert said.endswith(
            f"{REFUSAL}ServiceAccount {fenced}/{name} is being retired and gets no new pods and no new tokens; "
            f"to see why, run: envprov guard explain {fenced}/{name}\n"
        )


def test_others_beside_it_and_its_namesakes_elsewhere_are_not_fenced(who: People, fenced: str) -> None:
    assert runs(who.developer, fenced, "free", "new")
    assert who.developer("create", "token", "free", "-n", fenced).count(".") == 2
    assert runs(who.developer, fenced, None, "nameless")
    elsewhere = f"{fenced}-2"
    for manifest in (space(elsewhere), account("one", elsewhere)):
        who.admin.create(manifest)
    assert who.developer("create", "token", "one", "-n", elsewhere).count(".") == 2
    who.admin.delete(f"ns/{elsewhere}")


def test_a_pod_that_names_no_account_is_one_of_default(who: People, fenced: str) -> None:
    fence(who, fenced, "default")
    said = who.developer.create(pod(fenced, "nameless", None))
    assert f"{REFUSAL}ServiceAccount {fenced}/default is being retired" in said


def test_a_deployment_says_why_it_has_no_pods_and_gets_them_when_the_fence_is_gone(who: People, fenced: str) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod(fenced, "web", "one")["spec"]}
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template}
    metadata = {"name": "web", "namespace": fenced}
    who.developer.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})

    def refused() -> str | None:
        conditions = read(who.admin.cluster, "deploy/web", fenced)["status"].get("conditions", [])
        return next((str(one["message"]) for one in conditions if one["type"] == "ReplicaFailure"), None)

    message = eventually(refused, message="the Deployment has no ReplicaFailure")
    assert f"{REFUSAL}ServiceAccount {fenced}/one is being retired" in message
    fence(who, fenced, None)
    eventually(
        lambda: read(who.admin.cluster, "deploy/web", fenced)["status"].get("availableReplicas") == 1,
        within=60,
        message="the Deployment does not recover",
    )


def test_what_runs_goes_on_running(who: People, fenced: str) -> None:
    found = eventually(
        lambda: (
            live
            if (live := read(who.admin.cluster, "pod/before", fenced))["status"].get("phase") == "Running"
            else None
        ),
        message="the pod from before does not run",
    )
    assert found["spec"]["serviceAccountName"] == "one"
    assert "patched" in who.developer.patch("pod/before", fenced, {"metadata": {"labels": {"seen": "yes"}}})
