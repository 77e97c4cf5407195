"""Fixtures for all tests: the cluster of this run, and a namespace of one's own in it."""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import cluster as clusters

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.cluster import Cluster

# How long an example takes says how loaded the computer is, and nothing about the code.
settings.register_profile("envprov", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("envprov")


def pytest_configure() -> None:
    """Let commands that tests start hear Ctrl-C: a shell makes its jobs in the background deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - pytest-xdist has no types
    """Tell each worker whose run this is."""
    node.workerinput["envprov_run"] = os.getpid()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run's cluster; when pytest is killed before, the cluster's watchdog does."""
    if not hasattr(config, "workerinput") and not os.environ.get("ENVPROV_TEST_KUBECONFIG"):
        clusters.end(_run(config))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the cluster, before ``-m`` looks."""
    for item in items:
        if {"cluster", "own_cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)


def pytest_collection_finish(session: pytest.Session) -> None:
    """
    Build the programs before the first test's clock runs; if that fails, the fixture fails and says why.

    What was collected stays to the end: nobody need search it for garbage, which takes longer than many a test.
    """
    gc.freeze()
    wanted = any(item.get_closest_marker("cluster") for item in session.items)
    if wanted and not session.config.option.collectonly:
        with _shown(session.config):
            clusters.build()


@pytest.fixture(scope="session")
def cluster(pytestconfig: pytest.Config) -> Cluster:
    """Return the run's cluster. Tests that cannot have it fail; they are never skipped."""
    given = clusters.given_cluster()
    if given:
        return given
    with _shown(pytestconfig):
        return clusters.start(_run(pytestconfig))


@pytest.fixture(scope="module")
def own_cluster(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """Yield a cluster of this file's own, for tests that would disturb the others."""
    with _shown(pytestconfig):
        started = clusters.start_own(os.getpid())
    yield started
    clusters.end_own(started)


@pytest.fixture
def control_namespace(cluster: Cluster) -> Iterator[str]:
    """Yield the name of a fresh namespace, so that tests side by side do not see each other."""
    name = f"envprov-t-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.discard(name)


def _shown(config: pytest.Config) -> AbstractContextManager[None]:
    """Let through what is written meanwhile: minutes of building are to be seen."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    shown: AbstractContextManager[None] = capture.global_and_fixture_disabled()
    return shown


def _run(config: pytest.Config) -> int:
    """Return the process that this run belongs to: pytest-xdist's controller, or this one."""
    given: int = getattr(config, "workerinput", {}).get("envprov_run", os.getpid())
    return given


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Put logging back as it was: a command that a test calls sets it up for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
