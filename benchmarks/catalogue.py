"""A small catalogue of clips: all of it new, all of it known, one feature changed, one clip added."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import catalogue_by_hand as by_hand
from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

if TYPE_CHECKING:
    from amber_ray.client.results import Results
    from amber_ray.client.sync import Client

SECONDS = 4
RATE = 24
ROUNDS = 40
"""How much work `spread` is: some tens of milliseconds a clip."""

KIT = '''"""A feature over `colour` that a user is working on: the benchmark changes ROUNDS."""

import numpy as np

from amber_ray import feature
from benchmarks.catalogue import spread_of

ROUNDS = {rounds}


@feature
def spread(colour: list[np.ndarray]) -> float:
    """How far the colours of a clip are apart."""
    return spread_of(np.concatenate([c.ravel() for c in colour]), ROUNDS)
'''

AGAIN = """
import json, sys, time
import amber_ray
from amber_ray.settings import Settings

given = json.loads(sys.argv[1])
settings = Settings(**given["settings"])
with amber_ray.connect(given["address"], settings=settings, store=settings.store) as client:
    started = time.perf_counter()
    table = client.get_many(given["features"], given["paths"], progress=False)
    count = len([row.value for row in table.rows])
    print(json.dumps([time.perf_counter() - started, count, all(row.cached for row in table.rows)]))
"""


def spread_of(colour: np.ndarray, rounds: int) -> float:
    """Something to do: the mean distance between a clip's colours, over shuffles."""
    numbers = np.asarray(colour, np.float64).ravel()
    rng = np.random.default_rng(0)
    total = 0.0
    for _ in range(rounds):
        total += float(np.abs(np.sort(rng.permutation(np.resize(numbers, 10_000))) - numbers.mean()).mean())
    return total / rounds


def run(session: Session) -> list[Measured]:
    """One Amber and one script, each in its turn."""
    count, rounds = session.size((50, 3), (3, 1))
    paths = [clip(session, i) for i in range(count + 1)]
    others = [clip(session, i, "other") for i in range(session.size(8, 1))]
    first, second = (kit(session, rounds) for rounds in (ROUNDS, ROUNDS + 1))
    settings = session.settings(builtins=True, features=("benchmarks.features", str(first)))
    names = list(by_hand.FEATURES)
    script = session.folder / "by_hand.parquet"
    with session.client(settings) as client, by_hand.pool() as processes:
        assets = [client.asset(path) for path in paths]
        # Models and workers are up on both sides: enough to do that each of Amber's two actors gets some.
        client.get_many(names, [session.video, *others], progress=False)
        by_hand.run(processes, [client.asset(path) for path in others], session.folder / "other.parquet")
        found: list[Any] = [None, None]

        def ours() -> float:
            for name in names:
                client.purge(feature=name)
            return seconds(lambda: found.__setitem__(0, ask(client, names, paths[:count])))

        def peer() -> float:
            return seconds(lambda: found.__setitem__(1, by_hand.run(processes, assets[:count], script)))

        cold = paired(ours, peer, rounds, warm=False)
        compare(found[0], found[1], names, paths[:count])
        warm = paired(
            lambda: again(session, settings, names, paths[:count]),
            lambda: read_again(script, count),
            rounds,
            warm=False,
        )
        ask(client, ["spread"], paths[:count])
        with session.joined(settings.replace(features=("benchmarks.features", str(second)))) as other:
            other.get_many(["noop_leaf"], [session.video], progress=False)
            changed = (
                seconds(lambda: ask(other, ["spread"], paths[:count])),
                seconds(lambda: by_hand.spread(processes, script, session.folder / "spread", ROUNDS + 1)),
            )
        expected = sum(step.seconds or 0.0 for step in client.explain(names, paths[-1:]) if step.target)
        added = (
            seconds(lambda: found.__setitem__(0, ask(client, names, paths))),
            seconds(lambda: by_hand.run(processes, assets[-1:], session.folder / "one.parquet")),
        )
        taken = sum(row.seconds or 0.0 for row in found[0].rows if not row.cached)
    clips = f"{count} clips of {SECONDS} s"
    return [
        Measured(
            "catalogue: cold",
            f"{', '.join(names)} of {clips}, nothing known, workers up, median of {rounds}",
            "a script with two processes that decodes each clip once, batches the model and writes one file",
            *cold,
            "s",
            1 / 0.95,
        ),
        Measured(
            "catalogue: warm",
            f"these {len(names) * count} values, asked for by a new process, connected, median of {rounds}",
            "a new process that reads the same values from that one Parquet file",
            *warm,
            "s",
            2.0,
        ),
        Measured(
            "catalogue: code changed",
            f"a feature over colour whose code has changed, of {clips}: nothing else runs",
            "the script's two processes, told to do only that from the file's colours",
            *changed,
            "s",
            1.2,
        ),
        Measured(
            "catalogue: clip added",
            f"the six features of {count + 1} clips of which one is new",
            "the script, told to do only the new clip",
            *added,
            "s",
            1.2,
        ),
        Measured(
            "expected seconds",
            "what `explain` expected the new clip's features to take",
            "what they took",
            expected,
            taken,
            "s",
            1.5,
        ),
    ]


