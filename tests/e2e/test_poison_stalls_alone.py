"""A record that cannot be served stalls alone, with its reason, and takes nobody with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from envprov.domain.names import slug
from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import Process, condition

Commits = Callable[[int], str]


@pytest.mark.parametrize(
    ("spec", "reason", "word"),
    [
        pytest.param({"project": "there-is-none"}, "InvalidRecord", "there-is-none", id="no such Project"),
        pytest.param({"size": "XXL"}, "InvalidRecord", "XXL", id="unknown size"),
        pytest.param({"size": "L"}, "InvalidRecord", "L", id="size that is not allowed"),
    ],
)
def test_reason_is_told_and_others_come_up(
    shop: Shop, controller: Process, commits: Commits, spec: dict[str, Any], reason: str, word: str
) -> None:
    project, branch = spec.get("project", shop.name), f"feature/poison-{shop.name}"
    shop.installation.apply(
        {
            "apiVersion": "envprov.io/v1alpha1",
            "kind": "Environment",
            "metadata": {
                "name": slug(project, branch),
                "namespace": shop.installation.namespace,
                "annotations": {
                    "envprov.io/superseded": "\x00\u2028garbage,,,",
                    "envprov.io/successor": "not a commit",
                },
            },
            "spec": {"project": shop.name, "branch": branch} | spec,
        }
    )

    def told() -> dict[str, Any] | None:
        record = next((item for item in shop.installation.environments() if item["spec"]["branch"] == branch), None)
        said = condition(record, "Accepted") if record else {}
        return said if said.get("status") == "False" else None

    said = eventually(told, message="the reason was not told")
    assert said["reason"] == reason
    assert word in said["message"]
    shop.up("feature/healthy", commits(1))
    assert controller.popen.poll() is None
    assert not [entry for entry in controller.entries() if entry.get("event") == "pass failed"]
