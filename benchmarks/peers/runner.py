"""One peer in one phase, in a process of its own: get ready, wait for the gate, ask, say how long it took."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from amber_ray.core.model.units import Asset, Stream
from benchmarks.peers import graph

GATE_SECONDS = 120.0


def main(arguments: Sequence[str]) -> int:
    """Arguments: the peer, the work folder, a file of assets, this process's ready file, the gate file."""
    peer, folder, listing, ready, gate = arguments
    assets = [_asset(one) for one in json.loads(Path(listing).read_text())]
    ask = importlib.import_module(f"benchmarks.peers.{peer}_peer").prepare(Path(folder))
    Path(ready).touch()
    until = time.monotonic() + GATE_SECONDS
    while not Path(gate).exists():
        if time.monotonic() > until:
            raise TimeoutError("the gate was never opened")
        time.sleep(0.002)
    started = time.perf_counter()
    made = ask(assets)
    seconds = time.perf_counter() - started
    if len(made) != len(assets):
        raise RuntimeError(f"{len(made)} clips were answered, not {len(assets)}")
    print(json.dumps({"seconds": seconds, "ended": time.time(), "values": digest(made)}), flush=True)
    return 0


def digest(made: Sequence[dict[str, Any]]) -> str:
    """Of all values: every peer must have the same."""
    state = hashlib.blake2b(digest_size=8)
    for clip in made:
        for name in graph.NAMES:
            value = clip[name]
            state.update(value if isinstance(value, bytes) else np.ascontiguousarray(value).tobytes())
    return state.hexdigest()


def _asset(told: dict[str, Any]) -> Asset:
    return Asset(**{**told, "streams": tuple(Stream(**stream) for stream in told["streams"])})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
