"""Scenes of the contract in the simulation: the real engines, shards and ledgers under virtual time.

Each case runs in several worlds, one per seed. They differ in the order of callbacks that are ready together
and in how long calls, tasks and the store take. No faults are injected but slow messages. The features are
those of real workers (`tests/contract/features.py`), run by the real worker code; only the function with
which they note their runs and wait at their gates is replaced.

    case ──→ SimulatedService ──→ engine's process ──network──→ shards' processes ──→ tasks ──→ Workshop
                                                                                            (runs, gates)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import inspect
import pickle
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, TypeVar

import numpy as np

from amber_ray.core.declare.registry import Registry
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.asked import RequestInfo
from amber_ray.core.model.audit import EVERY_LINE, AuditFilter, AuditLine
from amber_ray.core.model.callback import DeliveryState, DeliveryView
from amber_ray.core.model.demands import Demand, DemandView, Noticed
from amber_ray.core.model.kept import StoredVersion
from amber_ray.core.model.listing import Noted
from amber_ray.core.model.naming import name_of
from amber_ray.core.model.pages import EVERY_ASSET, USUAL, AssetFilter, Page
from amber_ray.core.model.provenance import ValueInfo, ValueLineage
from amber_ray.core.model.request import ComputeRequest, ExplainedStep, Failure, RequestView
from amber_ray.core.model.service import (
    Answered,
    FeatureInfo,
    MediaPiece,
    RequestEvent,
    Service,
    StoredValue,
    media_span,
)
from amber_ray.core.model.units import Asset, Collection, Segment
from amber_ray.core.planning.plan import Step
from amber_ray.core.state import events as ev
from amber_ray.errors import TooLarge, UnknownAsset
from amber_ray.fabric.shard.ports import Ref
from amber_ray.fabric.shard.shard import Shard
from amber_ray.fabric.transport.messages import Work
from amber_ray.settings import Limits
from tests.contract import features
from tests.service_contract import CALLBACKS, Scene
from tests.simulation.callers import connected
from tests.simulation.cluster import Run, SimCluster
from tests.simulation.demands import SimDemands
from tests.simulation.features import SEGMENT_SECONDS, Media
from tests.simulation.loop import Process
from tests.simulation.network import Message, Node
from tests.simulation.oracle import Oracle
from tests.simulation.scenario import CHANCES, Scenario
from tests.simulation.store import StoredValue as StoredRow
from tests.simulation.world import UPLOADS, SimAssets, World

T = TypeVar("T")

SEEDS = 8
"""Worlds in which each case runs."""
BOUND = 3
"""Requests of one tenant that may run at once."""
CASE_SECONDS = 900.0
EVENTUALLY_SECONDS = 60.0
UP_SECONDS = 30.0
REGISTRY = Registry.from_modules([features.__name__])
"""Made before a scene replaces `features.ran`: the digest of a feature's code covers what it calls."""


# --- work


class Held(BaseException):
    """A feature has begun and its gate is closed. Workers catch no `BaseException` but `SystemExit`."""


class Workshop:
    """The gates of the features, and how often each has begun for each asset.

    A task runs within one callback of the loop, so it can't wait at a gate. It is abandoned there instead,
    and its steps are run once more from the first when the gate opens. What had begun before is not counted
    again.
    """

    def __init__(self) -> None:
        self._begun: Counter[tuple[str, str]] = Counter()
        self._closed: dict[str, list[GatedRun]] = {}
        self._running: GatedRun | None = None

    def work(self, run: GatedRun, begin: Callable[[], None]) -> None:
        """Run a task's steps until they are done or one of them is at a closed gate."""
        self._running, run.place = run, 0
        try:
            begin()
        except Held as gate:
            self._closed[str(gate)].append(run)
            run.held = begin
        finally:
            self._running = None

    def ran(self, name: str, asset: str) -> int:
        """See `features.ran`. Returns the same numbers as before in a task that is run once more."""
        run = self._running
        assert run is not None, f"{name} is run outside of a task"
        if run.place == len(run.begun):
            self._begun[name, asset] += 1
            run.begun.append(self._begun[name, asset])
        run.place += 1
        if name in self._closed and run.place == len(run.begun):
            raise Held(name)
        return run.begun[run.place - 1]

    def close(self, feature: str) -> None:
        """See `Scene.close`."""
        self._closed.setdefault(feature, [])

    def open(self, feature: str) -> None:
        """See `Scene.open`."""
        for run in self._closed.pop(feature, ()):
            run.go_on()

    def open_all(self) -> None:
        """Open every gate."""
        for feature in list(self._closed):
            self.open(feature)

    def runs(self, feature: str, asset: str) -> int:
        """See `Scene.runs`."""
        return self._begun[feature, asset]


