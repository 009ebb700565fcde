"""`ProgressBar`: a progress bar on stderr over the requests of one call.

Drawn only when wanted, or by default when stderr is a terminal, and only once there is something to wait for.
Must not know: where progress comes from.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from amber_ray.client.exchange import Report
from amber_ray.core.model.request import RequestView
from amber_ray.core.model.service import RequestEvent

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """A bar with done/total, rate and time left. Use it in a `with`; `part` makes each request's reporter."""

    def __init__(self, wanted: bool | None, *, label: str = "", parts: int = 1) -> None:
        """`wanted` None asks whether stderr is a terminal; `parts` is how many requests there will be."""
        self.shown = sys.stderr.isatty() if wanted is None else wanted
        self._label = label if len(label) <= 40 else label[:37] + "..."
        self._parts = parts
        self._known: list[tuple[int, int]] = []
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def part(self) -> Report | None:
        """A reporter for one more request; None if no bar is to be drawn."""
        if not self.shown:
            return None
        number = len(self._known)
        self._known.append((0, 0))

        async def report(now: RequestView | RequestEvent) -> None:
            self._known[number] = (now.done, now.total)
            self._draw()

        return report

    @property
    def done(self) -> int:
        """Steps done, over all requests."""
        return sum(d for d, _ in self._known)

    @property
    def total(self) -> int | None:
        """Steps wanted, over all requests; those not begun are taken to be like the others. None at first."""
        totals = [t for _, t in self._known if t]
        if not totals:
            return None
        return round(sum(totals) * max(1.0, self._parts / len(totals)))

    def _draw(self) -> None:
        if self._bar is None:
            self._bar = _rich()
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self.total)
        assert self._task is not None
        self._bar.update(self._task, completed=self.done, total=self.total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _rich() -> Progress:
    """The bar of rich; imported here because a client that draws nothing should not pay for it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Task as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps per second."""

        def render(self, task: Bar) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
