from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import amber_ray
from amber_ray import errors
from amber_ray.client import AsyncClient, Client, Future, exchange
from amber_ray.client import address as addresses
from amber_ray.client.http import HttpService
from amber_ray.client.loop import Loop
from amber_ray.client.names import asset_ref, feature_names, named_assets, priority_of
from amber_ray.client.progress import ProgressBar
from amber_ray.client.retry import backoff
from amber_ray.client.sse import events
from amber_ray.client.version_lock import compare, read, record
from amber_ray.client.windows import windows
from amber_ray.core.model.callback import Callback
from amber_ray.core.model.request import AssetRef, Failure, Priority, RequestView
from amber_ray.core.model.service import RequestEvent
from amber_ray.core.values.annotations import Array, Bytes, Json, ListOf, Optional, Scalar, Struct, Table
from amber_ray.serving.app import create_app
from amber_ray.settings import Settings
from amber_ray.wire.inline import decoded
from tests.unit.gated_service import JPEG, GatedService

BOUND = 20.0
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def service() -> GatedService:
    made = GatedService()
    made.put("/a.mp4")
    made.put("/b.mp4")
    made.put("/long.mp4", duration=100.0)
    return made


def over_http(service: GatedService, **settings: Any) -> HttpService:
    """The real HTTP client against the real app, without sockets."""
    app = create_app(service, Settings(**settings))
    return HttpService("http://127.0.0.1:8000", transport=httpx.ASGITransport(app))


@pytest.fixture(params=["direct", "http"])
def client(request: pytest.FixtureRequest, service: GatedService) -> Iterator[Client]:
    """One interface over both transports: every story below holds for each."""
    loop = Loop()
    carrier = service if request.param == "direct" else over_http(service)
    made = Client(AsyncClient(carrier, timeout=BOUND), loop)
    yield made
    made.close()


# What get gives


def test_one_asset_gives_one_value(client: Client) -> None:
    assert client.get("size", "/a.mp4") == 6
    assert client.get("picture", "/a.mp4") == JPEG


def test_a_list_of_assets_gives_a_list_in_order(client: Client) -> None:
    assert client.get("size", ["/long.mp4", "/a.mp4", "/long.mp4"]) == [9, 6, 9]


def test_a_feature_per_segment_gives_its_segments_in_order(client: Client) -> None:
    found = client.get("vector", "/a.mp4")
    assert [float(v[0]) for v in found] == [0.0, 1.0, 2.0]
    assert all(v.dtype == np.float32 for v in found)


def test_a_range_gives_only_the_segments_it_touches(client: Client) -> None:
    assert len(client.get("vector", "/long.mp4", range=(15, 31))) == 3


def test_a_feature_per_collection_takes_a_list_and_gives_one_value(client: Client) -> None:
    assert client.get("similar", ["/a.mp4", "/b.mp4"]) == {"assets": 2}


def test_nan_and_empty_arrays_come_through(client: Client) -> None:
    assert np.isnan(client.get("score", "/a.mp4"))
    empty = client.get("odd", "/a.mp4")
    assert (empty.shape, empty.dtype) == ((0, 4), np.float32)


def test_what_did_not_come_along_is_loaded(client: Client, service: GatedService) -> None:
    service.large = {"vector", "picture"}
    assert len(client.get("vector", "/a.mp4")) == 3
    assert client.get("picture", "/a.mp4") == JPEG
    assert len(service.loaded) == 4


def test_a_failure_is_raised_as_its_class_with_the_step_and_the_traceback(client: Client) -> None:
    with pytest.raises(errors.FeatureError, match=r"^broken: .*it broke") as caught:
        client.get("broken", "/a.mp4")
    assert "Traceback: line 1" in caught.value.__notes__[0]
    with pytest.raises(errors.MediaNotFound) as missing:
        client.get("size", ["/a.mp4", "/none.mp4"])
    assert missing.value.__notes__ == ["asset: /none.mp4"]
    with pytest.raises(errors.MediaNotFound, match=r"nothing is at /none\.mp4"):
        client.get("size", "/none.mp4")
    with pytest.raises(errors.UnknownFeature, match="'sise'"):
        client.get("sise", "/a.mp4")


