"""`GET /v1/values/{key}`: forms and Accept; `test_validators` has its ETag."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest

from amber_ray.core.model.service import StoredValue
from amber_ray.core.values.annotations import Jpeg, parse
from amber_ray.serving import encodings
from amber_ray.wire.views import ARROW_TYPE, NPY_TYPE
from tests.http_app import client, run
from tests.memory_service import MemoryService

KEY = "0123456789abcdef" * 2
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)


def holding(annotation, value) -> MemoryService:
    service = MemoryService()
    service.kept[KEY] = StoredValue(KEY, "thing", "7", parse(annotation), value)
    return service


def read(service: MemoryService, path: str = f"/v1/values/{KEY}", method: str = "GET", **headers: str):
    async def once():
        async with client(service) as http:
            http.headers.pop("accept")
            return await http.request(
                method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
            )

    return run(once)


@pytest.mark.parametrize(
    ("annotation", "value", "accept", "expected"),
    [
        (float, 0.5, "", "application/json"),
        (float, 0.5, "*/*", "application/json"),
        (float, 0.5, NPY_TYPE, NPY_TYPE),
        (str, "h264", "application/*", "application/json"),
        (np.ndarray, ARRAY, "*/*", "application/json"),
        (np.ndarray, ARRAY, NPY_TYPE, NPY_TYPE),
        (np.ndarray, ARRAY, ARROW_TYPE, ARROW_TYPE),
        (np.ndarray, ARRAY, f"application/json;q=0.5, {NPY_TYPE}", NPY_TYPE),
        (np.ndarray, ARRAY, f"{NPY_TYPE};q=0, */*", "application/json"),
        (Jpeg, b"\xff\xd8", "*/*", "image/jpeg"),
        (Jpeg, b"\xff\xd8", "image/*, */*;q=0.1", "image/jpeg"),
        (Jpeg, b"\xff\xd8", "text/html, application/json;q=0.9", "application/json"),
    ],
)
def test_the_form_follows_accept(annotation, value, accept, expected):
    answer = read(holding(annotation, value), Accept=accept)
    assert (answer.status_code, answer.headers["content-type"]) == (200, expected)
    assert (answer.headers["Amber-Feature"], answer.headers["Amber-Version"]) == ("thing", "7")


def test_json_holds_the_value():
    assert read(holding(np.ndarray, ARRAY)).json() == ARRAY.tolist()
    assert json.loads(read(holding(float, float("inf"))).content) == "Infinity"


def test_npy_holds_the_array_bit_for_bit():
    odd = np.array([[np.nan, -0.0], [np.inf, 1e-45]], dtype=np.float32)
    back = np.load(io.BytesIO(read(holding(np.ndarray, odd), Accept=NPY_TYPE).content), allow_pickle=False)
    assert back.dtype == odd.dtype
    assert back.tobytes() == odd.tobytes()


def test_arrow_is_a_stream_that_rebuilds_the_value():
    from amber_ray.store.types import from_arrow_table

    answer = read(holding(np.ndarray, ARRAY), Accept=ARROW_TYPE)
    table = pa.ipc.open_stream(answer.content).read_all()
    assert np.array_equal(from_arrow_table(table), ARRAY)


def test_an_image_is_its_own_bytes_and_may_not_run_as_a_page():
    answer = read(holding(Jpeg, b"\xff\xd8jpeg"))
    assert answer.content == b"\xff\xd8jpeg"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("accept", ["image/png", "text/html", "application/json;q=0", f"{NPY_TYPE}"])
def test_a_form_that_cannot_be_had_is_406_and_says_which_can(accept):
    answer = read(holding(str, "h264"), Accept=accept)
    assert (answer.status_code, answer.json()["error"]) == (406, "NotAcceptable")
    assert "application/json, application/vnd.apache.arrow.stream" in answer.json()["detail"]


def test_head_has_the_headers_alone():
    answer = read(holding(Jpeg, b"12345"), method="HEAD")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "5")


@pytest.mark.parametrize("key", [KEY.upper(), KEY[:-1], KEY + "0", "%00" * 32, KEY + "%0a"])
def test_what_is_no_key_is_refused_before_the_service_is_asked(key):
    service = holding(float, 0.5)
    answer = read(service, path=f"/v1/values/{key}")
    assert answer.status_code == 400
    assert service.asked == []


def test_large_values_are_encoded_off_the_loop(monkeypatch):
    import threading

    where = []
    inner = encodings.encode_now
    monkeypatch.setattr(
        encodings, "encode_now", lambda *a: (where.append(threading.current_thread()), inner(*a))[1]
    )
    large = np.zeros(encodings.IN_LOOP // 4 + 1, dtype=np.float32)
    assert read(holding(np.ndarray, large), Accept=NPY_TYPE).status_code == 200
    assert read(holding(np.ndarray, ARRAY), Accept=NPY_TYPE).status_code == 200
    assert [thread is threading.main_thread() for thread in where] == [False, True]
