"""`amber export` over a service in memory: what is there, what is said of the rest, and nothing half done."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from amber_ray.cli import main, shards
from amber_ray.cli.progress import CatalogueProgressBar
from amber_ray.client import AsyncClient, Client
from amber_ray.client.loop import Loop
from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.core.model.request import AssetRef, ComputeRequest, Failure
from amber_ray.core.model.service import AbsentValue, Answered
from amber_ray.core.values.annotations import parse
from amber_ray.errors import AmberError, StoreError
from amber_ray.store.types import META, from_array
from tests.memory_service import FEATURES, Made, MemoryService, digest, info

Export = Callable[..., tuple[int, str, str]]


@dataclasses.dataclass
class Mark:
    start: float
    end: float


MARKS = {
    "/a.mp4": [Mark(4.0, 9.0), Mark(0.0, 4.0), Mark(9.0, 12.5)],
    "/b.mp4": [],
    "/c.mp4": [Mark(1.0, 2.0)],
}


class StoredService(MemoryService):
    """Its features are made from each other; `stop` is why no value can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.made = FEATURES | {
            "embedding": dataclasses.replace(
                FEATURES["embedding"], of=lambda call: np.arange(6, dtype=np.float32).reshape(2, 3)
            ),
            "frames": Made(parse(int), per="segment", of=lambda call: 1, store="never"),
            "colour": Made(parse(float), per="segment", inputs=("frames",), of=lambda call: 0.25),
            "mood": Made(parse(float), inputs=("colour",), of=lambda call: 0.75),
            "marks": Made(parse(list[Mark]), of=lambda call: MARKS[call.unit.uri]),
            "span": Made(parse(float), per="marks", of=lambda call: call.unit.start),
        }
        self.stop: AmberError | None = None

    def answer(self, key: str) -> Answered:
        if self.stop is not None:
            name, words = type(self.stop).__name__, str(self.stop)
            return AbsentValue(key, Failure("system", name, words, "", key, "", self.stop.status))
        return super().answer(key)

    def compute_now(self, feature: str, *uris: str) -> None:
        asyncio.run(self.compute(ComputeRequest((feature,), tuple(AssetRef(uri=u) for u in uris)), 1.0))
        self.asked.clear()

    def asked_for(self, what: str) -> list[Any]:
        return [detail for kind, detail in self.asked if kind == what]


@pytest.fixture
def service() -> StoredService:
    return StoredService()


@pytest.fixture
def export(
    service: StoredService,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Export:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "amber_ray.cli.options.connect", lambda *a, **k: Client(AsyncClient(service, timeout=20.0), Loop())
    )

    def run(*words: str, out: str = "set") -> tuple[int, str, str]:
        status = main(["export", *words, "--out", out, "--server", "http://here", "-q"])
        return status, *capsys.readouterr()

    return run


def manifest(out: str = "set") -> Any:
    return json.loads(Path(out, "manifest.json").read_text())


def coverage(out: str = "set") -> list[dict[str, Any]]:
    return pq.read_table(Path(out, "coverage.parquet")).to_pylist()  # type: ignore[no-any-return]


def assets(*uris: str) -> list[str]:
    return [word for uri in uris for word in ("--assets", uri)]


