"""Sizes: how much one environment may ask for, as data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import Field, StringConstraints

from envprov.domain.model import Model
from envprov.domain.quantity import Quantity, amount

SizeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,19}$", max_length=20)]


class Size(Model):
    """The budget of one environment. There is no CPU limit: throttling helps nobody on shared nodes."""

    cpu: Quantity
    """Sum of CPU requests."""
    memory: Quantity
    """Sum of memory requests."""
    memory_limit: Quantity
    """Sum of memory limits."""
    pods: int = Field(ge=1, le=1000)
    """Pods that are not finished."""
    claims: int = Field(default=0, ge=0, le=1000)
    """PersistentVolumeClaims."""
    storage: Quantity = "0"
    """Sum of storage requests over all claims."""
    ephemeral_storage: Quantity = "4Gi"
    """Sum of ephemeral storage requests."""

    load_balancers: int = Field(default=0, ge=0, le=100)
    """Services of type LoadBalancer; they need allocateLoadBalancerNodePorts: false, for there are no node ports."""

    def fits(self, needed: Mapping[str, str]) -> bool:
        """
        Whether a need fits into this size.

        Args:
            needed: Resource names as in a ResourceQuota, with quantities.

        """
        hard = self.hard()
        return all(name not in hard or amount(value) <= amount(hard[name]) for name, value in needed.items())

    def hard(self) -> dict[str, str]:
        """The ``spec.hard`` of the ResourceQuota, including what no environment needs many of."""
        return {
            "requests.cpu": self.cpu,
            "requests.memory": self.memory,
            "limits.memory": self.memory_limit,
            "requests.ephemeral-storage": self.ephemeral_storage,
            "requests.storage": self.storage,
            "persistentvolumeclaims": str(self.claims),
            "pods": str(self.pods),
            "services.nodeports": "0",
            "services.loadbalancers": str(self.load_balancers),
            "count/secrets": "100",
            "count/configmaps": "100",
            "count/ingresses.networking.k8s.io": "10",
            "count/jobs.batch": "30",
        }


DEFAULT_SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "S": Size(
            cpu="1", memory="2Gi", memory_limit="4Gi", pods=15, claims=3, storage="10Gi", ephemeral_storage="4Gi"
        ),
        "M": Size(
            cpu="2", memory="6Gi", memory_limit="12Gi", pods=30, claims=6, storage="30Gi", ephemeral_storage="10Gi"
        ),
        "L": Size(
            cpu="6", memory="16Gi", memory_limit="32Gi", pods=60, claims=12, storage="100Gi", ephemeral_storage="30Gi"
        ),
    }
)


def smallest_that_fits(needed: Mapping[str, str], sizes: Mapping[str, Size]) -> str | None:
    """
    Name of the smallest size that holds a need, by memory.

    Args:
        needed: Resource names as in a ResourceQuota, with quantities.
        sizes: The sizes to choose from.

    Returns:
        A key of *sizes*, or None if the need exceeds them all.

    """
    for name, size in sorted(sizes.items(), key=lambda item: (amount(item[1].memory), amount(item[1].cpu))):
        if size.fits(needed):
            return name
    return None
