"""What Prometheus is told, as its own parser reads it."""

from __future__ import annotations

import doctest
import shutil
import subprocess

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as classic

from amber_ray.core.ledger.tally import Tally
from amber_ray.core.model.stats import FAMILIES, HITS_MEMORY, HITS_STORE, cumulated, series
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


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt-get install prometheus")
def test_every_family_is_named_and_told_as_promtool_wants_it() -> None:
    stats: dict[str, float] = {}
    for name, its in FAMILIES.items():
        labels = dict.fromkeys(its.labels, "a")
        if its.kind == "histogram":
            stats[series(f"{name}_bucket", **labels, le="+Inf")] = 1.0
        else:
            stats[series(f"{name}_total" if its.kind == "counter" else name, **labels)] = 1.0
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=render(cumulated(stats))[0],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
