"""Sizes: what fits into which."""

from __future__ import annotations

import pytest

from envprov.domain.sizes import DEFAULT_SIZES, Size, smallest_that_fits


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        pytest.param({}, "S", id="nothing -> smallest"),
        pytest.param({"requests.cpu": "1"}, "S", id="exactly its budget -> fits"),
        pytest.param({"requests.cpu": "1001m"}, "M", id="a little more -> next"),
        pytest.param({"requests.cpu": "500m", "requests.memory": "7Gi"}, "L", id="the largest need decides"),
        pytest.param({"limits.memory": "12Gi"}, "M", id="limits count"),
        pytest.param({"pods": "31"}, "L", id="pods count"),
        pytest.param({"requests.cpu": "7"}, None, id="too much for all -> none"),
        pytest.param({"services.loadbalancers": "1"}, None, id="in no size -> none"),
        pytest.param({"requests.nvidia.com/gpu": "4"}, "S", id="not in the quota -> any"),
    ],
)
def test_the_smallest_size_that_fits(needed: dict[str, str], expected: str | None) -> None:
    assert smallest_that_fits(needed, DEFAULT_SIZES) == expected


def test_sizes_are_compared_by_value_and_not_by_name() -> None:
    big = Size(cpu="4", memory="1024Mi", memory_limit="2Gi", pods=10)
    small = Size(cpu="1", memory="1Gi", memory_limit="2Gi", pods=10)
    assert smallest_that_fits({}, {"a": big, "b": small}) == "b"


def test_the_budget_of_a_size() -> None:
    assert DEFAULT_SIZES["S"].hard() == {
        "requests.cpu": "1",
        "requests.memory": "2Gi",
        "limits.memory": "4Gi",
        "requests.ephemeral-storage": "4Gi",
        "requests.storage": "10Gi",
        "persistentvolumeclaims": "3",
        "pods": "15",
        "services.nodeports": "0",
        "services.loadbalancers": "0",
        "count/secrets": "100",
        "count/configmaps": "100",
        "count/ingresses.networking.k8s.io": "10",
        "count/jobs.batch": "30",
    }
