"""What the receiver counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5)

OUTCOMES = (
    "recorded",
    "requested",
    "left_to_sweep",
    "nothing_to_do",
    "uninteresting",
    "unknown_project",
    "ignored_branch",
    "ignored_command",
    "name_taken",
    "rejected",
    "unauthenticated",
    "too_large",
    "slow",
    "crowded",
    "disconnected",
    "not_synced",
    "unavailable",
)
RECORD_OUTCOMES = ("create", "advance", "delete", "succeed", "remember", "doubt", "duplicate", "late", "gone")


class Metrics:
    """
    The receiver's metrics. Every outcome is there from the start, as 0.

    Args:
        registry: Where they are registered.

    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.deliveries = Counter(
            "envprov_deliveries", "Deliveries by how they were answered.", ["outcome"], registry=registry
        )
        self.records = Counter(
            "envprov_records", "Branch events by what became of the record.", ["outcome"], registry=registry
        )
        self.seconds = Histogram(
            "envprov_delivery_seconds", "Time from the headers to the answer.", buckets=_SECONDS, registry=registry
        )
        for outcome in OUTCOMES:
            self.deliveries.labels(outcome)
        for outcome in RECORD_OUTCOMES:
            self.records.labels(outcome)
