"""One server per store: an operating system's lock where there is one, else a record with a heartbeat.

Without a lock nobody can say that a holder is dead, only that its record no longer changes: a claimant
watches it for `FRESH_SECONDS` by its own clock, so clocks need not agree. Two claimants at once both write,
wait, and read again: the record is of one of them. One that wrote much later than it read is found out by the
other's `renew`.
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

from amber_ray.errors import StoreBusy, StoreError
from amber_ray.store.files import Files

log = logging.getLogger("amber.store")

NAME = "lease.json"
FRESH_SECONDS = 15.0
"""A record that has not changed for so long is of a dead holder."""
RENEW_SECONDS = 5.0
SURE_SECONDS = 10.0
"""A holder that has beaten within that time is taken for dead by nobody."""
SETTLE_SECONDS = 0.5
ANCIENT_SECONDS = 600.0
"""No two clocks differ by that: a record so old need not be watched."""


class Lease:
    """Held by the first shard's process. A local lock goes with the process, however that ends. Blocking."""

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
        """Take the store; twice is once. Raises `StoreBusy`, naming the holder.

        On an object store this takes half a second, and up to `FRESH_SECONDS` after a holder's sudden death.
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

    def renew(self, now: float) -> None:
        """Say that the holder lives, when it is time to; a local lock needs no such word.

        Raises `StoreBusy` if another server has taken the store: then this one must stop. A store that can't
        be reached is told to the log and tried again by the next call.
        """
        if self._files.local or not self._record or now - self._record["beat"] < RENEW_SECONDS:
            return
        try:
            held = self._read()
            if held and held.get("token") != self._record["token"]:
                self._record = {}
                raise StoreBusy(self._busy(held))
            beaten = {**self._record, "beat": now}
            self._write(beaten)
            self._record = beaten
        except StoreBusy:
            raise
        except StoreError as error:
            log.warning("the lease of the store could not be renewed: %s", error)

    def guard(self) -> None:
        """Raise `StoreError` unless the store is surely this holder's still: delete nothing then.

        A holder that was stopped for a while, or could not renew, may have been taken for dead.
        """
        silent = self._clock() - self._record.get("beat", -math.inf)
        if not self._record or not (self._files.local or silent < SURE_SECONDS):
            raise StoreError(
                f"the lease of the store {self._url!r} was not renewed in time, so nothing is deleted there"
            )

    def release(self) -> None:
        """Give the store up; not to hold it is fine."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None
        elif self._record and self._read().get("token") == self._record["token"]:
            self._files.remove(NAME)
        self._record = {}

    def _lock(self, record: Mapping[str, Any]) -> None:
        self._files.make("")
        with self._files.told("locked"):
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
        """Whether the holder is known to be dead: a process of this machine that is gone, or long silent."""
        if self._clock() - float(held.get("beat", 0.0)) > ANCIENT_SECONDS:
            return True
        if held.get("host") != socket.gethostname():
            return False
        try:
            os.kill(int(held["pid"]), 0)
        except ProcessLookupError:
            return True
        except (PermissionError, KeyError, ValueError):
            return False
        return False

    def _read(self) -> dict[str, Any]:
        return _parsed((self._files.read(NAME) or b"").decode(errors="replace"))

    def _write(self, record: Mapping[str, Any]) -> None:
        self._files.put(NAME, json.dumps(record).encode())

    def _busy(self, held: Mapping[str, Any]) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(held.get("since", 0.0))))
        return (
            f"the store {self._url!r} is in use by {held.get('owner', 'another server')} "
            f"(host {held.get('host', '?')}, process {held.get('pid', '?')}, since {since}); "
            "stop it, ask it with --server, or choose another --store"
        )


def _parsed(text: str) -> dict[str, Any]:
    """A record; empty while its holder is about to write it."""
    try:
        record = json.loads(text)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
