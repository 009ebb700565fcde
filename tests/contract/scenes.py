"""Scenes of the contract on an event loop with real time: services in memory, over HTTP, and on Ray."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import hashlib
import inspect
import io
import itertools
import logging
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import uvicorn
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from amber_ray.client.http import HttpService
from amber_ray.core.model.service import Service
from amber_ray.core.model.units import Asset, Segment
from amber_ray.core.values.annotations import parse
from amber_ray.errors import MediaError
from amber_ray.serving.app import create_app
from amber_ray.settings import Limits, Settings
from tests.contract.features import LARGE, Range
from tests.media import flat, write_video
from tests.memory_service import SEGMENT_SECONDS, Call, Made, MemoryService
from tests.service_contract import CALLBACKS, Scene

T = TypeVar("T")

log = logging.getLogger("tests.contract")

EVENTUALLY_SECONDS = 30.0
AT_ONCE_SECONDS = 10.0
BOUND = 3
"""Requests of one tenant that may run at once in a scene."""
FEATURES = str(Path(__file__).parent / "features.py")


class HoldableLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers can be held off: until `release` none of them fires."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[Callable[[], None]] | None = None
        self.set_exception_handler(_noted)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        def fire() -> None:
            if self._held is None:
                callback(*args)
            else:
                self._held.append(again)

        def again() -> None:
            if not handle.cancelled():
                callback(*args)

        handle = super().call_at(when, fire, context=context)
        return handle

    def hold(self) -> None:
        """From now on no timer fires."""
        self._held = []

    def release(self) -> None:
        """Timers that were held off fire now, others when it is their time."""
        held, self._held = self._held or [], None
        for fire in held:
            self.call_soon(fire)

    def call_in_any_case(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """A timer that is not held off."""
        return super().call_at(self.time() + seconds, callback)


class LoopScene(Scene):
    """A scene in real time. It may serve several cases, one after the other: each has `begin` and `end`."""

    bound = BOUND
    case_seconds = 90.0
    _cases = itertools.count(1)

    def __init__(self, loop: HoldableLoop | None = None) -> None:
        self.loop = loop or HoldableLoop()

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(self.case_seconds):
                await story()

        self.loop.run_until_complete(bounded())

    async def eventually(self, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        give_up = time.monotonic() + EVENTUALLY_SECONDS
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            assert time.monotonic() < give_up, "it did not come about"
            await asyncio.sleep(0.005)

    async def at_once(self, work: Awaitable[T]) -> T:
        """No timer of this loop fires until it has come, and so none of the service that runs on it."""
        task = asyncio.ensure_future(work)
        late: list[bool] = []
        timer = self.loop.call_in_any_case(AT_ONCE_SECONDS, lambda: late.append(task.cancel()))
        self.loop.hold()
        try:
            return await task
        except asyncio.CancelledError:
            assert not late, "it did not come while no timer fired"
            raise
        finally:
            timer.cancel()
            self.loop.release()

    # --- life

    @contextlib.contextmanager
    def up(self) -> Iterator[LoopScene]:
        """Started, and stopped at the end with nothing left on the loop."""
        try:
            self.run(self.start)
            try:
                yield self
            finally:
                self.run(self.stop)
        finally:
            self.loop.run_until_complete(_cancel_left())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()

    @contextlib.contextmanager
    def case(self) -> Iterator[LoopScene]:
        """For one case; what it left is gone at the end."""
        self.tenant = f"case-{next(self._cases)}"
        self._ids = 0
        try:
            yield self
        finally:
            self.run(self.end)

    @abc.abstractmethod
    async def start(self) -> None:
        """Bring the service up."""

    @abc.abstractmethod
    async def stop(self) -> None:
        """Take it down."""

    @abc.abstractmethod
    async def end(self) -> None:
        """Open all gates, close other engines."""


def _noted(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody handled, without its traceback.

    It is told by the garbage collector, which may run while pytest parses a failed case's source. Python 3.11
    parses source to format a traceback, and its parser does not stand being called from within itself.
    """
    log.error("%s: %r", context["message"], context.get("exception"))


