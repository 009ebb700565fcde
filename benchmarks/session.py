"""The ground that benchmarks stand on: one Ray cluster, Serve on it, and Ambers in namespaces of their own.

Without an address a cluster is started in this process and ends with it. With one ("auto" on a machine of the
cluster), that cluster is used: the checkout must be importable and `--folder` reachable on all its nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import logging
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.measure import Measured

if TYPE_CHECKING:
    from amber_ray.client.sync import Client
    from amber_ray.settings import Settings

T = TypeVar("T")
FEATURES = "benchmarks.features"
ROOT = Path(__file__).parents[1]

# Read when Ray is imported, and inherited by its workers.
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's workers step back behind other processes, by 15. Here they compete with peers that don't.
    "RAY_worker_niceness": "0",
    # As Amber sets it for a Ray of its own (`fabric.adapter.cluster`, which can't be imported before these
    # are set).
    "RAY_num_workers_soft_limit": str((os.cpu_count() or 1) + 6),
    "RAY_enable_worker_prestart": "0",
}


@dataclass(frozen=True, slots=True)
class Session:
    """What a benchmark gets: where to work, how much of it, and ways to an Amber."""

    folder: Path
    small: bool
    port: int

    def size(self, full: T, small: T) -> T:
        """How much to do."""
        return small if self.small else full

    @property
    def video(self) -> Path:
        """The clip that ships with the package: 30 s, 640x360."""
        return ROOT / "amber_ray/samples/big-buck-bunny-30s.mp4"

    def settings(self, **changes: Any) -> Settings:
        """Settings of an Amber apart: its own namespace, an empty store, the benchmarks' features."""
        from amber_ray.settings import Settings

        name = f"bench-{uuid.uuid4().hex[:8]}"
        return Settings(
            **{
                "namespace": name,
                "store": str(self.folder / name),
                "media_roots": (str(self.video.parent), str(self.folder)),
                "features": (FEATURES,),
                "builtins": False,
                **changes,
            }
        )

    @contextlib.contextmanager
    def client(self, settings: Settings | None = None, **changes: Any) -> Iterator[Client]:
        """A client in the cluster, of an Amber that ends with it."""
        from amber_ray.fabric.adapter import cluster

        settings = settings or self.settings(**changes)
        try:
            with self.joined(settings) as client:
                yield client
        finally:
            asyncio.run(cluster.close_shards(settings))
            shutil.rmtree(settings.store, ignore_errors=True)

    def joined(self, settings: Settings) -> Client:
        """One more client of the Amber with these settings."""
        import amber_ray

        return amber_ray.connect("auto", settings=settings, store=settings.store)

    @contextlib.contextmanager
    def server(self, **changes: Any) -> Iterator[Served]:
        """Amber behind Serve, with an empty application of the same kind beside it."""
        from ray import serve

        from amber_ray.fabric.adapter import cluster
        from amber_ray.serving import deployment
        from benchmarks import empty_app

        settings = self.settings(host="127.0.0.1", port=self.port, **changes)
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        amber, empty = settings.namespace, f"{settings.namespace}-empty"
        serve.start(http_options={"host": "127.0.0.1", "port": self.port})
        try:
            serve.run(empty_app.build(settings.replicas), name=empty, route_prefix=f"/{empty}")
            serve.run(deployment.build(dataclasses.asdict(settings)), name=amber, route_prefix=f"/{amber}")
            base = f"http://127.0.0.1:{self.port}"
            yield Served(f"{base}/{amber}", f"{base}/{empty}")
        finally:
            serve.delete(amber)
            serve.delete(empty)
            asyncio.run(cluster.close_shards(settings))
            shutil.rmtree(settings.store, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Served:
    """Where the two applications answer."""

    amber: str
    empty: str


@contextlib.contextmanager
def opened(given: argparse.Namespace) -> Iterator[Session]:
    """Start or join a cluster, and leave it as it was."""
    from amber_ray.serving import front
    from amber_ray.settings import Settings

    port = given.port or (8000 if given.address else free_port())
    proxy = {} if given.address else front.environment(Settings(port=port)) | proxy_ports()
    for name, value in (ENVIRONMENT | proxy).items():
        os.environ.setdefault(name, value)
    import ray

    from amber_ray.fabric.adapter import cluster

    place = Path(tempfile.mkdtemp(prefix="amber-bench-", dir=given.folder))
    try:
        if given.address is None:
            room = Settings(memory_bytes=2 << 30)  # for what the largest benchmark and its peer hold together
            cluster.start_local(room, num_cpus=max(2, os.cpu_count() or 2))
        else:
            cluster.connect(given.address, "bench")
        yield Session(place, given.small, port)
    finally:
        ray.shutdown()
        front.remove(proxy.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE"))
        shutil.rmtree(place, ignore_errors=True)


def proxy_ports() -> dict[str, str]:
    """HAProxy's other ports, away from the usual ones: a server may run on this machine."""
    names = ("HAPROXY_STATS", "HAPROXY_METRICS", "FALLBACK_PROXY_HTTP", "FALLBACK_PROXY_GRPC")
    return {f"RAY_SERVE_{name}_PORT": str(free_port()) for name in names}


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main(run: Callable[[Session], Sequence[Measured]], arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark by itself."""
    parser = argument_parser()
    given = parser.parse_args(arguments)
    with opened(given) as session:
        measured = run(session)
    for one in measured:
        print(one.line())
    return 0 if all(one.within for one in measured) else 1


def argument_parser() -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    parser = argparse.ArgumentParser(description="Amber against what one would write instead.")
    parser.add_argument(
        "--address", help='a Ray cluster to run on, such as "auto"; by default one of its own'
    )
    parser.add_argument("--small", action="store_true", help="a little of everything: shows that it works")
    parser.add_argument(
        "--port", type=int, help="of Serve: by default 8000 on a given cluster, else a free one"
    )
    parser.add_argument(
        "--folder", type=Path, help="where to write; on a cluster, a folder that all nodes share"
    )
    return parser
