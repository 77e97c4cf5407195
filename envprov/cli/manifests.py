"""``manifests``: what to ``kubectl apply`` to install envprov. It needs neither kubectl nor a cluster."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

import envprov
from envprov.cli.exits import ExitCode
from envprov.domain.errors import ConfigError

NAMESPACE = "envprov-system"
"""The namespace that the manifests are written for."""

Manifest = dict[str, Any]


class _Plain(yaml.SafeDumper):
    """Keeps texts of several lines readable, and writes the same object twice instead of an alias."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _text)


def print_manifests(image: str | None, namespace: str | None) -> ExitCode:
    """
    Print everything as one stream of YAML.

    Args:
        image: The container image; None for the one that the manifests name.
        namespace: The control namespace; None for the usual one.

    """
    found = manifests(image=image, namespace=namespace or NAMESPACE)
    yaml.dump_all(found, sys.stdout, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120, explicit_start=True)
    return ExitCode.DONE


def manifests(*, image: str | None = None, namespace: str = NAMESPACE) -> tuple[Manifest, ...]:
    """
    Everything that installs envprov, in the order in which it can be applied.

    Args:
        image: The container image; None for the one that the manifests name.
        namespace: The control namespace. One that is not the usual one also gets cluster-wide bindings of its own,
            so that two installations in one cluster do not take each other's rights away.

    Raises:
        ConfigError: This installation of envprov is not whole.

    """
    folder = _folder()
    kustomization = _load(folder, "kustomization.yaml")[0]
    images = {entry["name"]: _reference(entry) for entry in kustomization.get("images", ())}
    if image is not None:
        images = dict.fromkeys(images, image)
    found = tuple(manifest for path in kustomization["resources"] for manifest in _load(folder, path))
    for manifest in found:
        _move(manifest, namespace)
        for container in _containers(manifest):
            container["image"] = images.get(container["image"], container["image"])
    return found


def _folder() -> Traversable:
    # In a wheel the manifests are part of the package; in a checkout they are beside it.
    for folder in (resources.files(envprov) / "manifests", Path(envprov.__file__).parent.parent / "k8s"):
        if (folder / "kustomization.yaml").is_file():
            return folder
    raise ConfigError("this installation of envprov has no manifests in it; install it again, from its wheel")


def _load(folder: Traversable, path: str) -> list[Manifest]:
    text = folder.joinpath(*path.split("/")).read_text(encoding="utf-8")
    return [document for document in yaml.safe_load_all(text) if document]


def _reference(entry: Mapping[str, Any]) -> str:
    name = entry.get("newName", entry["name"])
    if "digest" in entry:
        return f"{name}@{entry['digest']}"
    return f"{name}:{entry['newTag']}" if "newTag" in entry else str(name)


def _move(manifest: Manifest, namespace: str) -> None:
    metadata = manifest["metadata"]
    if metadata.get("namespace") == NAMESPACE:
        metadata["namespace"] = namespace
    if manifest["kind"] == "Namespace" and metadata["name"] == NAMESPACE:
        metadata["name"] = namespace
    for subject in manifest.get("subjects", ()):
        if subject.get("namespace") == NAMESPACE:
            subject["namespace"] = namespace
    if manifest["kind"] == "ClusterRoleBinding" and namespace != NAMESPACE:
        metadata["name"] += f"-{namespace}"


def _containers(node: object) -> Iterator[Manifest]:
    """Every container, however deep: pods stand in Deployments as in CronJobs."""
    if isinstance(node, dict):
        for key in ("initContainers", "containers"):
            found = node.get(key)
            yield from (entry for entry in found or () if isinstance(entry, dict) and "image" in entry)
        for child in node.values():
            yield from _containers(child)
    elif isinstance(node, list):
        for child in node:
            yield from _containers(child)
