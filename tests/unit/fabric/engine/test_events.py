"""Streams of events: what happens is told when it happens, and the end at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from amber_ray.core.model.service import RequestEvent
from amber_ray.errors import UnknownFeature, UnknownRequest
from amber_ray.fabric.engine import requests
from tests.unit.fabric.engine.kit import SECONDS, Gate, ask, run, until, world

PROMPT = requests.PROGRESS_SECONDS / 4
"""An end that is told within this was not waited for."""


async def read(stream: AsyncIterator[RequestEvent], during: Callable[[], Any] = lambda: None) -> list[str]:
    """The kinds of a stream's events; `during` runs while the first one is on its way to the reader."""
    kinds = []
    async for event in stream:
        if not kinds:
            await during()
        kinds.append(event.kind)
    return kinds


def test_an_end_that_comes_while_an_event_is_sent_is_told_at_once() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            await engine.compute(ask(*w.films(0)), 0.0, "mine")

            async def finish() -> None:
                w.shard.make_all()
                while (await engine.status("mine")).state == "running":
                    await asyncio.sleep(0)

            began = asyncio.get_running_loop().time()
            kinds = await read(engine.events("mine"), finish)
            assert asyncio.get_running_loop().time() - began < PROMPT
            assert kinds == ["progress", "result", "progress", "done"]

    run(story())


def test_a_shard_that_does_not_answer_holds_up_nobody_s_events() -> None:
    """How far the request is can't be told by one shard; what another says is told at once."""

    async def story() -> None:
        async with world(shards=2) as w:
            engine = await w.engine()
            await engine.compute(ask(*w.films(0, 1)), 0.0, "mine")
            gate = w.shards[0].hold("progress")
            told: list[RequestEvent] = []

            async def follow() -> None:
                async for event in engine.events("mine"):
                    told.append(event)

            reading = asyncio.create_task(follow())
            await until(lambda: gate.arrived)
            w.shards[1].make_all()
            began = asyncio.get_running_loop().time()
            await until(lambda: any(e.kind == "result" for e in told))
            assert asyncio.get_running_loop().time() - began < PROMPT
            gate.open()
            w.shards[0].make_all()
            await reading
            assert told[-1].kind == "done"

    run(story())


def test_progress_is_told_without_answers() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            one, two = w.films(0, 0)
            await engine.compute(ask(one, two), 0.0, "mine")
            seen: list[tuple[int, int]] = []

            async def follow() -> None:
                async for event in engine.events("mine"):
                    seen.append((event.done, event.total))

            reading = asyncio.create_task(follow())
            await until(lambda: seen)
            w.shard.records["mine"].answers["another key"] = None  # type: ignore[assignment]
            await until(lambda: (1, 2) in seen)
            del w.shard.records["mine"].answers["another key"]
            w.shard.make_all()
            await reading
            assert (seen[0], seen[-1]) == ((0, 2), (2, 2))

    run(story())


def test_a_caller_that_waited_in_vain_is_told_how_far_it_is() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            one, two = w.films(0, 0)
            waiting = asyncio.create_task(engine.compute(ask(one, two), 0.3, "mine"))
            await until(lambda: "mine" in w.shard.records)
            w.shard.records["mine"].answers["a step below"] = None  # type: ignore[assignment]
            view = await waiting
            assert (view.state, view.done, view.total) == ("running", 1, 2)
            del w.shard.records["mine"].answers["a step below"]

    run(story())


def test_a_caller_that_joins_without_waiting_is_told_how_far_it_is() -> None:
    """As the second call of a server that stops, which turns those who wait into accepted requests."""

    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            one, two = w.films(0, 0)
            waiting = asyncio.create_task(engine.compute(ask(one, two), 60.0, "mine"))
            await until(lambda: "mine" in w.shard.records)
            w.shard.records["mine"].answers["a step below"] = None  # type: ignore[assignment]
            view = await engine.compute(ask(one, two), 0.0, "mine")
            assert (view.state, view.done, view.total) == ("running", 1, 2)
            del w.shard.records["mine"].answers["a step below"]
            w.shard.make_all()
            await waiting

    run(story())


def test_a_request_that_is_over_is_told_whole() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            (one,) = w.films(0)
            await engine.compute(ask(one), 0.0, "mine")
            w.shard.make_all()
            await engine.status("mine", SECONDS)
            assert await read(engine.events("mine"), _nothing) == ["progress", "result", "done"]
            # From memory, and remembered as a tuple.
            await engine.compute(ask(one), 0.0, "again")
            assert await read(engine.events("again"), _nothing) == ["progress", "result", "done"]

    run(story())


async def _nothing() -> None:
    pass


@pytest.mark.parametrize("near", [False])
def test_a_stream_of_a_request_that_comes_to_nothing_raises_why(near: bool) -> None:
    async def story() -> None:
        async with world() as w:
            w.assets.near = near
            gate = w.assets.gate = Gate()
            engine = await w.engine()
            caller = asyncio.create_task(
                engine.compute(ask(*w.films(0), features="no_such"), SECONDS, "mine")
            )
            await until(lambda: gate.arrived)
            reading = asyncio.create_task(read(engine.events("mine"), _nothing))
            await asyncio.sleep(0)
            gate.open()
            with pytest.raises(UnknownFeature):
                await reading
            with pytest.raises(UnknownFeature):
                await caller
            with pytest.raises(UnknownRequest):
                await read(engine.events("mine"))

    run(story())
