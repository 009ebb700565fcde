"""An engine's copies of values and answers: kept while they are right, gone when a shard says so."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.request import Failure, Priority, RequestView
from amber_ray.core.model.stats import HITS_REPLICA, READS_MEMORY
from amber_ray.core.model.units import Asset, Clip, EachRange
from amber_ray.core.planning.plan import Target
from amber_ray.errors import Unavailable, UnknownKey
from amber_ray.fabric.engine import value_reader
from amber_ray.fabric.engine.cache import UNIT_BYTES, Places, Units
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.transport.messages import OWN, Found, FoundUnit
from tests.unit.fabric.engine.kit import SECONDS, Gate, World, ask, calling, run, until, values, world

A = Asset("a" * 32, "/a.mp4", "video/mp4", 1, 30.0)


async def made(w: World, engine: Any, id: str = "first", **more: Any) -> RequestView:
    """A request for the first film, with its value."""
    waiting = asyncio.create_task(engine.compute(ask(*w.films(0), **more), SECONDS, id))
    await until(lambda: id in w.shard.records)
    w.shard.make_all()
    view: RequestView = await waiting
    return view


def count(w: World, method: str) -> int:
    return len(w.shard.named(method))


def test_what_was_answered_once_is_answered_from_memory() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            view = await made(w, engine)
            again = await engine.compute(ask(*w.films(0)), SECONDS, "second")
            assert (values(again), again.results[0].cached) == (values(view), True)
            assert (again.done, again.total) == (1, 1)
            assert count(w, "submit") == 1
            key = view.results[0].key
            for _ in range(2):
                (loaded,) = await engine.load([key])
                assert (loaded.value, loaded.made) == (view.results[0].value, 7.0)
            assert count(w, "get") == 1

    run(story())


def test_a_replica_tells_the_shards_of_what_it_answered_from_memory() -> None:
    async def story() -> None:
        async with world(replicas=2) as w:
            first, second = await w.engine(), await w.engine()
            view = await made(w, first)
            again = await first.compute(ask(*w.films(0)), SECONDS, "second")
            assert values(again) == values(view)
            await until(lambda: "second" in w.shard.records)
            assert values(await second.status("second")) == values(view)
            # It is a hit of this replica, and the shard counts none of its own.
            answered = {s.id: s.answered for *_, some in w.shard.named("submit") for s in some}
            assert answered == {"first": False, "second": True}

    run(story())


def test_a_shard_that_starts_over_is_told_what_was_counted_since() -> None:
    """All its counters begin at nought, and these with them."""

    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            view = await made(w, engine)
            for id in "ab":
                await engine.compute(ask(*w.films(0)), SECONDS, id)
            assert (await engine.stats())[HITS_REPLICA] == 2
            for polls in (count(w, "poll") + 1, count(w, "poll") + 2):  # one says it, and is answered
                w.shard.change("nothing")
                await until(lambda polls=polls: count(w, "poll") >= polls)
            assert w.shard.named("poll")[-1][-1].totals[HITS_REPLICA] == 2
            w.shard.restart()
            await until(lambda: bool(w.shard.sessions))
            w.shard.make_all()
            w.shard.make(view.results[0].key)
            await engine.load([view.results[0].key])
            stats = await engine.stats()
            assert (stats[HITS_REPLICA], stats[READS_MEMORY]) == (0, 1)

    run(story())


def test_a_value_that_was_made_anew_is_forgotten_by_every_engine() -> None:
    async def story() -> None:
        async with world() as w:
            first, second = await w.engine(), await w.engine()
            key = (await made(w, first)).results[0].key
            for engine in (first, second):
                await engine.compute(ask(*w.films(0)), SECONDS)
                await engine.load([key])
            refreshing = asyncio.create_task(
                first.compute(ask(*w.films(0), refresh=True), SECONDS, "refresh")
            )
            await until(lambda: "refresh" in w.shard.records)
            w.shard.make(key, value="newer")
            assert values(await refreshing) == ["newer"]
            for engine in (first, second):
                await heard(w, engine)
                assert values(await engine.compute(ask(*w.films(0)), SECONDS)) == ["newer"]
                assert [v.value for v in await engine.load([key])] == ["newer"]

    run(story())


async def heard(w: World, engine: Any) -> None:
    """Until every engine has acknowledged what has happened so far."""
    await until(lambda: all(not s.updates and not s.sent for s in w.shard.sessions.values()))


def test_a_purge_is_asked_of_the_first_shard_and_heard_by_every_engine() -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            first, second = await w.engine(), await w.engine()
            key = (await made(w, first)).results[0].key
            for engine in (first, second):
                await engine.load([key])
            assert await first.purge(feature="name_of") == 1
            await heard(w, second)
            for engine in (first, second):
                with pytest.raises(UnknownKey):
                    await engine.load([key])
            assert w.shards[1].named("purge") == []

    run(story())


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [("part-1-000", "part-2-000"), ("part-2-000", "part-2-001"), ("part-2-001", OWN)],
)
@pytest.mark.parametrize("newer", [0, 1])
def test_of_what_several_shards_find_the_newest_is_read(
    first: str, second: str, newer: int, large: bool
) -> None:
    async def story() -> None:
        async with world(shards=2) as w:
            engine = await w.engine()
            for number, shard in enumerate(w.shards):
                shard.rank = second if number == newer else first
                shard.values["k" * 32] = "new" if number == newer else "old"
                if large:
                    shard.large.add("k" * 32)
            (loaded,) = await engine.load(["k" * 32])
            assert loaded.value == "new"

    run(story())


async def change_while_read(w: World, engine: Engine, key: str, gate: Gate) -> None:
    """A value changes while it is read, which waits at a gate: what was read is served and not kept."""
    old = w.shard.values[key]
    reading = asyncio.create_task(engine.load([key]))
    await until(lambda: gate.arrived)
    w.shard.change(key)
    w.shard.values[key] = "newer"
    await heard(w, engine)
    gate.open()
    assert [v.value for v in await reading] == [old]
    assert [v.value for v in await engine.load([key])] == ["newer"]


@pytest.mark.parametrize("large", [False, True])
def test_a_value_that_changed_while_it_was_read_is_served_and_not_kept(large: bool) -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            key = (await made(w, engine)).results[0].key
            if large:
                w.shard.large.add(key)
                gate = w.objects.gate = Gate()
            else:
                gate = w.shard.hold_answer("get")
            await change_while_read(w, engine, key, gate)

    run(story())


def test_an_answer_that_is_older_than_what_was_heard_is_served_and_not_kept() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            key = (await made(w, engine)).results[0].key
            w.shard.change()
            await heard(w, engine)
            await engine.purge(feature="name_of")
            w.shard.make(key, value="older")
            gate = w.shard.hold_answer("submit")
            asking = asyncio.create_task(engine.compute(ask(*w.films(0)), SECONDS, "second"))
            await until(lambda: gate.arrived)
            w.shard.change(key)
            w.shard.make(key, value="newer")
            await heard(w, engine)
            gate.open()
            assert values(await asking) == ["older"]
            assert values(await engine.compute(ask(*w.films(0)), SECONDS, "third")) == ["newer"]

    run(story())


def test_an_answer_that_comes_with_its_own_change_is_not_kept() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            polls = w.shard.hold("poll")
            asking = asyncio.create_task(engine.compute(ask(*w.films(0)), SECONDS, "first"))
            await until(lambda: "first" in w.shard.records and polls.arrived)
            w.shard.make_all()
            key = next(iter(w.shard.values))
            old = w.shard.values[key]
            w.shard.change(key)
            w.shard.make(key, value="newer")
            polls.open()
            assert values(await asking) == [old]
            assert values(await engine.compute(ask(*w.films(0)), SECONDS, "second")) == ["newer"]

    run(story())


@pytest.mark.parametrize("how", ["restart", "session given up"])
def test_nothing_is_kept_when_a_shard_starts_over(how: str) -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            key = (await made(w, engine)).results[0].key
            await engine.load([key])
            w.shard.values[key] = "newer"  # and nobody was told
            greetings = count(w, "hello")
            if how == "restart":
                w.shard.restart()
                await until(lambda: count(w, "hello") > greetings)
            else:
                w.shard.give_up_sessions()
            await until(lambda: w.shard.sessions)
            await until(lambda: count(w, "poll") > 2)
            async with asyncio.timeout(SECONDS):
                while [v.value for v in await engine.load([key])] != ["newer"]:
                    await asyncio.sleep(0.01)
            assert values(await engine.compute(ask(*w.films(0)), SECONDS)) == ["newer"]

    run(story())


def test_an_answer_of_an_incarnation_that_is_gone_is_not_kept() -> None:
    """It counted more changes than the new one has seen, and is old all the same."""

    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            key = (await made(w, engine)).results[0].key
            old = w.shard.values[key]
            for _ in range(5):
                w.shard.change()
            await heard(w, engine)
            gate = w.shard.hold_answer("get")
            reading = asyncio.create_task(engine.load([key]))
            await until(lambda: gate.arrived)
            greetings = count(w, "hello")
            w.shard.give_up_sessions()
            w.shard.restart(breaking=False)
            w.shard.values[key] = "newer"
            await until(lambda: w.shard.sessions)
            await heard(w, engine)
            assert count(w, "hello") == greetings
            gate.open()
            assert [v.value for v in await reading] == [old]
            assert [v.value for v in await engine.load([key])] == ["newer"]

    run(story())


def test_one_value_that_is_lost_takes_no_other_along() -> None:
    async def story() -> None:
        async with world() as w:
            one, two = w.films(0, 0)
            engine = await w.engine()
            waiting = asyncio.create_task(engine.compute(ask(one, two), SECONDS, "mine"))
            await until(lambda: "mine" in w.shard.records)
            w.shard.make_all()
            keys = [r.key for r in (await waiting).results]
            w.shard.large.update(keys)
            w.objects.lost.add(keys[0])
            with pytest.raises(Unavailable, match="was lost with the node"):
                await engine.load(keys)
            assert [keys for (keys,) in w.shard.named("lost")] == [[keys[0]]]
            assert [v.value for v in await engine.load(keys[1:])] == [two.uri]

    run(story())


async def batches_of(engine: Any, keys: Sequence[str]) -> list[list[Any]]:
    return [list(batch) async for batch in engine.values(keys)]


def test_many_values_are_read_by_few_calls() -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            keys = [f"{n:032x}" for n in range(3000)]
            w.shard.values.update((key, key) for key in keys)
            before = count(w, "get")
            found = await batches_of(engine, [*keys, *keys])
            assert [one.value for batch in found for one in batch] == keys
            assert count(w, "get") - before == len(found) == 7  # 8, 32, 128, 512, and 1024 at most

    run(story())


def test_a_batch_is_as_long_as_its_values_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_reader, "BATCH_BYTES", 1000)

    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            keys = [f"{n:032x}" for n in range(60)]
            w.shard.values.update((key, "x" * (10 if n < 40 else 500)) for n, key in enumerate(keys))
            w.shard.large.update(keys)
            found = await batches_of(engine, keys)
            assert [len(batch) for batch in found] == [8, 32, 20]
            assert [len(batch) for batch in await batches_of(engine, keys[40:])] == [8, *[2] * 6]

    run(story())


def test_values_whose_sizes_were_answered_are_read_by_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with world() as w:
            engine = await w.engine()
            films = w.films(*[0] * 30)
            waiting = asyncio.create_task(engine.compute(ask(*films), SECONDS, "first"))
            await until(lambda: "first" in w.shard.records)
            keys = [target.key for target in w.shard.records["first"].targets]
            w.shard.large.update(keys)
            w.shard.make_all()
            await waiting
            assert [len(batch) for batch in await batches_of(engine, keys)] == [30]
            engine._cache.clear()
            monkeypatch.setattr(value_reader, "BATCH_BYTES", 900)  # of some thirty bytes each
            found = [len(batch) for batch in await batches_of(engine, keys)]
            assert 8 < found[0] < 30
            unknown = [f"{n:032x}" for n in range(20)]
            w.shard.values.update((key, key) for key in unknown)
            batches = await batches_of(engine, [keys[0], *unknown])
            assert len(batches[0]) == 8

    run(story())


def test_a_shard_that_knows_why_there_is_no_value_is_believed() -> None:
    """A part that can't be read now may be newer than what another shard has, so neither is told."""

    async def story() -> None:
        async with world(shards=2) as w:
            engine = await w.engine()
            one, two = w.shards[:2]
            keys = [f"{n:032x}" for n in range(4)]
            late = {key: Failure("system", "Unavailable", "later", "name_of", key, "", 503) for key in keys}
            torn = Failure("input", "MediaError", "it is torn", "frames", "below", "", 422)
            one.values[keys[0]], one.rank = "older", "00000001"
            two.absent = {keys[0]: late[keys[0]], keys[1]: late[keys[1]], keys[2]: torn}
            two.values[keys[3]] = "there"
            [batch] = await batches_of(engine, keys)
            assert [getattr(a, "failure", None) for a in batch[:3]] == [late[keys[0]], late[keys[1]], torn]
            assert batch[3].value == "there"
            with pytest.raises(Unavailable, match="later"):
                await engine.load([keys[3], keys[0]])
            with pytest.raises(UnknownKey):
                await engine.load([keys[2]])
            one.rank = OWN  # in its owner's memory: nothing is newer
            assert [v.value for v in await engine.load([keys[0]])] == ["older"]

    run(story())


