"""
The base objects on a real API server: stored as they are written, so that what differs is what somebody changed.

This is what the drift check stands on; and that the definitions refuse what the models refuse.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from envprov.domain import objects
from envprov.domain.desired import Desired, desire
from envprov.domain.drift import drifted
from envprov.domain.environment import EnvironmentSpec
from envprov.domain.health import explain_quota
from envprov.domain.names import slug
from envprov.domain.project import ProjectSpec
from envprov.domain.sizes import DEFAULT_SIZES
from tests.cluster import Cluster
from tests.eventually import eventually
from tests.unit.builders import environment, platform, rich_project

ROOT = Path(__file__).parent.parent.parent
MANAGER = "envprov-controller"

Manifest = dict[str, Any]
Key = tuple[str, str]

# One environment serves all of them.
pytestmark = pytest.mark.xdist_group("base-objects")

ORIGINALS: list[Manifest] = [
    {
        "metadata": {"name": "registry-pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": "e30="},
    },
    {"metadata": {"name": "tls"}, "data": {"key": "a2V5", "other": "b3RoZXI="}},
    {"metadata": {"name": "empty"}},
]


def wanted_in(control_namespace: str, branch: str) -> Desired:
    record = environment().model_copy(update={"namespace": control_namespace, "name": slug("shop", branch)})
    record = record.model_copy(update={"spec": record.spec.model_copy(update={"branch": branch})})
    networks = {"profile": "internet", "ingress_namespaces": ["ingress-nginx"], "shared_namespaces": ["databases"]}
    return desire(record, rich_project(), platform(network=networks))


def base(desired: Desired) -> dict[Key, Manifest]:
    """Return everything that the builders build for one environment, in the order in which it is applied."""
    identity = desired.identity
    manifests = [
        objects.namespace(desired),
        objects.own_access(identity, desired.platform.controller_account),
        objects.limit_range(desired),
        objects.quota(desired),
        *objects.network_policies(desired),
        *objects.access(desired),
        *(objects.secret_copy(identity, original) for original in ORIGINALS),
        *objects.pull_account(desired),
        *objects.installer(identity),
    ]
    # The namespace's own name differs from run to run.
    return {
        (manifest["kind"], manifest["metadata"]["name"].removeprefix(identity.namespace)): manifest
        for manifest in manifests
    }


KEYS = list(base(wanted_in("control", "feature/x")))


@dataclass(frozen=True)
class Standing:
    """One environment's base objects, applied."""

    cluster: Cluster
    desired: Desired
    wanted: dict[Key, Manifest]

    @property
    def namespace(self) -> str:
        return self.desired.identity.namespace

    def live(self, key: Key) -> Manifest:
        kind, name = key[0], self.wanted[key]["metadata"]["name"]
        where = [] if kind == "Namespace" else ["-n", self.namespace]
        found: Manifest = json.loads(self.cluster.kubectl("get", kind, name, *where, "-o", "json"))
        return found

    def put_back(self, key: Key) -> None:
        _apply(self.cluster, self.wanted[key])

    def edit(self, key: Key, how: str, patch: object) -> None:
        kind, name = key[0], self.wanted[key]["metadata"]["name"]
        where = [] if kind == "Namespace" else ["-n", self.namespace]
        given = ("--field-manager=somebody", f"--type={how}", "-p", json.dumps(patch))
        self.cluster.kubectl("patch", kind, name, *where, *given)

    def create(self, manifest: Manifest) -> str:
        return self.cluster.kubectl("create", "-n", self.namespace, "-f", "-", input=json.dumps(manifest), check=False)


@pytest.fixture(scope="module")
def standing(cluster: Cluster) -> Iterator[Standing]:
    """All base objects of one environment, applied as the controller applies them."""
    desired = wanted_in("control", f"feature/{secrets.token_hex(4)}")
    wanted = base(desired)
    for manifest in wanted.values():
        _apply(cluster, manifest)
    yield Standing(cluster, desired, wanted)
    cluster.discard(desired.identity.namespace)


def named(key: Key) -> str:
    return f"{key[0]} {key[1]}"


# --- What was applied is in sync


@pytest.mark.parametrize("key", KEYS, ids=named)
def test_what_was_applied_has_not_drifted(standing: Standing, key: Key) -> None:
    assert not drifted(standing.wanted[key], standing.live(key))


