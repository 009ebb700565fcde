"""How much the store holds, measured at most once a minute and only while somebody asks.

Measuring is a listing of the store. Must not know: files.
"""

from __future__ import annotations

import asyncio
import logging
import math

from amber_ray.core.model.stats import series
from amber_ray.errors import StoreError
from amber_ray.fabric.shard.context import ShardContext

log = logging.getLogger("amber.shard")

FRESH_SECONDS = 60.0
PATIENCE_SECONDS = 1.0
"""How long a question waits for a listing; one that takes longer is told with the next."""


class StoreSize:
    """The sizes of all parts. Only the first shard measures them."""

    def __init__(self, context: ShardContext) -> None:
        self._context = context
        self._parts = self._bytes = 0
        self._measured = -math.inf
        self._done: asyncio.Event | None = None

    async def stats(self) -> dict[str, float]:
        """Gauges; none while the store has not been listed yet."""
        if self._done is None and self._context.clock.now() - self._measured > FRESH_SECONDS:
            self._done = asyncio.Event()
            self._context.spawn(self._measure(self._done))
        if self._done is not None:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._done.wait()
            except TimeoutError:
                pass
        if self._measured == -math.inf:
            return {}
        return {series("held_bytes", tier="store"): float(self._bytes), "store_parts": float(self._parts)}

    async def _measure(self, done: asyncio.Event) -> None:
        try:
            self._parts, self._bytes = await self._context.parts.size()
            self._measured = self._context.clock.now()
        except StoreError as error:
            log.warning("the store's size is not known: %s", error)
        finally:
            self._done = None
            done.set()
