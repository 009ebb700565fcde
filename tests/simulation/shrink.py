"""A failing world made small: fewer callers, faults, assets and shards, as long as it fails in the same way.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions
on Software Engineering 28, 2002) over the stimuli of a scenario. It works because chance is drawn by name
(`draws`): what is left out changes nothing for the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tests.simulation.runs import attempt, kind
from tests.simulation.scenario import Ask, Scenario, Stimulus, names

MOST_RUNS = 2000


class Shrinker:
    """Makes one scenario small. `runs` counts the worlds that were tried."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.runs = 0
        _, failure = attempt(scenario)
        if not failure:
            raise ValueError(f"seed {scenario.seed} does not fail")
        self.failure = failure

    def shrink(self) -> Scenario:
        """The smallest that was found; repeated until nothing more can go."""
        before = None
        while before != self.scenario and self.runs < MOST_RUNS:
            before = self.scenario
            self._fewer_stimuli()
            for smaller in self._simpler():
                self._try(smaller)
        return self.scenario

    def _try(self, scenario: Scenario) -> bool:
        """Keep it if it fails in the same way."""
        self.runs += 1
        _, failure = attempt(scenario)
        if not failure or kind(failure) != kind(self.failure):
            return False
        self.scenario, self.failure = scenario, failure
        return True

    def _fewer_stimuli(self) -> None:
        size = max(1, len(self.scenario.stimuli) // 2)
        while True:
            start = 0
            while start < len(self.scenario.stimuli):
                now = self.scenario.stimuli
                if not self._try(self.scenario.replace(stimuli=now[:start] + now[start + size :])):
                    start += size
            if size == 1:
                return
            size //= 2

    def _simpler(self) -> Iterator[Scenario]:
        """Each way to leave something else out, of what the scenario is by then."""
        for name in self.scenario.chances:
            if self.scenario.chances[name]:
                yield self.scenario.replace(chances={**self.scenario.chances, name: 0.0})
        if self.scenario.shards > 1:
            yield self.scenario.replace(shards=1)
        for field in ("assets", "segments"):
            if getattr(self.scenario, field) > 1:
                yield _restricted(self.scenario.replace(**{field: getattr(self.scenario, field) - 1}))
        for index, stimulus in enumerate(self.scenario.stimuli):
            if isinstance(stimulus, Ask):
                for plainer in _plainer(stimulus):
                    now: Sequence[Stimulus] = self.scenario.stimuli
                    if plainer != now[index]:
                        yield self.scenario.replace(stimuli=(*now[:index], plainer, *now[index + 1 :]))


def _restricted(scenario: Scenario) -> Scenario:
    """Without targets that are no more."""
    known = set(names(scenario.assets, scenario.segments))
    kept = (
        dataclasses.replace(s, targets=tuple(t for t in s.targets if t in known)) if isinstance(s, Ask) else s
        for s in scenario.stimuli
    )
    return scenario.replace(stimuli=tuple(kept))


def _plainer(ask: Ask) -> Iterator[Ask]:
    """The caller with one wish less, or one target less."""
    for index in range(len(ask.targets)):
        yield dataclasses.replace(ask, targets=ask.targets[:index] + ask.targets[index + 1 :])
    for field in ("patience", "leaves", "dies", "accepted"):
        yield dataclasses.replace(ask, **{field: None})
    for field in ("refresh", "old"):
        yield dataclasses.replace(ask, **{field: False})
    yield dataclasses.replace(ask, load=True)