@pytest.mark.parametrize("key", KEYS, ids=named)
def test_applying_again_changes_nothing(standing: Standing, key: Key) -> None:
    before = standing.live(key)
    standing.put_back(key)
    after = standing.live(key)
    for live in (before, after):
        # The server counts an empty list that is said again as a change, though it stores none; only drift is applied.
        del live["metadata"]["resourceVersion"]
        live["metadata"].pop("generation", None)
        live.pop("status", None)  # a quota has its own controller
    assert after == before


# --- What somebody changes is seen, and put back

DENY: Key = ("NetworkPolicy", "envprov-default-deny")
SAME: Key = ("NetworkPolicy", "envprov-same-namespace")
DNS: Key = ("NetworkPolicy", "envprov-dns")
INTERNET: Key = ("NetworkPolicy", "envprov-internet")
NAMESPACE: Key = ("Namespace", "")
QUOTA: Key = ("ResourceQuota", "envprov")
LIMITS: Key = ("LimitRange", "envprov")
TLS: Key = ("Secret", "tls")
OPEN: list[Manifest] = [{}]


EDITS = [
    pytest.param(NAMESPACE, "merge", {"metadata": {"labels": {"envprov.io/guard": None}}}, id="guard label gone"),
    pytest.param(
        NAMESPACE,
        "merge",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}},
        id="Pod Security lowered",
    ),
    pytest.param(LIMITS, "json", [{"op": "remove", "path": "/spec/limits/1"}], id="limit of claims gone"),
    pytest.param(LIMITS, "json", [{"op": "replace", "path": "/spec/limits/0/max/cpu", "value": "64"}], id="cpu max"),
    pytest.param(
        LIMITS,
        "json",
        [{"op": "add", "path": "/spec/limits/-", "value": {"type": "Pod", "max": {"cpu": "1"}}}],
        id="one more limit",
    ),
    pytest.param(QUOTA, "merge", {"spec": {"hard": {"requests.cpu": "100"}}}, id="quota raised"),
    pytest.param(QUOTA, "merge", {"spec": {"hard": {"pods": None}}}, id="quota for pods gone"),
    pytest.param(DENY, "merge", {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}, id="default-deny narrowed"),
    pytest.param(DENY, "merge", {"spec": {"egress": OPEN}}, id="default-deny with a hole"),
    pytest.param(DENY, "merge", {"spec": {"ingress": OPEN}}, id="default-deny with a door"),
    pytest.param(DENY, "merge", {"spec": {"policyTypes": ["Ingress"]}}, id="default-deny one way"),
    pytest.param(SAME, "json", [{"op": "add", "path": "/spec/egress/-", "value": {}}], id="one more egress rule"),
    pytest.param(
        SAME,
        "json",
        [{"op": "add", "path": "/spec/ingress/0/from/0/namespaceSelector", "value": {}}],
        id="from all namespaces",
    ),
    pytest.param(DNS, "json", [{"op": "remove", "path": "/spec/egress/0/ports"}], id="all ports"),
    pytest.param(
        DNS, "merge", {"spec": {"ingress": OPEN, "policyTypes": ["Egress", "Ingress"]}}, id="DNS policy opened"
    ),
    pytest.param(
        INTERNET, "json", [{"op": "remove", "path": "/spec/egress/0/to/0/ipBlock/except"}], id="private addresses"
    ),
    pytest.param(
        ("RoleBinding", "envprov-installer"),
        "json",
        [
            {
                "op": "add",
                "path": "/subjects/-",
                "value": {"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"},
            }
        ],
        id="one more subject",
    ),
    pytest.param(("RoleBinding", "envprov-controller"), "merge", {"subjects": None}, id="no subject"),
    pytest.param(
        ("RoleBinding", "envprov-installer"),
        "merge",
        {"metadata": {"labels": {"envprov.io/environment": "other"}}},
        id="label of another environment",
    ),
    pytest.param(
        ("ServiceAccount", "envprov-installer"),
        "merge",
        {"automountServiceAccountToken": True},
        id="token of the installer",
    ),
    pytest.param(
        ("ServiceAccount", "default"), "merge", {"imagePullSecrets": [{"name": "other"}]}, id="another pull secret"
    ),
    pytest.param(
        ("ServiceAccount", "default"),
        "json",
        [{"op": "add", "path": "/imagePullSecrets/-", "value": {"name": "more"}}],
        id="one more pull secret",
    ),
    pytest.param(TLS, "merge", {"data": {"key": "b3RoZXI="}}, id="value in a Secret"),
    pytest.param(TLS, "merge", {"data": {"key": None}}, id="key of a Secret gone"),
]


