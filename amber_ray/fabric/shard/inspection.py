"""What a shard tells of itself: states, expected costs, failures, counters. Changes nothing."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import numpy as np

from amber_ray.core.ledger.foresight import prospect
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.kept import Kept, KeptRow, unit_per
from amber_ray.core.model.naming import assets_of
from amber_ray.core.model.provenance import ValueInfo
from amber_ray.core.model.request import Failure
from amber_ray.core.model.stats import BYTES_MEMORY, CLASSES, HITS_MEMORY, HITS_STORE, Named, series
from amber_ray.core.model.units import Asset, Collection, Per, Segment, Unit
from amber_ray.core.planning.fanout import Windows
from amber_ray.core.planning.plan import params_of
from amber_ray.core.scheduler.costs import Means
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE, State
from amber_ray.fabric.shard.actor_pools import ActorPools
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.requests import RequestTable
from amber_ray.fabric.transport.messages import Foreseen, PartRows, PlanPart
from amber_ray.store.key_index import hexed

WORDS: Mapping[State, str] = {
    State.ABSENT: "missing",
    State.WAITING: "queued",
    State.QUEUED: "queued",
    State.RUNNING: "running",
    State.HOT: "hot",
    State.KEPT: "kept",
    State.COLD: "cold",
    State.RESTORING: "cold",
    State.FAILED: "failed",
}
"""States in the words of `ExplainedStep`."""
WAITS_FOR: Mapping[State, str] = {
    State.WAITING: "inputs",
    State.QUEUED: "turn",
    State.RUNNING: "running",
    State.RESTORING: "store",
}
"""What steps wait for that are on their way."""
READY = frozenset({State.QUEUED, State.RUNNING})
AS_STORED = frozenset({State.ABSENT, State.KEPT, State.COLD, State.RESTORING})
"""Of a key that is in a part, what is there is what counts."""
TOLD_ROWS = 1 << 14
"""Most rows of a part that an engine is told of, in several milliseconds of the shard's loop."""
SHOWN = ("CPU", "GPU")
"""Resources of which it is told how much is held."""
HITS: Mapping[str, str] = {"hits_memory": HITS_MEMORY, "hits_store": HITS_STORE}
"""The ledger's counters that have labels."""


def foreseen(
    ledger: Ledger,
    part: PlanPart,
    now: float,
    *,
    borrowed: Sequence[str] = (),
    broken: Sequence[str] = (),
    refresh: bool = False,
    load: bool = True,
    located: float = 0.0,
    windows: Mapping[str, Windows] | None = None,
) -> tuple[Foreseen, list[str]]:
    """What the ledger would do with a request, and the states of the keys that this shard owns.

    `borrowed`: keys that other shards would ask this one for. `broken`: those of other shards, asked for
    here, that will have no value there. `windows`: those of finders' values that are only stored, as far as
    they have been read. Also returns which of them, read too, would tell more.
    """
    owned = [key for key, step in part.steps.items() if step.home == ledger.shard]
    targets = [target.key for target in part.targets]
    requests = [
        ev.Requested("explained", part.steps, targets, refresh=refresh, load=load, located=located),
        ev.Requested("borrowed", part.steps, borrowed),
    ]
    why = Failure("system", "SystemFault", "another shard has no value of it", "", "", "", 503)
    found = prospect(ledger, requests, now, dict.fromkeys(broken, why), windows)
    states = {key: WORDS[ledger.state_of(key)] for key in owned}
    opened = [key for key in found.opened if key in states]
    for template in opened:
        expansion, finder = found.opened[template], part.steps[template].needs[0]
        states.update((key, WORDS[ledger.state_of(key)]) for key in expansion.steps)
        if not expansion.keys:  # the list is there, as its finder's is
            states[template] = states[finder]
    return Foreseen(states, found.fates, opened, found.windows), found.unread


def kept(context: ShardContext, feature: str, version: str, units: Container[str]) -> Kept:
    """The values of one version that are in memory, of these assets and collections, by their units' text."""
    rows: dict[str, list[KeptRow]] = {}
    per: Per | None = None
    for key, entry in context.ledger.entries.items():
        step = entry.step
        recipe = step.recipe
        if (recipe.feature, recipe.version) != (feature, version) or recipe.gone:
            continue
        if entry.state not in AVAILABLE or (handle := context.values.get(key)) is None:
            continue
        per = unit_per(step.unit_id)  # a found window is told as a segment, as the store tells it
        if (step.asset_id or step.unit_id) in units:
            row = KeptRow(key, step.unit_id, params_of(recipe), handle.made.created)
            rows.setdefault(step.unit_id, []).append(row)
    return Kept(rows, per, (version,) if per is not None else ())


