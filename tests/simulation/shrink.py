"""A failing world made small: fewer callers, faults, assets and shards, as long as it fails in the same way.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", IEEE Transactions
on Software Engineering 28, 2002) over the stimuli of a scenario. It works because chance is drawn by name
(`draws`): what is left out changes nothing for the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tests.simulation.runs import attempt, kind_of
from tests.simulation.scenario import Ask, Happening, Read, Scenario, Stimulus

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
        if not failure or kind_of(failure) != kind_of(self.failure):
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
        if self.scenario.engines > 1:
            yield _on_one_engine(self.scenario)
        if self.scenario.segments > 1:
            yield self.scenario.replace(segments=self.scenario.segments - 1)
        if self.scenario.assets > 1:
            yield _restricted(self.scenario.replace(assets=self.scenario.assets - 1))
        for index, stimulus in enumerate(self.scenario.stimuli):
            if isinstance(stimulus, Ask):
                for plainer in _plainer(stimulus):
                    now: Sequence[Stimulus] = self.scenario.stimuli
                    if plainer != now[index]:
                        yield self.scenario.replace(stimuli=(*now[:index], plainer, *now[index + 1 :]))


def _on_one_engine(scenario: Scenario) -> Scenario:
    """Everyone asks the first engine."""
    kept: list[Stimulus] = []
    for stimulus in scenario.stimuli:
        if isinstance(stimulus, Ask):
            kept.append(dataclasses.replace(stimulus, engine=0, other=0))
        elif isinstance(stimulus, Read):
            kept.append(dataclasses.replace(stimulus, engine=0))
        else:
            kept.append(stimulus)
    return scenario.replace(engines=1, stimuli=tuple(kept))


def _restricted(scenario: Scenario) -> Scenario:
    """Without assets that are no more, and without callers that asked for nothing else."""
    kept: list[Stimulus] = []
    for stimulus in scenario.stimuli:
        if isinstance(stimulus, Happening) or (
            isinstance(stimulus, Read) and stimulus.asset < scenario.assets
        ):
            kept.append(stimulus)
        elif isinstance(stimulus, Read):
            continue
        elif assets := tuple(n for n in stimulus.assets if n < scenario.assets):
            kept.append(dataclasses.replace(stimulus, assets=assets))
    return scenario.replace(stimuli=tuple(kept))


def _plainer(ask: Ask) -> Iterator[Ask]:
    """The caller with one wish less, or one feature or asset less."""
    for field in ("features", "assets"):
        named = getattr(ask, field)
        for index in range(len(named)):
            if len(named) > 1:
                yield dataclasses.replace(ask, **{field: named[:index] + named[index + 1 :]})
    for field in ("patience", "leaves", "returns", "cancels"):
        yield dataclasses.replace(ask, **{field: None})
    for field in ("refresh", "twin"):
        yield dataclasses.replace(ask, **{field: False})
