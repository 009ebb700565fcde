"""The body of an actor that makes calls: one `async def` feature, many of whose steps are in flight at once.

Each step is a task of its own, given to the actor as an asyncio task on its one event loop. So each has its
own end: one that fails, runs past its timeout or is cancelled disturbs no other. The shard gives the actor
more calls than may be in flight; those that are over that stand in line here, in the order in which they
came.

Cancelling a call (nobody waits for it any more) is `asyncio.Task.cancel`: the feature's coroutine gets a
`CancelledError`, as by any other asyncio program.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Any

from amber_ray.core.declare.feature import FeatureSpec
from amber_ray.core.planning.fanout import Windows, windows_of
from amber_ray.core.planning.plan import Step
from amber_ray.core.scheduler.calls import Pace
from amber_ray.errors import FeatureError, StepTimeout
from amber_ray.fabric.transport.messages import Work
from amber_ray.fabric.worker import snapshot
from amber_ray.fabric.worker.snapshot import Snapshot
from amber_ray.fabric.worker.tasks import (
    KILL_GRACE_SECONDS,
    WATCHDOG,
    Inputs,
    Outbox,
    arguments,
    give_up,
    provenance_of,
    registry_of,
)
from amber_ray.fabric.worker.watchdog import Watchdog
from amber_ray.media import bounds


class CallMaker:
    """Makes the calls of one feature: at most `concurrency` at once, and no faster than its rate.

    The rate is the scheduler's. It is held here once more because calls may arrive together that were handed
    over one after the other, while the actor was starting.
    """

    def __init__(
        self, spec: FeatureSpec, model: tuple[tuple[str, Any], ...], watchdog: Watchdog = WATCHDOG
    ) -> None:
        self._spec = spec
        self._watchdog = watchdog
        self._model_params = dict(model)
        self._model: Any = None
        self._turns = asyncio.Semaphore(spec.calls.concurrency)
        self._starts = asyncio.Lock()
        self._pace = Pace()

    async def run(self, work: Work, *slots: list[Any]) -> tuple[Any, ...]:
        """Make the call of each step of `work`; the same returns as `tasks.run`."""
        box = Outbox(work)
        values = Inputs(work, slots)
        for step in work.steps:
            async with self._turns:
                await self._paced(work.apart)
                box.begin(step)
                started = time.perf_counter()
                try:
                    value, windows = await self._call(work, step, values)
                except asyncio.CancelledError as error:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():
                        raise  # nobody waits for it any more
                    own = FeatureError(f"the feature {self._spec.name!r} cancelled something of its own")
                    box.raised(self._spec, step, own.with_traceback(error.__traceback__))
                except (Exception, SystemExit) as error:  # noqa: BLE001 - user code; the failure is the result
                    box.raised(self._spec, step, error)
                else:
                    seconds = time.perf_counter() - started
                    box.made(step, value, seconds, provenance_of(self._model, "calls"), windows)
        return box.close()

    async def _paced(self, apart: float) -> None:
        """Wait until the next call may start. Waiting is in order of arrival."""
        if not apart:
            return
        async with self._starts:
            loop = asyncio.get_running_loop()
            if not self._pace.open(loop.time()):
                await asyncio.sleep(self._pace.opens_at - loop.time())
            self._pace.start(loop.time(), apart)

    async def _call(self, work: Work, step: Step, values: Inputs) -> tuple[Snapshot, Windows | None]:
        spec = self._spec
        seconds = work.limits.step_seconds if step.recipe.timeout is None else step.recipe.timeout
        with self._watched(work, step, seconds):
            if spec.is_class and self._model is None:
                self._model = spec.target(**self._model_params)
            call = self._model if spec.is_class else spec.target
            try:
                async with asyncio.timeout(seconds) as bound:
                    # No name for the value: what is referred to here has its arrays copied.
                    held = [spec.returns.check(await call(**arguments(spec, step, values)))]
            except TimeoutError as error:
                if not bound.expired():
                    raise  # the feature's own
                late = f"feature {spec.name!r} ran past its timeout of {seconds:g} s"
                raise StepTimeout(late) from error
            windows = windows_of(held[0]) if spec.finds else None
            return snapshot.take(held, work.inline_bytes), windows

    @contextlib.contextmanager
    def _watched(self, work: Work, step: Step, seconds: float) -> Iterator[None]:
        """End this process if a step does not heed its timeout: it blocks the loop, or swallows the end.

        Work that names no actor is run in somebody's own process (`amber_ray.testing`), which is not ended.
        """
        if not work.actor:
            with bounds.within(work.limits):
                yield
            return
        act = functools.partial(give_up, work, step.key)
        number = self._watchdog.arm(seconds + KILL_GRACE_SECONDS, act)
        try:
            with bounds.within(work.limits):
                yield
        finally:
            self._watchdog.disarm(number)


class Calling:
    """A `CallMaker` in a Ray actor: of the code of a registry, by the feature's name.

    Not its subclass, since Ray wraps each method of an actor for tracing.
    """

    def __init__(self, blob: bytes, registry: str, feature: str, model: tuple[tuple[str, Any], ...]) -> None:
        self._maker = CallMaker(registry_of(registry, blob).get(feature), model)

    async def run(self, work: Work, *slots: list[Any]) -> tuple[Any, ...]:
        """See `CallMaker.run`."""
        return await self._maker.run(work, *slots)
