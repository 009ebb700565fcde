"""The catalogue as a port of engines and shards: uploads from the network, assets by name, few files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amber_ray.core.model.request import AssetRef
from amber_ray.core.model.units import Asset
from amber_ray.errors import Forbidden, MediaError, MediaNotFound, StoreError, TooLarge, UnknownAsset
from amber_ray.fabric.adapter import shard_ports
from amber_ray.fabric.adapter.machine import QUEUED_CHUNKS, CatalogueAssets
from amber_ray.settings import Settings
from amber_ray.store.assets import JOINED
from amber_ray.store.lease import Lease
from tests.asset_contract import asset, files_of, write_old
from tests.media import catalogue, flat, write_picture

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
