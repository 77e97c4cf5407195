"""Guard metadata is written by those who may manage holds; nobody else is in anybody's way, and nobody in theirs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from envprov.domain.environment import BRANCH
from envprov.domain.holds import FENCED, FORCED, GUARD, POLICY, PREFIX, RELEASED, SHARED
from envprov.domain.policies import HOLD_INTEGRITY
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.integration.guard.people import HELD, REFUSED, People, Person, account, people, read, space, uid_of, where

Manifest = dict[str, Any]
KEY = f"{PREFIX}1"
REFUSAL = REFUSED[HOLD_INTEGRITY]
KINDS = pytest.mark.parametrize("kind", ["ServiceAccount", "Namespace"])


@pytest.fixture(scope="module")
def who(guarded: Cluster) -> Iterator[People]:
    """Yield the people of this file, with the policies in force."""
    with people(guarded) as found:
        created = account("planted", "default", annotations=HELD)
        eventually(
            lambda: REFUSAL in found.developer.create(created, "--dry-run=server"), message="the policy has no effect"
        )
        yield found


class Marked:
    """
    A ServiceAccount or Namespace with guard metadata, and with what is no business of the guard.

    Attributes:
        what: Kind and name, for kubectl.
        namespace: Of the ServiceAccount.
        manifest: As its owner wrote it, with the field manager ``team``.

    """

    def __init__(self, who: People, kind: str, name: str) -> None:
        marks = {"labels": {GUARD: SHARED, "team": "blue"}, "annotations": {**HELD, "note": "old"}}
        self.manifest = space(name, **marks) if kind == "Namespace" else account("ci", name, **marks)
        self.what, self.namespace = (f"ns/{name}", "") if kind == "Namespace" else ("sa/ci", name)
        self._cluster = who.admin.cluster
        self.apply(who.admin, self.manifest)

    def apply(self, person: Person, manifest: Manifest) -> str:
        """Apply a manifest as the field manager that owns everything, and take what it lacks away."""
        ours = ("apply", "--server-side", "--force-conflicts", "--field-manager=team", "-f", "-")
        return person(*ours, given=manifest)

    def replace(self, person: Person, manifest: Manifest) -> str:
        """PUT the object as it is, with these labels and annotations."""
        whole = self.read()
        whole["metadata"] |= {part: manifest["metadata"].get(part, {}) for part in ("labels", "annotations")}
        return person("replace", "-f", "-", given=whole)

    def patch(self, person: Person, metadata: Manifest, *args: str) -> str:
        """Merge into the metadata."""
        return person.patch(self.what, self.namespace, {"metadata": metadata}, *args)

    def without(self, part: str) -> Manifest:
        """Return the manifest without its labels or annotations."""
        metadata = {key: value for key, value in self.manifest["metadata"].items() if key != part}
        return self.manifest | {"metadata": metadata}

    def read(self) -> Manifest:
        """Return the object as it is."""
        return read(self._cluster, self.what, self.namespace)


@pytest.fixture
def name(guarded: Cluster) -> Iterator[str]:
    """Yield the name of a namespace of this test's own, which is not there yet."""
    name = f"marked-{secrets.token_hex(4)}"
    yield name
    guarded.discard(name)


@pytest.fixture
def marked(who: People, kind: str, name: str) -> Marked:
    """Return a marked object."""
    if kind == "ServiceAccount":
        who.admin.create(space(name))
    return Marked(who, kind, name)


@pytest.fixture(scope="module")
def untouched(who: People, guarded: Cluster) -> Iterator[dict[str, Marked]]:
    """Yield one marked object of each kind for all the tests that change nothing."""
    name = f"marked-{secrets.token_hex(4)}"
    of_kind = {"Namespace": Marked(who, "Namespace", name)}
    yield of_kind | {"ServiceAccount": Marked(who, "ServiceAccount", name)}
    guarded.discard(name)


# --- What is refused


