"""What Helm stored, read without Helm: what real releases look like, and what nobody should have to read."""

from __future__ import annotations

import base64
import gzip
import json
import time
import tracemalloc
from typing import Any

import pytest

from envprov.domain.errors import Invalid
from envprov.domain.holds import Account
from envprov.releases.stored import SIZE_LIMIT_BYTES, decode, decode_objects

ACCOUNT = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: shop\n  labels: {app: shop}\n"
BINDING = (
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nsubjects: [{kind: ServiceAccount, name: other}]\n"
)
MANIFEST = f"---\n# Source: shop/templates/account.yaml\n{ACCOUNT}---\n# Source: shop/templates/rbac.yaml\n{BINDING}"


def hook(kind: str, events: list[str], spec: str, metadata: str = "name: bye") -> dict[str, Any]:
    text = f"apiVersion: batch/v1\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {spec}\n"
    return {"name": "bye", "kind": kind, "events": events, "manifest": text}


def release(**changes: object) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": "shop",
        "namespace": "env-shop",
        "version": 3,
        "info": {"status": "deployed", "notes": "hello"},
        "manifest": MANIFEST,
        "hooks": [],
        "chart": {"files": []},
    }
    return given | changes


def secret(content: bytes, *, kind: str = "helm.sh/release.v1", packed: bool = True) -> dict[str, Any]:
    stored = base64.b64encode(gzip.compress(content) if packed else content)
    return {
        "type": kind,
        "metadata": {"name": "sh.helm.release.v1.shop.v3", "namespace": "env-shop"},
        "data": {"release": base64.b64encode(stored).decode()},
    }


def stored(**changes: object) -> dict[str, Any]:
    return secret(json.dumps(release(**changes)).encode())


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "not packed"])
def test_a_release_tells_its_name_state_and_accounts(*, packed: bool) -> None:
    found = decode(secret(json.dumps(release()).encode(), packed=packed))
    assert (found.name, found.namespace, found.version, found.status) == ("shop", "env-shop", 3, "deployed")
    (account,) = found.accounts
    assert account["metadata"] == {"name": "shop", "labels": {"app": "shop"}}
    assert found.delete_hook_accounts == ()


@pytest.mark.parametrize(
    ("manifest", "names"),
    [
        pytest.param("", [], id="empty -> none"),
        pytest.param(BINDING, [], id="a subject -> none"),
        pytest.param('{"kind": "ServiceAccount", "metadata": {"name": "a"}}', ["a"], id="JSON -> it"),
        pytest.param(
            "kind: List\nitems:\n- {kind: ServiceAccount, metadata: {name: a}}\n- {kind: Secret}\n- 3\n",
            ["a"],
            id="in a list -> it",
        ),
        pytest.param(f"{ACCOUNT}---\n{ACCOUNT.replace('shop', 'two')}", ["shop", "two"], id="two -> both"),
        pytest.param(f"a: {{{{ broken\n---\n{ACCOUNT}", ["shop"], id="broken beside it -> it"),
    ],
)
def test_accounts_are_found_wherever_they_stand(manifest: str, names: list[str]) -> None:
    assert [account["metadata"]["name"] for account in decode(stored(manifest=manifest)).accounts] == names


def test_all_objects_of_a_release_are_read_with_its_hooks() -> None:
    manifest = f"{MANIFEST}---\n# nothing\n---\nkind: List\nitems:\n- {{kind: Secret}}\n- 3\n"
    hooks = [hook("Job", ["pre-delete"], JOB), hook("Pod", ["test"], "{}"), {"manifest": 3}]
    found = decode_objects(stored(manifest=manifest, hooks=hooks))
    assert (found.name, found.namespace, found.version, found.status) == ("shop", "env-shop", 3, "deployed")
    assert [item["kind"] for item in found.objects] == ["ServiceAccount", "RoleBinding", "Secret"]
    assert [item["kind"] for item in found.hooks] == ["Job", "Pod"]


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param("a: [b", id="no YAML"),
        pytest.param("- 3\n", id="no object"),
        pytest.param("kind: ConfigMap\n# " + "x" * (5 << 20), id="too large"),
        pytest.param("kind: ConfigMap\na: " + "[" * 500 + "]" * 500, id="nested too deep"),
        pytest.param("kind: ConfigMap\na: [" + "1," * 600_000 + "]", id="too many values"),
    ],
)
def test_objects_that_cannot_be_read_are_invalid(manifest: str) -> None:
    with pytest.raises(Invalid, match="Secret env-shop/"):
        decode_objects(stored(manifest=manifest))


JOB = "{template: {spec: {serviceAccountName: cleaner, containers: [{name: a}]}}}"


