"""What decoding costs shot by shot: `frames` of each window that was found, against one decode of the film.

Nobody knows the windows when the question comes, none begins with a key picture, and their pictures are
asked for in as many steps as there are windows. The ledger makes tasks of them as in a cluster of two CPUs,
the workers' code runs them here, one after the other, and what is compared is processor time. What both made
is compared as well, picture by picture.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections import deque
from dataclasses import dataclass

from amber_ray.core.declare.feature import feature
from amber_ray.core.declare.registry import Registry
from amber_ray.core.ledger.ledger import Ledger
from amber_ray.core.model.units import Asset, Segment
from amber_ray.core.planning.plan import Planner
from amber_ray.core.state import events as ev
from amber_ray.fabric.transport import pickled
from amber_ray.fabric.transport.messages import Work
from amber_ray.fabric.worker.tasks import run_steps
from amber_ray.features.frames import PAIR, Frames, frames
from amber_ray.media.catalogue import Catalogue
from amber_ray.media.decode import pictures
from amber_ray.media.locate import Locator
from amber_ray.media.scale import shorter_side
from amber_ray.settings import Settings
from benchmarks import film
from benchmarks.measure import Measured, cpu_seconds, paired
from benchmarks.session import Session, main

NODE = {"CPU": 2.0}


@dataclass(frozen=True, slots=True)
class Shot:
    """A window that was found."""

    start: float
    end: float


@feature(version="1")
def cuts_drawn(asset: Asset, count: int = 900) -> list[Shot]:
    """As many shots as wanted, between pictures drawn by lot: a third of a second long, or ten seconds."""
    length = asset.duration or 0.0
    moments = random.Random(count).sample(range(1, int(length * 24)), count - 1)
    times = [0.0, *(moment / 24 for moment in sorted(moments)), length]
    return [Shot(a, b) for a, b in itertools.pairwise(times)]


@feature(version="1", per="cuts_drawn")
def shown(frames: Frames) -> list[int]:
    """What shows that pictures are those of another decode."""
    return [digest(image.data) for image in frames.images]


REGISTRY = Registry([f.__amber__ for f in (frames, cuts_drawn, shown)])


def digest(pixels: memoryview) -> int:
    """A number that tells a picture from others."""
    return zlib.crc32(pixels)


def run(session: Session) -> list[Measured]:
    """One row: processor time of all shots, one by one, against one decode."""
    minutes, shots, size = session.size((60, 900, (1920, 1080)), (1, 15, (320, 180)))
    path = film.film(session, minutes, size)
    asset = Catalogue(str(session.folder / "shots"), Locator([str(path.parent)])).add(str(path))
    found: list[list[int]] = [[], []]

    def ours() -> float:
        return cpu_seconds(lambda: found[0].__setitem__(slice(None), by_shot(asset, shots)))

    def peer() -> float:
        return cpu_seconds(lambda: found[1].__setitem__(slice(None), at_once(asset)))

    measured = paired(ours, peer, 1, warm=False)
    if found[0] != found[1]:
        raise RuntimeError("the shots' pictures are not those of one decode of the film")
    return [
        Measured(
            "found units: decoding",
            f"processor time of `frames` of {shots} shots of {minutes} min of {size[0]}x{size[1]}, H.264",
            "one decode of the film that gives the same pictures",
            *measured,
            "s",
            1.2,
        )
    ]


def at_once(asset: Asset) -> list[int]:
    """One pass over the film, at the rate and the sizes of `frames`."""
    seen = pictures(asset, fps=2.0, size=shorter_side(224), pair=PAIR)
    return [digest(picture.rgb.data) for picture in seen]


def by_shot(asset: Asset, count: int) -> list[int]:
    """The same of each shot, in tasks as the ledger makes them."""
    planner = Planner(REGISTRY, features=["shown"], params={"cuts_drawn.count": count}, segment_seconds=60.0)
    planner.add_asset(asset)
    plan = planner.plan()
    ledger = Ledger(Settings(), ())
    told: dict[int, list[int]] = {}
    events: deque[ev.Event] = deque([ev.CapacityChanged([NODE])])
    events.append(ev.Requested("r", plan.steps, [target.key for target in plan.targets]))
    while events:
        for command in ledger.handle(events.popleft(), 0.0):
            if isinstance(command, ev.Submit):
                events.append(ran(command.task, told))
    return [digest for _, digests in sorted(told.items()) for digest in digests]


def ran(task: ev.Task, told: dict[int, list[int]]) -> ev.Reported:
    """Run a task as a worker does, and note what it told of shots, by their beginnings."""
    work = Work(task.id, task.steps, task.outputs, {}, {}, 1, 1 << 20, REGISTRY.digest, "", "")
    reports = []
    (results, _), steps = run_steps(REGISTRY, work, ()), {step.key: step for step in task.steps}
    for one in results:
        if one.failure is not None:
            raise RuntimeError(one.failure.message)
        unit = steps[one.key].unit
        if one.inline is not None and isinstance(unit, Segment):
            told[unit.start_us] = pickled.loads(one.inline)
        kept = one.key in task.outputs
        reports.append(ev.StepReport(one.key, one.size, one.made.seconds, kept, windows=one.windows))
    return ev.Reported(task.id, reports)


if __name__ == "__main__":
    raise SystemExit(main(run))
