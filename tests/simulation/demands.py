"""Worlds with demands: a folder whose media come, change and go, and stewards that die in the middle of it.

In some of them everything dies at once, a few times, in the midst of demands, requests and callbacks.

The desk of the first shard, the steward, its keepers and sweeps are the real ones, and so is the comparison;
bound to the world are the records, the runs and what is listed. At the end of a world, whatever has befallen
it, every demand says that all is true, and it is: the values are stored. Its callback has heard so since it
became true for the last time, and of all else that was on paper as news, each by one id with the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.callback import EVENTS, Callback
from amber_ray.core.model.demand_codec import (
    demand_from_json,
    demand_to_json,
    state_from_json,
    state_to_json,
)
from amber_ray.core.model.demands import Demand, DemandState, DemandView, Findings, Message
from amber_ray.core.model.listing import Change, Comparison, Listed, Noted, compared, overlaid
from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.units import Asset
from amber_ray.core.planning.wanted import wanted
from amber_ray.errors import AmberError, MediaNotFound, StoreError, Unavailable
from amber_ray.fabric.demands import ports as demand_ports
from amber_ray.fabric.demands.desk import EngineDesk
from amber_ray.fabric.demands.ports import Glance
from amber_ray.fabric.demands.steward import Steward, remembering_nothing
from amber_ray.settings import Limits, Settings
from amber_ray.store.demands import DemandRecord
from tests.simulation.callers import Broken, connected
from tests.simulation.draws import Draws
from tests.simulation.features import SEGMENT_SECONDS
from tests.simulation.loop import Process
from tests.simulation.network import Node
from tests.simulation.receiver import GONE, url_of
from tests.simulation.scenario import SECONDS, Scenario
from tests.simulation.store import Store
from tests.simulation.world import RunningEngine, SimAssets, SimClock, World

FOLDER = "/d/"
PLACES = 6
WANTED = ("probe", "look", "mood", "scene", "film")
TRUE_SECONDS = 300.0
DONE = "demand.done"
LATE_SECONDS = 5.0
"""A call that is lost may be carried out so much later."""


class Word(NamedTuple):
    """What a user has said of a demand's name: it is to be kept, or not to be (None).

    `until`: the last time at which that may be carried out, as by a call of an engine that has died.
    """

    demand: Demand | None
    until: float


class DemandWorld(World):
    """A world of which some callers are demands."""

    def __init__(self, scenario: Scenario, *, traced: bool = False) -> None:
        self.rng = random.Random(f"{scenario.seed}/demands")
        self.told = random.Random(f"{scenario.seed}/events")
        self.folder: dict[str, tuple[int, int]] = {}
        """What is listed: the number of the asset at a place, and how often the place was written to."""
        self.written = 0
        self.records: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.runs: dict[str, dict[str, list[Noted]]] = {}
        self.watchers: list[asyncio.Queue[Sequence[str]]] = []
        self.stewards: list[Node] = []
        self.wanted: Node | None = None
        self.said: dict[str, list[Word]] = {}
        self.calls = random.Random(f"{scenario.seed}/callbacks of demands")
        self.news: dict[str, tuple[str, int, Message]] = {}
        """Messages that were on paper: of which saying of a demand, and with which of all states at first."""
        self.states_noted = 0
        self.found: dict[str, Findings] = {}
        self.untold: set[str] = set()
        self.became_true: dict[str, int] = {}
        """By the id of a saying, with which of all states all became true for the last time."""
        super().__init__(scenario, traced=traced)
        for place in range(PLACES // 2):
            self.write(place)

    # --- what happens

    def write(self, place: int) -> None:
        """A file appears, is touched, or has other bytes from now on."""
        self.written += 1
        self.folder[f"{FOLDER}{place}"] = self.rng.randrange(self.scenario.assets), self.written
        self.saw("a medium was written")

    def signature(self, place: str) -> str:
        """What a listing says of a file; empty if there is none."""
        number, written = self.folder.get(place, ("", ""))
        return f"{number}:{written}" if written else ""

    def _happens(self) -> None:
        kind = self.rng.random()
        if kind < 0.5:
            place = self.rng.randrange(PLACES)
            self.write(place)
            self._event(f"{FOLDER}{place}")
        elif kind < 0.75 and self.folder:
            gone = self.rng.choice(sorted(self.folder))
            del self.folder[gone]
            self.saw("a medium vanished")
            self._event(gone)
        elif self.wanted is not None and self.wanted.process is not None:
            self.saw("a steward died")
            self.wanted.process.kill()

    def _event(self, place: str) -> None:
        """Half of all events are lost, each other comes twice, some so late that they overtake each other."""
        if self.told.random() < 0.5:
            self.saw("an event was dropped")
            return
        for _ in range(2):
            late = self.told.choice((0.0, 0.1, 5.0))
            if self.told.random() < 0.5:
                self.later(late, lambda: [queue.put_nowait((place,)) for queue in self.watchers])
            else:
                say = lambda: self.spawn(self._tell(place))  # noqa: E731
                self.loop.call_later(late, say, context=self._outside.context())

    async def _tell(self, place: str) -> None:
        """A sender says it once, whether it is heard or not; some of what it says is about nothing."""
        node = self.engines[self.told.randrange(len(self.engines))]
        with contextlib.suppress(Broken, AmberError):
            noticed = await connected(self, node, lambda s: s.notify([place, "/elsewhere", FOLDER + "never"]))
            if noticed.taken:
                self.saw("an event was taken")

    def _all_die(self) -> None:
        """`kill -9` of everything: what is stored and who calls is left, and each process starts again."""
        self.saw("everything died")
        for node in (*self.stewards, *self.engines, *self.shards):
            if node.process is not None:
                node.process.kill()

    async def _story(self) -> None:
        loop = self.loop
        storm = random.Random(f"{self.scenario.seed}/storm")
        for _ in range(storm.choice((0, 1, 2, 5))):
            loop.call_later(storm.random() * SECONDS, self._all_die, context=self._outside.context())
        for _ in range(self.rng.choice((4, 12, 30))):
            loop.call_later(self.rng.random() * SECONDS, self._happens, context=self._outside.context())
        for number in range(self.rng.choice((1, 1, 2))):
            at = self.rng.random() * SECONDS / 3
            loop.call_later(at, self._say, f"d{number}", context=self._outside.context())
            if self.rng.random() < 0.4:
                loop.call_later(at + 10, self._say, f"d{number}", context=self._outside.context())
            if self.rng.random() < 0.3:
                loop.call_later(at + 15, self._stop, f"d{number}", context=self._outside.context())
        await super()._story()

    def _say(self, name: str) -> None:
        registry = self.media.generations[-1]
        features = [f for f in WANTED if registry.get(f).store == "parquet"]
        if not features:
            return  # in this world none of them is kept
        demand = Demand(
            name,
            tuple(self.rng.sample(features, self.rng.randint(1, min(2, len(features))))),
            (FOLDER,),
            every=self.rng.choice((1.0, 3.0, 15.0)),
            gone=self.rng.choice(("keep", "keep", "purge")),
            settle_seconds=0.0,
            callback=self._callback(name),
        )
        self.spawn(self._persist("keep", name, demand))

    def _callback(self, name: str) -> Callback | None:
        if self.calls.random() < 0.2:
            return None
        wanted = self.calls.choice((EVENTS, ("done", "failed"), ("done",), ("result",)))
        return Callback(url_of(f"{name}-{self.calls.randrange(2)}"), wanted)

    def _stop(self, name: str) -> None:
        self.spawn(self._persist("stop_keeping", name, None))

    async def _persist(self, method: str, name: str, demand: Demand | None) -> None:
        """A user says it until it was heard. Of words that overlap either may be the last."""
        argument, began = name if demand is None else demand, self.loop.time()
        while True:
            node = self.engines[self.rng.randrange(len(self.engines))]
            try:
                await connected(self, node, lambda service: getattr(service, method)(argument))
            except (Broken, AmberError):
                await asyncio.sleep(0.5)
                continue
            self.changed("demand.kept" if demand else "demand.stopped", name)
            earlier = [word for word in self.said.get(name, ()) if word.until > began]
            self.said[name] = [*earlier, Word(demand, self.loop.time() + LATE_SECONDS)]
            return

    # --- bound to the world

    def make_limits(self) -> Limits:
        """In some worlds a tenant may have few callbacks that are still to be made."""
        few = random.Random(f"{self.scenario.seed}/limits").choice((10_000, 10_000, 4, 2))
        return Limits(deliveries_per_tenant=few)

    def make_assets(self, process: Process) -> SimAssets:
        """The catalogue, which has the folder's places too."""
        return FolderAssets(self, process)

    def make_demands(self, process: Process, number: int) -> tuple[Any, Any]:
        """The records of demands, and who sees to them."""
        return (SimDemands(self, self.state_noted), SimStewards(self)) if number == 0 else (None, None)

    def saw_death(self, node: Node) -> None:
        """Ray ends a steward with the process that owns it, a little later, and starts it again otherwise."""
        if node in self.stewards:
            if node is self.wanted:
                self.later(0.5 + self.draws.unit("restart", node.name), node.start)
            return
        super().saw_death(node)
        if node is self.shards[0]:
            self.retire(self.wanted)
            self.wanted = None

    def retire(self, node: Node | None) -> None:
        """End a steward for good, a little later: two may be there meanwhile."""

        def end() -> None:
            if node is not None and node is not self.wanted and node.process is not None:
                node.process.kill()

        self.later(2.0 * self.draws.unit("retire", "steward"), end)

    # --- what must be so in the end

    def _last(self) -> list[asyncio.Task[None]]:
        if self.wanted is not None and self.wanted.process is not None:
            self.wanted.process.kill()  # it comes back with the code as it is now
        return [*super()._last(), asyncio.ensure_future(self._becomes_true())]

    async def _becomes_true(self) -> None:
        """Every demand says that all is true, within a few sweeps, and the values are stored."""
        since, give_up = self.unix() + 5.0, self.loop.time() + TRUE_SECONDS
        while True:
            await asyncio.sleep(1.0)
            try:
                views = await connected(self, self.engines[0], lambda service: service.demands())
            except (Broken, AmberError):
                continue
            late = [v for v in views if not self._true(v, since)]
            if not late:
                break
            assert self.loop.time() < give_up, f"a demand does not become true: {late}"
        there = {view.demand.name: view.demand for view in views}
        assert there.keys() <= self.said.keys()
        for name, words in self.said.items():
            assert there.get(name) in [word.demand for word in words], f"the last word of {name} was not kept"
        # What somebody purged, or a disk has lost, is not noticed by a demand, and need not be back.
        await self._are_told()
        lost = {"a purge", "a part was damaged", "a part was torn"} & self.seen.keys()
        stored = {row.key for part in self.store.parts.values() for row in part.rows if not part.damaged}
        for view in views:
            assert view.status.seen == len(self.folder), (view, self.folder)
            for place, (number, _) in self.folder.items():
                keys = self._keys(view.demand, number)
                missing = [self.media.names[key] for key in keys if key not in stored]
                assert not missing or lost or any(map(self._fails, keys)), (
                    f"{place}: {missing} are not stored"
                )
                if not lost:
                    self.saw("what is said to be true was looked up")
            self.saw("a demand was true in the end" if view.status.all_true else "all was true that can be")

    def state_noted(self, record: DemandRecord, state: DemandState) -> None:
        """A state is on paper: what it has to tell is fixed, and a message that is sent is of one of them."""
        self.states_noted += 1
        for one in state.telling.unsent:
            _, _, first = self.news.setdefault(one.id, (record.id, self.states_noted, one))
            assert one == first, f"{one.id} was on paper with two bodies"
        before, now = self.found.get(record.id, Findings()), state.findings
        if now.all_true and not (before.all_true and before.became == now.became):
            self.became_true[record.id] = self.states_noted
        told = state.telling.findings
        if now.all_true and not (told.all_true and told.became == now.became):
            self.untold.add(record.id)
        elif now.all_true:
            self.untold.discard(record.id)
        elif record.id in self.untold:  # there was no room to tell of it for as long as it was so
            self.untold.discard(record.id)
            del self.became_true[record.id]
        self.found[record.id] = now

    async def _are_told(self) -> None:
        """Every message has reached the receiver, and the last end of every demand is among them."""
        give_up = self.loop.time() + TRUE_SECONDS
        while unheard := self._unheard():
            assert self.loop.time() < give_up, f"{unheard} was not told"
            await self.receiver.hurry()
            await asyncio.sleep(5.0)
        for id, (_, _, one) in self.news.items():
            assert self.receiver.bodies[id] == one.body.encode(), f"{id} was sent with other bytes"
            self.saw("news of a demand was told")

    def _unheard(self) -> str:
        for id in self.news:
            given = self.receiver.answers.get(id, ())
            if not any(200 <= status < 300 or status == GONE for status in given):
                return id
        for name, text in self.records.items():
            data = json.loads(text)
            callback, since = demand_from_json(data["demand"]).callback, self.became_true.get(data["id"])
            if callback is None or "done" not in callback.on or since is None:
                continue
            ends = [n for whose, n, one in self.news.values() if (whose, one.type) == (data["id"], DONE)]
            if max(ends, default=0) < since:
                return f"that all became true for {name}"
            self.saw("the last end of a demand was told")
        return ""

    def noted(self, name: str, rows: Sequence[Noted]) -> None:
        """What is noted as true is stored by then: a crash of everything would lose none of it.

        But for what is not there any more, or is another file by now: its values may be purged as gone, and
        the next sweep finds that. Runs that are joined have such rows.
        """
        if (
            name not in self.records
            or self.faults.purges  # somebody is about to be told that it is done
            or {"a purge", "a part was damaged", "a part was torn"} & self.seen.keys()
        ):
            return
        demand = demand_from_json(json.loads(self.records[name])["demand"])
        stored = {row.key for part in self.store.parts.values() for row in part.rows}
        numbers = {asset.id: number for number, asset in enumerate(self.media.assets)}
        for registry in self.media.generations:
            by = wanted(registry, demand, SEGMENT_SECONDS)
            for row in rows:
                if row.by == by and row.asset and row.signature == self.signature(row.uri):
                    missing = [k for k in self._keys(demand, numbers[row.asset], registry) if k not in stored]
                    assert not missing, (
                        f"{row.uri} was noted, and {self.media.names[missing[0]]} is not stored"
                    )
                    self.saw("what was noted was looked up")

    def _true(self, view: DemandView, since: float) -> bool:
        """Whether a sweep that began since has found all true, but for what can have no value."""
        status = view.status
        hopeless = sum(any(map(self._fails, self._keys(view.demand, n))) for n, _ in self.folder.values())
        return status.began > since and not status.error and status.true >= status.seen - hopeless

    def _fails(self, key: str) -> bool:
        return self.media.doomed(key) or self.media.bad_value(key)

    def _keys(self, demand: Demand, number: int, registry: Registry | None = None) -> list[str]:
        planner = self.media.planner(
            registry or self.media.generations[-1], demand.features, self.scenario.shards
        )
        planner.add_asset(self.media.assets[number])
        return [target.key for target in planner.plan().targets]


