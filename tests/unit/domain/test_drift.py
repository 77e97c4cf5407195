"""Drift: what somebody changed is seen, what is theirs is left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from envprov.domain import objects
from envprov.domain.drift import drifted
from envprov.domain.objects import Manifest
from tests.unit.builders import IDENTITY, desired, platform, rich_project, stored

D = desired(rich_project(), platform(network={"shared_namespaces": ["databases"]}))
POLICIES = {policy["metadata"]["name"]: policy for policy in objects.network_policies(D)}
DENY, SAME, DNS = (POLICIES[f"envprov-{name}"] for name in ("default-deny", "same-namespace", "dns"))
ACCESS = objects.access(D)[0]
(PULL,) = objects.pull_account(D)
SECRET = objects.secret_copy(
    IDENTITY, {"metadata": {"name": "tls"}, "type": "Opaque", "data": {"a": "YQ==", "b": "Yg=="}}
)
EMPTY_SECRET = objects.secret_copy(IDENTITY, {"metadata": {"name": "empty"}})

Path = tuple[str | int, ...]
GONE = object()


def edited(manifest: Manifest, path: Path, value: Any) -> Manifest:  # noqa: ANN401 - any JSON
    """Return the stored object after somebody's edit; GONE takes a field away."""
    live = copy.deepcopy(stored(manifest))
    place: Any = live
    for part in path[:-1]:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return live


EVERYTHING = [
    objects.namespace(D),
    objects.own_access(IDENTITY, "envprov"),
    objects.limit_range(D),
    objects.quota(D),
    *POLICIES.values(),
    *objects.access(D),
    *objects.installer(IDENTITY),
    PULL,
    SECRET,
]


@pytest.mark.parametrize("manifest", EVERYTHING, ids=lambda item: f"{item['kind']} {item['metadata']['name']}")
def test_what_was_stored_has_not_drifted(manifest: Manifest) -> None:
    assert not drifted(manifest, stored(manifest))


@pytest.mark.parametrize("manifest", EVERYTHING, ids=lambda item: f"{item['kind']} {item['metadata']['name']}")
def test_what_lost_our_label_has_drifted(manifest: Manifest) -> None:
    assert drifted(manifest, edited(manifest, ("metadata", "labels"), {}))
    assert drifted(manifest, edited(manifest, ("metadata", "labels"), GONE))


@pytest.mark.parametrize(
    ("manifest", "path", "value"),
    [
        pytest.param(objects.namespace(D), ("metadata", "labels", "team"), "a", id="label of a namespace"),
        pytest.param(DENY, ("metadata", "labels", "team"), "a", id="label"),
        pytest.param(DENY, ("metadata", "annotations"), {"team": "a"}, id="annotation"),
        pytest.param(SECRET, ("data", "c"), "Yw==", id="key of a Secret"),
        pytest.param(objects.quota(D), ("spec", "hard", "limits.cpu"), "1", id="one more quota"),
        pytest.param(objects.quota(D), ("spec", "hard", "requests.cpu"), "1000m", id="1 is 1000m"),
        pytest.param(objects.limit_range(D), ("spec", "limits", 0, "max", "memory"), "8192Mi", id="8Gi is 8192Mi"),
        pytest.param(DENY, ("status",), {"conditions": []}, id="status"),
        pytest.param(PULL, ("secrets",), [{"name": "token"}], id="a field that we never said"),
    ],
)
def test_what_is_theirs_is_no_drift(manifest: Manifest, path: Path, value: object) -> None:
    assert not drifted(manifest, edited(manifest, path, value))


