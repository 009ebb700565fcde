"""How a client's registries were made of others, so that they can be made again where they were forgotten.

Must not know: what a step is, who carries it out.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Step = TypeVar("Step")


class Lineage(Generic[Step]):
    """For each registry, by its digest, the one that it was first made of, and how.

    An edit that is taken back leads to a digest that was there before. Only the first way to it is kept, and
    none to a registry that stands below it, so no chain ever comes round.
    """

    def __init__(self) -> None:
        self._made: dict[str, tuple[str, Step]] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._made

    def note(self, digest: str, base: str, step: Step) -> None:
        """Note that `step` made a registry of that of `base`."""
        below = base
        while below != digest and below in self._made:
            below = self._made[below][0]
        if below != digest:
            self._made.setdefault(digest, (base, step))

    def steps(self, digest: str) -> list[Step]:
        """The steps that make a registry of the service's own, in order; empty if it is not known."""
        found: list[Step] = []
        while digest in self._made:
            digest, step = self._made[digest]
            found.append(step)
        return found[::-1]

    def last(self, digest: str) -> Step:
        """The step that made a registry. Raises `KeyError`."""
        return self._made[digest][1]
