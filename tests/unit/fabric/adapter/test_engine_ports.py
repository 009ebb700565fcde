"""The catalogue and the parts as ports of engines: uploads from the network, assets by name, few files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.units import Asset
from amber_ray.errors import Forbidden, MediaError, MediaNotFound, StoreError, TooLarge, UnknownAsset
from amber_ray.fabric.adapter import engine_ports, shard_ports
from amber_ray.fabric.adapter.machine import QUEUED_CHUNKS, CatalogueAssets
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import ReadReport
from amber_ray.settings import Settings
from amber_ray.store.assets import JOINED
from amber_ray.store.lease import Lease
from amber_ray.store.parquet import ValueStore
from tests.asset_contract import asset, files_of, write_old
from tests.media import catalogue, flat, write_picture
from tests.store_contract import FLOAT, key, row

LIMIT = 1 << 20


def picture(folder: Path) -> bytes:
    return write_picture(folder / "made.png", flat((10, 20, 30))).read_bytes()


async def pieces(data: bytes, size: int, then: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
    if then is not None:
        raise then


def kept(folder: Path) -> list[str]:
    """The files that uploads left."""
    return [p.name for p in folder.rglob("*") if p.is_file() and "uploads" in p.parts]


def test_an_upload_in_many_pieces_is_one_asset(tmp_path: Path) -> None:
    async def story() -> None:
        assets = CatalogueAssets(catalogue(tmp_path))
        data = picture(tmp_path)
        assert len(data) > 2 * QUEUED_CHUNKS
        made = await assets.upload(pieces(data, 5), None, LIMIT)
        assert (made.bytes, made.media_type) == (len(data), "image/png")
        found = await assets.resolve([AssetRef(id=made.id), AssetRef(uri=made.uri)])
        assert [isinstance(a, Asset) and a.id for a in found] == [made.id] * 2

    asyncio.run(asyncio.wait_for(story(), 30))


@pytest.mark.parametrize(
    ("limit", "then", "error"),
    [(100, None, TooLarge), (LIMIT, ConnectionError("it broke"), ConnectionError)],
)
def test_nothing_is_kept_of_an_upload_that_is_too_large_or_stops(
    tmp_path: Path, limit: int, then: Exception | None, error: type[Exception]
) -> None:
    async def story() -> None:
        assets = CatalogueAssets(catalogue(tmp_path))
        with pytest.raises(error):
            await assets.upload(pieces(picture(tmp_path), 16, then), None, limit)
        assert kept(tmp_path) == []

    asyncio.run(asyncio.wait_for(story(), 30))


def test_an_upload_that_is_no_media_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        assets = CatalogueAssets(catalogue(tmp_path))
        with pytest.raises(MediaError):
            await assets.upload(pieces(b"words " * 1000, 64), "video/mp4", LIMIT)
        assert kept(tmp_path) == []

    asyncio.run(asyncio.wait_for(story(), 30))


def test_each_reference_has_its_own_outcome(tmp_path: Path) -> None:
    async def story() -> None:
        assets = CatalogueAssets(catalogue(tmp_path))
        refs = [
            AssetRef(uri="/etc/passwd"),
            AssetRef(id="0" * 32),
            AssetRef(uri=str(tmp_path / "no.mp4")),
        ]
        found = await assets.resolve(refs)
        assert [type(f) for f in found][:2] == [Forbidden, UnknownAsset]
        assert isinstance(found[2], MediaNotFound)
        assert assets.at_hand("/etc/passwd") is None

    asyncio.run(asyncio.wait_for(story(), 30))


def test_the_shard_that_owns_a_store_keeps_its_files_few_and_takes_over_older_ones(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    old = [asset(i) for i in range(30)]
    write_old(store, old)
    lease = Lease(store)
    assets = shard_ports.CatalogueAssets(Settings(store=store, media_roots=(str(tmp_path),)), lease.guard)

    async def story() -> None:
        with pytest.raises(StoreError, match="was not renewed in time"):
            await assets.tidy()
        assert len(files_of(store)) == 60
        lease.acquire("this shard")
        await assets.tidy()
        found = await assets.current([one.id for one in old])
        assert list(found) == [one.id for one in old]

    asyncio.run(story())
    lease.release()
    assert len([name for name in files_of(store) if name.startswith("assets/")]) < JOINED


# --- the parts of the store, read by an engine's process


def test_parts_on_a_disk_of_this_machine_are_read_and_left_as_they_are(tmp_path: Path) -> None:
    url = str(tmp_path / "not made yet/store")
    read = engine_ports.parts(Settings(store=url))
    assert read is not None
    assert not Path(url).exists()
    part = ValueStore(url).write("score", "1", FLOAT, [row(n, float(n)) for n in range(5)]).name

    async def values(*rows: int) -> ReadReport | None:
        return await read.read({part: [(n, key(n)) for n in rows]})

    async def story() -> None:
        report = await values(3, 1)
        assert report is not None
        assert [(r.key, pickled.loads(r.inline or b"")) for r in report.results] == [
            (key(3), 3.0),
            (key(1), 1.0),
        ]
        damaged = bytearray(Path(url, part).read_bytes())
        damaged[4:60] = bytes(56)
        Path(url, part).write_bytes(damaged)
        report = await values(2)
        assert report is not None
        assert (report.results, list(report.damaged)) == ([], [part])
        assert Path(url, part).read_bytes() == damaged
        assert not Path(url, "quarantine").exists()
        Path(url, part).unlink()
        report = await values(2)
        assert report is not None
        assert (report.results, report.vanished) == ([], [part])

    asyncio.run(asyncio.wait_for(story(), 30))


def test_a_store_that_is_reached_over_a_network_is_read_by_shards_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine_ports.parts(Settings(store="memory://somewhere/store")) is None
    monkeypatch.setattr(engine_ports, "is_local", lambda device: False)
    assert engine_ports.parts(Settings(store=str(tmp_path))) is None
