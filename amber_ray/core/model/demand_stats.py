"""How demands stand, as series of Prometheus.

Must not know: who asks, how it is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from amber_ray.core.model.demands import DemandView
from amber_ray.core.model.stats import series


def demand_stats(views: Sequence[DemandView], now: float) -> dict[str, float]:
    """Gauges of all demands, by their names; `now` is Unix time.

    There are no more than a bounded number of demands, and so of series.
    """
    told = {"demands": float(len(views))}
    for view in views:
        name, status = view.demand.name, view.status
        for state, count in (
            ("seen", status.seen),
            ("true", status.true),
            ("running", status.running),
            ("failed", status.failed),
            ("settling", status.settling),
        ):
            told[series("demand_assets", demand=name, state=state)] = float(count)
        for what, value in (
            ("untrue_seconds", 0.0 if status.oldest is None else max(0.0, now - status.oldest)),
            ("swept_timestamp_seconds", status.ended),
            ("sweep_seconds", status.seconds),
            ("broken", float(bool(status.error))),
            ("untold", float(bool(status.untold))),
        ):
            told[series(f"demand_{what}", demand=name)] = value
    return told
