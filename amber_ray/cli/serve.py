"""`amber serve`: a local Ray, the cache actors, and the HTTP app on it, until told to stop.

stdout carries one line, with the URL, once the server answers. Whatever ends it, nothing stays running.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from amber_ray.cli.options import settings_of, tokens_of, warn_of_changes
from amber_ray.cli.terminal import note
from amber_ray.client.embedded import launch, prepare
from amber_ray.client.version_lock import record
from amber_ray.core.model.service import FeatureInfo
from amber_ray.serving import deployment, front
from amber_ray.settings import Settings

CHOICES = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
"""What a user may have decided otherwise; the rest of Serve's variables belong to this one server."""


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; then flush, stop Ray and return 0."""
    settings = served_settings(args)
    began = time.monotonic()
    served = deployment.environment(settings)
    try:
        # Ray reads its environment when it is imported, which a feature's module may do.
        os.environ.update({k: v for k, v in served.items() if k not in CHOICES or k not in os.environ})
        prepare()
        infos = _infos(settings)
        warn_of_changes(settings.store, infos)
        with stopping() as stop, answer_only() as tell, _running(settings, infos, stop) as url:
            if not stop.is_set():
                tell(f"Amber is ready at {url}\n")
                if not args.quiet:
                    up = time.monotonic() - began
                    note(f"{len(infos)} features, values in {settings.store}, up in {up:.1f} s")
            while not stop.wait(1.0):
                pass
            if not args.quiet:
                note("stopping")
    finally:
        front.remove(served.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE"))
    return 0


def served_settings(args: argparse.Namespace) -> Settings:
    """The settings that the words ask for; the current folder is the media root if none is named."""
    settings = settings_of(args)
    port = args.port
    if port == 0:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    return settings.replace(
        media_roots=settings.media_roots or (os.getcwd(),),
        host=args.host,
        port=port,
        shards=args.shards,
        replicas=args.replicas,
        tokens=tokens_of(args),
        allow_origins=tuple(args.allow_origin),
        remote_schemes=tuple(s.removesuffix("://") for s in args.remote_scheme),
    )


def _infos(settings: Settings) -> list[FeatureInfo]:
    """The features to serve; what is wrong with a module is found here, before anything is started."""
    from amber_ray.core.declare.registry import Registry
    from amber_ray.features import BUILTINS

    return list(Registry.from_modules([*BUILTINS, *settings.features]).info())


@contextmanager
def _running(settings: Settings, infos: Iterable[FeatureInfo], stop: threading.Event) -> Iterator[str]:
    """Start everything, give the URL, and at the end stop everything in reverse order.

    A signal that comes meanwhile is heeded once all has started, so that nothing is left half-way.
    """
    from amber_ray.fabric.adapter import cluster

    try:
        launch(settings)
        arm(stop)  # Ray has put its own handler of SIGTERM in place of ours.
        url = deployment.run(settings)
        record(settings.store, infos)
        yield url
    finally:
        try:
            deployment.shutdown()
            asyncio.run(cluster.close_shards(settings))
        finally:
            cluster.stop()


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, until the end of the `with`."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    arm(stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def arm(stop: threading.Event) -> None:
    """Have SIGINT and SIGTERM set the event. A second one is an impatient user: it interrupts at once."""

    def asked(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked)


@contextmanager
def answer_only() -> Iterator[Callable[[str], None]]:
    """A function that writes to stdout; what others write there (Ray, a module) goes to stderr meanwhile."""
    sys.stdout.flush()
    answer = os.dup(1)
    os.dup2(2, 1)

    def tell(text: str) -> None:
        os.write(answer, text.encode())

    try:
        yield tell
    finally:
        sys.stdout.flush()
        os.dup2(answer, 1)
        os.close(answer)
