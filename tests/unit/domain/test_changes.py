"""What would change: tables of single fields, and what holds for everything that a chart could render."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.changes import FIELDS_LIMIT, Changes, between
from envprov.domain.fields import Edit
from envprov.domain.paths import MISSING
from envprov.domain.unified import DIFF_LINES_LIMIT

NAMESPACE = "env-x"
CANARY = "hunter2"


def deployment(**pod: Any) -> dict[str, Any]:  # noqa: ANN401 - any field of a pod
    """Return a Deployment with a pod."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "web", "image": "web:1"}], **pod}}},
    }


def config(name: str = "settings", data: Any = None, **metadata: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {}}


def secret(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return a Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, **fields}


def rows(before: Any, after: Any) -> list[str]:  # noqa: ANN401 - any JSON
    """Return what a person reads of the fields of the one object that changes."""
    return [what for _, _, what in between([before], [after], NAMESPACE).rows()]


CONTAINERS = "spec.template.spec.containers"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param({"replicas": 1}, {"replicas": 3}, ["spec.replicas: 1 -> 3"], id="number"),
        pytest.param({"paused": True}, {"paused": 1}, ["spec.paused: true -> 1"], id="true is not 1"),
        pytest.param({"port": 80}, {"port": "80"}, ['spec.port: 80 -> "80"'], id="a text is no number"),
        pytest.param({}, {"paused": True}, ["spec.paused: added true"], id="added"),
        pytest.param({"a": {"b": "c"}}, {}, ['spec.a: removed, was {"b": "c"}'], id="removed with what is below"),
        pytest.param({"args": ["a", "b"]}, {"args": ["b"]}, ['spec.args: ["a", "b"] -> ["b"]'], id="words: whole"),
        pytest.param(
            {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]},
            {"containers": [{"name": "b", "image": "z"}]},
            [
                'spec.containers[name=a]: removed, was {"name": "a", "image": "x"}',
                "spec.containers[name=b].image: y -> z",
            ],
            id="containers by name",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "0", "value": ""}, {"name": "A", "value": "1"}, {"name": "B", "value": "3"}]},
            ['spec.env[name=B].value: "2" -> "3"', 'spec.env[name=0]: added {"name": "0", "value": ""}'],
            id="variables by name",
        ),
        pytest.param(
            {"env": [{"name": "A"}, {"name": "B"}]},
            {"env": [{"name": "B"}, {"name": "A"}]},
            ["spec.env: another order, name=A, name=B -> name=B, name=A"],
            id="another order makes other pods",
        ),
        pytest.param(
            {"ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]},
            {"ports": [{"containerPort": 53, "protocol": "TCP"}, {"containerPort": 80, "name": "http"}]},
            [
                "spec.ports[containerPort=80].name: added http",
                'spec.ports[containerPort=53,protocol=UDP]: removed, was {"containerPort": 53, "protocol": "UDP"}',
                'spec.ports[containerPort=53]: added {"containerPort": 53, "protocol": "TCP"}',
            ],
            id="ports by number and protocol",
        ),
        pytest.param(
            {"ports": [{"port": 80, "targetPort": 1}]},
            {"ports": [{"port": 80, "targetPort": 2}]},
            ["spec.ports[port=80].targetPort: 1 -> 2"],
            id="ports of a Service",
        ),
        pytest.param(
            {"volumes": [{"name": "a", "emptyDir": {}}]},
            {"volumes": [{"name": "a", "configMap": {"name": "c"}}]},
            ['spec.volumes[name=a].configMap: added {"name": "c"}', "spec.volumes[name=a].emptyDir: removed, was {}"],
            id="volumes by name",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "3"}]},
            ['spec.env[1].value: "2" -> "3"'],
            id="one name twice: by place",
        ),
        pytest.param(
            {"rules": [{"host": "a"}, {"host": "b"}]},
            {"rules": [{"host": "new"}, {"host": "a"}, {"host": "b"}]},
            ['spec.rules[0]: added {"host": "new"}'],
            id="without a key: only what is between the same ends",
        ),
        pytest.param({"a.b/c": 1}, {"a.b/c": 2}, ['spec["a.b/c"]: 1 -> 2'], id="a name that needs quotes gets them"),
    ],
)
def test_a_field_is_told_with_its_path_and_both_values(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    def wrapped(spec: dict[str, Any]) -> dict[str, Any]:
        return {"apiVersion": "x/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec}

    assert rows(wrapped(before), wrapped(after)) == expected


def test_objects_come_go_and_change() -> None:
    before = [deployment(), config("old"), config("kept", annotations={"helm.sh/resource-policy": "keep"})]
    hook = config("hook", annotations={"helm.sh/hook": "pre-install, test"})
    changes = between(before, [deployment(hostNetwork=True), config("new", {"a": "b\nc\n"}), hook], NAMESPACE)
    assert changes.text() == (
        """\
ConfigMap kept is removed (stays behind, for its helm.sh/resource-policy is keep):
-apiVersion: v1
-data: {}
-kind: ConfigMap
-metadata:
-  annotations:
-    helm.sh/resource-policy: keep
-  name: kept
-  namespace: env-x

ConfigMap new is added:
+apiVersion: v1
+data:
+  a: |
+    b
+    c
+kind: ConfigMap
+metadata:
+  name: new
+  namespace: env-x

ConfigMap old is removed:
-apiVersion: v1
-data: {}
-kind: ConfigMap
-metadata:
-  name: old
-  namespace: env-x

Deployment web is changed:
@@ -10,3 +10,4 @@
       containers:
       - image: web:1
         name: web
+      hostNetwork: true

ConfigMap hook is added (hook pre-install, test):
+apiVersion: v1
+data: {}
+kind: ConfigMap
+metadata:
+  annotations:
+    helm.sh/hook: pre-install, test
+  name: hook
+  namespace: env-x

2 added, 1 changed, 2 removed, 0 unchanged"""
    )
    assert list(changes.rows()) == [
        ("removed", "ConfigMap kept", "stays behind, for its helm.sh/resource-policy is keep"),
        ("added", "ConfigMap new", ""),
        ("removed", "ConfigMap old", ""),
        ("changed", "Deployment web", "spec.template.spec.hostNetwork: added true"),
        ("added", "ConfigMap hook", "hook pre-install, test"),
    ]
    told = changes.as_json()
    assert {name: told[name] for name in ("added", "changed", "removed", "unchanged")} == {
        "added": 2,
        "changed": 1,
        "removed": 2,
        "unchanged": 0,
    }
    assert told["objects"][3]["fields"] == [{"path": "spec.template.spec.hostNetwork", "edit": "added", "after": True}]
    assert (told["objects"][0]["stays"], told["objects"][4]["hooks"]) == (True, ["pre-install", "test"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(config(), config(namespace=NAMESPACE), id="the namespace of the release, written out"),
        pytest.param({"kind": "List", "items": [config()]}, config(), id="in a List"),
        pytest.param(secret(data={"a": "Zm9v"}), secret(stringData={"a": "foo"}), id="plain and encoded"),
        pytest.param(secret(data={"a": "Zm\n9v"}), secret(data={"a": "Zm9v"}), id="base64 with a line break"),
        pytest.param(config(creationTimestamp=None), config(), id="what controller-gen writes"),
    ],
)
def test_what_means_the_same_is_no_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    changes = between([before], [after], NAMESPACE)
    assert (list(changes.items), changes.unchanged) == ([], 1)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(
            secret(data={"a": CANARY}, type="Opaque"),
            secret(stringData={"a": "other", "b": CANARY}, type="x"),
            ["data.a: *** -> ***", "data.b: added ***", "type: Opaque -> x"],
            id="fields",
        ),
        pytest.param(secret(data=CANARY), secret(data=[CANARY]), ["data: *** -> ***"], id="of another type"),
        pytest.param(secret(more={"x": CANARY}), secret(), ["more: removed, was ***"], id="of a name nobody knows"),
        pytest.param(
            secret(data={"a": {"b": CANARY}}), secret(data={"a": {"b": 1}}), ["data.a: *** -> ***"], id="nested"
        ),
    ],
)
def test_a_secret_shows_its_keys_alone(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    assert rows(before, after) == expected
    for given_before, given_after in (([before], [after]), ([], [after]), ([before], [])):
        changes = between(given_before, given_after, NAMESPACE)
        assert CANARY not in changes.text() + json.dumps(changes.as_json()) + repr(changes)


def test_a_changed_key_of_a_secret_is_seen_and_not_what_it_was() -> None:
    changes = between(
        [secret(data={"a": "Zm9v", "b": "YmFy"})], [secret(data={"a": "Zm9vbw==", "b": "YmFy"})], NAMESPACE
    )
    assert changes.items[0].lines == (
        "@@ -1,6 +1,6 @@",
        " apiVersion: v1",
        " data:",
        "-  a: '*** (before)'",
        "+  a: '*** (after)'",
        "   b: '***'",
        " kind: Secret",
        " metadata:",
    )


def test_a_copy_of_a_secret_in_an_annotation_is_not_shown() -> None:
    copied = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(secret(data={"a": CANARY}))}
    given_secret = secret(data={})
    given_secret["metadata"]["annotations"] = copied
    changes = between([], [given_secret], NAMESPACE)
    assert CANARY not in changes.text() + json.dumps(changes.as_json())


