"""What runs in the cluster for `ray://` callers: their calls, and events in streams."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from amber_ray.errors import StoreBusy, UnknownRequest
from amber_ray.fabric.adapter import gateway
from amber_ray.fabric.adapter.gateway import Gateway
from amber_ray.fabric.engine import requests
from tests.unit.fabric.engine.kit import SECONDS, World, ask, run, until, world


async def running(w: World) -> Gateway:
    """A gateway with a request under way, `mine`."""
    made = Gateway("amber", start=w.engine)
    await made.call("compute", (ask(*w.films(0, 0)), 0.0, "mine"), {})
    return made


def kinds(events: list[Any]) -> list[str]:
    return [event.kind for event in events]


def test_what_happens_is_told_when_it_happens() -> None:
    async def story() -> None:
        async with world() as w:
            made = await running(w)
            stream = await made.watch("mine")
            events, more = await made.more(stream)
            assert (kinds(events), more) == (["progress"], True)
            waiting = asyncio.create_task(made.more(stream))
            await until(lambda: w.engines)
            w.shard.make_all()
            began = asyncio.get_running_loop().time()
            told = []
            while more:
                events, more = await waiting
                told += events
                if more:
                    waiting = asyncio.create_task(made.more(stream))
            assert kinds(told).count("result") == 2
            assert told[-1].kind == "done"
            assert asyncio.get_running_loop().time() - began < requests.PROGRESS_SECONDS / 4
            with pytest.raises(UnknownRequest):
                await made.more(stream)

    run(story())


def test_silence_is_answered_after_a_while() -> None:
    async def story() -> None:
        async with world() as w:
            made = await running(w)
            stream = await made.watch("mine")
            await made.more(stream)
            began = asyncio.get_running_loop().time()
            assert await made.more(stream) == ([], True)
            assert asyncio.get_running_loop().time() - began == pytest.approx(gateway.WATCH_SECONDS, abs=0.1)
            await made.unwatch(stream)

    run(story())


def test_what_the_events_raise_is_raised_to_the_reader() -> None:
    async def story() -> None:
        async with world() as w:
            made = Gateway("amber", start=w.engine)
            stream = await made.watch("nothing")
            with pytest.raises(UnknownRequest, match="'nothing'"):
                await made.more(stream)

    run(story())


def test_a_stream_that_nobody_reads_is_let_go() -> None:
    async def story() -> None:
        async with world() as w:
            made = await running(w)
            forgotten = await made.watch("mine")
            await asyncio.sleep(gateway.STREAM_SECONDS + 1)
            read = await made.watch("mine")
            with pytest.raises(UnknownRequest, match="not read for too long"):
                await made.more(forgotten)
            assert kinds((await made.more(read))[0]) == ["progress"]
            await made.unwatch(read)
            await made.unwatch(read)

    run(story(), 200.0)


def test_an_engine_that_can_t_start_is_tried_again_by_the_next_call() -> None:
    async def story() -> None:
        async with world() as w:
            made = Gateway("amber", start=w.engine)
            w.shard.raises["hello"] = StoreBusy("it is another's")
            with pytest.raises(StoreBusy):
                await made.call("stats", (), {})
            del w.shard.raises["hello"]
            assert (await made.call("stats", (), {}))["shards"] == 1.0

    run(story())


def test_a_call_that_is_cancelled_is_a_caller_that_hangs_up() -> None:
    async def story() -> None:
        async with world() as w:
            made = Gateway("amber", start=w.engine)
            call = asyncio.create_task(made.call("compute", (ask(*w.films(0)), SECONDS, "mine"), {}))
            await until(lambda: "mine" in w.shard.records)
            call.cancel()
            await until(lambda: not w.shard.records)

    run(story())
