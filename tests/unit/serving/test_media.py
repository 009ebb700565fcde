"""An asset's bytes over HTTP: ranges, validators, links without a token, and streams that come to an end."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from amber_ray.core.model.service import MEDIA_BYTES, MediaPiece
from amber_ray.core.model.trust import Scope
from amber_ray.errors import MediaChanged
from amber_ray.serving import media_stream
from amber_ray.serving.app import create_app
from amber_ray.serving.grants import SECONDS
from amber_ray.serving.media_stream import Streams
from amber_ray.serving.ranges import asked_part
from amber_ray.serving.routes.media import disposition
from amber_ray.settings import Settings
from tests.http_app import Connection, client, run
from tests.memory_service import MemoryService
from tests.unit.serving.test_keyring import Watch

TAG = '"5d41402abc4b2a76b9719d911017c592"'
FILM = bytes(range(256)) * (5 * MEDIA_BYTES // 512 + 1)
"""Some more than two pieces."""


# Ranges


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", range(1)),
        ("bytes=2-5", range(2, 6)),
        ("bytes=2-", range(2, 10)),
        ("bytes=-3", range(7, 10)),
        ("bytes=-99", range(10)),
        ("BYTES=9-99", range(9, 10)),
        ("bytes=0-99999999999999999999999999", range(10)),
        ("bytes=10-", range(0)),
        ("bytes=99999999999999999999999-", range(0)),
        ("bytes=-0", range(0)),
        ("bytes=20-30, 4-5,6-7", range(4, 6)),
        ("bytes= 4-5 ,, ", range(4, 6)),
        ("bytes=20-,-0", range(0)),
        *(
            (text, None)
            for text in ("bytes=", "bytes=,", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=1-2;3-4")
        ),
        *((text, None) for text in ("seconds=1-2", "bytes", "", "bytes =1-2", "bytes=1-2,x", "bytes=--1")),
    ],
)
def test_a_range_means_what_the_standard_says(header: str, part: range | None) -> None:
    assert asked_part([(b"range", header.encode())], 10, TAG) == part


def test_a_range_that_hangs_on_another_tag_or_a_date_means_all() -> None:
    ranged = (b"range", b"bytes=1-2")
    assert asked_part([ranged, (b"if-range", TAG.encode())], 10, TAG) == range(1, 3)
    for other in (b'"x"', b"W/" + TAG.encode(), b"Sun, 29 Nov 2026 19:00:00 GMT", b"", TAG.encode() + b", x"):
        assert asked_part([ranged, (b"if-range", other)], 10, TAG) is None
    assert asked_part([ranged, ranged], 10, TAG) is None
    assert asked_part([], 10, TAG) is None


@given(st.one_of(st.binary(max_size=40), st.from_regex(rb"bytes=[0-9 ,\-]{0,30}")), st.integers(1, 50))
@example(b"bytes=" + b"9" * 5000 + b"-", 10)
def test_any_range_is_none_or_within_the_bytes(header: bytes, size: int) -> None:
    part = asked_part([(b"range", header)], size, TAG)
    assert part is None or not part or (part.step == 1 and 0 <= part.start < part.stop <= size)


# The route


async def uploaded(http: httpx.AsyncClient, content: bytes = FILM, **headers: str) -> str:
    answer = await http.post("/v1/assets", content=content, headers={"Content-Type": "video/mp4", **headers})
    return f"/v1/assets/{answer.json()['id']}/media"


def test_all_of_it_and_each_part_are_the_bytes_that_were_sent() -> None:
    async def story() -> None:
        async with client() as http:
            path = await uploaded(http)
            size = len(FILM)
            for asked, start, stop in (
                (None, 0, size),
                ("bytes=0-", 0, size),
                (f"bytes={MEDIA_BYTES - 1}-{MEDIA_BYTES}", MEDIA_BYTES - 1, MEDIA_BYTES + 1),
                (f"bytes=1-{2 * MEDIA_BYTES}", 1, 2 * MEDIA_BYTES + 1),
                ("bytes=-7", size - 7, size),
            ):
                answer = await http.get(path, headers={} if asked is None else {"Range": asked})
                assert answer.content == FILM[start:stop]
                assert answer.status_code == (200 if asked is None else 206)
                told = answer.headers
                assert told.get("Content-Range") == (asked and f"bytes {start}-{stop - 1}/{size}")
                assert int(told["Content-Length"]) == stop - start
                assert told["Accept-Ranges"] == "bytes"
                assert told["Content-Type"] == "video/mp4"
                assert told["X-Content-Type-Options"] == "nosniff"
                assert told["Content-Disposition"].startswith("inline; filename=")
                assert "Last-Modified" not in told
            head = await http.head(path, headers={"Range": "bytes=0-0"})
            assert (head.status_code, head.headers["Content-Length"]) == (200, str(size))
            none = await http.get(path, headers={"Range": f"bytes={size}-"})
            assert (none.status_code, none.headers["Content-Range"]) == (416, f"bytes */{size}")

    run(story)


def test_a_copy_that_is_known_by_its_tag_costs_no_bytes() -> None:
    async def story() -> None:
        async with client() as http:
            path = await uploaded(http)
            tag = (await http.head(path)).headers["ETag"]
            assert tag == f'"{path.split("/")[3]}"'
            same = await http.get(path, headers={"If-None-Match": tag, "Range": "bytes=1-2"})
            assert (same.status_code, same.content) == (304, b"")
            assert (await http.get(path, headers={"If-Match": '"x"'})).status_code == 412
            part = {"Range": "bytes=1-2", "If-Range": tag}
            assert (await http.get(path, headers=part)).content == FILM[1:3]
            assert (await http.get(path, headers={**part, "If-Range": '"x"'})).content == FILM

    run(story)


@pytest.mark.parametrize(
    "name", ['a";x="b.mp4', "a\r\nb.mp4", "ä\u202e/\\é.mp4", "plain name (1).mp4", "%2e%2e"]
)
def test_a_file_name_stays_a_file_name(name: str) -> None:
    told = disposition(name)
    assert told.isascii()
    assert told.isprintable()
    assert told.count('"') == 2
    plain = told.split('"')[1]
    assert not set(plain) & set("/\\\r\n")
    assert httpx.URL("x:?" + told.rpartition("filename*=UTF-8''")[2]).query.isascii()


# Streams


class Changing(MemoryService):
    """Media that is another file as soon as its first piece has been read."""

    async def media(
        self, asset: str, start: int = 0, end: int | None = None, tenant: str | None = None
    ) -> MediaPiece:
        if start:
            raise MediaChanged("'a.mp4' has other content than when it was registered")
        return await super().media(asset, start, end, tenant)


def streaming(service: MemoryService, path: str, **headers: str) -> Connection:
    return Connection(create_app(service, Settings()), "GET", path, **headers)


def test_bytes_that_change_on_the_way_end_the_answer_before_its_end(caplog: pytest.LogCaptureFixture) -> None:
    service = Changing()

    async def story() -> None:
        async with client(service) as http:
            path = await uploaded(http)
        call = streaming(service, path)
        assert await call.status() == 200
        assert await call.chunk() == FILM[:MEDIA_BYTES]
        await call.task
        assert call.sent.empty()

    run(story)
    assert "cut off: 'a.mp4' has other content" in caplog.text


@pytest.mark.parametrize("end", ["takes nothing", "hangs up"])
def test_a_reader_that_takes_nothing_or_hangs_up_leaves_room_for_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    caplog.set_level(logging.INFO, "amber.http")
    if end == "takes nothing":
        monkeypatch.setattr(media_stream, "IDLE_SECONDS", 0.01)
    service, taken, room = MemoryService(), asyncio.Event(), Streams(1)
    monkeypatch.setattr("amber_ray.serving.app_context.Streams", lambda: room)

    async def story() -> None:
        async with client(service) as http:
            path = await uploaded(http)
            app = create_app(service, Settings())

            async def stuck(scope: Any, receive: Any, send: Any) -> None:
                async def nobody_reads(message: Any) -> None:
                    await send(message)
                    if message["type"] == "http.response.body":
                        taken.set()
                        await asyncio.Event().wait()

                await app(scope, receive, nobody_reads)

            call = Connection(stuck, "GET", path)
            await taken.wait()
            if end == "hangs up":
                refused = await http.get(path)
                assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
                call.hang_up()
            await call.task
            assert (await http.get(path)).content == FILM

    run(story)
    assert ("took nothing" in caplog.text) == (end == "takes nothing")


# Links


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path / "store")


def test_a_link_opens_one_assets_media_for_some_minutes_while_its_token_is_good(watch: Watch) -> None:
    mine = watch.new("mine", Scope.READ, Scope.UPLOAD, tenant="mine")
    other = watch.new("other", Scope.READ, Scope.UPLOAD, tenant="other")

    async def story() -> None:
        async with client(keyring=watch.keyring("plain")) as http:

            async def status(path: str, method: str = "GET", **headers: str) -> int:
                return (await http.request(method, path, headers=headers)).status_code

            bearer = {"Authorization": f"Bearer {mine}"}
            path = await uploaded(http, **bearer)
            second = await uploaded(http, b"another", **bearer)
            answer = await http.post(f"{path}/link", headers=bearer)
            link = answer.json()["url"]
            assert answer.json()["seconds"] == SECONDS
            assert mine not in link
            assert link.startswith(path + "?grant=")
            assert (await http.get(link, headers={"Range": "bytes=1-2"})).content == FILM[1:3]
            assert await status(link, "HEAD") == 200
            grant = link.partition("?")[2]
            mark, until, mac = grant.partition("=")[2].split(".")
            later = f"{mark}.{int(until) + 1}.{mac}"
            for wrong in (
                f"{second}?{grant}",
                f"{path}?grant={later}",
                f"{path}?grant={grant[:-1]}",
                f"{path}?grant=",
                f"{path}?{grant}&{grant}",
                f"{path}?grant=%ff%00",
                f"{path.removesuffix('/media')}/values?{grant}",
                f"/v1/stats?{grant}",
                f"/v1/assets?{grant}",
            ):
                assert await status(wrong) == 401, wrong
            assert await status(f"{path}/link?{grant}", "POST") == 401
            # Whoever shows a token is taken for its owner, whatever the address says.
            assert await status(link, Authorization="Bearer wrong") == 401
            assert await status(link, Authorization=f"Bearer {other}") == 404
            assert await status(f"{path}/link", "POST", Authorization=f"Bearer {other}") == 404
            plain = (await http.post(f"{path}/link", headers={"Authorization": "Bearer plain"})).json()["url"]
            watch.book.revoke("mine", 1_700_000_000.0)
            watch.now += 5
            assert await status(link) == 401
            assert await status(plain) == 200
            watch.now += SECONDS - 5
            assert await status(plain) == 401

    run(story)


def test_a_server_without_tokens_gives_the_plain_address() -> None:
    async def story() -> None:
        async with client(root_path="/amber") as http:
            path = await uploaded(http)
            told = (await http.post(f"{path}/link")).json()
            assert told == {"url": f"/amber{path}", "seconds": None}

    run(story)
