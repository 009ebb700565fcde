"""Calls of services: how many are handed over at once, and when the next one may start.

A call holds none of the cluster's resources, so it is not admitted by those. What admits it is a slot: each
pool has `concurrency` for calls that run, and as many for calls that stand in line behind them at the actor,
so that the next one starts at once when one ends. And its feature's `rate`, over all pools and requests.

A shard enforces its even share of a rate, `rate / shards`, so that all of them together never exceed it and
no shard has to ask another one. A restarted shard begins anew.

Must not know: which steps wait, Ray.
"""

from __future__ import annotations

from typing import Any

from amber_ray.core.planning.plan import Recipe

LATE_SECONDS = 0.1
"""How far a start that was late is caught up on."""


class Pace:
    """Starts that are `apart` seconds from each other, evenly: a token bucket that holds one token.

    A start that came late because somebody was slow, though it was waited for, does not delay those after it:
    so in any T seconds there are at most (T + LATE_SECONDS) / apart + 1 of them, and T / apart in the long
    run. Time in which nobody waited is not made up for.
    """

    __slots__ = ("_awaited", "opens_at")

    def __init__(self) -> None:
        self.opens_at = float("-inf")
        self._awaited = False

    def open(self, now: float) -> bool:
        """Return whether the next may start. If not, somebody waits for it from now on."""
        if now >= self.opens_at:
            return True
        self._awaited = True
        return False

    def start(self, now: float, apart: float) -> None:
        """Record a start."""
        since = max(self.opens_at, now - LATE_SECONDS) if self._awaited else now
        self.opens_at = since + apart
        self._awaited = False


class CallGate:
    """Slots of pools and paces of features, in one shard of so many."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.running: dict[Any, int] = {}
        self._paces: dict[str, Pace] = {}

    def admits(self, recipe: Recipe, now: float) -> bool:
        """Return whether a call may be handed over now."""
        if not self.has_slot(recipe):
            return False
        return recipe.calls.rate is None or self._pace(recipe).open(now)

    def has_slot(self, recipe: Recipe) -> bool:
        """Return whether the pool's actor has room for one more."""
        calls = recipe.calls
        return not calls.concurrency or self.running.get(recipe.pool, 0) < slots(calls.concurrency)

    def opens_at(self, recipe: Recipe) -> float:
        """Return when the rate lets the next call start."""
        return float("-inf") if recipe.calls.rate is None else self._pace(recipe).opens_at

    def took(self, recipe: Recipe, now: float) -> None:
        """Record a call that is handed over."""
        rate = recipe.calls.rate
        if rate is not None:
            self._pace(recipe).start(now, rate.apart * self.shards)
        if recipe.calls.concurrency:
            self.running[recipe.pool] = self.running.get(recipe.pool, 0) + 1

    def ended(self, recipe: Recipe) -> None:
        """Record the end of a call that was handed over."""
        if recipe.calls.concurrency:
            self.running[recipe.pool] -= 1
            if not self.running[recipe.pool]:
                del self.running[recipe.pool]

    def _pace(self, recipe: Recipe) -> Pace:
        """A feature's pace, whatever its version: the service behind it is the same."""
        return self._paces.setdefault(recipe.feature, Pace())


def slots(concurrency: int) -> int:
    """Return how many calls an actor is given at once: those that run, and as many in line."""
    return 2 * concurrency
