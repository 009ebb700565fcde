"""The engine on a real Ray: what the foundation must show, without HTTP."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from amber_ray.core.model.request import MISSING, AssetRef, ComputeRequest
from amber_ray.core.planning.plan import Planner
from amber_ray.errors import BadParameter, BadRequest, UnknownFeature, UnknownParameter, UnknownRequest
from amber_ray.fabric.transport.messages import PlanPart, Submission
from tests.values import same

pytestmark = pytest.mark.timeout(180)


def ask(features: str, *uris: str, **more: Any) -> ComputeRequest:
    return ComputeRequest(tuple(features.split(",")), tuple(AssetRef(uri=u) for u in uris), **more)


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 150))


async def value(engine: Any, request: ComputeRequest) -> Any:
    """The value of a request for one target."""
    view = await engine.compute(request, 60)
    assert view.state == "done", view
    (result,) = view.results
    return result.value if result.value is not MISSING else (await engine.load([result.key]))[0].value


def test_a_leaf_computes_its_ancestors_once_and_asking_again_computes_nothing(amber, traces, clip):
    async def story():
        async with amber() as engine:
            first = await engine.compute(ask("diamond", clip), 60)
            counts = {n: traces.runs(n) for n in ("root", "left", "right", "diamond")}
            segments = traces.runs("left")
            again = await engine.compute(ask("diamond", clip), 60)
            assert first.results[0].value == again.results[0].value
            assert (first.results[0].cached, again.results[0].cached) == (False, True)
            # `root` is never stored, yet each segment's was made once for both of its users.
            assert counts == {"root": segments, "left": segments, "right": segments, "diamond": 1}
            assert {n: traces.runs(n) for n in counts} == counts

    run(story())


SHARING = """
import numpy as np
from jaxtyping import Float32
from amber_ray import Asset, feature

@feature(version="1")
def vector(asset: Asset) -> Float32[np.ndarray, " n"]:
    return np.ones(100_000, np.float32)

@feature(version="1")
def spoils(vector: np.ndarray) -> float:
    vector /= vector.sum()
    return float(vector.max())

@feature(version="1")
def total(vector: np.ndarray) -> float:
    return float(vector.sum())
"""


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_writes_into_its_input_fails_alone(amber, clip, tmp_path, fused):
    path = tmp_path / "sharing.py"
    path.write_text(SHARING)

    async def story():
        async with amber(features=(str(path),)) as engine:
            if not fused:
                await engine.compute(ask("vector", clip), 60)
            view = await engine.compute(ask("spoils,total,vector", clip), 60)
            spoiled, total, vector = view.results
            assert spoiled.failure.type == "FeatureError"
            assert "feature 'spoils' wrote into an array that is read-only" in spoiled.failure.message
            assert "vector = vector.copy()" in spoiled.failure.message
            assert "vector /= vector.sum()" in spoiled.failure.traceback
            assert total.value == 100_000.0
            await stored(engine)
        async with amber(features=(str(path),)) as engine:
            (found,) = await engine.load([vector.key])
            assert float(found.value.sum()) == 100_000.0

    run(story())


NAMING = """
from amber_ray import Asset, feature

@feature(version="1")
def spoken(asset: Asset) -> str:
    raise ValueError(f"{asset.uri} has no words; {asset.uri.rpartition('/')[2]!r} is silent")

@feature(version="1")
def words(spoken: str) -> int:
    return len(spoken)
