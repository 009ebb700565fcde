"""`amber get`: ask for features of assets and show or write what comes."""

from __future__ import annotations

import argparse
import json
import sys

from amber_ray.cli.files import Writer
from amber_ray.cli.look import unit_label
from amber_ray.cli.notes import Notes
from amber_ray.cli.options import client_of, no_feature_among, params_of, range_of, wanted
from amber_ray.cli.summary import summary
from amber_ray.cli.terminal import cell, console, note, say, seconds, table, write_bytes
from amber_ray.cli.values import Types, as_json
from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.errors import BadRequest


def run(args: argparse.Namespace) -> int:
    """Get, show, write; 1 if anything failed."""
    features = wanted(args.wanted)
    span = range_of(args.range)
    if args.out is None and args.format in ("arrow", "npy") and sys.stdout.isatty():
        raise BadRequest(f"--format {args.format} is binary: give --out, or send stdout somewhere")
    with client_of(args, args.assets) as client:
        no_feature_among(args.assets, client, features)
        types = Types(client.features())
        writer = Writer(types, args.format)
        writer.check(features)
        results = client.get_many(
            features,
            args.assets,
            params=params_of(client, args.param),
            range=span,
            refresh=args.refresh,
            timeout=args.timeout,
            priority=args.priority,
            progress=False if args.quiet else None,
        )
    if not args.quiet:
        notes = Notes()
        notes.add(results)
        notes.show()
    if args.out is not None:
        for path in writer.write(results, args.out):
            note(path) if not args.quiet else None
    if args.format == "table":
        if not (args.quiet and args.out is not None):
            show(results)
    elif args.out is None and args.format == "json":
        say(json.dumps(as_json(results, types), indent=1))
    elif args.out is None:
        write_bytes(writer.encoded(results))
    told: set[str] = set()
    for (feature, asset), failure in results.failures.items():
        about = f" of {asset}" if asset is not None else ""
        blamed = "" if failure.step in ("", feature) else f"{failure.step}: "
        note(f"amber: {feature}{about} failed: {blamed}{failure.message}")
        if args.debug and failure.traceback and failure.key not in told:
            told.add(failure.key)  # many features may have failed with one step
            note(failure.traceback.rstrip())
    return 1 if results.failures else 0


def show(results: Results) -> None:
    """A table with one line per unit: what it is and where it came from."""
    rows = table("feature", "asset", "unit", "value", ">computed in", "now")
    for row in results.rows:
        rows.add_row(
            row.feature,
            cell(row.asset or "all"),
            unit_label(row.unit),
            cell(_shown(row)),
            seconds(row.seconds),
            "failed" if row.failure else "cached" if row.cached else "computed",
        )
    console().print(rows)


def _shown(row: Row) -> str:
    if row.failure is not None:
        return summary(f"{row.failure.type}: {row.failure.message}")
    return "nothing was found" if row.nothing_found else summary(row.value)