class FolderAssets(SimAssets):
    """The catalogue with the folder's places."""

    def __init__(self, world: DemandWorld, process: Process) -> None:
        super().__init__(world, process)
        self._folder = world

    def at_hand(self, uri: str, tenant: str | None = None) -> Asset | None:
        """See `Assets.at_hand`."""
        return None if uri.startswith(FOLDER) else super().at_hand(uri, tenant)

    def _resolve(self, ref: AssetRef) -> Asset | AmberError:
        if ref.uri is None or not ref.uri.startswith(FOLDER):
            return super()._resolve(ref)
        if ref.uri not in self._folder.folder:
            return MediaNotFound(f"there is no {ref.uri}")
        return self._folder.media.assets[self._folder.folder[ref.uri][0]]

    async def somewhere(self, ids: Sequence[str]) -> frozenset[str]:
        """See `Naming.somewhere`: these assets have places of their own, outside of the folder."""
        await asyncio.sleep(0.01)
        return frozenset(ids) if self._folder.scenario.seed % 2 else frozenset(self._listed(ids))

    def _listed(self, ids: Sequence[str]) -> list[str]:
        there = {self._folder.media.assets[number].id for number, _ in self._folder.folder.values()}
        return [id for id in ids if id in there]


class Records(Protocol):
    """A world that has records of demands: their texts and states by name, and the runs that states name."""

    store: Store
    draws: Draws
    records: dict[str, str]
    states: dict[str, str]
    runs: dict[str, dict[str, list[Noted]]]