def test_get_takes_one_feature(client: Client) -> None:
    with pytest.raises(errors.BadRequest, match="get_many"):
        client.get("size,score", "/a.mp4")


# What get_many gives


def test_a_table_in_order_under_the_names_the_caller_used(client: Client, service: GatedService) -> None:
    b = service.assets["/b.mp4"]
    results = client.get_many(["size", "picture"], [b.id, "/a.mp4"], progress=False)
    assert list(results) == [("size", b.id), ("picture", b.id), ("size", "/a.mp4"), ("picture", "/a.mp4")]
    assert results["size", b] == results["size", b.id] == 6
    assert results["picture", Path("/a.mp4")] == JPEG
    assert results.state == "done"
    assert not results.failures
    assert service.added == []


def test_one_bad_asset_is_one_failure(client: Client) -> None:
    results = client.get_many(["size", "picture"], ["/a.mp4", "/none.mp4", "/b.mp4"], progress=False)
    assert list(results.failures) == [("size", "/none.mp4"), ("picture", "/none.mp4")]
    assert isinstance(results["size", "/none.mp4"], Failure)
    assert results.ready["size", "/b.mp4"] == 6
    with pytest.raises(errors.MediaNotFound) as caught:
        results.raise_for_failures()
    assert caught.value.__notes__[0] == "asset: /none.mp4"
    assert "1 more of 6" in caught.value.__notes__[-1]


def test_two_names_of_the_same_content_both_have_answers(client: Client, service: GatedService) -> None:
    service.put("/copy.mp4", content="/a.mp4")
    results = client.get_many("size", ["/copy.mp4", "/long.mp4", "/a.mp4", "/none.mp4"], progress=False)
    assert [results["size", n] for n in ("/copy.mp4", "/long.mp4", "/a.mp4")] == [6, 9, 6]
    assert list(results.failures) == [("size", "/none.mp4")]


def test_an_asset_refused_by_its_range_is_found_by_its_id(client: Client) -> None:
    results = client.get_many("vector", ["/a.mp4", "/long.mp4"], range=(50, 60), progress=False)
    assert "ends at 25" in results["vector", "/a.mp4"].message
    assert len(results["vector", "/long.mp4"]) == 1


def test_collections_stand_under_no_asset(client: Client) -> None:
    results = client.get_many(["similar", "size"], ["/a.mp4", "/none.mp4"], progress=False)
    assert results["similar", None] == {"assets": 1}
    assert list(results) == [("size", "/a.mp4"), ("size", "/none.mp4"), ("similar", None)]


def test_a_value_that_is_gone_fails_alone(client: Client, service: GatedService) -> None:
    service.large = {"size"}
    [row, _] = client.get_many("size", ["/a.mp4", "/long.mp4"], progress=False).rows
    service.lost = {row.key}
    results = client.get_many("size", ["/a.mp4", "/long.mp4"], progress=False)
    assert results["size", "/a.mp4"].type == "UnknownKey"
    assert results["size", "/long.mp4"] == 9


def test_windows_are_one_table(client: Client, service: GatedService) -> None:
    for i in range(7):
        service.put(f"/{i}.mp4", content="x" * i)
    names = [f"/{i}.mp4" for i in range(7)]
    results = client.get_many("size", names, window=3, progress=False, values=False)
    assert [asset for _, asset in results] == names
    assert [len(h.request.assets) for h in service.requests.values()] == [3, 3, 1]
    with pytest.raises(errors.TooLarge, match="similar"):
        client.get_many("similar", names, window=3, progress=False)


def test_progress_is_drawn_on_stderr_when_wanted(
    client: Client, service: GatedService, capsys: pytest.CaptureFixture[str]
) -> None:
    def later() -> None:
        assert service.arrived.wait(BOUND)
        service.release()

    helper = threading.Thread(target=later)
    helper.start()
    results = client.get_many("slow", "/a.mp4", progress=True)
    helper.join(BOUND)
    assert results["slow", "/a.mp4"] == 6
    shown = capsys.readouterr()
    assert "2/2" in shown.err
    assert shown.out == ""


