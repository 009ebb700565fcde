"""What Prometheus is told, as its own parser reads it."""

from __future__ import annotations

import doctest

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic

from amber_ray.core.ledger.tally import Tally
from amber_ray.core.model.stats import HITS_MEMORY, HITS_STORE, cumulated
from amber_ray.serving import metrics
from amber_ray.serving.metrics import render


def told() -> dict[str, float]:
    tally = Tally()
    tally.ran('an "odd"\n\\one', 0.3)
    tally.ran("shots", 400.0)
    return cumulated({**tally.told(), HITS_MEMORY: 3.0, HITS_STORE: 2.0, "hot_bytes": 12.5, "queer": 1.0})


@pytest.mark.parametrize(
    ("accept", "parse", "media_type"),
    [
        ("", classic, "text/plain; version="),
        (
            "application/openmetrics-text; version=1.0.0",
            openmetrics,
            "application/openmetrics-text; version=",
        ),
    ],
)
def test_a_parser_finds_every_series_with_its_type_and_help(accept, parse, media_type) -> None:
    body, its = render(told(), accept)
    assert its.startswith(media_type)
    found = {one.name: one for one in parse(body.decode())}
    assert {one.type for one in found.values()} == {"counter", "gauge", "histogram"}
    assert all(one.documentation for one in found.values())
    samples = {(s.name, *sorted(s.labels.items())): s.value for one in found.values() for s in one.samples}
    assert samples["amber_hits_total", ("tier", "store")] == 2.0
    assert samples["amber_hot_bytes",] == 12.5
    odd = ("feature", 'an "odd"\n\\one')
    assert samples["amber_step_seconds_bucket", odd, ("le", "0.5")] == 1.0
    assert samples["amber_step_seconds_count", odd] == 1.0
    assert len(samples) == len(told())


def test_the_example() -> None:
    assert doctest.testmod(metrics).failed == 0
