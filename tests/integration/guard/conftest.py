"""Fixtures for the tests of the guard."""

from __future__ import annotations

import pytest

from tests.cluster import Cluster
from tests.integration.guard.worlds import arm


@pytest.fixture(scope="session")
def guarded(cluster: Cluster) -> Cluster:
    """Return the run's cluster with the policies in force; no test may take them away."""
    arm(cluster)
    return cluster