def test_what_is_late_stands_in_the_table_as_expired(client: Client, service: GatedService) -> None:
    results = client.get_many(["slow"], ["/a.mp4", "/b.mp4"], timeout=0.05, progress=False)
    assert {f.type for f in results.failures.values()} <= {"Expired", "Cancelled"}
    assert len(results) == 2
    [held] = service.requests.values()
    assert held.request.deadline_seconds == 0.05
    assert service.cancelled == list(service.requests)


def test_get_past_its_timeout_is_withdrawn_and_expired(client: Client, service: GatedService) -> None:
    with pytest.raises(errors.Expired, match=r"slow was not ready after 0\.05 s"):
        client.get("slow", "/a.mp4", timeout=0.05)
    assert len(service.cancelled) == 1


# Futures


def test_who_submits_may_have_a_url_called_and_see_what_became_of_it(
    client: Client, service: GatedService
) -> None:
    url = "https://127.0.0.1/hook"
    future = client.submit("slow", "/a.mp4", callback={"url": url, "on": ["done"]})
    [held] = service.requests.values()
    assert held.request.callback == Callback(url, ("done",))
    [waiting] = client.deliveries(state="waiting")
    assert (waiting.request, waiting.url) == (future.id, "https://127.0.0.1/…")
    service.release()
    assert future.result(BOUND) == 6
    assert client.deliveries(state="waiting") == []
    assert client.replay(waiting.id).state == "pending"
    with pytest.raises(errors.BadRequest, match=r"callback\.on must be a list of done, failed, result"):
        client.submit("size", "/a.mp4", callback={"url": url, "on": ["ended"]})
    with pytest.raises(errors.BadRequest, match="callback_hosts do not name it"):
        client.submit("size", "/a.mp4", callback="https://other.example/")


def test_a_future_is_found_again_by_its_id(client: Client, service: GatedService) -> None:
    future = client.submit("slow", "/a.mp4")
    assert isinstance(future, Future)
    assert (future.done(), future.progress().total) == (False, 2)
    with pytest.raises(errors.Expired, match="still running"):
        future.result(timeout=0.05)
    again = client.future(future.id)
    service.release()
    assert future.result(BOUND) == 6
    assert again.result(BOUND)["slow", service.assets["/a.mp4"]] == 6
    assert future.done()
    assert not future.cancel()
    assert service.cancelled == []
    with pytest.raises(errors.UnknownRequest):
        client.future("no-such-request")


def test_a_list_of_features_gives_a_table(client: Client) -> None:
    table = client.submit(["size", "score"], "/a.mp4").result(BOUND)
    assert table["size", "/a.mp4"] == 6
    assert client.submit("broken", "/a.mp4").results().failures


def test_a_cancelled_future_says_so(client: Client) -> None:
    future = client.submit("slow", "/a.mp4")
    assert future.cancel()
    with pytest.raises(errors.Cancelled):
        future.result(BOUND)


def test_a_callback_may_ask_for_the_result(client: Client, service: GatedService) -> None:
    told = threading.Event()
    found: list[Any] = []

    def ended(future: Future) -> None:
        found.append(future.result(BOUND))
        told.set()

    client.submit("slow", "/a.mp4").add_done_callback(ended)
    service.release()
    assert told.wait(BOUND)
    assert found == [6]


async def test_async_futures_are_awaited(service: GatedService) -> None:
    async with AsyncClient(service, timeout=BOUND) as client:
        future = await client.submit("slow", "/a.mp4")
        told = asyncio.Event()
        future.add_done_callback(lambda _: told.set())
        service.release()
        assert await future == 6
        await asyncio.wait_for(told.wait(), BOUND)
    assert service.closed == 1


# Everything else