@pytest.mark.parametrize(("key", "how", "patch"), EDITS)
def test_what_somebody_changed_is_seen_and_put_back(standing: Standing, key: Key, how: str, patch: object) -> None:
    standing.edit(key, how, patch)
    assert drifted(standing.wanted[key], standing.live(key))
    standing.put_back(key)
    assert not drifted(standing.wanted[key], standing.live(key))


def test_each_kind_is_among_them() -> None:
    edited = {str(edit.values[0][0]) for edit in EDITS}  # type: ignore[index]
    assert edited == {kind for kind, _ in KEYS}


@pytest.mark.parametrize(
    ("key", "patch"),
    [
        pytest.param(NAMESPACE, {"metadata": {"labels": {"team": "a"}}}, id="label of a namespace"),
        pytest.param(DENY, {"metadata": {"annotations": {"team": "a"}}}, id="annotation"),
        pytest.param(QUOTA, {"spec": {"hard": {"count/services": "5"}}}, id="one more quota"),
        pytest.param(QUOTA, {"spec": {"hard": {"requests.cpu": "1000m"}}}, id="1 is 1000m"),
        pytest.param(TLS, {"data": {"theirs": "eA=="}}, id="key of a Secret"),
    ],
)
def test_what_is_theirs_stays(standing: Standing, key: Key, patch: Manifest) -> None:
    standing.edit(key, "merge", patch)
    assert not drifted(standing.wanted[key], standing.live(key))
    standing.put_back(key)
    assert not drifted(standing.wanted[key], standing.live(key))


def test_a_key_that_the_original_lost_goes_and_theirs_stays(standing: Standing) -> None:
    larger = standing.wanted[TLS]
    standing.edit(TLS, "merge", {"data": {"theirs": "eA=="}})
    smaller = objects.secret_copy(standing.desired.identity, {"metadata": {"name": "tls"}, "data": {"key": "a2V5"}})
    assert not drifted(larger, standing.live(TLS))
    assert drifted(smaller, standing.live(TLS))
    _apply(standing.cluster, smaller)
    assert not drifted(smaller, standing.live(TLS))
    assert standing.live(TLS)["data"] == {"key": "a2V5", "theirs": "eA=="}
    standing.put_back(TLS)


def test_what_we_gave_the_default_account_can_be_taken_back(standing: Standing) -> None:
    key: Key = ("ServiceAccount", "default")
    _apply(standing.cluster, objects.released_account(standing.desired.identity))
    live = standing.live(key)
    assert "imagePullSecrets" not in live
    assert "envprov.io/environment" not in live["metadata"].get("labels", {})
    standing.put_back(key)
    assert not drifted(standing.wanted[key], standing.live(key))


# --- Limits and quota are in force


def pod(name: str, **requests: str) -> Manifest:
    container: Manifest = {"name": "c", "image": "registry.example.com/app:1"}
    if requests:
        container["resources"] = {"requests": requests, "limits": {"memory": requests.get("memory", "512Mi")}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container]}}


@pytest.fixture
def counting(standing: Standing) -> Standing:
    """Return the environment once its quota counts and its default ServiceAccount is there."""
    hard = standing.wanted[QUOTA]["spec"]["hard"]
    eventually(
        lambda: hard.keys() <= standing.live(QUOTA).get("status", {}).get("hard", {}).keys(),
        message="the quota does not count",
    )
    return standing


def test_the_quota_counts_everything_that_it_names(counting: Standing) -> None:
    status = counting.live(QUOTA)["status"]
    assert counting.wanted[QUOTA]["spec"]["hard"].keys() <= status["used"].keys()


def test_a_pod_without_requests_is_admitted_for_it_gets_some(counting: Standing) -> None:
    assert "created" in counting.create(pod("modest"))
    live = json.loads(counting.cluster.kubectl("get", "pod", "modest", "-n", counting.namespace, "-o", "json"))
    assert live["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "128Mi"},
        "limits": {"cpu": "4", "memory": "512Mi", "ephemeral-storage": "1Gi"},
    }
    counting.cluster.kubectl("delete", "pod", "modest", "-n", counting.namespace, "--force", "--grace-period=0")


