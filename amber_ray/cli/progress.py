"""How a long run over a catalogue stands, told as a bar on a terminal and in lines elsewhere.

Must not know: what is run.
"""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from amber_ray.cli.failed import is_unsuitable
from amber_ray.cli.terminal import note, seconds
from amber_ray.client.results import Results, asset_of

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS = 10.0
"""How often a line is written where there is no terminal."""
RECENT_SECONDS = 60.0
"""The rate is that of the last minute: at first what is there already goes by much faster than the rest."""


class CatalogueProgressBar:
    """Counts assets and values as tables come in. Use it in a `with`; `total` None means not known yet."""

    def __init__(
        self,
        total: int | None,
        *,
        shown: bool = True,
        skip_unsuitable: bool = False,
        clock: Callable[[], float] = time.monotonic,
        terminal: bool | None = None,
    ) -> None:
        """With `skip_unsuitable` an asset whose kind can't have a feature is no failure, but left out."""
        self.total = total
        self.assets = self.ready = self.cached = self.failed = self.missing = 0
        self.unsuitable = 0
        self._skip = skip_unsuitable
        self._clock = clock
        self._bar: Progress | None = None
        self._lines = shown
        if shown and (sys.stderr.isatty() if terminal is None else terminal):
            self._lines, self._bar = False, _rich()
        self._began = self._told = clock()
        self._recent = collections.deque([(self._began, 0, 0.0)])
        self._media = 0.0

    def add(self, results: Results) -> None:
        """Count one request's table, and tell how it stands if it is time to."""
        names: dict[str, float] = {}
        failed: set[tuple[str, str | None]] = set()
        unsuitable: set[tuple[str, str | None]] = set()
        for row in results.rows:
            if row.failure is not None:
                (unsuitable if is_unsuitable(row.failure) else failed).add((row.feature, row.asset))
                continue
            if row.state == "pending":
                self.missing += 1
                continue
            if not row.nothing_found:
                self.ready += 1
                self.cached += row.cached
            asset = None if row.unit is None else asset_of(row.unit)
            if row.asset is not None and asset is not None:
                names[row.asset] = asset.duration or 0.0
        self.unsuitable += len(unsuitable)
        self.failed += len(failed) if self._skip else len(failed | unsuitable)
        self.assets += len({row.asset for row in results.rows})
        self._media += sum(names.values())
        now = self._clock()
        self._recent.append((now, self.assets, self._media))
        while len(self._recent) > 2 and now - self._recent[0][0] > RECENT_SECONDS:
            self._recent.popleft()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self.assets, about=self.about())
        elif self._lines and now - self._told >= LINE_SECONDS:
            self._told = now
            note(f"{self.done()} {self.about()}")

    def done(self) -> str:
        """`12 of 60 assets`."""
        return (
            f"{self.assets:,} assets" if self.total is None else f"{self.assets:,} of {self.total:,} assets"
        )

    def about(self) -> str:
        """Rate, time left, the share that was there already, failures."""
        (t0, n0, m0), (t1, n1, m1) = self._recent[0], self._recent[-1]
        words = []
        if t1 > t0:
            rate = (n1 - n0) / (t1 - t0)
            words.append(f"{rate:.3g}/s")
            if m1 > m0:
                words.append(f"{(m1 - m0) / (t1 - t0):.3g} x real time")
            if self.total is not None and rate > 0:
                words.append(f"{seconds((self.total - self.assets) / rate)} left")
        if self.ready:
            words.append(f"{100 * self.cached / self.ready:.0f}% were there")
        words.append(f"{self.failed:,} failed")
        if self._skip and self.unsuitable:
            words.append(f"{self.unsuitable:,} left out")
        if self.missing:
            words.append(f"{self.missing:,} missing")
        return ", ".join(words)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.add_task("", total=self.total, about="")
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _rich() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[about]}"), console=Console(stderr=True)
    )
