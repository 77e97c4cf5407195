"""Which requests take something away, and need leave for it."""

from __future__ import annotations

from typing import Any

import pytest

from envprov.kube.mandate import takes_away
from envprov.kube.transport import Request

KEY = "hold.envprov.io/0123456789abcdef"


def patch(annotations: dict[str, Any] | None, **more: Any) -> Request:  # noqa: ANN401 - any JSON
    return Request("", "PATCH", "/", body={"metadata": {"uid": "u", "annotations": annotations}, **more})


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        pytest.param(Request("", "DELETE", "/", body={"preconditions": {"uid": "u"}}), True, id="a deletion"),
        pytest.param(Request("", "DELETE", "/"), True, id="a deletion without options"),
        pytest.param(Request("", "DELETE", "/", body={"dryRun": ["All"]}), False, id="one that is only tried"),
        pytest.param(patch({KEY: None}), True, id="a hold is taken off"),
        pytest.param(patch({"other": "x", KEY: None}), True, id="a hold is taken off beside something else"),
        pytest.param(patch({KEY: "{}"}), False, id="a hold is put on"),
        pytest.param(patch({"envprov.io/released-uid": "u"}), True, id="an object is released"),
        pytest.param(patch({"envprov.io/released-uid": None}), False, id="a release is taken back"),
        pytest.param(patch({"envprov.io/force-delete-uid": "u"}), True, id="the glass is broken"),
        pytest.param(patch({"envprov.io/fenced-sa": "a"}), False, id="a fence"),
        pytest.param(patch(None), False, id="no annotations"),
        pytest.param(Request("", "PATCH", "/", body={"spec": {"replicas": 0}}), False, id="something else changes"),
        pytest.param(Request("", "GET", "/"), False, id="a read"),
        pytest.param(Request("", "POST", "/", body={"metadata": {"annotations": {KEY: None}}}), False, id="a creation"),
    ],
)
def test_what_takes_something_away(request_: Request, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert takes_away(request_) is expected
