"""Who is given gzip, and what: never one who did not ask, never what is small, packed already or a stream."""

from __future__ import annotations

import gzip
import itertools
from typing import Any

import httpx
import numpy as np
import pytest

from amber_ray.core.model.service import StoredValue
from amber_ray.core.values.annotations import Jpeg, parse
from amber_ray.serving.app import create_app
from amber_ray.serving.compression import IN_LOOP, SMALL, accepts_gzip
from amber_ray.settings import Settings
from amber_ray.wire.views import ARROW_TYPE
from tests import http_contract
from tests.http_app import Connection, client, compute_body, encoded, run
from tests.memory_service import MemoryService

KEY = "0123456789abcdef" * 2
TEXT = "one of many values " * 1000


def holding(annotation: Any, value: Any, made: float = 1_767_225_600.25) -> MemoryService:
    service = MemoryService()
    service.kept[KEY] = StoredValue(KEY, "name", "7", parse(annotation), value, made)
    return service


def raw(
    service: MemoryService, path: str, method: str = "GET", **headers: str
) -> tuple[dict[str, str], bytes, int]:
    """Headers, the very bytes of the body, and the status."""

    async def once() -> tuple[dict[str, str], bytes, int]:
        call = Connection(create_app(service, Settings()), method, path, **headers)
        start = await call.sent.get()
        body, more = b"", True
        while more:
            message = await call.sent.get()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        return {k.decode(): v.decode() for k, v in start["headers"]}, body, start["status"]

    found: tuple[dict[str, str], bytes, int] = run(once)
    return found


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("deflate, br", False),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("gzip;q=2", False),
        ("gzipped", False),
    ],
)
def test_who_is_given_gzip(header: str | None, accepted: bool) -> None:
    assert accepts_gzip([] if header is None else [(b"accept-encoding", header.encode())]) == accepted


def test_several_lines_of_a_header_are_one_list() -> None:
    lines = [(b"accept-encoding", b"br"), (b"host", b"x"), (b"accept-encoding", b"gzip")]
    assert accepts_gzip(lines)


@pytest.mark.parametrize("length", [SMALL, IN_LOOP * 2])
def test_a_value_that_is_text_comes_compressed_to_who_asks(length: int) -> None:
    service = holding(str, "x" * (length - 2))  # in JSON, with its quotes
    plain, content, _ = raw(service, f"/v1/values/{KEY}")
    assert "content-encoding" not in plain
    headers, body, _ = raw(service, f"/v1/values/{KEY}", accept_encoding="gzip")
    assert headers["content-encoding"] == "gzip"
    assert headers["content-length"] == str(len(body))
    assert len(body) < len(content) / 10
    assert gzip.decompress(body) == content
    assert headers["vary"] == plain["vary"] == "Accept, Accept-Encoding"


def test_equal_answers_are_equal_bytes_when_compressed() -> None:
    answers = [raw(holding(str, TEXT), f"/v1/values/{KEY}", accept_encoding="gzip") for _ in range(2)]
    assert answers[0][:2] == (answers[1][0] | {"x-request-id": answers[0][0]["x-request-id"]}, answers[1][1])


@pytest.mark.parametrize("made", [1_767_225_600.25, 0.0], ids=["made then", "made nobody knows when"])
@pytest.mark.parametrize(("had", "asked"), [*itertools.product(["gzip", "identity"], repeat=2)])
def test_a_copy_is_good_for_its_own_coding_only(had: str, asked: str, made: float) -> None:
    """Strong tags say that bytes are equal, so each coding has its own (RFC 9110, section 8.8.3.3)."""
    service = holding(str, TEXT, made)
    tag = raw(service, f"/v1/values/{KEY}", accept_encoding=had)[0]["etag"]
    headers, body, status = raw(service, f"/v1/values/{KEY}", accept_encoding=asked, if_none_match=tag)
    assert status == (304 if had == asked else 200)
    assert headers["vary"] == "Accept, Accept-Encoding"
    if status == 304:
        assert (headers["etag"], body) == (tag, b"")
        assert "content-encoding" not in headers
    strong = raw(service, f"/v1/values/{KEY}", accept_encoding=asked, if_match=tag)[2]
    assert strong == (200 if had == asked else 412)


