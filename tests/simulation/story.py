"""A run as a person reads it: time, shard, what happened, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from amber_ray.core.model.request import Failure
from amber_ray.core.state import events as ev
from tests.simulation.scenario import Ask, Read, Scenario

if TYPE_CHECKING:
    from tests.simulation.world import World


def scenario_lines(scenario: Scenario) -> Iterator[str]:
    """What the world was laid out with."""
    yield (
        f"seed {scenario.seed}: {scenario.shards} shards, {scenario.engines} engines, "
        f"{scenario.assets} assets of {scenario.segments} segments, nodes {[dict(n) for n in scenario.nodes]}"
    )
    yield "settings: " + ", ".join(f"{n}={v}" for n, v in scenario.settings.items())
    yield "chances: " + (", ".join(f"{n} {v:.3g}" for n, v in scenario.chances.items() if v) or "none")
    for stimulus in scenario.stimuli:
        if isinstance(stimulus, Ask):
            wishes = [
                f"{name} {getattr(stimulus, name):.2f}"
                for name in ("patience", "leaves", "returns", "cancels")
                if getattr(stimulus, name) is not None
            ]
            wishes += [name for name in ("refresh", "twin") if getattr(stimulus, name)]
            yield (
                f"  {stimulus.at:6.2f}  {stimulus.id} asks engine {stimulus.engine} for "
                f"{', '.join(stimulus.features)} of {', '.join(f'a{n}' for n in stimulus.assets)} "
                f"(wait {stimulus.wait:g}, priority {stimulus.priority}, tenant {stimulus.tenant}, "
                f"{stimulus.follows} by engine {stimulus.other}{''.join(f', {w}' for w in wishes)})"
            )
        elif isinstance(stimulus, Read):
            yield (
                f"  {stimulus.at:6.2f}  somebody reads {stimulus.feature} of a{stimulus.asset} by its keys "
                f"at engine {stimulus.engine}, and again {stimulus.again:.2f} later"
            )
        else:
            yield f"  {stimulus.at:6.2f}  {stimulus.kind} ({stimulus.which:.2f}, {stimulus.much:.2f})"


def story_lines(world: World) -> Iterator[str]:
    """Every event and its commands, in order."""
    names = world.media.names
    for when, process, event, commands in world.trace or ():
        yield f"{when - 1000:8.3f}  {process:8}  {told(event, names)}"
        for command in commands:
            yield f"{'':18}-> {told(command, names)}"


def told(what: Any, names: dict[str, str]) -> str:
    """An event or a command in a line."""

    def of(keys: Iterable[str]) -> str:
        return ", ".join(_name(k, names) for k in keys) or "nothing"

    match what:
        case str():
            return what
        case ev.Requested():
            kind = f"priority {what.priority}, tenant {what.tenant}" + (", refresh" if what.refresh else "")
            kind += "" if what.load else ", not loaded"
            late = "" if what.deadline is None else f", by {what.deadline - 1000:.2f}"
            return f"Requested {what.id}: {of(what.targets)} ({kind}{late})"
        case ev.Submit(task):
            where = "" if task.home is None else f" of shard {task.home}"
            return f"Submit task {task.id}{where}: {of(s.key for s in task.steps)}"
        case ev.Reported():
            ends = [f"{_name(r.key, names)} {_end(r)}" for r in what.reports]
            return f"Reported task {what.task}: {', '.join(ends) or 'nothing'}"
        case ev.TaskLost():
            return f"TaskLost task {what.task}: {what.failure.type}{'' if what.retry else ', for good'}"
        case ev.Cancel(task_id):
            return f"Cancel task {task_id}"
        case ev.Deliver(request, key, outcome):
            end = (
                _failure(outcome) if isinstance(outcome, Failure) else "cached" if outcome.cached else "made"
            )
            return f"Deliver {request} {_name(key, names)}: {end}"
        case ev.Expanded(request, key, _, keys):
            return f"Expanded {request} {_name(key, names)}: {of(keys)}"
        case ev.Finished(request):
            return f"Finished {request}"
        case ev.Restored(sizes):
            return f"Restored {of(sizes)}"
        case ev.Left(id):
            return f"Left {id}"
        case ev.CapacityChanged(nodes):
            return f"Capacity {[dict(n) for n in nodes]}"
        case ev.Tick():
            return "Tick"
        case ev.Unreadable(reasons):
            return f"Unreadable {of(reasons)}"
    return f"{type(what).__name__} {of(what.keys)}"


def _name(key: str, names: dict[str, str]) -> str:
    return names.get(key, key)


def _failure(failure: Failure) -> str:
    return f"failed ({failure.kind}: {failure.type})"


def _end(report: ev.StepReport) -> str:
    if report.failure is not None:
        return _failure(report.failure)
    return f"{report.bytes} bytes" if report.kept else "not kept"
