"""An engine reads small stored values itself: when it may, and that it never tells what is not true any more.

The parts are real ones on a disk, and so is the code that reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from amber_ray.core.model.request import Priority, RequestView
from amber_ray.core.model.stats import HITS_REPLICA, HITS_STORE, READS_STORE
from amber_ray.core.values import annotations as vt
from amber_ray.errors import StoreError
from amber_ray.fabric.engine import near
from amber_ray.fabric.engine.engine import Engine
from amber_ray.fabric.transport.messages import ReadReport, Wanted
from amber_ray.fabric.worker import store_tasks
from amber_ray.settings import Settings
from amber_ray.store.parquet import ValueStore
from tests.store_contract import row
from tests.unit.fabric.engine.kit import SECONDS, Gate, World, ask, calling, run, until, values, world

FILMS = 8
TEXT = vt.Scalar("str")


class Shelf:
    """The parts port, at once. `gate` holds what has been read; `tries` counts calls, `given` their values.

    Implements `Parts`.
    """

    def __init__(self, folder: Path) -> None:
        self.store = ValueStore(str(folder), _left_alone)
        self.tries = self.given = 0
        self.gate: Gate | None = None

    async def read(self, wanted: Wanted) -> ReadReport | None:
        self.tries += 1
        report = store_tasks.read_here(self.store, wanted, Settings().inline_bytes)
        self.given += len(report.results) if report else 0
        if self.gate is not None:
            await self.gate.passed()
        return report


def _left_alone() -> None:
    raise StoreError("who reads moves nothing away")


class Stored:
    """A shard whose values are in one part of a store, and an engine that asks for films by their numbers."""

    def __init__(self, w: World, folder: Path) -> None:
        self.w = w
        w.parts = self.shelf = Shelf(folder)
        self.films = w.films(*[0] * FILMS)
        self.keys: list[str] = []
        self.part = ""
        self.engine: Engine
        self._asked = 0

    async def open(self) -> Stored:
        first = await self.w.engine()
        task = calling(first, ask(*self.films), SECONDS, "before")
        await until(lambda: "before" in self.w.shard.records)
        self.w.shard.make_all()
        self.keys = [result.key for result in (await task).results]
        self.part = self.write(self.keys)
        self.engine = await self.w.engine()
        return self

    def write(self, keys: Sequence[str]) -> str:
        """Write the values of keys to a new part, which they count in from now on."""
        rows = [row(key, self.w.shard.values[key])._replace(key=key) for key in keys]
        part = ValueStore(self.shelf.store.url).write("name_of", "1", TEXT, rows)
        self.w.shard.stored.update((key, (part.name, n)) for n, key in enumerate(keys))
        return part.name

    @property
    def path(self) -> Path:
        return Path(self.shelf.store.url, self.part)

    async def ask(self, *films: int, engine: Engine | None = None, **more: Any) -> RequestView:
        self._asked += 1
        request = ask(*[self.films[n] for n in films], **more)
        return await (engine or self.engine).compute(request, SECONDS, f"ask {self._asked}")

    async def learn(self) -> None:
        """Two values are read back from the part: the engine is told what else it has."""
        for film in (0, 1):
            await self.ask(film)
        await until(lambda: self.called("rows_of") == 1)
        await self.settle()

    async def settle(self) -> None:
        """What has been said is heard."""
        for _ in range(20):
            await asyncio.sleep(0)

    def called(self, method: str) -> int:
        return len(self.w.shard.named(method))

    async def heard(self) -> None:
        """The engine has been told of all changes there have been."""
        sessions = self.w.shard.sessions.values()
        await until(lambda: all(not s.updates for s in sessions))
        await asyncio.sleep(0.01)


def story(folder: Path, tell: Callable[[Stored], Any], **settings: Any) -> None:
    async def told() -> None:
        async with world(**settings) as w:
            await tell(await Stored(w, folder).open())

    run(told())


def test_what_is_in_a_part_that_values_were_read_back_from_is_read_without_the_shard(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        calls = len(s.w.shard.calls)
        view = await s.ask(2, 3)
        assert (values(view), view.state) == ([s.films[2].uri, s.films[3].uri], "done")
        assert [(r.cached, r.seconds) for r in view.results] == [(True, 1.5)] * 2
        mixed = await s.ask(0, 2, 4)  # some are here, one is not
        assert values(mixed) == [s.films[n].uri for n in (0, 2, 4)]
        (loaded,) = await s.engine.load([s.keys[5]])
        assert (loaded.value, loaded.made) == (s.films[5].uri, 1_700_000_000.25)
        assert (s.called("submit"), s.called("get"), s.shelf.given) == (3, 0, 4)
        assert {name for name, _ in s.w.shard.calls[calls:]} <= {"poll"}
        stats = await s.engine.stats()
        assert (stats[HITS_STORE], stats[HITS_REPLICA], stats[READS_STORE]) == (3, 2, 1)

    story(tmp_path, tell)


def test_values_that_were_read_by_their_keys_are_hints_too(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        for key in s.keys[:2]:
            await s.engine.load([key])
        await until(lambda: s.called("rows_of") == 1)
        await s.settle()
        assert [v.value for v in await s.engine.load(s.keys[2:4])] == [f.uri for f in s.films[2:4]]
        assert (s.called("get"), s.shelf.given) == (2, 2)

    story(tmp_path, tell)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(4, 60):
        data[at] ^= 0xFF
    path.write_bytes(data)


def other(path: Path) -> None:
    """Another part is under its name."""
    store = ValueStore(str(path.parent.parent.parent.parent))
    made = store.write("name_of", "1", TEXT, [row(f"other {n}", "wrong") for n in range(FILMS)])
    path.unlink()
    Path(store.url, made.name).rename(path)


def away(path: Path) -> None:
    """Reading it fails, as on a disk in trouble."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "seen"),
    [
        *((harm, False) for harm in (Path.unlink, cut, flip, other, away)),
        *((harm, True) for harm in (Path.unlink, flip)),
    ],
)
def test_a_part_that_is_gone_or_damaged_is_left_to_the_shard(
    tmp_path: Path, harm: Callable[[Path], Any], seen: bool
) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        if seen:
            await s.ask(2)
        harm(s.path)
        assert values(await s.ask(3)) == [s.films[3].uri]
        assert [v.value for v in await s.engine.load([s.keys[4]])] == [s.films[4].uri]
        assert (s.called("submit"), s.called("get"), s.called("rows_of")) == (4, 1, 1)
        for film in (5, 6, 7):  # nor is it looked at again
            assert values(await s.ask(film)) == [s.films[film].uri]
        assert (s.shelf.given, s.shelf.tries, s.called("rows_of")) == (seen, 1 + seen, 1)
        assert not Path(s.shelf.store.url, "quarantine").exists()

    story(tmp_path, tell)


