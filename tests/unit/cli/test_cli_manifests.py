"""What installs envprov, without kubectl."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from envprov.cli.manifests import manifests, print_manifests
from envprov.cli.permissions import Permission, for_controller

ROOT = Path(__file__).parents[3]


def by_kind(kind: str, **changes: str) -> list[dict[str, Any]]:
    """Return all manifests of a kind."""
    return [manifest for manifest in manifests(**changes) if manifest["kind"] == kind]


def images(node: Any) -> set[str]:  # noqa: ANN401 - any JSON
    """Return every image, however deep."""
    if isinstance(node, dict):
        own = {node["image"]} if isinstance(node.get("image"), str) else set()
        return own.union(*(images(child) for child in node.values()))
    return set().union(*(images(child) for child in node)) if isinstance(node, list) else set()


def test_definitions_come_before_everything_that_needs_them() -> None:
    kinds = [manifest["kind"] for manifest in manifests()]
    assert kinds[:3] == ["CustomResourceDefinition", "CustomResourceDefinition", "Namespace"]


def test_the_image_is_the_one_of_the_kustomization_or_the_given_one() -> None:
    pods = ("Deployment", "CronJob")
    assert images([by_kind(kind) for kind in pods]) == {"registry.example.com/envprov:0.1.0"}
    assert images([by_kind(kind, image="other@sha256:00") for kind in pods]) == {"other@sha256:00"}


def test_another_namespace_is_everywhere_and_takes_no_rights_from_the_usual_one() -> None:
    moved = manifests(namespace="staging")
    assert "envprov-system" not in yaml.safe_dump_all(moved)
    assert [manifest["metadata"]["name"] for manifest in by_kind("Namespace", namespace="staging")] == ["staging"]
    bindings = {manifest["metadata"]["name"] for manifest in by_kind("ClusterRoleBinding", namespace="staging")}
    assert bindings == {"envprov-controller-staging", "envprov-guard-staging", "envprov-cleanup-staging"}
    assert {manifest["metadata"]["name"] for manifest in by_kind("ClusterRoleBinding")} == {
        "envprov-controller",
        "envprov-guard",
        "envprov-cleanup",
    }


def test_the_stream_is_what_was_built(capsys: pytest.CaptureFixture[str]) -> None:
    print_manifests("other:1", "staging")
    printed = capsys.readouterr().out
    assert tuple(yaml.safe_load_all(printed)) == manifests(image="other:1", namespace="staging")
    assert "&id" not in printed


def test_a_wheel_has_all_of_them_in_it() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    listed = yaml.safe_load((ROOT / "k8s" / "kustomization.yaml").read_text())["resources"]
    assert included == {f"k8s/{path}": f"envprov/manifests/{path}" for path in ["kustomization.yaml", *listed]}


def test_the_controllers_permissions_are_those_of_its_manifests() -> None:
    wanted = set(for_controller("staging"))
    assert Permission("watch", "", "pods") in wanted
    assert Permission("patch", "envprov.io", "environments/status", "staging") in wanted
    assert Permission("bind", "rbac.authorization.k8s.io", "clusterroles", None, "envprov-env-controller") in wanted
    assert not any(permission.verb == "impersonate" for permission in wanted), "that is only inside environments"
    assert str(Permission("get", "", "secrets", "staging", "pull")) == "get secrets pull in namespace staging"
