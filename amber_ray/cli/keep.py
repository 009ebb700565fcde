"""`amber keep`: demands of a server, which keeps features true for everything under prefixes."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from amber_ray.cli.options import params_of, token_of, wanted
from amber_ray.cli.terminal import cell, console, count, note, say, seconds, table
from amber_ray.client.address import connect
from amber_ray.client.sync import Client
from amber_ray.core.model.audit import told_url
from amber_ray.core.model.demand_codec import view_to_json
from amber_ray.core.model.demands import DemandStatus, DemandView
from amber_ray.errors import BadRequest, UnknownDemand


def run(args: argparse.Namespace) -> int:
    """Say a demand, list them, show or stop one, or tell what changed. Showing one that is not true is 1."""
    asked = [
        args.name is not None,
        args.list,
        args.status is not None,
        args.stop is not None,
        bool(args.changed),
    ]
    if sum(asked) != 1:
        raise BadRequest(
            "say one of: keep NAME --features F --assets PREFIX, keep --list, keep --status NAME, "
            "keep --stop NAME, keep --changed PLACE"
        )
    with connect(args.server, token=token_of(args), tenant=args.tenant) as client:
        if args.list:
            return _listed(client.demands(), args.format)
        if args.status is not None:
            return _status(_named(client, args.status), args.format)
        if args.stop is not None:
            _named(client, args.stop)
            client.stop_keeping(args.stop)
            say(f"{args.stop} is not kept any more; what is stored stays")
            return 0
        if args.changed:
            return _changed(client, args)
        return _keep(client, args)


def _keep(client: Client, args: argparse.Namespace) -> int:
    if not args.wanted or not args.assets:
        raise BadRequest("keep NAME needs --features F[,F] and --assets PREFIX")
    if args.on and args.callback is None:
        raise BadRequest("--on says of what a URL is told; name it with --callback URL")
    callback: dict[str, Any] | None = None
    if args.callback is not None:
        callback = {"url": args.callback}
        if args.on:
            callback["on"] = [word.strip() for words in args.on for word in words.split(",")]
    view = client.keep(
        args.name,
        [name for words in args.wanted for name in wanted(words)],
        args.assets,
        params=params_of(client, args.param),
        every=args.every,
        gone=args.gone,
        settle_seconds=args.settle,
        callback=callback,
    )
    if args.format == "json":
        say(json.dumps(view_to_json(view), indent=1))
    else:
        say(
            f"{view.demand.name} keeps {', '.join(view.demand.features)} "
            f"of {', '.join(view.demand.prefixes)}, every {view.demand.every:g} s"
        )
        if not args.quiet:
            note(f"amber keep --status {view.demand.name} tells how it stands")
    return 0


def _changed(client: Client, args: argparse.Namespace) -> int:
    noticed = client.notify(args.changed)
    if args.format == "json":
        say(json.dumps(noticed._asdict()))
    else:
        say(
            f"{count(noticed.taken, 'place')} looked at, {noticed.uncovered:,} not covered by any demand, "
            f"{noticed.dropped:,} left to the next look"
        )
    return 0


def _named(client: Client, name: str) -> DemandView:
    found = [view for view in client.demands() if view.demand.name == name]
    if not found:
        raise UnknownDemand(f"there is no demand {name!r}; `amber keep --list` shows them all")
    return found[0]


def _listed(views: list[DemandView], form: str) -> int:
    if form == "json":
        say(json.dumps([view_to_json(view) for view in views], indent=1))
    elif not views:
        say("nothing is kept true here")
    else:
        shown = table("demand", "features", ">seen", ">true", ">running", ">failed", "tells", "stands")
        for view in views:
            status = view.status
            numbers = (f"{n:,}" for n in (status.seen, status.true, status.running, status.failed))
            features = cell(", ".join(view.demand.features))
            shown.add_row(cell(view.demand.name), features, *numbers, cell(_told(view)), cell(stands(status)))
        console().print(shown)
    return 0


def _status(view: DemandView, form: str) -> int:
    status = view.status
    if form == "json":
        say(json.dumps(view_to_json(view), indent=1))
        return 0 if status.all_true else 1
    say(f"{view.demand.name}: {stands(status)}")
    say(
        f"{count(status.seen, 'asset')} seen, {status.true:,} true, {status.running:,} asked for now, "
        f"{status.failed:,} failed, {status.settling:,} still changing"
    )
    if status.unsuitable:
        say(f"{status.unsuitable:,} of the true ones are of a kind that can't have a feature")
    if status.held:
        say(
            f"the values of {count(status.held, 'asset')} were not purged: nothing is left under their "
            "prefix, as if a disk was not mounted"
        )
    if status.ended:
        say(
            f"the last look ended {seconds(max(0.0, time.time() - status.ended))} ago and took "
            f"{seconds(status.seconds)}: {count(status.asked, 'asset')} asked for, "
            f"{count(status.computed, 'value')} computed"
        )
    if status.unwatched:
        say(status.unwatched)
    if view.demand.callback is not None:
        later = f"; told later: {status.untold}" if status.untold else ""
        say(f"{_told(view)} is told of {', '.join(view.demand.callback.on)}{later}")
    for failing in status.failing:
        say(f"  {failing.uri}: {failing.message}")
    return 0 if status.all_true else 1


def _told(view: DemandView) -> str:
    return "" if view.demand.callback is None else told_url(view.demand.callback.url)


def stands(status: DemandStatus) -> str:
    """How a demand stands, in words."""
    if status.error:
        return status.error
    if not status.ended:
        return "being looked at for the first time" if status.sweeping else "not looked at yet"
    if status.all_true:
        return "all true"
    if status.oldest is None:
        return "not all true"
    return f"not all true, the oldest for {seconds(max(0.0, time.time() - status.oldest))}"
