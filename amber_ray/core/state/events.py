"""What can happen to the ledger, and what it answers is to be done about it.

Events go in, commands come out; the shell (`fabric.shard.actor`, or a simulation) performs them and reports
back with more events. Plain data: no references to values, no clocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from amber_ray.core.model.request import Failure
from amber_ray.core.planning.plan import Recipe, Step

# --- events ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Requested:
    """A caller wants `targets`; `steps` is the whole graph under them.

    `load` is False for callers that want values to exist but not in memory (a backfill): a cold value is
    then a hit as it stands. `deadline` is absolute. `located` is when its assets were found at their places
    (Unix time), 0 if that is not known: of two places of an asset the one that was found later counts.
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


@dataclass(slots=True)
class Left:
    """A request was withdrawn; it is told nothing more."""

    id: str


@dataclass(slots=True)
class StepReport:
    """How one step of a task ended. `kept`: its value came back; otherwise it is gone again.

    `failure.key` is that of the step that failed, which for a blocked one is another of its task.
    """

    key: str
    bytes: int = 0
    seconds: float = 0.0
    kept: bool = True
    failure: Failure | None = None


@dataclass(slots=True)
class Reported:
    """A task ended by itself."""

    task: int
    reports: Sequence[StepReport]


@dataclass(slots=True)
class TaskLost:
    """A task ended without a report: its worker or node died, it ran out of memory or time.

    `failure.key` and `.step` are filled in per step by the ledger. `retry` False makes it final. `crashed`
    says that the worker's process died while it ran the task, which the task itself may have brought about;
    `inputs_lost` that it could not read what it was given, which is no fault of its steps. Not `started`: it
    stood in the queue of a warm actor that died, so nothing of it has run. `shared`: it was the oldest of
    several there, and may have ended well just before another brought the actor down.
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
    """These values, which a `Spill` named, are in Parquet and published."""

    keys: Sequence[str]


@dataclass(slots=True)
class StoreFailed:
    """These values could not be written; they are still in memory."""

    keys: Sequence[str]


@dataclass(slots=True)
class Restored:
    """These values were read back; with their sizes in bytes. What nothing waits for is dropped again."""

    sizes: Mapping[str, int]


@dataclass(slots=True)
class RestoreFailed:
    """These values can't be read back, and the index no longer has them."""

    keys: Sequence[str]


@dataclass(slots=True)
class Unreadable:
    """These values are stored, and the store can't give them now: why, by key."""

    reasons: Mapping[str, str]


@dataclass(slots=True)
class Lost:
    """The objects of these values are gone from memory."""

    keys: Sequence[str]


@dataclass(slots=True)
class Purged:
    """A caller wants these values forgotten; the index no longer has them.

    What was being written when the purge began may not put them back: the shell holds writes off meanwhile.
    """

    keys: Sequence[str]


@dataclass(slots=True)
class CapacityChanged:
    """What each node has, in Ray's resource names; `attainable` what an autoscaler could add to a node."""

    nodes: Sequence[Mapping[str, float]]
    attainable: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Tick:
    """Time has passed."""


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
    """What is run as one: fused and packed steps, inputs before users.

    `outputs` are the steps whose values must come back. `needs` are Ray resources it holds. `home` is
    another shard when the task is to ask that shard for its steps. `pool`: for warm actors (`recipe.pool`).
    `priority` and `tenant` are the steps' own. `small`: every output is expected to be small enough to travel
    in the report. `isolated`: its one step is suspected of a crash, so nothing else may be lost with it.
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


@dataclass(slots=True)
class Submit:
    """Run the task."""

    task: Task


@dataclass(slots=True)
class Cancel:
    """Stop the task if it still runs; it holds its resources until its end is reported."""

    task: int


@dataclass(slots=True)
class Ready:
    """The value is there; `cached` when this request did not have to wait for a computation."""

    cached: bool
    seconds: float | None = None


@dataclass(slots=True)
class Deliver:
    """Answer a request about one key."""

    request: str
    key: str
    outcome: Ready | Failure


@dataclass(slots=True)
class Finished:
    """Every target of the request has been answered."""

    request: str


@dataclass(slots=True)
class Spill:
    """Write these values to Parquet, publish, and say `Stored` or `StoreFailed`."""

    keys: tuple[str, ...]


@dataclass(slots=True)
class Restore:
    """Read these values back and say `Restored` or `RestoreFailed`."""

    keys: tuple[str, ...]


@dataclass(slots=True)
class Drop:
    """Let go of these values' memory."""

    keys: tuple[str, ...]


Command = Submit | Cancel | Deliver | Finished | Spill | Restore | Drop
