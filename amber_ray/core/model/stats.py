"""What is counted and measured: every series that `Service.stats` tells, as Prometheus names them.

    hits_total{tier="memory"}                          a counter of a family that has a label
    request_seconds_bucket{class="batch",le="0.5"}     how many took so long, one of a histogram's series

An answer that was there already is a hit of the tier that it came from: the memory of the process that was
asked (`replica`), the memory of the shards (`memory`), or the store (`store`). A value that is read by its
key is a read of one of these tiers.

Within the cluster a histogram's series are counters of their own buckets, and its sum is in microseconds, so
that all that travels are whole numbers that add up; `cumulated` makes of them what Prometheus expects.
Must not know: who counts, how it is written.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Family:
    """What one name stands for. `labels` are those that its series have."""

    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()


def _counter(about: str, *labels: str) -> Family:
    return Family("counter", about, labels)


def _gauge(about: str, *labels: str) -> Family:
    return Family("gauge", about, labels)


FAMILIES: Final[Mapping[str, Family]] = {
    "hits": _counter("Answers that were there already, by the tier that they came from", "tier"),
    "reads": _counter("Values read by their key, by the tier that they came from", "tier"),
    "requests": _counter("Requests for features that have ended", "class", "outcome", "tenant"),
    "request_seconds": Family("histogram", "From a request for features to its end", ("class",)),
    "steps": _counter("Steps that have run or failed", "feature", "outcome"),
    "step_seconds": Family("histogram", "How long steps ran that gave a value", ("feature",)),
    "wait_seconds": Family(
        "histogram", "How long steps waited that could run, until they were begun", ("class",)
    ),
    "queued": _gauge("Steps that could run and wait for their turn", "class"),
    "queue_oldest_seconds": _gauge("How long that of them waits which has waited longest", "class"),
    "on_the_way": _gauge(
        "Steps that somebody waits for, by what they wait for: inputs, turn, retry, store; or running",
        *("class", "feature", "state", "tenant"),
    ),
    "on_the_way_oldest_seconds": _gauge(
        "For how long that of them can run which can for longest, of those in turn or running",
        *("class", "feature", "state", "tenant"),
    ),
    "batches": _counter("Batches given to warm actors", "feature"),
    "batch_items": _counter("Steps in the batches given to warm actors", "feature"),
    "batch_places": _counter("Steps that the batches given to warm actors had room for", "feature"),
    "resources_held": _gauge("What tasks and warm actors hold of the cluster", "resource"),
    "cluster_resources": _gauge("What the cluster has", "resource"),
    "node_resources": _gauge("What each node has", "node", "resource"),
    "held_bytes": _gauge("Values held, by tier: replicas, the shards' memory, the store", "tier"),
    "store_parts": _gauge("Files of values in the store"),
    "demands": _gauge("Demands that are kept"),
    "demand_assets": _gauge(
        "Assets of a demand: seen by its last look, those of them that are true, running, failed, settling",
        *("demand", "state"),
    ),
    "demand_untrue_seconds": _gauge(
        "For how long an asset is not true that has not been for longest", "demand"
    ),
    "demand_swept_timestamp_seconds": _gauge(
        "When the last whole look of a demand ended; 0: none has", "demand"
    ),
    "demand_sweep_seconds": _gauge("How long the last whole look of a demand took", "demand"),
    "demand_broken": _gauge("Whether the last look of a demand could not be made", "demand"),
    "demand_untold": _gauge("Whether a demand's callback has not been told of everything yet", "demand"),
    "computed": _counter("Steps that have run and given a value"),
    "joined": _counter("Answers that another caller's work brings"),
    "failed": _counter("Steps that have come to a failure, those above a failed one included"),
    "retried": _counter("Steps tried again after a fault that was not theirs"),
    "superseded": _counter("Reports of steps that nobody waited for any more"),
    "evicted": _counter("Values let go of in memory, as they are stored"),
    "restored": _counter("Values read back from the store"),
    "lost": _counter("Values in memory whose node has died"),
    "put_off": _counter("Steps that asked to be tried again later"),
    "unwritten": _counter("Values that the store did not take, to be tried again"),
    "unreadable": _counter("Values that the store did not give when asked"),
    "warm_starts": _counter("Warm actors started"),
    "warm_batches": _counter("Batches given to warm actors"),
    "warm_items": _counter("Steps in the batches given to warm actors"),
    **{
        f"keys_{state}": _gauge(f"Keys in the state {state.upper()} of the ledger")
        for state in ("waiting", "queued", "running", "hot", "kept", "cold", "restoring", "failed")
    },
    "keys_put_off": _gauge("Keys that wait for the time at which they asked to be tried again"),
    "keys_indexed": _gauge("Keys whose values are stored"),
    "index_bytes": _gauge("Memory of the index of stored keys"),
    "hot_bytes": _gauge("Values in memory"),
    "memory_budget_bytes": _gauge("Bound on the values in memory"),
    "unspilled_bytes": _gauge("Values in memory that are not stored yet"),
    "spilling_keys": _gauge("Values that are being written"),
    "tasks_running": _gauge("Tasks handed over to Ray"),
    "requests_running": _gauge("Parts of requests that shards work on"),
    "requests_remembered": _gauge("Parts of requests that shards remember"),
    "sessions": _gauge("Engines that shards hear from, added up over the shards"),
    "warm_actors": _gauge("Warm actors"),
    "warm_actors_of": _gauge("Warm actors of a feature: working, idle", "feature", "state"),
    "deliveries": _gauge("Callbacks that are known, by what became of them", "state"),
    "delivery_attempts": _counter("Callbacks sent, by whether the receiver has taken them", "outcome"),
    "events": _counter("Events that callers told of, by what became of them", "outcome"),
    "events_waiting": _gauge("Places that wait to be looked at because of events"),
    "shards": _gauge("Shards of the service"),
    "replica_cache_bytes": _gauge("Values in the memory of the replica that answers this"),
}
"""By name, without what Prometheus adds to it (`_total`, `_bucket`)."""

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the buckets of all histograms, in seconds."""
_LES: Final = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")
CLASSES: Final = ("backfill", "ingest", "interactive")
"""Names of the scheduling classes, by `Priority`."""


