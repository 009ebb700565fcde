"""An Amber of one's own, or the cluster's: the `Service` is the engine itself, in this process.

Only doors: the engine and Ray are imported when somebody walks through. Must not know: Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from amber_ray.client.own_ray import NOT_OF_SHARDS, OwnRay
from amber_ray.client.registered import Opened
from amber_ray.core.deliveries.policy import Policy
from amber_ray.errors import Unavailable
from amber_ray.settings import Settings

TOKEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Where a user names the token of a Ray: the token itself, or a file."""


async def start(settings: Settings, features: Sequence[Any] = (), catalogue: Any = None) -> Opened:
    """An engine on `settings.store`, on the local Ray of this process, which is started if there is none.

    `features` are this program's own functions; `catalogue` is what this process knows of the store's assets
    already. Raises `StoreBusy` if another Amber has the store open,
    `DeclarationError` for impossible features, `BadRequest` if this process has the store open with other
    settings.
    """
    Policy.of(settings)
    prepare()
    cluster, start_engine, registrar = _doors("an embedded Amber")

    async with _importing(), RAY.entered(settings) as life:
        async with RAY.store(settings) as store:
            own = {name: getattr(settings, name) for name in NOT_OF_SHARDS if name != "namespace"}
            try:
                engine = await start_engine(
                    store.settings.replace(**own),
                    features=features,
                    warm=not store.users,
                    catalogue=catalogue,
                )
            except BaseException:
                if not store.users:
                    await cluster.close_shards(store.settings)
                raise
            store.users += 1

        async def close() -> None:
            try:
                async with RAY.left(store) as last:
                    if last:
                        await cluster.close_shards(store.settings)
            finally:
                await RAY.leave(life)

        return Opened(engine, close, registrar(engine))


class LocalRay:
    """Implements `own_ray.Ray`."""

    def start(self, settings: Settings) -> None:
        """See `launch`."""
        launch(settings)

    def running(self) -> bool:
        """See `own_ray.Ray`."""
        cluster, _, _ = _doors("a local Ray")
        return bool(cluster.running())

    def stop(self) -> None:
        """See `own_ray.Ray`."""
        cluster, _, _ = _doors("a local Ray")
        cluster.stop()


RAY = OwnRay(LocalRay())
"""The Ray of this process."""


def prepare() -> None:
    """Set the variables of a Ray that this process is about to start, where the user has not set them.

    Ray takes its authentication mode from the environment when it is first imported, the rest when it starts.
    If it was imported before, the mode is left to Ray, which turns tokens on for a local cluster by itself.
    """
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    cluster, _, _ = _doors("a local Ray")
    for name, value in cluster.environment().items():
        if name != "RAY_AUTH_MODE":
            os.environ.setdefault(name, value)


def launch(settings: Settings) -> None:
    """Start a local Ray, once `prepare` has been called, with a new token unless the user has named one.

    Ray would make one itself and keep it in the user's home, readable by all, where every Ray that is started
    later finds it and asks for it too. The processes of this Ray inherit the variable, and Ray has read it
    here by the end; then it goes, since this process may join other clusters later, with tokens of their own.
    """
    cluster, _, _ = _doors("a local Ray")
    named = any(map(os.environ.get, TOKEN)) or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token"
    if not named:
        os.environ[TOKEN[0]] = secrets.token_hex(32)
    try:
        cluster.start_local(settings)
    finally:
        if not named:
            del os.environ[TOKEN[0]]


async def join(address: str, settings: Settings, features: Sequence[Any] = (), *, own: bool) -> Opened:
    """The Amber of the cluster at `address` ("auto": the one this program runs in), from inside it.

    One that runs there is joined as it is; if there is none, or `own` settings were given, one is made (or
    found to have the same settings).
    """
    cluster, start_engine, registrar = _doors("joining a cluster")
    if address == "auto":
        # The cluster that this program runs in may be the one that it has started.
        opened = await asyncio.to_thread(RAY.open_in, settings.namespace)  # waits while another Ray starts
        if opened is not None:
            mine = {"features": settings.features, "media_roots": settings.media_roots}
            return await start(settings if own else opened.replace(**mine), features)

    async def leave() -> None:
        """Ray stays connected: other clients of this process may use it."""

    async with _importing():
        await asyncio.to_thread(cluster.connect, address, settings.namespace)
    if not own:
        try:
            engine = await start_engine(settings, features=features, create=False)
            return Opened(engine, leave, registrar(engine))
        except Unavailable:
            pass  # None runs here yet; several programs may make it at once, and get the same one.
    engine = await start_engine(settings, features=features)
    return Opened(engine, leave, registrar(engine))


@contextlib.asynccontextmanager
async def _importing() -> AsyncIterator[None]:
    """Import what the first question would wait for, beside what waits for other processes here."""
    from amber_ray.media.catalogue import prepare

    beside = asyncio.create_task(asyncio.to_thread(prepare))
    try:
        yield
    finally:
        await beside


def _doors(what: str) -> tuple[Any, Any, Any]:
    try:
        from amber_ray.fabric.adapter import cluster
        from amber_ray.fabric.adapter.engine_start import start_engine
        from amber_ray.fabric.adapter.registering import EngineRegistrar
    except ModuleNotFoundError as error:
        raise Unavailable(f"{what} needs the package {error.name!r}; install it") from error
    return cluster, start_engine, EngineRegistrar