def test_head_is_answered_as_get_is_but_for_the_body() -> None:
    service = holding(str, TEXT)
    got, head = (
        raw(service, f"/v1/values/{KEY}", method, accept_encoding="gzip") for method in ("GET", "HEAD")
    )
    assert head[1] == b""
    for name in ("content-encoding", "content-length", "etag", "vary"):
        assert head[0][name] == got[0][name]


@pytest.mark.parametrize(
    ("annotation", "value", "form"),
    [
        (str, "x" * (SMALL - 3), "application/json"),
        (Jpeg, b"\xff\xd8" + bytes(10_000), "image/jpeg"),
        (np.ndarray, np.zeros(10_000, np.float32), ARROW_TYPE),
        (np.ndarray, np.zeros(10_000, np.float32), "application/x-npy"),
    ],
)
def test_what_is_small_or_no_text_is_sent_as_it_is(annotation: Any, value: Any, form: str) -> None:
    service = holding(annotation, value)
    headers, body, _ = raw(service, f"/v1/values/{KEY}", accept=form, accept_encoding="gzip")
    assert headers["content-type"] == form
    assert "content-encoding" not in headers
    assert body == raw(service, f"/v1/values/{KEY}", accept=form)[1]


def test_long_answers_of_any_call_come_compressed() -> None:
    """httpx asks for gzip by itself, and `client` holds every answer to the description."""

    async def once() -> list[httpx.Response]:
        async with client() as http:
            body = {**compute_body("brightness"), "assets": [{"uri": f"/m/{i}.mp4"} for i in range(20)]}
            answers = [
                await http.post("/v1/compute", json=body),
                await http.post("/v1/explain", json=body),
                await http.get("/v1/features"),
                await http.get("/openapi.json"),
                await http.get("/page/swagger-ui-bundle.js"),
            ]
            small = await http.get("/healthz")
            assert "Content-Encoding" not in small.headers
            return answers

    for answer in run(once):
        assert (answer.headers["Content-Encoding"], answer.status_code) == ("gzip", 200)
        assert "Accept-Encoding" in answer.headers["Vary"]


def test_a_long_refusal_comes_compressed_and_says_the_same() -> None:
    async def once() -> httpx.Response:
        async with client() as http:
            return await http.post(
                "/v1/compute", json=compute_body("x" * 200, *("y" * 250 for _ in range(9)))
            )

    answer = run(once)
    assert answer.status_code >= 400
    http_contract.fits_problem(answer)


def test_events_are_not_held_back_in_a_compressor() -> None:
    service = MemoryService()
    service.gate.clear()

    async def story() -> None:
        async with client(service) as http:
            asked = await http.post("/v1/compute", json=compute_body("probe"), headers={"Prefer": "wait=0"})
        app = create_app(service, Settings())
        path = f"/v1/requests/{asked.json()['id']}/events"
        call = Connection(app, "GET", path, accept_encoding="gzip")
        start = await call.sent.get()
        assert b"content-encoding" not in dict(start["headers"])
        assert await call.chunk() == b"retry: 2000\n\n"  # at once, while the service is still at work
        service.gate.set()
        await call.task

    run(story)


def test_bodies_of_callers_that_ask_for_nothing_are_not_touched() -> None:
    """The layer hands on the very `send` that it was given: such a caller pays for a look at its headers."""
    from amber_ray.serving.compression import Compression

    handed: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        handed.append(send)

    async def send(message: Any) -> None: ...

    async def story() -> None:
        for headers in ([], [(b"accept-encoding", b"identity")]):
            await Compression(app)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]

    run(story)
    assert handed == [send, send]


def test_many_values_are_streamed_as_they_are() -> None:
    service = holding(str, TEXT)

    async def story() -> None:
        call = Connection(
            create_app(service, Settings()),
            *("POST", "/v1/values", encoded({"keys": [KEY]})),
            accept_encoding="gzip",
            content_type="application/json",
        )
        start = await call.sent.get()
        assert start["status"] == 200
        assert b"content-encoding" not in dict(start["headers"])
        await call.task

    run(story)
