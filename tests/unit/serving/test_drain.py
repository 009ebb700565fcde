"""An app that is about to end: those who wait get values or are told to come again, and nobody is cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from amber_ray.errors import Unavailable
from amber_ray.serving.app import create_app
from amber_ray.serving.drain import Drain
from amber_ray.settings import Settings
from tests.http_app import Connection, client, compute_body, encoded, run
from tests.memory_service import MemoryService

LONG = 3600.0


async def waiting(http: httpx.AsyncClient, service: MemoryService, body: Any) -> asyncio.Task[httpx.Response]:
    """A caller that waits for a request which the gate holds back."""
    asked = len(service.asked)
    caller = asyncio.create_task(http.post("/v1/compute", json=body, headers={"Prefer": "wait=60"}))
    while len(service.asked) == asked:
        await asyncio.sleep(0.01)
    return caller


def test_who_waits_gets_values_and_who_comes_is_told_to_come_again() -> None:
    async def story() -> None:
        service, drain = MemoryService(), Drain()
        service.gate.clear()
        async with client(service, drain=drain) as http:
            caller = await waiting(http, service, compute_body("brightness"))
            drain.begin(LONG, refuse=True)
            for path in ("/healthz", "/readyz", "/v1/stats", "/"):
                refused = await http.get(path)
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
                assert "about to stop" in refused.json()["detail"]
            assert drain.ongoing == 1
            service.gate.set()
            answer = await caller
            assert (answer.status_code, answer.json()["state"]) == (200, "done")
            await drain.ended()

    run(story)


def test_when_time_is_up_a_request_is_accepted_and_not_withdrawn() -> None:
    async def story() -> None:
        service, drain = MemoryService(), Drain()
        service.gate.clear()
        async with client(service, drain=drain) as http:
            caller = await waiting(http, service, compute_body("brightness"))
            drain.begin(0.0, refuse=True)
            answer = await caller
            assert (answer.status_code, answer.json()["state"]) == (202, "running")
            assert answer.headers["Retry-After"] == "1"
            assert answer.headers["Location"] == f"/v1/requests/{answer.json()['id']}"
            await drain.ended()
        service.gate.set()
        view = await service.status(answer.json()["id"], 10)
        assert view.state == "done"

    run(story)


def test_a_replica_that_others_stand_in_for_refuses_nobody_and_keeps_nobody_waiting() -> None:
    async def story() -> None:
        service, drain = MemoryService(), Drain()
        async with client(service, drain=drain) as http:
            drain.begin(0.0, refuse=False)
            await asyncio.sleep(0)
            assert (await http.get("/v1/stats")).status_code == 200
            service.gate.clear()
            late = await http.post(
                "/v1/compute", json=compute_body("brightness"), headers={"Prefer": "wait=60"}
            )
            assert late.status_code == 202
            polled = await http.get(late.headers["Location"], headers={"Prefer": "wait=60"})
            assert (polled.status_code, polled.json()["state"]) == (200, "running")
            assert polled.headers["Retry-After"] == "1"

    run(story)


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("GET", f"/v1/values/{'a' * 32}", {}),
        ("POST", "/v1/values", {"json": {"keys": ["a" * 32]}}),
    ],
)
def test_what_can_not_be_had_in_time_is_503(method: str, path: str, more: dict[str, Any]) -> None:
    async def story() -> None:
        service, drain = MemoryService(), Drain()
        service.gate.clear()
        async with client(service, drain=drain) as http:
            drain.begin(0.0, refuse=False)
            answer = await http.request(method, path, **more)
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")

    run(story)


def test_an_upload_that_takes_too_long_is_given_up() -> None:
    async def story() -> None:
        drain, never = Drain(), asyncio.Event()
        upload = asyncio.create_task(drain.in_time(never.wait()))
        await asyncio.sleep(0)
        drain.begin(0.0, refuse=True)
        with pytest.raises(Unavailable, match="about to stop"):
            await upload
        assert await Drain().in_time(asyncio.sleep(0, 7)) == 7

    run(story)


def test_a_stream_of_events_ends_where_the_server_does() -> None:
    async def story() -> None:
        service, drain = MemoryService(), Drain()
        service.gate.clear()
        app = create_app(service, Settings(), drain=drain, new_id=service.new_id)
        body = encoded(compute_body("brightness"))
        asked = Connection(app, "POST", "/v1/compute", body, prefer="wait=0", content_type="application/json")
        assert await asked.status() == 202
        await asked.task
        stream = Connection(app, "GET", "/v1/requests/rq-000000/events")
        assert await stream.status() == 200
        drain.begin(0.0, refuse=True)
        message = await stream.sent.get()
        while message["more_body"]:
            assert b"event: done" not in message["body"]
            message = await stream.sent.get()
        await drain.ended()
        assert service.withdrawn == []

    run(story)


def test_of_two_words_the_first_says_how_long() -> None:
    async def story() -> None:
        service, drain = MemoryService(), Drain()
        service.gate.clear()
        async with client(service, drain=drain) as http:
            caller = await waiting(http, service, compute_body("brightness"))
            assert (await http.get("/readyz")).json() == {"status": "ready"}
            drain.begin(0.0, refuse=False)
            answer = await http.get("/readyz")  # it still answers, and should not be sent more
            assert (answer.status_code, (await http.get("/healthz")).status_code) == (503, 200)
            assert "about to stop" in answer.json()["detail"]
            drain.begin(LONG, refuse=True)
            assert (await caller).status_code == 202
            assert (await http.get("/healthz")).status_code == 503

    run(story)
