"""`amber backfill`: features of a whole catalogue, after everything more urgent.

It keeps no notes: the store says what is done, so the same command after a crash goes on where that one was.
"""

from __future__ import annotations

import argparse

from amber_ray.cli.catalogue import assets, surveyed
from amber_ray.cli.failed import FailureFile
from amber_ray.cli.notes import Notes
from amber_ray.cli.options import client_of, params_of
from amber_ray.cli.progress import CatalogueProgressBar
from amber_ray.cli.terminal import note, say
from amber_ray.client.names import feature_names
from amber_ray.client.results import Results
from amber_ray.errors import AmberError, BadRequest

DEFAULT_FAILURES = "backfill-failures.parquet"
INTERRUPTED = 130


def run(args: argparse.Namespace) -> int:
    """Compute and store; values stay where they are. 1 if anything failed or has a name of no use."""
    if args.window < 1:
        raise BadRequest(f"--window must be at least 1 asset, not {args.window}")
    survey = surveyed(args.assets)
    features = feature_names(",".join(args.features_wanted))
    for line in survey.notes() if not args.quiet else ():
        note(f"amber: {line}")
    if not args.quiet:
        many = "the assets" if survey.total is None else f"{survey.total:,} assets"
        note(f"{', '.join(features)} of {many}")
    skip = args.skip_unsuitable
    tally = CatalogueProgressBar(survey.total, shown=not args.quiet, skip_unsuitable=skip)
    failures = FailureFile(
        args.failures or DEFAULT_FAILURES, always=args.failures is not None, skip_unsuitable=skip
    )
    notes = Notes()

    def told(results: Results) -> None:
        failures.add(results)
        notes.add(results)
        tally.add(results)

    try:
        with client_of(args, survey=survey) as client, tally:
            client.sweep(
                features,
                assets(args.assets),
                told,
                params=params_of(client, args.param),
                timeout=args.timeout,
                priority=args.priority,
                tenant=args.tenant,
                window=args.window,
            )
    except KeyboardInterrupt:
        failures.close()
        note(f"amber: interrupted after {tally.done()}; the same command goes on from there")
        return INTERRUPTED
    except AmberError:
        failures.close()
        if tally.assets:
            note(f"amber: stopped after {tally.done()}; the same command goes on from there")
        raise
    failures.close()
    failures.show()
    if not args.quiet:
        notes.show()
    computed = tally.ready - tally.cached
    left_out = f", {tally.unsuitable:,} left out: their assets are of a kind that can't have the feature"
    say(
        f"{tally.ready:,} values: {computed:,} computed, {tally.cached:,} were there; "
        f"{tally.failed:,} failed{left_out if skip and tally.unsuitable else ''}"
    )
    if tally.unsuitable and not skip and not args.quiet:
        note(
            f"amber: {tally.unsuitable:,} of these failed since their assets are of a kind that can't have "
            "the feature; --skip-unsuitable leaves such out"
        )
    return 1 if tally.failed or survey.refused else 0
