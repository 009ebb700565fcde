"""The desk of the audit log, at the first shard: takes lines in, and has them written before it answers.

    engines ─ lines, many in a call ──→ waiting ── all of them, while none are being written ──→ a file

While one file is written, what comes meanwhile gathers for the next one, so that a storm of changes costs
few files. A store that can't be written now does not undo a change: its lines stay in memory, up to `MOST`,
and are tried again every few seconds. So a line is lost only with the process, while the store can't be
written.

Must not know: who makes changes, what a file is.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence

from amber_ray.core.model import audit
from amber_ray.core.model.audit import AuditFilter, AuditLine, LinePlace
from amber_ray.core.model.pages import Told
from amber_ray.errors import StoreError
from amber_ray.fabric.shard.ports import Audit, Clock

log = logging.getLogger("amber.audit")

MOST = 10_000
"""Lines that wait for a store that can't be written; past that the oldest go to the log alone."""
BATCH = 1000
"""Lines of one file, as they are written first."""


class AuditDesk:
    """The audit log of a store. Belongs to the first shard's event loop."""

    def __init__(self, book: Audit, clock: Clock) -> None:
        self._book = book
        self._clock = clock
        self._waiting: dict[str, AuditLine] = {}
        self._lock = asyncio.Lock()

    @property
    def unwritten(self) -> int:
        """Lines that are not on paper yet."""
        return len(self._waiting)

    async def write(self, lines: Sequence[AuditLine]) -> None:
        """Add lines; on return they are durable, unless the store can't be written now. Twice is once."""
        for one in lines:
            self._waiting[one.id] = one
        while len(self._waiting) > MOST:
            lost = self._waiting.pop(next(iter(self._waiting)))
            log.error("a line of the audit log has no room any more: %s", audit.told(lost))
        await self.flush()

    async def flush(self) -> None:
        """Write what waits; a store that can't be written is logged, and tried again by the next call."""
        async with self._lock:
            while batch := list(itertools.islice(self._waiting.values(), BATCH)):
                try:
                    await self._book.write(batch)
                except StoreError as error:
                    log.error("%d lines of the audit log can't be written yet: %s", len(self._waiting), error)
                    return
                for one in batch:
                    self._waiting.pop(one.id, None)

    async def read(self, only: AuditFilter, after: LinePlace | None, most: int) -> Told[AuditLine]:
        """The first lines after a place, the newest first. Raises `StoreError`."""
        return await self._book.read(only, after, most)

    async def tidy(self) -> None:
        """Join small files, and drop what is too old or too much."""
        await self._book.tidy(self._clock.unix())
