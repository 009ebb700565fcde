"""What is laid upon a world from outside: its shape, its callers and its faults, all from one seed.

Everything here is plain data, so that a story can be printed, replayed and made shorter.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from amber_ray.core.model.callback import EVENTS, CallbackEvent

SECONDS = 30.0
"""How long callers come and faults happen; then everything is let run to its end."""
SMALL = {"CPU": 2.0}
SMALL_GPU = {"CPU": 2.0, "GPU": 1.0}
CLUSTERS = ((SMALL,), (SMALL_GPU,), (SMALL_GPU, SMALL), ({"CPU": 1.0},), ({"CPU": 8.0}, SMALL_GPU))
FEATURES = ("probe", "frames", "look", "embed", "mood", "scene", "film", "sound", "match")
CALLED = ("caption", "judge")
"""Features that call services."""
FOUND = ("take", "pose")
"""Features of windows that others find."""
GATHERED = ("cuts", "reel", "montage", "acts")
"""Finders, and features that gather such ones."""

CHANCES = (
    *("step", "system", "die", "mute", "slow", "hang"),  # of a task
    *("spill", "restore", "torn"),  # of the store
    *("lost", "reply lost", "repeated", "slow message"),  # of a call between processes
)
RECEIVER = (
    *("receiver down", "receiver hangs", "receiver fails", "receiver busy", "receiver gone"),
    "receiver cuts",
)
"""Faults of who is called when a request has ended."""
HAPPENINGS = (
    *("objects vanish", "purge", "purge", "nodes change", "node dies", "shard dies", "shard dies"),
    *("engine dies", "engine changes", "disk full", "part damaged", "part away", "upgrade", "asset moves"),
    "engine cut off",
)
STORE_TROUBLE = (
    *("purge", "purge", "purge", "part damaged", "part away", "part away", "disk full"),
    *("shard dies", "shard dies", "objects vanish"),
)
LOSSES = ("objects vanish", "objects vanish", "objects vanish", "node dies", "nodes change")
THEMES = ("any", "any", "store", "losses")
"""Some worlds have much of one kind of trouble: of two rare things at once, most worlds have none."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A caller comes at `at` and asks engine number `engine` for features of assets.

    - `wait`: how long it waits for an answer before it takes a 202;
    - `patience`: its deadline in seconds;
    - `leaves`: when it hangs up, in seconds after `at`; `returns`: how much later it asks again with its id;
    - `twin`: somebody asks the same with the same id at the same time;
    - `cancels`: when somebody deletes the request;
    - `called`: what somebody is to be called for, if anybody is;
    - `follows`: how a request that was accepted is followed, by engine number `other`.
    """

    at: float
    id: str
    features: tuple[str, ...]
    assets: tuple[int, ...]
    priority: int = 2
    tenant: str = "x"
    engine: int = 0
    other: int = 0
    wait: float = 5.0
    patience: float | None = None
    refresh: bool = False
    leaves: float | None = None
    returns: float | None = None
    twin: bool = False
    cancels: float | None = None
    follows: Literal["status", "events"] = "status"
    called: tuple[CallbackEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """A reader comes at `at` and asks engine number `engine` for values that are there, by their keys.

    It comes again after `again` seconds, and must then have heard of what was purged or made anew before.
    """

    at: float
    feature: str
    asset: int
    engine: int
    again: float


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that befalls the cluster at `at`. `which`, in [0, 1), says whom, and `much` how badly."""

    at: float
    kind: str
    which: float = 0.0
    much: float = 0.0


Stimulus = Ask | Read | Happening


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world before it begins. `chances`: of each fault that a draw decides when its occasion comes."""

    seed: int
    shards: int
    engines: int
    assets: int
    segments: int
    local: bool
    nodes: tuple[Mapping[str, float], ...]
    settings: Mapping[str, Any]
    chances: Mapping[str, float]
    stimuli: tuple[Stimulus, ...]

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """The scenario of a seed."""
        rng = random.Random(seed)
        theme = rng.choice(THEMES)
        shards, engines = rng.choice((1, 1, 2, 3, 4)), rng.choice((1, 2, 2, 3))
        if theme == "losses":
            shards = rng.choice((2, 3, 4))
        assets, segments = rng.randint(1, 4), rng.randint(1, 3)
        # Some worlds are calm, so that the usual paths are seen too, and some have all kinds of trouble.
        danger = rng.choice((0.0, 0.3, 1.0, 1.0)) if theme == "any" else 1.0
        settings = _settings(rng, theme)
        chances = {name: danger * rng.choice((0.0, 0.05, 0.2)) for name in CHANCES}
        for name in ("lost", "reply lost", "repeated", "torn"):
            chances[name] *= 0.3
        if theme == "losses":  # what one shard says of them is heard by the others
            chances["lost"] = chances["reply lost"] = 0.0
        calls = random.Random(f"{seed}/calls")  # of their own, so that older seeds are what they were
        chances["later"] = danger * calls.choice((0.0, 0.1, 0.3))
        settings["retry_later_seconds"] = calls.choice((15.0, 1000.0))
        found = random.Random(f"{seed}/found")
        callbacks = random.Random(f"{seed}/callbacks")
        chances |= {name: danger * callbacks.choice((0.0, 0.1, 0.3)) for name in RECEIVER}
        chances["receiver gone"] *= 0.3
        stimuli: list[Stimulus] = []
        for n in range(rng.choice((5, 15, 40))):
            ask = _ask(rng, f"r{n}", assets, shards, engines, theme)
            stimuli.append(_with_callback(callbacks, _with_found(found, _with_calls(calls, ask), shards)))
        for _ in range(rng.choice((0, 10, 40))):
            stimuli.append(
                Read(
                    rng.random() * SECONDS * 2,
                    rng.choice(FEATURES),
                    rng.randrange(assets),
                    rng.randrange(engines),
                    rng.random() * 30.0,
                )
            )
        kinds = {"any": HAPPENINGS, "store": STORE_TROUBLE, "losses": LOSSES}[theme]
        for _ in range(int(danger * rng.choice((0, 10, 30)))):
            stimuli.append(Happening(rng.random() * SECONDS, rng.choice(kinds), rng.random(), rng.random()))
        stimuli.sort(key=lambda s: s.at)
        nodes = rng.choice(CLUSTERS[1:3])
        return cls(
            seed,
            shards,
            engines,
            assets,
            segments,
            rng.random() < 0.7,
            nodes,
            settings,
            chances,
            tuple(stimuli),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; each stimulus says what it is."""
        data = dataclasses.asdict(self)
        data["stimuli"] = [{"is": type(it).__name__, **dataclasses.asdict(it)} for it in self.stimuli]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scenario:
        """Read what `to_json` wrote."""
        stimuli = [_stimulus(dict(it)) for it in data["stimuli"]]
        return cls(**{**data, "nodes": tuple(data["nodes"]), "stimuli": tuple(stimuli)})

    def replace(self, **changes: Any) -> Scenario:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def dangerous(self) -> bool:
        """Whether anything but callers is to be expected."""
        return any(self.chances.values()) or any(isinstance(s, Happening) for s in self.stimuli)


