from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from amber_ray.core.model.units import Asset
from amber_ray.errors import MediaChanged, MediaNotFound
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.locate import Locator
from amber_ray.media.source import opened
from tests.media import flat, write_video


@pytest.fixture
def asset(tmp_path: Path) -> Asset:
    path = write_video(tmp_path / "media" / "a.mp4", [flat((128, 128, 128))] * 8)
    return Catalogue(str(tmp_path / "store"), Locator([str(path.parent)])).add(str(path))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()


def first_byte(asset: Asset) -> bytes:
    with opened(asset) as file:
        return file.read(1)


def test_a_touched_file_is_still_the_asset(asset: Asset) -> None:
    before = first_byte(asset)
    os.utime(asset.uri, (1, 1))
    assert first_byte(asset) == before


def test_other_bytes_of_the_same_size_are_not_the_asset(asset: Asset) -> None:
    data = bytearray(Path(asset.uri).read_bytes())
    data[-1] ^= 1
    times = os.stat(asset.uri)
    Path(asset.uri).write_bytes(data)
    os.utime(asset.uri, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(MediaChanged, match="other content"):
        first_byte(asset)


def test_a_file_replaced_by_a_copy_of_itself_is_still_the_asset(asset: Asset, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(asset.uri, copy)
    os.replace(copy, asset.uri)
    assert first_byte(asset)


def test_a_file_that_is_gone_is_said_to_be(asset: Asset) -> None:
    os.unlink(asset.uri)
    with pytest.raises(MediaNotFound):
        first_byte(asset)
