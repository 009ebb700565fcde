"""Names of what is counted: told apart again, histograms as Prometheus has them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.ledger.graph import COUNTERS
from amber_ray.core.ledger.tally import Tally
from amber_ray.core.model.demand_stats import demand_stats
from amber_ray.core.model.demands import Demand, DemandStatus, DemandView
from amber_ray.core.model.request import Priority
from amber_ray.core.model.stats import (
    BOUNDS,
    CLASSES,
    HITS_MEMORY,
    OTHERS,
    Named,
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


def test_people_are_told_of_all_tenants_together_and_not_of_each_demand() -> None:
    counts = {series("requests_total", outcome="done", tenant=tenant): 2.0 for tenant in "ab"}
    counts[series("demand_assets", demand="films", state="true")] = 7.0
    assert plain({**counts, "demands": 1.0}) == {
        series("requests_total", outcome="done"): 4.0,
        "demands": 1.0,
    }


def test_no_more_than_some_tenants_have_series_of_their_own() -> None:
    named = Named(2)
    assert [named.of(tenant) for tenant in ("a", OTHERS, "b", "c", "a", "d", "b")] == [
        *("a", OTHERS, "b", OTHERS, "a", OTHERS, "b")
    ]


def test_a_demand_is_told_by_its_name_and_all_of_it_is_in_the_table() -> None:
    status = DemandStatus(
        seen=9, true=5, running=2, failed=1, settling=1, oldest=70.0, ended=90.0, seconds=3.0
    )
    broken = DemandStatus(error="the disk is gone", untold="there is no room")
    views = [
        DemandView(Demand("films", ("shots",), ("/films",)), status, 1.0),
        DemandView(Demand("sounds", ("speech",), ("/sounds",)), broken, 1.0),
    ]
    told = demand_stats(views, 100.0)
    assert told["demands"] == 2
    states = {"seen": 9, "true": 5, "running": 2, "failed": 1, "settling": 1}
    assert {state: told[series("demand_assets", demand="films", state=state)] for state in states} == states
    assert told[series("demand_untrue_seconds", demand="films")] == 30
    assert told[series("demand_swept_timestamp_seconds", demand="films")] == 90
    assert told[series("demand_sweep_seconds", demand="films")] == 3
    for what in ("broken", "untold"):
        assert [told[series(f"demand_{what}", demand=name)] for name in ("films", "sounds")] == [0, 1]
    assert told[series("demand_untrue_seconds", demand="sounds")] == 0
    for one in told:
        name, labels = split(one)
        its = family(name)[1]
        assert its is not None, one
        assert set(its.labels) == set(labels), one