def _stimulus(data: dict[str, Any]) -> Stimulus:
    kind = data.pop("is")
    if kind == "Ask":
        lists = {name: tuple(data[name]) for name in ("features", "assets", "called") if name in data}
        return Ask(**{**data, **lists})
    return {"Read": Read, "Happening": Happening}[kind](**data)


def _settings(rng: random.Random, theme: str) -> dict[str, Any]:
    small = theme == "store"  # much is written, evicted and read back
    return {
        "memory_bytes": rng.choice((5_000, 20_000) if small else (5_000, 20_000, 1_000_000)),
        "replica_cache_bytes": rng.choice((2_000, 100_000)),
        "spill_bytes": 2_000 if small else rng.choice((2_000, 100_000)),
        "spill_seconds": rng.choice((0.25, 2.0)),
        "compact_parts": rng.choice((2, 4, 1000)),
        "inline_bytes": 100,
        "grace_seconds": rng.choice((0.5, 2.0)),
        "retry_seconds": 0.2,
        "lookahead": rng.choice((0, 1, 2)),
        "pack_seconds": rng.choice((0.0, 1.0, 5.0)),
        "idle_actor_seconds": rng.choice((1.0, 20.0)),
        "feature_failure_seconds": rng.choice((1.0, 20.0)),
        "system_failure_seconds": 2.0,
        "input_failure_seconds": 60.0,
        "quarantine_seconds": 30.0,
    }


def _with_calls(rng: random.Random, ask: Ask) -> Ask:
    """The same question, or one that also asks for what calls services."""
    if rng.random() < 0.6:
        return ask
    return dataclasses.replace(ask, features=(*ask.features, rng.choice(CALLED)))


def _with_found(rng: random.Random, ask: Ask, shards: int) -> Ask:
    """The same question, or one that also asks for found units, or for what gathers them."""
    if rng.random() < 0.5:
        return ask
    among = (*FOUND, *FOUND, *GATHERED, *(("montage",) if shards > 1 else ()))
    chosen = dict.fromkeys((*ask.features, rng.choice(among), rng.choice(among)))
    return dataclasses.replace(ask, features=tuple(chosen))


def _with_callback(rng: random.Random, ask: Ask) -> Ask:
    """The same question, or one whose end somebody is to be told of."""
    if rng.random() < 0.7:
        return ask
    on = rng.choice((("done", "failed"), ("done", "failed"), ("done",), ("failed",), ("result",), EVENTS))
    return dataclasses.replace(ask, called=on)


def _ask(rng: random.Random, id: str, assets: int, shards: int, engines: int, theme: str) -> Ask:
    features = rng.sample(FEATURES[:-1], rng.choice((1, 1, 1, 2, 3)))
    if shards > 1 and rng.random() < (0.8 if theme == "losses" else 0.3):
        features.append("match")  # what the shards need each other for
    leaves = rng.random() * 6.0 if rng.random() < 0.35 else None
    return Ask(
        at=rng.random() * SECONDS,
        id=id,
        features=tuple(features),
        assets=tuple(rng.sample(range(assets), rng.randint(1, assets))),
        priority=rng.randint(0, 2),
        tenant=rng.choice("xyz"),
        engine=rng.randrange(engines),
        other=rng.randrange(engines),
        wait=rng.choice((0.0, 1.0, 5.0, 30.0)),
        patience=rng.choice((0.0, 1.0, 5.0)) if rng.random() < 0.25 else None,
        refresh=rng.random() < (0.4 if theme == "store" else 0.15),
        leaves=leaves,
        returns=rng.choice((0.0, 0.0, 0.1, 2.0)) if leaves is not None and rng.random() < 0.6 else None,
        twin=rng.random() < 0.15,
        cancels=rng.random() * 6.0 if rng.random() < 0.08 else None,
        follows=rng.choice(("status", "events")),
    )
