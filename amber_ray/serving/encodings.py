"""A stored value as bytes: JSON, an Arrow stream, `.npy`, or the media type it has of its own.

Must not know: HTTP headers, where values come from.
"""

from __future__ import annotations

import asyncio
import io
from typing import Any

from amber_ray.core.model.service import StoredValue
from amber_ray.core.values.size import size_of
from amber_ray.serving.answers import JSON_TYPE, encode_json
from amber_ray.serving.conditional import tag_of_content
from amber_ray.wire.views import ARROW_TYPE, NPY_TYPE

IN_LOOP = 32 * 1024
"""Bytes that are encoded in the event loop; a larger value goes to a thread."""


def offers(stored: StoredValue) -> tuple[str, ...]:
    """Return the media types that this value can be encoded as, the default first."""
    own = stored.type.media_type if isinstance(stored.value, (bytes, bytearray, memoryview)) else None
    first = (JSON_TYPE,) if own is None else (own, JSON_TYPE)
    if isinstance(stored.value, (bool, int, float)) or _is_array(stored.value):
        return (*first, ARROW_TYPE, NPY_TYPE)
    return (*first, ARROW_TYPE)


async def encode(stored: StoredValue, media_type: str) -> bytes:
    """Encode a value as one of its offers; a large one is encoded in a thread."""
    if media_type == ARROW_TYPE or size_of(stored.value) > IN_LOOP:
        return await asyncio.to_thread(encode_now, stored, media_type)
    return encode_now(stored, media_type)


async def tagged(content: bytes, media_type: str, coding: str) -> str:
    """Return the entity tag of a representation by its bytes; a large one is digested in a thread."""
    if len(content) > IN_LOOP:
        return await asyncio.to_thread(tag_of_content, content, media_type, coding)
    return tag_of_content(content, media_type, coding)


def encode_now(stored: StoredValue, media_type: str) -> bytes:
    """Encode a value as one of its offers, in this thread."""
    if media_type == JSON_TYPE:
        return encode_json(stored.type.to_json(stored.value))
    if media_type == ARROW_TYPE:
        return _arrow(stored)
    if media_type == NPY_TYPE:
        return _npy(stored.value)
    return bytes(stored.value)


def _is_array(value: Any) -> bool:
    """Return whether this is a numpy array that `.npy` can hold without pickling."""
    return hasattr(value, "__array_interface__") and not value.dtype.hasobject


def _npy(value: Any) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    # In C order whatever the array's own is: the same value read back from Parquet must be the same bytes.
    np.save(buffer, np.asarray(value, order="C"), allow_pickle=False)
    return buffer.getvalue()


def _arrow(stored: StoredValue) -> bytes:
    import pyarrow as pa

    from amber_ray.store.types import to_arrow_table

    table = to_arrow_table(stored.type, stored.value)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
