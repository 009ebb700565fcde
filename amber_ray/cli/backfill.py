"""`amber backfill`: features of many assets, in windows, after everything more urgent."""

from __future__ import annotations

import argparse

from amber_ray.cli.look import show_failures
from amber_ray.cli.options import client_of, listed, params_of
from amber_ray.cli.terminal import note, say
from amber_ray.client.names import feature_names
from amber_ray.errors import BadRequest


def run(args: argparse.Namespace) -> int:
    """Compute and store; values stay where they are. 1 if anything failed, and a table of what did."""
    if args.window < 1:
        raise BadRequest(f"--window must be at least 1 asset, not {args.window}")
    assets = listed(args.assets)
    features = feature_names(",".join(args.features_wanted))
    if not args.quiet:
        note(f"{', '.join(features)} of {len(assets)} assets")
    with client_of(args, assets) as client:
        results = client.get_many(
            features,
            assets,
            params=params_of(client, args.param),
            timeout=args.timeout,
            priority=args.priority,
            progress=False if args.quiet else None,
            values=False,
            window=args.window,
        )
    failed = results.failures
    if failed:
        show_failures([(asset or "all", failure) for (_, asset), failure in failed.items()])
    ready = [row for row in results.rows if row.failure is None]
    cached = sum(row.cached for row in ready)
    say(f"{len(ready)} values: {len(ready) - cached} computed, {cached} were there; {len(failed)} failed")
    return 1 if failed else 0