class SimDemands:
    """The records of demands in the world's store. Implements `Demands`."""

    def __init__(
        self, world: Records, noted: Callable[[DemandRecord, DemandState], None] = lambda record, state: None
    ) -> None:
        """`noted` is called with each state that is on paper."""
        self._world = world
        self._noted = noted

    async def read(self) -> list[tuple[DemandRecord, DemandState]]:
        """See `Demands.read`."""
        await asyncio.sleep(0.02)
        found = []
        for name, text in sorted(self._world.records.items()):
            data = json.loads(text)
            record = DemandRecord(demand_from_json(data["demand"]), data["id"], data["made"])
            state = json.loads(self._world.states.get(name, "{}"))
            known = state.get("id") == record.id
            found.append((record, state_from_json(state) if known else DemandState()))
        return found

    async def write(self, record: DemandRecord, state: DemandState) -> None:
        """See `Demands.write`."""
        await self.note(record, state)
        name, data = record.demand.name, record._asdict() | {"demand": demand_to_json(record.demand)}
        self._world.store.trouble(f"demand {name}")
        self._world.records[name] = json.dumps(data)

    async def note(self, record: DemandRecord, state: DemandState) -> None:
        """See `Demands.note`."""
        name = record.demand.name
        await asyncio.sleep(0.03 * self._world.draws.unit("demand", name))
        self._world.store.trouble(f"demand {name}")
        self._world.states[name] = json.dumps(state_to_json(state) | {"id": record.id})
        for run in state.runs:
            assert run in self._world.runs.get(name, {}), f"a state of {name} names a run that is not there"
        self._noted(record, state)
        await asyncio.sleep(0.01)

    async def remove(self, name: str) -> None:
        """See `Demands.remove`."""
        await asyncio.sleep(0.01)
        self._world.store.trouble(f"demand {name}")
        self._world.records.pop(name, None)
        self._world.states.pop(name, None)


