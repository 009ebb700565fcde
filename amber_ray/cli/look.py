"""`amber features`, `explain`, `status` and `failures`: looking, without computing anything."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from amber_ray.cli.graph import label
from amber_ray.cli.options import client_of, local, no_feature_among, params_of, range_of, token_of, wanted
from amber_ray.cli.registered import infos_of, known
from amber_ray.cli.summary import summary
from amber_ray.cli.terminal import cell, console, say, seconds, table
from amber_ray.client.address import connect
from amber_ray.core.model.kept import window_of
from amber_ray.core.model.request import ExplainedStep, Failure, StepAction
from amber_ray.core.model.service import FeatureInfo
from amber_ray.core.model.stats import plain
from amber_ray.core.model.units import MICRO, Collection, EachRange, Segment, Unit
from amber_ray.wire import views


def features(args: argparse.Namespace) -> int:
    """List features, or show one with its documentation."""
    infos = infos_of(args)
    if args.feature is not None:
        by_name = {info.name: info for info in infos}
        infos = [by_name[known(by_name, args.feature)]]
    if args.format == "json":
        say(json.dumps([views.encode_feature(info) for info in infos], indent=1))
    elif args.feature is not None:
        _one(infos[0], label(infos[0]))
    else:
        rows = table("feature", "version", "per", "inputs", "parameters", "what it is")
        for info in infos:
            rows.add_row(
                info.name,
                info.version,
                info.per,
                ", ".join(info.inputs),
                cell(", ".join(f"{n}={default}" for n, (_, default) in info.params.items())),
                cell(info.doc.partition("\n")[0]),
            )
        console().print(rows)
    return 0


def _one(info: FeatureInfo, label: str) -> None:
    say(label)
    if info.inputs:
        say(f"inputs      {', '.join(info.inputs)}")
    for name, (type, default) in info.params.items():
        say(f"parameter   {info.name}.{name}: {type} = {json.dumps(default)}")
    say(f"returns     {type_words(info.returns)}")
    say(f"code        {info.code_digest}")
    if info.doc:
        say("")
        say(info.doc)


def type_words(spec: Mapping[str, Any]) -> str:
    """A value's type as one would write it: `list[Shot(start: float, ...)]`, `float32[n, 512]`."""
    kind = spec["type"]
    if kind == "array":
        shape = spec.get("shape")
        sizes = "..." if shape is None else ", ".join("n" if size is None else str(size) for size in shape)
        return f"{spec.get('dtype') or 'array'}[{sizes}]"
    if kind == "struct":
        fields = ", ".join(f"{name}: {type_words(of)}" for name, of in spec["fields"])
        return f"{spec['name']}({fields})"
    if kind == "list":
        return f"list[{type_words(spec['item'])}]"
    if kind == "optional":
        return f"{type_words(spec['item'])} | None"
    return str(spec.get("media") or kind)


def explain(args: argparse.Namespace) -> int:
    """Say for each step whether it is there, running, failed or would run, and what it would take."""
    features = wanted(args.wanted)
    with client_of(args, args.assets) as client:
        no_feature_among(args.assets, client, features)
        steps = client.explain(
            features,
            args.assets,
            params=params_of(client, args.param),
            range=range_of(args.range),
            refresh=args.refresh,
        )
    if args.format == "json":
        say(json.dumps([views.encode_step(step) for step in steps], indent=1))
        return 0
    rows = table("feature", "version", "unit", "state", "asking would", ">expected", "needs")
    for step in steps:
        name = f"[bold]{step.feature}[/]" if step.target else step.feature
        needs = ", ".join(f"{n} {a:g}" for n, a in step.resources.items())
        about = f": {step.expected:,} expected" if step.expected is not None else ""
        rows.add_row(
            name,
            step.version,
            unit_label(step.unit) + about,
            step.state,
            _WORDS[step.action],
            seconds(step.seconds),
            needs,
        )
    console().print(rows)
    run = [s for s in steps if s.action == "run"]
    about = "about " if any(step.expected is not None for step in steps) else ""
    say(f"{about}{_many(run)} of {_many(steps)} steps would run{_work(run)}{_others(steps)}")
    return 0


