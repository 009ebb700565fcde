"""Bodies on their way into a replica: Serve's queues have an end where they can, and lose nothing."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
from ray.serve._private.http_util import ASGIReceiveProxy

from amber_ray.serving.inflow import QUEUED_MESSAGES, slow_down
from tests.http_app import run

MANY = 10 * QUEUED_MESSAGES
SCOPE: Any = {"type": "http"}


def piece(i: int, last: int = MANY - 1) -> dict[str, Any]:
    return {"type": "http.request", "body": b"%d" % i, "more_body": i < last}


async def read(receive: Any) -> list[bytes]:
    found = []
    while True:
        message = await receive()
        found.append(message["body"])
        if not message["more_body"]:
            return found


WHOLE = [b"%d" % i for i in range(MANY)]


def test_a_body_through_serves_proxy_arrives_whole() -> None:
    """That queue is filled without waiting, by a task that ends if it is refused: the caller hung."""

    async def story() -> None:
        async def messages(_: Any) -> bytes:
            if not asked:
                asked.append(1)
                return pickle.dumps([piece(i) for i in range(MANY)])
            await asyncio.Event().wait()
            return b""

        asked: list[int] = []
        receive = ASGIReceiveProxy(SCOPE, None, messages)  # type: ignore[arg-type]
        slow_down(receive)
        fetching = asyncio.create_task(receive.fetch_until_disconnect())
        assert await read(receive) == WHOLE
        fetching.cancel()

    run(story)


def test_a_body_from_haproxy_waits_outside_when_nobody_reads_it() -> None:
    async def story() -> None:
        sent = 0

        async def socket() -> dict[str, Any]:
            nonlocal sent
            if sent == MANY:
                await asyncio.Event().wait()
            sent += 1
            return piece(sent - 1)

        receive = ASGIDIReceiveProxy(SCOPE, socket, asyncio.get_running_loop())  # type: ignore[arg-type]
        slow_down(receive)
        fetching = receive.fetch_until_disconnect_task()
        for _ in range(3 * MANY):
            await asyncio.sleep(0)
        assert sent == QUEUED_MESSAGES + 1  # one is in the hand of who waits
        assert await read(receive) == WHOLE
        fetching.cancel()

    run(story)


def test_a_body_from_haproxy_to_another_loop_arrives_whole() -> None:
    """Where Serve runs user code in a thread of its own, that queue is filled without waiting too."""

    async def story() -> None:
        receive = ASGIDIReceiveProxy(SCOPE, None, asyncio.get_running_loop())  # type: ignore[arg-type]
        slow_down(receive)
        for i in range(MANY):
            receive.put_message(piece(i))
        assert await read(receive) == WHOLE

    run(story)


def test_what_is_no_queue_of_serves_is_left_alone() -> None:
    async def receive() -> dict[str, Any]:
        return piece(0, 0)

    slow_down(receive)
    assert run(lambda: read(receive)) == [b"0"]