class GatedRun(Run):
    """A task that may be held at a gate.

    `begun` has what `Workshop.ran` returned in this task, in order, and `place` is how many of them the
    present try has asked for. `held` runs the task once more; None while it is not at a gate.
    """

    def __init__(self, shop: Workshop, *made_of: Any) -> None:
        super().__init__(*made_of)
        self.begun: list[int] = []
        self.place = 0
        self.held: Callable[[], None] | None = None
        self._shop = shop

    def begin(self, then: Callable[[], None]) -> None:
        """See `Run.begin`. Tasks are short: in some cases a hundred must end within `WAIT`."""
        seconds = 0.02 + 0.5 * self._world.draws.unit("seconds", self._about) ** 3
        self.later(seconds * 0.1, lambda: self._start(seconds * 0.9, then))

    def work_off(self, run: Callable[..., tuple[Any, ...]]) -> None:
        """See `Run.work_off`."""
        begin = super().work_off
        self._shop.work(self, lambda: begin(run))

    def go_on(self) -> None:
        """The gate has been opened: run the task once more, unless it has ended meanwhile."""
        begin, self.held = self.held, None
        assert begin is not None
        self.later(0.01, lambda: self._shop.work(self, begin))

    def cancel(self, *, force: bool) -> None:
        """See `Call.cancel`. A task at a gate always ends: it is not busy."""
        super().cancel(force=force or self.held is not None)


class GatedCluster(SimCluster):
    """The cluster port, with tasks that may be held at gates."""

    def __init__(self, shop: Workshop, world: World, process: Process) -> None:
        super().__init__(world, process)
        self._shop = shop

    def make_run(self, work: Work, slots: Sequence[Ref], needs: Mapping[str, float]) -> Run:
        """See `SimCluster.make_run`."""
        return GatedRun(self._shop, self, work, slots, needs)


# --- media


