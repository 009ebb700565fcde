"""Values on their way to Parquet: column by column, since there are thousands of them.

A list of texts or numbers is pickled and made an Arrow column in C, where an object for each row would be
taken apart in Python at every step. Must not know: who writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from amber_ray.core.scheduler.costs import Means
from amber_ray.store.part import GROUP_BYTES
from amber_ray.store.rows import Provenance


class NewRows(NamedTuple):
    """Values of one feature and version that are to be written, and what is told of them.

    - `sizes`: bytes of each, in the order of the rows;
    - `inline`: the pickles of small values, by key: a `Bundle` where they travel;
    - `places`: (slot, place) of the other values, as in `Work.slots`;
    - `ranges`: how many ranges those have that are lists of ranges.
    """

    told: Provenance
    sizes: Sequence[int]
    inline: Any
    places: Mapping[str, tuple[int, int]]
    ranges: Sequence[int] = ()

    @property
    def costs(self) -> Means:
        """What one of the values costs in the mean."""
        rows, found = len(self.sizes), self.ranges
        ranges = sum(found) / len(found) if found else None
        return Means(sum(self.told.seconds) / rows, sum(self.sizes) / rows, ranges)

    def groups(self) -> Iterator[Provenance]:
        """What is told of the rows, in runs of as many bytes as a row group has.

        Memory that was used for a run before is had much faster than new memory.
        """
        start = size = 0
        for i, its in enumerate(self.sizes, 1):
            size += its
            if size >= GROUP_BYTES or i == len(self.sizes):
                yield self.told.part(start, i)
                start, size = i, 0
