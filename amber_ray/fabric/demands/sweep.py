"""One sweep of a demand: a look at its prefixes, and all that is asked for because of it.

    look ──→ new, changed ──→ asked for in the ingest class ──→ ready ──→ noted
         ├─→ stale ─────────→ asked for in the backfill class ─┘  failed: told, and the next sweep asks again
         ├─→ gone ──────────→ purged, if that is wanted and it is nowhere else ──→ noted
         └─→ same: nothing

A glance does the same with some places at which something happened, and looks at no others.

Assets are asked for in requests of growing size, several side by side; one that ends makes room for the next.
What is true is noted every few seconds, so that a crash repeats seconds of questions and no work. Must not
know: how media are listed, where notes are kept.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from amber_ray.core.model import demand_news
from amber_ray.core.model.demands import FAILING_SHOWN, DemandState, DemandStatus, FailingAsset, Findings
from amber_ray.core.model.listing import Change, Kind, Noted
from amber_ray.core.model.pace import Pace
from amber_ray.core.model.request import AssetRef, ComputeRequest, Priority, RequestView
from amber_ray.core.model.units import Asset, EachRange
from amber_ray.errors import AmberError, BadRequest, MediaError, Overloaded, Unavailable
from amber_ray.fabric.demands.ports import Ports
from amber_ray.store.demands import DemandRecord

log = logging.getLogger("amber.demands")

WINDOW = 1024
"""Assets under way at once, at most."""
AT_ONCE = 4
"""Requests under way at once."""
POLL_SECONDS = 30.0
PURGED_AT_ONCE = 5_000
"""Assets that are gone, of one purge."""
NOTE_SECONDS, NOTE_ROWS = 5.0, 20_000
"""What is true is noted after so long, or when there are so many."""
REMEMBERED = 10_000
"""Places that are not true, remembered from a sweep to the glances after it."""
LONG_SECONDS = 10.0
"""A sweep that asks for things for longer tells its own numbers, and no more those of the last whole one."""
LOST = "its values were lost; asked again"
"""Why an asset is not true that has not failed."""
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Between questions to a service that has no time."""


class Superseded(Exception):
    """What was to be noted is not this steward's to note any more."""


@dataclass(slots=True)
class Part:
    """Assets that are asked for together. `oldest`: since when the first of them is not true."""

    changes: Sequence[Change]
    priority: Priority
    oldest: float


@dataclass(slots=True)
class Verdict:
    """What became of one asset: it is true, or `failing` says why not. `keys` are those of its values."""

    change: Change
    asset: Asset | None = None
    unsuitable: bool = False
    failing: str = ""
    keys: tuple[str, ...] = ()


class Untrue(NamedTuple):
    """Why a place is not true: since when, and with what failure; none for a file that has not settled."""

    since: float
    failing: str

    @property
    def failed(self) -> bool:
        """Whether something failed: what was lost has not, nor has a file that still changes."""
        return self.failing not in ("", LOST)


@dataclass(slots=True)
class Counts:
    """What a sweep has counted so far; see `DemandStatus`."""

    true: int = 0
    unsuitable: int = 0
    failed: int = 0
    settling: int = 0
    asked: int = 0
    computed: int = 0
    purged: int = 0
    held: int = 0
    oldest: float | None = None
    failing: list[FailingAsset] = field(default_factory=list)


