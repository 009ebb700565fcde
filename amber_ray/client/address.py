"""`connect` and `aconnect`: from an address to a client, four ways.

    None                     an Amber of one's own: the store on disk, and a local Ray in this process's name
                             from the first question on that takes more than reading the store
    "http://host:port"       a server, over HTTP (https too)
    "ray://host:port"        a cluster, from outside, through Ray Client
    "auto"                   the cluster that this program runs in
    "host:port"              what is there: a server, or the head of a cluster

Must not know: what lies behind an address; each way is imported only when taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Generator, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

from amber_ray.client.api import DEFAULT_TIMEOUT, AsyncClient
from amber_ray.client.declared import FeatureSource
from amber_ray.client.loop import Loop
from amber_ray.client.names import feature_name
from amber_ray.client.registered import Opened, Remembering
from amber_ray.client.sync import Client
from amber_ray.errors import BadRequest, Unavailable
from amber_ray.settings import Settings

PROBE_SECONDS = 3.0
"""How long somebody at an address without a scheme may take to say that it speaks HTTP."""
WEB = ("http://", "https://")
REMOTE = (*WEB, "ray://")


def connect(
    address: str | None = None,
    *,
    features: Iterable[FeatureSource] = (),
    media_roots: Iterable[str | os.PathLike[str]] = (),
    store: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    token: str | None = None,
    tenant: str = "default",
    timeout: float = DEFAULT_TIMEOUT,
) -> Client:
    """A client of the Amber at `address`; use it in a `with`, or close it.

    Args:
        address: None, "http://host:port", "ray://host:port", or "auto" in a cluster. Of "host:port" it is
            found out whether an HTTP server or a Ray cluster answers there.
        features: modules, `.py` files and decorated functions to register beside the built-in features.
        media_roots: the only folders media is read from. By default any file that this process may read.
        store: the directory or URL of the stored values, by default `./amber-store`.
        settings: everything else, for an Amber of one's own, such as `Settings(segment_seconds=5)`; the
            arguments above take precedence.
        token: the API token of an HTTP server.
        tenant: in whose name to ask.
        timeout: seconds that a call without its own timeout may take.

    Raises `BadRequest` for an address that is none, `Unavailable` if nobody answers there.
    """
    way = _Way.of(address, features, media_roots, store, settings, token)
    loop = Loop()
    try:
        client = loop.run(way.client(timeout, tenant))
    except BaseException:
        loop.close()
        raise
    return Client(client, loop)


def aconnect(
    address: str | None = None,
    *,
    features: Iterable[FeatureSource] = (),
    media_roots: Iterable[str | os.PathLike[str]] = (),
    store: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    token: str | None = None,
    tenant: str = "default",
    timeout: float = DEFAULT_TIMEOUT,
) -> Connecting:
    """`connect` for asyncio programs: takes the same, gives an `AsyncClient` for this event loop.

    Await it, or use it in an `async with`, which also closes the client.
    """
    way = _Way.of(address, features, media_roots, store, settings, token)
    return Connecting(lambda: way.client(timeout, tenant))


class Connecting:
    """A client that is being connected: `await` gives it, `async with` gives it and closes it at the end."""

    def __init__(self, opened: Callable[[], Coroutine[Any, Any, AsyncClient]]) -> None:
        self._opened = opened
        self._client: AsyncClient | None = None

    def __await__(self) -> Generator[Any, None, AsyncClient]:
        return self._opened().__await__()

    async def __aenter__(self) -> AsyncClient:
        self._client = await self._opened()
        return self._client

    async def __aexit__(self, *exc: object) -> None:
        if self._client is not None:
            await self._client.aclose()


@dataclass(frozen=True, slots=True)
class _Way:
    """How to reach an address. `own` says that the caller named settings, `functions` are its features."""

    address: str | None
    settings: Settings
    functions: tuple[Callable[..., Any], ...]
    own: bool
    token: str | None

    @classmethod
    def of(
        cls,
        address: str | None,
        features: Iterable[FeatureSource],
        media_roots: Iterable[str | os.PathLike[str]],
        store: str | os.PathLike[str] | None,
        settings: Settings | None,
        token: str | None,
    ) -> Self:
        """Check what was given; `BadRequest` for an address that is none and for what belongs to a server."""
        if isinstance(features, str | os.PathLike) or isinstance(media_roots, str | os.PathLike):
            raise BadRequest("features and media_roots are lists, such as features=['my_features.py']")
        if address is not None and ("://" in address or not address) and not address.startswith(REMOTE):
            raise BadRequest(
                f"address must be None, 'http(s)://host:port', 'ray://host:port' or 'auto', not {address!r}"
            )
        given = tuple(features)
        functions = tuple(f for f in given if not isinstance(f, str | os.PathLike | ModuleType))
        for function in functions:
            feature_name(function)
        sources = tuple(source_name(f) for f in given if isinstance(f, str | os.PathLike | ModuleType))
        roots = tuple(_place(r) for r in media_roots)
        own = bool(given or roots or store is not None or settings is not None)
        if own and address is not None and address.startswith(REMOTE):
            raise BadRequest(_of_the_server(address))
        if token is not None and not (address or "").startswith(WEB):
            raise BadRequest("a token is for an HTTP server: give its http:// or https:// address")
        base = settings or Settings()
        made = base.replace(
            features=(*base.features, *sources),
            media_roots=roots or base.media_roots or (os.path.abspath(os.sep),),
            store=_place(base.store if store is None else store),
        )
        return cls(address, made, functions, own, token)

    async def client(self, timeout: float, tenant: str) -> AsyncClient:
        """A client of the service at the address."""
        opened = await self.open()
        return AsyncClient(
            opened.service,
            timeout=timeout,
            tenant=tenant,
            closing=opened.closing,
            registrar=opened.registrar,
            own=tuple(map(feature_name, self.functions)),
            place=self.address or "this Amber",
            where=self.address or self.settings.store,
        )

    async def open(self) -> Opened:
        """The service at the address, what is left to do once it is closed, and what takes features."""
        if self.address is None:
            return await self._embedded()
        if self.address.startswith(WEB):
            return await self._web(self.address)
        if self.address.startswith("ray://"):
            from amber_ray.client.ray import connect_ray

            service = await connect_ray(self.address, self.settings)
            return Opened(service, None, service)
        if ":" in self.address and await _speaks_http(self.address):
            if self.own:
                raise BadRequest(_of_the_server(self.address))
            return await self._web(f"http://{self.address}")
        from amber_ray.client.embedded import join

        return await join(self.address, self.settings, self.functions, own=self.own)

    async def _web(self, url: str) -> Opened:
        from amber_ray.client.http import HttpService

        http = HttpService(url, self.token)
        try:
            await http.ping()
        except BaseException:
            await http.aclose()
            raise
        return Opened(http, None, http)

    async def _embedded(self) -> Opened:
        from amber_ray.client.lazy import LazyService

        service = await LazyService.opened(self.settings, self.functions)
        return Opened(service, None, Remembering(service, self.settings.store))


def _of_the_server(address: str) -> str:
    return (
        f"features, media_roots, store and settings belong to the server at {address}: "
        "give them to `amber serve`"
    )


async def _speaks_http(address: str) -> bool:
    """Whether a web server listens at "host:port", not a cluster. `Unavailable` if nobody does."""
    import httpx

    try:
        async with httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False) as client:
            await client.get(f"http://{address}/healthz")
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unavailable(
            f"nobody answers at {address}: give the http:// address of a server, ray://host:10001 of a "
            "cluster, or 'auto' in one"
        ) from error
    except httpx.InvalidURL as error:
        raise BadRequest(f"{address!r} is not 'host:port'") from error
    except httpx.HTTPError:
        return False  # it answered something else, or nothing
    return True


def _place(path: str | os.PathLike[str]) -> str:
    """A URL as it is, a path absolute: workers have other working directories."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def source_name(source: str | os.PathLike[str] | ModuleType) -> str:
    """A module's name, or a file's absolute path, as `Settings.features` takes it."""
    if not isinstance(source, ModuleType):
        name = os.fspath(source)
        return os.path.abspath(os.path.expanduser(name)) if name.endswith(".py") else name
    file: str | None = getattr(source, "__file__", None)
    if source.__name__ != "__main__":
        return source.__name__
    if file is None:
        raise BadRequest("an interpreter's session is no module: give the decorated functions themselves")
    return os.path.abspath(file)
