"""The one place where small values are unpickled: bytes that this cluster's own workers made.

They come in messages between Amber's processes, never from HTTP and never from a file that a caller can name.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Bundle(NamedTuple):
    """Many small values' bytes in one buffer: that travels as one copy, where each would be pickled again.

    `data` is uint8[n]; `places` says from where to where each value's bytes are.
    """

    places: Mapping[str, tuple[int, int]]
    data: np.ndarray

    def load(self, key: str) -> Any:
        """The value of a key."""
        start, end = self.places[key]
        return loads(self.data[start:end].data)


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