def test_the_rest_of_the_interface(client: Client, service: GatedService, tmp_path: Path) -> None:
    assert [i.name for i in client.features()] == sorted(i.name for i in client.features())
    assert client.explain("size", "/a.mp4")[0].state == "missing"
    with pytest.raises(errors.FeatureError):
        client.get("broken", "/a.mp4")
    assert client.explain("size", "/a.mp4")[0].state == "kept"
    assert client.failures()[0].step == "broken"
    assert client.stats()["hits"] == 2.0
    a = client.asset("/a.mp4")
    assert (a.id, a.duration) == (service.assets["/a.mp4"].id, 25.0)
    assert client.purge(asset="/a.mp4", feature="size") == 1
    assert service.purged == [{"asset": a.id, "feature": "size", "version": None}]
    with pytest.raises(errors.BadRequest, match="never forgets everything"):
        client.purge()
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"x" * 3_000_000)
    uploaded = client.upload(path)
    assert (uploaded.bytes, uploaded.media_type) == (3_000_000, "video/mp4")
    with pytest.raises(errors.MediaNotFound):
        client.upload(tmp_path / "none.mp4")


def test_sync_and_async_have_the_same_signatures() -> None:
    names = [n for n in vars(AsyncClient) if not n.startswith("_") and n != "aclose"]
    assert names
    for name in names:
        ours, theirs = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert inspect.getdoc(ours) == inspect.getdoc(theirs)
        assert not inspect.iscoroutinefunction(ours)


def test_a_closed_client_says_so(service: GatedService) -> None:
    client = Client(AsyncClient(service), Loop())
    client.close()
    client.close()
    assert service.closed == 1
    with pytest.raises(errors.Unavailable, match="closed"):
        client.stats()


def test_what_is_left_to_do_is_done_after_the_service_closed(service: GatedService) -> None:
    seen: list[int] = []

    async def closing() -> None:
        seen.append(service.closed)

    with Client(AsyncClient(service, closing=closing), Loop()):
        pass
    assert seen == [1]


# Leaving early


@pytest.mark.parametrize("reported", [False, True])
async def test_a_cancelled_call_withdraws_its_request(service: GatedService, reported: bool) -> None:
    client = AsyncClient(service, timeout=BOUND)
    task = asyncio.create_task(client.get_many("slow", "/a.mp4", progress=reported))
    await asyncio.wait_for(asyncio.to_thread(service.arrived.wait, BOUND), BOUND)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert service.cancelled == list(service.requests)


def test_an_interrupt_withdraws_before_it_goes_on(service: GatedService) -> None:
    """In a process of its own, because the interrupt has to hit the main thread."""
    script = """
import asyncio, os, signal, threading
from amber_ray.client import AsyncClient, Client
from amber_ray.client.loop import Loop
from tests.unit.gated_service import GatedService
class Thorough(GatedService):
    async def cancel(self, id):
        for _ in range(5000):  # Longer than it takes to print a line, were nobody to wait for this.
            await asyncio.sleep(0)
        return await super().cancel(id)
service = Thorough()
service.put("/a.mp4")
def interrupt():
    service.arrived.wait(20)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
with Client(AsyncClient(service), Loop()) as client:
    try:
        client.get("slow", "/a.mp4", timeout=20)
    except KeyboardInterrupt:
        print("interrupted", service.cancelled == list(service.requests))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "interrupted True\n", done.stderr


def test_an_interrupt_before_anything_started_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    queue = loop._loop.call_soon_threadsafe
    interrupts = [KeyboardInterrupt()]

    def interrupted(*arguments: Any) -> Any:
        if interrupts:
            raise interrupts.pop()
        return queue(*arguments)

    async def never() -> None:
        raise AssertionError("this must not run")

    monkeypatch.setattr(loop._loop, "call_soon_threadsafe", interrupted)
    monkeypatch.setattr("amber_ray.client.loop.CLEANUP_SECONDS", 3600.0)
    with pytest.raises(KeyboardInterrupt):
        loop.run(never())
    loop.close()


def test_a_callback_on_the_loop_is_refused_rather_than_hung() -> None:
    loop = Loop()

    async def nothing() -> None: ...

    async def inside() -> None:
        with pytest.raises(errors.Unavailable, match="another thread"):
            loop.run(nothing())

    loop.run(inside())
    loop.close()


# HTTP


def answering(*answers: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A transport that gives these answers in order, the last one for ever."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = answers[min(len(seen), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.MockTransport(handle), seen


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting between attempts; what would have been waited."""
    pauses: list[float] = []

    def note(attempt: int, random: Any, asked: float | None = None) -> float:
        pauses.append(backoff(attempt, lambda: 1.0, asked))
        return 0.0

    monkeypatch.setattr("amber_ray.client.http.retry.backoff", note)
    return pauses


