"""What engines count and measure by themselves, added up: an answer from an engine's memory reaches no shard.

An engine tells its totals with the polls that it makes anyway. They are kept by session, so one that is told
twice, or that was given up and returns, is counted once; and they stay when the session ends. What it
measures goes with it.

Must not know: what is counted.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping

from amber_ray.core.model.stats import MOST_TENANTS, Named, series, split
from amber_ray.fabric.transport.messages import Counts

SESSIONS = 10_000
"""Sessions whose totals are kept apart; beyond that, those that were heard of longest ago are added up."""


class Tallies:
    """The totals of all engines since this incarnation of the shard began."""

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._sessions: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._others: Counter[str] = Counter()
        self._measured: dict[str, Mapping[str, int]] = {}
        self._tenants = Named(2 * MOST_TENANTS)

    def note(self, session: str, counts: Counts) -> None:
        """Take in a session's totals; what is late or meant for another incarnation changes nothing."""
        if counts.now:
            self._measured[session] = counts.now
        if counts.incarnation != self._incarnation or not counts.totals:
            return
        known = self._sessions.setdefault(session, {})
        self._sessions.move_to_end(session)
        for name, total in counts.totals.items():
            known[name] = max(total, known.get(name, 0))
        while len(self._sessions) > SESSIONS:
            _, oldest = self._sessions.popitem(last=False)
            self._others.update(oldest)

    def gone(self, session: str) -> None:
        """A session has ended: what it has counted stays."""
        self._measured.pop(session, None)

    def total(self) -> dict[str, int]:
        """Return the sums, by name."""
        summed = Counter(self._others)
        for totals in (*self._sessions.values(), *self._measured.values()):
            summed.update(totals)
        told: Counter[str] = Counter()
        for one, total in summed.items():
            told[self._bounded(one)] += total
        return dict(told)

    def _bounded(self, one: str) -> str:
        """A series' name: engines that come and go may have named many tenants in all."""
        if "tenant=" not in one:
            return one
        name, labels = split(one)
        return series(name, **{**labels, "tenant": self._tenants.of(labels["tenant"])})
