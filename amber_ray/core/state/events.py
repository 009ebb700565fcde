"""Events, which tell the ledger what happened, and commands, which say what is to be done about it.

The shell (`fabric.shard.shard`) performs the commands and reports back with more events. All of it is plain
data: it refers to no value and reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from amber_ray.core.model.request import Failure
from amber_ray.core.model.units import Segment
from amber_ray.core.planning.fanout import Windows
from amber_ray.core.planning.plan import Recipe, Step

# --- events ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Requested:
    """A caller wants the values of `targets`; `steps` is the whole graph under them.

    - `deadline`: on the ledger's clock.
    - `load`: False for callers that want values to exist but not in memory (a backfill): for them a COLD
      value is a hit as it is.
    - `located`: when the assets were found at their places (Unix time), 0 if that is not known. Of two places
      of an asset the one that was found later counts.
    - `counted`: whether its answers are hits; not for what another shard asks on a caller's behalf, nor for
      what was answered elsewhere already.
    """

    id: str
    steps: Mapping[str, Step]
    targets: Sequence[str]
    priority: int = 2
    tenant: str = "default"
    deadline: float | None = None
    refresh: bool = False
    load: bool = True
    located: float = 0.0
    counted: bool = True


@dataclass(slots=True)
class Left:
    """A request was withdrawn. It is told nothing more."""

    id: str


@dataclass(slots=True)
class StepReport:
    """How one step of a task ended. `kept`: its value came back; otherwise it exists no more.

    `failure.key` is the key of the step that failed; for a step that was blocked it is another one of the
    task. `later`: the step asked to be tried again, after so many seconds if that is more than 0. `windows`:
    those of a value that is a list of ranges.
    """

    key: str
    bytes: int = 0
    seconds: float = 0.0
    kept: bool = True
    failure: Failure | None = None
    later: float | None = None
    windows: Windows | None = None


@dataclass(slots=True)
class Reported:
    """A task ended by itself."""

    task: int
    reports: Sequence[StepReport]


@dataclass(slots=True)
class TaskLost:
    """A task ended without a report: its worker or node died, or it ran out of memory or time.

    - `failure`: why; the ledger fills in each step's `key` and `step`.
    - `retry`: False makes the failure final.
    - `crashed`: the worker's process died while it ran the task, which may be the task's doing.
    - `inputs_lost`: the task could not read its inputs, which is no fault of its steps.
    - `started`: False if it was queued at a warm actor that died, so none of it has run.
    - `shared`: it was the oldest of several tasks of an actor, and may have ended just before another killed
      it.
    """

    task: int
    failure: Failure
    retry: bool = True
    crashed: bool = False
    inputs_lost: bool = False
    started: bool = True
    shared: bool = False


@dataclass(slots=True)
class Stored:
    """These values, which a `Spill` named, are in Parquet, published and in the index."""

    keys: Sequence[str]


@dataclass(slots=True)
class StoreFailed:
    """These values could not be written. They are still in memory."""

    keys: Sequence[str]


@dataclass(slots=True)
class Restored:
    """These values were read back; their sizes in bytes. One that is not RESTORING any more is dropped.

    `windows`: those of the values that are lists of ranges.
    """

    sizes: Mapping[str, int]
    windows: Mapping[str, Windows] = field(default_factory=dict)


@dataclass(slots=True)
class RestoreFailed:
    """These values can't be read back, and the index has them no more."""

    keys: Sequence[str]


@dataclass(slots=True)
class Unreadable:
    """These values are stored, and the store can't give them now; why, by key."""

    reasons: Mapping[str, str]


@dataclass(slots=True)
class Lost:
    """The objects that held these values in memory are gone."""

    keys: Sequence[str]


@dataclass(slots=True)
class Purged:
    """A caller wants these values forgotten. The index has them no more.

    A write that was under way when the purge began must not bring them back: the shell holds writes
    meanwhile.
    """

    keys: Sequence[str]


@dataclass(slots=True)
class CapacityChanged:
    """What each node has, in Ray's resource names. `attainable` is what an autoscaler could add as a node."""

    nodes: Sequence[Mapping[str, float]]
    attainable: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Tick:
    """Time has passed: `Ledger.wake_at` has come."""


Event = (
    Requested
    | Left
    | Reported
    | TaskLost
    | Stored
    | StoreFailed
    | Restored
    | RestoreFailed
    | Unreadable
    | Lost
    | Purged
    | CapacityChanged
    | Tick
)

# --- commands -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Task:
    """Steps that run as one: fused and packed, inputs before their dependents.

    - `outputs`: the steps whose values must come back.
    - `needs`: the Ray resources that the task holds.
    - `recipe`: its first step's.
    - `pool`: it is for a warm actor (`recipe.pool`).
    - `home`: the shard to ask for the steps, if they are another one's.
    - `priority`, `tenant`: the steps' own.
    - `small`: every value is expected to be small enough to travel in the report.
    - `isolated`: its one step is suspected of a crash, so no other work may share its worker.
    - `threads`: how many threads may decode for it.
    """

    id: int
    steps: tuple[Step, ...]
    outputs: frozenset[str]
    needs: Mapping[str, float]
    recipe: Recipe
    pool: bool = False
    home: int | None = None
    priority: int = 2
    tenant: str = "default"
    small: bool = False
    isolated: bool = False
    threads: int = 1


@dataclass(slots=True)
class Submit:
    """Run the task; answer with `Reported` or `TaskLost`."""

    task: Task


@dataclass(slots=True)
class Cancel:
    """Stop the task if it still runs. It holds its resources until its end is reported."""

    task: int


@dataclass(slots=True)
class Ready:
    """The value is in memory. `cached`: this request did not have to wait for a computation."""

    cached: bool
    seconds: float | None = None


@dataclass(slots=True)
class Deliver:
    """Answer a request about one key."""

    request: str
    key: str
    outcome: Ready | Failure


@dataclass(slots=True)
class Expanded:
    """A request's target was each range of a finder: these units, by time, are its targets instead.

    `keys` has the key of each unit. Their answers follow.
    """

    request: str
    key: str
    units: tuple[Segment, ...]
    keys: tuple[str, ...]


@dataclass(slots=True)
class Finished:
    """Every target of the request has been answered."""

    request: str


@dataclass(slots=True)
class Spill:
    """Write these values to Parquet and publish them; answer with `Stored` or `StoreFailed`."""

    keys: tuple[str, ...]


@dataclass(slots=True)
class Restore:
    """Read these values back; answer with `Restored`, `RestoreFailed` or `Unreadable`."""

    keys: tuple[str, ...]


@dataclass(slots=True)
class Drop:
    """Let go of these values' memory."""

    keys: tuple[str, ...]


Command = Submit | Cancel | Deliver | Expanded | Finished | Spill | Restore | Drop
