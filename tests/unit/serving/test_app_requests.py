"""Waiting, 202, polling, events, cancelling, and callers who hang up."""

from __future__ import annotations

import asyncio

import pytest

from amber_ray.core.model.service import RequestEvent
from amber_ray.errors import Unavailable
from amber_ray.serving import presence, sse
from amber_ray.serving.app import create_app
from amber_ray.serving.drain import Drain
from amber_ray.serving.presence import ClientGone, while_present
from amber_ray.settings import Settings
from amber_ray.wire import views
from tests.http_app import Connection, client, compute_body, encoded, run
from tests.http_contract import events_of
from tests.memory_service import MemoryService


def closed() -> MemoryService:
    service = MemoryService()
    service.gate.clear()
    return service


def test_past_the_wait_the_answer_is_202_and_the_request_can_be_polled():
    service = closed()

    async def story():
        async with client(service) as http:
            accepted = await http.post(
                "/v1/compute", json=compute_body("probe"), headers={"Prefer": "wait=0"}
            )
            assert accepted.status_code == 202
            assert accepted.headers["Location"] == "/v1/requests/rq-000000"
            assert accepted.headers["Retry-After"] == "1"
            assert accepted.headers["Preference-Applied"] == "wait=0"
            assert accepted.json()["state"] == "running"
            assert accepted.json()["results"][0]["state"] == "pending"

            poll = await http.get(accepted.headers["Location"])
            assert (poll.status_code, poll.json()["state"]) == (200, "running")
            assert poll.headers["Retry-After"] == "1"
            assert "Preference-Applied" not in poll.headers

            long = asyncio.ensure_future(
                http.get(accepted.headers["Location"], headers={"Prefer": "wait=30"})
            )
            while service.asked[-1] != ("status", ("rq-000000", 30.0)):
                await asyncio.sleep(0)
            service.gate.set()
            done = await long
            assert done.json()["state"] == "done"
            assert done.json()["results"][0]["value"] == "h264"
            assert done.headers["Preference-Applied"] == "wait=30"
            assert "Retry-After" not in done.headers

    run(story)


@pytest.mark.parametrize(
    ("header", "wait", "applied"),
    [
        ({}, 10.0, None),
        ({"Prefer": "wait=5"}, 5.0, "wait=5"),
        ({"Prefer": 'WAIT = "2"'}, 2.0, "wait=2"),
        ({"Prefer": "respond-async"}, 0.0, "respond-async"),
        ({"Prefer": "respond-async, wait=4"}, 4.0, "wait=4"),
        ({"Prefer": "handling=lenient; x=y, wait=1.5"}, 1.5, "wait=1.5"),
        ({"Prefer": "wait=3, wait=9"}, 3.0, "wait=3"),
        ({"Prefer": "wait=100000"}, 60.0, "wait=60"),
        ({"Prefer": "wait=-1"}, 10.0, None),
        ({"Prefer": "wait=soon, =, ;;"}, 10.0, None),
        ({"Prefer": "wait=1e3"}, 10.0, None),
    ],
)
def test_prefer_is_honoured_within_bounds_and_ignored_where_malformed(header, wait, applied):
    service = MemoryService()

    async def once():
        async with client(service) as http:
            return await http.post("/v1/compute", json=compute_body("probe"), headers=header)

    answer = run(once)
    assert service.asked[0][1][1] == wait
    assert answer.headers.get("Preference-Applied") == applied


@pytest.mark.parametrize("given", ["../../etc", "a", "x" * 65, "with space", ""])
def test_an_own_id_must_be_one_that_can_name_a_file(given):
    async def once():
        async with client() as http:
            return await http.post(
                "/v1/compute", json=compute_body("probe"), headers={"X-Amber-Request-Id": given}
            )

    answer = run(once)
    assert answer.status_code == 400
    assert "X-Amber-Request-Id" in answer.json()["detail"]


def test_the_same_own_id_is_the_same_request():
    service = MemoryService()

    async def twice():
        async with client(service) as http:
            for _ in range(2):
                answer = await http.post(
                    "/v1/compute", json=compute_body("probe"), headers={"X-Amber-Request-Id": "mine-01"}
                )
                assert answer.json()["id"] == "mine-01"

    run(twice)
    assert list(service.requests) == ["mine-01"]


def post_with(service, *headers, tenant="default"):
    """Ask for one feature with each of these headers, one call after the other; the answers."""

    async def story():
        async with client(service) as http:
            body = {**compute_body("probe"), "tenant": tenant}
            return [await http.post("/v1/compute", json=body, headers=given) for given in headers]

    return run(story)


