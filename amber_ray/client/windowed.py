"""`WindowedValues`: the values of one feature for each window of an asset, in order.

Must not know: how they were had.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from amber_ray.core.model.units import Segment


class WindowedValues(list[Any]):
    """A list of values by time, each for a window of an asset: a segment, or a range that a feature found.

    `windows` has a `Segment` for each value, with `start` and `end` in seconds. `items()` yields pairs of
    window and value, as a mapping's does:

        for window, caption in client.get("caption", "film.mp4").items():
            print(window.start, window.end, caption)
    """

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[Segment] = []

    def add(self, window: Segment, value: Any) -> None:
        """Put a value at the end."""
        self.windows.append(window)
        self.append(value)

    def items(self) -> Iterator[tuple[Segment, Any]]:
        """Yield (window, value), in order. Raises `ValueError` if the list was changed."""
        return zip(self.windows, self, strict=True)
