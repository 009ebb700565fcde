"""What a start costs when the store is full: the index of its keys, against pyarrow reading those columns."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
import tracemalloc
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from amber_ray.core.planning.homes import ALL, Share
from amber_ray.core.scheduler.costs import Means
from amber_ray.core.values.annotations import parse
from amber_ray.store import rows as rw
from amber_ray.store.key_index import KeyIndex
from amber_ray.store.known_keys import LEAST
from amber_ray.store.parquet import ValueStore
from amber_ray.store.part import share_of
from benchmarks.measure import Measured, actor_bytes, cpu_seconds, paired, seconds
from benchmarks.session import Session, free_port, main
from benchmarks.volume import pictures

ROWS = 10_000
"""Values per part."""
RAY_ALONE = """
import sys
from amber_ray.client import embedded
from amber_ray.settings import Settings
embedded.prepare()
embedded.launch(Settings(store=sys.argv[1]))
embedded.LocalRay().stop()
"""
SERVE_ALONE = """
import os, signal, sys, threading
from amber_ray.client import embedded
from amber_ray.serving import deployment, front
from amber_ray.settings import Settings
settings = Settings(store=sys.argv[1], port=int(sys.argv[2]), media_roots=(sys.argv[3],))
variables = deployment.environment(settings)
os.environ.update(variables)
embedded.prepare()
embedded.launch(settings)
from ray import serve
from benchmarks import empty_app
options = {"host": front.serve_host(settings), "port": settings.port}
serve.start(proxy_location="HeadOnly", http_options=options)
serve.run(empty_app.build(), name="empty", route_prefix="/")
deployment._await_answer(f"http://127.0.0.1:{settings.port}/", float("inf"))
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
print("ready", flush=True)
told.wait()
deployment.shutdown()
embedded.LocalRay().stop()
"""
SHARDS = 4
"""Of a store that several write."""
KEY_BYTES = 60
"""Memory that one key of the index may take, everything else that a start leaves behind included."""


def run(session: Session) -> list[Measured]:
    """Reads the whole store's keys twice over; no cluster is asked."""
    parts, rounds = session.size((1000, 5), (2, 1))
    folder = session.folder / f"full-{uuid.uuid4().hex[:8]}"
    first = fill(folder, parts)
    count = parts * ROWS
    paths = sorted(folder.glob("values/*/*/*.parquet"))

    def peer() -> float:
        return cpu_seconds(lambda: [pq.read_table(path, columns=["key"]) for path in paths])

    measured = paired(lambda: cpu_seconds(lambda: opened(folder, first, count)), peer, rounds)
    ValueStore(str(folder)).note(ALL)
    noted = paired(lambda: cpu_seconds(lambda: opened(folder, first, count)), peer, rounds)
    tracemalloc.start()
    index = opened(folder, first, count)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del index
    shared = session.folder / f"shared-{uuid.uuid4().hex[:8]}"
    fill(shared, parts // 10 or SHARDS, SHARDS)
    held = actor_memory(session, folder) - actor_memory(session, session.folder / "empty")
    return [
        Measured(
            "start: time",
            f"processor time of listing {count:,} values in {parts} parts and indexing their keys, one found",
            "pyarrow.parquet.read_table of the key column of each part",
            *measured,
            "s",
            1.5,
        ),
        Measured(
            "start: noted keys",
            "the same, the keys noted by an earlier start" if parts >= LEAST else "the same, once more",
            "the same",
            *noted,
            "s",
            1.5,
        ),
        Measured(
            "start: memory",
            f"memory that the index of {count:,} keys takes, per key",
            "what a key may take",
            round(taken / count, 1),
            KEY_BYTES,
            "bytes",
            1.0,
        ),
        Measured(
            "start: memory of the actor",
            f"what a cache actor holds with {count:,} keys in its store and not with none, per key",
            "what a key may take",
            round(max(1.0, held / count), 1),
            KEY_BYTES,
            "bytes",
            1.0,
        ),
        light(session),
        serving(session),
        of_one_shard(shared, Share(1, SHARDS), ["key"], 1.5),
        of_one_shard(shared, Share(SHARDS, SHARDS + 1), ["key", "asset"], 3.0),
    ]


def serving(session: Session) -> Measured:
    """`amber serve` until it answers, against a Ray and a Serve of an empty application, and 1.5 s."""
    root = session.folder / "served"
    root.mkdir(exist_ok=True)
    stores = (session.folder / f"served-{n}" for n in itertools.count())

    def ours() -> float:
        given = "--store", str(next(stores)), "--media-root", str(root), "--port", str(free_port())
        return until_told("-m", "amber_ray.cli", "serve", *given)

    def alone() -> float:
        return until_told("-c", SERVE_ALONE, str(next(stores)), str(free_port()), str(root))

    ours_taken, serve_taken = paired(ours, alone, session.size(5, 1))
    return Measured(
        "start: amber serve",
        "the command, in an empty store, until it has told that it answers",
        f"a process that starts Ray and Serve as Amber does, for an empty application ({serve_taken:.2f} s), "
        "and 1.5 s",
        ours_taken,
        serve_taken + 1.5,
        "s",
        1.0,
    )


def until_told(*arguments: str) -> float:
    """Seconds until a process of Python says a line; it is ended then."""
    command = [sys.executable, *arguments]
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=as_installed()
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        taken = time.perf_counter() - started
        process.terminate()
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    if "ready" not in line:
        raise RuntimeError(f"{arguments} did not come up")
    return taken


def light(session: Session) -> Measured:
    """`amber get` of one cheap value where no server runs, against a Ray that starts, and 1.5 s."""
    [picture] = pictures(session.folder / "light", 1)
    stores = (session.folder / f"light-{n}" for n in itertools.count())

    def run_python(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        return seconds(lambda: subprocess.run(command, check=True, capture_output=True, env=as_installed()))

    def ours() -> float:
        given = "--store", str(next(stores)), "--media-root", str(picture.parent)
        return run_python("-m", "amber_ray.cli", "get", "brightness", str(picture), *given)

    ours_taken, ray_taken = paired(
        ours, lambda: run_python("-c", RAY_ALONE, str(next(stores))), session.size(5, 1)
    )
    return Measured(
        "start: amber get, no server",
        "the command, in an empty store, until it has told the brightness of a picture and Ray has ended",
        f"a process that starts Ray as Amber does, and ends it ({ray_taken:.2f} s), and 1.5 s",
        ours_taken,
        ray_taken + 1.5,
        "s",
        1.0,
    )


def as_installed() -> dict[str, str]:
    """This environment, in which Python keeps what it compiles: of installed packages, as Ray is, it has."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def of_one_shard(folder: Path, share: Share, columns: list[str], limit: float) -> Measured:
    """A shard's start, in a store of as many shards as write it or of others."""
    paths = sorted(folder.glob("values/*/*/*.parquet"))
    mine = [path for path in paths if (share_of(path.name) or ALL).overlaps(share)]
    rows = ROWS * len(mine)

    def ours() -> None:
        index = KeyIndex()
        for part, keys, at in ValueStore(str(folder)).owned(share):
            index.add(part.name, keys, at)
        index.find("0" * 32)

    measured = paired(
        lambda: cpu_seconds(ours),
        lambda: cpu_seconds(lambda: [pq.read_table(path, columns=columns) for path in mine]),
        3,
    )
    return Measured(
        f"start: shard {share.shard} of {share.shards}",
        f"processor time of a start of one shard of {share.shards}; {SHARDS} wrote the {len(paths)} parts",
        f"pyarrow.parquet.read_table of {' and '.join(columns)} of the {rows:,} values that it must look at",
        *measured,
        "s",
        limit,
    )


def fill(folder: Path, parts: int, shards: int = 1) -> str:
    """A store of parts that differ in their keys and in who wrote them only; returns one of the keys."""
    store = ValueStore(str(folder))
    number = parse(float)
    tables = []
    for shard in range(shards):
        share = Share(shard, shards)
        names = itertools.islice(filter(share.has, (f"{i:032x}" for i in itertools.count())), ROWS)
        rows = [rw.Row(name, name, name, "{}", 0.5, (name,), "", 0.1, "cpu", 1.8e9) for name in names]
        tables.append((rw.table_of(number, rows), share if shards > 1 else None))
    rng = np.random.default_rng(0)
    for part in range(parts):
        table, its = tables[part % shards]
        raw = rng.bytes(16 * ROWS)
        keys = pa.FixedSizeBinaryArray.from_buffers(rw.KEY, ROWS, [None, pa.py_buffer(raw)])
        table = table.set_column(table.schema.get_field_index("key"), "key", keys)
        store.publish("number", "1", number, Means(0.1, 8.0), [table], share=its)
    return raw[:16].hex()


def actor_memory(session: Session, store: Path) -> int:
    """Bytes of a new cache actor's own on such a store, after its first question."""
    settings = session.settings(store=str(store))
    with session.client(settings) as client:
        client.get("noop_leaf", session.video)
        return actor_bytes(settings.namespace)


def opened(folder: Path, key: str, count: int) -> KeyIndex:
    """What the cache actor does at its start."""
    index = KeyIndex()
    for part, keys, rows in ValueStore(str(folder)).owned(ALL):
        index.add(part.name, keys, rows)
    if len(index) != count or key not in index:
        raise RuntimeError(f"the index has {len(index)} keys, not {count}")
    return index


if __name__ == "__main__":
    raise SystemExit(main(run))
