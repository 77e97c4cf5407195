"""What the controller counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """
    The controller's metrics.

    Args:
        registry: Where they are registered.
        depth: Gives the number of keys that wait.

    """

    def __init__(self, registry: CollectorRegistry, depth: Callable[[], float]) -> None:
        self.passes = Counter("envprov_passes", "Passes by where they ended.", ["phase"], registry=registry)
        self.pass_seconds = Histogram("envprov_pass_seconds", "Time of one pass.", buckets=_SECONDS, registry=registry)
        self.bugs = Counter("envprov_bugs", "Passes that ended in an error nobody foresaw.", registry=registry)
        self.leading = Gauge("envprov_leading", "1 while this replica leads.", registry=registry)
        Gauge("envprov_queue_depth", "Keys that wait.", registry=registry).set_function(depth)


class GuardMetrics:
    """
    The guard's metrics.

    Args:
        registry: Where they are registered.

    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.armed = Gauge(
            "envprov_guard_armed", "1 while the API server enforces the guard's policies.", registry=registry
        )
        self.complete = Gauge(
            "envprov_guard_usage_complete", "1 if the last pass could see every user.", registry=registry
        )
        self.accounts = Gauge("envprov_guard_accounts", "ServiceAccounts that are guarded.", registry=registry)
        self.holds = Gauge("envprov_guard_holds", "Holds on them.", registry=registry)
        self.released = Counter("envprov_guard_releases", "Holds that were released.", registry=registry)
        self.bugs = Counter(
            "envprov_guard_bugs", "Passes of the guard that ended in an error nobody foresaw.", registry=registry
        )


class SweepMetrics:
    """
    The metrics of the branch sweep.

    Args:
        registry: Where they are registered.

    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._sweeps = Counter(
            "envprov_sweeps", "Sweeps of one project, by how they ended.", ["outcome"], registry=registry
        )
        self.seconds = Histogram("envprov_sweep_seconds", "Time of one sweep.", buckets=_SECONDS, registry=registry)
        self._state = Gauge(
            "envprov_sweep_state",
            "1 for how the last sweep of a project ended; MassDeletion waits for a person.",
            ["project", "outcome"],
            registry=registry,
        )
        self._last: dict[str, str] = {}

    def ended(self, project: str, outcome: str) -> None:
        """Count a sweep."""
        self.forget(project)
        self._sweeps.labels(outcome).inc()
        self._state.labels(project, outcome).set(1)
        self._last[project] = outcome

    def forget(self, project: str) -> None:
        """Show nothing more of a project."""
        outcome = self._last.pop(project, None)
        if outcome is not None:
            self._state.remove(project, outcome)


class ErrandMetrics:
    """
    The metrics of what is done in GitLab.

    Args:
        registry: Where they are registered.

    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.failures = Counter(
            "envprov_gitlab_failures", "Passes in GitLab that failed.", ["errand", "reason"], registry=registry
        )
        self.published = Counter(
            "envprov_published", "What GitLab was told, by kind of step.", ["step"], registry=registry
        )
        self.commands = Counter(
            "envprov_commands",
            "Commands of merge requests, by what became of them.",
            ["verb", "outcome"],
            registry=registry,
        )
        self._registry = registry

    def show_depth(self, errand: str, depth: Callable[[], float]) -> None:
        """Show how many keys wait."""
        Gauge(f"envprov_{errand}_queue_depth", "Keys that wait.", registry=self._registry).set_function(depth)
