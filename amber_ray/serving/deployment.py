"""Amber on Ray Serve: the replica, the builder that Serve's config files name, and a server of one's own.

The replica is a shell around `create_app`: everything that can be tested without Ray is there. This is the
only file of this room that imports Ray, and it does so as late as it can: Ray reads its environment when it
is imported, and `environment` says what that should be.

    serve deploy deployments/serve.yaml        `build` makes the application from the file's `args`
    amber serve                                `environment`, then Ray, then `run` ... `shutdown`
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from amber_ray.core.deliveries.policy import Policy
from amber_ray.core.model.service import Service
from amber_ray.errors import BadRequest, Unavailable
from amber_ray.serving import console, front
from amber_ray.serving.app import ONGOING, create_app
from amber_ray.serving.drain import LATE_SECONDS, Drain
from amber_ray.serving.inflow import slow_down
from amber_ray.serving.keyring import Keyring
from amber_ray.serving.origins import ANY
from amber_ray.settings import Settings
from amber_ray.store.tokens import TokenBook

if TYPE_CHECKING:
    from ray import serve

    from amber_ray.serving.app_context import TextRegistrar

log = logging.getLogger("amber.serving")

Start = Callable[[Settings], Any]
"""What makes a replica's service: a coroutine function."""

APPLICATION = "amber"
READY_SECONDS = 120.0
"""Longest wait for an answer through the front port: replicas read the registry and find the cache actors."""
CLOSE_SECONDS = 10.0
TOKENS, CALLBACK_SECRETS = "AMBER_TOKENS", "AMBER_CALLBACK_SECRETS"
"""Secrets separated by commas, for `build`: they come to containers by their environment."""


def environment(settings: Settings) -> dict[str, str]:
    """Variables that must be set before Ray starts, for a server of one's own.

    Raises `BadRequest` for an open host without tokens and for callbacks that can't be made as they are set,
    `Unavailable` if the port is taken.
    """
    _refuse_unsafe(settings)
    Policy.of(settings)
    front.refuse_taken(settings)
    return front.environment(settings)


def build(args: dict[str, Any]) -> serve.Application:
    """The application for a Serve config file; `args` are fields of `Settings`. Raises `BadRequest`.

    Tokens and the secrets of callbacks may come by the environment instead (`AMBER_TOKENS`,
    `AMBER_CALLBACK_SECRETS`), and so may what OpenTelemetry's own variables say of traces.
    """
    settings = Settings.from_mapping(args)
    if not settings.tokens:
        settings = settings.replace(tokens=_listed(TOKENS))
    if not settings.callback_secrets:
        settings = settings.replace(callback_secrets=_listed(CALLBACK_SECRETS))
    from amber_ray.fabric.adapter import tracing

    return application(tracing.from_environment(settings, os.environ))


def _listed(variable: str) -> tuple[str, ...]:
    """The words of an environment variable, separated by commas."""
    words = (word.strip() for word in os.environ.get(variable, "").split(","))
    return tuple(word for word in words if word)


def application(
    settings: Settings, start: Start | None = None, code: bytes | None = None
) -> serve.Application:
    """The application for `settings`; `start` (for tests) makes the service instead of the engine.

    `code`: the features as `Engine.code` has them. Without it each replica loads what settings name.
    """
    from ray import serve
    from ray.serve.config import BackpressureConfig
    from ray.serve.schema import LoggingConfig

    _refuse_unsafe(settings)
    Policy.of(settings)
    deployed: Any = serve.deployment(
        name="http",
        num_replicas=settings.replicas,
        # Above the app's own bound, so that its 429 with a reason comes before Serve's bare 503.
        max_ongoing_requests=ONGOING + 256,
        max_queued_requests=1024,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=1),
        # It plans, encodes and waits: CPUs are for features.
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=5,
        health_check_timeout_s=30,
        graceful_shutdown_timeout_s=settings.drain_seconds + LATE_SECONDS + CLOSE_SECONDS,
        graceful_shutdown_wait_loop_s=0.2,
        logging_config=LoggingConfig(enable_access_log=False),
    )
    bound: serve.Application = deployed(serve.ingress()(Replica)).bind(settings.to_json(), start, code)
    return bound


