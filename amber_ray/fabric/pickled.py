"""The one place where small values are unpickled: bytes that this cluster's own workers made.

They come in messages between Amber's processes, never from HTTP and never from a file that a caller can name.
"""

from __future__ import annotations

import pickle
from typing import Any


def loads(data: bytes) -> Any:
    """The value in bytes that `fabric.tasks.measure` made."""
    return pickle.loads(data)  # noqa: S301 - from a worker of this cluster
