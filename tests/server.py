"""`amber serve` as users run it: a subprocess with a store of its own, asked over HTTP, stopped or killed.

`Service` is what any running Amber has, however it was started; `tests/fault/cluster.py` has another.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

KIT = str(Path(__file__).parent / "integration" / "feature_kit.py")
SAMPLES = Path(__file__).parents[1] / "amber_ray" / "samples"
CLIP = SAMPLES / "big-buck-bunny-30s.mp4"
UP_SECONDS = 240.0
"""Longest wait for a start, which takes some seconds of CPUs that may have much else to do."""
MARK = "AMBER_TEST_MARK"


class Service:
    """A running Amber. Its processes carry a mark in their environment, so that a test ends no others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.traces = folder / "traces"
        self.traces.mkdir(parents=True, exist_ok=True)
        self.media = folder / "media"
        self.media.mkdir(exist_ok=True)
        self.store = folder / "store"
        self.mark = uuid.uuid4().hex
        self.url = ""

    def log(self) -> str:
        """What may say why; empty where nobody wrote any."""
        return ""

    def processes(self) -> dict[int, str]:
        """Every process of this service, wherever it was reparented to: pid to command line."""
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue  # it has ended meanwhile
        return {pid: line for pid, line in found.items() if line}

    def kill_everything(self) -> None:
        """`kill -9` of Ray's daemons, the actors and the workers."""
        until = time.monotonic() + 20
        while (left := self.processes()) and time.monotonic() < until:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        assert not left, left

    def kill(self, words: str) -> int:
        """`kill -9` of the processes whose command line has these words; how many."""
        pids = [pid for pid, line in self.processes().items() if words in line]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return len(pids)

    # --- what features left on disk

    def lines(self, name: str) -> list[str]:
        path = self.traces / f"{name}.runs"
        return path.read_text().splitlines() if path.exists() else []

    def runs(self, name: str) -> int:
        return len(self.lines(name))

    def open(self, gate: str) -> None:
        (self.traces / f"{gate}.open").touch()

    def clear(self) -> None:
        for path in self.traces.iterdir():
            path.unlink()

    # --- what users ask

    def client(self) -> httpx.Client:
        # `verify`: to read the authorities' certificates takes 14 ms of CPU, and these URLs need none.
        return httpx.Client(base_url=self.url, timeout=90, trust_env=False, verify=False)

    def compute(self, features: str, *uris: str | Path, wait: float = 60, **more: Any) -> httpx.Response:
        body = {
            "features": features.split(","),
            "assets": [{"uri": str(u)} for u in uris or (CLIP,)],
            **more,
        }
        with self.client() as client:
            return client.post("/v1/compute", json=body, headers={"Prefer": f"wait={wait:g}"})

    def until(self, condition: Any, seconds: float = 120.0) -> None:
        """Wait for what another process will do; bounded."""
        give_up = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < give_up, f"{self._said()}\n{self.log()}"
            time.sleep(0.05)

    def _said(self) -> str:
        try:
            return str(self.stats())
        except httpx.TransportError as error:
            return repr(error)

    def stats(self) -> dict[str, float]:
        with self.client() as client:
            stats: dict[str, float] = client.get("/v1/stats").json()
        return stats


class Server(Service):
    """One `amber serve`, with options of its own and variables beside those of this process."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        num_gpus: int = 0,
        store: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder)
        self.options = options
        self.num_gpus = num_gpus
        self.place = store or str(self.store)
        self.env = dict(env or {})
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Server:
        """Until it prints its one line."""
        self.mark = uuid.uuid4().hex
        environment = {**os.environ, **self.env, "AMBER_TEST_DIR": str(self.traces), MARK: self.mark}
        with open(self.folder / "serve.log", "a") as log:
            self.process = self._spawn(environment, log)
        line = first_line(self.process)
        assert line.startswith("Amber is ready at "), f"{line!r} {self.log()}"
        self.url = line.split()[-1]
        return self

    def _spawn(self, environment: dict[str, str], log: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "amber_ray.cli", "serve", "--features", KIT, "--port", "0"),
                *("--media-root", str(self.media), "--media-root", str(SAMPLES)),
                *("--store", self.place, "--segment-seconds", "10"),
                *("--num-gpus", str(self.num_gpus), *self.options),
            ],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def log(self) -> str:
        path = self.folder / "serve.log"
        return path.read_text()[-4000:] if path.exists() else ""

    def stop(self) -> int:
        """As a user would; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill_everything(self) -> None:
        """`kill -9` of the command, Ray's daemons, the actors and the workers."""
        super().kill_everything()
        if self.process is not None:
            self.process.wait(10)


def first_line(process: subprocess.Popen[str], seconds: float = UP_SECONDS) -> str:
    """What a program says when it is up, within the bound; nothing if it has ended.

    Its end alone closes no pipe: what it has started, as Ray, holds the other end too.
    """
    assert process.stdout is not None
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        ended = process.poll() is not None
        if select.select([process.stdout], [], [], 0 if ended else 0.1)[0]:
            return process.stdout.readline()
        if ended:
            return ""
    raise AssertionError(f"not a word within {seconds:g} s")


def running(folder: Path, *options: str, **more: Any) -> Iterator[Server]:
    """For fixtures: a started server, and at the end nothing of it left."""
    server = Server(folder, *options, **more).start()
    try:
        yield server
        if server.process is not None and server.process.poll() is None:
            assert server.stop() == 0, server.log()
            server.until(lambda: not server.processes(), 60)
    finally:
        server.kill_everything()
