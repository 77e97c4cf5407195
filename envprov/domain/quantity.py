"""Kubernetes quantities: parsed exactly, compared by value, written as the API server writes them."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Annotated

from pydantic import Field, StringConstraints

_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_SPLIT = re.compile(r"^([0-9.]+)([a-zA-Z]*)$")
_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}

Quantity = Annotated[
    str,
    StringConstraints(pattern=_PATTERN, max_length=32),
    Field(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "isQuantity(self)", "message": "is not a quantity such as 500m or 4Gi"}
            ]
        }
    ),
]


def amount(text: str) -> Decimal:
    """
    The value of a quantity in its base unit.

    Args:
        text: A quantity as the API server writes it, without exponent.

    Returns:
        Cores, bytes or a count.

    Raises:
        ValueError: The text is no quantity.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    """
    match = _SPLIT.match(text)
    if match is None or match[2] not in _FACTORS:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match[1]) * _FACTORS[match[2]]


def same(left: object, right: object) -> bool:
    """Whether two values of a resource list mean the same: 1 is 1000m, and 1024Mi is 1Gi."""
    try:
        return amount(str(left)) == amount(str(right))
    except (ValueError, ArithmeticError):
        return left == right


def written(value: Decimal, *, like: str) -> str:
    """
    A quantity in the unit family of another one.

    Args:
        value: Cores, bytes or a count.
        like: A quantity whose way of writing is followed: binary suffix, milli or plain.

    Returns:
        The shortest exact form, rounded up where a unit is smaller than milli.

    """
    if like.endswith("i"):
        for unit in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
            if value >= _FACTORS[unit] and value % _FACTORS[unit] == 0:
                return f"{value / _FACTORS[unit]:f}" + unit
        return f"{value.to_integral_value(ROUND_CEILING):f}"
    if value == value.to_integral_value():
        return f"{value.to_integral_value():f}"
    return f"{(value * 1000).to_integral_value(ROUND_CEILING):f}m"
