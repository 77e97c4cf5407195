"""From what Helm says on stderr to an error of ours, in one sentence without values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from envprov.domain.errors import EnvprovError, HelmFailed, RenderFailed
from envprov.releases.errors import error_of

REAL: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "helm_errors.yaml").read_text())


@pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in REAL])
def test_what_the_real_helm_says_is_understood(row: dict[str, Any]) -> None:
    error = error_of(row["stderr"])

    assert (error.reason, str(error)) == (row["cause"], row["message"])


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        pytest.param(
            "Error: values don't meet the specifications of the schema(s) in the following chart(s):\nshop:\n"
            "- at '/password': 'hunter2' does not match pattern '^x'\n",
            "values don't meet the specifications of the schema(s) in the following chart(s): shop: - at '/password': "
            "does not match pattern '^x'",
            id="pattern of a schema",
        ),
        pytest.param(
            'Error: Secret "x" is invalid: data[a]: Invalid value: "hunter2 \\"x\\": y": must be short',
            'Secret "x" is invalid: data[a]: must be short',
            id="a quoted value",
        ),
        pytest.param(
            'Error: Job.batch "x" is invalid: spec.template: Invalid value: {"env":[{"name":"P","value":"a: 3"}]}: '
            "field is immutable",
            'Job.batch "x" is invalid: spec.template: field is immutable',
            id="a structure",
        ),
        pytest.param(
            "Error: YAML parse error on c/a.yaml: error decoding JSON: cannot unmarshal !!str `hunter2...` into int",
            "YAML parse error on c/a.yaml: error decoding JSON: cannot unmarshal !!str into int",
            id="a scalar of another type",
        ),
    ],
)
def test_values_are_left_out(stderr: str, message: str) -> None:
    assert str(error_of(stderr)) == message


def test_nothing_said_is_said() -> None:
    error = error_of("WARNING: Kubernetes configuration file is group-readable.\nlevel=WARN msg=x\n\n")

    assert type(error) is HelmFailed
    assert str(error) == "Helm ended with an error that it did not describe"


def test_a_long_story_is_cut() -> None:
    error = error_of("Error: execution error at (c/a.yaml:1:1): " + "x" * 5000)

    assert type(error) is RenderFailed
    assert len(str(error)) == 512
    assert str(error).endswith("x…")


@given(st.text(max_size=2000))
def test_whatever_is_said_becomes_one_short_line(stderr: str) -> None:
    error = error_of(stderr)

    assert isinstance(error, EnvprovError)
    assert 0 < len(str(error)) <= 512
    assert len(str(error).splitlines()) == 1
