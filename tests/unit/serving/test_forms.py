"""Uploads by form (`multipart/form-data`): one file, under the bounds of any upload, whole or not kept."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amber_ray.serving.app import create_app
from amber_ray.settings import Limits, Settings
from tests.http_app import Connection, client, run
from tests.memory_service import MemoryService

TYPE = 'multipart/form-data; boundary="edge"'
FILE = 'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4'


def part(head: str = FILE, content: bytes = b"bytes of a film") -> bytes:
    return b"--edge\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


def post(
    content: bytes | AsyncIterator[bytes], kind: str = TYPE, limits: Limits | None = None, **headers: str
) -> tuple[httpx.Response, list[tuple[bytes, str | None]]]:
    """The answer to an upload, and what the service kept."""
    service = MemoryService()

    async def once() -> httpx.Response:
        async with client(service, Settings(limits=limits or Limits())) as http:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await http.post("/v1/assets", content=content, headers={"Content-Type": kind, **named})

    return run(once), service.uploads


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (FILE, "video/mp4"),
        (
            'content-disposition: form-data; name=file; filename="ä b.wav"\r\ncontent-type: Audio/WAV',
            "audio/wav",
        ),
        ('Content-Disposition: form-data; name="file"', None),
        (FILE.replace("video/mp4", "application/octet-stream"), None),
        (FILE.replace("video/mp4", "text/plain; charset=utf-8"), None),
        (FILE + "\r\nContent-Transfer-Encoding: binary", "video/mp4"),
    ],
)
def test_a_file_of_a_form_is_an_upload(head: str, told: str | None) -> None:
    answer, kept = post(form(part(head)))
    assert answer.status_code == 201
    assert kept == [(b"bytes of a film", told)]


def test_what_stands_before_and_after_the_form_is_not_the_file() -> None:
    answer, kept = post(b"\r\n" + form(part()) + b"and more")
    assert (answer.status_code, kept) == (201, [(b"bytes of a film", "video/mp4")])


def test_httpx_and_generated_clients_send_what_is_taken() -> None:
    service = MemoryService()

    async def once() -> list[int]:
        async with client(service) as http:
            given: list[Any] = [b"1", ("a.mp4", b"2"), (None, b"3", "video/mp4")]
            return [(await http.post("/v1/assets", files={"file": one})).status_code for one in given]

    assert run(once) == [201, 201, 201]
    assert [body for body, _ in service.uploads] == [b"1", b"2", b"3"]


TWO = form(part(), part())
NAMED = 'Content-Disposition: form-data; name="{}"'


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (form(), TYPE, 400, 'the form has no file; send one in the field "file"'),
        (
            form(part(NAMED.format("clip"))),
            TYPE,
            400,
            "the form has a field 'clip'; send one file, in the field",
        ),
        (form(part(), part(NAMED.format("tenant"))), TYPE, 400, "the form has a field 'tenant'"),
        (form(part("Content-Type: video/mp4")), TYPE, 400, "a part of the form has no name"),
        (TWO, TYPE, 400, "the form has several files; send each in a call of its own"),
        (part(), TYPE, 400, "the form ends before its closing boundary"),
        (part()[:-12], TYPE, 400, "the form ends before its closing boundary"),
        (b"", TYPE, 400, "the form ends before its closing boundary"),
        (b"no form at all", TYPE, 400, "the form is malformed"),
        (form(part("bad header")), TYPE, 400, "the form is malformed"),
        (form(part(FILE + "\r\nX: " + "x" * 5000)), TYPE, 400, "the form is malformed"),
        (form(part()), "multipart/form-data", 400, "must name its boundary"),
        (form(part()), f"multipart/form-data; boundary={'x' * 71}", 400, "must name its boundary"),
        (form(part()), TYPE.replace("form-data", "mixed"), 415, "multipart/form-data"),
        (form(part(FILE + "\r\nContent-Transfer-Encoding: base64")), TYPE, 415, "base64"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_kept(content: bytes, kind: str, status: int, words: str) -> None:
    answer, kept = post(content, kind)
    assert (answer.status_code, kept) == (status, [])
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("kind", [TYPE, "video/mp4"])
def test_an_upload_that_is_compressed_is_refused(kind: str) -> None:
    answer, kept = post(form(part()), kind, Content_Encoding="gzip")
    assert (answer.status_code, kept) == (415, [])
    assert "gzip" in answer.json()["detail"]
    assert post(form(part()), kind, Content_Encoding="identity")[0].status_code == 201


@pytest.mark.parametrize(("size", "status"), [(1000, 201), (1001, 413)])
def test_the_bound_is_the_files_own(size: int, status: int) -> None:
    answer, kept = post(form(part(content=b"x" * size)), limits=Limits(upload_bytes=1000))
    assert (answer.status_code, len(kept)) == (status, status == 201)
    if status == 413:
        assert "the upload has more than 1,000 bytes" in answer.json()["detail"]


def test_a_form_that_is_far_too_long_is_refused_before_a_byte_is_read() -> None:
    answer, kept = post(form(part()), limits=Limits(upload_bytes=1000), Content_Length=str(1 << 30))
    assert (answer.status_code, kept) == (413, [])


def test_a_form_without_end_is_cut_off_while_it_streams() -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b"--edge\r\n" + FILE.encode() + b"\r\n\r\n"
        while True:
            sent += 100
            yield b"x" * 100

    answer, kept = post(endless(), limits=Limits(upload_bytes=1000))
    assert (answer.status_code, kept) == (413, [])
    assert sent < 2000


def test_nothing_is_kept_of_a_form_whose_sender_hangs_up() -> None:
    service = MemoryService()

    async def story() -> None:
        app = create_app(service, Settings())
        call = Connection(app, "POST", "/v1/assets", None, content_type=TYPE)
        call.feed(part(), more=True)  # the file is there; the closing boundary is not
        while not service.asked:
            await asyncio.sleep(0)
        call.hang_up()
        await call.task
        assert await call.status() == 499

    run(story)
    assert service.uploads == []


@given(
    content=st.binary(max_size=60)
    | st.lists(st.sampled_from([b"\r\n", b"--edge", b"--", b"-", b"x"])).map(b"".join),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)
def test_a_file_arrives_whole_however_the_form_is_cut(content: bytes, cuts: list[int]) -> None:
    whole = form(part(content=content))
    if b"\r\n--edge" in b"\r\n\r\n" + content + b"\r\n":
        return  # the sender would have chosen another boundary
    at = sorted({0, len(whole), *(cut % len(whole) for cut in cuts)})

    async def pieces() -> AsyncIterator[bytes]:
        for a, b in itertools.pairwise(at):
            yield whole[a:b]

    answer, kept = post(pieces())
    assert (answer.status_code, kept) == (201, [(content, "video/mp4")])


def test_a_page_of_another_site_can_not_post_a_form_here() -> None:
    """A browser sends a form without asking first, and says whose page it is from."""
    for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}, {"Origin": "null"}):
        answer, kept = post(form(part()), **headers)
        assert (answer.status_code, kept) == (403, [])
