"""Values at rest in a directory: the contract of every store, and what only a disk can do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amber_ray.core.scheduler.costs import Means
from amber_ray.core.values import annotations as vt
from amber_ray.errors import DamagedPart, StoreError
from amber_ray.store import files as fl
from amber_ray.store import parquet, sealed
from amber_ray.store import part as pt
from amber_ray.store import rows as rw
from amber_ray.store.files import Files
from amber_ray.store.parquet import ValueStore
from tests import store_contract as kit
from tests.store_contract import FLOAT, VECTORS, StoreContract, TroubleContract, everything, key, row
from tests.store_places import InMemory, InTroubledMemory, OnDisk, OnTroubledDisk

ROOT = Path(__file__).parents[3]


class TestLocal(OnDisk, StoreContract): ...


class TestMemory(InMemory, StoreContract): ...


class TestLocalInTrouble(OnTroubledDisk, TroubleContract): ...


class TestMemoryInTrouble(InTroubledMemory, TroubleContract): ...


@pytest.fixture
def store(tmp_path: Path) -> ValueStore:
    return ValueStore(str(tmp_path / "store"))


def found(folder: str) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


# --- publishing


def test_a_part_is_not_seen_before_it_has_its_name(
    store: ValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, seen = os.replace, []

    def spy(source: str, target: str) -> None:
        seen.append((store.parts(), len(found(store.url)), os.path.getsize(source)))
        rename(source, target)

    monkeypatch.setattr(os, "replace", spy)
    part = store.write("score", "1", FLOAT, [row(0)])
    assert seen == [([], 1, part.bytes)]
    assert found(store.url) == [part.name]


def test_a_part_is_on_disk_before_it_has_its_name_and_its_name_before_it_is_told(
    store: ValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    story: list[str] = []
    rename, sync = os.replace, fl.sync
    monkeypatch.setattr(os, "replace", lambda *a: (story.append("rename"), rename(*a)))
    monkeypatch.setattr(fl, "sync", lambda p: (story.append(Path(p).suffix or Path(p).name), sync(p)))
    store.write("score", "1", FLOAT, [row(0)])
    assert story == ["score", "values", ".tmp", "rename", "1"]


@pytest.mark.parametrize("call", ["replace", "fsync", "stat"])
def test_a_write_that_fails_is_a_store_error_and_leaves_nothing(
    store: ValueStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store.write("score", "1", FLOAT, [row(0)])
    before = found(store.url)

    def fail(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os.path if call == "stat" else os, "getsize" if call == "stat" else call, fail)
        with pytest.raises(StoreError, match=r"can't be written: .*No space left on device"):
            store.write("score", "1", FLOAT, [row(1)])
    assert found(store.url) == before
    assert store.write("score", "1", FLOAT, [row(1)]).rows == 1


def test_a_full_disk_is_a_store_error_and_leaves_nothing(store: ValueStore) -> None:
    # A limit on the size of files stands for the end of the disk.
    script = f"""
import resource, signal, sys
import numpy as np
from amber_ray.errors import StoreError
from tests.store_contract import FLOAT, VECTORS, row
from amber_ray.store.parquet import ValueStore
store = ValueStore({store.url!r})
noise = np.random.default_rng(0).standard_normal((50_000, 4), "f4")
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    store.write("v", "1", VECTORS, [row(i, noise) for i in range(3)])
except StoreError as error:
    print(error)
print(store.write("score", "1", FLOAT, [row(0)]).rows)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
    )
    first, second = done.stdout.splitlines()
    assert "can't be written" in first
    assert "File too large" in first
    assert second == "1"
    assert len(found(store.url)) == 1


def test_a_store_that_can_not_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"the store '.*file/store' can't be written: .*Not a directory"):
        ValueStore(str(tmp_path / "file/store"))


def test_drafts_of_dead_processes_are_swept_once_they_are_old(store: ValueStore) -> None:
    part = store.write("score", "1", FLOAT, [row(0)])
    folder = Path(store.url) / "values/score/1"
    old, fresh, foreign = folder / f".{'0' * 16}.tmp", folder / f".{'1' * 16}.tmp", folder / ".hidden.tmp"
    for path in (old, fresh, foreign):
        path.write_bytes(b"PAR1")
    past = time.time() - fl.DRAFT_SECONDS - 60
    for path in (old, foreign):
        os.utime(path, (past, past))
    store.sweep()
    assert [p.name for p, _ in store.scan()] == [part.name]
    assert not old.exists()
    assert fresh.exists()
    assert foreign.exists()