async def _cancel_left() -> None:
    """End tasks that a case has left which failed, so that none is destroyed while it is pending."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


# --- in memory


def numbers(call: Call) -> np.ndarray:
    return np.full(LARGE, call.run, np.float32)


def asset_of(call: Call) -> Asset:
    assert isinstance(call.unit, Asset)
    return call.unit


def part(call: Call) -> str:
    assert isinstance(call.unit, Segment)
    return f"{call.unit.asset.id}/{call.unit.index}"


def picky(call: Call) -> Any:
    words = "it does not like this one"
    if asset_of(call).id != call.params["bad"]:
        return 1
    return MediaError(words) if call.params["kind"] == "input" else ValueError(words)


def bounds(call: Call) -> Any:
    pairs = [one.split("..") for one in call.params["at"].split(",") if one]
    try:
        return [Range(float(start), float(end)) for start, end in pairs]
    except ValueError as error:
        return error


def span(call: Call) -> Any:
    assert isinstance(call.unit, Segment)
    words = "it does not like this one"
    return ValueError(words) if call.unit.start == call.params["bad"] else call.unit.unit_id


IN_MEMORY: dict[str, Made] = {
    "label": Made(parse(str), of=lambda call: asset_of(call).id),
    "part": Made(parse(str), per="segment", of=part),
    "joined": Made(parse(str), inputs=("part",), of=lambda call: "+".join(call.inputs["part"])),
    "whole": Made(
        parse(list[str]), per="collection", inputs=("label",), of=lambda call: call.inputs["label"]
    ),
    "fresh": Made(parse(int), of=lambda call: call.run),
    "large": Made(parse(np.ndarray), of=numbers, inline=False),
    "picky": Made(parse(int), of=picky, params={"bad": ("str", ""), "kind": ("str", "feature")}),
    "after": Made(parse(int), inputs=("picky",), of=lambda call: call.inputs["picky"] + 1),
    "bounds": Made(parse(list[Range]), of=bounds, params={"at": ("str", "")}),
    "span": Made(parse(str), per="bounds", inputs=("part",), of=span, params={"bad": ("float", -1.0)}),
    "spans": Made(parse(str), inputs=("span",), of=lambda call: " ".join(call.inputs["span"])),
    "reel": Made(
        parse(list[list[str]]), per="collection", inputs=("span",), of=lambda call: call.inputs["span"]
    ),
}


class MemoryScene(LoopScene):
    """A `MemoryService` or a double made of it. Media need not be anywhere."""

    segment_seconds = SEGMENT_SECONDS
    case_seconds = 15.0

    def __init__(self, make: Callable[[], MemoryService]) -> None:
        super().__init__()
        self._make = make
        self._double: MemoryService

    async def start(self) -> None:
        self._double = self._make()
        self._double.made |= IN_MEMORY
        self._double.bound, self._double.callbacks = BOUND, CALLBACKS
        self._double.deadlines = True
        self._media = itertools.count()

    async def stop(self) -> None:
        await self._double.aclose()

    def open_all(self) -> None:
        for feature in IN_MEMORY:
            self.open(feature)

    async def end(self) -> None:
        self.open_all()

    @property
    def service(self) -> Service:
        return self._double

    async def another(self) -> Service:
        raise NotImplementedError

    async def restart(self) -> None:
        raise NotImplementedError

    async def kill(self) -> None:
        raise NotImplementedError

    async def stored(self) -> None:
        raise NotImplementedError

    def pictures(self, count: int) -> list[str]:
        return [self._put(f"/m/{next(self._media)}.png") for _ in range(count)]

    def film(self) -> str:
        return self._put(f"/m/{next(self._media)}.mp4")

    def copy_of(self, uri: str) -> str:
        return self._put(f"/copies/{uri.rpartition('/')[2]}")

    def _put(self, uri: str) -> str:
        """Have media there, if the double does not take every name."""
        return uri

    def nothing(self) -> str:
        return "/m/missing.png"

    def content(self, uri: str) -> bytes:
        return uri.encode() * 10

    def id_of(self, uri: str) -> str:
        return self._double.media_at(uri).id

    def close(self, feature: str) -> None:
        self._double.gate_of(feature).clear()

    def open(self, feature: str) -> None:
        self._double.gate_of(feature).set()

    def runs(self, feature: str, uri: str) -> int:
        id = self.id_of(uri)
        return sum(
            count
            for (name, unit), count in self._double.runs.items()
            if name == feature and unit.partition("@")[0] == id
        )


# --- over HTTP


class Server(uvicorn.Server):
    """A server on this loop, which leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Served:
    """One HTTP server over a service, and a client of it."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(service, settings), log_level="error", timeout_graceful_shutdown=1)
        self._server = Server(config)
        self._serving: asyncio.Task[None] | None = None
        url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.client = HttpService(url, patience=0.0)

    async def start(self) -> Served:
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        async with asyncio.timeout(20):
            while not self._server.started:
                await asyncio.sleep(0.005)
        return self

    async def stop(self) -> None:
        await self.client.aclose()
        self._server.should_exit = True
        assert self._serving is not None
        await self._serving


class Over(LoopScene):
    """A way in to the service of another scene, whose media, gates and counts it has."""

    def __init__(self, inner: MemoryScene | RayScene) -> None:
        super().__init__(inner.loop)
        self.inner = inner
        self.segment_seconds = inner.segment_seconds
        self.shards = inner.shards

    async def stored(self) -> None:
        await self.inner.stored()

    async def kill(self) -> None:
        await self.inner.kill()

    def pictures(self, count: int) -> list[str]:
        return self.inner.pictures(count)

    def film(self) -> str:
        return self.inner.film()

    def copy_of(self, uri: str) -> str:
        return self.inner.copy_of(uri)

    def nothing(self) -> str:
        return self.inner.nothing()

    def content(self, uri: str) -> bytes:
        return self.inner.content(uri)

    def id_of(self, uri: str) -> str:
        return self.inner.id_of(uri)

    def close(self, feature: str) -> None:
        self.inner.close(feature)

    def open(self, feature: str) -> None:
        self.inner.open(feature)

    def runs(self, feature: str, uri: str) -> int:
        return self.inner.runs(feature, uri)


class HttpScene(Over):
    """A service behind a real server on the same loop; another engine has a server of its own."""

    def __init__(self, inner: MemoryScene | RayScene) -> None:
        super().__init__(inner)
        self._served: Served
        self._others: list[Served] = []

    async def start(self) -> None:
        await self.inner.start()
        self._served = await self._serve(self.inner.service)

    async def _serve(self, service: Service) -> Served:
        return await Served(service, Settings(segment_seconds=self.segment_seconds)).start()

    async def stop(self) -> None:
        await self._served.stop()
        await self.inner.stop()

    async def end(self) -> None:
        self.inner.open_all()
        for other in self._others:
            await other.stop()
        self._others.clear()
        await self.inner.end()

    @property
    def service(self) -> Service:
        return self._served.client

    async def another(self) -> Service:
        inner = self.inner
        other = await self._serve(inner.service if isinstance(inner, MemoryScene) else await inner.another())
        self._others.append(other)
        return other.client

    async def restart(self) -> None:
        await self._served.stop()
        await self.inner.restart()
        self._served = await self._serve(self.inner.service)


# --- on Ray


class RayScene(LoopScene):
    """Engines in this process over cache actors on the Ray that `tests/contract/conftest.py` has started."""

    segment_seconds = 1.0

    def __init__(self, folder: Path, traces: Path, *, shards: int, replicas: int = 1) -> None:
        super().__init__()
        self.shards = shards
        self._traces = traces
        self._media = folder / "media"
        self._media.mkdir()
        self._salt = f"{folder.name} "
        self._contents = itertools.count()
        self._settings = Settings(
            store=str(folder / "store"),
            media_roots=(str(self._media),),
            features=(FEATURES,),
            builtins=False,
            segment_seconds=self.segment_seconds,
            namespace=f"contract-{folder.name}",
            shards=shards,
            replicas=replicas,
            grace_seconds=0.2,
            spill_seconds=0.05,
            limits=Limits(requests_per_tenant=BOUND, deliveries_per_tenant=CALLBACKS),
            callback_hosts=("127.0.0.1",),  # no name to look up, and no address that is called
            callback_secrets=("whsec_" + "a" * 32,),
        )
        self._film = write_video(folder / "film.mp4", [flat((i, i, i)) for i in range(0, 200, 10)], fps=8)
        self._engine: Service | None = None
        self._others: list[Service] = []

    @property
    def settings(self) -> Settings:
        """What its engines and shards run with."""
        return self._settings

    async def start(self) -> None:
        from amber_ray.fabric.adapter.engine_start import start_engine

        self._engine = await start_engine(self._settings)

    async def stop(self) -> None:
        from amber_ray.fabric.adapter import cluster

        assert self._engine is not None
        await self._engine.aclose()
        await cluster.close_shards(self._settings)

    def open_all(self) -> None:
        for gate in self._traces.glob("*.closed"):
            gate.unlink()

    async def end(self) -> None:
        self.open_all()
        for other in self._others:
            await other.aclose()
        self._others.clear()

        async def idle() -> bool:
            stats = await self.service.stats()
            return not (stats["requests_running"] or stats["tasks_running"])

        await self.eventually(idle)

    @property
    def service(self) -> Service:
        assert self._engine is not None
        return self._engine

    async def another(self) -> Service:
        from amber_ray.fabric.adapter.engine_start import start_engine

        self._others.append(await start_engine(self._settings))
        return self._others[-1]

    async def restart(self) -> None:
        for other in self._others:
            await other.aclose()
        self._others.clear()
        await self.stop()
        await self.start()

    async def kill(self) -> None:
        import ray

        from amber_ray.fabric.transport.names import shard_name

        for number in range(self.shards):
            actor = ray.get_actor(shard_name(number), namespace=self._settings.namespace)
            os.kill(await actor.pid.remote(), signal.SIGKILL)

    def pictures(self, count: int) -> list[str]:
        return [self._put("png", _png(self._new_content())) for _ in range(count)]

    def film(self) -> str:
        # A trailing free box: other bytes, so another asset; the same pictures, so as quick to make.
        tail = self._new_content().encode()
        box = (8 + len(tail)).to_bytes(4, "big") + b"free" + tail
        return self._put("mp4", self._film.read_bytes() + box)

    def _new_content(self) -> str:
        return f"{self._salt}{next(self._contents)}"

    def _put(self, ending: str, content: bytes) -> str:
        path = self._media / f"{next(self._contents)}.{ending}"
        path.write_bytes(content)
        return str(path)

    def copy_of(self, uri: str) -> str:
        return self._put(uri.rpartition(".")[2], self.content(uri))

    def nothing(self) -> str:
        return str(self._media / "nothing.png")

    def content(self, uri: str) -> bytes:
        return Path(uri).read_bytes()

    def id_of(self, uri: str) -> str:
        return hashlib.blake2b(self.content(uri), digest_size=16).hexdigest()

    def close(self, feature: str) -> None:
        (self._traces / f"{feature}.closed").touch()

    def open(self, feature: str) -> None:
        (self._traces / f"{feature}.closed").unlink(missing_ok=True)

    def runs(self, feature: str, uri: str) -> int:
        path = self._traces / f"{feature}.runs"
        return path.read_text().split().count(self.id_of(uri)) if path.exists() else 0


def _png(text: str) -> bytes:
    """A small picture with a comment."""
    info = PngInfo()
    info.add_text("Comment", text)
    out = io.BytesIO()
    Image.new("L", (8, 8), 128).save(out, "png", pnginfo=info)
    return out.getvalue()


class GatewayScene(Over):
    """The gateway's actor, asked as its client asks it; another engine is one of this process.

    Ray Client itself is not in between: a process can't be a client and a driver, and the driver makes and
    ends the cluster here. `tests/integration/test_connect.py` goes through it.
    """

    inner: RayScene

    def __init__(self, inner: RayScene) -> None:
        super().__init__(inner)
        self._gateway: Service | None = None

    async def start(self) -> None:
        await self.inner.start()
        await self._connect()

    async def _connect(self) -> None:
        from amber_ray.fabric.adapter import gateway

        self._gateway = await gateway.connect("ray://in-this-process", self.inner.settings)

    async def stop(self) -> None:
        self._end_actor()
        await self.inner.stop()

    def _end_actor(self) -> None:
        import ray

        from amber_ray.fabric.transport.names import GATEWAY

        ray.kill(ray.get_actor(GATEWAY, namespace=self.inner.settings.namespace))

    async def end(self) -> None:
        await self.inner.end()

    @property
    def service(self) -> Service:
        assert self._gateway is not None
        return self._gateway

    async def another(self) -> Service:
        return await self.inner.another()

    async def restart(self) -> None:
        self._end_actor()
        await self.inner.restart()
        await self._connect()
