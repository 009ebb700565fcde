"""The command `amber`: one sentence for each error, and an exit status that scripts can act on.

    0    all is well
    1    some results failed, or `check` found changed code
    2    what was asked for can't be: usage, names, paths, parameters
    3    nobody answers, or a port, store or resource can't be had
    70   a bug: something raised that should not have (`--debug` shows where)
    130  interrupted

Starting it is cheap: a subcommand's own imports happen when it runs.
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
        args = parser.parse_args(argv)
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
        _say(str(error))
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
