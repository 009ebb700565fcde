"""What an engine changes is written down before it is answered: by whom, once, and nothing secret."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.audit import Actor, AuditLine, acting, detail_text
from amber_ray.core.model.callback import Callback
from amber_ray.core.model.demands import Demand
from amber_ray.core.model.units import Asset
from amber_ray.errors import BadRequest, StoreError, Unavailable
from amber_ray.fabric.engine.engine import Engine
from tests.unit.fabric.engine.kit import SECONDS, Gate, World, ask, calling, run, until, world

CI = Actor("ci", "search", "http-1")


def lines(w: World, *names: str) -> list[tuple[str, ...]]:
    return [tuple(getattr(line, name) for name in names) for line in w.shard.lines]


def test_a_line_says_who_acted_and_is_there_before_the_answer() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            with acting(CI):
                await engine.purge(feature="label", version="1")
            await engine.purge(asset="a" * 32)
            assert lines(w, "what", "subject", "tenant", "caller", "request", "outcome") == [
                ("values.purged", "feature label version 1", "search", "ci", "http-1", "done"),
                ("values.purged", f"asset {'a' * 32}", "", "this program", "", "done"),
            ]
            gate = w.shard.gates["audited"] = Gate()
            purging = asyncio.create_task(engine.purge(feature="label"))
            await until(lambda: gate.arrived)
            assert not purging.done()
            gate.open()
            assert await purging == 0

    run(story())


def test_what_is_refused_is_no_line_and_what_may_be_done_all_the_same_is_one() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            for error, told in ((BadRequest("no"), []), (StoreError("full"), [("StoreError",)])):
                w.shard.raises["purge"] = error
                with pytest.raises(type(error)):
                    await engine.purge(feature="label")
                assert lines(w, "outcome") == told

    run(story())


def test_a_caller_that_hangs_up_takes_no_line_along() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            for method, outcome in (("purge", "interrupted"), ("audited", "done")):
                gate = w.shard.gates[method] = Gate()
                purging = asyncio.create_task(engine.purge(feature="label"))
                await until(lambda gate=gate: gate.arrived)
                purging.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await purging
                gate.open()
                await until(lambda outcome=outcome: (outcome,) in lines(w, "outcome"))
                del w.shard.gates[method]
            assert len(w.shard.lines) == 2

    run(story())


def test_lines_of_one_moment_travel_together_and_an_engine_that_closes_leaves_none_behind() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            gate = w.shard.gates["audited"] = Gate()
            first = asyncio.create_task(engine.purge(feature="label"))
            await until(lambda: gate.arrived)
            others = [asyncio.create_task(engine.purge(feature=f"f{n}")) for n in range(50)]
            await until(lambda: len(w.shard.named("purge")) == 51)
            gate.open()
            await asyncio.gather(first, *others)
            assert len(w.shard.lines) == 51
            assert len(w.shard.named("audited")) == 2

    run(story())


def test_a_shard_that_is_gone_leaves_the_line_in_this_process_log(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            w.shard.raises["audited"] = Unavailable("it is gone")
            with acting(CI):
                assert await engine.purge(feature="label") == 0

    run(story())
    assert "values.purged feature label by ci of search http-1: done" in caplog.text


def test_a_request_is_a_line_once_it_is_accepted_and_none_if_it_is_answered() -> None:
    async def story() -> None:
        async with world() as w:
            one, other = w.films(0, 0)
            engine = await w.engine()
            with acting(CI):
                running = calling(engine, ask(one), 0.0, "mine")
            await running
            with acting(Actor("another", "search")):
                await engine.compute(ask(one), 0.0, "mine")
            assert lines(w, "what", "subject", "caller") == [("request.accepted", "mine", "ci")]
            answered = calling(engine, ask(other), SECONDS, "quick")
            await until(lambda: "quick" in w.shard.records)
            w.shard.make_all()
            await answered
            assert len(w.shard.lines) == 1

    run(story())


def test_what_a_demand_purges_is_a_line_of_the_demand() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            gone = [f"{number:032x}" for number in range(25)]
            with acting(Actor("the demand 'films'", "search")):
                await engine.purge_assets(gone[:1])
                await engine.purge_assets(gone)
            w.shard.raises["purge"] = StoreError("full")
            with pytest.raises(StoreError):
                await engine.purge_assets(gone)
            assert lines(w, "what", "subject", "tenant", "caller", "outcome") == [
                ("values.purged", f"asset {gone[0]}", "search", "the demand 'films'", "done"),
                ("values.purged", "25 assets", "search", "the demand 'films'", "done"),
                ("values.purged", "25 assets", "", "this program", "StoreError"),
            ]
            assert w.shard.lines[1].detail == {"assets": gone[:20], "assets_count": 25, "values": 0}

    run(story())


CALLED = "https://hooks.example/"
CHANGING: dict[str, tuple[str, ...]] = {
    "add_asset": ("asset.added",),
    "cancel": ("request.cancelled",),
    "compute": ("request.accepted", "callback.promised"),
    "keep": ("demand.kept",),
    "purge": ("values.purged",),
    "purge_assets": ("values.purged",),
    "register": ("features.registered",),
    "replay": ("delivery.replayed",),
    "stop_keeping": ("demand.stopped",),
    "upload": ("asset.uploaded",),
}
LEAVING_NO_LINE = {
    **dict.fromkeys(("code", "registry", "by", "open", "aclose"), "of this process alone"),
    **dict.fromkeys(("asset", "audit", "deliveries", "demands", "failures", "features", "load"), "reads"),
    **dict.fromkeys(("list_assets", "list_requests", "list_values", "stats", "status", "troubles"), "reads"),
    **dict.fromkeys(
        ("events", "explain", "lineage", "media", "shown", "unstored", "values", "versions"), "reads"
    ),
    **dict.fromkeys(("note", "tend"), "how a demand stands, which its keeper finds out"),
    "notify": "makes sooner what the next look would find",
}
"""Written here by hand, so that of a new method somebody has to say whether it changes anything."""


async def _piece() -> AsyncIterator[bytes]:
    yield b"bytes"


def test_each_method_of_an_engine_that_changes_something_leaves_a_line() -> None:
    methods = {name for name in dir(Engine) if not name.startswith("_")}
    assert methods - CHANGING.keys() == LEAVING_NO_LINE.keys()
    assert CHANGING.keys().isdisjoint(LEAVING_NO_LINE)
    secrets = {"callback_hosts": ("hooks.example",), "callback_secrets": ("whsec_" + "a" * 32,)}

    @feature(version="2")
    def size(asset: Asset) -> int:
        return 2 * asset.bytes

    spec = size.__amber__.sealed()  # type: ignore[attr-defined]

    async def story() -> None:
        async with world(**secrets) as w:
            (film,) = w.films(0)
            engine = await w.engine()
            done: dict[str, Callable[[], Awaitable[object]]] = {
                "add_asset": lambda: engine.add_asset(film.uri),
                "upload": lambda: engine.upload(_piece(), "video/mp4"),
                "compute": lambda: engine.compute(ask(film, callback=Callback(CALLED)), 0.0, "mine"),
                "cancel": lambda: engine.cancel("mine"),
                "replay": lambda: engine.replay("end_mine"),
                "register": lambda: engine.register("", [spec], pickle.dumps(None)),
                "keep": lambda: engine.keep(Demand("films", ("name_of",), ("/films",))),
                "stop_keeping": lambda: engine.stop_keeping("films"),
                "purge": lambda: engine.purge(feature="label"),
                "purge_assets": lambda: engine.purge_assets(["a" * 32]),
            }
            assert done.keys() == CHANGING.keys()
            for name, change in done.items():
                w.shard.lines.clear()
                await change()
                assert tuple(one.what for one in w.shard.lines) == CHANGING[name], name

    run(story())


SECRETS = (
    "https://user:SECRET@hooks.example/",
    "https://hooks.example/SECRET?token=SECRET",
    "https://hooks.example/a#SECRET",
    "s3://KEY:SECRET@bucket/films/",
    "https://media.example/films/?X-Amz-Signature=SECRET",
    "https://user:p?SECRET@media.example/",
)


@pytest.mark.parametrize("url", SECRETS)
def test_no_line_holds_a_secret(url: str) -> None:
    async def story() -> list[AuditLine]:
        async with world(callback_hosts=("hooks.example",), callback_secrets=("whsec_" + "a" * 32,)) as w:
            (one,) = w.films(0)
            engine = await w.engine()
            with contextlib.suppress(BadRequest):
                place = url.replace("/SECRET?", "/films/?")  # of a place the path is told, of a callback none
                await engine.keep(Demand("films", ("name_of",), (place,)))
            with contextlib.suppress(BadRequest):
                await engine.keep(Demand("films", ("name_of",), ("/films",), callback=Callback(url)))
            with contextlib.suppress(BadRequest):
                await engine.compute(ask(one, callback=Callback(url)), 0.0, "mine")
            return w.shard.lines

    found = run(story())
    assert found
    for line in found:
        assert "SECRET" not in repr(line) + detail_text(line.detail), line
