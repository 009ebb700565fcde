"""Which ready steps form the next task: admission, priority, fair share, fusion, packing.

Ray runs what it is given first in, first out, so only as much is handed over as the cluster can run plus a
small look-ahead (which is also what an autoscaler sees as demand). The rest waits here, in one lane per kind
of worker, ordered by scheduling class, then fair share between tenants, then deadline, then age.

Must not know: requests, values, Ray. The ledger calls it and moves the states.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from amber_ray.core.feature import Resources
from amber_ray.core.plan import Recipe
from amber_ray.core.states import AVAILABLE, Entry, State

MAX_UNITS = 256
"""Most steps in one task, so that a lost task costs little and its report stays small."""
SLOT = 0.01
"""Least CPU a task is charged in admission, so that zero-CPU features are bounded too."""


class Costs:
    """What one step of a feature takes: running means of seconds and bytes, learned from every report."""

    def __init__(self, known: Mapping[tuple[str, str], tuple[float, float]] | None = None) -> None:
        self._means: dict[tuple[str, str], tuple[float, float]] = dict(known or {})

    def preset(self, feature: str, version: str, seconds: float, size: float) -> None:
        """What storage says of earlier runs; a mean that was learned here stands."""
        self._means.setdefault((feature, version), (seconds, size))

    def learn(self, recipe: Recipe, seconds: float, size: int) -> None:
        """Fold in one run; recent runs weigh more (exponential mean, weight 1/8)."""
        name = recipe.feature, recipe.version
        old = self._means.get(name)
        if old is None:
            self._means[name] = seconds, float(size)
        else:
            self._means[name] = old[0] + (seconds - old[0]) / 8, old[1] + (size - old[1]) / 8

    def seconds(self, recipe: Recipe) -> float | None:
        """Expected run time of one step, or None before the first."""
        known = self._means.get((recipe.feature, recipe.version))
        return None if known is None else known[0]

    def known(self) -> Mapping[tuple[str, str], tuple[float, float]]:
        """(seconds, bytes) by (feature, version)."""
        return self._means

    def bytes(self, recipe: Recipe) -> float | None:
        """Expected size of one value, or None before the first."""
        known = self._means.get((recipe.feature, recipe.version))
        return None if known is None else known[1]


class Lane:
    """Ready steps that the same kind of worker can run, in order of urgency."""

    __slots__ = ("_tiers", "needs", "recipe", "size")

    def __init__(self, recipe: Recipe, needs: Mapping[str, float]) -> None:
        self.recipe = recipe
        self.needs = needs
        self.size = 0
        self._tiers: tuple[dict[str, list[tuple[float, int, int, Entry]]], ...] = ({}, {}, {})

    def push(self, entry: Entry) -> None:
        tier, urgency = entry.rank
        heap = self._tiers[tier].setdefault(entry.tenant, [])
        heapq.heappush(heap, (-urgency, entry.seq, entry.ticket, entry))

    def head(self, served: Mapping[str, float], floor: int = 0) -> Entry | None:
        """The most urgent step of class `floor` or above; left in place."""
        for tier in (2, 1, 0):
            if tier < floor:
                return None
            best: tuple[float, int, Entry] | None = None
            for tenant in list(self._tiers[tier]):
                heap = self._tiers[tier][tenant]
                while heap and (heap[0][3].state is not State.QUEUED or heap[0][3].ticket != heap[0][2]):
                    heapq.heappop(heap)
                if not heap:
                    del self._tiers[tier][tenant]
                    continue
                candidate = (served.get(tenant, 0.0), heap[0][1], heap[0][3])
                if best is None or candidate[:2] < best[:2]:
                    best = candidate
            if best is not None:
                return best[2]
        return None


@dataclass(slots=True)
class Draft:
    """A task in the making: its steps in order, and what it holds while it runs."""

    entries: list[Entry]
    needs: Mapping[str, float]
    recipe: Recipe
    seconds: float | None


class Scheduler:
    """Ready steps in, drafts of tasks out."""

    def __init__(self, costs: Costs, *, lookahead: int, pack_seconds: float) -> None:
        self.costs = costs
        self.lookahead = lookahead
        self.pack_seconds = pack_seconds
        self._lanes: dict[object, Lane] = {}
        self._lane_of: dict[int, tuple[Recipe, object]] = {}
        self._nodes: tuple[Mapping[str, float], ...] = ()
        self._attainable: Mapping[str, float] = {}
        self._total: dict[str, float] = {}
        self._held: dict[str, float] = {}
        self._served: dict[str, float] = {}
        self._tickets = 0

    # --- what the cluster has

    def set_capacity(self, nodes: Sequence[Mapping[str, float]], attainable: Mapping[str, float]) -> bool:
        """Learn the cluster's resources; True if that changed anything (queued steps must be pushed again)."""
        nodes = tuple(dict(n) for n in nodes)
        if nodes == self._nodes and attainable == self._attainable:
            return False
        self._nodes, self._attainable = nodes, dict(attainable)
        self._total = {}
        for node in nodes:
            for name, amount in node.items():
                self._total[name] = self._total.get(name, 0.0) + amount
        self._lanes.clear()
        self._lane_of.clear()
        return True

    def _fits_a_node(self, needs: Mapping[str, float]) -> bool:
        places = (*self._nodes, self._attainable) if self._attainable else self._nodes
        return any(all(node.get(name, 0.0) >= amount for name, amount in needs.items()) for node in places)

    def needs(self, resources: Resources) -> Mapping[str, float]:
        """What a run holds here: a feature that only prefers a GPU asks for none where none can be had."""
        wants = resources.as_mapping()
        if resources.gpu == "preferred" and not self._fits_a_node(wants):
            wants = {n: a for n, a in wants.items() if n != "GPU" and not n.startswith("accelerator_type:")}
        return wants

    def lacking(self, recipe: Recipe) -> str | None:
        """A sentence that says which resource no node has or can get; None if the step can run."""
        needs = self.needs(recipe.resources)
        if not self._nodes or self._fits_a_node(needs):
            return None
        places = (*self._nodes, self._attainable) if self._attainable else self._nodes
        for name, amount in needs.items():
            most = max((node.get(name, 0.0) for node in places), default=0.0)
            if most < amount:
                return (
                    f"feature {recipe.feature!r} requires {_amount(name, amount)}, but the largest node of this "
                    f"cluster has {_amount(name, most)}"
                    + ("; gpu='preferred' would run it on CPU" if name == "GPU" else "")
                )
        return f"feature {recipe.feature!r} requires {needs}, and no single node has all of it"

    # --- the queue

    def push(self, entry: Entry) -> None:
        """Queue a ready step, or queue it anew after its rank changed."""
        recipe = entry.step.recipe
        lane = self._lane(recipe)
        self._tickets += 1
        entry.ticket = self._tickets
        lane.size += 1
        lane.push(entry)
        if entry.tenant not in self._served:
            # A newcomer starts level with the least served, or it would own the cluster until it caught up.
            self._served[entry.tenant] = min(self._served.values(), default=0.0)

    def _lane(self, recipe: Recipe) -> Lane:
        known = self._lane_of.get(id(recipe))
        if known is None:
            needs = self.needs(recipe.resources)
            name: object = (
                (recipe.pool, recipe.params) if recipe.is_class else (recipe.registry, tuple(needs.items()))
            )
            # The recipe is kept beside its id, so that the id can't be reused while the row stands.
            self._lane_of[id(recipe)] = known = (recipe, name)
            if name not in self._lanes:
                self._lanes[name] = Lane(recipe, needs)
            if len(self._lane_of) > 10_000:
                self._lane_of = {id(recipe): known}
        return self._lanes[known[1]]

    def _admits(self, needs: Mapping[str, float]) -> bool:
        """Whether one more task that holds `needs` is within the cluster plus the look-ahead."""
        for name, amount in _charged(needs).items():
            if self._held.get(name, 0.0) + amount > self._total.get(name, 0.0) + self.lookahead * amount + 1e-9:
                return False
        return True

    def take(self, entries: Mapping[str, Entry]) -> Draft | None:
        """The next task, with its resources held; None when nothing is ready or nothing more is admitted."""
        best: tuple[tuple[float, ...], Lane, Entry] | None = None
        for lane in self._lanes.values():
            if not lane.size or not self._admits(lane.needs):
                continue
            head = lane.head(self._served)
            if head is None:
                lane.size = 0
                continue
            order = (-head.rank[0], self._served.get(head.tenant, 0.0), -head.rank[1], head.seq)
            if best is None or order < best[0]:
                best = order, lane, head
        if best is None:
            return None
        _, lane, head = best
        chosen = self._batch(lane, head) if head.step.recipe.is_class else self._pack(lane, head, entries)
        needs: dict[str, float] = dict(lane.needs)
        for entry in chosen:
            for name, amount in self.needs(entry.step.recipe.resources).items():
                needs[name] = max(needs.get(name, 0.0), amount)
        for name, amount in _charged(needs).items():
            self._held[name] = self._held.get(name, 0.0) + amount
        spent = [self.costs.seconds(e.step.recipe) for e in chosen]
        seconds = None if None in spent else sum(s for s in spent if s is not None)
        self._served[head.tenant] = self._served.get(head.tenant, 0.0) + (
            seconds if seconds is not None else 1.0
        )
        return Draft(chosen, needs, head.step.recipe, seconds)

    def release(self, needs: Mapping[str, float]) -> None:
        """A task has ended."""
        for name, amount in _charged(needs).items():
            self._held[name] = max(0.0, self._held.get(name, 0.0) - amount)

    def _batch(self, lane: Lane, head: Entry) -> list[Entry]:
        """Up to `batch` steps of one class of urgency for one warm actor."""
        chosen = [self._claim(lane, head)]
        while len(chosen) < head.step.recipe.batch and not head.alone:
            more = lane.head(self._served, head.rank[0])
            if more is None or more.alone or more.rank[0] != head.rank[0]:
                break
            chosen.append(self._claim(lane, more))
        return chosen

    def _pack(self, lane: Lane, head: Entry, entries: Mapping[str, Entry]) -> list[Entry]:
        """The head's fused group, and more groups of its class while they are known to be cheap."""
        chosen = self._fuse(lane, head, entries)
        if head.alone:
            return chosen
        total = self._expected(chosen)
        free = self._free_slots(lane.needs)
        groups = 1
        share = max(1, lane.size // max(1, free))
        while total is not None and total < self.pack_seconds and len(chosen) < MAX_UNITS and groups < share:
            more = lane.head(self._served, head.rank[0])
            if more is None or more.alone or more.rank[0] != head.rank[0] or more.tenant != head.tenant:
                break
            one = self.costs.seconds(more.step.recipe)
            if one is None or total + one > self.pack_seconds:
                break
            group = self._fuse(lane, more, entries)
            chosen.extend(group)
            more_total = self._expected(group)
            total = None if more_total is None else total + more_total
            groups += 1
        return chosen

    def _free_slots(self, needs: Mapping[str, float]) -> int:
        """How many tasks of this shape could be handed over now."""
        free = MAX_UNITS
        for name, amount in _charged(needs).items():
            room = self._total.get(name, 0.0) + self.lookahead * amount - self._held.get(name, 0.0)
            free = min(free, int(room / amount + 1e-9))
        return max(1, free)

    def _expected(self, group: Iterable[Entry]) -> float | None:
        total = 0.0
        for entry in group:
            one = self.costs.seconds(entry.step.recipe)
            if one is None:
                return None
            total += one
        return total

    def _fuse(self, lane: Lane, seed: Entry, entries: Mapping[str, Entry]) -> list[Entry]:
        """The seed with every missing plain CPU step of its unit that is connected to it and can run with it.

        Values that only these steps use then never leave the worker: a video segment is decoded once for
        all that looks at its frames.
        """
        if seed.alone or not seed.step.recipe.fusable:
            return [self._claim(lane, seed)]
        unit, registry = seed.step.unit_id, seed.step.recipe.registry
        near: dict[str, Entry] = {seed.key: seed}
        stack = [seed]
        while stack and len(near) < MAX_UNITS:
            entry = stack.pop()
            for key in (*entry.dependents, *entry.step.needs):
                other = entries.get(key)
                if (
                    other is not None
                    and key not in near
                    and (other.state is State.WAITING or other.state is State.QUEUED)
                    and other.step.unit_id == unit
                    and not other.alone
                    and other.step.recipe.fusable
                    and other.step.recipe.registry == registry
                ):
                    near[key] = other
                    stack.append(other)
        group: dict[str, Entry] = {}
        for entry in sorted(near.values(), key=lambda e: (e.step.level, e.seq)):
            if all(key in group or entries[key].state in AVAILABLE for key in entry.step.needs):
                group[entry.key] = entry
        return [self._claim(lane, entry) for entry in group.values()]

    def _claim(self, lane: Lane, entry: Entry) -> Entry:
        """Take a step out of the queue by voiding its ticket; the ledger moves its state."""
        if entry.state is State.QUEUED:
            lane.size = max(0, lane.size - 1)
        entry.ticket = 0
        return entry


def _charged(needs: Mapping[str, float]) -> Mapping[str, float]:
    """What a task is charged in admission."""
    return needs if needs.get("CPU", 0.0) >= SLOT else {**needs, "CPU": SLOT}


def _amount(name: str, amount: float) -> str:
    """`2 GPUs`, `64.0 GiB memory`."""
    if name == "memory":
        return f"{amount / (1 << 30):.1f} GiB memory"
    return f"{amount:g} {name}{'s' if amount != 1 and name in ('GPU', 'CPU') else ''}"