def test_the_same_idempotency_key_is_the_same_request_within_a_tenant():
    service = MemoryService()
    key = "8e03978e-40d5-43dd-bc93-6894a57f9324"
    quoted, bare = post_with(service, {"Idempotency-Key": f'"{key}"'}, {"Idempotency-Key": key})
    assert quoted.json()["id"] == bare.json()["id"]
    assert len(service.requests) == 1
    (another,) = post_with(service, {"Idempotency-Key": f"{key}0"})
    (theirs,) = post_with(service, {"Idempotency-Key": key}, tenant="search")
    assert len({one.json()["id"] for one in (bare, another, theirs)}) == len(service.requests) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Idempotency-Key": ""},
        {"Idempotency-Key": '""'},
        {"Idempotency-Key": "with space"},
        {"Idempotency-Key": "x" * 256},
        {"Idempotency-Key": '"open'},
        [("Idempotency-Key", "one"), ("Idempotency-Key", "two")],
        {"Idempotency-Key": "one", "X-Amber-Request-Id": "mine-01"},
    ],
    ids=str,
)
def test_an_idempotency_key_that_is_none_is_refused(headers):
    service = MemoryService()
    (answer,) = post_with(service, headers)
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]
    assert not service.requests


def test_an_idempotency_key_for_something_else_is_refused():
    async def story():
        async with client(MemoryService()) as http:
            given = {"Idempotency-Key": "one"}
            await http.post("/v1/compute", json=compute_body("probe"), headers=given)
            return await http.post("/v1/compute", json=compute_body("embedding"), headers=given)

    assert run(story).status_code == 422


def test_cancel():
    service = closed()

    async def story():
        async with client(service) as http:
            await http.post("/v1/compute", json=compute_body("probe"), headers={"Prefer": "wait=0"})
            answer = await http.delete("/v1/requests/rq-000000")
            assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
            again = await http.delete("/v1/requests/rq-000000")
            assert again.json()["state"] == "cancelled"

    run(story)


async def accepted(service):
    """Leave a request behind that is not done."""
    async with client(service) as http:
        await http.post("/v1/compute", json=compute_body("probe"), headers={"Prefer": "wait=0"})


def test_events_tell_progress_each_result_and_done_as_they_come():
    service = closed()
    app = create_app(service, Settings(), new_id=service.new_id)

    async def story():
        async with client(service) as http:
            await http.post("/v1/compute", json=compute_body("brightness"), headers={"Prefer": "wait=0"})
        stream = Connection(app, "GET", "/v1/requests/rq-000000/events")
        start = await stream.sent.get()
        headers = dict(start["headers"])
        assert start["status"] == 200
        assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
        assert headers[b"x-accel-buffering"] == b"no"
        assert await stream.chunk() == b"retry: 2000\n\n"
        assert list(events_of((await stream.chunk()).decode())) == [("progress", {"done": 0, "total": 3})]
        assert stream.sent.empty()
        service.gate.set()
        await stream.task
        rest = b"".join([await stream.chunk() for _ in range(stream.sent.qsize())])
        events = [views.decode_event(name, data) for name, data in events_of(rest.decode())]
        assert [e.kind for e in events] == ["result", "result", "result", "done"]
        assert [e.result.value for e in events[:3]] == [0.5, 0.5, 0.5]
        assert events[-1].view.state == "done"

    run(story)


def test_silence_is_broken_by_comments(monkeypatch):
    monkeypatch.setattr(sse, "SILENCE", 0.01)
    service = closed()

    async def story():
        await accepted(service)
        stream = Connection(create_app(service, Settings()), "GET", "/v1/requests/rq-000000/events")
        await stream.status()
        chunks = [await stream.chunk() for _ in range(4)]
        assert chunks[2:] == [b": waiting\n\n"] * 2
        stream.hang_up()
        await stream.task

    run(story)


class Breaking(MemoryService):
    """Its events break off after the first, with `error`."""

    async def events(self, id):
        yield RequestEvent("progress", 0, 1)
        raise self.breaks


def test_a_stream_that_breaks_ends_with_an_error_event():
    service = Breaking()
    service.breaks = Unavailable("the cluster is restarting")

    async def story():
        async with client(service) as http:
            answer = await http.get("/v1/requests/rq-000000/events")
        name, data = list(events_of(answer.text))[-1]
        assert name == "error"
        with pytest.raises(Unavailable, match="the cluster is restarting"):
            views.decode_event(name, data)

    run(story)


