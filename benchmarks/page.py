"""The page's view of an hour-long film in Chromium: first paint, pictures a second while one drags, memory.

    python -m benchmarks.page                   # two minutes, and ten of use
    python -m benchmarks.page --use-minutes 0   # without the last measure

The film is a sample clip over and over, copied packet by packet. A server of its own computes what its tracks
show; then a browser opens the view, as somebody would who comes back to it. `make bench` leaves it out: it
needs a browser (`apt-get install chromium`).
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.film import repeat

CLIP = Path(__file__).parents[1] / "amber_ray" / "samples" / "big-buck-bunny-30s.mp4"
TRACKS = ("brightness", "colour", "spectrogram", "speech_probability")
ROUND = 30.25
"""Seconds from one copy of the clip to the next: no time stamp comes twice where pictures are reordered."""
PAINT_SECONDS, FRAME_RATE, TAB_BYTES = 1.0, 60.0, 300 * 2**20
"""What is aimed at."""
DRAG_SECONDS = 5.0


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A server of this folder's media; its address."""
    words = ["--port", "0", "--media-root", str(folder), "--store", str(folder / "store")]
    command = [sys.executable, "-m", "amber_ray.cli", "serve", "--segment-seconds", "10", *words]
    with open(folder / "serve.log", "w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("Amber is ready at "):
            raise RuntimeError(f"no server: {line}{(folder / 'serve.log').read_text()[-2000:]}")
        yield line.split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def computed(url: str, film: Path) -> str:
    """Have the tracks' values computed; the asset's id."""
    with httpx.Client(base_url=url, timeout=90) as client:
        id = str(client.post("/v1/assets", json={"uri": str(film)}).raise_for_status().json()["id"])
        asked = {"features": list(TRACKS), "assets": [{"id": id}]}
        view = client.post("/v1/compute", json=asked, headers={"Prefer": "wait=60"}).raise_for_status().json()
        while view["state"] == "running":
            view = client.get(f"/v1/requests/{view['id']}", headers={"Prefer": "wait=60"}).json()
        if view["state"] != "done" or any(one["state"] != "ready" for one in view["results"]):
            raise RuntimeError(f"the film's values are not there: {view['state']}")
        return id


class Window:
    """The view in a browser."""

    def __init__(self, page: Any, url: str, id: str) -> None:
        self.page = page
        self.address = f"{url}/#/assets/{id}?tracks={','.join(TRACKS)}"

    def opened(self) -> float:
        """Open the view as if for the first time; seconds until its first track has drawn something."""
        self.page.goto("about:blank")
        began = time.perf_counter()
        self.page.goto(self.address)
        while not self.page.evaluate(PAINTED):
            time.sleep(0.01)
        return time.perf_counter() - began

    def lane(self) -> tuple[float, float, float]:
        """Where the first track is: left, middle, width."""
        box = self.page.locator("li.track canvas").first.bounding_box()
        return box["x"], box["y"] + box["height"] / 2, box["width"]

    def drag(self, seconds: float) -> list[float]:
        """Drag the tracks to and fro; milliseconds between two pictures of the screen."""
        left, y, width = self.lane()
        self.page.mouse.move(left + width / 2, y)
        self.page.evaluate(COUNT)
        self.page.mouse.down()
        end, n = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            n += 1
            self.page.mouse.move(left + width * (0.5 + 0.3 * math.sin(n / 20)), y)
        self.page.mouse.up()
        return list(self.page.evaluate("() => { counting = false; return pictures.slice(2); }"))

    def used(self, minutes: float) -> None:
        """Zoom, drag, seek and play at random."""
        chance, end = random.Random(1), time.monotonic() + minutes * 60
        while time.monotonic() < end:
            left, y, width = self.lane()
            x = left + width * chance.uniform(0.1, 0.9)
            self.page.mouse.move(x, y)
            what = chance.choice(("in", "out", "drag", "click", "play"))
            if what == "in":
                self.page.mouse.wheel(0, -300)
            elif what == "out":
                self.page.mouse.wheel(0, 500)
            elif what == "drag":
                self.drag(1.0)
            elif what == "click":
                self.page.mouse.click(x, y)
            else:
                self.page.keyboard.press(" ")
            time.sleep(0.3)


PAINTED = """() => {
  const canvas = document.querySelector('li.track canvas');
  if (!canvas || !document.querySelector('li.track .status')?.textContent.includes('known')) return false;
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const colours = new Set(new Uint32Array(data.buffer));
  return colours.size > 3;
}"""
COUNT = """() => {
  globalThis.pictures = [];
  globalThis.counting = true;
  let last = performance.now();
  const next = (now) => {
    pictures.push(now - last);
    last = now;
    if (counting) requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
}"""


def tab_bytes(browser: Any) -> int:
    """What the process of the tab holds, shared memory by its share.

    It is the largest of those that draw pages: the others are spare ones that Chromium keeps ready.
    """
    known = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return max(_held(one["id"]) for one in known if one["type"] == "renderer")


def _held(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def told(name: str, words: str, good: bool) -> None:
    """Print one measure."""
    print(f"{name}: {words} ({'ok' if good else 'NOT MET'})", flush=True)


def measure(window: Window, browser: Any, use_minutes: float) -> None:
    """Print the three measures."""
    window.opened()  # what the browser keeps of the page's files is there from now on
    paints = [window.opened() for _ in range(5)]
    paint = statistics.median(paints)
    told("first paint", f"{paint:.2f} s, limit {PAINT_SECONDS:g} s", paint <= PAINT_SECONDS)
    for name, zoom in (("the hour", -100), ("some twenty minutes of it", -500)):
        left, y, width = window.lane()
        window.page.mouse.move(left + width / 2, y)
        window.page.mouse.wheel(0, zoom)
        window.page.wait_for_timeout(3000)
        gaps = window.drag(DRAG_SECONDS)
        rate, worst = 1000 * len(gaps) / sum(gaps), sorted(gaps)[math.ceil(0.99 * len(gaps)) - 1]
        words = (
            f"{rate:.1f} pictures a second, the 99th percentile {worst:.0f} ms apart, aimed at {FRAME_RATE:g}"
        )
        told(f"dragging {name}", words, rate >= 0.95 * FRAME_RATE)
    if use_minutes:
        window.used(use_minutes)
    held = tab_bytes(browser)
    words = f"{held / 2**20:.0f} MiB after {use_minutes:g} minutes of use, limit {TAB_BYTES >> 20} MiB"
    told("memory of the tab", words, held <= TAB_BYTES)


def main() -> int:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3600.0, help="the film's length (default: an hour)")
    parser.add_argument("--use-minutes", type=float, default=10.0)
    asked = parser.parse_args()
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no Chromium on the PATH: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="amber-page-") as name:
        folder = Path(name)
        film = folder / "film.mp4"
        repeat(CLIP, film, math.ceil(asked.seconds / ROUND), ROUND)
        with served(folder) as url, sync_playwright() as playwright:
            id = computed(url, film)
            flags = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            measure(Window(page, url, id), browser, asked.use_minutes)
            browser.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
