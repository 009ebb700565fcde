"""A value's validators: one for each representation of each making (RFC 9110 8.8), and what they do."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from amber_ray.client.http import HttpService
from amber_ray.core.model.service import StoredValue
from amber_ray.core.values.annotations import Jpeg, of_value, parse
from amber_ray.serving.app import create_app
from amber_ray.serving.encodings import offers
from amber_ray.settings import Settings
from amber_ray.wire.views import ARROW_TYPE, NPY_TYPE
from tests.http_app import client, compute_body, run
from tests.memory_service import Made, MemoryService, digest

KEY = "0123456789abcdef" * 2
MADE = 1_767_225_600.25


@dataclass
class Point:
    x: float
    at: list[int]


KINDS: dict[str, tuple[Any, Any]] = {
    "float": (float, 0.5),
    "text": (str, "h264"),
    "array": (np.ndarray, np.arange(6, dtype=np.float32).reshape(2, 3)),
    "picture": (Jpeg, b"\xff\xd8jpeg"),
    "no picture": (Jpeg | None, None),
    "structure": (list[Point], [Point(1.5, [1, 2])]),
    "table": (pa.Table, pa.table({"a": [1, 2]})),
}


def stored(kind: str, made: float = MADE) -> StoredValue:
    annotation, value = KINDS[kind]
    return StoredValue(KEY, kind.replace(" ", "_"), "7", parse(annotation), value, made)


def holding(value: StoredValue) -> MemoryService:
    service = MemoryService()
    service.kept[KEY] = value
    return service


def read(value: StoredValue, accept: str, method: str = "GET", **headers: str | list[str]) -> httpx.Response:
    lines = [("Accept", accept)]
    for name, given in headers.items():
        each = [given] if isinstance(given, str) else given
        lines += [(name.replace("_", "-"), line) for line in each]

    async def once() -> httpx.Response:
        async with client(holding(value)) as http:
            http.headers.pop("accept")
            return await http.request(method, f"/v1/values/{KEY}", headers=lines)

    return run(once)


def tag_of(value: StoredValue, media_type: str) -> str:
    return str(read(value, media_type).headers["ETag"])


FORMS = [(kind, form) for kind in KINDS for form in offers(stored(kind))]
PAIRS = [(kind, a, b) for kind in KINDS for a, b in itertools.product(offers(stored(kind)), repeat=2)]


@pytest.mark.parametrize("made", [MADE, 0.0], ids=["made then", "made once"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("kind", "known", "asked"), PAIRS)
def test_a_copy_is_good_for_its_own_representation_only(
    kind: str, known: str, asked: str, method: str, made: float
) -> None:
    tag = tag_of(stored(kind, made), known)
    answer = read(stored(kind, made), asked, method, If_None_Match=tag)
    if known == asked:
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
        assert "content-type" not in answer.headers
    else:
        assert (answer.status_code, answer.headers["content-type"]) == (200, asked)
        assert answer.headers["ETag"] != tag
    assert (answer.headers["Cache-Control"], answer.headers["Vary"]) == (
        "no-cache",
        "Accept, Accept-Encoding",
    )


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_a_value_made_anew_has_another_validator(kind: str, form: str) -> None:
    then, now = stored(kind), stored(kind, MADE + 1e-6)
    assert tag_of(then, form) != tag_of(now, form)
    assert read(now, form, If_None_Match=tag_of(then, form)).status_code == 200


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_of_a_value_made_nobody_knows_when_the_content_tells(kind: str, form: str) -> None:
    one = stored(kind, made=0.0)
    others: dict[str, Any] = {
        "float": 0.25,
        "text": "h265",
        "array": np.zeros((2, 3), np.float32),
        "picture": b"\xff\xd8jpeG",
        "no picture": b"\xff\xd8jpeg",
        "structure": [],
        "table": pa.table({"a": [1, 3]}),
    }
    assert tag_of(one, form) == tag_of(one, form)
    assert tag_of(one, form) != tag_of(replace(one, value=others[kind]), form)


def test_a_value_whose_type_is_only_read_off_it_has_another_validator() -> None:
    """What a feature declares may say more than its value does; the bytes of the Arrow stream then differ."""
    declared = stored("array")
    found = replace(declared, type=of_value(declared.value))
    for form in (ARROW_TYPE, "application/json"):
        assert tag_of(declared, form) != tag_of(found, form)


@pytest.mark.parametrize("form", [NPY_TYPE, ARROW_TYPE, "application/json"])
def test_equal_validators_are_equal_bytes_however_an_array_lies_in_memory(form: str) -> None:
    by_row = stored("array")
    by_column = replace(by_row, value=np.asfortranarray(by_row.value))
    strided = replace(by_row, value=np.repeat(by_row.value, 2, axis=1)[:, ::2])
    answers = [read(value, form) for value in (by_row, by_column, strided)]
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1


TAG = "a tag"
NONE_MATCH: list[tuple[str | list[str], bool]] = [
    ("{tag}", True),
    ("W/{tag}", True),
    ('"x", {tag}', True),
    ('"x",{tag},W/"y"', True),
    ('  ,{tag} , ,"y"', True),
    (['"x"', "{tag}"], True),
    ("*", True),
    (" * ", True),
    ('"x"', False),
    ('"x,{bare}"', False),
    ("{bare}", False),
    ("w/{tag}", False),
    ('"{bare}', False),
    ("{tag} {tag}", False),
    ('*, "x"', False),
    ("", False),
]


def filled(header: str | list[str], tag: str) -> str | list[str]:
    if isinstance(header, list):
        return [line.format(tag=tag, bare=tag.strip('"')) for line in header]
    return header.format(tag=tag, bare=tag.strip('"'))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("header", "same"), NONE_MATCH)
def test_if_none_match_compares_weakly(header: str | list[str], same: bool, method: str) -> None:
    value = stored("float")
    answer = read(value, "*/*", method, If_None_Match=filled(header, tag_of(value, "*/*")))
    assert answer.status_code == (304 if same else 200)


@pytest.mark.parametrize(("header", "same"), NONE_MATCH)
def test_if_match_compares_strongly(header: str | list[str], same: bool) -> None:
    value = stored("float")
    answer = read(value, "*/*", If_Match=filled(header, tag_of(value, "*/*")))
    weak = isinstance(header, str) and header.startswith("W/")
    assert answer.status_code == (200 if same and not weak else 412)
    if answer.status_code == 412:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_proxy_that_compresses_makes_the_validator_weak_and_may_still_revalidate() -> None:
    value = stored("text")
    weak = "W/" + read(value, "*/*", Accept_Encoding="identity").headers["ETag"]
    assert read(value, "*/*", Accept_Encoding="identity", If_None_Match=weak).status_code == 304


@pytest.mark.parametrize("header", ["If_None_Match", "If_Match"])
def test_a_precondition_counts_only_where_there_would_be_a_value(header: str) -> None:
    async def once() -> tuple[httpx.Response, httpx.Response]:
        name = {header.replace("_", "-"): "*"}
        async with client(holding(stored("text"))) as http:
            refused = await http.get(f"/v1/values/{KEY}", headers={"Accept": "image/png", **name})
            return refused, await http.get(f"/v1/values/{'f' * 32}", headers=name)

    refused, unknown = run(once)
    assert (refused.status_code, refused.headers["Vary"]) == (406, "Accept")
    assert unknown.status_code == 404


@pytest.mark.parametrize("made", [MADE, 1_767_225_600.123456, 0.0])
def test_the_python_client_is_told_when_a_value_was_made(made: float) -> None:
    async def story() -> None:
        app = create_app(holding(stored("float", made)), Settings())
        http = HttpService("http://127.0.0.1:8000", transport=httpx.ASGITransport(app))
        [found] = await http.load([KEY])
        assert found == stored("float", made)

    run(story)
    assert ("Amber-Made" in read(stored("float", made), "*/*").headers) == bool(made)


def test_a_cache_that_asks_again_after_a_refresh_gets_the_new_value() -> None:
    service = MemoryService()
    values = iter(["first", "second"])
    service.made["name"] = Made(parse(str), lambda unit: next(values), inline=False)

    async def story() -> None:
        async with client(service) as http:
            first = (await http.post("/v1/compute", json=compute_body("name"))).json()["results"][0]
            had = await http.get(first["href"])
            assert (had.json(), "no-cache" in had.headers["Cache-Control"]) == ("first", True)
            asked = {"If-None-Match": had.headers["ETag"]}
            assert (await http.get(first["href"], headers=asked)).status_code == 304
            body = compute_body("name", refresh=True)
            again = (await http.post("/v1/compute", json=body)).json()["results"][0]
            assert (again["href"], again["cached"]) == (first["href"], False)
            now = await http.get(first["href"], headers=asked)
            assert (now.status_code, now.json()) == (200, "second")
            assert now.headers["ETag"] != had.headers["ETag"]

    run(story)
    assert digest("name" + digest("/m/a.mp4")) in service.kept
