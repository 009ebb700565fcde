"""`amber serve`: a local Ray, the cache actors, and the HTTP app on it, until told to stop.

stdout carries one line, with the URL, once the server answers; stderr what an operator should know. What Ray
says goes to Ray's own log files. Whatever ends the server, nothing stays running.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from amber_ray.cli.options import callback_secrets, settings_of, tokens_of, warn_of_changes
from amber_ray.cli.terminal import note
from amber_ray.client.embedded import launch, prepare
from amber_ray.client.version_lock import record
from amber_ray.core.model.service import FeatureInfo
from amber_ray.fabric.adapter import tracing
from amber_ray.serving import deployment, front
from amber_ray.serving.console import Console
from amber_ray.serving.drain import LATE_SECONDS
from amber_ray.settings import Settings

CHOICES = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED")
"""What a user may have decided otherwise; the rest of Serve's variables belong to this one server."""


FLUSH_SECONDS, HURRIED_SECONDS = 30.0, 1.0
"""How long values may be written at the end, and after a second signal."""
TOLD = ("drain_seconds", "slow_seconds", "log_format", "trace_endpoint", "trace_share")
"""Settings that are as they are unless an option says otherwise."""


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; then flush, stop Ray and return 0."""
    settings = tracing.from_environment(served_settings(args), os.environ)
    tell = teller(settings)
    began = time.monotonic()
    served = deployment.environment(settings)
    folder = served.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE") or tempfile.mkdtemp(prefix=front.PREFIX)
    try:
        # Ray reads its environment when it is imported, which a feature's module may do.
        os.environ.update({k: v for k, v in served.items() if k not in CHOICES or k not in os.environ})
        prepare()
        infos = _infos(settings)
        warn_of_changes(settings.store, infos)
        with (
            stopping() as stop,
            own_words() as words,
            Console(Path(folder), words.error) as console,
            _running(settings.replace(console=console.path), infos, stop, words) as url,
        ):
            if not stop.is_set():
                words.answer(f"Amber is ready at {url}\n")
                if not args.quiet:
                    up = time.monotonic() - began
                    tell(f"{len(infos)} features, values in {settings.store}, up in {up:.1f} s")
                    if settings.register:
                        tell("it takes features from its clients, and runs their code")
            while not stop.wait(1.0):
                pass
            if not args.quiet:
                tell(f"stopping; whoever waits is answered within {settings.drain_seconds:g} s")
            if not console.drain(settings.drain_seconds + 2 * LATE_SECONDS):
                tell("some callers were cut off: they could not be answered in time")
        if not args.quiet:
            tell(
                f"stopped; {'everything is stored' if words.clean else 'some values were not stored in time'}"
            )
    finally:
        front.remove(served.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE"))
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def teller(settings: Settings) -> Callable[[str], None]:
    """How this process tells what happens: in words for people, or as lines of a log that is JSON."""
    if settings.log_format != "json":
        return note
    log = logging.getLogger("amber.serve")
    log.setLevel(logging.INFO)
    return log.info


def served_settings(args: argparse.Namespace) -> Settings:
    """The settings that the words ask for; the current folder is the media root if none is named."""
    settings = settings_of(args)
    port = args.port or front.free_ports((0,))[0]
    return settings.replace(
        media_roots=settings.media_roots or (os.getcwd(),),
        host=args.host,
        port=port,
        shards=args.shards,
        replicas=args.replicas,
        tokens=tokens_of(args),
        allow_origins=tuple(args.allow_origin),
        callback_hosts=tuple(args.callback_host),
        callback_addresses=tuple(args.callback_address),
        callback_secrets=callback_secrets(),
        register=args.register,
        remote_schemes=tuple(s.removesuffix("://") for s in args.remote_scheme),
        access_log=args.access_log,
        **{name: value for name in TOLD if (value := getattr(args, name)) is not None},
    )


def _infos(settings: Settings) -> list[FeatureInfo]:
    """The features to serve; what is wrong with a module is found here, before anything is started."""
    from amber_ray.features.registered import build

    return list(build(settings).info())


@contextmanager
def _running(
    settings: Settings, infos: Iterable[FeatureInfo], stop: threading.Event, words: Words
) -> Iterator[str]:
    """Start everything, give the URL, and at the end stop everything in reverse order.

    A signal that comes meanwhile is heeded once all has started, so that nothing is left half-way.
    """
    from amber_ray.fabric.adapter import cluster, logs

    flush_seconds = FLUSH_SECONDS
    logs.attach(settings, sys.stderr)
    try:
        launch(settings)
        words.keep_ray_apart(cluster.log_folder())
        arm(stop)  # Ray has put its own handler of SIGTERM in place of ours.
        url = deployment.run(settings)
        record(settings.store, infos)
        yield url
    except KeyboardInterrupt:
        flush_seconds = HURRIED_SECONDS
        raise
    finally:
        try:
            deployment.shutdown()
            if cluster.running():
                words.clean = asyncio.run(cluster.close_shards(settings, flush_seconds))
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


class Words:
    """This process's stdout and stderr, for the words of its own; what others write goes elsewhere.

    `clean`: everything was stored when the server stopped.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._answers, self._errors = os.dup(1), os.dup(2)
        self._stderr = sys.stderr
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
        os.dup2(2, 1)
        self.clean = True

    def answer(self, text: str) -> None:
        """Write to stdout."""
        os.write(self._answers, text.encode())

    def error(self, line: bytes) -> None:
        """Write a line to stderr."""
        os.write(self._errors, line)

    def keep_ray_apart(self, folder: str | None) -> None:
        """From now on have what Ray writes, in C++ as well, in a file among its logs."""
        place = os.devnull if folder is None else os.path.join(folder, "amber-serve.log")
        file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.close(file)

    def close(self) -> None:
        """Everything is as it was before."""
        sys.stdout.flush()
        sys.stderr.close()
        sys.stderr = self._stderr
        os.dup2(self._answers, 1)
        os.dup2(self._errors, 2)
        os.close(self._answers)
        os.close(self._errors)


@contextmanager
def own_words() -> Iterator[Words]:
    """This process's own words, until the end of the `with`."""
    words = Words()
    try:
        yield words
    finally:
        words.close()
