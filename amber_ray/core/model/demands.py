"""Demands: standing requests, "keep these features true for everything under these prefixes".

A `Demand` is what somebody wants. `DemandState` is what has become of it, which the store keeps; `DemandView`
is both, as callers are told. Must not know: how media are listed, who sees to it that demands become true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from amber_ray.core.model.callback import Callback
from amber_ray.core.model.places import Cover
from amber_ray.errors import BadRequest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
EVERY_SECONDS, SETTLE_SECONDS = 60.0, 5.0
LEAST_EVERY, MOST_EVERY = 0.2, 31 * 86_400.0
MOST_SETTLE = 86_400.0
MOST_NAMED = 100
"""Features of a demand, and prefixes."""
FAILING_SHOWN = 20
"""Failing assets that a status names."""
FAILING_KNOWN = 256
"""Failing assets that a findings knows one by one; where more fail, only their number is compared."""

Gone = Literal["keep", "purge"]


@dataclass(frozen=True, slots=True)
class Demand:
    """A standing request.

    - `features` are kept true of every asset under one of the `prefixes`: absolute paths of folders and
      files, and URLs, of which one that ends with "/" stands for all below it;
    - `params` as of a `ComputeRequest`;
    - `every`: seconds from one look at the prefixes to the next;
    - `gone`: what becomes of values of assets that are nowhere any more;
    - `settle_seconds`: how long a local file must have stood still before it is taken;
    - `callback`: who is to be told when assets become true, when all are, and when others fail.
    """

    name: str
    features: tuple[str, ...]
    prefixes: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    every: float = EVERY_SECONDS
    gone: Gone = "keep"
    tenant: str = "default"
    settle_seconds: float = SETTLE_SECONDS
    callback: Callback | None = None

    def check(self) -> None:
        """Raise `BadRequest` for a demand that can't be; what features there are, the registry has to say."""
        if not NAME.match(self.name):
            raise BadRequest(
                "a demand's name must be up to 64 letters, digits, '.', '_' or '-', beginning with a letter "
                f"or digit, not {self.name!r}"
            )
        for what, words in (("feature", self.features), ("prefix", self.prefixes)):
            if not words or not all(words):
                raise BadRequest(f"a demand names at least one {what}, and none that is empty")
            if len(words) > MOST_NAMED:
                raise BadRequest(f"a demand has {len(words)} of {what}; at most {MOST_NAMED} are taken")
        for prefix in self.prefixes:
            if not prefix.startswith("/") and "://" not in prefix:
                raise BadRequest(f"{prefix!r} is relative; name an absolute path or a URL")
        if not LEAST_EVERY <= self.every <= MOST_EVERY:
            raise BadRequest(f"every must be {LEAST_EVERY:g} s to {MOST_EVERY:g} s, not {self.every:g}")
        if not (math.isfinite(self.settle_seconds) and 0 <= self.settle_seconds <= MOST_SETTLE):
            raise BadRequest(f"settle_seconds must be 0 to {MOST_SETTLE:g}, not {self.settle_seconds:g}")
        if self.gone not in ("keep", "purge"):
            raise BadRequest(f"gone must be keep or purge, not {self.gone!r}")

    def cover(self) -> Cover:
        """The places that this demand looks at."""
        return Cover(self.prefixes)


class FailingAsset(NamedTuple):
    """An asset that a demand is not true of, and why."""

    uri: str
    message: str


@dataclass(frozen=True, slots=True)
class DemandStatus:
    """How a demand stands, in numbers of assets.

    - `seen`: places with media under the prefixes at the last look; `true`: those of which all is there, with
      `unsuitable` among them, which can't have a feature (a sound has no brightness);
    - `running`: asked for now; `failed`: asked for, and something failed; it is asked for again with each
      sweep; `settling`: local files that have not stood still yet;
    - `oldest`: since when the oldest asset that is not true is not, in Unix seconds; None if all are;
    - `began`, `ended`: the last sweep that came to its end, Unix seconds (0: none has); `seconds` it took, of
      which `listing` for the listing alone; it asked for `asked` assets, `computed` values were not there;
    - `purged`: values that it purged, of assets that are gone; `held`: gone assets whose values it did not
      purge, since nothing at all is left under their prefix: that looks like a disk that is not mounted;
    - `sweeps`: how many have ended; `sweeping`: whether one goes on now, whose numbers of assets these are
      if it is the first, or has been asking for some seconds;
    - `error`: why the last one could not be made, empty if it could; `failing`: some assets that fail;
    - `unwatched`: why what changes in a folder is found by sweeps alone; empty if the machine tells it;
    - `untold`: why its callback has not been told of everything yet; empty if it has.
    """

    seen: int = 0
    true: int = 0
    unsuitable: int = 0
    running: int = 0
    failed: int = 0
    settling: int = 0
    oldest: float | None = None
    began: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0
    listing: float = 0.0
    asked: int = 0
    computed: int = 0
    purged: int = 0
    held: int = 0
    sweeps: int = 0
    sweeping: bool = False
    error: str = ""
    failing: tuple[FailingAsset, ...] = ()
    unwatched: str = ""
    untold: str = ""

    @property
    def all_true(self) -> bool:
        """Whether a whole look at the prefixes has found, or made, everything true."""
        return self.ended > 0 and not self.error and self.true == self.seen


class Findings(NamedTuple):
    """How a demand stood when a look at it ended: its callback is told how one differs from another.

    - `became`: as of `DemandState`, by then; `all_true`: whether all was true;
    - `failed`: how many assets failed; `failing`: digests of the places of `FAILING_KNOWN` of them at most.
    """

    became: int = 0
    all_true: bool = False
    failed: int = 0
    failing: tuple[str, ...] = ()


class Message(NamedTuple):
    """What a callback is told: the id and the bytes are settled for good when a state has it."""

    id: str
    type: str
    body: str


class Telling(NamedTuple):
    """What a demand's callback was told, and what it is to be told; kept by the first shard alone.

    - `life`: a name that no other state has had; with `number`, of the last message, it makes messages' ids;
    - `became`, `findings`: the part of the state that was told, or needed no telling;
    - `unsent`: messages that may not have become deliveries yet.
    """

    life: str = ""
    number: int = 0
    became: int = 0
    findings: Findings = Findings()
    unsent: tuple[Message, ...] = ()


class DemandState(NamedTuple):
    """What the store keeps of a demand beside itself: the files that note what it is true of, and its status.

    `runs` are names of sorted runs of `Noted`, oldest first; `by` is the digest of what it asked last, and
    `since` when that became what it asks, in Unix seconds. `became` counts how often an asset was noted as
    true since the demand was said; `findings` is how it stood when a look last ended.
    """

    runs: tuple[str, ...] = ()
    by: str = ""
    since: float = 0.0
    status: DemandStatus = DemandStatus()
    became: int = 0
    findings: Findings = Findings()
    telling: Telling = Telling()


class Noticed(NamedTuple):
    """What became of events, in numbers of them.

    `taken` are looked at; `uncovered` are of places that no demand covers; `dropped` were too many, since
    others wait already: what they tell of is found by the next sweep.
    """

    taken: int = 0
    uncovered: int = 0
    dropped: int = 0


class DemandView(NamedTuple):
    """A demand as callers are told of it; `made` in Unix seconds."""

    demand: Demand
    status: DemandStatus
    made: float
