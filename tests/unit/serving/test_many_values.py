"""`POST /v1/values`: a row for each key, read with what others read Arrow with, and streamed."""

from __future__ import annotations

import asyncio
import dataclasses
import io
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import duckdb
import httpx
import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest

from amber_ray.core.model.request import Failure
from amber_ray.core.model.service import Answered, StoredValue
from amber_ray.core.values.annotations import Jpeg, Json, parse
from amber_ray.errors import Unavailable
from amber_ray.serving.app import create_app
from amber_ray.settings import Limits, Settings
from amber_ray.wire.views import ARROW_TYPE
from tests.http_app import Connection, client, encoded, run
from tests.memory_service import BATCH, MemoryService, digest


@dataclasses.dataclass
class Box:
    x: int
    words: list[str]


def key(number: int) -> str:
    return digest(f"key {number}")


def holding(annotation: Any, values: Sequence[Any], service: MemoryService | None = None) -> MemoryService:
    service = service or MemoryService()
    for value in values:
        at = key(len(service.kept))
        service.kept[at] = StoredValue(at, "thing", "7", parse(annotation), value, 1_700_000_000.25)
    return service


def ask(
    service: MemoryService, keys: Sequence[Any], settings: Settings | None = None, **headers: str
) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(service, settings) as http:
            return await http.post("/v1/values", json={"keys": keys}, headers=headers)

    return run(once)


def table(answer: httpx.Response) -> pa.Table:
    assert (answer.status_code, answer.headers["content-type"]) == (200, ARROW_TYPE)
    with pa.ipc.open_stream(answer.content) as reader:
        return reader.read_all()


@pytest.mark.parametrize(
    ("annotation", "values", "column"),
    [
        (float, [0.5, float("nan"), -1.0], pa.float64()),
        (int, [2**62, -1], pa.int64()),
        (str, ["a", ""], pa.large_utf8()),
        (Jpeg, [b"\xff\xd8", b""], pa.large_binary()),
        (float | None, [0.5, None], pa.float64()),
        (Box, [Box(1, ["a", "b"]), Box(2, [])], None),
        (list[Box], [[Box(1, [])], []], None),
        (np.ndarray, [np.eye(2), np.arange(3, dtype=np.uint8)], None),
        (dict[str, Any], [{"a": [1, None]}, {}], pa.large_utf8()),
    ],
)
def test_a_column_is_typed_and_everybody_reads_it(annotation: Any, values: list[Any], column: Any) -> None:
    service = holding(annotation, values)
    keys = [*service.kept, "f" * 32]
    answer = ask(service, keys)
    found = table(answer)
    if column is not None:
        assert found.schema.field("value").type == column
    assert found["key"].to_pylist() == keys
    assert found["status"].to_pylist() == [200] * len(values) + [404]
    assert found["made"].to_pylist()[-2:] == [pandas.Timestamp(1_700_000_000.25, unit="s"), None]
    assert found["value"].to_pylist()[-1] is None
    frame = found.to_pandas()
    assert frame["error"].isna().tolist() == [True] * len(values) + [False]
    assert len(polars.read_ipc_stream(io.BytesIO(answer.content))) == len(keys)
    assert duckdb.sql("select count(*) from found where error is null").fetchall() == [(len(values),)]


def test_each_key_without_a_value_has_a_row_that_says_why() -> None:
    service = holding(float, [0.25])
    failed = key(100)
    service.failed[failed] = Failure("input", "MediaError", "it is torn", "frames", failed, "", 422)
    found = table(ask(service, ["f" * 32, failed, key(0), failed]))
    assert found["key"].to_pylist() == ["f" * 32, failed, key(0)]
    assert found["feature"].to_pylist() == [None, "frames", "thing"]
    assert found["version"].to_pylist() == [None, None, "7"]
    assert found["status"].to_pylist() == [404, 422, 200]
    assert found["error"].to_pylist() == ["UnknownKey", "MediaError", None]
    assert found["message"].to_pylist()[1:] == ["it is torn", None]
    assert found["value"].to_pylist() == [None, None, 0.25]
    nothing = table(ask(service, [failed]))
    assert nothing.schema.field("value").type == pa.null()
    assert nothing["error"].to_pylist() == ["MediaError"]


def test_a_value_of_another_type_is_told_apart() -> None:
    service = holding(str, ["word"], holding(float, [0.25] * (BATCH + 1)))
    found = table(ask(service, [*service.kept]))
    assert found["value"].to_pylist() == [0.25] * (BATCH + 1) + [None]
    row = found.to_pylist()[-1]
    assert (row["error"], row["status"], row["feature"]) == ("AnotherType", 422, "thing")
    assert row["message"].endswith("ask for it in a question of its own")


def streams(answer: httpx.Response) -> list[pa.Table]:
    source = io.BytesIO(answer.content)
    found = []
    while source.tell() < len(answer.content):
        with pa.ipc.open_stream(source) as reader:
            found.append(reader.read_all())
    return found


def test_values_of_several_types_come_one_stream_after_the_other() -> None:
    service = MemoryService()
    for value in [0.5, "a", 0.25, 1, *[2.5] * BATCH, "b"]:
        holding(type(value), [value], service)
    service.failed[key(100)] = Failure("input", "MediaError", "it is torn", "frames", key(100), "", 422)
    keys = [key(100), *service.kept, "f" * 32]

    async def once(mixed: object) -> httpx.Response:
        async with client(service) as http:
            return await http.post("/v1/values", json={"keys": keys, "mixed": mixed})

    answer = run(lambda: once(True))
    tables = streams(answer)
    rows = [row for some in tables for row in some.to_pylist()]
    assert sorted(row["key"] for row in rows) == sorted(keys)
    values = {row["key"]: row["value"] for row in rows if row["status"] == 200}
    assert values == {stored.key: stored.value for stored in service.kept.values()}
    assert {row["error"] for row in rows if row["status"] != 200} == {"MediaError", "UnknownKey"}
    assert [some.schema.field("value").type for some in tables] == [
        pa.float64(),
        pa.large_utf8(),
        pa.int64(),
        pa.float64(),
        pa.large_utf8(),
    ]
    assert run(lambda: once(1)).json()["detail"] == "mixed must be true or false, not 1"
    [alone] = streams(ask(holding(float, [0.5] * 20), [key(n) for n in range(20)]))
    assert alone.num_rows == 20