def run(settings: Settings, start: Start | None = None) -> str:
    """Serve on the Ray that this process is connected to; the URL, once it answers.

    `environment` must have been set before that Ray started. Raises what the engine raises when it starts
    (`DeclarationError`, `StoreBusy`), and `Unavailable` if nothing answers in time.
    """
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    code = asyncio.run(_start_both(settings, start))
    serve.run_many(
        [serve.RunTarget(application(settings, start, code), name=APPLICATION, route_prefix="/")],
        wait_for_applications_running=False,
    )
    until = time.monotonic() + READY_SECONDS
    _await_running(until)
    host = "127.0.0.1" if settings.host in ("localhost", "0.0.0.0", "::") else settings.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    _await_answer(f"{url}/healthz", until)
    return url


def submit(config: Mapping[str, Any], dashboard: str) -> None:
    """Have a cluster deploy a Serve config, as `serve deploy` does. Raises `Unavailable`."""
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    try:
        ServeSubmissionClient(dashboard).deploy_applications(dict(config))
    except (OSError, RuntimeError) as error:
        raise Unavailable(f"the cluster's dashboard at {dashboard} does not take it: {error}") from error


def shutdown() -> None:
    """Stop serving: the replicas let go of the engine, HAProxy ends, its files go. Ray goes on."""
    import ray
    from ray import serve

    if ray.is_initialized():  # otherwise Serve would start a Ray to ask
        serve.shutdown()  # type: ignore[no-untyped-call]
    front.remove(os.environ.get("RAY_SERVE_HAPROXY_SERVER_STATE_BASE"))


async def _engine(settings: Settings, code: bytes | None = None) -> Service:
    from amber_ray.fabric.adapter.engine_start import start_engine

    engine: Service = await start_engine(settings, code=code, reading=False)
    return engine


def _registrar(service: Service) -> TextRegistrar | None:
    from amber_ray.fabric.adapter.registering import TextRegistrar
    from amber_ray.fabric.engine.engine import Engine

    return TextRegistrar(service) if isinstance(service, Engine) else None


async def _start_both(settings: Settings, start: Start | None) -> bytes | None:
    """Start Serve while the service is rehearsed: each waits for processes that are not the other's.

    Returns the code of its features, which replicas then need not find out again.
    """
    from ray import serve

    behind_haproxy = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
    host = front.serve_host(settings) if behind_haproxy else settings.host
    options = {"host": host, "port": settings.port}
    starting = _beside(functools.partial(serve.start, proxy_location="HeadOnly", http_options=options))
    try:
        code = await _rehearse(settings, start)
    except Exception:
        await asyncio.wait({starting})
        if (other := starting.exception()) is not None:
            log.warning("Serve did not start either: %s", other)
        raise
    await starting
    return code


def _beside(call: Callable[[], object]) -> asyncio.Future[None]:
    """Run a call on a thread of its own that nobody waits for who is interrupted, as an executor's are."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            call()
        except BaseException as raised:  # noqa: BLE001 - it is raised where it is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: whoever waited was interrupted
            loop.call_soon_threadsafe(settle, error)

    threading.Thread(target=run, name="amber-serve-start", daemon=True).start()
    return done


async def _rehearse(settings: Settings, start: Start | None) -> bytes | None:
    """Start and close a service here first: what is wrong is raised as itself, not as a replica's text.

    Returns the code of its features, if it is an engine.
    """
    from amber_ray.fabric.engine.engine import Engine

    service = await (start or _engine)(settings)
    await service.aclose()
    return service.code if isinstance(service, Engine) else None


def _await_running(until: float) -> None:
    from ray import serve

    while time.monotonic() < until:
        told = serve.status().applications.get(APPLICATION)
        status = told.status if told is not None else "NOT_STARTED"
        if status == "RUNNING":
            return
        if told is not None and status in ("DEPLOY_FAILED", "UNHEALTHY"):
            # The replica's own words come last in what Serve tells of it, below a traceback.
            words = [
                line for d in told.deployments.values() for line in d.message.splitlines() if line.strip()
            ]
            raise Unavailable(f"the HTTP replicas did not start: {(words or [told.message])[-1].strip()}")
        time.sleep(0.05)
    raise Unavailable(f"the HTTP replicas did not start within {READY_SECONDS:g} s")


def _await_answer(url: str, until: float) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    reason: Exception | None = None
    while time.monotonic() < until:
        try:
            with opener.open(url, timeout=5):
                return
        except (OSError, urllib.error.URLError) as error:
            reason = error
            time.sleep(0.05)
    raise Unavailable(f"nothing answered at {url} within {READY_SECONDS:g} s: {reason}")


def _refuse_unsafe(settings: Settings) -> None:
    """See `front.refuse_unsafe`; looks at the store's tokens where it hangs on them."""
    hangs = not settings.tokens and (not front.is_loopback(settings.host) or ANY in settings.allow_origins)
    front.refuse_unsafe(settings, hangs and TokenBook(settings.store).read().any)