OK = httpx.Response(200, json={"hits": 1.0})
BUSY = httpx.Response(503, headers={"Retry-After": "2"}, json={"error": "Unavailable", "detail": "later"})


async def test_a_bare_500_of_a_dead_replica_is_asked_again_and_ambers_own_is_not(quick: list[float]) -> None:
    dead = httpx.Response(500, text="Internal Server Error")
    transport, seen = answering(dead, OK)
    assert await HttpService("http://x", transport=transport).stats() == {"hits": 1.0}
    own = httpx.Response(500, json={"error": "StoreError", "detail": "no"})
    transport, seen = answering(own, OK)
    with pytest.raises(errors.StoreError, match="no"):
        await HttpService("http://x", transport=transport).stats()
    assert len(seen) == 1


async def test_a_call_that_may_happen_twice_outlasts_a_restart(quick: list[float]) -> None:
    transport, seen = answering(httpx.ConnectError("refused"), httpx.ReadError("reset"), BUSY, OK)
    assert await HttpService("http://x", transport=transport).stats() == {"hits": 1.0}
    assert len(seen) == 4
    assert quick == [0.1, 0.2, 2.4]


@pytest.mark.parametrize(
    ("problem", "calls"),
    [(httpx.ReadError("reset"), 1), (BUSY, 1), (httpx.ConnectError("refused"), 2)],
    ids=["lost", "busy", "refused"],
)
async def test_a_compute_without_an_id_is_repeated_only_if_it_never_left(
    problem: Any, calls: int, service: GatedService, quick: list[float]
) -> None:
    app = create_app(service, Settings())
    real = httpx.ASGITransport(app)
    seen = 0

    class Flaky(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal seen
            seen += 1
            if seen > 1:
                return await real.handle_async_request(request)
            if isinstance(problem, Exception):
                raise problem
            return httpx.Response(503, json={})

    http = HttpService("http://localhost", transport=Flaky())
    request = amber_ray.ComputeRequest(("size",), (AssetRef(uri="/a.mp4"),))
    if calls == 1:
        with pytest.raises(errors.Unavailable):
            await http.compute(request, wait=1)
        assert seen == 1
    else:
        assert (await http.compute(request, wait=1)).state == "done"


async def test_a_compute_with_an_id_is_one_request_however_often_it_is_sent(
    service: GatedService, quick: list[float]
) -> None:
    real = httpx.ASGITransport(create_app(service, Settings()))
    seen = 0

    class AnswerLost(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal seen
            answer = await real.handle_async_request(request)
            seen += request.url.path == "/v1/compute"
            if seen == 1:
                raise httpx.ReadError("reset")
            return answer

    http = HttpService("http://localhost", transport=AnswerLost())
    request = amber_ray.ComputeRequest(("size",), (AssetRef(uri="/a.mp4"),))
    view = await http.compute(request, wait=1, id="chosen-by-the-client")
    assert (view.id, seen) == ("chosen-by-the-client", 2)
    assert list(service.requests) == ["chosen-by-the-client"]


async def test_patience_ends(quick: list[float]) -> None:
    transport, seen = answering(httpx.ConnectError("refused"))
    http = HttpService("http://x:1", transport=transport, patience=-1.0)
    with pytest.raises(errors.Unavailable, match=r"can't reach http://x:1: refused"):
        await http.stats()
    assert len(seen) == 1
    transport, seen = answering(httpx.ConnectError("refused"))
    with pytest.raises(errors.Unavailable):
        await HttpService("http://x", transport=transport).ping()
    assert len(seen) == 1


async def test_a_server_that_is_no_amber_is_named() -> None:
    transport, _ = answering(httpx.Response(200, text="<html>hello"))
    with pytest.raises(errors.Unavailable, match="is it an Amber server"):
        await HttpService("http://x", transport=transport).stats()
    transport, _ = answering(httpx.Response(502, text="<html>bad gateway"))
    with pytest.raises(errors.Unavailable, match="502"):
        await HttpService("http://x", transport=transport, patience=-1.0).stats()


async def test_errors_keep_their_class_over_http(service: GatedService) -> None:
    http = over_http(service, tokens=("secret",))
    with pytest.raises(
        errors.Unauthorized, match=r"needs an API token: connect\(\.\.\., token=\.\.\.\), --token"
    ):
        await http.stats()
    transport = httpx.ASGITransport(create_app(service, Settings(tokens=("secret",))))
    assert (await HttpService("http://127.0.0.1:8000", "secret", transport=transport).stats())["hits"] == 2.0


async def test_an_event_stream_that_breaks_off_is_followed_by_polling(
    service: GatedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(id: str) -> AsyncIterator[Any]:
        raise errors.Unavailable("broke off")
        yield

    monkeypatch.setattr(service, "events", broken)
    view = await service.compute(
        amber_ray.ComputeRequest(("slow",), (AssetRef(uri="/a.mp4"),)), id="the-request"
    )
    told: list[tuple[int, int]] = []

    async def report(now: RequestView | RequestEvent) -> None:
        told.append((now.done, now.total))

    until = asyncio.get_running_loop().time() + BOUND
    task = asyncio.create_task(exchange.watched(service, view, until, report))
    service.release()
    assert (await task).state == "done"
    assert told[-1] == (2, 2)


async def test_a_server_that_does_not_wait_is_not_hammered(
    service: GatedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = await service.compute(amber_ray.ComputeRequest(("slow",), (AssetRef(uri="/a.mp4"),)), id="the-id")
    polls = 0

    async def hasty(id: str, wait: float = 0.0) -> Any:
        nonlocal polls
        polls += 1
        return view

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            service.release()
            monkeypatch.undo()

    monkeypatch.setattr(service, "status", hasty)
    monkeypatch.setattr(exchange.asyncio, "sleep", sleep)
    until = asyncio.get_running_loop().time() + BOUND
    assert (await exchange.watched(service, view, until)).state == "done"
    assert slept == [0.2] * 3
    assert polls == 3


async def test_events_are_read_as_the_standard_says() -> None:
    async def lines() -> AsyncIterator[str]:
        for line in (
            "retry: 5",
            "",
            ": comment",
            "event: a",
            "data: 1",
            "data:2",
            "",
            "data: 3",
            "",
            "data: 4",
        ):
            yield line

    assert [e async for e in events(lines())] == [("a", "1\n2"), ("message", "3")]


# Parts


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (Scalar("float"), float("inf")),
        (Scalar("float"), -0.0),
        (Scalar("int"), 2**60),
        (Scalar("str"), "NaN"),
        (Bytes("image/png"), b"\x00\xff"),
        (Array("uint8", (2, 2)), np.array([[0, 255], [1, 2]], np.uint8)),
        (Array("bool", None), np.array([True, False])),
        (
            ListOf(Struct("S", (("a", Scalar("float")), ("b", Optional(Scalar("str")))))),
            [{"a": 1.5, "b": None}],
        ),
        (Json(), {"a": [1, "x", None]}),
    ],
    ids=lambda x: type(x).__name__,
)
def test_inline_values_are_what_they_were(type: Any, value: Any) -> None:
    import orjson

    back = decoded(type, orjson.loads(orjson.dumps(type.to_json(value))))
    if isinstance(value, np.ndarray):
        assert back.dtype == value.dtype
        assert back.tobytes() == value.tobytes()
    else:
        assert repr(back) == repr(value)


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (Array("float32", (None,)), np.array([np.nan, 1], np.float32)),
        (Array("float32", (None, 4)), np.empty((0, 4), np.float32)),
        (Array("float32", None), np.empty((0, 4), np.float32)),
        (Array(None, None), np.zeros(2)),
        (ListOf(Json()), [{"a": "NaN"}]),
    ],
    ids=["nan", "empty", "empty of any shape", "any dtype", "a word"],
)
def test_what_json_does_not_carry_is_not_guessed(type: Any, value: Any) -> None:
    from amber_ray.core.model.request import MISSING
    from amber_ray.wire.inline import Decoder

    decoder = Decoder()
    decoder._types["f"] = type
    assert decoder("f", type.to_json(value)) is MISSING
    decoder._types["f"] = Table()
    assert decoder("f", {}) is MISSING
    assert decoder("unknown", 1) is MISSING


