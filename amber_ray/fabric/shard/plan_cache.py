"""Plans that engines have sent before: asking the same again sends a name, not a thousand steps.

A name is a digest of what the plan is (`fabric.engine.planner`), so whoever sends it means the same steps. It
is a memory, not a promise: an actor that restarted or that has let a plan go asks for it again. Must not
know: requests, Ray.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from amber_ray.fabric.transport.messages import KEPT_STEPS, PlanPart

STEPS = 32_768
"""Steps of all remembered plans together: some tens of megabytes."""


class PlanCache:
    """The most recently used plans."""

    def __init__(self, steps: int = STEPS, largest: int = KEPT_STEPS) -> None:
        self._limit = steps
        self._largest = largest
        self._known: OrderedDict[str, PlanPart] = OrderedDict()
        self._steps = 0

    def complete(self, sent: Mapping[str, PlanPart], names: Iterable[str]) -> dict[str, PlanPart] | list[str]:
        """All plans that are named, those just sent remembered; or the names of those that are not known."""
        found: dict[str, PlanPart] = {}
        lacking: list[str] = []
        for name in dict.fromkeys(names):
            part = sent.get(name) or self._known.get(name)
            if part is None:
                lacking.append(name)
            else:
                found[name] = part
        for name, part in found.items():
            self._remember(name, part)
        return lacking or found

    def _remember(self, name: str, part: PlanPart) -> None:
        if len(part.steps) > self._largest:
            return
        if name not in self._known:
            self._known[name] = part
            self._steps += len(part.steps)
        self._known.move_to_end(name)
        while self._steps > self._limit:
            _, gone = self._known.popitem(last=False)
            self._steps -= len(gone.steps)