# --- units that a feature found


@dataclass
class Span:
    start: float
    end: float


@feature(version="1")
def cuts(asset: Asset, threshold: float = 0.5) -> list[Span]:
    """What divides it."""
    return []


@feature(version="1", per="cuts")
def light(clip: Clip, salt: int = 0) -> float:
    """Of each part."""
    return 0.0


FOUND = Registry([cuts.__amber__, light.__amber__])  # type: ignore[attr-defined]


class Films:
    """Asks for `light` of a film of which the shard says what was found."""

    def __init__(self, w: World, engine: Any) -> None:
        self.w = w
        self.engine = engine
        self.film = w.films(0)[0]
        self._ids = (f"r{i}" for i in itertools.count())

    async def ask(self, *units: str, **more: Any) -> list[tuple[str, bool]]:
        """The key of each result, and whether it was there; the shard finds `units` if it is asked at all."""
        id, request = next(self._ids), ask(self.film, features="light", **more)
        waiting = asyncio.create_task(self.engine.compute(request, SECONDS, id))
        await until(lambda: id in self.w.shard.records or waiting.done())
        if not waiting.done():
            (target,) = self.w.shard.records[id].targets
            self.w.shard.found[target.key] = tuple(
                FoundUnit(key, i * 1_000_000, 500_000, True) for i, key in enumerate(units)
            )
            self.w.shard.make(*units)
        view: RequestView = await waiting
        assert view.done == view.total == len(view.results)
        return [(result.key, result.cached) for result in view.results]

    @property
    def finder(self) -> str:
        """The key of what was found."""
        (part,) = self.w.shard.plans.values()
        return next(step.key for step in part.steps.values() if step.recipe.feature == "cuts")