@pytest.mark.parametrize(
    ("manifest", "path", "value"),
    [
        pytest.param(objects.namespace(D), ("metadata", "labels", "envprov.io/guard"), "sa", id="guard label"),
        pytest.param(
            objects.namespace(D),
            ("metadata", "labels", "pod-security.kubernetes.io/enforce"),
            "privileged",
            id="Pod Security",
        ),
        pytest.param(objects.namespace(D), ("metadata", "annotations", "envprov.io/branch"), "x", id="branch"),
        pytest.param(DENY, ("spec", "podSelector"), {"matchLabels": {"a": "b"}}, id="default-deny for a few pods"),
        pytest.param(DENY, ("spec", "policyTypes"), ["Ingress"], id="default-deny one way"),
        pytest.param(DENY, ("spec", "egress"), [{}], id="default-deny with a hole"),
        pytest.param(DENY, ("spec", "ingress"), [{}], id="default-deny with a door"),
        pytest.param(SAME, ("spec", "egress"), [*SAME["spec"]["egress"], {}], id="one more egress rule"),
        pytest.param(SAME, ("spec", "ingress", 0, "from", 0, "namespaceSelector"), {}, id="from all namespaces"),
        pytest.param(SAME, ("spec", "ingress", 0, "from"), GONE, id="from anywhere"),
        pytest.param(DNS, ("spec", "egress", 0, "ports", 0, "port"), 443, id="another port"),
        pytest.param(DNS, ("spec", "egress", 0, "ports"), GONE, id="all ports"),
        pytest.param(DNS, ("spec", "ingress"), [{}], id="the direction that a policy is not about"),
        pytest.param(
            POLICIES["envprov-internet"],
            ("spec", "egress", 0, "to", 0, "ipBlock", "except"),
            [],
            id="private addresses",
        ),
        pytest.param(
            ACCESS, ("subjects",), [*ACCESS["subjects"], {"kind": "User", "name": "eve"}], id="one more subject"
        ),
        pytest.param(ACCESS, ("subjects",), GONE, id="no subject"),
        pytest.param(ACCESS, ("roleRef", "name"), "admin", id="another role"),
        pytest.param(objects.quota(D), ("spec", "hard", "requests.cpu"), "100", id="quota"),
        pytest.param(objects.quota(D), ("spec", "hard", "pods"), GONE, id="quota gone"),
        pytest.param(objects.quota(D), ("spec", "scopes"), ["BestEffort"], id="scope of the quota"),
        pytest.param(objects.limit_range(D), ("spec", "limits", 0, "max", "cpu"), "64", id="maximum"),
        pytest.param(objects.limit_range(D), ("spec", "limits"), [], id="no limits"),
        pytest.param(PULL, ("imagePullSecrets",), [{"name": "other"}], id="pull secret"),
        pytest.param(
            objects.installer(IDENTITY)[0], ("automountServiceAccountToken",), True, id="token of the installer"
        ),
        pytest.param(SECRET, ("data", "a"), "Yg==", id="value in a Secret"),
        pytest.param(SECRET, ("data", "a"), GONE, id="key of a Secret gone"),
        pytest.param(SECRET, ("type",), "kubernetes.io/tls", id="type of a Secret"),
    ],
)
def test_what_somebody_changed_is_drift(manifest: Manifest, path: Path, value: object) -> None:
    assert drifted(manifest, edited(manifest, path, value))


def test_a_key_that_the_original_lost_is_drift() -> None:
    live = stored(SECRET)
    smaller = objects.secret_copy(IDENTITY, {"metadata": {"name": "tls"}, "type": "Opaque", "data": {"a": "YQ=="}})
    assert drifted(smaller, live)


def test_a_secret_without_data_is_in_sync() -> None:
    live = stored(EMPTY_SECRET)
    del live["data"]  # the API server leaves out a map that is empty
    assert not drifted(EMPTY_SECRET, live)


def test_every_policy_says_both_lists_so_that_what_is_added_to_either_can_be_taken_back() -> None:
    said = {name: {"ingress", "egress"} <= policy["spec"].keys() for name, policy in POLICIES.items()}
    assert said == dict.fromkeys(
        [
            "envprov-default-deny",
            "envprov-same-namespace",
            "envprov-dns",
            "envprov-ingress",
            "envprov-shared",
            "envprov-internet",
        ],
        True,
    )
