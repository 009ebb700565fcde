"""Callers: programs outside the cluster that ask engines, hang up, come back, and check what they are told.

A caller behaves as `client.http` does: a connection that breaks is opened again, at another engine if the
first one is down, with the same id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from amber_ray.core.model.callback import Callback
from amber_ray.core.model.request import MISSING, AssetRef, ComputeRequest, Failure, Priority, RequestView
from amber_ray.core.model.service import Answered, Service, StoredValue
from amber_ray.core.model.units import Collection, EachRange, Segment
from amber_ray.errors import (
    AmberError,
    Overloaded,
    RequestMismatch,
    StoreError,
    Unavailable,
    UnknownRequest,
)
from tests.simulation.network import Node
from tests.simulation.scenario import FOUND, Ask, Read

if TYPE_CHECKING:
    from tests.simulation.world import World

PATIENCE_SECONDS = 900.0
"""Longer than that no caller waits: then its request was lost."""
SOON_SECONDS = 2.0
QUARANTINED = "Quarantined"


class Broken(Exception):
    """The connection broke: the engine's process has died, or there is none."""


async def connected(world: World, node: Node, call: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """Run a call of an engine in its process, for as long as the caller is there.

    Cancelling this is hanging up: the engine's coroutine is cancelled, as the server does it.
    """
    engine, process = node.offers, node.process
    if not node.up or engine is None or process is None or not engine.ready:
        await asyncio.sleep(0.05)
        raise Broken(f"{node.name} is down")
    outcome: asyncio.Future[Any] = world.loop.create_future()

    async def serve() -> None:
        try:
            result = await call(engine.service)
        except Exception as error:
            if not outcome.done():
                outcome.set_exception(error)
        else:
            if not outcome.done():
                outcome.set_result(result)

    task = process.start(serve())

    def breaks() -> None:
        if not outcome.done():
            outcome.set_exception(Broken(f"{node.name} died"))

    process.died.append(breaks)
    try:
        return await outcome
    except asyncio.CancelledError:
        process.call(task.cancel)
        raise
    finally:
        process.died.remove(breaks)


class Caller:
    """One request of one program, from its first try to its last word."""

    def __init__(self, world: World, ask: Ask) -> None:
        self.world = world
        self.ask = ask
        self.state = "asks"
        self.cancelled = False
        self.view: RequestView | None = None
        self._units: dict[tuple[str, str], list[Any]] = {}
        self._began = world.loop.time()
        self._anew = ask.refresh

    @property
    def waits(self) -> bool:
        """Whether it is there and has not had its answer."""
        return self.state in ("asks", "follows")

    def _request(self) -> ComputeRequest:
        assets = [self.world.media.assets[n] for n in self.ask.assets]
        return ComputeRequest(
            self.ask.features,
            tuple(AssetRef(uri=a.uri) for a in assets),
            priority=Priority(self.ask.priority),
            tenant=self.ask.tenant,
            refresh=self.ask.refresh,
            deadline_seconds=self.ask.patience,
            callback=Callback(f"https://hooks.example/{self.ask.id}", self.ask.called)
            if self.ask.called
            else None,
            trace=self.world.traced(self.ask.id),
        )

    # --- its life

    async def run(self) -> None:
        """Ask, perhaps hang up and ask again, follow what was accepted, and check what is told."""
        request = self._request()
        if self.ask.leaves is not None:
            view = await self._hang_up(request)
            if view is None:
                if self.ask.returns is None:
                    self.state = "left"
                    self.world.saw("a caller left")
                    await self._alone()
                    return
                await asyncio.sleep(self.ask.returns)
                self.world.saw("a caller hung up and asked again")
        else:
            view = None
        if view is None:
            view = await self._compute(request)
        if view is not None and view.state == "running":
            view = await self._follow()
        if view is not None:
            self._check(view)
            await self._load(view)
        self.state = "answered"

    async def _hang_up(self, request: ComputeRequest) -> RequestView | None:
        """Ask, and hang up if there is no answer yet by then."""
        assert self.ask.leaves is not None
        asking = asyncio.ensure_future(self._compute(request))
        await asyncio.wait([asking], timeout=self.ask.leaves)
        if asking.done():
            return asking.result()
        asking.cancel()
        await asyncio.wait([asking])
        return None

    async def _alone(self) -> None:
        """Where nothing goes wrong, work that everybody has left ends soon."""
        world, ask = self.world, self.ask
        if world.scenario.dangerous or ask.twin or ask.called or ask.wait <= (ask.leaves or 0.0):
            return  # or it was about to be accepted
        await asyncio.sleep(SOON_SECONDS)
        for node in world.shards:
            live = () if node.offers is None else node.offers.context.ledger.requests
            assert ask.id not in live, f"{ask.id} was left by everybody and goes on at {node.name}"

    async def _compute(self, request: ComputeRequest) -> RequestView | None:
        """Ask until there is an answer or a sentence; None for a sentence."""
        world, ask = self.world, self.ask
        number = ask.engine
        give_up = world.loop.time() + PATIENCE_SECONDS
        while world.loop.time() < give_up:
            node = world.engines[number]
            try:
                view: RequestView = await connected(
                    world, node, lambda engine: engine.compute(request, ask.wait, ask.id)
                )
            except Broken:
                world.saw("a connection broke")
                number = (number + 1) % len(world.engines)
                await asyncio.sleep(0.1)
            except (Unavailable, StoreError) as error:
                world.allowed(error)
                await asyncio.sleep(0.5)
            except Overloaded:
                if not ask.called:
                    raise
                world.saw("a callback had no room")
                return None
            except RequestMismatch as error:
                # Its assets have moved since an engine took it in under this id: another request, by its
                # words.
                if not world.moves:
                    raise AssertionError(f"{ask.id} was taken for another request") from error
                return None
            else:
                if view.state == "running":
                    world.changed("request.accepted", ask.id)
                if ask.called:
                    world.changed("callback.promised", ask.id)
                return view
        raise AssertionError(f"{ask.id} could not be asked")

    async def _follow(self) -> RequestView | None:
        """Follow an accepted request by its id, from wherever, until it has ended."""
        world, ask = self.world, self.ask
        self.state = "follows"
        number = ask.other
        give_up = world.loop.time() + PATIENCE_SECONDS
        while world.loop.time() < give_up:
            node = world.engines[number]
            try:
                view: RequestView
                if ask.follows == "events":
                    began = world.loop.time()
                    view = await connected(world, node, self._listen)
                    world.oracle.told_end(ask.id, node.name, began)
                else:
                    view = await connected(world, node, lambda engine: engine.status(ask.id, 20.0))
                if view.state != "running":
                    return view
            except Broken:
                number = (number + 1) % len(world.engines)
                await asyncio.sleep(0.1)
            except UnknownRequest as error:
                raise AssertionError(f"{ask.id} was accepted and is unknown") from error
            except (Unavailable, StoreError) as error:
                world.allowed(error)
                await asyncio.sleep(0.5)
        raise AssertionError(f"{ask.id} was accepted and never ended")

    async def _listen(self, engine: Any) -> RequestView:
        told: set[tuple[str, str]] = set()
        async for event in engine.events(self.ask.id):
            if event.kind == "result":
                name = event.result.feature, event.result.key
                assert name not in told, f"{self.ask.id} was told twice of {name}"
                told.add(name)
            if event.kind == "done":
                view: RequestView = event.view
                return view
        raise AssertionError(f"the events of {self.ask.id} stopped before it was done")

    # --- what it is told

    def _check(self, view: RequestView) -> None:
        """Whether a finished view is in order, complete and true."""
        world, ask = self.world, self.ask
        self.view = view
        if view.state == "cancelled":
            assert self.cancelled, f"{ask.id} was cancelled by nobody"
            return
        failed = {f.ref.uri for f in view.failed_assets}
        if failed:
            assert world.moves, f"{ask.id}: {view.failed_assets[0].failure.message}"
        wanted = world.names_of(ask.features, ask.assets)
        got = list(dict.fromkeys((r.feature, unit_name(r.unit, r.feature)) for r in view.results))
        if failed:
            wanted = [name for name in wanted if name in got]
        assert got == wanted, f"{ask.id} asked for {wanted} and got {got}"
        for result in view.results:
            key = result.key
            step = world.media.steps.get(key)
            if step is None:
                world.learn(result)
                step = world.media.steps[key]
            self._told_unit(result)
            assert (step.recipe.feature, step.unit_id) == (result.feature, result.unit.unit_id)
            if result.state == "failed":
                assert result.failure is not None
                self._honest(key, result.failure)
                continue
            assert result.state == "ready", f"{ask.id} ended and {result.feature} is {result.state}"
            assert not world.media.doomed(key), f"{key} can have no value"
            if result.value is not MISSING:
                world.oracle.told(key, result.value, self._began)
                if self._anew:
                    world.oracle.anew(key, result.value, self._began)
                if self._anew and not result.cached:
                    world.oracle.refreshed(key, result.value)
        self._check_units()

    def _told_unit(self, result: Any) -> None:
        """Gather the units of each range of a finder that was asked about."""
        if result.feature not in FOUND or isinstance(result.unit, EachRange):
            return
        self._units.setdefault((result.feature, result.unit.asset.id), []).append(result)

    def _check_units(self) -> None:
        """The units are those that a finder found, all of them, in order, and by a value that counts."""
        world = self.world
        for (feature, asset), results in self._units.items():
            told = tuple(result.key for result in results)
            ways = world.ways(feature, asset, told)
            names = [world.media.names[key] for key in told]
            assert ways, f"{self.ask.id} is told of {names}, which nobody has found"
            for finder, serial in ways:
                if world.oracle.counts(finder, serial, self._began):
                    return
            raise AssertionError(f"{self.ask.id} is told of {names}, which was found before a change")

    def _honest(self, key: str, failure: Failure) -> None:
        """A failure names a step that did fail, and that is the key or something under it."""
        world = self.world
        if failure.type == "Expired":
            assert self.ask.patience is not None
            assert self._began + self.ask.patience <= world.loop.time() + 1e-6
            return
        assert failure.key in world.media.below(key), f"{key} failed because of {failure.key}, not below it"
        assert failure.step == world.media.steps[failure.key].recipe.feature
        poisoned = world.media.poison(failure.key)
        if failure.type == QUARANTINED:
            # Whoever was in the same task, or stood behind it at the same actor, is not charged with it.
            assert poisoned or not world.calm, f"{failure.key} is set aside and kills nobody"
            return
        if failure.type == "MediaNotFound":
            # Only for who asked before the asset moved: a newer request says where it is.
            unit = world.media.steps[failure.key].unit
            assets = unit.assets if isinstance(unit, Collection) else [getattr(unit, "asset", unit)]
            moved = max(world.media.moved_at.get(asset.id, 0.0) for asset in assets)
            # A collection's inputs of other shards are the exception: their owners may not have heard of it.
            foreign = world.media.steps[key].home != world.media.steps[failure.key].home
            assert foreign or self._began <= moved, f"{self.ask.id} asked after the move: {failure}"
            return
        bad = failure.kind == "input" and world.media.bad_value(failure.key)
        assert bad or poisoned or not world.calm or failure.type == "MissingResource", failure

    async def _load(self, view: RequestView) -> None:
        """Read what is said to be ready, from another engine."""
        world = self.world
        keys = [r.key for r in view.results if r.state == "ready" and r.value is MISSING]
        if not keys:
            return
        began = world.loop.time()
        node = world.engines[self.ask.other]
        try:
            answers = await connected(world, node, lambda engine: _answers(engine, keys))
        except (Broken, AmberError):
            return
        assert [answer.key for answer in answers] == list(dict.fromkeys(keys))
        for answer in answers:
            # One without a value was evicted and is never written, was purged or lost, or can't be read now.
            if isinstance(answer, StoredValue):
                world.oracle.told(answer.key, answer.value, began)
                world.saw("values were loaded")

    async def cancel(self) -> None:
        """Somebody deletes the request."""
        self.cancelled = True
        node = self.world.engines[self.ask.other]
        try:
            await connected(self.world, node, lambda engine: engine.cancel(self.ask.id))
            self.world.saw("a request was cancelled")
            self.world.changed("request.cancelled", self.ask.id)
        except (Broken, AmberError):
            return


async def _answers(engine: Service, keys: Sequence[str]) -> list[Answered]:
    """What is said of many keys, in the order in which it was said."""
    async with contextlib.aclosing(engine.values(keys)) as batches:
        return [answer async for batch in batches for answer in batch]


async def read(world: World, it: Read) -> None:
    """Read what there is of a feature and an asset, twice."""
    for pause in (0.0, it.again):
        await asyncio.sleep(pause)
        asset = world.media.assets[it.asset].id
        steps = world.media.steps.items()
        keys = [k for k, s in steps if s.recipe.feature == it.feature and world.oracle.about(k, asset)]
        for key in keys:
            began = world.loop.time()
            try:
                [value] = await connected(
                    world, world.engines[it.engine], lambda engine, key=key: engine.load([key])
                )
            except (Broken, AmberError):
                continue  # it was never made, is not kept, was purged, or can't be read now
            world.saw("a value was read by its key")
            world.oracle.told(key, value.value, began)


def unit_name(unit: Any, feature: str = "") -> str:
    """A unit by what it is about, without where that is. Units that were found are one."""
    if isinstance(unit, EachRange) or feature in FOUND:
        return f"{unit.asset.id[:4]}@each"
    if isinstance(unit, Segment):
        return f"{unit.asset.id[:4]}@{unit.start_us}"
    return "all" if isinstance(unit, Collection) else unit.id[:4]
