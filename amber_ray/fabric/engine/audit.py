"""Has what this engine changes written down before it is answered: who, what, and what came of it.

    change ──→ made ──→ line ──→ with those of the same moment, one call of the first shard ──→ answer
                                                                  └ on paper when it returns

A caller that hangs up meanwhile takes no line along. What is refused changes nothing and is no line. A first
shard that does not come back is given up after minutes; the lines are in this process's log then.

Must not know: who the callers are, where lines are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from amber_ray.core.model import audit
from amber_ray.core.model.audit import AuditLine, Change, detail_of
from amber_ray.errors import AmberError
from amber_ray.fabric.engine.ports import Clock, Identity, Spawn
from amber_ray.fabric.engine.shard_client import ShardClient

log = logging.getLogger("amber.audit")

AT_ONCE = 1000
"""Lines that travel in one call."""


class Auditor:
    """The changes of one engine."""

    def __init__(self, shards: Sequence[ShardClient], clock: Clock, identity: Identity, spawn: Spawn) -> None:
        self._shards = shards
        self._clock = clock
        self._identity = identity
        self._spawn = spawn
        self._waiting: dict[str, AuditLine] = {}
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def change(
        self, what: Change, subject: str, tenant: str = "", **detail: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Note what is done inside, by who acts now, and on paper at the end.

        Yields the detail, to add to; a `subject` or `tenant` in it is the line's.
        """
        line = audit.line("", 0.0, what, subject, audit.actor(), tenant)
        try:
            yield detail
        except AmberError as error:
            if error.status >= 500:
                await self._note(line, detail, type(error).__name__)  # it may be done all the same
            raise
        except BaseException:
            self._spawn(self._written(self._made(line, detail, "interrupted")))
            raise
        await self._note(line, detail, "done")

    async def note(self, what: Change, subject: str, tenant: str = "", **detail: Any) -> None:
        """Note what is done; on paper on return."""
        await self._note(audit.line("", 0.0, what, subject, audit.actor(), tenant), detail, "done")

    async def close(self, seconds: float) -> None:
        """Wait until what was noted is written."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._lock:
                while self._waiting:
                    await self._send()

    async def _note(self, line: AuditLine, detail: dict[str, Any], outcome: str) -> None:
        # Beside: a caller that hangs up now must not take the line along.
        await asyncio.shield(self._spawn(self._written(self._made(line, detail, outcome))))

    def _made(self, line: AuditLine, detail: dict[str, Any], outcome: str) -> AuditLine:
        subject, tenant = detail.pop("subject", line.subject), detail.pop("tenant", line.tenant)
        return dataclasses.replace(
            line,
            tenant=audit.clipped(tenant),
            id=self._identity.new_id(),
            time=round(self._clock.unix(), 6),
            subject=audit.clipped(subject),
            outcome=outcome,
            detail=detail_of(detail),
        )

    async def _written(self, line: AuditLine) -> None:
        self._waiting[line.id] = line
        async with self._lock:
            while line.id in self._waiting:  # else it went with those of whoever had the lock before
                await self._send()

    async def _send(self) -> None:
        """Send the lines that have waited longest, whoever brought them."""
        lines = list(itertools.islice(self._waiting.values(), AT_ONCE))
        try:
            await self._shards[0].call("audited", lines)
        except AmberError as error:
            for one in lines:
                log.error("a line of the audit log could not be written (%s): %s", error, audit.told(one))
        finally:
            for one in lines:
                self._waiting.pop(one.id, None)