def ask(client: Client, names: Sequence[str], paths: Sequence[Path]) -> Results:
    """All values; the first failure is raised when it is read."""
    return client.get_many(names, paths, progress=False)


def compare(
    ours: Results, peers: Sequence[by_hand.Values], names: Sequence[str], paths: Sequence[Path]
) -> None:
    """The two have the same values; those of the model to the rounding of another batch."""
    for path, values in zip(paths, peers, strict=True):
        for name in names:
            mine = ours[name, path]
            if name == "thumbnail":
                if bytes(mine) != values[name]:
                    raise RuntimeError(f"the thumbnails of {path.name} differ")
                continue
            (mine,) = mine
            np.testing.assert_allclose(mine, values[name], rtol=1e-3, atol=1e-3 if name == "embedding" else 0)


def again(session: Session, settings: Any, names: Sequence[str], paths: Sequence[Path]) -> float:
    """A new process in the same cluster: the time from its question to the last value."""
    import ray

    given = {
        "address": ray.get_runtime_context().gcs_address,
        "settings": {
            name: getattr(settings, name)
            for name in ("namespace", "store", "media_roots", "features", "builtins")
        },
        "features": names,
        "paths": [str(path) for path in paths],
    }
    took, count, cached = json.loads(program(AGAIN, json.dumps(given)))
    if count != len(names) * len(paths) or not cached:
        raise RuntimeError(f"{count} values, not {len(names) * len(paths)}, or some were computed again")
    return float(took)


def read_again(script: Path, count: int) -> float:
    """The peer: the time from opening the file to the last value, in a process that has imported all."""
    code = (
        "import sys, time\nfrom pathlib import Path\nimport pyarrow.dataset\n"
        "from benchmarks import catalogue_by_hand as by_hand\n"
        "started = time.perf_counter()\nn = by_hand.read(Path(sys.argv[1]))\n"
        "print(time.perf_counter() - started, n)"
    )
    took, values = program(code, str(script)).split()
    if int(values) != count * len(by_hand.FEATURES):
        raise RuntimeError(f"the script's file has {values} values")
    return float(took)


def program(code: str, argument: str) -> str:
    """The last line that a Python program prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, argument], capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout.splitlines()[-1]


def kit(session: Session, rounds: int) -> Path:
    """One state of the user's module."""
    folder = session.folder / f"state-{rounds}"
    folder.mkdir()
    path = folder / "catalogue_kit.py"
    path.write_text(KIT.format(rounds=rounds))
    return path


def clip(session: Session, number: int, name: str = "clip") -> Path:
    """Some seconds of the film that ships with the package, half the size, each clip from another place."""
    import av

    path = session.folder / f"{name}-{number:03}.mp4"
    start = number * 26 / 51 + (0.2 if name != "clip" else 0.0)
    with av.open(str(session.video)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        film = source.streams.video[0]
        source.seek(round(start / film.time_base), stream=film)
        made = 0
        for picture in source.decode(film):
            if picture.time is None or picture.time < start:
                continue
            smaller = picture.reformat(320, 180, "yuv420p")
            smaller.pts, smaller.time_base = made, Fraction(1, RATE)
            output.mux(stream.encode(smaller))
            made += 1
            if made == SECONDS * RATE:
                break
        output.mux(stream.encode())
    return path


if __name__ == "__main__":
    raise SystemExit(main(run))
