"""Amber beside Pixeltable, Hamilton, joblib, Daft and Ray Data (`make bench-peers`): PEERS.md and a picture.

Five phases, each in new processes: all is new; all is known; one function's code has changed; one clip has
come; eight processes ask for the same new clip at once. Clocks run from the question to the last value, when
everything is imported, connected and up. How often functions ran is counted by the functions themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.picture import picture
from benchmarks.session import ROOT, Session, opened

PEERS = ("amber", "pixeltable", "hamilton", "joblib", "daft", "ray_data")
PHASES = ("all new", "all known", "code changed", "clip added", "8 at once")
CALLERS = 8
SECONDS = 300.0
WARMING = 6
"""Clips that are asked for before the clock runs, so that both of Amber's workers are up like the peers'."""
LEAF = """from benchmarks.peers.graph import spread_of


def spread(colour: object) -> float:
    return spread_of(colour, {rounds})
"""
AMBER_LEAF = """import numpy as np

from amber_ray import feature
from benchmarks.peers.graph import spread_of


@feature
def peer_spread(peer_colour: list[np.ndarray]) -> float:
    return spread_of(peer_colour[0], {rounds})
"""
PIXELTABLE_LEAF = """import pickle

import pixeltable as pxt

from benchmarks.peers.graph import spread_of

STATE = {rounds}


@pxt.udf
def spread(looks: bytes) -> float:
    return spread_of(pickle.loads(looks)["colour"], {rounds})
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """One peer in one phase; `why` says what went wrong, if anything did."""

    seconds: float = 0.0
    runs: int = 0
    values: str = ""
    why: str = ""


def measure(peer: str, folder: Path, clips: Sequence[dict[str, Any]], ray_address: str) -> list[Outcome]:
    """All phases of a peer; after one that fails, the others are not tried."""
    known, new, last = clips[:-2], clips[:-1], clips[-1:]
    outcomes: list[Outcome] = []
    for number, phase in enumerate(PHASES):
        write_leaves(folder, 20 if number < 2 else 21)
        assets = known if number < 3 else new if number == 3 else last
        counts = Path(os.environ["PEERS_COUNTS"])
        for old in counts.iterdir():
            old.unlink()
        try:
            told = ask(peer, folder / phase, assets, CALLERS if number == 4 else 1, ray_address)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            outcomes.append(Outcome(why=str(error)))
            break
        runs = Counter({file.name: len(file.read_text().splitlines()) for file in counts.iterdir()})
        values = {one["values"] for one in told}
        if len(values) != 1:
            outcomes.append(Outcome(why="its callers got different values"))
            break
        outcomes.append(Outcome(max(one["seconds"] for one in told), runs.total(), values.pop()))
        print(f"{peer:<12} {phase:<14} {outcomes[-1].seconds:8.3f} s {outcomes[-1].runs:6} runs", flush=True)
    return outcomes


def ask(
    peer: str, phase: Path, assets: Sequence[dict[str, Any]], callers: int, ray_address: str
) -> list[dict[str, Any]]:
    """Some new processes, all ready before the gate opens. Raises `RuntimeError` with a peer's last words."""
    folder, listing, gate = phase.parent, phase.with_suffix(".json"), phase.with_suffix(".gate")
    listing.write_text(json.dumps(assets))
    environment = {
        **os.environ,
        "PEERS_RAY": ray_address,
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    readies = [phase.with_suffix(f".ready-{i}") for i in range(callers)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.runner", peer, folder, listing, ready, gate],
            env=environment,
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for ready in readies
    ]
    try:
        until = time.monotonic() + SECONDS
        while not all(ready.exists() for ready in readies):
            if time.monotonic() > until or any(p.poll() not in (None, 0) for p in processes):
                break
            time.sleep(0.01)
        gate.touch()
        told = []
        for process in processes:
            out, err = process.communicate(timeout=SECONDS)
            if process.returncode:
                raise RuntimeError((err.strip() or out.strip() or "it said nothing").splitlines()[-1][:300])
            told.append(json.loads(out.splitlines()[-1]))
        return told
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)