def test_what_is_there_is_exported_and_nothing_is_computed(export: Export, service: StoredService) -> None:
    service.compute_now("brightness", "/a.mp4")
    service.compute_now("embedding", "/a.mp4", "/b.mp4")
    status, out, err = export("brightness,embedding", *assets("/a.mp4", "/b.mp4", "/missing.mp4"))
    assert (status, err) == (1, "")
    assert service.asked_for("compute") == []

    light = pq.read_table("set/brightness").to_pylist()
    id = digest("/a.mp4")
    assert [(r["uri"], r["asset"], r["start"], r["length"], r["value"]) for r in light] == [
        ("/a.mp4", id, 0.0, 10.0, 0.5),
        ("/a.mp4", id, 10.0, 10.0, 0.5),
        ("/a.mp4", id, 20.0, 5.0, 0.5),
    ]
    assert light[1]["key"] == digest(f"brightness{id}@10000000+10000000")
    vectors = pq.read_table("set/embedding")
    assert vectors["uri"].to_pylist() == ["/a.mp4", "/b.mp4"]
    assert vectors["start"].to_pylist() == [None, None]
    values = from_array(parse(np.ndarray), vectors["value"])
    assert all(np.array_equal(v, np.arange(6, dtype=np.float32).reshape(2, 3)) for v in values)
    assert json.loads(vectors.schema.metadata[META]) == parse(np.ndarray).spec()

    lines = {(r["feature"], r["uri"]): r for r in coverage()}
    assert len(lines) == 6
    units = {k: tuple(r[c] for c in ("asked", "present", "failed", "missing")) for k, r in lines.items()}
    assert units["brightness", "/a.mp4"] == (3, 3, 0, 0)
    assert units["brightness", "/b.mp4"] == (3, 0, 0, 3)
    assert units["embedding", "/missing.mp4"] == (1, 0, 1, 0)
    assert lines["embedding", "/missing.mp4"]["error"].startswith("MediaNotFound: nothing is at")
    assert lines["brightness", "/b.mp4"]["error"] is None
    assert lines["brightness", "/b.mp4"]["asset"] == digest("/b.mp4")
    told = [line.split() for line in out.splitlines() if line.split()[:1] in (["brightness"], ["embedding"])]
    assert told == [["brightness", "7", "3", "1", "3"], ["embedding", "3", "2", "1", "0"]]


def test_compute_has_the_rest_computed_and_says_what_failed(export: Export, service: StoredService) -> None:
    service.compute_now("colour", "/a.mp4")
    status, _, _ = export("colour", *assets("/a.mp4", "/b.mp4"), "--compute")
    assert status == 0
    assert pq.read_table("set/colour")["uri"].to_pylist() == ["/a.mp4"] * 3 + ["/b.mp4"] * 3
    status, _, _ = export("broken", "probe", *assets("/a.mp4"), "--compute", out="second")
    assert status == 1
    assert pq.read_table("second/broken").num_rows == 0
    lines = {r["feature"]: r for r in coverage("second")}
    assert lines["broken"]["error"] == "FeatureError: ZeroDivisionError: division by zero"
    assert (lines["broken"]["failed"], lines["probe"]["present"]) == (1, 1)