@pytest.mark.parametrize(
    ("requests", "parts"),
    [
        pytest.param({"cpu": "2"}, ["requests.cpu short (asks 2,", "size M would fit"], id="one resource"),
        pytest.param(
            {"cpu": "3", "memory": "7Gi"},
            [
                "limits.memory short (asks 7Gi,",
                "requests.cpu short (asks 3,",
                "requests.memory short (asks 7Gi,",
                "size L would fit",
            ],
            id="three resources",
        ),
        pytest.param(
            {"memory": "5e9"}, ["requests.memory short (asks 5e9,", "size M would fit"], id="with an exponent"
        ),
    ],
)
def test_a_pod_over_quota_is_refused_in_words_that_we_explain(
    counting: Standing, requests: dict[str, str], parts: list[str]
) -> None:
    said = counting.create(pod("greedy", **requests))
    explained = explain_quota(said.strip(), DEFAULT_SIZES)
    assert explained is not None, said
    assert [part for part in parts if part not in explained] == [], explained


# --- The definitions refuse what the models refuse

ENVIRONMENT: Manifest = {"project": "shop", "branch": "feature/x"}
PROJECT: Manifest = {"chart": {"local": {"path": "shop"}}}
SIZE: Manifest = {"cpu": "1", "memory": "1Gi", "memoryLimit": "1Gi", "pods": 1}
IDLE = "expire-after"

