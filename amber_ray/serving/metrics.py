"""Counters and gauges in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(stats: Mapping[str, float]) -> str:
    """One `amber_` metric per number; a name that ends in `_total` is a counter, any other a gauge.

    >>> print(render({"hits_total": 3}), end="")
    # TYPE amber_hits_total counter
    amber_hits_total 3
    """
    lines = []
    for name, value in sorted(stats.items()):
        metric = "amber_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)
        lines.append(f"# TYPE {metric} {'counter' if metric.endswith('_total') else 'gauge'}")
        lines.append(f"{metric} {_number(value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
