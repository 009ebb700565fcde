"""What the engine, the cache actors and the workers say to each other: plain picklable data.

A value travels inline, as pickle bytes in the message, while it is small; otherwise as a place in a Ray
object that the cache actor owns (`Slot`). Pickle is only ever read from these messages, which come from
inside the cluster, never from HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from amber_ray.core.ledger.foresight import Fate
from amber_ray.core.model.callback import Callback
from amber_ray.core.model.demands import DemandState
from amber_ray.core.model.request import Failure
from amber_ray.core.model.trace import Ran
from amber_ray.core.model.units import EachRange, Segment
from amber_ray.core.planning.codec import Packed, pack, unpack
from amber_ray.core.planning.fanout import Windows
from amber_ray.core.planning.plan import Step, Target
from amber_ray.settings import Limits
from amber_ray.store.demands import DemandRecord

Wanted: TypeAlias = Mapping[str, Sequence[tuple[int, str]]]
"""Rows to read: (row, key) pairs by part."""


class Made(NamedTuple):
    """How a value was made: run time in seconds, device and provenance, Unix time of creation."""

    seconds: float
    device: str
    created: float


class StepResult(NamedTuple):
    """One step of a finished task. `inline` is the pickled value, else `slot` and `place` say where it is.

    `later`: it asked to be tried again, see `StepReport`. `windows`: those of a list of ranges. `ran`: when
    and where it ran, if that was asked for (`Work.traced`).
    """

    key: str
    size: int = 0
    made: Made | None = None
    inline: bytes | None = None
    slot: int = -1
    place: int = 0
    failure: Failure | None = None
    later: float | None = None
    windows: Windows | None = None
    ran: Ran | None = None


class Standing(NamedTuple):
    """How a shard's part of a request stands: its state, and how many results are values and failures.

    `shards` are all that have a part of it; of several, the one `created` last knows them best.
    """

    state: str
    created: float
    shards: tuple[int, ...]
    ready: int
    failed: int


class Promise(NamedTuple):
    """That somebody is to be called when a request has ended; `failed_assets` is how many were not found.

    `end`: what has become of one that is over already: its state, values, failures.
    """

    request: str
    tenant: str
    callback: Callback
    failed_assets: int
    end: tuple[str, int, int] | None = None


@dataclass(frozen=True, slots=True)
class Inline:
    """A small value in the actor's own memory.

    `windows` are those of a list of ranges; `part` is where it was read, if it was not made since.
    """

    data: bytes
    made: Made
    windows: Windows | None = None
    part: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Slot:
    """A value in the object store: the `place`-th item of the list behind `ref`; `windows` as of `Inline`."""

    ref: Any
    place: int
    size: int
    made: Made
    windows: Windows | None = None


Handle = Inline | Slot


@dataclass(slots=True)
class Work:
    """A task as the worker gets it. Values of `slots` are (argument, place).

    `apart`: seconds between the starts of two calls, for features with a rate. `threads` may decode,
    and with `gpu` the GPU that the task holds. `traced`: results tell when and where each step ran.
    `request`: one that it is for, as lines of the log name it; `lines`: where those go and how
    (`Settings.console`, `Settings.log_format`).
    """

    task: int
    steps: tuple[Step, ...]
    outputs: frozenset[str]
    inline: Mapping[str, bytes]
    slots: Mapping[str, tuple[int, int]]
    returns: int
    inline_bytes: int
    registry: str
    namespace: str
    actor: str
    limits: Limits = field(default_factory=Limits)
    apart: float = 0.0
    threads: int = 1
    gpu: bool = False
    traced: bool = False
    request: str = ""
    lines: tuple[str, str] = ("", "text")

    def __reduce__(self) -> tuple[Any, ...]:
        """See `core.planning.codec`."""
        others = (getattr(self, name) for name in Work.__slots__[2:])
        return _work, (self.task, pack(self.steps), *others)


def _work(task: int, packed: Packed, *others: Any) -> Work:
    return Work(task, tuple(unpack(packed)), *others)


@dataclass(slots=True)
class ReadReport:
    """What came of reading: results for what was there, and the parts that are damaged or gone.

    `unreadable` parts are there, and the file system or object store did not give them now: it says why.
    """

    results: list[StepResult]
    damaged: dict[str, str]
    vanished: list[str]
    unreadable: dict[str, str]


@dataclass(slots=True)
class Submission:
    """One request for one shard. `plan` names an entry of the batch's plans.

    `positions` are the places that the plan's targets have in the whole request, which several shards may
    answer: `shards` are those. `about` is what whoever follows the request must know beside its targets.
    `attempt` is the sender's number for this interest in the request: a withdrawal names it, so one that is
    late ends nothing newer. `record`, when given, is journaled before the reply: the request is then accepted
    for good. `answered`: the sender has answered it from its own memory, and only tells of it. `reading`: its
    caller reads all values, so places of large ones come with the answers (`Reply.places`). `trace`: the span
    that it belongs to (`core.model.trace`).
    """

    id: str
    plan: str
    priority: int
    tenant: str
    deadline_seconds: float | None
    refresh: bool
    load: bool
    created: float
    record: Mapping[str, Any] | None = None
    positions: Sequence[int] = ()
    shards: Sequence[int] = ()
    about: Mapping[str, Any] | None = None
    attempt: int = 0
    answered: bool = False
    reading: bool = False
    trace: str = ""


KEPT_STEPS = 4096
"""Steps of the largest plan that a shard remembers by its name."""


@dataclass(slots=True)
class PlanPart:
    """The part of a plan that one shard owns: its targets and all that is under them."""

    steps: Mapping[str, Step]
    targets: Sequence[Target]

    def __reduce__(self) -> tuple[Any, ...]:
        """See `core.planning.codec`. A target's unit is its step's."""
        targets = [(target.feature, target.key) for target in self.targets]
        return _plan_part, (pack(self.steps.values()), targets)


def _plan_part(packed: Packed, targets: Sequence[tuple[str, str]]) -> PlanPart:
    steps = {step.key: step for step in unpack(packed)}
    return PlanPart(steps, [Target(feature, steps[key].unit, key) for feature, key in targets])


class Foreseen(NamedTuple):
    """What one shard would do with the keys that a request touches, and the states of those that it owns.

    Of the `fates` "ask" is of keys that other shards own: it would ask them. `opened`: templates that it owns
    and whose units are among these keys, and `windows` those of their finders, by key.
    """

    states: Mapping[str, str]
    fates: Mapping[str, Fate]
    opened: Sequence[str] = ()
    windows: Mapping[str, Windows] = {}


class Answer(NamedTuple):
    """What is known of one key. `inline` carries a small value along; larger ones are fetched.

    `part`: a small value was read back from there (see `PartRows`).

    A tuple, like others here: they travel by the thousand, and a dataclass takes several times as long to
    pickle.
    """

    key: str
    cached: bool = False
    seconds: float | None = None
    size: int = 0
    inline: bytes | None = None
    failure: Failure | None = None
    part: str = ""


class FoundUnit(NamedTuple):
    """A window that came in the place of a target, and the key of its value; times in microseconds."""

    key: str
    start_us: int
    length_us: int
    found: bool

    def target(self, each: Target) -> Target:
        """It as a target, in the place of this one."""
        unit = each.unit
        assert isinstance(unit, EachRange)
        return Target(each.feature, Segment(unit.asset, self.start_us, self.length_us, self.found), self.key)


Expansion: TypeAlias = tuple[str, tuple[FoundUnit, ...]]
"""A target that was each range of a finder, by its key, and the units that are targets in its place."""


@dataclass(slots=True)
class MissingPlans:
    """Why requests were not taken in yet: names of plans, or a registry's digest, to be sent first."""

    plans: Sequence[str] = ()
    registry: str = ""


