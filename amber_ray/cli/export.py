"""`amber export`: values of a catalogue as a training set of Parquet files, and what is missing from it.

It exports what is there; with --compute it has the rest computed first, like `amber backfill`. What is held
is a window of assets' states and a batch of values, whatever the catalogue's length.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from amber_ray.cli import manifest
from amber_ray.cli.catalogue import assets, surveyed
from amber_ray.cli.coverage import Coverage
from amber_ray.cli.options import client_of, params_of
from amber_ray.cli.progress import CatalogueProgressBar
from amber_ray.cli.shards import Shards
from amber_ray.cli.terminal import note, say
from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.client.sync import Client
from amber_ray.errors import BadRequest

INTERRUPTED = 130


def run(args: argparse.Namespace) -> int:
    """Write the export, or nothing; 1 if some of what was asked for is not in it."""
    if args.window < 1:
        raise BadRequest(f"--window must be at least 1 asset, not {args.window}")
    if args.shard_bytes < 1:
        raise BadRequest(f"--shard-bytes must be at least 1, not {args.shard_bytes}")
    if "://" in args.out:
        raise BadRequest(f"--out {args.out} is a URL: name a local folder")
    out = os.path.abspath(os.path.expanduser(args.out))
    if os.path.lexists(out) and (not os.path.isdir(out) or os.listdir(out)):
        raise BadRequest(f"--out {args.out} is there already and not an empty folder")
    survey = surveyed(args.assets)
    for line in survey.notes():
        note(f"amber: {line}")
    partial = out + ".partial"
    os.makedirs(os.path.dirname(partial), exist_ok=True)
    try:
        os.mkdir(partial)
    except FileExistsError:
        raise BadRequest(
            f"{partial} is of an export that is under way or was cut off: remove it, then say it again"
        ) from None
    try:
        with client_of(args, survey=survey) as client:
            coverage = _exported(client, args, partial, survey.total)
        os.replace(partial, out)  # An empty folder at `out` gives way.
    except KeyboardInterrupt:
        note("amber: interrupted; nothing is exported")
        return INTERRUPTED
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    coverage.show()
    counts = coverage.of.values()
    how = (
        ""
        if args.compute or not any(c.missing or c.unknown for c in counts)
        else " (--compute computes what is missing)"
    )
    say(
        f"{sum(c.present for c in counts):,} values are in {args.out}; coverage.parquet says what is not{how}"
    )
    return 1 if any(c.failed or c.missing or c.unknown for c in counts) else 0


def _exported(client: Client, args: argparse.Namespace, folder: str, total: int | None) -> Coverage:
    infos = manifest.by_name(client.features())
    features = manifest.pinned(args.features_wanted, infos)
    params = params_of(client, args.param)
    if args.compute:
        with CatalogueProgressBar(total, shown=not args.quiet) as tally:
            client.sweep(
                features,
                assets(args.assets, ordered=True),
                tally.add,
                params=params,
                timeout=args.timeout,
                priority=args.priority,
                tenant=args.tenant,
                window=args.window,
            )
    coverage = Coverage(os.path.join(folder, "coverage.parquet"), features)
    shards = {name: Shards(folder, infos[name], args.shard_bytes) for name in features}
    with CatalogueProgressBar(total, shown=not args.quiet) as tally:
        for part in _parts(assets(args.assets, ordered=True), args.window):
            table = _table(client, args, features, part, params)
            tally.add(table)
            for name in features:
                _written(client, [row for row in table.rows if row.feature == name], shards[name], coverage)
    coverage.close()
    told: dict[str, Any] = {}
    for name in features:
        shards[name].close()
        about = {"rows": shards[name].rows, "files": shards[name].files, **coverage.of[name].as_dict()}
        told[name] = manifest.lineage(name, infos, params) | about
    with open(os.path.join(folder, "manifest.json"), "w", encoding="utf-8") as file:
        file.write(manifest.text(told, tally.assets))
    return coverage


def _table(
    client: Client, args: argparse.Namespace, features: Sequence[str], part: Sequence[str], params: Any
) -> Results:
    """What there is of some assets, without large values; what --compute had computed has failures, too."""
    if not args.compute:
        return client.stored(features, part, params=params)
    return client.get_many(
        features,
        part,
        params=params,
        timeout=args.timeout,
        priority=args.priority,
        tenant=args.tenant,
        progress=False,
        values=False,
    )


def _written(client: Client, rows: Sequence[Row], shards: Shards, coverage: Coverage) -> None:
    def told(some: Sequence[Row]) -> None:
        for row in some:
            coverage.add(row)
        there = [row for row in some if row.state == "ready" and row.failure is None]
        shards.add([row for row in there if not row.nothing_found])

    client.load(rows, told)


def _parts(names: Iterator[str], most: int) -> Iterator[list[str]]:
    """The catalogue, some assets at a time; one that comes twice within them counts once."""
    while part := list(dict.fromkeys(itertools.islice(names, most))):
        yield part