def test_a_definition_says_that_helm_makes_it_only_once() -> None:
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "a"},
    }
    (later,) = between([config()], [config(), definition], NAMESPACE).items
    assert later.remark == "Helm makes those of the chart's folder crds/ with the first revision only"
    (first,) = between([], [definition], NAMESPACE).items
    assert first.remark == ""


def test_long_values_are_cut_where_they_differ() -> None:
    changes = between([config(data={"a": "x" * 5000 + "1"})], [config(data={"a": "x" * 5000 + "2"})], NAMESPACE)
    (told,) = [what for _, _, what in changes.rows()]
    assert told == f"data.a: (4901 characters …){'x' * 99}1 -> (4901 characters …){'x' * 99}2"
    assert max(map(len, changes.items[0].lines)) < 300
    assert any(line.endswith("1") for line in changes.items[0].lines if line.startswith("-"))


def test_many_lines_and_fields_are_counted() -> None:
    many = {f"key-{number:04}": "a" for number in range(1000)}
    (added,) = between([], [config(data=many)], NAMESPACE).items
    assert (len(added.lines), added.lines[-1]) == (DIFF_LINES_LIMIT + 1, "… 706 more lines")
    changes = between([config(data=many)], [config(data=dict.fromkeys(many, "b"))], NAMESPACE)
    assert [what for _, _, what in changes.rows()][FIELDS_LIMIT:] == ["… 950 more fields"]
    huge = between([config(data={"a": "x\n" * 9000})], [config(data={"a": "y\n" * 9000})], NAMESPACE)
    assert huge.items[0].lines == ("… too long for a diff: 9007 lines before, 9007 after",)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from(["name", "env", "ports", "containers", "containerPort", "protocol", "data", "finalizers", "a"])
