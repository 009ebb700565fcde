"""The Ray that this process started: its clients share it, and those of one store share that store's shards.

The first `connect()` starts it, the last client that closes ends it. Each store has shards of its own, in a
namespace of its own, which end with the store's last client; what they have not written is written then.
Clients come and go on event loops and threads of their own, so what is shared is held under locks of threads:
`_turn` while Ray starts or stops, and a store's `turn` while its shards do, so that nobody finds shards that
are about to end. Must not know: Ray, what a client asks.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from amber_ray.errors import BadRequest
from amber_ray.settings import Settings
from amber_ray.store.files import local_directory

TURN_SECONDS = 0.01
"""How often a client looks whether another one is done with starting or ending a store's shards."""
NOT_OF_SHARDS = (
    *("store", "namespace", "features", "builtins", "media_roots", "num_gpus", "replica_cache_bytes"),
    *("replicas", "host", "port", "tokens", "allow_origins"),
)
"""Settings in which the clients of one store may differ: they are of their engines, of Ray or of a server."""


class Ray(Protocol):
    """What starts and stops Ray; these calls block."""

    def start(self, settings: Settings) -> None:
        """Start a local Ray. Raises `Unavailable`."""
        ...

    def running(self) -> bool:
        """Whether this process is connected to a Ray."""
        ...

    def stop(self) -> None:
        """End the Ray that `start` started."""
        ...


@dataclass(slots=True, eq=False)
class OpenStore:
    """A store that clients of this process have open: how it is run, and how many they are."""

    settings: Settings
    users: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)


class Keeper:
    """The thread that starts Ray, lives as long as it, and ends it.

    Ray has the system kill what it started once the thread that started it is gone (`PR_SET_PDEATHSIG`), and
    the threads of a client end with that client.
    """

    def __init__(self, ray: Ray, settings: Settings) -> None:
        """Start Ray. Raises what `Ray.start` raises."""
        self._ray = ray
        self._up = threading.Event()
        self._over = threading.Event()
        self._error: BaseException | None = None
        # A daemon: where clients are never closed, Ray ends itself when the interpreter does.
        self._thread = threading.Thread(target=self._keep, args=(settings,), name="amber-ray", daemon=True)
        self._thread.start()
        self._up.wait()
        self._check()

    def stop(self) -> None:
        """End Ray."""
        self._over.set()
        self._thread.join()
        self._check()

    def _keep(self, settings: Settings) -> None:
        try:
            self._ray.start(settings)
            self._up.set()
            self._over.wait()
            self._ray.stop()
        except BaseException as error:  # noqa: BLE001 - raised to whoever waits for this thread
            self._error = error
            self._up.set()

    def _check(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


class OwnRay:
    """At most one Ray, and the stores that are open in it. All threads and event loops may call."""

    def __init__(self, ray: Ray) -> None:
        self._ray = ray
        self._turn = threading.Lock()
        self._users = 0
        self._life = 0
        self._keeper: Keeper | None = None
        self._gpus: float | None = None
        self._stores: dict[str, OpenStore] = {}

    def open_in(self, namespace: str) -> Settings | None:
        """How the store in a namespace is run, if one is open there. Waits while Ray starts or stops."""
        with self._turn:
            used = [store.settings for store in self._stores.values() if store.users]
            return next((settings for settings in used if settings.namespace == namespace), None)

    @asynccontextmanager
    async def entered(self, settings: Settings) -> AsyncIterator[int]:
        """Take part in the Ray of this process, started if there is none; `leave` it with the number given.

        An exception inside leaves it. Raises `Unavailable`, and `BadRequest` for another number of GPUs.
        """
        entering = asyncio.ensure_future(asyncio.to_thread(self._enter, settings))
        try:
            life = await asyncio.shield(entering)
        except asyncio.CancelledError:
            # Starting can't be interrupted: what has begun is awaited, and undone.
            await asyncio.wait({entering})
            if entering.exception() is None:
                await self.leave(entering.result())
            raise
        try:
            yield life
        except BaseException:
            await self.leave(life)
            raise

    async def leave(self, life: int) -> None:
        """End one client's part; with the last one Ray ends."""
        await asyncio.shield(asyncio.to_thread(self._leave, life))

    def _enter(self, settings: Settings) -> int:
        with self._turn:
            if self._users and not self._ray.running():
                self._users = 0  # somebody called `ray.shutdown()` under the clients
                self._stores.clear()
            if not self._users:
                self._keeper = Keeper(self._ray, settings)
                self._life += 1
                self._gpus = settings.num_gpus
            elif settings.num_gpus not in (None, self._gpus):
                raise BadRequest(
                    f"the Ray of this process was started with num_gpus={self._gpus}, not "
                    f"{settings.num_gpus}; close its clients first"
                )
            self._users += 1
            return self._life

    def _leave(self, life: int) -> None:
        with self._turn:
            if life == self._life and self._users:
                self._users -= 1
                if not self._users and self._keeper is not None:
                    self._stores.clear()
                    keeper, self._keeper = self._keeper, None
                    keeper.stop()

    @asynccontextmanager
    async def store(self, settings: Settings) -> AsyncIterator[OpenStore]:
        """The store that settings name, while no other client opens or closes it.

        Raises `BadRequest` if it is open with other settings.
        """
        store = self._store(settings)
        async with _turn(store):
            if not store.users:
                store.settings = settings.replace(namespace=store.settings.namespace)
            _check_same(store.settings, settings)
            yield store

    @asynccontextmanager
    async def left(self, store: OpenStore) -> AsyncIterator[bool]:
        """One client's part in a store ends; whether its shards are to be ended now."""
        async with _turn(store):
            store.users -= 1
            with self._turn:
                there = store in self._stores.values()  # else its Ray is gone, and another one may be there
            yield there and not store.users

    def _store(self, settings: Settings) -> OpenStore:
        url = local_directory(settings.store) or settings.store
        with self._turn:
            store = self._stores.get(url)
            if store is None:
                namespace = settings.namespace
                if any(s.settings.namespace == namespace for s in self._stores.values()):
                    namespace += f"-{hashlib.blake2b(url.encode(), digest_size=4).hexdigest()}"
                store = self._stores[url] = OpenStore(settings.replace(namespace=namespace))
            return store


@asynccontextmanager
async def _turn(store: OpenStore) -> AsyncIterator[None]:
    """Wait for the store's lock, which clients on other threads hold for as long as they await something."""
    while not store.turn.acquire(blocking=False):  # noqa: ASYNC110 - asyncio's events are of one loop each
        await asyncio.sleep(TURN_SECONDS)
    try:
        yield
    finally:
        store.turn.release()


def _check_same(running: Settings, wanted: Settings) -> None:
    """Refuse settings that a store's shards can't have, since they run with others: no silent half."""
    for one in dataclasses.fields(Settings):
        has, asked = getattr(running, one.name), getattr(wanted, one.name)
        if one.name not in NOT_OF_SHARDS and has != asked:
            raise BadRequest(
                f"store {wanted.store} is open in this process with {one.name}={has!r}, not {asked!r}; close "
                "its clients first, or give another store"
            )