def _refuse_open_front() -> None:
    """Without tokens, raise unless Serve's front listens on loopback only.

    Behind an open front every caller looks like this machine. A config file says where Serve listens beside
    the application's own settings, so the two can disagree, and Serve in HAProxy mode listens everywhere
    unless it is told otherwise.
    """
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    host = None if client is None else client.http_config.host
    if host is None or not front.is_loopback(host):
        raise BadRequest(
            f"Serve listens on {host}, where other machines reach it, and there are no API tokens; "
            f"make tokens (amber token new), give them ({TOKENS} in the environment), "
            f"or set http_options: host: {front.LOOPBACK}"
        )


def _keep_to_this_machine() -> None:
    """Narrow the port for calls between replicas, which Serve opens on every interface, to loopback.

    It takes pickled arguments, guarded by Ray's token alone, and nothing of Amber's uses it.
    """
    from ray.serve._private import replica as serving

    narrowed = "add_port_to_grpc_server"
    if hasattr(serving, narrowed):  # a private name: where it is gone, Ray's token still guards the port
        add: Callable[[Any, str], int] = getattr(serving, narrowed)
        setattr(serving, narrowed, lambda server, address: add(server, f"{front.LOOPBACK}:0"))


def _when_stopped(tell: Callable[[], object]) -> None:
    """Have `tell` called as soon as Serve stops this replica: the destructor is for when nobody waits.

    Serve calls it on its own event loop, which need not be the app's.
    """
    from ray.serve._private import replica as serving

    replica: Any = getattr(serving, "Replica", None)
    stop: Any = getattr(replica, "perform_graceful_shutdown", None)
    if stop is None:  # a private name: where it is gone, Serve waits as long as it was told to
        return

    async def stop_and_tell(self: Any) -> None:
        tell()
        await stop(self)

    replica.perform_graceful_shutdown = stop_and_tell


class Replica:
    """One HTTP process. Serve cancels its handlers when their callers disconnect; work is not in them."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: str, start: Start | None = None, code: bytes | None = None
    ) -> None:
        self._settings = Settings.from_json(settings)
        self._service: Service | None = None
        self._drain = Drain()
        from amber_ray.fabric.adapter import logs

        logs.attach(self._settings)
        if self._settings.console:
            self._following = asyncio.create_task(console.follow(self._settings.console, self._end))
        loop = asyncio.get_running_loop()
        _when_stopped(lambda: loop.call_soon_threadsafe(self._begin_to_end, False))
        self._keyring = Keyring(self._settings.tokens, TokenBook(self._settings.store))
        await self._keyring.current()
        if not self._keyring.locked:
            _refuse_open_front()
            _keep_to_this_machine()
        start = start or functools.partial(_engine, code=code)
        self._service = await start(self._settings)

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve after the constructor.

        A bare function and not the Starlette app: Serve would match every request against an app's routes a
        second time, for a label of its metrics.
        """
        assert self._service is not None
        from amber_ray.fabric.adapter import tracing

        # Serve echoes X-Request-Id itself.
        app = create_app(
            self._service,
            self._settings,
            echo=False,
            drain=self._drain,
            keyring=self._keyring,
            registrar=_registrar(self._service),
            tracer=tracing.tracer(self._settings),
        )
        from amber_ray.fabric import heap

        heap.settle()

        async def bounded(scope: Any, receive: Any, send: Any) -> None:
            slow_down(receive)
            await app(scope, receive, send)

        return bounded

    def _begin_to_end(self, refuse: bool) -> None:
        self._drain.begin(self._settings.drain_seconds, refuse=refuse)

    async def _end(self) -> None:
        """Answer those who wait, refuse whoever comes; returns when nobody waits, or time is up."""
        self._begin_to_end(True)
        try:
            async with asyncio.timeout(self._settings.drain_seconds + LATE_SECONDS):
                await self._drain.ended()
        except TimeoutError:
            log.warning("%d requests are cut off: they took too long to end", self._drain.ongoing)

    async def __del__(self) -> None:
        """Called by Serve when the replica is told to stop, also one that could not start."""
        if self._service is None:
            return
        from amber_ray.fabric.adapter import tracing

        async with asyncio.timeout(CLOSE_SECONDS):
            await self._service.aclose()
            await tracing.flush()