SHAPED = st.recursive(
    st.sampled_from(["a", "b", "TCP", "", "1", 1, 80, None, True, 1.5]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return lists of what may be objects, few of whose names differ."""
    one = st.fixed_dictionaries(
        {
            "apiVersion": st.sampled_from(["v1", "apps/v1"]),
            "kind": st.sampled_from(["ConfigMap", "Secret", "Deployment", "List"]),
            "metadata": st.fixed_dictionaries({"name": st.sampled_from(["a", "b"])}) | values,
        },
        optional={"data": values, "stringData": values, "spec": values, "items": values},
    )
    return st.lists(one, max_size=3)


def everything(changes: Changes) -> str:
    """Return all that could be shown."""
    return changes.text() + json.dumps(changes.as_json(), ensure_ascii=False) + str(list(changes.rows()))


@settings(max_examples=60, deadline=None)
@given(objects(SHAPED | JUNK))
def test_nothing_differs_from_itself(given_objects: list[dict[str, Any]]) -> None:
    assert not between(given_objects, copy.deepcopy(given_objects), NAMESPACE)


@settings(max_examples=60, deadline=None)
@given(objects(SHAPED), objects(SHAPED))
def test_from_the_other_side_it_is_the_same_in_reverse(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    there, back = between(before, after, NAMESPACE), between(after, before, NAMESPACE)

    def told(changes: Changes, *, reverse: bool) -> list[Any]:
        found: list[Any] = []
        for change in changes.items:
            edit = change.edit.reverse if reverse else change.edit
            # The version is the one field by which an object is called that may change.
            found.append((edit.value, change.subject.kind, change.subject.name))
            for field in change.fields:
                sides = (field.before, field.after)
                turned = field.edit.reverse if reverse else field.edit
                found.append((turned.value, field.where, *map(repr, reversed(sides) if reverse else sides)))
        return sorted(found, key=str)

    assert told(there, reverse=False) == told(back, reverse=True)
    assert (there.count(Edit.ADDED), there.unchanged) == (back.count(Edit.REMOVED), back.unchanged)
    for change in there.items:
        assert all((field.before is MISSING) == (field.edit is Edit.ADDED) for field in change.fields)


@settings(max_examples=60, deadline=None)
@given(objects(JUNK), objects(JUNK))
def test_junk_is_compared_and_told_all_the_same(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    assert between(before, after, NAMESPACE).summary in everything(between(before, after, NAMESPACE))


def tokens(prefix: str) -> st.SearchStrategy[Any]:
    """Return values of Secrets, each with a word in it that stands nowhere else."""
    word = st.integers(0, 999).map(lambda number: f"{prefix}{number}")
    return st.recursive(word, lambda inner: st.dictionaries(NAMES, inner, max_size=3) | st.lists(inner, max_size=3))


@settings(max_examples=60, deadline=None)
@given(
    *(
        st.dictionaries(st.sampled_from(["data", "stringData", "spec", "immutableData"]), tokens(word), max_size=3)
        for word in ("canary-a-", "canary-b-")
    )
)
def test_no_value_of_a_secret_is_ever_shown(before: dict[str, Any], after: dict[str, Any]) -> None:
    pairs: tuple[tuple[list[Any], list[Any]], ...] = (
        ([secret(**before)], [secret(**after)]),
        ([], [secret(**after)]),
        ([{"kind": "SecretList", "items": [secret(**before)]}], []),
        ([{"kind": "List", "items": [{**secret(**before), "kind": None}]}], [secret(**after)]),
    )
    for one, other in pairs:
        shown = everything(between(one, other, NAMESPACE))
        assert "canary" not in shown
        # Nor in the form in which the API server would have it.
        assert "Y2FuYXJ5" not in shown