@pytest.mark.parametrize(
    ("given", "accounts"),
    [
        pytest.param(hook("Job", ["pre-delete"], JOB), [Account("env-shop", "cleaner")], id="Job before deletion"),
        pytest.param(hook("Job", ["post-delete", "test"], JOB), [Account("env-shop", "cleaner")], id="after deletion"),
        pytest.param(hook("Job", ["pre-install", "post-upgrade"], JOB), [], id="at other times -> none"),
        pytest.param(
            hook("Pod", ["pre-delete"], "{serviceAccountName: cleaner, containers: []}"),
            [Account("env-shop", "cleaner")],
            id="Pod",
        ),
        pytest.param(
            hook("Pod", ["pre-delete"], "{containers: [{name: a}]}"),
            [Account("env-shop", "default")],
            id="a pod that names none -> default",
        ),
        pytest.param(
            hook("CronJob", ["pre-delete"], f"{{jobTemplate: {{spec: {JOB}}}}}"),
            [Account("env-shop", "cleaner")],
            id="CronJob",
        ),
        pytest.param(
            hook("Job", ["pre-delete"], JOB, "name: bye, namespace: tools"),
            [Account("tools", "cleaner")],
            id="in another namespace",
        ),
        pytest.param(
            hook("Workflow", ["pre-delete"], "{serviceAccountName: robot}"),
            [Account("env-shop", "robot")],
            id="a custom resource that names one",
        ),
        pytest.param(hook("ConfigMap", ["pre-delete"], "{}"), [], id="no pods -> none"),
    ],
)
def test_hooks_of_the_deletion_tell_what_they_run_as(given: dict[str, Any], accounts: list[Account]) -> None:
    assert list(decode(stored(hooks=[given, given])).delete_hook_accounts) == accounts


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(secret(b"{}", kind="Opaque"), id="no release"),
        pytest.param({"type": "helm.sh/release.v1", "metadata": {}}, id="no data"),
        pytest.param({"type": "helm.sh/release.v1", "data": {"release": 3}}, id="data of another type"),
        pytest.param({"type": "helm.sh/release.v1", "data": {"release": "%"}}, id="no base64"),
        pytest.param({"type": "helm.sh/release.v1", "data": {"release": "\u00e9"}}, id="no ASCII"),
        pytest.param(secret(b"\x1f\x8b\x08 nonsense", packed=False), id="no gzip"),
        pytest.param(secret(gzip.compress(json.dumps(release()).encode())[:-40], packed=False), id="gzip cut off"),
        pytest.param(secret(b"nonsense"), id="no JSON"),
        pytest.param(secret(b"\xff\xfe"), id="no UTF-8"),
        pytest.param(secret(b"[1]"), id="no object"),
        pytest.param(secret(b"[" * 100_000), id="nested too deep"),
        pytest.param(stored(manifest="kind: ServiceAccount\na: [b"), id="YAML broken"),
        pytest.param(stored(manifest="kind: ServiceAccount\na: " + "[" * 500 + "]" * 500), id="YAML nested too deep"),
    ],
)
def test_what_cannot_be_read_is_invalid(given: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="Secret"):
        decode(given)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nothing"),
        pytest.param(
            {"name": 3, "namespace": [], "version": "x", "info": 4, "manifest": {}, "hooks": {"a": 1}}, id="junk"
        ),
        pytest.param({"hooks": [1, None, {"events": 3}, {"events": ["pre-delete"], "manifest": 9}]}, id="junk hooks"),
    ],
)
def test_junk_in_a_release_is_nothing(given: dict[str, Any]) -> None:
    found = decode(secret(json.dumps(given).encode()))
    assert (found.name, found.namespace, found.version, found.status) == ("", "env-shop", 0, "")
    assert found.accounts == ()
    assert found.delete_hook_accounts == ()


def test_what_is_wrong_is_told_without_a_word_of_the_content() -> None:
    with pytest.raises(Invalid) as refused:
        decode(secret(b'{"config": {"password": "hunter2"'))
    assert str(refused.value) == (
        "Secret env-shop/sh.helm.release.v1.shop.v3 holds a release of Helm that cannot be read: "
        "it is damaged or too large"
    )
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b" " * (SIZE_LIMIT_BYTES * 4), id="blanks"),
        pytest.param(b'{"a": [' + b"[]," * (10 << 20) + b"[]]}", id="values"),
        pytest.param(
            json.dumps(release(manifest="kind: ServiceAccount\nmetadata: {name: a}\n# " + "x" * (5 << 20))).encode(),
            id="YAML",
        ),
        pytest.param(
            json.dumps(release(hooks=[hook("Job", ["pre-delete"], JOB) for _ in range(40_000)])).encode(), id="hooks"
        ),
    ],
)
def test_a_bomb_is_refused_soon_and_without_the_memory_that_it_asks_for(content: bytes) -> None:
    given = secret(content)
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(Invalid):
            decode(given)
        assert time.process_time() - began < 5
        assert tracemalloc.get_traced_memory()[1] < 4 * SIZE_LIMIT_BYTES
    finally:
        tracemalloc.stop()