def test_keys_without_values_are_one_stream_also_where_types_are_mixed() -> None:
    async def once() -> httpx.Response:
        async with client(MemoryService()) as http:
            return await http.post("/v1/values", json={"keys": ["f" * 32, "e" * 32], "mixed": True})

    [found] = streams(run(once))
    assert found["error"].to_pylist() == ["UnknownKey"] * 2


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, 'the body must be {"keys": [...]} with at least one key, not null'),
        ({"keys": []}, 400, "with at least one key"),
        ({"keys": "a" * 32}, 400, "with at least one key"),
        ({"keys": ["a" * 32, "A" * 32]}, 400, "keys[1] must be 32 lower-case hex digits"),
        ({"keys": [7]}, 400, "keys[0] must be 32 lower-case hex digits"),
        ({"keys": ["a" * 32], "feature": "x"}, 400, "feature"),
        ({"keys": ["a" * 32] * 4}, 413, "keys has 4 keys; at most 3 are taken"),
    ],
)
def test_a_wrong_question_is_refused(body: Any, status: int, words: str) -> None:
    async def once() -> httpx.Response:
        async with client(None, Settings(limits=Limits(values_per_request=3))) as http:
            return await http.post("/v1/values", json=body)

    answer = run(once)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


@pytest.mark.parametrize("accept", ["application/json", "*/*", "", "image/png;q=0", ARROW_TYPE])
def test_it_is_arrow_whatever_is_accepted(accept: str) -> None:
    assert table(ask(holding(float, [0.5]), [key(0)], Accept=accept))["value"].to_pylist() == [0.5]


def test_an_answer_has_bounded_bytes_and_says_what_is_left() -> None:
    service = holding(bytes, [b"x" * 1000] * (2 * BATCH + 1))
    found = table(ask(service, [*service.kept], Settings(limits=Limits(values_bytes=BATCH * 1000))))
    assert found["error"].to_pylist() == [None] * BATCH + ["TooLarge"] * (BATCH + 1)
    assert found["status"].to_pylist()[-1] == 413
    assert "ask for this key in another one" in found["message"].to_pylist()[-1]


class Paced(MemoryService):
    """Tells a batch whenever the test says `next`; `ended` is set once its reader has left."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.next = asyncio.Semaphore(0)
        self.read = 0
        self.ended = asyncio.Event()
        self.breaks: Exception | None = None

    async def values(self, keys: Sequence[str]) -> AsyncGenerator[Sequence[Answered], None]:
        try:
            async for batch in super().values(keys):
                await self.next.acquire()
                if self.breaks is not None:
                    raise self.breaks
                self.read += 1
                yield batch
        finally:
            self.ended.set()


def paced(count: int) -> tuple[Paced, Connection]:
    service = Paced()
    holding(float, [0.5] * count, service)
    body = encoded({"keys": [*service.kept]})
    app = create_app(service, Settings())
    return service, Connection(app, "POST", "/v1/values", body, content_type="application/json")


def test_rows_are_sent_as_they_are_read() -> None:
    async def story() -> None:
        service, call = paced(2 * BATCH)
        service.next.release()
        assert await call.status() == 200
        sent = await call.chunk()
        assert service.read == 1
        with pa.ipc.open_stream(sent) as reader:
            assert len(reader.read_next_batch()) == BATCH
        service.next.release()
        rest = [await call.chunk()]
        while not call.task.done() or not call.sent.empty():
            rest.append(await call.chunk())
        with pa.ipc.open_stream(sent + b"".join(rest)) as reader:
            assert reader.read_all().num_rows == 2 * BATCH
        assert service.ended.is_set()

    run(story)


def test_a_reader_that_leaves_ends_the_reading() -> None:
    async def story() -> None:
        service, call = paced(2 * BATCH)
        service.next.release()
        assert await call.status() == 200
        await call.chunk()
        call.hang_up()
        await service.ended.wait()
        await call.task

    run(story)


def test_a_caller_that_leaves_before_the_first_value_ends_the_reading() -> None:
    async def story() -> None:
        service, call = paced(BATCH)
        call.hang_up()
        await service.ended.wait()
        await call.task

    run(story)


def test_what_fails_on_the_way_is_told_in_the_rows_that_are_left() -> None:
    async def story() -> bytes:
        service, call = paced(2 * BATCH)
        service.next.release()
        assert await call.status() == 200
        sent = [await call.chunk()]
        service.breaks = Unavailable("shard 1 did not come back")
        service.next.release()
        await call.task
        while not call.sent.empty():
            sent.append(await call.chunk())
        return b"".join(sent)

    with pa.ipc.open_stream(run(story)) as reader:
        found = reader.read_all()
    assert found["status"].to_pylist() == [200] * BATCH + [503] * BATCH
    assert found["message"].to_pylist()[-1] == "shard 1 did not come back"


def test_json_values_are_their_text() -> None:
    service = MemoryService()
    service.kept[key(0)] = StoredValue(key(0), "thing", "7", Json(), [1, {"a": None}])
    assert table(ask(service, [key(0)]))["value"].to_pylist() == ['[1, {"a": null}]']
