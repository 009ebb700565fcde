"""Looks at one film share one pass over it, if it is known beforehand that they will come.

A feature asks for `pictures` and knows of no other. Whoever runs several, one after the other, tells which
looks are to come (`expecting`): at the same window, at windows that follow each other, or overlap. The first
of them then begins a pass for all that lie ahead of it. What a look asked for itself it gets as always, what
others will ask for is kept until they do, and where a look has all of its own the pass waits for the next.

A look that was foretold wrongly, or that keeps too much, or whose film is damaged, is made by itself. So
each has the same pictures and the same errors as it has alone.
Must not know: how pictures are decoded, features.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Set
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
    """What `pictures` is asked for. Two looks that are equal get the same pictures.

    With `moment` it is the one picture on screen at `start`, the film's first if there is none yet.
    """

    asset: Asset
    start: float
    end: float | None
    size: Size
    fps: float | None = None
    lead: bool = False
    pair: Size | None = None
    scaler: Scaler = "area"
    moment: bool = False


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


Run = Generator[tuple[Look, Callable[[], Picture] | None], None, None]
"""The pictures of several looks in the order of one pass, each made when it is called; None behind a look's
last one."""


class Sharing:
    """Looks at one asset that are to come, and the pass over its film that they share. For one thread.

    The pass stands still while nobody asks: it goes on for the look that is asked for until that has its
    last picture, and keeps what it meets on the way for looks that are asked for later. So windows that
    follow each other, asked for in the order of time, are one pass in which next to nothing is kept.
    """

    def __init__(self, looks: Iterable[Look]) -> None:
        self._coming = dict.fromkeys(looks)
        self._run: Run | None = None
        self._kept: dict[Look, deque[Picture]] = {}
        self._complete: set[Look] = set()
        self._serving = False
        self._dropped: set[Look] = set()
        self._bytes: Counter[Look] = Counter()
        self._owed: dict[Look, float] = {}
        self.lent = 0.0
        """Seconds that looks have spent for later ones, less those that later ones were spared."""

    def begin(self, look: Look, run: Callable[[Sequence[Look], Set[Look]], Run]) -> bool:
        """Whether a look's pictures come of a shared pass, by `pictures`; it is told once.

        `run` makes a pass for looks, which makes nothing more for those in the set. A look that comes before
        the pass that there is has another one begun.
        """
        if look not in self._coming or self._serving:
            self.leave(look)  # Looks that are made at the same time are apart.
            return False
        del self._coming[look]
        if look in self._kept:
            return True
        self.end()
        others = [one for one in self._coming if one not in self._kept and _reaches(one, look.start)]
        if not others:
            return False
        self._dropped = set()
        self._kept |= {one: deque() for one in (look, *others)}
        self._run = run((look, *others), self._dropped)
        return True

    def pictures(self, look: Look) -> Iterator[Picture]:
        """The pictures of a look that has begun. After any error the pass is over for all looks."""
        kept = self._kept.pop(look)
        self.lent -= self._owed.pop(look, 0.0)
        spent, served = 0.0, set()
        self._serving = True
        try:
            while kept:
                yield kept.popleft()
            while look not in self._complete:
                assert self._run is not None  # It ends with the last look's completion, or an error.
                began = time.perf_counter()
                of, made = next(self._run)
                if made is None:
                    self._complete.add(of)
                elif of in self._kept:
                    self._keep(of, made())
                    served.add(of)
                spent += time.perf_counter() - began
                if made is not None and of == look:
                    yield made()
        except Exception:
            self.end()
            raise
        finally:
            self._serving = False
            self._dropped.add(look)
            del self._bytes[look]
            share = spent / (1 + len(served))
            for of in served & self._kept.keys():
                self._owed[of] = self._owed.get(of, 0.0) + share
                self.lent += share

    def leave(self, look: Look) -> None:
        """Let go of a look that will not be asked for any more."""
        self._coming.pop(look, None)
        self._drop(look)

    def end(self) -> None:
        """End the pass, and let go of what it has kept of looks that it has not seen to their end."""
        if self._run is not None:
            self._run.close()
            self._run = None
        for look in self._kept.keys() - self._complete:
            self._drop(look)

    def _keep(self, look: Look, picture: Picture) -> None:
        """Keep a look's next picture; past `KEPT_BYTES` the look that takes most is let go of."""
        self._kept[look].append(picture)
        self._bytes[look] += picture.nbytes
        if self._bytes.total() > KEPT_BYTES:
            self.leave(max(self._kept, key=self._bytes.__getitem__))

    def _drop(self, look: Look) -> None:
        if self._kept.pop(look, None) is not None:
            self._dropped.add(look)
            del self._bytes[look]


def _reaches(look: Look, start: float) -> bool:
    return look.start >= start if look.moment else look.end is None or look.end > start


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