def test_names_of_features() -> None:
    @amber_ray.feature(version="1")
    def tall(asset: amber_ray.Asset) -> int:
        return 1

    assert feature_names([tall, "size", "tall"]) == ("tall", "size")
    assert feature_names("a, b") == ("a", "b")
    for wrong in ([], "a,,b", [print]):
        with pytest.raises(errors.BadRequest):
            feature_names(wrong)


def test_a_key_without_its_parameters_is_told_which_there_are(client: Client) -> None:
    results = client.get_many("score", "/a.mp4", params=[{"score.scale": 1}, {"score.scale": 2}])
    with pytest.raises(
        KeyError, match=r"2 sets of parameters; say which, as in results\['score', '/a.mp4', {"
    ):
        results["score", "/a.mp4"]


def test_names_of_assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.mp4").touch()
    id = "0123456789abcdef" * 2
    assert asset_ref("here.mp4") == AssetRef(uri=str(tmp_path / "here.mp4"))
    assert asset_ref("missing.mp4") == AssetRef(uri=str(tmp_path / "missing.mp4"))
    assert asset_ref("file:/m/a.mp4") == AssetRef(uri="file:/m/a.mp4")
    assert asset_ref("s3://b/k.mp4") == AssetRef(uri="s3://b/k.mp4")
    assert asset_ref(id) == AssetRef(id=id)
    assert [a.name for a in named_assets(["b", "a", "b"])] == ["b", "a"]
    for wrong in ([], "", 3, [3], AssetRef()):
        with pytest.raises(errors.BadRequest):
            named_assets(wrong)  # type: ignore[arg-type]


