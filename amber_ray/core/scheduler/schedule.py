"""Which ready steps form the next task: admission, priority, fair share, fusion, packing.

Ray starts tasks in the order in which it gets them. So it is given only as many as the cluster can run, plus
a small look-ahead (which is also the demand that an autoscaler sees). The other ready steps wait here, in one
queue for each kind of worker, ordered by scheduling class, then by fair share between tenants within the
class, then by deadline, then by age.

No class starves. Each class counts the tasks of other classes that were handed over while it had a step
ready; after `overtakes` of them the next task is its own. If its first step does not fit then, other tasks
are only handed over beside it, if what they leave is enough for it, as in the EASY backfilling of batch
schedulers (Lifka, JSSPP 1995). Hence the bound. Where all steps hold the same resources, a class that has one
ready is handed a task after at most (overtakes + 2) others, since two other classes may be owed one too. With
T the longest time that a task runs, it takes at most (overtakes + 3) * T in any case. The k-th step in its
class's own order starts within k times that, however much more urgent work arrives.

Calls of services are counted by slots and rates instead of resources (`scheduler.calls`). A step that they
hold back is not ready yet as far as turns are concerned: nothing is kept free for it.

Must not know: requests, values, Ray. The ledger calls it and changes the states.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from amber_ray.core.model.units import Segment
from amber_ray.core.planning.plan import Recipe, Step
from amber_ray.core.scheduler.calls import CallGate
from amber_ray.core.scheduler.capacity import Capacity
from amber_ray.core.scheduler.costs import Cost, Costs, length_class
from amber_ray.core.scheduler.queues import CLASSES, ReadyQueue, Tenants
from amber_ray.core.state.entry import AVAILABLE, QUEUED, WAITING, Entry

MAX_THREADS = 4
"""Threads that decode for one task, at most: what is done with the pictures takes one thread."""
MAX_UNITS = 256
"""Most steps in one task, so that a lost task costs little and its report stays small."""
REEL_US = 60_000_000
"""Microseconds of film whose windows are best decoded by one task: what a segment of the grid has by default.
Each task seeks once, and decodes up to its first window from a key frame, some seconds of film before it."""
REEL_PACKS = 20
"""How much longer than a pack a task may take that decodes windows of one reel."""
KNOWN_RECIPES = 10_000
"""Most recipes whose shape is remembered by their identity."""
_URGENT_FIRST = tuple(reversed(range(CLASSES)))
Reel: TypeAlias = tuple[str | None, int]
"""An asset's id and the number of a stretch of its film, each `REEL_US` long."""
UNKNOWN_SECONDS = 1.0
"""Seconds that a tenant is charged for a step of a feature that has not run yet."""


@dataclass(slots=True)
class Draft:
    """A task in the making: its steps in order, and the resources that it holds while it runs.

    `threads` may decode for it, one of which is its own; the others have idle CPUs.
    """

    entries: list[Entry]
    needs: Mapping[str, float]
    recipe: Recipe
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """How a recipe runs on the present cluster: its queue (`lane`), its resources, and what is lacking.

    `cost` is what its steps have taken so far, but for found units. `recipe` is kept so that its `id()` is
    not given to another one while the shape is remembered.
    """

    recipe: Recipe
    lane: int
    needs: Mapping[str, float]
    lacking: str | None
    cost: Cost