"""


def test_a_failure_names_the_file_of_whoever_is_told_it(amber, clip, tmp_path):
    (tmp_path / "naming.py").write_text(NAMING)
    mine, yours = (shutil.copy(clip, tmp_path / name) for name in ("mine.mp4", "yours.mp4"))

    async def story():
        async with amber(features=(str(tmp_path / "naming.py"),), media_roots=(str(tmp_path),)) as engine:
            told = []
            for uri, tenant in ((mine, "one"), (yours, "two"), (mine, "one")):
                view = await engine.compute(ask("words,spoken", str(uri), tenant=tenant), 60)
                told.append([r.failure for r in view.results])
            for (uri, other), failures in zip(
                ((mine, yours), (yours, mine), (mine, yours)), told, strict=True
            ):
                for failure in failures:
                    assert f"{uri} has no words; {Path(uri).name!r} is silent" in failure.message
                    assert Path(uri).name in failure.traceback
                    assert Path(other).name not in failure.message + failure.traceback
            # Who asks by the key alone has no name for it.
            [rows] = [batch async for batch in engine.values([told[0][1].key])]
            assert "the media has no words; the media is silent" in rows[0].failure.message

    run(story())


def test_a_second_leaf_joins_what_is_in_flight(amber, traces, clip):
    async def story():
        async with amber() as engine:
            one = asyncio.create_task(engine.compute(ask("first_leaf", clip), 60))
            await traces.until(lambda: traces.runs("slow_left") > 0)
            two = asyncio.create_task(engine.compute(ask("second_leaf", clip), 60))
            while (await engine.stats())["requests_running"] < 2:
                await asyncio.sleep(0.01)
            traces.open("slow_left")
            views = await asyncio.gather(one, two)
            segments = views[1].results[0].value
            assert [v.state for v in views] == ["done", "done"]
            assert traces.runs("slow_left") == segments

    run(story())


def test_a_thousand_identical_requests_are_one_computation(amber, traces, clip):
    async def story():
        async with amber() as engine:
            waiting = [asyncio.create_task(engine.compute(ask("gated", clip), 60)) for _ in range(1000)]
            await traces.until(lambda: traces.runs("gated") > 0)
            traces.open("gated")
            views = await asyncio.gather(*waiting)
            assert traces.runs("gated") == 1
            assert {v.results[0].value for v in views} == {os.path.getsize(clip)}

    run(story())


def test_a_stored_leaf_is_answered_without_its_ancestors(amber, traces, clip):
    async def story():
        async with amber() as engine:
            await engine.compute(ask("diamond", clip), 60)
            await stored(engine)
            assert await engine.purge(feature="left") > 0
            assert await engine.purge(feature="right") > 0
        traces.clear()
        async with amber() as engine:
            view = await engine.compute(ask("diamond", clip), 60)
            assert view.results[0].cached
            assert traces.runs("left") == traces.runs("right") == traces.runs("root") == 0
            states = {s.feature: s.state for s in await engine.explain(ask("diamond", clip))}
            assert states["left"] == "missing"
            assert states["diamond"] == "kept"

    run(story())


async def stored(engine: Any) -> None:
    """Until all that should be in Parquet is."""
    async with asyncio.timeout(30):
        while True:
            stats = await engine.stats()
            if not (stats["keys_hot"] or stats["unspilled_bytes"] or stats["spilling_keys"]):
                return
            await asyncio.sleep(0.02)


def test_names_and_touches_do_not_matter_and_content_does(amber, traces, many_clips, tmp_path):
    (original,) = many_clips(1)

    async def story():
        async with amber() as engine:
            before = await value(engine, ask("size", original))
            copy = tmp_path / "another name.mp4"
            shutil.copy(original, copy)
            os.utime(original)
            assert await value(engine, ask("size", str(copy))) == before
            assert await value(engine, ask("size", original)) == before
            assert traces.runs("size") == 1
            with open(original, "ab") as file:
                file.write((12).to_bytes(4, "big") + b"free" + b"more")
            assert await value(engine, ask("size", original)) == before + 12
            assert await value(engine, ask("size", str(copy))) == before
            assert traces.runs("size") == 2

    run(story())


def test_a_range_runs_only_the_segments_it_touches(amber, traces, clip):
    async def story():
        async with amber() as engine:
            view = await engine.compute(ask("big", clip, range=(12.0, 20.0)), 60)
            assert [(r.unit.start, r.state) for r in view.results] == [(10.0, "ready")]
            assert traces.lines("big") == ["1"]

    run(story())


def test_a_budget_below_the_values_answers_everything_and_holds(amber, traces, clip):
    async def story():
        async with amber(memory_bytes=3 << 20, replica_cache_bytes=0) as engine:
            request = ask("big", clip, params={"big.megabytes": 2})
            views = [await engine.compute(request, 60)]
            await stored(engine)
            assert (await engine.stats())["hot_bytes"] <= 3 << 20
            runs = traces.runs("big")
            views.append(await engine.compute(request, 60))
            for view in views:
                values = await engine.load([r.key for r in view.results])
                for i, found in enumerate(values):
                    assert np.array_equal(found.value, np.full(2 * 262_144, i, np.float32))
            assert traces.runs("big") == runs

    run(story())


def test_odd_values_come_back_from_parquet_bit_for_bit(amber, clip):
    async def story():
        async with amber() as engine:
            hot = await value(engine, ask("odd", clip))
        async with amber() as engine:
            cold = await value(engine, ask("odd", clip))
        first, second = (
            [(type(o).__name__, o.name, o.scores.tobytes(), o.scores.shape, o.maybe) for o in odd]
            for odd in (hot, cold)
        )
        assert first == second

    run(story())


def test_class_features_load_their_model_once_and_take_batches(amber, traces, clip):
    async def story():
        async with amber() as engine:
            view = await engine.compute(ask("doubler", clip), 60)
            assert [r.value for r in view.results][:3] == [90, 110, 130]
            assert traces.runs("doubler_init") <= 2  # at most one per CPU
            other = await engine.compute(ask("doubler", clip, params={"doubler.factor": 3}), 60)
            assert other.results[0].value == 135

    run(story())


def test_collections_take_any_order_and_one_bad_asset_fails_alone(amber, traces, many_clips, tmp_path):
    clips = many_clips(5)

    async def story():
        async with amber() as engine:
            one = await value(engine, ask("together", *clips))
            two = await value(engine, ask("together", *reversed(clips)))
            assert one == two
            assert traces.runs("together") == 1
            assert traces.runs("size") == 5
            view = await engine.compute(ask("size", *clips, str(tmp_path / "no.mp4")), 60)
            assert [r.state for r in view.results] == ["ready"] * 5
            (failed,) = view.failed_assets
            assert failed.failure.type == "MediaNotFound"
            assert view.state == "done"

    run(story())


@pytest.mark.parametrize(
    ("feature", "type", "words"),
    [
        ("raises", "FeatureError", "the moon is full"),
        ("wrong_type", "FeatureError", "must be int, not str"),
        ("dies", "Quarantined", "worker process died"),
        ("hangs", "StepTimeout", "timeout of 1 s"),
    ],
)
def test_failures_name_the_step_and_leave_the_service_unharmed(amber, traces, clip, feature, type, words):
    async def story():
        async with amber() as engine:
            view = await engine.compute(ask(feature, clip), 60)
            failure = view.results[0].failure
            assert (view.state, failure.type, failure.step) == ("failed", type, feature)
            assert words in failure.message
            assert await value(engine, ask("size", clip)) == os.path.getsize(clip)

    run(story())


def test_a_blocked_step_names_the_one_that_failed(amber, clip):
    async def story():
        async with amber() as engine:
            view = await engine.compute(ask("after_raises", clip), 60)
            assert view.results[0].failure.step == "raises"
            assert "the moon is full" in view.results[0].failure.traceback

    run(story())


def test_what_can_not_be_planned_is_refused_in_a_sentence(amber, clip):
    async def story():
        async with amber() as engine:
            for request, error, words in [
                (ask("sise", clip), UnknownFeature, "did you mean 'size'"),
                (ask("size", clip, params={"size.x": 1}), UnknownParameter, "unknown parameter 'size.x'"),
                (ask("big", clip, params={"big.megabytes": "2"}), BadParameter, "'big.megabytes'"),
                (ask("big", clip, range=(20.0, 10.0)), BadRequest, "range must be"),
                (ask("big", clip, range=(100.0, 200.0)), BadRequest, "ends at 30"),
            ]:
                with pytest.raises(error, match=words):
                    await engine.compute(request, 5)
            with pytest.raises(UnknownRequest):
                await engine.status("nothing")

    run(story())


def test_gpus_are_counted_and_their_absence_is_told_at_once(amber, clip, ray_cluster):
    async def story():
        async with amber() as engine:
            assert await value(engine, ask("needs_gpu", clip)) == 1
            view = await engine.compute(ask("needs_gpus", clip), 10)
            assert view.results[0].failure.type == "MissingResource"
            assert "8 GPUs" in view.results[0].failure.message

    run(story())


def test_half_a_gpu_each_runs_four_at_once_and_no_more(amber, traces, many_clips):
    clips = many_clips(8)

    async def story():
        async with amber() as engine:
            view = asyncio.create_task(engine.compute(ask("half_gpu", *clips), 90))
            await traces.until(lambda: traces.runs("half_gpu") >= 4, 60)
            traces.open("half_gpu")
            assert (await view).state == "done"
            peak = max(int(line) for line in traces.lines("half_gpu_peak"))
            assert peak == 4

    run(story())


def test_a_reader_of_the_store_tells_what_a_fresh_engine_tells(amber, traces, clip):
    from amber_ray.fabric.adapter import machine
    from amber_ray.fabric.adapter.reading import StoreReader

    stored = ask("diamond,left,size,odd,big", clip)
    asked = [
        stored,
        ask("diamond,size", clip, refresh=True),
        ask("left", clip, range=(5.0, 12.0)),
        ask("diamond_too,half_gpu,gated,needs_gpus", clip),
    ]

    def told(view):
        return [(r.feature, r.key, r.unit, r.state, r.seconds, r.cached) for r in view.results]

    async def story():
        async with amber() as engine:
            assert (await engine.compute(stored, 60)).state == "done"
        async with amber() as engine:
            # The reader reads a store that is another's.
            catalogue = machine.catalogue(engine.settings)
            catalogue.hold()
            reader = StoreReader(engine.settings.replace(num_gpus=2), engine.registry, catalogue)
            await reader.open()
            try:
                for request in asked:  # no machine has the GPUs that `needs_gpus` needs
                    assert await reader.ask(lambda e, r=request: e.explain(r)) == await engine.explain(
                        request
                    )
                read = await reader.ask(lambda e: e.compute(stored, 60))
                view = await engine.compute(stored, 60)
                assert told(read) == told(view)
                keys = [r.key for r in view.results]
                for mine, its in zip(
                    await reader.ask(lambda e: e.load(keys)), await engine.load(keys), strict=True
                ):
                    assert same(mine.value, its.value)
                    assert (mine.key, mine.type, mine.made) == (its.key, its.type, its.made)
                assert await reader.ask(lambda e: e.compute(asked[3], 60)) is None
                assert not await reader.current()
            finally:
                await reader.aclose()

    run(story())


def test_an_accepted_request_outlives_its_caller_and_any_engine_can_answer_for_it(
    amber, traces, clip, monkeypatch
):
    from amber_ray.fabric.adapter.engine_start import start_engine
    from amber_ray.fabric.transport import registry_blob

    async def story():
        async with amber() as engine:
            view = await engine.compute(ask("gated", clip), 0)
            assert view.state == "running"
            await traces.until(lambda: traces.runs("gated") > 0)
            # As a replica is given them: the features of another engine, which are not looked for again.
            monkeypatch.setattr(registry_blob, "build", lambda *_: pytest.fail("it looks for features"))
            other = await start_engine(engine.settings, code=engine.code)
            try:
                assert other.registry.digest == engine.registry.digest
                waiting = asyncio.create_task(other.status(view.id, 60))
                events = asyncio.create_task(collect(other, view.id))
                await asyncio.sleep(0)
                traces.open("gated")
                assert (await waiting).results[0].value == os.path.getsize(clip)
                assert (await events)[-1] == "done"
            finally:
                await other.aclose()

    run(story())


async def collect(engine: Any, id: str) -> list[str]:
    return [event.kind async for event in engine.events(id)]


def test_cancelling_stops_unshared_work_and_not_shared_work(amber, traces, clip):
    async def story():
        async with amber() as engine:
            one = await engine.compute(ask("gated", clip), 0)
            two = await engine.compute(ask("gated", clip), 0)
            await traces.until(lambda: traces.runs("gated") > 0)
            assert (await engine.cancel(one.id)).state == "cancelled"
            assert (await engine.status(two.id)).state == "running"
            await engine.cancel(two.id)
            async with asyncio.timeout(30):
                while (await engine.stats())["tasks_running"]:
                    await asyncio.sleep(0.02)

    run(story())


def test_the_cache_actor_killed_in_mid_work_loses_no_caller_and_no_stored_value(amber, traces, many_clips):
    clips = many_clips(200)

    async def story():
        async with amber() as engine:
            await engine.compute(ask("size", *clips), 60)
            await stored(engine)
            sizes = traces.runs("size")
            waiting = [asyncio.create_task(engine.compute(ask("gated,size", c), 90)) for c in clips]
            await traces.until(lambda: traces.runs("gated") >= 2)
            kill_actor(engine.settings.namespace)
            traces.open("gated")
            views = await asyncio.gather(*waiting)
            assert {r.state for v in views for r in v.results} == {"ready"}
            assert traces.runs("size") == sizes

    run(story())


def kill_actor(namespace: str) -> None:
    os.kill(pid_of_actor(namespace), signal.SIGKILL)


def pid_of_actor(namespace: str) -> int:
    actor = ray.get_actor("cache-0", namespace=namespace)
    pid: int = ray.get(actor.pid.remote(), timeout=30)
    return pid


def test_small_stored_values_are_read_by_whoever_needs_them_and_never_after_a_purge(
    amber, traces, many_clips, monkeypatch
):
    """Once its cache actor has told which values a part has, an engine reads them while that is stopped."""
    from amber_ray.fabric.adapter.engine_start import start_engine
    from amber_ray.fabric.engine import near

    # On a busy machine a read may take longer, and the stopped actor would be asked after all.
    monkeypatch.setattr(near, "READ_SECONDS", 100.0)
    clips = many_clips(8)

    async def story():
        async with amber(spill_seconds=600.0) as engine:  # all in one part, however long they take
            await engine.compute(ask("size", *clips), 60)
        async with amber() as engine:  # nothing is in memory any more
            other = await start_engine(engine.settings)
            for clip in clips[:2]:
                await value(engine, ask("size", clip))
            await engine.stats()  # a call after the one that asked about the part
            await value(engine, ask("size", clips[2]))  # the first one that it reads itself
            pid = pid_of_actor(engine.settings.namespace)
            os.kill(pid, signal.SIGSTOP)
            try:
                for clip in clips[3:6]:
                    assert await value(engine, ask("size", clip)) == os.path.getsize(clip)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert traces.runs("size") == len(clips)
            assert await other.purge(feature="size") == len(clips)
            async with asyncio.timeout(12):
                while traces.runs("size") == len(clips):  # until this engine has heard of it, too
                    await value(engine, ask("size", clips[0]))
            for clip in clips:
                assert await value(engine, ask("size", clip)) == os.path.getsize(clip)
            assert traces.runs("size") == 2 * len(clips)
            await other.aclose()

    run(story())


@pytest.mark.parametrize("shards", [2, 3])
def test_several_shards_give_the_same_answers(amber, traces, many_clips, shards):
    clips = many_clips(6)

    async def story():
        async with amber(shards=shards, builtins=False) as engine:
            assert await value(engine, ask("together", *clips)) == sum(map(os.path.getsize, clips)) + 6
            assert traces.runs("size") == 6
            view = await engine.compute(ask("size", *clips), 60)
            assert [r.value for r in view.results] == [os.path.getsize(c) for c in clips]
            assert traces.runs("size") == 6

    run(story())


def test_the_store_is_plain_parquet(amber, clip, tmp_path: Path):
    import duckdb

    async def story():
        async with amber() as engine:
            await engine.compute(ask("size", clip), 60)
            await stored(engine)

    run(story())
    parts = tmp_path / "store" / "values" / "size" / "*" / "*.parquet"
    rows = duckdb.sql(f"select value, device from '{parts}'").fetchall()
    assert rows == [(os.path.getsize(clip), "cpu")]


def test_a_fault_of_the_ledger_starts_the_actor_over_and_callers_get_their_answers(amber, traces, clip):
    async def break_the_ledger(engine: Any, actor: Any) -> None:
        """Bring it a plan that no planner makes: a step that needs one which is not there."""
        planner = Planner(engine.registry, features=["wrong_type"], params={}, segment_seconds=10.0)
        planner.add_asset(await engine.add_asset(clip))
        plan = planner.plan()
        steps = {k: dataclasses.replace(s, needs=("no such step",)) for k, s in plan.steps.items()}
        submission = Submission("broken", "p", 2, "default", None, False, True, 0.0)
        with pytest.raises(ray.exceptions.RayActorError):
            await actor.submit.remote("another", {"p": PlanPart(steps, plan.targets)}, [submission])

    async def story():
        async with amber() as engine:
            await engine.compute(ask("size", clip), 60)
            await stored(engine)
            actor = ray.get_actor("cache-0", namespace=engine.settings.namespace)
            before = await actor.pid.remote()
            waiting = asyncio.create_task(engine.compute(ask("gated,size", clip), 60))
            await traces.until(lambda: traces.runs("gated") > 0)
            await break_the_ledger(engine, actor)
            traces.open("gated")
            assert {r.state for r in (await waiting).results} == {"ready"}
            again = ray.get_actor("cache-0", namespace=engine.settings.namespace)
            assert await again.pid.remote() != before
            assert traces.runs("size") == 1

    run(story())