class ContractMedia(Media):
    """The contract's features, and the media that a case has made: contents under made-up URIs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.assets: list[Asset] = []
        self.contents: dict[str, bytes] = {}
        self.steps: dict[str, Step] = {}
        self.names: dict[str, str] = {}
        self.generations = [REGISTRY]

    def put(self, uri: str, content: bytes, media_type: str) -> Asset:
        """Put some content at a URI and return its asset."""
        seconds = 3 * SEGMENT_SECONDS if media_type.startswith("video/") else None
        id = hashlib.blake2b(content, digest_size=16).hexdigest()
        asset = Asset(id, uri, media_type, len(content), seconds)
        self.assets.append(asset)
        self.contents[uri] = content
        return asset

    def learn(self, steps: Mapping[str, Step]) -> None:
        """See `Media.learn`."""
        self.steps.update(steps)

    def poison(self, key: str) -> bool:
        """See `Media.poison`."""
        return False


class Uploads(SimAssets):
    """The catalogue port, which also takes uploads."""

    def __init__(self, media: ContractMedia, world: World, process: Process) -> None:
        super().__init__(world, process)
        self._media = media

    async def media(self, id: str, start: int, end: int | None, tenant: str | None) -> MediaPiece:
        """See `Assets.media`: of what was put last of that content, if it is there still."""
        places = [asset for asset in self._media.assets if asset.id == id]
        shows = AssetFilter(tenant=tenant).shows
        places = [asset for asset in places if shows(asset.uri, UPLOADS)]
        if not places:
            raise UnknownAsset(f"no asset has the id {id!r}")
        [place] = places[-1:]
        content = self._media.contents[place.uri]
        name = name_of(place.uri)
        start, size = media_span(name, len(content), start, end)
        return MediaPiece(id, name, place.media_type, len(content), start, content[start : start + size])

    async def upload(self, chunks: Any, media_type: str | None, limit: int) -> Asset:
        """See `Assets.upload`."""
        content = b""
        async for chunk in chunks:
            content += chunk
            if len(content) > limit:
                raise TooLarge(f"more than {limit} bytes")
        asset = self._media.put(f"{UPLOADS}{len(self._media.assets)}", content, media_type or "image/png")
        self._world.places[asset.uri] = asset
        return asset


class ContractOracle(Oracle):
    """Checks what is written: it knows what the values of the contract's features must be."""

    def __init__(self, shop: Workshop, world: World) -> None:
        super().__init__(world)
        self._shop = shop

    def right(self, key: str, value: Any) -> None:
        """See `Oracle.right`."""
        step = self._world.media.steps[key]
        assert self._true(step, value), f"a wrong value of {step.recipe.feature} of {step.unit_id}: {value!r}"

    def serial(self, value: Any) -> int:
        """See `Oracle.serial`. Of most features every run makes the same value."""
        return int(np.max(value)) if isinstance(value, int | np.ndarray) else 0

    def kept(self, row: StoredRow) -> None:
        """See `Oracle.kept`. A value that was purged and one that was made since look alike here."""
        self.right(row.key, pickle.loads(row.data))

    def drops(self, rows: Iterable[StoredRow]) -> None:
        """See `Oracle.drops`."""
        self.undone([row.key for row in rows])

    def _expands(self, ledger: Ledger, commands: Iterable[ev.Command], shard: Shard) -> None:
        """See `Oracle._expands`. No caller here has told the world what it wants anew."""
        super()._expands(ledger, commands, shard)
        for command in commands:
            request = ledger.requests.get(command.request) if isinstance(command, ev.Expanded) else None
            if isinstance(command, ev.Expanded) and request is not None and request.refresh:
                self.undone(command.keys)

    def _true(self, step: Step, value: Any) -> bool:
        unit, name = step.unit, step.recipe.feature
        if isinstance(unit, Segment):
            return bool(value == (unit.unit_id if name == "span" else f"{unit.asset.id}/{unit.index}"))
        if name == "reel":
            assert isinstance(unit, Collection)
            pairs = zip(unit.assets, value, strict=True)
            return all(text.startswith(f"{asset.id}@") for asset, texts in pairs for text in texts)
        if isinstance(unit, Collection):
            return bool(value == [asset.id for asset in unit.assets])
        if name == "spans":
            return all(text.startswith(f"{unit.id}@") for text in value.split())
        if name == "bounds":
            at = dict(step.recipe.params)["at"]
            return ",".join(f"{one.start}..{one.end}" for one in value) == at
        if name in ("fresh", "large"):
            [number] = np.unique(value)
            return bool(1 <= number <= self._shop.runs(name, unit.id))
        if name == "joined":
            parts = value.split("+")
            return bool(parts == [f"{unit.id}/{i}" for i in range(len(parts))])
        return bool(value == {"label": unit.id, "picky": 1, "after": 2}[name])


# --- the world and the way in


class NoStewards:
    """Starts nobody. Implements `Stewards`."""

    async def start(self, name: str) -> None:
        """See `Stewards.start`."""

    async def stop(self) -> None:
        """See `Stewards.stop`."""