Row = tuple[str, Manifest, bool]
ROWS: list[Row] = [
    # Environments
    ("Environment", {}, True),
    ("Environment", {"revision": ""}, True),
    ("Environment", {"revision": "a" * 40}, True),
    ("Environment", {"revision": "0" * 64}, True),
    ("Environment", {"revision": "a" * 41}, False),
    ("Environment", {"revision": "A" * 40}, False),
    ("Environment", {"revision": "a" * 40 + "\n"}, False),
    ("Environment", {"branch": "日" * 255}, True),
    ("Environment", {"branch": "\N{PARTY POPPER}" * 255}, True),
    ("Environment", {"branch": "x" * 256}, False),
    ("Environment", {"branch": ""}, False),
    ("Environment", {"project": "Shop"}, False),
    ("Environment", {"project": "shop-"}, False),
    ("Environment", {"project": "shop\n"}, False),
    ("Environment", {"size": "M"}, True),
    ("Environment", {"size": "2XL"}, False),
    ("Environment", {"size": "x" * 21}, False),
    ("Environment", {"values": {"a": {"b": [1, None, "c"]}}}, True),
    ("Environment", {"values": ["a"]}, False),
    ("Environment", {"values": "a: b"}, False),
    ("Environment", {"pinned": True}, True),
    ("Environment", {"pinned": "maybe"}, False),
    ("Environment", {"unknown": 1}, False),
    ("Environment", {"lifetime": {"kind": "keep"}}, True),
    ("Environment", {"lifetime": {"kind": "keep", "idle": "P1D"}}, False),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "P7D", "warn": "PT12H"}}, True),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "P2W"}}, True),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "PT36H15M"}}, True),
    ("Environment", {"lifetime": {"kind": IDLE}}, False),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "7 days"}}, False),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "P1M"}}, False),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "P1.5D"}}, False),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "P0D"}}, False),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "-P1D"}}, False),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": "168h"}}, False),
    ("Environment", {"lifetime": {"kind": IDLE, "idle": 3600}}, False),
    ("Environment", {"lifetime": {"kind": "until", "at": "2026-12-24T18:00:00+09:00"}}, True),
    ("Environment", {"lifetime": {"kind": "until", "at": "2026-12-24T18:00:00.5Z", "warn": "P1D"}}, True),
    ("Environment", {"lifetime": {"kind": "until", "at": "2026-12-24T18:00:00"}}, False),
    ("Environment", {"lifetime": {"kind": "until", "at": "2026-12-24 18:00:00Z"}}, False),
    ("Environment", {"lifetime": {"kind": "until", "at": "2026-12-24T18:00Z"}}, False),
    ("Environment", {"lifetime": {"kind": "until", "at": "0000-12-24T18:00:00Z"}}, False),
    ("Environment", {"lifetime": {"kind": "until", "at": "2026-12-24T18:00:00+24:00"}}, False),
    ("Environment", {"lifetime": {"kind": "until", "at": "2026-02-30T00:00:00Z"}}, False),
    ("Environment", {"lifetime": {"kind": "until"}}, False),
    ("Environment", {"lifetime": {"kind": "until", "at": "2026-12-24T18:00:00Z", "idle": "P1D"}}, False),
    ("Environment", {"lifetime": {"kind": "never"}}, False),
    ("Environment", {"lifetime": {}}, False),
    # Projects
    ("Project", {}, True),
    ("Project", {"chart": {"git": {}}}, True),
    ("Project", {"chart": {"git": {"path": ""}}}, False),
    ("Project", {"chart": {}}, False),
    ("Project", {"chart": {"git": {}, "local": {"path": "x"}}}, False),
    ("Project", {"chart": {"oci": {"ref": "oci://r.example.com/c", "version": "1"}}}, True),
    ("Project", {"chart": {"oci": {"ref": "oci://r.example.com/c"}}}, False),
    ("Project", {"chart": {"oci": {"ref": "r.example.com/c", "version": "1"}}}, False),
    ("Project", {"chart": {"oci": {"ref": "oci://r /c", "version": "1"}}}, False),
    ("Project", {"chart": {"repository": {"url": "https://r.example.com", "name": "c", "version": "^1"}}}, True),
    ("Project", {"chart": {"repository": {"url": "ftp://r.example.com", "name": "c", "version": "1"}}}, False),
    ("Project", {"gitlab": {"project": "group/shop"}}, True),
    ("Project", {"gitlab": {"project": 7}}, True),
    ("Project", {"gitlab": {"project": 7.5}}, False),
    ("Project", {"gitlab": {"project": ["group/shop"]}}, False),
    ("Project", {"gitlab": {}}, False),
    ("Project", {"host": "{slug}.dev.example.com"}, True),
    ("Project", {"host": "https://{slug}.dev.example.com"}, False),
    ("Project", {"host": ""}, False),
    ("Project", {"sizes": {"default": "M", "allowed": ["S", "M"], "custom": {"XL": SIZE}}}, True),
    ("Project", {"sizes": {"custom": {"XL": SIZE | {"cpu": "1.5", "memory": "1536Mi"}}}}, True),
    ("Project", {"sizes": {"custom": {"XL": SIZE | {"cpu": "four"}}}}, False),
    ("Project", {"sizes": {"custom": {"XL": SIZE | {"cpu": "1e3"}}}}, False),
    ("Project", {"sizes": {"custom": {"XL": SIZE | {"cpu": "-1"}}}}, False),
    ("Project", {"sizes": {"custom": {"XL": SIZE | {"memory": "1gi"}}}}, False),
    ("Project", {"sizes": {"custom": {"XL": SIZE | {"cpu": 1}}}}, False),
    ("Project", {"sizes": {"custom": {"XL": SIZE | {"pods": 0}}}}, False),
    ("Project", {"sizes": {"custom": {"XL": SIZE | {"pods": 1001}}}}, False),
    ("Project", {"sizes": {"custom": {"XL": {"cpu": "1"}}}}, False),
    ("Project", {"sizes": {"custom": {f"X{number}": SIZE for number in range(21)}}}, False),
    ("Project", {"sizes": {"allowed": ["S"] * 21}}, False),
    ("Project", {"access": [{"group": "g"}, {"user": "u", "role": "view"}]}, True),
    ("Project", {"access": [{}]}, False),
    ("Project", {"access": [{"group": "g", "user": "u"}]}, False),
    ("Project", {"access": [{"group": "g", "role": "cluster-admin"}]}, False),
    ("Project", {"access": [{"group": ""}]}, False),
    ("Project", {"copySecrets": [{"namespace": "shared", "name": "tls", "imagePull": True}]}, True),
    ("Project", {"copySecrets": [{"name": "tls"}]}, False),
    ("Project", {"sharedServiceAccounts": [{"namespace": "shared", "name": "deployer"}]}, True),
    ("Project", {"sharedServiceAccounts": [{"namespace": "shared.x", "name": "deployer"}]}, False),
    ("Project", {"limits": {"environments": 1, "requests": {"cpu": "40"}}}, True),
    ("Project", {"limits": {"environments": 0}}, False),
    ("Project", {"limits": {"environments": 1.5}}, False),
    ("Project", {"limits": {"requests": {f"r{number}": "1" for number in range(11)}}}, False),
    ("Project", {"rules": [{"branches": ["*"], "action": "ignore"}]}, True),
    ("Project", {"rules": []}, True),
    ("Project", {"rules": [{"branches": []}]}, False),
    ("Project", {"rules": [{"branches": [""]}]}, False),
    ("Project", {"rules": [{"branches": ["x" * 256]}]}, False),
    ("Project", {"rules": [{"branches": ["*"] * 101}]}, False),
    ("Project", {"rules": [{"branches": ["*"], "action": "drop"}]}, False),
    ("Project", {"rules": [{"branches": ["*"], "lifetime": {"kind": IDLE}}]}, False),
    ("Project", {"rules": [{"branches": ["*"], "size": "2XL"}]}, False),
    ("Project", {"inject": False}, True),
    ("Project", {"values": {"a": 1}}, True),
    ("Project", {"unknown": 1}, False),
]
LAXER: list[tuple[str, Manifest]] = [
    # The models take other forms of a value than the API server; a record can never hold those.
    ("Environment", {"pinned": "yes"}),
    ("Environment", {"pinned": 1}),
    ("Project", {"limits": {"environments": "5"}}),
    ("Project", {"gitlab": {"project": True}}),
]
MODELS: dict[str, tuple[type[BaseModel], Manifest]] = {
    "Environment": (EnvironmentSpec, ENVIRONMENT),
    "Project": (ProjectSpec, PROJECT),
}


