"""Units that a feature found: what they cost beside a grid's, and how that grows with their number.

The windows are never the grid's, so no key is shared with the peer's. And a window has the same key whoever
found it: so that nothing is known of its value, the feature has another salt each time, as the finder has.
"""

from __future__ import annotations

import itertools
import os
import time
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

EACH = 10
"""Windows of each asset of the catalogue."""


def run(session: Session) -> list[Measured]:
    """A catalogue of found units against the grid's; then one asset with ever more of them."""
    return [catalogue(session), one_asset(session)]


def catalogue(session: Session) -> Measured:
    """Ten found units of each asset, cold, against ten segments of the grid."""
    count, rounds = session.size((1000, 5), (20, 1))
    paths = sounds(session.folder / "tenths", count, float(EACH))
    salts = itertools.count(1)
    with session.client(segment_seconds=1.0) as client:
        for path in paths:
            client.asset(path)  # looked at once, before the clock runs

        def ask(feature: str, *salted: str) -> float:
            def cold() -> None:
                params = dict.fromkeys((f"{name}.salt" for name in (feature, *salted)), next(salts))
                table = client.get_many([feature], paths, params=params, progress=False)
                check([row.value for row in table.rows], EACH * count)

            return seconds(cold)

        ask("noop_found", "windows")  # until then nothing is known of what they cost
        ask("noop_segment")
        measured = paired(
            lambda: ask("noop_found", "windows"),
            lambda: ask("noop_segment"),
            rounds,
            warm=False,
        )
    return Measured(
        "found units: a catalogue",
        f"a feature that does nothing of {EACH} windows that another feature finds in each of {count} assets",
        f"the same of {EACH} segments of the grid",
        *measured,
        "s",
        1.3,
    )


def one_asset(session: Session) -> Measured:
    """One asset with ever more units: the time of each, and how long the actor hears nobody meanwhile."""
    import ray

    counts, rounds = session.size(((1000, 10_000, 100_000), 3), ((10, 30, 100), 1))
    path = sounds(session.folder / "long", 1, 1.0 + counts[-1] / 1000)[0]
    settings = session.settings(segment_seconds=3600.0)
    salts = itertools.count(1)
    over = session.folder / "over"
    taken = {}
    with session.client(settings) as client:
        client.asset(path)
        silent = ray.remote(num_cpus=0)(longest_silence).remote(settings.namespace, str(over))
        for count in counts:

            def cold(count: int = count) -> None:
                salt = next(salts)
                params = {"windows.count": count, "windows.salt": salt, "noop_found.salt": salt}
                check(client.get("noop_found", path, params=params), count)

            cold()
            taken[count] = min(seconds(cold) for _ in range(rounds))
        over.touch()
        silence = ray.get(silent, timeout=120)
    each = {count: time_taken / count for count, time_taken in taken.items()}
    said = ", ".join(f"{count:,}: {taken[count]:.3g} s" for count in counts)
    return Measured(
        "found units: growth",
        f"time for each of {counts[-1]:,} units that are found in one asset and do nothing ({said}; "
        f"the cache actor let nobody wait for longer than {silence:.2g} s)",
        f"the same of {counts[-2]:,} units",
        each[counts[-1]],
        each[counts[-2]],
        "s",
        1.2,
    )


def longest_silence(namespace: str, over: str) -> float:
    """Ask the first cache actor of an Amber for its number until a file is there; return the longest wait."""
    import ray

    from amber_ray.fabric.transport.names import shard_name

    actor = ray.get_actor(shard_name(0), namespace=namespace)
    longest = 0.0
    while not os.path.exists(over):
        began = time.perf_counter()
        ray.get(actor.pid.remote(), timeout=60)
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.01)
    return longest


def sounds(folder: Path, count: int, length: float) -> list[Path]:
    """Recordings of `length` seconds, no two alike: 8 bits, 1,000 samples a second."""
    folder.mkdir()
    paths = [folder / f"{i:05}.wav" for i in range(count)]
    for i, path in enumerate(paths):
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(1)
            file.setframerate(1000)
            samples = np.full(round(length * 1000), 128, np.uint8)
            samples[: 8 * 8] = np.unpackbits(np.array([i], ">u8").view(np.uint8))
            file.writeframes(samples.tobytes())
    return paths


def check(found: Sequence[object], expected: int) -> None:
    """Every unit has its value."""
    if len(found) != expected or any(value != 0 for value in found):
        raise RuntimeError(f"{len(found)} values, not {expected} times 0")


if __name__ == "__main__":
    raise SystemExit(main(run))
