"""Everything that is counted and measured, for Prometheus: its text format, or OpenMetrics, as it asks.

Must not know: who counts. What the names stand for is `core.model.stats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from amber_ray.core.model.stats import family, split


def render(stats: Mapping[str, float], accept: str = "") -> tuple[bytes, str]:
    """All series as `amber_` metrics, and the media type that they are in: what `accept` asks for.

    >>> print(render({'hits_total{tier="store"}': 3.0})[0].decode(), end="")
    # HELP amber_hits_total Answers that were there already, by the tier that they came from
    # TYPE amber_hits_total counter
    amber_hits_total{tier="store"} 3.0
    """
    encode, media_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told(stats))
    return encode(registry), media_type


class _Told(Collector):
    """A collector of what was told just now."""

    def __init__(self, stats: Mapping[str, float]) -> None:
        self._stats = stats

    def describe(self) -> Iterator[Metric]:
        """Nothing is known before it is told."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """One metric for each family, its series in order."""
        metrics: dict[str, Metric] = {}
        for one, value in self._stats.items():
            name, labels = split(one)
            base, its = family(name)
            if base not in metrics:
                kind = its.kind if its is not None else "counter" if name.endswith("_total") else "gauge"
                about = its.about if its is not None else base.replace("_", " ")
                metrics[base] = Metric(f"amber_{base.removesuffix('_total')}", about, kind)
            metrics[base].add_sample(f"amber_{name}", labels, value)
        for base in sorted(metrics):
            yield metrics[base]
