"""What packs of assets must do, whatever the store is kept in; each kind of store inherits these tests."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest

from amber_ray.core.model.pages import AssetFilter, write_cursor
from amber_ray.core.model.unit_codec import streams_to_json
from amber_ray.core.model.units import Asset, Stream
from amber_ray.errors import StoreError
from amber_ray.store import asset_pages
from amber_ray.store import assets as packs
from amber_ray.store import older_assets as older
from amber_ray.store.assets import AssetPacks
from amber_ray.store.files import Draft, Files
from amber_ray.store.sealed import NAME, SealedFile
from tests.store_contract import Crash
from tests.store_faults import ERRORS, Trouble

STREAMS = (Stream("video", "h264", 64, 48, "24"), Stream("audio", "aac", sample_rate=48_000, channels=1))


def digest(name: Any, size: int = 16) -> str:
    return hashlib.blake2b(str(name).encode(), digest_size=size).hexdigest()


def asset(name: Any, uri: str | None = None, signature: str = "1:2:3") -> Asset:
    """An asset named for its content, at a place of that name."""
    return Asset(digest(name), uri or f"/films/{name}.mp4", "video/mp4", 100, 1.5, STREAMS, signature)


def whole(asset: Asset | None) -> tuple[Any, ...] | None:
    """All fields of an asset: comparing two assets compares their ids only."""
    return asset and tuple(getattr(asset, name) for name in Asset.__slots__)


def check(store: AssetPacks, promised: Iterable[Asset]) -> None:
    """Every asset that was written is found by its place and by its id."""
    for one in promised:
        found = store.at(one.uri, one.signature)
        assert found is not None
        assert whole(found.asset) == whole(one)
        assert whole(one) in [whole(record.asset) for record in store.of(one.id)]


def places(store: AssetPacks, name: Any) -> list[str]:
    return [record.asset.uri for record in store.of(digest(name))]


def files_of(url: str) -> list[str]:
    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    return sorted(name.removeprefix(f"{root}/") for name in fs.find(root))


def write_old(url: str, assets: Iterable[Asset], at: dict[str, list[str]] | None = None) -> None:
    """Assets as older versions of Amber left them: two JSON files each."""
    files = Files(url)
    known: dict[str, list[str]] = dict(at or {})
    for one in assets:
        known.setdefault(one.id, [one.uri])
        record = {
            "format": 1,
            "id": one.id,
            "bytes": one.bytes,
            "media_type": one.media_type,
            "duration": one.duration,
            "streams": streams_to_json(one.streams),
            "uris": known[one.id],
        }
        files.write(f"assets/id/{one.id[:2]}/{one.id}.json", json.dumps(record).encode())
        place = {"uri": one.uri, "signature": one.signature or None, "id": one.id}
        name = digest(one.uri)
        files.write(f"assets/uri/{name[:2]}/{name}.json", json.dumps(place).encode())


def _walked(store: AssetPacks, only: AssetFilter, limit: int, held: list[Asset]) -> list[Asset]:
    """All pages of a filter."""
    found: list[Asset] = []
    cursor: str | None = None
    while True:
        page = store.page(only, limit, cursor, held)
        assert len(page) <= limit
        found += page
        cursor = page.cursor
        if cursor is None:
            return found


class AssetContract:
    """`url` is a fixture of the subclass: an empty store's."""

    @pytest.fixture
    def store(self, url: str) -> AssetPacks:
        return AssetPacks(url)

    # --- reading and writing

    def test_an_asset_is_found_by_its_place_and_by_its_id(self, store: AssetPacks, url: str) -> None:
        still = Asset(digest("still"), "/é/\u4e16\u754c.png", "image/png", 7, None, (), "")
        store.add([asset("a"), still, asset("b", uri="s3://bucket/b.mp4?x=1")])
        for reader in (store, AssetPacks(url)):
            check(reader, [asset("a"), still, asset("b", uri="s3://bucket/b.mp4?x=1")])
            assert reader.at("/films/a.mp4", "another") is None
            assert reader.at("/films/none.mp4", "1:2:3") is None
            assert reader.of(digest("none")) == []

    def test_a_place_that_changed_is_what_it_was_when_it_looked_so(self, store: AssetPacks, url: str) -> None:
        store.add([asset("a", uri="/x", signature="1")])
        store.add([asset("b", uri="/x", signature="2")])
        store.add([asset("c", uri="/x", signature="2")])
        for reader in (store, AssetPacks(url)):
            check(reader, [asset("a", uri="/x", signature="1"), asset("c", uri="/x", signature="2")])
            assert places(reader, "a") == ["/x"]

    def test_the_latest_places_of_an_asset_come_last(self, store: AssetPacks, url: str) -> None:
        for place in (*"abc", "a"):
            store.add([asset("film", uri=f"/{place}")])
        for reader in (store, AssetPacks(url)):
            assert places(reader, "film") == ["/b", "/c", "/a"]
        store.add([asset("film", uri=f"/{i}") for i in range(30)])
        assert places(store, "film") == [f"/{i}" for i in range(14, 30)]

    def test_the_version_of_what_is_told_is_told(self, store: AssetPacks, url: str) -> None:
        store.add([asset("a"), asset("b")])
        later = AssetPacks(url, facts=2)
        later.add([asset("a")])
        for reader in (later, AssetPacks(url)):
            found = [reader.at(one.uri, one.signature) for one in (asset("a"), asset("b"))]
            assert [None if record is None else record.facts for record in found] == [2, 1]

    def test_others_find_what_was_written_since_they_looked(self, store: AssetPacks, url: str) -> None:
        other = AssetPacks(url)
        assert other.of(digest("a")) == []
        store.add([asset("a")])
        assert places(other, "a") == ["/films/a.mp4"]
        check(other, [asset("a")])
        other.add([asset("b")])
        assert places(store, "b") == ["/films/b.mp4"]

    def test_every_row_says_all_of_an_asset_to_other_readers(self, store: AssetPacks, url: str) -> None:
        store.add([asset("a")])
        (name,) = files_of(url)
        with Files(url).open(name) as file:
            (told,) = pq.read_table(file).drop_columns(["lookup", "seen"]).to_pylist()
        assert told == {
            "uri": "/films/a.mp4",
            "asset": digest("a"),
            "kind": "video",
            "media_type": "video/mp4",
            "bytes": 100,
            "duration": 1.5,
            "signature": "1:2:3",
            "facts": 1,
            "note": "",
            "streams": json.dumps(streams_to_json(STREAMS), sort_keys=True),
        }

    # --- few files

    def test_what_is_written_one_by_one_is_in_few_files(
        self, store: AssetPacks, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "OWN_ROWS", 16)
        all_of_them = [asset(i) for i in range(100)]
        for one in all_of_them:
            store.add([one])
        assert len(files_of(url)) == 7
        store.tidy()
        assert len(files_of(url)) < packs.JOINED
        for reader in (store, AssetPacks(url)):
            check(reader, all_of_them)

    def test_rows_of_many_writers_are_joined_in_order_and_each_is_kept_once(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "GROUP_BYTES", 512)  # several row groups in each pack
        reader = AssetPacks(url)
        promised: dict[tuple[str, str], Asset] = {}
        for writer in range(12):
            rows = [asset(i % 50, uri=f"/{i % 50}", signature=str(writer)) for i in range(writer, 60, 2)]
            AssetPacks(url).add(rows)
            promised |= {(a.uri, a.id): a for a in rows}
        check(reader, promised.values())
        AssetPacks(url).tidy()
        (name,) = files_of(url)
        with Files(url).open(name) as file:
            table = pq.read_table(file)
        assert len(table) == len(promised)
        uris = table.column("uri").to_pylist()
        assert uris == sorted(uris)
        for one in (reader, AssetPacks(url)):
            check(one, promised.values())

    def test_the_larger_packs_are_left_alone_until_there_are_more_of_their_size(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "OWN_ROWS", 1)
        store = AssetPacks(url)
        store.add([asset(f"large {i}") for i in range(200)])
        (large,) = files_of(url)
        for i in range(packs.JOINED):
            store.add([asset(i)])
        store.tidy()
        assert large in files_of(url)
        assert len(files_of(url)) == 2

    def test_a_writer_goes_on_when_the_owner_has_joined_its_pack(
        self, store: AssetPacks, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "JOINED", 2)
        store.add([asset("mine")])
        AssetPacks(url).add([asset("other")])
        AssetPacks(url).tidy()
        store.add([asset("more")])
        store.tidy()
        for reader in (store, AssetPacks(url)):
            check(reader, map(asset, ("mine", "other", "more")))
        assert len(files_of(url)) == 1

    def test_who_is_not_sure_to_own_the_store_joins_nothing(self, url: str) -> None:
        def fence() -> None:
            raise StoreError("not mine any more")

        for i in range(packs.JOINED):
            AssetPacks(url).add([asset(i)])
        before = files_of(url)
        owner = AssetPacks(url, fence=fence)
        with pytest.raises(StoreError, match="not mine"):
            owner.tidy()
        assert files_of(url) == before
        owner.add([asset("new")])  # that harms nobody
        check(AssetPacks(url), [asset("new")])

    # --- several at once

    def test_threads_and_processes_write_while_packs_are_joined(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "OWN_ROWS", 4)
        shared, owner = AssetPacks(url), AssetPacks(url)
        failed: list[BaseException] = []
        over = threading.Event()

        def write(number: int) -> None:
            store = shared if number < 3 else AssetPacks(url)
            try:
                for i in range(12):
                    mine = asset(f"{number} {i}")
                    store.add([mine])
                    check(store, [mine])
            except BaseException as error:
                failed.append(error)

        def join() -> None:
            while not over.is_set():
                try:
                    owner.tidy()
                except BaseException as error:
                    failed.append(error)
                    return

        joiner = threading.Thread(target=join)
        writers = [threading.Thread(target=write, args=(n,)) for n in range(5)]
        for thread in (joiner, *writers):
            thread.start()
        for thread in writers:
            thread.join(120)
        over.set()
        joiner.join(120)
        assert failed == []
        check(AssetPacks(url), [asset(f"{n} {i}") for n in range(5) for i in range(12)])
        owner.tidy()
        assert len(files_of(url)) < 2 * packs.JOINED

    def test_threads_that_add_at_once_share_a_file(
        self, store: AssetPacks, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "OWN_ROWS", 0)  # so that each file tells of one write
        begun, go_on = threading.Event(), threading.Event()
        real = AssetPacks._publish

        def held(self: AssetPacks, assets: Any) -> None:
            begun.set()
            assert go_on.wait(60)
            real(self, assets)

        monkeypatch.setattr(AssetPacks, "_publish", held)
        threads = [threading.Thread(target=store.add, args=([asset(i)],)) for i in range(5)]
        threads[0].start()
        assert begun.wait(60)
        for thread in threads[1:]:
            thread.start()
        while len(store._batch.rows) < 4:
            threading.Event().wait(0.001)
        go_on.set()
        for thread in threads:
            thread.join(60)
        assert len(files_of(url)) == 2
        check(store, map(asset, range(5)))

    # --- crashes

    def test_a_crash_at_any_point_loses_nothing_that_was_promised(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "OWN_ROWS", 3)
        monkeypatch.setattr(packs, "JOINED", 3)
        promised: list[Asset] = []

        def life(generation: str) -> None:
            store = AssetPacks(url)
            store.tidy()
            for i in range(5):
                one = asset(f"{generation} {i}")
                store.add([one])
                promised.append(one)
            store.tidy()

        write_old(url, [asset(f"old {i}") for i in range(3)])
        promised += [asset(f"old {i}") for i in range(3)]
        for after in (False, True):
            for steps in itertools.count():
                with crashing(monkeypatch, steps, after) as crashed:
                    life(f"{after} {steps}")
                check(AssetPacks(url), promised)
                if not crashed:
                    break
            assert steps > 10
        AssetPacks(url).tidy()
        check(AssetPacks(url), promised)
        assert len([n for n in files_of(url) if not n.endswith(".tmp")]) < 8

    # --- older stores

    def test_an_older_store_is_read_and_then_taken_over(self, store: AssetPacks, url: str) -> None:
        old = [asset(i) for i in range(20)]
        changed = asset("was here", uri="/films/3.mp4", signature="")
        write_old(url, [*old, asset("moved", uri="/new")], {digest("moved"): ["/old", "/new"]})
        files = Files(url)
        record = json.loads(files.read(f"assets/id/{old[3].id[:2]}/{old[3].id}.json") or b"")
        record |= {"id": changed.id}
        files.write(f"assets/id/{changed.id[:2]}/{changed.id}.json", json.dumps(record).encode())
        files.write(f"assets/id/00/{'0' * 32}.json", b'{"half')
        for reader in (store, AssetPacks(url)):
            check(reader, old)
            assert places(reader, "moved") == ["/old", "/new"]
        store.add([asset(5, signature="newer")])
        late = AssetPacks(url)
        store.tidy()
        names = files_of(url)
        assert all(NAME.fullmatch(name.rpartition("/")[2]) for name in names)
        assert len(names) < packs.JOINED
        for reader in (store, late, AssetPacks(url)):
            check(reader, [a for a in old if a != asset(5)])
            check(reader, [asset(5, signature="newer"), asset("moved", uri="/new")])
            assert places(reader, "moved") == ["/old", "/new"]
            assert places(reader, "was here") == ["/films/3.mp4"]
            assert {record.facts for record in reader.of(asset(3).id)} == {1}
            check(reader, [asset(3)])

    # --- damage

    def test_pages_tell_each_place_once_by_its_newest_row(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "GROUP_BYTES", 600)  # a few rows
        monkeypatch.setattr(packs, "OWN_ROWS", 8)
        draw = random.Random(url)
        stores = [AssetPacks(url) for _ in range(3)]
        newest: dict[str, Asset] = {}
        for _ in range(25):
            rows = [
                asset(draw.random(), f"/{draw.choice('abc')}/{draw.randrange(40)}\u00e9") for _ in range(4)
            ]
            draw.choice(stores).add(rows)
            newest.update((row.uri, row) for row in rows)
        held = asset("held", "/b/held")
        newest[held.uri] = held
        reader = AssetPacks(url)
        for prefix, limit in (("", 7), ("/b/", 1), ("/b/1", 3), ("/c/", 1000), ("/z", 5)):
            expected = [newest[uri] for uri in sorted(newest) if uri.startswith(prefix)]
            assert list(map(whole, _walked(reader, AssetFilter(prefix), limit, [held]))) == list(
                map(whole, expected)
            )
        [every] = [reader.page(AssetFilter(), 1000, None, [held])]
        reader.tidy()
        assert list(map(whole, reader.page(AssetFilter(), 1000, None, [held]))) == list(map(whole, every))

    def test_a_page_reads_no_more_than_can_hold_it(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packs, "GROUP_BYTES", 4_000)
        monkeypatch.setattr(packs, "OWN_ROWS", 100_000)
        for folder in "ab":
            AssetPacks(url).add(asset(i, f"/{folder}/{i:04}") for i in range(1000))
        reader = AssetPacks(url)
        reader.page(AssetFilter(), 1, None)
        read: list[str] = []
        group = SealedFile.group

        def noted(file: SealedFile, number: int, columns: Any = None) -> Any:
            read.append(f"{file.name} {number}")
            return group(file, number, columns)

        monkeypatch.setattr(SealedFile, "group", noted)
        assert reader._packs[next(iter(reader._packs))].starts.size > packs.GROUPS
        for prefix, after in (("", "/a/0500"), ("/b/", "/b/0700"), ("/b/09", None)):
            cursor = None if after is None else write_cursor("assets", after)
            page = reader.page(AssetFilter(prefix), 5, cursor)
            first = 900 if after is None else int(after[-4:]) + 1
            folder = (after or prefix)[:3]
            assert [one.uri for one in page] == [f"{folder}{i:04}" for i in range(first, first + 5)]
            assert len(read) <= 2
            read.clear()

    def test_a_page_that_finds_nothing_ends_after_so_many_places(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(asset_pages, "LOOKED_THROUGH", 10)
        store = AssetPacks(url)
        store.add(asset(i, f"/{i:02}") for i in range(25))
        only, cursor, pages = AssetFilter(kind="image"), None, 0
        while True:
            page = store.page(only, 5, cursor)
            pages, cursor = pages + 1, page.cursor
            assert not page.items
            if cursor is None:
                break
        assert pages == 3

    def test_a_damaged_pack_is_set_aside_and_what_it_said_is_unknown(self, url: str) -> None:
        AssetPacks(url).add([asset("a")])
        AssetPacks(url).add([asset("b")])
        fs, root = fsspec.core.url_to_fs(url)
        name = next(n for n in files_of(url))
        data = bytearray(fs.cat_file(f"{root}/{name}"))
        data[len(data) // 4] ^= 1
        fs.pipe_file(f"{root}/{name}", bytes(data))
        store = AssetPacks(url)
        found = [store.at(a.uri, a.signature) for a in (asset("a"), asset("b"))]
        assert sorted(a is None for a in found) == [False, True]
        assert len([n for n in files_of(url) if n.startswith("quarantine/")]) == 1
        store.add([asset("a"), asset("b")])
        check(AssetPacks(url), [asset("a"), asset("b")])


@contextmanager
def crashing(monkeypatch: pytest.MonkeyPatch, steps: int, after: bool) -> Iterator[list[str]]:
    """Let the process end before or after one of the calls that change a store; so many go well."""
    left, crashed = itertools.count(steps, -1), list[str]()

    def ending(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if crashed or next(left) == 0:
                if after and not crashed:
                    real(*arguments)
                crashed.append(real.__name__)
                raise Crash
            return real(*arguments)

        return call

    with monkeypatch.context() as patch:
        for kind, name in ((Draft, "publish"), (Files, "remove"), (Files, "remove_folder"), (Files, "make")):
            patch.setattr(kind, name, ending(getattr(kind, name)))
        try:
            yield crashed
        except Crash:
            pass


class AssetTroubleContract:
    """What it must do while its file system fails, and when that is over.

    `url` and `trouble` are fixtures of the subclass: an empty store's URL, and what makes its file system
    fail.
    """

    @pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
    def test_what_can_not_be_read_now_is_not_unknown(
        self, url: str, trouble: Trouble, error: Exception
    ) -> None:
        AssetPacks(url).add([asset("a")])
        for call in ("open", "read", "list"):
            reader = AssetPacks(url)
            trouble.fail(call, error)
            with pytest.raises(StoreError):
                reader.of(digest("a"))
            with pytest.raises(StoreError):
                reader.page(AssetFilter(), 5, None)
            trouble.end()
            check(reader, [asset("a")])
        assert [n for n in files_of(url) if n.startswith("quarantine/")] == []

    def test_what_can_not_be_written_is_an_error_for_all_who_added(self, url: str, trouble: Trouble) -> None:
        store = AssetPacks(url)
        trouble.fail("write", OSError(28, "No space left on device"))
        for _ in range(2):
            with pytest.raises(StoreError, match="No space left"):
                store.add([asset("a")])
        assert store.of(digest("a")) == []
        trouble.end()
        store.add([asset("a")])
        check(AssetPacks(url), [asset("a")])

    def test_packs_that_can_not_be_deleted_are_joined_again(
        self, url: str, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(packs, "JOINED", 3)
        for i in range(3):
            AssetPacks(url).add([asset(i)])
        trouble.fail("delete", PermissionError(13, "Permission denied"))
        AssetPacks(url)._join()
        trouble.end()
        assert len(files_of(url)) == 4
        AssetPacks(url).tidy()
        check(AssetPacks(url), map(asset, range(3)))
        assert len(files_of(url)) == 1

    def test_an_older_store_that_can_not_be_read_now_stays(self, url: str, trouble: Trouble) -> None:
        write_old(url, map(asset, range(3)))
        trouble.fail("open", TimeoutError("slow"), on=digest("/films/1.mp4"))
        with pytest.raises(StoreError, match="slow"):
            AssetPacks(url).tidy()
        trouble.end()
        assert older.OlderRecords(Files(url)).there()
        check(AssetPacks(url), map(asset, range(3)))
        AssetPacks(url).tidy()
        check(AssetPacks(url), map(asset, range(3)))
        assert not older.OlderRecords(Files(url)).there()
