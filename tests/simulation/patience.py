"""What a ledger promises of calls: a rate is never exceeded, and a step that asks for patience gets it.

A step that is to be tried later is charged with nothing, is tried at its time and not before, and is given up
only when it has been put off for as long as a step may be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import Entry, State
from tests.simulation.calls import Starts

if TYPE_CHECKING:
    from tests.simulation.world import World

LATEST_SECONDS = 60.0
"""The longest pause of a step that did not say when it is to be tried."""


class CallWatch:
    """Watches one ledger."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._ledger = ledger
        self._starts: dict[str, Starts] = {}
        self._wishes: list[tuple[Entry, float, int, float | None]] = []
        self._due: dict[Entry, float] = {}

    def before(self, event: ev.Event) -> None:
        """An event is about to be taken in."""
        self._wishes.clear()
        if isinstance(event, ev.Reported):
            task = self._ledger.tasks.get(event.task)
            if task is None or task.home is not None:
                return
            for report in event.reports:
                if report.later is not None and self._ledger.accepts(event.task, report.key):
                    entry = self._ledger.entries[report.key]
                    self._wishes.append((entry, report.later, entry.tries, entry.put_off))

    def after(self, event: ev.Event, commands: Iterable[ev.Command], now: float) -> None:
        """An event was taken in."""
        entries = self._ledger.entries
        allowed = self._ledger.settings.retry_later_seconds
        for entry, later, tries, since in self._wishes:
            before = 0.0 if since is None else now - since
            if entry.failure is not None and entry.failure.key != entry.key:
                continue  # an input of it failed in the same event
            if entry.state is State.FAILED:
                longest = before + (later or LATEST_SECONDS)
                assert longest > allowed, f"{entry} was put off for {longest:g} s and is given up"
                self._world.saw("a step was put off for too long")
            elif entries.get(entry.key) is entry:
                assert entry.state is State.WAITING, f"{entry} is to be tried later"
                assert before + later <= allowed, f"{entry} is put off for longer than {allowed:g} s"
                assert entry.tries == tries, f"{entry} is charged for its patience"
                self._due[entry] = now + later
        for command in commands:
            if isinstance(command, ev.Submit) and command.task.home is None:
                self._handed(command.task, now)
        self._due = {entry: due for entry, due in self._due.items() if entries.get(entry.key) is entry}

    def _handed(self, task: ev.Task, now: float) -> None:
        for step in task.steps:
            due = self._due.pop(self._ledger.entries[step.key], 0.0)
            assert now >= due, f"{step.key} is tried {due - now:.3f} s before its time"
        rate = task.recipe.calls.rate
        if rate is not None:
            starts = self._starts.setdefault(task.recipe.feature, Starts())
            starts.one(now, rate.apart * self._world.scenario.shards, task.recipe.feature)