def test_units_that_were_found_once_are_answered_from_memory_and_count_as_hits() -> None:
    async def story() -> None:
        async with world() as w:
            films = Films(w, await w.engine(FOUND))
            assert await films.ask("u", "v") == [("u", False), ("v", False)]
            for again in (1, 2):
                assert await films.ask() == [("u", True), ("v", True)]
                assert (await films.engine.stats())[HITS_REPLICA] == 2 * again
            assert count(w, "submit") == 1
            ended = [event async for event in films.engine.events("r1")]
            assert [e.result.key for e in ended if e.result is not None] == ["u", "v"]

    run(story())


def test_where_nothing_was_found_that_is_remembered_too() -> None:
    async def story() -> None:
        async with world() as w:
            films = Films(w, await w.engine(FOUND))
            first = await films.ask()
            assert len(first) == 1
            assert await films.ask() == first
            assert count(w, "submit") == 1

    run(story())


def test_another_threshold_or_range_is_another_question() -> None:
    async def story() -> None:
        async with world() as w:
            films = Films(w, await w.engine(FOUND))
            asked: list[dict[str, Any]] = [{}, {"params": {"cuts.threshold": 0.25}}, {"range": (0.0, 2.0)}]
            for i, more in enumerate(asked):
                assert await films.ask(f"u{i}", "both", **more) == [(f"u{i}", False), ("both", False)]
            for i, more in enumerate(asked):
                assert await films.ask(**more) == [(f"u{i}", True), ("both", True)]
            assert count(w, "submit") == len(asked)

    run(story())


