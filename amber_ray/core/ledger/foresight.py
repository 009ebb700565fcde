"""What a ledger would do if it were asked now: its own code, run on copies that are thrown away.

`Foresight` is a second ledger over the entries of the first. An entry is copied when the second one first
looks at it, and nothing that it changes reaches the first. So a request that is tried here goes through
`Ledger` and `Graph` as it would in earnest, and what it sets going is what it would set going: no second
piece of code has an opinion on what must run. Trying costs what asking costs, and ends at keys that have a
value.

    entries of the ledger ←─ looked at, copied ── entries of the foresight ←── Requested, taken in by `Ledger`

Two things lie in the future even then. A step whose value its task does not keep (`store="never"`, fused with
all its users) runs again for whoever came meanwhile: such tasks are ended in the copy, as their reports will
end them. The windows that a finder will have found in one of them are not known: what stands for its units
goes on waiting. Where windows are known, it has the fate of its units; those of a finder's value that is only
stored are known to whoever has read them (`Prospect.unread`). And what another shard's step needs is
that shard's to foresee: here the step is "ask", and one that can't have a value there is named as `broken`.
That everything under way, and every read, ends well is assumed.

Must not know: how a plan came to be, other shards, values.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.request import Failure
from amber_ray.core.planning.fanout import Expansion, Widened, Windows, under
from amber_ray.core.state import events as ev
from amber_ray.core.state.entry import AVAILABLE, LIVE, Entry, State

Fate = Literal["run", "ask", "wait", "read", "use", "fail"]
"""What asking does with a key: has it run, asks the shard that owns it, waits for what is under way, reads it
back, uses the value in memory, or fails because of it."""

_STRONGER: tuple[Fate, ...] = ("run", "ask", "fail", "wait", "read", "use")
"""Of several units, what stands for them has the fate that stands here first."""

_OTHERS = "others"
"""The request that stands in the copy for all whose answers the ledger owes."""
_DUE = frozenset({State.WAITING, State.QUEUED})


class Prospect(NamedTuple):
    """What would become of requests.

    - `fates`: of each key that they touch; a key that is not there is not needed;
    - `opened`: what templates of theirs would come to, by their keys;
    - `windows`: those of the finders' values that this is by;
    - `unread`: finders' values that would be read back, and whose windows would open templates.
    """

    fates: dict[str, Fate]
    opened: dict[str, Expansion]
    windows: dict[str, Windows]
    unread: list[str]


def foresee(
    ledger: Ledger,
    requests: Iterable[ev.Requested],
    now: float,
    broken: Mapping[str, Failure] | None = None,
) -> dict[str, Fate]:
    """Return the fates that `prospect` foresees."""
    return prospect(ledger, requests, now, broken).fates


def prospect(
    ledger: Ledger,
    requests: Iterable[ev.Requested],
    now: float,
    broken: Mapping[str, Failure] | None = None,
    windows: Mapping[str, Windows] | None = None,
) -> Prospect:
    """Return what would become of these requests, were they made now, in this order.

    `broken`: keys of other shards that will have no value. `windows`: those of finders' values that are only
    stored, as far as somebody has read them. Changes nothing in `ledger`.
    """
    asked = list(requests)
    foresight = Foresight(ledger, now)
    for event in asked:
        foresight.take_in(event)
    for key, failure in (broken or {}).items():
        foresight.fail(key, failure)
    foresight.read(windows or {})
    ended: list[ev.Task] = []
    while (task := foresight.in_vain(ended)) is not None:
        ended.append(task)
        foresight.end(task)
    anyway: set[str] = set()
    if ended or ledger.graph.to_expand:
        # What runs again for somebody else, or for the first time, does so whether or not this is asked.
        other = Foresight(ledger, now)
        other.expand()
        for task in ended:
            other.end(task)
        anyway = other.due()
    targets = dict.fromkeys(key for event in asked for key in event.targets)
    return foresight.told(targets, anyway)


class Foresight:
    """A copy of a ledger as far as it is looked at; to be thrown away. `foresee` is the way to use it."""

    def __init__(self, ledger: Ledger, now: float) -> None:
        self._real = ledger.entries
        self._to_expand = ledger.graph.to_expand
        self._now = now
        self._entries = _Copies(ledger.entries, self._copy_of)
        self._copy = _Trial(ledger.settings, ledger.index, shard=ledger.shard, entries=self._entries)
        self._copy.tasks.update(ledger.tasks)
        self._copy.graph.located_as_in(ledger.graph)
        self._copy.scheduler.capacity = ledger.scheduler.capacity.copied()
        self._others = self._copy.graph.callers.open(ev.Requested(_OTHERS, {}, ()))
        self._read: set[str] = set()

    def _copy_of(self, real: Entry) -> Entry:
        """Add the copy of an entry, and of all that depends on it.

        Whatever a request waits for is waited for by one that stands for all of them.
        """
        made = self._entries[real.key] = copy.copy(real)
        made.note = self._copy.graph.story.note
        if made.origin is not None:
            made.origin = Widened(made.origin)  # what is expanded here is not for the other ledger
        if made.opening is not None:
            made.opening = made.opening.copied()
        made.unrolling = None
        if real.key in self._to_expand:
            self._copy.graph.to_expand[real.key] = made
        made.waiters, made.dependents = {}, {}
        if real.waiters:
            self._copy.graph.callers.wait(self._others, made)
        made.dependents = {user: self._entries[user] for user in real.dependents}
        if real.ticket:
            self._copy.scheduler.push(made)
        return made

    def take_in(self, event: ev.Event) -> None:
        """Let something happen."""
        self._copy.take_in(event, self._now)

    def expand(self) -> None:
        """Let templates whose windows are known come to all of their units."""
        for key in self._to_expand:
            self._entries.get(key)
        self.take_in(ev.Tick())

    def fail(self, key: str, failure: Failure) -> None:
        """A step that another shard is to be asked for will have no value, or one of the units behind it."""
        expansion = self._copy.expansions.get(key)
        for one in (key,) if expansion is None else expansion.keys:
            entry = self._entries.get(one)
            if entry is not None and entry.state is State.WAITING:
                self._copy.graph.fail(entry, failure, self._now)
        self._copy.graph.collect(self._now)

    def read(self, windows: Mapping[str, Windows]) -> None:
        """Finders' values are read back, with these windows, where they are being read back."""
        left = dict(windows)
        while now := {key: left.pop(key) for key in self._reads() if key in left}:
            self._read.update(now)
            self.take_in(ev.Restored(dict.fromkeys(now, 0), now))

    def _reads(self) -> list[str]:
        """Return the values that are being read back and whose windows would open templates."""
        return [
            key
            for key, entry in self._entries.items()
            if entry.state is State.RESTORING
            and any(user.step.is_template and user.step.needs[0] == key for user in entry.dependents.values())
        ]

    def in_vain(self, ended: Iterable[ev.Task]) -> ev.Task | None:
        """Return a task that keeps a value from others who want it by now, and that is not among `ended`."""
        over = {task.id for task in ended}
        for key, entry in self._entries.items():
            task = self._copy.tasks.get(entry.task)
            if task is None or task.id in over or key in task.outputs:
                continue
            if entry.waiters or any(user.task != task.id for user in entry.dependents.values()):
                return task
        return None

    def end(self, task: ev.Task) -> None:
        """A task ends well."""
        self._copy.unseen.update(task.outputs)
        reports = [ev.StepReport(step.key, kept=step.key in task.outputs) for step in task.steps]
        self.take_in(ev.Reported(task.id, reports))

    def due(self) -> set[str]:
        """Return the keys that wait for their turn to run."""
        return {key for key, entry in self._entries.items() if entry.state in _DUE}

    def told(self, targets: Iterable[str], anyway: set[str]) -> Prospect:
        """Return what becomes of the targets; see `fates`."""
        return Prospect(self.fates(targets, anyway), self._copy.expansions, self._copy.windows, self._reads())

    def fates(self, targets: Iterable[str], anyway: set[str]) -> dict[str, Fate]:
        """Return what becomes of the targets and of all that they need.

        `anyway`: keys that run whether or not these requests are made.
        """
        ready = {
            command.key
            for command in self._copy.graph.out
            if isinstance(command, ev.Deliver) and isinstance(command.outcome, ev.Ready)
        }
        found: dict[str, Fate] = {}
        stack = list(targets)
        while stack:
            key = stack.pop()
            if key in found:
                continue
            if (expansion := self._copy.expansions.get(key)) is not None:
                stack.extend(expansion.keys)
                continue
            fate = self._fate(key, anyway) or ("use" if key in ready else None)
            if fate is None:
                continue
            found[key] = fate
            entry = self._entries.get(key)
            if entry is None:
                continue
            if fate in ("run", "wait"):
                stack.extend(entry.needs)
            elif fate == "fail":  # those that it fails by
                below = ((need, self._entries.get(need)) for need in entry.needs)
                stack.extend(need for need, its in below if its is not None and its.state is State.FAILED)
        for key in list(found):
            entry = self._entries.get(key)
            if entry is not None and entry.step.is_template and entry.origin is not None:
                for template in under(entry.origin, key):
                    found.setdefault(template, found[key])
        for key, expansion in self._copy.expansions.items():
            found.update(self._of_templates(key, expansion, found))
            finder = self._copy.finders[key]
            if key in found and (its := self._fate(finder, anyway)) is not None:
                found[finder] = its
        return found

    def _of_templates(self, key: str, expansion: Expansion, fates: Mapping[str, Fate]) -> dict[str, Fate]:
        """Return the fate of a template that came to these units, and of those under it."""
        below = self._copy.templates[key]
        found: dict[str, Fate] = {} if expansion.keys else {key: "use"}
        for unit, step in expansion.steps.items():
            fate, template = fates.get(unit), below[step.recipe.feature]
            if fate is not None:
                found[template] = min(fate, found.get(template, fate), key=_STRONGER.index)
        return found

    def _fate(self, key: str, anyway: set[str]) -> Fate | None:
        entry, real = self._entries.get(key), self._real.get(key)
        before = State.ABSENT if real is None else real.state
        if entry is None:
            return "wait" if before in LIVE else None
        if entry.state in _DUE:
            if before in _DUE or key in anyway:
                return "wait"
            return "run" if entry.step.home == self._copy.shard else "ask"
        if entry.state in AVAILABLE:
            return "read" if key in self._read else "wait" if before in LIVE else "use"
        if entry.state is State.RUNNING:
            return "wait"
        return "read" if entry.state is State.RESTORING else "fail"


