"""Every built-in feature over the files of a folder, to send along with a report: `make hunt FILES=folder`.

For each file: what it is, which features have no value and why, and which took long. Each file has its time
(`--seconds`), and what it does to a worker (one that dies, a step without end) is told as any failure.
With `--hide` files are called by numbers, in the failures' texts too.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import amber_ray
from amber_ray.cli.catalogue import assets, surveyed
from amber_ray.client.results import Results
from amber_ray.core.declare.registry import Registry
from amber_ray.errors import AmberError, Unsuitable
from amber_ray.features import BUILTINS

LONG = 3
"""The slowest features that are told of, for each file."""


@dataclass
class Found:
    """One file: `seconds` until all was answered, the features that failed by reason, seconds by feature.

    `unsuitable` is how many features need what such a file has not, as sound or pictures.
    """

    name: str
    is_a: str = ""
    seconds: float = 0.0
    values: int = 0
    unsuitable: int = 0
    failed: dict[str, list[str]] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The file in one line of a table."""
        told = "; ".join(f"{', '.join(features)}: {why}" for why, features in self.failed.items())
        slow = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.slow.items())
        head = f"{self.name:40}  {self.is_a:44}  {self.values:3} values  {self.seconds:6.1f} s"
        return "  ".join(part for part in (head, slow, told) if part)


def features() -> list[str]:
    """The built-in features that are of one asset and are kept."""
    return [s.name for s in Registry.from_modules(BUILTINS) if s.store != "never" and s.per != "collection"]


def hunted(client: amber_ray.Client, paths: Sequence[str], seconds: float, hide: bool) -> Iterator[Found]:
    """Ask for everything of one file after the other."""
    for number, path in enumerate(paths, start=1):
        name = Path(path).name
        shown = f"file-{number}{Path(path).suffix}" if hide else name
        began = time.monotonic()
        table = client.get_many(features(), [path], timeout=seconds, progress=False, values=False)
        found = look(table, shown)
        try:
            found.is_a = described(client.asset(path))
        except AmberError:
            pass  # Refused: the table says so, and why.
        found.seconds = round(time.monotonic() - began, 2)
        if hide:
            found.failed = {
                why.replace(path, shown).replace(name, shown): which for why, which in found.failed.items()
            }
        yield found


def look(results: Results, name: str) -> Found:
    """What the answers for one file come to."""
    found = Found(name)
    why: dict[str, set[str]] = collections.defaultdict(set)
    took: dict[str, float] = collections.defaultdict(float)
    for row in results.rows:
        if row.failure is not None and row.failure.type == Unsuitable.__name__:
            found.unsuitable += 1
        elif row.failure is not None:
            why[f"{row.failure.type}: {row.failure.message}"].add(row.feature)
        else:
            found.values += 1
            took[row.feature] += row.seconds or 0.0
    found.failed = {reason: sorted(which) for reason, which in why.items()}
    slowest = sorted(took, key=lambda feature: -took[feature])[:LONG]
    found.slow = {feature: round(took[feature], 2) for feature in slowest}
    return found


def described(asset: amber_ray.Asset) -> str:
    """An asset in a few words."""
    film, sound = asset.stream("video"), asset.stream("audio")
    size = "{}x{}".format(*film.displayed) if film and film.displayed else ""
    codecs = "+".join(s.codec for s in (film, sound) if s)
    length = "" if asset.duration is None else f"{asset.duration:.2f} s"
    return " ".join(part for part in (asset.media_type, codecs, size, length) if part)


def main(words: Sequence[str] | None = None) -> int:
    """Print a line for each file as it is done, and write the same as JSON. 1 if anything has no value."""
    parser = argparse.ArgumentParser(prog="make hunt", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILES", help="files, folders, patterns")
    parser.add_argument("--seconds", type=float, default=120.0, help="for each file, at most (120)")
    parser.add_argument("--json", default="hunt.json", help="where to write the same as JSON (hunt.json)")
    parser.add_argument("--hide", action="store_true", help="call files by numbers")
    args = parser.parse_args(words)
    survey = surveyed(args.files)
    for line in survey.notes():
        print(line, file=sys.stderr)
    paths = [str(Path(path).resolve()) for path in assets(args.files, ordered=True)]
    done: list[Found] = []
    with tempfile.TemporaryDirectory() as store:
        roots = sorted({str(Path(path).parent) for path in paths})
        with amber_ray.connect(store=store, media_roots=roots) as client:
            for found in hunted(client, paths, args.seconds, args.hide):
                done.append(found)
                print(found.line, flush=True)
    Path(args.json).write_text(json.dumps([asdict(found) for found in done], indent=1))
    print(f"{len(done)} files; the same in {args.json}")
    return 1 if any(found.failed for found in done) else 0


if __name__ == "__main__":
    sys.exit(main())
