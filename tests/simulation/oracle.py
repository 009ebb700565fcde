"""What must be so in every world, beyond what `core.ledger.invariants` says of one ledger.

Never twice: a step may run when it never ran, or when what it made is gone for a reason that the product
names. Its task was lost or stopped, its value was lost before it was written, damaged, purged or asked for
anew.

Never old: once a purge or a refresh has been answered, nobody is told the value from before any more.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from amber_ray.core.ledger.invariants import check
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.naming import assets_of
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE, State
from amber_ray.fabric.shard.forwarding import Fetched
from amber_ray.fabric.shard.restore import READ_PAUSES
from amber_ray.fabric.transport.messages import Inline, Slot, Work
from tests.simulation.cluster import Object, objects
from tests.simulation.features import digest_in, serial_in
from tests.simulation.loop import Process
from tests.simulation.patience import CallWatch
from tests.simulation.protocol import RewriteWatch, SessionWatch

if TYPE_CHECKING:
    from amber_ray.fabric.shard.shard import Shard
    from tests.simulation.store import StoredValue
    from tests.simulation.world import World

NEWS_SECONDS = 12.0
"""How long it may take until every engine has heard that a value changed: messages get lost."""
LATE_WRITE_SECONDS = 60.0
"""How long a value that was purged may be back by the late write of a dead shard."""

DEATHS = ("a shard died", "an engine died", "an engine was redeployed")
TOLD_SECONDS = 2.0
"""How long it may take until another shard has heard that what it lent is lost."""

Attempt = tuple[int, int, int]
"""Shard, incarnation, task."""


class Oracle:
    """Watches every ledger, every execution, every write and every answer of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._done: dict[str, Attempt] = {}
        self._live: dict[str, Attempt] = {}
        self._least: dict[str, tuple[int, float]] = {}
        self._refreshed: dict[str, tuple[int, float]] = {}
        self._excused: dict[str, float] = {}
        self._told: dict[tuple[str, int], float] = {}
        self._listed: dict[Process, float] = {}
        self._ended: dict[str, float] = {}
        self._parts_ended: set[tuple[str, int]] = set()
        self._cut: dict[str, float] = {}
        self._turns: set[Attempt] = set()
        self._damaged: set[tuple[str, int]] = set()
        self._lost: dict[tuple[Process, Object], float] = {}
        self.dropped: dict[str, set[int]] = {}

    # --- ledgers

    def watch(self, shard: Shard, process: Process) -> None:
        """Look at every event of a shard's ledger."""
        ledger = shard.context.ledger
        plain, begun = ledger.handle, False

        sessions = SessionWatch(self._world, shard)
        rewrites = RewriteWatch(self._world, shard, process)
        patience = CallWatch(self._world, ledger)

        def handle(event: ev.Event, now: float) -> list[ev.Command]:
            nonlocal begun
            sessions.heard(event)
            rewrites.heard(event)
            if not begun:
                begun = True
                self._restarted(process, shard)
            self._before(ledger, event, process, shard)
            running = dict(ledger.tasks)
            patience.before(event)
            commands = plain(event, now)
            patience.after(event, commands, now)
            self._after(ledger, event, shard)
            self._expands(ledger, commands, shard)
            sessions.said(commands)
            told = Counter((c.request, c.key) for c in commands if isinstance(c, ev.Deliver))
            assert not told or max(told.values()) == 1, f"{told.most_common(1)} was delivered twice"
            for command in commands:
                if isinstance(command, ev.Finished):
                    self._ended[command.request] = now
                    self._parts_ended.add((command.request, shard.context.shard))
                if isinstance(command, ev.Cancel):  # nobody waits any more; what it makes is dropped
                    self._failed(process, command.task, [s.key for s in running[command.task].steps])
            self._world.heard(process, event, commands)
            check(ledger)
            return commands

        ledger.handle = handle  # type: ignore[method-assign]

    def _after(self, ledger: Ledger, event: ev.Event, shard: Shard) -> None:
        """What the ledger takes for written must be so: the value in memory, and none from before."""
        if not isinstance(event, ev.Stored):
            return
        for key in event.keys:
            entry = ledger.entries.get(key)
            if entry is not None and entry.state is State.KEPT and key in shard.context.values:
                held = self._serial(shard.context.values[key])
                rows = (row for part in self._world.store.parts.values() for row in part.rows)
                stored = [self.serial(pickle.loads(row.data)) for row in rows if row.key == key]
                assert held is None or not stored or held in stored, (
                    f"{key} was not written, an older one was"
                )

    def _expands(self, ledger: Ledger, commands: Iterable[ev.Command], shard: Shard) -> None:
        """Units that a request stands for from now on are undone if it wants them new."""
        for command in commands:
            ask = self._world.asks.get(command.request) if isinstance(command, ev.Expanded) else None
            if isinstance(command, ev.Expanded):
                self._world.saw("windows were found")
            if isinstance(command, ev.Expanded) and ask is not None and ask.refresh:
                self.undone(command.keys)
                unwritten = ledger.unspilled.keys() | ledger.spilling
                self._forget_refreshes([key for key in command.keys if key in unwritten])

    def in_step(self, shard: Shard, process: Process) -> None:
        """After a callback: what the ledger thinks is in memory is what the shell holds."""
        if not shard.late_parts:
            self._listed[process] = self._world.loop.time()
        held = {k for k, e in shard.context.ledger.entries.items() if e.state in AVAILABLE}
        values = shard.context.values.keys()
        assert held == values, f"the shell and the ledger differ on what is in memory: {held ^ values}"

    def _before(self, ledger: Ledger, event: ev.Event, process: Process, shard: Shard) -> None:
        """What an event undoes, seen before the ledger takes it in."""
        if isinstance(event, ev.Requested):
            self._meant(event)
        match event:
            case ev.Reported(task, reports):
                taken = {r.key for r in reports if r.failure is None and ledger.accepts(task, r.key)}
                self._failed(process, task, [s.key for s in _steps(ledger, task) if s.key not in taken])
            case ev.TaskLost(task, crashed=crashed):
                begun = (_number(process), process.number, task) in self._turns
                assert begun or not crashed, f"task {task} is charged with a crash, and had not begun"
                self._failed(process, task, [s.key for s in _steps(ledger, task)])
            case ev.Lost(keys):
                for key in keys:
                    handle = shard.context.values.get(key)
                    if isinstance(handle, Slot):
                        self._lost.setdefault((process, handle.ref), self._world.loop.time())
                hot = [k for k in keys if k in ledger.entries and ledger.entries[k].state is State.HOT]
                self.undone(hot)
                self._forget_refreshes(keys)
            case ev.RestoreFailed(keys) if self._unlisted(process, shard):
                self.undone(keys)
            case ev.Purged(keys):
                self.undone(keys)
            case ev.Requested(targets=targets, refresh=True):
                self.undone(targets)
                # If nobody waits for the new one, the stored one from before counts again (docs: Limits).
                unwritten = ledger.unspilled.keys() | ledger.spilling  # whose write may fail
                self._forget_refreshes([key for key in targets if key in unwritten])

    def _meant(self, event: ev.Requested) -> None:
        """A request comes to a ledger as its caller asked it, also from the journal."""
        ask = self._world.asks.get(event.id)
        if ask is not None:
            assert event.refresh == ask.refresh, f"{ask.id} comes with refresh={event.refresh}"
            has = event.deadline is not None
            assert has == (ask.patience is not None), f"{ask.id} comes with deadline={event.deadline}"

    def _unlisted(self, process: Process, shard: Shard) -> bool:
        """Whether some part has been out of a shard's sight for as long as that waits for it."""
        since = self._listed.get(process, 0.0)  # or since its start, which waits as long
        return bool(shard.late_parts) and self._world.loop.time() - since >= sum(READ_PAUSES)

    def _restarted(self, process: Process, shard: Shard) -> None:
        """A shard begins: it knows what its index found, and nothing else."""
        number, index = shard.context.shard, shard.context.index
        mine = [k for k, (home, _, _) in self._done.items() if home == number]
        self.undone([k for k in mine if k not in index])
        self._forget_refreshes([k for k, s in self._world.media.steps.items() if s.home == number])

    # --- never twice

    def begins(self, work: Work, process: Process) -> None:
        """A shard hands a task over: nobody else may be at it, and what is stored is not made again."""
        world = self._world
        attempt = _number(process), process.number, work.task
        shard = world.shards[attempt[0]].offers
        world.media.learn({step.key: step for step in work.steps})
        for step in work.steps:
            key = step.key
            assert step.home == attempt[0], f"{key} is run by shard {attempt[0]}, not its own"
            other = self._live.get(key)
            assert other is None or not self._alive(other, key), f"{key} has two live attempts"
            assert key not in shard.context.values, f"{key} is in memory and made again"
            if world.media.durable(key):
                if key in self._done and not self._out_of_sight(key, process, shard):
                    raise AssertionError(f"{key} is made again, and nothing had undone it")
                self._done[key] = attempt
            self._live[key] = attempt

    def turn(self, work: Work, process: Process) -> None:
        """It is a task's turn: its worker may have begun it."""
        self._turns.add((_number(process), process.number, work.task))

    def borrows(self, process: Process, fetched: Fetched, began: float) -> None:
        """A shard asked another one at a time, and was lent values: not those that it had said are lost."""
        if any(self._world.scenario.chances[it] for it in ("lost", "reply lost")):
            return  # perhaps that was never heard
        for answer, handle in fetched:
            if isinstance(handle, Slot):
                since = self._lost.get((process, handle.ref), began)
                said = f"{answer.key} is lent again, and was said to be lost"
                assert began <= since + TOLD_SECONDS, said

    def _alive(self, attempt: Attempt, key: str) -> bool:
        node = self._world.shards[attempt[0]]
        if not node.up or node.incarnation != attempt[1] or node.offers is None:
            return False
        return bool(node.offers.context.ledger.accepts(attempt[2], key))

    def _out_of_sight(self, key: str, process: Process, shard: Shard) -> bool:
        """Whether a value is stored where its shard could not see it: a part that could not be read."""
        return key not in shard.context.index and self._unlisted(process, shard)

    def failed(self, work: Work, process: Process) -> None:
        """A task came to nothing."""
        self._failed(process, work.task, [s.key for s in work.steps])

    def _failed(self, process: Process, task: int, keys: Iterable[str]) -> None:
        attempt = _number(process), process.number, task
        for key in keys:
            if self._done.get(key) == attempt:
                del self._done[key]

    def undone(self, keys: Iterable[str]) -> None:
        """What was made is gone, or somebody wants it new."""
        for key in keys:
            self._done.pop(key, None)

    def damaged(self, rows: Iterable[StoredValue]) -> None:
        """What was stored is damaged."""
        keys = []
        for row in rows:
            keys.append(row.key)
            self._damaged.add((row.key, self.serial(pickle.loads(row.data))))
        self.undone(keys)
        self._forget_refreshes(keys)

    # --- what is written and what is told

    def written(self, row: StoredValue) -> None:
        """A value is published."""
        value = pickle.loads(row.data)
        self.right(row.key, value)
        self._told.setdefault((row.key, self.serial(value)), self._world.loop.time())

    def kept(self, row: StoredValue) -> None:
        """A value is stored at the end of the world."""
        value = pickle.loads(row.data)
        self.right(row.key, value)
        least, _ = self._least.get(row.key, (0, 0.0))
        assert self.serial(value) > least, f"{row.key} was purged, and is stored for ever"

    def right(self, key: str, value: Any) -> None:
        """A value of a key must be this."""
        assert self._world.media.right(key, digest_in(value)), f"a wrong value of {key}"

    def serial(self, value: Any) -> int:
        """The number of the execution that made a value."""
        return serial_in(value)

    def drops(self, rows: Iterable[StoredValue]) -> None:
        """A purge takes rows out of a part."""
        for row in rows:
            self.dropped.setdefault(row.key, set()).add(self.serial(pickle.loads(row.data)))
            self.undone([row.key])

    def about(self, key: str, asset: str) -> bool:
        """Whether a key's value is of an asset, or of a collection with it."""
        return asset in [a.id for a in assets_of(self._world.media.steps[key].unit)]

    def told(self, key: str, value: Any, asked: float) -> None:
        """A caller who asked at a time is told a value."""
        self.right(key, value)
        serial = self.serial(value)
        self._told.setdefault((key, serial), self._world.loop.time())
        if old := self._outdated(key, serial, asked):
            raise AssertionError(old)

    def counts(self, key: str, serial: int, asked: float) -> bool:
        """Whether a caller who asked at a time may be told what comes of this value of a finder."""
        return not self._outdated(key, serial, asked)

    def _outdated(self, key: str, serial: int, asked: float) -> str:
        """Why a caller who asked at a time may not be told a value; empty if nothing is wrong with it."""
        least, since = self._least.get(key, (0, 0.0))
        if serial <= least and asked > since + NEWS_SECONDS and asked > self._excused.get(key, 0.0):
            return f"{key} was purged, and an old value was told"
        least, since = self._refreshed.get(key, (0, 0.0))
        if serial < least and asked > since + NEWS_SECONDS:
            return f"{key} was made anew, and an old value was told"
        return ""

    # --- ends

    def cut_off(self, engine: str, until: float) -> None:
        """An engine does not reach a shard until a time."""
        self._cut[engine] = max(until, self._cut.get(engine, 0.0))

    def has_ended(self, id: str, shard: int) -> bool:
        """Whether a shard's part of a request has ended, at least once."""
        return (id, shard) in self._parts_ended

    def told_end(self, id: str, engine: str, began: float) -> None:
        """Somebody who listens to a request at an engine hears of its end: soon, if nothing is in the way."""
        world = self._world
        lossy = ("lost", "reply lost", "repeated", "slow message")
        if any(world.scenario.chances[it] for it in lossy) or any(world.seen[it] for it in DEATHS):
            return
        due = max(began, self._ended.get(id, 0.0), self._cut.get(engine, 0.0)) + NEWS_SECONDS
        assert world.loop.time() <= due, f"{engine} told late that {id} is over"

    # --- purges and refreshes

    def purged(self, keys: Iterable[str], executions: int) -> None:
        """A purge was answered that began when there had been so many executions."""
        now = self._world.loop.time()
        for key in keys:
            if executions >= self._least.get(key, (0, 0.0))[0]:
                self._least[key] = executions, now

    def anew(self, key: str, value: Any, asked: float) -> None:
        """A caller who asked at a time for a value made anew is told it: nobody may know it from before."""
        known = self._told.get((key, self.serial(value)), asked)
        assert known >= asked, f"{key} was wanted anew, and was not made anew"

    def refreshed(self, key: str, value: Any) -> None:
        """A caller who wanted a value anew was told it."""
        serial = self.serial(value)
        if not self._present(key, serial):
            return  # it was lost, or damaged, before it was told: an older one may be told again
        if serial > self._refreshed.get(key, (0, 0.0))[0]:
            self._refreshed[key] = serial, self._world.loop.time()

    def _present(self, key: str, serial: int) -> bool:
        """Whether a value, or a newer one, is stored, or in memory and not yet written.

        One that is in memory and damaged on disk is not: it is evicted like any other, and then it is lost.
        """
        world = self._world
        if (key, serial) in self._damaged:
            return False
        shard = world.shards[world.media.steps[key].home].offers
        held = None if shard is None else self._serial(shard.context.values.get(key))
        if held is not None and held >= serial and (key, held) not in self._damaged:
            return True
        if shard is None:
            return False
        # A part of which its shard does not know, as by the late write of a dead one, may never be read.
        place = shard.context.index.find(key)
        part = None if place is None else world.store.parts.get(place[0])
        return (
            part is not None
            and not part.damaged
            and any(self.serial(pickle.loads(row.data)) >= serial for row in part.rows if row.key == key)
        )

    def _serial(self, handle: Any) -> int | None:
        """Of the value that a shard holds; None if there is none, or it is lost."""
        if isinstance(handle, Inline):
            return self.serial(pickle.loads(handle.data))
        values = objects().open(handle.ref) if isinstance(handle, Slot) else None
        return None if values is None else self.serial(values[handle.place])

    def _forget_refreshes(self, keys: Iterable[str]) -> None:
        """The newest value was lost before it was written, perhaps: an older one may be told again."""
        for key in keys:
            self._refreshed.pop(key, None)

    def late_write(self, keys: Iterable[str]) -> None:
        """A dead shard's write was published: what it held may be back for a while."""
        until = self._world.loop.time() + LATE_WRITE_SECONDS
        for key in keys:
            self._excused[key] = until
            self._refreshed.pop(key, None)


def _steps(ledger: Ledger, task: int) -> Iterable[Any]:
    known = ledger.tasks.get(task)
    return () if known is None else known.steps


def _number(process: Process) -> int:
    return int(process.name.rpartition("-")[2])
