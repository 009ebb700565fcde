"""An Amber of one's own before its Ray: what the store answers, and what takes an engine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import amber_ray as amber
from amber_ray import Asset, Clip, feature
from amber_ray.client import embedded
from amber_ray.client.registered import Opened
from amber_ray.core.planning.fanout import expand, windows_of
from amber_ray.core.planning.plan import Planner
from amber_ray.core.scheduler.costs import Means
from amber_ray.errors import MediaNotFound, StoreBusy, Unavailable, UnknownKey
from amber_ray.fabric.adapter import machine
from amber_ray.fabric.adapter.reading import StoreReader
from amber_ray.features.registered import build
from amber_ray.settings import Settings
from amber_ray.store.lease import Lease
from amber_ray.store.parquet import ValueStore
from amber_ray.store.rows import Row, table_of
from tests.media import RED, flat, settled, write_picture

ROOT = Path(__file__).parents[3]


@dataclass
class Box:
    """Something seen."""

    name: str
    corners: list[int]


@feature(version="1")
def weight(asset: Asset) -> int:
    raise AssertionError("nothing runs here")


@feature(version="1", per="segment")
def pixels(clip: Clip, count: int = 3) -> np.ndarray:
    raise AssertionError("nothing runs here")


@feature(version="1")
def boxes(pixels: list[np.ndarray]) -> list[Box]:
    raise AssertionError("nothing runs here")


@feature(version="1", num_gpus=1)
def on_gpu(asset: Asset) -> int:
    raise AssertionError("nothing runs here")


@dataclass
class Range:
    start: float
    end: float


@feature(version="1")
def ranges(asset: Asset) -> list[Range]:
    raise AssertionError("nothing runs here")


@feature(version="1", per="ranges")
def tone(clip: Clip) -> str:
    raise AssertionError("nothing runs here")


FEATURES = [weight, pixels, boxes, on_gpu, ranges, tone]
VALUES: dict[str, Any] = {
    "weight": 7,
    "pixels": np.arange(40_000, dtype="f4"),
    "boxes": [Box("cat", [1, 2]), Box("", [])],
}


@pytest.fixture
def picture(tmp_path: Path) -> str:
    return str(settled(write_picture(tmp_path / "red.png", flat(RED))))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings().replace(store=str(tmp_path / "store"), media_roots=(str(tmp_path),), builtins=False)


def fill(settings: Settings, *features: str, uri: str, values: dict[str, Any] = VALUES) -> None:
    """A store that has such values of an asset, as workers write them."""
    registry = build(settings, FEATURES)
    asset = machine.catalogue(settings).add(uri)
    planner = Planner(registry, features=features, params={}, segment_seconds=60.0, shards=1)
    planner.add_asset(asset)
    for key, step in planner.plan().steps.items():
        recipe = step.recipe
        if recipe.feature in features:
            row = Row(
                key, asset.id, step.unit.unit_id, "{}", values[recipe.feature], (), "c", 1.5, "cpu", 1e9
            )
            type = registry.get(recipe.feature).returns
            ValueStore(settings.store).write(recipe.feature, recipe.version, type, [row])


class Engine:
    """Stands for an engine on a Ray: says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def answer(*arguments: Any, **named: Any) -> Any:
            self.asked.append(name)
            if name == "features":
                return []
            raise Asked(name)

        return answer

    async def aclose(self) -> None:
        self.closed += 1


