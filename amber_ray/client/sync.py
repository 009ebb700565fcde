"""`Client` and `Future`: the async ones for programs without an event loop.

Nothing is written twice: each method here is made from its async twin, which runs on the client's own loop
thread, and keeps that one's parameters for type checkers, editors and `help`.
Must not know: what the methods do.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - see `_close_all`
import functools
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from amber_ray.client.api import AsyncClient
from amber_ray.client.futures import AsyncFuture
from amber_ray.client.loop import Loop

log = logging.getLogger("amber.client")

P = ParamSpec("P")
I = TypeVar("I")  # noqa: E741
T = TypeVar("T")


class Facade(Generic[I]):
    """Something async and the loop it runs on."""

    def __init__(self, inner: I, loop: Loop) -> None:
        self._inner = inner
        self._loop = loop


def blocking(
    method: Callable[Concatenate[I, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Facade[I], P], T]:
    """The method that runs an async one to its end."""

    @functools.wraps(method)
    def call(self: Facade[I], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(method(self._inner, *args, **kwargs))

    return call


def giving_future(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, AsyncFuture]],
) -> Callable[Concatenate[Facade[AsyncClient], P], Future]:
    """The same for a method whose result is a future, which becomes a `Future`."""

    @functools.wraps(method)
    def call(self: Facade[AsyncClient], /, *args: P.args, **kwargs: P.kwargs) -> Future:
        return Future(self._loop.run(method(self._inner, *args, **kwargs)), self._loop, self)

    return call


class Future(Facade[AsyncFuture]):
    """A submitted request; see `AsyncFuture`, whose methods these are."""

    def __init__(self, inner: AsyncFuture, loop: Loop, client: object = None) -> None:
        """Made by `submit`; `client` is kept open as long as somebody has its future."""
        super().__init__(inner, loop)
        self._client = client

    progress = blocking(AsyncFuture.progress)
    done = blocking(AsyncFuture.done)
    result = blocking(AsyncFuture.result)
    results = blocking(AsyncFuture.results)
    cancel = blocking(AsyncFuture.cancel)

    @property
    def id(self) -> str:
        """What `client.future(id)` takes, in this process or another."""
        return self._inner.id

    def __repr__(self) -> str:
        return repr(self._inner).replace("AsyncFuture", "Future")

    def add_done_callback(self, function: Callable[[Future], object]) -> None:
        """Call `function(future)` on a thread of its own once the request has ended."""

        def ended(_: AsyncFuture) -> None:
            # Not on the loop's thread: the function may well call `future.result()`, which needs that thread.
            threading.Thread(target=function, args=(self,), name="amber-callback", daemon=True).start()

        self._loop.call(lambda: self._inner.add_done_callback(ended))


class Client(Facade[AsyncClient]):
    """A connection to Amber; see `amber_ray.connect`. Threads may share it. Close it, or use it in a `with`.

    Ctrl-C during a call withdraws its request; work that others wait for goes on.
    """

    get = blocking(AsyncClient.get)
    get_many = blocking(AsyncClient.get_many)
    sweep = blocking(AsyncClient.sweep)
    stored = blocking(AsyncClient.stored)
    load = blocking(AsyncClient.load)
    values = blocking(AsyncClient.values)
    explain = blocking(AsyncClient.explain)
    assets = blocking(AsyncClient.assets)
    media = blocking(AsyncClient.media)
    asset_values = blocking(AsyncClient.asset_values)
    requests = blocking(AsyncClient.requests)
    lineage = blocking(AsyncClient.lineage)
    keep = blocking(AsyncClient.keep)
    demands = blocking(AsyncClient.demands)
    stop_keeping = blocking(AsyncClient.stop_keeping)
    notify = blocking(AsyncClient.notify)
    versions = blocking(AsyncClient.versions)
    register = blocking(AsyncClient.register)
    features = blocking(AsyncClient.features)
    failures = blocking(AsyncClient.failures)
    deliveries = blocking(AsyncClient.deliveries)
    replay = blocking(AsyncClient.replay)
    audit = blocking(AsyncClient.audit)
    stats = blocking(AsyncClient.stats)
    purge = blocking(AsyncClient.purge)
    asset = blocking(AsyncClient.asset)
    upload = blocking(AsyncClient.upload)
    submit = giving_future(AsyncClient.submit)
    future = giving_future(AsyncClient.future)

    def __init__(self, inner: AsyncClient, loop: Loop) -> None:
        """Made by `connect`."""
        super().__init__(inner, loop)
        self._connection = Connection(inner, loop)
        weakref.finalize(self, self._connection.forgotten).atexit = False

    def __repr__(self) -> str:
        return repr(self._inner).replace("AsyncClient", "Client")

    def close(self) -> None:
        """Let go of the connection; the last client of an Amber of one's own writes what is unwritten."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Connection:
    """What a client holds open, closed once: by its client, when nobody has that any more, or at exit."""

    def __init__(self, inner: AsyncClient, loop: Loop) -> None:
        self._inner = inner
        self._loop = loop
        self._turn = threading.Lock()
        _OPEN.add(self)

    def close(self) -> None:
        """Close the async client and its loop; whoever comes second waits for the first."""
        with self._turn:
            if self not in _OPEN:
                return
            try:
                if not self._loop.closed:
                    self._loop.run(self._inner.aclose())
            finally:
                self._loop.close()
                _OPEN.discard(self)

    def forgotten(self) -> None:
        """Close on a thread of its own: this may be called on any, also on the loop's, which is needed."""
        if self in _OPEN:
            threading.Thread(target=self.close, name="amber-close").start()


_OPEN: set[Connection] = set()
"""Connections that are not closed."""


def _close_all() -> None:
    """Close what is open when the interpreter ends.

    `threading._register_atexit` runs while executors still take work, which an embedded engine's last writes
    need: what was registered last comes first, and `concurrent.futures.thread` has been imported before.
    Plain `atexit` comes after they have shut down, and serves where the former is missing.
    """
    for connection in list(_OPEN):
        try:
            connection.close()
        except Exception:
            log.exception("a client could not be closed in order")  # the others are to be closed all the same


getattr(threading, "_register_atexit", atexit.register)(_close_all)
