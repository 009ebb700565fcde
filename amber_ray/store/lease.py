"""One server per store: an operating system's lock where there is one, else a record with a heartbeat."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from typing import IO

import fsspec

from amber_ray.errors import StoreBusy

FRESH_SECONDS = 15.0


class Lease:
    """Held by the first shard's process. A local lock goes with the process, however that ends."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._fs, root = fsspec.core.url_to_fs(url)
        self._path = f"{root.rstrip('/')}/lease.json"
        protocols = self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        self._local = "file" in protocols
        self._file: IO[str] | None = None
        self._record: dict[str, object] = {}

    def acquire(self, owner: str) -> None:
        """Take the store. Raises `StoreBusy`, naming the holder."""
        now = time.time()
        self._record = {
            "owner": owner,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": now,
            "beat": now,
        }
        if not self._local:
            held = self._read()
            mine = (held.get("host"), held.get("pid")) == (self._record["host"], self._record["pid"])
            if held and not mine and now - float(str(held.get("beat", 0))) < FRESH_SECONDS:
                raise StoreBusy(self._busy(held))
            self.renew(now)
            return
        os.makedirs(self._path.rpartition("/")[0], exist_ok=True)
        file = open(self._path, "a+")  # noqa: SIM115 - held open: the lock lives as long as the file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            text = file.read()
            file.close()
            raise StoreBusy(self._busy(json.loads(text) if text else {})) from None
        file.seek(0)
        file.truncate()
        json.dump(self._record, file)
        file.flush()
        self._file = file

    def renew(self, now: float) -> None:
        """Say that the holder lives; a local lock needs no such word."""
        if not self._local and self._record:
            self._record["beat"] = now
            self._fs.pipe_file(self._path, json.dumps(self._record).encode())

    def release(self) -> None:
        """Give the store up."""
        if self._file is not None:
            self._file.close()
            self._file = None
        elif not self._local and self._record:
            self._fs.rm_file(self._path)
        self._record = {}

    def _read(self) -> dict[str, object]:
        self._fs.invalidate_cache()
        try:
            record: dict[str, object] = json.loads(self._fs.cat_file(self._path))
        except FileNotFoundError:
            return {}
        return record

    def _busy(self, held: dict[str, object]) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(str(held.get("since", 0)))))
        return (
            f"the store {self._url!r} is in use by {held.get('owner', 'another server')} "
            f"(host {held.get('host', '?')}, process {held.get('pid', '?')}, since {since}); "
            "stop it, ask it with --server, or choose another --store"
        )
