"""What a value store must do, whatever it is kept in; each kind of store inherits these tests."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from amber_ray.core.model.pages import Told
from amber_ray.core.model.provenance import ValueInfo
from amber_ray.core.planning.homes import Share
from amber_ray.core.scheduler.costs import Means
from amber_ray.core.values import annotations as vt
from amber_ray.core.values.annotations import parse
from amber_ray.errors import DamagedPart, DamagedRecord, StoreError
from amber_ray.store import known_keys, provenance, sealed
from amber_ray.store import part as pt
from amber_ray.store.files import Draft, Files
from amber_ray.store.journal import Journal
from amber_ray.store.key_index import hexed
from amber_ray.store.parquet import Part, Row, ValueStore
from amber_ray.store.rows import table_of
from tests import values as gen
from tests.store_faults import ERRORS, Trouble

FLOAT = vt.Scalar("float")
VECTORS = vt.Array("float32", (None, 4))


def key(name: Any) -> str:
    return hashlib.blake2b(str(name).encode(), digest_size=16).hexdigest()


def row(name: Any, value: Any = 0.5, **changes: Any) -> Row:
    told: dict[str, Any] = {
        "key": key(name),
        "asset": "a1",
        "unit": "a1",
        "params": '{"fps": 2.0}',
        "value": value,
        "inputs": (key("in"), key(f"in {name}")),
        "code": "c0de",
        "seconds": 1.5,
        "device": "cpu",
        "created": 1_700_000_000.25,
    }
    return Row(**told | changes)


def told(row: Row, feature: str = "score", version: str = "1") -> ValueInfo:
    """What is told of a row beside its value."""
    how = json.loads(row.params), row.found, row.created, row.seconds, row.device, row.code, row.inputs
    return ValueInfo(row.key, feature, version, row.unit, *how, stored=True)


@dataclass
class Face:
    score: float
    box: list[int]
    vector: np.ndarray
    name: str | None = None


def packed(*names: Any) -> bytes:
    return bytes.fromhex("".join(map(key, names)))


def held(store: ValueStore) -> dict[str, list[str]]:
    """Keys by part, as a new process would find them."""
    return {part.name: hexed(keys) for part, keys in store.scan()}


def everything(store: ValueStore) -> dict[str, Any]:
    """Values by key; of a key that is there twice, the newest."""
    return {r.key: r.value for part, keys in held(store).items() for r in store.read(part, range(len(keys)))}


def below(url: str, folder: str) -> list[str]:
    """Paths of all files in a folder of a store, whatever their names."""
    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return list(fs.find(f"{root}/{folder}"))


ASSETS = [[f"a{n}" for n in range(60) if Share(shard, 3).has(f"a{n}")] for shard in range(3)]
"""Assets that each of three shards owns."""


def publish(store: ValueStore, share: Share | None, salt: str = "") -> Part:
    """A part of a value for each asset that a shard of three owns, or for all of them."""
    names = [name for names in ASSETS for name in names] if share is None else ASSETS[share.shard]
    made = table_of(FLOAT, [row(name + salt, asset=name, unit=name) for name in names])
    return store.publish("score", "1", FLOAT, Means(1.0, 8.0), [made], share=share)


def owned(store: ValueStore, share: Share) -> dict[str, list[tuple[int, str]]]:
    """Rows and keys by part, as a shard would index them."""
    return {
        part.name: list(zip(range(len(keys)) if rows is None else rows.tolist(), hexed(keys), strict=True))
        for part, keys, rows in store.owned(share)
        if len(keys)
    }


def opens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of parts whose keys are read from now on."""
    opened: list[str] = []
    keys = ValueStore.keys

    def noted(store: ValueStore, part: str) -> np.ndarray:
        opened.append(part)
        return keys(store, part)

    monkeypatch.setattr(ValueStore, "keys", noted)
    return opened


class Crash(BaseException):
    """The process ends here."""


