"""What an environment costs per hour, by the price table of the settings and what its chart needs all the time."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal

from envprov.domain.platform import Prices
from envprov.domain.pod_resources import Amounts

HOURS_PER_MONTH = 730
"""A twelfth of a year."""

_EXACT = Context(prec=100)
_CENT = Decimal("0.01")
_GIB = Decimal(1 << 30)
_NONE = Decimal(0)


@dataclass(frozen=True)
class Cost:
    """
    What an hour costs.

    Attributes:
        cpu: For the cores that are requested.
        memory: For the memory that is requested.
        storage: For the storage that is claimed.
        currency: ISO 4217 code.

    """

    cpu: Decimal
    memory: Decimal
    storage: Decimal
    currency: str

    @property
    def per_hour(self) -> Decimal:
        """All together, not rounded."""
        return self.cpu + self.memory + self.storage

    def __str__(self) -> str:
        hour, month = self.per_hour, self.per_hour * HOURS_PER_MONTH
        # An hour may cost far less than a cent.
        digits = _CENT if hour >= 1 or not hour else Decimal("0.0001")
        shown = (value.quantize(step, ROUND_HALF_UP) for value, step in ((hour, digits), (month, _CENT)))
        return "{} {currency} per hour, {} {currency} per month".format(*shown, currency=self.currency)


def cost(needed: Amounts, prices: Prices) -> Cost:
    """
    What an hour costs.

    Args:
        needed: By the names of a ResourceQuota, in cores and bytes: what is there all the time (``Needs.steady``).
        prices: Per core and hour, and per GiB and hour.

    """

    def gibibytes(resource: str) -> Decimal:
        return _EXACT.divide(needed.get(resource, _NONE), _GIB)

    return Cost(
        cpu=needed.get("requests.cpu", _NONE) * prices.cpu,
        memory=gibibytes("requests.memory") * prices.memory,
        storage=gibibytes("requests.storage") * prices.storage,
        currency=prices.currency,
    )
