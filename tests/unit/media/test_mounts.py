"""Which devices count as this machine's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from amber_ray.media import mounts
from amber_ray.media.mounts import is_local

LINES = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
30 27 0:45 / /films rw,relatime - nfs4 server:/films rw
31 27 0:46 / /odd\\040name rw - fuse.sshfs me@there: rw
32 27 0:47 / /scratch rw,relatime - tmpfs tmpfs rw
a line of some later kernel
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    is_local.cache_clear()
    yield
    is_local.cache_clear()


def test_disks_and_memory_are_local_and_what_goes_over_a_network_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(LINES)
    monkeypatch.setattr(mounts, "TABLE", str(table))
    local = {n: is_local(os.makedev(*n)) for n in [(254, 0), (0, 47), (0, 45), (0, 46), (0, 21), (7, 7)]}
    assert [n for n, yes in local.items() if yes] == [(254, 0), (0, 47)]


def test_without_a_table_of_mounts_nothing_is_known_to_be_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "TABLE", str(tmp_path / "none"))
    assert not is_local(os.stat(tmp_path).st_dev)
