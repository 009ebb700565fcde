"""Every refusal of a body: its status, and one sentence that names the field."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from amber_ray.core.model.callback import Callback
from amber_ray.core.model.request import AssetRef
from amber_ray.errors import BadParameter, BadRequest, TooLarge
from amber_ray.serving.app import create_app
from amber_ray.settings import Limits, Settings
from amber_ray.wire.compute import decode_request, encode_request
from amber_ray.wire.json import depth_within, loads
from tests.http_app import Connection, client, run
from tests.memory_service import MemoryService

GOOD = {"features": ["probe"], "assets": [{"uri": "/m/a.mp4"}]}
LIMITS = Limits(body_bytes=2000, body_depth=8, assets_per_request=3)


def post(content: bytes, **headers: str):
    service = MemoryService()

    async def once():
        async with client(service, Settings(limits=LIMITS)) as http:
            return await http.post(
                "/v1/compute", content=content, headers={"Content-Type": "application/json", **headers}
            )

    answer = run(once)
    answer.asked = service.asked
    return answer


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the body is empty"),
        (b"  \n", 400, "the body is empty"),
        (
            b"{",
            400,
            "the body is not JSON: Expecting property name enclosed in double quotes at line 1 column 2",
        ),
        (b"features: [shots]", 400, "the body is not JSON"),
        (b"{} {}", 400, "the body is not JSON: Extra data"),
        (b"\xff\xfe{}", 400, "the body must be UTF-8; byte 0 is not"),
        (b"\xef\xbb\xbf{}", 400, "the body is not JSON"),
        (b'"text"', 400, "the body must be a JSON object, not 'text'"),
        (b"[]", 400, "the body must be a JSON object, not an array"),
        (b"null", 400, "the body must be a JSON object, not null"),
        (b'{"a": 1, "a": 2}', 400, "the body has the key 'a' twice in one object"),
        (b'{"range": [NaN, 1]}', 400, "NaN is not JSON"),
        (b'{"range": [0, Infinity]}', 400, "Infinity is not JSON"),
        (b'{"range": [0, 1e999]}', 400, "the number 1e999 is too large"),
        (b'{"range": [0, ' + b"9" * 1000 + b"]}", 400, "does not fit in 64 bits"),
        (b'{"range": [0, 18446744073709551616]}', 400, "does not fit in 64 bits"),
        (b"[" * 100 + b"]" * 100, 413, "nests deeper than 8 levels"),
        (b'{"a":' * 100, 413, "nests deeper than 8 levels"),
        (b'{"features": ["' + b"x" * 3000 + b'"]}', 413, "at most 2,000 are taken"),
    ],
)
def test_what_is_no_good_json_is_refused_with_a_reason(body, status, said):
    answer = post(body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json()["detail"]
    assert answer.asked == []


def test_a_body_without_a_length_is_cut_off_at_the_bound():
    produced = []

    async def endless():
        for _ in range(1_000):
            produced.append(1)
            yield b" " * 1000

    answer = post(endless())
    assert (answer.status_code, answer.json()["error"]) == (413, "TooLarge")
    assert len(produced) <= 4


def test_a_body_that_comes_in_one_piece_past_the_bound_is_refused():
    async def once():
        app = create_app(MemoryService(), Settings(limits=LIMITS))
        call = Connection(app, "POST", "/v1/compute", b" " * 2001, content_type="application/json")
        assert await call.status() == 413
        await call.task

    run(once)


def test_an_announced_length_past_the_bound_is_refused_before_a_byte_is_read():
    async def unread():
        raise AssertionError("the body was read")
        yield b""

    assert post(unread(), **{"Content-Length": "5000"}).status_code == 413


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"feature": ["probe"]}, BadRequest, "unknown field 'feature'; did you mean 'features'?"),
        ({"zzz": 1}, BadRequest, "unknown field 'zzz'; the fields are features, assets, params"),
        ({"features": None}, BadRequest, "features must be a list of names"),
        ({"features": []}, BadRequest, "not an empty list"),
        (
            {"features": "probe"},
            BadRequest,
            "features must be a list of names such as [\"shots\"], not 'probe'",
        ),
        ({"features": [1]}, BadRequest, "features[0] must be a text, not 1"),
        ({"features": [""]}, BadRequest, "features[0] must not be empty"),
        ({"features": ["x" * 300]}, BadRequest, "features[0] has 300 characters; at most 256"),
        ({"features": ["a\0b"]}, BadRequest, "features[0] has a character"),
        ({"features": ["\ud800"]}, BadRequest, "features[0] has a character"),
        ({"features": ["f"] * 1001}, TooLarge, "features has 1,001 names"),
        ({"assets": []}, BadRequest, "assets must be a list such as"),
        (
            {"assets": ["/m/a.mp4"]},
            BadRequest,
            'assets[0] must be an object such as {"uri": "/m/a.mp4"}, not \'/m/a.mp4\'',
        ),
        ({"assets": [{}]}, BadRequest, 'assets[0] must have exactly one of "uri" and "id"'),
        ({"assets": [{"uri": "/a", "id": "a" * 32}]}, BadRequest, "exactly one"),
        (
            {"assets": [{"url": "/a"}]},
            BadRequest,
            "assets[0] has an unknown field 'url'; did you mean 'uri'?",
        ),
        ({"assets": [{"uri": 7}]}, BadRequest, "assets[0].uri must be a text, not 7"),
        ({"assets": [{"uri": "a\0"}]}, BadRequest, "assets[0].uri has a character"),
        ({"assets": [{"uri": "x" * 5000}]}, BadRequest, "assets[0].uri has 5,000 characters"),
        ({"assets": [{"id": "A" * 32}]}, BadRequest, "assets[0].id must be 32 lower-case hex digits"),
        ({"assets": [{"id": "a" * 32 + "\n"}]}, BadRequest, "assets[0].id must be"),
        ({"assets": [{"uri": "/a"}] * 4}, TooLarge, "assets has 4 entries; at most 3 are taken"),
        ({"params": []}, BadRequest, "params must be an object such as"),
        (
            {"params": {"a.b": [1]}},
            BadParameter,
            "params['a.b'] must be a number, a text, true, false or null, not an array",
        ),
        ({"params": {"": 1}}, BadRequest, "a name in params must not be empty"),
        ({"range": [1]}, BadRequest, "range must be [A, B) in seconds"),
        ({"range": "1:2"}, BadRequest, "range must be [A, B) in seconds, such as [10, 20], not '1:2'"),
        ({"range": [True, 2]}, BadRequest, "range must be"),
        ({"range": [2, 2]}, BadRequest, "0 <= A < B"),
        ({"range": [-1, 2]}, BadRequest, "0 <= A < B"),
        (
            {"priority": "urgent"},
            BadRequest,
            "priority must be one of interactive, ingest, backfill, not 'urgent'",
        ),
        ({"priority": 2}, BadRequest, "priority must be one of"),
        ({"tenant": "a/b"}, BadRequest, "tenant must be"),
        ({"tenant": ""}, BadRequest, "tenant must be"),
        ({"refresh": 1}, BadRequest, "refresh must be true or false, not 1"),
        ({"deadline": 0}, BadRequest, "deadline must be seconds above 0"),
        ({"deadline": "1"}, BadRequest, "deadline must be seconds above 0 and at most"),
        ({"deadline": 1e12}, BadRequest, "deadline must be"),
    ],
)
def test_each_field_is_refused_by_name(change, kind, said):
    with pytest.raises(kind) as refused:
        decode_request({**GOOD, **change}, LIMITS)
    assert said in str(refused.value)


def test_optional_fields_may_be_null():
    names = ("params", "range", "priority", "tenant", "refresh", "deadline")
    assert decode_request({**GOOD, **dict.fromkeys(names)}) == decode_request(GOOD)


def test_a_feature_named_twice_is_asked_once():
    assert decode_request({**GOOD, "features": ["a", "b", "a"]}).features == ("a", "b")


def test_names_in_any_script_are_taken():
    data = {**GOOD, "assets": [{"uri": "/m/Прогулка 🎬.mp4"}]}
    assert decode_request(loads(json.dumps(data).encode())).assets == (AssetRef(uri="/m/Прогулка 🎬.mp4"),)


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "https://example.com", "file:///etc/passwd", "http://localhost"]
)
def test_a_callback_to_where_none_may_go_is_refused(url):
    answer = post(json.dumps({**GOOD, "callback": {"url": url}}).encode())
    assert answer.status_code == 400
    assert "callback" in answer.json()["detail"]
    assert {asked[0] for asked in answer.asked} <= {"compute"}  # which has refused it


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        ("https://hooks.example/", "callback must be an object such as"),
        ({}, "callback.url must be a text"),
        ({"url": 1}, "callback.url must be a text, not 1"),
        ({"url": "https://a.example/" + "a" * 1800, "on": ["x" * 50]}, "callback.on must be a list"),
        ({"url": "https://a.example/", "at": 1}, "callback has an unknown field 'at'"),
        ({"url": "https://a.example/", "on": []}, "callback.on must be a list of done, failed, result"),
        ({"url": "https://a.example/", "on": "done"}, "callback.on must be a list of done, failed, result"),
        ({"url": "https://a.example/", "on": ["done", 1]}, "callback.on must be a list"),
        ({"url": "https://a.example/", "on": ["ended"]}, "callback.on must be a list"),
    ],
)
def test_what_is_no_callback_is_refused_by_name(callback, said):
    answer = post(json.dumps({**GOOD, "callback": callback}).encode())
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert answer.asked == []


def test_a_callback_is_read_as_it_was_written():
    for callback in (
        Callback("https://a.example/"),
        Callback("https://a.example/", ("result",)),
        Callback("https://a.example/", ("done", "failed", "result")),
    ):
        request = replace(decode_request(GOOD), callback=callback)
        assert decode_request(loads(json.dumps(encode_request(request)).encode())) == request
    twice = {"url": "https://a.example/", "on": ["failed", "done", "failed"]}
    assert decode_request({**GOOD, "callback": twice}).callback == Callback("https://a.example/")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "uri must be a text, not null"),
        (b'{"uri": 1}', "uri must be a text, not 1"),
        (b'{"url": "x"}', "did you mean 'uri'?"),
        (b'{"uri": "x", "id": "y"}', "unknown field 'id'"),
    ],
)
def test_the_body_of_an_asset(body, said):
    async def once():
        async with client() as http:
            return await http.post("/v1/assets", content=body, headers={"Content-Type": "application/json"})

    answer = run(once)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "deepest"),
    [
        (b"{}", 1),
        (b"[[],[],[[]]]", 3),
        (b'{"a": "[[[[["}', 1),
        (b'["\\"[[[", [1]]', 2),
        (b'"[[[', 0),
        (b"]]]][[", 2),
    ],
)
def test_depth(body, deepest):
    assert depth_within(body, deepest)
    if deepest:
        assert not depth_within(body + b"[" * 50, deepest)


def test_a_string_that_never_ends_is_scanned_once():
    body = b"[" * 40 + b'"' + b'\\"' * 500_000
    assert not depth_within(body, 32)
    assert depth_within(b"[[" + b'"' + b'\\"' * 500_000 + b"[" * 40, 32)