@contextlib.contextmanager
def served(folder: Path, clips: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Amber runs, as behind `amber serve`: its workers are up, and belong to a program that stays."""
    from benchmarks.peers import amber_peer, graph

    with amber_peer.joined(folder) as client:
        client.get_many(
            [f"peer_{name}" for name in graph.NAMES], [clip["uri"] for clip in clips], progress=False
        )
        yield


def write_leaves(folder: Path, rounds: int) -> None:
    """The user's own function, in one of its states."""
    # Python takes what it compiled before for the file's own if the length and the second are the same.
    at = time.time() + 10 * rounds
    for name, text in (
        ("leaf", LEAF),
        ("hamilton_leaf", LEAF),
        ("amber_leaf", AMBER_LEAF),
        ("pixeltable_leaf", PIXELTABLE_LEAF),
    ):
        path = folder / f"{name}.py"
        path.write_text(text.format(rounds=rounds))
        os.utime(path, (at, at))


def page(outcomes: dict[str, list[Outcome]], count: int, clip_seconds: int, small: bool) -> str:
    """PEERS.md."""
    lines = [
        "# Amber beside its peers",
        "",
        "The same functions (frames, four looks at them, a thumbnail, and a user's own `spread` over",
        f"the colours) of {count} clips of {clip_seconds} s, run by each library in its own documented",
        "form: `benchmarks/peers/`. The embedding is left out: batching a model is a benchmark of its",
        "own. Each phase is asked by new processes, and the clock runs from the question to the last",
        "value, with everything imported, connected and up. *Runs* are calls of the functions, counted",
        "by themselves; all peers must give the same values.",
        "",
        f"{datetime.date.today().isoformat()}, one machine with {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, {versions()}."
        + (" A small run: it shows that everything works and measures little." if small else ""),
        "",
        "| peer | " + " | ".join(f"{phase}, s | runs" for phase in PHASES) + " |",
        "|---|" + "---:|---:|" * len(PHASES),
    ]
    notes = []
    for peer, rows in outcomes.items():
        cells = []
        for i in range(len(PHASES)):
            one = rows[i] if i < len(rows) else None
            cells.append("- | -" if one is None or one.why else f"{one.seconds:.3f} | {one.runs}")
        lines.append(f"| {peer.replace('_', ' ')} | " + " | ".join(cells) + " |")
        notes += [f"- {peer.replace('_', ' ')} did not get further: {one.why}" for one in rows if one.why]
    lines += ["", *notes, *([""] if notes else [])]
    lines += [
        "What to read it with: Daft and Ray Data keep nothing between processes, so they run all again.",
        "joblib and Hamilton find a clip by what they are given, which here is its digest and path:",
        "looking at the files is spared them, and Amber does it. Hamilton keeps the frames too.",
        "Pixeltable's rows are shared by all processes, and its column is made anew for all rows when",
        "its code changes. Amber runs beside its callers, as behind `amber serve`.",
    ]
    return "\n".join(lines) + "\n"


def versions() -> str:
    """Of all that took part."""
    found = []
    for name in ("ray", "pixeltable", "sf-hamilton", "joblib", "daft"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 if peers disagree about the values, or Amber did not get through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", nargs="*", default=PEERS, choices=PEERS)
    parser.add_argument("--small", action="store_true", help="three short clips: shows that it works")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/PEERS.md")
    parser.add_argument("--chart", type=Path, default=ROOT / "docs/peers.svg")
    parser.add_argument("--folder", type=Path, help="where to work")
    given = parser.parse_args(arguments)
    count = 3 if given.small else 20
    work = Path(tempfile.mkdtemp(prefix="amber-peers-", dir=given.folder))
    (work / "counts").mkdir()
    os.environ["PEERS_COUNTS"] = str(work / "counts")  # before Ray starts: its workers inherit it
    outcomes: dict[str, list[Outcome]] = {}
    try:
        with opened(argparse.Namespace(address=None, port=None, folder=work, small=given.small)) as session:
            clips = listed(session, work, count + 2 + WARMING)
            import ray

            address = ray.get_runtime_context().gcs_address
            os.environ["PEERS_RAY"] = address
            for peer in given.peers:
                (work / peer).mkdir()
                write_leaves(work / peer, 20)
                with served(work / peer, clips[-WARMING:]) if peer == "amber" else contextlib.nullcontext():
                    outcomes[peer] = measure(peer, work / peer, clips[:-WARMING], address)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    from benchmarks import catalogue

    given.output.write_text(page(outcomes, count, catalogue.SECONDS, given.small))
    given.chart.write_text(
        picture({p: [o.seconds for o in rows if not o.why] for p, rows in outcomes.items()}, PHASES)
    )
    print(f"wrote {given.output} and {given.chart}")
    agreed = all(
        len({rows[i].values for rows in outcomes.values() if len(rows) > i and not rows[i].why}) <= 1
        for i in range(len(PHASES))
    )
    if not agreed:
        told = {peer: [one.values for one in rows] for peer, rows in outcomes.items()}
        print(f"the peers disagree about the values: {told}", file=sys.stderr)
    return 0 if agreed and all(not o.why for o in outcomes.get("amber", [])) else 1


def listed(session: Session, work: Path, count: int) -> list[dict[str, Any]]:
    """The clips, looked at once, where every peer may read them."""
    from amber_ray.media.catalogue import Catalogue
    from amber_ray.media.locate import Locator
    from benchmarks import catalogue

    place = work / "clips"
    place.mkdir()
    known = Catalogue(str(work / "catalogue"), Locator([str(place)]))
    found = []
    for number in range(count):
        path = place / f"{number:03}.mp4"
        catalogue.clip(session, number).rename(path)
        found.append(dataclasses.asdict(known.add(str(path))))
    return found


if __name__ == "__main__":
    raise SystemExit(main())
