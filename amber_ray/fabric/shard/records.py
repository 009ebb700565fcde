"""What a shard remembers of a request beyond the ledger, and how it is journaled.

The ledger forgets a request once its last target is answered; the record keeps the answers for whoever
asks later. Journaled records (JSON under `<store>/requests/`) outlive the cluster: an unfinished one holds
all that is needed to plan it again, a finished one its answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from amber_ray.core.model.asked import Place, RequestInfo, about
from amber_ray.core.model.naming import assets_of
from amber_ray.core.model.request import Failure, RequestState
from amber_ray.core.model.unit_codec import asset_from_json, asset_to_json, unit_from_json, unit_to_json
from amber_ray.core.model.units import Asset, Collection, EachRange, Segment, Unit
from amber_ray.core.planning.plan import Target
from amber_ray.fabric.transport.messages import Answer, FoundUnit, Handle, Reply, Standing

LONGEST = 500
"""Letters of what failed in a line of the log."""


@dataclass(slots=True)
class Record:
    """One request at one shard.

    - `targets`, `positions`: what this shard answers, and where each stands in the whole request;
    - `expanded`: the units that are targets in the place of one that was each range of a finder, by its key;
    - `shards`: all shards that answer a part of it;
    - `registry`: the digest of the code that it was planned with;
    - `refresh`: its targets are to be made anew; `deadline`: until when (Unix time);
    - `about`: what whoever follows it must know beside its targets;
    - `accepted`: it survives its caller, and `body` is what the journal needs to plan it again; `saved` is
      the body that is on paper, and `saving` is held while one is written;
    - `interest`: the sessions that keep it alive, each with its attempt (see `Submission`);
    - `followers`: the sessions that are told of it, whether they keep it alive or not;
    - `readers`: those of them whose callers read all of its values (`Submission.reading`);
    - `internal`: it is another shard's question, which counts for no tenant;
    - `held`: of such a question, the values that it was told of;
    - `ended`: when it ended, on the shard's clock.
    """

    id: str
    targets: tuple[Target, ...]
    positions: tuple[int, ...]
    shards: tuple[int, ...]
    tenant: str
    created: float
    registry: str = ""
    refresh: bool = False
    deadline: float | None = None
    state: str = "running"
    accepted: bool = False
    about: Mapping[str, Any] | None = None
    body: Mapping[str, Any] | None = None
    saved: Mapping[str, Any] | None = None
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    answers: dict[str, Answer] = field(default_factory=dict)
    expanded: dict[str, tuple[FoundUnit, ...]] = field(default_factory=dict)
    interest: dict[str, int] = field(default_factory=dict)
    followers: dict[str, None] = field(default_factory=dict)
    readers: set[str] = field(default_factory=set)
    internal: bool = False
    held: dict[str, Handle] = field(default_factory=dict)
    ended: float = 0.0

    def known_targets(self) -> Iterator[Target]:
        """Yield what it answers as far as windows are known: units in the place of each range of a finder."""
        for target in self.targets:
            if target.key in self.expanded:
                yield from (unit.target(target) for unit in self.expanded[target.key])
            else:
                yield target

    def known_count(self) -> int:
        """How many `known_targets` there are."""
        return sum(len(self.expanded.get(target.key, (target,))) for target in self.targets)

    def settle(self) -> None:
        """Every target has an answer: "done" if any is a value, or if there was nothing to answer."""
        if self.state == "running":
            ok = not self.answers or any(a.failure is None for a in self.answers.values())
            self.state = "done" if ok else "failed"

    def trouble(self, shard: int) -> str:
        """What failed, in one line for the log; empty if nothing did.

        Of several shards the first tells of assets that could not be found.
        """
        wrong: list[str] = []
        some = any(answer.failure is not None for answer in self.answers.values())
        for target in self.known_targets() if some else ():
            answer = self.answers.get(target.key)
            if answer is not None and (why := answer.failure) is not None:
                step = f"{why.step}: " if why.step not in ("", target.feature) else ""
                wrong.append(f"{target.feature} of {_place(target.unit)}: {step}{why.type}: {why.message}")
        failed, asked = len(wrong), self.known_count()
        if shard in self.shards[:1]:
            for one in (self.about or {}).get("failed_assets", ()):
                ref, why_not = one["ref"], one["failure"]
                wrong.append(f"{ref['uri'] or ref['id']}: {why_not['type']}: {why_not['message']}")
        if not wrong:
            return ""
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        head = f"{failed} of {asked} results failed: " if failed else ""
        return head + " ".join(wrong[0].split())[:LONGEST] + more

    @property
    def place(self) -> Place:
        """Where it comes in a listing."""
        return -self.created, self.id

    def info(self, shard: int) -> RequestInfo:
        """What a listing tells of this shard's part; the first shard's tells of assets not found, too."""
        features, lost = about({**(self.body or {}), **(self.about or {})}, [t.feature for t in self.targets])
        lost = lost if shard in (self.shards or (shard,))[:1] else 0
        failed = sum(answer.failure is not None for answer in self.answers.values())
        return RequestInfo(
            self.id,
            cast("RequestState", self.state),
            self.tenant,
            self.created,
            features,
            self.known_count() + lost,
            len(self.answers) - failed,
            failed + lost,
        )

    def reply(self, progress: tuple[int, int], changes: int, *, full: bool = False) -> Reply:
        """The record as told to an engine; `full` for one that has not seen the request."""
        return Reply(
            id=self.id,
            state=self.state,
            answers=list(self.answers.values()),
            done=progress[0],
            total=progress[1],
            created=self.created,
            tenant=self.tenant,
            targets=self.targets if full else (),
            positions=self.positions if full else (),
            shards=self.shards if full else (),
            expanded=tuple(self.expanded.items()),
            record={**(self.body or {}), **(self.about or {})} if full else None,
            changes=changes,
        )

    def standing(self, *, count: bool) -> Standing:
        """How it stands, for whoever tells of its end; with `count` how many of its answers are values."""
        answers = [self.answers.get(target.key) for target in self.known_targets()] if count else []
        failed = sum(answer is not None and answer.failure is not None for answer in answers)
        ready = sum(answer is not None for answer in answers) - failed
        return Standing(self.state, self.created, self.shards, ready, failed)

    def to_json(self) -> dict[str, Any]:
        """What the journal keeps; values themselves are in the store."""
        assets: dict[str, Asset] = {}
        for target in self.targets:
            for asset in assets_of(target.unit):
                assets[asset.id] = asset
        return {
            "id": self.id,
            "tenant": self.tenant,
            "created": self.created,
            "state": self.state,
            "registry": self.registry,
            "refresh": self.refresh,
            "deadline": self.deadline,
            "request": self.body,
            "assets": {i: asset_to_json(a) for i, a in assets.items()},
            "targets": [[t.feature, unit_to_json(t.unit), t.key] for t in self.targets],
            "positions": list(self.positions),
            "shards": list(self.shards),
            "expanded": {key: [list(unit) for unit in units] for key, units in self.expanded.items()},
            "answers": [
                {
                    "key": a.key,
                    "cached": a.cached,
                    "seconds": a.seconds,
                    "failure": dataclasses.asdict(a.failure) if a.failure else None,
                }
                for a in self.answers.values()
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read what `to_json` wrote, also before it had positions, a registry, `refresh` and a deadline."""
        assets = {i: asset_from_json(a) for i, a in data["assets"].items()}
        return cls(
            id=data["id"],
            positions=tuple(data.get("positions") or range(len(data["targets"]))),
            shards=tuple(data.get("shards") or ()),
            registry=data.get("registry", ""),
            refresh=data.get("refresh", False),
            deadline=data.get("deadline"),
            tenant=data["tenant"],
            created=data["created"],
            state=data["state"],
            accepted=True,
            body=data["request"],
            saved=data["request"],
            targets=tuple(Target(f, unit_from_json(u, assets), k) for f, u, k in data["targets"]),
            expanded={
                key: tuple(FoundUnit(*unit) for unit in units)
                for key, units in (data.get("expanded") or {}).items()
            },
            answers={
                a["key"]: Answer(
                    a["key"],
                    cached=a["cached"],
                    seconds=a["seconds"],
                    failure=Failure(**a["failure"]) if a["failure"] else None,
                )
                for a in data["answers"]
            },
        )


def _place(unit: Unit) -> str:
    """Where a unit's media are, in a few words."""
    if isinstance(unit, Collection):
        return f"{len(unit.assets)} assets"
    if isinstance(unit, Segment):
        return f"{unit.asset.uri} from {unit.start:g} s to {unit.end:g} s"
    return unit.asset.uri if isinstance(unit, EachRange) else unit.uri
