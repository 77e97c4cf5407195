"""The definitions are structural, explain themselves, and have a rule for what a schema cannot say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from envprov.domain.schema import environment_definition, project_definition

Schema = dict[str, Any]

DEFINITIONS = {"environments": environment_definition(), "projects": project_definition()}
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "not", "const", "discriminator", "title", "exclusiveMinimum"}


def schema_of(definition: Schema) -> Schema:
    found: Schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(schema.get(keyword), dict):
            yield from nodes(schema[keyword], f"{path}.{keyword}")


ALL = [
    pytest.param(path, node, id=f"{name}{path}")
    for name, definition in DEFINITIONS.items()
    for path, node in nodes(schema_of(definition))
]


@pytest.mark.parametrize(("path", "node"), ALL)
def test_every_node_is_structural(path: str, node: Schema) -> None:
    assert not FORBIDDEN & node.keys(), path
    assert not {"properties", "additionalProperties"} <= node.keys(), path
    assert "type" in node or node.get("x-kubernetes-int-or-string"), path
    if node.get("type") == "object" and path:
        says = {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"} & node.keys()
        assert says or path == ".metadata", f"{path} would lose what stands in it"
    if "default" in node:
        assert node["default"] is not None, path


@pytest.mark.parametrize(("path", "node"), ALL)
def test_every_property_has_a_description(path: str, node: Schema) -> None:
    silent = [name for name, child in node.get("properties", {}).items() if not child.get("description", "").strip()]
    assert silent == (["metadata"] if path == "" else [])  # which the API server lets nobody describe


@pytest.mark.parametrize(("path", "node"), ALL)
def test_what_rules_look_at_is_bounded(path: str, node: Schema) -> None:
    """The API server refuses rules whose cost it cannot estimate."""
    if path.startswith(".spec") and node.get("type") == "array":
        assert "maxItems" in node, path
    if node.get("type") == "string" and "x-kubernetes-validations" in node:
        assert "maxLength" in node, path


def test_a_union_is_one_object_with_a_rule_for_each_kind() -> None:
    lifetime = schema_of(DEFINITIONS["environments"])["properties"]["spec"]["properties"]["lifetime"]
    assert sorted(lifetime["properties"]) == ["at", "idle", "kind", "warn"]
    assert lifetime["properties"]["kind"]["enum"] == ["keep", "expire-after", "until"]
    assert lifetime["x-kubernetes-validations"] == [
        {
            "rule": "self.kind != 'keep' || (!has(self.idle) && !has(self.warn) && !has(self.at))",
            "message": "keep takes no idle, takes no warn, takes no at",
        },
        {
            "rule": "self.kind != 'expire-after' || (has(self.idle) && !has(self.at))",
            "message": "expire-after needs idle, takes no at",
        },
        {
            "rule": "self.kind != 'until' || (has(self.at) && !has(self.idle))",
            "message": "until needs at, takes no idle",
        },
    ]


@pytest.mark.parametrize("plural", ["environments", "projects"])
def test_the_status_is_a_subresource_which_authors_cannot_write(plural: str) -> None:
    (version,) = DEFINITIONS[plural]["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    assert "conditions" in schema_of(DEFINITIONS[plural])["properties"]["status"]["properties"]