def test_units_are_forgotten_with_the_value_of_their_finder() -> None:
    async def story() -> None:
        async with world() as w:
            films = Films(w, await w.engine(FOUND))
            await films.ask("u", "v")
            w.shard.change(films.finder)
            w.shard.found.clear()
            await heard(w, films.engine)
            assert await films.ask("u", "w") == [("u", False), ("w", False)]
            assert count(w, "submit") == 2

    run(story())


def test_a_unit_that_changed_is_asked_for_again_and_so_is_one_that_is_to_be_made_anew() -> None:
    async def story() -> None:
        async with world() as w:
            films = Films(w, await w.engine(FOUND))
            await films.ask("u", "v")
            w.shard.change("v")
            await heard(w, films.engine)
            await films.ask("u", "v")
            assert count(w, "submit") == 2
            await films.ask("u", "v", refresh=True)
            assert count(w, "submit") == 3

    run(story())


def test_a_part_that_is_over_stays_so_where_it_is_made_anew_for_the_journal() -> None:
    """Its shard dies before it is told to journal it, and finds other units then: nobody waits for those."""

    async def story() -> None:
        async with world(shards=2) as w:
            engine = await w.engine(FOUND)
            caller = calling(engine, ask(*w.films(0, 1), features="light"), 1.0, "mine")
            await until(lambda: all("mine" in shard.records for shard in w.shards))
            units = ("u", "v"), ("other",)
            for shard, keys in zip(w.shards, units, strict=True):
                (target,) = shard.records["mine"].targets
                shard.found[target.key] = tuple(FoundUnit(key, 0, 500_000, True) for key in keys)
            w.shards[0].make("u", "v")
            await heard(w, engine)
            w.shards[0].restart()
            w.shards[0].found = {key: (FoundUnit("new", 0, 1, True),) for key in w.shards[0].found}
            assert (await caller).state == "running"
            w.shards[0].make()  # the unit is told, and has no value yet
            await heard(w, engine)
            w.shards[1].make("other")
            view = await engine.status("mine", SECONDS)
            assert [(r.key, r.state) for r in view.results] == [
                (key, "ready") for keys in units for key in keys
            ]

    run(story())