def series(name: str, **labels: str) -> str:
    """A series by its name and labels.

    >>> series("hits_total", tier="memory")
    'hits_total{tier="memory"}'
    """
    if not labels:
        return name
    return f"{name}{{{','.join(f'{label}={_quoted(value)}' for label, value in labels.items())}}}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'


HITS_REPLICA: Final = series("hits_total", tier="replica")
HITS_MEMORY: Final = series("hits_total", tier="memory")
HITS_STORE: Final = series("hits_total", tier="store")
READS_REPLICA: Final = series("reads_total", tier="replica")
READS_MEMORY: Final = series("reads_total", tier="memory")
READS_STORE: Final = series("reads_total", tier="store")
BYTES_REPLICA: Final = series("held_bytes", tier="replica")
BYTES_MEMORY: Final = series("held_bytes", tier="memory")
OF_ENGINES: Final = (HITS_REPLICA, HITS_STORE, READS_REPLICA, READS_MEMORY, READS_STORE)
"""What engines count by themselves: no shard sees it, or each of them sees a part.

Hits of the store are those that they have read there themselves; shards count theirs too. Requests that
have ended are engines' as well.
"""


MOST_TENANTS: Final = 50
"""Tenants that have series of their own; the others share those of `OTHERS`."""
OTHERS: Final = "(others)"
"""No tenant has this name."""