def test_a_purged_part_that_is_open_is_not_read_again(tmp_path: Path) -> None:
    """Its file would still have the values: only its name is gone."""

    async def tell(s: Stored) -> None:
        await s.learn()
        await s.ask(2)
        s.path.unlink()
        key = s.keys[3]
        del s.w.shard.stored[key]
        s.w.shard.values[key] = "made anew"
        assert values(await s.ask(3)) == ["made anew"]

    story(tmp_path, tell)


def purge(s: Stored, *films: int) -> None:
    """All copies are called back; of these films the values are gone."""
    for film in films:
        s.w.shard.values.pop(s.keys[film])
        s.w.shard.stored.pop(s.keys[film])
    s.w.shard.changes += 1
    for session in s.w.shard.sessions.values():
        session.updates.purged = True
        session.wake.set()


def change(s: Stored, *films: int) -> None:
    """The values of these films were made anew."""
    for film in films:
        s.w.shard.change(s.keys[film])
        s.w.shard.values[s.keys[film]] = "newer"


def test_what_was_made_anew_is_not_read_from_where_it_was(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        change(s, 2)
        await s.heard()
        assert values(await s.ask(2, 3)) == ["newer", s.films[3].uri]
        assert [v.value for v in await s.engine.load([s.keys[2]])] == ["newer"]
        submitted = s.called("submit")
        assert values(await s.ask(4)) == [s.films[4].uri]  # of the others it is still known
        assert s.called("submit") == submitted

    story(tmp_path, tell)


def test_after_a_purge_nothing_is_known_until_it_is_told_again(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        purge(s, 2)
        await s.heard()
        s.w.shard.values[s.keys[2]] = "made anew"
        assert values(await s.ask(2)) == ["made anew"]
        assert values(await s.ask(3)) == [s.films[3].uri]
        assert (s.called("submit"), s.shelf.given) == (5, 0)
        await s.ask(4)
        await until(lambda: s.called("rows_of") == 2)
        await s.settle()
        assert values(await s.ask(5)) == [s.films[5].uri]
        assert (s.called("submit"), s.shelf.given) == (6, 1)

    story(tmp_path, tell)


def test_whoever_purges_does_not_read_it_before_the_news_of_it(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        s.w.shard.hold("poll")
        s.w.shard.answer_polls()
        await s.settle()
        await s.engine.purge(feature="name_of")
        s.w.shard.values[s.keys[2]] = "made anew"
        assert [v.value for v in await s.engine.load([s.keys[2]])] == ["made anew"]

    story(tmp_path, tell)


@pytest.mark.parametrize("how", ["compute", "load"])
@pytest.mark.parametrize("news", [purge, change])
def test_what_is_read_while_values_are_called_back_is_told_to_nobody(
    tmp_path: Path, how: str, news: Callable[..., None]
) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        s.shelf.gate = Gate()
        reading = asyncio.ensure_future(s.ask(2) if how == "compute" else s.engine.load([s.keys[2]]))
        await until(lambda: s.shelf.gate is not None and s.shelf.gate.arrived)
        news(s, 2)
        s.w.shard.values[s.keys[2]] = "newer"
        await s.heard()
        s.shelf.gate.open()
        told = await reading
        assert (values(told) if isinstance(told, RequestView) else [v.value for v in told]) == ["newer"]
        assert values(await s.ask(2)) == ["newer"]

    story(tmp_path, tell)


@pytest.mark.parametrize("news", [purge, change])
@pytest.mark.parametrize("before", [True, False], ids=["news first", "rows first"])
def test_rows_that_were_told_around_a_change_are_not_believed(
    tmp_path: Path, news: Callable[..., None], before: bool
) -> None:
    async def tell(s: Stored) -> None:
        gate = s.w.shard.hold_answer("rows_of")
        for film in (0, 1):
            await s.ask(film)
        await until(lambda: gate.arrived)
        if before:
            news(s, 2)
            await s.heard()
            gate.open()
        else:
            s.w.shard.hold("poll")
            news(s, 2)
            gate.open()
            await s.settle()
            s.w.shard.gates.pop("poll").open()
            await s.heard()
        await s.settle()
        s.w.shard.values[s.keys[2]] = "newer"
        assert values(await s.ask(2)) == ["newer"]
        assert [v.value for v in await s.engine.load([s.keys[2]])] == ["newer"]

    story(tmp_path, tell)


def test_what_a_shard_told_before_it_started_over_is_forgotten(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        s.w.shard.restart()
        await until(lambda: len(s.w.shard.sessions) == 2)
        s.w.shard.values[s.keys[2]] = "newer"
        assert values(await s.ask(2)) == ["newer"]

    story(tmp_path, tell)


def test_what_a_shard_told_that_is_not_heard_is_forgotten(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        s.w.shard.down = True
        s.w.shard.break_calls()
        await asyncio.sleep(9.0)
        s.w.shard.down = False
        s.w.shard.values[s.keys[2]] = "newer"
        assert values(await s.ask(2)) == ["newer"]

    story(tmp_path, tell)


@pytest.mark.parametrize("more", [{"refresh": True}, {"priority": Priority.BACKFILL}])
def test_who_wants_values_made_anew_or_none_at_all_asks_the_shard(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        task = asyncio.create_task(s.ask(2, **more))
        await until(lambda: s.called("submit") == 4)
        s.w.shard.make_all()
        assert (await task).state == "done"
        assert s.shelf.given == 0

    story(tmp_path, tell)


def test_a_disk_that_is_slow_is_not_waited_for_and_then_left_alone_for_a_while(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        s.shelf.gate = Gate()
        began = asyncio.get_running_loop().time()
        assert values(await s.ask(2)) == [s.films[2].uri]
        waited = asyncio.get_running_loop().time() - began
        assert near.READ_SECONDS <= waited < near.READ_SECONDS + 1
        s.write(s.keys[4:])
        for film in (4, 5, 6):
            assert values(await s.ask(film)) == [s.films[film].uri]
            await s.settle()
        assert (s.shelf.tries, s.called("submit"), s.called("rows_of")) == (1, 7, 2)

    story(tmp_path, tell)


def test_of_a_part_that_the_shard_does_not_tell_of_it_is_not_asked_again(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        s.w.shard.tells = False
        for film in range(FILMS):
            assert values(await s.ask(film)) == [s.films[film].uri]
            await s.settle()
        assert (s.called("rows_of"), s.called("submit"), s.shelf.given) == (1, 1 + FILMS, 0)

    story(tmp_path, tell)


def test_many_values_are_asked_for_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "FEW", 2)

    async def tell(s: Stored) -> None:
        await s.learn()
        await s.ask(2, 3, 4)
        await s.engine.load(s.keys[5:])
        assert (s.called("submit"), s.called("get"), s.shelf.given) == (4, 1, 0)

    story(tmp_path, tell)


def test_values_that_are_not_small_are_not_read_here(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        s.w.shard.values.update((key, "x" * 200_000) for key in s.keys)
        s.write(s.keys)
        await s.learn()
        for film in (2, 3):
            assert values(await s.ask(film)) == ["x" * 200_000]
        assert (s.shelf.given, s.called("submit"), s.called("rows_of")) == (0, 5, 1)

    story(tmp_path, tell)


def test_what_is_known_is_bounded_and_the_first_part_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "KEYS", FILMS - 1)

    async def tell(s: Stored) -> None:
        s.write(s.keys[4:])
        await s.learn()
        for film in (4, 5):
            await s.ask(film)
        await until(lambda: s.called("rows_of") == 2)
        await s.settle()
        for film in (6, 2):
            assert values(await s.ask(film)) == [s.films[film].uri]
        assert (s.called("submit"), s.shelf.given) == (6, 1)

    story(tmp_path, tell)


def test_who_hangs_up_while_it_is_read_may_ask_again(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        s.shelf.gate = Gate()
        task = calling(s.engine, ask(s.films[2]), SECONDS, "again")
        await until(lambda: s.shelf.gate is not None and s.shelf.gate.arrived)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        s.shelf.gate.open()
        await s.settle()
        view = await s.engine.compute(ask(s.films[2]), SECONDS, "again")
        assert (values(view), view.state) == ([s.films[2].uri], "done")

    story(tmp_path, tell)


def test_other_replicas_are_told_of_what_was_answered_so_and_nothing_is_loaded_for_it(tmp_path: Path) -> None:
    async def tell(s: Stored) -> None:
        await s.learn()
        await s.ask(2)
        await until(lambda: s.called("submit") == 4)
        (_, _, (told,)) = s.w.shard.named("submit")[-1]
        assert (told.answered, told.load) == (True, False)

    story(tmp_path, tell, replicas=2)
