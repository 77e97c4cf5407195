"""
CustomResourceDefinitions from the models, so that neither can say what the other does not.

The API server takes structural schemas only: no references, no unions, no ``additionalProperties``
beside ``properties``. Unions by ``kind`` become one object with a CEL rule for each member.

Source: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from envprov.domain.environment import GROUP, VERSION, EnvironmentSpec, EnvironmentStatus
from envprov.domain.project import ProjectSpec
from envprov.domain.project_status import ProjectStatus

Schema = dict[str, Any]

_DROPPED = frozenset({"title", "additionalProperties", "discriminator", "const", "exclusiveMinimum", "$defs"})
_RFC3339_LIMIT = 35


def environment_definition() -> Schema:
    """The CRD of Environments, ready to apply."""
    spec = _structural(EnvironmentSpec)
    spec["x-kubernetes-validations"] = [
        {"rule": f"self.{field} == oldSelf.{field}", "message": f"spec.{field} cannot be changed"}
        for field in ("project", "branch")
    ]
    columns = [
        ("Branch", "string", ".spec.branch", 0, "Branch name in full"),
        ("Phase", "string", '.status.conditions[?(@.type=="Ready")].reason', 0, "One word for where it stands"),
        ("Size", "string", ".status.size", 0, "Size that is in force"),
        ("Age", "date", ".metadata.creationTimestamp", 0, "Time since the record was made"),
        ("Expires", "string", ".status.expiresAt", 0, "When it ends by itself"),
        ("URL", "string", ".status.url", 0, "Where it answers"),
        ("Project", "string", ".spec.project", 1, "Project it belongs to"),
        ("Revision", "string", ".status.observedRevision", 1, "Commit that is deployed"),
        ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1, "The cause in words"),
    ]
    return _definition(
        kind="Environment",
        short_name="env",
        description="One branch and its environment in the cluster. Deleting this object tears the environment down.",
        spec=spec,
        status=_structural(EnvironmentStatus),
        columns=columns,
    )


def project_definition() -> Schema:
    """The CRD of Projects, ready to apply."""
    columns = [
        ("GitLab", "string", ".spec.gitlab.project", 0, "Path or id in GitLab"),
        ("Host", "string", ".spec.host", 0, "Host name of an environment"),
        ("Size", "string", ".spec.sizes.default", 0, "Size by default"),
        ("Synced", "string", '.status.conditions[?(@.type=="Synced")].reason', 0, "Whether its branches are in step"),
        ("Hook", "string", '.status.conditions[?(@.type=="HookHealthy")].reason', 0, "Whether GitLab delivers"),
        ("Age", "date", ".metadata.creationTimestamp", 0, "Time since it was made"),
        ("Message", "string", '.status.conditions[?(@.type=="Synced")].message', 1, "The cause in words"),
    ]
    return _definition(
        kind="Project",
        short_name="eproj",
        description="One GitLab project, and the rules by which its branches get environments.",
        spec=_structural(ProjectSpec),
        status=_structural(ProjectStatus),
        columns=columns,
    )


def _definition(  # noqa: PLR0913 - the six parts in which the two definitions differ
    *,
    kind: str,
    short_name: str,
    description: str,
    spec: Schema,
    status: Schema,
    columns: list[tuple[str, str, str, int, str]],
) -> Schema:
    plural = f"{kind.lower()}s"
    properties = {
        "apiVersion": {"type": "string", "description": f"Version of this schema: {GROUP}/{VERSION}."},
        "kind": {"type": "string", "description": f"Kind of the object: {kind}."},
        "metadata": {"type": "object"},  # anything more is refused: the API server knows it
    }
    version: Schema = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": of, "jsonPath": path, "priority": priority, "description": text}
            for name, of, path, priority, text in columns
        ],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": description,
                "required": ["spec"],
                "properties": {**properties, "spec": spec, "status": status},
            }
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {"app.kubernetes.io/name": "envprov"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short_name],
                "categories": ["envprov"],
            },
            "versions": [version],
        },
    }


def _structural(model: type[BaseModel]) -> Schema:
    raw = model.model_json_schema(by_alias=True)
    return _convert(raw, raw.get("$defs", {}))


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        return _convert({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    if "anyOf" in node:
        return _optional(node, definitions)
    if "oneOf" in node:
        return _union(node, definitions)
    return _plain(node) | _children(node, definitions)


def _children(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    open_map = node.get("additionalProperties")
    children: Schema = {}
    if "properties" in node:
        children["properties"] = {name: _convert(child, definitions) for name, child in node["properties"].items()}
    elif isinstance(open_map, Mapping):
        children["additionalProperties"] = _convert(open_map, definitions)
    if "items" in node:
        children["items"] = _convert(node["items"], definitions)
    return children


def _plain(node: Mapping[str, Any]) -> Schema:
    schema: Schema = {key: value for key, value in node.items() if key not in _DROPPED}
    if "const" in node:
        schema |= {"type": "string", "enum": [node["const"]]}
    if "default" in schema:
        schema["default"] = _said(schema["default"])
        if schema["default"] is None:
            del schema["default"]
    if schema.get("format") == "date-time":
        schema["maxLength"] = _RFC3339_LIMIT
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return schema


def _said(default: Any) -> Any:  # noqa: ANN401 - any JSON
    """A default without what it leaves out: to the API server null is a value."""
    if isinstance(default, Mapping):
        return {key: _said(value) for key, value in default.items() if value is not None}
    return [_said(value) for value in default] if isinstance(default, list) else default


def _optional(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """``X | None`` is X that may be left out; the API has no other unions."""
    (inner,) = (choice for choice in node["anyOf"] if choice.get("type") != "null")
    beside = {key: value for key, value in node.items() if key not in {"anyOf", "default"}}
    return _convert({**inner, **beside}, definitions)


def _union(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """One object with the properties of all members; CEL says which of them belong to which kind."""
    members = [_convert(choice, definitions) for choice in node["oneOf"]]
    kinds = [member["properties"]["kind"]["enum"][0] for member in members]
    properties: dict[str, Schema] = {}
    for member in members:
        properties |= {name: child for name, child in member["properties"].items() if name != "kind"}
    rules = []
    for kind, member in zip(kinds, members, strict=True):
        required = [name for name in member.get("required", ()) if name != "kind"]
        foreign = [name for name in properties if name not in member["properties"]]
        facts = [f"has(self.{name})" for name in required] + [f"!has(self.{name})" for name in foreign]
        says = [f"needs {name}" for name in required] + [f"takes no {name}" for name in foreign]
        rules.append(
            {"rule": f"self.kind != '{kind}' || ({' && '.join(facts)})", "message": f"{kind} {', '.join(says)}"}
        )
    return {
        "type": "object",
        "description": " ".join(str(node.get("description", "")).split()),
        "required": ["kind"],
        "properties": {
            "kind": {"type": "string", "enum": kinds, "description": f"One of {', '.join(kinds)}."},
            **properties,
        },
        "x-kubernetes-validations": rules,
    }
