"""Kubernetes quantities: parsed exactly, compared by value, written as the API server writes them."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import Annotated

from pydantic import Field, StringConstraints

_PATTERN = r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
_SPLIT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:[eE]([+-]?\d{1,3})|([a-zA-Z]*))", re.ASCII)
_EXACT = Context(prec=100)
_FACTORS = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
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
        text: A quantity as the API server writes it: 2, 500m, 4Gi, 1e9.

    Returns:
        Cores, bytes or a count.

    Raises:
        ValueError: The text is no quantity.

    Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/

    """
    match = _SPLIT.fullmatch(text)
    if match is None or (match[3] or "") not in _FACTORS:
        raise ValueError(f"{text!r} is not a quantity")
    factor = Decimal(f"1e{match[2]}") if match[2] else _FACTORS[match[3]]
    return _EXACT.multiply(Decimal(match[1]), factor)


def same(left: object, right: object) -> bool:
    """Whether two values of a resource list mean the same: 1 is 1000m, and 1024Mi is 1Gi."""
    try:
        return amount(str(left)) == amount(str(right))
    except ValueError:
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
            count = _EXACT.divide(value, _FACTORS[unit])
            if count >= 1 and count == count.to_integral_value():
                return f"{count.to_integral_value():f}{unit}"
        return f"{value.to_integral_value(ROUND_CEILING):f}"
    if value == value.to_integral_value():
        return f"{value.to_integral_value():f}"
    return f"{_EXACT.multiply(value, Decimal(1000)).to_integral_value(ROUND_CEILING):f}m"