class Asked(Exception):
    """The engine was asked."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that were started."""
    engines: list[Engine] = []

    async def start(settings: Settings, features: Any, catalogue: Any) -> Opened:
        engines.append(Engine())
        return Opened(engines[-1], None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(embedded, "start", start)
    return engines


@pytest.fixture
def client(settings: Settings, started: list[Engine]) -> Iterator[amber.Client]:
    with amber.connect(settings=settings, features=FEATURES) as made:
        yield made


def files(settings: Settings) -> list[Path]:
    return sorted(p for p in Path(settings.store).rglob("*") if p.is_file())


def test_what_is_stored_is_answered_and_nothing_is_started_or_changed(
    client: amber.Client, started: list[Engine], settings: Settings, picture: str
) -> None:
    fill(settings, "weight", "pixels", "boxes", uri=picture)
    before = files(settings)
    assert {s.feature: (s.state, s.action) for s in client.explain("boxes", picture)} == {
        "pixels": ("cold", "skip"),
        "boxes": ("cold", "read"),
    }
    assert client.get("weight", picture) == 7
    assert client.get("boxes", picture) == VALUES["boxes"]
    (read,) = client.get("pixels", picture)
    assert (read == VALUES["pixels"]).all()
    assert not read.flags.writeable
    rows = client.get_many(["boxes", "weight"], [picture, "none.png"]).rows
    assert [(r.feature, r.state, r.cached, r.seconds) for r in rows][1:3] == [
        ("weight", "ready", True, 1.5),
        ("boxes", "failed", False, None),
    ]
    keys = [r.key for r in rows if r.state == "ready"]
    assert list(client.values(keys)) == keys
    assert [f.name for f in client.features()] == [
        *("boxes", "on_gpu", "pixels", "ranges", "tone", "weight"),
    ]
    assert client.failures() == []
    assert [v.feature for v in client.versions()] == ["boxes", "pixels", "weight"]
    assert client.asset(picture).media_type == "image/png"
    assert [asset.uri for asset in client.assets(os.path.dirname(picture))] == [os.path.realpath(picture)]
    assert list(client.assets(kind="video")) == list(client.requests()) == []
    told = list(client.asset_values(picture))
    assert [(one.feature, one.stored, one.memory) for one in told if one.feature != "weight"] == [
        ("boxes", True, True),
        ("pixels", True, True),
    ]
    lineage = client.lineage(next(one.key for one in told if one.feature == "weight"))
    assert [node.feature for node in lineage.nodes] == ["weight"]
    assert [asset.uri for asset in lineage.assets] == [os.path.realpath(picture)]
    assert [row.state for row in client.stored("weight", [picture]).rows] == ["ready"]
    with pytest.raises(MediaNotFound):
        client.get("weight", os.path.join(os.path.dirname(picture), "none.png"))
    with pytest.raises(UnknownKey):
        client._loop.run(client._inner.service.load(["0" * 32]))
    assert files(settings) == before
    assert started == []


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        (lambda c, p: c.get("boxes", p), "compute"),
        (lambda c, p: c.get_many(["weight", "boxes"], p), "compute"),
        (lambda c, p: c.get("weight", p, refresh=True), "compute"),
        (lambda c, p: c.submit("weight", p), "compute"),
        (lambda c, p: c.future("an id"), "status"),
        (lambda c, p: c.purge(feature="weight"), "purge"),
        (lambda c, p: c.upload(p), "upload"),
    ],
)
def test_what_takes_more_than_reading_starts_an_engine_once(
    client: amber.Client,
    started: list[Engine],
    settings: Settings,
    picture: str,
    question: Callable[[amber.Client, str], Any],
    asked: str,
) -> None:
    fill(settings, "weight", "pixels", uri=picture)
    assert client.get("weight", picture) == 7
    for _ in range(2):
        with pytest.raises(Asked, match=asked):
            question(client, picture)
    (engine,) = started
    # From now on it answers everything.
    with pytest.raises(Asked, match="compute"):
        client.get("weight", picture)
    client.close()
    assert engine.closed == 1


