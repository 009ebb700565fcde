"""The states of a key and the only transitions between them.

    ABSENT ─need→ WAITING ─ready→ QUEUED ─start→ RUNNING ─done→ HOT ─store→ KEPT ─evict→ COLD
                     ↑                              │  └fail→ FAILED          ↑            │
                     └─────────── retry ────────────┘                     RESTORING ←──────┘

A template, which stands for the steps of each range that a finder finds, is WAITING for the finder or FAILED.
There is no object for a COLD key: a key without an `Entry` is COLD if the index has it. An entry passes
through that state on its way in and out. `TRANSITIONS` is complete: a pair that it does not list raises
`IllegalTransition` and changes nothing. `core.ledger` says what the states are for.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from amber_ray.core.model.request import Failure
from amber_ray.core.planning.fanout import Opening, Unrolling, Windows
from amber_ray.core.planning.plan import Step

_NAMED = 5
"""Most waiters, and most dependents, that a message names."""


class State(enum.IntEnum):
    """Where a key's value is, or how far it has come."""

    ABSENT = 0
    WAITING = 1
    QUEUED = 2
    RUNNING = 3
    HOT = 4
    KEPT = 5
    COLD = 6
    RESTORING = 7
    FAILED = 8


class Cause(enum.Enum):
    """Why a key changes its state."""

    NEED = "someone needs it"
    FIND = "the index has it"
    READY = "its inputs are there"
    START = "it was put into a task"
    DONE = "its value arrived"
    VANISH = "it was computed and not kept"
    RETRY = "its task was lost"
    FAIL = "it has no value"
    STORE = "its value is in Parquet"
    EVICT = "its memory is needed"
    RESTORE = "it is being read back"
    RESTORED = "it was read back"
    MISS = "it can't be read back"
    LOSE = "its object was lost"
    REFRESH = "a caller wants it new"
    DROP = "nobody needs it, or it was purged"
    EXPIRE = "its failure is forgotten"

    __hash__ = object.__hash__  # members are singletons; this is the fast one


# Members by their names alone, for code that runs for each event: to find one in its class takes Python 3.11
# a tenth of a microsecond, and a name in a module none.
ABSENT, WAITING, QUEUED, RUNNING, HOT, KEPT, COLD, RESTORING, FAILED = State
NEED, FIND, READY, START, DONE, VANISH, RETRY, FAIL, STORE, *_others = Cause
EVICT, RESTORE, RESTORED, MISS, LOSE, REFRESH, DROP, EXPIRE = _others

_S, _C = State, Cause
TRANSITIONS: Final[Mapping[tuple[State, Cause], State]] = {
    (_S.ABSENT, _C.NEED): _S.WAITING,
    (_S.ABSENT, _C.FIND): _S.COLD,
    (_S.WAITING, _C.READY): _S.QUEUED,
    (_S.WAITING, _C.START): _S.RUNNING,  # fused behind an input in the same task, or asked of another shard
    (_S.WAITING, _C.FAIL): _S.FAILED,  # an input failed, or no node can run it
    (_S.WAITING, _C.DROP): _S.ABSENT,
    (_S.QUEUED, _C.START): _S.RUNNING,
    (_S.QUEUED, _C.LOSE): _S.WAITING,  # an input was lost before the step was submitted
    (_S.QUEUED, _C.FAIL): _S.FAILED,
    (_S.QUEUED, _C.DROP): _S.ABSENT,
    (_S.RUNNING, _C.DONE): _S.HOT,
    (_S.RUNNING, _C.VANISH): _S.ABSENT,
    (_S.RUNNING, _C.RETRY): _S.WAITING,
    (_S.RUNNING, _C.FAIL): _S.FAILED,
    (_S.RUNNING, _C.DROP): _S.ABSENT,
    (_S.HOT, _C.STORE): _S.KEPT,
    (_S.HOT, _C.EVICT): _S.ABSENT,  # only values that are never written
    (_S.HOT, _C.LOSE): _S.WAITING,
    (_S.HOT, _C.REFRESH): _S.WAITING,
    (_S.HOT, _C.DROP): _S.ABSENT,
    (_S.KEPT, _C.EVICT): _S.COLD,
    (_S.KEPT, _C.LOSE): _S.COLD,
    (_S.KEPT, _C.REFRESH): _S.WAITING,
    (_S.KEPT, _C.DROP): _S.ABSENT,
    (_S.COLD, _C.RESTORE): _S.RESTORING,
    (_S.RESTORING, _C.RESTORED): _S.KEPT,
    (_S.RESTORING, _C.MISS): _S.WAITING,
    (_S.RESTORING, _C.FAIL): _S.FAILED,  # the store can't be read for the time being
    (_S.RESTORING, _C.DROP): _S.ABSENT,
    (_S.FAILED, _C.EXPIRE): _S.ABSENT,
    (_S.FAILED, _C.DROP): _S.ABSENT,
}

_WAYS: Final[Mapping[State, Mapping[Cause, State]]] = {
    state: {cause: to for (origin, cause), to in TRANSITIONS.items() if origin is state} for state in State
}
"""`TRANSITIONS` by state: a look-up for which no tuple has to be made."""

LIVE: Final = frozenset({State.WAITING, State.QUEUED, State.RUNNING, State.RESTORING})
"""On its way to a value or a failure."""
AVAILABLE: Final = frozenset({State.HOT, State.KEPT})
"""With its value in memory."""