def _accepted_by_model(kind: str, spec: Manifest) -> bool:
    model, least = MODELS[kind]
    try:
        model.model_validate(least | spec)
    except ValidationError:
        return False
    return True


@pytest.fixture(scope="module")
def answers(cluster: Cluster) -> dict[int, Manifest]:
    """The specs that the API server would store, by number of their row; all asked in one go."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "k8s" / "crds"))
    for name in ("environments.envprov.io", "projects.envprov.io"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=120s")
    rows = [*((kind, spec) for kind, spec, _ in ROWS), *LAXER]
    manifests = [
        {
            "apiVersion": "envprov.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": f"row-{number}", "namespace": "default"},
            "spec": MODELS[kind][1] | spec,
        }
        for number, (kind, spec) in enumerate(rows)
    ]
    text = "\n---\n".join(json.dumps(manifest, ensure_ascii=False) for manifest in manifests)

    def asked() -> str:
        # A definition that was just changed is served by and by.
        said = cluster.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=text, check=False)
        return said if "no matches for kind" not in said else ""

    found: dict[int, Manifest] = {}
    decoder, said = json.JSONDecoder(), eventually(asked)
    at = said.find("{")
    while at >= 0 and said.startswith("{", at):
        item, at = decoder.raw_decode(said, at)
        for one in item.get("items", [item]):
            found[int(one["metadata"]["name"].removeprefix("row-"))] = one["spec"]
        at = len(said) - len(said[at:].lstrip())
    return found


@pytest.mark.parametrize(
    ("number", "row"),
    [pytest.param(number, row, id=f"{row[0]} {json.dumps(row[1])[:80]}") for number, row in enumerate(ROWS)],
)
def test_the_definitions_and_the_models_agree(answers: dict[int, Manifest], number: int, row: Row) -> None:
    kind, spec, good = row
    assert _accepted_by_model(kind, spec) is good, "the model"
    assert (number in answers) is good, "the API server"


@pytest.mark.parametrize(
    ("number", "row"), [pytest.param(len(ROWS) + number, row, id=str(row)) for number, row in enumerate(LAXER)]
)
def test_where_they_differ_the_definition_is_the_stricter_one(
    answers: dict[int, Manifest], number: int, row: tuple[str, Manifest]
) -> None:
    assert _accepted_by_model(*row)
    assert number not in answers


def test_whatever_is_stored_can_be_read(answers: dict[int, Manifest]) -> None:
    assert len(answers) == sum(good for _, _, good in ROWS)
    for number, stored in answers.items():
        MODELS[ROWS[number][0]][0].model_validate(stored)


def _apply(cluster: Cluster, manifest: Manifest) -> None:
    given = ("--server-side", "--force-conflicts", f"--field-manager={MANAGER}")
    cluster.kubectl("apply", *given, "-f", "-", input=json.dumps(manifest))