def test_names_are_in_the_order_of_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed.time, "time_ns", lambda: 1_700_000_000_000_000_000)
    names = [pt.new_name("values/f/1", bytes([i])) for i in range(200)]
    assert names == sorted(names)
    monkeypatch.setattr(sealed.time, "time_ns", lambda: 1_600_000_000_000_000_000)  # a clock set back
    assert pt.new_name("values/f/1", b"") > names[-1]
    between = pt.new_name("values/f/1", b"x", after=names[7])
    assert names[7] < between < names[8]
    assert len(set(names)) == 200


def test_processes_may_share_a_store(store: ValueStore) -> None:
    script = (
        "import sys; from tests.store_contract import *; store = ValueStore(sys.argv[1]);"
        "[store.write('score', '1', FLOAT, [row(f'{sys.argv[2]} {i}')]) for i in range(15)]"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, store.url, name], cwd=ROOT) for name in "ab"]
    seen: dict[str, list[str]] = {}
    until = time.monotonic() + 60
    while any(w.poll() is None for w in writers) and time.monotonic() < until:
        now = kit.held(store)
        assert all(now[name] == keys for name, keys in seen.items())
        seen = now
    assert [w.wait(60) for w in writers] == [0, 0]
    assert set(everything(store)) == {key(f"{name} {i}") for name in "ab" for i in range(15)}
    assert not (Path(store.url) / "quarantine").exists()


# --- damage


def test_no_flipped_bit_is_taken_for_a_value(tmp_path: Path) -> None:
    store = ValueStore(str(tmp_path / "store"))
    type = vt.Struct("S", (("text", vt.Scalar("str")), ("vector", vt.Optional(vt.Array("float32", (2,))))))
    rows = [
        row(
            i,
            {"text": f"word {i % 3}", "vector": None if i % 4 == 0 else np.full(2, i, "f4")},
            asset=f"a{i % 2}",
        )
        for i in range(20)
    ]
    part = store.write("f", "1", type, rows)
    path = Path(store.url) / part.name
    data = path.read_bytes()
    truth = store.read(part.name, range(20))
    outcomes = {"damaged": 0, "same": 0}
    for bit in range(0, 8 * len(data), 41):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        reader = ValueStore(store.url)
        try:
            back = reader.read(part.name, range(20))
        except DamagedPart:
            outcomes["damaged"] += 1
        else:
            outcomes["same"] += 1  # in a column that is not read, or in statistics
            assert kit.gen.same([r.value for r in back], [r.value for r in truth])
            assert [(r.key, r.seconds, r.device) for r in back] == [
                (r.key, r.seconds, r.device) for r in truth
            ]
    assert outcomes["damaged"] > 500


def test_a_part_deleted_while_it_is_read_is_read_to_the_end(store: ValueStore) -> None:
    part = store.write("v", "1", VECTORS, [row(i, np.full((80_000, 4), i, "f4")) for i in range(3)])

    def use(file: pt.PartFile) -> list[Any]:
        first = file.group(0)
        ValueStore(store.url).remove_parts([part.name])
        return [first, file.group(2)]

    assert [len(t) for t in store.with_part(part.name, use)] == [1, 1]
    with pytest.raises(FileNotFoundError):
        store.read(part.name, [0])


# --- how much is read and kept