class IllegalTransition(AssertionError):
    """A bug in the core: an event met a state that has no row for it.

    `key` is whose. The ledger adds the event and the key's story to the message.
    """

    key: str = ""


Rank = tuple[int, float]
"""Priority as (scheduling class, minus the deadline); larger is more urgent."""
LEAST: Final[Rank] = (-1, float("-inf"))
"""The rank of what nobody waits for."""


Note = Callable[[object], object]
"""Takes each change of state of a key in two calls: the key, then the cause."""


def _forget(part: object) -> None:
    """A `Note` for an entry that stands alone."""


class Entry:
    """What the ledger knows of one key.

    - `origin`: the plan to find the step's inputs in, should they be needed again; None once that can't be.
    - `rank`, `tenant`: of the most urgent request or step that waits for it, while it is LIVE.
    - `waiters`, `dependents`: requests that want an answer, and steps that have yet to read the value, in
      order.
    - `missing`: how many inputs have no value in memory, while it is WAITING and not paused.
    - `opening`: of a step on its way that gathers templates, once some have come to keys and not all.
    - `unrolling`: of a template whose windows are known, the steps that it has come to so far.
    - `ready`: since when it could run, while it is QUEUED;
    - `seq`: its sequence number among the shard's entries.
    - `task`: the number of the task that runs it, or 0; `ticket`: its place in the queue, or 0.
    - `tries`: system faults of its own so far; `input_losses`: how often it could not read its inputs.
    - `put_off`: when it first asked to be tried again later, or None; `laters`: how often it did.
    - `isolated`: it shares no task until it has run; `paused`: it waits for a retry.
    - `until`: when its pause, its failure, or the grace period of its unwanted run is over.
    - `asked`: a request was told that the value is there, so it is kept though it is never stored.
    - `windows`: those of its value, if that is a list of ranges, while the value is in memory.
    - `note`: is told of each change of state.
    """

    __slots__ = (
        "asked",
        "bytes",
        "dependents",
        "failure",
        "input_losses",
        "isolated",
        "key",
        "laters",
        "missing",
        "note",
        "opening",
        "origin",
        "paused",
        "put_off",
        "rank",
        "ready",
        "seconds",
        "seq",
        "state",
        "step",
        "task",
        "tenant",
        "ticket",
        "tries",
        "unrolling",
        "until",
        "waiters",
        "windows",
    )

    def __init__(
        self,
        step: Step,
        origin: Mapping[str, Step],
        rank: Rank,
        tenant: str,
        seq: int,
        note: Note = _forget,
    ) -> None:
        self.key = step.key
        self.step = step
        self.origin: Mapping[str, Step] | None = origin
        self.rank = rank
        self.tenant = tenant
        self.seq = seq
        self.note = note
        self.state = State.ABSENT
        self.waiters: dict[str, None] = {}
        self.dependents: dict[str, Entry] = {}
        self.missing = 0
        self.task = 0
        self.ticket = 0
        self.tries = 0
        self.input_losses = 0
        self.put_off: float | None = None
        self.laters = 0
        self.isolated = False
        self.paused = False
        self.asked = False
        self.until = 0.0
        self.ready = 0.0
        self.bytes = 0
        self.seconds: float | None = None
        self.failure: Failure | None = None
        self.windows: Windows | None = None
        self.opening: Opening | None = None
        self.unrolling: Unrolling | None = None

    @property
    def needs(self) -> Collection[str]:
        """The keys of its inputs as far as they are known: a template's own until that has come to keys."""
        return self.step.needs if self.opening is None else self.opening.needs

    @property
    def wanted(self) -> bool:
        """Whether a request or a step waits for it."""
        return bool(self.waiters or self.dependents)

    def ran(self, seconds: float) -> None:
        """Record that it was computed in so many seconds; faults before that do not count any more."""
        self.task, self.tries, self.input_losses, self.isolated = 0, 0, 0, False
        self.put_off, self.laters = None, 0
        self.seconds = seconds

    def move(self, cause: Cause) -> None:
        """Change the state as the table says, or raise `IllegalTransition` and change nothing."""
        try:
            self.state = _WAYS[self.state][cause]
        except KeyError:
            error = IllegalTransition(
                f"{self.step.recipe.feature} {self.key}: no way from {self.state.name} by {cause.name}"
            )
            error.key = self.key
            raise error from None
        note = self.note
        note(self.key)
        note(cause)

    def said(self) -> str:
        """Return all that is known of the key, short enough for a message."""
        users = (f"{user.key} {user.state.name}" for user in self.dependents.values())
        return (
            f"{self.step.recipe.feature} {self.key} of {self.step.unit_id} is {self.state.name}: "
            f"task {self.task}, ticket {self.ticket}, missing {self.missing}, tries {self.tries}, "
            f"input losses {self.input_losses}, laters {self.laters}, isolated {self.isolated}, "
            f"paused {self.paused}, "
            f"asked {self.asked}, until {self.until}, bytes {self.bytes}, "
            f"rank {self.rank} of {self.tenant!r}, waiters ({_some(self.waiters)}), "
            f"dependents ({_some(users)})"
        )

    def __repr__(self) -> str:
        return f"<Entry {self.step.recipe.feature} {self.key[:8]} {self.state.name}>"


def _some(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