def about(context: ShardContext, asset: str, feature: str | None, version: str | None) -> Iterator[ValueInfo]:
    """The values in memory that are about an asset, or a collection that it is in, in no order."""
    for key in context.values:
        entry = context.ledger.entries.get(key)
        if entry is None:
            continue
        recipe = entry.step.recipe
        if feature in (None, recipe.feature) and version in (None, recipe.version):
            info = held(context, key)
            if info is not None and asset in info.assets:
                yield info


def held(context: ShardContext, key: str) -> ValueInfo | None:
    """What is known of a value of this shard's that is in memory; None if it is not."""
    entry, handle = context.ledger.entries.get(key), context.values.get(key)
    if entry is None or handle is None or entry.state not in AVAILABLE:
        return None
    step = entry.step
    if step.home != context.shard:
        return None  # another shard lent it, and knows more of it
    recipe, made = step.recipe, handle.made
    return ValueInfo(
        key,
        recipe.feature,
        recipe.version,
        step.unit_id,
        json.loads(params_of(recipe)),
        isinstance(step.unit, Segment) and step.unit.found,
        made.created,
        made.seconds,
        made.device,
        recipe.code,
        tuple(step.needs),
        stored=key in context.index,
        memory=True,
    )


def rows_of(context: ShardContext, part: str, late: Sequence[str]) -> PartRows | None:
    """The values of a part that are the newest of their keys; None if it has too many to be told.

    What is being made anew, or was and is not written yet, is not told, nor what has failed since; and
    nothing while there are parts that can't be listed now (`late`), which may have newer values.
    """
    keys, rows = context.index.rows_of(part)
    if len(keys) > TOLD_ROWS or late:
        return None
    entries = context.ledger.entries

    def newest(key: str) -> bool:
        entry = entries.get(key)
        return key not in context.refreshing and (entry is None or entry.state in AS_STORED)

    sure = np.fromiter(map(newest, hexed(keys)), bool, len(keys))
    return PartRows(keys[sure], rows[sure])


def expected(ledger: Ledger, names: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Means]:
    """What one step of (feature, version) costs in the mean, for those that have run."""
    known = ledger.costs.known()
    return {name: known[name] for name in names if name in known}


def failed(ledger: Ledger, keys: Iterable[str]) -> dict[str, Failure]:
    """The failures of those keys whose steps have failed."""
    found: dict[str, Failure] = {}
    for key in keys:
        entry = ledger.entries.get(key)
        if entry is not None and entry.state is State.FAILED and entry.failure is not None:
            found[key] = entry.failure
    return found


def failures(ledger: Ledger) -> list[Failure]:
    """The failures remembered now, each with the features that it blocks and the place of its asset."""
    found: dict[str, Failure] = {}
    places: dict[str, str] = {}
    blocked: dict[str, set[str]] = collections.defaultdict(set)
    for entry in ledger.entries.values():
        if entry.state is not State.FAILED or entry.failure is None:
            continue
        root = entry.failure.key
        if root == entry.key or root not in found:
            found[root] = entry.failure.told(assets_of(entry.step.unit))
            places[root] = _place(entry.step.unit)
        if root != entry.key:
            blocked[root].add(entry.step.recipe.feature)
    return [
        dataclasses.replace(failure, blocked=tuple(sorted(blocked[key])), uri=places[key])
        for key, failure in found.items()
    ]


def _place(unit: Unit) -> str:
    """Where a unit's asset is read; empty for a collection, which is at many places."""
    if isinstance(unit, Collection):
        return ""
    return unit.uri if isinstance(unit, Asset) else unit.asset.uri


