"""Names of what is counted: told apart again, histograms as Prometheus has them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.ledger.graph import COUNTERS
from amber_ray.core.ledger.tally import Tally
from amber_ray.core.model.request import Priority
from amber_ray.core.model.stats import (
    BOUNDS,
    CLASSES,
    HITS_MEMORY,
    cumulated,
    family,
    observe,
    plain,
    series,
    split,
)


@given(st.dictionaries(st.sampled_from(["feature", "class", "le"]), st.text(max_size=8), max_size=3))
def test_a_series_is_told_apart_again(labels: dict[str, str]) -> None:
    assert split(series("steps_total", **labels)) == ("steps_total", labels)


def test_classes_are_named_as_priorities_are() -> None:
    assert [one.name.lower() for one in Priority] == list(CLASSES)


def test_all_that_a_ledger_counts_is_in_the_table() -> None:
    for name in COUNTERS:
        assert family("hits" if name.startswith("hits_") else f"{name}_total")[1] is not None, name


@pytest.mark.parametrize("seconds", [0.0, BOUNDS[0], 0.3, BOUNDS[-1], 1e9])
def test_a_histogram_counts_each_in_all_buckets_above_it(seconds: float) -> None:
    counts: Counter[str] = Counter()
    observe(counts, "request_seconds", seconds, **{"class": "ingest"})
    observe(counts, "request_seconds", 0.04, **{"class": "ingest"})
    told = cumulated({**counts, HITS_MEMORY: 3.0})
    labels = {"class": "ingest"}
    for bound in BOUNDS:
        bucket = told[series("request_seconds_bucket", **labels, le=f"{bound:g}")]
        assert bucket == (seconds <= bound) + (0.04 <= bound)  # noqa: SIM300
    assert told[series("request_seconds_bucket", **labels, le="+Inf")] == 2
    assert told[series("request_seconds_count", **labels)] == 2
    assert told[series("request_seconds_sum", **labels)] == pytest.approx(seconds + 0.04)
    assert told[HITS_MEMORY] == 3.0


def test_a_tally_tells_what_became_of_steps_and_how_long_they_ran() -> None:
    tally = Tally()
    tally.ran("shots", 0.02)
    tally.ran("shots", 0.03)
    tally.ran('an "odd" one', 7.0)
    tally.ended("shots", "failed")
    told = cumulated(tally.told())
    assert told[series("steps_total", feature="shots", outcome="computed")] == 2
    assert told[series("steps_total", feature="shots", outcome="failed")] == 1
    assert told[series("step_seconds_bucket", feature="shots", le="0.025")] == 1
    assert told[series("step_seconds_bucket", feature="shots", le="0.05")] == 2
    assert told[series("step_seconds_sum", feature='an "odd" one')] == 7.0


def test_people_are_told_neither_buckets_nor_features() -> None:
    tally = Tally()
    tally.ran("shots", 0.02)
    assert plain(cumulated({**tally.told(), HITS_MEMORY: 3.0, "hot_bytes": 1.0})) == {
        HITS_MEMORY: 3.0,
        "hot_bytes": 1.0,
    }
