"""`amber demo`: a server, two clips of a real film, every built-in feature, twice.

Serves in a process of its own, asks over HTTP, and leaves images and the store behind to try things with.
With `--serve` the server stays up, over what the last demo has stored, to look at the film in a browser.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amber_ray.cli.overview import overview
from amber_ray.cli.serve import stopping
from amber_ray.cli.summary import summary
from amber_ray.cli.terminal import cell, console, note, say, seconds, table
from amber_ray.client.address import connect
from amber_ray.client.results import Results
from amber_ray.client.sync import Client
from amber_ray.errors import Unavailable
from amber_ray.samples import clip, trailer

CLIPS = (clip(), trailer())
ASKED = tuple(map(str, CLIPS))
CREDIT = "Big Buck Bunny, (c) copyright 2008, Blender Foundation / www.bigbuckbunny.org, CC BY 3.0"
START_SECONDS = 180.0
STOP_SECONDS = 60.0
MOST_SECONDS = 900.0
OUT = "./demo-out"
PORT = 8000
"""Where the server is that stays up: one that a person types, and that the next demo tells of."""
TRACKS = "shots,brightness,motion,loudness,text,faces,thumbnail"
"""What the page shows of the film at first, under the player."""


def run(args: argparse.Namespace) -> int:
    """Tell the whole story; 1 if a feature failed."""
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    store = out / "store"
    if (store / "values").is_dir() and not args.serve:
        shutil.rmtree(store)  # An earlier demo's: this one is to compute again.
    for path in CLIPS:
        say(f"clip     {path.name}: {CREDIT}")
    say("starting a server (its log is in " + str(out / "serve.log") + ")")
    began = time.monotonic()
    port = args.port if args.port is not None else PORT if args.serve else 0
    with served(store, out / "serve.log", port) as (url, server), connect(url) as client:
        say(f"serving  {url}, ready after {seconds(time.monotonic() - began)}")
        features = [i.name for i in client.features() if i.store == "parquet"]
        say(f"asking   for all {len(features)} features that are kept, of both clips")
        began = time.monotonic()
        first = client.get_many(features, ASKED, timeout=MOST_SECONDS, progress=False if args.quiet else None)
        took = time.monotonic() - began
        again = {name: _again(client, name) for name in features}
        _show(features, first, again)
        computed = sum(not row.cached for row in first.rows)
        say(f"first    {seconds(took)} for everything; {computed} values were computed")
        cached = sum(found for _, found in again.values())
        total = sum(t for t, _ in again.values())
        say(f"again    {seconds(total)} for everything; {cached} of {len(first.rows)} values were there")
        for path in _images(first, out):
            say(f"wrote    {path}")
        view = f"#/assets/{client.assets(ASKED[0]).items[0].id}?tracks={TRACKS}"
        if args.serve:
            say(f"look at  {url}/{view}    (Ctrl-C ends the server)")
            _until_told(server, out / "serve.log")
    _next_steps(out, view)
    for (feature, _), failure in first.failures.items():
        note(f"amber: {feature} failed: {failure.message}")
    return 1 if first.failures else 0


def _until_told(server: subprocess.Popen[str], log: Path) -> None:
    """Wait for SIGINT or SIGTERM.

    Raises:
        Unavailable: the server has ended by itself.
    """
    with stopping() as stop:
        while not stop.wait(1.0):
            if server.poll() is not None:
                raise Unavailable(f"the server has ended by itself: {_last_words(log)}")


def _again(client: Client, feature: str) -> tuple[float, int]:
    """Ask for one feature once more: how long it took, and how many of its values were there."""
    began = time.monotonic()
    results = client.get_many(feature, ASKED, timeout=MOST_SECONDS, progress=False)
    return time.monotonic() - began, sum(row.cached for row in results.rows)


def _show(features: list[str], first: Results, again: dict[str, tuple[float, int]]) -> None:
    rows = table("feature", "value", ">computed in", ">again in", "then it was")
    for name in features:
        mine = [row for row in first.rows if row.feature == name]
        took, cached = again[name]
        computing = [row.seconds for row in mine if row.seconds is not None]
        values = [summary(row.failure.message if row.failure else row.value, 60) for row in mine]
        rows.add_row(
            name,
            cell(_told(values)),
            seconds(sum(computing)) if computing else "",
            seconds(took),
            "cached" if cached == len(mine) else f"{cached} of {len(mine)} cached",
        )
    console().print(rows)


def _told(values: list[str]) -> str:
    """A feature's values in one cell; of one that is for ranges there are none where none was found."""
    if len(values) == 1:
        return values[0]
    return f"{len(values)} values, first: {values[0]}" if values else "no values: nothing was found"


def _images(results: Results, out: Path) -> Iterator[Path]:
    """Write what is a picture, and an overview of each clip."""
    for (feature, asset), value in results.ready.items():
        if isinstance(value, bytes):
            path = out / f"{feature}{'' if asset is None else '-' + Path(asset).stem}.jpg"
            path.write_bytes(value)
            yield path
    for asked in ASKED:
        values = {feature: value for (feature, asset), value in results.ready.items() if asset == asked}
        if {"timeline", "shots"} <= values.keys():
            path = out / f"overview-{Path(asked).stem}.png"
            path.write_bytes(overview(values, Path(asked).name))
            yield path


def _next_steps(out: Path, view: str) -> None:
    """Commands that work when pasted where the demo was run."""
    script = Path(sys.prefix) / "bin" / "amber"
    amber = f"{_shown(Path(sys.executable))} -m amber_ray.cli"
    if script.exists():
        found = shutil.which("amber")
        amber = "amber" if found is not None and Path(found).samefile(script) else _shown(script)
    first, store = _shown(CLIPS[0]), _shown(out / "store")
    say("")
    say("What to try next:")
    say(f"  {amber} get shots,text {first} --store {store}    # reads what was just computed")
    say(f"  {amber} get speech,sound_events {first} --store {store} --format json")
    say(f"  {amber} graph match_cuts")
    serve = f"{amber} demo --serve" + ("" if out == Path(OUT) else f" --out {_shown(out)}")
    say(f"  {serve}    # keeps the server up, to look at the film: http://127.0.0.1:{PORT}/{view}")


def _shown(path: Path) -> str:
    """A path as one would type it here; a link (such as an environment's Python) is not followed."""
    short, full = os.path.relpath(path), os.path.abspath(path)
    return shlex.quote(min(short, full, key=len))


@contextmanager
def served(store: Path, log: Path, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server of the samples in a process of its own, stopped (as by Ctrl-C) at the end; its URL, and it."""
    command = [sys.executable, "-m", "amber_ray.cli", "serve"]
    command += ["--media-root", str(CLIPS[0].parent), "--store", str(store), "--port", str(port)]
    with log.open("wb") as errors:
        # A session of its own, so that Ctrl-C here is not also delivered there: this process stops it.
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            yield _url(server, log), server
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(STOP_SECONDS)


def _url(server: subprocess.Popen[str], log: Path) -> str:
    """The one line that the server prints once it answers."""
    lines: list[str] = []
    assert server.stdout is not None
    reader = threading.Thread(target=lambda: lines.append(server.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    reader.join(START_SECONDS)
    words = lines[0].split() if lines else []
    url = next((word for word in words if word.startswith("http")), None)
    if url is None:
        raise Unavailable(f"the server did not come up: {_last_words(log)}")
    return url


def _last_words(log: Path) -> str:
    said = log.read_text(errors="replace").strip().splitlines()
    return said[-1] if said else f"see {log}"
