"""Chart values: laid over each other as Helm lays them, and the digest that tells whether a release is up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

DIGEST_LENGTH = 16


def merge(base: Mapping[str, Any], *overlays: Mapping[str, Any]) -> dict[str, Any]:
    """
    Values laid over each other, as ``helm --values BASE --values OVERLAY ...`` does it.

    Maps are merged key by key; lists and scalars are replaced. A null wins over what lies below it and stays in the
    result: Helm deletes the key together with the chart's own default when it sees the null, and would bring the
    default back if the key were missing.

    Args:
        base: The lowest layer.
        overlays: The layers over it, the strongest last. None of them is changed.

    Returns:
        One document for Helm.

    Source: https://helm.sh/docs/chart_template_guide/values_files/#deleting-a-default-key

    """
    merged = dict(base)
    for overlay in overlays:
        for key, value in overlay.items():
            below = merged.get(key)
            if isinstance(below, Mapping) and isinstance(value, Mapping):
                merged[key] = merge(below, value)
            else:
                merged[key] = value
    return merged


def digest(chart_digest: str, values: Mapping[str, Any], *others: str) -> str:
    """
    Digest of what a release is deployed from.

    Args:
        chart_digest: Digest of the chart.
        values: The merged values; JSON types only.
        others: Whatever else makes another release of the same chart and values; their order counts.

    Returns:
        16 hexadecimal digits: a legal label value, the same for equal input whatever the order of keys.

    Raises:
        ValueError: A value is not JSON, such as NaN.

    """
    document = json.dumps(
        [chart_digest, values, *others], sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(document.encode()).hexdigest()[:DIGEST_LENGTH]
