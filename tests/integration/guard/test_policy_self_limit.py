"""
A controller of envprov is limited to its own environments and to holds, whatever RBAC lets it do.

It is ``cluster-admin`` here, so that nothing but the policy stands in its way. Nearly all is tried as a dry run, which
goes through admission like everything else.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from envprov.domain import objects
from envprov.domain.desired import Identity
from envprov.domain.holds import FENCED, FORCED, GUARD, POLICY, PREFIX, RELEASED, SHARED, USED
from envprov.domain.objects import OWNER
from envprov.domain.policies import CANARY, RECORD, SELF_LIMIT
from envprov.kube.client import KubeClient
from envprov.kube.resources import NAMESPACES
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.guard.people import HELD, REFUSED, Person, account, granted, read, space, uid_of
from tests.integration.guard.worlds import tell

Manifest = dict[str, Any]
DRY = "--dry-run=server"
REFUSAL = REFUSED[SELF_LIMIT]
DONE = re.compile(r"(created|deleted|patched).*\n$")
FRESH = 100
"""Namespaces in which the first object is made at once."""


@dataclass(frozen=True)
class World:
    """
    An installation, and others beside it.

    Attributes:
        admin: In ``system:masters``.
        controller: ServiceAccount ``envprov`` in the control namespace.
        other: Another ServiceAccount there, with the same rights.
        control: The control namespace.
        own: Namespace of an environment.
        theirs: Namespace of an environment of another installation.
        team: Namespace of somebody else, which is held.
        plain: Another one, which is not.

    """

    admin: Person
    controller: Person
    other: Person
    control: str
    own: str
    theirs: str
    team: str
    plain: str

    def name(self, text: str) -> str:
        """Put names in: ``OWN``, ``THEIRS``, ``TEAM``, ``PLAIN`` and ``CONTROL`` stand for namespaces."""
        for word in ("OWN", "THEIRS", "TEAM", "PLAIN", "CONTROL"):
            text = text.replace(word, getattr(self, word.lower()))
        return text


@pytest.fixture(scope="module")
def world(guarded: Cluster) -> Iterator[World]:
    """Yield a world with the policies in force."""
    salt = secrets.token_hex(3)
    control, team, plain = f"envprov-l-{salt}", f"team-{salt}", f"plain-{salt}"
    own, theirs = f"env-own-{salt}", f"env-theirs-{salt}"
    admin = Person(guarded)
    spaces = [
        space(control),
        space(plain),
        space(team, labels={"team": "blue"}, annotations={**HELD, RELEASED: "x", "note": "old"}),
        space(own, labels={GUARD: "env"}, annotations={OWNER: f"{control}/own"}),
        space(theirs, labels={GUARD: "env"}, annotations={OWNER: f"{control}-2/theirs", FENCED: "nobody"}),
    ]
    accounts = [account("ci", where, annotations=HELD, labels={"team": "blue"}) for where in (control, team, own)]
    roles = [
        manifest
        for name in ("envprov", "other")
        for manifest in granted(
            f"{name}-{salt}",
            [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}],
            {"kind": "ServiceAccount", "name": name, "namespace": control},
        )
    ]
    for manifest in [*spaces, *accounts, *roles]:
        guarded.kubectl("create", "-f", "-", input=json.dumps(manifest))
    admin.note(f"ns/{theirs}", "", {RELEASED: uid_of(guarded, f"ns/{theirs}")})  # the delete guard would let it go
    guarded.kubectl("create", "configmap", "settings", "-n", control)
    guarded.kubectl("create", "configmap", "tombstone", "-n", control)
    guarded.kubectl("label", "configmap", "tombstone", f"{RECORD}=tombstone", "-n", control)
    controller, other = (Person(guarded, f"system:serviceaccount:{control}:{name}") for name in ("envprov", "other"))
    for person in (controller, other):
        eventually(partial(_may_do_everything, person), message="no rights")
    found = World(admin, controller, other, control, own, theirs, team, plain)
    eventually(lambda: REFUSAL in found.controller("create", "ns", "x", DRY), message="the policy has no effect")
    yield found
    for name in (own, theirs, team, plain, control):
        guarded.discard(name)
    for role in roles:
        admin.delete(f"{role['kind']}/{role['metadata']['name']}")


def _may_do_everything(person: Person) -> bool:
    return "created" in person("create", "quota", "x", "-n", "default", DRY)


def tried(world: World, person: Person, what: tuple[str, object]) -> str:
    """Try one thing: words for kubectl, and what is sent along or patched in."""
    words, body = what
    said = world.name(words).split()
    given = json.loads(world.name(json.dumps(body)))
    if said[0] == "patch":
        return person(*said, "--type=merge", "-p", json.dumps(given), DRY)
    if said[0] == "create" and given is not None:
        return person("create", "-f", "-", DRY, given=given)
    return person(*said, *([] if said[:2] == ["create", "token"] else [DRY]))


def annotated(**notes: str | None) -> Manifest:
    return {"metadata": {"annotations": notes}}


BINDING = "create rolebinding x --clusterrole=envprov-env-controller --serviceaccount=CONTROL:envprov"
GUARDED = {"labels": {GUARD: "env"}, "annotations": {OWNER: "CONTROL/new"}}


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(("create", space("team-new")), id="makes any Namespace"),
        pytest.param(("create", space("team-new", **GUARDED)), id="makes one with another prefix"),
        pytest.param(("create", space("env-new", annotations=GUARDED["annotations"])), id="makes one without guard"),
        pytest.param(("create", space("env-new", labels=GUARDED["labels"])), id="makes one without owner"),
        pytest.param(
            ("create", space("env-new", labels=GUARDED["labels"], annotations={OWNER: "CONTROL-2/new"})),
            id="makes one for another installation",
        ),
        pytest.param(("delete ns PLAIN", None), id="deletes any Namespace"),
        pytest.param(("delete ns THEIRS", None), id="deletes an environment of another installation"),
        pytest.param(("patch ns OWN", {"metadata": {"labels": {GUARD: None}}}), id="takes off the guard"),
        pytest.param(("patch ns OWN", annotated(**{OWNER: None})), id="gives up an environment"),
        pytest.param(("patch ns OWN", annotated(**{OWNER: "CONTROL-2/own"})), id="gives an environment away"),
        pytest.param(("patch ns OWN --subresource=status", {"status": {"phase": "Active"}}), id="writes a status"),
        pytest.param(("patch ns THEIRS", annotated(**{OWNER: "CONTROL/own"})), id="takes an environment over"),
        pytest.param(("patch ns THEIRS", annotated(**{FENCED: None})), id="takes a fence down"),
        pytest.param(("patch ns TEAM", {"metadata": {"labels": {"team": "red"}}}), id="labels a Namespace"),
        pytest.param(("patch ns TEAM", {"metadata": {"labels": {GUARD: "env"}}}), id="guards a Namespace"),
        pytest.param(("patch ns TEAM", annotated(note="new")), id="annotates a Namespace"),
        pytest.param(("patch ns TEAM", annotated(note=None)), id="takes an annotation off a Namespace"),
        pytest.param(("patch ns TEAM", annotated(**{RELEASED: "y"})), id="releases a Namespace"),
        pytest.param(("patch ns TEAM", annotated(**{FORCED: "y"})), id="forces a Namespace"),
        pytest.param(("patch ns TEAM", {"metadata": {"finalizers": ["x.org/x"]}}), id="puts a finalizer on one"),
        pytest.param((f"{BINDING} -n kube-system", None), id="lets itself in elsewhere"),
        pytest.param((f"{BINDING} -n CONTROL", None), id="lets itself in at home"),
        pytest.param((f"{BINDING} -n THEIRS", None), id="lets itself in with another installation"),
        pytest.param(("create role x --verb=get --resource=secrets -n TEAM", None), id="makes a role elsewhere"),
        pytest.param(("create token ci -n TEAM", None), id="makes a token elsewhere"),
        pytest.param(("create token ci -n CONTROL", None), id="makes a token at home"),
        pytest.param(("create", account("new", "TEAM")), id="makes an account elsewhere"),
        pytest.param(("create", account(CANARY, "TEAM")), id="makes a canary elsewhere"),
        pytest.param(("delete sa default -n TEAM", None), id="deletes an account elsewhere"),
        pytest.param(("patch sa ci -n TEAM", {"metadata": {"labels": {"team": "red"}}}), id="labels an account"),
        pytest.param(("patch sa ci -n TEAM", annotated(note="new")), id="annotates an account"),
        pytest.param(("patch sa ci -n TEAM", {"metadata": {"finalizers": ["x.org/x"]}}), id="puts a finalizer on it"),
        pytest.param(("patch sa ci -n TEAM", {"imagePullSecrets": [{"name": "x"}]}), id="gives it a pull secret"),
        pytest.param(("patch sa ci -n TEAM", {"secrets": [{"name": "x"}]}), id="gives it a secret"),
        pytest.param(("patch sa ci -n TEAM", {"automountServiceAccountToken": False}), id="takes its token away"),
        pytest.param(
            (
                "patch sa ci -n TEAM",
                {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}]}},
            ),
            id="gives it an owner",
        ),
        pytest.param(("patch cm settings -n CONTROL", {"data": {"x": "y"}}), id="changes its settings"),
        pytest.param(
            ("patch cm settings -n CONTROL", {"metadata": {"labels": {RECORD: "x"}}}), id="makes them a record"
        ),
    ],
)
def test_a_controller_that_may_do_everything_is_refused_when_it(world: World, what: tuple[str, object]) -> None:
    said = tried(world, world.controller, what)
    assert " is forbidden: " in said
    assert f"{REFUSAL}ServiceAccounts named envprov are taken for controllers of envprov, which " in said
    allowed = tried(world, world.other, what)
    assert "forbidden" not in allowed


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(("create", space("env-new", **GUARDED)), id="makes an environment"),
        pytest.param(("patch ns OWN", annotated(**{FENCED: "ci", RELEASED: "x", "note": "x"})), id="marks one"),
        pytest.param(
            ("patch ns OWN", {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}),
            id="labels one",
        ),
        pytest.param((f"{BINDING} -n OWN", None), id="lets itself in"),
        pytest.param(("create role x --verb=get --resource=pods -n OWN", None), id="makes a role inside"),
        pytest.param(("create token ci -n OWN", None), id="makes a token inside"),
        pytest.param(("create", account("new", "OWN", labels={"x": "y"})), id="makes an account inside"),
        pytest.param(("patch sa default -n OWN", {"imagePullSecrets": [{"name": "x"}]}), id="changes one inside"),
        pytest.param(("delete sa default -n OWN", None), id="deletes one inside"),
        pytest.param(("patch ns TEAM", annotated(**{f"{PREFIX}2": "{}"})), id="holds a Namespace"),
        pytest.param(("patch ns TEAM", annotated(**{**dict.fromkeys(HELD), RELEASED: None})), id="releases its hold"),
        pytest.param(
            ("patch ns TEAM", annotated(**{f"{PREFIX}{number:016}": "{}" for number in range(500)})),
            id="puts 500 holds on at once",
        ),
        pytest.param(("patch ns THEIRS", annotated(**{f"{PREFIX}2": "{}"})), id="holds another installation's"),
        pytest.param(("patch sa ci -n TEAM", annotated(**{f"{PREFIX}2": "{}"})), id="holds an account"),
        pytest.param(
            (
                "patch sa ci -n TEAM",
                {
                    "metadata": {
                        "labels": {GUARD: SHARED},
                        "annotations": {POLICY: "keep", USED: "true", RELEASED: None, **dict.fromkeys(HELD)},
                        "ownerReferences": None,
                    }
                },
            ),
            id="adopts an account",
        ),
        pytest.param(("create", account(CANARY, "CONTROL", annotations=HELD)), id="makes its canary"),
        pytest.param(("patch cm tombstone -n CONTROL", {"data": {"x": "y"}}), id="changes a record"),
    ],
)
def test_a_controller_is_not_refused_when_it(world: World, what: tuple[str, object]) -> None:
    said = tried(world, world.controller, what)
    assert "orbidden" not in said
    assert said.count(".") == 2 if what[0].startswith("create token") else DONE.search(said)


@pytest.mark.parametrize(
    ("marks", "is_refused"),
    [
        pytest.param({}, False, id="shared, released, to go with its last user -> goes"),
        pytest.param({"annotations": {POLICY: "keep"}}, True, id="to be kept -> stays"),
        pytest.param({"annotations": {POLICY: None}}, True, id="without policy -> stays"),
        pytest.param({"labels": {GUARD: None}}, True, id="never adopted -> stays"),
    ],
)
def test_an_account_elsewhere_is_deleted_by_the_controller_only_with_its_last_user(
    world: World, marks: Manifest, *, is_refused: bool
) -> None:
    name = f"last-{secrets.token_hex(3)}"
    given = account(name, world.team, labels={GUARD: SHARED}, annotations={POLICY: "delete-with-last-user"})
    world.admin.create(given)
    uid = uid_of(world.admin.cluster, f"sa/{name}", world.team)
    world.admin.note(f"sa/{name}", world.team, {RELEASED: uid})
    world.admin.patch(f"sa/{name}", world.team, {"metadata": marks})
    said = world.controller.delete(f"sa/{name}", world.team)
    assert (REFUSAL in said) == is_refused
    assert ("deleted" in said) != is_refused


def test_an_account_elsewhere_loses_owners_one_by_one_and_gets_none(world: World) -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name} for name in ("one", "two")]
    world.admin.create(account("owned", world.team, annotations=HELD, ownerReferences=owners))
    third = [*owners, {"apiVersion": "v1", "kind": "Pod", "name": "three", "uid": "three"}]
    for some, is_refused in ((third, True), (owners[:1], False), (owners, True), ([], False)):
        said = world.controller.patch("sa/owned", world.team, {"metadata": {"ownerReferences": some}})
        assert (REFUSAL in said) == is_refused
        assert (" patched" in said) != is_refused


def test_the_canary_is_made_and_deleted_at_home(world: World) -> None:
    assert "created" in world.controller.create(account(CANARY, world.control, annotations=HELD))
    assert "is held by" in world.controller.delete(f"sa/{CANARY}", world.control)
    world.controller.note(f"sa/{CANARY}", world.control, dict.fromkeys(HELD))
    assert "deleted" in world.controller.delete(f"sa/{CANARY}", world.control)


def test_a_guard_that_others_took_off_is_put_back(world: World) -> None:
    name = f"env-bare-{secrets.token_hex(3)}"
    world.admin.create(space(name, annotations={OWNER: f"{world.control}/bare"}))
    assert " patched" in world.controller.note(f"ns/{name}", "", {FENCED: "x"})
    assert " patched" in world.controller.patch(f"ns/{name}", "", {"metadata": {"labels": {GUARD: "env"}}})
    assert REFUSAL in world.controller.patch(f"ns/{name}", "", {"metadata": {"labels": {GUARD: None}}})
    world.admin.cluster.discard(name)


def test_a_namespace_is_never_finalized_by_force(world: World) -> None:
    emptied = read(world.admin.cluster, f"ns/{world.own}")
    emptied["spec"]["finalizers"] = []
    path = f"/api/v1/namespaces/{world.own}/finalize"
    assert REFUSAL in world.controller("replace", "--raw", path, "-f", "-", given=emptied)


def test_the_first_object_in_a_fresh_namespace_is_never_refused(world: World) -> None:
    made: list[str] = []

    async def story(client: KubeClient) -> None:
        controller = client.acting_as(world.controller.user)
        for number in range(FRESH):
            identity = Identity(f"fresh-{number}-{secrets.token_hex(3)}", world.control, "shop", "a")
            marks = {"labels": {GUARD: "env"}, "annotations": {OWNER: identity.owner}}
            made.append(identity.namespace)
            await controller.apply(space(identity.namespace, **marks), manager="test")
            await controller.apply(objects.own_access(identity, "envprov"), manager="test")
        for name in made:
            home = await client.get(NAMESPACES, name)
            assert home is not None
            uid = home["metadata"]["uid"]
            await controller.merge_patch(NAMESPACES, name, None, annotated(**{RELEASED: uid}), manager="test")
            await controller.delete(NAMESPACES, name, uid=uid)

    tell(world.admin.cluster, story)
    assert len(made) == FRESH


def test_the_policy_follows_the_installation_wherever_it_is(world: World) -> None:
    twin = Person(world.admin.cluster, f"system:serviceaccount:{world.control}-2:envprov")
    subject = {"kind": "ServiceAccount", "name": "envprov", "namespace": f"{world.control}-2"}
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    roles = granted(f"envprov-twin-{world.control}", everything, subject)
    for role in roles:
        world.admin.create(role)
    try:
        eventually(partial(_may_do_everything, twin), message="no rights")
        assert DONE.search(tried(world, twin, ("patch ns THEIRS", annotated(note="new"))))
        assert REFUSAL in tried(world, twin, ("patch ns OWN", annotated(note="new")))
    finally:
        for role in roles:
            world.admin.delete(f"{role['kind']}/{role['metadata']['name']}")