def stats(context: ShardContext, requests: RequestTable, pools: ActorPools) -> dict[str, float]:
    """Counters and gauges of one shard."""
    ledger = context.ledger
    by_state = collections.Counter(e.state for e in ledger.entries.values())
    found: dict[str, float] = {
        HITS.get(name, f"{name}_total"): float(n) for name, n in ledger.counters.items()
    }
    found |= pools.stats()
    found |= {f"keys_{s.name.lower()}": float(by_state[s]) for s in State if s is not State.ABSENT}
    found |= ledger.graph.tally.told()
    for name, tenants in zip(CLASSES, ledger.scheduler.tenants, strict=True):
        found[series("queued", **{"class": name})] = float(tenants.steps)
    found |= _oldest(ledger, context.clock.now()) | _held(context, pools)
    found |= _on_the_way(ledger, context.clock.now())
    put_off = sum(1 for e in ledger.entries.values() if e.paused and e.laters)
    return found | {
        "keys_put_off": float(put_off),  # wait for the time at which they asked to be tried again
        "keys_indexed": float(len(context.index)),
        "index_bytes": float(context.index.nbytes),
        "hot_bytes": float(ledger.hot_bytes),
        BYTES_MEMORY: float(ledger.hot_bytes),
        "memory_budget_bytes": float(context.settings.memory_bytes),
        "unspilled_bytes": float(ledger.unspilled_bytes),
        "spilling_keys": float(len(ledger.spilling)),
        "tasks_running": float(len(ledger.tasks)),
        "requests_running": float(len(ledger.requests)),
        "requests_remembered": float(len(requests)),
        "sessions": float(requests.sessions),
        "warm_actors": float(len(pools)),
    }


def _oldest(ledger: Ledger, now: float) -> dict[str, float]:
    """How long the step of each class waits that has waited longest."""
    since = [now] * len(CLASSES)
    if any(tenants.waiting for tenants in ledger.scheduler.tenants):
        for entry in ledger.entries.values():
            if entry.ticket:
                since[entry.rank[0]] = min(since[entry.rank[0]], entry.ready)
    return {
        series("queue_oldest_seconds", **{"class": name}): now - when
        for name, when in zip(CLASSES, since, strict=True)
    }


def _on_the_way(ledger: Ledger, now: float) -> dict[str, float]:
    """How many steps wait for what, of each feature, class and tenant, and since when they could run.

    What another shard was asked for is told there. Tenants with the most steps have series of their own.
    """
    counts: collections.Counter[tuple[str, int, str, str]] = collections.Counter()
    since: dict[tuple[str, int, str, str], float] = {}
    for entry in ledger.entries.values():
        if entry.state not in WAITS_FOR:
            continue
        step, tier = entry.step, entry.rank[0]
        if tier < 0 or step.home != ledger.shard:
            continue
        what = "retry" if entry.paused else WAITS_FOR[entry.state]
        group = (what, tier, step.recipe.feature, entry.tenant)
        counts[group] += 1
        if entry.state in READY:
            since[group] = min(since.get(group, now), entry.ready)
    tenants = Named()
    found: dict[str, float] = {}
    for group, count in counts.most_common():
        what, tier, feature, tenant = group
        labels = {"class": CLASSES[tier], "feature": feature, "state": what, "tenant": tenants.of(tenant)}
        one = series("on_the_way", **labels)
        found[one] = found.get(one, 0.0) + count
        if group in since:
            oldest = series("on_the_way_oldest_seconds", **labels)
            found[oldest] = max(found.get(oldest, 0.0), now - since[group])
    return found


def _held(context: ShardContext, pools: ActorPools) -> dict[str, float]:
    """CPUs and GPUs that this shard's tasks and actors hold. What there is, the first shard tells for all.

    A batch's GPU is held by its actor, also between batches; calls of services hold nothing.
    """
    held = {**dict.fromkeys(SHOWN, 0.0), **pools.held}
    for task in context.ledger.tasks.values():
        if task.home is None and not task.recipe.calls.concurrency:
            for name in SHOWN:
                held[name] += task.needs.get(name, 0.0) if name == "CPU" or not task.pool else 0.0
    told = {series("resources_held", resource=name): held[name] for name in SHOWN}
    if context.shard == 0:
        total = context.ledger.scheduler.capacity.total
        told |= {series("cluster_resources", resource=name): total.get(name, 0.0) for name in SHOWN}
        for node in context.ledger.scheduler.capacity.nodes:
            for name in SHOWN:
                told[series("node_resources", node=_address(node), resource=name)] = node.get(name, 0.0)
    return told


def _address(node: Mapping[str, float]) -> str:
    """A node's address, which Ray has among its resources."""
    names = (name.removeprefix("node:") for name in node if name.startswith("node:"))
    return next((name for name in names if not name.startswith("__")), "")
