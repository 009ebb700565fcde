"""What a steward needs from outside, as protocols. All that is raised is `AmberError`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from amber_ray.core.model.demands import Demand, DemandState, DemandStatus
from amber_ray.core.model.listing import Change, Noted
from amber_ray.core.model.request import AssetRef, ComputeRequest, RequestView
from amber_ray.core.model.units import Asset
from amber_ray.errors import AmberError
from amber_ray.fabric.transport.messages import Tended


class Desk(Protocol):
    """The first shard, which keeps the records of demands. Raises `Unavailable`, `StoreError`."""

    async def tend(self, live: Mapping[str, DemandStatus], wait: float) -> Tended | None:
        """Tell how demands stand, by their records' ids; returns all there are, and where something happened.

        With nothing new after `wait` seconds. None: another steward was named, and this one is to end.
        """
        ...

    async def note(self, id: str, state: DemandState) -> bool:
        """Keep how a demand stands, durably. False: it is another demand by now, or another's to note."""
        ...


class Asking(Protocol):
    """The part of an engine that a sweep asks."""

    async def compute(self, request: ComputeRequest, wait: float = 0.0, id: str | None = None) -> RequestView:
        """See `Service.compute`."""
        ...

    async def status(self, id: str, wait: float = 0.0) -> RequestView:
        """See `Service.status`."""
        ...

    async def unstored(self, keys: Sequence[str]) -> frozenset[str]:
        """Wait until what there is of these values is stored. Return those that are not. `Unavailable`."""
        ...

    async def purge_assets(self, assets: Sequence[str]) -> int:
        """Forget all values of these assets; returns how many. Raises `StoreError`, `Unavailable`."""
        ...


class Naming(Protocol):
    """The catalogue."""

    async def somewhere(self, ids: Sequence[str]) -> frozenset[str]:
        """Those of these assets whose content is at some place that is known."""
        ...

    async def resolve(self, refs: Sequence[AssetRef]) -> list[Asset | AmberError]:
        """For each reference its asset, or why there is none."""
        ...


class Look(Protocol):
    """One look at a demand's prefixes, compared with its runs. What can't be seen is not gone for that."""

    @property
    def same(self) -> int:
        """How many are as noted, of those that were passed."""
        ...

    @property
    def places(self) -> int:
        """How many there are."""
        ...

    @property
    def unseen(self) -> Sequence[tuple[str, str]]:
        """What could not be seen, and why."""
        ...

    @property
    def empty(self) -> Sequence[str]:
        """Prefixes with nothing below them."""
        ...

    @property
    def seconds(self) -> float:
        """What the listing took."""
        ...

    async def changes(self, most: int) -> Sequence[Change]:
        """The next changes in order, none that is the same; empty at the end. Raises `StoreError`."""
        ...

    async def close(self) -> None:
        """Let go of what was listed."""
        ...


class Glance(NamedTuple):
    """A look at some places alone: how each compares with what was noted, `Kind.SAME` too.

    `unseen` as of `Look`, without the reasons; `empty`: told if something is gone.
    """

    changes: Sequence[Change]
    unseen: Sequence[str]
    empty: Sequence[str]


class Listings(Protocol):
    """Media that are there, and runs of notes in the store, by a demand's name."""

    async def glance(
        self, demand: Demand, places: Sequence[str], runs: Sequence[str], by: str
    ) -> Glance | None:
        """Look at some places that a demand covers. None: only a whole look can tell. Raises `StoreError`."""
        ...

    async def look(self, demand: Demand, runs: Sequence[str], by: str) -> Look:
        """List what is there now."""
        ...

    async def write(self, demand: str, rows: Sequence[Noted]) -> str:
        """Write sorted rows as a run, durably; returns its name. Raises `StoreError`."""
        ...

    async def join(self, demand: str, runs: Sequence[str]) -> str:
        """Write one run that says what these say, the later over the earlier. Raises `StoreError`."""
        ...

    async def crowded(self, demand: str, runs: Sequence[str]) -> bool:
        """Whether these runs should be joined: there are many, or the later ones have many rows."""
        ...

    async def keep_only(self, demand: str, runs: Sequence[str]) -> None:
        """Delete the other runs of a demand. Raises `StoreError`."""
        ...


class Watching(Protocol):
    """What the machine tells of its folders."""

    def places(self, prefixes: Sequence[str]) -> AsyncGenerator[Sequence[str], None]:
        """Where something happens, first perhaps nowhere; raises `Unavailable` when it can't be told.

        Ends at once if none of the prefixes is a folder of this machine. Some of what happens may be missing.
        """
        ...


class Clock(Protocol):
    """Time. Pauses are those of the event loop."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def unix(self) -> float:
        """Seconds since 1970."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All of a steward's ports.

    `purging` is held by the demand that purges, or finds out what is stored: no other does so meanwhile.
    """

    desk: Desk
    service: Asking
    assets: Naming
    listings: Listings
    watching: Watching
    clock: Clock
    purging: asyncio.Lock = field(default_factory=asyncio.Lock)
