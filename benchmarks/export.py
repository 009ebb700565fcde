"""Many small values exported through a server, against the same export by a program inside the cluster."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

FEATURE = "weight"


def run(session: Session) -> list[Measured]:
    """`amber export` both ways in turn, of values that are stored."""
    import amber_ray

    count, rounds = session.size((10_000, 3), (200, 1))
    folder = session.folder / "pictures"
    make(folder, count)
    # An Amber of this name is the one that `--server auto` finds, without HTTP.
    with session.server(namespace="amber") as served, amber_ray.connect(served.amber) as client:
        client.sweep(FEATURE, sorted(folder.iterdir()), lambda _: None)
        measured = paired(
            lambda: seconds(lambda: export(session, folder, served.amber, count)),
            lambda: seconds(lambda: export(session, folder, "auto", count)),
            rounds,
        )
    shutil.rmtree(folder)
    return [
        Measured(
            "export: with a server",
            f"amber export --server URL of {count:,} small values, one of each picture",
            "amber export of the same with an engine in its own process, on a cluster that is up",
            *measured,
            "s",
            1.5,
        )
    ]


def make(folder: Path, count: int) -> None:
    """So many small pictures, no two the same."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{i:06}.png")


def export(session: Session, folder: Path, server: str, count: int) -> None:
    """One export, which must be whole."""
    from amber_ray.cli import main as amber

    out = session.folder / "set"
    with contextlib.redirect_stdout(io.StringIO()) as told:
        status = amber(
            ["export", FEATURE, "--assets", str(folder), "--out", str(out), "--server", server, "-q"]
        )
    if status != 0 or f"{count:,} values" not in told.getvalue():
        raise RuntimeError(f"amber export ended with {status}: {told.getvalue()}")
    shutil.rmtree(out)


if __name__ == "__main__":
    raise SystemExit(main(run))