class _Trial(Ledger):
    """The ledger of a foresight, which notes what templates came to.

    `unseen`: keys of values that nobody has seen. `templates`: of each that came to units, it and those under
    it, by feature. `finders`: the finder of each, and `windows` those that each finder's value has.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.expanded_at_once = float("inf")
        self.unseen: set[str] = set()
        self.expansions: dict[str, Expansion] = {}
        self.templates: dict[str, dict[str, str]] = {}
        self.finders: dict[str, str] = {}
        self.windows: dict[str, Windows] = {}

    def _unroll(self, entry: Entry, room: float, now: float) -> int:
        return 0 if entry.step.needs[0] in self.unseen else super()._unroll(entry, room, now)

    def _expand(self, entry: Entry, found: Expansion, room: float, now: float) -> float:
        origin, finder = entry.origin, entry.step.needs[0]
        assert origin is not None
        assert entry.unrolling is not None
        self.expansions[entry.key] = found
        self.finders[entry.key], self.windows[finder] = finder, entry.unrolling.windows
        keys = (entry.key, *under(origin, entry.key))
        self.templates[entry.key] = {origin[key].recipe.feature: key for key in keys}
        return super()._expand(entry, found, room, now)


class _Copies(dict[str, Entry]):
    """Entries over those of another ledger, each of which is copied when it is first looked for.

    A copy that was deleted stays deleted.
    """

    def __init__(self, real: Mapping[str, Entry], copy_of: Callable[[Entry], Entry]) -> None:
        super().__init__()
        self._real = real
        self._copy_of = copy_of
        self._met: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        found = super().get(key)
        if found is None and key not in self._met and (real := self._real.get(key)) is not None:
            return self._copy_of(real)
        return default if found is None else found

    def __missing__(self, key: str) -> Entry:
        if (found := self.get(key)) is None:
            raise KeyError(key)
        return found  # type: ignore[no-any-return]

    def __setitem__(self, key: str, entry: Entry) -> None:
        self._met.add(key)
        super().__setitem__(key, entry)