def test_a_stream_that_breaks_by_a_bug_is_cut_so_that_the_caller_can_see_it():
    service = Breaking()
    service.breaks = RuntimeError("a bug")

    async def story():
        stream = Connection(create_app(service, Settings()), "GET", "/v1/requests/rq-000000/events")
        with pytest.raises(RuntimeError, match="a bug"):
            await stream.task
        while not stream.sent.empty():
            assert (await stream.sent.get()).get("more_body", True)

    run(story)


def test_an_events_reader_that_hangs_up_lets_go_of_the_request():
    service = closed()

    async def story():
        await accepted(service)
        stream = Connection(create_app(service, Settings()), "GET", "/v1/requests/rq-000000/events")
        await stream.status()
        stream.hang_up()
        await stream.task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(story)


@pytest.mark.parametrize("hangs", [False, True])
def test_a_stream_that_never_starts_is_let_go(hangs, monkeypatch):
    class Events:
        closed = False

        def __aiter__(self):
            return self

        async def __anext__(self):
            if hangs:
                await asyncio.Event().wait()
            raise Unavailable("not now")

        async def aclose(self):
            self.closed = True

    async def story():
        stream = sse.EventStream(Events(), None, Drain())
        start = asyncio.ensure_future(stream.start())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if hangs:
            start.cancel()
        with pytest.raises(asyncio.CancelledError if hangs else Unavailable):
            await start
        assert stream._events.closed
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(story)


def test_head_of_events_does_not_stream():
    service = closed()

    async def story():
        async with client(service) as http:
            await http.post("/v1/compute", json=compute_body("probe"), headers={"Prefer": "wait=0"})
            answer = await http.head("/v1/requests/rq-000000/events")
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert (await http.head("/v1/requests/rq-000001/events")).status_code == 404

    run(story)


async def held_back(service):
    """A compute call that has reached the service and waits."""
    body = encoded(compute_body("probe"))
    app = create_app(service, Settings(), new_id=service.new_id)
    call = Connection(app, "POST", "/v1/compute", body, content_type="application/json", prefer="wait=30")
    while not service.requests:
        await asyncio.sleep(0)
    return call


def test_a_caller_that_hangs_up_while_it_waits_withdraws_its_request():
    service = closed()

    async def story():
        call = await held_back(service)
        call.hang_up()
        await call.task
        assert service.withdrawn == ["rq-000000"]
        assert await call.status() == 499

    run(story)


def test_a_server_that_cancels_the_handler_withdraws_too():
    service = closed()

    async def story():
        call = await held_back(service)
        call.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call.task
        assert service.withdrawn == ["rq-000000"]

    run(story)


def test_a_caller_that_hangs_up_in_the_middle_of_its_body_asks_nothing():
    service = MemoryService()

    async def story():
        call = Connection(
            create_app(service, Settings()), "POST", "/v1/compute", None, content_type="application/json"
        )
        call.feed(b'{"features"', more=True)
        call.hang_up()
        await call.task
        assert service.asked == []

    run(story)


class TestWhilePresent:
    def test_an_answer_that_is_there_at_once_starts_no_task_and_reads_nothing(self):
        async def story():
            async def receive():
                raise AssertionError("nobody should listen")

            async def work():
                assert len(asyncio.all_tasks()) == 1
                return 7

            assert await while_present(receive, work()) == 7

        run(story)

    def test_nobody_listens_once_the_answer_is_there(self, monkeypatch):
        async def story():
            heard = []

            async def receive():
                heard.append(True)
                await asyncio.Event().wait()

            monkeypatch.setattr(presence, "GRACE", 0.0)
            assert await while_present(receive, asyncio.sleep(0, 7)) == 7
            for _ in range(3):
                await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert heard == []

            # Long enough for the listener to have started: it is gone with the answer.
            async def work():
                while not heard:
                    await asyncio.sleep(0)
                return 8

            assert await while_present(receive, work()) == 8
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run(story)

    def test_its_own_timeout_is_not_taken_for_a_hang_up(self):
        async def story():
            async def work():
                raise TimeoutError("the work's own")

            with pytest.raises(TimeoutError, match="the work's own"):
                await while_present(asyncio.Event().wait, work())

        run(story)

    def test_a_hang_up_cancels_the_work_and_leaves_no_task_behind(self):
        async def story():
            gone = asyncio.Event()

            async def receive():
                await gone.wait()
                return {"type": "http.disconnect"}

            async def work():
                try:
                    gone.set()
                    await asyncio.Event().wait()
                finally:
                    ended.append(True)

            ended: list[bool] = []
            with pytest.raises(ClientGone):
                await while_present(receive, work())
            assert ended == [True]
            assert asyncio.current_task().cancelling() == 0
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        run(story)
