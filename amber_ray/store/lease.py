"""One server per store: an operating system's lock where there is one, else a record with a heartbeat.

Without a lock nobody can know that a holder is dead, only that its record no longer changes. A claimant
watches the record for `FRESH_SECONDS` by its own clock, so clocks need not agree. Two claimants at once both
write, wait, and read again: the record is one of theirs. One that wrote much later than it read is found out
by the other's `renew`.

    holder    beat ····· beat ····· (stopped) ·················· renew: StoreBusy, it ends
    guard     └── passes for SURE_SECONDS ──┘ raises StoreError
    claimant                 └── watches for FRESH_SECONDS ──┘ writes its own record

`guard` is the fence of a holder that was stopped. Its process joins, purges and deletes no parts and writes
no records of requests and purges unless its last beat is so recent that nobody can have taken the store. It
is asked before a change begins, and the object store does not check it: a single call that hangs for longer
than `FRESH_SECONDS - SURE_SECONDS` may take effect after another server has taken the store. Workers are not
fenced: the parts that they add have names of their own and are keyed by what they were made from.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from amber_ray.errors import DamagedRecord, StoreBusy, StoreError
from amber_ray.store.files import Files
from amber_ray.store.json_files import read_json, write_json

log = logging.getLogger("amber.store")

NAME = "lease.json"
FRESH_SECONDS = 15.0
"""A record that has not changed for so long belongs to a dead holder."""
RENEW_SECONDS = 5.0
"""How often a holder writes its record anew."""
SURE_SECONDS = 10.0
"""Nobody takes a holder for dead that has renewed its record within this time."""
SETTLE_SECONDS = 0.5
"""A claimant reads its record again after this time: another claimant may have written over it."""
ANCIENT_SECONDS = 600.0
"""A record whose beat is so old need not be watched: no two clocks differ by that much."""


class Lease:
    """Held by the first shard's process. A local lock ends with its process, however that ends. Blocking."""

    def __init__(
        self,
        url: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._files = Files(url)
        self._clock = clock
        self._sleep = sleep
        self._file: IO[str] | None = None
        self._record: dict[str, Any] = {}

    def acquire(self, owner: str) -> None:
        """Take the store; to take it twice is fine.

        Raises `StoreBusy`, naming the holder, and `StoreError` if the store can't be read or written now. On
        an object store this takes half a second, and up to `FRESH_SECONDS` after a holder's sudden death.
        """
        if self._record:
            return
        now = self._clock()
        record = {
            "owner": owner,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": now,
            "beat": now,
            "token": secrets.token_hex(8),
        }
        if self._files.local:
            self._lock(record)
        else:
            self._claim(record)
        self._record = record

    def look(self) -> None:
        """Raise `StoreBusy` if a living process of this machine holds the lock; otherwise nothing is known.

        For whoever would start much before `acquire`, and on a directory only: a record in an object store
        must be watched. Only a living process's lock is tried, so no claimant finds it held by this look.
        """
        if not self._files.local:
            return
        try:
            with open(self._files.path(NAME)) as file:
                held = _parsed(file.read())
                if held.get("host") == socket.gethostname() and _lives(held):
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(self._busy(held)) from None
        except OSError:
            return  # `acquire` says so, if it is no better then

    def renew(self, now: float) -> None:
        """Write the record anew if `RENEW_SECONDS` have passed; a local lock need only be there still.

        Raises `StoreBusy` if another server has taken the store: then this one must stop. Raises `StoreError`
        if the store can't be reached or written, or its lock is there no more; the next call tries again.
        """
        if self._file is not None:
            self._look_after(self._file)
            return
        if not self._record or now - self._record["beat"] < RENEW_SECONDS:
            return
        held = self._read()
        if held and not held.get("damaged") and held.get("token") != self._record["token"]:
            self._record = {}
            raise StoreBusy(self._busy(held))
        beaten = {**self._record, "beat": now}
        self._write(beaten)
        self._record = beaten

    def guard(self) -> None:
        """Raise `StoreError` unless this holder certainly owns the store still: it must change nothing there.

        A holder that was stopped for a while, or could not renew its record, may have been taken for dead.
        Costs no call to the store.
        """
        silent = self._clock() - self._record.get("beat", -math.inf)
        if not self._record or not (self._files.local or silent < SURE_SECONDS):
            raise StoreError(
                f"the lease of the store {self._url!r} was not renewed in time, so nothing is changed there "
                "until it has been"
            )

    def release(self) -> None:
        """Give the store up; fine if it is not held."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None
        elif self._record and self._read().get("token") == self._record["token"]:
            self._files.remove(NAME)
        self._record = {}

    def _lock(self, record: Mapping[str, Any]) -> None:
        self._files.make("")
        with self._files.translated("locked"):
            file = open(self._files.path(NAME), "a+")  # noqa: SIM115 - held open: the lock lives as long
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                text = file.read()
                file.close()
                raise StoreBusy(self._busy(_parsed(text))) from None
            except OSError:
                file.close()
                raise
            file.seek(0)
            file.truncate()
            json.dump(record, file)
            file.flush()
        self._file = file

    def _look_after(self, file: IO[str]) -> None:
        """Raise `StoreError` if the lock is not in its place, or nothing can be written there."""
        path = self._files.path(NAME)
        with self._files.translated("locked"):
            try:
                same = os.stat(path).st_ino == os.fstat(file.fileno()).st_ino
                os.utime(path)
            except FileNotFoundError:
                same = False
            if not same:
                raise StoreError(f"the lock of the store {self._url!r}, {path!r}, is gone or another one")

    def _claim(self, record: Mapping[str, Any]) -> None:
        first = held = self._read()
        until = self._clock() + FRESH_SECONDS
        while held and not self._is_over(held):
            if held != first:
                raise StoreBusy(self._busy(held))
            if self._clock() >= until:
                break
            self._sleep(1.0)
            held = self._read()
        self._write(record)
        self._sleep(SETTLE_SECONDS)
        held = self._read()
        if held.get("token") != record["token"]:
            raise StoreBusy(self._busy(held))

    def _is_over(self, held: Mapping[str, Any]) -> bool:
        """Return whether the holder is known to be dead.

        That is a process of this machine that has ended, or any holder that was silent for very long.
        """
        if held.get("damaged"):
            return False
        if self._clock() - float(held.get("beat", 0.0)) > ANCIENT_SECONDS:
            return True
        if held.get("host") != socket.gethostname():
            return False
        return not _lives(held)

    def _read(self) -> dict[str, Any]:
        """Return the record; empty if there is none. Raises `StoreError` if it can't be read now.

        A damaged record stands for an unknown holder, which writes over it in time if it lives.
        """
        try:
            return read_json(self._files, NAME) or {}
        except DamagedRecord as error:
            log.error("the lease of the store %r: %s", self._url, error)
            return {"damaged": True}

    def _write(self, record: Mapping[str, Any]) -> None:
        write_json(self._files, NAME, record)

    def _busy(self, held: Mapping[str, Any]) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(held.get("since", 0.0))))
        return (
            f"the store {self._url!r} is in use by {held.get('owner', 'another server')} "
            f"(host {held.get('host', '?')}, process {held.get('pid', '?')}, since {since}); "
            "stop it, ask it with --server, or choose another --store"
        )


def _lives(held: Mapping[str, Any]) -> bool:
    """Whether a record's process, which is one of this machine, may still live."""
    try:
        os.kill(int(held["pid"]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, KeyError, ValueError):
        return True
    return True


def _parsed(text: str) -> dict[str, Any]:
    """Return the record in a lock file; empty while its holder is about to write it."""
    try:
        record = json.loads(text)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
