"""Whether a chart may ask the cluster while it is rendered: if not, it renders alike wherever and whenever it does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WORD = "lookup"
_PACKED = frozenset({".tgz", ".gz"})


def looks_up(chart: Path, values: Mapping[str, Any]) -> bool:
    """
    Look for the template function ``lookup``.

    Args:
        chart: Folder of the chart, its dependencies in it. What is still packed counts as a chart that asks.
        values: All values: ``tpl`` renders what stands in them.

    Source: https://helm.sh/docs/chart_template_guide/functions_and_pipelines/#using-the-lookup-function

    """
    if _WORD in json.dumps(values):
        return True
    files = (file for file in chart.rglob("*") if file.is_file())
    return any(file.suffix in _PACKED or _WORD.encode() in file.read_bytes() for file in files)