class ContractWorld(World):
    """A world without faults in which one case runs. The oracle checks the ledgers as in every world."""

    media: ContractMedia

    def __init__(self, seed: int, shards: int, engines: int) -> None:
        self.shop = Workshop()
        self.records: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.runs: dict[str, dict[str, list[Noted]]] = {}
        super().__init__(
            Scenario(
                seed=seed,
                shards=shards,
                engines=engines,
                assets=0,
                segments=3,
                local=seed % 2 == 0,
                nodes=({"CPU": 4.0},),
                settings={
                    "grace_seconds": 0.2,
                    "spill_seconds": 0.05,
                    "limits": Limits(requests_per_tenant=BOUND, deliveries_per_tenant=CALLBACKS),
                },
                chances=dict.fromkeys(CHANCES, 0.0) | {"slow message": 0.1 * (seed % 3)},
                stimuli=(),
            )
        )
        self.story: Callable[[], Coroutine[Any, Any, None]]

    def make_media(self) -> ContractMedia:
        """See `World.make_media`."""
        return ContractMedia(self)

    def make_oracle(self) -> ContractOracle:
        """See `World.make_oracle`."""
        return ContractOracle(self.shop, self)

    def make_demands(self, process: Process, number: int) -> tuple[Any, Any]:
        """See `World.make_demands`: the records alone; `tests/simulation/demands` has who sees to them."""
        return (SimDemands(self), NoStewards()) if number == 0 else (None, None)

    def make_cluster(self, process: Process) -> GatedCluster:
        """See `World.make_cluster`."""
        return GatedCluster(self.shop, self, process)

    def make_assets(self, process: Process) -> Uploads:
        """See `World.make_assets`."""
        return Uploads(self.media, self, process)

    async def _story(self) -> None:
        """Run the case. Then check that everything comes to rest and no accepted request is unfinished."""
        for node in (*self.shards, *self.engines):
            node.start()
        async with asyncio.timeout(CASE_SECONDS):
            await self.up(*self.shards, *self.engines)
            await self.story()
        await self._rest()
        await asyncio.sleep(5.0)  # the last ends are being journaled
        self._kept()

    async def up(self, *nodes: Node) -> None:
        """Wait until processes answer."""
        async with asyncio.timeout(UP_SECONDS):
            while not all(node.up and node.offers and getattr(node.offers, "ready", True) for node in nodes):
                await asyncio.sleep(0.1)

    async def another(self) -> Node:
        """Start one more engine."""
        node = Node(self, f"engine-{self.loop.turns}", self._make_engine)
        node.start()
        await self.up(node)
        return node

    async def end(self) -> None:
        """Close the shards as an operator does, end all processes, and wait until they are up again."""
        for node in self.shards:
            assert await Message(self, node, "close", (30.0,)).answer, "something was not written"
        for node in (*self.shards, *self.engines):
            assert node.process is not None
            node.process.kill()
        await self.up(*self.shards, *self.engines)