@dataclass(slots=True)
class Reply:
    """A request as one shard knows it, in the words of `RequestView`.

    `targets`, their `positions` and the `shards` that have a part of the request only when attached anew.
    `expanded`: targets in whose places others are by now, of all that the request has. `changes` is the
    shard's count of changed values when this was said (see `Updates`). `places`: where the first large values
    are, for a caller who is about to read them (`Submission.reading`). `refused` says why it was not taken,
    `unsaved` why it was taken but could not be journaled, `taken` that its id belongs to another request.
    """

    id: str
    state: str
    answers: list[Answer]
    done: int = 0
    total: int = 0
    created: float = 0.0
    tenant: str = "default"
    targets: Sequence[Target] = ()
    positions: Sequence[int] = ()
    shards: Sequence[int] = ()
    record: Mapping[str, Any] | None = None
    changes: int = 0
    refused: str = ""
    unsaved: str = ""
    taken: bool = False
    expanded: Sequence[Expansion] = ()
    places: Sequence[Found] = ()


@dataclass(slots=True)
class Updates:
    """What happened to a session's requests since the updates that it has acknowledged.

    - `stream`, `number`: to be named by the next poll, which thereby acknowledges these. A stream that is
      another is that of a session made anew: the shard did not know it any more, so all that the engine
      follows is to be sent anew, and copies must go;
    - `about`: (request, answer): of two requests about one key one may have expired, so an answer is its
      request's; those that are equal are one object, so many who wait for a key cost its value once;
    - `answers`: the newest answer of each key; `finished`: (request, state);
    - `expanded`: (request, target in whose place others are from now on);
    - `places`: where large values are, by key, as in `Reply.places`;
    - `replaced`: requests whose targets are others now, to be attached anew;
    - `changed`: keys whose values were made anew, so copies of them must go;
    - `purged`: values were purged, and copies of any value must go: an engine may hold one that no shard has;
    - `changes`: how many changes of values the shard has seen; what was read before the last of them may be
      old;
    - `incarnation`: the shard's, to which what is counted from now on belongs (see `Counts`).
    """

    stream: str = ""
    number: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    about: list[tuple[str, Answer]] = field(default_factory=list)
    finished: list[tuple[str, str]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    purged: bool = False
    changes: int = 0
    incarnation: str = ""
    expanded: list[tuple[str, Expansion]] = field(default_factory=list)
    places: dict[str, Found] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(
            self.about or self.finished or self.expanded or self.replaced or self.changed or self.purged
        )


class Counts(NamedTuple):
    """What an engine has counted by itself, by name (`core.model.stats`), since that incarnation began.

    Totals and not differences: told twice, or late, they are counted once. `now`: what it measures, which
    counts for as long as it is heard from.
    """

    incarnation: str
    totals: Mapping[str, int]
    now: Mapping[str, int] = {}


NO_COUNTS = Counts("", {})


class Found(NamedTuple):
    """A stored value on its way to a reader: inline, or the `place`-th item behind the nested ref.

    - `made`: when the value was made (Unix time);
    - `rank`: of what several shards found the highest counts: the name of a part without its folder, later
      ones being newer, or `OWN`, which is in its owner's memory;
    - `size`: its bytes, where they are known;
    - `part`: where it was read for this reader, if it was.
    """

    key: str
    feature: str
    version: str
    inline: bytes | None = None
    ref: Sequence[Any] = ()
    place: int = 0
    made: float = 0.0
    rank: str = ""
    size: int = 0
    part: str = ""


OWN = "~"
"""See `Found.rank`. Names of parts sort before it."""


class Values(NamedTuple):
    """Answer to a question for values: one for each key, None where there is none, and `Updates.changes`.

    `absent`: (key, why there is none) where the shard knows it: the failure of the key's step, or that its
    value is stored and can't be read now.
    """

    found: Sequence[Found | None]
    changes: int
    absent: Sequence[tuple[str, Failure]] = ()


class PartRows(NamedTuple):
    """The values of a part that are the newest of their keys: key i, 16 bytes each, is in row `rows[i]`.

    True until the shard tells that one of them was made anew or that values were purged (see `Updates`). What
    is not told may be somewhere else.
    """

    keys: np.ndarray
    rows: np.ndarray


class Tended(NamedTuple):
    """What a steward is told: all demands with how they stand, and places at which something happened."""

    demands: Sequence[tuple[DemandRecord, DemandState]]
    places: Sequence[str] = ()


@dataclass(slots=True)
class Hello:
    """A cache actor's introduction. `incarnation` changes when it is restarted."""

    shard: int
    incarnation: str
    settings: str
    registries: frozenset[str]
    keys: int
