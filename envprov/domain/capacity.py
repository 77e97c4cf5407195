"""How much the nodes of a cluster have for environments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from envprov.domain.budget import Amounts
from envprov.domain.quantity import amount

MEASURED = ("cpu", "memory", "ephemeral-storage")
"""What nodes say they have; how much storage there is for claims, nobody says."""

_STEPS = {"cpu": Decimal("0.1")}
_GIB = Decimal(1024) ** 3


def measured(nodes: Iterable[Mapping[str, Any]], reserve: Decimal) -> Amounts:
    """
    The budget that nodes make.

    Args:
        nodes: Each with its taints and what is allocatable on it.
        reserve: Share that is kept for everything else, from 0 up to less than 1.

    Returns:
        Cores to one decimal and bytes in whole GiB, rounded down. Nodes that take no ordinary pods count nothing:
        those of the control plane, those that are cordoned, and those that are not ready.

    """
    summed = dict.fromkeys(MEASURED, Decimal(0))
    for node in nodes:
        if takes_pods(node):
            allocatable = node.get("status", {}).get("allocatable", {})
            for name in MEASURED:
                summed[name] += amount(str(allocatable.get(name, "0")))
    left = {name: value * (1 - reserve) for name, value in summed.items()}
    return {name: _floor(value, _STEPS.get(name, _GIB)) for name, value in left.items()}


def takes_pods(node: Mapping[str, Any]) -> bool:
    """Whether a pod without tolerations may come to a node."""
    spec = node.get("spec", {})
    repels = any(taint.get("effect") in {"NoSchedule", "NoExecute"} for taint in spec.get("taints") or ())
    return not repels and not spec.get("unschedulable", False)


def _floor(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_FLOOR) * step