class SimulatedService(Service):
    """The engine of another process. Every call runs in that process; cancelling it is hanging up."""

    def __init__(self, world: World, node: Node) -> None:
        self._world = world
        self._node = node

    async def _ask(self, call: Callable[[Service], Coroutine[Any, Any, T]]) -> T:
        answer: T = await connected(self._world, self._node, call)
        return answer

    async def features(self) -> list[FeatureInfo]:
        return await self._ask(lambda engine: engine.features())

    async def add_asset(self, uri: str) -> Asset:
        return await self._ask(lambda engine: engine.add_asset(uri))

    async def list_assets(
        self, only: AssetFilter = EVERY_ASSET, limit: int = USUAL, cursor: str | None = None
    ) -> Page[Asset]:
        return await self._ask(lambda engine: engine.list_assets(only, limit, cursor))

    async def asset(self, id: str, tenant: str | None = None) -> Asset:
        return await self._ask(lambda engine: engine.asset(id, tenant))

    async def upload(self, chunks: AsyncIterable[bytes], media_type: str | None = None) -> Asset:
        return await self._ask(lambda engine: engine.upload(chunks, media_type))

    async def media(
        self, asset: str, start: int = 0, end: int | None = None, tenant: str | None = None
    ) -> MediaPiece:
        return await self._ask(lambda engine: engine.media(asset, start, end, tenant))

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        return await self._ask(lambda engine: engine.compute(request, wait, id))

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        return await self._ask(lambda engine: engine.status(id, wait))

    async def events(self, id: str) -> AsyncIterator[RequestEvent]:
        """See `Service.events`. The engine is asked for an event only when the reader asks for one."""
        wanted: asyncio.Queue[asyncio.Future[RequestEvent]] = asyncio.Queue()

        async def serve(engine: Service) -> None:
            async with contextlib.aclosing(engine.events(id)) as events:  # type: ignore[type-var]
                while True:
                    answer = await wanted.get()
                    try:
                        answer.set_result(await anext(events))
                    except StopAsyncIteration:
                        return

        serving = asyncio.ensure_future(self._ask(serve))
        try:
            while True:
                answer: asyncio.Future[RequestEvent] = asyncio.get_running_loop().create_future()
                wanted.put_nowait(answer)
                either: list[asyncio.Future[Any]] = [answer, serving]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    serving.result()
                    return
                yield answer.result()
        finally:
            serving.cancel()

    async def cancel(self, id: str) -> RequestView:
        return await self._ask(lambda engine: engine.cancel(id))

    async def deliveries(
        self, *, state: DeliveryState | None = None, tenant: str | None = None
    ) -> list[DeliveryView]:
        return await self._ask(lambda engine: engine.deliveries(state=state, tenant=tenant))

    async def replay(self, id: str, *, tenant: str | None = None) -> DeliveryView:
        return await self._ask(lambda engine: engine.replay(id, tenant=tenant))

    async def audit(
        self, only: AuditFilter = EVERY_LINE, limit: int = USUAL, cursor: str | None = None
    ) -> Page[AuditLine]:
        return await self._ask(lambda engine: engine.audit(only, limit, cursor))

    async def list_requests(
        self,
        tenant: str | None = None,
        state: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        return await self._ask(lambda engine: engine.list_requests(tenant, state, limit, cursor))

    async def explain(self, request: ComputeRequest) -> list[ExplainedStep]:
        return await self._ask(lambda engine: engine.explain(request))

    async def load(self, keys: Sequence[str]) -> list[StoredValue]:
        return await self._ask(lambda engine: engine.load(keys))

    async def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
        left = list(dict.fromkeys(keys))
        while left:
            batch = await self._ask(functools.partial(_first_batch, left))
            yield batch
            left = left[len(batch) :]

    async def shown(self, keys: Sequence[str], tenant: str) -> frozenset[str]:
        return await self._ask(lambda engine: engine.shown(keys, tenant))

    async def list_values(
        self,
        asset: str,
        *,
        feature: str | None = None,
        version: str | None = None,
        limit: int = USUAL,
        cursor: str | None = None,
    ) -> Page[ValueInfo]:
        return await self._ask(
            lambda engine: engine.list_values(
                asset, feature=feature, version=version, limit=limit, cursor=cursor
            )
        )

    async def lineage(self, key: str) -> ValueLineage:
        return await self._ask(lambda engine: engine.lineage(key))

    async def purge(
        self, *, asset: str | None = None, feature: str | None = None, version: str | None = None
    ) -> int:
        return await self._ask(lambda engine: engine.purge(asset=asset, feature=feature, version=version))

    async def keep(self, demand: Demand) -> DemandView:
        return await self._ask(lambda engine: engine.keep(demand))

    async def demands(self) -> list[DemandView]:
        return await self._ask(lambda engine: engine.demands())

    async def stop_keeping(self, name: str) -> bool:
        return await self._ask(lambda engine: engine.stop_keeping(name))

    async def notify(self, uris: Sequence[str], tenant: str | None = None) -> Noticed:
        return await self._ask(lambda engine: engine.notify(uris, tenant))

    async def versions(self) -> list[StoredVersion]:
        return await self._ask(lambda engine: engine.versions())

    async def failures(self) -> list[Failure]:
        return await self._ask(lambda engine: engine.failures())

    async def troubles(self) -> list[str]:
        return await self._ask(lambda engine: engine.troubles())

    async def stats(self) -> dict[str, float]:
        return await self._ask(lambda engine: engine.stats())

    async def aclose(self) -> None:
        return await self._ask(lambda engine: engine.aclose())


async def _first_batch(keys: Sequence[str], engine: Service) -> Sequence[Answered]:
    async with contextlib.aclosing(engine.values(keys)) as batches:
        return await anext(batches)


# --- the scene


class SimulatedScene(Scene):
    """A scene in virtual time; each case has a new world for each seed. `engines`: how many there are."""

    bound = BOUND
    segment_seconds = SEGMENT_SECONDS

    def __init__(self, *, shards: int = 1, engines: int = 1) -> None:
        self.shards = shards
        self._engines = engines
        self._world: ContractWorld
        self._service: SimulatedService
        self._others: list[SimulatedService] = []

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a case in every world, one after the other."""
        for seed in range(SEEDS):
            self._world = world = ContractWorld(seed, self.shards, self._engines)
            self._service = SimulatedService(world, world.engines[0])
            self._others = []
            self._ids = 0
            self.tenant = f"case-{seed}"
            world.story = functools.partial(self._tell, story)
            try:
                world.run()
            except BaseException as error:
                error.add_note(f"in the world of seed {seed}")
                raise

    async def _tell(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await story()
        self._world.shop.open_all()
        await self._close(self._others)

    async def eventually(self, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        give_up = self._world.loop.time() + EVENTUALLY_SECONDS
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            assert self._world.loop.time() < give_up, "it did not come about"
            await asyncio.sleep(0.02)

    async def at_once(self, work: Awaitable[T]) -> T:
        """Check that no virtual time passes: then no timer has fired and no shard has answered a call."""
        began = self._world.loop.time()
        found = await work
        assert self._world.loop.time() == began, "it took time"
        return found

    # --- the service

    @property
    def service(self) -> Service:
        return self._service

    async def another(self) -> Service:
        self._others.append(SimulatedService(self._world, await self._world.another()))
        return self._others[-1]

    async def restart(self) -> None:
        await self._close([*self._others, self._service])
        self._others = []
        await self._world.end()
        self._service = SimulatedService(self._world, self._world.engines[0])

    async def _close(self, services: Sequence[SimulatedService]) -> None:
        for service in services:
            await service.aclose()

    async def kill(self) -> None:
        for node in self._world.shards:
            assert node.process is not None
            node.process.kill()

    # --- media

    def pictures(self, count: int) -> list[str]:
        return [self._put("png", self._new_content()) for _ in range(count)]

    def film(self) -> str:
        return self._put("mp4", self._new_content())

    def copy_of(self, uri: str) -> str:
        return self._put(uri.rpartition(".")[2], self.content(uri))

    def _new_content(self) -> bytes:
        return f"content {len(self._world.media.contents)}".encode()

    def _put(self, ending: str, content: bytes) -> str:
        media = self._world.media
        types = {"png": "image/png", "mp4": "video/mp4"}
        return media.put(f"/m/{len(media.contents)}.{ending}", content, types[ending]).uri

    def nothing(self) -> str:
        return "/m/nothing.png"

    def content(self, uri: str) -> bytes:
        return self._world.media.contents[uri]

    def id_of(self, uri: str) -> str:
        return hashlib.blake2b(self.content(uri), digest_size=16).hexdigest()

    # --- work

    def ran(self, name: str, asset: str) -> int:
        """What replaces `features.ran` while this scene's case runs."""
        return self._world.shop.ran(name, asset)

    def close(self, feature: str) -> None:
        self._world.shop.close(feature)

    def open(self, feature: str) -> None:
        self._world.shop.open(feature)

    def runs(self, feature: str, uri: str) -> int:
        return self._world.shop.runs(feature, self.id_of(uri))
