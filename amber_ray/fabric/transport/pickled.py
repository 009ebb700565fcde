"""The one place where small values are unpickled: bytes that this cluster's own workers made.

They come in messages between Amber's processes, never from HTTP and never from a file that a caller can name.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Bundle(NamedTuple):
    """Many small values' bytes in one buffer: that travels as one copy, where each would be pickled again.

    `data` is uint8[n]; `places` says from where to where each value's bytes are.
    """

    places: Mapping[str, tuple[int, int]]
    data: np.ndarray

    def pickle_of(self, key: str) -> memoryview:
        """The bytes of a key's value."""
        start, end = self.places[key]
        return self.data[start:end].data

    def load(self, key: str) -> Any:
        """The value of a key."""
        return loads(self.pickle_of(key))


def bundled(values: Mapping[str, bytes]) -> Bundle:
    """The bytes of values by their keys."""
    places: dict[str, tuple[int, int]] = {}
    end = 0
    for key, data in values.items():
        places[key] = end, end + len(data)
        end += len(data)
    return Bundle(places, np.frombuffer(b"".join(values.values()), np.uint8))


def loads(data: bytes | memoryview) -> Any:
    """The value in bytes that `fabric.worker.fabric.worker.snapshot.take` made."""
    return pickle.loads(data)  # noqa: S301 - from a worker of this cluster


def stacked(pickles: Sequence[bytes | memoryview]) -> np.ndarray | None:
    """Arrays of one dtype and shape as one array of them all, none of them made; None for anything else.

    The pickles of such arrays differ in their elements alone. Which bytes those are is seen by comparing two
    arrays that differ in every byte; all others have to be the same in each of `pickles`.
    """
    size = len(pickles[0])
    one = _bare_array(pickles[0])
    if one is None or not one.ndim or not one.nbytes or any(len(data) != size for data in pickles):
        return None
    low, high = (_filled(one, byte) for byte in (0x00, 0xFF))
    if len(low) != size or len(high) != size:
        return None
    places = np.flatnonzero(low != high)
    start, end = int(places[0]), int(places[-1]) + 1
    if not len(places) == end - start == one.nbytes:
        return None
    every = np.frombuffer(b"".join(pickles), np.uint8).reshape(len(pickles), size)
    if (every[:, :start] != low[:start]).any() or (every[:, end:] != low[end:]).any():
        return None
    return np.ascontiguousarray(every[:, start:end]).view(one.dtype).reshape(len(pickles), *one.shape)


def _filled(like: np.ndarray, byte: int) -> np.ndarray:
    """The pickle of a read-only array like that one, each byte of it the same."""
    made = np.frombuffer(bytes([byte]) * like.nbytes, like.dtype).reshape(like.shape)
    return np.frombuffer(pickle.dumps(made, protocol=5), np.uint8)


def _bare_array(data: bytes | memoryview) -> np.ndarray | None:
    """The array in a pickle that has nothing else in it; None if it is another value's."""
    try:
        value = _OfNumpy(io.BytesIO(data)).load()
    except Exception:  # noqa: BLE001 - whatever can't be made here is no array
        return None
    return value if type(value) is np.ndarray else None


class _OfNumpy(pickle.Unpickler):
    """Makes what numpy alone can make: no feature's code is loaded for it."""

    def find_class(self, module: str, name: str) -> Any:
        """See `pickle.Unpickler`."""
        if module.partition(".")[0] != "numpy":
            raise pickle.UnpicklingError(f"{module}.{name} is not numpy's")
        return super().find_class(module, name)
