"""Values between memory and Parquet: written, restored, and read through for those who have only a key.

The order is always write, publish, index, then tell the ledger, which alone decides what leaves memory: a
failure anywhere before leaves the value where it was.

Must not know: Ray, files, requests.
"""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Segment
from amber_ray.core.planning.fanout import Windows
from amber_ray.core.planning.plan import Recipe, params_of
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE
from amber_ray.errors import Unavailable
from amber_ray.fabric.shard.context import ShardContext
from amber_ray.fabric.shard.dispatch import gather
from amber_ray.fabric.shard.listing import Listing
from amber_ray.fabric.shard.ports import CallFailed, PartKeys, Ref
from amber_ray.fabric.shard.restore import RestoreReader
from amber_ray.fabric.transport.messages import Found, Inline
from amber_ray.fabric.transport.new_rows import NewRows
from amber_ray.store.part import order
from amber_ray.store.rows import Provenance

log = logging.getLogger("amber.spill")

WRITERS = 2
"""Parts written at once by one shard."""
SHARE_BYTES = 16 << 20
"""Small values of more bytes than that are spread over so many parts."""


class Spiller:
    """Moves one shard's values to storage and back."""

    def __init__(self, context: ShardContext, listing: Listing, reader: RestoreReader) -> None:
        self._context = context
        self._listing = listing
        self._reader = reader
        self._writers = asyncio.Semaphore(WRITERS)
        self._to_restore: list[str] = []
        self._writing = 0
        self._holds: set[str] = set()
        self._held: list[str] = []
        self._idle = asyncio.Event()
        self._idle.set()

    # --- to storage

    def spill(self, keys: Sequence[str]) -> None:
        """Write values, one part per feature and version; the ledger hears of each."""
        if self._holds:
            self._held.extend(keys)
            return
        groups: dict[tuple[str, str, str], list[str]] = collections.defaultdict(list)
        entries = self._context.ledger.entries
        for key in keys:
            recipe = entries[key].step.recipe
            groups[recipe.registry, recipe.feature, recipe.version].append(key)
        for members in groups.values():
            recipe = entries[members[0]].step.recipe
            for some in self._shares(members):
                self._writing += 1
                self._idle.clear()
                self._context.spawn(self._write(recipe, some, *self._rows(some)))

    def _shares(self, keys: list[str]) -> Iterator[list[str]]:
        """One part's keys, or as many parts' as are written at once, where much of it goes through here."""
        handles = map(self._context.values.__getitem__, keys)
        size = sum(handle.size for handle in handles if isinstance(handle, Inline))
        step = -(-len(keys) // (WRITERS if size > SHARE_BYTES else 1))
        return (keys[i : i + step] for i in range(0, len(keys), step))

    def _rows(self, keys: list[str]) -> tuple[NewRows, list[Ref]]:
        """What is written of some values, and the objects that hold the large ones."""
        context = self._context
        steps = [context.ledger.entries[key].step for key in keys]
        handles = [context.values[key] for key in keys]
        recipes = {id(step.recipe): step.recipe for step in steps}
        params = {name: params_of(recipe) for name, recipe in recipes.items()}
        told = Provenance(
            keys,
            [step.asset_id for step in steps],
            [step.unit_id for step in steps],
            [params[id(step.recipe)] for step in steps],
            [step.needs for step in steps],
            [step.recipe.code for step in steps],
            [handle.made.seconds for handle in handles],
            [handle.made.device for handle in handles],
            [handle.made.created for handle in handles],
            [isinstance(step.unit, Segment) and step.unit.found for step in steps],
        )
        inline, places, slots = gather(context.values, keys)
        ranges = [len(handle.windows) for handle in handles if isinstance(handle.windows, tuple)]
        return NewRows(told, [handle.size for handle in handles], inline, places, ranges), slots

    async def _write(self, recipe: Recipe, keys: list[str], rows: NewRows, slots: list[Ref]) -> None:
        """Write one part of a recipe's registry, feature and version."""
        context = self._context
        traces = context.traces
        span = traces.writing(recipe.feature, keys)
        try:
            async with self._writers:
                part = await context.parts.write(recipe, rows, slots)
            traces.written(span, part)
            self._listing.add(PartKeys(part, packed(keys)))
            context.feed(ev.Stored(keys))
        except Exception as error:  # noqa: BLE001 - any failure leaves the values in memory and is told
            # The values are still in memory; the ledger will ask for them again.
            traces.written(span, "", f"{type(error).__name__}: {error}")
            log.error("%d values of %s could not be written: %s", len(keys), recipe.feature, error)
            if isinstance(error, CallFailed) and error.fault.inputs_lost:
                context.feed(ev.Lost([k for k in keys if context.in_object_store(k)]))
            context.feed(ev.StoreFailed(keys))
        finally:
            self._writing -= 1
            if not self._writing:
                self._idle.set()

    # --- held while parts are purged

    async def hold(self, token: str) -> None:
        """Begin no write until `release`; returns when none is under way."""
        self._holds.add(token)
        await self._idle.wait()

    def release(self, token: str) -> None:
        """Write again, if no other purge holds writes off.

        What was to be written meanwhile is asked for again, if the purge has left it.
        """
        self._holds.discard(token)
        if not self._holds and self._held:
            held, self._held = self._held, []
            self._context.feed(ev.StoreFailed(held))

    # --- and back

    def restore(self, keys: Sequence[str]) -> None:
        """Read values back into memory; what is asked for in one turn of the loop is read together."""
        if not self._to_restore:
            asyncio.get_running_loop().call_soon(self._restore_now)
        self._to_restore.extend(keys)

    def _restore_now(self) -> None:
        keys, self._to_restore = self._to_restore, []
        self._context.spawn(self._restore(keys))

    async def _restore(self, keys: list[str]) -> None:
        context = self._context
        found = await self._reader.read(keys)
        places = dict(zip(keys, context.index.find_many(keys), strict=True))
        sizes: dict[str, int] = {}
        windows: dict[str, Windows] = {}
        for key, outcome in found.items():
            if outcome is None or isinstance(outcome, str):
                continue
            result, ref = outcome
            entry = context.ledger.entries.get(key)
            if entry is not None and entry.state not in AVAILABLE:
                place = places[key]
                context.keep(result, ref, "" if place is None else place[0])
                sizes[key] = result.size
                if result.windows is not None:
                    windows[key] = result.windows
        if sizes:
            context.feed(ev.Restored(sizes, windows))
        if missing := [key for key, outcome in found.items() if outcome is None]:
            context.feed(ev.RestoreFailed(missing))
        if late := {key: outcome for key, outcome in found.items() if isinstance(outcome, str)}:
            context.feed(ev.Unreadable(late))

    async def read_through(self, keys: Sequence[str]) -> tuple[dict[str, Found], dict[str, Failure]]:
        """Values for a reader who has only the keys: read for it alone, not kept in memory here.

        Returns those that are there, and the failure of each that is stored and can't be read now.
        """
        index = self._context.index
        names = dict(zip(keys, index.find_many(keys), strict=True))
        found: dict[str, Found] = {}
        late: dict[str, Failure] = {}
        for key, outcome in (await self._reader.read(list(keys))).items():
            place = names[key]
            if place is None or outcome is None:
                continue
            if isinstance(outcome, str):
                late[key] = _unreadable(key, place[0], outcome)
                continue
            result, ref = outcome
            _, feature, version, _ = place[0].rsplit("/", 3)
            found[key] = Found(
                key,
                feature,
                version,
                result.inline,
                [] if ref is None else [ref],
                result.place,
                result.made.created if result.made else 0.0,
                order(place[0]),
                part=place[0],
            )
        return found, late


def _unreadable(key: str, part: str, why: str) -> Failure:
    _, feature, _, _ = part.rsplit("/", 3)
    text = f"the value {key} is stored and can't be read now: {why}"
    return Failure("system", "Unavailable", text, feature, key, "", Unavailable.status)


def packed(keys: Sequence[str]) -> np.ndarray:
    """Hex keys as the index takes them: uint8[n, 16]."""
    return np.frombuffer(bytes.fromhex("".join(keys)), dtype=np.uint8).reshape(-1, 16)
