"""The CustomResourceDefinitions on a real API server: they explain themselves, show columns, and refuse nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.eventually import eventually

ROOT = Path(__file__).parent.parent.parent

Manifest = dict[str, Any]

pytestmark = pytest.mark.usefixtures("definitions")


@pytest.fixture(scope="module")
def definitions(cluster: Cluster) -> None:
    """Both definitions, served."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "k8s" / "crds"))
    for name in ("environments.envprov.io", "projects.envprov.io"):
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=120s")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param(
            "environment.spec.lifetime",
            ["keep", "expire-after", "until", "P7D", "time zone", "enum: keep, expire-after, until"],
            id="lifetime",
        ),
        pytest.param(
            "environment.spec", ["branch", "-required-", "Commit that is wanted", "cannot be changed"], id="spec"
        ),
        pytest.param("environment.status", ["conditions", "waits for room", "When the environment ends"], id="status"),
        pytest.param("project.spec.chart", ["git", "oci", "repository", "local"], id="chart"),
        pytest.param("project.spec.rules", ["branches", "Globs", "action", "create, ignore"], id="rules"),
    ],
)
def test_definitions_explain_themselves(cluster: Cluster, path: str, words: list[str]) -> None:
    said = eventually(lambda: cluster.kubectl("explain", path), message=f"{path} is not explained")
    flowing = " ".join(said.split())
    assert not [word for word in words if word not in flowing], said
    assert "<no description>" not in said


def test_short_names_and_columns(cluster: Cluster, control_namespace: str) -> None:
    _create(cluster, _environment(control_namespace, name="a-12345678", branch="feature/a"))
    _create(cluster, _project(control_namespace, gitlab={"project": "group/shop"}, host="{slug}.dev.example.com"))
    cluster.kubectl(
        *("patch", "env", "a-12345678", "-n", control_namespace, "--subresource=status", "--type=merge", "-p"),
        json.dumps(
            {
                "status": {
                    "size": "S",
                    "url": "https://a-12345678.dev.example.com",
                    "expiresAt": "2026-12-24T18:00:00Z",
                    "conditions": [
                        {
                            "type": "Ready",
                            "status": "False",
                            "reason": "Deploying",
                            "message": "installs release a",
                            "lastTransitionTime": "2026-12-01T00:00:00Z",
                        }
                    ],
                }
            }
        ),
    )
    head, row = cluster.kubectl("get", "env", "-n", control_namespace).splitlines()
    assert head.split() == ["NAME", "BRANCH", "PHASE", "SIZE", "AGE", "EXPIRES", "URL"]
    assert row.split()[:4] == ["a-12345678", "feature/a", "Deploying", "S"]
    assert row.split()[5:] == ["2026-12-24T18:00:00Z", "https://a-12345678.dev.example.com"]
    wide = cluster.kubectl("get", "env", "-n", control_namespace, "-o", "wide")
    assert wide.splitlines()[0].split()[-3:] == ["PROJECT", "REVISION", "MESSAGE"]
    assert "installs release a" in wide
    head, row = cluster.kubectl("get", "eproj", "-n", control_namespace).splitlines()
    assert head.split() == ["NAME", "GITLAB", "HOST", "SIZE", "SYNCED", "HOOK", "AGE"]
    assert row.split()[:4] == ["shop", "group/shop", "{slug}.dev.example.com", "S"]
    both = cluster.kubectl("get", "envprov", "-n", control_namespace, "-o", "name").split()
    assert both == ["environment.envprov.io/a-12345678", "project.envprov.io/shop"]


def test_status_and_spec_are_written_apart(cluster: Cluster, control_namespace: str) -> None:
    name = "a-12345678"
    _create(cluster, _environment(control_namespace, name=name) | {"status": {"size": "L"}})
    assert "size" not in _get(cluster, "env", name, "-n", control_namespace).get("status", {})
    patch = json.dumps({"spec": {"pinned": True}, "status": {"size": "M"}})
    for subresource in ([], ["--subresource=status"]):
        cluster.kubectl("patch", "env", name, "-n", control_namespace, "--type=merge", "-p", patch, *subresource)
        found = _get(cluster, "env", name, "-n", control_namespace)
        assert found["spec"]["pinned"] is True
        assert found["metadata"]["generation"] == 2  # which a report does not change
        assert found.get("status", {}).get("size") == ("M" if subresource else None)


@pytest.mark.parametrize("field", ["project", "branch"])
def test_who_an_environment_is_cannot_be_changed(cluster: Cluster, control_namespace: str, field: str) -> None:
    name = "a-12345678"
    _create(cluster, _environment(control_namespace, name=name))
    patch = json.dumps({"spec": {field: "other"}})
    said = cluster.kubectl("patch", "env", name, "-n", control_namespace, "--type=merge", "-p", patch, check=False)
    assert f"spec.{field} cannot be changed" in said


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        pytest.param({"kind": "keep", "idle": "P1D"}, "spec.lifetime: Invalid value: keep takes no idle", id="keep"),
        pytest.param({"kind": "expire-after"}, "expire-after needs idle", id="expire-after without idle"),
        pytest.param(
            {"kind": "expire-after", "idle": "P1D", "at": "2026-12-24T18:00:00Z"},
            "takes no at",
            id="expire-after with at",
        ),
        pytest.param({"kind": "until"}, "until needs at", id="until without at"),
        pytest.param(
            {"kind": "until", "at": "2026-12-24T18:00:00Z", "idle": "P1D"}, "takes no idle", id="until with idle"
        ),
        pytest.param({"kind": "never"}, 'supported values: "keep", "expire-after", "until"', id="unknown kind"),
        pytest.param({"kind": "until", "at": "tomorrow"}, "spec.lifetime.at", id="no date"),
        pytest.param({"kind": "until", "at": "2026-12-24T18:00:00"}, "spec.lifetime.at", id="no time zone"),
        pytest.param({"kind": "expire-after", "idle": "7 days"}, "ISO 8601 duration", id="no duration"),
        pytest.param({"kind": "expire-after", "idle": "P1M"}, "ISO 8601 duration", id="months have no length"),
        pytest.param({"kind": "expire-after", "idle": "PT0S"}, "longer than nothing", id="no time at all"),
    ],
)
def test_lifetimes_that_make_no_sense_are_refused(
    cluster: Cluster, control_namespace: str, spec: Manifest, complaint: str
) -> None:
    said = _create(cluster, _environment(control_namespace, lifetime=spec), check=False)
    assert "is invalid" in said
    assert complaint in said


