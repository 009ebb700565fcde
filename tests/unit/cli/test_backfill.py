from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from amber_ray import errors
from amber_ray.cli import catalogue
from amber_ray.cli.failed import SHOWN, FailureFile
from amber_ray.cli.progress import CatalogueProgressBar
from amber_ray.client import AsyncClient
from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.core.model.pace import Pace
from amber_ray.core.model.request import ComputeRequest, Failure
from amber_ray.core.model.service import RequestEvent
from amber_ray.core.model.units import Asset, EachRange, Segment
from amber_ray.core.values.annotations import parse
from tests.memory_service import Gate, Held, Made, MemoryService, Step
from tests.unit.gated_service import GatedService


def failure(name: str = "MediaError") -> Failure:
    return Failure("input", name, "it is no film", "probe", "", "u", attempts=2, traceback="line 1\n")


# Catalogues


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("m/a.mp4", "m/sub/b.mp3", "m/sub/.hidden.mp4", "m/readme.md", "far/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("# what to do\n\nm/a.mp4\ns3://b/k.mp4\nm/sub\n")
    (tmp_path / "m/link.mp4").symlink_to(tmp_path / "far/c.mp4")
    return tmp_path


def listed(*places: str) -> list[str]:
    return list(catalogue.assets(places, ordered=True))


def test_assets_are_listed_from_folders_patterns_and_lists(media: Path) -> None:
    assert listed("m") == ["m/a.mp4", "m/link.mp4", "m/sub/b.mp3"]
    assert listed("m/**/*.mp3", "m/*.md") == ["m/sub/b.mp3", "m/readme.md"]
    assert listed(f"{media}/m/*.mp[34]") == [f"{media}/m/a.mp4", f"{media}/m/link.mp4"]
    assert listed("*/a.mp4", "./m/?.mp4") == ["m/a.mp4", "./m/a.mp4"]
    assert listed("@list.txt") == ["m/a.mp4", "s3://b/k.mp4", "m/sub/b.mp3"]
    assert listed("missing.mp4", "file:///x/y.mp4") == ["missing.mp4", "file:///x/y.mp4"]
    for nothing in ("m/*.nope", "nowhere/*.mp4"):
        with pytest.raises(errors.BadRequest, match="holds no media"):
            listed(nothing)


def test_a_survey_finds_folders_behind_links_and_schemes(media: Path) -> None:
    survey = catalogue.surveyed(["m", "@list.txt"])
    assert survey.total == 6
    assert set(survey.folders) == {str(media / p) for p in ("m", "m/sub", "far")}
    assert survey.schemes == {"s3"}
    with pytest.raises(errors.BadRequest, match="holds no media"):
        catalogue.surveyed(["m/*.nope"])
    assert catalogue.surveyed(["s3://bucket/films/", "m/a.mp4"]).total is None


KINDS = (
    "mp4 m4v mov mkv webm ts mts m2ts mpg vob avi nut wav w64 flac m4a mp3 ogg oga opus mka aac caf aiff wv "
    "jpg jfif png webp gif tiff avif mpo mxf heic"
)
NO_MEDIA = "notes.txt clip.srt Thumbs.db clip.nfo movie.mp4.part"


def test_a_folder_holds_the_same_media_on_every_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimetypes.knownfiles", [])
    media = [f"clip.{kind}" for kind in KINDS.split()] + ["CLIP2.MP4"]
    for name in (*media, *NO_MEDIA.split()):
        (tmp_path / name).touch()
    assert sorted(os.path.basename(a) for a in listed(str(tmp_path))) == sorted(media)
    survey = catalogue.surveyed([str(tmp_path)])
    assert survey.total == len(media)
    [note] = survey.notes()
    assert note.startswith("left out, since not named like media: 5 files (.")
    assert survey.others == dict.fromkeys(("txt", "srt", "db", "nfo", "part"), 1)


def test_linked_folders_are_followed_once_and_named_where_they_lead_round(tmp_path: Path) -> None:
    for name in ("far/c.mp4", "m/a.mp4", "m/sub/b.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "m"
    for link, to in (("one", "far"), ("two", "far"), ("again", "m/sub"), ("sub/up", "m"), ("all", ".")):
        (root / link).symlink_to(tmp_path / to)
    (root / "gone").symlink_to(tmp_path / "nothing")
    (root / "round.mp4").symlink_to(root / "round.mp4")
    survey = catalogue.surveyed([str(root)])
    assert [os.path.basename(a) for a in listed(str(root))] == ["a.mp4", "c.mp4", "b.mp4"]
    assert survey.total == 3
    assert sorted(survey.unusable) == [
        f"{root}/all is a link to a folder that it lies in",
        f"{root}/gone is a link to nothing",
        f"{root}/round.mp4 can't be read: too many levels of symbolic links",
    ]


def test_a_name_that_is_not_utf8_is_left_out_by_name(tmp_path: Path) -> None:
    for name in (b"a.wav", b"caf\xe9.wav"):
        (tmp_path / os.fsdecode(name)).touch()
    survey = catalogue.surveyed([str(tmp_path)])
    assert listed(str(tmp_path)) == [f"{tmp_path}/a.wav"]
    assert (survey.total, survey.refused) == (1, 1)
    assert list(survey.notes()) == [
        f"left out: '{tmp_path}/caf\\udce9.wav' has a name that is not UTF-8; rename it"
    ]
    with pytest.raises(errors.BadRequest, match=r"none of the media can be used: .* not UTF-8"):
        catalogue.surveyed([f"{tmp_path}/{os.fsdecode(bytes([99, 97, 102, 233]))}.wav"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_are_read_as_people_write_them(media: Path, encoding: str, end: str) -> None:
    lines = ["# films", "m/a.mp4", "", "  m/sub/b.mp3  ", "m/caf\u00e9.mp4"]
    (media / "windows.txt").write_bytes(end.join(lines).encode(encoding))
    assert listed("@windows.txt") == ["m/a.mp4", "m/sub/b.mp3", "m/caf\u00e9.mp4"]


def test_an_object_is_itself_before_it_is_a_pattern() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    names = ("x[1].wav", "x1.wav", "star*.wav", "start.wav", "what?.wav")
    for name in names:
        memory.pipe(f"/odd/{name}", b"x")
    for name in names:
        assert listed(f"memory://odd/{name}") == [f"memory://odd/{name}"]
    assert listed("memory://odd/x[0-9].wav") == ["memory://odd/x1.wav"]
    assert listed("memory://odd/") == sorted(f"memory://odd/{name}" for name in names)


def test_a_prefix_is_listed_as_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[dict[str, Any]] = []

    class S3:
        def call_s3(self, method: str, **asked: Any) -> dict[str, Any]:
            pages.append(asked)
            number = len(pages)
            keys = [{"Key": f"films/{number}/{i}.mp4", "Size": 9} for i in range(3)]
            keys += [{"Key": f"films/{number}/", "Size": 0}, {"Key": "films/notes.txt", "Size": 4}]
            return {"Contents": keys, "IsTruncated": number < 1000, "NextContinuationToken": f"t{number}"}

    monkeypatch.setattr("fsspec.filesystem", lambda scheme, **_: S3())
    found = catalogue.assets(["s3://bucket/films/"])
    first = list(itertools.islice(found, 4))
    assert first[0] == "s3://bucket/films/1/0.mp4"
    assert first[3] == "s3://bucket/films/2/0.mp4"
    assert [(p["Bucket"], p["Prefix"], p.get("ContinuationToken")) for p in pages] == [
        ("bucket", "films/", None),
        ("bucket", "films/", "t1"),
    ]
    pages.clear()
    some = catalogue.assets(["s3://bucket/films/*/2.mp4"])
    assert list(itertools.islice(some, 2)) == ["s3://bucket/films/1/2.mp4", "s3://bucket/films/2/2.mp4"]
    assert pages[0]["Prefix"] == "films/"


def test_other_stores_are_walked() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("/walked/b.mp4", "/walked/a.mp4", "/walked/deep/c.png", "/walked/d.txt"):
        memory.pipe(name, b"x")
    assert list(catalogue.assets(["memory://walked/"])) == [
        "memory://walked/a.mp4",
        "memory://walked/b.mp4",
        "memory://walked/deep/c.png",
    ]
    with pytest.raises(errors.BadRequest, match="holds no media"):
        list(catalogue.assets(["memory://nothing/"]))


# Sweeping


class Slow(GatedService):
    """A request waits for its gate while `held`; one of more than `largest` assets is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: list[Gate] = []
        self.largest = 1_000_000
        self.held = True
        self._gate_of_request: dict[str, Gate] = {}

    def judge(self, request: ComputeRequest) -> None:
        super().judge(request)
        if len(request.assets) > self.largest:
            raise errors.TooLarge("too many steps")

    def admitted(self, held: Held) -> None:
        gate = self._gate_of_request[held.id] = Gate(self.go_on)
        if self.held:
            gate.clear()
        self.gates.append(gate)

    def may_answer(self, held: Held) -> bool:
        return super().may_answer(held) and self._gate_of_request[held.id].is_set()


async def settled(ready: Any) -> None:
    async with asyncio.timeout(20):
        while not ready():
            await asyncio.sleep(0.001)  # not 0: threads that list assets need the interpreter meanwhile


def test_a_sweep_reads_no_further_than_its_window_and_refills_at_once() -> None:
    service = Slow()
    read: list[str] = []
    tables: list[Results] = []

    def endless() -> Iterator[str]:
        for i in range(100):
            read.append(f"/{i}.mp4")
            service.put(read[-1])
            yield read[-1]

    async def story() -> None:
        client = AsyncClient(service, timeout=20)
        work = asyncio.create_task(client.sweep("size", endless(), tables.append, window=16))
        await settled(lambda: len(service.gates) == 8)
        assert len(read) == 16
        # The fourth ends first: one more is sent, while the other seven are under way.
        service.gates[3].set()
        await settled(lambda: len(service.gates) == 9)
        assert len(read) == 18
        assert [len(t.rows) for t in tables] == [2]
        service.held = False
        for gate in service.gates:
            gate.set()
        await work

    asyncio.run(story())
    assert sorted(row.asset or "" for t in tables for row in t.rows) == sorted(read)
    assert all(row.failure is None for t in tables for row in t.rows)


def test_requests_of_a_sweep_grow_while_they_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes(soon: float) -> list[int]:
        """How many assets each request has if this is soon."""
        monkeypatch.setattr("amber_ray.core.model.pace.SOON_SECONDS", soon)
        service = Slow()
        names = [service.put(f"/{i}.mp4").uri for i in range(800)]

        async def story() -> None:
            client = AsyncClient(service, timeout=20)
            service.held = False
            await client.sweep("size", names, lambda _: None, window=1024)

        asyncio.run(story())
        return [len(held.request.assets) for held in service.requests.values()]

    growing = sizes(soon=60.0)
    assert (growing[0], max(growing), sum(growing)) == (32, 128, 800)
    assert set(sizes(soon=0.0)) == {32}


def test_requests_of_a_sweep_are_a_share_of_the_window() -> None:
    pace = Pace(1024, 8)
    sizes = []
    for assets, seconds in ((32, 1.0), (64, 1.0), (128, 1.0), (128, 5.0), (128, 9.0), (64, 9.0), (32, 9.0)):
        pace.took(assets, seconds)
        sizes.append(pace.size)
    assert sizes == [64, 128, 128, 128, 64, 32, 32]
    # What was sent before the size was known says nothing against it.
    pace.took(128, 1.0)
    pace.took(32, 1.0)
    assert pace.size == 128
    assert [Pace(window, 8).size for window in (1, 8, 100, 256, 5000)] == [1, 1, 12, 32, 32]


def test_a_sweep_that_is_cancelled_withdraws_and_halves_what_is_too_large() -> None:
    async def story() -> None:
        service = Slow()
        service.largest = 2
        names = [service.put(f"/{i}.mp4").uri for i in range(5)]
        client = AsyncClient(service, timeout=20)
        tables: list[Results] = []
        service.held = False
        await client.sweep("size", names, tables.append, window=40)
        assert [row.asset for table in tables for row in table.rows] == names
        assert sorted(len(h.request.assets) for h in service.requests.values()) == [1, 2, 2]

        held = Slow()
        stopped = asyncio.create_task(AsyncClient(held).sweep("size", ["/a.mp4", "/b.mp4"], tables.append))
        await settled(lambda: held.gates)
        stopped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopped
        assert not held.requests
        with pytest.raises(errors.BadRequest, match="similar is about a set of assets"):
            await AsyncClient(held).sweep("similar", ["/a.mp4"], tables.append)
        with pytest.raises(errors.BadRequest, match="at least 1"):
            await AsyncClient(held).sweep("size", ["/a.mp4"], tables.append, window=0)

    asyncio.run(story())


class OneByOne(GatedService):
    """Steps about an asset end once it was let through; with `deaf` no stream of events can be had."""

    deaf = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.passed: set[str] = set()

    def let(self, *uris: str) -> None:
        self.passed |= {self.assets[uri].id for uri in uris}
        self.go_on()

    def _advance(self, step: Step) -> bool:
        asset = getattr(step.unit, "asset", step.unit)
        return getattr(asset, "id", "") in self.passed and super()._advance(step)

    def events(self, id: str) -> AsyncIterator[RequestEvent]:
        if self.deaf:
            raise errors.Unavailable("no events today")
        return super().events(id)


class Sweep:
    """A sweep of five films, one of them under two names, one of which is nowhere; `told` by asset."""

    NAMES = ("/a.mp4", "/b.mp4", "/link.mp4", "/bad.mp4", "/nowhere.mp4")

    def __init__(self, service: OneByOne, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("amber_ray.client.exchange.FOLLOWED_AFTER", 0.0)
        self.service = service
        for name in self.NAMES[:-1]:
            service.put(name, content="/a.mp4" if name == "/link.mp4" else name)
        self.told: list[set[str | None]] = []
        self.rows: list[Row] = []
        client = AsyncClient(service, timeout=20)
        work = client.sweep(["size", "broken", "vector"], self.NAMES, self._hear)
        self.work = asyncio.create_task(work)

    def _hear(self, results: Results) -> None:
        self.told.append({row.asset for row in results.rows})
        self.rows += results.rows

    async def hears(self, *told: set[str | None]) -> None:
        await settled(lambda: len(self.told) >= len(told))
        assert self.told == list(told)


@pytest.mark.parametrize("deaf", [False, True], ids=["events", "polls"])
def test_an_asset_is_told_when_all_its_results_have_ended(
    deaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        service = OneByOne()
        service.deaf = deaf
        sweep = Sweep(service, monkeypatch)
        await sweep.hears({"/nowhere.mp4"})
        service.let("/b.mp4")
        await sweep.hears({"/nowhere.mp4"}, {"/b.mp4"})
        service.let("/a.mp4")
        await sweep.hears({"/nowhere.mp4"}, {"/b.mp4"}, {"/a.mp4", "/link.mp4"})
        assert not sweep.work.done()
        service.let("/bad.mp4")
        await sweep.work
        assert len(sweep.told) == 4
        # Each asset once, with all that was asked of it: 25 s are three segments of `vector`.
        counts = {name: sum(row.asset == name for row in sweep.rows) for name in Sweep.NAMES}
        assert counts == dict.fromkeys(Sweep.NAMES, 5) | {"/nowhere.mp4": 3}
        states = {(row.feature, row.state) for row in sweep.rows if row.asset != "/nowhere.mp4"}
        assert states == {("size", "ready"), ("broken", "failed"), ("vector", "ready")}

    asyncio.run(story())


def test_a_sweep_that_is_cut_off_has_told_what_had_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(late: bool) -> list[set[str | None]]:
        service = OneByOne()
        sweep = Sweep(service, monkeypatch)
        if late:  # nothing was heard of the request: what its withdrawal answers is all there is
            monkeypatch.setattr("amber_ray.client.exchange.FOLLOWED_AFTER", 20.0)
        await settled(lambda: service.requests)
        if not late:
            await sweep.hears({"/nowhere.mp4"})
        [held] = service.requests.values()
        held.accepted = True
        service.let("/b.mp4")
        sweep.work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sweep.work
        return sweep.told

    assert asyncio.run(story(late=False)) == [{"/nowhere.mp4"}, {"/b.mp4"}]
    assert asyncio.run(story(late=True)) == [{"/nowhere.mp4", "/b.mp4"}]


# Telling


def table(*rows: Row) -> Results:
    return Results(rows)


def ready(name: str, *, cached: bool = False, duration: float | None = 30.0) -> Row:
    asset = Asset(f"{sum(map(ord, name)):032x}", name, "video/mp4", 9, duration)
    return Row("size", name, asset, "k", "ready", 1, cached=cached)


def test_a_tally_knows_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    time = iter([0.0, 5.0, 10.0])
    with CatalogueProgressBar(10, clock=lambda: next(time), terminal=False) as tally:
        tally.add(table(ready("/a"), ready("/b", cached=True)))
        assert capsys.readouterr().err == ""
        tally.add(table(ready("/c"), Row("size", "/d", None, "", "failed", failure=failure())))
    assert capsys.readouterr().err == (
        "4 of 10 assets 0.4/s, 9 x real time, 15.0 s left, 33% were there, 1 failed\n"
    )
    assert (tally.ready, tally.cached, tally.failed) == (3, 1, 1)
    quiet = iter([0.0, 50.0])
    with CatalogueProgressBar(None, shown=False, clock=lambda: next(quiet)) as silent:
        silent.add(table(ready("/a")))
    assert capsys.readouterr().err == ""
    assert silent.done() == "1 assets"


def test_failures_are_all_in_the_file_and_some_on_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new/failures.parquet"
    file = FailureFile(str(path), always=False)
    for i in range(2500):
        row = Row("size", f"/{i}.mp4", None, "", "failed", failure=failure())
        file.add(table(ready("/ok.mp4"), row))
    assert not path.exists()
    file.close()
    file.show()
    found = pq.read_table(path)
    assert found.num_rows == 2500
    assert found.slice(2499).to_pylist() == [
        {
            "asset": "/2499.mp4",
            "asset_id": None,
            "feature": "size",
            "unit": None,
            "step": "probe",
            "kind": "input",
            "class": "MediaError",
            "message": "it is no film",
            "attempts": 2,
            "traceback": "line 1\n",
        }
    ]
    out = capsys.readouterr().out
    assert out.count("it is no film") == SHOWN
    assert f"and {2500 - SHOWN:,} more; all failures are in {path}" in out
    assert [p.name for p in path.parent.iterdir()] == ["failures.parquet"]


def test_a_file_of_failures_is_made_when_wanted_and_never_stale(tmp_path: Path) -> None:
    path = tmp_path / "failures.parquet"
    FailureFile(str(path), always=False).close()
    assert not path.exists()
    FailureFile(str(path), always=True).close()
    assert pq.read_table(path).num_rows == 0
    path.write_text("an earlier run's")
    FailureFile(str(path), always=False).close()
    assert pq.read_table(path).num_rows == 0


@dataclasses.dataclass
class Mark:
    start: float
    end: float


class Marked(MemoryService):
    """`span` is for each range that `marks` finds: none in `/none.mp4`, in `/slow.mp4` once it is free."""

    def __init__(self) -> None:
        super().__init__()
        found = [Mark(0.0, 2.0), Mark(2.0, 5.0)]
        self.free = False
        self.made = {
            "marks": Made(parse(list[Mark]), of=lambda call: [] if "none" in call.unit.uri else found),
            "span": Made(parse(float), per="marks", of=lambda call: call.unit.start),
        }

    def _advance(self, step: Step) -> bool:
        held = isinstance(step.unit, Asset) and step.unit.uri == "/slow.mp4" and not self.free
        return not held and super()._advance(step)


def test_an_asset_has_ended_when_all_windows_that_were_found_in_it_have() -> None:
    service = Marked()
    told: dict[str, list[tuple[float, float]]] = {}

    def tell(results: Results) -> None:
        for row in results.rows:
            windows = told.setdefault(row.asset or "", [])
            if isinstance(row.unit, Segment):
                windows.append((row.unit.start, row.unit.end))

    async def story() -> None:
        client = AsyncClient(service, timeout=20)
        service.gate_of("marks").clear()
        names = ["/a.mp4", "/none.mp4", "/slow.mp4"]
        work = asyncio.create_task(client.sweep("span", names, tell))
        await settled(lambda: "events" in dict(service.asked))
        service.gate_of("marks").set()
        await settled(lambda: len(told) == 2)
        assert told == {"/a.mp4": [(0.0, 2.0), (2.0, 5.0)], "/none.mp4": []}
        service.free = True
        service.go_on()
        await work
        assert told["/slow.mp4"] == told["/a.mp4"]

    asyncio.run(story())


def test_what_a_finder_did_not_find_is_no_value(tmp_path: Path) -> None:
    film = Asset("a" * 32, "/a.mp4", "video/mp4", 1, 30.0)
    each = EachRange(film, "marks", "K", 10_000_000)
    bar, file = CatalogueProgressBar(2, shown=False), FailureFile(str(tmp_path / "bad.parquet"), always=True)
    found = Results(
        [
            Row("span", "/a.mp4", Segment(film, 0, 5, found=True), "u", "ready", 1.0),
            Row("span", "/b.mp4", each, "t", "ready", []),
            Row("span", "/c.mp4", each, "t", "pending"),
            Row("span", "/d.mp4", each, "t", "failed", failure=failure()),
        ]
    )
    bar.add(found)
    assert (bar.ready, bar.missing, bar.failed, bar.assets) == (1, 1, 1, 4)
    file.add(found)
    file.close()
    [line] = pq.read_table(file.path).to_pylist()
    assert (line["asset"], line["asset_id"], line["unit"]) == ("/d.mp4", film.id, each.unit_id)