def test_the_manifest_pins_versions_code_and_parameters_all_the_way_up(
    export: Export, service: StoredService
) -> None:
    service.compute_now("embedding", "/a.mp4")
    assert export("embedding@1", *assets("/a.mp4"))[0] == 0
    assert export("embedding", *assets("/a.mp4"), "--window", "1", out="again")[0] == 0
    assert Path("set/manifest.json").read_bytes() == Path("again/manifest.json").read_bytes()
    told = manifest()
    assert (told["format"], told["assets"]) == ("amber-export/1", 1)
    mine = told["features"]["embedding"]
    assert (mine["version"], mine["code"], mine["params"]) == ("1", digest("embedding"), {"size": 224})
    assert mine["made_from"] == {"probe": {"version": "1", "code": digest("probe"), "params": {}}}
    assert mine["type"] == info("embedding", FEATURES["embedding"]).returns
    assert (mine["rows"], mine["files"]) == (1, ["embedding/part-00000.parquet"])
    assert [mine[n] for n in ("asked", "present", "failed", "missing")] == [1, 1, 0, 0]
    export("mood", *assets("/a.mp4"), out="mood")
    assert list(manifest("mood")["features"]["mood"]["made_from"]) == ["colour", "frames"]
    export("embedding", *assets("/a.mp4"), "--param", "embedding.size=64", out="small")
    assert manifest("small")["features"]["embedding"]["params"] == {"size": 64}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("probe@2",), "probe is at version 1 here, not 2"),
        (("probs",), "no feature is named 'probs'; did you mean 'probe'"),
        (("frames",), "frames is never stored: export the features that are made from it"),
        (("duplicates",), "duplicates is about a set of assets together"),
        (("probe", "--window", "0"), "--window must be at least 1 asset, not 0"),
        (("probe", "--shard-bytes", "0"), "--shard-bytes must be at least 1, not 0"),
        (("probe", "--out", "s3://bucket/set"), "--out s3://bucket/set is a URL: name a local folder"),
    ],
)
def test_what_can_not_be_is_refused_in_one_sentence(
    export: Export, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    feature, *more = words
    given = [] if "--out" in more else ["--out", "set"]
    status = main(["export", feature, *assets("/a.mp4"), "--server", "http://here", *more, *given])
    assert status == 2
    assert capsys.readouterr().err.startswith(f"amber: {says}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(export: Export, service: StoredService) -> None:
    Path("set").mkdir()
    Path("set/notes.txt").write_text("mine")
    status, _, err = export("probe", *assets("/a.mp4"))
    assert (status, err) == (2, "amber: --out set is there already and not an empty folder\n")
    assert [p.name for p in Path("set").iterdir()] == ["notes.txt"]
    Path("set/notes.txt").unlink()
    Path("set.partial").mkdir()
    status, _, err = export("probe", *assets("/a.mp4"))
    assert status == 2
    assert "set.partial is of an export that is under way or was cut off" in err
    Path("set.partial").rmdir()
    service.compute_now("probe", "/a.mp4")
    assert export("probe", *assets("/a.mp4"))[0] == 0
    assert pq.read_table("set/probe")["value"].to_pylist() == ["h264"]


@pytest.mark.parametrize(
    ("place", "error", "status"),
    [
        ("amber_ray.cli.export._written", KeyboardInterrupt(), 130),
        ("amber_ray.cli.shards.Shards.add", OSError(28, "No space left on device"), 2),
        ("amber_ray.cli.manifest.text", ValueError("a bug"), 70),
    ],
)
def test_an_export_that_is_cut_off_leaves_nothing(
    export: Export,
    service: StoredService,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: BaseException,
    status: int,
) -> None:
    def stop(*_: Any) -> None:
        raise error

    service.compute_now("embedding", "/a.mp4")
    monkeypatch.setattr(place, stop)
    assert export("embedding", *assets("/a.mp4"))[0] == status
    assert list(tmp_path.iterdir()) == []
    assert service.closed


def test_a_value_that_is_gone_is_a_failure_of_its_own(export: Export, service: StoredService) -> None:
    service.compute_now("embedding", "/a.mp4")
    service.stop = StoreError("a part is damaged")
    assert export("embedding", *assets("/a.mp4"))[0] == 1
    assert [(r["failed"], r["error"]) for r in coverage()] == [(1, "StoreError: a part is damaged")]


def test_files_are_of_bounded_size_and_read_as_one(
    export: Export, service: StoredService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "GROUP_ROWS", 4)
    uris = [f"/{i}.mp4" for i in range(5)]
    service.compute_now("brightness", *uris)
    assert export("brightness", *assets(*uris), "--shard-bytes", "1", "--window", "2")[0] == 0
    files = manifest()["features"]["brightness"]["files"]
    assert files == [f"brightness/part-0000{i}.parquet" for i in range(len(files))]
    assert [pq.read_metadata(f"set/{f}").num_rows for f in files] == [6, 6, 3]
    whole = ds.dataset("set/brightness").to_table()
    assert whole["uri"].to_pylist() == [u for u in uris for _ in range(3)]
    assert export("brightness", *assets(*uris), "--window", "2", out="one")[0] == 0
    assert manifest("one")["features"]["brightness"]["files"] == files[:1]
    assert pq.read_metadata(f"one/{files[0]}").num_row_groups == 3


def test_a_window_is_all_that_is_asked_about_at_once(export: Export, service: StoredService) -> None:
    uris = [f"/{i}.mp4" for i in range(7)]
    status, out, _ = export("probe", *assets(*uris), "--window", "3")
    assert status == 1
    assert out.endswith("coverage.parquet says what is not (--compute computes what is missing)\n")
    assert [len(r.assets) for r in service.asked_for("explain")] == [3, 3, 1]
    assert [(r["uri"], r["missing"]) for r in coverage()] == [(u, 1) for u in uris]


def test_values_are_told_as_they_come(service: StoredService) -> None:
    uris = [f"/{i}.mp4" for i in range(20)]
    service.compute_now("embedding", *uris)
    batches: list[Any] = []

    async def main() -> None:
        client = AsyncClient(service)
        table = await client.stored("embedding", uris)
        assert service.asked_for("values") == []
        await client.load(table.rows, batches.append)
        assert [len(keys) for keys in service.asked_for("values")] == [20]

    asyncio.run(main())
    assert [len(b) for b in batches] == [8, 8, 4]
    assert [r.asset for b in batches for r in b] == uris
    assert all(r.value.shape == (2, 3) for b in batches for r in b)


def test_a_failure_below_is_named_and_an_unknown_id_fails_alone(service: StoredService) -> None:
    service.compute_now("colour", "/a.mp4")
    torn = f"{digest('/b.mp4')}@0+10000000"
    failure = Failure("input", "MediaError", "it is torn", "frames", digest("frames" + torn), torn)
    service.failed = dict.fromkeys([digest("frames" + torn), digest("colour" + torn)], failure)
    nobody = "f" * 32

    async def main() -> Any:
        return await AsyncClient(service).stored("colour", ["/b.mp4", nobody, "/a.mp4"])

    rows = asyncio.run(main()).rows
    assert [(r.asset, r.state) for r in rows] == [
        *(("/b.mp4", s) for s in ("failed", "pending", "pending")),
        (nobody, "failed"),
        *(("/a.mp4", "ready") for _ in range(3)),
    ]
    assert [r.unit.start for r in rows[:3]] == [0.0, 10.0, 20.0]
    assert (rows[0].failure.step, rows[0].failure.message) == ("frames", "it is torn")
    assert rows[3].failure.type == "UnknownAsset"


def test_progress_tells_of_what_is_missing() -> None:
    tally = CatalogueProgressBar(2, shown=False)
    ready, pending = (
        Row("probe", "a", None, "k", "ready", cached=True),
        Row("probe", "b", None, "k", "pending"),
    )
    tally.add(Results([ready, pending]))
    assert (tally.ready, tally.missing, tally.failed, tally.assets) == (1, 1, 0, 2)
    assert tally.about().endswith("100% were there, 0 failed, 1 missing")


def test_what_is_there_is_found_by_one_question(service: StoredService) -> None:
    uris = [f"/{i}.mp4" for i in range(20)]
    service.compute_now("probe", *uris)
    names = [*uris[:10], "/missing.mp4", "file:///copy/1.png", digest("/11.mp4"), "/1.png", *uris[10:]]

    async def main() -> Any:
        return await AsyncClient(service).stored("probe", names)

    table = asyncio.run(main())
    assert [row.asset for row in table.rows] == names
    assert {row.asset: row.state for row in table.rows if row.state != "ready"} == {
        "/missing.mp4": "failed",
        "file:///copy/1.png": "pending",  # the same content as /1.png
        "/1.png": "pending",
    }
    assert [len(request.assets) for request in service.asked_for("explain")] == [24]
    assert sorted(service.asked_for("add_asset")) == ["/missing.mp4", "file:///copy/1.png"]


def test_found_windows_are_rows_and_counted_as_far_as_they_are_known(
    export: Export, service: StoredService
) -> None:
    service.compute_now("span", "/a.mp4")
    service.compute_now("marks", "/b.mp4")
    gone = next(key for key in service.kept if service.kept[key].value == 4.0)
    del service.kept[gone]  # as if its part were damaged
    names = assets("/a.mp4", "/b.mp4", "/c.mp4", "/missing.mp4")
    status, out, _ = export("span", *names)
    assert (status, service.asked_for("compute")) == (1, [])
    rows = pq.read_table("set/span").to_pylist()
    assert [(r["uri"], r["start"], r["length"], r["value"]) for r in rows] == [
        ("/a.mp4", 0.0, 4.0, 0.0),
        ("/a.mp4", 9.0, 3.5, 9.0),
    ]
    counts = ("asked", "present", "failed", "missing", "unknown")
    lines = {line["uri"]: tuple(line[name] for name in counts) for line in coverage()}
    assert lines == {
        "/a.mp4": (3, 2, 0, 1, 0),
        "/b.mp4": (0, 0, 0, 0, 0),  # where there is nothing, all of it is there
        "/c.mp4": (1, 0, 0, 0, 1),  # nobody has looked
        "/missing.mp4": (1, 0, 1, 0, 0),
    }
    told = [line.split() for line in out.splitlines() if "span" in line]
    assert told == [["span", "5", "2", "1", "1", "1"]]
    status, _, _ = export("span", *assets("/a.mp4", "/b.mp4", "/c.mp4"), "--compute", out="all")
    assert (status, [r["start"] for r in pq.read_table("all/span").to_pylist()]) == (0, [0.0, 4.0, 9.0, 1.0])
    assert manifest("all")["features"]["span"]["unknown"] == 0