def test_priorities_by_name() -> None:
    assert priority_of("Backfill") is Priority.BACKFILL
    with pytest.raises(errors.BadRequest, match="interactive, ingest, backfill"):
        priority_of("urgent")


def test_windows_are_bounded_by_count_and_by_size() -> None:
    assets = named_assets([f"/{i}" for i in range(10)])
    assert [len(w) for w in windows(assets, 4)] == [4, 4, 2]
    long = named_assets([f"/{'x' * 1_000_000}{i}" for i in range(5)])
    assert [len(w) for w in windows(long)] == [2, 2, 1]


def test_backoff_grows_is_capped_and_heeds_the_server() -> None:
    assert [backoff(n, lambda: 1.0) for n in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff(3, lambda: 0.0) == 0.0
    assert backoff(0, lambda: 0.0, asked=7.0) == 7.0


async def test_a_meter_expects_the_parts_not_begun_to_be_like_the_others() -> None:
    meter = ProgressBar(True, parts=4)
    meter._draw = lambda: None  # type: ignore[method-assign]
    first, second = meter.part(), meter.part()
    assert meter.total is None
    assert first is not None
    assert second is not None
    await first(RequestEvent("progress", 2, 10))
    await second(RequestEvent("progress", 1, 20))
    assert (meter.done, meter.total) == (3, 60)
    assert ProgressBar(False).part() is None


# Addresses


@pytest.mark.parametrize("address", ["ftp://x", "", "http:/x://"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(errors.BadRequest, match="address must be"):
        addresses.connect(address)


def test_settings_belong_to_the_server() -> None:
    for given in ({"store": "x"}, {"features": ["m"]}, {"media_roots": ["/"]}, {"settings": Settings()}):
        with pytest.raises(errors.BadRequest, match="belong to the server"):
            addresses.connect("http://127.0.0.1:1", **given)  # type: ignore[arg-type]
    with pytest.raises(errors.BadRequest, match="token"):
        addresses.connect("auto", token="x")
    with pytest.raises(errors.BadRequest, match="lists"):
        addresses.connect(features="my.py")


def test_nobody_answers_at_once() -> None:
    with pytest.raises(errors.Unavailable, match="can't reach"):
        addresses.connect("http://127.0.0.1:1")


def test_places_and_sources_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    way = addresses._Way.of(None, ["mine.py", "a.module", pytest], ["media"], "s3://bucket/x", None, None)
    assert way.settings.features == (str(tmp_path / "mine.py"), "a.module", "pytest")
    assert way.settings.media_roots == (str(tmp_path / "media"),)
    assert way.settings.store == "s3://bucket/x"
    assert addresses._Way.of(None, [], [], None, None, None).settings.store == str(tmp_path / "amber-store")


# The code book


async def test_code_that_changed_under_its_version_is_reported_until_accepted(tmp_path: Path) -> None:
    import dataclasses

    store = str(tmp_path / "store")
    infos = await GatedService().features()
    assert record(store, infos) == []
    changed = [dataclasses.replace(i, code_digest="other") if i.name == "size" else i for i in infos]
    assert [c.feature for c in record(store, changed)] == ["size"]
    assert [c.feature for c in compare(read(store), changed)] == ["size"]
    bumped = [dataclasses.replace(i, version="2") for i in changed]
    derived = [dataclasses.replace(i, pinned=False) for i in changed]
    assert record(store, bumped) == compare(read(store), derived) == []
    record(store, changed, accept=True)
    assert compare(read(store), changed) == []
    assert read(store)["size"] == {"1": "other", "2": "other"}
    (tmp_path / "store" / "code.json").write_text("[1]")
    with pytest.raises(errors.StoreError, match="code book"):
        read(store)


# The public names


FORGOTTEN = """
import asyncio, gc, sys, threading
from amber_ray.client import AsyncClient, Client
from amber_ray.client.loop import Loop

class Service:
    async def aclose(self):
        await asyncio.to_thread(print, "closed")

async def left():
    await asyncio.to_thread(print, "left")

def client():
    return Client(AsyncClient(Service(), closing=left), Loop())
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kept = client()\nprint('end')", ["end", "closed", "left"]),
        ("kept = client()\nkept.close()\nkept.close()\nprint('end')", ["closed", "left", "end"]),
        (
            "forgotten = client()\nforgotten = None\n"
            "[t.join() for t in threading.enumerate() if t.name == 'amber-close']\nprint('end')",
            ["closed", "left", "end"],
        ),
        (
            "forgotten = client()\nforgotten.itself = forgotten\ndel forgotten\ngc.collect()",
            ["closed", "left"],
        ),
    ],
)
def test_a_client_is_closed_once_also_when_nobody_has_it_any_more(text: str, said: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"{FORGOTTEN}\n{text}"], capture_output=True, text=True, timeout=60
    )
    assert (ran.stdout.split(), ran.stderr, ran.returncode) == (said, "", 0)


def test_a_future_keeps_its_client_open(client: Client, service: GatedService) -> None:
    loop = Loop()
    future = Client(AsyncClient(service, timeout=BOUND), loop).submit("size", "/a.mp4")
    gc.collect()
    assert future.result() == 6
    assert not loop.closed
    del future
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "amber-close":
            thread.join(BOUND)
    assert loop.closed


def test_all_is_what_is_exported() -> None:
    for name in amber_ray.__all__:
        assert getattr(amber_ray, name) is not None
    assert sorted(amber_ray.__all__) == list(amber_ray.__all__)
    homes = set(amber_ray._HOME_OF) | {"errors"}
    assert homes == set(amber_ray.__all__)
    assert set(amber_ray.__all__) <= set(dir(amber_ray))
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = amber_ray.nope
    from amber_ray import client

    assert sorted(client.__all__) == sorted(set(amber_ray.__all__) & set(client.__all__))