def test_units_of_many_films_are_bounded_and_the_oldest_go_first() -> None:
    each = [Target("light", EachRange(a, "cuts", f"K{i % 2}", 1), f"S{i}") for i, a in enumerate([A] * 5)]
    units = tuple(FoundUnit(f"u{i}", i, 1, True) for i in range(3))
    some = Units(4 * 4 * UNIT_BYTES)
    for one in each[:4]:
        some.put(one, units)
    assert [t.key for t in some.get(each[0]) or ()] == ["u0", "u1", "u2"]
    assert some.get(each[0]) is some.get(each[0])
    some.put(each[4], units)
    assert [some.get(one) is not None for one in each] == [True, False, True, True, True]
    some.put(each[0], units[:1])
    assert some.expansion(each[0]) == ("S0", units[:1])
    some.forget(["K0"])
    assert [some.get(one) is not None for one in each] == [False, False, False, True, False]
    some.clear()
    assert some.keys("S3") == []


# --- places that come with answers


async def made_large(w: World, engine: Any, *, at_once: bool) -> str:
    """The key of a large value that a caller has been answered: at once, or after it was made."""
    if not at_once:
        task = asyncio.create_task(engine.compute(ask(*w.films(0)), SECONDS, "first"))
        await until(lambda: "first" in w.shard.records)
        w.shard.large.update(t.key for t in w.shard.records["first"].targets)
        w.shard.make_all()
        return str((await task).results[0].key)
    key = str((await made(w, await w.engine(), "before")).results[0].key)
    w.shard.large.add(key)
    await engine.compute(ask(*w.films(0)), SECONDS, "first")
    return key