class SimWatching:
    """What a machine tells of the folder, until it can't any more. Implements `Watching`."""

    def __init__(self, world: DemandWorld) -> None:
        self._world = world

    async def places(self, prefixes: Sequence[str]) -> AsyncGenerator[Sequence[str], None]:
        """See `Watching.places`."""
        queue: asyncio.Queue[Sequence[str]] = asyncio.Queue()
        self._world.watchers.append(queue)
        try:
            for _ in range(5):
                yield await queue.get()
        finally:
            self._world.watchers.remove(queue)
        raise Unavailable("no more can be watched")


class SimStewards:
    """Starts stewards as processes of the world. Implements `Stewards`."""

    def __init__(self, world: DemandWorld) -> None:
        self._world = world

    async def start(self, name: str) -> None:
        """See `Stewards.start`."""
        await self.stop()
        world = self._world
        node = Node(
            world, f"steward-{len(world.stewards)}", lambda process: RunningSteward(world, process, name)
        )
        world.stewards.append(node)
        world.wanted = node
        world.later(0.5, node.start)

    async def stop(self) -> None:
        """See `Stewards.stop`."""
        before, self._world.wanted = self._world.wanted, None
        self._world.retire(before)


class RunningSteward(RunningEngine):
    """A steward's process: an engine, and the steward over it."""

    def __init__(self, world: DemandWorld, process: Process, name: str) -> None:
        self._name = name
        self._demand_world = world
        super().__init__(world, process)

    def settings(self) -> Settings:
        """See `steward.remembering_nothing`."""
        return remembering_nothing(self._demand_world.settings)

    async def _open(self) -> None:
        await super()._open()
        world, engine = self._demand_world, self.service
        ports = demand_ports.Ports(
            desk=EngineDesk(engine, self._name, world.unix()),
            service=engine,
            assets=FolderAssets(world, self._process),
            listings=SimListings(world),
            watching=SimWatching(world),
            clock=SimClock(world),
        )
        try:
            await Steward(ports, engine.by).run()
        except Exception as error:  # a steward's process would end with it
            world.fail(error)


