"""`python -m tests.simulation.mutate`: break a copy of the code on purpose, and see it noticed.

Works on a copy in a temporary folder, never on the working tree.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.simulation.mutations import MUTATIONS, QUICK, Mutation

ROOT = Path(__file__).parents[2]
SECONDS = 300.0


def attempt(mutation: Mutation, folder: Path, seeds: int, jobs: int) -> str:
    """What noticed the mutation: the seed or the kept world, and the promise, or the unit test; else empty.

    Raises `ValueError` if its old text is not there exactly once.
    """
    shutil.copytree(
        ROOT / "amber_ray", folder / "amber_ray", ignore=shutil.ignore_patterns("__pycache__", "*.mp4")
    )
    (folder / "tests").mkdir()
    shutil.copytree(
        ROOT / "tests/simulation", folder / "tests/simulation", ignore=shutil.ignore_patterns("__pycache__")
    )
    needed = [ROOT / "tests/core_kit.py"]
    if mutation.tests:  # and what they are made with
        at = ROOT / mutation.tests
        needed = [at, *at.parent.glob("kit.py"), *ROOT.glob("tests/*.py")]
    for file in needed:
        copied = folder / file.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copied)
    file = folder / "amber_ray" / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(
            f"{mutation.name!r}: {mutation.file} has its old text {text.count(mutation.old)} times, not once"
        )
    file.write_text(text.replace(mutation.old, mutation.new))
    if mutation.tests:
        return _by_unit_tests(mutation, folder)
    kind = ("--demands",) if mutation.demands else ()
    run = _run(folder, "tests.simulation", "--first", "--seeds", str(seeds), "--jobs", str(jobs), *kind)
    found = re.search(r"^((?:seed|world) \S+) failed after: (.*)$", run.stdout, re.MULTILINE)
    if run.returncode != 0 and found is None:
        raise ValueError(f"{mutation.name!r}: the simulation could not run: {run.stderr[-2000:]}")
    if found is None:
        return ""
    events = re.search(r"(\d+) events in", run.stdout)
    told = re.sub(r"[0-9a-f]{32}", "KEY", found[2])
    return f"{found[1]}{f', within {events[1]} events' if events else ''}: {told[:90]}"


def _by_unit_tests(mutation: Mutation, folder: Path) -> str:
    run = _run(folder, "pytest", "-q", "-x", "-p", "no:cacheprovider", mutation.tests)
    found = re.search(r"^FAILED \S+::(\w+)", run.stdout, re.MULTILINE)
    if run.returncode != 0 and found is None:
        raise ValueError(f"{mutation.name!r}: {mutation.tests} could not run: {run.stdout[-2000:]}")
    return f"{found[1]} fails" if found else ""


def _run(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def run_all(mutations: Sequence[Mutation], seeds: int, jobs: int = 1) -> int:
    """Try each and print a table; 1 if any survives."""
    survived = 0
    for mutation in mutations:
        with tempfile.TemporaryDirectory() as folder:
            told = attempt(mutation, Path(folder), seeds, jobs)
        survived += not told
        print(f"{mutation.name:50} {told or 'SURVIVED'}", flush=True)
    print(f"{len(mutations) - survived} of {len(mutations)} mutations were caught")
    return 1 if survived else 0


def main() -> int:
    """Exit status 1 if a mutation survives or can't be applied."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="worlds for each, at most")
    parser.add_argument("--quick", action="store_true", help="only a few")
    parser.add_argument("--only", default="", metavar="WORDS", help="those with these words in name or file")
    arguments = parser.parse_args()
    chosen = [
        m
        for m in MUTATIONS
        if (m.name in QUICK or not arguments.quick) and arguments.only in f"{m.name} {m.file}"
    ]
    try:
        return run_all(chosen, arguments.seeds)
    except ValueError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
