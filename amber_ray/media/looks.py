"""Looks at the same stretch of a film share one decode, if it is known beforehand that they will come.

A feature asks for `pictures` and knows of no other. Whoever runs several, one after the other, tells which
looks are to come (`expecting`). The first of them then has the film decoded for all: what it asked for itself
it gets as always, and what the others will ask for is kept until they do.

A look that was foretold wrongly, or that keeps too much, or whose film is damaged, is made by itself. So
each has the same pictures and the same errors as it has alone.
Must not know: how pictures are decoded, features.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from amber_ray.core.model.units import Asset
from amber_ray.media.scale import Scaler, Size

F = TypeVar("F", bound=Callable[..., Any])

KEPT_BYTES = 128 << 20
"""Pictures that are kept for later looks, at most. An hour of `changes` at 24 pictures a second has 600 MB, a
minute 10 MB."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One upright picture: its exact time in seconds from the asset's beginning, and uint8[h, w, 3] RGB.

    `pair`, where it was asked for: this picture and the film's next one, small, uint8[2, h, w, 3]; of the
    film's last picture and of a still there is no next one, and both are the same.
    """

    time: float
    rgb: np.ndarray
    pair: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.rgb.nbytes + (0 if self.pair is None else self.pair.nbytes)


@dataclass(frozen=True, slots=True)
class Look:
    """What `pictures` is asked for. Two looks that are equal get the same pictures."""

    asset: Asset
    start: float
    end: float | None
    size: Size
    fps: float | None = None
    lead: bool = False
    pair: Size | None = None
    scaler: Scaler = "area"


def looking(look: Callable[..., Look | None]) -> Callable[[F], F]:
    """Say of a feature's function what it will look at: `look` of the same arguments, None for nothing.

    It stands below `@feature`. What the function does is not changed by it, whether it is true or not.
    """

    def say(function: F) -> F:
        function.__look__ = look  # type: ignore[attr-defined]
        return decoding(function)

    return say


def decoding(function: F) -> F:
    """Say of a feature's function that it decodes pictures, which goes faster with more than one thread."""
    function.__decodes__ = True  # type: ignore[attr-defined]
    return function


def look_of(function: Callable[..., Any]) -> Callable[..., Look | None] | None:
    """What `looking` was told of a function, if it was."""
    found: Callable[..., Look | None] | None = getattr(function, "__look__", None)
    return found


class Along:
    """Looks that are decoded along with another one, and what is kept for them."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self.kept: dict[Look, list[Picture]] = {look: [] for look in looks}
        self.dropped: set[Look] = set()
        self._bytes = dict.fromkeys(looks, 0)
        self._began = time.perf_counter()

    def keep(self, look: Look, picture: Picture) -> None:
        """Keep a look's next picture; past `KEPT_BYTES` the look that takes most is let go of."""
        self.kept[look].append(picture)
        self._bytes[look] += picture.nbytes
        if sum(self._bytes[one] for one in self.kept) > KEPT_BYTES:
            most = max(self.kept, key=lambda one: self._bytes[one])
            del self.kept[most]
            self.dropped.add(most)

    def share(self) -> float:
        """Seconds that each look has had so far, if all had the same."""
        return (time.perf_counter() - self._began) / (len(self.kept) + 1)


class Sharing:
    """Looks at one asset that are to come, and the pictures kept for them. For one thread."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self._coming = list(dict.fromkeys(looks))
        self._kept: dict[Look, list[Picture]] = {}
        self._share = 0.0
        self.lent = 0.0
        """Seconds that looks have spent for later ones, less those that later ones were spared."""

    def begin(self, look: Look) -> Along | None:
        """What is to be decoded along with a look that begins now; None: nothing. It is told once."""
        others = [other for other in self._coming if other != look]
        if not others or len(others) == len(self._coming):
            return None
        self._coming.clear()
        return Along(others)

    def done(self, along: Along) -> None:
        """Take over what was kept for looks, all of whose pictures have come."""
        self._kept, self._share = along.kept, along.share()
        self.lent += self._share * len(self._kept)

    def take(self, look: Look) -> list[Picture] | None:
        """The pictures of a look that were decoded along with another one, once; else None."""
        found = self._kept.pop(look, None)
        if found is not None:
            self.lent -= self._share
        return found


_NOW: ContextVar[Sharing] = ContextVar("amber_looks")


def current() -> Sharing:
    """What is to come in this context; outside of `expecting` nothing is."""
    return _NOW.get(Sharing(()))


@contextlib.contextmanager
def expecting(sharing: Sharing) -> Iterator[None]:
    """Run something that may make looks which are to come, or use what was kept for them."""
    token = _NOW.set(sharing)
    try:
        yield
    finally:
        _NOW.reset(token)
