"""Features that call services, on a real Ray: calls side by side, their rate, patience, and their ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from amber_ray.core.scheduler.calls import LATE_SECONDS
from tests.integration.test_warm import ask, run, sizes, until

pytestmark = pytest.mark.timeout(180)


def in_flight(lines: list[str]) -> list[int]:
    """How many calls were in flight after each line that they left."""
    now, found = 0, []
    for line in lines:
        now += 1 if line.startswith("+") else -1
        found.append(now)
    return found


def begun(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines if line.startswith("+")]


def test_calls_run_side_by_side_as_many_as_declared_and_in_one_process(amber, traces, many_clips):
    clips = many_clips(8)

    async def story() -> None:
        async with amber() as engine:
            view = asyncio.create_task(engine.compute(ask("calls", clips), 90))
            await traces.until(lambda: len(traces.lines("calls")) == 3)
            await until(engine, "warm_batches_total", 6)  # three stand in line
            traces.open("calls")
            assert [r.value for r in (await view).results] == sizes(clips)
            lines = traces.lines("calls")
            assert max(in_flight(lines)) == 3
            assert in_flight(lines)[-1] == 0
            assert len({line.split()[2] for line in lines if line.startswith("+")}) == 1
            assert (await engine.stats())["warm_starts_total"] == 1.0

    run(story())


def stopped(lines: list[str]) -> list[str]:
    """The assets whose calls were cancelled."""
    return sorted(line.removeprefix("x ") for line in lines if line.startswith("x "))


def test_calls_stop_when_nobody_waits_and_those_of_others_go_on(amber, traces, many_clips):
    clips = many_clips(7)

    async def story() -> None:
        async with amber() as engine:
            mine = [(await engine.add_asset(c)).id for c in clips]
            shared = asyncio.create_task(engine.compute(ask("calls", clips[:1]), 90))
            await traces.until(lambda: begun(traces.lines("calls")) == mine[:1])
            leaves = asyncio.create_task(engine.compute(ask("calls", clips), 90))
            await until(engine, "warm_batches_total", 6)
            await traces.until(lambda: len(traces.lines("calls")) == 3)
            leaves.cancel()
            # A call in line may get a place just before its own cancellation comes; then it is stopped, too.
            await until(engine, "keys_running", 1)
            await traces.until(
                lambda: stopped(traces.lines("calls")) == sorted(begun(traces.lines("calls"))[1:])
            )
            count = len(begun(traces.lines("calls")))
            assert count >= 3
            traces.open("calls")
            assert [r.value for r in (await shared).results] == sizes(clips[:1])
            assert len(begun(traces.lines("calls"))) == count  # what stood in line does not begin
            assert [r.value for r in (await engine.compute(ask("calls", clips), 90)).results] == sizes(clips)

    run(story())


def test_an_actor_that_is_killed_with_calls_in_flight_loses_none(amber, traces, many_clips):
    clips = many_clips(6)

    async def story() -> None:
        async with amber() as engine:
            view = asyncio.create_task(engine.compute(ask("calls", clips), 90))
            await traces.until(lambda: len(traces.lines("calls")) == 3)
            await until(engine, "warm_batches_total", 6)
            os.kill(int(traces.lines("calls")[0].split()[2]), signal.SIGKILL)
            await traces.until(lambda: len(traces.lines("calls")) >= 4)
            traces.open("calls")
            assert [r.value for r in (await view).results] == sizes(
                clips
            )  # no retry is allowed, none charged
            runs = Counter(begun(traces.lines("calls")))
            assert sorted(runs.values()) == [1, 1, 1, 2, 2, 2]

    run(story())


def test_one_call_that_fails_disturbs_no_other(amber, traces, many_clips):
    clips = many_clips(6)

    async def story() -> None:
        async with amber() as engine:
            ids = [(await engine.add_asset(c)).id for c in clips]
            wishes = {"hang": ids[0], "swallow": ids[1], "exploding": ids[2]}
            view = await engine.compute(ask("moody", clips, **wishes), 90)
            assert [r.state for r in view.results] == ["failed"] * 3 + ["ready"] * 3
            late, own, exploded = (r.failure for r in view.results[:3])
            assert (late.type, late.status) == ("StepTimeout", 504)
            assert late.message == "feature 'moody' ran past its timeout of 1 s"
            assert own.message == "the feature 'moody' cancelled something of its own"
            assert exploded.message == "ValueError: the moon is full"
            assert exploded.traceback.count("File") == 1
            assert Counter(traces.lines("moody")) == dict.fromkeys(ids, 1)
            assert (await engine.stats())["warm_starts_total"] == 1.0

    run(story())


def test_a_rate_is_never_exceeded_though_the_calls_waited_for_their_actor(amber, traces, many_clips):
    clips = many_clips(30)

    async def story() -> None:
        async with amber() as engine:
            view = await engine.compute(ask("paced", clips), 90)
            assert [r.value for r in view.results] == sizes(clips)

    run(story())
    starts = sorted(map(float, traces.lines("paced")))
    assert len(starts) == 30
    for first in starts:
        for seconds in (0.1, 0.5, 1.0):
            within = sum(1 for start in starts if first <= start < first + seconds)
            assert within <= (seconds + LATE_SECONDS) * 20 + 1


class Busy(BaseHTTPRequestHandler):
    """Refuses each path twice, in the two ways of saying when to come back, and notes when it was asked."""

    asked: dict[str, list[float]]

    def do_GET(self) -> None:
        times = self.asked.setdefault(self.path, [])
        times.append(time.time())
        status = (429, 503, 200)[min(len(times), 3) - 1]
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        elif status == 503:
            self.send_header("Retry-After", formatdate(time.time() + 2.0, usegmt=True))
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *words: Any) -> None:
        """Say nothing."""


@pytest.fixture
def busy() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Busy,), {"asked": {}}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def test_a_service_that_says_later_is_asked_later_and_callers_see_no_failure(amber, traces, many_clips, busy):
    clips = many_clips(5)
    address = f"http://127.0.0.1:{busy.server_address[1]}"

    async def story() -> None:
        async with amber() as engine:
            view = await engine.compute(ask("fetched", clips, server=address), 90)
            assert [r.value for r in view.results] == ["ok"] * 5
            assert (await engine.stats())["put_off_total"] == 10.0

    run(story())
    assert traces.runs("fetched_init") == 1
    for times in busy.RequestHandlerClass.asked.values():
        assert len(times) == 3
        assert times[1] - times[0] >= 1.0
        assert times[2] - times[1] >= 1.0  # a date has whole seconds


def test_a_plain_function_may_ask_for_patience_too(amber, traces, many_clips):
    async def story() -> None:
        async with amber() as engine:
            view = await engine.compute(ask("patient", many_clips(1)), 60)
            assert view.results[0].state == "ready"
            assert traces.runs("patient") == 3

    run(story())