@KINDS
@pytest.mark.parametrize(
    ("metadata", "keys"),
    [
        pytest.param({"annotations": {KEY: None}}, KEY, id="a hold taken off"),
        pytest.param({"annotations": {KEY: "{}"}}, KEY, id="a hold changed"),
        pytest.param({"annotations": {f"{PREFIX}2": "{}"}}, f"{PREFIX}2", id="a hold put on"),
        pytest.param({"annotations": None}, KEY, id="all annotations taken off"),
        pytest.param({"annotations": {RELEASED: "x"}}, RELEASED, id="released"),
        pytest.param({"annotations": {FORCED: "x"}}, FORCED, id="forced"),
        pytest.param({"annotations": {FENCED: "ci"}}, FENCED, id="fenced"),
        pytest.param({"annotations": {POLICY: "keep"}}, POLICY, id="given a policy"),
        pytest.param({"annotations": {BRANCH: "x"}}, BRANCH, id="given to another branch"),
        pytest.param({"labels": {GUARD: None}}, GUARD, id="unguarded"),
        pytest.param({"labels": {GUARD: "env"}}, GUARD, id="guarded otherwise"),
        pytest.param({"labels": {"envprov.io/state": "husk"}}, "envprov.io/state", id="given a label"),
        pytest.param({"labels": {"team": "red", GUARD: None}}, GUARD, id="something else along with it"),
        pytest.param(
            {"annotations": {f"{PREFIX}{number}": "{}" for number in range(2, 7)}, "labels": {GUARD: None}},
            f"{GUARD}, {PREFIX}2, {PREFIX}3 and 3 more",
            id="many at once",
        ),
    ],
)
def test_a_developer_cannot_change_guard_metadata(
    who: People, untouched: dict[str, Marked], kind: str, metadata: Manifest, keys: str
) -> None:
    marked = untouched[kind]
    before = marked.read()
    said = marked.patch(who.developer, metadata)
    subject = f"ServiceAccount {marked.namespace}/ci" if marked.namespace else f"Namespace {marked.what[3:]}"
    assert "(Forbidden)" in said
    assert (
        f"{REFUSAL}{who.developer.user} may not change {keys} of {subject}: annotations and labels of envprov.io are "
        "changed only with the verb manage on holds.envprov.io; leave them as they are, and out of charts and manifests"
    ) in said
    assert marked.read() == before


@KINDS
@pytest.mark.parametrize("part", ["labels", "annotations"])
@pytest.mark.parametrize("how", ["replace", "apply"])
def test_nor_can_one_by_sending_the_object_without_it(
    who: People, untouched: dict[str, Marked], kind: str, part: str, how: str
) -> None:
    marked = untouched[kind]
    before = marked.read()
    assert REFUSAL in getattr(marked, how)(who.developer, marked.without(part))
    assert marked.read() == before


@pytest.mark.parametrize("path", ["status", "finalize"])
def test_nor_can_one_through_a_subresource_of_the_namespace(
    who: People, untouched: dict[str, Marked], path: str
) -> None:
    marked = untouched["Namespace"]
    before, name = marked.read(), marked.manifest["metadata"]["name"]
    changes: tuple[Manifest, ...] = ({"labels": {}}, {"annotations": {}}, {"annotations": {**HELD, RELEASED: "x"}})
    for metadata in changes:
        changed = marked.read()
        changed["metadata"] |= metadata
        said = who.developer("replace", "--raw", f"/api/v1/namespaces/{name}/{path}", "-f", "-", given=changed)
        assert REFUSAL in said
    assert marked.read() == before


@KINDS
@pytest.mark.parametrize(
    "marks",
    [
        pytest.param({"annotations": HELD}, id="held"),
        pytest.param({"labels": {GUARD: SHARED}}, id="guarded"),
        pytest.param({"annotations": {RELEASED: "x"}}, id="released"),
        pytest.param({"labels": {"envprov.io/project": "shop"}}, id="labelled"),
    ],
)
@pytest.mark.parametrize("generated", [False, True], ids=["named", "generated"])
def test_nothing_is_made_with_guard_metadata_but_by_who_manages_holds(
    who: People, kind: str, marks: Manifest, *, generated: bool
) -> None:
    name = f"made-{secrets.token_hex(4)}"
    made = space(name, **marks) if kind == "Namespace" else account(name, "default", **marks)
    if generated:
        made["metadata"] |= {"name": "", "generateName": "made-"}
    said = who.developer.create(made, "--dry-run=server")
    assert f"{REFUSAL}{who.developer.user} may not change " in said
    assert "created" in who.keeper.create(made, "--dry-run=server")
    assert "created" in who.admin.create(made, "--dry-run=server")


# --- What is not


@KINDS
@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"labels": {"team": "red"}}, id="another label"),
        pytest.param({"labels": {"team": None}}, id="another label taken off"),
        pytest.param({"annotations": {"note": "new", "hold.envprov.io.example.org/1": "x"}}, id="another annotation"),
        pytest.param({"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}, id="a level of Pod Security"),
        pytest.param({"annotations": HELD, "labels": {GUARD: SHARED}}, id="guard metadata as it is"),
        pytest.param({"finalizers": ["example.org/test"]}, id="a finalizer"),
    ],
)
def test_a_developer_can_change_everything_else(who: People, marked: Marked, metadata: Manifest) -> None:
    said = marked.patch(who.developer, metadata)
    assert f"{marked.what.split('/')[1]} patched" in said
    found = marked.read()["metadata"]
    for part, values in metadata.items():
        if part == "finalizers":
            assert found[part] == values
            marked.patch(who.developer, {"finalizers": None})
        else:
            assert {key: found[part].get(key) for key in values} == values


