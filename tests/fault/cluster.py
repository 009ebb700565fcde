"""Ray with several nodes in this machine, each a set of processes of its own, and Amber on Serve in it.

Every node has an address of its own (127.0.0.1, 127.0.0.2, ...), so that ports are taken per node as on
machines of their own. The head keeps what GCS knows in RocksDB, so that GCS can be killed and started again.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from amber_ray.fabric.adapter import cluster as fabric
from amber_ray.serving import front
from amber_ray.settings import Settings
from tests.server import CLIP, KIT, MARK, SAMPLES, UP_SECONDS, Service

ROOT = Path(__file__).parents[2]
FAULT_KIT = str(Path(__file__).parent / "fault_kit.py")
NODE = "AMBER_TEST_NODE"
HEAD = "head"
FREE_BOX = (12).to_bytes(4, "big") + b"free"

HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""How soon Ray takes a silent node for dead: about 2 s here; by its own defaults it is about 20 s."""


class Cluster(Service):
    """`Service` on a Ray of several nodes: the head after `start`, others by `add_node` and `kill_node`."""

    def __init__(
        self,
        folder: Path,
        store: Path | None = None,
        env: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> None:
        super().__init__(folder)
        self.store = store or self.store
        # Ray puts sockets below its folder, and the path of a socket is at most 107 bytes long.
        self.place = Path("/tmp") / f"amber-fault-{secrets.token_hex(4)}"
        self.place.mkdir()
        (self.place / "token").write_text(secrets.token_hex(32))
        self.port, self.gcs = front.free_ports((0, 0))
        self.settings = Settings(
            **{
                "store": str(self.store),
                "media_roots": (str(self.media), str(SAMPLES)),
                "features": (KIT, FAULT_KIT),
                "segment_seconds": 10.0,
                "port": self.port,
                "replicas": 2,
                "memory_bytes": 128 << 20,
                "replica_cache_bytes": 0,
                "spill_seconds": 0.05,
                # Nodes that tests add: what needs one waits for it.
                "attainable": {"CPU": 1.0, "spare": 1.0, "cramped": 1.0},
                **changes,
            }
        )
        self._env = {
            **os.environ,
            **front.environment(self.settings),
            **fabric.environment(),
            **HEALTH,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.place / "token"),
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(self.place / "gcs"),
            # This machine is shared: how full its memory is says nothing of this cluster.
            "RAY_memory_monitor_refresh_ms": "0",
            "RAY_prestart_worker_first_driver": "0",
            "AMBER_TEST_DIR": str(self.traces),
            MARK: self.mark,
            **(env or {}),
        }
        self._nodes = 0
        self._clips = 0

    def start(self) -> Cluster:
        """The head, and Amber on it."""
        words = ("--head", f"--port={self.gcs}", "--include-dashboard=false", "--no-monitor", "--num-cpus=2")
        self._ray_start(HEAD, *words)
        self.deploy()
        return self

    def deploy(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fault.deploy_kit", self.settings.to_json()],
            env={**self._env, "RAY_ADDRESS": f"127.0.0.1:{self.gcs}"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        self.url = done.stdout.split()[-1]

    def add_node(self, name: str, *, cpus: int = 1, env: Mapping[str, str] | None = None) -> None:
        """A worker node, which has the custom resource `name`; returns when it can be given work."""
        self._ray_start(
            name,
            f"--address=127.0.0.1:{self.gcs}",
            f"--num-cpus={cpus}",
            f"--resources={json.dumps({name: 1})}",
            env=env,
        )

    def _ray_start(self, name: str, *words: str, env: Mapping[str, str] | None = None) -> None:
        self._nodes += 1
        ports = front.free_ports((0,) * 5)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", *words),
                *(f"--node-ip-address=127.0.0.{self._nodes}", "--object-store-memory=100000000"),
                *(f"--dashboard-agent-listen-port={ports[0]}", f"--dashboard-agent-grpc-port={ports[1]}"),
                *(f"--runtime-env-agent-port={ports[2]}", f"--metrics-export-port={ports[3]}"),
                *(
                    ["--ray-client-server-port", str(ports[4]), "--temp-dir", str(self.place)]
                    * (name == HEAD)
                ),
                *("--disable-usage-stats", "--include-log-monitor=false"),
            ],
            env={**self._env, **(env or {}), NODE: name},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def stop(self) -> None:
        """Nothing of it is left, neither processes nor files."""
        self.kill_everything()
        front.remove(self._env.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE"))
        shutil.rmtree(self.place, ignore_errors=True)

    def log(self) -> str:
        """The end of what the cache actor wrote."""
        logs = sorted((self.place / "session_latest" / "logs").glob("worker-*.err"), key=os.path.getmtime)
        words = [
            line for log in logs for line in log.read_text(errors="replace").splitlines() if "amber" in line
        ]
        return "\n".join(words[-40:])

    # --- its processes

    def node(self, name: str) -> list[int]:
        """The processes of a node, Ray's own first."""
        found = []
        for pid in self.processes():
            try:
                if f"{NODE}={name}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
            except OSError:
                continue  # it has ended meanwhile
        return sorted(found)

    def kill_node(self, name: str) -> None:
        """Pull the plug: every process of it, at once."""
        pids = self.node(name)
        assert pids
        for pid in pids:
            end(pid)

    def kill_gcs(self) -> tuple[list[str], dict[str, str]]:
        """End GCS; the words and variables to start it again with."""
        (pid,) = self.pids("/gcs_server ")
        folder = Path("/proc", str(pid))
        argv = [word.decode() for word in (folder / "cmdline").read_bytes().split(b"\0") if word]
        pairs = [e.decode().partition("=") for e in (folder / "environ").read_bytes().split(b"\0") if e]
        end(pid)
        return argv, {name: value for name, _, value in pairs}

    def start_gcs(self, argv: list[str], env: Mapping[str, str]) -> None:
        with open(self.folder / "gcs.log", "a") as log:
            subprocess.Popen(argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def pids(self, words: str) -> list[int]:
        """The processes whose command line has these words."""
        return [pid for pid, line in self.processes().items() if words in line]

    def actor(self) -> int:
        """The cache actor's process."""
        (pid,) = self.pids("ray::CacheActor")
        return pid

    # --- asking

    def clip(self, count: int = 1) -> list[Path]:
        """Media that nobody has asked about yet."""
        made = []
        for _ in range(count):
            self._clips += 1
            path = self.media / f"{self._clips}.mp4"
            path.write_bytes(CLIP.read_bytes() + FREE_BOX + self._clips.to_bytes(4, "big"))
            made.append(path)
        return made

    def answered(self, features: str = "size", seconds: float = 150.0) -> float:
        """Ask something new until it is answered; the seconds that took."""
        (clip,) = self.clip()
        began = time.monotonic()
        while True:
            try:
                reply = self.compute(features, clip, wait=30)
                if reply.status_code == 200 and reply.json()["state"] == "done":
                    return time.monotonic() - began
                said = reply.text
            except httpx.TransportError as error:
                said = repr(error)
            assert time.monotonic() - began < seconds, said
            time.sleep(0.05)

    def arrays(self, view: Mapping[str, Any]) -> list[np.ndarray]:
        """The values of a request that are arrays."""
        return [np.load(io.BytesIO(data)) for data in self.values(view, "application/x-npy")]

    def values(self, view: Mapping[str, Any], accept: str = "application/json") -> list[bytes]:
        """The bytes of a request's values."""
        with self.client() as client:
            asked = {"Accept": accept}
            replies = [client.get(f"/v1/values/{r['key']}", headers=asked) for r in view["results"]]
        assert [r.status_code for r in replies] == [200] * len(replies), [r.text[:300] for r in replies]
        return [r.content for r in replies]

    def written(self) -> None:
        """Wait until all that should be in the store is."""
        names = ("unspilled_bytes", "spilling_keys")
        self.until(lambda: not any(self.stats()[name] for name in names))


class Caller(threading.Thread):
    """One who waits for an answer; what came is in `reply` or `error` after `done`."""

    def __init__(self, service: Service, features: str, *uris: Path, **more: Any) -> None:
        super().__init__(daemon=True)
        self._ask = lambda: service.compute(features, *uris, **more)
        self.reply: httpx.Response | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.reply = self._ask()
        except Exception as error:
            self.error = error

    def done(self, seconds: float = 240.0) -> Caller:
        self.join(seconds)
        assert not self.is_alive(), "nobody has answered"
        return self

    @property
    def view(self) -> dict[str, Any]:
        assert self.reply is not None, self.error
        assert self.reply.status_code == 200, self.reply.text
        view: dict[str, Any] = self.reply.json()
        return view


def end(pid: int, with_signal: int = signal.SIGKILL) -> None:
    """Send a signal; a process that is gone already is fine."""
    try:
        os.kill(pid, with_signal)
    except ProcessLookupError:
        return


def received(pid: int) -> int:
    """Bytes that wait at a process's sockets for it to read them."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(file))
        except OSError:
            continue
    waiting = 0
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes and fields[3] == "01":
                waiting += int(fields[4].split(":")[1], 16)
    return waiting
