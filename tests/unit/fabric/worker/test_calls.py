"""Calls side by side in one process: their number, their order, and each one's own end. No Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from amber_ray import Asset, RetryLater, feature
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import StepResult, Work
from amber_ray.fabric.worker.calls import CallMaker
from tests.core_kit import Graph, asset


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


class Stage:
    """A maker of calls of one feature, and the calls that it was given."""

    def __init__(self, declared: Any, apart: float = 0.0, **model: Any) -> None:
        self.maker = CallMaker(declared.__amber__, tuple(model.items()))
        self._name = declared.__amber__.name
        self._timeout = declared.__amber__.timeout
        self._apart = apart

    def give(self, name: str) -> asyncio.Task[tuple[Any, ...]]:
        graph = Graph()
        graph.add(self._name, unit=asset(name), key=name, timeout=self._timeout)
        steps = tuple(graph.steps.values())
        work = Work(1, steps, frozenset([name]), {}, {}, 1, 8192, "r", "", "", apart=self._apart)
        return asyncio.create_task(self.maker.run(work))


def result(call: asyncio.Task[tuple[Any, ...]]) -> StepResult:
    one: StepResult = call.result()[0][0]
    return one


def value(call: asyncio.Task[tuple[Any, ...]]) -> Any:
    inline = result(call).inline
    assert inline is not None
    return pickled.loads(inline)


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Gate:
    """Calls that wait; `begun` in order, `stopped` those that were cancelled."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self._open: dict[str, asyncio.Event] = {}

    async def wait(self, name: str) -> None:
        self.begun.append(name)
        try:
            await self._open.setdefault(name, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.stopped.append(name)
            raise

    def open(self, name: str) -> None:
        self._open.setdefault(name, asyncio.Event()).set()


def gated(gate: Gate) -> Any:
    @feature(version="1", concurrency=2)
    async def asks(asset: Asset) -> str:
        await gate.wait(asset.id)
        return asset.id

    return asks


def test_those_that_are_over_the_number_stand_in_line_in_their_order() -> None:
    async def story() -> None:
        gate = Gate()
        stage = Stage(gated(gate))
        calls = {name: stage.give(name) for name in "abcde"}
        await turns()
        assert gate.begun == ["a", "b"]
        gate.open("b")
        await turns()
        assert (gate.begun, value(calls["b"])) == (["a", "b", "c"], "b")
        for name in "acde":
            gate.open(name)
        await asyncio.wait(calls.values())
        assert [value(call) for call in calls.values()] == list("abcde")
        assert gate.begun == list("abcde")

    run(story())


def test_a_call_that_is_cancelled_stops_and_makes_room_and_one_in_line_never_begins() -> None:
    async def story() -> None:
        gate = Gate()
        stage = Stage(gated(gate))
        calls = {name: stage.give(name) for name in "abcd"}
        await turns()
        calls["c"].cancel()
        calls["a"].cancel()
        await turns()
        assert calls["a"].cancelled()
        assert calls["c"].cancelled()
        assert (gate.begun, gate.stopped) == (["a", "b", "d"], ["a"])

    run(story())


def test_a_timeout_ends_one_call_and_cancels_its_coroutine() -> None:
    gate = Gate()

    @feature(version="1", concurrency=2, timeout=0.05)
    async def late(asset: Asset) -> str:
        if asset.id != "quick":
            await gate.wait(asset.id)
        return asset.id

    async def story() -> None:
        stage = Stage(late)
        calls = [stage.give("slow"), stage.give("quick")]
        await asyncio.wait(calls)
        failure = result(calls[0]).failure
        assert failure is not None
        assert (failure.type, failure.kind, failure.status) == ("StepTimeout", "system", 504)
        assert failure.message == "feature 'late' ran past its timeout of 0.05 s"
        assert gate.stopped == ["slow"]
        assert value(calls[1]) == "quick"

    run(story())


async def times_out() -> None:
    raise TimeoutError("the service took too long")


async def cancels_its_own() -> None:
    task = asyncio.ensure_future(asyncio.sleep(100))
    task.cancel()
    await task


async def explodes() -> None:
    raise ValueError("the moon is full")


async def exits() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (times_out, "TimeoutError: the service took too long"),
        (cancels_its_own, "the feature 'odd' cancelled something of its own"),
        (explodes, "ValueError: the moon is full"),
        (exits, "SystemExit: 3"),
    ],
)
def test_what_a_call_raises_is_its_own_failure(
    what: Callable[[], Coroutine[Any, Any, None]], message: str
) -> None:
    @feature(version="1")
    async def odd(asset: Asset) -> str:
        await what()
        return "x"

    async def story() -> None:
        call = Stage(odd).give("a")
        await asyncio.wait([call])
        failure = result(call).failure
        assert failure is not None
        assert (failure.kind, failure.type, failure.message) == ("feature", "FeatureError", message)
        assert "amber_ray/fabric" not in failure.traceback
        assert result(call).later is None

    run(story())


