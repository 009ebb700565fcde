"""A cluster in one thread and virtual time: the real engines, shards and ledgers over seeded ports.

`fabric.engine` and `fabric.shard` run unchanged, each in a process that can be killed between any two
callbacks; their ports are bound here to nodes, a store, and calls that get lost. `run()` raises when a
promise is broken.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NoReturn

from amber_ray.core.declare.registry import Registry
from amber_ray.core.ledger.ledger import EXPANDED_AT_ONCE
from amber_ray.core.model.absent import no_asset
from amber_ray.core.model.audit import Change
from amber_ray.core.model.pages import AssetFilter, Page, list_assets
from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.service import MediaPiece
from amber_ray.core.model.trace import Span, TraceContext, Tracer
from amber_ray.core.model.units import Asset, Collection
from amber_ray.core.planning.plan import Planner
from amber_ray.core.state.entry import State
from amber_ray.errors import AmberError, Forbidden, MediaNotFound, StoreError
from amber_ray.fabric.engine import ports as engine_ports
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.shard.ports import CallFailed, Demands, Fault, Ports, Stewards
from amber_ray.fabric.shard.requests import BROKEN
from amber_ray.fabric.shard.shard import Shard
from amber_ray.fabric.transport.messages import Hello, PlanPart
from amber_ray.settings import Limits, Settings
from tests.simulation.callers import Caller, read, unit_name
from tests.simulation.cluster import Nodes, SimCluster, objects
from tests.simulation.draws import Draws
from tests.simulation.faults import Faults
from tests.simulation.features import SEGMENT_SECONDS, Media
from tests.simulation.loop import Process, Stuck, VirtualLoop
from tests.simulation.network import Gone, Message, Node
from tests.simulation.oracle import NEWS_SECONDS, Oracle
from tests.simulation.receiver import HOST, SECRETS, Receiver
from tests.simulation.scenario import CALLED, FEATURES, FOUND, GATHERED, SMALL_GPU, Ask, Read, Scenario
from tests.simulation.store import EngineParts, SimAudit, SimDeliveries, SimJournal, SimLease, SimParts, Store

START = 1000.0
REST_SECONDS = 400.0
"""How long the world may take to come to rest when nothing happens to it any more."""
PEER_GONE = Fault("SystemFault", "another shard can't be reached", gone=True)
PEER_ERROR = Fault("SystemFault", "another shard failed")


class Ended(BaseException):
    """A process ended itself in the middle of a callback."""


AT_ONCE = (1, 4, EXPANDED_AT_ONCE)
"""Steps of found units that a ledger makes in one event, of worlds by their seed: few have many windows."""


class World:
    """One run of a scenario. `seen` counts what befell it; `trace`, if asked for, is the whole story."""

    def __init__(self, scenario: Scenario, *, traced: bool = False) -> None:
        self.scenario = scenario
        self.draws = Draws(scenario.seed)
        self.chances: Mapping[str, float] = scenario.chances
        self.calm = not scenario.dangerous
        self.events = 0
        self.moves = 0
        self.seen: Counter[str] = Counter()
        self.trace: list[tuple[float, str, Any, Sequence[Any]]] | None = [] if traced else None
        self.loop = VirtualLoop(scenario.seed, START)
        self.loop.after_turn = self._after_turn
        self.settings = Settings(
            shards=scenario.shards,
            replicas=scenario.engines,
            segment_seconds=SEGMENT_SECONDS,
            callback_hosts=(HOST, "127.0.0.1"),
            callback_secrets=SECRETS,
            **{"limits": self.make_limits(), **scenario.settings},
        )
        self.media = self.make_media()
        self.places: dict[str, Asset] = {}  # what the store knows of assets
        self.store = Store(self)
        self.nodes = Nodes(self, scenario.nodes)
        self.oracle = self.make_oracle()
        self.receiver = Receiver(self)
        numbers = itertools.count(1)
        self.tracer = Tracer(self._saw_span, self.loop.time, lambda count: f"{next(numbers):0{count}x}")
        self.callers: list[Caller] = []
        self.asks: dict[str, Ask] = {}
        self.changes: set[tuple[str, str]] = set()
        self.faults = Faults(self)
        self.cut_until: dict[tuple[str, str], float] = {}
        self._outside = Process(self.loop, "outside", 0)
        self._failures: list[BaseException] = []
        self._over = False
        objects().begin(self)
        self.shards = [
            Node(self, f"cache-{number}", lambda process, n=number: self._make_shard(process, n))
            for number in range(scenario.shards)
        ]
        self.engines = [
            Node(self, f"engine-{number}", self._make_engine) for number in range(scenario.engines)
        ]

    def traced(self, id: str) -> str:
        """The span that a request of this name belongs to, in every other world."""
        if self.scenario.seed % 2:
            return ""
        digits = id.encode().hex()
        return TraceContext(f"{digits:1<32.32}", f"{digits:1<16.16}").text

    def _saw_span(self, span: Span) -> None:
        assert span.began <= span.ended, span
        self.saw(f"{span.name} was traced")

    # --- what other worlds make otherwise

    def make_limits(self) -> Limits:
        """What callers may cost."""
        return Limits()

    def make_media(self) -> Media:
        """The assets and the features."""
        return Media(self, self.scenario, self.draws)

    def make_oracle(self) -> Oracle:
        """Who says what is right."""
        return Oracle(self)

    def make_cluster(self, process: Process) -> SimCluster:
        """The cluster as a shard's process sees it."""
        return SimCluster(self, process)

    def make_assets(self, process: Process) -> SimAssets:
        """The catalogue as an engine's process sees it."""
        return SimAssets(self, process)

    def make_demands(self, process: Process, number: int) -> tuple[Demands | None, Stewards | None]:
        """The records of demands and who sees to them, as a shard's process sees them: mostly none."""
        return None, None

    # --- processes

    def _make_shard(self, process: Process, number: int) -> Shard:
        registry = self.media.generations[-1]

        async def code() -> tuple[Registry, bytes]:
            await asyncio.sleep(0.05)
            return registry, registry.digest.encode()

        demands, stewards = self.make_demands(process, number)
        ports = Ports(
            cluster=self.make_cluster(process),
            parts=SimParts(self, process, objects(), number),
            journal=SimJournal(self),
            deliveries=SimDeliveries(self),
            sender=self.receiver,
            lease=SimLease(),
            peers=SimPeers(self, process),
            assets=SimShardAssets(self),
            clock=SimClock(self),
            process=SimProcess(self, process),
            demands=demands,
            stewards=stewards,
            tracer=self.tracer,
            audit=SimAudit(self) if number == 0 else None,
        )
        shard = Shard(self.settings, number, ports, code)
        shard.context.ledger.expanded_at_once = AT_ONCE[self.scenario.seed % len(AT_ONCE)]
        self.oracle.watch(shard, process)
        process.start(self._keep_up(shard))
        return shard

    async def _keep_up(self, shard: Shard) -> None:
        """Ray's restarted actor calls itself, until it is up."""
        while True:
            try:
                await shard.hello()
            except StoreError:
                await asyncio.sleep(0.5)
            else:
                return

    def _make_engine(self, process: Process) -> RunningEngine:
        return RunningEngine(self, process)

    def saw_start(self, node: Node) -> None:
        """A process begins."""
        self.note(node.name, f"{node.name} starts", ())

    def saw_death(self, node: Node) -> None:
        """A process has ended; another is started in its place."""
        self.saw(f"{'a shard' if node in self.shards else 'an engine'} died")
        self.note(node.name, f"{node.name} dies", ())
        self.later(0.1 + 2.0 * self.draws.unit("restart", node.name), node.start)

    # --- a run

    def run(self) -> None:
        """Trouble, then calm, then everything once more without any fault."""
        logging_handler = _Watch(self)
        logger = logging.getLogger("amber")
        level, propagate = logger.level, logger.propagate
        logger.addHandler(logging_handler)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
        try:
            self.loop.run_until_complete(self._outside.start(self._story()))
        except (Stuck, RuntimeError):
            self._raise()
            raise
        finally:
            logger.removeHandler(logging_handler)
            logger.setLevel(level)
            logger.propagate = propagate
            self._over = True
            logging.disable()  # what is closed in the middle of its work may complain
            self.loop.end()
            logging.disable(logging.NOTSET)
        self._raise()

    async def _story(self) -> None:
        for node in (*self.shards, *self.engines):
            node.start()
        running: list[asyncio.Task[None]] = []
        for stimulus in self.scenario.stimuli:
            await asyncio.sleep(max(0.0, START + stimulus.at - self.loop.time()))
            if isinstance(stimulus, Ask):
                running += self._ask(stimulus)
            elif isinstance(stimulus, Read):
                running.append(asyncio.ensure_future(read(self, stimulus)))
            else:
                self.faults.happen(stimulus)
        await self._wait_for(running)
        self.chances = dict.fromkeys(self.chances, 0.0)
        self.cut_until.clear()
        self.store.heal()
        await self._rest()
        self.calm = True
        self.nodes.all = {max(self.nodes.all) + 1: SMALL_GPU}
        # Whoever was told of a fault's failure may be told of it until it is forgotten.
        await asyncio.sleep(70.0)
        await self._wait_for(self._last())
        await self._rest()
        await asyncio.sleep(NEWS_SECONDS)
        await self._read_all()
        await self.receiver.hurry()
        for node in self.shards:
            assert node.process is not None
            node.process.kill()
        await asyncio.sleep(5.0)
        await self._wait_for(self._last())
        await self._rest()
        await asyncio.sleep(5.0)  # the last ends are being journaled
        self._kept()

    def _ask(self, ask: Ask) -> list[asyncio.Task[None]]:
        self.asks[ask.id] = ask
        callers = [Caller(self, ask)]
        if ask.twin:
            callers.append(Caller(self, ask))
            self.saw("two asked at once with one id")
        self.callers += callers
        tasks = [asyncio.ensure_future(caller.run()) for caller in callers]
        if ask.cancels is not None:
            for caller in callers:
                caller.cancelled = True
            tasks.append(asyncio.ensure_future(self._cancel(callers[0], ask.cancels)))
        return tasks

    async def _cancel(self, caller: Caller, after: float) -> None:
        await asyncio.sleep(after)
        await caller.cancel()

    def _last(self) -> list[asyncio.Task[None]]:
        """Somebody asks for everything there is."""
        everything = tuple(range(self.scenario.assets))
        asks = [
            Ask(
                0.0,
                f"last{len(self.callers)}-{number}",
                (*FEATURES, *CALLED, *FOUND, *GATHERED),
                everything,
                engine=number,
                wait=300.0,
            )
            for number in range(self.scenario.engines)
        ]
        return [task for ask in asks for task in self._ask(ask)]

    async def _wait_for(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Until all of them are done; the first that fails ends the world."""
        if not tasks:
            return
        done, open_ = await asyncio.wait(tasks, timeout=3000.0, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        self._raise()
        assert not open_, f"{len(open_)} callers were never answered"

    async def _rest(self) -> None:
        """Until nothing is under way any more."""
        give_up = self.loop.time() + REST_SECONDS
        while True:
            await asyncio.sleep(2.0)
            self._raise()
            moving = self._moving()
            if not moving:
                return
            assert self.loop.time() < give_up, f"the world does not come to rest: {moving}"

    def _moving(self) -> str:
        """What is still under way, if anything is."""
        for node in (*self.engines, *self.shards):
            if not node.up or node.offers is None:
                return f"{node.name} is down"
        for node in self.engines:
            if not node.offers.ready:
                return f"{node.name} is not ready"
        for node in self.shards:
            ledger = node.offers.context.ledger
            for what in ("requests", "tasks", "spilling"):
                if getattr(ledger, what):
                    return f"{what} of {node.name}: {list(getattr(ledger, what))[:3]}"
            if spans := node.offers.context.traces.open:
                return f"spans of {node.name}: {spans[:3]}"
            if ledger.memory.held > ledger.settings.memory_bytes:
                return f"memory of {node.name}"
            states = {e.state for e in ledger.entries.values()}
            if not states <= {State.HOT, State.KEPT, State.FAILED}:
                return f"steps of {node.name}: {states}"
        return "a purge" if self.faults.purges else ""

    async def _read_all(self) -> None:
        """Somebody reads all that is stored by its keys."""
        shards = [node.offers.context for node in self.shards]
        places = {key: shards[step.home].index.find(key) for key, step in self.media.steps.items()}
        parts = {name for name, part in self.store.parts.items() if not part.damaged}
        keys = [key for key, place in places.items() if place and place[0] in parts]
        now = self.loop.time()
        for node in self.engines:
            for value in await node.offers.service.load(keys):
                self.oracle.told(value.key, value.value, now)

    def _kept(self) -> None:
        """What was promised has ended, and what is stored is right."""
        for name, text in self.store.journal.items():
            assert '"state": "running"' not in text, f"request {name} was accepted and never ended"
        self.receiver.kept(self.callers)
        self._audited()
        for part in self.store.parts.values():
            for row in () if part.damaged else part.rows:
                self.oracle.kept(row)
                home = self.media.steps[row.key].home
                knows = [n for n, node in enumerate(self.shards) if row.key in node.offers.context.index]
                assert set(knows) <= {home}, f"shards {knows} index {row.key} of shard {home}"

    def changed(self, what: Change, subject: str) -> None:
        """Somebody was told that this was changed."""
        self.changes.add((what, subject))

    def _audited(self) -> None:
        """Whatever somebody was told of is in the audit log.

        But for a line that the store refused, and that went with the first shard before it was tried again.
        """
        lines = {(line.what, line.subject) for line in self.store.audit.values()}
        lost = self.store.refused_lines if self.seen["a shard died"] else set()
        assert self.changes <= lines | lost, f"no line tells of {self.changes - lines - lost}"
        self.seen["a change was in the audit log"] += len(self.changes & lines)

    # --- time and chance

    def unix(self) -> float:
        """The time of day of every clock."""
        return 1.7e9 + self.loop.time()

    def later(self, seconds: float, what: Callable[[], Any]) -> None:
        """Do something after a while, whatever dies meanwhile."""
        self.loop.call_later(seconds, what, context=self._outside.context())

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something outside of all processes; what it raises ends the world."""
        task = self._outside.start(coroutine)
        task.add_done_callback(self._reap, context=self._outside.context())

    def _reap(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.fail(task.exception())

    def tell(self, node: Node, method: str, *arguments: Any) -> None:
        """Call a node's method and forget it."""
        Message(self, node, method, arguments)

    def chance(self, fault: str, about: object) -> bool:
        """Whether the fault happens this time."""
        likely = self.chances.get(fault, 0.0)  # kept worlds are older than some faults
        return likely > 0.0 and self.draws.unit(fault, about) < likely

    # --- what happened

    def saw(self, what: str) -> None:
        """Count something that happened."""
        self.seen[what] += 1

    def note(self, who: str, event: Any, commands: Sequence[Any]) -> None:
        """Write the story, if somebody wants to read it."""
        if self.trace is not None:
            self.trace.append((self.loop.time(), who, event, list(commands)))

    def heard(self, process: Process, event: Any, commands: Sequence[Any]) -> None:
        """A ledger has taken an event in."""
        self.events += 1
        self._dirty = process
        self.note(process.name, event, commands)

    _dirty: Process | None = None

    def _after_turn(self, process: Process | None) -> None:
        if self._failures or self.loop.failures:
            self.loop.stop()
        dirty, self._dirty = self._dirty, None
        if dirty is not None and dirty.alive:
            node = self.shards[int(dirty.name.rpartition("-")[2])]
            if node.process is dirty and node.offers is not None:
                try:
                    self.oracle.in_step(node.offers, dirty)
                except AssertionError as error:
                    self.fail(error)
                    self.loop.stop()

    def fail(self, error: BaseException | None) -> None:
        """Something is wrong: the world ends."""
        if error is not None and not self._over:
            self._failures.append(error)

    def _raise(self) -> None:
        if self._failures:
            raise self._failures[0]
        if self.loop.failures:
            raise AssertionError(self.loop.failures[0])

    def allowed(self, error: AmberError) -> None:
        """A caller was told that something can't be done now: only while something is wrong."""
        assert not self.calm, f"{type(error).__name__} in a calm world: {error}"

    # --- what there is

    def registry(self, digest: str) -> Registry:
        """A registry by its digest."""
        return next(r for r in self.media.generations if r.digest == digest)

    def names_of(self, features: Sequence[str], assets: Sequence[int]) -> list[tuple[str, str]]:
        """What a request is about, in its order: (feature, unit), whatever the code."""
        return [(t.feature, unit_name(t.unit)) for t in self._plan(features, assets).plan().targets]

    def _plan(self, features: Sequence[str], assets: Sequence[int]) -> Planner:
        planner = self.media.planner(self.media.generations[-1], features, self.scenario.shards)
        chosen = [self.media.assets[n] for n in assets]
        for asset in chosen:
            planner.add_asset(asset)
        if chosen:
            planner.add_collection(chosen)
        return planner

    def ways(self, feature: str, asset: str, told: tuple[str, ...]) -> list[tuple[str, int]]:
        """The finders' keys and executions that found the windows of which these are the keys."""
        media = self.media
        return [
            (template.needs[0], serial)
            for template in list(media.steps.values())
            if template.is_template and template.recipe.feature == feature and template.asset_id == asset
            for serial, windows in media.ways(template).items()
            if media.expansion(template, windows)[0] == told
        ]

    def learn(self, result: Any) -> None:
        """A collection of some of the assets has steps of its own: plan it with every registry.

        Units that were found and could not be made have some, too.
        """
        if isinstance(result.unit, Collection):
            self.learn_collection(result.feature, result.unit)
        else:
            self.media.learn_found()

    def learn_collection(self, feature: str, unit: Any) -> None:
        """Learn the steps of a collection."""
        numbers = [
            next(i for i, a in enumerate(self.media.assets) if a.id == asset.id) for asset in unit.assets
        ]
        for registry in self.media.generations:
            planner = self.media.planner(registry, [feature], self.scenario.shards)
            planner.add_collection([self.media.assets[n] for n in numbers])
            self.media.learn(planner.plan().steps)


class RunningEngine:
    """The engine of a process: it opens, and then answers."""

    def __init__(self, world: World, process: Process) -> None:
        self.ready = False
        self.service: Engine
        self._world = world
        self._process = process
        self._registry = world.media.generations[-1]
        process.start(self._open())

    def settings(self) -> Settings:
        """The engine's settings."""
        return self._world.settings

    def _engine(self) -> Engine:
        world, digest = self._world, self._registry.digest
        ports = engine_ports.Ports(
            shards=[SimShardPort(world, node, self._process.name) for node in world.shards],
            objects=SimObjects(world),
            assets=world.make_assets(self._process),
            clock=SimClock(world),
            identity=SimProcess(world, self._process),
            reading=True,
            parts=EngineParts(world, world.settings.inline_bytes) if world.scenario.local else None,
            tracer=world.tracer,
        )
        return Engine(self.settings(), self._registry, {digest: digest.encode()}, ports)

    async def _open(self) -> None:
        while True:
            engine = self._engine()
            try:
                await engine.open()
            except AmberError as error:
                self._world.allowed(error)
                await asyncio.sleep(0.5)
            else:
                self.service, self.ready = engine, True
                return


class SimShardPort:
    """A shard as an engine reaches it."""

    def __init__(self, world: World, node: Node, engine: str) -> None:
        self._world = world
        self._node = node
        self._engine = engine

    async def connect(self, timeout: float) -> Hello:
        """See `ShardPort.connect`."""
        give_up = self._world.loop.time() + timeout
        while True:
            try:
                hello: Hello = await self.call("hello")
                return hello
            except engine_ports.ShardGone:
                if self._world.loop.time() > give_up:
                    raise
                await asyncio.sleep(0.2)

    async def call(self, method: str, *arguments: Any) -> Any:
        """See `ShardPort.call`."""
        try:
            return await Message(self._world, self._node, method, arguments, self._engine).answer
        except Gone as error:
            raise engine_ports.ShardGone(str(error)) from error


class SimPeers:
    """The other shards, for the one of a process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def fetch(self, shard: int, id: str, part: PlanPart, priority: int, tenant: str, trace: str) -> PeerCall:
        """See `Peers.fetch`."""
        began = self._world.loop.time()
        return PeerCall(
            Message(self._world, self._world.shards[shard], "fetch", (id, part, priority, tenant, trace)),
            lambda fetched: self._world.oracle.borrows(self._process, fetched, began),
        )

    async def call(self, shard: int, method: str, *arguments: Any) -> Any:
        """See `Peers.call`."""
        return await PeerCall(Message(self._world, self._world.shards[shard], method, arguments)).result()


class PeerCall:
    """A call of another shard; somebody else may look at the answer first."""

    def __init__(self, message: Message, look: Callable[[Any], None] = lambda answer: None) -> None:
        self._message = message
        self._look = look

    async def result(self) -> Any:
        """See `Call.result`."""
        try:
            answer = await asyncio.shield(self._message.answer)
        except Gone as error:
            raise CallFailed(PEER_GONE) from error
        except AmberError as error:
            raise CallFailed(PEER_ERROR) from error
        self._look(answer)
        return answer

    def cancel(self, *, force: bool) -> None:
        """See `Call.cancel`."""
        self._message.cancel()


class SimShardAssets:
    """The catalogue as shards see it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def current(self, ids: Sequence[str]) -> Mapping[str, Asset]:
        """See `ports.Assets.current`."""
        await asyncio.sleep(0.01)
        found = {id: self._world.media.by_id(id) for id in ids}
        return {id: asset for id, asset in found.items() if asset is not None}

    async def tidy(self) -> None:
        """See `ports.Assets.tidy`: it changes nothing that a shard sees, and may fail as the store does."""
        await asyncio.sleep(0.01)
        if self._world.draws.unit("tidy", "assets") < 0.1:
            raise StoreError("the assets can't be written now")


UPLOADS = "/uploads/"
"""What the places of uploads begin with."""


class SimAssets:
    """The catalogue as an engine sees it; it remembers what it has seen."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._known: set[str] = set()
        self._name = process.name

    def at_hand(self, uri: str, tenant: str | None = None) -> Asset | None:
        """See `Assets.at_hand`."""
        asset = self._world.media.at(uri)
        slow = self._world.draws.unit("not at hand", uri) < 0.3
        seen = asset is not None and self._shows(asset, tenant)
        return asset if uri in self._known and seen and not slow else None

    async def resolve(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        """See `Assets.resolve`."""
        await asyncio.sleep(0.5 * self._world.draws.unit("resolve", self._name) ** 3)
        return [self._resolve(ref) for ref in refs]

    def _resolve(self, ref: AssetRef) -> Asset | AmberError:
        asset = self._world.media.by_id(ref.id) if ref.id else self._world.media.at(ref.uri or "")
        if asset is None or not self._shows(asset, ref.tenant):
            return no_asset(ref.id) if ref.id else MediaNotFound(f"there is no {ref.uri}")
        self._known.add(asset.uri)
        self._world.places[asset.uri] = asset
        return asset

    async def admit(self, prefixes: Sequence[str]) -> None:
        """See `Assets.admit`: one that says so is elsewhere."""
        if any(prefix.startswith("/outside") for prefix in prefixes):
            raise Forbidden("'/outside' is outside the media roots")

    async def add(self, uri: str) -> Asset:
        """See `Assets.add`."""
        [found] = await self.resolve([AssetRef(uri=uri)])
        if isinstance(found, AmberError):
            raise found
        return found

    async def places(self, ids: Sequence[str]) -> list[Asset]:
        """See `Assets.places`."""
        return [asset for id in ids for asset in self._world.places.values() if asset.id == id]

    async def shown(self, ids: Sequence[str], tenant: str) -> frozenset[str]:
        """See `Assets.shown`."""
        known = {asset.id: asset for asset in self._world.places.values()}
        return frozenset(id for id in ids if id in known and self._shows(known[id], tenant))

    def _shows(self, asset: Asset, tenant: str | None) -> bool:
        if tenant is None:
            return True
        places = (*self._world.places.values(), asset)
        only = AssetFilter(tenant=tenant)
        return any(one.id == asset.id and only.shows(one.uri, UPLOADS) for one in places)

    async def page(self, only: AssetFilter, limit: int, cursor: str | None) -> Page[Asset]:
        """See `Assets.page`."""
        await asyncio.sleep(0.1 * self._world.draws.unit("page", self._name))
        return list_assets(self._world.places.values(), only, limit, cursor, UPLOADS)

    async def media(self, id: str, start: int, end: int | None, tenant: str | None) -> MediaPiece:
        """See `Assets.media`."""
        raise NotImplementedError("nobody looks at media here")

    async def upload(self, chunks: Any, media_type: str | None, limit: int) -> Asset:
        """See `Assets.upload`."""
        raise NotImplementedError("nobody uploads here")


class SimObjects:
    """The object store as an engine sees it."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def fetch(self, refs: Sequence[Any]) -> tuple[Mapping[Any, Sequence[Any]], set[Any]]:
        """See `Objects.fetch`."""
        await asyncio.sleep(0.05 * self._world.draws.unit("fetch", "objects"))
        opened = {ref: objects().open(ref) for ref in refs}
        return {r: v for r, v in opened.items() if v is not None}, {r for r, v in opened.items() if v is None}


class SimClock:
    """Virtual time."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        """See `Clock.now`."""
        return self._world.loop.time()

    def unix(self) -> float:
        """See `Clock.unix`."""
        return self._world.unix()


class SimProcess:
    """The process that a shard or an engine runs in."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._names = 0

    def end(self, status: int) -> NoReturn:
        """See `Process.end`."""
        if status == BROKEN:
            self._world.fail(sys.exc_info()[1] or AssertionError("a ledger can't be trusted"))
        self._process.kill()
        raise Ended

    def new_id(self) -> str:
        """See `Process.new_id`."""
        self._names += 1
        name = f"{self._process.name}/{self._process.number}/{self._names}"
        return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


class _Watch(logging.Handler):
    """What the code logs as an error that it did not expect is one."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, AmberError | CallFailed | Ended):
            self._world.fail(error)
