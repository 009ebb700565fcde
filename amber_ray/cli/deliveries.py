"""`amber deliveries`: callbacks of requests and demands, what became of them, and sending one again."""

from __future__ import annotations

import argparse
import json
import time

from amber_ray.cli.options import token_of
from amber_ray.cli.terminal import cell, console, say, table
from amber_ray.client import connect
from amber_ray.core.model.callback import DeliveryView
from amber_ray.wire import views


def run(args: argparse.Namespace) -> int:
    """List a server's deliveries, or send one again."""
    with connect(args.server, token=token_of(args)) as client:
        found = [client.replay(args.replay)] if args.replay else client.deliveries(state=args.state)
    if args.format == "json":
        say(json.dumps([views.encode_delivery(one) for one in found], indent=1))
    elif args.replay:
        say(f"{args.replay} is sent again, to {found[0].url}")
    elif not found:
        say("there are no deliveries" + (f" that are {args.state}" if args.state else ""))
    else:
        rows = table("delivery", "to", "state", ">attempts", "about")
        for one in found:
            rows.add_row(cell(one.id), cell(one.url), one.state, str(one.attempts), cell(_about(one)))
        console().print(rows)
    return 0


def _about(one: DeliveryView) -> str:
    """What came of the last attempt, and when the next one is."""
    again = ""
    if one.next_at is not None and one.attempts:
        again = f", again at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(one.next_at))}"
    return (one.error or one.type) + again