class Sweep:
    """One sweep, or one glance.

    `state` is what is known of the demand, kept in step with what was noted; `untrue` are places that were
    seen and are not true, as many as are remembered.
    """

    def __init__(
        self,
        ports: Ports,
        record: DemandRecord,
        state: DemandState,
        by: str,
        untrue: Mapping[str, Untrue] | None = None,
    ) -> None:
        """`untrue`: of a glance, what the one before it has left."""
        self._ports = ports
        self._glancing = untrue is not None
        self.untrue = dict(untrue or {})
        self._record = record
        self._demand = record.demand
        self.state = state
        if by != state.by:
            self.state = state._replace(by=by, since=ports.clock.unix())
        self._counts = Counts()
        self._lost = 0
        self._running: dict[asyncio.Task[None], Part] = {}
        self._fresh: list[tuple[Noted, tuple[str, ...]]] = []
        self._gone_ones: list[Change] = []
        self._left: list[str] = []
        self._noted_at = ports.clock.now()
        self._began = ports.clock.unix()
        self._places = 0
        self._same = 0
        self._listing = 0.0

    async def run(self) -> None:
        """Make it. Raises `AmberError` if it can't be made to its end, `Superseded` if another makes it."""
        ports = self._ports
        began = ports.clock.now()
        look = await ports.listings.look(self._demand, self.state.runs, self.state.by)
        try:
            self._places, self._listing = look.places, look.seconds
            await self._go(look.changes, [place for place, _ in look.unseen], look.empty)
            self._same = look.same
            await self._note()
            await self._join()
        finally:
            await look.close()
        ended = dataclasses.replace(
            self._counted(),
            sweeping=False,
            began=self._began,
            ended=ports.clock.unix(),
            seconds=ports.clock.now() - began,
            sweeps=self.state.status.sweeps + 1,
            error="; ".join(why for _, why in look.unseen[:3]),
        )
        findings = self._findings(ended)
        moved = (_lasting(ended), findings) != (_lasting(self.state.status), self.state.findings)
        self.state = self.state._replace(status=ended, findings=findings)
        if moved:
            await self._keep(self.state)

    async def glance(self, places: Sequence[str]) -> bool:
        """Look at some places alone. False: only a sweep can tell what is there. Raises as `run` does."""
        look = await self._ports.listings.glance(self._demand, places, self.state.runs, self.state.by)
        if look is None:
            return False
        before, asked = self.untrue, set(places) - set(look.unseen)
        self.untrue = {uri: why for uri, why in before.items() if uri not in asked}
        left = [change for change in look.changes if change.kind is not Kind.SAME]

        async def changes(most: int) -> Sequence[Change]:
            some, left[:] = left[:most], left[most:]
            return some

        await self._go(changes, look.unseen, look.empty)
        await self._note()
        await self._join()
        compared = {change.uri: change for change in look.changes}
        ended = self._counted_at({place: compared.get(place) for place in asked}, before)
        findings = self._findings(ended)
        if (ended, findings) != (self.state.status, self.state.findings):
            await self._keep(self.state._replace(status=ended, findings=findings))
        return True

    def _findings(self, ended: DemandStatus) -> Findings:
        """What this look has found, with the failing assets as far as they are remembered."""
        failing = (one.uri for one in self._failing_ones())
        return demand_news.findings(
            self.state.became, ended.all_true, failing, self.state.findings, bool(ended.error)
        )

    def _failing_ones(self) -> list[FailingAsset]:
        """The assets that fail, of those that are remembered; what was lost has not failed."""
        return [FailingAsset(uri, why.failing) for uri, why in self.untrue.items() if why.failed]

    def _counted_at(self, places: Mapping[str, Change | None], before: Mapping[str, Untrue]) -> DemandStatus:
        """The status after a glance: what was told of each place is replaced by what is so now."""
        status = self.state.status
        seen, true, failed, settling = status.seen, status.true, status.failed, status.settling
        for place, change in places.items():
            noted = change is not None and change.noted is not None
            listed = change is not None and change.listed is not None
            was, why = before.get(place), self.untrue.get(place)
            seen += listed - (noted or was is not None)
            true += (listed and why is None) - (noted and was is None)
            failed += (why is not None and why.failed) - (was is not None and was.failed)
            settling += (why is not None and not why.failing) - (was is not None and not was.failing)
        since = [why.since for why in self.untrue.values()]
        if seen - true > len(since) and status.oldest is not None:
            since.append(status.oldest)
        return dataclasses.replace(
            status,
            seen=seen,
            true=true,
            failed=failed,
            settling=settling,
            oldest=min(since, default=None),
            failing=tuple(self._failing_ones()[:FAILING_SHOWN]),
        )

    @property
    def status(self) -> DemandStatus:
        """How the demand stands, while this sweep goes on.

        That is as the last whole one found it, until this one has been asking for some time.
        """
        if self._glancing:
            running = sum(len(part.changes) for part in self._running.values())
            return dataclasses.replace(self.state.status, running=running)
        long = self._counts.asked and self._ports.clock.unix() - self._began >= LONG_SECONDS
        if self.state.status.ended and not long:
            running = sum(len(part.changes) for part in self._running.values())
            return dataclasses.replace(self.state.status, running=running, sweeping=True)
        return self._counted()

    def _counted(self) -> DemandStatus:
        """How the demand stands by what this sweep has counted so far."""
        counts = self._counts
        underway = [part.oldest for part in self._running.values()]
        oldest = [when for when in (counts.oldest, *underway) if when is not None]
        return dataclasses.replace(
            self.state.status,
            seen=self._places,
            true=self._same + counts.true,
            unsuitable=counts.unsuitable,
            running=sum(len(part.changes) for part in self._running.values()),
            failed=counts.failed,
            settling=counts.settling,
            oldest=min(oldest, default=None),
            listing=self._listing,
            asked=counts.asked,
            computed=counts.computed,
            purged=counts.purged,
            held=counts.held,
            sweeping=True,
            failing=tuple(counts.failing),
        )

    @property
    def soon(self) -> bool:
        """Whether the next sweep need not wait long: values were lost, or too many files still change."""
        return bool(self._lost or self._counts.settling > len(self.settling))

    @property
    def settling(self) -> list[str]:
        """Files that have not settled, as many as are remembered."""
        return [uri for uri, why in self.untrue.items() if not why.failing]

    # --- what is to be done

    async def _go(self, changes: Any, unseen: Sequence[str], empty: Sequence[str]) -> None:
        pace = Pace(WINDOW, AT_ONCE)
        ended = False
        try:
            while not ended or self._running:
                while not ended and len(self._running) < AT_ONCE:
                    some = await changes(pace.size)
                    ended = not some
                    for part in self._parts(some):
                        self._start(self._asked(part, pace), part)
                    self._gone([c for c in some if c.kind is Kind.GONE], unseen, empty)
                    await self._reap(0.0)
                if self._running:
                    await self._reap(NOTE_SECONDS)
                await self._note_now_and_then()
        except BaseException:
            running = list(self._running)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            raise

    def _start(self, work: Coroutine[Any, Any, None], part: Part) -> None:
        self._running[asyncio.create_task(work)] = part

    async def _reap(self, seconds: float) -> None:
        """Wait until one of what runs has ended, no longer than that; raises what one of them did."""
        if not self._running:
            return
        done, _ = await asyncio.wait(self._running, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del self._running[task]
        for task in done:
            task.result()

    def _parts(self, changes: Sequence[Change]) -> list[Part]:
        """What of these is to be asked for, by class; files that have not settled are counted."""
        now = self._ports.clock.unix()
        fresh: list[Change] = []
        stale: list[Change] = []
        for change in changes:
            if change.listed is None:
                continue
            if change.kind is Kind.STALE:
                stale.append(change)
            elif settled(change, now, self._demand.settle_seconds):
                fresh.append(change)
            else:
                self._counts.settling += 1
                self._untrue(change, "")
        return [
            Part(some, priority, min(map(self._since, some)))
            for some, priority in ((fresh, Priority.INGEST), (stale, Priority.BACKFILL))
            if some
        ]

    def _since(self, change: Change) -> float:
        """Since when an asset is not true, in Unix seconds."""
        asked = self.state.since if change.kind is Kind.STALE else self._record.made
        return max(asked, change.listed.changed if change.listed is not None else 0.0)

    def _untrue(self, change: Change, why: str) -> None:
        since = self._since(change)
        self._remember(change.uri, Untrue(since, why))

    def _remember(self, uri: str, why: Untrue) -> None:
        counts = self._counts
        counts.oldest = why.since if counts.oldest is None else min(why.since, counts.oldest)
        if len(self.untrue) < REMEMBERED:
            self.untrue[uri] = why

    # --- asking

    async def _asked(self, part: Part, pace: Pace) -> None:
        began = self._ports.clock.now()
        self._counts.asked += len(part.changes)
        verdicts = await self._verdicts(part)
        for verdict in verdicts:
            change = verdict.change
            if verdict.asset is None:
                self._counts.failed += 1
                self._untrue(change, verdict.failing)
                if len(self._counts.failing) < FAILING_SHOWN:
                    self._counts.failing.append(FailingAsset(change.uri, verdict.failing))
                continue
            assert change.listed is not None
            self._counts.true += 1
            self._counts.unsuitable += verdict.unsuitable
            if change.noted is not None and change.noted.asset != verdict.asset.id:
                self._left.append(change.noted.asset)  # other bytes are at this place now
            noted = Noted(change.uri, change.listed.signature, self.state.by, verdict.asset.id)
            self._fresh.append((noted, verdict.keys))
        pace.took(len(part.changes), self._ports.clock.now() - began)

    async def _verdicts(self, part: Part) -> list[Verdict]:
        """Ask for the assets of a part, and wait for what becomes of each.

        A verdict is about the asset that was found at the place, so a file that is written to meanwhile is
        judged by what it was; its next listing has another signature.
        """
        refs = [AssetRef(uri=change.uri) for change in part.changes]
        found = await self._ports.assets.resolve(refs)
        verdicts = [_found(change, one) for change, one in zip(part.changes, found, strict=True)]
        there = {v.asset.id: v for v in verdicts if v.asset is not None}
        if not there:
            return verdicts
        request = ComputeRequest(
            features=self._demand.features,
            assets=tuple(AssetRef(uri=v.change.uri) for v in there.values()),
            params=self._demand.params,
            priority=part.priority,
            tenant=self._demand.tenant,
        )
        try:
            view = await self._answer(request)
        except (BadRequest, MediaError) as error:
            if isinstance(error, BadRequest):
                raise
            return [_failing(v, str(error)) for v in verdicts]
        except (Unavailable, Overloaded) as error:
            return [_failing(v, str(error)) for v in verdicts]
        self._counts.computed += sum(r.state == "ready" and not r.cached for r in view.results)
        why, unsuitable = _judged(view)
        missed = {one.ref.uri: one.failure.message for one in view.failed_assets}
        why |= {id: missed[v.change.uri] for id, v in there.items() if v.change.uri in missed}
        silent = there.keys() - why.keys() - {r.asset.id for r in view.results if r.asset is not None}
        if silent:  # nothing was found in them, or they were others by then
            why |= await self._moved([there[id] for id in silent])
        keys = _keys(view)
        return [
            v
            if v.asset is None
            else _failing(v, why[v.asset.id])
            if v.asset.id in why
            else dataclasses.replace(
                v, unsuitable=v.asset.id in unsuitable, keys=tuple(keys.get(v.asset.id, ()))
            )
            for v in verdicts
        ]

    async def _answer(self, request: ComputeRequest) -> RequestView:
        """The finished request. Raises `Overloaded` and `Unavailable` only after some patience."""
        view: RequestView | None = None
        for pause in (*PAUSES, None):
            try:
                if view is None:
                    view = await self._ports.service.compute(request, POLL_SECONDS)
                while view.state == "running":
                    view = await self._ports.service.status(view.id, POLL_SECONDS)
                return view
            except (Overloaded, Unavailable):
                if pause is None:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("the last pause is none")

    async def _moved(self, silent: Sequence[Verdict]) -> dict[str, str]:
        """Of assets of which a request said nothing, those that are not at their places any more."""
        again = await self._ports.assets.resolve([AssetRef(uri=v.change.uri) for v in silent])
        return {
            v.asset.id: "it changed while it was asked for"
            for v, one in zip(silent, again, strict=True)
            if v.asset is not None and not (isinstance(one, Asset) and one.id == v.asset.id)
        }

    # --- what is gone

    def _gone(self, gone: Sequence[Change], unseen: Sequence[str], empty: Sequence[str]) -> None:
        """Take places that are gone; with the next note they are noted, and purged if that is wanted."""
        left = [c for c in gone if not any(c.uri.startswith(place) for place in unseen)]
        if self._demand.gone == "purge":
            # All of a prefix at once looks like a disk that is not mounted.
            held = [c for c in left if any(c.uri.startswith(place) for place in empty)]
            self._counts.held += len(held)
            left = [c for c in left if c not in held]
        self._gone_ones += left

    async def _purge(self, assets: Iterable[str]) -> None:
        """Purge the values of those of these assets whose content is nowhere any more.

        Between that look and the end of the purge another demand may find them at a new place, and values
        that are still there: it learns what is stored before (then the place is known here) or after.
        """
        ids = list(dict.fromkeys(assets))
        for at in range(0, len(ids), PURGED_AT_ONCE):
            some = ids[at : at + PURGED_AT_ONCE]
            async with self._ports.purging:
                elsewhere = await self._ports.assets.somewhere(some)
                if some := [id for id in some if id not in elsewhere]:
                    self._counts.purged += await self._ports.service.purge_assets(some)

    # --- noting

    async def _note_now_and_then(self) -> None:
        count = len(self._fresh) + len(self._gone_ones)
        late = self._ports.clock.now() - self._noted_at >= NOTE_SECONDS
        if count >= NOTE_ROWS or (count and late):
            await self._note()

    async def _note(self) -> None:
        """Note what is true by now. What comes meanwhile is noted the next time.

        A value that is ready is in memory, and in the store a little later. What was lost before that, by the
        end of a shard or of an object, is true no more: it is asked for again.
        """
        left, self._left = self._left, []
        gone, self._gone_ones = self._gone_ones, []
        if self._demand.gone == "purge":
            await self._purge([*left, *(c.noted.asset for c in gone if c.noted is not None)])
        rows = [Noted(change.uri, "", "", "") for change in gone]
        fresh, self._fresh = self._fresh, []
        self._noted_at = self._ports.clock.now()
        async with self._ports.purging:
            missing = await self._ports.service.unstored([key for _, keys in fresh for key in keys])
        for row, keys in fresh:
            if missing.isdisjoint(keys):
                rows.append(row)
            else:
                self._counts.true -= 1
                self._lost += 1
                self._remember(row.uri, Untrue(self._ports.clock.unix(), LOST))
        became = self.state.became + len(rows) - len(gone)
        rows.sort()
        if rows:
            name = await self._ports.listings.write(self._demand.name, rows)
            await self._keep(self.state._replace(runs=(*self.state.runs, name), became=became))

    async def _keep(self, state: DemandState) -> None:
        if not await self._ports.desk.note(self._record.id, state):
            raise Superseded(self._demand.name)
        self.state = state

    async def _join(self) -> None:
        """Have few runs. The old ones are deleted when no state names them any more."""
        name, runs = self._demand.name, self.state.runs
        if await self._ports.listings.crowded(name, runs):
            joined = await self._ports.listings.join(name, runs)
            await self._keep(self.state._replace(runs=(joined,)))
            await self._ports.listings.keep_only(name, self.state.runs)


def settled(change: Change, now: float, seconds: float) -> bool:
    """Whether what is listed has stood still so long. An object is there as a whole, or not at all.

    A file of the future has been written under another clock, which nobody can wait for.
    """
    assert change.listed is not None
    age = now - change.listed.changed
    return "://" in change.uri or age >= seconds or age < -seconds


def _found(change: Change, one: Asset | AmberError) -> Verdict:
    return Verdict(change, one) if isinstance(one, Asset) else Verdict(change, failing=str(one))


def _failing(verdict: Verdict, why: str) -> Verdict:
    return Verdict(verdict.change, failing=verdict.failing or why)


def _judged(view: RequestView) -> tuple[dict[str, str], set[str]]:
    """Why assets are not true, by their ids, and those that can't have a feature and are true otherwise."""
    why: dict[str, str] = {}
    unsuitable: set[str] = set()
    for result in view.results:
        if result.asset is None or result.state == "ready":
            continue
        if result.failure is not None and result.failure.type == "Unsuitable":
            unsuitable.add(result.asset.id)
        elif result.failure is not None:
            why.setdefault(result.asset.id, f"{result.feature}: {result.failure.message}")
        else:
            why.setdefault(result.asset.id, f"{result.feature}: it was withdrawn")
    return why, unsuitable


def _keys(view: RequestView) -> dict[str, list[str]]:
    """The keys of the values that a request has, by asset."""
    keys: dict[str, list[str]] = {}
    for result in view.results:
        if result.asset is not None and result.state == "ready" and not isinstance(result.unit, EachRange):
            keys.setdefault(result.asset.id, []).append(result.key)
    return keys


def _lasting(status: DemandStatus) -> DemandStatus:
    """What of a status is worth a write: not when the last of many equal sweeps was."""
    return dataclasses.replace(
        status,
        began=0.0,
        ended=0.0,
        seconds=0.0,
        listing=0.0,
        sweeps=min(status.sweeps, 1),
        asked=0,
        computed=0,
    )