@pytest.mark.parametrize(
    "lifetime",
    [
        pytest.param({"kind": "keep"}, id="keep"),
        pytest.param({"kind": "expire-after", "idle": "P7D", "warn": "PT12H"}, id="expire-after"),
        pytest.param({"kind": "expire-after", "idle": "P1DT12H30M"}, id="days and hours"),
        pytest.param({"kind": "until", "at": "2026-12-24T18:00:00+09:00", "warn": "P1D"}, id="until"),
        pytest.param({"kind": "until", "at": "2026-12-24T18:00:00.123456Z"}, id="with microseconds"),
    ],
)
def test_lifetimes_that_make_sense_are_accepted(cluster: Cluster, control_namespace: str, lifetime: Manifest) -> None:
    _create(cluster, _environment(control_namespace, lifetime=lifetime))


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        pytest.param({"chart": {}}, "give exactly one of git, oci, repository and local", id="no chart"),
        pytest.param(
            {"chart": {"git": {}, "local": {"path": "x"}}},
            "give exactly one of git, oci, repository and local",
            id="two charts",
        ),
        pytest.param(
            {"chart": {"oci": {"ref": "oci://r/c"}}}, "spec.chart.oci.version: Required value", id="no version"
        ),
        pytest.param({"chart": {"oci": {"ref": "r/c", "version": "1"}}}, "spec.chart.oci.ref", id="no oci://"),
        pytest.param({"access": [{"role": "edit"}]}, "give exactly one of group and user", id="access for nobody"),
        pytest.param(
            {"access": [{"group": "g", "user": "u"}]}, "give exactly one of group and user", id="access for two"
        ),
        pytest.param({"access": [{"user": "u", "role": "root"}]}, '"view", "edit", "admin"', id="unknown role"),
        pytest.param({"limits": {"requests": {"cpu": "many"}}}, "is not a quantity such as 500m or 4Gi", id="many"),
        pytest.param({"limits": {"requests": {"cpu": "-1"}}}, "spec.limits.requests.cpu", id="a negative quantity"),
        pytest.param(
            {"sizes": {"custom": {"XL": {"cpu": "4 cores", "memory": "1Gi", "memoryLimit": "1Gi", "pods": 1}}}},
            "is not a quantity such as 500m or 4Gi",
            id="no quantity in a size",
        ),
        pytest.param({"sizes": {"custom": {"XL": {"cpu": "4"}}}}, "memory: Required value", id="half a size"),
        pytest.param(
            {"rules": [{"branches": ["*"], "lifetime": {"kind": "expire-after"}}]},
            "expire-after needs idle",
            id="in a rule",
        ),
        pytest.param({"rules": [{"branches": []}]}, "spec.rules[0].branches", id="a rule for nothing"),
        pytest.param({"rules": [{"branches": ["*"], "action": "drop"}]}, '"create", "ignore"', id="unknown action"),
    ],
)
def test_projects_that_make_no_sense_are_refused(
    cluster: Cluster, control_namespace: str, spec: Manifest, complaint: str
) -> None:
    said = _create(cluster, _project(control_namespace, **spec), check=False)
    assert "is invalid" in said
    assert complaint in said


def test_a_small_project_gets_its_defaults(cluster: Cluster, control_namespace: str) -> None:
    _create(cluster, _project(control_namespace))
    spec = _get(cluster, "eproj", "shop", "-n", control_namespace)["spec"]
    assert spec["rules"] == [{"branches": ["*"], "action": "create", "priority": 0, "values": {}}]
    assert spec["sizes"] == {"default": "S", "allowed": ["S"], "custom": {}}
    assert spec["inject"] is True


def test_a_word_that_no_field_has_is_refused(cluster: Cluster, control_namespace: str) -> None:
    said = _create(cluster, _environment(control_namespace, lifetyme={"kind": "keep"}), check=False)
    assert 'unknown field "spec.lifetyme"' in said


def _get(cluster: Cluster, *what: str) -> Manifest:
    found: Manifest = json.loads(cluster.kubectl("get", *what, "-o", "json"))
    return found


def _environment(namespace: str, name: str = "a-12345678", branch: str = "a", **spec: Any) -> Manifest:  # noqa: ANN401
    return {
        "apiVersion": "envprov.io/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"project": "shop", "branch": branch} | spec,
    }


def _project(namespace: str, **spec: Any) -> Manifest:  # noqa: ANN401 - any field
    return {
        "apiVersion": "envprov.io/v1alpha1",
        "kind": "Project",
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": {"chart": {"local": {"path": "environment"}}} | spec,
    }


def _create(cluster: Cluster, manifest: Manifest, *, check: bool = True) -> str:
    return cluster.kubectl("create", "-f", "-", input=json.dumps(manifest), check=check)
