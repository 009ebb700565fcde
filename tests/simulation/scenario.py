"""What is laid upon a world from outside: its shape, its callers and its faults, all from one seed.

Everything here is plain data, so that a story can be printed, replayed and made shorter.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECONDS = 30.0
"""How long callers come and faults happen; then everything is let run to its end."""
SMALL = {"CPU": 2.0}
SMALL_GPU = {"CPU": 2.0, "GPU": 1.0}
CLUSTERS = ((SMALL,), (SMALL_GPU,), (SMALL_GPU, SMALL), ({"CPU": 1.0},), ({"CPU": 8.0}, SMALL_GPU))

CHANCES = (
    *(
        "step",
        "system",
        "die",
        "mute",
        "slow",
    ),  # of a task: its steps fail, its worker dies, it says too little
    *("twice", "spill", "restore"),
    *("lost", "reply lost", "repeated"),  # of a message between shards, or from a caller
)
HAPPENINGS = (
    *("objects vanish", "purge", "nodes change", "node dies", "actor dies", "actor dies", "disk full"),
    *("part damaged", "upgrade", "compaction", "urgency", "nothing"),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """A caller comes at `at` for targets, named feature/unit.

    `patience`: its deadline; `leaves`: when it withdraws, `dies`: when its engine is gone without a word,
    `accepted`: when it is told 202, all in seconds after `at`. `old`: it has the registry before the last.
    """

    at: float
    id: str
    targets: tuple[str, ...]
    priority: int = 2
    tenant: str = "x"
    patience: float | None = None
    refresh: bool = False
    load: bool = True
    leaves: float | None = None
    dies: float | None = None
    accepted: float | None = None
    old: bool = False


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that befalls the cluster at `at`. `which`, in [0, 1), says whom, and `much` how badly."""

    at: float
    kind: str
    which: float = 0.0
    much: float = 0.0


Stimulus = Ask | Happening


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world before it begins. `chances`: of each fault that a draw decides when its occasion comes."""

    seed: int
    shards: int
    assets: int
    segments: int
    nodes: tuple[Mapping[str, float], ...]
    settings: Mapping[str, Any]
    chances: Mapping[str, float]
    stimuli: tuple[Stimulus, ...]

    @classmethod
    def of(cls, seed: int) -> Scenario:
        """The scenario of a seed."""
        rng = random.Random(seed)
        shards, assets, segments = rng.choice((1, 1, 2, 3)), rng.randint(1, 4), rng.randint(1, 3)
        # Some worlds are calm, so that the usual paths are seen too, and some have all kinds of trouble.
        danger = rng.choice((0.0, 0.3, 1.0, 1.0))
        settings = {
            "memory_bytes": rng.choice((5_000, 20_000, 1_000_000)),
            "spill_bytes": rng.choice((2_000, 100_000)),
            "spill_seconds": rng.choice((0.25, 2.0)),
            "inline_bytes": 100,
            "grace_seconds": rng.choice((0.5, 2.0)),
            "retry_seconds": 0.2,
            "lookahead": rng.choice((0, 1, 2)),
            "pack_seconds": rng.choice((0.0, 1.0, 5.0)),
            "feature_failure_seconds": rng.choice((1.0, 20.0)),
            "system_failure_seconds": 2.0,
            "input_failure_seconds": 60.0,
        }
        chances = {name: danger * rng.choice((0.0, 0.05, 0.2)) for name in CHANCES}
        stimuli: list[Stimulus] = [
            _ask(rng, f"r{n}", names(assets, segments), shards) for n in range(rng.choice((5, 15, 40)))
        ]
        for _ in range(int(danger * rng.choice((0, 10, 30)))):
            stimuli.append(
                Happening(rng.random() * SECONDS, rng.choice(HAPPENINGS), rng.random(), rng.random())
            )
        stimuli.sort(key=lambda s: s.at)
        nodes = rng.choice(CLUSTERS[1:3])
        return cls(seed, shards, assets, segments, nodes, settings, chances, tuple(stimuli))

    def replace(self, **changes: Any) -> Scenario:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def dangerous(self) -> bool:
        """Whether anything but callers is to be expected."""
        return any(self.chances.values()) or any(isinstance(s, Happening) for s in self.stimuli)


# feature: (grain, inputs)
SHAPE: dict[str, tuple[str, tuple[str, ...]]] = {
    "probe": ("asset", ()),
    "frames": ("segment", ()),
    "look": ("segment", ("frames",)),
    "embed": ("segment", ("frames",)),
    "mood": ("segment", ("look", "probe")),
    "scene": ("segment", ("look", "embed")),
    "film": ("asset", ("scene", "probe")),
    "sound": ("asset", ("probe",)),
    "match": ("collection", ("film", "sound")),
}


def names(assets: int, segments: int) -> list[str]:
    """Every step there is: feature/asset, feature/asset/segment, or feature/all."""
    made = []
    for feature, (grain, _) in SHAPE.items():
        if grain == "collection":
            made.append(f"{feature}/all")
        for a in range(assets if grain != "collection" else 0):
            if grain == "asset":
                made.append(f"{feature}/a{a}")
            else:
                made.extend(f"{feature}/a{a}/{i}" for i in range(segments))
    return made


def _ask(rng: random.Random, id: str, known: list[str], shards: int) -> Ask:
    targets = rng.sample(known, min(len(known), rng.choice((0, 1, 1, 2, 5, 8))))
    if shards > 1 and rng.random() < 0.3:
        targets.append("match/all")  # what the shards need each other for
    return Ask(
        at=rng.random() * SECONDS,
        id=id,
        targets=tuple(targets + targets[:1]),
        priority=rng.randint(0, 2),
        tenant=rng.choice("xyz"),
        patience=rng.choice((0.0, 1.0, 5.0)) if rng.random() < 0.2 else None,
        refresh=rng.random() < 0.15,
        load=rng.random() < 0.8,
        leaves=rng.random() * 6.0 if rng.random() < 0.3 else None,
        dies=rng.random() * 6.0 if rng.random() < 0.1 else None,
        accepted=rng.random() * 3.0 if rng.random() < 0.4 else None,
        old=rng.random() < 0.2,
    )
