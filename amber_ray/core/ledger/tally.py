"""What has become of steps, by feature: counted for operators, read by nothing in the ledger.

A step is counted under a tuple, since naming a series takes longer than the rest of counting it; the names
are made when somebody asks. Must not know: requests, how it is told.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TypeVar

from amber_ray.core.model.stats import BOUNDS, CLASSES, series, timed

T = TypeVar("T")


class Tally:
    """Counts since the shard began."""

    def __init__(self) -> None:
        self._steps: Counter[tuple[str, str]] = Counter()  # by feature and outcome
        self._ran: Counter[tuple[str, int]] = Counter()  # by feature and bucket
        self._seconds: Counter[str] = Counter()  # by feature, in microseconds
        self._waited: Counter[tuple[int, int]] = Counter()  # by class and bucket
        self._waits: Counter[int] = Counter()  # by class, in microseconds

    def ran(self, feature: str, seconds: float) -> None:
        """Count a step that gave a value after so long."""
        self._steps[feature, "computed"] += 1
        self._ran[feature, bisect_left(BOUNDS, seconds)] += 1
        self._seconds[feature] += round(seconds * 1e6)

    def waited(self, tier: int, seconds: float) -> None:
        """Count a step of a class that has begun after it could for so long."""
        self._waited[tier, bisect_left(BOUNDS, seconds)] += 1
        self._waits[tier] += round(seconds * 1e6)

    def ended(self, feature: str, outcome: str) -> None:
        """Count a step that `failed`, or is `retried`."""
        self._steps[feature, outcome] += 1

    def told(self) -> dict[str, float]:
        """All counts, by the names of their series."""
        told = {
            series("steps_total", feature=feature, outcome=outcome): float(count)
            for (feature, outcome), count in self._steps.items()
        }
        for feature, total in self._seconds.items():
            told |= _histogram("step_seconds", ("feature", feature), self._ran, feature, total)
        for tier, total in self._waits.items():
            told |= _histogram("wait_seconds", ("class", CLASSES[tier]), self._waited, tier, total)
        return told


def _histogram(
    name: str, label: tuple[str, str], counts: Counter[tuple[T, int]], which: T, total: int
) -> dict[str, float]:
    buckets, its_sum = timed(name, (label,))
    told = {its_sum: float(total)}
    told |= {
        bucket: float(counts[which, number])
        for number, bucket in enumerate(buckets)
        if (which, number) in counts
    }
    return told
