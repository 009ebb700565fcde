"""What an engine remembers: values that it has read, answers about values, and units that were found.

All are bounded, and all are copies: whoever changes a value has them forgotten.

Must not know: shards, requests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from amber_ray.core.model.service import StoredValue
from amber_ray.core.model.units import EachRange
from amber_ray.core.planning.plan import Target
from amber_ray.core.values.annotations import of_value
from amber_ray.fabric.engine.registries import Registries
from amber_ray.fabric.transport.messages import Answer, Expansion, Found, FoundUnit

ANSWER_BYTES = 512
"""Charged per remembered answer beside its value."""
UNIT_BYTES = 512
"""Charged per remembered unit that a finder found: its key, its window, and both as a target."""


class Cache:
    """The most recently used values, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, tuple[StoredValue, int]] = OrderedDict()
        self.bytes = 0

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: str) -> StoredValue | None:
        """The value, now the most recently used; None if it is not here."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, value: StoredValue, size: int) -> None:
        """Keep a value unless it is larger than a quarter of the limit."""
        if size * 4 > self._limit or value.key in self._values:
            return
        self._values[value.key] = value, size
        self.bytes += size
        while self.bytes > self._limit:
            _, (_, freed) = self._values.popitem(last=False)
            self.bytes -= freed

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of these values: they were purged, or are made anew."""
        for key in keys:
            found = self._values.pop(key, None)
            if found is not None:
                self.bytes -= found[1]

    def clear(self) -> None:
        """Let go of every value."""
        self._values.clear()
        self.bytes = 0


class Answers:
    """Good answers, most recently used: what makes a repeated request cost no call at all.

    One that carries its value is right until the value is made anew. One that does not is right as long as
    this process holds the value itself: whoever owns it may let go of it at any time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._bytes = 0

    def get(self, key: str) -> Answer | None:
        """The answer, as a cache hit; None if it is not here."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def size(self, key: str) -> int | None:
        """How many bytes a value that did not come along with its answer has; None if that is not known."""
        found = self._answers.get(key)
        return (found.size or None) if found is not None else None

    def put(self, answer: Answer) -> None:
        """Remember an answer unless it is a failure."""
        if answer.failure is not None or answer.key in self._answers:
            return
        self._answers[answer.key] = answer._replace(cached=True)
        self._bytes += len(answer.inline or b"") + ANSWER_BYTES
        while self._bytes > self._limit:
            _, gone = self._answers.popitem(last=False)
            self._bytes -= len(gone.inline or b"") + ANSWER_BYTES

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of answers about these values: they were purged, or are made anew."""
        for key in keys:
            gone = self._answers.pop(key, None)
            if gone is not None:
                self._bytes -= len(gone.inline or b"") + ANSWER_BYTES

    def clear(self) -> None:
        """Let go of every answer."""
        self._answers.clear()
        self._bytes = 0


class Units:
    """The units that came in the places of targets that were each range of a finder, most recently used.

    They are right as long as the finder's value is: its key is what they are forgotten by. Another threshold
    of the finder, or another range, is a target with another key.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._units: OrderedDict[str, tuple[str, Sequence[FoundUnit]]] = OrderedDict()
        self._of_finder: dict[str, set[str]] = {}
        self._targets: dict[str, tuple[Target, Sequence[Target]]] = {}
        self._bytes = 0

    def get(self, each: Target) -> Sequence[Target] | None:
        """The targets in the place of one, by time, none where nothing was found; None if that is not here.

        Made once for a target that is asked again and again.
        """
        known = self._units.get(each.key)
        if known is None:
            return None
        self._units.move_to_end(each.key)
        asked, targets = self._targets.get(each.key, (None, ()))
        if asked is not each:
            targets = tuple([unit.target(each) for unit in known[1]])
            self._targets[each.key] = each, targets
        return targets

    def put(self, each: Target, units: Sequence[FoundUnit]) -> None:
        """Remember what a target has come to."""
        assert isinstance(each.unit, EachRange)
        self._forget(each.key)
        self._units[each.key] = each.unit.key, units
        self._of_finder.setdefault(each.unit.key, set()).add(each.key)
        self._bytes += UNIT_BYTES * (1 + len(units))
        while self._bytes > self._limit:
            self._forget(next(iter(self._units)))

    def expansion(self, each: Target) -> Expansion:
        """What a target has come to that is here."""
        return each.key, tuple(self._units[each.key][1])

    def keys(self, each: str) -> list[str]:
        """The keys of the units in the place of a target, by its own; none if they are not here."""
        known = self._units.get(each)
        return [] if known is None else [unit.key for unit in known[1]]

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of the units that came of these finders' values: they were purged, or are made anew."""
        for finder in keys:
            for each in list(self._of_finder.get(finder, ())):
                self._forget(each)

    def clear(self) -> None:
        """Let go of all of them."""
        for each in list(self._units):
            self._forget(each)

    def _forget(self, each: str) -> None:
        known = self._units.pop(each, None)
        if known is None:
            return
        finder, units = known
        self._targets.pop(each, None)
        self._bytes -= UNIT_BYTES * (1 + len(units))
        others = self._of_finder[finder]
        others.discard(each)
        if not others:
            del self._of_finder[finder]


class Places:
    """Where large values are, as answers about them told, until they are read.

    A place keeps its value in the object store, so few are kept, up to a number of bytes, and not for long:
    whoever asked reads at once, or not at all. `changes` counts how often places were called back: a value
    that was read across such a change is given to whoever asked, and must not be kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: OrderedDict[str, tuple[Found, int, float]] = OrderedDict()
        self._bytes = 0
        self.changes = 0

    def put(self, found: Found, shard: int, now: float) -> None:
        """Keep a place that a shard has told."""
        self._drop(found.key)
        self._places[found.key] = found, shard, now
        self._bytes += found.size
        while self._bytes > self._limit:
            self._drop(next(iter(self._places)))

    def take(self, keys: Iterable[str]) -> list[tuple[int, Found]]:
        """The places of those keys that are here, each with its shard; they are not here any more then."""
        taken = [(key, self._places.get(key)) for key in keys]
        for key, _ in taken:
            self._drop(key)
        return [(its[1], its[0]) for _, its in taken if its is not None]

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of places of values that were purged, or are made anew."""
        self.changes += 1
        for key in keys:
            self._drop(key)

    def clear(self) -> None:
        """Let go of every place."""
        self.changes += 1
        self._places.clear()
        self._bytes = 0

    def sweep(self, before: float) -> None:
        """Let go of places that were told before a time: nobody will read them."""
        while self._places and next(iter(self._places.values()))[2] < before:
            self._drop(next(iter(self._places)))

    def _drop(self, key: str) -> None:
        gone = self._places.pop(key, None)
        if gone is not None:
            self._bytes -= gone[0].size


def stored_value(registries: Registries, found: Found, value: Any) -> StoredValue:
    """A value with its type: the declared one, or one read off the value if its feature is now unknown."""
    type = registries.returns(found.feature, found.version) or of_value(value)
    return StoredValue(found.key, found.feature, found.version, type, value, found.made)
