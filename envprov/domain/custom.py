"""
Custom resources that name ServiceAccounts: a table of the well-known ones, and discovery for all others.

A field is a path from the root of the object. In it ``*`` stands for every element of a list or value of a map, and
``**`` for any number of levels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.environment import GROUP
from envprov.domain.holds import Account
from envprov.domain.loose import Manifest, mapping, mappings, sequence, text, within
from envprov.domain.usage import EVERY

EACH = "*"
DEEP = "**"
NAMES = ("serviceAccountName", "serviceAccountRef", "serviceAccount")
"""Properties of a schema that name ServiceAccounts."""
NODES_LIMIT = 20_000
DEPTH_LIMIT = 40
FIELDS_LIMIT = 100
"""Beyond these bounds a schema is not walked: its objects are searched in full instead."""

_SUFFIXES = ("ServiceAccountName", "ServiceAccountRef")
_ACCOUNT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_USER = "system:serviceaccount:"
_OPAQUE = re.compile(r"(^spec|template|templatespec|podspec)$", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Field:
    """
    Where a custom resource names a ServiceAccount.

    Attributes:
        path: From the root of the object; its value is a name, ``namespace:name`` or ``{name, namespace}``.
        beside: Name of the field in the same object that has the namespace, if there is one.
        own: Whether the ServiceAccount is always in the namespace of the resource, whatever is written there.

    """

    path: tuple[str, ...]
    beside: str = ""
    own: bool = False

    def __str__(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class Custom:
    """
    A kind of custom resource that names ServiceAccounts.

    Attributes:
        api_version: Group and version in which it is listed.
        kind: Kind of one object.
        plural: Name of the resource in URLs and RBAC.
        namespaced: Whether its objects are in namespaces.
        fields: Where ServiceAccounts are named.
        ends: Whether an object runs once and then uses nothing any more.

    """

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    fields: tuple[Field, ...]
    ends: bool = False


_NAME = (Field(("spec", "serviceAccountName"), own=True),)
_ANYWHERE = (Field(("spec", DEEP, "serviceAccountName"), own=True),)
_TASKS = (*_ANYWHERE, Field(("spec", DEEP, "taskServiceAccountName"), own=True))
_VAULT = tuple(
    Field(("spec", *path), own=True)
    for path in (
        ("kubernetes", "serviceAccount"),
        ("jwt", "serviceAccount"),
        ("gcp", "workloadIdentityServiceAccount"),
        ("aws", "irsaServiceAccount"),
    )
)
_PROVIDER = (("spec", "provider", DEEP, "serviceAccountRef"), ("spec", "provider", DEEP, "serviceAccount"))
_ISSUER = ("spec", DEEP, "serviceAccountRef")
_DESTINATIONS = ("spec", "destinationServiceAccounts", EACH, "defaultServiceAccount")

KNOWN: Mapping[tuple[str, str], tuple[Field, ...]] = {
    # Only a store outside namespaces may name the namespace; without one it means that of each ExternalSecret.
    ("external-secrets.io", "SecretStore"): tuple(Field(path, own=True) for path in _PROVIDER),
    ("external-secrets.io", "ClusterSecretStore"): tuple(Field(path) for path in _PROVIDER),
    ("kustomize.toolkit.fluxcd.io", "Kustomization"): _NAME,
    ("helm.toolkit.fluxcd.io", "HelmRelease"): _NAME,
    ("argoproj.io", "AppProject"): (Field(_DESTINATIONS, beside="namespace"),),
    ("argoproj.io", "Workflow"): _ANYWHERE,
    ("argoproj.io", "CronWorkflow"): _ANYWHERE,
    ("argoproj.io", "WorkflowTemplate"): _ANYWHERE,
    ("argoproj.io", "ClusterWorkflowTemplate"): (Field(("spec", DEEP, "serviceAccountName")),),
    ("cert-manager.io", "Issuer"): (Field(_ISSUER, own=True),),
    ("cert-manager.io", "ClusterIssuer"): (Field(_ISSUER),),
    ("tekton.dev", "TaskRun"): _TASKS,
    ("tekton.dev", "PipelineRun"): _TASKS,
    ("serving.knative.dev", "Service"): _ANYWHERE,
    ("secrets.hashicorp.com", "VaultAuth"): _VAULT,
    ("bitnami.com", "SealedSecret"): (),
}
"""By group and kind."""

ENDS = {("argoproj.io", "Workflow"), ("tekton.dev", "TaskRun"), ("tekton.dev", "PipelineRun")}
"""Those that run once."""


def fields_of(crd: Manifest) -> Custom | None:
    """
    What a CustomResourceDefinition has to do with ServiceAccounts.

    Args:
        crd: The definition in full.

    Returns:
        By the table where it is known, by its OpenAPI schema otherwise; None if it names none, is not served, or is
        one of envprov's own.

    """
    spec = within(crd, "spec")
    names = within(spec, "names")
    group, kind, plural = text(spec.get("group")), text(names.get("kind")), text(names.get("plural"))
    if group == GROUP or not (group and kind and plural):
        return None
    namespaced = spec.get("scope") != "Cluster"
    served = [item for item in mappings(spec.get("versions")) if item.get("served") is True]
    for version in sorted(served, key=lambda item: item.get("storage") is not True):
        fields = KNOWN.get((group, kind))
        if fields is None:
            fields = _discovered(within(version, "schema", "openAPIV3Schema"), namespaced=namespaced)
        if fields:
            api_version = f"{group}/{text(version.get('name'))}"
            return Custom(api_version, kind, plural, namespaced, fields, ends=(group, kind) in ENDS)
    return None


def references(custom: Custom, item: Manifest) -> Iterator[tuple[Account, str]]:
    """
    The ServiceAccounts that one custom resource names, each with the field in words.

    Args:
        custom: Its kind.
        item: The object in full.

    Returns:
        An account whose namespace is ``EVERY`` where the resource is outside namespaces and names none.

    """
    status = within(item, "status")
    if custom.ends and (status.get("completionTime") or status.get("finishedAt")):
        return
    home = text(within(item, "metadata").get("namespace")) or EVERY
    for field in custom.fields:
        for parent, value in _found(item, field.path):
            name, given = _named(value)
            beside = text(parent.get(field.beside)) if field.beside else ""
            if _ACCOUNT_NAME.fullmatch(name):
                yield Account(home if field.own else _namespace(given or beside, home), name), str(field)


def _named(value: object) -> tuple[str, str]:
    """Name and namespace; either may be empty."""
    if isinstance(value, str):
        namespace, _, name = value.removeprefix(_USER).replace("/", ":").rpartition(":")
        return name, namespace
    return text(mapping(value).get("name")), text(mapping(value).get("namespace"))


def _namespace(given: str, home: str) -> str:
    """A pattern of namespaces may be any of them."""
    return EVERY if any(sign in given for sign in "*?[{!") else given or home


def _found(root: Manifest, path: tuple[str, ...]) -> Iterator[tuple[Mapping[str, Any], object]]:
    """Every value at a path, with the mapping around it; without recursion, for depth is up to who wrote it."""
    waiting: list[tuple[Mapping[str, Any], object, int]] = [({}, root, 0)]
    while waiting:
        parent, node, index = waiting.pop()
        if index == len(path):
            yield parent, node
            continue
        here = mapping(node)
        match path[index]:
            case "**":
                waiting.append((parent, node, index + 1))
                waiting.extend((here, child, index) for child in _children(node))
            case "*":
                waiting.extend((here, child, index + 1) for child in _children(node))
            case key:
                waiting.extend((here, here[name], index + 1) for name in (key,) if name in here)


def _children(node: object) -> Iterator[object]:
    yield from mapping(node).values()
    yield from sequence(node)


def _discovered(schema: Mapping[str, Any], *, namespaced: bool) -> tuple[Field, ...]:
    """Fields by the schema. What is out of bounds, or says nothing about what is in it, is searched in full."""
    fields: list[Field] = []
    waiting: list[tuple[Mapping[str, Any], tuple[str, ...]]] = [
        (mapping(sub), (name,))
        for name, sub in within(schema, "properties").items()
        if name not in {"metadata", "status"}
    ]
    visited = 0
    while waiting:
        node, path = waiting.pop()
        visited += 1
        if visited > NODES_LIMIT or len(path) > DEPTH_LIMIT or len(fields) > FIELDS_LIMIT:
            return _anywhere((), namespaced=namespaced)
        properties = within(node, "properties")
        if _names_account(path[-1], node):
            fields.append(Field(path))
            continue
        if node.get("x-kubernetes-preserve-unknown-fields") is True and not properties and _OPAQUE.search(path[-1]):
            fields.extend(_anywhere(path, namespaced=namespaced))
        for name, sub in properties.items():
            if _names_account(name, mapping(sub)):
                fields.append(Field((*path, name), beside=_beside(properties, namespaced=namespaced)))
            else:
                waiting.append((mapping(sub), (*path, name)))
        waiting.extend(
            (mapping(node[inner]), (*path, EACH))
            for inner in ("items", "additionalProperties")
            if mapping(node.get(inner))
        )
    return tuple(fields)


def _anywhere(path: tuple[str, ...], *, namespaced: bool) -> tuple[Field, ...]:
    return tuple(Field((*path, DEEP, name), beside="" if namespaced else "namespace") for name in NAMES)


def _beside(properties: Mapping[str, Any], *, namespaced: bool) -> str:
    """A plain ``namespace`` means something else more often than not where the resource has a namespace of its own."""
    candidates = ("serviceAccountNamespace",) if namespaced else ("serviceAccountNamespace", "namespace")
    return next((name for name in candidates if name in properties), "")


def _names_account(name: str, schema: Mapping[str, Any]) -> bool:
    if name not in NAMES and not name.endswith(_SUFFIXES):
        return False
    properties = within(schema, "properties")
    return schema.get("type") == "string" or "name" in properties or (schema.get("type") == "object" and not properties)