@KINDS
def test_what_a_developer_sends_whole_goes_through_when_guard_metadata_is_in_it(who: People, marked: Marked) -> None:
    manifest = marked.manifest | {"metadata": marked.manifest["metadata"] | {"labels": {GUARD: SHARED, "team": "red"}}}
    assert " replaced" in marked.replace(who.developer, manifest)
    assert " serverside-applied" in marked.apply(who.developer, manifest)
    assert marked.read()["metadata"]["labels"]["team"] == "red"


def test_a_manifest_without_guard_metadata_is_applied_again_and_again(who: People, control_namespace: str) -> None:
    plain = account("ci", control_namespace, labels={"team": "blue"})
    for server_side in ((), ("--server-side",)):
        who.developer("apply", *server_side, "-f", "-", given=plain)
        who.keeper.patch("sa/ci", control_namespace, {"metadata": {"annotations": HELD, "labels": {GUARD: SHARED}}})
        for team in ("red", "green"):
            changed = account("ci", control_namespace, labels={"team": team})
            said = who.developer(
                "apply", *server_side, "-f", "-", given=changed | {"imagePullSecrets": [{"name": team}]}
            )
            assert "Forbidden" not in said
            found = read(who.admin.cluster, "sa/ci", control_namespace)
            assert found["imagePullSecrets"] == [{"name": team}]
            assert found["metadata"]["labels"] == {"team": team, GUARD: SHARED}
            assert found["metadata"]["annotations"].items() >= HELD.items()
        who.admin.patch("sa/ci", control_namespace, {"metadata": {"annotations": None, "labels": None}})
        who.developer.delete("sa/ci", control_namespace)


@KINDS
def test_who_manages_holds_changes_guard_metadata(who: People, marked: Marked) -> None:
    marks: Manifest = {"annotations": {KEY: None, RELEASED: "x", FENCED: "ci"}, "labels": {GUARD: None}}
    assert " patched" in marked.patch(who.keeper, marks)
    found = marked.read()["metadata"]
    assert found["annotations"].items() >= {RELEASED: "x", FENCED: "ci"}.items()
    assert KEY not in found["annotations"]
    assert GUARD not in found["labels"]


def test_the_status_of_a_marked_namespace_is_written_as_ever(who: People, name: str) -> None:
    Marked(who, "Namespace", name)
    condition = {"type": "example.org/Seen", "status": "True", "lastTransitionTime": "2026-10-01T00:00:00Z"}
    body = {"status": {"conditions": [condition]}}
    assert " patched" in who.developer.patch(f"ns/{name}", "", body, "--subresource=status")
    assert read(who.admin.cluster, f"ns/{name}")["status"]["conditions"][0]["type"] == "example.org/Seen"


def test_the_controllers_of_kubernetes_write_on_marked_objects_as_ever(who: People, name: str) -> None:
    # The default ServiceAccount is made, and the reference to a token that is gone is taken off.
    Marked(who, "Namespace", name)
    eventually(lambda: "default" in who.admin("get", "sa", "-n", name, "-o", "name"), message="no default account")
    who.admin.create(account("ci", name, annotations=HELD, labels={GUARD: SHARED}) | {"secrets": [{"name": "token"}]})
    uid = uid_of(who.admin.cluster, "sa/ci", name)
    token = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": "token",
            "namespace": name,
            "annotations": {"kubernetes.io/service-account.name": "ci", "kubernetes.io/service-account.uid": uid},
        },
    }
    who.developer.create(token)
    eventually(
        lambda: "token" in read(who.admin.cluster, "secret/token", name).get("data", {}), message="no token is made"
    )
    who.developer.delete("secret/token", name)
    eventually(
        lambda: "secrets" not in read(who.admin.cluster, "sa/ci", name), message="the reference to the token stays"
    )
    assert read(who.admin.cluster, "sa/ci", name)["metadata"]["annotations"] == HELD


@KINDS
def test_what_is_on_its_way_out_is_nobodys_business_any_more(who: People, marked: Marked) -> None:
    marked.patch(who.admin, {"finalizers": ["example.org/test"], "annotations": dict.fromkeys(HELD)})
    marked.patch(who.admin, {"annotations": {RELEASED: uid_of(who.admin.cluster, marked.what, marked.namespace)}})
    who.developer.delete(marked.what, marked.namespace)
    assert "deletionTimestamp" in marked.read()["metadata"]
    assert " patched" in marked.patch(who.developer, {"labels": {GUARD: None}})
    assert " patched" in marked.patch(who.developer, {"finalizers": None})
    eventually(
        lambda: "NotFound" in who.admin("get", marked.what, *where(marked.namespace)), message="it does not finalize"
    )