def _many(steps: Sequence[ExplainedStep]) -> str:
    """How many steps there are, of those for each range of a finder as many as are expected."""
    return f"{sum(1 if step.expected is None else step.expected for step in steps):,}"


_WORDS: Mapping[StepAction, str] = {
    "run": "run it",
    "wait": "wait for it",
    "read": "read it",
    "use": "use it",
    "fail": "fail by it",
    "skip": "",
}
"""What asking would do with a step."""


def _others(steps: Sequence[ExplainedStep]) -> str:
    """What becomes of the steps that would not run, where that is not plain."""
    told = ""
    for action, says in (("wait", "under way"), ("fail", "known to fail"), ("skip", "not needed")):
        if count := sum(step.action == action for step in steps):
            told += f"; {count} {'is' if count == 1 else 'are'} {says}"
    return told


def _work(run: Sequence[ExplainedStep]) -> str:
    """What steps would take, as far as that is known of their features: what never ran is not nought."""
    known = [step.work for step in run if step.work is not None]
    features = {step.feature for step in run}
    unknown = {step.feature for step in run if step.work is None}
    if not known:
        return ", how long is not known: none of their features has run here" if unknown else ""
    more = f", unknown for {len(unknown)} of {len(features)} features" if unknown else ""
    return f", about {seconds(sum(known))} of work{more}"


def unit_label(unit: Unit | None) -> str:
    """A unit for people: a segment's seconds, an asset's id, a collection's size."""
    if isinstance(unit, Segment):
        whole = not unit.length_us
        return "whole" if whole else f"{unit.start:g}-{unit.end:g} s"
    if isinstance(unit, Collection):
        return f"{len(unit.assets)} assets"
    if isinstance(unit, EachRange):
        return f"each of {unit.finder}"
    return "whole" if unit is not None else ""


def status(args: argparse.Namespace) -> int:
    """Show a server's counters, or how one request stands."""
    with connect(args.server, token=token_of(args)) as client:
        if args.request is None:
            stats = plain(client.stats())
            if args.format == "json":
                say(json.dumps(stats, indent=1, sort_keys=True))
                return 0
            rows = table("counter", ">value")
            for name, value in sorted(stats.items()):
                rows.add_row(name, f"{value:,.10g}")
            console().print(rows)
            return 0
        future = client.future(args.request)
        progress = future.progress()
    if args.format == "json":
        data = {"id": args.request, "state": progress.state, "done": progress.done, "total": progress.total}
        say(json.dumps(data))
    else:
        say(f"{args.request}: {progress.state}, {progress.done} of {progress.total} steps done")
    return 0


def failures(args: argparse.Namespace) -> int:
    """List the failures a server remembers, with the step that failed and why."""
    with connect(args.server, token=token_of(args)) as client:
        found = client.failures()
    if args.format == "json":
        say(json.dumps([views.encode_failure(f) for f in found], indent=1))
    elif found:
        show_failures(found)
    else:
        say("no failures are remembered")
    return 0


def show_failures(found: Sequence[Failure | tuple[str, Failure]]) -> None:
    """A table of failures; one that comes with a name is shown under it, else under its asset's place."""
    rows = table("feature", "of", "kind", "error", "blocks")
    for item in found:
        name, failure = item if isinstance(item, tuple) else (_about(item), item)
        cells: list[Any] = [failure.step, name, failure.kind, f"{failure.type}: {failure.message}"]
        cells.append(", ".join(failure.blocked))
        rows.add_row(*(cell(summary(c, 160) if c else "") for c in cells))
    console().print(rows)


def _about(failure: Failure) -> str:
    """Name what a listed failure is about: the asset's place and a segment's seconds, else its unit."""
    if not failure.uri:
        return failure.unit
    _, start, length = window_of(failure.unit) or ("", 0, 0)
    if not length:
        return local(failure.uri) or failure.uri
    begin, end = start / MICRO, (start + length) / MICRO
    return f"{local(failure.uri) or failure.uri}, {begin:g}-{end:g} s"