class StoreContract:
    """`url` is a fixture of the subclass: an empty store's."""

    @pytest.fixture
    def store(self, url: str) -> ValueStore:
        return ValueStore(url)

    @pytest.fixture
    def files(self, url: str) -> Files:
        return Files(url)

    # --- what is told beside values

    def test_the_values_about_an_asset_are_told_in_order_by_their_newest_rows(
        self, store: ValueStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a, b = key("a"), key("b")
        rows = [
            row(f"{asset}{i}", asset=asset, unit=f"{asset}@{i * 10}+10", found=i == 3)
            for asset in (b, a)
            for i in range(40)
        ]
        store.write("score", "1", FLOAT, rows)
        newer = rows[41]._replace(seconds=9.0, created=1_800_000_000.0)
        store.write("score", "1", FLOAT, [newer, row("other", asset=b, unit=b)])
        whole = row("whole", asset=a, unit=a)
        together = row("set", asset=None, unit=f"{{{b},{a}}}")
        store.write("both", "2", FLOAT, [together, row("alone", asset=None, unit=f"{{{b}}}")])
        store.write("score", "2", FLOAT, [whole])
        mine = [told(newer if one.key == newer.key else one) for one in rows[40:]]
        expected = [told(together, "both", "2"), *mine, told(whole, "score", "2")]
        for most in (1, 3, 1000):
            found: list[ValueInfo] = []
            after = None
            while True:
                some = provenance.about(store, a, None, None, after, most)
                assert len(some.values) <= most
                found += some.values
                if (after := some.end) is None:
                    break
            assert found == expected
        assert provenance.about(store, a, "score", "2", None, 5).values == (expected[-1],)
        assert provenance.about(store, a, "both", "1", None, 5).values == ()
        assert provenance.about(store, key("c"), None, None, None, 5) == Told()
        monkeypatch.setattr(provenance, "LOOKED_THROUGH", 1)  # a page ends, and the next one goes on
        some = provenance.about(store, a, None, None, None, 1000)
        assert some.values == (expected[0],)
        assert provenance.about(store, a, None, None, some.end, 1000).values == tuple(mine)

    def test_rows_are_told_by_their_keys_without_their_values(self, store: ValueStore) -> None:
        rows = [row(i) for i in range(5)]
        name = store.write("score", "1", FLOAT, rows).name
        wanted = {name: [(3, rows[3].key), (1, rows[1].key), (2, key("moved"))], "values/score/1/gone": []}
        assert provenance.rows(store, wanted) == {rows[i].key: told(rows[i]) for i in (1, 3)}

    # --- one part

    def test_rows_come_back_in_the_order_asked_for(self, store: ValueStore) -> None:
        part = store.write("score", "1", FLOAT, [row(i, float(i), device=f"gpu {i}") for i in range(10)])
        assert part == Part(part.name, "score", "1", 10, part.bytes)
        assert pt.NAME.fullmatch(part.name.removeprefix("values/score/1/"))
        found = store.read(part.name, [7, 0, 7, 9])
        assert [r.value for r in found] == [7.0, 0.0, 7.0, 9.0]
        assert [r.key for r in found] == [key(7), key(0), key(7), key(9)]
        assert (found[0].seconds, found[0].device, found[0].created) == (1.5, "gpu 7", 1_700_000_000.25)
        assert [r.value for r in store.read(part.name, range(9, -1, -1))] == [float(9 - i) for i in range(10)]
        assert store.read(part.name, []) == []

    def test_another_process_finds_them(self, store: ValueStore, url: str) -> None:
        parts = [store.write("score", "1", FLOAT, [row(f"{i} {j}") for j in range(3)]) for i in range(3)]
        parts.append(store.write("other", "2.0-b", FLOAT, [row("other")]))
        other = ValueStore(url)
        assert other.parts() == [p.name for p in parts]
        found = list(other.scan())
        assert [part for part, _ in found] == parts
        assert found[1][1].dtype == np.uint8
        assert found[1][1].tobytes() == packed("1 0", "1 1", "1 2")
        assert other.keys(parts[3].name).tobytes() == packed("other")

    def test_values_of_every_kind_come_back(self, store: ValueStore) -> None:
        nan = np.frombuffer(bytes.fromhex("efbeadff"), "f4")
        for annotation, values in [
            (float, [-0.0, float("nan")]),
            (str | None, ["", None, "naïve"]),
            (list[int], [[], [1, 2]]),
            (dict, [{"a": [None, 1.5]}, {}]),
            (np.ndarray, [nan, np.zeros((0, 3)), np.array(True)]),
        ]:
            type = parse(annotation)
            part = store.write("f", "1", type, [row(i, v) for i, v in enumerate(values)])
            assert gen.same([r.value for r in store.read(part.name, range(len(values)))], values)

    def test_dataclasses_come_back_as_such_while_the_type_is_the_same(self, store: ValueStore) -> None:
        type = parse(list[Face])
        faces = [Face(0.5, [1, 2], np.ones(3), "x"), Face(1.0, [], np.zeros(0))]
        part = store.write("faces", "1", type, [row("f", faces)])
        (back,) = store.read(part.name, [0], type)
        assert gen.same(back.value, faces)
        assert isinstance(back.value[0], Face)
        for declared in (None, FLOAT, parse(list[dict])):
            (back,) = store.read(part.name, [0], declared)
            assert back.value[1]["box"] == []
            assert isinstance(back.value[0], dict)

    def test_large_values_are_in_row_groups_of_their_own(self, store: ValueStore, files: Files) -> None:
        value = np.zeros((75_000, 4), "f4")
        part = store.write("v", "1", VECTORS, [row(i, value + i) for i in range(4)])
        with files.open(part.name) as handle:
            assert pq.read_metadata(handle).num_row_groups == 4
        assert float(store.read(part.name, [2])[0].value[0, 0]) == 2.0

    def test_a_row_that_is_not_there_is_an_error_and_no_damage(self, store: ValueStore) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        for wrong in (1, -1):
            with pytest.raises(Exception, match="has 1 rows") as caught:
                store.read(part.name, [0, wrong])
            assert not isinstance(caught.value, DamagedPart)
        assert store.parts() == [part.name]

    def test_a_part_without_rows_is_refused(self, store: ValueStore) -> None:
        with pytest.raises(ValueError, match="at least one row"):
            store.write("score", "1", FLOAT, [])
        with pytest.raises(ValueError, match="32 hex digits"):
            store.write("score", "1", FLOAT, [row(0, key="ab")])
        assert store.parts() == []

    def test_a_failed_write_leaves_nothing(self, store: ValueStore, url: str) -> None:
        with pytest.raises(Exception, match="str"):
            store.write("score", "1", FLOAT, [row(0), row(1, "x" * 100)])

        def tables() -> Iterator[Any]:
            yield store_table()
            raise RuntimeError("stopped in the middle")

        with pytest.raises(RuntimeError, match="in the middle"):
            store.publish("score", "1", FLOAT, Means(0.0, 0.0), tables())
        assert store.parts() == []
        assert below(url, "values") == []

    # --- the listing is the index

    def test_later_parts_come_later_whatever_they_are_named_for(self, store: ValueStore) -> None:
        names = [store.write(f, "1", FLOAT, [row(f)]).name for f in ("z", "a", "m", "b")]
        assert store.parts() == names

    def test_what_is_no_part_is_not_listed(self, store: ValueStore, files: Files) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        for name in ("values/score/1/part-x.parquet", "values/score/1/note.txt", "values/part-0.parquet"):
            files.write(name, b"x")
        files.write(f"values/score/1/deeper/{pt.order(part.name)}", b"x")
        assert store.parts() == [part.name]

    def test_a_part_that_has_gone_is_not_found(self, store: ValueStore, url: str) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        store.read(part.name, [0])
        ValueStore(url).remove_parts([part.name, part.name])
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                ValueStore(url).read(part.name, [0])
        assert list(store.scan()) == []

    def test_costs_are_of_the_newest_parts(self, store: ValueStore) -> None:
        assert store.costs() == {}
        for seconds in (100.0, 1.0, 2.0, 3.0, 4.0):
            store.write("score", "1", FLOAT, [row(i, seconds=seconds) for i in range(2)])
        store.write("v", "2", VECTORS, [row("v", np.zeros((1000, 4), "f4"), seconds=9.0)])
        costs = store.costs()
        assert costs["score", "1"] == (2.5, pytest.approx(8, abs=1), None)
        assert costs["v", "2"] == (9.0, pytest.approx(16_000, rel=0.01), None)

    def test_how_many_ranges_a_finder_finds_is_told_by_parts_that_know_it(self, store: ValueStore) -> None:
        made = table_of(FLOAT, [row("x"), row("y")])
        for ranges in (None, 10.0, 20.0):
            store.publish("score", "1", FLOAT, Means(1.0, 8.0, ranges), [made])
        assert store.costs()["score", "1"] == (1.0, 8.0, 15.0)
        old, _ = store.compact("score", "1", min_parts=3)
        store.remove_parts(old)
        assert store.costs()["score", "1"].ranges == 20.0  # whose rows are the newest

    # --- whose values a part has

    def test_a_part_tells_whose_values_it_has_and_other_shards_do_not_open_it(
        self, store: ValueStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts = {shard: publish(store, Share(shard, 3)) for shard in range(3)}
        assert {shard: pt.share_of(part.name) for shard, part in parts.items()} == {
            shard: Share(shard, 3) for shard in range(3)
        }
        opened = opens(monkeypatch)
        for shard, part in parts.items():
            assert owned(store, Share(shard, 3)) == {part.name: list(enumerate(map(key, ASSETS[shard])))}
        assert opened == [part.name for part in parts.values()]
        assert [part.name for part, _ in store.scan()] == [part.name for part in parts.values()]

    @pytest.mark.parametrize("shards", [1, 2, 4, 5])
    def test_any_number_of_shards_finds_each_value_once_and_in_its_own_index(
        self, store: ValueStore, shards: int
    ) -> None:
        for shard in range(3):
            publish(store, Share(shard, 3))
        publish(store, None, "older")  # of an Amber that does not tell, or of a single shard
        together = [row("several", asset=None, unit="{a1,a2}"), row("one more")]
        store.write("match", "1", FLOAT, together)
        found: dict[str, tuple[str, int]] = {}
        for shard in range(shards):
            share = Share(shard, shards)
            for name, rows in owned(store, share).items():
                for at, its in rows:
                    (back,) = store.read(name, [at])
                    assert back.key == its
                    assert its not in found, "two shards have it"
                    found[its] = name, at
        everywhere = {its for keys in held(store).values() for its in keys}
        assert set(found) == everywhere

    def test_a_shard_owns_what_its_assets_say(self, store: ValueStore) -> None:
        part = publish(store, None)
        for shard in range(3):
            every = [name for names in ASSETS for name in names]
            at = [n for n, name in enumerate(every) if Share(shard, 3).has(name)]
            assert [row for row, _ in owned(store, Share(shard, 3)).get(part.name, [])] == at
            assert store.shares(part.name, 3)[shard].tolist() == at

    def test_parts_of_one_shard_are_joined_whoever_writes_between_them(self, store: ValueStore) -> None:
        mine = [publish(store, Share(1, 3), str(n)) for n in range(2)]
        publish(store, Share(0, 3))
        mine += [publish(store, Share(1, 3), str(n)) for n in (1, 2)]
        old, new = store.compact("score", "1", 4)
        assert old == [part.name for part in mine]
        assert new is not None
        assert pt.share_of(new.name) == Share(1, 3)
        assert new.rows == 3 * len(ASSETS[1])  # one of them was written twice

    @pytest.mark.parametrize("between", [None, Share(1, 4)])
    def test_parts_of_another_number_of_shards_are_not_passed_over(
        self, store: ValueStore, between: Share | None
    ) -> None:
        """A value between may be newer than one of an older part; the joined part counts as the newest."""
        publish(store, Share(1, 3))
        publish(store, between)
        newer = [publish(store, Share(1, 3)) for _ in range(2)]
        old, new = store.compact("score", "1", 2)
        assert old == [part.name for part in newer]
        assert new is not None

    def test_what_a_purge_leaves_of_a_part_tells_whose_it_is(self, store: ValueStore) -> None:
        publish(store, Share(1, 3))
        ((_, new, _, _),) = store.purge(asset=ASSETS[1][0])
        assert new is not None
        assert pt.share_of(new.name) == Share(1, 3)
        assert owned(store, Share(1, 3))[new.name] == list(enumerate(map(key, ASSETS[1][1:])))

    # --- keys that are noted

    def test_a_start_opens_only_parts_whose_keys_are_not_noted(
        self, store: ValueStore, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(known_keys, "LEAST", 3)
        share = Share(1, 3)
        parts = [publish(store, share, str(n)) for n in range(2)]
        parts.append(publish(store, None))  # of which it owns some rows
        publish(store, Share(0, 3))
        before = owned(store, share)
        assert store.note(share) == 3
        assert store.note(share) == 0
        later = publish(store, share, "later")
        store.remove_parts([parts[0].name])
        del before[parts[0].name]
        opened = opens(monkeypatch)
        again = owned(ValueStore(url), share)
        assert again == before | {later.name: list(enumerate(key(name + "later") for name in ASSETS[1]))}
        assert list(again) == [parts[1].name, parts[2].name, later.name]
        assert opened == [later.name]
        for other in (Share(0, 3), Share(1, 4)):  # theirs are not noted
            assert owned(store, other)
        opened.clear()
        everything_owned = owned(store, Share(0, 1))
        assert parts[1].name not in opened  # a reader of the whole store takes what is wholly a shard's own
        assert parts[2].name in opened
        assert everything_owned == {
            name: list(enumerate(keys)) for name, keys in held(ValueStore(url)).items()
        }

    def test_few_parts_are_not_worth_noting(self, store: ValueStore, url: str) -> None:
        publish(store, Share(1, 3))
        assert store.note(Share(1, 3)) == 0
        assert below(url, "index") == []

    def test_noted_keys_are_in_few_files(
        self, store: ValueStore, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(known_keys, "LEAST", 1)
        for n in range(9):
            store.write("score", "1", FLOAT, [row(n)])
            assert store.note(Share(0, 1)) == 1
        assert len(below(url, "index")) <= 4
        opened = opens(monkeypatch)
        assert len(list(ValueStore(url).owned(Share(0, 1)))) == 9
        assert opened == []
        assert len(store.purge(feature="score")) == 9
        assert list(store.owned(Share(0, 1))) == []
        store.write("score", "1", FLOAT, [row("x")])
        assert store.note(Share(0, 2)) + store.note(Share(1, 2)) == 2  # the number of shards has changed
        assert len(below(url, "index")) == 2

    @pytest.mark.parametrize("spoiled", ["start", "end", "half"])
    def test_damaged_notes_cost_time_and_are_made_anew(
        self, store: ValueStore, files: Files, url: str, monkeypatch: pytest.MonkeyPatch, spoiled: str
    ) -> None:
        monkeypatch.setattr(known_keys, "LEAST", 2)
        share = Share(0, 1)
        names = [store.write("score", "1", FLOAT, [row(n)]).name for n in range(3)]
        store.note(share)
        before = owned(store, share)
        (path,) = below(url, "index")
        changes: dict[str, Any] = {
            "start": lambda data: bytes([*data[:9], data[9] ^ 1, *data[10:]]),
            "end": lambda data: bytes([*data[:-20], data[-20] ^ 1, *data[-19:]]),
            "half": lambda data: bytes(data[: len(data) // 2]),
        }
        self.spoil(files, "index/" + path.rpartition("/")[2], changes[spoiled])
        opened = opens(monkeypatch)
        assert owned(ValueStore(url), share) == before
        assert opened == names
        for n in range(2):
            store.write("score", "1", FLOAT, [row(f"new {n}")])
        assert store.note(share) in (2, 5)
        opened.clear()
        assert len(owned(ValueStore(url), share)) == 5
        assert len(opened) in (0, 3)

    @pytest.mark.parametrize("at", ["draft", "publish", "delete"])
    def test_a_crash_while_keys_are_noted_loses_nothing(
        self, store: ValueStore, url: str, monkeypatch: pytest.MonkeyPatch, at: str
    ) -> None:
        monkeypatch.setattr(known_keys, "LEAST", 1)
        share = Share(0, 1)
        store.write("score", "1", FLOAT, [row("a")])
        store.note(share)
        store.write("score", "1", FLOAT, [row("b")])
        before = owned(store, share)

        def crash(*_: Any, **__: Any) -> None:
            raise Crash

        with monkeypatch.context() as patch:
            place = {"draft": (known_keys.SealedWriter, "close"), "publish": (Draft, "publish")}
            patch.setattr(*place.get(at, (Files, "remove")), crash)
            with pytest.raises(Crash):
                store.note(share)
        assert owned(ValueStore(url), share) == before
        ValueStore(url).note(share)
        opened = opens(monkeypatch)
        assert owned(ValueStore(url), share) == before
        assert opened == []

    # --- upkeep

    def test_compaction_keeps_the_newest_row_of_each_key(self, store: ValueStore) -> None:
        for value, names in ((1.0, "ab"), (2.0, "bc"), (3.0, "cdc")):
            store.write("score", "1", FLOAT, [row(n, value, seconds=value) for n in names])
        store.write("other", "1", FLOAT, [row("x")])
        before = everything(store)
        names = store.parts()
        old, new = store.compact("score", "1", min_parts=3)
        assert old == names[:3]
        assert new is not None
        assert new.rows == 4
        assert everything(store) == before
        store.remove_parts(old)
        assert (
            everything(store)
            == before
            == {key("a"): 1.0, key("b"): 2.0, key("c"): 3.0, key("d"): 3.0} | {key("x"): 0.5}
        )
        assert len(store.parts()) == 2
        assert store.costs()["score", "1"][0] == pytest.approx((1 + 2 + 3 + 3) / 4, rel=0.1)
        assert store.compact("score", "1") == ([], None)

    def test_too_few_parts_stay_as_they_are(self, store: ValueStore) -> None:
        for i in range(2):
            store.write("score", "1", FLOAT, [row(i)])
        assert store.compact("score", "1", min_parts=3) == ([], None)
        assert store.compact("score", "2") == ([], None)
        assert store.compact("scor", "1") == ([], None)

    def test_a_value_written_while_parts_are_joined_is_newer_than_they(self, store: ValueStore) -> None:
        for i in range(2):
            store.write("score", "1", FLOAT, [row("a", float(i))])
        joined, publish = threading.Event(), store.publish

        def late(*args: Any, **kwargs: Any) -> Part:
            publish("score", "1", FLOAT, Means(0.0, 0.0), [store_table(row("a", 9.0))])
            joined.set()
            return publish(*args, **kwargs)

        store.publish = late  # type: ignore[method-assign]
        old, _ = store.compact("score", "1")
        assert joined.is_set()
        assert everything(store) == {key("a"): 9.0}
        store.remove_parts(old)
        assert everything(store) == {key("a"): 9.0}

    def test_only_parts_of_one_type_are_joined(self, store: ValueStore) -> None:
        store.write("f", "1", vt.Scalar("str"), [row("a", "text")])
        for i in range(2):
            store.write("f", "1", FLOAT, [row(i)])
        names = store.parts()
        old, new = store.compact("f", "1")
        assert old == names[1:]
        assert new is not None
        store.remove_parts(old)
        assert everything(store) == {key("a"): "text", key(0): 0.5, key(1): 0.5}
        assert store.compact("f", "1") == ([], None)

    @pytest.mark.parametrize(
        ("wanted", "left"),
        [
            ({"feature": "score"}, "x y"),
            ({"version": "2"}, "a b c x"),
            ({"feature": "score", "version": "2"}, "a b c x y"),
            ({"asset": "a1"}, "b c x y"),
            ({"asset": "a2", "feature": "score"}, "a x y"),
            ({"asset": "a"}, "a b c x y"),
            ({"asset": "a1,a3"}, "a b c x y"),
            ({"asset": ("a4", "a1", "a0")}, "b c"),
            ({"asset": ("a3", "a9"), "version": "1"}, "a b x y"),
        ],
        ids=str,
    )
    def test_purge(self, store: ValueStore, wanted: dict[str, Any], left: str) -> None:
        rows = [row("a"), row("b", asset="a2"), row("c", asset=None, unit="{a2,a3}")]
        first = store.write("score", "1", FLOAT, rows)
        store.write("other", "1", FLOAT, [row("x", asset="a4")])
        store.write("other", "2", FLOAT, [row("y", asset="a4")])
        names = store.parts()
        changes = store.purge(**wanted)
        assert set(everything(store)) == set(map(key, left.split()))
        gone = set(map(key, "abcxy")) - set(map(key, left.split()))
        assert {k for _, _, _, dropped in changes for k in dropped} == gone
        for old, new, kept, _ in changes:
            assert old in names
            assert old not in store.parts()
            assert (new is None) == (not len(kept))
            if new is not None:
                assert store.keys(new.name).tobytes() == kept.tobytes()
                assert store.parts().index(new.name) == names.index(first.name)

    def test_purge_of_a_large_part_keeps_the_rest(self, store: ValueStore) -> None:
        rows = [row(i, np.full((20_000, 4), i, "f4"), asset=f"a{i % 3}") for i in range(12)]
        store.write("v", "1", VECTORS, rows)
        store.purge(asset="a1")
        values = everything(store)
        assert {k: float(v[-1, -1]) for k, v in values.items()} == {
            key(i): i for i in range(12) if i % 3 != 1
        }

    # --- purging again

    def test_a_part_published_after_a_purge_is_purged_by_applying_it_again(
        self, store: ValueStore, url: str
    ) -> None:
        at = 1_700_000_100.5
        store.write("score", "1", FLOAT, [row("early", created=at - 50), row("other", asset="a2")])
        store.purge(asset="a1", made_before=at)
        assert set(everything(store)) == {key("other")}
        straggler = ValueStore(url)  # of a process that has died: it knows nothing of the purge
        late = straggler.write(
            "score",
            "1",
            FLOAT,
            [
                row("before", created=at - 0.000_001),
                row("then", created=at),
                row("after", created=at + 0.000_001),
                row("with", asset=None, unit="{a1,a2}", created=at - 1),
                row("of another", asset="a2", created=at - 1),
            ],
        )
        (change,) = ValueStore(url).purge(asset="a1", made_before=at)
        assert change[0] == late.name
        assert set(change[3]) == set(map(key, ("before", "then", "with")))
        assert set(everything(ValueStore(url))) == set(map(key, ("other", "after", "of another")))
        assert ValueStore(url).purge(asset="a1", made_before=at) == []

    def test_a_purge_of_a_feature_keeps_what_was_made_later(self, store: ValueStore) -> None:
        for feature, version in (("score", "1"), ("score", "2"), ("other", "1")):
            rows = [row(f"{feature} {version} {at}", created=float(at)) for at in (1, 2)]
            store.write(feature, version, FLOAT, rows)
        store.write("score", "1", FLOAT, [row("later", created=5.0)])
        store.purge(feature="score", version="1", made_before=1.0)
        left = ["score 1 2", "score 2 1", "score 2 2", "other 1 1", "other 1 2", "later"]
        assert set(everything(store)) == set(map(key, left))

    def test_a_purge_opens_no_part_of_another_feature_or_version(
        self, store: ValueStore, files: Files, url: str
    ) -> None:
        store.write("score", "1", FLOAT, [row("a")])
        others = [store.write(f, v, FLOAT, [row(f + v)]) for f, v in (("score", "10"), ("scores", "1"))]
        for part in others:
            files.write(part.name, b"PAR1")
        assert len(ValueStore(url).purge(feature="score", version="1")) == 1
        assert len(ValueStore(url).purge(feature="none")) == 0
        assert store.parts() == [part.name for part in others]

    def test_a_part_that_can_not_match_is_known_by_its_footer(
        self, store: ValueStore, files: Files, url: str
    ) -> None:
        later = store.write("score", "1", FLOAT, [row(i, created=50.0 + i) for i in range(3)])
        another = store.write("score", "1", FLOAT, [row(i, asset=f"b{i}", created=1.0) for i in range(3)])
        for part in (later, another):
            self.spoil(files, part.name, lambda data: bytes(data[:4]) + bytes(200) + bytes(data[204:]))
        assert ValueStore(url).purge(asset="a1", made_before=49.0) == []
        assert store.parts() == [later.name, another.name]
        assert ValueStore(url).purge(asset="a1", made_before=50.0) == []
        assert store.parts() == [another.name]  # the other one was read, and found damaged

    def test_a_collection_is_found_in_a_part_of_other_assets(self, store: ValueStore) -> None:
        store.write("score", "1", FLOAT, [row("b", asset="b1"), row("with", asset=None, unit="{a1,b1}")])
        store.write("score", "1", FLOAT, [row("only", asset=None, unit="{a1,b1}")])
        assert len(store.purge(asset="a1")) == 2
        assert set(everything(store)) == {key("b")}

    def test_parts_that_were_looked_through_before_may_be_skipped(self, store: ValueStore) -> None:
        parts = [store.write("score", "1", FLOAT, [row(i)]) for i in range(3)]
        changes = store.purge(asset="a1", skip={parts[1].name})
        assert [old for old, _, _, _ in changes] == [parts[0].name, parts[2].name]
        assert store.parts() == [parts[1].name]

    def test_a_crash_between_publishing_and_deleting_is_made_good_by_purging_again(
        self, store: ValueStore, url: str
    ) -> None:
        part = store.write("score", "1", FLOAT, [row("a", created=1.0), row("b", asset="a2", created=1.0)])
        asked = []

        def fence() -> None:
            asked.append(len(store.parts()))
            if asked[-1] == 2:
                raise Crash

        with pytest.raises(Crash):
            ValueStore(url, fence).purge(asset="a1", made_before=2.0)
        assert asked[-1] == 2
        assert set(everything(store)) == {key("a"), key("b")}
        (change,) = ValueStore(url).purge(asset="a1", made_before=2.0)
        assert (change[0], change[3]) == (part.name, [key("a")])
        assert set(everything(store)) == {key("b")}
        assert part.name not in store.parts()

    # --- damage

    def spoil(self, files: Files, name: str, change: Any) -> None:
        data = files.read(name)
        assert data is not None
        files.write(name, change(bytearray(data)))

    @pytest.mark.parametrize("where", ["footer", "values", "keys", "start", "end"])
    def test_a_flipped_bit_sends_the_part_to_quarantine(
        self, store: ValueStore, files: Files, url: str, where: str
    ) -> None:
        good = store.write("score", "1", FLOAT, [row("good")])
        part = store.write("score", "1", FLOAT, [row(i, float(i)) for i in range(50)])
        with files.open(part.name) as handle:
            columns = pq.read_metadata(handle).row_group(0)
        places = {
            "footer": part.bytes - 100,
            "values": columns.column(4).data_page_offset + columns.column(4).total_compressed_size - 7,
            "keys": columns.column(0).data_page_offset + columns.column(0).total_compressed_size - 7,
            "start": columns.column(4).data_page_offset + 1,
            "end": part.bytes - 1,
        }

        def flip(data: bytearray) -> bytes:
            data[places[where]] ^= 4
            return bytes(data)

        self.spoil(files, part.name, flip)
        with pytest.raises(DamagedPart, match=f"part {part.name} is damaged: .*quarantine"):
            ValueStore(url).read(part.name, [3])
        assert [p.name for p, _ in ValueStore(url).scan()] == [good.name]
        assert files.read(f"quarantine/{part.name.replace('/', '__')}") is not None

    @pytest.mark.parametrize("left", [0, 3, 11, 200, -1])
    def test_a_part_cut_short_is_damaged(self, store: ValueStore, files: Files, url: str, left: int) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        self.spoil(files, part.name, lambda data: bytes(data[:left]))
        assert list(ValueStore(url).scan()) == []
        assert files.read(f"quarantine/{part.name.replace('/', '__')}") is not None

    def test_damage_to_values_is_not_seen_by_a_scan_but_by_whoever_reads_them(
        self, store: ValueStore, files: Files, url: str
    ) -> None:
        noise = np.random.default_rng(0).standard_normal((1000, 4), "f4")
        part = store.write("v", "1", VECTORS, [row(i, noise * (i + 1)) for i in range(3)])

        def flip(data: bytearray) -> bytes:
            at = bytes(data).index(noise[7:9].tobytes())
            data[at + 5] ^= 1
            return bytes(data)

        self.spoil(files, part.name, flip)
        other = ValueStore(url)
        assert len(list(other.scan())) == 1
        with pytest.raises(DamagedPart):
            other.read(part.name, [0])
        assert other.parts() == []

    def test_compaction_and_purge_go_on_without_a_damaged_part(
        self, store: ValueStore, files: Files, url: str
    ) -> None:
        parts = [store.write("score", "1", FLOAT, [row(i, asset=f"a{i}"), row(f"{i}")]) for i in range(4)]
        self.spoil(files, parts[1].name, lambda data: bytes(data[:-300]))
        other = ValueStore(url)
        old, new = other.compact("score", "1")
        assert set(old) == {p.name for p in parts}
        assert new is not None
        other.remove_parts(old)
        assert set(everything(other)) == {key(i) for i in (0, 2, 3)}
        last = other.write("score", "1", FLOAT, [row("z")])
        self.spoil(files, new.name, lambda data: bytes(data[:-300]))
        assert [old for old, _, _, _ in ValueStore(url).purge(feature="score")] == [last.name]

    def test_a_part_of_another_version_of_amber_is_left_where_it_is(
        self, store: ValueStore, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(sealed, "FORMAT", b"2")
            part = store.write("score", "1", FLOAT, [row(0)])
        assert list(ValueStore(url).scan()) == []
        with pytest.raises(Exception, match="was written by another version of Amber"):
            ValueStore(url).read(part.name, [0])
        assert store.parts() == [part.name]

    # --- several at once

    def test_threads_may_share_a_store(self, store: ValueStore) -> None:
        part = store.write("score", "1", FLOAT, [row(i, float(i)) for i in range(100)])
        wrong: list[Any] = []

        def work(seed: int) -> None:
            for i in range(10):
                n = (seed * 31 + i * 7) % 100
                if store.read(part.name, [n])[0].value != n:
                    wrong.append(n)
                store.write("mine", str(seed), FLOAT, [row(f"{seed} {i}")])

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        assert len(store.parts()) == 41
        assert len(everything(store)) == 140


class TroubleContract:
    """What a store must do while its file system fails, and when that is over.

    `url` and `trouble` are fixtures of the subclass: an empty store's URL, and what makes its file system
    fail.
    """

    @pytest.fixture
    def store(self, url: str) -> ValueStore:
        return ValueStore(url)

    @pytest.fixture
    def files(self, url: str) -> Files:
        return Files(url)

    def set_aside(self, files: Files) -> list[str]:
        return list(files.sizes(re.compile(".*"), "quarantine", 1))

    def check_that_it_is_not_damage(self, caught: pytest.ExceptionInfo[BaseException]) -> None:
        assert not isinstance(caught.value, (DamagedPart, DamagedRecord, FileNotFoundError)), caught.value

    # --- noted keys

    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    def test_noted_keys_that_can_not_be_read_or_written_now_cost_time_only(
        self, store: ValueStore, trouble: Trouble, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        monkeypatch.setattr(known_keys, "LEAST", 2)
        share = Share(0, 1)
        for n in range(3):
            store.write("score", "1", FLOAT, [row(n)])
        trouble.fail("write", error, "index/")
        with pytest.raises(StoreError) as caught:
            store.note(share)
        self.check_that_it_is_not_damage(caught)
        trouble.end()
        assert store.note(share) == 3
        before = owned(store, share)
        for call in ("open", "read", "list"):
            trouble.fail(call, error, "index")
            assert owned(ValueStore(store.url), share) == before
            trouble.end()
        opened = opens(monkeypatch)
        assert owned(ValueStore(store.url), share) == before
        assert opened == []

    # --- reading parts

    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    @pytest.mark.parametrize("call", ["open", "read"])
    def test_a_file_system_that_fails_damages_no_part(
        self, store: ValueStore, files: Files, url: str, trouble: Trouble, call: str, error: Exception
    ) -> None:
        part = store.write("score", "1", FLOAT, [row(0, 0.25)])
        store.keys(part.name)
        for reader in (store, ValueStore(url)):
            for use in (lambda r: r.read(part.name, [0]), lambda r: r.keys(part.name)):
                trouble.fail(call, error)
                if call == "open":
                    reader.close(part.name)
                with pytest.raises(StoreError, match="can't be read") as caught:
                    use(reader)
                self.check_that_it_is_not_damage(caught)
                trouble.end()
                assert use(reader) is not None
        assert store.parts() == [part.name]
        assert self.set_aside(files) == []
        assert store.read(part.name, [0])[0].value == 0.25

    def test_a_part_that_is_delivered_in_part_is_not_damaged(
        self, store: ValueStore, files: Files, url: str, trouble: Trouble
    ) -> None:
        part = store.write("score", "1", FLOAT, [row(i, float(i)) for i in range(50)])
        opened = ValueStore(url)
        opened.keys(part.name)
        for reader in (opened, ValueStore(url)):
            for use in (lambda r: r.read(part.name, [7]), lambda r: r.keys(part.name)):
                trouble.tear()
                for _ in range(3):
                    with pytest.raises(StoreError, match="can't be read") as caught:
                        use(reader)
                    self.check_that_it_is_not_damage(caught)
                trouble.end()
                assert len(use(reader)) in (1, 50)
        assert store.parts() == [part.name]
        assert self.set_aside(files) == []
        assert opened.read(part.name, [7])[0].value == 7.0

    def test_a_part_whose_open_file_went_stale_is_opened_anew(
        self, store: ValueStore, url: str, trouble: Trouble
    ) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        reader = ValueStore(url)
        assert reader.read(part.name, [0])[0].value == 0.5
        trouble.fail("read", OSError(116, "Stale file handle"), times=1)
        assert reader.read(part.name, [0])[0].value == 0.5
        trouble.fail("read", OSError(116, "Stale file handle"), times=1)
        with pytest.raises(StoreError, match="Stale file handle"):
            ValueStore(url).read(part.name, [0])

    def test_wrong_bytes_are_damage_only_if_they_are_read_twice(
        self, store: ValueStore, files: Files, url: str, trouble: Trouble
    ) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        trouble.flip(1)
        assert ValueStore(url).read(part.name, [0])[0].value == 0.5
        assert store.parts() == [part.name]
        trouble.flip(2)
        with pytest.raises(DamagedPart, match="it was moved to quarantine"):
            ValueStore(url).read(part.name, [0])
        assert store.parts() == []
        assert len(self.set_aside(files)) == 1

    def test_wrong_bytes_once_and_then_a_timeout_are_no_damage(
        self, store: ValueStore, url: str, trouble: Trouble
    ) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        reader = ValueStore(url)
        trouble.flip(1, then=TimeoutError("slow"))
        with pytest.raises(StoreError, match="slow") as caught:
            reader.read(part.name, [0])
        self.check_that_it_is_not_damage(caught)
        trouble.end()
        assert reader.read(part.name, [0])[0].value == 0.5

    def test_a_damaged_part_that_can_not_be_moved_is_told_to_be_damaged_and_stays(
        self, store: ValueStore, files: Files, url: str, trouble: Trouble
    ) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        files.write(part.name, b"PAR1")
        trouble.fail("move", TimeoutError("slow"))
        with pytest.raises(DamagedPart, match="it could not be moved to quarantine"):
            ValueStore(url).read(part.name, [0])
        assert store.parts() == [part.name]
        trouble.end()
        with pytest.raises(DamagedPart, match="it was moved to quarantine"):
            ValueStore(url).read(part.name, [0])
        assert store.parts() == []

    def test_a_scan_tells_parts_that_can_not_be_read_now_from_damaged_ones(
        self, store: ValueStore, files: Files, url: str, trouble: Trouble
    ) -> None:
        parts = [store.write("score", "1", FLOAT, [row(i)]) for i in range(3)]
        trouble.fail("read", TimeoutError("slow"))
        late: list[str] = []
        assert list(ValueStore(url).scan(late=late)) == []
        assert late == [p.name for p in parts]
        trouble.end()
        files.write(parts[1].name, b"PAR1")
        late.clear()
        assert [p.name for p, _ in ValueStore(url).scan(late=late)] == [parts[0].name, parts[2].name]
        assert late == []

    # --- everything else

    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    def test_a_listing_that_fails_is_not_an_empty_one(
        self, store: ValueStore, trouble: Trouble, error: Exception
    ) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        trouble.fail("list", error)
        for ask in (store.parts, lambda: list(store.scan()), store.costs, lambda: store.purge(asset="a1")):
            with pytest.raises(StoreError, match="can't be listed"):
                ask()
        trouble.end()
        assert store.parts() == [part.name]

    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    def test_a_write_that_fails_leaves_nothing_and_works_later(
        self, store: ValueStore, url: str, trouble: Trouble, error: Exception
    ) -> None:
        trouble.fail("write", error)
        with pytest.raises(StoreError, match="can't be written"):
            store.write("score", "1", FLOAT, [row(0)])
        assert below(url, "values") == []
        trouble.end()
        store.write("score", "1", FLOAT, [row(0)])
        assert everything(store) == {key(0): 0.5}

    def test_a_part_whose_write_failed_after_it_was_done_is_whole(
        self, store: ValueStore, url: str, trouble: Trouble
    ) -> None:
        trouble.fail("write", TimeoutError("the answer was lost"), after=True)
        with pytest.raises(StoreError, match="the answer was lost"):
            store.write("score", "1", FLOAT, [row(0)])
        trouble.end()
        assert everything(ValueStore(url)) == {key(0): 0.5}
        store.write("score", "1", FLOAT, [row(0)])
        assert everything(ValueStore(url)) == {key(0): 0.5}

    @pytest.mark.parametrize("call", ["read", "write", "delete"])
    def test_joining_and_purging_lose_nothing_that_they_should_keep(
        self, store: ValueStore, files: Files, url: str, trouble: Trouble, call: str
    ) -> None:
        for i in range(3):
            store.write("score", "1", FLOAT, [row(i, asset="a1"), row(f"{i}", asset="a2")])
        before = everything(store)

        def joined(store: ValueStore) -> None:
            old, _ = store.compact("score", "1")
            store.remove_parts(old)

        for work in (joined, lambda store: store.purge(asset="a1")):
            trouble.fail(call, TimeoutError("slow"))
            with pytest.raises(StoreError, match="slow") as caught:
                work(ValueStore(url))
            self.check_that_it_is_not_damage(caught)
            trouble.end()
            assert (
                everything(ValueStore(url)).items()
                >= {k: v for k, v in before.items() if k in {key(f"{i}") for i in range(3)}}.items()
            )
        assert everything(ValueStore(url)) == before
        store.purge(asset="a1")
        assert set(everything(ValueStore(url))) == {key(f"{i}") for i in range(3)}
        assert self.set_aside(files) == []

    def test_a_purge_goes_on_without_a_part_that_can_not_be_read_now_and_tells_its_name(
        self, store: ValueStore, files: Files, url: str, trouble: Trouble
    ) -> None:
        parts = [store.write("score", "1", FLOAT, [row(i)]) for i in range(4)]
        files.write(parts[0].name, b"PAR1")
        trouble.fail("read", TimeoutError("slow"), on=parts[2].name)
        late: list[str] = []
        changes = ValueStore(url).purge(asset="a1", late=late)
        assert [old for old, _, _, _ in changes] == [parts[1].name, parts[3].name]
        assert late == store.parts() == [parts[2].name]
        with pytest.raises(StoreError, match="slow"):
            ValueStore(url).purge(asset="a1")
        trouble.end()
        assert [old for old, _, _, _ in ValueStore(url).purge(asset="a1", late=late)] == [parts[2].name]
        assert late == [parts[2].name]
        assert store.parts() == []

    def test_a_damaged_part_that_stays_is_not_passed_over_by_a_purge(
        self, store: ValueStore, files: Files, url: str, trouble: Trouble
    ) -> None:
        part = store.write("score", "1", FLOAT, [row(0)])
        files.write(part.name, b"PAR1")
        trouble.fail("move", TimeoutError("slow"))
        late: list[str] = []
        assert ValueStore(url).purge(asset="a1", late=late) == []
        assert late == [part.name]
        with pytest.raises(DamagedPart, match="could not be moved"):
            ValueStore(url).purge(asset="a1")

    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    def test_a_record_that_can_not_be_read_now_stays(
        self, files: Files, url: str, trouble: Trouble, error: Exception
    ) -> None:
        journal = Journal(url)
        journal.write("a", {"id": "a", "state": "running"})
        trouble.fail("read", error)
        with pytest.raises(StoreError) as caught:
            journal.read("a")
        self.check_that_it_is_not_damage(caught)
        assert list(journal.unfinished()) == []
        trouble.end()
        assert [r["id"] for r in journal.unfinished()] == ["a"]
        assert self.set_aside(files) == []

    def test_a_record_that_is_wrong_once_is_read_again(
        self, files: Files, url: str, trouble: Trouble
    ) -> None:
        journal = Journal(url)
        journal.write("a", {"id": "a", "state": "running"})
        trouble.flip(1)
        assert [r["id"] for r in journal.unfinished()] == ["a"]
        assert self.set_aside(files) == []
        trouble.flip(2)
        with pytest.raises(DamagedRecord, match=r"requests/a\.json is damaged"):
            journal.read("a")

    def test_a_record_that_is_delivered_in_part_is_not_damaged(
        self, files: Files, url: str, trouble: Trouble
    ) -> None:
        journal = Journal(url)
        journal.write("a", {"id": "a", "state": "running"})
        trouble.tear()
        with pytest.raises(StoreError, match="delivered") as caught:
            journal.read("a")
        self.check_that_it_is_not_damage(caught)
        assert list(journal.unfinished()) == []
        trouble.end()
        assert [r["id"] for r in journal.unfinished()] == ["a"]
        assert self.set_aside(files) == []


def store_table(*rows: Row) -> Any:
    from amber_ray.store.rows import table_of

    return table_of(FLOAT, rows or [row(0)])