class ProgressBar:
    """Counts the bytes that are read of a file."""

    def __init__(self, file: Any) -> None:
        self.file, self.bytes, self.closed = file, 0, False

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.bytes += len(data)
        return bytes(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_one_row_is_read_without_the_rest_of_the_part(
    store: ValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    part = store.write("v", "1", VECTORS, [row(i, rng.standard_normal((128, 4), "f4")) for i in range(4000)])
    assert part.bytes > 8 << 20
    meters: list[ProgressBar] = []

    def opened(self: Files, name: str) -> pa.NativeFile:
        meters.append(ProgressBar(open(self.path(name), "rb")))  # noqa: SIM115 - closed below
        return pa.PythonFile(meters[-1], "r")

    monkeypatch.setattr(Files, "open", opened)
    reader = ValueStore(store.url)
    reader.read(part.name, [0])
    before = meters[0].bytes
    reader.read(part.name, [1234])
    assert 2048 < meters[0].bytes - before < 1.5 * pt.GROUP_BYTES
    before = meters[0].bytes
    assert len(reader.keys(part.name)) == 4000
    assert meters[0].bytes - before < 4000 * 16 * 1.5
    reader.read(part.name, [0, 1, 2, 3])
    assert len(meters) == 1
    for meter in meters:
        meter.file.close()


def test_rows_are_written_as_they_come() -> None:
    sink = pa.BufferOutputStream()
    writer = pt.PartWriter(sink, {})
    table = kit.store_table(*(row(i) for i in range(1000)))
    sizes = []
    for _ in range(20):
        writer.add(table)
        sizes.append(sink.tell())
    writer.close()
    assert writer.rows == 20_000
    assert sizes[0] == 0
    assert 0 < sizes[9] < sizes[19]
    assert pq.read_metadata(pa.BufferReader(sink.getvalue())).num_rows == 20_000


def test_few_files_stay_open(store: ValueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from amber_ray.store import parquet

    monkeypatch.setattr(parquet, "OPEN_PARTS", 3)
    for i in range(10):
        store.write("score", "1", FLOAT, [row(i)])
    before = len(os.listdir("/proc/self/fd"))
    assert len(everything(store)) == 10
    assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_values_are_compressed_where_it_helps(store: ValueStore) -> None:
    rng = np.random.default_rng(0)
    noise = store.write("v", "1", VECTORS, [row(i, rng.standard_normal((64, 4), "f4")) for i in range(50)])
    text = store.write("s", "1", vt.Scalar("str"), [row(i, "to be or not to be " * 20) for i in range(50)])
    codecs = {}
    for part in (noise, text):
        with store.files.open(part.name) as handle:
            group = pq.read_metadata(handle).row_group(0)
        columns = [group.column(i) for i in range(group.num_columns)]
        codecs[part.feature] = {c.path_in_schema: c.compression for c in columns}
    assert codecs["v"]["value.list.element.list.element"] == "UNCOMPRESSED"
    assert codecs["s"]["value"] == "ZSTD"
    assert codecs["s"]["unit"] == "ZSTD"
    assert codecs["s"]["key"] == codecs["s"]["inputs.list.element"] == "UNCOMPRESSED"


def test_compaction_leaves_large_parts_and_those_before_them(
    store: ValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).standard_normal((1000, 4), "f4")
    parts = [store.write("v", "1", VECTORS, [row(i, noise if i == 2 else noise[:1])]) for i in range(6)]
    names = [part.name for part in parts]
    size = max(part.bytes for i, part in enumerate(parts) if i != 2)
    assert parts[2].bytes > 3 * size
    monkeypatch.setattr(parquet, "SMALL_BYTES", 2 * size)
    monkeypatch.setattr(parquet, "JOIN_BYTES", 2 * size)
    old, new = store.compact("v", "1")
    assert old == names[:2]
    assert new is not None
    store.remove_parts([new.name])
    monkeypatch.setattr(parquet, "JOIN_BYTES", 10 * size)
    assert store.compact("v", "1")[0] == names[3:]


# --- what is as it was written, and can't be read here


def test_a_part_with_a_type_of_a_later_amber_is_left_where_it_is(store: ValueStore) -> None:
    class Later:
        def spec(self) -> Any:
            return {"kind": "hologram"}

    part = store.publish("score", "1", Later(), Means(0.0, 0.0), [kit.store_table()])  # type: ignore[arg-type]
    late: list[str] = []
    assert list(ValueStore(store.url).scan(late=late)) == []
    assert late == store.parts() == [part.name]


def test_a_column_that_this_arrow_can_not_read_damages_nothing(
    store: ValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = store.write("score", "1", FLOAT, [row(0)])

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError("Support for codec 'zstd' not built")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read", fail)
        patch.setattr(pq.ParquetFile, "read_row_group", fail)
        for use in (lambda: store.keys(part.name), lambda: store.read(part.name, [0])):
            with pytest.raises(StoreError, match="codec 'zstd' not built") as caught:
                use()
            assert not isinstance(caught.value, DamagedPart)
    assert store.parts() == [part.name]
    assert store.read(part.name, [0])[0].value == 0.5


def test_a_dataclass_that_refuses_what_was_stored_damages_nothing(store: ValueStore) -> None:
    @dataclass
    class Positive:
        number: int

        def __post_init__(self) -> None:
            if self.number < limit[0]:
                raise ValueError("it must be positive")

    limit = [-5]
    type = vt.parse(Positive)
    part = store.write("f", "1", type, [row(0, Positive(-1))])
    limit[0] = 0
    with pytest.raises(StoreError, match=r"values of part .* can't be made: .*must be positive") as caught:
        store.read(part.name, [0], type)
    assert not isinstance(caught.value, DamagedPart)
    assert store.read(part.name, [0])[0].value == {"number": -1}
    assert store.parts() == [part.name]


# --- others read it


def test_duckdb_reads_the_store_without_amber(store: ValueStore) -> None:
    type = vt.Struct(
        "Shot",
        (("start", FLOAT), ("label", vt.Optional(vt.Scalar("str"))), ("vector", vt.Array("float32", (4,)))),
    )
    for n in range(2):
        rows = [
            row(
                f"{n} {i}",
                {"start": float(i), "label": None if i else "night", "vector": np.full(4, i + 0.5, "f4")},
                asset=f"a{i}",
            )
            for i in range(3)
        ]
        store.write("shot", "1", type, rows)
    store.write("picture", "1", vt.Array("uint8", (None, None, 3)), [row("p", np.ones((2, 2, 3), "u1"))])
    store.write("half", "1", vt.Array("float16", (2,)), [row("h", np.array([0.5, -2], "f2"))])
    ask = duckdb.connect().sql
    glob = f"{store.url}/values/shot/*/*.parquet"
    what = "asset, value.start, value.label, value.vector, seconds"
    rows_ = ask(f"select {what} from '{glob}' order by all").fetchall()
    assert len(ask(f"select * from '{glob}'").fetchall()) == 6
    assert rows_[0] == ("a0", 0.0, "night", [0.5] * 4, 1.5)
    assert rows_[-1] == ("a2", 2.0, None, [2.5] * 4, 1.5)
    assert len(rows_) == 6
    (hit,) = ask(f"select value.start from '{glob}' where key = unhex('{key('0 1')}')").fetchall()
    assert hit == (1.0,)
    ((shape, data, created),) = ask(
        f"select value.shape, value.data, created from '{store.url}/values/picture/*/*.parquet'"
    ).fetchall()
    assert (shape, data) == ([2, 2, 3], b"\1" * 12)
    assert created.isoformat() == "2023-11-14T22:13:20.250000"
    assert ask(f"select value from '{store.url}/values/half/*/*.parquet'").fetchall() == [([0.5, -2.0],)]


def test_pyarrow_reads_the_store_without_amber(store: ValueStore) -> None:
    store.write("v", "1", VECTORS, [row(i, np.full((i, 4), i, "f4")) for i in range(3)])
    table = pq.read_table(f"{store.url}/values/v")
    assert table.column_names == [
        "key",
        "asset",
        "unit",
        "params",
        "value",
        "inputs",
        "code",
        "seconds",
        "device",
        "created",
        "found",
    ]
    assert table.column("value").to_pylist() == [[[i] * 4] * i for i in range(3)]
    assert table.column("inputs")[0].as_py() == [bytes.fromhex(key("in")), bytes.fromhex(key("in 0"))]


SHOT = vt.Struct("Shot", (("start", FLOAT), ("name", vt.Optional(vt.Scalar("str"))), ("v", VECTORS)))
KINDS: dict[str, tuple[vt.ValueType, Any]] = {
    "number": (FLOAT, 0.5),
    "text": (vt.Scalar("str"), "a"),
    "nothing": (vt.Optional(FLOAT), None),
    "struct": (SHOT, {"start": 1.0, "name": None, "v": np.ones((2, 4), "f4")}),
    "array": (vt.Array("float32", (4,)), np.ones(4, "f4")),
    "picture": (vt.Array("uint8", (None, None, 3)), np.ones((2, 2, 3), "u1")),
    "half": (vt.Array("float16", (2,)), np.ones(2, "f2")),
}
READERS: dict[str, Callable[[str], Sequence[str]]] = {
    "pandas": lambda path: list(pandas.read_parquet(path).columns),
    "polars": lambda path: polars.read_parquet(path).columns,
    "duckdb": lambda path: list(duckdb.sql(f"select * from '{path}'").fetchnumpy()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_every_column_is_read_by_others(store: ValueStore, reader: str, kind: str) -> None:
    type, value = KINDS[kind]
    part = store.write("v", "1", type, [row(0, value), row(1, value)])
    assert len(READERS[reader](f"{store.url}/{part.name}")) == 11


def test_an_old_part_is_read_and_joined_with_new_ones(
    store: ValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 0.1 `inputs` was a list of fixed-size values, which pandas can't read."""
    with monkeypatch.context() as then:
        then.setattr(rw, "INPUTS", pa.list_(rw.KEY))
        old = store.write("v", "1", FLOAT, [row(0, 0.25)])
    new = store.write("v", "1", FLOAT, [row(1, 0.75)])
    path = f"{store.url}/{old.name}"
    assert pq.read_schema(path).field("inputs").type == pa.list_(rw.KEY)
    assert store.read(old.name, [0])[0].value == 0.25
    removed, joined = store.compact("v", "1", 2)
    assert joined is not None
    assert set(removed) == {old.name, new.name}
    table = pandas.read_parquet(f"{store.url}/{joined.name}")
    assert sorted(table["value"]) == [0.25, 0.75]
    assert {tuple(inputs) for inputs in table["inputs"]} == {
        (bytes.fromhex(key("in")), bytes.fromhex(key(f"in {n}"))) for n in range(2)
    }


def test_windows_that_were_found_are_told_from_the_grid_s_and_old_parts_are_the_grid_s(
    store: ValueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as then:
        plain = rw.table_of
        then.setattr(rw, "table_of", lambda type, rows: plain(type, rows).drop_columns(["found"]))
        then.setattr(rw, "as_now", lambda table: table)
        old = store.write("v", "1", FLOAT, [row(0, 0.25)])
    assert "found" not in pq.read_schema(f"{store.url}/{old.name}").names
    store.write("v", "1", FLOAT, [row(1, 0.5), row(2, 0.75)._replace(found=True)])
    assert store.read(old.name, [0])[0].value == 0.25
    _, joined = store.compact("v", "1", 2)
    assert joined is not None
    table = pandas.read_parquet(f"{store.url}/{joined.name}")
    assert dict(zip(table["value"], table["found"], strict=True)) == {0.25: False, 0.5: False, 0.75: True}


def test_threads_that_close_a_part_under_each_other(store: ValueStore) -> None:
    parts = [
        store.write("score", "1", FLOAT, [row(f"{p} {i}", float(i)) for i in range(20)]) for p in range(3)
    ]
    wrong: list[BaseException] = []

    def work(n: int) -> None:
        try:
            for i in range(60):
                assert store.read(parts[(n + i) % 3].name, [i % 20])[0].value == i % 20
                store.close(parts[i % 3].name)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_store_changes_nothing_behind_its_fence(tmp_path: Path) -> None:
    def closed() -> None:
        raise StoreError("not now")

    store, fenced = ValueStore(str(tmp_path)), ValueStore(str(tmp_path), closed)
    parts = [store.write("score", "1", FLOAT, [row(i), row(f"{i}", asset="a2", unit="a2")]) for i in range(3)]
    before = found(store.url)
    for change in (
        lambda: fenced.write("score", "1", FLOAT, [row(0)]),
        lambda: fenced.compact("score", "1"),
        lambda: fenced.purge(asset="a2"),
        lambda: fenced.purge(asset="a2", late=[]),
        lambda: fenced.remove_parts([parts[0].name]),
    ):
        with pytest.raises(StoreError, match="not now"):
            change()
    (tmp_path / parts[0].name).write_bytes(b"PAR1")
    with pytest.raises(DamagedPart, match="could not be moved to quarantine"):
        fenced.read(parts[0].name, [0])
    assert found(store.url) == before


def test_a_lease_that_ends_while_a_part_is_written_keeps_it_from_being_published(tmp_path: Path) -> None:
    sure = [True]

    def fence() -> None:
        if not sure[0]:
            raise StoreError("not now")

    def tables() -> Any:
        sure[0] = False
        yield kit.store_table()

    with pytest.raises(StoreError, match="not now"):
        ValueStore(str(tmp_path), fence).publish("score", "1", FLOAT, Means(0.0, 0.0), tables())
    assert found(str(tmp_path)) == []