def test_a_wish_to_be_tried_later_is_told_with_its_seconds() -> None:
    @feature(version="1")
    async def busy(asset: Asset) -> str:
        raise RetryLater(7, "the job is not done")

    async def story() -> None:
        call = Stage(busy).give("a")
        await asyncio.wait([call])
        told = result(call)
        assert told.failure is not None
        assert (told.later, told.failure.kind, told.failure.type) == (7.0, "system", "SystemFault")
        assert (told.failure.message, told.failure.status) == ("the job is not done", 503)

    run(story())


def test_a_class_is_made_once_with_its_parameters_for_all_calls() -> None:
    made: list[str] = []

    @feature(version="1")
    class Asks:
        def __init__(self, server: str = "") -> None:
            made.append(server)
            self.server = server

        async def __call__(self, asset: Asset) -> str:
            await asyncio.sleep(0)
            return f"{self.server}/{asset.id}"

        def provenance(self) -> str:
            return f"version 7 at {self.server}"

    async def story() -> None:
        stage = Stage(Asks, server="http://here")
        calls = [stage.give(name) for name in "abc"]
        await asyncio.wait(calls)
        assert [value(call) for call in calls] == ["http://here/a", "http://here/b", "http://here/c"]
        assert made == ["http://here"]
        assert {result(call).made.device for call in calls} == {"version 7 at http://here"}  # type: ignore[union-attr]

    run(story())


def test_a_class_that_can_not_be_made_fails_the_calls_and_is_tried_by_the_next() -> None:
    @feature(version="1")
    class Broken:
        def __init__(self) -> None:
            raise OSError("no such socket")

        async def __call__(self, asset: Asset) -> str:
            return "x"

    async def story() -> None:
        stage = Stage(Broken)
        for name in "ab":
            call = stage.give(name)
            await asyncio.wait([call])
            failure = result(call).failure
            assert failure is not None
            assert failure.message == "OSError: no such socket"

    run(story())


def test_calls_that_arrive_together_begin_apart_in_their_order() -> None:
    begun: list[tuple[str, float]] = []

    @feature(version="1", concurrency=50, rate="50/s")
    async def paced(asset: Asset) -> str:
        begun.append((asset.id, asyncio.get_running_loop().time()))
        return asset.id

    async def story() -> None:
        stage = Stage(paced, apart=0.02)
        calls = [stage.give(str(i)) for i in range(10)]
        await turns()
        assert len(begun) == 1
        calls[3].cancel()  # the one behind it does not wait for it
        await asyncio.wait(calls)
        assert [name for name, _ in begun] == [str(i) for i in range(10) if i != 3]
        # What was late is caught up on: none is sooner than 0.1 s before its time.
        assert all(when - begun[0][1] >= 0.02 * n - 0.1 for n, (_, when) in enumerate(begun))

    run(story())