class SimLook:
    """One look at the folder. Implements `Look`."""

    def __init__(self, listed: Sequence[Listed], noted: Sequence[Noted], by: str, seconds: float) -> None:
        self._comparison = Comparison(listed, noted, by)
        self.places = len(listed)
        self.seconds = seconds
        self.unseen: Sequence[tuple[str, str]] = ()
        self.empty: Sequence[str] = () if listed else (FOLDER,)

    @property
    def same(self) -> int:
        """See `Look.same`."""
        return self._comparison.same

    async def changes(self, most: int) -> Sequence[Change]:
        """See `Look.changes`: few at a time, so that there are several requests."""
        await asyncio.sleep(0.01)
        return self._comparison.next(min(most, 2))

    async def close(self) -> None:
        """See `Look.close`."""


class SimListings:
    """The folder, and runs in the world's store. Implements `Listings`."""

    def __init__(self, world: DemandWorld) -> None:
        self._world = world

    def _runs(self, demand: str) -> dict[str, list[Noted]]:
        return self._world.runs.setdefault(demand, {})

    def _noted(self, demand: str, runs: Sequence[str]) -> list[Noted]:
        kept = self._runs(demand)
        if gone := [name for name in runs if name not in kept]:
            raise StoreError(f"the runs {gone} are not there")
        return list(overlaid([kept[name] for name in runs]))

    async def look(self, demand: Demand, runs: Sequence[str], by: str) -> SimLook:
        """See `Listings.look`."""
        seconds = self._world.told.choice((0.1, 0.4))
        await asyncio.sleep(seconds)
        return SimLook(self._listed(), self._noted(demand.name, runs), by, seconds)

    def _listed(self) -> list[Listed]:
        return [Listed(place, self._world.signature(place), 0.0) for place in sorted(self._world.folder)]

    async def glance(
        self, demand: Demand, places: Sequence[str], runs: Sequence[str], by: str
    ) -> Glance | None:
        """See `Listings.glance`."""
        await asyncio.sleep(0.05)
        if self._world.told.random() < 0.1:
            return None
        self._world.saw("a demand was glanced at")
        listed = [row for row in self._listed() if row.uri in places]
        noted = [row for row in self._noted(demand.name, runs) if row.uri in places]
        return Glance(list(compared(listed, noted, by)), (), () if self._world.folder else (FOLDER,))

    async def write(self, demand: str, rows: Sequence[Noted]) -> str:
        """See `Listings.write`."""
        await asyncio.sleep(0.05)
        self._world.store.trouble(f"run of {demand}")
        assert list(rows) == sorted(rows)
        self._world.noted(demand, rows)
        name = f"run-{len(self._world.runs)}-{self._world.draws.unit('run', demand):.12f}"
        self._runs(demand)[name] = list(rows)
        return name

    async def join(self, demand: str, runs: Sequence[str]) -> str:
        """See `Listings.join`."""
        return await self.write(demand, self._noted(demand, runs))

    async def crowded(self, demand: str, runs: Sequence[str]) -> bool:
        """See `Listings.crowded`."""
        return len(runs) > 2

    async def keep_only(self, demand: str, runs: Sequence[str]) -> None:
        """See `Listings.keep_only`."""
        await asyncio.sleep(0.02)
        kept = self._runs(demand)
        for name in [name for name in kept if name not in runs]:
            del kept[name]
