"""The way out: one POST to a URL that a caller chose, over a connection whose address was checked.

A name is looked up once for each attempt, every address it leads to is checked, and one of those very
addresses is connected to: a name that leads elsewhere a moment later leads nowhere. TLS and `Host` keep the
name. httpcore makes the request, whose network is replaced here; it follows no redirect, asks no proxy, reads
no environment. Must not know: what is sent.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpcore
import httpx

from amber_ray.core.deliveries.addresses import Network, refusal
from amber_ray.core.deliveries.policy import Policy
from amber_ray.core.deliveries.record import Outcome
from amber_ray.core.deliveries.urls import CallbackUrl
from amber_ray.settings import Settings

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 20.0
BODY_BYTES = 64 * 1024
"""So much of an answer is read, for a receiver that minds; nothing in it counts."""
TRIED = 4
"""Addresses of one name that are tried."""
LOOK_UPS = 8
"""Names looked up at once. Threads of their own: a resolver that hangs must not hold up the store."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Says which addresses a name leads to. Raises `OSError`."""


class AddressRefused(Exception):
    """A name leads to an address that settings do not allow."""


class Resolver:
    """The operating system's look-up of names."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="amber-names")

    async def __call__(self, host: str, port: int) -> list[str]:
        """See `Resolve`."""

        def look_up() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(address[0]) for *_, address in found))

        return await asyncio.get_running_loop().run_in_executor(self._threads, look_up)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to what a name leads to, if settings allow all of that."""

    def __init__(self, resolve: Resolve, allowed: Sequence[Network]) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look the name up, check all of its addresses, and connect to the first that answers."""
        addresses = await self._resolve(host, port)
        for address in addresses:
            if why := refusal(address, self._allowed):
                raise AddressRefused(f"{host} leads to {why}, which callback_addresses does not allow")
        trouble: Exception = OSError(f"{host} has no address")
        for address in addresses[:TRIED]:
            try:
                return await self._network.connect_tcp(
                    address, port, timeout=timeout, local_address=local_address, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
        raise trouble

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never asked for: no URL leads to one."""
        raise AddressRefused("a socket of this machine can't be called")

    async def sleep(self, seconds: float) -> None:
        """See `httpcore.AsyncNetworkBackend`."""
        await asyncio.sleep(seconds)


class HttpSender:
    """Implements `shard.ports.Sender`. A connection for each message: the next may have to go elsewhere."""

    def __init__(self, settings: Settings, resolve: Resolve | None = None) -> None:
        self._network = CheckedNetwork(resolve or Resolver(), Policy.of(settings).networks)
        self._tls: ssl.SSLContext | None = None

    async def post(self, url: CallbackUrl, headers: Mapping[str, str], body: bytes) -> Outcome:
        """See `Sender.post`."""
        origin = url.origin
        target = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=url.target)
        host = str(origin).partition("://")[2]
        seconds = {"connect": CONNECT_SECONDS, **dict.fromkeys(("read", "write", "pool"), ANSWER_SECONDS)}
        try:
            async with (
                httpcore.AsyncConnectionPool(
                    ssl_context=await self._trusted() if origin.scheme == "https" else None,
                    max_connections=1,
                    max_keepalive_connections=0,
                    network_backend=self._network,
                ) as pool,
                pool.stream(
                    "POST",
                    target,
                    headers=[("host", host), ("connection", "close"), *headers.items()],
                    content=body,
                    extensions={"timeout": seconds},
                ) as response,
            ):
                answered = {name.lower(): value for name, value in response.headers}
                await _drain(response)
        except AddressRefused as error:
            return Outcome(error=str(error))
        except (
            *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException),
            *(httpcore.UnsupportedProtocol, OSError, UnicodeError),
        ) as error:
            return Outcome(error=f"no answer: {type(error).__name__}: {error}".rstrip(": "))
        later = answered.get(b"retry-after")
        return Outcome(response.status, None if later is None else later.decode("latin-1"))

    async def _trusted(self) -> ssl.SSLContext:
        """The authorities that are trusted, read once: that takes a while."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(httpx.create_ssl_context)
        return self._tls


async def _drain(response: httpcore.Response) -> None:
    """Read a bounded part of an answer's body; one that breaks off has answered all the same."""
    left = BODY_BYTES
    try:
        async for chunk in response.aiter_stream():
            left -= len(chunk)
            if left <= 0:
                return
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        return
