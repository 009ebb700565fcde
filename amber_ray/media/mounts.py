"""Which file systems answer a `stat` at once, because they are this machine's own.

One that is reached over a network, or served by another process (FUSE), may take seconds or hang, so it must
never be asked on an event loop. What is not known to be local is taken for remote. Must not know: media.
"""

from __future__ import annotations

import functools
import os

LOCAL = frozenset(
    {
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "f2fs",
        "bcachefs",
        "tmpfs",
        "ramfs",
        "overlay",
        "squashfs",
    }
)
"""File system types of Linux that keep their data on this machine."""
TABLE = "/proc/self/mountinfo"


@functools.lru_cache(maxsize=1024)
def is_local(device: int) -> bool:
    """Whether the file system with this `st_dev` is known to be local.

    A device number is not given to another mount while files of it are in use here; should that happen in
    the life of a process all the same, a `stat` is slower than was thought and still right.
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open(TABLE, encoding="utf-8", errors="replace") as table:
            lines = [line.split() for line in table]
    except OSError:
        return False  # not Linux
    # proc(5): "id parent major:minor root mount-point options [tags ...] - type source options"
    types = {fields[fields.index("-") + 1] for fields in lines if fields[2] == number and "-" in fields}
    return bool(types) and types <= LOCAL