def test_many_who_need_an_engine_start_one(
    settings: Settings, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[Engine] = []
    gate = threading.Event()

    async def start(settings: Settings, features: Any, catalogue: Any) -> Opened:
        engines.append(Engine())
        await asyncio.to_thread(gate.wait, 30)
        return Opened(engines[-1], None, None)  # type: ignore[arg-type]

    monkeypatch.setattr(embedded, "start", start)

    async def story() -> None:
        async with amber.aconnect(settings=settings, features=FEATURES) as client:
            asking = [asyncio.create_task(client.get("weight", picture)) for _ in range(5)]
            while not engines:
                await asyncio.sleep(0)
            asking[0].cancel()  # whoever gives up takes nobody's engine along
            gate.set()
            ends = await asyncio.gather(*asking, return_exceptions=True)
            assert [type(end) for end in ends] == [asyncio.CancelledError, *[Asked] * 4]
        assert len(engines) == 1
        assert engines[0].closed == 1

    asyncio.run(asyncio.wait_for(story(), 60))


def test_a_closed_client_says_so_and_starts_nothing(
    settings: Settings, started: list[Engine], picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(settings, "weight", uri=picture)
    ask = StoreReader.ask

    async def story() -> None:
        reading, gate = asyncio.Event(), asyncio.Event()

        async def held(self: StoreReader, question: Any) -> Any:
            reading.set()
            await gate.wait()
            return await ask(self, question)

        client = await amber.aconnect(settings=settings, features=FEATURES)
        monkeypatch.setattr(StoreReader, "ask", held)
        asking = asyncio.create_task(client.get("boxes", picture))
        await reading.wait()
        await client.aclose()
        gate.set()
        with pytest.raises(Unavailable, match="closed"):
            await asking
        for question in (client.get("weight", picture), client.submit("weight", picture), client.stats()):
            with pytest.raises(Unavailable, match="closed; connect again"):
                await question

    asyncio.run(asyncio.wait_for(story(), 60))
    assert started == []


def test_a_store_of_another_is_read_and_says_so_to_whoever_needs_more(
    settings: Settings, picture: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill(settings, "weight", uri=picture)
    lease = Lease(settings.store)
    lease.acquire("a server")

    async def start(settings: Settings, features: Any, catalogue: Any) -> Opened:
        Lease(settings.store).acquire("this one")
        raise AssertionError("it was free")

    monkeypatch.setattr(embedded, "start", start)
    new = str(settled(write_picture(tmp_path / "new.png", flat((0, 9, 0)))))
    with amber.connect(settings=settings, features=FEATURES) as client:
        for _ in range(2):
            with pytest.raises(StoreBusy, match="in use by a server"):
                client.get("boxes", picture)
            with pytest.raises(StoreBusy, match="in use by a server"):
                client.asset(new)
            assert client.get("weight", picture) == 7
        before = files(settings)
        assert [s.state for s in client.explain("weight", new)] == ["missing"]
    assert files(settings) == before
    # What another wrote since is there too, and what it purged is not.
    with amber.connect(settings=settings, features=FEATURES) as client:
        fill(settings, "pixels", "boxes", uri=picture)
        assert client.get("boxes", picture) == VALUES["boxes"]
        ValueStore(settings.store).purge(feature="weight")
        with pytest.raises(StoreBusy):
            client.get("weight", picture)
    lease.release()


def test_new_media_are_digested_once_and_kept_if_the_store_is_free(
    settings: Settings, started: list[Engine], picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with amber.connect(settings=settings, features=FEATURES) as client:
        assert [s.state for s in client.explain("weight", picture)] == ["missing"]
        assert files(settings) == []
    assert [p.parent.name for p in files(settings) if p.suffix == ".parquet"] == ["packs"]
    monkeypatch.setattr("amber_ray.media.catalogue.open_uri", lambda *_: pytest.fail("digested again"))
    with amber.connect(settings=settings, features=FEATURES) as client:
        assert [s.state for s in client.explain("weight", picture)] == ["missing"]
    assert started == []


def test_new_media_are_written_before_they_are_told(
    client: amber.Client, started: list[Engine], settings: Settings, picture: str
) -> None:
    found = client.asset(picture)
    assert len(started) == 1
    assert machine.catalogue(settings).get(found.id).uri == picture


def test_what_only_ray_knows_of_a_machine_is_asked_of_it(
    settings: Settings, started: list[Engine], picture: str
) -> None:
    with amber.connect(settings=settings.replace(num_gpus=0), features=FEATURES) as client:
        (step,) = client.explain("on_gpu", picture)
        assert (step.state, step.action) == ("missing", "fail")
    assert started == []
    with (
        pytest.MonkeyPatch.context() as patch,
        amber.connect(settings=settings, features=FEATURES) as client,
    ):
        patch.setattr("amber_ray.fabric.adapter.reading.ACCELERATORS", ("/dev/null",))
        with pytest.raises(Asked, match="explain"):
            client.explain("on_gpu", picture)


def test_a_damaged_part_is_left_to_the_owner(
    client: amber.Client, started: list[Engine], settings: Settings, picture: str
) -> None:
    fill(settings, "weight", uri=picture)
    (part,) = [p for p in files(settings) if "values" in p.parts]
    data = bytearray(part.read_bytes())
    data[20] ^= 1
    part.write_bytes(bytes(data))
    with pytest.raises(Asked, match="compute"):
        client.get("weight", picture)
    assert part.exists()


def test_an_amber_that_was_asked_nothing_leaves_nothing(
    settings: Settings, started: list[Engine], tmp_path: Path
) -> None:
    with amber.connect(settings=settings, features=FEATURES) as client:
        client.features()
        client.stats()
    assert not Path(settings.store).exists()
    assert started == []


def test_reading_imports_neither_ray_nor_what_features_import_when_they_run(
    settings: Settings, picture: str
) -> None:
    fill(settings, "weight", uri=picture)
    script = f"""
import sys
import amber_ray
from amber_ray.settings import Settings
from tests.unit.client.test_lazy import FEATURES
heavy = {{"ray", "torch", "pandas"}}
seen = sys.modules.keys() & heavy
settings = Settings().replace(store={settings.store!r}, media_roots=({str(Path(picture).parent)!r},))
with amber_ray.connect(settings=settings, features=FEATURES) as client:
    print(client.get("weight", {picture!r}), *sorted((sys.modules.keys() & heavy) - seen))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("7\n", "")


def test_found_units_that_are_stored_are_read_and_the_first_that_lacks_starts_a_ray(
    client: amber.Client, started: list[Engine], settings: Settings, picture: str
) -> None:
    found = [Range(0.0, 2.0), Range(2.0, 7.5)]
    fill(settings, "ranges", uri=picture, values={"ranges": found})
    registry = build(settings, FEATURES)
    asset = machine.catalogue(settings).add(picture)
    planner = Planner(registry, features=["tone"], params={}, segment_seconds=60.0)
    [target] = planner.add_asset(asset)
    steps = planner.plan().steps
    made = expand(steps, steps[target.key], windows_of(found) or (), 10)

    def keep(number: int, value: str) -> None:
        key, unit = made.keys[number], made.units[number]
        row = Row(key, asset.id, unit.unit_id, "{}", value, (), "c", 1.5, "cpu", 1e9, True)
        ValueStore(settings.store).write("tone", "1", registry.get("tone").returns, [row])

    def states() -> list[tuple[float, str]]:
        return [(row.unit.start, row.state) for row in client.stored("tone", picture).rows if row.unit]  # type: ignore[union-attr]

    def actions() -> list[tuple[str, str]]:
        return [(step.feature, step.action) for step in client.explain("tone", picture)]

    assert states() == [(0.0, "pending"), (2.0, "pending")]  # by windows that are read for it
    assert actions() == [("ranges", "read"), ("tone", "run"), ("tone", "run")]
    keep(0, "dark")
    assert states() == [(0.0, "ready"), (2.0, "pending")]
    assert actions() == [("ranges", "read"), ("tone", "read"), ("tone", "run")]
    assert not started
    with pytest.raises(Asked):
        client.get("tone", picture)
    assert len(started) == 1
    keep(1, "light")
    with amber.connect(settings=settings, features=FEATURES) as another:
        assert [(w.end, tone) for w, tone in another.get("tone", picture).items()] == [
            *((2.0, "dark"), (7.5, "light")),
        ]
        assert another.get_many(["tone"], [picture]).to_pandas()[
            ["start", "end", "tone"]
        ].to_numpy().tolist() == [
            [0.0, 2.0, "dark"],
            [2.0, 7.5, "light"],
        ]
    assert len(started) == 1


def test_what_is_known_of_windows_without_their_finder_is_how_many_to_expect(
    client: amber.Client, started: list[Engine], settings: Settings, picture: str, tmp_path: Path
) -> None:
    other = str(settled(write_picture(tmp_path / "blue.png", flat((0, 0, 255)))))
    registry = build(settings, FEATURES)
    [step] = client.explain("ranges", picture)
    assert client.explain("tone", picture)[-1].expected is None
    row = Row("0" * 32, "a", "a", "{}", [Range(0.0, 1.0)] * 14, (), "c", 1.5, "cpu", 1e9)
    type = registry.get("ranges").returns
    ValueStore(settings.store).publish(
        "ranges", step.version, type, Means(1.5, 100.0, 14.0), [table_of(type, [row])]
    )
    for asset in (picture, other):
        [finder, each] = client.explain("tone", asset)
        assert (finder.action, each.action, each.expected, finder.expected) == ("run", "run", 14, None)
        [row_of_all] = client.stored("tone", asset).rows
        assert (row_of_all.state, row_of_all.uncounted) == ("pending", True)
    fill(settings, "ranges", uri=other, values={"ranges": []})
    [finder, each] = client.explain("tone", other)
    assert (each.state, each.action, each.expected) == ("cold", "use", None)
    assert client.stored("tone", other)["tone", other] == []
    assert not started
