"""The command `amber`: one sentence for each error, and an exit status that scripts can act on.

    0    all is well
    1    some results failed, or `check` found changed code
    2    what was asked for can't be: usage, names, paths, parameters
    3    nobody answers, or a port, store or resource can't be had
    70   a bug: something raised that should not have (`--debug` shows where)
    130  interrupted

Starting it is cheap: a subcommand's own imports happen when it runs.

    parser        the words of the command line; names the function for each subcommand
    options       from those words to settings, clients and parameters; reads the environment

    The subcommands:
    serve         a server: Ray, cache actors, HTTP
    deploy        a server on a Ray that runs already: `serve deploy`, which notices changed code
    demo          a server and all built-in features on two clips, twice
    get           features of assets: computed where needed, shown or written to files
    backfill      features of a whole catalogue
    keep          demands: features kept true for everything under prefixes
    export        a training set: Parquet files, and what is missing from it
    look          `features`, `explain`, `status` and `failures`: what computes nothing
    deliveries    callbacks of requests and demands, and sending one again
    known         `assets`, `requests`, `lineage` and `audit`: what is known of media, requests, values
    graph         the graph of features, drawn
    store         `purge` and `check`
    versions      `stale` and `prune`: versions in the store that the code does not make
    diff          the values of two versions, compared
    token         the API tokens of a store: made, listed, revoked

    What they share:
    catalogue     from paths, folders, patterns and buckets to assets, one by one
    registered    the features that a command speaks of: a server's, or those of the given modules
    values        answers as JSON and as Arrow tables
    files         `--out`: each value as a file of its own form
    subtitles     `--format vtt` and `srt`: what is said from a time to a time, as subtitles
    summary       one value in a few words, for a cell of a table
    overview      the demo's picture of a clip: lanes of its values along one axis of time
    terminal      stdout, stderr and tables
    progress      the progress of a run over a catalogue
    failed        the failures of a backfill, in a Parquet file
    notes         what features do not see of the assets asked about

    Of an export:
    shards        the values of one feature, as Parquet files of bounded size
    coverage      how much of what was asked for is there, by feature and asset
    manifest      `manifest.json`: versions, code and parameters of its values
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from amber_ray import errors
from amber_ray.cli.parser import build
from amber_ray.errors import AmberError

__all__ = ["main"]

FAILED, USAGE, UNAVAILABLE, BUG, INTERRUPTED = 1, 2, 3, 70, 130

_UNAVAILABLE = (
    errors.Unavailable,
    errors.StoreError,
    errors.SystemFault,
    errors.Overloaded,
    errors.Expired,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return its exit status."""
    parser = build()
    try:
        args = parser.read(argv)
    except SystemExit as stop:
        return int(stop.code or 0) if not isinstance(stop.code, str) else USAGE
    try:
        module, _, function = args.run.partition(":")
        status: int = getattr(import_module(f"amber_ray.cli.{module}"), function)(args)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; nothing more can be said, not even while the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except AmberError as error:
        if args.debug:
            raise
        own = isinstance(error, errors.UnknownFeature) and getattr(args, "features", None) == []
        hint = "; --features FILE registers your own" if own and not args.server else ""
        _say(f"{error}{hint}")
        return status_of(error)
    except OSError as error:
        if args.debug:
            raise
        name = f" {error.filename}" if error.filename else ""
        _say(f"can't use{name}: {error.strerror or error}")
        return USAGE
    except Exception as error:  # The last handler there is: a bug becomes a sentence.
        if args.debug:
            raise
        _say(f"unexpected {type(error).__name__}: {error} (--debug shows where; please report it)")
        return BUG


def status_of(error: AmberError) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, _UNAVAILABLE):
        return UNAVAILABLE
    return FAILED if isinstance(error, errors.FeatureError | errors.Cancelled) else USAGE


def _say(sentence: str) -> None:
    sys.stderr.write(f"amber: {sentence}\n")
