"""What a caller asks and what a caller is told: plain data shared by every way in.

Must not know: HTTP, Ray, how anything is computed.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from amber_ray.core.model.callback import Callback
from amber_ray.core.model.naming import named, unnamed
from amber_ray.core.model.units import Asset, Collection, EachRange, Unit


class Priority(enum.IntEnum):
    """Scheduling class; a higher number runs first."""

    BACKFILL = 0
    INGEST = 1
    INTERACTIVE = 2


class _Missing(enum.Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING
"""Stands where a value is not carried along (it is large, pending or failed)."""


@dataclass(frozen=True, slots=True)
class AssetRef:
    """How a caller names an asset: by `uri` (a path counts) or by the `id` of a known asset.

    `tenant` is who asks, if it may not see what others have uploaded: for it that is not there.
    """

    uri: str | None = None
    id: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class ComputeRequest:
    """Many features of many assets.

    - `params` maps `"feature.name"` to a JSON value; `range` is [A, B) in seconds;
    - `expect` maps features to the digests (`FeatureInfo.digest`) that they must have, or nothing is run;
    - `registry` is the digest of the registry to plan with, which a caller brought before; empty: the
      service's own;
    - `callback` is who is to be told of its end: it is accepted at once, and outlives its caller;
    - `trace` is the span that it belongs to (`core.model.trace`), empty if none is recorded.
    """

    features: tuple[str, ...]
    assets: tuple[AssetRef, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    range: tuple[float, float] | None = None
    priority: Priority = Priority.INTERACTIVE
    tenant: str = "default"
    refresh: bool = False
    deadline_seconds: float | None = None
    expect: Mapping[str, str] = field(default_factory=dict)
    registry: str = ""
    callback: Callback | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step has no value.

    `kind` is input, feature or system (`errors`); `type` the error class's name; `step` the feature
    that failed and `key` its key, which for a blocked descendant is an ancestor; `traceback` is the
    feature's own, as text; `attempts` how often it was tried; `blocked` the features that have no value
    because of it and `uri` the place of its asset, where failures are listed. Inside the cluster the texts
    of a step's failure name no media (`core.model.naming`): `told` puts the reader's names there.
    """

    kind: Literal["input", "feature", "system"]
    type: str
    message: str
    step: str
    key: str
    unit: str
    status: int = 422
    traceback: str = ""
    attempts: int = 1
    blocked: tuple[str, ...] = ()
    uri: str = ""

    def told(self, assets: Iterable[Asset] = ()) -> Failure:
        """Return it as it is told to whoever asks for `assets`, by their names for them."""
        uris = {asset.id: asset.uri for asset in assets}
        return self._in_words(lambda text: named(text, uris))

    def renamed(self, asset: Asset, uri: str) -> Failure:
        """Return it as it is told of an asset that its reader, who has several names for it, calls `uri`."""
        return self._in_words(lambda text: named(unnamed(text, [asset]), {asset.id: uri}))

    def _in_words(self, put: Callable[[str], str]) -> Failure:
        message, traceback = put(self.message), put(self.traceback)
        if message == self.message and traceback == self.traceback:
            return self
        return dataclasses.replace(self, message=message, traceback=traceback)


RequestState = Literal["running", "done", "failed", "cancelled"]
ResultState = Literal["ready", "pending", "failed", "cancelled"]


class Result(NamedTuple):
    """One feature for one unit, as far as it is known now. `value` is MISSING unless ready and small.

    A tuple, as a request may have tens of thousands: a frozen dataclass takes four times as long to make.
    """

    feature: str
    key: str
    unit: Unit
    state: ResultState
    value: Any = MISSING
    failure: Failure | None = None
    seconds: float | None = None
    cached: bool = False

    @property
    def asset(self) -> Asset | None:
        """The asset it is about; None for a collection."""
        unit = self.unit
        if isinstance(unit, Asset):
            return unit
        return None if isinstance(unit, Collection) else unit.asset


@dataclass(frozen=True, slots=True)
class AssetFailure:
    """An asset that could not be resolved; its features are reported failed, the other assets go on."""

    ref: AssetRef
    failure: Failure


@dataclass(frozen=True, slots=True)
class RequestView:
    """A request as it stands: `done` of `total` steps that had to be run or read, and a result per target.

    `features` are the names asked for; `failed_assets` are assets that could not be resolved at all. `state`
    is "done" when every target has an answer and at least one is ready, "failed" when all are failures.
    """

    id: str
    state: RequestState
    done: int
    total: int
    results: tuple[Result, ...]
    failed_assets: tuple[AssetFailure, ...] = ()
    tenant: str = "default"
    created: float = 0.0
    features: tuple[str, ...] = ()


StepAction = Literal["run", "wait", "read", "use", "fail", "skip"]


@dataclass(frozen=True, slots=True)
class ExplainedStep:
    """One step of a plan, and what asking would do with it.

    `state` is where its value is now. `action` is what `compute` would do: run it, wait for work that is
    under way, read it back from the store, use it as it is in memory, fail because of it, or skip it, as
    nothing that would run needs it. `seconds` is what it takes to run; None if none of its feature has run.

    One whose unit is an `EachRange` stands for steps whose windows are not known yet: `expected` is how many
    they may be, by what the finder found in other assets, and `seconds` what each takes. `expected` is None
    of any other step, and where the finder has not run yet. One that has a value stands for no step at all:
    the finder found nothing.
    """

    feature: str
    version: str
    key: str
    unit: Unit
    state: Literal["hot", "kept", "cold", "running", "queued", "missing", "failed"]
    inputs: tuple[str, ...]
    seconds: float | None
    resources: Mapping[str, float]
    target: bool
    action: StepAction
    expected: int | None = None

    @property
    def work(self) -> float | None:
        """Seconds that it takes to run, with all that it stands for; None if that is not known."""
        if self.seconds is None or not isinstance(self.unit, EachRange):
            return self.seconds
        return None if self.expected is None else self.seconds * self.expected