@pytest.mark.parametrize("at_once", [True, False])
def test_a_large_value_is_read_where_its_answer_told_that_it_is(at_once: bool) -> None:
    async def story() -> None:
        async with world(reading=True, shards=2) as w:
            engine = await w.engine()
            key = await made_large(w, engine, at_once=at_once)
            (loaded,) = await engine.load([key])
            assert (loaded.value, loaded.made) == (w.shard.values[key], 7.0)
            assert (count(w, "get"), (await engine.stats())[READS_MEMORY]) == (0, 1)
            (again,) = await engine.load([key])  # a copy by now
            assert (again.value, count(w, "get")) == (loaded.value, 0)

    run(story())


@pytest.mark.parametrize("at_once", [True, False])
def test_a_place_is_called_back_with_its_value(at_once: bool) -> None:
    async def story() -> None:
        async with world(reading=True) as w:
            engine = await w.engine()
            key = await made_large(w, engine, at_once=at_once)
            w.shard.change(key)
            w.shard.make(key, value="newer")
            await heard(w, engine)
            assert [v.value for v in await engine.load([key])] == ["newer"]
            assert count(w, "get") == 1

    run(story())


def test_places_of_a_shard_that_starts_over_are_forgotten() -> None:
    async def story() -> None:
        async with world(reading=True) as w:
            engine = await w.engine()
            key = await made_large(w, engine, at_once=False)
            w.shard.restart()
            await until(lambda: bool(w.shard.sessions))
            w.shard.values[key] = "newer"
            assert [v.value for v in await engine.load([key])] == ["newer"]

    run(story())


def test_a_place_whose_value_changed_while_it_was_read_is_served_and_not_kept() -> None:
    async def story() -> None:
        async with world(reading=True) as w:
            engine = await w.engine()
            key = await made_large(w, engine, at_once=False)
            gate = w.objects.gate = Gate()
            await change_while_read(w, engine, key, gate)

    run(story())


def test_what_is_lost_from_its_place_is_told_to_its_shard_and_asked_for_again() -> None:
    async def story() -> None:
        async with world(reading=True) as w:
            engine = await w.engine()
            key = await made_large(w, engine, at_once=False)
            w.objects.lost.add(key)
            with pytest.raises(Unavailable, match="was lost with the node"):
                await engine.load([key])
            assert (w.shard.named("lost"), count(w, "get")) == ([([key],)], 1)

    run(story())


def test_who_only_tells_of_values_is_told_no_places() -> None:
    async def story() -> None:
        async with world(reading=False) as w:
            key = await made_large(w, engine := await w.engine(), at_once=False)
            assert not w.shard.records["first"].submission.reading
            await engine.load([key])
            assert count(w, "get") == 1
        async with world(reading=True) as w:
            await made(w, await w.engine(), priority=Priority.BACKFILL)
            assert not w.shard.records["first"].submission.reading

    run(story())


def place(key: str, size: int) -> Found:
    return Found(key, "f", "1", ref=[key], rank=OWN, size=size)


def test_few_places_are_kept_and_not_for_long() -> None:
    places = Places(100)
    for at, key in enumerate("abc"):
        places.put(place(key, 40), 0, float(at))
    assert [found.key for _, found in places.take("abc")] == ["b", "c"]  # the oldest gave way
    assert places.take("abc") == []
    places.put(place("d", 40), 1, 5.0)
    places.put(place("d", 60), 2, 6.0)  # told again: it counts once
    places.put(place("e", 40), 0, 7.0)
    places.sweep(7.0)
    assert [(shard, found.key) for shard, found in places.take("de")] == [(0, "e")]
    places.put(place("f", 100), 0, 8.0)
    places.clear()
    assert places.take("f") == []
