"""Values as an engine holds them: typed for encoding, in a bounded memory, and uploads on their way in."""

from __future__ import annotations

import asyncio
import pickle
from collections import OrderedDict
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any

import numpy as np

from amber_ray.core.declare.registry import Registry
from amber_ray.core.model.service import StoredValue
from amber_ray.core.model.units import Asset
from amber_ray.core.values.annotations import of_value
from amber_ray.errors import TooLarge, UnknownFeature
from amber_ray.fabric.transport.messages import Answer
from amber_ray.media.probe import Catalogue

ANSWER_BYTES = 512
"""Charged per remembered answer beside its value."""
QUEUED_CHUNKS = 8
"""Upload chunks held between the network and the disk."""


class Cache:
    """The most recently used values, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, tuple[StoredValue, int]] = OrderedDict()
        self.bytes = 0

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: str) -> StoredValue | None:
        """The value, now the most recently used; None if it is not here."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, value: StoredValue, size: int) -> None:
        """Keep a value unless it is larger than a quarter of the limit."""
        if size * 4 > self._limit or value.key in self._values:
            return
        self._values[value.key] = value, size
        self.bytes += size
        while self.bytes > self._limit:
            _, (_, freed) = self._values.popitem(last=False)
            self.bytes -= freed

    def forget(self, keys: Iterable[str]) -> None:
        """These values were purged."""
        for key in keys:
            found = self._values.pop(key, None)
            if found is not None:
                self.bytes -= found[1]


class Answers:
    """Good answers, most recently used: what makes a repeated request cost no call at all.

    One that carries its value is right for ever. One that does not is right as long as this process holds
    the value itself: whoever owns it may let go of it at any time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Answer | None:
        """The answer, as a cache hit; None if it is not here."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def put(self, answer: Answer) -> None:
        """Remember an answer unless it is a failure."""
        if answer.failure is not None or answer.key in self._answers:
            return
        self._answers[answer.key] = answer._replace(cached=True)
        self._bytes += len(answer.inline or b"") + ANSWER_BYTES
        while self._bytes > self._limit:
            _, gone = self._answers.popitem(last=False)
            self._bytes -= len(gone.inline or b"") + ANSWER_BYTES

    def forget(self, keys: Iterable[str]) -> None:
        """These values were purged, or are being made anew."""
        for key in keys:
            gone = self._answers.pop(key, None)
            if gone is not None:
                self._bytes -= len(gone.inline or b"") + ANSWER_BYTES


def stored_value(registry: Registry, key: str, feature: str, version: str, value: Any) -> StoredValue:
    """A value with its type: the declared one, or one read off the value if its feature is now unknown."""
    try:
        spec = registry.get(feature)
        type = spec.returns if spec.version == version else of_value(value)
    except UnknownFeature:
        type = of_value(value)
    return StoredValue(key, feature, version, type, value)


def size_of(value: Any) -> int:
    """A value's bytes, arrays counted by their buffers and not copied."""
    if type(value) is np.ndarray and not value.dtype.hasobject:
        return int(value.nbytes)
    buffers: list[pickle.PickleBuffer] = []
    try:
        head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    except (pickle.PicklingError, AttributeError, TypeError):
        return 1 << 16
    return len(head) + sum(b.raw().nbytes for b in buffers)


async def upload(
    catalogue: Catalogue, chunks: AsyncIterable[bytes], media_type: str | None, limit: int
) -> Asset:
    """Feed chunks from the network to the catalogue, which writes and digests them in a thread.

    Raises `TooLarge` past `limit` bytes; nothing is kept then, nor when the sender stops early.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(QUEUED_CHUNKS)

    def pull() -> Iterator[bytes]:
        while True:
            item = asyncio.run_coroutine_threadsafe(queue.get(), loop).result()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    async def push(item: bytes | BaseException | None) -> None:
        """Hand over an item, unless the writer has ended: nobody would take it then."""
        put = asyncio.create_task(queue.put(item))
        await asyncio.wait({put, writer}, return_when=asyncio.FIRST_COMPLETED)
        if not put.done():
            put.cancel()

    writer = asyncio.create_task(asyncio.to_thread(catalogue.upload, pull(), media_type))
    size = 0
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"an upload may be {limit} bytes; this one is larger")
            await push(bytes(chunk))
            if writer.done():
                break
    except BaseException as error:
        stop = asyncio.create_task(push(error))
        await asyncio.wait({writer, stop}, timeout=10.0)
        if writer.done() and not writer.cancelled():
            writer.exception()  # it is this very error
        raise
    await push(None)
    return await writer
