"""Counters and gauges in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def render(stats: Mapping[str, float]) -> str:
    """One sample per number, in `amber_` metrics; one whose name ends in `_total` is a counter, else a gauge.

    Labels are part of a name, as `core.model.stats` writes them.

    >>> print(render({'hits_total{tier="store"}': 3, "tasks_running": 1}), end="")
    # TYPE amber_hits_total counter
    amber_hits_total{tier="store"} 3
    # TYPE amber_tasks_running gauge
    amber_tasks_running 1
    """
    metrics: dict[str, list[str]] = {}
    for series, value in sorted(stats.items()):
        name, brace, labels = series.partition("{")
        metric = "amber_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)
        metrics.setdefault(metric, []).append(f"{metric}{brace}{labels} {_number(value)}")
    lines = []
    for metric, samples in metrics.items():
        lines.append(f"# TYPE {metric} {'counter' if metric.endswith('_total') else 'gauge'}")
        lines.extend(samples)
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() else repr(float(value))
