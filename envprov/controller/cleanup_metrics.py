"""What the last cleanup came to, for Prometheus: nobody can ask a job that is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from envprov.domain.cleanup_run import CleanupRun


class CleanupMetrics(Collector):
    """
    The metrics of the last cleanup; none before there was one.

    Args:
        registry: Where they are registered.
        last: Gives the last run, as it is on record.

    """

    def __init__(self, registry: CollectorRegistry, last: Callable[[], CleanupRun | None]) -> None:
        self._last = last
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Say what there may be, without asking."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What there is now."""
        run = self._last()
        if run is None:
            return
        yield GaugeMetricFamily(
            "envprov_cleanup_last_run_timestamp_seconds", "When the last cleanup ended.", run.finished_at.timestamp()
        )
        if run.succeeded_at is not None:
            yield GaugeMetricFamily(
                "envprov_cleanup_last_success_timestamp_seconds",
                "When a cleanup last ended without a fault.",
                run.succeeded_at.timestamp(),
            )
        yield GaugeMetricFamily(
            "envprov_cleanup_faults", "What the last cleanup could not read or do.", float(run.faults)
        )
        found = GaugeMetricFamily(
            "envprov_cleanup_found",
            "What the last cleanup found, by why and what became of it.",
            labels=["why", "outcome"],
        )
        for (why, became), count in sorted(run.rows.items()):
            found.add_metric([why, became], count)
        yield found
