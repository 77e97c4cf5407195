"""Requests to the controller, as ConfigMaps and back."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from envprov.domain.errors import InvalidRecord
from envprov.kube.requests import (
    CommandRequest,
    SweepRequest,
    command_request,
    parse_command,
)
from webhooks.gitlab import NoteCommand

WHEN = datetime(2026, 5, 17, 18, 21, 36, tzinfo=UTC)
GIVEN = NoteCommand(15, "group/shop", "feature/x", 12, 1244, "1f6a", 4, "jsmith", "/envprov up", WHEN)
COMMAND = CommandRequest("shop", "feature/x", 12, 1244, "1f6a", 4, "jsmith", "/envprov up", WHEN, "envprov-system")
SWEEP = SweepRequest("shop", WHEN, "envprov-system")


def stored(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest as the API server gives it back."""
    read = copy.deepcopy(manifest)
    read["metadata"]["uid"] = "u-1"
    return read


def test_a_command_is_a_config_map() -> None:
    assert command_request("shop", "envprov-system", GIVEN) == COMMAND
    assert COMMAND.manifest() == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "command-1244-shop",
            "namespace": "envprov-system",
            "labels": {
                "app.kubernetes.io/managed-by": "envprov",
                "envprov.io/record": "command",
                "envprov.io/project": "shop",
            },
        },
        "data": {
            "project": "shop",
            "branch": "feature/x",
            "iid": "12",
            "noteId": "1244",
            "discussionId": "1f6a",
            "authorId": "4",
            "author": "jsmith",
            "text": "/envprov up",
            "createdAt": "2026-05-17T18:21:36+00:00",
        },
    }


def test_a_sweep_is_a_config_map() -> None:
    made = SWEEP.manifest()
    assert made["metadata"]["name"] == "sweep-shop"
    assert made["metadata"]["labels"]["envprov.io/record"] == "sweep"
    assert made["data"] == {"project": "shop", "requestedAt": "2026-05-17T18:21:36+00:00"}


def test_what_was_written_is_read() -> None:
    assert parse_command(stored(COMMAND.manifest())) == replace(COMMAND, uid="u-1")
    elsewhere = replace(COMMAND, created_at=WHEN.astimezone(timezone(timedelta(hours=9))))
    assert parse_command(stored(elsewhere.manifest())).created_at == WHEN


def test_each_project_has_its_own_request() -> None:
    assert replace(COMMAND, project="mirror").name != COMMAND.name
    assert replace(SWEEP, project="mirror").name != SWEEP.name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"noteId": "x"}, "no command", id="no number"),
        pytest.param({"noteId": "1245"}, "named after another one", id="other number"),
        pytest.param({"project": "mirror"}, "named after another one", id="other project"),
        pytest.param({"createdAt": "2026-05-17T18:21:36"}, "no time zone", id="time without zone"),
        pytest.param({"createdAt": "soon"}, "no command", id="no time"),
        *(
            pytest.param({name: None}, "no command", id=f"without {name}")
            for name in ("project", "branch", "iid", "noteId", "authorId", "author", "text", "createdAt")
        ),
    ],
)
def test_a_command_that_cannot_be_read_says_so(changes: dict[str, str | None], reason: str) -> None:
    manifest = stored(COMMAND.manifest())
    given = manifest["data"] | changes
    manifest["data"] = {name: value for name, value in given.items() if value is not None}
    with pytest.raises(InvalidRecord, match=rf"ConfigMap command-1244-shop: .*{reason}.*it can be deleted"):
        parse_command(manifest)