class Scheduler:
    """Takes ready steps, gives drafts of tasks. A step is in the queue exactly while its ticket is not 0."""

    def __init__(
        self, costs: Costs, *, lookahead: int, pack_seconds: float, overtakes: int, shards: int = 1
    ) -> None:
        self.costs = costs
        self.pack_seconds = pack_seconds
        self.overtakes = overtakes
        self.capacity = Capacity(lookahead)
        self.calls = CallGate(shards)
        self.tenants = tuple(Tenants() for _ in range(CLASSES))
        self._passed = [0] * CLASSES
        self.lanes: dict[int, ReadyQueue] = {}
        self._empty: dict[int, ReadyQueue] = {}  # to be used again: many a step is alone in its queue
        self._kinds: dict[object, tuple[int, Mapping[str, float]]] = {}
        self._shapes: dict[int, Shape] = {}
        self._lookers: dict[Reel, dict[str, dict[str, Entry]]] = {}  # by reel, unit and key
        self._tickets = 0

    # --- what the cluster has

    def set_capacity(self, nodes: Sequence[Mapping[str, float]], attainable: Mapping[str, float]) -> bool:
        """Take in the cluster's resources. Return whether they changed.

        If so the queue is empty now: the caller must look at every ready step (`lacking`) and push it again.
        """
        if not self.capacity.set(nodes, attainable):
            return False
        self.lanes.clear()
        self._empty.clear()
        self._shapes.clear()
        self._kinds.clear()
        self._lookers.clear()
        for tenants in self.tenants:
            tenants.nothing_queued()
        return True

    @property
    def lookers(self) -> int:
        """Return how many steps in the queue look at pictures of their unit."""
        return sum(len(entries) for units in self._lookers.values() for entries in units.values())

    def lacking(self, recipe: Recipe) -> str | None:
        """Return a sentence that names the resource that no node has or can get; None if there is none."""
        return self._shape(recipe).lacking

    def cost(self, step: Step) -> Cost:
        """Return what steps of this feature and version have taken so far, for units of this kind."""
        shape, unit = self._shape(step.recipe), step.unit
        if type(unit) is not Segment or not unit.found:  # nearly always, and it is asked for each step
            return shape.cost
        return self.costs.of(step.recipe, length_class(unit))

    def expected(self, step: Step) -> float | None:
        """Return the seconds that a step should take; None if nothing tells."""
        shape, unit = self._shape(step.recipe), step.unit
        if type(unit) is not Segment or not unit.found:
            return shape.cost.seconds
        return self.costs.expected(step.recipe, length_class(unit))

    def _shape(self, recipe: Recipe) -> Shape:
        shape = self._shapes.get(id(recipe))
        if shape is None:
            needs = self.capacity.needs(recipe.resources)
            kind: object = (recipe.registry, tuple(needs.items()))
            if recipe.pooled:
                kind = (recipe.pool, recipe.params)
            elif recipe.calls.alone:
                kind = (recipe.registry, recipe.feature, recipe.version, recipe.resources)
            if len(self._shapes) >= KNOWN_RECIPES:  # of plans long gone
                self._shapes.clear()
                self._empty.clear()
                if not self.lanes:
                    self._kinds.clear()
            number, needs = self._kinds.setdefault(kind, (len(self._kinds), needs))
            lacking = self.capacity.lacking(recipe.feature, needs)
            shape = Shape(recipe, number, needs, lacking, self.costs.of(recipe))
            self._shapes[id(recipe)] = shape
        return shape

    # --- the queue

    def push(self, entry: Entry) -> None:
        """Queue a ready step by its present rank and tenant."""
        shape = self._shape(entry.step.recipe)
        lane = self.lanes.get(shape.lane)
        if lane is None:
            lane = self._empty.pop(shape.lane, None)
            if lane is None:
                lane = ReadyQueue(shape.needs, shape.recipe if shape.recipe.calls.alone else None)
            self.lanes[shape.lane] = lane
        self._tickets += 1
        entry.ticket = self._tickets
        lane.push(entry)
        if entry.step.recipe.looks:
            units = self._lookers.setdefault(_reel(entry.step), {})
            units.setdefault(entry.step.unit_id, {})[entry.key] = entry
        self.tenants[entry.rank[0]].queued(entry.tenant)

    def pull(self, entry: Entry) -> None:
        """Remove a step from the queue, if it is there. Call it before its rank or tenant changes, too."""
        if not entry.ticket:
            return
        entry.ticket = 0
        name = self._shape(entry.step.recipe).lane
        lane = self.lanes[name]
        lane.pull()
        if not lane.size:
            self._empty[name] = self.lanes.pop(name)
        if entry.step.recipe.looks:
            reel = _reel(entry.step)
            units = self._lookers[reel]
            beside = units[entry.step.unit_id]
            del beside[entry.key]
            if not beside:
                del units[entry.step.unit_id]
            if not units:
                del self._lookers[reel]
        self.tenants[entry.rank[0]].unqueued(entry.tenant)

    # --- tasks

    def take(self, entries: Mapping[str, Entry], now: float) -> Draft | None:
        """Return the next task, its steps removed from the queue and its resources held.

        Return None if nothing is ready or nothing more is admitted.
        """
        if not self.lanes:
            return None
        kept: Mapping[str, float] = {}
        owed, turn = self._owed(now)
        if turn is not None and not self._admits(turn[0]):
            kept = turn[0].needs
            turn = None
        for tier in _URGENT_FIRST:
            if turn is not None:
                break
            turn = self._first(tier, kept, now)
        if turn is None:
            return None
        lane, head = turn
        self._took(head.rank[0], still_owed=owed if kept else None)
        tenants = self.tenants[head.rank[0]]
        tenants.turn_of(head.tenant)
        first = head.step.recipe
        if first.calls.alone:
            chosen = [head]
            self.pull(head)
        elif first.is_class:
            chosen = self._batch(lane, head)
        else:
            chosen = self._pack(lane, head, entries, grow=not kept)
        needs: Mapping[str, float] = lane.needs
        for entry in chosen:
            shape = self._shape(entry.step.recipe)
            if shape.needs is not needs:
                needs = _joined(needs, shape.needs)
            seconds = self.expected(entry.step)
            charge = UNKNOWN_SECONDS if seconds is None else seconds
            tenants.charge(entry.tenant, charge / (first.calls.concurrency or 1))  # its share of an actor
        if not first.calls.concurrency:
            self.capacity.hold(needs)
        if first.calls.alone:
            self.calls.took(first, now)
        threads = self._threads(chosen, needs)
        self.capacity.lent += threads - 1
        return Draft(chosen, needs, first, threads)

    def _threads(self, chosen: Sequence[Entry], needs: Mapping[str, float]) -> int:
        """Return how many threads may decode for a task whose resources are held.

        Somebody waits for it, nothing else is ready, and CPUs are idle: its pictures come sooner so. Else
        one, since tasks side by side get more done than threads. CPUs that are lent count as busy for whoever
        would be lent some next, and for nobody else: what becomes ready meanwhile starts all the same. What
        other shards hold is not known here, so where there are others none are lent.
        """
        if self.calls.shards > 1 or set(needs) != {"CPU"}:
            return 1
        if not any(entry.step.recipe.decodes for entry in chosen):
            return 1
        if any(lane.caller is None for lane in self.lanes.values()):
            return 1
        urgent = max(entry.rank[0] for entry in chosen) == CLASSES - 1
        return min(MAX_THREADS, 1 + self.capacity.idle()) if urgent else 1

    def opens_at(self, now: float) -> float:
        """Return when a rate lets the next step start that nothing else holds back; else infinity."""
        if not self.lanes:
            return float("inf")
        opens = (
            self.calls.opens_at(lane.caller)
            for lane in self.lanes.values()
            if lane.caller is not None and self.calls.has_slot(lane.caller)
        )
        return min((when for when in opens if when > now), default=float("inf"))

    def _admits(self, lane: ReadyQueue, kept: Mapping[str, float] | None = None) -> bool:
        """Return whether the cluster has room for a task of a queue, beside `kept`. Calls take none."""
        if lane.caller is not None and lane.caller.calls.concurrency:
            return True
        return self.capacity.admits(lane.needs, beside=kept)

    def _first(
        self, tier: int, kept: Mapping[str, float] | None, now: float
    ) -> tuple[ReadyQueue, Entry] | None:
        """Return a class's next step, of the queues that are admitted beside `kept` (None: of all queues).

        Queues whose slots are taken, or whose rate says that it is too early, are passed over in any case.
        """
        if not self.tenants[tier].waiting:
            return None
        served = self.tenants[tier].served
        best: tuple[tuple[float, float, int], ReadyQueue, Entry] | None = None
        for lane in self.lanes.values():
            if lane.caller is not None and not self.calls.admits(lane.caller, now):
                continue
            if kept is not None and not self._admits(lane, kept):
                continue
            head = lane.head(tier, served)
            if head is None:
                continue
            order = (served[head.tenant], -head.rank[1], head.seq)
            if best is None or order < best[0]:
                best = order, lane, head
        return None if best is None else (best[1], best[2])

    def _owed(self, now: float) -> tuple[int | None, tuple[ReadyQueue, Entry] | None]:
        """Return the class that was overtaken often enough, of several the most often, and its next step."""
        if max(self._passed) < self.overtakes:
            return None, None
        for tier in sorted(range(CLASSES), key=lambda tier: -self._passed[tier]):
            if self._passed[tier] < self.overtakes:
                break
            turn = self._first(tier, None, now)
            if turn is not None:
                return tier, turn
        return None, None

    def _took(self, tier: int, still_owed: int | None) -> None:
        """Record that a class is handed a task, which overtakes the others that wait."""
        for other, tenants in enumerate(self.tenants):
            if not tenants.waiting or (other == tier and other != still_owed):
                self._passed[other] = 0
            else:
                self._passed[other] += 1

    def release(self, recipe: Recipe, needs: Mapping[str, float], threads: int = 1) -> None:
        """Give back the resources of a task that has ended, or its slot, and the CPUs that it was lent."""
        self.capacity.lent -= threads - 1
        if recipe.calls.concurrency:
            self.calls.ended(recipe)
        else:
            self.capacity.release(needs)

    def _batch(self, lane: ReadyQueue, head: Entry) -> list[Entry]:
        """Return up to `batch` steps of one class for one warm actor.

        A CPU gains nothing from long batches, and the last long one leaves the other actors idle. There a
        batch is also bounded by `pack_seconds`.
        """
        chosen = [head]
        served = self.tenants[head.rank[0]].served
        self.pull(head)
        most = head.step.recipe.batch
        seconds = self.expected(head.step)
        if seconds and not lane.needs.get("GPU"):
            most = min(most, max(1, int(self.pack_seconds / seconds)))
        while len(chosen) < most and not head.isolated:
            more = lane.head(head.rank[0], served)
            if more is None or more.isolated:
                break
            chosen.append(more)
            self.pull(more)
        return chosen

    def _pack(
        self, lane: ReadyQueue, head: Entry, entries: Mapping[str, Entry], *, grow: bool
    ) -> list[Entry]:
        """Return the head's fused group, and further groups of its class and tenant while they are cheap.

        Each brings along what it completes (`_followed`). Windows of one reel of film may make a longer task
        than others do (`REEL_US`).

        A task gets no more than an even share of the queue, or workers would stand idle: one share for each
        task that may start now, or for each that the cluster runs at once if those are more. So the shares
        become smaller towards the end, as in guided self-scheduling (Polychronopoulos and Kuck 1987).
        """
        queued = lane.size
        chosen = self._fuse(head, entries, {}, grow)
        if head.isolated:
            return list(chosen.values())
        inside: dict[str, int] = {}
        first = (*chosen.values(),)
        total = self._followed(chosen, first, inside, head, self._expected(first))
        looks = any(entry.step.recipe.looks for entry in first)
        if total is None or total >= self.pack_seconds * (REEL_PACKS if looks else 1):
            return list(chosen.values())
        share = -(-queued // max(self.capacity.room(lane.needs), self.capacity.width(lane.needs)))
        fused = {entry.key for entry in first}
        groups = 1
        alone = share == 1 or len(chosen) >= MAX_UNITS
        for more, most in () if alone else self._beside(lane, head, first):
            one = self.expected(more.step)
            if total is None or one is None or total >= most or total + one > most:
                break
            group = self._fuse(more, entries, chosen, grow)
            chosen.update(group)
            fused.update(group)
            seconds = self._expected(group.values())
            total = None if seconds is None else total + seconds
            total = self._followed(chosen, group.values(), inside, head, total)
            groups += 1
            if groups >= share or len(chosen) >= MAX_UNITS:
                break
        if groups == 1 or not looks:
            return list(chosen.values())
        # By time, so that films are read from window to window; what follows from several groups at the end.
        return sorted(chosen.values(), key=lambda e: _by_time(e.step) if e.key in fused else _LAST)

    def _beside(self, lane: ReadyQueue, head: Entry, group: Sequence[Entry]) -> Iterator[tuple[Entry, float]]:
        """Yield the steps that may go with a group, next one first, and how long the task may take then.

        First those that look at windows of the same reel, so that its pictures are decoded once, then those
        whose turn it is.
        """
        for reel in dict.fromkeys(_reel(entry.step) for entry in group if entry.step.recipe.looks):
            for one in self._of_reel(reel, head):
                if one.ticket:  # else it was taken along meanwhile
                    yield one, self.pack_seconds * REEL_PACKS
        while (more := lane.head(head.rank[0], self.tenants[head.rank[0]].served)) is not None:
            if more.isolated or more.tenant != head.tenant:
                return
            yield more, self.pack_seconds

    def _of_reel(self, reel: Reel, head: Entry) -> list[Entry]:
        """Return the steps that look at windows of a reel and may share a task with `head`, by time."""
        lane = self._shape(head.step.recipe).lane
        looking = (one for units in self._lookers.get(reel, {}).values() for one in units.values())
        found = [
            one
            for one in itertools.islice(looking, 4 * MAX_UNITS)
            if one.rank == head.rank
            and one.tenant == head.tenant
            and not one.isolated
            and one.step.recipe.fusable
            and self._shape(one.step.recipe).lane == lane
            and self.expected(one.step) is not None
        ]
        return sorted(found, key=lambda one: _by_time(one.step))

    def _followed(
        self,
        chosen: dict[str, Entry],
        group: Iterable[Entry],
        inside: dict[str, int],
        head: Entry,
        total: float | None,
    ) -> float | None:
        """Add to a task the cheap steps of other units that lack nothing else; return its expected seconds.

        Such as a feature per asset that gathers the values of an asset's last or only segment: as a task of
        its own it would begin two messages and a turn in the queue later. The task's report is late by these
        steps, so each must fit into a pack, or be short beside the task. `inside` counts how many missing
        inputs of a step are made by the task.
        """
        held = self._shape(head.step.recipe).needs
        fresh = list(group)
        while total is not None and fresh:
            for user in fresh.pop().dependents.values():
                if user.state is not WAITING or user.key in chosen:
                    continue
                inside[user.key] = inside.get(user.key, 0) + 1
                if user.missing != inside[user.key] or len(chosen) >= MAX_UNITS:
                    continue
                one = self.expected(user.step)
                if one is None or one > max(self.pack_seconds - total, total / 10):
                    continue
                fits = _joined(held, self._shape(user.step.recipe).needs) is held
                if fits and user.tenant == head.tenant and _may_share(user, head):
                    chosen[user.key] = user
                    fresh.append(user)
                    total += one
        return total

    def _expected(self, group: Iterable[Entry]) -> float | None:
        total = 0.0
        for entry in group:
            one = self.expected(entry.step)
            if one is None:
                return None
            total += one
        return total

    def _fuse(
        self, seed: Entry, entries: Mapping[str, Entry], taken: Mapping[str, Entry], grow: bool
    ) -> dict[str, Entry]:
        """Return the seed and the missing plain CPU steps of its unit that are connected and can join it.

        Values that only these steps use then never leave the worker: a video segment is decoded once for all
        that look at its frames. Ready steps that look at the unit's pictures count as connected: their looks
        share a decode. Steps of a lower class are left out, since they would delay the task. `grow`: the task
        may hold more resources than the seed does.
        """
        self.pull(seed)
        if seed.isolated or not seed.step.recipe.fusable:
            return {seed.key: seed}
        near: dict[str, Entry] = {seed.key: seed}
        needs: Mapping[str, float] = self._shape(seed.step.recipe).needs
        stack = [seed]
        while stack:
            entry = stack.pop()
            looks = entry.step.recipe.looks
            units = self._lookers.get(_reel(entry.step), {}) if looks else {}
            beside = units.get(entry.step.unit_id, {})
            for other in (*entry.dependents.values(), *map(entries.get, entry.needs), *beside.values()):
                if other is None or not _joins(other, seed) or other.key in near or other.key in taken:
                    continue
                if len(near) + len(taken) >= MAX_UNITS:
                    continue
                together = _joined(needs, self._shape(other.step.recipe).needs)
                if together is needs or (grow and self.capacity.fits_a_node(together)):
                    needs = together
                    near[other.key] = other
                    stack.append(other)
        if len(near) == 1:
            return near
        group: dict[str, Entry] = {}
        for entry in sorted(near.values(), key=_inputs_first):
            if all(key in group or entries[key].state in AVAILABLE for key in entry.needs):
                group[entry.key] = entry
                self.pull(entry)
        return group


def _reel(step: Step) -> Reel:
    """Return the stretch of film that a step looks at: of an asset as a whole, none in particular."""
    unit = step.unit
    return step.asset_id, unit.start_us // REEL_US if isinstance(unit, Segment) else -1


def _by_time(step: Step) -> tuple[bool, str, int]:
    unit = step.unit
    return False, step.asset_id or "", unit.start_us if isinstance(unit, Segment) else -1


_LAST = (True, "", 0)


def _inputs_first(entry: Entry) -> tuple[int, int]:
    return entry.step.level, entry.seq


def _joins(other: Entry, seed: Entry) -> bool:
    """Return whether a neighbour of the same unit may run in the seed's task, apart from its inputs."""
    return other.step.unit_id == seed.step.unit_id and _may_share(other, seed)


def _may_share(other: Entry, seed: Entry) -> bool:
    """Return whether a step may run in the seed's task, apart from its unit and its inputs."""
    if other.state is not WAITING and other.state is not QUEUED:
        return False
    recipe = other.step.recipe
    return (
        recipe.fusable
        and not other.paused
        and not other.isolated
        and not other.step.is_template
        and other.rank[0] >= seed.rank[0]
        and recipe.registry == seed.step.recipe.registry
    )


def _joined(a: Mapping[str, float], b: Mapping[str, float]) -> Mapping[str, float]:
    """Return what steps that run one after the other hold, the most of each; `a` itself if that is enough."""
    if a is b or all(a.get(name, 0.0) >= amount for name, amount in b.items()):
        return a
    return {name: max(a.get(name, 0.0), b.get(name, 0.0)) for name in (*a, *(n for n in b if n not in a))}