class Named:
    """The first tenants that are seen have series of their own: no caller can make ever more of them."""

    def __init__(self, most: int = MOST_TENANTS) -> None:
        self._most = most
        self._tenants: set[str] = set()

    def of(self, tenant: str) -> str:
        """The tenant as a label."""
        if tenant not in self._tenants:
            if len(self._tenants) >= self._most or tenant == OTHERS:
                return OTHERS
            self._tenants.add(tenant)
        return tenant


@functools.lru_cache(maxsize=4096)
def timed(name: str, labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], str]:
    """The series of a histogram, by its name and labels: of each bucket, and of its sum."""
    named = dict(labels)
    buckets = tuple(series(f"{name}_bucket", **named, le=le) for le in _LES)
    return buckets, series(f"{name}_sum", **named)


def observe(counts: MutableMapping[str, int], name: str, seconds: float, **labels: str) -> None:
    """Count one that took so long in a histogram."""
    buckets, total = timed(name, tuple(labels.items()))
    bucket = buckets[bisect_left(BOUNDS, seconds)]
    counts[bucket] = counts.get(bucket, 0) + 1
    counts[total] = counts.get(total, 0) + round(seconds * 1e6)


def split(one: str) -> tuple[str, dict[str, str]]:
    """A series' name and labels; see `series`."""
    name, brace, rest = one.partition("{")
    labels: dict[str, str] = {}
    if brace:
        position = 0
        while rest[position] != "}":
            label, _, _ = rest[position:].partition("=")
            position += len(label) + 2
            value = ""
            while rest[position] != '"':
                if rest[position] == "\\":
                    position += 1
                    value += "\n" if rest[position] == "n" else rest[position]
                else:
                    value += rest[position]
                position += 1
            labels[label.lstrip(",")] = value
            position += 1
    return name, labels


def family(name: str) -> tuple[str, Family | None]:
    """The name of a series' family, and the family; None if that is not in the table."""
    for suffix in ("", "_total", "_bucket", "_sum", "_count"):
        if name.endswith(suffix) and (found := FAMILIES.get(name.removesuffix(suffix))) is not None:
            return name.removesuffix(suffix), found
    return name, None


def cumulated(stats: Mapping[str, float]) -> dict[str, float]:
    """The same with histograms as Prometheus has them: each bucket counts the ones below it too."""
    told: dict[str, float] = {}
    histograms: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, float]] = {}
    for one, value in stats.items():
        name, labels = split(one) if "_bucket{" in one or "_sum" in one else (one, {})
        base, found = family(name)
        if found is None or found.kind != "histogram":
            told[one] = value
            continue
        le = labels.pop("le", "sum")
        histograms.setdefault((base, tuple(labels.items())), {})[le] = value
    for (base, labelled), counts in histograms.items():
        named = dict(labelled)
        count = 0.0
        for le in _LES:
            count += counts.get(le, 0.0)
            told[series(f"{base}_bucket", **named, le=le)] = count
        told[series(f"{base}_count", **named)] = count
        told[series(f"{base}_sum", **named)] = counts.get("sum", 0.0) / 1e6
    return told


def added_up(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """What shards tell, as one: counts and amounts are added up, of ages the greatest is told."""
    found: dict[str, float] = {}
    for part in parts:
        for one, value in part.items():
            if "_oldest_seconds{" in one:
                found[one] = max(found.get(one, 0.0), value)
            else:
                found[one] = found.get(one, 0.0) + value
    return found


def plain(stats: Mapping[str, float]) -> dict[str, float]:
    """What people look at: without histograms, and without what is told of each feature, tenant and demand.

    Series that differ in their tenants alone are added up.
    """
    kept: dict[str, float] = {}
    for one, value in stats.items():
        name, labels = split(one)
        _, found = family(name)
        if labels.keys() & {"feature", "demand", "node"} or (found is not None and found.kind == "histogram"):
            continue
        if labels.pop("tenant", None) is not None:
            one = series(name, **labels)
        kept[one] = kept.get(one, 0.0) + value
    return kept
